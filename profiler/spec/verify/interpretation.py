"""What the atoms of a spec mean: linear rows in a classifier's features.

With features z, the head W, b and the planes P, c of the concepts
(:meth:`profiler.concepts.space.ConceptSpace.planes`):

    predict(x, k)   ⇔   w_k·z + b_k ≥ w_j·z + b_j  for every class j
    >(x, i, j)      ⇔   p_i·z + c_i > p_j·z + c_j
    hasCon(x, i)        an annotation of the image; says nothing of z

Outputs that tie for the first place are all predicted; of concepts that tie none is stronger. Both
checks read atoms so, and no other way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from profiler.core.arrays import BoolArray, Float64, FloatArray, checked_rows
from profiler.errors import InputError, UnknownNameError
from profiler.spec.language.tree import (
    And,
    Formula,
    HasConcept,
    Implies,
    Not,
    Or,
    Predicts,
    Stronger,
    fold,
)


@dataclass(frozen=True, eq=False)
class Linear:
    """Named affine functions of the features: value_i(z) = rows_i·z + offsets_i.

    Attributes:
        names: n of them.
        rows: (n, f).
        offsets: (n,).
    """

    names: tuple[str, ...]
    rows: Float64
    offsets: Float64

    def __post_init__(self) -> None:
        checked_rows(self.rows, "rows")
        checked_rows(self.offsets[None], "offsets")
        if not len(self.names) == len(self.rows) == len(self.offsets):
            raise InputError(
                f"{len(self.names)} names, {len(self.rows)} rows and {len(self.offsets)} offsets"
            )
        if len(set(self.names)) < len(self.names):
            raise InputError("a name is twice in the list")

    def __call__(self, z: FloatArray) -> Float64:
        """Features (N, f) → values (N, n)."""
        values: Float64 = z @ self.rows.T + self.offsets
        return values

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each name."""
        return {name: place for place, name in enumerate(self.names)}


@dataclass(frozen=True, eq=False)
class Interpretation:
    """A classifier's outputs and the concepts, by the names that specs use.

    Attributes:
        classes: the head W, b; all outputs, whether specs name them or not.
        concepts: the planes P, c of the concepts.
    """

    classes: Linear
    concepts: Linear

    def __post_init__(self) -> None:
        if self.classes.rows.shape[1] != self.concepts.rows.shape[1]:
            raise InputError(
                f"the head reads {self.classes.rows.shape[1]} features, the linear alignment "
                f"{self.concepts.rows.shape[1]}"
            )

    @property
    def features(self) -> int:
        """Width f."""
        return int(self.classes.rows.shape[1])

    def among(self, of: Literal["class", "concept"]) -> Linear:
        """The functions that are compared: outputs, or concepts."""
        return self.classes if of == "class" else self.concepts

    def of(self, z: FloatArray, annotations: Mapping[str, BoolArray] | None = None) -> "ImageFacts":
        """The atoms of features (N, f).

        Args:
            z: of N images.
            annotations: (N,) by concept, for ``hasCon``.
        """
        z = checked_rows(z, "features")
        if z.shape[1] != self.features:
            raise InputError(f"rows have {z.shape[1]} features; {self.features} are expected")
        return ImageFacts(self, self.classes(z), self.concepts(z), annotations or {})


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What the atoms say of N images."""

    of: Interpretation
    logits: Float64
    """(N, C)."""
    strengths: Float64
    """(N, M) in the order of the cosines; their common factor ‖r(z)‖ is not divided out."""
    annotations: Mapping[str, BoolArray]

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def _highest(self) -> Float64:
        highest: Float64 = self.logits.max(axis=1)
        return highest

    def atom(self, atom: Formula) -> BoolArray:
        """Whether an atom holds, (N,)."""
        if isinstance(atom, Predicts):
            label = _place(self.of.classes, atom.label, "class")
            predicted: BoolArray = self.logits[:, label] >= self._highest
            return predicted
        if isinstance(atom, Stronger):
            stronger, weaker = (_place(self.of.concepts, name, "concept") for name in atom.own)
            holds: BoolArray = self.strengths[:, stronger] > self.strengths[:, weaker]
            return holds
        if isinstance(atom, HasConcept):
            if atom.concept not in self.annotations:
                raise InputError(
                    f"hasCon(x, {atom.concept}) needs annotated images; "
                    + (
                        f"annotated: {', '.join(self.annotations)}"
                        if self.annotations
                        else "these have no annotations"
                    )
                )
            return np.asarray(self.annotations[atom.concept], dtype=bool)
        raise TypeError(f"write {type(atom).__name__} out first: profiler.spec.language.expand")

    def holds(self, formula: Formula) -> BoolArray:
        """Whether a formula without quantifiers holds, (N,)."""
        holds: BoolArray = _value(formula, self.atom, np.logical_not, np.logical_and, np.logical_or)
        return holds

    def applies(self, formula: Formula) -> BoolArray:
        """Whether a formula applies to an image, (N,).

        An implication applies where its premise holds; formulas joined by ``and`` apply where one
        of them does; every other formula always applies. So ``predict(x, truck) => …`` applies to
        images that are predicted to be a truck, and holds trivially for all others.
        """
        always = np.ones(len(self), dtype=bool)
        found = np.zeros(len(self), dtype=bool)
        todo = [(formula, always)]
        while todo:
            node, reached = todo.pop()
            if isinstance(node, And):
                todo.extend((part, reached) for part in node.of)
            elif isinstance(node, Implies):
                todo.append((node.conclusion, reached & self.holds(node.premise)))
            else:
                found |= reached
        return found

    def degree(self, formula: Formula, cosines: FloatArray) -> Float64:
        """By how much a formula holds (above 0) or fails (below), (N,), in units of the cosines.

        What ``predict`` and ``hasCon`` say is certain, ±∞; ``>(x, a, b)`` holds by the difference
        of the two cosines. ``and`` is the least of its parts, ``or`` the largest.

        Args:
            formula: without quantifiers.
            cosines: (N, M) strengths of all concepts.
        """

        def atom(node: Formula) -> Float64:
            if not isinstance(node, Stronger):
                return np.where(self.atom(node), np.inf, -np.inf)
            stronger, weaker = (_place(self.of.concepts, name, "concept") for name in node.own)
            return np.asarray(cosines[:, stronger] - cosines[:, weaker], dtype=np.float64)

        degrees: Float64 = _value(formula, atom, np.negative, np.minimum, np.maximum)
        return degrees


def _value(
    formula: Formula,
    atom: Callable[[Formula], Any],
    denied: np.ufunc,
    every: np.ufunc,
    some: np.ufunc,
) -> Any:
    """What a formula without quantifiers comes to, given what its atoms do."""

    def made(node: Formula, parts: list[Any]) -> Any:
        if not parts:
            return atom(node)
        if isinstance(node, Not):
            return denied(parts[0])
        if isinstance(node, Implies):
            return some(denied(parts[0]), parts[1])
        if isinstance(node, And | Or):
            return (every if isinstance(node, And) else some).reduce(parts)
        raise TypeError(f"write {type(node).__name__} out first: profiler.spec.language.expand")

    return fold(formula, made)


def _place(among: Linear, name: str, what: str) -> int:
    if name not in among.index:
        raise UnknownNameError(what, name, among.names)
    return among.index[name]
