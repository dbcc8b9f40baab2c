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


def layer(level: float, seed: int = 0) -> LayerRange:
    """Forty units whose r lies about a level, and decoys about 0."""
    rng = np.random.default_rng(seed)
    r = np.repeat(level + 0.05 * rng.normal(size=(UNITS, 1)), 5, axis=1)
    concept = np.zeros((UNITS, 5), int)
    decoys = 0.03 * rng.normal(size=(UNITS, 5))
    ones = np.ones(UNITS, int)
    nothing = np.full(UNITS, np.nan)
    return LayerRange("fc", concept, np.ones((UNITS, 5)), r, ones, ones, r[:, 0], nothing, nothing,
                      decoys, nothing, np.repeat(r[:, None], 5, axis=1))  # fmt: skip


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
