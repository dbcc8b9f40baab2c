"""From ratings to a threshold: the cut τ above which people agree with the labels.

Of the range, an explanation stands for the label and its r for the score: r with *all* its words,
since that is what :meth:`~profiler.profile.explain.LayerRange.explained` cuts and decoys are judged
by. Raters see fewer words where fewer say as much.

Definition (Li & Weng, 2023): τ is the lowest cut at which the mean rating of the units above it
reaches the target. Exactly:

* A unit lies *above* a cut if its score is greater, as everywhere in this package.
* A unit's rating is the mean of what its raters gave; skipped questions count nowhere.
* Units were sampled by layer, so each rated unit stands for K_l / n_l units: the layer's units with
  a score over its rated ones. The mean of any set of units is Σ w y / Σ w (Hájek's estimator of
  the mean over the *whole run*, which is what τ will cut). Without these weights small layers
  would speak as loudly as large ones; ``weighted=False`` lets them, as Li & Weng's report does.
* Candidates are a cut just below the run's lowest score, and the score of each rated unit. Rated
  units with equal scores fall together. Between two candidates no rated unit changes sides.
* A candidate counts only with at least ``minimum_above`` rated units above it: the mean of a
  handful reaches any target by chance.

Intervals are bootstrap intervals. Units are resampled within their layer, n_l − 1 of n_l with
replacement and rescaled by n_l / (n_l − 1), which makes the variance unbiased (Rao & Wu, *JASA* 83,
1988). A unit takes all its ratings along, and the raters stay who they are: an interval speaks of
other units rated by these people, not of other people. Percentiles are widened by t / z, as small
samples need ("expanded percentile interval": Hesterberg, *The American Statistician* 69, 2015).

The interval of τ inverts that of the mean: it runs over the cuts around τ whose mean rating
above has an interval that holds the target. The percentiles of resampled τ would be simpler, but
τ is the *first* crossing of a noisy curve and lies systematically low: the simulations of
``benchmarks/calibration.py`` measure both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import norm
from scipy.stats import t as student

from profiler.core.arrays import BoolArray, FloatArray, IntArray
from profiler.core.statistics import Interval
from profiler.errors import InputError
from profiler.profile.threshold import ExpectedRating, RatingBasis
from profiler.rate.ratings import CONFIDENCE, Agreement, Rating, agreement, rating_table
from profiler.rate.views import ScoredLayer, View

TARGET = 0.75
"""Mean rating that the units above τ shall reach (Li & Weng, 2023)."""
MINIMUM_ABOVE = 20
"""Rated units above a cut, at least: with fewer a mean rating is uncertain by more than ± 0.17."""
MINIMUM_RATED = 30
"""Rated units in all, at least."""
DRAWS = 2000

_ROUNDING = 1e-9
"""A mean this little below the target reaches it: sums of weights are rounded."""


@dataclass(frozen=True)
class RatedUnits:
    """The rated units of a run as columns, one row a unit.

    Attributes:
        layer: place of the unit's layer in the run.
        score: of the unit's label.
        rating: mean over its raters.
        weight: how many units of its layer it stands for.
    """

    layer: IntArray
    score: FloatArray
    rating: FloatArray
    weight: FloatArray

    def __len__(self) -> int:
        return len(self.score)


def rated_units(
    layers: Sequence[ScoredLayer], ratings: Sequence[Rating], *, weighted: bool = True
) -> RatedUnits:
    """Bring ratings and scores together.

    Raises:
        InputError: where a rated unit is not one of the run's units with a score.
    """
    units, _, table = rating_table(ratings)
    places = {layer.layer: place for place, layer in enumerate(layers)}
    for name, unit in units:
        if name not in places or unit >= layers[places[name]].units:
            raise InputError(f"this run has no unit {unit} in a layer {name!r}")
    layer = np.array([places[name] for name, _ in units], dtype=np.int64)
    score = np.array([layers[places[name]].score[unit] for name, unit in units], dtype=np.float64)
    if np.isnan(score).any():
        name, number = units[int(np.flatnonzero(np.isnan(score))[0])]
        raise InputError(f"unit {number} of {name!r} has no score, so no rating of it can count")
    weight = np.ones(len(units))
    if weighted:
        for place in np.unique(layer):
            own = layer == place
            weight[own] = layers[place].known.size / own.sum()
    mean = np.nanmean(table, axis=1) if units else score
    return RatedUnits(layer, score, mean, weight)


# -- the curve ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Mean rating of the units above a cut, for each candidate cut, ascending.

    Attributes:
        cut: (C,) the first lies below every score of the run.
        above: (C,) rated units above.
        mean: (C,) their mean rating.
        low, high: (C,) bootstrap interval of the mean; NaN where too few units lie above.
        enough: (C,) whether ``minimum_above`` rated units lie above.
    """

    cut: FloatArray
    above: IntArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    enough: BoolArray


