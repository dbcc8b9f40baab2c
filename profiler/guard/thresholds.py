"""Thresholds of a score, set to guarantee a target.

A threshold τ flags x if score(x) > τ, and is set on labelled images that the score was not fitted
on. For n of them:

``share``
    At most this share of the inputs is flagged: the ⌈(n + 1)(1 − share)⌉-th lowest score. On
    exchangeable data the next input is flagged with at most this probability (split conformal:
    Vovk, Gammerman & Shafer, 2005).
``false-alarms``
    The same among correct predictions alone: at most this share of *them* is flagged.
``passed-errors``
    At most this share of all inputs is both misclassified and passed, in expectation (conformal
    risk control: Angelopoulos, Bates, Fisch, Lei & Schuster, ICLR 2024). The loss
    1[misclassified and passed] never falls as τ rises, so the threshold is the highest τ with
    (errors passed + 1)/(n + 1) ≤ risk.
``risk``
    At most this share of what *passes* is misclassified: accepted accuracy 1 − risk. This share is
    not monotone in τ, so risk control in expectation does not apply. The guarantee is one of
    Learn-then-Test (Angelopoulos, Bates, Candès, Jordan & Lei, 2021; for classifiers with a reject
    option Geifman & El-Yaniv, NeurIPS 2017): with the stated confidence over the draw of the n
    images, the true share is at most ``risk``. Among m passed images of true risk > r, at most k
    errors occur with probability ≤ P(Bin(m, r) ≤ k); this p-value is tested down fixed sequences
    of thresholds.

All guarantees hold for inputs that are exchangeable with those n; under attack or drift they are
not.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.stats import binom

from profiler.core.arrays import BoolArray, Float64, FloatArray
from profiler.errors import InputError, UnknownNameError, UsageError

Target = Literal["share", "false-alarms", "passed-errors", "risk"]
TARGETS: tuple[Target, ...] = get_args(Target)

CONFIDENCE = 0.95
"""Of the guarantee of ``risk``."""
STARTS = 4
"""Sequences of thresholds that are tested, each from another coverage on."""
STEPS = 100
"""Coverages at which ``risk`` is tried."""


@dataclass(frozen=True)
class AlarmThreshold:
    """A threshold with its target, and its effect on the images it was set on.

    Attributes:
        value: τ; minus infinity flags everything, infinity only what cannot be scored.
        target: one of :data:`TARGETS`.
        level: the share that is guaranteed.
        images: n.
        flagged: share of them with a score above τ.
        passed_risk: share of misclassified images among those that pass; None where none passes.
        confidence: of the guarantee; None where it holds in expectation.
    """

    value: float
    target: Target
    level: float
    images: int
    flagged: float
    passed_risk: float | None
    confidence: float | None = None

    @property
    def useless(self) -> bool:
        """Whether nothing passes."""
        return self.value == -math.inf

    @property
    def text(self) -> str:
        """The guarantee, in words.

        >>> AlarmThreshold(0.5, "share", 0.1, 100, 0.1, 0.02).text
        'at most 10 % of inputs are flagged'
        """
        level = f"{100 * self.level:g} %"
        sure = "" if self.confidence is None else f", with {100 * self.confidence:g} % confidence"
        return {
            "share": f"at most {level} of inputs are flagged",
            "false-alarms": f"at most {level} of correct predictions are flagged",
            "passed-errors": f"at most {level} of inputs are misclassified and pass",
            "risk": f"at most {level} of the predictions that pass are incorrect{sure}",
        }[self.target]


def images_needed(target: str, level: float, confidence: float = CONFIDENCE) -> int:
    """The number of images needed for a threshold that flags some images, and not all.

    For ``false-alarms`` it counts correct predictions, for ``risk`` images without any error.

    >>> images_needed("false-alarms", 0.05), images_needed("risk", 0.05)
    (19, 107)
    """
    if target == "risk":
        # No error among m that pass: (1 − r)^m must be small, and the last start passes a part.
        passing = math.log((1 - confidence) / STARTS) / math.log1p(-level)
        return math.ceil(passing * (STARTS + 1) / STARTS - 1e-9)
    return math.ceil(1 / level - 1 - 1e-9)


def remark(cut: AlarmThreshold, wrong: BoolArray) -> str:
    """A warning about a threshold that flags everything, or nothing; empty otherwise.

    Args:
        cut: the threshold.
        wrong: (n,) which of the images that it was set on are misclassified.
    """
    if math.isfinite(cut.value):
        return ""
    count = len(wrong) - int(wrong.sum()) if cut.target == "false-alarms" else len(wrong)
    needed = images_needed(cut.target, cut.level, cut.confidence or CONFIDENCE)
    kind = "correct predictions" if cut.target == "false-alarms" else "images"
    there = f"it was set on {count} {kind}"
    if cut.target == "passed-errors" and not cut.useless:
        return (
            f"nothing is flagged: {int(wrong.sum())} of {count} images are misclassified, so it "
            f"holds without a threshold that {cut.text}"
        )
    if cut.target == "risk":
        there += f", {int(wrong.sum())} of them misclassified"
    if count >= needed:
        way_out = "choose a weaker target"
    else:
        least = (
            "a weaker target" if cut.target == "risk" else f"a level of {_least(count):g} or more"
        )
        least_errors = " without any error" if cut.target == "risk" else ""
        way_out = f"{needed} {kind}{least_errors} are needed: choose {least}, or give more images"
    outcome = "everything is flagged" if cut.useless else "no image is flagged"
    kept = f"no threshold {'' if cut.useless else 'except infinity '}guarantees"
    return f"{outcome}: {kept} that {cut.text}; {there}; {way_out}"


def _least(count: int) -> float:
    """The least level, in whole hundredths, that so many images can guarantee."""
    return math.ceil(100 / (count + 1) - 1e-9) / 100


def threshold(
    target: str,
    level: float,
    scores: FloatArray,
    wrong: BoolArray,
    *,
    confidence: float = CONFIDENCE,
    candidates: FloatArray | None = None,
) -> AlarmThreshold:
    """Set τ on labelled images that were not used for the score.

    Args:
        target: one of :data:`TARGETS`.
        level: the share to guarantee, in (0, 1).
        scores: (n,).
        wrong: (n,) which are misclassified.
        confidence: of the guarantee of ``risk``.
        candidates: for ``risk``: scores of other images, whose quantiles are the thresholds tried.
            With scores of these images the guarantee would not hold.

    Raises:
        UnknownNameError: there is no such target.
        UsageError: a share or the candidates are missing or not valid.
        InputError: the scores are not valid.
    """
    if target not in TARGETS:
        raise UnknownNameError("target", target, TARGETS)
    if not 0 < level < 1:
        raise UsageError(f"the level of {target} must lie between 0 and 1, got {level}")
    if scores.shape != wrong.shape or scores.ndim != 1 or not len(scores):
        raise InputError(
            f"a threshold needs as many scores as outcomes, got {scores.shape} and {wrong.shape}"
        )
    if np.isnan(scores).any():
        raise InputError("the scores to set a threshold on hold NaN")
    cut = np.asarray(scores, dtype=np.float64)
    sure = None
    if target == "share":
        value = _quantile(cut, level)
    elif target == "false-alarms":
        value = _quantile(cut[~wrong], level)
    elif target == "passed-errors":
        value = _by_passed(cut, wrong, level)
    else:
        if not 0 < confidence < 1:
            raise UsageError(f"confidence must lie between 0 and 1, got {confidence}")
        if candidates is None or not len(candidates):
            raise UsageError("a threshold by risk needs the scores of other images as candidates")
        sure = confidence
        value = _by_risk(cut, wrong, level, 1 - confidence, np.asarray(candidates))
    passed = ~above(cut, value)
    share = float(np.mean(wrong[passed])) if passed.any() else None
    return AlarmThreshold(value, target, level, len(cut), float(np.mean(~passed)), share, sure)


def above(scores: FloatArray, value: float) -> BoolArray:
    """(n,) which scores are flagged: those above a threshold, and infinite ones in any case."""
    flagged: BoolArray = ~(scores <= value) | (scores == math.inf)
    return flagged


def _quantile(scores: Float64, share: float) -> float:
    """The ⌈(n + 1)(1 − share)⌉-th lowest score; infinite where there are too few."""
    rank = math.ceil((len(scores) + 1) * (1 - share) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def _by_passed(scores: Float64, wrong: BoolArray, risk: float) -> float:
    """The highest τ at which (errors passed + 1)/(n + 1) ≤ risk.

    τ lies just below the first error too many, so that correct predictions below it pass.
    """
    allowed = math.floor(risk * (len(scores) + 1) - 1 + 1e-9)
    errors = np.sort(scores[wrong])
    if allowed < 0:
        return -math.inf
    if allowed >= len(errors):
        return math.inf
    return float(np.nextafter(errors[allowed], -math.inf))


def _by_risk(
    scores: Float64, wrong: BoolArray, risk: float, miss: float, candidates: Float64
) -> float:
    """The highest τ reached by fixed-sequence tests, each from a start with an equal share of α."""
    grid = np.unique(np.quantile(candidates, np.linspace(0, 1, STEPS + 1), method="higher"))
    best = -math.inf
    for start in range(STARTS):
        # Strict thresholds pass too few images to be found good; others start where more pass.
        for value in grid[round(len(grid) * (start + 1) / (STARTS + 1)) :].tolist():
            passed = scores <= value
            errors = int(np.count_nonzero(wrong & passed))
            if binom.cdf(errors, int(passed.sum()), risk) > miss / STARTS:
                break
            best = max(best, value)
    return best
