"""Is an error due to the encoder or to the head? Criteria that decide it for each error.

f = head ∘ encoder, z = encoder(x), head(z) = W z + b. An error is attributed to the *encoder* if z
does not contain the class of the image. It is attributed to the *head* if z contains the class and
the head does not use it. The criteria differ in how they examine z. All have one signature,
:class:`FaultRule`: they are fitted on labelled reference images, encoded by the classifier under
study, and give each misclassified image one verdict. No criterion uses another classifier.

============== ====================================================================================
name           the head is at fault where …
============== ====================================================================================
``zero-shot``  the class captions nearest to r(z) are those of the true class (Hu et al., 2025)
``heatmap``    H(x) is more similar to correct predictions of the true class than of the predicted
``fresh-head`` a new head, fitted on the reference images, predicts the true class
``corrected``  a new head that reads the encoding and the old head's logits predicts the true class
``witnesses``  the same, and checks find no fault of the encoder and one of the old head
============== ====================================================================================

Otherwise the encoder is at fault. Where a criterion does not apply (a class without reference
images; a VLM that does not recognise the image) its verdict is *undetermined*, counted separately.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from profiler.activations.observe import Observed
from profiler.concepts.heatmap import compare_pairs
from profiler.concepts.space import ConceptSpace, folds
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray, checked_rows
from profiler.core.statistics import wilson
from profiler.errors import InputError


class TooFewImagesError(InputError):
    """A criterion cannot be fitted on so few images."""


class Fault(IntEnum):
    """Which half of the classifier an error is attributed to."""

    HEAD = 0
    ENCODER = 1
    UNDETERMINED = 2


Verdicts = NDArray[np.int8]
"""(k,) of :class:`Fault`."""


class FaultRule(Protocol):
    """A criterion: decides for each misclassified image whether encoder or head is at fault."""

    @property
    def name(self) -> str:
        """Its name in results and on pages."""
        ...

    def fit(self, reference: Observed) -> Self:
        """Learn from labelled images, correctly and incorrectly classified ones."""
        ...

    def locate(self, errors: Observed) -> Verdicts:
        """(k,) verdicts on misclassified images, none of which ``fit`` was given."""
        ...


def _verdicts(head: BoolArray, standing: BoolArray | None = None) -> Verdicts:
    found = np.where(head, Fault.HEAD, Fault.ENCODER)
    if standing is not None:
        found = np.where(standing, found, Fault.UNDETERMINED)
    return found.astype(np.int8)


def _check_classes(observed: Observed, classes: int) -> None:
    for labels in (observed.truth, observed.predicted):
        if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            raise InputError(
                f"classes must lie in 0 … {classes - 1}; got {labels.min()} … {labels.max()}"
            )


# --- the criteria of the papers --------------------------------------------------------------


class ZeroShot:
    """Zero-shot classification of r(z) by the VLM's class captions.

    Hu et al. (2025) call it an oracle. An error is undetermined if the VLM, by its own embedding
    of the image, does not predict the true class.

    Args:
        classes: the class captions in the classifier's features, in the order of the classes.
    """

    name = "zero-shot"

    def __init__(self, classes: ConceptSpace) -> None:
        self.classes = classes

    def fit(self, reference: Observed) -> Self:
        """Nothing is learned: the linear alignment is in the concept space."""
        _check_classes(reference, len(self.classes))
        return self

    def locate(self, errors: Observed) -> Verdicts:
        """(k,) verdicts; needs ``errors.embeddings``."""
        _check_classes(errors, len(self.classes))
        if errors.embeddings is None:
            raise InputError("the criterion zero-shot needs the VLM's embeddings of the images")
        vlm = checked_rows(errors.embeddings, "embeddings")
        seen = (vlm @ self.classes.directions.T).argmax(axis=1)
        read = self.classes.strengths(errors.features).argmax(axis=1)
        return _verdicts(read == errors.truth, seen == errors.truth)


class NearestHeatmap:
    """The heatmap H(x) compared with the summaries of correct predictions, by cosine.

    If H(x) is nearer to the summary of the true class than to that of the predicted class, the
    encoding is like that of a correct prediction, so the head is at fault. A class without correct
    predictions is represented by all its labelled images: a head that always confuses two classes
    leaves both without correct predictions.

    Args:
        concepts: in the classifier's features.
        classes: their number C.

    Attributes:
        summary_: (C, P) summaries' cells i < j; NaN for a class without images.
    """

    name = "heatmap"

    summary_: Float64

    def __init__(self, concepts: ConceptSpace, classes: int) -> None:
        self.concepts = concepts
        self.classes = classes

    def fit(self, reference: Observed) -> Self:
        """Learn the summaries."""
        _check_classes(reference, self.classes)
        strengths = self.concepts.strengths(reference.features)
        self.summary_ = np.full((self.classes, self.concepts.pairs), np.nan)
        for label, rows in _representatives(reference, self.classes):
            self.summary_[label] = compare_pairs(strengths[rows]).mean(axis=0)
        return self

    def locate(self, errors: Observed) -> Verdicts:
        """(k,) verdicts; undetermined where one of the two classes has no reference images."""
        _check_classes(errors, self.classes)
        # Both triangles of a heatmap go into its cosine; the lower one is 1 − the upper.
        whole = np.concatenate([self.summary_, 1 - self.summary_], axis=1)
        whole /= np.linalg.norm(whole, axis=1, keepdims=True)
        upper, lower = np.split(whole, 2, axis=1)
        gap = np.empty(len(errors))
        for row, z in enumerate(errors.features):
            heat = compare_pairs(self.concepts.strengths(z[None]))[0]
            true, predicted = int(errors.truth[row]), int(errors.predicted[row])
            gap[row] = heat @ (upper[true] - upper[predicted]) + (1 - heat) @ (
                lower[true] - lower[predicted]
            )
        return _verdicts(gap > 0, ~np.isnan(gap))


def _representatives(reference: Observed, classes: int) -> list[tuple[int, IntArray]]:
    """For each class that has images: rows of its correct predictions, or of all its images."""
    found: list[tuple[int, IntArray]] = []
    for label in range(classes):
        own = reference.truth == label
        right = own & ~reference.wrong
        rows = np.flatnonzero(right if right.any() else own)
        if len(rows):
            found.append((label, rows))
    return found


# --- a fresh head ----------------------------------------------------------------------------


_ROUNDING = 1e-10
"""A direction with less than this share of the largest variance is constant but for rounding."""
LOGITS_WEIGHT = 1.0
"""Spread of the old head's logits relative to that of the features, where both are read."""
SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
"""Tried for the covariance within classes."""


