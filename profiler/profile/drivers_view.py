"""What drives each layer, as a page of its own and as a section of another."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from profiler.core.arrays import IntArray
from profiler.core.statistics import Interval
from profiler.profile.drivers import (
    FEWEST_ASKED,
    Experiment,
    Following,
    LayerDrivers,
    columns_of,
    followed_of,
    half_interval,
)
from profiler.profile.result import ProfileRun
from profiler.profile.variants import Variants
from profiler.report import document
from profiler.report.charts import Segment, StackedBar, Swatch, room_for
from profiler.report.columns import LETTERS, lettered, rounded, significant
from profiler.report.text import (
    MINUS,
    NOTHING,
    THIN,
    count,
    number,
    percent,
    plural,
    share_of,
    typeset,
)

PARTS: tuple[tuple[Swatch, tuple[str, ...]], ...] = (
    (Swatch("color", "c5"), ("color",)),
    (Swatch("background color", "c5", "hatch"), ("background color",)),
    (Swatch("light", "c6"), ("light",)),
    (Swatch("tint", "c6", "hatch"), ("tint",)),
    (Swatch("pattern", "c4"), ("pattern",)),
    (Swatch("material", "c3"), ("material",)),
    (Swatch("shape", "c0"), ("shape",)),
    (Swatch("background", "c2"), ("background",)),
    (Swatch("position, size, turn", "c1"), ("position", "size", "turn")),
)
"""Colours of the factors, from what is plain to see to what has to be made out."""
PAIRS = Swatch("pairs of factors", "c-off")
_MARGIN = 6.0
"""Percent of a panel left of the first layer and right of the last."""
_THIN_ROWS = 24
"""From so many layers on bars are thin."""


class DriversView:
    """Everything that a template prints of an experiment, worked out once.

    Args:
        done: what came of it.
        run: whose page this is; None on a page of the experiment's own.
    """

    def __init__(self, done: Experiment, run: ProfileRun | None = None) -> None:
        self.done, self.run = done, run
        self.by_view = run.followed if run else {}
        self.names = done.factors.names
        self.parts = parts_of(self.names)
        self.followed = _grown(done)
        self.rows = [self._row(layer) for layer in done.layers]
        self.panels = [self._panel(place) for place in range(len(self.names))]
        self.thin = len(self.rows) >= _THIN_ROWS
        self.first, self.last = done.layers[0].layer, done.layers[-1].layer
        self.images = count(done.images)
        self.association = [
            (name, ["–" if i == j else number(value, 2) for j, value in enumerate(row)])
            for i, (name, row) in enumerate(
                zip(self.names, done.factors.association().tolist(), strict=True)
            )
        ]

    @property
    def headline(self) -> str:
        """What the picture shows, as its title."""
        name = self.followed
        what = name[0].upper() + name[1:]
        shares = [layer.shares()[name].value for layer in self.done.layers]
        first, last, most = shares[0], shares[-1], int(np.argmax(shares))
        if self.done.drawn and shares[most] < _WORTH_TELLING:
            return f"{what} causes no more than {shown_share(shares[most])} of any layer’s variance"
        if max(shares) - min(shares) < _WORTH_TELLING:
            return "What drives each layer" if self.done.drawn else "What each layer goes with"
        rises = shares[most] > first
        end, layer = (shares[most], self.done.layers[most].layer) if rises else (last, self.last)
        moved = f"{'rises' if rises else 'falls'} from {shown_share(first)} to {shown_share(end)}"
        return f"{what} {moved} of the variance in {layer}"

    def summary(self) -> Iterator[str]:
        """A few sentences that say the finding."""
        if finding := self.done.finding():
            yield typeset(f"{finding[0].upper()}{finding[1:]} of the units’ variance.")
        for layer in dict.fromkeys((self.first, self.last)):
            found = next(each for each in self.done.layers if each.layer == layer)
            shares = {name: each.value for name, each in found.shares().items()}
            most = sorted(shares, key=lambda name: -shares[name])[:3]
            told = ", ".join(f"{name} {shown_share(shares[name])}" for name in most)
            if self.done.drawn:
                whole = shown_share(found.first_order().value)
                yield f"In {layer} all factors together cause {whole}, most of it by {told}."
            else:
                yield f"In {layer} most of the variance goes with {told}."
        if caution := self.done.caution():
            yield f"{caution[0].upper()}{caution[1:]}."

    @property
    def asked(self) -> str:
        """How many units follow their words, as a title; empty where none can be asked."""
        told = []
        for view, layers in self.by_view.items():
            followed, asked = followed_of(layers)
            if asked >= FEWEST_ASKED:
                told.append(f"{percent(followed, asked)} of the {count(asked)} {_VIEWS[view]}")
        return f"Units follow {' and '.join(told)} that name what the scenes vary" if told else ""

    @property
    def views(self) -> list[str]:
        """What words are asked for, as heads of columns."""
        return [_VIEWS[view] for view in self.by_view]

    @property
    def followed_rows(self) -> list[tuple[str, bool, list[str]]]:
        """Of each layer, then of each category: name, whether it is a layer, followed of asked."""
        if self.run is None:
            return []
        views = list(self.by_view.values())
        rows = [
            (layer.layer, True, [followed_of(layers[place : place + 1]) for layers in views])
            for place, layer in enumerate(self.done.layers)
        ]
        rows += [
            (category, False, [followed_of(layers, category) for layers in views])
            for category in self.run.categories
        ]
        return [
            (name, is_layer, [share_of(*each) if each[1] else NOTHING for each in told])
            for name, is_layer, told in rows
            if any(asked for _, asked in told)
        ]

    def data(self) -> dict[str, Any]:
        """The strongest drivers of each unit, and which of its words it follows, as columns."""
        if self.run is None:
            return {}
        columns = self.done.factors.columns
        names = [name for name, _ in columns]
        here = np.array([[name == each for name in names] for each in self.names])
        layers = []
        for place, layer in enumerate(self.done.layers):
            best = np.argsort(-np.nan_to_num(layer.share), axis=1, kind="stable")[:, :_DRIVERS]
            effect = np.nan_to_num(np.asarray(layer.effect, float))
            level = [
                [int(np.where(here[factor], effect[unit], -np.inf).argmax()) for factor in row]
                for unit, row in enumerate(best.tolist())
            ]
            half = half_interval(layer.share_error, len(layer.without))
            layers.append(
                {
                    "factor": best.ravel().tolist(),
                    "level": np.ravel(level).tolist(),
                    "share": rounded(np.take_along_axis(layer.share, best, axis=1).ravel(), 3),
                    "half": rounded(np.take_along_axis(half, best, axis=1).ravel(), 3),
                    "labels": _codes(self.run, place, self.run.layers[place].concept),
                    "words": _codes(self.run, place, self.run.ranges[place].concept)
                    if self.run.ranges
                    else "",
                    "effects": lettered(layer.effect, -_MOST_EFFECT, _MOST_EFFECT, 2),
                    "errors": lettered(
                        half_interval(layer.effect_error, len(layer.without)), 0, _MOST_HALF
                    ),
                    **self._variants(place),
                }
            )
        return {
            "letters": LETTERS,
            "most": [_MOST_EFFECT, _MOST_HALF],
            "each": _DRIVERS,
            "factors": list(self.names),
            "levels": [level for _, level in columns],
            "of": [self.names.index(name) for name, _ in columns],
            "named": self._named(),
            "layers": layers,
            **self._pictures(),
        }

    def _named(self) -> dict[str, list[int]]:
        """The words of units that name levels, with the columns of these."""
        run = self.run
        if run is None:
            return {}
        concepts = [layer.concept.ravel() for layer in run.layers]
        concepts += [layer.concept.ravel() for layer in run.ranges]
        used = np.unique(np.concatenate(concepts))
        words = (run.concepts[i] for i in used[used >= 0].tolist())
        named = {word: list(columns_of(word, self.done.factors)) for word in words}
        return {word: columns for word, columns in named.items() if columns}

    @property
    def _variety(self) -> Variants | None:
        """The variants of the run, if they are of the same levels as its experiment."""
        variants = self.run.variants if self.run else None
        same = variants and variants.place.shape[1] == len(self.done.factors.columns)
        return variants if same else None

    def _variants(self, place: int) -> dict[str, Any]:
        """What a layer's units make of each variant: a letter each, between their ends."""
        if self._variety is None:
            return {}
        values = self._variety.activations[place]
        low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
        share = (values - low) / np.maximum(high - low, 1e-12)
        return {
            "variants": lettered(share, 0, 1),
            "ends": significant(np.concatenate([low, high], axis=1).ravel()),
        }

    def _pictures(self) -> dict[str, Any]:
        """The variants themselves, and which of them shows which level."""
        if self._variety is None:
            return {}
        found = [base64.b64encode(picture).decode() for picture in self._variety.pictures]
        return {"pictures": found, "place": self._variety.place.tolist()}

    def tile(self) -> tuple[str, str, str]:
        """The figure of the factor that the rows follow, for the head of a page."""
        name = self.followed
        layers = self.done.layers
        first, last = (layer.shares()[name].value for layer in (layers[0], layers[-1]))
        before = f", {shown_share(first)} in {self.first}" if self.rows[1:] else ""
        share = shown_share(last)
        return f"Driven by {name}", share, f"of the variance in {self.last}{before}"

    def _row(self, layer: LayerDrivers) -> dict[str, Any]:
        """A layer: its bar, the share of the factor that grows most, and all numbers."""
        shares = layer.shares()
        wholes = (layer.first_order(), layer.all_two_way(), layer.rest())
        cells = (*shares.values(), *(wholes if self.done.drawn else ()))
        followed = shares[self.followed]
        return {
            "name": layer.layer,
            "bar": drivers_bar(layer),
            "figure": shown_share(followed.value),
            "error": f"±{THIN}{100 * (followed.high - followed.value):.1f}",
            # Of every factor, of all, of pairs and of the rest: value and half interval.
            "cells": [(_points(each.value), _points(each.high - each.value)) for each in cells],
        }

    def _panel(self, place: int) -> dict[str, Any]:
        """One factor's share, layer by layer, in percent of width and height; y runs downwards."""
        name = self.names[place]
        found = [layer.shares()[name] for layer in self.done.layers]
        top = _nice(max(0.02, *(each.high for each in found)))
        places = np.linspace(_MARGIN, 100 - _MARGIN, len(found)) if found[1:] else [50.0]

        def height(share: float) -> float:
            return 100 * (1 - min(max(share, 0.0), top) / top)

        dots = [
            {
                "x": float(x),
                "y": height(each.value),
                "low": height(each.low),
                "high": height(each.high),
                "tip": f"{layer.layer}: {name} {_told(each)}",
            }
            for x, each, layer in zip(places, found, self.done.layers, strict=True)
        ]
        told = ", ".join(
            f"{layer.layer} {shown_share(each.value)}"
            for layer, each in zip(self.done.layers, found, strict=True)
        )
        return {
            "name": name,
            "swatch": next(s for s, names in _known(self.names) if name in names),
            "dots": dots,
            "path": " ".join(
                f"{'L' if i else 'M'}{dot['x']:.2f} {dot['y']:.2f}" for i, dot in enumerate(dots)
            ),
            "top": shown_share(top),
            "alt": f"{name}: {told}",
        }


