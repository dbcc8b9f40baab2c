"""Images of a user's own with what is known of each: a CSV of paths and columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profiler.core.arrays import IntArray
from profiler.core.text import Table, listed, text_of
from profiler.data.factors import Factors
from profiler.data.images import ImageFolder
from profiler.errors import InputError

FILE_COLUMNS = ("image", "file", "path", "filename")
"""What the column of paths may be called."""
MOST_LEVELS = 24
"""A column with more different texts tells images apart rather than sorting them."""
MOST_NUMBERS = 12
"""A column with more different numbers is cut into :data:`QUARTERS`."""
QUARTERS = ("lowest quarter", "lower middle", "upper middle", "highest quarter")
UNKNOWN_LEVEL = "none"
"""What an empty cell stands for."""


@dataclass(frozen=True)
class AnnotatedImages:
    """AnnotatedImages images.

    Attributes:
        probe: the images, in the order of their rows.
        factors: columns with two levels or more.
        left_out: columns that sort nothing: one value, or more than :data:`MOST_LEVELS`.
    """

    probe: ImageFolder
    factors: Factors
    left_out: tuple[str, ...]


def open_annotated(path: Path) -> AnnotatedImages:
    """The images that a CSV names, by paths relative to its folder, and its columns as factors.

    Raises:
        InputError: the file cannot be used, names an image that is not there, or sorts nothing.
    """
    table = Table.parse(text_of(path, "file of annotations"), path.name)
    column = next((name for name in FILE_COLUMNS if table.has(name)), "")
    if not column:
        raise InputError(
            f"{path.name}: no column of paths; call it {', '.join(FILE_COLUMNS[:-1])} or "
            f"{FILE_COLUMNS[-1]}"
        )
    place = table.at(column)
    files = tuple(cells[place].replace("\\", "/") for _, cells in table.rows)
    for (line, _), file in zip(table.rows, files, strict=True):
        if not (path.parent / file).is_file():
            raise InputError(f"{path.name}, line {line}: there is no image {file!r}")
    found: dict[str, tuple[tuple[str, ...], IntArray]] = {}
    left_out = []
    for other, name in enumerate(table.header):
        if other != place:
            levels, codes = _sorted_into([cells[other] for _, cells in table.rows])
            if 1 < len(levels) <= MOST_LEVELS:
                found[name] = levels, codes
            else:
                left_out.append(name)
    if not found:
        raise InputError(
            f"{path.name}: no column sorts the images into 2 to {MOST_LEVELS} kinds; it holds "
            + (listed(left_out) or "paths alone")
        )
    factors = Factors(
        tuple(found),
        tuple(levels for levels, _ in found.values()),
        np.stack([codes for _, codes in found.values()], axis=1),
    )
    return AnnotatedImages(ImageFolder(path.parent, files, path.stem), factors, tuple(left_out))


def _sorted_into(cells: Sequence[str]) -> tuple[tuple[str, ...], IntArray]:
    """The levels of a column, and which each cell is at."""
    known = sorted(set(cells))
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        numbers = np.empty(0)
    if len(known) > MOST_NUMBERS and np.isfinite(numbers).all() and len(numbers):
        edges = np.quantile(numbers, (0.25, 0.5, 0.75))
        codes = np.searchsorted(edges, numbers, side="right")
        used, places = np.unique(codes, return_inverse=True)
        return tuple(QUARTERS[code] for code in used), places
    place = {cell: i for i, cell in enumerate(known)}
    levels = tuple(cell or UNKNOWN_LEVEL for cell in known)
    return levels, np.array([place[cell] for cell in cells], dtype=np.int64)
