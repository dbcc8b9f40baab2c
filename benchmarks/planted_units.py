"""Does the experiment find what units were made to measure? Three units by hand, on drawn scenes.

::

    python benchmarks/planted_units.py [--seeds 20] [--scenes 1000]

The units of ``tests/samples/planted.py`` compute redness, slanting stripes and rings from pixels;
their thresholds were set on the scenes of seed 0, which are not among those here. For each unit the
table says in how many seeds its level has the largest effect of all, its factor the largest share,
and is followed; which other factors have a share whose interval lies above 0, in how many seeds,
with the mean share over all seeds; and how many of the other levels have an effect whose interval
lies above 0, of which chance alone puts 2.5 % there.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from profiler.core.store import Store, cache_folder
from profiler.data.synthetic.design import FACTORS, ExperimentScenes
from profiler.models.subject.loading import load_subject
from profiler.profile.drivers import Following, LayerDrivers, following, half_interval
from profiler.profile.experiment import run_experiment
from profiler.session import Services

SUBJECT = Path(__file__).parents[1] / "tests" / "samples" / "planted.py"
PLANTED = (("color", "red"), ("pattern", "striped"), ("shape", "ring"))
"""What each unit measures."""


class Tally:
    """What the experiments said of one unit."""

    def __init__(self) -> None:
        self.level = self.factor = self.follows = 0
        self.others: Counter[str] = Counter()
        self.of_others: Counter[str] = Counter()
        self.levels: list[int] = []
        self.share: list[float] = []

    def add(self, layer: LayerDrivers, unit: int, follows: bool) -> None:
        """One experiment."""
        factor, level = PLANTED[unit]
        columns = [(name, each) for name, levels in FACTORS.items() for each in levels]
        own = columns.index((factor, level))
        groups = len(layer.without)
        effect = layer.effect[unit]
        low = effect - half_interval(layer.effect_error, groups)[unit]
        share_low = layer.share[unit] - half_interval(layer.share_error, groups)[unit]
        self.level += int(effect.argmax()) == own
        self.factor += layer.factors[int(layer.share[unit].argmax())] == factor
        self.follows += follows
        self.share.append(float(layer.share[unit, layer.factors.index(factor)]))
        self.others.update(
            name for name, each in zip(layer.factors, share_low, strict=True)
            if each > 0 and name != factor
        )  # fmt: skip
        self.of_others.update(dict(zip(layer.factors, layer.share[unit].tolist(), strict=True)))
        # The other levels of its own factor lie below 0 where it lies above.
        self.levels.append(sum(low[i] > 0 for i in range(len(columns)) if i != own))


def main() -> None:
    """Print a row a unit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--scenes", type=int, default=1000)
    given = parser.parse_args()
    subject = load_subject(f"{SUBJECT}:subject", torch.device("cpu"))
    layers = subject.layers(("seen",))
    tallies = [Tally() for _ in PLANTED]
    for seed in range(1, given.seeds + 1):
        scenes = ExperimentScenes(given.scenes, seed)
        done = run_experiment(
            subject, layers, scenes, services=Services(store=Store(cache_folder()))
        )
        words = [level for _, level in PLANTED]
        told = following(done.layers[0], words, done.factors)
        for unit, tally in enumerate(tallies):
            tally.add(done.layers[0], unit, told[unit] is Following.FOLLOWED)
    others = sum(map(len, FACTORS.values())) - 1
    print("| unit | share | largest effect | largest share | followed | other factors above 0 |"
          f" of {others} other levels above 0 |")  # fmt: skip
    print("| --- " + "| ---: " * 4 + "| --- | ---: |")
    for (factor, level), tally in zip(PLANTED, tallies, strict=True):
        many = "; ".join(
            f"{name} in {n} ({100 * tally.of_others[name] / given.seeds:.1f} %)"
            for name, n in tally.others.most_common()
        )
        print(
            f"| {level} | {100 * np.mean(tally.share):.0f} % of {factor} | {tally.level} |"
            f" {tally.factor} | {tally.follows} | {many or 'none'} | {np.mean(tally.levels):.1f} |"
        )


if __name__ == "__main__":
    main()
