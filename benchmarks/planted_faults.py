"""Do the rules for encoder or head find planted faults? The fault is known here.

Two classifiers are damaged, each in its head only or in its encoder only, at several strengths:

``photos``
    EfficientNet-Lite0's encoder (ImageNet weights) and a linear head for coarse groups of the
    1 000 classes (dogs, birds, boats …), over photographs, one of each class, and augmented views.
``cifar``
    A small convolutional network, trained here for some minutes on CIFAR-10.

Only images that the undamaged classifier gets right count: its own errors have no known place. A
*setting* is one fault at one strength; its verdict is that of most of its new errors. The rules
see what a user has: the damaged classifier, labelled reference images as that classifier encodes
them, and a VLM (ConSE). They see neither the undamaged classifier nor what was damaged. Faults of
the input strike the evaluated images; the reference images are clean.

Faults are drawn from ``--seed``; the constants of the rules were chosen on ``--seed 1``, with other
strengths (``--tuning``), before the numbers of seed 0 were looked at.

    python benchmarks/planted_faults.py ../shared/data [--worlds photos cifar] [--cache FOLDER]
"""

import argparse
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES
from PIL import Image
from torch import nn
from torch.nn import functional as nnf
from torchvision import transforms
from torchvision.transforms import functional as ttf

from profiler.activations.observe import Observed
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.memory import keep_freed_memory
from profiler.data.concept_sets import open_concepts
from profiler.debug.encoder_or_head import (
    CorrectedHead,
    Fault,
    FaultRule,
    FreshHead,
    NearestHeatmap,
    Shares,
    Witnesses,
    ZeroShot,
)
from profiler.models.classifier import dead_weights
from profiler.models.subject.sources import lite_model
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import open_vlm

Array = NDArray[Any]
BATCH = 64


def span(first: int, last: int) -> list[int]:
    """``first`` … ``last``, both included."""
    return list(range(first, last + 1))


GROUPS: dict[str, list[int]] = {
    "dog": span(151, 268),
    "bird": [*span(7, 24), *span(80, 100), *span(127, 146)],
    "cat": span(281, 293),
    "reptile": [*span(33, 50), *span(52, 68)],
    "insect": span(300, 326),
    "primate": span(365, 382),
    "hoofed animal": [*span(339, 355)],
    "boat": [403, 449, 472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 871, 914],
    "car or truck": [407, 408, 436, 468, 511, 555, 569, 573, 575, 609, 627, 654, 656, 661, 675, 717,
                     734, 751, 757, 779, 803, 817, 864, 866, 867],
    "musical instrument": [401, 402, 420, 432, 486, 494, 513, 541, 546, 558, 566, 577, 579, 593,
                           594, 641, 642, 683, 684, 687, 699, 776, 822, 875, 881, 889],
    "furniture": [423, 431, 453, 493, 495, 516, 520, 526, 532, 548, 559, 564, 703, 736, 765, 831,
                  857, 861, 894],
    "food": [*span(924, 945), *span(948, 957), 959, *span(962, 965)],
    "building": [410, 415, 425, 437, 442, 467, 483, 497, 498, 500, 580, 582, 624, 663, 668, 698,
                 727, 743, 762, 788, 832, 860, 865, 873, 915],
    "garment": [399, 400, 411, 457, 474, 501, 568, 578, 601, 608, 610, 614, 617, 638, 652, 655, 689,
                697, 735, 775, 834, 841, 842, 869, 887],
}  # fmt: skip
"""Coarse classes by ImageNet index."""

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

VIEWS = {"train": 5, "reference": 4, "evaluation": 2, "unlabelled": 1}
SHARES = {"train": 0.4, "reference": 0.3, "evaluation": 0.3}


# --- pictures --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """Images of one part: (n, 3, H, W) uint8, class (n,) or -1, and the photograph each shows."""

    pixels: torch.Tensor
    truth: Array
    source: Array

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self) -> Iterator[torch.Tensor]:
        """(B, 3, H, W) in [0, 1]."""
        for part in self.pixels.split(BATCH):
            yield part.float().div(255)

    def take(self, rows: Array) -> "Pictures":
        """Some of them."""
        return Pictures(self.pixels[torch.from_numpy(rows)], self.truth[rows], self.source[rows])


