"""The story of a diagnosis: why a classifier fails, in straight lines."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from profiler.activations.collect import thumbnails
from profiler.activations.kept import Engine
from profiler.activations.observe import (
    CAPTIONS,
    Observation,
    caption_rows,
    check_numbering,
    check_weights,
    examine,
)
from profiler.concepts.heatmap import Differential, Heatmap, Heatmaps
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.arrays import FloatArray, IntArray
from profiler.core.store import write_atomically
from profiler.data.concept_sets import ConceptSet
from profiler.data.corruptions import CorruptedProbe, Corruption
from profiler.data.images import ProbeSet
from profiler.data.labelled.images import LabelledImages
from profiler.data.records import ConceptRecord, DataRecord
from profiler.debug.encoder_or_head import (
    Fault,
    FaultRule,
    Localization,
    NearestHeatmap,
    Witnesses,
    ZeroShot,
    localize_held_out,
)
from profiler.debug.facts import ConfusionFacts, DiagnosisFacts
from profiler.debug.files import diagnosis_json, heatmaps_npz, map_file
from profiler.debug.result import (
    LEVELS,
    Accuracy,
    Confusion,
    Diagnosis,
    Level,
    MapQuality,
    RuleRecord,
    Told,
    WrongImage,
)
from profiler.debug.view import render_debug
from profiler.errors import InputError
from profiler.llm.base import Usage
from profiler.llm.narrate import Narrative, narrate_in_any_case
from profiler.models.attacks import Attack
from profiler.models.classifier import Classifier
from profiler.models.records import ClassifierRecord, VLMRecord
from profiler.models.vlm.base import VLM
from profiler.session import NONE, Clock, Provenance, Reading, Services, check_writable, versions

log = logging.getLogger("profiler")
RULE = Witnesses.name
"""The criterion that counts: it finds most planted faults (``benchmarks/planted_faults.py``)."""
MOST_CONFUSIONS = 50
"""Pairs of classes that have their own heatmaps, those of most errors."""
TOLD_CONFUSIONS = 8
"""Of these, those a language model writes about."""
MOST_CELLS = 60_000_000
"""Cells of heatmaps of all classes together that fit into memory and a page."""

CHECK_REPORT = "check.html"
"""Report on specifications; linked if it is in the same folder."""

_SHOWN_WRONG = 12
"""Pictures of each confusion."""
_SHOWN_RIGHT = 4
"""Pictures of correctly classified images of each class."""
_SHOWN_CLASSES = 100
"""Classes of which correctly classified images are shown."""


@dataclass(frozen=True)
class DebugOptions:
    """Settings of a diagnosis."""

    attack: Attack | None = None
    corruption: Corruption | None = None
    level: Level = "encoder"
    """Whose heatmaps come first: the encoder's, through the linear alignment, or the VLM's own."""
    trust_labels: bool = False
    """Continue although labels and outputs seem to be numbered differently."""
    seed: int = 0
    prompts: Path | None = None
    max_report_mb: float = 20.0
    reading: Reading = field(default_factory=Reading)
    provenance: Provenance = field(default_factory=Provenance)
    engine: Engine | None = None
    """Where the shards of a pass are made; None: in this process."""

    @property
    def change(self) -> str:
        """How the images are changed first, in words; empty if they are not."""
        if self.attack is not None:
            return self.attack.text
        return "" if self.corruption is None else str(self.corruption)


def debug(
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    concepts: ConceptSet,
    out: Path | None,
    options: DebugOptions | None = None,
    services: Services = NONE,
) -> Diagnosis:
    """Attribute the errors of a classifier to encoder or head, and find the responsible concepts.

    Args:
        classifier: under study.
        vlm: gives the embeddings of images and concepts.
        data: labelled images.
        concepts: that are compared.
        out: folder for the files of the diagnosis; None: nothing is written.
        options: settings.
        services: language model, store and progress.

    Raises:
        InputError: too many concepts for the number of classes, or labels that seem to be numbered
            differently from the outputs.
        OutputError: the page is larger than ``options.max_report_mb``.
    """
    options = options or DebugOptions()
    clock = Clock()
    if out is not None:
        check_writable(out)
    _check_size(len(concepts.words), data)
    log.info("%s: %s", classifier.name, ClassifierRecord.of(classifier).parts)
    with clock("images"):
        clean = examine(classifier, vlm, data, options.reading, services, engine=options.engine)
    numbering = check_numbering(
        clean,
        classifier.outputs,
        trust_labels=options.trust_labels,
        assumed=bool(data.classes.assumed),
    )
    if numbering:
        log.warning("warning: %s", numbering)
    examined = clean
    if options.change:
        with clock("changed images"):
            examined = examine(
                classifier,
                vlm,
                data,
                options.reading,
                services,
                title=f"images, {options.change}",
                corruption=options.corruption,
                attack=options.attack,
                seed=options.seed,
                engine=options.engine,
            )

    with clock("concepts"):
        classes = unique(data.classes.names)
        aligned = AffineMap(seed=options.seed).fit(clean.features, clean.embeddings, clean.kept)
        captions = caption_rows(vlm, concepts.words, services.store)
        spaces: dict[Level, ConceptSpace] = {
            "encoder": ConceptSpace.of(concepts.words, captions, aligned),
            "vlm": ConceptSpace.of_vlm(concepts.words, captions),
        }
        class_captions = caption_rows(vlm, _captioned(data), services.store)
        class_space = ConceptSpace.of(classes, class_captions, aligned)
    if aligned.warning_:
        log.warning("warning: %s", aligned.warning_)

    cases = _Cases.of(clean, examined, spaces, changed=bool(options.change))
    with clock("encoder or head"):
        inner = check_weights(classifier, data, clean, services.store)
        rules = _rules(classifier, class_space, spaces["encoder"], inner)
        located = localize_held_out(
            rules,
            replace(clean, groups=clean.kept),
            replace(cases.errors, groups=cases.errors.kept),
            seed=options.seed,
        )
    with clock("heatmaps"):
        found = Diagnosis(
            command=options.provenance.command,
            date=options.provenance.date,
            classifier=ClassifierRecord.of(classifier),
            data=DataRecord(
                data.title,
                data.fingerprint,
                len(clean),
                tuple((each.name, each.reason) for each in clean.skipped),
                tuple(data.remarks()),
            ),
            vlm=VLMRecord.of(vlm, CAPTIONS),
            concepts=ConceptRecord(
                concepts.title, len(concepts.words), concepts.fingerprint, concepts.dropped
            ),
            words=concepts.words,
            classes=classes,
            change=options.change,
            before=_accuracy(clean.predicted, clean.truth),
            confusion=_confusion(examined, classifier.outputs),
            quality=_quality(aligned, class_space, clean),
            heatmaps={level: cases.heatmaps(level, classifier.outputs) for level in LEVELS},
            rules={
                rule.name: RuleRecord(each, _reason(rule, each))
                for rule, each in zip(rules, located, strict=True)
            },
            rule=RULE,
            confusions=_confusions(cases, located, options.level),
            images=_wrong_images(cases, located, data),
            thumbnails={},
            examples={},
            warnings=tuple(_warnings(clean, data, aligned, numbering)),
            settings={**options.provenance.settings, "batch_size_used": clean.batch_size},
            versions=versions(),
            level=options.level,
        )
    with clock("thumbnails"):
        found = _with_pictures(found, cases, data, options, services)
    with clock("words"):
        found = _told(found, options, services)
    found = replace(found, timings=dict(clock.seconds))
    found = replace(found, files=_files(found, aligned, classifier, vlm, out, options))
    if out is not None:
        for name, content in found.files.items():
            write_atomically(out / name, content)
    return found


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names; those that occur twice get their number.

    >>> unique(["crane", "tench", "crane"])
    ('crane (0)', 'tench', 'crane (2)')
    """
    return tuple(f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names))


