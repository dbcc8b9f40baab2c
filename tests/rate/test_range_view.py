"""Ratings of range explanations: what is asked, their file, and the cut on r that they set."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import opened
from command import Command
from forks import Forks
from rated_runs import VLM_NAME, WORDS, make_run
from rating_server import at_page, serving
from tiny import write_images

from profiler.errors import ContextError, InputError
from profiler.profile.explain import explained_cut
from profiler.profile.result import load_run
from profiler.profile.threshold import RatingBasis, Threshold, in_context, threshold_json
from profiler.rate.book import RatingBook
from profiler.rate.ratings import rating_line
from profiler.rate.server.session import Session
from profiler.rate.views import fingerprint, scored_layers

R = {"conv": [0.05, float("nan"), 0.3], "fc": np.linspace(0, 0.8, 80).tolist()}
LABELS = {"conv": [0.1, float("nan"), 0.3], "fc": np.linspace(0, 1, 80).tolist()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", LABELS, ranges=R)
    return tmp_path / "run"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A run without range explanations."""
    make_run(tmp_path / "bare", LABELS)
    return tmp_path / "bare"


def rate_run(folder: Path, raters: tuple[str, ...] = ("anna", "ben")) -> None:
    """Yes where r of an explanation in fc is above 0.5, Maybe above 0.4, No below."""
    book = RatingBook(folder, view="range")
    for rater in raters:
        for unit, r in enumerate(R["fc"]):
            book.add(rater, ("fc", unit), 1.0 if r > 0.5 else 0.5 if r > 0.4 else 0.0)


# --- what is asked -------------------------------------------------------------------------------


def test_what_is_asked_about_a_unit(folder: Path) -> None:
    session = Session(RatingBook(folder, view="range"))
    assert session.guidelines()["shown"] == 9
    by_unit = {question.unit: question for question in session.questions}
    assert len(by_unit) == 82, "a unit that does not vary is not asked about"
    question = by_unit["fc", 6]  # one word
    assert (question.description, question.words) == ("gray", (("gray", 0.4),))
    question = by_unit["fc", 7]  # two words, and nine images
    assert question.words == (("white", 0.4), ("blue", 0.2))
    assert question.images == tuple((7 * 7 + 4 * place) % 40 for place in range(9))
    assert question.score == pytest.approx(R["fc"][7] + 0.01), "r with the words shown"
    shown = session.state("anna")["question"]
    number = shown["number"]
    strengths = [bar["share"] for bar in shown["activations"]]
    assert strengths == sorted(strengths, reverse=True)
    assert (strengths[0], strengths[-1]) == (1, 0)
    assert shown["words"][0]["share"] == 1
    unit = session.questions[number].unit
    first = load_run(folder).ranges[unit[0] == "fc"].activations[unit[1], 0]
    assert float(shown["activations"][0]["text"]) == pytest.approx(first, abs=0.05)


def test_where_an_image_lacks_the_others_keep_their_responses(folder: Path) -> None:
    session = Session(RatingBook(folder, view="range"))
    (question,) = (each for each in session.questions if each.unit == ("fc", 5))
    assert len(question.images) == len(question.activations) == 8
    assert np.isfinite(question.activations).all()


def test_the_fingerprint_covers_words_weights_and_images(folder: Path, tmp_path: Path) -> None:
    run = load_run(folder)
    here = fingerprint(run, "range")
    assert here != fingerprint(run)
    layer = run.ranges[1]
    assert fingerprint(run, "range") == here
    for name in ("concept", "weight", "images"):
        array = getattr(layer, name)
        array[3, 0] += 1
        assert fingerprint(run, "range") != here, name
        array[3, 0] -= 1
    layer.r[:] += 0.1
    assert fingerprint(run, "range") == here, "r may be worked out anew"
    make_run(tmp_path / "other", LABELS, ranges=R, threshold=0.5)
    assert fingerprint(load_run(tmp_path / "other"), "range") == here


