"""Drivers: shares that follow by arithmetic, intervals that cover, bits that do not move."""

import csv
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from PIL import Image
from torch import nn

from profiler.core.arrays import Float64
from profiler.core.store import Store
from profiler.data.factors import Factors
from profiler.data.synthetic.design import FACTORS, ExperimentScenes
from profiler.errors import InputError
from profiler.models.subject.loading import load_subject
from profiler.models.subject.network import Subject
from profiler.profile.drivers import (
    GROUPS,
    Experiment,
    Following,
    LayerDrivers,
    columns_of,
    drivers,
    following,
    groups_of,
)
from profiler.profile.drivers_view import DriversView
from profiler.profile.experiment import drawn_once, run_experiment
from profiler.session import Reading, Services

NAMES = tuple(FACTORS)
SIZES = {name: len(levels) for name, levels in FACTORS.items()}

pytestmark = pytest.mark.usefixtures("scenes_once")


def full(count: int = 1000, seed: int = 0) -> Factors:
    return ExperimentScenes(count, seed).factors


def crossed(copies: int = 4) -> Factors:
    """A complete design, in random order: each of 4 × 3 × 5 combinations equally often."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(3), np.arange(5)), axis=-1).reshape(-1, 3)
    codes = np.random.default_rng(0).permutation(np.concatenate([grid] * copies))
    levels = (("a0", "a1", "a2", "a3"), ("b0", "b1", "b2"), ("c0", "c1", "c2", "c3", "c4"))
    return Factors(("a", "b", "c"), levels, codes)


def at(factors: Factors, name: str) -> Float64:
    return factors.codes[:, factors.names.index(name)].astype(np.float64)


def is_level(factors: Factors, name: str, level: str) -> Float64:
    place = factors.names.index(name)
    shown: Float64 = factors.codes[:, place] == factors.levels[place].index(level)
    return shown.astype(np.float64)


def pair(factors: Factors, one: str, other: str) -> int:
    return factors.pairs.index((factors.names.index(one), factors.names.index(other)))


def equal(one: LayerDrivers, other: LayerDrivers) -> bool:
    values = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(LayerDrivers)[2:])
    return all(np.array_equal(a, b, equal_nan=True) for a, b in values)


# --- the formulas -----------------------------------------------------------------------------


def omega_by_loop(a: Float64, groups: np.ndarray) -> float:
    n, levels = len(a), np.unique(groups)
    between = 0.0
    for level in levels:
        own = a[groups == level]
        between += len(own) * (own.mean() - a.mean()) ** 2
    total = ((a - a.mean()) ** 2).sum()
    within = (total - between) / (n - len(levels))
    return float((between - (len(levels) - 1) * within) / (total + within))


def test_shares_are_those_of_a_loop_over_levels() -> None:
    factors = full(400)
    rng = np.random.default_rng(0)
    a = rng.gamma(1.0, size=(400, 5)) + 300 * np.arange(5) + at(factors, "shape")[:, None]
    found = drivers("layer", a, factors)
    for unit in range(5):
        for place, name in enumerate(NAMES):
            alone = omega_by_loop(a[:, unit], factors.codes[:, place])
            assert found.share[unit, place] == pytest.approx(alone, abs=1e-9), name
        for number, (i, j) in enumerate(factors.pairs):
            cells = factors.codes[:, i] * 100 + factors.codes[:, j]
            both = omega_by_loop(a[:, unit], cells)
            less = found.share[unit, i] + found.share[unit, j]
            assert found.two_way[unit, number] == pytest.approx(both - less, abs=1e-9)


def test_effects_and_errors_are_those_of_a_loop() -> None:
    factors = full(400)
    a = np.random.default_rng(1).normal(size=(400, 3)) + is_level(factors, "color", "red")[:, None]
    found = drivers("layer", a, factors)

    def effect(a: Float64, shown: np.ndarray) -> Float64:
        return np.asarray((a[shown].mean(axis=0) - a[~shown].mean(axis=0)) / a.std(axis=0))

    shown = is_level(factors, "color", "red") > 0
    column = factors.columns.index(("color", "red"))
    assert found.effect[:, column] == pytest.approx(effect(a, shown), abs=1e-9)
    kept = [np.delete(np.arange(400), part) for part in groups_of(400)]
    without = np.array([effect(a[some], shown[some]) for some in kept])
    error = np.sqrt((GROUPS - 1) * without.var(axis=0))
    assert found.effect_error[:, column] == pytest.approx(error, abs=1e-9)


def test_a_complete_design_gives_the_shares_of_arithmetic() -> None:
    factors = crossed(40)
    a, b = at(factors, "a"), at(factors, "b")
    # variances of 0…3 and 0…2: 5/4 and 2/3; products of centred levels: their product
    product = (a - 1.5) * (b - 1)
    found = drivers("layer", np.stack([a + b, product, a + product], axis=1), factors)
    assert found.share[0] == pytest.approx([15 / 23, 8 / 23, 0], abs=2e-3)
    assert found.share[1] == pytest.approx([0, 0, 0], abs=2e-3)
    assert found.two_way[1] == pytest.approx([1, 0, 0], abs=6e-3)
    assert found.share[2] == pytest.approx([0.6, 0, 0], abs=2e-3)  # 5/4 of 5/4 + 5/6
    assert found.two_way[2] == pytest.approx([0.4, 0, 0], abs=6e-3)


def test_units_that_are_functions_of_levels() -> None:
    factors = full(4000)
    red, round_ = is_level(factors, "color", "red"), is_level(factors, "shape", "circle")
    light = np.array([0.52, 0.7, 0.88, 1.06])[at(factors, "light").astype(int)]
    bright = light + 0.1 * red  # variances 0.0405 and 0.01 · 10/121
    both = red * round_
    found = drivers("layer", np.stack([red, bright, both], axis=1), factors)
    color, shape, lights = (NAMES.index(name) for name in ("color", "shape", "light"))
    assert found.share[0, color] == pytest.approx(1)
    assert found.share[1, lights] == pytest.approx(0.0405 / (0.0405 + 0.01 * 10 / 121), abs=0.01)
    # p = 1/11 and q = 1/10: pq − (pq)² in all; the means of one vary by q² p (1 − p)
    p, q = 1 / 11, 1 / 10
    whole = p * q - (p * q) ** 2
    assert found.share[2, color] == pytest.approx(q * q * p * (1 - p) / whole, abs=0.02)
    assert found.share[2, shape] == pytest.approx(p * p * q * (1 - q) / whole, abs=0.02)
    interplay = p * (1 - p) * q * (1 - q) / whole
    assert found.two_way[2, pair(factors, "color", "shape")] == pytest.approx(interplay, abs=0.04)
    others = np.delete(found.share[:, :], [color, shape, lights], axis=1)
    assert np.abs(others).max() < 0.01


def test_what_varies_within_levels_is_the_rest() -> None:
    """Stripes of one direction: which way a pattern runs is no factor."""
    factors = full(4000)
    angle = np.random.default_rng(0).uniform(0, np.pi, 4000)
    a = is_level(factors, "pattern", "striped") * np.cos(angle) ** 2
    found = drivers("layer", a[:, None], factors)
    # cos² has mean 1/2 and mean square 3/8
    share = 0.1 * 0.9 / 4 / (0.1 * 3 / 8 - 0.01 / 4)
    told = found.shares()["pattern"]
    assert told.low < share < told.high
    assert told.value == pytest.approx(share, abs=0.02)
    rest = found.rest()
    assert rest.low < 1 - share < rest.high


def test_permuted_activations_have_shares_of_nothing() -> None:
    shares = []
    for seed in range(20):
        factors = full(500, seed)
        a = np.random.default_rng(seed).permutation(at(factors, "shape"))[:, None]
        found = drivers("layer", a, factors)
        shares.append(np.append(found.mean[: len(NAMES)], found.all_two_way().value))
    error = np.std(shares, axis=0) / np.sqrt(20)
    assert (np.abs(np.mean(shares, axis=0)) < 3.5 * error + 1e-4).all()


def test_intervals_cover() -> None:
    """95 % of them, a few points more or less: share 0.2 of shape, 0.3 of background, 0 of rest."""
    covered = []
    for seed in range(60):
        factors = full(1000, seed)
        rng = np.random.default_rng(seed)
        a = 0.0
        for name, share in (("shape", 0.2), ("background", 0.3)):
            levels = np.random.default_rng(7).normal(size=SIZES[name])
            levels = (levels - levels.mean()) / levels.std()
            a = a + np.sqrt(share) * levels[at(factors, name).astype(int)]
        common = rng.normal(size=1000)
        units = [a + np.sqrt(0.5) * (0.6 * common + 0.8 * rng.normal(size=1000)) for _ in range(3)]
        found = drivers("layer", np.stack(units, axis=1), factors)
        truth = {"shape": 0.2, "background": 0.3}
        hits = [i.low <= truth.get(name, 0) <= i.high for name, i in found.shares().items()]
        two, rest = found.all_two_way(), found.rest()
        covered.append([*hits, two.low <= 0 <= two.high, rest.low <= 0.5 <= rest.high])
    rates = np.mean(covered, axis=0)
    assert 0.9 <= rates.mean() <= 1
    assert rates.min() >= 0.83  # 60 draws of 0.95: 1 in 1000 lies lower


def test_the_difference_of_two_networks_is_paired() -> None:
    factors = full()
    rng = np.random.default_rng(0)
    shape = is_level(factors, "shape", "ring")
    noise = rng.normal(size=(1000, 4))
    before = drivers("layer", 1.0 * shape[:, None] + noise, factors)
    after = drivers("layer", 1.3 * shape[:, None] + noise, factors)
    change = after.less(before)["shape"]
    one, other = after.shares()["shape"], before.shares()["shape"]
    assert change.value == pytest.approx(one.value - other.value)
    assert change.low > 0
    assert change.high - change.low < (one.high - one.low + other.high - other.low) / 2


def test_a_unit_that_does_not_vary_has_no_share_and_does_not_count() -> None:
    factors = full(300)
    shape = at(factors, "shape")
    steady = np.full(300, 7.1) + np.where(np.arange(300) % 2, 1e-8, 0)
    found = drivers("layer", np.stack([shape, steady], axis=1), factors)
    assert found.varying.tolist() == [True, False]
    assert np.isnan(found.share[1]).all()
    assert found.shares()["shape"].value == pytest.approx(1)
    silent = drivers("layer", np.zeros((300, 2)), factors)
    assert silent.shares()["shape"].value == 0


def test_units_are_worked_on_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = full(300)
    a = np.random.default_rng(0).normal(size=(300, 9))
    expected = drivers("layer", a, factors)
    monkeypatch.setattr("profiler.profile.drivers._UNITS", 4)
    found = drivers("layer", a, factors)
    assert found.share == pytest.approx(expected.share, abs=1e-12)
    assert found.mean == pytest.approx(expected.mean, abs=1e-14)


def test_what_does_not_fit_is_refused() -> None:
    factors = full(300)
    with pytest.raises(InputError, match="300 images"):
        drivers("layer", np.zeros((299, 1)), factors)
    with pytest.raises(InputError, match="at least 200"):
        drivers("layer", np.zeros((150, 1)), factors.take(slice(0, 150)))
    with pytest.raises(InputError, match="a level that its factor does not have"):
        Factors(("a",), (("x", "y"),), np.array([[2]]))


# --- words ------------------------------------------------------------------------------------


def test_a_unit_follows_a_word_or_does_not_or_cannot_be_asked() -> None:
    factors = full()
    rng = np.random.default_rng(0)
    striped = is_level(factors, "pattern", "striped")
    blue = is_level(factors, "background color", "blue")
    a = np.stack([striped, -striped, blue], axis=1) + rng.normal(size=(1000, 3))
    found = drivers("layer", np.column_stack([a, np.zeros(1000)]), factors)
    assert len(columns_of("blue", factors)) == 2  # of the object, or behind it
    words = ("stripes", "striped", "blue", "dog")
    told = list(zip(*(following(found, [word] * 4, factors) for word in words), strict=True))
    yes, no, unknown = Following.FOLLOWED, Following.NOT_FOLLOWED, Following.NOT_TESTABLE
    assert told == [
        (yes, yes, no, unknown),
        (no, no, no, unknown),
        (no, no, yes, unknown),
        (unknown,) * 4,
    ]
    assert following(found, [None, "striped", None, None], factors) == [None, no, None, None]


# --- on pixels --------------------------------------------------------------------------------


class _Eyes(nn.Module):
    """Two units whose drivers are known: mean brightness and redness."""

    def __init__(self) -> None:
        super().__init__()
        self.light = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            weight = torch.tensor([[0.2126, 0.7152, 0.0722], [1.0, -0.5, -0.5]])
            self.light.weight.copy_(weight[:, :, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.light(images).mean(dim=(2, 3)))


def _eyes(size: int = 64) -> Subject:
    def preprocess(image: object) -> torch.Tensor:
        return torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1)

    return Subject("eyes", _Eyes().eval(), preprocess, "by hand", f"{size} pixels")


def test_light_and_redness_on_pixels(tmp_path: Path) -> None:
    scenes = ExperimentScenes(400, seed=1, size=48)
    subject = _eyes()
    done = run_experiment(
        subject, subject.layers(["light"]), scenes, services=Services(store=Store(tmp_path))
    )
    (layer,) = done.layers
    share = dict(zip(NAMES, layer.share.T, strict=True))
    assert share["light"][0] > 0.85
    assert share["background color"][1] > 0.3
    for name in ("background", "position", "turn", "shape", "material"):
        assert np.abs(share[name]).max() < 0.04, name  # of 400 scenes
    assert done.seconds.keys() == {"drawing", "network", "drivers"}


def test_a_kept_experiment_draws_and_runs_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, subject, store = ExperimentScenes(260, size=32), _eyes(), Store(tmp_path)
    wanted = subject.layers(["light"])
    first = run_experiment(subject, wanted, scenes, services=Services(store=store))
    drawn = drawn_once(scenes, None)
    assert drawn is scenes
    kept = drawn_once(scenes, store)
    assert np.array_equal(np.asarray(kept.read(257)), np.asarray(scenes.read(257)))
    plain = run_experiment(subject, wanted, scenes, reading=Reading(batch_size=7))
    monkeypatch.setattr(ExperimentScenes, "read", None)
    monkeypatch.setattr(Subject, "read", None)
    again = run_experiment(subject, wanted, scenes, services=Services(store=store))
    assert equal(first.layers[0], again.layers[0])
    assert first.layers[0].share == pytest.approx(plain.layers[0].share, abs=1e-4)


# --- the command ------------------------------------------------------------------------------

NET = """
from torch import nn
from torchvision import transforms


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)), transforms.Compose(
        [transforms.Resize(24), transforms.ToTensor()]
    )
