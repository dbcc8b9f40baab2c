"""Enrichment: how far a concept's share among a unit's top images lies above that among all images.

Take the T images with the highest activations, n_0, …, n_{T−1}, of N, and the values P of a concept
on all images: 0 and 1, where images are annotated, or any numbers. With the mean μ and the
variance σ² (over N) of P,

    z = Σ_r (P[n_r] − μ) / √(T σ² (N − T)/(N − 1))

is the sum's distance from its expectation among T images drawn without replacement, in its
standard deviations; of 0 and 1 it is the z-score of the hypergeometric distribution, as in
enrichment analysis. Images that share the unit's lowest activation, which its list names by their
place in the folder alone, add 0: what a random image adds on average. So a unit that is silent on
most images meets the null distribution at equal length, and errs on the safe side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import Float64, FloatArray, IntArray, Rows, blocks
from profiler.profile.similarity import base
from profiler.profile.similarity.base import (
    Null,
    Similarity,
    Tile,
    Units,
    check_embeddings,
    listed_rows,
)
from profiler.profile.similarity.pmi import short_list


@dataclass(frozen=True)
class Enrichment(Similarity):
    """z of the sum of a concept's values over a unit's top images.

    A concept that is the same on all images has no score (−∞).
    """

    name = "enrichment"
    null_draws = 5000

    def top(self, images: int) -> int:
        """100 of a large probe set, fewer of a small one."""
        return short_list(images, 100)

    def score(
        self, layers: Sequence[Units], images: Rows, concepts: FloatArray, null: Null
    ) -> Iterator[Tile]:
        """Yield the scores of each layer, one block of concepts after the other."""
        used, null_rows, rows = listed_rows(layers, null, len(images))
        held = np.asarray(images[used], dtype=np.float32)
        words = np.asarray(concepts, dtype=np.float32)
        check_embeddings(held)
        check_embeddings(words)
        mean, variance = _moments(images, words)
        left = (len(images) - null_rows.shape[1]) / max(len(images) - 1, 1)
        for part in blocks(len(words), base.CONCEPT_BLOCK):
            spread = np.sqrt(null_rows.shape[1] * variance[part] * left)
            unit = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
            values = np.where(
                variance[part] > 0, (held @ words[part].T - mean[part]) * unit, -np.inf
            ).astype(np.float32)
            for index, (layer, own) in enumerate(zip(layers, rows, strict=True)):
                if not len(layer):
                    continue
                yield Tile(index, 0, part.start, _sums(values, own))
                if null.draws:
                    null.take_in(index, _sums(values, null_rows))


def _moments(images: Rows, words: FloatArray) -> tuple[Float64, Float64]:
    """(M,) mean and variance of each concept over all images; 0 where it is but rounding."""
    wide = words.astype(np.float64)
    middle = np.zeros(words.shape[1])
    for chunk in blocks(len(images), base.ROW_CHUNK):
        middle += np.asarray(images[chunk], np.float64).sum(axis=0)
    middle /= len(images)
    gram = np.zeros((words.shape[1],) * 2)
    for chunk in blocks(len(images), base.ROW_CHUNK):
        rows = np.asarray(images[chunk], np.float64) - middle
        gram += rows.T @ rows
    gram /= len(images)
    variance = np.einsum("me,me->m", wide @ gram, wide)
    mean = wide @ middle
    return mean, np.where(variance > 1e-12 * (variance + mean**2), variance, 0.0)


def _sums(values: FloatArray, lists: IntArray) -> NDArray[np.float32]:
    """(K, B) sums of values (n, B) over lists (K, T) of rows; −1 adds nothing."""
    found = np.zeros((len(lists), values.shape[1]), dtype=np.float32)
    for column in lists.T:
        found += np.where(column[:, None] >= 0, values[column], 0)
    return found
