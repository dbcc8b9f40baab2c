"""Of classifiers: labelled images, and what is done to them first."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from profiler.api.objects import Concepts, check_names, open_subject, open_words
from profiler.api.results import Profile
from profiler.concepts.attributes import attributes_for, check_concepts
from profiler.core.text import text_of
from profiler.data.concept_sets import ConceptSet
from profiler.data.corruptions import Corruption
from profiler.data.images import ImageSequence
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import LabelledImages, open_labelled
from profiler.data.labelled.memory import LabelledSequence
from profiler.data.labelled.reading import find_labelled
from profiler.errors import InputError, UsageError
from profiler.models.attacks import Attack, parse_eps
from profiler.models.classifier import Classifier
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import open_vlm
from profiler.profile.result import attributes_of
from profiler.session import choose_device

log = logging.getLogger("profiler")

Labelled = Path | str | LabelledSequence | Sequence[Any] | Any
"""A folder with a subfolder for each class, a CSV of path,label; or, in memory, tuples of image and
label, a data set of torch that gives them, or what ``load_images`` returned."""
Classes = Path | str | Sequence[str]
"""What the outputs are called: a file, or names in their order."""


def open_labels(source: Labelled, limit: int | None) -> tuple[Path | LabelledSequence, int | None]:
    """A path, or images in memory whose labels are checked; and the limit that is left to keep."""
    if isinstance(source, str | Path):
        return Path(source), limit
    if hasattr(type(source), "fingerprint") and hasattr(type(source), "read"):
        if isinstance(source, LabelledSequence):
            return source, limit
        if not isinstance(source, ImageSequence):
            raise InputError(
                "a folder or a built-in set that is loaded has no labels; give the path of a "
                "folder with a subfolder for each class, or of a CSV of path,label"
            )
        return LabelledSequence.of(source), limit
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    return LabelledSequence.of(ImageSequence.open(source, limit=limit)), None


def class_names(classes: Classes | None) -> Path | Sequence[str] | None:
    """Names as they are; a file as its path."""
    return Path(classes) if isinstance(classes, str) else classes


def check_data(data: Path | LabelledSequence, classes: Path | Sequence[str] | None) -> None:
    """Refuse labelled images or names of classes that are not there."""
    # A folder of folders is read once, and later: it may hold a million images.
    if isinstance(data, Path) and not (data.is_dir() and any(d.is_dir() for d in data.iterdir())):
        find_labelled(data)
    if isinstance(classes, Path):
        text_of(classes, "class file")


def labelled_for(
    data: Path | LabelledSequence,
    classes: Path | Sequence[str] | None,
    outputs: int,
    limit: int | None,
) -> LabelledImages:
    """The labelled images, for a classifier with so many outputs.

    Args:
        data: a folder with a subfolder for each class, a CSV of path,label, or images in memory.
        classes: what the outputs are called: names, or a file.
        outputs: how many there are.
        limit: keep that many images, evenly spread.
    """
    names, mapping = open_classes(classes, outputs, data=data)
    if names.assumed:
        log.warning("warning: %s", names.assumed)
    return open_labelled(data, names, mapping, limit=limit)


def change_of(
    attack: str | Attack | None,
    eps: str,
    steps: int,
    corrupt: str | Corruption | None,
    seed: int,
) -> tuple[Attack | None, Corruption | None]:
    """What is done to the images first: an attack, a corruption, or nothing."""
    if attack is not None and corrupt is not None:
        raise UsageError("--attack and --corrupt exclude each other; give one of them")
    return (
        Attack(attack, parse_eps(eps), steps, seed) if isinstance(attack, str) else attack,
        Corruption.parse(corrupt) if isinstance(corrupt, str) else corrupt,
    )


def changes_of(
    attacks: Sequence[str | Attack],
    eps: str,
    steps: int,
    corruptions: Sequence[str | Corruption],
    seed: int,
) -> tuple[tuple[Attack, ...], tuple[Corruption, ...]]:
    """What else is done to images: each attack at each strength of ``eps``, and the corruptions."""
    strengths = [parse_eps(each.strip()) for each in eps.split(",")]
    attacked = [
        one
        for each in attacks
        for one in (
            [Attack(each, strength, steps, seed) for strength in strengths]
            if isinstance(each, str)
            else [each]
        )
    ]
    harmed = (Corruption.parse(each) if isinstance(each, str) else each for each in corruptions)
    return tuple(attacked), tuple(harmed)


@dataclass(frozen=True)
class LabelledCase:
    """A classifier and its labelled images, as they were given in Python.

    Attributes:
        classifier: the network, divided into encoder and head.
        images: with the output that each should have highest.
        words: the concepts that were given; None where none were.
        eyes: opens the VLM.
    """

    classifier: Classifier
    images: LabelledImages
    words: ConceptSet | None
    eyes: Callable[[], VLM]

    @classmethod
    def open(
        cls,
        model: str | nn.Module | Subject,
        images: Labelled,
        concepts: Concepts | Profile | None,
        classes: Classes | None,
        head: str | None,
        vlm: str | VLM,
        preprocess: str | Preprocess | None,
        limit: int | None,
        device: str,
    ) -> "LabelledCase":
        """Names and labels are checked before the network is loaded, which knows its outputs."""
        check_names(model, vlm)
        source, left = open_labels(images, limit)
        names = class_names(classes)
        check_data(source, names)
        words = words_of(concepts)
        place = choose_device(device)
        classifier = Classifier.find(open_subject(model, preprocess, device), head)
        data = labelled_for(source, names, classifier.outputs, left)
        return cls(
            classifier, data, words, lambda: open_vlm(vlm, place) if isinstance(vlm, str) else vlm
        )

    @property
    def concepts(self) -> ConceptSet:
        """Those that were given, or else those known for the classes that have images."""
        return self.words or attributes_for(self.images.present)


def words_of(concepts: Concepts | Profile | None) -> ConceptSet | None:
    """Concepts to compare: words, or the most frequent labels of a profile."""
    if isinstance(concepts, Profile):
        return attributes_of(concepts.run)
    return None if concepts is None else check_concepts(open_words(concepts))
