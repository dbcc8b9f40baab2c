"""A map of words: those of like meaning lie near each other.

The embeddings of the words are laid out in the plane by t-SNE (van der Maaten & Hinton 2008), in
full and from the first two principal components on, so that nothing is left to chance. Only the
most frequent words are laid out; each other lies beside the one that is nearest in meaning.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.core.arrays import Float64, FloatArray, IntArray

MOST_WORDS = 500
"""Words that are laid out."""
FEWEST_WORDS = 8
_PERPLEXITY = 12.0
_STEPS, _EARLY = 250, 60
_EXAGGERATION = 6.0
_BESIDE = 0.012
"""How far a word lies from the one that it is put beside, as a share of the map's side."""


@dataclass(frozen=True)
class WordMap:
    """Where words lie.

    Attributes:
        concept: (n,) indices of the words.
        place: (n, 2) in [0, 1].
    """

    concept: IntArray
    place: FloatArray

    def to_arrays(self) -> dict[str, Any]:
        """As named arrays, to be stored."""
        return {"concept": self.concept, "place": self.place.astype(np.float32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], prefix: str = "") -> "WordMap | None":
        """What :meth:`to_arrays` gave, its names behind a prefix; None where it is not there."""
        if f"{prefix}concept" not in arrays:
            return None
        return cls(arrays[f"{prefix}concept"], arrays[f"{prefix}place"])

    @classmethod
    def of(cls, concepts: Iterable[int], rows: FloatArray) -> "WordMap | None":
        """Lay out the words of units.

        Args:
            concepts: of each unit the index of its word; −1 where it has none.
            rows: (M, e) embeddings of all words.

        Returns:
            None where there are fewer than :data:`FEWEST_WORDS` words.
        """
        frequent = Counter(i for i in concepts if i >= 0).most_common()
        words = np.array([word for word, _ in frequent], np.int64)
        if len(words) < FEWEST_WORDS:
            return None
        own = np.asarray(rows[words], np.float64)
        own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
        first, others = own[:MOST_WORDS], own[MOST_WORDS:]
        place = layout(first)
        if len(others):
            nearest = (others @ first.T).argmax(axis=1)
            angle = 2.399963 * np.arange(len(others))  # the golden angle: no two in line
            beside = _BESIDE * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            place = np.concatenate([place, np.clip(place[nearest] + beside, 0, 1)])
        return cls(words, place.astype(np.float32))


def layout(rows: Float64) -> Float64:
    """(n, e) unit rows → (n, 2) places in [0, 1]; the same for the same rows."""
    n = len(rows)
    square = np.maximum(2 - 2 * rows @ rows.T, 0)
    near = _affinities(square, min(_PERPLEXITY, (n - 1) / 3))
    place = _principal(rows)
    place *= 1e-2 / max(float(place.std()), 1e-12)
    move, gain = np.zeros_like(place), np.ones_like(place)
    rate = max(n / _EXAGGERATION / 4, 10.0)
    for step in range(_STEPS):
        early = step < _EARLY
        apart = ((place[:, None] - place[None]) ** 2).sum(axis=2)
        pull = 1 / (1 + apart)
        np.fill_diagonal(pull, 0)
        force = ((_EXAGGERATION if early else 1.0) * near - pull / pull.sum()) * pull
        slope = 4 * (force.sum(axis=1)[:, None] * place - force @ place)
        gain = np.where(np.sign(slope) == np.sign(move), 0.8 * gain, gain + 0.2).clip(0.01)
        move = (0.5 if early else 0.8) * move - rate * gain * slope
        place = place + move
        place -= place.mean(axis=0)
    low, high = place.min(axis=0), place.max(axis=0)
    found: Float64 = (place - low) / np.maximum(high - low, 1e-12)
    return found


def _principal(rows: Float64) -> Float64:
    """(n, 2) the first two principal components, of a sign that does not depend on the solver."""
    centred = rows - rows.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    found: Float64 = left[:, :2] * size[:2]
    largest = np.abs(found).argmax(axis=0)
    found *= np.sign(found[largest, np.arange(found.shape[1])])
    return found


def _affinities(square: Float64, perplexity: float) -> Float64:
    """(n, n) joint probabilities of neighbours; by bisection each row has the perplexity."""
    n = len(square)
    low, high = np.zeros(n), np.full(n, np.inf)
    beta = np.ones(n)
    others = ~np.eye(n, dtype=bool)
    for _ in range(40):
        weight = np.exp(-square * beta[:, None]) * others
        total = np.maximum(weight.sum(axis=1), 1e-300)
        entropy = np.log(total) + beta * (square * weight).sum(axis=1) / total
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        beta = np.where(np.isinf(high), 2 * beta, (low + high) / 2)
    rows = weight / total[:, None]
    found: Float64 = np.maximum((rows + rows.T) / (2 * n), 1e-12)
    return found
