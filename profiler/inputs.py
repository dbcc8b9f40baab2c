"""Probe images and concept sets: what a user brings, each with a fingerprint of its contents."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from profiler.errors import DownloadError, InputError, UnknownNameError
from profiler.resources import shipped
from profiler.synthetic import SyntheticScenes

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
BUILT_IN_PROBES = ("imagenette", "synthetic")
BUILT_IN_CONCEPTS = ("common-20k", "common-3k", "imagenet-1k", "visual")


class UnreadableImageError(Exception):
    """One image that cannot be decoded; the pass over the probe set skips and counts it."""


class ProbeSet(Protocol):
    """An ordered set of images with names, read one by one (also in worker processes)."""

    @property
    def title(self) -> str:
        """How a reader knows the set, for example ``imagenette (validation, 320 px)``."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """One name an image, in order."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the contents: the same images in the same order have the same one."""
        ...

    def read(self, index: int) -> Image.Image:
        """Decode one image as RGB; raises :class:`UnreadableImageError`."""
        ...


@runtime_checkable
class Previews(Protocol):
    """A probe set that reads an image faster where a small picture of it is wanted."""

    def preview(self, index: int, side: int) -> Image.Image:
        """Decode one image as RGB, neither side below ``side`` pixels if it has so many.

        For people to look at: the pixels are not those of a resized :meth:`ProbeSet.read`.
        """
        ...


@dataclass(frozen=True)
class ImageFolder:
    """All images below a folder, in the order of their paths."""

    folder: Path
    files: tuple[str, ...]
    """Paths relative to ``folder``, with forward slashes, as the file system gives them."""
    title: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        r"""The files' paths as text; bytes that are not UTF-8 are written ``\xff``."""
        return tuple(
            os.fsencode(file).decode("utf-8", errors="backslashreplace") for file in self.files
        )

    @classmethod
    def open(cls, folder: Path, *, limit: int | None = None, title: str = "") -> "ImageFolder":
        """List the images below ``folder``, searched recursively.

        ``limit`` keeps that many, evenly spread over the sorted list, so that a folder sorted by
        class stays represented as a whole. Files and folders whose names begin with a dot are
        passed over: they are copies kept by tools, such as ``._photo.jpg``, not images.
        """
        if not folder.is_dir():
            raise InputError(f"probe folder {str(folder)!r} is not a folder")
        files = sorted(image_files(folder))
        if not files:
            raise InputError(
                f"no images in {str(folder)!r}; looked, recursively, for files ending in "
                + ", ".join(sorted(IMAGE_SUFFIXES))
            )
        return cls(
            folder,
            tuple(files[i] for i in spread(len(files), limit)),
            title or folder.resolve().name,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and the contents of the files."""
        with ThreadPoolExecutor() as pool:
            digests = pool.map(lambda file: _file_digest(self.folder / file), self.files)
            total = hashlib.sha256()
            for file, digest in zip(self.files, digests, strict=True):
                total.update(os.fsencode(file) + b"\0" + digest)
        return total.hexdigest()

    def read(self, index: int) -> Image.Image:
        """Decode the image at ``index`` as upright RGB."""
        return self._decode(index)

    def preview(self, index: int, side: int) -> Image.Image:
        """Decode the image at ``index``; a large JPEG at ½, ¼ or ⅛ of its size.

        Its decoder leaves out the fine frequencies, which takes a fraction of the time.
        """
        return self._decode(index, (side, side))

    def _decode(self, index: int, draft: tuple[int, int] | None = None) -> Image.Image:
        try:
            with warnings.catch_warnings():
                # Damaged metadata leaves the pixels as they are. But Pillow only warns of a
                # decompression bomb below twice its limit.
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(self.folder / self.files[index]) as image:
                    if draft is not None:
                        image.draft("RGB", draft)
                    return as_rgb(image)
        except Exception as error:  # decoders raise whatever their format made them stumble over
            raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def image_files(folder: Path) -> Iterator[str]:
    """Paths within a folder of what looks like an image by its suffix; hidden files are not."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"folder {str(error.filename)!r} cannot be read: {error.strerror}"
        ) from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(root, file) for file in files if not file.startswith(".")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield path.relative_to(folder).as_posix()


