"""The commands of README and docs, one after another, as one user runs them."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import tour
from browser import chromium, opened
from command import Command
from forks import Forks
from safetensors.numpy import load_file

from profiler.guard.guard import Guard
from profiler.profile.result import load_run


def test_every_command_and_option_is_on_the_tour() -> None:
    assert tour.unused(list(tour.way("http://127.0.0.1:1"))) == []


def test_the_tour_takes_every_command(command: Command) -> None:
    text = command("--help").stdout.partition("Commands:")[2].partition("Environment:")[0]
    listed = re.findall(r"^  ([a-z]+) ", text, re.MULTILINE)
    assert set(listed) == {name.split()[0] for name in tour.commands()}


# One test, because all of it happens in one folder with one cache.
@pytest.mark.slow(180)
@pytest.mark.weights
@pytest.mark.browser
@pytest.mark.usefixtures("texts_once")
def test_every_command_works_beside_every_other(tmp_path: Path, forks: Forks) -> None:
    folder = tmp_path / "work"
    faults = [f"{done.step}\n{done.fault}" for done in tour.walk(folder, forks) if done.fault]
    assert not faults, "\n\n".join(faults)
    read_again(folder)
    with chromium() as browser:
        for page in sorted(folder.rglob("*.html")):
            with opened(browser, page) as view:
                assert view.complaints == [], page
                assert view.strange_requests == [], page


def read_again(folder: Path) -> None:
    """Every file that was written is read by what reads it."""
    for path in folder.rglob("*.json"):
        tour.strict_json(path.read_text(encoding="utf-8"))
    for path in folder.rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            assert len({len(row) for row in csv.reader(file)}) == 1, path
    for path in folder.rglob("*.npz"):
        with np.load(path) as arrays:
            assert all(arrays[name] is not None for name in arrays), path
    for path in folder.rglob("*.safetensors"):
        if "cache" not in path.parts:
            assert load_file(path), path
    assert [Guard.load(path) for path in folder.rglob("guard.safetensors")]
    runs = {path.parent for path in folder.rglob("run.json")}
    assert len(runs) > 10
    for run in runs:
        assert load_run(run).layers, run
