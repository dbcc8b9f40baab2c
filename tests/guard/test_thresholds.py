"""Thresholds: by hand, and their guarantees on hundreds of random splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.guard.thresholds import (
    TARGETS,
    AlarmThreshold,
    above,
    images_needed,
    remark,
    threshold,
)


def test_by_hand() -> None:
    scores = np.arange(1.0, 20.0)  # 19 of them
    wrong = np.zeros(19, bool)
    wrong[[4, 12, 17]] = True  # at 5, 13 and 18
    # (19 + 1) · 0.9 = 18: the 18th lowest score.
    assert threshold("share", 0.1, scores, wrong).value == 18.0
    # Of 16 correct predictions the 16th (17 · 0.9 = 15.3, up): the highest, 19.
    assert threshold("false-alarms", 0.1, scores, wrong).value == 19.0
    # (errors passed + 1)/20 ≤ 0.1 allows one: up to just below the second error.
    found = threshold("passed-errors", 0.1, scores, wrong)
    assert 12.0 < found.value < 13.0
    assert found.passed_risk == pytest.approx(1 / 12)


def test_too_few_images_for_a_promise_flag_everything_or_nothing() -> None:
    scores, wrong = np.arange(5.0), np.array([False, True, False, False, True])
    # Five images cannot bear out that one in a hundred is flagged: none is.
    assert threshold("share", 0.01, scores, wrong).value == np.inf
    # Nor that one in a hundred is passed wrongly: nothing passes.
    assert threshold("passed-errors", 0.01, scores, wrong).useless
    assert threshold("risk", 0.01, scores, wrong, candidates=scores).useless


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(TARGETS), st.floats(0.02, 0.6))
def test_a_larger_level_moves_the_cut_one_way(seed: int, target: str, level: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=80)
    wrong = rng.random(80) < 1 / (1 + np.exp(-2 * scores))
    tried = rng.normal(size=50)
    one = threshold(target, level, scores, wrong, candidates=tried).value
    other = threshold(target, level * 1.5, scores, wrong, candidates=tried).value
    # A larger share may be flagged; or more errors may pass.
    assert other <= one if target in ("share", "false-alarms") else other >= one


@pytest.mark.parametrize(
    ("target", "level", "said"),
    [
        ("half", 0.5, "unknown target 'half'"),
        ("share", 0.0, "between 0 and 1"),
        ("risk", 0.1, "scores of other images"),
    ],
)
def test_bad_targets_are_refused(target: str, level: float, said: str) -> None:
    with pytest.raises((UnknownNameError, UsageError), match=said):
        threshold(target, level, np.arange(4.0), np.zeros(4, bool))


def test_nan_and_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        threshold("share", 0.1, np.array([np.nan]), np.array([True]))
    with pytest.raises(InputError):
        threshold("share", 0.1, np.zeros(0), np.zeros(0, bool))


def test_an_infinite_score_is_flagged_whatever_the_cut() -> None:
    assert above(np.array([1.0, np.inf, np.nan]), np.inf).tolist() == [False, True, True]


def test_promises_are_told_in_words() -> None:
    assert AlarmThreshold(0, "risk", 0.05, 9, 0, 0, 0.9).text == (
        "at most 5 % of the predictions that pass are incorrect, with 90 % confidence"
    )


# --- 200 random splits ---------------------------------------------------------------------------

SPLITS = 200


def images(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and which answers are wrong: 15 % of them, mostly of high score."""
    wrong = rng.random(n) < 0.15
    return rng.normal(size=n) + 1.5 * wrong, wrong


@pytest.fixture(scope="module")
def splits() -> list[tuple[np.ndarray, ...]]:
    """One population, dealt 200 times into cuts to try, images to set on, and others."""
    rng = np.random.default_rng(0)
    scores, wrong = images(rng, 12_000)
    found = []
    for _ in range(SPLITS):
        order = rng.permutation(12_000)
        trying, setting, others = order[:300], order[300:900], order[900:]
        found.append(
            (scores[trying], scores[setting], wrong[setting], scores[others], wrong[others])
        )
    return found


