"""The middle layers of EfficientNet-Lite2, and what linear probes read off them.

Three steps, each linear but for a squashing at its end:

1. every cell of a 13 × 13 grid is judged whether it is part of an object or of what is around it;
2. channels are averaged over the object: their means, and the roots of their mean squares, which
   are as much a texture's statistics as those of any filter bank;
3. a softmax over the words of each vocabulary; and how far the image lies off everything that
   the probes have seen, beyond which their words are guesses.

Steps 1 and 3 are trained on synthetic scenes, whose objects, patterns and materials are known, by
``benchmarks/train_vocabulary.py``.
"""

import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as nnf

CELLS = 13
"""Cells on a side of the grid."""

FIRST, POOLED_FROM, LAST = 1, 2, 5
"""Stages that are read, by number: all of these tell objects apart, the later ones the words."""

CHANNELS = {1: 24, 2: 48, 3: 88, 4: 120, 5: 208}
"""By stage. Of the last only means are taken."""

FILE = Path(__file__).parent / "vocabularies.safetensors"
# The probabilities are squared and normed: a sum of words shall be nearest to the likeliest, also
# where some of the others lie close to each other.
_SHARPNESS = 2.0
_FLOOR = 0.02  # so much of every cell counts: an image without an object has a mean, too


def middle(network: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One pass through EfficientNet-Lite2.

    Returns:
        (B, 488, 13, 13), the channels of five stages, averaged in each cell; (B, 256, 13, 13), the
        squares of those of three of them, averaged likewise; (B, 1000) class scores.
    """
    means, squares = [], []
    x = network.bn1(network.conv_stem(images))
    for number, stage in enumerate(network.blocks):
        x = stage(x)
        if FIRST <= number <= LAST:
            means.append(_to_cells(x))
        if POOLED_FROM <= number < LAST:
            squares.append(_to_cells(x * x))
    scores: torch.Tensor = network.forward_head(network.bn2(network.conv_head(x)))
    return torch.cat(means, 1), torch.cat(squares, 1), scores


def _to_cells(maps: torch.Tensor) -> torch.Tensor:
    return nnf.adaptive_avg_pool2d(maps, CELLS)


@lru_cache(maxsize=4)
def places(device: torch.device) -> torch.Tensor:
    """(4, 169): how far each cell lies from the middle, in four ways."""
    line = torch.linspace(-1, 1, CELLS, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    border = torch.maximum(x.abs(), y.abs()) ** 4
    return torch.stack([x * x, y * y, (x * x + y * y).sqrt(), border]).flatten(1)


def statistics(means: torch.Tensor, squares: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """(B, 720): over the object, the mean of 464 channels, then 256 roots of mean squares.

    Args:
        means: (B, 488, 13, 13) of :func:`middle`.
        squares: (B, 256, 13, 13).
        objects: (B, 169) how far each cell is part of an object.
    """
    share = objects + _FLOOR
    share = (share / share.sum(dim=1, keepdim=True)).unsqueeze(2)
    seen = torch.bmm(means[:, CHANNELS[FIRST] :].flatten(2), share).squeeze(2)
    powers = torch.bmm(squares.flatten(2), share).squeeze(2)
    return torch.cat([seen, (powers.clamp(min=0) + 1e-4).sqrt()], dim=1)


def object_inputs(means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a cell is judged by: (B, 488, 169) its channels, and (B, 488, 1) the image's."""
    local = means.flatten(2)
    return local, local.mean(dim=2, keepdim=True)


class Probes:
    """The trained probes out of their file, as the training script writes it.

    Args:
        device: where images are read.
    """

    def __init__(self, device: torch.device) -> None:
        digest = hashlib.sha256(f"{CELLS} {_FLOOR} {_SHARPNESS}".encode())
        digest.update(FILE.read_bytes())
        self.fingerprint = digest.hexdigest()
        self._tensors = {
            name: tensor.float().to(device) for name, tensor in load_file(FILE).items()
        }

    def objects(self, means: torch.Tensor) -> torch.Tensor:
        """(B, 169) in [0, 1]: how far each cell is part of an object."""
        local, whole = object_inputs(means)
        logits = torch.einsum("bct,c->bt", local, self._tensors["object.local"])
        logits = logits + torch.einsum("bct,c->bt", whole, self._tensors["object.whole"])
        place = self._tensors["object.place"] @ places(means.device)
        return torch.sigmoid(logits + place + self._tensors["object.bias"])

    def strangeness(self, statistics: torch.Tensor) -> torch.Tensor:
        """(B,): how far images lie off what the scenes have in common; of most scenes about 1."""
        mean, std, basis, usual = (
            self._tensors[f"usual.{part}"] for part in ("mean", "std", "basis", "off")
        )
        inputs = (statistics - mean) / std
        off = inputs - inputs @ basis.T @ basis
        strange: torch.Tensor = off.square().mean(dim=1) / usual
        return strange

    def words(self, vocabulary: str, statistics: torch.Tensor) -> torch.Tensor:
        """(B, words) probabilities, sharpened."""
        weight, bias = (self._tensors[f"{vocabulary}.{part}"] for part in ("weight", "bias"))
        return (_SHARPNESS * nnf.linear(statistics, weight, bias)).softmax(dim=1)


@cache
def probe_words() -> dict[str, tuple[str, ...]]:
    """The words of each vocabulary in the file of probes; nothing else of it is read."""
    with safe_open(FILE, framework="pt") as file:
        said = json.loads(file.metadata()["words"])
    return {name: tuple(words) for name, words in said.items()}
