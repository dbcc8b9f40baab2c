"""The diagnosis as a reader uses it, in headless Chromium."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest
from browser import View, opened
from debug_samples import CLASSES, SAMPLES, fake_diagnosis, hostile_diagnosis
from report_samples import flat_thumbnails

from profiler.debug.data import concept_order
from profiler.debug.page import debug_prose
from profiler.debug.result import Diagnosis
from profiler.debug.view import render_debug

pytestmark = pytest.mark.browser

TITLE = "#explorer h3"
READOUT = ".map-readout"
BOXES = ".heatmaps .map-box"


@pytest.fixture(scope="module")
def ten() -> Diagnosis:
    return fake_diagnosis(pictures=flat_thumbnails(600))


@pytest.fixture(scope="module")
def file(ten: Diagnosis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "debug.html"
    path.write_text(render_debug(ten), encoding="utf-8")
    return path


def written(diagnosis: Diagnosis, folder: Path) -> Path:
    path = folder / "debug.html"
    path.write_text(render_debug(diagnosis), encoding="utf-8")
    return path


def choose(view: View, true: str = "", predicted: str = "", level: str = "") -> None:
    """Choose images by the controls, as a reader does."""
    selects = view.page.locator("#explorer > .controls select")
    for select, name in ((selects.nth(0), true), (selects.nth(1), predicted)):
        if name:
            texts = select.locator("option").all_inner_texts()
            select.select_option(
                index=next(i for i, t in enumerate(texts) if t.startswith(f"{name} ("))
            )
    if level:
        view.page.locator(f"#explorer input[value={level}]").check()


def text(view: View, selector: str) -> str:
    return re.sub(r"\s+", " ", view.page.locator(selector).inner_text())


def cell(view: View, box: int, row: int, column: int) -> dict[str, float]:
    """Where on the screen a cell of a map lies, from the highlighted one's size."""
    found = view.page.locator(BOXES).nth(box)
    found.scroll_into_view_if_needed()
    frame: dict[str, float] = found.locator(".ground").bounding_box()
    side = frame["width"] / 18
    return {
        "x": frame["x"] + (column + 0.5) * side,
        "y": frame["y"] + (row + 0.5) * side,
    }


# -- choosing ------------------------------------------------------------------------------------


def test_a_click_on_the_matrix_shows_the_confusion(view: View, ten: Diagnosis) -> None:
    first = ten.confusions[0]
    true, predicted = CLASSES[first.true], CLASSES[first.predicted]
    link = view.page.locator(f".matrix a[title^='{true} classified as {predicted}:']")
    assert link.inner_text() == str(first.errors)
    with view.following():
        link.click()
    assert text(view, TITLE) == f"{true} classified as {predicted}: {first.errors} images"
    assert first.told.text in text(view, ".told-of")
    view.page.reload()
    assert text(view, TITLE) == f"{true} classified as {predicted}: {first.errors} images"
    assert view.page.locator("#maps").bounding_box()["y"] < 100


def test_the_keyboard_reaches_the_matrix_and_the_ranking(view: View, ten: Diagnosis) -> None:
    link = view.page.locator(".confusion-table tbody a").nth(2)
    link.focus()
    with view.following():
        view.page.keyboard.press("Enter")
    third = ten.confusions[2]
    assert text(view, TITLE).startswith(f"{CLASSES[third.true]} classified as ")


def test_classes_predictions_and_all(view: View, ten: Diagnosis) -> None:
    right, wrong = ten.after.correct, ten.after.images - ten.after.correct
    assert text(view, TITLE) == f"All predictions: {wrong} incorrect, {right} correct"
    choose(view, true="cat")
    own = ten.confusion[3]
    assert text(view, TITLE) == f"Images of cat: {own.sum() - own[3]} incorrect, {own[3]} correct"
    first = next(each for each in ten.confusions if each.true == 3)
    choose(view, predicted=CLASSES[first.predicted])
    assert f"cat classified as {CLASSES[first.predicted]}: " in text(view, TITLE)
    # A pair that never occurs cannot be chosen.
    offered = view.page.locator("#explorer select").nth(1).locator("option").count()
    assert offered == 1 + sum(each.true == 3 for each in ten.confusions)
    view.page.locator("#explorer select").nth(0).select_option("")
    label = first.predicted
    answers = ten.confusion[:, label].sum() - ten.confusion[label, label]
    assert text(view, TITLE).startswith(f"Predictions “{CLASSES[label]}”: {answers} incorrect")


