"""The page of a guard's assessment: how well it detects errors, and at which cost."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.core.statistics import Interval, wilson
from profiler.errors import OutputError
from profiler.guard.metrics import GRID, METRICS, RISING, Band
from profiler.guard.page import TITLES, doubts, guard_prose
from profiler.guard.result import COVERAGES, Assessment, Condition, Example
from profiler.report import document
from profiler.report.charts import Tick
from profiler.report.text import (
    MINUS,
    NOTHING,
    THIN,
    count,
    number,
    percent,
    plural,
    share_of,
    typeset,
)

METRIC_NAMES = {
    "auroc": ("AUROC", "higher is better"),
    "aupr": ("AUPR", "defects positive; higher is better"),
    "fpr95": (
        "FPR@95",
        "defects positive: share of correct predictions flagged when 95 % of defects are flagged",
    ),
    "fpr95_kept": (
        "FPR@95, kept",
        "correct predictions positive: share of defects that pass when 95 % of correct "
        "predictions pass",
    ),
    "aurc": ("AURC", "mean risk over coverages; lower is better"),
}
BINS = 40
LINES = ("own", "l1", "l2", "l3", "l4", "l5", "l6")
"""Classes of the lines of a chart: the guard's, then baselines' in a fixed order."""


def render_guard(found: Assessment, pictures: Mapping[int, bytes], *, max_mb: float = 20.0) -> str:
    """Render an assessment as one self-contained HTML file of at most ``max_mb`` · 10⁶ bytes.

    Args:
        found: the assessment.
        pictures: WebP thumbnails of its examples by index, left out if the file would be larger.
        max_mb: the limit.

    Raises:
        OutputError: the file is larger even without pictures.
    """
    limit = int(max_mb * document.MEGABYTE)
    html = _rendered(found, pictures)
    if document.size(html) > limit:
        html = _rendered(found, {})
    if document.size(html) > limit:
        raise OutputError(
            f"the report needs {document.size(html) / document.MEGABYTE:.1f} MB without any "
            f"picture, more than the limit of {max_mb:g} MB"
        )
    return html


def _rendered(found: Assessment, pictures: Mapping[int, bytes]) -> str:
    return document.render(
        "guard/guard.html", extra=("guard/guard",), **_View(found, pictures).context()
    )


# -- charts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A curve in a box of 100 by 100; y runs downwards."""

    name: str
    css: str
    path: str
    band: str
    """Outline of its band; empty without one."""
    value: str
    """Shown beside its name."""


