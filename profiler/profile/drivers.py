"""What drives a unit: the share of its variance that goes with each factor of an experiment.

Where factors are drawn independently of each other (:mod:`profiler.data.synthetic.design`), the
share of a unit's variance between the levels of a factor is caused by it, and the shares of all
factors add up. No word and no VLM comes between. Of factors that go together, as attributes of
photographs do, the same formulas describe; they do not prove a cause.

- **Share** of a factor with G levels, n_g images of mean activation ā_g at level g: ω² (Hays 1963),
  which chance alone leaves at 0 on average::

      SS_between = Σ_g n_g (ā_g − ā)²        MS_within = (SS_total − SS_between) / (n − G)
      ω² = (SS_between − (G − 1) MS_within) / (SS_total + MS_within)

  It may come out below 0, and is never cut there before it is averaged over units.
- **Two-way share** of two factors: ω² of all pairs of their levels, less the ω² of both.
- **Rest**: what is left of 1. Interplay of three factors and more, and what varies within levels.
- **Effect** of a level: the mean of images at the level less the mean of all others, in standard
  deviations of the unit.
- **Intervals** by the jackknife over :data:`GROUPS` groups of images, assigned at random and always
  the same: everything anew without each group in turn, and Student's t. Where a share is 0 they are
  about 1.4 times as wide as need be: a share is quadratic in the means.

Counts and sums by level are all it takes, of each group its own (:class:`LevelSums`).
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import stdtrit

from profiler.activations.moments import order_of
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray, Rows, blocks
from profiler.core.json_text import json_text
from profiler.core.statistics import Interval
from profiler.core.store import write_atomically
from profiler.data.factors import Factors
from profiler.data.synthetic.design import FACTORS, name_of
from profiler.errors import InputError

GROUPS = 20
FEWEST_IMAGES = 200
"""Below which pairs of levels are seen once or never."""
LEVEL = 0.95
"""Of all intervals."""
_UNITS = 128
"""Units that are worked on at a time: 60 MB of sums by group, pair and level."""
_TINY = 1e-12
"""Of a unit's squared activation: a variance below it is rounding."""


@dataclass(frozen=True, eq=False)
class LevelSums:
    """Counts and sums of some images, for K units.

    The L columns are the levels of all factors, the C cells the pairs of levels of every two.

    Attributes:
        count: (L,) images at each level.
        total: (L, K) their activations, summed.
        square: (K,) squared activations of all images, summed.
        cell_count: (C,) images at each pair of levels.
        cell_total: (C, K) their activations, summed.
    """

    count: Float64
    total: Float64
    square: Float64
    cell_count: Float64
    cell_total: Float64

    @classmethod
    def of(cls, factors: Factors, activations: FloatArray) -> "LevelSums":
        """Of n images: their factors, and their activations (n, K)."""
        a = np.asarray(activations, np.float64)
        levels = np.array(factors.starts) + factors.codes
        sizes = [len(each) for each in factors.levels]
        cells = [factors.codes[:, i] * sizes[j] + factors.codes[:, j] for i, j in factors.pairs]
        ends = np.cumsum([0] + [sizes[i] * sizes[j] for i, j in factors.pairs])
        places = np.stack(cells, axis=1) + ends[:-1] if cells else np.empty((len(a), 0), int)
        by_level, by_cell = _indicator(levels, sum(sizes)), _indicator(places, int(ends[-1]))
        ones = np.ones(len(a))
        square = np.einsum("nk,nk->k", a, a)
        return cls(by_level @ ones, by_level @ a, square, by_cell @ ones, by_cell @ a)

    def __add__(self, other: "LevelSums") -> "LevelSums":
        """Of the images of both."""
        return LevelSums(*(one + two for one, two in zip(self._parts, other._parts, strict=True)))

    def __sub__(self, other: "LevelSums") -> "LevelSums":
        """Of these images without those of the other."""
        return LevelSums(*(one - two for one, two in zip(self._parts, other._parts, strict=True)))

    @property
    def _parts(self) -> list[Float64]:
        return [getattr(self, each.name) for each in fields(self)]