def test_ranking_folds_and_filters(view: View, ten: Diagnosis) -> None:
    shown = view.page.locator(".confusion-table tbody tr:visible")
    assert shown.count() == 8
    view.page.locator("#ranked .more").click()
    assert shown.count() == len(ten.confusions)
    view.page.locator("#ranked input").fill("HORSE")
    horse = CLASSES.index("horse")
    assert shown.count() == sum(horse in (c.true, c.predicted) for c in ten.confusions)


def test_an_address_that_makes_no_sense_is_harmless(view: View) -> None:
    for fragment in (
        "#maps?true=nothing&predicted=else&level=third&image=x&row=a&column=b&window=1,2",
        "#maps?true=cat&predicted=cat&window=5,5,500&image=99999",
        "#maps?window=-1,0,8&row=constructor&column=__proto__&level=__proto__",
        "#maps?",
    ):
        with view.following():
            view.page.evaluate("(hash) => { location.hash = hash; }", fragment)
        assert view.page.locator(BOXES).count() == 3
    assert text(view, TITLE).startswith("All predictions")


# -- heatmaps ------------------------------------------------------------------------------------


def test_a_cell_says_pair_values_intervals_and_counts(view: View, ten: Diagnosis) -> None:
    first = ten.confusions[0]
    found = first.differential["encoder"]
    assert found is not None
    order = concept_order(ten)
    choose(view, true=CLASSES[first.true], predicted=CLASSES[first.predicted])
    for box, row, column in ((0, 2, 5), (1, 11, 3), (2, 17, 0)):
        i, j = int(order[row]), int(order[column])
        at = cell(view, box, row, column)
        view.page.mouse.move(at["x"], at["y"])
        expected = [f"{ten.words[i]} > {ten.words[j]} "]
        for name, heat in (("correct", found.right), ("incorrect", found.wrong)):
            low, high = (100 * end[i, j] for end in heat.interval())
            images = f"{heat.count} images" if heat.count > 1 else "1 image"
            share = f"{100 * heat.mean[i, j]:.0f} %"
            expected.append(f"{name} {share} ({low:.0f} to {high:.0f}) of {images}; ")
        low, high = (100 * end[i, j] for end in found.interval())
        points = [f"{v:+.0f}".replace("-", "−") for v in (100 * found.mean[i, j], low, high)]
        points = ["0" if p in ("+0", "−0") else p for p in points]
        said = "beyond chance" if found.significant()[i, j] else "could be chance"
        expected.append(f"difference {points[0]} points ({points[1]} to {points[2]}), {said}")
        assert "".join(expected) in text(view, READOUT)


MARKED = """(figure) => {
  const ground = figure.querySelector(".ground");
  const [x, y, width] = ["x", "y", "width"].map((name) => Number(ground.getAttribute(name)));
  return [...figure.querySelectorAll("circle.significant")].map((mark) => [
    Math.floor((18 * (Number(mark.getAttribute("cy")) - y)) / width),
    Math.floor((18 * (Number(mark.getAttribute("cx")) - x)) / width)]);
}"""


def test_marks_are_the_significant_cells(view: View, ten: Diagnosis) -> None:
    order = concept_order(ten)
    first = max(ten.confusions, key=lambda confusion: len(confusion.findings))
    choose(view, true=CLASSES[first.true], predicted=CLASSES[first.predicted])
    for level, found in first.differential.items():
        choose(view, level=level)
        assert found is not None
        marks = view.page.locator(".heatmaps .map-figure").nth(2).evaluate(MARKED)
        significant = found.significant()[np.ix_(order, order)]
        assert sorted(marks) == np.argwhere(significant).tolist()
    assert first.findings


