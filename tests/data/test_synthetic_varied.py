"""Varied scenes: what the probes learn from. Their truth holds, and they never change."""

import hashlib

import numpy as np
import pytest
from pattern_variants import VARIANTS
from varied_scenes import VariedScenes

from profiler.data.synthetic.patterns import PATTERNS
from profiler.data.synthetic.scenes import SyntheticScenes
from profiler.errors import InputError


def test_scenes_depend_on_seed_and_number_alone() -> None:
    few, many = VariedScenes(4, seed=3), VariedScenes(400, seed=3)
    for i in reversed(range(4)):
        assert few[i][0].tobytes() == many[i][0].tobytes()
        assert few.scene(i) == many.scene(i)
    assert few.fingerprint != many.fingerprint
    assert VariedScenes(4, seed=4)[0][0].tobytes() != few[0][0].tobytes()


def test_every_pattern_of_the_probe_set_is_there_and_is_drawn_in_its_usual_way_too() -> None:
    assert set(PATTERNS) < set(VARIANTS)
    for name, pattern in PATTERNS.items():
        assert VARIANTS[name][0] is pattern
    drawn = {VariedScenes(500).scene(i).scene.pattern for i in range(len(VARIANTS) + 3)}
    assert drawn == set(VARIANTS)


def explained(picture: np.ndarray, mask: np.ndarray) -> float:
    """How much of the pixels' variance lies between the inside and the outside of a mask."""
    inside = mask > 0.5
    share, gap = inside.mean(), picture[inside].mean(axis=0) - picture[~inside].mean(axis=0)
    return float(share * (1 - share) * (gap**2).sum() / picture.var(axis=(0, 1)).sum())


def test_the_mask_is_where_the_object_is() -> None:
    """It parts a picture better than its mirror image does, whichever way the camera held it."""
    scenes = VariedScenes(200, seed=1)
    off_centre = [
        i
        for i in range(200)
        if scenes.scene(i).scene.shape is not None and abs(scenes.scene(i).scene.x - 0.5) > 0.15
    ]
    for mirrored in (False, True):
        chosen = [i for i in off_centre if scenes.scene(i).camera.mirrored == mirrored][:12]
        assert len(chosen) == 12
        better = [
            explained(np.asarray(scenes[i][0], dtype=float), mask)
            > explained(np.asarray(scenes[i][0], dtype=float), mask[:, ::-1])
            for i in chosen
            for mask in [scenes.mask(i)]
        ]
        assert sum(better) >= 10


def test_a_close_up_is_all_object() -> None:
    scenes = VariedScenes(60, seed=2)
    found = [i for i in range(60) if scenes.scene(i).scene.shape is None]
    assert 8 < len(found) < 30
    assert (scenes.mask(found[0]) == 1).all()
    assert all(scenes.scene(i).behind is None for i in found)


def test_the_built_in_probe_set_is_as_it_was() -> None:
    """What the varied scenes need of the drawing left every pixel of these where it was."""
    pixels = b"".join(SyntheticScenes(6, size=64).image(i).tobytes() for i in range(6))
    assert (
        hashlib.sha256(pixels).hexdigest()
        == "f060d057dabe35d534adb692784efed2683e836546b45b0b128f0f154f630dbb"
    )


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="count"):
        VariedScenes(0)
    with pytest.raises(InputError, match="seed"):
        VariedScenes(1, seed=-1)
    with pytest.raises(IndexError):
        VariedScenes(2).scene(2)