def _indicator(places: Any, size: int) -> Any:
    """(size, n) 1 where an image counts, n images having places (n, m)."""
    n, m = places.shape
    images = np.repeat(np.arange(n), m)
    return csr_array((np.ones(n * m), (places.ravel(), images)), shape=(size, n))


@dataclass(frozen=True, eq=False)
class LayerDrivers:
    """The drivers of a layer's K units, by F factors with L levels and P pairs of factors.

    Attributes:
        layer: its name.
        factors: the names of the factors.
        share: (K, F) ω²; NaN where a unit does not vary.
        share_error: (K, F) standard error.
        two_way: (K, P) two-way share of every two factors, as :attr:`Factors.pairs` has them.
        effect: (K, L) effect of every level.
        effect_error: (K, L) standard error.
        mean: (F + P,) shares and two-way shares, averaged over the units that vary.
        without: (B, F + P) the same without each group of images.
    """

    layer: str
    factors: tuple[str, ...]
    share: FloatArray
    share_error: FloatArray
    two_way: FloatArray
    effect: FloatArray
    effect_error: FloatArray
    mean: Float64
    without: Float64

    @property
    def units(self) -> int:
        """Number of units K."""
        return len(self.share)

    @property
    def varying(self) -> BoolArray:
        """(K,) which units vary at all."""
        found: BoolArray = np.isfinite(self.share[:, 0])
        return found

    def shares(self) -> dict[str, Interval]:
        """The mean share of each factor, with its interval."""
        return {name: self.combined(np.eye(len(self.mean))[i])
                for i, name in enumerate(self.factors)}  # fmt: skip

    def first_order(self) -> Interval:
        """All factors' mean shares together."""
        return self.combined(self._first)

    def all_two_way(self) -> Interval:
        """All mean two-way shares together."""
        return self.combined(1 - self._first)

    def rest(self) -> Interval:
        """What neither factors nor pairs of them account for, on average."""
        found = self.combined(np.ones(len(self.mean)))
        return Interval(1 - found.value, 1 - found.high, 1 - found.low)

    def combined(self, weights: FloatArray) -> Interval:
        """A sum of mean shares and two-way shares, weighted by (F + P,)."""
        return _interval(float(self.mean @ weights), self.without @ weights)

    def less(self, before: "LayerDrivers") -> dict[str, Interval]:
        """How much larger the mean shares are than another network's, on the same images.

        Paired: what both networks make of a group of images counts together.
        """
        differences = self.mean - before.mean, self.without - before.without
        return {
            name: _interval(float(differences[0][i]), differences[1][:, i])
            for i, name in enumerate(self.factors)
        }

    def to_arrays(self) -> dict[str, Any]:
        """As named arrays, to be stored."""
        return {each.name: getattr(self, each.name) for each in fields(self)[2:]}

    @classmethod
    def from_arrays(
        cls, layer: str, factors: Sequence[str], arrays: Mapping[str, Any], prefix: str = ""
    ) -> "LayerDrivers":
        """What :meth:`to_arrays` gave, its names behind a prefix."""
        found = {each.name: arrays[prefix + each.name] for each in fields(cls)[2:]}
        return cls(layer, tuple(factors), **found)

    def short(self) -> "LayerDrivers":
        """What a run keeps: 400 bytes a unit in place of 1 800.

        Shares of units in single precision, effects in half, no two-way shares of units; means as
        they are.
        """
        kept: dict[str, Any] = {
            name: np.asarray(getattr(self, name), np.float16 if "effect" in name else np.float32)
            for name in _BY_UNIT
        }
        return replace(self, **kept | {"two_way": kept["two_way"][:, :0]})

    @property
    def _first(self) -> Float64:
        return (np.arange(len(self.mean)) < len(self.factors)).astype(np.float64)


def _interval(value: float, without: FloatArray) -> Interval:
    half = float(_quantile(len(without)) * _error(without))
    return Interval(value, value - half, value + half)


def _error(without: FloatArray) -> Float64:
    """The jackknife's standard error of a number, from its values without each of B groups."""
    error: Float64 = np.sqrt((len(without) - 1) * without.var(axis=0))
    return error


def half_interval(error: FloatArray, groups: int = GROUPS) -> Float64:
    """Half the width of the interval of a number, from its standard error."""
    half: Float64 = _quantile(groups) * np.asarray(error, np.float64)
    return half


