"""What a vision-language model is to the rest: two protocols, and embeddings that are kept."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from profiler.core.store import Store
from profiler.errors import ContextError
from profiler.models.subject.preprocessing import Preprocess

Embeddings = NDArray[np.float32]


class TextEncoder(Protocol):
    """Embeds texts as unit rows: all that is needed where no image is looked at."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides an embedding."""

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """M texts → (M, e) float32 unit rows."""


class VLM(TextEncoder, Protocol):
    """Embeds images and texts as unit rows of one space."""

    @property
    def name(self) -> str:
        """As given to ``--vlm``, completed: ``open_clip:ViT-B-16/openai``."""

    @property
    def template(self) -> str:
        """The caption a concept is put into before it is embedded; ``{}`` is the concept."""

    @property
    def limits(self) -> str:
        """What the model cannot see, for the report; empty where nothing has to be said."""

    @property
    def preprocess(self) -> Preprocess:
        """From an RGB image to the tensor (3, H, W) that ``embed_images`` takes."""

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) preprocessed images → (B, e) float32 unit rows."""


def embed_concepts(vlm: VLM, words: Sequence[str], store: Store | None = None) -> Embeddings:
    """(M, e) unit rows of the concepts, each put into the VLM's caption."""
    return embed_captions(vlm, [vlm.template.format(word) for word in words], store)


def embed_captions(
    vlm: TextEncoder, captions: Sequence[str], store: Store | None = None
) -> Embeddings:
    """(M, e) unit rows of captions as they stand; kept in ``store`` once computed."""
    key = {
        "vlm": vlm.fingerprint,
        "captions": hashlib.sha256("\n".join(captions).encode()).hexdigest(),
    }
    kept = store.get("texts", key) if store else None
    if kept is not None:
        rows: Embeddings = kept["rows"]
        return rows
    rows = vlm.embed_texts(captions)
    if store:
        store.put("texts", key, {"rows": rows})
    return rows


def for_words(texts: TextEncoder) -> TextEncoder:
    """What compares words with words: the encoder behind a VLM that has one, else itself.

    ConSE places captions where it can compare them with images; words are nearer to each other
    in meaning before that.
    """
    words: TextEncoder = getattr(texts, "words", texts)
    return words


class LateTextEncoder:
    """A text encoder that is opened only when something is to be embedded.

    Args:
        open_encoder: opens it.
        fingerprint: what it has to be, where that is known: then embeddings that were kept under
            it serve without the encoder. Another encoder raises :class:`ContextError`.
        words: see :func:`for_words`; itself if not given.
    """

    def __init__(
        self,
        open_encoder: Callable[[], TextEncoder],
        fingerprint: str = "",
        words: TextEncoder | None = None,
    ) -> None:
        self._open = open_encoder
        self._wanted = fingerprint
        self.words = words or self

    @property
    def fingerprint(self) -> str:
        """As demanded, or else that of the encoder."""
        return self._wanted or self._encoder.fingerprint

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """M texts → (M, e) float32 unit rows."""
        return self._encoder.embed_texts(texts)

    @cached_property
    def _encoder(self) -> TextEncoder:
        encoder = self._open()
        if self._wanted and encoder.fingerprint != self._wanted:
            raise ContextError(
                "the model that read the images of this run now has other weights (fingerprint "
                f"{encoder.fingerprint[:16]}, not {self._wanted[:16]}); name the one to compare "
                "words with by --vlm, or sort with --llm"
            )
        return encoder
