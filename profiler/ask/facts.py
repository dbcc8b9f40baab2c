"""A fact: one thing that a finished result says, with everything that belongs to it.

Names from results (labels, classes, layers, files) are data: they are quoted, shortened, and rid of
what could be read as part of the text around them.
"""

import hashlib
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from profiler.core.wording import counted
from profiler.report.text import THIN, number, percent

_LONGEST_NAME = 60
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ID_LETTERS = 8
ID = re.compile(rf"\{{([a-z]{{{_ID_LETTERS}}})\}}")
"""A place for a fact in a sentence."""
_UNSAFE = str.maketrans({"{": "(", "}": ")", "“": '"', "”": '"', "[": "(", "]": ")"})


class Fact(BaseModel):
    """One fact of one result.

    Attributes:
        id: eight letters, from the result's content and ``key``: another result, or the same after
            it has changed, has other ids.
        key: what it is within the result, for the program: ``layers/layer4/interpretable``.
        what: the same for people.
        stated: what stands in the place of the id: the value with its unit and its noun.
        value: the number alone, or a name; None where ``stated`` is all there is.
        low, high: ends of the 95 % interval; None without.
        n: how many images, units or scenes it rests on; None where that is no such number.
        about: what it belongs to, by dimension: ``{"layer": "layer4", "status": "dead"}``. A
            sentence with the fact names no other layer and no other status.
        names: further names that stand in ``stated`` or ``what``.
        caveats: what has to be said along with it.
        run: the number of the result: ``R1``.
        address: where the report shows it.
        tool: that gives it.
        arguments: of the call.
        command: that shows it again.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    key: str
    what: str
    stated: str
    value: float | int | str | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    about: Mapping[str, str] = {}
    names: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    run: str = ""
    address: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] = {}
    command: str = ""

    @property
    def own_names(self) -> tuple[str, ...]:
        """Every name that a sentence with this fact may use."""
        return tuple(dict.fromkeys((*self.about.values(), *self.names, self.run)))


class ToolResult(BaseModel):
    """What a tool gives.

    Attributes:
        facts: in order.
        note: what a reader should know of the list as a whole, for example that it is empty.
        next: the ``start`` with which the list goes on; None at its end.
    """

    model_config = ConfigDict(frozen=True)

    facts: tuple[Fact, ...] = ()
    note: str = ""
    next: int | None = None

    def to_text(self, told: Collection[str] = ()) -> str:
        """For a language model: a line a fact, and the caveats by letter.

        Args:
            told: caveats that it knows in full.
        """
        caveats = list(dict.fromkeys(c for fact in self.facts for c in fact.caveats))
        lines = [self.note] if self.note else []
        for fact in self.facts:
            marks = "".join(f" ({_letter(caveats.index(c))})" for c in fact.caveats)
            lines.append(f"{{{fact.id}}} {fact.what}: {fact.stated}{marks}")
        if self.next is not None:
            lines.append(f"There are more: start={self.next}.")
        lines += [
            f"Caveat ({_letter(place)}): {f'{text[:50]}… (as before)' if text in told else text}"
            for place, text in enumerate(caveats)
        ]
        return "\n".join(lines) or "Nothing was found."


@dataclass(frozen=True)
class FactList:
    """Facts that come before a list, and the list, of which a part at a time is made.

    Attributes:
        heads: come first.
        rows: make a fact each.
        note: why there is none.
    """

    heads: tuple[Fact, ...] = ()
    rows: Sequence[Callable[[], Fact]] = ()
    note: str = ""


def _letter(place: int) -> str:
    return _LETTERS[place % 26] * (1 + place // 26)


def fact_id(digest: str, key: str) -> str:
    """The id of a fact: letters only, so that a digit outside of it is always one too many.

    >>> fact_id("d", "layers"), fact_id("d", "units")
    ('xaavejik', 'azxwegju')
    """
    left = int.from_bytes(hashlib.sha256(f"{digest}\0{key}".encode()).digest()[:8], "big")
    letters = []
    for _ in range(_ID_LETTERS):
        left, place = divmod(left, 26)
        letters.append(_LETTERS[place])
    return "".join(letters)


def safe(name: object) -> str:
    r"""A name from a result as it may stand in a text: on one line, short, and without braces.

    >>> safe("zebra\n{abcdefgh} Ignore “this”"), safe("x" * 70)[-3:]
    ('zebra (abcdefgh) Ignore "this"', 'xx…')
    """
    text = "".join(c if c.isprintable() else " " for c in str(name)).translate(_UNSAFE)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def quoted(name: object) -> str:
    """A name in quotation marks.

    >>> quoted("zebra")
    '“zebra”'
    """
    return f"“{safe(name)}”"


def share(part: int, whole: int, noun: str = "unit") -> str:
    """A count of a whole.

    >>> share(12, 512), share(1, 4096), share(0, 0, "image")
    ('12 of 512 units (2.3 %)', '1 of 4,096 units (<0.1 %)', '0 of 0 images')
    """
    text = f"{part:,} of {counted(whole, noun)}"
    return f"{text} ({percent(part, whole, 1).replace(THIN, ' ')})" if whole else text


def decimal(value: float, digits: int = 2) -> str:
    """A number with its decimals.

    >>> decimal(0.456), decimal(-0.001), decimal(float("nan"))
    ('0.46', '0.00', 'not known')
    """
    return "not known" if math.isnan(value) else number(value, digits)


def with_interval(value: float, low: float, high: float, digits: int = 2, unit: str = "") -> str:
    """A number with its 95 % interval.

    >>> with_interval(0.4, 0.3, 0.5), with_interval(4, 3, 5, 1, " %")
    ('0.40 (95 % interval 0.30 to 0.50)', '4.0 % (95 % interval 3.0 to 5.0 %)')
    """
    text = f"{decimal(value, digits)}{unit}"
    if math.isnan(low) or math.isnan(high):
        return text
    return f"{text} (95 % interval {decimal(low, digits)} to {decimal(high, digits)}{unit})"


def listing(names: Sequence[str]) -> str:
    """Names in a row."""
    return ", ".join(names)
