"""Networks of every kind: which layers ``all`` names, how they are pooled, and what the head is.

Each row of the tables says what a network looks like from outside: its layers in the order in which
they run, by the axes that are pooled. What is read is held against a plain forward pass with hooks
of the test's own, and W z + b against the network's own output. All weights are random, though none
are as they are before training: what starts as nothing, such as a class token of zeros or a
normalisation that does nothing yet, would hide mistakes.

=========== =====================================================
class       tokens, of which the first is the class token
last token  tokens, of which the last is the class token
token       tokens, all of them patches
skip 4      tokens, of which the first four are registers
map         a map with its channels first, (B, C, H, W)
last        a map with its channels last, (B, H, W, C)
row         one number a unit
=========== =====================================================
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nets
import pytest
import timm
import torch
from torch import nn
from torchvision import models

from profiler.models.classifier import Classifier

RULES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "class": lambda x: x[:, 0],
    "token": lambda x: x.mean(1),
    "last token": lambda x: x[:, -1],
    "skip 4": lambda x: x[:, 4:].mean(1),
    "map": lambda x: x.mean((2, 3)),
    "last": lambda x: x.mean((1, 2)),
    "row": lambda x: x.flatten(1),
}


@dataclass(frozen=True)
class Net:
    """A network, the side of its images, its layers by rule, and its head (empty: it has none)."""

    make: Callable[[], nn.Module]
    side: int
    layers: str
    head: str = ""


def of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model: nn.Module = timm.create_model(name, **{"num_classes": 5, **options})
        return model

    return make


def vit(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nets.timm_vit(name, **options)


def of_torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model: nn.Module = models.get_model(name, num_classes=5, **options)
        return model

    return make


def of_transformers(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        transformers = pytest.importorskip("transformers")
        kind = name.removesuffix("WithTeacher")
        config = getattr(transformers, f"{kind}Config")(num_labels=5, **options)
        suffix = name.removeprefix(kind)
        model: nn.Module = getattr(transformers, f"{kind}ForImageClassification{suffix}")(config)
        return model

    return make


VIT = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SWIN = {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
FOUR = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}


# --- networks made by hand -------------------------------------------------------------------


class Blocks(nn.Module):
    """A stem, one block that runs three times, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1))
        self.fc = nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> Any:
        x = self.stem(images)
        for _ in range(3):
            x = self.block(x).tanh()
        return self.given(self.fc(x.mean((2, 3))), x)

    def given(self, logits: torch.Tensor, x: torch.Tensor) -> Any:
        return logits


class Squeezes(Blocks):
    def given(self, logits: torch.Tensor, x: torch.Tensor) -> Any:
        return logits.squeeze()


class SoftmaxLast(Blocks):
    def given(self, logits: torch.Tensor, x: torch.Tensor) -> Any:
        return logits.softmax(1)


@dataclass
class Answer:
    loss: None
    logits: torch.Tensor
    maps: torch.Tensor


class Dataclass(Blocks):
    def given(self, logits: torch.Tensor, x: torch.Tensor) -> Any:
        return Answer(None, logits, x)


class Pair(Blocks):
    def given(self, logits: torch.Tensor, x: torch.Tensor) -> Any:
        return x, logits


class Views(nn.Module):
    """Flattens with ``view``, as many networks do, which channels that come last do not bear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.fc1, self.fc2 = nn.Linear(64, 6), nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.conv1(images).relu()).relu().view(len(images), -1)
        logits: torch.Tensor = self.fc2(self.fc1(x).relu())
        return logits


class TokenLast(nn.Module):
    """A class token under no usual name, behind the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.summary = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)
        )
        self.fc = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([x, self.summary.expand(len(x), -1, -1)], dim=1)
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.fc(x[:, -1])
        return logits


