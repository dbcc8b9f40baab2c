"""Outlines as the page's script reads them: short texts, a unit each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from profiler.core.arrays import BoolArray
from profiler.profile.outlines import STEPS, UNKNOWN, LayerOutlines, Outlines

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,.:;=?@[]^_`{}~"
"""A coordinate each, from 0 to 1."""
_LAST = len(LETTERS) - 1


class OutlinesView:
    """What the page shows of where units respond.

    Args:
        outlines: of a run.
        dead: of each layer, (K,) which units have no row of images.
        shown: images of a row.
    """

    def __init__(self, outlines: Outlines, dead: Sequence[BoolArray], shown: int) -> None:
        self._outlines = outlines
        self._dead = dead
        self._shown = shown

    def data(self) -> dict[str, Any]:
        """Texts of the units that are not dead, and what the network sees of images.

        A unit's pictures are parted by ``|``, the rings of a picture by ``/``; a ring is two
        :data:`LETTERS` a point; ``-`` stands for a picture that was not looked at.
        """
        edges = np.rint(_LAST * np.clip(self._outlines.frames, 0, 1)).astype(int)
        return {
            "letters": LETTERS,
            "layers": [
                {"covered": int(layer.covered), "text": list(self._texts(layer, dead))}
                for layer, dead in zip(self._outlines.layers, self._dead, strict=True)
            ],
            "frames": {
                str(image): "".join(LETTERS[edge] for edge in own)
                for image, own in zip(self._outlines.images.tolist(), edges.tolist(), strict=True)
            },
        }

    def _texts(self, layer: LayerOutlines, dead: BoolArray) -> list[str]:
        codes = np.rint(layer.places * (_LAST / STEPS)).astype(int)
        letters = "".join(LETTERS[code] for code in codes.ravel().tolist())
        ends = np.concatenate([[0], np.cumsum(2 * layer.points)]).tolist()
        texts, ring = [], 0
        for unit, own in enumerate(layer.rings.tolist()):
            pictures = []
            for many in own:
                rings = [letters[ends[i] : ends[i + 1]] for i in range(ring, ring + max(many, 0))]
                pictures.append("-" if many == UNKNOWN else "/".join(rings))
                ring += max(many, 0)
            if not dead[unit]:
                texts.append("|".join(pictures[: self._shown]))
        return texts
