"""Fields of numbers over the image: grids, noise, bands and relief.

Every field is a float32 array (size, size), row 0 at the top. Lengths are in image widths unless
a docstring says otherwise, so that a scene keeps its layout when it is drawn at another size.
"""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

# float32 everywhere; numpy's stubs lose the precision in mixed arithmetic, so it is not spelled out
Array: TypeAlias = NDArray[Any]


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[Array, Array]:
    """The x and y of every pixel's centre, in image widths: two read-only (size, size) arrays."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def resize(field: Array, size: int) -> Array:
    """A field stretched smoothly to (size, size)."""
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def noise(rng: np.random.Generator, size: int, cells: float, stretch: float = 1.0) -> Array:
    """Smooth random values, mostly in [-1, 1], with about `cells` lumps across the image.

    `stretch` > 1 makes the lumps that many times as wide as they are high.
    """
    high, wide = max(1.0, cells), max(1.0, cells / stretch)
    lattice = rng.uniform(-1, 1, (int(high) + 4, int(wide) + 4)).astype(np.float32)
    dx, dy = rng.random(2)
    image = Image.fromarray(lattice)
    box = (1 + dx, 1 + dy, 1 + dx + wide, 1 + dy + high)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def clouds(rng: np.random.Generator, size: int, cells: float, stretch: float = 1.0) -> Array:
    """Noise with detail at every scale: four octaves, each half as strong and twice as fine."""
    field = noise(rng, size, cells, stretch)
    for octave in (2, 4, 8):
        field = field + noise(rng, size, cells * octave, stretch) / octave
    return field / 1.5


def sample(lattice: Array, u: Array, v: Array) -> Array:
    """The lattice, repeated without end, read at column u and row v (bilinear)."""
    column, row = np.floor(u), np.floor(v)
    right, down = u - column, v - row
    rows, columns = lattice.shape
    left, top = column.astype(np.int32) % columns, row.astype(np.int32) % rows
    here = top * columns + left
    wrap_right = np.where(left == columns - 1, 1 - columns, 1)
    below = np.where(top == rows - 1, left, here + columns)
    flat = lattice.ravel()
    upper = flat.take(here) * (1 - right) + flat.take(here + wrap_right) * right
    lower = flat.take(below) * (1 - right) + flat.take(below + wrap_right) * right
    return upper * (1 - down) + lower * down


def streaks(rng: np.random.Generator, along: Array, across: Array) -> Array:
    """Fibres in [-1, 1]: noise with one lump a unit of `along` and one a unit of `across`."""
    lattice = rng.uniform(-1, 1, (96, 64)).astype(np.float32)
    return sample(lattice, along, across)


def step(value: Array, softness: float) -> Array:
    """0 where value < 0 and 1 where value > 0, with an antialiased edge `softness` wide."""
    return np.clip(value / softness + 0.5, 0, 1)


def off_centre(value: Array) -> Array:
    """The signed distance to the nearest whole number, in [-0.5, 0.5]."""
    return value - np.rint(value)


def bands(value: Array, width: float, softness: float) -> Array:
    """1 inside bands `width` wide (in [0, 1]) around every whole number, 0 between them."""
    return step(width / 2 - np.abs(off_centre(value)), softness)


def cells(
    rng: np.random.Generator, u: Array, v: Array, jitter: float = 0.9
) -> tuple[Array, Array, Array]:
    """Random cells, one to each unit square of (u, v): stones, cracks, facets.

    Returns for every point the distance to the nearest cell centre, the distance to the second
    nearest, and the nearest cell's own random number in [0, 1). It works on a field of half the
    size, since it visits nine squares for every point.
    """
    size = u.shape[0]
    u, v = u[::2, ::2], v[::2, ::2]
    side = 64
    shift_u, shift_v, own = rng.random((3, side * side)).astype(np.float32)
    shift_u, shift_v = (0.5 + jitter * (shift - 0.5) for shift in (shift_u, shift_v))
    column, row = np.floor(u), np.floor(v)
    inside_u, inside_v = u - column, v - row
    first = np.full(u.shape, 9.0, dtype=np.float32)
    second = first.copy()
    value = np.zeros_like(first)
    columns, rows = column.astype(np.int32), row.astype(np.int32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            index = (rows + down) % side * side + (columns + right) % side
            gap_u = shift_u.take(index) + right - inside_u
            gap_v = shift_v.take(index) + down - inside_v
            distance = gap_u * gap_u + gap_v * gap_v
            second = np.minimum(second, np.maximum(first, distance))
            value = np.where(distance < first, own.take(index), value)
            first = np.minimum(first, distance)
    return resize(np.sqrt(first), size), resize(np.sqrt(second), size), resize(value, size)


def slopes(height: Array, pixel: float) -> tuple[Array, Array]:
    """The rise of a height field to the right and downwards, `pixel` being a pixel's width."""
    down, right = np.gradient(height)
    return right / pixel, down / pixel


def blurred(field: Array, radius: float) -> Array:
    """The field smoothed by a Gaussian of `radius` image widths, worked out at quarter size."""
    size = field.shape[0]
    small = resize(field, max(8, size // 4))
    return resize(ndimage.gaussian_filter(small, radius * small.shape[0]), size)