def resample(rated: RatedUnits, draws: int, seed: int) -> FloatArray:
    """(draws, n) factors on the weights of the rated units: Rao and Wu's bootstrap by layer.

    The one rated unit of a layer cannot be resampled and keeps the factor 1.
    """
    rng = np.random.default_rng(seed)
    factors = np.ones((draws, len(rated)))
    for place in np.unique(rated.layer):
        own = np.flatnonzero(rated.layer == place)
        n = len(own)
        if n > 1:
            factors[:, own] = rng.multinomial(n - 1, np.full(n, 1 / n), draws) * (n / (n - 1))
    return factors


def rating_curve(
    rated: RatedUnits,
    lowest: float,
    factors: FloatArray,
    *,
    minimum_above: int = MINIMUM_ABOVE,
) -> Curve:
    """Mean ratings above each candidate cut; ``lowest`` is the lowest score of the run."""
    cuts, first, above = _candidates(rated.score, lowest)
    order = np.argsort(rated.score, kind="stable")
    weight, rating = rated.weight[order], rated.rating[order]
    mean = _tail_means(weight, rating, first)
    enough = above >= minimum_above
    low, high = np.full((2, len(cuts)), np.nan)
    if enough.any():
        drawn = _tail_means(factors[:, order] * weight, rating, first[enough])
        effective = _tail_means(weight, weight, first[enough])
        effective = weight[::-1].cumsum()[::-1][first[enough]] / effective
        low[enough], high[enough] = _limits(mean[enough], drawn, effective)
    return Curve(cuts, above, mean, low, high, enough)


def _candidates(score: FloatArray, lowest: float) -> tuple[FloatArray, IntArray, IntArray]:
    """Cuts with a rated unit above; the first unit above each in ascending order; how many."""
    ascending = np.sort(score)
    cuts = np.concatenate([[np.nextafter(lowest, -np.inf)], np.unique(ascending)[:-1]])
    first = np.searchsorted(ascending, cuts, side="right")
    return cuts, first, len(ascending) - first


