"""The pictures of README and docs, cut out of finished reports as a browser draws them.

    python docs/pictures.py [NAME=REPORT.html …]

Each is a few parts of a report, one below the other. The small ones come from the gallery; the two
large ones from runs on photographs and on CIFAR-10, which are given by name:

    python docs/pictures.py profile=RUN/report.html cifar-timeline=OUT/compare.html
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
REPORTS = HERE / "_build" / "gallery" / "reports"
CHROMIUM = "/usr/bin/chromium"
GAP = 14
"""Pixels between the parts."""
MOST = 450
"""Pixels of a small picture's height: it shows what a page looks like, not all of it."""
FADE = 50
"""Pixels over which it fades out."""


@dataclass(frozen=True)
class Picture:
    """Which parts of which report, in a window how wide."""

    parts: tuple[str, ...]
    report: str = ""
    width: int = 1400


PICTURES = {
    "profile": Picture(
        (
            *("#drivers h2", "#drivers .legend", "#drivers .bars"),
            *("#categories h2", "#categories .legend", "#categories .bars"),
        )
    ),
    "cifar-timeline": Picture(
        tuple(
            part
            for title in ("mean r", "Leading words", "Interpretable units")
            for part in (
                f'#timeline h3:has-text("{title}")',
                f'#timeline h3:has-text("{title}") + .panels',
            )
        )
    ),
    "profile-small": Picture(("#drivers .legend", "#drivers .bars"), "profile/report.html", 640),
    "compare-small": Picture(
        (
            '#timeline h3:has-text("mean r") + .panels',
            '#timeline h3:has-text("Leading words") + .panels',
        ),
        "timeline/compare.html",
        640,
    ),
    "debug-small": Picture(("#confusions .confused",), "diagnosis/debug.html", 440),
    "guard-small": Picture(
        ("#curves .legend", "#curves .plots > :first-child"), "guard/guard.html", 640
    ),
    "check-small": Picture(("#specs .keys", "#specs .spec-table"), "check/check.html", 640),
}


def draw(page: Page, picture: Picture, report: Path) -> Image.Image:
    """The parts below each other."""
    page.set_viewport_size({"width": picture.width, "height": 900})
    page.goto(report.resolve().as_uri())
    cut = [
        Image.open(io.BytesIO(page.locator(part).first.screenshot())).convert("RGB")
        for part in picture.parts
    ]
    width = max(each.width for each in cut)
    height = sum(each.height + GAP for each in cut)
    whole = Image.new("RGB", (width + 2 * GAP, height + GAP), cut[0].getpixel((0, 0)))
    top = GAP
    for each in cut:
        whole.paste(each, (GAP, top))
        top += each.height + GAP
    if picture.width == 1400 or whole.height <= MOST:
        return whole
    # Faded out below, so that nobody takes the cut for the end.
    small = whole.crop((0, 0, whole.width, MOST))
    ramp = Image.linear_gradient("L").resize((small.width, FADE))
    small.paste(whole.getpixel((0, 0)), (0, MOST - FADE), ramp)
    return small


def main() -> None:
    """Draw those whose report is there."""
    given = dict(each.split("=", 1) for each in sys.argv[1:])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for name, picture in PICTURES.items():
            report = Path(given[name]) if name in given else REPORTS / picture.report
            if report.is_file():
                # A few dozen colours and their edges: a palette keeps the file small.
                drawn = draw(page, picture, report).quantize(96)
                drawn.save(HERE / "images" / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
