"""Of classifiers: labelled images, and what is done to them first."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from profiler.api.objects import Concepts, Model, check_names, open_subject, open_words
from profiler.api.results import Profile
from profiler.concepts.attributes import attributes_for, check_concepts
from profiler.core.store import Store
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
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import open_vlm
from profiler.profile.result import attributes_of
from profiler.session import check_writable, choose_device

log = logging.getLogger("profiler")

Labelled = Path | str | LabelledSequence | Sequence[Any] | Any
"""A folder with a subfolder for each class, a CSV of path,label; or, in memory, tuples of image and
label, a data set of torch that gives them, or what ``load_images`` returned."""
Classes = Path | str | Sequence[str]
"""What the outputs are called: a file, or names in their order."""
Proposing = Callable[[Sequence[str]], Concepts]
"""Names of classes → concepts that separate them; such as
:func:`profiler.concepts.proposing.propose_concepts` with a language model."""


def open_labels(
    source: Labelled, classes: Classes | None, limit: int | None
) -> tuple[Path | LabelledSequence, Path | Sequence[str] | None, int | None]:
    """A path, or images in memory whose labels are checked; names; and the limit left to keep."""
    data, left = _images_of(source, limit)
    names = Path(classes) if isinstance(classes, str) else classes
    check_data(data, names)
    return data, names, left


def _images_of(source: Labelled, limit: int | None) -> tuple[Path | LabelledSequence, int | None]:
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
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
    return LabelledSequence.of(ImageSequence.open(source, limit=limit)), None


def check_data(data: Path | LabelledSequence, classes: Path | Sequence[str] | None) -> None:
    """Refuse labelled images or names of classes that are not there."""
    # A folder of folders is read once, and later: it may hold a million images.
    if isinstance(data, Path) and not (data.is_dir() and any(d.is_dir() for d in data.iterdir())):
        find_labelled(data)
    if isinstance(classes, Path):
        text_of(classes, "class file")


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
    """A classifier, labelled images and concepts, of which nothing is loaded yet."""

    model: Model
    head: str | None
    preprocess: str | Preprocess | None
    device: str
    data: Path | LabelledSequence
    classes: Path | Sequence[str] | None
    limit: int | None
    words: ConceptSet | Proposing | None
    vlm: str | VLM

    @classmethod
    def given(
        cls,
        model: Model,
        images: Labelled,
        concepts: Concepts | Profile | Proposing | None,
        classes: Classes | None,
        head: str | None,
        vlm: str | VLM,
        preprocess: str | Preprocess | None,
        limit: int | None,
        device: str,
        folder: Path | None,
    ) -> "LabelledCase":
        """What a function or a command was given; ``folder`` is where it will write to."""
        check_names(model, vlm)
        choose_device(device)
        source, names, left = open_labels(images, classes, limit)
        words = concepts if callable(concepts) else words_of(concepts)
        if folder is not None:
            check_writable(folder)
        return cls(model, head, preprocess, device, source, names, left, words, vlm)

    def open(self) -> tuple[Classifier, LabelledImages]:
        """The network, divided into encoder and head, and images labelled with its outputs."""
        subject = open_subject(self.model, self.preprocess, self.device)
        classifier = Classifier.find(subject, self.head)
        images = _labelled(self.data, self.classes, self.limit, classifier.outputs)
        if images.classes.assumed:
            log.warning("warning: %s", images.classes.assumed)
        return classifier, images

    def concepts(self, images: LabelledImages) -> ConceptSet:
        """Those that were given, or else those known for the classes that have images."""
        if self.words is None:
            return attributes_for(images.present)
        if isinstance(self.words, ConceptSet):
            return self.words
        return check_concepts(open_words(self.words(images.present)))

    def inputs(self, outputs: int) -> partial[tuple[LabelledImages, None, Callable[[], VLM]]]:
        """Opens images and VLM on a device, in another process too, where they have names."""
        return partial(open_labelled_inputs, self.data, self.classes, self.limit, self.vlm, outputs)

    def open_vlm(self, store: Store | None) -> VLM:
        """What reads the images beside the classifier; ``store`` keeps the words it reads by."""
        return _opened(self.vlm, choose_device(self.device), store)


def open_labelled_inputs(
    data: Path | LabelledSequence,
    classes: Path | Sequence[str] | None,
    limit: int | None,
    vlm: str | VLM,
    outputs: int,
    place: torch.device,
) -> tuple[LabelledImages, None, Callable[[], VLM]]:
    """Labelled images for a classifier with so many outputs, and what opens the VLM."""
    return _labelled(data, classes, limit, outputs), None, lambda: _opened(vlm, place)


def _labelled(
    data: Path | LabelledSequence,
    classes: Path | Sequence[str] | None,
    limit: int | None,
    outputs: int,
) -> LabelledImages:
    names, mapping = open_classes(classes, outputs, data=data)
    return open_labelled(data, names, mapping, limit=limit)


def _opened(vlm: str | VLM, place: torch.device, store: Store | None = None) -> VLM:
    return open_vlm(vlm, place, store) if isinstance(vlm, str) else vlm


def words_of(concepts: Concepts | Profile | None) -> ConceptSet | None:
    """Concepts to compare: words, or the most frequent labels of a profile."""
    if isinstance(concepts, Profile):
        return attributes_of(concepts.run)
    return None if concepts is None else check_concepts(open_words(concepts))
