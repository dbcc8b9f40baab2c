"""A real HTTP server that speaks as much of OpenAI's protocol as the tests need.

It follows a plan: each request takes the next behaviour of ``plan``, and the answering function
when the plan is used up. Every request body is kept. No behaviour depends on how long anything
takes: a server that is to be "slow" does not answer at all until the test ends.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Say:
    """A correct chat completion with this text."""

    text: str | None
    finish: str = "stop"
    refusal: str | None = None


@dataclass(frozen=True)
class Fail:
    """An error status."""

    status: int
    message: str = "it failed"
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True)
class Raw:
    """A body as it stands, with status 200."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def message(content: object, finish: str = "stop", **more: object) -> Raw:
    """A chat completion whose message is as it stands."""
    body = completion(None, finish)
    body["choices"][0]["message"] = {"role": "assistant", "content": content, **more}
    return Raw(json.dumps(body).encode())


class Hang:
    """No answer until the server is closed."""


class Drop:
    """The connection is closed without an answer."""


class DropHalfWay:
    """The connection is closed in the middle of the body."""


Behaviour = Say | Fail | Raw | Hang | Drop | DropHalfWay
Answer = Callable[[Body], Behaviour]


def asked(body: Body) -> dict[str, str]:
    """Read the numbered concepts out of a sorting request, as a model would."""
    line = re.findall(r"^Concepts: (\{.*\})$", body["messages"][1]["content"], re.MULTILINE)[-1]
    return dict(json.loads(line))


def sort_by(truth: Mapping[str, str], otherwise: str = "object") -> Answer:
    """Sort correctly, by a list."""

    def answer(body: Body) -> Behaviour:
        return Say(json.dumps({n: truth.get(w, otherwise) for n, w in asked(body).items()}))

    return answer


class LLMServer:
    """The server; a context manager."""

    def __init__(self, answer: Answer | None = None, plan: Iterable[Behaviour] = ()) -> None:
        self.answer = answer or sort_by({})
        self.plan = deque(plan)
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        self.barrier: threading.Barrier | None = None
        self._now = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        # A short poll only shortens the closing of the server.
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> LLMServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _next(self, body: Body) -> Behaviour:
        with self._lock:
            if self.plan:
                return self.plan.popleft()
        return self.answer(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.bodies.append(body)
                    server.headers.append({k.lower(): v for k, v in self.headers.items()})
                    server.paths.append(self.path)
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                try:
                    if server.barrier is not None:
                        server.barrier.wait(timeout=30)
                    self.behave(server._next(body))
                finally:
                    with server._lock:
                        server._now -= 1

            def behave(self, what: Behaviour) -> None:
                match what:
                    case Say(text, finish, refusal):
                        self.send(200, json.dumps(completion(text, finish, refusal)).encode())
                    case Fail(status, message, headers, code, param):
                        error = {"message": message, "type": "error", "code": code, "param": param}
                        self.send(status, json.dumps({"error": error}).encode(), headers)
                    case Raw(body, content_type, status, headers):
                        self.send(status, body, {"Content-Type": content_type, **headers})
                    case Hang():
                        server._closing.wait()
                        self.close_connection = True
                    case Drop():
                        self.close_connection = True
                    case DropHalfWay():
                        self.send_response(200)
                        self.send_header("Content-Type", "application/json")
                        self.send_header("Content-Length", "5000")
                        self.end_headers()
                        self.wfile.write(b'{"choices": [')
                        self.close_connection = True

            def send(self, status: int, body: bytes, more: Mapping[str, str] | None = None) -> None:
                if "Date" in (more or {}):
                    self.send_response_only(status)  # without a Date of its own
                else:
                    self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(more or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler


def completion(text: str | None, finish: str = "stop", refusal: str | None = None) -> Body:
    """Write a chat completion as OpenAI does."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
