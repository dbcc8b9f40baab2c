"""The part of the profile report on what the whole range of units follows."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from profiler.core.arrays import FloatArray, IntArray
from profiler.profile.charts import Word, stacked_bar
from profiler.profile.counts import LayerProfile, ModelProfile
from profiler.profile.explain import LayerRange, known_mean
from profiler.profile.result import ProfileRun
from profiler.report.charts import Swatch
from profiler.report.columns import Index, rounded, significant
from profiler.report.text import NOTHING, count, number, percent, plural

FREQUENT_WORDS = 8
"""Leading words listed of a layer."""


class RangeView:
    """Everything the template and the script read of range explanations.

    Args:
        run: with range explanations.
        profile: its counts by category of the leading word.
        styles: the swatch of each category.
        ids: of the layers' sections.
    """

    def __init__(
        self,
        run: ProfileRun,
        profile: ModelProfile,
        styles: Mapping[str, Swatch],
        ids: Sequence[str],
    ) -> None:
        self.run, self.styles, self.profile = run, styles, profile
        self.total = profile.total
        self.cut = number(run.explained_cut, 2)
        self.layers = [
            self._layer(found, counted, layer_id)
            for found, counted, layer_id in zip(run.ranges, profile.layers, ids, strict=True)
        ]
        bar = stacked_bar(replace(self.total, layer="All layers"), styles, named=True)
        self.whole = {"bar": bar, "profile": self.total}

    def _layer(self, found: LayerRange, profile: LayerProfile, layer_id: str) -> dict[str, Any]:
        units = Counter(word for word in self.run.leading_words(found) if word)
        category = self.run.sorting.category
        return {
            "id": layer_id,
            "name": profile.layer,
            "profile": profile,
            "bar": stacked_bar(profile, self.styles, named=False),
            "spread": _spread(found),
            "mean": _mean(found.shown_r),
            "ceiling": _mean(found.ceiling),
            "specificity": _percent(found.specificity),
            "monosemanticity": f"{_mean(found.monosemanticity)} "
            f"({_mean(found.decoy_monosemanticity)})",
            "words": [
                Word(word, self.styles[category[word]], many)
                for word, many in units.most_common(FREQUENT_WORDS)
            ],
        }

    @property
    def criterion(self) -> str:
        """What r of an explained unit does, to go on after "r"."""
        threshold = self.run.range_threshold
        if threshold is None:
            return (
                f"reaches {self.cut}: so high that at most 5 % of the units above it are expected "
                "there by chance"
            )
        if threshold.ratings is None:
            return f"lies above {self.cut}, as given with the command"
        return f"lies above {self.cut}, the threshold that people’s ratings set"

    @property
    def headline(self) -> str:
        """What the picture shows, as its title."""
        total = self.total
        if not total.interpretable:
            return "A few words explain no unit"
        text = f"A few words explain {percent(total.interpretable, total.units)} of the units"
        filled = [layer for layer in self.profile.layers if layer.interpretable]
        first, last = _leading(filled[0]), _leading(filled[-1])
        if len(filled) < 2 or not first or not last:
            return text
        if first == last:
            return f"{text}; {first} leads in {filled[0].layer} and in {filled[-1].layer}"
        return f"{text}: {first} leads in {filled[0].layer}, {last} in {filled[-1].layer}"

    @property
    def how_well(self) -> str:
        """What the distribution of r shows, as its title."""
        means = [(known_mean(each.shown_r), each.layer) for each in self.run.ranges]
        known = [(mean, layer) for mean, layer in means if math.isfinite(mean)]
        if len(known) < 2:
            return "How well a few words predict the units"
        (low, lowest), (high, highest) = min(known), max(known)
        return (
            f"Words predict units best in {highest} (mean r {number(high, 2)}), least in {lowest} "
            f"({number(low, 2)})"
        )

    def tiles(self) -> list[tuple[str, str, str]]:
        """Figures for the head of the page."""
        return [
            (
                "Explained units",
                percent(self.total.interpretable, self.total.units),
                f"{count(self.total.interpretable)} of {count(self.total.units)}, by a few words",
            ),
            (
                "Mean correlation r",
                _mean(np.concatenate([layer.shown_r for layer in self.run.ranges])),
                "of explanation and activation, on held-out images",
            ),
        ]

    def data(self, images: Index | None) -> dict[str, Any]:
        """The units' words, weights, correlations and images as columns, for the script.

        Args:
            images: those of the page; None where it shows none.
        """
        words = Index()
        layers = []
        for found in self.run.ranges:
            taken = found.concept >= 0
            layers.append(
                {
                    "n": taken.sum(axis=1).tolist(),
                    "word": words.put(found.concept[taken].tolist()),
                    "weight": rounded(found.weight[taken], 2),
                    "r": rounded(found.shown_r, 3),
                    "ceiling": rounded(found.ceiling, 3),
                    "explained": found.explained(self.run.explained_cut).astype(int).tolist(),
                    "agreement": found.agreement.tolist(),
                    "specificity": rounded(found.specificity, 2),
                    "equals": [
                        words.put([i for i in each if i >= 0]) for each in found.equals.tolist()
                    ],
                    **_spectrum(found, images),
                }
            )
        listed = [self.run.concepts[i] for i in words.order]
        return {"words": listed, "cut": self.cut, "layers": layers}


def _spectrum(found: LayerRange, images: Index | None) -> dict[str, Any]:
    """Images from the whole range of each unit, and how often each part of it occurs."""
    if images is None:
        return {"images": [], "activation": []}
    told: dict[str, Any] = {
        "images": images.put(found.images.ravel().tolist()),
        "activation": significant(found.activations.ravel()),
    }
    if len(found.density):
        told |= {"density": _heights(found.density), "low": significant(found.low)}
    return told


def _heights(density: IntArray) -> list[str]:
    """A digit a part of each unit's range, 0 … 9: the square root of its share of the fullest."""
    most = np.maximum(density.max(axis=1, keepdims=True), 1)
    digits = np.ceil(9 * np.sqrt(density / most)).astype(int)
    return ["".join(map(str, row)) for row in digits.tolist()]


