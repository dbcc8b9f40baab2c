"""Reading what a server of chat completions sends back, in the many forms that servers give it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from profiler.core.json_text import parse_json
from profiler.llm.base import Reply, Request, ToolCall, Usage
from profiler.llm.prices import Price

_THOUGHTS = ("reasoning_content", "reasoning")
"""Where servers put a train of thought; some, by mistake, also the answer."""


class BadBodyError(Exception):
    """The server said 200, but what it sent is no chat completion.

    ``wrong_place`` says that it may have been asked at a wrong address.
    """

    def __init__(self, message: str, *, wrong_place: bool = False) -> None:
        super().__init__(message)
        self.wrong_place = wrong_place


def read_answer(body: str, request: Request, price: Price | None = None) -> Reply:
    """Take the reply from a response's body, tolerant of what servers leave out or add.

    The text may be one string, a list of parts of which some are thoughts (Mistral), an object
    that a gateway has parsed already, the arguments of a tool call, or a stream of events. Where
    it is empty and JSON was asked for, a train of thought that ends in JSON is taken, as long as
    it was not cut off: some servers sort an answer without a thought under the thoughts.

    Raises:
        BadBodyError: there is no answer in it.
    """
    data = _data(body)
    choice = _first(data.get("choices"))
    if choice is None:
        raise _no_answer(data, body)
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
        if message["content"] is None:
            raise BadBodyError(f"its choice holds no message: {_short(body)}")
    finish, refusal = choice.get("finish_reason"), message.get("refusal")
    usage = _usage(data, price)
    if finish == "content_filter":
        refusal = refusal or "the server's content filter stopped the reply"
    if isinstance(refusal, str) and refusal:
        return Reply("", usage, refusal=refusal)
    text = _text(message.get("content"))
    cut = finish == "length"
    if request.tools and (calls := _calls(message)):
        return Reply(text, usage, truncated=cut, calls=calls)
    if not text.strip() and request.schema is not None:
        text = _called(message) or ("" if cut else _thought(message))
    return Reply(text, usage, truncated=cut)


def _data(body: str) -> Mapping[str, Any]:
    text = body.lstrip("\ufeff \t\r\n")
    if not text:
        raise BadBodyError("it is empty")
    if text.startswith("<"):
        raise BadBodyError("it is a page of HTML; is the address correct?", wrong_place=True)
    if re.match(r"(data|event|id|retry)?:", text):
        return _of_stream(text)
    try:
        data = parse_json(text)
    except ValueError:
        raise BadBodyError(_short(body)) from None
    data = _first(data) if isinstance(data, list) else data
    if not isinstance(data, dict):
        raise BadBodyError(_short(body))
    return data


def _of_stream(text: str) -> Mapping[str, Any]:
    """Put together what came piece by piece, though it was not asked for so."""
    pieces: dict[str, list[str]] = {"content": [], "reasoning_content": [], "refusal": []}
    calls: dict[int, dict[str, str]] = {}
    finish, usage = None, None
    for event in _events(text):
        if "error" in event:
            return event
        usage = event.get("usage") or usage
        choice = _first(event.get("choices")) or {}
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta") or choice.get("message") or {}
        for name, found in pieces.items():
            given = delta.get(name) or (delta.get("reasoning") if name == _THOUGHTS[0] else None)
            found.append(_text(given))
        for piece in delta.get("tool_calls") or ():
            call = calls.setdefault(piece.get("index", 0), {"name": "", "arguments": ""})
            for name in call:
                call[name] += _text((piece.get("function") or {}).get(name))
    message: dict[str, Any] = {name: "".join(found) for name, found in pieces.items()}
    message["tool_calls"] = [{"function": call} for call in calls.values()]
    if finish is None:
        raise BadBodyError("it is a stream of events without an end")
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def _events(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "data" and value.strip() != "[DONE]":
            try:
                event = parse_json(value)
            except ValueError:
                raise BadBodyError(_short(line)) from None
            if isinstance(event, dict):
                yield event


def _no_answer(data: Mapping[str, Any], body: str) -> BadBodyError:
    error = data.get("error") or data.get("detail")
    if error:
        said = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        wrong = re.search(r"unexpected endpoint|not found", said, re.IGNORECASE) is not None
        return BadBodyError(f"it is an error: {said}", wrong_place=wrong)
    if "choices" in data:
        return BadBodyError("it holds no choices")
    return BadBodyError(_short(body))


def _text(content: object) -> str:
    """The text of a message, without parts that are thoughts or pictures."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part if isinstance(part, str) else _text(part.get("text"))
            for part in content
            if isinstance(part, str)
            or (isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"))
        )
    return json.dumps(content) if isinstance(content, dict) and content else ""


def _calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The calls that a model asks for, each with its arguments as they stand."""
    listed = message.get("tool_calls")
    found = [each.get("function") for each in listed or () if isinstance(each, dict)]
    found = found or [message.get("function_call")]
    return tuple(
        ToolCall(str(each["name"]), _text(each.get("arguments")) or "{}")
        for each in found
        if isinstance(each, dict) and each.get("name")
    )


def _called(message: Mapping[str, Any]) -> str:
    """The arguments of the function that a model calls in place of an answer."""
    call = _first(message.get("tool_calls")) or {}
    function = call.get("function") or message.get("function_call")
    return _text(function.get("arguments")) if isinstance(function, dict) else ""


def _thought(message: Mapping[str, Any]) -> str:
    for name in _THOUGHTS:
        text = _text(message.get(name))
        # A draft in the middle of the thoughts is none of its answers.
        if text.rstrip("` \t\r\n").endswith("}"):
            return text
    return ""


def _usage(data: Mapping[str, Any], price: Price | None) -> Usage:
    counts = data.get("usage")
    if not isinstance(counts, dict):
        return Usage(requests=1, cost=None)
    sent, received = (
        value if isinstance(value := counts.get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Usage(1, 0, sent, received, price.cost(sent, received) if price else None)


def _first(values: object) -> dict[str, Any] | None:
    found = values[0] if isinstance(values, list) and values else None
    return found if isinstance(found, dict) else None


def _short(body: str) -> str:
    return repr(body[:120])
