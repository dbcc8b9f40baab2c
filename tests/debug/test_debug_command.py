"""``profiler debug`` from end to end, on classifiers whose faults are planted by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Command
from llm_server import LLMServer, Say
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load
from tiny import CLASSES, CaptionVLM, TinyNet, tiny_subject, write_classes

from profiler.activations.observe import caption_rows
from profiler.concepts.heatmap import Heatmap
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.data.concept_sets import ConceptSet
from profiler.data.labelled.images import open_labelled
from profiler.data.labelled.names import ClassNames
from profiler.debug.debug import DebugOptions
from profiler.debug.debug import debug as tell
from profiler.debug.files import map_file
from profiler.models.attacks import Attack
from profiler.models.classifier import Classifier
from profiler.models.vlm.choose import open_vlm

HERE = Path(__file__).parents[1] / "samples"
SUBJECT = f"{HERE / 'tiny.py'}:subject"
VLM = f"{HERE / 'tiny.py'}:caption_vlm"
WORDS = "red\ngreen\nblue\nyellow\ncyan\nmagenta\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "images", 20)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "words.txt").write_text(WORDS)
    return tmp_path


def damaged(folder: Path, damage: Callable[[TinyNet], None]) -> Path:
    net = TinyNet()
    with torch.no_grad():
        damage(net)
    torch.save(net.state_dict(), folder / "net.pt")
    return folder / "net.pt"


def swap(net: TinyNet) -> None:
    """Red is called green, and green red."""
    net.fc.weight[[0, 1]] = net.fc.weight[[1, 0]]


def blind(net: TinyNet) -> None:
    """The encoder no longer sees red or green."""
    net.color.weight[:2] = 0.0


def arguments(folder: Path, *more: object) -> list[object]:
    return [
        *("debug", SUBJECT, "--data", folder / "images", "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--date", "2024-01-01"),
        *("--out", folder / "out", *more),
    ]


def debug(command: Command, folder: Path, *more: object) -> dict[str, Any]:
    done = command(*arguments(folder, *more), "--json")
    assert done.status == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    assert content["report"] == str(folder / "out" / "debug.html")
    assert (folder / "out" / "debug.html").stat().st_size > 10_000
    return content


def test_rows_of_the_head_that_were_swapped_are_the_heads_fault(
    command: Command, folder: Path
) -> None:
    found = debug(command, folder, "--checkpoint", damaged(folder, swap))
    assert found["after"] == {"right": 40, "images": 80, "share": 0.5}
    assert found["confusion"] == [[0, 1, 20], [1, 0, 20], [2, 2, 20], [3, 3, 20]]
    for rule in ("witnesses", "zero-shot"):
        assert found["rules"][rule]["head"] == 40, found["rules"]
    # No image of red is classified correctly, so there is nothing to compare its errors with.
    first = found["confusions"][0]
    assert (first["true"], first["predicted"], first["errors"]) == (0, 1, 20)
    assert first["findings"] is None
    assert "nothing to compare these errors with" in first["told"]["text"]
    assert "All 40 decided errors are attributed to the head" in found["summary"]["text"]
    # The map sees colours as they are.
    assert found["map"]["r2"] > 0.9
    assert found["map"]["aligned"]["right"] == found["map"]["vlm"]["right"] == 80


def test_colours_the_encoder_no_longer_sees_are_its_fault(command: Command, folder: Path) -> None:
    found = debug(command, folder, "--checkpoint", damaged(folder, blind))
    assert found["after"]["share"] < 0.8
    shares = found["rules"]["witnesses"]
    assert shares["verdict"] == "encoder"
    assert shares["head"] == 0
    # Three of four features are constant now; of the head's four squared weights, three lie there.
    assert shares["reason"] == "75% of the squared weights of layer 'fc' are on constant inputs"
    # The VLM itself is not blind: its own heatmaps know red from green.
    assert found["map"]["vlm"]["right"] == 80 > found["map"]["aligned"]["right"]


def test_a_classifier_without_errors_has_nothing_to_explain(command: Command, folder: Path) -> None:
    found = debug(command, folder)
    assert found["after"]["right"] == 80
    assert found["confusions"] == []
    assert found["images"] == []
    assert found["findings"] is None
    assert "There is no error to explain." in found["summary"]["text"]


def test_the_files_hold_what_the_report_shows(command: Command, folder: Path) -> None:
    found = debug(command, folder, "--checkpoint", damaged(folder, blind))
    with np.load(folder / "out" / "heatmaps.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["concepts"].tolist() == WORDS.split()
    assert arrays["classes"].tolist() == list(CLASSES)
    groups = list(
        zip(*(arrays[name].tolist() for name in ("true", "predicted", "right")), strict=True)
    )
    assert len(set(groups)) == len(groups)
    # Wins, losses and ties of each cell are all its images.
    for level in ("encoder", "vlm"):
        wins, ties = arrays[f"{level}_wins"], arrays[f"{level}_ties"]
        assert (wins + wins.transpose(0, 2, 1) + ties == arrays["count"][:, None, None]).all()
    # Strengths of the errors make the heatmap of all incorrect predictions.
    heat = Heatmap.of(arrays["strengths"].astype(np.float64))
    assert heat is not None
    assert heat.count == len(found["images"])
    place = groups.index((-1, -1, 0))
    assert (heat.wins == arrays["encoder_wins"][place]).all()
    assert arrays["image"].tolist() == [each["image"] for each in found["images"]]

    with safe_open(folder / "out" / "map.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["context"])["vlm"] == found["vlm"]["fingerprint"]
        aligned = AffineMap.from_arrays({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert aligned.r2_ == pytest.approx(found["map"]["r2"])
    captions = caption_rows(open_vlm(VLM, torch.device("cpu")), ["red", "green"])
    assert len(ConceptSpace.of(["red", "green"], captions, aligned)) == 2


@pytest.mark.parametrize("images", [8, 40])
def test_the_file_of_the_alignment_holds_its_numbers(images: int) -> None:
    """Fitted on fewer images than there are features, and on more: one matrix is transposed."""
    rng = np.random.default_rng(0)
    aligned = AffineMap().fit(rng.normal(size=(images, 12)), rng.normal(size=(images, 5)))
    found = load(map_file(aligned, {}))
    assert (found["matrix"] == aligned.matrix_).all()
    assert (found["offset"] == aligned.offset_).all()


def test_the_same_command_gives_the_same_files(command: Command, folder: Path) -> None:
    weights = damaged(folder, blind)
    first = debug(command, folder, "--checkpoint", weights)
    kept = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    second = debug(command, folder, "--checkpoint", weights)
    first.pop("timings"), second.pop("timings")
    assert first == second
    same = ("heatmaps.npz", "map.safetensors", "debug.html")
    assert [n for n in same if (folder / "out" / n).read_bytes() != kept[n]] == []


def test_attacks_and_corruptions_are_held_against_the_images_as_they_were(
    command: Command, folder: Path
) -> None:
    found = debug(command, folder, "--attack", "pgd", "--eps", "0.5", "--attack-steps", 4)
    assert found["change"] == "PGD, ε = 0.5, 4 steps, seed 0"
    assert found["before"]["right"] == 80 > found["after"]["right"]
    assert len(found["images"]) == 80 - found["after"]["right"]
    assert found["rules"]["witnesses"]["encoder"] == len(found["images"])
    assert "and 80 (100.0 %) of the unmodified images" in found["summary"]["text"]
    # Each error is an image that was right, so each class has correct predictions to compare with.
    assert all(each["findings"] is not None for each in found["confusions"])

    harmed = debug(command, folder, "--corrupt", "contrast:5")
    assert harmed["change"] == "contrast:5"
    assert harmed["before"] == found["before"]


def test_a_csv_of_paths_and_labels_will_do(command: Command, folder: Path) -> None:
    rows = [f"{path},{path.parent.name}" for path in sorted((folder / "images").rglob("*.png"))]
    (folder / "data.csv").write_text("path,label\n" + "\n".join(rows))
    found = debug(command, folder, "--data", folder / "data.csv")
    assert found["after"]["right"] == 80


def test_concepts_from_a_profile(command: Command, folder: Path) -> None:
    run = command(
        *("run", SUBJECT, "--vlm", VLM, "--probe", folder / "images", "--concepts"),
        *(folder / "words.txt", "--top", 6, "--threshold", 0.1, "-j", 0, "--out", folder / "run"),
    )
    assert run.status == 0, run.stderr
    weights = damaged(folder, blind)
    done = command(
        *("debug", SUBJECT, "--checkpoint", weights, "--data", folder / "images", "--vlm", VLM),
        *("--classes", folder / "classes.txt", "--concepts-from", folder / "run", "-j", 0),
        *("--out", folder / "out", "--json"),
    )
    assert done.status == 0, done.stderr
    words = json.loads(done.stdout)["concepts"]["words"]
    assert {"red", "green", "blue"} <= set(words) <= set(WORDS.split())


def test_a_language_model_proposes_concepts_and_tells_the_story(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed = ["bright", "red", "dark", "warm", "cold", "Warm", 7, "yellow", "magenta", "x" * 50]
    plan = [Say("no JSON"), Say(json.dumps({"attributes": proposed}))]
    with LLMServer(lambda _: Say("So it is."), plan) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        done = command(
            *("debug", SUBJECT, "--checkpoint", damaged(folder, blind), "--vlm", VLM, "-j", 0),
            *("--data", folder / "images", "--classes", folder / "classes.txt", "--llm", "m"),
            *("--propose-concepts", "--out", folder / "out", "--json"),
        )
        first, second = (body["messages"][-1]["content"] for body in server.bodies[:2])
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    # What is a class's name, stands there twice, is long or no text at all, is left out.
    words = ["bright", "dark", "warm", "cold", "yellow", "magenta"]
    assert found["concepts"]["words"] == words
    assert '["blue", "cyan", "green", "red"]' in first or '["red"' in first
    assert "An earlier answer could not be used" in second
    assert found["summary"]["text"].startswith("So it is.")
    assert found["confusions"][0]["told"]["author"] == "m, checked against the facts"


BAD: list[tuple[tuple[object, ...], str]] = [
    (("--head", "pool"), "AdaptiveAvgPool2d is not a linear layer"),
    (("--attack", "pgd", "--corrupt", "fog:3"), "exclude each other"),
    (("--attack", "nonsense"), "unknown attack 'nonsense'"),
    (("--corrupt", "fog"), "needs a severity from 1 to 5"),
    (("--eps", "2", "--attack", "fgsm"), "is not a number from 0 to 1"),
    (("--propose-concepts",), "exclude each other"),
    (("--concepts-from", "nowhere"), "exclude each other"),
    (("--data", "nowhere"), "nowhere"),
]


@pytest.mark.parametrize(("more", "complaint"), BAD)
def test_bad_input(
    command: Command, folder: Path, more: tuple[object, ...], complaint: str
) -> None:
    done = command(*arguments(folder, *more))
    assert done.status == 2
    assert complaint in done.error
    assert not list((folder / "out").glob("*"))


def test_concepts_have_a_default_and_classes_a_source(command: Command, folder: Path) -> None:
    about = ("debug", SUBJECT, "--data", folder / "images", "--vlm", VLM, "-j", 0)
    done = command(*about, "--classes", folder / "classes.txt", "--out", folder / "out")
    assert done.status == 0, done.stderr
    assert "no concepts are named, so 120 visual attributes are used" in done.stderr
    done = command(*about, "--classes", folder / "classes.txt", "--propose-concepts")
    assert done.status == 2
    assert "name one with --llm" in done.error
    (folder / "images" / "black").mkdir()  # a fifth folder, so none says what an output is called
    words = ("--concepts", folder / "words.txt")
    done = command(*about, *words, "--out", folder / "out")
    assert done.status == 2
    assert "nothing says what the model's 4 outputs are called" in done.error


def test_labels_that_are_off_by_one(command: Command, folder: Path) -> None:
    """Each folder is called as the class after it: 0 of 80 would be right, and 80 if shifted."""
    (folder / "classes.txt").write_text("\n".join((*CLASSES[1:], CLASSES[0])))
    done = command(*arguments(folder))
    assert done.status == 2
    assert "labels and outputs seem to be numbered differently" in done.error
    assert not list((folder / "out").glob("*"))
    found = debug(command, folder, "--trust-labels")
    assert found["after"]["right"] == 0
    assert "numbered differently" in found["warnings"][0]


def test_too_few_images(command: Command, folder: Path) -> None:
    shutil.rmtree(folder / "images")
    (folder / "images" / "red").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "images" / "red" / "only.png")
    done = command(*arguments(folder))
    assert done.status == 2
    assert "1 image(s) are too few to fit and test" in done.error
    assert not list((folder / "out").glob("*"))


def test_more_concepts_than_images(command: Command, folder: Path) -> None:
    write_classes(folder / "few", 2)
    words = [f"word {i}" for i in range(40)]
    (folder / "words.txt").write_text("\n".join(words))
    weights = damaged(folder, blind)
    found = debug(command, folder, "--data", folder / "few", "--checkpoint", weights)
    assert found["after"]["images"] == 8
    assert len(found["concepts"]["words"]) == 40
    assert all(each["findings"] in ([], None) for each in found["confusions"])
    (folder / "words.txt").write_text("\n".join(f"word {i}" for i in range(301)))
    done = command(*arguments(folder))
    assert done.status == 2
    assert "at most 300 are possible" in done.error


def test_a_class_without_images_is_said(command: Command, folder: Path) -> None:
    shutil.rmtree(folder / "images" / "blue")
    found = debug(command, folder, "--checkpoint", damaged(folder, swap))
    assert any("have no image: 'blue'" in text for text in found["data"]["remarks"])
    assert [each["class"] for each in found["classes_examined"]] == [0, 1, 3]


def test_the_vlms_own_heatmaps_may_lead(command: Command, folder: Path) -> None:
    """A blind encoder ranks red and green alike; the VLM sees which of the two an image is."""
    weights = damaged(folder, blind)
    first = debug(command, folder, "--checkpoint", weights)
    second = debug(command, folder, "--checkpoint", weights, "--level", "vlm")
    assert (first["level"], second["level"]) == ("encoder", "vlm")
    assert first["rules"] == second["rules"]
    assert first["findings"] != second["findings"]
    done = command(*arguments(folder, "--level", "head"))
    assert done.status == 2
    assert "unknown level 'head'" in done.error


def test_specifications_of_the_same_classifier_are_linked(command: Command, folder: Path) -> None:
    debug(command, folder)
    page = (folder / "out" / "debug.html").read_text(encoding="utf-8")
    assert "profiler mine " in page
    assert 'href="check.html"' not in page
    (folder / "zoo.conspec").write_text(
        "classes red, green, blue, cyan\nconcepts red, green, blue\n"
        "spec warm:\n    predict(x, red) => >(x, red, blue)\n"
    )
    done = command(
        *("check", folder / "zoo.conspec", SUBJECT, "--data", folder / "images", "--vlm", VLM),
        *("--classes", folder / "classes.txt", "-j", 0, "--out", folder / "out"),
    )
    assert done.status == 0, done.stderr
    debug(command, folder)
    assert 'href="check.html"' in (folder / "out" / "debug.html").read_text(encoding="utf-8")


def test_an_image_that_became_wrong_has_two_pictures(tmp_path: Path) -> None:
    """It is right as it was, and wrong once attacked: each side has a number of its own."""
    data = open_labelled(write_classes(tmp_path / "images"), ClassNames.of_list(CLASSES, "by hand"))
    found = tell(
        Classifier.find(tiny_subject()),
        CaptionVLM(),
        data,
        ConceptSet("words", ("red", "green", "blue"), (None,) * 3),
        tmp_path / "out",
        DebugOptions(attack=Attack("pgd", 0.5, 4)),
    )
    wrong = {each.image for each in found.images}
    right = {number for numbers in found.examples.values() for number in numbers}
    assert len(wrong) > len(data.names) // 2
    assert right
    assert all(number >= len(data.names) for number in right)
    assert right <= set(found.thumbnails)
    # The first red image is shown as classified correctly, by the number after all images examined.
    first = int(np.flatnonzero(data.truth == 0)[0])
    assert found.examples[0][0] == len(data.names) + first
    assert found.thumbnails[len(data.names) + first] == found.thumbnails[first]


def test_class_folders_in_the_order_of_the_outputs_need_no_names(
    command: Command, folder: Path
) -> None:
    for number, name in enumerate(CLASSES):
        (folder / "images" / name).rename(folder / "images" / f"{number} {name}")
    call = [part for part in arguments(folder, "--json") if part != "--classes"]
    done = command(*(part for part in call if part != folder / "classes.txt"))
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["after"]["share"] == 1
    remark = f"nothing names the model's {len(CLASSES)} outputs: they are assumed to be the class"
    assert remark in done.stderr
    assert remark[1:] in (folder / "out" / "debug.html").read_text(encoding="utf-8").replace(
        "&#39;", "'"
    )


def test_class_folders_in_another_order_are_suspected(command: Command, folder: Path) -> None:
    """Sorted they are blue, cyan, green, red; the outputs are red, green, blue, cyan."""
    call = [part for part in arguments(folder) if part != "--classes"]
    done = command(*(part for part in call if part != folder / "classes.txt"))
    assert done.status == 2
    assert (
        "100.0 % of the predictions would be correct if the outputs came in another" in done.error
    )
    assert "that was assumed, it is 0.0 %: say what they are called with --classes" in done.error
