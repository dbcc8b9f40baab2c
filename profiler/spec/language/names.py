"""What names mean: sets, variables, classes and concepts; and formulas without quantifiers."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NoReturn

from profiler.spec.language.tree import (
    CLASSES,
    CONCEPTS,
    And,
    ForEach,
    Formula,
    ForSome,
    HasConcept,
    Or,
    Predicts,
    Spec,
    SpecFile,
    Stronger,
    fold,
    rebuilt,
)

MOST_NODES = 200_000
"""Connectives and atoms of a spec after its sets were written out."""


def check(
    file: SpecFile,
    classes: Sequence[str] | None = None,
    concepts: Sequence[str] | None = None,
) -> None:
    """Refuse what names no class, concept or set; nothing but the file is needed.

    A name may be a class and a concept: ``predict`` wants the one, every other atom the other.

    A file that declares its classes may name no others, and so for concepts. Where it declares
    none, those given count; where none are given either, any name will do for now.

    Args:
        file: as read.
        classes: of the model, where they are known already.
        concepts: known besides those declared.

    Raises:
        SpecError: at the first unknown name, with near ones.
    """
    known = _Known(file, classes, concepts)
    for each in file.sets:
        for member in each.members:
            known.member(member, each.at)
    for spec in file.specs:
        known.formula(spec.formula)


class _Known:
    """What names may mean."""

    def __init__(
        self, file: SpecFile, classes: Sequence[str] | None, concepts: Sequence[str] | None
    ) -> None:
        self.file = file
        self.classes = [each.name for each in file.classes] or classes
        self.concepts = [each.name for each in file.concepts] or concepts
        self.sets = {
            CLASSES: tuple(self.classes or ()),
            CONCEPTS: tuple(self.concepts or ()),
            **{each.name: each.members for each in file.sets},
        }

    def fail(self, message: str, at: int) -> NoReturn:
        raise self.file.error(message, at)

    def unknown(self, what: str, name: str, known: Iterable[str], at: int) -> NoReturn:
        known = list(known)
        close = get_close_matches(name, known, n=5, cutoff=0.5)
        if close:
            hint = f"near names: {', '.join(close)}"
        elif len(known) <= 12:
            hint = f"known: {', '.join(known)}" if known else "none is declared"
        else:
            hint = "no known name is near"
        self.fail(f"unknown {what} {name!r}; {hint}", at)

    def member(self, name: str, at: int) -> None:
        if self.classes is None or self.concepts is None:
            return
        if name not in self.classes and name not in self.concepts:
            self.unknown("class or concept", name, [*self.classes, *self.concepts], at)

    def label(self, name: str, at: int) -> None:
        if self.classes is not None and name not in self.classes:
            if name in (self.concepts or ()):
                self.fail(f"{name!r} is a concept; predict(x, …) needs a class", at)
            self.unknown("class", name, self.classes, at)

    def concept(self, name: str, at: int) -> None:
        if self.concepts is not None and name not in self.concepts:
            if name in (self.classes or ()):
                self.fail(f"{name!r} is a class; a concept is needed here", at)
            self.unknown("concept", name, self.concepts, at)

    def formula(self, root: Formula) -> None:
        """Check every atom; what a variable stands for is checked member by member.

        A variable reaches over the body of its quantifier. Names under each node are kept on a
        stack of what was bound on the way to it.
        """
        todo: list[tuple[Formula, dict[str, tuple[str, ...]]]] = [(root, {})]
        while todo:
            node, bound = todo.pop()
            if isinstance(node, ForEach | ForSome):
                self.variable(node, bound)
                bound = {**bound, node.variable: self.members(node)}
            elif isinstance(node, Predicts):
                for name in bound.get(node.label, (node.label,)):
                    self.label(name, node.at)
            elif isinstance(node, Stronger | HasConcept):
                for term in node.own:
                    for name in bound.get(term, (term,)):
                        self.concept(name, node.at)
                if isinstance(node, Stronger):
                    self.itself(node, bound)
            todo.extend((part, bound) for part in node.parts)

    def itself(self, node: Stronger, bound: dict[str, tuple[str, ...]]) -> None:
        """Refuse what compares a concept with itself, which would make it fail for every image."""
        weaker = bound.get(node.weaker, (node.weaker,))
        same = [name for name in bound.get(node.stronger, (node.stronger,)) if name in weaker]
        if same:
            both = "" if node.own == (same[0], same[0]) else ", which both sides can stand for"
            self.fail(f"{same[0]!r}{both}, is never stronger than itself", node.at)

    def variable(self, node: ForEach | ForSome, bound: dict[str, tuple[str, ...]]) -> None:
        name = node.variable
        if name in bound:
            self.fail(f"variable {name!r} is bound already, further out", node.at)
        if name in (self.classes or ()) or name in (self.concepts or ()):
            self.fail(f"variable {name!r} has the name of a class or concept", node.at)

    def members(self, node: ForEach | ForSome) -> tuple[str, ...]:
        if isinstance(node.over, tuple):
            for name in node.over:
                self.member(name, node.at)
            return node.over
        if node.over not in self.sets:
            self.unknown("set", node.over, self.sets, node.at)
        if not self.sets[node.over]:
            self.fail(
                f"the set {node.over!r} has no members: the file declares none, and none are given",
                node.at,
            )
        return self.sets[node.over]


def expand(
    spec: Spec,
    file: SpecFile,
    classes: Sequence[str] | None = None,
    concepts: Sequence[str] | None = None,
) -> Formula:
    """A spec's formula without quantifiers: over each set, a conjunction or a disjunction.

    Args:
        spec: of the file.
        file: passed :func:`check` with the same classes and concepts.
        classes: of the model, for a file that declares none.
        concepts: likewise.

    Raises:
        SpecError: it grows beyond :data:`MOST_NODES`.

    >>> from profiler.spec.language.parser import parse
    >>> file = parse("set s = {a, b}  spec one: for c in s: predict(x, c) => >(x, c, d)")
    >>> str(expand(file.specs[0], file))
    '(predict(x, a) => >(x, a, d)) and (predict(x, b) => >(x, b, d))'
    """
    known = _Known(file, classes, concepts)

    def grown(node: Formula, made: list[tuple[Formula, int]]) -> tuple[Formula, int]:
        size = 1 + sum(each for _, each in made)
        if not isinstance(node, ForEach | ForSome):
            return rebuilt(node, [each for each, _ in made]), size
        over = known.members(node)
        size = 1 + (size - 1) * len(over)
        if size > MOST_NODES:
            raise file.error(
                f"spec {spec.name!r}: written out for every member of its sets it has more than "
                f"{MOST_NODES:,} atoms and connectives",
                node.at,
            )
        bodies = tuple(_replaced(made[0][0], node.variable, member) for member in over)
        if len(bodies) == 1:
            return bodies[0], size
        return (And if isinstance(node, ForEach) else Or)(bodies), size

    return fold(spec.formula, grown)[0]


def _replaced(body: Formula, variable: str, member: str) -> Formula:
    """The body, where the variable is the member. Nothing inside binds it anew any more."""

    def name(term: str) -> str:
        return member if term == variable else term

    def made(node: Formula, parts: list[Formula]) -> Formula:
        if isinstance(node, Predicts):
            return Predicts(name(node.label), at=node.at)
        if isinstance(node, Stronger):
            return Stronger(name(node.stronger), name(node.weaker), at=node.at)
        if isinstance(node, HasConcept):
            return HasConcept(name(node.concept), at=node.at)
        return rebuilt(node, parts)

    return fold(body, made)


def labels_in(formula: Formula) -> tuple[str, ...]:
    """Classes that an expanded formula predicts, in the order of appearance."""
    found = (node.label for node in formula.nodes() if isinstance(node, Predicts))
    return tuple(dict.fromkeys(found))


def concepts_in(formula: Formula) -> tuple[str, ...]:
    """Concepts that an expanded formula names, in the order of appearance."""
    found = (
        name
        for node in formula.nodes()
        if isinstance(node, Stronger | HasConcept)
        for name in node.own
    )
    return tuple(dict.fromkeys(found))
