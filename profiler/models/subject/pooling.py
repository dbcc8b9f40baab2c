"""One number a unit and image, made of a layer's output by the meaning of its axes.

What an output means is told by its shape, by the module that gave it, and by what the network says
of itself; never by the network's name. An output whose axes cannot be told apart is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import torch
from torch import nn

from profiler.errors import InputError

RULES = ("auto", "mean", "max", "cls", "patch-mean")
"""Ways to make one number of many positions.

``auto``: a map's mean over space; of tokens the class token, or the mean of the patch tokens where
a network has no class token. ``mean``, ``max``: over all positions, class and register tokens
among them. ``cls``: the class token. ``patch-mean``: the mean of the patches; a map is all patches.
"""

CONVOLUTIONS = nn.modules.conv._ConvNd
PROJECTIONS = (nn.Linear, CONVOLUTIONS)
"""Every linear layer and convolution, of any dimension."""

_CLASS_TOKENS = re.compile(r"(cls|class)_?(tokens?|embed(ding)?s?)?_?\d*")
_OTHER_TOKENS = re.compile(r"(reg(ister)?|dist(illation)?)(_tokens?|s)_?\d*")
"""Attributes under which timm, torchvision, open_clip and others keep the tokens they add. Those
that differ only in their number stand at different places, one at each."""


@dataclass(frozen=True)
class Pooling:
    """How a layer's output becomes (B, K).

    Attributes:
        units: K.
        text: the rule in words, for example ``mean over 7 × 7``.
        axes: the axes that are pooled, if any.
        others: tokens that do not count: class and register tokens.
        token: the one token that counts, if it is one.
        largest: take the largest value over the axes, not the mean.
        windows: how many rows of the output belong to one image; they lie side by side.
        grid: height and width of the map that is pooled; None where what is pooled is no map of
            the image, as a class token is not.
    """

    units: int
    text: str
    axes: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    token: int | None = None
    largest: bool = False
    windows: int = 1
    grid: tuple[int, int] | None = None

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """(B · windows, …) → (B, K) float32, a copy: a network may go on to work in place."""
        if self.windows > 1:
            output = output.reshape(-1, self.windows, *output.shape[1:])
        output = output[:, self.token] if self.token is not None else self._counting(output)
        if self.axes and self.largest:
            output = output.amax(dim=self.axes)
        elif self.axes:
            return output.mean(dim=self.axes, dtype=torch.float32)
        return output.to(torch.float32, copy=True)

    def map_of(self, output: torch.Tensor) -> torch.Tensor:
        """(B, …) → (B, K, h, w) float32: the map whose mean, or largest value, is what is pooled.

        Only where there is a ``grid``.
        """
        if self.grid is None:
            raise ValueError(f"{self.text}: no map of the image is pooled")
        if len(self.axes) == 1:
            places = self._counting(output).transpose(1, 2)
            return places.reshape(len(output), self.units, *self.grid).to(torch.float32)
        channels = ({1, 2, 3} - set(self.axes)).pop()
        return output.movedim(channels, 1).to(torch.float32)

    def _counting(self, output: torch.Tensor) -> torch.Tensor:
        """The output without the tokens that do not count."""
        if self.others == tuple(range(len(self.others))):
            return output[:, len(self.others) :]
        places = [t for t in range(output.shape[1]) if t not in self.others]
        return output[:, places]


@dataclass(frozen=True)
class SeenLayer:
    """What a trial pass shows of a layer's output.

    Attributes:
        shape: of one row of the output.
        windows: rows of the output that belong to one image.
        image: height and width of the network's input.
        learned: of tokens, the positions that are the same for every image where they join.
    """

    shape: tuple[int, ...]
    windows: int = 1
    image: tuple[int, int] = (1, 1)
    learned: tuple[int, ...] = ()


def choose_pooling(model: nn.Module, name: str, seen: SeenLayer, rule: str = "auto") -> Pooling:
    """The pooling of the layer ``name`` by one of the :data:`RULES`.

    (K,) stays as it is, whatever the rule; maps are (C, H, W), or (H, W, C) where channels come
    last; tokens are (T, C). Where attention is computed in windows, those of an image count as
    one map.
    """
    if len(seen.shape) == 1 and seen.windows == 1:
        return Pooling(seen.shape[0], "none")
    if len(seen.shape) > 3:
        raise _unclear(name, seen, "choose a layer that gives (K,), (C, H, W) or (T, C)")
    channels = _channels(model, name, seen)
    # Of one row, without the batch: every axis but that of the channels is a place.
    places = [axis for axis in range(len(seen.shape)) if axis != channels]
    extent = " × ".join(str(seen.shape[axis]) for axis in places)
    if seen.windows > 1:
        extent = f"{seen.windows} windows of {extent}" if places else f"{seen.windows} windows"
    offset = 1 if seen.windows == 1 else 2
    axes = tuple(axis + offset for axis in places)
    whole = Pooling(
        seen.shape[channels],
        f"{'max' if rule == 'max' else 'mean'} over {extent}",
        axes if seen.windows == 1 else (1, *axes),
        largest=rule == "max",
        windows=seen.windows,
        grid=_sides(seen, places),
    )
    if len(places) == 1 and channels == 1 and seen.windows == 1:
        return _of_tokens(model, name, seen, rule, whole)
    if rule == "cls":
        raise InputError(
            f"layer {name!r} is a map ({extent}) and has no class token; --pool auto, mean and "
            "max suit it"
        )
    return whole


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises and does nothing else: its units are those before it.

    >>> is_norm(nn.BatchNorm2d(2)), is_norm(nn.Linear(2, 2))
    (True, False)
    """
    if any(isinstance(part, PROJECTIONS) for part in module.modules()):
        return False  # such as timm's ConvNormAct
    return re.fullmatch(r"[a-z]*norm(act)?\d?d?", type(module).__name__.lower()) is not None


