"""Which unit of a layer corresponds to which of the same layer in another run.

Training again shuffles units; training on does not. What tells the two apart is how units correlate
over the probe images. The *assignment* pairs units so that the sum of their correlations is
highest (Hungarian method; Kuhn 1955, as a linear sum assignment; used on units by Li et al.,
*Convergent Learning*, ICLR 2016). It finds a permutation exactly, but on noise it would also find
one. So numbering is kept wherever the assignment is not *clearly* better.

Where it moves units, it moves them in circles: i takes the place of j, j of k, k of i. Each circle
is judged by itself. With r the mean correlation of its units under the one or the other pairing,
1 − r is half their mean squared distance once activations are standardised. A circle is taken if
it takes off at least :data:`CLEARLY` of that distance, and more than it would on noise, where the
highest of K correlations over n images is about √(2 ln K / n). A true permutation takes off all.
"""

from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from profiler.compare.centred import Centred, Float64Array, pairs
from profiler.compare.result import Matching
from profiler.core.arrays import IntArray
from profiler.profile.explain import known_mean

CLEARLY: Final = 0.25
"""Share of the distance between units that a renumbering has to take off."""

_MOST = 0.9
"""No more than this is asked, however few the images: true partners take off all but rounding."""
_SAME_NUMBER = 1e-9
"""Correlation that the same number counts for: more than rounding, less than any finding."""


def correlations(before: Centred, after: Centred) -> Float64Array:
    """(K, K′) Pearson correlation of each pair of units over the images; NaN for constant ones."""
    cross = np.zeros((before.units, after.units))
    for x, y in pairs(before, after):
        cross += x.T @ y
    norms = np.sqrt(before.squares)[:, None] * np.sqrt(after.squares)
    known = ~before.constant[:, None] & ~after.constant
    found = np.full(cross.shape, np.nan)
    np.divide(cross, norms, out=found, where=known & (norms > 0))
    result: Float64Array = np.clip(found, -1, 1)
    return result


def match(correlation: Float64Array, images: int) -> Matching:
    """Pair the units of two layers by the correlations (K, K′) of their activations on n images.

    The smaller layer's units all get a partner. Units that never vary correlate with none (as if
    0); with numbers to keep, they keep theirs if they can.
    """
    known = np.nan_to_num(correlation)
    square = known.shape[0] == known.shape[1]
    # Equal sums go to the same number, in square and oblong tables alike.
    before, assigned = linear_sum_assignment(
        known + _SAME_NUMBER * np.eye(*known.shape), maximize=True
    )
    after = keep_numbers(known, assigned, images) if square else assigned
    moved = bool((before != after).any())
    return Matching(
        "hungarian" if moved or not square else "index",
        before,
        after,
        correlation[before, after],
        known_mean(np.diagonal(correlation)) if square else float("nan"),
    )


def match_unseen(units_before: int, units_after: int) -> Matching | None:
    """By number, where activations were not kept; None where the numbers of units differ."""
    if units_before != units_after:
        return None
    every = np.arange(units_before)
    return Matching("index", every, every, np.full(units_before, np.nan), float("nan"))


def keep_numbers(correlation: Float64Array, assigned: IntArray, images: int) -> IntArray:
    """The assignment without those circles that are not clearly better than no move.

    Args:
        correlation: (K, K), without NaN.
        assigned: (K,) partner of each unit.
        images: n.

    >>> table = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0.8, 0.82], [0, 0, 0.81, 0.8]])
    >>> keep_numbers(table, np.array([1, 0, 3, 2]), 1000).tolist()
    [1, 0, 2, 3]
    """
    kept = np.arange(len(assigned))
    by_chance = np.sqrt(2 * np.log(max(1, len(assigned))) / max(1, images))
    least = max(CLEARLY, min(by_chance, _MOST))
    for circle in circles(assigned):
        here = float((1 - correlation[circle, circle]).sum())
        there = float((1 - correlation[circle, assigned[circle]]).sum())
        if there <= (1 - least) * here:
            kept[circle] = assigned[circle]
    return kept


def circles(permutation: IntArray) -> list[IntArray]:
    """The cycles of a permutation (K,), those of length one left out.

    >>> [circle.tolist() for circle in circles(np.array([2, 1, 4, 3, 0]))]
    [[0, 2, 4]]
    """
    found = []
    seen = np.zeros(len(permutation), dtype=np.bool_)
    for start in range(len(permutation)):
        circle = []
        unit = start
        while not seen[unit]:
            seen[unit] = True
            circle.append(unit)
            unit = int(permutation[unit])
        if len(circle) > 1:
            found.append(np.array(circle))
    return found
