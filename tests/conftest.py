"""Fixtures every test may use."""

from pathlib import Path

import pytest
from command import Command

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
def photographs() -> Path:
    """A thousand photographs, one for each ImageNet class."""
    folder = SHARED / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip(f"the photographs in {folder} are not on this machine")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes long begin first, so that no process waits for another's last test."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
