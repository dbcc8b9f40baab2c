"""Heatmaps: their identities, what is planted in them, and what chance leaves."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from profiler.concepts import heatmap
from profiler.concepts.heatmap import (
    Differential,
    Heatmap,
    Heatmaps,
    compare,
    compare_pairs,
    display_order,
)
from profiler.core.statistics import fisher
from profiler.errors import InputError

Rows = heatmap.Float64


def drawn(images: int, n: int, seed: int = 0, ties: bool = False) -> Rows:
    rng = np.random.default_rng(seed)
    return rng.integers(4, size=(images, n)) / 4 if ties else rng.normal(size=(images, n))


def heat(strengths: Rows) -> Heatmap:
    found = Heatmap.of(strengths)
    assert found is not None
    return found


def single(row: Rows) -> Rows:
    """H(x) by its definition."""
    return 0.5 + 0.5 * np.sign(row[:, None] - row[None, :])


# --- identities ------------------------------------------------------------------------------


@given(st.integers(2, 9), st.integers(1, 12), st.booleans(), st.integers(0, 1000))
@example(8, 10, False, 920)  # 10 of 10, whose interval ends at 1 but for rounding
@settings(max_examples=60, deadline=None)
def test_a_heatmap_and_its_transpose_make_one(n: int, images: int, ties: bool, seed: int) -> None:
    strengths = drawn(images, n, seed, ties)
    for row in strengths:
        np.testing.assert_array_equal(single(row) + single(row).T, 1)
    summary = heat(strengths)
    np.testing.assert_allclose(summary.mean, np.mean([single(row) for row in strengths], axis=0))
    np.testing.assert_allclose(summary.mean + summary.mean.T, 1, atol=1e-12)
    assert (np.diag(summary.mean) == 0.5).all()
    low, high = summary.interval()
    assert (low <= summary.mean).all()
    assert (summary.mean <= high).all()
    np.testing.assert_allclose(low + high.T, 1, atol=1e-12)


@given(st.integers(2, 7), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_differentials_are_antisymmetric(
    n: int, right: int, wrong: int, ties: bool, seed: int
) -> None:
    found = Differential(heat(drawn(right, n, seed, ties)), heat(drawn(wrong, n, seed + 1, ties)))
    np.testing.assert_allclose(found.mean, -found.mean.T, atol=1e-12)
    low, high = found.interval()
    np.testing.assert_allclose(low, -high.T, atol=1e-12)
    assert (low <= found.mean).all()
    assert (found.mean <= high).all()
    marked = found.significant()
    np.testing.assert_array_equal(marked, marked.T)


def test_pairs_are_the_upper_triangle() -> None:
    strengths = drawn(5, 6, ties=True)
    cells = np.triu_indices(6, k=1)
    for row, pairs in zip(strengths, compare_pairs(strengths), strict=True):
        np.testing.assert_array_equal(pairs, single(row)[cells])


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths = drawn(50, 7, ties=True)
    wins, ties = compare(strengths)
    monkeypatch.setattr(heatmap, "BLOCK_CELLS", 100)
    again = compare(strengths)
    np.testing.assert_array_equal(wins, again[0])
    np.testing.assert_array_equal(ties, again[1])


# --- by class and outcome --------------------------------------------------------------------


def test_summaries_are_those_of_the_images_meant() -> None:
    rng = np.random.default_rng(0)
    strengths = drawn(60, 5)
    truth, predicted = rng.integers(3, size=(2, 60))
    found = Heatmaps.of(strengths, truth, predicted, 3)
    same = truth == predicted
    for label in (None, 0, 1, 2):
        for by, labels in (("true", truth), ("predicted", predicted)):
            for right in (None, True, False):
                mask = np.ones(60, dtype=bool) if right is None else same == right
                mask &= True if label is None else labels == label
                summary = found.summary(label=label, by=by, right=right)  # type: ignore[arg-type]
                assert summary is not None
                assert summary.count == mask.sum()
                np.testing.assert_allclose(summary.mean, heat(strengths[mask]).mean)
            differential = found.differential(label=label, by=by)  # type: ignore[arg-type]
            own = labels == label if label is not None else np.ones(60, dtype=bool)
            assert differential is not None
            expected = heat(strengths[own & same]).mean - heat(strengths[own & ~same]).mean
            np.testing.assert_allclose(differential.mean, expected)


def test_what_has_no_images_is_none_and_not_zero() -> None:
    """Class 1 is never misclassified, class 2 has no images at all."""
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    found = Heatmaps.of(drawn(4, 3), truth, predicted, 3)
    assert found.summary(label=2) is None
    assert found.summary(label=1, right=False) is None
    assert found.differential(label=1) is None
    assert found.differential(label=2) is None
    assert found.summary(label=1, by="predicted", right=False) is not None
    assert found.differential(label=0) is not None
    assert Heatmaps.of(drawn(0, 3), truth[:0], predicted[:0], 3).summary() is None
    assert Heatmap.of(np.zeros((0, 3))) is None


def test_one_image_and_more_concepts_than_images() -> None:
    truth, predicted = np.array([0, 0]), np.array([0, 1])
    found = Heatmaps.of(drawn(2, 40), truth, predicted, 2).differential(label=0)
    assert found is not None
    assert (found.right.count, found.wrong.count) == (1, 1)
    low, high = found.interval()
    free = ~np.eye(40, dtype=bool)
    assert (high - low)[free].min() > 0.9
    assert not found.significant().any()
    assert found.findings() == ()


def test_bad_input_is_named() -> None:
    strengths = drawn(4, 3)
    labels = np.zeros(4, dtype=np.int64)
    broken = strengths.copy()
    broken[2, 1] = np.nan
    with pytest.raises(InputError, match="row 2 of the concept strengths holds NaN"):
        Heatmaps.of(broken, labels, labels, 2)
    with pytest.raises(InputError, match="at least two concepts"):
        Heatmaps.of(strengths[:, :1], labels, labels, 2)
    with pytest.raises(InputError, match="there is no class 5; classes are 0 … 1"):
        Heatmaps.of(strengths, labels, labels, 2).summary(label=5)


# --- tests of cells --------------------------------------------------------------------------


@given(st.lists(st.tuples(*[st.integers(0, 15)] * 4), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_fisher_agrees_with_scipy(tables: list[tuple[int, int, int, int]]) -> None:
    found = fisher(*np.array(tables).T)
    for (a, b, c, d), p in zip(tables, found, strict=True):
        expected = fisher_exact([[a, b], [c, d]]).pvalue
        assert p == pytest.approx(expected, rel=1e-6)


def test_fisher_with_many_images() -> None:
    (p,) = fisher(*np.array([[30_000], [10_000], [900], [700]]))
    assert p == pytest.approx(fisher_exact([[30_000, 10_000], [900, 700]]).pvalue, rel=1e-6)


def test_newcombes_interval_is_that_of_his_paper() -> None:
    """56 of 70 and 48 of 80: method 10 of Newcombe (1998), table II (a)."""
    right = np.concatenate([np.tile([1.0, 0.0], (56, 1)), np.tile([0.0, 1.0], (14, 1))])
    wrong = np.concatenate([np.tile([1.0, 0.0], (48, 1)), np.tile([0.0, 1.0], (32, 1))])
    low, high = Differential(heat(right), heat(wrong)).interval()
    assert low[0, 1] == pytest.approx(0.0524, abs=5e-5)
    assert high[0, 1] == pytest.approx(0.3339, abs=5e-5)


def spurious(seed: int, *, shift: float = 1.5, shuffled: bool = False) -> Heatmaps:
    """Concept 0 is too strong, and concept 1 too weak, in the incorrect predictions of class 0."""
    rng = np.random.default_rng(seed)
    concepts, images = 20, 400
    strengths = rng.normal(size=(images, concepts)) + rng.normal(size=concepts)
    wrong = rng.random(images) < 0.15
    strengths[wrong, 0] += shift
    strengths[wrong, 1] -= shift
    if shuffled:
        wrong = rng.permutation(wrong)
    truth = np.zeros(images, dtype=np.int64)
    return Heatmaps.of(strengths, truth, wrong.astype(np.int64), 2)


def test_a_planted_spurious_concept_is_found() -> None:
    found = 0
    for seed in range(10):
        differential = spurious(seed).differential(label=0)
        assert differential is not None
        top = differential.findings(limit=3)
        found += any(0 in (f.more, f.less) or 1 in (f.more, f.less) for f in top)
        # Whatever is said of the two is said the right way round.
        for finding in differential.findings():
            assert finding.more != 1
            assert finding.less != 0
            assert finding.effect > 0
            assert finding.low <= finding.effect <= finding.high
            assert finding.q_value <= heatmap.FDR
    assert found >= 9


@pytest.mark.slow
def test_the_planted_pair_itself_is_among_the_first_three() -> None:
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        strengths = rng.normal(size=(400, 20))
        wrong = rng.random(400) < 0.15
        strengths[wrong, 0] += 1.0
        strengths[wrong, 1] -= 1.0
        differential = Differential(heat(strengths[~wrong]), heat(strengths[wrong]))
        pairs = [(f.more, f.less) for f in differential.findings(limit=3)]
        found += (0, 1) in pairs
    assert found >= 9


@pytest.mark.slow
def test_with_shuffled_outcomes_the_false_discovery_rate_holds() -> None:
    """Where nothing is there, any finding is false: it may come in one of twenty data sets."""
    trials = 300
    any_found = 0
    for seed in range(trials):
        differential = spurious(seed, shuffled=True).differential(label=0)
        assert differential is not None
        any_found += differential.significant().any()
    assert any_found <= trials * heatmap.FDR + 2 * (trials * heatmap.FDR * (1 - heatmap.FDR)) ** 0.5


def test_findings_are_ranked_by_effect() -> None:
    differential = spurious(0).differential(label=0)
    assert differential is not None
    findings = differential.findings()
    effects = [f.effect for f in findings]
    assert effects == sorted(effects, reverse=True)
    assert len(findings) == differential.significant().sum() / 2
    assert findings[:2] == differential.findings(limit=2)


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    differential = spurious(0).differential(label=0)
    assert differential is not None
    order = np.argsort(differential.p_values)
    raw = differential.p_values[order] * 190 / np.arange(1, 191)
    expected = np.minimum.accumulate(raw[::-1])[::-1].clip(max=1)
    np.testing.assert_allclose(differential.q_values[order], expected)
    cells = list(zip(*np.triu_indices(20, k=1), strict=True))
    for finding in differential.findings():
        place = cells.index((min(finding.more, finding.less), max(finding.more, finding.less)))
        assert finding.p_value == differential.p_values[place]
        assert finding.q_value == differential.q_values[place]


# --- order -----------------------------------------------------------------------------------


def test_like_concepts_are_neighbours_whatever_their_numbers() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(200, 3))
    strengths = np.repeat(base, 4, axis=1) + 0.1 * rng.normal(size=(200, 12)) + np.arange(12) * 0.01
    shuffle = rng.permutation(12)
    order = display_order(heat(strengths[:, shuffle]).mean)
    families = (shuffle[order] // 4).tolist()
    assert sorted(order.tolist()) == list(range(12))
    assert sum(a != b for a, b in pairwise(families)) == 2


def test_alike_are_concepts_that_fare_alike_against_the_others() -> None:
    """The first two differ only in that one always beats the other."""
    summary = np.full((4, 4), 0.5)
    summary[0, 1], summary[1, 0] = 1.0, 0.0
    summary[2, :2], summary[:2, 2] = 0.6, 0.4
    summary[3, :2], summary[:2, 3] = 0.9, 0.1
    order = display_order(summary).tolist()
    assert abs(order.index(0) - order.index(1)) == 1
    np.testing.assert_array_equal(display_order(summary), display_order(summary.copy()))


def test_two_concepts_keep_their_order() -> None:
    assert display_order(single(np.array([0.0, 1.0]))).tolist() == [0, 1]
