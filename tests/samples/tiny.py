"""A subject, a vision-language model and images so small that their labels are arithmetic.

Everything here is a real class with weights written by hand, usable from Python
(``from tiny import subject``) and on the command line (``profiler run tests/samples/tiny.py:subject
--vlm tests/samples/tiny.py:vlm``). "Unit 0 is red" is then no guess: it is a sum of three numbers.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor
from torch import nn
from torchvision import transforms

from profiler.models.subject.network import Subject

Preprocess = Callable[[Image.Image], torch.Tensor]

DEVICE = torch.device(os.environ.get("PROFILER_TEST_DEVICE", "cpu"))
"""Where the subject runs: the same tests hold on a GPU."""

SIDE = 8
"""Pixels a side of what both networks see."""

PROBE_COLORS = ("red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white")
"""Colours of the probe images, in turn."""

COLORS: dict[str, tuple[int, ...]] = {
    **{name: ImageColor.getrgb(name)[:3] for name in ImageColor.colormap},
    # The web's "green" is a dark one; here it is the primary that unit 1 looks for.
    "green": (0, 255, 0),
}
"""Words the tiny VLM understands: the web's colour names, written without a space."""


# --- the subject -----------------------------------------------------------------------------


class TinyNet(nn.Module):
    """One number a colour.

    ======== ==== ==============================================================
    layer    unit activation, averaged over the image
    ======== ==== ==============================================================
    color    0    redness,   R − (G + B) / 2
    color    1    greenness, G − (R + B) / 2
    color    2    blueness,  B − (R + G) / 2
    color    3    always 1: a dead unit
    fc       0–2  red, green, blue once more
    fc       3    unit 0 turned round, so never positive on red, gray or white
    ======== ==== ==============================================================
    """

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Conv2d(3, 4, kernel_size=1)
        self.color.bias = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, 1.0]))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 4, bias=False)
        opposed = torch.full((3, 3), -0.5).fill_diagonal_(1.0)
        with torch.no_grad():
            self.color.weight.zero_()
            self.color.weight[:3, :, 0, 0] = opposed
            self.fc.weight.zero_()
            self.fc.weight[:3, :3] = torch.eye(3)
            self.fc.weight[3, 0] = -1.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.pool(self.color(images)).flatten(1)
        logits: torch.Tensor = self.fc(pooled)
        return logits


class Halfblind(TinyNet):
    """Gives NaN for images whose left half is black."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightest = images[..., : SIDE // 2].amax(dim=(1, 2, 3))
        return super().forward(images * (brightest / brightest)[:, None, None, None])


class Hungry(TinyNet):
    """Runs out of memory whenever it is given more than ``appetite`` images at once."""

    def __init__(self, appetite: int) -> None:
        super().__init__()
        self.appetite = appetite
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        if len(images) > self.appetite:
            raise torch.OutOfMemoryError("CUDA out of memory (as the test wants)")
        return super().forward(images)


class AfraidOfTheDark(TinyNet):
    """Divides by the brightness, so an all-black image gives NaN."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightness = images.mean(dim=(1, 2, 3), keepdim=True)
        return super().forward(images / brightness)


def to_tensor() -> Preprocess:
    """(3, 8, 8) in [0, 1]."""
    steps: Preprocess = transforms.Compose([transforms.Resize((SIDE, SIDE)), transforms.ToTensor()])
    return steps


def subject() -> tuple[nn.Module, Preprocess]:
    """Factory of the hand-made network."""
    return TinyNet(), to_tensor()


def halfblind() -> tuple[nn.Module, Preprocess]:
    """Factory of a network that gives NaN for images whose left half is black."""
    return Halfblind(), to_tensor()


def hungry() -> tuple[nn.Module, Preprocess]:
    """Factory of a network that runs out of memory above four images."""
    return Hungry(4), to_tensor()


def starved() -> tuple[nn.Module, Preprocess]:
    """Factory of a network that can name its layers, then runs out with a single image."""
    net = Hungry(2)

    def starve(module: nn.Module, _inputs: Any, _output: Any) -> None:
        net.appetite = 0

    net.register_forward_hook(starve)
    return net, to_tensor()


def nan() -> tuple[nn.Module, Preprocess]:
    """Factory of a network that gives NaN on black images."""
    return AfraidOfTheDark(), to_tensor()


