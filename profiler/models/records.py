"""What a run records of the networks it used."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.data.annotations import is_annotated

if TYPE_CHECKING:
    from profiler.models.classifier import Classifier
    from profiler.models.vlm.base import VLM


@dataclass(frozen=True)
class LayerRecord:
    """A layer as ``run.json`` names it; of an imported one, only its name and units are known."""

    name: str
    kind: str
    shape: tuple[int, ...]
    units: int
    pooling: str
    numbers: tuple[int, ...] = ()
    """The units' numbers in the network, where they are not 0, 1, 2 … (an imported selection)."""

    def number(self, unit: int) -> int:
        """The number in the network of the unit at a place in this layer's arrays."""
        return self.numbers[unit] if self.numbers else unit


@dataclass(frozen=True)
class SubjectRecord:
    """The network under study; of an imported run only the name and the layers are known."""

    name: str
    weights: str
    preprocessing: str
    fingerprint: str
    layers: tuple[LayerRecord, ...]
    step: float | None = None
    """How far its training was, if its checkpoint says so."""


@dataclass(frozen=True)
class VocabularyRecord:
    """A list of words that a vision-language model knows images by."""

    name: str
    words: int
    weight: float


@dataclass(frozen=True)
class VLMRecord:
    """The vision-language model."""

    name: str
    template: str
    limits: str
    fingerprint: str
    vocabularies: tuple[VocabularyRecord, ...] = ()
    """Of ConSE: its lists; others have none."""

    @property
    def annotated(self) -> bool:
        """Whether annotations stand in the place of a model; see :mod:`.vlm.annotated`."""
        return is_annotated(self.name)

    @classmethod
    def of(cls, vlm: "VLM", template: str | None = None) -> "VLMRecord":
        """What there is to record of a model.

        Args:
            vlm: the model.
            template: of captions, if it is not the model's own.
        """
        lists = tuple(
            VocabularyRecord(each.name, len(each.words), each.weight)
            for each in getattr(vlm, "vocabularies", ())
        )
        return cls(vlm.name, template or vlm.template, vlm.limits, vlm.fingerprint, lists)


@dataclass(frozen=True)
class ClassifierRecord:
    """The classifier under study.

    Attributes:
        name: as the user gave it.
        weights: where they come from, in words.
        preprocessing: in words.
        fingerprint: of the network.
        head: name of its last linear layer.
        features: width of its encodings.
        outputs: number of its classes.
    """

    name: str
    weights: str
    preprocessing: str
    fingerprint: str
    head: str
    features: int
    outputs: int

    @classmethod
    def of(cls, classifier: "Classifier") -> "ClassifierRecord":
        """What is to be recorded of a classifier."""
        subject = classifier.subject
        return cls(
            subject.name,
            subject.weights,
            subject.input_text,
            subject.fingerprint,
            classifier.head,
            classifier.features,
            classifier.outputs,
        )

    @property
    def parts(self) -> str:
        """Encoder and head, in words."""
        return (
            f"the encoder gives {self.features:,} features to the head (layer “{self.head}”), "
            f"which predicts {self.outputs:,} classes"
        )