def test_all_maps_have_the_same_concepts_in_the_same_order(view: View, ten: Diagnosis) -> None:
    choose(view, level="both")
    expected = [ten.words[i] for i in concept_order(ten)]
    figures = view.page.locator(".heatmaps .map-figure")
    assert figures.count() == 6
    for figure in figures.all():
        assert figure.locator("text.start").all_text_contents() == expected
    assert figures.nth(0).locator("text.end").all_text_contents() == expected


def test_arrow_keys_move_in_all_maps_and_the_address_keeps_the_cell(
    view: View, ten: Diagnosis
) -> None:
    order = [ten.words[i] for i in concept_order(ten)]
    box = view.page.locator(BOXES).nth(2)
    box.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp"):
        view.page.keyboard.press(key)
    assert text(view, f"{READOUT} b") == f"{order[1]} > {order[3]}"
    assert view.page.locator(f"{BOXES} .here[visibility=visible]").count() == 3
    assert f"row={quote_plus(order[1])}" in view.page.url
    view.page.reload()
    assert text(view, f"{READOUT} b") == f"{order[1]} > {order[3]}"


def test_zoom_shows_part_and_the_arrows_move_on(browser: Any, tmp_path: Path) -> None:
    path = written(SAMPLES["hundred"](), tmp_path)
    with opened(browser, path) as view:
        assert view.page.locator(f"{BOXES} text").count() == 0, "names would not be readable"
        assert "zoom in" in text(view, ".zooms .note")
        view.page.locator(BOXES).nth(0).focus()
        for _ in range(4):
            view.page.keyboard.press("+")
        size = round(100 / 1.6**4)
        named = view.page.locator(BOXES).nth(0).locator("text.start")
        assert abs(named.count() - size) <= 1
        sizes = named.evaluate_all("(all) => all.map((e) => e.getBoundingClientRect().width)")
        assert min(sizes) >= 9
        before = named.first.text_content()
        for _ in range(60):
            view.page.keyboard.press("ArrowRight")
        assert named.first.text_content() != before
        shown = named.all_text_contents()
        view.page.reload()
        assert named.all_text_contents() == shown
        view.page.get_by_role("button", name="Show all concepts").click()
        assert view.page.locator(f"{BOXES} text").count() == 0
        assert view.complaints == []


def test_cells_from_too_few_images_are_hatched(view: View, ten: Diagnosis) -> None:
    assert view.page.locator(".heatmaps path.few").count() == 0
    rare = ten.confusions[-1]
    assert rare.errors < 5
    choose(view, true=CLASSES[rare.true], predicted=CLASSES[rare.predicted])
    assert view.page.locator(".heatmaps path.few").count() == 2, (
        "incorrect predictions and differential"
    )
    assert "from fewer than 5 images" in text(view, ".heatmaps .keys")
    view.page.locator(BOXES).nth(2).focus()
    assert "too few images" in text(view, READOUT)


def test_what_cannot_be_compared_is_said(browser: Any, tmp_path: Path) -> None:
    path = written(SAMPLES["lopsided"](), tmp_path)
    with opened(browser, path) as view:
        choose(view, true="frog")
        assert "No image of frog was misclassified" in text(view, ".findings")
        assert view.page.locator(BOXES).count() == 1
        assert view.page.locator(f"{BOXES} text.end").count() == 18
        choose(view, true="deer")
        assert "No image of deer was classified correctly" in text(view, ".findings")
        assert view.page.locator(BOXES).count() == 1
        assert view.page.locator(f"{BOXES} text.end").count() == 18
        choose(view, true="bird")
        choose(view, predicted="frog")
        assert "hardly possible" in text(view, ".findings")
        assert view.complaints == []


