"""Perceptual colour naming: how far a colour is each of the eleven basic colours.

The eleven basic colour terms (Berlin & Kay, 1969) are regions of CIELAB, given here by lightness,
chroma and hue; a colour belongs to each by how far it lies from its region. CIELAB values come
from Little CMS, by way of Pillow, relative to the white point of ICC profiles (D50).
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

Span = tuple[float, float]
Region = tuple[Span, Span, Span]

REGIONS: dict[str, tuple[Region, ...]] = {
    "red": (((30, 52), (45, 110), (15, 42)), ((16, 30), (25, 80), (12, 40))),
    "orange": (((55, 76), (55, 110), (48, 72)),),
    "yellow": (
        ((72, 96), (45, 110), (82, 108)),
        ((55, 72), (45, 90), (86, 104)),
        ((76, 97), (26, 110), (76, 108)),
    ),
    "green": (((22, 88), (20, 120), (112, 190)), ((30, 60), (25, 60), (104, 112))),
    # Saturated blues lie far towards purple in CIELAB.
    "blue": (((18, 85), (18, 130), (225, 294)), ((8, 42), (40, 135), (285, 304))),
    "purple": (((16, 66), (22, 120), (306, 338)), ((45, 70), (30, 80), (297, 338))),
    "pink": (((58, 90), (18, 80), (345, 390)), ((50, 60), (55, 90), (345, 368))),
    "brown": (
        ((18, 50), (14, 52), (42, 82)),
        ((50, 60), (24, 46), (52, 76)),
        ((55, 76), (16, 32), (52, 88)),
    ),
    "black": (((0, 24), (0, 10), (0, 360)),),
    "gray": (((40, 76), (0, 6), (0, 360)),),
    "white": (((88, 100), (0, 8), (0, 360)), ((88, 100), (0, 15), (60, 112))),
}
"""By name: boxes of lightness [0, 100], chroma, and hue in degrees, that are beyond doubt so."""

NAMES = tuple(REGIONS)

_SOFTNESS = 7.0  # CIE 1976: at this distance from a region a colour is named otherwise by many
_LEVELS = 33  # of red, green and blue in the table: every eighth value, both ends among them
_CHROMA = 50.0  # of a vivid colour
_VIVIDNESS = 2.0
_BRIGHTEST = 0.95
_FLOOR = 0.02  # so much every pixel belongs to an object: an image without one has colours, too
_SEEPING = 0.3  # of the surroundings' shares, into those of an object known only in coarse cells


def lab_of(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIELAB (n, 3) of sRGB bytes (n, 3), to half a unit of lightness and a unit of a and b."""
    image = Image.fromarray(np.ascontiguousarray(rgb[None]))
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        "RGB",
        "LAB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    bytes_ = np.asarray(ImageCms.applyTransform(image, to_lab))[0]
    lightness = bytes_[:, 0] / 2.55
    a_and_b = bytes_[:, 1:].view(np.int8)
    return np.column_stack([lightness, a_and_b]).astype(np.float64)


def memberships(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far CIELAB colours (n, 3) are each of :data:`NAMES`: (n, 11), rows that sum to 1."""
    squared = np.stack([_squared_distance(lab, regions) for regions in REGIONS.values()], axis=1)
    squared -= squared.min(axis=1, keepdims=True)
    weights = np.exp(-squared / (2 * _SOFTNESS**2))
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _squared_distance(lab: NDArray[np.float64], regions: tuple[Region, ...]) -> NDArray[np.float64]:
    """From the nearest of some regions, in CIE 1976 units."""
    lightness, a, b = lab.T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a))
    nearest = np.full(len(lab), np.inf)
    for (dark, light), (dull, vivid), (start, end) in regions:
        off = np.abs((hue - (start + end) / 2 + 180) % 360 - 180)
        turn = np.radians(np.maximum(off - (end - start) / 2, 0))
        inside = np.clip(chroma, dull, vivid)
        # CIE 1976's difference, split into lightness, chroma and hue
        in_hue = 4 * chroma * inside * np.sin(turn / 2) ** 2
        in_lightness = (lightness - np.clip(lightness, dark, light)) ** 2
        nearest = np.minimum(nearest, in_lightness + (chroma - inside) ** 2 + in_hue)
    return nearest


@lru_cache(maxsize=1)
def table() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For every colour of a lattice in sRGB: its memberships (33³, 11), and its chroma (33³,)."""
    levels = np.round(np.linspace(0, 255, _LEVELS)).astype(np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = lab_of(lattice)
    return memberships(lab).astype(np.float32), np.hypot(lab[:, 1], lab[:, 2]).astype(np.float32)


class ColorShares:
    """How much of a picture, and of each of its parts, has which colour.

    Colours are judged against the picture's own brightest places, as people judge them: a white
    dog stays white in the shade. Vivid pixels count more: a bird that is half bright yellow and
    half dull is called yellow.
    """

    def __init__(self, device: torch.device) -> None:
        names, chroma = table()
        self._names = torch.from_numpy(names).to(device)
        self._weights = torch.from_numpy(1 + _VIVIDNESS * chroma / _CHROMA).to(device)

    def __call__(self, rgb: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        """(B, 3, n) in [0, 1] and weights (B, p, n) → (B, p, 11), sums of 1."""
        strongest = rgb.amax(dim=1)
        place = max(1, round(_BRIGHTEST * strongest.shape[1]))
        top = strongest.kthvalue(place, dim=1).values.clamp(min=0.5)
        levels = (rgb / top[:, None, None]).clamp(0, 1).mul(_LEVELS - 1).round().long()
        red, green, blue = levels.unbind(dim=1)
        index = (red * _LEVELS + green) * _LEVELS + blue
        weights = parts * self._weights[index][:, None]
        shares = torch.bmm(weights, self._names[index])
        return shares / shares.sum(dim=2, keepdim=True).clamp(min=1e-9)

    def of_object(self, rgb: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """(B, 3, n) in [0, 1] and how far pixels are the object's (B, 1, n) → (B, 11), sums of 1.

        What seeps in from around the object is taken away again.
        """
        own, around = self(rgb, torch.cat([inside, 1 - inside], dim=1) + _FLOOR).unbind(dim=1)
        own = (own - _SEEPING * around).clamp(min=0)
        return own / own.sum(dim=1, keepdim=True)


def fingerprint() -> str:
    """Hash of everything that decides a share."""
    digest = hashlib.sha256(
        f"{NAMES} {_VIVIDNESS} {_CHROMA} {_BRIGHTEST} {_FLOOR} {_SEEPING}".encode()
    )
    for part in table():
        digest.update(part.tobytes())
    return digest.hexdigest()
