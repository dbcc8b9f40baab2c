"""Peak memory of a run against the number of probe images.

    python benchmarks/memory.py [--images 1000 10000 100000] [--concepts 20000]

Each size runs in a process of its own, through everything a run does but decode: the pass over the
images with two networks, top lists, the pass kept on disk shard by shard and merged, labels and
null distribution. Random tensors stand in for decoded images; the subject has a layer of 1 000
units, the embeddings have 512 numbers. The peak is sampled ten times a second: "in all" is what
the process holds resident (RSS), of which "its own" leaves out pages of mapped files, which the
system takes back when it likes. Two columns say what is *not* held.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

UNITS, DIMENSIONS, SIDE = 1000, 512, 8


def measure(images: int, concepts: int) -> None:
    """Run once; print the peaks in MiB."""
    import numpy as np
    import torch
    from torch import nn

    from profiler.activations.kept import collect_once
    from profiler.core.store import Store
    from profiler.data.images import ProbeSet
    from profiler.models.subject.network import Subject
    from profiler.profile.labels import label_layers
    from profiler.profile.similarity.pmi import SoftWPMI

    class Noise:
        """Images that cost nothing: their number is their content."""

        title, fingerprint = "noise", f"noise {images}"
        names = range(images)

        def read(self, index: int) -> int:
            return Number(index)

    class Number(int):
        """In place of an image."""

        def copy(self) -> "Number":
            return self

    class Projection:
        """A VLM: a fixed random projection of the image."""

        name = fingerprint = "projection"

        def __init__(self) -> None:
            self.rows = torch.randn(3 * SIDE * SIDE, DIMENSIONS, generator=seeded(1))

        def preprocess(self, index: int) -> torch.Tensor:
            return torch.randn(3, SIDE, SIDE, generator=seeded(index))

        def embed_images(self, batch: torch.Tensor) -> torch.Tensor:
            return nn.functional.normalize(batch.flatten(1) @ self.rows, dim=1)

    def seeded(number: int) -> torch.Generator:
        return torch.Generator().manual_seed(number)

    vlm = Projection()
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, UNITS))
    net.requires_grad_(False)

    def prepare(image: object) -> torch.Tensor:
        return vlm.preprocess(image) if isinstance(image, int) else torch.zeros(3, SIDE, SIDE)

    rng = np.random.default_rng(0)
    words = rng.standard_normal((concepts, DIMENSIONS), dtype=np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)

    probe: ProbeSet = Noise()  # type: ignore[assignment]
    subject = Subject("linear", net, prepare, "random", "none")  # type: ignore[arg-type]
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder, watch:
        layers = subject.layers(("1",))
        top = SoftWPMI().top(images)
        found = collect_once(
            subject,
            layers,
            vlm,
            probe,
            top=top,
            store=Store(Path(folder)),  # type: ignore[arg-type]
        )
        label_layers(found.tops, found.embeddings, words, top=top)
    print(watch.all >> 10, watch.own >> 10)


class Watch:
    """The highest resident memory while it is open, in KiB."""

    def __init__(self) -> None:
        self.all = self.own = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            lines = Path("/proc/self/status").read_text().splitlines()
            kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if " kB" in line}
            self.all = max(self.all, kib["VmRSS"])
            self.own = max(self.own, kib["RssAnon"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--concepts", type=int, default=20_000)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        measure(chosen.measure, chosen.concepts)
        return
    print(f"one layer of {UNITS} units, {chosen.concepts} concepts; peaks in MiB\n")
    print("| images N | activations (N, K) | cosines (N, M) | in all | its own | seconds |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for images in chosen.images:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--measure", str(images)]
        command += ["--concepts", str(chosen.concepts)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peak, own = map(int, done.stdout.split())
        activations, cosines = (images * width / 2**18 for width in (UNITS, chosen.concepts))
        seconds = time.perf_counter() - start
        print(
            f"| {images:,} | {activations:,.0f} | {cosines:,.0f} | {peak:,} | {own:,} "
            f"| {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