def test_findings_say_what_the_vlm_shows(browser: Any, tmp_path: Path) -> None:
    with opened(browser, written(SAMPLES["two"](), tmp_path)) as view:
        choose(view, true="ship", predicted="beach")
        row = text(view, ".responsible tbody tr")
        assert row.startswith("sand > sea")
        assert "100 % 0 % +100" in row
        assert row.endswith("0, not beyond chance")
        assert "1 pair of 3 differs beyond chance" in text(view, ".findings")
        view.page.locator(".responsible .plain-button").click()
        assert text(view, f"{READOUT} b") == "sand > sea"
        assert view.complaints == []


def test_where_the_vlm_leads_it_is_shown_first(browser: Any, tmp_path: Path) -> None:
    found = SAMPLES["two"]()
    led = replace(
        found, level="vlm", confusions=tuple(replace(c, level="vlm") for c in found.confusions)
    )
    with opened(browser, written(led, tmp_path)) as view:
        assert view.page.locator("#explorer input[value=vlm]").is_checked()
        choose(view, true="ship", predicted="beach")
        assert "No pair of concepts differs beyond chance" in text(view, ".findings")
        assert "level=" not in view.page.url
        choose(view, level="encoder")
        assert "level=encoder" in view.page.url
        assert view.complaints == []


# -- images --------------------------------------------------------------------------------------


def test_an_image_shows_its_own_heatmap(view: View, ten: Diagnosis) -> None:
    first = ten.confusions[0]
    choose(view, true=CLASSES[first.true], predicted=CLASSES[first.predicted])
    own = [i for i in ten.images if (i.true, i.predicted) == (first.true, first.predicted)]
    pictures = view.page.locator(".picture")
    assert pictures.count() == min(len(own), 12)
    surest = max(own, key=lambda image: image.confidence)
    pictures.first.focus()
    view.page.keyboard.press("Enter")
    assert pictures.first.get_attribute("aria-pressed") == "true"
    assert surest.name in text(view, ".single")
    order = concept_order(ten)
    strongest = ten.words[int(np.argmax(surest.strengths))]
    assert text(view, ".strengths li >> nth=0").startswith(strongest)
    ordered = surest.strengths[order]
    stronger = ordered[:, None] > ordered[None, :]
    view.page.locator(".single .map-box").focus()
    view.page.keyboard.press("ArrowRight")
    said = ">" if stronger[0, 2] else "<"
    names = [ten.words[int(order[k])] for k in (0, 2)]
    assert text(view, ".one .readout").startswith(f"{names[0]} {said} {names[1]}")
    dark = view.page.locator(".single .map-box path").evaluate_all(
        "(all) => all.map((e) => [e.getAttribute('fill'), e.getAttribute('d').match(/M/g).length])"
    )
    assert dict(dark)["#231a6b"] == int(stronger.sum())
    view.page.reload()
    assert surest.name in text(view, ".single")
    right = view.page.locator(".right-images img")
    assert right.count() == len(ten.examples[first.true])


# -- everywhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(SAMPLES) - {"many", "ten", "poor"}))
def test_no_page_scrolls_sideways_or_complains(browser: Any, tmp_path: Path, kind: str) -> None:
    path = written(SAMPLES[kind](), tmp_path)
    with opened(browser, path, width=320) as view:
        view.page.locator("#explorer input[value=both]").check()
        for picture in view.page.locator(".picture").all()[:1]:
            picture.click()
        for width in view.at_widths(320, 400, 970):
            assert view.sideways == 0, (width, kind)
        assert view.complaints == []
        assert view.strange_requests == []


@pytest.mark.slow
def test_a_thousand_classes_stay_quick(browser: Any, tmp_path: Path) -> None:
    many = SAMPLES["many"]()
    path = written(many, tmp_path)
    with opened(browser, path) as view:
        first = many.confusions[0]
        took = view.page.evaluate("""() => {
          const select = document.querySelector("#explorer select");
          return [...select.options].slice(1, 6).map(({ value }) => {
            const start = performance.now();
            select.value = value;
            select.dispatchEvent(new Event("change"));
            document.body.getBoundingClientRect();
            return performance.now() - start;
          });
        }""")
        assert min(took) < 200, took
        name = quote_plus(many.classes[first.true])
        with view.following():
            view.page.evaluate("(hash) => { location.hash = hash; }", f"#maps?true={name}")
        assert view.complaints == []