def ragged() -> tuple[nn.Module, Preprocess]:
    """Factory whose preprocessing forgets to resize."""
    return TinyNet(), transforms.ToTensor()


def not_a_pair() -> nn.Module:
    """A factory that forgets the preprocessing."""
    return TinyNet()


def tiny_subject(
    factory: Callable[[], tuple[nn.Module, Preprocess]] = subject, name: str = "tiny"
) -> Subject:
    """The subject as the library holds it, ready to run."""
    model, preprocess = factory()
    model = model.eval().requires_grad_(False).to(DEVICE)
    return Subject(name, model, preprocess, "by hand", "8 × 8")


# --- the vision-language model ---------------------------------------------------------------


class TinyVLM:
    """Sees the mean colour of an image, and knows the words for colours.

    A row has 12 numbers, scaled to length one: three for the colour, measured from mid-gray so
    that opposite colours point opposite ways; one that is always a little positive, so that gray
    has a direction too; and eight that no image ever has. Words that name no colour lie in those
    eight, in a direction drawn from their spelling: each is different, the same in every process,
    and has cosine 0 with every image.
    """

    name = "tiny"
    template = "{}"
    limits = ""
    fingerprint = "tiny-vlm-1"

    def __init__(self) -> None:
        self.preprocess = to_tensor()

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] → (B, 12) unit rows."""
        return _rows_of_colors(images.mean(dim=(2, 3)))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """M words → (M, 12) unit rows."""
        rows: NDArray[np.float32] = np.stack([_row_of_word(text) for text in texts])
        return rows


def vlm() -> TinyVLM:
    """Factory of the hand-made VLM."""
    return TinyVLM()


def _rows_of_colors(colors: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros(len(colors), 12)
    rows[:, :3] = colors.float().cpu() - 0.5
    rows[:, 3] = 0.2
    return nn.functional.normalize(rows, dim=1)


def _row_of_word(word: str) -> NDArray[np.float32]:
    color = COLORS.get(word.lower().replace(" ", ""))
    if color is not None:
        row: NDArray[np.float32] = _rows_of_colors(torch.tensor([color]) / 255)[0].numpy()
        return row
    bytes_ = np.frombuffer(hashlib.sha256(word.encode()).digest()[:8], dtype=np.uint8)
    other = bytes_.astype(np.float32) - 127.5
    return np.concatenate([np.zeros(4, np.float32), other / np.linalg.norm(other)])


# --- the probe images ------------------------------------------------------------------------


def write_images(
    folder: Path, count: int, *, seed: int = 0, colors: Sequence[str] = PROBE_COLORS
) -> list[str]:
    """Write ``count`` flat images with a little noise, and return their names in order.

    The colours take turns: ``0000_red.png``, ``0001_green.png`` … Each image is mixed with a
    share of gray of its own, so that no two activate a unit equally.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i in range(count):
        color = colors[i % len(colors)]
        strength = rng.uniform(0.6, 1.0)
        flat = 127.5 + strength * (np.array(COLORS[color]) - 127.5)
        pixels = flat + rng.normal(0, 6, size=(16, 16, 3))
        name = f"{i:04d}_{color}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        names.append(name)
    return names


# --- a classifier of colours -----------------------------------------------------------------

CLASSES = ("red", "green", "blue", "cyan")
"""What the four outputs of :class:`TinyNet` mean: the last is redness turned round."""


class CaptionVLM(TinyVLM):
    """Knows a colour also where it stands within a caption."""

    name = "tiny captions"
    fingerprint = "tiny-vlm-captions-1"

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """M captions → (M, 12) unit rows."""
        found = [[word.strip(".,") for word in text.lower().split()] for text in texts]
        known = [next((w for w in words if w in COLORS), words[-1]) for words in found]
        return super().embed_texts(known)


def caption_vlm() -> CaptionVLM:
    """Factory of the VLM that reads captions."""
    return CaptionVLM()


def write_classes(
    folder: Path, each: int = 12, *, classes: Sequence[str] = CLASSES, seed: int = 0
) -> Path:
    """A subfolder for each colour, with so many images in it."""
    for place, name in enumerate(classes):
        write_images(folder / name, each, seed=seed + place, colors=(name,))
    return folder
