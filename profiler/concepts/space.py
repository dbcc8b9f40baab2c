"""Linear alignment of a classifier's features with a VLM's space, and concepts as directions there.

A classifier is a head on an encoder; z = encoder(x) is what its last linear layer reads. An affine
map takes z to the VLM's embedding of the image x (Moayeri et al., *Text-To-Concept*, ICML 2023):

    r(z) = A z + d ≈ v(x),    minimising  Σ ‖A z + d − v‖² + n ρ ‖A‖²,

fitted on images without labels. A text is a direction in that space, so a concept named in words
has a strength in a network that was never trained on words. For concept i, of direction q_i:

    s_i(x) = cos(r(z), q_i).

All concepts share the norm of r(z), so the comparison of two concepts is linear in the features:

    s_i > s_j   ⇔   (q_i − q_j)·(A z + d) > 0   ⇔   w·z + c > 0.

Heatmaps, detectors and checks read these rows (w, c); nobody else computes cosines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import Float64, FloatArray, IntArray, checked_rows
from profiler.errors import InputError

FOLDS = 5
"""Folds of the images; each is predicted once from an alignment fitted on the others."""
RIDGES = (0.0, *np.logspace(-8, 3, 23).tolist())
"""Ridges tried: ρ as a multiple of the features' mean variance. 0 is least squares of smallest
norm, which also works with fewer images than features."""
POOR_R2 = 0.3
"""Below it, an alignment misses most of the variance of the VLM's embeddings."""

_ROUNDING = 1e-12
"""A direction with less than this share of the largest variance is constant but for rounding."""
_TIED = 1e-12
"""Held-out errors this near to each other, as a share of the variance, differ by rounding."""


@dataclass(frozen=True)
class Moments:
    """Sums over n pairs of rows z (f,) and v (e,), about their own means.

    Two folds are merged as Chan, Golub & LeVeque do (1979), so nothing is lost where a mean is
    large beside the spread, as it would be in Σ z zᵀ − n z̄ z̄ᵀ.

    Attributes:
        count: n.
        mean_z: (f,); mean_v: (e,).
        zz: (f, f) Σ (z − z̄)(z − z̄)ᵀ.
        zv: (f, e) Σ (z − z̄)(v − v̄)ᵀ.
        vv: Σ ‖v − v̄‖².
    """

    count: int
    mean_z: Float64
    mean_v: Float64
    zz: Float64
    zv: Float64
    vv: float

    @classmethod
    def of(cls, z: Float64, v: Float64) -> Self:
        """Of rows (n, f) and (n, e), at least one."""
        mean_z, mean_v = z.mean(axis=0), v.mean(axis=0)
        z, v = z - mean_z, v - mean_v
        return cls(len(z), mean_z, mean_v, z.T @ z, z.T @ v, float(np.sum(v * v)))

    def __add__(self, other: Self) -> "Moments":
        count = self.count + other.count
        share = other.count / count
        weight = self.count * share
        step_z, step_v = other.mean_z - self.mean_z, other.mean_v - self.mean_v
        return Moments(
            count,
            self.mean_z + share * step_z,
            self.mean_v + share * step_v,
            self.zz + other.zz + weight * np.outer(step_z, step_z),
            self.zv + other.zv + weight * np.outer(step_z, step_v),
            self.vv + other.vv + weight * float(step_v @ step_v),
        )


