"""Questions matched to tools by their words, where no language model is asked.

Names are taken from the question as they stand in the open results: layers, classes, concepts and
unit numbers. What is listed then may or may not answer the question; nothing is made of it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profiler.ask.results import OpenResult
from profiler.ask.tools import ToolBox
from profiler.llm.checks import FIRST_MARK, marked
from profiler.profile.drivers import usual_name

_CHANGE = r"chang|differ|fine-?tun|between|new\b|gone|lost|gain|before|after|move|compar"
_CONFUSED = r"confus|taken for|mistak|wrong|misclass|error|incorrect|accura|predict|class"
_GUARD = r"guard|flag|auroc|detect|attack|adversar|alarm|corrupt|coverage|pass"
_SPEC = r"spec|hold|prove|proof|violat|verif|check|fail|region"
_DRIVE = r"driv|caus|factor|experiment|scene"
_RESPOND = r"respond|react|encod|which units|what units|activat|look for|see\b"
_EXPLAINED = r"explain|predict|range|mean r\b"
_CATEGORY = r"categor|object|colou?r|texture|material|scene|part"
_LABEL = r"label|word|concept|frequent"
_LAYERS = r"layer|interpretab|dead|trusted|how many|share|profile"
_EFFECT = r"caus|experiment|driv"
_MOST_CONCEPTS = 2


@dataclass(frozen=True)
class SuggestedCall:
    """A call that the words of a question suggest, and how strongly."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weight: int = 1


def match(question: str, box: ToolBox) -> list[SuggestedCall]:
    """The calls that the words of a question suggest most strongly.

    Args:
        question: as it was asked.
        box: the tools on what is open.
    """
    found: list[SuggestedCall] = []
    for result in box.results:
        found += _MATCHERS[result.kind](result, question)
    if not found:
        found = [SuggestedCall("describe_runs")]
    strongest = max(each.weight for each in found)
    return [each for each in found if each.weight == strongest]


def _of_profile(result: OpenResult, question: str) -> Iterator[SuggestedCall]:
    run = {"run": result.id}
    layers = _named(question, result.layers)
    where = {"layer": layers[0]} if layers else {}
    unit = re.search(r"\bunit\s+(\d+)", question, re.IGNORECASE)
    if unit and layers:
        yield SuggestedCall("unit", {**run, **where, "unit": int(unit[1])}, 3)
        return
    concepts = _concepts(question, result)
    weight = 2 if _says(question, _RESPOND) else 1
    for concept in concepts:
        by = {"by": "effect"} if _says(question, _EFFECT) and result.factors else {}
        yield SuggestedCall("what_responds", {**run, **where, "concept": concept, **by}, weight)
        if not by:
            named = {**run, **where, "concept": concept, "by": "weight"}
            yield SuggestedCall("what_responds", named, weight)
    pattern = {"layers": layers[0]} if layers else {}
    views = [
        view
        for view, words in (
            ("driver", _DRIVE), ("explained", _EXPLAINED), ("category", _CATEGORY),
            ("label", _LABEL),
        )
        if _says(question, words)
    ]  # fmt: skip
    if not views and not concepts and (layers or _says(question, _LAYERS)):
        views = ["interpretable"]
    if not concepts:
        for view in views:
            yield SuggestedCall("layer_profile", {**run, **pattern, "by": view})
    if not concepts and not views and _says(question, _RESPOND):
        yield SuggestedCall("layer_profile", {**run, **pattern, "by": "label"})


def _of_comparison(result: OpenResult, question: str) -> Iterator[SuggestedCall]:
    run = {"run": result.id}
    layers = _named(question, result.layers)
    where = {"layer": layers[0]} if layers else {}
    if not _says(question, _CHANGE):
        return
    if _says(question, r"unit"):
        yield SuggestedCall("changed_units", {**run, **where}, 2)
    gone, new = _says(question, r"gone|lost|los[et]"), _says(question, r"new\b|gain|appear")
    if gone or new or _says(question, r"word|label|concept"):
        for direction, wanted in (("gained", new or not gone), ("lost", gone or not new)):
            if wanted:
                yield SuggestedCall("changed_words", {**run, **where, "direction": direction}, 2)
    yield SuggestedCall("compare_summary", {**run, **where}, 2)


def _of_diagnosis(result: OpenResult, question: str) -> Iterator[SuggestedCall]:
    run = {"run": result.id}
    classes = _named(question, result.classes)
    if len(classes) > 1:
        yield SuggestedCall("why_confused", {**run, "true": classes[0], "predicted": classes[1]}, 3)
    elif classes:
        yield SuggestedCall("confusions", {**run, "true": classes[0]}, 2)
    elif _says(question, _CONFUSED):
        yield SuggestedCall("confusions", run, 2)


def _of_guard(result: OpenResult, question: str) -> Iterator[SuggestedCall]:
    if _says(question, _GUARD):
        yield SuggestedCall("guard_numbers", {"run": result.id}, 2)


def _of_check(result: OpenResult, question: str) -> Iterator[SuggestedCall]:
    specs = _named(question, [each["name"] for each in result.content["specs"]])
    if specs:
        yield SuggestedCall("check_results", {"run": result.id, "spec": specs[0]}, 3)
    elif _says(question, _SPEC):
        yield SuggestedCall("check_results", {"run": result.id}, 2)


_MATCHERS = {
    "profile": _of_profile,
    "comparison": _of_comparison,
    "diagnosis": _of_diagnosis,
    "guard": _of_guard,
    "check": _of_check,
}


def _says(question: str, words: str) -> bool:
    return re.search(words, question, re.IGNORECASE) is not None


def _named(question: str, known: Iterable[str]) -> list[str]:
    """The known names in a question, in the order in which they stand there."""
    names = sorted({name for name in known if name}, key=lambda name: (-len(name), name))
    read = marked(question, names)
    return list(dict.fromkeys(names[ord(c) - FIRST_MARK] for c in read if ord(c) >= FIRST_MARK))


def _concepts(question: str, result: OpenResult) -> Sequence[str]:
    """The concepts in a question that are no words about networks."""
    about = _ABOUT | {name.casefold() for name in result.layers}
    found = _named(question, (word for word in result.words if word.casefold() not in about))
    others = [word for word in re.findall(r"[^\W\d_]+", question.casefold()) if word not in about]
    found += [word for word in others if usual_name(word) != word]  # stripes, where it is striped
    return list(dict.fromkeys(found))[:_MOST_CONCEPTS]


_ABOUT = frozenset({
    "a", "an", "the", "of", "in", "to", "is", "are", "on", "for", "and", "or", "not", "what",
    "which", "who", "how", "many", "much", "why", "do", "does", "layer", "layers", "unit", "units",
    "network", "model", "class", "classes", "label", "labels", "word", "words", "concept",
    "concepts", "image", "images", "see", "sees", "color", "colour", "texture", "material",
    "object", "part", "scene", "explain", "run", "category",
})  # fmt: skip
"""Words that are about the results, where some concept set holds them as well."""
