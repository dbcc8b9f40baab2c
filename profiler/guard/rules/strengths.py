"""A detector by logistic regression on the strengths of concepts.

An image is described by the deviations of its strengths from their mean for the predicted class, in
standard deviations: d_i = (s_i − μ_ci)/σ_i, μ_c being the mean over correct predictions of class c
and σ the deviation within classes. The regression reads d, and the mean of d² (deviation in any
direction), and gives the log-odds that the prediction is incorrect. Its ridge maximises the
likelihood of held-out predictions.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from profiler.concepts.space import ConceptSpace, folds
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray
from profiler.errors import InputError
from profiler.guard.rules.base import ConceptRule, checked

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridges tried, as shares of the number of images."""
PRIOR = 5.0
"""Correct predictions of all classes that are added to each class's mean."""

_STEPS = 50
_CONVERGED = 1e-10


class StrengthsRule(ConceptRule):
    """Logistic regression on strengths.

    Args:
        concepts: in the classifier's features.

    Attributes:
        usual_: (C, M) μ, shrunk towards the mean of all classes.
        spread_: (M,) σ.
        weights_: (M + 1,) of d, and of the mean of d².
        bias_: of the regression.
        penalty_: the ridge chosen.
    """

    name = "strengths"
    kept = ("usual", "spread", "weights")

    usual_: Float64
    spread_: Float64
    weights_: Float64
    bias_: float
    penalty_: float

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Learn the mean of each class, and how incorrect predictions deviate from it."""
        z, y, truth, predicted = checked(features, logits, truth)
        right = predicted == truth
        if right.all() or not right.any():
            raise InputError(
                f"all {len(z)} images to fit on are "
                f"{'classified correctly' if right.all() else 'misclassified'}, but this method "
                "compares correct and incorrect predictions; give more images"
                + (
                    ", or use a method that needs only correct predictions (typicality, "
                    "msp+typicality)"
                    if right.all()
                    else ""
                )
            )
        strengths = self.concepts.strengths(z)
        common = strengths[right].mean(axis=0)
        self.usual_ = np.empty((y.shape[1], len(common)))
        for label in range(y.shape[1]):
            own = strengths[right & (predicted == label)]
            self.usual_[label] = (own.sum(axis=0) + PRIOR * common) / (len(own) + PRIOR)
        within = strengths[right] - self.usual_[predicted[right]]
        spread = np.sqrt(np.mean(within**2, axis=0))
        self.spread_ = np.where(spread > 0, spread, 1.0)
        read = self._read(strengths, predicted)
        self.penalty_ = _best_penalty(read, ~right)
        self.weights_, self.bias_ = logistic(read, ~right, self.penalty_)
        return self

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, as arrays for a file."""
        return {**super().to_arrays(), "strengths.bias": np.array([self.bias_, self.penalty_])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], concepts: ConceptSpace) -> Self:
        """The method that gave these arrays, among others."""
        rule = super().from_arrays(arrays, concepts)
        rule.bias_, rule.penalty_ = arrays["strengths.bias"].tolist()
        return rule

    def _read(self, strengths: Float64, predicted: IntArray) -> Float64:
        off = (strengths - self.usual_[predicted]) / self.spread_
        return np.concatenate([off, np.mean(off**2, axis=1, keepdims=True)], axis=1)

    def _score(self, features: Float64, logits: Float64) -> Float64:
        read = self._read(self.concepts.strengths(features), logits.argmax(axis=1))
        odds: Float64 = read @ self.weights_ + self.bias_
        return odds


def _best_penalty(rows: Float64, positive: BoolArray) -> float:
    """The ridge of highest held-out likelihood (five folds); the largest of equals."""
    parts = folds(np.arange(len(rows)), seed=0)
    loss = np.zeros(len(PENALTIES))
    for part in np.unique(parts):
        held = parts == part
        if positive[~held].all() or not positive[~held].any():
            continue
        for k, penalty in enumerate(PENALTIES):
            weights, bias = logistic(rows[~held], positive[~held], penalty)
            odds = rows[held] @ weights + bias
            loss[k] += float(np.sum(np.logaddexp(0, np.where(positive[held], -odds, odds))))
    return PENALTIES[int(np.flatnonzero(loss <= loss.min() * (1 + 1e-12))[-1])]


def logistic(rows: Float64, positive: BoolArray, penalty: float) -> tuple[Float64, float]:
    """Weights (k,) and bias of the ridge logistic regression of (n,) outcomes on rows (n, k).

    Minimises Σ log(1 + exp(∓ odds)) + ½ n · penalty · Σ (σ_k w_k)², where σ_k is a column's
    deviation: columns are standardised for the ridge. Newton's method, damped where it must be.
    """
    n = len(rows)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    design = np.concatenate([(rows - mean) / scale, np.ones((n, 1))], axis=1)
    ridge = np.full(design.shape[1], n * penalty)
    ridge[-1] = 0.0
    outcome = positive.astype(np.float64)
    found = np.zeros(design.shape[1])

    def cost(weights: Float64) -> float:
        odds = design @ weights
        fit = np.sum(np.logaddexp(0, np.where(positive, -odds, odds)))
        return float(fit + 0.5 * np.sum(ridge * weights**2))

    now = cost(found)
    for _ in range(_STEPS):
        chance = expit(design @ found)
        slope = design.T @ (chance - outcome) + ridge * found
        weight = chance * (1 - chance)
        curve = (design.T * weight) @ design + np.diag(ridge)
        curve[-1, -1] += 1e-12 * n
        step = np.linalg.solve(curve, slope)
        share = 1.0
        while cost(found - share * step) > now and share > 1e-6:
            share /= 2
        found = found - share * step
        before, now = now, cost(found)
        if before - now <= _CONVERGED * max(1.0, abs(before)):
            break
    weights = found[:-1] / scale
    return weights, float(found[-1] - mean @ weights)
