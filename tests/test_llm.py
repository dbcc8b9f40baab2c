"""The client against a real HTTP server, and the scripted stand-in."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_server import (
    Drop,
    DropHalfWay,
    Fail,
    Hang,
    LLMServer,
    Raw,
    Say,
)

import profiler
from profiler.errors import InputError, LLMError, OutputError, UsageError
from profiler.llm import OpenAICompatible, Price, Recording, Request, Scripted, Usage, open_llm

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
    with pytest.raises(LLMError, match=r"did not answer in time \(2 attempts\)") as error:
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
        (Fail(404, "no such thing"), "has no model 'm'"),
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


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host/v1", "http://"])
def test_bad_address(url: str) -> None:
    with pytest.raises(InputError, match="is not an http or https URL"):
        OpenAICompatible("m", url)


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


def test_passwords_in_addresses_are_not_shown() -> None:
    llm = OpenAICompatible("m", "http://user:pass@localhost:1/v1")
    assert llm.fingerprint == "m at http://localhost:1/v1"
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


def test_recording_replays(tmp_path: Path, serve: Any, connect: Any) -> None:
    path = tmp_path / "recorded.jsonl"
    server = serve(Say("one"), Say("two"))
    recording = Recording(connect(server), path)
    blue = replace(QUESTION, user="blue?")
    assert [recording.complete(QUESTION).text, recording.complete(blue).text] == ["one", "two"]
    replay = Scripted(path)
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
