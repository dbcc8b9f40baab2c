"""Backgrounds: simple landscapes, rooms and walls, each a picture (3, size, size) in [0, 1]."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from profiler.data.synthetic.color import RGB
from profiler.data.synthetic.raster import Array, bands, clouds, grid, noise, step, streaks

Draw = Callable[[np.random.Generator, int], Array]


def _paint(rgb: RGB, brightness: Array | float = 1.0) -> Array:
    """One colour (3, 1, 1), or that colour times a field (3, size, size)."""
    return np.array(rgb, dtype=np.float32)[:, None, None] * brightness


def _mix(below: Array, above: Array, share: Array) -> Array:
    mixed = (above - below) * share
    mixed += below
    return mixed


def _ramp(values: Array, stops: tuple[float, ...], colors: tuple[RGB, ...]) -> Array:
    """Colours (3, size, 1) blended along a column of values (size,)."""
    channels = [np.interp(values, stops, [color[k] for color in colors]) for k in range(3)]
    return np.array(channels, dtype=np.float32)[:, :, None]


def _vary(rng: np.random.Generator, rgb: RGB, by: float = 0.05) -> RGB:
    """A colour near the given one, mostly a change of brightness."""
    common = rng.uniform(-by, by)
    red, green, blue = (np.clip(c + common + rng.uniform(-by, by) / 3, 0, 1) for c in rgb)
    return float(red), float(green), float(blue)


def _picture(image: Image.Image) -> Array:
    return np.moveaxis(np.asarray(image, dtype=np.float32), -1, 0) / 255


def _bytes(rgb: RGB) -> tuple[int, int, int]:
    return round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])


def _depth(size: int, horizon: float) -> tuple[Array, Array]:
    """A ground plane seen at a slant: its distance and its sideways place, below the horizon.

    Distance is 1 at the lower edge and grows towards the horizon; above it the fields go on
    (mirrored) and are to be covered.
    """
    x, y = grid(size)
    distance = (1 - horizon) / np.maximum(np.abs(y - horizon), 0.012)
    return distance, (x - 0.5) * distance


def _ridge(rng: np.random.Generator, size: int, height: float, rough: float) -> Array:
    """The upper edge (size,) of a range of hills, in image heights from the top."""
    places = np.linspace(0, 1, size)
    line = np.full(size, height)
    for bumps in (3, 6, 12, 24):
        phase, heights = rng.random(), rng.uniform(-1, 1, bumps + 3)
        at = bumps * places + phase
        # a half-cosine between two knots makes tops round
        nearest = np.floor(at).astype(int)
        share = 0.5 - 0.5 * np.cos(np.pi * (at - nearest))
        bend = heights[nearest] + (heights[nearest + 1] - heights[nearest]) * share
        line += rough * 2.0 / bumps * bend
    return line.astype(np.float32)


def _below(line: Array) -> Array:
    """1 below a line (size,) of heights, 0 above, antialiased."""
    size = line.shape[0]
    _, y = grid(size)
    return step(y - line[None, :], 1.5 / size)


def _sprinkled(
    rng: np.random.Generator, size: int, count: int, smallest: float, largest: float
) -> Array:
    """Small bright discs (size, size) at random; their radii are pixels of a 224-pixel image."""
    image = Image.new("L", (size, size))
    pen = ImageDraw.Draw(image)
    for px, py, share in rng.random((count, 3)):
        radius = (smallest + (largest - smallest) * share) * size / 224
        box = (px * size - radius, py * size - radius, px * size + radius, py * size + radius)
        pen.ellipse(box, fill=int(130 + 125 * ((share * 17) % 1)))
    return np.asarray(image, dtype=np.float32) / 255


def _sky(rng: np.random.Generator, size: int) -> Array:
    _, y = grid(size)
    top = _vary(rng, (0.20, 0.45, 0.84))
    low = _vary(rng, (0.62, 0.80, 0.95))
    blue = _ramp(y[:, 0], (0, 1), (top, low))
    lumps = clouds(rng, size, 3, stretch=1.8)
    cover = np.clip(1.9 * (lumps - rng.uniform(-0.2, 0.12)), 0, 1)
    white = _paint((1, 1, 1), 0.97 - 0.16 * np.clip(cover - 0.4, 0, 1))
    return _mix(blue, white, cover)


def _air(rng: np.random.Generator, size: int, horizon: float) -> Array:
    """A quiet sky (3, size, size) that pales towards the horizon."""
    _, y = grid(size)
    top, low = _vary(rng, (0.36, 0.60, 0.90)), _vary(rng, (0.80, 0.89, 0.96), 0.03)
    blue = _ramp(y[:, 0], (0, horizon), (top, low))
    cover = np.clip(0.8 * clouds(rng, size, 3, stretch=3), 0, 1)
    return _mix(blue, _paint((1, 1, 1), np.ones((size, size), np.float32)), cover)


def _sea(rng: np.random.Generator, size: int) -> Array:
    horizon = rng.uniform(0.15, 0.3)
    _, y = grid(size)
    distance, side = _depth(size, horizon)
    far, near = _vary(rng, (0.12, 0.36, 0.58)), _vary(rng, (0.05, 0.36, 0.48))
    water = _ramp(y[:, 0], (horizon, 1), (far, near))
    waves = streaks(rng, 3 * side, 9 * distance) + 0.7 * streaks(rng, 7 * side, 22 * distance)
    # far waves are too fine to see
    calm = np.clip(1.6 / distance + 0.25, 0, 1)
    water = water * (1 + 0.22 * waves * calm)
    foam = step(waves * calm - 0.95, 0.3)
    water = _mix(water, _paint((0.93, 0.97, 1.0)), foam * 0.75)
    return _mix(_air(rng, size, horizon), water, step(y - horizon, 1 / size))


def _grass(rng: np.random.Generator, size: int) -> Array:
    horizon = rng.uniform(0.1, 0.3)
    x, y = grid(size)
    near = np.clip((y - horizon) / (1 - horizon), 0, 1)
    far_green, near_green = _vary(rng, (0.50, 0.68, 0.25)), _vary(rng, (0.22, 0.50, 0.13))
    green = _ramp(near[:, 0], (0, 1), (far_green, near_green))
    blades = streaks(rng, 9 * y, 110 * x) * near + 0.7 * streaks(rng, 6 * y + 4, 60 * x) * near
    tufts = clouds(rng, size, 7, stretch=2)
    meadow = green * (1 + 0.36 * blades + 0.14 * tufts)
    flowers = step(noise(rng, size, 42) - rng.uniform(0.78, 1.1), 0.08) * near
    petal = ((1.0, 0.95, 0.35), (1.0, 1.0, 1.0), (0.95, 0.35, 0.4))[rng.integers(3)]
    meadow = _mix(meadow, _paint(petal), flowers)
    return _mix(_air(rng, size, horizon), meadow, step(y - horizon - 0.01 * blades, 3 / size))


def _desert(rng: np.random.Generator, size: int) -> Array:
    horizon = rng.uniform(0.2, 0.35)
    _, y = grid(size)
    sand = _vary(rng, (0.87, 0.70, 0.46))
    bend = noise(rng, size, 3, stretch=2)
    distance, side = _depth(size, horizon - 0.12)
    ripples = np.sin(2 * np.pi * (11 * distance + 1.6 * bend + 0.8 * side))
    near = np.clip((y - horizon) / (1 - horizon), 0, 1)
    ground = _paint(sand, 1 + 0.13 * ripples * near + 0.08 * bend + 0.04 * noise(rng, size, 112))
    dune = _ridge(rng, size, horizon, 0.09)
    crest = _paint(_vary(rng, (0.93, 0.77, 0.53), 0.03), 1 + 0.12 * bend)
    hills = _mix(_air(rng, size, horizon), crest, _below(dune))
    # the near dune hides the foot of the far ones
    return _mix(hills, ground, _below(dune[::-1] + 0.09))


def _forest(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(size)
    light = _vary(rng, (0.62, 0.74, 0.45))
    haze = _paint(light, 0.75 + 0.3 * clouds(rng, size, 6))
    picture = haze
    bark = 1 + 0.3 * streaks(rng, 8 * y, 70 * x)
    leaf = clouds(rng, size, 14)
    mottle = 1 + 0.35 * noise(rng, size, 60)
    # three rows of trunks, darker as they come nearer
    for count, width, tone in ((13, 0.02, 0.62), (8, 0.032, 0.4), (4, 0.06, 0.22)):
        image = Image.new("L", (size, size))
        pen = ImageDraw.Draw(image)
        for place in (np.arange(count) + rng.random(count)) / count:
            lean, thick = rng.uniform(-0.03, 0.03), width * rng.uniform(0.7, 1.3)
            pen.polygon(
                [
                    ((place + lean - 0.4 * thick) * size, 0),
                    ((place + lean + 0.4 * thick) * size, 0),
                    ((place + 0.7 * thick) * size, size),
                    ((place - 0.7 * thick) * size, size),
                ],
                fill=255,
            )
        trunks = np.asarray(image, dtype=np.float32) / 255
        picture = _mix(
            picture, _paint((0.62 * tone + 0.06, 0.5 * tone + 0.06, 0.34 * tone), bark), trunks
        )
        # leaves hang from above and brush grows from below
        green = _paint((0.32 * tone + 0.08, 0.62 * tone + 0.12, 0.2 * tone + 0.03), mottle)
        picture = _mix(picture, green, step(leaf + 2.6 * np.abs(y - 0.55) - 1.25, 0.15))
        leaf = leaf[:, ::-1]
    return picture


def _snow(rng: np.random.Generator, size: int) -> Array:
    horizon = rng.uniform(0.25, 0.4)
    _, y = grid(size)
    pale = _ramp(y[:, 0], (0, horizon), (_vary(rng, (0.62, 0.70, 0.80)), (0.85, 0.88, 0.92)))
    picture = np.broadcast_to(pale, (3, size, size))
    # a row of snowy firs along the horizon
    image = Image.new("RGB", (size, size))
    mask = Image.new("L", (size, size))
    pen, cut = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    count = int(rng.integers(7, 13))
    for place in (np.arange(count) + rng.random(count)) / count:
        tall = rng.uniform(0.16, 0.34)
        for tier in range(4):
            peak = horizon + 0.04 - tall * (1 - 0.22 * tier)
            half = tall * (0.12 + 0.07 * tier)
            for ink, drop in (((235, 240, 247), 0.0), ((52, 84, 78), 0.035)):
                tip = (place * size, (peak + drop) * size)
                foot = (peak + drop + 0.3 * tall) * size
                corners = [tip, ((place - half) * size, foot), ((place + half) * size, foot)]
                pen.polygon(corners, fill=ink)
                cut.polygon(corners, fill=255)
    picture = _mix(picture, _picture(image), np.asarray(mask, dtype=np.float32) / 255)
    drifts = clouds(rng, size, 3, stretch=3)
    ground = _paint((0.93, 0.955, 1.0), 0.95 + 0.07 * drifts + 0.015 * noise(rng, size, 112))
    picture = _mix(picture, ground, _below(_ridge(rng, size, horizon, 0.02)))
    flakes = _sprinkled(rng, size, int(rng.integers(60, 140)), 0.8, 2.2)
    return _mix(picture, _paint((1, 1, 1)), 0.9 * flakes)


def _night_sky(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(size)
    deep, low = _vary(rng, (0.02, 0.02, 0.08), 0.015), _vary(rng, (0.05, 0.06, 0.18), 0.02)
    picture = _ramp(y[:, 0], (0, 1), (deep, low))
    haze = np.clip(clouds(rng, size, 3) + 0.2 - 3 * np.abs(x - y + rng.uniform(-0.4, 0.4)), 0, 1)
    picture = picture + _paint((0.22, 0.2, 0.34), haze)
    stars = _sprinkled(rng, size, int(rng.integers(120, 220)), 0.2, 0.9)
    stars = np.maximum(stars, _sprinkled(rng, size, 12, 0.9, 1.6))
    if rng.random() < 0.4:
        moon_x, moon_y, radius = *rng.uniform(0.12, 0.88, 2), rng.uniform(0.04, 0.08)
        distance = np.hypot(x - moon_x, y - moon_y)
        disc = step(radius - distance, 1.5 / size) * (0.86 + 0.12 * noise(rng, size, 30))
        stars = np.maximum(stars * (distance > radius), disc)
        stars = stars + 0.3 * np.exp(-((distance / (2 * radius)) ** 2)) * (distance > radius)
    return picture + _paint((1.0, 0.98, 0.9), stars)


def _sunset(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(size)
    horizon = rng.uniform(0.68, 0.8)
    top, middle = _vary(rng, (0.30, 0.24, 0.48), 0.12), _vary(rng, (0.86, 0.40, 0.38), 0.1)
    low = _vary(rng, (0.98, 0.66, 0.26), 0.06)
    picture = _ramp(y[:, 0], (0, 0.55 * horizon, horizon), (top, middle, low))
    sun_x, sun_y, radius = rng.uniform(0.15, 0.85), horizon - rng.uniform(0.0, 0.1), 0.075
    distance = np.hypot(x - sun_x, y - sun_y)
    glow = np.exp(-distance / 0.22)
    picture = picture + _paint((0.5, 0.3, 0.05), glow)
    picture = _mix(picture, _paint((1.0, 0.95, 0.7)), step(radius - distance, 2 / size))
    bars = np.clip(1.5 * clouds(rng, size, 8, stretch=5) - 0.3, 0, 0.75)
    picture = _mix(picture, _paint((0.55, 0.2, 0.32), 0.8 + 0.7 * glow), bars)
    if rng.random() < 0.5:
        # the sun's path on the water
        wave, side = _depth(size, horizon)
        glint = streaks(rng, 4 * side, 14 * wave)
        path = np.exp(-(((x - sun_x) / 0.13) ** 2)) * (0.6 + 0.6 * glint)
        ground = _paint((0.30, 0.17, 0.28), 1 + 0.35 * glint) + _paint((0.9, 0.5, 0.2), path)
        edge = np.full(size, horizon, dtype=np.float32)
    else:
        ground = _paint((0.07, 0.04, 0.07), np.ones((size, size), np.float32))
        edge = _ridge(rng, size, horizon, 0.05)
    return _mix(picture, ground, _below(edge))


def _mountains(rng: np.random.Generator, size: int) -> Array:
    _, y = grid(size)
    picture = _air(rng, size, 0.5)
    crags = clouds(rng, size, 9)
    line = _ridge(rng, size, 0.33, 0.17)
    rock = _paint(_vary(rng, (0.45, 0.47, 0.55)), 1 + 0.3 * crags)
    cap = step(line[None, :] + 0.10 + 0.09 * crags - y, 0.03)
    rock = _mix(rock, _paint((0.96, 0.97, 1.0)), cap)
    picture = _mix(picture, rock, _below(line))
    for height, tone in ((0.62, (0.33, 0.45, 0.38)), (0.8, (0.20, 0.34, 0.18))):
        hill = _paint(_vary(rng, tone, 0.03), 1 + 0.18 * crags + 0.06 * noise(rng, size, 90))
        picture = _mix(picture, hill, _below(_ridge(rng, size, height, 0.06)))
    return picture


def _city(rng: np.random.Generator, size: int) -> Array:
    night = rng.random() < 0.5
    _, y = grid(size)
    if night:
        stops = ((0.05, 0.06, 0.16), (0.30, 0.20, 0.34))
        walls, window, lit = (0.12, 0.12, 0.20), (255, 214, 120), 0.5
    else:
        stops = ((0.45, 0.66, 0.92), (0.85, 0.90, 0.95))
        walls, window, lit = (0.50, 0.53, 0.58), (44, 62, 88), 0.95
    air = np.broadcast_to(_ramp(y[:, 0], (0, 0.8), stops), (3, size, size))
    image = Image.fromarray((np.moveaxis(air, 0, -1) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    unit = size / 224
    for row, (low, high) in enumerate(((0.15, 0.45), (0.35, 0.65))):
        left = -rng.uniform(0, 20) * unit
        while left < size:
            wide = rng.uniform(20, 42) * unit
            top = rng.uniform(low, high) * size
            tone = _vary(rng, walls, 0.06)
            if row == 0:
                # far towers fade into the air
                red, green, blue = (0.6 * t + 0.4 * a for t, a in zip(tone, stops[1], strict=True))
                tone = (red, green, blue)
            pen.rectangle((left, top, left + wide, size), fill=_bytes(tone))
            gap = rng.uniform(7, 10) * unit
            for py in np.arange(top + gap / 2, size, gap):
                for px in np.arange(left + gap / 3, left + wide - gap / 2, gap):
                    if rng.random() < lit:
                        pen.rectangle((px, py, px + 0.4 * gap, py + 0.5 * gap), fill=window)
            left += wide + rng.uniform(-2, 5) * unit
    return _picture(image)


def _laid(
    rng: np.random.Generator, size: int, rows: float, ratio: float, joint: float
) -> tuple[Array, Array, Array, Array]:
    """Bricks or boards in rows, each `ratio` times as long as it is high.

    Returns the joints (1 in them), each piece's own number in [0, 1), and the place along and
    across the rows, in piece lengths and heights; all (size, size).
    """
    x, y = grid(size)
    across = rows * (y + rng.random())
    row = np.floor(across)
    shift = rng.random(64).astype(np.float32)[row.astype(np.int32) % 64]
    offset = 0.5 * (row % 2) if ratio < 4 else 3 * shift
    along = rows / ratio * (x + rng.random()) + offset
    softness = 1.5 * rows / size
    seams = np.maximum(
        bands(across, joint, softness), bands(along, joint / ratio, softness / ratio)
    )
    index = (row * 13 + np.floor(along) * 7).astype(np.int32) % 256
    return seams, rng.random(256).astype(np.float32)[index], along, across


def _brick_wall(rng: np.random.Generator, size: int) -> Array:
    seams, own, _, _ = _laid(rng, size, rng.uniform(9, 15), 2.6, 0.13)
    rough = 0.06 * clouds(rng, size, 20) + 0.08 * noise(rng, size, 90)
    brick = _paint(_vary(rng, (0.64, 0.29, 0.21)), 0.78 + 0.42 * own + rough)
    mortar = _paint(_vary(rng, (0.76, 0.72, 0.66)), 0.95 + rough)
    return _mix(brick, mortar, seams)


def _wooden_floor(rng: np.random.Generator, size: int) -> Array:
    seams, own, along, across = _laid(rng, size, rng.uniform(5, 8), 9, 0.05)
    shift = 37 * own
    ring = 2.2 * across + 1.3 * streaks(rng, 5 * along + shift, 1.6 * across + shift) + shift
    saw = ring - np.floor(ring)
    grain = 0.24 * saw**2 + 0.14 * streaks(rng, 18 * along + shift, 22 * across)
    boards = _paint(_vary(rng, (0.70, 0.48, 0.28)), 0.85 + 0.32 * own - grain)
    picture = _mix(boards, _paint((0.20, 0.12, 0.06)), 0.85 * seams)
    return picture if rng.random() < 0.5 else np.swapaxes(picture, 1, 2)


def _tiled_floor(rng: np.random.Generator, size: int) -> Array:
    x, y = grid(size)
    count = rng.uniform(4, 7)
    u, v = count * (x + rng.random()), count * (y + rng.random())
    joint = np.maximum(bands(u, 0.06, 2 * count / size), bands(v, 0.06, 2 * count / size))
    # the rims of a tile catch the light on one side
    glaze = 0.06 * ((u - np.floor(u)) + (v - np.floor(v)) - 1)
    index = (np.floor(u) * 13 + np.floor(v) * 7).astype(np.int32) % 256
    own = rng.random(256).astype(np.float32)[index]
    hue = ((0.74, 0.80, 0.84), (0.80, 0.76, 0.68), (0.60, 0.74, 0.72))[rng.integers(3)]
    tile = _paint(_vary(rng, hue), 0.95 + 0.1 * own - glaze + 0.03 * clouds(rng, size, 12))
    return _mix(tile, _paint((0.42, 0.42, 0.43)), joint)


def _plain_wall(rng: np.random.Generator, size: int) -> Array:
    tint = np.clip(rng.uniform(0.62, 0.9) + rng.uniform(-0.06, 0.06, 3), 0, 1)
    rgb = (float(tint[0]), float(tint[1]), float(tint[2]))
    x, y = grid(size)
    corner = (x - rng.random()) ** 2 + (y - rng.random()) ** 2
    plaster = 0.02 * clouds(rng, size, 10) + 0.012 * noise(rng, size, 112)
    return _paint(rgb, 1.04 - 0.14 * corner + plaster)


def _road(rng: np.random.Generator, size: int) -> Array:
    _, y = grid(size)
    horizon = rng.uniform(0.28, 0.4)
    distance, side = _depth(size, horizon)
    near = np.clip(1 / distance, 0, 1)
    grain = noise(rng, size, 112) * near
    verge = _paint(_vary(rng, (0.40, 0.55, 0.24)), 1 + 0.2 * clouds(rng, size, 10) + 0.1 * grain)
    tar = _paint(_vary(rng, (0.34, 0.34, 0.36)), 1 + 0.12 * grain)
    wide = rng.uniform(0.42, 0.55)
    soft = 3 * distance / size
    picture = _mix(verge, tar, np.clip((wide - np.abs(side)) / soft + 0.5, 0, 1))
    dashes = step(np.sin(2 * np.pi * (1.1 * distance + rng.random())), 0.3)
    middle = np.clip((0.022 - np.abs(side)) / soft + 0.5, 0, 1) * dashes
    border = np.clip((0.016 - np.abs(np.abs(side) - 0.9 * wide)) / soft + 0.5, 0, 1)
    picture = _mix(picture, _paint((0.95, 0.95, 0.92)), np.maximum(middle, border))
    return _mix(_air(rng, size, horizon), picture, step(y - horizon, 1.5 / size))


@dataclass(frozen=True)
class Background:
    """How to draw a background, and how to speak of it.

    `phrase`: how a caption places an object before it; `words`: further concept words that are
    true of it, such as its dominating colour or its substance.
    """

    draw: Draw
    phrase: str
    words: tuple[str, ...] = ()


BACKGROUNDS = {
    "sky": Background(_sky, "in a cloudy sky", ("blue", "clouds")),
    "night sky": Background(_night_sky, "in a starry night sky", ("black", "stars")),
    "sunset": Background(_sunset, "in front of a sunset", ("orange",)),
    "sea": Background(_sea, "over the sea", ("blue", "water")),
    "grass": Background(_grass, "on grass", ("green", "meadow")),
    "desert": Background(_desert, "in a sandy desert", ("sand",)),
    "forest": Background(_forest, "in a forest", ("green", "trees")),
    "snow": Background(_snow, "in the snow", ("white", "winter")),
    "mountains": Background(_mountains, "in front of mountains"),
    "city": Background(_city, "in front of a city skyline", ("buildings",)),
    "road": Background(_road, "on a road"),
    "brick wall": Background(_brick_wall, "in front of a brick wall", ("bricks",)),
    "wooden floor": Background(_wooden_floor, "on a wooden floor", ("wooden", "brown")),
    "tiled floor": Background(_tiled_floor, "on a tiled floor", ("tiles",)),
    "plain wall": Background(_plain_wall, "in front of a plain wall"),
}
