"""The shards of a pass as tasks of a Ray cluster, a task each.

The driver owns all that lasts: which shards are missing is in its store, and a task that is lost,
with a worker, a node or the whole cluster, is no more than a shard that is not there yet. So the
same command goes on where another was killed, on the same cluster or on another.
"""

import contextlib
import io
import logging
import os
import secrets
import signal
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from profiler.activations.collect import (
    AUTO_BATCH,
    BatchTooLargeError,
    Change,
    Collected,
    ImageShard,
    Known,
    Skipped,
    check_skipped,
    files_of,
    try_first,
)
from profiler.activations.kept import MissingShards, shard_key
from profiler.core.store import write_atomically
from profiler.core.text import listed
from profiler.data.corruptions import CorruptedProbe, corrupted
from profiler.data.images import Digests, ProbeSet, contents
from profiler.engine.worker import (
    HashTask,
    Opening,
    OpenInputs,
    ShardReply,
    ShardTask,
    hash_images,
    make_shard,
)
from profiler.errors import EnvironmentFailure, UsageError, first_line
from profiler.models.classifier import Classifier
from profiler.models.subject.network import Subject
from profiler.session import versions

log = logging.getLogger("profiler")

HASHED_AT_ONCE = 4096
"""Images whose files a task reads for the fingerprint."""
COMPARED = 4
"""Images of a shard that a worker's folder must have in common with the driver's."""
TRIES = 3
"""How often a shard may kill its worker, or fail on it."""
PATIENCE = 300.0
"""Seconds without a finished shard, at least, after which a run counts as stalled."""
_BEFORE_THE_FIRST = 3600.0
"""The same while the first shards are made: nothing says yet how long one takes."""
_TICK = 1.0
_GRACE = 10.0


