"""Replies on disk. The only module that knows diskcache."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
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
    see what it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Nothing is ever evicted: a reply has been paid for and is a few kilobytes.
        self._disk: diskcache.Cache = self._guarded(
            lambda: diskcache.Cache(str(folder), eviction_policy="none", timeout=60)
        )

    def get(self, key: str) -> str | None:
        """Give the answer stored under ``key``; None where there is none or it is damaged."""
        try:
            return _answer(self._guarded(lambda: self._disk.get(key)))
        except ValueError:  # a reply in a file of its own that is no text any more
            return None

    def put(self, key: str, text: str, described: Mapping[str, Any]) -> None:
        """Store an answer with a description of what it answers."""
        record = json.dumps({"text": text, "sha256": _digest(text), **described})
        self._guarded(lambda: self._disk.set(key, record))

    def __len__(self) -> int:
        return self._guarded(lambda: len(self._disk))

    def damaged(self) -> list[str]:
        """Keys of the replies that cannot be used."""
        return [key for key in self._guarded(lambda: list(self._disk)) if self.get(key) is None]

    def remove(self, keys: Iterable[str]) -> None:
        """Forget the replies of some keys."""
        for key in keys:
            self._guarded(partial(self._disk.delete, key))

    def clear(self) -> None:
        """Forget every reply; other processes may go on using the cache meanwhile."""
        self._guarded(self._disk.clear)

    def close(self) -> None:
        """Close the files."""
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
        with closing(ReplyCache(folder)) as replies:
            replies.clear()
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
