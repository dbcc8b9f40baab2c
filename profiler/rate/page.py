"""The calibration page: what people's ratings say about labels, and the threshold they give."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from profiler.core.statistics import Interval
from profiler.profile.charts import ScoreAxis
from profiler.profile.result import ProfileRun
from profiler.profile.threshold import ExpectedRating
from profiler.rate.calibration import Calibration, Curve, RatedLayer
from profiler.rate.ratings import CONFIDENCE
from profiler.rate.views import View, context_of, file_name, scored_layers
from profiler.report import document
from profiler.report.charts import Tick
from profiler.report.text import NOTHING, count, decimals, number, percent, plural, share_of

_CONFIDENCE = percent(CONFIDENCE, 1)


def render_calibration(
    run: ProfileRun,
    found: Calibration,
    expected: ExpectedRating | None,
    *,
    source: str,
    command: str,
    date: str,
) -> str:
    """Render a calibration as one self-contained HTML file.

    Args:
        run: that was rated.
        found: the calibration.
        expected: rating by score, if it was asked for.
        source: file the ratings came from.
        command: as given.
        date: of the calibration.
    """
    view = _View(run, found)
    page = {
        "title": f"Do the {WORDING[found.view]['what']}s of {run.record.subject.name} fit?",
        "examined": _examined(run, found, source, date),
        "summary": verdict(found),
        "summary_author": "a fixed template",
        "command": command,
        "provenance": _provenance(run, found),
        "limits": _limits(found.view),
        "warnings": [],
    }
    return document.render("rate/calibration.html", page=page, **view.context(expected))


WORDING: Mapping[View, Mapping[str, str]] = {
    "peak": {
        "what": "label",
        "rated": "a label by ten images",
        "score": "score",
        "high": "high scores",
        "cut": "score of a unit’s label",
        "trusted": "interpretable",
    },
    "range": {
        "what": "explanation",
        "rated": "an explanation by nine images of the range",
        "score": "r",
        "high": "a high r",
        "cut": "r of a unit’s explanation, all words",
        "trusted": "explained",
    },
}
"""What the page calls what was rated, and the number that is cut."""


def _limits(view: View) -> tuple[str, ...]:
    return (
        "The intervals are about other units, rated by the same people. Other people may "
        "rate otherwise; where several rated, their agreement says how much.",
        f"Rating {WORDING[view]['rated']} says whether the words fit these images, not what the "
        "unit does in the network.",
        "The mean rating above τ was used to find τ, so it is near the target by construction. "
        "Its interval takes τ as fixed.",
        "Means by layer rest on few units; read their intervals before comparing layers.",
    )


# -- in words ----------------------------------------------------------------------------------


def verdict(found: Calibration) -> list[str]:
    """What the ratings say about τ, in two or three sentences."""
    digits = _digits(found)
    target = number(found.target, 2)
    if found.outcome == "too small":
        if len(found.rated) < found.minimum_rated:
            return [
                f"{plural(len(found.rated), 'unit is', 'units are')} rated so far, and a threshold "
                f"needs at least {found.minimum_rated}: the sample is too small."
            ]
        return [
            f"{plural(len(found.rated), 'unit is', 'units are')} rated, but at no cut do "
            f"{found.minimum_above} of them lie above it: the sample is too small."
        ]
    if found.outcome in ("unreachable", "undecided"):
        best = found.best
        cut, mean = best if best else (math.nan, math.nan)
        top = (
            f"The mean rating of the units above a cut reaches {number(mean, 2)} at most (above "
            f"{_cut(cut, found, digits)}), not the target of {target}."
        )
        if found.outcome == "unreachable":
            return [
                top,
                f"At every cut the {_CONFIDENCE} interval of the mean stays below the "
                f"target: with these {WORDING[found.view]['what']}s it cannot be reached.",
            ]
        return [
            top,
            "The intervals hold the target at some cuts, so the sample is too small to say that it "
            "cannot be reached.",
        ]
    total = found.total
    return [
        f"τ = {number(found.tau, digits)} is the lowest cut at which the mean rating of the units "
        f"above it reaches {target} ({_CONFIDENCE} interval of τ: "
        f"{_range_text(found, digits)}).",
        f"Above it lie {share_of(total.interpretable or 0, total.units)} units of the run; the "
        f"rated ones among them have a mean rating of {number(total.above.value, 2)}"
        + (
            f", those not above it {number(total.below.value, 2)}."
            if total.below.value == total.below.value
            else ", and no rated unit lies below."
        ),
    ]


def doubts(found: Calibration) -> list[str]:
    """What the ratings cannot carry; stands where the conclusion would."""
    if found.outcome == "too small":
        return ["Too few ratings: there is no threshold yet."]
    if found.outcome == "unreachable":
        return ["The target cannot be reached: there is no threshold."]
    if found.outcome == "undecided":
        return ["The target is not reached, and the sample is too small to exclude it."]
    texts = []
    if math.isinf(found.high):
        texts.append(
            "The ratings do not bound the threshold from above: too few rated units have "
            f"{WORDING[found.view]['high']}. Rate more units."
        )
    if math.isinf(found.low) and found.tau > float(found.curve.cut[0]):
        texts.append(
            "The ratings do not bound the threshold from below: even the mean of all units may "
            "reach the target."
        )
    if found.falls_again is not None:
        texts.append(
            f"Above {number(found.falls_again, _digits(found))} the mean falls below the target "
            "again. The lowest cut may owe its place to chance, or a high "
            f"{WORDING[found.view]['score']} means little here."
        )
    return texts


def _digits(found: Calibration) -> int:
    return decimals(float(np.ptp(found.rated.score)) if len(found.rated) else 0.0)


def _cut(cut: float, found: Calibration, digits: int) -> str:
    lowest = f"the lowest {WORDING[found.view]['score']}"
    return lowest if cut <= float(found.curve.cut[0]) else number(cut, digits)


def _range_text(found: Calibration, digits: int) -> str:
    low = "no lower limit" if math.isinf(found.low) else number(found.low, digits)
    high = "no upper limit" if math.isinf(found.high) else number(found.high, digits)
    return f"{low} to {high}"


# -- what the template prints --------------------------------------------------------------------


class _View:
    def __init__(self, run: ProfileRun, found: Calibration) -> None:
        self.found = found
        self.digits = _digits(found)
        scores = np.concatenate([layer.known for layer in scored_layers(run, found.view)])
        scores = scores[np.isfinite(scores)]
        low, high = float(scores.min()), float(np.max(scores))
        room = 0.02 * (high - low) or 0.5
        self.axis = ScoreAxis(np.array([low - room, high + room]), found.tau, self.digits)

    def context(self, expected: ExpectedRating | None) -> dict[str, Any]:
        found = self.found
        lines = [self._line(row) for row in found.layers]
        total = self._line(found.total, "All layers")
        return {
            "kind": "Calibration by people",
            "words": WORDING[found.view],
            "expected_file": file_name("expected_ratings.csv", found.view),
            "doubts": doubts(found),
            "tiles": self._tiles(),
            "found": found,
            "curve": self._curve(),
            "curve_title": self._curve_title(),
            "scatter": None if expected is None else self._expected(expected),
            "expected_text": "" if expected is None else _expected_text(expected, found.view),
            "lines": lines,
            "total": total,
            "all_lines": [total, *lines],
            "confidence": _CONFIDENCE,
            "known": found.outcome == "reached",
            "histogram": self._rating_counts(),
            "raters": [(name, count(given), number(mean, 2)) for name, given, mean in found.raters],
            "agreement": _agreement_text(found),
        }

    def _tiles(self) -> list[tuple[str, str, str]]:
        found, total = self.found, self.found.total
        alpha = found.agreement.alpha
        known = found.outcome == "reached"
        return [
            (
                "Threshold τ",
                number(found.tau, self.digits),
                _range_text(found, self.digits) if known else "none from these ratings",
            ),
            (
                f"{WORDING[found.view]['trusted'].capitalize()} units",
                percent(total.interpretable or 0, total.units) if known else NOTHING,
                f"{count(total.interpretable or 0)} of {count(total.units)}" if known else "",
            ),
            ("Mean rating overall", number(total.overall.value, 2), _limits_text(total.overall)),
            (
                "Agreement α",
                NOTHING if alpha is None else number(alpha, 2),
                f"on {plural(found.agreement.units, 'unit')} rated by several",
            ),
        ]

    def _place(self, score: float) -> float:
        low, high = self.axis.edges
        return self.axis.place(float(min(max(score, low), high)))

    def _ticks(self) -> tuple[tuple[Tick, ...], tuple[Tick, ...]]:
        return self.axis.ticks(), tuple(Tick(100 - at, f"{at / 100:g}") for at in (25, 50, 75, 100))

    def _curve(self) -> dict[str, Any]:
        """Lines in a box of 100 by 100; y runs downwards."""
        found, curve = self.found, self.found.curve
        shown = np.flatnonzero(curve.enough)
        x_ticks, y_ticks = self._ticks()
        known = found.outcome == "reached"
        at, start = (self._place(found.tau), self._place(found.low)) if known else (0.0, 0.0)
        told = " ".join(verdict(found))
        return {
            "line": self._steps(curve, curve.mean, shown),
            "band": self._band(curve, shown),
            "x_ticks": x_ticks,
            "y_ticks": y_ticks,
            "tau": Tick(at, f"τ = {number(found.tau, self.digits)}", "end" if at > 75 else "start")
            if known
            else None,
            "span": (start, self._place(found.high) - start) if known else None,
            "target": 100 - 100 * found.target,
            "alt": f"Mean rating of the units above a cut against the cut. {told}",
        }

    def _ends(self, curve: Curve, shown: Any) -> list[tuple[float, float]]:
        """Where each step begins and ends; the last one ends at the next cut, or with the axis."""
        ends = [*curve.cut[1:].tolist(), float(self.found.rated.score.max())]
        return [(self._place(float(curve.cut[i])), self._place(ends[i])) for i in shown]

    def _steps(self, curve: Curve, values: Any, shown: Any) -> str:
        parts: list[str] = []
        for i, (x, end) in zip(shown, self._ends(curve, shown), strict=True):
            y = 100 - 100 * float(values[i])
            parts.append(f"{'L' if parts else 'M'}{x:.2f} {y:.2f}H{end:.2f}")
        return "".join(parts)

    def _band(self, curve: Curve, shown: Any) -> str:
        if not len(shown):
            return ""
        upper = self._steps(curve, curve.high, shown)
        back = [
            f"L{end:.2f} {100 - 100 * float(curve.low[i]):.2f}H{x:.2f}"
            for i, (x, end) in zip(shown[::-1], self._ends(curve, shown)[::-1], strict=True)
        ]
        return upper + "".join(back) + "Z"

    def _curve_title(self) -> str:
        if self.found.outcome == "reached":
            return f"Mean rating above the cut reaches {self.found.target:g} at τ"
        if self.found.outcome == "too small":
            return "Mean rating above the cut, as far as it goes"
        return f"Mean rating above the cut stays below {self.found.target:g}"

    def _expected(self, expected: ExpectedRating) -> dict[str, Any]:
        found = self.found
        x_ticks, y_ticks = self._ticks()
        grid = np.concatenate([self.axis.edges[:1], expected.score, self.axis.edges[1:]])
        values = expected(grid)
        line = "".join(
            f"{'L' if i else 'M'}{self._place(float(x)):.2f} {100 - 100 * float(y):.2f}"
            for i, (x, y) in enumerate(zip(grid, values, strict=True))
        )
        return {
            "line": line,
            "dots": self._rated_dots(),
            "x_ticks": x_ticks,
            "y_ticks": y_ticks,
            "alt": f"Expected rating against {WORDING[found.view]['score']}, rising",
        }

    def _rated_dots(self) -> list[tuple[float, float]]:
        """Mean ratings of rated units in twelve bins of equally many, to lay beside the line."""
        rated = self.found.rated
        order = np.argsort(rated.score, kind="stable")
        dots = []
        for part in np.array_split(order, min(12, len(order))):
            x = self._place(float(rated.score[part].mean()))
            y = float(np.average(rated.rating[part], weights=rated.weight[part]))
            dots.append((x, 100 - 100 * y))
        return dots

    def _line(self, row: RatedLayer, name: str = "") -> dict[str, Any]:
        """A row of the table."""
        known = row.interpretable is not None
        low, high = row.share_low, row.share_high
        return {
            "name": name or row.layer,
            "units": count(row.units),
            "rated": count(row.rated),
            "overall": _interval_text(row.overall),
            "above": _interval_text(row.above) if known else NOTHING,
            "below": _interval_text(row.below) if known else NOTHING,
            "share": share_of(row.interpretable or 0, row.units) if known else NOTHING,
            "share_range": f"{percent(low, 1)} to {percent(high, 1)}" if known else NOTHING,
            "bar": 100 * row.share if known and row.units else 0.0,
            "whisker": (100 * low, 100 * high) if known else (0.0, 0.0),
        }

    def _rating_counts(self) -> list[tuple[str, str]]:
        rating = self.found.rated.rating
        total = len(rating)
        parts = (
            ("Yes: mean rating 0.75 or more", rating >= 0.75),
            ("between", (rating > 0.25) & (rating < 0.75)),
            ("No: mean rating 0.25 or less", rating <= 0.25),
        )
        return [(name, share_of(int(part.sum()), total)) for name, part in parts]


def _examined(run: ProfileRun, found: Calibration, source: str, date: str) -> list[tuple[str, str]]:
    probe = run.record.probe
    return [
        ("Model", run.record.subject.name),
        ("Ratings", source),
        ("Rated", f"{count(len(found.rated))} units, {count(found.ratings)} ratings"),
        ("By", plural(len(found.raters), "person", "people")),
        *([("Probe images", probe.title)] if probe else []),
        ("Date", date),
    ]


def _provenance(run: ProfileRun, found: Calibration) -> list[tuple[str, str]]:
    return [
        ("Target", number(found.target, 2)),
        ("Rated units above a cut", f"{found.minimum_above} at least"),
        ("Weights", "units stand for their share of their layer" if found.weighted
         else "every rated unit counts the same"),
        ("Bootstrap", f"{count(found.draws)} resamples by layer, seed {found.seed}"),
        ("Skipped questions", count(found.skipped)),
        *context_of(run, found.view).items(),
    ]  # fmt: skip


def _interval_text(interval: Interval) -> str:
    if math.isnan(interval.value):
        return NOTHING
    limits = _limits_text(interval)
    return number(interval.value, 2) + (f" ({limits})" if limits else "")


def _limits_text(interval: Interval) -> str:
    if math.isnan(interval.low):
        return ""
    return f"{number(interval.low, 2)} to {number(interval.high, 2)}"


def _agreement_text(found: Calibration) -> str:
    agreed = found.agreement
    if len(found.raters) == 1:
        return "One person rated, so agreement between people is unknown."
    if not agreed.units:
        return "No unit was rated by two people, so their agreement is unknown."
    same = f"{percent(agreed.same or 0, 1)} of the pairs of ratings are equal"
    if agreed.alpha is None:
        return f"{same}; all ratings are, so Krippendorff’s α is not defined."
    reading = (
        "Krippendorff’s rule of thumb trusts conclusions from 0.80 on and tentative ones from 0.67."
    )
    return (
        f"Krippendorff’s α (interval metric) is {number(agreed.alpha, 2)} "
        f"({_CONFIDENCE} interval {number(agreed.low or 0, 2)} to "
        f"{number(agreed.high or 0, 2)}) on {plural(agreed.units, 'unit')} that several rated; "
        f"{same}. {reading}"
    )


def _expected_text(expected: ExpectedRating, view: View) -> str:
    better = expected.error < expected.error_constant
    return (
        f"On units left out of the fit its mean squared error is {number(expected.error, 3)}, "
        f"against {number(expected.error_constant, 3)} for giving every unit the mean rating"
        + ("." if better else f": the {WORDING[view]['score']} says nothing about the rating here.")
    )
