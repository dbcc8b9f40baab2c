"""One shard of a pass, made in a process of a cluster.

A worker is sent names and numbers, never networks: it opens what they name, once a process, and
refuses to work where that is not what the driver has. What goes wrong travels back as data.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from profiler.activations.alone import Blind
from profiler.activations.collect import (
    Change,
    Collected,
    ImageShard,
    Known,
    Network,
    Skipped,
    collect,
    deadly_image,
    files_of,
)
from profiler.activations.kept import put_shard
from profiler.core.memory import keep_freed_memory
from profiler.core.store import Store
from profiler.data.images import Digests, ProbeSet, contents
from profiler.errors import (
    EnvironmentFailure,
    InputError,
    OutputError,
    ProfilerError,
    UsageError,
    first_line,
)
from profiler.models.vlm.base import VLM
from profiler.session import choose_device, versions

OpenInputs = Callable[..., tuple[ProbeSet, Any, Callable[[], VLM]]]
"""``open_inputs`` of :mod:`profiler.api.objects` with its names, which lacks the device; or
``open_labelled_inputs`` of :mod:`profiler.api.classifiers`."""


@dataclass(frozen=True)
class Opening:
    """What a worker opens, and what has to come of it.

    Attributes:
        subject: opens the network, or the classifier, on a device.
        inputs: opens images and VLM on a device.
        folder: where the command was called; paths are relative to it.
        device: where the networks run.
        threads: of torch; they decide in which order numbers are added up.
        subject_print: fingerprint of the network.
        vlm_print: of the VLM; empty where it is not needed.
        images: how many there are.
        versions: of the packages that may move a number.
    """

    subject: Callable[[torch.device], Network[Any]]
    inputs: OpenInputs
    folder: str
    device: str
    threads: int
    subject_print: str
    vlm_print: str
    images: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class ShardTask:
    """A shard to be made.

    Attributes:
        opening: what it is made of.
        layers: where the network is read.
        options: of :func:`~profiler.activations.collect.collect`.
        shard: which images.
        compared: those of them that must be the same here as where the task comes from.
        contents: what these hold, by :func:`~profiler.data.images.contents`.
        known: what the VLM makes of these images, where that is known.
        store: folder of the driver's store.
        nonce: a file in it, by which a worker knows that it has the same one.
        key: of the whole pass, without its images.
        corrupt: makes of the images those of the pass; None where they are the same.
        change: makes the change of the pass, of subject, VLM and images; None without one.
        careful: the shard has killed workers: look for the image that does.
    """

    opening: Opening
    layers: Sequence[Any]
    options: Mapping[str, Any]
    shard: ImageShard
    compared: Sequence[int]
    contents: str
    known: Known | None
    store: str
    nonce: str
    key: Mapping[str, Any]
    corrupt: Callable[[ProbeSet], ProbeSet] | None = None
    change: Callable[[Any, VLM, Any], Change] | None = None
    careful: bool = False


@dataclass(frozen=True)
class ShardReply:
    """What came of a task.

    Attributes:
        node: the machine's name.
        process: on that machine.
        seconds: that the images took.
        skipped: images that could not be read.
        hashes: of the files of the shard's images; None where they come from none.
        made: the shard; None where it lies in the driver's store, or there is none.
        error: kind of what went wrong, if anything did.
        reason: of that, a line.
        is_final: whether another try would not help.
    """

    node: str
    process: int
    seconds: float = 0.0
    skipped: tuple[Skipped, ...] = ()
    hashes: Digests | None = None
    made: Collected | None = None
    error: type[ProfilerError] | None = None
    reason: str = ""
    is_final: bool = False


@dataclass(frozen=True)
class HashTask:
    """Images whose files are to be hashed.

    Attributes:
        inputs: opens the images on a device.
        folder: where the command was called; paths are relative to it.
        images: which of them.
        count: how many there are in all.
    """

    inputs: OpenInputs
    folder: str
    images: range
    count: int


def hash_images(task: HashTask) -> Digests | str:
    """The hashes of some images' files; else why there are none."""
    node = socket.gethostname()
    try:
        if Path(task.folder).is_dir():
            os.chdir(task.folder)
        probe, _, _ = task.inputs(torch.device("cpu"))
    except ProfilerError as error:
        return f"node {node}: {error}"
    files = files_of(probe)
    if files is None or len(probe.names) != task.count:
        return _another(node, "number of images")
    return files.hashes(task.images)


