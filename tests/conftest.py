"""Fixtures every test may use."""

import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from browser import View, chromium, opened
from command import Command
from forks import Forks

# Or each process that a test starts would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# An experiment takes ten seconds and more: tests that are about it ask for one.
os.environ |= {"PROFILER_RUN_EXPERIMENT": "0", "PROFILER_COMPARE_EXPERIMENT": "0"}

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def command(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """The command line, called in this process."""
    return Command(monkeypatch, capfd)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts the command line in processes of its own."""
    with Forks() as found:
        yield found


@pytest.fixture(scope="session")
def embedded() -> dict[tuple[str, ...], Any]:
    """Rows of each list of texts that :func:`texts_once` has seen; by the weights and the texts."""
    return {}


@pytest.fixture
def texts_once(embedded: dict[tuple[str, ...], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed each list of texts once a process: ConSE's words are the same in every command."""
    from profiler.models.vlm.sentence import SentenceEncoder

    embed_texts = SentenceEncoder.embed_texts

    def embed(encoder: SentenceEncoder, texts: Sequence[str]) -> Any:
        key = (encoder.weights, *texts)
        if key not in embedded:
            embedded[key] = embed_texts(encoder, texts)
        return embedded[key].copy()

    monkeypatch.setattr(SentenceEncoder, "embed_texts", embed)


@pytest.fixture(scope="session")
def drawn() -> dict[tuple[object, ...], Any]:
    """Images of scenes that :func:`scenes_once` has seen; by all that they depend on."""
    return {}


@pytest.fixture
def scenes_once(drawn: dict[tuple[object, ...], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw each scene of an experiment once a process: those of each run are the same."""
    from profiler.data.synthetic.design import ExperimentScenes

    draw = ExperimentScenes.draw

    def draw_once(scenes: ExperimentScenes, index: int, levels: Mapping[str, str]) -> Any:
        key = (scenes.seed, scenes.size, index, *sorted(levels.items()))
        if key not in drawn:
            drawn[key] = draw(scenes, index, levels)
        return drawn[key].copy()

    monkeypatch.setattr(ExperimentScenes, "draw", draw_once)


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A thousand photographs, one for each ImageNet class."""
    folder = SHARED / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip(f"the photographs in {folder} are not on this machine")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture
def view(browser: Any, file: Path) -> Iterator[View]:
    """The module's ``file`` on a desk; at the end nothing may have gone wrong or out."""
    with opened(browser, file) as found:
        yield found
        assert found.complaints == []
        assert found.strange_requests == []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes longest begin first, so that no process waits for another's last test."""

    def seconds(item: pytest.Item) -> float:
        slow = item.get_closest_marker("slow")
        return 0.0 if slow is None else float((*slow.args, 3)[0])

    items.sort(key=seconds, reverse=True)


def pytest_collection_finish() -> None:
    """Let each full garbage collection leave out what was imported: it takes half a second."""
    gc.freeze()
