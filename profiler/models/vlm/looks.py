"""What one pass through one network tells of an image: its objects, and how it looks."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as nnf

from profiler.data.concept_sets import open_concepts
from profiler.models.subject.sources import lite_model
from profiler.models.vlm import colors
from profiler.models.vlm.folding import fold_batch_norms
from profiler.models.vlm.middle import CELLS, Probes, middle, probe_words, statistics
from profiler.models.vlm.space import Vocabulary

SUBJECT = "efficientnet_lite2"

WEIGHTS: Mapping[str, float] = {"objects": 1.0, "colors": 0.7, "patterns": 0.8, "materials": 0.1}
"""The vocabularies of ``conse``, and what each counts for.

Chosen on scenes and photographs, so that colours, patterns and materials are named as well as may
be while the names of objects lose nothing: ``benchmarks/vlm_vocabularies.py --weights``.
"""

KINDS = tuple(WEIGHTS)
"""The vocabularies that can be named."""

_LEARNED_FROM_SCENES = (
    "It has learned patterns and materials from drawn scenes. The less a photograph resembles a "
    "drawn scene, the less these lists count, and the more such words follow from objects."
)
# The probes have learned from drawn scenes: an image so many times as far off them as is usual for
# scenes is still known to them in full, or no longer at all. One scene in 100 lies 2.2 times as far
# off, and half of all photographs more than 3.6 times.
_KNOWN, _UNKNOWN = 1.5, 2.2
_STRIDE = 4  # every fourth pixel of each row and column will do for shares of colours
# What the network's preprocessing did to the colours.
_MEAN, _STD = 0.498, 0.502


def vocabulary(kind: str, weight: float | None = None) -> Vocabulary:
    """A built-in vocabulary by name, with its usual weight if none is given."""
    weight = WEIGHTS[kind] if weight is None else weight
    if kind == "objects":
        words = tuple(open_concepts("imagenet-1k").words)
        return Vocabulary(kind, words, weight, sees="object names")
    if kind == "colors":
        return Vocabulary(kind, colors.NAMES, weight, closed=True, sees="colors")
    words = probe_words()[kind]
    return Vocabulary(kind, words, weight, closed=True, sees=kind, limits=_LEARNED_FROM_SCENES)


class Looks:
    """Reads objects, colours, patterns and materials off one pass of EfficientNet-Lite2.

    Args:
        weights: the vocabularies wanted, each with its weight.
        device: where the network is to run.
    """

    def __init__(self, weights: Mapping[str, float], device: torch.device) -> None:
        subject = lite_model(SUBJECT)
        self.preprocess = subject.preprocess
        self.vocabularies = tuple(vocabulary(kind, weight) for kind, weight in weights.items())
        self._kinds = tuple(weights)
        self._network = fold_batch_norms(subject.model).to(device)
        self._device = device
        self.fingerprint = f"{subject.fingerprint} folded"
        if self._kinds == ("objects",):
            return
        self._probes = Probes(device)
        self._colors = colors.ColorShares(device)
        digest = hashlib.sha256(self.fingerprint.encode())
        digest.update(f"{self._kinds} {_STRIDE} {_KNOWN} {_UNKNOWN}".encode())
        digest.update(self._probes.fingerprint.encode())
        digest.update(colors.fingerprint().encode())
        self.fingerprint = digest.hexdigest()

    def read(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """(B, 3, 260, 260) → for each vocabulary (B, words) probabilities.

        Those of patterns and materials sum to less than 1 where an image does not resemble what
        the probes have learned from, and to 0 where it is quite unlike it.
        """
        images = images.to(self._device, memory_format=torch.channels_last)
        if self._kinds == ("objects",):
            return [self._network(images).softmax(dim=1)]
        means, squares, scores = middle(self._network, images)
        objects = self._probes.objects(means)
        seen = statistics(means, squares, objects)
        known = (_UNKNOWN - self._probes.strangeness(seen)) / (_UNKNOWN - _KNOWN)
        known = known.clamp(0, 1).unsqueeze(1)
        read = []
        for kind in self._kinds:
            if kind == "objects":
                read.append(scores.softmax(dim=1))
            elif kind == "colors":
                read.append(self._color_shares(images, objects))
            else:
                read.append(known * self._probes.words(kind, seen))
        return read

    def _color_shares(self, images: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        """(B, 11): the shares of the object; of the whole image where no object is found."""
        pixels = images[:, :, _STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE]
        cells = objects.reshape(-1, 1, CELLS, CELLS)
        inside = nnf.interpolate(cells, size=pixels.shape[-2:], mode="bilinear").flatten(2)
        rgb = (pixels * _STD + _MEAN).clamp(0, 1).flatten(2)
        return self._colors.of_object(rgb, inside)
