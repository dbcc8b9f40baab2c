"""Text → tokens, and the error that points into the text."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from profiler.errors import InputError

Kind = Literal["word", "string", "number", "sign", "end"]

KEYWORDS = frozenset(
    [
        *("model", "classes", "concepts", "set", "spec"),
        *("for", "some", "in", "and", "or", "not", "implies"),
        *("require", "applicable", "rate"),
        *("predict", "hasCon", "x"),
    ]
)
"""Words with a meaning of their own; a class or concept of that name is written in quotes."""

SIGNS = {
    "¬": "not",
    "!": "not",
    "∧": "and",
    "&&": "and",
    "&": "and",
    "∨": "or",
    "||": "or",
    "|": "or",
    "=>": "implies",
    "->": "implies",
    "⇒": "implies",
    "→": "implies",
    "∀": "for",
    "∃": "some",
    "∈": "in",
    "≥": ">=",
}
"""Other ways to write a word or a sign."""

WORD = re.compile(r"[^\W\d]\w*(?:-\w+)*")
"""A name that needs no quotes, keywords apart: letters, digits, ``_``, and ``-`` inside."""

_BLANK = re.compile(r"(?:\s|\ufeff|#[^\n]*)*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?")
_SIGN = re.compile(r"=>|->|>=|&&|\|\||[¬!∧&∨|⇒→∀∃∈≥>=(){},:%]")


class SpecError(InputError):
    """A Con_spec that cannot be read, or that names what does not exist.

    The message is one line, ``FILE:LINE:COLUMN: what is wrong``; :attr:`excerpt` shows the place.

    Attributes:
        line: from 1.
        column: from 1, in characters.
        excerpt: the line, and a caret below the place.
    """

    def __init__(self, message: str, source: str, at: int, title: str = "") -> None:
        at = min(max(at, 0), len(source))
        start = source.rfind("\n", 0, at) + 1
        end = source.find("\n", at)
        text = source[start : len(source) if end < 0 else end]
        self.line = source.count("\n", 0, at) + 1
        self.column = at - start + 1
        self.excerpt = _excerpt(text, at - start)
        where = f"{self.line}:{self.column}"
        super().__init__(f"{f'{title}:' if title else 'line '}{where}: {message}")


def _excerpt(text: str, column: int, width: int = 76) -> str:
    """A line of text and a caret; of a long line the part around the place."""
    first = max(0, min(column - width // 2, len(text) - width))
    shown = text[first : first + width]
    # What is no plain character would put the caret elsewhere.
    plain = "".join(each if each.isprintable() else " " for each in shown)
    return f"{plain}\n{' ' * (column - first)}^"


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'ears'?``, or nothing.

    >>> near("eers", ["ears", "wheels"])
    "; did you mean 'ears'?"
    """
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True)
class Token:
    """One piece of text."""

    kind: Kind
    text: str
    """A word or sign in its ASCII form; what a string or number stands for."""
    at: int
    """Offset in the text."""
    shown: str
    """As written."""

    def means(self, *texts: str) -> bool:
        """Whether it is one of these keywords or signs; a word in quotes never is."""
        return self.kind in ("word", "sign") and self.text in texts


def tokenize(source: str, title: str = "") -> list[Token]:
    """Cut a text into tokens; the last is the end. Raises :class:`SpecError`.

    >>> [token.text for token in tokenize("predict(x, cat) ⇒ >(x, ears, wheels)  # so")][:7]
    ['predict', '(', 'x', ',', 'cat', ')', 'implies']
    """
    tokens: list[Token] = []
    at = _end(_BLANK.match(source))
    while at < len(source):
        token = _token(source, at, title)
        tokens.append(token)
        at = _end(_BLANK.match(source, at + len(token.shown)))
    return [*tokens, Token("end", "the end of the file", len(source), "")]


def _end(match: re.Match[str] | None) -> int:
    return match.end() if match else 0


def _token(source: str, at: int, title: str) -> Token:
    if found := WORD.match(source, at):
        return Token("word", found[0], at, found[0])
    if found := _STRING.match(source, at):
        try:
            return Token("string", json.loads(found[0], strict=False), at, found[0])
        except ValueError:
            raise SpecError(
                f"{found[0]} holds a backslash without a meaning; write \\\\ for a backslash, "
                '\\" for a quote',
                source,
                at,
                title,
            ) from None
    if found := _NUMBER.match(source, at):
        return Token("number", found[0], at, found[0])
    if found := _SIGN.match(source, at):
        return Token("sign", SIGNS.get(found[0], found[0]), at, found[0])
    character = source[at]
    hint = {
        '"': "a quote that is not closed on its line",
        "'": "names with blanks or signs are written in double quotes",
        "<": "to say that a is stronger than b, write >(x, a, b)",
        "≤": "to say that a is stronger than b, write >(x, a, b)",
        "/": "a comment starts with #",
    }.get(character, "no part of the language")
    raise SpecError(f"{character!r}: {hint}", source, at, title)
