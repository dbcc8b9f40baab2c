"""Batch norms folded into the convolutions before them: the same function, sooner.

At rest a batch norm multiplies each channel by a number and adds another. A convolution can do that
with its own weights, up to rounding, and a sweep over every map is spared: on a CPU a fifth of the
time of EfficientNet-Lite2. For networks of our own only: of others people want the layers they
know.
"""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """The network itself, each batch norm right behind a convolution now a part of it.

    What is behind it by the order in which a module names its parts; so for networks whose modules
    run their parts in that order. timm's batch norms leave their activation.

    Args:
        network: in eval mode.
    """
    for module in list(network.modules()):
        for (name, conv), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, after, getattr(norm, "act", nn.Identity()))
    return network