FAST = {
    "one block that runs three times": Net(
        Blocks,
        8,
        "map: stem block | row: fc",
        "fc",
    ),
    "a batch that is squeezed": Net(
        Squeezes,
        8,
        "map: stem block | row: fc",
        "fc",
    ),
    "a softmax last": Net(
        SoftmaxLast,
        8,
        "map: stem block | row: fc",
        "fc",
    ),
    "outputs in a dataclass": Net(
        Dataclass,
        8,
        "map: stem block | row: fc",
        "fc",
    ),
    "outputs in a tuple, the map first": Net(
        Pair,
        8,
        "map: stem block | row: fc",
        "fc",
    ),
    "flattened with view": Net(
        Views,
        8,
        "map: conv{1-2} | row: fc{1-2}",
        "fc2",
    ),
    "a class token behind the patches": Net(
        TokenLast,
        8,
        "map: patches | last token: blocks.{0-1} | row: fc",
        "fc",
    ),
    "two wrappers": Net(
        lambda: nn.Sequential(nn.Identity(), nn.Sequential(Blocks())),
        8,
        "map: 1.0.stem 1.0.block | row: 1.0.fc",
        "1.0.fc",
    ),
    "timm: two heads within a head": Net(
        of_timm("repvit_m0_9"),
        64,
        "map: stem stages.{0-3} | row: head",
        "head",
    ),
    "timm: two heads of two tokens": Net(
        vit("deit_tiny_distilled_patch16_224"),
        8,
        "token: patch_embed | class: blocks.{0-1} | row: head head_dist",
        "(head + head_dist) / 2",
    ),
    "timm: a class token": Net(
        vit("vit_tiny_patch16_224"),
        8,
        "token: patch_embed | class: blocks.{0-1} | row: head",
        "head",
    ),
    "timm: no class token": Net(
        vit("vit_tiny_patch16_224", class_token=False, global_pool="avg"),
        8,
        "token: patch_embed blocks.{0-1} | row: head",
        "head",
    ),
    "timm: registers, no class token": Net(
        vit("vit_base_patch16_reg4_gap_256"),
        8,
        "token: patch_embed | skip 4: blocks.{0-1} | row: head",
        "head",
    ),
    "timm: class token and registers": Net(
        vit("vit_small_patch14_reg4_dinov2"),
        8,
        "token: patch_embed | class: blocks.{0-1} | row: head",
        "head",
    ),
    "timm: class token in the last blocks": Net(
        of_timm("cait_xxs24_224", img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2),
        8,
        "token: patch_embed blocks.{0-1} | class: blocks_token_only.{0-1} | row: head",
        "head",
    ),
    "timm: class token joins late": Net(
        of_timm("convit_tiny", img_size=32, depth=3, local_up_to_layer=2),
        32,
        "token: patch_embed blocks.{0-1} | class: blocks.2 | row: head",
        "head",
    ),
    "timm: class attention": Net(
        of_timm("xcit_nano_12_p16_224", img_size=32, depth=2, embed_dim=16, num_heads=2),
        32,
        "token: patch_embed blocks.{0-1} | class: cls_attn_blocks.{0-1} | row: head",
        "head",
    ),
    "timm: windows": Net(
        nets.timm_swin,
        16,
        "last: patch_embed layers.{0-1} | row: head.fc",
        "head.fc",
    ),
    "timm: windows, second version": Net(
        of_timm(
            "swinv2_tiny_window8_256", img_size=64, embed_dim=16, depths=(1, 1), num_heads=(2, 2)
        ),
        64,
        "last: patch_embed layers.{0-1} | row: head.fc",
        "head.fc",
    ),
    "timm: maps of a ConvNeXt": Net(
        nets.timm_convnext,
        32,
        "map: stem stages.{0-3} | row: head.fc",
        "head.fc",
    ),
    "timm: a convolution as head": Net(
        of_timm("mobilenetv3_small_050"),
        64,
        "map: conv_stem blocks.{0-5} conv_head | row: classifier",
        "classifier",
    ),
    "timm: a hybrid": Net(
        nets.hybrid,
        8,
        "token: patch_embed | class: blocks.0 | row: head",
        "head",
    ),
    "torchvision: ResNet": Net(
        of_torchvision("resnet18"),
        32,
        "map: conv1 layer{1-4} | row: fc",
        "fc",
    ),
    "torchvision: ViT": Net(
        nets.vit,
        8,
        "map: conv_proj | class: encoder.layers.encoder_layer_{0-1} | row: heads.head",
        "heads.head",
    ),
    "torchvision: Swin": Net(
        nets.swin,
        16,
        "last: features.{0-3} | row: head",
        "head",
    ),
    "torchvision: ConvNeXt": Net(
        nets.convnext,
        32,
        "map: features.{0-3} | row: classifier.2",
        "classifier.2",
    ),
    "torchvision: a map averaged last": Net(
        of_torchvision("squeezenet1_1"),
        64,
        "map: features.0 features.{3-4} features.{6-7} features.{9-12} classifier",
    ),
    "torchvision: auxiliary heads": Net(
        of_torchvision("googlenet", init_weights=False),
        64,
        "map: conv{1-3} inception3a inception3b inception4a inception4b inception4c "
        "inception4d inception4e inception5a inception5b | row: fc",
        "fc",
    ),
    "torchvision: MobileNet": Net(
        of_torchvision("mobilenet_v3_small"),
        32,
        "map: features.{0-12} | row: classifier.3",
        "classifier.3",
    ),
    "transformers: ResNet": Net(
        of_transformers("ResNet", embedding_size=8, **FOUR, layer_type="basic"),
        32,
        "map: resnet.embedder resnet.encoder.stages.{0-3} | row: classifier.1",
        "classifier.1",
    ),
    "transformers: ViT": Net(
        of_transformers("ViT", **VIT),
        8,
        "class: vit.embeddings vit.layers.{0-1} | row: classifier",
        "classifier",
    ),
    "transformers: DeiT with a teacher": Net(
        of_transformers("DeiTWithTeacher", **VIT),
        8,
        "class: deit.embeddings deit.layers.{0-1} | row: cls_classifier distillation_classifier",
        "(cls_classifier + distillation_classifier) / 2",
    ),
    "transformers: BEiT": Net(
        of_transformers("Beit", **VIT),
        8,
        "class: beit.embeddings beit.layers.{0-1} | row: beit.pooler classifier",
        "classifier",
    ),
    "transformers: DINOv2": Net(
        of_transformers("Dinov2", **VIT),
        8,
        "class: dinov2.embeddings dinov2.encoder.layer.0 dinov2.encoder.layer.1 | row: classifier",
        "classifier",
    ),
    "transformers: DINOv2 with registers": Net(
        of_transformers("Dinov2WithRegisters", **VIT),
        8,
        "class: dinov2_with_registers.embeddings "
        "dinov2_with_registers.encoder.layer.{0-1} | row: classifier",
        "classifier",
    ),
    "transformers: I-JEPA": Net(
        of_transformers("IJepa", **VIT),
        8,
        "token: ijepa.embeddings ijepa.layers.{0-1} | row: classifier",
        "classifier",
    ),
    "transformers: ConvNeXt": Net(
        of_transformers("ConvNext", **FOUR),
        32,
        "map: convnext.embeddings convnext.encoder.stages.{0-3} | row: classifier",
        "classifier",
    ),
    "transformers: Swin": Net(
        of_transformers("Swin", **SWIN),
        32,
        "token: swin.embeddings swin.encoder.layers.0.blocks.0 "
        "swin.encoder.layers.0.downsample swin.encoder.layers.1.blocks.0 | row: "
        "classifier",
        "classifier",
    ),
    "transformers: Segformer": Net(
        of_transformers("Segformer", **FOUR, num_attention_heads=[1, 1, 2, 2]),
        64,
        "map: segformer.stages.{0-3} | row: classifier",
        "classifier",
    ),
    "transformers: PoolFormer": Net(
        of_transformers("PoolFormer", **FOUR),
        64,
        "map: poolformer.encoder.patch_embeddings.0 poolformer.encoder.block.0.0 "
        "poolformer.encoder.patch_embeddings.1 poolformer.encoder.block.1.0 "
        "poolformer.encoder.patch_embeddings.2 poolformer.encoder.block.2.0 "
        "poolformer.encoder.patch_embeddings.3 poolformer.encoder.block.3.0 | row: "
        "classifier",
        "classifier",
    ),
    "transformers: MobileNet": Net(
        of_transformers("MobileNetV2", depth_multiplier=0.35),
        32,
        "map: mobilenet_v2.conv_stem mobilenet_v2.layer.0 mobilenet_v2.layer.1 "
        "mobilenet_v2.layer.2 mobilenet_v2.layer.3 mobilenet_v2.layer.4 "
        "mobilenet_v2.layer.5 mobilenet_v2.layer.6 mobilenet_v2.layer.7 "
        "mobilenet_v2.layer.8 mobilenet_v2.layer.9 mobilenet_v2.layer.10 "
        "mobilenet_v2.layer.11 mobilenet_v2.layer.12 mobilenet_v2.layer.13 "
        "mobilenet_v2.layer.14 mobilenet_v2.layer.15 mobilenet_v2.conv_1x1 | row: "
        "classifier",
        "classifier",
    ),
    "transformers: FocalNet": Net(
        of_transformers(
            "FocalNet",
            image_size=32,
            embed_dim=8,
            depths=[1, 1],
            focal_levels=[1, 1],
            focal_windows=[3, 3],
        ),
        32,
        "token: focalnet.embeddings focalnet.encoder.stages.0.layers.0 "
        "focalnet.encoder.stages.0.downsample focalnet.encoder.stages.1.layers.0 | "
        "row: classifier",
        "classifier",
    ),
}

