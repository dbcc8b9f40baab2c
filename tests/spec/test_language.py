"""The language of specs: what is read, what is written, and what errors say."""

import string
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from profiler.errors import InputError
from profiler.spec.language.names import check, concepts_in, expand, labels_in
from profiler.spec.language.parser import parse, parse_formula, read
from profiler.spec.language.tokens import SpecError
from profiler.spec.language.tree import (
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

ZOO = """
# Everything the language has.
model zoo
classes cat, dog, plane = "airplane"
concepts ears, wheels, metallic = "a shiny metallic thing", "floppy ears"
set animals = {cat, dog}

spec metal "planes look metallic":      # a title, then a colon
    predict(x, plane) => >(x, metallic, ears)
    require rate >= 0.95
    require applicable rate >= 80 %

spec ears: for c in animals: predict(x, c) ⇒ >(x, ears, wheels)
spec any: some c in animals, k in {ears, "floppy ears"}: predict(x, c) and hasCon(x, k)
"""

E, W, M = "ears", "wheels", "metallic"


def test_a_file_says_what_was_written() -> None:
    file = parse(ZOO)
    assert file.model == "zoo"
    assert file.classes == (Entry("cat"), Entry("dog"), Entry("plane", "airplane"))
    assert [entry.text for entry in file.concepts] == [
        "ears",
        "wheels",
        "a shiny metallic thing",
        "floppy ears",
    ]
    assert file.sets == (NamedSet("animals", ("cat", "dog")),)
    metal, ears, some = file.specs
    assert metal == Spec(
        "metal",
        Implies(Predicts("plane"), Stronger(M, E)),
        "planes look metallic",
        (Requirement("rate", 0.95), Requirement("applicable rate", 0.8)),
    )
    assert ears.formula == ForEach("c", "animals", Implies(Predicts("c"), Stronger(E, W)))
    inner = And((Predicts("c"), HasConcept("k")))
    assert some.formula == ForSome("c", "animals", ForSome("k", (E, "floppy ears"), inner))
    check(file)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        # and binds closer than or, or closer than =>, which leans to the right.
        (
            "hasCon(x,a) and hasCon(x,b) or hasCon(x,c) => hasCon(x,d) => hasCon(x,e)",
            Implies(
                Or((And((HasConcept("a"), HasConcept("b"))), HasConcept("c"))),
                Implies(HasConcept("d"), HasConcept("e")),
            ),
        ),
        # A chain is one conjunction; brackets make it two.
        (
            "hasCon(x,a) & hasCon(x,b) ∧ hasCon(x,c)",
            And((HasConcept("a"), HasConcept("b"), HasConcept("c"))),
        ),
        (
            "(hasCon(x,a) && hasCon(x,b)) and hasCon(x,c)",
            And((And((HasConcept("a"), HasConcept("b"))), HasConcept("c"))),
        ),
        ("¬¬>(x,a,b) | !predict(x,c)", Or((Not(Not(Stronger("a", "b"))), Not(Predicts("c"))))),
        # A quantifier reaches as far right as it can.
        (
            "hasCon(x,a) ∨ ∀ c ∈ s: predict(x,c) → hasCon(x,b)",
            Or(
                (
                    HasConcept("a"),
                    ForEach("c", "s", Implies(Predicts("c"), HasConcept("b"))),
                )
            ),
        ),
        (
            "(∃ c ∈ s: predict(x,c)) implies hasCon(x,b)",
            Implies(ForSome("c", "s", Predicts("c")), HasConcept("b")),
        ),
    ],
)
def test_connectives_bind_as_in_logic(text: str, tree: Formula) -> None:
    assert parse_formula(text) == tree


# --- writing -------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        ["cat", "floppy-ears", "set", "x", "for", "polar bear", 'a "b"', "größe", "ñ²"]
    ),
    st.text(min_size=1, max_size=5).filter(lambda text: bool(text.strip())),
)
SETS = st.one_of(
    st.sampled_from(["classes", "concepts"]),
    NAMES,
    st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple),
)
ATOMS = st.one_of(
    st.builds(Stronger, NAMES, NAMES), st.builds(Predicts, NAMES), st.builds(HasConcept, NAMES)
)


def larger(parts: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Not, parts),
        st.builds(And, several),
        st.builds(Or, several),
        st.builds(Implies, parts, parts),
        st.builds(ForEach, NAMES, SETS, parts),
        st.builds(ForSome, NAMES, SETS, parts),
    )


FORMULAS = st.recursive(ATOMS, larger, max_leaves=12)


@settings(deadline=None)
@given(FORMULAS)
def test_what_is_written_reads_back_the_same(formula: Formula) -> None:
    back = parse_formula(str(formula))
    assert back == formula
    assert hash(back) == hash(formula)
    assert str(back) == str(formula)


