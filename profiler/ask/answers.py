"""Sentences with places for facts: checked, filled in, and printed with what they rest on.

A sentence is a model's, with ``{id}`` in the place of each number. What is checked, exactly:

- each id is that of a fact which the model was given, and each sentence has one;
- no number stands outside a place, in digits or in words, and no name that is not one of the cited
  facts' (:mod:`profiler.llm.checks`, as in narratives);
- in the part of the sentence around a place, between commas and conjunctions, no layer, class,
  category, status or run is named but those of its fact; nor are those that were named last before
  it, where its part names none.

What a fact is about and its part of the sentence does not name, code adds in brackets, so that a
number never stands without what it belongs to. What is not checked: whether the words around a
right number are true.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from profiler.ask.facts import ID, Fact, quoted, safe
from profiler.ask.results import OpenResults
from profiler.ask.tools import Submission
from profiler.core.wording import sentence_case
from profiler.llm.checks import FIRST_MARK, Checker, marked
from profiler.llm.facts import Facts, Number
from profiler.profile.find import carried_words

_LONGEST = 500
"""Characters of a sentence."""
_FEW_WORDS = 5_000
"""Concept sets of more words hold most of the language; of these, only words that units carry are
names."""
_PARTS = re.compile(r"[,;:()—–]|\b(?:and|or|but|while|whereas|versus|against|than)\b")
_IN_DIGITS = "write numbers in digits, as they stand in the facts"
"""What the check asks of a narrative."""
_PER_CENT = re.compile(r"[%‰％]|\bper\s?mille\b|\bper\s?cent\b|\bpercentage\b", re.IGNORECASE)


@dataclass(frozen=True)
class Filled:
    """An answer whose facts stand in their places.

    Attributes:
        text: the sentences, each fact with its number in brackets.
        sentences: as they were submitted.
        facts: cited, in the order of their numbers.
        missing: what they do not say, in the model's words; empty where nothing lacks.
    """

    text: str
    sentences: tuple[str, ...]
    facts: tuple[Fact, ...]
    missing: str = ""

    @property
    def caveats(self) -> tuple[str, ...]:
        """Of the cited facts, each once."""
        return tuple(dict.fromkeys(c for fact in self.facts for c in fact.caveats))


@dataclass(frozen=True)
class _Cited(Facts):
    """The cited facts of a sentence, as the check has facts: names without numbers."""

    task: ClassVar[str] = ""

    allowed: tuple[str, ...]
    wrong: frozenset[str]

    def numbers(self) -> tuple[Number, ...]:
        """None: numbers are filled in."""
        return ()

    def names(self) -> Mapping[str, Sequence[str]]:
        """What the sentence may name."""
        return {"names": self.allowed}

    def vocabulary(self) -> frozenset[str]:
        """Names of the results that need a fact."""
        return self.wrong

    def template(self) -> str:
        """Nothing: a model writes."""
        return ""


@dataclass(frozen=True, eq=False)
class AnswerCheck:
    """Checks and fills in sentences about some open results.

    Attributes:
        results: that are open.
        plain_words: that a sentence may use freely.
    """

    results: OpenResults
    plain_words: frozenset[str] = field(repr=False)

    def complaints(self, given: Submission, known: Mapping[str, Fact]) -> list[str]:
        """Say what is wrong with an answer; empty where it may be printed.

        Args:
            given: the answer.
            known: the facts that the model was given, by id.
        """
        found: list[str] = []
        if not given.sentences and not given.missing:
            found.append("there are neither sentences nor what is missing")
        for place, sentence in enumerate(given.sentences, start=1):
            found += [f"sentence {place}: {each}" for each in self._sentence(sentence, known)]
        open_names = _Cited(tuple(self._fixed), frozenset())
        if given.missing and (wrong := Checker(open_names, self.plain_words).check(given.missing)):
            found.append(f"missing: {wrong[0]}")
        return list(dict.fromkeys(found))

    def fill(self, given: Submission, known: Mapping[str, Fact]) -> Filled:
        """Put the facts in their places; for an answer without complaints."""
        numbers: dict[str, int] = {}
        for sentence in given.sentences:
            for found in ID.findall(sentence):
                numbers.setdefault(found, len(numbers) + 1)
        told = [self._filled(sentence, known, numbers) for sentence in given.sentences]
        facts = tuple(known[found] for found in numbers)
        return Filled(" ".join(told), given.sentences, facts, given.missing)

    def _sentence(self, sentence: str, known: Mapping[str, Fact]) -> Iterable[str]:
        ids, bare = ID.findall(sentence), ID.sub(" ", sentence)
        if len(sentence) > _LONGEST:
            yield f"it has more than {_LONGEST} characters"
            return
        unknown = [each for each in dict.fromkeys(ids) if each not in known]
        for each in unknown:
            yield f"{{{each}}} is no fact that a tool gave"
        if "{" in bare or "}" in bare:
            yield "braces are for the eight letters of a fact's id alone"
        if not ids:
            yield "it has no {id} of a fact"
        if _PER_CENT.search(bare):
            yield "a fact brings its own unit: leave out what means per cent"
        cited = [known[each] for each in ids if each in known]
        names = tuple(dict.fromkeys(name for fact in cited for name in self._own(fact)))
        checker = Checker(_Cited(names, self._vocabulary), self.plain_words)
        for each in checker.check(bare) if re.search(r"\w", bare) else ():
            yield each.replace(_IN_DIGITS, "numbers come from facts, by their ids")
        if not unknown:
            yield from self._conflicts(sentence, known)

    def _conflicts(self, sentence: str, known: Mapping[str, Fact]) -> Iterable[str]:
        """Names that a place stands with, and that are not those of its fact.

        Those are the names in its part of the sentence; of each dimension that its part does not
        name, the last one named before it.
        """
        names = self._names(known)
        dimensions = self._dimensions(known)
        before: dict[str, str] = {}
        for part in _PARTS.split(marked(sentence, names)):
            read = [names[ord(c) - FIRST_MARK] for c in part if ord(c) >= FIRST_MARK]
            here = {each for name in read for each in dimensions.get(name.casefold(), ())}
            with_it = {*read, *(name for each, name in before.items() if each not in here)}
            for found in ID.findall(part):
                fact = known[found]
                own = {name.casefold() for name in self._own(fact)}
                for name in sorted(with_it):
                    if name.casefold() not in own:
                        about = f"what {{{found}}} is about, which is {fact.what}"
                        yield f"{quoted(name)} is not {about}"
            for name in read:
                before.update(dict.fromkeys(dimensions.get(name.casefold(), ()), name))

    def _filled(self, sentence: str, known: Mapping[str, Fact], numbers: Mapping[str, int]) -> str:
        names = self._names(known)
        read = marked(sentence, names)
        whole = {names[ord(c) - FIRST_MARK].casefold() for c in read if ord(c) >= FIRST_MARK}
        parts = iter([
            {names[ord(c) - FIRST_MARK].casefold() for c in part if ord(c) >= FIRST_MARK}
            for part in _PARTS.split(read)
            for _ in ID.findall(part)
        ])  # fmt: skip

        def put(place: re.Match[str]) -> str:
            fact = known[place[1]]
            added = self._left_out(fact, next(parts), whole, known)
            more = f" ({', '.join(added)})" if added else ""
            return f"{fact.stated}{more} [{numbers[place[1]]}]"

        return sentence_case(ID.sub(put, sentence.strip()))

    def _left_out(
        self, fact: Fact, part: set[str], whole: set[str], known: Mapping[str, Fact]
    ) -> list[str]:
        """What a fact is about and neither it nor the sentence around it says."""
        about = dict(fact.about)
        result = next(each for each in self.results if each.id == fact.run)
        if sum(each.kind == result.kind for each in self.results) > 1:
            about["run"] = fact.run
        left = []
        for dimension, name in about.items():
            same = {name.casefold()}
            if dimension == "run" and [each.name for each in self.results].count(result.name) == 1:
                same.add(result.name.casefold())
            if same & part or (dimension != "run" and quoted(name) in fact.stated):
                continue
            rivals = self._dimension(dimension, known) - same
            if same & whole and not rivals & whole:
                continue
            left.append(name if dimension in ("run", "status", "seat") else quoted(name))
        return left

    def _own(self, fact: Fact) -> tuple[str, ...]:
        """The names that a sentence with a fact may use: its own, and those of its result."""
        result = next(each for each in self.results if each.id == fact.run)
        return (*fact.own_names, result.name)

    def _dimension(self, dimension: str, known: Mapping[str, Fact]) -> set[str]:
        if dimension == "run":
            return {each.casefold() for result in self.results for each in (result.id, result.name)}
        return {f.about[dimension].casefold() for f in known.values() if dimension in f.about}

    def _dimensions(self, known: Mapping[str, Fact]) -> dict[str, set[str]]:
        """Name, in small letters → the dimensions in which it names something."""
        found: dict[str, set[str]] = {}
        for result in self.results:
            for dimension, names in (
                ("run", (result.id, result.name)),
                ("layer", result.layers),
                ("category", result.categories),
                ("factor", result.factors),
            ):
                for name in names:
                    found.setdefault(safe(name).casefold(), set()).add(dimension)
        for fact in known.values():
            for dimension, name in fact.about.items():
                found.setdefault(name.casefold(), set()).add(dimension)
        return found

    def _names(self, known: Mapping[str, Fact]) -> list[str]:
        """Every name that may be in conflict with a fact, longest first."""
        found = set(self._fixed)
        found |= {name for fact in known.values() for name in fact.about.values()}
        return sorted(filter(None, found), key=lambda name: (-len(name), name))

    @cached_property
    def _fixed(self) -> frozenset[str]:
        found = {each.id for each in self.results} | {each.name for each in self.results}
        for result in self.results:
            found |= {*map(safe, (*result.layers, *result.classes, *result.factors))}
            found |= {*map(safe, result.categories)}
        return frozenset(found)

    @cached_property
    def _vocabulary(self) -> frozenset[str]:
        found = set(self._fixed)
        for result in self.results:
            words: Iterable[Any] = result.words
            if len(result.words) > _FEW_WORDS:
                words = carried_words(result.profile) if result.run else ()
            found |= {*map(safe, words)}
        return frozenset(found)
