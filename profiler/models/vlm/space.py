"""The spaces in which ConSE compares images with captions.

With one list of words it is the sentence encoder's. Were the words of several lists added up there,
every list would speak to every caption: objects would outshout "striped" by mere association, and
stripes would blur the names of objects. So every list has coordinates of its own, and a caption is
shared out between the lists before it is compared:

- A **closed** list names all there is of its kind, as colours do. Its coordinates are its words:
  of an image, the probabilities; of a caption, how near it is to each of them.
- An **open** list stands for more than its words, as names of objects do. Its coordinates are the
  encoder's, about the mean of the list's captions: of an image, the sum of captions by their
  probabilities (ConSE: Norouzi et al., ICLR 2014); of a caption, its embedding.

The comparison of image i with caption t is so Σ_v w_v · g_v(t) · ⟨x_v(i), y_v(t)⟩, up to the norms
of the two rows: w_v the list's weight, g_v the caption's share in it, by its nearest word there.
Without the mean all captions resemble each other, "a photo of" one as of another; about the mean,
units of a classifier are found under their own names more often (README). One more coordinate, the
same for all images and zero for all captions, scales all cosines.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.special import softmax
from torch.nn import functional as nnf

from profiler.models.vlm.base import Embeddings

USED = 10
"""Of a single list so many of the most probable words count, as published."""
SHARING = 0.05
"""A list whose nearest word lies so much farther off in cosine has 1/e of the nearest list's part
in a caption."""
LINKING = 0.03
"""The same between the words of a closed list."""
ASSOCIATION = 0.05
"""The same where open lists have to say which of a closed list's words go with an image."""
PRIOR = 0.1
"""Of what open lists say so, as a power, where the closed list knows itself."""
CONTRAST = 0.6
"""What cosines are scaled with. CLIP-Dissect's softmax takes ten times a cosine, which suits models
whose cosines lie close together. Unscaled ones here spread so widely that random lists of images
have strong labels, too: fewer units of a classifier stand out from them (18 % over the 99.9th
percentile on 1 000 photographs; 26 % scaled, 21 % with objects alone)."""

_TINY = 1e-9


@dataclass(frozen=True)
class Vocabulary:
    """Words by which an image is described.

    Attributes:
        name: such as ``colors``.
        words: each with a probability for every image.
        weight: what the vocabulary's part of an embedding is multiplied with.
        closed: whether its words are all there is of their kind.
        sees: what it is about, in words.
        limits: what of that it does not see, in a sentence; empty where nothing has to be said.
    """

    name: str
    words: tuple[str, ...]
    weight: float = 1.0
    closed: bool = False
    sees: str = ""
    limits: str = ""


class Space(Protocol):
    """Coordinates of images and captions."""

    def of_images(self, read: Sequence[torch.Tensor]) -> torch.Tensor:
        """For each list (B, words) probabilities → (B, d) unit rows."""

    def of_captions(self, rows: Embeddings) -> Embeddings:
        """(M, e) embedded captions → (M, d) unit rows."""


def _is_published(vocabularies: Sequence[Vocabulary]) -> bool:
    return len(vocabularies) == 1 and not vocabularies[0].closed


def fingerprint_of(vocabularies: Sequence[Vocabulary]) -> str:
    """Hash of what decides the coordinates beside the words: their weights, what is fixed here.

    Empty for ConSE as published, where there is nothing to choose.
    """
    if _is_published(vocabularies):
        return ""
    counts = [(v.weight, v.closed) for v in vocabularies]
    told = f"{counts} {SHARING} {LINKING} {ASSOCIATION} {PRIOR} {CONTRAST}"
    return hashlib.sha256(told.encode()).hexdigest()


def space_of(
    vocabularies: Sequence[Vocabulary], captions: Sequence[Embeddings], device: torch.device
) -> Space:
    """The space for some lists: as published for a single open one.

    Args:
        vocabularies: the lists.
        captions: for each of them (words, e) unit rows, the embedded captions of its words.
        device: where images are placed.
    """
    if _is_published(vocabularies):
        return SumSpace(captions[0], device)
    return ListSpace(vocabularies, captions, device)


