"""A finished diagnosis: which errors a classifier makes, on which concepts, in encoder or head.

Its files are written by :mod:`profiler.debug.files`, its page by
:mod:`profiler.debug.page`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from profiler.concepts.heatmap import Differential, Finding, Heatmap, Heatmaps
from profiler.core.arrays import Counts, FloatArray
from profiler.data.records import ConceptRecord, DataRecord
from profiler.debug.encoder_or_head import Fault, Localization, Shares
from profiler.llm.base import Usage
from profiler.models.records import ClassifierRecord, VLMRecord

Level = Literal["encoder", "vlm"]
LEVELS: tuple[Level, ...] = ("encoder", "vlm")
"""Whose concepts: the encoder's, through the linear alignment; or the VLM's, of the same images."""


@dataclass(frozen=True)
class Accuracy:
    """Correct predictions, and the images they are counted on."""

    correct: int
    images: int

    @property
    def share(self) -> float:
        """Of the images; NaN without any."""
        return self.correct / self.images if self.images else float("nan")


@dataclass(frozen=True)
class MapQuality:
    """Quality of the linear alignment, on which the concepts of the encoder rest.

    Attributes:
        r2: share of the variance of the VLM's embeddings explained, on held-out images.
        ridge: chosen by held-out error.
        images: it was fitted on.
        warning: about the fit; empty where it is a good one.
        aligned: zero-shot accuracy of the encoder: class captions, through the linear alignment.
        vlm: zero-shot accuracy of the VLM itself on the same images.
    """

    r2: float
    ridge: float
    images: int
    warning: str
    aligned: Accuracy
    vlm: Accuracy


@dataclass(frozen=True)
class WrongImage:
    """A misclassified image.

    Attributes:
        image: its number among those examined, which is that of its thumbnail.
        name: of its file.
        true: class.
        predicted: class.
        confidence: softmax probability of the predicted class.
        true_confidence: that of the true class.
        verdicts: by criterion.
        strengths: (M,) of the concepts, at the level of the encoder.
    """

    image: int
    name: str
    true: int
    predicted: int
    confidence: float
    true_confidence: float
    verdicts: Mapping[str, Fault]
    strengths: FloatArray


@dataclass(frozen=True)
class Told:
    """Some sentences, and who wrote them."""

    text: str
    author: str


@dataclass(frozen=True)
class Confusion:
    """The images of one class that were predicted to be of another.

    Attributes:
        true: class.
        predicted: class.
        errors: how many images.
        wrong: summary heatmap of these images, by level.
        differential: correct predictions of the true class less these, by level; None where the
            class has no correct predictions.
        shares: by criterion, how many verdicts are head, encoder, undetermined.
        told: what happened, in words.
        level: whose heatmaps are shown first.
    """

    true: int
    predicted: int
    errors: int
    wrong: Mapping[Level, Heatmap]
    differential: Mapping[Level, Differential | None]
    shares: Mapping[str, Shares]
    told: Told = Told("", "")
    level: Level = "encoder"

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The responsible concepts: significant cells at the level that is shown first."""
        found = self.differential[self.level]
        return () if found is None else found.findings()


@dataclass(frozen=True)
class RuleRecord:
    """A criterion that attributes errors to encoder or head.

    Attributes:
        found: its verdicts on all errors.
        reason: why it attributes all errors to one side, or why it could not be applied; in words,
            empty if it decided image by image.
    """

    found: Localization
    reason: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found.

    Attributes:
        command: as given.
        date: of the diagnosis.
        classifier: under study.
        data: labelled images.
        vlm: that reads images and captions.
        concepts: the concept set.
        words: its M concepts.
        classes: names of all C classes, each once.
        change: how the images were changed first, in words: ``PGD, ε = 8/255, …`` or
            ``gaussian_noise:3``; empty if they are unmodified.
        before: accuracy on the unmodified images.
        confusion: (C, C) images of each class (rows) by predicted class (columns), after the
            change.
        quality: of the linear alignment.
        heatmaps: by level. *Right* predictions are the correct ones on the unmodified images.
            *Wrong* ones are all incorrect predictions; of changed images, those that the change
            made incorrect.
        rules: criteria by name, the one that counts first.
        rule: name of the criterion that counts.
        confusions: most errors first.
        images: the misclassified images that were explained, in the order of the data.
        thumbnails: WebP pictures of some of them, and of some correctly classified images, by
            number.
        examples: by class, numbers of the thumbnails of correctly classified images. If the images
            were changed, these numbers start after those of the images examined, because the
            thumbnails show the unmodified images.
        told: the finding in words.
        warnings: about data and linear alignment.
        settings: options of the command.
        versions: of packages.
        timings: seconds by stage.
        usage: of the language model.
        level: whose heatmaps are shown first.
        files: the contents of the files, by name.
    """

    command: str
    date: str
    classifier: ClassifierRecord
    data: DataRecord
    vlm: VLMRecord
    concepts: ConceptRecord
    words: tuple[str, ...]
    classes: tuple[str, ...]
    change: str
    before: Accuracy
    confusion: Counts
    quality: MapQuality
    heatmaps: Mapping[Level, Heatmaps]
    rules: Mapping[str, RuleRecord]
    rule: str
    confusions: tuple[Confusion, ...]
    images: tuple[WrongImage, ...]
    thumbnails: Mapping[int, bytes]
    examples: Mapping[int, Sequence[int]]
    told: Told = Told("", "")
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    level: Level = "encoder"
    files: Mapping[str, str | bytes] = field(default_factory=dict, repr=False)

    @property
    def after(self) -> Accuracy:
        """Accuracy on the images examined."""
        return Accuracy(int(np.trace(self.confusion)), int(self.confusion.sum()))

    @property
    def shares(self) -> Shares:
        """Verdicts of the criterion that counts, on all explained errors."""
        return self.rules[self.rule].found.total

    @property
    def present(self) -> tuple[int, ...]:
        """Classes that have images."""
        return tuple(np.flatnonzero(self.confusion.sum(axis=1)).tolist())

    def differential(self, label: int | None) -> Differential | None:
        """Correct less incorrect predictions of a true class; of all classes if None.

        None where a side is empty.
        """
        return self.heatmaps[self.level].differential(label=label)