def _leading(profile: LayerProfile) -> str:
    name, units = max(profile.counts.items(), key=lambda item: item[1])
    return name if units else ""


def _spread(layer: LayerRange) -> dict[str, Any] | None:
    """The correlations of a layer's units, as percentages of an axis from 0 to 1.

    ``low`` and ``high`` hold the middle 90 % of the units, ``first`` and ``third`` the middle half;
    ``ceiling`` is the median of their ceilings, and 95 % of the decoys lie below ``chance``.
    """
    r = layer.shown_r[np.isfinite(layer.shown_r)]
    if not r.size:
        return None
    low, first, median, third, high = np.quantile(r, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
    ceiling = float(np.nanmedian(layer.ceiling))
    decoys = layer.decoy_r[:, -1][np.isfinite(layer.decoy_r[:, -1])]
    chance = float(np.quantile(decoys, 0.95)) if decoys.size else 0.0
    alt = (
        f"{layer.layer}: median r {number(median, 2)} of {plural(r.size, 'unit')}, half of them "
        f"between {number(first, 2)} and {number(third, 2)}; ceiling {number(ceiling, 2)}; 95 % of "
        f"decoys below {number(chance, 2)}"
    )
    places = {
        "low": low, "first": first, "median": median, "third": third, "high": high,
        "ceiling": ceiling, "chance": chance,
    }  # fmt: skip
    return {"alt": alt, **{name: 100 * min(max(x, 0.0), 1.0) for name, x in places.items()}}


def _mean(values: FloatArray) -> str:
    return number(known_mean(values), 2)


def _percent(values: FloatArray) -> str:
    mean = known_mean(values)
    return NOTHING if math.isnan(mean) else percent(mean, 1)
