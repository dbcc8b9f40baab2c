"""Is it the encoder or the head that makes a classifier wrong? Rules that answer for each error.

f = head ∘ encoder, z = encoder(x), head(z) = W z + b. A misclassified image is the *encoder's*
fault if z no longer says what the image shows, the *head's* if z says it and the head does not
hear. The rules differ in how they ask z. All have one signature, :class:`FaultRule`: fitted on
labelled reference images as the classifier under study encodes them, applied to misclassified
images, one verdict each. None sees another, healthy classifier.

============== ====================================================================================
name           the head is at fault where …
============== ====================================================================================
``zero-shot``  the class captions nearest to r(z) are those of the true class (Hu et al., 2025)
``heatmap``    H(x) is more like the right answers of the true class than of the predicted one
``fresh-head`` a new head, fitted on the reference images, answers rightly
``corrected``  … which reads the old head's answers beside the encoding
``witnesses``  … and the encoder is in order by its own statistics, and the old head is not
============== ====================================================================================

Otherwise the encoder is. Where a rule has no standing (a class without reference images; a VLM that
does not itself recognise the image) its verdict is *undetermined*, counted apart.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from profiler.activations.observe import Observed
from profiler.concepts.heatmap import LEVEL, compare_pairs
from profiler.concepts.space import ConceptSpace, dealt
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray, checked_rows
from profiler.core.statistics import wilson
from profiler.errors import InputError


class TooFewImagesError(InputError):
    """A rule cannot be fitted on so few images."""


class Fault(IntEnum):
    """Where a misclassified image went wrong."""

    HEAD = 0
    ENCODER = 1
    UNDETERMINED = 2


Verdicts = NDArray[np.int8]
"""(k,) of :class:`Fault`."""


class FaultRule(Protocol):
    """Decides for each misclassified image whether encoder or head is at fault."""

    @property
    def name(self) -> str:
        """As people choose it."""
        ...

    def fit(self, reference: Observed) -> Self:
        """Learn from labelled images, right and wrong ones."""
        ...

    def locate(self, errors: Observed) -> Verdicts:
        """(k,) verdicts on misclassified images, none of which ``fit`` has seen."""
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
                f"classes must be 0 … {classes - 1}; got {labels.min()} … {labels.max()}"
            )


# --- the rules of the papers -----------------------------------------------------------------


class ZeroShot:
    """The VLM's captions read r(z); the VLM on the image itself is asked whether they can.

    Hu et al. (2025) call it an oracle. It has no standing on an image that the VLM itself, from
    the pixels, does not put into the true class: such an error is undetermined.

    Args:
        classes: the class captions in the classifier's features, in the order of the classes.
    """

    name = "zero-shot"

    def __init__(self, classes: ConceptSpace) -> None:
        self.classes = classes

    def fit(self, reference: Observed) -> Self:
        """Nothing is learned: the map lies in the concept space."""
        _check_classes(reference, len(self.classes))
        return self

    def locate(self, errors: Observed) -> Verdicts:
        """(k,) verdicts; needs ``errors.embeddings``."""
        _check_classes(errors, len(self.classes))
        if errors.embeddings is None:
            raise InputError("the zero-shot rule needs the VLM's embeddings of the images")
        vlm = checked_rows(errors.embeddings, "embeddings")
        seen = (vlm @ self.classes.directions.T).argmax(axis=1)
        read = self.classes.strengths(errors.features).argmax(axis=1)
        return _verdicts(read == errors.truth, seen == errors.truth)


class NearestHeatmap:
    """H(x) against the summaries of right answers, by cosine.

    Nearer to the true class's summary than to the predicted one's: the encoding looks as that of
    a right answer does, so the head is at fault. A class without right answers is represented by
    all its labelled images: a head that confuses two classes throughout leaves neither any.

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
    """For each class that has images: rows of its right answers, or of all its images."""
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
ANSWERS_WEIGHT = 1.0
"""Spread of the old head's answers beside that of the features, where both are read."""
SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
"""Tried for the covariance within classes."""