def as_rgb(image: Image.Image) -> Image.Image:
    """First frame, turned upright by its EXIF tag, as 8-bit RGB; alpha is laid over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow clips such values at 255 when it converts; scale them instead.
        values = np.asarray(image, dtype=np.float64)
        full = 65535.0 if image.mode.startswith("I;16") else _full_scale(values)
        image = Image.fromarray(np.clip(values / full * 255, 0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(ground, rgba)
    return image.convert("RGB")


def _full_scale(values: NDArray[np.float64]) -> float:
    """White, of pixels whose type does not say it: the least usual scale that holds them all."""
    if not np.isfinite(values).all():
        raise ValueError("pixels that are NaN or infinite")
    return next((full for full in (1.0, 255.0) if values.max(initial=0) <= full), 65535.0)


@dataclass(frozen=True)
class SyntheticProbe:
    """The built-in scenes; needs no data."""

    scenes: SyntheticScenes

    @property
    def title(self) -> str:
        """How a reader knows the set."""
        return f"synthetic ({len(self.scenes)} scenes, seed {self.scenes.seed})"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """``scene-00000`` and so on, with what the scene shows."""
        return tuple(
            f"{self.scenes.name(i)}: {self.scenes.scene(i).caption}"
            for i in range(len(self.scenes))
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the generator's version and settings."""
        return self.scenes.fingerprint

    def read(self, index: int) -> Image.Image:
        """Draw the scene at ``index``."""
        return self.scenes.image(index)


def open_probe(name: str, cache: Path, *, limit: int | None = None, seed: int = 0) -> ProbeSet:
    """A probe set by name: ``imagenette``, ``synthetic``, or the path of a folder.

    Args:
        name: built-in name or path; a folder called like a built-in set needs ``./``.
        cache: where ``imagenette`` is downloaded to.
        limit: how many images to use.
        seed: of the synthetic scenes.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    if name == "synthetic":
        return SyntheticProbe(SyntheticScenes(limit or 1000, seed=seed))
    if name == "imagenette":
        return ImageFolder.open(
            _imagenette(cache), limit=limit, title="imagenette (validation, 320 px)"
        )
    if not Path(name).exists() and "/" not in name and os.sep not in name:
        raise UnknownNameError(
            "probe set", name, BUILT_IN_PROBES, hint="or give the path of a folder of images"
        )
    return ImageFolder.open(Path(name), limit=limit)


def _imagenette(cache: Path) -> Path:
    # torchvision is slow to import, and only this probe set needs it here.
    from torchvision.datasets import Imagenette

    root = cache / "datasets"
    place = root / Path(Imagenette._ARCHIVES["320px"][0]).stem
    if not place.is_dir():
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Unpacked elsewhere and renamed: a folder that is there is taken for complete.
            with tempfile.TemporaryDirectory(dir=root) as draft:
                Imagenette(draft, split="val", size="320px", download=True)
                _move_folder(Path(draft, place.name), place)
        except (OSError, RuntimeError) as error:
            raise DownloadError(
                f"the probe set imagenette (320 px, from {Imagenette._ARCHIVES['320px'][0]}) could "
                f"not be downloaded to {str(root)!r}: {error}; offline, use --probe synthetic or "
                "--probe FOLDER"
            ) from error
    return place / "val"


def _move_folder(folder: Path, place: Path) -> None:
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():  # else another process was faster
            raise


def spread(total: int, limit: int | None) -> list[int]:
    """Indices of ``limit`` items evenly spread over ``total``; all of them without a limit.

    >>> spread(10, 3)
    [0, 3, 6]
    """
    if limit is None or limit >= total:
        return list(range(total))
    return [i * total // limit for i in range(limit)]


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        # An unreadable file is skipped and counted when its turn comes; it has a name, no content.
        return f"unreadable: {type(error).__name__}".encode()


@dataclass(frozen=True)
class ConceptSet:
    """Concepts in order, each once; with categories where the file gives them."""

    title: str
    words: tuple[str, ...]
    categories: tuple[str | None, ...]
    dropped: int = 0
    """Lines left out because the concept had already been given."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the words, in order."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()


def open_concepts(name: str) -> ConceptSet:
    """A concept set by built-in name or by path of a text file.

    A line is a concept, optionally followed by a tab and its category; blanks and lines that
    begin with ``#`` say nothing; of a concept given twice the first is kept.
    """
    if name in BUILT_IN_CONCEPTS:
        path = shipped("concept_sets") / f"{name}.txt"
    elif Path(name).exists():
        path = Path(name)
    else:
        raise UnknownNameError(
            "concept set", name, BUILT_IN_CONCEPTS, hint="or give the path of a text file"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"concept file {str(path)!r} cannot be read as UTF-8 text: {error}"
        ) from error
    words: dict[str, str | None] = {}
    dropped = 0
    for line in text.splitlines():
        word, _, category = line.partition("\t")
        word = " ".join(word.split())
        if not word or word.startswith("#"):
            continue
        if word in words:
            dropped += 1
        else:
            words[word] = category.strip() or None
    if not words:
        raise InputError(f"concept file {str(path)!r} holds no concept; write one a line")
    return ConceptSet(
        name if name in BUILT_IN_CONCEPTS else path.name,
        tuple(words),
        tuple(words.values()),
        dropped,
    )
