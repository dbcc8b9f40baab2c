"""Detectors that compare concepts in pairs.

H(x)[i, j] says whether concept i is stronger than j in image x (:mod:`profiler.concepts.heatmap`).
For each predicted class c there is a summary O_c⁺ of correct predictions and O_c⁻ of incorrect
ones. Both methods are linear in the comparisons: with σ_ij(x) = sign(s_i − s_j), i < j, and
P = n(n−1)/2 of them,

    score(x) = b_c + Σ_{i<j} w_c[i, j] · σ_ij(x),          c the class predicted for x.

``cosine``
    cos(H(x), O_c⁻) − cos(H(x), O_c⁺) over the cells off the diagonal: the method of Hu et al.
    (*Debugging and Runtime Analysis of Neural Networks with VLMs*, 2025). Without ties ‖H(x)‖ = √P,
    which is used for all x.
``likelihood``
    (1/P) Σ_{i<j} log p_c⁻(H_ij) / p_c⁺(H_ij): the ratio of the likelihoods of the comparisons in
    incorrect and in correct predictions, as if they were independent. A tie counts half for each.

A class with few incorrect predictions has no reliable summary of them. Summaries are therefore
shrunk towards those of all classes, as if there were :data:`PRIOR` more images like those of all
classes. A class without any is judged by the common summary alone, and is listed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from profiler.concepts.heatmap import Heatmap, Heatmaps
from profiler.concepts.space import ConceptSpace
from profiler.core.arrays import Float64, FloatArray, IntArray
from profiler.errors import InputError
from profiler.guard.rules.base import ConceptRule, checked

PRIOR = 5.0
"""Images like those of all classes that are added to each class's summary."""
FLOOR = 0.01
"""Probabilities of comparisons are clipped to at least this, and at most 1 − this."""

_BLOCK_CELLS = 2**22


@dataclass(frozen=True)
class Summaries:
    """Summary heatmaps of correct and of incorrect predictions for each predicted class, shrunk.

    Only cells i < j are held, in the order of :func:`numpy.triu_indices`: the others are one minus
    these. They are in single precision, like the file, so that a loaded guard gives the scores of
    the fitted one.

    Attributes:
        right: (C, P) O_c⁺.
        wrong: (C, P) O_c⁻.
        right_count: (C,) images in O_c⁺, without those added.
        wrong_count: (C,) images in O_c⁻, without those added.
    """

    right: NDArray[np.float32]
    wrong: NDArray[np.float32]
    right_count: IntArray
    wrong_count: IntArray

    @classmethod
    def of(
        cls,
        strengths: FloatArray,
        truth: IntArray,
        predicted: IntArray,
        classes: int,
        *,
        need_wrong: bool = True,
    ) -> "Summaries":
        """From strengths (n, M), or these times ‖r(z)‖, of labelled images.

        If no prediction is incorrect, and none has to be, each cell of O_c⁻ is ½.

        Raises:
            InputError: no prediction is correct, or none is incorrect and ``need_wrong``.
        """
        maps = Heatmaps.of(strengths, truth, predicted, classes)
        usual, unusual = maps.summary(right=True), maps.summary(right=False)
        if usual is None:
            raise InputError(
                f"none of the {len(strengths)} images to fit on is classified correctly"
            )
        if unusual is None and need_wrong:
            raise InputError(
                f"none of the {len(strengths)} images to fit on is misclassified, but this method "
                "compares correct and incorrect predictions; give more images, or use a method "
                "that needs only correct predictions (typicality, msp+typicality)"
            )
        cells = np.triu_indices(strengths.shape[1], k=1)
        open_ = np.full(len(cells[0]), 0.5)
        common = usual.mean[cells], open_ if unusual is None else unusual.mean[cells]
        right, wrong = np.empty((2, classes, len(cells[0])), dtype=np.float32)
        right_count, wrong_count = np.zeros((2, classes), dtype=np.int64)
        for label in range(classes):
            one = maps.summary(label=label, right=True)
            other = maps.summary(label=label, by="predicted", right=False)
            right[label], right_count[label] = _shrunk(one, common[0])
            wrong[label], wrong_count[label] = _shrunk(other, common[1])
        return cls(right, wrong, right_count, wrong_count)


