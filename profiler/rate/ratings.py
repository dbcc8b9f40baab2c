"""What people said about units: ratings, their file, the sample they are asked for.

A *rating* is one person's answer to one question: does this description fit the images of the unit
(:mod:`profiler.rate.views`)? Yes = 1, Maybe = 0.5, No = 0 (Li & Weng, *Profiling Vision Neural
Networks with CLIP-DISSECT*, 2023); a unit may also be skipped. What follows from ratings is in
:mod:`profiler.rate.calibration`.

The file is CSV with the columns :data:`COLUMNS`. It may grow only at its end, so an answer that is
taken back stays there, followed by a row that says ``undo``.
"""

import csv
import io
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from profiler.core.arrays import FloatArray
from profiler.core.text import Table, tidy
from profiler.errors import InputError

YES, MAYBE, NO = 1.0, 0.5, 0.0
CONFIDENCE = 0.95
"""Of all intervals of ratings."""

COLUMNS = ("rater", "layer", "unit", "description", "rating", "time", "run")
"""``run`` comes last: a row that was cut off cannot be taken for a whole one."""
_NEEDED = ("rater", "layer", "unit", "rating", "run")
_SKIP, _UNDO = "skip", "undo"

Unit = tuple[str, int]
"""Layer and index within the layer."""


@dataclass(frozen=True)
class Rating:
    """One rater's answer about one unit."""

    rater: str
    layer: str
    unit: int
    value: float | None
    """1, 0.5 or 0; None where the rater skipped the unit."""
    time: str = ""
    """When it was given, as ISO 8601; may be empty."""

    @property
    def about(self) -> Unit:
        """The unit that was rated."""
        return self.layer, self.unit

    @property
    def by(self) -> tuple[str, str, int]:
        """Rater and unit: no two ratings share them."""
        return self.rater, self.layer, self.unit


# -- raters ------------------------------------------------------------------------------------

_LONGEST_NAME = 40
_WITHIN_NAMES = frozenset(" .'-‐‑·・\u200c\u200d")  # the last two join letters


def check_rater(name: str) -> str:
    """A rater's name as it is kept: see :func:`profiler.core.text.tidy`.

    Letters and digits of every script are welcome, with the marks that go with them. Raises
    :class:`InputError` on what is no name.

    >>> check_rater("  Anna  B. ")
    'Anna B.'
    """
    kept = tidy(name)
    kinds = [unicodedata.category(sign)[0] for sign in kept]
    fits = all(
        kind in "LMN" or sign in _WITHIN_NAMES or sign == "_"
        for sign, kind in zip(kept, kinds, strict=True)
    )
    if not (fits and 0 < len(kept) <= _LONGEST_NAME and kinds[0] in "LN"):
        raise InputError(
            f"{name!r} is no rater's name: write 1 to {_LONGEST_NAME} letters, digits, blanks or "
            ". - ' and begin with a letter or digit"
        )
    return kept


# -- the file ----------------------------------------------------------------------------------


def header_line() -> str:
    """First line of a ratings file."""
    return ",".join(COLUMNS) + "\n"


def rating_line(
    rating: Rating, description: str, run: str, action: Literal["rate", "undo"] = "rate"
) -> str:
    r"""One row of a ratings file; ``action="undo"`` takes the rating back.

    >>> rating_line(Rating("anna", "fc", 3, MAYBE), "dog", "0123")
    'anna,fc,3,dog,0.5,,0123\n'
    """
    answer = _SKIP if rating.value is None else f"{rating.value:g}"
    if action == "undo":
        answer = _UNDO
    file = io.StringIO()
    row = (rating.rater, rating.layer, rating.unit, description, answer, rating.time, run)
    csv.writer(file, lineterminator="\n").writerow(row)
    return file.getvalue()


def write_ratings(ratings: Iterable[Rating], units: Mapping[Unit, str], run: str) -> str:
    """A ratings file with the answers that stand, without those taken back."""
    lines = [rating_line(rating, units[rating.about], run) for rating in ratings]
    return "".join([header_line(), *lines])