CAPTIONS = st.none() | st.text(min_size=1, max_size=4).filter(lambda text: bool(text.strip()))
ENTRIES = st.lists(
    st.builds(Entry, NAMES, CAPTIONS), max_size=3, unique_by=lambda each: each.name
).map(tuple)
SPECS = st.builds(
    Spec,
    NAMES,
    FORMULAS,
    st.none() | st.text(max_size=4),
    st.lists(
        st.builds(
            Requirement, st.sampled_from(["rate", "applicable rate"]), st.floats(0, 1).map(abs)
        ),
        max_size=2,
    ).map(tuple),
)
FILES = st.builds(
    SpecFile,
    st.lists(SPECS, min_size=1, max_size=3, unique_by=lambda each: each.name).map(tuple),
    st.none() | NAMES,
    ENTRIES,
    ENTRIES,
    st.lists(
        st.builds(
            NamedSet,
            NAMES.filter(lambda name: name not in ("classes", "concepts")),
            st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple),
        ),
        max_size=2,
        unique_by=lambda each: each.name,
    ).map(tuple),
)


@settings(deadline=None)
@given(FILES)
def test_a_whole_file_reads_back_the_same(file: SpecFile) -> None:
    assert parse(str(file)) == file


def test_quantifiers_that_follow_each_other_share_a_word() -> None:
    text = "for c in s, k in {a, b}: some j in t: for i in s: hasCon(x, i)"
    assert str(parse_formula(text)) == text
    assert parse_formula(text.replace(", k", ": for k")) == parse_formula(text)


def test_different_trees_differ() -> None:
    one = parse_formula("hasCon(x,a) and (hasCon(x,b) or hasCon(x,c))")
    for other in (
        "hasCon(x,a) and hasCon(x,b) or hasCon(x,c)",
        "hasCon(x,a) and (hasCon(x,b) and hasCon(x,c))",
        "hasCon(x,a) and (hasCon(x,b) or hasCon(x,d))",
        "hasCon(x,a) and (hasCon(x,b) or predict(x,c))",
    ):
        assert parse_formula(other) != one
    assert one != "hasCon(x,a) and (hasCon(x,b) or hasCon(x,c))"


# --- depth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("(", ")"),
        ("not (", ")"),
        ("predict(x, c) => (", ")"),
        ("(hasCon(x, a) or (", ") and hasCon(x, b))"),
        ("for c in {a}: ", ""),
    ],
)
def test_a_thousand_levels_and_more(opening: str, closing: str) -> None:
    depth = 5 * sys.getrecursionlimit()
    levels = depth if "for" not in opening else 1000
    # Each quantifier binds a name of its own.
    text = "".join(opening.replace("for c", f"for c{i}") for i in range(levels))
    formula = parse_formula(f"{text}>(x, a, b){closing * levels}")
    assert parse_formula(str(formula)) == formula
    file = SpecFile((Spec("deep", formula),))
    check(file)
    assert concepts_in(expand(file.specs[0], file))[-1] in "ab"


# --- errors --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=60) | st.text(string.printable, max_size=60))
@example('spec a: predict(x, "')
@example("\ufeffspec")
@example("require rate >= 1e999")
def test_garbage_is_an_error_with_a_place(text: str) -> None:
    for source in (text, f"spec a: {text}", f"spec a: predict(x, b) {text}"):
        error = refusal(source)
        if error is not None:
            assert error.line >= 1
            assert error.column >= 1
            assert error.excerpt.splitlines()[-1].strip() == "^"


def refusal(source: str) -> SpecError | None:
    try:
        parse(source)
    except SpecError as error:
        return error
    return None


