"""Outlines of where units respond: laid onto the picture, kept with the run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from PIL import Image
from preprocessings import KINDS
from safetensors.numpy import load_file, save_file
from tiny import write_images
from torch import nn

from profiler.activations.maps import LayerMaps, read_maps
from profiler.data.images import ImageFolder
from profiler.models.subject.geometry import Frame
from profiler.models.subject.network import Subject
from profiler.profile.outlines import LayerOutlines, Outlines, _outlined, contours
from profiler.profile.result import load_run
from profiler.profile.view import render_profile

TINY = Path(__file__).parents[1] / "samples" / "tiny.py"
CELLS = 14


def inside(rings: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Which points lie in an odd number of rings."""
    found = np.zeros(len(points), bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
            with np.errstate(divide="ignore", invalid="ignore"):
                at = x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0)
            found ^= crosses & (points[:, 0] < at)
    return found


def test_contours_hold_what_is_above_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(40, 5, 7))
    cut = rng.normal(size=40)
    y, x = np.meshgrid((np.arange(5) + 0.5) / 5, (np.arange(7) + 0.5) / 7, indexing="ij")
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    for one, value, rings in zip(maps, cut, contours(maps, cut), strict=True):
        assert (inside(rings, centres) == (one > value).ravel()).all()
        assert all(each.min() >= 0 and each.max() <= 1 for each in rings)


