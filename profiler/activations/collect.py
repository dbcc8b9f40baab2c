"""One pass over the probe images: each is decoded once, for the subject and the VLM together."""

import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from profiler.activations.moments import MomentCollector, MomentTree
from profiler.activations.top_lists import SAMPLE, ImageSample, LayerTops, TopCollector, merge_tops
from profiler.core.arrays import FloatArray, IntArray, Rows
from profiler.data.corruptions import CorruptedProbe
from profiler.data.images import HashedFiles, Previews, ProbeSet, UnreadableImageError, spread
from profiler.data.labelled.images import LabelledImages
from profiler.errors import InputError, ProfilerError, ResourceError, first_line
from profiler.models.classifier import Classifier
from profiler.models.pixels import by_table
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.subject.trial import (
    HALF_TOLERANCE,
    TOLERANCE,
    Read,
    applied,
    try_forward,
    try_preprocessing,
)
from profiler.models.vlm.base import VLM
from profiler.session import Advance


class PooledLayer(Protocol):
    """A layer by name, and how one number a unit is made of its output."""

    @property
    def name(self) -> str:
        """In the network."""
        ...

    @property
    def pooling(self) -> str:
        """In words."""
        ...


L = TypeVar("L", bound=PooledLayer, contravariant=True)


class Network(Protocol[L]):
    """What a pass reads: a subject by its layers, or a classifier by its two halves."""

    @property
    def preprocess(self) -> Preprocess:
        """From an RGB image to (3, H, W)."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides what it gives."""
        ...

    def read(self, layers: Sequence[L], images: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """(B, 3, H, W) → (B, K) of each layer."""
        ...


class Change(Protocol):
    """Changes images before both networks see them, as an attack does."""

    @property
    def text(self) -> str:
        """What it does; two changes of the same words do the same."""
        ...

    @property
    def again(self) -> "Callable[[Any, VLM, Any], Change]":
        """Makes it in another process, of the subject, VLM and probe set that are opened there."""
        ...

    def __call__(
        self, indices: Sequence[int], images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images as the subject's preprocessing gives them → changed ones for subject and VLM.

        Args:
            indices: (B,) of the images in their set.
            images: (B, 3, H, W).
        """
        ...


@runtime_checkable
class PreparedImages(Protocol):
    """A probe set that keeps what the subject's preprocessing made of each image."""

    def prepared(self, index: int) -> torch.Tensor | None:
        """(3, H, W) as it was kept; None where it was not yet."""
        ...

    def keep(self, index: int, image: torch.Tensor) -> None:
        """Keep what the preprocessing made of the image at ``index``."""
        ...


AUTO_BATCH = 64
"""Where ``auto`` starts; it is halved for as long as memory runs out."""
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What multiplications may be rounded to (``torch.autocast``)."""
ALLOWED_BAD_SHARE = 0.05
_TRIED = 8
"""Images among which two that can be read are looked for."""
UNIT_TOLERANCE = 1e-2
"""How far from 1 the length of an embedding may be: half precision is allowed."""
THUMBNAIL_SIDE = 160
"""Pixels of the longer side: sharp where people rate, about 5 kB as WebP."""


class BatchTooLargeError(ResourceError):
    """Memory ran out with a batch size that was given."""


@dataclass(frozen=True)
class Skipped:
    """A probe image that could not be read, and why; ``index`` is its place in the set."""

    name: str
    reason: str
    index: int


@dataclass(frozen=True)
class Collected:
    """What a pass over some images brings home, numbered in order, unreadable ones left out.

    Attributes:
        tops: the top lists of every layer.
        embeddings: (N, e) unit rows of the VLM.
        kept: (N,) index of each image in the probe set.
        skipped: images that could not be read.
        batch_size: the batch size that fitted.
        matrices: for each layer the (N, K) pooled activations, where they were wanted.
        moments: how embeddings and activations vary together, where that was wanted.
        sample: activations on some images, indexed in the probe set, where moments were wanted.
    """

    tops: tuple[LayerTops, ...]
    embeddings: Rows
    kept: IntArray
    skipped: tuple[Skipped, ...]
    batch_size: int
    matrices: tuple[Rows, ...] = ()
    moments: MomentTree | None = None
    sample: ImageSample | None = None


@dataclass(frozen=True)
class Known:
    """What a VLM is known to make of a set of images, so that it need not look at them.

    Attributes:
        images: (N,) indices in the set, ascending.
        rows: (N, e) what it makes of each.
        unreadable: why each of the other images, by index, is left out.
    """

    images: IntArray
    rows: Rows
    unreadable: Mapping[int, str]

    def of(self, images: Sequence[int]) -> FloatArray:
        """(B, e) rows of some of the images."""
        return np.asarray(self.rows[np.searchsorted(self.images, images)], np.float32)


@dataclass(frozen=True)
class ImageShard:
    """Some images of a set, in the order in which a pass reads them.

    Attributes:
        start: the place of the first in the order of all.
        images: their indices in the set.
    """

    start: int
    images: Sequence[int]


@dataclass(frozen=True)
class _Item:
    """One image, prepared for both networks; or why there is none."""

    index: int
    for_subject: torch.Tensor | None = None
    for_vlm: torch.Tensor | None = None
    unreadable: str = ""
    fault: str = ""
    digest: bytes = b""


class _Decoded(Dataset[_Item]):
    """Decodes an image and prepares it for both networks; runs in the worker processes.

    Failures travel as data, because an exception that crosses processes arrives as a traceback.

    Args:
        probe: the images.
        for_subject: preprocessing of the subject.
        for_vlm: of the VLM; None where it need not look.
        unreadable: why some images, by index, are not even tried.
        files: hashes each image's file as it is read; None where nobody needs that.
    """

    def __init__(
        self,
        probe: ProbeSet,
        for_subject: Preprocess,
        for_vlm: Preprocess | None,
        unreadable: Mapping[int, str],
        files: HashedFiles | None = None,
    ) -> None:
        self._probe = probe
        self._for_subject = for_subject
        self._for_vlm = for_vlm
        self._unreadable = unreadable
        self._files = files

    def __len__(self) -> int:
        return len(self._probe.names)

    def __getitem__(self, index: int) -> _Item:
        if self._files is None:
            return self._prepared(index)
        digest = self._files.hashes([index]).tobytes()
        return replace(self._prepared(index), digest=digest)

    def _prepared(self, index: int) -> _Item:
        if index in self._unreadable:
            return _Item(index, unreadable=self._unreadable[index])
        keeper = self._probe if isinstance(self._probe, PreparedImages) else None
        if keeper is not None and self._for_vlm is None:
            kept = keeper.prepared(index)
            if kept is not None:
                return _Item(index, kept)
        try:
            image = self._probe.read(index)
        except UnreadableImageError as error:
            return _Item(index, unreadable=str(error))
        name = self._probe.names[index]
        try:
            # A copy, because one of the two may change its image in place, as thumbnail() does.
            own = image if self._for_vlm is None else image.copy()
            for_subject = applied(self._for_subject, own, name)
            if keeper is not None:
                keeper.keep(index, for_subject)
            if self._for_vlm is None:
                return _Item(index, for_subject)
            return _Item(index, for_subject, applied(self._for_vlm, image, name))
        except InputError as error:
            return _Item(index, fault=str(error))


_NO_IMAGES = torch.empty(0)
_WHOSE = ("the model's", "the VLM's")


@dataclass(frozen=True)
class _Batch:
    """The readable images of a batch as two tensors, and those that could not be read.

    Images are stacked where they are decoded: a tensor that crosses from a worker process holds
    a file handle, and one tensor an image would soon use up the handles of a process.
    """

    indices: tuple[int, ...] = ()
    for_subject: torch.Tensor = _NO_IMAGES
    for_vlm: torch.Tensor = _NO_IMAGES
    unreadable: tuple[tuple[int, str], ...] = ()
    fault: str = ""
    digests: tuple[tuple[int, bytes], ...] = ()
    """Of every image, readable or not, where files are hashed."""

    @classmethod
    def of(cls, items: Sequence[_Item]) -> "_Batch":
        """Gather the items of a batch; the first fault among them stands for all."""
        unreadable = tuple((item.index, item.unreadable) for item in items if item.unreadable)
        digests = tuple((item.index, item.digest) for item in items if item.digest)
        good = [item for item in items if not item.unreadable]
        fault = next((item.fault for item in good if item.fault), "")
        if fault or not good:
            return cls(unreadable=unreadable, fault=fault, digests=digests)
        try:
            return cls(
                tuple(item.index for item in good),
                _stack([item.for_subject for item in good], _WHOSE[0]),
                _stack([item.for_vlm for item in good], _WHOSE[1]),
                unreadable,
                digests=digests,
            )
        except InputError as error:
            return cls(unreadable=unreadable, fault=str(error))

    @property
    def images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As the subject and as the VLM see them."""
        return self.for_subject, self.for_vlm

    def pin_memory(self) -> "_Batch":
        """In memory that a GPU can fetch from while the CPU goes on; called by the loader."""
        return replace(
            self, for_subject=self.for_subject.pin_memory(), for_vlm=self.for_vlm.pin_memory()
        )

    def piece(self, start: int, size: int) -> "_Batch":
        """The readable images from ``start``, at most ``size``."""
        part = slice(start, start + size)
        return _Batch(self.indices[part], self.for_subject[part], self.for_vlm[part])


def collect(
    subject: Network[L],
    layers: Sequence[L],
    vlm: VLM,
    probe: ProbeSet,
    *,
    length: int,
    shards: Sequence[ImageShard] | None = None,
    matrices: bool = False,
    moments: bool = False,
    known: Known | None = None,
    change: Change | None = None,
    precision: str = "fp32",
    batch_size: int | None = None,
    workers: int = 0,
    allow_bad: bool = False,
    tried: bool = False,
    advance: Advance = lambda _: None,
) -> Iterator[Collected]:
    """Run both networks over the probe set once; yield what each shard of it brought home.

    First they are tried on two images (:func:`try_first`). A batch never reaches over the end of a
    shard, so a shard's outcome does not depend on which others are made in the same call. A shard
    without a readable image has no units in its lists. Of files the probe set then knows the
    hashes of the shard's images, which are taken as they are read.

    Args:
        subject: the network under study.
        layers: where to read it.
        vlm: embeds the same images.
        probe: the images.
        length: how long a top list is kept.
        shards: None takes the whole set as one.
        matrices: keep the activations on every image as well.
        moments: gather how embeddings and activations vary together
            (:mod:`profiler.activations.moments`), and a sample of the activations.
        known: what the VLM makes of the images, where that is known: it is not called then.
        change: what is done to images before the networks see them; nothing is known of those.
        precision: one of :data:`PRECISIONS`; both networks run in it.
        batch_size: None starts at 64 and halves it whenever memory runs out.
        workers: processes that decode; 0 decodes in this one. Does not change any result.
        allow_bad: go on although more than 5 % of the images cannot be read.
        tried: whether :func:`try_first` was called before.
        advance: told after each batch how many images it held.
    """
    total = len(probe.names)
    shards = [ImageShard(0, range(total))] if shards is None else shards
    size = batch_size or AUTO_BATCH
    batches = [list(map(int, shard.images[lo : lo + size]))
               for shard in shards for lo in range(0, len(shard.images), size)]  # fmt: skip
    if batches and not tried:
        try_first(subject, layers, probe, vlm, known=known, precision=precision, batch_size=size)
    files = files_of(probe)
    loader = DataLoader(
        _Decoded(
            probe,
            by_table(subject.preprocess),
            None if known else by_table(vlm.preprocess),
            known.unreadable if known else {},
            None if files is None or files.is_hashed else files,
        ),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_Batch.of,
        pin_memory=subject.device.type == "cuda",
    )
    forward = _Forward(
        subject, layers, vlm, known, change, precision, size, may_shrink=batch_size is None
    )
    shapes: tuple[set[tuple[int, ...]], ...] = (set(), set())
    skipped = 0
    decoded = iter(loader)
    for shard in shards:
        gathered = _Shard(layers, probe, shard, length, matrices, moments)
        for _ in range(0, len(shard.images), size):
            batch = _next_of(decoded)
            gathered.skip(batch)
            if files is not None and batch.digests:
                images, digests = zip(*batch.digests, strict=True)
                files.learn(images, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
            check_skipped(gathered.skipped, skipped, total, allow_bad)
            if batch.fault:
                raise InputError(batch.fault)
            if batch.indices:  # one shape not only within a batch, but throughout
                for seen, prepared, whose in zip(shapes, batch.images, _WHOSE, strict=True):
                    seen.add(tuple(prepared.shape[1:]))
                    _check_shapes(seen, whose)
            for piece, activations, rows in forward(batch):
                if known is None:
                    _check_rows(rows, piece.indices, gathered.name_of)
                gathered.add(piece, activations, rows)
            advance(len(batch.indices) + len(batch.unreadable))
        skipped += len(gathered.skipped)
        yield gathered.done(forward.size)


def files_of(probe: ProbeSet) -> HashedFiles | None:
    """The files under labels and corruptions, if the images are read from files."""
    while isinstance(probe, CorruptedProbe | LabelledImages):
        probe = probe.probe if isinstance(probe, CorruptedProbe) else probe.images
    return probe if isinstance(probe, HashedFiles) else None


def deadly_image(
    subject: Network[L], vlm: VLM, probe: ProbeSet, images: Sequence[int], known: Known | None
) -> str | None:
    """Name of the first image that kills a process which reads and prepares it, if any does.

    A decoder in C may crash on a damaged file, which no exception tells of.
    """
    decoded = _Decoded(
        probe,
        subject.preprocess,
        None if known else vlm.preprocess,
        known.unreadable if known else {},
    )
    # Forked, so that nothing has to be pickled: a preprocessing may be a function of any kind.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork, initializer=_hold, initargs=(decoded,)) as pool:
        for index in images:
            try:
                pool.submit(_prepare, index).result()
            except BrokenProcessPool:
                return probe.names[index]
    return None


def _hold(decoded: _Decoded) -> None:
    global _held
    _held = decoded


_held: _Decoded | None = None
"""In a process that only reads images: where it finds them."""


def _prepare(index: int) -> None:
    if _held is not None:
        _held[index]


def try_first(
    subject: Network[L],
    layers: Sequence[L],
    probe: ProbeSet,
    vlm: VLM | None = None,
    *,
    known: Known | None = None,
    precision: str = "fp32",
    batch_size: int = AUTO_BATCH,
) -> None:
    """Try both networks and their preprocessings on two images of the set, before all of them.

    Takes two short forward passes of each network, and well below a second beside. Where no image
    can be read, or not even two fit into memory, nothing is tried: the pass itself says so.

    Raises:
        InputError: a preprocessing or a network fails or is random; what a network gives for an
            image depends on others in its batch, unless ``batch_size`` is 1; the head of a
            classifier does not give W z + b.
    """
    seen = list(islice(_readable(probe), 2 if batch_size > 1 else 1))
    if not seen:
        return
    # What torch.compile makes is made for one size of batch, so the plain networks are tried.
    network: Any = getattr(subject, "plain", subject)
    eyes: VLM | None = getattr(vlm, "plain", vlm)
    tried: list[tuple[str, Preprocess, Read]] = [
        ("the model", network.preprocess, lambda images: network.read(layers, images))
    ]
    if eyes is not None and known is None:
        embed = eyes.embed_images
        tried.append(("the VLM", eyes.preprocess, lambda images: {"embedding": embed(images)}))
    for who, preprocess, read in tried:
        made = try_preprocessing(preprocess, seen, f"{who}'s")
        images, name = _stack(made, f"{who}'s"), seen[0][0]
        for (bad, _), image in zip(seen, images, strict=True):
            # Where a guard answers alone, such an image is flagged; a pass cannot go on with it.
            if eyes is not None and not torch.isfinite(image).all():
                raise InputError(f"{who}'s preprocessing gives NaN or infinite numbers for {bad!r}")
        try:
            with torch.inference_mode(), autocast(network.device, precision):
                tolerance = TOLERANCE if precision == "fp32" else HALF_TOLERANCE
                taken = try_forward(read, images, name, who, tolerance)
        except ProfilerError:
            raise
        except Exception as error:
            if _is_out_of_memory(error):
                return
            raise InputError(
                f"{who} fails on probe image {name!r}: {type(error).__name__}: {first_line(error)}"
            ) from error
        if isinstance(network, Classifier) and read is tried[0][2]:
            rounding = PRECISIONS[precision] or torch.float32
            network.check_head(taken["features"], taken["logits"], rounding)


def _readable(probe: ProbeSet) -> Iterator[tuple[str, Image.Image]]:
    """Some images from all over the set, with their names."""
    for index in spread(len(probe.names), _TRIED):
        try:
            yield probe.names[index], probe.read(index)
        except UnreadableImageError:
            continue


def _next_of(decoded: Iterator[_Batch]) -> _Batch:
    try:
        return next(decoded)
    except RuntimeError as error:
        if "worker" not in str(error):
            raise
        raise ResourceError(
            "a process that decodes images was killed, as happens where memory or /dev/shm is "
            "full; use fewer --workers, or 0"
        ) from error


class _Shard:
    """Gathers what the batches of a shard bring home."""

    def __init__(
        self,
        layers: Sequence[PooledLayer],
        probe: ProbeSet,
        part: ImageShard,
        length: int,
        matrices: bool,
        moments: bool,
    ) -> None:
        self.probe = probe
        self.places = {int(image): part.start + i for i, image in enumerate(part.images)}
        self.kept: list[int] = []
        self.skipped: list[Skipped] = []
        self.embeddings: list[FloatArray] = []
        length = min(length, len(part.images))
        self.tops = {layer.name: TopCollector(layer.name, length, self.name_of) for layer in layers}
        self.matrices: dict[str, list[FloatArray]] | None = (
            {layer.name: [] for layer in layers} if matrices else None
        )
        self.moments = MomentCollector() if moments else None
        self.sampled: list[ImageSample] = []

    def name_of(self, image: int) -> str:
        """Name of an image of the set."""
        return self.probe.names[image]

    def skip(self, batch: _Batch) -> None:
        """Note the images that cannot be read."""
        self.skipped += [
            Skipped(self.probe.names[index], why, index) for index, why in batch.unreadable
        ]

    def add(self, piece: _Batch, activations: dict[str, FloatArray], rows: FloatArray) -> None:
        """Take in some images."""
        images = np.asarray(piece.indices)
        self.kept += piece.indices
        for name, values in activations.items():
            self.tops[name].add(images, values)
            if self.matrices is not None:
                self.matrices[name].append(values)
        self.embeddings.append(rows)
        if self.moments is not None:
            places = np.array([self.places[image] for image in piece.indices])
            self.moments.add(places, rows, activations)
            if (early := places < SAMPLE).any():
                some = tuple(values[early] for values in activations.values())
                self.sampled.append(ImageSample(images[early], some))

    def done(self, batch_size: int) -> Collected:
        """Everything, in the order of the set."""
        skipped = tuple(self.skipped)
        if not self.kept:
            nothing = np.empty((0, 0), np.float32)
            return Collected((), nothing, np.empty(0, np.int64), skipped, batch_size)
        order = np.argsort(self.kept)
        kept = np.asarray(self.kept, dtype=np.int64)[order]
        return Collected(
            tuple(_numbered(tops.result(), kept) for tops in self.tops.values()),
            np.concatenate(self.embeddings)[order],
            kept,
            skipped,
            batch_size,
            tuple(np.concatenate(values)[order] for values in (self.matrices or {}).values()),
            None if self.moments is None else self.moments.result(),
            ImageSample.of(self.sampled) if self.sampled else None,
        )


def _numbered(tops: LayerTops, kept: IntArray) -> LayerTops:
    """Top lists by the numbers of the images that were read, in place of those of the set."""
    return replace(tops, images=np.searchsorted(kept, tops.images))


def merge(shards: Iterable[Collected], *, length: int) -> Collected:
    """What a pass over all images would have brought home, from what its shards did.

    Exactly: shards of any sizes and in any order give the same, provided that each kept top lists
    of ``length`` (or all of its images, where it has fewer).
    """
    tops: tuple[LayerTops, ...] = ()
    skipped: list[Skipped] = []
    parts: list[Collected] = []
    moments = MomentTree()
    sampled: list[ImageSample] = []
    batch_size = 0
    for shard in shards:
        if shard.tops:
            named = tuple(replace(one, images=shard.kept[one.images]) for one in shard.tops)
            tops = tuple(
                merge_tops(one, other, length) for one, other in zip(tops, named, strict=True)
            ) if tops else named  # fmt: skip
            # Of each part what is on disk; top lists of many shards would fill memory.
            parts.append(replace(shard, tops=(), moments=None, sample=None))
        if shard.moments is not None:
            moments.add_all(shard.moments)
        if shard.sample is not None:
            sampled.append(shard.sample)
        skipped += shard.skipped
        batch_size = min(batch_size or shard.batch_size, shard.batch_size)
    if not parts:
        raise InputError(
            f"none of the {len(skipped)} probe images can be read; first: {skipped[0].reason}"
        )
    read = np.concatenate([part.kept for part in parts])
    order = np.argsort(read)
    kept = read[order]
    return Collected(
        tuple(_numbered(each, kept) for each in tops),
        JoinedRows([part.embeddings for part in parts], order),
        kept,
        tuple(sorted(skipped, key=lambda item: item.index)),
        batch_size,
        tuple(
            JoinedRows([part.matrices[layer] for part in parts], order)
            for layer in range(len(parts[0].matrices))
        ),
        moments.whole() if moments.nodes else None,
        ImageSample.of(sampled) if sampled else None,
    )


class JoinedRows:
    """Several blocks of rows, read as one.

    Args:
        blocks: of rows.
        order: the rows of all blocks as they are to be numbered; None: one block after the other.
    """

    def __init__(self, blocks: Sequence[Rows], order: IntArray | None = None) -> None:
        self.blocks = blocks
        self._order = order
        self.shape = (sum(map(len, blocks)), *blocks[0].shape[1:])
        self._starts = np.cumsum([0, *map(len, blocks)])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> FloatArray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows) if self._order is None else self._order[rows]
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        place = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(place):
            here = place == index
            found[here] = self.blocks[index][rows[here] - self._starts[index]]
        return found


def check_skipped(skipped: Sequence[Skipped], before: int, total: int, allow_bad: bool) -> None:
    """Stop where too many images cannot be read, counting those ``before`` these."""
    if not allow_bad and before + len(skipped) > ALLOWED_BAD_SHARE * total:
        first = skipped[0]
        raise InputError(
            f"more than {ALLOWED_BAD_SHARE:.0%} of the {total} probe images cannot be read "
            f"(first: {first.name!r}, {first.reason}); mend them, or go on with --allow-bad"
        )


def _check_rows(rows: FloatArray, numbers: Sequence[int], name_of: Callable[[int], str]) -> None:
    """Refuse embeddings that are no unit rows: every score rests on their cosines."""
    if rows.ndim != 2 or len(rows) != len(numbers):
        raise InputError(f"the VLM gives {rows.shape} for {len(numbers)} images; one row each")
    off = np.abs(np.linalg.norm(rows, axis=1) - 1)
    if not (off < UNIT_TOLERANCE).all():  # NaN is not less, either
        image = name_of(numbers[int(np.argmin(off < UNIT_TOLERANCE))])
        raise InputError(f"the VLM's embedding of {image!r} is not a unit row")


_Done = tuple[_Batch, dict[str, FloatArray], FloatArray]


@dataclass
class _Forward:
    """Both forward passes of a batch, in pieces that fit into memory."""

    subject: Network[Any]
    layers: Sequence[Any]
    vlm: VLM
    known: Known | None
    change: Change | None
    precision: str
    size: int
    may_shrink: bool

    def __call__(self, batch: _Batch) -> Iterator[_Done]:
        start = 0
        while start < len(batch.indices):
            piece = batch.piece(start, self.size)
            try:
                activations, rows = self._pass(piece)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            else:
                yield piece, activations, rows
                start += len(piece.indices)
                continue
            # Out of the handler: the error's traceback holds on to the tensors that filled memory.
            self._shrink(len(piece.indices))

    def _pass(self, piece: _Batch) -> tuple[dict[str, FloatArray], FloatArray]:
        with torch.inference_mode(), autocast(self.subject.device, self.precision):
            images = piece.images
            if self.change is not None:
                images = self.change(piece.indices, piece.for_subject)
            taken = self.subject.read(self.layers, images[0])
            # Arrays of this function's own: a hook may hand out a view of a reused buffer.
            activations = {name: values.cpu().numpy().copy() for name, values in taken.items()}
            if self.known is not None:
                return activations, self.known.of(piece.indices)
            return activations, self.vlm.embed_images(images[1]).float().cpu().numpy()

    def _shrink(self, tried: int) -> None:
        if not self.may_shrink:
            raise BatchTooLargeError(
                f"memory ran out with batches of {tried}; use -b auto or a smaller --batch-size"
            )
        if tried == 1:
            raise ResourceError("memory ran out with a single image; use a larger device")
        self.size = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which multiplications are rounded; one of :data:`PRECISIONS`."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def _stack(images: Sequence[torch.Tensor | None], whose: str) -> torch.Tensor:
    tensors = [image for image in images if image is not None]
    if not tensors:
        return _NO_IMAGES
    _check_shapes({tuple(tensor.shape) for tensor in tensors}, whose)
    return torch.stack(tensors)


def _check_shapes(shapes: set[tuple[int, ...]], whose: str) -> None:
    if len(shapes) > 1:
        raise InputError(
            f"{whose} preprocessing gives images of different shapes ({sorted(shapes)}); it must "
            "resize and crop to one size"
        )


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The allocators of CPUs and of Apple's GPUs raise a plain RuntimeError.
    text = str(error).lower()
    signs = ("can't allocate memory", "not enough memory", "out of memory")
    return any(sign in text for sign in signs)


class _Thumbnails(Dataset[bytes]):
    def __init__(self, probe: ProbeSet, indices: Sequence[int]) -> None:
        self._probe = probe
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> bytes:
        index, probe = self._indices[position], self._probe
        if isinstance(probe, Previews):
            image = probe.preview(index, THUMBNAIL_SIDE)
        else:
            image = probe.read(index)
        return encoded_picture(image, THUMBNAIL_SIDE)


def encoded_picture(image: Image.Image, side: int) -> bytes:
    """A picture as WebP, its longer side made so many pixels at most; it is changed in place."""
    # Half the work of the default, BICUBIC, and no difference that is seen at this size.
    image.thumbnail((side, side), Image.Resampling.HAMMING)
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
