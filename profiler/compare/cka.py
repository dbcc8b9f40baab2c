"""Debiased linear CKA: how alike two layers arrange the same images, whatever their units.

With centred activations X (n, K) and Y (n, K′), kernels k = X Xᵀ and l = Y Yᵀ whose diagonals are
set to zero (k̃, l̃), the unbiased estimator of the Hilbert-Schmidt independence criterion is
(Song et al., *Feature Selection via Dependence Maximization*, JMLR 2012, eq. 5)

    HSIC₁(k, l) = [tr(k̃ l̃) + 1ᵀk̃1 · 1ᵀl̃1 / ((n−1)(n−2)) − 2/(n−2) · 1ᵀk̃ l̃1] / (n (n−3))
    CKA         = HSIC₁(k, l) / √(HSIC₁(k, k) · HSIC₁(l, l))

(CKA: Kornblith et al., ICML 2019; with HSIC₁: Nguyen, Raghu & Kornblith, ICLR 2021). The biased
estimator comes near 1 for any two layers with more units than there are images; this one is 0 on
average where they have nothing in common, and then may fall below 0.

Nothing of size (n, n) is needed. HSIC₁ does not change when a column is shifted; once all columns
sum to 0, row i of k̃ sums to −|x_i|², and the three terms are

    tr(k̃ l̃) = |XᵀY|²_F − s,    1ᵀk̃1 = −Σ|x_i|²,    1ᵀk̃ l̃1 = s,    with s = Σ |x_i|² |y_i|².
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.compare.centred import Centred, Float64Array, pairs

FEWEST_IMAGES = 4
"""HSIC₁ divides by n − 3."""
_ROUNDING = 1e-12
"""Of the terms of HSIC₁: what is left of them below this share is rounding, not variance."""


@dataclass(frozen=True)
class CKALayer:
    """A layer as CKA needs it, so that what concerns it alone is computed once.

    Attributes:
        activations: (n, K).
        hsic: HSIC₁ with itself, times n (n − 3); NaN where it is 0 (all images alike, or each as
            far from every other) or where there are too few images.
    """

    activations: Centred
    hsic: float

    @classmethod
    def of(cls, activations: Centred) -> "CKALayer":
        """Read the layer once more."""
        own, size = _hsic(activations, activations)
        return cls(activations, own if own > _ROUNDING * size else float("nan"))


def cka(one: CKALayer, other: CKALayer) -> float:
    """Debiased linear CKA of two layers on the same images; NaN where one has no HSIC₁."""
    if np.isnan(one.hsic) or np.isnan(other.hsic):
        return float("nan")
    shared, _ = _hsic(one.activations, other.activations)
    return shared / float(np.sqrt(one.hsic) * np.sqrt(other.hsic))


def cka_matrix(before: Sequence[CKALayer], after: Sequence[CKALayer]) -> Float64Array:
    """(layers of before, layers of after) CKA of each pair."""
    found = [[cka(one, other) for other in after] for one in before]
    return np.array(found).reshape(len(before), len(after))


def _hsic(one: Centred, other: Centred) -> tuple[float, float]:
    """N (n − 3) HSIC₁, and the size of its largest term; NaN for too few images."""
    n = len(one)
    if n < FEWEST_IMAGES:
        return float("nan"), float("nan")
    cross = np.zeros((one.units, other.units))
    s = 0.0
    for x, y in pairs(one, other):
        cross += x.T @ y
        s += float(np.square(x).sum(axis=1) @ np.square(y).sum(axis=1))
    square = float(np.square(cross).sum())
    traces = float(one.squares.sum() * other.squares.sum())
    return square - s * n / (n - 2) + traces / ((n - 1) * (n - 2)), max(square, s)
