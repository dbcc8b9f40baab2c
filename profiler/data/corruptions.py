"""Images as bad weather, bad cameras and bad storage leave them.

The families and their five severities are those of ImageNet-C (Hendrycks & Dietterich,
*Benchmarking Neural Network Robustness to Common Corruptions and Perturbations*, ICLR 2019), with
the parameters of its published code. What differs:

- **Any size.** ImageNet-C is defined on pictures of 224 × 224 pixels. Here every length (a radius,
  a flake, a shift) is in pixels of a picture whose short side is 224, so a harmed picture looks the
  same at every size, as it does between ImageNet-C and CIFAR-10-C. Noise, pixelate and JPEG are
  grainy: in larger pictures a grain is as wide as a pixel would be at 224, or shrinking the picture
  would average them away; in smaller ones a grain is one pixel.
- **Blurs** are means over a disc or a line that is read between pixels, so radii may be fractions.
- **Glass blur** reads each pixel at a random place nearby; it does not exchange pixels one by one.
- **Elastic transform** reads the picture once, not twice.
- Values are rounded, not cut, to 8 bits, and are not stored as JPEG of quality 85 afterwards.
- **Frost** is left out: it needs photographs of ice that are not ours to ship.

A higher severity moves a picture further from the original, with three exceptions that are as
published: fog 4 is as thick as 3, but rougher; snow 3 has larger flakes than 2 on a less pale
picture; and elastic transform moves the whole picture at 1 and 2, but tears at details from 3 on.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, signal

from profiler.data.images import ProbeSet
from profiler.errors import InputError, UnknownNameError, UsageError

VERSION = 1
"""Changes whenever the same corruption of the same picture may come out otherwise."""
SEVERITIES = (1, 2, 3, 4, 5)
SIDE = 224
"""The short side, in pixels, at which lengths are given."""

# (H, W, 3) in [0, 1] or (H, W), float32 or float64; numpy's stubs lose the precision in arithmetic
Array: TypeAlias = NDArray[Any]
Level = tuple[float, ...]
"""The parameters of one family at one severity."""
Apply = Callable[[Array, np.random.Generator, Level], Array]

_WHITE = 255
_GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""How bright red, green and blue look (ITU-R BT.601)."""
_PLASMA = 256
"""Points a side of the fog's map; a power of two."""
_OFF_PIXEL = 0.25
"""Pixels between the points that a blur is the mean of, at most."""


# --- values ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corruption:
    """One family at one severity.

    Attributes:
        name: one of :data:`FAMILIES`.
        severity: one of :data:`SEVERITIES`.
    """

    name: str
    severity: int

    def __post_init__(self) -> None:
        if self.name not in _FAMILIES:
            missing = "frost needs photographs of ice, which are not shipped"
            hint = missing if self.name == "frost" else ""
            raise UnknownNameError("corruption", self.name, FAMILIES, hint)
        if self.severity not in SEVERITIES:
            raise UsageError(
                f"corruption {self.name!r} has the severities 1 to 5, not {self.severity}"
            )

    @classmethod
    def parse(cls, text: str) -> "Corruption":
        """From ``NAME:SEVERITY``.

        >>> Corruption.parse("gaussian_noise:3")
        Corruption(name='gaussian_noise', severity=3)
        """
        name, _, severity = (part.strip() for part in text.partition(":"))
        if severity in map(str, SEVERITIES):
            return cls(name, int(severity))
        cls(name, SEVERITIES[0])  # a wrong name is the better thing to complain about
        raise UsageError(
            f"corruption {text!r} needs a severity from 1 to 5, as in '{name}:{SEVERITIES[2]}'"
        )

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """The RGB image, harmed: RGB, of the same size."""
        if image.mode != "RGB":
            raise InputError(f"corruption {self} wants an RGB image, not one of mode {image.mode}")
        family = _FAMILIES[self.name]
        picture = _picture(image)
        return _image(family.apply(picture, rng, family.levels[self.severity - 1]))


