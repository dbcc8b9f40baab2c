"""The part of the profile report that says how well the labels hold; only where it was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.core.arrays import FloatArray
from profiler.profile.charts import ScoreAxis
from profiler.profile.evaluation import other_labels
from profiler.profile.quality import QualitySummary, Spread, summarise
from profiler.profile.result import ProfileRun
from profiler.report.columns import Index
from profiler.report.text import NOTHING, count, number, percent, plural

FEW = 5
"""Of fewer units no median is worth a sentence on its layer."""
NAMED_LAYERS = 4
"""Layers a sentence names; more are counted."""


@dataclass(frozen=True)
class _Figures:
    """A median and the middle half of the values around it."""

    median: str
    middle: str

    @classmethod
    def of(cls, spread: Spread) -> "_Figures":
        if spread.median is None or spread.low is None or spread.high is None:
            return cls(NOTHING, "")
        middle = (
            f"({number(spread.low, 2)} to {number(spread.high, 2)})" if spread.count > 1 else ""
        )
        return cls(number(spread.median, 2), middle)


class QualityView:
    """Everything the template prints of it, worked out once."""

    def __init__(self, run: ProfileRun, ids: Sequence[str]) -> None:
        self.run, self.ids = run, ids
        self.trusted = [run.trusted(layer) for layer in run.layers]
        every = [np.ones_like(mask) for mask in self.trusted]
        masks = {"interpretable": self.trusted, "all": every}
        # With nothing above τ there is nothing to say of interpretable units.
        self.some_trusted = any(mask.any() for mask in self.trusted)
        if not self.some_trusted:
            del masks["interpretable"]
        self.main = next(iter(masks))
        self.summaries = {
            name: [
                summarise([layer], [mask]) for layer, mask in zip(run.quality, chosen, strict=True)
            ]
            for name, chosen in masks.items()
        }
        self.totals = {name: summarise(run.quality, m) for name, m in masks.items()}
        titles = {"interpretable": "Interpretable units", "all": "All units with a label"}
        # One axis for all tables: they are compared.
        self.axis = _axis([each for found in self.summaries.values() for each in found])
        self.groups = [self._group(name, titles[name]) for name in masks]
        self.finding = self._finding()

    # -- words ---------------------------------------------------------------------------------

    def _finding(self) -> list[str]:
        total = self.totals[self.main]
        whose = "interpretable units" if self.some_trusted else "the units"
        sentences = [] if self.some_trusted else ["No unit is interpretable; this is about all."]
        own, permuted = total.correlation.median, total.permuted_correlation.median
        if own is None:
            sentences.append(
                "On the held-out images no correlation of label and activation is defined, so "
                "it is unknown whether labels predict activation."
            )
        else:
            against = (
                "there are no other labels to compare it with."
                if permuted is None
                else "a permuted label, of another unit of the layer, reaches "
                f"{number(permuted, 2)}."
            )
            sentences.append(
                f"On {count(self._held_out)} held-out images, labels chosen on the others predict "
                f"the activation of {whose} with a correlation of {number(own, 2)} in the median; "
                f"{against}"
            )
            sentences += self._unspecific(total)
        if total.survival is not None:
            sentences.append(
                f"When the images are resampled, a label comes back in "
                f"{percent(total.kept, total.drawn)} of the draws; "
                f"{count(total.stable)} of {count(total.labelled)} labels come back in at least "
                "half of them."
            )
        return sentences

    def _unspecific(self, total: QualitySummary) -> list[str]:
        rule = "at least one in four permuted labels predicts as well as the typical own label."
        if unspecific(total):
            return [f"So the labels are not specific to their units: {rule}"]
        layers = [
            layer.layer
            for layer, summary in zip(self.run.quality, self.summaries[self.main], strict=True)
            if unspecific(summary)
        ]
        if not layers:
            return []
        where = f"{len(layers)} layers" if len(layers) > NAMED_LAYERS else _listed(layers)
        return [f"In {where} the labels are not specific to their units: {rule}"]

    def tiles(self) -> list[tuple[str, str, str]]:
        """The two numbers for the first screen."""
        total = self.totals[self.main]
        among = "interpretable units" if self.some_trusted else "all labels"
        permuted = _Figures.of(total.permuted_correlation).median
        return [
            (
                "Held-out correlation",
                _Figures.of(total.correlation).median,
                f"median of {among}; {permuted} with permuted labels",
            ),
            (
                "Label survival",
                percent(total.kept, total.drawn),
                f"of {among}, over {plural(self._draws, 'draw')}",
            ),
        ]

    @property
    def _held_out(self) -> int:
        return self.run.quality[0].held_out.images

    @property
    def _draws(self) -> int:
        return self.run.quality[0].stability.draws

    # -- tables --------------------------------------------------------------------------------

    def _group(self, name: str, title: str) -> dict[str, Any]:
        """One table: the layers, then all of them together."""
        axis = self.axis
        return {
            "title": title,
            "rows": [
                _row(layer.layer, link, summary, axis)
                for layer, link, summary in zip(
                    self.run.quality, self.ids, self.summaries[name], strict=True
                )
            ],
            "total": _row("All layers", "", self.totals[name], axis),
            "ticks": axis.ticks(4) if axis else (),
        }

    # -- single units --------------------------------------------------------------------------

    def survival(self, layer: int, unit: int) -> str:
        """In how many draws a unit kept its label."""
        stability = self.run.quality[layer].stability
        if not stability.labelled[unit]:
            return NOTHING
        return f"{stability.kept[unit]} of {stability.draws}"

    @property
    def data(self) -> dict[str, Any]:
        """The units as columns, for the script; a word or a level of chance is written once."""
        words = Index()
        levels: dict[str, int] = {}
        layers = []
        for layer in self.run.quality:
            held, stability = layer.held_out, layer.stability
            columns: dict[str, Any] = {
                "kept": np.where(stability.labelled, stability.kept, -1).tolist(),
                "held": words.put(held.label.tolist()),
                "correlation": _hundredths(held.correlation),
                "auprc": _hundredths(held.auprc),
                "chance": [
                    levels.setdefault(number(value, 2), len(levels))
                    for value in held.chance.tolist()
                ],
                "others": [
                    [
                        part
                        for other, draws in other_labels(layer, unit)
                        for part in (*words.put([other]), draws)
                    ]
                    for unit in range(layer.units)
                ],
            }
            if stability.lost[stability.labelled].any():
                columns["lost"] = stability.lost.tolist()
            layers.append(columns)
        return {
            "draws": self._draws,
            "images": self._held_out,
            "words": [self.run.concepts[concept] for concept in words.order],
            "chances": list(levels),
            "layers": layers,
        }


def unspecific(summary: QualitySummary) -> bool:
    """Whether a quarter of the permuted labels predict as well as the typical own one, or more.

    Of very few units neither is said.
    """
    own, permuted = summary.correlation, summary.permuted_correlation
    if own.median is None or permuted.high is None or own.count < FEW:
        return False
    return own.median <= permuted.high


def _row(name: str, link: str, summary: QualitySummary, axis: ScoreAxis | None) -> dict[str, Any]:
    """A row of the table; it links to the layer's section, if it is about one."""
    correlation = _Figures.of(summary.correlation)
    permuted = _Figures.of(summary.permuted_correlation)
    return {
        "name": name,
        "link": link,
        "remark": "not specific" if unspecific(summary) else "",
        "units": count(summary.correlation.count),
        "correlation": correlation,
        "permuted": permuted,
        "own_mark": _whisker(summary.correlation, axis),
        "permuted_mark": _whisker(summary.permuted_correlation, axis),
        # Where a correlation of 0 lies on the axis, if it is on it.
        "zero": axis.place(0) if axis and axis.edges[0] <= 0 <= axis.edges[-1] else None,
        "alt": f"{name}: own labels {correlation.median}, permuted labels {permuted.median}",
        "auprc": _Figures.of(summary.auprc),
        "permuted_auprc": _Figures.of(summary.permuted_auprc),
        "chance": _Figures.of(summary.chance).median,
        "survival": percent(summary.kept, summary.drawn),
        "stable": f"{count(summary.stable)} of {count(summary.labelled)}"
        if summary.labelled
        else NOTHING,
    }


def _hundredths(values: FloatArray) -> list[float | None]:
    """What the page shows; undefined is null."""
    return [None if math.isnan(value) else round(value, 2) for value in values.tolist()]


def _axis(summaries: Sequence[QualitySummary]) -> ScoreAxis | None:
    """An axis from 0, or from where the quartiles begin, to where they end."""
    ends = [
        end
        for summary in summaries
        for spread in (summary.correlation, summary.permuted_correlation)
        for end in (spread.low, spread.high)
        if end is not None
    ]
    if not ends:
        return None
    low, high = min(0.0, *ends), max(0.0, *ends)
    margin = 0.03 * (high - low) or 0.1
    return ScoreAxis(np.array([low - margin, high + margin]), -math.inf, 2)


def _whisker(spread: Spread, axis: ScoreAxis | None) -> dict[str, float] | None:
    """The median and the middle half as places on an axis, in percent of it."""
    if axis is None or spread.low is None or spread.median is None or spread.high is None:
        return None
    low, high = axis.place(spread.low), axis.place(spread.high)
    return {"low": low, "median": axis.place(spread.median), "width": high - low}


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
