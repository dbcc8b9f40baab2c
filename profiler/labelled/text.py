"""Text files as people save them, and lists of names in messages."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from profiler.errors import InputError

SHOWN = 10
"""How many labels, files or classes a message lists before it only counts."""


def text_of(path: Path, what: str) -> str:
    """A file's text, which must be UTF-8; ``what`` says in messages what it is."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{what} {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what} {str(path)!r} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error


def rows_of(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank, the header's first."""
    head = text.partition("\n")[0]
    # Spreadsheets write what their country separates lists with.
    separator = next((mark for mark in ",;\t" if mark in head), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: {error}") from error


def listed(items: Sequence[str], *, quote: bool = True) -> str:
    """The first few, and how many more.

    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    shown = ", ".join(repr(item) if quote else item for item in items[:SHOWN])
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"


def counted(items: Sequence[str], noun: str) -> str:
    """``1 file is``, ``2 files are``."""
    return f"1 {noun} is" if len(items) == 1 else f"{len(items)} {noun}s are"


def as_text(name: str) -> str:
    r"""A file's name as text; bytes that are not UTF-8 are written ``\xff``."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")
