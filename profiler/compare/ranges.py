"""What changed in the range explanations of runs: how well words predict units, and which."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from profiler.compare.result import PairComparison, RangeChange
from profiler.core.arrays import Float64, IntArray
from profiler.core.statistics import Interval
from profiler.profile.explain import LayerRange, explained_cut, known_mean
from profiler.profile.result import ProfileRun

DRAWS = 2000
"""Of the bootstrap over units."""
LEADING = 3
"""Leading words named of a layer."""


def with_ranges(
    runs: Sequence[ProfileRun], pairs: Sequence[PairComparison], seed: int = 0
) -> tuple[PairComparison, ...]:
    """The pairs with what changed in each layer that both runs have, if all runs are explained.

    A unit counts as explained by one cut for all runs, from the decoys of all. Units are compared
    with their partners where the pair matched them, else layer by layer; the interval is that of a
    bootstrap over units. Folds of the images are the same in all runs, since they see the same
    images.

    Args:
        runs: in the order of the comparison.
        pairs: which of them are compared, with their units matched.
        seed: of the bootstrap.
    """
    if not all(run.ranges for run in runs):
        return tuple(pairs)
    cut = explained_cut([layer for run in runs for layer in run.ranges])
    found = []
    for pair in pairs:
        before, after = runs[pair.before], runs[pair.after]
        own = {layer.layer: layer for layer in before.ranges}
        others = {layer.layer: layer for layer in after.ranges}
        changes = []
        for layer in pair.layers:
            one, other = own[layer.layer], others[layer.layer]
            matching = layer.matching
            partners = None if matching is None else (matching.before, matching.after)
            rng = np.random.default_rng([seed, len(one.r), len(other.r)])
            r = _change(one.shown_r, other.shown_r, partners, rng)
            explained = _change(_as_numbers(one, cut), _as_numbers(other, cut), partners, rng)
            changes.append(
                RangeChange(
                    layer.layer,
                    known_mean(one.shown_r),
                    known_mean(other.shown_r),
                    r,
                    int(one.explained(cut).sum()),
                    int(other.explained(cut).sum()),
                    explained,
                    _leading(one, cut, before.concepts),
                    _leading(other, cut, after.concepts),
                )
            )
        found.append(replace(pair, ranges=tuple(changes)))
    return tuple(found)


def _as_numbers(layer: LayerRange, cut: float) -> Float64:
    return layer.explained(cut).astype(np.float64)


def _change(
    before: Float64,
    after: Float64,
    partners: tuple[IntArray, IntArray] | None,
    rng: np.random.Generator,
) -> Interval:
    """The difference of means, after − before, with its 95 % interval."""
    if partners is not None and len(partners[0]) == len(before) == len(after):
        paired = after[partners[1]] - before[partners[0]]
        return _interval(known_mean(paired), _means(paired, rng))
    return _interval(
        known_mean(after) - known_mean(before), _means(after, rng) - _means(before, rng)
    )


def _means(values: Float64, rng: np.random.Generator) -> Float64:
    """(DRAWS,) means of units drawn anew."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(DRAWS, np.nan)
    drawn = known[rng.integers(len(known), size=(DRAWS, len(known)))]
    return np.asarray(drawn.mean(axis=1), np.float64)


def _interval(value: float, drawn: Float64) -> Interval:
    if np.isnan(drawn).any():
        return Interval()
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Interval(value, low, high)


def _leading(layer: LayerRange, cut: float, concepts: Sequence[str]) -> tuple[str, ...]:
    counted = Counter(concepts[c] for c in layer.leading(cut).tolist() if c >= 0)
    return tuple(word for word, _ in counted.most_common(LEADING))
