"""Materials: how light plays on a surface, and the grain a substance brings along."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from profiler.synthetic.raster import Array, cells, clouds, noise, slopes, step, streaks


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

    def tilted(self, height: Array, strength: float) -> tuple[Array, Array]:
        """The body's leans with those of a fine relief (heights in image widths) added."""
        right, down = slopes(height, 1 / self.size)
        return self.lean_x + strength * right, self.lean_y + strength * down


def _diffuse(body: Body, lean_x: Array, lean_y: Array, ambient: float = 0.4) -> Array:
    """Brightness (size, size) of a dull surface: 1 where it faces the viewer, on average."""
    lx, ly, lz = body.light
    length = np.sqrt(lean_x * lean_x + lean_y * lean_y + 1)
    facing = np.clip((lz - lx * lean_x - ly * lean_y) / length, 0, None) / lz
    return ambient + (1 - ambient) * np.minimum(facing, 1.6)


def _shine(body: Body, lean_x: Array, lean_y: Array, sharpness: float) -> Array:
    """The mirror image of the lamp (size, size), in [0, 1]; sharper is smaller."""
    lx, ly, lz = body.light
    half = np.array([lx, ly, lz + 1])
    hx, hy, hz = half / np.linalg.norm(half)
    length = np.sqrt(lean_x * lean_x + lean_y * lean_y + 1)
    cosine = np.clip((hz - hx * lean_x - hy * lean_y) / length, 0, 1)
    return np.exp(sharpness * (cosine - 1))


def _level(brightness: Array, mask: Array) -> Array:
    """Brightness scaled to a mean of 1 over the body, so that its colour keeps its name."""
    mean = float((brightness * mask).sum() / max(float(mask.sum()), 1.0))
    return brightness / max(mean, 1e-3)


def _lit(body: Body, brightness: Array, shine: Array | float = 0.0) -> Array:
    return body.albedo * _level(brightness, body.mask) + shine


def matte(body: Body) -> Array:
    return _lit(body, _diffuse(body, body.lean_x, body.lean_y))


def plastic(body: Body) -> Array:
    brightness = _diffuse(body, body.lean_x, body.lean_y, ambient=0.5)
    lamp = step(_shine(body, body.lean_x, body.lean_y, 60) - 0.5, 0.35)
    glow = _shine(body, body.lean_x, body.lean_y, 9)
    return _lit(body, brightness, 0.8 * lamp + 0.14 * glow)


def metallic(body: Body) -> Array:
    # a mirror of a bright sky above a dark ground; the brushed kind smears it along its lines
    brushed = body.rng.random() < 0.4
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
    mirror = _level(mirror, body.mask)
    glint = np.clip(mirror - 1.25, 0, 1)
    lamp = _shine(body, body.lean_x, body.lean_y, 40)
    return body.albedo * mirror + 0.45 * glint + 0.6 * lamp


def glassy(body: Body) -> Array:
    # a lens shows the world behind it upside down, tinted, with a bright rim and sharp lamps
    inverted = body.behind[:, ::-1, ::-1].mean(axis=0)
    steep = np.sqrt(body.lean_x**2 + body.lean_y**2)
    rim = np.clip(steep / 1.6, 0, 1) ** 2
    lx, ly, _ = body.light
    # light gathers on the side away from the lamp
    gathered = np.clip((lx * body.lean_x + ly * body.lean_y) / (1 + steep), 0, 1)
    through = 0.55 + 0.5 * inverted + 0.9 * gathered - 0.35 * rim
    lamp = step(_shine(body, body.lean_x, body.lean_y, 120) - 0.5, 0.3)
    window = step(_shine(body, 1.7 * body.lean_x + 0.6, 1.7 * body.lean_y - 0.2, 90) - 0.5, 0.3)
    return _lit(body, through, 0.95 * lamp + 0.45 * window + 0.25 * rim**3)


def fabric(body: Body) -> Array:
    threads = body.rng.uniform(40, 58)
    u, v = threads * body.x, threads * body.y
    thick = streaks(body.rng, 0.25 * u, v), streaks(body.rng, 0.25 * v + 9, u)
    weave = np.sin(np.pi * u) * np.sin(np.pi * v)
    over = np.cos(2 * np.pi * v) * (0.5 + 0.5 * weave) + np.cos(2 * np.pi * u) * (0.5 - 0.5 * weave)
    folds = 0.02 * noise(body.rng, body.size, 3, stretch=0.5)
    brightness = _diffuse(body, *body.tilted(folds, 1.5))
    cloth = 1 + 0.2 * over + 0.14 * thick[0] * (1 + weave) + 0.14 * thick[1] * (1 - weave)
    return _lit(body, brightness * cloth)


