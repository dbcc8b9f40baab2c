"""The loop between a language model and the tools: bounded, and never trusted.

A model may ask for several calls at a time, in the form of its server or in JSON; each is checked
before it runs, and what is wrong goes back in a sentence. What it submits is checked sentence by
sentence. The loop ends with an answer that passed, or with :class:`Undecided`.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from profiler.ask.answers import AnswerCheck, Filled
from profiler.ask.facts import Fact, quoted
from profiler.ask.tools import SUBMIT, Submission, ToolBox, checked, described
from profiler.errors import ProfilerError, Undecided, UsageError
from profiler.llm.answers import actions, json_objects, without_thoughts
from profiler.llm.base import LLM, Reply, Request, Tool, ToolCall, Turn, Usage
from profiler.llm.openai_compatible import action_text
from profiler.llm.prompts import Prompts, load_prompts

TRIES = 3
"""Answers that a model may submit until one passes."""
_LONGEST_RESULT = 8_000
"""Characters of what one call gives."""
_LAYERS_NAMED = 30


@dataclass(frozen=True)
class Limits:
    """What one question may cost.

    Attributes:
        turns: replies of the model.
        tool_calls: calls, counted before they run, repeated ones too.
        tokens: sent and received, as the server counts them; None for any number.
        cost: in dollars; None for any.
        seconds: for everything; None for any.
    """

    turns: int = 8
    tool_calls: int = 24
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = 600.0

    def reached(self, usage: Usage, calls: int, seconds: float) -> str:
        """Which limit is reached; empty where none is."""
        if calls >= self.tool_calls:
            return f"--max-tool-calls {self.tool_calls}"
        if self.tokens and usage.prompt_tokens + usage.completion_tokens >= self.tokens:
            return f"--max-tokens {self.tokens}"
        if self.cost is not None and (usage.cost or 0.0) >= self.cost:
            return f"--max-cost {self.cost:g}"
        if self.seconds is not None and seconds >= self.seconds:
            return f"--timeout {self.seconds:g}"
        return ""


@dataclass(frozen=True)
class Answered:
    """An answer that passed the check.

    Attributes:
        question: as it was asked.
        filled: the answer.
        author: who wrote it.
        usage: what it cost.
        turns: replies it took.
        calls: of tools.
    """

    question: str
    filled: Filled
    author: str
    usage: Usage
    turns: int
    calls: int


@dataclass(eq=False)
class Conversation:
    """Questions about some results, one after the other.

    Attributes:
        box: the tools.
        llm: the language model.
        limits: of each question.
        prompts_dir: folder of prompt files that replace those shipped.
        clock: what tells the time, in seconds.
        log: everything that was said, in order, for a transcript.
    """

    box: ToolBox
    llm: LLM
    limits: Limits = field(default_factory=Limits)
    prompts_dir: Path | None = None
    clock: Callable[[], float] = time.monotonic
    log: list[dict[str, Any]] = field(default_factory=list)
    _known: dict[str, Fact] = field(default_factory=dict)
    _opening: str = ""
    _history: tuple[Turn, ...] = ()
    _native: bool = True

    def __post_init__(self) -> None:
        self._prompts: Prompts = load_prompts(self.prompts_dir)
        self._check = AnswerCheck(self.box.results, self._prompts.plain_words)
        self._tools = described(self.box)
        if self.limits.cost is not None and not self.llm.knows_cost:
            raise UsageError(
                f"--max-cost: the price of {self.llm.name} is not known; bound it by --max-tokens"
            )

    def ask(self, question: str) -> Answered:
        """Answer a question; earlier ones and their answers are known to the model.

        Raises:
            Undecided: the model gave no answer that passed, within the limits.
            LLMError: it could not be asked.
        """
        self.log.append({"question": question})
        asked = _Asked(self._opened_by(question), self.clock())
        while True:
            limit = self._limit(asked)
            if limit.startswith("--timeout"):
                break
            last = bool(limit) or asked.replies == self.limits.turns - 1
            said = self._replied(asked, last)
            for call in said:
                if call.name == SUBMIT:
                    asked.submitted += 1
                    outcome = self._submitted(call)
                    if isinstance(outcome, Filled):
                        return self._accepted(question, outcome, asked)
                    asked.complaint = outcome
                    result = self._prompts.fill("ask-again", complaint=outcome)
                elif last or asked.calls >= self.limits.tool_calls:
                    asked.complaint = asked.complaint or "it went on calling tools"
                    result = self._prompts.fill("ask-last")
                else:
                    asked.calls += 1
                    result = self._called(call, asked)
                asked.told(result)
            self.log += [{"result": text} for text in asked.turns[-1].results]
            if last or asked.submitted >= TRIES:
                break
        bound = self._limit(asked) or f"--max-turns {self.limits.turns}"
        why = asked.complaint or "it submitted nothing"
        self.log.append({"unanswered": why})
        raise Undecided(
            f"{self.llm.name} gave no answer that can be checked ({why}; the bound is {bound}); "
            "without --llm the matching facts are listed"
        )

    def _opened_by(self, question: str) -> list[Turn]:
        """The conversation so far, with a question at its end."""
        if not self._history:
            self._opening = self._prompts.fill("ask-user", question=question, runs=self._runs())
            return []
        return [*self._history[:-1], replace(self._history[-1], then=question)]

    def _limit(self, asked: "_Asked") -> str:
        return self.limits.reached(asked.usage, asked.calls, self.clock() - asked.started)

    def _replied(self, asked: "_Asked", last: bool) -> tuple[ToolCall, ...]:
        """The calls that the model asks for; where it asks for none, it is told so."""
        request = self._request(asked.turns, last, self.clock() - asked.started)
        reply = self.llm.complete(request)
        said = tuple(_calls_of(reply))
        asked.replies += 1
        asked.usage += reply.usage
        asked.requests.append((request, _kept_text(reply, said)))
        self.log.append(_reply_record(reply, said))
        if reply.refusal is not None:
            raise Undecided(f"{self.llm.name} refused to answer: {reply.refusal}")
        then = ""
        if not said:
            asked.complaint = _why_nothing(reply)
            then = self._prompts.fill("ask-again", complaint=asked.complaint)
            self.log.append({"result": then})
            # A server may take tools that its model has never heard of.
            self._native = False
        asked.turns.append(Turn("" if said else reply.text, said, then=then))
        return said

    def _request(self, turns: list[Turn], last: bool, spent: float) -> Request:
        tools = self._tools[-1:] if last else self._tools
        if not (last or self._native or self._known):
            tools = tools[:-1]  # a weak model submits at once; before it has a fact, it cannot
        if last and turns:
            note = self._prompts.fill("ask-last")
            end = turns[-1]
            end = (
                replace(end, results=(*end.results[:-1], f"{end.results[-1]}\n\n{note}"))
                if end.results
                else replace(end, then=f"{end.then}\n\n{note}")
            )
            turns = [*turns[:-1], end]
        seconds = self.limits.seconds
        return Request(
            system=self._prompts.fill("ask-system"),
            user=self._opening,
            schema=_action_schema(tools),
            schema_name="call",
            prompts=self._prompts.digest,
            tools=tools,
            without_tools=self._actions(tools),
            native=self._native,
            turns=tuple(turns),
            seconds=None if seconds is None else max(seconds - spent, 0.1),
        )

    def _actions(self, tools: tuple[Tool, ...]) -> str:
        """The tools in words, and the JSON that calls one."""
        lines = [f"- {tool.name}({_signature(tool)}): {tool.description}" for tool in tools]
        return self._prompts.fill("ask-actions", tools="\n".join(lines))

    def _runs(self) -> str:
        """What is open, in a line each."""
        lines = []
        for result in self.box.results:
            layers = [quoted(name) for name in result.layers]
            shown = ", ".join(layers[:_LAYERS_NAMED]) + (", …" if layers[_LAYERS_NAMED:] else "")
            named = f"; layers {shown}" if layers else ""
            lines.append(f"- {result.id}: a {result.kind} of {quoted(result.name)}{named}")
        return "\n".join(lines)

    def _called(self, call: ToolCall, asked: "_Asked") -> str:
        """What a call gives, or what is wrong with it."""
        try:
            arguments = _arguments(call)
            key = f"{call.name} {json.dumps(arguments, sort_keys=True, default=str)}"
            if key in asked.given:
                return "This was called before, and its facts stand above. Submit, or call another."
            found = self.box.call(call.name, arguments)
        except ProfilerError as error:
            return f"Error: {error}"
        asked.given.add(key)
        told = {caveat for fact in self._known.values() for caveat in fact.caveats}
        text = found.to_text(told)
        self._known |= {fact.id: fact for fact in found.facts}
        if len(text) > _LONGEST_RESULT:
            text = f"{text[:_LONGEST_RESULT]} … (cut; ask for less with limit)"
        return text

    def _submitted(self, call: ToolCall) -> Filled | str:
        """The answer, or what is wrong with it."""
        try:
            given = checked(Submission, _arguments(call))
        except ProfilerError as error:
            return str(error)
        if found := self._check.complaints(given, self._known):
            return "; ".join(found[:6])
        return self._check.fill(given, self._known)

    def _accepted(self, question: str, filled: Filled, asked: "_Asked") -> Answered:
        for request, text in asked.requests:
            self.llm.keep(request, text)
        self.log.append({"answer": filled.text, "missing": filled.missing})
        if not filled.sentences:
            raise Undecided(f"the results do not answer it; missing: {filled.missing}")
        cited = "\n".join(f"{{{fact.id}}} {fact.what}: {fact.stated}" for fact in filled.facts)
        before = self._opened_by(question)
        self._history = (*before, Turn(f"{' '.join(filled.sentences)}\n{cited}"))
        author = f"{self.llm.name}, each number a fact of the results"
        return Answered(question, filled, author, asked.usage, asked.replies, asked.calls)


@dataclass
class _Asked:
    """How far one question has come.

    Attributes:
        turns: the conversation since it began.
        started: when the question was asked, by the clock.
        given: the calls that have given facts.
        requests: every request, with the reply as it is kept once an answer is accepted.
        complaint: what was wrong last.
    """

    turns: list[Turn]
    started: float
    usage: Usage = field(default_factory=Usage)
    replies: int = 0
    calls: int = 0
    submitted: int = 0
    given: set[str] = field(default_factory=set)
    requests: list[tuple[Request, str]] = field(default_factory=list)
    complaint: str = ""

    def told(self, result: str) -> None:
        """Add what a call of the last turn gave."""
        turn = self.turns[-1]
        self.turns[-1] = replace(turn, results=(*turn.results, result))


def _arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call, from whatever JSON a model wrote.

    Raises:
        UsageError: there is no object in it.
    """
    text = _decoded(call.arguments)
    found = json_objects(text)
    if not found:
        if text in ("", "null", "[]"):
            return {}
        raise UsageError(f"the arguments of {call.name} are no JSON object: {text[:80]!r}")
    return found[0]


