"""Scenes as a controlled experiment: every property is drawn independently of all others.

Each scene has one object before a background. What varies is eleven factors, each dealt from its
own shuffled deck, so that its levels are balanced and no factor tells anything about another: the
share of a unit's variance that goes with a factor is caused by it.

That each share says what its name says, backgrounds lose the mean colour and brightness that go
with their kind: a night sky is dark, grass is green. They are drawn as ever, and then moved to one
lightness and to a colour that is a factor of its own. Patterns are drawn in two tones of the
object's colour, not in two colours. Light and its tint are laid over the finished picture.

What is left to chance within a level: tones, the direction and fineness of a pattern, where the
lamp stands, blur, the camera's noise, and a little of place, size, turn and light.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from profiler.data.factors import Factors
from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.color import COLORS, RGB, rgb_from_lch, sample_color, sample_tone
from profiler.data.synthetic.patterns import PATTERNS
from profiler.data.synthetic.raster import Array
from profiler.data.synthetic.scenes import VERSION as DRAWING
from profiler.data.synthetic.scenes import DrawnSet, Scene, render

VERSION = 1
"""Raise it with every change that alters a level or a pixel."""

LIGHTNESS = 62.0
"""CIE lightness of every background's mean."""
_HUES = {
    "red": (30, 30.0),
    "yellow": (36, 88.0),
    "green": (30, 140.0),
    "blue": (30, 265.0),
    "purple": (30, 318.0),
    "gray": (0, 0.0),
}
"""Chroma and hue of a background's mean colour."""
_LIGHTS = {"dark": 0.64, "dim": 0.78, "bright": 0.92, "very bright": 1.06}
"""What the picture is multiplied with."""
_TINTS = {"warm": (1.1, 1.0, 0.84), "neutral": (1.0, 1.0, 1.0), "cool": (0.88, 1.0, 1.16)}
"""The same for red, green and blue; brought to one brightness below."""
_SIZES = {"small": 0.23, "medium": 0.29, "large": 0.35}
"""Radius of the object."""
_TURNS = {"tilted left": -17.0, "upright": 0.0, "tilted right": 17.0}
"""Of the outline, in degrees clockwise: every shape keeps its name."""
_PLACES = ("top left", "top", "top right", "left", "middle", "right",
           "bottom left", "bottom", "bottom right")  # fmt: skip
_STRIDE = 0.13
"""From the middle of the picture to the other places."""
_CARDS = 48
"""At least so many in a deck."""
_REACH = 0.2
"""Standard deviation above which a background's contrast is lowered."""

FACTORS: Mapping[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "pattern": (
        "smooth", "striped", "zigzag", "dotted", "checkered", "grid", "swirly", "speckled",
        "honeycomb", "woven",
    ),
    "material": (
        "matte", "plastic", "metallic", "glassy", "wooden", "stone", "furry", "glittery",
    ),
    "shape": (
        "circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart", "arrow",
        "flower",
    ),
    "background": (
        "sky", "sea", "grass", "desert", "forest", "mountains", "city", "road", "brick wall",
        "wooden floor", "tiled floor", "plain wall",
    ),
    "background color": tuple(_HUES),
    "light": tuple(_LIGHTS),
    "tint": tuple(_TINTS),
    "position": _PLACES,
    "size": tuple(_SIZES),
    "turn": tuple(_TURNS),
}  # fmt: skip
"""The levels of each factor; what the object is comes first."""


def name_of(factor: str, level: str) -> str:
    """What a level is called among words, where the factor is not beside it.

    >>> name_of("tint", "warm"), name_of("background color", "red"), name_of("light", "dark")
    ('warm light', 'red background', 'dark')
    """
    return {"tint": f"{level} light", "background color": f"{level} background"}.get(factor, level)


