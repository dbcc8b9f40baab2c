"""Words that layers gain, lose, or pass to one another."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from profiler.compare.noise import LEVEL
from profiler.compare.result import ComparedLayer, ConceptChange, LayerDraws, Moved
from profiler.profile.labels import LayerLabels
from profiler.profile.threshold import Threshold


def words_in(
    labels: Sequence[Sequence[LayerLabels]],
    thresholds: Sequence[Threshold],
    draws: Sequence[Sequence[LayerDraws]] | None = None,
) -> list[int]:
    """Indices of the concepts that need a category: those of trusted labels, each once.

    Those of the runs in order of first appearance, then those that only draws bring.

    Args:
        labels: for each run its layers.
        thresholds: for each run.
        draws: for each run its layers, where there are draws.
    """
    found = [
        layer.concept[threshold.trusts(layer), 0]
        for layers, threshold in zip(labels, thresholds, strict=True)
        for layer in layers
    ]
    found += [layer.concept[layer.trusted] for layers in draws or () for layer in layers]
    return list(dict.fromkeys(word for each in found for word in each.tolist()))


def carriers(layer: ComparedLayer) -> Counter[int]:
    """How many units of a layer carry each concept in a trusted label."""
    return Counter(layer.labels.concept[layer.trusted, 0].tolist())


def gained(before: ComparedLayer, after: ComparedLayer) -> tuple[ConceptChange, ...]:
    """Words the layer carries after and not before; most units first."""
    then, now = carriers(before), carriers(after)
    absent, present = _Presence(before.draws), _Presence(after.draws)
    return tuple(
        ConceptChange(word, 0, units, _both(absent.never(word), present.often(word)))
        for word, units in _by_units(now)
        if word not in then
    )


def lost(before: ComparedLayer, after: ComparedLayer) -> tuple[ConceptChange, ...]:
    """Words the layer carries before and not after; most units first."""
    return tuple(
        ConceptChange(change.concept, change.after, change.before, change.beyond_noise)
        for change in gained(after, before)
    )


def moved(layers: Sequence[tuple[ComparedLayer, ComparedLayer]]) -> tuple[Moved, ...]:
    """Words carried in other layers than before and in none of the same; most units first.

    Args:
        layers: each layer that both runs have, before and after.
    """
    then = {before.name: carriers(before) for before, _ in layers}
    now = {after.name: carriers(after) for _, after in layers}
    draws_then = [before.draws for before, _ in layers]
    draws_now = [after.draws for _, after in layers]
    found = []
    for word, _ in _by_units(sum((*then.values(), *now.values()), Counter())):
        before = {name: units[word] for name, units in then.items() if word in units}
        after = {name: units[word] for name, units in now.items() if word in units}
        if before and after and not before.keys() & after.keys():
            there, here = ([name in where for name in then] for where in (before, after))
            beyond = _both(
                _only(draws_then, word, there, here), _only(draws_now, word, here, there)
            )
            found.append(Moved(word, before, after, beyond))
    return tuple(found)


def _by_units(carried: Counter[int]) -> Iterable[tuple[int, int]]:
    """Most units first, among equals the lower index."""
    return sorted(carried.items(), key=lambda item: (-item[1], item[0]))


class _Presence:
    """In how many of its draws a layer carries each concept; nothing is known without draws."""

    def __init__(self, draws: LayerDraws | None) -> None:
        self.draws = 0 if draws is None else len(draws.concept)
        self.seen: Counter[int] = Counter()
        if draws is not None:
            for concept, trusted in zip(draws.concept, draws.trusted, strict=True):
                self.seen.update(np.unique(concept[trusted]).tolist())

    def often(self, word: int) -> bool | None:
        """Whether the word is there in at least 95 % of the draws."""
        return self.seen[word] >= LEVEL * self.draws if self.draws else None

    def never(self, word: int) -> bool | None:
        """Whether it is missing in at least 95 % of them."""
        return self.draws - self.seen[word] >= LEVEL * self.draws if self.draws else None


def _only(
    draws: Sequence[LayerDraws | None], word: int, where: Sequence[bool], nowhere: Sequence[bool]
) -> bool | None:
    """Whether, in 95 % of the draws, some layer of the ones carries a word and none of the others.

    Args:
        draws: for each layer.
        word: the concept.
        where: for each layer whether it is one of those that carry the word.
        nowhere: … that do not.
    """
    carried = []
    for layer, wanted, unwanted in zip(draws, where, nowhere, strict=True):
        if not (wanted or unwanted):
            continue
        if layer is None:
            return None
        carried.append((wanted, ((layer.concept == word) & layer.trusted).any(axis=1)))
    some = np.any([seen for wanted, seen in carried if wanted], axis=0)
    none = ~np.any([seen for wanted, seen in carried if not wanted], axis=0)
    return bool(np.mean(some & none) >= LEVEL)


def _both(one: bool | None, other: bool | None) -> bool | None:
    return None if one is None or other is None else one and other
