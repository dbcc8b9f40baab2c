"""Further ways to draw a pattern: as animals wear it, as craftsmen make it, as it wears off.

The scenes of the built-in probe set draw each pattern in one way, which a network tells from the
others by many signs that are no part of the word. What is to learn the word needs to see it drawn
in several.
"""

from dataclasses import replace

import numpy as np

from profiler.data.synthetic.patterns import PATTERNS, Canvas, Drawing, Pattern
from profiler.data.synthetic.raster import (
    bands,
    cells,
    clouds,
    doubled,
    noise,
    off_centre,
    resize,
    step,
    streaks,
)


def _wild_stripes(on: Canvas) -> Drawing:
    # as on a zebra or a tiger: they bend, fork, swell and end
    bend = 0.75 * noise(on.rng, on.size, 0.45 * on.periods)
    swell = noise(on.rng, on.size, 0.8 * on.periods, stretch=0.6)
    width = np.clip(on.rng.uniform(0.3, 0.55) + 0.28 * swell, 0.0, 0.9)
    return Drawing(bands(on.u + bend, width, 1.6 * on.pixel))


def _uneven_stripes(on: Canvas) -> Drawing:
    # a wide stripe and a narrow one take turns
    wide, fine = on.rng.uniform(0.3, 0.5), on.rng.uniform(0.08, 0.18)
    second = bands(on.u + 0.5, fine, on.pixel)
    return Drawing(np.maximum(bands(on.u, wide, on.pixel), on.rng.uniform(0.4, 1) * second))


def _grooves(on: Canvas) -> Drawing:
    # stripes that are carved, not painted
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * on.u)
    return Drawing(tone=0.4 * wave, height=0.18 * wave, shade=0.55 + 0.45 * wave)


def _spots(on: Canvas) -> Drawing:
    # as on a Dalmatian: round blots of several sizes, nowhere in rows
    bend = 0.1 * noise(on.rng, on.size, 2.5 * on.periods)
    first, _, own = cells(on.rng, on.u + bend, on.v - bend, jitter=0.85)
    radius = on.rng.uniform(0.2, 0.3) + 0.16 * (own - 0.5)
    return Drawing(step(resize(radius - first, on.size), 2 * on.pixel))


def _rosettes(on: Canvas) -> Drawing:
    # as on a leopard: rings that are broken, darker within, with small spots between
    bend = 0.22 * noise(on.rng, on.size, 2.2 * on.periods)
    first, _, own = cells(on.rng, on.u + bend, on.v - bend, jitter=0.7)
    distance = resize(first, on.size)
    outer = 0.36 + 0.08 * (doubled(own, on.size) - 0.5)
    broken = step(noise(on.rng, on.size, 3.2 * on.periods) + on.rng.uniform(0.15, 0.5), 0.2)
    ring = step(0.075 - np.abs(distance - outer + 0.07), 2 * on.pixel) * broken
    heart = 0.35 * step(outer - 0.1 - distance, 0.1)
    return Drawing(np.maximum(ring, heart))


def _diamond_scales(on: Canvas) -> Drawing:
    # as on a pineapple or a snake: slanting rows of raised lozenges
    one, other = on.u + on.v, on.u - on.v
    rim = np.maximum(np.abs(off_centre(one)), np.abs(off_centre(other)))
    bulge = 1 - (2 * rim) ** 2
    gap = step(rim - on.rng.uniform(0.42, 0.46), 2 * on.pixel)
    return Drawing(tone=gap, height=0.22 * bulge, shade=0.45 + 0.6 * np.clip(bulge, 0, 1))


def _plates(on: Canvas) -> Drawing:
    # as on a crocodile: rows of raised plates, longer than wide, each its own size
    row = np.rint(on.v)
    shift = 0.5 * (row % 2) + 0.2 * np.sin(12.9 * row)
    across, down = np.abs(off_centre(on.u + shift)), np.abs(on.v - row)
    rim = np.maximum(across, 0.94 * down) + 0.05 * noise(on.rng, on.size, 2 * on.periods)
    gap = step(rim - 0.42, 0.08)
    keel = np.clip(1 - 6 * down, 0, 1)
    return Drawing(
        tone=gap, height=0.25 * (1 - (2 * rim) ** 2) + 0.1 * keel, shade=1.05 - 0.6 * gap
    )


def _mesh(on: Canvas) -> Drawing:
    # wires before a darker depth
    width = on.rng.uniform(0.06, 0.16)
    wire = np.maximum(bands(on.u, width, on.pixel), bands(on.v, width, on.pixel))
    return Drawing(
        tone=wire, height=0.1 * wire, shade=on.rng.uniform(0.35, 0.9) * (1 - wire) + wire
    )


def _sunken_squares(on: Canvas) -> Drawing:
    # as on a waffle
    rim = np.maximum(np.abs(off_centre(on.u)), np.abs(off_centre(on.v)))
    wall = step(rim - on.rng.uniform(0.3, 0.4), 0.12)
    return Drawing(tone=0.5 * wall, height=0.25 * wall, shade=0.6 + 0.4 * wall)


def _basket(on: Canvas) -> Drawing:
    # wide bands of several canes, over two and under two
    column, row = np.floor(on.u), np.floor(on.v)
    level = (column + row) % 2 == 0
    canes = on.rng.integers(2, 5)
    over = np.where(level, on.v, on.u)
    along = np.where(level, on.u - column, on.v - row) - 0.5
    cane = off_centre(canes * over + 0.5)
    round_cane = np.sqrt(np.clip(1 - (cane / 0.5) ** 2, 0, 1))
    arch = np.cos(np.pi * along)
    return Drawing(
        tone=0.5 * level.astype(np.float32),
        height=0.08 * round_cane + 0.2 * arch,
        shade=(0.4 + 0.6 * round_cane) * (0.5 + 0.5 * arch),
    )


