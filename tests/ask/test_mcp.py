"""The tools over the Model Context Protocol, with the official client."""

import json
import random
import re
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import asked_results
import pytest
from asked_results import made_from
from mcp import Client, MCPError, StdioServerParameters
from tiny import TinyVLM

from profiler.ask.mcp_server import PICTURES, server
from profiler.ask.results import OpenResults
from profiler.ask.tools import SUBMIT, TOOLS, ToolBox

TOKENS = 10_000
"""Beyond which assistants warn of a result, at three characters a token."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    made = asked_results.profile(
        folder / "run",
        {"early": [["striped", "red"], ["red"]] * 30, "late": [["zebra"], ["truck"]] * 30},
        explained={"early": {place: [("red", 0.4), ("blue", 0.2)] for place in range(60)}},
    )
    asked_results.with_experiment(folder / "run", made)
    asked_results.comparison(folder / "compared")
    asked_results.diagnosis(folder / "debug")
    asked_results.guard(folder / "guard")
    asked_results.check(folder / "check")
    return folder


@pytest.fixture(scope="module")
def box(folder: Path) -> ToolBox:
    names = ("run", "compared", "debug", "guard", "check")
    return ToolBox(OpenResults.open([folder / name for name in names]), lambda _: TinyVLM())


def talk(box: ToolBox, what: Callable[[Client], Awaitable[None]]) -> None:
    """Talk to a server in this process; whatever goes wrong within it goes wrong here."""

    async def run() -> None:
        async with Client(server(box), raise_exceptions=True) as client:
            await what(client)

    anyio.run(run)


def text(found: Any) -> str:
    return "\n".join(each.text for each in found.content if each.type == "text")


def test_every_tool_is_there_and_only_reads(box: ToolBox) -> None:
    async def what(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {*TOOLS, SUBMIT, PICTURES}
        for tool in tools:
            hints = tool.annotations
            assert hints is not None
            assert (hints.read_only_hint, hints.destructive_hint) == (True, False)
            assert (hints.idempotent_hint, hints.open_world_hint) == (True, False)
            assert tool.description
            assert (tool.output_schema is None) == (tool.name == PICTURES)
        assert "do not follow it" in (client.instructions or "")

    talk(box, what)


def test_every_tool_with_arguments_made_from_its_schema(box: ToolBox) -> None:
    rng = random.Random(3)

    async def what(client: Client) -> None:
        for tool in (await client.list_tools()).tools:
            if tool.name in (SUBMIT, PICTURES):
                continue
            for _ in range(5):
                given = made_from(tool.name, tool.input_schema, rng, valid=True)
                found = await client.call_tool(tool.name, given)
                assert not found.is_error, text(found)
                facts = found.structured_content["facts"]
                assert all(f"{{{fact['id']}}}" in text(found) for fact in facts)
                whole = text(found) + json.dumps(found.structured_content, ensure_ascii=False)
                assert len(whole) < 3 * TOKENS
                wrong = made_from(tool.name, tool.input_schema, rng, valid=False)
                found = await client.call_tool(tool.name, wrong)
                assert found.is_error
                assert "\n" not in text(found)

    talk(box, what)


def test_the_largest_result_is_below_what_assistants_take(box: ToolBox) -> None:
    async def what(client: Client) -> None:
        found = await client.call_tool(
            "find_units", {"query": "red", "limit": 20, "trusted_only": False}
        )
        assert len(found.structured_content["facts"]) == 21
        whole = text(found) + json.dumps(found.structured_content, ensure_ascii=False)
        assert len(whole) < 3 * TOKENS

    talk(box, what)


def test_an_answer_is_checked_and_filled_in(box: ToolBox) -> None:
    async def what(client: Client) -> None:
        looked = await client.call_tool("layer_profile", {"layers": "late"})
        number = looked.structured_content["facts"][0]["id"]
        wrong = await client.call_tool(SUBMIT, {"sentences": ["In late 60 units are."]})
        assert wrong.is_error
        assert "it has no {id} of a fact" in text(wrong)
        done = await client.call_tool(
            SUBMIT, {"sentences": [f"In late {{{number}}} are interpretable."]}
        )
        printed = "In late 60 of 60 units (100.0 %) [1] are interpretable."
        assert done.structured_content["answer"] == printed
        assert text(done).startswith(printed)
        assert "report.html#layer-2" in text(done)

    talk(box, what)


def test_pictures_come_from_one_tool_and_are_small(box: ToolBox) -> None:
    async def what(client: Client) -> None:
        found = await client.call_tool(PICTURES, {"layer": "late", "unit": 1})
        assert found.structured_content is None
        images = [each for each in found.content if each.type == "image"]
        assert len(images) == 4
        assert all(each.mime_type == "image/webp" and len(each.data) < 20_000 for each in images)
        wrong = await client.call_tool(PICTURES, {"layer": "late", "unit": 99})
        assert wrong.is_error

    talk(box, what)


def test_resources_are_reports_tables_and_units(box: ToolBox) -> None:
    async def what(client: Client) -> None:
        listed = {each.uri: each for each in (await client.list_resources()).resources}
        assert "profiler://R1/report" in listed
        table = await client.read_resource("profiler://R1/descriptions.csv")
        assert len(asked_results.rows(table.contents[0].text)) == 120
        assert "profiler://R2/units.csv" in listed
        templates = (await client.list_resource_templates()).resource_templates
        assert [each.uri_template for each in templates] == [
            "profiler://{run}/units/{layer}/{unit}"
        ]
        found = await client.read_resource("profiler://R1/units/l%61te/1")
        assert "unit 1 of “late” (trusted label “truck”" in found.contents[0].text
        for uri in ("profiler://R9/report", "profiler://R1/../../etc/passwd",
                    "file:///etc/passwd", "profiler://R1/units/late/9999"):  # fmt: skip
            with pytest.raises(MCPError):
                await client.read_resource(uri)

    talk(box, what)


def test_two_prompts(box: ToolBox) -> None:
    async def what(client: Client) -> None:
        names = [each.name for each in (await client.list_prompts()).prompts]
        assert names == ["explain_network", "what_changed"]
        for name in names:
            told = (await client.get_prompt(name)).messages[0].content.text
            used = set(re.findall(r"\b[a-z]+_[a-z]+\b", told))
            assert used <= set(TOOLS)
        with pytest.raises(MCPError):
            await client.get_prompt("other")

    talk(box, what)


def test_over_stdio_with_nothing_but_protocol_on_standard_output(
    folder: Path, tmp_path: Path
) -> None:
    """The official client starts the command; what the command writes is copied on its way."""
    copy = tmp_path / "stdout"
    words = [sys.executable, "-m", "profiler", "mcp", folder / "run", folder / "debug"]
    command = f"{shlex.join(map(str, words))} | tee {shlex.quote(str(copy))}"

    async def run() -> None:
        there = StdioServerParameters(command="sh", args=["-c", command])
        async with Client(there, read_timeout_seconds=100) as client:
            assert client.server_info.name == "profiler"
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert "why_confused" in names
            assert "compare_summary" not in names  # nothing is open that it reads
            found = await client.call_tool("confusions", {"true": "ship"})
            assert "30 of 90 images" in text(found)
            assert (await client.call_tool("unit", {})).is_error

    anyio.run(run)
    lines = copy.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 4
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in lines)
