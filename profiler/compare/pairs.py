"""From labelled runs to what differs between them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control

from profiler.compare.centred import Float64Array
from profiler.compare.cka import cka_matrix
from profiler.compare.counts import compared_names, counts, members
from profiler.compare.matching import correlations, match, match_unseen
from profiler.compare.noise import Floor, kept
from profiler.compare.result import (
    ALPHA,
    ComparedRun,
    Comparison,
    LayerComparison,
    Matching,
    PairComparison,
    ShareChange,
    Verdict,
)
from profiler.compare.runs import Side, SortedWords, sides_of
from profiler.compare.shares import jensen_shannon, matched_difference, unmatched_difference
from profiler.compare.words import gained, lost, moved
from profiler.core.arrays import BoolArray, Rows

_ROUNDING = 1e-9
"""Shares are quotients: a difference that equals the floor may come out a bit above it."""


def compare(
    runs: Sequence[ComparedRun],
    matrices: Sequence[Sequence[Rows] | None] | None,
    sorting: SortedWords,
    *,
    timeline: bool = False,
    own_thresholds: bool = False,
    prior: Literal["shared", "own", "none"] = "shared",
    warnings: Sequence[str] = (),
) -> Comparison:
    """Hold the first run against each other one; see :func:`pairs_of` for a timeline.

    Args:
        runs: two or more, in order.
        matrices: for each run and layer (N, K) activations on the same images; None for a run
            whose activations were not kept.
        sorting: knows every word of :func:`words_in`.
        timeline: whether the runs are steps of one training.
        own_thresholds: whether each run is cut at its own threshold.
        prior: what the labels were scored against.
        warnings: handed on.
    """
    sides = [
        sides_of(run, own, sorting)
        for run, own in zip(runs, matrices or [None] * len(runs), strict=True)
    ]
    pairs = [
        _pair(sides, before, after, sorting.categories)
        for before, after in pairs_of(len(runs), timeline)
    ]
    draws = [layer.draws for run in runs for layer in run.layers]
    return Comparison(
        tuple(runs),
        judge(pairs),
        tuple(sorting.categories),
        tuple(sorting.concepts),
        timeline,
        own_thresholds,
        prior,
        min((len(own.concept) if own else 0 for own in draws), default=0),
        tuple(warnings),
    )


def pairs_of(runs: int, timeline: bool) -> list[tuple[int, int]]:
    """Which run is held against which.

    >>> pairs_of(3, timeline=False), pairs_of(3, timeline=True)
    ([(0, 1), (0, 2)], [(0, 1), (1, 2), (0, 2)])
    """
    if not timeline:
        return [(0, index) for index in range(1, runs)]
    # What grows by small steps may be within the noise of each, and not of all together.
    whole = [(0, runs - 1)] if runs > 2 else []
    return [(index - 1, index) for index in range(1, runs)] + whole


def judge(pairs: Sequence[PairComparison]) -> tuple[PairComparison, ...]:
    """Give each difference its q-value and verdict, by the p-values of all pairs together.

    A q-value is the lowest rate of false discoveries at which a difference is still significant
    (Benjamini & Hochberg 1995). Shares of a layer depend on each other, and the interpretable ones
    mirror the others; the procedure holds its rate under positive dependence, and mirrored entries
    enter twice with the same p-value, true or not.
    """
    p_values = [share.p_value for pair in pairs for layer in pair.layers for share in layer.shares]
    q_values = iter(false_discovery_control(p_values).tolist() if p_values else [])

    def judged(share: ShareChange) -> ShareChange:
        found = replace(share, q_value=next(q_values))
        return replace(found, verdict=_verdict(found))

    return tuple(
        replace(
            pair,
            layers=tuple(
                replace(layer, shares=tuple(judged(share) for share in layer.shares))
                for layer in pair.layers
            ),
        )
        for pair in pairs
    )


def _verdict(share: ShareChange) -> Verdict:
    significant = share.q_value <= ALPHA
    if np.isnan(share.noise):
        return "unknown" if significant else "none"
    if abs(share.difference) <= share.noise + _ROUNDING:
        return "noise"
    return "changed" if significant else "none"


def _pair(
    sides: Sequence[Mapping[str, Side]], before: int, after: int, categories: Sequence[str]
) -> PairComparison:
    one, other = sides[before], sides[after]
    common = [name for name in one if name in other]
    return PairComparison(
        before,
        after,
        tuple(_layer(one[name], other[name], categories) for name in common),
        tuple(name for name in one if name not in other),
        tuple(name for name in other if name not in one),
        moved([(one[name].layer, other[name].layer) for name in common]),
        _cka(list(one.values()), list(other.values())),
    )


def _cka(before: Sequence[Side], after: Sequence[Side]) -> Float64Array | None:
    one, other = ([side.seen for side in run if side.seen is not None] for run in (before, after))
    if len(one) < len(before) or len(other) < len(after):
        return None
    return cka_matrix(one, other)


def _layer(before: Side, after: Side, categories: Sequence[str]) -> LayerComparison:
    matching = _match(before, after)
    kept_units, both_trusted = _kept(before, after, matching)
    floor = before.floor.join(after.floor)
    return LayerComparison(
        before.layer.name,
        _shares(before, after, matching, categories, floor),
        jensen_shannon(*(counts(side.kinds, len(categories)) for side in (before, after))),
        floor.divergence,
        matching,
        kept_units,
        both_trusted,
        floor.kept,
        gained(before.layer, after.layer),
        lost(before.layer, after.layer),
    )


def _match(before: Side, after: Side) -> Matching | None:
    if before.seen is None or after.seen is None:
        return match_unseen(len(before.kinds), len(after.kinds))
    one, other = before.seen.activations, after.seen.activations
    return match(correlations(one, other), len(one))


def _kept(before: Side, after: Side, matching: Matching | None) -> tuple[BoolArray, BoolArray]:
    if matching is None:
        nothing = np.zeros(0, dtype=np.bool_)
        return nothing, nothing
    one, other = before.layer, after.layer
    return kept(
        one.labels.concept[matching.before, 0],
        one.trusted[matching.before],
        other.labels.concept[matching.after, 0],
        other.trusted[matching.after],
    )


def _shares(
    before: Side, after: Side, matching: Matching | None, categories: Sequence[str], floor: Floor
) -> tuple[ShareChange, ...]:
    # Pairs speak for the layer only if every unit of both is in one.
    paired = matching is not None and len(before.kinds) == len(after.kinds) == len(matching.before)
    one, other = (members(side.kinds, len(categories)) for side in (before, after))
    found = []
    for name, x, y, noise in zip(
        compared_names(categories), one, other, floor.shares.tolist(), strict=True
    ):
        if paired and matching is not None:
            difference = matched_difference(x[matching.before], y[matching.after])
        else:
            difference = unmatched_difference(x, y)
        # q-value and verdict rest on all differences together, so they come last.
        found.append(
            ShareChange(name, **vars(difference), q_value=np.nan, noise=noise, verdict="none")
        )
    return tuple(found)
