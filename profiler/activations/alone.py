"""A pass over images with the subject alone: no VLM is loaded."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from profiler.activations.collect import Collected, L, Network
from profiler.activations.kept import collect_once
from profiler.core.store import Store
from profiler.data.images import ProbeSet
from profiler.models.vlm.base import Embeddings
from profiler.session import Advance, Reading


class Blind:
    """Stands where a pass wants a VLM, and sees nothing: every image has the same embedding."""

    name = "none"
    template = "{}"
    limits = ""
    fingerprint = "none"

    @staticmethod
    def preprocess(image: Image.Image) -> torch.Tensor:
        """Nothing of an image, whatever it shows."""
        return torch.zeros(3, 1, 1)

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, 1, 1) → (B, 1) ones."""
        return torch.ones(len(images), 1)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """M texts → (M, 1) ones."""
        return np.ones((len(texts), 1), np.float32)


def collect_alone(
    subject: Network[L],
    layers: Sequence[L],
    probe: ProbeSet,
    reading: Reading,
    *,
    store: Store | None = None,
    advance: Advance = lambda _: None,
) -> Collected:
    """What :func:`~profiler.activations.kept.collect_once` gives, without embeddings.

    Its ``matrices`` are the activations on every image: of each layer (N, K), on disk where there
    is a store.
    """
    return collect_once(
        subject,
        layers,
        Blind(),
        probe,
        top=1,
        store=store,
        matrices=True,
        precision=reading.precision,
        batch_size=reading.batch_size,
        workers=reading.workers,
        allow_bad=reading.allow_bad,
        advance=advance,
    )
