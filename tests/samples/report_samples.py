# ruff: noqa: E501
"""Made-up runs, seeded, for the tests of the reports and for looking at them.

``python tests/samples/report_samples.py OUT.html [UNITS_PER_LAYER …]`` writes one with real photographs.
"""

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from browser import View
from PIL import Image

from profiler.core.categories import DEFAULT_CATEGORIES, UNKNOWN
from profiler.data.records import ConceptRecord, ProbeRecord
from profiler.models.records import LayerRecord, SubjectRecord, VLMRecord
from profiler.profile.labels import LayerLabels
from profiler.profile.quality import HeldOut, LayerQuality, bootstrap
from profiler.profile.result import EvaluationRecord, ProfileRun, Record, SimilarityRecord
from profiler.profile.sorting.sorting import Sorting
from profiler.profile.threshold import Threshold

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample"

CATEGORIES = (*DEFAULT_CATEGORIES, UNKNOWN)

WORDS = {
    "object": "dog crocodile swan crab otter teapot bicycle violin ship airliner beetle mushroom clock lamp sofa truck spider wolf lizard bottle",
    "part": "snout wing wheel beak tail paw handle petal fin antler ear eye roof leg horn feather mane window",
    "scene": "beach forest kitchen street harbour meadow desert sky lake mountain snowfield church",
    "material": "metal wood fur glass leather wool paper brick sand ice rubber ceramic",
    "texture": "striped dotted woven scaly cracked wrinkled furry grid bubbly knitted spotted frilly",
    "color": "red orange yellow green blue purple brown white black pink beige turquoise",
    "unknown": "sunday quarterly nearby meaning",
}

# What EfficientNet-Lite0 looks like: the first layers see colours and textures, the last objects.
LITE0 = {
    "conv_stem": 32, "blocks.0": 16, "blocks.1": 24, "blocks.2": 40, "blocks.3": 80, "blocks.4": 112,
    "blocks.5": 192, "blocks.6": 320, "conv_head": 1280, "global_pool": 128, "classifier": 1000,
}  # fmt: skip