def read_ratings(
    text: str,
    source: str,
    units: Mapping[Unit, str],
    run: str,
    elsewhere: Mapping[str, str] | None = None,
) -> tuple[Rating, ...]:
    """The ratings that stand in a file, in the order they were given.

    Columns are found by their names, in any order; ``description`` and ``time`` may be missing.
    :class:`profiler.core.text.Table` says what a table may look like; another column does no harm.
    Everything is checked, and the first row that cannot be used is named by its line.

    Args:
        text: content of the file.
        source: what the messages call it.
        units: description of every unit that can be rated.
        run: fingerprint of the run they belong to.
        elsewhere: where rows with other fingerprints belong, to say so.

    Raises:
        InputError: on a unit the run does not have or that has no description, a description
            other than the run's, a value other than 0, 0.5, 1, ``skip`` and ``undo``, a second
            rating by the same rater of the same unit, or a row from another run.
    """
    if not text.strip():
        raise InputError(f"{source} is empty; its first line should be {header_line().strip()}")
    table = Table.parse(text, source, _NEEDED)
    places = {name: table.at(name) for name in COLUMNS if table.has(name)}
    found: dict[tuple[str, str, int], tuple[int, Rating]] = {}
    values = table.numbers("rating")
    for (line, row), value in zip(table.rows, values, strict=True):
        try:
            cells = {name: row[place] for name, place in places.items()}
            _check_run(cells["run"], run, elsewhere or {})
            _take(cells, value, units, found, line)
        except InputError as error:
            raise InputError(f"{source}, line {line}: {error}") from error
    return tuple(rating for _, rating in found.values())


def _check_run(given: str, run: str, elsewhere: Mapping[str, str]) -> None:
    if given in elsewhere:
        raise InputError(f"the row answers the questions of {elsewhere[given]}, not these")
    if given != run:
        raise InputError(
            f"the row belongs to another run ({given or 'none named'}); this one is {run}"
        )


def _take(
    cells: Mapping[str, str],
    value: float | None,
    units: Mapping[Unit, str],
    found: dict[tuple[str, str, int], tuple[int, Rating]],
    line: int,
) -> None:
    """Check one row and let it act on the ratings found so far."""
    rater = check_rater(cells["rater"])
    about = _unit(cells["layer"], cells["unit"], units)
    given = cells.get("description")
    if given is not None and tidy(given) != tidy(units[about]):
        raise InputError(
            f"unit {about[1]} of {about[0]!r} is described as {units[about]!r} in this run, "
            f"not {given!r}"
        )
    answer = cells["rating"]
    key = (rater, *about)
    if answer == _UNDO:
        if key not in found:
            raise InputError(f"{rater} takes back a rating of unit {about[1]} of {about[0]!r} "
                             "that was not given")  # fmt: skip
        del found[key]
        return
    if key in found:
        raise InputError(
            f"{rater} has rated unit {about[1]} of {about[0]!r} before, on line {found[key][0]}"
        )
    if answer != _SKIP and value not in (YES, MAYBE, NO):
        raise InputError(f"rating {answer!r} is none of 0, 0.5, 1, skip and undo")
    value = None if answer == _SKIP else abs(value or 0.0)  # there is a −0
    found[key] = line, Rating(rater, *about, value, cells.get("time", ""))


def _unit(layer: str, unit: str, units: Mapping[Unit, str]) -> Unit:
    if not (unit.isascii() and unit.isdigit()):
        raise InputError(f"unit {unit!r} is no whole number")
    about = (layer, int(unit))
    if about not in units:
        if not any(known == layer for known, _ in units):
            raise InputError(f"this run has no layer {layer!r} with units to rate")
        raise InputError(f"layer {layer!r} has no unit {unit} with a score")
    return about


# -- the sample --------------------------------------------------------------------------------


def sample_units(strata: Mapping[str, Sequence[int]], per_layer: int, seed: int) -> list[Unit]:
    """The units that every rater is asked about, in order.

    From each layer ``per_layer`` units are drawn without replacement, all where there are fewer:
    a stratified simple random sample. A larger ``per_layer`` continues a smaller one, layer by
    layer. The layers are mixed in proportion, so whoever stops early has rated a stratified
    sample too: the i-th of a layer's n units takes a random place in [i/n, (i+1)/n).

    >>> sample_units({"conv": [0, 1, 2, 3], "fc": [7]}, per_layer=2, seed=0)
    [('conv', 2), ('conv', 0), ('fc', 7)]
    """
    if per_layer < 1:
        raise InputError(f"a sample needs at least one unit a layer, not {per_layer}")
    placed: list[tuple[float, Unit]] = []
    for index, (layer, units) in enumerate(strata.items()):
        rng = np.random.default_rng([seed, index])
        drawn = rng.permutation(np.asarray(units, dtype=np.int64))[:per_layer].tolist()
        jitter = rng.random(len(units))
        for place, unit in enumerate(drawn):
            placed.append(((place + float(jitter[place])) / len(drawn), (layer, unit)))
    return [unit for _, unit in sorted(placed)]


