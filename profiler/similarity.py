"""How well each concept describes a unit: soft-WPMI (Oikarinen & Weng, CLIP-Dissect, ICLR 2023).

Notation: N probe images, M concepts, K units of one layer; ``images`` (N, e) and ``concepts``
(M, e) are unit rows of one vision-language space. A unit is described by its *top list*: the
``top`` images on which its pooled activation is highest, highest first.

    Q[n, m] = softmax over m of a · cos(image n, concept m)
    π_r     = 0.998 − (r / top) (0.998 − 0.97)                      weight of rank r = 0, 1, …
    L[k, m] = Σ_r log(1 + π_r (Q[n_r, m] − 1) + ε)                  evidence
    D[m]    = logsumexp_k L[k, m] − log K                           prior, over the whole layer
    score   = L − λ D

The prior couples the units of a layer: a unit's score depends on which units it is scored with,
so a layer is always scored as a whole. Nothing of size (N, M) or (K, M) is ever held: concepts
are taken in blocks, and only images that stand in some top list get a row of Q.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from profiler.errors import InputError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]

VERSION = 1
"""Changes whenever scores may change by more than rounding; part of every cache key."""

CONCEPT_BLOCK = 512
"""Concepts scored at a time: a block's row of Q (2 KiB) stays in the first-level cache."""

_LARGEST_WEIGHT = 1 - 2**-10
"""So that a factor 1 + π(Q − 1) is at least 2⁻¹⁰, and a dozen stay in float32's range."""
_HIGHEST_TEMPERATURE = 40.0
"""So that the least exponential of the softmax, exp(−2a), stays in float32's range."""


@dataclass(frozen=True)
class SoftWPMI:
    """The constants of soft-WPMI; the defaults are those of the reference implementation."""

    temperature: float = 10.0
    """a: how sharply the softmax over concepts decides."""
    prior_weight: float = 1.0
    """λ: how much a concept that suits every unit of the layer is marked down."""
    first_weight: float = 0.998
    """π at rank 0."""
    last_weight: float = 0.97
    """π towards the end of the top list."""
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= _HIGHEST_TEMPERATURE:
            raise ValueError(
                f"temperature must lie between 0 and {_HIGHEST_TEMPERATURE:g}, got "
                f"{self.temperature}"
            )
        if self.prior_weight < 0:
            raise ValueError(f"the prior's weight must not be negative, got {self.prior_weight}")
        # The compiled loop multiplies a dozen factors before it looks at the exponent.
        weights = (self.first_weight, self.last_weight)
        if not all(0 <= weight <= _LARGEST_WEIGHT for weight in weights):
            raise ValueError(
                f"rank weights must lie between 0 and {_LARGEST_WEIGHT:.5f}, got {weights}"
            )

    def rank_weights(self, top: int) -> FloatArray:
        """π_r for r = 0 … top−1, shape (top,).

        >>> SoftWPMI().rank_weights(2).round(3).tolist()
        [0.998, 0.984]
        """
        ranks = np.arange(top) / top
        return self.first_weight - ranks * (self.first_weight - self.last_weight)