def fake_run(
    layers: dict[str, int] | None = None,
    *,
    seed: int = 0,
    images: int = 1000,
    thumbnails: dict[int, bytes] | None = None,
    categories: Sequence[str] = CATEGORIES,
    words: Mapping[str, str | Sequence[str]] | None = None,
    tau: float = 0.16,
    dead: float = 0.01,
    null: int = 1000,
    names: Sequence[str] | None = None,
    **changes: object,
) -> ProfileRun:
    """A run of plausible layers; ``changes`` replace fields of its record."""
    layers = LITE0 if layers is None else layers
    words = words or WORDS
    rng = np.random.default_rng(seed)
    concepts, category_of = [], []
    for category, listed in words.items():
        for word in listed.split() if isinstance(listed, str) else listed:
            concepts.append(word)
            category_of.append(category)
    found, infos = [], []
    for depth, (name, units) in enumerate(layers.items()):
        at = depth / max(len(layers) - 1, 1)
        deep = {"object": 5.0, "part": 1.5, "scene": 1.2}
        weight = np.array([0.3 + at * deep.get(c, 0.1) + (1 - at) * (c in ("color", "texture")) * 3
                           for c in category_of])  # fmt: skip
        weight /= weight.sum()
        kept = min(5, len(concepts))
        concept = np.array(
            [rng.choice(len(concepts), kept, replace=False, p=weight) for _ in range(units)]
        ).reshape(units, kept)
        best = rng.gamma(4 + 6 * at, 0.035 + 0.02 * at, units) + 0.03
        drop = np.sort(rng.uniform(0.02, 0.7, (units, kept)), axis=1)
        drop[:, 0] = 0
        score = best[:, None] * (1 - drop)
        is_dead = rng.random(units) < dead
        null_scores = np.sort(rng.normal(0.09 + 0.01 * at, 0.022, null))
        p_value = np.array([(null_scores >= s).mean() if null else np.nan for s in best])
        concept[is_dead], score[is_dead], p_value[is_dead] = -1, np.nan, np.nan
        top_images = np.array([rng.choice(images, 9, replace=False) for _ in range(units)])
        top_images = top_images.reshape(units, 9)
        activations = -np.sort(-rng.gamma(3, 1.1, (units, 9)), axis=1)
        found.append(
            LayerLabels(
                name, concept, score, p_value, is_dead, top_images, activations, null_scores
            )
        )
        side = max(1, 112 >> (depth // 2))
        infos.append(LayerRecord(name, "Conv2d", (units, side, side), units, "mean"))
    record = Record(
        command="profiler run tf_efficientnet_lite0 --probe photographs --vlm conse --out lite0",
        date="2025-06-01",
        subject=SubjectRecord("tf_efficientnet_lite0", "ImageNet", "resize 256, crop 224",
                              "3f1c9a02" * 8, tuple(infos)),
        vlm=VLMRecord("ConSE", "a photo of {}", "ConSE sees the world through 1 000 object names.",
                      "0d" * 32),
        probe=ProbeRecord("photographs", images, "77ab01cd" * 8, ()),
        concepts=ConceptRecord("common-words", len(concepts), "b" * 64, 0),
        similarity=SimilarityRecord("soft-wpmi", 1, 20, "given", {"a": 10.0, "λ": 1.0}, null),
        categories=tuple((name, "") for name in categories),
        seed=0,
        settings={},
        versions={"profiler": "0.1.0", "torch": "2.9.0"},
        timings={"images": 41.0},
        warnings=("2 of 1 002 files in the probe folder are not images and were skipped.",),
    )  # fmt: skip
    record = replace(record, **changes)  # type: ignore[arg-type]
    return ProfileRun(
        record,
        tuple(found),
        tuple(concepts),
        tuple(names or (f"n{i:08d}_image.jpg" for i in range(images))),
        thumbnails if thumbnails is not None else {},
        Threshold(tau, "null" if null else "given", record.context, fdr=0.05 if null else None),
        Sorting("labelled examples", dict(zip(concepts, category_of, strict=True))),
        "Early layers respond to colours and textures, late layers to objects.",
        "a fixed template",
    )


def evaluated(
    run: ProfileRun, *, seed: int = 0, draws: int = 20, images: int = 500, own: float = 0.35
) -> ProfileRun:
    """A run whose labels were evaluated: deep layers hold better than early ones."""
    rng = np.random.default_rng(seed)
    words = len(run.concepts)
    layers = []
    for depth, labels in enumerate(run.layers):
        at = depth / max(len(run.layers) - 1, 1)
        units = labels.units
        alive = ~labels.dead
        label = labels.concept[:, 0]

        def measured(
            own: float, alive: np.ndarray = alive, units: int = units, label: np.ndarray = label
        ) -> HeldOut:
            same = rng.random(units) < 0.6
            other = rng.integers(words, size=units)
            correlation = np.clip(rng.normal(own, 0.12, units), -1, 1)
            auprc = np.clip(rng.normal(0.08 + 0.6 * max(own, 0), 0.06, units), 0.02, 1)
            return HeldOut(
                np.where(alive, np.where(same, label, other), -1),
                np.where(alive, correlation, np.nan),
                np.where(alive, auprc, np.nan),
                np.where(alive, round(0.05 * images), 0),
                images,
            )

        def draw(
            _: np.ndarray, at: float = at, units: int = units, label: np.ndarray = label
        ) -> list[np.ndarray]:
            stays = rng.random(units) < 0.2 + 0.7 * at
            return [np.where(stays, label, rng.integers(words, size=units))]

        (stability,) = bootstrap(draw, 2 * images, [label], draws=draws)
        layers.append(
            LayerQuality(labels.layer, label, measured(own * at), measured(0.1 * own), stability)
        )
    evaluation = EvaluationRecord(draws, 0.5, images, 0.05, 20, seed)
    return replace(run, quality=tuple(layers), record=replace(run.record, evaluation=evaluation))


def flat_thumbnails(images: int) -> dict[int, bytes]:
    """A small WebP for each image, each in another colour."""
    result = {}
    for index in range(images):
        file = io.BytesIO()
        colour = (index * 53 % 256, index * 97 % 256, index * 193 % 256)
        Image.new("RGB", (32, 32), colour).save(file, "WEBP")
        result[index] = file.getvalue()
    return result


def photograph_thumbnails() -> tuple[list[str], dict[int, bytes]]:
    """Names and 96-pixel WebPs of the shared photographs; both empty where they are absent."""
    names, result = [], {}
    for index, path in enumerate(sorted(PHOTOGRAPHS.glob("*.jpg"))):
        with Image.open(path) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
        file = io.BytesIO()
        square.resize((96, 96), Image.Resampling.LANCZOS).save(file, "WEBP", quality=55)
        names.append(path.name)
        result[index] = file.getvalue()
    return names, result


if __name__ == "__main__":
    import time

    from profiler.profile.view import render_profile

    names, thumbnails = photograph_thumbnails()
    sizes = [int(text) for text in sys.argv[2:]]
    made = fake_run(
        {f"layer{i}": size for i, size in enumerate(sizes)} if sizes else None,
        names=names, thumbnails=thumbnails,
    )  # fmt: skip
    start = time.perf_counter()
    html = render_profile(made)
    print(f"{time.perf_counter() - start:.2f} s, {len(html.encode()) / 1e6:.2f} MB")
    Path(sys.argv[1]).write_text(html, encoding="utf-8")


HOSTILE = "</script><img src=x onerror=alert(1)>\u2028'\"&amp;"


class Outline(HTMLParser):
    """Start tags with attributes, in order, and the text of some elements."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "rect", "line", "path", "circle"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, dict[str, str], str]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self._open.append((tag, attributes, []))

    def handle_endtag(self, tag: str) -> None:
        while self._open:
            name, attributes, text = self._open.pop()
            self.texts.append((name, attributes, "".join(text)))
            if self._open:
                self._open[-1][2].extend(text)
            if name == tag:
                break

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1][2].append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag: str, **wanted: str) -> str:
        for name, attributes, text in self.texts:
            if name == tag and wanted.items() <= attributes.items():
                return text
        raise AssertionError(f"no <{tag}> with {wanted}")


def block(html: str, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(Outline(html).text("script", id=name))
    return found


def visible(html: str) -> str:
    """The words of the page without markup, data and superfluous space."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", body)).replace("\u202f", " ")


