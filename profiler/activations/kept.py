"""A pass over the probe images, made once: kept under everything that decides its outcome.

The images are cut into shards. Each is kept as soon as it is done, under the contents of its own
images, so that a pass that was interrupted goes on where it stopped; at the end they are merged,
and the whole is kept instead. Files are hashed as the pass reads them. Only where the store holds
something that may be about the same images are they hashed before.

What the VLM makes of the images is kept once more without the subject, so that another subject on
the same images, such as the next checkpoint of a training, needs no VLM.
"""

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import numpy as np

from profiler.activations.collect import (
    Change,
    Collected,
    ImageShard,
    Known,
    L,
    Network,
    PooledLayer,
    Skipped,
    check_skipped,
    collect,
    files_of,
    merge,
)
from profiler.activations.moments import BLOCK, MomentTree, order_of
from profiler.activations.top_lists import ImageSample, LayerTops
from profiler.core.arrays import FloatArray, Rows, blocks
from profiler.core.store import Array, RowStream, Store
from profiler.data.images import ProbeSet, contents
from profiler.errors import ResourceError
from profiler.models.vlm.base import VLM
from profiler.session import Advance

VERSION = 6
"""Changes whenever the same networks on the same images may bring home something else."""
KEPT_LENGTH = 100
"""Length of the top lists that are kept, so that another ``--top`` needs no new pass."""
DECIDING_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "pillow")
"""Packages that decode, resize or calculate; another version may move the last bits."""

_LARGEST_SHARD, _SHARDS = 8192, 32
_ALONE = {"batch_size": 1}
"""What the key of a pass says that read every image alone."""
_ON_DISK = ("embeddings", "matrix")
_COPIED_ROWS = 4096


