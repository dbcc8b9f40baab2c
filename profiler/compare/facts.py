"""The facts of a comparison of runs, and the paragraph they make."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from profiler.compare.drivers import largest_changes
from profiler.compare.result import (
    INTERPRETABLE,
    ComparedRun,
    Comparison,
    ConceptChange,
    DriversChange,
    LayerComparison,
    PairComparison,
    RangeChange,
    ShareChange,
)
from profiler.compare.words import carriers
from profiler.core.statistics import Interval
from profiler.core.wording import are, counted, joined, named
from profiler.llm.facts import Facts, Number

_MOST_CHANGES = 3
_MOST_WORDS = 3
_TOLD = 0.02
"""Change of a share of the variance that is worth telling."""


@dataclass(frozen=True)
class _Change:
    """A share that differs between two runs, and where."""

    pair: PairComparison
    layer: LayerComparison
    share: ShareChange


@dataclass(frozen=True)
class ComparisonFacts(Facts):
    """What a comparison shows.

    Attributes:
        comparison: of finished runs.
        limit: a sentence on what the model that read the images cannot see; closes every paragraph.
    """

    comparison: Comparison
    limit: str = ""

    task: ClassVar[str] = (
        "Report what changed between these networks (or these steps of one training): how many "
        "units have a label that can be trusted, which categories grew or shrank in which layer, "
        "and whether that is more than noise. Where there is an experiment, begin with the "
        "factors whose share of the variance changed."
    )

    @property
    def ends(self) -> tuple[ComparedRun, ComparedRun]:
        """The first run and the last."""
        return self.comparison.runs[0], self.comparison.runs[-1]

    @cached_property
    def changes(self) -> tuple[_Change, ...]:
        """Differences called changes, the largest first."""
        found = [
            _Change(pair, layer, share)
            for pair in self.comparison.pairs
            for layer in pair.layers
            for share in layer.shares
            if share.verdict in ("changed", "unknown")
        ]
        return tuple(sorted(found, key=lambda each: -abs(each.share.difference)))

    @property
    def told(self) -> tuple[_Change, ...]:
        """Those to be named; ``uninterpretable`` says nothing that ``interpretable`` does not."""
        found = [each for each in self.changes if each.share.category != "uninterpretable"]
        return tuple(found[:_MOST_CHANGES])

    @cached_property
    def tested(self) -> int:
        """Differences that were tested."""
        return sum(len(layer.shares) for pair in self.comparison.pairs for layer in pair.layers)

    @cached_property
    def same(self) -> bool:
        """Whether nothing at all differs between the runs: no count, no label of a unit."""
        layers = [layer for pair in self.comparison.pairs for layer in pair.layers]
        only = [name for p in self.comparison.pairs for name in (*p.only_before, *p.only_after)]
        return (
            bool(layers)
            and not only
            and all(
                layer.divergence == 0
                and not layer.gained
                and not layer.lost
                and layer.matching is not None
                and bool((layer.kept == layer.both_trusted).all())
                for layer in layers
            )
        )

    @cached_property
    def kept(self) -> tuple[int, int]:
        """Of the matched units trusted on both sides, those that keep their label, and all.

        Of two runs: units of several pairs would count more than once.
        """
        pairs = self.comparison.pairs
        layers = pairs[0].layers if len(pairs) == 1 else ()
        return (
            sum(int(layer.kept.sum()) for layer in layers),
            sum(int(layer.both_trusted.sum()) for layer in layers),
        )

    def numbers(self) -> tuple[Number, ...]:
        """Give the counts of the runs, the largest changes and the labels kept."""
        found = [
            Number("runs compared", len(self.comparison.runs)),
            Number("differences of shares that were tested", self.tested),
            Number("differences that are significant and beyond the noise", len(self.changes)),
        ]
        for run in self.comparison.runs:
            total = run.profile.total
            about: tuple[str, ...] = (run.name,)
            found += [
                Number(f"units of {run.name}", total.units, about=about),
                Number(f"interpretable units of {run.name}", total.interpretable, about=about),
                Number(
                    f"interpretable share of {run.name}",
                    100 * total.interpretable_share,
                    "%",
                    1,
                    about,
                ),
            ]
        if not self.comparison.own_thresholds:
            cut = self.ends[0].threshold
            places = 2 if cut.confirms else 3
            found.append(Number(f"common threshold {cut.letter}", cut.value, "", places))
        for change in self.told:
            share, layer = change.share, change.layer.layer
            about = (share.category, layer)
            before, after = _ends(share)
            what = f"share of {share.category} in {layer}"
            found += [
                Number(f"{what} before", before, "%", 1, about),
                Number(f"{what} after", after, "%", 1, about),
            ]
        kept, both = self.kept
        if both:
            found += [
                Number("matched units trusted in both runs", both),
                Number("of these, units that keep their label", kept),
                Number("of these, share that keeps its label", 100 * kept / both, "%", 1),
            ]
        return tuple(dict.fromkeys(found + self._range_numbers() + self._driver_numbers()))

    def names(self) -> dict[str, tuple[str, ...]]:
        """Give the names of runs, layers, categories, and of words that came and went."""
        runs = self.comparison.runs
        layers = dict.fromkeys(layer.name for run in runs for layer in run.layers)
        came, went = self._words()
        found = {
            "runs": tuple(run.name for run in runs),
            "layers": tuple(layers),
            "categories": (*self.comparison.categories, INTERPRETABLE, "uninterpretable", "dead"),
            "factors of the experiment": tuple(dict.fromkeys(name for _, name in self.driven)),
            "new words": came,
            "words that are gone": went,
        }
        return {kind: names for kind, names in found.items() if names}

    def vocabulary(self) -> frozenset[str]:
        """Give the concept set."""
        return frozenset(self.comparison.concepts)

    def closing(self) -> str:
        """Give the limit of the model that reads the images."""
        return self.limit

    def to_json(self) -> dict[str, Any]:
        """Add what the numbers and names alone do not say."""
        return {
            **super().to_json(),
            "order": "steps of one training" if self.comparison.timeline else "as given",
            "largest changes": [
                {
                    "layer": each.layer.layer,
                    "category": each.share.category,
                    "from": self.comparison.runs[each.pair.before].name,
                    "to": self.comparison.runs[each.pair.after].name,
                    "direction": "grew" if each.share.difference > 0 else "shrank",
                }
                for each in self.told
            ],
            "noise known": self.comparison.draws > 0,
        }

    def template(self) -> str:
        """Write the paragraph from the counts."""
        if not any(run.profile.total.interpretable for run in self.comparison.runs):
            sentences = [*self._driven(), *self._ranges(), self._nothing(), self.closing()]
        elif self.same:
            sentences = [self._same(), self.closing()]
        else:
            sentences = [
                *self._driven(),
                *self._ranges(),
                self._how_many(),
                self._what_changed(),
                self._labels_kept(),
                self._came_and_went(),
                self.closing(),
            ]
        return " ".join(filter(None, sentences))

    @property
    def driven(self) -> list[tuple[DriversChange, str]]:
        """What drives the layers of the last run otherwise than of the first, most first."""
        return largest_changes(self.comparison.pairs[-1].drivers, _TOLD)[:_MOST_CHANGES]

    def _driven(self) -> list[str]:
        """What drives the layers, before and after."""
        if not self.comparison.pairs[-1].drivers:
            return []
        names = f"from {named(self.ends[0].name)} to {named(self.ends[-1].name)}"
        if not self.driven:
            return [f"By experiment, what drives the layers hardly changed {names}."]
        told = joined([
            f"{factor} in {named(each.layer)} from {_share(each.before[factor]):.1f} % to "
            f"{_share(each.after[factor]):.1f} %"
            for each, factor in self.driven
        ])  # fmt: skip
        return [f"By experiment, what causes the variance of units changed {names}: {told}."]

    def _driver_numbers(self) -> list[Number]:
        return [
            Number(f"share of the variance in {each.layer} that {factor} causes {when}",
                   _share(side[factor]), "%", 1, (each.layer, factor))
            for each, factor in self.driven
            for when, side in (("before", each.before), ("after", each.after))
        ]  # fmt: skip

    @property
    def range_changes(self) -> tuple[RangeChange, ...]:
        """Of the first and the last run, layer by layer."""
        return self.comparison.pairs[-1].ranges

    def _largest(self) -> RangeChange | None:
        """The largest change of mean r that is beyond chance."""
        changed = [each for each in self.range_changes if each.beyond_chance]
        return max(changed, key=lambda each: abs(each.r.value)) if changed else None

    def _ranges(self) -> list[str]:
        """How well a few words predict units, before and after."""
        changes, largest = self.range_changes, self._largest()
        if not changes:
            return []
        names = f"from {named(self.ends[0].name)} to {named(self.ends[-1].name)}"
        if largest is None:
            return [f"How well a few words predict the units did not change {names}."]
        changed = sum(each.beyond_chance for each in changes)
        many = "the only layer" if len(changes) == 1 else f"{changed} of {len(changes)} layers"
        signs = {each.r.value > 0 for each in changes if each.beyond_chance}
        most = (
            f"most in {named(largest.layer)}: mean r {largest.r_before:.2f}, then "
            f"{largest.r_after:.2f}"
        )
        if len(signs) > 1:
            return [f"How well a few words predict the units changed {names} in {many}, {most}."]
        better = "better" if signs.pop() else "worse"
        one, other = (named(run.name) for run in self.ends)
        return [
            f"A few words predict the units of {other} {better} than those of {one} in {many}, "
            f"{most}."
        ]

    def _range_numbers(self) -> list[Number]:
        changes = self.range_changes
        if not changes:
            return []
        found = [
            Number("layers with range explanations", len(changes)),
            Number("layers whose mean r changed", sum(each.beyond_chance for each in changes)),
        ]
        for each in changes:
            about = (each.layer,)
            found += [
                Number(f"mean r in {each.layer} before", each.r_before, "", 2, about),
                Number(f"mean r in {each.layer} after", each.r_after, "", 2, about),
            ]
        return found

    def _nothing(self) -> str:
        cut = (
            "its run’s own threshold"
            if self.comparison.own_thresholds
            else f"the common threshold {self.ends[0].threshold.text()}"
        )
        nothing = f"No label passes {cut} in any of the {len(self.comparison.runs)} runs, so "
        if self.range_changes:
            return f"{nothing}what the strongest images of a unit share cannot be compared."
        return (
            f"{nothing}what their units respond to, and whether it changed, cannot be decided "
            "from this comparison."
        )

    def _same(self) -> str:
        names = joined([named(run.name) for run in self.comparison.runs])
        total = self.ends[0].profile.total
        return (
            f"Nothing differs between {names}: the same labels and the same categories for all "
            f"{counted(total.units, 'unit')}, of which {total.interpretable:,} "
            f"{are(total.interpretable)} interpretable."
        )

    def _how_many(self) -> str:
        cut = (
            "each at its own threshold"
            if self.comparison.own_thresholds
            else f"at the common threshold {self.ends[0].threshold.text()}"
        )
        runs = self.comparison.runs
        shown = runs if len(runs) <= _MOST_WORDS else self.ends
        parts = [
            f"{run.profile.total.interpretable:,} of the {run.profile.total.units:,} units of "
            f"{named(run.name)} ({100 * run.profile.total.interpretable_share:.1f} %)"
            for run in shown
        ]
        text = f"{joined(parts)} are interpretable, {cut}."
        if len(shown) < len(runs):
            return f"Of {len(runs)} runs, these are the first and the last: {text}"
        return text[:1].upper() + text[1:]

    def _what_changed(self) -> str:
        if not self.tested:
            return "The runs share no layer, so nothing can be compared layer by layer."
        tested = f"the {self.tested:,} differences tested" if self.tested > 1 else "the difference"
        beyond = "more than noise" if self.comparison.draws else "significant"
        if not self.changes:
            return f"None of {tested}, by layer and category, is {beyond}."
        listed = [self._told(each) for each in self.told]
        count = len(self.changes)
        opening = f"Of {tested}, by layer and category, {count:,} {are(count)} {beyond}"
        if count > len(listed):
            return f"{opening}; the largest: {'; '.join(listed)}."
        return f"{opening}: {'; '.join(listed)}."

    def _told(self, change: _Change) -> str:
        before, after = _ends(change.share)
        where = named(change.layer.layer)
        told = f"{change.share.category} in {where} from {before:.1f} % to {after:.1f} %"
        if len(self.comparison.pairs) == 1:
            return told
        runs = self.comparison.runs
        return (
            f"{told} between {named(runs[change.pair.before].name)} and "
            f"{named(runs[change.pair.after].name)}"
        )

    def _labels_kept(self) -> str:
        kept, both = self.kept
        if not both:
            return ""
        return (
            f"Of {counted(both, 'unit')} that can be put side by side and are trusted in both, "
            f"{kept:,} ({100 * kept / both:.1f} %) {'keeps its' if kept == 1 else 'keep their'} "
            "label."
        )

    def _came_and_went(self) -> str:
        came, went = self._words()
        parts = []
        if came:
            parts.append(f"new words are {joined([named(word) for word in came])}")
        if went:
            parts.append(f"gone are {joined([named(word) for word in went])}")
        text = "; ".join(parts)
        return f"{text[:1].upper()}{text[1:]}." if text else ""

    def _words(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words of the last run that the first lacks, and the other way round; most units first.

        Those that come and go between draws of one and the same run are left out.
        """
        first, last = (sum(map(carriers, run.layers), Counter()) for run in self.ends)
        ends = (0, len(self.comparison.runs) - 1)
        pair = next(each for each in self.comparison.pairs if (each.before, each.after) == ends)
        concepts = self.comparison.concepts

        def only(
            one: Mapping[int, int], other: Mapping[int, int], changes: Iterable[ConceptChange]
        ) -> tuple[str, ...]:
            sure = {change.concept for change in changes if change.beyond_noise is not False}
            left = sorted((-one[concept], concept) for concept in (sure & set(one)) - set(other))
            return tuple(concepts[concept] for _, concept in left[:_MOST_WORDS])

        return (
            only(last, first, (word for layer in pair.layers for word in layer.gained)),
            only(first, last, (word for layer in pair.layers for word in layer.lost)),
        )


def _share(share: Interval) -> float:
    """In per cent; chance may take it below 0."""
    return 100 * max(share.value, 0.0)


def _ends(share: ShareChange) -> tuple[float, float]:
    """Both shares in per cent."""
    return 100 * share.before / share.before_units, 100 * share.after / share.after_units
