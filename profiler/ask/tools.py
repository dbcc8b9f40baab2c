"""The tools: pure functions of open results, with typed arguments and typed results.

A language model calls them in :mod:`profiler.ask.agent`, an assistant over MCP, and a person with
``profiler ask RUN --tool NAME argument=value``. They read what a story has written, never write,
and never run a network, except that a search by meaning embeds words.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiler.ask import comparisons, profiles, verdicts
from profiler.ask.facts import Fact, FactList, ToolResult
from profiler.ask.results import Kind, OpenResult, OpenResults
from profiler.errors import InputError, UnknownNameError, UsageError, first_line
from profiler.llm.base import Tool
from profiler.profile.find import Measure

MOST = 20
"""Facts of one result, at most, beside those that come before the list."""
A = TypeVar("A", bound=BaseModel)

SUBMIT = "submit"
_USUAL = 10
_LONGEST = 200
"""Characters of an argument that is text."""
_Text = Field(default="", max_length=_LONGEST)


class Arguments(BaseModel):
    """What a tool may be called with."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _OfResult(Arguments):
    run: str = Field("", max_length=8, description="R1, R2 …; the first that fits if empty")


class _Paged(_OfResult):
    start: int = Field(0, ge=0)
    limit: int = Field(_USUAL, ge=1, le=MOST)


class _Describe(Arguments):
    start: int = Field(0, ge=0)
    limit: int = Field(MOST, ge=1, le=MOST)


class _LayerProfile(_Paged):
    layers: str = Field("*", max_length=_LONGEST, description="name or pattern such as blocks.*")
    by: profiles.View = Field("interpretable", description="driver: factors that cause variance")


class _FindUnits(_Paged):
    query: str = Field(min_length=1, max_length=_LONGEST)
    layer: str = _Text
    how: Literal["word", "meaning"] = "word"
    trusted_only: bool = True


class _Unit(_OfResult):
    layer: str = Field(min_length=1, max_length=_LONGEST)
    unit: int = Field(ge=0)


class _WhatResponds(_Paged):
    concept: str = Field(min_length=1, max_length=_LONGEST)
    layer: str = _Text
    by: Measure = Field(
        "score", description="score: five best words; weight: explanation; effect: experiment"
    )


class _OfLayer(_Paged):
    layer: str = _Text


class _ChangedWords(_OfLayer):
    direction: comparisons.Direction = "gained"


class _ChangedUnits(_OfLayer):
    fate: comparisons.Fate = "changed"


class _Confusions(_Paged):
    true: str = _Text
    predicted: str = _Text


class _WhyConfused(_Paged):
    true: str = Field(min_length=1, max_length=_LONGEST)
    predicted: str = Field(min_length=1, max_length=_LONGEST)


class _Guard(_Paged):
    condition: str = _Text


class _Check(_Paged):
    spec: str = _Text


class Submission(Arguments):
    """An answer, to be checked and filled in.

    Attributes:
        sentences: each with at least one place ``{id}`` for a fact, and no number of its own.
        missing: what the facts do not say, where they do not answer the question.
    """

    sentences: tuple[str, ...] = Field((), max_length=12)
    missing: str = Field("", max_length=300)