_WORTH_TELLING = 0.02
_MOST_EFFECT, _MOST_HALF = 5.0, 1.7
"""Standard deviations beyond which an effect, or half its interval, is shown as so many."""
_DRIVERS = 3
"""Factors named of a unit."""
_VIEWS = {"peak": "trusted labels", "range": "leading words"}
_CODES = {Following.FOLLOWED: "y", Following.NOT_FOLLOWED: "n"}


def _codes(run: ProfileRun, place: int, words: IntArray) -> str:
    """Whether the units of a layer follow each of their words: a letter each, unit by unit."""
    columns = [run.following(place, column) for column in words.T]
    return "".join(
        _CODES.get(each, "-") if each else "-"
        for unit in zip(*columns, strict=True)
        for each in unit
    )


def _known(names: Sequence[str]) -> list[tuple[Swatch, tuple[str, ...]]]:
    """The parts of bars of these factors; those that have no colour of their own come last."""
    parts = [(swatch, tuple(n for n in own if n in names)) for swatch, own in PARTS]
    named = {name for _, own in PARTS for name in own}
    others = [(Swatch(name, f"c{i % 7}", "dots"), (name,)) for i, name in enumerate(names)
              if name not in named]  # fmt: skip
    return [(swatch, own) for swatch, own in [*parts, *others] if own]


