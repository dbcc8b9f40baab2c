"""Materials: how light plays on a surface, and the grain a substance brings along."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from profiler.data.synthetic.raster import (
    Array,
    bands,
    cells,
    clouds,
    doubled,
    facets,
    noise,
    resize,
    slopes,
    step,
    streaks,
)


@dataclass(frozen=True)
class Body:
    """A coloured, patterned form that waits for its material.

    `albedo` (3, size, size) sRGB in [0, 1]; `lean_x`, `lean_y` (size, size) the rise of the
    surface to the right and downwards; `mask` (size, size) where the body is; `behind`
    (3, size, size) the picture it stands before; `light` the unit vector to the lamp (x right,
    y down, z to the viewer); `x`, `y` (size, size) image widths from the body's centre, turned
    by the grain's direction.
    """

    rng: np.random.Generator
    albedo: Array
    lean_x: Array
    lean_y: Array
    mask: Array
    behind: Array
    light: tuple[float, float, float]
    x: Array
    y: Array

    @property
    def size(self) -> int:
        """Pixels on a side."""
        return int(self.mask.shape[0])

    @property
    def is_sheet(self) -> bool:
        """Whether the body fills the whole picture."""
        return bool(self.mask.min() > 0)

    def tilted(self, height: Array, strength: float) -> tuple[Array, Array]:
        """The body's leans with those of a fine relief (heights in image widths) added."""
        right, down = slopes(height, 1 / self.size)
        return self.lean_x + strength * right, self.lean_y + strength * down


def _diffuse(body: Body, lean_x: Array, lean_y: Array, ambient: float = 0.4) -> Array:
    """Brightness (size, size) of a dull surface: 1 where it faces the viewer, on average."""
    lx, ly, lz = body.light
    length = np.sqrt(lean_x * lean_x + lean_y * lean_y + 1)
    facing: Array = np.clip((lz - lx * lean_x - ly * lean_y) / length, 0, None) / lz
    return ambient + (1 - ambient) * np.minimum(facing, 1.6)


def _shine(body: Body, lean_x: Array, lean_y: Array, sharpness: float) -> Array:
    """The mirror image of the lamp (size, size), in [0, 1]; sharper is smaller."""
    lx, ly, lz = body.light
    norm = math.hypot(lx, ly, lz + 1)
    hx, hy, hz = lx / norm, ly / norm, (lz + 1) / norm
    length = np.sqrt(lean_x * lean_x + lean_y * lean_y + 1)
    cosine = np.clip((hz - hx * lean_x - hy * lean_y) / length, 0, 1)
    mirrored: Array = np.exp(sharpness * (cosine - 1))
    return mirrored


def _level(body: Body, brightness: Array) -> Array:
    """Brightness scaled to a mean of 1 over the body, so that its colour keeps its name.

    White is held a little below 1 and its contrast lowered: nothing can be seen on a surface that
    is overexposed.
    """
    # every fourth pixel in each direction will do for a mean
    mask = body.mask[::4, ::4]
    area = max(float(mask.sum()), 1.0)
    mean = float((brightness[::4, ::4] * mask).sum()) / area
    red, green, blue = (body.albedo[:, ::4, ::4] * mask).sum(axis=(1, 2)).tolist()
    paleness = (0.3 * red + 0.6 * green + 0.1 * blue) / area
    target = min(1.0, 0.86 / max(paleness, 1e-3))
    contrast = 1 - 0.9 * max(0.0, paleness - 0.5)
    level: Array = target * (1 - contrast) + brightness * (target * contrast / max(mean, 1e-3))
    return level


def _lit(body: Body, brightness: Array, shine: Array | float = 0.0) -> Array:
    level = _level(body, brightness)
    # even black reflects a little, or its grain would be invisible
    picture: Array = body.albedo * level
    picture += shine + 0.1 * np.clip(level - 1, 0, 1)
    return picture


def _matte(body: Body) -> Array:
    return _lit(body, _diffuse(body, body.lean_x, body.lean_y))


def _plastic(body: Body) -> Array:
    brightness = _diffuse(body, body.lean_x, body.lean_y, ambient=0.5)
    lamp = step(_shine(body, body.lean_x, body.lean_y, 60) - 0.55, 0.5)
    glow = _shine(body, body.lean_x, body.lean_y, 9)
    return _lit(body, brightness + 0.3 * glow, 0.85 * lamp + 0.05 * glow)


