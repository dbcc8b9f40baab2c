"""What is asked of a language model, what comes back, and the protocol in between."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Usage:
    """What a stretch of work has cost; adds up.

    ``cost`` is in US dollars and covers the requests counted here; None where a price is not
    known. Replies from the cache cost nothing.

    >>> asked = Usage(requests=2, prompt_tokens=1200, completion_tokens=80, cost=0.0038)
    >>> print(asked + Usage(cached=1))
    2 requests and 1 reply from the cache, 1,200 tokens sent, 80 received, $0.0038
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.requests + other.requests,
            self.cached + other.cached,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            None if self.cost is None or other.cost is None else self.cost + other.cost,
        )

    def __str__(self) -> str:
        parts = []
        if self.requests or not self.cached:
            parts.append(f"{self.requests:,} request{'' if self.requests == 1 else 's'}")
        if self.cached:
            parts.append(
                f"{self.cached:,} {'reply' if self.cached == 1 else 'replies'} from the cache"
            )
        text = " and ".join(parts)
        if not self.requests:
            return text
        text += f", {self.prompt_tokens:,} tokens sent, {self.completion_tokens:,} received"
        return text + (", price not known" if self.cost is None else f", ${self.cost:.4f}")

    def to_json(self) -> dict[str, Any]:
        """Give the content stored with a run."""
        return {
            "requests": self.requests,
            "replies_from_cache": self.cached,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost,
        }


@dataclass(frozen=True)
class Tool:
    """A function that a language model may ask to be called.

    Attributes:
        name: of the function.
        description: what it gives, for the model.
        parameters: JSON schema of its arguments, an object.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A call that a model asks for; ``arguments`` is the JSON as the model wrote it, unchecked."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """What a model said earlier in a conversation, and what it was told next.

    Attributes:
        said: its text.
        calls: the calls that it asked for.
        results: what each of them gave.
        then: what it was told where it asked for no call.
    """

    said: str
    calls: tuple[ToolCall, ...] = ()
    results: tuple[str, ...] = ()
    then: str = ""


@dataclass(frozen=True)
class Request:
    """One question to a language model.

    Attributes:
        system: the standing instructions.
        user: the question.
        schema: JSON schema the answer shall follow; None for free text.
        schema_name: its name, which servers ask for.
        temperature: sampling temperature; None leaves it to the server.
        seed: sampling seed; None leaves it to the server.
        max_tokens: longest answer; None leaves it to the server.
        items: the things asked about by their number, where there are such. Not sent: they are
            in ``user`` already. A scripted stand-in answers by them.
        prompts: digest of the prompt files the texts were made from.
        tools: functions that the model may ask for instead of an answer.
        without_tools: what is added to ``system`` for a server that takes no tools: the same
            functions in words, and the JSON by which to ask for them. ``schema`` is that of this
            JSON then.
        native: whether tools go out as tools; False: in words, for a model that does not call them.
        turns: the conversation since ``user``.
        seconds: the longest time that the request may take with all its attempts; None leaves it
            to the client. It changes no answer.
    """

    system: str
    user: str
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"
    temperature: float | None = 0.0
    seed: int | None = 0
    max_tokens: int | None = None
    items: tuple[tuple[str, str], ...] = ()
    prompts: str = ""
    tools: tuple[Tool, ...] = ()
    without_tools: str = ""
    native: bool = True
    turns: tuple[Turn, ...] = ()
    seconds: float | None = None

    def content(self) -> dict[str, Any]:
        """Everything in the request that may change the answer."""
        return {
            "system": self.system,
            "user": self.user,
            "schema": self.schema,
            "schema_name": self.schema_name,
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "prompts": self.prompts,
            **(
                {"tools": [vars(tool) for tool in self.tools], "native": self.native}
                if self.tools
                else {}
            ),
            **({"turns": [asdict(turn) for turn in self.turns]} if self.turns else {}),
        }

    def digest(self, **more: str) -> str:
        """SHA-256 over the content and ``more``, as hexadecimal digits."""
        text = json.dumps({**self.content(), **more}, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What a language model answered.

    Attributes:
        text: the answer; empty where the model refused.
        usage: what it cost.
        cached: whether it came from the cache.
        refusal: the model's words where it refused to answer.
        truncated: whether the answer stops at the limit of tokens.
        calls: the calls that it asks for.
    """

    text: str
    usage: Usage = Usage(requests=1)
    cached: bool = False
    refusal: str | None = None
    truncated: bool = False
    calls: tuple[ToolCall, ...] = ()


class LLM(Protocol):
    """A language model. ``complete`` may be called from several threads."""

    @property
    def name(self) -> str:
        """Short name for people, for example ``gpt-4o``."""

    @property
    def fingerprint(self) -> str:
        """What decides its answers: model and server, or the digest of a script."""

    @property
    def max_concurrency(self) -> int | None:
        """How many requests may run at once; None for any number."""

    @property
    def knows_cost(self) -> bool:
        """Whether its replies say what they cost in dollars."""

    def complete(self, request: Request) -> Reply:
        """Answer; raises ``LLMError`` where no answer can be had."""

    def keep(self, request: Request, text: str) -> None:
        """Give ``text`` for ``request`` from now on: the caller has checked and accepted it.

        Only the caller knows whether an answer is any good, so only the caller caches.
        """

    def close(self) -> None:
        """Let go of connections and files."""
