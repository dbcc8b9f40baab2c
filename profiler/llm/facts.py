"""Typed facts: everything a narrative may say, so that the check of what it says is exact."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Unit = Literal["", "%"]


@dataclass(frozen=True)
class Number:
    """A number a narrative may use.

    ``value`` is in ``unit`` (35.2 with "%" is 35.2 per cent) and is stated with ``decimals``
    decimals; a text may also round it to one decimal fewer, never more. ``about`` are the names
    the number belongs to: a sentence with the number must hold them all.

    >>> Number("share of interpretable units", 35.24, "%", 1).stated
    '35.2 %'
    """

    what: str
    value: float
    unit: Unit = ""
    decimals: int = 0
    about: tuple[str, ...] = ()

    @property
    def stated(self) -> str:
        """The number as it stands in the facts."""
        return f"{self.value:,.{self.decimals}f}{' %' if self.unit else ''}"

    def allows(self, text: str, unit: Unit) -> bool:
        """Whether a number written as ``text`` (digits, a decimal point) is this one.

        >>> share = Number("share", 35.24, "%", 1)
        >>> [share.allows(text, "%") for text in ("35.2", "35", "35.24", "36")]
        [True, True, False, False]
        """
        written = len(text.partition(".")[2])
        fewest = max(0, self.decimals - 1)
        if unit != self.unit or not fewest <= written <= self.decimals:
            return False
        return f"{self.value:.{written}f}" == text


class Facts(ABC):
    """What a narrative may use: numbers and names. Subclasses are frozen dataclasses."""

    task: ClassVar[str]
    """A sentence that tells a language model what the paragraph is about."""

    @abstractmethod
    def numbers(self) -> Sequence[Number]:
        """Give every number the text may use."""

    @abstractmethod
    def names(self) -> Mapping[str, Sequence[str]]:
        """Give every name the text may use, by kind: layers, classes, categories, concepts."""

    @abstractmethod
    def template(self) -> str:
        """Write the paragraph that stands where no language model writes one."""

    def vocabulary(self) -> frozenset[str]:
        """Give names that would be wrong here: the rest of the run's layers, classes, concepts."""
        return frozenset()

    def wording(self) -> str:
        """Give texts whose words a narrative may use, beside the names and the plain words."""
        return self.task

    def closing(self) -> str:
        """Give a sentence the program itself adds to every paragraph, for example a limit."""
        return ""

    def to_json(self) -> dict[str, Any]:
        """Give what a language model is told."""
        return {
            "numbers": [
                {"what": n.what, "value": n.stated, **({"about": n.about} if n.about else {})}
                for n in self.numbers()
            ],
            "names": {kind: list(names) for kind, names in self.names().items()},
        }


def numbers_in(text: str, what: str) -> list[Number]:
    """Take the numbers out of a text that is itself a fact.

    >>> [number.stated for number in numbers_in("null distribution, rate 5 %, 2.50 a unit", "x")]
    ['5 %', '2.50']
    """
    return [
        Number(what, float(digits), "%" if unit else "", len(digits.partition(".")[2]))
        for digits, unit in re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)(?![\w.]*\w)\s?(%?)", text)
    ]
