"""A loop with the callback and one without: the same weights, and a run for each step."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TinyVLM, to_tensor, write_images
from torch import nn

import profiler as pf
from profiler.callbacks import Watch
from profiler.data.images import ImageFolder
from profiler.errors import InputError, UsageError
from profiler.profile.result import load_run

WORDS = ["red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white"]


class Net(nn.Module):
    """Has what could be disturbed: statistics, dropout, a hook, and a tensor it remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(6, 4)
        self.seen: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = self.norm(self.conv(images)).relu().mean(dim=(2, 3))
        logits: torch.Tensor = self.head(self.drop(self.seen))
        return logits


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder, 60)
    return folder


@pytest.fixture
def watching(photos: Path, cache: Path, tmp_path: Path) -> dict[str, Any]:
    """The arguments of a watch."""
    return {
        "images": photos,
        "preprocess": to_tensor(),
        "vlm": TinyVLM(),
        "concepts": WORDS,
        "out": tmp_path / "profiles",
        "top": 6,
        "on_error": "raise",
    }


def train(steps: range, watch: Any = None, net: Net | None = None) -> Iterator[tuple[Net, Any]]:
    """A loop with everything random that a loop may have; gives network and optimizer."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    net = net or Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    net.head.bias.requires_grad_(False)
    counted: list[torch.Tensor] = []
    net.conv.register_forward_hook(lambda *given: counted.append(given[-1]))
    for step in steps:
        if step == 3:
            net.norm.eval()  # frozen statistics, as in fine-tuning
        images = torch.rand(8, 3, 8, 8) + random.random() + np.random.rand()  # noqa: NPY002
        # A loss of what the hook saw: a pass more than the loop's own would change it.
        loss = net(images).logsumexp(1).mean() + torch.stack(counted).square().mean()
        counted.clear()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watch is not None:
            watch(net)(step)
        yield net, optimizer


def last(loop: Iterator[tuple[Net, Any]]) -> tuple[Net, Any]:
    *_, found = loop
    return found


def test_the_weights_are_the_same_with_and_without(watching: dict[str, Any]) -> None:
    watches: list[Watch] = []

    def watch(net: Net) -> Watch:
        if not watches:
            watches.append(Watch(net, every_n_train_steps=2, **watching))
        return watches[0]

    plain, optimizer = last(train(range(7)))
    watched, other = last(train(range(7), watch))
    assert sorted(path.name for path in watching["out"].glob("step-*")) == [
        f"step-{step:06d}" for step in (0, 2, 4, 6)
    ]
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    for one, two in zip(
        optimizer.state_dict()["state"].values(), other.state_dict()["state"].values(), strict=True
    ):
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert [m.training for m in plain.modules()] == [m.training for m in watched.modules()]
    assert not watched.norm.training
    assert not watched.head.bias.requires_grad
    assert len(watched.conv._forward_hooks) == 1
    assert torch.rand(1) == _after(plain_steps=7)


def test_torch_keeps_the_threads_of_the_training(photos: Path, tmp_path: Path) -> None:
    """As torchrun sets them: one for OpenMP. numba, which has two, shares OpenMP with torch."""
    program = f"""
import warnings
import torch
from tiny import TinyNet, TinyVLM, to_tensor
from profiler.callbacks import Watch

warnings.simplefilter("ignore")
before = torch.get_num_threads()
watch = Watch(TinyNet(), images={str(photos)!r}, preprocess=to_tensor(), vlm=TinyVLM(),
              concepts={WORDS!r}, top=6, out={str(tmp_path / "out")!r}, on_error="raise")
