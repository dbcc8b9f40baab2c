"""The kinds of arrays that signatures name."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Counts = NDArray[np.int64]