@pytest.mark.parametrize("width", [400, 1400])
def test_without_javascript_findings_confusions_and_the_differential_stay(
    browser: Any, file: Path, ten: Diagnosis, width: int
) -> None:
    with opened(browser, file, javascript=False, width=width) as view:
        words = view.page.locator("body").inner_text()
        assert ten.told.text.replace(",", "\u202f") in words
        assert debug_prose(ten)["limits"][0] in words
        rows = view.page.locator(".confusion-table tbody tr")
        assert rows.count() == len(ten.confusions)
        assert rows.last.is_visible()
        box = view.page.locator("svg.static-map").bounding_box()
        assert box
        assert box["width"] > 300
        whole = ten.differential(None)
        assert whole is not None
        assert view.page.locator(".found tbody tr").count() == len(whole.findings(limit=12)) > 0
        assert view.sideways == 0
        assert view.strange_requests == []


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_text_contrast(browser: Any, file: Path, dark: bool, width: int) -> None:
    with opened(browser, file, dark=dark, width=width) as view:
        choose(view, true="cat", level="both")
        view.page.locator(".picture").first.click()
        view.page.locator(BOXES).nth(0).focus()
        assert view.weak_text() == []


def test_hostile_names_are_only_text(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render_debug(hostile_diagnosis()), encoding="utf-8")
    with opened(browser, path) as view:
        view.page.locator("#explorer select").nth(0).select_option(index=1)
        view.page.locator("#explorer select").nth(1).select_option(index=1)
        view.page.locator("#explorer input[value=both]").check()
        view.page.locator(".picture").first.click()
        view.page.locator(BOXES).nth(0).hover()
        view.page.locator("#ranked input").fill("</script><img src=x")
        assert view.page.locator("img[src=x]").count() == 0
        address = view.page.url
        title = text(view, TITLE)
        view.page.reload()
        assert view.page.url == address
        assert text(view, TITLE) == title
        assert view.complaints == []
        assert view.strange_requests == []


WHERE = """() => {
  const { activeElement: here } = document;
  const inside = here.closest("table, .controls, .zooms, .levels, .pictures");
  return `${here.tagName} ${here.className} ${inside?.className ?? ""}`;
}"""


def test_keyboard_reaches_everything(view: View) -> None:
    seen = set()
    for _ in range(140):
        view.page.keyboard.press("Tab")
        seen.add(view.page.evaluate(WHERE))
    for reached in (
        "A  matrix",
        "A  confusion-table",
        "BUTTON more",
        "SELECT  controls",
        "INPUT  levels",
        "DIV map-box",
        "BUTTON  zooms",
        "BUTTON picture pictures",
    ):
        assert any(each.startswith(reached) for each in seen), (reached, seen)


def test_pictures_have_words(view: View) -> None:
    choose(view, true="cat", level="both")
    view.page.locator(".picture").first.click()
    assert view.page.locator("img:visible").count() > 10
    assert view.page.locator("img:not([alt]), img[alt='']").count() == 0
    assert view.page.locator("svg:not([role=img]):not([aria-hidden]):visible").evaluate_all(
        "(all) => all.filter((e) => !e.parentElement.closest('svg')).length"
    ) == 0  # fmt: skip


def test_paper_has_maps_and_no_controls(view: View) -> None:
    choose(view, true="cat")
    view.page.emulate_media(media="print")
    for hidden in ("nav.contents", "#explorer .controls", ".zooms", READOUT, "#ranked .more"):
        assert not view.page.locator(hidden).first.is_visible()
    assert view.page.locator(BOXES).nth(2).is_visible()
    assert view.page.locator(".confusion-table tbody tr").last.is_visible()