def wooden(body: Body) -> Array:
    # growth rings: long wavering lines that bend round a knot
    knot_x, knot_y = body.rng.uniform(-0.25, 0.25, 2)
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


def stone(body: Body) -> Array:
    rough = clouds(body.rng, body.size, 7)
    grit = noise(body.rng, body.size, 75)
    height = 0.02 * rough + 0.0028 * grit
    brightness = _diffuse(body, *body.tilted(height, 1.0), ambient=0.35)
    fleck = step(noise(body.rng, body.size, 60) - 0.55, 0.15)
    dark = step(noise(body.rng, body.size, 45) - 0.5, 0.15)
    speckle = 1 + 0.15 * rough + 0.28 * fleck - 0.32 * dark
    return _lit(body, brightness * speckle)


def furry(body: Body) -> Array:
    # strands that follow a slowly turning direction, in tufts
    turn = 0.10 * noise(body.rng, body.size, 4)
    sway = 0.05 * noise(body.rng, body.size, 9)
    along, across = body.x + turn, body.y + turn + sway
    fine = streaks(body.rng, 13 * along, 85 * across)
    tufts = streaks(body.rng, 7 * along + 3, 26 * across)
    hair = 1 + 0.42 * fine + 0.34 * tufts
    brightness = _diffuse(body, *body.tilted(0.004 * tufts, 1.0), ambient=0.5)
    return _lit(body, brightness * np.clip(hair, 0.25, 2))


def paper(body: Body) -> Array:
    # crumpled: flat facets, each turned its own way, with bright creases
    bend = 0.35 * noise(body.rng, body.size, 6)
    first, second, own = cells(body.rng, 6 * body.x + bend, 6 * body.y - bend, jitter=1.0)
    small, next_small, tiny = cells(body.rng, 14 * body.x, 14 * body.y, jitter=1.0)
    large_turn, small_turn = 2 * np.pi * 5 * own, 2 * np.pi * 5 * tiny
    lean_x = body.lean_x + 0.3 * np.cos(large_turn) + 0.12 * np.cos(small_turn)
    lean_y = body.lean_y + 0.3 * np.sin(large_turn) + 0.12 * np.sin(small_turn)
    crease = 0.12 * step(0.06 - (second - first), 0.06)
    crease = crease + 0.05 * step(0.06 - (next_small - small), 0.08)
    return _lit(body, _diffuse(body, lean_x, lean_y, ambient=0.45) + crease)


def leather(body: Body) -> Array:
    pebbles = body.rng.uniform(24, 34)
    bend = 0.5 * noise(body.rng, body.size, 12)
    first, second, own = cells(body.rng, pebbles * body.x + bend, pebbles * body.y, jitter=0.9)
    gap = np.clip((second - first) / 0.35, 0, 1)
    lean_x, lean_y = body.tilted(0.35 * np.sqrt(gap) / pebbles, 1.0)
    brightness = _diffuse(body, lean_x, lean_y) * (0.55 + 0.45 * gap) * (0.9 + 0.2 * own)
    sheen = _shine(body, lean_x, lean_y, 14)
    return _lit(body, brightness, 0.22 * sheen)


def glittery(body: Body) -> Array:
    flakes = body.rng.uniform(70, 95)
    lattice = body.rng.random((2, 128, 128)).astype(np.float32)
    column = (np.floor(flakes * (body.x + 4)) % 128).astype(np.int32)
    row = (np.floor(flakes * (body.y + 4)) % 128).astype(np.int32)
    facet, flash = lattice[0][row, column], lattice[1][row, column]
    brightness = _diffuse(body, body.lean_x, body.lean_y) * (0.45 + 1.1 * facet)
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
    "matte": Material(matte, "surface", bulge=0.35, edge=0.5),
    "plastic": Material(plastic, "plastic", bulge=0.8, edge=0.9),
    "metallic": Material(metallic, "metal", bulge=0.8, edge=0.8),
    "glassy": Material(glassy, "glass", bulge=1.0, edge=0.9),
    "fabric": Material(fabric, "fabric", bulge=0.35, edge=0.6),
    "wooden": Material(wooden, "wood", bulge=0.25, edge=0.2),
    "stone": Material(stone, "stone", bulge=0.5, edge=0.6, fray=0.012),
    "furry": Material(furry, "fur", bulge=0.5, edge=0.8, fray=0.03),
    "paper": Material(paper, "paper", bulge=0.15, edge=0.2, fray=0.004),
    "leather": Material(leather, "leather", bulge=0.5, edge=0.5),
    "glittery": Material(glittery, "glitter", bulge=0.35, edge=0.5),
}
