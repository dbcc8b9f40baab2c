"""What drives networks, trained and random, and what telling it costs.

::

    python benchmarks/drivers.py efficientnet_lite0 efficientnet_lite1 efficientnet_lite0:none \
        resnet18:none timm/vit_tiny_patch16_224:none [--scenes 1000] [--seed 0] \
        [--preprocess 'resize=256 crop=224'] [--cost]
    python benchmarks/drivers.py benchmarks/train_cifar.py:net@OUT/step-00400.pt

``:none`` takes random weights, ``@FILE`` a checkpoint. Of each network a table in percent; then,
layer by layer in order, how far the shares of each other network are from the first one's, as far
as both have so many layers. ``--cost`` times the same pictures without any of this program: read,
prepared and shown to the network in batches of 64.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import DataLoader

from profiler.core.store import Store, cache_folder
from profiler.data.images import ProbeSet
from profiler.data.synthetic.design import ExperimentScenes
from profiler.models.subject.loading import SubjectOptions, load_subject
from profiler.models.subject.network import Subject
from profiler.profile.drivers import Experiment
from profiler.profile.experiment import drawn_once, run_experiment
from profiler.session import Reading, Services


def opened(text: str, preprocess: str | None = None) -> Subject:
    """A network by its name, with what follows it."""
    name, _, file = text.partition("@")
    random = name.endswith(":none")
    options = SubjectOptions(
        checkpoint=Path(file) if file else None,
        weights="none" if random else "default",
        preprocess=preprocess,
    )
    return load_subject(name.removesuffix(":none"), torch.device("cpu"), options)


def table(name: str, done: Experiment) -> None:
    """Print the mean shares of each layer."""
    titles = [*done.factors.names, "all", "pairs", "rest", "widest"]
    print(f"\n| {name} | " + " | ".join(titles) + " |")
    print("| --- |" + " ---: |" * len(titles))
    for layer in done.layers:
        shares = list(layer.shares().values())
        cells = [*shares, layer.first_order(), layer.all_two_way(), layer.rest()]
        widest = max(each.high - each.value for each in shares)
        numbers = " | ".join(f"{100 * each.value:.1f}" for each in cells)
        print(f"| {layer.layer} | {numbers} | ±{100 * widest:.1f} |")


def apart(name: str, done: Experiment, first: Experiment) -> None:
    """Print the differences from the first network: in points.

    A star stands where the paired interval leaves out 0.
    """
    if len(done.layers) != len(first.layers):
        return
    print(f"\n| {name} less the first | " + " | ".join(done.factors.names) + " |")
    print("| --- |" + " ---: |" * len(done.factors.names))
    for layer, other in zip(done.layers, first.layers, strict=True):
        cells = [
            f"{100 * each.value:+.1f}{'*' if each.low > 0 or each.high < 0 else ''}"
            for each in layer.less(other).values()
        ]
        print(f"| {layer.layer} | " + " | ".join(cells) + " |")


class _Pictures(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, subject: Subject, probe: ProbeSet) -> None:
        self._subject, self._probe = subject, probe

    def __len__(self) -> int:
        return len(self._probe.names)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._subject.preprocess(self._probe.read(index))


def bare(subject: Subject, probe: ProbeSet, workers: int) -> None:
    """The forward passes alone."""
    loader = DataLoader(_Pictures(subject, probe), batch_size=64, num_workers=workers)
    with torch.inference_mode():
        for images in loader:
            subject.model(subject.on_device(images))


def cost(name: str, scenes: ExperimentScenes, workers: int) -> None:
    """Print what each part costs, with a cache of its own."""
    subject = opened(name)
    layers = subject.layers()
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        services = Services(store=store)
        with spent("drawing"):
            probe = drawn_once(scenes, store, workers=workers)
        with spent("network alone"):
            bare(subject, probe, workers)
        with spent("network and drivers"):
            run_experiment(
                subject, layers, scenes, reading=Reading(workers=workers), services=services
            )
        with spent("the same again, all of it kept"):
            run_experiment(subject, layers, scenes, services=services)


@contextmanager
def spent(what: str) -> Iterator[None]:
    """Print the seconds, by the clock and of CPU, in this process and those that it started."""
    began, before = time.perf_counter(), os.times()
    yield
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    print(f"{what}: {time.perf_counter() - began:.1f} s, {cpu:.1f} s of CPU", flush=True)


def main() -> None:
    """Print tables, differences and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preprocess", help="of all networks, as for the command line")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cost", action="store_true")
    given = parser.parse_args()
    scenes, store = ExperimentScenes(given.scenes, given.seed), Store(cache_folder())
    if given.cost:
        cost(given.networks[0], scenes, given.workers)
        return
    first: Experiment | None = None
    for name in given.networks:
        subject = opened(name, given.preprocess)
        reading = Reading(workers=given.workers)
        done = run_experiment(
            subject, subject.layers(), scenes, reading=reading, services=Services(store=store)
        )
        table(name, done)
        seconds = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in done.seconds.items())
        print(f"\n{seconds}")
        if first is None:
            first = done
        else:
            apart(name, done, first)


if __name__ == "__main__":
    main()
