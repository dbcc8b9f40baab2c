"""Probe images and concept files as they are found in the world."""

import hashlib
import os
import pickle
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import write_images
from torchvision.datasets import Imagenette

from profiler.core.categories import DEFAULT_CATEGORIES
from profiler.data.concept_sets import BUILT_IN_CONCEPTS, open_concepts
from profiler.data.images import (
    ImageFolder,
    Listing,
    UnreadableImageError,
    image_suffixes,
    list_images,
    open_probe,
    spread,
)
from profiler.errors import DownloadError, InputError, UnknownNameError, UsageError


def flat(color: str = "red", size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, color)


def read_only_image(folder: Path) -> Image.Image:
    """The one image of a folder, as the program sees it."""
    return ImageFolder.open(folder).read(0)


def corner(image: Image.Image) -> tuple[int, ...]:
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


# --- which files, in which order -------------------------------------------------------------


def test_images_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.jpg", "B.JPEG", "b/c/deep.webp", "c.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        flat().save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert ImageFolder.open(tmp_path).names == (
        "B.JPEG",
        "a.jpg",
        "b/10.png",
        "b/2.png",
        "b/c/deep.webp",
        "c.tif",
    )


def test_files_that_begin_with_a_dot_are_no_images(tmp_path: Path) -> None:
    """An archive made on a Mac holds ``._photo.jpg`` beside each photo."""
    flat().save(tmp_path / "photo.jpg")
    (tmp_path / "._photo.jpg").write_bytes(b"\0\5\26\7")
    (tmp_path / ".thumbnails").mkdir()
    flat().save(tmp_path / ".thumbnails" / "photo.jpg")
    assert ImageFolder.open(tmp_path).names == ("photo.jpg",)


needs_links = pytest.mark.skipif(os.name != "posix", reason="links need rights on this system")


@needs_links
def test_links_are_followed_as_if_the_files_were_there(tmp_path: Path) -> None:
    """A subset of a large set is often made of links, to class folders or to files."""
    write_images(tmp_path / "large" / "cat", 2)
    write_images(tmp_path / "large" / "dog", 2)
    data, copy = tmp_path / "data", tmp_path / "copy"
    for kind in ("cat", "dog"):
        (data / "own").mkdir(parents=True, exist_ok=True)
        (data / kind).symlink_to(tmp_path / "large" / kind)
        (data / "own" / f"{kind}.png").symlink_to(tmp_path / "large" / kind / "0000_red.png")
    write_images(tmp_path / "large" / "cat" / "deeper", 1)
    shutil.copytree(data, copy)  # which copies what links stand for
    linked, copied = ImageFolder.open(data), ImageFolder.open(copy)
    assert len(linked.names) == 7
    assert linked.names == copied.names
    assert linked.fingerprint == copied.fingerprint
    assert linked.notes == ("2 of 7 images are there once more, through links",)
    assert copied.notes == ()


@needs_links
def test_links_in_circles_end(tmp_path: Path) -> None:
    write_images(tmp_path / "a" / "b", 1)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "here").symlink_to(".")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    found = list_images(tmp_path)
    assert found.files == ("a/b/0000_red.png",)
    assert found.passed_over == {"leading back to a folder above": 2, "without a suffix": 1}


