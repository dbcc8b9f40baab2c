"""How well words describe units, in both views: the table of a finished run, and what it costs.

::

    profiler run SUBJECT --vlm conse --probe PHOTOS --concepts visual --out RUN --keep-activations
    python benchmarks/explain.py RUN [--draw 100] [--shuffled 10] [--split 0.7] \
        [--unrestricted]
    python benchmarks/explain.py --scale 10000 100000 1000000

``--draw`` prints so many units with their words and images, drawn at random from all layers but the
first two, to be read. ``--shuffled`` permutes the activations of all units over the images, as many
times, and prints the shares of units that are explained and confirmed then: by chance. It also
mixes permuted units with the real ones, in known shares, and prints how many of the explained
units are permuted: the false-discovery rate that the cut keeps, as it is and if it made use of
Storey's estimate of the units that only chance explains. ``--split`` chooses words on that share of
the images and tests them on the others, as Linear Explanations (Oikarinen & Weng 2024) do.
``--unrestricted`` explains once more by any words of the set, visual and familiar or not. These
three need the activations in the cache. ``--scale`` explains and confirms random units of
so many images, each in a process of its own, and prints its time and peak memory.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from profiler.activations.moments import (
    FoldMoments,
    LayerMoments,
    MomentCollector,
    by_layer,
    decoys_of,
    order_of,
)
from profiler.activations.top_lists import ImageSample, LayerTops, TopCollector
from profiler.core.arrays import blocks
from profiler.profile.confirm import confirm, halves, list_length
from profiler.profile.evaluation import Sample, top_lists
from profiler.profile.explain import (
    FDR,
    MOST_WORDS,
    Candidates,
    LayerRange,
    explain_layers,
    explained_cut,
)
from profiler.profile.labels import LayerLabels, label_layers
from profiler.profile.result import ProfileRun, load_run
from profiler.profile.similarity.pmi import SoftWPMI
from profiler.profile.threshold import confirmed_threshold

BLOCK = 256
"""Images given to the collectors at a time."""
PLANTED = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of units that are permuted beside the real ones."""


def table(run: ProfileRun, draw: int) -> None:
    """Print the table of a run."""
    cuts = {words: explained_cut(run.ranges, words=words) for words in (1, MOST_WORDS)}
    print("cut on r: " + ", ".join(f"{words} words {cut:.3f}" for words, cut in cuts.items()))
    print(
        "| layer | interpretable by peak | r of 1 word | r of 5 | shown | ceiling | explained by 1 "
        "| by 5 | decoys' r | specificity | leading words |"
    )
    print("| --- |" + " ---: |" * 9 + " --- |")
    living, passed, peak = 0, Counter[int](), 0
    drawn = []
    for labels, layer in zip(run.layers, run.ranges, strict=True):
        trusted = run.trusted(labels)
        peak += int(trusted.sum())
        known = np.isfinite(layer.r[:, 0])
        living += int(known.sum())
        for words, cut in cuts.items():
            passed[words] += int((layer.r[known, words - 1] >= cut).sum())
        leading = [run.concepts[c] for c in layer.concept[known, 0] if c >= 0]
        kinds = Counter(run.sorting.category.get(word, "unsorted") for word in leading)
        (kind, units), *_ = kinds.most_common(1) or [("none", 0)]
        r = layer.r[known]
        print(
            f"| {layer.layer} | {trusted.mean():.0%} | {r[:, 0].mean():.3f} | "
            f"{r[:, -1].mean():.3f} | {layer.shown_r[known].mean():.3f} | "
            f"{layer.ceiling[known].mean():.3f} | "
            f"{(r[:, 0] >= cuts[1]).mean():.1%} | {(r[:, -1] >= cuts[MOST_WORDS]).mean():.1%} | "
            f"{np.nanmean(layer.decoy_r[:, -1]):.3f} | {np.nanmean(layer.specificity):.1%} | "
            f"{kind} {units / max(len(leading), 1):.0%} |"
        )
        drawn += [(labels, layer, unit) for unit in np.flatnonzero(layer.concept[:, 0] >= 0)]
    print(f"interpretable by peak: {peak} of {living} living units, {peak / living:.1%}")
    for words, units in passed.items():
        print(
            f"explained by {words}: {units} of {living}, {units / living:.1%}; "
            f"by chance alone: {null_share(run.ranges, words):.1%} of all"
        )
    print("seconds:", {name: round(each, 1) for name, each in run.record.timings.items()})
    if draw:
        print("\n| layer, unit | peak label | range words | r | strongest images | weakest |")
        print("| --- | --- | --- | ---: | --- | --- |")
    deep = [each for each in drawn if each[1] not in run.ranges[:2]]
    for labels, layer, unit in random.Random(0).sample(deep, min(draw, len(deep))):
        peak_word = run.concepts[labels.concept[unit, 0]]
        held = "" if run.trusted(labels)[unit] else " (not confirmed)"
        shown = [run.image_names[i] for i in layer.images[unit] if i >= 0]
        print(
            f"| {layer.layer} {unit} | {peak_word}{held} | {run.explanation(layer, unit)} | "
            f"{layer.shown_r[unit]:.2f} | {_named(shown[:3])} | {_named(shown[-2:])} |"
        )


