"""The statistical reading: the share of images of which a spec holds, with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from profiler.core.arrays import BoolArray, IntArray
from profiler.core.statistics import wilson
from profiler.spec.language.tree import Formula, Requirement
from profiler.spec.verify.interpretation import ImageFacts

Judgement = Literal["passed", "failed", "undecided"]
_WORST_FIRST: tuple[Judgement, ...] = ("failed", "undecided", "passed")

LEVEL = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Rate:
    """So many of so many. Rates of parts add up to that of the whole."""

    holds: int
    images: int

    @classmethod
    def of(cls, holds: BoolArray) -> "Rate":
        """Of answers, one an image."""
        return cls(int(np.count_nonzero(holds)), len(holds))

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.holds + other.holds, self.images + other.images)

    @property
    def value(self) -> float:
        """The share; NaN without images."""
        return self.holds / self.images if self.images else math.nan

    def interval(self) -> tuple[float, float]:
        """Wilson's, for images drawn independently; without images it is (0, 1).

        >>> Rate(0, 0).interval()
        (0.0, 1.0)
        """
        if not self.images:
            return 0.0, 1.0
        low, high = wilson(np.array(self.holds), self.images, LEVEL)
        return float(low), float(high)


@dataclass(frozen=True)
class ClassRate:
    """Rates over the images of one class."""

    label: str
    rate: Rate
    applicable: Rate
    """Over those the spec says something of."""


@dataclass(frozen=True)
class Judged:
    """What became of a requirement."""

    requirement: Requirement
    outcome: Judgement
    """``undecided``: there is no image to judge by."""
    value: float


@dataclass(frozen=True)
class SpecRate:
    """How far a spec holds on images.

    Attributes:
        rate: over all images.
        applicable: over those it says something of; see
            :meth:`profiler.spec.verify.Facts.applies`.
        by_class: the same by true class, in the classes' order; those without images are left out.
        violations: (V,) rows of the images of which it does not hold.
        judged: its requirements.
    """

    rate: Rate
    applicable: Rate
    by_class: tuple[ClassRate, ...]
    violations: IntArray
    judged: tuple[Judged, ...]

    @property
    def outcome(self) -> Judgement | None:
        """The worst of its requirements'; None where it has none."""
        found = [each.outcome for each in self.judged]
        return min(found, key=_WORST_FIRST.index, default=None)


def check_images(
    formula: Formula,
    facts: ImageFacts,
    truth: IntArray,
    requirements: Sequence[Requirement] = (),
) -> SpecRate:
    """The statistical check of one spec.

    Args:
        formula: without quantifiers.
        facts: of N images.
        truth: (N,) their true classes, numbered as the classifier's outputs.
        requirements: to judge.
    """
    holds, applies = facts.holds(formula), facts.applies(formula)
    by_class = tuple(
        ClassRate(
            facts.of.classes.names[label],
            Rate.of(holds[truth == label]),
            Rate.of(holds[(truth == label) & applies]),
        )
        for label in np.unique(truth).tolist()
    )
    rate, applicable = Rate.of(holds), Rate.of(holds[applies])
    judged = tuple(
        _judge(each, rate if each.measure == "rate" else applicable) for each in requirements
    )
    return SpecRate(rate, applicable, by_class, np.flatnonzero(~holds), judged)


def _judge(requirement: Requirement, rate: Rate) -> Judged:
    if not rate.images:
        return Judged(requirement, "undecided", math.nan)
    met = rate.value >= requirement.bound
    return Judged(requirement, "passed" if met else "failed", rate.value)
