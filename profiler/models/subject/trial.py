"""The first images of a set, tried before the rest: what would make every number after it wrong.

A preprocessing or a network that is random, a network whose outputs depend on which images share
a batch: both run through to the end, and the same command then gives other numbers. Two passes
over two images are enough to tell.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from profiler.errors import InputError
from profiler.models.subject.preprocessing import Preprocess

Read = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]
"""(B, 3, H, W) → (B, K) of each layer, by name."""

TOLERANCE = 1e-3
"""How far apart, relative to its size, what a layer gives for one image may be in two passes.

Batches of one size run through the same kernels, so on a CPU an image comes out the same to the
bit, or to 2e-7 in the matrix products of float32 (EfficientNet-Lite0, ResNet, ViT, Swin and
ConvNeXt), also with channels last. What depends on the batch, and dropout, differ by 0.05 to 1.
"""
HALF_TOLERANCE = 3e-2
"""The same with bfloat16 or float16: a last bit of the former is 0.4 % (measured: 3e-4)."""

_NOISE = 1e-3
"""A layer whose numbers are smaller than this is measured as if they were as large: means of what
was normalised to mean 0 are nothing but rounding."""
_LEAST, _MOST = 8, 64
"""How often a preprocessing is tried; the latter, where it draws random numbers."""
_SECONDS = 0.4
"""When trying ends in any case."""


def in_company(images: torch.Tensor) -> torch.Tensor:
    """(B, …) images, a lone one twice: many networks squeeze away the axis of a batch of one."""
    return torch.cat([images, images]) if len(images) == 1 else images


def mismatch(model: nn.Module, image: torch.Tensor) -> str:
    """Why a network may have failed on a preprocessed image, and what to do; empty if unknown."""
    kinds = {each.dtype for each in model.parameters() if each.is_floating_point()}
    others = kinds - {torch.float32}
    # Images are given in the precision of the weights, where these have one.
    if others and (image.dtype == torch.float32 or kinds == {image.dtype}):
        return (
            f"; its weights are {_named(others)}: call .float() on the network in its factory, "
            "unless all of it can be computed so (--precision rounds what is computed)"
        )
    if kinds and image.dtype not in kinds:
        return (
            f"; its preprocessing gives {_named([image.dtype])} and its weights are "
            f"{_named(kinds)}: let it end in {_named(kinds)}, scaled as in training"
        )
    if image.dim() == 3 and image.shape[0] not in (1, 3) and image.shape[2] in (1, 3):
        return "; its preprocessing gives (H, W, 3), not (3, H, W): end it in .permute(2, 0, 1)"
    return ""


def _named(kinds: Iterable[torch.dtype]) -> str:
    return "/".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))


# --- preprocessing ---------------------------------------------------------------------------


def applied(preprocess: Preprocess, image: Image.Image, name: str) -> torch.Tensor:
    """What a preprocessing makes of an image; where it fails, an error that names the image."""
    try:
        return preprocess(image)
    except Exception as error:
        raise InputError(
            f"preprocessing of probe image {name!r} fails: {type(error).__name__}: {error}"
        ) from error


def try_preprocessing(
    preprocess: Preprocess, images: Sequence[tuple[str, Image.Image]], whose: str
) -> list[torch.Tensor]:
    """What a preprocessing makes of images, the first of which it is given several times.

    Args:
        preprocess: from an RGB image to (3, H, W).
        images: with their names; they are left as they are, whatever is done to them.
        whose: ``the model's`` or ``the VLM's``.

    Raises:
        InputError: it fails, or does not give the same each time.
    """
    made = [applied(preprocess, image.copy(), name) for name, image in images]
    name, image = images[0]

    def same(one: torch.Tensor, other: torch.Tensor) -> bool:
        return torch.equal(one.nan_to_num(), other.nan_to_num())

    if _varies(lambda: applied(preprocess, image.copy(), name), made[0], same, _LEAST):
        raise InputError(
            f"{whose} preprocessing is random: for {name!r} it gives another image each time, as "
            "a transform for training does (random crop, flip, colours), and so the same command "
            "would give other numbers each time; give the one for evaluation, as in --preprocess "
            "resize=256,crop=224,interpolation=bilinear,mean=…,std=…"
        )
    return made


def _varies(
    make: Callable[[], Any], made: Any, same: Callable[[Any, Any], bool], least: int
) -> bool:
    """Whether what is made differs from ``made`` at some time.

    It is made ``least`` times, and more often where that moves a generator of random numbers: a
    flip leaves half of the images as they are.
    """
    end = time.monotonic() + _SECONDS
    dice = _dice()
    for tries in range(2, _MOST + 1):
        if not same(made, make()):
            return True
        before, dice = dice, _dice()
        if (tries >= least and dice == before) or time.monotonic() > end:
            break
    return False


def _dice() -> tuple[object, ...]:
    """The state of every generator of random numbers that a program shares."""
    numpys: Any = np.random.get_state(legacy=False)  # noqa: NPY002  (others still draw from it)
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += torch.cuda.get_rng_state_all()
    return (
        random.getstate(),
        numpys["state"]["key"].tobytes(),
        numpys["state"]["pos"],
        *(state.numpy().tobytes() for state in states),
    )


# --- forward passes --------------------------------------------------------------------------


def try_forward(
    read: Read, images: torch.Tensor, name: str, whose: str, tolerance: float = TOLERANCE
) -> Mapping[str, torch.Tensor]:
    """What a network gives for two images, if the first comes out the same each time.

    Args:
        read: a forward pass.
        images: (2, 3, H, W), or (1, 3, H, W) where every image is read alone: then nobody asks
            whether its outputs depend on others in its batch.
        name: of the first image.
        whose: ``the model`` or ``the VLM``.
        tolerance: see :data:`TOLERANCE`.

    Raises:
        InputError: the network is random, or an image's numbers depend on its batch.
    """
    # The same image twice is a batch of the size of two images, so the same kernels run on it.
    twice = torch.cat([images[:1], images[:1]])
    given = in_company(images)
    beside = read(given)
    dice = _dice()
    alone = read(twice)
    drawn = _dice() != dice
    first, one, other = _row(beside, 0), _row(alone, 0), _row(alone, 1)
    apart, layer = max(_apart(one, first), _apart(one, other))
    if apart <= tolerance and not drawn:
        return beside
    # Where random numbers are drawn, the last bit counts: nothing else could have changed it.
    limit = 0.0 if drawn else tolerance
    if _varies(lambda: read(given), beside, lambda a, b: _apart(a, b)[0] <= limit, 2):
        raise InputError(
            f"{whose} is random: for the same image, {name!r}, it gives other numbers each time"
            f"{_where(apart, layer)}, and so would the same command; something in it draws random "
            "numbers though it is not trained (dropout, stochastic depth, noise): switch that off "
            "in its factory, or let it draw the same for every image"
        )
    if apart > tolerance:
        raise InputError(
            f"what {whose} gives for an image depends on the other images in its batch: for "
            f"{name!r} it differs{_where(apart, layer)} with another image beside it, so labels "
            "would change with --batch-size. Batch normalisation does so without running "
            "statistics (track_running_stats=False) or in training mode: give it some, or read "
            "every image alone with -b 1"
        )
    return beside


def _where(apart: float, layer: str) -> str:
    return f" (in layer {layer!r} by {apart:.1%})" if apart else ""


def _row(taken: Mapping[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    return {layer: values[row] for layer, values in taken.items()}


def _apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> tuple[float, str]:
    """The largest difference between what layers gave, relative to its size, and where it is.

    Numbers that are not finite do not count; whoever reads them refuses them by name.
    """
    found = [(0.0, "")]
    for layer, values in one.items():
        a, b = values.double(), other[layer].double()
        least = _NOISE * a.numel() ** 0.5
        ratio = float((a - b).norm() / a.norm().clamp(min=least))
        found.append((ratio if np.isfinite(ratio) else 0.0, layer))
    return max(found)
