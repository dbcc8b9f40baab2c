"""Annotations in place of a VLM: what they say of images is read right, and followed by units."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Command
from tiny import vlm, write_classes, write_images

from profiler.activations.moments import FOLDS, FoldMoments, LayerMoments
from profiler.activations.top_lists import ImageSample, LayerTops
from profiler.core.categories import DEFAULT_CATEGORIES
from profiler.data.annotations import TRUTH, Annotations, annotate, known_categories
from profiler.data.images import ImageFolder, SyntheticProbe
from profiler.data.synthetic.scenes import SyntheticScenes
from profiler.errors import InputError
from profiler.models.vlm.annotated import AnnotatedVLM, attribute_rows
from profiler.profile.explain import Candidates, explain_layers
from profiler.profile.result import load_run
from profiler.rate.book import RatingBook

HERE = Path(__file__).parents[1] / "samples"

pytestmark = pytest.mark.usefixtures("texts_once", "scenes_once")
SUBJECT = f"{HERE / 'tiny.py'}:subject"
COLORS = ("red", "green", "blue", "cyan")


# --- reading them ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of eight colours in turn, in ``images``."""
    write_images(tmp_path / "images", 64)
    return tmp_path


def table(folder: Path, text: str, probe: Path | None = None) -> tuple[Any, Annotations]:
    (folder / "attributes.csv").write_text(text)
    images = ImageFolder.open(probe or folder / "images")
    return annotate(f"annotations:{folder / 'attributes.csv'}", images)


NAMES = ("0000_red.png", "0001_green.png", "0002_blue.png", "0003_yellow.png")


def rows(*cells: str, names: Sequence[str] = NAMES) -> str:
    return "".join(f"{name},{each}\n" for name, each in zip(names, cells, strict=True))


def test_a_column_an_attribute(folder: Path) -> None:
    probe, found = table(folder, "path,warm,brightness\n" + rows("1,0.5", "0,70", "0,1", "1,-2"))
    assert found.title == "annotations:attributes.csv"
    assert found.words == ("warm", "brightness")
    assert found.values.tolist() == [[1, 0.5], [0, 70], [0, 1], [1, -2]]
    assert probe.names == NAMES
    assert found.notes == ("60 of 64 probe images have no row in attributes.csv and were left out",)


def test_tags(folder: Path) -> None:
    _, found = table(folder, "path,tags,who\n" + rows("warm; red,A", "cold,B", "cold;blue,A", ",B"))
    assert found.words == ("warm", "red", "cold", "blue")
    assert found.values.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    "spelled",
    ["images/{}", "./images/{}", "{}", "./{}", "images\\{}", "/ABSOLUTE/images/{}"],
)
def test_paths_are_those_of_the_probe_folder_or_of_the_table(folder: Path, spelled: str) -> None:
    spelled = spelled.replace("/ABSOLUTE", str(folder))
    names = [spelled.format(name) for name in NAMES]
    probe, _ = table(folder, "image,warm\n" + rows("1", "0", "0", "1", names=names))
    assert probe.names == NAMES


def test_scenes_that_were_written_out_carry_their_truth(tmp_path: Path) -> None:
    SyntheticScenes(12, size=16).write(tmp_path)
    _, written = annotate(f"annotations:{tmp_path / 'truth.csv'}", ImageFolder.open(tmp_path))
    _, own = annotate(TRUTH, SyntheticProbe(SyntheticScenes(12, size=16)))
    assert written.words == own.words
    np.testing.assert_array_equal(written.values, own.values)
    assert written.fingerprint == own.fingerprint


def test_the_truth_of_the_scenes_knows_its_categories() -> None:
    scenes = SyntheticScenes(300)
    _, found = annotate(TRUTH, SyntheticProbe(scenes))
    for i in (0, 17, 299):
        has = {word for word, value in zip(found.words, found.values[i], strict=True) if value}
        assert has == {*scenes.scene(i).words()}
    assert {known_categories(TRUTH)[word] for word in found.words} < {*DEFAULT_CATEGORIES}
    assert known_categories("visual") == {}


