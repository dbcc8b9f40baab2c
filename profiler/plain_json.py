"""JSON that any program can read."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def json_text(content: Any) -> str:
    r"""A value as JSON: NaN and infinity, which JSON lacks, become null; NumPy's numbers, plain.

    >>> json_text({"share": float("nan"), "count": np.int64(2)})
    '{\n "share": null,\n "count": 2\n}'
    """
    return json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
