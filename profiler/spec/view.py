"""Checked specs: as written, their rates on images, and what is proved on regions."""

import base64
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from profiler.errors import OutputError
from profiler.report import document
from profiler.report.text import count, number, percent, plural
from profiler.spec.language.printer import written_requirement
from profiler.spec.page import WORDS, check_prose
from profiler.spec.result import Checked, CheckedSpec, Final, NearImage, OnRegion, Seen, Shown
from profiler.spec.verify.largest import Largest
from profiler.spec.verify.rates import Rate

OPEN = 3
"""Specs whose details are open at first: those that fail, or else the first."""
MARKS = {
    "holds": "✓",
    "proved": "✓",
    "fails": "✗",
    "violated": "✗",
    "undecided": "?",
    "measured": "·",
}
"""So that no information is in the colour alone."""


def render_check(found: Checked, *, max_mb: float = 20.0) -> str:
    """Render the page, of at most ``max_mb`` · 10⁶ bytes.

    If it is larger, pictures of the last specs are left out.

    Raises:
        OutputError: the page is too large without any picture.
    """
    limit = int(max_mb * document.MEGABYTE)
    view = _View(found, check_prose(found))
    bare = _rendered(view, {}, "")
    room = limit - document.size(bare) - 1_000
    if room < 0:
        raise OutputError(
            f"the report needs {document.size(bare) / document.MEGABYTE:.1f} MB without any "
            f"picture, more than the limit of {max_mb:g} MB; raise the limit or check fewer specs"
        )
    at_hand = found.thumbnails
    pictures: dict[int, str] = {}
    wanted = {image: uses for image, uses in view.wanted.items() if image in at_hand}
    for image, uses in wanted.items():
        encoded = base64.b64encode(at_hand[image]).decode("ascii")
        room -= len(encoded) + _IMAGE_BYTES + uses * _USE_BYTES
        if room < 0:
            break
        pictures[image] = encoded
    left_out = len(wanted) - len(pictures)
    note = (
        f"{plural(left_out, 'picture is', 'pictures are')} left out, to keep this file below "
        f"{max_mb:g} MB."
        if left_out
        else ""
    )
    return _rendered(view, pictures, note)


_IMAGE_BYTES, _USE_BYTES = 150, 100
"""Markup of a picture, and of each place that shows it."""


def _rendered(view: "_View", pictures: dict[int, str], note: str) -> str:
    return document.render(
        "spec/check.html", extra=("spec/check",), **view.context, pictures=pictures, left_out=note
    )


# --- what the template prints --------------------------------------------------------------------


