"""The kinds of arrays that signatures name."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Counts = NDArray[np.int64]


def checked_rows(rows: FloatArray, what: str, first: int = 0) -> Float64:
    """Rows (n, k) in float64; raises :class:`InputError` naming one that is not finite.

    Args:
        rows: to check.
        what: they are, for the message.
        first: number of the first row, for the message.
    """
    if rows.ndim != 2:
        raise InputError(f"{what} must be rows (n, k), not of shape {rows.shape}")
    wide = np.asarray(rows, dtype=np.float64)
    bad = ~np.isfinite(wide).all(axis=1)
    if bad.any():
        row = first + int(np.flatnonzero(bad)[0])
        raise InputError(f"row {row} of the {what} holds NaN or infinite numbers")
    return wide
