"""What a guard was found to be worth on held-out images, and its file ``guard.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from profiler.core.arrays import Float64
from profiler.core.json_text import json_text, plain
from profiler.core.statistics import Interval
from profiler.guard.guard import Context
from profiler.guard.metrics import GRID, METRICS, Band, Metrics
from profiler.guard.thresholds import AlarmThreshold

FORMAT = 1
"""Version of ``guard.json``."""
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
"""At which accuracy is told."""


@dataclass(frozen=True)
class Condition:
    """How well defects of one kind are told from right answers on images as they are.

    Attributes:
        title: what was done to the images; ``as they are`` for nothing.
        kind: ``clean``, ``attack`` or ``corruption``.
        method: of the attack or corruption, without its strength; empty for ``clean``.
        eps: of the attack, as a share of white; NaN otherwise.
        images: that were changed, and judged.
        accuracy: of the classifier on them.
        defects: those of them that are misclassified.
        right: right answers on images as they are, from which the defects are to be told.
        flagged_defects: defects that the guard flags at its threshold.
        flagged_right: right answers that it flags.
        metrics: by detector, values and intervals.
        lead: the guard's values less those of the best baseline, paired.
        best: that baseline.
    """

    title: str
    kind: str
    method: str
    eps: float
    images: int
    accuracy: float
    defects: int
    right: int
    flagged_defects: int
    flagged_right: int
    metrics: Mapping[str, Metrics[Interval]]
    lead: Metrics[Interval]
    best: Metrics[str]


@dataclass(frozen=True)
class Example:
    """An image with what speaks against it.

    Attributes:
        index: in the data.
        name: of the file.
        truth: its class, in words.
        predicted: the class given, in words.
        score: of the guard.
        reasons: the relations that speak most against it, in words.
        views: view → what the network calls it, for a guard made with views.
    """

    index: int
    name: str
    truth: str
    predicted: str
    score: float
    reasons: tuple[str, ...]
    views: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Assessment:
    """A guard on held-out images.

    Attributes:
        context: what the guard belongs to.
        rule: its name.
        views: names of the further views it looks at.
        threshold: in use.
        data: title of the held-out images.
        data_fingerprint: of them.
        known: images left out because the guard was made from them.
        unread: images left out because they could not be read.
        baselines: names of the detectors without concepts.
        rules: names of those with, the guard's own first.
        conditions: images as they are first.
        roc: detector → curve, on images as they are.
        risk: detector → risk–coverage curve, likewise.
        right_scores: of right answers on images as they are.
        wrong_scores: of wrong ones.
        coverage: detector → (accuracy, right, passed) at each of :data:`COVERAGES`.
        at_risk: detector → the largest coverage at which at most 5 % of what passes is wrong.
        flagged: wrong answers that the guard flags, strangest first.
        missed: wrong answers that pass, least strange first.
        alarms: right answers that it flags, strangest first.
        weak_classes: classes without a wrong answer among the images fitted on, in words.
        draws: of the bootstrap.
        seed: of it.
        command: as given.
        date: of the assessment.
        versions: of the packages.
        warnings: what has to be said.
        files: the same as files, by name.
    """

    context: Context
    rule: str
    views: tuple[str, ...]
    threshold: AlarmThreshold
    data: str
    data_fingerprint: str
    known: int
    unread: int
    baselines: tuple[str, ...]
    rules: tuple[str, ...]
    conditions: tuple[Condition, ...]
    roc: Mapping[str, Band]
    risk: Mapping[str, Band]
    right_scores: Float64
    wrong_scores: Float64
    coverage: Mapping[str, tuple[tuple[float, int, int], ...]]
    at_risk: Mapping[str, float]
    flagged: tuple[Example, ...]
    missed: tuple[Example, ...]
    alarms: tuple[Example, ...]
    weak_classes: tuple[str, ...]
    draws: int
    seed: int
    command: str
    date: str
    versions: Mapping[str, str]
    warnings: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def clean(self) -> Condition:
        """Images as they are."""
        return self.conditions[0]

    @property
    def passed(self) -> int:
        """Images as they are that pass."""
        clean = self.clean
        return clean.images - clean.flagged_defects - clean.flagged_right

    @property
    def passed_right(self) -> int:
        """Of these, those answered rightly."""
        return self.clean.right - self.clean.flagged_right


def guard_json(found: Assessment, summary: str) -> str:
    """The content of ``guard.json``, with its summary; what is not known is null."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "command": found.command,
        "date": found.date,
        "summary": summary,
        "guard": {
            **plain(found.context),
            "rule": found.rule,
            "views": found.views,
            "threshold": {**plain(found.threshold), "text": found.threshold.text},
            "classes_without_errors": found.weak_classes,
        },
        "data": {
            "title": found.data,
            "fingerprint": found.data_fingerprint,
            "images": found.clean.images,
            "left_out_as_known_to_the_guard": found.known,
            "left_out_as_unreadable": found.unread,
        },
        "baselines": found.baselines,
        "rules": found.rules,
        "conditions": [_condition(each) for each in found.conditions],
        "passed": {"images": found.passed, "right": found.passed_right},
        "accuracy_by_coverage": {
            name: [
                {"coverage": coverage, "accuracy": accuracy, "right": right, "passed": passed}
                for coverage, (accuracy, right, passed) in zip(COVERAGES, rows, strict=True)
            ]
            for name, rows in found.coverage.items()
        },
        "coverage_at_5_percent_risk": found.at_risk,
        "curves": {
            "grid": GRID,
            "roc": found.roc,
            "risk_coverage": found.risk,
        },
        "scores": {"right": found.right_scores, "wrong": found.wrong_scores},
        "examples": {
            "flagged": found.flagged,
            "missed": found.missed,
            "false_alarms": found.alarms,
        },
        "bootstrap": {"draws": found.draws, "seed": found.seed, "level": 0.95},
        "versions": found.versions,
        "warnings": found.warnings,
    }
    return json_text(content)


def _condition(each: Condition) -> dict[str, Any]:
    known = {name: value for name, value in vars(each).items() if name not in ("lead", "best")}
    lead = {name: {**plain(each.lead[name]), "baseline": each.best[name]} for name in METRICS}
    return {**known, "lead_over_best_baseline": lead}