def _tail_means(weight: FloatArray, rating: FloatArray, first: IntArray) -> FloatArray:
    """Weighted means of the last units, from each of the places ``first`` on."""
    total = np.cumsum((weight * rating)[..., ::-1], axis=-1)[..., ::-1]
    whole = np.cumsum(weight[..., ::-1], axis=-1)[..., ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        result: FloatArray = total[..., first] / whole[..., first]
    return result


def _limits(
    value: FloatArray, drawn: FloatArray, effective: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Expanded percentile limits for each column of resampled means.

    ``effective`` is the number of equally weighted units that each mean is worth, (Σw)² / Σw².
    """
    # A resample may hold no unit of a small set; it then says nothing.
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    upper = (1 + CONFIDENCE) / 2
    wider = student.ppf(upper, np.maximum(effective - 1, 1)) / norm.ppf(upper)
    # A mean rating cannot leave 0 … 1.
    return np.maximum(value - (value - low) * wider, 0), np.minimum(
        value + (high - value) * wider, 1
    )


def first_crossing(curve: Curve, target: float) -> int | None:
    """Place of the lowest cut with enough units above whose mean reaches the target."""
    reaching = np.flatnonzero(curve.enough & (curve.mean >= target - _ROUNDING))
    return int(reaching[0]) if len(reaching) else None


def crossing_interval(curve: Curve, target: float, at: int) -> tuple[float, float]:
    """Cuts between which the target lies within the interval of the mean rating above.

    The lower end is the lowest cut whose interval holds the target; −∞ where even the mean of all
    units may reach it. The upper end is the first cut after ``at`` from which on every interval
    lies beyond the target, as far as half the rated units that lie above it: a single cut may
    surpass the target by chance, and few units at the far end may miss it by chance. ∞ where there
    is no such cut: then the ratings do not bound τ from above.
    """
    holds = curve.enough & (curve.low <= target + _ROUNDING) & (curve.high >= target - _ROUNDING)
    holds[at] = True
    first = int(np.flatnonzero(holds)[0])
    low = -math.inf if first == 0 else float(curve.cut[first])
    beyond = curve.low > target + _ROUNDING
    for place in range(at + 1, int(curve.enough.sum())):
        near = curve.enough[place:] & (2 * curve.above[place:] >= curve.above[place])
        if beyond[place:][near].all():
            return low, float(curve.cut[place])
    return low, math.inf


# -- the result --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RatedLayer:
    """What the ratings say about a layer, or about all.

    Attributes:
        layer: its name, ``all`` for the whole run.
        units: all its units, dead ones included.
        scored: units with a score.
        rated: units with a rating.
        rated_above: those of them above τ.
        overall: mean rating.
        above, below: mean rating above τ, and not above it; NaN without τ or units.
        interpretable: units above τ, of all and not only of the sample; None without τ.
        share_low, share_high: limits of the share interpretable, from the interval of τ.
    """

    layer: str
    units: int
    scored: int
    rated: int
    rated_above: int
    overall: Interval
    above: Interval
    below: Interval
    interpretable: int | None
    share_low: float
    share_high: float

    @property
    def share(self) -> float:
        """Share of all units that is interpretable; NaN without τ or units."""
        if self.interpretable is None or not self.units:
            return math.nan
        return self.interpretable / self.units


Outcome = Literal["reached", "unreachable", "undecided", "too small"]
"""``unreachable``: at every cut the interval of the mean stays below the target; ``undecided``: no
mean reaches it, but the sample is too small to exclude it; ``too small``: too few rated units."""


@dataclass(frozen=True)
class Calibration:
    """What ratings make of a run's scores.

    Attributes:
        outcome: whether there is a τ.
        target: mean rating wanted above τ.
        tau: the threshold; NaN unless ``outcome`` is ``reached``.
        low, high: its interval, with ±∞ where the ratings leave an end open.
        curve: mean rating above each cut.
        layers: a row a layer, in network order.
        total: all layers together.
        agreement: between raters.
        rated: the units behind it all.
        ratings: ratings that count.
        skipped: questions skipped.
        raters: (name, ratings, mean) of each rater.
        minimum_above: rated units wanted above a cut.
        minimum_rated: rated units wanted in all.
        weighted: whether units stand for their share of their layer.
        draws: bootstrap resamples.
        seed: of the bootstrap.
        view: what was rated.
    """

    outcome: Outcome
    target: float
    tau: float
    low: float
    high: float
    curve: Curve
    layers: tuple[RatedLayer, ...]
    total: RatedLayer
    agreement: Agreement
    rated: RatedUnits
    ratings: int
    skipped: int
    raters: tuple[tuple[str, int, float], ...]
    minimum_above: int
    minimum_rated: int
    weighted: bool
    draws: int
    seed: int
    view: View = "peak"

    @property
    def best(self) -> tuple[float, float] | None:
        """The cut with the highest mean rating above, and that mean; None without candidates."""
        places = np.flatnonzero(self.curve.enough)
        if not len(places):
            return None
        top = places[int(np.argmax(self.curve.mean[places]))]
        return float(self.curve.cut[top]), float(self.curve.mean[top])

    @property
    def falls_again(self) -> float | None:
        """The lowest cut above τ whose mean falls below the target again; None without one."""
        if self.outcome != "reached":
            return None
        curve = self.curve
        fallen = curve.enough & (curve.cut > self.tau) & (curve.mean < self.target - _ROUNDING)
        places = np.flatnonzero(fallen)
        return float(curve.cut[places[0]]) if len(places) else None

    @property
    def basis(self) -> RatingBasis:
        """What a threshold from these ratings rests on."""
        return RatingBasis(
            self.target,
            self.total.above.value,
            self.low if math.isfinite(self.low) else None,
            self.high if math.isfinite(self.high) else None,
            CONFIDENCE,
            len(self.rated),
            self.ratings,
            len(self.raters),
            self.agreement.alpha,
            self.agreement.units,
        )


def calibrate(
    layers: Sequence[ScoredLayer],
    ratings: Sequence[Rating],
    *,
    target: float = TARGET,
    minimum_above: int = MINIMUM_ABOVE,
    minimum_rated: int = MINIMUM_RATED,
    weighted: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
    view: View = "peak",
) -> Calibration:
    """Find τ from ratings, with intervals; the definition stands at the top of this module.

    Args:
        layers: the whole run, in network order.
        ratings: those that stand; skipped ones count as questions without an answer.
        target: mean rating wanted above τ, in (0, 1].
        minimum_above: rated units without which a cut is no candidate.
        minimum_rated: rated units without which no τ is sought.
        weighted: let a rated unit stand for its share of its layer.
        draws: bootstrap resamples.
        seed: of the bootstrap.
        view: what was rated.
    """
    if not 0 < target <= 1:
        raise InputError(f"the target is a mean rating above 0 and at most 1, got {target:g}")
    if minimum_above < 1:
        raise InputError(f"at least one rated unit must lie above a cut, got {minimum_above}")
    rated = rated_units(layers, ratings, weighted=weighted)
    if not len(rated):
        raise InputError("nobody has rated a unit of this run yet")
    factors = resample(rated, draws, seed)
    lowest = min(float(layer.known.min()) for layer in layers if layer.known.size)
    curve = rating_curve(rated, lowest, factors, minimum_above=minimum_above)
    at = first_crossing(curve, target) if len(rated) >= minimum_rated else None
    tau, low, high = math.nan, math.nan, math.nan
    if at is not None:
        tau = float(curve.cut[at])
        low, high = crossing_interval(curve, target, at)
    rows = [
        _row(layer, rated, rated.layer == place, (tau, low, high), factors)
        for place, layer in enumerate(layers)
    ]
    whole = ScoredLayer("all", np.concatenate([layer.score for layer in layers]))
    everything = np.ones(len(rated), dtype=bool)
    _, raters, table = rating_table(ratings)
    return Calibration(
        outcome=_outcome(curve, at, target, len(rated) < minimum_rated),
        target=target,
        tau=tau,
        low=low,
        high=high,
        curve=curve,
        layers=tuple(rows),
        total=_row(whole, rated, everything, (tau, low, high), factors),
        agreement=agreement(table, draws=draws, seed=seed),
        rated=rated,
        ratings=int(np.isfinite(table).sum()),
        skipped=sum(rating.value is None for rating in ratings),
        raters=tuple(
            (name, int(np.isfinite(column).sum()), float(np.nanmean(column)))
            for name, column in zip(raters, table.T, strict=True)
        ),
        minimum_above=minimum_above,
        minimum_rated=minimum_rated,
        weighted=weighted,
        draws=draws,
        seed=seed,
        view=view,
    )


def _outcome(curve: Curve, at: int | None, target: float, few: bool) -> Outcome:
    if at is not None:
        return "reached"
    if few or not curve.enough.any():
        return "too small"
    return "unreachable" if (curve.high[curve.enough] < target).all() else "undecided"


def _mean(rated: RatedUnits, part: BoolArray, factors: FloatArray) -> Interval:
    """Mean rating of a part of the units."""
    if not part.any():
        return Interval()
    weight, rating = rated.weight[part], rated.rating[part]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (factors[:, part] @ (weight * rating)) / (factors[:, part] @ weight)
    value = float(np.average(rating, weights=weight))
    if part.sum() < 2 or np.isnan(drawn).all():
        return Interval(value)
    effective = weight.sum() ** 2 / (weight**2).sum()
    low, high = _limits(np.array(value), drawn, effective)
    return Interval(value, float(low), float(high))


def _row(
    layer: ScoredLayer,
    rated: RatedUnits,
    own: BoolArray,
    cuts: tuple[float, float, float],
    factors: FloatArray,
) -> RatedLayer:
    """What the rated units ``own`` say about their layer, given τ and the ends of its interval.

    The means take τ as fixed.
    """
    tau, low, high = cuts
    scores = layer.known
    known = not math.isnan(tau)
    size = max(layer.units, 1)
    above = own & (rated.score > tau)  # nothing is, where there is no τ
    return RatedLayer(
        layer.layer,
        layer.units,
        len(scores),
        int(own.sum()),
        int(above.sum()),
        _mean(rated, own, factors),
        _mean(rated, above, factors),
        _mean(rated, own & ~above & known, factors),
        int((scores > tau).sum()) if known else None,
        # A high cut leaves few units.
        float((scores > high).sum() / size) if known else math.nan,
        float((scores > low).sum() / size) if known else math.nan,
    )


# -- expected ratings ----------------------------------------------------------------------------


def isotonic(rated: RatedUnits, *, folds: int = 10, seed: int = 0) -> ExpectedRating:
    """Isotonic calibration: the rising function of the score nearest to the ratings.

    Least squares under monotonicity by pool-adjacent-violators (Ayer et al., 1955; for calibration
    Zadrozny & Elkan, KDD 2002), weighted as everything here. An expected rating is no probability
    of Yes: a Maybe counts half.
    """
    if len(rated) < 2:
        raise InputError("isotonic calibration needs at least two rated units")
    score, rating = _pool_adjacent_violators(rated.score, rated.rating, rated.weight)
    fold = np.random.default_rng(seed).permutation(len(rated)) % min(folds, len(rated))
    error = constant = 0.0
    for part in np.unique(fold):
        train, test = fold != part, fold == part
        weight = rated.weight[test]
        corners = _pool_adjacent_violators(
            rated.score[train], rated.rating[train], rated.weight[train]
        )
        guess = np.interp(rated.score[test], *corners)
        mean = np.average(rated.rating[train], weights=rated.weight[train])
        error += float(weight @ (rated.rating[test] - guess) ** 2)
        constant += float(weight @ (rated.rating[test] - mean) ** 2)
    whole = rated.weight.sum()
    return ExpectedRating(score, rating, float(error / whole), float(constant / whole))


def _pool_adjacent_violators(
    score: FloatArray, rating: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Corners of the fitted function: the first and the last score of every level."""
    distinct, group = np.unique(score, return_inverse=True)
    total = np.bincount(group, weights=weight)
    mean = np.bincount(group, weights=weight * rating) / total
    fit = isotonic_regression(mean, weights=total)
    starts = np.asarray(fit.blocks)[:-1]
    ends = np.asarray(fit.blocks)[1:] - 1
    corners = np.unique(np.concatenate([starts, ends]))
    return distinct[corners], np.asarray(fit.x)[corners]
