"""The assessment of a guard on held-out images, and its file ``guard.json``."""

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
"""At which accuracy is reported."""


@dataclass(frozen=True)
class Condition:
    """How well defects of one kind are separated from correct predictions on unmodified images.

    Attributes:
        title: how the images were changed; ``unmodified`` if they were not.
        kind: ``clean``, ``attack`` or ``corruption``.
        method: of the attack or corruption, without its strength; empty for ``clean``.
        eps: of the attack, white being 1; NaN otherwise.
        images: that were changed and scored.
        accuracy: of the classifier on them.
        defects: those of them that are misclassified.
        right: correct predictions on unmodified images, with which the defects are compared.
        flagged_defects: defects that the guard flags at its threshold.
        flagged_right: correct predictions that it flags.
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
    """An image with the reasons of its score.

    Attributes:
        index: in the data.
        name: of the file.
        truth: its class, in words.
        predicted: the predicted class, in words.
        score: of the guard.
        reasons: the comparisons of concepts that raise the score most, in words.
        views: augmented view → predicted class, for a guard that uses augmented views.
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
        rule: name of its detection method.
        views: names of the augmented views it uses.
        threshold: in use.
        data: title of the held-out images.
        data_fingerprint: of them.
        known: images left out because the guard was fitted on them.
        unread: images left out because they could not be read.
        baselines: names of the detectors without concepts.
        rules: names of the detectors with concepts, the guard's own first.
        conditions: unmodified images first.
        roc: detector → curve, on unmodified images.
        risk: detector → risk–coverage curve, likewise.
        right_scores: of correct predictions on unmodified images.
        wrong_scores: of incorrect ones.
        coverage: detector → (accuracy, correct, passed) at each of :data:`COVERAGES`.
        at_risk: detector → the largest coverage with at most 5 % incorrect among what passes.
        flagged: incorrect predictions that the guard flags, most anomalous first.
        missed: incorrect predictions that pass, least anomalous first.
        alarms: correct predictions that it flags, most anomalous first.
        weak_classes: classes without an incorrect prediction among the images fitted on, in words.
        draws: of the bootstrap.
        seed: of it.
        command: as given.
        date: of the assessment.
        versions: of the packages.
        warnings: about guard and data.
        files: the contents of the files, by name.
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
        """The condition of unmodified images."""
        return self.conditions[0]

    @property
    def passed(self) -> int:
        """Unmodified images that pass."""
        clean = self.clean
        return clean.images - clean.flagged_defects - clean.flagged_right

    @property
    def passed_right(self) -> int:
        """Unmodified images that pass and are classified correctly."""
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
