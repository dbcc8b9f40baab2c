"""Pictures of a profile: bars of categories, histograms of scores."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from profiler.core.arrays import FloatArray
from profiler.core.categories import DEFAULT_CATEGORIES, UNKNOWN
from profiler.profile.counts import LayerProfile
from profiler.report.charts import (
    DEAD,
    UNINTERPRETABLE,
    Segment,
    StackedBar,
    Swatch,
    Tick,
    nice_step,
    query,
    room_for,
)
from profiler.report.text import number, percent, share_of

SLOTS = 7
"""Okabe–Ito's colours without black, which would vanish on a dark page; ``.c0`` … ``.c6``."""


TEXTURES = ("", "hatch", "dots", "bars", "check")
"""Laid over a colour when there are more categories than colours."""


HOME_SLOTS = {name: slot for slot, name in enumerate((*DEFAULT_CATEGORIES, UNKNOWN))}
"""The default categories keep their colour on every page, whatever stands beside them."""


def swatches(categories: Iterable[str]) -> dict[str, Swatch]:
    """Give each category a swatch, in the order given.

    The default categories have colours of their own. Others take the free colours in their order;
    when the colours are used up they come again with a texture.

    >>> {name: swatch.css for name, swatch in swatches(["animal", "object", "tool"]).items()}
    {'animal': 'c1', 'object': 'c0', 'tool': 'c2'}
    """
    names = list(dict.fromkeys(categories))
    taken = {HOME_SLOTS[name] for name in names if name in HOME_SLOTS}
    free = iter([slot for slot in range(SLOTS * (len(names) + 1)) if slot not in taken])
    result = {}
    for name in names:
        slot = HOME_SLOTS[name] if name in HOME_SLOTS else next(free)
        texture = TEXTURES[slot // SLOTS % len(TEXTURES)]
        result[name] = Swatch(name, f"c{slot % SLOTS}", texture, query(category=name))
    return result


def stacked_bar(layer: LayerProfile, styles: Mapping[str, Swatch], *, named: bool) -> StackedBar:
    """Stack the categories in the order of ``styles``, then uninterpretable, then dead.

    Uninterpretable units whose word is known to be of a category stand there in its pale colour.
    ``named`` prints the category beside the share where it fits.
    """
    solid = [(swatch, layer.counts.get(name, 0), False) for name, swatch in styles.items()]
    pale = [
        (replace(swatch, view=UNINTERPRETABLE.view), layer.below.get(name, 0), True)
        for name, swatch in styles.items()
    ]
    rest = layer.uninterpretable - sum(layer.below.values())
    parts = [*solid, *pale, (UNINTERPRETABLE, rest, False), (DEAD, layer.dead, False)]
    units = layer.units
    segments = []
    before = 0
    for swatch, part, is_pale in parts:
        if not part:
            continue
        x, end = 100 * before / units, 100 * (before + part) / units
        before += part
        share = percent(part, units)
        text = "" if is_pale else f"{swatch.name} {share}" if named else share
        name = f"{swatch.name}, below the criterion" if is_pale else swatch.name
        segments.append(
            Segment(
                swatch,
                part,
                x,
                end - x,
                text,
                room_for(text, end - x),
                f"{name}: {share_of(part, units)} units",
                is_pale,
            )
        )
    told = [(s.swatch.name, s.amount) for s in segments if not s.pale]
    if below := sum(layer.below.values()):
        told.append((f"{UNINTERPRETABLE.name}, with a word below the criterion", below))
    alt = f"{layer.layer}: " + (
        "; ".join(f"{name} {percent(many, units)}" for name, many in told) or "no units"
    )
    return StackedBar(layer.layer, tuple(segments), units, alt)


@dataclass(frozen=True)
class Word:
    """A word that some units of a layer go by."""

    text: str
    swatch: Swatch
    units: int

    @property
    def view(self) -> str:
        """Query of the unit table that shows the units that have it as their label."""
        return query(q=f'"{self.text}"')


@dataclass(frozen=True)
class ScoreAxis:
    """Bins shared by every histogram of a page, with τ on an edge."""

    edges: FloatArray
    tau: float
    digits: int
    letter: str = "τ"

    @classmethod
    def around(
        cls,
        scores: Sequence[FloatArray],
        nulls: Sequence[FloatArray],
        tau: float,
        digits: int,
        letter: str = "τ",
        bins: int = 56,
    ) -> "ScoreAxis | None":
        """Limits that hold the middle 99 % of every layer and τ; ``None`` without any score.

        A τ of minus infinity stands for none.
        """
        found = [values[np.isfinite(values)] for values in (*scores, *nulls)]
        found = [values for values in found if values.size]
        if not found:
            return None
        low = min(float(np.quantile(values, 0.005)) for values in found)
        high = max(float(np.quantile(values, 0.995)) for values in found)
        if math.isfinite(tau) and low - (high - low) <= tau <= high + (high - low):
            low, high = min(low, tau), max(high, tau)
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        width = (high - low) / bins
        anchor = tau if math.isfinite(tau) and low <= tau <= high else low
        first = math.floor((low - anchor) / width + 1e-9) - 1
        last = math.ceil((high - anchor) / width - 1e-9) + 1
        return cls(anchor + width * np.arange(first, last + 1), tau, digits, letter)

    def place(self, value: float) -> float:
        """Where a score lies, in percent of the axis."""
        low, high = self.edges[0], self.edges[-1]
        return float(100 * (value - low) / (high - low))

    def ticks(self, most: int = 7) -> tuple[Tick, ...]:
        """Round numbers along the axis."""
        low, high = float(self.edges[0]), float(self.edges[-1])
        step = nice_step((high - low) / most)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        ticks = []
        for i in range(first, last + 1):
            at = self.place(i * step)
            if 3 <= at <= 97:
                ticks.append(Tick(at, number(i * step, digits)))
        return tuple(ticks)

    def counts(self, values: FloatArray) -> tuple[list[int], int]:
        """How many values fall into each bin, those outside counted in the outer bins."""
        values = values[np.isfinite(values)]
        # A bin is open on the left, as "score > τ" is: a unit at τ itself lies below the line.
        index = np.searchsorted(self.edges, values, side="left") - 1
        beyond = int(((index < 0) | (index > len(self.edges) - 2)).sum())
        clipped = np.clip(index, 0, len(self.edges) - 2)
        return np.bincount(clipped, minlength=len(self.edges) - 1).tolist(), beyond


def histogram(axis: ScoreAxis, scores: FloatArray, null: FloatArray, name: str) -> dict[str, Any]:
    """Lay out the best scores of a layer on ``axis``, with the null distribution beside them.

    Lengths are in percent of the plot; y runs downwards as in SVG.
    """
    units, beyond = axis.counts(scores)
    lists, _ = axis.counts(null)
    n_units, n_lists = sum(units), sum(lists)
    top = max(max(units) / max(n_units, 1), max(lists) / max(n_lists, 1))
    step = nice_step(top / 4) if top else 1.0
    ceiling = step * math.ceil(top / step + 0.05) if top else 1.0
    bins = []
    for i, found in enumerate(units):
        if not found:
            continue
        left, right = float(axis.edges[i]), float(axis.edges[i + 1])
        height = 100 * found / n_units / ceiling
        bins.append(
            {
                "x": axis.place(left),
                "width": axis.place(right) - axis.place(left),
                "y": 100 - height,
                "height": height,
                "above": (left + right) / 2 > axis.tau,
                "tip": f"{number(left, axis.digits)} to {number(right, axis.digits)}: "
                f"{share_of(found, n_units)} units",
            }
        )
    above = int((scores[np.isfinite(scores)] > axis.tau).sum())
    cut = axis.tau > -math.inf  # without a τ every bar counts as above
    confirms = axis.letter == "z"
    what = "z of the labels" if confirms else "best scores"
    alt = f"Histogram of the {what} in {name}: "
    alt += (
        f"{above} of {n_units} units above {axis.letter}"
        if cut
        else (f"{n_units} units, no threshold")
    )
    if n_lists and not confirms:
        above_null = int((null[np.isfinite(null)] > axis.tau).sum())
        alt += f"; of {n_lists} random image lists, {above_null} above τ"
    tau = _tau_tick(axis)
    return {
        "bins": bins,
        "null": _outline(axis, [found / n_lists / ceiling for found in lists]) if n_lists else "",
        # Where τ itself is beyond the axis, its label stands at the edge, and no line is drawn.
        "tau": tau,
        "tau_at": tau.at if tau and 0 < tau.at < 100 else None,
        "x_ticks": axis.ticks(),
        "y_ticks": [
            Tick(100 - 100 * i * step / ceiling, _axis_percent(i * step))
            for i in range(1, round(ceiling / step) + 1)
            if i * step < ceiling - 1e-9 or i == 1
        ],
        "beyond": beyond,
        "alt": alt,
        "cut": cut,
        "letter": axis.letter,
    }


def _tau_tick(axis: ScoreAxis) -> Tick | None:
    if not math.isfinite(axis.tau):
        return None
    at = axis.place(axis.tau)
    text = f"{axis.letter} = {number(axis.tau, axis.digits)}"
    if at < 0:
        return Tick(0.0, f"← {text}", "start")
    if at > 100:
        return Tick(100.0, f"{text} →", "end")
    return Tick(at, text, "end" if at > 80 else "start")


def _outline(axis: ScoreAxis, heights: Sequence[float]) -> str:
    """Trace the steps from the first bin that holds something to the last, without a base line.

    As an SVG path in a box of 100 by 100.
    """
    filled = [i for i, height in enumerate(heights) if height > 0]
    path = [f"M{axis.place(float(axis.edges[filled[0]])):.2f} 100"]
    for i in range(filled[0], filled[-1] + 1):
        path.append(f"V{100 - 100 * heights[i]:.2f}H{axis.place(float(axis.edges[i + 1])):.2f}")
    return "".join([*path, "V100"])


def _axis_percent(share: float) -> str:
    digits = max(0, -math.floor(math.log10(100 * share) + 1e-9))
    return percent(share, 1, digits)
