"""Any server that speaks OpenAI's chat completions. The only module that knows openai and tenacity.

OpenAI itself, Azure-style gateways, vLLM, llama.cpp, Ollama, LM Studio and others differ in what
they accept. A :class:`Dialect` says what to send and where; it starts with everything and gives up
what a server objects to, once per server.
"""

import email.utils
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import openai
import tenacity

from profiler.errors import CERTIFICATES, InputError, LLMError, first_line, proxy_variable
from profiler.llm.base import Reply, Request, ToolCall, Turn, Usage
from profiler.llm.cache import FORMAT, ReplyCache
from profiler.llm.prices import Price, openai_price
from profiler.llm.replies import BadBodyError, read_answer

OPENAI_URL: Final = "https://api.openai.com/v1"

_HEALING = frozenset({408, 409, 425, 429})
_HOPELESS = frozenset({501, 505})
_OBJECTIONS = frozenset({400, 415, 422, 501})
# llama.cpp says 500 of a schema that it cannot follow, and OpenRouter 404 of one nobody can.
_SOMETIMES_OBJECTIONS = frozenset({404, 500})
# Objections whose code says that they are about something else than the form of the answer.
_NOT_ABOUT_FORM = ("context_length", "model_not_found", "content_filter", "content_policy")
_FORMS = ("json_schema", "json_object", "text")
_ABOUT_FORM = re.compile(
    r"response_format|json|schema|grammar|structured|guided|parameters", re.IGNORECASE
)
_ABOUT_TOOLS = re.compile(r"tool|function|jinja|template", re.IGNORECASE)
_ABOUT_SYSTEM = re.compile(r"system role|role.{0,30}system|roles must alternate", re.IGNORECASE)
_ABOUT_MODEL = re.compile(r"model|deployment", re.IGNORECASE)
_NO_SUCH_PLACE = frozenset({404, 405})
_SHORTEST_SECRET = 8
"""Characters; what people write where no key is needed is shorter, and may be part of any word."""


