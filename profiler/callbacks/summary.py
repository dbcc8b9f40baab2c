"""A step in a dozen numbers, and all steps in one picture."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from profiler.api.file_results import ProfileComparison
from profiler.api.results import Profile
from profiler.profile.explain import known_mean

T = TypeVar("T")

MOST_SCALARS = 12
"""Numbers of a step that a tracker is sent."""
MOST_ROWS, MOST_COLUMNS = 16, 12
"""Layers and steps in the picture; of more, an even choice with the first and the last."""
_WIDTH, _HEIGHT, _TEXT = 64, 28, 14
_FULL, _INK, _GROUND = "#0072b2", "#1f2430", "#ffffff"


def scalars_of(profile: Profile, comparison: ProfileComparison | None) -> dict[str, float]:
    """At most :data:`MOST_SCALARS` numbers; what is not known is left out.

    ``mean_r``: the mean correlation between units and their explanations, of the network and of
    some of its layers; ``explained``, ``interpretable`` and ``dead``: shares of the units;
    ``layers_changed``: how many layers have another mean r than at the step before, beyond chance;
    ``labels_kept``: of the labels trusted at both steps, the share that stayed.
    """
    run = profile.run
    total = run.profile.total
    found = {
        "interpretable": total.interpretable_share,
        "dead": total.dead / total.units if total.units else math.nan,
    }
    ranges = run.range_profile
    if ranges is not None:
        found["explained"] = ranges.total.interpretable_share
        found["mean_r"] = known_mean(np.concatenate([each.shown_r for each in run.ranges]))
    if comparison is not None:
        found |= _changes(comparison)
    by_layer = layer_values(profile)
    for layer in spread_out(list(by_layer), MOST_SCALARS - len(found)):
        found[f"{layer}/{'mean_r' if run.ranges else 'interpretable'}"] = by_layer[layer]
    return {f"profiler/{name}": value for name, value in found.items() if math.isfinite(value)}


def _changes(comparison: ProfileComparison) -> dict[str, float]:
    """Since the step before: the last pair but the one of first and last, which closes the list."""
    content = comparison.to_json()
    last = content["runs"][-1]["name"]
    pair = next(each for each in content["pairs"] if each["to"] == last)
    both = sum(each["trusted_in_both"] for each in pair["layers"])
    kept = sum(each["labels_kept"] for each in pair["layers"])
    found = {"labels_kept": kept / both if both else math.nan}
    if "ranges" in pair:
        found["layers_changed"] = float(sum(each["beyond_chance"] for each in pair["ranges"]))
    return found


def layer_values(profile: Profile) -> dict[str, float]:
    """The mean r of each layer, or where nothing is explained the share of trusted labels."""
    run = profile.run
    if run.ranges:
        return {each.layer: known_mean(each.shown_r) for each in run.ranges}
    return {each.layer: each.interpretable_share for each in run.profile.layers}


def spread_out(items: Sequence[T], most: int) -> list[T]:
    """So many of the items, evenly spread, with the first and the last.

    >>> spread_out("abcdefg", 3)
    ['a', 'd', 'g']
    """
    count = min(len(items), most)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def picture(steps: Mapping[int, Profile]) -> Image.Image:
    """A table of layers by steps, each cell shaded by its number."""
    chosen = spread_out(sorted(steps), MOST_COLUMNS)
    columns = [layer_values(steps[step]) for step in chosen]
    layers = spread_out(list(columns[-1]), MOST_ROWS)
    explained = bool(steps[chosen[-1]].run.ranges)
    title = "Mean r of units and explanations" if explained else "Share of interpretable units"
    font = ImageFont.load_default(_TEXT)
    margin = max(int(font.getlength(name)) for name in (*layers, "layer \\ step")) + 24
    width = max(margin + _WIDTH * len(chosen), int(font.getlength(title)) + 24)
    image = Image.new("RGB", (width + 12, _HEIGHT * (len(layers) + 2) + 12), _GROUND)
    draw = ImageDraw.Draw(image)

    def write(x: int, row: int, text: str, color: str = _INK, anchor: str = "lm") -> None:
        draw.text((x, row * _HEIGHT + _HEIGHT // 2 + 4), text, color, font, anchor)

    write(12, 0, title)
    write(12, 1, "layer \\ step")
    for place, step in enumerate(chosen):
        write(margin + _WIDTH * place + _WIDTH // 2, 1, f"{step:,}", anchor="mm")
    for row, layer in enumerate(layers, start=2):
        write(12, row, layer)
        for place, values in enumerate(columns):
            value = values.get(layer, math.nan)
            if math.isnan(value):
                continue
            left, top = margin + _WIDTH * place, row * _HEIGHT + 4
            share = min(max(value, 0.0), 1.0)
            draw.rectangle((left, top, left + _WIDTH - 2, top + _HEIGHT - 2), _shade(share))
            ink = _GROUND if share > 0.55 else _INK
            write(left + _WIDTH // 2, row, f"{value:.2f}", ink, "mm")
    return image


def _shade(share: float) -> tuple[int, ...]:
    """From white, for 0, to full blue, for 1."""
    full, ground = ImageColor.getrgb(_FULL), ImageColor.getrgb(_GROUND)
    return tuple(round(g + (f - g) * share) for f, g in zip(full, ground, strict=True))
