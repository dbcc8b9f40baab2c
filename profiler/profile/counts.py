"""Counts of units by category, layer by layer; shares are derived and never stored.

A layer profile says of every unit of a layer exactly one thing: the category of its label, or
that the label cannot be trusted (uninterpretable), or that the unit never varies (dead). The
counts are integers, so profiles add up: the sum of the layers is the profile of the model.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
"""Version of the ``profile.json`` layout."""


@dataclass(frozen=True)
class LayerProfile:
    """How many units of one layer fall into each category.

    ``counts`` holds the interpretable units by category; ``uninterpretable`` and ``dead`` the
    others. The three parts are disjoint and cover the layer. ``below`` says of uninterpretable
    units, as far as it is known, in which category the word is that did not reach the criterion.

    >>> a = LayerProfile("layer1", {"color": 3, "object": 1}, uninterpretable=4, dead=0)
    >>> a.units, a.interpretable, a.share("color")
    (8, 4, 0.375)
    """

    layer: str
    counts: Mapping[str, int]
    uninterpretable: int
    dead: int
    below: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min((*self.counts.values(), self.uninterpretable, self.dead), default=0) < 0:
            raise ValueError(f"negative count in the profile of layer {self.layer!r}")

    @property
    def interpretable(self) -> int:
        """Units whose label passed the threshold."""
        return sum(self.counts.values())

    @property
    def units(self) -> int:
        """All units of the layer."""
        return self.interpretable + self.uninterpretable + self.dead

    @property
    def interpretable_share(self) -> float:
        """Interpretable units over all units, dead ones included; 0 for an empty layer."""
        return self.interpretable / self.units if self.units else 0.0

    def share(self, category: str) -> float:
        """Share of all units of the layer that carry a label of ``category``."""
        return self.counts.get(category, 0) / self.units if self.units else 0.0


def _sum(*counts: Mapping[str, int]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


@dataclass(frozen=True)
class ModelProfile:
    """The layer profiles of one model, in network order."""

    categories: tuple[str, ...]
    layers: tuple[LayerProfile, ...]

    @property
    def total(self) -> LayerProfile:
        """All layers together."""
        return LayerProfile(
            "all",
            _sum(dict.fromkeys(self.categories, 0), *(layer.counts for layer in self.layers)),
            sum(layer.uninterpretable for layer in self.layers),
            sum(layer.dead for layer in self.layers),
            _sum(*(layer.below for layer in self.layers)),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``profile.json``."""
        return {
            "format": FORMAT,
            "categories": list(self.categories),
            "layers": [_layer_json(layer) for layer in self.layers],
            "total": _layer_json(self.total),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelProfile":
        """Read back what :meth:`to_json` wrote; raises ``ValueError`` on another format."""
        if data.get("format") != FORMAT:
            raise ValueError(f"profile format {data.get('format')!r}, expected {FORMAT}")
        return cls(
            tuple(data["categories"]),
            tuple(
                LayerProfile(
                    row["layer"],
                    row["counts"],
                    row["uninterpretable"],
                    row["dead"],
                    row.get("below", {}),
                )
                for row in data["layers"]
            ),
        )


def _layer_json(layer: LayerProfile) -> dict[str, Any]:
    return {
        "layer": layer.layer,
        "units": layer.units,
        "counts": dict(layer.counts),
        "uninterpretable": layer.uninterpretable,
        "dead": layer.dead,
        **({"below": dict(layer.below)} if layer.below else {}),
    }


def count_units(
    layer: str,
    unit_categories: Iterable[str | None],
    dead: Sequence[bool],
    categories: Sequence[str],
    below: Iterable[str | None] | None = None,
) -> LayerProfile:
    """Count the units of one layer.

    ``unit_categories`` gives for each unit the category of its label, or ``None`` where the
    label is not trusted; ``dead`` marks the units that never vary, which count as dead whatever
    their category. ``below`` gives the category of labels whether they are trusted or not. Every
    category appears in the counts, with 0 where no unit has it.

    >>> count_units("fc", ["color", None, None], [False, False, True], ["color"], ["color"] * 3)
    LayerProfile(layer='fc', counts={'color': 1}, uninterpretable=1, dead=1, below={'color': 1})
    """
    counts, others = dict.fromkeys(categories, 0), Counter[str]()
    uninterpretable = 0
    words = [None] * len(dead) if below is None else below
    for category, is_dead, word in zip(unit_categories, dead, words, strict=True):
        if is_dead:
            continue
        if category is not None:
            counts[category] += 1
            continue
        uninterpretable += 1
        if word is not None:
            others[word] += 1
    return LayerProfile(layer, counts, uninterpretable, sum(map(bool, dead)), dict(others))
