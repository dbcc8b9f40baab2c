"""The part of the comparison on what drives the layers, before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

from profiler.compare.charts import Panel, RunBar, line_panel, stacked_panel
from profiler.compare.drivers import largest_changes
from profiler.compare.result import ComparedRun, Comparison, DriversChange
from profiler.profile.drivers_view import drivers_bar, parts_of, shown_share, stacked_shares
from profiler.report.charts import Swatch
from profiler.report.text import NOTHING, signed


class DriversComparison:
    """Everything that the template prints of experiments side by side.

    Args:
        comparison: whose runs all have an experiment.
        shown: the runs whose bars are drawn.
        layers: in their order.
        places: of the runs on the axis of the small pictures over all runs; none without these.
    """

    def __init__(
        self,
        comparison: Comparison,
        shown: Sequence[ComparedRun],
        layers: Mapping[str, str],
        places: Sequence[float],
    ) -> None:
        self.comparison = comparison
        self.pair = comparison.pairs[-1]
        self.changes = self.pair.drivers
        first = next(iter(comparison.runs[0].drivers.values()))
        self.factors = first.factors
        self.parts: list[Swatch] = parts_of(self.factors)
        self.followed = "shape" if "shape" in self.factors else self.factors[0]
        self.ends = comparison.runs[self.pair.before].name, comparison.runs[self.pair.after].name
        self.groups = [
            (name, [self._bar(run, name) for run in shown])
            for name in layers
            if any(name in run.drivers for run in shown)
        ]
        self.rows = [(each.layer, self._cells(each)) for each in self.changes]
        self.panels: list[Panel] = []
        self.lines: list[Panel] = []
        if places:
            self.panels = [self._panel(name, short, places) for name, short in layers.items()]
            self._draw_lines(layers, places)

    @property
    def headline(self) -> str:
        """What the bars show, as their title."""
        largest = largest_changes(self.changes)
        if not largest:
            return "What drives the layers did not change"
        change, factor = largest[0]
        before, after = (shown_share(side[factor].value) for side in (change.before, change.after))
        verb = "rises" if change.change[factor].value > 0 else "falls"
        what = factor[0].upper() + factor[1:]
        return f"{what} {verb} from {before} to {after} of the variance in {change.layer}"

    def _bar(self, run: ComparedRun, name: str) -> RunBar:
        layer = run.drivers.get(name)
        if layer is None:
            return RunBar(run.name, None)
        share = layer.shares()[self.followed].value
        return RunBar(run.name, drivers_bar(layer, f"{name}, {run.name}"), shown_share(share))

    def _cells(self, each: DriversChange) -> list[dict[str, Any]]:
        """The change of each share, in percentage points."""
        beyond = each.beyond_chance
        return [
            {
                "text": signed(change.value),
                "interval": f"±{100 * (change.high - change.value):.1f}",
                "beyond": factor in beyond,
            }
            for factor, change in each.change.items()
        ]

    def _draw_lines(self, layers: Mapping[str, str], places: Sequence[float]) -> None:
        """The share of one factor alone, on a scale of its own."""
        runs = self.comparison.runs
        shares = {name: [_share(run, name, self.followed) for run in runs] for name in layers}
        known = [share for each in shares.values() for share in each if share is not None]
        self.top = next((top for top in (0.05, 0.1, 0.2, 0.4, 0.6) if max(known) <= top), 1.0)
        self.lines = [
            line_panel(
                short,
                places,
                shares[name],
                self.top,
                texts=[NOTHING if each is None else shown_share(each) for each in shares[name]],
            )
            for name, short in layers.items()
        ]

    @property
    def top_text(self) -> str:
        """The share at the upper edge of the lines."""
        return shown_share(self.top)

    def _panel(self, name: str, short: str, places: Sequence[float]) -> Panel:
        layers = [run.drivers.get(name) for run in self.comparison.runs]
        texts = [
            shown_share(each.shares()[self.followed].value) if each else NOTHING for each in layers
        ]
        return stacked_panel(
            short,
            places,
            [stacked_shares(each) if each else None for each in layers],
            texts,
            f"{short}, share of the variance by factor over the runs; {self.followed}: "
            f"{', '.join(texts)}",
        )


def _share(run: ComparedRun, layer: str, factor: str) -> float | None:
    found = run.drivers.get(layer)
    return None if found is None else max(found.shares()[factor].value, 0.0)