def hostile_run() -> ProfileRun:
    safe = CATEGORIES[1:]
    words = {HOSTILE: [HOSTILE]} | {category: WORDS[category].split()[:1] for category in safe}
    run = fake_run(
        {f"layer {HOSTILE}": 40, "last": 60},
        images=20,
        words=words,
        categories=[HOSTILE, *safe],
        names=[f"{i}{HOSTILE}" for i in range(20)],
        command=HOSTILE,
        date=HOSTILE,
        warnings=(HOSTILE,),
        versions={HOSTILE: HOSTILE},
        timings={HOSTILE: 1.0},
        vlm=VLMRecord(HOSTILE, HOSTILE + "{}", HOSTILE, HOSTILE),
        probe=ProbeRecord(HOSTILE, 20, HOSTILE, (HOSTILE,)),
        concepts=ConceptRecord(HOSTILE, 9, HOSTILE, 0),
    )
    subject = replace(run.record.subject, name=HOSTILE, weights=HOSTILE, preprocessing=HOSTILE)
    assert any(HOSTILE in run.unit_categories(layer) for layer in run.layers)
    return replace(
        run,
        record=replace(run.record, subject=subject),
        sorting=replace(run.sorting, sorter=HOSTILE, notes=(HOSTILE,)),
        summary=HOSTILE,
        summary_author=HOSTILE,
    )


def column(view: View, name: str, table: str = "#units") -> list[str]:
    cells = view.page.locator(f"{table} tbody tr.unit td.col-{name}")
    return [text.strip() for text in cells.all_inner_texts()]
