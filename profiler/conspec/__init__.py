"""Con_spec: what a vision model must respect, written down in words.

::

    model truck-finder
    classes truck, cat, dog
    concepts metallic = "a shiny metallic thing", ears, wheels
    set animals = {cat, dog}

    spec metal "trucks look metallic":
        predict(x, truck) => >(x, metallic, ears)
        require rate >= 95%

    spec ears: for c in animals: predict(x, c) => >(x, ears, wheels)

Rooms::

    tree.py      the tree: frozen dataclasses
    tokens.py    text → tokens; the error that points into the text
    parser.py    text → tree; the grammar, rule by rule
    printer.py   tree → text that reads back as the same tree
    names.py     what names mean; formulas without quantifiers

What a spec means, and whether it holds, is :mod:`profiler.verify`'s matter.
"""

from profiler.conspec.names import MOST_NODES, check, concepts_in, expand, labels_in
from profiler.conspec.parser import parse, parse_formula, read
from profiler.conspec.printer import written_requirement
from profiler.conspec.tokens import SpecError
from profiler.conspec.tree import (
    And,
    Entry,
    ForEach,
    Formula,
    ForSome,
    HasConcept,
    Implies,
    Measure,
    NamedSet,
    Not,
    Or,
    Predicts,
    Requirement,
    Spec,
    SpecFile,
    Stronger,
    fold,
)

__all__ = [
    "MOST_NODES",
    "And",
    "Entry",
    "ForEach",
    "ForSome",
    "Formula",
    "HasConcept",
    "Implies",
    "Measure",
    "NamedSet",
    "Not",
    "Or",
    "Predicts",
    "Requirement",
    "Spec",
    "SpecError",
    "SpecFile",
    "Stronger",
    "check",
    "concepts_in",
    "expand",
    "fold",
    "labels_in",
    "parse",
    "parse_formula",
    "read",
    "written_requirement",
]
