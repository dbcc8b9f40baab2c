"""Folders as timm, Lightning and transformers leave them, compared as they lie."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command
from tiny import TinyNet, write_images
from torch import nn

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(autouse=True)
def lenient() -> Iterator[None]:
    """Warnings of the frameworks are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def compared(command: Command, folder: Path, tmp_path: Path) -> tuple[dict[str, Any], Any]:
    """The timeline of a folder, and what the command wrote."""
    write_images(tmp_path / "photos", 60)
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nyellow\ncyan\nmagenta\ngray\nwhite")
    done = command(
        *("compare", f"{SAMPLES / 'tiny.py'}:subject", "--checkpoint", str(folder)),
        *("--timeline", "step", "--vlm", f"{SAMPLES / 'tiny.py'}:vlm", "--workers", "0"),
        *("--probe", str(tmp_path / "photos"), "--concepts", str(tmp_path / "words.txt")),
        *("--top", "6", "--draws", "0", "--out", str(tmp_path / "out")),
    )
    assert done.status == 0, done.stderr
    return json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8")), done


def test_timm(command: Command, tmp_path: Path) -> None:
    from timm.utils import CheckpointSaver, ModelEmaV3

    net = TinyNet()
    average = ModelEmaV3(net, decay=0.5)
    folder = tmp_path / "output" / "train" / "20261130-tiny"
    folder.mkdir(parents=True)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    saver = CheckpointSaver(net, optimizer, model_ema=average, checkpoint_dir=str(folder))
    for epoch in range(8, 11):
        with torch.no_grad():
            net.fc.weight[0] = net.fc.weight[1] * (epoch - 7)
        average.update(net)
        saver.save_checkpoint(epoch, metric=epoch)
    assert {path.name for path in folder.iterdir()} >= {"last.pth.tar", "model_best.pth.tar"}
    found, done = compared(command, folder, tmp_path)
    # In the order of the epochs, which that of the names is not; neither last nor best twice.
    names = [(run["name"], run["step"]) for run in found["runs"]]
    assert names == [(f"checkpoint-{epoch}", epoch) for epoch in (8, 9, 10)]
    assert all("averaged weights" in run["title"] for run in found["runs"])
    assert "last" in done.stderr
    assert "left out" in done.stderr


def test_lightning(command: Command, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = TinyNet()

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.net(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        callbacks=[
            EMAWeightAveraging(decay=0.5),
            ModelCheckpoint(tmp_path / "checkpoints", save_top_k=-1, save_last=True),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(torch.rand(8, 3, 8, 8), batch_size=4)
    trainer.fit(Module(), loader)
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
    found, _ = compared(command, tmp_path / "checkpoints", tmp_path)
    names = [(run["name"], run["step"]) for run in found["runs"]]
    assert names == [("epoch-0-step-2", 2), ("epoch-1-step-4", 4), ("epoch-2-step-6", 6)]
    assert all("averaged weights" in run["title"] for run in found["runs"])


def test_transformers(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    class ForTrainer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = TinyNet()

        def forward(self, images: torch.Tensor, labels: Any = None) -> dict[str, torch.Tensor]:
            logits = self.net(images)
            return {"loss": logits.square().mean(), "logits": logits}

    trainer = Trainer(
        ForTrainer(),
        TrainingArguments(
            output_dir=str(tmp_path / "hf"),
            max_steps=12,
            save_steps=4,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=[{"images": torch.rand(3, 8, 8), "labels": 0} for _ in range(8)],
    )
    trainer.train()
    found, _ = compared(command, tmp_path / "hf", tmp_path)
    names = [(run["name"], run["step"]) for run in found["runs"]]
    assert names == [(f"checkpoint-{step}", step) for step in (4, 8, 12)]
