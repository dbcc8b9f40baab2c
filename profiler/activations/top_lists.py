"""Top lists: the images that move each unit most, collected in one pass over the probe set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import FloatArray, IntArray
from profiler.errors import InputError

FEWEST = 3
"""Images that move a unit, below which nothing can be said of it."""
_BUFFERED_ROWS = 512
"""Rows gathered before a merge: sorting few large pieces is cheaper than many small ones."""


@dataclass(frozen=True)
class LayerTops:
    """The top list of every unit of a layer.

    Attributes:
        layer: name of the layer.
        images: (K, G) probe-image indices, highest activation first; among equal activations
            the lower index comes first, so that runs repeat exactly.
        activations: (K, G) the pooled activations on those images.
        low: (K,) the lowest activation on any image.
    """

    layer: str
    images: IntArray
    activations: FloatArray
    low: FloatArray

    @property
    def units(self) -> int:
        """Number of units K."""
        return len(self.low)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """(K,) whether the unit's activation is the same on every image, or on all but one or two.

        In lists of fewer than 15 images, one in five is enough to be alive.
        """
        moved = np.count_nonzero(self.activations > self.low[:, None], axis=1)
        dead: NDArray[np.bool_] = moved < max(1, min(FEWEST, self.activations.shape[1] // 5))
        return dead

    def listed(self, length: int, images: int) -> IntArray:
        """(K,) how many of the first ``length`` images of each list are evidence.

        Images that share a unit's lowest activation, as most do where a ReLU is silent, stand in
        its list by their names alone. The one image that is lower than all others does not.

        Args:
            length: of the lists in use.
            images: of the probe set.
        """
        lowest: IntArray = (self.activations[:, :length] == self.low[:, None]).sum(axis=1)
        if length == images:
            lowest[lowest == 1] = 0
        return length - lowest

    def saturated(self, length: int) -> NDArray[np.bool_]:
        """(K,) whether more images share the highest activation than ``length``."""
        if self.activations.shape[1] <= length:
            return np.zeros(self.units, dtype=np.bool_)
        same: NDArray[np.bool_] = self.activations[:, 0] == self.activations[:, length]
        return same & ~self.dead


def merge_tops(first: LayerTops, then: LayerTops, length: int) -> LayerTops:
    """The top lists of two sets of images that are numbered alike; ``length`` are kept."""
    images, values = _strongest(
        np.concatenate([first.images, then.images], axis=1).T,
        np.concatenate([first.activations, then.activations], axis=1).T,
        length,
    )
    return LayerTops(first.layer, images.T, values.T, np.minimum(first.low, then.low))


def _strongest(images: IntArray, values: FloatArray, length: int) -> tuple[IntArray, FloatArray]:
    """(≤ length, K) of (n, K): the highest values, of equal ones those of the lower images."""
    by_image = np.argsort(images, axis=0, kind="stable")
    images = np.take_along_axis(images, by_image, axis=0)
    values = np.take_along_axis(values, by_image, axis=0)
    order = np.argsort(-values, axis=0, kind="stable")[:length]
    return np.take_along_axis(images, order, axis=0), np.take_along_axis(values, order, axis=0)


class TopCollector:
    """Keeps the ``length`` highest activations of each unit while batches stream through.

    Memory is O(K · length), whatever the number of images. The result depends neither on the
    order of the images nor on how they are cut into batches. ``name_of`` names an image in an
    error, by its index.

    >>> collector = TopCollector("fc", length=2)
    >>> collector.add(np.array([0, 1]), np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> collector.add(np.array([2]), np.array([[2.0, 5.0]]))
    >>> tops = collector.result()
    >>> tops.images.tolist(), tops.dead.tolist()
    ([[1, 2], [0, 1]], [False, True])
    """

    def __init__(
        self,
        layer: str,
        length: int,
        name_of: Callable[[int], str] = "number {}".format,
    ) -> None:
        self.layer = layer
        self.length = length
        self.name_of = name_of
        self._rows: list[tuple[IntArray, FloatArray]] = []
        self._buffered = 0
        self._top: tuple[IntArray, FloatArray] | None = None
        self._low: FloatArray | None = None

    def add(self, indices: IntArray, activations: FloatArray) -> None:
        """Take a batch: image indices (B,), and activations (B, K)."""
        if len(activations) != len(indices):
            raise InputError(
                f"layer {self.layer!r} gives {len(activations)} rows for {len(indices)} images; "
                "choose a layer that gives one for each"
            )
        finite = np.isfinite(activations).all(axis=1)
        if not finite.all():
            image = self.name_of(int(indices[np.argmin(finite)]))
            raise InputError(
                f"layer {self.layer!r} gives NaN or infinite activations (first on probe image "
                f"{image}); check the weights and the preprocessing"
            )
        low = activations.min(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._rows.append((np.broadcast_to(indices[:, None], activations.shape), activations))
        self._buffered += len(indices)
        if self._buffered >= _BUFFERED_ROWS:
            self._merge()

    def result(self) -> LayerTops:
        """The top lists of all images added so far."""
        self._merge()
        if self._top is None or self._low is None:
            raise InputError(f"no activations were collected for layer {self.layer!r}")
        images, values = self._top
        return LayerTops(
            self.layer, np.ascontiguousarray(images.T), np.ascontiguousarray(values.T), self._low
        )

    def _merge(self) -> None:
        if not self._rows:
            return
        rows = self._rows if self._top is None else [self._top, *self._rows]
        images, values = (np.concatenate(part) for part in zip(*rows, strict=True))
        self._top = _strongest(images, values, self.length)
        self._rows, self._buffered = [], 0


SAMPLE = 256
"""Images of the random sample whose activations are kept."""


@dataclass(frozen=True)
class ImageSample:
    """The activations on a random sample of the images: those that a pass reads first.

    Attributes:
        images: (S,) indices of the images, ascending.
        activations: for each layer (S, K).
    """

    images: IntArray
    activations: tuple[FloatArray, ...]

    @classmethod
    def of(cls, parts: Sequence["ImageSample"]) -> "ImageSample":
        """Several parts as one."""
        images = np.concatenate([part.images for part in parts])
        order = np.argsort(images)
        layers = zip(*(part.activations for part in parts), strict=True)
        return cls(images[order], tuple(np.concatenate(each)[order] for each in layers))
