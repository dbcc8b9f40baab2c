"""The quality of a run's labels: labels chosen anew on samples of its images.

What is measured, and how, stands in :mod:`profiler.profile.quality`; here a sample of the probe
images is labelled just as the run labels all of them. Nothing is read again: a sample is a view of
the rows that the image pass brought home, and these may lie on disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.activations.top_lists import LayerTops, TopCollector
from profiler.core.arrays import FloatArray, IntArray, Rows, blocks
from profiler.errors import InputError
from profiler.profile.labels import DEFAULT_SIMILARITY, LayerLabels, label_layers
from profiler.profile.quality import LayerQuality, bootstrap, held_out
from profiler.profile.similarity.base import Similarity

HELD_OUT_SHARE = 0.5
"""Share of the images that labels are measured on, not chosen on."""
DRAWS = 20
"""Times the images are resampled."""
FEWEST_IMAGES = 6
"""So that three are held out: on fewer there is no correlation to speak of."""
ROW_BLOCK = 512
"""Rows read at a time; as many as a collector of top lists sorts at once."""


@dataclass(frozen=True)
class Sample:
    """Some rows of a matrix, read as a matrix of their own; the same row may stand there twice."""

    rows: Rows
    chosen: IntArray
    """(S,) indices into the rows, ascending."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, columns)."""
        return len(self.chosen), *self.rows.shape[1:]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Any) -> FloatArray:
        return self.rows[self.chosen[rows]]


@dataclass(frozen=True)
class SampleLabeller:
    """Labels the units of all layers on a sample of the images; a :data:`quality.Labeller`.

    Attributes:
        layers: names of the layers.
        matrices: for each layer (N, K) activations on all images.
        images: (N, e) unit rows.
        concepts: (M, e) unit rows.
        similarity: the formula.
        top: length of the top lists on all images; None where the formula uses none.
        seed: seeds what is random in the formula, as it did when all images were labelled.
        done: called after each labelling.
    """

    layers: Sequence[str]
    matrices: Sequence[Rows]
    images: Rows
    concepts: FloatArray
    similarity: Similarity = DEFAULT_SIMILARITY
    top: int | None = None
    seed: int = 0
    done: Callable[[int], None] = lambda _: None

    def __call__(self, sample: IntArray) -> list[IntArray]:
        """The best concept of each unit by layer; -1 where it does not vary in the sample."""
        matrices = [Sample(matrix, sample) for matrix in self.matrices]
        length = sample_top(self.similarity, self.top, len(sample), len(self.images))
        found = label_layers(
            [
                top_lists(layer, matrix, length or 1)
                for layer, matrix in zip(self.layers, matrices, strict=True)
            ],
            Sample(self.images, sample),
            self.concepts,
            similarity=self.similarity,
            top=length,
            matrices=matrices if self.similarity.needs_matrix else None,
            null_draws=0,
            seed=self.seed,
        )
        self.done(1)
        return [each.concept[:, 0] for each in found]


def sample_top(similarity: Similarity, top: int | None, images: int, whole: int) -> int | None:
    """The length of the top lists on a sample: as great a share of it as ``top`` of the whole.

    At least what the formula makes of a single image, which for some is more than one.

    >>> from profiler.profile.similarity.pmi import SoftWPMI
    >>> from profiler.profile.similarity.rank import RankReorder
    >>> sample_top(SoftWPMI(), 10, 500, 1000), sample_top(RankReorder(), 3, 500, 1000)
    (5, 2)
    """
    if top is None:
        return None
    return min(max(round(top * images / whole), similarity.top(1) or 1), images)


def top_lists(layer: str, matrix: Rows, length: int) -> LayerTops:
    """The top lists of a matrix that is read by blocks of rows."""
    collector = TopCollector(layer, length)
    for rows in blocks(len(matrix), ROW_BLOCK):
        collector.add(np.arange(rows.start, rows.stop), matrix[rows])
    return collector.result()


def evaluate(
    labels: Sequence[LayerLabels],
    matrices: Sequence[Rows],
    images: Rows,
    concepts: FloatArray,
    *,
    similarity: Similarity = DEFAULT_SIMILARITY,
    top: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[LayerQuality, ...]:
    """How well labels predict activations on other images, and whether they survive new draws.

    Args:
        labels: of the run, chosen on all images.
        matrices: for each layer (N, K) activations on all images.
        images: (N, e) unit rows.
        concepts: (M, e) unit rows.
        similarity: the formula of the run.
        top: the length of its top lists; None leaves it to the formula.
        draws: how often the images are resampled.
        seed: seeds the split, the draws and the formula.
        done: called with 1 after each labelling, ``draws`` + 1 times.
    """
    check_images(len(images))
    labeller = SampleLabeller(
        [layer.layer for layer in labels],
        matrices,
        images,
        concepts,
        similarity,
        top or similarity.top(len(images)),
        seed,
        done,
    )
    own = [layer.concept[:, 0] for layer in labels]
    parts = held_out(labeller, matrices, images, concepts, fraction=HELD_OUT_SHARE, seed=seed)
    stable = bootstrap(labeller, len(images), own, draws=draws, seed=seed)
    return tuple(
        LayerQuality(layer.layer, label, held, permuted, stability)
        for layer, label, (held, permuted), stability in zip(
            labels, own, parts, stable, strict=True
        )
    )


def other_labels(layer: LayerQuality, unit: int) -> list[tuple[int, int]]:
    """The labels a unit got in some draws in place of its own, with the draws, most often first.

    Those that are kept: rare ones may be missing.
    """
    stability = layer.stability
    return [
        (concept, draws)
        for concept, draws in zip(
            stability.concept[unit].tolist(), stability.count[unit].tolist(), strict=True
        )
        if concept not in (-1, layer.label[unit])
    ]


def check_images(images: int) -> None:
    """Refuse too few images to label on some and measure on others."""
    if images < FEWEST_IMAGES:
        raise InputError(
            f"an evaluation needs at least {FEWEST_IMAGES} readable images, to label on some and "
            f"measure on the others, not {images}"
        )
