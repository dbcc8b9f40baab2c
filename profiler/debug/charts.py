"""Geometry of the charts that only a diagnosis has: matrix, shares with whiskers, heatmaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.concepts.heatmap import Differential
from profiler.core.arrays import Counts, IntArray
from profiler.core.statistics import wilson
from profiler.debug.encoder_or_head import Shares
from profiler.debug.result import Accuracy
from profiler.report.charts import Segment, StackedBar, Swatch, query
from profiler.report.text import count, percent, plural, share_of

MATRIX_CLASSES = 14
"""With more classes than this, the matrix has only those of the most frequent confusions."""
INVOLVED = 12
"""So many of them, at most."""
ERROR_SHADES = 10
"""Steps of the matrix's colours: ``.e0`` … ``.e10``."""
STATIC_CONCEPTS = 40
"""With more concepts than this, the heatmap drawn without a script has no names on its axes."""

NICE_LIMITS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Ends of the scale of a differential."""


def _ramp(ends: Sequence[tuple[int, int, int]], steps: int) -> tuple[str, ...]:
    """Colours from end to end, evenly in light (linear sRGB between the ends given)."""
    anchors = np.array(ends) / 255
    linear = np.where(anchors <= 0.04045, anchors / 12.92, ((anchors + 0.055) / 1.055) ** 2.4)
    # A cube root of light is about even to the eye.
    at = np.linspace(0, len(ends) - 1, steps)
    even = np.stack(
        [np.interp(at, np.arange(len(ends)), np.cbrt(channel)) for channel in linear.T], axis=1
    )
    light = even**3
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return tuple(
        "#" + "".join(f"{round(255 * value):02x}" for value in colour) for colour in shown.tolist()
    )


DIVERGING = _ramp([(213, 94, 0), (244, 242, 238), (0, 114, 178)], 21)
"""Vermilion through a light neutral to blue (Okabe–Ito), zero in the middle."""
SEQUENTIAL = _ramp([(247, 246, 253), (35, 26, 107)], 21)
"""Probabilities, 0 to 1."""


# -- shares -----------------------------------------------------------------------------------

PARTS = (
    Swatch("head", "c2"),
    Swatch("encoder", "c5"),
    Swatch("undetermined", "c-off", "hatch"),
)
"""In the order of :class:`~profiler.debug.encoder_or_head.Fault`."""


def share_bar(shares: Shares, name: str, *, named: bool = True, pixels: float = 330) -> StackedBar:
    """Head, encoder and undetermined as parts of a set of errors.

    Text stands where it fits into a bar of so many ``pixels``.
    """
    counts = (shares.head, shares.encoder, shares.undetermined)
    segments = []
    before = 0
    for swatch, part in zip(PARTS, counts, strict=True):
        if part:
            x, width = 100 * before / shares.images, 100 * part / shares.images
            text = percent(part, shares.images)
            text = f"{swatch.name} {text}" if named else text
            room, wide = 7 * len(text) + 8, width * 7 if named else 0
            segments.append(
                Segment(
                    swatch,
                    part,
                    x,
                    width,
                    text,
                    "any" if width * pixels / 100 > room else "wide" if wide > room else "none",
                    f"{swatch.name}: {share_of(part, shares.images)} errors",
                )
            )
        before += part
    text = "; ".join(f"{s.swatch.name} {count(int(s.amount))}" for s in segments) or "no errors"
    return StackedBar(name, tuple(segments), shares.images, f"{name}: {text}")


@dataclass(frozen=True)
class Proportion:
    """A share with its interval, as a bar with a whisker on an axis from 0 to 100 %."""

    name: str
    at: float
    low: float
    high: float
    text: str
    counts: str

    @property
    def interval(self) -> str:
        """In words."""
        return f"{self.low:.0f} to {self.high:.0f}"

    @classmethod
    def of(cls, name: str, part: Accuracy) -> "Proportion":
        """Wilson's interval; from 0 to 100 % where there are no images."""
        if not part.images:
            return cls(name, 0.0, 0.0, 100.0, percent(0, 0), "no images")
        low, high = wilson(np.array(part.correct), part.images)
        return cls(
            name,
            100 * part.share,
            100 * float(low),
            100 * float(high),
            percent(part.correct, part.images, 1),
            f"{count(part.correct)} of {count(part.images)}",
        )


def interval_text(shares: Shares) -> str:
    """Head's share of the decided errors with its interval; says so where none is decided.

    >>> interval_text(Shares(8, 2, 5)).replace(chr(0x202F), " ")
    '80 % (49 to 94)'
    """
    found = shares.interval()
    if found is None:
        return "none decided"
    low, high = (100 * end for end in found)
    return f"{percent(shares.head, shares.decided)} ({low:.0f} to {high:.0f})"


