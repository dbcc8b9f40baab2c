"""A profile with an experiment on drawn scenes: what is kept of it, and where it shows."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import opened
from checked import complaints
from command import Command
from tiny import write_images

from profiler.data.synthetic.design import FACTORS, ExperimentScenes
from profiler.errors import InputError
from profiler.models.subject.network import Subject
from profiler.profile.drivers import followed_of
from profiler.profile.facts import ProfileFacts
from profiler.profile.result import ProfileRun, load_run

TINY = Path(__file__).parents[1] / "samples" / "tiny.py"

pytestmark = pytest.mark.usefixtures("texts_once", "scenes_once")
WORDS = ("red", "green", "blue", "yellow", "striped", "dog")
EXPERIMENT = ("--experiment", "--scenes", 240)

PICKY = """
from torch import nn
from torchvision import transforms


class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.color = nn.Conv2d(3, 4, 1)

    def forward(self, images):
        if images.shape[-1] == 224:
            raise ValueError("not of this size")
        return self.color(images)


def net():
    return Picky(), transforms.ToTensor()
"""
"""Takes images of any size but that of scenes."""


@pytest.fixture
def given(tmp_path: Path) -> tuple[object, ...]:
    """The arguments of a profile of the hand-made network."""
    write_images(tmp_path / "probe", 64)
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    return (
        *("run", f"{TINY}:subject", "--vlm", f"{TINY}:vlm", "--probe", tmp_path / "probe"),
        *("--concepts", tmp_path / "words.txt", "--out", tmp_path / "out", "-j", 0),
    )


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "descriptions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(one: ProfileRun, other: ProfileRun) -> bool:
    pairs = zip(one.drivers, other.drivers, strict=True)
    return all(
        np.array_equal(values, b.to_arrays()[name], equal_nan=True)
        for a, b in pairs
        for name, values in a.to_arrays().items()
    )


def test_a_run_keeps_the_experiment_and_makes_it_once(
    command: Command,
    given: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    browser: Any,
) -> None:
    out = tmp_path / "out"
    told = json.loads(command(*given, *EXPERIMENT, "--json").stdout)
    run = load_run(out)
    record = run.record.experiment
    assert record is not None
    assert (record.scenes, record.seed) == (240, 0)
    assert record.factors == FACTORS
    assert record.fingerprint == ExperimentScenes(240).fingerprint
    assert [each for each in run.record.timings if each.startswith("experiment")] == [
        "experiment: drawing",
        "experiment: network",
        "experiment: drivers",
        "experiment: variants",
    ]
    # unit 0 is redness, unit 3 never varies
    color = run.drivers[0]
    assert color.varying.tolist() == [True, True, True, False]
    profile = json.loads((out / "profile.json").read_text())
    assert profile["drivers"] == told["drivers"]
    first = profile["drivers"]["layers"][0]
    assert first["shares"]["background_color"] == pytest.approx(
        run.drivers[0].shares()["background color"].value
    )
    assert first["shares"]["background_color"] > 0.2

    table = rows(out)
    names = [f"driver_{name.replace(' ', '_')}" for name in FACTORS]
    assert list(table[0])[-13:] == [*names, "followed", "explanation_followed"]
    assert float(table[0]["driver_background_color"]) == pytest.approx(
        float(color.share[0, 5]), rel=1e-4
    )
    assert table[3]["driver_color"] == ""
    followed = {row["description"]: row["followed"] for row in table}
    assert followed["red"] == followed["green"] == followed["blue"] == "1"
    followed_labels, asked = followed_of(run.followed["peak"])
    assert 0 < followed_labels <= asked
    counts = profile["drivers"]["layers"][0]["followed"]["peak"]
    assert sum(each["followed"] for each in counts.values()) == sum(
        row["followed"] == "1" and row["interpretable"] == "1"
        for row in table
        if row["layer"] == "color"
    )

    look(browser, out / "report.html")

    # The subject is not called again, and nothing is drawn.
    monkeypatch.setattr(ExperimentScenes, "read", None)
    monkeypatch.setattr(Subject, "read", None)
    assert command(*given, *EXPERIMENT).status == 0
    assert same(run, load_run(out))
    before = (out / "descriptions.csv").read_bytes()
    assert command("categorize", out).status == 0
    assert (out / "descriptions.csv").read_bytes() == before
    assert "What drives each layer" in (out / "report.html").read_text(encoding="utf-8")


def look(browser: Any, report: Path) -> None:
    """The first chart, and what an opened row says of a unit."""
    for width, dark in ((1400, False), (400, True)):
        with opened(browser, report, width=width, dark=dark) as view:
            sections = view.page.locator("main section").evaluate_all("all => all.map(s => s.id)")
            assert sections.index("drivers") < sections.index("categories")
            view.page.locator("#units .toggle").first.click()
            row = view.page.locator("#units tr.detail").first.inner_text()
            assert "What drives it, by experiment" in row
            assert "Of its words it follows" in row
            assert view.page.locator("#units .driven li").count() >= 1
            assert view.sideways <= 0
            assert view.weak_text() == []
        assert view.complaints == []


def test_a_run_without_an_experiment_says_nothing_of_it(
    command: Command, given: tuple[object, ...], tmp_path: Path
) -> None:
    assert command(*given, "--no-experiment").status == 0
    run = load_run(tmp_path / "out")
    assert run.experiment is None
    assert run.followed == {}
    assert "followed" not in rows(tmp_path / "out")[0]
    assert "drivers" not in json.loads((tmp_path / "out" / "profile.json").read_text())
    assert 'id="drivers"' not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    record = tmp_path / "out" / "run.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    del content["record"]["experiment"]  # as earlier versions wrote it
    record.write_text(json.dumps(content), encoding="utf-8")
    assert load_run(tmp_path / "out").drivers == ()
    content["record"]["experiment"] = {
        "version": 1, "scenes": 240, "seed": 0, "fingerprint": "", "factors": {"color": ["red"]}
    }  # fmt: skip
    record.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        load_run(tmp_path / "out")


def test_a_network_that_cannot_take_the_scenes_goes_without(
    command: Command, given: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    said = command("run", f"{tmp_path / 'picky.py'}:net", *given[2:], *EXPERIMENT)
    assert said.status == 0, said.stderr
    assert "the experiment on drawn scenes was left out" in said.stderr
    run = load_run(tmp_path / "out")
    assert run.drivers == ()
    assert any("left out" in warning for warning in run.warnings)


def test_one_pass_serves_both_where_the_probe_images_are_the_experiments(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    read = Subject.read

    def counted(self: Subject, layers: Any, images: Any) -> Any:
        seen.append(len(images))
        return read(self, layers, images)

    monkeypatch.setattr(Subject, "read", counted)
    call = ("run", f"{TINY}:subject", "--concepts", "annotations:truth", *EXPERIMENT)
    call = (*call, "-j", 0, "--batch-size", 24, "--outlines", 0)
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert command(*call, "--probe", "synthetic:1", "--limit", 40, "--out", alone).status == 0
    apart = sum(seen)
    seen.clear()
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(tmp_path / "another"))
    done = command(*call, "--probe", "synthetic", "--limit", 240, "--out", both)
    assert done.status == 0, done.stderr
    # A pass over 40 images is saved, and the four that a network is tried on before it.
    assert sum(seen) == apart - 44
    one, other = load_run(alone), load_run(both)
    assert one.experiment is not None
    assert same(one, other)
    assert one.record.experiment == other.record.experiment
    assert "experiment: network" in one.record.timings
    assert "experiment: network" not in other.record.timings
    # Scenes on which words were chosen are no test of these words.
    assert (one.worded_on_scenes, other.worded_on_scenes) == (False, True)
    # Other scenes than those of the probe set need a pass of their own.
    seen.clear()
    assert command(*call, "--probe", "synthetic", "--limit", 230, "--out", both).status == 0
    assert sum(seen) >= 230 + 240


def test_few_scenes_are_refused_before_anything_is_loaded(command: Command) -> None:
    said = command("run", "resnet18", "--experiment", "--scenes", 50)
    assert said.status == 2
    assert said.error == "--scenes must be at least 200 to tell drivers, got 50"


def test_the_summary_keeps_to_its_facts(
    command: Command, given: tuple[object, ...], tmp_path: Path
) -> None:
    command(*given, *EXPERIMENT)
    run = load_run(tmp_path / "out")
    assert "drawn scenes" in run.summary
    assert "follow" not in run.summary.partition("A few words")[0]  # of six units, it says little
    facts = ProfileFacts(
        run.record.subject.name,
        run.profile,
        experiment=run.experiment,
        followed={"peak": (11, 12), "range": (3, 4)},
    )
    assert facts.template().startswith("By an experiment on 240 drawn scenes, ")
    assert "Units follow 11 of 12 trusted labels that name what the scenes" in facts.template()
    assert complaints(facts.template(), facts) == []
    silent = replace(facts, experiment=None, followed={})
    assert "experiment" not in silent.template()
