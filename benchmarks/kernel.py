"""Scoring a layer by soft-WPMI: the compiled kernel against a loop over units in torch.

    python benchmarks/kernel.py [--units 2048] [--concepts 20000] [--top 100] [--repeats 3]

The loop is the formula as one would write it first: for each unit, take its images' rows of Q,
weigh them, take logarithms, sum over images; at the end the prior, the scores and the labels. It
is given Q (N, M) whole; the kernel is given the same numbers in its own blocks of concepts. The
second row adds what comes before: cosines and the softmax over concepts, where the kernel's side
keeps at most a gigabyte of Q (KEPT_BYTES) and multiplies the rest twice. Both run in this process,
in turn, on all cores; the loop on a sample of the units, which is scaled up. All labels must agree,
up to scores that tie within 1e-4.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from profiler.profile.similarity.base import CONCEPT_BLOCK, Null, Units
from profiler.profile.similarity.pmi import Prior, SoftWPMI

SAMPLE = 64
"""Units of the loop; its time is proportional to their number."""


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def loop(q: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """L (K, M), unit by unit."""
    length = top.shape[1]
    ranks = torch.arange(length, dtype=torch.float32)
    weights = (0.998 - ranks / length * (0.998 - 0.97))[:, None]
    rows = []
    for unit in top:
        chosen = q[unit]
        rows.append(torch.log(1 + weights * (chosen - 1) + 1e-7).sum(dim=0))
    return torch.stack(rows)


def finish(evidence: torch.Tensor) -> torch.Tensor:
    """L − D."""
    return evidence - (torch.logsumexp(evidence, dim=0) - np.log(len(evidence)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--concepts", type=int, default=20_000)
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()

    rng = np.random.default_rng(0)
    images, concepts = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (
            rng.standard_normal((count, 512), dtype=np.float32)
            for count in (chosen.images, chosen.concepts)
        )
    )
    top = np.stack(
        [rng.choice(chosen.images, chosen.top, replace=False) for _ in range(chosen.units)]
    )
    # Each unit's images lean towards one concept, so that labels are no ties.
    for unit, lists in enumerate(top):
        images[lists] += 0.5 * concepts[unit % chosen.concepts]
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    q = torch.softmax(10 * torch.from_numpy(images) @ torch.from_numpy(concepts).T, dim=1)

    blocks = [
        (lo, np.ascontiguousarray(q[:, lo : lo + CONCEPT_BLOCK]))
        for lo in range(0, q.shape[1], CONCEPT_BLOCK)
    ]
    lists = torch.from_numpy(top)
    none = np.empty((0, 0), dtype=np.int64)

    def kernel() -> tuple[np.ndarray, np.ndarray]:
        best = Best(len(top))
        for first, values in blocks:
            evidence, _ = SoftWPMI().evidence(iter([(0, values)]), [top], none)
            best.merge(first, Prior.of(evidence).score(evidence, 1.0))
        return best.label, best.score

    def kernel_from_rows() -> tuple[np.ndarray, np.ndarray]:
        best = Best(len(top))
        for tile in SoftWPMI().score([units], images, concepts, null):
            best.merge(tile.concept, tile.scores)
        return best.label, best.score

    def softmax() -> torch.Tensor:
        return torch.softmax(10 * torch.from_numpy(images) @ torch.from_numpy(concepts).T, dim=1)

    lengths = np.full(len(top), top.shape[1])
    units = Units(top, np.zeros(top.shape, np.float32), None, np.arange(len(top)), lengths)
    null = Null(0, 0, [np.empty(0, np.float32)])
    label, _ = kernel()  # compiles
    kernel_from_rows()
    # The loop's labels: the prior needs the evidence of all units.
    evidence = torch.cat([loop(q, part) for part in lists.split(SAMPLE)])
    score = finish(evidence)
    rows = torch.arange(len(top))
    tied = (score[rows, torch.from_numpy(label)] - score.max(dim=1).values).abs() < 1e-4
    same = (score.argmax(dim=1).numpy() == label) | tied.numpy()
    del score

    times = []
    for _ in range(chosen.repeats):
        slow = seconds(lambda: loop(q, lists[:SAMPLE])) * len(top) / SAMPLE
        slow += seconds(lambda: finish(evidence).argmax(dim=1))
        times.append((slow, seconds(kernel), slow + seconds(softmax), seconds(kernel_from_rows)))
    print(f"{chosen.units} units, {chosen.concepts} concepts, top {chosen.top}, "
          f"{torch.get_num_threads()} threads, median of {chosen.repeats}; "
          f"same labels: {same.mean():.2%}\n")  # fmt: skip
    print("| from | loop in torch, s | kernel, s | times as fast |")
    print("| --- | ---: | ---: | ---: |")
    for name, at in (("Q", 0), ("embeddings", 2)):
        one, other = (statistics.median(row[at + i] for row in times) for i in (0, 1))
        ratio = statistics.median(row[at] / row[at + 1] for row in times)
        print(f"| {name} | {one:.1f} | {other:.2f} | {ratio:.1f} |")


class Best:
    """The best label of each unit so far."""

    def __init__(self, units: int) -> None:
        self.score = np.full(units, -np.inf, dtype=np.float32)
        self.label = np.zeros(units, dtype=np.int64)

    def merge(self, first: int, scores: np.ndarray) -> None:
        """Take in a block of concepts."""
        column = scores.argmax(axis=1)
        highest = scores[np.arange(len(scores)), column]
        better = highest > self.score
        self.score[better], self.label[better] = highest[better], first + column[better]


if __name__ == "__main__":
    main()
