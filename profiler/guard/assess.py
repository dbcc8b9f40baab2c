"""Assessment of a guard on images that it was not fitted on."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from profiler.activations.collect import thumbnails, try_first
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray
from profiler.core.store import write_atomically
from profiler.data.corruptions import CorruptedProbe, Corruption
from profiler.data.images import ProbeSet
from profiler.data.labelled.images import LabelledImages
from profiler.errors import ContextError, InputError
from profiler.guard.answers import BATCH, REFERENCE, answers_of, check_classes, check_subject
from profiler.guard.guard import Guard, digest_number
from profiler.guard.metrics import DRAWS, Contest, Draws, Metrics, coverage_at, risk_coverage, roc
from profiler.guard.page import summary
from profiler.guard.result import COVERAGES, Assessment, Condition, Example, guard_json
from profiler.guard.rules.base import Detector, Views
from profiler.guard.rules.baselines import Mahalanobis, Neighbours, baselines
from profiler.guard.rules.combined import WithSoftmax
from profiler.guard.rules.reasons import SHOWN
from profiler.guard.runtime import view_tensors
from profiler.guard.score import called
from profiler.guard.thresholds import above
from profiler.guard.view import render_guard
from profiler.models.attacks import Attack
from profiler.models.classifier import Classifier
from profiler.session import NONE, Provenance, Services, check_writable, versions

log = logging.getLogger("profiler")
_SHOWN_EXAMPLES = 12
_AT_RISK = 0.05


@dataclass(frozen=True)
class AssessOptions:
    """Settings of an assessment."""

    attacks: tuple[Attack, ...] = ()
    corruptions: tuple[Corruption, ...] = ()
    draws: int = DRAWS
    seed: int = 0
    batch: int = BATCH
    max_report_mb: float = 20.0
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True)
class _Judged:
    """Images under one condition: rows of the data, their outputs and their scores."""

    rows: IntArray
    wrong: BoolArray
    predicted: IntArray
    features: FloatArray
    views: Views | None
    scores: Mapping[str, Float64]


def assess_guard(
    guard: Guard,
    classifier: Classifier,
    data: LabelledImages,
    reference: Path | None,
    out: Path | None,
    options: AssessOptions | None = None,
    services: Services = NONE,
) -> Assessment:
    """Assess a guard on held-out labelled images, and write the result to ``out``, if any.

    Args:
        guard: to be assessed.
        classifier: the one it was fitted for.
        data: images that neither the classifier nor the guard was fitted on. Images that the guard
            was fitted on are left out.
        reference: file with the outputs for the images that the guard was fitted on, for baselines
            that need fitting; None leaves these baselines out.
        out: folder for ``guard.json`` and ``guard.html``.
        options: attacks, corruptions and bootstrap.
        services: shows progress.

    Raises:
        ContextError: the guard belongs to another network or to other classes.
        InputError: no image is left, or there are no errors or no correct predictions.
        OutputError: the page is larger than ``options.max_report_mb``.
    """
    options = options or AssessOptions()
    changed = check_subject(guard, classifier)
    check_classes(guard, data.classes)
    if out is not None:
        check_writable(out)
    used = set(guard.seen.tolist())
    fresh = [
        index
        for index in range(len(data.names))
        if digest_number(bytes.fromhex(data.images.digest(index))) not in used
    ]
    known = len(data.names) - len(fresh)
    if not fresh:
        raise InputError(
            f"the guard was fitted on all {known} images of {data.title}; it can only be assessed "
            "on other images"
        )
    detectors = _detectors(guard, reference)
    try_first(classifier, classifier.readings, data, batch_size=options.batch)
    trial = _Trial(guard, classifier, data, fresh, detectors, options, services)
    clean = trial.judged("images", data)
    if not len(clean.rows):
        raise InputError(f"none of the {len(fresh)} images of {data.title} can be read")
    if clean.wrong.all() or not clean.wrong.any():
        outcome = "incorrect" if clean.wrong.all() else "correct"
        raise InputError(
            f"the predictions for all {len(clean.rows)} held-out images are {outcome}: how well "
            "incorrect predictions are separated from correct ones cannot be measured; give more "
            "images"
        )
    conditions = [trial.condition("unmodified", "clean", clean, clean)]
    for each in options.attacks:
        found = trial.judged(each.text, data, each)
        method = each.method.upper()
        conditions.append(trial.condition(each.text, "attack", clean, found, method, each.eps))
    for harm in options.corruptions:
        found = trial.judged(str(harm), CorruptedProbe(data, harm, options.seed))
        conditions.append(trial.condition(str(harm), "corruption", clean, found, harm.name))
    draws = Draws.of(clean.rows, options.draws, options.seed)
    rule = guard.rule.name
    own = clean.scores[rule]
    rules, others = _names(guard, clean.scores)
    wrong, flagged = clean.wrong, above(own, guard.threshold.value)
    shown = (rule, *others)
    unread = len(fresh) - len(clean.rows)
    remarks = (changed, *_warnings(guard, known, unread, reference), *data.remarks())
    assessment = Assessment(
        context=guard.context,
        rule=rule,
        views=guard.views,
        threshold=guard.threshold,
        data=data.title,
        data_fingerprint=data.fingerprint,
        known=known,
        unread=unread,
        baselines=others,
        rules=rules,
        conditions=tuple(conditions),
        roc={name: roc(clean.scores[name], wrong, draws) for name in shown},
        risk={name: risk_coverage(clean.scores[name], wrong, draws) for name in shown},
        right_scores=own[~wrong],
        wrong_scores=own[wrong],
        coverage={name: _accuracies(clean.scores[name], wrong) for name in shown},
        at_risk={name: coverage_at(clean.scores[name], wrong, _AT_RISK) for name in shown},
        flagged=trial.examples(clean, wrong & flagged, -own),
        missed=trial.examples(clean, wrong & ~flagged, own),
        alarms=trial.examples(clean, ~wrong & flagged, -own),
        weak_classes=tuple(guard.class_name(label) for label in guard.weak_classes),
        draws=options.draws,
        seed=options.seed,
        command=options.provenance.command,
        date=options.provenance.date,
        versions=versions(),
        warnings=tuple(filter(None, remarks)),
    )
    for warning in assessment.warnings:
        log.warning("warning: %s", warning)
    assessment = replace(assessment, files=_files(assessment, data, options))
    if out is not None:
        for name, content in assessment.files.items():
            write_atomically(out / name, content)
    return assessment


def _files(found: Assessment, data: LabelledImages, options: AssessOptions) -> dict[str, str]:
    wanted = sorted({each.index for each in (*found.flagged, *found.missed, *found.alarms)})
    pictures = dict(zip(wanted, thumbnails(data, wanted), strict=True))
    page = render_guard(found, pictures, max_mb=options.max_report_mb)
    return {"guard.json": guard_json(found, " ".join(summary(found))), "guard.html": page}


def _detectors(guard: Guard, reference: Path | None) -> dict[str, Detector]:
    """The baselines, and the guard's method without the softmax, by name."""
    found: dict[str, Detector] = {}
    if isinstance(guard.rule, WithSoftmax):
        found[guard.rule.rule.name] = guard.rule.rule
    arrays: Mapping[str, NDArray[Any]] | None = None
    if reference is not None:
        try:
            with safe_open(str(reference), framework="np") as file:
                made_for = (file.metadata() or {}).get("guard")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{str(reference)!r} cannot be read: {error}") from error
        if made_for != guard.context.fingerprint:
            raise ContextError(
                f"{str(reference)!r} belongs to another network than the guard in the same folder; "
                "restore the right file, or remove this one to continue without Mahalanobis and KNN"
            )
    for each in baselines():
        if isinstance(each, Mahalanobis | Neighbours):
            if arrays is None:
                continue
            each.fit(arrays["features"], arrays["logits"], arrays["truth"])
        found[each.name] = each
    return found


