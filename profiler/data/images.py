"""Probe images and concept sets: what a user brings, each with a fingerprint of its contents."""

import hashlib
import logging
import os
import re
import tempfile
import unicodedata
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from profiler.core.text import listed
from profiler.data.synthetic.design import ExperimentScenes
from profiler.data.synthetic.scenes import SyntheticScenes
from profiler.errors import DownloadError, InputError, UnknownNameError

log = logging.getLogger("profiler")

DOWNLOADED = "imagenette"
"""The probe set that is downloaded when it is first used."""
SCENES = ("synthetic", "synthetic:2", "synthetic:1")
"""The scenes of the experiment, under two names, and the earlier ones."""
BUILT_IN_PROBES = (DOWNLOADED, *SCENES)


Digests = NDArray[np.uint8]
"""(n, 32): SHA-256 of so many files."""


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


class HashedFiles(ABC):
    """What probe sets share that are no drawings: a fingerprint that rests on a hash of each file.

    The hash of a file is taken when it is first read, by whoever does so. From then on the file
    stands for what it held: changed, it is unreadable.
    """

    _has_threads = True

    @property
    @abstractmethod
    def _paths(self) -> Sequence[str]:
        """What the files are called, as the file system gives it."""

    @abstractmethod
    def _content(self, index: int) -> tuple[tuple[int, int], bytes]:
        """When a file was written and how long it is, or 0 and 0; SHA-256 of what it holds."""

    @cached_property
    def _hashes(self) -> "_Hashes":
        return _Hashes.of(len(self._paths))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and the contents of the files."""
        total = hashlib.sha256()
        for path, digest in zip(self._paths, self.hashes(range(len(self._paths))), strict=True):
            total.update(os.fsencode(composed(path)) + b"\0" + digest.tobytes())
        return total.hexdigest()

    @property
    def is_hashed(self) -> bool:
        """Whether all hashes are known."""
        return bool(self._hashes.known.all())

    def hashes(self, images: Sequence[int]) -> Digests:
        """(n, 32) SHA-256 of these images' files; those that are not known yet are read."""
        own, places = self._hashes, np.asarray(images, dtype=np.int64)
        todo = places[~own.known[places]].tolist()
        with ThreadPoolExecutor() if self._has_threads and todo[1:] else nullcontext() as pool:
            found = map(self._content, todo) if pool is None else pool.map(self._content, todo)
            for index, (written, digest) in zip(todo, found, strict=True):
                own.values[index] = np.frombuffer(digest, dtype=np.uint8)
                own.written[index], own.known[index] = written, True
        return own.values[places]

    def learn(self, images: Sequence[int], hashes: Digests) -> None:
        """Take over those hashes that are not known, as another process has taken them."""
        own, places = self._hashes, np.asarray(images, dtype=np.int64)
        new = ~own.known[places]
        own.values[places[new]], own.known[places[new]] = hashes[new], True

    def forget(self) -> None:
        """Read every file anew, as it is then."""
        for name in ("_hashes", "fingerprint"):
            self.__dict__.pop(name, None)

    def digest(self, index: int) -> str:
        """SHA-256 of one file."""
        return self.hashes([index]).tobytes().hex()

    def _has_changed(self, index: int, digest: bytes) -> bool:
        """Whether this is not the hash of what the file held when it was first read."""
        first = self._hashes
        return bool(first.known[index]) and digest != first.values[index].tobytes()


@dataclass(frozen=True)
class _Hashes:
    """Of N files, 49 bytes each.

    Attributes:
        values: (N, 32) SHA-256.
        written: (N, 2) when each was written and how long it was, 0 where that is not known.
        known: (N,) whether there is a hash.
    """

    values: Digests
    written: NDArray[np.int64]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, files: int) -> "_Hashes":
        """None known yet."""
        return cls(
            np.zeros((files, 32), np.uint8),
            np.zeros((files, 2), np.int64),
            np.zeros(files, np.bool_),
        )


