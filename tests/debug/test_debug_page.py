"""The diagnosis as text: what it says, what it lets through, how large it is."""

import base64
import itertools
import re
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pytest
from debug_samples import CLASSES, SAMPLES, fake_diagnosis, hostile_diagnosis, many_classes, of_two
from report_samples import HOSTILE, Outline, block, flat_thumbnails, visible

from profiler.concepts.heatmap import Heatmap
from profiler.debug.charts import DIVERGING, SEQUENTIAL, matrix, share_bar, static_map
from profiler.debug.data import IMAGES, STEPS, DiagnosisViews, concept_order, packed
from profiler.debug.encoder_or_head import Shares
from profiler.debug.page import debug_prose
from profiler.debug.result import LEVELS, Diagnosis, RuleRecord
from profiler.debug.view import render_debug
from profiler.errors import OutputError


@pytest.fixture(scope="module")
def ten() -> Diagnosis:
    return fake_diagnosis(pictures=flat_thumbnails(600))


@pytest.fixture(scope="module")
def html(ten: Diagnosis) -> str:
    return render_debug(ten)


def rows(html: str, table: str) -> list[list[str]]:
    """The rows of the first table of a class, as words."""
    found = re.search(rf'<table class="{table}">.*?</table>', html, re.DOTALL)
    assert found
    body = found[0][found[0].index("<tbody>") :]
    return [
        [
            unescape(visible(cell)).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    ]


def unpacked(data: dict[str, Any], concepts: int) -> np.ndarray:
    """The shares (n, n) that a packed heatmap holds."""
    raw = base64.b64decode(data["c"])
    cells = np.frombuffer(raw, "<u2" if data.get("w") == 2 else "u1") / data["of"]
    heat = np.full((concepts, concepts), 0.5)
    upper = np.triu_indices(concepts, k=1)
    heat[upper] = cells
    heat.T[upper] = 1 - cells
    return heat


def views(diagnosis: Diagnosis) -> dict[str, dict[str, Any]]:
    return block(render_debug(diagnosis), "debug-data")["views"]  # type: ignore[return-value]


# -- words ------------------------------------------------------------------------------------


def test_first_words_are_what_was_examined_then_finding_then_matrix(
    html: str, ten: Diagnosis
) -> None:
    page = debug_prose(ten)
    words = visible(html[html.index("<h1>") :])
    places = [
        words.index(text)
        for text in (
            ten.classifier.weights,
            "the encoder gives 512 features to the head (layer “fc”), which predicts 10 classes",
            page["summary"][0].replace("\u202f", " "),
            "Most frequent confusion: ",
            "All criteria compared",
            "Which concepts differ",
            "explains 61 % of the variance of the VLM’s embeddings",
            "Linear alignment with the VLM’s space",
            page["limits"][0].replace("\u202f", " "),
            ten.command,
        )
    ]
    assert places == sorted(places)
    for story in ("data_story", "where_story", "concept_story", "map_story"):
        assert all(text.replace("\u202f", " ") in words for text in page[story])


def test_matrix_has_every_count(html: str, ten: Diagnosis) -> None:
    found = rows(html, "matrix")
    assert [row[0] for row in found] == list(CLASSES)
    counts = [[int(cell or 0) for cell in row[1:-1]] for row in found]
    assert counts == ten.confusion.tolist()
    right = [f"{100 * ten.confusion[c, c] / ten.confusion[c].sum():.0f} %" for c in range(10)]
    assert [row[-1] for row in found] == right


def test_confusions_are_ranked_with_counts_and_leading_concepts(html: str, ten: Diagnosis) -> None:
    found = rows(html, "confusion-table")
    assert len(found) == len(ten.confusions)
    errors = [int(row[1].split()[0]) for row in found]
    assert errors == sorted(errors, reverse=True)
    assert sum(errors) == ten.after.images - ten.after.correct
    by_name = {row[0].split(" ", 3)[0] + row[0].split(" ", 3)[2]: row[0] for row in found}
    for confusion in ten.confusions:
        text = by_name[CLASSES[confusion.true] + CLASSES[confusion.predicted]]
        if confusion.findings:
            first = confusion.findings[0]
            assert f"{ten.words[first.more]} > {ten.words[first.less]}: " in text
        else:
            assert "no pair of concepts differs beyond chance" in text


def test_criteria_are_compared_and_give_their_reason(html: str, ten: Diagnosis) -> None:
    found = rows(html, "rules")
    assert [row[0].removesuffix(" used here") for row in found] == list(ten.rules)
    assert found[0][0].endswith(" used here")
    for row, (name, rule) in zip(found, ten.rules.items(), strict=True):
        total = rule.found.total
        counts = f"{total.head} head, {total.encoder} encoder, {total.undetermined} undetermined"
        assert row[2].endswith(counts), name
        if total.decided:
            low, high = total.interval() or (0, 0)
            share = f"{100 * total.head / total.decided:.0f} %"
            assert row[3] == f"{share} ({100 * low:.0f} to {100 * high:.0f})"
        else:
            assert row[3] == "none decided"
    assert "the reference images are too few for a new head" in found[4][1]


def test_the_criterion_that_counts_comes_first(ten: Diagnosis) -> None:
    found = rows(render_debug(replace(ten, rule="zero-shot")), "rules")
    assert found[0][0] == "zero-shot used here"
    assert {row[0] for row in found[1:]} == set(ten.rules) - {"zero-shot"}


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (Shares(80, 10, 5), "The head is at fault in 89 % of the decided errors"),
        (Shares(10, 80, 5), "The encoder is at fault in 89 % of the decided errors"),
        (Shares(12, 14, 5), "Encoder and head are both at fault"),
        (Shares(0, 0, 5), "no error could be decided"),
    ],
)
def test_the_title_says_no_more_than_the_interval(shares: Shares, said: str) -> None:
    found = of_two()
    pair = replace(found.rules[found.rule].found, pairs={(0, 1): shares})
    rules = {**found.rules, found.rule: RuleRecord(pair)}
    assert said in visible(render_debug(replace(found, rules=rules)))


