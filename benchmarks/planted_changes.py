"""Whether a comparison finds what was changed, where it was changed, and nothing where nothing was.

    python benchmarks/planted_changes.py [SEEDS]        # twenty seeds take some minutes

Every seed is another network of four layers. Each unit stands for a word: in the first layer it
sees, with noise, whether the word is true of the image; after that it averages the units of its
word in the layer before, with small random weights on all others, and rectifies. The images are
synthetic scenes, told by their words. Three changes are planted into one of the layers, by turns:
its weights get noise as strong as they are; the units whose labels are in one category are
pruned (their output is 0); or its units are permuted, weights of the next layer included, so that
only the numbering changes.

A layer counts as *found* if a share is ``changed`` or if matched units keep their labels less often
than 95 % of the pairs of draws of one run. A pruned category is found if its own share is
``changed``, downwards. False alarms: two draws of one run are held against each other, with the
floor of the other draws; an alarm is any ``changed`` share in any layer.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from profiler.compare.draws import label_draws
from profiler.compare.pairs import compare
from profiler.compare.result import ComparedRun, Comparison, LayerComparison, LayerDraws
from profiler.compare.runs import SortedWords, compared_run
from profiler.compare.scoring import label_together
from profiler.compare.words import words_in
from profiler.core.arrays import FloatArray, IntArray
from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.color import COLORS
from profiler.data.synthetic.materials import MATERIALS
from profiler.data.synthetic.patterns import PATTERNS
from profiler.data.synthetic.scenes import SyntheticScenes
from profiler.data.synthetic.shapes import SHAPES
from profiler.profile.evaluation import top_lists
from profiler.profile.labels import KEPT_LABELS, LayerLabels
from profiler.profile.similarity.pmi import SoftWPMI
from profiler.profile.threshold import Threshold

SCENES = 600
UNITS = 96
LAYERS = 4
DOSE = 1.0
"""Of noise, against the weights it falls on."""
DRAWS = 12
NAMES = tuple(f"layer{i}" for i in range(LAYERS))

SORTING_TABLE = {
    **dict.fromkeys((word for b in BACKGROUNDS.values() for word in b.words), "scene"),
    **dict.fromkeys(BACKGROUNDS, "scene"),
    **dict.fromkeys(SHAPES, "object"),
    **dict.fromkeys(PATTERNS, "texture"),
    **dict.fromkeys(MATERIALS, "material"),
    **dict.fromkeys(COLORS, "color"),
}
"""Category of each word; a colour that a background brings along is a colour."""
CONCEPTS = tuple(SORTING_TABLE)
CATEGORIES = ("object", "scene", "material", "texture", "color")
SORTING = SortedWords(CONCEPTS, CATEGORIES, SORTING_TABLE)


# --- the world -------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What is true of the images (N, M), their embeddings (N, e) and those of the words (M, e)."""

    truth: FloatArray
    images: FloatArray
    concepts: FloatArray


def rows(array: FloatArray) -> FloatArray:
    """Scaled to length one."""
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=2)
def world(scenes: int = SCENES) -> World:
    """The truth about the scenes; every seed sees the same."""
    rng = np.random.default_rng(0)
    source = SyntheticScenes(scenes, seed=0)
    concepts = rows(rng.normal(size=(len(CONCEPTS), 48)))
    truth = np.zeros((scenes, len(CONCEPTS)))
    for i in range(scenes):
        truth[i, [CONCEPTS.index(word) for word in source.scene(i).words()]] = 1
    return World(truth, rows(truth @ concepts + 0.05 * rng.normal(size=(scenes, 48))), concepts)


Network = tuple[FloatArray, ...]
"""Weights of each layer: (units, inputs)."""


def network(seed: int) -> Network:
    """Units that stand for words; some words have two."""
    rng = np.random.default_rng(seed)
    words = np.resize(rng.permutation(len(CONCEPTS)), UNITS)
    first = np.zeros((UNITS, len(CONCEPTS)))
    first[np.arange(UNITS), words] = 1
    same = words[:, None] == words
    clean = (first, *[same / same.sum(axis=1, keepdims=True)] * (LAYERS - 1))
    return tuple(w + 0.3 * rng.normal(size=w.shape) / np.sqrt(w.shape[1]) for w in clean)


