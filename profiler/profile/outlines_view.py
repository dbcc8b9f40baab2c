"""Outlines as the page's script reads them: short texts, a unit each."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from profiler.core.arrays import BoolArray
from profiler.profile.outlines import STEPS, UNKNOWN, LayerOutlines, Outlines
from profiler.report.columns import LETTERS, lettered


def outline_data(outlines: Outlines, dead: Sequence[BoolArray], shown: int) -> dict[str, Any]:
    """Texts of the units that are not dead, and what the network sees of images.

    A unit's pictures are parted by ``|``, the rings of a picture by ``/``; a ring is two
    :data:`.LETTERS` a point; ``-`` stands for a picture that was not looked at.

    Args:
        outlines: of a run.
        dead: of each layer, (K,) which units have no row of images.
        shown: images of a row.
    """
    edges = lettered(outlines.frames, 0, 1)
    return {
        "letters": LETTERS,
        "layers": [
            {"covered": int(layer.covered), "text": list(_texts(layer, silent, shown))}
            for layer, silent in zip(outlines.layers, dead, strict=True)
        ],
        "frames": {
            str(image): edges[4 * place : 4 * place + 4]
            for place, image in enumerate(outlines.images.tolist())
        },
    }


def _texts(layer: LayerOutlines, dead: BoolArray, shown: int) -> Iterator[str]:
    letters = lettered(layer.places, 0, STEPS)
    ends = np.concatenate([[0], np.cumsum(2 * layer.points)]).tolist()
    ring = 0
    for unit, own in enumerate(layer.rings.tolist()):
        pictures = []
        for many in own:
            rings = [letters[ends[i] : ends[i + 1]] for i in range(ring, ring + max(many, 0))]
            pictures.append("-" if many == UNKNOWN else "/".join(rings))
            ring += max(many, 0)
        if not dead[unit]:
            yield "|".join(pictures[:shown])