# --- maps ------------------------------------------------------------------------------------


def _channels(model: nn.Module, name: str, seen: SeenLayer) -> int:
    """Which axis of a row holds the units."""
    module = model.get_submodule(name)
    last = len(seen.shape) - 1
    if isinstance(module, CONVOLUTIONS | nn.BatchNorm1d | nn.BatchNorm2d):
        return 0
    # These work on the last axis; their subclasses for maps (LayerNorm2d) turn it first and back.
    if isinstance(module, nn.Linear) or type(module) is nn.LayerNorm or last < 2:
        return last
    # A map has the proportions of the image, so the axis that does not belong is the channels'.
    first_fits = _in_proportion(seen.shape[1], seen.shape[2], seen.image)
    last_fits = _in_proportion(seen.shape[0], seen.shape[1], seen.image)
    if first_fits != last_fits:
        return 0 if first_fits else last
    known = _layout(model, name)
    if known is None and not first_fits:
        raise _unclear(name, seen, "no axis of it is known to hold the units")
    return last if known == "last" else 0


def _in_proportion(height: int, width: int, image: tuple[int, int]) -> bool:
    return abs(width - height * image[1] / image[0]) < 1


def _layout(model: nn.Module, name: str) -> str | None:
    """``first`` or ``last``, by what the networks around a module say, or by what they are of.

    Asked only where a shape is as high as wide as it has channels.
    """
    for owner in _around(model, name):
        declared = getattr(owner, "output_fmt", None)  # timm's
        if declared is not None:
            return "last" if "NHWC" in str(declared) else "first"
        if type(owner).__name__ == "SwinTransformer":  # torchvision's
            return "last"
        kinds = {isinstance(p, nn.Linear) for p in owner.modules() if isinstance(p, PROJECTIONS)}
        if len(kinds) == 1:
            return "last" if kinds == {True} else "first"
    return None


