"""The pictures of the README, cut out of finished reports.

    python docs/pictures.py PROFILE/report.html TIMELINE/compare.html

Each is the charts of a few sections, one below the other, as a browser draws them.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
PICTURES = {
    "profile.png": (
        0,
        ("#drivers h2", "#drivers .legend", "#drivers .bars", "#categories h2",
         "#categories .legend", "#categories .bars"),
    ),
    "cifar-timeline.png": (
        1,
        ("#timeline h2", "#timeline h3:nth-of-type(1)", "#timeline .panels >> nth=0",
         "#timeline h3:nth-of-type(2)", "#timeline .panels >> nth=1",
         "#timeline h3:nth-of-type(3)", "#timeline .panels >> nth=2"),
    ),
}  # fmt: skip
"""Name of the file, which report, and the parts of the page."""
GAP = 14


def main() -> None:
    """Draw them all."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        for name, (which, parts) in PICTURES.items():
            page.goto(Path(sys.argv[1 + which]).resolve().as_uri())
            cut = [
                Image.open(io.BytesIO(page.locator(part).first.screenshot())).convert("RGB")
                for part in parts
            ]
            width = max(each.width for each in cut)
            height = sum(each.height + GAP for each in cut)
            whole = Image.new("RGB", (width + 2 * GAP, height + GAP), cut[0].getpixel((0, 0)))
            top = GAP
            for each in cut:
                whole.paste(each, (GAP, top))
                top += each.height + GAP
            # A few dozen colours and their edges: a palette keeps the file small.
            whole.quantize(96).save(HERE / name, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
