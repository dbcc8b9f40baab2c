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
correct it (:mod:`profiler.guard.rules.corrected`). They say so if the lead of a setting over the
usual one is beyond chance (:data:`DRAWS` draws of the images, 95 %).

A classifier may be asked about further *views* of each image as well. Then the softmax's score is
the mean over image and views of the log-odds against the class predicted for the image, and how
much the views change it counts besides, as far as its rarity exceeds an allowance, log 5 again:

    score(x) = rarity(mean softmax) + weight · rarity(rule of concepts)
               + max(0, rarity(change) − log 5),

with the change of :mod:`profiler.guard.rules.steadiness`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from profiler.concepts.space import ConceptSpace
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray
from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.guard.metrics import Draws, interval, metrics
from profiler.guard.rules.base import ConceptRule, Views, check_views_given, checked, judged, sound
from profiler.guard.rules.baselines import MaxSoftmax, log_odds_against
from profiler.guard.rules.comparisons import CosineRule, LikelihoodRule
from profiler.guard.rules.corrected import CorrectedSoftmax
from profiler.guard.rules.steadiness import Steadiness
from profiler.guard.rules.strengths import StrengthsRule
from profiler.guard.rules.typicality import TypicalityRule

WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Of the rule, beside the softmax."""
ALLOWANCES = tuple(float(np.log(rare)) for rare in (5, 20, 100))
"""Answers so sure count as strange if fewer than one right answer in 5, 20, 100 is as sure."""
USUAL = (False, 1.0, ALLOWANCES[0])
"""Whether the head is corrected, weight and allowance, where nothing speaks against them."""
CHANGE_ALLOWANCE = ALLOWANCES[0]
"""Taken off the rarity of what views change."""
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

    def beyond(self, allowance: float) -> "Rarity":
        """As far as the rarity exceeds an allowance; of one whose low scores are not rare.

        >>> one = Rarity.of(np.arange(1.0, 100.0))
        >>> one.beyond(2.0)(np.array([50.0, 89.0, 99.0])).round(2).tolist()
        [0.0, 0.12, 2.03]
        """
        missing = max(allowance - float(self.table[-1]), 0.0)
        # Where the allowance eats up all that the table has, the tail has to pay the rest.
        high = self.high + missing / self.high_rate
        return replace(self, table=np.maximum(self.table - allowance, 0.0), high=high)

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


class WithSoftmax:
    """A rule of concepts, and the largest softmax probability.

    Args:
        rule: of concepts.
        views: names of the L further views of each image that the classifier is asked about.

    Attributes:
        softmax_: whose score counts: of the head as it is, or as corrected.
        weight_: of the rule's rarity.
        allowance_: of the sure end of the softmax.
        doubts_: (r, 1 + L) log-odds of right answers by ``softmax_``, see :meth:`doubts`.
        softmax_rarity_: of their means over image and views, at both ends.
        rule_rarity_: of the scores of the rule.
        steadiness_: what right answers let expect of views; None without any.
        change_rarity_: of the changes under views, beyond its allowance; None without any.
    """

    softmax_: MaxSoftmax | CorrectedSoftmax
    weight_: float
    allowance_: float
    doubts_: Float64
    softmax_rarity_: Rarity
    rule_rarity_: Rarity
    steadiness_: Steadiness | None
    change_rarity_: Rarity | None

    def __init__(self, rule: ConceptRule, views: tuple[str, ...] = ()) -> None:
        self.rule = rule
        self.views = views
        self.softmax_ = MaxSoftmax()

    @property
    def name(self) -> str:
        """As people choose it."""
        return f"msp+{self.rule.name}"

    @property
    def plain(self) -> ConceptRule:
        """The rule without the softmax."""
        return self.rule

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
        views: Views | None = None,
    ) -> Self:
        """Learn how rare scores are, and the weight, on images that the rule has not seen.

        Args:
            features: (n, f).
            logits: (n, C).
            truth: (n,) true classes.
            groups: (n,) number of the picture that a row shows; None: each shows its own.
            views: of the same images.
        """
        z, y, truth, predicted = checked(features, logits, truth)
        right = predicted == truth
        if not right.any():
            raise InputError("how rare a score is cannot be learned without right answers")
        strange, corrected = self.rule.score(z, y), self.softmax_
        doubts = {
            False: self.doubts(z, y, views, MaxSoftmax()),
            True: self.doubts(z, y, views, corrected),
        }
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

    def set(self, doubts: FloatArray, strange: FloatArray, weight: float, allowance: float) -> Self:
        """Fix what :meth:`weigh` learns: right answers' :meth:`doubts` and scores of the rule.

        Without views the doubts may be a row.
        """
        self.weight_, self.allowance_ = weight, allowance
        self.doubts_ = np.asarray(doubts, dtype=np.float64).reshape(len(doubts), -1)
        if self.doubts_.shape[1] != 1 + len(self.views):
            raise InputError(
                f"log-odds of right answers must be those of the image and {len(self.views)} views,"
                f" but there are {self.doubts_.shape[1]} an image"
            )
        self.softmax_rarity_ = Rarity.of(self.doubts_.mean(axis=1), allowance)
        self.rule_rarity_ = Rarity.of(strange)
        self.steadiness_ = self.change_rarity_ = None
        if self.views:
            self.steadiness_ = Steadiness.of(self.doubts_)
            changes = self.steadiness_(self.doubts_)
            self.change_rarity_ = Rarity.of(changes).beyond(CHANGE_ALLOWANCE)
        return self

    def doubts(
        self,
        features: Float64,
        logits: Float64,
        views: Views | None,
        softmax: MaxSoftmax | CorrectedSoftmax | None = None,
    ) -> Float64:
        """(n, 1 + L) log-odds against the class predicted for the image, of it and of its views."""
        softmax = softmax or self.softmax_
        check_views_given(views, self.views, len(features))
        found = [softmax.score(features, logits)]
        for z, y in views.each() if views is not None else ():
            corrected = softmax.correct(z, y) if isinstance(softmax, CorrectedSoftmax) else y
            found.append(log_odds_against(corrected, logits.argmax(axis=1)))
        return np.stack(found, axis=1)

    def score(
        self, features: FloatArray, logits: FloatArray, views: Views | None = None
    ) -> Float64:
        """(n,) scores; infinite, never NaN, where anything given is not finite."""
        fine = sound(features, logits)
        check_views_given(views, self.views, len(fine))
        if views is not None:
            fine = fine & views.fine

        def judge(rows: BoolArray) -> Float64:
            z = np.asarray(features, dtype=np.float64)[rows]
            y = np.asarray(logits, dtype=np.float64)[rows]
            doubts = self.doubts(z, y, None if views is None else views.take(rows))
            return self._both(doubts, self.rule.score(z, y))

        return judged(fine, judge)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, as a file keeps it."""
        arrays = {
            **self.rule.to_arrays(),
            "rarity.softmax": self.doubts_ if self.views else self.softmax_rarity_.known,
            "rarity.rule": self.rule_rarity_.known,
            "rarity.weight": np.array([self.weight_, self.allowance_]),
        }
        if isinstance(self.softmax_, CorrectedSoftmax):
            arrays["correction.weights"] = self.softmax_.weights_
            arrays["correction.bias"] = self.softmax_.bias_
        return arrays

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], rule: ConceptRule, views: tuple[str, ...]
    ) -> Self:
        """The combination that gave these arrays, around its rule of concepts."""
        found = cls(rule, views)
        if "correction.weights" in arrays:
            found.softmax_ = CorrectedSoftmax()
            found.softmax_.weights_ = arrays["correction.weights"]
            found.softmax_.bias_ = arrays["correction.bias"]
        weight, allowance = arrays["rarity.weight"].tolist()
        return found.set(arrays["rarity.softmax"], arrays["rarity.rule"], weight, allowance)

    def _both(self, doubts: Float64, strange: Float64) -> Float64:
        found = self.softmax_rarity_(doubts.mean(axis=1))
        found = found + self.weight_ * self.rule_rarity_(strange)
        if self.steadiness_ is not None and self.change_rarity_ is not None:
            found = found + self.change_rarity_(self.steadiness_(doubts))
        return found