def test_accuracies_of_vlm_and_aligned_encoder_stand_beside_the_classifier(
    html: str, ten: Diagnosis
) -> None:
    found = {row[0]: row[1] for row in rows(html, "accuracies")}
    assert len(found) == 3
    for name, part in (
        ("Classifier", ten.before),
        ("VLM, zero-shot", ten.quality.vlm),
        ("Encoder, aligned, zero-shot", ten.quality.aligned),
    ):
        assert f"{part.correct} of {part.images} (" in found[name]


# -- where the data cannot carry a conclusion ----------------------------------------------------


def test_no_errors_are_said_not_drawn() -> None:
    words = visible(render_debug(SAMPLES["clean"]()))
    assert "No image was misclassified, so there is no error to explain" in words
    assert "No image was misclassified" in words
    assert "There are no errors to attribute." in words
    assert "No differential: no image was misclassified." in words


def test_a_poor_map_is_warned_of_once_and_named_wherever_something_rests_on_it() -> None:
    poor = SAMPLES["poor"]()
    outline = Outline(render_debug(poor))
    paragraphs = [text for tag, _, text in outline.texts if tag == "p"]
    said = [
        text
        for text in paragraphs
        if "alignment is poor" in text or "a poor" in text or "the poor" in text
    ]
    assert len(said) == 5, "finding, confusions, criteria, concepts, alignment"
    assert sum("(R² = 0.12)" in text for text in said) == 1
    yellow = [kind for tag, kind, _ in outline.texts if tag == "p" and kind.get("class") == "doubt"]
    assert len(yellow) == 2, "at the top, and in the section on the alignment"
    assert sum("12\u202f% of the variance" in text for text in said) == 1
    verdicts = "The verdicts of “zero-shot” and “heatmap” rest on it as well."
    assert sum(verdicts in text for text in said) == 1
    good = render_debug(replace(poor, quality=replace(poor.quality, warning="")))
    assert "poor" not in visible(good)


def test_undetermined_verdicts_are_no_verdict() -> None:
    words = visible(render_debug(SAMPLES["undetermined"]()))
    assert "The criterion “witnesses” could not decide a single error" in words
    assert "Encoder or head: no error could be decided" in words


def test_few_errors_are_said() -> None:
    few = of_two(errors=3)
    assert "Only 3 images were misclassified" in visible(render_debug(few))
    one = of_two(errors=1)
    assert "Only 1 image was misclassified" in visible(render_debug(one))


def test_changed_images_say_what_correct_and_incorrect_mean() -> None:
    attacked = SAMPLES["attacked"]()
    words = visible(render_debug(attacked))
    assert f"Change of the images{attacked.change}" in words
    assert "Correct predictions are those on the unmodified images." in words
    after = attacked.after
    assert f"95 % → {100 * after.correct / after.images:.0f} %" in words
    assert "Classifier, unmodified images" in words


