"""A run out of somebody else's ``descriptions.csv``: the labels are known, and nothing besides.

CLIP-Dissect and tools like it write a table with a row a unit and the columns ``layer``, ``unit``,
``description`` and ``similarity``. What such a table does not tell (images, activations, p-values,
the concept set, which model read the images) stays empty in the run: see
:mod:`profiler.profile.result`.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profiler.core.text import Table, decoded, tidy
from profiler.errors import InputError
from profiler.models.records import LayerRecord
from profiler.profile.labels import LayerLabels
from profiler.profile.result import SourceRecord

NEEDED = ("layer", "unit", "description")
SCORE = "similarity"
USED = (*NEEDED, SCORE)
_NO_SCORE = ("", "nan", "na", "n/a", "null", "none")
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
    empty. :class:`profiler.core.text.Table` says what a table may look like. Every other fault is
    an :class:`InputError` with the line it stands in.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    table = Table.parse(decoded(data, path.name), path.name, NEEDED)
    layers: dict[str, dict[int, _Row]] = {}
    concepts: dict[str, int] = {}
    for row in _rows(table):
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
            tuple(cell for cell in table.header if cell and cell.casefold() not in USED),
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


def _rows(table: Table) -> Iterator[_Row]:
    """The rows of a table, checked one by one."""
    places = [table.at(column) for column in NEEDED]
    score = table.at(SCORE) if table.has(SCORE) else None
    numbers = [None] * len(table.rows) if score is None else table.numbers(SCORE)
    for (line, cells), value in zip(table.rows, numbers, strict=True):
        where = f"{table.source}, line {line}"
        layer, unit, description = (tidy(cells[place]) for place in places)
        if not layer:
            raise InputError(f"{where}: the layer is empty")
        if value is None:
            # A missing score is NaN, as pandas and R write it, or empty.
            if score is not None and cells[score].casefold() not in _NO_SCORE:
                raise InputError(f"{where}: the similarity {cells[score][:40]!r} is not a number")
            value = math.nan
        yield _Row(line, layer, _unit(unit, where), description, value)


def _unit(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= _LARGEST_UNIT:
        raise InputError(f"{where}: the unit {text[:40]!r} is not a whole number from 0 up")
    return int(text)
