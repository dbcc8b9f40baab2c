"""An image pass by an array of jobs: each makes its share, and whoever comes last has the whole."""

from pathlib import Path

import pytest
import tiny
from command import Command

ARGUMENTS = (
    *("run", f"{tiny.__file__}:subject", "--vlm", f"{tiny.__file__}:vlm", "--probe"),
    *("photos", "--concepts", "words.txt", "--threshold", "0", "-j", "0", "--date", "2026-01-01"),
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images for three shards, and words that need no sorting."""
    tiny.write_images(tmp_path / "photos", 520)
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nyellow\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.slow
@pytest.mark.weights
def test_the_last_job_writes_the_report(
    command: Command, desk: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*ARGUMENTS, "--out", "whole").status == 0
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(desk / "other"))
    for job, missing in (("2/2", 2), ("2/2", 2)):
        done = command(*ARGUMENTS, "--out", "jobs", "--shard", job)
        assert done.status == 0
        assert f"{missing} of 3 shards of the image pass are missing" in done.stderr
        assert not (desk / "jobs" / "run.json").exists()
    done = command(*ARGUMENTS, "--out", "jobs", "--shard", "1/2")
    assert done.stdout.strip() == "jobs/report.html"
    whole, jobs = files(desk / "whole"), files(desk / "jobs")
    for name in ("descriptions.csv", "units.safetensors", "profile.json"):
        assert whole[name] == jobs[name], name
    assert files(cache / "passes") == files(desk / "other" / "passes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "3"], "--shard '3' is not of the form I/N, such as 3/32"),
        (["--shard", "4/3"], "--shard 4/3: shares are numbered from 1 to 3"),
        (["--engine", "spark"], "unknown engine 'spark'; known: local, ray"),
        (["--address", "auto"], "--address auto belongs to --engine ray, which is not given"),
        (["--engine", "ray", "--shard", "1/2"], "--shard is for jobs without Ray"),
        (["--engine", "ray", "--compile"], "--compile is for a network in this process"),
        (["--engine", "ray", "--device", "cuda"], "--device cuda with --engine ray needs --ray-"),
    ],
)
def test_options_that_contradict_each_other(
    command: Command, desk: Path, options: list[str], message: str
) -> None:
    done = command(*ARGUMENTS, *options)
    assert done.status == 2
    assert done.error.startswith(message)