def test_a_class_without_differential_has_none_in_the_data() -> None:
    found = views(SAMPLES["lopsided"]())
    frog, deer = f"{CLASSES.index('frog')},", f"{CLASSES.index('deer')},"
    for level in LEVELS:
        assert found[frog][level] == {}
        assert set(found[deer][level]) == {"wrong"}
        assert set(found[","][level]) == {"wrong", "marked"}
    words = visible(render_debug(SAMPLES["lopsided"]()))
    assert "no correct predictions to compare with" in words


# -- what the script reads -------------------------------------------------------------------


def test_maps_hold_what_was_counted_in_one_order(html: str, ten: Diagnosis) -> None:
    data: Any = block(html, "debug-data")
    order = concept_order(ten)
    n = len(order)
    assert data["concepts"] == [ten.words[i] for i in order]
    for level in LEVELS:
        for label in (None, 3):
            name = "" if label is None else str(label)
            right = ten.heatmaps[level].summary(label=label, right=True)
            wrong = ten.heatmaps[level].summary(label=label, right=False)
            assert right is not None
            assert wrong is not None
            view = data["views"][f"{name},"][level]
            for heat, held in ((right, data["rights"][level][name]), (wrong, view["wrong"])):
                np.testing.assert_allclose(
                    unpacked(held, n), heat.mean[np.ix_(order, order)], atol=1e-12
                )
                assert held["n"] == heat.count
        answers = ten.heatmaps[level].summary(label=5, by="predicted", right=False)
        assert answers is not None
        held = data["views"][",5"][level]["wrong"]
        np.testing.assert_allclose(
            unpacked(held, n), answers.mean[np.ix_(order, order)], atol=1e-12
        )


def test_significant_cells_are_those_of_the_test(html: str, ten: Diagnosis) -> None:
    data: Any = block(html, "debug-data")
    order = concept_order(ten)
    upper = np.triu_indices(len(order), k=1)
    marks = 0
    for confusion in ten.confusions:
        found = confusion.differential["encoder"]
        assert found is not None
        view = data["views"][f"{confusion.true},{confusion.predicted}"]
        bits = np.unpackbits(
            np.frombuffer(base64.b64decode(view["encoder"]["marked"]), np.uint8),
            count=len(upper[0]),
        )
        np.testing.assert_array_equal(bits, found.significant()[np.ix_(order, order)][upper])
        assert view["findings"]["all"] == int(bits.sum())
        marks += int(bits.sum())
    assert marks > 0


def test_a_planted_pair_is_found_and_not_in_the_vlm() -> None:
    found = views(of_two())["0,1"]
    data: Any = block(render_debug(of_two()), "debug-data")
    [[more, less, right, wrong, low, high, q]] = found["findings"]["shown"]
    assert [data["concepts"][i] for i in (more, less)] == ["sand", "sea"]
    assert [right, wrong] == [0, 1]
    assert 0.8 < low < high <= 1
    assert q < 1e-6
    assert base64.b64decode(found["vlm"]["marked"]) == b"\0"


def test_shares_of_views_add_up(html: str, ten: Diagnosis) -> None:
    data: Any = block(html, "debug-data")
    whole = np.array(data["views"][","]["shares"])
    for at in (0, 1):
        parts = [
            view["shares"]
            for key, view in data["views"].items()
            if key.count(",") == 1 and key.split(",")[at] and not key.split(",")[1 - at]
        ]
        np.testing.assert_array_equal(np.sum(parts, axis=0), whole)
    total = ten.shares
    assert whole[0].tolist() == [total.head, total.encoder, total.undetermined]
    for key, at in (("3,", 0), (",5", 1)):
        pairs = ten.rules["heatmap"].found.pairs
        own = sum((s for pair, s in pairs.items() if pair[at] == int(key.strip(","))), Shares())
        place = list(ten.rules).index("heatmap")
        assert data["views"][key]["shares"][place] == [own.head, own.encoder, own.undetermined]


