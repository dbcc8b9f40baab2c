"""Peak memory of labelling against the number of probe images and of concepts.

    python benchmarks/memory.py

Each size runs in a process of its own, on random activations and embeddings that are drawn batch
by batch and dropped, so that the peak is that of the program and not of its input. Two columns
say what must not be held: the (N, M) matrix of similarities that the plain formula needs.
"""

import resource
import subprocess
import sys

SIZES = ((1_000, 1_000), (10_000, 1_000), (50_000, 1_000), (1_000, 20_000), (10_000, 20_000),
         (50_000, 20_000))  # fmt: skip
UNITS, DIMENSIONS, TOP = 512, 384, 100


def measure(images: int, concepts: int) -> None:
    """Label one layer and print the peak in MiB."""
    import numpy as np

    from profiler.activations import TopCollector
    from profiler.labels import label_layers

    rng = np.random.default_rng(0)

    def rows(count: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
        drawn = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    # Compiled once on a small case, so that compilation does not count.
    warm = TopCollector("warm", 4)
    warm.add(np.arange(8), rng.standard_normal((8, 4), dtype=np.float32))
    label_layers([warm.result()], rows(8), rows(8), top=4, null_draws=2)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    collector = TopCollector("layer", TOP)
    embeddings = np.empty((images, DIMENSIONS), dtype=np.float32)
    for lo in range(0, images, 64):
        batch = np.arange(lo, min(lo + 64, images))
        collector.add(batch, rng.standard_normal((len(batch), UNITS), dtype=np.float32))
        embeddings[batch] = rows(len(batch))
    label_layers([collector.result()], embeddings, rows(concepts), top=TOP, null_draws=200)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(round((peak - start) / 1024), round(peak / 1024))


def main() -> None:
    """Print the table."""
    print(f"one layer of {UNITS} units, top {TOP}; MiB\n")
    print("| images N | concepts M | embeddings (N, e) | (N, M) would be | growth | peak |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for images, concepts in SIZES:
        command = [sys.executable, __file__, str(images), str(concepts)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        growth, peak = done.stdout.split()
        own = images * DIMENSIONS * 4 / 2**20
        full = images * concepts * 4 / 2**20
        print(
            f"| {images:,} | {concepts:,} | {own:,.0f} | {full:,.0f} | {growth} | {peak} |",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(int(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
