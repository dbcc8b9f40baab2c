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
from profiler.data.images import ImageFolder, spread
from profiler.data.labelled.matching import match_classes
from profiler.data.labelled.names import ClassNames
from profiler.data.labelled.reading import find_labelled
from profiler.errors import InputError


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """A probe set (:class:`profiler.data.images.ProbeSet`) whose images have a true class.

    Attributes:
        images: read one by one.
        labels: one an image, as folder or CSV writes it.
        truth: (n,) index of the output that each image should have highest.
        classes: what the outputs are called.
        empty: class folders in which there is no image.
        unused: labels of the mapping that no image has.
    """

    images: ImageFolder
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

    def preview(self, index: int, side: int) -> Image.Image:
        """Decode a small picture of one image (:class:`profiler.data.images.Previews`)."""
        return self.images.preview(index, side)

    @cached_property
    def counts(self) -> IntArray:
        """(C,) images of each class."""
        return np.bincount(self.truth, minlength=len(self.classes))

    @property
    def missing(self) -> tuple[int, ...]:
        """Classes of the model that have no image."""
        return tuple(int(i) for i in np.flatnonzero(self.counts == 0))

    @property
    def single(self) -> tuple[int, ...]:
        """Classes that have one image only: nothing about them can be compared."""
        return tuple(int(i) for i in np.flatnonzero(self.counts == 1))

    @property
    def merged(self) -> dict[int, tuple[str, ...]]:
        """Classes that several labels mean, and those labels."""
        found: dict[int, dict[str, None]] = {}
        for label, index in zip(self.labels, self.truth, strict=True):
            found.setdefault(int(index), {})[label] = None
        return {index: tuple(labels) for index, labels in found.items() if len(labels) > 1}

    def remarks(self) -> list[str]:
        """What a reader should know of the labels, a sentence each; empty where all is plain."""
        said = list(self.images.notes)
        if self.classes.assumed:
            said.append(self.classes.assumed)
        if self.empty:
            said.append(f"class folders without an image: {listed(self.empty)}")
        if self.missing:
            names = listed([self.classes.names[i] for i in self.missing])
            said.append(
                f"{len(self.missing)} of the model's {len(self.classes)} classes have no image: "
                + names
            )
        if self.single:
            names = listed([self.classes.names[i] for i in self.single])
            said.append(f"classes with one image only: {names}")
        if self.merged:
            told = [
                f"{listed(labels)} → {self.classes.describe(index)}"
                for index, labels in self.merged.items()
            ]
            said.append(f"several labels stand for one class: {listed(told, quote=False)}")
        if self.unused:
            said.append(f"labels of the mapping that no image has: {listed(self.unused)}")
        return said


def open_labelled(
    path: Path,
    classes: ClassNames,
    mapping: Mapping[str, str] | None = None,
    *,
    limit: int | None = None,
) -> LabelledImages:
    """Labelled images of a folder or a CSV, for a model with these classes.

    Args:
        path: see :func:`find_labelled`.
        classes: what the model's outputs are called.
        mapping: label → class, for labels that do not name a class themselves.
        limit: keep that many images, evenly spread over the list.

    Raises:
        InputError: the data cannot be used, or a label matches no output, or more than one.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    found = find_labelled(path)
    # All labels, also those that the limit leaves without an image: a name that fits nothing is
    # a mistake in the data whichever images are used.
    matched = match_classes(found.labels, classes, mapping)
    kept = spread(len(found.labels), limit)
    labels = tuple(found.labels[i] for i in kept)
    files = tuple(found.images.files[i] for i in kept)
    truth = np.array([matched.index[label] for label in labels], dtype=np.int64)
    truth.flags.writeable = False
    images = replace(found.images, files=files)
    return LabelledImages(images, labels, truth, classes, found.empty, matched.unused)