@dataclass(frozen=True)
class ToolBox:
    """The tools on some open results.

    Attributes:
        results: that are open.
        encoder: what compares words of a result in meaning.
    """

    results: OpenResults
    encoder: profiles.Encoder

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """What a tool gives; the same arguments always give the same.

        Raises:
            UnknownNameError: there is no such tool, layer, class or result.
            UsageError: an argument is missing or out of its bounds.
            InputError: a result is damaged.
        """
        if name not in TOOLS:
            raise UnknownNameError("tool", name, TOOLS)
        kind = TOOLS[name]
        given = checked(kind.arguments, arguments)
        try:
            return self._page(name, given, kind.call(self, given))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            what = first_line(error)
            raise InputError(f"a result is damaged where {name} reads it: {what}") from error

    def fitting(self) -> list[str]:
        """The tools for which some result is open."""
        kinds = {each.kind for each in self.results}
        return [name for name, tool in TOOLS.items() if tool.kind in (None, *kinds)]

    def _page(self, name: str, given: Arguments, found: FactList) -> ToolResult:
        note = found.note
        start, limit = getattr(given, "start", 0), getattr(given, "limit", len(found.rows))
        rows = found.rows[start : start + limit]
        made = (*(found.heads if not start else ()), *(make() for make in rows))
        more = start + limit if start + limit < len(found.rows) else None
        if not made and not note:
            note = "Nothing was found." if not start else f"The list ends before {start}."
        kept = given.model_dump(exclude_defaults=True)
        return ToolResult(
            facts=tuple(self._signed(fact, name, kept) for fact in made), note=note, next=more
        )

    def _signed(self, fact: Fact, name: str, given: Mapping[str, Any]) -> Fact:
        result = next(each for each in self.results if each.id == fact.run)
        # On its own, a result is R1.
        words = [f"{key}={value}" for key, value in given.items() if key != "run"]
        folder = str(result.folder)
        command = shlex.join(["profiler", "ask", folder, "--tool", name, *words])
        return fact.model_copy(update={"tool": name, "arguments": given, "command": command})


def checked(kind: type[A], arguments: Mapping[str, Any]) -> A:
    """Arguments as a model gave them, checked.

    Raises:
        UsageError: one is missing, unknown or out of its bounds; in a sentence a model can act on.
    """
    try:
        return kind.model_validate(arguments)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, each['loc'])) or 'the arguments'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)[:3]
        ]
        known = ", ".join(kind.model_fields) or "none"
        raise UsageError(f"{'; '.join(wrong)}; arguments are: {known}") from error


# --- what each tool does -----------------------------------------------------------------------


def _describe(box: ToolBox, _: _Describe) -> FactList:
    """What is open: networks, layers, images, VLM and what it cannot see, and overall counts."""
    makers: Mapping[Kind, Callable[[OpenResult], Iterable[Fact]]] = {
        "profile": profiles.describe,
        "comparison": comparisons.describe,
        "diagnosis": verdicts.diagnosis,
        "guard": lambda result: verdicts.guard(result, None).heads,
        "check": lambda result: verdicts.check(result, None).heads,
    }
    return _listed(fact for result in box.results for fact in makers[result.kind](result))


def _layer_profile(box: ToolBox, given: _LayerProfile) -> FactList:
    """Layers of a profile: interpretable units, categories, frequent labels, words, or drivers."""
    result = box.results.of("profile", given.run)
    found = _listed(profiles.layers(result, given.layers, given.by))
    return found if found.rows else FactList(note=profiles.without_view(result, given.by))


def _find_units(box: ToolBox, given: _FindUnits) -> FactList:
    """Units of a profile whose label or explanation holds a word, or words near it in meaning."""
    result = box.results.of("profile", given.run)
    return profiles.units_found(
        result, given.query, given.layer or None, given.how, given.trusted_only, box.encoder
    )


def _unit(box: ToolBox, given: _Unit) -> FactList:
    """Everything on one unit of a profile: words, scores, explanation, drivers, images."""
    result = box.results.of("profile", given.run)
    return _listed(profiles.unit(result, given.layer, given.unit))


def _what_responds(box: ToolBox, given: _WhatResponds) -> FactList:
    """Units ranked by how they respond to one concept, whether or not it is their label."""
    result = box.results.of("profile", given.run)
    return profiles.responses(result, given.concept, given.layer or None, given.by)


def _compare_summary(box: ToolBox, given: _OfLayer) -> FactList:
    """What changed between runs: shares of units, explanations, drivers; the largest first."""
    result = box.results.of("comparison", given.run)
    return comparisons.summary(result, given.layer or None)


