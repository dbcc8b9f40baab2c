"""Scenes that differ in one level alone: a word tried on a unit, and the variants of a run."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium, opened
from command import Command
from PIL import Image
from tiny import tiny_subject, write_images

from profiler.data.synthetic.design import FACTORS, ChangedScenes, ExperimentScenes
from profiler.errors import InputError, UnknownNameError
from profiler.profile.drivers import Following
from profiler.profile.experiment import BASES, DESIGN, run_variants
from profiler.profile.result import load_run
from profiler.profile.trying import named_levels, try_word

TINY = Path(__file__).parents[1] / "samples" / "tiny.py"
SMALL = ExperimentScenes(4, 3, 64)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_changed_scene_is_the_same_but_for_the_level(factor: str) -> None:
    own = SMALL.truth(1)
    assert SMALL.draw(1, {}).tobytes() == SMALL.read(1).tobytes()
    assert SMALL.draw(1, own).tobytes() == SMALL.read(1).tobytes()
    other = next(level for level in FACTORS[factor] if level != own[factor])
    there = SMALL.draw(1, {factor: other})
    assert there.tobytes() != SMALL.read(1).tobytes()
    # And back again: nothing else was drawn anew.
    again = {**own, factor: own[factor]}
    assert SMALL.draw(1, again).tobytes() == SMALL.read(1).tobytes()
    if factor in ("color", "pattern"):  # the corners are background
        one, two = (np.asarray(each)[:4, :4] for each in (there, SMALL.read(1)))
        assert (one == two).all()


def test_another_background_leaves_the_light_as_it_was() -> None:
    own = SMALL.truth(2)
    other = next(level for level in FACTORS["background"] if level != own["background"])
    changed = np.asarray(SMALL.draw(2, {"background": other}), float)
    plain = np.asarray(SMALL.read(2), float)
    # Somewhere in the middle of the object the pixels are those of the same object.
    assert (np.abs(changed - plain).max(axis=2) < 2).mean() > 0.05


def test_fingerprints_know_the_changes() -> None:
    one = ChangedScenes(SMALL, ((0, {"color": "red"}),), "one")
    other = ChangedScenes(SMALL, ((0, {"color": "blue"}),), "one")
    assert one.fingerprint != other.fingerprint
    assert one.names == ["scene-00000: red"]


@pytest.mark.usefixtures("scenes_once")
def test_redness_follows_red_and_nothing_else() -> None:
    subject = tiny_subject()
    (layer,) = subject.layers(("color",))
    red = try_word(subject, layer, 0, "red", pairs=12)
    (color, ground) = red.levels if len(red.levels) == 2 else (red.levels[0], None)
    assert (color.factor, color.level) == ("color", "red")
    assert color.effect.low > 0.1
    assert red.follows
    # A background may be red as well, and the network does not tell where red is.
    assert ground is None or ground.follows
    blue = try_word(subject, layer, 0, "blue", pairs=12)
    assert not blue.follows
    assert blue.levels[0].effect.value < 0
    striped = try_word(subject, layer, 0, "stripes", pairs=12)
    assert abs(striped.levels[0].effect.value) < 0.3 * color.effect.value
    # By hand: the mean of redness on the pairs of pictures themselves.
    level = color
    shown = []
    for place in range(3):
        picture, _ = red.pair(level, place)
        with torch.inference_mode():
            taken = subject.read((layer,), subject.preprocess(picture)[None])
        shown.append(float(taken["color"][0, 0]))
    assert shown == pytest.approx(level.shown[:3].tolist(), abs=1e-5)


def test_a_dead_unit_follows_nothing() -> None:
    subject = tiny_subject()
    (layer,) = subject.layers(("color",))
    done = try_word(subject, layer, 3, "red", pairs=5)
    assert not done.follows
    assert done.levels[0].effect.value == 0


def test_what_cannot_be_tried() -> None:
    subject = tiny_subject()
    (layer,) = subject.layers(("color",))
    with pytest.raises(UnknownNameError, match="word for what scenes vary 'dog'"):
        try_word(subject, layer, 0, "dog")
    with pytest.raises(UnknownNameError, match="near names: striped"):
        named_levels("stripedd")
    with pytest.raises(InputError, match="units 0 to 3, not 4"):
        try_word(subject, layer, 4, "red")
    with pytest.raises(InputError, match="at least 5 pairs"):
        try_word(subject, layer, 0, "red", pairs=2)


@pytest.mark.usefixtures("scenes_once")
def test_variants_show_every_level_and_what_units_make_of_it() -> None:
    subject = tiny_subject()
    layers = subject.layers(("color", "fc"))
    found = run_variants(subject, layers, 0)
    assert found.place.shape == (BASES, len(DESIGN.columns))
    assert found.place.max() == len(found.pictures) - 1
    for scene in range(BASES):
        own = [
            i
            for i, (factor, level) in enumerate(DESIGN.columns)
            if FACTORS[factor].index(level) == found.base[scene, DESIGN.names.index(factor)]
        ]
        # The scene itself stands in for its own levels; every other level is another picture.
        assert len(set(found.place[scene, own].tolist())) == 1
        assert len(set(found.place[scene].tolist())) == len(DESIGN.columns) - len(own) + 1
    redness = found.activations[0][0]
    red, blue = (DESIGN.columns.index(("color", name)) for name in ("red", "blue"))
    for shown in found.place:
        assert redness[shown[red]] > redness[shown[blue]]
    assert Image.open(io.BytesIO(found.pictures[0])).size == (96, 96)


@pytest.mark.usefixtures("scenes_once")
def test_a_run_has_its_evidence_and_a_word_can_be_tried(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(TINY.read_text())
    write_images(Path("images"), 60)
    Path("words.txt").write_text("red\ngreen\nblue\nstriped\n")
    call = ["run", "net.py:subject", "--vlm", f"{TINY}:vlm", "--probe", "images", "--concepts",
            "words.txt", "-j", 0, "--experiment", "--scenes", 200, "--out", "out"]  # fmt: skip
    done = command(*call)
    assert done.status == 0, done.stderr
    run = load_run("out")
    assert run.variants is not None
    assert run.following(0, run.layers[0].concept[:, 0])[0] is Following.FOLLOWED
    with chromium() as browser, opened(browser, Path("out/report.html")) as view:
        view.page.goto(f"{Path('out/report.html').resolve().as_uri()}#units?open=color:0")
        first = view.page.locator("#units .levels li").first
        assert first.locator("span").first.inner_text() == "red"
        assert view.page.locator("#units .levels li.named").count() >= 1
        assert first.locator("img").count() == BASES
        with view.page.expect_download() as taken:
            view.page.locator("#units .levels .take button", has_text="CSV").first.click()
        assert taken.value.suggested_filename == "effect-of-each-background-color-on-color-0.csv"
        head, *levels = Path(taken.value.path()).read_text().splitlines()
        assert head == "level,effect,half interval"
        assert levels[0].startswith("red,")
        assert len(levels) == len(FACTORS["background color"])
        assert view.complaints == []
    tried = command("try", "out", "color", 0, "red", "--pairs", 10, "-j", 0, "--json")
    assert tried.status == 0, tried.stderr
    content = json.loads(tried.stdout)
    assert content["follows"]
    assert Path(content["page"]).is_file()
    assert command("try", "out", "color", 0, "dog").status == 2
    assert command("try", "out", "colour", 0, "red").status == 2
    Path("net.py").write_text(TINY.read_text().replace("-0.5).fill", "-0.25).fill"))
    changed = command("try", "out", "color", 0, "red", "-j", 0)
    assert changed.status == 2
    assert "is not the network that the run is about" in changed.stderr
    Path("net.py").unlink()
    gone = command("try", "out", "color", 0, "red", "-j", 0)
    assert gone.status == 2
    assert "cannot be loaded again" in gone.stderr