SLOW = {
    "half precision": Net(
        lambda: of_timm("resnet10t")().bfloat16(),
        32,
        "map: conv1 layer{1-4} | row: fc",
        "fc",
    ),
    "timm: no classifier": Net(
        of_timm("resnet10t", num_classes=0),
        64,
        "map: conv1 layer{1-4}",
    ),
    "timm: two normalised heads": Net(
        of_timm("levit_128s"),
        224,
        "map: stem | token: stages.{0-2} | row: head head_dist",
        "(head + head_dist) / 2",
    ),
    "timm: two heads of the same features": Net(
        of_timm("efficientformer_l1"),
        224,
        "map: stem stages.{0-2} | token: stages.3 | row: head head_dist",
        "(head + head_dist) / 2",
    ),
    "timm: two heads, tokens in tuples": Net(
        of_timm("pit_ti_distilled_224"),
        224,
        "map: patch_embed | class: transformers.0.blocks.0 transformers.0.blocks.1 | "
        "map: transformers.1.pool.conv | class: transformers.1.pool.fc "
        "transformers.1.blocks.0 transformers.1.blocks.1 transformers.1.blocks.2 "
        "transformers.1.blocks.3 transformers.1.blocks.4 transformers.1.blocks.5 | "
        "map: transformers.2.pool.conv | class: transformers.2.pool.fc "
        "transformers.2.blocks.0 transformers.2.blocks.1 transformers.2.blocks.2 "
        "transformers.2.blocks.3 | row: head head_dist",
        "(head + head_dist) / 2",
    ),
    "timm: a class token at each scale": Net(
        of_timm("coat_lite_tiny", img_size=64),
        64,
        "token: patch_embed1 | class: serial_blocks1.{0-1} | token: patch_embed2 | "
        "class: serial_blocks2.{0-1} | token: patch_embed3 | class: "
        "serial_blocks3.{0-1} | token: patch_embed4 | class: serial_blocks4.{0-1} | "
        "row: head",
        "head",
    ),
    "timm: a mixer": Net(
        of_timm("mixer_s32_224", img_size=64),
        64,
        "token: stem blocks.{0-7} | row: head",
        "head",
    ),
    "timm: no batch normalisation": Net(
        of_timm("nf_resnet26"),
        64,
        "map: stem stages.{0-3} | row: head.fc",
        "head.fc",
    ),
    "timm: stages of another kind": Net(
        of_timm("visformer_tiny"),
        224,
        "map: stem patch_embed1 stage1 patch_embed2 stage2 patch_embed3 stage3 | row: head",
        "head",
    ),
    "timm: branches": Net(
        of_timm("inception_v3"),
        128,
        "map: Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3 "
        "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e "
        "Mixed_7a Mixed_7b Mixed_7c | row: fc",
        "fc",
    ),
    "timm: two class tokens, two heads": Net(
        of_timm("crossvit_tiny_240"),
        240,
        "token: patch_embed.{0-1} | class: blocks.0.blocks.0 blocks.0.blocks.1 "
        "blocks.0.projs.0 blocks.0.projs.1 blocks.0.fusion.0 blocks.0.revert_projs.0 "
        "blocks.0.fusion.1 blocks.0.revert_projs.1 blocks.1.blocks.0 "
        "blocks.1.blocks.1 blocks.1.projs.0 blocks.1.projs.1 blocks.1.fusion.0 "
        "blocks.1.revert_projs.0 blocks.1.fusion.1 blocks.1.revert_projs.1 "
        "blocks.2.blocks.0 blocks.2.blocks.1 blocks.2.projs.0 blocks.2.projs.1 "
        "blocks.2.fusion.0 blocks.2.revert_projs.0 blocks.2.fusion.1 "
        "blocks.2.revert_projs.1 | row: head.{0-1}",
        "(head.0 + head.1) / 2",
    ),
    "torchvision: RegNet": Net(
        of_torchvision("regnet_y_400mf"),
        32,
        "map: stem trunk_output.block{1-4} | row: fc",
        "fc",
    ),
}