def test_a_whole_map_above_the_value_has_its_border_as_the_line() -> None:
    (ring,) = contours(np.full((1, 2, 2), 3.0), np.array([1.0]))[0]
    assert set(ring.ravel().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    x, y = ring.T
    area = 0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
    assert area == pytest.approx(1.0, abs=0.15)  # positive: clockwise, as y runs downwards


class Brightness(nn.Module):
    """One unit, whose map is the brightness of 14 × 14 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 1, 8, stride=8)
        nn.init.constant_(self.map.weight, 1 / 192)
        nn.init.zeros_(self.map.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.map(images).mean(dim=(2, 3))
        return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(300, 225), (180, 240)])
def test_the_outline_lies_on_the_white_square(
    kind: str, size: tuple[int, int], tmp_path: Path
) -> None:
    preprocess = KINDS[kind]()
    squares = [(0.25, 0.3), (0.5, 0.5), (0.62, 0.4), (0.3, 0.62), (0.45, 0.25)]
    width, height = size
    side = 40
    for i, (x, y) in enumerate(squares):
        picture = Image.new("RGB", size)
        at = (round(x * width) - side // 2, round(y * height) - side // 2)
        picture.paste((255, 255, 255), (*at, at[0] + side, at[1] + side))
        picture.save(tmp_path / f"{i}.png")
    probe = ImageFolder.open(tmp_path)
    net = Subject("net", Brightness().eval(), preprocess, "by hand", kind)
    layers = net.layers(("map",))
    images = torch.stack([preprocess(probe.read(i)) for i in range(len(squares))])
    values = net.read(layers, images)["map"].T.numpy()
    shown = np.argsort(-values, axis=1, kind="stable")
    top = np.take_along_axis(values, shown, axis=1)
    maps = read_maps(net, layers, probe, [shown], [top], passes=100)
    # So few images have no upper half per cent to speak of.
    own = maps.layers[0]
    cut = replace(own, threshold=np.array([(own.maps.min() + own.maps.max()) / 2]))
    found = Outlines.of(replace(maps, layers=(cut,)), [shown])
    looked = 0
    for rank, image in enumerate(shown[0].tolist()):
        frame = maps.frames[image]
        x, y = squares[image]
        left, top_edge, right, bottom = frame.seen
        half = side / 2 / np.array(size)
        if not (left < x - half[0] and x + half[0] < right):
            continue
        if not (top_edge < y - half[1] and y + half[1] < bottom):
            continue
        rings = found.layers[0].outline(0, rank)
        assert rings, (kind, image)
        corners = np.concatenate(rings)
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
        cell = np.array([frame.right - frame.left, frame.bottom - frame.top]) / CELLS
        assert (np.abs(middle - (x, y)) < cell).all(), (kind, image, middle)
        looked += 1
    assert looked


def whole_frame() -> dict[int, Frame]:
    return {0: Frame(0, 0, 1, 1)}


@pytest.mark.parametrize(
    ("values", "rings"),
    [
        (lambda: np.pad(np.ones((2, 2)), 1), 1),
        (lambda: np.zeros((4, 4)), 0),
        (lambda: np.ones((4, 4)), 0),
    ],
    ids=["a place", "nothing", "everything"],
)
def test_diffuse_where_nothing_or_everything_stands_out(
    values: Callable[[], np.ndarray], rings: int
) -> None:
    maps = LayerMaps(
        "layer", False, np.array([0]), np.array([0]), values()[None], np.array([0.2, 0.2])
    )
    shown = np.zeros((2, 1), np.int64)
    found = _outlined(maps, shown, whole_frame())
    assert found.rings.tolist() == [[rings], [-1]]
    assert found.outline(1, 0) is None


def test_outlines_are_kept_as_they_are() -> None:
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(6, 4, 4)).astype(np.float32)
    unit, rank = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    layer = LayerMaps("layer", False, unit, rank, maps, np.full(3, 0.3))
    found = _outlined(layer, np.zeros((3, 2), np.int64), whole_frame())
    arrays = {f"0.outline.{name}": each for name, each in found.to_arrays().items()}
    again = LayerOutlines.from_arrays("layer", arrays, "0.outline.")
    for u in range(3):
        for r in range(2):
            for one, other in zip(
                found.outline(u, r) or [], again.outline(u, r) or [], strict=True
            ):
                assert (one == other).all()
    assert sum(each.nbytes for each in arrays.values()) < 60 * len(maps)


def test_a_run_keeps_its_outlines_and_one_without_them_is_read(
    command: Command, tmp_path: Path
) -> None:
    write_images(tmp_path / "images", 60)
    for path in (tmp_path / "images").glob("*.png"):  # one half of each is black
        picture = Image.open(path)
        picture.paste((128, 128, 128), (8, 0, 16, 16))
        picture.save(path)
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\ngray\n")
    call = ["run", f"{TINY}:subject", "--vlm", f"{TINY}:vlm", "--probe", tmp_path / "images",
            "--concepts", tmp_path / "words.txt", "-j", 0]  # fmt: skip
    done = command(*call, "--out", tmp_path / "with")
    assert done.status == 0, done.stderr
    run = load_run(tmp_path / "with")
    assert run.outlines is not None
    assert run.record.outlines is not None
    color = run.outlines.layers[0]
    # Redness is in the left half, which the network sees as it is.
    rings = color.outline(0, 0)
    assert rings is not None
    if rings:
        assert np.concatenate(rings)[:, 0].max() <= 0.6
    assert command(*call, "--outlines", 0, "--out", tmp_path / "without").status == 0
    bare = load_run(tmp_path / "without")
    assert bare.outlines is None
    assert render_profile(bare)
    assert render_profile(replace(run, outlines=None))
    assert np.array_equal(bare.layers[0].score, run.layers[0].score, equal_nan=True)
    assert command(*call, "--outlines", -1, "--out", tmp_path / "x").status == 2


def test_a_run_of_an_earlier_version_is_read_and_rendered(command: Command, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 60)
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\ngray\n")
    out = tmp_path / "out"
    done = command("run", f"{TINY}:subject", "--vlm", f"{TINY}:vlm", "--probe", tmp_path / "images",
                   "--concepts", tmp_path / "words.txt", "-j", 0, "--out", out)  # fmt: skip
    assert done.status == 0, done.stderr
    late = ("outline", "variants", "map", "density", "low")
    arrays = {
        name: values
        for name, values in load_file(out / "units.safetensors").items()
        if not set(name.split(".")) & set(late)
    }
    save_file(arrays, out / "units.safetensors")
    content = json.loads((out / "run.json").read_text())
    del content["record"]["outlines"]
    (out / "run.json").write_text(json.dumps(content))
    run = load_run(out)
    assert (run.outlines, run.variants, run.word_map) == (None, None, None)
    assert not len(run.ranges[0].density)
    page = render_profile(run)
    assert 'id="outline-data"' not in page
    assert '"density":' not in page
