"""A run out of somebody else's ``descriptions.csv``: the labels are known, and nothing besides.

CLIP-Dissect and tools like it write a table with a row a unit and the columns ``layer``, ``unit``,
``description`` and ``similarity``. What such a table does not tell (images, activations, p-values,
the concept set, which model read the images) stays empty in the run: see
:mod:`profiler.results`.
"""

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profiler.errors import InputError
from profiler.labels import LayerLabels
from profiler.results import LayerRecord, SourceRecord

NEEDED = ("layer", "unit", "description")
SCORE = "similarity"
_LARGEST_UNIT = 2**31


@dataclass(frozen=True)
class Imported:
    """What a file of descriptions holds.

    Attributes:
        source: the file, and what of it was not used.
        layers: the layers, in the order in which the file names them first.
        labels: their units by ascending number, one label each.
        concepts: the different descriptions, in order of first appearance.
        scored: whether any unit has a score.
    """

    source: SourceRecord
    layers: tuple[LayerRecord, ...]
    labels: tuple[LayerLabels, ...]
    concepts: tuple[str, ...]
    scored: bool


@dataclass(frozen=True)
class _Row:
    line: int
    layer: str
    unit: int
    description: str
    score: float


def read_descriptions(path: Path) -> Imported:
    """Read a CSV file with the columns ``layer,unit,description`` and perhaps ``similarity``.

    Further columns (an index, next labels, …) are ignored; a description or a score may be
    empty. Every other fault is an :class:`InputError` with the line it stands in.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 text (byte {error.start})") from error
    rows = _Table(path.name, text)
    layers: dict[str, dict[int, _Row]] = {}
    concepts: dict[str, int] = {}
    for row in rows:
        units = layers.setdefault(row.layer, {})
        if row.unit in units:
            raise InputError(
                f"{path.name}, line {row.line}: unit {row.unit} of layer {row.layer!r} stands in "
                f"line {units[row.unit].line} already"
            )
        units[row.unit] = row
        if row.description:
            concepts.setdefault(row.description, len(concepts))
    found = [row for units in layers.values() for row in units.values()]
    if not found:
        raise InputError(f"{path.name} holds no unit: there is nothing below its header")
    if not concepts:
        raise InputError(f"{path.name} holds no description: the column is empty throughout")
    ordered = {layer: [units[n] for n in sorted(units)] for layer, units in layers.items()}
    return Imported(
        SourceRecord(
            path.name,
            hashlib.sha256(data).hexdigest(),
            len(found),
            rows.ignored,
            sum(math.isnan(row.score) for row in found),
            sum(not row.description for row in found),
        ),
        tuple(_layer(name, units) for name, units in ordered.items()),
        tuple(_labels(name, units, concepts) for name, units in ordered.items()),
        tuple(concepts),
        any(not math.isnan(row.score) for row in found),
    )


def _layer(name: str, rows: Sequence[_Row]) -> LayerRecord:
    numbers = tuple(row.unit for row in rows)
    running = numbers == tuple(range(len(numbers)))
    return LayerRecord(name, "", (), len(rows), "", () if running else numbers)


def _labels(name: str, rows: Sequence[_Row], concepts: dict[str, int]) -> LayerLabels:
    units = len(rows)
    return LayerLabels(
        name,
        np.array([[concepts.get(row.description, -1)] for row in rows], dtype=np.int64),
        np.array([[row.score] for row in rows], dtype=np.float64),
        np.full(units, np.nan),
        np.zeros(units, dtype=np.bool_),
        np.zeros((units, 0), dtype=np.int64),
        np.zeros((units, 0), dtype=np.float32),
        np.zeros(0),
    )


class _Table:
    """The rows of a CSV text, checked one by one."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [cell.strip() for cell in next(self._lines(), (0, []))[1]]
        if not header:
            raise InputError(f"{name}: the first line is empty; it has to name the columns")
        for column in (*NEEDED, SCORE):
            if header.count(column) > 1:
                raise InputError(f"{name}, line 1: the column {column!r} stands there twice")
        missing = [column for column in NEEDED if column not in header]
        if missing:
            shown = ", ".join(repr(cell[:40]) for cell in header[:8])
            raise InputError(
                f"{name}, line 1: no column {' and no column '.join(map(repr, missing))}; the "
                f"first line has to name layer, unit and description, and here holds {shown}"
            )
        self._columns = len(header)
        self._place = {column: header.index(column) for column in NEEDED}
        self._score = header.index(SCORE) if SCORE in header else None
        self.ignored = tuple(cell for cell in header if cell and cell not in (*NEEDED, SCORE))

    def __iter__(self) -> Iterator[_Row]:
        for line, cells in self._lines():
            if any(cell.strip() for cell in cells):
                yield self._row(line, cells)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Each record with the number of the line it begins in."""
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(f"{self._name}, line {line}: {error}") from error
            yield line, cells

    def _row(self, line: int, cells: Sequence[str]) -> _Row:
        where = f"{self._name}, line {line}"
        if len(cells) != self._columns:
            raise InputError(f"{where}: {len(cells)} fields, but the header has {self._columns}")
        layer, unit, description = (cells[self._place[column]].strip() for column in NEEDED)
        if not layer:
            raise InputError(f"{where}: the layer is empty")
        return _Row(
            line,
            layer,
            _unit(unit, where),
            " ".join(description.split()),
            math.nan if self._score is None else _score(cells[self._score].strip(), where),
        )


def _unit(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= _LARGEST_UNIT:
        raise InputError(f"{where}: the unit {text[:40]!r} is not a whole number from 0 up")
    return int(text)


def _score(text: str, where: str) -> float:
    """A missing score is NaN, as pandas writes it or empty."""
    if text.casefold() in ("", "nan"):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value) or "_" in text:
        raise InputError(f"{where}: the similarity {text[:40]!r} is not a number")
    return value
