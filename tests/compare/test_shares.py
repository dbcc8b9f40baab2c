"""Intervals and tests of shares: published values, SciPy's enumeration, and what has to hold."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import permutation_test

from profiler.compare.shares import (
    hypergeometric_test,
    jensen_shannon,
    matched_difference,
    newcombe,
    newcombe_paired,
    sign_test,
    unmatched_difference,
)
from profiler.core.arrays import BoolArray


def some(true: int, units: int) -> BoolArray:
    return np.arange(units) < true


def table(both: int, lost: int, gained: int, neither: int) -> tuple[BoolArray, BoolArray]:
    cells = np.repeat(np.arange(4), (both, lost, gained, neither))
    return np.isin(cells, [0, 1]), np.isin(cells, [0, 2])


# Newcombe 1998, 873–890, table II, method 10: (x, m, y, n) of y/n − x/m.
INDEPENDENT = {
    (48, 80, 56, 70): (0.0524, 0.3339),
    (3, 10, 9, 10): (0.1705, 0.8090),
    (2, 7, 6, 7): (0.0582, 0.8062),
    (0, 29, 5, 56): (-0.0381, 0.1926),
    (0, 20, 0, 10): (-0.1611, 0.2775),
    (0, 10, 0, 10): (-0.2775, 0.2775),
    (0, 20, 10, 10): (0.6791, 1.0),
    (0, 10, 10, 10): (0.6075, 1.0),
}


@pytest.mark.parametrize(("counts", "expected"), INDEPENDENT.items())
def test_newcombe_s_intervals_for_independent_shares(
    counts: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    assert newcombe(*counts) == pytest.approx(expected, abs=5e-5)


def test_newcombe_s_interval_for_paired_shares() -> None:
    # Cavo et al. 2012 in Fagerland, Lydersen & Laake, Statistical Analysis of Contingency Tables
    # (2017), as the tests of their R package have it (with the opposite sign).
    assert newcombe_paired(59, 6, 16, 80) == pytest.approx((0.0046, 0.1186), abs=5e-5)


def test_pairs_that_agree_make_the_interval_shorter() -> None:
    low, high = newcombe_paired(30, 5, 10, 30)
    loose_low, loose_high = newcombe(35, 75, 40, 75)
    assert loose_low < low < 5 / 75 < high < loose_high


@pytest.mark.parametrize(("m", "n"), [(3, 3), (2, 5), (4, 3)])
def test_the_hypergeometric_test_is_the_permutation_test(m: int, n: int) -> None:
    for x, y in product(range(m + 1), range(n + 1)):
        exact = permutation_test(
            (some(x, m).astype(float), some(y, n).astype(float)),
            lambda one, other: np.mean(other) - np.mean(one),
            n_resamples=np.inf,
        )
        assert hypergeometric_test(x, m, y, n) == pytest.approx(exact.pvalue)


@pytest.mark.parametrize("cells", [(0, 3, 0, 1), (1, 1, 4, 0), (2, 2, 2, 1), (0, 0, 5, 1)])
def test_mcnemar_s_test_is_the_permutation_test_within_pairs(
    cells: tuple[int, int, int, int],
) -> None:
    before, after = (each.astype(float) for each in table(*cells))
    exact = permutation_test(
        (before, after),
        lambda one, other: np.mean(other) - np.mean(one),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert sign_test(cells[1], cells[2]) == pytest.approx(exact.pvalue)


def test_tests_by_hand() -> None:
    assert sign_test(4, 1) == pytest.approx(2 * (1 + 5) / 32)
    # Two of the six units carry the label, both after: 3 of 15 pairs of places.
    assert hypergeometric_test(0, 3, 2, 3) == pytest.approx(2 * 3 / 15)
    assert hypergeometric_test(2, 4, 2, 4) == 1


@given(*[st.integers(0, 12)] * 4)
@settings(max_examples=150, deadline=None)
def test_before_and_after_may_change_places(a: int, b: int, c: int, d: int) -> None:
    if a + b + c + d == 0:
        return
    before, after = table(a, b, c, d)
    for difference in (matched_difference, unmatched_difference):
        there, back = difference(before, after), difference(after, before)
        assert (there.before, there.after) == (a + b, a + c)
        assert there.p_value == pytest.approx(back.p_value)
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
        point = (there.after - there.before) / len(before)
        assert -1 - 1e-12 <= there.low <= point + 1e-12
        assert point - 1e-12 <= there.high <= 1 + 1e-12
        assert 0 < there.p_value <= 1


def test_the_null_is_rejected_no_more_often_than_it_may_be() -> None:
    # Over every outcome of five against four units with rate 0.4: exact tests are conservative.
    chance = 0.0
    for x, y in product(range(6), range(5)):
        weight = len(list(combinations(range(5), x))) * len(list(combinations(range(4), y)))
        if hypergeometric_test(x, 5, y, 4) <= 0.05:
            chance += weight * 0.4 ** (x + y) * 0.6 ** (9 - x - y)
    assert 0 < chance <= 0.05


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_divergence_is_scipy_s_distance_squared(rows: list[tuple[int, int]]) -> None:
    one, other = np.array(rows).T
    if one.sum() == 0 or other.sum() == 0:
        return
    found = jensen_shannon(one, other)
    assert found == pytest.approx(jensenshannon(one, other, base=2) ** 2, abs=1e-12)
    assert found == pytest.approx(jensen_shannon(other, one), abs=1e-15)
    assert jensen_shannon(one, one) == jensen_shannon(one, 3 * one) == 0


def test_divergence_by_hand() -> None:
    # Half of the mass is common: M = (1/4, 1/2, 1/4), ½(½·1 + 0) twice.
    assert jensen_shannon(np.array([1, 1, 0]), np.array([0, 1, 1])) == pytest.approx(0.5)
