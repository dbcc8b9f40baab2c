"""Outlines, spectrum and map as a browser shows them, and what a reader takes along."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from browser import View, opened
from PIL import Image
from tiny import COLORS, TinyNet, TinyVLM
from torchvision import transforms

from profiler.data.concept_sets import ConceptSet
from profiler.data.images import ImageFolder
from profiler.models.subject.network import Subject
from profiler.profile.run import ProfileOptions, profile
from profiler.profile.view import render_profile
from profiler.profile.word_map import WordMap, layout

pytestmark = pytest.mark.browser
WORDS = ("red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white", "black", "orange")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy wide pictures, each with a coloured square left of its middle."""
    folder = tmp_path_factory.mktemp("where")
    rng = np.random.default_rng(0)
    for i in range(70):
        picture = Image.new("RGB", (48, 32), (128, 128, 128))
        color = tuple(int(v * rng.uniform(0.5, 1)) for v in COLORS[WORDS[i % 6]])
        picture.paste(color, (14, 8, 24, 24))
        picture.save(folder / f"{i:02d}.png")
    preprocess = transforms.Compose(
        [transforms.Resize(16), transforms.CenterCrop(16), transforms.ToTensor()]
    )
    torch.manual_seed(0)
    subject = Subject("net", TinyNet().eval(), preprocess, "by hand", "centre 16 × 16")
    concepts = ConceptSet("colours", WORDS, (None,) * len(WORDS))
    options = ProfileOptions(scenes=0, top=6, threshold=0.0)
    probe = ImageFolder.open(folder)
    run = profile(subject, TinyVLM(), probe, concepts, folder / "out", options)
    assert run.outlines is not None
    assert (run.outlines.layers[0].rings[:3] >= 0).all()
    places = np.random.default_rng(1).random((len(WORDS), 2))
    run = replace(run, word_map=WordMap(np.arange(len(WORDS)), places))
    page = folder / "report.html"
    page.write_text(render_profile(run), encoding="utf-8")
    return page


@pytest.fixture
def at_units(browser: Any, file: Path) -> Iterator[View]:
    with opened(browser, file, "#units?layer=color&open=color%3A0&open=color%3A3") as found:
        found.page.wait_for_selector("#units .gallery .outline")
        yield found
        assert found.complaints == []
        assert [url for url in found.strange_requests if not url.startswith("blob:")] == []


def test_an_outline_lies_left_of_the_middle_and_edges_are_hatched(at_units: View) -> None:
    page = at_units.page
    first = page.locator("#units .gallery .where").first
    assert "responds at the middle" in first.locator("img").get_attribute("alt")
    line = first.locator("path.line").bounding_box()
    box = first.locator("svg").bounding_box()
    # The square reaches from 14 / 48 to 24 / 48 of the width; a cell is 2 of 48 wide.
    left = (line["x"] - box["x"]) / box["width"]
    right = (line["x"] + line["width"] - box["x"]) / box["width"]
    assert left == pytest.approx(14 / 48, abs=0.07)
    assert right == pytest.approx(24 / 48, abs=0.07)
    # What the network sees is 32 of 48 wide; the rest is hatched.
    assert first.locator("path[fill='url(#hatch)']").count() == 1
    assert page.locator("#units .gallery + .keys").count() >= 1
    # A dead unit has neither pictures nor outlines.
    assert page.locator("#units tr.detail").nth(1).locator(".where").count() == 0


def test_the_crop_on_hover_is_the_same_picture_larger(at_units: View) -> None:
    first = at_units.page.locator("#units .gallery .where.cropped").first
    picture = first.locator("img")
    before = picture.bounding_box()["width"]
    first.hover()
    at_units.page.wait_for_timeout(300)
    assert picture.bounding_box()["width"] > 1.5 * before
    assert first.bounding_box()["width"] == pytest.approx(before, abs=1)


def test_the_spectrum_has_four_quarters_and_the_strongest(at_units: View) -> None:
    columns = at_units.page.locator("#units .spectrum").first.locator("h5")
    assert columns.all_inner_texts() == ["lowest", "second", "third", "highest", "strongest"]
    heights = at_units.page.locator("#units .density rect").evaluate_all(
        "nodes => nodes.map((node) => parseFloat(node.getAttribute('height')))"
    )
    assert len(heights) == 32
    assert max(heights) == pytest.approx(100)


def test_units_and_charts_are_taken_along(at_units: View) -> None:
    page = at_units.page
    with page.expect_download() as units:
        page.locator("#units .take button", has_text="CSV of these units").click()
    rows = list(csv.reader(io.StringIO(Path(units.value.path()).read_text(encoding="utf-8"))))
    assert rows[0][:3] == ["Layer", "Unit", "Label"]
    assert len(rows) == 1 + 4
    assert len({len(row) for row in rows}) == 1
    for chart in ("#layers .histogram", ".bars"):
        for kind, start in (("SVG", "<svg"), ("CSV", "")):
            with page.expect_download() as taken:
                page.locator(f"{chart} + .take button", has_text=kind).first.click()
            text = Path(taken.value.path()).read_text(encoding="utf-8")
            assert text.startswith(start)
            assert len(text) > 40
            if kind == "SVG":
                page.evaluate("(text) => new DOMParser().parseFromString(text, 'text/xml')", text)
                assert "class=" not in text


