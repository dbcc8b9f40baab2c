"""Labelled images in memory: where the labels come from, and which output each means."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CLASSES, write_classes
from torchvision.datasets import FakeData, ImageFolder

from profiler.data.images import ImageSequence
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import open_labelled
from profiler.data.labelled.memory import LabelledSequence
from profiler.errors import InputError, UsageError

SORTED = tuple(sorted(CLASSES))
PICTURES = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue", "cyan", "red")]
NUMBERS = [0, 1, 2, 3, 0]


def labelled(items: Any, limit: int | None = None, **more: Any) -> LabelledSequence:
    return LabelledSequence.of(ImageSequence.open(items, limit=limit), **more)


class Counting(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    """A data set that counts how many of its items were read."""

    def __init__(self, **attributes: Any) -> None:
        self.read = 0
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(PICTURES)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read += 1
        return PICTURES[index], NUMBERS[index]


@pytest.mark.parametrize(
    "labels", [NUMBERS, tuple(NUMBERS), np.array(NUMBERS), torch.tensor(NUMBERS), iter(NUMBERS)]
)
def test_labels_are_whole_numbers_of_any_kind(labels: Any) -> None:
    found = labelled(PICTURES, labels=labels, classes=CLASSES)
    assert (found.labels, found.classes) == (tuple(NUMBERS), CLASSES)
    assert all(type(each) is int for each in found.labels)


def test_a_limit_keeps_labels_beside_their_images() -> None:
    found = labelled(PICTURES, 2, labels=NUMBERS)
    assert (found.places, found.labels) == ((0, 2), (0, 2))


def test_labels_out_of_items_and_out_of_lists(tmp_path: Path) -> None:
    pairs = list(zip(PICTURES, NUMBERS, strict=True))
    assert labelled(pairs).labels == tuple(NUMBERS)
    fake = FakeData(6, (3, 8, 8), num_classes=3)
    assert labelled(fake).labels == tuple(fake[i][1] for i in range(6))
    # A list of targets is believed after one look; without one, every item is read.
    for attributes, read in (({"targets": NUMBERS}, 2), ({}, 7)):
        data = Counting(**attributes)
        assert labelled(data).labels == tuple(NUMBERS)
        assert data.read == read
    # A list that is not what the items give is not believed.
    other = Counting(targets=[3, 2, 1, 0, 0])
    assert labelled(other).labels == tuple(NUMBERS)
    transformed = Counting(targets=NUMBERS, target_transform=int)
    assert labelled(transformed).labels == tuple(NUMBERS)
    assert transformed.read == 7


def test_torchvision_names_its_classes_also_of_a_subset(tmp_path: Path) -> None:
    data = ImageFolder(str(write_classes(tmp_path / "data", 2)))
    whole = labelled(data)
    assert whole.classes == SORTED
    assert whole.labels == tuple(data.targets)
    part = torch.utils.data.Subset(torch.utils.data.Subset(data, [1, 3, 5, 7]), [3, 0])
    assert (labelled(part).labels, labelled(part).classes) == ((3, 0), SORTED)
    # ImageNet's classes are tuples of synonyms; what is no list of names is none.
    assert labelled(Counting(classes=[("tench", "Tinca tinca"), *"abc"])).classes[0] == (
        "tench, Tinca tinca"
    )
    assert labelled(Counting(classes=4)).classes == ()


def test_numbers_are_outputs_or_names_are_looked_up(tmp_path: Path) -> None:
    named = labelled(PICTURES, labels=NUMBERS, classes=CLASSES)
    # As many classes as outputs: the numbers are the outputs', and the classes name them.
    names, mapping = open_classes(None, 4, data=named)
    found = open_labelled(named, names, mapping)
    assert found.truth.tolist() == NUMBERS
    assert found.classes.names == CLASSES
    assert "assumed to be the classes of the images, 'red', 'green', " in found.remarks()[0]
    # Where the outputs have names of their own, names are looked up among them.
    turned, _ = open_classes(SORTED, 4, data=named)
    assert open_labelled(named, turned).truth.tolist() == [3, 2, 0, 1, 3]
    # Labels without names are the outputs' numbers, whatever these are called.
    plain = labelled(PICTURES, labels=NUMBERS)
    assert open_labelled(plain, turned).truth.tolist() == NUMBERS
    assert open_labelled(plain, turned).labels[:2] == SORTED[:2]
    # Of ImageNet's thousand, a few by name, and all of them by number although two are cranes.
    few = labelled(PICTURES[:2], labels=[1, 0], classes=["tench", "goldfish"])
    assert open_labelled(few, open_classes(None, 1000, data=few)[0]).truth.tolist() == [1, 0]
    imagenet, _ = open_classes(None, 1000)
    every = labelled(PICTURES[:2], labels=[134, 517], classes=["crane"] * 1000)
    assert open_labelled(every, open_classes(None, 1000, data=every)[0]).truth.tolist() == [
        *(134, 517),
    ]
    assert imagenet.names[134] != imagenet.names[517]


def test_the_fingerprint_is_of_pixels_and_labels() -> None:
    names, _ = open_classes(CLASSES, 4)
    prints = {
        open_labelled(labelled(items, labels=labels), names).fingerprint
        for items, labels in (
            (PICTURES, NUMBERS),
            ([each.copy() for each in PICTURES], NUMBERS),
            (PICTURES, [0, 1, 2, 3, 1]),
        )
    }
    assert len(prints) == 2
    one = labelled(PICTURES, labels=NUMBERS)
    assert one.digest(0) == one.digest(4) != one.digest(1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"labels": [0, 1]}, "2 `labels` for 5 images; give one for each"),
        ({"labels": ["red", *NUMBERS[1:]]}, "label 'red' of image 0 is a name, but labels are num"),
        ({"labels": "redgr"}, "`labels` are numbers of classes, one for each image, not a text"),
        ({"labels": [0.0, 1.0, 2.0, 3.0, 0.0]}, "the label of image 0 is of type float"),
        ({"labels": torch.eye(5)}, "the label of image 0 is of type Tensor"),
        ({"labels": NUMBERS, "classes": CLASSES[:3]}, "label 3 of image 3 is out of range: there "
         "are 3 classes from 0 to 2"),
        ({"labels": [0, 1, 2, 3, -1]}, "label -1 of image 4 is out of range"),
        ({"labels": NUMBERS, "classes": "names.txt"}, "`classes` are names, one for each number"),
        ({"labels": NUMBERS, "classes": ["red", ""]}, "`classes` are names, one for each number; "
         "'' is none"),
        ({}, "the images have no labels; give load_images(images, labels=…)"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_used(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        labelled(PICTURES, **more)
    assert said in str(raised.value)


def test_labels_that_are_no_outputs() -> None:
    names, _ = open_classes(CLASSES[:3], 3)
    with pytest.raises(InputError, match="beyond the model's outputs: 3; the 3 outputs are count"):
        open_labelled(labelled(PICTURES, labels=NUMBERS), names)
    with pytest.raises(InputError, match="take 1 from each label"):
        open_labelled(labelled(PICTURES[:3], labels=[1, 2, 3]), names)
    named = labelled(PICTURES, labels=NUMBERS, classes=CLASSES)
    with pytest.raises(InputError, match="1 of 4 labels match no output of the model"):
        open_labelled(named, names)
    # Neither as many classes as outputs nor names for these.
    with pytest.raises(InputError, match="nothing says what the model's 7 outputs are called"):
        open_classes(None, 7, data=named)
    with pytest.raises(InputError, match="`classes` names 3 classes, but the model has 4 outputs"):
        open_classes(CLASSES[:3], 4)
    with pytest.raises(UsageError, match="is for images that are not loaded yet"):
        open_labelled(named, open_classes(None, 4, data=named)[0], limit=2)