def _changed_words(box: ToolBox, given: _ChangedWords) -> FactList:
    """Words that trusted labels gained, lost, or carry in other layers, between runs."""
    result = box.results.of("comparison", given.run)
    return comparisons.changed_words(result, given.layer or None, given.direction)


def _changed_units(box: ToolBox, given: _ChangedUnits) -> FactList:
    """Matched units of two runs by what became of their labels."""
    result = box.results.of("comparison", given.run)
    return comparisons.changed_units(result, given.layer or None, given.fate)


def _confusions(box: ToolBox, given: _Confusions) -> FactList:
    """Which classes a classifier takes for which, of how many images."""
    result = box.results.of("diagnosis", given.run)
    return verdicts.confusions(result, given.true or None, given.predicted or None)


def _why_confused(box: ToolBox, given: _WhyConfused) -> FactList:
    """Why one class is taken for another: encoder or head, and concepts that differ."""
    result = box.results.of("diagnosis", given.run)
    return verdicts.why(result, given.true, given.predicted)


def _guard_numbers(box: ToolBox, given: _Guard) -> FactList:
    """How well a guard flags incorrect predictions, by condition and detector."""
    return verdicts.guard(box.results.of("guard", given.run), given.condition or None)


def _check_results(box: ToolBox, given: _Check) -> FactList:
    """Which specs hold, fail or are undecided; of one spec, its rates and regions."""
    return verdicts.check(box.results.of("check", given.run), given.spec or None)


@dataclass(frozen=True)
class ToolKind:
    """A tool.

    Attributes:
        kind: of result that it reads; None: any.
        call: the function.
        arguments: its arguments.
    """

    kind: Kind | None
    call: Callable[[ToolBox, Any], FactList]
    arguments: type[Arguments]

    @property
    def description(self) -> str:
        """What it gives, for a model."""
        return (self.call.__doc__ or "").strip()


TOOLS: Mapping[str, ToolKind] = {
    "describe_runs": ToolKind(None, _describe, _Describe),
    "layer_profile": ToolKind("profile", _layer_profile, _LayerProfile),
    "find_units": ToolKind("profile", _find_units, _FindUnits),
    "unit": ToolKind("profile", _unit, _Unit),
    "what_responds": ToolKind("profile", _what_responds, _WhatResponds),
    "compare_summary": ToolKind("comparison", _compare_summary, _OfLayer),
    "changed_words": ToolKind("comparison", _changed_words, _ChangedWords),
    "changed_units": ToolKind("comparison", _changed_units, _ChangedUnits),
    "confusions": ToolKind("diagnosis", _confusions, _Confusions),
    "why_confused": ToolKind("diagnosis", _why_confused, _WhyConfused),
    "guard_numbers": ToolKind("guard", _guard_numbers, _Guard),
    "check_results": ToolKind("check", _check_results, _Check),
}
"""By name; :data:`SUBMIT` is no function of the results, and is the agent's own."""


def schema(kind: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of some arguments, without what says nothing to a model."""
    found = kind.model_json_schema()
    found.pop("title", None)
    found.pop("description", None)
    for each in found["properties"].values():
        each.pop("title", None)
    return found


def described(box: ToolBox) -> tuple[Tool, ...]:
    """The tools that fit, as a model is told of them, and last how it submits an answer.

    Which result is read is an argument only where there are several of the kind.
    """
    tools = []
    for name in box.fitting():
        found = schema(TOOLS[name].arguments)
        fitting = [each.id for each in box.results if each.kind == TOOLS[name].kind]
        if len(fitting) > 1:
            found["properties"]["run"] = {"type": "string", "enum": fitting}
        else:
            found["properties"].pop("run", None)
        tools.append(Tool(name, TOOLS[name].description, found))
    answer = "Gives the answer: sentences with a place {id} for each fact."
    return (*tools, Tool(SUBMIT, answer, schema(Submission)))


def _listed(facts: Iterable[Fact]) -> FactList:
    return FactList((), [partial(_same, fact) for fact in facts])


def _same(fact: Fact) -> Fact:
    return fact