# -- confusion matrix -------------------------------------------------------------------------


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix of some or all classes."""

    classes: tuple[int, ...]
    rows: Sequence[Mapping[str, Any]]
    """Of each true class: its cells, and the share of its images that is correct. A cell has the
    shade of its errors (None on the diagonal), and the view that makes the page show its images."""
    whole: bool
    """Whether every class with images or errors is in it."""
    errors: int
    """Errors that lie in it."""


def involved(confusion: Counts) -> list[int]:
    """Classes with images or predictions; if too many, those of the most frequent confusions.

    >>> involved(np.diag([3, 0, 2]))
    [0, 2]
    """
    present: list[int] = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1)).tolist()
    if len(present) <= MATRIX_CLASSES:
        return present
    errors = confusion - np.diag(np.diag(confusion))
    wrong = np.argwhere(errors)
    order = np.argsort(-errors[tuple(wrong.T)], kind="stable")
    chosen: dict[int, None] = {}
    for pair in wrong[order].tolist():
        if len(chosen | dict.fromkeys(pair)) <= INVOLVED:
            chosen |= dict.fromkeys(pair)
    return sorted(chosen)


def matrix(confusion: Counts, names: Sequence[str]) -> Matrix:
    """Lay out the matrix: errors in shades by their number, correct predictions in grey."""
    chosen = involved(confusion)
    part = confusion[np.ix_(chosen, chosen)]
    errors = part - np.diag(np.diag(part))
    most = int(errors.max(initial=0))
    rows = []
    for true, counts, wrong in zip(chosen, part.tolist(), errors.tolist(), strict=True):
        images = int(confusion[true].sum())
        cells = []
        for predicted, found, off in zip(chosen, counts, wrong, strict=True):
            same = true == predicted
            tip = (
                f"{names[true]}: {share_of(found, images)} correct"
                if same
                else f"{names[true]} classified as {names[predicted]}: {plural(found, 'image')}"
                + (f", {percent(found, images)} of the class" if images else "")
            )
            view = query(true=names[true], **({} if same else {"predicted": names[predicted]}))
            # Something never looks like nothing.
            shade = None if same else -(-ERROR_SHADES * off // most) if off else 0
            cells.append(
                {"predicted": predicted, "count": found, "shade": shade, "tip": tip, "view": view}
            )
        correct = percent(int(confusion[true, true]), images)
        rows.append({"true": true, "cells": cells, "correct": correct})
    present = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    return Matrix(tuple(chosen), rows, len(chosen) == int(present.sum()), int(errors.sum()))


# -- the differential of all predictions, for a page without a script ------------------------


@dataclass(frozen=True)
class StaticMap:
    """A differential as one SVG path a colour, in a box of n by n cells."""

    size: int
    names: tuple[str, ...]
    """Empty where they would not be readable."""
    paths: tuple[tuple[str, str], ...]
    """(colour, path)."""
    marks: tuple[tuple[float, float], ...]
    """Centres of the significant cells."""
    limit: float
    alt: str

    @property
    def box(self) -> str:
        """The SVG's view box: the cells, and room for names above and to the left."""
        room = _NAME_ROOM if self.names else 0
        return f"{-room} {-room} {self.size + room} {self.size + room}"

    @property
    def labels(self) -> tuple[tuple[str, float], ...]:
        """Each name, and where its base line is."""
        return tuple((name, place + _BASE_LINE) for place, name in enumerate(self.names))


_NAME_ROOM = 9
_BASE_LINE = 0.68
"""Both in cells."""


def limit_of(values: Sequence[float]) -> float:
    """The end of a scale that holds all of the values.

    >>> limit_of([0.02, -0.3])
    0.5
    """
    most = max((abs(value) for value in values), default=0.0)
    return next((nice for nice in NICE_LIMITS if most <= nice), 1.0)


def static_map(found: Differential, order: IntArray, words: Sequence[str]) -> StaticMap:
    """Draw a differential in a given order of concepts."""
    mean = found.mean[np.ix_(order, order)]
    marked = found.significant()[np.ix_(order, order)]
    n = len(order)
    limit = limit_of([float(np.abs(mean).max(initial=0.0))])
    half = len(DIVERGING) // 2
    shade = np.clip(np.rint(half + half * mean / limit), 0, 2 * half).astype(int)
    np.fill_diagonal(shade, -1)
    paths = []
    for step, colour in enumerate(DIVERGING):
        cells = np.argwhere(shade == step)
        if len(cells):
            drawn = "".join(f"M{column} {row}h1v1h-1z" for row, column in cells.tolist())
            paths.append((colour, drawn))
    return StaticMap(
        n,
        tuple(words[i] for i in order) if n <= STATIC_CONCEPTS else (),
        tuple(paths),
        tuple((column + 0.5, row + 0.5) for row, column in np.argwhere(marked).tolist()),
        limit,
        f"Differential heatmap of {n} concepts, correct minus incorrect predictions: "
        f"{plural(int(marked.sum()) // 2, 'pair differs', 'pairs differ')} beyond chance",
    )