def _bricks(on: Canvas) -> Drawing:
    v = 2 * on.v
    row = np.floor(v)
    shift = on.rng.choice([0.0, 0.5]) * (row % 2)
    u = on.u + shift
    column = np.floor(u)
    own = np.sin(12.9898 * column + 78.233 * row) * 43758.5453
    own = own - np.floor(own)
    edge = np.minimum(0.5 - np.abs(u - column - 0.5), 0.5 * (0.5 - np.abs(v - row - 0.5)))
    joint = step(on.rng.uniform(0.025, 0.05) - edge, 1.5 * on.pixel)
    return Drawing(tone=joint, height=0.1 * np.clip(edge / 0.08, 0, 1), shade=0.82 + 0.3 * own)


def _shell(on: Canvas) -> Drawing:
    # a spiral whose turns grow by the same factor each
    radius = np.hypot(on.u, on.v) + 0.05
    turn = np.arctan2(on.v, on.u) / (2 * np.pi)
    arm = on.rng.uniform(1.2, 2.2) * np.log(radius) + (1 if on.rng.random() < 0.5 else -1) * turn
    groove = np.abs(off_centre(arm))
    line = step(0.1 - groove, 0.1)
    return Drawing(
        tone=line, height=0.3 * np.sqrt(groove), shade=0.5 + 0.5 * step(groove - 0.1, 0.2)
    )


def _grooved_maze(on: Canvas) -> Drawing:
    # as on a brain coral
    bend = noise(on.rng, on.size, 0.6 * on.periods)
    hills = streaks(on.rng, 0.8 * on.u + 0.8 * bend, 0.8 * on.v - 0.8 * bend)
    groove = np.abs(off_centre(1.6 * hills + 0.6 * noise(on.rng, on.size, 0.8 * on.periods)))
    ridge = step(groove - 0.2, 0.25)
    return Drawing(tone=0.6 * ridge, height=0.2 * ridge, shade=0.5 + 0.5 * ridge)


def _deep_comb(on: Canvas) -> Drawing:
    # cells that are dark holes behind pale walls
    usual = PATTERNS["honeycomb"].draw(on)
    wall = np.zeros_like(on.u) if usual.tone is None else usual.tone
    hole = 1 - wall
    return Drawing(tone=wall, height=0.2 * wall, shade=1 - on.rng.uniform(0.3, 0.7) * hole)


def _cloudy(on: Canvas) -> Drawing:
    # hardly anything: the tone drifts a little
    drift = clouds(on.rng, on.size, 2.0)
    return Drawing(shade=1 + on.rng.uniform(0.02, 0.12) * drift)


def _threads(on: Canvas) -> Drawing:
    # an orb web: thin threads, each ring a polygon, some of them torn
    spokes = int(on.rng.integers(14, 26))
    radius = np.hypot(on.u, on.v)
    angle = spokes * np.arctan2(on.v, on.u) / (2 * np.pi)
    straight = 1 + 0.08 * (0.25 - off_centre(angle) ** 2)
    torn = step(noise(on.rng, on.size, 5) + 0.6, 0.2)
    width = on.rng.uniform(0.06, 0.12)
    rings = bands(1.5 * radius * straight, width, 1.2 * on.pixel) * torn
    rays = step(0.04 - np.abs(off_centre(angle)) * 2 * np.pi * radius / spokes, 1.2 * on.pixel)
    return Drawing(np.maximum(rings, rays))


_FURTHER: dict[str, tuple[Pattern, ...]] = {
    "smooth": (Pattern(_cloudy, (1, 1)),),
    "striped": (
        Pattern(_wild_stripes, (3, 9), warp=0.25),
        Pattern(_wild_stripes, (4, 12), warp=0.1),
        Pattern(_uneven_stripes, (3, 7), warp=0.25),
        Pattern(_grooves, (4, 12), warp=0.2),
    ),
    "spotted": (
        Pattern(_spots, (4, 11), warp=0.3),
        Pattern(_spots, (3, 7), warp=0.2),
        Pattern(_rosettes, (4, 9), warp=0.3),
    ),
    "scaly": (Pattern(_diamond_scales, (3, 8), warp=0.2), Pattern(_plates, (4, 9), warp=0.25)),
    "grid": (Pattern(_mesh, (4, 12), warp=0.2), Pattern(_sunken_squares, (3, 8), warp=0.1)),
    "woven": (Pattern(_basket, (3, 8), warp=0.15),),
    "tiled": (Pattern(_bricks, (2, 6), warp=0.06), Pattern(_bricks, (3, 8), warp=0.15)),
    "spiralled": (Pattern(_shell, (2, 5), warp=0.1),),
    "swirly": (Pattern(_grooved_maze, (3, 6)),),
    "honeycomb": (Pattern(_deep_comb, (4, 11), warp=0.15),),
    "cobwebbed": (Pattern(_threads, (4, 8)),),
}

# a pattern lies flat on few things: its rows bend with what they lie on
_BENT = 0.22


def _usual(pattern: Pattern) -> Pattern:
    fewest, most = pattern.periods
    return replace(pattern, periods=(0.75 * fewest, 1.25 * most), warp=pattern.warp + _BENT)


VARIANTS: dict[str, tuple[Pattern, ...]] = {
    name: (
        *([PATTERNS[name]] if name in PATTERNS else []),
        *(
            [_usual(PATTERNS[name])]
            if name in PATTERNS and name not in ("smooth", "gradient")
            else []
        ),
        *_FURTHER.get(name, ()),
    )
    for name in dict.fromkeys((*PATTERNS, *_FURTHER))
}
"""Every pattern's word, with the ways to draw it; the first is that of the built-in scenes."""
