"""Runs as they enter the comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiler.compare.centred import Centred
from profiler.compare.cka import CKALayer
from profiler.compare.counts import draw_kinds, layer_kinds
from profiler.compare.noise import Floor
from profiler.compare.result import ComparedLayer, ComparedRange, ComparedRun, LayerDraws
from profiler.core.arrays import IntArray, Rows
from profiler.profile.counts import ModelProfile, count_units
from profiler.profile.drivers import LayerDrivers
from profiler.profile.labels import LayerLabels
from profiler.profile.threshold import Threshold


@dataclass(frozen=True)
class SortedWords:
    """The concepts by index, the categories in their order, and which word is in which."""

    concepts: Sequence[str]
    categories: Sequence[str]
    category_of: Mapping[str, str]


def compared_run(
    name: str,
    labels: Sequence[LayerLabels],
    threshold: Threshold,
    sorting: SortedWords,
    draws: Sequence[LayerDraws] | None = None,
    *,
    title: str = "",
    step: float | None = None,
    ranges: Mapping[str, ComparedRange] | None = None,
    drivers: Mapping[str, LayerDrivers] | None = None,
) -> ComparedRun:
    """A run with the categories of its trusted labels and its profile.

    Args:
        name: short, unique among the runs.
        labels: of its layers, by the prior that all runs share.
        threshold: of the comparison.
        sorting: knows every word of :func:`words_in`.
        draws: of its layers, where there are any.
        title: the subject in full; the name where it is empty.
        step: of a training run.
        ranges: of its layers, where all runs are explained.
        drivers: of its layers, where all networks were shown the same scenes.
    """
    layers = []
    drawn: Sequence[LayerDraws | None] = [None] * len(labels) if draws is None else draws
    for layer, own in zip(labels, drawn, strict=True):
        trusted = threshold.trusts(layer)
        words = [sorting.concepts[concept] for concept in layer.concept[trusted, 0]]
        categories: list[str | None] = [None] * layer.units
        for unit, word in zip(trusted.nonzero()[0].tolist(), words, strict=True):
            categories[unit] = sorting.category_of[word]
        layers.append(ComparedLayer(layer, trusted, tuple(categories), own))
    profile = ModelProfile(
        tuple(sorting.categories),
        tuple(
            count_units(
                layer.name, layer.categories, layer.labels.dead.tolist(), sorting.categories
            )
            for layer in layers
        ),
    )
    return ComparedRun(
        name, title or name, step, threshold, tuple(layers), profile, ranges or {}, drivers or {}
    )


@dataclass(frozen=True)
class Side:
    """One layer of one run, with what concerns it alone: it may stand in several pairs.

    Attributes:
        layer: as handed in.
        kinds: (K,) of its units; see :mod:`profiler.compare.counts`.
        floor: what its draws differ by.
        seen: its activations; None where they were not kept.
    """

    layer: ComparedLayer
    kinds: IntArray
    floor: Floor
    seen: CKALayer | None


def sides_of(
    run: ComparedRun, matrices: Sequence[Rows] | None, sorting: SortedWords
) -> dict[str, Side]:
    """The layers of a run by name, in their order; activations are read here, three times."""
    found: dict[str, Side] = {}
    every: Sequence[Rows | None] = [None] * len(run.layers) if matrices is None else matrices
    for layer, rows in zip(run.layers, every, strict=True):
        drawn = None
        if layer.draws is not None:
            drawn = draw_kinds(
                layer.draws, sorting.categories, sorting.concepts, sorting.category_of
            )
        found[layer.name] = Side(
            layer,
            layer_kinds(layer, sorting.categories),
            Floor.of(layer.draws, drawn, len(sorting.categories)),
            None if rows is None else CKALayer.of(Centred.of(rows)),
        )
    return found