@dataclass(frozen=True)
class Chart:
    """Curves over a share, or AUROC by ε for one attack, and what stands on the axes."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    alt: str
    title: str = ""
    dots: Sequence[Mapping[str, Any]] = ()
    """Values under an attack of some ε, with their whiskers, in percent of the box."""


def _path(x: Any, y: Any) -> str:
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    return "M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in points) if points else ""


def _outline(x: Any, low: Any, high: Any) -> str:
    fine = [
        (a, b, c)
        for a, b, c in zip(x, low, high, strict=True)
        if math.isfinite(b) and math.isfinite(c)
    ]
    if not fine:
        return ""
    there = "L".join(f"{a:.2f} {b:.2f}" for a, b, _ in fine)
    back = "L".join(f"{a:.2f} {c:.2f}" for a, _, c in reversed(fine))
    return f"M{there}L{back}Z"


def _shares(digits: int = 0, top: float = 1.0, steps: int = 4) -> tuple[Tick, ...]:
    return tuple(
        Tick(
            100 * step / steps,
            percent(top * step / steps, 1, digits),
            "start" if step == 0 else "end" if step == steps else "middle",
        )
        for step in range(steps + 1)
    )


class _View:
    """Everything the template prints, worked out once."""

    def __init__(self, found: Assessment, pictures: Mapping[int, bytes]) -> None:
        self.found = found
        self.pictures = pictures
        shown = [self.found.rule, *self.found.baselines]
        self.css = {name: LINES[min(i, len(LINES) - 1)] for i, name in enumerate(shown)}

    def context(self) -> dict[str, Any]:
        found = self.found
        return {
            "page": guard_prose(found),
            "kind": "Guard of a classifier",
            "found": found,
            "tiles": self._tiles(),
            "doubts": [typeset(text) for text in doubts(found)],
            "roc": self._roc(),
            "risk": self._risk(),
            "scores": self._scores(),
            "coverage": self._coverage(),
            "coverages": [percent(each, 1) for each in COVERAGES],
            "overview": self._rows([(each, "auroc") for each in found.conditions]),
            "columns": [self._heading(each) for each in found.conditions],
            "tables": [self._table(each) for each in found.conditions],
            "metrics": [METRIC_NAMES[name] for name in METRICS],
            "attacks": self._attacks(),
            "groups": [
                ("Incorrect predictions that are flagged", "caught", self._cards(found.flagged)),
                ("Incorrect predictions that pass", "missed", self._cards(found.missed)),
                ("Correct predictions that are flagged", "alarms", self._cards(found.alarms)),
            ],
        }

    def title(self, name: str) -> str:
        """A detector's name as printed."""
        if name.startswith("msp+"):
            inner = TITLES[name.removeprefix("msp+")]
            return f"guard: {inner} with MSP" if name == self.found.rule else f"{inner} with MSP"
        return f"guard: {TITLES[name]}" if name == self.found.rule else TITLES.get(name, name)

    def _tiles(self) -> list[tuple[str, str, str]]:
        found, clean = self.found, self.found.clean
        own = clean.metrics[found.rule].auroc
        after = percent(found.passed_right, found.passed, 1) if found.passed else NOTHING
        return [
            ("AUROC", number(own.value, 3), f"incorrect against correct, {_span(own)}"),
            (
                "Accuracy of what passes",
                after,
                f"all images: {percent(clean.right, clean.images, 1)}",
            ),
            (
                "Incorrect predictions flagged",
                percent(clean.flagged_defects, clean.defects),
                f"{count(clean.flagged_defects)} of {count(clean.defects)}",
            ),
            (
                "Correct predictions flagged",
                percent(clean.flagged_right, clean.right, 1),
                f"{count(clean.flagged_right)} of {count(clean.right)}",
            ),
        ]

    # -- curves ----------------------------------------------------------------------------------

    def _line(self, name: str, band: Band, top: float, value: str) -> Line:
        x = 100 * GRID
        own = name == self.found.rule

        def y(values: Any) -> Any:
            return 100 - 100 * np.minimum(values / top, 1.0)

        outline = _outline(x, y(band.low), y(band.high)) if own else ""
        return Line(self.title(name), self.css[name], _path(x, y(band.value)), outline, value)

    def _roc(self) -> Chart:
        found = self.found
        metrics = found.clean.metrics
        # The guard's is drawn last, above the others.
        lines = [
            self._line(name, band, 1.0, number(metrics[name].auroc.value, 3))
            for name, band in found.roc.items()
        ]
        own = metrics[found.rule].auroc
        return Chart(
            tuple(reversed(lines)),
            _shares(),
            _flipped(_shares()),
            "ROC curves: share of incorrect predictions flagged by share of correct predictions "
            "flagged. "
            + "; ".join(f"{line.name} AUROC {line.value}" for line in lines)
            + f". Interval of the guard: {_span(own)}.",
        )

    def _risk(self) -> Chart:
        found = self.found
        metrics = found.clean.metrics
        # The first few images make any curve wild; they do not set the scale.
        highest = max(
            float(np.nanmax(np.r_[band.value[10:], found.risk[found.rule].high[10:]]))
            for band in found.risk.values()
        )
        top = next((each for each in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6) if highest <= each), 1.0)
        lines = [
            self._line(name, band, top, number(metrics[name].aurc.value, 3))
            for name, band in found.risk.items()
        ]
        return Chart(
            tuple(reversed(lines)),
            _shares(),
            _flipped(_shares(1 if top < 0.1 else 0, top)),
            "Risk by coverage: share of incorrect predictions among those that pass. "
            + "; ".join(f"{line.name} AURC {line.value}" for line in lines),
        )

    def _scores(self) -> dict[str, Any]:
        """Two histograms over one axis, correct predictions above it and incorrect ones below."""
        found = self.found
        right = found.right_scores[np.isfinite(found.right_scores)]
        wrong = found.wrong_scores[np.isfinite(found.wrong_scores)]
        both = np.r_[right, wrong]
        low, high = (float(each) for each in np.quantile(both, [0.002, 0.998]))
        cut = found.threshold.value
        if math.isfinite(cut):
            low, high = min(low, cut), max(high, cut)
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, BINS + 1)
        sides = []
        for scores, css, what in ((right, "right", "correct"), (wrong, "wrong", "incorrect")):
            heights, _ = np.histogram(np.clip(scores, low, high), edges)
            share = heights / max(len(scores), 1)
            sides.append((css, what, heights, share))
        most = max(float(share.max()) for *_, share in sides) or 1.0
        bars = [
            {
                "css": css,
                "x": 100 * place / BINS,
                "width": 100 / BINS,
                "height": 46 * float(each) / most,
                # Correct predictions stand on the axis, incorrect ones hang from it.
                "y": 50 - 46 * float(each) / most if css == "right" else 50.0,
                "tip": f"{number(float(edges[place]), 2)} to {number(float(edges[place + 1]), 2)}: "
                f"{share_of(int(heights[place]), int(heights.sum()))} of the {what} predictions",
            }
            for css, what, heights, share in sides
            for place, each in enumerate(share)
            if each
        ]
        at = 100 * (cut - low) / (high - low) if math.isfinite(cut) else None
        ticks = [
            Tick(tick.at, number(low + (high - low) * tick.at / 100, 2), tick.anchor)
            for tick in _shares()
        ]
        clean = found.clean
        return {
            "bars": bars,
            "cut": at,
            "cut_side": "end" if at is not None and at > 60 else "start",
            "cut_text": f"flagged above {number(cut, 2)}",
            "ticks": ticks,
            "alt": f"Scores of {count(clean.right)} correct predictions (above the axis) and of "
            f"{count(clean.defects)} incorrect ones (below); above the threshold are "
            f"{count(clean.flagged_right)} and {count(clean.flagged_defects)}",
        }

    # -- tables ----------------------------------------------------------------------------------

    def _coverage(self) -> list[dict[str, Any]]:
        found = self.found
        best = [
            max(rows[place][0] for rows in found.coverage.values())
            for place in range(len(COVERAGES))
        ]
        return [
            {
                "name": self.title(name),
                "css": self.css[name],
                "own": name == found.rule,
                "cells": [
                    {
                        "text": percent(right, passed, 1),
                        "interval": _wilson(right, passed),
                        "best": accuracy >= best[place] - 1e-12 and place > 0,
                    }
                    for place, (accuracy, right, passed) in enumerate(rows)
                ],
                "at_risk": percent(found.at_risk[name], 1, 1),
            }
            for name, rows in found.coverage.items()
        ]

    def _heading(self, each: Condition) -> str:
        if each.kind == "clean":
            return "misclassified"
        return f"{each.method} {_eps(each.eps)}" if each.kind == "attack" else each.title

    def _rows(self, columns: Sequence[tuple[Condition, str]]) -> list[dict[str, Any]]:
        """Every detector, with a metric in a condition as each column."""
        found = self.found
        names = [*found.rules, *found.baselines]
        best = []
        for condition, metric in columns:
            values = [condition.metrics[name][metric].value for name in names]
            known = [value for value in values if math.isfinite(value)]
            pick = max if metric in RISING else min
            best.append(pick(known) if known else math.nan)
        return [
            {
                "name": self.title(name),
                "own": name == found.rule,
                "concepts": name in found.rules,
                "cells": [
                    {
                        "text": number(value.value, 3),
                        "interval": _span(value),
                        "best": abs(value.value - top) < 5e-4,
                    }
                    for (condition, metric), top in zip(columns, best, strict=True)
                    for value in [condition.metrics[name][metric]]
                ],
            }
            for name in names
        ]

    def _table(self, each: Condition) -> dict[str, Any]:
        lead, best = each.lead.auroc, self.title(each.best.auroc)
        kind = "misclassified" if each.kind == "clean" else "changed and misclassified"
        defects, right = count(each.defects), count(each.right)
        return {
            "heading": "Misclassified unmodified images" if each.kind == "clean" else each.title,
            "counts": f"Accuracy is {percent(each.accuracy, 1, 1)} on {count(each.images)} images. "
            f"The defects are {plural(each.defects, f'{kind} image')}. They are compared with "
            f"{right} correct predictions on unmodified images.",
            "at_threshold": "At the threshold the guard flags "
            f"{percent(each.flagged_defects, each.defects)} of the defects "
            f"({count(each.flagged_defects)} of {defects}) and "
            f"{percent(each.flagged_right, each.right)} of the correct predictions "
            f"({count(each.flagged_right)} of {right})."
            if each.defects
            else "There is no defect.",
            "lead": f"The AUROC of the guard minus that of the best baseline ({best}) is "
            f"{_signed(lead.value)} (95 % interval {_signed(lead.low)} to {_signed(lead.high)})."
            if math.isfinite(lead.value)
            else "",
            "rows": self._rows([(each, name) for name in METRICS]),
        }

    # -- attacks ---------------------------------------------------------------------------------

    def _attacks(self) -> list[Chart]:
        found = self.found
        methods = list(dict.fromkeys(c.method for c in found.conditions if c.kind == "attack"))
        charts = []
        for method in methods:
            own = [c for c in found.conditions if c.kind == "attack" and c.method == method]
            own.sort(key=lambda condition: condition.eps)
            if len(own) < 2:
                continue
            names = [found.rule, *found.baselines]
            places = {c.title: 100 * (i + 0.5) / len(own) for i, c in enumerate(own)}
            lines: list[Line] = []
            dots: list[dict[str, Any]] = []
            for shift, name in enumerate(names):
                off = (shift - (len(names) - 1) / 2) * 16 / len(own) / len(names) * 2
                known = [
                    (places[c.title] + off, c.title, c.metrics[name].auroc)
                    for c in own
                    if math.isfinite(c.metrics[name].auroc.value)
                ]
                dots += [
                    {
                        "x": x,
                        "y": 100 - 100 * auroc.value,
                        "low": 100 - 100 * auroc.low,
                        "high": 100 - 100 * auroc.high,
                        "css": self.css[name],
                        "tip": f"{self.title(name)}, {title}: {number(auroc.value, 3)}, "
                        f"{_span(auroc)}",
                    }
                    for x, title, auroc in known
                ]
                path = _path([x for x, *_ in known], [100 - 100 * each.value for *_, each in known])
                told = " · ".join(number(each.value, 2) for *_, each in known)
                lines.append(Line(self.title(name), self.css[name], path, "", told))
            charts.append(
                Chart(
                    tuple(reversed(lines)),
                    tuple(Tick(places[c.title], _eps(c.eps)) for c in own),
                    tuple(Tick(100 - 25 * i, number(i / 4, 2)) for i in range(5)),
                    f"AUROC under {method} by ε: "
                    + "; ".join(f"{line.name} {line.value}" for line in lines),
                    method,
                    tuple(reversed(dots)),
                )
            )
        return charts

    # -- examples --------------------------------------------------------------------------------

    def _cards(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        return [
            {
                **vars(each),
                "picture": base64.b64encode(self.pictures.get(each.index, b"")).decode("ascii"),
                "score": number(each.score, 2),
                "otherwise": _otherwise(each),
            }
            for each in examples
        ]


def _otherwise(example: Example) -> str:
    """The predictions for the augmented views, in words; empty for a guard without any.

    >>> _otherwise(Example(0, "", "dog", "cat", 1.0, (), {"mirrored": "cat", "up": "dog"}))
    'Augmented views: dog if moved up.'
    """
    if not example.views:
        return ""
    other: dict[str, list[str]] = {}
    for view, name in example.views.items():
        if name != example.predicted:
            other.setdefault(name, []).append(view)
    if not other:
        return "Augmented views: the same prediction."
    texts = (f"{name} if {_changed(views)}" for name, views in other.items())
    return f"Augmented views: {'; '.join(texts)}."


def _changed(views: Sequence[str]) -> str:
    """``mirrored, or moved up or down``."""
    moved = [view for view in views if view != "mirrored"]
    told = f"moved {_or(moved)}" if moved else ""
    return told if len(moved) == len(views) else ", or ".join(filter(None, ["mirrored", told]))


def _or(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _flipped(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    return tuple(Tick(100 - tick.at, tick.text) for tick in ticks)


def _span(value: Interval) -> str:
    """``0.91 to 0.95``; empty where there is no interval."""
    if not math.isfinite(value.low):
        return ""
    return f"{number(value.low, 3)} to {number(value.high, 3)}"


def _signed(value: float) -> str:
    text = number(value, 3)
    return text if text.startswith(MINUS) or not math.isfinite(value) else f"+{text}"


def _wilson(right: int, passed: int) -> str:
    low, high = wilson(np.array(right), passed)
    return f"{number(100 * float(low), 1)} to {number(100 * float(high), 1)}{THIN}%"


def _eps(eps: float) -> str:
    levels = 255 * eps
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-9 else f"{eps:g}"
