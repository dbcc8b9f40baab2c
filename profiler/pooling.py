"""One number a unit and image, made of a layer's output by the meaning of its axes."""

import re
from dataclasses import dataclass

import torch
from torch import nn

from profiler.errors import InputError


@dataclass(frozen=True)
class Pooling:
    """How a layer's output becomes (B, K).

    Attributes:
        units: K.
        text: the rule in words, for example ``mean over 7 × 7``.
        axes: the axes that are averaged, if any.
        first: the first token that counts; before it stand class and register tokens.
        token: the one token that counts, if it is one.
    """

    units: int
    text: str
    axes: tuple[int, ...] = ()
    first: int = 0
    token: int | None = None

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """(B, …) → (B, K) float32."""
        if self.token is not None:
            return output[:, self.token].float()
        if self.first:
            output = output[:, self.first :]
        return (output.mean(dim=self.axes) if self.axes else output).float()


def choose_pooling(
    model: nn.Module, module: nn.Module, name: str, shape: tuple[int, ...]
) -> Pooling:
    """The pooling of ``module``, whose output for one image has ``shape``.

    (K,) stays; a map (C, H, W), or (H, W, C) where channels come last, is averaged over space;
    tokens (T, C) give their class token where one is among them, and otherwise the mean of the
    patch tokens, without registers.
    """
    if len(shape) == 1:
        return Pooling(shape[0], "none")
    if len(shape) == 3:
        last = _channels_last(model, module)
        channels, height, width = (shape[2], *shape[:2]) if last else shape
        axes = (1, 2) if last else (2, 3)
        return Pooling(channels, f"mean over {height} × {width}", axes)
    if len(shape) == 2:
        tokens, channels = shape
        prefix, has_class = _prefix(model, tokens)
        if has_class:
            return Pooling(channels, "class token", token=0)
        return Pooling(channels, f"mean over {tokens - prefix} patch tokens", (1,), prefix)
    raise InputError(
        f"layer {name!r} gives {shape} an image, which cannot be pooled to one number a unit; "
        "choose a layer that gives (K,), (C, H, W) or (T, C)"
    )


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises and does nothing else: its units are those before it.

    >>> is_norm(nn.BatchNorm2d(2)), is_norm(nn.Linear(2, 2))
    (True, False)
    """
    return re.fullmatch(r"[a-z]*norm(act)?\d?d?", type(module).__name__.lower()) is not None


def _channels_last(model: nn.Module, module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
        return False
    # These work on the last axis; their subclasses for maps (LayerNorm2d) turn it first and back.
    if isinstance(module, nn.Linear) or type(module) is nn.LayerNorm:
        return True
    return "swin" in type(model).__name__.lower()


def _prefix(model: nn.Module, tokens: int) -> tuple[int, bool]:
    """(number of tokens before the patches, whether the first of them is a class token).

    Ahead of the place where class and register tokens join, there are patches alone; so their
    number is compared with that of the patches where the model tells it.
    """
    torchvision = getattr(model, "class_token", None) is not None
    has_class = torchvision or getattr(model, "cls_token", None) is not None
    prefix = 1 if torchvision else int(getattr(model, "num_prefix_tokens", 0))
    patches = getattr(getattr(model, "patch_embed", None), "num_patches", None)
    if patches is not None and tokens <= int(patches):
        return 0, False
    return prefix, has_class
