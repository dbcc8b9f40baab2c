"""One pass over the probe images: each is decoded once, for the subject and the VLM together."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from profiler.activations import LayerTops, TopCollector
from profiler.errors import InputError, ResourceError
from profiler.inputs import ProbeSet, UnreadableImageError
from profiler.similarity import FloatArray
from profiler.subject import Layer, Subject
from profiler.vlm import VLM, Preprocess

Advance = Callable[[int], None]

AUTO_BATCH = 64
"""Where ``auto`` starts; it is halved for as long as memory runs out."""
ALLOWED_BAD_SHARE = 0.05
THUMBNAIL_SIDE = 112
"""Pixels of the longer side: sharp at 96 pixels on the page, about 3 kB as WebP."""


@dataclass(frozen=True)
class Skipped:
    """A probe image that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Collected:
    """What one pass brings home. Images are numbered in order, unreadable ones left out.

    Attributes:
        tops: the top lists of every layer.
        embeddings: (N, e) unit rows of the VLM.
        kept: (N,) index of each image in the probe set.
        skipped: images that could not be read.
        batch_size: the batch size that fitted.
    """

    tops: tuple[LayerTops, ...]
    embeddings: FloatArray
    kept: np.ndarray[Any, np.dtype[np.int64]]
    skipped: tuple[Skipped, ...]
    batch_size: int


@dataclass(frozen=True)
class _Item:
    index: int
    for_subject: torch.Tensor | None = None
    for_vlm: torch.Tensor | None = None
    unreadable: str = ""
    fault: str = ""


class _Decoded(Dataset[_Item]):
    """Decodes an image and prepares it for both networks; runs in the worker processes.

    Failures travel as data, because an exception that crosses processes arrives as a traceback.
    """

    def __init__(self, probe: ProbeSet, for_subject: Preprocess, for_vlm: Preprocess) -> None:
        self._probe = probe
        self._for_subject = for_subject
        self._for_vlm = for_vlm

    def __len__(self) -> int:
        return len(self._probe.names)

    def __getitem__(self, index: int) -> _Item:
        try:
            image = self._probe.read(index)
        except UnreadableImageError as error:
            return _Item(index, unreadable=str(error))
        try:
            return _Item(index, self._for_subject(image), self._for_vlm(image))
        except Exception as error:
            return _Item(
                index,
                fault=f"preprocessing of probe image {self._probe.names[index]!r} fails: "
                f"{type(error).__name__}: {error}",
            )


def collect(
    subject: Subject,
    layers: Sequence[Layer],
    vlm: VLM,
    probe: ProbeSet,
    *,
    length: int,
    batch_size: int | None = None,
    workers: int = 0,
    allow_bad: bool = False,
    advance: Advance = lambda _: None,
) -> Collected:
    """Run both networks over the probe set once.

    Args:
        subject: the network under study.
        layers: where to read it.
        vlm: embeds the same images.
        probe: the images.
        length: how long a top list is kept.
        batch_size: None starts at 64 and halves it whenever memory runs out.
        workers: processes that decode; 0 decodes in this one. Does not change any result.
        allow_bad: go on although more than 5 % of the images cannot be read.
        advance: told after each batch how many images it held.
    """
    total = len(probe.names)
    size = batch_size or AUTO_BATCH
    loader = DataLoader(
        _Decoded(probe, subject.preprocess, vlm.preprocess),
        batch_size=size,
        num_workers=workers,
        collate_fn=list,
        pin_memory=False,
    )
    collectors = {layer.name: TopCollector(layer.name, min(length, total)) for layer in layers}
    forward = _Forward(subject, layers, vlm, size, may_shrink=batch_size is None)
    embeddings: list[FloatArray] = []
    kept: list[int] = []
    skipped: list[Skipped] = []
    with torch.inference_mode():
        for items in loader:
            for item in items:
                if item.fault:
                    raise InputError(item.fault)
                if item.unreadable:
                    skipped.append(Skipped(probe.names[item.index], item.unreadable))
            _check_skipped(skipped, total, allow_bad)
            good = [item for item in items if not item.unreadable]
            for piece, activations, rows in forward(good):
                numbers = np.arange(len(kept), len(kept) + len(piece))
                for name, values in activations.items():
                    collectors[name].add(numbers, values)
                embeddings.append(rows)
                kept.extend(item.index for item in piece)
            advance(len(items))
    if not kept:
        raise InputError(
            f"none of the {total} probe images can be read; first: {skipped[0].reason}"
        )
    return Collected(
        tuple(collectors[layer.name].result() for layer in layers),
        np.concatenate(embeddings),
        np.asarray(kept),
        tuple(skipped),
        forward.size,
    )


