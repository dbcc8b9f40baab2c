"""Ratings, their file, agreement, and the threshold they give: small cases worked by hand."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Command
from hypothesis import given, settings
from hypothesis import strategies as st
from rated_runs import WORDS, make_run
from tiny import write_images

from profiler.core.text import decoded
from profiler.errors import ContextError, InputError, OutputError, ResourceError
from profiler.profile.result import load_run
from profiler.profile.threshold import Threshold, in_context, read_threshold, threshold_json
from profiler.rate.book import RatingBook
from profiler.rate.calibration import Calibration, calibrate, isotonic, rated_units, resample
from profiler.rate.ratings import (
    COLUMNS,
    Rating,
    Unit,
    agreement,
    check_rater,
    header_line,
    rating_line,
    read_ratings,
    sample_units,
    write_ratings,
)
from profiler.rate.views import ScoredLayer, described_units, fingerprint

NAN = math.nan
RUN = "0123456789abcdef"
UNITS: dict[Unit, str] = {("conv", 0): "red", ("conv", 2): "a, b", ("fc", 1): "blue"}

# --- the file ------------------------------------------------------------------------------------


def row(rater: str, layer: str, unit: int, rating: str, run: str = RUN) -> str:
    description = UNITS.get((layer, unit), "red")
    return f'{rater},{layer},{unit},"{description}",{rating},,{run}\n'


def read(*rows: str) -> tuple[Rating, ...]:
    return read_ratings(header_line() + "".join(rows), "r.csv", UNITS, RUN)


def test_what_is_written_is_read() -> None:
    given = (
        Rating("anna", "conv", 0, 1.0, "2024-01-01T00:00:00+00:00"),
        Rating("anna", "conv", 2, None),
        Rating("O'Neill-Å", "conv", 2, 0.5),
        Rating("anna", "fc", 1, 0.0),
    )
    assert read_ratings(write_ratings(given, UNITS, RUN), "r.csv", UNITS, RUN) == given


def test_an_answer_taken_back_may_be_given_again() -> None:
    rows = [row("anna", "conv", 0, answer) for answer in ("0", "undo", "1")]
    (rating,) = read(*rows)
    assert rating.value == 1
    assert read(*rows[:2]) == ()


def test_columns_go_by_name_and_a_spreadsheet_mark_is_no_column() -> None:
    text = f"\ufeffrun,unit,rating,layer,rater,note\r\n{RUN},1,0.50,fc,ben,hello\r\n\r\n"
    assert read_ratings(text, "r.csv", UNITS, RUN) == (Rating("ben", "fc", 1, 0.5),)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("anna", "fc", 7, "1"), "layer 'fc' has no unit 7 with a score"),
        (row("anna", "conv", 1, "1"), "layer 'conv' has no unit 1 with a score"),
        (row("anna", "head", 0, "1"), "this run has no layer 'head'"),
        (row("anna", "fc", 1, "0.7"), "rating '0.7' is none of 0, 0.5, 1, skip and undo"),
        (row("anna", "fc", 1, "nan"), "rating 'nan' is none of"),
        (row("anna", "fc", 1, ""), "rating '' is none of"),
        (row("anna", "conv", 0, "0"), "anna has rated unit 0 of 'conv' before, on line 2"),
        (row("anna", "fc", 1, "1", "f" * 16), f"another run ({'f' * 16}); this one is {RUN}"),
        (row("anna", "fc", 1, "1", ""), "another run (none named)"),
        (row("anna", "fc", 1, "undo"), "was not given"),
        (f"anna,fc,-1,blue,1,,{RUN}\n", "unit '-1' is no whole number"),
        (f"anna,fc,1,green,1,,{RUN}\n", "is described as 'blue' in this run, not 'green'"),
        (f"=2+2,fc,1,blue,1,,{RUN}\n", "'=2+2' is no rater's name"),
        ("anna,fc,1\n", "3 fields, but the header has 7"),
        (f'anna,fc,1,"blue,1,,{RUN}\n', "unexpected end of data"),
    ],
)
def test_a_bad_row_is_named_by_its_line(bad: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read(row("anna", "conv", 0, "1"), row("ben", "conv", 0, "1"), bad)
    assert str(error.value).startswith("r.csv, line 4: ")
    assert message in str(error.value)


def test_a_bad_header_is_line_1() -> None:
    with pytest.raises(InputError, match=r"line 1: no column 'rater'; the header holds 'layer', "):
        read_ratings("layer,unit,rating\n", "r.csv", UNITS, RUN)
    with pytest.raises(InputError, match="is empty"):
        read_ratings("", "r.csv", UNITS, RUN)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        (";", "utf-8"),
        (";", "utf-8-sig"),
        ("\t", "utf-16"),
        ("|", "utf-8"),
    ],
)
def test_a_ratings_file_that_a_spreadsheet_saved(text: str, mark: str) -> None:
    """A German Excel separates by semicolons and writes a half as 0,5."""
    rows = [",".join(COLUMNS), f"Jose\u0301,fc,1,blue,0.5,,{RUN}", f"José,conv,0,red,1,,{RUN}"]
    content = "\r\n".join(row.replace(",", text).replace("0.5", "0,5") for row in rows)
    read = read_ratings(decoded(content.encode(mark), "r.csv"), "r.csv", UNITS, RUN)
    assert read == (Rating("José", "fc", 1, 0.5), Rating("José", "conv", 0, 1.0))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Jose\u0301", "José"),
        ("O’Neill", "O'Neill"),
        ("Anna\u00a0B.\u200b", "Anna B."),
        ("नमिता", "नमिता"),
        ("มานี", "มานี"),
        ("فاطمة", "فاطمة"),
        ("עִבְרִית", "עִבְרִית"),
        ("Đặng Thị Ngọc", "Đặng Thị Ngọc"),
        ("علی‌رضا", "علی‌رضا"),
        ("李小龍", "李小龍"),
        ("Núria Col·lell", "Núria Col·lell"),
    ],
)
def test_names_of_people_in_every_script(given: str, kept: str) -> None:
    assert check_rater(given) == check_rater(check_rater(given)) == kept


@pytest.mark.parametrize("name", ["", "  ", "a" * 41, "@anna", "an\nna\x00", "<b>"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InputError, match="no rater's name"):
        check_rater(name)


# --- the sample ----------------------------------------------------------------------------------

STRATA = {"a": list(range(5)), "b": list(range(1000)), "c": [3, 5, 8]}


def test_the_sample_is_stratified_and_the_same_for_all() -> None:
    sample = sample_units(STRATA, 4, 0)
    assert sample == sample_units(STRATA, 4, 0)
    assert sample != sample_units(STRATA, 4, 1)
    assert len(set(sample)) == len(sample) == 4 + 4 + 3
    assert sorted(unit for layer, unit in sample if layer == "c") == [3, 5, 8]


def test_a_larger_sample_goes_on_where_a_smaller_one_ends() -> None:
    assert set(sample_units(STRATA, 3, 7)) < set(sample_units(STRATA, 100, 7))


def test_whoever_stops_early_has_seen_every_layer() -> None:
    strata = {name: list(range(200)) for name in "abcd"}
    for length in (8, 40, 100):
        seen = [layer for layer, _ in sample_units(strata, 100, 0)[:length]]
        for name in strata:
            assert abs(seen.count(name) - length / 4) <= 1.5


def test_every_unit_is_as_likely() -> None:
    counts = np.zeros(10)
    for seed in range(600):
        for _, unit in sample_units({"x": list(range(10))}, 3, seed):
            counts[unit] += 1
    assert np.abs(counts / 180 - 1).max() < 0.3


# --- agreement -----------------------------------------------------------------------------------


def test_alpha_of_krippendorffs_own_example() -> None:
    """*Computing Krippendorff's Alpha-Reliability* (2011), section E: interval α = 0.849."""
    table = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
            [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
        ]
    ).T
    assert agreement(table, draws=1).alpha == pytest.approx(0.849, abs=5e-4)


