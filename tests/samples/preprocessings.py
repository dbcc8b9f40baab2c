"""Preprocessings of every kind, each to 112 × 112 pixels."""

from collections.abc import Callable

import torch
from PIL import Image, ImageOps
from timm.data.transforms_factory import create_transform
from torchvision.transforms import functional

from profiler.models.subject.preprocessing import Preprocess, parse_recipe


def centre_crop() -> Preprocess:
    mean = "mean=0.485/0.456/0.406,std=0.229/0.224/0.225"
    return parse_recipe(f"resize=128,crop=112,interpolation=bicubic,{mean}").function()


def squash() -> Preprocess:
    return parse_recipe("resize=112x112,crop=112,interpolation=bilinear,mean=0,std=1").function()


def of_timm() -> Preprocess:
    made: Preprocess = create_transform((3, 112, 112), crop_pct=0.8, is_training=False)
    return made


def letterbox(image: Image.Image) -> torch.Tensor:
    """The whole picture on gray, blue first, as detectors want it."""
    whole = ImageOps.contain(image, (112, 112), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (112, 112), (114, 114, 114))
    canvas.paste(whole, ((112 - whole.width) // 2, (112 - whole.height) // 2))
    return functional.to_tensor(canvas).flip(0)


def corner(image: Image.Image) -> torch.Tensor:
    """The top left corner, in 0 … 255, as a user's own function may have it."""
    return 255 * functional.to_tensor(image.crop((0, 0, 112, 112)))


KINDS: dict[str, Callable[[], Preprocess]] = {
    "centre crop": centre_crop,
    "squash": squash,
    "timm": of_timm,
    "letterbox": lambda: letterbox,
    "corner": lambda: corner,
}
