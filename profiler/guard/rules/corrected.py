"""The softmax of a classifier's head as held-out images correct it.

A head fitted on the images that its encoder was trained on is overconfident, for some classes more
than for others. Images that neither was trained on correct the head's weights W (C, f) and biases b
by Δ and δ, which minimise

    mean over images of −log softmax((W + Δ) z + b + δ)[truth] + ½ penalty · Σ (σ_k Δ_ck)²,

σ_k being the deviation of feature k. So with few images the head hardly changes. The predicted
class is that of the uncorrected head; the corrected head only gives the confidence.
"""

from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from profiler.concepts.space import folds
from profiler.core.arrays import Float64, FloatArray, IntArray
from profiler.guard.rules.base import Detector, checked
from profiler.guard.rules.baselines import log_odds_against

PENALTIES = (1.0, 0.1, 0.01)
"""Tried on the images of one fifth."""

_STEPS = 100


class CorrectedSoftmax(Detector):
    """Log-odds against the predicted class, by the corrected head.

    Attributes:
        weights_: (C, f) Δ; in single precision's numbers, as a file keeps them.
        bias_: (C,) δ; likewise.
        penalty_: the one under which the fifth held out is most probable.
    """

    name = "corrected-msp"

    weights_: Float64
    bias_: Float64
    penalty_: float

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Learn the correction."""
        z, y, truth, _ = checked(features, logits, truth)
        held = folds(np.arange(len(z)), seed=0) == 0
        self.penalty_ = PENALTIES[0]
        if held.any() and not held.all():
            loss = []
            for penalty in PENALTIES:
                weights, bias = correction(z[~held], y[~held], truth[~held], penalty)
                logs = log_softmax(y[held] + z[held] @ weights.T + bias, axis=1)
                loss.append(-float(np.sum(logs[np.arange(len(logs)), truth[held]])))
            self.penalty_ = PENALTIES[int(np.argmin(loss))]
        self.weights_, self.bias_ = correction(z, y, truth, self.penalty_)
        return self

    def correct(self, features: Float64, logits: Float64) -> Float64:
        """(n, C) logits of the corrected head."""
        corrected: Float64 = logits + features @ self.weights_.T + self.bias_
        return corrected

    def _score(self, features: Float64, logits: Float64) -> Float64:
        return log_odds_against(self.correct(features, logits), logits.argmax(axis=1))


def correction(
    features: Float64, logits: Float64, truth: IntArray, penalty: float
) -> tuple[Float64, Float64]:
    """Δ (C, f) and δ (C,) for n images, by L-BFGS."""
    n, count = logits.shape
    mean, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    rows = np.concatenate([(features - mean) / scale, np.ones((n, 1))], axis=1)
    ridge = np.full(rows.shape[1], penalty)
    ridge[-1] = 0.0
    own = np.arange(n), truth

    def cost(flat: Float64) -> tuple[float, Float64]:
        step = flat.reshape(count, -1)
        logs = log_softmax(logits + rows @ step.T, axis=1)
        blame = np.exp(logs)
        blame[own] -= 1
        slope = blame.T @ rows / n + ridge * step
        value = -float(np.mean(logs[own])) + 0.5 * float(np.sum(ridge * step**2))
        return value, slope.ravel()

    start = np.zeros(count * rows.shape[1])
    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    step = found.x.reshape(count, -1)
    weights = step[:, :-1] / scale
    bias = step[:, -1] - weights @ mean
    single = weights.astype(np.float32), bias.astype(np.float32)
    return single[0].astype(np.float64), single[1].astype(np.float64)
