"""The kinds of arrays that signatures name."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Counts = NDArray[np.int64]

Item = TypeVar("Item")


def checked_rows(rows: FloatArray, what: str) -> Float64:
    """Rows (n, k) in float64; raises :class:`InputError` naming one that is not finite.

    Args:
        rows: to check.
        what: they are, for the message.
    """
    if rows.ndim != 2:
        raise InputError(f"{what} must be rows (n, k), not of shape {rows.shape}")
    wide = np.asarray(rows, dtype=np.float64)
    bad = ~np.isfinite(wide).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"row {row} of the {what} holds NaN or infinite numbers")
    return wide


class Rows(Protocol):
    """The rows of a matrix that may lie on disk: an array, or something that reads like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> FloatArray: ...


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``count``.

    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for lo in range(0, count, size):
        yield slice(lo, min(lo + size, count))


def split(items: Sequence[Item], sizes: Sequence[int]) -> list[list[Item]]:
    """A sequence as lists of these sizes, in order.

    >>> split("abcd", [1, 3])
    [['a'], ['b', 'c', 'd']]
    """
    rest = iter(items)
    return [list(islice(rest, size)) for size in sizes]
