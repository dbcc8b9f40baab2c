"""The interface of detectors, fitted on predictions of a classifier. Higher is more anomalous."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from profiler.concepts.space import ConceptSpace
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray, checked_rows
from profiler.errors import InputError


@dataclass(frozen=True)
class Views:
    """Outputs of a classifier for L augmented views of each of n images.

    Attributes:
        features: (n, L, f).
        logits: (n, L, C).
    """

    features: FloatArray
    logits: FloatArray

    def __post_init__(self) -> None:
        z, y = self.features.shape, self.logits.shape
        if len(z) != 3 or len(y) != 3 or z[:2] != y[:2]:
            raise InputError(
                f"augmented views need features (n, L, f) and logits (n, L, C), got {z} and {y}"
            )

    def __len__(self) -> int:
        return len(self.features)

    @property
    def fine(self) -> BoolArray:
        """(n,) images of which all views have finite features and logits."""
        numbers = np.concatenate([self.features, self.logits], axis=2)
        fine: BoolArray = np.isfinite(numbers).all(axis=(1, 2))
        return fine

    def each(self) -> Iterator[tuple[Float64, Float64]]:
        """Features (n, f) and logits (n, C) of one view after the other."""
        for view in range(self.logits.shape[1]):
            z, y = self.features[:, view], self.logits[:, view]
            yield np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)

    @classmethod
    def together(cls, parts: Sequence["Views"]) -> "Views":
        """One after the other, as one."""
        return cls(
            np.concatenate([each.features for each in parts]),
            np.concatenate([each.logits for each in parts]),
        )

    def take(self, rows: IntArray | BoolArray) -> "Views":
        """Those of some images."""
        return Views(self.features[rows], self.logits[rows])


def check_views_given(views: Views | None, names: Sequence[str], images: int) -> None:
    """Raise :class:`InputError` unless these are the named views of so many images."""
    given = 0 if views is None else views.logits.shape[1]
    if given != len(names):
        named = f" ({', '.join(names)})" if names else ""
        raise InputError(
            f"{len(names)} augmented views of each image{named} are needed, but {given} given"
        )
    if views is not None and len(views) != images:
        raise InputError(f"there are {images} images, but augmented views of {len(views)}")


def checked(
    features: FloatArray, logits: FloatArray, truth: IntArray
) -> tuple[Float64, Float64, IntArray, IntArray]:
    """What a detector is fitted on, and the predicted classes; raises :class:`InputError`."""
    z, y = checked_rows(features, "features"), checked_rows(logits, "logits")
    if not len(z) == len(y) == len(truth) or not len(z):
        raise InputError(
            f"{len(z)} rows of features, {len(y)} of logits and {len(truth)} true classes: a "
            "detector needs all three for each image, and at least one image"
        )
    if truth.min() < 0 or truth.max() >= y.shape[1]:
        raise InputError(
            f"true classes must lie in 0 … {y.shape[1] - 1}; got {truth.min()} … {truth.max()}"
        )
    return z, y, truth, y.argmax(axis=1)


def sound(features: FloatArray, logits: FloatArray) -> BoolArray:
    """(n,) rows that can be judged: all their numbers are finite, and there is one."""
    if features.ndim != 2 or logits.ndim != 2 or len(features) != len(logits):
        raise InputError(
            f"features {features.shape} and logits {logits.shape} must be rows (n, f) and (n, C)"
        )
    if not features.shape[1] or not logits.shape[1]:
        return np.zeros(len(features), dtype=np.bool_)
    fine = np.isfinite(features).all(axis=1) & np.isfinite(logits).all(axis=1)
    return np.asarray(fine, dtype=np.bool_)


def judged(fine: BoolArray, judge: Callable[[BoolArray], Float64]) -> Float64:
    """(n,) scores: ``judge`` of the rows that are fine, infinite for the others, never NaN."""
    scores = np.full(len(fine), np.inf)
    if fine.any():
        given = judge(fine)
        scores[fine] = np.where(np.isnan(given), np.inf, given)
    return scores


class Detector:
    """Learns from labelled predictions of one classifier, and scores its other predictions.

    Features (n, f) are the inputs of the classifier's last linear layer, logits (n, C) its outputs.
    The predicted class is that of the highest logit.
    """

    name: str
    """Its name in options and results."""

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Learn from images whose true class (n,) is known."""
        raise NotImplementedError

    def score(self, features: FloatArray, logits: FloatArray) -> Float64:
        """(n,) scores; infinite, never NaN, where features or logits are not finite."""
        return judged(
            sound(features, logits),
            lambda rows: self._score(
                np.asarray(features, dtype=np.float64)[rows],
                np.asarray(logits, dtype=np.float64)[rows],
            ),
        )

    def _score(self, features: Float64, logits: Float64) -> Float64:
        raise NotImplementedError


class ConceptRule(Detector):
    """Base of the detectors that use concepts.

    Args:
        concepts: in the classifier's features.
    """

    views: tuple[str, ...] = ()
    """Names of the augmented views that are used: none."""
    corrected = False
    """Whether the softmax is that of a corrected head: no softmax is used."""
    kept: tuple[str, ...] = ()
    """What of the arrays that were learned a file keeps, by their names without the ``_``."""

    def __init__(self, concepts: ConceptSpace) -> None:
        self.concepts = concepts

    @property
    def plain(self) -> "ConceptRule":
        """The method without the softmax."""
        return self

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, as arrays for a file."""
        return {f"{self.name}.{what}": getattr(self, f"{what}_") for what in self.kept}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], concepts: ConceptSpace) -> Self:
        """The method that gave these arrays, among others."""
        rule = cls(concepts)
        for what in cls.kept:
            setattr(rule, f"{what}_", arrays[f"{cls.name}.{what}"])
        return rule