"""


def test_the_command_prints_a_table_or_json_and_writes_files(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NET)
    given = ("drivers", f"{tmp_path / 'net.py'}:net", "--layers", "0,2", "--scenes", "200", "-j", 0)
    said = command(*given)
    assert said.status == 0
    assert "background color" in said.stdout
    assert len([line for line in said.stdout.splitlines() if "±" in line]) == 2
    out = tmp_path / "out"
    told = json.loads(command(*given, "--json", "--out", out).stdout)
    assert [layer["units"] for layer in told["layers"]] == [4, 5]
    assert set(told["layers"][0]["shares"]) == {name.replace(" ", "_") for name in NAMES}
    sums = told["layers"][0]["sums"]
    assert sums["factors"] == pytest.approx(sum(told["layers"][0]["shares"].values()))
    assert sum(sums.values()) == pytest.approx(1)
    assert json.loads((out / "drivers.json").read_text())["layers"] == told["layers"]
    with (out / "drivers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert rows[0]["driver"] in told["factors"]
    page = (out / "drivers.html").read_text(encoding="utf-8")
    assert "What drives" in page
    assert page.count('<svg class="bar"') == 2
    assert page.count('<svg class="panel"') == len(NAMES)
    assert "default-src 'none'" in page


def test_a_page_of_one_layer_and_of_dead_units(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET.replace("nn.ReLU()", "nn.Threshold(1e9, 0.0)"))
    given = ("drivers", f"{tmp_path / 'net.py'}:net", "--layers", "1", "--scenes", "200", "-j", 0)
    said = command(*given, "--out", tmp_path / "out")
    assert said.status == 0
    assert "Units that do not vary" in (tmp_path / "out" / "drivers.html").read_text("utf-8")
    with (tmp_path / "out" / "drivers.csv").open(encoding="utf-8") as file:
        assert [row["color"] for row in csv.DictReader(file)] == [""] * 4


def test_annotated_images_are_described(command: Command, tmp_path: Path) -> None:
    """Colour follows the folder here, so both have the same share, and the page says so."""
    lines = ["image,folder,tint,size,caption"]
    for i in range(220):
        name = f"{i:03d}.png"
        red = 40 + 160 * (i % 2)
        Image.new("RGB", (24, 24), (red + i % 5, 90, 90)).save(tmp_path / name)
        lines.append(f"{name},{'ab'[i % 2]},{('cold', 'warm')[i % 2]},{i % 97 / 7},no. {i}")
    table = tmp_path / "seen.csv"
    table.write_text("\n".join(lines))
    (tmp_path / "net.py").write_text(NET)
    given = ("drivers", f"{tmp_path / 'net.py'}:net", "--layers", "0", "-j", 0)
    out = tmp_path / "out"
    told = json.loads(
        command(*given, "--annotations", table, "--json", "--out", out, "--allow-bad").stdout
    )
    assert told["caused"] is False
    assert told["factors"]["folder"] == ["a", "b"]
    assert told["factors"]["size"][0] == "lowest quarter"
    assert "caption" not in told["factors"]
    shares = told["layers"][0]["shares"]
    assert shares["folder"] > 0.95
    assert shares["folder"] == pytest.approx(shares["tint"])
    assert told["association"][0][1] == pytest.approx(1)
    page = (out / "drivers.html").read_text("utf-8")
    assert "Which attributes go together" in page
    assert "controlled experiment" not in page
    said = command(*given, "--annotations", table).stdout
    assert "folder and tint (Cramér's V 1.00)" in said
    assert "pairs" not in said
    assert "exclude" in command(*given, "--annotations", table, "--scenes", 300).error


def test_a_single_factor_has_no_pairs() -> None:
    codes = np.arange(300)[:, None] % 3
    factors = Factors(("a",), (("x", "y", "z"),), codes)
    found = drivers("layer", codes.astype(np.float64), factors)
    assert found.share.tolist() == [[1.0]]
    assert found.all_two_way().value == 0


def test_the_finding_says_what_rises_and_what_falls() -> None:
    factors = full()
    noise = np.random.default_rng(0).normal(size=(1000, 3))
    light, shape = is_level(factors, "light", "dark"), is_level(factors, "shape", "ring")
    layers = (
        drivers("stem", light[:, None] + 0.1 * noise, factors),
        drivers("head", 2 * shape[:, None] + 0.1 * noise, factors),
    )
    told = Experiment(layers, factors, 1000).finding()
    assert told.startswith("from stem to head, shape rises from 0 to 9")
    assert ", light falls from 9" in told
    assert DriversView(Experiment(layers, factors, 1000)).headline.startswith("Shape rises from 0")
    random = Experiment((layers[0], layers[0]), factors, 1000)
    assert DriversView(random).headline.endswith("of any layer’s variance")


def test_the_command_refuses_few_scenes_in_one_line(command: Command) -> None:
    said = command("drivers", "efficientnet_lite0", "--scenes", "20")
    assert said.status == 2
    assert said.error == "--scenes must be at least 200 to tell drivers, got 20"


@pytest.mark.slow
def test_units_of_filters_are_found_to_do_what_they_were_made_for() -> None:
    """Redness, stripes and rings of pixels; ``benchmarks/planted_units.py`` takes 20 seeds."""
    made = Path(__file__).parents[1] / "samples" / "planted.py"
    subject = load_subject(f"{made}:subject", torch.device("cpu"))
    scenes = ExperimentScenes(400, 5)
    done = run_experiment(subject, subject.layers(("seen",)), scenes)
    (layer,) = done.layers
    planted = {"red": "color", "striped": "pattern", "ring": "shape"}
    assert following(layer, list(planted), done.factors) == [Following.FOLLOWED] * 3
    others = following(layer, ["blue", "dotted", "heart"], done.factors)
    assert others == [Following.NOT_FOLLOWED] * 3
    for unit, (level, factor) in enumerate(planted.items()):
        assert done.factors.columns[int(layer.effect[unit].argmax())] == (factor, level)
        shares = dict(zip(layer.factors, layer.share[unit].tolist(), strict=True))
        own = shares.pop(factor)
        assert own > 0.1
        assert own > 2 * max(shares.values())
