"""Finished results, opened by folder and never written to."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from profiler.ask.facts import Fact, fact_id, safe
from profiler.compare import files as comparison_files
from profiler.core.json_text import read_json
from profiler.debug import files as diagnosis_files
from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.guard import result as guard_result
from profiler.profile.find import WordRows
from profiler.profile.result import ProfileRun, load_run
from profiler.report.charts import query
from profiler.spec import result as check_result

Kind = Literal["profile", "comparison", "diagnosis", "guard", "check"]

_FORMATS: Mapping[Kind, tuple[str, int, str]] = {
    "comparison": ("comparison.json", comparison_files.FORMAT, "compare.html"),
    "diagnosis": ("diagnosis.json", diagnosis_files.FORMAT, "debug.html"),
    "guard": ("guard.json", guard_result.FORMAT, "guard.html"),
    "check": ("check.json", check_result.FORMAT, "check.html"),
}
"""What holds the numbers of each kind, in which format, and the report beside it."""
_PROFILE = ("run.json", "units.safetensors", "quality.safetensors")

COMMANDS: Mapping[Kind, str] = {
    "profile": "profiler run",
    "comparison": "profiler compare",
    "diagnosis": "profiler debug",
    "guard": "profiler guard eval",
    "check": "profiler check",
}
"""What makes each kind."""


@dataclass(frozen=True, eq=False)
class OpenResult:
    """One finished result.

    Attributes:
        id: ``R1``, ``R2`` … in the order in which they were opened.
        folder: it lies in.
        kind: what it is.
        digest: SHA-256 of what it holds.
        content: its record as JSON has it; of a profile, empty.
        run: a profile; None of any other kind.
    """

    id: str
    folder: Path
    kind: Kind
    digest: str
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    run: ProfileRun | None = field(default=None, repr=False)

    @property
    def profile(self) -> ProfileRun:
        """The profile; only to be asked for where :attr:`kind` says so."""
        if self.run is None:
            raise UsageError(f"{self.id} is a {self.kind}, no profile")
        return self.run

    @cached_property
    def name(self) -> str:
        """What people call it: the network, or the networks compared."""
        match self.kind:
            case "profile":
                return safe(self.profile.record.subject.name)
            case "comparison":
                return safe(", ".join(run["name"] for run in self.content["runs"]))
            case "guard":
                return safe(self.content["guard"]["subject"])
        return safe(self.content["classifier"]["name"])

    @property
    def report(self) -> Path:
        """The page for people."""
        name = "report.html" if self.kind == "profile" else _FORMATS[self.kind][2]
        return self.folder / name

    def address(self, section: str, **view: str) -> str:
        """Where the report shows something."""
        return f"{self.report}#{section}{'?' + query(**view) if view else ''}"

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Layers, as the result names them; of some kinds there are none."""
        if self.kind == "profile":
            return tuple(layer.layer for layer in self.profile.layers)
        if self.kind == "comparison":
            rows = (row for run in self.content["runs"] for row in run["profile"]["layers"])
            return tuple(dict.fromkeys(row["layer"] for row in rows))
        return ()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes, as the result names them; of some kinds there are none."""
        if self.kind == "diagnosis":
            return tuple(self.content["classes"])
        if self.kind == "guard":
            return tuple(self.content["guard"]["classes"])
        if self.kind == "check":
            rows = (
                row for spec in self.content["specs"] for row in spec["statistical"]["by_class"]
            )
            return tuple(dict.fromkeys(row["class"] for row in rows))
        return ()

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Categories of words; of some kinds there are none."""
        if self.kind == "profile":
            return self.profile.categories
        return tuple(self.content["categories"]) if self.kind == "comparison" else ()

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """Factors of the experiment on drawn scenes; empty without one."""
        if self.kind == "profile":
            done = self.profile.experiment
            return done.factors.names if done else ()
        if self.kind == "comparison":
            rows = (row for pair in self.content["pairs"] for row in pair.get("drivers", ()))
            return tuple(dict.fromkeys(name for row in rows for name in row["change"]))
        return ()

    @cached_property
    def words(self) -> frozenset[str]:
        """The concept set, or as much of it as the result holds."""
        if self.kind == "profile":
            return frozenset(self.profile.concepts)
        if self.kind == "diagnosis":
            return frozenset(self.content["concepts"]["words"])
        if self.kind == "comparison":
            return frozenset(
                row["concept"]
                for pair in self.content["pairs"]
                for layer in pair["layers"]
                for row in (*layer["gained"], *layer["lost"])
            )
        return frozenset()

    @cached_property
    def rows(self) -> tuple[Mapping[str, str], ...]:
        """The matched units of a comparison, a row of ``units.csv`` each."""
        path = self.folder / "units.csv"
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{str(path)!r} cannot be read: {error}") from error
        return tuple(csv.DictReader(io.StringIO(text)))

    @cached_property
    def word_rows(self) -> dict[str, WordRows]:
        """The words that its units carry, embedded, by the encoder's fingerprint; when needed."""
        return {}

    def fact(self, key: str, what: str, stated: str, section: str, **given: Any) -> Fact:
        """A fact of this result.

        Args:
            key: what it is within the result.
            what: the same for people.
            stated: what stands in the place of its id.
            section: of the report, with ``view`` among ``given`` for the view of a table.
            given: fields of :class:`Fact`.
        """
        view = given.pop("view", {})
        return Fact(
            id=fact_id(self.digest, key),
            key=key,
            what=what,
            stated=stated,
            run=self.id,
            address=self.address(section, **view),
            **given,
        )


