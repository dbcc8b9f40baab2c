# ruff: noqa: E501
"""Made-up diagnoses, seeded, for the tests of their page and for looking at it.

``python tests/samples/debug_samples.py FOLDER [NAME …]`` writes several pages with real photographs.

The heatmaps, differentials and shares are made by the product's own code from small arrays:
strengths (N, M) of M concepts in N images, at both levels, and a true and a predicted class each.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from report_samples import HOSTILE, photograph_thumbnails

from profiler.concepts.heatmap import Differential, Heatmap, Heatmaps
from profiler.data.records import ConceptRecord, DataRecord
from profiler.debug.encoder_or_head import Fault, Localization, Shares
from profiler.debug.result import (
    LEVELS,
    Accuracy,
    Confusion,
    Diagnosis,
    Level,
    MapQuality,
    RuleRecord,
    Told,
    WrongImage,
)
from profiler.models.records import ClassifierRecord, VLMRecord

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CONCEPTS = (
    "long snout", "wings", "wheels", "text", "horns", "floppy ears", "ears", "colored eyes", "tail",
    "mane", "beak", "hairy", "metallic", "rectangular", "wet", "long", "tall", "patterned",
)  # fmt: skip

RULES = ("witnesses", "zero-shot", "heatmap", "class-mean", "fresh-head", "corrected")
"""The first one counts."""

POOR = (
    "on held-out images the linear alignment explains 12% of the variance of the VLM's embeddings "
    "(less than 30%), so concept strengths are unreliable; it is fitted on 40 images, and more may "
    "help"
)


def fake_diagnosis(
    truth: Sequence[int] | None = None,
    predicted: Sequence[int] | None = None,
    *,
    classes: Sequence[str] = CLASSES,
    concepts: Sequence[str] = CONCEPTS,
    strengths: np.ndarray | None = None,
    seed: int = 0,
    a_class: int = 60,
    share: float = 0.15,
    undetermined: float = 0.2,
    explained: int = 400,
    pictures: Mapping[int, bytes] | None = None,
    **changes: Any,
) -> Diagnosis:
    """A classifier of images like these; ``changes`` replace fields of the diagnosis.

    Args:
        truth: (N,) true classes; by default ``a_class`` images of each class.
        predicted: (N,) what the classifier says; by default wrong in ``share`` of the images,
            most often by one or two classes.
        classes: their names.
        concepts: their names.
        strengths: (2, N, M) at the levels of encoder and VLM; by default each class has a
            direction, and the features of errors are half like those of the predicted class.
        seed: of everything.
        a_class: images of a class.
        share: of errors.
        undetermined: share of verdicts.
        explained: wrong images listed, at most.
        pictures: thumbnails by number of the image.
    """
    rng = np.random.default_rng(seed)
    n, width = len(classes), len(concepts)
    true = np.repeat(np.arange(n), a_class) if truth is None else np.asarray(truth, dtype=np.int64)
    if predicted is None:
        shift = np.minimum(rng.geometric(0.5, len(true)), max(n - 1, 1))
        wrong = rng.random(len(true)) < share
        said = np.where(wrong, (true + shift) % n, true)
    else:
        said = np.asarray(predicted, dtype=np.int64)
    if strengths is None:
        look = rng.normal(0, 0.05, (n, width)) + rng.normal(0.2, 0.05, width)
        noise = rng.normal(0, 0.05, (2, len(true), width))
        mixed = np.stack(
            [0.5 * look[true] + 0.5 * look[said], 0.85 * look[true] + 0.15 * look[said]]
        )
        strengths = mixed + noise
    heatmaps = {
        level: Heatmaps.of(rows, true, said, n)
        for level, rows in zip(LEVELS, strengths, strict=True)
    }
    errors = np.flatnonzero(true != said)
    verdicts = _verdicts(rng, len(errors), undetermined)
    rules = {
        name: RuleRecord(_located(name, found, true[errors], said[errors]), reason)
        for (name, found), reason in zip(verdicts.items(), _REASONS, strict=True)
    }
    confusions = _confusions(heatmaps, strengths, true, said, errors, verdicts)
    names = [f"{classes[t]}/{i:05d}.jpg" for i, t in enumerate(true)]
    images = tuple(
        WrongImage(
            int(i), names[i], int(true[i]), int(said[i]), float(rng.uniform(0.4, 1)),
            float(rng.uniform(0, 0.4)),
            {name: Fault(int(found[k])) for name, found in verdicts.items()}, strengths[0, i],
        )
        for k, i in enumerate(errors)
    )[:explained]  # fmt: skip
    examples = {
        int(c): [int(i) for i in np.flatnonzero((true == c) & (said == c))[:6]] for c in range(n)
    }
    confusion = np.zeros((n, n), dtype=np.int64)
    np.add.at(confusion, (true, said), 1)
    fields: dict[str, Any] = {
        "command": "profiler debug cifar.pt --data cifar10/test --out reports/debug",
        "date": "2025-06-01",
        "classifier": ClassifierRecord("cifar-resnet", "cifar.pt, step 700", "32 × 32, mean and deviation of CIFAR-10", "sha256:" + "3f1c9a02" * 8, "fc", 512, n),
        "data": DataRecord("cifar10/test", "sha256:" + "77ab01cd" * 8, len(true), (), ()),
        "vlm": VLMRecord("ConSE: EfficientNet-Lite2 and all-MiniLM-L6-v2", "a photo of a {}.", "ConSE sees the world through 1,000 object names.", "sha256:" + "aa11bb22" * 8),
        "concepts": ConceptRecord("RIVAL10’s attributes", width, "sha256:" + "cc33dd44" * 8, 0),
        "words": tuple(concepts),
        "classes": tuple(classes),
        "change": "",
        "before": Accuracy(int((true == said).sum()), len(true)),
        "confusion": confusion,
        "quality": MapQuality(0.61, 0.01, 5000, "", Accuracy(int(0.7 * len(true)), len(true)), Accuracy(int(0.8 * len(true)), len(true))),
        "heatmaps": heatmaps,
        "rules": rules,
        "rule": RULES[0],
        "confusions": confusions,
        "images": images,
        "thumbnails": pictures or {},
        "examples": examples,
        "told": Told(f"Of {len(true):,} images {len(errors):,} are misclassified.", "a fixed template"),
        "settings": {"seed": 0},
        "versions": {"profiler": "0.1.0", "torch": "2.5.1"},
        "timings": {"images": 12.3, "map": 1.2},
    }  # fmt: skip
    fields.update(changes)
    return Diagnosis(**fields)


_REASONS = ("", "", "", "", "the reference images are too few for a new head", "")


def _verdicts(rng: np.random.Generator, errors: int, undetermined: float) -> dict[str, np.ndarray]:
    found = {}
    for place, name in enumerate(RULES):
        head = 0.3 + 0.08 * place
        shares = [head * (1 - undetermined), (1 - head) * (1 - undetermined), undetermined]
        found[name] = rng.choice(3, errors, p=shares).astype(np.int8)
    found["fresh-head"][:] = Fault.UNDETERMINED
    return found


def _located(
    name: str, verdicts: np.ndarray, true: np.ndarray, predicted: np.ndarray
) -> Localization:
    pairs = {}
    for t, p in sorted(set(zip(true.tolist(), predicted.tolist(), strict=True))):
        pairs[t, p] = Shares.of(verdicts[(true == t) & (predicted == p)])
    return Localization(name, verdicts, dict(sorted(pairs.items(), key=lambda kv: -kv[1].images)))


def _confusions(
    heatmaps: Mapping[Level, Any],
    strengths: np.ndarray,
    true: np.ndarray,
    said: np.ndarray,
    errors: np.ndarray,
    verdicts: Mapping[str, np.ndarray],
) -> tuple[Confusion, ...]:
    found = []
    for t, p in sorted(set(zip(true[errors].tolist(), said[errors].tolist(), strict=True))):
        own = (true == t) & (said == p)
        wrong: dict[Level, Heatmap] = {}
        differential: dict[Level, Differential | None] = {}
        for level, rows in zip(LEVELS, strengths, strict=True):
            made = Heatmap.of(rows[own])
            assert made is not None
            wrong[level] = made
            right = heatmaps[level].summary(label=t, right=True)
            differential[level] = None if right is None else Differential(right, made)
        shares = {name: Shares.of(each[own[errors]]) for name, each in verdicts.items()}
        told = Told(
            f"{int(own.sum())} images of class {t} were classified as {p}.", "a fixed template"
        )
        found.append(Confusion(t, p, int(own.sum()), wrong, differential, shares, told))
    return tuple(sorted(found, key=lambda confusion: -confusion.errors))


def of_two(errors: int = 30, right: int = 60) -> Diagnosis:
    """Two classes, three concepts, and a planted reason.

    In correct predictions sea > sand; where a ship is classified as a beach, sand > sea. Grass is
    below both, in all images. The VLM sees the sea in all of them.
    """
    true = np.array([0] * right + [0] * errors + [1] * right)
    said = np.array([0] * right + [1] * errors + [1] * right)
    sea, sand, grass = 0.4, 0.3, 0.1
    encoder = np.tile([sea, sand, grass], (len(true), 1))
    encoder[(true == 0) & (said == 1)] = [sand, sea, grass]
    vlm = np.tile([sea, sand, grass], (len(true), 1))
    return fake_diagnosis(
        true.tolist(),
        said.tolist(),
        classes=("ship", "beach"),
        concepts=("sea", "sand", "grass"),
        strengths=np.stack([encoder, vlm]),
    )


def many_classes(images: int = 1, count: int = 1000) -> Diagnosis:
    """As many classes, few images of each, every third one wrong."""
    rng = np.random.default_rng(3)
    true = np.repeat(np.arange(count), images)
    wrong = rng.random(len(true)) < 1 / 3
    said = np.where(wrong, (true + rng.integers(1, count, len(true))) % count, true)
    # Some confusions are seen more than once.
    said[:4], said[4] = [1, 2, 1, 1], 5
    names = [f"class {i:04d}" for i in range(count)]
    return fake_diagnosis(true.tolist(), said.tolist(), classes=names)


def attacked() -> Diagnosis:
    """Images changed by an adversary; most were right before."""
    found = fake_diagnosis(share=0.45, change="PGD, ε = 8/255 in ℓ∞, 10 steps of 2/255")
    return replace(found, before=Accuracy(570, 600))


def lopsided() -> Diagnosis:
    """Frogs are never misclassified; deer always are; one bird is classified as a frog."""
    true = [6] * 30 + [4] * 20 + [2] * 20 + [3] * 40
    return fake_diagnosis(true, [6] * 30 + [5] * 20 + [2] * 19 + [6] + [3] * 25 + [5] * 15)


def poor() -> Diagnosis:
    """The linear alignment misses most of the variance of the VLM's embeddings."""
    found = fake_diagnosis(a_class=8, share=0.4, warnings=("The " + POOR,))
    return replace(found, quality=replace(found.quality, r2=0.12, images=40, warning=POOR))


