"""Our own files in JSON: the one way to write them, and the one way to read them back."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from profiler.errors import InputError

T = TypeVar("T")

_DEEPEST = 100
"""Levels of nesting, far more than any file of ours has."""


def plain(value: Any) -> Any:
    """A value as JSON has it.

    A dataclass becomes an object of its fields, an enumeration the name of its member in small
    letters, a path its text. NaN, which is not known, becomes null; infinity becomes the text
    ``Infinity`` or ``-Infinity``, which ``float`` reads in most languages.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, str):
        # The name of a file need not be text; what of it is none is written as Python escapes it.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {plain(str(plain(key))): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, AbstractSet):
        return sorted(map(plain, value))
    if isinstance(value, PurePath):
        return plain(str(value))
    raise TypeError(f"JSON has no {type(value).__name__}")


def json_text(content: Any, indent: int | None = 1) -> str:
    r"""A value as JSON that any program can read; see :func:`plain`.

    >>> json_text({"share": float("nan"), "count": np.int64(2)})
    '{\n "share": null,\n "count": 2\n}'
    """
    return json.dumps(plain(content), indent=indent, ensure_ascii=False, allow_nan=False)


def parse_json(
    content: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """The value that JSON stands for.

    Args:
        content: JSON, UTF-8 where it is bytes.
        pairs: makes a value of the pairs of each object, in place of a dictionary.

    Raises:
        ValueError: with the reason, also where it is nested so deeply that whoever walks through
            it would not come back.
    """
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start} is no UTF-8 text") from None
    if not content.strip():
        raise ValueError("it is empty")
    try:
        found = json.loads(content, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"it is no JSON or was cut off ({where}: {error.msg})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [found] if isinstance(found, dict | list) else []
    for _ in range(_DEEPEST):
        level = [
            each
            for outer in level
            for each in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(each, dict | list)
        ]
    if level:
        raise ValueError("it is nested too deeply")
    return found


def read_json(path: Path | str, what: str, formats: Sequence[int] = ()) -> dict[str, Any]:
    """The object in a file of ours.

    Args:
        path: of the file.
        what: it should be, for people, for example ``file of certificates``.
        formats: versions of it that can be read; with none its ``format`` is not looked at.

    Raises:
        InputError: it cannot be read, is damaged, is something else, or of another version.
    """
    try:
        content = parse_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{what} {str(path)!r} is damaged: {error}") from error
    check_format(content, f"{str(path)!r}", what, formats)
    found: dict[str, Any] = content
    return found


def check_format(content: Any, where: str, what: str, formats: Sequence[int]) -> None:
    """Raise :class:`InputError` unless the content is an object of one of these formats."""
    if not isinstance(content, dict):
        raise InputError(f"{where} is no {what}: it holds no JSON object")
    if not formats:
        return
    found = content.get("format")
    if type(found) is not int:
        raise InputError(f"{where} is no {what}: it does not say its format")
    if found not in formats:
        readable = " and ".join(map(str, formats))
        newer = ", which a newer profiler wrote" if found > max(formats) else ""
        raise InputError(
            f"{where} is a {what} of format {found}{newer}; this version reads {readable}"
        )


def from_plain(kind: type[T], content: Any) -> T:
    """A value by its type hints, from what :func:`plain` made of it.

    Raises:
        ValueError: with what is wrong and where, on one line.
    """
    try:
        found: T = TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from error
    return found
