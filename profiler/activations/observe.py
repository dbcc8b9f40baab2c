"""Labelled images through a classifier and a VLM: encodings, predictions, embeddings."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch

from profiler.activations.collect import AUTO_BATCH, Collected, Skipped
from profiler.activations.kept import Engine, collect_once
from profiler.core.arrays import BoolArray, FloatArray, IntArray, checked_rows
from profiler.core.store import Store
from profiler.data.corruptions import CorruptedProbe, Corruption
from profiler.data.images import ProbeSet, spread
from profiler.data.labelled.images import LabelledImages
from profiler.data.labelled.numbering import reordered, suspicious
from profiler.errors import InputError, UsageError
from profiler.models.attacks import Attack, PixelScale
from profiler.models.classifier import Classifier, dead_weights
from profiler.models.subject.trial import in_company
from profiler.models.vlm.base import VLM, embed_captions
from profiler.session import NONE, Reading, Services

CHECKED_IMAGES = 512
"""Images on which an input of a layer must be constant to be called constant."""
ATTACKS_VERSION = 1
"""Changes whenever the same attack on the same images may give another result."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What a classifier and a VLM give for N labelled images.

    Attributes:
        features: (N, f) encodings z.
        truth: (N,) true class, 0 … C−1.
        predicted: (N,) predicted class.
        logits: (N, C) W z + b; None where not kept.
        embeddings: (N, e) unit rows of the VLM; None where not computed.
        drift: (N,) how far the encoder is from its own statistics; None where it keeps none. See
            :class:`~profiler.debug.encoder_or_head.Witnesses`.
        groups: (N,) number of the picture that a row shows; None: every row shows another picture.
    """

    features: FloatArray
    truth: IntArray
    predicted: IntArray
    logits: FloatArray | None = None
    embeddings: FloatArray | None = None
    drift: FloatArray | None = None
    groups: IntArray | None = None

    def __post_init__(self) -> None:
        checked_rows(self.features, "features")
        for what, rows in self._by_image():
            if len(rows) != len(self.features):
                raise InputError(f"{len(self.features)} rows of features, but {len(rows)} {what}")

    def __len__(self) -> int:
        return len(self.features)

    def _by_image(self) -> Iterator[tuple[str, FloatArray | IntArray]]:
        for part in fields(self):
            if isinstance(value := getattr(self, part.name), np.ndarray):
                yield part.name, value

    @property
    def wrong(self) -> BoolArray:
        """(N,) whether each image is misclassified."""
        wrong: BoolArray = self.predicted != self.truth
        return wrong

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return float(np.mean(~self.wrong))

    def take(self, rows: IntArray | BoolArray) -> Self:
        """Some of the images."""
        taken: dict[str, Any] = {name: part[rows] for name, part in self._by_image()}
        return replace(self, **taken)


@dataclass(frozen=True, eq=False)
class Observation(Observed):
    """The same for images of a data set; unreadable images are left out.

    Attributes:
        logits: (N, C).
        embeddings: (N, e).
        kept: (N,) index of each image in its set.
        skipped: images that could not be read.
        batch_size: the batch size that fitted.
    """

    logits: FloatArray
    embeddings: FloatArray
    kept: IntArray = field(kw_only=True)
    skipped: tuple[Skipped, ...] = ()
    batch_size: int = field(kw_only=True)


def examine(
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    reading: Reading = Reading(),  # noqa: B008
    services: Services = NONE,
    *,
    title: str = "images",
    corruption: Corruption | None = None,
    attack: Attack | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> Observation:
    """Pass labelled images through both networks, once; results in the store are reused.

    Args:
        classifier: the network under study.
        vlm: embeds the same images, changed in the same way.
        data: the images.
        reading: how they are read.
        services: store and progress.
        title: of the progress.
        corruption: applied to the images as they are read.
        attack: on the classifier, away from the true classes; the VLM embeds the attacked
            pictures, rounded to 8 bits.
        seed: of the corruption; an attack has its own.
        engine: where the shards of the pass are made; None: in this process.

    Raises:
        InputError: the classifier gives NaN or infinite numbers for an image; a label is not one
            of its outputs.
        UsageError: both ``corruption`` and ``attack`` are given.
    """
    if attack is not None and corruption is not None:
        raise UsageError("images are either attacked or corrupted; give one of the two")
    if data.truth.max() >= classifier.outputs:
        raise InputError(
            f"the labels go up to class {data.truth.max()}, but {classifier.name} has "
            f"{classifier.outputs} outputs, numbered from 0"
        )
    probe: ProbeSet = data if corruption is None else CorruptedProbe(data, corruption, seed)
    with services.progress.stage(title, len(data.names)) as advance:
        found = collect_once(
            classifier,
            classifier.readings,
            vlm,
            probe,
            top=1,
            store=services.store,
            matrices=True,
            change=None if attack is None else _Attacked(classifier, vlm, data, attack),
            precision=reading.precision,
            batch_size=reading.batch_size,
            workers=reading.workers,
            allow_bad=reading.allow_bad,
            advance=advance,
            engine=engine,
        )
    return _observation(classifier, found, data)


def _observation(classifier: Classifier, found: Collected, data: LabelledImages) -> Observation:
    rows = dict(zip((r.name for r in classifier.readings), found.matrices, strict=True))
    drift = rows.get("drift")
    logits = rows["logits"][:]
    return Observation(
        rows["features"][:],
        np.asarray(data.truth)[found.kept],
        logits.argmax(axis=1),
        logits,
        found.embeddings[:],
        None if drift is None else drift[:][:, 0],
        kept=found.kept,
        skipped=found.skipped,
        batch_size=found.batch_size,
    )


class _Attacked:
    """An attack as a change of images: away from the true class."""

    def __init__(
        self, classifier: Classifier, vlm: VLM, data: LabelledImages, attack: Attack
    ) -> None:
        self.text = f"{attack.text}, version {ATTACKS_VERSION}"
        self.again = partial(_Attacked, attack=attack)
        self._classifier = classifier
        self._model = classifier.logits()
        self._vlm = vlm
        self._attack = attack
        self._truth = data.truth
        self._scale = PixelScale.measure(classifier.preprocess, classifier.name)

    def __call__(
        self, indices: Sequence[int], images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.from_numpy(np.asarray(self._truth)[list(indices)])
        attacked = self._attack(
            self._model, images.to(self._classifier.device), labels, self._scale, indices
        )
        pictures = self._scale.pictures(attacked)
        return attacked, torch.stack([self._vlm.preprocess(picture) for picture in pictures])


def check_numbering(
    seen: Observation, outputs: int, *, trust_labels: bool, assumed: bool = False
) -> str:
    """A sentence if labels and outputs seem to be numbered differently; else empty.

    Args:
        seen: what was observed of the unmodified images.
        outputs: number of the classifier's outputs.
        trust_labels: continue nevertheless.
        assumed: whether the order of the classes was assumed, not given.

    Raises:
        InputError: with the sentence, unless ``trust_labels``.
    """
    numbering = suspicious(seen.truth, seen.predicted, outputs)
    if assumed and not numbering:
        numbering = reordered(seen.truth, seen.predicted, outputs)
    if numbering and not trust_labels:
        raise InputError(f"{numbering}; to continue nevertheless, use --trust-labels")
    return numbering


def check_weights(
    classifier: Classifier, data: LabelledImages, seen: Observation, store: Store | None = None
) -> dict[str, float]:
    """Of each layer, the share of squared weights on inputs that are constant over some images.

    See :func:`profiler.models.classifier.dead_weights`.

    Args:
        classifier: whose layers.
        data: the images, unmodified.
        seen: what was observed of them; :data:`CHECKED_IMAGES` of them, evenly spread, are used.
        store: keeps the outcome.

    Returns:
        Name of the layer → share.
    """
    shown = [int(seen.kept[i]) for i in spread(len(seen), CHECKED_IMAGES)]
    key = {
        "dead weights of": classifier.subject.fingerprint,
        "probe": data.fingerprint,
        "images": hashlib.sha256(str(shown).encode()).hexdigest(),
    }
    kept = store.get("passes", key) if store else None
    if kept is None:
        size = min(seen.batch_size, AUTO_BATCH)
        batches = (
            in_company(
                torch.stack([classifier.preprocess(data.read(i)) for i in shown[lo : lo + size]])
            )
            for lo in range(0, len(shown), size)
        )
        found = dead_weights(
            classifier.subject.model, (batch.to(classifier.device) for batch in batches)
        )
        names = np.frombuffer("\n".join(found).encode(), dtype=np.uint8)
        kept = {"names": names, "shares": np.array(list(found.values()))}
        if store:
            store.put("passes", key, kept)
    layers = kept["names"].tobytes().decode().split("\n")
    return dict(zip(layers, kept["shares"].tolist(), strict=True))


CAPTIONS = "seven templates of open_clip"
"""The captions that :func:`caption_rows` puts names into, in words."""


def caption_rows(vlm: VLM, names: Sequence[str], store: Store | None = None) -> FloatArray:
    """(M, T, e) embeddings of names, each in T captions: open_clip's seven simple templates.

    According to CLIP's authors they have most of the gain of all eighty ImageNet templates
    (``open_clip.zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES``).
    """
    from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES as TEMPLATES

    captions = [template(name) for name in names for template in TEMPLATES]
    rows = embed_captions(vlm, captions, store)
    return rows.reshape(len(names), len(TEMPLATES), -1)
