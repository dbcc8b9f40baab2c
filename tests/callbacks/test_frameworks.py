"""The adapters on real CIFAR-10 images: the weights are the same, the steps are the frameworks'."""

import io
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHARED
from PIL import Image
from tiny import TinyVLM
from torch import nn
from torchvision.transforms import functional
from train_cifar import Block, preprocess

from profiler.callbacks import Watch

WORDS = ["red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white"]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Small(nn.Module):
    """A block of the network of benchmarks/train_cifar.py, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(3, 8)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.drop(self.block(images).mean(dim=(2, 3))))
        return logits


@pytest.fixture(scope="module")
def pictures() -> list[tuple[Image.Image, int]]:
    """The first 96 images of CIFAR-10's test set, read in place."""
    archive = SHARED / "cifar10-test.tar"
    if not archive.is_file():
        pytest.skip("CIFAR-10 is not on this machine")
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                picture = Image.open(io.BytesIO(file.read())).convert("RGB")
                found.append((picture, CLASSES.index(Path(member.name).parent.name)))
            if len(found) == 96:
                break
    return found


@pytest.fixture(scope="module")
def batches(pictures: list[tuple[Image.Image, int]]) -> list[tuple[torch.Tensor, int]]:
    return [(functional.pil_to_tensor(image).float() / 255, label) for image, label in pictures]


@pytest.fixture
def watching(
    pictures: list[tuple[Image.Image, int]], tmp_path: Path, cache: Path
) -> dict[str, Any]:
    return {
        "images": [image for image, _ in pictures[:60]],
        "preprocess": preprocess(),
        "vlm": TinyVLM(),
        "concepts": WORDS,
        "out": tmp_path / "profiles",
        "top": 6,
        "on_error": "raise",
        "device": "cpu",
    }


@pytest.fixture(autouse=True)
def lenient() -> Iterator[None]:
    """Warnings of the frameworks are theirs; those of this package are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="profiler")
        yield


def steps_in(out: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in out.glob("step-*"))


# --- a loop of one's own -----------------------------------------------------------------------


def test_a_plain_loop_trains_the_same_with_and_without(
    batches: Any, watching: dict[str, Any]
) -> None:
    def train(**watched: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net = Small()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        watch = Watch(net, every_n_train_steps=3, **watched) if watched else None
        loader = torch.utils.data.DataLoader(batches, batch_size=32, shuffle=True)
        for step, (images, labels) in enumerate((each for _ in range(2) for each in loader), 1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
            if watch is not None:
                watch(step)
        return net.state_dict()

    plain, watched = train(), train(**watching)
    for name, tensor in plain.items():
        assert torch.equal(tensor, watched[name]), name
    assert steps_in(watching["out"]) == [3, 6]


# --- Lightning --------------------------------------------------------------------------------


def lightning_run(
    batches: list[tuple[torch.Tensor, int]], root: Path, *callbacks: Any, **how: Any
) -> tuple[Any, Any]:
    """Train for 2 epochs of 3 steps, with validation and its sanity check."""
    import lightning.pytorch as lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Small()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    lightning.seed_everything(0, verbose=False)
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=root,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **{"logger": False, **how},
    )
    loader = torch.utils.data.DataLoader(batches, batch_size=32, shuffle=True)
    trainer.fit(module, loader, torch.utils.data.DataLoader(batches[:32], batch_size=32))
    return module, trainer


def test_lightning_trains_the_same_with_and_without(
    batches: Any, watching: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("lightning")
    from lightning.pytorch.loggers import CSVLogger

    from profiler.callbacks.lightning import ProfilerCallback

    plain, _ = lightning_run(batches, tmp_path)
    callback = ProfilerCallback(module="net", **watching)
    watched, trainer = lightning_run(batches, tmp_path, callback, logger=CSVLogger(tmp_path))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    assert steps_in(watching["out"]) == [0, 3, 6]  # not in the sanity check, and once at the end
    table = Path(trainer.logger.log_dir, "metrics.csv").read_text("utf-8").splitlines()
    assert "profiler/mean_r" in table[0]
    column, step = (table[0].split(",").index(name) for name in ("profiler/mean_r", "step"))
    logged = [row.split(",")[step] for row in table[1:] if row.split(",")[column]]
    assert logged == ["0", "3", "6"]


def test_lightning_profiles_averaged_weights(
    batches: Any, watching: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("lightning")
    from lightning.pytorch.callbacks import EMAWeightAveraging

    from profiler.callbacks.lightning import ProfilerCallback
    from profiler.callbacks.watch import Watch

    seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    class Noting(Watch):
        def profile(self, step: int) -> None:  # type: ignore[override]
            own = callback._now[1].net.head.weight.detach().clone()
            seen.append((step, own, self._model().head.weight.detach().clone()))

    callback = ProfilerCallback(module="net", every_n_train_steps=2, **watching)
    callback.watch.__class__ = Noting
    lightning_run(batches, tmp_path, EMAWeightAveraging(decay=0.5), callback)
    assert [step for step, *_ in seen] == [0, 2, 4, 6]
    assert torch.equal(seen[0][1], seen[0][2])  # nothing was averaged yet
    assert not any(torch.equal(own, averaged) for _, own, averaged in seen[1:])


# --- transformers -----------------------------------------------------------------------------


class ForTrainer(nn.Module):
    """As the Trainer calls a network, and as its images alone do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Small()

    def forward(self, pixel_values: torch.Tensor, labels: Any = None) -> dict[str, torch.Tensor]:
        logits = self.net(pixel_values)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def trainer_run(batches: Any, root: Path, *callbacks: Any, **how: Any) -> nn.Module:
    """Train for 2 epochs of 3 steps."""
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(0)
    model = ForTrainer()
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(root),
            num_train_epochs=2,
            per_device_train_batch_size=32,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            **{"report_to": [], **how},
        ),
        train_dataset=[{"pixel_values": image, "labels": label} for image, label in batches],
        callbacks=list(callbacks),
    )
    trainer.train()
    return model


def test_the_trainer_of_transformers_trains_the_same_with_and_without(
    batches: Any, watching: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from profiler.callbacks.transformers import ProfilerCallback

    plain = trainer_run(batches, tmp_path)
    callback = ProfilerCallback(every_n_train_steps=4, **watching)
    watched = trainer_run(batches, tmp_path, callback, report_to=["tensorboard"])
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    assert steps_in(watching["out"]) == [0, 4, 6]
    events = EventAccumulator(str(tmp_path / "runs" / "profiler"))
    events.Reload()
    assert [each.step for each in events.Scalars("profiler/mean_r")] == [0, 4, 6]
