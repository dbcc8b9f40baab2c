"""Speed and memory of the image pass on a Ray cluster of this machine.

    python benchmarks/scale.py [--images 4096] [--sizes 10000 100000 1000000] [--compared 512]

Speed: EfficientNet-Lite0 on small noise pictures from disk, one thread a worker, in this process,
by one worker and by two. A rate is that of the images after each worker's first shard, so that
start-up is apart: it is the time until then. Ratios are of rates of one run of this program; where
other programs run on the machine, they take from the second worker first.

Memory: random tensors stand in for decoded images; a linear layer of 64 units, embeddings of 64
numbers. The peak of "its own" memory (RssAnon: without mapped files) of the driver and of the
largest worker, sampled ten times a second, through the pass and the labels of 1,000 concepts.

Checkpoints: the passes of a comparison of five, in this process with one store, against one pass of
the VLM (ConSE) and five of the network, each with a store of its own. A pass of the VLM is one with
a linear layer in place of the network; a pass of the network is one with a VLM that embeds nothing.
"""

import argparse
import contextlib
import copy
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from profiler.activations.alone import Blind
from profiler.activations.kept import collect_once
from profiler.api.objects import open_inputs
from profiler.core.store import Store
from profiler.engine.cluster import RayCluster
from profiler.models.subject.loading import SubjectOptions, load_subject
from profiler.models.subject.network import Subject
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import open_vlm

HERE = Path(__file__).parent
SHARD = 256
UNITS = DIMENSIONS = 64
SIDE = 8
CONCEPTS = 1000
CPU = torch.device("cpu")


# --- speed -----------------------------------------------------------------------------------


def write_noise(folder: Path, count: int) -> None:
    """JPEG pictures of noise, 96 pixels a side."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(folder / f"{number:06d}.jpg")


def speed(folder: Path, workers: int) -> tuple[float, float]:
    """Images a second behind each worker's first shard, and the seconds until then."""
    options = SubjectOptions(preprocess="resize=96,crop=96")
    subject = load_subject("efficientnet_lite0", CPU, options)
    inputs = partial(open_inputs, str(folder), "visual", f"{HERE / 'scale.py'}:projection")
    probe, _, eyes = inputs(CPU)
    assert probe.fingerprint  # which is not what is measured
    finished = [(time.perf_counter(), 0)]

    def advance(count: int) -> None:
        finished.append((time.perf_counter(), finished[-1][1] + count))

    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as cache:
        engine = None
        if workers:
            engine = stack.enter_context(RayCluster(inputs, "auto", 1))
        collect_once(
            *(subject, subject.layers(), eyes(), probe),
            top=100,
            store=Store(Path(cache)),
            moments=True,
            batch_size=64,
            advance=advance,
            engine=engine,
        )
        end = time.perf_counter()
    first, before = next((t, n) for t, n in finished if n >= max(workers, 1) * SHARD)
    return (len(probe.names) - before) / (end - first), first - finished[0][0]


# --- memory ----------------------------------------------------------------------------------


class Noise:
    """Images that cost nothing: their number is their content."""

    def __init__(self, count: int) -> None:
        self.title, self.fingerprint = "noise", f"noise {count}"
        self.names = Names(count)

    def read(self, index: int) -> "Number":
        """The image at ``index``."""
        return Number(index)


class Number(int):
    """In place of an image."""

    def copy(self) -> "Number":
        """The same: nobody changes a number."""
        return self


class Names:
    """Names that are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> str:
        return f"noise-{index:07d}"


class Projection:
    """A VLM: a fixed random projection of the image's first pixels."""

    name = fingerprint = "projection"
    template, limits = "{}", ""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.randn(3 * SIDE * SIDE, DIMENSIONS, generator=generator)

    def preprocess(self, image: Any) -> torch.Tensor:
        """(3, 8, 8)."""
        return _tensor(image)

    def embed_images(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, 3, 8, 8) → (B, 64) unit rows."""
        return nn.functional.normalize(batch.flatten(1) @ self.rows, dim=1)

    def embed_texts(self, texts: Any) -> Any:
        """M texts → (M, 64) random unit rows."""
        rows = np.random.default_rng(0).standard_normal((len(texts), DIMENSIONS), np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def projection() -> Projection:
    """Factory of the VLM."""
    return Projection()


def _tensor(image: Any) -> torch.Tensor:
    if isinstance(image, int):
        return torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(image))
    pixels = np.asarray(image.resize((SIDE, SIDE)), np.float32)
    return torch.from_numpy(pixels / 255 - 0.5).permute(2, 0, 1).contiguous()


def linear(_device: torch.device = CPU) -> Subject:
    """The network under study; opens itself in a worker."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, UNITS))
    return Subject("linear", net.requires_grad_(False), _tensor, "random", "8 × 8", again=linear)


def noise_inputs(count: int, _device: torch.device) -> Any:
    """What ``open_inputs`` gives."""
    return Noise(count), None, Projection


