"""The page about drivers as a browser shows it: on a desk, in a hand, in the dark, on paper."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import opened

from profiler.data.factors import Factors
from profiler.data.synthetic.design import ExperimentScenes
from profiler.profile.drivers import Experiment, drivers
from profiler.profile.drivers_view import drivers_page

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("scenes_once")]

ABOUT = {
    "subject": "net<script>alert(1)</script>",
    "weights": "random, seed 0",
    "preprocessing": "none",
    "fingerprint": 64 * "a",
    "images_title": "synthetic:2 (400 scenes, seed 0)",
    "images_fingerprint": 64 * "b",
}


def experiment(factors: Factors, *, drawn: bool) -> Experiment:
    """Two layers that go with their levels, and one of noise."""
    noise = np.random.default_rng(0).normal(size=(len(factors), 6))
    first, last = factors.codes[:, :1], factors.codes[:, -1:]
    layers = {"stem": 3.0 * first + noise, "a.very.long.name" * 3: 1.0 * last + noise, "fc": noise}
    told = tuple(drivers(name, rows, factors) for name, rows in layers.items())
    return Experiment(told, factors, len(factors), {"network": 1.0}, drawn)


@pytest.mark.parametrize("drawn", [True, False])
def test_the_page_on_any_screen(browser: Any, tmp_path: Path, drawn: bool) -> None:
    factors = ExperimentScenes(400).factors
    if not drawn:
        levels = ("<b>bold</b>", "plain")
        codes = np.random.default_rng(1).integers(0, 2, (400, 2))
        factors = Factors(("<i>kind</i>", "side"), (levels, levels), codes)
    file = tmp_path / "drivers.html"
    file.write_text(drivers_page(experiment(factors, drawn=drawn), ABOUT), encoding="utf-8")
    for width, dark, javascript in ((1400, False, True), (400, True, True), (1000, False, False)):
        with opened(browser, file, width=width, dark=dark, javascript=javascript) as view:
            assert view.sideways <= 0
            assert view.weak_text() == []
            assert view.page.locator("svg.bar").count() == (3 if drawn else 0)
            assert view.page.locator("svg.panel").count() == len(factors.names)
            assert "<script>alert(1)" in view.page.title()
        assert view.complaints == []
        assert view.strange_requests == []