def test_alpha_by_hand() -> None:
    """Six pairable ratings 1,1 | 0,0 | 1,½; within ½ · 2/(2−1) / 6; between 14.5 / (6 · 5)."""
    table = np.array([[1, 1], [0, 0], [1, 0.5], [0.5, NAN], [NAN, NAN]])
    found = agreement(table, draws=200)
    assert found.alpha == pytest.approx(1 - (0.5 / 6) / (14.5 / 30))
    assert found.units == 3
    assert found.same == pytest.approx(2 / 3)


@pytest.mark.parametrize("table", [[[1, NAN], [NAN, 0]], [[1, 1], [1, 1]]])
def test_where_alpha_is_not_defined(table: list[list[float]]) -> None:
    found = agreement(np.array(table), draws=50)
    assert (found.alpha, found.low, found.high) == (None, None, None)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_raters_who_guess_agree_by_nothing(seed: int) -> None:
    guesses = np.random.default_rng(seed).choice([0, 0.5, 1], size=(400, 3))
    alpha = agreement(guesses, draws=1).alpha
    assert alpha is not None
    assert abs(alpha) < 0.15


# --- τ by hand -----------------------------------------------------------------------------------


def scored(name: str, scores: Sequence[float]) -> ScoredLayer:
    return ScoredLayer(name, np.array(scores, float))


