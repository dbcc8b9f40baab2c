"""How good labels are, where nobody has rated them: held-out prediction, and survival.

*Held out.* Labels are chosen on one part of the probe images; on the other part a unit's label has
to predict its activation. Notation, for one unit and n held-out images: a_i its pooled activation,
c_i = cos(image i, concept of its label).

    correlation = Σ (a_i − ā)(c_i − c̄) / √(Σ (a_i − ā)² Σ (c_i − c̄)²)              (Pearson)
    AUPRC       = Σ_t (recall_t − recall_{t−1}) · precision_t

of finding the unit's most active images by c, over the distinct values t of c, highest first
(average precision: no interpolation). These two notice when a concept covers too few or too many
images; recall, precision, AUROC or mean activation miss one or the other on sparse concepts
(Oikarinen, Yan & Weng, *Evaluating Neuron Explanations*, ICML 2025;
``tests/profile/test_quality.py`` repeats their checks).

Units of a layer share much: where most of them like the same images, most labels correlate with
most units. So the labels are also *permuted* among the units of the layer: only what the
own label predicts better than a permuted one speaks for it.

*Survival.* The probe images are resampled with replacement, the units labelled again: a label that
hangs on a few images does not come back (the nonparametric bootstrap, Efron 1979).

How labels are made is not known here: a :data:`Labeller` is handed in. An undefined number is NaN
in an array and None in a summary, never 0.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

from profiler.core.arrays import BoolArray, FloatArray, IntArray, Rows
from profiler.core.statistics import average_precision, correlation
from profiler.errors import InputError
from profiler.profile.labels import KEPT_LABELS

Labeller = Callable[[IntArray], Sequence[IntArray]]
"""Labels the units on a sample: image indices (S,), ascending, perhaps with repeats → for each
layer the concept of each unit (K,), -1 where the unit does not vary within the sample."""

POSITIVE_SHARE = 0.05
"""Share of the held-out images that count as a unit's most active ones."""
FEWEST_POSITIVES = 5
"""… but at least so many, as far as they are no more than half of the images."""
STABLE = 0.5
"""A label is stable if it survives at least this share of the draws."""

ROW_BLOCK = 2048
"""Rows read at a time."""
BLOCK_BYTES = 2**26
"""Held at a time: activations and cosines of all held-out images for a block of units."""


@dataclass(frozen=True)
class HeldOut:
    """How well the labels of one layer's K units predict activations on images not used for them.

    Attributes:
        label: (K,) concept chosen on the other images; -1 for a unit that does not vary there.
        correlation: (K,) of activation and cosine; NaN without a label, where one of the two is
            constant, or on fewer than three images.
        auprc: (K,) of finding the most active images by the cosine; NaN without a label or where
            the activation is constant.
        positives: (K,) how many images count as the most active; 0 where ``auprc`` is NaN.
        images: number of held-out images n.
    """

    label: IntArray
    correlation: FloatArray
    auprc: FloatArray
    positives: IntArray
    images: int

    @property
    def chance(self) -> FloatArray:
        """(K,) AUPRC to expect of a random order of the images; NaN where ``auprc`` is."""
        return chance_precision(self.positives, self.images)


@dataclass(frozen=True)
class Stability:
    """What becomes of the labels of one layer's K units when the images are resampled.

    Attributes:
        draws: number of draws B.
        labelled: (K,) whether the unit has a label to keep.
        kept: (K,) draws in which it keeps that label; 0 where it has none.
        lost: (K,) draws in which the unit does not vary, and so has no label.
        concept: (K, R) the labels that appear most often, most frequent first, among equals the
            lower index first; -1 where there are fewer.
        count: (K, R) draws in which they appear; 0 where there are fewer.
        distinct: (K,) number of different labels that appear, also those not listed.
    """

    draws: int
    labelled: BoolArray
    kept: IntArray
    lost: IntArray
    concept: IntArray
    count: IntArray
    distinct: IntArray

    @property
    def survival(self) -> FloatArray:
        """(K,) share of the draws in which the unit keeps its label; NaN where it has none."""
        return np.where(self.labelled, self.kept / self.draws, np.nan)


@dataclass(frozen=True)
class LayerQuality:
    """The quality of the labels of one layer's K units.

    Attributes:
        layer: name of the layer.
        label: (K,) concept of each unit, chosen on all images; -1 for a dead unit.
        held_out: how well labels chosen on a part of the images predict the rest.
        permuted: the same for those labels, permuted among the units.
        stability: how often ``label`` survives when the images are resampled.
    """

    layer: str
    label: IntArray
    held_out: HeldOut
    permuted: HeldOut
    stability: Stability

    @property
    def units(self) -> int:
        """Number of units K."""
        return len(self.label)


