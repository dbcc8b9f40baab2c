"""Replies on disk. The only module that knows diskcache."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from profiler.core.json_text import parse_json
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
        """Give the answer stored under ``key``; None where there is none or it is damaged."""
        disk = self._disk
        if disk is None:
            return None
        try:
            return _answer(self._guarded(lambda: disk.get(key)))
        except ValueError:  # a reply in a file of its own that is no text any more
            return None

    def put(self, key: str, text: str, described: Mapping[str, Any]) -> None:
        """Store an answer with a description of what it answers."""
        disk = self._disk
        if disk is not None:
            record = json.dumps({"text": text, "sha256": _digest(text), **described})
            self._guarded(lambda: disk.set(key, record))

    def __len__(self) -> int:
        disk = self._disk
        return 0 if disk is None else self._guarded(lambda: len(disk))

    def damaged(self) -> list[str]:
        """Keys of the replies that cannot be used."""
        disk = self._disk
        if disk is None:
            return []
        return [key for key in self._guarded(lambda: list(disk)) if self.get(key) is None]

    def remove(self, keys: Iterable[str]) -> None:
        """Forget the replies of some keys."""
        disk = self._disk
        if disk is not None:
            for key in keys:
                self._guarded(partial(disk.delete, key))

    def clear(self) -> None:
        """Forget every reply; other processes may go on using the cache meanwhile."""
        disk = self._disk
        if disk is not None:
            self._guarded(disk.clear)

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


def reply_files(folder: Path) -> list[Path]:
    """The files in which the replies are kept; nothing else in their folder is ours."""
    patterns = ("cache.db", "cache.db-*", "??/??/*.val")
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())


def clear_replies(folder: Path) -> None:
    """Forget every reply, also where the cache is damaged beyond use."""
    try:
        replies = ReplyCache(folder)
        try:
            replies.clear()
        finally:
            replies.close()
    except OutputError as error:
        # Of this very class is what SQLite says of a damaged file; a locked one has another.
        if type(error.__cause__) is not sqlite3.DatabaseError:
            raise
        for path in reply_files(folder):
            path.unlink(missing_ok=True)


def _answer(record: object) -> str | None:
    """The text of a record, if it has the checksum that stands beside it."""
    if not isinstance(record, str):
        return None
    content = parse_json(record)
    text = content.get("text") if isinstance(content, dict) else None
    if not isinstance(text, str) or content.get("sha256", _digest(text)) != _digest(text):
        return None
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