def rate_all(layer: ScoredLayer, values: list[float | None], rater: str = "anna") -> list[Rating]:
    return [Rating(rater, layer.layer, unit, value) for unit, value in enumerate(values)]


def by_hand(scores: list[float], values: list[float | None], **changes: Any) -> Calibration:
    layer = scored("fc", scores)
    options = {"minimum_above": 1, "minimum_rated": 1, "draws": 300, **changes}
    return calibrate([layer], rate_all(layer, values), **options)


def test_tau_is_the_lowest_cut_that_reaches_the_target() -> None:
    """Mean of all 2/4; above 1: 2/3; above 2: 1.5/2, which is the target; above 3: 1."""
    found = by_hand([1, 2, 3, 4], [0, 0.5, 0.5, 1])
    np.testing.assert_allclose(found.curve.mean, [0.5, 2 / 3, 0.75, 1])
    assert found.tau == 2
    assert found.total.interpretable == 2
    assert found.total.share == 0.5
    assert found.total.above.value == 0.75
    assert found.total.below.value == 0.25
    assert found.total.overall.value == 0.5


def test_where_everything_reaches_the_target_everything_passes() -> None:
    found = by_hand([1, 2, 3, NAN], [1, 0.5, 1])
    assert found.tau < 1
    assert (found.total.interpretable, found.total.units) == (3, 4)
    assert math.isnan(found.total.below.value)
    assert math.isinf(found.low)


def test_equal_scores_fall_together() -> None:
    """Above 1 lie both units with score 2, the good and the bad one."""
    found = by_hand([1, 2, 2, 3], [0, 1, 0, 1])
    np.testing.assert_allclose(found.curve.mean, [0.5, 2 / 3, 1])
    assert found.tau == 2
    assert found.total.interpretable == 1


def test_a_cut_needs_enough_units_above() -> None:
    assert by_hand([1, 2, 3, 4], [0, 0, 0, 1], minimum_above=1).tau == 3
    found = by_hand([1, 2, 3, 4], [0, 0, 0, 1], minimum_above=2)
    assert found.outcome in ("unreachable", "undecided")
    assert math.isnan(found.tau)
    assert found.total.interpretable is None
    assert found.best == (2.0, 0.5)


def test_units_stand_for_their_layer() -> None:
    """100 units of which 2 are rated 1, 2 of which 2 are rated 0: weighted 100/102, plain ½."""
    large = scored("large", np.linspace(1, 2, 100).tolist())
    small = scored("small", [1.5, 1.6])
    ratings = [Rating("anna", "large", unit, 1.0) for unit in (10, 90)]
    ratings += [Rating("anna", "small", unit, 0.0) for unit in (0, 1)]
    options: dict[str, Any] = {"minimum_above": 1, "minimum_rated": 1, "draws": 200}
    weighted = calibrate([large, small], ratings, **options)
    plain = calibrate([large, small], ratings, weighted=False, **options)
    assert weighted.total.overall.value == pytest.approx(100 / 102)
    assert plain.total.overall.value == pytest.approx(0.5)
    assert weighted.total.interpretable == 102
    # Plain, the cut must lie above both small units: only the large unit 90 remains.
    assert plain.tau == pytest.approx(1.6)
    assert [row.interpretable for row in plain.layers] == [
        int((np.linspace(1, 2, 100, dtype=np.float32) > np.float64(np.float32(1.6))).sum()),
        0,
    ]


