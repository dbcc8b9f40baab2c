"""A network by hand whose three units measure how red, how striped and how ring-like a picture is.

Nothing is trained. Each unit is what its filters compute from the pixels: colors relative to the
light, energies of Gabor filters, and edges on a circle (a Hough transform as a convolution).
"""

import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

ANGLES = 8
"""Orientations of filters, evenly over half a turn."""
PERIODS = (5.0, 6.5, 8.5, 11.0)
"""Of stripes, in pixels of a picture of half the size."""
RADII = (6.2, 7.0, 7.8, 8.6, 9.4, 10.2)
"""Of a ring's hole, in pixels of a picture of a quarter of the size."""
RED, STRIPED, RING = 0.42, 0.33, 0.51
"""What each measure has to exceed."""
SIZE = 224


def _gabor(period: float, angle: float, phase: float) -> Tensor:
    reach = math.ceil(1.2 * period)
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    wave = torch.cos(2 * math.pi * along / period + phase)
    window = torch.exp(-(x**2 + y**2) / (2 * (0.5 * period) ** 2))
    kernel = window * wave
    kernel -= window * kernel.sum() / window.sum()
    return kernel / kernel.abs().sum()


def _circle(radius: float) -> Tensor:
    """(ANGLES, k, k): where an edge of each orientation lies on a circle, less where it crosses."""
    reach = math.ceil(max(RADII)) + 1
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    near = torch.exp(-((torch.hypot(x, y) - radius) ** 2) / (2 * 0.6**2))
    normal = torch.atan2(y, x)
    angles = math.pi * torch.arange(ANGLES)[:, None, None] / ANGLES
    kernel: Tensor = near * torch.cos(2 * (normal - angles))
    return kernel / near.sum()


class Planted(nn.Module):
    """(B, 3, 224, 224) in [0, 1] → (B, 3, 1, 1): red, striped, ring."""

    def __init__(self) -> None:
        super().__init__()
        angles = [math.pi * i / ANGLES for i in range(ANGLES)]
        for place, period in enumerate(PERIODS):
            waves = [_gabor(period, a, phase) for phase in (0, math.pi / 2) for a in angles]
            self.register_buffer(f"gabor{place}", torch.stack(waves)[:, None])
        edges = [_gabor(4.0, a, math.pi / 2) for a in angles]
        self.register_buffer("edge", torch.stack(edges)[:, None])
        self.register_buffer("circle", torch.stack([_circle(radius) for radius in RADII]))
        self.seen = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in, three numbers out."""
        found = torch.stack([self.red(images), self.striped(images), self.ring(images)], dim=1)
        seen: Tensor = self.seen(found[:, :, None, None])
        return seen

    def red(self, images: Tensor) -> Tensor:
        """How much red exceeds green and blue, of all light; beyond brown and orange."""
        red, green, blue = images.unbind(1)
        share = (red - (green + blue) / 2) / (red + green + blue + 0.05)
        around = nn.functional.avg_pool2d(share[:, None], 17, stride=4)
        return nn.functional.relu(around.amax(dim=(1, 2, 3)) - RED)

    def striped(self, images: Tensor) -> Tensor:
        """How much waves of one slanting direction exceed those across it, of all contrast.

        Upright and level stripes do not count: trunks, planks, joints and waves are of that kind.
        """
        contrast = torch.log(nn.functional.avg_pool2d(images.mean(1, keepdim=True), 2) + 0.05)
        best = []
        for place in range(len(PERIODS)):
            kernel = self.get_buffer(f"gabor{place}")
            wave = nn.functional.conv2d(contrast, kernel, padding=kernel.shape[-1] // 2, stride=2)
            energy = nn.functional.avg_pool2d(torch.hypot(*wave.chunk(2, dim=1)), 13, stride=2)
            across = [energy.roll(shift, dims=1) for shift in range(2, ANGLES - 1)]
            share = (energy - torch.stack(across).amax(0)) / (energy + 0.15)
            slanting = [i for i in range(ANGLES) if i % (ANGLES // 2)]
            best.append(share[:, slanting].amax(dim=(1, 2, 3)))
        return nn.functional.relu(torch.stack(best).amax(0) - STRIPED)

    def ring(self, images: Tensor) -> Tensor:
        """Edges all along a circle of the size of a hole."""
        gray = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4)
        edges = nn.functional.conv2d(gray, self.get_buffer("edge"), padding=5).abs()
        strength = edges.amax(1, keepdim=True)
        edges = edges / (strength + 0.02)
        votes = nn.functional.conv2d(edges, self.get_buffer("circle"))
        return nn.functional.relu(votes.amax(dim=(1, 2, 3)) - RING)


def subject() -> tuple[nn.Module, Callable[[Image.Image], Tensor]]:
    """The network, to be read at ``seen``, and how it takes a picture."""
    preprocess = transforms.Compose([transforms.Resize((SIZE, SIZE)), transforms.ToTensor()])
    return Planted().eval(), preprocess
