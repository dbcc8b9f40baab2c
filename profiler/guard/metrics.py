"""How well a score separates defects from the other images, with bootstrap intervals.

A higher score is more anomalous; *defects* are what should be flagged. Ties are never broken at
random: a threshold takes all equal scores or none, and where an order is needed, the expectation
over all orders of equal scores is used.

============ ======================================================================================
auroc        P(score of a defect > score of another) + ½ P(equal)
aupr         average precision, defects positive: Σ_t (recall_t − recall_{t−1}) · precision_t over
             the distinct scores t, highest first; no interpolation
fpr95        share of the others that is flagged by the highest threshold that flags at least
             95 % of the defects (defects positive)
fpr95_kept   share of the defects that pass the lowest threshold that passes at least 95 % of the
             others (others positive: the convention where out-of-distribution images are the
             negatives)
aurc         area under the risk–coverage curve: (1/n) Σ_k risk_k, risk_k being the share of defects
             among the k images of lowest score (Geifman & El-Yaniv, NeurIPS 2017)
============ ======================================================================================

The bootstrap resamples *groups* of rows with replacement (augmented views of one picture, an image
and its attacked version), so dependent rows stay together. It never copies a row: a draw is a
vector of counts, and all numbers are sums weighted by them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np

from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray
from profiler.core.statistics import Interval
from profiler.errors import InputError

T = TypeVar("T")
RISING = ("auroc", "aupr")
"""Metrics of which more is better; of the others less is."""
RECALL = 0.95
"""Of FPR@95."""
DRAWS = 1000
LEVEL = 0.95
_ENDS = (1 - LEVEL) / 2, (1 + LEVEL) / 2

_BLOCK_CELLS = 2**22
_EXACT = 1e-9
"""Shares of counts are compared with this much room for rounding."""


@dataclass(frozen=True)
class Metrics(Generic[T]):
    """Something for each metric: a number, its interval, its values in draws."""

    auroc: T
    aupr: T
    fpr95: T
    fpr95_kept: T
    aurc: T

    @classmethod
    def each(cls, make: Callable[[str], T]) -> "Metrics[T]":
        """What ``make`` gives for the name of each."""
        return cls(*map(make, METRICS))

    def __getitem__(self, name: str) -> T:
        value: T = getattr(self, name)
        return value


METRICS = tuple(field.name for field in fields(Metrics))


@dataclass(frozen=True)
class Ranked:
    """Scores in order, each distinct value once.

    Attributes:
        scores: (G,) distinct scores, lowest first.
        place: (n,) which of them a row has.
        defect: (n,) which rows are defects.
    """

    scores: Float64
    place: IntArray
    defect: BoolArray

    @classmethod
    def of(cls, scores: FloatArray, defect: BoolArray) -> "Ranked":
        """Raises :class:`InputError` for NaN; infinite scores are in order."""
        if scores.shape != defect.shape or scores.ndim != 1:
            raise InputError(f"scores {scores.shape} and outcomes {defect.shape} must be rows (n,)")
        if np.isnan(scores).any():
            raise InputError(f"score {int(np.flatnonzero(np.isnan(scores))[0])} is NaN")
        values, place = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
        return cls(values, place.astype(np.int64), np.asarray(defect, dtype=np.bool_))

    def counts(self, weights: IntArray | None = None) -> tuple[Float64, Float64]:
        """Defects, and others, at each distinct score: (B, G) each, for B draws of counts (B, n).

        Without weights each row counts once, and B is 1.
        """
        rows = np.ones((1, len(self.place))) if weights is None else weights
        bad = _binned(rows, self.place, self.defect, len(self.scores))
        good = _binned(rows, self.place, ~self.defect, len(self.scores))
        return bad, good


def _binned(weights: FloatArray | IntArray, place: IntArray, of: BoolArray, bins: int) -> Float64:
    """(B, bins) sums of the weights (B, n) of some rows by place."""
    rows = np.flatnonzero(of)
    rows = rows[np.argsort(place[rows], kind="stable")]
    found = np.zeros((len(weights), bins))
    if len(rows):
        starts = np.flatnonzero(np.r_[True, np.diff(place[rows]) > 0])
        found[:, place[rows][starts]] = np.add.reduceat(
            np.asarray(weights, dtype=np.float64)[:, rows], starts, axis=1
        )
    return found


def _metrics(bad: Float64, good: Float64) -> Metrics[Float64]:
    """All metrics (B,) of counts by ascending score (B, G); NaN where one side is empty."""
    n_bad, n_good = bad.sum(1), good.sum(1)
    below_good = np.cumsum(good, 1)
    below_bad = np.cumsum(bad, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = np.sum(bad * (below_good - good / 2), 1) / (n_bad * n_good)
        # What is at or above each score.
        above_bad = n_bad[:, None] - below_bad + bad
        above_good = n_good[:, None] - below_good + good
        flagged = above_bad + above_good
        precision = np.where(flagged > 0, above_bad / np.where(flagged > 0, flagged, 1), 0.0)
        aupr = np.sum(bad * precision, 1) / n_bad
        enough = above_bad >= (RECALL - _EXACT) * n_bad[:, None]
        fpr = np.min(np.where(enough, above_good, np.inf), 1) / n_good
        kept = below_good >= (RECALL - _EXACT) * n_good[:, None]
        fpr_kept = np.min(np.where(kept, below_bad, np.inf), 1) / n_bad
        area = _areas(bad, good).sum(1) / (n_bad + n_good)
    both = (n_bad > 0) & (n_good > 0)
    auroc, aupr, fpr, fpr_kept = np.where(both, np.stack([auroc, aupr, fpr, fpr_kept]), np.nan)
    return Metrics(auroc, aupr, fpr, fpr_kept, area)


def _areas(bad: Float64, good: Float64) -> Float64:
    """(B, G) Σ risk_k over the images k of each distinct score, in expectation over their order.

    With K images and E defects before, m images and e defects at this score, the j-th of them has
    the expected risk (E + e j/m) / (K + j); the sum over j is
    e + (E − e K/m) (H(K + m) − H(K)), H being the harmonic numbers.
    """
    size = bad + good
    before, defects = np.cumsum(size, 1) - size, np.cumsum(bad, 1) - bad
    some = size > 0
    slope = np.where(some, bad / np.where(some, size, 1), 0.0)
    most = int(size.sum(1).max(initial=0))
    numbers = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, most + 1))])
    harmonic = numbers[(before + size).astype(np.int64)] - numbers[before.astype(np.int64)]
    areas: Float64 = np.where(some, bad + (defects - slope * before) * harmonic, 0.0)
    return areas


def metrics(scores: FloatArray, defect: BoolArray) -> Metrics[float]:
    """All of :data:`METRICS`; NaN where there are no defects, or only defects.

    >>> found = metrics(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    >>> found.auroc, round(found.aupr, 3), found.fpr95, found.fpr95_kept, round(found.aurc, 3)
    (0.75, 0.833, 0.5, 0.5, 0.333)
    """
    found = _metrics(*Ranked.of(scores, defect).counts())
    return Metrics.each(lambda name: float(found[name][0]))


# --- bootstrap -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws:
    """Resamples of the groups of n rows, as counts; the same for every score that is compared.

    Attributes:
        counts: (B, g) how often each group was drawn.
        group: (n,) which group a row is in, 0 … g−1.
    """

    counts: IntArray
    group: IntArray

    @classmethod
    def of(cls, groups: IntArray, draws: int = DRAWS, seed: int = 0) -> "Draws":
        """Of rows with these group numbers (n,)."""
        names, group = np.unique(groups, return_inverse=True)
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
        return cls(counts, group.astype(np.int64))

    def metrics(self, scores: FloatArray, defect: BoolArray) -> Metrics[Float64]:
        """(B,) of each metric in every draw."""
        parts = [_metrics(*counts) for counts in self.ranked(Ranked.of(scores, defect))]
        return Metrics.each(lambda name: np.concatenate([part[name] for part in parts]))

    def ranked(self, ranked: "Ranked") -> Iterator[tuple[Float64, Float64]]:
        """Counts at each distinct score, some draws at a time; see :meth:`Ranked.counts`."""
        step = max(1, _BLOCK_CELLS // max(1, len(self.group)))
        for lo in range(0, len(self.counts), step):
            yield ranked.counts(self.counts[lo : lo + step][:, self.group])


def interval(value: float, draws: FloatArray) -> Interval:
    """The percentile interval of some draws; those where the number is not defined are left out."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, _ENDS).tolist()
    return Interval(value, low, high)


@dataclass(frozen=True)
class Contest:
    """Several scores of the same rows, on the same draws.

    Attributes:
        values: by score.
        drawn: by score, (B,) values in the draws.
    """

    values: Mapping[str, Metrics[float]]
    drawn: Mapping[str, Metrics[Float64]]

    @classmethod
    def of(cls, scores: Mapping[str, FloatArray], defect: BoolArray, draws: Draws) -> "Contest":
        """Of scores (n,) by name."""
        return cls(
            {name: metrics(each, defect) for name, each in scores.items()},
            {name: draws.metrics(each, defect) for name, each in scores.items()},
        )

    def intervals(self, name: str) -> Metrics[Interval]:
        """All metrics of a score."""
        values, drawn = self.values[name], self.drawn[name]
        return Metrics.each(lambda metric: interval(values[metric], drawn[metric]))

    def lead(self, name: str, other: str, metric: str) -> Interval:
        """A metric of one score less that of another: a paired interval."""
        return interval(
            self.values[name][metric] - self.values[other][metric],
            self.drawn[name][metric] - self.drawn[other][metric],
        )

    def best(self, names: Sequence[str], metric: str) -> str:
        """Which of the named scores does best by a metric; the first of equals."""
        sign = 1 if metric in RISING else -1
        ranked = [sign * self.values[name][metric] for name in names]
        known = [-np.inf if np.isnan(value) else value for value in ranked]
        return names[int(np.argmax(known))]


# --- curves ----------------------------------------------------------------------------------

GRID = np.linspace(0, 1, 101)
"""Where curves are given: shares of the others that are flagged, or coverages."""


@dataclass(frozen=True)
class Band:
    """A curve with its pointwise bootstrap band over :data:`GRID`; NaN where it is not defined."""

    value: Float64
    low: Float64
    high: Float64


def roc(scores: FloatArray, defect: BoolArray, draws: Draws) -> Band:
    """Share of the defects that is flagged, by the share of false alarms (linear between)."""
    return _band(Ranked.of(scores, defect), draws, _roc)


def risk_coverage(scores: FloatArray, defect: BoolArray, draws: Draws) -> Band:
    """Share of defects among the images of lowest score, by their share of all images."""
    return _band(Ranked.of(scores, defect), draws, _risk)


def _roc(bad: Float64, good: Float64) -> Float64:
    """(B, grid)."""
    hits = np.cumsum(bad[:, ::-1], 1) / np.maximum(bad.sum(1, keepdims=True), 1)
    alarms = np.cumsum(good[:, ::-1], 1) / np.maximum(good.sum(1, keepdims=True), 1)
    return np.stack(
        [np.interp(GRID, np.r_[0, a], np.r_[0, h]) for a, h in zip(alarms, hits, strict=True)]
    )


def _risk(bad: Float64, good: Float64) -> Float64:
    """(B, grid); the first image's risk at coverage 0."""
    size = np.cumsum(bad + good, 1)
    found = []
    for count, defects in zip(size, np.cumsum(bad, 1), strict=True):
        wanted = np.maximum(GRID * count[-1], 1.0)
        found.append(np.interp(wanted, np.r_[0, count], np.r_[0, defects]) / wanted)
    return np.stack(found)


def _band(ranked: Ranked, draws: Draws, curve: Any) -> Band:
    value = curve(*ranked.counts())[0]
    drawn = np.concatenate([curve(*counts) for counts in draws.ranked(ranked)])
    low, high = np.quantile(drawn, _ENDS, axis=0)
    return Band(value, low, high)


def coverage_at(scores: FloatArray, defect: BoolArray, risk: float) -> float:
    """The largest share of images, lowest scores first, of which at most ``risk`` are defects.

    Equal scores are accepted together. The result is 0 where the lowest score is not good enough.

    >>> coverage_at(np.array([1.0, 2, 3, 4]), np.array([False, True, False, False]), 0.25)
    1.0
    """
    bad, good = Ranked.of(scores, defect).counts()
    accepted = np.cumsum(bad + good, 1)[0]
    fine = np.cumsum(bad, 1)[0] <= (risk + _EXACT) * accepted
    return float(accepted[fine].max(initial=0.0) / max(len(scores), 1))