def _quantile(groups: int, level: float = LEVEL) -> float:
    return float(stdtrit(groups - 1, (1 + level) / 2))


def groups_of(images: int, groups: int = GROUPS) -> list[IntArray]:
    """The groups of so many images: neighbours in the order of a pass, each ascending.

    >>> [len(group) for group in groups_of(10, 3)]
    [4, 3, 3]
    """
    return [np.sort(group) for group in np.array_split(order_of(images), groups)]


def drivers(layer: str, rows: Rows, factors: Factors) -> LayerDrivers:
    """The drivers of a layer's units.

    Args:
        layer: its name.
        rows: (N, K) activations; some rows of them are in memory at a time.
        factors: of the N images.

    Raises:
        InputError: there are fewer than :data:`FEWEST_IMAGES` images, or not as many of them as
            levels.
    """
    if len(rows) != len(factors):
        raise InputError(f"{layer}: {len(rows)} rows of activations, {len(factors)} images")
    check_enough(len(rows))
    parts = groups_of(len(rows))
    known = [factors.take(part) for part in parts]
    first = np.asarray(rows[0:1], np.float64)
    pieces = []
    for units in blocks(rows.shape[1], _UNITS):
        # Shares do not change where a number is taken off; squares then lose no digits.
        base = first[:, units]
        sums = [
            LevelSums.of(levels, rows[part][:, units] - base)
            for part, levels in zip(parts, known, strict=True)
        ]
        pieces.append(_piece(sums, factors, floor=_TINY * base[0] ** 2))
    return _joined(layer, factors, pieces)


def check_enough(images: int, what: str = "images") -> None:
    """Raise :class:`InputError` where there are too few; ``what`` is how a user calls them."""
    if images < FEWEST_IMAGES:
        raise InputError(f"{what} must be at least {FEWEST_IMAGES} to tell drivers, got {images}")


# --- from sums to shares ----------------------------------------------------------------------


def _piece(
    sums: Sequence[LevelSums], factors: Factors, floor: FloatArray
) -> dict[str, NDArray[Any]]:
    """Some units of a layer: their columns of :class:`LayerDrivers`, transposed.

    ``mean`` and ``without`` are summed over the units that vary; ``varying`` says which do.
    """
    whole = sums[0]
    for each in sums[1:]:
        whole = whole + each
    about = _Shares(factors)
    share, two_way, effect, varying = about(whole, floor)
    without, shares, effects = [], [], []
    for each in sums:
        one, two, of_levels, _ = about(whole - each, floor)
        without.append(np.concatenate([one, two])[:, varying].sum(axis=1))
        shares.append(one)
        effects.append(of_levels)
    return {
        "varying": varying,
        "share": share,
        "share_error": _error(np.array(shares)),
        "two_way": two_way,
        "effect": effect,
        "effect_error": _error(np.array(effects)),
        "mean": np.concatenate([share, two_way])[:, varying].sum(axis=1),
        "without": np.array(without),
    }


class _Shares:
    """Shares and effects by the formulas."""

    def __init__(self, factors: Factors) -> None:
        sizes = [len(each) for each in factors.levels]
        self._levels = np.array(factors.starts)
        of_pairs = [sizes[i] * sizes[j] for i, j in factors.pairs]
        self._cells = np.cumsum([0, *of_pairs])[:-1]
        self._pairs = np.array(factors.pairs, int).reshape(-1, 2).T
        self._first = slice(0, sizes[0])

    def __call__(
        self, sums: LevelSums, floor: FloatArray
    ) -> tuple[Float64, Float64, Float64, BoolArray]:
        """Shares (F, K), two-way shares (P, K), effects (L, K), and which units vary (K,)."""
        n = float(sums.count[self._first].sum())
        total = sums.total[self._first].sum(axis=0)
        spread = np.maximum(sums.square - total**2 / n, 0.0)
        varying: BoolArray = spread > floor * n
        mean = total / n
        one = _omega(sums.count, sums.total, self._levels, n, mean, spread, varying)
        two = _omega(sums.cell_count, sums.cell_total, self._cells, n, mean, spread, varying)
        two -= one[self._pairs[0]] + one[self._pairs[1]]
        count = sums.count[:, None]
        others = (total - sums.total) / np.maximum(n - count, 1)
        apart = np.where((count > 0) & (count < n), _means(sums.count, sums.total) - others, 0.0)
        deviation = np.sqrt(spread / n)
        effect = np.divide(apart, deviation, out=np.zeros_like(apart), where=varying)
        return one, two, effect, varying


