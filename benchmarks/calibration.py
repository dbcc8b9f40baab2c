"""Whether the interval of τ holds the true cut, and the default threshold keeps its promise.

    python benchmarks/calibration.py [RUNS]

1. **Simulated raters.** Each run draws a network of five layers (64 to 2 048 units) whose scores
   follow a normal distribution of the layer's own, and raters who say Yes, Maybe or No with
   probabilities that rise with the score. Mean rating above a cut is then a known function, and
   its crossing of the target the true τ. A hundred units a layer are sampled, rated and
   calibrated. Counted: how often each kind of interval holds the true cut. "Inversion" is what
   :func:`profiler.rate.calibration.calibrate` reports, "all cuts" the same without its rule for the
   upper end; "percentile" and "basic" resample τ itself.
2. **The null-distribution default**: units that respond to a planted concept, and the same
   activations permuted over the images.
"""

import sys
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from profiler.activations.top_lists import TopCollector
from profiler.core.arrays import FloatArray
from profiler.profile.labels import LayerLabels, label_layers
from profiler.profile.threshold import null_threshold
from profiler.rate.calibration import DRAWS, MINIMUM_ABOVE, Curve, calibrate, rated_units, resample
from profiler.rate.ratings import Rating, sample_units
from profiler.rate.views import ScoredLayer

TARGET = 0.75


@dataclass(frozen=True)
class World:
    """Layers of units with normal scores, and what people think of a score."""

    name: str
    sizes: tuple[int, ...] = (64, 256, 512, 1024, 2048)
    means: tuple[float, ...] = (0.10, 0.13, 0.16, 0.20, 0.24)
    spread: float = 0.06
    middle: float = 0.19
    """Score with expected rating one half."""
    slope: float = 22.0
    raters: int = 1
    agree: float = 1.0
    """Share of the units on which raters answer alike; each answers for himself on the others."""
    per_layer: int = 100

    def expected(self, score: FloatArray) -> FloatArray:
        """Expected rating at a score."""
        return np.asarray(expit(self.slope * (score - self.middle)))

    def mean_above(self, cut: float) -> float:
        """Expected rating of the units above a cut, each layer weighing as many units as it has."""
        grid = np.linspace(cut, cut + 1.2, 6001)
        density = sum(
            size * norm.pdf(grid, mean, self.spread)
            for size, mean in zip(self.sizes, self.means, strict=True)
        )
        return float((density * self.expected(grid)).sum() / density.sum())

    @property
    def tau(self) -> float:
        """The true cut; minus infinity where all units together reach the target."""
        if self.mean_above(-1.0) >= TARGET:
            return -np.inf
        return float(brentq(lambda cut: self.mean_above(cut) - TARGET, -1.0, 0.6))

    def draw(self, seed: int) -> tuple[list[ScoredLayer], list[Rating]]:
        """A run and its ratings."""
        rng = np.random.default_rng([seed, 77])
        layers = [
            ScoredLayer(f"layer{i}", rng.normal(mean, self.spread, size))
            for i, (size, mean) in enumerate(zip(self.sizes, self.means, strict=True))
        ]
        strata = {layer.layer: list(range(layer.units)) for layer in layers}
        by_name = {layer.layer: layer for layer in layers}
        ratings = []
        for name, unit in sample_units(strata, self.per_layer, seed):
            expected = float(self.expected(by_name[name].score[unit]))
            common = answer(expected, rng)
            alike = rng.random() < self.agree
            for rater in range(self.raters):
                value = common if alike else answer(expected, rng)
                ratings.append(Rating(f"rater{rater}", name, unit, value))
        return layers, ratings


def answer(expected: float, rng: np.random.Generator) -> float:
    """Yes, Maybe or No with this expectation: Maybe is likeliest in the middle."""
    maybe = 0.6 * min(expected, 1 - expected)
    return float(
        rng.choice([0.5, 1.0, 0.0], p=[maybe, expected - maybe / 2, 1 - expected - maybe / 2])
    )


@dataclass
class Tally:
    """How often an interval holds the truth, misses it on either side, and how wide it is."""

    holds: int = 0
    below: int = 0
    above: int = 0
    widths: tuple[float, ...] = ()

    def add(self, low: float, high: float, truth: float) -> None:
        """Count one interval; ``below``: the whole interval lies below the truth."""
        self.holds += low <= truth <= high
        self.below += high < truth
        self.above += low > truth
        self.widths = (*self.widths, high - low)

    def row(self, name: str) -> str:
        """A line of the table."""
        n = self.holds + self.below + self.above
        if not n:
            return f"| {name} | – | – | – | – |"
        error = np.sqrt(self.holds / n * (1 - self.holds / n) / n)
        return (
            f"| {name} | {self.holds / n:.1%} ± {error:.1%} | {self.below} | {self.above} | "
            f"{np.median(self.widths):.4f} |"
        )


