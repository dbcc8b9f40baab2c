"""Baselines: detectors without concepts.

=============== ===================================================================================
msp             1 − the largest softmax probability (Hendrycks & Gimpel, ICLR 2017), as the log of
                the odds against it: the same order, also where the softmax rounds to 1
max-logit       − the largest logit (Hendrycks et al., ICML 2022)
energy          − log Σ exp logit (Liu et al., NeurIPS 2020), at temperature 1
entropy         of the softmax, in nats
mahalanobis     squared distance of the features to the nearest class mean, by the covariance
                within classes (Lee et al., NeurIPS 2018); last layer, no input perturbation
knn             distance of the unit-length features to the k-th nearest image of the fitting part
                (Sun et al., ICML 2022)
=============== ===================================================================================
"""

from typing import Self

import numpy as np
from scipy.linalg import eigh
from scipy.special import logsumexp, softmax

from profiler.core.arrays import Float64, FloatArray, IntArray
from profiler.guard.rules.base import Detector, checked

NEIGHBOURS = 10
"""K; of a tenth of the images where they are fewer than a hundred."""
_ROUNDING = 1e-9
"""A direction with less than this share of the largest variance is constant but for rounding."""
_BLOCK_CELLS = 2**24


class _OfLogits(Detector):
    """A score that needs no fitting."""

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Nothing is learned."""
        checked(features, logits, truth)
        return self


def log_odds_against(logits: Float64, predicted: IntArray | None = None) -> Float64:
    """(n,) log((1 − p)/p) of a class's probability p; −∞ for a single class.

    Args:
        logits: (n, C).
        predicted: (n,) the class; None: the most probable.

    >>> float(log_odds_against(np.array([[0.0, 0.0]]))[0])
    0.0
    """
    top = (logits.argmax(axis=1) if predicted is None else predicted)[:, None]
    others = logits.copy()
    np.put_along_axis(others, top, -np.inf, axis=1)
    odds: Float64 = logsumexp(others, axis=1) - np.take_along_axis(logits, top, 1)[:, 0]
    return odds


class MaxSoftmax(_OfLogits):
    """One less the largest probability, as log-odds."""

    name = "msp"

    def _score(self, features: Float64, logits: Float64) -> Float64:
        return log_odds_against(logits)


class MaxLogit(_OfLogits):
    """The largest logit, negative."""

    name = "max-logit"

    def _score(self, features: Float64, logits: Float64) -> Float64:
        lowest: Float64 = -logits.max(axis=1)
        return lowest


class Energy(_OfLogits):
    """The free energy of the logits."""

    name = "energy"

    def _score(self, features: Float64, logits: Float64) -> Float64:
        energy: Float64 = -logsumexp(logits, axis=1)
        return energy


class Entropy(_OfLogits):
    """Of the softmax."""

    name = "entropy"

    def _score(self, features: Float64, logits: Float64) -> Float64:
        logs = logits - logsumexp(logits, axis=1, keepdims=True)
        entropy: Float64 = -np.sum(softmax(logits, axis=1) * logs, axis=1)
        return entropy


class Mahalanobis(Detector):
    """Distance to the nearest class mean.

    Directions in which no class varies are left out, as by a pseudo-inverse.

    Attributes:
        means_: (K, r) of the classes that have images, whitened.
        whitening_: (f, r).
    """

    name = "mahalanobis"

    means_: Float64
    whitening_: Float64

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Learn class means and the covariance within classes."""
        z, _, truth, _ = checked(features, logits, truth)
        classes, place = np.unique(truth, return_inverse=True)
        means = np.stack([z[truth == label].mean(axis=0) for label in classes])
        within = z - means[place]
        values, vectors = eigh(within.T @ within / len(z))
        kept = values > _ROUNDING * max(float(values[-1]), 0.0)
        self.whitening_ = vectors[:, kept] / np.sqrt(values[kept])
        self.means_ = means @ self.whitening_
        return self

    def _score(self, features: Float64, logits: Float64) -> Float64:
        white = features @ self.whitening_
        squares = (
            np.sum(white**2, axis=1)[:, None]
            + np.sum(self.means_**2, axis=1)
            - 2 * white @ self.means_.T
        )
        nearest: Float64 = np.maximum(squares, 0.0).min(axis=1)
        return nearest


class Neighbours(Detector):
    """Distance to the k-th nearest image of the fitting part.

    Attributes:
        known_: (n, f) unit rows.
        k_: which neighbour: :data:`NEIGHBOURS`, or fewer where there are few images.
    """

    name = "knn"

    known_: Float64
    k_: int

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Keep the images."""
        z, *_ = checked(features, logits, truth)
        self.known_ = _units(z)
        self.k_ = min(NEIGHBOURS, max(1, len(z) // 10))
        return self

    def _score(self, features: Float64, logits: Float64) -> Float64:
        rows = _units(features)
        found = np.empty(len(rows))
        step = max(1, _BLOCK_CELLS // len(self.known_))
        for lo in range(0, len(rows), step):
            cosines = rows[lo : lo + step] @ self.known_.T
            nearest = np.partition(cosines, len(self.known_) - self.k_, axis=1)[:, -self.k_]
            found[lo : lo + step] = np.sqrt(np.maximum(2 - 2 * nearest, 0.0))
        return found


def _units(z: Float64) -> Float64:
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    units: Float64 = z / np.where(norms > 0, norms, 1.0)
    return units


def baselines() -> "list[MaxSoftmax | MaxLogit | Energy | Entropy | Mahalanobis | Neighbours]":
    """One of each."""
    return [MaxSoftmax(), MaxLogit(), Energy(), Entropy(), Mahalanobis(), Neighbours()]
