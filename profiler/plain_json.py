"""JSON that any program can read, and the reading of what users give as JSON."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def json_text(content: Any) -> str:
    r"""A value as JSON: NaN and infinity, which JSON lacks, become null; NumPy's numbers, plain.

    >>> json_text({"share": float("nan"), "count": np.int64(2)})
    '{\n "share": null,\n "count": 2\n}'
    """
    return json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)


def parse_json(
    text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """A value out of JSON; whatever is wrong with the text is a :class:`ValueError`.

    Args:
        text: JSON, UTF-8 where it is bytes.
        pairs: makes a value of the pairs of each object, in place of a dictionary.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: JSON that is nested too deeply
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


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
