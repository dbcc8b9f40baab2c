"""Text as people save it: encodings, names in several spellings, tables, and lists in messages."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.errors import InputError

SHOWN = 10
"""How many labels, files or classes a message lists before it only counts."""

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""What a file begins with that says its encoding; UTF-32's before UTF-16's, which begins it."""

_SEPARATORS = ",;\t|"
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")

_QUOTES = str.maketrans({"‘": "'", "’": "'", "ʼ": "'", "‛": "'", "“": '"', "”": '"', "„": '"'})
# What takes no room and says nothing: soft hyphens, marks of direction, byte order marks. The two
# joiners are letters' business in Persian and in India's scripts, and stay within a name.
_UNSEEN = re.compile("[\xad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_JOINERS = "\u200c\u200d"


def tidy(name: str) -> str:
    r"""A name as it is compared: composed letters (NFC), plain quotes, no unseen marks, one blank.

    >>> tidy("Jose\u0301\u00a0  O’Neill\u200b") == "José O'Neill"
    True
    """
    name = _UNSEEN.sub("", unicodedata.normalize("NFC", name)).translate(_QUOTES)
    return " ".join(word for part in name.split() if (word := part.strip(_JOINERS)))


def decoded(data: bytes, source: str) -> str:
    """A file's text: UTF-8, or what a byte order mark at its beginning says.

    Raises:
        InputError: it is another encoding; the message names the line. ``source`` says of what.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data[:2]:
        raise InputError(f"{source}: this is UTF-16 without a mark that says so; save it as UTF-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{source}, line {line}: this is not {encoding[:6].removesuffix('-').upper()} text "
            f"(byte {error.start}); save it as UTF-8"
        ) from error


@dataclass(frozen=True)
class Table:
    """The rows of a table, as spreadsheets and programs write them.

    Attributes:
        source: what messages call it.
        header: names of the columns, as they stand there.
        rows: of each row that is not blank, the line it begins in and its cells, as many as the
            header has, without blanks around them.
        separator: of the cells.
        first: line of the header.
    """

    source: str
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    separator: str
    first: int

    @classmethod
    def parse(cls, text: str, source: str, needed: Sequence[str] = ()) -> "Table":
        """Read a table whose cells are separated by commas, semicolons, tabs or bars.

        The separator is the one that Excel's first line ``sep=;`` names; or else the one under
        which the header holds most of the ``needed`` columns, then most cells. Cells may be
        quoted; lines may end as on any system; empty cells at the end of a row, beyond the
        header's, are passed over.

        Raises:
            InputError: with the line, where cells are missing or too many, or a quote does not
                end; where a needed column is missing, or there twice.
        """
        named = re.match(r"\s*\"?sep=(.)\"?[ \t]*(\r\n|\r|\n|$)", text, re.IGNORECASE)
        body = (text[named.end() :] if named else text).removeprefix("\ufeff")
        skipped = len(text[: named.end()].splitlines()) if named else 0
        separator = named[1] if named else max(_SEPARATORS, key=lambda s: _fit(body, s, needed))
        reader = csv.reader(
            io.StringIO(body, newline=""), delimiter=separator, strict=True, skipinitialspace=True
        )
        rows: list[tuple[int, tuple[str, ...]]] = []
        line = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    rows.append((skipped + line, tuple(cell.strip() for cell in cells)))
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{source}, line {skipped + line}: {error}") from error
        first, header = rows[0] if rows else (skipped + 1, ())
        while header and not header[-1]:
            header = header[:-1]
        table = cls(source, header, (), separator, first)
        for column in needed:
            table.at(column)
        return replace(table, rows=tuple(_even(row, header, source) for row in rows[1:]))

    def at(self, column: str) -> int:
        """Where a column stands, whatever case its name is in.

        Raises:
            InputError: there is none, or it is there twice.
        """
        found = self._named(column)
        if len(found) == 1:
            return found[0]
        where = f"{self.source}, line {self.first}"
        if found:
            raise InputError(f"{where}: the column {column!r} stands there twice")
        cells = listed([cell[:40] for cell in self.header]) or "nothing"
        raise InputError(f"{where}: no column {column!r}; the header holds {cells}")

    def has(self, column: str) -> bool:
        """Whether there is such a column."""
        return bool(self._named(column))

    def _named(self, column: str) -> list[int]:
        wanted = tidy(column).casefold()
        return [i for i, cell in enumerate(self.header) if tidy(cell).casefold() == wanted]

    def cells(self, column: str) -> list[str]:
        """The texts of a column."""
        place = self.at(column)
        return [cells[place] for _, cells in self.rows]

    def numbers(self, column: str) -> list[float | None]:
        """A column as numbers; None where a cell is none, or not a finite one.

        A comma is taken for the decimal mark where it can be nothing else: it does not separate
        the cells, and no number of the column has a point.
        """
        cells = self.cells(column)
        commas = self.separator != "," and not any("." in cell for cell in cells)
        return [number(cell.replace(",", ".", 1) if commas else cell) for cell in cells]


def number(text: str) -> float | None:
    """A finite number in plain digits, as ``float`` reads it; None where the text is none.

    >>> number("0.5"), number("1e-3"), number("nan"), number("1_000"), number("1e999")
    (0.5, 0.001, None, None, None)
    """
    value = float(text) if _NUMBER.fullmatch(text.strip()) else math.inf
    return value if math.isfinite(value) else None


def _fit(text: str, separator: str, needed: Sequence[str]) -> tuple[int, int]:
    """How many needed columns a header has if this separates its cells, and how many cells."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        header = next((cells for cells in reader if any(c.strip() for c in cells)), [])
    except csv.Error:
        return 0, 0
    names = {tidy(cell).casefold() for cell in header}
    return sum(tidy(column).casefold() in names for column in needed), len(header)


def _even(
    row: tuple[int, tuple[str, ...]], header: Sequence[str], source: str
) -> tuple[int, tuple[str, ...]]:
    """A row with as many cells as the header has."""
    line, cells = row
    if len(cells) < len(header) or any(cells[len(header) :]):
        raise InputError(
            f"{source}, line {line}: {len(cells)} fields, but the header has {len(header)}; "
            "a field that holds the separator needs quotes"
        )
    return line, cells[: len(header)]


def listed(items: Sequence[str], *, quote: bool = True) -> str:
    """The first few, and how many more.

    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    shown = ", ".join(repr(item) if quote else item for item in items[:SHOWN])
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"


def split(text: str) -> tuple[str, ...]:
    """What stands between the commas of a text.

    >>> split("conv1, layer4,")
    ('conv1', 'layer4')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where one is there more than once.

    >>> distinct(["a", "b", "a"])
    ['a-1', 'b', 'a-2']
    """
    return [
        name if names.count(name) == 1 else f"{name}-{names[:i].count(name) + 1}"
        for i, name in enumerate(names)
    ]


def text_of(path: Path, what: str) -> str:
    """A file's text (:func:`profiler.core.text.decoded`); ``what`` says in messages what it is."""
    try:
        return decoded(path.read_bytes(), f"{what} {str(path)!r}")
    except OSError as error:
        raise InputError(f"{what} {str(path)!r} cannot be read: {error.strerror}") from error


def stem_of(subject: str) -> str:
    """A network's name without its function: ``nets.py:small`` is called ``nets``."""
    return Path(subject.rpartition(":")[0]).stem if ".py:" in subject else subject


def file_name(text: str) -> str:
    """A text as the name of a file: what may mean something there becomes a dash."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
