"""A small network trained on CIFAR-10, with checkpoints along the way.

    python benchmarks/train_cifar.py CIFAR10_TRAIN_TAR OUT [--arch net|resnet|vit] [--epochs 8]
        [--steps 0,50,200,1000] [--watch IMAGES]
    profiler compare benchmarks/train_cifar.py:net --checkpoint 'OUT/*.pt' --timeline step …

The archive holds ``train/CLASS/NUMBER.jpg``, 32 × 32 pixels. Checkpoints are written at the given
steps and at the end, as ``step-00050.pt`` with the step inside, so that a timeline can be drawn.
``--arch`` names one of the three factories of this file, which the profiler is given as well. One
tenth of the images is held out; its accuracy is printed with every checkpoint. With ``--watch`` the
network is profiled at the same steps, on 1 000 images of a folder, while it trains: the runs and
their timeline are in ``OUT/profiles``.
"""

import argparse
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torchvision import transforms

from profiler.callbacks import Watch

MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
"""Of the training images, by channel."""
BATCH = 128
Made = tuple[nn.Module, Callable[[Image.Image], torch.Tensor]]
"""What a factory makes: a network, and how it is shown a picture."""


class Block(nn.Sequential):
    """Two convolutions that halve the picture."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )


class Net(nn.Module):
    """Three blocks of 32, 64 and 128 channels, and a linear head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.block1 = Block(3, 32)
        self.block2 = Block(32, 64)
        self.block3 = Block(64, 128)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(128, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, 32, 32) → (B, classes)."""
        maps = self.block3(self.block2(self.block1(images)))
        logits: torch.Tensor = self.head(self.pool(maps).flatten(1))
        return logits


def preprocess() -> Callable[[Image.Image], torch.Tensor]:
    """From any photograph to what the network was trained on."""
    steps: Callable[[Image.Image], torch.Tensor] = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return steps


def net() -> Made:
    """Factory for ``profiler``."""
    return Net(), preprocess()


def resnet() -> Made:
    """A ResNet-18 of a quarter of the width, whose stem keeps the resolution of 32 pixels."""
    model = ResNet(BasicBlock, (2, 2, 2, 2), channels=(16, 32, 64, 128), num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model, preprocess()


def vit() -> Made:
    """A vision transformer of six blocks and 128 channels, on patches of 4 pixels."""
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, embed_dim=128, depth=6, num_heads=4,
        num_classes=10,
    )  # fmt: skip
    return model, preprocess()


ARCHITECTURES: dict[str, Callable[[], Made]] = {"net": net, "resnet": resnet, "vit": vit}


def read(archive: Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """(N, 3, 32, 32) normalised images, (N,) classes, and the classes' names."""
    pictures, names = [], []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            image = Image.open(io.BytesIO(file.read())).convert("RGB")
            pictures.append(transforms.functional.pil_to_tensor(image))
            names.append(Path(member.name).parent.name)
    classes = sorted(set(names))
    labels = torch.tensor([classes.index(name) for name in names])
    images = torch.stack(pictures).float() / 255
    return transforms.functional.normalize(images, MEAN, STD), labels, classes


def augment(images: torch.Tensor) -> torch.Tensor:
    """Mirrored by halves, and shifted by up to four pixels."""
    flipped = torch.rand(len(images)) < 0.5
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    dx, dy = (int(torch.randint(0, 9, ())) for _ in range(2))
    return nn.functional.pad(images, (4, 4, 4, 4))[:, :, dy : dy + 32, dx : dx + 32]


@torch.inference_mode()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right answers."""
    model.eval()
    right = sum(
        int((model(part).argmax(1) == truth).sum())
        for part, truth in zip(images.split(512), labels.split(512), strict=True)
    )
    return right / len(labels)


def main() -> None:
    """Train, and print a line for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arch", choices=ARCHITECTURES, default="net")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", default="0,50,200,1000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--watch", type=Path, metavar="IMAGES")
    chosen = parser.parse_args()
    wanted = {int(step) for step in chosen.steps.split(",")}

    torch.manual_seed(chosen.seed)
    images, labels, _ = read(chosen.archive)
    order = torch.randperm(len(images))
    held, used = order[: len(order) // 10], order[len(order) // 10 :]
    model = ARCHITECTURES[chosen.arch]()[0].to(memory_format=torch.channels_last)
    rounds = chosen.epochs * (len(used) // BATCH)
    if chosen.arch == "vit":
        rate = 1e-3
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    else:
        rate = 0.2
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=rounds)
    chosen.out.mkdir(parents=True, exist_ok=True)

    watch = None
    if chosen.watch is not None:
        watch = Watch(
            model,
            images=chosen.watch,
            preprocess=preprocess(),
            layers="block1,block2,block3,head" if chosen.arch == "net" else "all",
            vlm="conse:objects",
            concepts="common-3k",
            out=chosen.out / "profiles",
            max_seconds=None,
            keep_activations=True,
        )

    def keep(step: int) -> None:
        share = accuracy(model, images[held], labels[held])
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        torch.save({"state_dict": state, "step": step}, chosen.out / f"step-{step:05}.pt")
        print(f"step {step}: {share:.1%} of {len(held)} held-out images, "
              f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
        if watch is not None:
            watch(step)

    start = time.perf_counter()
    step = 0
    while step < rounds:
        for batch in used[torch.randperm(len(used))].split(BATCH):
            if step in wanted:
                keep(step)
            if step == rounds:
                break
            model.train()
            logits = model(augment(images[batch]).to(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits, labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
    keep(step)


if __name__ == "__main__":
    main()
