"""What is brought home of labelled images: the same, however and whenever it is read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CLASSES, CaptionVLM, nan, tiny_subject, write_classes

from profiler.activations.observe import Observation, caption_rows, examine
from profiler.core.store import Store
from profiler.data.corruptions import Corruption
from profiler.data.labelled.images import LabelledImages, open_labelled
from profiler.data.labelled.names import ClassNames
from profiler.errors import InputError, UsageError
from profiler.models.attacks import Attack
from profiler.models.classifier import Classifier
from profiler.session import Reading, Services

NAMES = ClassNames.of_list(CLASSES, "by hand")


@pytest.fixture
def data(tmp_path: Path) -> LabelledImages:
    return open_labelled(write_classes(tmp_path / "images"), NAMES)


@pytest.fixture
def classifier() -> Classifier:
    return Classifier.find(tiny_subject())


def same(one: Observation, other: Observation) -> bool:
    pairs = [(getattr(one, what), getattr(other, what))
             for what in ("features", "logits", "embeddings", "truth", "kept")]  # fmt: skip
    return all(np.array_equal(a, b) for a, b in pairs)


def test_every_image_is_right_and_as_the_networks_see_it(
    data: LabelledImages, classifier: Classifier
) -> None:
    seen = examine(classifier, CaptionVLM(), data)
    assert len(seen) == 48
    assert seen.accuracy == 1.0
    assert [NAMES.names[i] for i in seen.truth[::12]] == ["blue", "cyan", "green", "red"]
    image = classifier.preprocess(data.read(5))[None]
    assert np.allclose(seen.features[5], classifier.read(classifier.readings, image)["features"][0])
    assert np.allclose(seen.embeddings[5], CaptionVLM().embed_images(image)[0])
    assert np.allclose(seen.features @ classifier.weights.T, seen.logits, atol=1e-6)


def test_neither_batches_nor_the_cache_change_anything(
    data: LabelledImages, classifier: Classifier, tmp_path: Path
) -> None:
    kept = Services(store=Store(tmp_path / "cache"))
    whole = examine(classifier, CaptionVLM(), data, services=kept)
    again = examine(classifier, CaptionVLM(), data, services=kept)
    pieces = examine(classifier, CaptionVLM(), data, Reading(batch_size=5, workers=1))
    assert same(whole, again)
    assert same(whole, pieces)
    attacked = examine(classifier, CaptionVLM(), data, services=kept, attack=Attack("fgsm", 0.1))
    noisy = examine(classifier, CaptionVLM(), data, services=kept, corruption=Corruption("fog", 5))
    assert not same(whole, attacked)
    assert not same(whole, noisy)
    assert same(whole, examine(classifier, CaptionVLM(), data, services=kept))


def test_an_attack_leads_away_from_the_truth_and_the_vlm_sees_it(
    data: LabelledImages, classifier: Classifier
) -> None:
    clean = examine(classifier, CaptionVLM(), data)
    eps = 0.2
    attacked = examine(classifier, CaptionVLM(), data, attack=Attack("fgsm", eps))
    rows = np.arange(len(clean))
    margin = lambda seen: seen.logits[rows, seen.truth]  # noqa: E731
    assert (margin(attacked) < margin(clean)).all()
    # Red is led away by ε less red and ε more green and blue: redness falls by 2 ε, as far as the
    # pixels stay in [0, 1].
    red = clean.truth == 0
    fall = margin(clean)[red] - margin(attacked)[red]
    assert (fall <= 2 * eps + 1e-3).all()
    assert (fall > eps).all()
    moved = np.linalg.norm(attacked.embeddings - clean.embeddings, axis=1)
    assert (moved > 0.05).all()


def test_rows_can_be_taken(data: LabelledImages, classifier: Classifier) -> None:
    seen = examine(classifier, CaptionVLM(), data)
    some = seen.take(seen.truth == 2)
    assert len(some) == 12
    assert set(some.predicted.tolist()) == {2}
    assert some.kept.tolist() == np.flatnonzero(seen.truth == 2).tolist()
    assert some.embeddings.tolist() == seen.embeddings[seen.truth == 2].tolist()
    assert not some.wrong.any()


def test_unreadable_images_leave_no_gap(
    data: LabelledImages, classifier: Classifier, tmp_path: Path
) -> None:
    for place in (3, 30, 40):
        (data.images.folder / data.images.files[place]).write_bytes(b"no image")
    broken = open_labelled(tmp_path / "images", NAMES)
    with pytest.raises(InputError, match="cannot be read"):
        examine(classifier, CaptionVLM(), broken, Reading(batch_size=8))
    seen = examine(classifier, CaptionVLM(), broken, Reading(allow_bad=True))
    assert seen.kept.tolist() == [i for i in range(48) if i not in (3, 30, 40)]
    assert seen.truth.tolist() == broken.truth[seen.kept].tolist()
    assert [item.name for item in seen.skipped] == [broken.names[i] for i in (3, 30, 40)]


def test_bad_input(data: LabelledImages, classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give one of the two"):
        examine(classifier, CaptionVLM(), data, attack=Attack("pgd", 0.1),
                corruption=Corruption("fog", 1))  # fmt: skip
    more = ClassNames.of_list((*CLASSES, "black"), "by hand")
    write_classes(tmp_path / "more", 2, classes=("black",))
    with pytest.raises(InputError, match="go up to class 4, but tiny has 4 outputs"):
        examine(classifier, CaptionVLM(), open_labelled(tmp_path / "more", more))
    (tmp_path / "more" / "black").rename(tmp_path / "more" / "red")
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "more" / "red" / "dark.png")
    dark = open_labelled(tmp_path / "more", NAMES)
    with pytest.raises(InputError, match=r"dark\.png"):
        examine(Classifier.find(tiny_subject(nan)), CaptionVLM(), dark)


def test_a_name_is_put_into_seven_captions() -> None:
    rows = caption_rows(CaptionVLM(), ["red", "blue"])
    assert rows.shape == (2, 7, 12)
    # The hand-made VLM finds the colour in each, so all seven are the same.
    expected = CaptionVLM().embed_images(torch.tensor([[1.0, 0, 0]])[:, :, None, None])
    assert np.allclose(rows[0], expected.numpy(), atol=1e-6)
    assert np.allclose(rows[1].std(axis=0), 0, atol=1e-6)
