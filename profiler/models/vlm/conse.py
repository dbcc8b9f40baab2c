"""ConSE: an image embedding out of the words that classifiers and a sentence encoder find in it."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import torch
from PIL import Image

from profiler.core.store import Store
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import Embeddings, TextEncoder, embed_captions
from profiler.models.vlm.sentence import digest_of_encoder
from profiler.models.vlm.space import Space, Vocabulary, fingerprint_of, space_of

TEMPLATE = "a photo of a {}"


class Reader(Protocol):
    """A network that says how far the words of one or several vocabularies are true of an image."""

    @property
    def vocabularies(self) -> tuple[Vocabulary, ...]:
        """What it gives probabilities for."""

    @property
    def preprocess(self) -> Preprocess:
        """From an RGB image to the tensor (3, H, W) that ``read`` takes."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides a probability."""

    def read(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """(B, 3, H, W) → for each vocabulary (B, words) probabilities."""


class ConSE:
    """Convex combination of semantic embeddings: a VLM out of classifiers and a sentence encoder.

    With a single list of words, the ten most probable of the 1 000 ImageNet classes, it is ConSE as
    published (Norouzi et al., ICLR 2014): an image embedding is the normalised sum of p_c · t_c,
    p_c the word's probability, t_c the unit sentence embedding of "a photo of a {word}", and a
    caption's is its sentence embedding. With several lists, each has coordinates of its own
    (:mod:`profiler.models.vlm.space`).

    Args:
        name: as given to ``--vlm``.
        readers: give the probabilities.
        encoder: embeds the words, and later the concepts.
        device: where the sums are made.
        store: keeps the embedded words of the lists; a thousand take a second or two.

    Attributes:
        words: the encoder; see :func:`profiler.models.vlm.base.for_words`.
    """

    template = TEMPLATE

    def __init__(
        self,
        name: str,
        readers: Sequence[Reader],
        encoder: TextEncoder,
        device: torch.device,
        store: Store | None = None,
    ) -> None:
        self.name = name
        self.vocabularies = tuple(v for reader in readers for v in reader.vocabularies)
        self._readers = tuple(readers)
        self.words = encoder
        self._device = device
        self._store = store
        functions = [reader.preprocess for reader in readers]
        self._stacked = Stacked(functions) if len(functions) > 1 else None
        self.preprocess: Preprocess = self._stacked or functions[0]
        self.fingerprint = _fingerprint(readers, encoder, fingerprint_of(self.vocabularies))

    @cached_property
    def _space(self) -> Space:
        """Made when it is first needed: where everything is in the cache, no word is embedded."""
        captions = [
            embed_captions(self.words, list(map(self.template.format, v.words)), self._store)
            for v in self.vocabularies
        ]
        return space_of(self.vocabularies, captions, self._device)

    @property
    def limits(self) -> str:
        """What the model cannot see, and by which words with which weights it sees the rest."""
        if [v.name for v in self.vocabularies] == ["objects"]:
            return (
                "ConSE describes images by 1 000 object names: colors, textures and materials "
                "are known to it only by association with objects that often have them."
            )
        lists = ", ".join(
            f"{len(v.words):,}".replace(",", " ") + f" {v.sees or v.name} (weight {v.weight:g})"
            for v in self.vocabularies
        )
        said = [v.limits for v in self.vocabularies]
        return (
            f"ConSE describes images by lists of words: {lists}. Everything else is known to "
            "it only by association with these words."
            + "".join(f" {limit}" for limit in dict.fromkeys(said) if limit)
        )

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, e) unit rows."""
        images = images.to(self._device)
        parts = self._stacked.apart(images) if self._stacked else [images]
        read = [
            probabilities
            for reader, part in zip(self._readers, parts, strict=True)
            for probabilities in reader.read(part)
        ]
        return self._space.of_images(read)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """M captions → (M, e) unit rows."""
        return self._space.of_captions(self.words.embed_texts(texts))


def _fingerprint(readers: Sequence[Reader], encoder: TextEncoder, space: str) -> str:
    """Only what decides an embedding: the networks, the words, and what becomes of them."""
    digest = hashlib.sha256()
    for reader in readers:
        for vocabulary in reader.vocabularies:
            digest.update("\n".join(vocabulary.words).encode())
        digest.update(reader.fingerprint.encode())
    digest.update(space.encode())
    digest.update(digest_of_encoder(encoder).encode())
    return digest.hexdigest()


class Stacked:
    """Several preprocessings of one image, their results one above the other in one tensor.

    Whoever reads images takes one tensor an image; networks of several sizes need several.
    """

    def __init__(self, functions: Sequence[Preprocess]) -> None:
        self.functions = tuple(functions)
        blank = Image.new("RGB", (256, 256))
        self.shapes = [tuple(function(blank).shape) for function in self.functions]

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An RGB image → (3, sum of heights, largest width), zero where nothing stands."""
        made = [function(image) for function in self.functions]
        width = max(part.shape[-1] for part in made)
        return torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[-1])) for p in made], 1)

    def apart(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, sum of heights, largest width) → what each preprocessing gave, a batch each."""
        top, parts = 0, []
        for _, height, width in self.shapes:
            parts.append(images[:, :, top : top + height, :width])
            top += height
        return parts