def test_several_raters_give_a_mean_and_skips_count_nowhere() -> None:
    layer = scored("fc", [1, 2, 3])
    ratings = rate_all(layer, [0, 1, None]) + rate_all(layer, [0, 0.5, None], "ben")
    ratings.append(Rating("cleo", "fc", 1, None))
    rated = rated_units([layer], ratings)
    assert rated.rating.tolist() == [0, 0.75]
    assert rated.weight.tolist() == [1.5, 1.5]
    found = calibrate([layer], ratings, minimum_above=1, minimum_rated=1, draws=200)
    assert (found.tau, found.skipped, found.ratings) == (1, 3, 4)
    assert [name for name, _, _ in found.raters] == ["anna", "ben"]
    assert found.total.interpretable == 2, "unit 2 is above τ, though nobody rated it"


def test_a_curve_that_falls_again_says_so() -> None:
    found = by_hand([1, 2, 3, 4, 5, 6], [0, 1, 1, 1, 0.5, 0.5])
    assert found.tau == 1
    assert found.falls_again == 3


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([0.0] * 60, "unreachable"),
        ([1.0] * 20, "too small"),
        ([0.0, 1.0] * 17 + [0.5] * 2, "undecided"),
    ],
)
def test_no_threshold_where_the_ratings_carry_none(
    values: list[float | None], outcome: str
) -> None:
    scores = np.linspace(0, 1, len(values)).tolist()
    found = by_hand(scores, values, minimum_above=10, minimum_rated=30)
    assert found.outcome == outcome
    assert math.isnan(found.tau)


def test_units_without_a_score_cannot_be_rated_and_targets_have_bounds() -> None:
    layer = scored("fc", [1, NAN])
    with pytest.raises(InputError, match="unit 1 of 'fc' has no score"):
        calibrate([layer], [Rating("anna", "fc", 1, 1.0)])
    with pytest.raises(InputError, match="no unit 5"):
        calibrate([layer], [Rating("anna", "fc", 5, 1.0)])
    with pytest.raises(InputError, match="nobody has rated"):
        calibrate([layer], [Rating("anna", "fc", 0, None)])
    with pytest.raises(InputError, match="above 0 and at most 1"):
        calibrate([layer], [Rating("anna", "fc", 0, 1.0)], target=1.2)


rated_lists = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0])), min_size=2, max_size=14
)


@given(rated_lists, st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_tau_agrees_with_the_plain_definition(
    pairs: list[tuple[int, float]], target: float, least: int
) -> None:
    scores = [float(score) for score, _ in pairs]
    found = by_hand(
        scores, [value for _, value in pairs], target=target, minimum_above=least, draws=20
    )
    cuts = [min(scores) - 1, *sorted(set(scores))]
    for cut in cuts:
        above = [value for score, value in pairs if score > cut]
        if len(above) >= least and sum(above) >= target * len(above):
            assert found.total.interpretable == len(above)
            assert found.low <= found.tau <= found.high
            return
    assert math.isnan(found.tau)


# --- intervals -----------------------------------------------------------------------------------


def test_the_bootstrap_keeps_layers_apart_and_its_variance_is_unbiased() -> None:
    layers = [scored("a", list(range(4))), scored("b", list(range(30)))]
    ratings = rate_all(layers[0], [0, 1, 0, 1]) + rate_all(layers[1], [1.0] * 30)
    rated = rated_units(layers, ratings)
    factors = resample(rated, 20_000, 0)
    np.testing.assert_allclose(factors[:, :4].sum(axis=1), 4)
    np.testing.assert_allclose(factors[:, 4:].sum(axis=1), 30)
    means = (factors[:, :4] * rated.rating[:4]).mean(axis=1)
    # s²/n with s² = Σ(y − ȳ)²/(n − 1) = 1/3; a plain bootstrap would give ¾ of it.
    assert means.var() == pytest.approx(1 / 3 / 4, rel=0.05)


def test_more_ratings_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)

    def width(units: int) -> float:
        scores = rng.uniform(0, 1, units)
        values = (rng.random(units) < scores).astype(float).tolist()
        found = by_hand(scores.tolist(), values, minimum_above=20, draws=400)
        assert found.low < found.tau < found.high
        return found.high - found.low

    assert width(3000) < 0.6 * width(300)