PIECES = st.sampled_from(
    [
        *("model", "classes", "concepts", "set", "spec", "for", "some", "in", "and", "or", "not"),
        *("implies", "require", "applicable", "rate", "predict", "hasCon", "x", "(", ")", "{", "}"),
        *(",", ":", "=", "=>", ">", ">=", "%", "¬", "∧", "∀", "∈", "≥", "cat", "ears", "0.95"),
        *("95", '"a b"', "# so", "\n", "predict(x, cat)", ">(x, a, b)", "spec a:"),
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.lists(PIECES, max_size=25).map(" ".join))
def test_words_in_any_order_are_read_or_refused(text: str) -> None:
    if refusal(text) is None:
        assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("source", "place", "said"),
    [
        ("spec a: predikt(x, cat)", "1:9", "did you mean 'predict'?"),
        ("spec a:\n  predict(cat)", "2:11", "expected 'x', the image, as in predict(x, CLASS)"),
        ("spec a: >(x, ears)", "1:18", "expected ',' as in >(x, CONCEPT, CONCEPT)"),
        ("spec a: (hasCon(x, b)", "1:22", "expected ')' or a connective, found the end"),
        ("spec a: hasCon(x, b))", "1:21", "found ')'"),
        ("spec a: hasCon(x, b) requre rate >= 1", "1:22", "did you mean 'require'?"),
        ("spec a: hasCon(x, b) require rate >= 95", "1:38", "a rate lies between 0 and 1"),
        ("spec a: hasCon(x, b) require rate > 0.5", "1:35", "expected '>=' after rate"),
        ("spec a: hasCon(x, set)", "1:19", 'a name like it is written in quotes: "set"'),
        ("spec a: ears > wheels", "1:9", "expected a formula"),
        ("spec a: ears < wheels", "1:14", "write >(x, a, b)"),
        ("spec a: hasCon(x, b) < 1", "1:22", "write >(x, a, b)"),
        ("spec a: hasCon(x, b) // so", "1:22", "a comment starts with #"),
        ('spec a: hasCon(x, "b)', "1:19", "a quote that is not closed"),
        (r'spec a: hasCon(x, "\q")', "1:19", "holds a backslash"),
        ("spec a: hasCon(x, b)\nspec a: hasCon(x, b)", "2:6", "spec 'a' is declared twice"),
        ("classes cat, cat spec a: predict(x, cat)", "1:14", "class 'cat' is declared twice"),
        ("set s = {}", "1:10", "a set has at least one member"),
        ("clases cat", "1:1", "did you mean 'classes'?"),
        ("classes cat", "1:12", "the file holds no spec"),
    ],
)
def test_an_error_says_where_and_what_would_be_right(source: str, place: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(source, "zoo.conspec")
    assert str(caught.value).startswith(f"zoo.conspec:{place}: ")
    assert said in str(caught.value)


def test_the_caret_stands_below_the_place() -> None:
    with pytest.raises(SpecError) as caught:
        parse("spec a: hasCon(x, b)\nspec b: hasCon(x, b) && hasKon(x, c)  # later\n")
    line, caret = caught.value.excerpt.splitlines()
    assert line[caret.index("^") :].startswith("hasKon")
    long = "spec a: " + "hasCon(x, b) and " * 50 + "oops"
    with pytest.raises(SpecError) as caught:
        parse(long)
    line, caret = caught.value.excerpt.splitlines()
    assert len(line) <= 76
    assert line[caret.index("^") :] == "oops"


# --- names ---------------------------------------------------------------------------------------

DECLARED = "classes cat, dog concepts ears, wheels set animals = {cat, dog} spec a: "


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("predict(x, cta)", "unknown class 'cta'; near names: cat"),
        (">(x, ears, weels)", "unknown concept 'weels'; near names: wheels"),
        ("hasCon(x, horns)", "unknown concept 'horns'; known: ears, wheels"),
        ("for c in animal: predict(x, c)", "unknown set 'animal'; near names: animals"),
        ("for c in {cat, dgo}: predict(x, c)", "unknown class or concept 'dgo'; near names: dog"),
        ("for c in concepts: predict(x, c)", "'ears' is a concept; predict(x, …) needs a class"),
        (">(x, cat, ears)", "'cat' is a class; a concept is needed here"),
        ("for cat in animals: predict(x, cat)", "has the name of a class or concept"),
        ("for c in animals: some c in animals: predict(x, c)", "bound already"),
        (">(x, ears, ears)", "'ears', is never stronger than itself"),
        ("for k in concepts: >(x, ears, k)", "which both sides can stand for, is never stronger"),
        # A variable reaches no further than its brackets.
        ("(for c in animals: predict(x, c)) and predict(x, c)", "unknown class 'c'"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(formula: str, said: str) -> None:
    with pytest.raises(SpecError, match="line 1:") as caught:
        check(parse(DECLARED + formula))
    assert said in str(caught.value)


def test_names_from_outside_count_where_the_file_declares_none() -> None:
    file = parse("spec a: for c in classes: predict(x, c) => >(x, ears, wheels)")
    check(file, ["cat", "dog"], ["ears", "wheels"])
    with pytest.raises(SpecError, match="unknown concept 'ears'; near names: ear"):
        check(file, ["cat", "dog"], ["ear", "wheels"])
    with pytest.raises(SpecError, match="'classes' has no members"):
        check(file, None, ["ears", "wheels"])
    # One name may be both; the atom says which is meant.
    check(parse("classes cat concepts cat, dog spec a: predict(x, cat) => >(x, cat, dog)"))


def test_quantifiers_are_written_out() -> None:
    file = parse(
        DECLARED + "for c in animals, k in {wheels}: some j in {ears}: predict(x, c) => >(x, j, k)"
    )
    formula = expand(file.specs[0], file)
    assert labels_in(formula) == ("cat", "dog")
    assert str(formula) == (
        "(predict(x, cat) => >(x, ears, wheels)) and (predict(x, dog) => >(x, ears, wheels))"
    )
    some = parse(DECLARED + "some c in classes: predict(x, c)")
    assert str(expand(some.specs[0], some)) == "predict(x, cat) or predict(x, dog)"


def test_sets_of_sets_of_sets_do_not_fill_the_memory() -> None:
    many = ", ".join(f"c{i}" for i in range(200))
    file = parse(f"set s = {{{many}}} spec a: for a in s, b in s, c in s: predict(x, a)")
    with pytest.raises(SpecError, match="more than 200,000 atoms and connectives"):
        expand(file.specs[0], file)


# --- files ---------------------------------------------------------------------------------------


def test_files_are_read_with_marks_of_order_and_any_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "zoo.conspec"
    path.write_bytes(b"\xef\xbb\xbf" + ZOO.replace("\n", "\r\n").encode())
    assert read(path) == parse(ZOO)
    assert read(path).title == "zoo.conspec"
    path.write_bytes("spec größe: predict(x, käse)".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read(path)
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "absent.conspec")
