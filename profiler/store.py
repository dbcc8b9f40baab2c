"""Results kept by content: a file is named by the hash of everything that decides what is in it.

An entry is a safetensors file, with its key written beside it as JSON (so that anyone can see
what a file is) together with the file's SHA-256. Both are written to a temporary name and
renamed, so a reader meets a whole entry or none; a damaged entry counts as absent.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from profiler.errors import OutputError

Arrays = Mapping[str, NDArray[Any]]


def cache_folder() -> Path:
    """``PROFILER_CACHE_DIR``, or the user's cache folder by the platform's custom."""
    return Path(os.environ.get("PROFILER_CACHE_DIR") or platformdirs.user_cache_dir("profiler"))


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing; raises :class:`OutputError` with the reason."""
    data = content.encode() if isinstance(content, str) else content
    # A name of its own, so that two writers do not meet; made by open(), so that the file may be
    # read by whom the folder allows.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise OutputError(f"cannot write {str(path)!r}: {reason}") from error
        raise


class Store:
    """A folder of arrays by content hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, kind: str, key: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
        """The arrays kept under ``key``, or None where there are none or they are damaged."""
        path = self._path(kind, key)
        try:
            record = json.loads(path.with_suffix(".json").read_text())
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != record["sha256"]:
                return None
            return load(data)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None

    def put(self, kind: str, key: Mapping[str, Any], arrays: Arrays) -> None:
        """Keep ``arrays`` under ``key``."""
        path = self._path(kind, key)
        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        write_atomically(path, data)
        record = {"key": dict(key), "sha256": hashlib.sha256(data).hexdigest()}
        # The record makes the entry valid, so it comes last.
        write_atomically(path.with_suffix(".json"), json.dumps(record, indent=1, sort_keys=True))

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        return self.folder / kind / f"{digest[:32]}.safetensors"
