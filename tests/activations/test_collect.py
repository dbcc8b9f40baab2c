"""One pass over the images, on networks whose every activation can be worked out."""

import io
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from profiler.activations.collect import (
    THUMBNAIL_SIDE,
    Collected,
    ImageShard,
    collect,
    merge,
    thumbnails,
)
from profiler.core.arrays import FloatArray
from profiler.data.images import ImageFolder, SyntheticProbe
from profiler.data.synthetic.scenes import SyntheticScenes
from profiler.errors import InputError, ResourceError


@pytest.fixture
def probe(tmp_path: Path) -> ImageFolder:
    tiny.write_images(tmp_path, 21)
    return ImageFolder.open(tmp_path)


def run(
    probe: ImageFolder,
    factory: Callable[[], tuple[nn.Module, tiny.Preprocess]] = tiny.subject,
    **options: Any,
) -> Collected:
    subject = tiny.tiny_subject(factory)
    options = {"length": 5} | options
    vlm = options.pop("vlm", tiny.vlm())
    length = options["length"]
    return merge(collect(subject, subject.layers(), vlm, probe, **options), length=length)


def same(one: Collected, other: Collected) -> None:
    for a, b in zip(one.tops, other.tops, strict=True):
        assert a.layer == b.layer
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.activations, b.activations)
        np.testing.assert_array_equal(a.dead, b.dead)
    np.testing.assert_array_equal(one.embeddings[:], other.embeddings[:])
    np.testing.assert_array_equal(one.kept, other.kept)
    assert one.skipped == other.skipped


def colors(folder: Path) -> FloatArray:
    """(N, 3) mean colours in [0, 1], by Pillow and NumPy alone."""
    seen = [
        np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BILINEAR)) / 255
        for path in sorted(folder.glob("*.png"))
    ]
    return np.stack(seen).mean(axis=(1, 2))


# --- what one pass brings home ---------------------------------------------------------------


def test_activations_and_embeddings_are_the_arithmetic(probe: ImageFolder) -> None:
    found = run(probe)
    red, green, blue = colors(probe.folder).T
    by_hand = np.stack(
        [red - (green + blue) / 2, green - (red + blue) / 2, blue - (red + green) / 2]
    )
    color, fc = found.tops
    assert (color.layer, fc.layer) == ("color", "fc")
    assert color.dead.tolist() == [False, False, False, True]
    for unit in range(3):
        wanted = np.argsort(-by_hand[unit], kind="stable")[:5]
        assert color.images[unit].tolist() == fc.images[unit].tolist() == wanted.tolist()
        np.testing.assert_allclose(color.activations[unit], by_hand[unit, wanted], atol=1e-5)
    reddest = [probe.names[i] for i in color.images[0, :3]]
    assert all("red" in name for name in reddest)
    rows = np.column_stack([colors(probe.folder) - 0.5, np.full(21, 0.2)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found.embeddings[:][:, :4], rows, atol=1e-4)
    assert found.embeddings[:].dtype == np.float32


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 21, 1000, None])
def test_batches_and_workers_change_no_bit(
    probe: ImageFolder, batch_size: int | None, workers: int
) -> None:
    (probe.folder / probe.names[7]).write_bytes(b"")  # and one image in the middle is missing
    same(
        run(probe, batch_size=batch_size, workers=workers),
        run(probe, batch_size=8),
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7, 21])
def test_shards_merge_to_the_outcome_of_one_pass(probe: ImageFolder, count: int) -> None:
    (probe.folder / probe.names[7]).write_bytes(b"")
    edges = [round(i * 21 / count) for i in range(count + 1)]
    order = np.random.default_rng(0).permutation(21).tolist()
    shards = [ImageShard(lo, order[lo:hi]) for lo, hi in itertools.pairwise(edges)]
    options = {"batch_size": 4, "allow_bad": True, "matrices": True}
    found = run(probe, shards=shards, **options)
    whole = run(probe, **options)
    same(found, whole)
    for one, other in zip(found.matrices, whole.matrices, strict=True):
        np.testing.assert_array_equal(one[:], other[:])
    # Each made by a call, perhaps a machine, of its own.
    some = [shard for shard in shards if list(shard.images) != [7]]
    same(
        merge([run(probe, shards=[shard], **options) for shard in some], length=5),
        run(probe, shards=some, **options),
    )


