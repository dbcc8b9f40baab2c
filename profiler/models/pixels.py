"""The last two steps of usual preprocessing, as one look into a table: the same bits, sooner.

Scaling to [0, 1] and normalising by colour take four sweeps over an image and give no more than
256 different numbers a colour.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from profiler.models.subject.preprocessing import Preprocess


def by_table(preprocess: Preprocess) -> Preprocess:
    """The same function, faster where it is steps of torchvision that end as usual.

    That is in ``ToTensor`` (or timm's own, which is one) and ``Normalize``. Any other function is
    given back as it is.
    """
    compose: Any = preprocess
    if type(compose) is not transforms.Compose:  # a variety of it may do anything
        return preprocess
    steps = list(compose.transforms)
    if not (_ends_in(steps[:-1], transforms.ToTensor) and _ends_in(steps, transforms.Normalize)):
        return preprocess
    return _ByTable(transforms.Compose(steps[:-2]), transforms.Compose(steps[-2:]))


def _ends_in(steps: Sequence[Any], kind: type) -> bool:
    """Whether the last step is of a kind, and no stranger's variety of it that may do anything."""
    known = ("torchvision", "timm")
    return isinstance(steps[-1] if steps else None, kind) and (
        type(steps[-1]).__module__.partition(".")[0] in known
    )


class _ByTable:
    """Steps from an image to an image, and what the last steps make of every pixel value."""

    def __init__(self, before: Callable[[Any], Any], last: Callable[[Any], Any]) -> None:
        self._before = before
        self._last = last
        ramp = np.arange(256, dtype=np.uint8)
        grey = Image.fromarray(np.stack([ramp, ramp, ramp], axis=1)[None])
        self._table: NDArray[np.floating[Any]] = last(grey)[:, 0].numpy()

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An RGB image → (3, H, W)."""
        cut = self._before(image)
        if not isinstance(cut, Image.Image) or cut.mode != "RGB":
            made: torch.Tensor = self._last(cut)
            return made
        pixels = np.asarray(cut)
        found = np.empty((3, *pixels.shape[:2]), dtype=self._table.dtype)
        for color, values in enumerate(self._table):
            # Without the test of indices that "raise" would make: a byte is one of 256.
            np.take(values, pixels[:, :, color], out=found[color], mode="clip")
        return torch.from_numpy(found)