assert watch(0) is not None
print(before, torch.get_num_threads())
"""
    samples = Path(__file__).parents[1] / "samples"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    environment |= {"PROFILER_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(samples)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


def _after(plain_steps: int) -> torch.Tensor:
    """What torch draws next after the loop without the callback."""
    last(train(range(plain_steps)))
    return torch.rand(1)


def test_each_step_is_a_run_of_the_weights_at_that_step(watching: dict[str, Any]) -> None:
    net = Net()
    watch = Watch(net, **{**watching, "images": pf.load_images(watching["images"])})
    first = watch(0)
    with torch.no_grad():
        net.conv.weight.mul_(-1)
    second = watch(10)
    assert first is not None
    assert second is not None
    kept = load_run(watching["out"] / "step-000010")
    assert kept.record.subject.step == 10
    assert kept.record.subject.fingerprint != first.run.record.subject.fingerprint
    # The images need not be read again: only the network's own numbers are new.
    tops = [each.run.layers[0].top_images for each in (first, second)]
    assert not np.array_equal(*tops)
    page = (watching["out"] / "timeline.html").read_text("utf-8")
    assert "step-000010" in page
    numbers = json.loads((watching["out"] / "timeline.json").read_text("utf-8"))
    assert [run["step"] for run in numbers["runs"]] == [0, 10]


def test_images_are_decoded_and_embedded_once(
    watching: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    embedded: list[int] = []

    class Counting(TinyVLM):
        def embed_images(self, images: torch.Tensor) -> torch.Tensor:
            embedded.append(len(images))
            return super().embed_images(images)

    read = ImageFolder._decode

    def counted(self: ImageFolder, index: int, *rest: Any) -> Any:
        decoded.append(index)
        return read(self, index, *rest)

    monkeypatch.setattr(ImageFolder, "_decode", counted)
    net = Net()
    watch = Watch(net, **{**watching, "vlm": Counting()})
    for step in range(3):
        with torch.no_grad():
            net.conv.weight.add_(0.1)
        if step:
            decoded.clear()
            embedded.clear()
        watch(step)
        if not step:
            assert sum(embedded) >= 60
            assert {*decoded} == {*range(60)}
    assert not embedded
    assert {*decoded} <= {*range(60)}
    assert len(decoded) <= 4  # two for the trial of the network at the start of a pass


def test_a_training_that_was_killed_goes_on_without_hole_and_double(
    watching: dict[str, Any],
) -> None:
    net = Net()
    first = Watch(net, every_n_train_steps=10, **watching)
    states = {}
    for step in range(31):
        with torch.no_grad():
            net.conv.weight.add_(0.01)
        states[step] = {name: each.clone() for name, each in net.state_dict().items()}
        first(step)
    # Killed while step 40 was written, and gone on from a checkpoint of step 20.
    (watching["out"] / "step-000040").mkdir()
    (watching["out"] / "step-000040" / "units.safetensors").write_bytes(b"half")
    kept = (watching["out"] / "step-000020" / "run.json").stat().st_mtime_ns
    again = Net()
    again.load_state_dict(states[20])
    second = Watch(again, every_n_train_steps=10, **watching)
    for step in range(20, 51):
        if step > 20:
            with torch.no_grad():
                again.conv.weight.sub_(0.01)
        second(step)
        if step == 20:  # nothing of the future that was given up
            assert steps_of(watching["out"]) == [0, 10, 20]
            assert (watching["out"] / "step-000020" / "run.json").stat().st_mtime_ns == kept
    assert steps_of(watching["out"]) == [0, 10, 20, 30, 40, 50]
    runs = [load_run(watching["out"] / f"step-{s:06d}") for s in (20, 30)]
    assert runs[0].record.subject.fingerprint != runs[1].record.subject.fingerprint


def steps_of(out: Path) -> list[float]:
    numbers = json.loads((out / "timeline.json").read_text("utf-8"))
    return [run["step"] for run in numbers["runs"]]


def test_another_training_in_the_same_folder_takes_nothing_over(watching: dict[str, Any]) -> None:
    for every in (5, 10):
        net = Net()
        watch = Watch(net, every_n_train_steps=every, **watching)
        for step in range(11):
            with torch.no_grad():
                net.conv.weight.add_(0.01)
            watch(step)
    assert steps_of(watching["out"]) == [0, 10]


def test_a_broken_step_warns_once_and_training_goes_on(watching: dict[str, Any]) -> None:
    net = Net()
    watch = Watch(net, **{**watching, "on_error": "warn"})
    with torch.no_grad():
        net.conv.weight.fill_(torch.nan)
    with pytest.warns(RuntimeWarning, match="at step 0 the network could not be profiled"):
        assert watch(0) is None
    assert watch(1) is None  # warnings are errors here: the same reason is not given again
    net.load_state_dict(Net().state_dict())
    assert watch(2) is not None
    with torch.no_grad():
        net.conv.weight.fill_(torch.nan)
    with pytest.raises(InputError):
        Watch(net, **watching)(3)


def test_a_step_that_takes_too_long_is_the_last(watching: dict[str, Any]) -> None:
    net = Net()
    watch = Watch(net, max_seconds=0, **watching)
    assert watch(0) is not None  # it embeds the images
    with torch.no_grad():
        net.conv.weight.add_(0.1)
    with pytest.warns(RuntimeWarning, match=r"step 1 took .* more than max_seconds=0"):
        assert watch(1) is not None
    assert watch(2) is None


@pytest.mark.parametrize(
    ("given", "due"),
    [
        ({}, [0, 1, 2, 3, 5, 7, 10, 20, 30, 100]),
        ({"every_n_train_steps": 10}, [0, 10, 20, 30, 100]),
        ({"every_n_epochs": 5}, [0, 5, 10, 20, 30, 100]),
        ({"at": "log"}, [0, 1, 2, 5, 10, 20, 100]),
        ({"at": (3, 7)}, [3, 7]),
    ],
)
def test_steps_are_due_as_asked(
    watching: dict[str, Any], given: dict[str, Any], due: list[int]
) -> None:
    watch = Watch(Net(), **watching, **given)
    assert [s for s in (0, 1, 2, 3, 5, 7, 10, 20, 30, 100) if watch.is_due(s)] == due


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"every_n_epochs": 1, "at": "log"}, "exclude each other"),
        ({"every_n_train_steps": 0}, "at least 1, not 0"),
        ({"at": "end"}, "'log' or a collection"),
        ({"preprocess": None}, "`preprocess` is missing"),
        ({"vlm": "nobody"}, "unknown VLM"),
        ({"on_error": "ignore"}, "'warn' or 'raise'"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(
    watching: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Watch(Net(), **{**watching, **given})
