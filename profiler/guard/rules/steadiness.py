"""Loss of confidence in a prediction under small augmentations of the image.

An image that is mirrored, or moved by a pixel, keeps its content, and a correct prediction hardly
changes. An attack is fitted to one image; in an augmented view of it the classifier is far less
confident (Tian, Yang & Cai, AAAI 2018; Xu, Evans & Qi, NDSS 2018, change images for the same
reason).

Let d_0 be the log-odds against the predicted class, and d_1 … d_L those against the *same* class
under L augmented views. On correct predictions, d_l is fitted by a_l + b_l d_0 (least squares),
with residual deviation σ_l. The change of a prediction is

    mean over l of (d_l − a_l − b_l d_0) / σ_l.

It is learned without incorrect predictions and without attacks.
"""

from dataclasses import dataclass

import numpy as np

from profiler.core.arrays import Float64, FloatArray
from profiler.errors import InputError

FEWEST = 10
"""Correct predictions that are needed."""
_EVEN = 1e-5
"""What rounding may do, as a share of the largest log-odds."""


@dataclass(frozen=True)
class Steadiness:
    """The expected log-odds under L augmented views, from correct predictions.

    Attributes:
        start: (L,) a.
        slope: (L,) b.
        spread: (L,) σ; infinite for a view that changes log-odds only by rounding (for example a
            mirrored view in a network that averages over the image), so that it does not count.
    """

    start: Float64
    slope: Float64
    spread: Float64

    @classmethod
    def of(cls, doubts: FloatArray) -> "Steadiness":
        """From log-odds (n, 1 + L) of correct predictions, those of the image itself first."""
        found = np.asarray(doubts, dtype=np.float64)
        if found.ndim != 2 or found.shape[1] < 2 or not np.isfinite(found).all():
            raise InputError(f"finite log-odds (n, 1 + L) of L views are needed, got {found.shape}")
        if len(found) < FEWEST:
            raise InputError(
                f"{len(found)} correct predictions are too few to learn how augmented views change "
                f"the confidence; at least {FEWEST} are needed"
            )
        line = np.stack([np.ones(len(found)), found[:, 0]], axis=1)
        start, slope = np.linalg.lstsq(line, found[:, 1:], rcond=None)[0]
        off = found[:, 1:] - start - slope * found[:, :1]
        spread = off.std(axis=0)
        even = _EVEN * max(1.0, float(np.abs(found).max()))
        return cls(start, slope, np.where(spread > even, spread, np.inf))

    def __call__(self, doubts: FloatArray) -> Float64:
        """(n,) changes of predictions by their log-odds (n, 1 + L)."""
        given = np.asarray(doubts, dtype=np.float64)
        off = given[:, 1:] - self.start - self.slope * given[:, :1]
        changes: Float64 = np.mean(off / self.spread, axis=1)
        return changes
