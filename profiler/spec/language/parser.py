"""Text → tree. Each rule of the grammar is the docstring of the function that reads it.

Declarations are read by recursive descent, which they bound; formulas by operator precedence with
a stack of their own, so that they may be nested as deep as memory allows.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from profiler.errors import InputError
from profiler.spec.language.tokens import KEYWORDS, SpecError, Token, near, tokenize
from profiler.spec.language.tree import (
    CLASSES,
    CONCEPTS,
    And,
    Entry,
    ForEach,
    Formula,
    ForSome,
    HasConcept,
    Implies,
    NamedSet,
    Not,
    Or,
    Predicts,
    Requirement,
    Spec,
    SpecFile,
    Stronger,
)

_TOP = ("model", CLASSES, CONCEPTS, "set", "spec")
_FORMULA = "predict(x, CLASS), >(x, CONCEPT, CONCEPT), hasCon(x, CONCEPT), not, for, some or '('"
_BINDS = {"implies": 1, "or": 2, "and": 3, "not": 4}


def read(path: Path) -> SpecFile:
    """Read a file; raises :class:`profiler.spec.language.SpecError` or :class:`InputError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read specifications from {str(path)!r}: {error}") from None
    try:
        return parse(content.removeprefix(codecs.BOM_UTF8).decode("utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: not UTF-8 text (byte {error.start})") from None


def parse(source: str, title: str = "") -> SpecFile:
    """``file = { model | classes | concepts | set | spec }``.

    Args:
        source: the text.
        title: what to call it in errors.

    Raises:
        SpecError: with line, column, and a suggestion where there is one.
    """
    source = source.replace("\r\n", "\n")
    return _Parser(source, title).file()


def parse_formula(source: str) -> Formula:
    """Read a formula alone.

    >>> str(parse_formula("predict(x, truck) ⇒ ¬ >(x, ears, metallic)"))
    'predict(x, truck) => not >(x, ears, metallic)'
    """
    parser = _Parser(source, "")
    formula = parser.formula()
    if parser.now.kind != "end":
        parser.fail(f"expected the end, found {parser.now.shown!r}")
    return formula


@dataclass
class _Operator:
    """A connective, quantifier or bracket that waits for what stands on its right."""

    word: str
    at: int
    operands: int = 1
    variable: str = ""
    over: str | tuple[str, ...] = ""

    @property
    def binds(self) -> int:
        return _BINDS.get(self.word, 0)


class _Parser:
    def __init__(self, source: str, title: str) -> None:
        self.source, self.title = source, title
        self.tokens = tokenize(source, title)
        self.place = 0

    # --- tokens

    @property
    def now(self) -> Token:
        return self.tokens[self.place]

    def next(self) -> Token:
        token = self.now
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def take(self, *texts: str) -> bool:
        """Whether the next token is one of these; it is passed if so."""
        found = self.now.means(*texts)
        if found:
            self.next()
        return found

    def expect(self, text: str, where: str) -> None:
        if not self.take(text):
            self.fail(f"expected {text!r} {where}, found {self.found()}")

    def found(self) -> str:
        return "the end" if self.now.kind == "end" else repr(self.now.shown)

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        raise SpecError(message, self.source, self.now.at if at is None else at, self.title)

    def separated(self) -> Iterator[int]:
        """Where each part of a list begins, as long as commas follow."""
        yield self.now.at
        while self.take(","):
            yield self.now.at

    def name(self, what: str) -> str:
        """``name = WORD | STRING``: letters, digits, _ and - inside; anything else in quotes."""
        token = self.now
        if token.kind == "string":
            if not token.text.strip():
                self.fail(f"expected {what}, found an empty name")
        elif token.kind != "word":
            self.fail(f"expected {what}, found {self.found()}")
        elif token.text in KEYWORDS:
            self.fail(
                f"expected {what}, found the keyword {token.text!r}; a name like it is written "
                f'in quotes: "{token.text}"'
            )
        self.next()
        return token.text

    # --- the file

    def file(self) -> SpecFile:
        model: str | None = None
        entries: dict[str, list[Entry]] = {CLASSES: [], CONCEPTS: []}
        sets: list[NamedSet] = []
        specs: list[Spec] = []
        while self.now.kind != "end":
            start = self.now
            if not self.take(*_TOP):
                said = f"expected model, classes, concepts, set or spec, found {self.found()}"
                self.fail(said + (near(start.text, _TOP) if start.kind == "word" else ""))
            if start.text == "model":
                if model is not None:
                    self.fail("a second model; a file is about one model", start.at)
                model = self.name("the name of a model")
            elif start.text in entries:
                self.entries(entries[start.text], start.text)
            elif start.text == "set":
                sets.append(self.named_set(sets))
            else:
                specs.append(self.spec(specs))
        file = SpecFile(
            tuple(specs),
            model,
            tuple(entries[CLASSES]),
            tuple(entries[CONCEPTS]),
            tuple(sets),
            self.source,
            self.title,
        )
        if not specs:
            self.fail("the file holds no spec; write: spec NAME: FORMULA")
        return file

    def entries(self, known: list[Entry], word: str) -> None:
        """``classes = "classes" entry { "," entry }``, ``entry = name [ "=" STRING ]``."""
        one = "class" if word == CLASSES else "concept"
        for at in self.separated():
            name = self.name(f"the name of a {one}")
            if name in [each.name for each in known]:
                self.fail(f"{one} {name!r} is declared twice", at)
            caption = self.caption() if self.take("=") else None
            known.append(Entry(name, caption, at))

    def caption(self) -> str:
        token = self.now
        if token.kind != "string" or not token.text.strip():
            self.fail(f"expected a caption in quotes, found {self.found()}")
        self.next()
        return token.text

    def named_set(self, known: list[NamedSet]) -> NamedSet:
        """``set = "set" name "=" "{" name { "," name } "}"``."""
        at = self.now.at
        name = self.name("the name of a set")
        if name in (CLASSES, CONCEPTS, *(each.name for each in known)):
            self.fail(f"set {name!r} is declared twice", at)
        self.expect("=", "after the name of a set")
        if not self.now.means("{"):
            self.fail(f"expected '{{' before the members of a set, found {self.found()}")
        return NamedSet(name, self.members(), at)

    def members(self) -> tuple[str, ...]:
        """``"{" name { "," name } "}"``."""
        self.next()
        if self.now.means("}"):
            self.fail("a set has at least one member")
        found: list[str] = []
        for at in self.separated():
            name = self.name("a member of the set")
            if name in found:
                self.fail(f"{name!r} is twice in the set", at)
            found.append(name)
        self.expect("}", "after the members of a set, or ','")
        return tuple(found)

    def spec(self, known: list[Spec]) -> Spec:
        """``spec = "spec" name [ STRING ] ":" formula { requirement }``."""
        at = self.now.at
        name = self.name("the name of a spec")
        if name in [each.name for each in known]:
            self.fail(f"spec {name!r} is declared twice", at)
        title = self.next().text if self.now.kind == "string" else None
        self.expect(":", "after the name of a spec")
        formula = self.formula()
        required: list[Requirement] = []
        while self.take("require"):
            required.append(self.requirement())
        if self.now.kind != "end" and not self.now.means(*_TOP):
            self.fail(
                f"expected a connective (and, or, =>), require, or the next spec, found "
                f"{self.found()}"
                + (near(self.now.text, ("and", "or", "require", *_TOP)) if self.now.text else "")
            )
        return Spec(name, formula, title, tuple(required), at)

    def requirement(self) -> Requirement:
        """``requirement = "require" [ "applicable" ] "rate" ">=" NUMBER [ "%" ]``."""
        applicable = self.take("applicable")
        self.expect("rate", "after require")
        self.expect(">=", "after rate")
        token = self.now
        if token.kind != "number":
            self.fail(f"expected a rate such as 0.95 or 95 %, found {self.found()}")
        self.next()
        bound = float(token.text)
        if self.take("%"):
            bound /= 100
        if not 0 <= bound <= 1:
            self.fail(
                f"a rate lies between 0 and 1, or 0 % and 100 %, not at {token.text}", token.at
            )
        return Requirement("applicable rate" if applicable else "rate", bound)

    # --- formulas

    def formula(self) -> Formula:
        """``formula``, loosest first: quantifiers reach as far right as they can.

        ::

            formula     = quantifier formula | implication
            implication = disjunction [ "=>" formula ]
            disjunction = conjunction { "or" conjunction }
            conjunction = negation { "and" negation }
            negation    = "not" negation | atom | "(" formula ")"

        Any operand may be a quantifier with all that follows it.
        """
        values: list[Formula] = []
        waiting: list[_Operator] = []
        while True:
            self.operand(values, waiting)
            while self.now.means(")") and any(each.word == "(" for each in waiting):
                self.reduce(values, waiting, -1)
                waiting.pop()
                self.next()
            if not self.now.means("and", "or", "implies"):
                break
            self.connective(values, waiting)
        self.reduce(values, waiting, -1)
        if waiting:
            self.fail(f"expected ')' or a connective, found {self.found()}", None)
        return values[0]

    def operand(self, values: list[Formula], waiting: list[_Operator]) -> None:
        """Everything up to and with the next atom."""
        while True:
            token = self.now
            if token.means("not", "("):
                waiting.append(_Operator(token.text, token.at))
                self.next()
            elif token.means("for", "some"):
                self.quantifier(waiting)
            else:
                values.append(self.atom())
                return

    def quantifier(self, waiting: list[_Operator]) -> None:
        """``quantifier = ( "for" | "some" ) name "in" set { "," name "in" set } ":"``."""
        word = self.next().text
        for at in self.separated():
            variable = self.name("a variable")
            self.expect("in", f"after the variable {variable!r}")
            over: str | tuple[str, ...]
            if self.now.means("{"):
                over = self.members()
            elif self.now.means(CLASSES, CONCEPTS):
                over = self.next().text
            else:
                over = self.name("a set: its name, classes, concepts, or {members}")
            waiting.append(_Operator(word, at, variable=variable, over=over))
        self.expect(":", "after the set, or ','")

    def connective(self, values: list[Formula], waiting: list[_Operator]) -> None:
        """Shift a connective, after what binds closer on its left was put together."""
        token = self.next()
        self.reduce(values, waiting, _BINDS[token.text])
        if token.text != "implies" and waiting and waiting[-1].word == token.text:
            waiting[-1].operands += 1
        else:
            waiting.append(_Operator(token.text, token.at, 2))

    def reduce(self, values: list[Formula], waiting: list[_Operator], binds: int) -> None:
        """Put together what binds closer than ``binds``, up to the last open bracket."""
        while waiting and waiting[-1].word != "(" and waiting[-1].binds > binds:
            operator = waiting.pop()
            first = len(values) - operator.operands
            values[first:] = [_made(operator, values[first:])]

    def atom(self) -> Formula:
        """``atom = "predict(x, name)" | ">(x, name, name)" | "hasCon(x, name)"``."""
        token = self.now
        if self.take("predict"):
            return Predicts(*self.arguments("predict", "CLASS"), at=token.at)
        if self.take(">"):
            return Stronger(*self.arguments(">", "CONCEPT", "CONCEPT"), at=token.at)
        if not self.take("hasCon"):
            self.no_atom(token)
        return HasConcept(*self.arguments("hasCon", "CONCEPT"), at=token.at)

    def no_atom(self, token: Token) -> NoReturn:
        hint = near(token.text, ("predict", "hasCon", "not", "for", "some"))
        self.fail(
            f"expected a formula: {_FORMULA}; found {self.found()}"
            + (hint if token.kind == "word" and token.text not in KEYWORDS else "")
        )

    def arguments(self, atom: str, *wanted: str) -> list[str]:
        form = f"{atom}(x, {', '.join(wanted)})"
        self.expect("(", f"as in {form}")
        if not self.take("x"):
            self.fail(f"expected 'x', the image, as in {form}; found {self.found()}")
        names = []
        for one in wanted:
            self.expect(",", f"as in {form}")
            names.append(self.name(f"a {one.lower()}, as in {form}"))
        self.expect(")", f"as in {form}")
        return names


def _made(operator: _Operator, operands: list[Formula]) -> Formula:
    if operator.word == "not":
        return Not(*operands)
    if operator.word == "implies":
        return Implies(*operands)
    if operator.word in ("and", "or"):
        return (And if operator.word == "and" else Or)(tuple(operands))
    kind = ForEach if operator.word == "for" else ForSome
    return kind(operator.variable, operator.over, operands[0], at=operator.at)