def test_where_the_vlm_leads_its_concepts_are_the_responsible_ones(ten: Diagnosis) -> None:
    bare = replace(ten, thumbnails={}, images=())
    led = replace(
        bare, level="vlm", confusions=tuple(replace(c, level="vlm") for c in ten.confusions)
    )
    data: Any = block(render_debug(led), "debug-data")
    assert data["level"] == "vlm"
    assert data["concepts"] == [ten.words[i] for i in concept_order(led)]
    for confusion in led.confusions:
        view = data["views"][f"{confusion.true},{confusion.predicted}"]
        assert view["findings"]["all"] == len(confusion.findings)
    assert data["concepts"] != block(render_debug(bare), "debug-data")["concepts"]


def test_large_counts_are_kept_to_a_hundredth_of_a_per_cent() -> None:
    count = 100_000
    wins = np.array([[0, 33_333], [66_660, 0]])
    ties = np.array([[count, 7], [7, count]])
    held = packed(Heatmap(wins, ties, count), np.arange(2))
    assert held["of"] == STEPS
    assert abs(unpacked(held, 2)[0, 1] - 0.333365) < 1e-4
    few = packed(
        Heatmap(np.array([[0, 40], [50, 0]]), np.array([[99, 9], [9, 99]]), 99), np.arange(2)
    )
    assert unpacked(few, 2)[0, 1] == 44.5 / 99


def test_images_say_confidence_verdicts_and_strengths(html: str, ten: Diagnosis) -> None:
    data: Any = block(html, "debug-data")
    order = concept_order(ten)
    by_number = {image.image: image for image in ten.images}
    seen = 0
    for key, view in data["views"].items():
        for number, name, sure, true_sure, verdicts, ranks, strengths in view.get("images", []):
            image = by_number[number]
            assert key == f"{image.true},{image.predicted}"
            assert name == image.name
            assert [sure, true_sure] == pytest.approx(
                [image.confidence, image.true_confidence], abs=1e-4
            )
            assert verdicts == [int(image.verdicts[rule]) for rule in ten.rules]
            np.testing.assert_allclose(strengths, image.strengths[order], atol=6e-4)
            held = np.frombuffer(base64.b64decode(ranks), np.uint8)
            np.testing.assert_array_equal(np.argsort(held), np.argsort(image.strengths[order]))
            seen += 1
    assert seen == len(ten.images)


# -- size --------------------------------------------------------------------------------------


def test_a_page_of_ten_classes_is_small() -> None:
    diagnosis = fake_diagnosis(a_class=200, pictures=flat_thumbnails(2000))
    assert len(render_debug(diagnosis).encode()) < 2e6


@pytest.mark.parametrize("limit", [0.3, 0.45, 0.6])
def test_what_is_left_out_is_the_least_frequent_and_said(limit: float, ten: Diagnosis) -> None:
    html = render_debug(ten, max_mb=limit)
    assert len(html.encode()) <= limit * 1e6
    kept = [key for key in block(html, "debug-data")["views"] if re.fullmatch(r"\d+,\d+", key)]  # type: ignore[attr-defined]
    ranked = [f"{each.true},{each.predicted}" for each in ten.confusions]
    assert kept == ranked[: len(kept)]
    lost = len(ranked) - len(kept)
    assert bool(lost) == ("are left out" in visible(html))
    if lost:
        assert f"the {lost} least frequent of {len(ranked)} confusions" in visible(html)
    shown: Any = block(html, "thumbnail-data")
    used = {
        str(image[0])
        for view in block(html, "debug-data")["views"].values()  # type: ignore[attr-defined]
        for image in view.get("images", [])
    }
    assert used <= set(shown), "a confusion comes with its pictures"


def test_more_than_anyone_wants_is_an_error(ten: Diagnosis) -> None:
    with pytest.raises(OutputError, match=r"more than the limit of 0\.1 MB"):
        render_debug(ten, max_mb=0.1)


def test_estimated_sizes_hold(ten: Diagnosis) -> None:
    whole = len(render_debug(ten).encode())
    items = list(DiagnosisViews(ten, concept_order(ten)).items())
    bare = len(render_debug(replace(ten, confusions=(), images=())).encode())
    estimate = sum(item.bytes(ten.thumbnails) for item in items if item.confusion)
    assert estimate >= whole - bare - 20_000


@pytest.mark.slow
def test_a_thousand_classes_of_one_image_each() -> None:
    many = many_classes()
    html = render_debug(many, max_mb=2.0)
    assert len(html.encode()) <= 2e6
    words = visible(html)
    assert "12 of 1 000 classes, those of the most frequent confusions" in words
    assert len(rows(html, "matrix")) == 12
    assert "The table lists the " in words or len(rows(html, "confusion-table")) == len(
        many.confusions
    )


