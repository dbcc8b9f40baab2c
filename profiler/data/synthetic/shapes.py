"""The outlines of objects, as polygons in a disc of radius 1."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from profiler.data.synthetic.raster import Array

# shapes are drawn this many times too large and averaged down: antialiased edges
_OVERSAMPLING = 3


@dataclass(frozen=True)
class Shape:
    """One outline: points (n, 2) with x to the right and y downwards, and a hole cut from it."""

    outline: Array
    hole: Array | None = None
    turn: float = 180.0  # the largest rotation, in degrees, that keeps the shape its name


def _polar(corners: int, radii: tuple[float, ...] = (1.0,)) -> Array:
    """A polygon with the first corner at the top; the radii take turns."""
    angles = 2 * np.pi * np.arange(corners) / corners
    radius = np.resize(radii, corners)
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], axis=1)


def _circle(radius: float = 1.0, x: float = 0.0, squash: float = 1.0) -> Array:
    return _polar(90) * [radius, radius * squash] + [x, 0.0]


def _heart() -> Array:
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2], axis=1) / 17


def _drop() -> Array:
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.stack([0.72 * np.sin(t) * np.sin(t / 2) ** 1.6, -np.cos(t)], axis=1)


def _flower() -> Array:
    t = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius = 0.72 + 0.28 * np.cos(6 * t)
    return np.stack([radius * np.sin(t), -radius * np.cos(t)], axis=1)


def _plus(arm: float) -> Array:
    quarter = np.array([[-arm, -1], [arm, -1], [arm, -arm]])
    turned = [quarter @ np.linalg.matrix_power([[0, 1], [-1, 0]], k) for k in range(4)]
    return np.concatenate(turned)


_ARROW = np.array(
    [[1, 0], [0.25, -0.8], [0.25, -0.3], [-1, -0.3], [-1, 0.3], [0.25, 0.3], [0.25, 0.8]]
)
_SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.8
_DIAMOND = np.array([[0, -1], [0.68, 0], [0, 1], [-0.68, 0]])

SHAPES = {
    "circle": Shape(_circle()),
    "ellipse": Shape(_circle(squash=0.55)),
    "square": Shape(_SQUARE, turn=20),
    "diamond": Shape(_DIAMOND, turn=12),
    "triangle": Shape(_polar(3)),
    "hexagon": Shape(_polar(6)),
    "star": Shape(_polar(10, (1.0, 0.45))),
    "cross": Shape(_plus(0.34), turn=18),
    "ring": Shape(_circle(), hole=_circle(0.52)),
    "crescent": Shape(_circle(), hole=_circle(0.82, x=0.45)),
    "heart": Shape(_heart(), turn=30),
    "arrow": Shape(_ARROW),
    "drop": Shape(_drop(), turn=40),
    "flower": Shape(_flower()),
}


def draw_shape(name: str, size: int, x: float, y: float, radius: float, rotation: float) -> Array:
    """The share of each pixel (size, size) the shape covers, in [0, 1].

    The centre (x, y) and the radius are in image widths, the rotation in degrees clockwise.
    """
    shape = SHAPES[name]
    angle = np.radians(rotation)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    large = size * _OVERSAMPLING
    image = Image.new("L", (large, large))
    pen = ImageDraw.Draw(image)
    for polygon, ink in ((shape.outline, 255), (shape.hole, 0)):
        if polygon is not None:
            points = (polygon @ turn * radius + [x, y]) * large
            pen.polygon([(float(px), float(py)) for px, py in points], fill=ink)
    covered = np.asarray(image.reduce(_OVERSAMPLING), dtype=np.float32)
    return covered / 255
