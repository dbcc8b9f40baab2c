"""Scenes: what stands in image i, the truth about it, and its picture."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.color import COLORS, RGB, difference, sample_color, sample_tone
from profiler.data.synthetic.materials import MATERIALS, Body
from profiler.data.synthetic.patterns import PATTERNS, Canvas, Pattern
from profiler.data.synthetic.raster import Array, blurred, clouds, grid, noise, resize, slopes, step
from profiler.data.synthetic.shapes import SHAPES, draw_shape
from profiler.errors import InputError

VERSION = 2  # raise it with every change that alters a pixel or a word

# Each attribute is dealt from its own shuffled deck, so that its values are balanced and do not
# depend on each other. A value named more often comes more often: materials are seen best on a
# smooth surface, and one scene in five is a close-up of the surface alone.
_DECKS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "pattern": (*PATTERNS, *["smooth"] * 7),
    "material": tuple(MATERIALS),
    "shape": tuple(SHAPES),
    "background": tuple(BACKGROUNDS),
    "view": ("close-up", "object", "object", "object", "object"),
    "tones": ("one color", "two colors"),
}

# below this CIE distance a second colour is too near the first to show a pattern
_CLEAR_DIFFERENCE = 42.0


@dataclass(frozen=True)
class Scene:
    """The ground truth of one image.

    Lengths are in image widths, angles in degrees clockwise, colours sRGB in [0, 1]. A close-up
    shows nothing but the surface: it has neither shape nor background.
    """

    seed: int
    index: int
    color: str
    second_color: str | None  # None: the pattern is drawn in another tone of the first
    pattern: str
    material: str
    shape: str | None
    background: str | None
    rgb: RGB
    second_rgb: RGB
    scale: float  # periods of the pattern across the object
    rotation: float  # of the pattern
    shape_rotation: float
    x: float
    y: float
    radius: float
    light_angle: float  # where the light comes from; 0 is above
    brightness: float
    blur: float  # the weight of a pixel's neighbours against its own; half of the scenes are sharp
    noise: float  # the camera's: its standard deviation

    @property
    def is_close_up(self) -> bool:
        """Whether the surface fills the frame."""
        return self.shape is None

    def words(self) -> tuple[str, ...]:
        """The concept words true of the image, each once, the object's before the background's."""
        words = [self.color, self.second_color, self.pattern, self.material, self.shape]
        if self.background is not None:
            words += [self.background, *BACKGROUNDS[self.background].words]
        return tuple(dict.fromkeys(word for word in words if word is not None))

    @property
    def caption(self) -> str:
        """A sentence such as "a red striped circle on grass".

        "smooth" and "matte" go without saying.
        """
        color = self.color
        if self.second_color is not None:
            color += f" and {self.second_color}"
        pattern = "" if self.pattern == "smooth" else f" {self.pattern}"
        if self.shape is None or self.background is None:
            return f"a close-up of {color}{pattern} {MATERIALS[self.material].noun}"
        article = "an" if color[0] in "aeiou" else "a"
        material = "" if self.material == "matte" else f" {self.material}"
        place = BACKGROUNDS[self.background].phrase
        return f"{article} {color}{pattern}{material} {self.shape} {place}"


class DrawnSet:
    """A set of ``count`` images that are drawn.

    Image i depends on (seed, i, size) and versions alone: never on count, order or process.
    """

    def __init__(self, count: int = 1000, seed: int = 0, size: int = 224) -> None:
        if count < 1:
            raise InputError(f"count must be at least 1, not {count}")
        if seed < 0:
            raise InputError(f"seed must not be negative, but is {seed}")
        if size < 16:
            raise InputError(f"size must be at least 16 pixels, not {size}")
        self.count = count
        self.seed = seed
        self.size = size

    def __len__(self) -> int:
        return self.count

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything an image depends on, apart from its index."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """A sha256 (hex) over everything the images depend on, and their number."""
        parts = {**self.identity, "count": self.count}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class SyntheticScenes(DrawnSet):
    """A sequence of images, each with its truth: `picture, scene = scenes[i]`."""

    def __iter__(self) -> Iterator[tuple[Image.Image, Scene]]:
        return (self[i] for i in range(self.count))

    def __getitem__(self, i: int) -> tuple[Image.Image, Scene]:
        return self.image(i), self.scene(i)

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything an image depends on, apart from its index."""
        return {"version": VERSION, "seed": self.seed, "size": self.size}

    def name(self, i: int) -> str:
        """The image's name, "scene-00042"."""
        return f"scene-{self._checked(i):05d}"

    def scene(self, i: int) -> Scene:
        """The truth about image i."""
        return _scene(self.seed, self._checked(i))

    def words(self, i: int) -> tuple[str, ...]:
        """The words true of image i."""
        return self.scene(i).words()

    def image(self, i: int) -> Image.Image:
        """Image i, RGB, size x size."""
        return render(self.scene(i), self.size)

    def mask(self, i: int) -> Array:
        """The share of each pixel (size, size) inside the object's outline: 1 in a close-up."""
        return outline(self.scene(i), self.size)

    def write(self, folder: Path) -> Path:
        """Write every image as PNG, its truth beside it as JSON, and truth.csv; return the folder.

        The CSV has a line an image: file, caption, words and the scene's fields; words and colour
        values are joined by "|", and what is None is left empty.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        columns = ["file", "caption", "words", *(field.name for field in fields(Scene))]
        with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            for i in range(self.count):
                name, (picture, scene) = self.name(i), self[i]
                picture.save(folder / f"{name}.png")
                truth = asdict(scene)
                described = {"caption": scene.caption, "words": scene.words(), **truth}
                (folder / f"{name}.json").write_text(
                    json.dumps(described, indent=2) + "\n", "utf-8"
                )
                row = {"file": f"{name}.png", "caption": scene.caption, "words": scene.words()}
                table.writerow({key: _cell(value) for key, value in (row | truth).items()})
        return folder

    def _checked(self, i: int) -> int:
        if not -self.count <= i < self.count:
            raise IndexError(f"there is no scene {i}: there are {self.count}")
        return i % self.count


def _cell(value: object) -> object:
    """A value as the CSV holds it."""
    return "|".join(map(str, value)) if isinstance(value, tuple) else value


def _dealt(seed: int, index: int, attribute: str) -> str:
    """The value image `index` draws: every run of len(deck) images gets each card once."""
    turn, place = divmod(index, len(_DECKS[attribute]))
    return _shuffled(seed, attribute, turn)[place]


@lru_cache(maxsize=256)
def _shuffled(seed: int, attribute: str, turn: int) -> tuple[str, ...]:
    deck = _DECKS[attribute]
    key = (list(_DECKS).index(attribute), turn)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    return tuple(deck[card] for card in rng.permutation(len(deck)))


def _scene(seed: int, index: int) -> Scene:
    dealt = {attribute: _dealt(seed, index, attribute) for attribute in _DECKS}
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    close_up = dealt["view"] == "close-up"
    pattern, shape = dealt["pattern"], dealt["shape"]
    rgb = sample_color(rng, dealt["color"])
    second, second_rgb = None, sample_tone(rng, rgb)
    # a gradient between two tones of one colour would pass for shading
    two_colors = dealt["tones"] == "two colors" or pattern == "gradient"
    if pattern != "smooth" and two_colors:
        second, second_rgb = _second_color(rng, dealt["color"], rgb)
    radius = 0.5 if close_up else float(rng.uniform(0.24, 0.4))
    periods = rng.uniform(*PATTERNS[pattern].periods) * (1.5 if close_up else 1.0)
    turn = SHAPES[shape].turn
    x, y = (0.5, 0.5) if close_up else rng.uniform(radius, 1 - radius, 2)
    return Scene(
        seed=seed,
        index=index,
        color=dealt["color"],
        second_color=second,
        pattern=pattern,
        material=dealt["material"],
        shape=None if close_up else shape,
        background=None if close_up else dealt["background"],
        rgb=rgb,
        second_rgb=second_rgb,
        scale=float(periods),
        rotation=float(rng.uniform(0, 180)),
        shape_rotation=float(rng.uniform(-turn, turn)),
        x=float(x),
        y=float(y),
        radius=radius,
        light_angle=float(rng.uniform(-75, 75)),
        brightness=float(rng.uniform(0.9, 1.08)),
        blur=max(0.0, float(rng.uniform(-0.4, 0.4))),
        noise=float(rng.uniform(0.004, 0.02)),
    )


def _second_color(rng: np.random.Generator, first: str, rgb: RGB) -> tuple[str, RGB]:
    """Another named colour that stands out against the first."""
    while True:
        name = str(rng.choice([other for other in COLORS if other != first]))
        other = sample_color(rng, name)
        if difference(rgb, other) > _CLEAR_DIFFERENCE:
            return name, other


def outline(scene: Scene, size: int) -> Array:
    """The share of each pixel (size, size) inside the object's outline: 1 in a close-up."""
    if scene.shape is None:
        return np.ones((size, size), dtype=np.float32)
    return draw_shape(scene.shape, size, scene.x, scene.y, scene.radius, scene.shape_rotation)