def _decoded(arguments: str) -> str:
    """Arguments as JSON; some models write it as a string within JSON."""
    try:
        inner = json.loads(arguments)
    except ValueError:
        return arguments.strip()
    return inner if isinstance(inner, str) else arguments.strip()


def _calls_of(reply: Reply) -> Iterator[ToolCall]:
    """The calls of a reply, in whatever way it asks for them.

    Some servers glue the arguments of parallel calls together; each object is a call then. Some
    models write the answer itself, without the call.
    """
    asked = reply.calls or tuple(actions(reply.text))
    for call in asked:
        several = json_objects(_decoded(call.arguments))
        if len(several) > 1:
            for each in several:
                yield ToolCall(call.name, json.dumps(each, ensure_ascii=False, default=str))
        else:
            yield call
    if not asked:
        for found in json_objects(reply.text):
            if "sentences" in found or "missing" in found:
                yield ToolCall(SUBMIT, json.dumps(found, ensure_ascii=False, default=str))
                return


def _kept_text(reply: Reply, said: tuple[ToolCall, ...]) -> str:
    return "\n".join(map(action_text, said)) if said else reply.text


def _why_nothing(reply: Reply) -> str:
    if reply.truncated:
        return "the reply was cut at the longest length; be shorter"
    if not without_thoughts(reply.text):
        return "the reply was empty"
    return "the reply called no tool"


def _reply_record(reply: Reply, said: tuple[ToolCall, ...]) -> dict[str, Any]:
    calls = [{"tool": call.name, "arguments": call.arguments} for call in said]
    return {"reply": reply.text, "calls": calls, "usage": reply.usage.to_json()}


def _signature(tool: Tool) -> str:
    """The arguments in short, as a function of Python has them."""
    needed = tool.parameters.get("required", ())
    return ", ".join(
        name
        if name in needed
        else f"{name}={json.dumps(each.get('default'), ensure_ascii=False)}"
        if "enum" not in each
        else f"{name}={'|'.join(map(str, each['enum']))}"
        for name, each in tool.parameters["properties"].items()
    )


def _action_schema(tools: tuple[Tool, ...]) -> Mapping[str, Any]:
    """JSON schema of a call, for a server that takes schemas and no tools."""
    return {
        "type": "object",
        "anyOf": [
            {
                "type": "object",
                "properties": {"tool": {"const": tool.name}, "arguments": tool.parameters},
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            }
            for tool in tools
        ],
    }