def _named(images: list[str]) -> str:
    """Images by what their files are called, without number and ending."""
    stems = (Path(image).stem.partition("_") for image in images)
    return ", ".join((name or first).replace("_", " ") for first, _, name in stems)


# --- what chance gives, and another split ------------------------------------------------------


class Kept:
    """A run's activations, embeddings and concepts, out of the cache."""

    def __init__(self, run: ProfileRun) -> None:
        import torch

        from profiler.compare.compare import _pass_of
        from profiler.core.store import Store, cache_folder
        from profiler.models.vlm.base import embed_captions
        from profiler.models.vlm.choose import texts_of
        from profiler.session import Services

        store = Store(cache_folder())
        found = _pass_of(run.record, Services(store=store))
        vlm = run.record.vlm
        if found is None or not found.matrices or vlm is None:
            sys.exit("the run's activations are not in the cache: run again, --keep-activations")
        texts = texts_of(vlm, run.record.settings, torch.device("cpu"))
        captions = [vlm.template.format(word) for word in run.concepts]
        self.concepts = embed_captions(texts, captions, store)
        self.names = [layer.layer for layer in found.tops]
        self.units = [layer.units for layer in found.tops]
        self.images = np.asarray(found.embeddings[:])
        self.matrices = [np.asarray(matrix[:]) for matrix in found.matrices]
        self.half = halves(found.kept, len(found.kept) + len(found.skipped))

    def moments(self, permuted: np.ndarray) -> list[LayerMoments]:
        """Of each image's embedding with the activations of the image ``permuted`` to it."""
        collector = MomentCollector()
        order = order_of(len(permuted))
        for rows in blocks(len(order), BLOCK):
            here = order[rows]
            activations = {
                name: matrix[permuted[here]]
                for name, matrix in zip(self.names, self.matrices, strict=True)
            }
            collector.add(np.arange(rows.start, rows.stop), self.images[here], activations)
        shapes = list(zip(self.names, self.units, strict=True))
        return list(by_layer(collector.result().total(), shapes))


def unrestricted(run: ProfileRun, kept: Kept) -> None:
    """Print what it costs to take visual and familiar words alone."""
    whole = np.arange(len(kept.images))
    tops = [
        top_lists(name, Sample(matrix, whole), 100)
        for name, matrix in zip(kept.names, kept.matrices, strict=True)
    ]
    sample = ImageSample(np.zeros(0, int), tuple(np.zeros((0, k)) for k in kept.units))
    free = explain_layers(kept.moments(whole), tops, Candidates(kept.concepts), sample)
    print("| layer | r of 1 word | any word | r of 5 | any words | leading words of any |")
    print("| --- |" + " ---: |" * 4 + " --- |")
    for own, other in zip(run.ranges, free, strict=True):
        r = [np.nanmean(each.r[:, q]) for q in (0, MOST_WORDS - 1) for each in (own, other)]
        leading = Counter(run.concepts[c] for c in other.concept[:, 0] if c >= 0).most_common(4)
        print(
            f"| {own.layer} | {' | '.join(f'{each:.3f}' for each in r)} | "
            f"{', '.join(word for word, _ in leading)} |"
        )


