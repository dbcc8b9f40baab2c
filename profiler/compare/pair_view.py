"""One pair of a comparison, as its section of the page prints it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from profiler.compare.charts import DifferenceAxis, shade
from profiler.compare.result import (
    INTERPRETABLE,
    Comparison,
    ConceptChange,
    LayerComparison,
    Moved,
    PairComparison,
    ShareChange,
    Verdict,
)
from profiler.report.charts import DEAD, UNINTERPRETABLE, Swatch
from profiler.report.text import (
    NOTHING,
    count,
    number,
    percent,
    plural,
    probability,
    share_of,
    signed,
)

WORDS_SHOWN = 30
"""Words listed of a layer in each direction; the rest is counted."""

MOVED_SHOWN = 100
"""Words listed that moved between layers."""

PLAIN_UNITS = 60
"""Units of a layer in the table for readers without JavaScript; those that changed come first."""

NUMBERED_CELLS = 12
"""Up to so many layers on an axis the similarity map prints its numbers."""

VERDICTS: Mapping[Verdict, str] = {
    "changed": "changed",
    "noise": "within noise",
    "none": "not significant",
    "unknown": "significant, no noise floor",
}

STATES = (
    "label kept",
    "uninterpretable in both",
    "became interpretable",
    "no longer interpretable",
    "label changed",
)
"""What can happen to a unit, the least change first; the script knows them by place."""

INTERPRETABLE_SWATCH = Swatch(INTERPRETABLE, "c-all")


class PairView:
    """Everything the template prints of one pair, worked out once."""

    def __init__(
        self,
        comparison: Comparison,
        index: int,
        styles: Mapping[str, Swatch],
        axis: DifferenceAxis,
        most_divergence: float,
    ) -> None:
        self.comparison = comparison
        self.pair: PairComparison = comparison.pairs[index]
        self.id = f"pair-{index + 1}"
        self.index = index
        self.before = comparison.runs[self.pair.before]
        self.after = comparison.runs[self.pair.after]
        self.name = f"{self.before.name} → {self.after.name}"
        self.styles = styles
        self.axis = axis
        self.most_divergence = most_divergence
        self.layers = self.pair.layers
        self.identical = self._identical()
        self.changes = self._changes()
        self.hidden_changes = sum(len(layer.shares) for layer in self.layers) - len(self.changes)
        self.rows = [self._layer_row(layer) for layer in self.layers]
        self.divergence_known = any(not math.isnan(la.divergence_noise) for la in self.layers)
        self.heatmap = self._heatmap()
        self.concepts = [
            row
            for row in map(self._concept_row, self.layers)
            if any(row[side][kind] for side in ("gained", "lost") for kind in ("held", "noise"))
        ]
        self.moved = [self._moved_row(moved) for moved in self.pair.moved[:MOVED_SHOWN]]
        self.moved_unlisted = len(self.pair.moved) - len(self.moved)
        self.matched = [layer for layer in self.layers if layer.matching is not None]
        self.unmatched = [
            f"{layer.layer}: units cannot be put side by side, {self._unit_numbers(layer)}."
            for layer in self.layers
            if layer.matching is None
        ]
        self.partnerless = self._partnerless()
        self.plain = [self._plain_units(layer) for layer in self.matched]
        self.absent = self._absent()

    # -- words -----------------------------------------------------------------------------------

    @property
    def headline(self) -> str:
        """What the pair shows, as its title."""
        if not self.layers:
            return f"{self.name}: no layer in common"
        if self.identical:
            return f"{self.name}: nothing differs"
        beyond = self._with("changed")
        if beyond:
            return f"{self.name}: {self._of_shares(len(beyond))} changed beyond noise"
        unknown = self._with("unknown")
        if unknown:
            return f"{self.name}: {self._of_shares(len(unknown))} differ significantly"
        if not self.comparison.draws:
            return f"{self.name}: no share differs significantly"
        return f"{self.name}: no share changed beyond noise"

    @property
    def finding(self) -> list[str]:
        """The pair in sentences."""
        if not self.layers:
            return [
                "These two runs have no layer of the same name, so no share, word or unit can be "
                "put side by side."
                + ("" if self.heatmap is None else " The similarity map below needs no names.")
            ]
        if self.identical:
            return [
                f"Nothing differs between {self.before.name} and {self.after.name}: every share "
                "is the same, no word came or went, and every interpretable unit has the label it "
                "had."
            ]
        sentences = []
        beyond = self._with("changed")
        if beyond:
            largest = max(beyond, key=lambda found: abs(found[1].difference))
            sentences.append(f"The largest change: {self._change_text(*largest)}.")
            inside = len(self._with("noise"))
            if inside:
                sentences.append(
                    f"{plural(inside, 'difference lies', 'differences lie')} within the noise "
                    "floor, so another draw of the same images could give as much."
                )
        elif self._with("unknown"):
            sentences.append(
                "There is no noise floor: the activations were not kept, so it is unknown "
                "whether other samples of the images would give such differences."
            )
        elif not self.comparison.draws:
            sentences.append(
                "No difference is larger than chance gives among so many units. There is no noise "
                "floor, as the activations were not kept."
            )
        else:
            sentences.append(
                "What differs is within the noise floor, or no more than so many units vary by "
                "chance."
            )
        kept, both = self.kept_units
        if both:
            sentences.append(
                f"Of the units interpretable in both, {share_of(kept, both)} keep their label."
            )
        return sentences

    @property
    def kept_units(self) -> tuple[int, int]:
        """Matched units that keep their label, and those that could."""
        return (
            sum(int(np.count_nonzero(layer.kept)) for layer in self.matched),
            sum(int(np.count_nonzero(layer.both_trusted)) for layer in self.matched),
        )

    def _with(self, verdict: Verdict) -> list[tuple[str, ShareChange]]:
        return [
            (layer.layer, share)
            for layer in self.layers
            for share in layer.shares
            if share.verdict == verdict
        ]

    def _of_shares(self, found: int) -> str:
        return f"{count(found)} of {plural(sum(len(la.shares) for la in self.layers), 'share')}"

    def _change_text(self, layer: str, share: ShareChange) -> str:
        return (
            f"{share.category} in {layer} from {percent(share.before, share.before_units)} to "
            f"{percent(share.after, share.after_units)} ({count(share.before)} of "
            f"{count(share.before_units)} units to {count(share.after)} of "
            f"{count(share.after_units)})"
        )

    def _identical(self) -> bool:
        """Whether nothing at all differs, as far as it was looked at.

        Runs of different layers are not the same, whatever else is; nor are layers whose units
        cannot be put side by side.
        """
        pair = self.pair
        if not pair.layers or pair.only_before or pair.only_after or pair.moved:
            return False
        return all(self._same(layer) for layer in pair.layers)

    def _same(self, layer: LayerComparison) -> bool:
        if layer.matching is None or layer.gained or layer.lost:
            return False
        if any(share.before != share.after for share in layer.shares):
            return False
        if not {0, 1}.issuperset(self.states(layer)):
            return False
        known = layer.matching.correlation[~np.isnan(layer.matching.correlation)]
        return not len(known) or float(known.min()) > 1 - 1e-4

    def _absent(self) -> list[str]:
        found = []
        for run, names in (
            (self.before, self.pair.only_before),
            (self.after, self.pair.only_after),
        ):
            if names:
                listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" * (len(names) > 8))
                found.append(
                    f"Only in {run.name}, so without a counterpart here: "
                    f"{plural(len(names), 'layer')} ({listed})."
                )
        return found

    # -- shares ----------------------------------------------------------------------------------

    def _changes(self) -> list[dict[str, Any]]:
        """Those that changed first, then by size; shares that are 0 in both runs are left out."""
        order: list[Verdict] = ["changed", "unknown", "none", "noise"]
        found = [
            (layer, share)
            for layer in self.layers
            for share in layer.shares
            if (share.before or share.after) and share.before_units and share.after_units
        ]
        found.sort(key=lambda each: (order.index(each[1].verdict), -abs(each[1].difference)))
        return [self._change_row(layer, share) for layer, share in found]

    def _change_row(self, layer: LayerComparison, share: ShareChange) -> dict[str, Any]:
        """A share before and after; the script sorts by size (in points) and q-value."""
        difference = share.difference
        return {
            "layer": layer.layer,
            "swatch": self._swatch(share.category),
            "shares": f"{percent(share.before, share.before_units)} → "
            f"{percent(share.after, share.after_units)}",
            "counts": f"{count(share.before)} of {count(share.before_units)} → "
            f"{count(share.after)} of {count(share.after_units)}",
            "mark": self.axis.mark(difference, share.low, share.high, share.noise),
            "difference": signed(difference),
            "size": 100 * difference,
            "interval": f"{signed(share.low)} to {signed(share.high)}",
            "noise": NOTHING if math.isnan(share.noise) else f"±{number(100 * share.noise, 1)}",
            "q": probability(share.q_value),
            "q_value": share.q_value,
            "verdict": share.verdict,
            "said": VERDICTS[share.verdict] if difference else "no difference",
        }

    def _swatch(self, category: str) -> Swatch:
        greys = {each.name: each for each in (INTERPRETABLE_SWATCH, UNINTERPRETABLE, DEAD)}
        return self.styles.get(category) or greys[category]

    # -- layers ----------------------------------------------------------------------------------

    def _layer_row(self, layer: LayerComparison) -> dict[str, Any]:
        """How far a layer drifted as a whole."""
        drifted, floor = layer.divergence, layer.divergence_noise
        most = self.most_divergence or 1.0
        noise = "noise unknown"
        if not math.isnan(floor):
            noise = f"noise {number(floor, 3)}, {'beyond' if drifted > floor else 'within'} it"
        return {
            "layer": layer.layer,
            "divergence": number(drifted, 3),
            "divergence_noise": noise,
            "divergence_mark": _place(100 * drifted / most, 100 * floor / most),
            **self._kept(layer),
            "matched": self._matched_text(layer),
        }

    def _kept(self, layer: LayerComparison) -> dict[str, Any]:
        """The labels that matched units keep, and how many noise alone would leave."""
        if not layer.matching:
            return {"kept": NOTHING, "kept_counts": "", "kept_noise": "", "kept_mark": None}
        kept = int(np.count_nonzero(layer.kept))
        both = int(np.count_nonzero(layer.both_trusted))
        counts, noise = "no unit is interpretable in both", ""
        if both:
            counts, noise = f"{count(kept)} of {count(both)}", "noise unknown"
        if both and not math.isnan(layer.kept_noise):
            where = "fewer" if layer.kept_share < layer.kept_noise else "within it"
            noise = f"noise {percent(layer.kept_noise, 1)}, {where}"
        return {
            "kept": percent(kept, both),
            "kept_counts": counts,
            "kept_noise": noise,
            "kept_mark": _place(100 * kept / both, 100 * layer.kept_noise) if both else None,
        }

    def _matched_text(self, layer: LayerComparison) -> str:
        matching = layer.matching
        if matching is None:
            return f"cannot be put side by side: {self._unit_numbers(layer)}"
        if math.isnan(matching.mean):
            known = "correlation unknown"
        else:
            known = f"mean correlation {number(matching.mean, 2)}"
            if matching.rule == "hungarian" and not math.isnan(matching.by_index):
                known += f" (by number {number(matching.by_index, 2)})"
        how = "by number" if matching.rule == "index" else "by activation"
        return f"{plural(len(matching.before), 'unit')} {how}; {known}"

    def _unit_numbers(self, layer: LayerComparison) -> str:
        before, after = self.before.layer(layer.layer), self.after.layer(layer.layer)
        if before is None or after is None:
            return "numbers unknown"
        return f"{count(before.labels.units)} and {plural(after.labels.units, 'unit')}"

    def _partnerless(self) -> list[str]:
        found = []
        for layer in self.matched:
            before, after = self.before.layer(layer.layer), self.after.layer(layer.layer)
            if layer.matching is None or before is None or after is None:
                continue
            pairs = len(layer.matching.before)
            for run, units in ((self.before, before.labels), (self.after, after.labels)):
                if units.units > pairs:
                    left = plural(units.units - pairs, "unit")
                    found.append(f"{layer.layer}: {left} of {run.name} without a partner.")
        return found

    # -- similarity of layers --------------------------------------------------------------------

    def _heatmap(self) -> dict[str, Any] | None:
        """Similarity of every layer of the one run to every layer of the other."""
        values = self.pair.cka
        if values is None:
            return None
        rows = [layer.name for layer in self.before.layers]
        columns = [layer.name for layer in self.after.layers]
        cells = values.tolist()
        same = [cells[i][columns.index(name)] for i, name in enumerate(rows) if name in columns]
        same = [value for value in same if not math.isnan(value)]
        said = f"{len(rows)} layers of {self.before.name} by {len(columns)} of {self.after.name}"
        if same:
            said += (
                f"; layers of the same name: mean {number(float(np.mean(same)), 2)}, "
                f"lowest {number(min(same), 2)}"
            )
        if np.isnan(values).any():
            said += f"; {plural(int(np.isnan(values).sum()), 'pair')} without a value, hatched"
        return {
            "columns": columns,
            "rows": [
                (
                    name,
                    [
                        {"text": number(v, 2), "shade": shade(v), "diagonal": name == column}
                        for column, v in zip(columns, row, strict=True)
                    ],
                )
                for name, row in zip(rows, cells, strict=True)
            ],
            "numbered": max(len(rows), len(columns)) <= NUMBERED_CELLS,
            "said": said,
        }

    # -- words -----------------------------------------------------------------------------------

    def _concept_row(self, layer: LayerComparison) -> dict[str, Any]:
        """The words of one layer, with the units that carry them."""
        return {
            "layer": layer.layer,
            "gained": self._word_list(layer.gained),
            "lost": self._word_list(layer.lost),
        }

    def _word_list(self, changes: Sequence[ConceptChange]) -> dict[str, Any]:
        """Words beyond noise, or all where noise is not known; and those within it."""
        # A word gained has no units before, a word lost none after.
        words = [(each, self._word(each.concept), each.before + each.after) for each in changes]
        held = [found for each, *found in words if each.beyond_noise is not False]
        noise = [found for each, *found in words if each.beyond_noise is False]
        return {
            "held": held[:WORDS_SHOWN],
            "unlisted": max(len(held) - WORDS_SHOWN, 0),
            "noise": noise[:WORDS_SHOWN],
            "noise_unlisted": max(len(noise) - WORDS_SHOWN, 0),
        }

    def _moved_row(self, moved: Moved) -> dict[str, str]:
        """A word now found in other layers."""

        def where(units: Mapping[str, int]) -> str:
            return ", ".join(f"{layer} × {count(found)}" for layer, found in units.items())

        return {
            "word": self._word(moved.concept),
            "before": where(moved.before),
            "after": where(moved.after),
        }

    def _word(self, concept: int) -> str:
        return self.comparison.concepts[concept] if concept >= 0 else NOTHING

    # -- units -----------------------------------------------------------------------------------

    def states(self, layer: LayerComparison) -> list[int]:
        """For each matched unit its place in :data:`STATES`."""
        matching = layer.matching
        before, after = self.before.layer(layer.layer), self.after.layer(layer.layer)
        if matching is None or before is None or after is None:
            return []
        first, second = before.trusted[matching.before], after.trusted[matching.after]
        states = np.where(first, np.where(second, 4, 3), np.where(second, 2, 1))
        return [int(state) for state in np.where(layer.kept, 0, states)]

    def _plain_units(self, layer: LayerComparison) -> dict[str, Any]:
        """A layer's matched units for readers without JavaScript."""
        matching = layer.matching
        before, after = self.before.layer(layer.layer), self.after.layer(layer.layer)
        if matching is None or before is None or after is None:
            return {"layer": layer.layer, "rows": [], "unlisted": 0}
        states = self.states(layer)
        order = sorted(
            range(len(states)),
            key=lambda i: (-states[i], float(np.nan_to_num(matching.correlation[i], nan=1.0)), i),
        )
        rows = []
        for i in order[:PLAIN_UNITS]:
            one, other = int(matching.before[i]), int(matching.after[i])
            rows.append(
                (
                    str(one) if one == other else f"{one} → {other}",
                    self._word(int(before.labels.concept[one, 0])),
                    self._word(int(after.labels.concept[other, 0])),
                    STATES[states[i]],
                    number(float(matching.correlation[i]), 2),
                )
            )
        return {"layer": layer.layer, "rows": rows, "unlisted": len(order) - len(rows)}


def _place(at: float, noise: float) -> dict[str, float | None] | None:
    """A place on an axis from 0 to 100, with what noise alone gives; None where it is not known."""
    return None if math.isnan(at) else {"at": at, "noise": None if math.isnan(noise) else noise}
