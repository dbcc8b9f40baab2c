"""The noise floor: how much two draws of the probe images differ for one and the same run.

A difference between runs that is no larger could as well be one between images. Draws are held
against draws, in all B(B − 1)/2 pairs, never against the full set: drawing with replacement
concentrates the top lists and so moves the shares of every draw alike.

Two runs see the same images, two draws do not: the floor errs on the high side.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from profiler.compare.counts import counts, members
from profiler.compare.result import LayerDraws
from profiler.compare.shares import jensen_shannon
from profiler.core.arrays import BoolArray, FloatArray, IntArray

LEVEL = 0.95
"""Share of the pairs of draws that lie within the floor."""


@dataclass(frozen=True)
class Floor:
    """What the draws of a run make of one layer.

    Attributes:
        shares: (C + 3,) 95th percentile of the absolute difference of each compared share.
        divergence: 95th percentile of the Jensen–Shannon divergence, in bits.
        kept: 5th percentile of the share of units trusted in both that keep their label; NaN where
            no two draws trust the same unit.
    """

    shares: FloatArray
    divergence: float
    kept: float

    @classmethod
    def of(cls, draws: LayerDraws | None, kinds: IntArray | None, categories: int) -> "Floor":
        """Of a layer's draws, with the kinds (B, K) of its units; NaN without a pair of them."""
        unknown = cls(np.full(categories + 3, np.nan), float("nan"), float("nan"))
        if draws is None or kinds is None or len(kinds) < 2:
            return unknown
        per_draw = counts(kinds, categories)
        shares = [member.mean(axis=1) for member in members(kinds, categories)]
        return cls(
            np.array([_quantile([abs(one - other) for one, other in combinations(share, 2)], LEVEL)
                      for share in shares]),
            _quantile([jensen_shannon(one, other) for one, other in combinations(per_draw, 2)],
                      LEVEL),
            _quantile([kept_share(*kept(draws.concept[i], draws.trusted[i],
                                        draws.concept[j], draws.trusted[j]))
                       for i, j in combinations(range(len(kinds)), 2)], 1 - LEVEL),
        )  # fmt: skip

    def join(self, other: "Floor") -> "Floor":
        """The wider of two floors; NaN where one of them is."""
        return Floor(
            np.maximum(self.shares, other.shares),
            float(np.maximum(self.divergence, other.divergence)),
            float(np.minimum(self.kept, other.kept)),
        )


def kept(
    concept: IntArray, trusted: BoolArray, then: IntArray, then_trusted: BoolArray
) -> tuple[BoolArray, BoolArray]:
    """(U,) which units keep their label, and which are trusted both times."""
    both = trusted & then_trusted
    return both & (concept == then), both


def kept_share(kept: BoolArray, both: BoolArray) -> float:
    """Of the units trusted both times, those that keep their label; NaN where there are none."""
    many = int(np.count_nonzero(both))
    return int(np.count_nonzero(kept)) / many if many else float("nan")


def _quantile(values: list[float], level: float) -> float:
    defined = np.array([value for value in values if not np.isnan(value)])
    return float(np.quantile(defined, level)) if len(defined) else float("nan")
