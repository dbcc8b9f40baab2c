"""``threshold.json``: a threshold as a file, to be used on other runs of the same context."""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from profiler.calibration import ExpectedRating
from profiler.errors import InputError
from profiler.labels import Threshold
from profiler.plain_json import parse_json

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
    return json.dumps(content, indent=1, ensure_ascii=False)


def read_threshold(text: str) -> float | Threshold:
    """``--threshold``: a number, or the path of a ``threshold.json``.

    A threshold from a file still has to fit: see :func:`profiler.calibration.in_context`.
    """
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            raise InputError(f"--threshold {text!r} is no number that a score could lie above")
        return number
    path = Path(text)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"--threshold {text!r} is not a valid float, and there is no such file"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"threshold file {text!r} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{text!r} is no threshold file of format {FORMAT}")
    try:
        return TypeAdapter(Threshold).validate_python(content)
    except ValidationError as error:
        raise InputError(
            f"threshold file {text!r} is damaged: {error.errors()[0]['msg']}"
        ) from error
