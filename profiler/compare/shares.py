"""How the share of a layer's units in a category differs between two runs, and how surely.

Two cases. *Matched*: each unit of the one layer corresponds to one of the other. Then only units
that enter or leave the category speak. *Unmatched*: two groups of units, perhaps of different size.

* *Matched*: Newcombe's interval for paired proportions, and McNemar's exact test. It permutes
  before and after within each pair: a unit that changes does so either way with probability ½.
* *Unmatched*: Newcombe's interval for independent proportions, and Fisher's exact test. It
  permutes the units between the groups: the number in one of them is hypergeometric.

Both intervals are Newcombe's method 10 and join Wilson's intervals of the two shares (*Statistics
in Medicine* 17, 1998: 873–890, independent; 2635–2650, paired). Both tests are exact: the
distribution over all permutations is known, none is drawn. Two-sided p-values are twice the smaller
tail, at most 1.

They ask what so many units would show by chance if each were drawn by itself. Whether the probe
images could have been others is another question, and :mod:`profiler.compare.noise` asks it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, hypergeom

from profiler.core.arrays import BoolArray, FloatArray, IntArray
from profiler.core.statistics import wilson


@dataclass(frozen=True)
class Difference:
    """Of two shares: units in the category before and after, 95 % interval, p-value."""

    before: int
    before_units: int
    after: int
    after_units: int
    low: float
    high: float
    p_value: float


def unmatched_difference(before: BoolArray, after: BoolArray) -> Difference:
    """Of two groups of units, (K,) and (K′,): whether each is in the category."""
    x, m, y, n = int(before.sum()), len(before), int(after.sum()), len(after)
    low, high = newcombe(x, m, y, n)
    return Difference(x, m, y, n, low, high, hypergeometric_test(x, m, y, n))


def matched_difference(before: BoolArray, after: BoolArray) -> Difference:
    """Of the same units before and after, (U,) each, in the order of the pairs."""
    both, lost, gained, neither = (
        int(np.count_nonzero(one & other))
        for one, other in (
            (before, after), (before, ~after), (~before, after), (~before, ~after)
        )
    )  # fmt: skip
    units = len(before)
    low, high = newcombe_paired(both, lost, gained, neither)
    p_value = sign_test(lost, gained)
    return Difference(both + lost, units, both + gained, units, low, high, p_value)


def newcombe(x: int, m: int, y: int, n: int) -> tuple[float, float]:
    """95 % interval of y/n − x/m for independent groups, by Newcombe's hybrid score method.

    >>> [round(end, 4) for end in newcombe(48, 80, 56, 70)]  # from his table
    [0.0524, 0.3339]
    """
    return _square_and_add(x, m, y, n, 0.0)


def newcombe_paired(both: int, lost: int, gained: int, neither: int) -> tuple[float, float]:
    """95 % interval of (gained − lost)/U for U pairs, by Newcombe's method 10 for paired data.

    As for independent groups, but the two shares are correlated: φ of the fourfold table, its
    numerator brought towards 0 by U/2 where it is positive.
    """
    units = both + lost + gained + neither
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    product = both * neither - lost * gained
    corrected = max(product - units / 2, 0.0) if product > 0 else float(product)
    phi = corrected / np.sqrt(float(margins)) if margins else 0.0
    return _square_and_add(both + lost, units, both + gained, units, phi)


def _square_and_add(x: int, m: int, y: int, n: int, phi: float) -> tuple[float, float]:
    p, q = x / m, y / n
    (p_low, p_high), (q_low, q_high) = (
        [float(end) for end in wilson(np.array(count), total)] for count, total in ((x, m), (y, n))
    )

    def joined(one: float, other: float) -> float:
        return float(np.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0)))

    return q - p - joined(q - q_low, p_high - p), q - p + joined(q_high - q, p - p_low)


def hypergeometric_test(x: int, m: int, y: int, n: int) -> float:
    """Exact permutation test of x of m against y of n, two-sided by doubling.

    Dealt out at random, the x + y units of the category fall into the second group y times with
    hypergeometric probability.

    >>> round(hypergeometric_test(0, 3, 3, 3), 6)  # twice 1 / (6 choose 3)
    0.1
    """
    dealt = hypergeom(m + n, x + y, n)
    return min(1.0, 2 * float(min(dealt.cdf(y), dealt.sf(y - 1))))


def sign_test(lost: int, gained: int) -> float:
    """McNemar's exact test: each of so many changes goes either way with probability ½.

    >>> sign_test(5, 0), sign_test(2, 2), sign_test(0, 0)
    (0.0625, 1.0, 1.0)
    """
    return min(1.0, 2 * float(binom.cdf(min(lost, gained), lost + gained, 0.5)))


def jensen_shannon(before: IntArray | FloatArray, after: IntArray | FloatArray) -> float:
    """Jensen–Shannon divergence of two distributions, in bits (Lin 1991); 0 to 1.

    Args:
        before: (C,) counts of units; need not add up to the same.
        after: (C,).

    >>> jensen_shannon(np.array([1, 0]), np.array([0, 3]))
    1.0
    """
    p, q = (counts / counts.sum() for counts in (before, after))
    middle = (p + q) / 2

    def bits(part: FloatArray) -> float:
        some = part > 0
        return float((part[some] * np.log2(part[some] / middle[some])).sum())

    return min(max((bits(p) + bits(q)) / 2, 0.0), 1.0)