def shuffled(run: ProfileRun, kept: Kept, times: int) -> None:
    """Print what is explained and confirmed when activations are permuted over the images."""
    total = len(kept.images)
    false: dict[tuple[int, float], list[tuple[float, float]]] = {
        (words, share): [] for words in (1, MOST_WORDS) for share in PLANTED
    }
    similarity = SoftWPMI()
    top = similarity.top(total)
    for seed in range(times):
        order = np.random.default_rng(seed).permutation(total)
        tops = [
            top_lists(name, Sample(matrix, order), 100)
            for name, matrix in zip(kept.names, kept.matrices, strict=True)
        ]
        sample = ImageSample(np.zeros(0, int), tuple(np.zeros((0, k)) for k in kept.units))
        found = list(explain_layers(kept.moments(order), tops, Candidates(kept.concepts), sample))
        cut = explained_cut(found)
        explained = np.concatenate([layer.explained(cut) for layer in found])
        z = _confirmed(tops, kept.images, kept.concepts, kept.half, similarity, top)
        nothing = np.zeros((0, 0))
        labels = [
            LayerLabels(
                layer.layer, nothing, nothing, nothing, layer.dead, nothing, nothing, nothing, own
            )
            for layer, own in zip(tops, z, strict=True)
        ]
        threshold = confirmed_threshold(labels)
        confirmed = np.concatenate([layer.confirmed_z > threshold.value for layer in labels])
        print(
            f"permuted, seed {seed}: explained {explained.mean():.2%}, confirmed "
            f"{confirmed.mean():.2%}",
            flush=True,
        )
        for (words, share), shares in false.items():
            shares.append(false_shares(run.ranges, found, share, words, seed))
    for (words, share), shares in false.items():
        mean, error = np.mean(shares, axis=0), np.std(shares, axis=0, ddof=1) / np.sqrt(times)
        print(
            f"{share:.0%} of the units permuted: of those explained by {words}, {mean[0]:.1%} "
            f"(standard error {error[0]:.1%}), with Storey's estimate {mean[1]:.1%} "
            f"({error[1]:.1%})"
        )


def false_shares(
    real: Sequence[LayerRange], permuted: Sequence[LayerRange], share: float, words: int, seed: int
) -> tuple[float, float]:
    """Of the explained units, how many are permuted, where a share of all units is; 0 of none.

    By the cut as it is, and by that with Storey's estimate.
    """
    rng = np.random.default_rng(seed)
    false = [rng.random(len(layer.r)) < share for layer in real]
    mixed = [
        replace(noise, r=np.where(each[:, None], noise.r, layer.r))
        for layer, noise, each in zip(real, permuted, false, strict=True)
    ]

    def of_explained(fdr: float) -> float:
        cut = explained_cut(mixed, words=words, fdr=fdr)
        explained = np.concatenate([layer.r[:, words - 1] >= cut for layer in mixed])
        return float(np.concatenate(false)[explained].mean()) if explained.any() else 0.0

    return of_explained(FDR), of_explained(FDR / null_share(mixed, words))


def null_share(layers: Sequence[LayerRange], words: int) -> float:
    """π₀, the share of units that only chance explains: about twice that below the median decoy.

    Storey, Taylor & Siegmund (JRSS B 2004), with λ = 1/2.
    """
    below = [
        layer.r[known, words - 1] < np.nanmedian(layer.decoy_r[:, words - 1])
        for layer in layers
        if (known := np.isfinite(layer.r[:, 0])).any()
    ]
    each = np.concatenate(below)
    return min(2 * (1 + int(each.sum())) / len(each), 1.0)


def _confirmed(
    tops: list[LayerTops],
    images: np.ndarray,
    concepts: np.ndarray,
    half: np.ndarray,
    similarity: SoftWPMI,
    top: int,
) -> list[np.ndarray]:
    length = list_length(similarity, top, len(images), tops[0].images.shape[1])

    def label(layers: list[LayerTops], rows: np.ndarray) -> list[np.ndarray]:
        found = label_layers(
            layers, Sample(images, rows), concepts, similarity=similarity, top=length, null_draws=0
        )
        return [each.concept[:, 0] for each in found]

    return confirm(tops, images, concepts, half, label, length)


