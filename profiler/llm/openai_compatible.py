"""Any server that speaks OpenAI's chat completions. The only module that knows openai and tenacity.

OpenAI itself, Azure-style gateways, vLLM, llama.cpp, Ollama, LM Studio and others differ in what
they accept. A :class:`Dialect` says what to send; it starts with everything and gives up what a
server objects to, once per server.
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
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai
import tenacity

from profiler.errors import InputError, LLMError
from profiler.llm.base import Reply, Request, Usage
from profiler.llm.cache import FORMAT, ReplyCache
from profiler.llm.prices import Price, openai_price

OPENAI_URL: Final = "https://api.openai.com/v1"

_HEALING = frozenset({408, 409, 425, 429})
_HOPELESS = frozenset({501, 505})
_OBJECTIONS = frozenset({400, 415, 422, 501})
# Objections whose code says that they are about something else than the form of the answer.
_NOT_ABOUT_FORM = ("context_length", "model_not_found", "content_filter", "content_policy")
_FORMS = ("json_schema", "json_object", "text")
_ABOUT_FORM = re.compile(r"response_format|json|schema|grammar|structured|guided", re.IGNORECASE)


class OpenAICompatible:
    """A model behind an OpenAI-compatible server.

    The key comes from the environment only (``OPENAI_API_KEY``) and is never stored or shown.

    Args:
        model: the model's name on the server.
        base_url: where the server is; otherwise ``OPENAI_BASE_URL``, otherwise OpenAI. A query
            such as ``?api-version=…`` is sent with every request.
        cache_dir: folder of accepted replies; None keeps none.
        refresh: do not read that folder, only write to it.
        timeout: longest silence of the server within one attempt, in seconds.
        max_attempts: attempts for one request, the first included.
        total_time: seconds for one request with all its attempts and waits.
        price: dollars for a million tokens; for OpenAI's own server the known list otherwise.
        sleep, clock: what waits and what tells the time, in seconds.
    """

    max_concurrency: int | None = None

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
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        url, query = _split_url(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
        self.model = self.name = model
        self.url = _without_password(url)
        self.fingerprint = f"{model} at {self.url}"
        self.timeout, self.max_attempts, self.total_time = timeout, max_attempts, total_time
        self._refresh = refresh
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait  # so that closing ends a wait
        self._clock = clock
        self._key = os.environ.get("OPENAI_API_KEY") or ""
        if not self._key and url == OPENAI_URL:
            raise LLMError(
                f"model {model!r} is asked for at {OPENAI_URL}, but the environment variable "
                "OPENAI_API_KEY is not set; set it, name another server with --llm-base-url, "
                "or use --llm none"
            )
        self._price = price or (openai_price(model) if url == OPENAI_URL else None)
        self._client = openai.OpenAI(
            api_key=self._key or "none",  # the package wants one; a server without keys ignores it
            base_url=url,
            default_query=query,
            # Azure's deployments, told by their query, read the key from a header of their own.
            default_headers={"api-key": self._key} if self._key and "api-version" in query else {},
            max_retries=0,  # tenacity retries, so that there is one place that does
        )
        self._cache = ReplyCache(cache_dir)
        self._dialect = Dialect()
        self._learning = threading.RLock()

    def complete(self, request: Request) -> Reply:
        """Give the accepted answer of an earlier time, or else the server's."""
        if not self._refresh:
            text = self._cache.get(self._cache_key(request))
            if text is not None:
                return Reply(text, Usage(cached=1), cached=True)
        if self._dialect.knows(request):
            return self._persist(request)
        with self._learning:  # the others wait, so that a server is sounded out once
            return self._persist(request)

    def keep(self, request: Request, text: str) -> None:
        """Store an accepted answer, with the request beside it."""
        described = {"model": self.model, "url": self.url, "request": request.content()}
        self._cache.put(self._cache_key(request), text, described)

    def close(self) -> None:
        """Close the connections and the cache; requests under way are not tried again."""
        self._closed.set()
        self._client.close()
        self._cache.close()

    def _cache_key(self, request: Request) -> str:
        return request.digest(model=self.model, url=self.url, format=str(FORMAT))

    def _persist(self, request: Request) -> Reply:
        """Ask, and ask again where that may help, within the bounds."""
        start = self._clock()

        def out_of_bounds(state: tenacity.RetryCallState) -> bool:
            if self._closed.is_set() or state.attempt_number >= self.max_attempts:
                return True
            return self._clock() - start + state.upcoming_sleep >= self.total_time

        retrying = tenacity.Retrying(
            sleep=self._wait,
            stop=out_of_bounds,
            wait=_pause,
            retry=tenacity.retry_if_exception(_may_heal),
            reraise=True,
        )
        attempts = 0

        def attempt() -> Reply:
            nonlocal attempts
            attempts += 1
            left = self.total_time - (self._clock() - start)
            return self._ask(request, min(self.timeout, max(left, 1e-3)))

        try:
            return retrying(attempt)
        except (openai.OpenAIError, _BadBodyError) as error:
            raise LLMError(self._explain(error, attempts)) from error

    def _wait(self, seconds: float) -> None:
        self._sleep(seconds)

    def _ask(self, request: Request, timeout: float) -> Reply:
        """One answer, giving up what the server objects to until it accepts the request."""
        dialect = self._dialect
        while True:
            arguments = dialect.arguments(self.model, request)
            try:
                raw = self._client.chat.completions.with_raw_response.create(
                    **arguments, timeout=timeout
                )
            except openai.APIStatusError as error:
                lesser = dialect.without(error, request)
                if lesser is None:
                    raise
                dialect = lesser
            else:
                reply = _read(str(raw.text), self._price)
                self._learn(dialect, request)
                return reply

    def _learn(self, dialect: "Dialect", request: Request) -> None:
        if not dialect.knows(request):
            dialect = replace(dialect, form_is_known=True)
        if dialect != self._dialect:
            with self._learning:
                self._dialect = dialect

    def _explain(self, error: Exception, attempts: int) -> str:
        """Say what happened, in one line."""
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        match error:
            case openai.APITimeoutError():
                text = f"the LLM server {self.url} did not answer in time{tried}"
            case openai.APIConnectionError():
                cause = error.__cause__ or error
                text = f"the LLM server {self.url} cannot be reached: {cause}{tried}"
            case openai.APIStatusError(status_code=401 | 403):
                key = "the key in OPENAI_API_KEY" if self._key else "a request without a key"
                hint = "" if self._key else "; set OPENAI_API_KEY"
                text = f"the LLM server {self.url} refused {key}: {error.message}{hint}"
            case openai.APIStatusError(status_code=404):
                text = f"the LLM server {self.url} has no model {self.model!r}: {error.message}"
            case openai.APIStatusError():
                wait = _asked_wait(error)
                asks = f"; it asks to wait {wait:,.0f} s" if wait else ""
                text = f"the LLM server {self.url} reports: {error.message}{asks}{tried}"
            case _:
                text = (
                    f"the LLM server {self.url} gave an answer that cannot be read: {error}{tried}"
                )
        if self._key:
            text = text.replace(self._key, "…")
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

    def knows(self, request: Request) -> bool:
        """Whether a request like this one has nothing more to teach."""
        return self.form_is_known or request.schema is None

    def arguments(self, model: str, request: Request) -> dict[str, Any]:
        """Put the request in this dialect."""
        optional = {
            "temperature": request.temperature,
            "seed": request.seed,
            self.limit_name: request.max_tokens,
            "response_format": self._response_format(request),
        }
        given = {k: v for k, v in optional.items() if v is not None and k not in self.omitted}
        messages = [
            {"role": "system", "content": request.system},
            {"role": "user", "content": request.user},
        ]
        return {"model": model, "messages": messages, **given}

    def without(self, error: openai.APIStatusError, request: Request) -> "Dialect | None":
        """Give up what ``error`` objects to; None where that is nothing."""
        if error.status_code not in _OBJECTIONS:
            return None
        complaint = f"{error.param or ''} {error.message} {json.dumps(error.body, default=str)}"
        if any(code in f"{error.code}" for code in _NOT_ABOUT_FORM):
            return None
        sent = self.arguments("", request)
        if "max_tokens" in sent and "max_completion_tokens" in complaint:
            return replace(self, limit_name="max_completion_tokens")
        for name in ("temperature", "seed", self.limit_name):
            if name in sent and re.search(rf"\b{name}\b", complaint):
                return replace(self, omitted=self.omitted | {name})
        if "response_format" not in sent:
            return None
        # A server that has not accepted this form before may mean it without saying so.
        if self.form_is_known and not _ABOUT_FORM.search(complaint):
            return None
        return replace(self, form=_FORMS[_FORMS.index(self.form) + 1])

    def _response_format(self, request: Request) -> Mapping[str, Any] | None:
        if request.schema is None or self.form == "text":
            return None
        if self.form == "json_object":
            return {"type": "json_object"}
        schema = {"name": request.schema_name, "schema": request.schema, "strict": True}
        return {"type": "json_schema", "json_schema": schema}


