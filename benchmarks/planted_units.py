"""Does the experiment find what units were made to measure? Three units by hand, on drawn scenes.

::

    python benchmarks/planted_units.py [--seeds 20] [--scenes 1000]

The units of ``tests/samples/planted.py`` compute redness, slanting stripes and rings from pixels;
their filters and thresholds were chosen on the scenes of seed 0, which are not among those here.
For each unit the table says in how many seeds its level has the largest effect of all, its factor
the largest share, and is followed; which other factors have a share whose interval lies above 0, in
how many seeds, with the mean share over all seeds; in how many that is so by Holm's method, which
holds the chance that any of the other factors of an experiment is found at that of one interval;
and how many of the other levels have an effect whose interval lies above 0. Chance alone puts 2.5 %
of shares and effects there.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy.special import stdtr

from profiler.core.store import Store, cache_folder
from profiler.data.synthetic.design import FACTORS, ExperimentScenes
from profiler.models.subject.loading import load_subject
from profiler.profile.drivers import LEVEL, Following, LayerDrivers, following, half_interval
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
        self.by_holm: Counter[str] = Counter()
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
        tests = {
            name: 1 - float(stdtr(groups - 1, share / error))
            for name, share, error in zip(
                layer.factors, layer.share[unit], layer.share_error[unit], strict=True
            )
            if name != factor
        }
        self.by_holm.update(holm(tests))
        self.of_others.update(dict(zip(layer.factors, layer.share[unit].tolist(), strict=True)))
        # The other levels of its own factor lie below 0 where it lies above.
        self.levels.append(sum(low[i] > 0 for i in range(len(columns)) if i != own))


def holm(tests: dict[str, float], level: float = (1 - LEVEL) / 2) -> list[str]:
    """The hypotheses of these p-values that are rejected (Holm 1979), the smallest first.

    >>> holm({"a": 0.02, "b": 0.001, "c": 0.3})
    ['b']
    """
    ascending = sorted(tests, key=lambda name: tests[name])
    small = [tests[name] <= level / (len(tests) - i) for i, name in enumerate(ascending)]
    return ascending[: [*small, False].index(False)]


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
    expected = (len(FACTORS) - 1) * given.seeds * (1 - LEVEL) / 2
    print("| unit | share | largest effect | largest share | followed | other factors above 0 |"
          f" by Holm's method | of {others} other levels above 0 |")  # fmt: skip
    print("| --- " + "| ---: " * 4 + "| --- | --- | ---: |")
    for (factor, level), tally in zip(PLANTED, tallies, strict=True):
        raw = "; ".join(
            f"{name} in {n} ({100 * tally.of_others[name] / given.seeds:.1f} %)"
            for name, n in tally.others.most_common()
        )
        strict = "; ".join(f"{name} in {n}" for name, n in tally.by_holm.most_common())
        print(
            f"| {level} | {100 * np.mean(tally.share):.0f} % of {factor} | {tally.level} |"
            f" {tally.factor} | {tally.follows} | {raw or 'none'} | {strict or 'none'} |"
            f" {np.mean(tally.levels):.1f} |"
        )
    print(f"By chance alone {expected:g} shares of other factors of each unit lie above 0.")


if __name__ == "__main__":
    main()
