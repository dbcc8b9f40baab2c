"""The same runs on other probe images: bootstrap draws, labelled as the comparison labels them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from profiler.compare.result import LayerDraws
from profiler.compare.scoring import label_together
from profiler.core.arrays import BoolArray, FloatArray, IntArray, Rows
from profiler.errors import InputError
from profiler.profile.confirm import held
from profiler.profile.evaluation import DRAWS, Sample, sample_top, top_lists
from profiler.profile.labels import DEFAULT_SIMILARITY, LayerLabels
from profiler.profile.result import SHOWN_IMAGES
from profiler.profile.similarity.base import Similarity
from profiler.profile.threshold import Threshold


def label_draws(
    layers: Sequence[Sequence[str]],
    matrices: Sequence[Sequence[Rows]],
    images: Rows,
    concepts: FloatArray,
    thresholds: Sequence[Threshold],
    *,
    similarity: Similarity = DEFAULT_SIMILARITY,
    top: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    done: Callable[[int], None] = lambda _: None,
) -> list[tuple[LayerDraws, ...]]:
    """Label all runs together on images resampled with replacement; thresholds stay.

    A draw with replacement holds some images twice and concentrates the top lists: scores rise, and
    more labels pass a fixed threshold than on the full set, in every draw alike. Where labels are
    to be confirmed, a draw's labels are tested on the images that it left out (37 % of them). So
    draws are to be compared with draws, never with the full set.

    Args:
        layers: for each run the names of its layers.
        matrices: for each run and layer (N, K) activations on all images.
        images: (N, e) unit rows.
        concepts: (M, e) unit rows.
        thresholds: for each run, as in the comparison.
        similarity: the formula.
        top: the length of the top lists on all images; None leaves it to the formula.
        draws: how often the images are drawn, at least twice; the first draws are the same
            whatever their number.
        seed: seeds the draws and what is random in the formula.
        done: called with 1 after each draw.

    Returns:
        For each run its layers in order.
    """
    if draws < 2:
        raise InputError(f"a noise floor needs at least two draws, got {draws}")
    total = len(images)
    length = sample_top(similarity, top or similarity.top(total), total, total)
    drawn: list[list[list[tuple[IntArray, BoolArray]]]] = [[[] for _ in own] for own in layers]
    for draw in range(draws):
        chosen = np.sort(np.random.default_rng([seed, draw]).integers(total, size=total))
        samples = [[Sample(matrix, chosen) for matrix in own] for own in matrices]
        found = label_together(
            [
                [top_lists(name, rows, length or 1) for name, rows in zip(names, own, strict=True)]
                for names, own in zip(layers, samples, strict=True)
            ],
            Sample(images, chosen),
            concepts,
            similarity=similarity,
            top=length,
            matrices=samples,
            null_draws=0,
            seed=seed,
        )
        if any(threshold.confirms for threshold in thresholds):
            left_out = np.setdiff1d(np.arange(total), chosen)
            found = [
                _tested(run, own, left_out, images, concepts, length or SHOWN_IMAGES)
                for run, own in zip(found, matrices, strict=True)
            ]
        for run, threshold, into in zip(found, thresholds, drawn, strict=True):
            for labels, rows in zip(run, into, strict=True):
                rows.append((labels.concept[:, 0], threshold.trusts(labels)))
        done(1)
    return [tuple(_stack(rows) for rows in run) for run in drawn]


def _tested(
    labels: Sequence[LayerLabels],
    matrices: Sequence[Rows],
    left_out: IntArray,
    images: Rows,
    concepts: FloatArray,
    length: int,
) -> list[LayerLabels]:
    """The labels of a draw with their z on the images that it left out."""
    if not len(left_out):
        return [replace(layer, confirmed_z=np.zeros(layer.units)) for layer in labels]
    length = max(1, min(length, len(left_out) // 5))
    tops = [
        top_lists(layer.layer, Sample(matrix, left_out), length)
        for layer, matrix in zip(labels, matrices, strict=True)
    ]
    z = held(tops, [layer.concept[:, 0] for layer in labels], Sample(images, left_out), concepts)
    return [replace(layer, confirmed_z=own) for layer, own in zip(labels, z, strict=True)]


def _stack(rows: Sequence[tuple[IntArray, BoolArray]]) -> LayerDraws:
    concept, trusted = zip(*rows, strict=True)
    return LayerDraws(np.stack(concept), np.stack(trusted))
