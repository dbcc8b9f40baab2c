"""Results kept by content: an entry is named by the hash of everything that decides what is in it.

An entry is a safetensors file, with its key written beside it as JSON (so that anyone can see
what a file is) together with the file's SHA-256, which is part of the file's name as well. Both
are written to a temporary name and renamed, the record last, so a reader meets a whole entry or
none; a damaged entry counts as absent. Writers need no lock: the first to finish an entry counts,
and of two that finish at once each record names its own file.
"""

import hashlib
import json
import os
import re
import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from profiler.core.json_text import parse_json
from profiler.errors import EnvironmentFailure, OutputError, ResourceError, folder_variable

Array = NDArray[Any]

_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}

KINDS = ("passes", "shards", "embeddings", "texts")
"""What a store holds, each in a folder of its name; nothing beside them is touched."""
HELD_BACK = 3600.0
"""Seconds for which a file that belongs to no entry may be one that is being written."""

_RECORD = re.compile(r"[0-9a-f]{32}\.json")
_ARRAYS = re.compile(r"[0-9a-f]{32}(\.[0-9a-f]{16})?\.safetensors")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.(json|safetensors)\.[0-9a-f]{16}")


def cache_folder() -> Path:
    """``PROFILER_CACHE_DIR``, or the user's cache folder by the platform's custom.

    Raises :class:`OutputError` where it is not there and cannot be made. One that is there but
    may not be written to serves as long as nothing new has to be kept.
    """
    given = os.environ.get("PROFILER_CACHE_DIR")
    folder = Path(given or platformdirs.user_cache_dir("profiler"))
    whole = folder.absolute()
    standing = next(each for each in (whole, *whole.parents) if each.exists())
    if standing.is_dir() and (standing == whole or os.access(standing, os.W_OK)):
        return folder
    what = "that PROFILER_CACHE_DIR names" if given else repr(str(folder))
    why = (
        "the folder above it may not be written to" if standing.is_dir() else "a file is in its way"
    )
    raise OutputError(
        f"the cache folder {what} cannot be made: {why}; set PROFILER_CACHE_DIR to another folder"
    )


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing; raises :class:`OutputError` with the reason."""
    with _whole_file(path) as draft:
        # The name of a file need not be text; what of it is none is written as Python escapes it.
        draft.file.write(
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )


@dataclass
class _Draft:
    """A file under way, and where it goes once it is whole."""

    file: IO[bytes]
    path: Path


@contextmanager
def _whole_file(path: Path) -> Iterator[_Draft]:
    # A name of its own, so that two writers do not meet; made by open(), so that the file may be
    # read by whom the folder allows.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            draft = _Draft(file, path)
            yield draft
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(draft.path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or error
            variable = folder_variable(path)
            where = f", in the folder that {variable} names" if variable else ""
            raise OutputError(f"cannot write {str(path)!r}{where}: {reason}") from error
        raise


@dataclass(frozen=True)
class StoredRows:
    """An array on disk of which some rows are read at a time.

    The file is mapped for each reading alone, so that pages once read do not pile up in memory.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        if 0 in self.shape:  # nothing that could be mapped
            return np.asarray(np.empty(self.shape, self.dtype)[rows])
        try:
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        except (OSError, ValueError) as error:  # a ValueError where the file is too short
            raise ResourceError(
                f"{str(self.path)!r} was removed or damaged while it was in use; run the command "
                "again"
            ) from error
        return np.array(mapped[rows])

    def whole(self) -> Array:
        """All of it, in memory."""
        count = int(np.prod(self.shape, dtype=np.int64))
        return np.fromfile(self.path, self.dtype, count, offset=self.offset).reshape(self.shape)


@dataclass(frozen=True)
class RowStream:
    """An array that is written as it comes: blocks of rows, which add up to ``shape``."""

    shape: tuple[int, ...]
    blocks: Iterable[Array]


