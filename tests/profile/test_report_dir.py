"""``--report-dir``: a small main page and a page for each layer, opened from disk."""

from pathlib import Path
from typing import Any

import pytest
from browser import opened
from command import Command
from report_samples import block, fake_run
from tiny import write_images

from profiler.errors import OutputError
from profiler.profile.result import load_run
from profiler.profile.view import render_pages, render_profile

SAMPLES = Path(__file__).parents[1] / "samples"
PAGES = {"1-color.html", "2-fc.html"}


@pytest.fixture
def out(command: Command, tmp_path: Path) -> Path:
    """A run of a hand-made network of two layers, with outlines and an experiment."""
    write_images(tmp_path / "images", 64)
    (tmp_path / "colours.txt").write_text("red\ngreen\nblue\nyellow\ncyan\nmagenta\ngray\nwhite\n")
    net = f"{SAMPLES / 'tiny.py'}:subject"
    done = command(
        *("run", net, "--vlm", f"{SAMPLES / 'tiny.py'}:vlm", "--probe", tmp_path / "images"),
        *("--concepts", tmp_path / "colours.txt", "--top", 6, "--threshold", 0.1, "-j", 0),
        *("--experiment", "--scenes", 200, "--out", tmp_path / "out", "--report-dir"),
    )
    assert done.status == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out" / "report.html")
    return tmp_path / "out"


def test_a_row_leads_to_its_unit_on_the_page_of_its_layer(browser: Any, out: Path) -> None:
    assert {path.name for path in (out / "layers").iterdir()} == PAGES
    with opened(browser, out / "report.html", "#units?layer=fc&sort=unit") as view:
        page = view.page
        assert page.locator("#units img").count() == 0
        page.locator("#units .toggle").nth(2).click()
        page.locator("#units tr.detail a", has_text="Unit 2 on the page of fc").click()
        assert Path(page.url.split("#")[0]).name == "2-fc.html"
        opened_row = page.locator("#units tr.detail")
        opened_row.wait_for()  # and there is no more than one
        assert page.locator("#units .toggle[aria-expanded=true]").inner_text() == "2"
        assert opened_row.locator(".gallery img").count() > 5
        assert "What drives it, by experiment" in opened_row.inner_text()
        page.get_by_role("link", name="Previous layer: color").click()
        page.locator("#units .toggle").first.click()
        page.wait_for_selector("#units .gallery .outline")
        page.get_by_role("link", name="All layers").click()
        assert Path(page.url.split("#")[0]).name == "report.html"
        assert view.complaints == []
        assert view.strange_requests == []


def test_a_layer_is_judged_as_in_the_whole_run(out: Path) -> None:
    run = load_run(out)
    assert run.record.settings["report_dir"] is True
    for place, layer in enumerate(run.layers):
        part = run.of_layer(place)
        assert part.profile.layers == (run.profile.layers[place],)
        assert part.explained_cut == run.explained_cut
        assert part.range_profile is not None
        assert run.range_profile is not None
        assert part.range_profile.layers == (run.range_profile.layers[place],)
        whole, alone = (block(render_profile(each), "unit-data") for each in (run, part))
        assert alone["layers"][0]["category"] == whole["layers"][place]["category"]
        assert alone["layers"][0]["name"] == layer.layer


def test_a_finished_run_is_split_and_joined_again(command: Command, out: Path) -> None:
    vlm = ("--vlm", f"{SAMPLES / 'tiny.py'}:vlm")
    small = (out / "report.html").stat().st_size
    (out / "layers" / "mine.txt").write_text("stays")
    assert command("categorize", out, *vlm, "--no-report-dir").status == 0
    assert [path.name for path in (out / "layers").iterdir()] == ["mine.txt"]
    assert (out / "report.html").stat().st_size > 1.2 * small
    (out / "layers" / "mine.txt").unlink()
    assert command("categorize", out, *vlm, "--no-report-dir").status == 0
    assert not (out / "layers").exists()
    assert command("categorize", out, *vlm).status == 0, "as the run was made"
    assert {path.name for path in (out / "layers").iterdir()} == PAGES


def test_no_page_exceeds_the_limit_and_the_message_names_the_option() -> None:
    run = fake_run({f"a/{i}": 300 for i in range(11)}, images=40)
    parts = [run.of_layer(place) for place in range(11)]
    sizes = {name: len(html.encode()) for name, html in render_pages(run, parts).items()}
    assert list(sizes)[:3] == ["report.html", "layers/01-a-0.html", "layers/02-a-1.html"]
    whole = len(render_profile(run).encode())
    assert max(sizes.values()) < 0.8 * whole
    limit = (max(sizes.values()) + 2000) / 1e6
    with pytest.raises(OutputError, match="a page for each layer with --report-dir"):
        render_profile(run, max_mb=limit)
    assert render_pages(run, parts, max_mb=limit).keys() == sizes.keys()
    with pytest.raises(OutputError, match="raise the limit or profile fewer layers"):
        render_pages(run, parts, max_mb=limit / 2)
