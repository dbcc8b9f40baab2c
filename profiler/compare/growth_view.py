"""How shares and single words grow from run to run."""

import math
from collections.abc import Mapping, Sequence

from profiler.compare.charts import Panel, area_panel, line_panel, run_places
from profiler.compare.result import Comparison
from profiler.compare.words import carriers
from profiler.profile.counts import LayerProfile
from profiler.report.charts import Swatch
from profiler.report.text import count, number, percent, plural

WORDS_DRAWN = 12
"""Words with a picture of their own: those whose units change most in a layer."""


class GrowthView:
    """Small pictures over the runs, one for each layer or word."""

    def __init__(
        self, comparison: Comparison, short: Mapping[str, str], styles: Mapping[str, Swatch]
    ) -> None:
        self.comparison = comparison
        runs = comparison.runs
        self.short = short
        steps = [run.step for run in runs]
        self.by_step = comparison.timeline and all(step is not None for step in steps)
        self.places = run_places(steps if self.by_step else [None] * len(runs))
        self.first, self.last = (
            (f"step {step_text(runs[0].step or 0)}", f"step {step_text(runs[-1].step or 0)}")
            if self.by_step
            else (runs[0].name, runs[-1].name)
        )
        self.profiles: dict[str, list[LayerProfile | None]] = {
            name: [run.counts(name) for run in runs] for name in short
        }
        shares = [
            layer.interpretable_share
            for found in self.profiles.values()
            for layer in found
            if layer
        ]
        self.top = _nice(shares)
        self.top_text = percent(self.top, 1)
        self.interpretable = [self._line(name, found) for name, found in self.profiles.items()]
        self.categories = [
            area_panel(short[name], self.places, found, styles)
            for name, found in self.profiles.items()
        ]
        self.words = self._words()
        self.explained = all(run.ranges for run in runs)
        if self.explained:
            self._draw_ranges(styles)

    def _draw_ranges(self, styles: Mapping[str, Swatch]) -> None:
        """How well a few words predict the units of each layer, and which lead."""
        runs = self.comparison.runs
        found = {name: [run.ranges.get(name) for run in runs] for name in self.short}
        r = [each.r for layers in found.values() for each in layers if each]
        self.top_r = _nice([value for value in r if math.isfinite(value)])
        self.top_r_text = f"r = {self.top_r:g}"
        self.r = [
            line_panel(
                self.short[name],
                self.places,
                [each.r if each and math.isfinite(each.r) else None for each in layers],
                self.top_r,
                texts=[number(each.r, 2) if each else "absent" for each in layers],
            )
            for name, layers in found.items()
        ]
        profiles = {
            name: [each.profile if each else None for each in layers]
            for name, layers in found.items()
        }
        self.leading = [
            area_panel(self.short[name], self.places, layers, styles)
            for name, layers in profiles.items()
        ]

    @property
    def headline(self) -> str:
        """What the pictures show, as their title."""
        if not self.comparison.timeline:
            return "Across the runs, layer by layer"
        ends = self.comparison.runs[0], self.comparison.runs[-1]
        peak = _grown("Interpretable units", [run.profile.total for run in ends])
        if not self.explained:
            return peak
        ranges = [total for run in ends if (total := run.range_total)]
        return f"{_grown('Units explained by a few words', ranges)}; {peak[:1].lower()}{peak[1:]}"

    def _line(self, name: str, found: Sequence[LayerProfile | None]) -> Panel:
        return line_panel(
            self.short[name],
            self.places,
            [layer.interpretable_share if layer else None for layer in found],
            self.top,
            texts=[percent(la.interpretable, la.units) if la else "absent" for la in found],
        )

    def _words(self) -> list[Panel]:
        """The words that change most, and how many units carry them."""
        found: list[tuple[int, str, int, list[int | None]]] = []
        for name in self.profiles:
            layers = [run.layer(name) for run in self.comparison.runs]
            counts = [None if layer is None else carriers(layer) for layer in layers]
            words = {word for each in counts if each is not None for word in each}
            for word in words:
                units = [None if each is None else each[word] for each in counts]
                known = [value for value in units if value is not None]
                if max(known) > min(known):
                    found.append((max(known) - min(known), name, word, units))
        order = {name: i for i, name in enumerate(self.profiles)}
        found.sort(key=lambda each: (-each[0], order[each[1]], each[2]))
        chosen = found[:WORDS_DRAWN]
        self.most_units = max(
            (value for *_, units in chosen for value in units if value is not None), default=0
        )
        self.most_text = plural(self.most_units, "unit")
        return [
            line_panel(
                f"{self.comparison.concepts[word]}, {self.short[name]}",
                self.places,
                units,
                self.most_units,
                texts=["absent" if value is None else count(value) for value in units],
            )
            for _, name, word, units in chosen
        ]


def _nice(values: Sequence[float]) -> float:
    """A round end of an axis from 0 that holds all values, which are at most 1."""
    top = max(values, default=0.0)
    return next((nice for nice in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8) if top <= nice), 1.0)


def _grown(what: str, totals: Sequence[LayerProfile]) -> str:
    before, after = totals
    shares = [percent(total.interpretable, total.units) for total in totals]
    if before.interpretable_share == after.interpretable_share:
        return f"{what} stay at {shares[0]} from first to last"
    verb = "grow" if after.interpretable_share > before.interpretable_share else "fall"
    return f"{what} {verb} from {shares[0]} to {shares[1]}"


def step_text(step: float) -> str:
    """Write a step of training.

    >>> step_text(120000.0).replace("\N{NARROW NO-BREAK SPACE}", " "), step_text(0.5)
    ('120 000', '0.5')
    """
    return count(int(step)) if float(step).is_integer() else f"{step:g}"
