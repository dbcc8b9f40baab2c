"""Routes, and the process that serves them; no name in a request becomes a name of a file."""

import logging
import socket
import webbrowser
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Timer
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from profiler.core.json_text import parse_json
from profiler.errors import EnvironmentFailure, InputError, ProfilerError, UsageError
from profiler.rate.server.access import Access, cookie_name, same
from profiler.rate.server.session import Session
from profiler.rate.views import option
from profiler.report.document import TEMPLATES

log = logging.getLogger("profiler")

HOST = "127.0.0.1"
PORT = 8717
"""Preferred, so that an open page finds its server again; taken, any free one."""

_HERE = Path(__file__).parent
_STYLE = TEMPLATES / "style.css"
_PAGE = "text/html", (_HERE / "page.html",)
_FILES = {
    "/page.css": ("text/css", (_STYLE, _HERE / "page.css")),
    "/page.js": ("text/javascript", (_HERE / "page.js",)),
}


def make_app(session: Session, guard: Access, rater: str = "") -> ASGIApp:
    """The application behind its guard; ``rater`` fills in the name on the first screen."""
    images = session.image_ids
    thumbnails = session.book.run.thumbnails

    async def page(request: Request) -> Response:
        key = request.query_params.get("key")
        if key is None:
            return _file(*_PAGE)
        if not same(key, guard.key):
            return PlainTextResponse(
                "The key in this address is not this server's: take the one it printed.\n", 403
            )
        # The key moves from the address, which gets copied about, into a cookie.
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            cookie_name(request.scope), guard.key, httponly=True, samesite="lax", path="/"
        )
        return answer

    async def asset(request: Request) -> Response:
        return _file(*_FILES[request.url.path])

    async def image(request: Request) -> Response:
        number: int = request.path_params["number"]
        if number not in images:
            return PlainTextResponse("no such image\n", 404)
        # The number means nothing beyond this run, so the browser forgets it with the page.
        headers = {"cache-control": "private, max-age=600"}
        return Response(thumbnails[number], media_type="image/webp", headers=headers)

    async def start(_: Request) -> Response:
        record = session.book.run.record
        return JSONResponse(
            {
                "token": guard.token,
                "rater": rater,
                "raters": session.raters(),
                "total": len(session.questions),
                "blind": session.blind,
                "view": session.book.view,
                "guidelines": session.guidelines(),
                "subject": record.subject.name,
                "probe": record.probe.title if record.probe else "",
                "file": str(session.book.path),
                "folder": str(session.book.path.parent),
                "next": f"profiler calibrate {session.book.path.parent}{option(session.book.view)}",
            }
        )

    async def state(request: Request) -> Response:
        return _answered(lambda: session.state(request.query_params.get("rater", "")))

    async def rate(request: Request) -> Response:
        content = await _content(request)
        return _answered(
            lambda: session.rate(
                _text(content, "rater"), _number(content), _text(content, "answer")
            )
        )

    async def undo(request: Request) -> Response:
        content = await _content(request)
        return _answered(lambda: session.undo(_text(content, "rater"), _number(content)))

    def get(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, endpoint, methods=["GET"])

    app = Starlette(
        routes=[
            get("/", page),
            *(get(path, asset) for path in _FILES),
            get("/image/{number:int}", image),
            get("/api/start", start),
            get("/api/state", state),
            Route("/api/rate", rate, methods=["POST"]),
            Route("/api/undo", undo, methods=["POST"]),
        ]
    )
    return guard.wrap(app)


def serve(
    session: Session, *, port: int | None = None, rater: str = "", open_browser: bool = True
) -> None:
    """Serve the page until interrupted; prints its address on standard output first.

    Args:
        session: the questions.
        port: on 127.0.0.1; None takes 8717, or any free one where that is taken.
        rater: name filled in on the first screen.
        open_browser: show the page in the user's browser.
    """
    guard = Access()
    with session.book.held(), _listen(port) as sock:
        address = f"http://{HOST}:{sock.getsockname()[1]}/?key={guard.key}"
        log.info(
            "%d units to rate; ratings are saved in %s; end with Ctrl-C",
            len(session.questions), session.book.path,
        )  # fmt: skip
        print(address, flush=True)
        if open_browser:
            Timer(0.3, webbrowser.open, [address]).start()
        config = uvicorn.Config(
            make_app(session, guard, rater),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
            proxy_headers=False,
        )
        uvicorn.Server(config).run(sockets=[sock])


def _listen(port: int | None) -> socket.socket:
    wanted = [PORT, 0] if port is None else [port]
    for number in wanted:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, number))
            sock.listen()
        except (OSError, OverflowError) as error:
            sock.close()
            reason = error.strerror if isinstance(error, OSError) else "no such port"
        else:
            return sock
    raise EnvironmentFailure(f"cannot listen on {HOST}:{wanted[-1]}: {reason}; try another --port")


def _file(media_type: str, paths: tuple[Path, ...]) -> Response:
    return Response("\n".join(path.read_text("utf-8") for path in paths), media_type=media_type)


async def _content(request: Request) -> dict[str, Any]:
    try:
        content = parse_json(await request.body())
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise InputError(f"the answer lacks its {name}")
    return value


def _number(content: dict[str, Any]) -> int:
    value = content.get("number")
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError("the answer does not say which question it is to")
    return value


def _answered(make: Callable[[], dict[str, Any]]) -> Response:
    """Answer with the state, or with what is wrong. Runs to its end before any other request."""
    try:
        return JSONResponse(make())
    except UsageError as error:
        return JSONResponse({"error": str(error)}, 400)
    except ProfilerError as error:
        log.warning("warning: %s", error)
        return JSONResponse({"error": str(error)}, 500)
