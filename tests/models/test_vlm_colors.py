"""Colours by name: what a colour is called, and how much of a picture has it."""

import numpy as np
import pytest
import torch
from PIL import ImageColor

from profiler.data.synthetic.color import COLORS, sample_color
from profiler.models.vlm.colors import NAMES, ColorShares, lab_of, memberships

CPU = torch.device("cpu")


def named(*rgb: tuple[int, int, int]) -> list[str]:
    shares = memberships(lab_of(np.array(rgb, dtype=np.uint8)))
    return [NAMES[best] for best in shares.argmax(axis=1)]


def test_cielab_of_white_black_and_gray() -> None:
    lab = lab_of(np.array([[255, 255, 255], [0, 0, 0], [119, 119, 119]], dtype=np.uint8))
    assert lab == pytest.approx(np.array([[100, 0, 0], [0, 0, 0], [50, 0, 0]]), abs=1)


def test_the_primaries_have_their_names() -> None:
    assert named((220, 20, 20), (20, 150, 40), (0, 0, 255)) == ["red", "green", "blue"]
    assert named((255, 255, 255), (0, 0, 0), (128, 128, 128)) == ["white", "black", "gray"]


def test_names_of_the_web_that_end_in_a_basic_color_are_mostly_understood() -> None:
    """Such as ``forestgreen``; the list is Pillow's, and says nothing of CIELAB."""
    known = {
        name: ImageColor.getrgb(name)[:3]
        for name in ImageColor.colormap
        if any(name.endswith(basic) for basic in NAMES)
    }
    found = named(*known.values())
    right = [name.endswith(word) for name, word in zip(known, found, strict=True)]
    assert len(known) > 60
    assert np.mean(right) >= 0.75


def test_the_colors_of_the_synthetic_scenes_are_called_what_they_were_drawn_as() -> None:
    rng = np.random.default_rng(0)
    for name in COLORS:
        drawn = [tuple(round(255 * c) for c in sample_color(rng, name)) for _ in range(40)]
        assert np.mean([word == name for word in named(*drawn)]) >= 0.9, name


def test_memberships_are_shares() -> None:
    rng = np.random.default_rng(1)
    shares = memberships(lab_of(rng.integers(0, 256, (500, 3), dtype=np.uint8)))
    assert shares.min() >= 0
    assert shares.sum(axis=1) == pytest.approx(np.ones(500))


def test_half_of_a_picture_is_red_and_the_weights_say_which_half_counts() -> None:
    rgb = torch.zeros(1, 3, 100)
    rgb[0, :, :50] = torch.tensor([0.86, 0.08, 0.08])[:, None]  # red
    rgb[0, :, 50:] = 1.0  # white
    left, right, both = torch.zeros(3, 100)
    left[:50], right[50:], both[:] = 1, 1, 1
    shares = ColorShares(CPU)(rgb, torch.stack([left, right, both])[None])[0]
    red, white = NAMES.index("red"), NAMES.index("white")
    assert shares[0, red] > 0.9
    assert shares[1, white] > 0.95
    # a vivid pixel counts for more than a pale one
    assert shares[2, red] > shares[2, white] > 0.1
    assert shares.sum(dim=1) == pytest.approx(torch.ones(3))


def test_what_seeps_in_from_around_an_object_is_taken_away_again() -> None:
    rgb = torch.zeros(1, 3, 100)
    rgb[0, :, :50] = torch.tensor([0.86, 0.08, 0.08])[:, None]  # a red thing
    rgb[0, :, 50:] = torch.tensor([0.08, 0.6, 0.16])[:, None]  # on grass
    inside = torch.zeros(1, 1, 100)
    inside[..., :50], inside[..., 50:] = 0.9, 0.1
    colors, green = ColorShares(CPU), NAMES.index("green")
    assert colors(rgb, inside)[0, 0, green] > 0.05
    assert colors.of_object(rgb, inside)[0, green] == 0
    # Where nothing is told apart, the shares are those of the whole.
    nowhere = torch.full((1, 1, 100), 0.5)
    whole = colors(rgb, torch.ones(1, 1, 100))[0, 0]
    assert colors.of_object(rgb, nowhere)[0] == pytest.approx(whole, abs=1e-6)
    assert colors.of_object(rgb, 0 * nowhere)[0].sum() == pytest.approx(1)


def test_white_in_the_shade_stays_white() -> None:
    """It is the brightest of its picture; in a brighter picture the same pixels are gray."""
    shade = torch.full((1, 3, 100), 0.62)
    everywhere = torch.ones(1, 1, 100)
    alone = ColorShares(CPU)(shade, everywhere)[0, 0]
    assert NAMES[int(alone.argmax())] == "white"
    lit = shade.clone()
    lit[..., :20] = 1.0
    dim = everywhere.clone()
    dim[..., :20] = 0
    assert NAMES[int(ColorShares(CPU)(lit, dim)[0, 0].argmax())] == "gray"
