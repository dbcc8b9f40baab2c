"""Unit labels, dead units, and the threshold above which a label is trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from profiler.activations import LayerTops
from profiler.errors import InputError
from profiler.ratings import RatingBasis
from profiler.similarity import (
    ConceptProbabilities,
    FloatArray,
    IntArray,
    Prior,
    SoftWPMI,
    evidence,
)

KEPT_LABELS = 5
"""The best label and the next four."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class LayerLabels:
    """The labels of one layer's K units, and the evidence they rest on.

    Attributes:
        layer: name of the layer in the network.
        concept: (K, R) indices into the concept set, best first; -1 throughout for a dead unit.
        score: (K, R) similarity of those concepts; NaN for a dead unit.
        p_value: (K,) share of the layer's null distribution that scores at least as high as the
            best concept; NaN for a dead unit.
        dead: (K,) units whose pooled activation is the same on every probe image.
        top_images: (K, G) probe images with the highest activation, highest first.
        top_activations: (K, G) the pooled activations on those images.
        null_scores: (D,) best scores of random image lists in this layer, ascending.
    """

    layer: str
    concept: IntArray
    score: FloatArray
    p_value: FloatArray
    dead: BoolArray
    top_images: IntArray
    top_activations: FloatArray
    null_scores: FloatArray

    @property
    def units(self) -> int:
        """Number of units K."""
        return len(self.dead)