@dataclass(frozen=True)
class StoredEntry:
    """What is kept under a key, as far as its record tells."""

    kind: str
    record: Path
    key: Mapping[str, Any]
    """Empty where the record cannot be read."""
    arrays: Path | None
    replaces: Sequence[str]
    """Names of the entries whose place this one takes."""
    size: int
    """Bytes on disk."""
    used: float
    """When it was last put or got, in seconds since 1970."""

    @property
    def name(self) -> str:
        """Unique within a store."""
        return f"{self.kind}/{self.record.stem}"

    def fault(self) -> str:
        """What is wrong with it; empty where every checksum agrees. Reads all of it."""
        return fault(self.record)


@dataclass(frozen=True)
class Stray:
    """A file that belongs to no entry: what is left of a writer that was killed."""

    path: Path
    size: int


class Store:
    """A folder of arrays by content hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, kind: str, key: Mapping[str, Any], on_disk: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """The arrays kept under ``key``, or None where there are none or they are damaged.

        Those whose names end in one of ``on_disk`` stay there, as :class:`StoredRows`.
        """
        record = self._record(kind, key)
        if fault(record):
            return None
        try:
            found = {
                name: rows if on_disk and name.endswith(on_disk) else rows.whole()
                for name, rows in _contents(_Record.read(record).arrays).items()
            }
        except _DAMAGES:
            return None
        with suppress(OSError):  # a cache that may only be read is a good cache
            os.utime(record)
        return found

    def keys(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """The keys of a kind under which something may be kept, damaged or not."""
        for path in files_in(self.folder / kind):
            if _RECORD.fullmatch(path.name):
                with suppress(*_DAMAGES):
                    yield _Record.read(path).key

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether something undamaged is kept under ``key``."""
        return not fault(self._record(kind, key))

    def put(
        self,
        kind: str,
        key: Mapping[str, Any],
        arrays: Mapping[str, Array | RowStream],
        replaces: Iterable[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        """Keep ``arrays`` under ``key``, unless another process has done so in the meantime.

        Two processes may differ in the last bits of a sum; what is there already has perhaps
        been read, so it stays. With it, the entries that it ``replaces`` are superfluous.
        """
        record = self._record(kind, key)
        if not fault(record):
            return
        digest = hashlib.sha256()
        with _whole_file(record.with_suffix(".safetensors")) as draft:
            for piece in _safetensors(arrays):
                digest.update(piece)
                draft.file.write(piece)
            draft.path = _arrays_of(record, digest.hexdigest())
        content: dict[str, Any] = {"key": dict(key), "sha256": digest.hexdigest()}
        if parts := [f"{kind}/{_name(key)}" for kind, key in replaces]:
            content["replaces"] = parts
        # The record makes the entry valid, so it comes last.
        write_atomically(record, json.dumps(content, indent=1, sort_keys=True))

    def drop(self, kind: str, key: Mapping[str, Any]) -> None:
        """Forget what is kept under ``key``, if anything is."""
        entry = _entry(kind, self._record(kind, key))
        if entry is not None:
            with suppress(OutputError):
                self.remove(entry)

    def entries(self) -> list[StoredEntry]:
        """Everything that is kept, whole or damaged, the most recently used of a kind first."""
        found = [
            entry
            for kind in KINDS
            for path in files_in(self.folder / kind)
            if _RECORD.fullmatch(path.name) and (entry := _entry(kind, path))
        ]
        return sorted(found, key=lambda entry: (KINDS.index(entry.kind), -entry.used, entry.record))

    def strays(self) -> list[Stray]:
        """What killed writers left, as far as nobody can be writing it any more."""
        named = {entry.arrays for entry in self.entries()}
        before = time.time() - HELD_BACK
        found = []
        for kind in KINDS:
            for path in files_in(self.folder / kind):
                ours = _TEMPORARY.fullmatch(path.name) or (
                    _ARRAYS.fullmatch(path.name) and path not in named
                )
                with suppress(OSError):
                    if ours and (about := path.stat()).st_mtime < before:
                        found.append(Stray(path, about.st_size))
        return found

    def remove(self, item: StoredEntry | Stray) -> None:
        """Remove an entry or a stray file, if it is still there.

        The record goes first: without it there is no entry. Whoever has read the record already
        meets missing arrays, and takes the entry for absent.
        """
        paths = (item.path,) if isinstance(item, Stray) else (item.record, item.arrays)
        for path in paths:
            if path is not None:
                remove_file(path)

    def _record(self, kind: str, key: Mapping[str, Any]) -> Path:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of entry; known: {', '.join(KINDS)}")
        return self.folder / kind / f"{_name(key)}.json"


def files_in(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where there is no such folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise EnvironmentFailure(f"cannot read {str(folder)!r}: {error.strerror}") from error


def remove_file(path: Path) -> None:
    """Remove a file, if it is still there; raises :class:`OutputError` with the reason."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {str(path)!r}: {error.strerror}") from error


# --- records --------------------------------------------------------------------------------

_DAMAGES = (
    OSError, ValueError, KeyError, TypeError, RecursionError, ResourceError, struct.error,
)  # fmt: skip
"""Whatever reading a damaged file may raise."""


@dataclass(frozen=True)
class _Record:
    path: Path
    key: Mapping[str, Any]
    sha256: str
    replaces: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> "_Record":
        content = parse_json(path.read_text(encoding="utf-8"))
        key, digest = content["key"], content["sha256"]
        record = cls(path, key, digest, tuple(map(str, content.get("replaces", ()))))
        # The record has no checksum of its own, but its name is the hash of its key, and what
        # names a file is nothing but a hash.
        if _name(record.key) != path.stem or not re.fullmatch(r"[0-9a-f]{64}", record.sha256):
            raise ValueError(f"{str(path)!r} is no record")
        return record

    @property
    def arrays(self) -> Path:
        return _arrays_of(self.path, self.sha256)


def _name(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:32]


def _arrays_of(record: Path, sha256: str) -> Path:
    return record.with_name(f"{record.stem}.{sha256[:16]}.safetensors")


def _entry(kind: str, path: Path) -> StoredEntry | None:
    try:
        about = path.stat()
    except OSError:
        return None
    try:
        record = _Record.read(path)
    except _DAMAGES:
        return StoredEntry(kind, path, {}, None, (), about.st_size, about.st_mtime)
    size = about.st_size
    with suppress(OSError):
        size += record.arrays.stat().st_size
    return StoredEntry(kind, path, record.key, record.arrays, record.replaces, size, about.st_mtime)


def fault(path: Path) -> str:
    """What is wrong with the entry of a record; empty where it is whole. Reads all of it."""
    try:
        record = _Record.read(path)
    except FileNotFoundError:
        return "there is no record"
    except _DAMAGES:
        return "the record is damaged"
    try:
        with record.arrays.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "the arrays are missing"
    except OSError as error:
        return f"the arrays cannot be read ({error.strerror})"
    return "" if found == record.sha256 else "the arrays do not have the checksum on record"


# --- the file format ------------------------------------------------------------------------
#
# safetensors: the header's length as eight bytes, the header as JSON, then the arrays one after
# the other. Written here because the library's writer wants every array whole in memory.


def _safetensors(arrays: Mapping[str, Array | RowStream]) -> Iterator[Any]:
    header, end = {}, 0
    for name, array in arrays.items():
        dtype = np.dtype("<f4") if isinstance(array, RowStream) else array.dtype
        start, end = end, end + int(np.prod(array.shape, dtype=np.int64)) * dtype.itemsize
        shape = list(array.shape)
        header[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    written = 0
    for array in arrays.values():
        blocks = array.blocks if isinstance(array, RowStream) else [array]
        for block in blocks:
            plain = np.ascontiguousarray(
                block, dtype="<f4" if isinstance(array, RowStream) else None
            )
            written += plain.nbytes
            yield plain.reshape(-1).view(np.uint8).data
    if written != end:
        raise ValueError(f"{written} bytes of rows where {end} were announced")


def _contents(path: Path) -> dict[str, StoredRows]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = parse_json(file.read(length))
    return {
        name: StoredRows(
            path,
            8 + length + entry["data_offsets"][0],
            tuple(entry["shape"]),
            _DTYPES[entry["dtype"]],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }
