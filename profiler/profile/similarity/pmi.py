"""Pointwise mutual information between a unit's top images and a concept: soft-WPMI and WPMI.

From CLIP-Dissect (Oikarinen & Weng, ICLR 2023). Notation: N probe images, M concepts, K units of
one layer; ``images`` (N, e) and ``concepts`` (M, e) are unit rows of one vision-language space. A
unit is described by its *top list*: the T images on which its pooled activation is highest,
highest first.

    Q[n, m] = softmax over m of a · cos(image n, concept m)
    π_r     = 0.998 − (r / T) (0.998 − 0.97)                        weight of rank r = 0, 1, …
    L[k, m] = Σ_r log(1 + π_r (Q[n_r, m] − 1) + ε)                  evidence, soft-WPMI
    L[k, m] = Σ_r log(Q[n_r, m] + ε)                                evidence, WPMI
    D[m]    = logsumexp_k L[k, m] − log K                           prior, over the whole layer
    score   = L − λ D

At the ranks of images that share the unit's lowest activation, which its list names by their place
in the folder alone, stands instead what a random image says on average: the mean over probe images
n of the same logarithm, with Q[n, m] for Q[n_r, m]. So units that are silent on most images meet
the others, and the null distribution, at equal length.

The prior couples the units of a layer: a unit's score depends on which units it is scored with,
so a layer is always scored as a whole. Nothing of size (N, M) or (K, M) is ever held: concepts
and images are taken in blocks, and only images that stand in some top list get a row of Q.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import FloatArray, IntArray, Rows, blocks
from profiler.profile.similarity import base
from profiler.profile.similarity.base import (
    Null,
    Similarity,
    Tile,
    Units,
    check_embeddings,
    listed_rows,
)
from profiler.profile.similarity.kernels import (
    FACTOR_RANGE,
    MASS_BITS,
    add_logs,
    add_mass,
    exponentiate,
    group_of,
    raise_to_guests,
)

NEUTRAL = 1024
"""Images over which a rank's logarithm is averaged: all of a smaller probe set; of a larger one so
many for each rank, drawn at random."""
KEPT_BYTES = 2**30
"""Exponentials of the softmax that are kept from its normaliser to the scores: of 1,000 images and
20,000 concepts they take 80 MB, of 10,000 images 800 MB."""
_HIGHEST_TEMPERATURE = 40.0
"""So that the least exponential of the softmax, exp(−2a), stays in float32's range."""


def short_list(images: int, reference: int) -> int:
    """Length of the top lists for a probe set of ``images`` images.

    The reference's lengths are meant for tens of thousands of images. Where a concept has only a
    few images to show it, a long list dilutes the unit with images it hardly responds to: one
    image in a hundred, at least ten, and never more than a fifth of the probe set.

    >>> [short_list(n, 100) for n in (4, 30, 1000, 4000, 50_000)]
    [1, 6, 10, 40, 100]
    """
    return max(1, min(reference, max(10, images // 100), images // 5))


class _PMI(Similarity):
    """What soft-WPMI and WPMI share; they differ in the evidence of one image."""

    version = 2
    null_draws = 5000

    temperature: float
    prior_weight: float
    epsilon: float

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= _HIGHEST_TEMPERATURE:
            raise ValueError(
                f"temperature must lie between 0 and {_HIGHEST_TEMPERATURE:g}, got "
                f"{self.temperature}"
            )
        if self.prior_weight < 0:
            raise ValueError(f"the prior's weight must not be negative, got {self.prior_weight}")
        if not 1 / FACTOR_RANGE**2 <= self.epsilon <= 1e-3:  # a factor of 0 has no logarithm
            raise ValueError(f"epsilon must lie between 6e-8 and 0.001, got {self.epsilon}")

    @property
    def constants(self) -> Mapping[str, float]:
        """Temperature and weight of the prior."""
        return {"a": self.temperature, "λ": self.prior_weight}

    @abstractmethod
    def factors(self, top: int) -> tuple[FloatArray, FloatArray]:
        """(offset, slope), each (T,): the image at rank r adds log(offset_r + slope_r · Q)."""

    def score(
        self, layers: Sequence[Units], images: Rows, concepts: FloatArray, null: Null
    ) -> Iterator[Tile]:
        """Yield the scores of each layer, one block of concepts after the other."""
        neutral = _neutral_images(layers, null, len(images))
        used, null_rows, rows = listed_rows(layers, null, len(images), neutral)
        if not len(used):
            return  # every unit is dead, and there is no null distribution
        *rows, neutral = rows
        probabilities = ConceptProbabilities(images, used, concepts, self.temperature)
        for lo, pieces in probabilities.blocks():
            null_evidence, *evidence, average = self.evidence(pieces, [null_rows, *rows], neutral)
            # From each rank to the end of the list.
            rest = np.cumsum(average[::-1], axis=0, dtype=np.float64)[::-1].astype(np.float32)
            for index, found in enumerate(evidence):
                if not len(layers[index]):
                    continue
                short = layers[index].short
                found[short] += rest[layers[index].lengths[short]]
                prior = Prior.of(found)
                yield Tile(index, 0, lo, prior.score(found, self.prior_weight))
                if null.draws:
                    prior.raise_to_guests(null_evidence, self.prior_weight, null.best[index])

    def evidence(
        self,
        pieces: "Iterator[tuple[int, FloatArray]]",
        lists: Sequence[IntArray],
        neutral: NDArray[np.int64],
    ) -> list[NDArray[np.float32]]:
        """L for several sets of top lists.

        Args:
            pieces: (index of the first row, Q of some rows (n, B)); together all rows.
            lists: (K, T) rows of Q, highest activation first; -1 for none.
            neutral: (T, J) rows of Q for each rank; (0, 0) for none.

        Returns:
            (K, B) for each of the lists; agrees with the plain sum of logarithms to about 1e-5.
            After them (T, B), the mean of the logarithms of each rank's ``neutral``.
        """
        rows = [np.ascontiguousarray(each, dtype=np.int64) for each in lists]
        sums: list[NDArray[np.float32]] = []
        for first, q in pieces:
            if not sums:
                shapes = [(len(each), q.shape[1]) for each in (*rows, neutral)]
                sums = [np.zeros(shape, dtype=np.float32) for shape in shapes]
            for each, into in zip(rows, sums, strict=False):
                _add(q, first, each, *self.factors(each.shape[1]), into)
            if len(neutral):
                for offset, slope, each, into in zip(
                    *self.factors(len(neutral)), neutral[:, None], sums[-1][:, None], strict=True
                ):
                    same = np.ones(each.shape[1])
                    _add(q, first, each, offset * same, slope * same, into)
        if len(neutral):
            sums[-1] /= neutral.shape[1]
        return sums


def _add(
    q: FloatArray,
    first: int,
    rows: NDArray[np.int64],
    offset: FloatArray,
    slope: FloatArray,
    into: NDArray[np.float32],
) -> None:
    # Factors from 1e-7 to 1 are moved into the middle of the range that products of many may
    # take; a power of two costs no precision.
    shift = round(-np.log2(offset.min(initial=1)) / 2)
    offset, slope = np.ldexp(offset, shift), np.ldexp(slope, shift)
    add_logs(
        q,
        first,
        rows,
        offset.astype(np.float32),
        slope.astype(np.float32),
        shift,
        group_of(offset.min(), (offset + slope).max()),
        into,
    )


def _neutral_images(layers: Sequence[Units], null: Null, images: int) -> NDArray[np.int64]:
    """(T, J) for each rank the images that stand for any; none where no list is short."""
    if not any(layer.short.any() for layer in layers):
        return np.empty((0, 0), dtype=np.int64)
    length = max(layer.top.shape[1] for layer in layers)
    if images <= NEUTRAL:
        return np.tile(np.arange(images), (length, 1))
    rng = np.random.default_rng([null.seed, images])
    return np.stack([rng.choice(images, NEUTRAL, replace=False) for _ in range(length)])


@dataclass(frozen=True)
class SoftWPMI(_PMI):
    """Soft-WPMI; the defaults are those of the reference implementation."""

    temperature: float = 10.0
    """a: how sharply the softmax over concepts decides."""
    prior_weight: float = 1.0
    """λ: how much a concept that suits every unit of the layer is marked down."""
    first_weight: float = 0.998
    """π at rank 0."""
    last_weight: float = 0.97
    """π towards the end of the top list."""
    epsilon: float = 1e-7

    name = "soft-wpmi"

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.first_weight, self.last_weight)
        if not all(0 <= weight <= 1 for weight in weights):
            raise ValueError(f"rank weights must lie between 0 and 1, got {weights}")

    def top(self, images: int) -> int:
        """100 of a large probe set, fewer of a small one."""
        return short_list(images, 100)

    def rank_weights(self, top: int) -> FloatArray:
        """π_r for r = 0 … top−1, shape (top,).

        >>> SoftWPMI().rank_weights(2).round(3).tolist()
        [0.998, 0.984]
        """
        ranks = np.arange(top) / top
        return self.first_weight - ranks * (self.first_weight - self.last_weight)

    def factors(self, top: int) -> tuple[FloatArray, FloatArray]:
        """1 + π(Q − 1) + ε = (1 − π + ε) + π · Q: one multiply-add a factor."""
        weights = self.rank_weights(top)
        return 1 - weights + self.epsilon, weights


@dataclass(frozen=True)
class WPMI(_PMI):
    """WPMI, without the soft membership of ranks; the reference's defaults."""

    temperature: float = 2.0
    """a."""
    prior_weight: float = 0.6
    """λ."""
    epsilon: float = 1e-7

    name = "wpmi"

    def top(self, images: int) -> int:
        """28 of a large probe set, fewer of a small one."""
        return short_list(images, 28)

    def factors(self, top: int) -> tuple[FloatArray, FloatArray]:
        """Q + ε."""
        return np.full(top, self.epsilon), np.ones(top)


class ConceptProbabilities:
    """Q, the softmax over concepts of the used images, served in blocks of concepts.

    The normaliser of the softmax needs all concepts, so it is summed once on construction. The
    exponentials are kept for the blocks as far as ``KEPT_BYTES`` reach; the others are computed
    again on demand, a chunk of images at a time, to the same bits. Memory:
    O(KEPT_BYTES + ROW_CHUNK · (CONCEPT_BLOCK + e)), whatever the number of images and concepts.

    Args:
        images: (N, e) unit rows.
        used: (n,) the images that get a row of Q, ascending.
        concepts: (M, e) unit rows.
        temperature: a.
    """

    def __init__(
        self, images: Rows, used: IntArray, concepts: FloatArray, temperature: float
    ) -> None:
        self._images = images
        self._used = used
        self._concepts = np.ascontiguousarray(concepts, dtype=np.float32)
        self._temperature = temperature
        self._chunks = list(blocks(len(used), base.ROW_CHUNK))
        # Where one chunk holds them all, they are read once.
        self._held = self._read(self._chunks[0]) if len(self._chunks) == 1 else None
        check_embeddings(self._concepts)
        self._scale = np.ones(len(used), dtype=np.float32)
        self._kept: dict[tuple[int, int], NDArray[np.float32]] = {}
        room = KEPT_BYTES
        total = np.zeros(len(used), dtype=np.float64)
        for chunk in self._chunks:
            rows = self._rows(chunk)
            # The compiled loop would take a NaN apart and make a plausible number of it.
            check_embeddings(rows)
            for part in blocks(len(self._concepts), base.CONCEPT_BLOCK):
                found = self._exponentials(rows, chunk, part)
                total[chunk] += found.sum(axis=1, dtype=np.float64)
                if found.nbytes <= room:
                    room -= found.nbytes
                    self._kept[chunk.start, part.start] = found
        self._scale = (1 / total).astype(np.float32)

    def blocks(self) -> Iterator[tuple[int, Iterator[tuple[int, FloatArray]]]]:
        """Yield, for each block of concepts, its first concept and its pieces.

        A piece is (its first row's place among the used images, Q of its rows), (n, B) float32.
        """
        for part in blocks(len(self._concepts), base.CONCEPT_BLOCK):
            yield part.start, self._pieces(part)

    def _pieces(self, part: slice) -> Iterator[tuple[int, FloatArray]]:
        for chunk in self._chunks:
            kept = self._kept.pop((chunk.start, part.start), None)
            if kept is None:
                kept = self._exponentials(self._rows(chunk), chunk, part)
            else:  # with a scale of 1 so far
                kept *= self._scale[chunk, None]
            yield chunk.start, kept

    def _rows(self, chunk: slice) -> NDArray[np.float32]:
        return self._read(chunk) if self._held is None else self._held

    def _read(self, chunk: slice) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._images[self._used[chunk]], dtype=np.float32)

    def _exponentials(
        self, rows: NDArray[np.float32], chunk: slice, part: slice
    ) -> NDArray[np.float32]:
        cosines: NDArray[np.float32] = rows @ self._concepts[part].T
        exponentiate(cosines, self._temperature, self._scale[chunk])
        return cosines


@dataclass(frozen=True)
class Prior:
    """The units of a layer, reduced to what the prior D of a block of concepts needs."""

    log_sum: FloatArray
    """(B,) logsumexp over units of L."""
    units: int

    @classmethod
    def of(cls, evidence: NDArray[np.float32]) -> "Prior":
        """Reduce the evidence (K, B) of a whole layer.

        The exponentials are summed as integers, in units of 2⁻³² of the greatest, so that no
        order of units changes a bit. What is rounded away moves D
        by less than 1e-6 for a thousand units.
        """
        peak = evidence.max(axis=0, initial=-np.inf)
        mass = np.zeros(len(peak))
        add_mass(evidence, peak, mass)
        counted = np.ldexp(mass, MASS_BITS).astype(np.int64)
        return cls(peak + np.log(counted) - MASS_BITS * np.log(2), len(evidence))

    def score(self, evidence: NDArray[np.float32], prior_weight: float) -> NDArray[np.float32]:
        """L − λ D for units of the layer; (K, B)."""
        prior = prior_weight * (self.log_sum - np.log(self.units))
        score: NDArray[np.float32] = evidence - prior.astype(np.float32)
        return score

    def raise_to_guests(
        self, evidence: NDArray[np.float32], prior_weight: float, best: NDArray[np.float32]
    ) -> None:
        """Score lists that are no unit of the layer, and raise ``best`` (R,) where they beat it.

        Each of the R lists (R, B) is scored in the place of an average unit. A unit's own evidence
        is part of D, so no unit scores above log K (where λ = 1). A list outside the sum could, and
        one that joined as unit K + 1 could reach log (K + 1); in the place of a unit it plays by
        the units' rules, which decides much in a layer of few units.
        """
        with np.errstate(divide="ignore"):  # the one unit of a layer leaves nothing behind
            others = self.log_sum + np.log((self.units - 1) / self.units)
        raise_to_guests(evidence, others, np.log(self.units), prior_weight, best)
