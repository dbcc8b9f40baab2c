"""The client against a real HTTP server, and the scripted stand-in."""

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from llm_server import Drop, DropHalfWay, Fail, Hang, LLMServer, Raw, Say, message

import profiler
from profiler.errors import InputError, LLMError, OutputError, UsageError
from profiler.llm.answers import json_objects
from profiler.llm.base import Request, Usage
from profiler.llm.choose import open_llm
from profiler.llm.openai_compatible import OpenAICompatible
from profiler.llm.prices import Price
from profiler.llm.scripted import Scripted

QUESTION = Request("be brief", "what is red?", schema={"type": "object"}, schema_name="answer")


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve() -> Iterator[Callable[..., LLMServer]]:
    with ExitStack() as stack:

        def start(*plan: Any, answer: Any = None) -> LLMServer:
            return stack.enter_context(LLMServer(answer or (lambda _: Say("a color")), plan))

        yield start


@pytest.fixture
def connect(clock: Clock) -> Iterator[Callable[..., OpenAICompatible]]:
    opened: list[OpenAICompatible] = []

    def make(server: LLMServer, model: str = "m", **options: Any) -> OpenAICompatible:
        options = {"sleep": clock.sleep, "clock": clock, "timeout": 30.0, **options}
        opened.append(OpenAICompatible(model, server.url, **options))
        return opened[-1]

    yield make
    for llm in opened:
        llm.close()


def test_correct(serve: Any, connect: Any) -> None:
    server = serve()
    reply = connect(server).complete(QUESTION)
    assert (reply.text, reply.cached) == ("a color", False)
    assert reply.usage == Usage(1, 0, 100, 10, None)  # a local server has no known price
    (body,) = server.bodies
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert body["response_format"]["json_schema"]["strict"] is True
    assert (body["temperature"], body["seed"]) == (0.0, 0)
    assert "stream" not in body
    assert "max_tokens" not in body
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret-0123456789"


def test_free_text_asks_for_no_format(serve: Any, connect: Any) -> None:
    server = serve()
    connect(server).complete(replace(QUESTION, schema=None, temperature=None, max_tokens=7))
    assert "response_format" not in server.bodies[0]
    assert "temperature" not in server.bodies[0]
    assert server.bodies[0]["max_tokens"] == 7


def test_price(serve: Any, connect: Any) -> None:
    llm = connect(serve(), price=Price(10.0, 100.0))
    assert llm.complete(QUESTION).usage.cost == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("trouble", "waits"),
    [
        (Fail(429, headers={"Retry-After": "7"}), [7.0]),
        (Fail(429, headers={"retry-after-ms": "1500"}), [1.5]),
        (
            Fail(
                503,
                headers={
                    "Date": "Wed, 21 Oct 2015 07:28:00 GMT",
                    "Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT",
                },
            ),
            [30.0],  # by the server's clock
        ),
        (Fail(500), None),
        (Fail(502), None),
        (Fail(408), None),
        (Drop(), None),
        (DropHalfWay(), None),
        (Raw(b'{"choices": [{"mess'), None),
        (Raw(b"<html>a proxy</html>", "text/html"), None),
        (Raw(b'{"error": {"message": "overloaded"}}'), None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, Fail) else str(value.status),
)
def test_troubles_that_pass(
    serve: Any, connect: Any, clock: Clock, trouble: Any, waits: Any
) -> None:
    server = serve(trouble)
    assert connect(server).complete(QUESTION).text == "a color"
    assert len(server.bodies) == 2
    assert len(clock.waits) == 1
    if waits:
        assert clock.waits == waits


def test_slow_server_times_out(serve: Any, connect: Any, clock: Clock) -> None:
    server = serve(Hang(), Hang())
    llm = connect(server, timeout=0.05, max_attempts=2)
    with pytest.raises(LLMError, match=r"did not reply in time \(2 attempts\)") as error:
        llm.complete(QUESTION)
    assert error.value.exit_status == 3
    assert len(server.bodies) == 2


def test_slow_once(serve: Any, connect: Any) -> None:
    server = serve(Hang())
    llm = connect(server, timeout=2.0)
    assert llm.complete(QUESTION).text == "a color"


def test_attempts_are_bounded(serve: Any, connect: Any, clock: Clock) -> None:
    server = serve(answer=lambda _: Fail(500, "the model crashed"))
    with pytest.raises(LLMError, match=r"the model crashed \(3 attempts\)"):
        connect(server, max_attempts=3).complete(QUESTION)
    assert len(server.bodies) == 3