def test_the_map_names_its_words_and_is_taken_along(browser: Any, file: Path) -> None:
    with opened(browser, file, "#map") as view:
        taken = {}
        for kind in ("SVG", "CSV"):
            with view.page.expect_download() as each:
                view.page.locator(".word-map + .take button", has_text=kind).click()
            taken[kind] = Path(each.value.path()).read_text(encoding="utf-8")
        assert view.complaints == []
        head, *units = csv.reader(io.StringIO(taken["CSV"]))
        assert head == ["layer", "unit", "word", "r", "x", "y"]
        drawing = ElementTree.fromstring(taken["SVG"])
        space = "{http://www.w3.org/2000/svg}"
        assert len(drawing.findall(f"{space}circle")) == len(units) > 0
        words = drawing.findall(f"{space}text")
        assert {word.text for word in words} <= {unit[2] for unit in units}
        width, height = float(drawing.get("width", 0)), float(drawing.get("height", 0))
        assert words
        for word in words:
            assert 0 <= float(word.get("x", -1)) <= width
            assert 0 <= float(word.get("y", -1)) <= height


def test_the_spectrum_of_a_unit_is_taken_along(at_units: View) -> None:
    page = at_units.page
    taken = {}
    for kind in ("SVG", "CSV"):
        with page.expect_download() as each:
            page.locator("#units .density .take button", has_text=kind).first.click()
        taken[kind] = Path(each.value.path()).read_text(encoding="utf-8")
    assert taken["SVG"].count("<rect") == 1 + 32
    head, *bars = csv.reader(io.StringIO(taken["CSV"]))
    assert head == ["from", "to", "height"]
    edges = [float(low) for low, _, _ in bars]
    assert edges == sorted(edges)
    assert [float(high) for _, high, _ in bars[:-1]] == pytest.approx(edges[1:])


def test_the_link_holds_the_view(at_units: View) -> None:
    at_units.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    at_units.page.locator("#units .take button", has_text="Copy link").click()
    copied = at_units.page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith("#units?layer=color&open=color%3A0&open=color%3A3")


def test_on_paper_the_map_asks_for_its_colors_anew_and_closed_parts_leave_no_title(
    browser: Any, file: Path
) -> None:
    with opened(browser, file, "#map", dark=True) as view:
        view.page.locator(".word-map canvas").wait_for()
        view.page.evaluate("""() => {
          window.inks = [];
          const { getComputedStyle } = window;
          window.getComputedStyle = (node) => {
            const style = getComputedStyle(node);
            if (node === document.body) inks.push(style.color);
            return style;
          };
        }""")
        view.page.emulate_media(media="print", color_scheme="dark")
        view.until("() => inks.length > 0")
        assert view.page.evaluate("inks.at(-1)") == "rgb(0, 0, 0)"
        closed = view.page.locator("details.numbers:not([open])")
        assert closed.count() > 0
        assert not any(each.is_visible() for each in closed.all())
        assert len(view.page.pdf()) > 20_000


def test_brushing_asks_for_no_layout_of_each_unit(browser: Any, file: Path) -> None:
    with opened(browser, file, "#map") as view:
        box = view.page.locator(".word-map canvas").bounding_box()
        view.page.evaluate("""() => {
          window.asked = { style: 0, box: 0 };
          const { getComputedStyle } = window;
          window.getComputedStyle = (...given) => { asked.style += 1; return getComputedStyle(...given); };
          const { getBoundingClientRect } = Element.prototype;
          Element.prototype.getBoundingClientRect = function counted() {
            asked.box += 1;
            return getBoundingClientRect.call(this);
          };
        }""")  # noqa: E501
        view.page.mouse.move(box["x"] + 2, box["y"] + 2)
        view.page.mouse.down()
        view.page.mouse.move(box["x"] + 100, box["y"] + 100, steps=4)
        view.page.mouse.up()
        asked = view.page.evaluate("asked")
        assert asked["style"] == 0
        # Two for each place of the pointer and one for each drawing, but none for each unit.
        assert 5 <= asked["box"] <= 25


def test_what_is_brushed_is_listed_and_the_link_brings_it_back(browser: Any, file: Path) -> None:
    with opened(browser, file, "#map") as view:
        canvas = view.page.locator(".word-map canvas")
        box = canvas.bounding_box()
        everything = view.page.locator("#units .status b").inner_text()
        view.page.mouse.move(box["x"] + 2, box["y"] + 2)
        view.page.mouse.down()
        view.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 2, steps=4)
        view.page.mouse.up()
        some = view.page.locator("#units .status b").inner_text()
        assert some != everything
        assert " of 8 units" in some
        address = view.page.url
        assert "box=" in address
        view.page.locator(".word-map .clear").click()
        assert view.page.locator("#units .status b").inner_text() == everything
        assert view.complaints == []
    with opened(browser, file, address[address.index("#") :]) as again:
        assert again.page.locator("#units .status b").inner_text() == some


@pytest.mark.parametrize(("width", "dark"), [(1400, True), (400, False)])
def test_on_any_screen(browser: Any, file: Path, width: int, dark: bool) -> None:
    with opened(browser, file, "#units?open=color%3A0", width=width, dark=dark) as view:
        view.page.wait_for_selector("#units .gallery .outline")
        assert view.sideways <= 0
        assert view.weak_text() == []
        view.page.emulate_media(media="print")
        assert not view.page.locator("#units .take").first.is_visible()


def test_words_of_like_meaning_lie_near_each_other() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 12)
    rows = np.repeat(rng.normal(size=(6, 24)), 12, axis=0) + 0.4 * rng.normal(size=(72, 24))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places = layout(rows)
    assert (places.min(axis=0) == 0).all()
    assert (places.max(axis=0) == 1).all()
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    same = groups[:, None] == groups[None]
    assert apart[same].mean() < 0.5 * apart[~same].mean()
    assert (layout(rows) == places).all()
    found = WordMap.of([3, 3, 5, -1, *range(60)], np.asarray(rows, np.float32))
    assert found is not None
    assert found.concept[:2].tolist() == [3, 5]
    assert len(found.concept) == 60
    assert WordMap.of([1, 2, 2], rows) is None