def test_joined_rows_read_like_an_array(probe: ImageFolder) -> None:
    rows = run(
        probe, shards=[ImageShard(0, range(9)), ImageShard(9, [9]), ImageShard(10, range(10, 21))]
    ).embeddings
    whole = rows[:]
    assert (len(rows), rows.shape) == (21, whole.shape)
    for chosen in (slice(5, 12), slice(None, None, 3), [20, 0, 9, 9], np.array([], dtype=int)):
        np.testing.assert_array_equal(rows[chosen], whole[chosen])


def test_progress_adds_up_to_the_images(probe: ImageFolder) -> None:
    (probe.folder / probe.names[0]).write_bytes(b"")
    told: list[int] = []
    run(probe, batch_size=8, advance=told.append)
    assert told == [8, 8, 5]


@pytest.mark.parametrize("length", [1, 20, 21, 500])
def test_lists_are_as_long_as_wanted_or_as_there_are_images(
    probe: ImageFolder, length: int
) -> None:
    assert run(probe, length=length).tops[0].images.shape == (4, min(length, 21))


def test_half_precision_changes_the_digits_not_the_story(probe: ImageFolder) -> None:
    exact, half = run(probe), run(probe, precision="bf16")
    for one, other in zip(exact.tops, half.tops, strict=True):
        assert other.activations.dtype == np.float32
        np.testing.assert_allclose(other.activations, one.activations, atol=2e-2)
        assert not np.array_equal(other.activations, one.activations)
    np.testing.assert_allclose(half.embeddings[:], exact.embeddings[:], atol=2e-2)


# --- images that cannot be read --------------------------------------------------------------


def test_an_unreadable_image_is_left_out_of_the_numbering(probe: ImageFolder) -> None:
    bad = 3
    (probe.folder / probe.names[bad]).write_bytes(b"not an image")
    found = run(probe, batch_size=4)
    assert found.kept.tolist() == [i for i in range(21) if i != bad]
    assert [item.name for item in found.skipped] == [probe.names[bad]]
    assert found.skipped[0].reason.startswith("UnidentifiedImageError")
    assert len(found.embeddings) == 20
    # Image number 3 is now what was number 4, and so on: the same as if it had never been there.
    (probe.folder / probe.names[bad]).unlink()
    without = run(ImageFolder.open(probe.folder), batch_size=4)
    np.testing.assert_array_equal(found.tops[0].images, without.tops[0].images)
    np.testing.assert_array_equal(found.embeddings[:], without.embeddings[:])


def test_more_than_one_in_twenty_stops_the_run(probe: ImageFolder) -> None:
    for name in probe.names[5:7]:
        (probe.folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"more than 5% of the 21 .*0005_magenta.*--allow-bad$"):
        run(probe)
    found = run(probe, allow_bad=True)
    assert len(found.skipped) == 2
    assert len(found.kept) == 19


def test_one_in_twenty_does_not(tmp_path: Path) -> None:
    tiny.write_images(tmp_path, 20)
    probe = ImageFolder.open(tmp_path)
    (tmp_path / probe.names[19]).write_bytes(b"")
    assert len(run(probe).skipped) == 1


def test_none_that_can_be_read_is_an_error_even_if_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    with pytest.raises(InputError, match="none of the 2 probe images can be read; first: "):
        run(ImageFolder.open(tmp_path), allow_bad=True)


# --- memory ----------------------------------------------------------------------------------


def test_auto_halves_the_batch_until_it_fits(probe: ImageFolder) -> None:
    found = run(probe, tiny.hungry)
    assert found.batch_size <= 4
    same(found, run(probe, batch_size=4))