def _captioned(data: LabelledImages) -> list[str]:
    """What each class is called in its captions: its name, or all its names if that is shared."""
    names = data.classes.names
    return [
        ", ".join(synonyms) if names.count(name) > 1 else name
        for name, synonyms in zip(names, data.classes.synonyms, strict=True)
    ]


def _check_size(concepts: int, data: LabelledImages) -> None:
    present = int(np.count_nonzero(data.counts))
    if present * concepts**2 > MOST_CELLS:
        most = int((MOST_CELLS / present) ** 0.5)
        raise InputError(
            f"{concepts} concepts and {present} classes give {present * concepts**2:,} cells of "
            f"heatmaps; with {present} classes, at most {most} concepts are possible"
        )


# --- what is compared -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Cases:
    """Correct and incorrect predictions, and the strengths of the concepts in both, by level.

    Correct predictions are those on the unmodified images. If the images were changed, errors are
    those whose prediction was correct on the unmodified image: the change caused no others.
    """

    right: Observation
    errors: Observation
    rows: IntArray
    """Place of each error among the images examined."""
    right_rows: IntArray
    strengths_right: Mapping[Level, FloatArray]
    strengths: Mapping[Level, FloatArray]

    @classmethod
    def of(
        cls,
        clean: Observation,
        examined: Observation,
        spaces: Mapping[Level, ConceptSpace],
        *,
        changed: bool,
    ) -> "_Cases":
        wrong = examined.wrong & ~clean.wrong if changed else examined.wrong
        right, errors = clean.take(~clean.wrong), examined.take(wrong)

        def strengths(seen: Observation) -> dict[Level, FloatArray]:
            rows = {"encoder": seen.features, "vlm": seen.embeddings}
            return {level: spaces[level].strengths(rows[level]) for level in LEVELS}

        return cls(
            right,
            errors,
            np.flatnonzero(wrong),
            np.flatnonzero(~clean.wrong),
            strengths(right),
            strengths(errors),
        )

    def heatmaps(self, level: Level, classes: int) -> Any:
        """Summaries by class, and by correct and incorrect predictions."""
        right, errors = self.right, self.errors
        return Heatmaps.of(
            np.concatenate([self.strengths_right[level], self.strengths[level]]),
            np.concatenate([right.truth, errors.truth]),
            np.concatenate([right.predicted, errors.predicted]),
            classes,
        )