def parts_of(names: Sequence[str]) -> list[Swatch]:
    """The swatches of bars of these factors, with that of their pairs."""
    return [*(swatch for swatch, _ in _known(names)), PAIRS]


def _grown(done: Experiment) -> str:
    """The factor that a row's figure is about: shape where there is one, or what grows most."""
    if "shape" in done.factors.names:
        return "shape"
    change = done.layers[-1].less(done.layers[0])
    return max(change, key=lambda name: change[name].value)


def stacked_shares(layer: LayerDrivers) -> list[tuple[Swatch, float]]:
    """The mean share of each part of a bar; of pairs no more than there is room for."""
    shares = layer.shares()
    drawn = [
        (swatch, sum(max(shares[name].value, 0.0) for name in names))
        for swatch, names in _known(layer.factors)
    ]
    before = sum(share for _, share in drawn)
    return [*drawn, (PAIRS, min(max(layer.all_two_way().value, 0.0), max(1 - before, 0.0)))]


def drivers_bar(layer: LayerDrivers, name: str = "") -> StackedBar:
    """The bar of a layer, which may go by another name."""
    drawn = stacked_shares(layer)
    whole = max(1.0, sum(share for _, share in drawn))
    segments, before = [], 0.0
    for swatch, share in drawn:
        width = 100 * share / whole
        if width > 0:
            text = shown_share(share)
            tip = f"{swatch.name}: {text} of variance"
            segments.append(Segment(swatch, share, before, width, text, room_for(text, width), tip))
            before += width
    told = "; ".join(f"{each.swatch.name} {each.text}" for each in segments)
    name = name or layer.layer
    return StackedBar(name, tuple(segments), whole, f"{name}: {told or 'nothing'}")


