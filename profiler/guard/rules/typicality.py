"""A detector by the distance of an input, in concepts, from correct predictions of its class.

For the predicted class c the strengths of correct predictions have a mean μ_c; Σ is their
covariance within classes, shrunk towards a multiple of the identity. The score is the squared
distance

    (s(x) − μ_c)ᵀ Σ⁻¹ (s(x) − μ_c).

Neither incorrect predictions nor assumptions about attacks are needed. It is the Mahalanobis
distance in the space of concepts, to the *predicted* class, not the nearest one: an input that lies
well within another class is anomalous.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from profiler.core.arrays import Float64, FloatArray, IntArray
from profiler.errors import InputError
from profiler.guard.rules.base import ConceptRule, checked

PRIOR = 2.0
"""Correct predictions of all classes that are added to each class's mean."""
SHRINKAGE = 0.1
"""Share of Σ that is a multiple of the identity; results hardly change from 0.02 to 0.3."""


class TypicalityRule(ConceptRule):
    """Distance of the strengths from their mean for the predicted class.

    Args:
        concepts: in the classifier's features.

    Attributes:
        usual_: (C, M) μ, shrunk towards the mean of all classes; in single precision, as a file
            keeps it.
        whitening_: (M, M) R with R Rᵀ = Σ⁻¹; likewise.
    """

    name = "typicality"
    kept = ("usual", "whitening")

    usual_: NDArray[np.float32]
    whitening_: NDArray[np.float32]

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Learn from the correct predictions."""
        z, y, truth, predicted = checked(features, logits, truth)
        right = predicted == truth
        if not right.any():
            raise InputError(f"none of the {len(z)} images to fit on is classified correctly")
        strengths, labels = self.concepts.strengths(z[right]), predicted[right]
        common = strengths.mean(axis=0)
        usual = np.empty((y.shape[1], len(common)))
        for label in range(y.shape[1]):
            own = strengths[labels == label]
            usual[label] = (own.sum(axis=0) + PRIOR * common) / (len(own) + PRIOR)
        within = strengths - usual[labels]
        values, vectors = eigh(within.T @ within / len(within))
        even = float(np.maximum(values, 0).mean()) or 1.0
        shrunk = (1 - SHRINKAGE) * np.maximum(values, 0) + SHRINKAGE * even
        self.usual_ = usual.astype(np.float32)
        self.whitening_ = (vectors / np.sqrt(shrunk)).astype(np.float32)
        return self

    def _score(self, features: Float64, logits: Float64) -> Float64:
        off = self.concepts.strengths(features) - self.usual_[logits.argmax(axis=1)]
        squares: Float64 = np.sum((off @ self.whitening_) ** 2, axis=1)
        return squares
