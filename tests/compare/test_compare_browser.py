"""The comparison of runs as a reader uses it, in headless Chromium."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import View, opened
from compare_samples import CHANGED, SAMPLES, fake_comparison, fake_page, hostile_page
from report_samples import column, flat_thumbnails

from profiler.compare.view import ComparePage, render_compare

pytestmark = pytest.mark.browser

UNITS = "#pair-1-units"
SECOND = "#pair-2-units"


@pytest.fixture(scope="module")
def page() -> ComparePage:
    found = fake_comparison(runs=3, names=["base", "tuned", "pruned"], **CHANGED)
    return fake_page(found, thumbnails=flat_thumbnails(250))


@pytest.fixture(scope="module")
def file(page: ComparePage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "compare.html"
    path.write_text(render_compare(page), encoding="utf-8")
    return path


def matching(view: View, table: str = UNITS) -> int:
    status = view.page.locator(f"{table} .status b").inner_text()
    return int(re.sub(r"\s", "", status.split("of")[0].split("unit")[0]))


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace("−", "-")) for text in texts if text != "–"]


def shown_rows(view: View, pair: str = "#pair-1") -> list[list[str]]:
    rows = view.page.locator(f"{pair}-changes tbody tr:visible")
    return [[c.strip() for c in row.locator("th, td").all_inner_texts()] for row in rows.all()]


WHERE = """() => {
  const { activeElement: here } = document;
  const inside = here.closest("th, .controls, .pager");
  return `${here.className} ${here.tagName} ${inside?.className ?? ""}`;
}"""


# -- pairs ---------------------------------------------------------------------------------------


def test_one_pair_is_shown_and_the_keyboard_changes_it(view: View) -> None:
    assert view.page.locator("#pair-1").is_visible()
    assert not view.page.locator("#pair-2").is_visible()
    link = view.page.locator(".chooser a").nth(1)
    link.focus()
    with view.following():
        view.page.keyboard.press("Enter")
    assert view.page.url.endswith("#pair-2")
    assert view.page.locator("#pair-2").is_visible()
    assert not view.page.locator("#pair-1").is_visible()
    assert link.get_attribute("aria-current") == "true"
    assert view.page.locator(".chooser [aria-current]").count() == 1
    assert column(view, "change", SECOND)
    view.page.reload()
    assert view.page.locator("#pair-2").is_visible()
    assert not view.page.locator("#pair-1").is_visible()


def test_an_address_in_a_folded_pair_unfolds_it(browser: Any, file: Path) -> None:
    with opened(browser, file, f"{SECOND}?is=label+kept&layer=blocks.5") as view:
        assert view.page.locator(SECOND).is_visible()
        assert set(column(view, "change", SECOND)) == {"label kept"}
        assert set(column(view, "layer", SECOND)) == {"blocks.5"}
        box = view.page.locator(SECOND).bounding_box()
        assert box
        assert abs(box["y"]) < 100


def test_an_address_that_makes_no_sense_is_harmless(view: View) -> None:
    for fragment in (
        f"{UNITS}?layer=nowhere&is=nothing&sort=-what&page=-3&open=x:9&open=blocks.2:999",
        "#pair-1-changes?layer=nowhere&verdict=1&sort=-constructor",
        "#timeline-word?word=%F0%9F",
        "#pair-9-units?q=1",
    ):
        with view.following():
            view.page.evaluate("(hash) => { location.hash = hash; }", fragment)
        assert len(column(view, "change", UNITS)) == 15


# -- differences ---------------------------------------------------------------------------------


def test_differences_are_filtered_and_sorted_and_linked(view: View, page: ComparePage) -> None:
    assert len(shown_rows(view)) == 20
    part = view.page.locator("#pair-1-changes")
    part.get_by_role("button", name="Show all").click()
    total = len(shown_rows(view))
    assert total > 20
    for key, order in (("size", -1), ("q", 1)):
        header = part.locator(f"th[data-sort={key}]")
        header.get_by_role("button").focus()
        view.page.keyboard.press("Enter")
        place = {"size": 4, "q": 6}[key]
        texts = [row[place].split()[0].replace("<", "") for row in shown_rows(view)]
        assert numbers(texts) == sorted(numbers(texts), reverse=order < 0)
        assert header.get_attribute("aria-sort") == ("descending" if order < 0 else "ascending")
    part.locator("th[data-sort=layer] button").click()
    layers = [row[0] for row in shown_rows(view)]
    order_of = [layer.name for layer in page.comparison.runs[0].layers]
    assert layers == sorted(layers, key=order_of.index)
    part.locator("select").nth(0).select_option("blocks.5")
    part.locator("select").nth(2).select_option("within noise")
    rows = shown_rows(view)
    expected = [
        share
        for share in page.comparison.pairs[0].layers[2].shares
        if share.verdict == "noise" and share.before != share.after
    ]
    assert {row[1] for row in rows} == {share.category for share in expected}
    assert "layer=blocks.5" in view.page.url
    view.page.reload()
    assert shown_rows(view) == rows


def test_whiskers_and_the_band_of_noise_stand_where_their_numbers_say(view: View) -> None:
    """Pixels of the picture against the printed numbers, on the axis that the head prints."""
    measured = view.page.evaluate("""() =>
      [...document.querySelectorAll("#pair-1-changes tbody tr")]
      .filter((row) => row.checkVisibility()).map((row) => {
        const svg = row.querySelector("svg.change").getBoundingClientRect();
        const at = (x) => (x - svg.left) / svg.width;
        const band = row.querySelector(".noise-band").getBoundingClientRect();
        const dot = row.querySelector("circle").getBoundingClientRect();
        return [at(dot.left + dot.width / 2), at(band.right), at(band.left)];
      })""")
    ends = view.page.locator("#pair-1-changes thead text").all_text_contents()
    limit = numbers([ends[-1]])[0]
    assert numbers([ends[0]])[0] == -limit
    for row, (dot, right, left) in zip(shown_rows(view), measured, strict=True):
        points = numbers([row[4].split()[0]])[0]
        noise = float(row[5].replace("±", ""))
        assert dot == pytest.approx(0.5 + 0.5 * points / limit, abs=0.01)
        assert right == pytest.approx(0.5 + 0.5 * noise / limit, abs=0.01)
        assert left == pytest.approx(0.5 - 0.5 * noise / limit, abs=0.01)


# -- similarity -----------------------------------------------------------------------------------


def test_similarity_is_read_by_mouse_and_by_keyboard(view: View, page: ComparePage) -> None:
    cka = page.comparison.pairs[0].cka
    assert cka is not None
    readout = view.page.locator("#pair-1-cka .readout")
    view.page.locator("#pair-1-cka .heat tbody tr").nth(1).locator("td").nth(2).hover()
    assert readout.inner_text() == f"blocks.2 × blocks.5: {cka[1, 2]:.2f}"
    region = view.page.locator("#pair-1-cka .map")
    region.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp"):
        view.page.keyboard.press(key)
    row, column = 1, 3
    names = [layer.name for layer in page.comparison.runs[0].layers]
    value = f"{cka[row, column]:.2f}"
    assert readout.inner_text() == f"{names[row]} × {names[column]}: {value}"
    assert view.page.locator("#pair-1-cka .here").count() == 1


def test_a_dense_map_prints_no_numbers_but_says_them(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "deep.html"
    path.write_text(render_compare(fake_page(SAMPLES["deep"]())), encoding="utf-8")
    with opened(browser, path) as view:
        cell = view.page.locator("#pair-1-cka .heat tbody tr").nth(49).locator("td").nth(0)
        assert cell.evaluate("(cell) => getComputedStyle(cell).fontSize") == "0px"
        cell.hover()
        said = view.page.locator("#pair-1-cka .readout").inner_text()
        assert said.startswith("blocks.9.4.conv × blocks.0.0.conv: ")
        assert view.complaints == []


# -- units ---------------------------------------------------------------------------------------


def test_units_stand_in_order_of_change(view: View) -> None:
    assert set(column(view, "change", UNITS)) == {"label changed"}
    falling = numbers(column(view, "r", UNITS))
    assert falling == sorted(falling), "the least alike first"
    header = view.page.locator(f"{UNITS} th.col-change button")
    header.focus()
    view.page.keyboard.press("Enter")
    assert set(column(view, "change", UNITS)) == {"label kept"}
    assert view.page.url.endswith(f"{UNITS}?sort=change")


@pytest.mark.parametrize(
    ("name", "first"), [("r", "ascending"), ("score", "descending"), ("unit", "ascending"),
                        ("before", "ascending"), ("after", "ascending")]
)  # fmt: skip
def test_sort_by_any_column(view: View, name: str, first: str) -> None:
    header = view.page.locator(f"{UNITS} th.col-{name}")
    for direction in (first, "descending" if first == "ascending" else "ascending"):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == direction
        texts = [text.split("\n")[0].strip() for text in column(view, name, UNITS)]
        keys: list[Any] = numbers(texts) if name in ("r", "score", "unit") else texts
        assert keys == sorted(keys, reverse=direction == "descending")


def test_search_finds_labels_of_either_run(view: View, page: ComparePage) -> None:
    before, after = (page.comparison.runs[i].layers[3].labels.concept[:, 0] for i in (0, 1))
    word = int(before[np.flatnonzero((before != after) & (before >= 0))[0]])
    expected = sum(
        int(((a.labels.concept[:, 0] == word) | (b.labels.concept[:, 0] == word)).sum())
        for a, b in zip(page.comparison.runs[0].layers, page.comparison.runs[1].layers, strict=True)
    )
    view.page.locator(f"{UNITS} input[type=search]").fill(f'"{page.comparison.concepts[word]}"')
    assert matching(view) == expected
    view.page.locator(f"{UNITS} input[type=search]").fill("no such word")
    assert matching(view) == 0
    view.page.locator(f"{UNITS} .clear").click()
    assert matching(view) == sum(la.labels.units for la in page.comparison.runs[0].layers)


def test_filters_agree_with_the_comparison(view: View, page: ComparePage) -> None:
    selects = view.page.locator(f"{UNITS} select")
    layer = page.comparison.pairs[0].layers[2]
    selects.nth(0).select_option(label=layer.layer)
    selects.nth(1).select_option("label kept")
    assert matching(view) == int(layer.kept.sum())
    selects.nth(1).select_option("label changed")
    assert matching(view) == int((layer.both_trusted & ~layer.kept).sum())


def test_a_row_opens_to_both_runs(view: View, page: ComparePage) -> None:
    view.page.locator(f"{UNITS} select").nth(0).select_option(label="blocks.5")
    toggle = view.page.locator(f"{UNITS} .toggle").first
    toggle.focus()
    view.page.keyboard.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    unit = int(toggle.inner_text())
    sides = view.page.locator(f"{UNITS} tr.detail .opened > div")
    assert sides.count() == 2
    for side, run in zip(sides.all(), page.comparison.runs[:2], strict=True):
        labels = run.layers[2].labels
        assert f"{run.name}, unit {unit}" in side.inner_text()
        listed = [t.split("\n")[0].strip() for t in side.locator(".ranking li").all_inner_texts()]
        assert listed == [page.comparison.concepts[i] for i in labels.concept[unit]]
        figures = side.locator("figure")
        assert figures.count() == 9
        for figure, image, activation in zip(
            figures.all(), labels.top_images[unit], labels.top_activations[unit], strict=True
        ):
            shown = numbers([figure.locator("b").inner_text()])[0]
            assert shown == pytest.approx(activation, rel=6e-3)
            name = page.image_names[image]
            if image in page.thumbnails:
                assert figure.locator("img").get_attribute("alt") == name
            else:
                assert figure.locator(".absent").inner_text() == name
    view.page.reload()
    assert view.page.locator(f"{UNITS} tr.detail").count() == 1
    assert view.page.locator(f"{UNITS} .toggle[aria-expanded=true]").inner_text() == str(unit)


# -- words over the runs --------------------------------------------------------------------------


def test_a_word_is_followed_through_the_runs(view: View, page: ComparePage) -> None:
    layers = [run.layers[3] for run in page.comparison.runs]
    carried = [la.labels.concept[la.trusted, 0].tolist() for la in layers]
    word = carried[0][0]
    picker = view.page.locator("#timeline-word")
    picker.locator("input").fill(page.comparison.concepts[word].upper())
    last = picker.locator("svg[role=img]").last
    counts = ", ".join(str(units.count(word)) for units in carried)
    assert last.get_attribute("aria-label") == f"conv_head: {counts}"
    view.page.reload()
    assert last.get_attribute("aria-label") == f"conv_head: {counts}"
    picker.locator("input").fill("no such word")
    assert "No interpretable unit of any run carries" in picker.inner_text()


# -- everywhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["two", "three", "timeline", "deep", "long", "apart", "uneven"])
def test_no_page_scrolls_sideways_or_complains(browser: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "compare.html"
    path.write_text(render_compare(fake_page(SAMPLES[kind]())), encoding="utf-8")
    with opened(browser, path, width=320) as view:
        for toggle in view.page.locator(".unit-pairs .toggle:visible").all()[:1]:
            toggle.click()
        for width in view.at_widths(320, 400, 730, 970, 1210):
            for summary in view.page.locator("details:not([open]) > summary:visible").all():
                summary.click()
            assert view.sideways == 0, (width, kind)
        assert view.complaints == []


@pytest.mark.parametrize("width", [400, 1400])
def test_without_javascript_findings_charts_and_tables_stay(
    browser: Any, file: Path, page: ComparePage, width: int
) -> None:
    with opened(browser, file, javascript=False, width=width) as view:
        text = view.page.locator("body").inner_text()
        assert page.summary[0] in text
        assert page.limits[0] in text
        for pair in ("#pair-1", "#pair-2"):
            assert view.page.locator(f"{pair}-changes tbody tr").last.is_visible()
            assert view.page.locator(f"{pair}-cka td").last.is_visible()
            view.page.locator(f"{pair}-units noscript summary").last.click()
            rows = view.page.locator(f"{pair}-units table.plain-pairs").last.locator("tbody tr")
            assert rows.count() == 60
            assert rows.first.is_visible()
        box = view.page.locator("svg.bar").first.bounding_box()
        assert box
        assert box["width"] > 300
        assert view.sideways == 0
        assert view.strange_requests == []


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_text_contrast(browser: Any, file: Path, dark: bool, width: int) -> None:
    with opened(browser, file, dark=dark, width=width) as view:
        view.page.locator(f"{UNITS} .toggle").first.click()
        for summary in view.page.locator("summary:visible").all():
            summary.click()
        assert view.weak_text() == []


def test_hostile_names_are_only_text(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render_compare(hostile_page()), encoding="utf-8")
    with opened(browser, path, SECOND) as view:
        view.page.locator(f"{SECOND} .toggle").first.click()
        view.page.locator(f"{SECOND} select").nth(0).select_option(index=1)
        view.page.locator("#timeline-word input").fill("</script><img src=x")
        view.page.locator("#pair-2-changes select").nth(1).select_option(index=1)
        view.page.locator("#pair-2-cka .heat tbody td").first.hover()
        assert view.page.locator("img[src=x]").count() == 0
        address = view.page.url
        view.page.reload()
        assert view.page.url == address
        assert view.complaints == []
        assert view.strange_requests == []


def test_keyboard_reaches_everything(view: View) -> None:
    view.page.locator(".chooser a").first.focus()
    seen = set()
    for _ in range(90):
        view.page.keyboard.press("Tab")
        seen.add(view.page.evaluate(WHERE))
    for reached in ("SELECT controls", "more BUTTON", "wide map DIV", "INPUT controls",
                    "BUTTON col-change", "toggle BUTTON", "BUTTON pager"):  # fmt: skip
        assert any(reached in each for each in seen), (reached, seen)


def test_pictures_have_words(view: View) -> None:
    view.page.locator(f"{UNITS} .toggle").first.click()
    assert view.page.locator("img:visible").count() > 20
    assert view.page.locator("img:not([alt]), img[alt='']").count() == 0
    assert view.page.locator("svg:not([role=img]):not([aria-hidden]):visible").evaluate_all(
        "(all) => all.filter((e) => !e.parentElement.closest('svg')).length"
    ) == 0  # fmt: skip


def test_paper_has_all_pairs_and_no_controls(view: View) -> None:
    view.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    view.page.emulate_media(media="print")
    for hidden in ("nav.contents", ".chooser", f"{UNITS} .controls", "#pair-1-changes .more"):
        assert not view.page.locator(hidden).first.is_visible()
    for pair in ("#pair-1", "#pair-2"):
        assert view.page.locator(f"{pair}-changes tbody tr").last.is_visible()
        assert view.page.locator(f"{pair}-units tr.unit").nth(14).is_visible()


@pytest.mark.slow
def test_thousands_of_units_stay_quick(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.html"
    large = {f"layer{i}": 2000 for i in range(5)}
    html = render_compare(fake_page(fake_comparison(large), thumbnails=flat_thumbnails(300)))
    assert len(html.encode()) < 8e6
    path.write_text(html, encoding="utf-8")
    with opened(browser, path) as view:
        took = view.page.evaluate("""() => {
          const input = document.querySelector("#pair-1-units input[type=search]");
          return ["d", "do", "dog", ""].map((text) => {
            const start = performance.now();
            input.value = text;
            input.dispatchEvent(new Event("input"));
            document.body.getBoundingClientRect();
            return performance.now() - start;
          });
        }""")
        assert min(took) < 100, took
        assert len(column(view, "change", UNITS)) == 15
        assert view.complaints == []