def _shrunk(own: Heatmap | None, common: Float64) -> tuple[Float64, int]:
    if own is None:
        return common, 0
    cells = np.triu_indices(own.concepts, k=1)
    shrunk: Float64 = (own.count * own.mean[cells] + PRIOR * common) / (own.count + PRIOR)
    return shrunk, own.count


class Comparisons(ConceptRule):
    """Base of the two methods.

    Args:
        concepts: in the classifier's features.

    Attributes:
        weights_: (C, P) w, for i < j in the order of :func:`numpy.triu_indices`.
        bias_: (C,) b.
        usual_: (C, P) the mean of σ over correct predictions.
        summaries_: from which they are computed.
    """

    weights_: Float64
    bias_: Float64
    usual_: Float64
    summaries_: Summaries

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Learn the summaries of correct and incorrect predictions of each predicted class."""
        z, y, truth, predicted = checked(features, logits, truth)
        return self.fit_on(Summaries.of(self.levels(z), truth, predicted, y.shape[1]))

    def fit_on(self, found: Summaries) -> Self:
        """Learn from summaries already made."""
        right, wrong = found.right.astype(np.float64), found.wrong.astype(np.float64)
        self.summaries_ = found
        self.weights_, self.bias_ = self._weigh(right, wrong)
        self.usual_ = 2 * right - 1
        return self

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, as arrays for a file."""
        return vars(self.summaries_).copy()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], concepts: ConceptSpace) -> Self:
        """The method that gave these arrays, among others."""
        names = (field.name for field in fields(Summaries))
        return cls(concepts).fit_on(Summaries(**{name: arrays[name] for name in names}))

    def _weigh(self, right: Float64, wrong: Float64) -> tuple[Float64, Float64]:
        """The weights (C, P) and the bias (C,), of the cells i < j of O⁺ and O⁻ (C, P)."""
        raise NotImplementedError

    def levels(self, features: FloatArray) -> Float64:
        """(n, M) strengths times ‖r(z)‖, which orders them as the strengths do."""
        weights, offsets = self.concepts.planes()
        levels: Float64 = np.asarray(features, dtype=np.float64) @ weights.T + offsets
        return levels

    def _score(self, features: Float64, logits: Float64) -> Float64:
        levels, predicted = self.levels(features), logits.argmax(axis=1)
        scores = np.empty(len(levels))
        for label in np.unique(predicted):
            rows = np.flatnonzero(predicted == label)
            step = max(1, _BLOCK_CELLS // max(1, self.weights_.shape[1]))
            for lo in range(0, len(rows), step):
                block = rows[lo : lo + step]
                scores[block] = signs(levels[block]) @ self.weights_[label] + self.bias_[label]
        return scores


def signs(levels: Float64) -> Float64:
    """(n, P) σ: whether i is above j (1), below (−1) or equal (0), for all i < j."""
    i, j = np.triu_indices(levels.shape[1], k=1)
    found: Float64 = np.sign(levels[:, i] - levels[:, j])
    return found


class CosineRule(Comparisons):
    """More similar to incorrect predictions than to correct ones, by the cosine of heatmaps."""

    name = "cosine"

    def _weigh(self, right: Float64, wrong: Float64) -> tuple[Float64, Float64]:
        # Over both triangles Σ H·O is Σ_{i<j} h o + (1 − h)(1 − o), where h = (1 + σ)/2.
        def scaled(cells: Float64) -> tuple[Float64, Float64]:
            norm = np.sqrt(np.sum(cells**2 + (1 - cells) ** 2, axis=1, keepdims=True))
            norm *= np.sqrt(cells.shape[1])
            return (cells - 0.5) / norm, np.full_like(norm, 0.5 * cells.shape[1]) / norm

        (own, usual), (other, unusual) = scaled(right), scaled(wrong)
        return other - own, (unusual - usual)[:, 0]


class LikelihoodRule(Comparisons):
    """Log-likelihood ratio of the comparisons: incorrect over correct predictions."""

    name = "likelihood"

    def _weigh(self, right: Float64, wrong: Float64) -> tuple[Float64, Float64]:
        bad, good = np.clip(wrong, FLOOR, 1 - FLOOR), np.clip(right, FLOOR, 1 - FLOOR)
        # h log p + (1 − h) log(1 − p), where h = (1 + σ)/2.
        more, less = np.log(bad / good), np.log((1 - bad) / (1 - good))
        cells = right.shape[1]
        return (more - less) / 2 / cells, (more + less).sum(axis=1) / 2 / cells
