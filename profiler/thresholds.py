"""``threshold.json``: a threshold as a file, to be used on other runs of the same context."""

import math
from pathlib import Path
from typing import Any

from profiler.calibration import ExpectedRating
from profiler.core.json_text import from_plain, json_text, read_json
from profiler.core.text import number
from profiler.errors import InputError
from profiler.labels import Threshold

FORMAT = 1
"""Version of ``threshold.json``."""


def threshold_json(threshold: Threshold, expected: ExpectedRating | None = None) -> str:
    """The content of ``threshold.json``."""
    content: dict[str, Any] = {"format": FORMAT, **threshold.to_json()}
    if expected is not None:
        content["expected_rating"] = {
            "score": expected.score.tolist(),
            "rating": expected.rating.tolist(),
        }
    return json_text(content)


def read_threshold(text: str) -> float | Threshold:
    """``--threshold``: a number, or the path of a ``threshold.json``.

    A threshold from a file still has to fit: see :func:`profiler.calibration.in_context`.
    """
    if (value := number(text)) is not None:
        return value
    path = Path(text)
    if not path.exists():
        raise InputError(f"--threshold {text!r} is no finite number, and there is no such file")
    content = read_json(path, "threshold file", (FORMAT,))
    try:
        threshold = from_plain(Threshold, content)
    except ValueError as error:
        raise InputError(f"threshold file {text!r} is damaged: {error}") from error
    if not math.isfinite(threshold.value):
        raise InputError(f"threshold file {text!r} is damaged: its value is {threshold.value}")
    return threshold