# -- agreement ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on the units that several of them rated.

    Attributes:
        alpha: Krippendorff's α; None where it is not defined.
        low, high: bootstrap interval of α; None where it is not defined.
        units: units with two ratings or more.
        same: share of the pairs of ratings of a unit that are equal; None without any.
    """

    alpha: float | None
    low: float | None
    high: float | None
    units: int
    same: float | None


def agreement(table: FloatArray, *, draws: int = 2000, seed: int = 0) -> Agreement:
    """Krippendorff's α with a percentile interval from resampled units; the share of equal pairs.

    α = 1 − D_o / D_e, with the interval metric δ² = (a − b)²: the mean squared difference within
    units, each unit's pairs weighted by 1/(m−1) for its m ratings, over that of any two ratings
    whatever unit they belong to. Units with one rating do not count. See Krippendorff, *Computing
    Krippendorff's Alpha-Reliability* (2011), and Hayes & Krippendorff, *Communication Methods and
    Measures* 1 (2007). The interval metric suits 0, 0.5 and 1: Yes against No is four times as bad
    as Yes against Maybe. α is not defined where no unit has two ratings or all ratings are equal.

    Args:
        table: (units, raters) ratings, NaN where there is none.
        draws: of the units.
        seed: of the draws.

    >>> round(agreement(np.array([[1, 1], [0, 0], [1, 0.5], [0.5, np.nan]])).alpha, 3)
    0.828
    """
    within, counts, values = _coincidences(table)
    alpha = _alpha(within.sum(), counts.sum(axis=0), values)
    low = high = None
    if alpha is not None:
        rng = np.random.default_rng(seed)
        drawn = [
            _alpha(float(times @ within), times @ counts, values)
            for times in rng.multinomial(len(within), np.full(len(within), 1 / len(within)), draws)
        ]
        defined = [value for value in drawn if value is not None]
        tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        low, high = (float(q) for q in np.quantile(defined or [math.nan], tails))
    given = counts.sum(axis=1)
    pairs = int((given * (given - 1) / 2).sum())
    equal = float((counts * (counts - 1) / 2).sum())
    return Agreement(alpha, low, high, len(within), equal / pairs if pairs else None)


def _coincidences(table: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Per unit with two ratings or more: disagreement within, and ratings by value."""
    rated = table[np.isfinite(table).sum(axis=1) >= 2]
    values = np.unique(rated[np.isfinite(rated)])
    counts = (rated[:, :, None] == values).sum(axis=1).astype(np.float64)
    distance = (values[:, None] - values) ** 2
    given = counts.sum(axis=1)
    within = np.einsum("uc,ck,uk->u", counts, distance, counts) / np.maximum(given - 1, 1)
    return within, counts, values


def _alpha(within: float, counts: FloatArray, values: FloatArray) -> float | None:
    # n ratings: D_o = within / n and D_e = between / (n (n − 1)).
    between = float(counts @ ((values[:, None] - values) ** 2) @ counts)
    if not between > 0:
        return None
    return float(1 - (counts.sum() - 1) * within / between)


def rating_table(ratings: Sequence[Rating]) -> tuple[list[Unit], list[str], FloatArray]:
    """Units, raters, and the (units, raters) table of ratings; NaN where there is none.

    Units that were only skipped are left out; raters come in alphabetical order.
    """
    given = [rating for rating in ratings if rating.value is not None]
    units = list(dict.fromkeys(rating.about for rating in given))
    raters = sorted({rating.rater for rating in given})
    table = np.full((len(units), len(raters)), np.nan)
    rows = {unit: row for row, unit in enumerate(units)}
    for rating in given:
        table[rows[rating.about], raters.index(rating.rater)] = rating.value
    return units, raters, table