def activations(net: Network, scene: World) -> list[FloatArray]:
    """(N, K) of each layer."""
    noise = np.random.default_rng(1).normal(size=scene.truth.shape)
    found = []
    x = scene.truth + 0.3 * noise
    for weights in net:
        x = np.maximum(x @ weights.T, 0)
        found.append(x.astype(np.float32))
    return found


# --- planted changes -------------------------------------------------------------------------


def noised(net: Network, layer: int, seed: int, dose: float = DOSE) -> Network:
    """One layer's weights get noise, ``dose`` times as long as each unit's own row of weights."""
    weights = net[layer]
    noise = np.random.default_rng([seed, 1]).normal(size=weights.shape)
    noise *= dose * np.linalg.norm(weights, axis=1, keepdims=True) / np.sqrt(weights.shape[1])
    return _with(net, layer, weights + noise)


def pruned(net: Network, layer: int, units: IntArray) -> Network:
    """Some units are always 0."""
    weights = net[layer].copy()
    weights[units] = 0
    return _with(net, layer, weights)


def permuted(net: Network, layer: int, order: IntArray) -> Network:
    """One layer's units in another order; what follows does not notice."""
    found = _with(net, layer, net[layer][order])
    if layer + 1 < LAYERS:
        found = _with(found, layer + 1, net[layer + 1][:, order])
    return found


def _with(net: Network, layer: int, weights: FloatArray) -> Network:
    return (*net[:layer], weights, *net[layer + 1 :])


# --- comparing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """Networks that are compared, from their activations to the result."""

    matrices: Sequence[Sequence[FloatArray]]
    """For each network and layer (N, K)."""
    world: World
    draws: int = DRAWS

    @cached_property
    def labels(self) -> list[list[LayerLabels]]:
        """By one prior for all."""
        length = SoftWPMI().top(len(self.world.images))
        return label_together(
            [[top_lists(*each, length) for each in zip(NAMES, own, strict=True)]
             for own in self.matrices],
            self.world.images, self.world.concepts, null_draws=0,
        )  # fmt: skip

    @cached_property
    def threshold(self) -> Threshold:
        """So that half of the first network's labels are trusted."""
        scores = np.concatenate([layer.score[~layer.dead, 0] for layer in self.labels[0]])
        return Threshold(float(np.median(scores)), "given")

    @cached_property
    def drawn(self) -> list[tuple[LayerDraws, ...]]:
        """On draws of the images."""
        many = len(self.matrices)
        return label_draws([NAMES] * many, self.matrices, self.world.images, self.world.concepts,
                           [self.threshold] * many, draws=self.draws)  # fmt: skip

    @cached_property
    def runs(self) -> list[ComparedRun]:
        """As they enter the comparison."""
        assert set(words_in(self.labels, [self.threshold] * len(self.matrices), self.drawn)) <= set(
            range(len(CONCEPTS))
        )
        return [
            compared_run(f"run{i}", own, self.threshold, SORTING, drawn)
            for i, (own, drawn) in enumerate(zip(self.labels, self.drawn, strict=True))
        ]

    def compare(self) -> Comparison:
        """The first network against each other one."""
        return compare(self.runs, self.matrices, SORTING)


def as_run(name: str, layers: Sequence[LayerDraws], draw: int, floor: slice) -> ComparedRun:
    """One draw in the place of a run, other draws as its noise floor."""
    labels = []
    for layer, found in zip(NAMES, layers, strict=True):
        concept = np.repeat(found.concept[draw][:, None], KEPT_LABELS, axis=1)
        score = np.where(found.trusted[draw], 1.0, 0.0)[:, None].repeat(KEPT_LABELS, axis=1)
        nothing = np.zeros((len(concept), 0))
        labels.append(
            LayerLabels(layer, concept, score, score[:, 0], found.concept[draw] < 0,
                        nothing.astype(np.int64), nothing, np.zeros(0))
        )  # fmt: skip
    rest = [LayerDraws(found.concept[floor], found.trusted[floor]) for found in layers]
    return compared_run(name, labels, Threshold(0.5, "given"), SORTING, rest)


def found(layer: LayerComparison) -> bool:
    """Whether the comparison says that the layer changed."""
    return bool(layer.changed) or keeps_fewer(layer)


def keeps_fewer(layer: LayerComparison) -> bool:
    """Whether matched units keep their labels less often than noise has it."""
    return layer.kept_share < layer.kept_noise


