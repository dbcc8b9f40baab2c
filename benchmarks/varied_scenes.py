"""Varied scenes: what learns colours, patterns and materials looks at these.

The same building blocks as the built-in scenes, with everything that must not matter let loose:
colours that have no plain name, faint contrasts, more ways to draw a pattern
(:mod:`pattern_variants`), larger and smaller scales, bodies of two blended colours,
backgrounds out of focus or patterned themselves, coloured lights, the faults of cameras and of
files.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pattern_variants import VARIANTS
from PIL import Image, ImageFilter
from scipy import ndimage

from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.color import COLORS, RGB, difference, rgb_from_lch, sample_color
from profiler.data.synthetic.materials import MATERIALS
from profiler.data.synthetic.patterns import Canvas
from profiler.data.synthetic.raster import Array, clouds, grid
from profiler.data.synthetic.scenes import Scene, outline, render
from profiler.data.synthetic.shapes import SHAPES
from profiler.errors import InputError

VARIED_VERSION = 1  # raise it with every change that alters a pixel or a word

# Images come in these sizes; the network's preprocessing makes one of them.
_SIZES = (176, 224, 224, 288)
_FAINT_DIFFERENCE = 22.0  # CIE 1976: below this a pattern can hardly be seen
_OTHER = "other"  # a colour that no plain name was asked for

_DECKS: dict[str, tuple[str, ...]] = {
    "pattern": (*VARIANTS, "smooth", "smooth", "smooth"),
    "material": (*MATERIALS, "matte", "furry", "matte"),
    "background": (*BACKGROUNDS, *["patterned"] * 3),
}


@dataclass(frozen=True)
class Camera:
    """What a camera and a file do to a picture.

    Attributes:
        cast: factors on red, green and blue: the light's colour.
        gamma: exponent on the values; above 1 darkens.
        contrast: factor on the distance from mid-gray.
        defocus: the blur of what lies behind the object, in image widths.
        blur: of the whole, the standard deviation in pixels.
        quality: of the JPEG file; 0 where there is none.
        mirrored: left and right change places.
    """

    cast: RGB
    gamma: float
    contrast: float
    defocus: float
    blur: float
    quality: int
    mirrored: bool


@dataclass(frozen=True)
class VariedScene:
    """A scene, and how it is shot.

    Attributes:
        scene: the truth; its colour is ``other`` where it has no plain name.
        variant: which of the pattern's ways of drawing.
        behind: the pattern of a patterned background; None where the scene names it.
        camera: what happens to the picture.
        size: pixels on a side.
    """

    scene: Scene
    variant: int
    behind: str | None
    camera: Camera
    size: int


class VariedScenes:
    """A sequence of `count` images with their truth: `picture, scene = scenes[i]`.

    Image i depends on (seed, i) and VARIED_VERSION alone.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        if count < 1:
            raise InputError(f"count must be at least 1, not {count}")
        if seed < 0:
            raise InputError(f"seed must not be negative, but is {seed}")
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Image.Image, VariedScene]:
        varied = self.scene(i)
        return _shoot(varied), varied

    @property
    def fingerprint(self) -> str:
        """A sha256 (hex) over everything the images depend on, and their number."""
        parts = {"version": VARIED_VERSION, "count": self.count, "seed": self.seed}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def scene(self, i: int) -> VariedScene:
        """The truth about image i."""
        if not 0 <= i < self.count:
            raise IndexError(f"there is no scene {i}: there are {self.count}")
        return _varied(self.seed, i)

    def mask(self, i: int) -> Array:
        """The share of each pixel (size, size) inside the object's outline: 1 in a close-up."""
        varied = self.scene(i)
        drawn = outline(varied.scene, varied.size)
        return drawn[:, ::-1] if varied.camera.mirrored else drawn


@lru_cache(maxsize=64)
def _shuffled(seed: int, attribute: str, turn: int) -> tuple[str, ...]:
    deck = _DECKS[attribute]
    key = (list(_DECKS).index(attribute), turn, 1)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    return tuple(deck[card] for card in rng.permutation(len(deck)))


def _dealt(seed: int, index: int, attribute: str) -> str:
    turn, place = divmod(index, len(_DECKS[attribute]))
    return _shuffled(seed, attribute, turn)[place]


def _colors(rng: np.random.Generator, patterned: bool) -> tuple[str, RGB, str | None, RGB]:
    """Two colours, the second in half of the cases a tone of the first, with their names."""

    def one() -> tuple[str, RGB]:
        if rng.random() < 0.5:
            name = str(rng.choice(list(COLORS)))
            return name, sample_color(rng, name)
        chroma = rng.uniform(0, 85) * rng.random() ** 0.5
        return _OTHER, rgb_from_lch(rng.uniform(8, 96), chroma, rng.uniform(0, 360))

    name, rgb = one()
    while True:
        second, second_rgb = one()
        if not patterned:
            return name, rgb, None, second_rgb
        if rng.random() < 0.35:
            # another tone: lighter or darker by a visible step
            second, second_rgb = name, _tone(rng, rgb)
        if difference(rgb, second_rgb) > _FAINT_DIFFERENCE:
            return name, rgb, second if second != name else None, second_rgb


