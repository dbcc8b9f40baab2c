"""The synthetic scenes: what they claim to show is what they show, and they never change."""

import csv
import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.color import (
    COLORS,
    lab_from_rgb,
    rgb_from_lch,
    sample_color,
    sample_tone,
)
from profiler.data.synthetic.materials import MATERIALS
from profiler.data.synthetic.patterns import PATTERNS
from profiler.data.synthetic.scenes import Scene, SyntheticScenes
from profiler.data.synthetic.shapes import SHAPES, draw_shape
from profiler.errors import InputError

GRAYS = ("black", "gray", "white")


def digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_an_image_is_rgb_of_the_size_asked_for() -> None:
    for size in (16, 61, 224):
        image, scene = SyntheticScenes(2, size=size)[1]
        assert (image.mode, image.size) == ("RGB", (size, size))
        assert (scene.seed, scene.index) == (0, 1)


def test_image_and_truth_depend_on_neither_count_nor_order() -> None:
    many, few = SyntheticScenes(1000, size=64), SyntheticScenes(8, size=64)
    backwards = {i: digest(few.image(i)) for i in reversed(range(8))}
    for i in range(8):
        assert digest(many.image(i)) == backwards[i]
        assert many.scene(i) == few.scene(i)


def test_another_process_draws_the_same_images() -> None:
    code = (
        "import hashlib\n"
        "from profiler.data.synthetic.scenes import SyntheticScenes\n"
        "scenes = SyntheticScenes(500, seed=3, size=64)\n"
        "for i in range(100, 112):\n"
        "    digest = hashlib.sha256(scenes.image(i).tobytes()).hexdigest()\n"
        "    print(digest, scenes.scene(i).caption)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scenes = SyntheticScenes(500, seed=3, size=64)
    here = [f"{digest(scenes.image(i))} {scenes.scene(i).caption}" for i in range(100, 112)]
    assert done.stdout.splitlines() == here


def test_a_thousand_images_are_all_different() -> None:
    assert len({digest(image) for image, _ in SyntheticScenes(1000, size=32)}) == 1000


def test_another_seed_gives_other_scenes() -> None:
    one, other = SyntheticScenes(20, seed=0), SyntheticScenes(20, seed=1)
    assert not {one.scene(i).rgb for i in range(20)} & {other.scene(i).rgb for i in range(20)}


def test_every_pattern_material_and_background_can_be_drawn_at_every_size() -> None:
    drawn: set[str] = set()
    for size in (17, 40):
        for _, scene in SyntheticScenes(150, seed=2, size=size):
            drawn |= {scene.pattern, scene.material, scene.shape or "", scene.background or ""}
    assert drawn >= {*PATTERNS, *MATERIALS, *SHAPES, *BACKGROUNDS}


def test_the_object_has_the_colour_it_is_said_to_have() -> None:
    # scenes in one colour; patterns and shine move the mean a little, so the margins are wide
    scenes = SyntheticScenes(400, seed=1, size=64)
    seen: Counter[str] = Counter()
    for i, (image, scene) in enumerate(scenes):
        if scene.second_color is not None:
            continue
        pixels = np.asarray(image)[scenes.mask(i) > 0.99] / 255
        lightness, a, b = lab_from_rgb(pixels).mean(axis=0)
        seen[scene.color] += 1
        if scene.color in GRAYS:
            assert np.hypot(a, b) < 10, scene
            low, high = {"black": (0, 45), "gray": (25, 75), "white": (52, 100)}[scene.color]
            assert low <= lightness <= high, scene
        else:
            _, _, (first, last) = COLORS[scene.color]
            hue = np.degrees(np.arctan2(b, a))
            off = (hue - (first + last) / 2 + 180) % 360 - 180
            assert abs(off) < (last - first) / 2 + 14, (scene, hue)
            assert np.hypot(a, b) > 9, scene
    assert set(seen) == set(COLORS)


def test_colour_names_are_apart_and_lab_is_lab() -> None:
    np.testing.assert_allclose(
        lab_from_rgb(np.array([[1.0, 0, 0], [1, 1, 1], [0, 0, 0]])),
        np.array([[53.24, 80.09, 67.20], [100, 0, 0], [0, 0, 0]]),
        atol=0.06,
    )
    np.testing.assert_allclose(rgb_from_lch(53.24, 104.55, 40.0), (1, 0, 0), atol=0.02)
    rng = np.random.default_rng(0)
    for name, ((dark, light), (dull, _), _) in COLORS.items():
        for _ in range(50):
            rgb = np.array(sample_color(rng, name))
            lightness, a, b = lab_from_rgb(rgb)
            assert dark - 1 <= lightness <= light + 1
            if name not in GRAYS:
                assert np.hypot(a, b) > 0.6 * dull, name
            tone = lab_from_rgb(np.array(sample_tone(rng, (rgb[0], rgb[1], rgb[2]))))
            assert abs(tone[0] - lightness) > 15, name


def test_values_are_balanced_and_do_not_depend_on_each_other() -> None:
    scenes = SyntheticScenes(3300)
    truths = [scenes.scene(i) for i in range(3300)]
    for attribute, known in (("color", set(COLORS)), ("material", set(MATERIALS))):
        counts = Counter(getattr(truth, attribute) for truth in truths)
        assert set(counts) == known
        assert max(counts.values()) - min(counts.values()) <= 1
    patterns = Counter(truth.pattern for truth in truths)
    assert patterns.pop("smooth") == 800
    assert set(patterns.values()) == {100}
    assert sum(truth.is_close_up for truth in truths) == 660
    objects = [truth for truth in truths if not truth.is_close_up]
    for attribute, known in (("shape", set(SHAPES)), ("background", set(BACKGROUNDS))):
        counts = Counter(getattr(truth, attribute) for truth in objects)
        assert set(counts) == known
        assert max(counts.values()) < 1.3 * min(counts.values())
    # no pair of values is met more often than chance allows (five standard deviations)
    pairs = Counter((truth.color, truth.material) for truth in truths)
    expected = 3300 / len(COLORS) / len(MATERIALS)
    assert len(pairs) == len(COLORS) * len(MATERIALS)
    assert max(abs(count - expected) for count in pairs.values()) < 5 * expected**0.5


def test_words_and_captions() -> None:
    scene = replace(
        SyntheticScenes(1).scene(0),
        color="red",
        second_color="white",
        pattern="striped",
        material="metallic",
        shape="circle",
        background="grass",
    )
    assert scene.words() == (
        "red", "white", "striped", "metallic", "circle", "grass", "green", "meadow",
    )  # fmt: skip
    assert scene.caption == "a red and white striped metallic circle on grass"
    plain = replace(scene, color="orange", second_color=None, pattern="smooth", material="matte")
    assert plain.caption == "an orange circle on grass"
    close = replace(scene, second_color=None, material="wooden", shape=None, background=None)
    assert close.is_close_up
    assert close.caption == "a close-up of red striped wood"
    assert close.words() == ("red", "striped", "wooden")
    # a word that is true twice is said once
    green = replace(plain, color="green")
    assert green.words() == ("green", "smooth", "matte", "circle", "grass", "meadow")


def test_a_scene_is_consistent() -> None:
    scenes = SyntheticScenes(500)
    for i in range(500):
        scene = scenes.scene(i)
        assert (scene.shape is None) == (scene.background is None)
        assert scene.second_color != scene.color
        assert scene.pattern != "smooth" or scene.second_color is None
        assert len(set(scene.words())) == len(scene.words())
        assert scene.radius <= min(scene.x, scene.y)
        assert max(scene.x, scene.y) <= 1 - scene.radius


def test_shapes_cover_what_they_should() -> None:
    circle = draw_shape("circle", 100, 0.5, 0.5, 0.4, 0)
    assert circle.mean() == pytest.approx(np.pi * 0.16, abs=0.01)
    assert (circle[50, 50], circle[2, 2]) == (1, 0)
    ring = draw_shape("ring", 100, 0.5, 0.5, 0.4, 0)
    assert (ring[50, 50], ring[50, 80]) == (0, 1)
    # an arrow points right, and turns clockwise
    right = draw_shape("arrow", 100, 0.5, 0.5, 0.4, 0)
    down = draw_shape("arrow", 100, 0.5, 0.5, 0.4, 90)
    assert np.abs(np.rot90(right, -1) - down).mean() < 0.01
    assert right[50, 85] == 1
    assert right[50, 15] == 1
    assert (right[30, 60], right[30, 30]) == (1, 0)


def test_the_mask_of_a_close_up_is_everything() -> None:
    scenes = SyntheticScenes(30, size=32)
    for i in range(30):
        mask = scenes.mask(i)
        assert mask.shape == (32, 32)
        assert bool(mask.min() == 1) == scenes.scene(i).is_close_up
        assert 0 < mask.mean() <= 1


def test_written_images_and_truth_can_be_read_back(tmp_path: Path) -> None:
    scenes = SyntheticScenes(6, seed=4, size=48)
    folder = scenes.write(tmp_path / "deep" / "set")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["truth.csv", *(f"scene-{i:05d}{end}" for i in range(6) for end in (".png", ".json"))]
    )
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        image, scene = scenes[i]
        assert row["file"] == f"{scenes.name(i)}.png"
        assert row["caption"] == scene.caption
        assert tuple(row["words"].split("|")) == scene.words()
        assert row["background"] == (scene.background or "")
        with Image.open(folder / row["file"]) as written:
            assert digest(written) == digest(image)
        truth = json.loads((folder / f"{scenes.name(i)}.json").read_text(encoding="utf-8"))
        assert truth.pop("caption") == scene.caption
        assert tuple(truth.pop("words")) == scene.words()
        for key in ("rgb", "second_rgb"):
            truth[key] = tuple(truth[key])
        assert Scene(**truth) == scene


def test_it_is_a_sequence() -> None:
    scenes = SyntheticScenes(3, size=16)
    assert len(scenes) == len(list(scenes)) == 3
    assert scenes.name(2) == "scene-00002"
    assert scenes.scene(-1) == scenes.scene(2)
    for wrong in (3, -4):
        with pytest.raises(IndexError, match="there are 3"):
            scenes.scene(wrong)


def test_the_fingerprint_changes_with_every_setting() -> None:
    settings = [(10, 0, 32), (11, 0, 32), (10, 1, 32), (10, 0, 33)]
    prints = {SyntheticScenes(count, seed, size).fingerprint for count, seed, size in settings}
    assert len(prints) == 4
    assert SyntheticScenes(10, 0, 32).fingerprint in prints
    assert all(len(each) == 64 for each in prints)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"count": 0}, "count"), ({"seed": -1}, "seed"), ({"size": 8}, "size")],
)
def test_bad_arguments_are_named(arguments: dict[str, int], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SyntheticScenes(**arguments)
