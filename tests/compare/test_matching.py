"""Permutations are found exactly, numbers are kept otherwise, circles are judged one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.compare import centred
from profiler.compare.centred import Centred
from profiler.compare.matching import correlations, match, match_unseen
from profiler.compare.result import Matching
from profiler.core.arrays import FloatArray


def matched(one: FloatArray, other: FloatArray) -> Matching:
    return match(correlations(Centred.of(one), Centred.of(other)), len(one))


def layer(seed: int, units: int = 20, images: int = 500) -> FloatArray:
    """Units that have something in common, as after a ReLU."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(images, units)) + rng.normal(size=(images, 1)), 0)


def test_correlations_are_numpy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = layer(0, 6), layer(1, 4) + 1e4
    expected = np.corrcoef(x.T, y.T)[:6, 6:]
    for size in (7, 500):
        monkeypatch.setattr(centred, "ROW_BLOCK", size)
        np.testing.assert_allclose(correlations(Centred.of(x), Centred.of(y)), expected, atol=1e-10)
    x[:, 2] = 0.1
    assert np.isnan(correlations(Centred.of(x), Centred.of(y))[2]).all()


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_any_permutation_is_found(seed: int, units: int) -> None:
    x = layer(seed, units, 100)
    order = np.random.default_rng(seed).permutation(units)
    found = matched(x, x[:, order])
    # Column j of the copy is unit order[j].
    np.testing.assert_array_equal(order[found.after], found.before)
    np.testing.assert_allclose(found.correlation, 1)
    assert found.rule == ("hungarian" if (order != np.arange(units)).any() else "index")


def test_two_that_changed_places_among_many_are_found() -> None:
    x = layer(1, 64)
    order = np.arange(64)
    order[[5, 40]] = 40, 5
    found = matched(x + 0.3 * layer(2, 64), (x + 0.3 * layer(3, 64))[:, order])
    assert found.rule == "hungarian"
    np.testing.assert_array_equal(found.after, order)
    assert found.by_index < found.mean


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0])
def test_training_on_keeps_the_numbers(noise: float) -> None:
    for seed in range(5):
        x = layer(seed, 64)
        found = matched(x, x + noise * layer(seed + 100, 64))
        assert found.rule == "index"
        np.testing.assert_array_equal(found.before, found.after)
        assert found.mean == pytest.approx(found.by_index)


def test_equal_units_keep_their_numbers() -> None:
    x = layer(0, 4)[:, [0, 0, 1, 1, 2, 3]]
    assert matched(x, x).rule == "index"
    # … also where rounding speaks for another number.
    assert match(1 - 1e-14 * np.eye(3), 500).rule == "index"
    oblong = matched(x, x[:, :3])
    np.testing.assert_array_equal(oblong.before, [0, 1, 2])
    np.testing.assert_array_equal(oblong.after, [0, 1, 2])


def test_units_that_never_vary_take_what_is_left_over() -> None:
    x = layer(0, 5)
    x[:, 2] = 0
    assert matched(x, x).rule == "index"
    found = matched(x, x[:, [1, 0, 2, 4, 3]])
    np.testing.assert_array_equal(found.after, [1, 0, 2, 4, 3])
    assert np.isnan(found.correlation[2])
    assert found.mean == pytest.approx(1)


def test_independent_units_are_left_alone() -> None:
    # On noise the assignment finds something, but not enough to renumber.
    rng = np.random.default_rng(0)
    for images in (40, 100, 1000):
        found = matched(rng.normal(size=(images, 64)), rng.normal(size=(images, 64)))
        assert found.rule == "index"
        assert abs(found.mean) < 0.05


def test_different_numbers_of_units() -> None:
    x = layer(0, 8)
    found = matched(x, x[:, [7, 2, 5]])
    assert found.rule == "hungarian"
    assert np.isnan(found.by_index)
    assert dict(zip(found.before.tolist(), found.after.tolist(), strict=True)) == {7: 0, 2: 1, 5: 2}
    turned = matched(x[:, [7, 2, 5]], x)
    assert sorted(turned.after.tolist()) == [2, 5, 7]


def test_without_activations_only_numbers_can_say() -> None:
    found = match_unseen(3, 3)
    assert found is not None
    assert found.rule == "index"
    assert np.isnan([*found.correlation, found.mean, found.by_index]).all()
    assert match_unseen(3, 4) is None
