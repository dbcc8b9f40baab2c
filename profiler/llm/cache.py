"""Replies on disk. The only module that knows diskcache."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from profiler.errors import OutputError

FORMAT = 1
"""Version of the records; part of every key."""

_T = TypeVar("_T")


class ReplyCache:
    """Accepted answers by key; safe for several threads and several processes.

    A record holds the answer and the whole request beside it, as JSON text, so that anyone can
    see what it is. Without a folder nothing is stored.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._disk: diskcache.Cache | None = None
        if folder is not None:
            # Nothing is ever evicted: a reply has been paid for and is a few kilobytes.
            self._disk = self._guarded(
                lambda: diskcache.Cache(str(folder), eviction_policy="none", timeout=60)
            )

    def get(self, key: str) -> str | None:
        """Give the answer stored under ``key``, or None."""
        disk = self._disk
        if disk is None:
            return None
        record = self._guarded(lambda: disk.get(key))
        if not isinstance(record, str):
            return None
        text = json.loads(record)["text"]
        return text if isinstance(text, str) else None

    def put(self, key: str, text: str, described: Mapping[str, Any]) -> None:
        """Store an answer with a description of what it answers."""
        disk = self._disk
        if disk is not None:
            record = json.dumps({"text": text, **described})
            self._guarded(lambda: disk.set(key, record))

    def close(self) -> None:
        """Close the files."""
        if self._disk is not None:
            self._disk.close()

    def _guarded(self, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OutputError(
                f"the cache of LLM replies in {self.folder} cannot be used ({reason}); "
                "free or delete the folder, or choose another cache folder"
            ) from error