def _nice(top: float) -> float:
    steps = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
    return next((step for step in steps if top <= step), 1.0)


def shown_share(share: float) -> str:
    """Without decimals: the interval is rarely narrower; 0 for what chance may take below it."""
    return f"{max(round(100 * share), 0)}{THIN}%"


def _points(share: float) -> str:
    return number(100 * share, 1) if math.isfinite(share) else ""


def _told(each: Interval) -> str:
    return (
        f"{number(100 * each.value, 1)}{THIN}%, {number(100 * each.low, 1)} to "
        f"{number(100 * each.high, 1)}"
    ).replace("-", MINUS)


def drivers_page(
    done: Experiment, about: Mapping[str, Any], *, command: str = "", date: str = ""
) -> str:
    """The page of an experiment.

    Args:
        done: what came of it.
        about: subject, weights, preprocessing, fingerprint, images_title and
            images_fingerprint.
        command: that was given.
        date: of the page.
    """
    view = DriversView(done)
    silent = done.dead()
    units = sum(layer.units for layer in done.layers)
    examined = [
        ("Network", about["subject"]),
        ("Weights", about["weights"]),
        ("Layers", f"{plural(len(done.layers), 'layer')}, {plural(units, 'unit')}"),
        ("Images", about["images_title"]),
        ("Date", date),
    ]
    provenance = [
        ("Preprocessing", about["preprocessing"]),
        ("Model fingerprint", about["fingerprint"]),
        ("Images’ fingerprint", about["images_fingerprint"]),
        ("Units that do not vary", count(silent) if silent else ""),
        ("Seconds", ", ".join(f"{stage} {spent:.1f}" for stage, spent in done.seconds.items())),
    ]
    page = {
        "title": (
            f"What drives {about['subject']}, layer by layer"
            if done.drawn
            else f"What the units of {about['subject']} go with, layer by layer"
        ),
        "examined": [(term, text) for term, text in examined if text],
        "summary": list(view.summary()),
        "summary_author": "a fixed template",
        "command": command,
        "provenance": [(term, text) for term, text in provenance if text],
        "limits": LIMITS if done.drawn else ASSOCIATIONS,
        "warnings": (),
    }
    last = done.layers[-1].shares()
    most = sorted(last, key=lambda name: -last[name].value)[:4]
    tiles = [
        (
            f"{name}, in {view.last}",
            shown_share(last[name].value),
            f"±{THIN}{100 * (last[name].high - last[name].value):.1f} points",
        )
        for name in most
    ]
    return document.render(
        "profile/drivers.html",
        extra=("profile/drivers",),
        page=page,
        kind="Drivers",
        tiles=tiles,
        doubts=(),
        drivers=view,
    )


LIMITS = (
    "The scenes are drawings, made so that every property varies independently of the others. In "
    "photographs properties go together, and what the network does there may differ.",
    "A share is of the variance that these levels cause: with other colours, shapes or backgrounds "
    "it would be another. Factors with strong contrasts take large shares from the rest.",
    "A factor’s share is what it causes by itself, averaged over everything else. What it does in "
    "combination is in pairs, and in the rest.",
    "One number a unit and image (the pooled activation) decides.",
)
ASSOCIATIONS = (
    "These images were found, not drawn: attributes go together, so a share may belong to another "
    "attribute that comes along, or to what nobody wrote down. It describes; it does not prove.",
    "Shares of attributes that go together overlap, so they do not add up.",
    LIMITS[-1],
)