def _omega(
    count: Float64,
    total: Float64,
    starts: Any,
    n: float,
    mean: Float64,
    spread: Float64,
    varying: BoolArray,
) -> Float64:
    """ω² (F, K) of factors whose levels (or cells) begin at ``starts``; 0 for what is constant."""
    if not len(starts):
        return np.zeros((0, len(mean)))
    deviation = _means(count, total)
    deviation -= mean
    deviation *= deviation
    deviation *= count[:, None]
    between = np.add.reduceat(deviation, starts, axis=0)
    seen = np.add.reduceat((count > 0).astype(np.float64), starts)[:, None]
    within = np.maximum(spread - between, 0.0) / np.maximum(n - seen, 1)
    share = between - (seen - 1) * within
    return np.divide(share, spread + within, out=np.zeros_like(share), where=varying)


def _means(count: Float64, total: Float64) -> Float64:
    """Mean activations; 0 where there is no image."""
    means: Float64 = total / np.maximum(count, 1)[:, None]
    return means


_BY_UNIT = ("share", "share_error", "two_way", "effect", "effect_error")


def _joined(
    layer: str, factors: Factors, pieces: Sequence[Mapping[str, NDArray[Any]]]
) -> LayerDrivers:
    varying = np.concatenate([each["varying"] for each in pieces])
    units = max(int(varying.sum()), 1)

    def columns(name: str) -> Float64:
        values = np.concatenate([each[name] for each in pieces], axis=1).T
        return np.where(varying[:, None], values, np.nan)

    return LayerDrivers(
        layer=layer,
        factors=factors.names,
        mean=np.sum([each["mean"] for each in pieces], axis=0) / units,
        without=np.sum([each["without"] for each in pieces], axis=0) / units,
        **{name: columns(name) for name in _BY_UNIT},
    )


# --- words that name a level ------------------------------------------------------------------


class Following(Enum):
    """Whether a unit follows a word, by experiment."""

    FOLLOWED = auto()
    """The unit is more active where the word's level is shown: the effect's interval is above 0."""
    NOT_FOLLOWED = auto()
    NOT_TESTABLE = auto()
    """The word names no level, or the unit does not vary."""


def columns_of(word: str, factors: Factors) -> tuple[int, ...]:
    """The levels that a word names, by their columns: a colour may be an object's or a ground's.

    The name of a shade ends with that of its colour.

    >>> factors = Factors(("color", "pattern"), (("red", "blue"), ("dotted", "striped")),
    ...                   np.zeros((1, 2), int))
    >>> columns_of("stripes", factors), columns_of("red", factors), columns_of("dog", factors)
    ((3,), (0,), ())
    >>> columns_of("cherry red", factors)
    (0,)
    """
    level = usual_name(word)
    names = {level, level.removesuffix("s")}
    shade = word.rpartition(" ")[2]
    shades = {shade, usual_name(shade)}
    return tuple(
        i
        for i, (factor, name) in enumerate(factors.columns)
        if name in names
        or (name in shades and "color" in factor)
        or (factor in FACTORS and word == name_of(factor, name))
    )


def usual_name(word: str) -> str:
    """The name that levels and concepts have for what a word says.

    >>> usual_name("stripes"), usual_name("zebra")
    ('striped', 'zebra')
    """
    return _SAME.get(word, word)


_SAME = {
    "grey": "gray", "stripes": "striped", "stripe": "striped", "dots": "dotted", "dot": "dotted",
    "polka dots": "dotted", "spots": "speckled", "speckles": "speckled", "spotted": "dotted",
    "checks": "checkered", "checked": "checkered", "chequered": "checkered", "swirls": "swirly",
    "honeycombed": "honeycomb", "weave": "woven", "metal": "metallic", "glass": "glassy",
    "wood": "wooden", "fur": "furry", "glitter": "glittery", "circular": "circle",
    "triangular": "triangle", "meadow": "grass", "ocean": "sea", "trees": "forest",
    "tree": "forest", "buildings": "city", "skyline": "city", "bricks": "brick wall",
    "brick": "brick wall", "tiles": "tiled floor", "mountain": "mountains", "clouds": "sky",
}  # fmt: skip
"""Words for what a level shows, that are not its name."""


