"""Reading what a model wrote: JSON in whatever wrapping, and the check against the question."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from profiler.llm.base import ToolCall

_BEGINS = r"(?:<(?:seed:)?(?:think|thinking|thought|reasoning)>|\[THINK\])"
_ENDS = (
    r"(?:</(?:seed:)?(?:think|thinking|thought|reasoning)>|\[/THINK\]"
    r"|<\|channel\|>final<\|message\|>)"
)
_WHOLE = re.compile(rf"{_BEGINS}.*?{_ENDS}", re.DOTALL | re.IGNORECASE)
# Begun by the template, so that only its end is there; or cut off before its end.
_HALF = re.compile(rf"\A.*{_ENDS}|{_BEGINS}.*\Z", re.DOTALL | re.IGNORECASE)
_TOKEN = re.compile(r"<\|[a-z_]+\|>")
_STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)


@dataclass(frozen=True)
class Repeated:
    """The values of a name that a JSON object gives more than once."""

    values: tuple[Any, ...]


def json_objects(text: str) -> list[dict[str, Any]]:
    r"""Find the JSON objects in a text, outermost ones only, in order.

    Tolerates what models put around and into JSON: code fences, prose, a visible train of
    thought, trailing commas.

    >>> json_objects('Sure! ```json\n{"1": "red, or }", "2": ["a",],}\n``` Anything else?')
    [{'1': 'red, or }', '2': ['a']}]
    >>> json_objects('{"1": "a", "1": "b"}')
    [{'1': Repeated(values=('a', 'b'))}]
    >>> json_objects('{"1": "a", "2')
    []
    """
    return list(_scan(without_thoughts(text)))


def without_thoughts(text: str) -> str:
    """What a model says, without the train of thought that some write before it.

    >>> without_thoughts("The user wants red … {}</think>red"), without_thoughts("<think>Hm, red")
    ('red', '')
    >>> without_thoughts("<think>Hm.</think>red [THINK]or not[/THINK]")
    'red'
    """
    return _TOKEN.sub("", _HALF.sub("", _WHOLE.sub("", text))).strip()


def _scan(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(object_pairs_hook=_object, strict=False)
    while (start := text.find("{")) >= 0:
        text = text[start:]
        for candidate in (text, _STRING_OR_COMMA.sub(lambda match: match[1] or "", text)):
            try:
                value, end = decoder.raw_decode(candidate)
            except (ValueError, RecursionError):
                continue
            yield value
            text = candidate[end:]
            break
        else:
            text = text[1:]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, list[Any]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: v[0] if len(v) == 1 else Repeated(tuple(v)) for name, v in values.items()}


def actions(text: str) -> list[ToolCall]:
    r"""Find the calls that a model wrote into its answer as JSON, in order.

    >>> actions('I look first. {"tool": "unit", "arguments": {"unit": 3}}')
    [ToolCall(name='unit', arguments='{"unit": 3}')]
    >>> actions('[{"name": "a", "parameters": {}}, {"function": {"name": "b", "arguments": "{}"}}]')
    [ToolCall(name='a', arguments='{}'), ToolCall(name='b', arguments='{}')]
    >>> actions('{"sentences": []}'), actions('{"tool": "a", "argum')
    ([], [])
    """
    return [call for found in json_objects(text) for call in _calls_in(found)]


def _calls_in(found: Mapping[str, Any]) -> Iterator[ToolCall]:
    match found:
        case {"tool_calls": [*several]} | {"actions": [*several]}:
            for each in several:
                yield from _calls_in(each) if isinstance(each, dict) else ()
        case {"function": dict(inner)}:
            yield from _calls_in(inner)
        case {"tool": str(name), **rest} | {"name": str(name), **rest}:
            given: Any = next((rest[key] for key in _ARGUMENTS if key in rest), {})
            yield ToolCall(name, given if isinstance(given, str) else _json(given))


_ARGUMENTS = ("arguments", "parameters", "args", "input")
"""What models call the arguments of a call."""


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class CheckedAnswer:
    """What of an answer can be used, and what is wrong with the rest."""

    accepted: Mapping[str, str] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()

    @property
    def complaint(self) -> str:
        """The first few complaints as one text."""
        shown = " ".join(self.complaints[:8])
        left = len(self.complaints) - 8
        return shown if left <= 0 else f"{shown} And {left} more of this kind."


def check_sorting(text: str, asked: Collection[str], categories: Collection[str]) -> CheckedAnswer:
    """Check an answer that gives each asked number one category.

    A number that was not asked spoils the whole answer: a model that counts from 0, or slips by
    a line, gives plausible categories to the wrong concepts.

    >>> check = check_sorting('{"1": "Color", "2": "colour"}', ["1", "2", "3"], ["color", "object"])
    >>> check.accepted
    {'1': 'color'}
    >>> check.complaint
    'The number 2 got "colour", which is not one of the categories. No category for the number 3.'
    >>> check_sorting('{"0": "color", "1": "object"}', ["1", "2"], ["color", "object"]).complaint
    'The reply has numbers that were not asked: "0".'
    """
    objects = [_unwrapped(found, asked) for found in json_objects(text)]
    answers = [found for found in objects if any(number in found for number in asked)]
    if not answers and objects:
        answers = objects[:1]
    if not answers:
        return CheckedAnswer(complaints=("There was no complete JSON object in it.",))
    answer = answers[-1]
    if any(other != answer for other in answers):
        return CheckedAnswer(complaints=("It held several JSON objects that differ.",))
    if invented := [number for number in answer if number not in asked]:
        listed = ", ".join(_shown(number) for number in invented[:5])
        return CheckedAnswer(complaints=(f"The reply has numbers that were not asked: {listed}.",))
    return _check_each(answer, asked, {name.strip().casefold(): name for name in categories})


def _check_each(
    answer: Mapping[str, Any], asked: Collection[str], names: Mapping[str, str]
) -> CheckedAnswer:
    accepted: dict[str, str] = {}
    complaints: list[str] = []
    for number in asked:
        given = answer.get(number)
        if given is None:
            complaints.append(f"No category for the number {number}.")
        elif isinstance(given, Repeated):
            complaints.append(f"The number {number} is answered more than once.")
        elif isinstance(given, str) and given.strip().casefold() in names:
            accepted[number] = names[given.strip().casefold()]
        else:
            what = "which is not one of the categories"
            complaints.append(f"The number {number} got {_shown(given)}, {what}.")
    return CheckedAnswer(accepted, tuple(complaints))


def _unwrapped(found: dict[str, Any], asked: Collection[str]) -> dict[str, Any]:
    """Look through one wrapper such as ``{"answer": {…}}``."""
    if len(found) == 1:
        (name, inner), *_ = found.items()
        if name not in asked and isinstance(inner, dict):
            return inner
    return found


def _shown(value: object) -> str:
    """Show a value as short JSON; a model's own words come back to it as data only."""
    text = _json(value)
    return text if len(text) <= 60 else text[:59] + "…"