class AffineMap:
    """The linear alignment r(z) = A z + d from features to VLM embeddings: closed-form ridge.

    The images are split into five folds of equal size, at random by ``seed``. The ridge is chosen
    by cross-validation: least held-out error (the smaller of equals). One eigendecomposition per
    fold, of min(n, f) rows, serves all ridges. The alignment itself is then fitted on all images.

    Args:
        seed: of the split.

    Attributes:
        matrix_: A (e, f).
        offset_: d (e,).
        ridge_: the multiple chosen.
        r2_: share of the embeddings' variance that is explained on held-out images,
            1 − Σ ‖v − r(z)‖² / Σ ‖v − v̄‖², where both sums run over all images, and r and the
            mean v̄ come from the folds that the image is not in. All e numbers count together, each
            by its variance. NaN where the embeddings do not vary.
        rows_: images it was fitted on.
        warning_: a warning about the fit; empty where it is a good one.

    >>> z = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> found = AffineMap().fit(z, 2 * z + 1)
    >>> found.matrix_.round(6).tolist(), found.offset_.round(6).tolist(), round(found.r2_, 6)
    ([[2.0]], [1.0], 1.0)
    """

    matrix_: Float64
    offset_: Float64
    ridge_: float
    r2_: float
    rows_: int
    warning_: str

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, z: FloatArray, v: FloatArray, groups: IntArray | None = None) -> Self:
        """Choose the ridge and fit: features (n, f), embeddings (n, e).

        Args:
            z: features.
            v: embeddings of the same images.
            groups: (n,) non-negative number of the picture that a row shows; augmented views of
                one picture are held out together. None: every row shows another picture.
        """
        z, v = checked_rows(z, "features"), checked_rows(v, "embeddings")
        if len(z) != len(v):
            raise InputError(f"{len(z)} rows of features for {len(v)} embeddings")
        places = np.arange(len(z)) if groups is None else np.asarray(groups, dtype=np.int64)
        fold = folds(places, self.seed)
        features, axes = z.shape[1], None
        if 1 < len(z) < features:  # all solutions lie in the span of the rows: fewer axes will do
            center = z.mean(axis=0)
            axes = np.linalg.qr((z - center).T)[0]
            z = (z - center) @ axes
        parts = [Moments.of(z[fold == part], v[fold == part]) for part in np.unique(fold)]
        if len(parts) < 2:
            raise InputError(f"{len(z)} image(s) are too few to fit and test a linear alignment")
        errors = np.zeros(len(RIDGES))
        spread = 0.0
        for held in parts:
            path = _Path.of(reduce(add, (part for part in parts if part is not held)), features)
            errors += path.errors(held)
            step = held.mean_v - path.moments.mean_v
            spread += held.vv + held.count * float(step @ step)
        best = errors <= errors.min() + _TIED * spread
        self.ridge_ = min(ridge for ridge, good in zip(RIDGES, best, strict=True) if good)
        everything = _Path.of(reduce(add, parts), features)
        self.matrix_ = everything.matrix(self.ridge_)
        self.offset_ = everything.moments.mean_v - self.matrix_ @ everything.moments.mean_z
        if axes is not None:
            self.matrix_ = self.matrix_ @ axes.T
            self.offset_ = self.offset_ - self.matrix_ @ center
        self.r2_ = 1 - float(errors.min()) / spread if spread > 0 else float("nan")
        self.rows_ = everything.moments.count
        self.warning_ = self._warning()
        return self

    def _warning(self) -> str:
        if np.isnan(self.r2_):
            return (
                "the VLM gives the same embedding for every image, so the linear alignment is "
                "meaningless"
            )
        if self.r2_ < POOR_R2:
            return (
                f"on held-out images the linear alignment explains {max(self.r2_, 0):.0%} of the "
                f"variance of the VLM's embeddings (less than {POOR_R2:.0%}), so concept strengths "
                f"are unreliable; it is fitted on {self.rows_} images, and more may help"
            )
        return ""

    def to_arrays(self) -> dict[str, Float64]:
        """What was learned, as arrays for a file."""
        numbers = np.array([self.ridge_, self.r2_, self.rows_], dtype=np.float64)
        return {"matrix": self.matrix_, "offset": self.offset_, "ridge_r2_rows": numbers}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray]) -> Self:
        """The alignment that :meth:`to_arrays` was called on."""
        made = cls()
        made.matrix_ = np.asarray(arrays["matrix"], dtype=np.float64)
        made.offset_ = np.asarray(arrays["offset"], dtype=np.float64)
        made.ridge_, made.r2_, rows = (float(x) for x in arrays["ridge_r2_rows"])
        made.rows_ = int(rows)
        made.warning_ = made._warning()
        return made


@dataclass(frozen=True)
class _Path:
    """All ridge solutions on some moments, in the eigenvectors of the features' covariance.

    With Szz = Q Λ Qᵀ the solution is Aᵀ = Q (Λ + n ρ)⁻¹ Qᵀ Szv.
    """

    moments: Moments
    features: int
    """f, of which the moments may hold fewer axes: along the others nothing varies."""
    values: Float64
    vectors: Float64
    turned: Float64
    """(f, e) Qᵀ Szv."""

    @classmethod
    def of(cls, moments: Moments, features: int) -> "_Path":
        values, vectors = np.linalg.eigh(moments.zz)
        # Directions in which the features do not vary carry rounding errors only.
        rounding = _ROUNDING * max(float(values[-1]), 0.0)
        values = np.where(values > rounding, values, 0.0)
        return cls(moments, features, values, vectors, vectors.T @ moments.zv)

    def _shrinkage(self, ridge: float) -> Float64:
        damped = self.values + ridge * self.values.sum() / self.features
        return np.where(self.values > 0, 1 / np.where(damped > 0, damped, 1.0), 0.0)

    def matrix(self, ridge: float) -> Float64:
        """A (e, f)."""
        matrix: Float64 = (self.vectors @ (self._shrinkage(ridge)[:, None] * self.turned)).T
        return matrix

    def errors(self, held: Moments) -> list[float]:
        """Σ ‖v − A z − d‖² over the rows behind ``held``, from their moments, for each ridge."""
        spread = self.vectors.T @ held.zz @ self.vectors
        quadratic = spread * (self.turned @ self.turned.T)
        linear = np.sum(self.turned * (self.vectors.T @ held.zv), axis=1)
        step = self.vectors.T @ (held.mean_z - self.moments.mean_z)
        found = []
        for ridge in RIDGES:
            by = self._shrinkage(ridge)
            # The mean residual: d makes A z + d meet the mean of the rows that were fitted on.
            off = held.mean_v - self.moments.mean_v - (by * step) @ self.turned
            within = held.vv - 2 * float(by @ linear) + float(by @ quadratic @ by)
            found.append(max(within, 0.0) + held.count * float(off @ off))
        return found