class _View:
    """The page as plain values."""

    def __init__(self, found: Checked, prose: Mapping[str, Any]) -> None:
        self.prose = prose
        self.found = found
        failing = [spec.spec.name for spec in found.specs if spec.final == "fails"]
        self.opened = set((failing or [spec.spec.name for spec in found.specs])[:OPEN])
        self.widest = self._widest()
        self.rows = [self._row(place, spec) for place, spec in enumerate(found.specs)]

    @property
    def wanted(self) -> Counter[int]:
        """Pictures in the order in which a reader meets them, and how often each is shown."""
        return Counter(
            image["image"]
            for row in self.rows
            for image in (
                *(near for counter in row["counters"] for near in counter["nearest"]),
                *row["against"],
            )
        )

    @property
    def context(self) -> dict[str, Any]:
        found = self.found
        counts = found.counts
        on = [each for spec in found.specs for each in spec.regions]
        proved = sum(each.outcome.verdict == "proved" for each in on)
        tiles = [
            ("Hold", count(counts["holds"]), f"of {plural(len(found.specs), 'spec')}"),
            ("Fail", count(counts["fails"]), f"{count(counts['undecided'])} undecided"),
            (
                "Images",
                count(found.data.images),
                f"{plural(len(found.region_images), 'class', 'classes')} with a region"
                if on
                else "no region",
            ),
        ]
        if on:
            tiles.append(
                ("Proved", count(proved), f"of {plural(len(on), 'search', 'searches')} on regions")
            )
        else:
            tiles.append(
                ("Measured only", count(counts["measured"]), "no requirement and no proof")
            )
        return {
            "page": self.prose,
            "kind": "Specifications",
            "tiles": tiles,
            "doubts": [text for text in [self.prose["map_warning"]] if text],
            "rows": self.rows,
            "formal": bool(on),
            "has_gammas": any(row["gammas"] for row in self.rows),
            "gamma_ticks": self._ticks(),
            "headline": self._headline(counts),
            "gamma_headline": self._gamma_headline(),
            "region_table": self._region_table(),
        }

    def _headline(self, counts: Mapping[Final, int]) -> str:
        total = len(self.found.specs)
        fail, judged = counts["fails"], total - counts["measured"]
        if fail:
            return f"{count(fail)} of {plural(total, 'spec')} {'fails' if fail == 1 else 'fail'}"
        if counts["undecided"]:
            return f"{count(counts['undecided'])} of {plural(total, 'spec')} undecided, none fails"
        if not judged:
            return f"Rates of {plural(total, 'spec')} without requirements"
        if judged < total:
            return (
                f"All {count(judged)} specs with a requirement or a proof hold, of {count(total)}"
            )
        return "The spec holds" if total == 1 else f"All {count(total)} specs hold"

    # -- γ

    def _widest(self) -> float:
        known = [
            each.largest.gamma
            for spec in self.found.specs
            for each in spec.regions
            if each.largest
            and each.largest.gamma is not None
            and math.isfinite(each.largest.beyond)
        ]
        return _nice(max(known, default=1.0))

    def _ticks(self) -> list[tuple[float, str]]:
        return [(100 * part / 4, f"{self.widest * part / 4:g}") for part in range(5)]

    def _gamma(self, each: OnRegion, largest: Largest) -> dict[str, Any]:
        """How far a spec is proved for one class."""
        gamma = largest.gamma
        endless = gamma is not None and math.isinf(largest.beyond)
        return {
            "label": each.label,
            "at": 0.0 if gamma is None else 100.0 if endless else 100 * gamma / self.widest,
            "text": "none" if gamma is None else f"≥ {gamma:g}" if endless else number(gamma, 3),
            "verdict": each.outcome.verdict,
            "open_end": endless,
        }

    def _gamma_headline(self) -> str:
        marks = [mark for row in self.rows for mark in row["gammas"]]
        nowhere = sum(mark["verdict"] != "proved" for mark in marks)
        if nowhere == len(marks):
            return "No spec is proved at the mean of its class"
        if nowhere:
            verb = "is" if nowhere == 1 else "are"
            return (
                f"Largest box around a class’s mean on which each spec is proved; "
                f"{count(nowhere)} of {count(len(marks))} {verb} not proved at the mean"
            )
        return "Largest box around a class’s mean on which each spec is proved"

    def _region_table(self) -> dict[str, Any] | None:
        """By class and region: how many specs are proved, violated, undecided."""
        counted: dict[tuple[str, str], dict[str, int]] = {}
        for spec in self.found.specs:
            for each in spec.regions:
                if each.largest is None:
                    cell = counted.setdefault((each.label, str(each.region)), {})
                    verdict = each.outcome.verdict
                    cell[verdict] = cell.get(verdict, 0) + 1
        if not counted:
            return None
        labels = list(dict.fromkeys(label for label, _ in counted))
        regions = list(dict.fromkeys(region for _, region in counted))
        return {
            "regions": regions,
            "rows": [
                (label, [self._cell(counted.get((label, region), {})) for region in regions])
                for label in labels
            ],
        }

    @staticmethod
    def _cell(cell: dict[str, int]) -> dict[str, Any]:
        total = sum(cell.values())
        proved, violated = cell.get("proved", 0), cell.get("violated", 0)
        left = total - proved - violated
        text = f"{count(proved)} proved, {count(violated)} with a counterexample"
        return {
            "total": total,
            "proved": proved,
            "share": percent(proved, total),
            "alt": f"{text}, {count(left)} undecided" if left else text,
            "parts": [
                (name, 100 * sum([proved, left][:i]) / max(total, 1), 100 * many / max(total, 1))
                for i, (name, many) in enumerate(
                    (("proved", proved), ("undecided", left), ("violated", violated))
                )
                if many
            ],
        }

    # -- specs

    def _row(self, place: int, spec: CheckedSpec) -> dict[str, Any]:
        rate, applicable = spec.rate.rate, spec.rate.applicable
        shown = applicable if applicable.images else rate
        bound = next(iter(spec.rate.judged), None)
        counters = [(each, each.shown) for each in spec.regions if each.shown]
        return {
            "id": f"spec-{place}",
            "name": spec.spec.name,
            "title": spec.spec.title or "",
            "formula": str(spec.spec.formula),
            "final": spec.final,
            "word": WORDS[spec.final],
            "mark": MARKS[spec.final],
            "rate": _mark(
                "",
                shown,
                bound.requirement.bound if bound else None,
                ("met" if bound.outcome == "passed" else "unmet") if bound else "plain",
            ),
            "whole": ""
            if shown == rate
            else f"{percent(rate.holds, rate.images)} of all {count(rate.images)}",
            "formal": _formal(spec),
            "requirements": [
                (
                    each.outcome,
                    written_requirement(each.requirement),
                    "no image to measure it on"
                    if math.isnan(each.value)
                    else f"measured {each.value:.3f}",
                )
                for each in spec.rate.judged
            ],
            "by_class": [
                _mark(each.label, each.applicable if shown != rate else each.rate, None, "plain")
                for each in spec.rate.by_class
                if shown == rate or each.applicable.images
            ],
            "verdicts": [_verdict(each) for each in spec.regions],
            "counters": [_counter(each, shown_at) for each, shown_at in counters[:4]],
            "more_counters": max(0, len(counters) - 4),
            "against": [_image(each, "") for each in spec.against],
            "violations": len(spec.rate.violations),
            "gammas": [self._gamma(each, each.largest) for each in spec.regions if each.largest],
            "open": spec.spec.name in self.opened,
        }


