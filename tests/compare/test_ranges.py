"""What changes in range explanations: nothing between equals, planted changes otherwise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rated_runs

from profiler.compare.ranges import with_ranges
from profiler.compare.result import LayerComparison, Matching, PairComparison
from profiler.profile.explain import LayerRange
from profiler.profile.result import ProfileRun

UNITS = 40


def layer(level: float, seed: int = 0, folds: float = 0.0, word: int = 0) -> LayerRange:
    """Forty units whose r lies about a level, and decoys about 0; r differs between folds."""
    rng = np.random.default_rng(seed)
    r = np.repeat(level + 0.05 * rng.normal(size=(UNITS, 1)), 5, axis=1)
    fold_r = r[:, None] + folds * np.array([-2, -1, 0, 1, 2])[None, :, None]
    concept = np.full((UNITS, 5), word)
    decoys = 0.03 * rng.normal(size=(UNITS, 5))
    ones = np.ones(UNITS, int)
    nothing = np.full(UNITS, np.nan)
    return LayerRange(
        "fc", concept, np.ones((UNITS, 5)), r, ones, ones, r[:, 0], nothing, nothing,
        decoys, nothing, fold_r, np.zeros((UNITS, 0), int), np.zeros((UNITS, 0)),
    )  # fmt: skip


@pytest.fixture
def bare(tmp_path: Path) -> ProfileRun:
    """A run without range explanations."""
    return rated_runs.make_run(tmp_path / "run", {"fc": [1.0] * UNITS})


def pair(matched: bool) -> PairComparison:
    units = np.arange(UNITS)
    none = np.zeros(0, bool)
    matching = Matching("index", units, units, np.ones(UNITS), 1.0) if matched else None
    compared = LayerComparison("fc", (), 0.0, 0.0, matching, none, none, 0.0, (), ())
    return PairComparison(0, 1, (compared,), (), (), (), None)


@pytest.mark.parametrize("matched", [True, False])
def test_a_network_against_itself_gives_nothing(bare: ProfileRun, matched: bool) -> None:
    same = replace(bare, ranges=(layer(0.3),))
    (change,) = with_ranges([same, same], [pair(matched)])[0].ranges
    assert change.r.value == change.explained.value == 0
    assert not change.beyond_chance
    if matched:
        assert (change.r.low, change.r.high) == (0, 0)


@pytest.mark.parametrize("matched", [True, False])
def test_a_planted_change_of_r(bare: ProfileRun, matched: bool) -> None:
    before, after = replace(bare, ranges=(layer(0.3),)), replace(bare, ranges=(layer(0.4, seed=1),))
    (change,) = with_ranges([before, after], [pair(matched)])[0].ranges
    assert change.beyond_chance
    assert change.r.low < 0.1 < change.r.high
    assert change.r.value == pytest.approx(change.r_after - change.r_before)


def test_a_planted_loss_of_explained_units(bare: ProfileRun) -> None:
    before, after = replace(bare, ranges=(layer(0.3),)), replace(bare, ranges=(layer(0.0, seed=1),))
    (change,) = with_ranges([before, after], [pair(True)])[0].ranges
    assert change.explained_before == UNITS
    assert change.explained_after <= 4
    assert change.explained.high < -0.8
    assert change.words_before == (before.concepts[0],)


def test_seeds_of_the_same_level_rarely_count_as_a_change(bare: ProfileRun) -> None:
    changed = 0
    for seed in range(40):
        runs = [
            replace(bare, ranges=(layer(0.3, seed),)),
            replace(bare, ranges=(layer(0.3, 100 + seed),)),
        ]
        (change,) = with_ranges(runs, [pair(False)])[0].ranges
        changed += change.beyond_chance
    assert changed <= 6


def test_runs_without_range_explanations(bare: ProfileRun) -> None:
    assert with_ranges([replace(bare, ranges=(layer(0.3),)), bare], [pair(True)])[0].ranges == ()


def test_an_interval_grows_with_the_differences_between_folds(bare: ProfileRun) -> None:
    before = replace(bare, ranges=(layer(0.3),))
    widths = []
    for folds in (0.0, 0.1):
        after = replace(bare, ranges=(layer(0.3, seed=1, folds=folds),))
        (change,) = with_ranges([before, after], [pair(True)])[0].ranges
        widths.append(change.r.high - change.r.low)
    # Of five folds at ±0.2, ±0.1 and 0 the standard error of the mean is 0.2 / √10.
    assert widths[1] == pytest.approx(2 * 1.96 * 0.2 / np.sqrt(10), rel=0.15)
    assert widths[0] < 0.6 * widths[1]


def test_words_that_lead_more_units_and_fewer(bare: ProfileRun) -> None:
    one, other = layer(0.3), layer(0.3)
    concept = other.concept.copy()
    concept[:10] = 1
    after = replace(bare, ranges=(replace(other, concept=concept),))
    (change,) = with_ranges([replace(bare, ranges=(one,)), after], [pair(True)])[0].ranges
    first, second = bare.concepts[:2]
    assert change.gained == ((second, 0, 10),)
    assert change.lost == ((first, 40, 30),)
    assert not change.beyond_chance  # r is the same


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_change_is_found_by_r_in_its_layer_alone(bare: ProfileRun, seed: int) -> None:
    names = ("first", "second", "third")
    before = [replace(layer(0.3, seed + i), layer=name) for i, name in enumerate(names)]
    after = [*before[:2], replace(before[2], r=before[2].r - 0.05, fold_r=before[2].fold_r - 0.05)]
    compared = pair(True)
    compared = replace(
        compared, layers=tuple(replace(compared.layers[0], layer=name) for name in names)
    )
    runs = [replace(bare, ranges=tuple(each)) for each in (before, after)]
    changes = with_ranges(runs, [compared])[0].ranges
    assert [each.beyond_chance for each in changes] == [False, False, True]