def split(kept: Kept, share: float) -> None:
    """Print r on the images that words were not chosen on, of one split."""
    rng = np.random.default_rng(0)
    fold = np.ones(len(kept.images), int)
    fold[rng.permutation(len(fold))[round(share * len(fold)) :]] = 0
    for name, matrix in zip(kept.names, kept.matrices, strict=True):
        own = LayerMoments(
            name,
            FoldMoments.of(kept.images, matrix, fold, folds=2),
            FoldMoments.of(kept.images, matrix[:, decoys_of(matrix.shape[1])], fold, folds=2),
        )
        tops = LayerTops(
            name, np.zeros((matrix.shape[1], 1), int), matrix.max(0)[:, None], matrix.min(0)
        )
        sample = ImageSample(np.zeros(0, int), (np.zeros((0, matrix.shape[1])),))
        (found,) = explain_layers([own], [tops], Candidates(kept.concepts), sample)
        r = np.nanmean(found.fold_r[:, 0], axis=0)
        print(f"{name}: r on the other {np.mean(fold == 0):.0%} of the images: "
              f"one word {r[0]:.3f}, five {r[-1]:.3f}")  # fmt: skip


# --- cost --------------------------------------------------------------------------------------

UNITS, DIMENSIONS, CONCEPTS = 1000, 256, 2000


def measure(images: int) -> None:
    """Explain and confirm random units; print seconds and peak memory."""
    rng = np.random.default_rng(0)
    concepts = rng.normal(size=(CONCEPTS, DIMENSIONS)).astype(np.float32)
    concepts /= np.linalg.norm(concepts, axis=1, keepdims=True)
    mix = rng.normal(size=(DIMENSIONS, UNITS)).astype(np.float32)
    moments, tops = MomentCollector(), TopCollector("layer", 100)
    began, spent = time.perf_counter(), 0.0
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], _own_memory())

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        rows = np.lib.format.open_memmap(
            Path(folder) / "rows.npy", "w+", np.float32, (images, DIMENSIONS)
        )
        kept = None
        for part in blocks(images, BLOCK):
            v = rng.normal(size=(part.stop - part.start, DIMENSIONS)).astype(np.float32)
            v /= np.linalg.norm(v, axis=1, keepdims=True)
            a = v @ mix + rng.normal(size=(len(v), UNITS)).astype(np.float32)
            rows[part] = v
            if part.stop % 65_536 == 0:
                rows.flush()
            start = time.perf_counter()
            places = np.arange(part.start, part.stop)
            moments.add(places, v, {"layer": a})
            tops.add(places, a)
            spent += time.perf_counter() - start
            kept = a if kept is None else kept
        lists = tops.result()
        start = time.perf_counter()
        (layer,) = by_layer(moments.result().total(), [("layer", UNITS)])
        sample = ImageSample(np.arange(BLOCK), (kept,))
        (found,) = explain_layers([layer], [lists], Candidates(concepts), sample)
        explaining = time.perf_counter() - start
        similarity = SoftWPMI()
        start = time.perf_counter()
        half = halves(np.arange(images), images)
        _confirmed([lists], rows, concepts, half, similarity, similarity.top(images))
        confirming = time.perf_counter() - start
    done.set()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{images:>9,} images: statistics {spent:.1f} s, words {explaining:.1f} s, confirmation "
        f"{confirming:.1f} s, in all {time.perf_counter() - began:.0f} s; peak {peak[0]:.0f} MiB "
        f"of its own, {resident:.0f} with mapped files; mean r {np.nanmean(found.shown_r):.3f}",
        flush=True,
    )


def _own_memory() -> float:
    """MiB that are no pages of mapped files, which the system takes back when it likes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--shuffled", type=int, default=0)
    parser.add_argument("--split", type=float)
    parser.add_argument("--unrestricted", action="store_true")
    parser.add_argument("--scale", type=int, nargs="*", default=[])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(given.measure)
    for images in given.scale:
        subprocess.run([sys.executable, __file__, "--measure", str(images)], check=True)
    if given.run:
        run = load_run(given.run)
        table(run, given.draw)
        if given.shuffled or given.split or given.unrestricted:
            kept = Kept(run)
            if given.unrestricted:
                unrestricted(run, kept)
            if given.split:
                split(kept, given.split)
            if given.shuffled:
                shuffled(run, kept, given.shuffled)
    return None


if __name__ == "__main__":
    main()