LONG = "a class with a very long name indeed"

SAMPLES: Mapping[str, Callable[[], Diagnosis]] = {
    "ten": lambda: fake_diagnosis(a_class=400, share=0.12),
    "clean": lambda: fake_diagnosis(share=0.0),
    "attacked": attacked,
    "lopsided": lopsided,
    "two-concepts": lambda: fake_diagnosis(concepts=("wings", "wheels")),
    "two": of_two,
    "hundred": lambda: fake_diagnosis(
        concepts=[f"attribute {i}" for i in range(100)], classes=CLASSES[:4]
    ),
    "many": many_classes,
    "poor": poor,
    "undetermined": lambda: fake_diagnosis(undetermined=1.0),
    "fourteen": lambda: fake_diagnosis(classes=[*CLASSES, LONG, "cow", "pig", "fox"], a_class=30),
}
"""What the page has to cope with."""


if __name__ == "__main__":
    import time

    from profiler.debug.view import render_debug

    folder = Path(sys.argv[1])
    _, thumbnails = photograph_thumbnails()
    for kind, made in SAMPLES.items():
        if len(sys.argv) > 2 and kind not in sys.argv[2:]:
            continue
        diagnosis = made()
        wanted = [image.image for image in diagnosis.images]
        wanted += [i for each in diagnosis.examples.values() for i in each]
        shown = {i: thumbnails[i % len(thumbnails)] for i in wanted} if thumbnails else {}
        start = time.perf_counter()
        html = render_debug(replace(diagnosis, thumbnails=shown))
        print(f"{kind}: {time.perf_counter() - start:.2f} s, {len(html.encode()) / 1e6:.2f} MB")
        (folder / f"{kind}.html").write_text(html, encoding="utf-8")