def _turned(scene: Scene, size: int, degrees: float) -> tuple[Array, Array]:
    """Image widths from the object's centre, along axes turned by `degrees`."""
    x, y = grid(size)
    angle = np.radians(degrees)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    right, down = x - scene.x, y - scene.y
    return right * cos + down * sin, down * cos - right * sin


def _canvas(scene: Scene, size: int, rng: np.random.Generator, pattern: Pattern) -> Canvas:
    along, across = _turned(scene, size, scene.rotation)
    per_width = scene.scale / (2 * scene.radius)
    u, v = along * per_width, across * per_width
    warp = pattern.warp * rng.random()
    if warp:
        u = u + warp * noise(rng, size, 4)
        v = v + warp * noise(rng, size, 4)
    return Canvas(rng, u, v, pixel=per_width / size, reach=scene.scale / 2)


def _form(
    scene: Scene, small_mask: Array, size: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """How the body rises to the right and downwards: rounded at its edge, or gently rolling.

    It is worked out on a small mask, which is cheap; the form is smooth anyway.
    """
    material = MATERIALS[scene.material]
    if scene.is_close_up:
        height = noise(rng, size, 2.5) + 0.35 * noise(rng, size, 5)
        return slopes(0.075 * material.bulge * height, 1 / size)
    small = small_mask.shape[0]
    depth = np.asarray(ndimage.distance_transform_edt(small_mask > 0.5), dtype=np.float32) / small
    reach = material.edge * min(scene.radius, float(depth.max()) * 1.05) + 1e-6
    rounded = np.sqrt(np.clip(1 - (1 - np.minimum(depth / reach, 1)) ** 2, 0, 1))
    height = ndimage.gaussian_filter(reach * material.bulge * rounded, 1.2)
    right, down = slopes(height, 1 / small)
    return resize(right, size), resize(down, size)


def render(
    scene: Scene, size: int, pattern: Pattern | None = None, behind: Array | None = None
) -> Image.Image:
    """The picture of a scene, RGB, size x size.

    `pattern`: another way to draw the scene's pattern than the usual one. `behind` (3, size, size)
    in [0, 1]: what stands behind the object, or lights a close-up, in place of the background.
    """
    pattern = pattern or PATTERNS[scene.pattern]
    # one stream a part: a change to one leaves the others as they are
    seeds = np.random.SeedSequence([scene.seed, scene.index]).spawn(5)
    for_pattern, for_form, for_material, for_background, for_camera = map(
        np.random.default_rng, seeds
    )
    material = MATERIALS[scene.material]
    mask = outline(scene, size)
    small = resize(mask, max(16, size // 4))
    lean_x, lean_y = _form(scene, small, size, for_form)
    if material.fray and not scene.is_close_up:
        ruffle = material.fray * noise(for_form, size, 60)
        mask = step(blurred(mask, material.fray / 2) - 0.5 + 10 * ruffle, 0.35)

    canvas = _canvas(scene, size, for_pattern, pattern)
    drawing = pattern.draw(canvas)
    first, second = (np.array(c, np.float32)[:, None, None] for c in (scene.rgb, scene.second_rgb))
    albedo = np.broadcast_to(first, (3, size, size))
    if drawing.tone is not None:
        albedo = (second - first) * drawing.tone
        albedo += first
    if drawing.shade is not None:
        albedo = albedo * drawing.shade
    if drawing.height is not None:
        right, down = slopes(drawing.height, canvas.pixel)
        lean_x, lean_y = lean_x + right, lean_y + down

    if behind is not None:
        pass
    elif scene.background is None:
        behind = np.broadcast_to(0.6 + 0.3 * clouds(for_background, size, 3), (3, size, size))
    else:
        behind = BACKGROUNDS[scene.background].draw(for_background, size)
    angle = np.radians(scene.light_angle)
    light = (0.66 * float(np.sin(angle)), -0.66 * float(np.cos(angle)), 0.75)
    grain_x, grain_y = _turned(scene, size, 1.7 * scene.rotation)
    body = Body(for_material, albedo, lean_x, lean_y, mask, behind, light, grain_x, grain_y)
    picture = material.render(body)

    if not scene.is_close_up:
        # the body over its shadow over the background
        ground = behind * (1 - 0.5 * _shadow(small, light, size))
        picture -= ground
        picture *= mask
        picture += ground
    return _photograph(picture, scene, light, for_camera)


def _shadow(small_mask: Array, light: tuple[float, float, float], size: int) -> Array:
    """The object's soft shadow (size, size), cast away from the light."""
    small = small_mask.shape[0]
    moved = ndimage.shift(small_mask, (-0.06 * light[1] * small, -0.06 * light[0] * small), order=1)
    return resize(ndimage.gaussian_filter(moved, 0.022 * small), size)


def _photograph(
    picture: Array, scene: Scene, light: tuple[float, float, float], rng: np.random.Generator
) -> Image.Image:
    """The finished image: a slant of light over the frame, blur and the camera's noise."""
    size = picture.shape[-1]
    x, y = grid(size)
    slant = scene.brightness * (1 + 0.12 * (light[0] * (x - 0.5) + light[1] * (y - 0.5)))
    # uniform noise of the same deviation: nobody can tell, and it is drawn in a quarter of the time
    grain = scene.noise * np.sqrt(12) * (rng.random((size, size), dtype=np.float32) - 0.5)
    values = picture * (255 * slant)
    values += 255 * grain.astype(np.float32) + 0.5
    np.clip(values, 0, 255, out=values)
    image = Image.merge("RGB", [Image.fromarray(channel) for channel in values.astype(np.uint8)])
    side = scene.blur
    if side == 0:
        return image
    return image.filter(
        ImageFilter.Kernel((3, 3), [side**2, side, side**2, side, 1, side, side**2, side, side**2])
    )