def test_runs_without_ranges_are_refused_in_one_line(
    command: Command, bare: Path, folder: Path, tmp_path: Path
) -> None:
    for call in (["rate", bare, "--no-browser"], ["calibrate", bare],
                 ["rate", bare, "--export", tmp_path / "out.csv"]):  # fmt: skip
        done = command(*call, "--view", "range")
        assert done.status == 2
        assert done.error.endswith(
            "holds no range explanations; profile the network again, on 50 images or more"
        )
        assert "\n" not in done.error
    assert not (bare / "ratings-range.csv").exists()
    (tmp_path / "table.csv").write_text("layer,unit,description,similarity\nfc,0,dog,0.5\n")
    done = command("import", tmp_path / "table.csv", "--out", tmp_path / "imported",
                   "--vlm", VLM_NAME)  # fmt: skip
    assert done.status == 0, done.stderr
    for name in ("rate", "calibrate"):
        done = command(name, tmp_path / "imported", "--view", "range")
        assert (done.status, "was imported from table.csv" in done.error) == (2, True)
        done = command(name, folder, "--view", "both")
        assert (done.status, done.error) == (2, "--view 'both' is neither peak nor range")


def test_images_of_an_older_run_are_asked_for(folder: Path) -> None:
    run = load_run(folder)
    for layer in run.ranges:  # as format 3 is read
        object.__setattr__(layer, "images", layer.images[:, :0])
    with pytest.raises(InputError, match="holds no images from the whole range of its units"):
        RatingBook(folder, run, "range")


# --- two views, two files ------------------------------------------------------------------------


def test_ratings_of_two_views_never_mix(command: Command, folder: Path, tmp_path: Path) -> None:
    peak, ranged = RatingBook(folder), RatingBook(folder, view="range")
    peak.add("anna", ("fc", 5), 1.0)
    ranged.add("anna", ("fc", 5), 0.0)
    assert [rating.value for rating in RatingBook(folder).ratings] == [1.0]
    assert [rating.value for rating in RatingBook(folder, view="range").ratings] == [0.0]
    assert {path.name for path in folder.glob("*.csv")} == {
        "ratings.csv", "ratings-range.csv", "descriptions.csv",
    }  # fmt: skip
    files = {"peak": tmp_path / "peak.csv", "range": tmp_path / "range.csv"}
    for view, path in files.items():
        assert command("rate", folder, "--view", view, "--export", path).status == 0
        assert command("rate", folder, "--view", view, "--import", path).status == 0
    (row,) = csv.DictReader(files["range"].open(newline=""))
    assert row["description"] == "magenta 0.40; red 0.20; yellow 0.13"
    for view, other in (("peak", "range"), ("range", "peak")):
        done = command("rate", folder, "--view", view, "--import", files[other])
        assert done.status == 2
        assert done.error == (
            f"{files[other]}, line 2: the row answers the questions of --view {other}, not these"
        )
        done = command("calibrate", folder, "--view", view, "--ratings", files[other])
        assert f"the questions of --view {other}, not these" in done.error


def test_a_ratings_file_of_the_peak_is_as_ever(folder: Path) -> None:
    """Rows and fingerprint as they were before the range could be rated."""
    run = load_run(folder)
    assert run.record.vlm is not None
    vlm = replace(run.record.vlm, name="tiny")  # the sample's is a path of this machine
    book = RatingBook(folder, replace(run, record=replace(run.record, vlm=vlm)))
    with book.held():
        rating = book.add("anna", ("fc", 5), 0.5)
    line = rating_line(rating, WORDS[5], book.fingerprint)
    assert line == f"anna,fc,5,{WORDS[5]},0.5,{rating.time},21d41d2db96a6012\n"
    assert (folder / "ratings.csv").read_text() == (
        f"rater,layer,unit,description,rating,time,run\n{line}"
    )


# --- profiler calibrate --view range -------------------------------------------------------------


