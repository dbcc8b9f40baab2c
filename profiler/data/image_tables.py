"""Images of a user's own with what is known of each: a CSV of paths and columns."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profiler.core.arrays import IntArray
from profiler.core.text import Table, listed, text_of, tidy
from profiler.data.factors import Factors
from profiler.data.images import ImageFolder
from profiler.errors import InputError

PATHS = ("path", "image", "file", "filename")
"""What the column of paths may be called."""
MOST_LEVELS = 24
"""A column with more different texts tells images apart rather than sorting them."""
MOST_NUMBERS = 12
"""A column with more different numbers is cut into :data:`QUARTERS`."""
QUARTERS = ("lowest quarter", "lower middle", "upper middle", "highest quarter")
UNKNOWN_LEVEL = "none"
"""What an empty cell stands for."""


@dataclass(frozen=True)
class ImageTable:
    """A table with a row an image.

    Attributes:
        table: all of it.
        paths: of each row its image, with slashes.
        names: of the other columns; one without a name numbers the rows and is passed over.
    """

    table: Table
    paths: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "ImageTable":
        """Read a file.

        Raises:
            InputError: it cannot be read, has no column of paths or nothing below its header.
        """
        table = Table.parse(text_of(path, "file of annotations"), path.name)
        column = next(filter(table.has, PATHS), "")
        if not column:
            raise InputError(
                f"{path.name}, line {table.first}: no column of paths; call it "
                f"{', '.join(PATHS[:-1])} or {PATHS[-1]}"
            )
        if not table.rows:
            raise InputError(f"{path.name} annotates no image: there is nothing below its header")
        place = table.at(column)
        paths = tuple(cell.replace("\\", "/") for cell in table.cells(column))
        names = [tidy(name) for i, name in enumerate(table.header) if name and i != place]
        return cls(table, paths, tuple(names))

    @property
    def lines(self) -> tuple[int, ...]:
        """Of each row, the line it begins in."""
        return tuple(line for line, _ in self.table.rows)


@dataclass(frozen=True)
class AnnotatedImages:
    """Images that a table sorts.

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
    rows = ImageTable.read(path)
    for line, file in zip(rows.lines, rows.paths, strict=True):
        if not (path.parent / file).is_file():
            raise InputError(f"{path.name}, line {line}: there is no image {file!r}")
    every = {name: _sorted_into(rows.table, name) for name in rows.names}
    found = {name: each for name, each in every.items() if 1 < len(each[0]) <= MOST_LEVELS}
    left_out = tuple(name for name in every if name not in found)
    if not found:
        raise InputError(
            f"{path.name}: no column sorts the images into 2 to {MOST_LEVELS} kinds; it holds "
            + (listed(left_out) or "paths alone")
        )
    codes = np.stack([codes for _, codes in found.values()], axis=1)
    factors = Factors(tuple(found), tuple(levels for levels, _ in found.values()), codes)
    return AnnotatedImages(ImageFolder(path.parent, rows.paths, path.stem), factors, left_out)


def _sorted_into(table: Table, name: str) -> tuple[tuple[str, ...], IntArray]:
    """The levels of a column, and which each row is at."""
    cells, numbers = table.cells(name), table.numbers(name)
    known = sorted(set(cells))
    if len(known) > MOST_NUMBERS and None not in numbers:
        values = np.array(numbers, dtype=np.float64)
        codes = np.searchsorted(np.quantile(values, (0.25, 0.5, 0.75)), values, side="right")
        used, places = np.unique(codes, return_inverse=True)
        return tuple(QUARTERS[code] for code in used), places
    place = {cell: i for i, cell in enumerate(known)}
    levels = tuple(cell or UNKNOWN_LEVEL for cell in known)
    return levels, np.array([place[cell] for cell in cells], dtype=np.int64)
