"""What each unit is, a number for all kinds: its category, uninterpretable, or dead.

With C categories a unit's *kind* is the index of its category, C where its label is not trusted,
C + 1 where it is dead. A layer is then one row of kinds, and its draws are (B, K) of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from profiler.compare.result import INTERPRETABLE, ComparedLayer, LayerDraws
from profiler.core.arrays import BoolArray, IntArray

UNINTERPRETABLE = "uninterpretable"
DEAD = "dead"


def compared_names(categories: Sequence[str]) -> tuple[str, ...]:
    """The C + 3 shares that are compared, in order: three stand beside the categories."""
    return (*categories, INTERPRETABLE, UNINTERPRETABLE, DEAD)


def layer_kinds(layer: ComparedLayer, categories: Sequence[str]) -> IntArray:
    """(K,) kinds of a layer's units."""
    place = {category: index for index, category in enumerate(categories)}
    kinds = np.array(
        [len(place) if category is None else place[category] for category in layer.categories],
        dtype=np.int64,
    )
    kinds[layer.labels.dead] = len(place) + 1
    return kinds


def draw_kinds(
    draws: LayerDraws,
    categories: Sequence[str],
    concepts: Sequence[str],
    category_of: Mapping[str, str],
) -> IntArray:
    """(B, K) kinds of a layer's units on each draw."""
    place = {category: index for index, category in enumerate(categories)}
    kinds = np.full(draws.concept.shape, len(place), dtype=np.int64)
    words, which = np.unique(draws.concept[draws.trusted], return_inverse=True)
    kind_of = np.array([place[category_of[concepts[word]]] for word in words], dtype=np.int64)
    kinds[draws.trusted] = kind_of[which]
    kinds[draws.concept < 0] = len(place) + 1
    return kinds


def counts(kinds: IntArray, categories: int) -> IntArray:
    """(…, C + 2) units of each kind, for kinds (…, K).

    >>> counts(np.array([[0, 2, 2], [1, 3, 0]]), 2).tolist()
    [[1, 0, 2, 0], [1, 1, 0, 1]]
    """
    every = np.arange(categories + 2)
    return np.stack([np.count_nonzero(kinds == kind, axis=-1) for kind in every], axis=-1)


def members(kinds: IntArray, categories: int) -> list[BoolArray]:
    """For each compared share, which units are in it; each as ``kinds``."""
    return [
        *(kinds == category for category in range(categories)),
        kinds < categories,
        kinds == categories,
        kinds == categories + 1,
    ]