@dataclass(frozen=True)
class Spread:
    """Quartiles of the defined values among some; None where there are none."""

    count: int
    low: float | None
    median: float | None
    high: float | None

    @classmethod
    def of(cls, values: FloatArray) -> "Spread":
        """Quartiles of the values that are not NaN (interpolated linearly).

        >>> Spread.of(np.array([3.0, 1.0, np.nan, 2.0]))
        Spread(count=3, low=1.5, median=2.0, high=2.5)
        """
        defined = values[~np.isnan(values)]
        if not len(defined):
            return cls(0, None, None, None)
        low, median, high = np.quantile(defined, [0.25, 0.5, 0.75]).tolist()
        return cls(len(defined), low, median, high)


@dataclass(frozen=True)
class QualitySummary:
    """The quality of some units' labels. Counts of layers add up to those of all together.

    Attributes:
        units: units looked at, with a label or without.
        labelled: those with a label.
        repeated: labelled units whose label, chosen on a part of the images, is the same.
        correlation: over the units where it is defined.
        auprc: over the units where it is defined.
        chance: of a random order of the images, over the same units as ``auprc``.
        permuted_correlation: of each of these units and the label of another unit of its layer.
        permuted_auprc: likewise.
        kept: draws in which a unit kept its label, summed over the labelled units.
        drawn: draws, summed over the labelled units.
        stable: labelled units that kept theirs in at least half of the draws.
    """

    units: int
    labelled: int
    repeated: int
    correlation: Spread
    auprc: Spread
    chance: Spread
    permuted_correlation: Spread
    permuted_auprc: Spread
    kept: int
    drawn: int
    stable: int

    @property
    def survival(self) -> float | None:
        """Mean share of the draws in which a labelled unit keeps its label."""
        return self.kept / self.drawn if self.drawn else None

    @property
    def repeated_share(self) -> float | None:
        """Share of the labelled units whose label is the same on a part of the images."""
        return self.repeated / self.labelled if self.labelled else None

    @property
    def stable_share(self) -> float | None:
        """Share of the labelled units with a stable label."""
        return self.stable / self.labelled if self.labelled else None


def summarise(
    layers: Sequence[LayerQuality], chosen: Sequence[BoolArray] | None = None
) -> QualitySummary:
    """Summarise one layer, or several as one.

    Quartiles do not add up, so the summary of a model is made from its layers, not from theirs.

    Args:
        layers: their names play no part.
        chosen: for each layer (K,) which units count (those trusted, say); None for all.
    """
    if chosen is None:
        chosen = [np.ones(layer.units, dtype=np.bool_) for layer in layers]
    pairs = list(zip(layers, chosen, strict=True))
    labelled = [mask & (layer.label >= 0) for layer, mask in pairs]
    marked = list(zip(layers, labelled, strict=True))

    def spread(values: Callable[[LayerQuality], FloatArray]) -> Spread:
        return Spread.of(np.concatenate([np.zeros(0), *(values(la)[m] for la, m in pairs)]))

    return QualitySummary(
        units=sum(int(mask.sum()) for mask in chosen),
        labelled=sum(int(mask.sum()) for mask in labelled),
        repeated=sum(int((la.held_out.label == la.label)[mask].sum()) for la, mask in marked),
        correlation=spread(lambda layer: layer.held_out.correlation),
        auprc=spread(lambda layer: layer.held_out.auprc),
        chance=spread(lambda layer: layer.held_out.chance),
        permuted_correlation=spread(lambda layer: layer.permuted.correlation),
        permuted_auprc=spread(lambda layer: layer.permuted.auprc),
        kept=sum(int(la.stability.kept[mask].sum()) for la, mask in marked),
        drawn=sum(la.stability.draws * int(mask.sum()) for la, mask in marked),
        stable=sum(int((la.stability.survival[mask] >= STABLE).sum()) for la, mask in marked),
    )


# --- held out --------------------------------------------------------------------------------