def _mark(
    label: str, rate: Rate, bound: float | None, css: Literal["met", "unmet", "plain"]
) -> dict[str, Any]:
    """A rate drawn from 0 to 100 %, and whether it meets the ``bound`` of what is required."""
    low, high = rate.interval()
    return {
        "label": label,
        "text": percent(rate.holds, rate.images, 1),
        "counts": f"{count(rate.holds)} of {count(rate.images)}",
        "low": 100 * low,
        "at": 100 * rate.value if rate.images else 0.0,
        "high": 100 * high,
        "bound": None if bound is None else 100 * bound,
        "css": css,
        "known": bool(rate.images),
    }


def _formal(spec: CheckedSpec) -> list[tuple[str, str, str]]:
    """For each kind of region the worst verdict, and over how many classes."""
    kinds = dict.fromkeys(str(each.region) for each in spec.regions)
    found: list[tuple[str, str, str]] = []
    for kind in kinds:
        own = [each for each in spec.regions if str(each.region) == kind]
        verdicts = [each.outcome.verdict for each in own]
        worst: str = next(v for v in ("violated", "undecided", "proved") if v in verdicts)
        gammas = [
            each.largest.gamma for each in own if each.largest and each.largest.gamma is not None
        ]
        if kind == "max" and len(gammas) == len(own):
            text = f"γ up to {min(gammas):.2g}"
        elif kind == "max":
            some = f" for {len(own) - len(gammas)} of {len(own)}" if len(own) > 1 else ""
            text = f"not proved at the mean{some}"
        elif len(own) == 1:
            text = f"{kind} {WORDS[worst]}"
        else:
            text = f"{kind} {verdicts.count('proved')} of {len(own)} proved"
        found.append((worst, MARKS[worst], text))
    return found


def _verdict(each: OnRegion) -> dict[str, str]:
    """A spec on a region, as a cell."""
    outcome, largest = each.outcome, each.largest
    region, note = str(each.region), outcome.reason
    if largest is not None:
        region = "largest box"
        if largest.gamma is None:
            note = "not proved at the class’s mean"
        elif math.isinf(largest.beyond):
            note = f"γ = {number(largest.gamma, 3)}, no upper limit found"
        else:
            note = f"proved at γ = {number(largest.gamma, 3)}, not at {number(largest.beyond, 3)}"
    elif each.shown:
        note = f"margin {each.shown.margin:.3g}"
    return {
        "label": each.label,
        "region": region,
        "verdict": outcome.verdict,
        "word": WORDS[outcome.verdict],
        "mark": MARKS[outcome.verdict],
        "note": note,
        "seconds": f"{each.seconds:.2f}",
    }


def _counter(each: OnRegion, shown: Shown) -> dict[str, Any]:
    """A counterexample."""
    on = f"in {each.region} of {each.label}"
    if each.largest:
        beyond = each.largest.beyond
        on = f"in box:{beyond:.3g} of {each.label}, just larger than the proved box"
        if not beyond:
            on = f"at the mean of {each.label}"
    return {
        "on": on,
        "margin": "none" if math.isinf(shown.margin) else f"{shown.margin:.3g}",
        "predicted": shown.seen.predicted,
        "lead": f"{shown.seen.lead:.2f} above {shown.seen.runner_up}",
        "strengths": _strengths(shown.seen),
        "nearest": [
            _image(near, f"distance {number(near.distance, 2)} spreads") for near in shown.nearest
        ],
    }


def _strengths(seen: Seen) -> list[dict[str, Any]]:
    """Bars of the cosines, on one scale around zero."""
    if not seen.strengths:
        return []
    low = min(0.0, *seen.strengths.values())
    high = max(0.0, *seen.strengths.values())
    width = max(high - low, 1e-12)
    zero = -100 * low / width
    return [
        {
            "concept": name,
            "text": number(value, 3),
            "at": zero + min(0.0, 100 * value / width),
            "width": abs(100 * value / width),
            "zero": zero,
        }
        for name, value in sorted(seen.strengths.items(), key=lambda pair: -pair[1])
    ]


def _image(near: NearImage, distance: str) -> dict[str, Any]:
    ordered = sorted(near.seen.strengths.items(), key=lambda pair: -pair[1])
    return {
        "image": near.image,
        "name": near.name,
        "true": near.true,
        "predicted": near.seen.predicted,
        "distance": distance,
        "holds": near.holds,
        "strengths": " > ".join(f"{name} {number(value, 2)}" for name, value in ordered[:3]),
    }


def _nice(value: float) -> float:
    """A round number no less, for the end of an axis.

    >>> _nice(0.37), _nice(3.1), _nice(64)
    (0.4, 4.0, 80.0)
    """
    if not value > 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 2, 4, 8, 10):
        if value <= factor * step * (1 + 1e-12):
            return factor * step
    return 10 * step