def test_class_folders_are_attributes(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", 3, classes=COLORS)
    write_images(tmp_path / "data", 2)
    probe, found = annotate("annotations:folders", ImageFolder.open(tmp_path / "data"))
    assert len(probe.names) == 12
    assert sorted(found.words) == sorted(COLORS)
    for name, row in zip(probe.names, found.values, strict=True):
        assert found.words[int(row.argmax())] == name.split("/")[0]
        assert row.sum() == 1
    assert found.notes == ("2 of 14 probe images lie in no class folder and were left out",)


def test_an_attribute_that_never_differs_is_left_out(folder: Path) -> None:
    _, found = table(folder, "path,warm,seen,odd\n" + rows("1,1,7", "0,1,7", "0,1,7", "1,1,7"))
    assert found.words == ("warm",)
    assert found.notes[1:] == (
        "2 attributes are the same on all images and left out: 'seen', 'odd'",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name,warm\n" + rows("1", "0", "0", "1"), "no column of paths"),
        ("path\n" + "\n".join(NAMES), "no column of an attribute, and none of tags"),
        ("path,warm\n", "annotates no image: there is nothing below its header"),
        ("path,warm\n" + rows("1", "yes", "0", "1"), "line 3, column 'warm': 'yes' is no number"),
        ("path,warm\n" + rows("1", "nan", "0", "1"), "line 3, column 'warm': 'nan' is no number"),
        ("path,warm\n" + rows("1", "", "0", "1"), "line 3, column 'warm': '' is no number"),
        ("path,warm\n" + rows("1", "1e39", "0", "1"), r"numbers above 3\.4e\+38"),
        ("path,warm,warm\n" + rows("1,1", "0,1", "0,1", "1,1"), "'warm' stands there twice"),
        ("path,warm\n" + rows("1", "1", "1", "1"), "no attribute differs between the 4 annotated"),
        ("path,tags\n" + rows("", "", "", ""), "no attribute differs between the 4 annotated"),
        (
            "path,warm\n" + rows("1", "0", names=["a.png", "b.png"]),
            "none of its 2 paths is one of the 64 probe images, such as '0000_red.png'; the first",
        ),
        (
            "path,warm\n" + rows("1", "0", names=[NAMES[0], f"images/{NAMES[0]}"]),
            r"'images/0000_red.png' stands there twice \(lines 2 and 3\)",
        ),
    ],
)
def test_tables_that_say_nothing_are_refused(folder: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table(folder, text)


def test_a_flat_folder_has_no_classes(folder: Path) -> None:
    with pytest.raises(InputError, match="lie in no class folder: none is annotated"):
        annotate("annotations:folders", ImageFolder.open(folder / "images"))


# --- what follows from them ------------------------------------------------------------------


def test_units_that_are_sums_of_attributes_are_told_with_their_weights() -> None:
    """Whatever the scale of an attribute."""
    rng = np.random.default_rng(0)
    values = (rng.random((1000, 20)) < rng.uniform(0.1, 0.6, 20)).astype(np.float32)
    values[:, :4] = rng.normal(size=(1000, 4)) * (0.01, 1, 255, 1e4) + 100
    found = Annotations("annotations:planted", tuple("abcdefghijklmnopqrst"), values)
    v = AnnotatedVLM(found, vlm()).rows
    presence = (values - values.mean(0)) / values.std(0)
    words = [rng.choice(20, 2 + k % 2, replace=False) for k in range(40)]
    weights = [rng.uniform(0.5, 1.0, len(each)) for each in words]
    a = np.column_stack([presence[:, w] @ x for w, x in zip(words, weights, strict=True)])
    a += 0.01 * rng.normal(size=a.shape)
    fold, other = np.arange(1000) % FOLDS, rng.permutation(1000)
    moments = LayerMoments("layer", FoldMoments.of(v, a, fold), FoldMoments.of(v, a[other], fold))
    tops = LayerTops("layer", np.zeros((40, 1), int), a.max(0)[:, None], a.min(0))
    sample = ImageSample(np.arange(len(a))[:200], (a[:200],))
    (layer,) = explain_layers([moments], [tops], Candidates(attribute_rows(20)), sample)
    for k, (few, strength) in enumerate(zip(words, weights, strict=True)):
        own = {int(c): w for c, w in zip(layer.concept[k], layer.weight[k], strict=True) if c >= 0}
        assert own.keys() == {*few.tolist()}
        for word, weight in zip(few.tolist(), strength / a[:, k].std(), strict=True):
            assert own[word] == pytest.approx(weight, rel=0.05)
    assert (layer.shown_r > 0.99).all()


def test_a_concept_is_its_attribute() -> None:
    values = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    seen = AnnotatedVLM(Annotations("annotations:x", ("a", "b", "c"), values), vlm())
    presence = seen.rows @ seen.embed_texts(["c", "a"]).T
    np.testing.assert_allclose(presence, (values / values.std(0))[:, [2, 0]], rtol=1e-6)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No VLM can be opened."""

    def refuse(*_: object) -> None:
        raise AssertionError("a VLM was opened")

    # Where it is called: patched where it is defined, it would stay in what is imported next.
    for module in ("objects", "classifiers"):
        monkeypatch.setattr(f"profiler.api.{module}.open_vlm", refuse)


@pytest.fixture
def wordless(blind: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text encoder, either."""

    def refuse(*_: object) -> None:
        raise AssertionError("a text encoder was opened")

    monkeypatch.setattr("profiler.models.vlm.choose.open_text_encoder", refuse)


def leading(folder: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Label and explanation of each unit."""
    with (folder / "descriptions.csv").open(newline="") as file:
        return {
            (row["layer"], row["unit"]): (row["description"], row["explanation"])
            for row in csv.DictReader(file)
        }


FORMS = ("table", "tags", "folders")


def write_form(folder: Path, form: str) -> tuple[Path, str]:
    """The probe and the value of ``--concepts``: the colour of every image."""
    if form == "folders":
        return write_classes(folder / "data", 16, classes=COLORS), "annotations:folders"
    names = write_images(folder / "images", 64, colors=COLORS)
    header = {"table": ["path", *COLORS], "tags": ["path", "tags"]}[form]
    with (folder / f"{form}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for name in names:
            color = name[5:-4]
            own = [int(color == each) for each in COLORS] if form == "table" else [color]
            writer.writerow([name, *own])
    return folder / "images", f"annotations:{folder / form}.csv"


@pytest.mark.parametrize("form", FORMS)
def test_from_annotations_to_report_comparison_and_categories(
    command: Command, tmp_path: Path, blind: None, form: str
) -> None:
    probe, concepts = write_form(tmp_path, form)
    call = ("--probe", probe, "--concepts", concepts, "-j", 0, "--top", 8, "--threshold", 2)
    for out in ("one", "other"):
        done = command(
            *("run", SUBJECT, *call, "--keep-activations", "--evaluate", "--bootstrap", 2),
            *("--out", tmp_path / out),
        )
        assert done.status == 0, done.stderr
    labels = leading(tmp_path / "one")
    for unit, color in enumerate(("red", "green", "blue", "cyan")):
        label, explanation = labels["fc", str(unit)]
        assert label == color
        if unit < 3:
            assert explanation.startswith(color)
    record = load_run(tmp_path / "one").record
    title = concepts if form == "folders" else f"annotations:{form}.csv"
    assert record.vlm is not None
    assert record.concepts is not None
    assert (record.vlm.name, record.concepts.title, record.vlm.annotated) == (title, title, True)
    assert record.similarity is not None
    assert record.similarity.name == "enrichment"
    assert (record.settings["vlm"], record.settings["similarity"]) == (None, "enrichment")
    page = (tmp_path / "one" / "report.html").read_text()
    assert "attributes that the images came with" in page
    assert "Images read by" not in page
    assert "VLM fingerprint" not in page

    done = command(
        *("compare", tmp_path / "one", tmp_path / "other", "--out", tmp_path / "compared"),
        *("--draws", 3, "--json"),
    )
    assert done.status == 0, done.stderr
    found = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert not found["warnings"]
    done = command("categorize", tmp_path / "one", "--out", tmp_path / "sorted")
    assert done.status == 0, done.stderr
    run = load_run(tmp_path / "sorted")
    assert {run.sorting.category[color] for color in COLORS} == {"color"}
    book = RatingBook(tmp_path / "one")
    for unit in range(4):
        book.add("ann", ("fc", unit), 1.0)
    done = command("calibrate", tmp_path / "one", "--min-above", 1, "--draws", 200)
    assert done.status in (0, 4), done.stderr


def test_the_truth_of_the_scenes_needs_no_model_but_the_network(
    command: Command, tmp_path: Path, wordless: None
) -> None:
    call = (SUBJECT, "--probe", "synthetic", "--limit", 80, "--concepts", TRUTH, "-j", 0)
    done = command("run", *call, "--threshold", 1, "--keep-activations", "--out", tmp_path / "run")
    assert done.status == 0, done.stderr
    run = load_run(tmp_path / "run")
    assert run.sorting.sorter == "the program that drew the scenes"
    assert "red background" in {run.concepts[c] for c in run.layers[0].concept[0]}
    assert run.explanation(run.ranges[0], 0)
    assert np.isnan(run.ranges[0].monosemanticity).all()
    assert command("categorize", tmp_path / "run", "--out", tmp_path / "again").status == 0
    assert load_run(tmp_path / "again").sorting.category == run.sorting.category
    done = command("compare", tmp_path / "run", *call, "--out", tmp_path / "compared", "--draws", 2)
    assert done.status == 0, done.stderr
    done = command(
        "run", *call, "--similarity", "cosine", "--null-draws", 50, "--out", tmp_path / "cosine"
    )
    assert done.status == 0, done.stderr


def test_images_without_annotations_are_a_warning(command: Command, folder: Path) -> None:
    (folder / "few.csv").write_text("path,warm\n" + rows("1", "0", "0", "1"))
    call = ("run", SUBJECT, "--probe", folder / "images", "-j", 0, "--out", folder / "out")
    done = command(*call, "--concepts", f"annotations:{folder / 'few.csv'}", "--top", 1)
    assert done.status == 0, done.stderr
    note = "60 of 64 probe images have no row in few.csv and were left out"
    assert note in done.stderr
    assert "few.csv: 4 of its 4 paths are probe images" in done.stderr
    assert note in load_run(folder / "out").warnings


def test_a_vlm_beside_annotations_is_refused_wherever_it_is_given(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("run", SUBJECT, "--probe", "synthetic", "--limit", 20, "--concepts", TRUTH, "-j", 0)
    said = f"--vlm conse and --concepts {TRUTH} both say what the images show; give one"
    assert command(*call, "--vlm", "conse", "--out", tmp_path / "out").error == said
    monkeypatch.setenv("PROFILER_RUN_VLM", "conse")
    assert command(*call, "--out", tmp_path / "out").error == said
