"""The profile report as a reader uses it, in headless Chromium."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import View, opened
from report_samples import HOSTILE, LITE0, column, fake_run, flat_thumbnails, hostile_run

from profiler.profile.page import profile_prose
from profiler.profile.result import ProfileRun
from profiler.profile.view import render_profile

pytestmark = pytest.mark.browser

LAYERS = {"stem": 12, "blocks.0": 20, "blocks.1": 40, "head": 60}


@pytest.fixture(scope="module")
def run() -> ProfileRun:
    return fake_run(LAYERS, images=60, thumbnails=flat_thumbnails(50), dead=0.05)


@pytest.fixture(scope="module")
def file(run: ProfileRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "profile.html"
    path.write_text(render_profile(run), encoding="utf-8")
    return path


WHERE = """() => {
  const { activeElement: here } = document;
  const inside = here.closest("th, .pager, .controls");
  return here.className + here.tagName + " " + (inside?.className ?? "");
}"""


def matching(view: View, table: str = "#units") -> int:
    # Not the inner text, which is empty while the browser skips what is far from the window.
    status = view.page.locator(f"{table} .status b").text_content()
    return int(status.split(" of ")[0].split()[0].replace("\u202f", ""))


def label_of(run: ProfileRun, layer: int, unit: int) -> str:
    return run.concepts[int(run.layers[layer].concept[unit, 0])]


def test_only_rows_in_view_are_drawn(view: View) -> None:
    assert matching(view) == sum(LAYERS.values())
    assert len(column(view, "label")) == 15
    for name in column(view, "layer"):
        assert name in LAYERS
    view.page.get_by_role("button", name="Next ›").first.click()
    assert "rows 16–30" in view.page.locator("#units .status").inner_text()


def test_search(view: View, run: ProfileRun) -> None:
    word = label_of(run, 3, int(np.flatnonzero(~run.layers[3].dead)[0]))
    everywhere = sum(
        word in run.concepts[i] for labels in run.layers for i in labels.concept[~labels.dead, 0]
    )
    view.page.locator("#units input[type=search]").fill(word.upper())
    assert matching(view) == everywhere
    assert all(word in label for label in column(view, "label"))
    view.page.locator("#units input[type=search]").fill("no such word")
    assert matching(view) == 0
    assert "No unit matches" in view.page.locator("#units tbody").inner_text()
    view.page.get_by_role("button", name="Clear filters").click()
    assert matching(view) == sum(LAYERS.values())


@pytest.mark.parametrize("name", ["layer", "unit", "label", "score", "p", "category"])
def test_sort_by_any_column(view: View, name: str) -> None:
    order = {layer: i for i, layer in enumerate(LAYERS)}
    kinds = {"object": 0, "part": 1, "scene": 2, "material": 3, "texture": 4, "color": 5,
             "unknown": 6, "uninterpretable": 7, "dead": 8}  # fmt: skip

    def key(text: str) -> Any:
        if name in ("unit", "score", "p"):
            return float(text.replace("−", "-").replace("<", ""))
        return {"layer": order, "category": kinds}.get(name, {}).get(text, text)

    header = view.page.locator(f"#units th.col-{name}")
    view.page.locator("#units input[type=number]").first.fill("-9")  # without dead units
    if name != "score":
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == "ascending"
        rising = [key(text) for text in column(view, name)]
        assert rising == sorted(rising)
        header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    falling = [key(text) for text in column(view, name)]
    assert falling == sorted(falling, reverse=True)


def test_units_without_a_score_come_last_both_ways(view: View) -> None:
    button = view.page.locator("#units th.col-score button")
    for _ in range(2):
        assert "–" not in column(view, "score")
        button.click()
    view.page.locator("#units .pager input").fill("999")
    view.page.keyboard.press("Enter")
    assert column(view, "score")[-1] == "–"


def test_filter_by_category_layer_and_score(view: View, run: ProfileRun) -> None:
    selects = view.page.locator("#units select")
    selects.nth(0).select_option(label="head")
    assert matching(view) == LAYERS["head"]
    assert set(column(view, "layer")) == {"head"}
    selects.nth(1).select_option(label="part")
    wanted = run.profile.layers[3].counts["part"]
    assert matching(view) == wanted
    assert 3 < wanted <= 15, "all on the first page"
    assert set(column(view, "category")) == {"part"}
    scores = sorted(map(float, column(view, "score")))
    view.page.locator("#units input[type=number]").nth(0).fill(str(scores[1]))
    view.page.locator("#units input[type=number]").nth(1).fill(str(scores[-2]))
    assert sorted(map(float, column(view, "score"))) == scores[1:-1]
    selects.nth(1).select_option(label="dead")
    assert matching(view) == 0


@pytest.mark.parametrize("kind", ["interpretable, any category", "uninterpretable", "dead"])
def test_filter_by_kind_agrees_with_the_profile(view: View, run: ProfileRun, kind: str) -> None:
    view.page.locator("#units select").nth(1).select_option(label=kind)
    total = run.profile.total
    counted = {"uninterpretable": total.uninterpretable, "dead": total.dead}
    assert matching(view) == counted.get(kind, total.interpretable)


def test_a_row_opens_to_labels_place_and_nine_images(view: View, run: ProfileRun) -> None:
    view.page.locator("#units select").nth(0).select_option(label="blocks.1")
    toggle = view.page.locator("#units .toggle").first
    assert toggle.get_attribute("aria-expanded") == "false"
    toggle.focus()
    view.page.keyboard.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    unit = int(toggle.inner_text())
    labels = run.layers[2]
    detail = view.page.locator("#units tr.detail")
    listed = detail.locator(".ranking li").all_inner_texts()
    assert [text.split("\n")[0].strip() for text in listed] == [
        run.concepts[i] for i in labels.concept[unit]
    ]
    alive = int((~labels.dead).sum())
    assert f"rank 1 of {alive} scored units in blocks.1" in detail.inner_text()
    figures = detail.locator("figure")
    assert figures.count() == 9
    for figure, image, activation in zip(
        figures.all(), labels.top_images[unit], labels.top_activations[unit], strict=True
    ):
        name = run.image_names[image]
        assert float(figure.locator("b").inner_text()) == pytest.approx(activation, rel=6e-3)
        if image in run.thumbnails:
            picture = figure.locator("img")
            assert picture.get_attribute("alt") == name
            picture.scroll_into_view_if_needed()
            view.until("(i) => i.complete && i.naturalWidth > 0", picture.element_handle())
        else:
            assert figure.locator(".absent").inner_text() == name
    toggle.click()
    assert detail.count() == 0


def test_a_dead_unit_says_so(view: View) -> None:
    view.page.locator("#units select").nth(1).select_option(label="dead")
    view.page.locator("#units .toggle").first.click()
    assert "the same on every probe image" in view.page.locator("#units tr.detail").inner_text()


def test_a_view_survives_a_reload(view: View) -> None:
    view.page.locator("#units input[type=search]").fill("e")
    view.page.locator("#units select").nth(0).select_option(label="head")
    view.page.locator("#units select").nth(1).select_option(label="interpretable, any category")
    view.page.locator("#units input[type=number]").nth(0).fill("0.2")
    view.page.locator("#units th.col-label button").click()
    view.page.locator("#units .pager").get_by_role("button", name="Next ›").click()
    view.page.locator("#units .toggle").nth(2).click()

    def state() -> tuple[Any, ...]:
        controls = view.page.locator("#units input, #units select")
        return (
            [control.input_value() for control in controls.all()],
            view.page.locator("#units .status").inner_text(),
            column(view, "unit"),
            view.page.locator("#units tr.detail").inner_text(),
        )

    before, address = state(), view.page.url
    view.page.reload()
    assert view.page.url == address
    assert state() == before
    assert view.page.locator("#units").bounding_box()["y"] < 900


def test_each_layer_has_its_own_table_with_its_own_address(view: View) -> None:
    assert matching(view, "#layer-3") == LAYERS["blocks.1"]
    view.page.locator("#layer-3 select").select_option(label="uninterpretable")
    found = matching(view, "#layer-3")
    assert view.page.url.endswith("#layer-3?is=uninterpretable")
    view.page.reload()
    assert matching(view, "#layer-3") == found
    assert matching(view) == sum(LAYERS.values())


def test_an_address_that_makes_no_sense_is_harmless(view: View) -> None:
    for fragment in (
        "#units?layer=nowhere&category=nothing&min=abc&sort=-what&page=-3&open=x:9&open=stem:999",
        "#nowhere?q=1",
        "#units?page=1e9&sort=%F0%9F",
        "#%E0%A4%A",
    ):
        with view.following():
            view.page.evaluate("(hash) => { location.hash = hash; }", fragment)
        assert len(column(view, "label")) > 0


def test_bars_numbers_and_labels_lead_into_the_table(view: View, run: ProfileRun) -> None:
    with view.following():
        view.page.locator(".legend a", has_text="texture").click()
    assert view.page.url.endswith("#units?category=texture")
    assert matching(view) == run.profile.total.counts["texture"]
    view.page.get_by_text("The numbers behind").click()
    link = view.page.locator(".numbers td a").first
    shown = int(link.inner_text())
    target = link.get_attribute("href")
    link.focus()
    with view.following():
        view.page.keyboard.press("Enter")
    assert view.page.url.endswith(target)
    assert matching(view, target.split("?")[0]) == shown
    view.page.evaluate("scrollTo(0, 0)")
    part = view.page.locator(".row:not(.whole) .bar g").nth(1)
    assert not view.page.url.endswith(part.get_attribute("data-view"))
    with view.following():
        part.click()
    assert view.page.url.endswith(part.get_attribute("data-view"))
    assert matching(view, "#layer-1") > 0


def test_keyboard_reaches_search_sorting_rows_and_pages(view: View) -> None:
    view.page.locator("#units input[type=search]").focus()
    seen = set()
    for _ in range(40):
        view.page.keyboard.press("Tab")
        seen.add(view.page.evaluate(WHERE))
    for reached in ("SELECT controls", "INPUT controls", "BUTTON col-score", "toggleBUTTON"):
        assert any(reached in each for each in seen), reached
    assert any("pager" in each for each in seen)


def test_no_request_can_leave(view: View) -> None:
    blocked = view.page.evaluate("""async () => {
      const found = [];
      document.addEventListener("securitypolicyviolation", (e) => found.push(e.effectiveDirective));
      await fetch("http://127.0.0.1:9/").catch(() => {});
      const image = new Image();
      image.src = "http://127.0.0.1:9/x.png";
      await new Promise((done) => { image.onerror = done; });
      const script = document.createElement("script");
      script.textContent = "window.intruder = true";
      document.body.append(script);
      await new Promise((done) => setTimeout(done, 50));
      return [...found, String(window.intruder)];
    }""")
    assert blocked == ["connect-src", "img-src", "script-src-elem", "undefined"]
    assert len(view.complaints) >= 3, "the browser says so as well"
    view.complaints.clear()
    view.requests.clear()


def test_hostile_names_are_only_text(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render_profile(hostile_run()), encoding="utf-8")
    with opened(browser, path, "#units?category=%3C%2Fscript%3E") as view:
        view.page.locator("#units .toggle").first.click()
        view.page.locator("#units select").nth(1).select_option(index=2)
        assert matching(view) > 0
        assert "</script><img src=x" in view.page.locator("#units tbody").inner_text()
        address = view.page.url
        view.page.reload()
        assert view.page.url == address
        assert set(column(view, "label")) == {HOSTILE}
        assert view.complaints == []
        assert view.strange_requests == []


@pytest.mark.parametrize("javascript", [True, False])
def test_nothing_scrolls_sideways(browser: Any, file: Path, javascript: bool) -> None:
    with opened(browser, file, width=320, javascript=javascript) as view:
        if javascript:
            view.page.locator("#units .toggle").first.click()
        for summary in view.page.locator(".numbers summary, noscript summary").all():
            summary.click()
        for width in view.at_widths(320, 400, 730, 980, 1210, 1400):
            assert view.sideways == 0, width


@pytest.mark.parametrize("dark", [False, True])
def test_text_contrast(browser: Any, file: Path, dark: bool) -> None:
    with opened(browser, file, dark=dark) as view:
        view.page.locator("#units .toggle").first.click()
        for summary in view.page.locator(".numbers summary").all():
            summary.click()
        background = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") != dark
        assert view.weak_text() == []


def test_without_javascript_findings_charts_and_tables_stay(
    browser: Any, file: Path, run: ProfileRun
) -> None:
    with opened(browser, file, javascript=False) as view:
        text = view.page.locator("body").inner_text()
        assert run.summary in text
        assert profile_prose(run)["limits"][0] in text
        assert "Search, sorting and thumbnails need JavaScript." in text
        assert view.page.locator("svg.bar").first.bounding_box()["width"] > 400
        assert view.page.locator("svg.histogram rect").first.bounding_box()["height"] > 1
        view.page.locator("#layer-2 noscript summary").click()
        rows = view.page.locator("#layer-2 table.plain tbody tr")
        assert rows.count() == LAYERS["blocks.0"]
        assert rows.nth(0).is_visible()
        assert view.strange_requests == []


def test_print_shows_rows_and_hides_controls(view: View) -> None:
    view.page.emulate_media(media="print")
    assert not view.page.locator("nav.contents").is_visible()
    assert not view.page.locator("#units .controls").is_visible()
    assert view.page.locator("#units .status").is_visible()
    assert view.page.locator("#units tr.unit").nth(14).is_visible()


def test_pictures_have_words(view: View) -> None:
    view.page.locator("#units .toggle").first.click()
    assert view.page.locator("img").count() > 20
    assert view.page.locator("img:not([alt]), img[alt='']").count() == 0
    assert view.page.locator("svg:not([role=img]):not([aria-hidden]):visible").evaluate_all(
        "(all) => all.filter((e) => !e.parentElement.closest('svg')).length"
    ) == 0  # fmt: skip


@pytest.mark.slow
def test_thirty_thousand_units_stay_quick(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.html"
    large = {name: round(units * 30_000 / sum(LITE0.values())) for name, units in LITE0.items()}
    html = render_profile(fake_run(large, images=1000, thumbnails=flat_thumbnails(1000)))
    assert len(html.encode()) < 20e6
    path.write_text(html, encoding="utf-8")
    with opened(browser, path) as view:
        took = view.page.evaluate("""() => {
          const input = document.querySelector("#units input[type=search]");
          return ["s", "st", "str", "stri", ""].map((text) => {
            const start = performance.now();
            input.value = text;
            input.dispatchEvent(new Event("input"));
            document.body.getBoundingClientRect();
            return performance.now() - start;
          });
        }""")
        print(f"\n30 000 units: {len(html.encode()) / 1e6:.1f} MB, filter {took} ms")
        assert min(took) < 100, took
        assert len(column(view, "label")) == 15
        assert view.complaints == []


def test_the_first_task_draws_one_table_and_the_others_follow(browser: Any, file: Path) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.add_init_script("""document.addEventListener("DOMContentLoaded", () => {
      window.first = document.querySelectorAll(".unit-table table").length;
    })""")
    page.goto(file.resolve().as_uri())
    page.wait_for_selector(f"#layer-{len(LAYERS)} .unit-table table")
    assert page.evaluate("window.first") == 1
    assert page.locator(".unit-table table").count() == 1 + len(LAYERS)
    context.close()


@pytest.mark.parametrize("section", ["units", "layer-3", "layer-4", "threshold"])
def test_an_address_leads_to_its_section(browser: Any, file: Path, section: str) -> None:
    """Although tables above it are drawn later, and what is far from the window not at all."""
    with opened(browser, file, f"#{section}", height=600) as view:
        view.page.wait_for_selector(f"#layer-{len(LAYERS)} .unit-table table", state="attached")
        view.page.wait_for_timeout(200)
        assert 0 <= view.page.locator(f"#{section}").bounding_box()["y"] < 30


def test_a_change_of_the_table_styles_nothing_else_anew(
    browser: Any, file: Path, tmp_path: Path
) -> None:
    """A selector such as ``:root:has(…)`` would style every bar of the page at every change."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(file.resolve().as_uri() + "#units")
    page.wait_for_selector(f"#layer-{len(LAYERS)} .unit-table table")
    assert page.locator(".bar .fill").count() > 40
    page.wait_for_timeout(300)
    trace = tmp_path / "trace.json"
    browser.start_tracing(page=page, path=trace, categories=["devtools.timeline"])
    page.evaluate("""() => {
      document.querySelector("#units .status").append(document.createElement("b"));
      return document.body.getBoundingClientRect().height;
    }""")
    browser.stop_tracing()
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    styled = [e["args"].get("elementCount", 0) for e in events if e["name"] == "UpdateLayoutTree"]
    assert styled
    assert max(styled) < 30, styled
    context.close()
