"""Patterns: where the second tone lies, and how the surface rises and falls."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from profiler.data.synthetic.raster import (
    Array,
    bands,
    cells,
    clouds,
    doubled,
    noise,
    off_centre,
    resize,
    slopes,
    step,
    streaks,
)


@dataclass(frozen=True)
class Canvas:
    """Where a pattern is drawn.

    `u` and `v` (size, size) count periods from the object's centre, already rotated and slightly
    warped; `pixel` is a pixel's width in periods, `reach` the object's radius in periods.
    """

    rng: np.random.Generator
    u: Array
    v: Array
    pixel: float
    reach: float

    @property
    def size(self) -> int:
        """Pixels on a side."""
        return int(self.u.shape[0])

    @property
    def periods(self) -> float:
        """Periods across the whole image."""
        return self.pixel * self.size


@dataclass(frozen=True)
class Drawing:
    """What a pattern does to a surface; every field is (size, size) or absent.

    `tone`: 0 where the main colour lies, 1 where the second. `height`: the relief, in periods.
    `shade`: a factor on the brightness, for crevices no light reaches.
    """

    tone: Array | None = None
    height: Array | None = None
    shade: Array | None = None


def _smooth(on: Canvas) -> Drawing:
    return Drawing()


def _striped(on: Canvas) -> Drawing:
    return Drawing(bands(on.u, on.rng.uniform(0.35, 0.55), on.pixel))


def _wavy(on: Canvas) -> Drawing:
    length = on.rng.uniform(1.5, 2.5)
    swing = on.rng.uniform(0.14, 0.2) * length
    wave = swing * np.sin(2 * np.pi / length * on.v)
    return Drawing(bands(on.u + wave, on.rng.uniform(0.35, 0.55), 1.3 * on.pixel))


def _zigzag(on: Canvas) -> Drawing:
    length = on.rng.uniform(1.2, 2.0)
    wave = length * on.rng.uniform(0.7, 1.0) * np.abs(off_centre(on.v / length))
    return Drawing(bands(on.u + wave, on.rng.uniform(0.38, 0.55), 1.3 * on.pixel))


def _dotted(on: Canvas) -> Drawing:
    # every other row moves by half a period in one drawing of two
    shift = 0.5 * int(on.rng.integers(2)) * (np.rint(on.v) % 2)
    distance = np.hypot(off_centre(on.u + shift), off_centre(on.v))
    return Drawing(step(on.rng.uniform(0.24, 0.36) - distance, on.pixel))


def _floral(on: Canvas) -> Drawing:
    row = np.rint(on.v)
    across, down = off_centre(on.u + 0.5 * (row % 2)), on.v - row
    distance = np.hypot(across, down)
    angle = np.arctan2(down, across) + on.rng.uniform(0, 6)
    petals = 0.30 + 0.13 * np.cos(5 * angle)
    heart = step(0.09 - distance, on.pixel)
    return Drawing(step(petals - distance, on.pixel) - heart)


def _checkered(on: Canvas) -> Drawing:
    parity = np.sin(2 * np.pi * on.u) * np.sin(2 * np.pi * on.v)
    return Drawing(step(parity, 7 * on.pixel))


def _grid(on: Canvas) -> Drawing:
    width = on.rng.uniform(0.12, 0.2)
    return Drawing(np.maximum(bands(on.u, width, on.pixel), bands(on.v, width, on.pixel)))


def _plaid(on: Canvas) -> Drawing:
    wide, fine = on.rng.uniform(0.35, 0.5), on.rng.uniform(0.05, 0.08)
    place = on.rng.uniform(0.4, 0.5)
    broad = bands(on.u, wide, on.pixel) + bands(on.v, wide, on.pixel)
    lines = np.maximum(bands(on.u + place, fine, on.pixel), bands(on.v + place, fine, on.pixel))
    return Drawing(np.maximum(0.45 * broad, 0.8 * lines))


def _crosshatched(on: Canvas) -> Drawing:
    # two sets of pen strokes that cross slantwise; each line is lifted and pressed on its way
    ink = np.zeros_like(on.u)
    for slant in (0.5, -0.5):
        line = on.u + slant * on.v
        number = np.rint(line)
        pressure = streaks(on.rng, 0.35 * on.v + 7.3 * number, 5 * number)
        width = 0.28 + 0.16 * pressure + 0.06 * np.abs(off_centre(9.1 * number))
        ink = np.maximum(ink, bands(line, width, 1.4 * on.pixel) * (pressure > -0.75))
    return Drawing(ink)


def _woven(on: Canvas) -> Drawing:
    column, row = np.rint(on.u), np.rint(on.v)
    across, down = on.u - column, on.v - row
    level = (column + row) % 2 == 0
    over = np.where(level, down, across)
    along = np.where(level, across, down)
    round_strand = np.sqrt(np.clip(1 - (over / 0.46) ** 2, 0, 1))
    arch = np.cos(np.pi * along)
    return Drawing(
        tone=(~level).astype(np.float32),
        height=0.16 * round_strand + 0.22 * arch,
        shade=(0.35 + 0.65 * step(0.44 - np.abs(over), 0.12)) * (0.62 + 0.38 * arch),
    )


def _knitted(on: Canvas) -> Drawing:
    # two mirrored slanted leaves make one stitch
    across = off_centre(on.u)
    side = np.abs(across)
    along = off_centre(1.35 * on.v + 1.5 * side)
    leaf = np.hypot((side - 0.25) / 0.27, along / 0.56)
    bulge = np.sqrt(np.clip(1 - leaf**2, 0, 1))
    ply = 0.06 * np.sin(2 * np.pi * (4 * along + 5 * side))
    # the second colour comes in whole rows of stitches
    rows = on.rng.uniform(3, 5)
    stripe = np.floor(np.rint(1.35 * on.v + 1.5 * side) % rows) < 1
    return Drawing(
        tone=stripe.astype(np.float32),
        height=0.3 * bulge,
        shade=(0.35 + 0.65 * np.minimum(1, 1.5 * bulge)) * (1 + ply),
    )


def _speckled(on: Canvas) -> Drawing:
    first, _, own = cells(on.rng, 2 * on.u, 2 * on.v, jitter=1.0)
    radius = 0.05 + 0.38 * own**2
    return Drawing(step(resize(radius - first, on.size), 3 * on.pixel))


def _blotchy(on: Canvas) -> Drawing:
    lumps = clouds(on.rng, on.size, 1.4 * on.periods)
    return Drawing(step(lumps - on.rng.uniform(0.05, 0.2), 4 * on.pixel))


def _marbled(on: Canvas) -> Drawing:
    haze = clouds(on.rng, on.size, 0.6 * on.periods)
    swirl = clouds(on.rng, on.size, 0.4 * on.periods)
    vein = 1 - np.abs(np.sin(np.pi * (0.55 * on.u + 1.4 * haze)))
    fine = 1 - np.abs(np.sin(np.pi * (0.8 * on.v + 1.8 * swirl)))
    milk = 0.16 * np.clip(haze + 0.6 * swirl + 0.3, 0, 1)
    return Drawing(np.clip(0.8 * vein * vein * vein + 0.8 * fine**10 + milk, 0, 1))


def _swirly(on: Canvas) -> Drawing:
    # the contour lines of smooth hills, bent twice
    bend = noise(on.rng, on.size, 0.5 * on.periods)
    hills = noise(on.rng, on.size, 0.4 * on.periods)
    twisted = streaks(on.rng, 0.5 * on.u + 0.9 * bend, 0.5 * on.v + 0.9 * hills)
    contour = 2.4 * twisted + 0.9 * hills
    right, down = slopes(contour, 1.0)
    # as sharp where the hills are flat as where they are steep
    return Drawing(bands(contour, 0.5, np.abs(right) + np.abs(down) + 0.01))


def _spiralled(on: Canvas) -> Drawing:
    arms = int(on.rng.integers(1, 3)) * (1 if on.rng.random() < 0.5 else -1)
    turn = arms * np.arctan2(on.v, on.u) / (2 * np.pi)
    return Drawing(bands(np.hypot(on.u, on.v) + turn, on.rng.uniform(0.35, 0.5), on.pixel))


def _cobwebbed(on: Canvas) -> Drawing:
    spokes = int(on.rng.integers(8, 13))
    radius = np.hypot(on.u, on.v)
    angle = spokes * np.arctan2(on.v, on.u) / (2 * np.pi)
    # threads hang inwards between two spokes
    sag = 1 + 0.25 * (0.5 - np.abs(off_centre(angle)))
    rings = bands(radius * sag, 0.12, on.pixel)
    rays = step(0.055 - np.abs(off_centre(angle)) * 2 * np.pi * radius / spokes, on.pixel)
    return Drawing(np.maximum(rings, rays))


def _gradient(on: Canvas) -> Drawing:
    return Drawing(np.clip(0.5 + 0.55 * on.u / on.reach, 0, 1))


def _cracked(on: Canvas) -> Drawing:
    wobble = 0.25 * clouds(on.rng, on.size, 1.5 * on.periods)
    first, second, _ = cells(on.rng, on.u + wobble, on.v - wobble, jitter=1.0)
    gap = resize(second - first, on.size)
    crack = step(on.rng.uniform(0.05, 0.1) - gap, 2 * on.pixel)
    return Drawing(tone=crack, height=0.16 * np.clip(gap / 0.25, 0, 1), shade=1 - 0.65 * crack)


def _crystalline(on: Canvas) -> Drawing:
    first, second, number = cells(on.rng, on.u, on.v, jitter=1.0)
    edge = step(0.04 - resize(second - first, on.size), 2 * on.pixel)
    own = doubled(number, on.size)
    # each facet is tilted its own way, so that light runs over it from one side to the other
    turn = 2 * np.pi * 7 * own
    across = np.cos(turn) * doubled(first, on.size)
    glint = 0.6 * np.clip(off_centre(13 * own) - 0.3, 0, None)
    return Drawing(
        tone=np.clip(1.1 * own - 0.3 + 0.4 * across, 0, 1),
        shade=0.72 + 0.5 * off_centre(29 * own) + 0.5 * across + glint + 0.3 * edge,
    )


def _scaly(on: Canvas) -> Drawing:
    # rows of discs, each row lying over the one below it
    v = 2 * on.v
    top = np.floor(v)
    tone = np.zeros_like(v)
    rise = np.zeros_like(v)
    shade = np.full_like(v, 0.4)
    open_ = np.ones(v.shape, dtype=bool)
    for behind in (1, 0):
        row = top - behind
        across = off_centre(on.u + 0.5 * (row % 2))
        down = v - row
        distance = np.hypot(across / 0.56, down / 1.5)
        inside = open_ & (distance < 1)
        rim = np.clip(distance, 0, 1)
        rise = np.where(inside, rim, rise)
        tone = np.where(inside, step(rim - 0.78, 0.12), tone)
        shade = np.where(inside, 0.45 + 0.6 * rim**1.5 - 0.5 * step(rim - 0.93, 0.08), shade)
        open_ &= ~inside
    return Drawing(tone=tone, height=0.12 * rise, shade=shade)


def _honeycomb(on: Canvas) -> Drawing:
    # two rectangular lattices of centres; the nearer centre owns the point
    tall = 3**0.5
    walls = []
    for shift in (0.0, 0.5):
        across = np.abs(off_centre(on.u + shift))
        down = np.abs(off_centre(on.v / tall + shift)) * tall
        walls.append(np.maximum(across, 0.5 * across + 0.5 * tall * down))
    to_wall = 0.5 - np.minimum(walls[0], walls[1])
    width = on.rng.uniform(0.06, 0.1)
    wall = step(width - to_wall, on.pixel)
    return Drawing(
        tone=wall,
        height=0.05 * step(1.5 * width - to_wall, 0.12),
        shade=1.05 - 0.55 * np.clip(1 - (to_wall - width) / 0.2, 0, 1) * (1 - wall),
    )


def _bumpy(on: Canvas) -> Drawing:
    first, _, own = cells(on.rng, on.u, on.v, jitter=0.45)
    share = resize(first / (0.42 + 0.1 * own), on.size)
    bump = np.sqrt(np.clip(1 - share * share, 0, 1))
    return Drawing(tone=0.3 * bump, height=0.42 * bump, shade=0.7 + 0.3 * np.minimum(1, 2 * bump))


def _porous(on: Canvas) -> Drawing:
    # no hole is quite round
    wobble = 0.12 * noise(on.rng, on.size, 3 * on.periods)
    first, _, own = cells(on.rng, on.u + wobble, on.v - wobble, jitter=0.9)
    small, _, tiny = cells(on.rng, 2.7 * on.u, 2.7 * on.v, jitter=0.9)
    hole = step(0.14 + 0.26 * own - first, 0.08)
    pit = step(0.12 + 0.24 * tiny - small, 0.15)
    depth = resize(np.maximum(hole, 0.8 * pit), on.size)
    return Drawing(tone=0.5 * depth, height=-0.12 * depth, shade=1 - 0.66 * depth)


def _wrinkled(on: Canvas) -> Drawing:
    folds = np.zeros_like(on.u)
    bend = 0.5 * noise(on.rng, on.size, 0.7 * on.periods)
    for fineness, weight in ((0.9, 1.0), (1.9, 0.45), (3.7, 0.18)):
        ridge = streaks(on.rng, 0.6 * fineness * on.u + bend, fineness * on.v + bend)
        folds = folds + weight * np.sqrt(ridge * ridge + 0.004)
    return Drawing(height=0.6 * folds, shade=0.7 + 0.4 * np.minimum(folds, 1))


@dataclass(frozen=True)
class Pattern:
    """How to draw a pattern, and the range of periods across an object that keeps it legible.

    `warp` is how far (in periods) the lattice may be bent before it stops being one.
    """

    draw: Callable[[Canvas], Drawing]
    periods: tuple[float, float]
    warp: float = 0.0


PATTERNS = {
    "smooth": Pattern(_smooth, (1, 1)),
    "striped": Pattern(_striped, (4, 10), warp=0.12),
    "wavy": Pattern(_wavy, (4, 7)),
    "zigzag": Pattern(_zigzag, (4, 7)),
    "dotted": Pattern(_dotted, (4, 9), warp=0.08),
    "floral": Pattern(_floral, (2.5, 4.5), warp=0.05),
    "checkered": Pattern(_checkered, (2, 4.5), warp=0.05),
    "grid": Pattern(_grid, (4, 8), warp=0.06),
    "plaid": Pattern(_plaid, (2.5, 4), warp=0.05),
    "crosshatched": Pattern(_crosshatched, (9, 14), warp=0.2),
    "woven": Pattern(_woven, (5, 9), warp=0.06),
    "knitted": Pattern(_knitted, (5, 8), warp=0.08),
    "speckled": Pattern(_speckled, (6, 10)),
    "blotchy": Pattern(_blotchy, (3, 5)),
    "marbled": Pattern(_marbled, (2.5, 5)),
    "swirly": Pattern(_swirly, (4, 6)),
    "spiralled": Pattern(_spiralled, (5, 9)),
    "cobwebbed": Pattern(_cobwebbed, (6, 9)),
    "gradient": Pattern(_gradient, (1, 1)),
    "cracked": Pattern(_cracked, (4, 7)),
    "crystalline": Pattern(_crystalline, (4, 7)),
    "scaly": Pattern(_scaly, (5, 9), warp=0.06),
    "honeycomb": Pattern(_honeycomb, (5, 9), warp=0.05),
    "bumpy": Pattern(_bumpy, (5, 9)),
    "porous": Pattern(_porous, (4, 7)),
    "wrinkled": Pattern(_wrinkled, (3, 5)),
}
