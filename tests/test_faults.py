"""The whole command in real processes that are killed, crowded, short of disk, or badly fed.

Whatever happens to a run, the same command afterwards ends with the bytes of an undisturbed one.
"""

import contextlib
import csv
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Command, Outcome
from forks import Forks, Running
from PIL import Image
from tiny import write_images

from profiler.core.store import Store
from profiler.errors import CERTIFICATES

HERE = Path(__file__).parent / "samples"
IMAGES = 700
"""Three shards: 256, 256 and 188 images."""

SLOW = '''
import sys, time
sys.path.insert(0, {tests!r})
import tiny

class Slow(tiny.TinyNet):
    """Takes its time, so that it can be killed in the middle."""

    def forward(self, images):
        time.sleep(0.05)
        return super().forward(images)

def subject():
    return Slow(), tiny.to_tensor()
'''


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start(forks: Forks) -> Start:
    """``start(folder, cache, arguments)`` runs the command in ``folder``."""

    def started(
        folder: Path, cache: Path, arguments: list[str], largest: int | None = None
    ) -> Running:
        return forks.start(folder, *arguments, largest=largest, PROFILER_CACHE_DIR=str(cache))

    return started


# --- the run ---------------------------------------------------------------------------------


def arguments(*more: object) -> list[str]:
    """All paths are relative to the folder beside the images: they stand in run.json."""
    return [
        *("run", "../slow.py:subject", "--vlm", f"{HERE / 'tiny.py'}:vlm"),
        *("--probe", "../images", "--concepts", "../colours.txt", "--threshold", "0.1"),
        *("--date", "2024-01-01", "--out", "out", *map(str, more)),
    ]


def results(folder: Path) -> dict[str, object]:
    """Everything a run says, apart from how long it took."""
    out = folder / "out"
    record = json.loads((out / "run.json").read_text())
    assert record["record"].pop("timings")
    names = ("descriptions.csv", "profile.json", "units.safetensors")
    pictures = {path.name: path.read_bytes() for path in (out / "images").glob("*.webp")}
    return {
        "run.json": record,
        "images": pictures,
        **{name: (out / name).read_bytes() for name in names},
    }


@pytest.fixture(scope="module")
def stage(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, words and network; beside them, in ``plain``, an undisturbed run."""
    folder = tmp_path_factory.mktemp("stage")
    write_images(folder / "images", IMAGES)
    (folder / "colours.txt").write_text("red\ngreen\nblue\nyellow\ncyan\nmagenta\ngray\nwhite\n")
    (folder / "slow.py").write_text(SLOW.format(tests=str(HERE)))
    done = start(folder / "plain", folder / "cache", arguments()).wait()
    assert done.status == 0, done.stderr
    with (folder / "plain" / "out" / "descriptions.csv").open(newline="") as file:
        assert [row["description"] for row in csv.DictReader(file)][:3] == ["red", "green", "blue"]
    return folder


@pytest.fixture
def folder(stage: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the test's own beside the images."""
    folder = stage / request.node.name.translate(str.maketrans("[]", "--"))
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def kinds(cache: Path) -> list[str]:
    """The kinds of the entries in a cache; every one of them is whole."""
    entries = Store(cache).entries()
    assert [entry.fault() for entry in entries] == [""] * len(entries)
    return [entry.kind for entry in entries]


def settled(cache: Path) -> bool:
    """Whether a cache holds one pass, put together, and the texts."""
    return {*(found := kinds(cache))} - {"embeddings"} == {"passes", "texts"} and found.count(
        "passes"
    ) == 1


def identical(stage: Path, folder: Path, *, but: str = "") -> None:
    wanted, found = results(stage / "plain"), results(folder)
    # The names alone: to say how two runs differ would fill the screen for minutes.
    assert [name for name in wanted if wanted[name] != found[name] and name != but] == []


# --- SIGKILL ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_a_killed_run_ends_as_if_nothing_had_been(
    stage: Path, folder: Path, start: Start, seed: int
) -> None:
    """Three kills: at random in the first part, in a later one, and once all images are read."""
    chance = random.Random(seed)
    cache = folder / "cache"
    here = stage / f"killed-{seed}"
    seen = []
    for shards, longest in ((0, 0.6), (chance.choice([1, 2]), 0.1), (3, 0.4)):
        pause = chance.uniform(0, longest)
        running = start(here, cache, arguments())
        # Shards that have been put together count as all of them.
        while running.alive:
            if "passes" in (now := kinds(cache)) or now.count("shards") >= shards:
                break
            time.sleep(0.002)
        time.sleep(pause)
        status = running.kill().status
        seen.append(kinds(cache))
        print(f"seed {seed}: {shards} shards and {pause:.3f} s: status {status}, {seen[-1]}")
        assert status in (-signal.SIGKILL, 0)
    assert any(found.count("shards") > 0 and "passes" not in found for found in seen), seen
    done = start(here, cache, arguments()).wait()
    assert done.status == 0, done.stderr
    identical(stage, here)
    assert settled(cache)