@dataclass(frozen=True)
class ImageFolder(HashedFiles):
    """All images below a folder, in the order of their paths."""

    folder: Path
    files: tuple[str, ...]
    """Paths relative to ``folder``, with forward slashes, as the file system gives them."""
    title: str
    notes: tuple[str, ...] = ()
    """What a reader of the results should know of the files, a sentence each."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The files' paths as text: see :func:`as_text`."""
        return tuple(map(as_text, self.files))

    @classmethod
    def open(cls, folder: Path, *, limit: int | None = None, title: str = "") -> "ImageFolder":
        """List the images below ``folder``, as :func:`list_images` finds them.

        ``limit`` keeps that many, evenly spread over the sorted list, so that a folder sorted by
        class stays represented as a whole.
        """
        if not folder.is_dir():
            raise InputError(f"probe folder {str(folder)!r} {no_folder(folder)}")
        found = list_images(folder)
        files = tuple(found.files[i] for i in spread(len(found.files), limit))
        return cls(folder, files, title or folder.resolve().name, found.notes)

    @property
    def _paths(self) -> Sequence[str]:
        return self.files

    def _content(self, index: int) -> tuple[tuple[int, int], bytes]:
        path = self.folder / self.files[index]
        try:
            written = _written(path)
            with path.open("rb") as file:
                return written, hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            # Such a file is skipped and counted when its turn comes; it has a name, no content.
            return _NOWHERE, hashlib.sha256(f"unreadable: {type(error).__name__}".encode()).digest()

    def read(self, index: int) -> Image.Image:
        """Decode the image at ``index`` as upright RGB."""
        return self._decode(index)

    def preview(self, index: int, side: int) -> Image.Image:
        """Decode the image at ``index``; a large JPEG at ½, ¼ or ⅛ of its size.

        Its decoder leaves out the fine frequencies, which takes a fraction of the time.
        """
        return self._decode(index, (side, side))

    def _decode(self, index: int, draft: tuple[int, int] | None = None) -> Image.Image:
        with decoding(str(self.folder)):
            with Image.open(self.folder / self.files[index]) as image:
                if draft is not None:
                    image.draft("RGB", draft)
                made = as_rgb(image)
            self._check_unchanged(index)
            return made

    def _check_unchanged(self, index: int) -> None:
        """Refuse what is no longer what the fingerprint, and with it the cache, stands for."""
        first = self._hashes
        if (
            first.known[index]
            and _written(self.folder / self.files[index]) != tuple(first.written[index].tolist())
            and self._has_changed(index, self._content(index)[1])
        ):
            raise UnreadableImageError("the file was changed after it was first read")


def contents(probe: ProbeSet, images: Sequence[int]) -> str:
    """Hash of the names of some images and, of files, of what they hold; else of the whole set."""
    total = hashlib.sha256()
    digest = getattr(probe, "digest", None)
    for index in images:
        total.update(probe.names[index].encode() + b"\0")
        total.update(digest(index).encode() if digest else b"")
    if digest is None:
        total.update(probe.fingerprint.encode())
    return total.hexdigest()


@contextmanager
def decoding(folder: str = "") -> Iterator[None]:
    """Within the context, whatever a decoder stumbles over is an unreadable image.

    Why is kept with the results, so it does not tell in which ``folder`` the image lies.
    """
    try:
        with warnings.catch_warnings():
            # Damaged metadata leaves the pixels as they are. But Pillow only warns of a
            # decompression bomb below twice its limit.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UnreadableImageError:
        raise
    except Exception as error:  # decoders raise whatever their format made them stumble over
        said = str(error).replace(f"{folder}{os.sep}", "") if folder else str(error)
        raise UnreadableImageError(f"{type(error).__name__}: {said}") from error


@dataclass(frozen=True, eq=False)
class ImageSequence(HashedFiles):
    """Images out of a sequence in memory, or out of a data set that makes them.

    Attributes:
        items: anything with a length and items by number: pictures, paths of files, or tuples
            that begin with one of these and go on with a label, which is not read; or rows with a
            picture among their values, as Hugging Face's datasets give them.
        places: numbers of the items that are used, in order.
        title: how a reader knows the set.
    """

    items: Any
    places: tuple[int, ...]
    title: str
    notes: tuple[str, ...] = ()
    """As of :class:`ImageFolder`."""

    _has_threads = False  # no data set promises to be read by several

    @classmethod
    def open(cls, items: Any, *, limit: int | None = None) -> "ImageSequence":
        """Check what can be checked without reading more than one item.

        Raises:
            InputError: there is none, or the first is no image.
        """
        try:
            places = tuple(spread(len(items), limit))
        except TypeError as error:
            raise InputError(
                f"images of type {type(items).__name__} have no length; give a folder, a sequence "
                "of PIL images or paths, or a data set with items by number"
            ) from error
        if not places:
            raise InputError("no images: the sequence is empty")
        first = _without_label(items[places[0]])
        if not isinstance(first, Image.Image | str | Path):
            raise InputError(
                f"the first of the images is of type {type(first).__name__}; give PIL images or "
                "paths of files, without a transform: each network has its own preprocessing"
            )
        kind = "images in memory" if isinstance(items, list | tuple) else type(items).__name__
        return cls(items, places, kind)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The paths of files; of a data set and of pictures their numbers."""
        files = isinstance(self.items, list | tuple)
        paths = [_without_label(self.items[i]) if files else None for i in self.places]
        return tuple(
            as_text(str(path)) if isinstance(path, str | Path) else f"image-{place:05d}"
            for place, path in zip(self.places, paths, strict=True)
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels, wherever they come from."""
        return hashlib.sha256(self.hashes(range(len(self.places))).tobytes()).hexdigest()

    @property
    def _paths(self) -> Sequence[str]:
        return self.names

    def _content(self, index: int) -> tuple[tuple[int, int], bytes]:
        try:
            return _NOWHERE, _pixels_of(self._read(index))
        except UnreadableImageError as error:  # skipped and counted when its turn comes
            return _NOWHERE, hashlib.sha256(str(error).encode()).digest()

    def read(self, index: int) -> Image.Image:
        """Decode the image at ``index`` as upright RGB.

        One that is no longer what the fingerprint stands for is unreadable, such as one that a
        random transform makes anew.
        """
        image = self._read(index)
        if self._has_changed(index, _pixels_of(image)):
            raise UnreadableImageError("it is another image each time it is read")
        return image

    def _read(self, index: int) -> Image.Image:
        with decoding():
            item = _without_label(self.items[self.places[index]])
            if isinstance(item, Image.Image):
                return as_rgb(item)
            with Image.open(item) as image:
                return as_rgb(image)