def test_calibrate_sets_the_cut_on_r(command: Command, folder: Path) -> None:
    rate_run(folder)
    before = load_run(folder)
    done = command("calibrate", folder, "--view", "range", "--date", "2024-02-02", "--isotonic",
                   "--json")  # fmt: skip
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    r = np.array(R["fc"])
    ratings = np.where(r > 0.5, 1, np.where(r > 0.4, 0.5, 0.0))
    first = next(k for k in range(80) if ratings[k + 1 :].mean() >= 0.75)
    assert found["threshold"] == found["run_threshold"] == pytest.approx(r[first])
    assert found["interval"][0] < r[first] < found["interval"][1]
    assert found["layers"][1]["interpretable"] == 79 - first
    assert found["layers"][0]["scored"] == 2
    run = load_run(folder)
    assert run.range_threshold is not None
    assert run.range_threshold.source == "ratings"
    assert run.threshold == before.threshold, "the peak stays as it was"
    explained = run.ranges[1].explained(run.explained_cut)
    assert explained.tolist() == (np.arange(80) > first).tolist(), "the unit at τ is not above it"
    assert before.range_profile is not None
    assert run.range_profile is not None
    assert run.range_profile.total.interpretable == found["total"]["interpretable"]
    assert before.explained_cut == explained_cut(before.ranges) < r[first]
    rows = list(csv.DictReader((folder / "descriptions.csv").open(newline="")))
    assert [row["explained"] for row in rows[3:]] == [str(int(each)) for each in explained]
    # Who decided is said everywhere.
    told = json.loads((folder / "profile.json").read_text())["range"]
    assert (told["cut"], told["cut_source"]) == (run.explained_cut, "ratings")
    report = (folder / "report.html").read_text()
    assert "the threshold that people’s ratings set" in report
    assert "2 people gave 160 ratings of 80 units" in report
    assert "the lowest r above which the mean rating reaches 0.75" in report
    assert "profiler calibrate" in report
    assert f"(r above {r[first]:.3f}, from people’s ratings; mean correlation r" in run.summary
    page = (folder / "calibration-range.html").read_text()
    assert "Do the explanations of by-hand fit?" in page
    assert "the mean rating of the units with a greater r reaches the target" in page
    assert "Explained units" in page
    told = page.partition("<main")[2].partition("</main")[0]
    assert "nterpretable" not in told
    assert "score" not in told
    expected = list(csv.DictReader((folder / "expected_ratings-range.csv").open(newline="")))
    assert (expected[1]["expected_rating"], expected[-1]["expected_rating"]) == ("", "1.0000")
    names = {"calibration.html", "threshold.json", "expected_ratings.csv", "ratings.csv"}
    assert not names & {path.name for path in folder.iterdir()}
    again = command("calibrate", folder, "--view", "range", "--date", "2024-02-02", "--isotonic",
                    "--json")  # fmt: skip
    assert json.loads(again.stdout) == found


def test_a_run_says_that_decoys_decided(folder: Path) -> None:
    told = json.loads((folder / "profile.json").read_text())["range"]
    assert told["cut_source"] == "decoys"
    assert "range_threshold" not in json.loads((folder / "run.json").read_text())
    report = (folder / "report.html").read_text()
    assert "the lowest r at which decoys are at most" in report


def test_the_peak_is_calibrated_beside_the_range(command: Command, folder: Path) -> None:
    rate_run(folder)
    assert command("calibrate", folder, "--view", "range").status == 0
    cut = load_run(folder).range_threshold
    assert command("calibrate", folder).error.startswith("nobody has rated the run")
    book = RatingBook(folder)
    for unit in range(80):
        book.add("anna", ("fc", unit), float(unit > 40))
    assert command("calibrate", folder).status == 0
    run = load_run(folder)
    assert run.threshold is not None
    assert (run.threshold.source, run.range_threshold) == ("ratings", cut)


@pytest.mark.parametrize(("value", "units", "status"), [(0.0, 80, 1), (1.0, 10, 4)])
def test_where_there_is_no_threshold_the_run_stays(
    command: Command, folder: Path, value: float, units: int, status: int
) -> None:
    book = RatingBook(folder, view="range")
    for unit in range(units):
        book.add("anna", ("fc", unit), value)
    before = (folder / "run.json").read_bytes(), (folder / "report.html").read_bytes()
    done = command("calibrate", folder, "--view", "range")
    assert done.status == status
    assert ("with these explanations it cannot" if status == 1 else "too small") in done.error
    assert ((folder / "run.json").read_bytes(), (folder / "report.html").read_bytes()) == before
    assert not (folder / "threshold-range.json").exists()


def test_nobody_has_rated_the_range_yet(command: Command, folder: Path) -> None:
    done = command("calibrate", folder, "--view", "range")
    assert done.error.endswith(f"begin with: profiler rate {folder} --view range")


def test_what_is_cut_is_r_of_all_words(folder: Path) -> None:
    run = load_run(folder)
    layers = scored_layers(run, "range")
    np.testing.assert_allclose(layers[1].score, R["fc"])
    assert np.isnan(layers[0].score[1])
    assert (run.ranges[1].shown_r > layers[1].score).any()


# --- profiler run --range-threshold --------------------------------------------------------------