# --- two at once -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("batches", [("auto", "auto"), ("16", "50")])
def test_two_runs_on_one_cache(
    stage: Path, folder: Path, start: Start, batches: tuple[str, str]
) -> None:
    """Also where the processes' sums may differ in the last bits."""
    cache = folder / "cache"
    both = [stage / f"{folder.name}-{number}" for number in range(2)]
    more = [() if batch == "auto" else ("-b", batch) for batch in batches]
    running = [start(here, cache, arguments(*each)) for here, each in zip(both, more, strict=True)]
    for each in running:
        done = each.wait()
        assert done.status == 0, done.stderr
    found = [results(here) for here in both]
    names = ("descriptions.csv", "profile.json", "units.safetensors", "images")
    assert [name for name in names if found[0][name] != found[1][name]] == []
    if batches == ("auto", "auto"):
        for here in both:
            identical(stage, here)
    assert settled(cache)


# --- a damaged cache -------------------------------------------------------------------------


def test_a_cache_file_that_was_cut_short(stage: Path, folder: Path, start: Start) -> None:
    cache = folder / "cache"
    shutil.copytree(stage / "cache", cache)
    for entry in Store(cache).entries():
        assert entry.arrays is not None
        os.truncate(entry.arrays, entry.size // 2)
    here = stage / "cut"
    done = start(here, cache, arguments()).wait()
    assert done.status == 0, done.stderr
    identical(stage, here)
    assert settled(cache)


# --- a full disk -----------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of so many bytes; the value makes it larger."""

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options], check=True, capture_output=True)

    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    try:
        yield lambda size: mount("-o", f"remount,size={size}", str(folder))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(stage: Path, folder: Path, start: Start) -> None:
    """Full while the images are read: what was kept by then is good."""
    here = stage / "full"
    with small_disk(folder / "disk", "80k") as enlarge:
        cache = folder / "disk" / "cache"
        done = start(here, cache, arguments()).wait()
        assert done.status == 3
        assert done.error.startswith("cannot write '")
        assert done.error.endswith("No space left on device")
        assert not (here / "out" / "run.json").exists()
        assert not [path for path in cache.rglob(".*") if path.is_file()], "nothing is left behind"
        assert set(kinds(cache)) == {"shards"}
        enlarge("64m")
        done = start(here, cache, arguments()).wait()
        assert done.status == 0, done.stderr
        identical(stage, here)
        assert settled(cache)


@pytest.mark.slow
def test_files_may_not_grow(stage: Path, folder: Path, start: Start) -> None:
    """A limit on the size of a file stands for a disk that fills up after the image pass.

    Decoding in the same process: between processes, images travel in files as well.
    """
    cache = folder / "cache"
    here = stage / "limit"
    done = start(here, cache, arguments("-j", 0), 80_000).wait()  # the texts are larger
    assert done.status == 3, done.stderr
    assert done.error.startswith("cannot write '")
    assert done.error.endswith("File too large")
    assert settled(cache)
    assert not (here / "out" / "run.json").exists()
    assert not [path for path in (*cache.rglob(".*"), *here.rglob(".*")) if path.is_file()]
    done = start(here, stage / "cache", arguments("-j", 0), 30_000).wait()
    assert (done.status, "units.safetensors" in done.error) == (3, True)
    assert not (here / "out" / "run.json").exists()
    done = start(here, cache, arguments("-j", 0)).wait()
    assert done.status == 0, done.stderr
    identical(stage, here, but="run.json")  # there it says how many processes decode