def photographs(folder: Path, views: dict[str, int], limit: int) -> dict[str, Pictures]:
    """The parts, disjoint by photograph; view 0 is the centre, the others are crops and flips."""
    files = sorted(folder.iterdir())
    rng = np.random.default_rng(0)
    parts: dict[str, list[tuple[int, int]]] = {name: [] for name in views}
    grouped = {index for members in GROUPS.values() for index in members}
    parts["unlabelled"] = [(i, -1) for i in range(len(files)) if i not in grouped]
    for label, members in enumerate(GROUPS.values()):
        order = rng.permutation(members)[: limit or None].tolist()
        cuts = np.cumsum([round(share * len(order)) for share in SHARES.values()])[:-1]
        for name, chosen in zip(SHARES, np.split(np.array(order), cuts), strict=True):
            parts[name] += [(int(i), label) for i in chosen]
    crop = transforms.RandomResizedCrop(224, scale=(0.5, 1), ratio=(0.8, 1.25))
    made = {}
    for name, chosen_ in parts.items():
        pixels, truth, source = [], [], []
        for index, label in chosen_:
            with Image.open(files[index]) as file:
                image = file.convert("RGB")
            for view in range(views[name]):
                torch.manual_seed(1000 * index + view)
                shown = ttf.center_crop(ttf.resize(image, 256), [224, 224]) if not view else None
                if shown is None:
                    shown = ttf.hflip(crop(image)) if view % 2 else crop(image)
                pixels.append(ttf.pil_to_tensor(shown))
                truth.append(label)
                source.append(index)
        made[name] = Pictures(torch.stack(pixels), np.array(truth), np.array(source))
    return made


def cifar(folder: Path, sizes: dict[str, int]) -> dict[str, Pictures]:
    """The parts: train and reference out of the training archive, evaluation out of the other."""

    def read(archive: str) -> tuple[torch.Tensor, Array]:
        pixels, truth = [], []
        with tarfile.open(folder / archive) as tar:
            for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
                content = tar.extractfile(member)
                assert content is not None
                with Image.open(io.BytesIO(content.read())) as image:
                    pixels.append(ttf.pil_to_tensor(image.convert("RGB")))
                truth.append(CIFAR.index(member.name.split("/")[-2]))
        return torch.stack(pixels), np.array(truth)

    (many, labels), (others, truths) = read("cifar10-train.tar"), read("cifar10-test.tar")
    order = np.random.default_rng(0).permutation(len(many))
    cut = sizes["reference"]
    second = np.random.default_rng(1).permutation(len(others))[: sizes["evaluation"]]
    chosen = {"reference": order[:cut], "train": order[cut : cut + sizes["train"]]}
    made = {
        name: Pictures(many[torch.from_numpy(rows)], labels[rows], rows)
        for name, rows in chosen.items()
    }
    made["evaluation"] = Pictures(others[torch.from_numpy(second)], truths[second], second)
    return made


# --- classifiers -----------------------------------------------------------------------------


class Encoder(nn.Module):
    """A network in two halves; faults of the weights strike the second.

    ``front`` maps images in [0, 1] to maps, ``tail`` these to encodings z (B, f).
    """

    def __init__(self, front: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.front, self.tail = front, tail

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, f)."""
        encoded: torch.Tensor = self.tail(self.front(images))
        return encoded


class Normalise(nn.Module):
    """From [0, 1] to what the network was trained on."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → the same shape."""
        normal = (images - self.mean) / self.std
        return normal.contiguous(memory_format=torch.channels_last)


def lite0() -> Encoder:
    """EfficientNet-Lite0 without its classifier."""
    net = lite_model("efficientnet_lite0").model.eval().to(memory_format=torch.channels_last)
    front = nn.Sequential(Normalise(0.498, 0.502), net.conv_stem, net.bn1, *net.blocks[:5])
    tail = nn.Sequential(*net.blocks[5:], net.conv_head, net.bn2, net.global_pool)
    return Encoder(front, tail).requires_grad_(False)


