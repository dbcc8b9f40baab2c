"""``profiler mine``: specs that images suggest, and those that a table of attributes does."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import Command
from tiny import CLASSES, write_classes

from profiler.errors import InputError
from profiler.spec.language.names import check
from profiler.spec.language.parser import read
from profiler.spec.mine import read_table
from profiler.spec.verify.interpretation import Interpretation, Linear
from profiler.spec.verify.mining import candidates, measure, relevant_pairs
from profiler.spec.verify.rates import Rate

HERE = Path(__file__).parents[1] / "samples"
SUBJECT = f"{HERE / 'tiny.py'}:subject"
VLM = f"{HERE / 'tiny.py'}:caption_vlm"

# Class a where z0 > 0; p is z0, q is z1, r is 0.
WORLD = Interpretation(
    Linear(("a", "b"), np.array([[1.0, 0], [0, 0]]), np.zeros(2)),
    Linear(("p", "q", "r"), np.array([[1.0, 0], [0, 1], [0, 0]]), np.zeros(3)),
)


def test_rate_inside_and_outside() -> None:
    facts = WORLD.of(np.array([[2.0, 1], [1, 3], [1, 0], [-1, 1], [-1, -2]]))
    (found,) = measure(facts, [("a", "p", "q")])
    assert (found.inside, found.outside) == (Rate(2, 3), Rate(1, 2))
    assert found.lift == pytest.approx(4 / 3)
    assert str(found.formula) == "predict(x, a) => >(x, p, q)"
    (never,) = measure(facts, [("a", "p", "r")])
    assert never.lift == float("inf")
    (some,) = measure(facts, [("a", "p", "q")], np.array([1, 1, 0, 0, 0], dtype=bool))
    assert some.inside == Rate(1, 2)


def test_the_pairs_that_set_a_class_apart_come_first() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2))
    facts = WORLD.of(z)
    rows = np.ones(400, dtype=bool)
    found = candidates(facts, ["a", "b"], rows, per_class=3, least_rate=0.9)
    # p over r is what it means to be an a: always inside, never outside. Nothing else reaches 0.9.
    assert found == [("a", "p", "r"), ("b", "r", "p")]
    loose = candidates(facts, ["a"], rows, per_class=3, least_rate=0.0)
    assert loose[0] == ("a", "p", "r")
    assert len(loose) == len(set(loose)) <= 3
    assert candidates(facts, ["a"], rows & False, per_class=3, least_rate=0) == []


def test_pairs_of_a_table() -> None:
    pairs = relevant_pairs(
        np.array([0.9, 0.0, 0.5, 0.45]), ["a", "b", "c", "d"], most=9, relevant=0.5, gap=0.4
    )
    assert pairs == [("a", "b"), ("c", "b"), ("a", "d"), ("a", "c")]
    assert relevant_pairs(np.array([0.9, 0.0]), ["a", "b"], most=0, relevant=0.5, gap=0.4) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,a\ncat,1", "expected a header"),
        ("class,a,b\ncat,1", "line 2: 2 fields, but the header has 3"),
        ("class,a,b\ncat,1,2", "line 2: expected 2 shares"),
        ("class;a;b\ncat;0,5;nan", "line 2: expected 2 shares"),
        ("class,a,b\ncat,1,x", "line 2: expected 2 shares"),
        ("class,a,a\ncat,1,0", "the same attribute is listed twice"),
        ("class,a,b\ncat,1,0\ncat,0,1", "the same class is listed twice"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_table(tmp_path / "t.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "images", 40)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nyellow\n")
    return tmp_path


def mine(command: Command, folder: Path, *more: object) -> list[dict[str, object]]:
    done = command(
        *("mine", SUBJECT, "--data", folder / "images", "--classes", folder / "classes.txt"),
        *("--vlm", VLM, "-j", 0, "--out", folder / "mined.conspec", "--json", *more),
    )
    assert done.status == 0, done.stderr
    specs: list[dict[str, object]] = json.loads(done.stdout)["specs"]
    return specs


def test_mined_specs_hold_when_they_are_checked(command: Command, folder: Path) -> None:
    found = mine(command, folder, "--concepts", folder / "words.txt", "--least-rate", 0.7)
    pairs = [(each["class"], each["relevant"], each["irrelevant"]) for each in found]
    assert ("red", "red", "green") in pairs or ("red", "red", "blue") in pairs
    assert all(each["relevant"] != each["irrelevant"] for each in found)
    text = (folder / "mined.conspec").read_text(encoding="utf-8")
    assert "Chosen on 96 images, measured on 64 others" in text
    assert "16 images with this prediction" in text
    specs = read(folder / "mined.conspec")
    check(specs)
    assert len(specs.specs) == len(found)
    done = command(
        *("check", folder / "mined.conspec", SUBJECT, "--data", folder / "images"),
        *("--classes", folder / "classes.txt", "--vlm", VLM, "-j", 0, "--out", folder / "out"),
    )
    assert done.status == 0, done.stderr


def test_a_file_without_a_spec_is_said_so(command: Command, folder: Path) -> None:
    done = command(
        *("mine", SUBJECT, "--data", folder / "images", "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--least-rate", 1),
        *("--out", folder / "mined.conspec"),
    )
    assert done.status == 0
    assert "no pair holds often enough to be proposed" in done.stderr


def test_a_table_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    text = "class;wings;long, snout\r\nplane;1;0,25\r\ncafe\u0301;0;0,5;\r\n"
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    table = read_table(tmp_path / "t.csv")
    assert (table.classes, table.attributes) == (("plane", "café"), ("wings", "long, snout"))
    assert table.frequencies.tolist() == [[1, 0.25], [0, 0.5]]


def test_a_table_seeds_specs_the_most_violated_first(command: Command, folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text("class,red,green,blue\nred,0.1,0.9,0.8\ncyan,0,0.9,0.6\nmoon,1,0,0\n")
    found = mine(command, folder, "--table", table, "--gap", 0.3)
    red = [each for each in found if each["class"] == "red"]
    # The table says that red things look green: they never do.
    assert {(each["relevant"], each["irrelevant"]) for each in red} == {
        ("green", "red"),
        ("blue", "red"),
    }
    assert [each["holds"] for each in red] == [0, 0]
    assert [each["class"] for each in found] == ["red", "red", "cyan", "cyan", "cyan"]
    rates = [each["holds"] for each in found if each["class"] == "cyan"]
    assert rates == sorted(rates)  # type: ignore[type-var]
    assert "Named by table.csv" in (folder / "mined.conspec").read_text(encoding="utf-8")


def test_a_table_of_other_classes_is_refused(command: Command, folder: Path) -> None:
    (folder / "table.csv").write_text("class,red,green\nmoon,1,0\n")
    done = command(
        *("mine", SUBJECT, "--data", folder / "images", "--classes", folder / "classes.txt"),
        *("--vlm", VLM, "--out", folder / "m.conspec", "--table", folder / "table.csv"),
    )
    assert done.status == 2
    assert "no class of the table (moon) is an output of the classifier" in done.error
