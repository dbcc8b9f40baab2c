"""What is done to an image before the network sees it: as its source says, or as the user says."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.models.subject.factories import factory_file

Preprocess = Callable[[Image.Image], torch.Tensor]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Recipe:
    """Resize, cut out the centre, scale to [0, 1], and normalise each colour.

    Attributes:
        resize: (short side,), which keeps the proportions, or (height, width), which may not.
        crop: height and width of what is cut out.
        interpolation: one of :data:`INTERPOLATIONS`.
        mean: subtracted from red, green and blue.
        std: red, green and blue are divided by it.
    """

    resize: tuple[int, ...]
    crop: tuple[int, ...]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def text(self) -> str:
        """In words; two recipes with the same words do the same.

        >>> Recipe((256,), (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.3)).text
        'short side 256 bicubic, centre 224 × 224, mean 0.5, std 0.2/0.2/0.3'
        """
        size = " × ".join(map(str, self.resize))
        return (
            f"{'short side ' if len(self.resize) == 1 else 'resized to '}{size} "
            f"{self.interpolation}, centre {' × '.join(map(str, self.crop))}, "
            f"mean {_colors(self.mean)}, std {_colors(self.std)}"
        )

    def function(self) -> Preprocess:
        """The steps, from an RGB image to (3, H, W)."""
        from torchvision import transforms

        size = self.resize[0] if len(self.resize) == 1 else self.resize
        mode = transforms.InterpolationMode(self.interpolation)
        steps: Preprocess = transforms.Compose(
            [
                transforms.Resize(size, interpolation=mode),
                transforms.CenterCrop(self.crop),
                transforms.ToTensor(),
                transforms.Normalize(self.mean, self.std),
            ]
        )
        return steps


def _colors(values: Sequence[float]) -> str:
    texts = [f"{value:.10g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else "/".join(texts)


@dataclass(frozen=True)
class Preprocessing:
    """A function with its description.

    Attributes:
        function: from an RGB image to (3, H, W).
        text: in words.
        identity: tells it from every other, wherever it lies; ``text`` if empty.
        recipe: the same as a recipe, where it is one.
    """

    function: Preprocess
    text: str
    identity: str = ""
    recipe: Recipe | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> "Preprocessing":
        """By a recipe."""
        return cls(recipe.function(), recipe.text, recipe=recipe)


# --- sources ---------------------------------------------------------------------------------


def of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """As ``timm.data.create_transform`` makes it of a model's data config."""
    from timm.data.transforms_factory import create_transform

    function = create_transform(**config, is_training=False)
    _, height, width = config["input_size"]
    resize = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    mode = config["crop_mode"]
    if mode == "squash" or (mode == "center" and height == width):
        recipe = Recipe(
            resize if mode == "squash" else resize[:1],
            (height, width),
            config["interpolation"],
            tuple(config["mean"]),
            tuple(config["std"]),
        )
        return Preprocessing(function, recipe.text, recipe=recipe)
    return Preprocessing(function, _one_line(function))


def of_torchvision(preset: Any) -> Preprocessing:
    """As the transforms that torchvision keeps beside each set of weights."""
    parts = ("resize_size", "crop_size", "interpolation", "mean", "std")
    if not all(hasattr(preset, part) for part in parts):
        return Preprocessing(preset, _one_line(preset))
    crop = tuple(preset.crop_size)
    recipe = Recipe(
        tuple(preset.resize_size),
        crop * 2 if len(crop) == 1 else crop,
        preset.interpolation.value,
        tuple(preset.mean),
        tuple(preset.std),
    )
    return Preprocessing(preset, recipe.text, recipe=recipe)


def of_open_clip(function: Preprocess, config: Mapping[str, Any]) -> Preprocessing:
    """As open_clip makes it of a tower's ``preprocess_cfg``."""
    size = config["size"]
    sides = (size, size) if isinstance(size, int) else tuple(size)
    square = sides[0] == sides[1]
    modes = {"shortest": sides[:1], "squash": sides}
    if config["resize_mode"] not in modes or not square:
        return Preprocessing(function, _one_line(function))
    interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    recipe = Recipe(
        modes[config["resize_mode"]],
        sides,
        interpolation,
        tuple(config["mean"]),
        tuple(config["std"]),
    )
    return Preprocessing(function, recipe.text, recipe=recipe)


def _one_line(function: object) -> str:
    return " ".join(str(function).split())


# --- the user's own --------------------------------------------------------------------------


