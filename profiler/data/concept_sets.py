"""Lists of concepts: words that are shipped, or a user's own file."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from profiler.core.resources import shipped
from profiler.core.text import text_of, tidy
from profiler.errors import InputError, UnknownNameError, UsageError

COMMON_WORDS = ("common-20k", "common-3k")
"""Words of all kinds, the most frequent first."""
BUILT_IN_CONCEPTS = (*COMMON_WORDS, "imagenet-1k", "visual", "attributes")


@dataclass(frozen=True)
class ConceptSet:
    """Concepts in order, each once; with categories where the file gives them."""

    title: str
    words: tuple[str, ...]
    categories: tuple[str | None, ...]
    dropped: int = 0
    """Lines left out because the concept had already been given."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the words, in order."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()


def open_concepts(name: str) -> ConceptSet:
    """A concept set by built-in name or by path of a text file.

    A line is a concept, optionally followed by a tab and its category; blanks and lines that
    begin with ``#`` say nothing; of a concept given twice the first is kept. Letters are composed
    and quotation marks plain, as :func:`profiler.core.text.tidy` has it.
    """
    if name in BUILT_IN_CONCEPTS:
        path = shipped("concept_sets") / f"{name}.txt"
    elif name.startswith("annotations:"):
        raise UsageError(
            f"--concepts {name}: annotations take the place of a VLM in profiler run and compare "
            "alone; give a list of concepts"
        )
    elif Path(name).exists():
        path = Path(name)
    else:
        raise UnknownNameError(
            "concept set", name, BUILT_IN_CONCEPTS, hint="or give the path of a text file"
        )
    lines = [
        (word, category.strip() or None)
        for line in re.split(r"\r\n|\r|\n", text_of(path, "concept file"))
        for word, _, category in [line.partition("\t")]
        if not tidy(word).startswith("#")
    ]
    found = concepts_of(lines, name if name in BUILT_IN_CONCEPTS else path.name)
    if not found.words:
        raise InputError(f"concept file {str(path)!r} holds no concept; write one a line")
    return found


def concepts_of(given: Iterable[tuple[str, str | None]], title: str) -> ConceptSet:
    """Words with their categories as a set, tidied; of a word given twice the first is kept."""
    words: dict[str, str | None] = {}
    dropped = 0
    for text, category in given:
        word = tidy(text)
        if word in words:
            dropped += 1
        elif word:
            words[word] = category
    return ConceptSet(title, tuple(words), tuple(words.values()), dropped)
