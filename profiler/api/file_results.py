"""Results that are files: of a comparison, a diagnosis, a guard and a check; read back by load."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from profiler.api.objects import in_parameters
from profiler.api.results import Profile, Result
from profiler.core.json_text import read_json
from profiler.core.store import write_atomically
from profiler.errors import InputError, first_line
from profiler.guard.metrics import METRICS
from profiler.profile.counts import LayerProfile, ModelProfile
from profiler.profile.result import load_run
from profiler.session import check_writable

_FAULTS = ("head", "encoder", "undetermined")
_FLAGS = ("incorrect, flagged", "incorrect, passed", "correct, passed", "correct, flagged")
_HOLDS = ("holds", "does not hold")
_BYTES = (".npz", ".safetensors")


@dataclass(frozen=True, repr=False)
class FileResult(Result):
    """A result as the files that it is written to.

    Attributes:
        files: by name; the first of :attr:`NAMES` holds the numbers, the last is the report.
    """

    files: Mapping[str, str | bytes]
    KIND: ClassVar[str]
    """What it is called."""
    NAMES: ClassVar[tuple[str, ...]]
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    """Files that it may have besides."""

    @property
    def summary(self) -> str:
        """The finding in a few sentences."""
        told = self._content["summary"]
        return str(told["text"] if isinstance(told, dict) else told)

    def to_json(self) -> dict[str, Any]:
        """The numbers, as plain values."""
        return dict(self._content)

    def to_html(self) -> str:
        """The report: one self-contained page."""
        return str(self.files[self.NAMES[-1]])

    def save(self, folder: Path | str) -> Path:
        """Write the files that the command line would have written; see :meth:`Result.save`."""
        check_writable(Path(folder))
        for name, content in self.files.items():
            write_atomically(Path(folder, name), content)
        return Path(folder, self.NAMES[-1])

    @property
    def report_name(self) -> str:
        """Name of the file with the page of :meth:`to_html`."""
        return self.NAMES[-1]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the files back.

        Args:
            folder: that they lie in.

        Raises:
            InputError: one is absent or damaged.
        """
        content = read_json(folder / cls.NAMES[0], cls.KIND, (1,))
        if "summary" not in content:
            raise InputError(
                f"{str(folder / cls.NAMES[0])!r} has no summary: an earlier version wrote it; make "
                f"the {cls.KIND} again"
            )
        more = [name for name in cls.OPTIONAL if (folder / name).is_file()]
        if lacking := [name for name in cls.NAMES if not (folder / name).is_file()]:
            raise InputError(f"the {cls.KIND} in {str(folder)!r} lacks {', '.join(lacking)}")
        files: dict[str, str | bytes] = {}
        for name in (*cls.NAMES, *more):
            path = folder / name
            try:
                files[name] = (
                    path.read_bytes() if path.suffix in _BYTES else path.read_text("utf-8")
                )
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
        return cls(files)

    @cached_property
    def _content(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = json.loads(self.files[self.NAMES[0]])
        return content


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; what is not known is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return file.getvalue()


class ProfileComparison(FileResult):
    """What changed between profiles."""

    KIND = "comparison"
    NAMES = ("comparison.json", "units.csv", "compare.html")

    def to_csv(self) -> str:
        """The content of ``units.csv``: a row a pair of matched units."""
        return str(self.files["units.csv"])

    @property
    def _title(self) -> str:
        return f"Comparison of {', '.join(run['name'] for run in self._content['runs'])}"

    def _parts(self) -> tuple[Sequence[str], Sequence[LayerProfile]]:
        totals = [
            replace(ModelProfile.from_json(run["profile"]).total, layer=run["name"])
            for run in self._content["runs"]
        ]
        return self._content["categories"], totals


class ClassifierDiagnosis(FileResult):
    """Why a classifier is wrong: encoder or head, and on which concepts."""

    KIND = "diagnosis"
    NOUN = "error"
    NAMES = ("diagnosis.json", "heatmaps.npz", "map.safetensors", "debug.html")

    def to_csv(self) -> str:
        """The misclassified images, a row each, with what is at fault."""
        classes, rule = self._content["classes"], self._content["rule"]
        kept = ("name", "true", "predicted", "confidence", "true_confidence", "at_fault")
        rows = []
        for each in self._content["images"]:
            named = {"true": classes[each["true"]], "predicted": classes[each["predicted"]]}
            row = {**each, **named, "at_fault": each["verdicts"][rule]}
            rows.append([row["image"], *(row[column] for column in kept)])
        return csv_text(("number", *kept), rows)

    @property
    def _title(self) -> str:
        return f"Diagnosis of {self._content['classifier']['name']}"

    def _parts(self) -> tuple[Sequence[str], Sequence[LayerProfile]]:
        classes, rule = self._content["classes"], self._content["rule"]
        shares = {"all errors": self._content["rules"][rule]}
        for each in self._content["confusions"]:
            name = f"{classes[each['true']]} → {classes[each['predicted']]}"
            shares[name] = each["rules"][rule]
        return _FAULTS, [
            LayerProfile(name, {fault: counts[fault] for fault in _FAULTS}, 0, 0)
            for name, counts in shares.items()
        ]


class GuardAssessment(FileResult):
    """What a guard is worth on held-out images."""

    KIND = "guard evaluation"
    NOUN = "image"
    NAMES = ("guard.json", "guard.html")

    def to_csv(self) -> str:
        """A row a condition and detector: what was flagged, and how well errors are detected."""
        counts = ("images", "defects", "right", "flagged_defects", "flagged_right")
        return csv_text(
            ("condition", "detector", *counts, *METRICS),
            (
                [each["title"], name, *(each[count] for count in counts)]
                + [_short(values[metric]["value"]) for metric in METRICS]
                for each in self._content["conditions"]
                for name, values in each["metrics"].items()
            ),
        )

    @property
    def _title(self) -> str:
        return f"Guard of {self._content['guard']['subject']}"

    def _parts(self) -> tuple[Sequence[str], Sequence[LayerProfile]]:
        bars = []
        for each in self._content["conditions"]:
            defects, right = each["flagged_defects"], each["flagged_right"]
            counts = (defects, each["defects"] - defects, each["right"] - right, right)
            bars.append(LayerProfile(each["title"], dict(zip(_FLAGS, counts, strict=True)), 0, 0))
        return _FLAGS, bars


class CheckResult(FileResult):
    """Whether a classifier respects specifications."""

    KIND = "check"
    NOUN = "image"
    NAMES = ("check.json", "check.html")
    OPTIONAL = ("certificates.json",)

    @property
    def passed(self) -> bool:
        """Whether no spec fails and none stays undecided."""
        counts = self._content["counts"]
        return not counts["fails"] and not counts["undecided"]

    def to_csv(self) -> str:
        """A row a spec: its outcome, the share of images for which it holds, and its proofs.

        ``rate`` is of all images, ``applicable_rate`` of those that the premise of an implication
        fits; ``low`` and ``high`` are the limits of 95 % intervals. ``proved``, ``violated`` and
        ``unproved`` count regions.
        """
        header = ["spec", "outcome", "formula"]
        for name in ("", "applicable_"):
            header += [f"{name}{column}" for column in ("holds", "images", "rate", "low", "high")]
        rows = []
        for each in self._content["specs"]:
            row = [each["name"], each["outcome"], each["formula"]]
            for rate in (each["statistical"]["rate"], each["statistical"]["applicable"]):
                numbers = (rate["rate"], *rate["interval"])
                row += [rate["holds"], rate["images"], *map(_short, numbers)]
            found = [region["verdict"] for region in each["formal"]]
            row += [found.count(verdict) for verdict in ("proved", "violated", "undecided")]
            rows.append(row)
        return csv_text((*header, "proved", "violated", "unproved"), rows)

    @property
    def _title(self) -> str:
        return f"Check of {self._content['classifier']['name']}"

    def _parts(self) -> tuple[Sequence[str], Sequence[LayerProfile]]:
        bars = []
        for each in self._content["specs"]:
            rate = each["statistical"]["applicable"]
            counts = dict(zip(_HOLDS, (rate["holds"], rate["images"] - rate["holds"]), strict=True))
            bars.append(LayerProfile(f"{each['name']}: {each['outcome']}", counts, 0, 0))
        return _HOLDS, bars


def _short(value: float | None) -> str:
    return "" if value is None else f"{float(value):.6g}"


_KINDS: tuple[type[FileResult], ...] = (
    ProfileComparison,
    ClassifierDiagnosis,
    GuardAssessment,
    CheckResult,
)


@in_parameters
def load(
    folder: Path | str,
) -> Profile | ProfileComparison | ClassifierDiagnosis | GuardAssessment | CheckResult:
    """A finished profile, comparison, diagnosis, guard evaluation or check, from its folder.

    Where several were written to one folder, the first of these is read.

    Args:
        folder: that ``out``, ``.save`` or the command line wrote to.

    Raises:
        InputError: the folder holds none of them, or what it holds is damaged or incomplete.
    """
    folder = Path(folder)
    if (folder / "run.json").is_file():
        return Profile(load_run(folder), folder)
    for kind in _KINDS:
        if (folder / kind.NAMES[0]).is_file():
            return kind.read(folder)  # type: ignore[return-value]
    what = "does not exist" if not folder.exists() else "holds no result"
    if (folder / "guard.safetensors").is_file():
        what = "holds a guard, which Guard.load reads, and no evaluation of it"
    files = ", ".join(f"{kind.NAMES[0]} ({kind.KIND})" for kind in _KINDS)
    raise InputError(f"{str(folder)!r} {what}: it lacks run.json (profile), {files}")
