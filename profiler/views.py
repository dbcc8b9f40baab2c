"""The same images, seen otherwise: changes after which an image still shows what it showed.

They work on a network's input (B, 3, H, W), after the preprocessing, so they cost no decoding, and
whatever is in that input, an attack as well, is in the view.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import pad

from profiler.errors import UnknownNameError, UsageError


def _moved(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """By a pixel at most; what comes in repeats the edge."""
    height, width = images.shape[-2:]
    padded = pad(images, (1, 1, 1, 1), mode="replicate")
    return padded[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mirrored": lambda images: images.flip(-1),
    "right": lambda images: _moved(images, 0, 1),
    "down": lambda images: _moved(images, 1, 0),
    "left": lambda images: _moved(images, 0, -1),
    "up": lambda images: _moved(images, -1, 0),
}
"""Mirrored left to right; moved by one pixel of what the network reads."""


def parse_views(text: str) -> tuple[str, ...]:
    """Names, with commas; ``all``: every one; ``none``: no view.

    >>> parse_views("mirrored,up")
    ('mirrored', 'up')
    """
    if text == "none":
        return ()
    names = tuple(VIEWS) if text == "all" else tuple(each.strip() for each in text.split(","))
    check_views(names)
    return names


def check_views(names: Sequence[str]) -> None:
    """Raise unless each is known, and named once."""
    for name in names:
        if name not in VIEWS:
            raise UnknownNameError("view", name, tuple(VIEWS))
    if len(set(names)) < len(names):
        raise UsageError(f"a view is named twice in {', '.join(names)}")
