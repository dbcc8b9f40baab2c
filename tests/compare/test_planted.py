"""Planted changes are found where they are, and not before; the benchmark has the long table."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from planted_changes import LAYERS, Outcome, alarms, one_seed


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """One for each layer."""
    return [one_seed(seed) for seed in range(LAYERS)]


@pytest.mark.slow
def test_noise_in_weights_is_found(outcomes: list[Outcome]) -> None:
    assert [one.layer for one in outcomes] == [0, 1, 2, 3]
    assert all(one.noise_found for one in outcomes)
    assert not any(one.noise_before for one in outcomes)


@pytest.mark.slow
def test_a_pruned_category_is_found(outcomes: list[Outcome]) -> None:
    assert all(one.prune_found for one in outcomes)
    assert not any(one.prune_before for one in outcomes)


@pytest.mark.slow
def test_permuted_units_are_put_back(outcomes: list[Outcome]) -> None:
    assert all(one.permutation_found for one in outcomes)
    assert not any(one.permutation_changes for one in outcomes)
    assert not any(one.self_differences for one in outcomes)


@pytest.mark.slow
def test_draws_of_one_network_raise_no_alarm() -> None:
    assert alarms(0, repetitions=10) == 0