# --- what holds for all of them --------------------------------------------------------------


def as_if_trained(model: nn.Module) -> nn.Module:
    """With values of its own in what starts as zeros or ones."""
    generator = torch.Generator().manual_seed(1)

    def some(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                module.running_mean += 0.2 * some(module.running_mean)
                module.running_var *= 1 + 0.2 * some(module.running_var).tanh()
        for parameter in model.parameters():
            if parameter.is_floating_point() and float(parameter.std(correction=0)) < 1e-4:
                parameter += 0.1 * some(parameter)
    return model.eval()


def outputs_of(
    model: nn.Module, names: list[str], images: torch.Tensor
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """What the modules give, and the outputs of the network, in a plain forward pass."""
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, _inputs: Any, out: Any) -> None:
            kept[name] = (out if isinstance(out, torch.Tensor) else next(iter(out))).clone()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    with torch.inference_mode():
        given = model(images.to(next(model.parameters()).dtype))
    for handle in handles:
        handle.remove()
    if isinstance(given, torch.Tensor):
        return kept, [given]
    values = given if isinstance(given, tuple) else vars(given).values()
    return kept, [each for each in values if isinstance(each, torch.Tensor)]


def listed(layers: str) -> dict[str, str]:
    """Layer → rule of ``rule: a b{0-2} | rule: c``."""
    found = {}
    for part in layers.split("|"):
        rule, _, names = part.partition(":")
        for name in names.split():
            several = re.fullmatch(r"(.*)\{(\d+)-(\d+)\}(.*)", name)
            if several is None:
                found[name] = rule.strip()
                continue
            before, low, high, after = several.groups()
            for i in range(int(low), int(high) + 1):
                found[f"{before}{i}{after}"] = rule.strip()
    return found


def check(net: Net) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about how they make their networks
        torch.manual_seed(0)
        model = as_if_trained(net.make())
    subject = nets.as_subject(model, net.side)
    images = torch.rand(3, 3, net.side, net.side, generator=torch.Generator().manual_seed(2))
    # Eight bits of bfloat16, or what order of summation makes of 24.
    precision = 5e-2 if next(model.parameters()).dtype == torch.bfloat16 else 1e-4
    rules = listed(net.layers)
    layers = subject.layers()
    assert [layer.name for layer in layers] == list(rules)
    found, alone = subject.read(layers, images), subject.read(layers, images[:1])
    outputs, given = outputs_of(model, list(rules), images)
    for name, rule in rules.items():
        by_hand = RULES[rule](outputs[name].float())
        close = {"rtol": precision, "atol": precision * max(0.1, float(by_hand.abs().max()))}
        torch.testing.assert_close(found[name], by_hand, **close)
        torch.testing.assert_close(alone[name], found[name][:1], **close)
    if not net.head:
        return
    classifier = Classifier.find(subject)
    assert classifier.head == net.head
    halves = classifier.read(classifier.readings, images)
    made = halves["features"].double().cpu() @ torch.from_numpy(classifier.weights).T
    logits = (made + torch.from_numpy(classifier.bias)).float()
    fitting = [each.float() for each in given if each.shape == logits.shape]
    scale = float(logits.abs().max())
    near = [float((logits - each).abs().max()) <= precision * max(1, scale) for each in fitting]
    softened = [torch.allclose(logits.softmax(1), each, atol=1e-4) for each in fitting]
    assert any(near) or any(softened)
    torch.testing.assert_close(
        halves["logits"], logits, rtol=precision, atol=precision * max(1, scale)
    )


@pytest.mark.parametrize("net", FAST.values(), ids=list(FAST))
def test_layers_pooling_and_head(net: Net) -> None:
    check(net)


@pytest.mark.slow
@pytest.mark.parametrize("net", SLOW.values(), ids=list(SLOW))
def test_layers_pooling_and_head_of_larger_networks(net: Net) -> None:
    check(net)
