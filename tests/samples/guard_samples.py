"""A guard of the hand-made classifier of colours, and images some of which it gets wrong."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import CLASSES, COLORS, SIDE, CaptionVLM, tiny_subject

from profiler.activations.observe import Observation, caption_rows
from profiler.guard.fit import GuardOptions, make_guard
from profiler.guard.guard import Context, Guard
from profiler.models.classifier import Classifier
from profiler.models.subject.network import weights_digest

WORDS = ("red", "green", "blue", "yellow", "cyan", "magenta")


def colors_of(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) colours in [0, 1] and their classes: a fifth is mixed half and half with another's."""
    rng = np.random.default_rng(seed)
    base = np.array([COLORS[name] for name in CLASSES]) / 255
    truth = rng.integers(0, 4, n)
    other = (truth + rng.integers(1, 4, n)) % 4
    share = np.where(rng.random(n) < 0.2, rng.uniform(0.4, 0.65, n), rng.uniform(0, 0.15, n))
    mixed = (1 - share)[:, None] * base[truth] + share[:, None] * base[other]
    return np.clip(mixed + rng.normal(0, 0.04, (n, 3)), 0, 1), truth


def images_of(colors: np.ndarray) -> torch.Tensor:
    """(n, 3, 8, 8) flat images."""
    flat = torch.from_numpy(colors).float()
    return flat[:, :, None, None].expand(-1, -1, SIDE, SIDE).contiguous()


def observed(n: int, seed: int) -> Observation:
    """What classifier and VLM make of such images."""
    colors, truth = colors_of(n, seed)
    images = images_of(colors)
    classifier = Classifier.find(tiny_subject())
    halves = classifier.read(classifier.readings, images)
    logits = halves["logits"].numpy()
    return Observation(
        halves["features"].numpy(),
        truth,
        logits.argmax(axis=1),
        logits,
        CaptionVLM().embed_images(images).numpy(),
        kept=np.arange(n),
        batch_size=n,
    )


def digests(n: int, seed: int = 0) -> list[str]:
    """One an image, all different."""
    return [hashlib.sha256(f"{seed} {row}".encode()).hexdigest() for row in range(n)]


def guard(rule: str = "msp+typicality", **options: object) -> Guard:
    """Made from 800 images."""
    classifier = Classifier.find(tiny_subject())
    context = Context(
        subject="tiny",
        head=classifier.head,
        digest=weights_digest(classifier.subject.model),
        fingerprint=classifier.fingerprint,
        classes=CLASSES,
    )
    made, _ = make_guard(
        observed(800, 0),
        digests(800),
        WORDS,
        caption_rows(CaptionVLM(), WORDS),
        (classifier.weights, classifier.bias),
        context,
        GuardOptions(rule=rule, **options),  # type: ignore[arg-type]
    )
    return made


def write_mixed(folder: Path, n: int, seed: int) -> Path:
    """The same as files, in a folder for each class."""
    colors, truth = colors_of(n, seed)
    rng = np.random.default_rng(seed)
    for row, (color, label) in enumerate(zip(colors, truth, strict=True)):
        pixels = 255 * color + rng.normal(0, 3, size=(16, 16, 3))
        place = folder / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{seed}_{row:04d}.png")
    return folder