class OpenResults(Sequence[OpenResult]):
    """The results that are open."""

    def __init__(self, results: Iterable[OpenResult]) -> None:
        self._results = tuple(results)

    @classmethod
    def open(cls, folders: Sequence[Path]) -> "OpenResults":
        """Open the results in some folders.

        Raises:
            InputError: a folder holds no finished result, or a damaged one.
        """
        return cls(_open(f"R{place}", folder) for place, folder in enumerate(folders, start=1))

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, place: Any) -> Any:
        return self._results[place]

    def __iter__(self) -> Iterator[OpenResult]:
        return iter(self._results)

    def of(self, kind: Kind, wanted: str = "") -> OpenResult:
        """The result of a kind by its number; without one, the first of the kind.

        Raises:
            UsageError: there is none.
        """
        fitting = [each.id for each in self if each.kind == kind]
        if wanted:
            found = next((each for each in self if each.id == wanted.strip().upper()), None)
            if found is None:
                raise UnknownNameError("result", wanted, [each.id for each in self])
            if found.kind != kind:
                others = f"; of that kind: {', '.join(fitting)}" if fitting else ""
                raise UsageError(f"{found.id} is a {found.kind}, not a {kind}{others}")
            return found
        if not fitting:
            raise UsageError(
                f"no {kind} is open; {COMMANDS[kind]} makes one, and its folder is given as RUN"
            )
        return next(each for each in self if each.id == fitting[0])


def named(wanted: str, known: Sequence[str], what: str) -> str:
    """The known name that is meant: as it stands, or else in other capitals or in the plural.

    Raises:
        UnknownNameError: there is none.

    >>> named("Trucks", ["car", "truck"], "class")
    'truck'
    """
    if wanted in known:
        return wanted
    plain = wanted.strip().strip("“”\"'").casefold()
    forms = {plain, plain.removesuffix("s"), plain.removesuffix("es")}
    found = next((name for name in known if {name.casefold(), safe(name).casefold()} & forms), None)
    if found is None:
        raise UnknownNameError(what, wanted, known)
    return found


def _open(number: str, folder: Path) -> OpenResult:
    if (folder / "run.json").is_file():
        digest = hashlib.sha256()
        for name in _PROFILE:
            if (folder / name).is_file():
                digest.update((folder / name).read_bytes())
        return OpenResult(number, folder, "profile", digest.hexdigest(), run=load_run(folder))
    for kind, (name, form, _) in _FORMATS.items():
        path = folder / name
        if path.is_file():
            content = read_json(path, kind, (form,))
            digest = hashlib.sha256(path.read_bytes())
            if (units := folder / "units.csv").is_file():
                digest.update(units.read_bytes())
            found = OpenResult(number, folder, kind, digest.hexdigest(), content)
            try:
                found.name, found.layers, found.classes, found.words  # noqa: B018 read once
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{str(path)!r} is damaged: it lacks {error}") from error
            return found
    known = ", ".join(["run.json", *(name for name, _, _ in _FORMATS.values())])
    raise InputError(f"{str(folder)!r} holds no finished result: it has none of {known}")