def measure(images: int) -> None:
    """One pass on a cluster of one worker, and labels; print the peaks in MiB, and seconds."""
    import scale  # by this name a worker finds what it opens

    from profiler.profile.labels import label_layers
    from profiler.profile.similarity.pmi import SoftWPMI

    logging.getLogger("ray").setLevel(logging.ERROR)
    subject, inputs = scale.linear(), partial(scale.noise_inputs, images)
    probe, _, eyes = inputs(CPU)
    start = time.perf_counter()
    with (
        Peaks() as peaks,
        tempfile.TemporaryDirectory() as folder,
        RayCluster(inputs, "auto", 1) as engine,
    ):
        top = SoftWPMI().top(images)
        found = collect_once(
            *(subject, subject.layers(("1",)), eyes(), probe),
            top=top,
            store=Store(Path(folder)),
            moments=True,
            engine=engine,
        )
        words = eyes().embed_texts(range(CONCEPTS))
        label_layers(found.tops, found.embeddings, words, top=top)
    print(peaks.driver >> 10, peaks.worker >> 10, round(time.perf_counter() - start))


class Peaks:
    """The highest memory of this process, and of any worker below it, in KiB."""

    def __init__(self) -> None:
        self.driver = self.worker = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        raylet = int(os.environ["SCALE_RAYLET"])
        while not self._over.wait(0.1):
            self.driver = max(self.driver, _own(Path("/proc/self")))
            for path in _children(raylet):
                self.worker = max(self.worker, _own(path))


def _children(raylet: int) -> Iterator[Path]:
    """Workers that have made a shard."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and b"make_shard" in (path / "cmdline").read_bytes():
                yield path


def _own(path: Path) -> int:
    with contextlib.suppress(OSError):
        for line in (path / "status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


# --- checkpoints -----------------------------------------------------------------------------


def checkpoints(folder: Path, count: int = 5) -> None:
    """Print the seconds of the passes of a comparison, together and apart."""
    probe, _, _ = open_inputs(str(folder), "visual", "conse", CPU)
    assert probe.fingerprint  # which is not what is measured
    vlm = open_vlm("conse", CPU)
    plain = load_subject("efficientnet_lite0", CPU)
    subjects = [_moved(plain, number) for number in range(count)]

    def seconds(passes: Sequence[tuple[Subject, VLM]], shared: bool) -> float:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as cache:
            for number, (subject, eyes) in enumerate(passes):
                store = Store(Path(cache) / ("" if shared else str(number)))
                layers = subject.layers()
                collect_once(subject, layers, eyes, probe, top=100, store=store, moments=True)
        return time.perf_counter() - start

    seconds([(linear(), vlm)], True)  # what is slow the first time
    alone = seconds([(linear(), vlm)], False)
    each = seconds([(subject, Blind()) for subject in subjects], False)
    together = seconds([(subject, vlm) for subject in subjects], True)
    print(f"{count} checkpoints of EfficientNet-Lite0, ConSE, {len(probe.names)} pictures")
    print(f"one VLM pass: {alone:.1f} s; {count} passes of the network: {each:.1f} s")
    print(f"the comparison's passes: {together:.1f} s, {together / (alone + each):.2f} times both")


def _moved(subject: Subject, number: int) -> Subject:
    """Another checkpoint of the same network."""
    model = copy.deepcopy(subject.model)
    with torch.no_grad():
        next(model.parameters()).mul_(1 + number / 100)
    return replace(subject, model=model)


# --- both ------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(cpus: int) -> Iterator[None]:
    """A cluster of one node; what is called with ``auto`` meanwhile joins it."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    args = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 200_000_000}
    found = Cluster(initialize_head=True, head_node_args=args)
    os.environ["RAY_ADDRESS"] = found.address
    os.environ["SCALE_RAYLET"] = str(found.head_node.all_processes["raylet"][0].process.pid)
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        found.shutdown()


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--compared", type=int, default=512)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.measure:
        measure(chosen.measure)
        return
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs\n")
    if chosen.images:
        with tempfile.TemporaryDirectory() as folder:
            _speeds(Path(folder) / "noise", chosen.images)
    if chosen.compared:
        with tempfile.TemporaryDirectory() as folder:
            write_noise(Path(folder) / "noise", chosen.compared)
            checkpoints(Path(folder) / "noise")
    if not chosen.sizes:
        return
    print("\n| images | driver, MiB | worker, MiB | seconds |\n| ---: | ---: | ---: | ---: |")
    for images in chosen.sizes:
        with cluster(1):
            command = [sys.executable, __file__, "--measure", str(images)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(f"| {images:,} | {' | '.join(done.stdout.split())} |", flush=True)


def _speeds(folder: Path, images: int) -> None:
    write_noise(folder, images)
    print(f"EfficientNet-Lite0 at 96 pixels, {images} pictures, one thread a worker\n")
    print("| | images/s | until then, s | of one process |\n| --- | ---: | ---: | ---: |")
    rates: list[float] = []
    runs: list[tuple[str, int, Callable[[], Any]]] = [
        ("this process", 0, contextlib.nullcontext),
        ("Ray, 1 worker", 1, partial(cluster, 1)),
        ("Ray, 2 workers", 2, partial(cluster, 2)),
    ]
    for title, workers, opened in runs:
        with opened():
            rate, before = speed(folder, workers)
        rates.append(rate)
        print(f"| {title} | {rate:.1f} | {before:.1f} | {rate / rates[0]:.2f} |", flush=True)
    print(f"\ntwo workers against one: {rates[2] / rates[1]:.2f}")


if __name__ == "__main__":
    main()
