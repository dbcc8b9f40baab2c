"""The categories words are sorted into."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from profiler.core.categories import DEFAULT_CATEGORIES, UNKNOWN
from profiler.core.text import text_of, tidy
from profiler.errors import InputError

_LONGEST = 60
_RESERVED = ("uninterpretable", "dead")
"""Names a layer profile uses for units without a category."""


@dataclass(frozen=True)
class Category:
    """A category, with a line that says what belongs to it."""

    name: str
    description: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.description}" if self.description else self.name


_DESCRIPTIONS = {
    "object": "a whole thing, living or not, that one can point at: an animal, a person, a tool",
    "part": "a piece of an object, a body or a building: a wheel, an ear, a roof",
    "scene": "a place or surroundings, indoors or outdoors, or the weather and light in them",
    "material": "what things are made of: a metal, a cloth, a stone",
    "texture": "a pattern or the feel of a surface, often an adjective: striped, rough, woven",
    "color": "a color, or how light or strong a color is",
    UNKNOWN: "cannot be seen in an image, or fits none of the others",
}

DEFAULT: tuple[Category, ...] = tuple(
    Category(name, _DESCRIPTIONS[name]) for name in (*DEFAULT_CATEGORIES, UNKNOWN)
)
"""The categories of the capstone report (Li & Weng 2023)."""


def check_categories(categories: Sequence[Category]) -> None:
    """Raise ``InputError`` unless there are two or more categories with distinct names."""
    names = [category.name.casefold() for category in categories]
    if len(names) < 2:
        raise InputError(f"sorting needs two categories or more, not {len(names)}")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the category {name!r} is given twice")


def read_categories(path: Path | str) -> tuple[Category, ...]:
    """Read categories from a file: a line each, ``name``, ``name: description`` or with a tab.

    Blank lines and lines that begin with ``#`` are skipped. Two names that differ only in case
    are the same name.
    """
    path = Path(path)
    lines = re.split(r"\r\n|\r|\n", text_of(path, "category file"))
    found: dict[str, tuple[int, Category]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        category = _parse(line.strip(), f"{path}, line {number}")
        earlier = found.setdefault(category.name.casefold(), (number, category))[0]
        if earlier != number:
            raise InputError(
                f"{path}, line {number}: {category.name!r} stands in line {earlier} already"
            )
    categories = tuple(category for _, category in found.values())
    if len(categories) < 2:
        raise InputError(f"{path} holds {len(categories)} categories; sorting needs two or more")
    return categories


def _parse(line: str, where: str) -> Category:
    separator = "\t" if "\t" in line else ":"
    name, _, description = (tidy(part) for part in line.partition(separator))
    if not name:
        raise InputError(f"{where}: a description without a category's name before it")
    if len(name) > _LONGEST:
        raise InputError(f"{where}: the name has {len(name)} characters, more than {_LONGEST}")
    if not (name + description).isprintable():
        raise InputError(f"{where}: a control character in {line!r}")
    if name.casefold() in _RESERVED:
        raise InputError(f"{where}: {name!r} is what a profile calls units without a category")
    return Category(name, description)
