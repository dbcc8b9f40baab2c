"""A stand-in that answers from a file: for dry runs and tests."""

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.core.json_text import parse_json
from profiler.errors import InputError, LLMError
from profiler.llm.base import Reply, Request, ToolCall, Usage

_FORMS = (
    'a reply: a JSON string, {"reply": …}, {"tool_calls": […]}, {"match": REGEX, "reply": …}, '
    '{"key": DIGEST, "reply": …} or {"sort": {WORD: CATEGORY}, "otherwise": CATEGORY}'
)


class Scripted:
    r"""Answers from a file of JSON lines.

    Each line is one of::

        {"reply": "text"}                                 the next reply in order; used once
        {"tool_calls": [{"name": …, "arguments": {…}}]}   the same, asking for calls
        {"match": "regex", "reply": "text"}               for every request whose text it matches
        {"key": "digest", "reply": "text"}                for exactly this request
        {"sort": {"red": "color"}, "otherwise": "object"} sorts whatever words are asked about

    A reply that is not a string is sent as JSON. A request takes the first that fits of its
    recorded reply, the matching replies, a sorting line (where there are words to sort), and the
    next reply in order. Lines that are blank or start with # are skipped. ``history`` holds the
    requests in order.
    """

    max_concurrency: int | None = 1  # replies in order need requests in order
    knows_cost = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        text = _read(self.path)
        self.history: list[Request] = []
        self.name = f"scripted:{self.path.name}"
        self.fingerprint = f"{self.name} sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self._lock = threading.Lock()
        self._script = _Script.parse(text, self.path)
        self._queue = deque(self._script.in_order)

    def complete(self, request: Request) -> Reply:
        """Give the reply the script holds for this request."""
        with self._lock:
            self.history.append(request)
            text = self._script.find(request)
            if text is not None:
                return Reply(text, Usage(requests=1))
            if not self._queue:
                raise LLMError(
                    f"the script {self.path} holds no reply for request {len(self.history)}, "
                    f"which begins {request.user[:60]!r}"
                )
            said = self._queue.popleft()
        if isinstance(said, str):
            return Reply(said, Usage(requests=1))
        return Reply("", Usage(requests=1), calls=said)

    @property
    def left(self) -> int:
        """How many replies in order have not been asked for."""
        return len(self._queue)

    def keep(self, request: Request, text: str) -> None:
        """Nothing to do: the script answers."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class _Script:
    in_order: tuple[str | tuple[ToolCall, ...], ...]
    matching: tuple[tuple[re.Pattern[str], str], ...]
    recorded: Mapping[str, str]
    sorting: Mapping[str, str] | None
    otherwise: str | None

    @classmethod
    def parse(cls, text: str, path: Path) -> "_Script":
        in_order: list[str | tuple[ToolCall, ...]] = []
        matching: list[tuple[re.Pattern[str], str]] = []
        recorded: dict[str, str] = {}
        sorting: dict[str, str] | None = None
        otherwise: str | None = None
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                match parse_json(line):
                    case {"sort": dict(words), **rest}:
                        sorting = {**(sorting or {}), **{str(w): str(c) for w, c in words.items()}}
                        otherwise = str(rest["otherwise"]) if "otherwise" in rest else otherwise
                    case {"match": str(pattern), "reply": reply}:
                        matching.append((re.compile(pattern), _as_text(reply)))
                    case {"key": str(key), "reply": reply}:
                        recorded[key] = _as_text(reply)
                    case {"tool_calls": [*calls]}:
                        in_order.append(tuple(map(_as_call, calls)))
                    case {"reply": reply}:
                        in_order.append(_as_text(reply))
                    case str(reply):
                        in_order.append(reply)
                    case _:
                        raise InputError(f"{path}, line {number}: expected {_FORMS}")
            except ValueError as error:
                reason = getattr(error, "msg", error)
                raise InputError(f"{path}, line {number}: not JSON ({reason})") from error
            except re.error as error:
                raise InputError(f"{path}, line {number}: bad pattern ({error})") from error
        return cls(tuple(in_order), tuple(matching), recorded, sorting, otherwise)

    def find(self, request: Request) -> str | None:
        if (text := self.recorded.get(request.digest())) is not None:
            return text
        for pattern, reply in self.matching:
            if pattern.search(f"{request.system}\n{request.user}"):
                return reply
        if self.sorting is None or not request.items:
            return None
        answer = {number: self.sorting.get(word, self.otherwise) for number, word in request.items}
        return json.dumps({number: name for number, name in answer.items() if name is not None})


def _as_call(call: Any) -> ToolCall:
    match call:
        case {"name": str(name), **rest}:
            return ToolCall(name, _as_text(rest.get("arguments", {})))
    raise ValueError("a call is an object with a name and arguments")


def _as_text(reply: Any) -> str:
    return reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"the LLM script {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the LLM script {path} is not UTF-8 (byte {error.start})") from error