def _check_skipped(skipped: Sequence[Skipped], total: int, allow_bad: bool) -> None:
    if not allow_bad and len(skipped) > ALLOWED_BAD_SHARE * total:
        first = skipped[0]
        raise InputError(
            f"more than {ALLOWED_BAD_SHARE:.0%} of the {total} probe images cannot be read "
            f"(first: {first.name!r}, {first.reason}); mend them, or go on with --allow-bad"
        )


_Piece = tuple[Sequence[_Item], dict[str, FloatArray], FloatArray]


@dataclass
class _Forward:
    """Both forward passes of a batch, in pieces that fit into memory."""

    subject: Subject
    layers: Sequence[Layer]
    vlm: VLM
    size: int
    may_shrink: bool

    def __call__(self, items: Sequence[_Item]) -> Iterator[_Piece]:
        start = 0
        while start < len(items):
            piece = items[start : start + self.size]
            try:
                done = self._pass(piece)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._shrink(len(piece))
                continue
            yield piece, *done
            start += len(piece)

    def _pass(self, piece: Sequence[_Item]) -> tuple[dict[str, FloatArray], FloatArray]:
        images = _stack([item.for_subject for item in piece], "the model's")
        for_vlm = _stack([item.for_vlm for item in piece], "the VLM's")
        with self.subject.taps(self.layers) as taken:
            self.subject.model(images.to(self.subject.device, memory_format=torch.channels_last))
        # Arrays of this function's own: a hook may hand out a view of a buffer that is reused.
        activations = {name: values.cpu().numpy().copy() for name, values in taken.items()}
        return activations, self.vlm.embed_images(for_vlm).cpu().numpy()

    def _shrink(self, tried: int) -> None:
        if not self.may_shrink:
            raise ResourceError(
                f"memory ran out with batches of {tried}; use -b auto or a smaller --batch-size"
            )
        if tried == 1:
            raise ResourceError("memory ran out with a single image; use a larger device")
        self.size = max(1, tried // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _stack(images: Sequence[torch.Tensor | None], whose: str) -> torch.Tensor:
    tensors = [image for image in images if image is not None]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) != 1:
        raise InputError(
            f"{whose} preprocessing gives images of different shapes ({sorted(shapes)}); it must "
            "resize and crop to one size"
        )
    return torch.stack(tensors)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocator raises a plain RuntimeError.
    text = str(error).lower()
    return "can't allocate memory" in text or "not enough memory" in text


class _Thumbnails(Dataset[bytes]):
    def __init__(self, probe: ProbeSet, indices: Sequence[int]) -> None:
        self._probe = probe
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> bytes:
        image = self._probe.read(self._indices[position])
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=72, method=2)
        return file.getvalue()


def thumbnails(
    probe: ProbeSet, indices: Sequence[int], *, workers: int = 0, advance: Advance = lambda _: None
) -> list[bytes]:
    """Small WebP pictures of the probe images at ``indices``, in that order."""
    made: list[bytes] = []
    loader = DataLoader(
        _Thumbnails(probe, indices), batch_size=64, num_workers=workers, collate_fn=list
    )
    for batch in loader:
        made += batch
        advance(len(batch))
    return made
