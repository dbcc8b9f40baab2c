"""How well the labels hold, as the profile report tells it: in text, and in headless Chromium."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import View, opened
from report_samples import (
    HOSTILE,
    Outline,
    block,
    column,
    evaluated,
    fake_run,
    flat_thumbnails,
    hostile_run,
    visible,
)

from profiler.profile.page import profile_prose
from profiler.profile.quality import HeldOut, LayerQuality, Stability, summarise
from profiler.profile.result import ProfileRun
from profiler.profile.view import render_profile

LAYERS = {"stem": 12, "blocks.0": 20, "blocks.1": 40, "a.very.long.name.of.a.layer.conv2": 60}


@pytest.fixture(scope="module")
def run() -> ProfileRun:
    plain = fake_run(LAYERS, images=60, thumbnails=flat_thumbnails(50), dead=0.05)
    return evaluated(plain)


@pytest.fixture(scope="module")
def file(run: ProfileRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "profile.html"
    path.write_text(render_profile(run), encoding="utf-8")
    return path


def trusted(run: ProfileRun) -> list[Any]:
    return [run.trusted(labels) for labels in run.layers]


def tables(html: str) -> list[list[list[str]]]:
    """The cells of the section's tables, row by row."""
    section = html[html.index('<section id="quality"') : html.index('<section id="threshold"')]
    found = []
    for table in re.findall(r"<table.*?</table>", section, re.DOTALL):
        rows = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", table, re.DOTALL)
        found.append(
            [[visible(cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
             for row in rows]
        )  # fmt: skip
    return found


def minus(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


# -- text --------------------------------------------------------------------------------------


def test_without_an_evaluation_nothing_of_it_is_on_the_page(run: ProfileRun) -> None:
    record = replace(run.record, evaluation=None)
    html = render_profile(replace(run, quality=(), record=record))
    for word in ("quality", "survival", "whiskers", "held out", "Do the labels hold"):
        assert word not in html.lower()


def test_tables_say_what_the_summaries_say(run: ProfileRun) -> None:
    layers = run.quality
    for rows, masks in zip(tables(render_profile(run)), (trusted(run), None), strict=True):
        assert len(rows) == len(LAYERS) + 1
        summaries = [
            summarise([layer], None if masks is None else [masks[i]])
            for i, layer in enumerate(layers)
        ]
        for cells, found in zip(rows, [*summaries, summarise(layers, masks)], strict=True):
            assert cells[1] == str(found.correlation.count)
            for cell, own, permuted in (
                (cells[2], found.correlation, found.permuted_correlation),
                (cells[4], found.auprc, found.permuted_auprc),
            ):
                assert own.median is not None
                assert permuted.median is not None
                expected = [
                    f"{name} {minus(s.median)}" + (f" ({minus(s.low)} to {minus(s.high)})")
                    for name, s in (("own", own), ("permuted", permuted))
                    if s.count > 1 and s.median is not None
                    and s.low is not None and s.high is not None
                ]  # fmt: skip
                assert cell == " ".join(expected)
            assert found.survival is not None
            assert cells[5] == minus(found.chance.median or np.nan)
            assert cells[6] == f"{np.floor(100 * found.survival + 0.5):.0f} %"
            assert cells[7] == f"{found.stable} of {found.labelled}"


def test_the_first_sentences_are_the_finding(run: ProfileRun) -> None:
    total = summarise(run.quality, trusted(run))
    words = visible(render_profile(run))
    said = words[words.index("Do the labels hold on other images?") :]
    assert (
        f"On 500 held-out images, labels chosen on the others predict the activation of "
        f"interpretable units with a correlation of {total.correlation.median:.2f} in the median; "
        f"a permuted label, of another unit of the layer, reaches "
        f"{total.permuted_correlation.median:.2f}."
    ) in said
    assert f"{total.stable} of {total.labelled} labels come back in at least half" in said
    for text in profile_prose(run)["quality_story"]:
        assert text.replace("\u202f", " ") in said


def test_labels_that_say_no_more_than_a_permuted_one_are_called_so(run: ProfileRun) -> None:
    specific = [replace(layer, permuted=shifted(layer.held_out, -0.5)) for layer in run.quality]
    html = render_profile(replace(run, quality=tuple(specific)))
    told, _ = visible(html).split("How this was measured")
    assert "not specific" not in told
    one = [*specific[:2], replace(specific[2], permuted=specific[2].held_out), specific[3]]
    html = render_profile(replace(run, quality=tuple(one)))
    assert "In blocks.1 the labels are not specific to their units" in visible(html)
    assert [["not specific" in row[0] for row in rows] for rows in tables(html)] == [
        [False, False, True, False, False]
    ] * 2
    none = [replace(layer, permuted=layer.held_out) for layer in run.quality]
    html = render_profile(replace(run, quality=tuple(none)))
    assert "So the labels are not specific to their units" in visible(html)


def shifted(held: HeldOut, by: float) -> HeldOut:
    return replace(held, correlation=held.correlation + by)


def test_without_a_trusted_unit_there_is_only_the_table_of_all() -> None:
    run = fake_run(LAYERS, images=20, tau=99.0)
    html = render_profile(evaluated(run))
    assert len(tables(html)) == 1
    assert "No unit is interpretable; this is about all." in visible(html)
    assert "Interpretable units</h3>" not in html


def test_what_is_undefined_is_a_dash(run: ProfileRun) -> None:
    plain = fake_run({"a": 3, "b": 4}, images=20, dead=0)
    blank = [undefined(layer) for layer in evaluated(plain).quality]
    html = render_profile(replace(plain, quality=tuple(blank)))
    for rows in tables(html):
        for cells in rows:
            assert cells[1:] == ["0", "own – permuted –", "", "own – permuted –", "–", "–", "–"]
    assert "it is unknown whether labels predict activation" in visible(html)
    data: Any = block(html, "quality-data")
    for layer in data["layers"]:
        assert set(layer["kept"]) == {-1}
        assert set(layer["correlation"]) == set(layer["auprc"]) == {None}
    dead = fake_run({"a": 5}, images=20, dead=1.1)
    assert "0.0" not in visible(
        render_profile(evaluated(dead))
    ).split("Do the labels hold on")[1].split("How this was measured")[0]  # fmt: skip


def undefined(layer: LayerQuality) -> LayerQuality:
    """A layer in which no unit has a label."""
    units = layer.units
    nothing = np.full(units, np.nan)
    none = np.full(units, -1)
    held = HeldOut(none, nothing, nothing, np.zeros(units, dtype=int), 10)
    zeros = np.zeros(units, dtype=int)
    lists = np.full((units, 5), -1)
    stability = Stability(3, none >= 0, zeros, zeros + 3, lists, lists * 0, zeros)
    return LayerQuality(layer.layer, none, held, held, stability)


def test_unit_columns_say_what_was_measured(run: ProfileRun) -> None:
    data: Any = block(render_profile(run), "quality-data")
    for shown, layer in zip(data["layers"], run.quality, strict=True):
        held, stability = layer.held_out, layer.stability
        assert shown["kept"] == np.where(stability.labelled, stability.kept, -1).tolist()
        words = [data["words"][i] if i >= 0 else None for i in shown["held"]]
        assert words == [run.concepts[i] if i >= 0 else None for i in held.label]
        for name in ("correlation", "auprc"):
            values = [np.nan if v is None else v for v in shown[name]]
            np.testing.assert_allclose(values, getattr(held, name), atol=0.0051)
        chances = [data["chances"][i] for i in shown["chance"]]
        assert chances == ["–" if np.isnan(v) else f"{v:.2f}" for v in held.chance]


def test_hostile_names_and_the_policy_hold() -> None:
    run = hostile_run()
    html = render_profile(evaluated(run))
    outline = Outline(html)
    assert outline.all("img") == []
    assert len(outline.all("script")) == 4
    assert not [a for _, a in outline.tags if "style" in a or any(n.startswith("on") for n in a)]
    data: Any = block(html, "quality-data")
    assert HOSTILE in data["words"]
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    pictures = [a for a in outline.all("svg") if a.get("class") == "whiskers"]
    assert pictures
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)


def test_it_adds_little_to_a_large_page() -> None:
    run = fake_run({f"l{i}": 1000 for i in range(10)}, images=100)
    without = len(render_profile(run).encode())
    with_quality = len(render_profile(evaluated(run)).encode())
    assert (with_quality - without) / 10_000 < 80, "bytes a unit"


# -- in a browser ------------------------------------------------------------------------------


@pytest.fixture
def view(browser: Any, file: Path) -> Iterator[View]:
    with opened(browser, file) as found:
        yield found
        assert found.complaints == []
        assert found.strange_requests == []


@pytest.mark.browser
def test_sort_by_survival(view: View, run: ProfileRun) -> None:
    header = view.page.locator("#units th.col-survival")
    for way, sign in (("ascending", 1), ("descending", -1)):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == way
        kept = [int(text.split(" of ")[0]) for text in column(view, "survival")]
        assert kept == sorted(kept, key=lambda n, s=sign: s * n)  # type: ignore[misc]
        assert f"sorted by survival, {way}" in view.page.locator("#units .status").inner_text()
    most = max(int(layer.stability.kept.max()) for layer in run.quality)
    assert kept[0] == most
    assert view.page.url.endswith("sort=-survival")
    shown = column(view, "unit")
    view.page.reload()
    assert column(view, "unit") == shown
    view.page.locator("#units .pager input").fill("999")
    view.page.keyboard.press("Enter")
    assert column(view, "survival")[-1] == "–", "units without a label come last both ways"


@pytest.mark.browser
def test_an_opened_row_tells_what_was_measured(view: View, run: ProfileRun) -> None:
    layer = run.quality[2]
    alive = np.flatnonzero(layer.label >= 0)
    same = next(u for u in alive if layer.held_out.label[u] == layer.label[u])
    other = next(u for u in alive if layer.held_out.label[u] != layer.label[u])
    for unit in (int(same), int(other)):
        with view.following():
            place = f"#layer-3?sort=unit&page={unit // 6 + 1}&open=blocks.1:{unit}"
            view.page.evaluate("(hash) => { location.hash = hash; }", place)
        said = view.page.locator("#layer-3 tr.detail").inner_text()
        kept = layer.stability.kept[unit]
        assert f"Kept in {kept} of 20 draws; otherwise " in said
        for concept, draws in zip(
            layer.stability.concept[unit], layer.stability.count[unit], strict=True
        ):
            if concept not in (-1, layer.label[unit]):
                assert f"{run.concepts[concept]} {draws}" in said
        word = run.concepts[layer.held_out.label[unit]]
        whose = "the same label" if unit == same else f"the label “{word}”"
        assert f"The images not held out give {whose}. On the 500 others" in said
        correlation = layer.held_out.correlation[unit]
        assert f"correlation is {minus(correlation)}, its AUPRC " in said
        assert "(chance 0.06)" in said


@pytest.mark.browser
def test_a_dead_unit_has_nothing_to_tell(view: View) -> None:
    view.page.locator("#units select").nth(1).select_option(label="dead")
    assert set(column(view, "survival")) == {"–"}
    view.page.locator("#units .toggle").first.click()
    assert "On other images" not in view.page.locator("#units tr.detail").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("width", [320, 400, 730, 980, 1210, 1400])
def test_nothing_scrolls_sideways(browser: Any, file: Path, width: int, javascript: bool) -> None:
    with opened(browser, file, width=width, javascript=javascript) as view:
        if javascript:
            view.page.locator("#units .toggle").first.click()
        for summary in view.page.locator(".numbers summary, noscript summary").all():
            summary.click()
        assert view.sideways == 0
        table = view.page.locator("#quality .wide").first
        if width in (400, 1400):
            assert table.evaluate("(e) => e.scrollWidth - e.clientWidth") == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_text_contrast(browser: Any, file: Path, dark: bool, width: int) -> None:
    with opened(browser, file, dark=dark, width=width) as view:
        view.page.locator("#units .toggle").first.click()
        assert view.weak_text() == []
        assert view.complaints == []


@pytest.mark.browser
def test_without_javascript_the_plain_tables_have_it(
    browser: Any, file: Path, run: ProfileRun
) -> None:
    with opened(browser, file, javascript=False) as view:
        assert view.page.locator("#quality table").first.is_visible()
        view.page.locator("#layer-2 noscript summary").click()
        cells = view.page.locator("#layer-2 table.plain tbody td:nth-child(6)").all_inner_texts()
        stability = run.quality[1].stability
        assert cells == [
            f"{kept} of 20" if labelled else "–"
            for kept, labelled in zip(stability.kept, stability.labelled, strict=True)
        ]