def automatic_top(images: int) -> int:
    """Length of the top lists for a probe set of ``images`` images.

    The reference uses 100, meant for tens of thousands of images. Where a concept has only a
    few images to show it, a long list dilutes the unit with images it hardly responds to: one
    image in a hundred, at least ten, and never more than a fifth of the probe set.

    >>> [automatic_top(n) for n in (4, 30, 1000, 4000, 50_000)]
    [1, 6, 10, 40, 100]
    """
    return max(1, min(100, max(10, images // 100), images // 5))


def label_layers(
    layers: Sequence[LayerTops],
    images: FloatArray,
    concepts: FloatArray,
    *,
    top: int,
    settings: SoftWPMI | None = None,
    null_draws: int = 5000,
    seed: int = 0,
) -> list[LayerLabels]:
    """Label every unit of every layer by soft-WPMI, and draw each layer's null distribution.

    The prior D runs over the living units of a whole layer: a dead unit has no top list, hence
    no evidence. The null distribution gives ``null_draws`` random image lists the place of a
    unit's top list; a unit's p-value is the share of them that reach its score.

    Args:
        layers: top lists, one entry a layer, each at least ``top`` long.
        images: (N, e) unit rows, by probe-image index.
        concepts: (M, e) unit rows.
        top: how many images of each list are used.
        settings: constants of soft-WPMI.
        null_draws: size of the null distribution; 0 for none (p-values are then NaN).
        seed: seeds the random lists.
    """
    settings = settings or SoftWPMI()
    if not len(concepts):
        raise InputError("there is no concept to label with")
    if any(layer.images.shape[1] < top for layer in layers):
        raise InputError(f"top lists are shorter than top={top}")
    null_lists = random_lists(len(images), top, null_draws, seed)

    # Only images of some list need a row of Q; lists are rewritten to index those rows.
    lists = [null_lists, *(layer.images[~layer.dead, :top] for layer in layers)]
    used = np.unique(np.concatenate([array.ravel() for array in lists]))
    null_rows, *layer_rows = (np.searchsorted(used, array) for array in lists)

    best = [_Best.empty(len(rows)) for rows in layer_rows]
    null_best = np.full((len(layers), null_draws), -np.inf, dtype=np.float32)
    for lo, q in ConceptProbabilities(images[used], concepts, settings.temperature).blocks():
        null_evidence = evidence(q, null_rows, settings)
        for index, rows in enumerate(layer_rows):
            if not len(rows):
                continue
            layer_evidence = evidence(q, rows, settings)
            prior = Prior.of(layer_evidence)
            best[index].merge(lo, prior.score(layer_evidence, settings))
            if null_draws:
                prior.raise_to_guests(null_evidence, settings, null_best[index])
    return [
        _assemble(layer, best[index], np.sort(null_best[index]))
        for index, layer in enumerate(layers)
    ]


def random_lists(images: int, length: int, draws: int, seed: int) -> IntArray:
    """(draws, length) lists of distinct image indices, uniformly at random."""
    rng = np.random.default_rng(seed)
    lists = np.empty((draws, length), dtype=np.int64)
    for row in lists:
        row[:] = rng.choice(images, size=length, replace=False, shuffle=True)
    return lists


@dataclass(frozen=True)
class _Best:
    """The best concepts of K units so far, best first; ties go to the lower concept index."""

    score: NDArray[np.float32]
    concept: NDArray[np.int64]

    @classmethod
    def empty(cls, units: int) -> "_Best":
        return cls(
            np.full((units, KEPT_LABELS), -np.inf, dtype=np.float32),
            np.full((units, KEPT_LABELS), -1, dtype=np.int64),
        )

    def merge(self, lo: int, scores: FloatArray) -> None:
        """Take in the scores (K, B) of concepts lo … lo+B−1; blocks come in ascending order."""
        _insert(lo, scores, self.score, self.concept)


@numba.njit(cache=True)
def _insert(
    lo: int,
    scores: NDArray[np.float32],
    best: NDArray[np.float32],
    concept: NDArray[np.int64],
) -> None:  # pragma: no cover - compiled
    kept = best.shape[1]
    for k in range(scores.shape[0]):
        for m in range(scores.shape[1]):
            value = scores[k, m]
            if value > best[k, kept - 1]:
                place = kept - 1
                while place > 0 and value > best[k, place - 1]:
                    best[k, place] = best[k, place - 1]
                    concept[k, place] = concept[k, place - 1]
                    place -= 1
                best[k, place] = value
                concept[k, place] = lo + m


def _assemble(tops: LayerTops, best: _Best, null_scores: FloatArray) -> LayerLabels:
    alive = ~tops.dead
    score = np.full((tops.units, KEPT_LABELS), np.nan, dtype=np.float32)
    concept = np.full((tops.units, KEPT_LABELS), -1, dtype=np.int64)
    p_value = np.full(tops.units, np.nan)
    # With fewer than five concepts in all, the places left over hold no concept.
    score[alive] = np.where(best.concept >= 0, best.score, np.nan)
    concept[alive] = best.concept
    if len(null_scores):
        at_least = len(null_scores) - np.searchsorted(null_scores, score[alive, 0], side="left")
        p_value[alive] = (1 + at_least) / (1 + len(null_scores))
    return LayerLabels(
        tops.layer,
        concept,
        score,
        p_value,
        tops.dead,
        tops.images,
        tops.activations,
        null_scores if alive.any() else null_scores[:0],
    )


@dataclass(frozen=True)
class Threshold:
    """The cut τ: a unit's label is trusted if its score is greater than ``value``.

    Scores mean something only among units scored with the same concepts, VLM and similarity
    settings, so a threshold carries that context.
    """

    value: float
    source: Literal["given", "null", "ratings"]
    context: Mapping[str, str] = field(default_factory=dict)
    fdr: float | None = None
    """Estimated share of false labels among those trusted; only for ``source="null"``."""
    ratings: RatingBasis | None = None
    """What it rests on; only for ``source="ratings"``."""

    def trusts(self, labels: LayerLabels) -> BoolArray:
        """(K,) whether each unit is interpretable; a dead unit never is."""
        # In float64, or NumPy would round the cut to float32 and with it move scores across. A
        # NaN score compares as false, without a warning.
        result: BoolArray = labels.score[:, 0].astype(np.float64) > self.value
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
    if not 0 < fdr < 1:
        raise InputError(f"the false-discovery rate must lie between 0 and 1, got {fdr}")
    living = [layer for layer in layers if not layer.dead.all()]
    if any(not len(layer.null_scores) for layer in living):
        raise InputError("a threshold from the null distribution needs null draws")
    scores = [layer.score[~layer.dead, 0].astype(np.float64) for layer in living]
    if not scores:
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


def null_tail(null_scores: FloatArray, cuts: FloatArray) -> FloatArray:
    """(1 + number of null scores > cut) / (1 + number of null scores), for each cut."""
    above = len(null_scores) - np.searchsorted(null_scores, cuts, side="right")
    result: FloatArray = (1 + above) / (1 + len(null_scores))
    return result