def test_the_conformal_risk_holds_on_200_random_splits(splits: list[tuple]) -> None:
    losses = []
    for _, scores, wrong, new, bad in splits:
        cut = threshold("passed-errors", 0.05, scores, wrong)
        losses.append(np.mean(bad & (new <= cut.value)))
    # In expectation at most 5 %, and not far below: 1/(n + 1) at most, with 600 images.
    error = np.std(losses) / np.sqrt(SPLITS)
    assert 0.05 - 1 / 601 - 4 * error <= np.mean(losses) <= 0.05 + 3 * error


def test_accepted_accuracy_holds_as_often_as_promised_on_200_random_splits(
    splits: list[tuple],
) -> None:
    broken, passed = 0, []
    for trying, scores, wrong, new, bad in splits:
        cut = threshold("risk", 0.05, scores, wrong, confidence=0.9, candidates=trying)
        accepted = new <= cut.value
        passed.append(accepted.mean())
        broken += bool(accepted.any() and bad[accepted].mean() > 0.05)
    # One in ten may break it; 30 of 200 would do so with a chance below 0.02.
    assert broken <= 30
    # And it is not kept by letting nothing pass.
    assert np.median(passed) > 0.4


@pytest.mark.parametrize("target", ["share", "false-alarms"])
def test_flagged_shares_hold_on_200_random_splits(splits: list[tuple], target: str) -> None:
    shares = []
    for _, scores, wrong, new, bad in splits:
        cut = threshold(target, 0.1, scores, wrong)
        counted = new if target == "share" else new[~bad]
        shares.append(np.mean(counted > cut.value))
    error = np.std(shares) / np.sqrt(SPLITS)
    assert 0.1 - 1 / 400 - 4 * error <= np.mean(shares) <= 0.1 + 3 * error


# --- thresholds that do nothing ------------------------------------------------------------------


@pytest.mark.parametrize("target", ["share", "false-alarms", "passed-errors"])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.1, 0.3])
def test_so_many_images_it_takes_and_no_fewer(target: str, level: float) -> None:
    needed = images_needed(target, level)
    for count in (needed - 1, needed):
        # Two incorrect predictions besides, which do not count for correct ones.
        size = count + 2 if target == "false-alarms" else count
        wrong = np.arange(size) >= size - 2
        cut = threshold(target, level, np.arange(float(size)), wrong)
        assert np.isfinite(cut.value) == (count == needed)
        assert (f"; {needed} " in remark(cut, wrong)) is (count < needed)
        assert bool(remark(cut, wrong)) is (count < needed)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1, 0.3])
def test_so_many_images_without_an_error_it_takes(level: float) -> None:
    needed = images_needed("risk", level)
    for count in (int(0.9 * needed), needed):
        scores, wrong = np.arange(float(count)), np.zeros(count, dtype=bool)
        cut = threshold("risk", level, scores, wrong, candidates=scores)
        assert np.isfinite(cut.value) == (count == needed)
        assert (f"; {needed} images without any error" in remark(cut, wrong)) is (count < needed)


def test_a_guarantee_that_holds_by_itself_is_reported_as_such() -> None:
    wrong = np.arange(200) < 3
    cut = threshold("passed-errors", 0.05, np.arange(200.0), wrong)
    assert cut.value == np.inf
    assert remark(cut, wrong) == (
        "nothing is flagged: 3 of 200 images are misclassified, so it holds without a threshold "
        "that at most 5 % of inputs are misclassified and pass"
    )
    assert remark(threshold("share", 0.05, np.arange(200.0), wrong), wrong) == ""


def test_too_many_errors_are_not_too_few_images() -> None:
    wrong = np.arange(400) % 2 == 0
    cut = threshold("risk", 0.05, np.arange(400.0), wrong, candidates=np.arange(400.0))
    said = "it was set on 400 images, 200 of them misclassified; choose a weaker target"
    assert said in remark(cut, wrong)
