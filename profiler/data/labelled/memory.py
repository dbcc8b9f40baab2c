"""Labelled images in memory: a sequence and a list of labels, or a data set that gives both."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.core.text import listed
from profiler.data.images import ImageSequence
from profiler.errors import InputError


@dataclass(frozen=True, eq=False)
class LabelledSequence(ImageSequence):
    """Images in memory, each with the number of its class.

    Attributes:
        labels: one an image that is used, counted from 0.
        classes: what the numbers mean; empty where they are the classifier's outputs themselves.
    """

    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        images: ImageSequence,
        labels: Iterable[Any] | None = None,
        classes: Iterable[Any] | None = None,
    ) -> "LabelledSequence":
        """Check labels and classes, and put them beside the images.

        Args:
            images: whose items are tuples of image and label where no labels are given.
            labels: one for each item, also for those that are left out.
            classes: names by number; a data set's own, as torchvision's have them, by default.

        Raises:
            InputError: there are no labels, or not one for each image; one is no whole number or
                names none of the classes.
        """
        if isinstance(classes, str):
            raise InputError(f"`classes` are names, one for each number, not the text {classes!r}")
        found = _labels_of(images) if labels is None else _as_many(labels, images)
        numbers = tuple(
            _number(label, place) for label, place in zip(found, images.places, strict=True)
        )
        if classes is None:
            own = _asked_of(images.items, "classes")
            classes = own if isinstance(own, list | tuple) else ()
        names = _names(classes)
        highest = len(names) - 1 if names else None
        for number, place in zip(numbers, images.places, strict=True):
            if number < 0 or (highest is not None and number > highest):
                known = f"{len(names)} classes from 0 to {highest}" if names else "classes from 0"
                raise InputError(
                    f"label {number} of image {place} is out of range: there are {known}"
                )
        return cls(images.items, images.places, images.title, labels=numbers, classes=names)


def _as_many(labels: Iterable[Any], images: ImageSequence) -> list[Any]:
    if isinstance(labels, str):
        raise InputError("`labels` are numbers of classes, one for each image, not a text")
    given = list(labels)
    if len(given) != len(images.items):
        raise InputError(f"{len(given)} `labels` for {len(images.items)} images; give one for each")
    return [given[place] for place in images.places]


def _labels_of(images: ImageSequence) -> list[Any]:
    """What a data set says of its images; without reading them all, if it keeps a list."""
    first = _label_in(images.items[images.places[0]])
    targets = _asked_of(images.items, "targets")
    if targets is not None and len(targets) == len(images.items):
        found = [targets[place] for place in images.places]
        # A transform of the targets is seen at the first, or there is none that matters.
        if _same(found[0], first) and _asked_of(images.items, "target_transform") is None:
            return found
    return [_label_in(images.items[place]) for place in images.places]


def _label_in(item: Any) -> Any:
    if isinstance(item, tuple | list) and len(item) > 1:
        return item[1]
    raise InputError(
        "the images have no labels; give load_images(images, labels=…), a number for each, or a "
        "data set whose items are tuples of image and label"
    )


def _same(one: Any, other: Any) -> bool:
    try:
        return operator.index(one) == operator.index(other)
    except TypeError:
        return False


def _asked_of(items: Any, name: str) -> Any:
    """An attribute of a data set, also through torch's ``Subset`` of it; None without it."""
    inner, indices = getattr(items, "dataset", None), getattr(items, "indices", None)
    if inner is None or indices is None:
        return getattr(items, name, None)
    found = _asked_of(inner, name)
    if name != "targets" or found is None:
        return found
    return [found[index] for index in indices]


def _names(classes: Iterable[Any]) -> tuple[str, ...]:
    """Names as text; torchvision's ImageNet gives all synonyms of a class as a tuple."""
    names = [", ".join(each) if isinstance(each, tuple) else each for each in classes]
    wrong = next((each for each in names if not isinstance(each, str) or not each.strip()), None)
    if wrong is not None:
        raise InputError(f"`classes` are names, one for each number; {wrong!r} is none")
    return tuple(names)


def _number(label: Any, place: int) -> int:
    if isinstance(label, str):
        raise InputError(
            f"label {label!r} of image {place} is a name, but labels are numbers: give the names "
            "as `classes`, and of each image the place of its class in them, counted from 0"
        )
    try:
        return operator.index(label)
    except TypeError:
        raise InputError(
            f"the label of image {place} is of type {type(label).__name__}; labels are whole "
            "numbers, counted from 0"
        ) from None


def of_outputs(images: LabelledSequence, outputs: Sequence[str]) -> tuple[str, ...]:
    """The label of each image as a name of an output, where the numbers are the outputs.

    Args:
        images: whose labels are numbers of outputs.
        outputs: what these are called.

    Raises:
        InputError: there is no such output.
    """
    beyond = sorted({number for number in images.labels if number >= len(outputs)})
    if beyond:
        many = len(outputs)
        told = listed(list(map(str, beyond)), quote=False)
        shifted = min(images.labels) == 1 and beyond == [many]
        raise InputError(
            f"labels beyond the model's outputs: {told}; the "
            f"{many} outputs are counted from 0 to {many - 1}"
            + ("; take 1 from each label" if shifted else "")
        )
    return tuple(outputs[number] for number in images.labels)
