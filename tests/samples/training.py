"""A training of the tiny network with a watch, as a program: to be killed, or to run twice at once.

``python training.py LOOP IMAGES OUT`` trains for 40 steps by a LOOP of one's own (``plain``), by
Lightning or by the Trainer of transformers, profiles every tenth step, keeps a checkpoint of every
fifth, and goes on from it where there is one. ``--kill mid-20`` ends the process while the profile
of step 20 is being written, ``--kill after-25`` after step 25. With ``--twice`` it trains first
without the watch.
"""

import argparse
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from tiny import TinyNet, TinyVLM, to_tensor
from torch import nn

from profiler.callbacks import Watch
from profiler.profile import result

STEPS, EVERY, KEPT = 40, 10, 5
WORDS = ["red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white"]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def batch(step: int, rank: int = 0) -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(100 * step + rank))


def plain(how: argparse.Namespace, watched: dict[str, Any] | None) -> nn.Module:
    net = TinyNet()
    rank = int(os.environ.get("RANK", "0"))
    model: nn.Module = net
    if "RANK" in os.environ:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    kept, start = how.out / "last.pt", 0
    if kept.is_file() and not how.twice:
        state = torch.load(kept)
        net.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"] + 1
    watch = None if watched is None else Watch(model, every_n_train_steps=EVERY, **watched)
    for step in range(start, STEPS + 1):
        if step:
            optimizer.zero_grad()
            (model(batch(step, rank)) - 1).square().mean().backward()
            optimizer.step()
        if watch is not None:
            watch(step)
        if step % KEPT == 0 and not how.twice:
            state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
        if how.kill == f"after-{step}":
            die()
    return net


def lightning(how: argparse.Namespace, watched: dict[str, Any] | None) -> nn.Module:
    import lightning.pytorch as frame
    from lightning.pytorch.callbacks import ModelCheckpoint

    from profiler.callbacks.lightning import ProfilerCallback

    class Module(frame.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = TinyNet()

        def training_step(self, images: torch.Tensor, _: int) -> torch.Tensor:
            return (self.net(images) - 1).square().mean()

        def on_train_batch_end(self, *_: Any) -> None:
            if how.kill == f"after-{self.global_step}":
                die()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    callbacks: list[Any] = []
    if not how.twice:
        callbacks.append(
            ModelCheckpoint(
                how.out,
                "last",
                every_n_train_steps=KEPT,
                save_top_k=1,
                enable_version_counter=False,
            )
        )
    if watched is not None:
        callbacks.append(ProfilerCallback(module="net", every_n_train_steps=EVERY, **watched))
    module, kept = Module(), how.out / "last.ckpt"
    trainer = frame.Trainer(
        max_steps=STEPS, accelerator="cpu", logger=False, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=not how.twice,
        default_root_dir=how.out, devices=2 if how.twice else 1,
        strategy="ddp" if how.twice else "auto",
    )  # fmt: skip
    images = [batch(step)[i] for step in range(12) for i in range(4)]
    loader = torch.utils.data.DataLoader(images, batch_size=4)
    trainer.fit(module, loader, ckpt_path=str(kept) if kept.is_file() else None)
    return module.net


def transformers(how: argparse.Namespace, watched: dict[str, Any] | None) -> nn.Module:
    from transformers import Trainer, TrainingArguments, set_seed

    from profiler.callbacks.transformers import ProfilerCallback

    class ForTrainer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = TinyNet()

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.net(images)
            return {"loss": (logits - 1).square().mean(), "logits": logits}

    set_seed(0)
    model = ForTrainer()
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(how.out), max_steps=STEPS, per_device_train_batch_size=4,
            save_strategy="no", use_cpu=True, ddp_backend="gloo", disable_tqdm=True, report_to=[],
        ),
        train_dataset=[{"images": each} for step in range(12) for each in batch(step)],
        callbacks=[ProfilerCallback(every_n_train_steps=EVERY, **watched)] if watched else [],
    )  # fmt: skip
    trainer.train()
    return model.net


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("loop", choices=("plain", "lightning", "transformers"))
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kill", default="")
    parser.add_argument("--twice", action="store_true")
    how = parser.parse_args()
    warnings.simplefilter("ignore")
    write = result.write_atomically

    def dying(path: Path, content: str | bytes) -> None:
        if path.name == "profile.json" and how.kill == f"mid-{int(path.parent.name[5:])}":
            die()
        write(path, content)

    result.write_atomically = dying  # where a kill comes, it shall come there
    watched = {
        "images": how.images, "preprocess": to_tensor(), "vlm": TinyVLM(), "concepts": WORDS,
        "out": how.out / "profiles", "top": 6, "on_error": "raise", "device": "cpu",
    }  # fmt: skip
    loop = {"plain": plain, "lightning": lightning, "transformers": transformers}[how.loop]
    found = [loop(how, None).state_dict()] if how.twice else []
    found.append(loop(how, watched).state_dict())
    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    torch.save(found, how.out / f"weights-{rank}.pt")


if __name__ == "__main__":
    main()