@pytest.mark.slow
def test_the_interval_holds_the_true_cut() -> None:
    """60 simulated raters; benchmarks/calibration.py runs 200 in several worlds.

    Scores uniform on 0 … 1, P(Yes) = score: the mean above a cut c is (1 + c)/2, so 0.75 is
    reached at c = ½.
    """
    held = low = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 5])
        scores = rng.uniform(0, 1, 200)
        values = (rng.random(200) < scores).astype(float).tolist()
        found = by_hand(scores.tolist(), values, minimum_above=20, draws=400, seed=seed)
        held += found.low <= 0.5 <= found.high
        low += found.tau < 0.5
    # 57 expected; below 51 happens once in 100 times at 95 %.
    assert held >= 51
    assert 15 < low < 55


# --- expected ratings ----------------------------------------------------------------------------


def test_isotonic_pools_what_falls() -> None:
    layer = scored("fc", [1, 2, 3, 4])
    expected = isotonic(rated_units([layer], rate_all(layer, [0, 1, 0.5, 1])))
    np.testing.assert_allclose(
        expected(np.array([0, 1, 1.5, 2, 3, 3.5, 4, 9, NAN])),
        [0, 0, 0.375, 0.75, 0.75, 0.875, 1, 1, NAN],
    )


def test_isotonic_agrees_with_scikit_learn() -> None:
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(3)
    scores = rng.integers(0, 25, 120).astype(float)
    values = np.clip(scores / 25 + rng.normal(0, 0.3, 120), 0, 1).round(1) // 0.34 / 2
    values = values.clip(0, 1)
    layer = scored("fc", scores.tolist())
    rated = rated_units([layer], rate_all(layer, values.tolist()))
    theirs = IsotonicRegression(out_of_bounds="clip").fit(rated.score, rated.rating)
    at = np.linspace(-3, 30, 200)
    ours = isotonic(rated)
    np.testing.assert_allclose(ours(at), theirs.predict(at), atol=1e-6)
    assert ours.error < ours.error_constant


def test_scores_that_say_nothing_predict_no_better_than_the_mean() -> None:
    rng = np.random.default_rng(1)
    layer = scored("fc", rng.normal(size=300).tolist())
    expected = isotonic(rated_units([layer], rate_all(layer, rng.choice([0.0, 1.0], 300).tolist())))
    assert expected.error > expected.error_constant - 0.003


# --- the threshold and its context ---------------------------------------------------------------


def test_a_threshold_is_accepted_in_its_context_alone() -> None:
    context = {"vlm": "tiny 1", "concepts": "colours"}
    threshold = Threshold(0.5, "ratings", context)
    assert in_context(threshold, dict(context), "t.json") is threshold
    with pytest.raises(ContextError, match="vlm: tiny 1 there, tiny 2 here"):
        in_context(threshold, {**context, "vlm": "tiny 2"}, "t.json")
    with pytest.raises(ContextError, match="probe: not given there, x here"):
        in_context(threshold, {**context, "probe": "x"}, "t.json")
    with pytest.raises(ContextError, match="does not say"):
        in_context(Threshold(0.5, "given"), context, "t.json")


