"""Geometry of the pictures that only a comparison has; lengths are percentages of the box."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from profiler.profile.counts import LayerProfile
from profiler.report.charts import DEAD, UNINTERPRETABLE, StackedBar, Swatch, Tick
from profiler.report.text import percent, signed

SHADES = 20
"""Steps of the sequential map of similarities: ``.k0`` … ``.k20``."""


# -- differences of shares -----------------------------------------------------------------------


@dataclass(frozen=True)
class RunBar:
    """One run's bar in the group of a layer."""

    run: str
    bar: StackedBar | None
    """None where the run does not have the layer."""
    share: str = ""
    counts: str = ""


@dataclass(frozen=True)
class Span:
    """A stretch of an axis."""

    x: float
    width: float

    @property
    def end(self) -> float:
        """Where it ends."""
        return self.x + self.width


@dataclass(frozen=True)
class Mark:
    """A difference with its interval, over the band of noise around zero."""

    at: float
    whisker: Span
    band: Span | None


@dataclass(frozen=True)
class DifferenceAxis:
    """From −limit to limit, zero in the middle; one for all differences of a page."""

    limit: float

    @classmethod
    def around(cls, values: Sequence[float]) -> "DifferenceAxis":
        """A round limit that holds all of the values; those that are not numbers do not count.

        >>> DifferenceAxis.around([0.031, -0.07, float("nan")]).limit
        0.1
        """
        top = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        return cls(next((nice for nice in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6) if top <= nice), 1.0))

    def place(self, value: float) -> float:
        """Where a difference lies, in percent of the axis."""
        return 50 + 50 * min(max(value / self.limit, -1.0), 1.0)

    def _span(self, low: float, high: float) -> Span:
        return Span(self.place(low), self.place(high) - self.place(low))

    def mark(self, value: float, low: float, high: float, noise: float) -> Mark:
        """Lay out one difference; a noise that is no number has no band."""
        known = math.isfinite(noise)
        return Mark(
            self.place(value), self._span(low, high), self._span(-noise, noise) if known else None
        )

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Both ends, their halves and zero, in percentage points."""
        digits = 0 if (50 * self.limit).is_integer() else 1
        steps: tuple[tuple[float, Literal["start", "middle", "end"]], ...] = (
            (-1, "start"),
            (-0.5, "middle"),
            (0, "middle"),
            (0.5, "middle"),
            (1, "end"),
        )
        return tuple(
            Tick(50 + 50 * step, signed(step * self.limit, digits if step else 0), anchor)
            for step, anchor in steps
        )


# -- names of layers ---------------------------------------------------------------------------

JOINER = "\N{WORD JOINER}"
"""Keeps a … on the line of the name it belongs to."""

LONG_NAME = 22
"""Characters; where no name is longer, all are printed whole."""


def short_names(names: Sequence[str]) -> tuple[dict[str, str], str, str]:
    """Leave out of long names what all of them begin and end with, at a dot; says what that is.

    >>> names = ["encoder.layers.block_1.mlp.gelu", "encoder.layers.block_2.mlp.gelu"]
    >>> [short.replace(JOINER, "") for short in short_names(names)[0].values()]
    ['…block_1…', '…block_2…']
    >>> short_names(["stem", "head"])
    ({'stem': 'stem', 'head': 'head'}, '', '')
    """
    parts = [name.split(".") for name in names]
    if len(names) < 2 or max(map(len, names)) <= LONG_NAME:
        return {name: name for name in names}, "", ""
    fewest = min(map(len, parts))
    front = 0
    while front < fewest - 1 and len({each[front] for each in parts}) == 1:
        front += 1
    back = 0
    while back < fewest - front - 1 and len({each[-1 - back] for each in parts}) == 1:
        back += 1
    before = "".join(f"{part}." for part in parts[0][:front])
    after = "".join(f".{part}" for part in parts[0][len(parts[0]) - back :])
    left, right = f"…{JOINER}" * bool(before), f"{JOINER}…" * bool(after)
    shown = {name: left + name[len(before) : len(name) - len(after)] + right for name in names}
    return shown, before, after


# -- similarity of layers ------------------------------------------------------------------------


def shade(value: float) -> int | None:
    """The step of the sequential map, 0 to 1; None where there is no value.

    >>> shade(-0.02), shade(0.5), shade(1.0), shade(float("nan"))
    (0, 10, 20, None)
    """
    return None if math.isnan(value) else round(SHADES * min(max(value, 0.0), 1.0))


def scale() -> tuple[Span, ...]:
    """The steps of the map side by side; each reaches a bit under the next, so no seam shows."""
    width = 100 / (SHADES + 1)
    return tuple(Span(i * width, width * 1.05) for i in range(SHADES + 1))


# -- growth over runs ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Area:
    """One category of a layer over the runs, as a closed path in a box of 100 by 100."""

    swatch: Swatch
    path: str


@dataclass(frozen=True)
class Panel:
    """One small picture of a row of them that share their axes."""

    title: str
    change: str
    """From the first run to the last, in words."""
    lines: tuple[str, ...]
    """Paths in a box of 100 by 100; a run without the layer leaves a gap."""
    dots: tuple[tuple[float, float], ...]
    areas: tuple[Area, ...]
    alt: str


def run_places(steps: Sequence[float | None]) -> list[float]:
    """Where the runs stand on the x axis: by step where all are known, or at equal distances.

    >>> run_places([0, 1, 4]), run_places([None, 1, 4])
    ([0.0, 25.0, 100.0], [0.0, 50.0, 100.0])
    """
    known = [step for step in steps if step is not None]
    if len(known) == len(steps) and len(set(known)) == len(known):
        low, high = min(known), max(known)
        if high > low:
            return [100 * (step - low) / (high - low) for step in known]
    last = max(len(steps) - 1, 1)
    return [100 * i / last for i in range(len(steps))]


def line_panel(
    title: str,
    places: Sequence[float],
    values: Sequence[float | None],
    top: float,
    *,
    texts: Sequence[str],
) -> Panel:
    """A line over the runs on an axis from 0 to ``top``; ``texts`` say the values."""
    points = [
        None if value is None else (x, 100 - 100 * value / top if top else 100.0)
        for x, value in zip(places, values, strict=True)
    ]
    stretches = [
        "L".join(f"{x:.2f} {y:.2f}" for x, y in filter(None, together))
        for known, together in groupby(points, bool)
        if known
    ]
    return Panel(
        title,
        _from_to(texts),
        tuple(f"M{path}" for path in stretches if "L" in path),
        tuple(point for point in points if point is not None),
        (),
        f"{title}: {', '.join(texts)}",
    )


def area_panel(
    title: str,
    places: Sequence[float],
    layers: Sequence[LayerProfile | None],
    styles: Mapping[str, Swatch],
) -> Panel:
    """Shares of the categories over the runs, one upon the other, as in the bars."""
    parts = (*styles.values(), UNINTERPRETABLE, DEAD)
    stacks = [
        [(swatch, _part(layer, swatch) / layer.units) for swatch in parts]
        if layer and layer.units
        else None
        for layer in layers
    ]
    texts = [percent(layer.interpretable, layer.units) if layer else "absent" for layer in layers]
    alt = f"{title}, share by category over the runs; interpretable: {', '.join(texts)}"
    return stacked_panel(title, places, stacks, texts, alt)


def stacked_panel(
    title: str,
    places: Sequence[float],
    stacks: Sequence[Sequence[tuple[Swatch, float]] | None],
    texts: Sequence[str],
    alt: str,
) -> Panel:
    """Shares over the runs, one upon the other; a run without any leaves a gap.

    Args:
        title: of the panel.
        places: of the runs.
        stacks: of each run the same parts with their shares.
        texts: say a number of each run.
        alt: the same in words.
    """
    present = [(x, stack) for x, stack in zip(places, stacks, strict=True) if stack]
    xs = [x for x, _ in present]
    below = [0.0] * len(present)
    areas = []
    for part, (swatch, _) in enumerate(present[0][1] if present else ()):
        above = [
            base + 100 * stack[part][1] for base, (_, stack) in zip(below, present, strict=True)
        ]
        if above != below and len(present) > 1:
            upper = "L".join(f"{x:.2f} {100 - y:.2f}" for x, y in zip(xs, above, strict=True))
            lower = "L".join(
                f"{x:.2f} {100 - y:.2f}" for x, y in zip(reversed(xs), reversed(below), strict=True)
            )
            areas.append(Area(swatch, f"M{upper}L{lower}Z"))
        below = above
    return Panel(title, _from_to(texts), (), (), tuple(areas), alt)


def _part(layer: LayerProfile, swatch: Swatch) -> int:
    if swatch is UNINTERPRETABLE:
        return layer.uninterpretable
    return layer.dead if swatch is DEAD else layer.counts.get(swatch.name, 0)


def _from_to(texts: Sequence[str]) -> str:
    return f"{texts[0]} → {texts[-1]}"