def _around(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """The module itself, what it stands in, and so on up to the whole network."""
    parts = name.split(".")
    for length in range(len(parts), -1, -1):
        yield model.get_submodule(".".join(parts[:length]))


def _unclear(name: str, seen: SeenLayer, advice: str) -> InputError:
    return InputError(
        f"layer {name!r} gives {seen.shape} an image, which cannot be pooled to one number a "
        f"unit; {advice}"
    )


# --- tokens ----------------------------------------------------------------------------------


def _of_tokens(model: nn.Module, name: str, seen: SeenLayer, rule: str, whole: Pooling) -> Pooling:
    tokens, units = seen.shape
    others, has_class = _others(model, name, seen)
    if rule == "cls" and not has_class:
        raise InputError(
            f"layer {name!r} has {tokens} tokens and none of them is known as a class token; "
            "--pool auto, mean, max and patch-mean suit it"
        )
    if rule == "cls" or (rule == "auto" and has_class):
        return Pooling(units, "class token", token=others[0] if others else 0)
    patches = tokens - len(others)
    are_patches = bool(others) or _is_grid(tokens, seen.image)
    if rule == "patch-mean" and not (patches and are_patches):
        raise InputError(
            f"layer {name!r} has {tokens} tokens, and it is unknown which of them are patches; "
            "--pool mean and max suit it"
        )
    if rule in ("auto", "patch-mean") and are_patches:
        grid = _grid(patches, seen.image)
        return Pooling(units, f"mean over {patches} patch tokens", whole.axes, others, grid=grid)
    grid = None if others else _grid(tokens, seen.image)
    return Pooling(units, f"{whole.text} tokens", whole.axes, largest=whole.largest, grid=grid)


def _others(model: nn.Module, name: str, seen: SeenLayer) -> tuple[tuple[int, ...], bool]:
    """(positions of class and register tokens, whether the first of them is a class token).

    A pass shows where such tokens join. Behind that, in fewer tokens or without values to look at,
    they are those before the patches that the network declares. Ahead of that there are patches
    alone, so what is declared is held against the number of patches, where it is known, or else
    against the grid that patches must fill.
    """
    tokens, image = seen.shape[0], seen.image
    declared = [(owner, *_declared(owner)) for owner in _around(model, name)]
    owner, count, has_class = next((each for each in declared if each[1]), (model, 0, False))
    if seen.learned:
        # Of tokens that bear no name that is known the first is taken for a class token.
        return seen.learned, has_class or count == 0
    if count == 0:
        return (), False
    patches = _patch_counts(owner, image)
    if tokens == 1 or (tokens <= count and tokens not in patches):
        # Class and distillation token by themselves, as in CaiT's last blocks.
        return tuple(range(tokens)), has_class
    joined = tokens - count in patches
    if not joined and (tokens in patches or tokens <= count):
        return (), False
    if not joined and not _is_grid(tokens - count, image) and _is_grid(tokens, image):
        return (), False
    return tuple(range(count)), has_class


def _declared(owner: nn.Module) -> tuple[int, bool]:
    """(class and register tokens a network adds, whether one of them is a class token)."""
    # Some networks keep their tokens in a part that makes the embeddings.
    for holder in (owner, *owner.children()):
        of_class = _tokens_in(holder, _CLASS_TOKENS)
        added = of_class + _tokens_in(holder, _OTHER_TOKENS)
        if added:
            count = getattr(owner, "num_prefix_tokens", None)  # timm's own word counts
            return count if isinstance(count, int) else added, of_class > 0
    return 0, False


def _tokens_in(owner: nn.Module, known: re.Pattern[str]) -> int:
    """How many tokens it keeps under such names."""
    found: dict[str, int] = {}
    kept = (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False))
    for name, token in kept:
        if known.fullmatch(name) and token.dim():
            found[name.rstrip("_0123456789")] = token.numel() // token.shape[-1]
    return sum(found.values())


def _patch_counts(owner: nn.Module, image: tuple[int, int]) -> set[int]:
    embed = getattr(owner, "patch_embed", None)
    counts = {getattr(embed, "num_patches", None)}
    for size in (getattr(owner, "patch_size", None), getattr(embed, "patch_size", None)):
        if isinstance(size, int):
            size = (size, size)
        if isinstance(size, tuple | list) and len(size) == 2 and all(size):
            counts.add((image[0] // size[0]) * (image[1] // size[1]))
    return {count for count in counts if isinstance(count, int)}


def _is_grid(count: int, image: tuple[int, int]) -> bool:
    """Whether so many patches fill a grid of the image's proportions.

    >>> _is_grid(196, (224, 224)), _is_grid(197, (224, 224)), _is_grid(98, (112, 224))
    (True, False, True)
    """
    return _grid(count, image) is not None


def _grid(count: int, image: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of the grid that so many patches of an image fill; None if they do not."""
    if count < 1:
        return None
    height = max(1, isqrt(count * image[0] // image[1]))
    fits = count % height == 0 and _in_proportion(height, count // height, image)
    return (height, count // height) if fits else None


def _sides(seen: SeenLayer, places: list[int]) -> tuple[int, int] | None:
    """Height and width of a map; None of what lies in windows, or is no map."""
    if len(places) != 2 or seen.windows > 1:
        return None
    return seen.shape[places[0]], seen.shape[places[1]]