class RefusedError(EnvironmentFailure):
    """A worker that is not what the driver is."""


_Opened = tuple[Network[Any], ProbeSet, VLM]
_opened: dict[str, _Opened] = {}
"""What this process has opened last; by all that it was opened from."""


def make_shard(task: ShardTask) -> ShardReply:
    """Make one shard; never raises what it can tell."""
    node, process = socket.gethostname(), os.getpid()
    keep_freed_memory()
    try:
        subject, probe, vlm = _open(task.opening, node)
        if (files := files_of(probe)) is not None:
            files.forget()  # as the task before, perhaps of another command, found them
        _check_images(task, node, subject, probe, vlm)
        images = task.corrupt(probe) if task.corrupt else probe
        start = time.perf_counter()
        # After the networks are opened: libraries set it as they like.
        torch.set_num_threads(task.opening.threads)
        (made,) = collect(
            *(subject, task.layers, vlm, images),
            shards=[task.shard],
            known=task.known,
            change=task.change(subject, vlm, probe) if task.change else None,
            tried=True,
            **task.options,
        )
        seconds = time.perf_counter() - start
        hashes = files.hashes(task.shard.images) if files is not None else None
        reply = ShardReply(node, process, seconds, made.skipped, hashes, made)
        if _is_shared(task):
            put_shard(Store(Path(task.store)), task.key, images, task.shard, made)
            return replace(reply, made=None)
    except ProfilerError as error:
        # Of a name that is unknown the message is whole already.
        kind = InputError if isinstance(error, UsageError) else type(error)
        final = isinstance(error, UsageError | RefusedError | OutputError)
        return ShardReply(node, process, error=kind, reason=str(error), is_final=final)
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        return ShardReply(node, process, error=ProfilerError, reason=said)
    return reply


def _check_images(
    task: ShardTask, node: str, subject: Network[Any], probe: ProbeSet, vlm: VLM
) -> None:
    if contents(probe, task.compared) != task.contents:
        raise RefusedError(
            f"node {node} has other images than the driver: their contents differ; let every "
            "node read the same folder"
        )
    if task.careful and (name := deadly_image(subject, vlm, probe, task.shard.images, task.known)):
        raise InputError(f"the image {name!r} kills the process that decodes it; remove it")


def _is_shared(task: ShardTask) -> bool:
    try:
        return Path(task.store, task.nonce).is_file()
    except OSError:
        return False


def _open(opening: Opening, node: str) -> _Opened:
    key = repr(opening)
    if key not in _opened:
        _opened.clear()  # before the next takes memory
        _check_versions(opening.versions, node)
        if Path(opening.folder).is_dir():
            os.chdir(opening.folder)
        device = choose_device(opening.device)
        try:
            subject = opening.subject(device)
            probe, _, eyes = opening.inputs(device)
            vlm = eyes() if opening.vlm_print else Blind()
        except UsageError as error:
            raise RefusedError(f"node {node}: {error}") from error
        found = {
            "network": (subject.fingerprint, opening.subject_print),
            "VLM": (opening.vlm_print and vlm.fingerprint, opening.vlm_print),
            "number of images": (len(probe.names), opening.images),
        }
        for what, (own, wanted) in found.items():
            if own != wanted:
                raise RefusedError(_another(node, what))
        _opened[key] = subject, probe, vlm
    return _opened[key]


def _another(node: str, what: str) -> str:
    return f"node {node} has another {what} than the driver, under the same name; its files differ"


def _check_versions(wanted: Mapping[str, str], node: str) -> None:
    own = versions()
    for package in sorted({*wanted, *own} - {"python"}):
        if own.get(package) != wanted.get(package):
            raise RefusedError(
                f"node {node} has {package} {own.get(package, '(none)')}, this machine "
                f"{wanted.get(package, '(none)')}; install the same version on every node"
            )
