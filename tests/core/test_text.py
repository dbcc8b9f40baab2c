"""Text and tables as people save them; numbers on the command line."""

import math
from pathlib import Path
from typing import Any

import pytest
import typer
from command import Command
from hypothesis import given
from hypothesis import strategies as st

from profiler import cli
from profiler.core.text import Table, decoded, number, tidy
from profiler.errors import InputError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capfd)


@given(st.text())
def test_a_tidy_name_is_tidy(name: str) -> None:
    assert tidy(tidy(name)) == tidy(name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding: str) -> None:
    assert decoded("é;ö\n".encode(encoding), "f") == "é;ö\n"


def test_another_encoding_is_named_by_its_line() -> None:
    with pytest.raises(InputError, match=r"f, line 2: this is not UTF-8 text \(byte 3\); save it"):
        decoded(b"ab\n\xe9\n", "f")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_line_ends_and_quotes(separator: str, end: str) -> None:
    quoted = f'"a{separator} ""b""{end}c"'
    lines = ["", f"Name{separator} Share ", f"{quoted}{separator} 0.5", "", f"d{separator}1"]
    table = Table.parse(end.join(lines), "t.csv", ("share",))
    assert table.header == ("Name", "Share")
    assert table.rows == (
        (3, (f'a{separator} "b"{end}c', "0.5")),
        (6, ("d", "1")),
    )
    assert table.numbers("SHARE") == [0.5, 1]


def test_the_header_with_the_columns_that_are_needed_decides() -> None:
    text = "path;label;a,b,c,d,e\n1;2;3\n"
    assert Table.parse(text, "t.csv", ("path", "label")).separator == ";"
    assert Table.parse(text[:20], "t.csv").separator == ","


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a,b\n1\n", "t.csv, line 2: 1 fields, but the header has 2"),
        ("a,b\n1,2,3\n", "t.csv, line 2: 3 fields, but the header has 2; .* needs quotes"),
        ("sep=;\na;b\n\n1;2\n3\n", "t.csv, line 5: 1 fields"),
        ('a,b\n1,2\n3,"4\n5\n', "t.csv, line 3: unexpected end of data"),
        ("a,c\n", "t.csv, line 1: no column 'b'; the header holds 'a', 'c'"),
        ("a,b,B\n", "t.csv, line 1: the column 'b' stands there twice"),
    ],
)
def test_a_fault_of_a_table_is_named_by_its_line(text: str, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        Table.parse(text, "t.csv", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a;b\n0,75;x\n1,234;x\n-2;x\n", [0.75, 1.234, -2]),
        ("a;b\n0.75;x\n1,234;x\n", [0.75, None]),
        ("a;b\n1,234,5;x\n", [None]),
        ('a,b\n"0,75",x\n', [None]),
        ("a,b\nnan,x\ninf,x\n1e999,x\n1_0,x\n٣,x\n,x\n+.5e1,x\n", [None] * 6 + [5]),
    ],
)
def test_numbers_of_a_column(text: str, values: list[float | None]) -> None:
    assert Table.parse(text, "t.csv").numbers("a") == values


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_as_it_is_written(value: float) -> None:
    assert number(repr(value)) == value


# --- numbers on the command line -------------------------------------------------------------


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(
    ("call", "option"),
    [
        ("import d.csv --out o", "--threshold"),
        ("run resnet18 --probe p", "--threshold"),
        ("calibrate r", "--target"),
        ("guard fit r --data d", "--risk"),
        ("guard fit r --data d", "--share"),
        ("guard score i.png", "--confidence"),
        ("debug r --data d --attack pgd", "--eps"),
        ("check f r --data d", "--timeout"),
        ("mine r --data d", "--gap"),
        ("run r", "--max-report-mb"),
        ("cache prune", "--max-size"),
    ],
)
def test_no_option_takes_what_is_no_finite_number(
    command: Command, call: str, option: str, value: str
) -> None:
    """NaN lies within every range, because all comparisons with it are false."""
    done = command(*call.split(), f"{option}={value}")
    assert done.status == 2
    assert option in done.error
    assert (
        "number" in done.error
        or "no size" in done.error
        or "Input should be" in done.error
        or "share" in done.error
    )


def test_nor_does_a_file_of_options(command: Command, tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text("[import]\nthreshold = nan\n")
    done = command("--config", tmp_path / "o.toml", "import", "d.csv", "--out", "o")
    assert (done.status, "nan is no finite number" in done.error) == (2, True)


def test_the_check_reaches_every_option_of_every_command() -> None:
    groups: list[Any] = [typer.main.get_command(cli.app)]
    seen = 0
    for group in groups:
        for each in group.commands.values():
            groups += [each] if hasattr(each, "commands") else []
            for parameter in each.params:
                with pytest.raises(typer.BadParameter, match="nan is no finite number"):
                    parameter.callback(None, parameter, math.nan)
                seen += 1
    assert seen > 100
