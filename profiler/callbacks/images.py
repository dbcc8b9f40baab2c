"""Probe images that are decoded once, however often they are shown to a network in training."""

import tempfile
from typing import Any

import numpy as np
import torch
from PIL import Image

from profiler.data.images import Previews, ProbeSet


class WatchedImages:
    """A probe set that keeps what is made of each image when it is first read.

    What the preprocessing gives is kept in a temporary file: a thousand images of 224 × 224 pixels
    take 600 MB, of which the operating system keeps in memory what there is room for.

    Args:
        probe: the images; they are prepared by one and the same preprocessing.
    """

    def __init__(self, probe: ProbeSet) -> None:
        self._probe = probe
        self._rows: Any = None
        self._known = np.zeros(len(probe.names), bool)
        self._small: dict[int, Image.Image] = {}
        self.title = probe.title
        self.names = probe.names
        self.notes: tuple[str, ...] = getattr(probe, "notes", ())

    @property
    def fingerprint(self) -> str:
        """That of the images."""
        return self._probe.fingerprint

    def read(self, index: int) -> Image.Image:
        """Decode one image as RGB."""
        return self._probe.read(index)

    def preview(self, index: int, side: int) -> Image.Image:
        """A small picture for people, its longer side ``side`` pixels; decoded once."""
        if index not in self._small:
            plain = self._probe
            image = plain.preview(index, side) if isinstance(plain, Previews) else plain.read(index)
            image.thumbnail((side, side), Image.Resampling.HAMMING)
            self._small[index] = image
        return self._small[index].copy()

    def prepared(self, index: int) -> torch.Tensor | None:
        """(3, H, W) as the preprocessing gave it; None where it did not yet."""
        if not self._known[index]:
            return None
        return torch.from_numpy(np.array(self._rows[index]))

    def keep(self, index: int, image: torch.Tensor) -> None:
        """Keep a prepared image; one of another shape than the first is not kept."""
        if image.dtype == torch.bfloat16:  # NumPy has none
            return
        values = image.detach().cpu().numpy()
        if self._rows is None:
            with tempfile.TemporaryFile() as file:
                shape = (len(self.names), *values.shape)
                self._rows = np.memmap(file, values.dtype, "w+", shape=shape)
        if values.shape == self._rows.shape[1:] and values.dtype == self._rows.dtype:
            self._rows[index] = values
            self._known[index] = True
