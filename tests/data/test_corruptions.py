"""Corruptions: what each family does to numbers, at every size, and what chance depends on."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from profiler.data import corruptions
from profiler.data.corruptions import FAMILIES, SEVERITIES, SIDE, CorruptedProbe, Corruption
from profiler.data.images import ImageFolder, SyntheticProbe, UnreadableImageError
from profiler.data.synthetic.scenes import SyntheticScenes
from profiler.errors import InputError, UnknownNameError, UsageError

Pixels = NDArray[np.float64]


def each(*values: float) -> list[tuple[int, float]]:
    """Severities from 1 on, and what belongs to them."""
    return list(zip(SEVERITIES, values, strict=False))


BLURS = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
UNEVEN = {"fog": (1, 2, 5), "snow": (1, 2, 4, 5), "elastic_transform": (3, 4, 5)}
"""Families whose published severities do not all move further; those of each that do."""


def flat(
    color: tuple[int, int, int] = (128, 128, 128), size: tuple[int, int] = (SIDE, SIDE)
) -> Image.Image:
    return Image.new("RGB", size, color)


def textured(width: int = SIDE, height: int = SIDE, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def values(image: Image.Image) -> Pixels:
    return np.asarray(image, dtype=np.float64) / 255


def harmed(name: str, severity: int, image: Image.Image, seed: int = 0) -> Pixels:
    return values(Corruption(name, severity)(image, np.random.default_rng(seed)))


# --- every family ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_severities_move_further_and_further(name: str) -> None:
    probe = SyntheticProbe(SyntheticScenes(5, size=96))
    distances = [
        np.mean(
            [
                np.abs(
                    values(CorruptedProbe(probe, Corruption(name, severity)).read(i))
                    - values(probe.read(i))
                ).mean()
                for i in range(5)
            ]
        )
        for severity in UNEVEN.get(name, SEVERITIES)
    ]
    assert distances[0] > 0.005
    assert (np.diff(distances) > 0).all(), distances


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (9, 40), (40, 9), (300, 230), (1, 5)])
def test_the_size_and_the_mode_stay(name: str, size: tuple[int, int]) -> None:
    image = textured(*size)
    for severity in (1, 5):
        made = Corruption(name, severity)(image, np.random.default_rng(0))
        assert (made.size, made.mode) == (image.size, "RGB")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_make_no_trouble(name: str, level: int) -> None:
    for severity in SEVERITIES:
        harmed(name, severity, flat((level,) * 3, (24, 16)))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_image_itself_is_left_alone(name: str) -> None:
    image = textured(32, 24)
    before = image.tobytes()
    made = Corruption(name, 3)(image, np.random.default_rng(0))
    assert image.tobytes() == before != made.tobytes()


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.endswith("_noise")])
def test_gray_stays_gray(name: str) -> None:
    gray = textured(48, 48).convert("L").convert("RGB")
    made = harmed(name, 3, gray)
    # JPEG turns gray into gray within rounding.
    assert np.ptp(made, axis=2).max() <= 1.01 / 255


@pytest.mark.parametrize("name", FAMILIES)
def test_a_picture_four_times_as_large_looks_harmed_alike(name: str) -> None:
    """Shrunk back, it has moved about as far as the small one did."""
    small = SyntheticScenes(1, seed=3, size=SIDE).image(0)
    large = small.resize((4 * SIDE, 4 * SIDE), Image.Resampling.BICUBIC)
    back = Corruption(name, 4)(large, np.random.default_rng(0))
    shrunk = values(back.resize(small.size, Image.Resampling.BOX))
    there, here = (
        np.abs(picture - values(small)).mean() for picture in (shrunk, harmed(name, 4, small))
    )
    assert there == pytest.approx(here, rel=0.25)


# --- noise -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("severity", "deviation"), each(0.08, 0.12, 0.18))
def test_gaussian_noise_has_its_deviation(severity: int, deviation: float) -> None:
    made = harmed("gaussian_noise", severity, flat())
    assert made.std() == pytest.approx(deviation, rel=0.03)
    assert made.mean() == pytest.approx(128 / 255, abs=0.002)
    colors = np.corrcoef(made.reshape(-1, 3).T)
    assert np.abs(colors - np.eye(3)).max() < 0.02


@pytest.mark.parametrize(("severity", "photons"), each(60, 25))
def test_shot_noise_grows_with_the_light(severity: int, photons: int) -> None:
    """A Poisson count of mean λ has variance λ; in shares of white, x / photons."""
    for level in (26, 102):
        made = harmed("shot_noise", severity, flat((level,) * 3))
        assert made.var() == pytest.approx(level / 255 / photons, rel=0.05)
        assert made.mean() == pytest.approx(level / 255, rel=0.02)
    assert harmed("shot_noise", severity, flat((0, 0, 0))).max() == 0


@pytest.mark.parametrize(("severity", "share"), each(0.03, 0.06, 0.09, 0.17, 0.27))
def test_impulse_noise_hits_its_share_half_and_half(severity: int, share: float) -> None:
    made = harmed("impulse_noise", severity, flat())
    assert (made == 1).mean() == pytest.approx(share / 2, rel=0.08)
    assert (made == 0).mean() == pytest.approx(share / 2, rel=0.08)
    assert set(np.unique(made)) == {0, 128 / 255, 1}


def test_grains_of_a_large_picture_are_blocks() -> None:
    made = harmed("gaussian_noise", 2, flat(size=(3 * SIDE, 3 * SIDE)))
    blocks = made.reshape(SIDE, 3, SIDE, 3, 3)
    assert np.ptp(blocks, axis=(1, 3)).max() == 0
    assert made.std() == pytest.approx(0.12, rel=0.03)


# --- blur ------------------------------------------------------------------------------------


def test_a_mean_reads_where_it_says() -> None:
    picture = values(textured(12, 10))
    down, right, weights = (np.array(each) for each in ([2.0, -1.0], [0.5, 0.0], [0.75, 0.25]))
    made = corruptions._mean_over(picture, down, right, weights)
    below = (picture[4, 3] + picture[4, 4]) / 2
    np.testing.assert_allclose(made[2, 3], 0.75 * below + 0.25 * picture[1, 3], atol=1e-6)


@pytest.mark.parametrize("name", BLURS)
@pytest.mark.parametrize("severity", [1, 5])
def test_blur_leaves_one_color_alone(name: str, severity: int) -> None:
    for size in ((SIDE, SIDE), (11, 30)):
        image = flat((10, 128, 250), size)
        np.testing.assert_allclose(harmed(name, severity, image), values(image), atol=1e-6)


def point(side: int = SIDE) -> Image.Image:
    image = flat((0, 0, 0), (side, side))
    image.paste((255, 255, 255), (side // 2 - 2, side // 2 - 2, side // 2 + 3, side // 2 + 3))
    return image


def spot(made: Pixels) -> tuple[float, Pixels, Pixels]:
    """The sum, the centre (row, column) and the covariance of the light."""
    light = made.mean(axis=2)
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    places = np.stack([rows.ravel(), columns.ravel()])
    return (
        light.sum(),
        np.average(places, axis=1, weights=light.ravel()),
        np.cov(places, aweights=light.ravel()),
    )


@pytest.mark.parametrize(("severity", "radius"), each(3, 4, 6, 8, 10))
def test_defocus_is_a_disc(severity: int, radius: float) -> None:
    """A disc has the variance r²/4 along each axis; reading between pixels adds at most 1/4."""
    before, after = spot(values(point())), spot(harmed("defocus_blur", severity, point()))
    assert after[0] == pytest.approx(before[0], rel=0.03)
    np.testing.assert_allclose(after[1], before[1], atol=0.05)
    grown = after[2] - before[2]
    assert abs(grown[0, 1]) < 0.05
    for axis in range(2):
        assert radius**2 / 4 - 0.1 < grown[axis, axis] < radius**2 / 4 + 0.35
    # No light further out than the radius.
    lit = harmed("defocus_blur", severity, point())[..., 0].any(axis=1).sum()
    assert 2 * radius + 3 <= lit <= 2 * radius + 7


def test_blur_scales_with_the_picture() -> None:
    small, large = (spot(harmed("defocus_blur", 5, point(side)))[2] for side in (SIDE, 2 * SIDE))
    assert large[0, 0] - 2 == pytest.approx(4 * (small[0, 0] - 2), rel=0.05)


def test_motion_is_a_line_within_45_degrees() -> None:
    angles = []
    for seed in range(12):
        _, centre, covariance = spot(harmed("motion_blur", 4, point(), seed))
        widths, axes = np.linalg.eigh(covariance)
        assert widths[0] < 3  # the point itself has 2, and reading between pixels adds a little
        # Half a Gaussian of deviation 12, cut off at 30: variance about 144 (1 − 2/π) or less.
        assert 35 < widths[1] < 55
        angles.append(np.degrees(np.arctan2(*axes[:, 1])) % 180)
        moved = centre - SIDE // 2
        assert np.hypot(*moved) == pytest.approx(9.3, abs=1)
    turned = (np.array(angles) + 90) % 180 - 90
    assert np.abs(turned).max() <= 46
    assert np.ptp(turned) > 40


def test_zoom_keeps_the_centre_and_smears_the_edge() -> None:
    image = flat((0, 0, 0), (225, 225))
    image.paste((255, 255, 255), (112, 0, 113, 225))
    image.paste((255, 255, 255), (202, 0, 203, 225))
    row = harmed("zoom_blur", 5, image)[112, :, 0]
    assert row[112] > 0.8
    assert row[202] < 0.3
    assert row[:105].max() == 0  # nothing moves inwards
    assert row[205:225].sum() > 0.3


def test_glass_keeps_colors_within_reach() -> None:
    """Softening and shuffling take means and other places: no new extremes, no far journeys."""
    image = flat((0, 0, 0))
    image.paste((255, 255, 255), (112, 0, 224, 224))
    made = harmed("glass_blur", 5, image)[..., 0]
    assert made[:, :90].max() == 0
    assert made[:, 134:].min() == 1
    assert np.abs(np.diff(made[:, 112])).mean() > 0.02  # the edge is ragged


# --- weather ---------------------------------------------------------------------------------


def test_snow_whitens_and_falls() -> None:
    made = harmed("snow", 3, flat((60, 60, 60)))
    assert made.min() >= 60 / 255 - 1e-6
    assert (made == 1).any()
    # Tracks run down rather than across.
    light = made[..., 0]
    assert np.abs(np.diff(light, axis=0)).mean() < 0.8 * np.abs(np.diff(light, axis=1)).mean()


@pytest.mark.parametrize(("severity", "thickness"), [(1, 1.5), (5, 3.0)])
def test_fog_lies_between_dark_and_white(severity: int, thickness: float) -> None:
    """A flat white becomes (1 + t f) / (1 + t) with f from 0 to 1."""
    made = harmed("fog", severity, flat((255, 255, 255), (256, 256)))
    assert made.min() == pytest.approx(1 / (1 + thickness), abs=0.01)
    assert made.max() == pytest.approx(1, abs=0.01)
    assert harmed("fog", severity, flat((0, 0, 0))).max() == 0


def test_plasma_is_smooth_and_goes_round() -> None:
    smooth, rough = (corruptions._plasma(np.random.default_rng(0), decay) for decay in (2, 1.4))
    for field in (smooth, rough):
        assert (field.min(), field.max()) == (0, 1)
        across = np.abs(field - np.roll(field, 1, axis=1)).mean(axis=0)
        assert across[0] < 3 * across.mean()
    assert np.abs(ndimage.laplace(smooth)).mean() < 0.5 * np.abs(ndimage.laplace(rough)).mean()


@pytest.mark.parametrize(("severity", "more"), each(0.1, 0.2, 0.3, 0.4, 0.5))
def test_brightness_raises_the_largest_color(severity: int, more: float) -> None:
    color = np.array([100, 50, 25]) / 255
    made = harmed("brightness", severity, flat((100, 50, 25)))[0, 0]
    np.testing.assert_allclose(made.max(), color.max() + more, atol=1 / 255)
    np.testing.assert_allclose(made / made.max(), color / color.max(), atol=0.01)
    np.testing.assert_allclose(harmed("brightness", severity, flat((0, 0, 0))), more, atol=1 / 255)
    assert harmed("brightness", severity, flat((255, 255, 255))).min() == 1


# --- digital ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("severity", "share"), each(0.4, 0.3, 0.2, 0.1, 0.05))
def test_contrast_keeps_the_means(severity: int, share: float) -> None:
    pixels = values(textured()) * np.array([1, 0.5, 0.2])
    image = Image.fromarray((255 * pixels).astype(np.uint8))
    made = harmed("contrast", severity, image)
    means = values(image).mean(axis=(0, 1))
    np.testing.assert_allclose(made.mean(axis=(0, 1)), means, atol=1e-3)
    expected = (values(image) - means) * share + means
    np.testing.assert_allclose(made, expected, atol=0.51 / 255)


@pytest.mark.parametrize(("severity", "share"), each(0.6, 0.5, 0.4, 0.3, 0.25))
def test_pixelate_has_so_many_blocks(severity: int, share: float) -> None:
    made = harmed("pixelate", severity, textured())
    for axis in (0, 1):
        steps = np.abs(np.diff(made, axis=axis)).max(axis=(1 - axis, 2)) > 0
        assert steps.sum() + 1 == int(SIDE * share)
    assert made.mean() == pytest.approx(values(textured()).mean(), abs=0.01)


def test_pixelate_blocks_are_means() -> None:
    image = textured()
    blocks = values(image).reshape(56, 4, 56, 4, 3).mean(axis=(1, 3))
    made = harmed("pixelate", 5, image).reshape(56, 4, 56, 4, 3)
    np.testing.assert_allclose(made[:, 0, :, 0], blocks, atol=0.51 / 255)
    assert np.ptp(made, axis=(1, 3)).max() == 0


@pytest.mark.parametrize(("severity", "quality"), each(25, 18, 15, 10, 7))
def test_jpeg_is_that_of_the_quality(severity: int, quality: int, tmp_path: Path) -> None:
    image = SyntheticScenes(1, size=100).image(0)
    image.save(tmp_path / "stored.jpg", quality=quality)
    with Image.open(tmp_path / "stored.jpg") as stored:
        expected = values(stored)
    np.testing.assert_allclose(harmed("jpeg_compression", severity, image), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_moves_but_makes_no_new_colors(severity: int) -> None:
    ramp = np.linspace(50, 200, SIDE)
    image = Image.fromarray(np.broadcast_to(ramp[:, None, None], (SIDE, SIDE, 3)).astype(np.uint8))
    made = harmed("elastic_transform", severity, image)
    assert values(image).min() - 1e-6 <= made.min() <= made.max() <= values(image).max() + 1e-6
    # Three points move by at most `tilt` pixels, which no point inside exceeds by much.
    _, _, tilt = corruptions._FAMILIES["elastic_transform"].levels[severity - 1]
    moved = np.abs(made - values(image))[SIDE // 3 : -SIDE // 3, SIDE // 3 : -SIDE // 3]
    assert moved.max() * 255 / 150 * SIDE < 3 * tilt + 20
    assert moved.max() > 0


# --- words -----------------------------------------------------------------------------------


@given(st.sampled_from(FAMILIES), st.sampled_from(SEVERITIES))
def test_words_go_there_and_back(name: str, severity: int) -> None:
    corruption = Corruption(name, severity)
    assert Corruption.parse(str(corruption)) == corruption == Corruption.parse(f" {corruption} ")


@pytest.mark.parametrize("text", ["fog", "fog:", "fog:0", "fog:6", "fog:1.5", "fog:-1", "fog:a"])
def test_a_severity_is_one_of_five(text: str) -> None:
    with pytest.raises(UsageError, match=r"needs a severity from 1 to 5, as in 'fog:3'"):
        Corruption.parse(text)
    with pytest.raises(UsageError, match="severities 1 to 5, not 0"):
        Corruption("fog", 0)


def test_a_wrong_name_gets_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="near names: gaussian_noise"):
        Corruption.parse("gausian_noise:9")
    with pytest.raises(UnknownNameError, match="photographs of ice"):
        Corruption.parse("frost:2")
    with pytest.raises(UnknownNameError, match="unknown corruption ''"):
        Corruption.parse(":3")


@pytest.mark.parametrize("mode", ["L", "RGBA", "F"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(InputError, match=f"wants an RGB image, not one of mode {mode}"):
        Corruption("fog", 1)(Image.new(mode, (8, 8)), np.random.default_rng(0))


# --- a probe set -----------------------------------------------------------------------------


class Listed:
    """Images in a list."""

    title = "a list"
    fingerprint = "f"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def read(self, index: int) -> Image.Image:
        if self.names[index] == "broken":
            raise UnreadableImageError("broken")
        return flat(size=(12, 10))


def bytes_of(names: Sequence[str], index: int, corruption: str, seed: int = 0) -> bytes:
    return CorruptedProbe(Listed(names), Corruption.parse(corruption), seed).read(index).tobytes()


@pytest.mark.parametrize("name", [n for n in FAMILIES if n.endswith("noise")])
def test_chance_is_of_the_seed_and_the_name(name: str) -> None:
    here = bytes_of(["a", "b", "c"], 1, f"{name}:5")
    assert here == bytes_of(["a", "b", "c"], 1, f"{name}:5") == bytes_of(["b"], 0, f"{name}:5")
    assert here != bytes_of(["a", "b", "c"], 2, f"{name}:5")
    assert here != bytes_of(["b"], 0, f"{name}:5", seed=1)


def test_severities_share_their_chances() -> None:
    one, two = (
        np.frombuffer(bytes_of(["a"], 0, f"gaussian_noise:{severity}"), np.uint8) - 128.0
        for severity in (1, 2)
    )
    np.testing.assert_allclose(one / 0.08, two / 0.12, atol=12)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(FAMILIES), st.integers(0, 2**40))
def test_it_survives_a_journey_to_another_process(name: str, seed: int) -> None:
    probe = CorruptedProbe(Listed(["a"]), Corruption(name, 2), seed)
    there = pickle.loads(pickle.dumps(probe))
    assert there.read(0).tobytes() == probe.read(0).tobytes()
    assert there.fingerprint == probe.fingerprint


def test_a_corrupted_set_says_what_it_is(tmp_path: Path) -> None:
    names = tiny.write_images(tmp_path, 3)
    probe = ImageFolder.open(tmp_path, title="tiny")
    made = CorruptedProbe(probe, Corruption("contrast", 2), seed=5)
    assert (made.title, list(made.names)) == ("tiny, harmed by contrast:2", names)
    prints = {
        probe.fingerprint,
        made.fingerprint,
        CorruptedProbe(probe, Corruption("contrast", 3), seed=5).fingerprint,
        CorruptedProbe(probe, Corruption("fog", 2), seed=5).fingerprint,
        CorruptedProbe(probe, Corruption("contrast", 2), seed=6).fingerprint,
        CorruptedProbe(Listed(names), Corruption("contrast", 2), seed=5).fingerprint,
    }
    assert len(prints) == 6
    assert CorruptedProbe(probe, Corruption("contrast", 2), 5).fingerprint == made.fingerprint


def test_what_cannot_be_read_cannot_be_harmed() -> None:
    with pytest.raises(UnreadableImageError, match="broken"):
        CorruptedProbe(Listed(["broken"]), Corruption("fog", 1)).read(0)
    with pytest.raises(InputError, match="seed must not be negative"):
        CorruptedProbe(Listed(["a"]), Corruption("fog", 1), seed=-1)