def test_run_takes_a_range_threshold(command: Command, tmp_path: Path, folder: Path) -> None:
    write_images(tmp_path / "images", 60)
    (tmp_path / "colours.txt").write_text("\n".join(WORDS))
    tiny = Path(__file__).parents[1] / "samples" / "tiny.py"
    call = ["run", f"{tiny}:subject", "--vlm", f"{tiny}:vlm", "--probe", tmp_path / "images",
            "--concepts", tmp_path / "colours.txt", "-j", 0, "--null-draws", 50]  # fmt: skip
    first = command(*call, "--range-threshold", 0.3, "--out", tmp_path / "one")
    assert first.status == 0, first.stderr
    run = load_run(tmp_path / "one")
    assert run.range_threshold is not None
    assert (run.range_threshold.value, run.range_threshold.source) == (0.3, "given")
    assert "as given" in run.summary
    for layer in run.ranges:
        assert (layer.explained(run.explained_cut) == (layer.whole_r > 0.3)).all()
    assert (
        "lies above 0.30, as given with the command"
        in (tmp_path / "one" / "report.html").read_text()
    )

    # One from ratings goes to a run of the same context, and nowhere else.
    basis = RatingBasis(0.75, 0.8, 0.1, None, 0.95, 80, 160, 2, 0.9, 80)
    threshold = Threshold(0.2, "ratings", run.record.range_context, ratings=basis)
    path = tmp_path / "threshold-range.json"
    path.write_text(threshold_json(threshold))
    done = command(*call, "--range-threshold", path, "--out", tmp_path / "two")
    assert done.status == 0, done.stderr
    assert load_run(tmp_path / "two").range_threshold == threshold
    refused = command(*call, "--threshold", path, "--out", tmp_path / "three")
    assert (refused.status, "view: range, r of all words there, not given here" in refused.error) \
        == (2, True)  # fmt: skip
    with pytest.raises(ContextError):
        in_context(threshold, load_run(folder).record.range_context, "t.json")
    for text in ("null", "high"):
        done = command(*call, "--range-threshold", text, "--out", tmp_path / "three")
        assert f"--range-threshold '{text}' is no finite number" in done.error
    done = command(*call, "--limit", 40, "--range-threshold", 0.3, "--out", tmp_path / "three")
    assert "--range-threshold has nothing to cut" in done.error
    assert not (tmp_path / "three" / "run.json").exists()


# --- in the browser ------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "dark"), [(1400, False), (1100, True), (400, False), (320, True)]
)
def test_what_a_rater_of_the_range_sees(
    browser: object, forks: Forks, folder: Path, width: int, dark: bool
) -> None:
    with (
        serving(forks, folder, "--view", "range", "--per-layer", 15) as server,
        at_page(browser, server.address, width=width, dark=dark) as rater,
    ):
        page = rater.page
        rater.enter("Anna")
        session = Session(RatingBook(folder, view="range"), per_layer=15)
        question = session.questions[0]
        assert page.text_content("#description") == " + ".join(word for word, _ in question.words)
        assert page.inner_text("#place") == (
            f"Unit {question.unit[1]} of {question.unit[0]}, r {question.score:.2f}"
        )
        figures = page.locator("#images figure")
        assert figures.count() == len(question.images)
        widths = [
            figures.nth(place).locator(".strength span").bounding_box()["width"]
            for place in range(figures.count())
        ]
        assert widths == sorted(widths, reverse=True)
        assert widths[0] > 40
        assert widths[-1] < 1
        assert "from the strongest response to the weakest" in page.inner_text("#work").lower()
        assert "The words do not tell long bars from short ones" in page.inner_text(".guidelines")
        assert "most activating" not in page.inner_text("body")
        assert page.evaluate(
            "[...document.images].every((i) => i.complete && i.naturalWidth > 0 && i.alt)"
        )
        assert rater.view.sideways == 0
        assert [text for text in rater.view.weak_text() if not text.startswith("only ")] == []
        if width >= 1100:  # everything a rater needs is in view without scrolling
            box = page.locator("#last").bounding_box()
            assert box["y"] + box["height"] <= 900
        rater.press("y", "m", "u")
        assert rater.done == 1
        assert rater.view.complaints == []
    (rating,) = RatingBook(folder, view="range").ratings
    assert (rating.about, rating.value) == (question.unit, 1.0)
    assert not (folder / "ratings.csv").exists()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_the_calibration_page_of_the_range(
    browser: object, command: Command, folder: Path, width: int, dark: bool
) -> None:
    rate_run(folder)
    done = command("calibrate", folder, "--view", "range", "--isotonic")
    assert done.stdout.strip() == str(folder / "calibration-range.html"), done.stderr
    for name in ("calibration-range.html", "report.html"):
        with opened(browser, folder / name, width=width, dark=dark) as view:
            assert view.sideways == 0
            assert view.weak_text() == []
            assert view.complaints == []
            assert view.strange_requests == []
