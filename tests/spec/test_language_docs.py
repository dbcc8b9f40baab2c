"""What the documentation of the language shows is what the parser reads."""

import re
from pathlib import Path

import pytest

from profiler.spec.language.names import check
from profiler.spec.language.parser import parse
from profiler.spec.language.parser import parse_formula as read
from profiler.spec.language.tokens import KEYWORDS
from profiler.spec.language.tree import And, ForEach, Formula, ForSome, Implies, Not, Or

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "conspec.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```conspec\n(.*?)```", DOCS, re.DOTALL)


@pytest.mark.parametrize("source", EXAMPLES)
def test_the_examples_are_read_and_their_names_known(source: str) -> None:
    file = parse(source)
    check(file)
    assert parse(str(file)) == file


def test_there_is_an_example() -> None:
    assert EXAMPLES


def test_every_keyword_is_in_the_grammar() -> None:
    grammar = DOCS.split("## Grammar")[1].split("## ")[0]
    missing = {word for word in KEYWORDS - {"implies"} if f'"{word}"' not in grammar}
    assert missing == set()
    assert "`implies`" in DOCS


@pytest.mark.parametrize(
    "row", re.findall(r"^\| (?:for|implies|or|and|not).*$", DOCS, re.MULTILINE)
)
def test_every_way_to_write_a_connective_means_the_same(row: str) -> None:
    _, name, ascii_, also, _, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", row))
    kinds: dict[str, type[Formula]] = {
        "for each": ForEach,
        "for some": ForSome,
        "implies": Implies,
        "or": Or,
        "and": And,
        "not": Not,
    }
    written = [text.replace("\\|", "|") for text in re.findall(r"`([^`]+)`", ascii_ + also)]
    assert written
    for text in written:
        if "…" in text:
            formula = read(text.replace("…", "predict(x, c)"))
        elif name == "not":
            formula = read(f"{text} predict(x, c)")
        else:
            formula = read(f"predict(x, a) {text} predict(x, b)")
        assert type(formula) is kinds[name], text


def test_every_keyword_is_highlighted() -> None:
    rules = (ROOT / "docs" / "conspec.vim").read_text(encoding="utf-8")
    known = set(re.findall(r"^syntax keyword conspec\w+ (.*)$", rules, re.MULTILINE))
    assert {word for line in known for word in line.split()} >= KEYWORDS
