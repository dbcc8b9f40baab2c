"""The facts of a profile that a narrative may use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from profiler.core.wording import are, joined, named, sentence_case
from profiler.llm.facts import Facts, Number
from profiler.profile.counts import LayerProfile, ModelProfile
from profiler.profile.drivers import FEWEST_ASKED, Experiment
from profiler.profile.threshold import Threshold


@dataclass(frozen=True)
class Group:
    """Several layers in a row taken together, such as the early ones."""

    title: str
    """``early layers``, or the layer's name where the group is one layer."""
    layers: tuple[LayerProfile, ...]

    @property
    def total(self) -> LayerProfile:
        """The layers' counts together."""
        return ModelProfile(_categories(self.layers), self.layers).total


_RISE = 0.05
"""Share of the units by which a category has to rise from early to late layers to be told."""

_MOST_MOVED = 2
"""Factors told of those that rise, and of those that fall."""

_CONFIRMED = "the label holds on images it was not chosen on"


def _categories(layers: Sequence[LayerProfile]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(category for layer in layers for category in layer.counts))


@dataclass(frozen=True)
class ProfileFacts(Facts):
    """What a layer profile shows.

    Attributes:
        subject: the network's name.
        profile: the counts.
        labels: by layer its most frequent labels, most frequent first.
        threshold: which labels are trusted; None: all.
        vlm: the name of the model that reads the images.
        caution: a sentence that closes every paragraph.
        concepts: the whole concept set, so that a label not found here is noticed.
        ranges: counts by category of the word that leads a unit's range explanation; None without.
        mean_r: by layer the mean correlation of these explanations with the units.
        range_threshold: which explanations are trusted; None: those that beat decoys.
        experiment: what came of an experiment on drawn scenes; None without.
        followed: for trusted labels (``peak``) and leading words (``range``) how many units follow
            theirs by that experiment, of how many that it can ask.
    """

    task: ClassVar[str] = (
        "The facts are the profile of a neural network for images: each unit (channel) got a "
        "label by its strongest images, labels were sorted into categories, and the units counted "
        "by layer. Where there are range explanations (a few words that predict a unit's "
        "activation on all images), they come first. Where there is an experiment on drawn scenes, "
        "it comes before both: which factor causes a share of the variance that rises, and which "
        "falls, from the first layer to the last, and how many units follow the word that they "
        "have. In two to six sentences say that, what share of the units is explained and how "
        "well, which category leads in the early and the late layers, what share of the units is "
        "interpretable by their strongest images, and which category dominates or peaks where."
    )

    subject: str
    profile: ModelProfile
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    threshold: Threshold | None = None
    vlm: str = ""
    caution: str = ""
    concepts: frozenset[str] = frozenset()
    ranges: ModelProfile | None = None
    mean_r: Mapping[str, float] = field(default_factory=dict)
    range_threshold: Threshold | None = None
    experiment: Experiment | None = None
    followed: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def groups(self, profile: ModelProfile | None = None) -> tuple[Group, ...]:
        """Take the early and the late layers: a third of the network each, at least one layer."""
        layers = tuple(layer for layer in (profile or self.profile).layers if layer.units)
        if len(layers) < 2:
            return tuple(Group(layer.layer, (layer,)) for layer in layers)
        size = max(1, len(layers) // 3)
        early, late = layers[:size], layers[-size:]
        if size == 1:
            return Group(early[0].layer, early), Group(late[0].layer, late)
        return Group("early layers", early), Group("late layers", late)

    def ranked(self, counts: LayerProfile, most: int = 2) -> list[tuple[str, float]]:
        """Rank the categories by their share of the units in per cent; zeros are left out."""
        order = {name: i for i, name in enumerate(self.profile.categories)}
        found = [(name, 100 * counts.share(name)) for name, n in counts.counts.items() if n]
        found.sort(key=lambda pair: (-pair[1], order.get(pair[0], len(order))))
        return found[:most]

    def peak(self, category: str) -> tuple[LayerProfile, float] | None:
        """Find the layer with the largest share of a category, the earliest of equals."""
        layers = [layer for layer in self.profile.layers if layer.counts.get(category)]
        if not layers:
            return None
        best = max(layers, key=lambda layer: layer.share(category))
        return best, 100 * best.share(category)

    def leads(self) -> dict[str, int]:
        """Count for each category the layers in which it has more units than any other."""
        found: dict[str, int] = {}
        for layer in self.profile.layers:
            ranked = self.ranked(layer)
            if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
                found[ranked[0][0]] = found.get(ranked[0][0], 0) + 1
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def numbers(self) -> tuple[Number, ...]:
        """Give the counts and shares of the whole, the groups, the layers and the categories."""
        total = self.profile.total
        found = [
            Number("units of the network", total.units),
            Number("layers", len(self.profile.layers)),
            Number("categories", len(self.profile.categories)),
            Number("interpretable units", total.interpretable),
            Number("interpretable share of units", _percent(total), "%", 1),
        ]
        if self.threshold is not None:
            cut = self.threshold
            what = (
                "z from which on a label counts as confirmed"
                if cut.confirms
                else ("threshold τ on the score of a label")
            )
            found.append(Number(what, cut.value, "", 2 if cut.confirms else 3))
        for group in self.groups():
            about = (group.title,)
            found.append(
                Number(
                    f"interpretable share in {group.title}", _percent(group.total), "%", 1, about
                )
            )
            found += self._shares(group.title, group.total)
        for layer in self.profile.layers:
            about = (layer.layer,)
            found += [
                Number(f"units in {layer.layer}", layer.units, about=about),
                Number(f"interpretable units in {layer.layer}", layer.interpretable, about=about),
                Number(f"interpretable share in {layer.layer}", _percent(layer), "%", 1, about),
                *self._shares(layer.layer, layer),
            ]
        for category in self.profile.categories:
            found.append(_share_of(category, "all layers", total, (category,)))
        for category, count in self.leads().items():
            found.append(Number(f"layers that {category} leads", count, about=(category,)))
        return tuple(dict.fromkeys(found + self._range_numbers() + self._driver_numbers()))

    def _driver_numbers(self) -> list[Number]:
        done = self.experiment
        if done is None:
            return []
        found = [Number("scenes of the experiment", done.images)]
        for layer in dict.fromkeys((done.layers[0].layer, done.layers[-1].layer)):
            shares = next(each for each in done.layers if each.layer == layer).shares()
            found += [
                Number(
                    f"share of the variance in {layer} that {name} causes",
                    100 * max(share.value, 0.0),
                    "%",
                    1,
                    (layer, name),
                )
                for name, share in shares.items()
            ]
        for view, (followed, asked) in self.followed.items():
            words = "trusted labels" if view == "peak" else "leading words"
            found += [
                Number(f"{words} that the experiment can ask for", asked),
                Number(f"of these {words}, those that the unit follows", followed),
            ]
        return found

    def _range_numbers(self) -> list[Number]:
        if self.ranges is None:
            return []
        total = self.ranges.total
        found = [
            Number("explained units", total.interpretable),
            Number("explained share of units", _percent(total), "%", 1),
        ]
        if (r := self._overall_r()) is not None:
            found.append(Number("mean correlation r of the explanations", r, "", 2))
        if self.range_threshold is not None:
            cut = self.range_threshold.value
            found.append(Number("threshold on the r of an explanation", cut, "", 3))
        for layer in self.ranges.layers:
            about = (layer.layer,)
            found.append(
                Number(f"explained share in {layer.layer}", _percent(layer), "%", 1, about)
            )
            if layer.layer in self.mean_r:
                found.append(
                    Number(f"mean r in {layer.layer}", self.mean_r[layer.layer], "", 2, about)
                )
        for group in (*self.groups(self.ranges), Group("all layers", self.ranges.layers)):
            found += [
                Number(
                    f"units of {group.title} whose explanation {category} leads",
                    100 * group.total.share(category),
                    "%",
                    1,
                    (category, group.title),
                )
                for category in self.ranges.categories
            ]
        return found

    def _overall_r(self) -> float | None:
        units = {layer.layer: layer.units - layer.dead for layer in self.ranges.layers} if (
            self.ranges
        ) else {}  # fmt: skip
        known = {name: units[name] for name in self.mean_r if units.get(name)}
        total = sum(known.values())
        return sum(self.mean_r[name] * n for name, n in known.items()) / total if total else None

    def _shares(self, title: str, counts: LayerProfile) -> list[Number]:
        return [
            _share_of(category, title, counts, (category, title))
            for category in self.profile.categories
            if counts.counts.get(category)
        ]

    def names(self) -> dict[str, tuple[str, ...]]:
        """Give the names of the network, its layers, the categories and the frequent labels."""
        layers = tuple(layer.layer for layer in self.profile.layers)
        groups = tuple(g.title for g in self.groups() if g.title not in layers)
        labels = dict.fromkeys(label for of_layer in self.labels.values() for label in of_layer)
        found = {
            "network": (self.subject,),
            "layers": layers,
            "groups of layers": groups,
            "categories": self.profile.categories,
            "frequent labels": tuple(labels),
            "model that reads the images": (self.vlm,) if self.vlm else (),
            "factors of the experiment": self.experiment.factors.names if self.experiment else (),
        }
        return {kind: names for kind, names in found.items() if names}

    def vocabulary(self) -> frozenset[str]:
        """Give the concept set."""
        return self.concepts

    def closing(self) -> str:
        """Give the caution."""
        return self.caution

    def to_json(self) -> dict[str, Any]:
        """Add what the numbers and names alone do not say: the order, the peaks, the labels."""
        peaks = {c: found[0].layer for c in self.profile.categories if (found := self.peak(c))}
        return {
            **super().to_json(),
            "layers in order": [layer.layer for layer in self.profile.layers],
            "early and late layers": {
                g.title: [layer.layer for layer in g.layers] for g in self.groups()
            },
            "layer where a category peaks": peaks,
            "most frequent labels": {layer: list(names) for layer, names in self.labels.items()},
            "interpretable means": _CONFIRMED if self._confirms else "score above the threshold",
            **({"explained means": self._explained_by} if self.ranges is not None else {}),
        }

    def template(self) -> str:
        """Write the paragraph from the counts."""
        sentences = [
            *self._driven(),
            *self._explained(),
            self._how_many(),
            *self._early_and_late(),
            self._where(),
            self.closing(),
        ]
        return " ".join(filter(None, sentences))

    def _driven(self) -> list[str]:
        """What drives the first layer and the last, and how many units follow their words."""
        done = self.experiment
        if done is None:
            return []
        first, last = done.layers[0].layer, done.layers[-1].layer
        opening = f"By an experiment on {done.images:,} drawn scenes, "
        parts: list[str] = []
        for verb, rises in ((" rises", True), (" falls", False)):
            moved = [each for each in done.changes().items() if (each[1][1] > each[1][0]) == rises]
            told = [
                f"by {name}{'' if place else verb} from {100 * start:.1f} % to {100 * end:.1f} %"
                for place, (name, (start, end)) in enumerate(moved[:_MOST_MOVED])
            ]
            if told:
                what = "what is caused" if parts else "the share of the variance that is caused"
                parts.append(f"{what} {joined(told)}")
        if parts:
            said = f"{opening}from {named(first)} to {named(last)} {'; '.join(parts)}."
        else:
            shares = done.layers[-1].shares()
            name = max(shares, key=lambda each: shares[each].value)
            share = 100 * max(shares[name].value, 0.0)
            said = f"{opening}{name} causes most of the variance in {named(last)}: {share:.1f} %."
        words = {"peak": "trusted labels", "range": "leading words"}
        asked = [
            f"{followed:,} of {of:,} {words[view]}"
            for view, (followed, of) in self.followed.items()
            if of >= FEWEST_ASKED
        ]
        if not asked:
            return [said]
        return [said, f"Units follow {joined(asked)} that name what the scenes vary."]

    def _explained(self) -> list[str]:
        """What units follow over their whole range: how many, how well, and what leads where."""
        if self.ranges is None or not self.ranges.total.units:
            return []
        total, r = self.ranges.total, self._overall_r()
        cut = self.range_threshold
        # What decoys decide is what a reader expects; anything else is said.
        terms = [f"r above {cut.value:.3f}, {self._explained_by}"] if cut else []
        if not total.interpretable:
            end = f" ({terms[0]})" if terms else ""
            return [
                f"A few words explain none of the {total.units:,} units of {self.subject}{end}."
            ]
        first = (
            f"A few words explain {_percent(total):.1f} % of the {total.units:,} units of "
            f"{self.subject}"
        )
        if r is not None:
            terms.append(f"mean correlation r with the activation {r:.2f}")
        if terms:
            first += f" ({'; '.join(terms)})"
        return [f"{first}.", *filter(None, [self._leading()])]

    @property
    def _explained_by(self) -> str:
        """Who decided from which r on a unit is explained."""
        if self.range_threshold is None:
            return "by decoys: more than chance reaches"
        return "from people’s ratings" if self.range_threshold.ratings else "as given"

    def _leading(self) -> str:
        """Which category leads the explanations of the early and the late layers."""
        ends = [
            (
                named(group.title) if len(group.layers) == 1 else f"the {group.title}",
                group.total,
                *self.ranked(group.total, 1)[0],
            )
            for group in self.groups(self.ranges)
            if group.total.interpretable
        ]
        if len(ends) < 2 or ends[0][2] != ends[1][2]:
            parts = [
                f"in {where} {name} leads ({share:.1f} % of the units)"
                for where, _, name, share in ends
            ]
            return sentence_case(f"{', '.join(parts)}.") if parts else ""
        (first, early, name, share), (last, late, _, then) = ends
        text = f"{name} leads in {first} ({share:.1f} % of the units) and in {last} ({then:.1f} %)"
        others = [each for each in self.profile.categories if each != name]
        most = max(others, key=lambda each: late.share(each) - early.share(each), default="")
        if most and late.share(most) - early.share(most) >= _RISE:
            before, after = 100 * early.share(most), 100 * late.share(most)
            text += f"; {most} rises most, from {before:.1f} % to {after:.1f} %"
        return sentence_case(f"{text}.")

    def _how_many(self) -> str:
        total = self.profile.total
        if not total.units:
            return f"No units of {self.subject} were profiled."
        cut = ""
        if self.threshold is not None:
            meaning = f"{_CONFIRMED}, " if self._confirms else "score above "
            cut = f" ({meaning}{self.threshold.text()})"
        if self.ranges is not None and total.units > 1:
            share = f"{total.interpretable:,} of them ({_percent(total):.1f} %)"
            counted = share if total.interpretable else "none of them"
            if self._confirms:
                held = "a label that also holds on images it was not chosen on"
                verb = "has" if total.interpretable < 2 else "have"
                return f"By what their strongest images share, {counted} {verb} {held}."
            return f"By what their strongest images share, {counted} are interpretable{cut}."
        if not total.interpretable:
            of = "The only unit" if total.units == 1 else f"None of the {total.units:,} units"
            negated = "is not" if total.units == 1 else "is"
            return f"{of} of {self.subject} {negated} interpretable{cut}."
        if total.interpretable == total.units:
            of = "The only unit" if total.units == 1 else f"All {total.units:,} units"
            return f"{of} of {self.subject} {are(total.units)} interpretable{cut}."
        return (
            f"{total.interpretable:,} of the {total.units:,} units of {self.subject} "
            f"({_percent(total):.1f} %) {are(total.interpretable)} interpretable{cut}."
        )

    @property
    def _confirms(self) -> bool:
        return self.threshold is not None and self.threshold.confirms

    def _early_and_late(self) -> list[str]:
        if not self.profile.total.interpretable or self.ranges is not None:
            return []
        groups = self.groups()
        parts = [self._sees(group) for group in groups]
        if len(parts) == 1:
            return []  # one layer: the whole is the layer, and the next sentence says it
        return [sentence_case(f"{parts[0]}; {parts[1]}.")]

    def _sees(self, group: Group) -> str:
        one = len(group.layers) == 1
        who = named(group.title) if one else f"the {group.title}"
        if not one:
            who += f" ({named(group.layers[0].layer)} to {named(group.layers[-1].layer)})"
        ranked = self.ranked(group.total)
        if not ranked:
            return f"{who} {'has' if one else 'have'} no interpretable units"
        shares = [
            f"{name} ({share:.1f} % of {'its' if one else 'their'} units)"
            if i == 0
            else f"{name} ({share:.1f} %)"
            for i, (name, share) in enumerate(ranked)
        ]
        text = f"{who} {'responds' if one else 'respond'} mostly to {joined(shares)}"
        labels = dict.fromkeys(
            label for layer in group.layers for label in list(self.labels.get(layer.layer, ()))[:2]
        )
        few = [named(label) for label in list(labels)[:3]]
        return f"{text}, with labels such as {joined(few)}" if few else text

    def _where(self) -> str:
        total = self.profile.total
        if not total.interpretable:
            return ""
        if self.ranges is not None and len(self.profile.layers) > 1:
            return self._most_and_fewest()
        (top, share), *_ = self.ranked(total, 1)
        several = len(self.profile.layers) > 1
        text = f"Overall, {top} is the most frequent category ({share:.1f} % of all units)"
        lead = self.leads().get(top, 0)
        if several and lead == len(self.profile.layers):
            text += f" and leads in every one of the {lead} layers"
        elif several and lead:
            text += f" and leads in {lead} of the {len(self.profile.layers)} layers"
        if not several:
            return f"{text}."
        peaks = [self._peaks(name, i == 0) for i, (name, _) in enumerate(self.ranked(total, 3))]
        return f"{text}; {joined([peak for peak in peaks if peak])}."

    def _most_and_fewest(self) -> str:
        """Where peak labels are interpretable most often, what they are, and where least often."""
        layers = [layer for layer in self.profile.layers if layer.units]
        most = max(layers, key=lambda layer: layer.interpretable_share)
        fewest = min(layers, key=lambda layer: layer.interpretable_share)
        (top, share), *_ = self.ranked(most, 1)
        text = (
            f"Most are in {named(most.layer)} ({_percent(most):.1f} % of its units), where {top} "
            f"leads ({share:.1f} %)"
        )
        if labels := [named(label) for label in list(self.labels.get(most.layer, ()))[:3]]:
            text += f", with labels such as {joined(labels)}"
        if fewest.interpretable_share < most.interpretable_share:
            text += f"; fewest in {named(fewest.layer)} ({_percent(fewest):.1f} %)"
        return f"{text}."

    def _peaks(self, category: str, with_verb: bool) -> str:
        found = self.peak(category)
        if not found:
            return ""
        layer, share = found
        verb = "peaks " if with_verb else ""
        return f"{category} {verb}in {named(layer.layer)} ({share:.1f} %)"


def _percent(counts: LayerProfile) -> float:
    return 100 * counts.interpretable_share


def _share_of(category: str, title: str, counts: LayerProfile, about: tuple[str, ...]) -> Number:
    return Number(f"share of {category} in {title}", 100 * counts.share(category), "%", 1, about)
