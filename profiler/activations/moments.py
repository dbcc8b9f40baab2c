"""Sufficient statistics of a pass: how embeddings and activations vary, and vary together.

Everything that a linear explanation needs follows from counts, means and centred sums of products
of image embeddings v (e,) and pooled activations a (K,), kept apart for each fold of the images:
n, v̄, Σ(v−v̄)(v−v̄)ᵀ, ā, Σ(a−ā)², Σ(v−v̄)(a−ā)ᵀ, in float64. They are summed over blocks of
:data:`BLOCK` images and merged by Chan's update (Chan, Golub & LeVeque 1979), so their size does
not depend on the number of images.

Images come in a fixed random order (:func:`order_of`): a block, and a fold, is then a sample of the
whole set, whatever order its files have. Blocks are merged as the leaves of one binary tree over
that order, so the outcome is the same to the last bit however the blocks are dealt to shards.

Beside the units stand *decoys*: the activations of other images of the same block. What a procedure
finds for decoys is what chance gives, with the units' own distribution.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from profiler.core.arrays import Float64, FloatArray, IntArray

FOLDS = 5
BLOCK = 256
"""Images of a leaf of the tree."""
DECOYS = 256
"""Of a layer, at most: units whose activations are also kept for other images."""
_SEED = 20_260_101


def order_of(images: int) -> IntArray:
    """(N,) the order in which a pass reads the images: random, and the same in every run.

    >>> sorted(order_of(5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.default_rng([_SEED, images]).permutation(images)


def decoys_of(units: int) -> IntArray:
    """Which units of a layer have a decoy: at most :data:`DECOYS`, evenly spread.

    >>> decoys_of(3).tolist(), len(decoys_of(1000))
    ([0, 1, 2], 256)
    """
    kept = min(units, DECOYS)
    found: IntArray = (np.arange(kept) * units) // max(kept, 1)
    return found


@dataclass(frozen=True)
class FoldMoments:
    """Of images in F folds, with embeddings (e,) and A columns of activations.

    Attributes:
        count: (F,) images.
        v: (F, e) mean embedding.
        vv: (F, e, e) centred sums of products of embeddings.
        a: (F, A) mean activation.
        aa: (F, A) centred sums of squares of activations.
        va: (F, e, A) centred sums of products of both.
    """

    count: Float64
    v: Float64
    vv: Float64
    a: Float64
    aa: Float64
    va: Float64

    @classmethod
    def of(cls, v: FloatArray, a: FloatArray, fold: IntArray, folds: int = FOLDS) -> "FoldMoments":
        """Of some images: embeddings (n, e), activations (n, A), the fold of each (n,)."""
        parts = [_of_fold(v[fold == f], a[fold == f]) for f in range(folds)]
        return cls(*(np.stack(columns) for columns in zip(*parts, strict=True)))

    def __add__(self, other: "FoldMoments") -> "FoldMoments":
        """Of the images of both, by Chan's update."""
        count = self.count + other.count
        share = np.divide(other.count, count, out=np.zeros_like(count), where=count > 0)
        weight = self.count * share
        v, a = other.v - self.v, other.a - self.a
        w = weight[:, None]
        return FoldMoments(
            count,
            self.v + share[:, None] * v,
            self.vv + other.vv + (w * v)[:, :, None] * v[:, None, :],
            self.a + share[:, None] * a,
            self.aa + other.aa + w * a**2,
            self.va + other.va + (w * v)[:, :, None] * a[:, None, :],
        )

    def columns(self, columns: slice | IntArray) -> "FoldMoments":
        """The same, of some columns of activations."""
        return FoldMoments(
            self.count,
            self.v,
            self.vv,
            self.a[:, columns],
            self.aa[:, columns],
            self.va[:, :, columns],
        )

    def fold(self, number: int) -> "FoldMoments":
        """Of the images of one fold."""
        part = slice(number, number + 1)
        return FoldMoments(*(getattr(self, each.name)[part] for each in fields(self)))

    def without(self, number: int | None = None) -> "FoldMoments":
        """Of all images together, or of those outside one fold."""
        kept = [self.fold(f) for f in range(len(self.count)) if f != number]
        total = kept[0]
        for each in kept[1:]:
            total = total + each
        return total


def _of_fold(v: FloatArray, a: FloatArray) -> tuple[Any, ...]:
    n, v, a = len(v), np.asarray(v, np.float64), np.asarray(a, np.float64)
    if not n:
        e, k = v.shape[1], a.shape[1]
        return (np.float64(0), np.zeros(e), np.zeros((e, e)), np.zeros(k), np.zeros(k),
                np.zeros((e, k)))  # fmt: skip
    middle, level = v.mean(axis=0), a.mean(axis=0)
    v, a = v - middle, a - level
    return np.float64(n), middle, v.T @ v, level, np.einsum("nk,nk->k", a, a), v.T @ a


@dataclass
class MomentTree:
    """FoldMoments of blocks, merged as soon as both halves of a node are there.

    Attributes:
        nodes: by (level, place): the moments of blocks place · 2^level … (place + 1) · 2^level − 1.
    """

    nodes: dict[tuple[int, int], FoldMoments] = field(default_factory=dict)

    def add(self, level: int, place: int, moments: FoldMoments) -> None:
        """Take in a node."""
        while (level, place ^ 1) in self.nodes:
            other = self.nodes.pop((level, place ^ 1))
            moments = moments + other if place % 2 == 0 else other + moments
            level, place = level + 1, place // 2
        self.nodes[level, place] = moments

    def add_all(self, other: "MomentTree") -> None:
        """Take in what another set of blocks brought home."""
        for (level, place), moments in other.nodes.items():
            self.add(level, place, moments)

    def total(self) -> FoldMoments:
        """Of all blocks; where blocks lack at the end, a node is its left half alone."""
        left = sorted(self.nodes, key=lambda node: node[1] << node[0])
        total = self.nodes[left[-1]]
        for node in reversed(left[:-1]):
            total = self.nodes[node] + total
        return total

    def whole(self) -> "MomentTree":
        """The same as a single node, to which nothing can be added."""
        return MomentTree({(0, 0): self.total()})

    def to_arrays(self) -> dict[str, Any]:
        """As named arrays, to be stored."""
        return {
            f"moments.{level}.{place}.{part.name}": getattr(moments, part.name)
            for (level, place), moments in self.nodes.items()
            for part in fields(moments)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "MomentTree | None":
        """What :meth:`to_arrays` gave, if it is there."""
        tree = cls()
        for name in arrays:
            if name.startswith("moments.") and name.endswith(".count"):
                _, level, place, _ = name.split(".")
                stem = name.removesuffix("count")
                parts = (arrays[stem + part.name] for part in fields(FoldMoments))
                tree.nodes[int(level), int(place)] = FoldMoments(*parts)
        return tree if tree.nodes else None


class MomentCollector:
    """Gathers the moments of a shard, block by block, while its images stream through.

    The columns are the units of all layers, one after the other, and then their decoys.
    """

    def __init__(self) -> None:
        self.tree = MomentTree()
        self._rows: list[tuple[IntArray, FloatArray, Mapping[str, FloatArray]]] = []
        self._block = -1

    def add(self, places: IntArray, v: FloatArray, activations: Mapping[str, FloatArray]) -> None:
        """Take in images by their places in the order, ascending over calls.

        Args:
            places: (B,).
            v: (B, e) embeddings.
            activations: of each layer (B, K).
        """
        for block in np.unique(places // BLOCK).tolist():
            if block != self._block:
                self._close()
                self._block = block
            here = places // BLOCK == block
            some = {name: values[here] for name, values in activations.items()}
            self._rows.append((places[here], v[here], some))

    def result(self) -> MomentTree:
        """The moments of all images so far."""
        self._close()
        return self.tree

    def _close(self) -> None:
        if not self._rows:
            return
        places = np.concatenate([places for places, _, _ in self._rows])
        v = np.concatenate([v for _, v, _ in self._rows])
        other = _shuffled(len(places), self._block)
        columns, decoys = [], []
        for name in self._rows[0][2]:
            a = np.concatenate([activations[name] for _, _, activations in self._rows])
            columns.append(a)
            decoys.append(a[other][:, decoys_of(a.shape[1])])
        a = np.concatenate(columns + decoys, axis=1)
        self.tree.add(0, self._block, FoldMoments.of(v, a, places % FOLDS))
        self._rows = []


def _shuffled(count: int, block: int) -> IntArray:
    """Another image for each of a block: one cycle through all of them (Sattolo 1986)."""
    order = np.random.default_rng([_SEED, count, block]).permutation(count)
    found = np.empty(count, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found


@dataclass(frozen=True)
class LayerMoments:
    """The columns of one layer among those of a pass.

    Attributes:
        layer: its name.
        units: its own (F, …, K).
        decoys: (F, …, D), those of :func:`decoys_of`.
    """

    layer: str
    units: FoldMoments
    decoys: FoldMoments


def by_layer(moments: FoldMoments, layers: Sequence[tuple[str, int]]) -> Iterator[LayerMoments]:
    """The moments of each layer, given the layers' names and numbers of units in order."""
    start, behind = 0, sum(units for _, units in layers)
    for name, units in layers:
        chosen = len(decoys_of(units))
        yield LayerMoments(
            name,
            moments.columns(slice(start, start + units)),
            moments.columns(slice(behind, behind + chosen)),
        )
        start, behind = start + units, behind + chosen
