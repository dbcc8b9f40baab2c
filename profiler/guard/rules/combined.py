"""Two detectors combined: a prediction is anomalous if either score is.

Each score is converted to its rarity among correct predictions, −log p(x), p(x) being the share of
correct predictions that are at least as anomalous as x. The rarities are added, as in Fisher's
method of combining tests:

    score(x) = rarity(softmax) + weight · rarity(concepts).

For the softmax both tails count. An attack makes a classifier *more confident* than it is in its
correct predictions, which is as informative as doubt. But ordinary errors are rarely confident, so
for detecting those the confident tail only does harm. It counts as far as its rarity exceeds an
*allowance*.

By default the softmax is that of the classifier's head, and weight and allowance are 1 and log 5.
Images that neither score was fitted on may select another of a few settings: the one that separates
incorrect predictions from correct ones best, if its lead over the default is significant
(:data:`DRAWS` bootstrap draws of the images, 95 %). A setting may also use the softmax of the
corrected head (:mod:`profiler.guard.rules.corrected`).

A guard may use *augmented views* of each image as well. Then the softmax score is the mean over
image and views of the log-odds against the class predicted for the image. The change of the
log-odds under the views is a third score, which counts as far as its rarity exceeds log 5:

    score(x) = rarity(mean softmax) + weight · rarity(concepts)
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
"""Of the concepts' rarity, beside the softmax."""
ALLOWANCES = tuple(float(np.log(rare)) for rare in (5, 20, 100))
"""Confident predictions are anomalous if less than 1 in 5, 20, 100 correct ones is as confident."""
USUAL = (False, 1.0, ALLOWANCES[0])
"""The default: whether the head is corrected, weight and allowance."""
CHANGE_ALLOWANCE = ALLOWANCES[0]
"""Subtracted from the rarity of the change under augmented views."""
DRAWS = 200
"""Of the bootstrap that tests the lead of a setting."""

TAIL = 0.1
"""Share of the correct predictions from which each tail is extrapolated."""
FEWEST = 5
"""… but at least so many, and at most half of them."""

_ROUNDING = 1e-5


@dataclass(frozen=True)
class Rarity:
    """How rare a score is among others: −log p, as a table between two tails.

    With r known scores, k of them below s, p = (1 + r − k)/(1 + r) at the upper end and
    (1 + k)/(1 + r) at the lower; the smaller one counts. In the most extreme tenth a table is too
    coarse, so the tail is extrapolated exponentially, with the mean excess of that tenth (peaks
    over a threshold; Pickands, 1975, with shape 0): rarity grows linearly. Rarity at the lower end
    is reduced by an allowance, and never negative.

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
            allowance: subtracted from the rarity of low scores; None: low scores are never rare.
        """
        known = np.sort(np.asarray(scores, dtype=np.float64))
        count = len(known)
        if not count or not np.isfinite(known).all():
            raise InputError("rarity needs at least one score, all of them finite")
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
    """A method with concepts, combined with the largest softmax probability.

    Args:
        rule: the method with concepts.
        views: names of the L augmented views of each image.

    Attributes:
        softmax_: whose score counts: that of the classifier's head, or of the corrected head.
        weight_: of the rarity of ``rule``.
        allowance_: of the confident tail of the softmax.
        doubts_: (r, 1 + L) log-odds of correct predictions by ``softmax_``, see :meth:`doubts`.
        softmax_rarity_: of their means over image and views, at both ends.
        rule_rarity_: of the scores of ``rule``.
        steadiness_: the expected change under augmented views; None without any.
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
        """Its name in options and results."""
        return f"msp+{self.rule.name}"

    @property
    def plain(self) -> ConceptRule:
        """The method without the softmax."""
        return self.rule

    @property
    def corrected(self) -> bool:
        """Whether the softmax is that of the corrected head."""
        return isinstance(self.softmax_, CorrectedSoftmax)

    def fit(self, features: FloatArray, logits: FloatArray, truth: IntArray) -> Self:
        """Fit the method and the correction; call :meth:`weigh`, on other images, afterwards."""
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
        """Learn the rarity of scores, and the weight, on images that were not used in :meth:`fit`.

        Args:
            features: (n, f).
            logits: (n, C).
            truth: (n,) true classes.
            groups: (n,) number of the picture that a row shows; None: every row shows another one.
            views: augmented views of the same images.

        Raises:
            InputError: no prediction is correct.
        """
        z, y, truth, predicted = checked(features, logits, truth)
        right = predicted == truth
        if not right.any():
            raise InputError(
                "none of the images to choose the method on is classified correctly; the rarity of "
                "a score needs correct predictions"
            )
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
        """Set what :meth:`weigh` learns: :meth:`doubts` and scores of correct predictions.

        Without augmented views the doubts may be a row.
        """
        self.weight_, self.allowance_ = weight, allowance
        self.doubts_ = np.asarray(doubts, dtype=np.float64).reshape(len(doubts), -1)
        if self.doubts_.shape[1] != 1 + len(self.views):
            raise InputError(
                f"there must be {1 + len(self.views)} log-odds per image, of the image and its "
                f"augmented views, but there are {self.doubts_.shape[1]}"
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
        """(n, 1 + L) log-odds against the class predicted for the image, of image and views."""
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
        """What was learned, as arrays for a file."""
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
        """The combination that gave these arrays, around its method with concepts."""
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
    """The setting of highest AUROC among those significantly better than the default."""
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
"""Every detection method, by name."""
DEFAULT = f"msp+{TypicalityRule.name}"
"""The method that finds most kinds of defects (``benchmarks/guard.py``)."""


def make_rule(
    name: str, concepts: ConceptSpace, views: tuple[str, ...] = ()
) -> ConceptRule | WithSoftmax:
    """A method by its name, not fitted; ``views``: augmented views that a combination uses."""
    plain = _kind(name, views)(concepts)
    return WithSoftmax(plain, views) if name.startswith("msp+") else plain


def load_rule(
    name: str,
    concepts: ConceptSpace,
    views: tuple[str, ...],
    arrays: Mapping[str, NDArray[Any]],
) -> ConceptRule | WithSoftmax:
    """The method of that name that gave these arrays, among others."""
    plain = _kind(name, views).from_arrays(arrays, concepts)
    return WithSoftmax.from_arrays(arrays, plain, views) if name.startswith("msp+") else plain


def _kind(name: str, views: Sequence[str]) -> type[ConceptRule]:
    if name not in CHOICES:
        raise UnknownNameError("detection method", name, CHOICES)
    check_reads(name, views)
    return RULES[name.removeprefix("msp+")]


def check_reads(name: str, views: Sequence[str]) -> None:
    """Raise :class:`UsageError` if there are views and the method of that name uses none."""
    if views and not name.startswith("msp+"):
        raise UsageError(
            f"the detection method {name!r} uses no augmented views; a combination does: msp+{name}"
        )
