"""Augmented views: small changes of an image that keep its content.

They work on a network's input (B, 3, H, W), after the preprocessing, so they cost no decoding.
Whatever is in that input, an attack included, is in the augmented view.
"""

from collections.abc import Callable, Sequence

import torch

from profiler.errors import UnknownNameError, UsageError


def _moved(images: torch.Tensor, axis: int, by: int) -> torch.Tensor:
    """Moved by so many pixels; the edge is repeated."""
    last = images.shape[axis] - 1
    places = torch.arange(last + 1, device=images.device) - by
    return images.index_select(axis, places.clamp(0, last))


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mirrored": lambda images: images.flip(-1),
    "right": lambda images: _moved(images, -1, 1),
    "down": lambda images: _moved(images, -2, 1),
    "left": lambda images: _moved(images, -1, -1),
    "up": lambda images: _moved(images, -2, -1),
}
"""Mirrored left to right, or moved by one pixel of the network's input."""


def parse_views(text: str) -> tuple[str, ...]:
    """Names of augmented views, separated by commas; ``all``: every one; ``none``: no view.

    >>> parse_views("mirrored,up")
    ('mirrored', 'up')
    """
    if text == "none":
        return ()
    names = tuple(VIEWS) if text == "all" else tuple(each.strip() for each in text.split(","))
    check_views(names)
    return names


def check_views(names: Sequence[str]) -> None:
    """Check the names of augmented views.

    Raises:
        UnknownNameError: there is no view of a name.
        UsageError: a view is named twice.
    """
    for name in names:
        if name not in VIEWS:
            raise UnknownNameError("augmented view", name, tuple(VIEWS))
    if len(set(names)) < len(names):
        raise UsageError(f"an augmented view is named twice in {', '.join(names)}")
