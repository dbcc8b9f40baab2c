"""Checked specs: their rates, their regions, and the images and points at which they fail.

Its files are written by :mod:`profiler.spec.check`, its page by :mod:`profiler.spec.page`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from profiler.core.json_text import json_text
from profiler.data.records import DataRecord
from profiler.errors import UsageError
from profiler.models.records import ClassifierRecord, VLMRecord
from profiler.spec.language.printer import written_requirement
from profiler.spec.language.tree import Formula, Spec, SpecFile
from profiler.spec.verify.formal import Outcome
from profiler.spec.verify.largest import Largest
from profiler.spec.verify.rates import ClassRate, Rate, SpecRate

FORMAT = 1
"""Version of ``check.json``."""

Final = Literal["holds", "fails", "undecided", "measured"]
"""``measured``: the spec has no requirement, and no proof was asked for."""

MAX = "max"


@dataclass(frozen=True)
class RegionChoice:
    """Which region of a class's encodings, as ``--region`` names it."""

    kind: str
    """``box``, ``hull``, ``ball`` or ``max``."""
    size: float = 0.0
    """γ of a box; radius of a ball, in units of the class's own spread."""

    @classmethod
    def parse(cls, text: str) -> "RegionChoice":
        """``box:GAMMA``, ``hull``, ``ball:R`` or ``max``.

        >>> RegionChoice.parse("box:0.3")
        RegionChoice(kind='box', size=0.3)
        """
        kind, colon, size = text.strip().partition(":")
        if kind in ("hull", "max") and not colon:
            return cls(kind)
        if kind in ("box", "ball"):
            try:
                value = float(size)
            except ValueError:
                value = -1.0
            if 0 <= value < float("inf"):
                return cls(kind, value)
        raise UsageError(
            f"--region {text!r} is not a region; write box:0.3 (a class's mean ± 0.3 standard "
            "deviations), ball:0.5 (0.5 times its spread around its mean), hull, or max"
        )

    def __str__(self) -> str:
        return self.kind if self.kind in ("hull", "max") else f"{self.kind}:{self.size:g}"

    @property
    def said(self) -> str:
        """In words."""
        return {
            "box": f"mean ± {self.size:g} standard deviations",
            "ball": f"ball of {self.size:g} times the class’s spread",
            "hull": "convex hull of the encodings",
            "max": "largest box that is proved",
        }[self.kind]


@dataclass(frozen=True)
class Seen:
    """Outputs of the model, and strengths of concepts, at a point.

    Attributes:
        predicted: class of the highest output.
        runner_up: of the second.
        lead: the highest output less the second.
        strengths: cosines of the concepts that the spec names.
    """

    predicted: str
    runner_up: str
    lead: float
    strengths: Mapping[str, float]


@dataclass(frozen=True)
class NearImage:
    """A real image near a counterexample.

    Attributes:
        image: its number, which is that of its thumbnail.
        name: of its file.
        true: class.
        distance: of its encoding from the counterexample, in units of the class's spread.
        holds: whether the spec holds for it.
        seen: outputs and strengths.
    """

    image: int
    name: str
    true: str
    distance: float
    holds: bool
    seen: Seen


@dataclass(frozen=True)
class Shown:
    """A counterexample as shown on the page.

    Attributes:
        margin: distance to the nearest plane beyond which it is no longer a counterexample.
        seen: outputs and strengths there.
        nearest: real images, nearest first.
    """

    margin: float
    seen: Seen
    nearest: tuple[NearImage, ...]


@dataclass(frozen=True)
class OnRegion:
    """A spec on the region of one class.

    Attributes:
        label: the class whose encodings make the region.
        region: which.
        outcome: of the check; for ``max`` that of the largest proved box, or else of the failure.
        largest: for ``max``.
        shown: a counterexample; for ``max`` one in a box just larger than the proved one.
    """

    label: str
    region: RegionChoice
    outcome: Outcome
    largest: Largest | None = None
    shown: Shown | None = None

    @property
    def seconds(self) -> float:
        """Total time."""
        return self.largest.seconds if self.largest else self.outcome.seconds