# --- errors that nobody expected -------------------------------------------------------------


@pytest.fixture
def failing(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """``failing(error, *options)`` calls a command in the middle of which ``error`` arises."""

    def fail(error: BaseException, *options: object) -> Outcome:
        def vlms() -> None:
            raise error

        monkeypatch.setattr("profiler.models.vlm.catalogue.vlms", vlms)
        return command("vlms", *options)

    return fail


def test_a_fault_of_our_own_asks_for_a_report(
    failing: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a status of its own: 1 would say that a check had failed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv("HF_TOKEN", "hf-0123456789")
    monkeypatch.setenv("https_proxy", "http://me:0123456789@proxy:1")
    said = "sk-0123456789 and hf-0123456789 by http://me:01234@proxy:1\nmore"
    done = failing(TypeError(said), "--json")
    (file,) = tmp_path.glob("profiler-error-*.txt")
    assert done.status == 70
    assert done.error == (
        "internal error: TypeError: [OPENAI_API_KEY] and [HF_TOKEN] by http://proxy:1; this is a "
        f"fault of profiler, not yours: please report it with the file {file}"
    )
    content = file.read_text()
    assert content.startswith("profiler ")
    assert "\nprofiler vlms --json\n" in content
    assert "in vlms\n    raise error\n" in content
    assert "01234" not in content
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "No space left on device: '/x"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "Permission denied: '/x'"),
        (OSError("half a line\nand more"), "half a line and more"),
        (MemoryError(), "memory ran out"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (RuntimeError("torch_shm: Too many open files (24)"), "Too many open files: torch_shm"),
        (RuntimeError("received 0 items of ancdata"), "Too many open files: received 0"),
    ],
)
def test_what_the_surroundings_did_is_one_line(
    failing: Callable[..., Outcome], error: Exception, said: str
) -> None:
    done = failing(error)
    assert done.status == 3
    assert said in done.error


@pytest.mark.parametrize(
    ("variable", "error", "said"),
    [
        ("HF_HOME", PermissionError(13, "Permission denied", "/h/hub"), "the one that HF_HOME"),
        ("TORCH_HOME", OSError(30, "Read-only file system", "/h/a/b"), "the one that TORCH_HOME"),
        ("SSL_CERT_FILE", FileNotFoundError(2, "No such file or directory"), "(SSL_CERT_FILE"),
        ("https_proxy", OSError("Cannot connect to proxy."), "(a proxy is named by https_proxy)"),
    ],
)
def test_the_variable_behind_an_error_is_named(
    failing: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    error: Exception,
    said: str,
) -> None:
    for name in CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/h")
    done = failing(error)
    assert done.status == 3
    assert said in done.error


def test_an_interruption_has_the_status_of_one(failing: Callable[..., Outcome]) -> None:
    done = failing(KeyboardInterrupt())
    assert (done.status, done.stderr) == (130, "")


