"""``import profiler as pf``: the stories from Python, on objects in memory."""

import csv
import inspect
import io
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Command
from PIL import Image
from same_bytes import without_seconds
from tiny import CLASSES, CaptionVLM, TinyNet, TinyVLM, to_tensor, write_classes, write_images
from torchvision.datasets import ImageFolder

import profiler as pf
from profiler.api.results import FILLS
from profiler.core.json_text import json_text
from profiler.data.images import ImageSequence

HERE = Path(__file__).parent
WORDS = ["red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white"]


class Data(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    """Images with labels."""

    def __init__(self, images: list[Image.Image]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index], index % 2


@pytest.fixture
def here(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, beside 64 images."""
    write_images(tmp_path / "images", 64)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def profiled(images: Any, model: Any = None, **more: Any) -> Any:
    given = {"concepts": WORDS, "vlm": TinyVLM(), "top": 6, "threshold": 0.1, "cache": False}
    given["scenes"] = 0  # no experiment, as for the command line in the tests
    if model is None:
        model, given["preprocess"] = TinyNet(), to_tensor()
    return pf.profile(model, images, **{**given, **more})


def tuned() -> TinyNet:
    net = TinyNet()
    with torch.no_grad():
        net.fc.weight[0] = net.fc.weight[1]
    return net


def same_cells(frame: Any, content: str) -> None:
    rows = list(csv.reader(io.StringIO(content)))
    assert list(frame.columns) == rows[0]
    assert len(frame) == len(rows) - 1
    for row, cells in zip(frame.itertuples(index=False), rows[1:], strict=True):
        for value, cell in zip(row, cells, strict=True):
            if isinstance(value, str):
                assert value == cell
            elif cell == "":
                assert math.isnan(value)
            else:
                assert float(value) == float(cell)


# --- a profile ------------------------------------------------------------------------------


def test_a_profile_in_memory_is_that_of_the_command_line(here: Path, command: Command) -> None:
    above = here.parent
    (above / "words.txt").write_text("\n".join(WORDS))
    tiny = HERE / "samples" / "tiny.py"
    done = command(
        *("run", f"{tiny}:subject", "--vlm", f"{tiny}:vlm", "--probe", above / "images"),
        *("--concepts", above / "words.txt", "--top", 6, "--threshold", 0.1, "-j", 0),
        *("--date", "2024-01-01", "--out", above / "run", "--json"),
    )
    assert done.status == 0, done.stderr
    profile = profiled(above / "images", concepts=above / "words.txt", date="2024-01-01")
    assert not list(here.iterdir())
    assert profile.to_csv() == (above / "run" / "descriptions.csv").read_text()
    told = json.loads(done.stdout)
    assert told.pop("report") == str(above / "run" / "report.html")
    told["summary"] = told["summary"].replace(f"{tiny}:subject", "TinyNet")
    assert json.loads(json_text(profile.to_json(), None)) == told
    assert pf.load(above / "run").to_html() == (above / "run" / "report.html").read_text()
    # Saved, it is a run that the command line reads.
    report = profile.save(above / "saved")
    assert report.read_text() == profile.to_html()
    assert pf.load(above / "saved").to_csv() == profile.to_csv()
    done = command("compare", above / "run", above / "saved", "--out", above / "compared")
    assert done.status == 0, done.stderr


def test_nothing_is_written_unless_asked_for(here: Path, cache: Path) -> None:
    net = TinyNet().train()
    profile = profiled(here.parent / "images", net, preprocess=to_tensor())
    profile.to_html(), profile.to_frame(), profile._repr_html_()
    pf.compare(profile, profiled(here.parent / "images", tuned(), preprocess=to_tensor()))
    assert not list(here.iterdir())
    assert not cache.exists()
    assert net.training, "the network is copied"
    assert all(each.requires_grad for each in net.parameters())
    profiled(here.parent / "images", cache=here / "kept", out="out")
    assert {path.name for path in here.iterdir()} == {"kept", "out"}
    assert (here / "out" / "report.html").is_file()
    assert not cache.exists()


def test_a_folder_a_list_and_a_data_set_give_the_same(here: Path) -> None:
    paths = sorted((here.parent / "images").iterdir())
    pictures = [Image.open(path).convert("RGB") for path in paths]
    wanted = profiled(here.parent / "images").to_csv()
    loaded = pf.load_images(here.parent / "images")
    for images in (paths, pictures, Data(pictures), str(here.parent / "images"), loaded):
        assert profiled(images).to_csv() == wanted
    # What is the same has the same fingerprint, wherever it comes from.
    prints = {pf.load_images(each).fingerprint for each in (paths, pictures, Data(pictures))}
    assert len(prints) == 1
    assert prints != {pf.load_images(pictures[1:]).fingerprint}
    spread = ("image-00000", "image-00016", "image-00032", "image-00048")
    assert pf.load_images(pictures, limit=4).names == spread


def test_images_that_change_are_not_read(here: Path) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    images = pf.load_images([picture])
    assert images.fingerprint == pf.load_images([picture.copy()]).fingerprint
    picture.putpixel((0, 0), (0, 0, 255))
    with pytest.raises(Exception, match="another image each time"):
        images.read(0)
    assert isinstance(images, ImageSequence)


def test_the_frame_has_every_cell_of_the_table(here: Path) -> None:
    profile = profiled(here.parent / "images", scenes=200)
    same_cells(profile.to_frame(), profile.to_csv())
    assert {"driver_color", "followed"} < {*profile.to_frame().columns}
    assert profile.to_json()["drivers"]


def test_words_that_read_like_nothing_stay_words(here: Path) -> None:
    profile = pf.profile(
        TinyNet(), here.parent / "images", ["null", "nan", "NA"], vlm=TinyVLM(),
        preprocess=to_tensor(), top=6, cache=False, scenes=0,
    )  # fmt: skip
    assert set(profile.to_frame()["description"]) <= {"null", "nan", "NA", ""}
    same_cells(profile.to_frame(), profile.to_csv())


def test_find_and_unit(here: Path) -> None:
    profile = profiled(here.parent / "images")
    found = profile.find("Red")
    assert {(row.layer, row.unit) for row in found.itertuples()} >= {("color", 0), ("fc", 0)}
    assert {*profile.find("red", layer="fc")["layer"]} == {"fc"}
    assert not len(profile.find("re"))
    unit = profile.unit("fc", 1)
    assert (unit.label, unit.trusted) == ("green", True)
    assert len(unit.images) == len(unit.pictures) == 9
    assert unit.images[0].endswith("_green.png")
    page = unit._repr_html_()
    assert page.count("data:image/webp") == 9
    assert "script" not in page
    assert profile.unit("color", 3).label == ""
    with pytest.raises(pf.ProfilerError, match="has no unit 4; its 4 units are numbered from 0"):
        profile.unit("fc", 4)
    for ask in (lambda: profile.unit("fd", 0), lambda: profile.find("red", layer="fd")):
        with pytest.raises(pf.ProfilerError, match="unknown layer of the profile 'fd'"):
            ask()


def test_a_notebook_shows_the_finding_without_scripts(here: Path) -> None:
    profile = profiled(here.parent / "images")
    comparison = pf.compare(profile, profile, cache=False)
    for result in (profile, comparison):
        page = result._repr_html_()
        assert len(page) < 200_000
        assert not re.search(r"<script|javascript:|onload|<link|https?://", page)
        assert page.count("<rect") > 2
        assert result.summary[:30] in repr(result)


def test_the_colours_of_notebooks_are_those_of_the_pages() -> None:
    style = (Path(pf.__file__).parent / "report/templates/style.css").read_text()
    for name, fill in FILLS.items():
        light = rf"\.{name} {{ --fill: {fill};|--{name.removeprefix('c-')}: {fill};"
        assert re.search(light, style), name


def test_show_opens_the_report(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    profile = profiled(here.parent / "images")
    profile.show()
    (url,) = opened
    path = Path(url.removeprefix("file://"))
    assert path.read_text() == profile.to_html()
    path.unlink()


# --- a comparison ---------------------------------------------------------------------------


def test_a_comparison_in_memory_is_that_of_the_command_line(here: Path, command: Command) -> None:
    above = here.parent
    more = {"cache": None, "keep_activations": True}
    before = profiled(above / "images", **more)
    after = profiled(above / "images", tuned(), preprocess=to_tensor(), **more)
    found = pf.compare(before, after, names=["before", "after"], draws=3, vlm=TinyVLM())
    assert not list(here.iterdir())
    before.save(above / "before")
    after.save(above / "after")
    done = command(
        *("compare", above / "before", above / "after", "--draws", 3, "--out", above / "compared")
    )
    assert done.status == 0, done.stderr
    assert found.to_csv() == (above / "compared" / "units.csv").read_text()
    same_cells(found.to_frame(), found.to_csv())
    written = json.loads((above / "compared" / "comparison.json").read_text())
    differing = {"command", "folders", "date"}
    assert {k: v for k, v in found.to_json().items() if k not in differing} == {
        k: v for k, v in written.items() if k not in differing
    }
    assert found.to_json()["folders"] == [None, None]
    again = pf.compare(above / "before", str(above / "after"), draws=3)
    assert again.to_csv() == found.to_csv()
    assert found.save(above / "mine") == above / "mine" / "compare.html"
    loaded = pf.load(above / "mine")
    assert loaded == found
    with pytest.raises(pf.ProfilerError, match="mine' is not a finished run"):
        pf.compare(before, above / "mine")


def test_networks_are_profiled_and_compared_in_one_call(here: Path, command: Command) -> None:
    above = here.parent
    for step in (1, 2):
        torch.save({"model": tuned().state_dict(), "step": step}, above / f"step-{step}.pt")
    tiny = HERE / "samples" / "tiny.py"
    words = above / "words.txt"
    words.write_text("\n".join(WORDS))
    done = command(
        *("compare", f"{tiny}:subject", "--checkpoint", above / "step-*.pt", "--timeline", "step"),
        *("--vlm", f"{tiny}:vlm", "--probe", above / "images", "--concepts", words, "--top", 6),
        *("--draws", 3, "-j", 0, "--out", above / "compared"),
    )
    assert done.status == 0, done.stderr
    found = pf.compare(
        f"{tiny}:subject", checkpoint=above / "step-*.pt", timeline="step", vlm=f"{tiny}:vlm",
        images=above / "images", concepts=words, top=6, draws=3, scenes=0, cache=above / "kept",
    )  # fmt: skip
    assert not list(here.iterdir())
    assert found.to_csv() == (above / "compared" / "units.csv").read_text()
    written = json.loads((above / "compared" / "comparison.json").read_text())
    differing = {"command", "folders", "date"}
    assert {k: v for k, v in found.to_json().items() if k not in differing} == {
        k: v for k, v in written.items() if k not in differing
    }
    # One that is loaded already stands beside one by name.
    other = pf.load_model(f"{tiny}:subject")
    both = pf.compare(
        other, f"{tiny}:subject", vlm=TinyVLM(), images=above / "images", concepts=WORDS, top=6,
        draws=0, cache=False, scenes=0, out=here / "out",
    )  # fmt: skip
    assert {path.name for path in (here / "out").iterdir()} >= {"tiny-1", "tiny-2", "compare.html"}
    assert both.to_json()["runs"][0]["profile"] == both.to_json()["runs"][1]["profile"]


# --- a diagnosis ----------------------------------------------------------------------------


def test_a_diagnosis_in_memory_is_that_of_the_command_line(here: Path, command: Command) -> None:
    data = write_classes(here.parent / "data", 20)
    (here / "classes.txt").write_text("\n".join(CLASSES))
    (here / "words.txt").write_text("red\ngreen\nblue\nyellow\n")
    torch.save(tuned().state_dict(), here / "net.pt")
    tiny = HERE / "samples" / "tiny.py"
    done = command(
        *("debug", f"{tiny}:subject", "--data", data, "--classes", "classes.txt", "-j", 0),
        *("--checkpoint", "net.pt", "--concepts", "words.txt", "--vlm", f"{tiny}:caption_vlm"),
        *("--trust-labels", "--out", here.parent / "out"),
    )
    assert done.status == 0, done.stderr
    given = {"classes": "classes.txt", "vlm": CaptionVLM(), "preprocess": to_tensor()}
    before = set(here.iterdir())
    found = pf.debug(tuned(), data, "words.txt", trust_labels=True, cache=False, **given)
    assert set(here.iterdir()) == before
    loaded = pf.load(here.parent / "out")
    told = {"command", "classifier", "summary", "settings", "timings"}
    mine, theirs = found.to_json(), loaded.to_json()
    assert mine.keys() == theirs.keys()
    assert {k: mine[k] for k in mine if k not in told} == {
        k: theirs[k] for k in mine if k not in told
    }
    assert found.files["heatmaps.npz"] == loaded.files["heatmaps.npz"]
    assert found.to_csv() == loaded.to_csv()
    same_cells(found.to_frame(), found.to_csv())
    assert {*found.to_frame()["true"]} <= {*CLASSES}
    assert "errors</td>" in found._repr_html_()
    assert found.save(here / "saved").read_text() == found.to_html()
    with_default = pf.debug(tuned(), data, trust_labels=True, cache=False, **given)
    assert "attributes: 120 concepts" in with_default.to_html().replace("\u202f", " ")
    with pytest.raises(pf.ProfilerError, match="`attack` and `corrupt` exclude each other"):
        pf.debug(tuned(), data, WORDS, attack="pgd", corrupt="gaussian_noise:1", **given)
    with pytest.raises(pf.ProfilerError, match="no images: the sequence is empty"):
        pf.debug(tuned(), [], WORDS, **given)


# --- a guard --------------------------------------------------------------------------------


def test_a_guard_in_memory_is_that_of_the_command_line(here: Path, command: Command) -> None:
    for name, seed in (("fit", 0), ("held", 90)):
        write_classes(here / name, 20, seed=seed)
        # Red images that are called green: wrong answers.
        write_images(here / name / "green" / "more", 6, seed=seed + 9, colors=("red",))
    (here / "classes.txt").write_text("\n".join(CLASSES))
    (here / "words.txt").write_text("red\ngreen\nblue\nyellow\n")
    subject = f"{HERE / 'samples' / 'tiny.py'}:subject"
    common, eyes = ("--classes", "classes.txt", "-b", 16), subject.replace("subject", "caption_vlm")
    for call in (
        ("guard", "fit", subject, "--data", "fit", "--vlm", eyes,
         "--concepts", "words.txt", "--trust-labels", "-j", 0, "--out", "made", *common),
        ("guard", "score", subject, "held/red", "--guard", "made", "--out", "scores.csv", "-b", 16),
        ("guard", "eval", subject, "--data", "held", "--guard", "made", "--corrupt",
         "gaussian_noise:2", "--out", "assessed", *common),
    ):  # fmt: skip
        done = command(*call)
        assert done.status == 0, done.stderr
    before = set(here.iterdir())
    model = pf.load_model(TinyNet(), preprocess=to_tensor())
    guard = pf.Guard.fit(
        model, "fit", "words.txt", classes="classes.txt", vlm=CaptionVLM(), trust_labels=True,
        cache=False,
    )  # fmt: skip
    assert guard.threshold == pf.Guard.load("made").threshold
    same_cells(guard.score(model, here / "held" / "red"), (here / "scores.csv").read_text())
    found = guard.evaluate(
        model, "held", classes="classes.txt", corruptions=["gaussian_noise:2"], reference=None
    )
    assert set(here.iterdir()) == before
    written = json.loads((here / "assessed" / "guard.json").read_text())
    for mine, theirs in zip(found.to_json()["conditions"], written["conditions"], strict=True):
        assert mine["flagged_defects"] == theirs["flagged_defects"]
        own = written["rules"][0]
        assert mine["metrics"][own] == theirs["metrics"][own]
    same_cells(found.to_frame(), found.to_csv())
    assert found.save(here / "kept").read_text() == found.to_html()
    assert pf.load(here / "kept") == found
    assert pf.load("assessed").summary == written["summary"]
    with pytest.raises(pf.ProfilerError, match=r"holds a guard, which Guard\.load reads"):
        pf.load("made")
    assert "held-out images" in found.summary
    assert len(found._repr_html_()) < 200_000
    guard.save("mine.safetensors")
    logits, verdict = pf.Guard.load("mine.safetensors").wrap(TinyNet().eval())(
        torch.rand(2, 3, 8, 8)
    )
    assert (logits.shape, verdict.flagged.shape) == ((2, 4), (2,))
    with pytest.raises(pf.ProfilerError, match="this guard was fitted for TinyNet"):
        guard.score(tuned(), here / "held" / "red", preprocess=to_tensor())


# --- specifications -------------------------------------------------------------------------

SPECS = """
classes red, green, sky = "cyan"
concepts crimson = "red", green-ish = "green", "deep blue" = "blue"
spec red-is-red: predict(x, red) => >(x, crimson, "deep blue")
    require rate >= 100%
spec green-is-red: predict(x, green) => >(x, crimson, green-ish)
    require applicable rate >= 0.5
spec sky-is-not-red: predict(x, sky) => >(x, "deep blue", crimson)
"""


def test_a_check_in_memory_is_that_of_the_command_line(here: Path, command: Command) -> None:
    above = here.parent
    data = write_classes(above / "data", 12)
    (above / "colors.conspec").write_text(SPECS, encoding="utf-8")
    (above / "classes.txt").write_text("\n".join(CLASSES))
    subject = f"{HERE / 'samples' / 'tiny.py'}:subject"
    done = command(
        *("check", above / "colors.conspec", subject, "--data", data, "-j", 0),
        *("--classes", above / "classes.txt", "--vlm", subject.replace("subject", "caption_vlm")),
        *("--region", "box:0.3", "--region", "max", "--out", above / "out"),
    )
    assert done.status == 1, done.stderr
    given = {
        "classes": CLASSES, "vlm": CaptionVLM(), "preprocess": to_tensor(), "cache": False,
        "regions": ("box:0.3", "max"),
    }  # fmt: skip
    found = pf.check(SPECS, TinyNet(), data, **given)
    assert not list(here.iterdir())
    assert pf.check(above / "colors.conspec", TinyNet(), data, **given).to_csv() == found.to_csv()
    loaded = pf.load(above / "out")
    assert found.files.keys() == loaded.files.keys() >= {"certificates.json"}
    told = {"command", "specs_file", "settings"}
    mine, theirs = (without_seconds(each.to_json()) for each in (found, loaded))
    assert mine.keys() == theirs.keys()
    for key in mine.keys() - told - {"classifier"}:
        assert mine[key] == theirs[key], key
    assert mine["classifier"]["head"] == theirs["classifier"]["head"]
    assert (found.summary, found.passed) == (loaded.summary, False)
    assert found.summary.startswith("Of 3 specs, 2 hold and 1 fails.")
    same_cells(found.to_frame(), found.to_csv())
    frame = found.to_frame().set_index("spec")
    assert frame.loc["red-is-red", ["holds", "images", "rate", "proved"]].tolist() == [48, 48, 1, 2]
    assert frame.loc["green-is-red", "applicable_rate"] == 0
    assert frame.loc["green-is-red", "violated"] == 2
    page = found._repr_html_()
    assert "green-is-red: fails" in page
    assert len(page) < 200_000
    assert "<script" not in page
    assert found.save(here / "saved").read_text() == found.to_html()
    assert pf.load(here / "saved") == found
    good = pf.check(SPECS.split("spec green")[0], TinyNet(), data, **{**given, "out": "good"})
    assert good.passed
    assert pf.load("good") == good


def test_mining_in_memory_is_that_of_the_command_line(here: Path, command: Command) -> None:
    above = here.parent
    data = write_classes(above / "data", 20)
    (above / "classes.txt").write_text("\n".join(CLASSES))
    (above / "words.txt").write_text("red\ngreen\nblue\n")
    subject = f"{HERE / 'samples' / 'tiny.py'}:subject"
    done = command(
        *("mine", subject, "--data", data, "--concepts", above / "words.txt", "-j", 0),
        *("--classes", above / "classes.txt", "--vlm", subject.replace("subject", "caption_vlm")),
        *("--least-rate", 0.4, "--out", above / "mined.conspec"),
    )
    assert done.status == 0, done.stderr
    given = {
        "classes": CLASSES, "vlm": CaptionVLM(), "preprocess": to_tensor(), "cache": False,
    }  # fmt: skip
    words = ["red", "green", "blue"]
    text = pf.mine(TinyNet(), data, words, least_rate=0.4, **given)
    assert not list(here.iterdir())
    # Only what the network is called differs.
    named = (above / "mined.conspec").read_text(encoding="utf-8")
    assert text == named.replace(f'"{subject}"', "TinyNet")
    assert text.count("\nspec ") >= 4
    # What is proposed can be checked as it is.
    found = pf.check(text, TinyNet(), data, words, **given)
    assert len(found.to_frame()) == text.count("\nspec ")


def test_specs_are_refused_before_anything_is_computed(here: Path) -> None:
    def check(text: Any, **more: Any) -> Any:
        return pf.check(text, "resnet18", here, vlm="conse", **more)

    with pytest.raises(pf.ProfilerError, match="specs:3:10: expected") as raised:
        check("concepts a, b\nclasses c\nspec one predict(x, c)\nspec two: >(x, a, b)")
    assert any("^" in note for note in raised.value.__notes__)
    with pytest.raises(pf.ProfilerError, match=r"cannot read specifications from 'no\.conspec'"):
        check("no.conspec")
    with pytest.raises(pf.ProfilerError, match="`regions` 'ball' is not a region"):
        check("spec one: predict(x, a)", regions="ball")
    with pytest.raises(pf.ProfilerError, match=r"file of annotations 'no\.csv'"):
        check("concepts a, b\nspec one: >(x, a, b)", annotations="no.csv")


# --- labelled images in memory --------------------------------------------------------------


def test_labelled_images_in_memory_give_what_their_folder_gives(here: Path) -> None:
    data = write_classes(here.parent / "data", 20)
    folder = ImageFolder(str(data))
    assert folder.classes == sorted(CLASSES)
    listed = [item[0] for item in folder]
    given = {
        "vlm": CaptionVLM(), "preprocess": to_tensor(), "trust_labels": True, "cache": False,
    }  # fmt: skip
    wanted = pf.debug(tuned(), data, WORDS, classes=CLASSES, **given).to_json()
    loaded = pf.load_images(listed, labels=folder.targets, classes=folder.classes)
    for images in (folder, loaded, pf.load_images(folder)):
        found = pf.debug(tuned(), images, WORDS, classes=CLASSES, **given).to_json()
        for key in ("before", "confusion", "rules", "words", "quality"):
            assert found.get(key) == wanted.get(key), key
        assert [each["true"] for each in found["images"]] == [
            each["true"] for each in wanted["images"]
        ]
    # Profiled, they are images like any other.
    assert profiled(loaded).to_csv() == profiled(listed).to_csv()
    # Without names of the outputs, numbers are outputs: here they are in another order.
    with pytest.raises(pf.ProfilerError, match="outputs came in another order") as raised:
        pf.debug(TinyNet(), folder, WORDS, **{**given, "trust_labels": False})
    assert "`classes`" in str(raised.value)
    in_order = pf.load_images(
        listed, labels=[CLASSES.index(folder.classes[i]) for i in folder.targets], classes=CLASSES
    )
    guard = pf.Guard.fit(tuned(), in_order, WORDS, **given)
    assert guard.context.classes == CLASSES
    part = torch.utils.data.Subset(folder, range(0, 80, 2))
    with pytest.raises(pf.ProfilerError, match="the guard was fitted on all 40 images of Subset"):
        guard.evaluate(tuned(), part, preprocess=to_tensor())
    others = ImageFolder(str(write_classes(here.parent / "others", 10, seed=50)))
    found = guard.evaluate(
        tuned(), others, preprocess=to_tensor(), limit=20, attacks=["fgsm"], eps="1/255,2/255",
        draws=20,
    )  # fmt: skip
    assert found.to_json()["data"]["images"] == 20
    assert [each["kind"] for each in found.to_json()["conditions"]] == ["clean", "attack", "attack"]
    assert found.to_json()["bootstrap"]["draws"] == 20
    checked = pf.check(
        SPECS, TinyNet(), in_order, vlm=CaptionVLM(), preprocess=to_tensor(), cache=False
    )
    assert checked.to_frame()["images"].tolist() == [80, 80, 80]
    assert not list(here.iterdir())
    assert "spec " in pf.mine(
        TinyNet(), in_order, WORDS, vlm=CaptionVLM(), preprocess=to_tensor(), cache=False
    )


def test_a_result_that_lacks_a_file_says_which(here: Path) -> None:
    data = write_classes(here.parent / "data", 6)
    found = pf.check(
        SPECS, TinyNet(), data, classes=CLASSES, vlm=CaptionVLM(), preprocess=to_tensor(),
        cache=False, out="out",
    )  # fmt: skip
    (here / "out" / "check.html").unlink()
    with pytest.raises(pf.ProfilerError, match=r"the check in 'out' lacks check\.html"):
        pf.load("out")
    (here / "out" / "check.json").write_text('{"format": 1}')
    with pytest.raises(pf.ProfilerError, match="has no summary: an earlier version wrote it"):
        pf.load("out")
    (here / "out" / "check.json").write_text("{")
    with pytest.raises(pf.ProfilerError, match=r"check 'out/check\.json' is damaged"):
        pf.load("out")
    assert "summary" in found.to_json()


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda _: pf.load_model("resnet5"), "unknown model 'resnet5'; near names: resnet50"),
        (lambda _: pf.load_model(TinyNet()), "give `preprocess`, a function from an RGB image"),
        (lambda _: pf.load_model(3), "a name or a torch module, not of type int"),
        (lambda _: pf.load_model("resnet18", name="mine"), "`name` is for a module"),
        (lambda _: pf.load_model("resnet18", checkpoint="no.pt"), "checkpoint 'no.pt' is absent"),
        (
            lambda _: pf.load_model("resnet18", weights="V1", checkpoint=__file__),
            "`weights` 'V1' and `checkpoint` both name weights",
        ),
        (lambda _: pf.load_vlm("clop"), "unknown VLM 'clop'"),
        (lambda _: pf.load_images([]), "no images: the sequence is empty"),
        (lambda _: pf.load_images(iter([])), "have no length"),
        (lambda _: pf.load_images([np.zeros((8, 8, 3))]), "type ndarray; give PIL images or paths"),
        (lambda _: pf.load_images("imagenett"), "unknown probe set 'imagenett'"),
        (lambda _: pf.load_images("synthetic", limit=0), "`limit` must be at least 1, got 0"),
        (lambda _: pf.load_images("synthetic", labels=[1]), "for images in memory that are not"),
        (lambda _: pf.debug("resnet18", [], vlm="conse"), "no images: the sequence is empty"),
        (lambda here: pf.debug("resnet18", here, vlm="conse"), "no images in"),
        (
            lambda _: pf.debug("resnet18", pf.load_images("synthetic", limit=3), vlm="conse"),
            "a built-in set that is loaded has no labels",
        ),
        (lambda _: pf.debug("resnet18", "none", vlm="conse"), "'none' does not exist; `images`"),
        (lambda _: pf.mine("resnet18", "d", table="no.csv"), "table 'no.csv'"),
        (lambda _: pf.load("none"), "'none' does not exist: it lacks run.json"),
        (lambda _: pf.load_concepts([]), "no concepts: the sequence is empty"),
        (lambda _: pf.load_concepts([1, 2]), "concepts are words"),
        (lambda _: pf.load_concepts("visul"), "unknown concept set 'visul'; near names: visual"),
        (lambda here: pf.load(here), "holds no result: it lacks run.json (profile), comparison"),
        (lambda _: pf.compare(), "a comparison needs at least two runs; name"),
        (lambda _: pf.compare("resnet18", "resnet34", vlm="conse"), "say with `images` on which"),
        (lambda _: pf.compare("resnet18", checkpoint="no*.pt"), "`checkpoint` 'no*.pt' matches no"),
        (lambda _: pf.compare("a", "b", names=["a"]), "1 `names` for 2 runs"),
        (lambda here: profiled(here, layres="all"), "unknown parameter of profile 'layres'; near"),
        (lambda here: profiled(here, device="gpu"), "unknown device 'gpu'"),
        (lambda here: profiled(here.parent / "images", top=99), "`top` 99 needs at least"),
        (lambda here: profiled(here, range_threshold="r"), "`range_threshold` 'r' is no finite"),
        (
            lambda _: pf.profile("resnet18", "synthetic", "annotations:truth", vlm="conse"),
            "`vlm` and annotations both say",
        ),
        (
            lambda here: pf.profile("resnet18", here.parent / "images", "annotations:truth"),
            "do not go together",
        ),
    ],
)  # fmt: skip
def test_errors_are_one_line_that_names_parameters(here: Path, call: Any, said: str) -> None:
    with pytest.raises(pf.ProfilerError) as raised:
        call(here)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert " --" not in f" {raised.value}"


# --- the package ----------------------------------------------------------------------------


def test_to_import_the_package_costs_nothing() -> None:
    code = "import sys, profiler; assert not {'torch', 'numpy', 'pandas'} & {*sys.modules}"
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.15


def test_names_are_listed_and_stories_are_packages_that_can_be_called() -> None:
    assert {*pf.__all__} < {*dir(pf)}
    for name in pf.__all__:
        assert callable(getattr(pf, name))
    import profiler.profile.run

    assert pf.profile is profiler.profile
    assert callable(profiler.profile.run.profile)
    assert list(inspect.signature(pf.profile).parameters)[:3] == ["model", "images", "concepts"]
    with pytest.raises(AttributeError, match="no attribute 'profil'"):
        pf.profil  # noqa: B018
    code = "import profiler.compare.files; assert callable(profiler.compare)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent)