@needs_links
def test_a_link_that_leads_nowhere_is_an_image_nobody_can_read(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    folder = ImageFolder.open(tmp_path)
    assert folder.names == ("gone.png",)
    with pytest.raises(UnreadableImageError, match="FileNotFoundError"):
        folder.read(0)


def test_what_systems_put_beside_images_is_not_there(tmp_path: Path) -> None:
    for name in ("1.png", "__MACOSX/1.png", "@eaDir/1.png", ".ipynb_checkpoints/1.png", "1.png~"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        flat().save(tmp_path / name, "PNG")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == Listing(("1.png",), {}, ())


def test_what_is_passed_over_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path, 3)
    for name in ("a.txt", "b.TXT"):
        (tmp_path / name).touch()
    with caplog.at_level("INFO", "profiler"):
        assert ImageFolder.open(tmp_path).notes == ()
    assert "2 files passed over: 2 .txt" in caplog.text, "on the log only: no picture is lost"
    for number in range(10):
        (tmp_path / f"{number}.heic").touch()
    (note,) = ImageFolder.open(tmp_path).notes
    assert note == (
        "12 files passed over: 10 .heic, 2 .txt (Pillow cannot read .heic here; convert them)"
    )


def test_without_a_suffix_the_content_tells_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    for name in ("3f2a9c", "scan.0001", "photo.jpg_large", "photo.dat"):
        flat("lime").save(tmp_path / name, "PNG")
    flat("lime").save(tmp_path / "really a jpeg.png", "JPEG")
    (tmp_path / "README").write_text("P1 is no picture, though it begins like one")
    folder = ImageFolder.open(tmp_path)
    assert folder.names == ("3f2a9c", "photo.jpg_large", "really a jpeg.png", "scan.0001")
    assert all(corner(folder.read(i))[1] > 250 for i in range(4))
    assert folder.notes == (
        "2 files passed over: 1 .dat, 1 without a suffix (.dat hold images by their content; give "
        "them the suffix of their kind)",
    )


def test_accents_apart_and_together_are_one_name(tmp_path: Path) -> None:
    """A Mac's file system takes letters and accents apart; a copy elsewhere is the same set."""
    prints = set()
    for name in ("cafe\u0301", "caf\u00e9"):
        folder = tmp_path / str(len(prints))
        folder.mkdir()
        for stem in (name, "cafz", "cafa"):
            flat().save(folder / f"{stem}.png")
        images = ImageFolder.open(folder)
        assert images.names == ("cafa.png", "cafz.png", "caf\u00e9.png")
        assert images.read(2).size == (8, 8)
        prints.add(images.fingerprint)
    assert len(prints) == 1


def test_a_name_may_hold_what_a_table_or_a_page_must_escape(tmp_path: Path) -> None:
    for name in ('a, "b".png', "two\nlines.png", "<b>.png"):
        flat().save(tmp_path / name)
    folder = ImageFolder.open(tmp_path)
    assert folder.names == ("<b>.png", 'a, "b".png', "two\nlines.png")
    assert [folder.read(i).size for i in range(3)] == [(8, 8)] * 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable_and_a_folder_refused(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    first = min(tmp_path.iterdir())
    first.chmod(0)
    folder = ImageFolder.open(tmp_path)
    with pytest.raises(UnreadableImageError, match="Permission"):
        folder.read(0)
    (tmp_path / "closed").mkdir(0)
    with pytest.raises(InputError, match=r"folder .*closed' cannot be read: Permission denied"):
        ImageFolder.open(tmp_path)


def test_every_usual_kind_of_picture_is_read(tmp_path: Path) -> None:
    suffixes = [
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".JPG",
        ".pgm",
        ".Png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
        ".ico",
        ".tga",
    ]
    for suffix in suffixes:
        image = flat().convert("L") if suffix == "pgm" else flat("white")
        # Pillow writes no icon smaller than 16 pixels.
        image = image.resize((32, 32)) if suffix == ".ico" else image
        image.save(tmp_path / f"image.{suffix}")
    folder = ImageFolder.open(tmp_path)
    assert len(folder.names) == len(suffixes)
    assert {folder.read(i).mode for i in range(len(folder.names))} == {"RGB"}


def test_no_suffix_is_taken_for_a_picture_that_pillow_only_knows_by_name() -> None:
    assert not {".eps", ".h5", ".mpg", ".pdf", ".ps", ".wmf"} & image_suffixes()


def test_a_limit_leaves_a_folder_sorted_by_class_represented(tmp_path: Path) -> None:
    for kind in "abcd":
        write_images(tmp_path / kind, 5)
    folder = ImageFolder.open(tmp_path, limit=8)
    assert [name[0] for name in folder.names] == list("aabbccdd")


@given(st.integers(1, 500), st.integers(1, 600))
def test_spread_indices_are_distinct_ordered_and_even(total: int, limit: int) -> None:
    chosen = spread(total, limit)
    assert len(chosen) == min(total, limit)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(total))
    steps = np.diff([*chosen, total])
    assert steps.max() - steps.min() <= 1


@pytest.mark.skipif(os.name != "posix", reason="names are text on this system")
def test_names_that_are_not_utf8_are_read_hashed_and_shown(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(path, "wb") as file:
            flat().save(file, "PNG")
    except OSError:
        pytest.skip("this file system refuses such names")
    folder = ImageFolder.open(tmp_path)
    assert folder.names == (r"caf\xe9.png",)
    assert folder.names[0].encode(), "it can be written into a report"
    assert corner(folder.read(0)) == (255, 0, 0)
    assert len(folder.fingerprint) == 64


@pytest.mark.parametrize("make", ["missing", "file", "empty", "no images"])
def test_folders_that_hold_nothing_to_see(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "probe"
    if make == "file":
        folder.touch()
    elif make != "missing":
        folder.mkdir()
    if make == "no images":
        (folder / "readme.txt").touch()
    wanted = {
        "missing": "does not exist",
        "file": "is a file, not a folder; give the folder that the images lie in",
        "empty": "no images in .*: nothing is in it",
        "no images": r"no images in .*; 1 file passed over: 1 \.txt; images are known by .*\.jpg",
    }
    with pytest.raises(InputError, match=wanted[make]):
        ImageFolder.open(folder)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("images.zip", r"probe folder .* is an archive: unpack it \(tar xf, unzip\)"),
        ("images.7z", "is an archive: unpack it"),
        ("labels.csv", "is a table, not a folder; give the folder that the images lie in"),
        ("photo.png", "is a file, not a folder"),
    ],
)
def test_a_probe_that_is_one_file_says_what_to_give(tmp_path: Path, name: str, wanted: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=wanted):
        open_probe(str(tmp_path / name), tmp_path)


@pytest.mark.parametrize("limit", [0, -3])
def test_limits_below_one_are_refused(tmp_path: Path, limit: int) -> None:
    write_images(tmp_path, 2)
    with pytest.raises(UsageError, match=f"--limit must be at least 1, got {limit}"):
        open_probe(str(tmp_path), tmp_path, limit=limit)


def test_probe_sets_by_name(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    assert open_probe(str(tmp_path / "photos"), tmp_path).title == "photos"
    scenes = open_probe("synthetic", tmp_path, limit=2, seed=7)
    assert (len(scenes.names), scenes.title) == (2, "synthetic:2 (2 scenes, seed 7)")
    earlier = open_probe("synthetic:1", tmp_path, limit=2, seed=7)
    assert (len(earlier.names), earlier.title) == (2, "synthetic (2 scenes, seed 7)")
    with pytest.raises(UnknownNameError, match="near names: imagenette"):
        open_probe("imagenete", tmp_path)


# --- fingerprints ----------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_images(tmp_path / "photos", 4)
    return tmp_path / "photos"


def test_a_copy_elsewhere_at_another_time_has_the_same_fingerprint(photos: Path) -> None:
    copy = photos.parent / "elsewhere" / "copied"
    shutil.copytree(photos, copy, copy_function=shutil.copyfile)
    for path in copy.iterdir():
        os.utime(path, (0, 0))
    assert ImageFolder.open(copy).fingerprint == ImageFolder.open(photos).fingerprint


def edit_pixels(folder: Path) -> None:
    flat("blue").save(next(iter(sorted(folder.iterdir()))))


def swap_two(folder: Path) -> None:
    first, second, *_ = sorted(folder.iterdir())
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


def rename(folder: Path) -> None:
    first = min(folder.iterdir())
    first.rename(first.with_name("0000.png"))


def add_one(folder: Path) -> None:
    flat().save(folder / "z.png")


@pytest.mark.parametrize("change", [edit_pixels, swap_two, rename, add_one])
def test_any_change_of_contents_changes_the_fingerprint(
    photos: Path, change: Callable[[Path], None]
) -> None:
    before = ImageFolder.open(photos).fingerprint
    change(photos)
    assert ImageFolder.open(photos).fingerprint != before


def test_a_limit_changes_the_fingerprint(photos: Path) -> None:
    prints = {ImageFolder.open(photos, limit=limit).fingerprint for limit in (1, 2, 3, 4, None)}
    assert len(prints) == 4


def test_a_file_that_vanishes_is_no_crash(photos: Path) -> None:
    folder = ImageFolder.open(photos)
    (photos / folder.names[0]).unlink()
    assert len(folder.fingerprint) == 64
    with pytest.raises(UnreadableImageError, match="FileNotFoundError"):
        folder.read(0)


def test_a_file_that_is_changed_after_its_fingerprint_is_not_read(photos: Path) -> None:
    """What the cache keeps under a fingerprint has to be about the files it is of."""
    folder = ImageFolder.open(photos)
    first, second = (photos / name for name in folder.names[:2])
    flat("blue").save(first)
    assert corner(folder.read(0))[2] == 255, "before there is a fingerprint, it may be"
    assert folder.fingerprint
    os.utime(second, (0, 0))
    flat("lime").save(first)
    with pytest.raises(UnreadableImageError, match="was changed after it was first read"):
        pickle.loads(pickle.dumps(folder)).read(0)
    assert folder.read(1), "touched, but the same"


# --- pixels ----------------------------------------------------------------------------------


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 255)).save(tmp_path / "full.png")
    Image.new("LA", (4, 4), (0, 128)).save(tmp_path / "half.png")
    folder = ImageFolder.open(tmp_path)
    assert [corner(folder.read(i)) for i in range(3)] == [
        (255, 255, 255),
        (255, 0, 0),
        (127, 127, 127),
    ]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_palette_with_a_transparent_color(tmp_path: Path, as_bytes: bool) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "palette.png", transparency=b"\x00\xff" if as_bytes else 0)
    read = read_only_image(tmp_path)
    assert corner(read) == (255, 255, 255)
    assert read.getpixel((3, 3)) == (0, 0, 255)


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    assert np.abs(np.array(corner(read_only_image(tmp_path))) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_images_without_color(tmp_path: Path, mode: str) -> None:
    Image.new("L", (4, 4), 255).convert(mode).save(tmp_path / "white.png")
    assert corner(read_only_image(tmp_path)) == (255, 255, 255)


def sixteen_bit(values: list[int]) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint16))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("values", "seen"),
    [([0, 128 * 257, 65535], [0, 128, 255]), ([0, 100, 257], [0, 0, 1])],
    ids=["bright", "dark"],
)
def test_sixteen_bits_are_scaled_not_clipped(
    tmp_path: Path, suffix: str, values: list[int], seen: list[int]
) -> None:
    """A dark one stays dark: its type says what white is, not its brightest pixel."""
    sixteen_bit(values).save(tmp_path / f"scan{suffix}")
    image = np.asarray(read_only_image(tmp_path))
    assert image[0, :, 0].tolist() == seen
    assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 128.0, 255.0], [0, 128, 255]),
        ([0.0, 128 * 257.0, 65535.0], [0, 128, 255]),
        ([-1.0, 0.0, 1.0], [0, 0, 255]),
    ],
)
def test_floating_point_pixels_on_the_usual_scales(
    tmp_path: Path, values: list[float], seen: list[int]
) -> None:
    Image.fromarray(np.array([values], dtype=np.float32)).save(tmp_path / "float.tif")
    assert np.asarray(read_only_image(tmp_path))[0, :, 0].tolist() == seen


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    image = flat("blue", (32, 16))
    image.paste("red", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn right": the left side is the top
    image.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    upright = read_only_image(tmp_path)
    assert upright.size == (16, 32)
    top, bottom = (np.asarray(upright)[row, 8] for row in (2, 29))
    assert top[0] > 200 > top[2]
    assert bottom[2] > 200 > bottom[0]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_shows_its_first_frame(tmp_path: Path, suffix: str) -> None:
    flat("red").save(
        tmp_path / f"moving{suffix}", save_all=True, append_images=[flat("blue")], lossless=True
    )
    assert corner(read_only_image(tmp_path)) == (255, 0, 0)


def test_damaged_metadata_leave_the_image_readable(tmp_path: Path) -> None:
    """Every viewer shows such a photo, and ImageNet holds some; Pillow only warns."""
    flat(size=(16, 16)).save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
    assert corner(read_only_image(tmp_path))[0] > 200


def a_png_that_says_it_is(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + b"\0\0\0\0IEND\xae\x42\x60\x82"
    )


def truncated_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "UnidentifiedImageError"),
        ("letter.jpg", b"Dear reader,\n", "UnidentifiedImageError"),
        ("page.png", b"<!DOCTYPE html><html></html>", "UnidentifiedImageError"),
        ("half.jpg", truncated_jpeg(), "truncated"),
        ("large.png", a_png_that_says_it_is(10_000, 10_000), "DecompressionBombWarning"),
        ("vast.png", a_png_that_says_it_is(60_000, 60_000), "DecompressionBombError"),
        ("nothing.png", a_png_that_says_it_is(8, 8), "Error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    folder = ImageFolder.open(tmp_path)
    with pytest.raises(UnreadableImageError, match=reason):
        folder.read(0)
    assert folder.fingerprint


def test_pixels_that_are_no_numbers_cannot_be_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, np.nan]], dtype=np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(UnreadableImageError, match="NaN"):
        read_only_image(tmp_path)