class ClassGaussians:
    """A Gaussian a class, all of one covariance: a head in closed form.

    The covariance within classes, S, is shrunk towards a multiple of the identity,
    (1 − γ) S + γ (tr S / f) 1. γ is chosen by five-fold cross-validated accuracy (the largest of
    equals). All classes have the same prior probability.
    (Regularised linear discriminant analysis: Friedman, *JASA* 84, 1989.)

    Args:
        classes: their number C.

    Attributes:
        means_: (C, f); NaN for a class without images.
        shrinkage_: γ.
        held_out_: (n,) the class predicted for each reference image while held out.
        accuracy_: share of them that is correct.
    """

    means_: Float64
    shrinkage_: float
    held_out_: IntArray
    accuracy_: float

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def fit(self, z: FloatArray, truth: IntArray, groups: IntArray | None = None) -> Self:
        """Learn from features (n, f) and classes (n,); rows of a group are held out together."""
        z = checked_rows(z, "features")
        if len(np.unique(truth)) < 2:
            raise TooFewImagesError("a head needs reference images of at least two classes")
        parts = folds(np.arange(len(z)) if groups is None else groups, seed=0)
        if len(np.unique(parts)) < 2:
            raise TooFewImagesError(f"{len(z)} image(s) are too few to fit and test a head")
        nearest = np.zeros((len(SHRINKAGES), len(z)), dtype=np.int64)
        for part in np.unique(parts):
            held = parts == part
            pooled = _Pooled.of(z[~held], truth[~held], self.classes)
            for row, shrinkage in enumerate(SHRINKAGES):
                nearest[row, held] = pooled.distances(z[held], shrinkage).argmin(axis=1)
        accuracy = np.mean(nearest == truth, axis=1)
        best = int(np.flatnonzero(accuracy == accuracy.max())[-1])
        self.shrinkage_, self.accuracy_ = SHRINKAGES[best], float(accuracy[best])
        self.held_out_ = nearest[best]
        self._pooled = _Pooled.of(z, truth, self.classes)
        self.means_ = self._pooled.means
        return self

    def distances(self, z: FloatArray) -> Float64:
        """Squared distances (n, C) to the classes; infinite to one without images."""
        return self._pooled.distances(checked_rows(z, "features"), self.shrinkage_)

    def predict(self, z: FloatArray) -> IntArray:
        """(n,) the class that a new head predicts."""
        nearest: IntArray = self.distances(z).argmin(axis=1)
        return nearest


