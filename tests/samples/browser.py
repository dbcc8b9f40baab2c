"""Headless Chromium for the tests that look at a report as a reader does."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""The same browser with no windows of its own, if it is there: it takes a third of the time."""

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A Playwright browser; skips the test where Playwright or Chromium is missing."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("neither chromium-headless-shell nor chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class View:
    """A page that is open, with everything it complained about and everything it asked for."""

    page: Any
    javascript: bool = True
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def strange_requests(self) -> list[str]:
        """Requests for anything but the file itself and what it carries."""
        return [url for url in self.requests if not url.startswith(("file:", "data:"))]

    @property
    def sideways(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    def at_widths(self, *widths: int) -> Iterator[int]:
        """Give the window each width in turn, and the page's script a frame to draw itself anew."""
        for width in widths:
            self.page.set_viewport_size({"width": width, "height": 900})
            if self.javascript:
                self.page.evaluate("""() => new Promise(
                    (done) => requestAnimationFrame(() => requestAnimationFrame(done)))""")
            yield width

    def until(self, holds: str, given: Any = None) -> None:
        """Wait until a function holds in the page.

        Playwright's own wait evaluates its text at each look, which the page's policy forbids.
        """
        self.page.evaluate(
            f"""(given) => new Promise((done, fail) => {{
                const holds = {holds};
                const look = () => (holds(given) ? done() : setTimeout(look, 10));
                setTimeout(() => fail("it never came to hold"), 10000);
                look();
            }})""",
            given,
        )

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow a link to elsewhere in the page; on leaving, the page's script has taken it in.

        A change of the address behind # is told to the script a moment after the click.
        """
        self.page.evaluate("""() => {
            window.followed = new Promise((done, fail) => {
                addEventListener("hashchange", () => setTimeout(done), { once: true });
                setTimeout(() => fail("the address did not change"), 10000);
            });
        }""")
        yield
        self.page.evaluate("window.followed")

    def weak_text(self, least: float = 4.5) -> list[str]:
        """Visible texts whose contrast with what lies behind them is below ``least``."""
        return list(self.page.evaluate(WEAK_TEXT, least))


@contextmanager
def opened(
    browser: Any,
    path: Path,
    fragment: str = "",
    *,
    width: int = 1400,
    height: int = 900,
    dark: bool = False,
    javascript: bool = True,
) -> Iterator[View]:
    """Open a file in a window of its own; complaints at closing time are the test's to check."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        java_script_enabled=javascript,
    )
    try:
        page = context.new_page()
        view = View(page, javascript)
        page.on("console", lambda message: view.complaints.append(message.text))
        page.on("pageerror", lambda error: view.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (view.complaints.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: view.requests.append(request.url))
        page.goto(path.resolve().as_uri() + fragment)
        yield view
    finally:
        context.close()


# Text on the parts of a bar is left out: what lies behind it is a sibling, not an ancestor.
WEAK_TEXT = """
(least) => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.a === 1) return colour;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const weak = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest(".bar, script, noscript, style, title, :disabled")) continue;
    if (!element.checkVisibility()) continue;
    seen += 1;
    const style = getComputedStyle(element);
    const colour = parse(element.closest("svg") ? style.fill : style.color);
    const [dim, bright] = [luminance(colour), luminance(behind(element))].sort((a, b) => a - b);
    const contrast = (bright + 0.05) / (dim + 0.05);
    if (contrast < least) weak.add(`${contrast.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  if (seen < 50) weak.add(`only ${seen} texts seen`);
  return [...weak];
}
"""  # noqa: E501