def folds(places: IntArray, seed: int) -> IntArray:
    """The fold (n,) of each image: of every five in a row, one for each fold, in a random order.

    It depends only on place and seed, not on the blocks in which the images come. A period in the
    order of the images cannot coincide with the folds.
    """
    fives, which = np.divmod(places, FOLDS)
    few, back = np.unique(fives, return_inverse=True)
    keys = _scrambled(few[:, None] * FOLDS + np.arange(FOLDS), seed)
    found: IntArray = np.argsort(keys, axis=1)[back, which]
    return found


def _scrambled(numbers: IntArray, seed: int) -> NDArray[np.uint64]:
    """Integers that look random, the same for the same ones (splitmix64: Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) + np.uint64(1 + seed) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


# --- concepts --------------------------------------------------------------------------------


def queries(captions: FloatArray) -> Float64:
    """Directions q (M, e) of concepts: the unit mean of the unit embeddings of their captions.

    Args:
        captions: (M, T, e) text embeddings of M concepts, each put into T templates.

    >>> queries(np.array([[[2.0, 0.0], [0.0, 1.0]]])).round(3).tolist()
    [[0.707, 0.707]]
    """
    if captions.ndim != 3:
        raise InputError(
            f"captions must be (concepts, templates, numbers), not of shape {captions.shape}"
        )
    units = unit_rows(np.asarray(captions, dtype=np.float64), "captions")
    return unit_rows(units.mean(axis=1), "captions' means")


def unit_rows(rows: Float64, what: str = "rows") -> Float64:
    """Scale to length one along the last axis; raises :class:`InputError` where that is 0."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise InputError(f"the {what} hold a row of zeros, NaN or infinite numbers")
    scaled: Float64 = rows / norms
    return scaled


@dataclass(frozen=True)
class ConceptSpace:
    """Concepts in a classifier's features.

    Attributes:
        names: M of them.
        directions: q (M, e), unit rows of the VLM's space.
        matrix: A (e, f); None where the VLM's own embeddings take the place of features.
        offset: d (e,); zeros there.
    """

    names: tuple[str, ...]
    directions: Float64
    matrix: Float64 | None
    offset: Float64

    @classmethod
    def of(cls, names: Sequence[str], captions: FloatArray, aligned: AffineMap) -> Self:
        """From captions (M, T, e), and the linear alignment of a classifier's features."""
        directions = cls._directions(names, captions)
        if len(aligned.offset_) != directions.shape[1]:
            raise InputError(
                f"captions have {directions.shape[1]} numbers and the linear alignment gives "
                f"{len(aligned.offset_)}, so they belong to different VLMs"
            )
        return cls(tuple(names), directions, aligned.matrix_, aligned.offset_)

    @classmethod
    def of_vlm(cls, names: Sequence[str], captions: FloatArray) -> Self:
        """The same concepts for the VLM itself: its image embeddings (n, e) are the features."""
        directions = cls._directions(names, captions)
        return cls(tuple(names), directions, None, np.zeros(directions.shape[1]))

    @staticmethod
    def _directions(names: Sequence[str], captions: FloatArray) -> Float64:
        directions = queries(captions)
        if len(names) != len(directions):
            raise InputError(f"{len(names)} concepts, but captions of {len(directions)} concepts")
        if len(set(names)) < len(names):
            double = next(name for name in names if list(names).count(name) > 1)
            raise InputError(f"concept {double!r} is twice in the list")
        return directions

    def __len__(self) -> int:
        return len(self.names)

    @property
    def pairs(self) -> int:
        """M(M−1)/2."""
        return len(self) * (len(self) - 1) // 2

    def project(self, z: FloatArray) -> Float64:
        """Features (n, f) → r(z) (n, e)."""
        z = checked_rows(z, "features")
        width = len(self.offset) if self.matrix is None else self.matrix.shape[1]
        if z.shape[1] != width:
            raise InputError(
                f"the concept space reads {width} features; these rows have {z.shape[1]}"
            )
        return z + self.offset if self.matrix is None else z @ self.matrix.T + self.offset

    def strengths(self, z: FloatArray) -> Float64:
        """Features (n, f) → cosines s (n, M); all 0 where r(z) is 0 and has no direction."""
        mapped = self.project(z)
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        return (mapped / np.where(norms > 0, norms, 1.0)) @ self.directions.T

    def planes(self) -> tuple[Float64, Float64]:
        """W (M, f) and c (M,) such that W z + c = s ‖r(z)‖: differences of them are the rows."""
        weights = self.directions if self.matrix is None else self.directions @ self.matrix
        return weights, self.directions @ self.offset