def _without_label(item: Any) -> Any:
    if isinstance(item, Mapping):  # a row of Hugging Face's datasets
        return next((each for each in item.values() if isinstance(each, Image.Image)), item)
    return item[0] if isinstance(item, tuple | list) and item else item


def _pixels_of(image: Image.Image) -> bytes:
    return hashlib.sha256(f"{image.size} ".encode() + image.tobytes()).digest()


# --- files -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """The images below a folder, and what was found besides.

    Attributes:
        files: paths within the folder, with forward slashes, by their letters' numbers in Unicode.
        passed_over: how many other files, by suffix, the most frequent first.
        notes: what a reader of the results should know, a sentence each.
    """

    files: tuple[str, ...]
    passed_over: dict[str, int]
    notes: tuple[str, ...]


def list_images(folder: Path) -> Listing:
    """The images below a folder: the one reader of folders.

    Searched recursively. Links are followed, so a folder of links reads like the copy that they
    stand for; of links that lead back to a folder they lie in, nothing is read. An image is known
    by its suffix, whatever its case, if this machine's Pillow can read the kind; without a suffix
    by its content. What begins with a dot or ends in a tilde, and what systems put beside images
    (``__MACOSX``, ``@eaDir``, ``Thumbs.db`` …) is not there. All other files are counted, and
    named on the log.

    Raises:
        InputError: a folder cannot be read, or there is no image.
    """
    files: list[str] = []
    others: Counter[str] = Counter()
    examples: dict[str, str] = {}
    linked = False
    todo = [(str(folder), "", frozenset[tuple[int, int]]())]
    while todo:
        path, within, above = todo.pop()
        try:
            own = os.stat(path)
            here = above | {(own.st_dev, own.st_ino)}
            with os.scandir(path) as entries:
                inside = [entry for entry in entries if not is_by_product(entry.name)]
        except OSError as error:
            raise InputError(
                f"folder {path!r} cannot be read: {error.strerror or error}"
            ) from error
        for entry in inside:
            kind = _kind(entry)
            linked = linked or entry.is_symlink()
            if kind == "folder":
                it = os.stat(entry.path)
                if (it.st_dev, it.st_ino) in here:
                    others["leading back to a folder above"] += 1
                else:
                    todo.append((entry.path, f"{within}{entry.name}/", here))
            elif kind == "file" and _is_image(entry):
                files.append(within + entry.name)
            elif kind == "file":
                suffix = as_text(os.path.splitext(entry.name)[1].lower()) or "without a suffix"
                others[suffix] += 1
                examples.setdefault(suffix, entry.path)
            else:
                others[kind] += 1
    files.sort(key=lambda file: (composed(file), file))
    passed = dict(sorted(others.items(), key=lambda item: (-item[1], item[0])))
    if not files:
        raise InputError(_nothing(folder, passed))
    notes = _notes(passed, examples)
    if passed and not notes:
        log.info("%s beside the images in %s", _told(passed), folder)
    if linked and (twice := _twice(folder, files)):
        notes.append(f"{twice} of {len(files)} images are there once more, through links")
    for note in notes:
        log.warning("warning: %s", note)
    return Listing(tuple(files), passed, tuple(notes))


_BY_PRODUCTS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information",
     "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
)  # fmt: skip
_NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
"""Formats that Pillow names and cannot decode, or not without another program."""
_FEATURES = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""Formats that a Pillow may be built without, by what it calls that part of it."""
_BY_CONTENT = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""Formats whose first bytes tell them from anything else; a camera's raw data is a TIFF."""
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,4}")
_UNREAD = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".hif", ".j2k", ".jp2", ".jxl",
     ".jxr", ".nef", ".orf", ".raf", ".rw2", ".svg", ".webp"}
)  # fmt: skip
"""Suffixes of pictures that this machine's Pillow may be unable to read."""
ARCHIVES = (".tar", ".zip", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet")


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes, in small letters, of the pictures that this machine's Pillow can read."""
    return frozenset(
        suffix.lower()
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN
        and kind not in _NO_PICTURES
        and (kind not in _FEATURES or features.check(_FEATURES[kind]))
    )


def as_text(name: str) -> str:
    r"""A file's name as text: composed letters; bytes that are not UTF-8 are written ``\xff``."""
    return os.fsencode(composed(name)).decode("utf-8", errors="backslashreplace")


def no_folder(path: Path) -> str:
    """Why a path is no folder of images, and what to do; follows the path in a message."""
    if not path.exists():
        return "does not exist"
    name = path.name.lower()
    if name.endswith(ARCHIVES):
        return f"is an archive: unpack it (tar xf, unzip) and give the folder, not {path.suffix}"
    if name.endswith(_TABLES):
        return "is a table, not a folder; give the folder that the images lie in"
    return "is a file, not a folder; give the folder that the images lie in"


def composed(name: str) -> str:
    """A name as it is compared: a Mac's file system takes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)


def is_by_product(name: str) -> bool:
    """Whether a name is one that systems and tools give to what they put beside images."""
    return name.startswith(".") or name.endswith("~") or name.lower() in _BY_PRODUCTS


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file``, or what else; a link that leads nowhere is a file nobody can read."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file() or not os.path.exists(entry.path):
            return "file"
    except OSError:  # a link in a circle
        return "file"
    return "neither file nor folder"  # to open a pipe would wait for ever


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in image_suffixes():
        return True
    return not _SUFFIX.fullmatch(suffix) and _holds_image(entry.path)


def _holds_image(path: str) -> bool:
    """Whether a file is an image by its first bytes, whatever it is called."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_BY_CONTENT):
                return True
    except Exception:  # as many kinds as there are decoders
        return False


def _told(passed: dict[str, int]) -> str:
    count = sum(passed.values())
    kinds = listed([f"{number} {kind}" for kind, number in passed.items()], quote=False)
    return f"{count} file{'' if count == 1 else 's'} passed over: {kinds}"


def _notes(passed: dict[str, int], examples: dict[str, str]) -> list[str]:
    """What was passed over, if pictures are among it."""
    unread = [kind for kind in passed if kind in _UNREAD]
    other = [kind for kind in passed if kind in examples and kind not in unread]
    hidden = [kind for kind in other if _holds_image(examples[kind])]
    if not unread and not hidden:
        return []
    why = []
    if unread:
        why.append(f"Pillow cannot read {listed(unread, quote=False)} here; convert them")
    if hidden:
        why.append(
            f"{listed(hidden, quote=False)} hold images by their content; give them the suffix of "
            "their kind"
        )
    return [f"{_told(passed)} ({'; '.join(why)})"]


def _nothing(folder: Path, passed: dict[str, int]) -> str:
    said = f"no images in {str(folder)!r}"
    if not passed:
        return f"{said}: nothing is in it"
    if any(kind in ARCHIVES for kind in passed):
        said += "; unpack the archives in it"
    return f"{said}; {_told(passed)}; images are known by suffixes such as .jpg, .png and .webp"


def _twice(folder: Path, files: Sequence[str]) -> int:
    """How many files are the same as one before them, through links."""
    seen: set[tuple[int, int]] = set()
    twice = 0
    for file in files:
        try:
            it = os.stat(folder / file)
        except OSError:
            continue
        twice += (it.st_dev, it.st_ino) in seen
        seen.add((it.st_dev, it.st_ino))
    return twice


# --- pixels ----------------------------------------------------------------------------------


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
    """The first version of the built-in scenes; needs no data."""

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
    """A probe set by name: ``imagenette``, ``synthetic``, or where images lie.

    These are a folder, tar shards, Parquet files, or an address: see :mod:`profiler.data.encoded`.

    Args:
        name: built-in name or path; a folder called like a built-in set needs ``./``.
        cache: where ``imagenette`` is downloaded to.
        limit: how many images to use.
        seed: of built-in scenes.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    if name in SCENES:
        if name == "synthetic:1":
            return SyntheticProbe(SyntheticScenes(limit or 1000, seed=seed))
        return ExperimentScenes(limit or 1000, seed=seed)
    if name == DOWNLOADED:
        return ImageFolder.open(
            _imagenette(cache), limit=limit, title="imagenette (validation, 320 px)"
        )
    # Which builds upon this module.
    from profiler.data.encoded import is_encoded, open_encoded

    if is_encoded(name) and not Path(name).is_dir():
        return open_encoded(name, cache, limit)
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


_NOWHERE = (0, 0)
"""When a file was written that cannot be read, and how long it is."""


def _written(path: Path) -> tuple[int, int]:
    it = path.stat()
    return it.st_mtime_ns, it.st_size