def _metallic(body: Body) -> Array:
    # a mirror of a bright sky above a dark ground; the brushed kind smears it along its lines
    brushed = body.is_sheet or body.rng.random() < 0.4
    if brushed:
        lines = streaks(body.rng, 4 * body.x, 110 * body.y)
        lines = lines + streaks(body.rng, 2 * body.x + 7, 50 * body.y)
        up = -body.lean_y + 0.25 * body.lean_x + 0.18 * lines
    else:
        wobble = noise(body.rng, body.size, 3)
        up = -1.6 * body.lean_y + 0.5 * body.lean_x + 0.25 * wobble
    height = up / np.sqrt(1 + up * up)
    sky = np.exp(-4 * np.abs(height - 0.35))
    ground = step(height + 0.1, 0.3)
    mirror = 0.35 + 0.45 * ground + 1.1 * sky + 0.35 * np.clip(-height - 0.4, 0, 1)
    mirror = _level(body, mirror)
    glint = np.clip(mirror - 1.25, 0, 1)
    lamp = _shine(body, body.lean_x, body.lean_y, 40)
    # a sheet is mostly glare: less of it leaves a pattern on it visible
    glare = 0.5 if body.is_sheet else 1.0
    picture = body.albedo * (1 + (mirror - 1) * (0.5 + 0.5 * glare))
    picture += glare * (0.45 * glint + 0.6 * lamp)
    return picture


def _glassy(body: Body) -> Array:
    # a lens shows the world behind it upside down, tinted, with a bright rim and sharp lamps
    red, green, blue = body.behind[:, ::-1, ::-1]
    inverted = 0.3 * red + 0.6 * green + 0.1 * blue
    steep = np.sqrt(body.lean_x**2 + body.lean_y**2)
    rim = np.clip(steep / 1.6, 0, 1) ** 2
    lx, ly, _ = body.light
    # light gathers on the side away from the lamp
    gathered = np.clip((lx * body.lean_x + ly * body.lean_y) / (1 + steep), 0, 1)
    through = 0.45 + 0.8 * inverted + 1.3 * gathered - 0.55 * rim
    lamp = step(_shine(body, body.lean_x, body.lean_y, 120) - 0.5, 0.3)
    window = step(_shine(body, 1.7 * body.lean_x + 0.6, 1.7 * body.lean_y - 0.2, 90) - 0.5, 0.3)
    if body.is_sheet:
        # a pane: slanting reflections of a window
        slant = 1.2 * body.x + 0.12 * body.rng.random()
        window = np.maximum(0.5 * bands(slant, 0.26, 0.03), 0.5 * bands(slant + 0.3, 0.08, 0.03))
    clear = _lit(body, through, 0.95 * lamp + 0.45 * window)
    # a little of the world comes through untinted
    clear += 0.16 * (body.behind - clear) * (1 - rim)
    return clear


def _fabric(body: Body) -> Array:
    # linen: threads of uneven thickness along and across, in soft folds
    threads = body.rng.uniform(64, 80)
    sway = 0.5 * noise(body.rng, body.size, 5)
    u, v = threads * body.x + sway, threads * body.y + sway
    weave = 0.2 * streaks(body.rng, 0.14 * u, v) + 0.2 * streaks(body.rng, 0.14 * v, u)
    weave = weave + 0.1 * np.sin(np.pi * u) * np.sin(np.pi * v)
    folds = 0.03 * noise(body.rng, body.size, 4, stretch=0.4)
    return _lit(body, _diffuse(body, *body.tilted(folds, 1.5)) * (1 + weave))


def _wooden(body: Body) -> Array:
    # growth rings: long wavering lines that bend round a knot
    knot_x, knot_y = body.rng.uniform(-0.25, 0.25), body.rng.uniform(-0.25, 0.25)
    reach = ((body.x - knot_x) / 0.16) ** 2 + ((body.y - knot_y) / 0.07) ** 2
    knot = np.exp(-reach)
    lattice_x = 2.2 * body.x
    waver = streaks(body.rng, lattice_x, 4 * body.y)
    ring = body.rng.uniform(12, 18) * body.y + 1.1 * waver + 2.2 * knot
    saw = ring - np.floor(ring)
    late = saw**2 * step(0.97 - saw, 0.06)
    fibre = streaks(body.rng, 7 * body.x, 130 * body.y)
    pores = step(streaks(body.rng, 12 * body.x + 5, 100 * body.y) - 0.62, 0.2)
    grain = 1.08 - 0.42 * late + 0.1 * fibre - 0.25 * pores - 0.35 * step(knot - 0.8, 0.15)
    return _lit(body, _diffuse(body, body.lean_x, body.lean_y) * grain)


