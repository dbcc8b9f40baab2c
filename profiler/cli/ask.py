"""``profiler ask`` and ``profiler mcp``."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profiler.cli.app import app
from profiler.cli.options import grouped
from profiler.cli.words import AsJSON, Asking
from profiler.errors import CheckFailed, Undecided, UsageError

if TYPE_CHECKING:
    from profiler.ask.agent import Answered, Conversation
    from profiler.ask.tools import ToolBox

log = logging.getLogger("profiler")


@dataclass(frozen=True)
class Answering(Asking):
    """Which language model answers."""

    llm: Annotated[
        str,
        typer.Option(
            help="Language model that answers: the name of a model, scripted:FILE, or "
            "none to list the facts.",
        ),
    ] = "none"


@dataclass(frozen=True)
class Bounds:
    """What one question may cost."""

    max_turns: Annotated[
        int,
        typer.Option(help="Largest number of replies of the language model to a question.", min=1),
    ] = 8
    max_tool_calls: Annotated[
        int, typer.Option(help="Largest number of tool calls for a question.", min=1)
    ] = 24
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Largest number of tokens sent and received.  [default: any number]", min=1
        ),
    ] = None
    max_cost: Annotated[
        float | None, typer.Option(help="Largest cost in US dollars.  [default: any]", min=0)
    ] = None
    timeout: Annotated[float, typer.Option(help="Time limit in seconds.", min=0.1)] = 600.0


@app.command(
    None,
    "profiler ask reports/lite0 'which units of blocks.5 respond to stripes?' --llm gpt-4o",
    "profiler ask reports/lite0 reports/debug",
    "profiler ask --verify answer.json reports/lite0",
)
@grouped()
def ask(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN… [QUESTION]",
            help="Folders of finished results, then a question, or the arguments of a tool.",
            show_default=False,
        ),
    ] = None,
    *,
    answering: Answering,
    bounds: Bounds,
    tool: Annotated[
        str | None,
        typer.Option(help="Call only this tool, with argument=value …, and list its facts."),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            help="Compute the facts of an answer (made with --json) again, without a "
            "language model."
        ),
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="File for the whole conversation, as JSON lines.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Answer a question from finished results; every number is a fact that can be checked.

    Results are folders that run, compare, debug, guard eval or check wrote. Without a question,
    questions are read line by line until an empty line. Without --llm, the words of the
    question choose the tools, and their facts are listed.
    """
    folders, rest = _split(words or [])
    if verify is not None:
        _verify(verify, folders, rest, answering.prompts)
        return
    if not folders:
        raise UsageError("no finished result is named; give the folder that profiler run wrote")
    if transcript is not None:
        from profiler.session import check_writable

        check_writable(transcript.parent)
    if tool is not None:
        _show_facts(_opened(folders), [(tool, _arguments(rest))], as_json)
        return
    if len(rest) > 1:
        raise UsageError(
            f"{rest[0]!r} is no folder; put the question in quotes, behind the folders"
        )
    question = rest[0].strip() if rest else ""
    if rest and not question:
        raise UsageError("the question is empty")
    with answering.model() as llm:
        box = _opened(folders)
        if llm is None:
            for each in [question] if question else _questions():
                _matched(box, each, as_json)
            return
        from profiler.ask.agent import Conversation, Limits
        from profiler.core.wording import counted

        limits = Limits(
            bounds.max_turns,
            bounds.max_tool_calls,
            bounds.max_tokens,
            bounds.max_cost,
            bounds.timeout,
        )
        talk = Conversation(box, llm, limits, answering.prompts)
        try:
            if question:
                _print(talk.ask(question), box, as_json)
                return
            _converse(talk, box, as_json)
        finally:
            if transcript is not None:
                _write_transcript(transcript, talk)
            if left := getattr(llm, "left", 0):
                log.warning("warning: the script holds %s more", counted(left, "reply", "replies"))


@app.command(None, "profiler mcp reports/lite0 reports/debug")
def mcp(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Folders of finished results.")
    ],
) -> None:
    """Serve the tools of ask to assistants, by the Model Context Protocol on standard input.

    Needs the extra mcp. In an assistant's configuration, the command is profiler, with mcp and
    the folders as its arguments.
    """
    try:
        import mcp as _  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "profiler mcp needs the package mcp: pip install 'vision-profiler[mcp]'"
        ) from error
    from profiler.ask.mcp_server import serve

    serve(_opened(folders))