def test_a_reader_that_goes_away_is_no_failed_check(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "PROFILER_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, "-m", "profiler", "cache", "list"]
    done = subprocess.run(
        call, env=env, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("below", ["", "deep/down"])
def test_a_cache_folder_that_cannot_be_made(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(tmp_path / "file" / below))
    done = command("cache", "list")
    assert done.status == 3
    assert done.error == (
        "the cache folder that PROFILER_CACHE_DIR names cannot be made: a file is in its way; set "
        "PROFILER_CACHE_DIR to another folder"
    )


# --- difficult images ------------------------------------------------------------------------

RED = (255, 0, 0)


def difficult_images(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Write them; give the colours of those that can be read, and the names of the others."""
    red = Image.new("RGB", (32, 16), RED)
    deep = np.full((16, 16), 30_000, np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")  # 16 bits of gray
    red.convert("CMYK").save(folder / "cmyk.jpg")
    palette = red.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(folder / "palette.png", transparency=0)  # its only colour is nothing
    Image.new("RGBA", (16, 16), (0, 0, 255, 0)).save(folder / "alpha.png")
    frames = [Image.new("RGB", (16, 16), color) for color in ("lime", "black", "black")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    red.save(folder / "rotated.jpg", exif=exif)
    half = folder / "half.jpg"
    Image.effect_noise((64, 64), 90).save(half)
    half.write_bytes(half.read_bytes()[:900])
    (folder / "zero.png").touch()
    (folder / "text.png").write_text("no image at all")
    _write_bomb(folder / "bomb.png")
    colors = {
        "deep.png": "gray",
        "cmyk.jpg": "red",
        "palette.png": "white",
        "alpha.png": "white",
        "animated.gif": "green",
        "rotated.jpg": "red",
    }
    return colors, {"half.jpg", "zero.png", "text.png", "bomb.png"}


def _write_bomb(path: Path) -> None:
    """A file of a few kilobytes that says it holds 30,000 by 30,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10**6))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_difficult_images(command: Command, tmp_path: Path, workers: int) -> None:
    write_images(tmp_path / "images", 80)
    readable, unreadable = difficult_images(tmp_path / "images")
    (tmp_path / "colours.txt").write_text("red\ngreen\nblue\nyellow\ncyan\nmagenta\ngray\nwhite\n")
    call: list[Any] = [
        *("run", f"{HERE / 'tiny.py'}:subject", "--vlm", f"{HERE / 'tiny.py'}:vlm"),
        *("--probe", tmp_path / "images", "--concepts", tmp_path / "colours.txt"),
        *("--threshold", 0.1, "-j", workers, "--top", 30, "--out", tmp_path / "out"),
    ]
    done = command(*call)
    assert done.status == 0, done.stderr
    assert "4 of 90 probe images could not be read and were left out (bomb.png, half.jpg, text" in (
        done.stderr
    )
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["record"]["probe"]["images"] == 86
    skipped = dict(run["record"]["probe"]["skipped"])
    assert set(skipped) == unreadable
    assert skipped["bomb.png"].startswith("DecompressionBombError")
    assert all(skipped.values())
    report = (tmp_path / "out" / "report.html").read_text()
    assert "4 of 90 probe images could not be read" in report
    assert set(readable) <= set(run["images"])
    assert not unreadable & set(run["images"])
    with (tmp_path / "out" / "descriptions.csv").open(newline="") as file:
        labels = [row["description"] for row in csv.DictReader(file)]
    assert labels[:3] == ["red", "green", "blue"]
    # What a picture shows is what the network saw.
    for name, color in readable.items():
        picture = tmp_path / "out" / "images" / f"{run['images'].index(name):06d}.webp"
        if picture.exists():
            with Image.open(picture) as image:
                seen = np.asarray(image.convert("RGB"), dtype=float).mean(axis=(0, 1))
                if name == "rotated.jpg":
                    assert image.size == (16, 32)
            wanted = {
                "red": (255, 0, 0),
                "green": (0, 255, 0),
                "white": (255,) * 3,
                "gray": (117,) * 3,
            }
            assert np.abs(seen - wanted[color]).max() < 40, name
    assert {"cmyk.jpg", "rotated.jpg", "animated.gif"} <= {
        run["images"][int(path.stem)] for path in (tmp_path / "out" / "images").glob("*.webp")
    }


def test_too_many_difficult_images(command: Command, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 20)
    _, unreadable = difficult_images(tmp_path / "images")
    (tmp_path / "colours.txt").write_text("red\ngreen\nblue\n")
    call: list[Any] = [
        *("run", f"{HERE / 'tiny.py'}:subject", "--vlm", f"{HERE / 'tiny.py'}:vlm", "-j", 0),
        *("--probe", tmp_path / "images", "--concepts", tmp_path / "colours.txt", "--top", 3),
        *("--threshold", 0.1, "--out", tmp_path / "out"),
    ]
    done = command(*call)
    assert done.status == 2
    assert "more than 5% of the 30 probe images cannot be read" in done.error
    assert not (tmp_path / "out" / "run.json").exists()
    allowed = command(*call, "--allow-bad")
    assert allowed.status == 0, allowed.stderr
    assert f"{len(unreadable)} of 30 probe images" in allowed.stderr
    assert command(*call).status == 2, "a kept pass does not excuse them"
