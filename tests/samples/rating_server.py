"""The rating server in a process of its own, asked over HTTP, and by a rater at its page."""

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from browser import View
from command import Outcome
from forks import Forks, Running

IDLE = "#work[data-number]:not(.waiting):not([hidden])"


@dataclass
class Server:
    running: Running
    address: str
    ended: bool = False
    images: frozenset[int] = frozenset()

    @property
    def image(self) -> str:
        """Path of an image that is asked about."""
        return f"/image/{min(self.images)}"

    @property
    def port(self) -> int:
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def key(self) -> str:
        return parse_qs(urlsplit(self.address).query)["key"][0]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        host: str = "",
        cookie: bool = True,
        **headers: str,
    ) -> tuple[int, bytes, dict[str, str]]:
        """One request with exactly these headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            if cookie:
                connection.putheader("Cookie", f"profiler-rate-{self.port}={self.key}")
            content = b"" if body is None else json.dumps(body).encode()
            if body is not None:
                connection.putheader("Content-Length", str(len(content)))
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(content)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def start(self) -> dict[str, Any]:
        status, body, _ = self.ask("GET", "/api/start")
        assert status == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def kill(self) -> None:
        if not self.ended:
            self.end(signal.SIGKILL)

    def end(self, number: int) -> Outcome:
        self.ended = True
        return self.running.kill(number)


@contextmanager
def serving(forks: Forks, folder: Path, *options: object) -> Iterator[Server]:
    command = ("rate", folder, "--no-browser", "--port", 0, *options)
    running = forks.start(folder.parent, *command)
    line = running.first_line().strip()
    if not line:
        raise AssertionError(running.wait().stderr)
    server = Server(running, line)
    try:
        yield server
    finally:
        server.kill()


@dataclass
class Rater:
    """Someone at the page."""

    view: View
    page: Any = field(init=False)

    def __post_init__(self) -> None:
        self.page = self.view.page

    def enter(self, name: str) -> None:
        self.page.fill("#name", name)
        self.page.keyboard.press("Enter")
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector(f"{IDLE}, #end:not([hidden])")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.ready()

    @property
    def done(self) -> int:
        return int(self.page.inner_text("#count").split()[1])

    @property
    def question(self) -> tuple[str, str]:
        return self.page.inner_text("#description"), self.page.inner_text("#place")


@contextmanager
def at_page(
    browser: Any, address: str, *, width: int = 1400, dark: bool = False
) -> Iterator[Rater]:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    try:
        page = context.new_page()
        view = View(page)
        page.on("console", lambda message: view.complaints.append(message.text))
        page.on("pageerror", lambda error: view.complaints.append(str(error)))
        page.on("request", lambda request: view.requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("#welcome:not([hidden]), #work:not([hidden])")
        yield Rater(view)
    finally:
        context.close()