def _split(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The folders at the beginning, and what stands behind them."""
    folders = []
    for word in words:
        if not Path(word).is_dir():
            break
        folders.append(Path(word))
    return folders, list(words[len(folders) :])


def _arguments(rest: Sequence[str]) -> dict[str, Any]:
    found = {}
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{word!r} is no argument of a tool; write name=value")
        found[name] = value
    return found


def _opened(folders: Sequence[Path]) -> "ToolBox":
    from profiler.ask.results import OpenResult, OpenResults
    from profiler.ask.tools import ToolBox
    from profiler.models.vlm.base import TextEncoder

    encoders: dict[str, TextEncoder] = {}

    def encoder(result: OpenResult) -> TextEncoder:
        # Opened only for a search by meaning.
        from profiler.models.vlm.choose import texts_of
        from profiler.session import choose_device

        if result.id not in encoders:
            record = result.profile.record
            encoders[result.id] = texts_of(record.vlm, record.settings, choose_device("auto"))
        return encoders[result.id]

    return ToolBox(OpenResults.open(folders), encoder)


def _questions() -> "Any":
    """Lines from standard input, until an empty one."""
    while True:
        if sys.stdin.isatty():
            typer.echo("? ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line.strip():
            return
        yield line.strip()


def _converse(talk: "Conversation", box: "ToolBox", as_json: bool) -> None:
    for question in _questions():
        try:
            _print(talk.ask(question), box, as_json)
        except Undecided as error:
            typer.echo(f"profiler: {error}", err=True)


def _print(done: "Answered", box: "ToolBox", as_json: bool) -> None:
    from profiler.ask.records import answer_json, answer_text
    from profiler.core.json_text import json_text

    if as_json:
        typer.echo(json_text(answer_json(done, box.results), None))
        return
    typer.echo(answer_text(done))
    typer.echo(f"{done.author}; {done.usage}", err=True)


def _matched(box: "ToolBox", question: str, as_json: bool) -> None:
    from profiler.ask.matching import match

    if not as_json:
        typer.echo("Matched by the words of the question, without a language model:\n")
    calls = [(each.tool, each.arguments) for each in match(question, box)]
    _show_facts(box, calls, as_json, question)


def _show_facts(
    box: "ToolBox", calls: Sequence[tuple[str, Any]], as_json: bool, question: str = ""
) -> None:
    from profiler.ask.records import fact_lines, facts_json
    from profiler.core.json_text import json_text

    found = [(tool, arguments, box.call(tool, arguments)) for tool, arguments in calls]
    facts = tuple({fact.id: fact for _, _, given in found for fact in given.facts}.values())
    notes = [given.note for _, _, given in found if given.note]
    caveats = list(dict.fromkeys(c for fact in facts for c in fact.caveats))
    if as_json:
        content = {
            "question": question,
            "calls": [
                {"tool": tool, "arguments": arguments, "next": given.next}
                for tool, arguments, given in found
            ],
            "notes": notes,
            "caveats": caveats,
            **facts_json(facts, box.results),
        }
        typer.echo(json_text(content, None))
        return
    lines, first = list[str](), 1
    for _, _, given in found:
        lines += [given.note] if given.note else []
        lines += fact_lines(given.facts, first=first, commands=False)
        first += len(given.facts)
        if given.facts:
            more = f"; there are more from start={given.next}" if given.next is not None else ""
            lines += [f"({given.facts[0].command}{more})", ""]
    if caveats:
        lines += ["What limits this:", *(f"- {caveat}" for caveat in caveats)]
    typer.echo("\n".join(lines).rstrip())


def _verify(path: Path, folders: Sequence[Path], rest: Sequence[str], prompts: Path | None) -> None:
    from profiler.ask.records import read_answer_file, verified
    from profiler.core.wording import counted

    if rest:
        raise UsageError(f"{rest[0]!r} is no folder; --verify takes the folders of the answer")
    content, facts = read_answer_file(path)
    known = [Path(run["folder"]) for run in content["runs"]]
    if folders and len(folders) != len(known):
        raise UsageError(f"the answer is about {len(known)} results, {len(folders)} are given")
    wrong = verified(content, facts, _opened(folders or known), prompts)
    if wrong:
        raise CheckFailed("; ".join(wrong[:5]))
    many = counted(len(facts), "fact")
    typer.echo(f"{many} computed again: the answer holds")


def _write_transcript(path: Path, talk: "Conversation") -> None:
    from profiler.core.store import write_atomically

    lines = [json.dumps(each, ensure_ascii=False) for each in talk.log]
    write_atomically(path, "".join(f"{line}\n" for line in lines))