def _tone(rng: np.random.Generator, rgb: RGB) -> RGB:
    target = rng.uniform(0.0, 1.0)
    share = rng.uniform(0.3, 0.7)
    red, green, blue = (share * c + (1 - share) * target for c in rgb)
    return red, green, blue


def _varied(seed: int, index: int) -> VariedScene:
    dealt = {attribute: _dealt(seed, index, attribute) for attribute in _DECKS}
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, 1]))
    word = dealt["pattern"]
    variant = int(rng.integers(len(VARIANTS[word])))
    pattern = VARIANTS[word][variant]
    close_up = rng.random() < 0.3
    name, rgb, second, second_rgb = _colors(rng, word != "smooth")
    radius = 0.5 if close_up else float(rng.uniform(0.22, 0.5))
    periods = rng.uniform(*pattern.periods) * (1.5 if close_up else 1.0)
    shape = str(rng.choice(list(SHAPES)))
    # an object may be cut off by the frame, as in photographs
    reach = 0.7 * radius
    x, y = (0.5, 0.5) if close_up else rng.uniform(reach, 1 - reach, 2)
    behind = None
    background: str | None = dealt["background"]
    if background == "patterned":
        behind, background = str(rng.choice(list(VARIANTS))), "plain wall"
    scene = Scene(
        seed=seed,
        index=index,
        color=name,
        second_color=second,
        pattern=word,
        material=dealt["material"],
        shape=None if close_up else shape,
        background=None if close_up else background,
        rgb=rgb,
        second_rgb=second_rgb,
        scale=float(periods),
        rotation=float(rng.uniform(0, 180)),
        shape_rotation=float(rng.uniform(-180, 180)),
        x=float(x),
        y=float(y),
        radius=radius,
        light_angle=float(rng.uniform(-150, 150)),
        brightness=float(rng.uniform(0.75, 1.15)),
        blur=max(0.0, float(rng.uniform(-0.4, 0.4))),
        noise=float(rng.uniform(0.002, 0.04)),
    )
    camera = Camera(
        cast=_cast(rng),
        gamma=float(np.exp(rng.uniform(-0.3, 0.35))),
        contrast=float(rng.uniform(0.7, 1.2)),
        defocus=float(rng.choice([0.0, 0.0, float(rng.uniform(0.005, 0.05))])),
        blur=float(rng.choice([0.0, 0.0, float(rng.uniform(0.3, 1.2))])),
        quality=int(rng.choice([0, int(rng.integers(35, 95))])),
        mirrored=bool(rng.random() < 0.5),
    )
    return VariedScene(
        scene, variant, None if close_up else behind, camera, int(rng.choice(_SIZES))
    )


def _cast(rng: np.random.Generator) -> RGB:
    warm, tint = rng.uniform(-0.12, 0.12), rng.uniform(-0.05, 0.05)
    return 1 + warm, 1 + tint, 1 - warm


def _behind(varied: VariedScene) -> Array:
    """The picture (3, size, size) behind the object, out of focus as the camera has it."""
    scene, size = varied.scene, varied.size
    rng = np.random.default_rng(np.random.SeedSequence([scene.seed, scene.index, 2]))
    if varied.behind is not None:
        picture = _surface(rng, size, varied.behind)
    elif scene.background is None:
        picture = np.broadcast_to(0.6 + 0.3 * clouds(rng, size, 3), (3, size, size))
    else:
        picture = BACKGROUNDS[scene.background].draw(rng, size)
    if varied.camera.defocus:
        radius = varied.camera.defocus * size
        picture = ndimage.gaussian_filter(picture, (0, radius, radius))
    return np.asarray(picture, dtype=np.float32)


def _surface(rng: np.random.Generator, size: int, word: str) -> Array:
    """A flat patterned surface (3, size, size) of two colours."""
    pattern = VARIANTS[word][int(rng.integers(len(VARIANTS[word])))]
    x, y = grid(size)
    angle, periods = rng.uniform(0, np.pi), 1.6 * rng.uniform(*pattern.periods)
    u = periods * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
    v = periods * ((y - 0.5) * np.cos(angle) - (x - 0.5) * np.sin(angle))
    drawn = pattern.draw(Canvas(rng, u, v, periods / size, periods / 2))
    _, rgb, _, second_rgb = _colors(rng, word != "smooth")
    first, second = (np.array(c, np.float32)[:, None, None] for c in (rgb, second_rgb))
    tone = 0.0 if drawn.tone is None else drawn.tone
    shade = 1.0 if drawn.shade is None else drawn.shade
    picture: Array = (first + (second - first) * tone) * shade * np.ones((1, size, size))
    return np.clip(picture, 0, 1)


def _shoot(varied: VariedScene) -> Image.Image:
    scene, camera = varied.scene, varied.camera
    pattern = VARIANTS[scene.pattern][varied.variant]
    drawn = render(scene, varied.size, pattern, _behind(varied))
    values = np.asarray(drawn, dtype=np.float32) / 255
    values = np.clip(values * np.array(camera.cast, np.float32), 0, 1) ** camera.gamma
    values = np.clip(0.5 + camera.contrast * (values - 0.5), 0, 1)
    image = Image.fromarray((255 * values + 0.5).astype(np.uint8))
    if camera.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if camera.blur:
        image = image.filter(ImageFilter.GaussianBlur(camera.blur))
    if camera.quality:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=camera.quality)
        image = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    return image
