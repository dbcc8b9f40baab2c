"""Activations with their means taken off, read by blocks of rows: what CKA and matching rest on.

Both need sums of products over all images of two layers. Means come off first: that changes
neither, and keeps small differences from drowning in large means. Numbers are scaled too, so that
no fourth power leaves float64's range.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import Rows, blocks
from profiler.errors import InputError

ROW_BLOCK = 2048
"""Rows read at a time."""

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Centred:
    """A matrix (N, K) of activations, less the mean of each column, over one scale for all.

    Attributes:
        rows: as they lie in memory or on disk.
        mean: (K,) of each column; exactly its value where a column is constant.
        scale: the largest deviation from a mean, so that no entry lies outside [−1, 1]; 1 where
            nothing varies.
        constant: (K,) whether a column is the same on every image.
        squares: (K,) sum of the squares of each column of the centred, scaled matrix.
    """

    rows: Rows
    mean: Float64Array
    scale: float
    constant: NDArray[np.bool_]
    squares: Float64Array

    @classmethod
    def of(cls, rows: Rows) -> "Centred":
        """Read the matrix twice: for the means, then for the deviations from them."""
        images, units = rows.shape
        low, high = np.full(units, np.inf), np.full(units, -np.inf)
        total = np.zeros(units)
        for block in blocks(images, ROW_BLOCK):
            read = np.asarray(rows[block], dtype=np.float64)
            low, high = np.minimum(low, read.min(axis=0)), np.maximum(high, read.max(axis=0))
            total += read.sum(axis=0)
        if not np.isfinite(total).all():
            raise InputError("activations hold NaN or infinite numbers")
        # By the numbers themselves: a mean that is rounded would leave a constant some variance.
        constant = low == high
        mean = np.where(constant, low, total / max(1, images))
        widest = float(np.maximum(high - mean, mean - low).max(initial=0.0))
        found = cls(rows, mean, widest or 1.0, constant, np.zeros(units))
        for block in blocks(images, ROW_BLOCK):
            found.squares[:] += np.square(found[block]).sum(axis=0)
        return found

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice) -> Float64Array:
        """Some rows, centred and scaled."""
        read = np.asarray(self.rows[rows], dtype=np.float64) - self.mean
        read /= self.scale
        return read

    @property
    def units(self) -> int:
        """Number of columns K."""
        return len(self.mean)


def pairs(one: Centred, other: Centred) -> Iterator[tuple[Float64Array, Float64Array]]:
    """The same rows of both, block by block."""
    if len(one) != len(other):
        raise InputError(
            f"activations on {len(one)} images cannot be held against activations on {len(other)}"
        )
    for block in blocks(len(one), ROW_BLOCK):
        yield one[block], other[block]
