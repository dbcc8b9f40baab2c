"""Does the page of a large run stay quick? Tasks of the browser's main thread, in milliseconds.

::

    python benchmarks/page.py RUN [--units 4000] [--repeats 5]

Layers of the run are repeated, one after another, until there are so many units. The page is
opened in headless Chromium and used as a reader would: loaded, scrolled from end to end, searched
letter by letter, sorted by each column, paged, rows opened, the map brushed. Of each use the
longest task of the main thread is taken, once by the processor's time, which other processes do not
lengthen, and once by the clock; the median of the repeats is printed, and the largest.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import sync_playwright

from profiler.profile.result import ProfileRun, load_run
from profiler.profile.view import render_profile

CHROMIUM = "/usr/bin/chromium"
TASKS = "disabled-by-default-devtools.timeline"
"""The part of a trace that holds tasks."""


def enlarged(run: ProfileRun, units: int) -> ProfileRun:
    """The run with its largest layers repeated until it has so many units."""
    order = sorted(range(len(run.layers)), key=lambda i: -run.layers[i].units)
    places = list(range(len(run.layers)))
    have = sum(layer.units for layer in run.layers)
    for place in order * 100:
        if have >= units:
            break
        places.append(place)
        have += run.layers[place].units

    def taken(of_layers: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            replace(of_layers[place], layer=f"{of_layers[place].layer} {i}")
            if places.index(place) != i
            else of_layers[place]
            for i, place in enumerate(places)
        )

    subject, outlines, variants = run.record.subject, run.outlines, run.variants
    infos = tuple(
        replace(subject.layers[place], name=f"{subject.layers[place].name} {i}")
        if places.index(place) != i
        else subject.layers[place]
        for i, place in enumerate(places)
    )
    return replace(
        run,
        record=replace(run.record, subject=replace(subject, layers=infos)),
        layers=taken(run.layers),
        ranges=taken(run.ranges) if run.ranges else (),
        drivers=taken(run.drivers) if run.drivers else (),
        quality=taken(run.quality) if run.quality else (),
        outlines=outlines and replace(outlines, layers=taken(outlines.layers)),
        variants=variants
        and replace(variants, activations=tuple(variants.activations[p] for p in places)),
    )


def scroll(page: Any) -> None:
    """From end to end, half a window at a time."""
    height = page.evaluate("document.documentElement.scrollHeight")
    page.mouse.move(700, 450)
    for _ in range(0, height, 450):
        page.mouse.wheel(0, 450)
        page.wait_for_timeout(16)


def search(page: Any) -> None:
    """Letter by letter, and back."""
    field = page.locator("#units input[type=search]")
    field.click()
    for key in (*"stripe", *["Backspace"] * 6):
        page.keyboard.press(key)
        page.wait_for_timeout(30)


def sort(page: Any) -> None:
    """By each column, both ways."""
    for button in page.locator("#units thead button").all():
        button.click()
        button.click()


def turn(page: Any) -> None:
    """The pages of the table."""
    for _ in range(5):
        page.locator("#units .pager button", has_text="Next").click()
        page.wait_for_timeout(30)


def open_rows(page: Any) -> None:
    """The details of units."""
    for toggle in page.locator("#units .toggle").all()[:3]:
        toggle.click()
        page.wait_for_timeout(100)


def brush(page: Any) -> None:
    """A part of the map."""
    canvas = page.locator(".word-map canvas")
    if not canvas.count():
        return
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 250, steps=12)
    page.mouse.up()


USES: dict[str, Callable[[Any], None]] = {
    "load": lambda page: None, "scroll": scroll, "search": search, "sort": sort, "turn pages": turn,
    "open rows": open_rows, "brush the map": brush,
}  # fmt: skip


def longest(trace: Path) -> tuple[float, float]:
    """The longest task of the page's main thread: by the clock and by the processor, in ms."""
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        (event["dur"] / 1000, event.get("tdur", 0) / 1000)
        for event in events
        if event["name"] == "RunTask"
        and event["ph"] == "X"
        and (event["pid"], event["tid"]) in main
    ]
    clock, processor = zip(*tasks, strict=True)
    return max(clock), max(processor)


def main() -> None:
    """Print a table of the longest tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--units", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    run = enlarged(load_run(given.run), given.units)
    units = sum(layer.units for layer in run.layers)
    tasks: dict[str, list[tuple[float, float]]] = {name: [] for name in USES}
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder, "report.html")
        file.write_text(render_profile(run), encoding="utf-8")
        print(f"{units:,} units, {file.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(given.repeats):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            trace = Path(folder, "trace.json")
            for name, use in USES.items():
                browser.start_tracing(
                    page=page, path=trace, categories=["devtools.timeline", TASKS]
                )
                if name == "load":
                    page.goto(file.as_uri())
                use(page)
                page.wait_for_timeout(400)
                browser.stop_tracing()
                tasks[name].append(longest(trace))
            page.close()
        browser.close()
    print("| use | longest task, ms of the processor | largest | ms by the clock | largest |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, found in tasks.items():
        clock, processor = zip(*found, strict=True)
        values = (median(processor), max(processor), median(clock), max(clock))
        print(f"| {name} | {' | '.join(f'{value:.0f}' for value in values)} |")


if __name__ == "__main__":
    main()
