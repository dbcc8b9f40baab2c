"""Who may ask: a browser on this machine that was given the address, and only from the page itself.

Four locks, each against something of its own:

* The **Host** header must name the loopback address. A foreign site whose name is made to resolve
  to 127.0.0.1 (DNS rebinding) sends its own name, and is refused.
* **Sec-Fetch-Site**: what another site's page asks for (an image, a script, a form) is refused.
* The **key** in the printed address, kept in a cookie from then on. Other people's programs on a
  shared machine do not know it.
* Answers need, besides, an **Origin** that is the page's own and the **token** that only the page
  can read.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
TOKEN_HEADER = "x-profiler-token"  # noqa: S105 a header's name
LARGEST_BODY = 10_000

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True)
class Access:
    """The secrets of one server, and the checks; wraps the application."""

    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application behind the locks."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            refusal = self.refusal(scope)
            if refusal:
                answer = PlainTextResponse(refusal + "\n", status_code=403, headers=_HEADERS)
                await answer(scope, receive, send)
                return

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    for name, value in _HEADERS.items():
                        headers[name] = value
                    headers.setdefault("cache-control", "no-store")
                await send(message)

            await app(scope, receive, send_with_headers)

        return guarded

    def refusal(self, scope: Scope) -> str:
        """Why the request is refused; empty where it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or _host_name(host) not in HOSTS:
            return "This server answers on 127.0.0.1 and localhost only."
        first_visit = scope["method"] == "GET" and scope["path"] == "/"
        site = headers.get("sec-fetch-site", "none")
        navigation = headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not (first_visit and navigation):
            return "This server answers its own page only."
        if first_visit and scope["query_string"]:
            return ""  # the page checks the key itself, and keeps it
        if not same(cookie(headers, cookie_name(scope)), self.key):
            return (
                "Open the address that `profiler rate` printed: it holds a key. "
                "If the server was restarted, its key has changed; no rating is lost."
            )
        if scope["method"] in ("GET", "HEAD"):
            return ""
        if headers.get("origin") != f"http://{host}":
            return "Answers are taken from the page itself only."
        if not same(headers.get(TOKEN_HEADER, ""), self.token):
            return "The page belongs to another start of this server: reload it."
        if headers.get("content-type") != "application/json":
            return "Answers come as JSON."
        length = headers.get("content-length", "")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            return "This answer is too long."
        return ""


def same(given: str, secret: str) -> bool:
    """Whether a secret is right, without telling by the time it takes how much of it is."""
    return hmac.compare_digest(given.encode(), secret.encode())


def cookie_name(scope: Scope) -> str:
    """Cookies are shared between the ports of a host, so the port is part of the name."""
    server = scope.get("server") or ("", 0)
    return f"profiler-rate-{server[1]}"


def cookie(headers: Headers, name: str) -> str:
    """One cookie's value; empty without it."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _host_name(host: str) -> str:
    # Any port: through a tunnel the page has another one here than there.
    name, colon, port = host.partition(":")
    return name.lower() if not colon or port.isdigit() else ""