def test_many_images_of_a_confusion_are_cut_and_it_is_said() -> None:
    html = render_debug(of_two(errors=IMAGES + 1))
    data: Any = block(html, "debug-data")
    assert len(data["views"]["0,1"]["images"]) == IMAGES
    assert f"At most {IMAGES} misclassified images per confusion are shown." in visible(html)
    assert "At most" not in visible(render_debug(of_two(errors=IMAGES)))


# -- pictures ----------------------------------------------------------------------------------


def test_colours_run_from_vermilion_through_light_to_blue() -> None:
    assert (DIVERGING[0], DIVERGING[-1]) == ("#d55e00", "#0072b2")

    def light(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2

    middle = len(DIVERGING) // 2
    lights = [light(colour) for colour in DIVERGING]
    assert all(a < b for a, b in itertools.pairwise(lights[: middle + 1]))
    assert all(a > b for a, b in itertools.pairwise(lights[middle:]))
    dark = [light(colour) for colour in SEQUENTIAL]
    assert all(a > b for a, b in itertools.pairwise(dark))


def test_static_map_draws_each_free_cell_once(ten: Diagnosis) -> None:
    whole = ten.differential(None)
    assert whole is not None
    drawn = static_map(whole, concept_order(ten), ten.words)
    n = len(ten.words)
    cells = [cell for _, path in drawn.paths for cell in re.findall(r"M\d+ \d+h", path)]
    assert len(cells) == len(set(cells)) == n * (n - 1)
    assert len(drawn.marks) == int(whole.significant().sum())


def test_static_map_is_blue_where_correct_predictions_have_more() -> None:
    found = of_two().differential(None)
    assert found is not None
    drawn = static_map(found, np.array([0, 1, 2]), ("sea", "sand", "grass"))
    assert drawn.limit == 1
    colours = {cell: colour for colour, path in drawn.paths for cell in path.split("z") if cell}
    assert colours["M1 0h1v1h-1"] == DIVERGING[-1], (
        "sea > sand in all correct predictions, in no incorrect one"
    )
    assert colours["M0 1h1v1h-1"] == DIVERGING[0]
    assert colours["M2 0h1v1h-1"] == DIVERGING[len(DIVERGING) // 2], "sea > grass in both"


def test_matrix_of_many_classes_has_those_of_the_most_frequent_confusions() -> None:
    confusion = np.diag(np.full(40, 5))
    confusion[7, 9] = 6
    confusion[30, 31] = 1
    drawn = matrix(confusion, [str(i) for i in range(40)])
    assert not drawn.whole
    assert {7, 9, 30, 31} <= set(drawn.classes)
    assert drawn.errors == 7
    shades = {
        (row["true"], cell["predicted"]): cell["shade"]
        for row in drawn.rows
        for cell in row["cells"]
    }
    assert (shades[7, 9], shades[30, 31], shades[9, 7], shades[7, 7]) == (10, 2, 0, None)


def test_share_bar_fills_its_box() -> None:
    bar = share_bar(Shares(3, 5, 2), "x")
    assert [(s.x, s.width) for s in bar.segments] == [(0, 30), (30, 50), (80, 20)]
    assert [s.swatch.name for s in share_bar(Shares(0, 5, 0), "x").segments] == ["encoder"]


# -- safety ------------------------------------------------------------------------------------


def test_hostile_text_stays_text() -> None:
    html = render_debug(hostile_diagnosis())
    outline = Outline(html)
    assert outline.all("img") == []
    assert len(outline.all("script")) == 3
    data: Any = block(html, "debug-data")
    assert data["classes"][0] == f"{HOSTILE}0"
    for name in ("debug-data", "thumbnail-data"):
        raw = html[html.index(f'id="{name}">') :].split("</script>")[0]
        assert "\u2028" not in raw
        assert "<" not in raw.split(">", 1)[1]


@pytest.mark.parametrize("kind", sorted(set(SAMPLES) - {"many", "hundred", "ten"}))
def test_headings_ids_and_links_hold_together(kind: str) -> None:
    outline = Outline(render_debug(SAMPLES[kind]()))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in outline.all("a"):
        assert link["href"].removeprefix("#") in ids
    assert all("style" not in attributes for _, attributes in outline.tags)