def _stone(body: Body) -> Array:
    rough = clouds(body.rng, body.size, 7)
    grit = noise(body.rng, body.size, 75)
    height = 0.02 * rough + 0.0028 * grit
    brightness = _diffuse(body, *body.tilted(height, 1.0), ambient=0.35)
    fleck = step(noise(body.rng, body.size, 60) - 0.55, 0.15)
    dark = step(noise(body.rng, body.size, 45) - 0.5, 0.15)
    speckle = 1 + 0.2 * rough + 0.22 * fleck - 0.26 * dark
    return _lit(body, brightness * speckle)


def _furry(body: Body) -> Array:
    # strands that follow a slowly turning direction, in tufts
    turn = 0.05 * noise(body.rng, body.size, 4)
    across = body.y + turn
    # every strand starts and ends elsewhere
    tufts = streaks(body.rng, 12 * body.x, 26 * across)
    fine = streaks(body.rng, 17 * body.x + 2 * tufts, 100 * across + 1.5 * tufts)
    hair = np.clip(1 + 0.5 * fine + 0.3 * tufts, 0.3, 1.7)
    return _lit(body, _diffuse(body, *body.tilted(0.003 * tufts, 1.0), ambient=0.5) * hair)


def _paper(body: Body) -> Array:
    # crumpled: flat facets of several sizes, each turned its own way
    bend = noise(body.rng, body.size, 5)
    u, v = body.x + 0.05 * bend, body.y - 0.05 * bend
    height = 0.040 * facets(body.rng, 5 * u, 5 * v)
    height = height + 0.017 * facets(body.rng, 9 * v + 4 * u, 9 * u - 4 * v)
    height = height + 0.006 * facets(body.rng, 19 * u - 6 * v, 19 * v + 6 * u)
    return _lit(body, _diffuse(body, *body.tilted(height, 1.0), ambient=0.4))


def _leather(body: Body) -> Array:
    pebbles = body.rng.uniform(34, 46)
    bend = 0.5 * noise(body.rng, body.size, 12)
    first, second, own = cells(body.rng, pebbles * body.x + bend, pebbles * body.y, jitter=1.0)
    gap = resize(np.clip((second - first) / 0.4, 0, 1), body.size)
    creases = 0.012 * np.abs(noise(body.rng, body.size, 7))
    lean_x, lean_y = body.tilted(0.3 * gap / pebbles + creases, 1.0)
    brightness = _diffuse(body, lean_x, lean_y) * (0.72 + 0.28 * gap)
    sheen = _shine(body, lean_x, lean_y, 12)
    return _lit(body, brightness + 0.2 * doubled(own, body.size), 0.22 * sheen)


def _glittery(body: Body) -> Array:
    flakes = body.rng.uniform(70, 95)
    lattice = body.rng.random((2, 128, 128)).astype(np.float32)
    column = (np.floor(flakes * (body.x + 4)) % 128).astype(np.int32)
    row = (np.floor(flakes * (body.y + 4)) % 128).astype(np.int32)
    facet, flash = lattice[0][row, column], lattice[1][row, column]
    brightness = _diffuse(body, body.lean_x, body.lean_y) * (0.6 + 0.8 * facet)
    return _lit(body, brightness, 0.9 * step(flash - 0.94, 0.03))


@dataclass(frozen=True)
class Material:
    """How to render a material.

    `bulge`: how round its bodies are (0 flat, 1 a ball), `edge`: the share of the radius over
    which they round off, `fray`: how far (in image widths) the outline is ruffled, `noun`: what
    a caption calls a surface of it.
    """

    render: Callable[[Body], Array]
    noun: str
    bulge: float
    edge: float
    fray: float = 0.0


MATERIALS = {
    "matte": Material(_matte, "surface", bulge=0.35, edge=0.5),
    "plastic": Material(_plastic, "plastic", bulge=0.8, edge=0.9),
    "metallic": Material(_metallic, "metal", bulge=0.8, edge=0.8),
    "glassy": Material(_glassy, "glass", bulge=1.0, edge=0.9),
    "fabric": Material(_fabric, "fabric", bulge=0.35, edge=0.6),
    "wooden": Material(_wooden, "wood", bulge=0.25, edge=0.2),
    "stone": Material(_stone, "stone", bulge=0.5, edge=0.6, fray=0.012),
    "furry": Material(_furry, "fur", bulge=0.5, edge=0.8, fray=0.03),
    "paper": Material(_paper, "paper", bulge=0.15, edge=0.2, fray=0.004),
    "leather": Material(_leather, "leather", bulge=0.5, edge=0.5),
    "glittery": Material(_glittery, "glitter", bulge=0.35, edge=0.5),
}
