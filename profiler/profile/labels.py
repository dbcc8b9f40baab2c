"""Unit labels, dead units, and the threshold above which a label is trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numba
import numpy as np
from numpy.typing import NDArray

from profiler.activations.top_lists import LayerTops
from profiler.core.arrays import BoolArray, FloatArray, IntArray, Rows
from profiler.errors import InputError
from profiler.profile.similarity.base import Null, Similarity, Units
from profiler.profile.similarity.pmi import SoftWPMI

KEPT_LABELS = 5
"""The best label and the next four."""

DEFAULT_SIMILARITY = SoftWPMI()


@dataclass(frozen=True)
class LayerLabels:
    """The labels of one layer's K units, and the evidence they rest on.

    Attributes:
        layer: name of the layer in the network.
        concept: (K, R) indices into the concept set, best first; -1 throughout for a dead unit.
        score: (K, R) similarity of those concepts; NaN for a dead unit.
        p_value: (K,) share of the layer's null distribution that scores at least as high as the
            best concept; NaN for a dead unit.
        dead: (K,) units whose pooled activation is the same on every probe image, or on all but
            one or two.
        top_images: (K, G) probe images with the highest activation, highest first; -1 in place
            of those that share the unit's lowest activation.
        top_activations: (K, G) the pooled activations on those images.
        null_scores: (D,) best scores of random image lists in this layer, ascending.
        confirmed_z: (K,) how well labels chosen on one half of the images hold on the other
            (:mod:`profiler.profile.confirm`); NaN for a dead unit. Empty where that is not known.
    """

    layer: str
    concept: IntArray
    score: FloatArray
    p_value: FloatArray
    dead: BoolArray
    top_images: IntArray
    top_activations: FloatArray
    null_scores: FloatArray
    confirmed_z: FloatArray = field(default_factory=lambda: np.zeros(0))

    @property
    def units(self) -> int:
        """Number of units K."""
        return len(self.dead)


PER_UNIT = tuple(
    each.name for each in fields(LayerLabels) if each.name not in ("layer", "null_scores")
)
"""The arrays of :class:`LayerLabels` that have a row a unit."""


def label_layers(
    layers: Sequence[LayerTops],
    images: Rows,
    concepts: FloatArray,
    *,
    similarity: Similarity = DEFAULT_SIMILARITY,
    top: int | None = None,
    matrices: Sequence[Rows] | None = None,
    null_draws: int | None = None,
    seed: int = 0,
) -> list[LayerLabels]:
    """Label every unit of every layer, and draw each layer's null distribution.

    Dead units take no part: not in the prior that soft-WPMI sums over the whole layer, and not in
    the null distribution. That gives ``null_draws`` units whose activations are permuted over the
    images; a unit's p-value is the share of them that reach its score.

    Args:
        layers: top lists, one entry a layer, each at least ``top`` long.
        images: (N, e) unit rows, by probe-image index.
        concepts: (M, e) unit rows.
        similarity: the formula.
        top: how many images of each list are used; None leaves it to the similarity.
        matrices: for each layer (N, K) activations on all images, where the similarity needs
            them.
        null_draws: size of the null distribution; 0 for none (p-values are then NaN); None
            leaves it to the similarity.
        seed: seeds what is random.
    """
    if not len(concepts):
        raise InputError("there is no concept to label with")
    length = top or similarity.top(len(images)) or 1
    if any(layer.images.shape[1] < length for layer in layers):
        raise InputError(f"top lists are shorter than top={length}")
    if similarity.needs_matrix and matrices is None:
        raise InputError(f"{similarity.name} needs the activations on every image")
    draws = similarity.null_draws if null_draws is None else null_draws
    units = [
        Units(
            layer.images[~layer.dead, :length],
            layer.activations[~layer.dead, :length],
            None if matrices is None else matrices[index],
            np.flatnonzero(~layer.dead),
            layer.listed(length, len(images))[~layer.dead].astype(np.int64),
        )
        for index, layer in enumerate(layers)
    ]
    # Best first; ties go to the lower concept index.
    scores = [np.full((len(each), KEPT_LABELS), -np.inf, dtype=np.float32) for each in units]
    chosen = [np.full((len(each), KEPT_LABELS), -1, dtype=np.int64) for each in units]
    null = Null(draws, seed, [np.full(draws, -np.inf, dtype=np.float32) for _ in layers])
    for tile in similarity.score(units, images, concepts, null):
        rows = slice(tile.unit, tile.unit + len(tile.scores))
        _insert(tile.concept, tile.scores, scores[tile.layer][rows], chosen[tile.layer][rows])
    return [
        _assemble(*found, images=len(images))
        for found in zip(layers, scores, chosen, map(np.sort, null.best), strict=True)
    ]


def list_warnings(layers: Sequence[LayerTops], top: int, images: int) -> list[str]:
    """What has to be said of top lists that activations alone do not decide, a sentence each.

    Args:
        layers: with their top lists.
        top: how many images of each list are used.
        images: of the probe set.
    """
    silent = [~layer.dead & (layer.listed(top, images) < top) for layer in layers]
    saturated = [layer.saturated(top) for layer in layers]
    said = []
    for concerned, what in (
        (
            silent,
            f"are silent, at their lowest activation, on all but fewer than {top} images; "
            "their top lists hold only the others",
        ),
        (
            saturated,
            f"are at their highest activation on more than {top} images; their top lists hold "
            "those that come first in the folder, so their labels depend on the order of the files",
        ),
    ):
        where = [
            f"{layer.layer} ({np.count_nonzero(units):,})"
            for layer, units in zip(layers, concerned, strict=True)
            if units.any()
        ]
        if where:
            said.append(f"some units {what}: {', '.join(where)}")
    return said


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


def _assemble(
    tops: LayerTops, scores: FloatArray, chosen: IntArray, null_scores: FloatArray, images: int
) -> LayerLabels:
    """The labels of a layer, given the best concepts of its living units."""
    alive = ~tops.dead
    score = np.full((tops.units, KEPT_LABELS), np.nan, dtype=np.float32)
    concept = np.full((tops.units, KEPT_LABELS), -1, dtype=np.int64)
    p_value = np.full(tops.units, np.nan)
    # With fewer than five concepts in all, the places left over hold no concept.
    score[alive] = np.where(chosen >= 0, scores, np.nan)
    concept[alive] = chosen
    kept = tops.images.shape[1]
    if len(null_scores):
        at_least = len(null_scores) - np.searchsorted(null_scores, score[alive, 0], side="left")
        # Without a concept, where the similarity has no score for any, there is none either.
        p_value[alive] = np.where(
            chosen[:, 0] >= 0, (1 + at_least) / (1 + len(null_scores)), np.nan
        )
    return LayerLabels(
        tops.layer,
        concept,
        score,
        p_value,
        tops.dead,
        np.where(np.arange(kept) < tops.listed(kept, images)[:, None], tops.images, -1),
        tops.activations,
        null_scores if alive.any() else null_scores[:0],
    )
