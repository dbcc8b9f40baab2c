"""What drives the layers of two networks, side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
from browser import opened
from command import Command
from tiny import write_images

from profiler.compare.rules import parse_rule
from profiler.data.synthetic.design import FACTORS
from profiler.errors import UnknownNameError

TINY = Path(__file__).parents[1] / "samples" / "tiny.py"

pytestmark = pytest.mark.usefixtures("scenes_once")
NETS = """
import torch
from torch import nn
from torchvision import transforms


class Net(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.color = nn.Conv2d(3, 3, 1, bias=False)
        self.color.weight = nn.Parameter(torch.tensor(weight)[:, :, None, None])

    def forward(self, images):
        return self.color(images)


def made(weight):
    return Net(weight), transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()])


def redness():
    return made([[1.0, -0.5, -0.5], [1.0, -0.6, -0.4], [1.0, -0.4, -0.6]])


def brightness():
    return made([[0.3, 0.3, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, 0.2]])
"""


@pytest.fixture
def given(tmp_path: Path) -> tuple[object, ...]:
    """The arguments of a comparison of two networks of one layer, but for the experiment."""
    write_images(tmp_path / "probe", 64)
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nwhite\nblack")
    (tmp_path / "nets.py").write_text(NETS)
    return (
        *("compare", f"{tmp_path / 'nets.py'}:redness", f"{tmp_path / 'nets.py'}:brightness"),
        *("--vlm", f"{TINY}:vlm", "--probe", tmp_path / "probe", "--name", "a", "--name", "b"),
        *("--concepts", tmp_path / "words.txt", "--out", tmp_path / "out", "-j", 0, "--draws", 0),
    )


def test_drivers_side_by_side(
    command: Command, given: tuple[object, ...], tmp_path: Path, browser: Any
) -> None:
    asked = ("--experiment", "--scenes", 240, "--timeline", "given")
    rules = ("--fail-on", "light>30%", "--fail-on", "background color[color]>0")
    said = command(*given, *asked, *rules)
    assert said.status == 1
    assert said.error.startswith("light>30%: driver_light is +")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    (layer,) = found["pairs"][-1]["drivers"]
    assert layer["layer"] == "color"
    assert list(layer["change"]) == list(FACTORS)
    light = layer["change"]["light"]
    assert light["low"] > 0.3
    assert light["value"] == pytest.approx(
        layer["after"]["light"]["value"] - layer["before"]["light"]["value"]
    )
    # paired: narrower than the two intervals together
    widths = [each["high"] - each["low"] for each in (light, *map(_light(layer), _SIDES))]
    assert widths[0] < widths[1] + widths[2]
    assert found["summary"].startswith("By experiment, what causes the variance of units changed")
    assert [each["outcome"] for each in found["rules"]] == ["broken", "kept"]
    page = tmp_path / "out" / "compare.html"
    for width, dark in ((1400, False), (400, True)):
        with opened(browser, page, width=width, dark=dark) as view:
            sections = view.page.locator("main section").evaluate_all("all => all.map(s => s.id)")
            assert sections.index("drivers") < sections.index("layers")
            assert "Light rises from 0" in view.page.locator("#drivers-title").inner_text()
            assert view.page.locator("#drivers .bar").count() == 2
            assert view.page.locator("#timeline figure").count() >= 4
            assert view.sideways <= 0
            assert view.weak_text() == []
        assert view.complaints == []


_SIDES = ("before", "after")


def _light(layer: dict[str, Any]) -> Any:
    return lambda side: layer[side]["light"]


def test_other_scenes_are_not_compared(
    command: Command, given: tuple[object, ...], tmp_path: Path
) -> None:
    runs = []
    for subject, *asked in (
        (given[1], "--experiment", "--scenes", 240),
        (given[2], "--experiment", "--scenes", 200),
        (given[2], "--no-experiment"),
    ):
        runs.append(tmp_path / f"run{len(runs)}")
        arguments = [*given[3:7], *given[11:13], "-j", 0, "--out", runs[-1], "--keep-activations"]
        assert command("run", subject, *arguments, *asked).status == 0
    out = ("--out", tmp_path / "out", "--draws", 0, "--fail-on", "shape<-3%")
    said = command("compare", runs[0], runs[1], *out)
    assert "because the networks were shown different scenes" in said.stderr
    assert said.status == 4  # the rule could not be decided
    said = command("compare", runs[0], runs[2], *out)
    assert "because run2 came without the experiment" in said.stderr
    assert 'id="drivers"' not in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")


def test_rules_name_factors() -> None:
    rule = parse_rule("shape[layer4]<-3%", ["color", "material"])
    assert (rule.metric, rule.layer, rule.bound) == ("driver_shape", "layer4", -0.03)
    assert parse_rule("color<1", ["color"]).metric == "color"  # the category
    assert parse_rule("color<1", ["thing"]).metric == "driver_color"
    assert parse_rule("driver_color<1", ["color"]).metric == "driver_color"
    for name in ("background color", "background_color", "driver_background_color"):
        assert parse_rule(f"{name}[a]>1%", ["color"]).metric == "driver_background_color"
    with pytest.raises(UnknownNameError, match=r"unknown metric of --fail-on 'shap'.*shape"):
        parse_rule("shap<1", ["color"])
