"""The ways in which a formula can fail: its negation as a disjunction of conjunctions.

Each *way* is a conjunction of literals: rows that have to be positive, or at least not negative; a
class that has to be predicted; annotations. A formula holds on a region if no way is possible
there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Literal

from profiler.errors import Undecided
from profiler.spec.language.tree import (
    And,
    Formula,
    HasConcept,
    Implies,
    Not,
    Or,
    Predicts,
    Stronger,
)

MOST_WAYS = 20_000
"""Ways that are looked through; a formula with more stays undecided."""


@dataclass(frozen=True, order=True)
class Above:
    """One value lies above another: a row (high − low)·z > 0, or ≥ 0."""

    of: Literal["class", "concept"]
    high: str
    low: str
    strict: bool

    def denied(self) -> "Above":
        """It does not."""
        return Above(self.of, self.low, self.high, not self.strict)


@dataclass(frozen=True, order=True)
class Top:
    """A class is predicted: one row, not strict, against every other class."""

    label: str


@dataclass(frozen=True, order=True)
class Annotated:
    """An image has, or has not, an annotation; no row says which."""

    concept: str
    present: bool


Literals = frozenset[Above | Top | Annotated]


@dataclass(frozen=True)
class Way:
    """One way in which a formula can fail: all of these at once."""

    rows: tuple[Above, ...]
    tops: tuple[str, ...]
    annotated: tuple[Annotated, ...]

    @classmethod
    def of(cls, literals: Literals) -> "Way":
        """In a fixed order."""
        return cls(
            tuple(sorted(each for each in literals if isinstance(each, Above))),
            tuple(sorted(each.label for each in literals if isinstance(each, Top))),
            tuple(sorted(each for each in literals if isinstance(each, Annotated))),
        )


def ways_to_fail(formula: Formula, classes: tuple[str, ...]) -> tuple[Way, ...]:
    """All ways in which a formula can fail, in a fixed order; none if it cannot.

    Args:
        formula: without quantifiers.
        classes: all outputs of the classifier.

    Raises:
        Undecided: there are more than :data:`MOST_WAYS`.

    >>> from profiler.spec.language.parser import parse_formula
    >>> for way in ways_to_fail(parse_formula("predict(x, a) => >(x, p, q)"), ("a", "b")):
    ...     print(way.rows, way.tops)
    (Above(of='concept', high='q', low='p', strict=False),) ('a',)
    """
    # The formula is taken apart from the top, each part with whether it must hold or fail, and put
    # together from the leaves; nothing calls itself, however deep it is nested.
    done: list[list[Literals]] = []
    todo: list[tuple[Formula, bool, bool]] = [(formula, False, False)]
    while todo:
        node, holds, entered = todo.pop()
        if not node.parts:
            done.append(_literals(node, holds, classes))
            continue
        if not entered:
            todo.append((node, holds, True))
            todo.extend((part, how, False) for part, how in reversed(_signed(node, holds)))
            continue
        first = len(done) - len(node.parts)
        parts = done[first:]
        del done[first:]
        # For these to hold all their parts must, with the signs that they have.
        done.append(_joined(parts, isinstance(node, And | Not) == holds))
    return tuple(sorted({Way.of(each) for each in done[0]}, key=repr))


def _signed(node: Formula, holds: bool) -> list[tuple[Formula, bool]]:
    """Its parts, and whether each has to hold."""
    if isinstance(node, Not):
        return [(node.of, not holds)]
    if isinstance(node, Implies):
        return [(node.premise, not holds), (node.conclusion, holds)]
    if isinstance(node, And | Or):
        return [(part, holds) for part in node.of]
    raise TypeError(f"write {type(node).__name__} out first: profiler.spec.language.expand")


def _joined(parts: list[list[Literals]], conjunction: bool) -> list[Literals]:
    if len(parts) == 1:
        return parts[0]
    if not conjunction:
        return _bounded(each for part in parts for each in part)
    found = parts[0]
    for part in parts[1:]:
        if len(found) * len(part) > 50 * MOST_WAYS:
            raise _too_many()
        both = (one | other for one, other in product(found, part))
        found = _bounded(each for each in both if not _contradicts(each))
    return found


def _bounded(ways: Iterable[Literals]) -> list[Literals]:
    unique = list(dict.fromkeys(ways))
    if len(unique) > MOST_WAYS:
        raise _too_many()
    return unique


def _too_many() -> Undecided:
    return Undecided(f"the formula can fail in more than {MOST_WAYS:,} ways")


def _contradicts(literals: Literals) -> bool:
    """Whether it wants something and its opposite."""
    return any(
        (isinstance(each, Above) and each.denied() in literals)
        or (isinstance(each, Annotated) and Annotated(each.concept, not each.present) in literals)
        for each in literals
    )


def _literals(atom: Formula, holds: bool, classes: tuple[str, ...]) -> list[Literals]:
    if isinstance(atom, Stronger):
        above = Above("concept", atom.stronger, atom.weaker, strict=True)
        return [frozenset([above if holds else above.denied()])]
    if isinstance(atom, HasConcept):
        return [frozenset([Annotated(atom.concept, holds)])]
    if isinstance(atom, Predicts):
        if holds:
            return [frozenset([Top(atom.label)])]
        # Another class lies above it, whichever.
        return [
            frozenset([Above("class", other, atom.label, strict=True)])
            for other in classes
            if other != atom.label
        ]
    raise TypeError(f"no atom: {type(atom).__name__}")
