"""Images a second of a whole run against the bare forward passes of its two networks.

    python benchmarks/throughput.py PHOTOS [--subject efficientnet_lite0] [--images 512]

The bare passes run on batches that are in memory already, with the same batch size, hooks off;
of ConSE over built-in lists, its network as timm gives it.
The run reads, decodes and prepares the same photographs for both networks, collects every layer
of ``--layers all``, keeps the pass on disk, labels, draws the null distribution, makes thumbnails
and writes the report; nothing of it is in the cache before, but for the text embeddings of the
concept set and of the words that sort labels, which are made once, ever. Both run in this process,
in turn; the ratio is the median over the repeats.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from profiler.core.memory import keep_freed_memory
from profiler.core.store import Store
from profiler.data.concept_sets import open_concepts
from profiler.data.images import ImageFolder
from profiler.models.subject.loading import load_subject
from profiler.models.subject.sources import lite_model
from profiler.models.vlm.base import embed_concepts
from profiler.models.vlm.choose import open_vlm
from profiler.models.vlm.looks import SUBJECT
from profiler.profile.run import ProfileOptions, profile, sort_words
from profiler.session import Reading, Services

BATCH = 64


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--subject", default="efficientnet_lite0")
    parser.add_argument("--vlm", default="conse:objects")
    parser.add_argument("--concepts", default="common-3k")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="the run's networks, not the bare")
    chosen = parser.parse_args()

    keep_freed_memory()  # as the command line does, for both sides
    device = torch.device("cpu")
    subject, vlm = load_subject(chosen.subject, device), open_vlm(chosen.vlm, device)
    probe = ImageFolder.open(chosen.photos, limit=chosen.images)
    concepts = open_concepts(chosen.concepts)
    count = len(probe.names)
    batches = [
        tuple(
            torch.stack([prepare(probe.read(i)) for i in range(lo, min(lo + BATCH, count))])
            for prepare in (subject.preprocess, vlm.preprocess)
        )
        for lo in range(0, count, BATCH)
    ]

    # As timm gives it: what ConSE gains by folding its batch norms is the run's.
    reader = lite_model(SUBJECT).model if chosen.vlm.startswith("conse") else vlm.embed_images

    def bare() -> None:
        with torch.inference_mode():
            for own, other in batches:
                subject.model(own.to(memory_format=torch.channels_last))
                reader(other.to(memory_format=torch.channels_last))

    rows: list[tuple[float, ...]] = []
    parts: list[dict[str, float]] = []
    for repeat in range(chosen.repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder, "cache"))
            embed_concepts(vlm, concepts.words, store)
            sort_words(concepts.words[:1], ProfileOptions(), vlm, Services(None, store))
            stages: dict[str, float] = {}

            def run(store: Store = store, folder: str = folder, into: dict[str, float] = stages):
                options = ProfileOptions(
                    reading=Reading(BATCH, chosen.workers), compile=chosen.compile, scenes=0
                )
                done = profile(
                    subject,
                    vlm,
                    probe,
                    concepts,
                    Path(folder, "out"),
                    options,
                    Services(None, store),
                )
                into.update(done.record.timings)

            row = (seconds(bare), seconds(run), stages["images"])
            if repeat:  # the first one compiles and warms up
                rows.append((*row, row[1] / row[0], row[2] / row[0]))
                parts.append(stages | {"record and report": row[1] - sum(stages.values())})
    bare_s, run_s, pass_s, ratio, pass_ratio = (
        statistics.median(c) for c in zip(*rows, strict=True)
    )
    print(f"{chosen.subject}, {chosen.vlm}, {chosen.concepts}, {count} images, "
          f"{torch.get_num_threads()} threads, {chosen.workers} workers, "
          f"median of {chosen.repeats}\n")  # fmt: skip
    print("| | images/s | times the bare passes |")
    print("| --- | ---: | ---: |")
    print(f"| bare forward passes | {count / bare_s:.1f} | 1.00 |")
    print(f"| image pass of the run | {count / pass_s:.1f} | {pass_ratio:.2f} |")
    print(f"| whole run, report included | {count / run_s:.1f} | {ratio:.2f} |")
    print("\n| stage | s |")
    print("| --- | ---: |")
    for stage in parts[0]:
        print(f"| {stage} | {statistics.median(part[stage] for part in parts):.2f} |")


if __name__ == "__main__":
    main()
