"""Trees → text that reads back as the same tree. ASCII, one spelling of each connective."""

import json
from collections.abc import Iterable

from profiler.spec.language.tokens import KEYWORDS, WORD
from profiler.spec.language.tree import (
    CLASSES,
    CONCEPTS,
    And,
    Entry,
    ForEach,
    Formula,
    ForSome,
    HasConcept,
    Implies,
    Not,
    Or,
    Predicts,
    Requirement,
    Spec,
    SpecFile,
    Stronger,
)

_BINDS = {ForEach: 0, ForSome: 0, Implies: 1, Or: 2, And: 3}
"""How closely a connective binds; atoms and ``not`` bind closest."""
_CLOSEST = 4


def name(text: str) -> str:
    """A name as written in a file: in quotes where it has to be.

    >>> name("floppy-ears"), name("polar bear"), name("set")
    ('floppy-ears', '"polar bear"', '"set"')
    """
    plain = WORD.fullmatch(text) and text not in KEYWORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def members(over: str | tuple[str, ...]) -> str:
    """A set as written: its name, or its members in braces."""
    if isinstance(over, tuple):
        return f"{{{', '.join(map(name, over))}}}"
    return over if over in (CLASSES, CONCEPTS) else name(over)


def written(root: Formula) -> str:
    """A formula as text.

    >>> written(Implies(Predicts("cat"), Or((Stronger("ears", "wheels"), Not(HasConcept("text"))))))
    'predict(x, cat) => >(x, ears, wheels) or not hasCon(x, text)'
    """
    done: list[str] = []
    todo: list[str | Formula] = [root]
    while todo:
        piece = todo.pop()
        if isinstance(piece, str):
            done.append(piece)
        else:
            todo.extend(reversed(list(_pieces(piece))))
    return "".join(done)


def _pieces(node: Formula) -> Iterable[str | Formula]:
    """What a formula is written with; its parts still to be written."""
    if isinstance(node, Stronger):
        yield f">(x, {name(node.stronger)}, {name(node.weaker)})"
    elif isinstance(node, Predicts):
        yield f"predict(x, {name(node.label)})"
    elif isinstance(node, HasConcept):
        yield f"hasCon(x, {name(node.concept)})"
    elif isinstance(node, Not):
        yield "not "
        yield from _enclosed(node.of, _CLOSEST)
    elif isinstance(node, And | Or):
        for place, part in enumerate(node.of):
            if place:
                yield " and " if isinstance(node, And) else " or "
            yield from _enclosed(part, _BINDS[type(node)] + 1)
    elif isinstance(node, Implies):
        yield from _enclosed(node.premise, _BINDS[Implies] + 1)
        yield " => "
        yield from _enclosed(node.conclusion, _BINDS[Implies])
    elif isinstance(node, ForEach | ForSome):
        yield "for " if isinstance(node, ForEach) else "some "
        yield f"{name(node.variable)} in {members(node.over)}"
        body = node.body
        # for c in s: for k in t: …  is written  for c in s, k in t: …
        while isinstance(body, ForEach | ForSome) and type(body) is type(node):
            yield f", {name(body.variable)} in {members(body.over)}"
            body = body.body
        yield ": "
        yield body
    else:
        raise TypeError(f"no formula: {type(node).__name__}")


def _enclosed(part: Formula, needed: int) -> Iterable[str | Formula]:
    if _BINDS.get(type(part), _CLOSEST) >= needed:
        return (part,)
    return ("(", part, ")")


def written_requirement(requirement: Requirement) -> str:
    """``require rate >= 0.95``."""
    return f"require {requirement.measure} >= {requirement.bound!r}"


def written_spec(spec: Spec) -> str:
    """A spec, over several lines."""
    title = "" if spec.title is None else f" {json.dumps(spec.title, ensure_ascii=False)}"
    lines = [str(spec.formula), *map(written_requirement, spec.requirements)]
    return "\n    ".join([f"spec {name(spec.name)}{title}:", *lines])


def written_file(file: SpecFile) -> str:
    """Declarations first, then the specs."""
    declared = [
        f"model {name(file.model)}" if file.model is not None else "",
        _entries(CLASSES, file.classes),
        _entries(CONCEPTS, file.concepts),
        *(f"set {name(each.name)} = {members(each.members)}" for each in file.sets),
    ]
    head = "\n".join(filter(None, declared))
    return "\n\n".join(filter(None, [head, *map(written_spec, file.specs)])) + "\n"


def _entries(word: str, entries: Iterable[Entry]) -> str:
    texts = [
        name(each.name)
        + ("" if each.caption is None else f" = {json.dumps(each.caption, ensure_ascii=False)}")
        for each in entries
    ]
    return f"{word} {', '.join(texts)}" if texts else ""
