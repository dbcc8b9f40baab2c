"""What changed in the range explanations of runs: how well words predict units, and which.

What counts as explained is decided by one cut for all runs, from the decoys of all, also where
people's ratings set that of a run. The images, and with them the folds, are the same in all runs.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from profiler.compare.result import ComparedRange, PairComparison, RangeChange
from profiler.compare.runs import SortedWords
from profiler.core.arrays import Float64, IntArray
from profiler.core.statistics import Interval
from profiler.profile.counts import count_units
from profiler.profile.explain import LayerRange, explained_cut, known_mean
from profiler.profile.result import ProfileRun

ALPHA = 0.05
"""Chance of calling any change of r beyond chance where none is."""
DRAWS = 2000
"""Of the bootstrap over units and folds."""
LEADING = 3
"""Leading words named of a layer, and of those gained and lost."""


def common_cut(runs: Sequence[ProfileRun]) -> float | None:
    """The r from which on units of all runs count as explained; None if a run is not explained."""
    if not all(run.ranges for run in runs):
        return None
    return explained_cut([layer for run in runs for layer in run.ranges])


def compared_ranges(run: ProfileRun, cut: float, sorting: SortedWords) -> dict[str, ComparedRange]:
    """The range explanations of a run by layer.

    Args:
        run: with range explanations.
        cut: that of :func:`common_cut`.
        sorting: knows every leading word.
    """
    found = {}
    for layer in run.ranges:
        words = layer.leading_words(cut, run.concepts)
        counted = count_units(
            layer.layer,
            [word and sorting.category_of[word] for word in words],
            np.isnan(layer.r[:, 0]).tolist(),
            sorting.categories,
        )
        found[layer.layer] = ComparedRange(known_mean(layer.shown_r), counted)
    return found


def with_ranges(
    runs: Sequence[ProfileRun],
    pairs: Sequence[PairComparison],
    seed: int = 0,
) -> tuple[PairComparison, ...]:
    """The pairs with what changed in each layer that both runs have, if all runs are explained.

    Units are compared with their partners where the pair matched them, else layer by layer. The
    interval is that of a bootstrap over units and folds.

    Args:
        runs: in the order of the comparison.
        pairs: which of them are compared, with their units matched.
        seed: of the bootstrap.
    """
    cut = common_cut(runs)
    if cut is None:
        return tuple(pairs)
    found = []
    tests = sum(len(pair.layers) for pair in pairs)
    beyond = float(norm.isf(ALPHA / 2 / max(tests, 1)))
    for pair in pairs:
        before, after = runs[pair.before], runs[pair.after]
        own = {layer.layer: layer for layer in before.ranges}
        others = {layer.layer: layer for layer in after.ranges}
        changes = []
        for layer in pair.layers:
            one, other = own[layer.layer], others[layer.layer]
            matching = layer.matching
            partners = None if matching is None else (matching.before, matching.after)
            seeds = (seed, len(one.r), len(other.r))
            (r, error), (explained, _) = _change(one, other, cut, partners, seeds)
            words = [
                Counter(word for word in each.leading_words(cut, run.concepts) if word)
                for each, run in ((one, before), (other, after))
            ]
            changes.append(
                RangeChange(
                    layer.layer,
                    known_mean(one.shown_r),
                    known_mean(other.shown_r),
                    r,
                    int(one.explained(cut).sum()),
                    int(other.explained(cut).sum()),
                    explained,
                    _most(words[0]),
                    _most(words[1]),
                    bool(abs(r.value) > beyond * error),
                    _more(words[0], words[1]),
                    _more(words[1], words[0], swapped=True),
                )
            )
        found.append(replace(pair, ranges=tuple(changes)))
    return tuple(found)


def _most(words: Counter[str]) -> tuple[str, ...]:
    return tuple(word for word, _ in words.most_common(LEADING))


def _more(
    before: Counter[str], after: Counter[str], swapped: bool = False
) -> tuple[tuple[str, int, int], ...]:
    """The words that rise most, with the units before and after, in the order of the runs."""
    rise = {word: after[word] - before[word] for word in sorted(after)}
    risen = sorted((word for word in rise if rise[word] > 0), key=lambda word: -rise[word])
    ends = (after, before) if swapped else (before, after)
    return tuple((word, ends[0][word], ends[1][word]) for word in risen[:LEADING])


def _change(
    before: LayerRange,
    after: LayerRange,
    cut: float,
    partners: tuple[IntArray, IntArray] | None,
    seeds: tuple[int, ...],
) -> tuple[tuple[Interval, float], tuple[Interval, float]]:
    """The differences, after − before, of mean r and of the share explained.

    Each with its 95 % interval and its standard error.

    In each draw, both runs see the same folds, drawn with replacement; units are drawn as pairs
    where every unit has a partner.
    """
    folds = before.fold_r.shape[1]
    if after.fold_r.shape[1] != folds:  # one of them does not hold its folds
        before, after = (replace(each, fold_r=each.r[:, None]) for each in (before, after))
        folds = 1
    weights = _draws(seeds, (folds,))[0] / folds
    sides = [_values(each, cut) for each in (before, after)]
    drawn = [_drawn(each, cut, weights) for each in (before, after)]
    paired = partners is not None and len(partners[0]) == len(before.r) == len(after.r)

    sizes = [folds]

    def resampled(values: Float64) -> Float64:
        """(DRAWS,) mean over units drawn with replacement, of (DRAWS, K); units that vary alone."""
        known = values[:, np.isfinite(values).all(axis=0)]
        if not known.shape[1]:
            return np.full(DRAWS, np.nan)
        sizes.append(known.shape[1])
        counts, _ = _draws(seeds, tuple(sizes))
        return np.asarray((known * counts).sum(axis=1) / known.shape[1], np.float64)

    def change(which: int) -> tuple[Interval, float]:
        (x, y), (here, there) = ([side[which] for side in each] for each in (sides, drawn))
        if paired and partners is not None:
            own, other = partners
            # A copy of all draws takes most of the time, and units mostly keep their numbers.
            own_draws = here if _in_order(own) else here[:, own]
            each_pair = (there if _in_order(other) else there[:, other]) - own_draws
            return _interval(known_mean(y[other] - x[own]), resampled(each_pair))
        moved = resampled(there) - resampled(here)
        return _interval(known_mean(y) - known_mean(x), moved)

    return change(0), change(1)


def _in_order(units: IntArray) -> bool:
    return bool(np.array_equal(units, np.arange(len(units))))


def _values(layer: LayerRange, cut: float) -> tuple[Float64, Float64]:
    """(K,) r of each unit, and whether it is explained."""
    return layer.shown_r, layer.explained(cut).astype(np.float64)


def _drawn(layer: LayerRange, cut: float, weights: Float64) -> tuple[Float64, Float64]:
    """(DRAWS, K) the same on the folds of each draw; weights (DRAWS, F) sum to 1."""
    full = np.asarray(layer.fold_r[:, :, -1], np.float64)
    return weights @ layer.shown_fold_r.T, (weights @ full.T >= cut).astype(np.float64)


@lru_cache(maxsize=64)
def _draws(
    seeds: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[NDArray[np.uint8], Mapping[str, Any]]:
    """How often each of ``sizes[-1]`` is drawn, with replacement: (DRAWS, size), and the state.

    One generator draws one size after the other. The pairs of a timeline draw alike, and draws
    take most of the time of a comparison, so they are kept. The mean of a count is 1.
    """
    rng = np.random.default_rng(seeds)
    if sizes[:-1]:
        rng.bit_generator.state = _draws(seeds, sizes[:-1])[1]
    counts = rng.multinomial(sizes[-1], np.full(sizes[-1], 1 / sizes[-1]), size=DRAWS)
    return counts.astype(np.uint8), rng.bit_generator.state


def _interval(value: float, drawn: Float64) -> tuple[Interval, float]:
    if np.isnan(drawn).any():
        return Interval(), math.nan
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Interval(value, low, high), float(drawn.std())