@dataclass(frozen=True)
class _Pooled:
    """Class means, and the covariance within classes by its singular vectors."""

    means: Float64
    basis: Float64
    """(r, f) unit rows."""
    values: Float64
    """(r,) variances along them."""

    @classmethod
    def of(cls, z: Float64, truth: IntArray, classes: int) -> "_Pooled":
        means = np.full((classes, z.shape[1]), np.nan)
        for label in np.unique(truth):
            means[label] = z[truth == label].mean(axis=0)
        within = z - means[truth]
        # By the smaller of the two products: images may be many, or features.
        few = len(z) < z.shape[1]
        values, vectors = np.linalg.eigh(within @ within.T if few else within.T @ within)
        kept = values > _ROUNDING * max(float(values[-1]), 0.0)
        values, vectors = values[kept], vectors[:, kept]
        basis = ((within.T @ vectors) / np.sqrt(values)).T if few else vectors.T
        freedom = max(1, len(z) - len(np.unique(truth)))
        return cls(means, basis, values / freedom)

    def distances(self, z: Float64, shrinkage: float) -> Float64:
        """(n, C)."""
        # Where classes do not vary at all, every distance is measured with one yardstick.
        even = float(self.values.sum()) / self.basis.shape[1] or 1.0
        floor = shrinkage * even
        scale = 1 / np.sqrt((1 - shrinkage) * self.values + floor) - 1 / np.sqrt(floor)

        def whitened(rows: Float64) -> Float64:
            white: Float64 = rows / np.sqrt(floor) + ((rows @ self.basis.T) * scale) @ self.basis
            return white

        known = np.isfinite(self.means[:, 0])
        ours, theirs = whitened(z), whitened(self.means[known])
        squares = np.full((len(z), len(self.means)), np.inf)
        squares[:, known] = np.maximum(
            np.sum(ours**2, axis=1)[:, None] + np.sum(theirs**2, axis=1) - 2 * ours @ theirs.T, 0
        )
        return squares


class FreshHead:
    """A new head on the same encoder, fitted on the reference images' labels.

    If it predicts the true class, the encoding contains the class in a form that a linear head can
    use.

    Args:
        classes: their number C.

    Attributes:
        gaussians_: the head.
    """

    name = "fresh-head"

    gaussians_: ClassGaussians

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def fit(self, reference: Observed) -> Self:
        """Fit the new head."""
        _check_classes(reference, self.classes)
        self._prepare(reference)
        self.gaussians_ = ClassGaussians(self.classes).fit(
            self.read(reference), reference.truth, reference.groups
        )
        return self

    def _prepare(self, reference: Observed) -> None:
        """Learn what :meth:`read` needs."""

    def read(self, observed: Observed) -> FloatArray:
        """(n, k) what the new head reads: the encodings."""
        return observed.features

    def locate(self, errors: Observed) -> Verdicts:
        """(k,) verdicts; undetermined where the true class has no reference images."""
        _check_classes(errors, self.classes)
        standing = np.isfinite(self.gaussians_.means_[errors.truth, 0])
        return _verdicts(self.gaussians_.predict(self.read(errors)) == errors.truth, standing)


class CorrectedHead(FreshHead):
    """A new head that reads the old head's logits beside the encoding.

    With few reference images, a head fitted from scratch is worse than the old head was before its
    fault, and its own errors would be attributed to the encoder. Most faults destroy only a part of
    a head: swapped, scaled or shifted rows are corrected by C numbers. So the new head reads the
    logits as well. They are scaled to vary as much as all features together
    (:data:`LOGITS_WEIGHT`), so shrinkage of the covariance affects them least, and they count as
    far as the reference images confirm them.

    Attributes:
        mean_: (C,) of the logits on the reference images.
        scale_: factor they are multiplied by.
    """

    name = "corrected"

    mean_: Float64
    scale_: float

    def _prepare(self, reference: Observed) -> None:
        logits = self._logits(reference)
        self.mean_ = logits.mean(axis=0)
        theirs = float(np.asarray(reference.features, dtype=np.float64).var(axis=0).sum())
        ours = float(logits.var(axis=0).sum())
        self.scale_ = LOGITS_WEIGHT * np.sqrt(theirs / ours) if ours > 0 else 0.0

    def read(self, observed: Observed) -> FloatArray:
        """(n, f + C) encodings and scaled logits."""
        logits = (self._logits(observed) - self.mean_) * self.scale_
        return np.concatenate([observed.features, logits], axis=1)

    @staticmethod
    def _logits(observed: Observed) -> Float64:
        if observed.logits is None:
            raise InputError("the corrected head needs the classifier's logits")
        return checked_rows(observed.logits, "logits")