def coverage(world: World, runs: int) -> None:
    """Print how often each kind of interval holds the true cut of this world."""
    truth = world.tau
    tallies = {
        name: Tally() for name in ("inversion", "inversion, all cuts", "percentile of τ", "basic")
    }
    mean = Tally()
    outcomes: dict[str, int] = {}
    estimates = []
    for run in range(runs):
        layers, ratings = world.draw(run)
        found = calibrate(layers, ratings, target=TARGET, seed=run)
        outcomes[found.outcome] = outcomes.get(found.outcome, 0) + 1
        if found.outcome != "reached":
            continue
        estimates.append(found.tau)
        tallies["inversion"].add(found.low, found.high, truth)
        tallies["inversion, all cuts"].add(*every_cut(found.curve), truth)
        low, high = np.quantile(resampled_taus(layers, ratings, run), [0.025, 0.975])
        tallies["percentile of τ"].add(low, high, truth)
        tallies["basic"].add(2 * found.tau - high, 2 * found.tau - low, truth)
        above = found.total.above
        mean.add(above.low, above.high, world.mean_above(found.tau))
    print(
        f"\n{world.name}: true τ = {truth:.4f}, mean estimate {np.mean(estimates):.4f} "
        f"(sd {np.std(estimates):.4f}); outcomes {outcomes}\n"
    )
    print("| interval | holds the truth | lies below it | lies above it | median width |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, tally in tallies.items():
        print(tally.row(name))
    print(mean.row("of the mean above τ̂"), flush=True)


def every_cut(curve: Curve) -> tuple[float, float]:
    """From the lowest to the highest cut whose interval holds the target."""
    holds = np.flatnonzero(curve.enough & (curve.low <= TARGET) & (curve.high >= TARGET))
    if not len(holds):
        return np.nan, np.nan
    last = min(holds[-1] + 1, len(curve.cut) - 1)
    return float(curve.cut[holds[0]]), float(curve.cut[last])


def resampled_taus(layers: list[ScoredLayer], ratings: list[Rating], seed: int) -> FloatArray:
    """τ of each bootstrap resample; the highest score where the target is never reached."""
    rated = rated_units(layers, ratings)
    order = np.argsort(rated.score)
    weight = (resample(rated, DRAWS, seed) * rated.weight)[:, order]
    # Column i: the mean of the units from the i-th on, so the cut is the score before it.
    weight, total = (
        np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in (weight, weight * rated.rating[order])
    )
    enough = np.arange(len(rated), 0, -1) >= MINIMUM_ABOVE
    with np.errstate(invalid="ignore", divide="ignore"):
        reaches = (total / weight >= TARGET) & enough
    first = np.where(reaches.any(axis=1), reaches.argmax(axis=1), len(rated))
    lowest = min(float(layer.score.min()) for layer in layers)
    return np.concatenate([[lowest], rated.score[order]])[first]


def default_threshold(seeds: int) -> None:
    """Print the share of units that the null-distribution rule trusts."""
    print("\n| units a layer | planted: interpretable | shuffled: interpretable |")
    print("| ---: | ---: | ---: |")
    for units in (16, 64, 256):
        planted, shuffled = [], []
        for seed in range(seeds):
            for kind, shares in (("planted", planted), ("shuffled", shuffled)):
                layer = planted_layer(units, seed, shuffled=kind == "shuffled")
                shares.append(null_threshold([layer]).trusts(layer).mean())
        print(f"| {units} | {np.mean(planted):.1%} | {np.mean(shuffled):.1%} |", flush=True)


def planted_layer(units: int, seed: int, *, shuffled: bool) -> LayerLabels:
    """Units that each respond to one of 300 concepts, on images that each show one."""
    rng = np.random.default_rng(seed)

    def rows(array: FloatArray) -> FloatArray:
        return array / np.linalg.norm(array, axis=1, keepdims=True)

    concepts = rows(rng.normal(size=(300, 16)))
    images = concepts[np.arange(3000) % 300]
    images = rows(images + 0.15 * rng.normal(size=images.shape))
    truth = rng.choice(300, size=units, replace=units > 300)
    activations = images @ concepts[truth].T + 0.05 * rng.normal(size=(3000, units))
    if shuffled:
        activations = rng.permuted(activations, axis=0)
    collector = TopCollector("layer", 10)
    collector.add(np.arange(3000), activations)
    (labels,) = label_layers([collector.result()], images, concepts, top=10, seed=seed)
    return labels


WORLDS = (
    World("one rater, 100 a layer"),
    World("one rater, 30 a layer", per_layer=30),
    World("three raters who agree on half the units", raters=3, agree=0.5),
    World("five equal layers", sizes=(512,) * 5),
    World("flat: ratings rise slowly with the score", slope=10.0, middle=0.2),
)

if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{number} runs a world; {TARGET:.0%} target, 95 % intervals")
    for each in WORLDS:
        coverage(each, number)
    default_threshold(max(2, number // 20))