def hostile_diagnosis() -> Diagnosis:
    names = [f"{HOSTILE}{i}" for i in range(4)]
    found = fake_diagnosis(
        classes=names,
        concepts=[f"{i}{HOSTILE}" for i in range(5)],
        a_class=30,
        share=0.3,
        told=Told(HOSTILE, HOSTILE),
        warnings=(HOSTILE,),
        change=HOSTILE,
        command=HOSTILE,
        date=HOSTILE,
    )
    rules = {f"{HOSTILE}{name}": RuleRecord(r.found, HOSTILE) for name, r in found.rules.items()}
    confusions = tuple(
        replace(
            each,
            told=Told(HOSTILE, HOSTILE),
            shares={f"{HOSTILE}{name}": shares for name, shares in each.shares.items()},
        )
        for each in found.confusions
    )
    images = tuple(
        replace(
            image,
            name=f"{HOSTILE}.jpg",
            verdicts={f"{HOSTILE}{name}": v for name, v in image.verdicts.items()},
        )
        for image in found.images
    )
    return replace(
        found,
        rules=rules,
        rule=next(iter(rules)),
        confusions=confusions,
        images=images,
        classifier=replace(found.classifier, name=HOSTILE, weights=HOSTILE, head=HOSTILE),
        data=replace(found.data, title=HOSTILE, remarks=(HOSTILE,), skipped=((HOSTILE, HOSTILE),)),
        vlm=replace(found.vlm, name=HOSTILE, limits=HOSTILE, template="{0} {" + HOSTILE),
        quality=replace(found.quality, warning=HOSTILE),
    )