# --- a corrected head, and checks of the encoder ---------------------------------------------


DRIFT = 1.0
"""The drift of an encoder without a fault is below this limit: see :class:`Witnesses`."""
DEAD_SHARE = 0.05
"""A layer without a fault has a smaller share of its squared weights on constant inputs."""
WORSE = 0.06
"""By so much accuracy, at most, is a new head better than an old head without a fault."""


class Witnesses:
    """A corrected head, after three checks (the witnesses) of encoder and old head.

    A correct prediction of the new head does not exclude a fault of the encoder: with dead channels
    or changed late weights, the remaining features often still separate the classes, though not in
    the way that the old head was trained on. So three checks come first:

    1. *Drift.* A batch normalisation keeps the mean μ and the deviation σ of its inputs from
       training. The drift of an image is the mean over channels of ((m − μ)/σ)², m being the
       image's mean over space. On images like those of training its expectation is at most 1,
       since a mean varies no more than what it is the mean of. If the largest drift over all
       normalisations exceeds 1 for most reference images, the encoder does not fit its statistics.
    2. *Dead weights.* Training with weight decay leaves no weights on an input that is constant. If
       a layer, the head or one within the encoder, has more than 5 % of its squared weights there,
       its inputs varied during training and no longer do: channels before it are dead.
    3. *Accuracy of the old head.* A head at fault is less accurate on the reference images too. If
       the new head is at most 6 points more accurate on held-out images than the old head, the old
       head is not at fault, and its errors elsewhere come from the encoding. (Not 0 points: the new
       head was fitted on more images and is a little better for that.)

    If the first two checks find no fault of the encoder and the third finds one of the head, the
    corrected head decides image by image (a fresh head, if no logits are given). A check without
    input (drift, in a network without batch normalisation) is skipped. The third check assumes
    that the reference images are free of the fault that is searched for in the input. Errors of a
    classifier whose encoder and head are both at fault are attributed to the encoder. A fault of
    the weights that moves no normalisation's inputs far and kills no channel looks like a fault of
    the head to all three checks.

    Args:
        classes: their number C.
        weights: (C, f) of the head under study; None: it is not checked for dead weights.
        inner: of each layer of the encoder, by name, the share of its squared weights on inputs
            that are constant; None: the layers are not checked.

    Attributes:
        drift_: median drift of the reference images; NaN where not given.
        dead_share_: largest share of a layer's squared weights that lies on constant inputs.
        gain_: accuracy of the new head on reference images held out, less that of the old one.
        encoder_: why every error is attributed to the encoder; empty if it is decided image by
            image.
    """

    name = "witnesses"

    drift_: float
    dead_share_: float
    gain_: float
    encoder_: str

    def __init__(
        self,
        classes: int,
        weights: FloatArray | None = None,
        inner: Mapping[str, float] | None = None,
    ) -> None:
        self.classes = classes
        self.weights = weights
        self.inner = inner
        self._head = FreshHead(classes)

    def fit(self, reference: Observed) -> Self:
        """Make the checks, and fit the new head."""
        kind = FreshHead if reference.logits is None else CorrectedHead
        self._head = kind(self.classes).fit(reference)
        self.gain_ = self._head.gaussians_.accuracy_ - float(np.mean(~reference.wrong))
        self.drift_ = float("nan") if reference.drift is None else float(np.median(reference.drift))
        shares = {f"layer {name!r}": share for name, share in (self.inner or {}).items()}
        if self.weights is not None:
            dead = np.ptp(reference.features, axis=0) == 0
            squares = np.sum(np.asarray(self.weights, dtype=np.float64) ** 2, axis=0)
            shares["the head"] = float(squares[dead].sum() / max(squares.sum(), 1e-300))
        self.dead_share_ = max(shares.values(), default=0.0)
        reasons = []
        if self.drift_ > DRIFT:
            reasons.append(
                f"the activations of the encoder drift by {self.drift_:.3g} from its "
                "batch-normalisation statistics"
            )
        if self.dead_share_ > DEAD_SHARE:
            where = next(name for name, share in shares.items() if share == self.dead_share_)
            share = f"{self.dead_share_:.0%}"
            reasons.append(f"{share} of the squared weights of {where} are on constant inputs")
        if not reasons and self.gain_ <= WORSE:
            reasons.append(
                "the head is nearly as accurate on the reference images as a newly fitted head"
            )
        self.encoder_ = " and ".join(reasons)
        return self

    def locate(self, errors: Observed) -> Verdicts:
        """(k,) verdicts; undetermined where the true class has no reference images."""
        found = self._head.locate(errors)
        if self.encoder_:
            found[found == Fault.HEAD] = Fault.ENCODER
        return found