def largest_category(labels: LayerLabels, threshold: Threshold) -> tuple[str, IntArray]:
    """The category most trusted labels of a layer are in, and its units."""
    kinds = np.array(
        [SORTING_TABLE[CONCEPTS[concept]] if trusted else ""
         for concept, trusted in zip(labels.concept[:, 0], threshold.trusts(labels), strict=True)]
    )  # fmt: skip
    most = max(CATEGORIES, key=lambda category: np.count_nonzero(kinds == category))
    return most, np.flatnonzero(kinds == most)


@dataclass(frozen=True)
class Outcome:
    """What came of one seed."""

    layer: int
    category: str
    pruned_units: int
    trusted: Sequence[int]
    noise_found: bool
    noise_before: int
    prune_found: bool
    prune_before: int
    permutation_found: bool
    permutation_changes: int
    self_differences: int


def one_seed(seed: int, scenes: int = SCENES, draws: int = DRAWS) -> Outcome:
    """Plant each change into a layer, by turns, and compare."""
    place = seed % LAYERS
    scene = world(scenes)
    net = network(seed)
    alone = Setting([activations(net, scene)], scene)
    category, units = largest_category(alone.labels[0][place], alone.threshold)
    order = np.random.default_rng(seed).permutation(UNITS)
    # Numbers that do not change need no noise floor, so two draws do.
    copies = (
        (net, 2),
        (noised(net, place, seed), draws),
        (pruned(net, place, units), draws),
        (permuted(net, place, order), 2),
    )
    results = [
        Setting([alone.matrices[0], activations(copy, scene)], scene, many)
        .compare().pairs[0].layers
        for copy, many in copies
    ]  # fmt: skip
    same, noise, prune, permutation = results
    matching = permutation[place].matching
    assert matching is not None
    return Outcome(
        place,
        category,
        len(units),
        [int(alone.threshold.trusts(layer).sum()) for layer in alone.labels[0]],
        found(noise[place]),
        sum(found(layer) for layer in noise[:place]),
        any(share.category == category and share.difference < 0 for share in prune[place].changed),
        sum(found(layer) for layer in prune[:place]),
        bool((order[matching.after] == matching.before)[~np.isnan(matching.correlation)].all()),
        sum(int((layer.both_trusted & ~layer.kept).sum()) for layer in permutation),
        sum(share.before != share.after for layer in same for share in layer.shares),
    )


def alarms(seed: int, repetitions: int, scenes: int = SCENES, draws: int = DRAWS) -> int:
    """How often two draws of one network are said to differ."""
    scene = world(scenes)
    many = draws + 2 * repetitions
    setting = Setting([activations(network(seed), scene)], scene, many)
    (layers,) = setting.drawn
    raised = 0
    for i in range(repetitions):
        runs = [as_run(f"draw{j}", layers, draws + 2 * i + j, slice(draws)) for j in (0, 1)]
        (pair,) = compare(runs, None, SORTING).pairs
        raised += any(layer.changed for layer in pair.layers)
    return raised


def main(seeds: int) -> None:
    """Print a row for each seed, and the sums."""
    print("| seed | layer | trusted by layer | noise: found / before | pruned | found / before | "
          "permutation found, labels changed | itself |")  # fmt: skip
    print("| ---: | --- | --- | --- | --- | --- | --- | ---: |")
    outcomes = []
    for seed in range(seeds):
        one = one_seed(seed)
        outcomes.append(one)
        print(
            f"| {seed} | {NAMES[one.layer]} | {one.trusted} | {one.noise_found} / "
            f"{one.noise_before} | {one.pruned_units} {one.category} | {one.prune_found} / "
            f"{one.prune_before} | {one.permutation_found}, {one.permutation_changes} | "
            f"{one.self_differences} |",
            flush=True,
        )
    good = [
        sum(one.noise_found and not one.noise_before for one in outcomes),
        sum(one.prune_found and not one.prune_before for one in outcomes),
        sum(one.permutation_found and not one.permutation_changes for one in outcomes),
    ]
    for name, count in zip(("noise", "pruning", "permutation"), good, strict=True):
        print(f"{name}: found in its layer and none before, {count} of {seeds}")
    raised = [alarms(seed, 20) for seed in range(3)]
    print(f"false alarms: {sum(raised)} of 60 comparisons of two draws (3 networks)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
