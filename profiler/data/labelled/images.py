"""Labelled images as a probe set, each with the output it should have highest."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from profiler.core.arrays import IntArray
from profiler.core.text import listed
from profiler.data.images import ImageFolder, ImageSequence, Previews, spread
from profiler.data.labelled.matching import match_classes
from profiler.data.labelled.memory import LabelledSequence, of_outputs
from profiler.data.labelled.names import ClassNames
from profiler.data.labelled.reading import find_labelled
from profiler.errors import InputError, UsageError


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """A probe set (:class:`profiler.data.images.ProbeSet`) whose images have a true class.

    Attributes:
        images: read one by one.
        labels: one an image, as folder or CSV writes it; of images in memory, a name.
        truth: (n,) index of the output that each image should have highest.
        classes: what the outputs are called.
        empty: class folders in which there is no image.
        unused: labels of the mapping that no image has.
    """

    images: ImageFolder | ImageSequence
    labels: tuple[str, ...]
    truth: IntArray
    classes: ClassNames
    empty: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How a reader knows the set."""
        return self.images.title

    @property
    def names(self) -> Sequence[str]:
        """One name an image, in order."""
        return self.images.names

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the images, their labels and their classes."""
        total = hashlib.sha256(self.images.fingerprint.encode())
        for label, index in zip(self.labels, self.truth, strict=True):
            total.update(label.encode() + b"\0" + str(int(index)).encode() + b"\0")
        return total.hexdigest()

    def read(self, index: int) -> Image.Image:
        """Decode one image as RGB; raises :class:`profiler.data.images.UnreadableImageError`."""
        return self.images.read(index)

    def digest(self, index: int) -> str:
        """SHA-256 of one image and of its label."""
        known = f"{self.images.digest(index)} {self.truth[index]} {self.labels[index]}"
        return hashlib.sha256(known.encode()).hexdigest()

    def preview(self, index: int, side: int) -> Image.Image:
        """Decode a small picture of one image (:class:`profiler.data.images.Previews`)."""
        if isinstance(self.images, Previews):
            return self.images.preview(index, side)
        return self.images.read(index)

    @cached_property
    def counts(self) -> IntArray:
        """(C,) images of each class."""
        return np.bincount(self.truth, minlength=len(self.classes))

    @property
    def present(self) -> list[str]:
        """Names of the classes that have an image."""
        return [self.classes.names[i] for i in np.flatnonzero(self.counts).tolist()]

    def remarks(self) -> list[str]:
        """What a reader should know of the labels, a sentence each; empty where all is plain."""
        said = list(self.images.notes)
        if self.classes.assumed:
            said.append(self.classes.assumed)
        if self.empty:
            said.append(f"class folders without an image: {listed(self.empty)}")
        names = self.classes.names
        if missing := [names[i] for i in np.flatnonzero(self.counts == 0)]:
            said.append(
                f"{len(missing)} of the model's {len(names)} classes have no image: "
                + listed(missing)
            )
        # Nothing about these can be compared.
        if single := [names[i] for i in np.flatnonzero(self.counts == 1)]:
            said.append(f"classes with one image only: {listed(single)}")
        labels: dict[int, dict[str, None]] = {}
        for label, index in zip(self.labels, self.truth.tolist(), strict=True):
            labels.setdefault(index, {})[label] = None
        if merged := [
            f"{listed(list(each))} → {self.classes.describe(index)}"
            for index, each in labels.items()
            if len(each) > 1
        ]:
            said.append(f"several labels stand for one class: {listed(merged, quote=False)}")
        if self.unused:
            said.append(f"labels of the mapping that no image has: {listed(self.unused)}")
        return said


def open_labelled(
    source: Path | LabelledSequence,
    classes: ClassNames,
    mapping: Mapping[str, str] | None = None,
    *,
    limit: int | None = None,
) -> LabelledImages:
    """Labelled images of a folder, a CSV or in memory, for a model with these classes.

    Args:
        source: images in memory with their labels; or a path, see
            :func:`profiler.data.labelled.reading.find_labelled`.
        classes: what the model's outputs are called.
        mapping: label → class, for labels that do not name a class themselves.
        limit: keep that many images, evenly spread over the list.

    Raises:
        InputError: the data cannot be used, or a label matches no output, or more than one.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    if isinstance(source, LabelledSequence):
        return _in_memory(source, classes, mapping, limit)
    found = find_labelled(source)
    # All labels, also those that the limit leaves without an image: a name that fits nothing is
    # a mistake in the data whichever images are used.
    matched = match_classes(found.labels, classes, mapping)
    kept = spread(len(found.labels), limit)
    labels = tuple(found.labels[i] for i in kept)
    files = tuple(found.images.files[i] for i in kept)
    images = replace(found.images, files=files)
    truth = _frozen([matched.index[label] for label in labels])
    return LabelledImages(images, labels, truth, classes, found.empty, matched.unused)


def _in_memory(
    source: LabelledSequence,
    classes: ClassNames,
    mapping: Mapping[str, str] | None,
    limit: int | None,
) -> LabelledImages:
    """By number where the labels are the outputs', else by the names of their classes."""
    if limit is not None:
        raise UsageError("--limit is for images that are not loaded yet; load fewer")
    own = ClassNames.of_list(source.classes, "").names
    if not own or (own == classes.names and not mapping):
        labels = of_outputs(source, classes.names)
        return LabelledImages(source, labels, _frozen(source.labels), classes)
    labels = tuple(source.classes[number] for number in source.labels)
    matched = match_classes(labels, classes, mapping)
    truth = _frozen([matched.index[label] for label in labels])
    return LabelledImages(source, labels, truth, classes, unused=matched.unused)


def _frozen(truth: Sequence[int]) -> IntArray:
    found = np.array(truth, dtype=np.int64)
    found.flags.writeable = False
    return found
