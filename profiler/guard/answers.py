"""Outputs of a classifier for images: encodings and logits, also of augmented views."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from profiler.core.arrays import BoolArray, IntArray
from profiler.core.text import listed
from profiler.data.images import ProbeSet, UnreadableImageError
from profiler.data.labelled.names import ClassNames, fold
from profiler.errors import ContextError
from profiler.guard.guard import Guard
from profiler.guard.rules.base import Views, sound
from profiler.models.attacks import Attack, PixelScale
from profiler.models.classifier import Classifier
from profiler.models.subject.network import weights_digest
from profiler.models.views import VIEWS

REFERENCE = "reference.safetensors"
"""In the guard's folder: outputs for the images it was fitted on, to fit baselines."""
BATCH = 32


@dataclass(frozen=True)
class Answers:
    """Outputs of a classifier for images, in their order.

    Attributes:
        features: (n, f); NaN where the image could not be read.
        logits: (n, C); likewise.
        views: augmented views of the same images, likewise; None without any.
        problems: by row, why an image could not be read.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    views: Views | None
    problems: Mapping[int, str]

    @property
    def fine(self) -> BoolArray:
        """(n,) whether all numbers are finite."""
        fine: BoolArray = sound(self.features, self.logits)
        return fine if self.views is None else fine & self.views.fine

    @property
    def predicted(self) -> IntArray:
        """(n,) class of the highest logit."""
        predicted: IntArray = self.logits.argmax(axis=1)
        return predicted


def answers_of(
    classifier: Classifier,
    probe: ProbeSet,
    indices: Sequence[int],
    *,
    batch: int = BATCH,
    views: Sequence[str] = (),
    attack: Attack | None = None,
    truth: IntArray | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[Sequence[int], Answers]]:
    """Outputs for the images at ``indices``, a batch at a time, with their indices.

    Args:
        classifier: the network.
        probe: the images.
        indices: which of them.
        batch: images at a time.
        views: augmented views of each image, names in :data:`profiler.models.views.VIEWS`.
        attack: on the classifier, away from ``truth``, applied first.
        truth: true class by index.
        advance: called with the number of images done.

    Yields:
        Indices of a batch, and the outputs for it.
    """
    scale = PixelScale.measure(classifier.preprocess, classifier.name) if attack else None
    model = classifier.logits()
    for lo in range(0, len(indices), batch):
        rows = list(indices[lo : lo + batch])
        size = len(rows), 1 + len(views)
        features = np.full((*size, classifier.features), np.nan, dtype=np.float32)
        logits = np.full((*size, classifier.outputs), np.nan, dtype=np.float32)
        good, tensors, problems = [], [], {}
        for place, index in enumerate(rows):
            try:
                tensors.append(classifier.preprocess(probe.read(index)))
                good.append(place)
            except UnreadableImageError as error:
                problems[place] = str(error)
        if good:
            images = torch.stack(tensors).to(classifier.device)
            if attack is not None and scale is not None and truth is not None:
                chosen = [rows[place] for place in good]
                labels = torch.from_numpy(np.asarray(truth)[chosen])
                images = attack(model, images, labels, scale, chosen)
            for place, seen in enumerate((images, *(VIEWS[name](images) for name in views))):
                read = classifier.read(classifier.readings, seen)
                features[good, place] = read["features"].cpu().numpy()
                logits[good, place] = read["logits"].cpu().numpy()
        advance(len(rows))
        looks = Views(features[:, 1:], logits[:, 1:]) if views else None
        yield rows, Answers(features[:, 0], logits[:, 0], looks, problems)


def check_subject(guard: Guard, classifier: Classifier) -> str:
    """Check that the guard was fitted for this network.

    The code of a network from a user's file may have changed. If its weights and its outputs for
    fixed pictures are the same, the change is reported in the sentence that is returned.

    Returns:
        A warning; empty where nothing has changed.

    Raises:
        ContextError: the guard was fitted for another network.
    """
    made = guard.context
    if classifier.fingerprint == made.fingerprint:
        return ""
    digest = weights_digest(classifier.subject.model)
    if digest != made.digest:
        raise ContextError(
            f"this guard was fitted for {made.subject} ({made.weights}), weights "
            f"{made.digest[:12]}…; {classifier.name} ({classifier.subject.weights}) has weights "
            f"{digest[:12]}…: fit a guard for this network"
        )
    if classifier.head != made.head:
        raise ContextError(
            f"the guard was fitted for these weights, but with the head {made.head!r}, not "
            f"{classifier.head!r}; see --head"
        )
    # Two hashes, of preprocessing and network; the second may be unknown.
    known = len(made.behaviour.split()) == 2
    if known and classifier.subject.from_file and classifier.subject.behaviour == made.behaviour:
        return (
            f"the code of {classifier.name} has changed since the guard was fitted; its weights "
            "and its outputs for two test pictures have not changed: fit the guard again if the "
            "change affects other pictures"
        )
    raise ContextError(
        "the guard was fitted for these weights, but with another preprocessing, or the network "
        "now computes other outputs: see --preprocess, or fit a guard for this network"
    )


def check_classes(guard: Guard, names: ClassNames) -> None:
    """Raise :class:`ContextError` if the outputs have other names than in the guard."""
    if not guard.context.classes:
        return
    known = ClassNames.of_list(guard.context.classes, "the guard").with_imagenet(synonyms=True)
    if len(known) != len(names):
        raise ContextError(
            f"the guard was fitted for {len(known)} classes; {names.source} names {len(names)}"
        )
    other = [
        f"output {place} is {mine!r} in the guard and {names.names[place]!r} in {names.source}"
        for place, mine in enumerate(known.names)
        if not (
            (known.synsets[place] and known.synsets[place] == names.synsets[place])
            or {*map(fold, known.synonyms[place])} & {*map(fold, names.synonyms[place])}
        )
    ]
    if other:
        raise ContextError(
            f"{listed(other, quote=False)}: results would be reported for other classes than "
            "intended; leave out --classes to use the names in the guard, or fit a guard with "
            "these names"
        )
