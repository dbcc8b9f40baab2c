"""The check that a text says nothing but the facts: of narratives, and of answers.

What is checked, exactly:

- every number, in digits or in words, is a fact's number in a rounding that fact allows and with
  its unit; a number that belongs to a name stands in a sentence with that name;
- every quoted text is a name in the facts;
- nothing that looks like a technical name (letters with digits or underscores) is anything else;
- no word of the run's vocabulary (its concept set) is used unless it is in the facts or is a
  plain word of reporting (``prompts/plain-words.txt``).

What is not checked: whether the sentence around a right number and a right name is true.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from profiler.llm.facts import Facts, Number, Unit

_LONGEST = 1500
"""Characters of a paragraph that can be read in well under two minutes."""


def marked(text: str, names: Sequence[str]) -> str:
    """Put one private character in the place of every name: the nth for the nth name.

    Args:
        text: as it was written.
        names: those that hold another one come before it.

    >>> [hex(ord(c)) for c in marked("“layer1.0” and layer1", ["layer1.0", "layer1"]) if c > "z"]
    ['0xf0000', '0xf0001']
    """
    text = "".join(c for c in text if ord(c) < FIRST_MARK)
    folded = text.casefold()
    for index, name in enumerate(names):
        if name.casefold() not in folded:
            continue  # a pattern for each of a thousand names would take a second
        mark = chr(FIRST_MARK + index)
        body = re.escape(name)
        text = re.sub(rf"([“\"‘'`«]){body}[.,;]?([”\"’'`»])", mark, text, flags=re.IGNORECASE)
        if re.fullmatch(r"[\d.,\s%]*", name):
            continue  # a layer named "2" is a name only in quotes; bare, 2 is a number
        plural = "(?:s|es)?" if name[-1].isalpha() else ""
        text = re.sub(rf"(?<!\w){body}{plural}(?!\w)", mark, text, flags=re.IGNORECASE)
    return text


def split_sentences(text: str) -> list[str]:
    r"""Split at a stop that is followed by white space and a capital, a quote or a digit.

    >>> split_sentences("It has 3.5 % in “a. b”. The rest, e.g. none, is not.")
    ['It has 3.5 % in “a. b”.', 'The rest, e.g. none, is not.']
    """
    if not text.strip():
        return []
    return re.split(r"(?<=[.!?])\s+(?=[^\W\d_a-z]|[“\"0-9\U000f0000-\U000fffff])", text.strip())


_NUMBER_WORDS = {
    word: value
    for value, words in {
        0: "zero", 1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven",
        8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve dozen", 13: "thirteen",
        14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen",
        19: "nineteen", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty",
        70: "seventy", 80: "eighty", 90: "ninety", 100: "hundred", 1000: "thousand",
        1_000_000: "million", 1_000_000_000: "billion", 1_000_000_000_000: "trillion",
    }.items()
    for word in words.split()
}  # fmt: skip
_FRACTIONS = re.compile(
    r"hal(?:f|ves)|couple|twice|thrice"
    r"|(?:third|quarter|fifth|tenth|dozen|hundred|thousand|million|billion|trillion)s"
    r"|(?:double|triple|quadruple)[sd]?|(?:two|three|four|five|ten)fold"
)
_ROMAN = re.compile(
    r"\b(?=[MDCLXVI]{2,}\b)M*(?:C[MD]|D?C{0,3})(?:X[CL]|L?X{0,3})(?:I[XV]|V?I{0,3})(?!\w)"
)
_COUNTABLE = re.compile(r"(?:unit|layer|categor|class|concept|channel|label|image|neuron)\w*")
_FRACTION_PHRASE = re.compile(
    r"\b(?:a|one|two|three|four|five)[\s-](?:third|quarter|fourth|fifth|sixth|tenth)s?\b", re.I
)
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-−–]\s?)?(?P<digits>\d{1,3}(?:[,\u2009\u202f\u00a0]\d{3})+|\d+)"
    r"(?P<rest>\.\d+)?(?P<unit>\s?%|\s?per\s?cent\b|\spercentage\spoints?)?(?![\w%]|[.,]\d)",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"“([^“”]*)”|\"([^\"]*)\"|«([^«»]*)»|`([^`]*)`|‘([^‘’]*)’|(?<!\w)'([^']*)'(?!\w)"
)
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_TECHNICAL = re.compile(r"[^\s“”\"'‘’(),;:!?]*[\d_][^\s“”\"'‘’(),;:!?]*")
FIRST_MARK = 0xF0000
"""Names are replaced by characters of the private-use plane before anything else is read."""


@dataclass(frozen=True)
class Checker:
    """Checks texts against facts.

    Attributes:
        facts: that a text may use.
        plain_words: that it may use besides.
    """

    facts: Facts
    plain_words: frozenset[str]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """All names, longest first, so that ``layer1.0`` is not read as ``layer1``."""
        every = {name for names in self.facts.names().values() for name in names if name}
        every |= {name for number in self._numbers for name in number.about}
        return tuple(sorted(every, key=lambda name: (-len(name), name)))

    @cached_property
    def _numbers(self) -> tuple[Number, ...]:
        return tuple(self.facts.numbers())

    @cached_property
    def _wrong_words(self) -> frozenset[str]:
        return frozenset(word.casefold() for word in self.facts.vocabulary())

    @cached_property
    def _plain(self) -> frozenset[str]:
        return self.plain_words | set(_WORD.findall(self.facts.wording().casefold()))

    def check(self, text: str) -> list[str]:
        """Say what is wrong, most telling first; empty where nothing is."""
        if not text:
            return ["the paragraph is empty"]
        if len(text) > _LONGEST:
            return [f"the paragraph has {len(text)} characters, more than {_LONGEST}"]
        found: list[str] = []
        for sentence in split_sentences(self._marked(text)):
            found += self._check_sentence(sentence)
        return list(dict.fromkeys(found))

    def _marked(self, text: str) -> str:
        """Put one private character in the place of every name."""
        return marked(text, self._names)

    def _check_sentence(self, sentence: str) -> Iterator[str]:
        present = {self._names[ord(c) - FIRST_MARK] for c in sentence if ord(c) >= FIRST_MARK}
        for match in _QUOTED.finditer(sentence):
            inner = next(group for group in match.groups() if group is not None)
            yield f'"{self._readable(inner)}" is quoted, but is no name in the facts'
        rest = _QUOTED.sub(" ", sentence)
        for match in _NUMBER.finditer(rest):
            yield from self._check_number(match, present)
        rest = _NUMBER.sub(" ", rest)
        for sign in rest:
            # ½, ², Ⅳ and the numerals of other scripts; digits are read below.
            if not sign.isdecimal() and unicodedata.numeric(sign, None) is not None:
                yield f'"{sign}": write numbers in digits, as they stand in the facts'
        for match in _TECHNICAL.finditer(rest):
            yield f'"{self._readable(match[0])}" is neither a number nor a name in the facts'
        rest = _TECHNICAL.sub(" ", rest)
        for match in (*_FRACTION_PHRASE.finditer(rest), *_ROMAN.finditer(rest)):
            yield f'"{match[0]}": write numbers in digits, as they stand in the facts'
        words = [word.casefold() for word in _WORD.findall(rest)]
        yield from self._check_number_words(words, present)
        yield from self._check_vocabulary(words)

    def _check_number(self, match: re.Match[str], present: set[str]) -> Iterator[str]:
        digits = re.sub(r"\D", "", match["digits"]) + (match["rest"] or "")
        shown = self._readable(match[0]).strip()
        unit = "".join((match["unit"] or "").casefold().split())
        if unit.startswith("percentagepoint"):
            yield f"{shown} is a difference, and the facts hold none"
            return
        signed = f"-{digits}" if match["sign"] and match["sign"][0] in "-−" else digits
        yield from self._check_value(signed, "%" if unit else "", shown, present)

    def _check_value(self, text: str, unit: Unit, shown: str, present: set[str]) -> Iterator[str]:
        equal = [number for number in self._numbers if number.allows(text, unit)]
        if not equal:
            other: Unit = "" if unit else "%"
            if any(number.allows(text, other) for number in self._numbers):
                yield f"{shown} has the wrong unit (in the facts it is {text}{' %' * bool(other)})"
            else:
                yield f"{shown} is not a number in the facts"
        elif not any(present.issuperset(number.about) for number in equal):
            about = " and ".join(f'"{name}"' for name in equal[0].about)
            yield f"{shown} is about {about}, which the same sentence has to name"

    def _check_number_words(self, words: Sequence[str], present: set[str]) -> Iterator[str]:
        parts = [part for word in words for part in word.split("-")]
        for part, following in zip_longest(parts, parts[1:], fillvalue=""):
            if _FRACTIONS.fullmatch(part):
                yield f'"{part}": write numbers in digits, as they stand in the facts'
            elif part == "one" and not _COUNTABLE.fullmatch(following):
                continue  # a pronoun, as in "the first one"
            elif part in _NUMBER_WORDS:
                value = str(_NUMBER_WORDS[part])
                yield from self._check_value(value, "", f'"{part}"', present)

    def _check_vocabulary(self, words: Sequence[str]) -> Iterator[str]:
        """Look for concepts of the run, of one to three words, that the facts do not hold."""
        if not self._wrong_words:
            return
        for length in (3, 2, 1):
            for start in range(len(words) - length + 1):
                phrase = " ".join(words[start : start + length])
                forms = {phrase, phrase.removesuffix("s"), phrase.removesuffix("es")}
                if length == 1 and forms & self._plain:
                    continue
                if wrong := forms & self._wrong_words:
                    yield f'"{min(wrong)}" is a concept that is not in the facts'

    def _readable(self, text: str) -> str:
        """Put the names back."""
        return "".join(
            self._names[ord(c) - FIRST_MARK] if ord(c) >= FIRST_MARK else c for c in text
        )