@dataclass
class RayCluster:
    """An :class:`~profiler.activations.kept.Engine`: every shard is a task of Ray.

    Connected when the first shard is missing: what the store holds needs no cluster. Where this
    process is connected to a cluster already, that is the one.

    Attributes:
        inputs: opens images and VLM on a device, from names.
        address: ``auto`` (a cluster that runs, else one of this machine), ``local``, ``HOST:PORT``
            or ``ray://HOST:PORT``.
        cpus: of a worker; its threads.
        gpus: of a worker.
        device: where workers run the networks.
    """

    inputs: OpenInputs
    address: str = "auto"
    cpus: int = 1
    gpus: float = 0.0
    device: str = "cpu"
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _ray: Any = None
    _is_own_connection: bool = False

    def __enter__(self) -> "RayCluster":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._ray = None

    def hash(self, probe: ProbeSet) -> None:
        """Have the workers read the files, :data:`HASHED_AT_ONCE` a task.

        What is no more than a task is read here, when it is needed: where the pass is in the store,
        no cluster is then connected.

        Raises:
            EnvironmentFailure: there is no cluster, or a node does not have these images.
        """
        files = files_of(probe)
        count = len(probe.names)
        if files is None or files.is_hashed or count <= HASHED_AT_ONCE:
            return
        if self._ray is None:
            self._ray = self._connected()
        ray = self._ray
        # Nothing is lost with a worker but a little reading: Ray tries again by itself.
        remote = ray.remote(num_cpus=1, max_retries=TRIES)(hash_images)
        tasks = [
            remote.remote(
                HashTask(self.inputs, os.getcwd(), range(count)[lo : lo + HASHED_AT_ONCE], count)
            )
            for lo in range(0, count, HASHED_AT_ONCE)
        ]
        hashes: list[Digests] = []
        try:
            for task in tasks:
                found = ray.get(task, timeout=_BEFORE_THE_FIRST)
                if isinstance(found, str):
                    raise EnvironmentFailure(found)
                hashes.append(found)
        except ray.exceptions.GetTimeoutError as error:
            raise EnvironmentFailure(
                f"no worker has read {HASHED_AT_ONCE} images for their fingerprint within "
                f"{_BEFORE_THE_FIRST:.0f} seconds; the cluster may have no CPU free"
            ) from error
        except ray.exceptions.RayError as error:
            raise EnvironmentFailure(_why_lost(error)) from error
        # None is cancelled: Ray ends the whole process where a task ends as it is cancelled.
        files.learn(range(count), np.concatenate(hashes))

    def is_own(self, number: int) -> bool:
        """See :class:`~profiler.activations.kept.Engine`."""
        return True

    def make(self, missing: MissingShards) -> Iterator[tuple[int, Collected | None]]:
        """See :class:`~profiler.activations.kept.Engine`.

        Raises:
            InputError: as :func:`~profiler.activations.collect.collect` does.
            UsageError: the network came from memory, or no node can have a worker.
            EnvironmentFailure: there is no cluster, a worker differs from this machine, a shard
                failed three times, or nothing was finished for too long.
        """
        subject = missing.subject
        if not isinstance(subject, Subject | Classifier) or subject.again is None:
            raise UsageError(
                "--engine ray opens networks by name in every worker, and this one is in memory; "
                "give its name, or a FILE.py:FACTORY that every node has"
            )
        size = missing.batch_size or AUTO_BATCH
        try_first(
            *(subject, missing.layers, missing.probe, missing.vlm),
            known=missing.known,
            precision=missing.options["precision"],
            batch_size=size,
        )
        if self._ray is None:
            self._ray = self._connected()
        with _nonce(missing.store.folder) as nonce:
            opening = Opening(
                subject.again,
                self.inputs,
                os.getcwd(),
                self.device,
                self.cpus,
                subject.fingerprint,
                "" if missing.known else missing.vlm.fingerprint,
                len(missing.probe.names),
                versions(),
            )
            run = _Run(self, self._ray, missing, opening, size, nonce)
            try:
                yield from run.shards()
            finally:
                if not self._is_own_connection:  # whose end would end the tasks
                    run.close()

    def _connected(self) -> Any:
        ray = _imported_ray()
        if ray.is_initialized():
            return ray
        logging.getLogger("ray").setLevel(logging.ERROR)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        handler = signal.getsignal(signal.SIGTERM)
        # What Ray says of workers goes to standard output, where only results belong.
        self._open.enter_context(contextlib.redirect_stdout(io.StringIO()))
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        local = {"include_dashboard": False, **quiet}
        try:
            if self.address == "auto":
                try:
                    ray.init("auto", **quiet)
                except ConnectionError:
                    ray.init("local", **local)
            else:
                ray.init(self.address, **(local if self.address == "local" else quiet))
        except Exception as error:  # as many kinds as there are ways to fail
            # Of several lines, the last is what a server far away said.
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise EnvironmentFailure(
                f"--address {self.address}: there is no cluster to connect to: {said[-1]}"
            ) from error
        self._open.callback(ray.shutdown)
        self._is_own_connection = True
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, handler)  # which Ray takes away
        return ray


def _imported_ray() -> Any:
    """The package; raises :class:`UsageError` where it is missing."""
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--engine ray needs the package ray: pip install 'vision-profiler[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def _nonce(folder: Path) -> Iterator[str]:
    """A file in the store, by which workers know whether they have the same one."""
    name = f".shared-{secrets.token_hex(8)}"
    write_atomically(folder / name, "")
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