Setting = tuple[bool, float, float]
"""Whether the head is corrected, weight and allowance."""


def _best(scores: Mapping[Setting, Float64], wrong: BoolArray, draws: Draws) -> Setting:
    """The setting of highest AUROC among those better than the usual one beyond chance."""
    value = {each: metrics(row, wrong).auroc for each, row in scores.items()}
    usual = draws.metrics(scores[USUAL], wrong).auroc
    for each in sorted(value, key=lambda each: -value[each]):
        if value[each] <= value[USUAL]:
            break
        ahead = interval(
            value[each] - value[USUAL], draws.metrics(scores[each], wrong).auroc - usual
        )
        if ahead.low > 0:
            return each
    return USUAL


RULES: dict[str, type[ConceptRule]] = {
    TypicalityRule.name: TypicalityRule,
    CosineRule.name: CosineRule,
    LikelihoodRule.name: LikelihoodRule,
    StrengthsRule.name: StrengthsRule,
}
CHOICES = (*RULES, *(f"msp+{name}" for name in RULES))
"""Every rule on offer, by name."""
DEFAULT = f"msp+{TypicalityRule.name}"
"""The rule that finds most kinds of defects (``benchmarks/guard.py``)."""


def make_rule(
    name: str, concepts: ConceptSpace, views: tuple[str, ...] = ()
) -> ConceptRule | WithSoftmax:
    """A rule by its name, not fitted; ``views`` are those a combination reads besides."""
    plain = _kind(name, views)(concepts)
    return WithSoftmax(plain, views) if name.startswith("msp+") else plain


def load_rule(
    name: str,
    concepts: ConceptSpace,
    views: tuple[str, ...],
    arrays: Mapping[str, NDArray[Any]],
) -> ConceptRule | WithSoftmax:
    """The rule of that name that gave these arrays, among others."""
    plain = _kind(name, views).from_arrays(arrays, concepts)
    return WithSoftmax.from_arrays(arrays, plain, views) if name.startswith("msp+") else plain


def _kind(name: str, views: Sequence[str]) -> type[ConceptRule]:
    if name not in CHOICES:
        raise UnknownNameError("rule", name, CHOICES)
    check_reads(name, views)
    return RULES[name.removeprefix("msp+")]


def check_reads(name: str, views: Sequence[str]) -> None:
    """Raise :class:`UsageError` if there are views and the rule of that name reads none."""
    if views and not name.startswith("msp+"):
        raise UsageError(f"the rule {name!r} reads no views; a combination does: msp+{name}")
