"""Two detectors as one: an answer is strange if either finds it so.

Each score is turned into how rare it is among right answers, −log p(x), p(x) being the share of
right answers at least as strange as x; the rarities are added up, as in Fisher's way to combine
tests:

    score(x) = rarity(softmax) + weight · rarity(rule of concepts).

Of the softmax both tails count. An attack makes a classifier *surer* of itself than it is of its
right answers, which is as telling as doubt. But wrong answers are hardly ever sure, so for telling
those it only does harm: the sure end counts as far as its rarity exceeds an *allowance*.

The softmax is that of the classifier's head, weight and allowance are 1 and log 5, unless images
that neither score was fitted on say otherwise: then the setting is the one, among few, that tells
wrong answers from right ones best; one may take the softmax of the head as the images fitted on
correct it (:mod:`profiler.detector.corrected`). They say so if the lead of a setting over the usual
one is beyond chance (:data:`DRAWS` draws of the images, 95 %).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np

from profiler.align import ConceptSpace
from profiler.detector.base import BoolArray, Float64, FloatArray, IntArray, Sound, checked
from profiler.detector.baselines import MaxSoftmax
from profiler.detector.comparisons import Comparisons, CosineRule, LikelihoodRule
from profiler.detector.corrected import CorrectedSoftmax
from profiler.detector.metrics import Draws, interval, metrics
from profiler.detector.strengths import StrengthsRule
from profiler.detector.typicality import TypicalityRule
from profiler.errors import InputError, UnknownNameError

ConceptRule = Comparisons | StrengthsRule | TypicalityRule

WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Of the rule, beside the softmax."""
ALLOWANCES = tuple(float(np.log(rare)) for rare in (5, 20, 100))
"""Answers so sure count as strange if fewer than one right answer in 5, 20, 100 is as sure."""
USUAL = (False, 1.0, ALLOWANCES[0])
"""Whether the head is corrected, weight and allowance, where nothing speaks against them."""
DRAWS = 200
"""Of the bootstrap that says whether something does."""

TAIL = 0.1
"""Share of the right answers from which each tail is extrapolated."""
FEWEST = 5
"""… but at least so many, as far as they are no more than half of them."""

_ROUNDING = 1e-5