def test_a_batch_that_did_not_fit_is_not_tried_again(probe: ImageFolder) -> None:
    net, preprocess = tiny.hungry()
    assert isinstance(net, tiny.Hungry)
    subject = tiny.tiny_subject(lambda: (net, preprocess))
    layers = subject.layers()
    net.seen.clear()
    list(collect(subject, layers, tiny.vlm(), probe, length=5))
    # The last image is alone, so it is read twice; two passes over two images come before all.
    assert net.seen == [2, 2, 21, 10, 5, 2, *[2] * 10]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
    ],
    ids=["cuda", "python", "linux", "windows", "apple"],
)
def test_every_way_to_run_out_of_memory(probe: ImageFolder, error: Exception) -> None:
    class Greedy(tiny.TinyVLM):
        def embed_images(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 6:
                raise error
            return super().embed_images(images)

    same(run(probe, vlm=Greedy()), run(probe))


def test_tensors_of_a_failed_batch_are_let_go_before_the_next(probe: ImageFolder) -> None:
    """An error that is still being handled holds on to the frames in which it arose."""
    alive: list[int] = []

    class Token:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    class Full(tiny.TinyVLM):
        def embed_images(self, images: torch.Tensor) -> torch.Tensor:
            assert not alive, "the last try's memory is still held"
            token = Token()
            if len(images) > 6:
                raise torch.OutOfMemoryError
            del token
            return super().embed_images(images)

    assert run(probe, vlm=Full()).batch_size == 5


def test_a_batch_size_that_was_asked_for_is_not_changed(probe: ImageFolder) -> None:
    with pytest.raises(ResourceError, match=r"batches of 8; use -b auto or a smaller --batch-size"):
        run(probe, tiny.hungry, batch_size=8)
    assert run(probe, tiny.hungry, batch_size=4).batch_size == 4


def test_not_even_one_image_fits(probe: ImageFolder) -> None:
    with pytest.raises(ResourceError, match="memory ran out with a single image"):
        run(probe, tiny.starved)


def test_other_errors_of_the_network_are_not_taken_for_memory(probe: ImageFolder) -> None:
    class Broken(tiny.TinyVLM):
        def embed_images(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(InputError, match=r"^the VLM fails on .*0000_red\.png': .*mat1 and mat2"):
        run(probe, vlm=Broken())


def test_a_worker_that_is_killed_is_one_clear_error(probe: ImageFolder) -> None:
    """As the system does where memory runs out."""
    here = os.getpid()

    def die(image: Image.Image) -> torch.Tensor:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return transforms.ToTensor()(image.resize((8, 8)))

    with pytest.raises(ResourceError, match=r"was killed, .* use fewer --workers, or 0"):
        run(probe, lambda: (tiny.TinyNet(), die), workers=1)


# --- networks and preprocessing that do not work ---------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_images_of_different_shapes_are_one_clear_error(
    tmp_path: Path, workers: int, batch_size: int
) -> None:
    for i, size in enumerate([(8, 8), (8, 8), (9, 8)]):
        Image.new("RGB", size, "red").save(tmp_path / f"{i}.png")
    with pytest.raises(
        InputError,
        match=r"^the model's preprocessing gives images of different shapes "
        r"\(\[\(3, 8, 8\), \(3, 8, 9\)\]\); it must resize and crop to one size$",
    ):
        run(ImageFolder.open(tmp_path), tiny.ragged, workers=workers, batch_size=batch_size)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_preprocessing_that_fails_names_the_image(probe: ImageFolder, workers: int) -> None:
    def refuse_blue(image: Image.Image) -> torch.Tensor:
        red, _, blue = np.asarray(image).mean(axis=(0, 1))
        if blue > 150 > red:
            raise ZeroDivisionError("no blue, please")
        return transforms.ToTensor()(image)

    with pytest.raises(
        InputError,
        match=r"preprocessing of probe image '0002_blue\.png' fails: ZeroDivisionError: no blue",
    ):
        run(probe, lambda: (tiny.TinyNet(), refuse_blue), workers=workers)


def test_nan_names_the_layer_and_the_image(probe: ImageFolder) -> None:
    (probe.folder / probe.names[2]).write_bytes(b"")  # numbers and places then differ
    Image.new("RGB", (8, 8), "black").save(probe.folder / probe.names[6])
    with pytest.raises(
        InputError, match=r"'color' gives NaN or infinite .*probe image 0006_gray\.png\)"
    ):
        run(probe, tiny.nan)


@pytest.mark.parametrize("factor", [2.0, float("nan"), 0.0])
def test_embeddings_that_are_no_unit_rows_are_refused(probe: ImageFolder, factor: float) -> None:
    class Loose(tiny.TinyVLM):
        def embed_images(self, images: torch.Tensor) -> torch.Tensor:
            rows = super().embed_images(images)
            rows[3:4] *= factor
            return rows

    with pytest.raises(InputError, match=r"embedding of '0003_yellow\.png' is not a unit row"):
        run(probe, vlm=Loose())


def test_hooks_are_gone_after_a_failure(probe: ImageFolder) -> None:
    net, preprocess = tiny.nan()
    Image.new("RGB", (8, 8), "black").save(probe.folder / probe.names[0])
    with pytest.raises(InputError):
        run(probe, lambda: (net, preprocess))
    assert not any(module._forward_hooks for module in net.modules())


# --- resources -------------------------------------------------------------------------------


@contextmanager
def open_files(most: int) -> Iterator[None]:
    """Let this process and its children open only so many files."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_workers_need_few_file_handles(tmp_path: Path) -> None:
    """Each tensor that a worker sends is an open file: one an image would be hundreds."""
    tiny.write_images(tmp_path, 400)
    in_use = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 64
    with open_files(in_use + 100):
        found = run(ImageFolder.open(tmp_path), workers=2)
    assert len(found.kept) == 400


# --- thumbnails ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_thumbnails_come_in_the_order_asked_for(tmp_path: Path, workers: int) -> None:
    for i, color in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (400, 100), color).save(tmp_path / f"{i}.png")
    told: list[int] = []
    made = thumbnails(ImageFolder.open(tmp_path), [2, 0], workers=workers, advance=told.append)
    seen = [Image.open(io.BytesIO(data)) for data in made]
    assert [image.size for image in seen] == [(THUMBNAIL_SIDE, THUMBNAIL_SIDE // 4)] * 2
    assert [int(np.argmax(np.asarray(image).mean(axis=(0, 1)))) for image in seen] == [2, 0]
    assert {image.format for image in seen} == {"WEBP"}
    assert sum(told) == 2


def test_no_thumbnails() -> None:
    assert thumbnails(ImageFolder(Path(), (), "empty"), []) == []


def photograph(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    """Darker to the left, as a JPEG that may have to be turned."""
    ramp = np.linspace(0, 255, size[0], dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.tile(ramp, (size[1], 1))).convert("RGB").save(path, exif=exif)


@pytest.mark.parametrize("workers", [0, 2])
def test_thumbnails_of_large_photographs(tmp_path: Path, workers: int) -> None:
    photograph(tmp_path / "0.jpg", (1600, 800))
    photograph(tmp_path / "1.jpg", (1600, 800), orientation=6)
    made = thumbnails(ImageFolder.open(tmp_path), [0, 1], workers=workers)
    wide, tall = (np.asarray(Image.open(io.BytesIO(data)).convert("L"), float) for data in made)
    assert wide.shape == (THUMBNAIL_SIDE // 2, THUMBNAIL_SIDE)
    assert tall.shape == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)
    ramp = (np.arange(THUMBNAIL_SIDE) + 0.5) * 255 / THUMBNAIL_SIDE
    np.testing.assert_allclose(wide.mean(axis=0), ramp, atol=6)
    np.testing.assert_allclose(tall.mean(axis=1), ramp, atol=6)  # turned upright: dark above


def test_thumbnails_of_a_set_that_can_only_be_read() -> None:
    made = thumbnails(SyntheticProbe(SyntheticScenes(2)), [1])
    assert Image.open(io.BytesIO(made[0])).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
