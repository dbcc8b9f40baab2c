"""Trainings as processes: killed in the middle, and two that train together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import write_images

from profiler.profile.result import load_run

SCRIPT = Path(__file__).parents[1] / "samples" / "training.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 60)
    return folder


def start(images: Path, out: Path, loop: str, *options: str, before: tuple[str, ...] = ()) -> int:
    """The exit status of the training."""
    environment = os.environ | {"PROFILER_CACHE_DIR": str(out / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *before, SCRIPT, loop, images, out, *options],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode <= 0, done.stderr
    return done.returncode


def steps_of(out: Path) -> list[float]:
    numbers = json.loads((out / "profiles" / "timeline.json").read_text("utf-8"))
    return [run["step"] for run in numbers["runs"]]


@pytest.mark.parametrize("loop", ["plain", "lightning"])
def test_a_killed_training_goes_on_without_hole_and_double(
    loop: str, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lightning")
    assert start(images, tmp_path, loop, "--kill", "mid-20") == -9
    assert not (tmp_path / "profiles" / "step-000020" / "run.json").exists()
    assert steps_of(tmp_path) == [0, 10]
    # From the checkpoint of step 15; the half-written profile of step 20 is made anew.
    assert start(images, tmp_path, loop, "--kill", "after-34") == -9
    assert start(images, tmp_path, loop) == 0
    # Lightning profiles where a training goes on as well: step 15, and 30, which is there already.
    wanted = [0, 10, 20, 30, 40] if loop == "plain" else [0, 10, 15, 20, 30, 40]
    assert steps_of(tmp_path) == wanted
    folders = sorted((tmp_path / "profiles").glob("step-*"))
    prints = [load_run(folder).record.subject.fingerprint for folder in folders]
    assert len(set(prints)) == len(prints) == len(wanted)


@pytest.mark.parametrize("loop", ["plain", "lightning", "transformers"])
def test_of_two_processes_the_first_profiles(loop: str, images: Path, tmp_path: Path) -> None:
    pytest.importorskip(loop if loop != "plain" else "torch")
    # Lightning starts the second process itself.
    together = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    before = () if loop == "lightning" else together
    assert start(images, tmp_path, loop, "--twice", before=before) == 0
    assert steps_of(tmp_path) == [0, 10, 20, 30, 40]
    weights = [torch.load(tmp_path / f"weights-{rank}.pt") for rank in (0, 1)]
    (plain, watched), (other, other_watched) = weights
    for name, tensor in plain.items():
        assert torch.equal(tensor, watched[name]), name
        assert torch.equal(tensor, other[name]), name
        assert torch.equal(tensor, other_watched[name]), name