def following(
    drivers: LayerDrivers, words: Sequence[str | None], factors: Factors
) -> list[Following | None]:
    """Whether each of a layer's K units follows its word; None where it has none.

    Where the word names several levels, each is asked with its share of the 5 % of errors.

    Args:
        drivers: of the layer.
        words: K of them.
        factors: that the drivers are of.
    """
    columns = {word: columns_of(word, factors) for word in set(words) if word}
    return [
        _follows(drivers, unit, columns[word]) if word else None for unit, word in enumerate(words)
    ]


FollowedCounts = Mapping[str, Mapping[Following, int]]
"""Of one layer: by category, how many units follow their word, do not, or cannot be asked."""


FEWEST_ASKED = 10
"""Units below which it says little how many of them follow their word."""


def count_followed(
    told: Sequence[Following | None], categories: Sequence[str | None]
) -> FollowedCounts:
    """Count a layer's units, each with what :func:`following` says and its word's category."""
    counts: dict[str, Counter[Following]] = {}
    for each, category in zip(told, categories, strict=True):
        if each is not None and category is not None:
            counts.setdefault(category, Counter())[each] += 1
    return counts


def followed_of(layers: Sequence[FollowedCounts], category: str | None = None) -> tuple[int, int]:
    """Units that follow their word, and those that can be asked; of one category or of all.

    >>> counts = {"color": {Following.FOLLOWED: 2, Following.NOT_TESTABLE: 9},
    ...           "object": {Following.NOT_FOLLOWED: 1}}
    >>> followed_of([counts]), followed_of([counts, counts], "color")
    ((2, 3), (4, 4))
    """
    of = [counts for layer in layers for name, counts in layer.items() if category in (None, name)]
    followed, not_followed = (
        sum(counts.get(each, 0) for counts in of)
        for each in (Following.FOLLOWED, Following.NOT_FOLLOWED)
    )
    return followed, followed + not_followed


def _follows(drivers: LayerDrivers, unit: int, columns: Sequence[int]) -> Following:
    if not columns or not drivers.varying[unit]:
        return Following.NOT_TESTABLE
    t = _quantile(len(drivers.without), 1 - (1 - LEVEL) / len(columns))
    here = list(columns)
    effect, error = (
        np.asarray(each[unit, here], np.float64) for each in (drivers.effect, drivers.effect_error)
    )
    low = effect - t * error
    return Following.FOLLOWED if (low > 0).any() else Following.NOT_FOLLOWED


# --- of all layers ---------------------------------------------------------------------------

_TOLD = 0.02
"""Changes of a share from the first layer to the last that are worth telling."""


