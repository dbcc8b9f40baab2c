"""The tree of a Con_spec file: frozen dataclasses, compared and walked without recursion.

A formula may be nested as deep as memory allows, so nothing here calls itself: trees are folded
from the leaves up (:func:`fold`), and two are equal if their nodes are, one after the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from profiler.spec.language.tokens import SpecError

T = TypeVar("T")

CLASSES, CONCEPTS = "classes", "concepts"
"""The sets every file has: all classes, all concepts it declares."""

Measure = Literal["rate", "applicable rate"]


class Formula(ABC):
    """What may hold of an image x.

    ``str`` writes it so that :func:`profiler.spec.language.parse_formula` reads the same tree
    again.
    """

    @property
    @abstractmethod
    def parts(self) -> tuple["Formula", ...]:
        """Formulas directly inside."""

    @property
    def own(self) -> tuple[Any, ...]:
        """What it says besides its parts; where it stands in a file does not count."""
        return ()

    def nodes(self) -> Iterator["Formula"]:
        """Itself and everything inside, each before its parts, from left to right."""
        todo: list[Formula] = [self]
        while todo:
            node = todo.pop()
            yield node
            todo.extend(reversed(node.parts))

    def _flat(self) -> list[tuple[Any, ...]]:
        return [(type(node), len(node.parts), *node.own) for node in self.nodes()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and self._flat() == other._flat()

    def __hash__(self) -> int:
        return hash(tuple(self._flat()))

    def __str__(self) -> str:
        # The printer knows the tree, so the tree can know it only when it is asked.
        from profiler.spec.language.printer import written

        return written(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


@dataclass(frozen=True, eq=False, repr=False)
class Atom(Formula):
    """A formula without parts: a few names."""

    at: int = field(default=-1, kw_only=True)
    """Offset in the text it was read from; -1 where it was not."""

    @property
    def parts(self) -> tuple[Formula, ...]:
        """None."""
        return ()

    @property
    def own(self) -> tuple[Any, ...]:
        """Its names."""
        return tuple(getattr(self, each.name) for each in fields(self) if each.name != "at")


@dataclass(frozen=True, eq=False, repr=False)
class Stronger(Atom):
    """``>(x, stronger, weaker)``: one concept is stronger in x than another. Equal is not."""

    stronger: str
    weaker: str


@dataclass(frozen=True, eq=False, repr=False)
class Predicts(Atom):
    """``predict(x, label)``: no output is higher than that of the class."""

    label: str


@dataclass(frozen=True, eq=False, repr=False)
class HasConcept(Atom):
    """``hasCon(x, concept)``: the image is annotated with the concept."""

    concept: str


@dataclass(frozen=True, eq=False, repr=False)
class Not(Formula):
    """``not of``."""

    of: Formula

    @property
    def parts(self) -> tuple[Formula, ...]:
        """The formula denied."""
        return (self.of,)


@dataclass(frozen=True, eq=False, repr=False)
class _Several(Formula):
    of: tuple[Formula, ...]

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise ValueError("'and' and 'or' join two formulas or more")

    @property
    def parts(self) -> tuple[Formula, ...]:
        """The formulas joined."""
        return self.of


class And(_Several):
    """``a and b and c``."""


class Or(_Several):
    """``a or b or c``."""


@dataclass(frozen=True, eq=False, repr=False)
class Implies(Formula):
    """``premise => conclusion``."""

    premise: Formula
    conclusion: Formula

    @property
    def parts(self) -> tuple[Formula, ...]:
        """Premise, conclusion."""
        return self.premise, self.conclusion


@dataclass(frozen=True, eq=False, repr=False)
class _Quantified(Formula):
    variable: str
    over: str | tuple[str, ...]
    """The name of a set, or its members."""
    body: Formula
    at: int = field(default=-1, kw_only=True)

    def __post_init__(self) -> None:
        if not self.over:
            raise ValueError("a set has at least one member")

    @property
    def parts(self) -> tuple[Formula, ...]:
        """The body."""
        return (self.body,)

    @property
    def own(self) -> tuple[Any, ...]:
        """Variable and set."""
        return self.variable, self.over


class ForEach(_Quantified):
    """``for variable in over: body``: the body holds for every member."""


class ForSome(_Quantified):
    """``some variable in over: body``: the body holds for at least one member."""


def fold(root: Formula, make: Callable[[Formula, list[T]], T]) -> T:
    """Build something from the leaves up.

    Args:
        root: of the tree.
        make: given a node and what was made of its parts, in order.

    >>> fold(Not(Predicts("cat")), lambda node, made: 1 + sum(made))
    2
    """
    made: list[T] = []
    todo = [(root, False)]
    while todo:
        node, entered = todo.pop()
        if entered:
            first = len(made) - len(node.parts)
            made[first:] = [make(node, made[first:])]
        else:
            todo.append((node, True))
            todo.extend((part, False) for part in reversed(node.parts))
    return made[0]


def rebuilt(node: Formula, parts: list[Formula]) -> Formula:
    """The node with other parts."""
    if isinstance(node, Not):
        return Not(parts[0])
    if isinstance(node, _Several):
        return type(node)(tuple(parts))
    if isinstance(node, Implies):
        return Implies(*parts)
    if isinstance(node, _Quantified):
        return type(node)(node.variable, node.over, parts[0], at=node.at)
    return node


# --- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A class or a concept as a file declares it."""

    name: str
    caption: str | None = None
    """What it is called outside the file: a class by the model, a concept to the VLM."""
    at: int = field(default=-1, compare=False)

    @property
    def text(self) -> str:
        """The caption, or else the name."""
        return self.name if self.caption is None else self.caption


@dataclass(frozen=True)
class NamedSet:
    """``set name = {members}``."""

    name: str
    members: tuple[str, ...]
    at: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Requirement:
    """``require rate >= bound``: what makes a spec pass or fail on images."""

    measure: Measure
    bound: float
    """A share, not a percentage."""

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise ValueError("a rate lies between 0 and 1")


@dataclass(frozen=True)
class Spec:
    """A named formula, and what is required of its rate."""

    name: str
    formula: Formula
    title: str | None = None
    """What it means, for people."""
    requirements: tuple[Requirement, ...] = ()
    at: int = field(default=-1, compare=False)

    def __str__(self) -> str:
        from profiler.spec.language.printer import written_spec

        return written_spec(self)


@dataclass(frozen=True)
class SpecFile:
    """Everything a file says.

    ``str`` writes it, without comments, so that :func:`profiler.spec.language.parse` reads the
    same.
    """

    specs: tuple[Spec, ...]
    model: str | None = None
    """The network it is meant for."""
    classes: tuple[Entry, ...] = ()
    """Empty where the file leaves that to the model."""
    concepts: tuple[Entry, ...] = ()
    sets: tuple[NamedSet, ...] = ()
    source: str = field(default="", compare=False, repr=False)
    """The text it was read from, for error messages."""
    title: str = field(default="", compare=False)
    """Name of the file."""

    def error(self, message: str, at: int) -> SpecError:
        """An error that points into its text."""
        return SpecError(message, self.source, at, self.title)

    def __str__(self) -> str:
        from profiler.spec.language.printer import written_file

        return written_file(self)