def _confusions(
    cases: _Cases, located: Sequence[Localization], level: Level
) -> tuple[Confusion, ...]:
    """The pairs of most errors, each compared with the correct predictions of the true class."""
    errors = cases.errors
    found = []
    for true, predicted in list(located[0].pairs)[:MOST_CONFUSIONS]:
        own = (errors.truth == true) & (errors.predicted == predicted)
        wrong: dict[Level, Heatmap] = {}
        differential: dict[Level, Differential | None] = {}
        for each in LEVELS:
            heat = Heatmap.of(cases.strengths[each][own])
            right = Heatmap.of(cases.strengths_right[each][cases.right.truth == true])
            if heat is not None:  # as it always is: a pair has an error
                wrong[each] = heat
                differential[each] = None if right is None else Differential(right, heat)
        found.append(
            Confusion(
                true,
                predicted,
                int(own.sum()),
                wrong,
                differential,
                {rule.rule: rule.pairs[true, predicted] for rule in located},
                level=level,
            )
        )
    return tuple(found)


def _wrong_images(
    cases: _Cases, located: Sequence[Localization], data: LabelledImages
) -> tuple[WrongImage, ...]:
    errors = cases.errors
    chances = softmax(np.asarray(errors.logits, dtype=np.float64), axis=1)
    return tuple(
        WrongImage(
            int(cases.rows[row]),
            data.names[int(errors.kept[row])],
            int(errors.truth[row]),
            int(errors.predicted[row]),
            float(chances[row, errors.predicted[row]]),
            float(chances[row, errors.truth[row]]),
            {each.rule: Fault(int(each.verdicts[row])) for each in located},
            cases.strengths["encoder"][row],
        )
        for row in range(len(errors))
    )


def _accuracy(predicted: IntArray, truth: IntArray) -> Accuracy:
    return Accuracy(int(np.sum(predicted == truth)), len(truth))


def _confusion(seen: Observation, classes: int) -> NDArray[np.int64]:
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (seen.truth, seen.predicted), 1)
    return counts


def _quality(aligned: AffineMap, classes: ConceptSpace, clean: Observation) -> MapQuality:
    own = classes.strengths(clean.features).argmax(axis=1)
    vlm = (clean.embeddings @ classes.directions.T).argmax(axis=1)
    return MapQuality(
        aligned.r2_,
        aligned.ridge_,
        aligned.rows_,
        aligned.warning_,
        _accuracy(own, clean.truth),
        _accuracy(vlm, clean.truth),
    )


def _warnings(
    clean: Observation, data: LabelledImages, aligned: AffineMap, numbering: str
) -> list[str]:
    texts = [numbering] if numbering else []
    if clean.skipped:
        first = clean.skipped[0]
        texts.append(
            f"{len(clean.skipped)} of {len(data.names)} images could not be read and are left "
            f"out (first: {first.name}: {first.reason})"
        )
    if aligned.warning_:
        texts.append(aligned.warning_)
    return [f"{text[:1].upper()}{text[1:]}." for text in texts]


# --- encoder or head ------------------------------------------------------------------------


