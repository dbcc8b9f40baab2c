"""Do outlines lie on what a unit's word names? Scenes of which the object's region is known.

::

    profiler run efficientnet_lite0 --probe synthetic:1 --limit 1000 --concepts annotations:truth \
        --no-experiment --out OUT
    python benchmarks/outlines.py OUT

Of every unit whose trusted label names the object's pattern, shape, material or color, each outline
on an image that shows what the label says is held against the object's region: intersection over
union, and the share of the outline that lies on the object. The same of a box of the outline's area
in the middle of what the network sees, and of such boxes at random places. A box's sides have the
proportions of the frame. Close-ups, which are all object, do not count.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from profiler.core.arrays import BoolArray, Float64
from profiler.data.synthetic.scenes import Scene, SyntheticScenes
from profiler.profile.result import ProfileRun, load_run

SIZE = 224
RANDOM = 20
"""Boxes at random places for each outline."""


def region(rings: Sequence[Float64]) -> BoolArray:
    """(SIZE, SIZE) what lies inside an outline; the rings of holes are taken out again."""
    found = np.zeros((SIZE, SIZE), bool)
    for ring in rings:
        picture = Image.new("1", (SIZE, SIZE))
        ImageDraw.Draw(picture).polygon([tuple(point) for point in ring * SIZE], fill=1)
        found ^= np.asarray(picture)
    return found


def box(area: float, frame: Float64, middle: tuple[float, float]) -> BoolArray:
    """A box of so many pixels round a place of the frame, moved to lie inside it."""
    left, top, right, bottom = np.clip(frame, 0, 1) * SIZE
    share = np.sqrt(area / ((right - left) * (bottom - top)))
    width, height = share * (right - left), share * (bottom - top)
    x = left + middle[0] * (right - left - width)
    y = top + middle[1] * (bottom - top - height)
    found = np.zeros((SIZE, SIZE), bool)
    found[round(y) : round(y + height), round(x) : round(x + width)] = True
    return found


def iou(one: BoolArray, other: BoolArray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def kind_of(word: str, scene: Scene) -> str | None:
    """Which property of the object a word names in a scene, if it does."""
    named = {"pattern": scene.pattern, "shape": scene.shape, "material": scene.material,
             "color": scene.color}  # fmt: skip
    return next((kind for kind, level in named.items() if level == word), None)


def measure(run: ProfileRun) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    """By kind of word and layer: of each outline the numbers that are printed."""
    if run.outlines is None or run.record.probe is None:
        raise SystemExit("the run has no outlines")
    scenes = SyntheticScenes(len(run.image_names), run.record.seed)
    places = dict(zip(run.outlines.images.tolist(), run.outlines.frames, strict=True))
    masks: dict[int, BoolArray] = {}
    rng = np.random.default_rng(0)
    found: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
    for labels, outlined in zip(run.layers, run.outlines.layers, strict=True):
        for unit in np.flatnonzero(run.trusted(labels)).tolist():
            word = run.concepts[labels.concept[unit, 0]]
            for rank in range(outlined.rings.shape[1]):
                image = int(labels.top_images[unit, rank])
                rings = outlined.outline(unit, rank)
                scene = scenes.scene(image)
                kind = kind_of(word, scene)
                if not rings or kind is None or scene.is_close_up:
                    continue
                if image not in masks:
                    masks[image] = scenes.mask(image) > 0.5
                own, mask, frame = region(rings), masks[image], places[image]
                area = float(own.sum())
                if not area:
                    continue
                centred = box(area, frame, (0.5, 0.5))
                boxes = [box(area, frame, (rng.random(), rng.random())) for _ in range(RANDOM)]
                found[kind, labels.layer].append(
                    (
                        iou(own, mask), iou(centred, mask),
                        float(np.mean([iou(each, mask) for each in boxes])),
                        float((own & mask).sum() / area),
                        float((centred & mask).sum() / max(centred.sum(), 1)),
                        float(np.mean([(b & mask).sum() / max(b.sum(), 1) for b in boxes])),
                        area / SIZE**2, float(mask.mean()), unit,
                    )
                )  # fmt: skip
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    found = measure(load_run(parser.parse_args().run))
    titles = ("IoU", "centred", "random", "on object", "centred", "random", "area", "object")
    print("| word names | layer | units | outlines | " + " | ".join(titles) + " |")
    print("| --- | --- |" + " ---: |" * (2 + len(titles)))
    kinds = sorted({kind for kind, _ in found})
    for kind in kinds:
        own = {layer: rows for (of, layer), rows in found.items() if of == kind}
        for layer, rows in [*own.items(), ("all", [r for each in own.values() for r in each])]:
            units = len({row[-1] for row in rows}) if layer != "all" else sum(
                len({row[-1] for row in each}) for each in own.values()
            )  # fmt: skip
            means = " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)[:-1])
            print(f"| {kind} | {layer} | {units} | {len(rows)} | {means} |")


if __name__ == "__main__":
    main()
