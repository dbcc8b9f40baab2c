"""Preprocessing by a table gives the bits of the steps it stands for."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from profiler.models.pixels import by_table

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = transforms.CenterCrop((40, 56))
END = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


def image(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))


def all_values() -> Image.Image:
    """Every value in every colour, none of them beside itself."""
    ramp = np.arange(256, dtype=np.uint8)
    return Image.fromarray(np.stack([ramp, ramp[::-1], np.roll(ramp, 100)], axis=1)[None])


@pytest.mark.parametrize("before", [[], [CROP], [transforms.Resize(45), CROP]])
def test_every_bit_is_that_of_the_steps(before: list[Callable[..., object]]) -> None:
    steps = transforms.Compose([*before, *END])
    table = by_table(steps)
    assert table is not steps
    for picture in (image(1), image(2), *([] if before else [all_values()])):
        made, expected = table(picture), steps(picture)
        assert made.dtype == torch.float32
        assert made.is_contiguous()
        assert torch.equal(made, expected)


def test_timm_ends_as_usual() -> None:
    create = pytest.importorskip("timm.data.transforms_factory").create_transform
    steps = create(input_size=(3, 32, 32), is_training=False)
    table = by_table(steps)
    assert table is not steps
    assert torch.equal(table(image()), steps(image()))


class Noisy(transforms.Normalize):
    """Another step under a known name."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Not one number a pixel."""
        return super().forward(tensor).flip(-1)


@pytest.mark.parametrize(
    "function",
    [
        lambda picture: transforms.functional.to_tensor(picture),
        transforms.Compose([]),
        transforms.Compose([CROP]),
        transforms.Compose([transforms.ToTensor()]),
        transforms.Compose([END[1]]),
        transforms.Compose([*END, CROP]),
        transforms.Compose([END[0], transforms.GaussianBlur(3), END[1]]),
        transforms.Compose([END[0], Noisy(MEAN, STD)]),
    ],
)
def test_anything_else_is_left_as_it_is(function: Callable[..., object]) -> None:
    assert by_table(function) is function


def test_steps_that_leave_no_rgb_image_go_their_own_way() -> None:
    grey = transforms.Compose(
        [transforms.Grayscale(), END[0], transforms.Normalize((0.5,), (0.2,))]
    )
    assert torch.equal(by_table(grey)(image()), grey(image()))