class OpenAICompatible:
    """A model behind an OpenAI-compatible server.

    The key comes from the environment only (``OPENAI_API_KEY``) and is never stored or shown.
    Raises :class:`InputError` for a key, address, proxy or certificates that cannot be used.

    Args:
        model: the model's name on the server.
        base_url: where the server is; otherwise ``OPENAI_BASE_URL``, otherwise OpenAI. A query
            such as ``?api-version=…`` is sent with every request. Where nothing is found there,
            ``/v1`` below it is tried.
        cache_dir: folder of accepted replies; None keeps none.
        refresh: do not read that folder, only write to it.
        timeout: longest silence of the server within one attempt, in seconds.
        max_attempts: attempts for one request, the first included.
        total_time: seconds for one request with all its attempts and waits.
        price: dollars for a million tokens; for OpenAI's own server the known list otherwise.
        sleep, clock: what waits and what tells the time, in seconds.
    """

    max_concurrency: int | None = None

    @property
    def knows_cost(self) -> bool:
        """Whether the price of its tokens is known."""
        return self._price is not None

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        cache_dir: Path | None = None,
        refresh: bool = False,
        timeout: float = 120.0,
        max_attempts: int = 6,
        total_time: float = 600.0,
        price: Price | None = None,
        sleep: Callable[[float], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = base_url or (os.environ.get("OPENAI_BASE_URL") or "").strip() or OPENAI_URL
        source = "--llm-base-url" if base_url else "the address in OPENAI_BASE_URL"
        url, query = _split_url(given, source)
        self.model = self.name = model
        self.url = _without_password(url)
        self.fingerprint = f"{model} at {self.url}"
        self.timeout, self.max_attempts, self.total_time = timeout, max_attempts, total_time
        self._refresh = refresh
        self._closed = threading.Event()
        # So that closing ends a wait.
        self._sleep: Callable[[float], Any] = sleep or self._closed.wait
        self._clock = clock
        self._key = _from_environment("OPENAI_API_KEY")
        for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            _from_environment(name)
        if not self._key and url == OPENAI_URL:
            empty = "is empty" if "OPENAI_API_KEY" in os.environ else "is not set"
            raise LLMError(
                f"model {model!r} is asked for at {OPENAI_URL}, but the environment variable "
                f"OPENAI_API_KEY {empty}; set it, name another server with --llm-base-url, "
                "or use --llm none"
            )
        password = unquote(urlsplit(url).password or "")
        self._secrets = [each for each in (self._key, password) if len(each) >= _SHORTEST_SECRET]
        self._proxy = proxy_variable(urlsplit(url).scheme, urlsplit(url).netloc.rpartition("@")[2])
        self._price = price or (openai_price(model) if url == OPENAI_URL else None)
        try:
            self._client = openai.OpenAI(
                api_key=self._key or "none",  # the package wants one; without keys it is ignored
                base_url=url,
                default_query=query,
                # Azure's deployments, told by their query, read the key from a header of their own.
                default_headers=(
                    {"api-key": self._key} if self._key and "api-version" in query else {}
                ),
                max_retries=0,  # tenacity retries, so that there is one place that does
            )
        except Exception as error:  # what it reads of the environment has errors of many kinds
            raise InputError(_unusable(error, source)) from None
        self._cache = None if cache_dir is None else ReplyCache(cache_dir)
        self._dialect = Dialect()
        self._learning = threading.RLock()

    def complete(self, request: Request) -> Reply:
        """Give the accepted answer of an earlier time, or else the server's."""
        if self._cache is not None and not self._refresh:
            text = self._cache.get(self._cache_key(request))
            if text is not None:
                return Reply(text, Usage(cached=1), cached=True)
        if self._dialect.knows(request):
            return self._persist(request)
        with self._learning:  # the others wait, so that a server is sounded out once
            return self._persist(request)

    def keep(self, request: Request, text: str) -> None:
        """Store an accepted answer, with the request beside it."""
        if self._cache is not None:
            described = {"model": self.model, "url": self.url, "request": request.content()}
            self._cache.put(self._cache_key(request), text, described)

    def close(self) -> None:
        """Close the connections and the cache; requests under way are not tried again."""
        self._closed.set()
        self._client.close()
        if self._cache is not None:
            self._cache.close()

    def _cache_key(self, request: Request) -> str:
        return request.digest(model=self.model, url=self.url, format=str(FORMAT))

    def _persist(self, request: Request) -> Reply:
        """Ask, and ask again where that may help, within the bounds."""
        start = self._clock()
        total_time = min(self.total_time, request.seconds or self.total_time)

        def out_of_bounds(state: tenacity.RetryCallState) -> bool:
            if self._closed.is_set() or state.attempt_number >= self.max_attempts:
                return True
            return self._clock() - start + state.upcoming_sleep >= total_time

        retrying = tenacity.Retrying(
            sleep=self._sleep,
            stop=out_of_bounds,
            wait=_pause,
            retry=tenacity.retry_if_exception(_may_heal),
            reraise=True,
        )
        attempts = crashes = 0

        def attempt() -> Reply:
            nonlocal attempts, crashes
            attempts += 1
            left = total_time - (self._clock() - start)
            # One crash may be chance. A server that crashes twice may do so over the form.
            dialect = self._dialect.lowered(crashes - 1, request)
            try:
                return self._ask(request, dialect, min(self.timeout, max(left, 1e-3)))
            except openai.InternalServerError as error:
                crashes += error.status_code == 500
                raise

        try:
            return retrying(attempt)
        except (openai.OpenAIError, BadBodyError) as error:
            raise LLMError(self._explain(error, attempts)) from error

    def _ask(self, request: Request, dialect: "Dialect", timeout: float) -> Reply:
        """One answer, giving up what the server objects to until it accepts the request."""
        first: openai.APIStatusError | None = None
        while True:
            arguments = dialect.arguments(self.model, request)
            client = self._client
            if dialect.below:
                place = f"{str(client.base_url).rstrip('/')}{dialect.below}"
                client = client.with_options(base_url=place)
            try:
                raw = client.chat.completions.with_raw_response.create(**arguments, timeout=timeout)
                reply = read_answer(str(raw.text), request, self._price)
            except openai.APIStatusError as error:
                lesser = dialect.without(error, request, self.url)
                if lesser is None:
                    # Nothing below /v1 either: what was said of the address itself counts.
                    if first and error.status_code in _NO_SUCH_PLACE:
                        raise (error if _ABOUT_MODEL.search(_said(error)) else first) from None
                    raise
                first = first or (error if lesser.below != dialect.below else None)
                dialect = lesser
            except BadBodyError as error:
                if not (error.wrong_place and dialect.may_lie_below(self.url)):
                    raise
                dialect = replace(dialect, below="/v1")
            else:
                self._learn(dialect, request)
                return reply

    def _learn(self, dialect: "Dialect", request: Request) -> None:
        if not dialect.knows(request):
            tools = dialect.sends_tools(request)
            dialect = replace(
                dialect,
                tools_are_known=dialect.tools_are_known or tools,
                form_is_known=dialect.form_is_known or not tools,
            )
        if dialect != self._dialect:
            with self._learning:
                self._dialect = dialect

    def _explain(self, error: Exception, attempts: int) -> str:
        """Say what happened, in one line."""
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        server = f"the LLM server {self.url}"
        if self._proxy:
            server += f" (through the proxy that {self._proxy} names)"
        match error:
            case openai.APITimeoutError():
                text = f"{server} did not reply in time{tried}"
            case openai.APIConnectionError():
                text = f"{server} cannot be reached: {_cause(error)}{tried}"
                if self._proxy:
                    text += "; NO_PROXY names the servers that no proxy is used for"
            case openai.APIStatusError(status_code=401 | 403):
                key = "the key in OPENAI_API_KEY" if self._key else "a request without a key"
                hint = "" if self._key else "; set OPENAI_API_KEY"
                text = f"{server} refused {key}: {_said(error)}{hint}"
            case openai.APIStatusError(status_code=404) if _ABOUT_MODEL.search(_said(error)):
                text = f"{server} has no model {self.model!r}: {_said(error)}"
            case openai.APIStatusError(status_code=status) if status in _NO_SUCH_PLACE:
                text = (
                    f"{server} answers with status {status} at …/chat/completions: {_said(error)}; "
                    f"either its address is wrong (most end in /v1), or it has no model "
                    f"{self.model!r}"
                )
            case openai.APIStatusError():
                wait = _asked_wait(error)
                asks = f"; it asks to wait {wait:,.0f} s" if wait else ""
                text = f"{server} reports: {_said(error)}{asks}{tried}"
            case _:
                text = f"{server} gave a reply that cannot be read: {error}{tried}"
        for secret in self._secrets:
            text = text.replace(secret, "…")
        text = " ".join(text.split())
        return text if len(text) <= 400 else text[:399] + "…"


@dataclass(frozen=True)
class Dialect:
    """What a server understands, as far as it is known.

    >>> strict, plain = Dialect(), Dialect(form="text", omitted=frozenset({"seed"}))
    >>> request = Request("s", "u", schema={"type": "object"})
    >>> sorted(set(strict.arguments("m", request)) - set(plain.arguments("m", request)))
    ['response_format', 'seed']
    """

    form: str = "json_schema"
    form_is_known: bool = False
    omitted: frozenset[str] = frozenset()
    limit_name: str = "max_tokens"
    takes_system: bool = True
    below: str = ""
    """What is added to the server's address."""
    takes_tools: bool = True
    tools_are_known: bool = False

    def knows(self, request: Request) -> bool:
        """Whether a request like this one has nothing more to teach."""
        if self.sends_tools(request):
            return self.tools_are_known
        return self.form_is_known or request.schema is None

    def sends_tools(self, request: Request) -> bool:
        """Whether a request goes out with its tools, rather than with a schema in their place."""
        return bool(request.tools) and request.native and self.takes_tools

    def arguments(self, model: str, request: Request) -> dict[str, Any]:
        """Put the request in this dialect."""
        optional = {
            "temperature": request.temperature,
            "seed": request.seed,
            self.limit_name: request.max_tokens,
            "response_format": self._response_format(request),
            "tools": self._tools(request),
        }
        given = {k: v for k, v in optional.items() if v is not None and k not in self.omitted}
        system = request.system
        if request.tools and not self.sends_tools(request):
            system = f"{system}\n\n{request.without_tools}"
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": request.user},
        ]
        if not self.takes_system:
            messages = [{"role": "user", "content": f"{system}\n\n{request.user}"}]
        for number, turn in enumerate(request.turns):
            messages += _messages(turn, number, as_tools=self.sends_tools(request))
        return {"model": model, "messages": messages, **given}

    def _tools(self, request: Request) -> list[dict[str, Any]] | None:
        if not self.sends_tools(request):
            return None
        return [{"type": "function", "function": dict(vars(tool))} for tool in request.tools]

    def may_lie_below(self, url: str) -> bool:
        """Whether the server's interface may begin at ``/v1`` below the address that was given."""
        return not self.below and not re.search(r"/v\d", urlsplit(url).path)

    def lowered(self, steps: int, request: Request) -> "Dialect":
        """Ask for a form so many steps less strict, as far as none is known to work."""
        if steps < 1 or self.knows(request):
            return self
        if self.sends_tools(request):
            return replace(self, takes_tools=False).lowered(steps - 1, request)
        place = _FORMS.index(self.form) + steps
        return replace(self, form=_FORMS[min(place, len(_FORMS) - 1)])

    def without(self, error: openai.APIStatusError, request: Request, url: str) -> "Dialect | None":
        """Give up what ``error`` objects to; None where that is nothing."""
        complaint = f"{error.param or ''} {error.message} {json.dumps(error.body, default=str)}"
        if any(code in f"{error.code}" for code in _NOT_ABOUT_FORM):
            return None
        known = _ABOUT_MODEL.search(complaint) is not None
        if error.status_code in _NO_SUCH_PLACE and not known and self.may_lie_below(url):
            return replace(self, below="/v1")
        about_system = error.status_code in {400, 500} and _ABOUT_SYSTEM.search(complaint)
        if self.takes_system and about_system:
            return replace(self, takes_system=False)
        about_tools = self.sends_tools(request) and _ABOUT_TOOLS.search(complaint) is not None
        if error.status_code not in _OBJECTIONS and not (
            error.status_code in _SOMETIMES_OBJECTIONS
            and (about_tools or _ABOUT_FORM.search(complaint))
        ):
            return None
        sent = self.arguments("", request)
        if "max_tokens" in sent and "max_completion_tokens" in complaint:
            return replace(self, limit_name="max_completion_tokens")
        for name in ("temperature", "seed", self.limit_name):
            if name in sent and re.search(rf"\b{name}\b", complaint):
                return replace(self, omitted=self.omitted | {name})
        if "tools" in sent:
            objects = about_tools or not self.tools_are_known
            return replace(self, takes_tools=False) if objects else None
        if "response_format" not in sent:
            return None
        # A server that has not accepted this form before may mean it without saying so.
        if self.form_is_known and not _ABOUT_FORM.search(complaint):
            return None
        return replace(self, form=_FORMS[_FORMS.index(self.form) + 1])

    def _response_format(self, request: Request) -> Mapping[str, Any] | None:
        if request.schema is None or self.form == "text" or self.sends_tools(request):
            return None
        if self.form == "json_object":
            return {"type": "json_object"}
        schema = {"name": request.schema_name, "schema": request.schema, "strict": True}
        return {"type": "json_schema", "json_schema": schema}