class ExperimentScenes(DrawnSet):
    """Scenes with the level of every factor of each: images to probe with."""

    @property
    def title(self) -> str:
        """How a reader knows the set."""
        return f"synthetic:2 ({self.count} scenes, seed {self.seed})"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """``scene-00000`` and so on, with what the scene shows."""
        return tuple(f"scene-{i:05d}: {self.scene(i).caption}" for i in range(self.count))

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything an image depends on, apart from its index."""
        levels = hashlib.sha256(json.dumps(dict(FACTORS)).encode()).hexdigest()
        return {
            "experiment": VERSION,
            "drawing": DRAWING,
            "levels": levels[:16],
            "seed": self.seed,
            "size": self.size,
        }

    @cached_property
    def factors(self) -> Factors:
        """The truth about all images."""
        codes = [_dealt(self.seed, i) for i in range(self.count)]
        return Factors(tuple(FACTORS), tuple(FACTORS.values()), np.array(codes))

    def truth(self, index: int) -> dict[str, str]:
        """The level of every factor in the image at ``index``."""
        codes = _dealt(self.seed, index)
        return {
            name: levels[code] for (name, levels), code in zip(FACTORS.items(), codes, strict=True)
        }

    def scene(self, index: int) -> Scene:
        """What the image at ``index`` shows, apart from its light and tint."""
        return _scene(self.seed, index, self.truth(index))

    def words(self, index: int) -> tuple[str, ...]:
        """The words true of the image at ``index``: what the scene shows, and its light."""
        truth = self.truth(index)
        around = [name_of(factor, truth[factor]) for factor in ("background color", "light")]
        around += [name_of("tint", truth["tint"])] if truth["tint"] != "neutral" else []
        return tuple(dict.fromkeys((*self.scene(index).words(), *around)))

    def read(self, index: int) -> Image.Image:
        """Draw the image at ``index``, RGB, size × size."""
        return self.draw(index, {})

    def draw(self, index: int, levels: Mapping[str, str]) -> Image.Image:
        """The image at ``index`` with other levels of some factors, and else the same."""
        own = self.truth(index)
        truth = own | dict(levels)
        scene = _scene(self.seed, index, truth)
        rng = _rng(self.seed, index, 6)
        layout = BACKGROUNDS[own["background"]].draw(rng, self.size)
        if truth["background"] != own["background"]:
            # What is drawn after the background goes on as it did after its own.
            layout = BACKGROUNDS[truth["background"]].draw(_rng(self.seed, index, 6), self.size)
        chroma, hue = _HUES[truth["background color"]]
        ground = rgb_from_lch(LIGHTNESS, chroma, hue + float(rng.uniform(-6, 6)))
        picture = render(scene, self.size, behind=moved_to(layout, ground))
        light = _LIGHTS[truth["light"]] * float(rng.uniform(0.97, 1.03))
        return _lit(picture, light, _TINTS[truth["tint"]])

    def write(self, folder: Path) -> Path:
        """Write every image as PNG, and truth.csv: a line an image, a column a factor."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["file", *FACTORS])
            table.writeheader()
            for i in range(self.count):
                name = f"scene-{i:05d}.png"
                self.read(i).save(folder / name)
                table.writerow({"file": name, **self.truth(i)})
        return folder