class _BadBodyError(Exception):
    """The server said 200, but what it sent is no chat completion."""


def _read(body: str, price: Price | None) -> Reply:
    """Take the reply from a response's body, tolerant of what servers leave out."""
    try:
        data = json.loads(body)
    except ValueError as error:
        raise _BadBodyError(f"{body[:120]!r}") from error
    try:
        choice = data["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _BadBodyError(f"{body[:120]!r}") from error
    if finish == "content_filter":
        refusal = refusal or "the server's content filter stopped the answer"
    if not isinstance(text, str):
        text = ""
    if isinstance(refusal, str) and refusal:
        return Reply("", _usage(data, price), refusal=refusal)
    return Reply(text, _usage(data, price), truncated=finish == "length")


def _usage(data: Mapping[str, Any], price: Price | None) -> Usage:
    counts = data.get("usage")
    if not isinstance(counts, dict):
        return Usage(requests=1, cost=None)
    sent, received = (
        value if isinstance(value := counts.get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Usage(1, 0, sent, received, price.cost(sent, received) if price else None)


def _may_heal(error: BaseException) -> bool:
    """Whether asking again may help."""
    match error:
        case openai.APIStatusError(status_code=status):
            if error.response.headers.get("x-should-retry") == "false":
                return False
            if error.code == "insufficient_quota":  # a 429 that waiting does not cure
                return False
            return status in _HEALING or (status >= 500 and status not in _HOPELESS)
        case openai.APIConnectionError() | _BadBodyError():
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


def _split_url(url: str) -> tuple[str, dict[str, str]]:
    """Split off the query and the closing slash."""
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InputError(
            f"the LLM server's address {_without_password(url)!r} is not an http or https URL; "
            "an example: http://localhost:11434/v1"
        )
    return urlunsplit(parts._replace(query="", fragment="")).rstrip("/"), dict(
        parse_qsl(parts.query)
    )


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