def test_total_time_is_bounded(serve: Any, connect: Any, clock: Clock) -> None:
    server = serve(answer=lambda _: Fail(429, headers={"Retry-After": "40"}))
    with pytest.raises(LLMError, match="asks to wait 40 s"):
        connect(server, total_time=100.0, max_attempts=50).complete(QUESTION)
    assert clock.waits == [40.0, 40.0]  # a third wait would end after 120 s


def test_does_not_wait_longer_than_it_may(serve: Any, connect: Any, clock: Clock) -> None:
    server = serve(answer=lambda _: Fail(429, headers={"Retry-After": "86400"}))
    with pytest.raises(LLMError, match="asks to wait 86,400 s"):
        connect(server).complete(QUESTION)
    assert (clock.waits, len(server.bodies)) == ([], 1)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Fail(401, "Incorrect key sk-very-secret-0123456789"), "refused the key in OPENAI_API_KEY"),
        (Fail(403, "not for you"), "refused the key in OPENAI_API_KEY"),
        (Fail(404, "The model `m` does not exist"), "has no model 'm': The model `m` does not"),
        (Fail(404, "no such thing"), r"404 at …/chat/completions: no such thing; either its addr"),
        (Fail(429, "You exceeded your quota", code="insufficient_quota"), "exceeded your quota"),
        (Fail(501, "not here"), "not here"),
        (Fail(500, "do not try", headers={"x-should-retry": "false"}), "do not try"),
        (Fail(413, "too long\nby far"), "too long by far"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_troubles_that_stay(
    serve: Any, connect: Any, clock: Clock, failure: Any, message: str
) -> None:
    server = serve(answer=lambda _: failure)
    with pytest.raises(LLMError, match=message) as error:
        connect(server).complete(replace(QUESTION, schema=None))
    assert clock.waits == []
    assert len(server.bodies) == 1
    assert error.value.exit_status == 3
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_no_key(serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(LLMError, match="OPENAI_API_KEY is not set"):
        OpenAICompatible("gpt-4o")
    server = serve(answer=lambda _: Fail(401, "who are you?"))
    with pytest.raises(LLMError, match=r"refused a request without a key: .*; set OPENAI_API_KEY"):
        connect(server).complete(QUESTION)


def test_nobody_listens(clock: Clock) -> None:
    with LLMServer() as server:
        url = server.url
    llm = OpenAICompatible("m", url, sleep=clock.sleep, clock=clock, max_attempts=2)
    with pytest.raises(LLMError, match="cannot be reached"):
        llm.complete(QUESTION)
    llm.close()


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8080", "ftp://host/v1", "http://", "http://host:port/v1", "http://[::1/v1"),
        *("http://user:p/ss@host/v1", "http://user:p?ss@host/v1", "http://user:p#ss@host/v1"),
        *("user:p@ss@host/v1", "http://host name/v1", '"http://user:p@ss@host:x"'),
    ],
)
def test_bad_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not shown, for nobody can say where its password begins and ends."""
    with pytest.raises(InputError, match=r"--llm-base-url is not an http or https URL") as error:
        OpenAICompatible("m", url)
    assert url == "http://" or url not in str(error.value)
    assert "ss@" not in str(error.value)
    assert ("write %40 for @" in str(error.value)) == ("@" in url)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(InputError, match=r"the address in OPENAI_BASE_URL is not an http"):
        OpenAICompatible("m")


def test_address_from_the_environment(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    llm = OpenAICompatible("m")
    assert llm.complete(QUESTION).text == "a color"
    assert llm.fingerprint == f"m at {server.url}"
    llm.close()


def test_azure_style_address(serve: Any) -> None:
    server = serve()
    llm = OpenAICompatible("m", f"{server.url}/openai/deployments/d?api-version=2024-10-21")
    llm.complete(QUESTION)
    assert server.paths == ["/v1/openai/deployments/d/chat/completions?api-version=2024-10-21"]
    assert server.headers[0]["api-key"] == "sk-very-secret-0123456789"
    llm.close()


@pytest.mark.parametrize("password", ["pass", "p@ss", "p%40ss", "p@s:s"])
def test_passwords_in_addresses_are_sent_and_not_shown(
    serve: Any, clock: Clock, password: str
) -> None:
    server = serve(Fail(500, "the password is not p@ss"))
    url = server.url.replace("//", f"//user:{password}@")
    llm = OpenAICompatible("m", url, sleep=clock.sleep, clock=clock, max_attempts=1)
    assert llm.fingerprint == f"m at {server.url}"
    with pytest.raises(LLMError) as error:
        llm.complete(QUESTION)
    assert f"the LLM server {server.url} reports" in str(error.value)
    scheme, sent = server.headers[0]["authorization"].split()
    assert (scheme, base64.b64decode(sent).decode()) == ("Basic", f"user:{unquote(password)}")
    llm.close()


# What the server can do is found out once.


def refuses(*forms: str, message: str = "unknown response_format") -> Any:
    def answer(body: dict[str, Any]) -> Say | Fail:
        form = body.get("response_format", {}).get("type", "text")
        return Fail(400, message) if form in forms else Say("{}")

    return answer


@pytest.mark.parametrize(
    ("forms", "settled", "requests"),
    [
        ((), "json_schema", 1),
        (("json_schema",), "json_object", 2),
        (("json_object",), "json_schema", 1),
        (("json_schema", "json_object"), None, 3),
    ],
)
def test_learns_the_form_once(
    serve: Any, connect: Any, forms: Any, settled: Any, requests: int
) -> None:
    server = serve(answer=refuses(*forms))
    llm = connect(server)
    llm.complete(QUESTION)
    assert len(server.bodies) == requests
    llm.complete(replace(QUESTION, user="and blue?"))
    assert len(server.bodies) == requests + 1
    assert server.bodies[-1].get("response_format", {}).get("type") == settled


def test_a_refusal_without_a_reason_is_tried_without_schema(serve: Any, connect: Any) -> None:
    server = serve(answer=refuses("json_schema", message="Bad Request"))
    connect(server).complete(QUESTION)
    assert [b["response_format"]["type"] for b in server.bodies] == ["json_schema", "json_object"]


def test_an_objection_to_something_else_teaches_nothing(serve: Any, connect: Any) -> None:
    server = serve(Fail(400, "too many tokens", code="context_length_exceeded"))
    llm = connect(server)
    with pytest.raises(LLMError, match="too many tokens"):
        llm.complete(QUESTION)
    llm.complete(QUESTION)
    assert [b["response_format"]["type"] for b in server.bodies] == ["json_schema"] * 2
    server.plan.append(Fail(400, "the prompt is odd"))
    with pytest.raises(LLMError, match="the prompt is odd"):
        llm.complete(QUESTION)
    assert len(server.bodies) == 3


def test_a_server_that_refuses_everything(serve: Any, connect: Any) -> None:
    server = serve(answer=lambda _: Fail(400, "I do not like you"))
    with pytest.raises(LLMError, match="I do not like you"):
        connect(server).complete(QUESTION)
    assert len(server.bodies) == 3


def test_gives_up_settings_a_model_does_not_take(serve: Any, connect: Any) -> None:
    def reasoning_model(body: dict[str, Any]) -> Say | Fail:
        if "max_tokens" in body:
            return Fail(
                400,
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
                param="max_tokens",
            )
        if "temperature" in body:
            return Fail(400, "Unsupported value", param="temperature")
        return Say("{}")

    server = serve(answer=reasoning_model)
    llm = connect(server)
    llm.complete(replace(QUESTION, max_tokens=9))
    assert len(server.bodies) == 3
    assert server.bodies[-1]["max_completion_tokens"] == 9
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"
    llm.complete(replace(QUESTION, max_tokens=9))
    assert len(server.bodies) == 4


def test_a_server_that_refuses_streaming(serve: Any, connect: Any) -> None:
    def answer(body: dict[str, Any]) -> Say | Fail:
        return Fail(400, "streaming is not supported") if body.get("stream") else Say("fine")

    assert connect(serve(answer=answer)).complete(QUESTION).text == "fine"


def test_refusal_and_truncation(serve: Any, connect: Any) -> None:
    llm = connect(
        serve(Say(None, refusal="no"), Say("half", "length"), Say(None, "content_filter"))
    )
    assert (llm.complete(QUESTION).refusal, llm.complete(QUESTION).truncated) == ("no", True)
    assert "content filter" in llm.complete(QUESTION).refusal


# Where it is asked


@pytest.mark.parametrize(
    "nowhere",
    [
        Raw(b"404 page not found", "text/plain", 404),  # Ollama
        Raw(b'{"detail": "Not Found"}', status=404),  # vLLM
        Raw(b'{"error": "Unexpected endpoint or method. (POST /chat/completions)"}'),  # LM Studio
        Raw(b"<!DOCTYPE html><title>Chat</title>", "text/html"),  # a page for people
        Raw(b'{"detail": "Method Not Allowed"}', status=405),
    ],
)
def test_an_address_without_v1(serve: Any, clock: Clock, nowhere: Raw) -> None:
    server = serve(nowhere)
    root = server.url.removesuffix("/v1")
    llm = OpenAICompatible("m", root, sleep=clock.sleep, clock=clock)
    assert llm.complete(QUESTION).text == "a color"
    assert llm.complete(QUESTION).text == "a color"
    assert server.paths == ["/chat/completions", *["/v1/chat/completions"] * 2]
    assert clock.waits == []
    llm.close()


def test_nothing_below_v1_either(serve: Any, clock: Clock) -> None:
    server = serve(answer=lambda _: Fail(404, "not here"))
    llm = OpenAICompatible("m", server.url.removesuffix("/v1"), sleep=clock.sleep, clock=clock)
    with pytest.raises(
        LLMError, match=r"status 404 .* not here; either its address is wrong \(mos"
    ):
        llm.complete(QUESTION)
    server.plan.extend([Fail(404, "nothing"), Fail(404, "model 'm' not found, try pulling it")])
    with pytest.raises(LLMError, match=r"has no model 'm': model 'm' not found"):
        llm.complete(QUESTION)
    llm.close()


def test_the_whole_address_of_an_endpoint(serve: Any) -> None:
    server = serve()
    llm = OpenAICompatible("m", f"{server.url}/chat/completions/")
    llm.complete(QUESTION)
    assert server.paths == ["/v1/chat/completions"]
    llm.close()


# What an answer looks like

JSON = '{"1": "color"}'


def stream(*deltas: dict[str, str], finish: str | None = "stop") -> Raw:
    """An answer as events, though nobody asked for them."""
    choices: list[dict[str, Any]] = [{"delta": delta} for delta in deltas]
    choices.append({"delta": {}, "finish_reason": finish})
    events = [f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices]
    return Raw((": busy\n\n" + "".join(events) + "data: [DONE]\n\n").encode(), "text/event-stream")


@pytest.mark.parametrize(
    "answer",
    [
        message([{"type": "text", "text": JSON}]),
        message(  # Magistral
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "{} or …"}]},
                {"type": "text", "text": JSON[:5]},
                {"type": "text", "text": JSON[5:]},
            ]
        ),
        message([{"type": "novelty", "x": 1}, {"type": "output_text", "text": JSON}]),
        message([JSON[:4], JSON[4:]]),
        message({"1": "color"}),
        message("", reasoning_content=JSON),  # LM Studio, vLLM
        message(None, reasoning=f"Red is a color.\n```json\n{JSON}\n```"),  # OpenRouter
        message(None, tool_calls=[{"function": {"name": "categories", "arguments": JSON}}]),
        message(None, function_call={"arguments": JSON}),
        stream({"role": "assistant", "content": ""}, {"content": JSON[:6]}, {"content": JSON[6:]}),
        stream({"reasoning_content": "Hm."}, {"content": JSON}),
        Raw(b"\xef\xbb\xbf\n\n" + message(JSON).body),
        Raw(b"[" + message(JSON).body + b"]"),
        Raw(json.dumps({"choices": [{"text": JSON}]}).encode()),
        Raw(gzip.compress(message(JSON).body), headers={"Content-Encoding": "gzip"}),
    ],
)
def test_whatever_is_an_answer_is_used(serve: Any, connect: Any, answer: Raw) -> None:
    server = serve(answer)
    text = connect(server).complete(QUESTION).text
    assert json_objects(text) == [{"1": "color"}]
    assert "thinking" not in text
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "text",
    [
        f'<think>Is {{}} right? {{"1": "object"}}</think>{JSON}',
        f'The user asks … {{"1": "object"}}\n</think>\n\n{JSON}',
        f'[THINK]{{"1": "object"}}[/THINK]{JSON}',
        f'<|channel|>analysis<|message|>{{"1": "part"}}<|end|><|channel|>final<|message|>{JSON}',
        f"{JSON}<thought>that was easy</thought>",
        f"```json\n{JSON}\n```",
    ],
)
def test_thoughts_are_no_answers(text: str) -> None:
    assert json_objects(text) == [{"1": "color"}]


@pytest.mark.parametrize(
    "answer",
    [
        message("", reasoning_content=f"It could be {JSON}, or not."),
        message("", "length", reasoning_content=JSON),
        message(None),
        message([]),
        message("<think>" + JSON, "length"),
    ],
)
def test_a_draft_is_no_answer(serve: Any, connect: Any, answer: Raw) -> None:
    assert json_objects(connect(serve(answer)).complete(QUESTION).text) == []


def test_thoughts_are_no_free_text(serve: Any, connect: Any) -> None:
    llm = connect(serve(message("", reasoning_content="I should write {}")))
    assert llm.complete(replace(QUESTION, schema=None)).text == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Raw(b""), "it is empty"),
        (Raw(b'{"choices": []}'), "it holds no choices"),
        (Raw(b'{"choices": [{"message": null}]}'), "its choice holds no message"),
        (Raw(b'{"error": {"message": "overloaded"}}'), "it is an error: overloaded"),
        (Raw(b"<html><h1>Sign in</h1>", "text/html"), "a page of HTML; is the address correct"),
        (Raw(b"[" * 100_000), r"'\[\[\["),
        (Raw(b'"hello"'), "'\"hello\"'"),
        (stream({"content": JSON}, finish=None), "a stream of events without an end"),
        (Raw(b"data: {\n\n", "text/event-stream"), "'data: {'"),
        (Raw(b"no gzip", headers={"Content-Encoding": "gzip"}), "cannot be re"),
        (Raw(b"<html>bad gateway", "text/html", 502), "reports: .*a page of HTML"),
    ],
)
def test_what_is_no_answer_is_one_line(serve: Any, connect: Any, answer: Raw, said: str) -> None:
    with pytest.raises(LLMError, match=said) as error:
        connect(serve(answer=lambda _: answer), max_attempts=2).complete(QUESTION)
    assert "\n" not in str(error.value)
    assert "(2 attempts)" in str(error.value)
    assert "<" not in str(error.value)


# More that servers object to


def crashes_over(*forms: str, status: int = 500, message: str = "") -> Any:
    def answer(body: dict[str, Any]) -> Say | Fail:
        form = body.get("response_format", {}).get("type", "text")
        return Fail(status, message) if form in forms else Say("{}")

    return answer


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (500, "Failed to parse grammar"),  # llama.cpp
        (400, "Failed to initialize samplers: Unexpected empty grammar stack"),
        (404, "No endpoints found that can handle the requested parameters."),  # OpenRouter
    ],
)
def test_an_objection_to_the_form_by_any_status(
    serve: Any, connect: Any, clock: Clock, status: int, words: str
) -> None:
    server = serve(answer=crashes_over("json_schema", "json_object", status=status, message=words))
    llm = connect(server)
    llm.complete(QUESTION)
    llm.complete(QUESTION)
    assert (len(server.bodies), clock.waits) == (4, [])


def test_a_server_that_crashes_over_the_form(serve: Any, connect: Any, clock: Clock) -> None:
    """One crash may be chance, so it is asked twice before the form is given up."""
    server = serve(answer=crashes_over("json_schema", message="Internal Server Error"))
    llm = connect(server)
    llm.complete(QUESTION)
    llm.complete(QUESTION)
    forms = [body["response_format"]["type"] for body in server.bodies]
    assert forms == ["json_schema"] * 2 + ["json_object"] * 2
    assert len(clock.waits) == 2


def test_a_crash_does_not_cost_a_form_that_works(serve: Any, connect: Any) -> None:
    server = serve(Say("{}"), Fail(500), Fail(500), Fail(500))
    llm = connect(server)
    llm.complete(QUESTION)
    llm.complete(QUESTION)
    assert {body["response_format"]["type"] for body in server.bodies} == {"json_schema"}


@pytest.mark.parametrize(
    "words", ["System role not supported", "Conversation roles must alternate user/assistant/…"]
)
def test_a_model_without_a_system_role(serve: Any, connect: Any, words: str) -> None:
    def answer(body: dict[str, Any]) -> Say | Fail:
        return Fail(500, words) if body["messages"][0]["role"] == "system" else Say("{}")

    server = serve(answer=answer)
    llm = connect(server)
    llm.complete(QUESTION)
    llm.complete(QUESTION)
    assert len(server.bodies) == 3
    assert server.bodies[-1]["messages"] == [
        {"role": "user", "content": "be brief\n\nwhat is red?"}
    ]
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


# The environment


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("sk-very\nsecret", "a line break"),
        ("sk-very\r\nsecret", "a line break"),
        ("sk-very secret", "a space"),
        ("sk-s\u00e9cret", "a character outside ASCII"),
        ("sk-\u201csecret\u201d", "a character outside ASCII"),
        ("sk-sec\x07ret", "a control character"),
    ],
)
def test_a_key_that_cannot_be_one(
    serve: Any, monkeypatch: pytest.MonkeyPatch, key: str, what: str
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, key)
        with pytest.raises(InputError, match=f"variable {name} holds {what}") as error:
            OpenAICompatible("m", serve().url)
        assert "sk-" not in str(error.value)
        assert "cret" not in str(error.value)
        monkeypatch.delenv(name)


@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_an_empty_key_is_none(serve: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(LLMError, match="OPENAI_API_KEY is empty"):
        OpenAICompatible("gpt-4o")
    llm = OpenAICompatible("m", serve().url)
    assert llm.complete(QUESTION).text == "a color"
    llm.close()


def test_the_line_end_after_a_key_is_not_part_of_it(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-0123456789\r\n")
    server = serve()
    connect(server).complete(QUESTION)
    assert server.headers[0]["authorization"] == "Bearer sk-0123456789"


@pytest.mark.parametrize("key", ["e", "none", "ollama"])
def test_a_key_that_is_none_does_not_shred_messages(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server = serve(Fail(422, "none of the elements here is ollama"))
    with pytest.raises(LLMError) as error:
        connect(server).complete(replace(QUESTION, schema=None))
    assert str(error.value) == (
        f"the LLM server {server.url} reports: none of the elements here is ollama"
    )


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "secret", tmp_path / "empty.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(
            InputError, match="SSL_CERT_FILE names no file of certificates"
        ) as error:
            OpenAICompatible("m", "https://127.0.0.1:1/v1")
        assert str(path) not in str(error.value)


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["foo://secret:9", "http://secret:port:x", "socks5://secret:9"])
def test_a_proxy_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(InputError, match=f"the proxy that .*{variable} names cannot") as error:
        OpenAICompatible("m", "http://127.0.0.1:1/v1")
    assert "secret" not in str(error.value)


def test_a_proxy_that_refuses_is_named(
    serve: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    with LLMServer() as gone:
        address = gone.url.removesuffix("/v1")
    monkeypatch.setenv("http_proxy", address.replace("//", "//user:secret@"))
    llm = OpenAICompatible("m", server.url, sleep=clock.sleep, clock=clock, max_attempts=1)
    with pytest.raises(LLMError) as error:
        llm.complete(QUESTION)
    assert "(through the proxy that http_proxy names) cannot be reached" in str(error.value)
    assert "NO_PROXY" in str(error.value)
    assert "secret" not in str(error.value)
    assert address not in str(error.value)
    llm.close()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    llm = OpenAICompatible("m", server.url)
    assert llm.complete(QUESTION).text == "a color"
    llm.close()


# The cache


def test_only_what_is_kept_is_given_again(serve: Any, connect: Any, tmp_path: Path) -> None:
    server = serve()
    llm = connect(server, cache_dir=tmp_path)
    llm.complete(QUESTION)
    assert not llm.complete(QUESTION).cached
    llm.keep(QUESTION, "kept")
    again = connect(server, cache_dir=tmp_path).complete(QUESTION)
    assert (again.text, again.cached, again.usage) == ("kept", True, Usage(cached=1))
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"system": "x"},
        {"user": "x"},
        {"schema": {"type": "array"}},
        {"schema": None},
        {"schema_name": "x"},
        {"temperature": 0.5},
        {"seed": 1},
        {"max_tokens": 5},
        {"prompts": "x"},
    ],
)
def test_the_key_holds_everything(serve: Any, connect: Any, tmp_path: Path, change: Any) -> None:
    llm = connect(serve(), cache_dir=tmp_path)
    llm.keep(QUESTION, "kept")
    assert llm.complete(QUESTION).cached
    assert not llm.complete(replace(QUESTION, **change)).cached


def test_the_key_holds_model_and_server(serve: Any, connect: Any, tmp_path: Path) -> None:
    server, other = serve(), serve()
    connect(server, cache_dir=tmp_path).keep(QUESTION, "kept")
    assert connect(server, cache_dir=tmp_path).complete(QUESTION).cached
    assert not connect(server, "n", cache_dir=tmp_path).complete(QUESTION).cached
    assert not connect(other, cache_dir=tmp_path).complete(QUESTION).cached


def test_the_api_key_is_not_on_disk(serve: Any, connect: Any, tmp_path: Path) -> None:
    llm = connect(serve(), cache_dir=tmp_path)
    llm.complete(QUESTION)
    llm.keep(QUESTION, "kept")
    llm.close()
    assert all(b"secret" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_refresh_asks_again_and_keeps(serve: Any, connect: Any, tmp_path: Path) -> None:
    server = serve()
    connect(server, cache_dir=tmp_path).keep(QUESTION, "old")
    llm = connect(server, cache_dir=tmp_path, refresh=True)
    assert llm.complete(QUESTION).text == "a color"
    llm.keep(QUESTION, "new")
    assert connect(server, cache_dir=tmp_path).complete(QUESTION).text == "new"


def test_a_broken_cache_is_one_line(serve: Any, connect: Any, tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(OutputError, match=r"cache of LLM replies .* cannot be used"):
        connect(serve(), cache_dir=tmp_path)


# The stand-in, and choosing


def script(tmp_path: Path, *lines: Any) -> Path:
    path = tmp_path / "script.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def test_scripted_replies(tmp_path: Path) -> None:
    llm = Scripted(
        script(
            tmp_path,
            "# a comment",
            {"reply": "first"},
            {"match": "blu[e]", "reply": {"1": "color"}},
            {"sort": {"dog": "object"}, "otherwise": "color"},
            "",
            '"second"',
        )
    )
    asked = replace(QUESTION, items=(("1", "dog"), ("2", "red")))
    assert llm.complete(asked).text == '{"1": "object", "2": "color"}'
    assert llm.complete(QUESTION).text == "first"
    assert llm.complete(replace(QUESTION, user="blue?")).text == '{"1": "color"}'
    assert llm.complete(QUESTION).text == "second"
    with pytest.raises(LLMError, match="holds no reply for request 5, which begins 'what is red"):
        llm.complete(QUESTION)
    assert [r.user for r in llm.history][2] == "blue?"
    assert llm.name == "scripted:script.jsonl"
    assert "sha256" in llm.fingerprint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"answer": 1}', "line 2: expected a reply"),
        ('{"match": "(", "reply": ""}', "line 2: bad pattern"),
    ],
)
def test_bad_scripts(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scripted(script(tmp_path, {"reply": "x"}, line))


def test_missing_script(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_llm(f"scripted:{tmp_path / 'none'}")


def test_a_reply_with_a_key_is_for_one_request(tmp_path: Path) -> None:
    blue = replace(QUESTION, user="blue?")
    keyed = {QUESTION.digest(): "one", blue.digest(): "two"}
    replay = Scripted(script(tmp_path, *({"key": k, "reply": text} for k, text in keyed.items())))
    assert [replay.complete(blue).text, replay.complete(QUESTION).text] == ["two", "one"]


def test_open_llm(tmp_path: Path) -> None:
    assert open_llm("none") is None
    path = script(tmp_path, '"a"')
    assert isinstance(open_llm(f"scripted:{path}"), Scripted)
    llm = open_llm("gpt-4o", base_url="http://localhost:1/v1")
    assert isinstance(llm, OpenAICompatible)
    llm.close()
    with pytest.raises(UsageError, match="name is empty"):
        open_llm(" ")


def test_each_heavy_package_is_imported_in_one_module() -> None:
    package = Path(profiler.__file__).parent
    for name in ("openai", "tenacity", "diskcache"):
        importing = [
            path.name
            for path in package.rglob("*.py")
            if re.search(rf"^\s*(import|from) {name}\b", path.read_text(encoding="utf-8"), re.M)
        ]
        assert len(importing) == 1, (name, importing)


def test_a_request_without_tools_is_keyed_as_it_always_was() -> None:
    """Replies that were paid for are found again."""
    request = Request("s", "u", native=False, seconds=3.0, without_tools="in words")
    assert request.digest() == Request("s", "u").digest()
    assert set(request.content()) == {
        "system", "user", "schema", "schema_name", "temperature", "seed", "max_tokens", "prompts",
    }  # fmt: skip