KEYS = ("resize", "crop", "interpolation", "mean", "std")


def parse_recipe(text: str, base: Recipe | None = None) -> Recipe:
    """``resize=256,crop=224,interpolation=bicubic,mean=0.485/0.456/0.406,std=0.5``.

    What is not named is taken from ``base``; without a base everything has to be named. One
    number for ``resize`` is the short side; ``256x256`` gives both sides, whatever the
    proportions. One number for ``mean`` or ``std`` serves the three colours.
    """
    given = _given(text)
    if base is None:
        missing = [key for key in KEYS if key not in given]
        if missing:
            raise UsageError(
                "--preprocess must give every value, because those the model was trained with "
                f"are not known as numbers; missing: {', '.join(missing)}"
            )
        recipe = Recipe(**given)
    else:
        recipe = replace(base, **given)
    resized = recipe.resize * 2 if len(recipe.resize) == 1 else recipe.resize
    if any(cut > side for cut, side in zip(recipe.crop, resized, strict=True)):
        raise UsageError(
            f"--preprocess: crop {recipe.crop} is larger than resize {recipe.resize}, so the "
            "border would be black; give a larger resize as well"
        )
    return recipe


def _given(text: str) -> dict[str, Any]:
    """The values that are named, by key."""
    given: dict[str, Any] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UsageError(
                f"--preprocess {item.strip()!r} is neither KEY=VALUE nor FILE.py:FUNCTION; "
                f"keys: {', '.join(KEYS)}"
            )
        if key not in KEYS:
            raise UnknownNameError("key of --preprocess", key, KEYS)
        if key in given:
            raise UsageError(f"--preprocess names {key!r} twice")
        given[key] = _value(key, value)
    return given


def check_preprocess(text: str) -> None:
    """Raise now what would be wrong with ``--preprocess`` whatever the model's own is."""
    if ".py:" in text:
        factory_file(text)
    else:
        _given(text)


def _value(key: str, text: str) -> Any:
    if key == "interpolation":
        if text not in INTERPOLATIONS:
            raise UnknownNameError("interpolation", text, INTERPOLATIONS)
        return text
    if key in ("resize", "crop"):
        sides = text.split("x")
        if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
            raise UsageError(f"--preprocess {key}={text!r} is no size; write 224 or 224x192")
        numbers = tuple(int(side) for side in sides)
        return numbers * 2 if key == "crop" and len(numbers) == 1 else numbers
    try:
        values = tuple(float(part) for part in text.split("/"))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise UsageError(f"--preprocess {key}={text!r} is no number, nor three as in 0.5/0.4/0.4")
    if key == "std" and min(values) <= 0:
        raise UsageError(f"--preprocess std={text!r} must be above 0")
    return values * 3 if len(values) == 1 else values


# --- trial -----------------------------------------------------------------------------------


def trial_image() -> Image.Image:
    """256 × 256 pixels of noise, always the same: no two places of it look alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def trial_images() -> tuple[Image.Image, Image.Image]:
    """The same, and large patches of pure colours, black and white, in other proportions."""
    noise = trial_image()
    pure = noise.crop((0, 0, 4, 3)).point(lambda value: 255 * (value > 127))
    return noise, pure.resize((400, 300), Image.Resampling.NEAREST)


def shown(function: Preprocess, image: Image.Image, name: str) -> torch.Tensor:
    """What a function makes of a picture of 256 × 256 pixels; :class:`InputError` if it fails."""
    try:
        return function(image)
    except Exception as error:
        raise InputError(
            f"the preprocessing of {name} fails on an RGB image of 256 × 256 pixels: "
            f"{type(error).__name__}: {error}"
        ) from error


def digest_of(function: Preprocess, name: str) -> bytes:
    """What a function makes of the trial images: tells functions apart whose text is the same.

    Raises:
        InputError: it fails on the first; of the second this is told as well.
    """
    made = []
    for image in trial_images():
        try:
            # A random one is known again by what it makes of the same chances.
            with seeded(0):
                tensor = function(image).detach().cpu().float().contiguous()
            made.append(f"{tuple(tensor.shape)} ".encode() + tensor.numpy().tobytes())
        except Exception as error:
            if not made:
                raise InputError(
                    f"the preprocessing of {name} fails on an RGB image of 256 × 256 pixels: "
                    f"{type(error).__name__}: {error}"
                ) from error
            made.append(type(error).__name__.encode())
    return hashlib.sha256(b"".join(made)).digest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The same random numbers each time, leaving no trace in what comes after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