@dataclass(frozen=True)
class Experiment:
    """What came of an experiment.

    Attributes:
        layers: the drivers of each.
        factors: of the images; those of a finished run know no image.
        images: that were shown.
        seconds: by stage: drawing, forward passes, and working out the drivers.
        drawn: whether the factors were drawn independently, so that what goes with them is caused
            by them, and shares add up.
    """

    layers: tuple[LayerDrivers, ...]
    factors: Factors
    images: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    drawn: bool = True

    def dead(self) -> int:
        """Units that do not vary on the scenes."""
        return sum(int((~layer.varying).sum()) for layer in self.layers)

    def changes(self) -> dict[str, tuple[float, float]]:
        """Factors whose mean share differs between the first layer and the last, with both.

        By :data:`_TOLD` or more, beyond the paired interval; those that rise first, each kind by
        how much. No share is shown below 0.
        """
        first, last = self.layers[0], self.layers[-1]
        changes = {
            name: change.value
            for name, change in last.less(first).items()
            if abs(change.value) >= _TOLD and (change.low > 0 or change.high < 0)
        }
        order = sorted(changes, key=lambda name: (changes[name] < 0, -abs(changes[name])))
        ends = first.shares(), last.shares()
        return {name: (max(ends[0][name].value, 0.0), max(ends[1][name].value, 0.0))
                for name in order}  # fmt: skip

    def finding(self) -> str:
        """In a sentence, what changes most between the first layer and the last; may be empty."""
        told, said = [], set()
        for name, (start, end) in self.changes().items():
            verb = "rises" if end > start else "falls"
            says = "" if verb in said else f" {verb}"
            said.add(verb)
            told.append(f"{name}{says} from {100 * start:.0f} to {end:.0%}")
        ends = f"from {self.layers[0].layer} to {self.layers[-1].layer}"
        return f"{ends}, {', '.join(told)}" if told else ""

    def caution(self) -> str:
        """What keeps shares from being causes; empty where the factors were drawn."""
        if self.drawn:
            return ""
        told = "attributes of these images go together, so shares describe and do not add up"
        if not self.factors.pairs:
            return told
        association = self.factors.association()
        i, j = max(self.factors.pairs, key=lambda pair: association[pair])
        names = self.factors.names
        return f"{told}; most of all {names[i]} and {names[j]} (Cramér's V {association[i, j]:.2f})"

    def to_json(self) -> dict[str, Any]:
        """Everything about layers: mean shares and two-way shares, each with its interval."""
        return {
            "images": self.images,
            "caused": self.drawn,
            "factors": dict(zip(map(key_of, self.factors.names), self.factors.levels, strict=True)),
            **({"association": self.factors.association()} if len(self.factors) else {}),
            **({"seconds": self.seconds} if self.seconds else {}),
            "layers": [self._layer(layer) for layer in self.layers],
        }

    def _layer(self, layer: LayerDrivers) -> dict[str, Any]:
        shares, names = layer.shares(), self.factors.names
        two_way = {
            f"{key_of(names[i])} × {key_of(names[j])}": value
            for (i, j), value in zip(self.factors.pairs, layer.mean[len(names) :], strict=True)
        }
        wholes = {
            "factors": layer.first_order(), "pairs": layer.all_two_way(), "rest": layer.rest()
        }  # fmt: skip
        return {
            "layer": layer.layer,
            "units": layer.units,
            "varying": int(layer.varying.sum()),
            "shares": {key_of(name): each.value for name, each in shares.items()},
            "intervals": {key_of(name): (each.low, each.high) for name, each in shares.items()},
            "sums": {name: each.value for name, each in wholes.items()},
            "sum_intervals": {name: (each.low, each.high) for name, each in wholes.items()},
            "two_way": two_way,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row a unit: the factor of its largest share, the level of its largest effect, shares.

        Of a unit that does not vary nothing but its place is given.
        """
        columns = self.factors.columns
        for layer in self.layers:
            for unit in range(layer.units):
                row: dict[str, Any] = {"layer": layer.layer, "unit": unit}
                if layer.varying[unit]:
                    factor = self.factors.names[int(layer.share[unit].argmax())]
                    here = [i for i, (name, _) in enumerate(columns) if name == factor]
                    most = max(here, key=lambda i: layer.effect[unit, i])
                    row |= {"driver": key_of(factor), "level": columns[most][1]}
                    row |= {"effect": round(float(layer.effect[unit, most]), 4)}
                    row |= {"effect_error": round(float(layer.effect_error[unit, most]), 4)}
                    for i, name in enumerate(self.factors.names):
                        row[key_of(name)] = round(float(layer.share[unit, i]), 5)
                        row[f"{key_of(name)}_error"] = round(float(layer.share_error[unit, i]), 5)
                yield row

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write ``drivers.json``, what is told of the subject first, and ``drivers.csv``."""
        write_atomically(out / "drivers.json", json_text({**about, **self.to_json()}) + "\n")
        text = io.StringIO()
        shares = [
            name for each in self.factors.names for name in (key_of(each), key_of(each) + "_error")
        ]
        titles = ["layer", "unit", "driver", "level", "effect", "effect_error", *shares]
        table = csv.DictWriter(text, titles, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows())
        write_atomically(out / "drivers.csv", text.getvalue())


def key_of(factor: str) -> str:
    """A factor's name where it has to be one word."""
    return factor.replace(" ", "_")
