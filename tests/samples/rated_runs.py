"""Finished runs made by hand, for the tests of rating and calibration: no network, no images read.

``python tests/samples/rated_runs.py FOLDER`` writes one with real photographs, to look at.
"""

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tiny import COLORS, TinyVLM

from profiler.data.records import ConceptRecord, ProbeRecord
from profiler.models.records import LayerRecord, SubjectRecord, VLMRecord
from profiler.profile.explain import LayerRange
from profiler.profile.labels import KEPT_LABELS, LayerLabels
from profiler.profile.result import ProfileRun, Record, SimilarityRecord
from profiler.profile.run import write_run
from profiler.profile.sorting.sorting import Sorting
from profiler.profile.threshold import Threshold

WORDS = ("red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white")
IMAGES = 40
VLM_NAME = f"{Path(__file__).parent / 'tiny.py'}:vlm"


def layer_labels(name: str, scores: Sequence[float], *, words: int = len(WORDS)) -> LayerLabels:
    """A layer whose units carry the words in turn; a NaN score makes a dead unit."""
    units = len(scores)
    score = np.full((units, KEPT_LABELS), np.nan, dtype=np.float32)
    score[:, 0] = scores
    concept = np.full((units, KEPT_LABELS), -1, dtype=np.int64)
    concept[:, 0] = np.where(np.isnan(score[:, 0]), -1, np.arange(units) % words)
    top = (np.arange(units)[:, None] * 3 + np.arange(10)) % IMAGES
    return LayerLabels(
        name,
        concept,
        score,
        np.full(units, np.nan),
        np.isnan(score[:, 0]),
        top,
        np.tile(np.linspace(2, 1, 10), (units, 1)),
        np.zeros(0, dtype=np.float32),
    )


def layer_range(name: str, r: Sequence[float], *, words: int = len(WORDS)) -> LayerRange:
    """Explanations by one, two or three words in turn; a NaN makes a unit that does not vary.

    r with all five words is what is given, and 0.01 more with the words that are shown.
    """
    units, place = len(r), np.arange(len(r))[:, None]
    taken = np.where(np.isnan(r), 0, 1 + place[:, 0] % 3)
    shown = np.arange(5) < taken[:, None]
    whole = np.repeat(np.array(r, float)[:, None], 5, axis=1)
    whole[:, :4] += 0.01
    nothing = np.full(units, np.nan)
    images = (place * 7 + np.arange(9) * 4) % IMAGES
    images[:, -1] = np.where(place[:, 0] % 5, images[:, -1], -1)  # now and then one lacks
    activations = 2.5 * np.linspace(1, 0, 9) ** 1.5 + 0.1 * place
    return LayerRange(
        name,
        np.where(shown, (place + 3 * np.arange(5)) % words, -1),
        np.where(shown, 0.4 / (1 + np.arange(5)), 0.0),
        whole,
        taken,
        np.full(units, 4),
        np.array(r) + 0.1,
        nothing,
        nothing,
        np.full((units, 5), 0.01),
        nothing,
        whole[:, None],
        np.where(np.isnan(r)[:, None], -1, images),
        np.where((images < 0) | np.isnan(r)[:, None], np.nan, activations).astype(np.float32),
    )


def make_run(
    folder: Path,
    layers: Mapping[str, Sequence[float]],
    *,
    threshold: float = 0.0,
    words: Sequence[str] = WORDS,
    subject: str = "by-hand",
    pictures: Mapping[int, bytes] | None = None,
    names: Sequence[str] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
) -> ProfileRun:
    """Write a run with these scores, all trusted words sorted as colours.

    ``ranges``: r of the explanations of every unit, layer by layer; None for a run without.
    """
    labels = tuple(layer_labels(name, scores, words=len(words)) for name, scores in layers.items())
    record = Record(
        command="profiler run by-hand",
        date="2024-01-01",
        subject=SubjectRecord(
            subject, "by hand", "8 × 8", "f" * 64,
            tuple(LayerRecord(la.layer, "Linear", (la.units,), la.units, "none") for la in labels),
        ),
        vlm=VLMRecord(VLM_NAME, "{}", "", TinyVLM.fingerprint),
        probe=ProbeRecord("flat", IMAGES, "a" * 64, ()),
        concepts=ConceptRecord("colours.txt", len(words), "b" * 64, 0),
        similarity=SimilarityRecord("soft-wpmi", 1, 10, "given", {"a": 10.0, "λ": 1.0}, 0),
        categories=(("object", ""), ("part", ""), ("scene", ""), ("material", ""),
                    ("texture", ""), ("color", "")),
        seed=0,
        settings={"llm": "none", "max_report_mb": 20.0},
        versions={},
        timings={},
        warnings=(),
    )  # fmt: skip
    run = ProfileRun(
        record,
        labels,
        tuple(words),
        tuple(names or (f"image-{i}.png" for i in range(IMAGES))),
        flat_pictures() if pictures is None else pictures,
        Threshold(threshold, "given", record.context),
        Sorting("exemplar", dict.fromkeys(words, "color")),
        "Made by hand.",
        "nobody",
        ranges=tuple(layer_range(name, r, words=len(words)) for name, r in (ranges or {}).items()),
    )
    # What no unit above the threshold says, nobody has sorted.
    trusted = {
        words[concept] for la in labels for concept in la.concept[run.trusted(la), 0].tolist()
    } | {word for la in run.ranges for word in run.leading_words(la) if word}
    run = replace(run, sorting=Sorting("exemplar", dict.fromkeys(trusted, "color")))
    write_run(run, folder, 20.0)
    return run


def flat_pictures() -> dict[int, bytes]:
    """A small WebP for each image, coloured in turn."""
    made = {}
    for index in range(IMAGES):
        file = io.BytesIO()
        Image.new("RGB", (112, 84), COLORS[WORDS[index % len(WORDS)]]).save(file, "WEBP")  # type: ignore[arg-type]
        made[index] = file.getvalue()
    return made


if __name__ == "__main__":
    from report_samples import photograph_thumbnails

    rng = np.random.default_rng(0)
    names, photographs = photograph_thumbnails()
    make_run(
        Path(sys.argv[1]),
        {"stem": rng.normal(0.1, 0.05, 32).tolist(),
         "blocks.3": rng.normal(0.15, 0.06, 80).tolist(),
         "classifier": rng.normal(0.22, 0.06, 200).tolist()},
        subject="tf_efficientnet_lite0",
        words=["crocodile", "swan", "crab", "otter", "teapot", "striped", "red", "beach", "wooden",
               "dog breeds with floppy ears", "sports car", "underwater"],
        pictures={i: photographs[i * 25] for i in range(IMAGES)},
        names=[names[i * 25] for i in range(IMAGES)],
        ranges={"stem": rng.normal(0.35, 0.1, 32).tolist(),
                "blocks.3": rng.normal(0.25, 0.1, 80).tolist(),
                "classifier": rng.normal(0.2, 0.1, 200).tolist()},
    )  # fmt: skip