class _Run:
    """One pass on the cluster: what waits, what is under way, and what went wrong."""

    def __init__(
        self,
        engine: RayCluster,
        ray: Any,
        missing: MissingShards,
        opening: Opening,
        size: int,
        nonce: str,
    ) -> None:
        self.ray, self.missing, self.size = ray, missing, size
        self.address, self.cpus, self.gpus = engine.address, engine.cpus, engine.gpus
        self.waiting = deque(missing.shards)
        self.pending: dict[Any, int] = {}
        self.failures: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.workers: set[tuple[str, int]] = set()
        self.done: list[int] = []
        self.skipped: list[Skipped] = []
        self.last = time.monotonic()
        self.stalled = False
        self.nodes: set[str] = set()
        options = {
            **{name: value for name, value in missing.options.items() if name != "change"},
            # Decoding is part of what a worker's CPUs do.
            "workers": min(missing.workers, engine.cpus - 1),
            "allow_bad": True,  # counted here, over all shards
        }
        self.files = files_of(missing.probe)
        self.probe, corrupt = missing.probe, None
        if isinstance(self.probe, CorruptedProbe):
            corrupt = partial(corrupted, corruption=self.probe.corruption, seed=self.probe.seed)
            self.probe = self.probe.probe
        change: Change | None = missing.options.get("change")
        self.task = ShardTask(
            *(opening, tuple(missing.layers), options, ImageShard(0, ()), (), "", None),
            *(str(missing.store.folder.absolute()), nonce, missing.key),
            *(corrupt, change.again if change else None),
        )
        # Without max_calls a worker with a GPU would be a new process for every shard. Ray's own
        # retries would hide a lost worker.
        self.remote = ray.remote(
            num_cpus=engine.cpus, num_gpus=engine.gpus, max_calls=0, max_retries=0
        )(make_shard)

    def shards(self) -> Iterator[tuple[int, Collected | None]]:
        """The shards, in the order in which they are finished."""
        self._check_nodes()
        while self.waiting or self.pending:
            while self.waiting and len(self.pending) < max(2 * self._places(), 2):
                number = self.waiting.popleft()
                self.pending[self.remote.remote(self._task(number))] = number
            finished, _ = self.ray.wait([*self.pending], num_returns=1, timeout=_TICK)
            if not finished:
                self._check_stall()
                continue
            number = self.pending.pop(finished[0])
            try:
                reply: ShardReply = self.ray.get(finished[0])
            except self.ray.exceptions.RayError as error:
                self._lost(number, error)
                continue
            if self._is_good(number, reply):
                yield number, reply.made
        count = len(self.workers)
        log.info(
            "%d shards were made by %d worker%s on %d node%s",
            *(len(self.done), count, "" if count == 1 else "s"),
            *(nodes := len({node for node, _ in self.workers}), "" if nodes == 1 else "s"),
        )

    def close(self, grace: float = _GRACE) -> None:
        """Leave nothing under way: what does not end within so many seconds is ended by force.

        Not at once, for Ray ends this whole process where a task ends as it is cancelled.
        """
        if self.pending:
            _, left = self.ray.wait([*self.pending], num_returns=len(self.pending), timeout=grace)
            for reference in left:
                with contextlib.suppress(Exception):
                    self.ray.cancel(reference, force=True)
        self.pending = {}

    def _task(self, number: int) -> ShardTask:
        missing, shard = self.missing, self.missing.shards[number]
        compared = shard.images
        if self.files is not None and not self.files.is_hashed:
            # The worker's hashes are the fingerprint; a few show that its folder is this one.
            compared = compared[:COMPARED]
        return replace(
            self.task,
            options={**self.task.options, "batch_size": self.size},
            shard=shard,
            compared=compared,
            contents=contents(self.probe, compared),
            known=None if missing.known is None else _part(missing.known, shard),
            careful=self.failures[number] == TRIES - 1,
        )

    def _is_good(self, number: int, reply: ShardReply) -> bool:
        """Whether a shard was made; what is wrong otherwise is seen to."""
        self.last, self.stalled = time.monotonic(), False
        if reply.error is None:
            self.seconds.append(reply.seconds)
            self.workers.add((reply.node, reply.process))
            self.done.append(number)
            if self.files is not None and reply.hashes is not None:
                self.files.learn(self.missing.shards[number].images, reply.hashes)
            self.missing.advance(len(self.missing.shards[number].images))
            self.skipped += reply.skipped
            total = len(self.missing.probe.names)
            check_skipped(self.skipped, 0, total, self.missing.allow_bad)
            return True
        if reply.is_final:
            raise reply.error(reply.reason)
        if reply.error is BatchTooLargeError and self.missing.batch_size is None and self.size > 1:
            self._halve(reply.node)
        else:
            self._failed(number, f"on node {reply.node}: {reply.reason}")
        return False

    def _lost(self, number: int, error: Exception) -> None:
        if "profiler of this version" in (said := _why_lost(error)):
            raise EnvironmentFailure(said) from error
        self.last = time.monotonic()
        if isinstance(error, self.ray.exceptions.NodeDiedError) or not self._is_alive(error):
            log.warning("warning: a node was lost; its shard goes to another")
            self.waiting.appendleft(number)
        else:
            self._failed(number, f"its worker died ({said.rstrip('.')})")

    def _is_alive(self, error: Exception) -> bool:
        """Whether all nodes that were there at the beginning are there still."""
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        lost, self.nodes = self.nodes - alive, self.nodes & alive
        return not lost

    def _failed(self, number: int, why: str) -> None:
        self.failures[number] += 1
        shard = self.missing.shards[number]
        names = [self.missing.probe.names[image] for image in shard.images[:2]]
        which = f"shard {number + 1} of {self.missing.count}"
        if self.failures[number] >= TRIES:
            raise EnvironmentFailure(
                f"{which} ({len(shard.images)} images, {listed(names)} …) failed {TRIES} times, "
                f"last {why}"
            )
        log.warning("warning: %s failed, %s; it is tried again", which, why)
        self.waiting.appendleft(number)

    def _halve(self, node: str) -> None:
        """Begin again with smaller batches: of one size, or the last bits of sums would differ."""
        under_way = [*self.pending.values()]
        self.close(PATIENCE)
        for number in (*self.done, *under_way):
            shard = self.missing.shards[number]
            key = shard_key(self.missing.key, self.missing.probe, shard)
            self.missing.store.drop("shards", key)
            if number in self.done:
                self.missing.advance(-len(shard.images))
        self.waiting, self.done, self.skipped = deque(self.missing.shards), [], []
        self.size //= 2
        log.warning("warning: memory ran out on node %s; batches of %d for all", node, self.size)

    def _places(self) -> int:
        """How many workers the nodes have room for."""
        return sum(map(self._room, filter(lambda node: node["Alive"], self.ray.nodes())))

    def _room(self, node: dict[str, Any]) -> int:
        has = node["Resources"]
        room = has.get("CPU", 0) // self.cpus
        return int(min(room, has.get("GPU", 0) // self.gpus) if self.gpus else room)

    def _check_nodes(self) -> None:
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        self.nodes = {node["NodeID"] for node in nodes}
        places = sum(map(self._room, nodes))
        wanted = f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}"
        wanted += f" and {self.gpus:g} GPU{'' if self.gpus == 1 else 's'}" if self.gpus else ""
        log.info(
            "Ray: %d shards; room for %d worker%s of %s on %d node%s",
            *(len(self.waiting), places, "" if places == 1 else "s"),
            *(wanted, len(nodes), "" if len(nodes) == 1 else "s"),
        )
        if not places:
            has = ", ".join(
                f"{n['Resources'].get('CPU', 0):g} CPUs and {n['Resources'].get('GPU', 0):g} GPUs"
                for n in nodes
            )
            if self.address == "local":
                raise UsageError(f"a worker needs {wanted}, and this machine has {has}")
            # An autoscaler may add nodes; where none comes, the run stalls and says so.
            log.warning("warning: no node has %s (they have: %s); waiting for one", wanted, has)

    def _check_stall(self) -> None:
        available = self.ray.available_resources()
        busy = available.get("CPU", 0) < self.ray.cluster_resources().get("CPU", 0)
        patience = max(PATIENCE, 10 * statistics.median(self.seconds)) if self.seconds else (
            max(PATIENCE, _BEFORE_THE_FIRST) if busy else PATIENCE
        )  # fmt: skip
        if time.monotonic() - self.last < patience:
            return
        numbers = sorted(self.pending.values())
        which = f"shards {listed([str(n + 1) for n in numbers], quote=False)}"
        self.close(grace=0)
        if self.stalled:
            raise EnvironmentFailure(
                f"nothing was finished for {2 * patience:.0f} seconds; {which} of "
                f"{self.missing.count} are pending, and the cluster has "
                f"{available.get('CPU', 0):g} CPUs and {available.get('GPU', 0):g} GPUs free; the "
                "same command goes on where this one stopped"
            )
        log.warning(
            "warning: nothing was finished for %.0f seconds; %s begin again", patience, which
        )
        self.waiting.extendleft(reversed(numbers))
        self.last, self.stalled = time.monotonic(), True


def _why_lost(error: Exception) -> str:
    """A line on a task that did not come back."""
    said = first_line(error)
    if "failed to import" in str(error) or "No module named 'profiler" in str(error):
        return f"a node of the cluster has no package profiler of this version: {said}"
    return said


def _part(known: Known, shard: ImageShard) -> Known:
    """What is known of the images of a shard."""
    unreadable = {i: known.unreadable[i] for i in shard.images if i in known.unreadable}
    images = sorted({*shard.images} - {*unreadable})
    return Known(np.asarray(images), known.of(images), unreadable)
