"""Two detectors as one: an answer is strange if either finds it so.

Each score is turned into how rare it is among right answers,

    p(x) = (1 + #{right answers with a score of at least that of x}) / (1 + #{right answers}),

and the two rarities are added up: −log p_1(x) − log p_2(x), Fisher's way to combine tests. Where one
detector sees nothing (an attack makes the softmax sure of itself, so p_1 is near 1) its term
vanishes and the other decides. No weight between the two is learned, so none can be learned from
one kind of defect and fail on another.

The right answers are those of images that neither score was fitted on.
"""

from collections.abc import Callable
from typing import Self

import numpy as np

from profiler.align import ConceptSpace
from profiler.detector.base import Float64, FloatArray, IntArray, Sound, checked
from profiler.detector.baselines import MaxSoftmax
from profiler.detector.comparisons import Comparisons, CosineRule, LikelihoodRule
from profiler.detector.strengths import StrengthsRule
from profiler.errors import InputError, UnknownNameError

ConceptRule = Comparisons | StrengthsRule


class WithSoftmax(Sound):
    """A rule of concepts, and the largest softmax probability.

    Args:
        rule: of concepts.

    Attributes:
        softmax_tail_: (r,) scores of MSP for right answers, ascending.
        rule_tail_: (r,) those of the rule.
    """

    softmax_tail_: Float64
    rule_tail_: Float64

    def __init__(self, rule: ConceptRule) -> None:
        self.rule = rule
        self.softmax = MaxSoftmax()

    @property
    def name(self) -> str:
        """As people choose it."""
        return f"msp+{self.rule.name}"

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Fit the rule; :meth:`weigh`, on other images, has to follow."""
        self.rule.fit(features, logits, truth)
        return self

    def weigh(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Learn how rare scores are among right answers; the rule has not seen these images."""
        z, y, truth, predicted = checked(features, logits, truth)
        right = predicted == truth
        if not right.any():
            raise InputError("how rare a score is cannot be learned without right answers")
        self.softmax_tail_ = np.sort(self.softmax.score(z[right], y[right]))
        self.rule_tail_ = np.sort(self.rule.score(z[right], y[right]))
        return self

    def _score(self, features: Float64, logits: Float64) -> Float64:
        return rarity(self.softmax.score(features, logits), self.softmax_tail_) + rarity(
            self.rule.score(features, logits), self.rule_tail_
        )


def rarity(scores: Float64, tail: Float64) -> Float64:
    """(n,) −log p of scores among ascending ones (r,).

    >>> np.exp(-rarity(np.array([0.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0]))).round(3).tolist()
    [1.0, 0.75, 0.25]
    """
    above = len(tail) - np.searchsorted(tail, scores, side="left")
    rare: Float64 = np.log(len(tail) + 1) - np.log(above + 1)
    return rare


RULES: dict[str, Callable[[ConceptSpace], ConceptRule]] = {
    CosineRule.name: CosineRule,
    LikelihoodRule.name: LikelihoodRule,
    StrengthsRule.name: StrengthsRule,
}
CHOICES = (*RULES, *(f"msp+{name}" for name in RULES))
"""Every rule on offer, by name."""


def make_rule(name: str, concepts: ConceptSpace) -> ConceptRule | WithSoftmax:
    """A rule by its name, not fitted."""
    if name not in CHOICES:
        raise UnknownNameError("rule", name, CHOICES)
    plain = RULES[name.removeprefix("msp+")](concepts)
    return WithSoftmax(plain) if name.startswith("msp+") else plain