def test_a_threshold_file_is_read_back(tmp_path: Path) -> None:
    found = by_hand([1, 2, 3, 4], [0, 0.5, 0.5, 1])
    threshold = Threshold(found.tau, "ratings", {"vlm": "tiny"}, ratings=found.basis)
    path = tmp_path / "threshold.json"
    path.write_text(threshold_json(threshold))
    assert read_threshold(str(path)) == threshold
    assert read_threshold("0.25") == 0.25
    damaged = ("x", "NaN", "Infinity")
    for content in (
        "[]",
        "{",
        "[" * 100_000,
        *(f'{{"format": 1, "value": {each}, "source": "given"}}' for each in damaged),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=r"threshold file"):
            read_threshold(str(path))
    for text in ("high", "nan", "inf", "1e999", "1_0"):
        with pytest.raises(
            InputError, match=f"'{text}' is no finite number and not null, and there is no such"
        ):
            read_threshold(text)


# --- the book ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", {"conv": [0.1, NAN, 0.3], "fc": np.linspace(0, 1, 80).tolist()})
    return tmp_path / "run"


def test_a_run_folder_may_be_copied_and_judged_anew(folder: Path, tmp_path: Path) -> None:
    here = fingerprint(load_run(folder))
    make_run(tmp_path / "again", {"conv": [0.1, NAN, 0.3], "fc": np.linspace(0, 1, 80).tolist()},
             threshold=0.9)  # fmt: skip
    assert fingerprint(load_run(tmp_path / "again")) == here
    make_run(tmp_path / "other", {"conv": [0.1, 0.2, 0.3], "fc": np.linspace(0, 1, 80).tolist()})
    assert fingerprint(load_run(tmp_path / "other")) != here
    assert ("conv", 1) not in described_units(load_run(folder))


def test_answers_are_on_the_disk_and_come_back(folder: Path) -> None:
    book = RatingBook(folder)
    with book.held():
        book.add("anna", ("fc", 0), 1.0)
        assert RatingBook(folder).ratings[0].value == 1.0
        rating = book.add("anna", ("fc", 1), None)
        book.undo(rating)
        with pytest.raises(InputError, match="has rated unit 0"):
            book.add("anna", ("fc", 0), 0.0)
    assert [rating.unit for rating in RatingBook(folder).ratings] == [0]


def test_only_one_process_holds_the_file(folder: Path) -> None:
    with (
        RatingBook(folder).held(),
        pytest.raises(ResourceError, match="another `profiler rate` has this run open"),
        RatingBook(folder).held(),
    ):
        pass


@pytest.mark.parametrize("cut", [1, 5, 17, 20])
def test_a_row_cut_off_by_a_crash_is_mended(folder: Path, cut: int) -> None:
    book = RatingBook(folder)
    for unit in range(3):
        book.add("anna", ("fc", unit), 1.0)
    path = folder / "ratings.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    again = RatingBook(folder)
    kept = 3 if cut == 1 else 2  # without its line break alone a row is whole
    assert len(again.ratings) == kept
    with again.held():
        again.add("anna", ("fc", 7), 0.5)
    assert [rating.unit for rating in RatingBook(folder).ratings] == [*range(kept), 7]


def test_a_file_that_a_spreadsheet_saved_can_be_gone_on_with(folder: Path) -> None:
    book = RatingBook(folder)
    for unit in range(3):
        book.add("anna", ("fc", unit), 0.5)
    path = folder / "ratings.csv"
    saved = path.read_text().replace(",", ";").replace("0.5", "0,5").replace("\n", "\r\n")
    path.write_bytes(saved.encode("utf-8-sig"))
    again = RatingBook(folder)
    assert again.ratings == book.ratings
    with again.held():
        again.add("ben", ("fc", 7), 1.0)
    assert RatingBook(folder).ratings == again.ratings
    assert path.read_text().startswith(",".join(COLUMNS))
    assert (folder / "ratings.csv.bak").read_bytes() == saved.encode("utf-8-sig")


def test_a_disk_that_fails_leaves_the_file_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = RatingBook(folder)
    book.add("anna", ("fc", 0), 1.0)
    before = (folder / "ratings.csv").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        book.add("anna", ("fc", 1), 1.0)
    assert (folder / "ratings.csv").read_bytes() == before
    assert len(book.ratings) == 1


