"""Metrics of detectors: against scikit-learn, against definitions written out, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from profiler.errors import InputError
from profiler.guard.metrics import (
    GRID,
    METRICS,
    Contest,
    Draws,
    coverage_at,
    interval,
    metrics,
    risk_coverage,
    roc,
)

scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({bad for _, bad in rows}) == 2
)


def columns(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(s) for s, _ in rows]), np.array([bad for _, bad in rows])


# --- by hand -----------------------------------------------------------------------------------


def test_both_conventions_of_fpr_by_hand() -> None:
    # 20 defects at 1 … 20 and 20 others at 0.5 … 19.5, but one defect hides at 0.1 and one
    # other stands at 30.
    defects = np.array([0.1, *np.arange(2.0, 21)])
    others = np.array([*np.arange(0.5, 19.5), 30.0])
    scores = np.r_[defects, others]
    bad = np.r_[np.ones(20, bool), np.zeros(20, bool)]
    found = metrics(scores, bad)
    # 19 of 20 defects (95 %) are at 2 or above; of the others all but 0.5 and 1.5 are as well.
    assert found.fpr95 == 18 / 20
    # 19 of 20 others (95 %) are at 18.5 or below; so are the defects 0.1 and 2 … 18.
    assert found.fpr95_kept == 18 / 20
    # One other less at the top: now 19 of 19 are at most 18.5, and 19 are needed (18.05).
    assert metrics(scores[:-1], bad[:-1]).fpr95_kept == 18 / 20


def test_the_two_conventions_differ_where_the_tails_do() -> None:
    # Defects are spread wide, the others lie together in the middle.
    scores = np.array([0.0, 10, 10, 10, 5, 5, 5, 5])
    bad = np.array([True] * 4 + [False] * 4)
    found = metrics(scores, bad)
    assert found.fpr95 == 1.0  # all four defects are flagged only by flagging everything
    assert found.fpr95_kept == 0.25  # one of four defects passes


def test_aurc_by_hand() -> None:
    scores, bad = np.array([1.0, 2, 3, 4]), np.array([False, True, False, True])
    assert metrics(scores, bad).aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    # All equal: every order is as likely, so at each coverage half are expected to be defects.
    assert metrics(np.zeros(4), bad).aurc == pytest.approx(0.5)


def test_one_sided_data_has_no_auroc_but_an_aurc() -> None:
    found = metrics(np.array([1.0, 2.0]), np.array([True, True]))
    assert np.isnan([found[name] for name in METRICS if name != "aurc"]).all()
    assert found.aurc == 1.0


def test_scores_that_are_nan_are_refused_and_infinite_ones_ranked() -> None:
    with pytest.raises(InputError, match="score 1 is NaN"):
        metrics(np.array([1.0, np.nan]), np.array([True, False]))
    assert metrics(np.array([np.inf, -np.inf]), np.array([True, False])).auroc == 1.0


# --- against others ----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(scored)
def test_against_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, bad = columns(rows)
    found = metrics(scores, bad)
    assert found.auroc == pytest.approx(roc_auc_score(bad, scores))
    assert found.aupr == pytest.approx(average_precision_score(bad, scores))
    alarms, hits, _ = roc_curve(bad, scores, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(alarms[hits >= 0.95 - 1e-12].min())
    alarms, hits, _ = roc_curve(~bad, -scores, drop_intermediate=False)
    assert found.fpr95_kept == pytest.approx(alarms[hits >= 0.95 - 1e-12].min())


@settings(max_examples=40, deadline=None)
@given(scored)
def test_aurc_is_the_mean_over_orders_of_equal_scores(rows: list[tuple[int, bool]]) -> None:
    scores, bad = columns(rows)
    # In a group of equal scores the expected number of defects rises evenly.
    expected = []
    before = np.zeros(2)
    for value in np.unique(scores):
        group = bad[scores == value]
        for j in range(1, len(group) + 1):
            expected.append((before[0] + group.sum() * j / len(group)) / (before[1] + j))
        before += [group.sum(), len(group)]
    assert metrics(scores, bad).aurc == pytest.approx(np.mean(expected))


@settings(max_examples=40, deadline=None)
@given(scored)
def test_no_metric_depends_on_the_order_of_rows_or_the_scale(rows: list[tuple[int, bool]]) -> None:
    scores, bad = columns(rows)
    turned = metrics(np.exp(scores[::-1]), bad[::-1])
    found = metrics(scores, bad)
    for name in METRICS:
        assert turned[name] == pytest.approx(found[name])


@settings(max_examples=40, deadline=None)
@given(scored, st.floats(0.0, 1.0))
def test_coverage_at_a_risk_is_the_largest_that_keeps_it(
    rows: list[tuple[int, bool]], risk: float
) -> None:
    scores, bad = columns(rows)
    shares = [
        np.mean(scores <= cut)
        for cut in np.unique(scores)
        if bad[scores <= cut].mean() <= risk + 1e-12
    ]
    assert coverage_at(scores, bad, risk) == pytest.approx(max(shares, default=0.0))


# --- bootstrap ---------------------------------------------------------------------------------


def test_a_draw_is_the_metric_of_the_rows_drawn() -> None:
    rng = np.random.default_rng(0)
    scores, bad = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.3
    groups = np.repeat(np.arange(30), 2)
    draws = Draws.of(groups, 5, seed=1)
    found = draws.metrics(scores, bad)
    for draw in range(5):
        rows = np.repeat(np.arange(60), draws.counts[draw][draws.group])
        alone = metrics(scores[rows], bad[rows])
        for name in METRICS:
            assert found[name][draw] == pytest.approx(alone[name], nan_ok=True)


def test_rows_of_a_group_are_drawn_together() -> None:
    draws = Draws.of(np.array([7, 7, 3, 3, 5]), 50)
    weights = draws.counts[:, draws.group]
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 3]).all()
    assert (draws.counts.sum(axis=1) == 3).all()


@pytest.mark.slow
def test_intervals_hold_the_true_auroc_about_as_often_as_they_say() -> None:
    # Normal scores one deviation apart: AUROC = Φ(1/√2) = 0.7602.
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        scores = np.r_[rng.normal(1, 1, 60), rng.normal(0, 1, 90)]
        bad = np.r_[np.ones(60, bool), np.zeros(90, bool)]
        draws = Draws.of(np.arange(150), 300, seed=3)
        found = Contest.of({"one": scores}, bad, draws).intervals("one").auroc
        held += found.low <= 0.7602 <= found.high
    assert 180 <= held <= 199


def test_the_interval_of_a_difference_knows_that_both_scores_saw_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    bad = rng.random(300) < 0.5
    scores = rng.normal(size=300) + bad
    better = scores + 0.3 * bad
    draws = Draws.of(np.arange(300), 300)
    both = Contest.of({"one": scores, "better": better}, bad, draws)
    paired = both.lead("better", "one", "auroc")
    alone = both.intervals("one").auroc
    assert paired.low > 0
    assert paired.high - paired.low < (alone.high - alone.low) / 2
    same = both.lead("one", "one", "aurc")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert both.best(["one", "better"], "auroc") == both.best(["one", "better"], "aurc") == "better"


def test_an_interval_leaves_out_draws_in_which_the_number_is_not_defined() -> None:
    found = interval(0.5, np.array([np.nan, 0.4, 0.6]))
    assert 0.4 <= found.low < found.high <= 0.6
    assert np.isnan(interval(0.5, np.array([np.nan])).low)


# --- curves ------------------------------------------------------------------------------------


def test_the_area_under_the_curve_is_the_auroc() -> None:
    rng = np.random.default_rng(0)
    bad = rng.random(2000) < 0.4
    scores = rng.normal(size=2000) + bad
    draws = Draws.of(np.arange(2000), 50)
    band = roc(scores, bad, draws)
    assert np.trapezoid(band.value, GRID) == pytest.approx(metrics(scores, bad).auroc, abs=0.01)
    assert (band.low <= band.value + 1e-12).all()
    assert (band.value <= band.high + 1e-12).all()
    assert band.value[-1] == 1.0


def test_the_risk_at_full_coverage_is_the_share_of_defects() -> None:
    scores, bad = np.arange(10.0), np.arange(10) >= 8
    band = risk_coverage(scores, bad, Draws.of(np.arange(10), 20))
    assert band.value[-1] == pytest.approx(0.2)
    assert band.value[50] == 0.0  # the five of lowest score are in order
    assert band.value[90] == pytest.approx(1 / 9)