def _rules(
    classifier: Classifier,
    classes: ConceptSpace,
    concepts: ConceptSpace,
    inner: Mapping[str, float],
) -> list[FaultRule]:
    """The criterion that counts, then the two that use the VLM's space."""
    return [
        Witnesses(classifier.outputs, classifier.weights, inner),
        ZeroShot(classes),
        NearestHeatmap(concepts, classifier.outputs),
    ]


def _reason(rule: FaultRule, found: Localization) -> str:
    """Why a criterion attributes all errors to one side, or decides none; else empty."""
    if not found.total.images:
        return ""
    if not found.total.decided:
        return (
            "the VLM itself classifies none of these images correctly"
            if isinstance(rule, ZeroShot)
            else "no other images of the true classes are left to fit the criterion on"
        )
    return rule.encoder_ if isinstance(rule, Witnesses) and not found.total.head else ""


# --- pictures and words ---------------------------------------------------------------------


def _with_pictures(
    found: Diagnosis,
    cases: _Cases,
    data: LabelledImages,
    options: DebugOptions,
    services: Services,
) -> Diagnosis:
    """Add thumbnails of the errors of each confusion, and of correct predictions of each class.

    Errors are shown with the corruption that the classifier was given. Attacked images are shown
    without the attack, which is too faint to be seen.
    """
    wrong = [
        image
        for each in found.confusions
        for image in [
            i.image for i in found.images if (i.true, i.predicted) == (each.true, each.predicted)
        ][:_SHOWN_WRONG]
    ]
    shown = {each.true for each in found.confusions} | {each.predicted for each in found.confusions}
    examples: dict[int, list[int]] = {}
    # A changed image may have two pictures: unmodified, and as it was misclassified.
    unmodified = cases.right_rows + (found.data.images if found.change else 0)
    for row, label in zip(unmodified.tolist(), cases.right.truth.tolist(), strict=True):
        wanted = label in shown and (label in examples or len(examples) < _SHOWN_CLASSES)
        if wanted and len(examples.setdefault(label, [])) < _SHOWN_RIGHT:
            examples[label].append(row)
    right = [row for rows in examples.values() for row in rows]
    # The images that could not be read are left out of rows, not of the data.
    index = dict(zip(cases.rows.tolist(), cases.errors.kept.tolist(), strict=True))
    index |= dict(zip(unmodified.tolist(), cases.right.kept.tolist(), strict=True))
    seen: ProbeSet = data
    if options.corruption is not None:
        seen = CorruptedProbe(data, options.corruption, options.seed)
    pictures: dict[int, bytes] = {}
    with services.progress.stage("thumbnails", len(wrong) + len(right)) as advance:
        for probe, rows in ((seen, wrong), (data, right)):
            made = thumbnails(
                probe,
                [index[row] for row in rows],
                workers=options.reading.workers,
                advance=advance,
            )
            pictures |= dict(zip(rows, made, strict=True))
    return replace(found, thumbnails=pictures, examples=examples)


def _told(found: Diagnosis, options: DebugOptions, services: Services) -> Diagnosis:
    """Add the finding in words, and that of each confusion."""
    usage = Usage()

    def told(narrative: Narrative) -> Told:
        nonlocal usage
        usage += narrative.usage
        return Told(narrative.text, narrative.author)

    confusions = []
    for place, each in enumerate(found.confusions):
        facts = ConfusionFacts(diagnosis=found, confusion=each)
        llm = services.llm if place < TOLD_CONFUSIONS else None
        confusions.append(
            replace(each, told=told(narrate_in_any_case(facts, llm, options.prompts)))
        )
    whole = DiagnosisFacts(diagnosis=found)
    summary = told(narrate_in_any_case(whole, services.llm, options.prompts))
    return replace(found, told=summary, confusions=tuple(confusions), usage=usage)


# --- the outcome ----------------------------------------------------------------------------


def _files(
    found: Diagnosis,
    aligned: AffineMap,
    classifier: Classifier,
    vlm: VLM,
    out: Path | None,
    options: DebugOptions,
) -> dict[str, str | bytes]:
    """All contents are made before the first file is written, so that errors come before it."""
    context = {"classifier": classifier.fingerprint, "vlm": vlm.fingerprint}
    specs = CHECK_REPORT if out and (out / CHECK_REPORT).exists() else ""
    return {
        "diagnosis.json": diagnosis_json(found),
        "heatmaps.npz": heatmaps_npz(found),
        "map.safetensors": map_file(aligned, context),
        "debug.html": render_debug(found, specs=specs, max_mb=options.max_report_mb),
    }