@dataclass(frozen=True)
class Rarity:
    """How rare a score is among others: −log p, as a table between two tails.

    With r known scores, k of them below s, p = (1 + r − k)/(1 + r) at the upper end and
    (1 + k)/(1 + r) at the lower; the smaller one counts. Beyond the most extreme tenth a table has
    nothing to tell apart, so there the tail goes on exponentially, at the mean excess of that tenth
    (peaks over a threshold; Pickands, 1975, with shape 0): rarity grows linearly. Rarity at the
    lower end is lessened by an allowance, and never negative.

    Attributes:
        known: (r,) scores, ascending.
        edges: (r,) the same, moved up by a little more than rounding: a score that is equal to a
            known one counts as such, in whichever precision it was worked out.
        table: (r + 1,) rarity by the number of known scores below.
        low: where the lower tail begins; minus infinity where that end does not count.
        high: where the upper tail begins.
        low_rate: rarity by unit of score below ``low``.
        high_rate: rarity by unit of score above ``high``.
    """

    known: Float64
    edges: Float64
    table: Float64
    low: float
    high: float
    low_rate: float
    high_rate: float

    @classmethod
    def of(cls, scores: FloatArray, allowance: float | None = None) -> "Rarity":
        """Among these scores (r,), at least one.

        Args:
            scores: known ones.
            allowance: taken off the rarity of low scores; None: low scores are not rare at all.
        """
        known = np.sort(np.asarray(scores, dtype=np.float64))
        count = len(known)
        if not count or not np.isfinite(known).all():
            raise InputError("rarity is told among one finite score or more")
        tail = min(max(FEWEST, round(TAIL * count)), count // 2)
        edges = known + _ROUNDING * max(1.0, float(np.abs(known).max()))
        below = np.arange(count + 1)
        deepest = np.log((count + 1) / (tail + 1))
        upper = np.minimum(np.log((count + 1) / (count + 1 - below)), deepest)
        high = float(known[count - tail - 1])
        high_rate = _rate(known[count - tail :] - high, known)
        if allowance is None:
            return cls(known, edges, upper, -np.inf, high, 0.0, high_rate)
        lower = np.minimum(np.log((count + 1) / (1 + below)), deepest) - allowance
        low_rate = _rate(float(known[tail]) - known[:tail], known)
        # Where the allowance eats up all that the table has, the tail has to pay the rest.
        low = float(known[tail]) - max(allowance - deepest, 0.0) / low_rate
        return cls(known, edges, np.maximum(upper, lower), low, high, low_rate, high_rate)

    def __call__(self, scores: FloatArray) -> Float64:
        """Rarities (n,).

        >>> Rarity.of(np.arange(1.0, 100.0))(np.array([50.0, 89.0, 99.0])).round(2).tolist()
        [0.67, 2.12, 4.03]
        """
        found: Float64 = self.table[np.searchsorted(self.edges, scores, side="left")]
        found = found + self.high_rate * np.maximum(scores - self.high, 0.0)
        if self.low_rate:
            found = found + self.low_rate * np.maximum(self.low - scores, 0.0)
        return found

    def pieces(self, weight: float = 1.0) -> tuple[Float64, Float64, Float64]:
        """The same as a function that is linear in pieces: edges (k,), values and slopes (k + 1,).

        A score s with j edges below it has the rarity values[j] + slopes[j] · s, times ``weight``.

        >>> one = Rarity.of(np.arange(1.0, 100.0))
        >>> edges, values, slopes = one.pieces()
        >>> j = np.searchsorted(edges, 99.0)
        >>> bool(np.isclose(values[j] + slopes[j] * 99.0, one(np.array([99.0]))[0]))
        True
        """
        edges = np.concatenate([self.edges, [self.low, self.high]])
        order = np.argsort(edges, kind="stable")
        count = len(self.edges)
        # What lies below a score: how many known scores, and either tail's beginning.
        known, low, high = (
            np.concatenate([[0], np.cumsum(each)])
            for each in (order < count, order == count, order == count + 1)
        )
        lower, upper = self.low_rate * (1 - low), self.high_rate * high
        start = self.low if self.low_rate else 0.0
        values = self.table[known] + lower * start - upper * self.high
        return edges[order], weight * values, weight * (upper - lower)


def _rate(excess: Float64, known: Float64) -> float:
    """One over the mean excess; of equal scores, over a millionth of their size."""
    mean = float(excess.mean()) if len(excess) else 0.0
    least = 1e-6 * max(1.0, float(np.abs(known).max()))
    return 1 / max(mean, least)


class WithSoftmax(Sound):
    """A rule of concepts, and the largest softmax probability.

    Args:
        rule: of concepts.

    Attributes:
        softmax_: whose score counts: of the head as it is, or as corrected.
        weight_: of the rule's rarity.
        allowance_: of the sure end of the softmax.
        softmax_rarity_: of the scores of ``softmax_``, at both ends.
        rule_rarity_: of those of the rule.
    """

    softmax_: MaxSoftmax | CorrectedSoftmax
    weight_: float
    allowance_: float
    softmax_rarity_: Rarity
    rule_rarity_: Rarity

    def __init__(self, rule: ConceptRule) -> None:
        self.rule = rule
        self.softmax_ = MaxSoftmax()

    @property
    def name(self) -> str:
        """As people choose it."""
        return f"msp+{self.rule.name}"

    @property
    def corrected(self) -> bool:
        """Whether the softmax is that of the corrected head."""
        return isinstance(self.softmax_, CorrectedSoftmax)

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Fit the rule and the correction; :meth:`weigh`, on other images, has to follow."""
        self.rule.fit(features, logits, truth)
        self.softmax_ = CorrectedSoftmax().fit(features, logits, truth)
        return self

    def weigh(
        self,
        features: FloatArray,
        logits: FloatArray,
        truth: IntArray,
        groups: IntArray | None = None,
    ) -> Self:
        """Learn how rare scores are, and the weight, on images that the rule has not seen.

        Args:
            features: (n, f).
            logits: (n, C).
            truth: (n,) true classes.
            groups: (n,) number of the picture that a row shows; None: each shows its own.
        """
        z, y, truth, predicted = checked(features, logits, truth)
        right = predicted == truth
        if not right.any():
            raise InputError("how rare a score is cannot be learned without right answers")
        strange, corrected = self.rule.score(z, y), self.softmax_
        doubts = {False: MaxSoftmax().score(z, y), True: corrected.score(z, y)}
        setting = USUAL
        if not right.all():
            scores = {}
            for each in product((False, True), WEIGHTS, ALLOWANCES):
                doubt = doubts[each[0]]
                self.set(doubt[right], strange[right], *each[1:])
                scores[each] = self._both(doubt, strange)
            pictures = np.arange(len(z)) if groups is None else groups
            setting = _best(scores, ~right, Draws.of(pictures, DRAWS))
        if not setting[0]:
            self.softmax_ = MaxSoftmax()
        return self.set(doubts[setting[0]][right], strange[right], *setting[1:])

    def set(self, doubt: FloatArray, strange: FloatArray, weight: float, allowance: float) -> Self:
        """Fix what :meth:`weigh` learns: scores of right answers by the softmax and by the rule."""
        self.weight_, self.allowance_ = weight, allowance
        self.softmax_rarity_ = Rarity.of(doubt, allowance)
        self.rule_rarity_ = Rarity.of(strange)
        return self

    def _score(self, features: Float64, logits: Float64) -> Float64:
        return self._both(self.softmax_.score(features, logits), self.rule.score(features, logits))

    def _both(self, doubt: Float64, strange: Float64) -> Float64:
        return self.softmax_rarity_(doubt) + self.weight_ * self.rule_rarity_(strange)


Setting = tuple[bool, float, float]
"""Whether the head is corrected, weight and allowance."""


def _best(scores: Mapping[Setting, Float64], wrong: BoolArray, draws: Draws) -> Setting:
    """The setting of highest AUROC among those better than the usual one beyond chance."""
    value = {each: metrics(row, wrong)["auroc"] for each, row in scores.items()}
    usual = draws.metrics(scores[USUAL], wrong)["auroc"]
    for each in sorted(value, key=lambda each: -value[each]):
        if value[each] <= value[USUAL]:
            break
        ahead = interval(
            value[each] - value[USUAL], draws.metrics(scores[each], wrong)["auroc"] - usual
        )
        if ahead.low > 0:
            return each
    return USUAL


RULES: dict[str, Callable[[ConceptSpace], ConceptRule]] = {
    TypicalityRule.name: TypicalityRule,
    CosineRule.name: CosineRule,
    LikelihoodRule.name: LikelihoodRule,
    StrengthsRule.name: StrengthsRule,
}
CHOICES = (*RULES, *(f"msp+{name}" for name in RULES))
"""Every rule on offer, by name."""
DEFAULT = f"msp+{TypicalityRule.name}"
"""The rule that finds most kinds of defects (``benchmarks/guard.py``)."""


def make_rule(name: str, concepts: ConceptSpace) -> ConceptRule | WithSoftmax:
    """A rule by its name, not fitted."""
    if name not in CHOICES:
        raise UnknownNameError("rule", name, CHOICES)
    plain = RULES[name.removeprefix("msp+")](concepts)
    return WithSoftmax(plain) if name.startswith("msp+") else plain