@settings(deadline=None)
@given(junk=st.binary(max_size=200), place=st.integers(0, 600))
def test_no_damage_whatever_is_a_crash(
    junk: bytes, place: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Overwrite any part of an image: it is read, or it is unreadable, and nothing else."""
    folder = tmp_path_factory.mktemp("damaged")
    for suffix in ("png", "gif", "tif", "jpg"):
        path = folder / f"image.{suffix}"
        flat(size=(9, 7)).save(path)
        data = path.read_bytes()
        path.write_bytes(data[:place] + junk + data[place + len(junk) :])
    images = ImageFolder.open(folder)
    for i in range(4):
        with suppress(UnreadableImageError):
            assert images.read(i).mode == "RGB"


# --- concept files ---------------------------------------------------------------------------


def concept_file(folder: Path, content: str | bytes) -> str:
    path = folder / "words.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("red\ngreen\n", ("red", "green"), id="plain"),
        pytest.param("red\ngreen", ("red", "green"), id="no last line end"),
        pytest.param("\ufeffred\ngreen\n", ("red", "green"), id="BOM"),
        pytest.param("red\r\ngreen\r\n", ("red", "green"), id="CRLF"),
        pytest.param("red\rgreen\r", ("red", "green"), id="CR"),
        pytest.param("\n  red  \n\n\t\ngreen\n \n", ("red", "green"), id="blanks"),
        pytest.param("# some\nred\n  # more\ngreen\n", ("red", "green"), id="comments"),
        pytest.param("golden   retriever\n", ("golden retriever",), id="spaces"),
        pytest.param("Zürich\nсобака\n犬\n", ("Zürich", "собака", "犬"), id="scripts"),
        pytest.param("{}\n%s\n", ("{}", "%s"), id="braces"),
        pytest.param("red\ngreen\n".encode("utf-16"), ("red", "green"), id="UTF-16"),
        pytest.param("cafe\u0301\ncaf\u00e9\n", ("café",), id="an accent apart"),
        pytest.param("jack-o’-lantern\n", ("jack-o'-lantern",), id="curly quotes"),
        pytest.param("golden\u00a0retriever\n", ("golden retriever",), id="no-break space"),
        pytest.param("red\u200b\nred\ufeff\n\u200e\n", ("red",), id="marks nobody sees"),
        pytest.param("فیل‌ها\n", ("فیل‌ها",), id="a joiner that is spelling"),
        pytest.param("a\u2028b\n", ("a b",), id="only line ends end a line"),
    ],
)
def test_one_concept_a_line(tmp_path: Path, content: str | bytes, words: tuple[str, ...]) -> None:
    concepts = open_concepts(concept_file(tmp_path, content))
    assert concepts.words == words
    assert concepts.categories == (None,) * len(words)
    assert concepts.title == "words.txt"


def test_of_a_concept_given_twice_the_first_is_kept(tmp_path: Path) -> None:
    concepts = open_concepts(concept_file(tmp_path, "red\tcolor\ndog\n red \tobject\ndog\nRed\n"))
    assert concepts.words == ("red", "dog", "Red")
    assert concepts.categories == ("color", None, None)
    assert concepts.dropped == 2


def test_categories_stand_behind_a_tab(tmp_path: Path) -> None:
    concepts = open_concepts(concept_file(tmp_path, "red\tcolor\nstriped \t texture \ndog\t\n"))
    assert concepts.words == ("red", "striped", "dog")
    assert concepts.categories == ("color", "texture", None)


def test_the_fingerprint_is_that_of_the_words_in_order(tmp_path: Path) -> None:
    def fingerprint(content: str) -> str:
        return open_concepts(concept_file(tmp_path, content)).fingerprint

    assert fingerprint("red\ngreen\n") == fingerprint("# c\n\r\nred\tcolor\r\n\ngreen\nred\n")
    assert fingerprint("red\ngreen\n") != fingerprint("green\nred\n")
    assert fingerprint("red green\n") != fingerprint("red\ngreen\n")


@pytest.mark.parametrize("content", ["", "\n \n", "# only a comment\n", "\ttab\n"])
def test_a_file_without_concepts_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"words\.txt' holds no concept"):
        open_concepts(concept_file(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"red\ncaf\xe9\n", r"words\.txt', line 2: this is not UTF-8 text \(byte 7\); save it as"),
        (b"\x89PNG\r\n\x1a\n", "line 1: this is not UTF-8 text"),
        (b"\xff\xfer\0\0\xd8", "line 1: this is not UTF-16 text"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        open_concepts(concept_file(tmp_path, content))


def test_a_folder_is_no_concept_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_concepts(str(tmp_path))


def test_an_unknown_concept_set_lists_near_names() -> None:
    with pytest.raises(UnknownNameError, match=r"near names: common-20k.*path of a text file"):
        open_concepts("common20k")


@pytest.mark.parametrize("name", BUILT_IN_CONCEPTS)
def test_built_in_sets_hold_what_they_say(name: str) -> None:
    concepts = open_concepts(name)
    counts = {"common-20k": 20_000, "common-3k": 3_000, "imagenet-1k": 1_000}
    assert len(concepts.words) == counts.get(name, len(concepts.words))
    assert concepts.title == name
    assert len(set(concepts.words)) == len(concepts.words)
    assert concepts.dropped == 0


def test_imagenet_names_stand_in_the_order_of_the_classes() -> None:
    words = open_concepts("imagenet-1k").words
    assert (words[0], words[207], words[999]) == ("tench", "golden retriever", "toilet tissue")


def test_every_visual_word_has_a_category() -> None:
    concepts = open_concepts("visual")
    assert len(concepts.words) > 1400
    assert set(concepts.categories) == set(DEFAULT_CATEGORIES)


# --- imagenette ------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A small imagenette behind a real server in place of the real one; what was asked for."""
    folder = tmp_path / "made" / "imagenette2-320" / "val" / "n01440764"
    folder.mkdir(parents=True)
    flat("red").save(folder / "tench.JPEG")
    packed = tmp_path / "imagenette2-320.tgz"
    with tarfile.open(packed, "w:gz") as file:
        file.add(tmp_path / "made" / "imagenette2-320", "imagenette2-320")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts, directory=str(tmp_path))

        def log_message(self, format: str, *parts: object) -> None:
            asked.append(self.path)

    # urllib keeps what it made at its first call, maybe in a test with a proxy that is not there.
    monkeypatch.setattr("urllib.request._opener", None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        digest = hashlib.md5(packed.read_bytes(), usedforsecurity=False).hexdigest()
        address = f"http://127.0.0.1:{server.server_port}/{packed.name}"
        monkeypatch.setitem(Imagenette._ARCHIVES, "320px", (address, digest))
        yield asked
        server.shutdown()


def test_imagenette_is_downloaded_once(archive: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert open_probe("imagenette", cache).names == ("n01440764/tench.JPEG",)
    assert archive
    archive.clear()
    assert open_probe("imagenette", cache).names == ("n01440764/tench.JPEG",)
    assert archive == []
    assert [path.name for path in (cache / "datasets").iterdir()] == ["imagenette2-320"]


def test_half_an_imagenette_is_not_taken_for_it(archive: list[str], tmp_path: Path) -> None:
    """Whoever is killed while it is unpacked leaves a folder of another name."""
    draft = tmp_path / "cache" / "datasets" / "tmpabc" / "imagenette2-320"
    draft.mkdir(parents=True)
    assert len(open_probe("imagenette", tmp_path / "cache").names) == 1
    assert archive


def test_a_damaged_download_leaves_nothing(archive: list[str], tmp_path: Path) -> None:
    (tmp_path / "imagenette2-320.tgz").write_bytes(b"half of it")
    with pytest.raises(DownloadError, match=r"could not be downloaded to .*--probe synthetic"):
        open_probe("imagenette", tmp_path / "cache")
    assert list((tmp_path / "cache" / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((1600, 1280), (200, 160)),  # an eighth
        ((1600, 1200), (400, 300)),  # an eighth would leave 150 pixels of the shorter side
        ((1200, 1600), (300, 400)),
        ((300, 200), (300, 200)),  # a half would leave 100
        ((100, 90), (100, 90)),
    ],
)
def test_a_preview_is_no_smaller_than_wanted(
    tmp_path: Path, size: tuple[int, int], seen: tuple[int, int]
) -> None:
    Image.new("RGB", size, "teal").save(tmp_path / "a.jpg")
    Image.new("RGB", size, "teal").save(tmp_path / "b.png")
    folder = ImageFolder.open(tmp_path)
    assert folder.preview(0, 160).size == seen
    assert folder.preview(1, 160).size == size
    assert folder.read(0).size == size