def test_export_and_import(command: Command, folder: Path, tmp_path: Path) -> None:
    book = RatingBook(folder)
    book.undo(book.add("anna", ("fc", 5), 0.0))
    book.add("anna", ("fc", 5), 0.5)
    out = tmp_path / "out.csv"
    assert command("rate", folder, "--export", out).status == 0
    with out.open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["unit"], line["rating"], line["description"]) == ("5", "0.5", WORDS[5])
    assert "exists already" in command("rate", folder, "--export", out).error
    # On another machine, in a copy of the folder, ben rates; the file comes back.
    extra = rating_line(Rating("ben", "fc", 5, 1.0), WORDS[5], book.fingerprint)
    out.write_text(out.read_text() + extra)
    done = command("rate", folder, "--import", out)
    assert "1 ratings taken in, 1 were there already" in done.stderr
    assert len(RatingBook(folder).ratings) == 2
    out.write_text(out.read_text().replace(",0.5,", ",0,"))
    assert (
        "different ratings of anna about unit 5 of 'fc'"
        in command("rate", folder, "--import", out).error
    )
    out.write_text(out.read_text().replace(",0,", ",0.7,"))
    done = command("rate", folder, "--import", out)
    assert done.status == 2
    assert f"{out}, line 2: rating '0.7'" in done.error
    assert len(RatingBook(folder).ratings) == 2


# --- profiler calibrate --------------------------------------------------------------------------


def rate_run(folder: Path, raters: tuple[str, ...] = ("anna", "ben")) -> None:
    """Everyone says Yes to units of fc above 0.6, Maybe above 0.5, No below; ben once differs."""
    book = RatingBook(folder)
    for rater in raters:
        for unit, score in enumerate(np.linspace(0, 1, 80)):
            value = 1.0 if score > 0.6 else 0.5 if score > 0.5 else 0.0
            book.add(rater, ("fc", unit), 0.5 if (rater, unit) == ("ben", 79) else value)


def test_calibrate_redoes_the_run(command: Command, folder: Path) -> None:
    rate_run(folder)
    images = {path: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}
    done = command("calibrate", folder, "--date", "2024-02-02", "--isotonic", "--json")
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    # Above unit k of 80 evenly spaced scores: 32 Yes (one of them ¾), 8 Maybe, the rest No.
    scores = np.linspace(0, 1, 80).astype(np.float32).astype(float)
    ratings = np.where(scores > 0.6, 1, np.where(scores > 0.5, 0.5, 0.0))
    ratings[79] = 0.75
    first = next(k for k in range(80) if ratings[k + 1 :].mean() >= 0.75)
    assert found["threshold"] == scores[first]
    assert found["total"]["mean_above"][0] == pytest.approx(ratings[first + 1 :].mean())
    assert found["layers"][1]["interpretable"] == 79 - first
    assert found["layers"][0]["interpretable"] == 0, "0.1 and 0.3 lie below; nobody rated them"
    assert found["layers"][0]["mean"] == [None, None, None]
    assert found["agreement"]["alpha"] > 0.99
    run = load_run(folder)
    assert run.threshold is not None
    assert (run.threshold.value, run.threshold.source) == (scores[first], "ratings")
    assert run.profile.total.interpretable == 79 - first
    rows = list(csv.DictReader((folder / "descriptions.csv").open(newline="")))
    assert sum(int(line["interpretable"]) for line in rows) == 79 - first
    assert {path: path.stat().st_mtime_ns for path in (folder / "images").iterdir()} == images
    report = (folder / "report.html").read_text()
    assert "2 people gave 160 ratings of 80 units" in report
    assert f"α (interval metric) is {found['agreement']['alpha']:.2f}" in report
    assert "profiler calibrate" in report
    page = (folder / "calibration.html").read_text()
    assert "What τ is, exactly" in page
    assert "ben" in page
    expected = list(csv.DictReader((folder / "expected_ratings.csv").open(newline="")))
    assert len(expected) == 83
    # The 31 highest but one are pooled with the last: (31 · 1 + ¾) / 32.
    assert (expected[1]["expected_rating"], expected[-1]["expected_rating"]) == ("", "0.9922")
    stored = json.loads((folder / "threshold.json").read_text())
    assert stored["context"] == run.record.context
    assert stored["ratings"]["raters"] == 2
    # Once more gives the same again.
    again = command("calibrate", folder, "--date", "2024-02-02", "--isotonic", "--json")
    assert json.loads(again.stdout) == found