@dataclass(frozen=True)
class CorruptedProbe:
    """A probe set whose images are harmed when they are read.

    Chance depends on the seed, the family and the image's name, on nothing else: not on how many
    images there are, in which order they are read, or in which process. Severities of one family
    draw the same chances.
    """

    probe: ProbeSet
    corruption: Corruption
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed must not be negative, but is {self.seed}")

    @property
    def title(self) -> str:
        """How a reader knows the set."""
        return f"{self.probe.title}, harmed by {self.corruption}"

    @property
    def names(self) -> Sequence[str]:
        """Those of the images as they were."""
        return self.probe.names

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what the images depend on."""
        return self._harmed(self.probe.fingerprint)

    def digest(self, index: int) -> str:
        """SHA-256 over what one image depends on."""
        digest = getattr(self.probe, "digest", None)
        return self._harmed(digest(index)) if digest else self.fingerprint

    def _harmed(self, images: str) -> str:
        parts = {
            "corruptions": VERSION,
            "corruption": str(self.corruption),
            "seed": self.seed,
            "images": images,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def read(self, index: int) -> Image.Image:
        """The image at ``index``, harmed; an unreadable one stays unreadable."""
        image = self.probe.read(index)
        named = f"{self.corruption.name}\0{self.names[index]}".encode()
        words = np.frombuffer(hashlib.sha256(named).digest(), dtype="<u4").tolist()
        return self.corruption(image, np.random.default_rng([self.seed, *words]))


def corrupted(probe: ProbeSet, corruption: Corruption, seed: int = 0) -> CorruptedProbe:
    """``probe`` with every image harmed by ``corruption``."""
    return CorruptedProbe(probe, corruption, seed)


# --- pictures --------------------------------------------------------------------------------


def _picture(image: Image.Image) -> Array:
    return np.asarray(image, dtype=np.float32) / _WHITE


def _image(picture: Array) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * _WHITE).round().astype(np.uint8))


def _unit(picture: Array) -> float:
    """How many pixels wide a pixel at :data:`SIDE` is in this picture."""
    return float(min(picture.shape[:2])) / SIDE


def _grains(picture: Array) -> tuple[int, int]:
    """How many grains high and wide the picture is; a grain is no smaller than a pixel."""
    size = max(1.0, _unit(picture))
    height, width = picture.shape[:2]
    return max(1, round(height / size)), max(1, round(width / size))


def _stretch(field: Array, shape: tuple[int, ...], resample: Image.Resampling) -> Array:
    """A field (h, w) or (h, w, 3) resized to ``shape[:2]``."""
    height, width = shape[:2]
    if field.shape[:2] == (height, width):
        return field
    layers = np.atleast_3d(field).astype(np.float32)
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(layers[..., k])).resize((width, height), resample)
        )
        for k in range(layers.shape[2])
    ]
    return np.stack(resized, axis=-1).reshape(height, width, *field.shape[2:])


def _grainy(picture: Array, harm: Callable[[Array], Array]) -> Array:
    """Harm done grain by grain: what it changes in the small picture is changed in the large."""
    small = _stretch(picture, _grains(picture), Image.Resampling.BOX)
    change = harm(small) - small
    return picture + _stretch(change, picture.shape, Image.Resampling.NEAREST)


def _mean_over(picture: Array, down: Array, right: Array, weights: Array) -> Array:
    """The weighted mean of the picture over points around each pixel; read between pixels.

    Args:
        picture: (H, W) or (H, W, 3).
        down: (n,) how far each point lies below the pixel, in pixels.
        right: (n,) … to the right of it.
        weights: (n,) that add up to 1.
    """
    reach = int(max(np.abs(down).max(), np.abs(right).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    # Each point is shared out among its four pixels, as bilinear reading does.
    top, left = np.floor(down).astype(int), np.floor(right).astype(int)
    for i, share_i in ((top, top + 1 - down), (top + 1, down - top)):
        for j, share_j in ((left, left + 1 - right), (left + 1, right - left)):
            # A convolution reads backwards.
            np.add.at(kernel, (reach - i, reach - j), weights * share_i * share_j)
    edges = [(reach, reach), (reach, reach)] + [(0, 0)] * (picture.ndim - 2)
    padded = np.pad(picture, edges, mode="symmetric")
    spread = kernel.astype(np.float32).reshape(kernel.shape + (1,) * (picture.ndim - 2))
    blurred: Array = signal.oaconvolve(padded, spread, mode="valid", axes=(0, 1))
    return blurred


def _along(picture: Array, length: float, sigma: float, degrees: float) -> Array:
    """Smeared along a line from each pixel, with weights that fall off as a Gaussian.

    The line is one-sided, as in ImageMagick's motion blur, which the published code calls.
    ``length`` and ``sigma`` are in pixels; 0 degrees point to the right, 90 down.
    """
    places = np.linspace(0, length, max(2, int(length / _OFF_PIXEL) + 1))
    weights = np.exp(-(places**2) / (2 * sigma**2))
    angle = np.radians(degrees)
    return _mean_over(
        picture, places * np.sin(angle), places * np.cos(angle), weights / weights.sum()
    )


def _smooth(field: Array, sigma: float) -> Array:
    """Gaussian blur over height and width; ``sigma`` in pixels."""
    return ndimage.gaussian_filter(field, (sigma, sigma, 0)[: field.ndim], mode="reflect")


def _read(picture: Array, rows: Array, columns: Array) -> Array:
    """The picture (H, W, 3) at places (H, W) between its pixels; mirrored beyond its edges."""
    colors = [
        ndimage.map_coordinates(picture[..., k], [rows, columns], order=1, mode="reflect")
        for k in range(3)
    ]
    return np.stack(colors, axis=-1)


# --- noise -----------------------------------------------------------------------------------


def _gaussian_noise(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """Adds normal noise. Level: its standard deviation."""
    (deviation,) = level
    return _grainy(picture, lambda small: small + rng.normal(0, deviation, small.shape))


def _shot_noise(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """Counts photons (Poisson). Level: photons of white."""
    (photons,) = level
    return _grainy(picture, lambda small: rng.poisson(small * photons) / photons)


def _impulse_noise(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """Salt and pepper, in each colour for itself. Level: share of values that are hit."""
    (share,) = level

    def hit(small: Array) -> Array:
        chance = rng.random(small.shape)
        salted = np.where(chance < share / 2, 1.0, small)
        return np.where(chance > 1 - share / 2, 0.0, salted)

    return _grainy(picture, hit)


# --- blur ------------------------------------------------------------------------------------


def _defocus_blur(picture: Array, _: np.random.Generator, level: Level) -> Array:
    """The mean over a disc. Level: its radius."""
    (radius,) = level
    radius *= _unit(picture)
    steps = max(4, int(radius / _OFF_PIXEL))
    down, right = np.mgrid[-steps : steps + 1, -steps : steps + 1] / steps
    inside = down**2 + right**2 <= 1
    count = int(inside.sum())
    return _mean_over(
        picture, radius * down[inside], radius * right[inside], np.full(count, 1 / count)
    )


def _glass_blur(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """Softened, shuffled, softened. Level: deviation of the blur, reach of a shuffle, shuffles."""
    sigma, reach, shuffles = level
    unit = _unit(picture)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    soft = _smooth(picture, sigma * unit)
    for _ in range(int(shuffles)):
        moves = rng.uniform(-reach * unit, reach * unit, (2, *_grains(picture)))
        down, right = (_stretch(move, picture.shape, Image.Resampling.NEAREST) for move in moves)
        soft = _read(soft, rows + down, columns + right)
    return _smooth(soft, sigma * unit)


def _motion_blur(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """Smeared along a line within 45° of level. Level: half its length, deviation."""
    radius, sigma = level
    unit = _unit(picture)
    return _along(picture, 2 * radius * unit, sigma * unit, rng.uniform(-45, 45))


def _zoom_blur(picture: Array, _: np.random.Generator, level: Level) -> Array:
    """The mean with magnified copies about the centre. Level: largest magnification, step."""
    largest, step = level
    image = _image(picture)
    width, height = image.size
    factors = 1 + step * np.arange(round((largest - 1) / step) + 1)
    total = picture.copy()
    for factor in factors:
        x, y = width * (1 - 1 / factor) / 2, height * (1 - 1 / factor) / 2
        box = (x, y, width - x, height - y)
        total += _picture(image.resize(image.size, Image.Resampling.BILINEAR, box=box))
    return total / (len(factors) + 1)


# --- weather ---------------------------------------------------------------------------------


def _snow(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """Flakes driven down over a paler picture.

    Level: mean and deviation of a noise, the size of its lumps; from which height on a lump is a
    flake; half the length and the deviation of its track; what remains of the picture's colours.
    """
    mean, deviation, size, least, radius, sigma, share = level
    unit = _unit(picture)
    rows, columns = (max(1, round(side / size)) for side in _grains(picture))
    lumps = rng.normal(mean, deviation, (rows, columns))
    field = _stretch(lumps, picture.shape, Image.Resampling.BILINEAR)
    flakes = np.where(field < least, 0, np.clip(field, 0, 1)).astype(np.float32)
    tracks = _along(flakes, 2 * radius * unit, sigma * unit, rng.uniform(45, 135))[..., None]
    pale = np.maximum(picture, (picture @ _GRAY)[..., None] * 1.5 + 0.5)
    snowy: Array = share * picture + (1 - share) * pale + tracks + np.rot90(tracks, 2)
    return snowy


def _fog(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """A plasma laid over the picture, which is darkened as much. Level: thickness, decay."""
    thickness, decay = level
    brightest = float(picture.max())
    plasma = _stretch(_plasma(rng, decay), picture.shape, Image.Resampling.BILINEAR)
    foggy: Array = picture + thickness * plasma[..., None]
    foggy *= brightest / (brightest + thickness)
    return foggy


def _plasma(rng: np.random.Generator, decay: float) -> Array:
    """A cloudy field in [0, 1] by the diamond-square algorithm (Fournier et al., 1982).

    Each halving of the grid gives the points between the mean of their four neighbours and a
    random rise, which shrinks by decay² (the published code multiplies by the decaying number
    twice). The field goes on at the opposite edge.
    """
    field = np.zeros((_PLASMA, _PLASMA))
    step, swing = _PLASMA, 1.0

    def rise(mean: Array) -> Array:
        return mean + swing * rng.uniform(-1, 1, mean.shape)

    while step > 1:
        half = step // 2
        corners = field[::step, ::step]
        beside = corners + np.roll(corners, -1, axis=1)
        centres = rise((beside + np.roll(beside, -1, axis=0)) / 4)
        field[half::step, half::step] = centres
        field[::step, half::step] = rise((beside + centres + np.roll(centres, 1, axis=0)) / 4)
        below = corners + np.roll(corners, -1, axis=0)
        field[half::step, ::step] = rise((below + centres + np.roll(centres, 1, axis=1)) / 4)
        step, swing = half, swing / decay**2
    field -= field.min()
    field /= field.max()
    return field


def _brightness(picture: Array, _: np.random.Generator, level: Level) -> Array:
    """Raises the value of HSV (the largest of the three colours). Level: by how much."""
    (more,) = level
    value = picture.max(axis=2, keepdims=True)
    raised = np.minimum(value + more, 1)
    # Black has no hue to keep: it becomes gray.
    scaled: Array = np.where(value > 0, picture * (raised / np.where(value > 0, value, 1)), raised)
    return scaled


# --- digital ---------------------------------------------------------------------------------


def _contrast(picture: Array, _: np.random.Generator, level: Level) -> Array:
    """Draws each colour to its mean over the picture. Level: the share of contrast that is left."""
    (share,) = level
    mean = picture.mean(axis=(0, 1), keepdims=True, dtype=np.float64)
    drawn: Array = (picture - mean) * share + mean
    return drawn


def _elastic_transform(picture: Array, rng: np.random.Generator, level: Level) -> Array:
    """Tilted as a whole and pulled about in its parts.

    Level: strength and smoothness of the pull; by how much three points of the picture move.
    """
    strength, sigma, tilt = level
    unit, grains = _unit(picture), _grains(picture)
    height, width = picture.shape[:2]
    third = min(height, width) / 3
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * third
    moved = corners + rng.uniform(-tilt * unit, tilt * unit, corners.shape)
    # An affine map is a linear function of (row, column, 1), fixed by three points.
    affine = np.linalg.solve(np.column_stack([corners, np.ones(3)]), moved)
    scale = grains[0] / height
    pulls = [
        strength
        * unit
        * _stretch(
            _smooth(rng.uniform(-1, 1, grains), sigma * unit * scale),
            picture.shape,
            Image.Resampling.BILINEAR,
        )
        for _ in range(2)
    ]
    middle = ((height - 1) / 2, (width - 1) / 2)
    rows, columns = np.mgrid[:height, :width]
    down, right = rows - middle[0], columns - middle[1]
    places = [
        affine[0, k] * down + affine[1, k] * right + affine[2, k] + middle[k] + pulls[k]
        for k in range(2)
    ]
    return _read(picture, places[0], places[1])


def _pixelate(picture: Array, _: np.random.Generator, level: Level) -> Array:
    """Blocks of one colour. Level: blocks a pixel of the short side."""
    (share,) = level
    blocks = tuple(max(1, int(side * share)) for side in _grains(picture))
    small = _stretch(picture, blocks, Image.Resampling.BOX)
    return _stretch(small, picture.shape, Image.Resampling.NEAREST)


def _jpeg_compression(picture: Array, _: np.random.Generator, level: Level) -> Array:
    """Stored as JPEG and read again. Level: quality."""
    (quality,) = level

    def stored(small: Array) -> Array:
        with io.BytesIO() as file:
            _image(small).save(file, "JPEG", quality=int(quality))
            with Image.open(file) as image:
                return _picture(image)

    return _grainy(picture, stored)


# --- families --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Family:
    """What is done, and its parameters at the five severities."""

    apply: Apply
    levels: tuple[Level, Level, Level, Level, Level]


def _one(apply: Apply, *values: float) -> _Family:
    """A family with one parameter."""
    a, b, c, d, e = ((value,) for value in values)
    return _Family(apply, (a, b, c, d, e))


# The published lengths of the elastic transform are shares of 244 pixels.
_E = 244.0

# From make_imagenet_c.py of the repository hendrycks/robustness.
_FAMILIES: Mapping[str, _Family] = {
    "gaussian_noise": _one(_gaussian_noise, 0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": _one(_shot_noise, 60, 25, 12, 5, 3),
    "impulse_noise": _one(_impulse_noise, 0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus_blur": _one(_defocus_blur, 3, 4, 6, 8, 10),
    "glass_blur": _Family(
        _glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    ),
    "motion_blur": _Family(_motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": _Family(
        _zoom_blur, ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))
    ),
    "snow": _Family(
        _snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": _Family(_fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": _one(_brightness, 0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": _one(_contrast, 0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": _Family(
        _elastic_transform,
        (
            (2 * _E, 0.7 * _E, 0.1 * _E),
            (2 * _E, 0.08 * _E, 0.2 * _E),
            (0.05 * _E, 0.01 * _E, 0.02 * _E),
            (0.07 * _E, 0.01 * _E, 0.02 * _E),
            (0.12 * _E, 0.01 * _E, 0.02 * _E),
        ),
    ),
    "pixelate": _one(_pixelate, 0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": _one(_jpeg_compression, 25, 18, 15, 10, 7),
}

FAMILIES = tuple(_FAMILIES)
"""The names of the corruptions: noise, blur, weather, digital."""
