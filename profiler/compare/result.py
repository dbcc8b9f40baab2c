"""What a comparison of finished runs found: the data that files, pages and checks are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import BoolArray, FloatArray, IntArray
from profiler.core.statistics import Interval
from profiler.profile.counts import LayerProfile, ModelProfile
from profiler.profile.drivers import LayerDrivers
from profiler.profile.explain import known_mean
from profiler.profile.labels import LayerLabels
from profiler.profile.threshold import Threshold

ALPHA = 0.05
"""Share of false discoveries allowed among the differences called significant."""

INTERPRETABLE = "interpretable"
"""Stands among the categories for all of them together."""

Verdict = Literal["changed", "noise", "none", "unknown"]
"""Of a difference: ``changed`` is significant and beyond the noise floor; ``noise`` lies within the
floor; ``none`` is beyond it, yet no more than so many units vary by chance; ``unknown`` where there
is no noise floor to hold a significant difference against."""


@dataclass(frozen=True)
class LayerDraws:
    """One layer's labels on B bootstrap draws of the probe images: what noise looks like.

    Attributes:
        concept: (B, K) indices into the concept set; -1 where the unit did not vary in the draw.
        trusted: (B, K) whether the label passed the threshold there.
    """

    concept: IntArray
    trusted: BoolArray


@dataclass(frozen=True)
class ComparedLayer:
    """One layer of one run, as it enters the comparison."""

    labels: LayerLabels
    """Scored against the reference that all runs share (see :class:`Comparison`)."""
    trusted: BoolArray
    """(K,) by the threshold of the comparison."""
    categories: tuple[str | None, ...]
    """(K,) of the label; None where it is not trusted or the unit dead."""
    draws: LayerDraws | None = None
    """None where the activations were not kept."""

    @property
    def name(self) -> str:
        """Name in the network."""
        return self.labels.layer


@dataclass(frozen=True)
class ComparedRange:
    """The range explanations of one layer of one run, as they enter the comparison.

    Attributes:
        r: mean correlation of explanation and activation.
        profile: units by the category of the leading word; those not explained, by the cut that
            all runs share, count as uninterpretable.
    """

    r: float
    profile: LayerProfile


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs that are compared."""

    name: str
    """Short and unique among the runs, for column heads: ``epoch-03``."""
    title: str
    """The subject with its weights, in full."""
    step: float | None
    """Of a training run, where it is known."""
    threshold: Threshold
    layers: tuple[ComparedLayer, ...]
    """In network order."""
    profile: ModelProfile
    """Counts under the threshold of the comparison."""
    ranges: Mapping[str, ComparedRange] = field(default_factory=dict)
    """By layer; empty where some run has no range explanations."""
    drivers: Mapping[str, LayerDrivers] = field(default_factory=dict)
    """By layer, on scenes that all runs share; empty where they share none."""

    @property
    def range_total(self) -> LayerProfile | None:
        """Units of all layers by the category of the leading word; None without explanations."""
        if not self.ranges:
            return None
        layers = tuple(each.profile for each in self.ranges.values())
        return ModelProfile(self.profile.categories, layers).total

    def layer(self, name: str) -> ComparedLayer | None:
        """The layer of that name, if there is one."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def counts(self, name: str) -> LayerProfile | None:
        """The units of the layer of that name by category, if there is one."""
        return next((layer for layer in self.profile.layers if layer.layer == name), None)


@dataclass(frozen=True)
class ShareChange:
    """How the share of a layer's units in one category differs between two runs."""

    category: str
    """A category, or :data:`INTERPRETABLE`, ``uninterpretable`` or ``dead``."""
    before: int
    """Units in it."""
    before_units: int
    after: int
    after_units: int
    low: float
    """95 % interval of the difference."""
    high: float
    p_value: float
    """Exact permutation test of no difference; see :mod:`profiler.compare.shares`."""
    q_value: float
    """Benjamini–Hochberg, over all layers, categories and pairs of the comparison."""
    noise: float
    """95th percentile of the absolute difference between two draws of the same run's images, the
    larger of the two runs; NaN where there are no draws."""
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Share after − share before, in [−1, 1]."""
        return self.after / self.after_units - self.before / self.before_units


@dataclass(frozen=True)
class ConceptChange:
    """How many units of a layer carry a word before and after."""

    concept: int
    """Index into the concept set."""
    before: int
    after: int
    beyond_noise: bool | None
    """Whether presence and absence hold in at least 95 % of each run's own draws; None without
    draws."""


@dataclass(frozen=True)
class Moved:
    """A word that trusted labels carry in other layers than before, and in none of the same."""

    concept: int
    before: Mapping[str, int]
    """Units by layer."""
    after: Mapping[str, int]
    beyond_noise: bool | None = None
    """Whether, in at least 95 % of each run's own draws, the word is in some of the run's layers
    and in none of the other run's; None without draws."""