class ClassGaussians:
    """A Gaussian a class, all of one covariance: a head in closed form.

    The covariance within classes, S, is shrunk towards a multiple of the identity,
    (1 − γ) S + γ (tr S / f) 1, by the γ whose classes, fitted on four fifths of the images, are
    right most often on the last (the largest of equals). Classes are equally probable beforehand.
    (Regularised linear discriminant analysis: Friedman, *JASA* 84, 1989.)

    Args:
        classes: their number C.

    Attributes:
        means_: (C, f); NaN for a class without images.
        shrinkage_: γ.
        held_out_: (n,) the class given to each reference image while held out.
        accuracy_: share of them put right.
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
        parts = dealt(np.arange(len(z)) if groups is None else groups, seed=0)
        if len(np.unique(parts)) < 2:
            raise TooFewImagesError(f"a head cannot be fitted, and tested, on {len(z)} image(s)")
        nearest = np.zeros((len(SHRINKAGES), len(z)), dtype=np.int64)
        for part in np.unique(parts):
            held = parts == part
            pooled = _Pooled.of(z[~held], truth[~held], self.classes)
            for row, shrinkage in enumerate(SHRINKAGES):
                nearest[row, held] = pooled.distances(z[held], shrinkage).argmin(axis=1)
        right = np.mean(nearest == truth, axis=1)
        best = int(np.flatnonzero(right == right.max())[-1])
        self.shrinkage_, self.accuracy_ = SHRINKAGES[best], float(right[best])
        self.held_out_ = nearest[best]
        self._pooled = _Pooled.of(z, truth, self.classes)
        self.means_ = self._pooled.means
        return self

    def distances(self, z: FloatArray) -> Float64:
        """Squared distances (n, C) to the classes; infinite to one without images."""
        return self._pooled.distances(checked_rows(z, "features"), self.shrinkage_)

    def predict(self, z: FloatArray) -> IntArray:
        """(n,) the class that a fresh head gives."""
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

    If it answers rightly, the encoding holds the class, in a form that a linear head can read.

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
    """A new head that reads the old one's answers beside the encoding.

    Where reference images are few, a head made of nothing is worse than the old one was before its
    fault, and its own mistakes pass for the encoder's. Most faults leave something of a head: rows
    swapped, scaled or shifted are a correction of C numbers. So the logits are read as well, scaled
    so that they vary as much as all features together (:data:`ANSWERS_WEIGHT`); shrinking the
    covariance then costs them least, and they are believed as far as the reference images bear
    them out.

    Attributes:
        mean_: (C,) of the logits on the reference images.
        scale_: factor they are multiplied by.
    """

    name = "corrected"

    mean_: Float64
    scale_: float

    def _prepare(self, reference: Observed) -> None:
        answers = self._answers(reference)
        self.mean_ = answers.mean(axis=0)
        theirs = float(np.asarray(reference.features, dtype=np.float64).var(axis=0).sum())
        ours = float(answers.var(axis=0).sum())
        self.scale_ = ANSWERS_WEIGHT * np.sqrt(theirs / ours) if ours > 0 else 0.0

    def read(self, observed: Observed) -> FloatArray:
        """(n, f + C) encodings and scaled logits."""
        answers = (self._answers(observed) - self.mean_) * self.scale_
        return np.concatenate([observed.features, answers], axis=1)

    @staticmethod
    def _answers(observed: Observed) -> Float64:
        if observed.logits is None:
            raise InputError("the corrected head needs the classifier's logits")
        return checked_rows(observed.logits, "logits")


# --- witnesses -------------------------------------------------------------------------------


DRIFT = 1.0
"""Drift of an encoder in order is below it: see :class:`Witnesses`."""
DEAD_SHARE = 0.05
"""Of the squared weights of a layer in order, fewer lie on inputs that are constant."""
WORSE = 0.06
"""Points of accuracy by which a new head beats one that is in order, at most; likewise."""


class Witnesses:
    """A corrected head, believed only if nothing else speaks against the encoder.

    That a new head answers rightly does not clear the encoder: where some of its channels are
    dead or its late weights have changed, what is left often still tells the classes apart, though
    not in the way the old head was trained to read. So the encoder is asked first, for whatever it
    says of itself:

    1. *Drift.* A batch normalisation remembers mean μ and deviation σ of its inputs from training.
       The drift of an image there is the mean over channels of ((m − μ)/σ)², m being the image's
       mean over space. Within an encoder in order its expectation is at most 1 on images like those
       of training, since a mean varies no more than what it is the mean of. If the largest over
       all normalisations exceeds 1 for most reference images, encoder and statistics do not belong
       together.
    2. *Dead weights.* Training with weight decay leaves no weights on an input that is constant. If
       a layer, the head or one within the encoder, has more than 5 % of its squared weights there,
       its inputs once lived: what should feed them is dead.
    3. *The old head's own record.* A head at fault is at fault on the reference images too. If the
       new head, on images held out, is right no more than 6 points more often than the old one,
       the old one is in order, and what it got wrong elsewhere reached it wrong. (Not 0 points: a
       new head has seen further images, and is a little better for that.)

    Where the encoder is not found guilty by the first two, nor the head cleared by the third, the
    corrected head decides image by image (a fresh one, if the old one's answers are not given).
    What is not given (drift, in a network without batch normalisation) is not asked. The third
    witness supposes reference images free of the fault that is looked for in the input; an encoder
    and a head at fault together are put down to the encoder. A fault of the weights that moves no
    normalisation's inputs far and kills no channel looks to all three like a fault of the head.

    Args:
        classes: their number C.
        weights: (C, f) of the head under study; None: it is not asked for dead weights.
        inner: of each layer of the encoder, by name, the share of its squared weights on inputs
            that are constant; None: they are not asked.

    Attributes:
        drift_: median drift of the reference images; NaN where not given.
        dead_share_: largest share of a layer's squared weights that lies on constant inputs.
        gain_: accuracy of the new head on reference images held out, less that of the old one.
        encoder_: why every error is the encoder's; empty if that is decided image by image.
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
        """Hear the witnesses, and fit the new head."""
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
        said = []
        if self.drift_ > DRIFT:
            said.append(f"the encoder drifts by {self.drift_:.3g} from its own statistics")
        if self.dead_share_ > DEAD_SHARE:
            where = next(name for name, share in shares.items() if share == self.dead_share_)
            share = f"{self.dead_share_:.0%}"
            said.append(f"nothing arrives where {share} of the weights of {where} are")
        if not said and self.gain_ <= WORSE:
            said.append("the head does nearly as well on reference images as a new one would")
        self.encoder_ = " and ".join(said)
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

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Wilson's interval of ``head_share``; None where that is."""
        if not self.decided:
            return None
        low, high = wilson(np.array(self.head), self.decided, level)
        return float(low), float(high)

    @property
    def verdict(self) -> Fault:
        """That of most decided images; undetermined if there are none, or as many of each."""
        if self.head == self.encoder:
            return Fault.UNDETERMINED
        return Fault.HEAD if self.head > self.encoder else Fault.ENCODER


@dataclass(frozen=True)
class Localization:
    """What a rule says of a classifier's errors.

    Attributes:
        rule: its name.
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
    """Apply rules to errors that show the same pictures as the images they are fitted on.

    Pictures are dealt to five parts; the errors of each are located by rules fitted on the
    reference images of the other four, so that no rule has seen the picture it speaks about. In the
    end each rule is fitted on all reference images. Where a part leaves a rule too few images to
    be fitted on, it has no standing there: undetermined.

    Args:
        rules: each is fitted six times.
        reference: with ``groups``, the number of the picture that each row shows.
        errors: with ``groups``; misclassified images.
        seed: deals.
    """
    if reference.groups is None or errors.groups is None:
        raise InputError("which picture each row shows has to be known to hold some out")
    parts, theirs = dealt(reference.groups, seed), dealt(errors.groups, seed)
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
