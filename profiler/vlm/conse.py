"""ConSE: an image embedding as a sum of sentence embeddings of the words that are true of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image

from profiler.vlm.base import Preprocess, Rows, TextEncoder
from profiler.vlm.sentence import digest_of_encoder

TEMPLATE = "a photo of a {}"


@dataclass(frozen=True)
class Vocabulary:
    """Words by which an image is described.

    Attributes:
        name: such as ``colors``.
        words: each with a probability for every image.
        weight: what the vocabulary's sum is multiplied with.
        used: so many of the most probable words count; None: all.
        about_mean: whether the words' embeddings are taken about their mean, so that a vocabulary
            which cannot decide adds nothing.
        sees: what it is about, in words.
        limits: what of that it does not see, in a sentence; empty where nothing has to be said.
    """

    name: str
    words: tuple[str, ...]
    weight: float = 1.0
    used: int | None = None
    about_mean: bool = False
    sees: str = ""
    limits: str = ""


class Reader(Protocol):
    """A network that says how far the words of one or several vocabularies are true of an image."""

    @property
    def vocabularies(self) -> tuple[Vocabulary, ...]:
        """What it gives probabilities for."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """From an RGB image to the tensor (3, H, W) that ``read`` takes."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides a probability."""
        ...

    def read(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """(B, 3, H, W) → for each vocabulary (B, words) probabilities."""
        ...


class ConSE:
    """Convex combination of semantic embeddings: a VLM out of classifiers and a sentence encoder.

    An image embedding is the normalised sum, over vocabularies v and their words c, of
    w_v · p_vc · t_vc: w_v the vocabulary's weight, p_vc the word's probability, t_vc the unit
    sentence embedding of "a photo of a {word}". With one vocabulary, the ten most probable of the
    1 000 ImageNet classes, it is ConSE as published (Norouzi et al., ICLR 2014).

    Args:
        name: as given to ``--vlm``.
        readers: give the probabilities.
        encoder: embeds the words, and later the concepts.
        device: where the sums are made.
    """

    template = TEMPLATE

    def __init__(
        self, name: str, readers: Sequence[Reader], encoder: TextEncoder, device: torch.device
    ) -> None:
        self.name = name
        self.vocabularies = tuple(v for reader in readers for v in reader.vocabularies)
        self._readers = tuple(readers)
        self._encoder = encoder
        self._device = device
        functions = [reader.preprocess for reader in readers]
        self._stacked = Stacked(functions) if len(functions) > 1 else None
        self.preprocess: Preprocess = self._stacked or functions[0]
        self._captions = [self._embedded(vocabulary) for vocabulary in self.vocabularies]
        self.fingerprint = _fingerprint(readers, encoder)

    @property
    def limits(self) -> str:
        """What the model cannot see, and by which words with which weights it sees the rest."""
        if [v.name for v in self.vocabularies] == ["objects"]:
            return (
                "ConSE sees the world through 1 000 object names: colours, textures and materials "
                "are known to it only by association with objects that tend to have them."
            )
        lists = ", ".join(
            f"{len(v.words):,}".replace(",", " ") + f" {v.sees or v.name} (weight {v.weight:g})"
            for v in self.vocabularies
        )
        said = [v.limits for v in self.vocabularies]
        return (
            f"ConSE sees the world through lists of words: {lists}. What is in none of them is "
            "known to it only by association with words that are."
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
        sums = []
        for vocabulary, probabilities, captions in zip(
            self.vocabularies, read, self._captions, strict=True
        ):
            sums.append(vocabulary.weight * _sum(probabilities, captions, vocabulary.used))
        return torch.nn.functional.normalize(torch.stack(sums).sum(0).float(), dim=1)

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """M captions → (M, e) unit rows."""
        return self._encoder.embed_texts(texts)

    def _embedded(self, vocabulary: Vocabulary) -> torch.Tensor:
        rows = self.embed_texts([self.template.format(word) for word in vocabulary.words])
        if vocabulary.about_mean:
            rows = rows - rows.mean(axis=0)
        return torch.from_numpy(rows).to(self._device)


def _sum(probabilities: torch.Tensor, captions: torch.Tensor, used: int | None) -> torch.Tensor:
    """(B, words) and (words, e) → (B, e): the captions' sum, of the most probable alone."""
    if used is None or used >= probabilities.shape[1]:
        return probabilities @ captions
    strongest, index = probabilities.topk(used)
    return torch.einsum("bc,bce->be", strongest, captions[index])


def _fingerprint(readers: Sequence[Reader], encoder: TextEncoder) -> str:
    """Only what decides an embedding: the networks, the words, and their weights."""
    digest = hashlib.sha256()
    for reader in readers:
        for v in reader.vocabularies:
            digest.update("\n".join(v.words).encode())
            # The published form has one list and nothing to weigh: it keeps the key it always had.
            if (v.weight, v.used, v.about_mean) != (1.0, 10, False):
                digest.update(f"\n{v.weight!r} {v.used} {v.about_mean}".encode())
        digest.update(reader.fingerprint.encode())
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
