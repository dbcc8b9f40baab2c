"""Cosine between what a unit does on all images and what a concept does (CLIP-Dissect).

With the activations A (N, K) and the cosines P = images · conceptsᵀ (N, M):

    cosine         A_kᵀ P_m / (|A_k| |P_m|)                 columns as they are
    cosine_cubed   the same of (A − mean)³ and (P − mean)³, norms at least 1e-3

Units do not depend on each other here. Both stream over the images; P is never held.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import FloatArray, Rows, blocks
from profiler.profile.similarity import base
from profiler.profile.similarity.base import Null, Similarity, Tile, Units, check_embeddings

UNIT_CHUNK = 1024
"""Units scored at a time: products with the embeddings are made anew for each chunk."""
_HELD_NUMBERS = 2**25
"""Numbers of shuffled activations held at a time (128 MiB)."""


class _MatrixSimilarity(Similarity):
    """What the two share: they walk through units and shuffled units in chunks."""

    needs_matrix = True
    scorer: ClassVar[type["Scorer"]]

    def top(self, images: int) -> None:
        """No list is used."""

    def score(
        self, layers: Sequence[Units], images: Rows, concepts: FloatArray, null: Null
    ) -> Iterator[Tile]:
        """Yield the scores of one chunk of units after the other."""
        scorer = self.scorer(images, np.asarray(concepts, dtype=np.float32))
        for index, layer in enumerate(layers):
            if layer.matrix is None:
                raise ValueError("this similarity needs the activations on every image")
            own = layer.columns
            for part in blocks(len(own), UNIT_CHUNK):
                for lo, scores in scorer(Columns(layer.matrix, own[part])):
                    yield Tile(index, part.start, lo, scores)
            for part, shuffled in _shuffled(layer, null):
                for _, scores in scorer(shuffled):
                    null.take_in(index, scores, part)


class Scorer:
    """From some units' activations to their scores, block by block of concepts."""

    def __init__(self, images: Rows, concepts: NDArray[np.float32]) -> None:
        self.images = images
        self.concepts = concepts

    def __call__(self, columns: Rows) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first concept, scores (units, concepts)) for ``columns`` (N, units)."""
        raise NotImplementedError

    def chunks(self) -> Iterator[slice]:
        """The images, some at a time."""
        return blocks(len(self.images), base.ROW_CHUNK)

    def rows(self, chunk: slice) -> NDArray[np.float32]:
        """Their embeddings."""
        return np.asarray(self.images[chunk], dtype=np.float32)


@dataclass(frozen=True)
class Columns:
    """Some columns of a matrix on disk, read by rows."""

    matrix: Rows
    columns: NDArray[np.integer[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, chosen columns)."""
        return len(self.matrix), len(self.columns)

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, rows: Any) -> FloatArray:
        return np.asarray(self.matrix[rows], dtype=np.float32)[:, self.columns]


def _shuffled(layer: Units, null: Null) -> Iterator[tuple[slice, FloatArray]]:
    """Units in turn, each with its activations permuted over the images."""
    if not null.draws or not len(layer) or layer.matrix is None:
        return
    count = len(layer.matrix)
    rng = np.random.default_rng(null.seed)
    for part in blocks(null.draws, max(1, min(UNIT_CHUNK, _HELD_NUMBERS // count))):
        chosen = layer.columns[np.arange(part.start, part.stop) % len(layer)]
        columns = Columns(layer.matrix, chosen)
        held = np.concatenate([columns[rows] for rows in blocks(count, base.ROW_CHUNK)])
        yield part, rng.permuted(held, axis=0)


class _Cosine(Scorer):
    # AᵀP = (imagesᵀA)ᵀ conceptsᵀ, and |P_m|² = c_mᵀ (imagesᵀ images) c_m: the images are met
    # once, and what is kept of them is e numbers a unit.

    def __init__(self, images: Rows, concepts: NDArray[np.float32]) -> None:
        super().__init__(images, concepts)
        gram = np.zeros((images.shape[1],) * 2)
        for chunk in self.chunks():
            rows = self.rows(chunk).astype(np.float64)
            gram += rows.T @ rows
        words = concepts.astype(np.float64)
        self.lengths = np.sqrt(np.einsum("me,me->m", words @ gram, words).clip(min=0))
        check_embeddings(self.lengths)

    def __call__(self, columns: Rows) -> Iterator[tuple[int, NDArray[np.float32]]]:
        products = np.zeros((self.images.shape[1], columns.shape[1]))
        squares = np.zeros(columns.shape[1])
        for chunk in self.chunks():
            own = np.asarray(columns[chunk], dtype=np.float64)
            products += self.rows(chunk).T.astype(np.float64) @ own
            squares += np.square(own).sum(axis=0)
        products /= _least(np.sqrt(squares), 0)
        for part in blocks(len(self.concepts), base.CONCEPT_BLOCK):
            cosines = self.concepts[part] @ products / _least(self.lengths[part], 0)[:, None]
            yield part.start, np.ascontiguousarray(cosines.T, dtype=np.float32)


class _CosineCubed(Scorer):
    floor = 1e-3
    """Least norm of a cubed column, as in the reference: faint columns stay faint."""

    def __init__(self, images: Rows, concepts: NDArray[np.float32]) -> None:
        super().__init__(images, concepts)
        total = np.zeros(images.shape[1])
        for chunk in self.chunks():
            total += self.rows(chunk).sum(axis=0, dtype=np.float64)
        self.means = (concepts @ (total / len(images))).astype(np.float32)
        check_embeddings(self.means)

    def __call__(self, columns: Rows) -> Iterator[tuple[int, NDArray[np.float32]]]:
        mean = np.zeros(columns.shape[1])
        for chunk in self.chunks():
            mean += columns[chunk].sum(axis=0, dtype=np.float64)
        mean /= len(self.images)
        for part in blocks(len(self.concepts), base.CONCEPT_BLOCK):
            products = np.zeros((columns.shape[1], part.stop - part.start))
            own_squares = np.zeros(columns.shape[1])
            squares = np.zeros(part.stop - part.start)
            for chunk in self.chunks():
                own = (columns[chunk] - mean.astype(np.float32)) ** 3
                cosines = (self.rows(chunk) @ self.concepts[part].T - self.means[part]) ** 3
                products += own.T @ cosines
                own_squares += np.einsum("nk,nk->k", own, own, dtype=np.float64)
                squares += np.einsum("nm,nm->m", cosines, cosines, dtype=np.float64)
            lengths = _least(np.sqrt(own_squares), self.floor)[:, None]
            products /= lengths * _least(np.sqrt(squares), self.floor)
            yield part.start, products.astype(np.float32)


@dataclass(frozen=True)
class Cosine(_MatrixSimilarity):
    """Cosine of the columns as they are, not centred."""

    name = "cosine"
    scorer = _Cosine


@dataclass(frozen=True)
class CosineCubed(_MatrixSimilarity):
    """Cosine of the centred and cubed columns: what stands out counts for more."""

    name = "cosine_cubed"
    scorer = _CosineCubed


def _least(lengths: FloatArray, floor: float) -> FloatArray:
    # A column of zeros has a cosine of 0 with everything.
    return np.maximum(lengths, floor or np.finfo(np.float64).tiny)
