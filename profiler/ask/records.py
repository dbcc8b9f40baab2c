"""An answer as text and as a file, and the verification of such a file without a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from profiler.ask.agent import Answered
from profiler.ask.answers import AnswerCheck
from profiler.ask.facts import Fact
from profiler.ask.results import OpenResults
from profiler.ask.tools import Submission, ToolBox
from profiler.core.json_text import read_json
from profiler.errors import InputError, ProfilerError
from profiler.llm.prompts import load_prompts

FORMAT = 1
"""Version of an answer."""


def fact_lines(facts: Sequence[Fact], *, first: int = 1, commands: bool = True) -> list[str]:
    """Each fact with its address in the report and the command that shows it."""
    lines = []
    for number, fact in enumerate(facts, start=first):
        lines += [f"[{number}] {fact.what}: {fact.stated}", f"    {fact.address}"]
        lines += [f"    {fact.command}"] if commands else []
    return lines


def answer_text(done: Answered) -> str:
    """An answer for people: the sentences, what limits them, and the facts that they rest on."""
    filled = done.filled
    lines = [filled.text]
    if filled.missing:
        lines.append(f"What the results do not say: {filled.missing}")
    if filled.caveats:
        lines += ["", "What limits this:", *(f"- {caveat}" for caveat in filled.caveats)]
    return "\n".join([*lines, "", "Facts:", *fact_lines(filled.facts)])


def answer_json(done: Answered, results: OpenResults) -> dict[str, Any]:
    """An answer for programs, and for :func:`verified`."""
    filled = done.filled
    return {
        "format": FORMAT,
        "question": done.question,
        "answer": filled.text,
        "missing": filled.missing,
        "caveats": list(filled.caveats),
        "sentences": list(filled.sentences),
        **facts_json(filled.facts, results),
        "author": done.author,
        "turns": done.turns,
        "tool_calls": done.calls,
        "usage": done.usage.to_json(),
    }


def facts_json(facts: Sequence[Fact], results: OpenResults) -> dict[str, Any]:
    """Facts and what they are facts of."""
    return {
        "facts": [fact.model_dump(mode="json") for fact in facts],
        "runs": [
            {
                "id": result.id,
                "kind": result.kind,
                "name": result.name,
                "folder": str(result.folder),
                "sha256": result.digest,
            }
            for result in results
        ],
    }


def read_answer_file(path: Path) -> tuple[dict[str, Any], tuple[Fact, ...]]:
    """An answer that was printed with ``--json``, and its facts.

    Raises:
        InputError: it is none, or damaged.
    """
    content = read_json(path, "answer", (FORMAT,))
    try:
        facts = tuple(Fact.model_validate(each) for each in content["facts"])
        for run in content["runs"]:
            run["folder"], run["id"], run["sha256"]
        content["answer"], content["sentences"]
    except (KeyError, TypeError) as error:
        raise InputError(f"the answer {str(path)!r} is damaged: it lacks {error}") from error
    except ValidationError as error:
        raise InputError(f"the answer {str(path)!r} is damaged: a fact is none") from error
    return content, facts


def verified(
    content: Mapping[str, Any],
    facts: Sequence[Fact],
    box: ToolBox,
    prompts_dir: Path | None = None,
) -> list[str]:
    """What no longer holds of an answer; empty where all of it does.

    Every fact is computed again by the call that gave it, and the sentences are checked and filled
    in again.

    Args:
        content: of the file.
        facts: cited by it.
        box: the tools on its results, in the same order.
        prompts_dir: folder of prompt files that replace those shipped.
    """
    wrong: list[str] = []
    for run, result in zip(content["runs"], box.results, strict=True):
        if run["sha256"] != result.digest:
            wrong.append(f"{result.id} ({result.folder}) has changed since")
    known: dict[str, Fact] = {}
    for number, fact in enumerate(facts, start=1):
        try:
            found = box.call(fact.tool, fact.arguments).facts
        except ProfilerError as error:
            wrong.append(f"[{number}] {fact.what}: {error}")
            continue
        same = next((each for each in found if (each.run, each.key) == (fact.run, fact.key)), None)
        if same is None:
            wrong.append(f"[{number}] {fact.what}: there is no such fact any more")
            continue
        known[fact.id] = same
        kept = _comparable(fact)
        if differs := [name for name, value in _comparable(same).items() if kept[name] != value]:
            name = "stated" if "stated" in differs else differs[0]
            wrong.append(
                f"[{number}] {fact.what}: {getattr(fact, name)!r} in the answer, "
                f"{getattr(same, name)!r} now"
            )
    if wrong or not content["sentences"]:
        return wrong
    given = Submission(sentences=tuple(content["sentences"]), missing=content.get("missing", ""))
    check = AnswerCheck(box.results, load_prompts(prompts_dir).plain_words)
    if found_wrong := check.complaints(given, known):
        return found_wrong
    if check.fill(given, known).text != content["answer"]:
        return ["the answer is not what its sentences and facts make"]
    return []


def _comparable(fact: Fact) -> dict[str, Any]:
    """What a fact says; where it lies on this disk is no part of that."""
    return fact.model_dump(mode="json", exclude={"address", "command"})