@dataclass(frozen=True)
class Matching:
    """Which unit of one layer corresponds to which of the other.

    Attributes:
        rule: ``index``: same number, same unit; ``hungarian``: by the assignment with the highest
            sum of correlations, as far as it is clearly better than the numbers (see
            :mod:`profiler.compare.matching`).
        before: (U,) units of the one layer, ascending; each at most once.
        after: (U,) their partners.
        correlation: (U,) Pearson correlation of their activations over the probe images; NaN where
            one of the two never varies, and throughout where the activations were not kept.
        by_index: mean correlation of units of the same number; NaN where unknown or the numbers of
            units differ.
    """

    rule: Literal["index", "hungarian"]
    before: IntArray
    after: IntArray
    correlation: FloatArray
    by_index: float

    @property
    def mean(self) -> float:
        """Mean correlation of the partners; NaN where unknown."""
        return known_mean(self.correlation)


@dataclass(frozen=True)
class LayerComparison:
    """A layer that both runs have, before and after."""

    layer: str
    shares: tuple[ShareChange, ...]
    """Categories in their order, then interpretable, uninterpretable, dead."""
    divergence: float
    """Jensen–Shannon divergence in bits, of categories, uninterpretable and dead units; 0 to 1."""
    divergence_noise: float
    """95th percentile between draws of the same run, the larger of the two; NaN without draws."""
    matching: Matching | None
    """None where units cannot be put side by side: their numbers differ and nothing tells which
    belongs to which."""
    kept: BoolArray
    """(U,) of the matched units: trusted before and after, with the same label."""
    both_trusted: BoolArray
    """(U,)."""
    kept_noise: float
    """5th percentile, over pairs of draws of the same run, of the share of units trusted in both
    that keep their label; the smaller of the two runs; NaN without draws."""
    gained: tuple[ConceptChange, ...]
    """Words of trusted labels that the layer did not have before; most units first."""
    lost: tuple[ConceptChange, ...]

    @property
    def kept_share(self) -> float:
        """Of matched units trusted in both, those that keep their label; NaN if there are none."""
        both = int(np.count_nonzero(self.both_trusted))
        return float(np.count_nonzero(self.kept)) / both if both else float("nan")

    @property
    def changed(self) -> tuple[ShareChange, ...]:
        """Differences that are significant and beyond the noise floor."""
        return tuple(share for share in self.shares if share.verdict == "changed")


@dataclass(frozen=True)
class RangeChange:
    """What changed in the range explanations of a layer, after − before.

    Attributes:
        layer: its name.
        r_before, r_after: mean correlation of explanation and activation.
        r: their difference, with its 95 % interval.
        explained_before, explained_after: units explained, by one cut for all runs.
        explained: the difference of their shares, with its 95 % interval.
        words_before, words_after: the most frequent leading words.
        beyond_chance: whether r changed by more than chance explains, at 5 % over all layers and
            pairs of the comparison together (Bonferroni).
        gained, lost: words that lead more units, or fewer, each with the units before and after;
            those that change most.
    """

    layer: str
    r_before: float
    r_after: float
    r: Interval
    explained_before: int
    explained_after: int
    explained: Interval
    words_before: tuple[str, ...]
    words_after: tuple[str, ...]
    beyond_chance: bool
    gained: tuple[tuple[str, int, int], ...] = ()
    lost: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class DriversChange:
    """What changed in what drives a layer, by factor.

    Attributes:
        layer: its name.
        before, after: shares of the variance, means over units, with their 95 % intervals.
        change: after − before, with its 95 % interval on the same scenes.
    """

    layer: str
    before: Mapping[str, Interval]
    after: Mapping[str, Interval]
    change: Mapping[str, Interval]

    @property
    def beyond_chance(self) -> tuple[str, ...]:
        """The factors for which the interval of the change leaves 0 out."""
        found = self.change.items()
        return tuple(name for name, each in found if each.low > 0 or each.high < 0)


@dataclass(frozen=True)
class PairComparison:
    """Two of the runs, before and after."""

    before: int
    """Index of the run."""
    after: int
    layers: tuple[LayerComparison, ...]
    """Layers both have, in the order of the first."""
    only_before: tuple[str, ...]
    """Layers the other does not have."""
    only_after: tuple[str, ...]
    moved: tuple[Moved, ...]
    cka: NDArray[np.float64] | None
    """(layers of before, layers of after), debiased linear CKA; NaN where a layer never varies or
    there are too few images; None where the activations were not kept. Debiased values may fall
    below 0."""
    ranges: tuple[RangeChange, ...] = ()
    """Layer by layer; empty where some run has no range explanations."""
    drivers: tuple[DriversChange, ...] = ()
    """Layer by layer; empty unless all networks were shown the same scenes."""


@dataclass(frozen=True)
class Comparison:
    """Runs held against each other at a common cut.

    The prior that soft-WPMI takes off (methods: D is a sum over units that are scored together)
    has to be the same for all runs, or a label could change because other units did. ``prior``
    says what it is: ``shared``: a layer's units are scored together with those of the layer of
    that name in every other run; ``own``: each run's labels are those of its own report, because
    its image pass is no longer in the cache; ``none``: the similarity has no such term.
    """

    runs: tuple[ComparedRun, ...]
    """In the order given, or by step."""
    pairs: tuple[PairComparison, ...]
    """The first run against each other one; with ``timeline``, each against the one before it, and
    at last the first against the last."""
    categories: tuple[str, ...]
    concepts: tuple[str, ...]
    timeline: bool
    own_thresholds: bool
    prior: Literal["shared", "own", "none"]
    draws: int
    """Bootstrap draws behind the noise floor; 0 where there are none."""
    warnings: tuple[str, ...] = ()
