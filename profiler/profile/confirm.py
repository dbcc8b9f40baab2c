"""Whether a unit's peak label also holds on images that took no part in choosing it.

The images are split at random into two halves. On each, every unit is labelled by its strongest
images there, as the run labels it by those of all images. On the other half the label is tested:
the unit's strongest images there should be nearer to it than images are in general. With p the
cosine of an image and the label, h strongest images of the n of that half, and p̄, μ their mean and
that of all n, σ² the variance over all n,

    z = (p̄ − μ) / √(σ²/h · (n − h)/(n − 1)),

which has mean 0 and variance 1 for images drawn at random without replacement. Both halves are
joined as (z₁ + z₂)/√2. A label competes with no other word here: it was chosen before, elsewhere.
Which units count as *confirmed* is decided by
:func:`~profiler.profile.threshold.confirmed_threshold`.

Only the top lists and the embeddings of a pass are read: those of a half are what the lists of all
images hold of it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from profiler.activations.moments import FoldMoments, order_of
from profiler.activations.top_lists import LayerTops
from profiler.core.arrays import Float64, FloatArray, IntArray, Rows, blocks
from profiler.profile.evaluation import ROW_BLOCK, Sample
from profiler.profile.result import SHOWN_IMAGES
from profiler.profile.similarity.base import Similarity

FEWEST_TESTED = 50
"""Below which nothing is confirmed: a fifth of a half has to show what a unit responds to."""

UNIT_BLOCK = 4096
"""Rows of embeddings gathered at a time."""

Labeller = Callable[[Sequence[LayerTops], IntArray], Sequence[IntArray]]
"""(K,) best concept of each layer's units, −1 for none, by top lists that are numbered within some
images, given by their indices, ascending."""


def halves(kept: IntArray, total: int) -> IntArray:
    """(N,) 0 or 1: the half of each image that was read; the same for every network.

    Args:
        kept: (N,) indices into the probe set, ascending.
        total: images of the probe set.
    """
    place = np.empty(total, dtype=np.int64)
    place[order_of(total)] = np.arange(total)
    return place[kept] % 2


def confirm(
    layers: Sequence[LayerTops],
    images: Rows,
    concepts: FloatArray,
    half: IntArray,
    label: Labeller,
    length: int,
) -> list[Float64]:
    """Z of each unit: how well labels from either half of the images hold on the other.

    Args:
        layers: top lists of all images.
        images: (N, e) unit rows.
        concepts: (M, e) unit rows.
        half: (N,) as :func:`halves` gives them.
        label: chooses labels.
        length: of the top lists within a half; see :func:`list_length`.

    Returns:
        For each layer (K,); 0 where a half gives no label or no strongest images, and NaN for a
        dead unit.
    """
    total = [np.zeros(layer.units) for layer in layers]
    parts = [np.flatnonzero(half == each) for each in (0, 1)]
    for mine, other in (parts, parts[::-1]):
        chosen = label([within(layer, mine, length) for layer in layers], mine)
        tested = [within(layer, other, length) for layer in layers]
        for z, found in zip(total, held(tested, chosen, Sample(images, other), concepts),
                            strict=True):  # fmt: skip
            z += found / np.sqrt(2)
    return [np.where(layer.dead, np.nan, z) for layer, z in zip(layers, total, strict=True)]


def list_length(similarity: Similarity, top: int | None, images: int, kept: int) -> int:
    """Images of a unit's top list within a half.

    As many as of the whole, where the lists that were kept hold so many: of a list, half lies in
    either half of the images. At most a fifth of the half.

    Args:
        similarity: the formula.
        top: length of the lists on all images; None where the formula uses none.
        images: of both halves together.
        kept: length of the lists that the pass kept.
    """
    fewest = similarity.top(1) or 1
    return max(fewest, min(top or SHOWN_IMAGES, kept // 2, images // 10))


def within(layer: LayerTops, images: IntArray, length: int) -> LayerTops:
    """What the top lists hold of some images, numbered within these.

    A list that holds fewer is filled up at the unit's lowest activation, which is no evidence
    (:meth:`~profiler.activations.top_lists.LayerTops.listed`).

    Args:
        layer: top lists of all images.
        images: (n,) indices, ascending.
        length: of the lists wanted.
    """
    place = np.searchsorted(images, layer.images)
    inside = images[np.minimum(place, len(images) - 1)] == layer.images
    # Those inside first, each part in the list's own order.
    order = np.argsort(~inside, axis=1, kind="stable")[:, :length]
    there = np.take_along_axis(inside, order, axis=1)
    numbers = np.take_along_axis(place, order, axis=1)
    values = np.take_along_axis(layer.activations, order, axis=1)
    low = layer.low[:, None].astype(values.dtype)
    return LayerTops(
        layer.layer, np.where(there, numbers, 0), np.where(there, values, low), layer.low
    )


def held(
    layers: Sequence[LayerTops], labels: Sequence[IntArray], images: Rows, concepts: FloatArray
) -> Iterator[Float64]:
    """Z of each unit's label on some images, by its strongest ones there; 0 where there is none.

    Args:
        layers: top lists within these images.
        labels: (K,) concept of each layer's units, −1 for none.
        images: (n, e) unit rows.
        concepts: (M, e) unit rows.
    """
    n = len(images)
    mean, spread = _spread(images)
    for layer, label in zip(layers, labels, strict=True):
        length = layer.images.shape[1]
        listed = layer.listed(length, n)
        known = (label >= 0) & (listed > 0)
        rows = concepts[np.maximum(label, 0)].astype(np.float64)
        strongest = np.zeros((layer.units, rows.shape[1]))
        for units in blocks(layer.units, max(UNIT_BLOCK // length, 1)):
            evidence = np.arange(length) < listed[units, None]
            found = images[layer.images[units].ravel()].reshape(-1, length, rows.shape[1])
            strongest[units] = np.einsum("klf,kl->kf", found, evidence.astype(np.float64))
        many = np.maximum(listed, 1)
        above = np.einsum("kf,kf->k", rows, strongest / many[:, None] - mean)
        variance = np.einsum("kf,kf->k", rows @ spread, rows) / n
        error = np.sqrt(variance / many * np.maximum(n - many, 0) / (n - 1))
        known &= error > 0
        yield np.where(known, above / np.where(known, error, 1.0), 0.0)


def _spread(images: Rows) -> tuple[Float64, Float64]:
    """(e,) mean and (e, e) centred sums of products of the rows, read by blocks."""
    total: FoldMoments | None = None
    for rows in blocks(len(images), ROW_BLOCK):
        v = images[rows]
        nothing = np.zeros((len(v), 0))
        part = FoldMoments.of(v, nothing, np.zeros(len(v), dtype=np.int64), folds=1)
        total = part if total is None else total + part
    if total is None:
        raise ValueError("there is no image")
    return total.v[0], total.vv[0]