# --- shares ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shares:
    """Verdicts on some misclassified images, counted. Counts of disjoint sets add up."""

    head: int = 0
    encoder: int = 0
    undetermined: int = 0

    @classmethod
    def of(cls, verdicts: Verdicts) -> "Shares":
        """Count verdicts."""
        head, encoder, undetermined = np.bincount(verdicts, minlength=3).tolist()
        return cls(head, encoder, undetermined)

    def __add__(self, other: "Shares") -> "Shares":
        return Shares(
            self.head + other.head,
            self.encoder + other.encoder,
            self.undetermined + other.undetermined,
        )

    @property
    def decided(self) -> int:
        """Images with a verdict."""
        return self.head + self.encoder

    @property
    def images(self) -> int:
        """All of them."""
        return self.decided + self.undetermined

    @property
    def head_share(self) -> float | None:
        """Share of the decided images in which the head is at fault; None without any."""
        return self.head / self.decided if self.decided else None

    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval of ``head_share``; None where that is."""
        if not self.decided:
            return None
        low, high = wilson(np.array(self.head), self.decided)
        return float(low), float(high)

    @property
    def verdict(self) -> Fault:
        """That of most decided images; undetermined if there are none, or as many of each."""
        if self.head == self.encoder:
            return Fault.UNDETERMINED
        return Fault.HEAD if self.head > self.encoder else Fault.ENCODER


@dataclass(frozen=True)
class Localization:
    """The verdicts of one criterion on a classifier's errors.

    Attributes:
        rule: name of the criterion.
        verdicts: (k,) in the order of the errors.
        pairs: by (true, predicted) class, most errors first.
    """

    rule: str
    verdicts: Verdicts
    pairs: dict[tuple[int, int], Shares]

    @classmethod
    def of(cls, rule: str, errors: Observed, verdicts: Verdicts) -> Self:
        """Gather the verdicts on some errors."""
        pairs: dict[tuple[int, int], Shares] = {}
        for true, predicted in sorted(set(zip(errors.truth, errors.predicted, strict=True))):
            own = (errors.truth == true) & (errors.predicted == predicted)
            pairs[int(true), int(predicted)] = Shares.of(verdicts[own])
        ranked = dict(sorted(pairs.items(), key=lambda item: -item[1].images))
        return cls(rule, verdicts, ranked)

    @property
    def total(self) -> Shares:
        """Of all errors."""
        return sum(self.pairs.values(), Shares())


def localize_held_out(
    rules: Sequence[FaultRule], reference: Observed, errors: Observed, *, seed: int = 0
) -> list[Localization]:
    """Apply criteria to errors that show the same pictures as the images they are fitted on.

    Pictures are split into five folds. The errors of each fold are judged by criteria fitted on
    the reference images of the other four, so no criterion was fitted on the picture that it
    judges. In the end each criterion is fitted on all reference images. Where too few images are
    left to fit a criterion, its verdicts are undetermined.

    Args:
        rules: the criteria; each is fitted six times.
        reference: with ``groups``, the number of the picture that each row shows.
        errors: with ``groups``; misclassified images.
        seed: of the split.

    Raises:
        InputError: ``groups`` is missing.
    """
    if reference.groups is None or errors.groups is None:
        raise InputError("held-out criteria need groups: the picture that each row shows")
    parts, theirs = folds(reference.groups, seed), folds(errors.groups, seed)
    found = []
    for rule in rules:
        verdicts = np.full(len(errors), Fault.UNDETERMINED, dtype=np.int8)
        for part in np.unique(theirs):
            here = theirs == part
            try:
                verdicts[here] = rule.fit(reference.take(parts != part)).locate(errors.take(here))
            except TooFewImagesError:
                continue
        with suppress(TooFewImagesError):
            rule.fit(reference)
        found.append(Localization.of(rule.name, errors, verdicts))
    return found
