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

# random lattices repeat after this many squares: a power of two, so that & can wrap
_SIDE = 64
_LAST = _SIDE - 1


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


def clouds(rng: np.random.Generator, size: int, cells: float, stretch: float = 1.0) -> Array:
    """Noise with detail at every scale: four octaves, each half as strong and twice as fine."""
    return noise(rng, size, cells, stretch, octaves=4) / 1.5


def noise(
    rng: np.random.Generator, size: int, cells: float, stretch: float = 1.0, octaves: int = 1
) -> Array:
    """Smooth random values, mostly in [-1, 1], with about `cells` lumps across the image.

    `stretch` > 1 makes the lumps that many times as wide as they are high.
    """
    high, wide = max(1.0, cells), max(1.0, cells / stretch)
    rows, columns = int(high) + 4, int(wide) + 4
    lattice = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    for octave in range(1, octaves):
        # finer lumps are added to a lattice of twice the size: cheaper than to the finished field
        rows, columns = 2 * rows, 2 * columns
        finer = rng.uniform(-(0.5**octave), 0.5**octave, (rows, columns)).astype(np.float32)
        lattice = finer + np.asarray(
            Image.fromarray(lattice).resize((columns, rows), Image.Resampling.BILINEAR)
        )
    zoom = 2 ** (octaves - 1)
    left, top = zoom * (1 + rng.random()), zoom * (1 + rng.random())
    box = (left, top, left + zoom * wide, top + zoom * high)
    image = Image.fromarray(lattice)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def streaks(rng: np.random.Generator, along: Array, across: Array) -> Array:
    """Fibres in [-1, 1]: noise with one lump a unit of `along` and one a unit of `across`."""
    corners, right, down = _corners(rng, along, across)
    upper = corners[0] + (corners[1] - corners[0]) * right
    lower = corners[2] + (corners[3] - corners[2]) * right
    value: Array = upper + (lower - upper) * down
    return value


def facets(rng: np.random.Generator, u: Array, v: Array) -> Array:
    """A height in [-1, 1] made of flat triangles, two to each unit square of (u, v)."""
    corners, right, down = _corners(rng, u, v)
    over = np.maximum(right, down)
    under = np.minimum(right, down)
    # the square is cut along its diagonal: the nearer of the other two corners takes part
    turn = (right > down).astype(np.float32)
    middle = corners[2] + (corners[1] - corners[2]) * turn
    height: Array = corners[0] * (1 - over) + middle * (over - under) + corners[3] * under
    return height


def _corners(rng: np.random.Generator, u: Array, v: Array) -> tuple[list[Array], Array, Array]:
    """Random values at the corners of each point's square, and its place within the square."""
    flat = rng.uniform(-1, 1, (_SIDE, _SIDE)).astype(np.float32).ravel()
    column, row = np.floor(u), np.floor(v)
    left, top = column.astype(np.int32) & _LAST, row.astype(np.int32) & _LAST
    right, below = (left + 1) & _LAST, ((top + 1) & _LAST) * _SIDE
    top = top * _SIDE
    values = [flat.take(index) for index in (top + left, top + right, below + left, below + right)]
    return values, u - column, v - row


def step(value: Array, softness: Array | float) -> Array:
    """0 where value < 0 and 1 where value > 0, with an antialiased edge `softness` wide."""
    return np.clip(value / softness + 0.5, 0, 1)


def off_centre(value: Array) -> Array:
    """The signed distance to the nearest whole number, in [-0.5, 0.5]."""
    return value - np.rint(value)


def bands(value: Array, width: Array | float, softness: Array | float) -> Array:
    """1 inside bands `width` wide (in [0, 1]) around every whole number, 0 between them."""
    return step(width / 2 - np.abs(off_centre(value)), softness)


def cells(
    rng: np.random.Generator, u: Array, v: Array, jitter: float = 0.9
) -> tuple[Array, Array, Array]:
    """Random cells, one to each unit square of (u, v): stones, cracks, facets.

    Returns for every point the distance to the nearest cell centre, the distance to the second
    nearest, and the nearest cell's own random number in [0, 1). The three fields have half the
    size, since nine squares are visited for every point: enlarge those that are needed.
    """
    u, v = u[::2, ::2], v[::2, ::2]
    shift_u, shift_v, own = rng.random((3, _SIDE * _SIDE)).astype(np.float32)
    shift_u, shift_v = (0.5 + jitter * (shift - 0.5) for shift in (shift_u, shift_v))
    column, row = np.floor(u), np.floor(v)
    inside_u, inside_v = u - column, v - row
    first = np.full(u.shape, 9.0, dtype=np.float32)
    second = first.copy()
    value = np.zeros_like(first)
    columns, rows = column.astype(np.int32), row.astype(np.int32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            index = ((rows + down) & _LAST) * _SIDE + ((columns + right) & _LAST)
            gap_u = shift_u.take(index) + right - inside_u
            gap_v = shift_v.take(index) + down - inside_v
            distance = gap_u * gap_u + gap_v * gap_v
            second = np.minimum(second, np.maximum(first, distance))
            value = np.where(distance < first, own.take(index), value)
            first = np.minimum(first, distance)
    return np.sqrt(first), np.sqrt(second), value


def slopes(height: Array, pixel: float) -> tuple[Array, Array]:
    """The rise of a height field to the right and downwards, `pixel` being a pixel's width."""
    down, right = np.gradient(height)
    return right / pixel, down / pixel


def doubled(field: Array, size: int) -> Array:
    """A field of half the size enlarged without blending: for numbers that name a cell."""
    return field.repeat(2, axis=0).repeat(2, axis=1)[:size, :size]


def blurred(field: Array, radius: float) -> Array:
    """The field smoothed by a Gaussian of `radius` image widths, worked out at quarter size."""
    size = field.shape[0]
    small = resize(field, max(8, size // 4))
    return resize(ndimage.gaussian_filter(small, radius * small.shape[0]), size)