def cut(images: int) -> list[range]:
    """The shards of a probe set, by places in :func:`.order_of`; they depend on its size alone.

    At most 32, of 256 to 8,192 images, unless there are more than 262,144: a shard holds top lists
    and moments of each unit, and too many of those would take more room than they save time. Each
    is so many blocks of the moments as is a power of two, and with that one node of their tree.

    >>> cut(600)
    [range(0, 256), range(256, 512), range(512, 600)]
    """
    blocks_each = max(-(-images // _SHARDS // BLOCK), 1)
    size = min(BLOCK << (blocks_each - 1).bit_length(), _LARGEST_SHARD)
    return [range(lo, min(lo + size, images)) for lo in range(0, images, size)]


@dataclass(frozen=True)
class MissingShards:
    """What a pass lacks, and how it is made.

    Attributes:
        subject: the network under study.
        layers: where it is read.
        vlm: embeds the same images.
        probe: the images.
        shards: those that are missing, by number.
        count: of all shards of the pass.
        options: of :func:`~profiler.activations.collect.collect`, what the shards are about:
            length, matrices, moments, precision.
        known: what the VLM makes of the images, where that is known.
        batch_size: None starts at 64 and halves it whenever memory runs out.
        workers: processes that decode.
        allow_bad: go on although more than 5 % of the images cannot be read.
        advance: told how many images are finished.
        store: where the shards go.
        key: of the whole pass, without its images.
    """

    subject: Network[Any]
    layers: Sequence[Any]
    vlm: VLM
    probe: ProbeSet
    shards: Mapping[int, ImageShard]
    count: int
    options: Mapping[str, Any]
    known: Known | None
    batch_size: int | None
    workers: int
    allow_bad: bool
    advance: Advance
    store: Store
    key: Mapping[str, Any]


class Engine(Protocol):
    """Where the shards of a pass are made."""

    def hash(self, probe: ProbeSet) -> None:
        """Take the fingerprint of the images, where this is done better elsewhere."""
        ...

    def is_own(self, number: int) -> bool:
        """Whether a shard is made here, and not by another command at the same time."""
        ...

    def make(self, missing: MissingShards) -> Iterator[tuple[int, Collected | None]]:
        """Shards by number, in any order; None for one that was put into the store already.

        Of files, the probe set then knows the hashes of the shard's images.
        """
        ...


@dataclass(frozen=True)
class InThisProcess:
    """Makes one shard after the other.

    Attributes:
        number: of this share, from 1, in an array of jobs that have a cache folder in common.
        count: of all shares; each makes every so many-th shard.
    """

    number: int = 1
    count: int = 1

    def hash(self, probe: ProbeSet) -> None:
        """See :class:`Engine`: the probe set does it by itself."""

    def is_own(self, number: int) -> bool:
        """See :class:`Engine`."""
        return number % self.count == self.number - 1

    def make(self, missing: MissingShards) -> Iterator[tuple[int, Collected | None]]:
        """See :class:`Engine`."""
        made = collect(
            missing.subject,
            missing.layers,
            missing.vlm,
            missing.probe,
            shards=list(missing.shards.values()),
            known=missing.known,
            batch_size=missing.batch_size,
            workers=missing.workers,
            allow_bad=missing.allow_bad,
            advance=missing.advance,
            **missing.options,
        )
        return zip(missing.shards, made, strict=True)


class UnfinishedError(Exception):
    """The own shards of a pass are made; nothing is wrong, and there is no result yet."""


def put_shard(
    store: Store, key: Mapping[str, Any], probe: ProbeSet, shard: ImageShard, made: Collected
) -> None:
    """Keep a shard of the pass with a key, until the whole takes its place."""
    store.put("shards", shard_key(key, probe, shard), _to_arrays(made))


def shard_key(key: Mapping[str, Any], probe: ProbeSet, shard: ImageShard) -> dict[str, Any]:
    """Under what a shard of the pass with a key is kept: reads files that are not hashed yet."""
    if (files := files_of(probe)) is not None:
        files.hashes(shard.images)  # all at once, where several threads may read
    return {**key, "places": _places(shard), "contents": contents(probe, shard.images)}


def _places(shard: ImageShard) -> list[int]:
    return [shard.start, shard.start + len(shard.images)]


def collect_once(
    subject: Network[L],
    layers: Sequence[L],
    vlm: VLM,
    probe: ProbeSet,
    *,
    top: int,
    store: Store | None = None,
    matrices: bool = False,
    moments: bool = False,
    known: Known | None = None,
    change: Change | None = None,
    precision: str = "fp32",
    batch_size: int | None = None,
    workers: int = 0,
    allow_bad: bool = False,
    advance: Advance = lambda _: None,
    engine: Engine | None = None,
) -> Collected:
    """What both networks make of the probe images, from ``store`` as far as it is there.

    Neither ``batch_size`` nor ``workers`` is part of the key: they change nothing but the last
    bits of a sum. For only with a batch size of 1, which is, does a network pass whose numbers
    depend on the batch (:func:`profiler.activations.collect.try_first`). Where there is a store,
    embeddings and ``matrices`` stay on disk. What is ``known`` of the images is used, and not kept
    apart.
    """
    total = len(probe.names)
    length = _kept_length(top, total)
    alone = _ALONE if batch_size == 1 else {}
    order = order_of(total)
    shards = [ImageShard(each.start, order[each.start : each.stop].tolist()) for each in cut(total)]
    options: dict[str, Any] = {
        "length": length,
        "matrices": matrices,
        "moments": moments,
        "change": change,
        "precision": precision,
    }
    if store is None:
        made = collect(
            subject,
            layers,
            vlm,
            probe,
            shards=shards,
            known=known,
            batch_size=batch_size,
            workers=workers,
            allow_bad=allow_bad,
            advance=advance,
            **options,
        )
        return merge(made, length=length)
    engine = engine or InThisProcess()
    kept = {"matrices": matrices, "moments": moments}
    key = _key(subject.fingerprint, vlm.fingerprint, layers, total, length, precision, kept) | alone
    if change is not None:
        key["change"] = change.text
    seen = _deciding(precision) | {"vlm": vlm.fingerprint, "images": total} | alone
    own = known is None and change is None
    files = files_of(probe)
    whole = None
    if (
        files is None
        or files.is_hashed
        or _is_kept(store, "passes", key, "probe", *kept)
        or (own and _is_kept(store, "embeddings", seen, "probe"))
    ):
        engine.hash(probe)
        whole = _find(store, key | {"probe": probe.fingerprint}, layers)
        if own and whole is None:
            known = _known(store, seen | {"probe": probe.fingerprint})
    if whole is None:
        begun = _begun(store, key)
        missing = {
            i: each
            for i, each in enumerate(shards)
            if engine.is_own(i)
            and not (_places(each) in begun and store.has("shards", shard_key(key, probe, each)))
        }
        advance(total - sum(len(each.images) for each in missing.values()))
        if missing:
            todo = MissingShards(
                subject,
                layers,
                vlm,
                probe,
                missing,
                len(shards),
                options,
                known,
                batch_size,
                workers,
                allow_bad,
                advance,
                store,
                key,
            )
            for i, shard in engine.make(todo):
                if shard is not None:
                    put_shard(store, key, probe, shards[i], shard)
        others = [each for i, each in enumerate(shards) if not engine.is_own(i)]
        _check_finished(store, key, probe, others, len(shards))
        parts = [shard_key(key, probe, each) for each in shards]
        key["probe"] = probe.fingerprint
        whole = _merged(store, key, parts, layers, length)
        if own and known is None:
            store.put("embeddings", seen | {"probe": probe.fingerprint}, _known_arrays(whole))
    else:
        advance(total)
        begun = _begun(store, key)
        parts = [shard_key(key, probe, each) for each in shards if _places(each) in begun]
    # Also where an earlier run was killed before it came to this.
    for each in parts:
        store.drop("shards", each)
    check_skipped(whole.skipped, 0, total, allow_bad)
    return whole


def _begun(store: Store, key: Mapping[str, Any]) -> list[Any]:
    """The places of shards that are kept, of these images or of others."""
    return [each["places"] for each in _like(store, "shards", key, "places", "contents")]


def _like(
    store: Store, kind: str, key: Mapping[str, Any], *but: str
) -> Iterator[Mapping[str, Any]]:
    """The keys of a kind that differ from one at most in what some of its names say."""
    wanted = _without(key, but)
    return (each for each in store.keys(kind) if _without(each, but) == wanted)


def _without(key: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name not in names}


def _is_kept(store: Store, kind: str, key: Mapping[str, Any], *but: str) -> bool:
    return any(True for _ in _like(store, kind, key, *but))


def _check_finished(
    store: Store,
    key: Mapping[str, Any],
    probe: ProbeSet,
    others: Sequence[ImageShard],
    count: int,
) -> None:
    """Raise :class:`UnfinishedError` where shards that other commands make are missing."""
    if not others:
        return
    begun = _begun(store, key)
    missing = [each for each in others if _places(each) not in begun]
    # Only whoever finds all of them reads the others' images, to see that they are the same.
    if not missing:
        missing = [each for each in others if not store.has("shards", shard_key(key, probe, each))]
    if missing:
        raise UnfinishedError(f"{len(missing)} of {count} shards of the image pass are missing")


@dataclass(frozen=True)
class Fingerprints:
    """Of what a pass is made of."""

    subject: str
    vlm: str
    probe: str


def kept_pass(
    store: Store,
    fingerprints: Fingerprints,
    layers: Sequence[PooledLayer],
    *,
    images: int,
    top: int,
    precision: str = "fp32",
) -> Collected | None:
    """The pass that an earlier :func:`collect_once` kept, if it is still there.

    With the activations on every image, if those were kept.

    Args:
        store: where it was kept.
        fingerprints: of subject, VLM and probe set.
        layers: those the pass was about, in order.
        images: of the probe set, those that could not be read included.
        top: as asked for then.
        precision: as asked for then.
    """
    key = _key(
        *(fingerprints.subject, fingerprints.vlm, layers, images),
        *(_kept_length(top, images), precision, {"probe": fingerprints.probe}),
    )
    wanted = (
        key | alone | {"matrices": matrices, "moments": moments}
        for alone in ({}, _ALONE)
        for matrices in (True, False)
        for moments in (True, False)
    )
    found = (_read(store, "passes", each, layers) for each in wanted)
    return next((each for each in found if each is not None), None)


def _kept_length(top: int, images: int) -> int:
    return min(max(top, KEPT_LENGTH), images)


def _key(
    subject: str,
    vlm: str,
    layers: Sequence[PooledLayer],
    images: int,
    length: int,
    precision: str,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Of a pass: without its images, unless there is ``more``."""
    return {
        **_deciding(precision),
        "subject": subject,
        "vlm": vlm,
        "images": images,
        "layers": [[layer.name, layer.pooling] for layer in layers],
        "length": length,
        **more,
    }


def _deciding(precision: str) -> dict[str, Any]:
    """What decides the numbers of a pass, whatever it is of."""
    return {
        "version": VERSION,
        "packages": {name: _version(name) for name in DECIDING_PACKAGES},
        "precision": precision,
    }


def _find(store: Store, key: Mapping[str, Any], layers: Sequence[PooledLayer]) -> Collected | None:
    # A pass that kept more than is asked for serves as well.
    kept = (
        _read(store, "passes", {**key, "matrices": matrices, "moments": moments}, layers)
        for matrices in dict.fromkeys((key["matrices"], True))
        for moments in dict.fromkeys((key["moments"], True))
    )
    return next((found for found in kept if found is not None), None)


def _merged(
    store: Store,
    key: Mapping[str, Any],
    keys: Sequence[Mapping[str, Any]],
    layers: Sequence[PooledLayer],
    length: int,
) -> Collected:
    def read() -> Iterator[Collected]:
        for each in keys:
            shard = _read(store, "shards", each, layers)
            if shard is None:
                raise ResourceError(
                    f"parts of the image pass vanished from the cache {str(store.folder)!r} while "
                    "they were in use; run the command again"
                )
            yield shard

    try:
        store.put(
            "passes",
            key,
            _to_arrays(merge(read(), length=length)),
            replaces=[("shards", each) for each in keys],
        )
    except ResourceError:
        # Another process may have been faster, and has put the parts together and away.
        if (whole := _read(store, "passes", key, layers)) is not None:
            return whole
        raise
    whole = _read(store, "passes", key, layers)
    if whole is None:
        raise ResourceError(f"the cache {str(store.folder)!r} does not hold what is written to it")
    return whole


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _read(
    store: Store, kind: str, key: Mapping[str, Any], layers: Sequence[PooledLayer]
) -> Collected | None:
    arrays = store.get(kind, key, on_disk=_ON_DISK)
    return None if arrays is None else _from_arrays(arrays, layers)


def _known(store: Store, key: Mapping[str, Any]) -> Known | None:
    """The VLM's embeddings, if a pass of another subject has left them."""
    arrays = store.get("embeddings", key, on_disk=_ON_DISK)
    if arrays is None:
        return None
    unreadable = {item.index: item.reason for item in _skipped(arrays)}
    return Known(arrays["kept"], arrays["embeddings"], unreadable)


def _known_arrays(found: Collected) -> dict[str, Array | RowStream]:
    skipped = json.dumps([astuple(item) for item in found.skipped])
    return {
        "kept": found.kept,
        "skipped": np.frombuffer(skipped.encode(), dtype=np.uint8),
        "embeddings": _stream(found.embeddings),
    }


def _skipped(arrays: Mapping[str, Any]) -> tuple[Skipped, ...]:
    return tuple(Skipped(*each) for each in json.loads(arrays["skipped"].tobytes()))


def _to_arrays(found: Collected) -> dict[str, Array | RowStream]:
    arrays = _known_arrays(found) | {"batch_size": np.array([found.batch_size])}
    for place, tops in enumerate(found.tops):
        arrays[f"{place}.images"] = tops.images
        arrays[f"{place}.activations"] = tops.activations
        arrays[f"{place}.low"] = tops.low
    for place, matrix in enumerate(found.matrices):
        arrays[f"{place}.matrix"] = _stream(matrix)
    if found.sample is not None:
        arrays["sample"] = found.sample.images
        for place, values in enumerate(found.sample.activations):
            arrays[f"{place}.sample"] = values
    return arrays if found.moments is None else arrays | found.moments.to_arrays()


def _stream(rows: Rows) -> RowStream:
    def pieces() -> Iterator[FloatArray]:
        for part in blocks(len(rows), _COPIED_ROWS):
            yield rows[part]

    return RowStream(rows.shape, pieces())


def _from_arrays(arrays: Mapping[str, Any], layers: Sequence[PooledLayer]) -> Collected:
    places = range(len(layers)) if len(arrays["kept"]) else range(0)
    return Collected(
        tuple(
            LayerTops(
                layers[place].name,
                arrays[f"{place}.images"],
                arrays[f"{place}.activations"],
                arrays[f"{place}.low"],
            )
            for place in places
        ),
        arrays["embeddings"],
        arrays["kept"],
        _skipped(arrays),
        int(arrays["batch_size"][0]),
        tuple(arrays[f"{place}.matrix"] for place in places if f"{place}.matrix" in arrays),
        MomentTree.from_arrays(arrays),
        ImageSample(arrays["sample"], tuple(arrays[f"{place}.sample"] for place in places))
        if "sample" in arrays
        else None,
    )
