"""The scenes of the experiment: balanced, independent factors, and each does what its name says."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from profiler.data.factors import Factors
from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.design import FACTORS, ExperimentScenes, moved_to, name_of
from profiler.errors import InputError
from profiler.profile.drivers import columns_of

PICTURES = ["fd15083ae39e", "6c65089d2841", "2b7ce3a921fe"]


def digest(scenes: ExperimentScenes, index: int) -> str:
    return hashlib.sha256(scenes.read(index).tobytes()).hexdigest()


def test_every_level_comes_as_often_as_the_others() -> None:
    factors = ExperimentScenes(1000).factors
    for place, levels in enumerate(factors.levels):
        counts = np.bincount(factors.codes[:, place], minlength=len(levels))
        assert np.ptp(counts) <= 5, factors.names[place]


@pytest.mark.parametrize("seed", range(5))
def test_factors_are_independent(seed: int) -> None:
    """Chi-square of every pair of factors, over its degrees of freedom, is that of chance."""
    factors = ExperimentScenes(1000, seed).factors
    scores = []
    for i, j in factors.pairs:
        shape = len(factors.levels[i]), len(factors.levels[j])
        table = np.zeros(shape)
        np.add.at(table, (factors.codes[:, i], factors.codes[:, j]), 1)
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / 1000
        freedom = (shape[0] - 1) * (shape[1] - 1)
        chi = ((table - expected) ** 2 / expected).sum()
        scores.append((chi - freedom) / np.sqrt(2 * freedom))
    assert abs(np.mean(scores)) < 0.6
    assert max(scores) < 6  # of 55, with the long tail of few degrees of freedom
    association = factors.association()[np.triu_indices(len(factors.names), 1)]
    assert association.max() < 0.12
    assert association.mean() < 0.035


def test_association_is_seen() -> None:
    codes = np.random.default_rng(0).integers(0, 3, 500)
    levels = ("x", "y", "z")
    tied = Factors(("a", "b"), (levels, levels), np.stack([codes, (codes + 1) % 3], axis=1))
    assert tied.association() == pytest.approx(np.ones((2, 2)))


def test_images_depend_on_neither_count_nor_order() -> None:
    many, few = ExperimentScenes(1000, size=48), ExperimentScenes(6, size=48)
    assert [digest(few, i) for i in reversed(range(6))] == [digest(many, i) for i in range(6)][::-1]
    assert np.array_equal(many.factors.codes[:6], few.factors.codes)
    other = ExperimentScenes(6, seed=1, size=48)
    assert digest(other, 0) != digest(few, 0)
    assert len({s.fingerprint for s in (many, few, other, ExperimentScenes(6))}) == 4


def test_the_first_pictures_stay_as_they_are() -> None:
    """Whoever changes a pixel raises the version, and then these digests."""
    scenes = ExperimentScenes(3, size=64)
    assert [digest(scenes, i)[:12] for i in range(3)] == PICTURES


def test_brightness_is_the_lights_and_no_other_factors() -> None:
    scenes = ExperimentScenes(360, size=32)
    codes = scenes.factors.codes
    pictures = [np.asarray(scenes.read(i), float) @ [0.2126, 0.7152, 0.0722] for i in range(360)]
    light = np.array([picture.mean() for picture in pictures])

    def share(name: str) -> float:
        own = codes[:, scenes.factors.names.index(name)]
        means = np.array([light[own == level].mean() for level in range(len(FACTORS[name]))])
        return float(means.var() / light.var())

    assert share("light") > 0.75
    for name in FACTORS:
        # chance alone gives about (levels − 1) / 360
        assert name == "light" or share(name) < 0.08, name


@pytest.mark.parametrize("layout", FACTORS["background"])
def test_a_background_takes_the_color_it_is_given(layout: str) -> None:
    drawn = BACKGROUNDS[layout].draw(np.random.default_rng(0), 64)
    moved = moved_to(drawn, (0.3, 0.5, 0.7))
    assert moved.mean(axis=(1, 2)) == pytest.approx([0.3, 0.5, 0.7], abs=0.01)
    assert moved.min() >= 0
    assert moved.max() <= 1
    # what it shows is still there
    assert np.corrcoef(drawn.mean(axis=0).ravel(), moved.mean(axis=0).ravel())[0, 1] > 0.9


def test_scenes_are_written_with_their_truth(tmp_path: Path) -> None:
    scenes = ExperimentScenes(3, size=32)
    with (scenes.write(tmp_path) / "truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("file") for row in rows] == [f"scene-0000{i}.png" for i in range(3)]
    assert rows == [scenes.truth(i) for i in range(3)]
    assert (tmp_path / "scene-00002.png").is_file()
    assert "scene-00002: " in scenes.names[2]


@pytest.mark.parametrize("given", [{"count": 0}, {"seed": -1}, {"size": 8}])
def test_what_cannot_be_drawn_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        ExperimentScenes(**given)


def test_words_name_what_a_scene_shows_its_background_color_and_its_light() -> None:
    scenes = ExperimentScenes(60, size=32)
    for i in range(60):
        truth, words = scenes.truth(i), set(scenes.words(i))
        shown = ("color", "pattern", "material", "shape", "background", "light")
        assert {truth[factor] for factor in shown} <= words
        assert f"{truth['background color']} background" in words
        assert {f"{tint} light" for tint in FACTORS["tint"] if f"{tint} light" in words} == (
            set() if truth["tint"] == "neutral" else {f"{truth['tint']} light"}
        )


def test_each_word_of_a_factor_of_the_surroundings_names_its_level_alone() -> None:
    factors = ExperimentScenes(2).factors
    for column, (factor, level) in enumerate(factors.columns):
        if factor in ("background color", "light", "tint"):
            assert columns_of(name_of(factor, level), factors) == (column,)
    assert len(columns_of("red", factors)) == 2  # the object's, and the background's
