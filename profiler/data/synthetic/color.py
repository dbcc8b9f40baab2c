"""Named colours as ranges of lightness, chroma and hue in CIELAB."""

import math

import numpy as np

from profiler.data.synthetic.raster import Array

# linear sRGB <-> CIE XYZ, both relative to the D65 white point (0.9505, 1, 1.089)
_XYZ_FROM_RGB = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])
_RGB_FROM_XYZ: list[list[float]] = np.linalg.inv(_XYZ_FROM_RGB).tolist()

RGB = tuple[float, float, float]
Span = tuple[float, float]


COLORS: dict[str, tuple[Span, Span, Span]] = {
    "red": ((38, 52), (68, 95), (26, 40)),
    "orange": ((62, 74), (72, 95), (55, 70)),
    "yellow": ((80, 90), (65, 95), (91, 101)),
    "green": ((38, 70), (42, 85), (126, 152)),
    "blue": ((30, 58), (45, 90), (262, 298)),
    "purple": ((26, 46), (48, 85), (308, 324)),
    "pink": ((66, 82), (30, 58), (342, 368)),
    "brown": ((26, 42), (22, 42), (48, 68)),
    "black": ((5, 15), (0, 3), (0, 360)),
    "white": ((93, 98), (0, 3), (60, 110)),
    "gray": ((44, 66), (0, 3), (0, 360)),
}
"""The colours that a name covers: CIE lightness [0, 100], chroma, and hue in degrees."""


def lab_from_rgb(rgb: Array) -> Array:
    """CIELAB (..., 3) of sRGB values (..., 3) in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ_FROM_RGB.T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb_from_lch(lightness: float, chroma: float, hue: float) -> RGB:
    """The sRGB values in [0, 1]; a chroma that sRGB cannot show is lowered until it can."""
    angle = math.radians(hue)
    y = (lightness + 16) / 116
    for percent in range(100, -1, -5):
        reach = percent / 100 * chroma
        f = (y + reach * math.cos(angle) / 500, y, y - reach * math.sin(angle) / 200)
        xyz = [v**3 if v > 6 / 29 else 3 * (6 / 29) ** 2 * (v - 4 / 29) for v in f]
        linear = [sum(w * v for w, v in zip(row, xyz, strict=True)) for row in _RGB_FROM_XYZ]
        if min(linear) >= -0.002 and max(linear) <= 1.002:
            break
    red, green, blue = (_gamma(min(max(v, 0.0), 1.0)) for v in linear)
    return red, green, blue


def _gamma(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def sample_color(rng: np.random.Generator, name: str) -> RGB:
    """One colour a person would call `name`, as sRGB in [0, 1]."""
    lightness, chroma, hue = (rng.uniform(*span) for span in COLORS[name])
    return rgb_from_lch(lightness, chroma, hue)


def sample_tone(rng: np.random.Generator, rgb: RGB) -> RGB:
    """A clearly lighter or darker tone of the same colour: the second tone of a pattern."""
    lightness, a, b = lab_from_rgb(np.array(rgb)).tolist()
    chroma, hue = math.hypot(a, b), math.degrees(math.atan2(b, a))
    change = rng.uniform(20, 30)
    # dark colours have no room below them
    lighter = lightness < 34
    other = lightness + change if lighter else lightness - change
    return rgb_from_lch(other, chroma * (0.9 if lighter else 0.85), hue)


def difference(one: RGB, other: RGB) -> float:
    """How far apart two colours look: the CIE 1976 distance (2 is just visible)."""
    return float(np.linalg.norm(lab_from_rgb(np.array(one)) - lab_from_rgb(np.array(other))))
