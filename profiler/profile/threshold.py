"""The cut τ: which labels are trusted, and the file that carries it to other runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import norm

from profiler.core.arrays import BoolArray, Float64, FloatArray
from profiler.core.json_text import from_plain, json_text, read_json
from profiler.core.text import number
from profiler.errors import ContextError, InputError
from profiler.profile.labels import LayerLabels

FORMAT = 1
"""Version of ``threshold.json``."""


@dataclass(frozen=True)
class RatingBasis:
    """What a threshold from ratings rests on; kept with the threshold.

    Attributes:
        target: mean rating that the units above τ reach.
        mean_above: mean rating above τ.
        low, high: ends of the interval of τ; None where the ratings leave that end open.
        confidence: of the interval.
        units: how many different units were rated.
        ratings: how many ratings they got in all, skipped ones not counted.
        raters: how many people.
        alpha: Krippendorff's α (interval metric); None where no unit has two ratings, or all
            ratings are the same.
        shared: units with two ratings or more, on which α rests.
        command: that calibrated.
        date: of the calibration.
    """

    target: float
    mean_above: float
    low: float | None
    high: float | None
    confidence: float
    units: int
    ratings: int
    raters: int
    alpha: float | None
    shared: int
    command: str = ""
    date: str = ""


@dataclass(frozen=True)
class Threshold:
    """The cut: a unit's label is trusted if its evidence is greater than ``value``.

    The evidence is the label's score (the cut is then called τ) or, where ``source`` is
    ``confirmed``, its z on images that it was not chosen on; of range explanations it is r. Scores
    mean something only among units scored with the same concepts, VLM and similarity settings, so a
    threshold carries that context.
    """

    value: float
    source: Literal["confirmed", "given", "null", "ratings"]
    context: Mapping[str, str] = field(default_factory=dict)
    fdr: float | None = None
    """Estimated share of false labels among those trusted; only for ``source="null"`` and
    ``"confirmed"``, and None where no cut keeps it low enough."""
    ratings: RatingBasis | None = None
    """What it rests on; only for ``source="ratings"``."""

    @property
    def confirms(self) -> bool:
        """Whether it cuts the evidence of other images, not the score."""
        return self.source == "confirmed"

    @property
    def letter(self) -> str:
        """What the evidence at the cut is called."""
        return "z" if self.confirms else "τ"

    def text(self, digits: int | None = None) -> str:
        """The cut with its letter: ``τ = 0.123``, ``z = 2.08``."""
        if digits is None:
            digits = 2 if self.confirms else 3
        return f"{self.letter} = {self.value:.{digits}f}"

    @property
    def meaning(self) -> str:
        """What a trusted label does, to go on after "if": ``its label scores above τ = 0.123``."""
        if self.confirms:
            return f"its label holds on images that it was not chosen on ({self.text()} or more)"
        return f"its label scores above {self.text()}"

    def evidence(self, labels: LayerLabels) -> Float64:
        """(K,) what it cuts; NaN for a dead unit."""
        # In float64, or NumPy would round the cut to float32 and with it move scores across.
        if not self.confirms:
            return labels.score[:, 0].astype(np.float64)
        if len(labels.confirmed_z) != labels.units:
            raise InputError(f"no label of layer {labels.layer!r} was tested on other images")
        return labels.confirmed_z.astype(np.float64)

    def trusts(self, labels: LayerLabels) -> BoolArray:
        """(K,) whether each unit is interpretable; a dead unit never is."""
        # NaN compares as false, without a warning.
        result: BoolArray = self.evidence(labels) > self.value
        return result

    def to_json(self) -> dict[str, Any]:
        """The content of ``threshold.json``."""
        return {
            "value": self.value,
            "source": self.source,
            "fdr": self.fdr,
            "ratings": None if self.ratings is None else asdict(self.ratings),
            "context": dict(self.context),
        }


def null_threshold(
    layers: Sequence[LayerLabels], *, fdr: float = 0.05, context: Mapping[str, str] | None = None
) -> Threshold:
    """The lowest cut at which at most a share ``fdr`` of the trusted labels is expected false.

    At a cut τ, layer l would pass about K_l · P_l(null score > τ) of its living units by chance
    alone; their sum over the layers, divided by the number of units that do pass, estimates the
    false-discovery rate. It takes every unit for a possible null and counts one more exceedance
    than was drawn, so it errs on the safe side. Where no cut meets the rate, the highest score
    is the cut: nothing passes, and ``fdr`` is None (so too where every unit is dead).

    Args:
        layers: labelled layers; those with no null distribution are an error.
        fdr: the rate allowed, in (0, 1).
        context: what the threshold belongs to.
    """
    living = [layer for layer in layers if not layer.dead.all()]
    if any(not len(layer.null_scores) for layer in living):
        raise InputError("a threshold from the null distribution needs null draws")
    # A unit that the similarity has no score for has no label that could be trusted.
    scores = [
        layer.score[~(layer.dead | np.isnan(layer.score[:, 0])), 0].astype(np.float64)
        for layer in living
    ]
    if not sum(map(len, scores)):
        return Threshold(0.0, "null", dict(context or {}), None)
    pooled = np.sort(np.concatenate(scores))
    # Candidate cuts: just below the lowest score (everything passes), then each score.
    cuts = np.concatenate([[np.nextafter(pooled[0], -np.inf)], np.unique(pooled)])
    passing = len(pooled) - np.searchsorted(pooled, cuts, side="right")
    expected = np.zeros(len(cuts))
    for layer, own in zip(living, scores, strict=True):
        expected += len(own) * null_tail(layer.null_scores, cuts)
    with np.errstate(divide="ignore"):
        rate = expected / passing
    meets = np.flatnonzero(rate <= fdr)
    if not len(meets):
        return Threshold(float(pooled[-1]), "null", dict(context or {}), None)
    first = meets[0]
    return Threshold(float(cuts[first]), "null", dict(context or {}), float(rate[first]))


def are_tested(layers: Sequence[LayerLabels]) -> bool:
    """Whether it is known of all layers which labels are confirmed."""
    return bool(layers) and all(len(layer.confirmed_z) == layer.units for layer in layers)


def confirmed_threshold(
    layers: Sequence[LayerLabels], *, fdr: float = 0.05, context: Mapping[str, str] | None = None
) -> Threshold:
    """The lowest z at which at most a share ``fdr`` of the confirmed labels is expected false.

    The largest k such that the k-th highest z of m has a p-value of at most k/m · fdr (Benjamini &
    Hochberg 1995), m being the units that are labelled. Where there is none, the highest z is the
    cut: nothing passes, and ``fdr`` is None.

    Args:
        layers: labelled layers with their z.
        fdr: the rate allowed, in (0, 1).
        context: what the threshold belongs to.
    """
    z = np.concatenate([layer.confirmed_z for layer in layers]) if layers else np.zeros(0)
    z = np.sort(z[np.isfinite(z)])[::-1]
    if not len(z):
        return Threshold(0.0, "confirmed", dict(context or {}), None)
    places = np.arange(1, len(z) + 1)
    rate = norm.sf(z) * len(z) / places
    passing = np.flatnonzero(rate <= fdr)
    if not len(passing):
        return Threshold(float(z[0]), "confirmed", dict(context or {}), None)
    last = passing[-1]
    cut = float(np.nextafter(z[last], -np.inf))
    return Threshold(cut, "confirmed", dict(context or {}), float(rate[last]))


def null_tail(null_scores: FloatArray, cuts: FloatArray) -> FloatArray:
    """(1 + number of null scores > cut) / (1 + number of null scores), for each cut."""
    above = len(null_scores) - np.searchsorted(null_scores, cuts, side="right")
    result: FloatArray = (1 + above) / (1 + len(null_scores))
    return result


def in_context(threshold: Threshold, context: dict[str, str], source: str) -> Threshold:
    """The threshold, if it belongs to these scores; raises :class:`ContextError` otherwise.

    Scores move with the concepts, the VLM, the similarity and the probe images, so all of them
    must be the same.
    """
    own = dict(threshold.context)
    if not own:
        raise ContextError(f"{source} does not say which context its threshold belongs to")
    differing = [
        f"{name}: {own.get(name, 'not given')} there, {context.get(name, 'not given')} here"
        for name in dict.fromkeys((*own, *context))
        if own.get(name) != context.get(name)
    ]
    if differing:
        raise ContextError(
            f"the threshold in {source} belongs to other scores and means nothing for these; "
            + "; ".join(differing)
        )
    return threshold


@dataclass(frozen=True)
class ExpectedRating:
    """Score → expected rating: a rising step function, read between its steps by straight lines.

    Attributes:
        score, rating: (S,) the corners, both ascending.
        error: mean squared error on units left out, in ten folds.
        error_constant: the same when every unit is given the mean rating instead.
    """

    score: FloatArray
    rating: FloatArray
    error: float
    error_constant: float

    def __call__(self, score: FloatArray) -> FloatArray:
        """Expected rating at these scores; beyond the rated ones that of the nearest."""
        result: FloatArray = np.interp(score, self.score, self.rating)
        return np.where(np.isnan(score), np.nan, result)


def threshold_json(threshold: Threshold, expected: ExpectedRating | None = None) -> str:
    """The content of ``threshold.json``."""
    content: dict[str, Any] = {"format": FORMAT, **threshold.to_json()}
    if expected is not None:
        content["expected_rating"] = {
            "score": expected.score.tolist(),
            "rating": expected.rating.tolist(),
        }
    return json_text(content)


def read_threshold(text: str) -> float | Threshold | Literal["null"]:
    """``--threshold``: a number, ``null``, or the path of a ``threshold.json``.

    A threshold from a file still has to fit: see :func:`profiler.profile.threshold.in_context`.
    """
    return "null" if text == "null" else read_cut(text, "--threshold", "finite number and not null")


def read_cut(text: str, option: str, wanted: str = "finite number") -> float | Threshold:
    """A number, or the threshold in the file of that name, for an option."""
    if (value := number(text)) is not None:
        return value
    path = Path(text)
    if not path.exists():
        raise InputError(f"{option} {text!r} is no {wanted}, and there is no such file")
    content = read_json(path, "threshold file", (FORMAT,))
    try:
        threshold = from_plain(Threshold, content)
    except ValueError as error:
        raise InputError(f"threshold file {text!r} is damaged: {error}") from error
    if not math.isfinite(threshold.value):
        raise InputError(f"threshold file {text!r} is damaged: its value is {threshold.value}")
    return threshold