@dataclass(frozen=True)
class CheckedSpec:
    """One spec.

    Attributes:
        spec: as written.
        formula: without quantifiers.
        rate: on images.
        regions: empty without a formal check.
        against: images for which it fails, the largest violation first.
    """

    spec: Spec
    formula: Formula
    rate: SpecRate
    regions: tuple[OnRegion, ...] = ()
    against: tuple[NearImage, ...] = ()

    @property
    def formal(self) -> Literal["proved", "violated", "undecided"] | None:
        """The worst verdict over its regions; None without any."""
        found = {each.outcome.verdict for each in self.regions}
        for verdict in ("violated", "undecided", "proved"):
            if verdict in found:
                return verdict
        return None

    @property
    def final(self) -> Final:
        """The outcome on images and on regions together."""
        if self.rate.outcome == "failed" or self.formal == "violated":
            return "fails"
        if self.rate.outcome == "undecided" or self.formal == "undecided":
            return "undecided"
        if self.rate.outcome == "passed" or self.formal == "proved":
            return "holds"
        return "measured"


@dataclass(frozen=True)
class MapRecord:
    """Quality of the linear alignment with the VLM's space."""

    r2: float
    images: int
    warning: str


@dataclass(frozen=True)
class Checked:
    """A finished check."""

    command: str
    date: str
    file: SpecFile
    classifier: ClassifierRecord
    data: DataRecord
    vlm: VLMRecord
    map: MapRecord
    regions: tuple[RegionChoice, ...]
    positive: bool
    """Whether boxes are cut at 0: no feature of any image is negative."""
    region_images: Mapping[str, int]
    """Number of encodings from which the region of each class is made."""
    specs: tuple[CheckedSpec, ...]
    thumbnails: Mapping[int, bytes]
    warnings: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The contents of the files, by name."""

    @property
    def counts(self) -> dict[Final, int]:
        """How many specs ended with each outcome."""
        return {final: len(self.of(final)) for final in get_args(Final)}

    def of(self, final: Final) -> list[CheckedSpec]:
        """The specs with this outcome."""
        return [each for each in self.specs if each.final == final]


def check_json(found: Checked, summary: str) -> str:
    """The content of ``check.json``, with its summary; what is not known is null."""
    return json_text(
        {
            "format": FORMAT,
            "command": found.command,
            "date": found.date,
            "summary": summary,
            "specs_file": found.file.title,
            "classifier": found.classifier,
            "data": found.data,
            "vlm": found.vlm,
            "map": found.map,
            "regions": [str(each) for each in found.regions],
            "features_cut_at_zero": found.positive,
            "specs": [_spec(each) for each in found.specs],
            "counts": found.counts,
            "warnings": found.warnings,
            "settings": found.settings,
            "versions": found.versions,
            "seconds": found.timings,
        }
    )


def _spec(checked: CheckedSpec) -> dict[str, Any]:
    rate = checked.rate
    return {
        "name": checked.spec.name,
        "title": checked.spec.title,
        "formula": str(checked.spec.formula),
        "outcome": checked.final,
        "statistical": {
            "outcome": rate.outcome,
            "rate": _rate(rate.rate),
            "applicable": _rate(rate.applicable),
            "by_class": [_class_rate(each) for each in rate.by_class],
            "requirements": [
                {
                    "text": written_requirement(each.requirement),
                    "outcome": each.outcome,
                    "value": each.value,
                }
                for each in rate.judged
            ],
            "against": checked.against,
        },
        "formal": [_region(each) for each in checked.regions],
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "holds": rate.holds,
        "images": rate.images,
        "rate": rate.value,
        "interval": list(rate.interval()),
    }


def _class_rate(each: ClassRate) -> dict[str, Any]:
    return {"class": each.label, **_rate(each.rate), "applicable": _rate(each.applicable)}


def _region(each: OnRegion) -> dict[str, Any]:
    largest = each.largest
    return {
        "class": each.label,
        "region": str(each.region),
        "verdict": each.outcome.verdict,
        "reason": each.outcome.reason,
        "seconds": each.seconds,
        "ways": each.outcome.ways,
        "programs": each.outcome.programs,
        **(
            {"gamma": largest.gamma, "not_proved_at": largest.beyond} if largest is not None else {}
        ),
        "counterexample": each.shown,
    }
