"""Trainings as processes: killed in the middle, and two that train together."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from forks import Forks, Running
from tiny import write_images

from profiler.profile.result import load_run

SCRIPT = Path(__file__).parents[1] / "samples" / "training.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 60)
    return folder


@pytest.fixture(scope="module")
def trainings() -> Iterator[Forks]:
    """Starts trainings; Lightning and transformers, where they are installed, are imported once."""
    names = [name for name in ("lightning.pytorch", "transformers.trainer") if there_is(name)]
    with Forks("profiler.callbacks.watch", *names, OMP_NUM_THREADS="1") as found:
        yield found


def there_is(name: str) -> bool:
    return find_spec(name.partition(".")[0]) is not None


@dataclass(frozen=True)
class Training:
    """The script with a loop: its images, and where it writes."""

    trainings: Forks
    loop: str
    images: Path
    out: Path

    def start(self, *options: str, **environment: str) -> Running:
        cache = {"PROFILER_CACHE_DIR": str(self.out / "cache")}
        arguments = (self.loop, self.images, self.out, *options)
        return self.trainings.start(self.out, *arguments, script=SCRIPT, **cache, **environment)

    def together(self, *options: str) -> list[Running]:
        """Two processes with the variables that torchrun gives them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
        group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [self.start(*options, **group, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]


@pytest.fixture
def training(trainings: Forks, loop: str, images: Path, tmp_path: Path) -> Training:
    pytest.importorskip(loop if loop != "plain" else "torch")
    return Training(trainings, loop, images, tmp_path)


def status(running: Running) -> int:
    done = running.wait()
    assert done.status <= 0, done.stderr
    return done.status


def steps_of(out: Path) -> list[float]:
    numbers = json.loads((out / "profiles" / "timeline.json").read_text("utf-8"))
    return [run["step"] for run in numbers["runs"]]


@pytest.mark.parametrize("loop", ["plain", "lightning"])
def test_a_killed_training_goes_on_without_hole_and_double(
    loop: str, training: Training, tmp_path: Path
) -> None:
    assert status(training.start("--kill", "mid-20")) == -9
    assert not (tmp_path / "profiles" / "step-000020" / "run.json").exists()
    assert steps_of(tmp_path) == [0, 10]
    # From the checkpoint of step 15; the half-written profile of step 20 is made anew.
    assert status(training.start("--kill", "after-34")) == -9
    assert status(training.start()) == 0
    # Lightning profiles where a training goes on as well: step 15, and 30, which is there already.
    wanted = [0, 10, 20, 30, 40] if loop == "plain" else [0, 10, 15, 20, 30, 40]
    assert steps_of(tmp_path) == wanted
    folders = sorted((tmp_path / "profiles").glob("step-*"))
    prints = [load_run(folder).record.subject.fingerprint for folder in folders]
    assert len(set(prints)) == len(prints) == len(wanted)


@pytest.mark.parametrize("loop", ["plain", "lightning", "transformers"])
def test_of_two_processes_the_first_profiles(loop: str, training: Training, tmp_path: Path) -> None:
    # Lightning starts the second process itself.
    lightning = loop == "lightning"
    both = [training.start("--twice")] if lightning else training.together("--twice")
    assert not any(map(status, both))
    assert steps_of(tmp_path) == [0, 10, 20, 30, 40]
    weights = [torch.load(tmp_path / f"weights-{rank}.pt") for rank in (0, 1)]
    (plain, watched), (other, other_watched) = weights
    for name, tensor in plain.items():
        assert torch.equal(tensor, watched[name]), name
        assert torch.equal(tensor, other[name]), name
        assert torch.equal(tensor, other_watched[name]), name