@dataclass(frozen=True)
class ChangedScenes:
    """Scenes with some of their levels replaced, as images to probe with.

    Attributes:
        scenes: that are changed.
        changes: of each image, which scene and what is replaced.
        title: how a reader knows the set.
    """

    scenes: ExperimentScenes
    changes: tuple[tuple[int, Mapping[str, str]], ...]
    title: str

    @property
    def names(self) -> Sequence[str]:
        """The number of the scene, and what is replaced."""
        return [f"scene-{i:05d}: {', '.join(levels.values())}" for i, levels in self.changes]

    def __len__(self) -> int:
        return len(self.changes)

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything that the images depend on."""
        changes = json.dumps([[i, dict(levels)] for i, levels in self.changes], sort_keys=True)
        digest = hashlib.sha256(changes.encode()).hexdigest()
        return {**self.scenes.identity, "changes": digest}

    @property
    def fingerprint(self) -> str:
        """A sha256 (hex) over everything that the images depend on."""
        text = json.dumps(dict(self.identity), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, index: int) -> Image.Image:
        """Draw an image."""
        return self.scenes.draw(*self.changes[index])


def _rng(seed: int, index: int, part: int) -> np.random.Generator:
    # Apart from the streams that render() draws from: those are parts 0 … 4.
    return np.random.default_rng(np.random.SeedSequence([seed, index], spawn_key=(part,)))


def _dealt(seed: int, index: int) -> list[int]:
    """The level of each factor in image ``index``: every deck holds each level equally often.

    Decks are large, because two small ones of the same size, shuffled at the same time, give tables
    that are further from independence than chance: by a half where they have three cards.
    """
    dealt = []
    for factor, levels in enumerate(FACTORS.values()):
        copies = -(-_CARDS // len(levels))
        turn, place = divmod(index, copies * len(levels))
        dealt.append(_shuffled(seed, factor, copies * len(levels), turn)[place] % len(levels))
    return dealt


@lru_cache(maxsize=256)
def _shuffled(seed: int, factor: int, cards: int, turn: int) -> tuple[int, ...]:
    key = np.random.SeedSequence([seed, VERSION], spawn_key=(factor, turn))
    return tuple(np.random.default_rng(key).permutation(cards).tolist())


def _scene(seed: int, index: int, truth: Mapping[str, str]) -> Scene:
    rng = _rng(seed, index, 5)
    rgb = sample_color(rng, truth["color"])
    row, column = divmod(_PLACES.index(truth["position"]), 3)
    x, y = (
        0.5 + _STRIDE * (place - 1) + float(rng.uniform(-0.02, 0.02)) for place in (column, row)
    )
    return Scene(
        seed=seed,
        index=index,
        color=truth["color"],
        second_color=None,
        pattern=truth["pattern"],
        material=truth["material"],
        shape=truth["shape"],
        background=truth["background"],
        rgb=rgb,
        second_rgb=sample_tone(rng, rgb),
        scale=float(rng.uniform(*PATTERNS[truth["pattern"]].periods)),
        rotation=float(rng.uniform(0, 180)),
        shape_rotation=_TURNS[truth["turn"]] + float(rng.uniform(-3, 3)),
        x=x,
        y=y,
        radius=_SIZES[truth["size"]] * float(rng.uniform(0.96, 1.04)),
        light_angle=float(rng.uniform(-75, 75)),
        brightness=1.0,
        blur=max(0.0, float(rng.uniform(-0.4, 0.4))),
        noise=float(rng.uniform(0.004, 0.02)),
    )


def moved_to(layout: Array, rgb: RGB) -> Array:
    """A picture (3, size, size) whose mean colour is another one; its contrasts are kept.

    A strong contrast is lowered, so that little of it leaves [0, 1].
    """
    middle = layout.mean(axis=(1, 2), keepdims=True)
    contrast = layout - middle
    contrast *= min(1.0, _REACH / max(float(contrast.std()), 1e-6))
    target = np.array(rgb, dtype=np.float32)[:, None, None]
    moved: Array = np.clip(contrast + target, 0, 1)
    # what was cut off at one end has moved the mean
    for _ in range(2):
        moved = np.clip(moved + (target - moved.mean(axis=(1, 2), keepdims=True)), 0, 1)
    return moved


def _lit(picture: Image.Image, light: float, tint: RGB) -> Image.Image:
    """The picture under a light of some brightness and tint."""
    level = light / (0.2126 * tint[0] + 0.7152 * tint[1] + 0.0722 * tint[2])
    values = np.arange(256)
    table = [np.minimum(np.rint(values * level * gain), 255).astype(int).tolist() for gain in tint]
    return picture.point([value for channel in table for value in channel])