def split(images: int, *, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Indices of the images to label on and of those held out, each ascending, each at least one.

    Args:
        images: number of images N, at least two.
        fraction: share to hold out, in (0, 1).
        seed: seeds the choice.

    >>> [part.tolist() for part in split(5, fraction=0.4, seed=0)]
    [[0, 1, 3], [2, 4]]
    """
    if images < 2:
        raise InputError(f"holding out images needs at least two of them, got {images}")
    if not 0 < fraction < 1:
        raise InputError(f"the held-out share must lie between 0 and 1, got {fraction}")
    held = min(max(round(fraction * images), 1), images - 1)
    order = np.random.default_rng(seed).permutation(images)
    return np.sort(order[held:]), np.sort(order[:held])


def held_out(
    labeller: Labeller,
    activations: Sequence[Rows],
    images: Rows,
    concepts: FloatArray,
    *,
    fraction: float = 0.5,
    seed: int = 0,
) -> list[tuple[HeldOut, HeldOut]]:
    """Label on one part of the images, and measure on the other.

    The labels are those of a part of the images, so they may differ from those of all of them.
    For each layer two measurements come back: of these labels, and of the permuted ones.

    Args:
        labeller: called once.
        activations: (N, K) pooled activations of each layer, in the labeller's order.
        images: (N, e) unit rows.
        concepts: (M, e) unit rows.
        fraction: share of the images to hold out.
        seed: seeds the split, which is the same for all layers, and the dealing.
    """
    kept, held = split(images.shape[0], fraction=fraction, seed=seed)
    return [
        (
            measure(labels, layer, images, concepts, held),
            measure(deal(labels, seed=seed), layer, images, concepts, held),
        )
        for labels, layer in zip(labeller(kept), activations, strict=True)
    ]


def deal(labels: IntArray, *, seed: int) -> IntArray:
    """Give each labelled unit the label of another one, each label once.

    Units without a label (-1) stay without; so does a single one that has no other to take from.
    Where units have the same label, a unit may get what it had.

    >>> deal(np.array([7, -1, 8]), seed=0).tolist()
    [8, -1, 7]
    """
    living = np.flatnonzero(labels >= 0)
    permuted = np.full_like(labels, -1)
    if len(living) > 1:
        # One place on in a random circle: nobody is left where he was.
        circle = np.random.default_rng(seed).permutation(living)
        permuted[circle] = labels[np.roll(circle, 1)]
    return permuted


def measure(
    labels: IntArray,
    activations: Rows,
    images: Rows,
    concepts: FloatArray,
    rows: IntArray,
) -> HeldOut:
    """Measure given labels on given images; nothing is chosen here.

    Memory is O(ROW_BLOCK · (K + e) + BLOCK_BYTES), or what one unit needs where that is more.

    Args:
        labels: (K,) concept of each unit, -1 for none.
        activations: (N, K) pooled activations.
        images: (N, e) unit rows.
        concepts: (M, e) unit rows.
        rows: (n,) the images to measure on, ascending, none twice.
    """
    if activations.shape != (images.shape[0], len(labels)):
        raise ValueError(
            f"activations of shape {activations.shape} for {images.shape[0]} images and "
            f"{len(labels)} units"
        )
    units = len(labels)
    correlations = np.full(units, np.nan)
    precisions = np.full(units, np.nan)
    positives = np.zeros(units, dtype=np.int64)
    living = np.flatnonzero(labels >= 0)
    width = max(1, BLOCK_BYTES // (8 * max(1, len(rows))))
    for lo in range(0, len(living), width):
        block = living[lo : lo + width]
        activation, cosine = _read(activations, images, concepts[labels[block]], block, rows)
        for column, unit in enumerate(block):
            a, c = activation[:, column], cosine[:, column]
            truth = most_active(a)
            correlations[unit] = correlation(a, c)
            precisions[unit] = average_precision(truth, c)
            positives[unit] = truth.sum()
    return HeldOut(labels, correlations, precisions, positives, len(rows))


def _read(
    activations: Rows, images: Rows, concepts: FloatArray, units: IntArray, rows: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Activations of some units on some images, and cosines with their concepts; (n, B) each."""
    # Column by column they are used, so column by column they lie in memory.
    shape = len(rows), len(units)
    activation = np.empty(shape, dtype=np.float32, order="F")
    cosine = np.empty(shape, dtype=np.float32, order="F")
    # In float64, rounded at the end: equal images get equal cosines, hence tie, wherever they
    # stand in a block. In float32 the order of summation would show.
    directions = concepts.astype(np.float64).T
    for read, here, put in _windows(images.shape[0], rows):
        activation[put] = activations[read][np.ix_(here, units)]
        cosine[put] = images[read][here].astype(np.float64) @ directions
    if not (np.isfinite(activation).all() and np.isfinite(cosine).all()):
        raise InputError("activations or embeddings hold NaN or infinite numbers")
    return activation, cosine


def _windows(images: int, rows: IntArray) -> Iterator[tuple[slice, IntArray, slice]]:
    """Cut 0 … N−1 into blocks; yield each with the wanted rows in it and their places."""
    for lo in range(0, images, ROW_BLOCK):
        first, last = np.searchsorted(rows, [lo, lo + ROW_BLOCK])
        if first < last:
            yield slice(lo, lo + ROW_BLOCK), rows[first:last] - lo, slice(first, last)


def most_active(activation: FloatArray, share: float = POSITIVE_SHARE) -> BoolArray:
    """(n,) the images on which a unit is most active.

    Meant are ``share`` of them, at least five, at most half. Images of equal activation are in or
    out together, whichever brings the number nearer to what is meant (out, if both are as near);
    but there is always at least one, and never all. So a unit that is 0 nearly everywhere has its
    few active images as positives and no zeros; one that is constant has none.

    >>> most_active(np.array([0, 7, 0, 0, 9, 0]), 0.5).astype(int).tolist()
    [0, 1, 0, 0, 1, 0]
    """
    n = len(activation)
    meant = min(max(FEWEST_POSITIVES, round(share * n)), n // 2)
    if not meant:
        return np.zeros(n, dtype=np.bool_)
    cut = np.partition(activation, n - meant)[n - meant]
    without: BoolArray = activation > cut
    within: BoolArray = activation >= cut
    few, many = int(without.sum()), int(within.sum())
    if many == n or (few and meant - few <= many - meant):
        return without
    return within


def chance_precision(positives: IntArray, images: int) -> FloatArray:
    """Average precision to expect of a random order of the images; NaN without positives.

    With P positives among n images and H_n = 1 + 1/2 + … + 1/n,

        E = (P − 1)/(n − 1) + (n − P)/(n − 1) · H_n/n.

    It lies above the share of positives P/n, and with few images well above it: rank i holds a
    positive with probability P/n, and the precision there is then (1 + (i − 1)(P − 1)/(n − 1))/i
    on average; E is the sum over i, divided by P.

    >>> chance_precision(np.array([0, 1, 2]), 2).tolist()
    [nan, 0.75, 1.0]
    """
    many = np.asarray(positives, dtype=np.float64)
    if images < 2:
        return np.where(many > 0, 1.0, np.nan)
    harmonic = digamma(images + 1) - digamma(1)
    expected = (many - 1 + (images - many) * harmonic / images) / (images - 1)
    return np.where(many > 0, expected, np.nan)


# --- survival --------------------------------------------------------------------------------


def bootstrap(
    labeller: Labeller,
    images: int,
    labels: Sequence[IntArray],
    *,
    draws: int = 20,
    seed: int = 0,
) -> list[Stability]:
    """Draw the images anew, with replacement, label again, and see which labels come back.

    The draws are the same for all layers, and the first of them are the same whatever their
    number. A draw in which a unit does not vary counts as one in which its label is lost.

    Args:
        labeller: called ``draws`` times.
        images: number of images N.
        labels: for each layer the labels (K,) to compare with, chosen on all images; -1 for none.
        draws: how often, at least once.
        seed: seeds the draws.
    """
    if draws < 1:
        raise InputError(f"a bootstrap needs at least one draw, got {draws}")
    drawn = [np.empty((draws, len(own)), dtype=np.int64) for own in labels]
    for draw in range(draws):
        sample = np.random.default_rng([seed, draw]).integers(images, size=images)
        # Ascending: read in order, and ties between images broken as they are in the whole set.
        for layer, found in zip(drawn, labeller(np.sort(sample)), strict=True):
            if found.shape != layer[draw].shape:
                raise ValueError(f"{found.shape} labels for {layer[draw].shape} units")
            layer[draw] = found
    return [_compare(own, layer) for own, layer in zip(labels, drawn, strict=True)]


def _compare(labels: IntArray, drawn: IntArray) -> Stability:
    """Compare labels (K,) with those of the draws (B, K)."""
    draws, units = drawn.shape
    labelled = labels >= 0
    concept = np.full((units, KEPT_LABELS), -1, dtype=np.int64)
    count = np.zeros((units, KEPT_LABELS), dtype=np.int64)
    distinct = np.zeros(units, dtype=np.int64)
    for unit in range(units):
        names, times = np.unique(drawn[drawn[:, unit] >= 0, unit], return_counts=True)
        first = np.argsort(-times, kind="stable")[:KEPT_LABELS]
        concept[unit, : len(first)] = names[first]
        count[unit, : len(first)] = times[first]
        distinct[unit] = len(names)
    return Stability(
        draws,
        labelled,
        np.where(labelled, (drawn == labels).sum(axis=0), 0),
        (drawn < 0).sum(axis=0),
        concept,
        count,
        distinct,
    )