class SumSpace:
    """The encoder's own space: an image is the sum of its likeliest words' captions.

    Args:
        captions: (words, e) unit rows.
        device: where images are placed.
    """

    def __init__(self, captions: Embeddings, device: torch.device) -> None:
        self._captions = torch.from_numpy(captions).to(device)

    def of_images(self, read: Sequence[torch.Tensor]) -> torch.Tensor:
        """One list's (B, words) probabilities → (B, e) unit rows."""
        (probabilities,) = read
        strongest, index = probabilities.topk(min(USED, probabilities.shape[1]))
        total = torch.einsum("bc,bce->be", strongest, self._captions[index])
        return nnf.normalize(total.float(), dim=1)

    def of_captions(self, rows: Embeddings) -> Embeddings:
        """As they are."""
        return rows


class ListSpace:
    """Coordinates of images and captions, list by list; see :func:`space_of`."""

    def __init__(
        self,
        vocabularies: Sequence[Vocabulary],
        captions: Sequence[Embeddings],
        device: torch.device,
    ) -> None:
        self._lists = tuple(vocabularies)
        self._captions = tuple(captions)
        self._means = [rows.mean(axis=0) for rows in captions]
        self._on_device = [torch.from_numpy(rows).to(device) for rows in captions]
        self._means_on_device = [rows.mean(dim=0) for rows in self._on_device]

    def of_images(self, read: Sequence[torch.Tensor]) -> torch.Tensor:
        """For each list (B, words) probabilities → (B, d) unit rows.

        What the probabilities of a closed list lack of 1 is what it does not know of the image:
        that much of them comes from the open lists, by association.
        """
        heard = self._heard(read)
        parts = []
        for v, p, own, mean in zip(
            self._lists, read, self._on_device, self._means_on_device, strict=True
        ):
            if v.closed:
                part = p if heard is None else _with_association(p, heard @ own.T)
            else:
                total = p.sum(dim=1, keepdim=True).clamp(min=_TINY)
                part = nnf.normalize(p @ own / total - mean, dim=1)
            parts.append(v.weight * part)
        rows = nnf.normalize(torch.cat(parts, dim=1).float(), dim=1)
        return nnf.pad(CONTRAST * rows, (0, 1), value=math.sqrt(1 - CONTRAST**2))

    def of_captions(self, rows: Embeddings) -> Embeddings:
        """(M, e) embedded captions → (M, d) unit rows."""
        cosines = [rows @ own.T for own in self._captions]
        nearest = np.stack([each.max(axis=1) for each in cosines], axis=1)
        shares = np.exp((nearest - nearest.max(axis=1, keepdims=True)) / SHARING)
        parts = [
            shares[:, [i]]
            * _unit(softmax(cosines[i] / LINKING, axis=1) if v.closed else rows - mean)
            for i, (v, mean) in enumerate(zip(self._lists, self._means, strict=True))
        ]
        unit = _unit(np.concatenate(parts, axis=1)).astype(np.float32, copy=False)
        return np.pad(unit, ((0, 0), (0, 1)))

    def _heard(self, read: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """(B, e) unit rows: what all open lists together say; None where there are none."""
        said = [
            v.weight * nnf.normalize(p @ rows, dim=1)
            for v, p, rows in zip(self._lists, read, self._on_device, strict=True)
            if not v.closed
        ]
        return nnf.normalize(torch.stack(said).sum(dim=0), dim=1) if said else None


def _with_association(probabilities: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
    """(B, words) probabilities of sum k <= 1, and cosines of the words with what else is seen.

    k · (p · a^PRIOR, normed) + (1 − k) · a, with a the softmax of the cosines.
    """
    associated = (cosines / ASSOCIATION).softmax(dim=1)
    known = probabilities.sum(dim=1, keepdim=True).clamp(max=1)
    own = probabilities * associated**PRIOR
    own = own / own.sum(dim=1, keepdim=True).clamp(min=_TINY)
    return known * own + (1 - known) * associated


def _unit(rows: Embeddings) -> Embeddings:
    long: Embeddings = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return long
