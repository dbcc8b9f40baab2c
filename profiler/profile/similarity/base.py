"""What all similarities share: their one signature, and how shards of a layer agree."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import BoolArray, FloatArray, IntArray, Rows
from profiler.errors import InputError

CONCEPT_BLOCK = 512
"""Concepts scored at a time: a block's row of Q (2 KiB) stays in the first-level cache."""
ROW_CHUNK = 32_768
"""Images looked at at a time, so that memory does not grow with the probe set."""
NULL_POOL = 50_000
"""Images from which the random lists of a null distribution are drawn, at most: a random half of
a hundred thousand images makes lists as random as all of them, and not each image is needed."""


@dataclass(frozen=True)
class Units:
    """The units of one layer that can be scored: those that are not dead.

    Attributes:
        top: (K, T) image indices, highest activation first.
        activations: (K, T) on those images.
        matrix: (N, all units) the activations on every image, where a similarity needs them.
        columns: (K,) the units' columns in ``matrix``.
        lengths: (K,) how many images of each top list are evidence; the others, at the list's end,
            share the unit's lowest activation.
    """

    top: IntArray
    activations: FloatArray
    matrix: Rows | None
    columns: IntArray
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.top)

    @property
    def short(self) -> BoolArray:
        """(K,) whether the list has images that are none."""
        short: BoolArray = self.lengths < self.top.shape[1]
        return short


@dataclass(frozen=True)
class Tile:
    """Scores of some units of a layer for some concepts.

    Attributes:
        layer: which layer.
        unit: the first unit's place in the layer.
        concept: the first concept's index.
        scores: (units, concepts) float32.
    """

    layer: int
    unit: int
    concept: int
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Null:
    """The null distribution: units whose activations are permuted over the images.

    Attributes:
        draws: how many such units, R.
        seed: seeds them.
        best: for each layer the highest score of each, (R,); raised while concepts stream by.
    """

    draws: int
    seed: int
    best: Sequence[NDArray[np.float32]]

    def lists(self, images: int, length: int) -> IntArray:
        """(R, length) distinct image indices, uniformly at random."""
        rng = np.random.default_rng(self.seed)
        pool = None if images <= NULL_POOL else rng.choice(images, NULL_POOL, replace=False)
        lists = np.empty((self.draws, length), dtype=np.int64)
        for row in lists:
            row[:] = rng.choice(min(images, NULL_POOL), size=length, replace=False, shuffle=True)
        return lists if pool is None else pool[lists]

    def take_in(self, layer: int, scores: FloatArray, part: slice = slice(None)) -> None:
        """Raise what is best of some of the R units of a layer to their scores (·, concepts)."""
        best = self.best[layer][part]
        np.maximum(best, scores.max(axis=1), out=best)


class Similarity(ABC):
    """How well each concept describes each unit; higher is better.

    Attributes:
        name: as people choose it.
        version: changes whenever scores may change by more than rounding; part of every key.
        needs_matrix: whether top lists are not enough.
        null_draws: a size of the null distribution that takes no longer than the units themselves.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    needs_matrix: ClassVar[bool] = False
    null_draws: ClassVar[int] = 1000

    @property
    def constants(self) -> Mapping[str, float]:
        """The formula's constants by their usual letters; none by default."""
        return {}

    @abstractmethod
    def top(self, images: int) -> int | None:
        """The length of the top lists for a probe set; None where no list is used."""

    @abstractmethod
    def score(
        self, layers: Sequence[Units], images: Rows, concepts: FloatArray, null: Null
    ) -> Iterator[Tile]:
        """Yield the scores of all layers' units, tile by tile.

        The tiles of a unit come in ascending order of concepts.

        Args:
            layers: the units.
            images: (N, e) unit rows.
            concepts: (M, e) unit rows.
            null: raised to the highest scores of units without meaning.
        """


def listed_rows(
    layers: Sequence[Units], null: Null, images: int, *others: IntArray
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]]]:
    """The images that stand in some top list or random list, and the lists as places among them.

    Args:
        layers: with the top lists.
        null: with the random lists.
        images: of the probe set.
        others: further lists.

    Returns:
        (n,) image indices, ascending; (R, T) the random lists; for each layer (K, T) its top lists,
        with -1 for images that are no evidence, and after them the further lists.
    """
    length = max(layer.top.shape[1] for layer in layers)
    lists = [null.lists(images, length), *(layer.top for layer in layers), *others]
    used = np.unique(np.concatenate([each.ravel() for each in lists]))
    random, *rows = (np.searchsorted(used, each) for each in lists)
    for layer, own in zip(layers, rows, strict=False):
        own[np.arange(own.shape[1]) >= layer.lengths[:, None]] = -1
    return used, random, rows


def check_embeddings(rows: FloatArray) -> None:
    """Raise :class:`InputError` where a number is NaN or infinite."""
    if not np.isfinite(rows).all():
        raise InputError("the VLM's embeddings hold NaN or infinite numbers")
