"""Which part of a picture a network sees: measured through its own preprocessing.

Whatever resizes, crops, pads or squashes, be it a recipe or a user's function, is shown a picture
in which red says how far right a pixel lies and green how far down. What it makes of that picture
says where each of its pixels comes from; no formula of any preprocessing is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import numpy as np
from PIL import Image

from profiler.core.arrays import BoolArray, Float64, FloatArray
from profiler.models.subject.preprocessing import Preprocess

_BLUE = 191
"""Of the whole picture: what is padded with black, white or a mean has another blue."""
_SLACK = 0.02
"""How far blue may lie from it, and red and green from a straight line, as a share of the range."""
_LINES = 24
"""Lines along which each axis is measured, about."""
_FEWEST = 3
"""Columns, and rows, that must come from the picture."""


@dataclass(frozen=True)
class Frame:
    """Where the edges of a network's input lie in a picture, in fractions of its sides.

    Below 0 or above 1 where the input is padded beyond the picture.

    >>> Frame(0.125, 0, 0.875, 1).place(np.array([[0, 0.25]])).tolist()
    [[0.125, 0.25]]
    >>> Frame(0.125, 0, 0.875, 1).seen
    (0.125, 0, 0.875, 1)
    """

    left: float
    top: float
    right: float
    bottom: float

    def place(self, points: Float64) -> Float64:
        """Points (n, 2) of the input, x and y in fractions of its sides, in the picture."""
        start, end = np.array([self.left, self.top]), np.array([self.right, self.bottom])
        placed: Float64 = start + points * (end - start)
        return placed

    @property
    def seen(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the part of the picture that the network sees."""
        return max(self.left, 0), max(self.top, 0), min(self.right, 1), min(self.bottom, 1)


def frames_of(preprocess: Preprocess) -> Callable[[tuple[int, int]], Frame | None]:
    """A function from the (width, height) of a picture to what a preprocessing shows of it.

    It gives None where that cannot be measured: the preprocessing turns or mirrors, does something
    to colours that is no linear mixing of them, or shows nothing of the picture.
    """
    mixing = cache(partial(_mixing, preprocess))

    @lru_cache(maxsize=4096)
    def frame(size: tuple[int, int]) -> Frame | None:
        try:
            known = mixing()
            return None if known is None else _frame(preprocess, size, known)
        except Exception:  # whatever a preprocessing stumbles over
            return None

    return frame


def _mixing(preprocess: Preprocess) -> Float64 | None:
    """(3, 4): from a pixel as the network is given it, and 1, to red, green and blue in [0, 1]."""
    colors = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    made = []
    for color in colors:
        red, green, blue = (255 * color).tolist()
        plain = preprocess(Image.new("RGB", (64, 64), (red, green, blue)))
        pixels = np.asarray(plain, np.float64)
        made.append(pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2])
    base, mixed = made[0], np.array(made[1:]).T - made[0][:, None]
    if mixed.shape != (3, 3) or np.linalg.cond(mixed) > 1e3:
        return None
    back = np.linalg.inv(mixed)
    return np.hstack([back, -(back @ base)[:, None]])


def _frame(preprocess: Preprocess, size: tuple[int, int], mixing: Float64) -> Frame | None:
    width, height = size
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, :, 0] = np.rint(255 * (np.arange(width) + 0.5) / width)
    picture[:, :, 1] = np.rint(255 * (np.arange(height) + 0.5) / height)[:, None]
    picture[:, :, 2] = _BLUE
    made = preprocess(Image.fromarray(picture)).numpy()
    # Each axis is measured along lines across the other: so many are enough.
    rows, columns = (
        slice(step // 2, None, step) for step in (1 + s // _LINES for s in made.shape[1:])
    )
    across = _line(*_mixed(made[:, rows], mixing, 0))
    down = _line(*_mixed(made[:, :, columns].swapaxes(1, 2), mixing, 1))
    if across is None or down is None:
        return None
    return Frame(across[0], down[0], sum(across), sum(down))


def _mixed(made: FloatArray, mixing: Float64, color: int) -> tuple[FloatArray, BoolArray]:
    """One colour of every pixel, in [0, 1], and which pixels are of the picture."""
    values, blue = (np.tensordot(row[:3], made, 1) + row[3] for row in (mixing[color], mixing[2]))
    return values, np.abs(blue - _BLUE / 255) < _SLACK


def _line(values: FloatArray, inside: BoolArray) -> tuple[float, float] | None:
    """Start and length of a straight line through the columns; None where there is none."""
    known: BoolArray = np.any(inside, axis=0)
    if known.sum() < _FEWEST:
        return None
    values, inside = values[:, known], inside[:, known]
    means = np.where(inside, values, 0).sum(axis=0) / inside.sum(axis=0)
    places = (np.flatnonzero(known) + 0.5) / len(known)
    # The outermost may be mixed with what is padded.
    inner = slice(1, -1) if len(places) > _FEWEST + 2 else slice(None)
    length, start = np.polyfit(places[inner], means[inner], 1)
    off = np.abs(start + length * places - means)[inner].max()
    spread = np.where(inside, np.abs(values - means), 0).max()
    if length <= 0 or off > _SLACK or spread > _SLACK:
        return None
    return float(start), float(length)
