"""How much less sure of an answer a classifier is once the same image is seen a little otherwise.

An image that is mirrored, or moved by a pixel, shows what it showed, and a right answer hardly
suffers. An attack is fitted to the one image it was made for; of another view of it the classifier
is far less sure, although nothing in the first view betrays it (Tian, Yang & Cai, AAAI 2018; Xu,
Evans & Qi, NDSS 2018, change images for the same reason).

Let d_0 be the log-odds against the predicted class, and d_1 … d_L those against the *same* class
under L views. Right answers say what to expect of d_l given d_0, a_l + b_l d_0 (least squares), and
how much it varies, σ_l. The change of an answer is

    mean over l of (d_l − a_l − b_l d_0) / σ_l.

Neither wrong answers nor attacks are needed to learn it.
"""

from dataclasses import dataclass

import numpy as np

from profiler.core.arrays import Float64, FloatArray
from profiler.errors import InputError

FEWEST = 10
"""Right answers from which expectations can be learned."""
_EVEN = 1e-5
"""What rounding may do, as a share of the largest log-odds."""


@dataclass(frozen=True)
class Steadiness:
    """What right answers let expect of L views.

    Attributes:
        start: (L,) a.
        slope: (L,) b.
        spread: (L,) σ; infinite for a view that changes nothing but by rounding, as when a network
            that averages over the image sees it mirrored: it has nothing to tell.
    """

    start: Float64
    slope: Float64
    spread: Float64

    @classmethod
    def of(cls, doubts: FloatArray) -> "Steadiness":
        """From the right answers' log-odds (n, 1 + L), those of the image itself first."""
        found = np.asarray(doubts, dtype=np.float64)
        if found.ndim != 2 or found.shape[1] < 2 or not np.isfinite(found).all():
            raise InputError(f"finite log-odds (n, 1 + L) of L views are needed, got {found.shape}")
        if len(found) < FEWEST:
            raise InputError(
                f"{len(found)} right answers are too few to learn how much a view may change one; "
                f"{FEWEST} are needed"
            )
        line = np.stack([np.ones(len(found)), found[:, 0]], axis=1)
        start, slope = np.linalg.lstsq(line, found[:, 1:], rcond=None)[0]
        off = found[:, 1:] - start - slope * found[:, :1]
        spread = off.std(axis=0)
        even = _EVEN * max(1.0, float(np.abs(found).max()))
        return cls(start, slope, np.where(spread > even, spread, np.inf))

    def __call__(self, doubts: FloatArray) -> Float64:
        """(n,) changes of answers by their log-odds (n, 1 + L)."""
        given = np.asarray(doubts, dtype=np.float64)
        off = given[:, 1:] - self.start - self.slope * given[:, :1]
        changes: Float64 = np.mean(off / self.spread, axis=1)
        return changes
