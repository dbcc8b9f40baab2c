"""Rank reordering (CLIP-Dissect): whether a concept orders a unit's top images as the unit does.

Take the T images with the highest activations, t_0 ≥ t_1 ≥ …, one in twenty of the probe set. A
concept orders the same images by their cosine P; t̂ gives each of them the activation it would
have, were that order the unit's own.

    error = mean_i |t_i − t̂_i|³ / the same for five random orders, on average
    score = − error / √(mean_i P[n_i, m])

Images that share the unit's lowest activation have no order, and are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import FloatArray, Rows, blocks
from profiler.profile.similarity.base import (
    Null,
    Similarity,
    Tile,
    Units,
    check_embeddings,
    listed_rows,
)

_HELD_NUMBERS = 2**25
"""Cosines held at a time (128 MiB): a unit needs those of all of its images at once."""
_RANDOM_ORDERS = 5


@dataclass(frozen=True)
class RankReorder(Similarity):
    """Rank reordering with the reference's constants; its random orders are seeded here."""

    fraction: float = 0.05
    """Share of the probe set in a unit's top list."""

    name = "rank_reorder"
    version = 2

    @property
    def constants(self) -> Mapping[str, float]:
        """Share of the probe set, power of the differences, power of the mean cosine."""
        return {"fraction": self.fraction, "p": 3, "scale": 0.5}

    def top(self, images: int) -> int:
        """One in twenty, and at least two: a single image has no order."""
        return max(2, int(images * self.fraction))

    def score(
        self, layers: Sequence[Units], images: Rows, concepts: FloatArray, null: Null
    ) -> Iterator[Tile]:
        """Yield the scores of each layer, one block of concepts after the other.

        Where the cosines are not positive on average the formula has no root to divide by, and
        the score is −∞: the images do not show the concept.
        """
        used, null_rows, rows = listed_rows(layers, null, len(images))
        length = null_rows.shape[1]
        orders = np.stack([np.random.default_rng([null.seed, i]).permutation(length)
                           for i in range(_RANDOM_ORDERS)])  # fmt: skip
        held = np.asarray(images[used], dtype=np.float32)
        words = np.asarray(concepts, dtype=np.float32)
        check_embeddings(held)
        check_embeddings(words)
        for part in blocks(len(words), max(1, min(512, _HELD_NUMBERS // len(used)))):
            cosines = held @ words[part].T
            for index, (layer, own) in enumerate(zip(layers, rows, strict=True)):
                if not len(layer):
                    continue
                values = layer.activations.astype(np.float64)
                lengths = layer.lengths
                yield Tile(index, 0, part.start, _scores(cosines, own, values, lengths, orders))
                if null.draws:
                    lent = np.arange(null.draws) % len(layer)
                    scores = _scores(cosines, null_rows, values[lent], lengths[lent], orders)
                    null.take_in(index, scores)


@numba.njit(parallel=True, cache=True)
def _scores(
    cosines: NDArray[np.float32],
    top: NDArray[np.int64],
    values: NDArray[np.float64],
    lengths: NDArray[np.int64],
    orders: NDArray[np.int64],
) -> NDArray[np.float32]:  # pragma: no cover - compiled
    units = len(top)
    width = cosines.shape[1]
    out = np.empty((units, width), dtype=np.float32)
    for k in numba.prange(units):
        length = lengths[k]
        falling = values[k, :length]
        rising = falling[::-1]
        by_chance = 0.0
        for order in orders:
            # A random order of all ranks, without those that are missing, is one of the others.
            i = 0
            for other in order:
                if other < length:
                    by_chance += abs(rising[i] - rising[other]) ** 3
                    i += 1
        by_chance /= len(orders)
        for m in range(width):
            own = np.empty(length, dtype=np.float32)
            total = 0.0
            for i in range(length):
                own[i] = cosines[top[k, i], m]
                total += own[i]
            if total <= 0 or by_chance == 0:
                out[k, m] = -np.inf
                continue
            error = 0.0
            # Mergesort is stable: equal cosines keep the unit's order.
            for place, i in enumerate(np.argsort(own, kind="mergesort")):
                error += abs(falling[i] - rising[place]) ** 3
            out[k, m] = -(error / by_chance) / np.sqrt(total / length)
    return out