def _names(guard: Guard, scores: Mapping[str, Float64]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The detectors with concepts, the guard's own first, and the baselines."""
    known = {each.name for each in baselines()}
    rules = (guard.rule.name, *(n for n in scores if n not in known and n != guard.rule.name))
    return rules, tuple(name for name in scores if name in known)


@dataclass(frozen=True)
class _Trial:
    """A guard and the baselines, on images that the guard was not fitted on."""

    guard: Guard
    classifier: Classifier
    data: LabelledImages
    fresh: Sequence[int]
    """Which of the images."""
    detectors: Mapping[str, Detector]
    options: AssessOptions
    services: Services

    def judged(self, title: str, probe: ProbeSet, attack: Attack | None = None) -> _Judged:
        """The images, as ``probe`` has them, under an attack if there is one."""
        rows, features, logits, looks = [], [], [], []
        with self.services.progress.stage(title, len(self.fresh)) as advance:
            for chosen, answers in answers_of(
                self.classifier,
                probe,
                self.fresh,
                batch=self.options.batch,
                views=self.guard.views,
                attack=attack,
                truth=self.data.truth,
                advance=advance,
            ):
                good = [place for place in range(len(chosen)) if place not in answers.problems]
                rows += [chosen[place] for place in good]
                features.append(answers.features[good])
                logits.append(answers.logits[good])
                if answers.views is not None:
                    looks.append(answers.views.take(np.array(good, dtype=np.int64)))
        z, y = np.concatenate(features), np.concatenate(logits)
        views = Views.together(looks) if looks else None
        core = self.guard.core()
        with torch.inference_mode():
            scored = core(torch.from_numpy(z), torch.from_numpy(y), views=view_tensors(views))
        scores = {self.guard.rule.name: scored.numpy().astype(np.float64)}
        scores |= {name: each.score(z, y) for name, each in self.detectors.items()}
        at, predicted = np.array(rows, dtype=np.int64), y.argmax(axis=1)
        wrong = predicted != np.asarray(self.data.truth)[at]
        return _Judged(at, wrong, predicted, z, views, scores)

    def condition(
        self,
        title: str,
        kind: str,
        clean: _Judged,
        changed: _Judged,
        method: str = "",
        eps: float = math.nan,
    ) -> Condition:
        """Defects of one kind beside correct predictions on unmodified images."""
        right = ~clean.wrong
        defect = np.r_[np.zeros(right.sum(), bool), np.ones(changed.wrong.sum(), bool)]
        rows = np.r_[clean.rows[right], changed.rows[changed.wrong]]
        scores = {
            name: np.r_[clean.scores[name][right], changed.scores[name][changed.wrong]]
            for name in clean.scores
        }
        # An image and its changed version are resampled together.
        draws = Draws.of(rows, self.options.draws, self.options.seed)
        own, cut = self.guard.rule.name, self.guard.threshold.value
        _, others = _names(self.guard, scores)
        found = Contest.of(scores, defect, draws)
        best = Metrics.each(lambda metric: found.best(others, metric))
        return Condition(
            title=title,
            kind=kind,
            method=method,
            eps=eps,
            images=len(changed.rows),
            accuracy=float(np.mean(~changed.wrong)),
            defects=int(changed.wrong.sum()),
            right=int(right.sum()),
            flagged_defects=int(np.sum(above(changed.scores[own][changed.wrong], cut))),
            flagged_right=int(np.sum(above(clean.scores[own][right], cut))),
            metrics={name: found.intervals(name) for name in scores},
            lead=Metrics.each(lambda metric: found.lead(own, best[metric], metric)),
            best=best,
        )

    def examples(self, clean: _Judged, rows: BoolArray, order: Float64) -> tuple[Example, ...]:
        """The first few of some images in an order, with what speaks against each prediction."""
        few = np.flatnonzero(rows)
        few = few[np.argsort(order[few], kind="stable")][:_SHOWN_EXAMPLES]
        guard, images, labels = self.guard, clean.rows[few].tolist(), clean.predicted[few].tolist()
        told = guard.reasons(clean.features[few], clean.predicted[few], SHOWN)
        scores = clean.scores[guard.rule.name][few].tolist()
        return tuple(
            Example(
                image,
                self.data.names[image],
                guard.class_name(int(self.data.truth[image])),
                guard.class_name(label),
                score,
                tuple(guard.tell(each, label) for each in reasons),
                called(guard, clean.views, row),
            )
            for row, image, label, score, reasons in zip(
                few.tolist(), images, labels, scores, told, strict=True
            )
        )


def _accuracies(scores: Float64, wrong: BoolArray) -> tuple[tuple[float, int, int], ...]:
    """At each of :data:`COVERAGES`: accuracy, correct predictions and images that pass."""
    order = np.argsort(scores, kind="stable")
    found = []
    for coverage in COVERAGES:
        passed = order[: max(1, round(coverage * len(order)))]
        right = int(np.sum(~wrong[passed]))
        found.append((right / len(passed), right, len(passed)))
    return tuple(found)


def _warnings(guard: Guard, known: int, unread: int, reference: Path | None) -> Iterator[str]:
    yield from guard.context.notes
    yield guard.remark
    if known:
        yield f"{known} image(s) are left out, because the guard was fitted on them"
    if unread:
        yield f"{unread} image(s) could not be read and are left out"
    if reference is None:
        yield (
            f"{REFERENCE!r} was not found in the folder of the guard, so the baselines Mahalanobis "
            "and KNN are left out"
        )