def small_net() -> Encoder:
    """Seven convolutions for images of 32 × 32, not trained."""

    def step(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    front = nn.Sequential(
        Normalise(0.47, 0.25), step(3, 32, 1), step(32, 64, 2), step(64, 64, 1), step(64, 128, 2)
    )
    tail = nn.Sequential(
        step(128, 128, 1), step(128, 256, 2), step(256, 256, 1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip
    return Encoder(front, tail)


def train_small_net(pictures: Pictures, epochs: int) -> tuple[Encoder, Array, Array]:
    """SGD with flips and shifts; the encoder, and the head's weights (C, f) and biases (C,)."""
    torch.manual_seed(0)
    encoder, head = small_net().to(memory_format=torch.channels_last), nn.Linear(256, len(CIFAR))
    net = nn.Sequential(encoder, head).train()
    truth = torch.from_numpy(pictures.truth)
    steps = epochs * (len(truth) // 128)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(truth))
        for rows in order[: len(truth) // 128 * 128].split(128):
            images = pictures.pixels[rows].float().div(255)
            down, right = torch.randint(0, 9, (2,)).tolist()
            images = nnf.pad(images, (4, 4, 4, 4))[..., down : down + 32, right : right + 32]
            turned = torch.rand(len(rows)) < 0.5
            images[turned] = images[turned].flip(3)
            with torch.autocast("cpu", torch.bfloat16):
                loss = nnf.cross_entropy(net(images), truth[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}", flush=True)
    net.eval().requires_grad_(False)
    return encoder, head.weight.numpy().astype(np.float64), head.bias.numpy().astype(np.float64)


def fit_head(z: Array, truth: Array, classes: int, decay: float = 1e-3) -> tuple[Array, Array]:
    """Multinomial logistic regression; weights (C, f) and biases (C,)."""
    features, labels = torch.from_numpy(z).double(), torch.from_numpy(truth)
    head = nn.Linear(z.shape[1], classes).double()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=150, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nnf.cross_entropy(head(features), labels) + decay * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return head.weight.detach().numpy(), head.bias.detach().numpy()


# --- what an encoder gives -------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What an encoder gives for n images.

    Attributes:
        z: (n, f) encodings.
        drift: (n, B) in each of B batch normalisations: the mean over channels of
            ((mean over the map − running mean) / running deviation)². On images like those it was
            trained on, by an undamaged encoder, at most about 1: a mean varies less than what it is
            the mean of.
    """

    z: Array
    drift: Array

    def take(self, rows: Array) -> "Seen":
        """Some of them."""
        return Seen(self.z[rows], self.drift[rows])


@contextmanager
def watched(net: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The drift of each batch normalisation, (B,) a run, in the order in which they run."""
    found: list[torch.Tensor] = []

    def hook(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        mean: Any = norm.running_mean
        var: Any = norm.running_var
        found.append(((inputs[0].mean((2, 3)) - mean).square() / (var + 1e-5)).mean(1))

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(hook) for norm in norms]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def run(net: nn.Module, batches: Iterator[torch.Tensor]) -> tuple[torch.Tensor, Array]:
    """What a network gives for all batches, and its drift."""
    outputs, drifts = [], []
    with watched(net) as found:
        for batch in batches:
            outputs.append(net(batch))
            drifts.append(torch.stack(found, 1))
            found.clear()
    return torch.cat(outputs), torch.cat(drifts).numpy()


# --- faults ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """One setting: what is damaged, how, how much, and the seed of the damage."""

    place: str
    """``head``, ``weights`` or ``input``; the last two are the encoder's."""
    kind: str
    strength: float
    seed: int

    @property
    def name(self) -> str:
        """As the tables print it."""
        return f"{self.kind} {self.strength:g}"

    @property
    def rng(self) -> np.random.Generator:
        """The same for the same setting."""
        digest = hashlib.sha256(f"{self.kind} {self.strength} {self.seed}".encode()).digest()
        return np.random.default_rng(list(digest[:8]))


STRENGTHS: dict[str, dict[str, tuple[list[float], list[float]]]] = {
    # Reported, and for tuning. Shares are of classes or channels.
    "head": {
        "rows swapped": ([0.15, 0.3, 0.5, 1.0], [0.2, 0.4, 0.7]),
        "rows scaled": ([0.3, 0.5, 2.0, 3.0], [0.4, 0.6, 2.5]),
        "rows noised": ([1.0, 2.0, 4.0, 8.0], [1.5, 3.0, 6.0]),
        "labels changed": ([0.15, 0.3, 0.5, 0.7], [0.2, 0.4, 0.6]),
        "bias shifted": ([0.5, 1.0, 2.0, 4.0], [0.75, 1.5, 3.0]),
    },
    "weights": {
        "late weights noised": ([0.3, 0.4, 0.6, 0.8, 1.2], [0.5, 1.0]),
        "last weights noised": ([0.5, 1.0, 2.0, 3.0], [0.7, 1.5, 2.5]),
        "channels dropped": ([0.1, 0.2, 0.3, 0.5], [0.15, 0.25, 0.4]),
        "last channels dropped": ([0.3, 0.5, 0.7, 0.9], [0.4, 0.6, 0.8]),
    },
    "input": {
        "blurred": ([0.5, 1.0, 1.5, 2.0], [0.75, 1.25, 1.75]),
        "noised": ([0.05, 0.1, 0.2, 0.3], [0.07, 0.15, 0.25]),
        "occluded": ([0.3, 0.45, 0.6, 0.75], [0.35, 0.5, 0.65]),
        "PGD": ([1.0, 2.0, 4.0], [3.0]),
    },
}
"""Strengths by kind; what they mean stands at the functions below."""
INPUT_IMAGES = 160
PGD_IMAGES = 64
"""Evaluation images that are run through the whole network, and so many times."""
UNITS = {
    "photos": {"blurred": 3.0, "late weights noised": 0.5, "channels dropped": 0.1},
    "cifar": {"blurred": 0.7},
}
"""What strength 1 is, where the two classifiers are not alike: pixels of blur; deeper networks
magnify a fault of many layers."""


def faults(seed: int, tuning: bool) -> list[Planted]:
    """All settings, of the reported strengths or of those for tuning."""
    return [
        Planted(place, kind, strength, seed)
        for place, kinds in STRENGTHS.items()
        for kind, strengths in kinds.items()
        for strength in strengths[tuning]
    ]


def damaged_head(
    fault: Planted, weights: Array, bias: Array, train: tuple[Array, Array]
) -> tuple[Array, Array]:
    """The head's weights (C, f) and biases (C,) with a fault."""
    rng, count = fault.rng, len(weights)
    weights, bias = weights.copy(), bias.copy()
    if fault.kind == "rows swapped":  # strength: share of the rows, moved round in a circle
        circle = rng.permutation(count)[: max(2, round(fault.strength * count))]
        weights[circle], bias[circle] = weights[np.roll(circle, 1)], bias[np.roll(circle, 1)]
    elif fault.kind == "rows scaled":  # strength: factor, on a third of the rows
        chosen = rng.permutation(count)[: round(count / 3)]
        weights[chosen] *= fault.strength
    elif fault.kind == "rows noised":  # strength: in standard deviations of the weights
        weights += fault.strength * weights.std() * rng.normal(size=weights.shape)
    elif fault.kind == "labels changed":  # strength: share of the images of a third of the classes
        features, labels = train
        labels = labels.copy()
        for one in rng.permutation(count)[: round(count / 3)]:
            other = rng.choice([c for c in range(count) if c != one])
            labels[(labels == one) & (rng.random(len(labels)) < fault.strength)] = other
        return fit_head(features, labels, count)
    elif fault.kind == "bias shifted":  # strength: standard deviation
        bias += fault.strength * rng.normal(size=count)
    else:
        raise ValueError(fault.kind)
    return weights, bias


@contextmanager
def damaged_weights(fault: Planted, tail: nn.Module, unit: float) -> Iterator[None]:
    """The second half of an encoder with a fault, put right afterwards."""
    kept = {name: value.clone() for name, value in tail.state_dict().items()}
    torch.manual_seed(int(fault.rng.integers(2**31)))
    convolutions = [m for m in tail.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in tail.modules() if isinstance(m, nn.BatchNorm2d)]
    only_last = fault.kind.startswith("last ")
    try:
        with torch.no_grad():
            if fault.kind.endswith("weights noised"):  # strength: in standard deviations
                for layer in convolutions[-1:] if only_last else convolutions:
                    spread = unit * fault.strength * layer.weight.std()
                    layer.weight += spread * torch.randn_like(layer.weight)
            else:  # strength: share of the channels that give a constant 0
                for norm in norms[-1:] if only_last else norms[:-1]:
                    dead = torch.rand(norm.num_features) < unit * fault.strength
                    norm.weight[dead], norm.bias[dead] = 0.0, 0.0
        yield
    finally:
        tail.load_state_dict(kept)


def damaged_input(
    fault: Planted,
    pictures: Pictures,
    classify: Callable[[torch.Tensor], torch.Tensor],
    unit: float,
) -> Pictures:
    """Images with a fault, rounded to whole numbers as files are."""
    torch.manual_seed(int(fault.rng.integers(2**31)))
    side, done = pictures.pixels.shape[-1], []
    for images, truth in zip(
        pictures.batches(), torch.from_numpy(pictures.truth).split(BATCH), strict=True
    ):
        if fault.kind == "blurred":  # strength: standard deviation, in UNITS
            sigma = fault.strength * unit
            changed = ttf.gaussian_blur(images, [2 * int(3 * sigma) + 1] * 2, [sigma, sigma])
        elif fault.kind == "noised":  # strength: standard deviation of full range
            changed = images + fault.strength * torch.randn_like(images)
        elif fault.kind == "occluded":  # strength: side of a gray square, of the image's
            changed, edge = images.clone(), round(fault.strength * side)
            for picture in changed:
                top, left = torch.randint(0, side - edge + 1, (2,)).tolist()
                picture[:, top : top + edge, left : left + edge] = 0.5
        else:  # strength: ε in 1/255 (Madry et al., ICLR 2018), four steps
            changed = _pgd(images, truth, classify, fault.strength / 255)
        done.append((changed.clamp(0, 1) * 255).round().to(torch.uint8))
    return Pictures(torch.cat(done), pictures.truth, pictures.source)


def _pgd(
    images: torch.Tensor,
    truth: torch.Tensor,
    classify: Callable[[torch.Tensor], torch.Tensor],
    radius: float,
    steps: int = 4,
) -> torch.Tensor:
    shift = torch.zeros_like(images)
    for _ in range(steps):
        shift.requires_grad_(True)
        loss = nnf.cross_entropy(classify(images + shift), truth)
        (slope,) = torch.autograd.grad(loss, shift)
        with torch.no_grad():
            shift = (shift + radius / 2 * slope.sign()).clamp(-radius, radius)
    return images + shift.detach()


# --- worlds and cases ------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """An undamaged classifier, and the images it is tried on."""

    name: str
    classes: list[str]
    encoder: Encoder
    weights: Array
    bias: Array
    parts: dict[str, Pictures]
    train: tuple[Array, Array]
    """Encodings and classes the head was fitted on."""
    halfway: dict[str, tuple[torch.Tensor, Array]]
    """What the front half gives for reference, evaluation and unlabelled images; its drift."""
    vlm: dict[str, Array]
    """VLM embeddings of the same images."""
    clean: dict[str, Seen]
    """What the undamaged encoder gives for them."""

    def encode(self, part: str) -> Seen:
        """By the encoder as it is now; only the second half runs."""
        return second_half(self.encoder, *self.halfway[part])

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → logits (B, C) of the undamaged classifier."""
        head = torch.from_numpy(self.weights).float(), torch.from_numpy(self.bias).float()
        return nnf.linear(self.encoder(images), *head)


@dataclass(frozen=True)
class Case:
    """What one setting gives: the damaged classifier on all parts.

    ``new`` are the rows of the evaluation images that only the damaged classifier gets wrong;
    ``vlm`` holds their embeddings.
    """

    fault: Planted
    weights: Array
    bias: Array
    reference: Seen
    unlabelled: Seen
    evaluation: Seen
    truth: Array
    predicted: Array
    new: Array
    vlm: Array
    before: float
    after: float


def second_half(encoder: Encoder, maps: torch.Tensor, drift: Array) -> Seen:
    """Go on from what the front half gave."""
    z, further = run(encoder.tail, (m.float() for m in maps.split(BATCH)))
    return Seen(z.numpy(), np.concatenate([drift, further], axis=1))


def embed(vlm: VLM, pictures: Pictures) -> Array:
    """(n, e) VLM embeddings."""
    side = 260  # what ConSE's classifier reads

    def one(images: torch.Tensor) -> torch.Tensor:
        large = nnf.interpolate(images, (side, side), mode="bicubic", antialias=True)
        return vlm.embed_images((large.clamp(0, 1) - 0.498) / 0.502)

    with torch.inference_mode():
        found = [one(images) for images in pictures.batches()]
    return torch.cat(found).numpy() if found else np.zeros((0, 384), np.float32)


def build_world(name: str, data: Path, vlm: VLM, sizes: argparse.Namespace) -> World:
    """Read the images, fit the head (or the whole network), and encode what will be needed."""
    if name == "photos":
        parts = photographs(data / "imagenet-sample", VIEWS, sizes.limit)
        encoder, classes = lite0(), list(GROUPS)
        z, _ = run(encoder, parts["train"].batches())
        train = z.numpy(), parts["train"].truth
        weights, bias = fit_head(*train, len(classes))
    else:
        counts = {part: getattr(sizes, part) for part in ("train", "reference", "evaluation")}
        parts, classes = cifar(data, counts), list(CIFAR)
        encoder, weights, bias = train_small_net(parts["train"], sizes.epochs)
        z, _ = run(encoder, parts["train"].batches())
        train = z.numpy(), parts["train"].truth
    known = [part for part in ("reference", "unlabelled", "evaluation") if part in parts]
    halfway = {}
    for part in known:
        maps, drift = run(encoder.front, parts[part].batches())
        halfway[part] = maps.half(), drift
    seen = {part: embed(vlm, parts[part]) for part in known}
    clean = {part: second_half(encoder, *halfway[part]) for part in known}
    return World(name, classes, encoder, weights, bias, parts, train, halfway, seen, clean)


def make_case(world: World, fault: Planted, vlm: VLM) -> Case:
    """Damage the classifier or the images, and see what it gives."""
    pictures = world.parts["evaluation"]
    truth, rows = pictures.truth, np.arange(len(pictures))
    weights, bias, seen = world.weights, world.bias, world.clean
    unit = UNITS[world.name].get(fault.kind, 1.0)
    right = (seen["evaluation"].z @ weights.T + bias).argmax(1) == truth
    if fault.place == "head":
        weights, bias = damaged_head(fault, weights, bias, world.train)
    elif fault.place == "weights":
        with damaged_weights(fault, world.encoder.tail, unit):
            # The map has fewer images here: half of the time of a setting would go into them.
            seen = {part: world.encode(part) for part in ("reference", "evaluation")}
    else:
        images = PGD_IMAGES if fault.kind == "PGD" else INPUT_IMAGES
        rows = np.random.default_rng(0).permutation(len(rows))[:images]
        pictures = pictures.take(rows)
        pictures = damaged_input(fault, pictures, world.classify, unit)
        z, drift = run(world.encoder, pictures.batches())
        seen = {**seen, "evaluation": Seen(z.numpy(), drift)}
    found = seen["evaluation"]
    predicted = (found.z @ weights.T + bias).argmax(1)
    new = np.flatnonzero(right[rows] & (predicted != truth[rows]))
    given = world.vlm["evaluation"]
    return Case(
        fault,
        weights,
        bias,
        seen["reference"],
        seen.get("unlabelled", seen["reference"].take(np.zeros(0, np.int64))),
        found,
        truth[rows],
        predicted,
        new,
        embed(vlm, pictures.take(new)) if fault.place == "input" else given[new],
        float(right[rows].mean()),
        float((predicted == truth[rows]).mean()),
    )


# --- the rules, tried ------------------------------------------------------------------------


@dataclass(frozen=True)
class Texts:
    """Captions of the classes and of further concepts: (M, T, e) each."""

    names: list[str]
    classes: Array
    further_names: list[str]
    further: Array


def dead_of(world: World, fault: Planted) -> dict[str, float]:
    """Dead weights of the encoder's second half, on the reference images."""
    with ExitStack() as stack:
        if fault.place == "weights":
            unit = UNITS[world.name].get(fault.kind, 1.0)
            stack.enter_context(damaged_weights(fault, world.encoder.tail, unit))
        maps = (part.float() for part in world.halfway["reference"][0].split(BATCH))
        return dead_weights(world.encoder.tail, maps)


def texts_of(world: World, vlm: VLM) -> Texts:
    """Captions of the classes, and of one in 25 of the words of the set "visual"."""
    words = [word for word in open_concepts("visual").words if word not in world.classes][::25]

    def captions(names: list[str]) -> Array:
        filled = [template(name) for name in names for template in SIMPLE_IMAGENET_TEMPLATES]
        return vlm.embed_texts(filled).reshape(len(names), len(SIMPLE_IMAGENET_TEMPLATES), -1)

    return Texts(world.classes, captions(world.classes), words, captions(words))


def map_of(world: World, case: Case) -> AffineMap:
    """Fitted on the reference images, and on those without labels where they were encoded."""
    z, v, source = case.reference.z, world.vlm["reference"], world.parts["reference"].source
    if len(case.unlabelled.z):
        z = np.concatenate([z, case.unlabelled.z])
        v = np.concatenate([v, world.vlm["unlabelled"]])
        source = np.concatenate([source, world.parts["unlabelled"].source])
    return AffineMap().fit(z, v, source)


class ClassMean:
    """The nearest mean of r(z) over the right answers of each class.

    The captions of :class:`ZeroShot` give way to images, so neither the VLM's knowledge of the
    class names nor the gap between texts and images matters. A class without right answers is
    represented by all its labelled images.
    """

    name = "class-mean"

    def __init__(self, aligned: AffineMap, classes: int) -> None:
        self.aligned = aligned
        self.classes = classes

    def fit(self, reference: Observed) -> Self:
        """Learn the means (C, e); NaN for a class without images."""
        mapped = reference.features @ self.aligned.matrix_.T + self.aligned.offset_
        self.means = np.full((self.classes, mapped.shape[1]), np.nan)
        for label in np.unique(reference.truth):
            own = reference.truth == label
            right = own & ~reference.wrong
            self.means[label] = mapped[right if right.any() else own].mean(axis=0)
        return self

    def locate(self, errors: Observed) -> Array:
        """(k,) verdicts; undetermined where the true class has no reference images."""
        mapped = errors.features @ self.aligned.matrix_.T + self.aligned.offset_
        squares = np.sum(self.means**2, axis=1) - 2 * mapped @ self.means.T
        squares[:, np.isnan(self.means[:, 0])] = np.inf
        found = np.where(squares.argmin(axis=1) == errors.truth, Fault.HEAD, Fault.ENCODER)
        known = np.isfinite(self.means[errors.truth, 0])
        return np.where(known, found, Fault.UNDETERMINED).astype(np.int8)


def judge(
    world: World, texts: Texts, case: Case, aligned: AffineMap, inner: dict[str, float]
) -> dict[str, Array]:
    """Each rule's verdicts on the new errors of a case."""
    pictures, count = world.parts["reference"], len(world.classes)
    reference = Observed(
        case.reference.z,
        pictures.truth,
        (case.reference.z @ case.weights.T + case.bias).argmax(1),
        case.reference.z @ case.weights.T + case.bias,
        drift=case.reference.drift.max(1),
        groups=pictures.source,
    )
    errors = Observed(
        case.evaluation.z[case.new],
        case.truth[case.new],
        case.predicted[case.new],
        case.evaluation.z[case.new] @ case.weights.T + case.bias,
        embeddings=case.vlm,
        drift=case.evaluation.drift[case.new].max(1),
    )
    classes = ConceptSpace.of(texts.names, texts.classes, aligned)
    concepts = ConceptSpace.of(
        [*texts.names, *texts.further_names],
        np.concatenate([texts.classes, texts.further]),
        aligned,
    )
    rules: list[FaultRule] = [
        ZeroShot(classes),
        NearestHeatmap(concepts, count),
        ClassMean(aligned, count),
        FreshHead(count),
        CorrectedHead(count),
        Witnesses(count, case.weights, inner),
    ]
    return {rule.name: rule.fit(reference).locate(errors) for rule in rules}


@dataclass(frozen=True)
class Judged:
    """A setting and each rule's verdicts on its new errors."""

    fault: Planted
    before: float
    after: float
    verdicts: dict[str, Array]
    r2: float

    @property
    def due(self) -> Fault:
        """The right answer."""
        return Fault.HEAD if self.fault.place == "head" else Fault.ENCODER

    @property
    def counts(self) -> bool:
        """Whether accuracy fell by ten points or more."""
        return self.before - self.after >= 0.0999


PLACES = {"head": ("head",), "encoder": ("weights", "input"), "weights": ("weights",),
          "input": ("input",)}  # fmt: skip


def report(world: str, judged: Sequence[Judged]) -> None:
    """Print what was found, setting by setting and in all."""
    rules = list(judged[0].verdicts)
    print(f"\n### {world}: share of new errors localized rightly; for zero-shot of those decided\n")
    print("| place | fault | accuracy | new errors | R² | " + " | ".join(rules) + " |")
    print("| --- | --- | ---: | ---: | ---: |" + " ---: |" * len(rules))
    for each in judged:
        cells = []
        for verdicts in each.verdicts.values():
            decided = verdicts[verdicts != Fault.UNDETERMINED]
            cells.append(f"{np.mean(decided == each.due):.2f}" if len(decided) else "–")
        size = len(next(iter(each.verdicts.values())))
        print(
            f"| {each.fault.place} | {each.fault.name} | {each.before:.3f} → {each.after:.3f} | "
            f"{size} | {each.r2:.2f} | " + " | ".join(cells) + " |"
        )
    print(f"\n### {world}: settings that cost ten points of accuracy or more\n")
    print("| rule | fault of | settings | rightly | images | head | encoder | undetermined | "
          "rightly, of decided |")  # fmt: skip
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rule in rules:
        for name, places in PLACES.items():
            own = [each for each in judged if each.counts and each.fault.place in places]
            if not own:
                continue
            total = sum((Shares.of(each.verdicts[rule]) for each in own), Shares())
            hits = sum(Shares.of(each.verdicts[rule]).verdict == each.due for each in own)
            good = total.head if own[0].due == Fault.HEAD else total.encoder
            print(
                f"| {rule} | {name} | {len(own)} | {hits / len(own):.0%} | {total.images} | "
                f"{total.head / total.images:.1%} | {total.encoder / total.images:.1%} | "
                f"{total.undetermined / total.images:.1%} | {good / max(total.decided, 1):.1%} |"
            )


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Made once; ``path`` is this benchmark's own, so its pickles are trusted."""
    if not path.exists():
        value = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        torch.save(value, temporary)
        temporary.replace(path)
        return value
    return torch.load(path, weights_only=False)


def main() -> None:
    """Make every setting, or read it from the cache, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="holds imagenet-sample and the CIFAR-10 archives")
    parser.add_argument("--worlds", nargs="+", default=["photos", "cifar"])
    parser.add_argument("--places", nargs="+", default=["head", "weights", "input"])
    parser.add_argument("--tuning", action="store_true", help="other strengths, for choosing rules")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0, help="photographs a group; 0: all")
    parser.add_argument("--train", type=int, default=40_000, help="images of CIFAR-10")
    parser.add_argument("--reference", type=int, default=1000, help="images of CIFAR-10")
    parser.add_argument("--evaluation", type=int, default=400, help="images of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "planted-faults"))
    chosen = parser.parse_args()

    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    vlm = open_vlm("conse:objects", torch.device("cpu"))
    sizes = [chosen.limit, chosen.train, chosen.reference, chosen.evaluation, chosen.epochs]
    for name in chosen.worlds:
        folder = chosen.cache / "-".join(map(str, [name, *sizes]))
        world = kept(folder / "world", lambda n=name: build_world(n, chosen.data, vlm, chosen))
        texts = texts_of(world, vlm)
        judged: list[Judged] = []
        healthy: AffineMap | None = None
        for fault in faults(chosen.seed, chosen.tuning):
            if fault.place not in chosen.places:
                continue
            place = f"{fault.place} {fault.name} {fault.seed}".replace(" ", "-")
            case = kept(folder / place, lambda w=world, f=fault: make_case(w, f, vlm))
            if fault.place == "weights" or healthy is None:
                aligned = map_of(world, case)
            if fault.place != "weights":
                # The reference images are the same for all of these.
                aligned = healthy = healthy or aligned
            # The encoder is the same, and in order, for all faults of head and input.
            dead = place if fault.place == "weights" else "healthy"
            inner = kept(folder / f"{dead}-dead", lambda w=world, f=fault: dead_of(w, f))
            if len(case.new):
                verdicts = judge(world, texts, case, aligned, inner)
                judged.append(Judged(fault, case.before, case.after, verdicts, aligned.r2_))
        report(name, judged)


if __name__ == "__main__":
    main()