def test_words_nobody_sorted_are_sorted(command: Command, tmp_path: Path) -> None:
    """The old threshold trusted two units; the new one needs words that have no category yet."""
    scores = np.linspace(0, 1, 80).tolist()
    make_run(tmp_path / "run", {"fc": scores}, threshold=0.98)
    assert len(load_run(tmp_path / "run").sorting.category) == 2
    rate_run(tmp_path / "run", ("anna",))
    done = command("calibrate", tmp_path / "run")
    assert done.status == 0, done.stderr
    run = load_run(tmp_path / "run")
    assert set(run.sorting.category) == set(WORDS)
    assert "One person" in (tmp_path / "run" / "calibration.html").read_text()


@pytest.mark.parametrize(("value", "units", "status"), [(0.0, 80, 1), (1.0, 10, 4)])
def test_where_there_is_no_threshold_the_run_stays(
    command: Command, folder: Path, value: float, units: int, status: int
) -> None:
    book = RatingBook(folder)
    for unit in range(units):
        book.add("anna", ("fc", unit), value)
    before = (folder / "run.json").read_bytes(), (folder / "report.html").read_bytes()
    done = command("calibrate", folder)
    assert done.status == status
    assert ("cannot be reached" if status == 1 else "too small") in done.error
    assert ((folder / "run.json").read_bytes(), (folder / "report.html").read_bytes()) == before
    assert not (folder / "threshold.json").exists()
    assert "there is no threshold" in (folder / "calibration.html").read_text()


def test_bad_calls_are_refused(command: Command, folder: Path, tmp_path: Path) -> None:
    assert "nobody has rated the run" in command("calibrate", folder).error
    assert "is not a finished run" in command("calibrate", tmp_path).error
    bad = tmp_path / "bad.csv"
    bad.write_text(header_line() + "anna,fc,0,red,0.7,,x\n")
    assert (
        f"{bad}, line 2: the row belongs to another run (x)"
        in command("calibrate", folder, "--ratings", bad).error
    )
    bad.write_bytes(header_line().encode() + b"anna,fc,0,\xff,1,,x\n")
    assert (
        f"{bad}, line 2: this is not UTF-8" in command("calibrate", folder, "--ratings", bad).error
    )
    assert "cannot be read" in command("calibrate", folder, "--ratings", tmp_path / "no.csv").error
    assert "two calls" in command("rate", folder, "--export", bad, "--import", bad).error


# --- profiler run --threshold FILE ---------------------------------------------------------------


def test_run_takes_a_threshold_in_its_context_only(command: Command, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 40)
    (tmp_path / "colours.txt").write_text("\n".join(WORDS))
    tiny = Path(__file__).parents[1] / "samples" / "tiny.py"
    call = ["run", f"{tiny}:subject", "--vlm", f"{tiny}:vlm", "--probe", tmp_path / "images",
            "--concepts", tmp_path / "colours.txt", "-j", 0, "--null-draws", 50]  # fmt: skip
    first = command(*call, "--top", 6, "--threshold", 0.1, "--out", tmp_path / "one")
    assert first.status == 0, first.stderr
    context = load_run(tmp_path / "one").record.context
    path = tmp_path / "threshold.json"
    basis = by_hand([1, 2, 3, 4], [0, 0.5, 0.5, 1]).basis
    path.write_text(threshold_json(Threshold(0.2, "ratings", context, ratings=basis)))
    done = command(*call, "--top", 6, "--threshold", path, "--out", tmp_path / "two")
    assert done.status == 0, done.stderr
    threshold = load_run(tmp_path / "two").threshold
    assert threshold is not None
    assert (threshold.value, threshold.source) == (0.2, "ratings")
    refused = command(*call, "--top", 5, "--threshold", path, "--out", tmp_path / "three")
    assert refused.status == 2
    assert "similarity: soft-wpmi (a = 10, λ = 1) v2, top 6" in refused.error
    assert not (tmp_path / "three" / "run.json").exists()
