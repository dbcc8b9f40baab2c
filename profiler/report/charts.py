"""Geometry of the charts: data first, markup last.

A chart is a small frozen dataclass whose lengths are percentages of the box it is drawn in, so
one drawing serves every width and its text keeps its size. Templates loop over it and print.
Colours are names of CSS classes; the stylesheet says what they look like in light and in dark.
"""

import math
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Swatch:
    """How one part of a whole is drawn: a colour class and, where needed, a texture."""

    name: str
    css: str
    texture: str = ""
    view: str = ""
    """The query that makes the unit table show these units alone."""


UNINTERPRETABLE = Swatch("uninterpretable", "c-off", view="is=uninterpretable")
DEAD = Swatch("dead", "c-dead", "hatch", view="is=dead")


def query(**parameters: str) -> str:
    """Write the part of a fragment that sets the unit table's filters.

    >>> query(category="animal & plant")
    'category=animal%20%26%20plant'
    """
    return urlencode(parameters, quote_via=quote)


# -- shares of a whole -----------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """One part of a stacked bar."""

    swatch: Swatch
    amount: float
    """What it stands for: units, or a share of variance."""
    x: float
    width: float
    text: str
    """Printed on the segment where it fits."""
    room: Literal["none", "wide", "any"]
    """On which screens the text fits."""
    tip: str
    pale: bool = False
    """Drawn in a pale colour: what the units would be called, if their word were trusted."""


@dataclass(frozen=True)
class StackedBar:
    """The parts of a layer, of its units or its variance, one after the other."""

    name: str
    segments: tuple[Segment, ...]
    whole: float
    """Units, or variance."""
    alt: str


def room_for(text: str, width: float) -> Literal["none", "wide", "any"]:
    """On which screens a text fits on a segment of so many percent of its bar."""
    # A character takes about 7 px; a bar is about 600 px wide on a desk and 330 px in a hand.
    pixels = 7 * len(text) + 6
    if not text or width * 6 <= pixels:
        return "none"
    return "any" if width * 3.3 > pixels else "wide"


# -- distributions ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in percent of the plot."""

    at: float
    text: str
    anchor: Literal["start", "middle", "end"] = "middle"


def nice_step(rough: float) -> float:
    """Round up to 1, 2 or 5 × 10ⁿ.

    >>> nice_step(0.03), nice_step(7)
    (0.05, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(rough) + 1e-9)
    for nice in (1.0, 2.0, 5.0):
        if rough <= nice * power * (1 + 1e-9):
            return nice * power
    return 10 * power
