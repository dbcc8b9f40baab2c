"""Of classifiers: labelled images, and what is done to them first."""

import logging
from pathlib import Path

from torch import nn

from profiler.api.objects import Concepts, check_names, open_subject, open_words
from profiler.api.results import Profile
from profiler.concepts.attributes import attributes_for, check_concepts
from profiler.data.concept_sets import ConceptSet
from profiler.data.corruptions import Corruption
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import LabelledImages, open_labelled
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


def labelled_for(
    data: Path, classes: Path | None, outputs: int, limit: int | None
) -> LabelledImages:
    """The labelled images, for a classifier with so many outputs.

    Args:
        data: a folder with a subfolder for each class, or a CSV of path,label.
        classes: a file that says what the outputs are called.
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


def open_case(
    model: str | nn.Module | Subject,
    images: Path | str,
    concepts: Concepts | Profile | None,
    classes: Path | str | None,
    head: str | None,
    vlm: str | VLM,
    preprocess: str | Preprocess | None,
    limit: int | None,
    device: str,
) -> tuple[Classifier, LabelledImages, ConceptSet, VLM]:
    """The classifier, its labelled images, the concepts to look for, and what reads the images."""
    if not isinstance(images, str | Path):
        raise InputError(
            "labelled images are a folder with a subfolder for each class, or a CSV of path,label, "
            f"not of type {type(images).__name__}"
        )
    check_names(model, vlm)
    words = None
    if isinstance(concepts, Profile):
        words = attributes_of(concepts.run)
    elif concepts is not None:
        words = check_concepts(open_words(concepts))
    place = choose_device(device)
    classifier = Classifier.find(open_subject(model, preprocess, device), head)
    named = None if classes is None else Path(classes)
    data = labelled_for(Path(images), named, classifier.outputs, limit)
    if words is None:
        words = attributes_for([data.classes.names[i] for i in sorted(set(data.truth.tolist()))])
    if words is None:
        raise UsageError(
            "no concepts are known for these classes; give `concepts`: words, a text file, or a "
            "profile, whose most frequent labels are taken"
        )
    reader = open_vlm(vlm, place) if isinstance(vlm, str) else vlm
    return classifier, data, words, reader
