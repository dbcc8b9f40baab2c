"""Statistics that several stories need: intervals, exact tests, correlation, precision."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ndtri

from profiler.core.arrays import BoolArray, Counts, Float64, FloatArray, IntArray

_FEWEST_CORRELATED = 3
"""Two points always lie on a line."""
_FISHER_TIE = 1e-7
"""Tables this little more probable than the observed one count as equally probable."""


def wilson(
    successes: IntArray | FloatArray, trials: int, level: float = 0.95
) -> tuple[Float64, Float64]:
    """Wilson's score interval (JASA 1927) of the rate behind ``successes`` of ``trials``.

    Args:
        successes: any shape.
        trials: independent ones, at least one. Draws are; the units of a layer are not.
        level: probability with which the interval is to hold the rate.

    >>> low, high = wilson(np.array([0, 10, 20]), 20)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.299, 0.839], [0.161, 0.701, 1.0])
    """
    z2 = ndtri((1 + level) / 2) ** 2
    rate = np.asarray(successes) / trials
    centre = rate + z2 / (2 * trials)
    half = np.sqrt(z2 * (rate * (1 - rate) / trials + z2 / (4 * trials**2)))
    scale = 1 + z2 / trials
    # 0 of n and n of n end exactly at 0 and 1, but not in rounded numbers.
    return np.clip((centre - half) / scale, 0, rate), np.clip((centre + half) / scale, rate, 1)


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson's correlation of two rows of numbers (n,); NaN if one is constant or n < 3.

    >>> round(correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 12)
    0.5
    """
    x, y = (row.astype(np.float64) for row in (one, other))
    # By the numbers themselves: a mean that is rounded would leave a constant some variance.
    if len(x) < _FEWEST_CORRELATED or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x -= x.mean()
    y -= y.mean()
    # Scaled before they are squared, so that no square leaves the range of the numbers.
    x /= np.abs(x).max()
    y /= np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def average_precision(truth: BoolArray, score: FloatArray) -> float:
    """Area under the precision-recall curve, as a sum over the distinct scores; NaN without truth.

    Images of equal score enter together, so their order does not matter: where all scores are
    equal, this is the share of positives.

    Args:
        truth: (n,) the images to find.
        score: (n,) higher where one is expected; no NaN.

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]))
    0.8333333333333333
    """
    found = np.sort(score[truth])
    if not len(found):
        return float("nan")
    # At the score of each positive: how many positives, and how many images, score so high.
    hits = len(found) - np.searchsorted(found, found)
    shown = len(score) - np.searchsorted(np.sort(score), found)
    return float(np.mean(hits / shown))


def fisher(a: Counts, b: Counts, c: Counts, d: Counts) -> Float64:
    """Two-sided p-values of Fisher's exact test for the tables [[a, b], [c, d]], all (K,).

    The probability, given the margins, of all tables that are no more probable than the observed
    one. Tables of equal margins share the work.

    >>> fisher(*np.array([[8], [2], [1], [5]])).round(6).tolist()
    [0.034965]
    """
    first, second, total = a + b, c + d, a + c
    margins, place = np.unique(np.stack([first, second, total], 1), axis=0, return_inverse=True)
    found = np.ones(len(a))
    order = np.argsort(place.ravel(), kind="stable")
    bounds = np.searchsorted(place.ravel()[order], np.arange(len(margins) + 1))
    for (n1, n2, k), lo, hi in zip(margins.tolist(), bounds[:-1], bounds[1:], strict=True):
        support = np.arange(max(0, k - n2), min(n1, k) + 1)
        log = -(
            gammaln(support + 1)
            + gammaln(n1 - support + 1)
            + gammaln(k - support + 1)
            + gammaln(n2 - k + support + 1)
        )
        chance = np.exp(log - log.max())
        ascending = np.sort(chance)
        below = np.cumsum(ascending)
        cells = order[lo:hi]
        observed = chance[a[cells] - support[0]] * (1 + _FISHER_TIE)
        found[cells] = below[np.searchsorted(ascending, observed, side="right") - 1] / below[-1]
    return np.minimum(found, 1.0)


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence limits; NaN where there is nothing to estimate from."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