def _messages(turn: Turn, number: int, *, as_tools: bool) -> list[dict[str, Any]]:
    """What was said, and the answer to it; calls in JSON where the server takes no tools."""
    if not turn.calls:
        return [
            {"role": "assistant", "content": turn.said},
            {"role": "user", "content": turn.then},
        ]
    if not as_tools:
        called = "\n".join(action_text(call) for call in turn.calls)
        given = "\n\n".join(turn.results)
        return [{"role": "assistant", "content": called}, {"role": "user", "content": given}]
    names = [f"call_{number}_{place}" for place in range(len(turn.calls))]
    asked = [
        {
            "id": name,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for name, call in zip(names, turn.calls, strict=True)
    ]
    return [
        {"role": "assistant", "content": turn.said or None, "tool_calls": asked},
        *(
            {"role": "tool", "tool_call_id": name, "content": result}
            for name, result in zip(names, turn.results, strict=True)
        ),
    ]


def action_text(call: ToolCall) -> str:
    """A call as a model writes it in its answer, where the server takes no tools.

    >>> action_text(ToolCall("unit", '{"unit": 3}'))
    '{"tool": "unit", "arguments": {"unit": 3}}'
    """
    try:
        arguments = json.loads(call.arguments)
    except ValueError:  # as a model wrote it
        arguments = call.arguments
    return json.dumps({"tool": call.name, "arguments": arguments}, ensure_ascii=False)


def _may_heal(error: BaseException) -> bool:
    """Whether asking again may help."""
    match error:
        case openai.APIStatusError(status_code=status):
            if error.response.headers.get("x-should-retry") == "false":
                return False
            if error.code == "insufficient_quota":  # a 429 that waiting does not cure
                return False
            return status in _HEALING or (status >= 500 and status not in _HOPELESS)
        case openai.APIConnectionError() | BadBodyError():
            return True
    return False


_backoff = tenacity.wait_random_exponential(multiplier=0.5, max=30)


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: what the server asks for, or else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = _asked_wait(error) if isinstance(error, openai.APIStatusError) else None
    return float(_backoff(state)) if asked is None else asked


def _asked_wait(error: openai.APIStatusError) -> float | None:
    """Seconds the server asks to wait (RFC 9110, 10.2.3: a number of seconds or a date)."""
    headers = error.response.headers
    for name, per_second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / per_second)
        except (KeyError, ValueError):
            continue
    try:
        until = email.utils.parsedate_to_datetime(headers["retry-after"])
        now = email.utils.parsedate_to_datetime(headers["date"])  # the server's clock, not ours
        return max(0.0, (until - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def _said(error: openai.APIStatusError) -> str:
    """What a server says of an error; of a page for people, that it is one."""
    body = error.body
    said = (body.get("message") or body.get("detail")) if isinstance(body, dict) else body
    text = str(said or error.message).removeprefix(f"Error code: {error.status_code} - ")
    return "a page of HTML" if re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE) else text


def _cause(error: openai.APIConnectionError) -> str:
    """The reason at the bottom, with the variable that is behind it, if one is."""
    cause: BaseException = error.__cause__ or error
    if isinstance(cause, UnicodeError):  # its message holds what could not be sent
        return "a header cannot be sent, for it is not ASCII (see OPENAI_CUSTOM_HEADERS)"
    return first_line(cause)


def _from_environment(name: str) -> str:
    """The value of a variable that is sent as a header: one word of printable ASCII."""
    value = (os.environ.get(name) or "").strip()
    wrong = next((c for c in value if not "!" <= c <= "~"), "")
    if not wrong:
        return value
    kinds = {"\n": "a line break", "\r": "a line break", " ": "a space", "\t": "a tab"}
    what = kinds.get(wrong, "a character outside ASCII" if wrong > "~" else "a control character")
    raise InputError(
        f"the environment variable {name} holds {what}, which no key has; set it to the key alone"
        if name.endswith("KEY")
        else f"the environment variable {name} holds {what}, which cannot be sent"
    )


def _unusable(error: Exception, source: str) -> str:
    """Why no connection can be made with what the environment says; never a value of it."""
    certificates = next((name for name in CERTIFICATES[:2] if os.environ.get(name)), "")
    if isinstance(error, OSError) and certificates:
        return (
            f"the environment variable {certificates} names no file of certificates that can be "
            "read; correct it, or unset it to use those of the system"
        )
    names = [f"{scheme}_proxy" for scheme in ("http", "https", "all")]
    proxies = [name for each in names for name in (each, each.upper()) if os.environ.get(name)]
    if proxies:
        why = "SOCKS needs the package socksio" if isinstance(error, ImportError) else "an example"
        example = "" if isinstance(error, ImportError) else ": http://proxy.example:3128"
        return (
            f"the proxy that the environment variable {' or '.join(proxies)} names cannot be used "
            f"({why}{example})"
        )
    return f"{source} cannot be used ({type(error).__name__})"


def _split_url(url: str, source: str) -> tuple[str, dict[str, str]]:
    """Split off the query, the closing slash, and what the client adds itself.

    A malformed address is never shown: where its password begins and ends, nobody can say.
    """
    try:
        parts = urlsplit(url.strip())
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or a bracket that is not closed
        sound = False
    # An @ further on shows that a password was cut off at its /, ? or #.
    if not sound or re.search(r"\s", url.strip()) or "@" in url.partition(parts.netloc)[2]:
        hint = ""
        if "@" in url:
            hint = "; in a password, write %40 for @, %2F for /, %3F for ? and %23 for #"
        raise InputError(
            f"{source} is not an http or https URL; an example: http://localhost:11434/v1{hint}"
        )
    user, at, host = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    netloc = f"{_quoted(name)}{colon}{_quoted(password)}{at}{host}"
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit((parts.scheme, netloc, path, "", "")).rstrip("/"), dict(
        parse_qsl(parts.query)
    )


def _quoted(text: str) -> str:
    return quote(unquote(text), safe="")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//", url)