class ConceptProbabilities:
    """Q, the softmax over concepts of each image, served in blocks of concepts.

    The normaliser of the softmax needs all concepts, so it is summed once on construction; a
    block is then exponentiated on demand. Memory: O(N · CONCEPT_BLOCK), never N · M.
    """

    def __init__(self, images: FloatArray, concepts: FloatArray, temperature: float) -> None:
        self._images = np.ascontiguousarray(images, dtype=np.float32)
        self._concepts = np.ascontiguousarray(concepts, dtype=np.float32)
        self._temperature = np.float32(temperature)
        # |cos| <= 1, so a·cos - a lies in [-2a, 0]: its exponential neither over- nor underflows.
        total = np.zeros(len(images), dtype=np.float64)
        for lo in range(0, self.concepts, CONCEPT_BLOCK):
            total += self._exponentials(lo).sum(axis=1, dtype=np.float64)
        if not np.isfinite(total).all():
            # The compiled loop would take a NaN apart and make a plausible number of it.
            raise InputError("the VLM's embeddings hold NaN or infinite numbers")
        self._normaliser = total[:, None].astype(np.float32)

    @property
    def concepts(self) -> int:
        """Number of concepts M."""
        return len(self._concepts)

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield ``(lo, Q[:, lo:lo+B])`` over all concepts; each block is (N, B) float32."""
        for lo in range(0, self.concepts, CONCEPT_BLOCK):
            yield lo, self._exponentials(lo) / self._normaliser

    def _exponentials(self, lo: int) -> NDArray[np.float32]:
        cosines: NDArray[np.float32] = self._images @ self._concepts[lo : lo + CONCEPT_BLOCK].T
        cosines -= 1
        cosines *= self._temperature
        np.exp(cosines, out=cosines)
        return cosines


def evidence(q: FloatArray, top: IntArray, settings: SoftWPMI) -> FloatArray:
    """L, the log-probability that all top images show the concept.

    Args:
        q: (N, B) concept probabilities of the images.
        top: (K, T) row indices into ``q``, highest activation first.
        settings: the constants of the formula.

    Returns:
        (K, B) float32. Agrees with the plain sum of logarithms to about 1e-5.
    """
    weights = settings.rank_weights(top.shape[1])
    # 1 + π(Q − 1) + ε = (1 − π + ε) + π·Q: one multiply-add a factor.
    offset = (1 - weights + settings.epsilon).astype(np.float32)
    slope = weights.astype(np.float32)
    result: FloatArray = _sum_of_logs(
        np.ascontiguousarray(q, dtype=np.float32),
        np.ascontiguousarray(top, dtype=np.int64),
        offset,
        slope,
    )
    return result


_LN2 = np.float32(np.log(2))
_MANTISSA = np.int32(0x007FFFFF)
_ONE = np.int32(0x3F800000)


@numba.njit(parallel=True, fastmath={"contract"}, cache=True)
def _sum_of_logs(
    q: NDArray[np.float32],
    top: NDArray[np.int64],
    offset: NDArray[np.float32],
    slope: NDArray[np.float32],
) -> NDArray[np.float32]:  # pragma: no cover - compiled
    # A logarithm costs as much as dozens of multiplications. So factors are multiplied up and,
    # before the product can leave float32's range (each factor is at least 2^-10, and twelve of
    # them at least 2^-120), its binary exponent is moved into an integer. One logarithm remains
    # for each unit and concept.
    units, ranks = top.shape
    width = q.shape[1]
    out = np.empty((units, width), dtype=np.float32)
    for k in numba.prange(units):
        product = np.ones(width, dtype=np.float32)
        bits = product.view(np.int32)
        exponent = np.zeros(width, dtype=np.int32)
        for r in range(ranks):
            row = q[top[k, r]]
            c = offset[r]
            s = slope[r]
            for m in range(width):
                product[m] *= c + s * row[m]
            if r % 12 == 11 or r == ranks - 1:
                for m in range(width):
                    exponent[m] += (bits[m] >> 23) - 127
                    bits[m] = (bits[m] & _MANTISSA) | _ONE
        for m in range(width):
            out[k, m] = np.log(product[m]) + np.float32(exponent[m]) * _LN2
    return out


@dataclass(frozen=True)
class Prior:
    """The units of a layer, reduced to what the prior D of a block of concepts needs."""

    log_sum: FloatArray
    """(B,) logsumexp over units of L."""
    units: int

    @classmethod
    def of(cls, layer_evidence: FloatArray) -> "Prior":
        """Reduce the evidence (K, B) of a whole layer."""
        return cls(logsumexp(layer_evidence.astype(np.float64), axis=0), len(layer_evidence))

    def score(self, unit_evidence: FloatArray, settings: SoftWPMI) -> FloatArray:
        """L − λ D for units of the layer; (K, B) float32."""
        log_mean = self.log_sum - np.log(self.units)
        score: FloatArray = unit_evidence - settings.prior_weight * log_mean
        return score.astype(np.float32)

    def raise_to_guests(
        self, guest_evidence: FloatArray, settings: SoftWPMI, best: NDArray[np.float32]
    ) -> None:
        """Score lists that are no unit of the layer, and raise ``best`` (R,) where they beat it.

        Each of the R lists (R, B) is scored in the place of an average unit. A unit's own evidence
        is part of D, so no unit scores above log K (where λ = 1). A list outside the sum could, and
        one that joined as unit K + 1 could reach log (K + 1); in the place of a unit it plays by
        the units' rules, which decides much in a layer of few units.
        """
        with np.errstate(divide="ignore"):  # the one unit of a layer leaves nothing behind
            others = self.log_sum + np.log((self.units - 1) / self.units)
        _raise_to_guests(
            np.ascontiguousarray(guest_evidence, dtype=np.float32),
            others,
            np.log(self.units),
            settings.prior_weight,
            best,
        )


@numba.njit(parallel=True, cache=True)
def _raise_to_guests(
    evidence: NDArray[np.float32],
    others: NDArray[np.float64],
    log_units: float,
    prior_weight: float,
    best: NDArray[np.float32],
) -> None:  # pragma: no cover - compiled
    # L − λ (log(e^others + e^L) − log K), of which only the highest counts. The larger term alone
    # bounds the sum from below and so the score from above, and spares most of the logarithms.
    lists, width = evidence.shape
    for r in numba.prange(lists):
        highest = best[r]
        for m in range(width):
            own = np.float64(evidence[r, m])
            low, high = min(own, others[m]), max(own, others[m])
            if own - prior_weight * (high - log_units) <= highest:
                continue
            log_sum = high + np.log1p(np.exp(low - high))
            score = np.float32(own - prior_weight * (log_sum - log_units))
            highest = max(highest, score)
        best[r] = highest
