"""The story of a guard: fitted on one part of the images, chosen and set on others, assessed apart.

Three disjoint parts of the images that ``fit`` is given, by content: the map and the rules are
fitted on the first, the rule is chosen on the second (which also says how rare a score is among
right answers), and thresholds are set on the third. ``assess`` gets images of its own and leaves
out those among them that the guard was made from.
"""

import datetime
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from profiler.activations.collect import thumbnails, try_first
from profiler.activations.observe import Observation, caption_rows, check_numbering, examine
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray
from profiler.core.store import write_atomically
from profiler.core.text import listed
from profiler.data.concept_sets import ConceptSet
from profiler.data.corruptions import Corruption, corrupted
from profiler.data.images import ProbeSet, UnreadableImageError
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import LabelledImages, open_labelled
from profiler.data.labelled.names import IMAGENETS, ClassNames, fold
from profiler.detector.base import Detector, Views, sound
from profiler.detector.baselines import Mahalanobis, Neighbours, baselines
from profiler.detector.combined import (
    CHOICES,
    DEFAULT,
    ConceptRule,
    WithSoftmax,
    check_reads,
    make_rule,
)
from profiler.detector.comparisons import Summaries
from profiler.detector.drift import Look
from profiler.detector.metrics import (
    DRAWS,
    METRICS,
    Compared,
    Draws,
    coverage_at,
    metrics,
    risk_coverage,
    roc,
)
from profiler.detector.parts import split_by_content
from profiler.detector.reasons import SHOWN
from profiler.detector.thresholds import CONFIDENCE, Threshold, above
from profiler.errors import ContextError, InputError, UnknownNameError
from profiler.guard import (
    FILE,
    Calibration,
    Context,
    Guard,
    ScoringCore,
    digest_number,
    speaker_of,
    trial_batch,
    view_tensors,
)
from profiler.guard_files import COVERAGES, Assessment, Condition, Example, guard_json
from profiler.models.attacks import Attack, PixelScale
from profiler.models.classifier import Classifier
from profiler.models.subject.network import computed, weights_digest
from profiler.models.subject.preprocessing import trial_image
from profiler.models.views import VIEWS, check_views
from profiler.models.vlm.base import VLM
from profiler.pages.of_guard import guard_page
from profiler.report.guard_page import render_guard
from profiler.session import NONE, Services, check_writable, versions

log = logging.getLogger("profiler")


PARTS = (0.5, 0.25, 0.25)
"""Shares of the images that rules are fitted on, chosen on, and thresholds set on."""
REFERENCE = "reference.safetensors"
"""Beside the guard: answers of the part it was fitted on, from which baselines are fitted."""
AUTO = "auto"
"""The combination that tells wrong answers best on the part to choose on."""
BATCH = 32
FEWEST_RIGHT = 3
"""Right answers of a class below which it is named, as one that says little of itself."""

_NO_CUT = Threshold(float("inf"), "share", 0.0, 0, 0.0, 0.0)
_SHOWN_EXAMPLES = 12
_AT_RISK = 0.05


@dataclass(frozen=True)
class GuardOptions:
    """How a guard is made, beyond what it is made of."""

    rule: str = DEFAULT
    views: tuple[str, ...] = ()
    target: str = "false-alarms"
    level: float = 0.05
    confidence: float = CONFIDENCE
    trust_labels: bool = False
    seed: int = 0
    precision: str = "fp32"
    batch_size: int | None = None
    workers: int = 0
    allow_bad: bool = False
    command: str = ""
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())
    settings: Mapping[str, Any] = field(default_factory=dict)


# --- fit -------------------------------------------------------------------------------------


def fit_guard(
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    concepts: ConceptSet,
    out: Path,
    options: GuardOptions | None = None,
    services: Services = NONE,
) -> Guard:
    """Make a guard from labelled images that the classifier was not trained on; write it.

    The classifier has to be wrong now and then on them, or there is nothing to learn from.
    """
    options = options or GuardOptions()
    check_rule(options.rule, options.views)
    check_writable(out)
    seen = examine(classifier, vlm, data, options, services)
    views = None
    if options.views:
        seen, views = with_views(classifier, data, seen, options, services)
    numbering = check_numbering(
        seen,
        classifier.outputs,
        trust_labels=options.trust_labels,
        assumed=bool(data.classes.assumed),
    )
    digests = [digest_of(data, int(index)) for index in seen.kept]
    captions = caption_rows(vlm, concepts.words, services.store)
    shape = tuple(classifier.preprocess(trial_image()).shape)
    context = Context(
        subject=classifier.name,
        weights=classifier.subject.weights,
        head=classifier.head,
        digest=weights_digest(classifier.subject.model),
        fingerprint=classifier.fingerprint,
        classes=tuple(data.classes.names),
        vlm=vlm.name,
        vlm_fingerprint=vlm.fingerprint,
        limits=vlm.limits,
        concepts=concepts.title,
        data=data.title,
        data_fingerprint=data.fingerprint,
        accuracy=seen.accuracy,
        seed=options.seed,
        command=options.command,
        date=options.date,
        versions=versions(),
        notes=tuple(filter(None, (numbering, *data.remarks(), _read_in(options)))),
        behaviour=classifier.subject.behaviour if classifier.subject.from_file else "",
        shape=shape,
        trial=computed(classifier.subject.model, [trial_batch(shape)]),
    )
    head = classifier.weights, classifier.bias
    guard, reference = make_guard(
        seen, digests, concepts.words, captions, head, context, options, views
    )
    for note in filter(None, (*guard.context.notes, guard.remark)):
        log.warning("warning: %s", note)
    write_atomically(out / REFERENCE, save(reference, {"guard": context.fingerprint}))
    guard.save(out / FILE)
    return guard


def _read_in(options: GuardOptions) -> str:
    if options.precision == "fp32" or options.views:
        return ""
    return (
        f"the images were read in {options.precision}, but a guard is used in full precision: what "
        "its threshold promises holds as far as the two give the same scores"
    )


def check_rule(name: str, views: Sequence[str] = ()) -> None:
    """Raise unless there is such a rule, there are such views, and the one reads the others."""
    if name not in (AUTO, *CHOICES):
        raise UnknownNameError("rule", name, (AUTO, *CHOICES))
    check_views(views)
    if name != AUTO:
        check_reads(name, views)


def make_guard(
    seen: Observation,
    digests: Sequence[str],
    words: Sequence[str],
    captions: FloatArray,
    head: tuple[Float64, Float64],
    context: Context,
    options: GuardOptions,
    views: Views | None = None,
) -> tuple[Guard, dict[str, NDArray[Any]]]:
    """The guard, and the answers of the part it was fitted on.

    Args:
        seen: the images.
        digests: of their files.
        words: the concepts.
        captions: (M, T, e) of them.
        head: weights and bias of the classifier's last layer.
        context: what the guard belongs to.
        options: how it is made.
        views: of the same images, if the options name any.
    """
    dealt = split_by_content(digests, PARTS, options.seed)
    parts = [seen.take(rows) for rows in dealt]
    looks = [None if views is None else views.take(rows) for rows in dealt]
    aligned = AffineMap(seed=options.seed).fit(parts[0].features, parts[0].embeddings)
    space = ConceptSpace.of(words, captions, aligned)
    rule = choose_rule(options.rule, space, parts[0], parts[1], options.views, looks[1])
    plain = rule.rule if isinstance(rule, WithSoftmax) else rule
    weights, offsets = space.planes()

    def levels(of: Observation) -> Float64:
        found: Float64 = np.asarray(of.features, dtype=np.float64) @ weights.T + offsets
        return found

    classes = len(head[0])
    # The rule has been fitted: if it needed wrong answers, there were some.
    summaries = Summaries.of(
        levels(parts[0]), parts[0].truth, parts[0].predicted, classes, need_wrong=False
    )
    empty = np.zeros(0)
    held = levels(parts[2]).astype(np.float32)
    cut = Calibration(empty, empty.astype(bool), empty, held, parts[2].predicted)
    guard = Guard(
        space,
        aligned,
        rule,
        speaker_of(plain, space, summaries),
        head,
        cut,
        _NO_CUT,
        replace(context, parts=tuple(map(len, parts)), r2=aligned.r2_),  # type: ignore[arg-type]
        np.array([digest_number(bytes.fromhex(digest)) for digest in digests], dtype=np.int64),
    )
    # By the core itself, so that what is cut is what is deployed, to the last bit.
    scores, candidates = (_scored(guard.core(), parts[k], looks[k]) for k in (2, 1))
    filled = replace(cut, scores=scores, wrong=parts[2].wrong, candidates=candidates)
    guard = replace(guard, calibration=filled).at(options.target, options.level, options.confidence)
    notes = (*context.notes, *_notes(guard, aligned))
    reference: dict[str, NDArray[Any]] = {
        "features": np.asarray(parts[0].features, dtype=np.float32),
        "logits": np.asarray(parts[0].logits, dtype=np.float32),
        "truth": np.asarray(parts[0].truth, dtype=np.int64),
    }
    return replace(guard, context=replace(guard.context, notes=notes)), reference


def choose_rule(
    name: str,
    space: ConceptSpace,
    fitting: Observation,
    choosing: Observation,
    views: tuple[str, ...] = (),
    looks: Views | None = None,
) -> ConceptRule | WithSoftmax:
    """The rule of that name, fitted; ``auto``: the combination of highest AUROC on ``choosing``.

    Combinations read ``looks`` as well, which are ``views`` of the images chosen on.
    """
    names = [each for each in CHOICES if each.startswith("msp+")] if name == AUTO else [name]
    found: list[tuple[float, ConceptRule | WithSoftmax]] = []
    for each in names:
        rule = make_rule(each, space, views)
        rule.fit(fitting.features, fitting.logits, fitting.truth)
        if isinstance(rule, WithSoftmax):
            rule.weigh(choosing.features, choosing.logits, choosing.truth, views=looks)
            scores = rule.score(choosing.features, choosing.logits, looks)
        else:
            scores = rule.score(choosing.features, choosing.logits)
        found.append((metrics(scores, choosing.wrong)["auroc"], rule))
    # Without a wrong answer there is nothing to choose by: the first, which is the default.
    return max(found, key=lambda each: -np.inf if np.isnan(each[0]) else each[0])[1]


def _scored(core: ScoringCore, of: Observation, views: Views | None) -> Float64:
    with torch.inference_mode():
        scores = core(
            torch.from_numpy(np.asarray(of.features, dtype=np.float32)),
            torch.from_numpy(np.asarray(of.logits, dtype=np.float32)),
            views=view_tensors(views),
        )
    return np.asarray(scores.numpy(), dtype=np.float64)


def _notes(guard: Guard, aligned: AffineMap) -> Iterator[str]:
    if aligned.warning_:
        yield aligned.warning_
    found, images = guard.speaker.summaries_, guard.context.parts[0]
    wrong = int(found.wrong_count.sum())
    if not wrong:
        yield (
            f"none of the {images} images fitted on is answered wrongly: reasons tell what is "
            "rare among right answers"
        )
    elif guard.weak_classes:
        yield (
            f"{len(guard.weak_classes)} of {guard.classes} classes had no wrong answer among the "
            f"{images} images fitted on ({wrong} wrong in all): for them, what a wrong answer "
            f"looks like is taken from all classes together: {_named(guard, guard.weak_classes)}"
        )
    if few := np.flatnonzero(found.right_count < FEWEST_RIGHT).tolist():
        yield (
            f"{len(few)} of {guard.classes} classes had fewer than {FEWEST_RIGHT} right answers "
            f"among the {images} images fitted on: what is usual for them is taken mostly from all "
            f"classes together: {_named(guard, few)}"
        )


def _named(guard: Guard, labels: Sequence[int]) -> str:
    return listed([guard.class_name(label) for label in labels])


# --- answers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What a classifier gives for images, in their order.

    Attributes:
        features: (n, f); NaN where the image could not be read.
        logits: (n, C); likewise.
        views: of the same images, likewise; None where none were asked for.
        problems: by row, why an image could not be read.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    views: Views | None
    problems: Mapping[int, str]

    @property
    def fine(self) -> BoolArray:
        """(n,) whether all numbers are finite."""
        fine: BoolArray = sound(self.features, self.logits)
        return fine if self.views is None else fine & self.views.fine

    @property
    def predicted(self) -> IntArray:
        """(n,) class of the highest logit."""
        predicted: IntArray = self.logits.argmax(axis=1)
        return predicted


def answers_of(
    classifier: Classifier,
    probe: ProbeSet,
    indices: Sequence[int],
    *,
    batch: int = BATCH,
    views: Sequence[str] = (),
    attack: Attack | None = None,
    truth: IntArray | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[Sequence[int], Answers]]:
    """Answers to the images at ``indices``, a batch at a time, with their indices.

    Args:
        classifier: answers.
        probe: the images.
        indices: which of them.
        batch: at a time.
        views: further views of each image, of :data:`profiler.models.views.VIEWS`.
        attack: leads the classifier away from ``truth`` first.
        truth: true class by index.
        advance: told how many are done.
    """
    scale = PixelScale.measure(classifier.preprocess, classifier.name) if attack else None
    model = classifier.logits()
    for lo in range(0, len(indices), batch):
        rows = list(indices[lo : lo + batch])
        size = len(rows), 1 + len(views)
        features = np.full((*size, classifier.features), np.nan, dtype=np.float32)
        logits = np.full((*size, classifier.outputs), np.nan, dtype=np.float32)
        good, tensors, problems = [], [], {}
        for place, index in enumerate(rows):
            try:
                tensors.append(classifier.preprocess(probe.read(index)))
                good.append(place)
            except UnreadableImageError as error:
                problems[place] = str(error)
        if good:
            images = torch.stack(tensors).to(classifier.device)
            if attack is not None and scale is not None and truth is not None:
                chosen = [rows[place] for place in good]
                labels = torch.from_numpy(np.asarray(truth)[chosen])
                images = attack(model, images, labels, scale, chosen)
            for place, seen in enumerate((images, *(VIEWS[name](images) for name in views))):
                halves = classifier.run(seen)
                features[good, place] = halves.features.cpu().numpy()
                logits[good, place] = halves.logits.cpu().numpy()
        advance(len(rows))
        looks = Views(features[:, 1:], logits[:, 1:]) if views else None
        yield rows, Answers(features[:, 0], logits[:, 0], looks, problems)


def with_views(
    classifier: Classifier,
    data: LabelledImages,
    seen: Observation,
    options: GuardOptions,
    services: Services,
) -> tuple[Observation, Views]:
    """The same images and the views of them that the options name, read in the same way.

    What the classifier gives for an image itself is replaced by what it gives in full precision
    now, as it does at run time: beside numbers of another precision, or from another batch, a view
    would seem to change what it does not.
    """
    features, logits, views = [], [], []
    indices, batch = seen.kept.tolist(), options.batch_size or BATCH
    with services.progress.stage("views", len(indices)) as advance:
        for rows, answers in answers_of(
            classifier, data, indices, batch=batch, views=options.views, advance=advance
        ):
            if answers.views is None or not answers.fine.all():
                place = int(np.flatnonzero(~answers.fine)[0])
                raise InputError(
                    answers.problems.get(
                        place,
                        f"{data.names[rows[place]]}: for this image or a view of it "
                        f"({', '.join(options.views)}) {classifier.name} gives NaN or infinite "
                        "numbers; a guard learns from what a network can answer",
                    )
                )
            features.append(answers.features)
            logits.append(answers.logits)
            views.append(answers.views)
    again = replace(seen, features=np.concatenate(features), logits=np.concatenate(logits))
    return again, Views.together(views)


def check_subject(guard: Guard, classifier: Classifier) -> str:
    """Raise :class:`ContextError` unless the guard was made for this network as it is.

    A network out of a user's file may have other code by now. If its weights are the same, and so
    is what it computes for fixed pictures, that is said in the sentence that is returned.
    """
    made = guard.context
    if classifier.fingerprint == made.fingerprint:
        return ""
    digest = weights_digest(classifier.subject.model)
    if digest != made.digest:
        raise ContextError(
            f"this guard was made for {made.subject} ({made.weights}), weights "
            f"{made.digest[:12]}…; {classifier.name} ({classifier.subject.weights}) has weights "
            f"{digest[:12]}…: fit a guard for this network"
        )
    if classifier.head != made.head:
        raise ContextError(
            f"the weights are those the guard was made for, but the head is {classifier.head!r}, "
            f"not {made.head!r}; see --head"
        )
    # Two hashes, of preprocessing and network; the second may be unknown.
    known = len(made.behaviour.split()) == 2
    if known and classifier.subject.from_file and classifier.subject.behaviour == made.behaviour:
        return (
            f"the code of {classifier.name} has changed since the guard was made, though not its "
            "weights, nor what it computes for two pictures tried: fit the guard anew if the "
            "change matters for others"
        )
    raise ContextError(
        "the weights are those the guard was made for, but the preprocessing, or what the network "
        "computes with them, is not: see --preprocess, or fit a guard for this network"
    )


def check_classes(guard: Guard, names: ClassNames) -> None:
    """Raise :class:`ContextError` if outputs are called otherwise than when the guard was made."""
    if not guard.context.classes:
        return
    known = ClassNames.of_list(guard.context.classes, "the guard").with_imagenet(synonyms=True)
    if len(known) != len(names):
        raise ContextError(
            f"the guard was made for {len(known)} classes; {names.source} names {len(names)}"
        )
    other = [
        f"output {place} is {mine!r} in the guard and {names.names[place]!r} in {names.source}"
        for place, mine in enumerate(known.names)
        if not (
            (known.synsets[place] and known.synsets[place] == names.synsets[place])
            or {*map(fold, known.synonyms[place])} & {*map(fold, names.synonyms[place])}
        )
    ]
    if other:
        raise ContextError(
            f"{listed(other, quote=False)}: numbers would be told of other classes than meant; "
            "leave --classes out, and the guard's own names are taken, or fit a guard with these"
        )


def open_guard_data(
    guard: Guard, path: Path, classes: Path | None = None, limit: int | None = None
) -> LabelledImages:
    """Labelled images for a guard, whose own names count where no file gives them.

    Args:
        guard: knows what its outputs are called.
        path: see :func:`profiler.data.labelled.find_labelled`.
        classes: see :func:`profiler.data.labelled.open_classes`.
        limit: keep that many images, evenly spread.

    Raises:
        ContextError: the file calls outputs otherwise than the guard does.
    """
    own = guard.context.classes
    if guard.classes in IMAGENETS and ClassNames.of_outputs(guard.classes).names == own:
        own = ()  # ImageNet's synonyms and synsets as well, then
    names, mapping = open_classes(classes, guard.classes, own)
    check_classes(guard, names)
    return open_labelled(path, names, mapping, limit=limit)


# --- score -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """What the guard says of one image.

    Attributes:
        name: of the file.
        predicted: class, by number; -1 where the image could not be read.
        prediction: its name.
        score: the higher the stranger; infinite where it cannot be judged.
        flagged: whether not to trust the answer.
        reasons: the relations that speak most against it, in words.
        problem: why it cannot be judged; empty where it can.
        views: view → what the network calls it, for a guard made with views.
    """

    name: str
    predicted: int
    prediction: str
    score: float
    flagged: bool
    reasons: tuple[str, ...]
    problem: str = ""
    views: Mapping[str, str] = field(default_factory=dict)


def score_images(
    guard: Guard,
    classifier: Classifier,
    probe: ProbeSet,
    *,
    batch: int = BATCH,
    on_look: Callable[[Look], object] | None = None,
    window: int | None = None,
    services: Services = NONE,
) -> Iterator[Scored]:
    """Judge images one after the other, in their order.

    Args:
        guard: judges.
        classifier: answers; the one the guard was made for.
        probe: the images.
        batch: at a time.
        on_look: told of each look at the stream of what passes; None does not watch.
        window: images that pass between two looks; None: the usual number.
        services: shows progress.
    """
    for said in filter(None, (check_subject(guard, classifier), guard.remark)):
        log.warning("warning: %s", said)
    try_first(classifier, classifier.readings, probe, batch_size=batch)
    watch = None
    if on_look is not None:
        watch = guard.watch(**({} if window is None else {"window": window}))
        if watch.blind:
            log.warning(
                "warning: a window of %d images that pass cannot be told from the %d of the "
                "reference beyond chance, whatever it shows: take a larger --window, or fit the "
                "guard on more images",
                watch.window,
                watch.reference.count,
            )
    core = guard.core()
    names = probe.names
    with services.progress.stage("images", len(names)) as advance:
        for rows, answers in answers_of(
            classifier,
            probe,
            range(len(names)),
            batch=batch,
            views=guard.views,
            advance=advance,
        ):
            with torch.inference_mode():
                verdict = core.verdict(
                    torch.from_numpy(answers.features),
                    torch.from_numpy(answers.logits),
                    views=view_tensors(answers.views),
                )
            flagged, scores = verdict.flagged.numpy(), verdict.score.numpy()
            told = guard.reasons(answers.features, answers.predicted)
            passed, fine = ~flagged, answers.fine
            for place, index in enumerate(rows):
                problem = answers.problems.get(place, "")
                if not problem and not fine[place]:
                    problem = "the network gives NaN or infinite numbers"
                label = -1 if problem else int(answers.predicted[place])
                yield Scored(
                    names[index],
                    label,
                    "" if problem else guard.class_name(label),
                    float(scores[place]),
                    bool(flagged[place]),
                    () if problem else tuple(guard.tell(each, label) for each in told[place]),
                    problem,
                    {} if problem else _called(guard, answers.views, place),
                )
            if watch is not None and on_look is not None and passed.any():
                levels = guard.levels(answers.features[passed])
                for look in watch.add(levels, answers.predicted[passed]):
                    on_look(look)
    if watch is not None and on_look is not None:
        last = watch.finish()
        if last is not None:
            on_look(last)


def _called(guard: Guard, views: Views | None, row: int) -> dict[str, str]:
    """View → what the network calls it."""
    if views is None:
        return {}
    labels = views.logits[row].argmax(axis=1).tolist()
    return {name: guard.class_name(label) for name, label in zip(guard.views, labels, strict=True)}


# --- assess ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class AssessOptions:
    """How a guard is assessed."""

    attacks: tuple[Attack, ...] = ()
    corruptions: tuple[Corruption, ...] = ()
    draws: int = DRAWS
    seed: int = 0
    batch: int = BATCH
    command: str = ""
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())
    max_report_mb: float = 20.0


@dataclass(frozen=True)
class _Judged:
    """Images under one condition: rows of the data, their answers and their scores."""

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
    out: Path,
    options: AssessOptions | None = None,
    services: Services = NONE,
) -> Assessment:
    """Say what a guard is worth on held-out labelled images; write it to ``out``.

    Args:
        guard: to be assessed.
        classifier: the one it was made for.
        data: images that neither classifier nor guard was made from. Those the guard was made from
            are left out.
        reference: answers of the part the guard was fitted on, for baselines that need fitting;
            None leaves these out.
        out: folder for ``guard.json`` and ``guard.html``.
        options: what is done to the images, and how numbers are drawn.
        services: shows progress.
    """
    options = options or AssessOptions()
    changed = check_subject(guard, classifier)
    check_classes(guard, data.classes)
    check_writable(out)
    used = set(guard.seen.tolist())
    fresh = [
        index
        for index in range(len(data.names))
        if digest_number(bytes.fromhex(digest_of(data, index))) not in used
    ]
    known = len(data.names) - len(fresh)
    if not fresh:
        raise InputError(
            f"all {known} images of {data.title} are among those the guard was made from; it can "
            "only be assessed on others"
        )
    detectors = _detectors(guard, reference)
    try_first(classifier, classifier.readings, data, batch_size=options.batch)

    def judged(title: str, probe: ProbeSet, attack: Attack | None = None) -> _Judged:
        with services.progress.stage(title, len(fresh)) as advance:
            return _judge(
                guard, classifier, probe, fresh, data.truth, detectors, attack, options, advance
            )

    clean = judged("images", data)
    if not len(clean.rows):
        raise InputError(f"none of the {len(fresh)} images of {data.title} can be read")
    if clean.wrong.all() or not clean.wrong.any():
        answered = "wrong" if clean.wrong.all() else "right"
        raise InputError(
            f"all {len(clean.rows)} held-out images are answered {answered}ly: how well wrong "
            "answers are told from right ones cannot be measured; give more images"
        )
    cut = guard.threshold.value
    conditions = [_condition("as they are", "clean", clean, clean, guard, options)]
    for attack in options.attacks:
        found = judged(attack.text, data, attack)
        conditions.append(
            replace(
                _condition(attack.text, "attack", clean, found, guard, options),
                method=attack.method.upper(),
                eps=attack.eps,
            )
        )
    for corruption in options.corruptions:
        found = judged(str(corruption), corrupted(data, corruption, options.seed))
        named = _condition(str(corruption), "corruption", clean, found, guard, options)
        conditions.append(replace(named, method=corruption.name))
    draws = Draws.of(clean.rows, options.draws, options.seed)
    rule = guard.rule.name
    own = clean.scores[rule]
    rules, others = _names(guard, clean.scores)
    wrong = clean.wrong

    def examples(rows: BoolArray, order: Float64) -> tuple[Example, ...]:
        few = np.flatnonzero(rows)
        few = few[np.argsort(order[few], kind="stable")][:_SHOWN_EXAMPLES]
        told = guard.reasons(clean.features[few], clean.predicted[few], SHOWN)
        return tuple(
            Example(
                int(clean.rows[row]),
                data.names[int(clean.rows[row])],
                guard.class_name(int(data.truth[clean.rows[row]])),
                guard.class_name(int(clean.predicted[row])),
                float(own[row]),
                tuple(guard.tell(each, int(clean.predicted[row])) for each in reasons),
                _called(guard, clean.views, row),
            )
            for row, reasons in zip(few.tolist(), told, strict=True)
        )

    shown = (rule, *others)
    assessment = Assessment(
        context=guard.context,
        rule=rule,
        views=guard.views,
        threshold=guard.threshold,
        data=data.title,
        data_fingerprint=data.fingerprint,
        known=known,
        unread=len(fresh) - len(clean.rows),
        baselines=others,
        rules=rules,
        conditions=tuple(conditions),
        roc={name: roc(clean.scores[name], wrong, draws) for name in shown},
        risk={name: risk_coverage(clean.scores[name], wrong, draws) for name in shown},
        right_scores=own[~wrong],
        wrong_scores=own[wrong],
        coverage={name: _accuracies(clean.scores[name], wrong) for name in shown},
        at_risk={name: coverage_at(clean.scores[name], wrong, _AT_RISK) for name in shown},
        flagged=examples(wrong & above(own, cut), -own),
        missed=examples(wrong & ~above(own, cut), own),
        alarms=examples(~wrong & above(own, cut), -own),
        weak_classes=tuple(guard.class_name(label) for label in guard.weak_classes),
        draws=options.draws,
        seed=options.seed,
        command=options.command,
        date=options.date,
        versions=versions(),
        warnings=tuple(
            filter(
                None,
                (
                    changed,
                    *_warnings(guard, known, len(fresh) - len(clean.rows), reference),
                    *data.remarks(),
                ),
            )
        ),
    )
    for warning in assessment.warnings:
        log.warning("warning: %s", warning)
    _write(assessment, data, out, options)
    return assessment


def _write(found: Assessment, data: LabelledImages, out: Path, options: AssessOptions) -> None:
    wanted = sorted({each.index for each in (*found.flagged, *found.missed, *found.alarms)})
    pictures = dict(zip(wanted, thumbnails(data, wanted), strict=True))
    write_atomically(out / "guard.json", guard_json(found))
    page = guard_page(found, pictures)
    write_atomically(out / "guard.html", render_guard(page, max_mb=options.max_report_mb))


def _detectors(guard: Guard, reference: Path | None) -> dict[str, Detector]:
    """Baselines, and the guard's concept rule alone, by name; those that can be had."""
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
                f"{str(reference)!r} holds the answers of another network than the guard beside it "
                "was made for; put it back, or take it away and go without Mahalanobis and KNN"
            )
    for each in baselines():
        if isinstance(each, Mahalanobis | Neighbours):
            if arrays is None:
                continue
            each.fit(arrays["features"], arrays["logits"], arrays["truth"])
        found[each.name] = each
    return found


def _names(guard: Guard, scores: Mapping[str, Float64]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The rules, the guard's own first, and the baselines."""
    known = {each.name for each in baselines()}
    rules = (guard.rule.name, *(n for n in scores if n not in known and n != guard.rule.name))
    return rules, tuple(name for name in scores if name in known)


def _judge(
    guard: Guard,
    classifier: Classifier,
    probe: ProbeSet,
    indices: Sequence[int],
    truth: IntArray,
    detectors: Mapping[str, Detector],
    attack: Attack | None,
    options: AssessOptions,
    advance: Callable[[int], object],
) -> _Judged:
    rows, features, logits, looks = [], [], [], []
    for chosen, answers in answers_of(
        classifier,
        probe,
        indices,
        batch=options.batch,
        views=guard.views,
        attack=attack,
        truth=truth,
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
    core = guard.core()
    with torch.inference_mode():
        scored = core(torch.from_numpy(z), torch.from_numpy(y), views=view_tensors(views))
    own = scored.numpy().astype(np.float64)
    scores = {guard.rule.name: own}
    scores |= {name: each.score(z, y) for name, each in detectors.items()}
    at = np.array(rows, dtype=np.int64)
    predicted = y.argmax(axis=1)
    return _Judged(at, predicted != np.asarray(truth)[at], predicted, z, views, scores)


def _condition(
    title: str,
    kind: str,
    clean: _Judged,
    changed: _Judged,
    guard: Guard,
    options: AssessOptions,
) -> Condition:
    """Defects of one kind beside right answers on images as they are."""
    right = ~clean.wrong
    defect = np.r_[np.zeros(right.sum(), bool), np.ones(changed.wrong.sum(), bool)]
    rows = np.r_[clean.rows[right], changed.rows[changed.wrong]]
    scores = {
        name: np.r_[clean.scores[name][right], changed.scores[name][changed.wrong]]
        for name in clean.scores
    }
    # An image and what was made of it are drawn together.
    draws = Draws.of(rows, options.draws, options.seed)
    own, cut = guard.rule.name, guard.threshold.value
    _, others = _names(guard, scores)
    found = Compared.of(scores, defect, draws)
    best = {metric: found.best(others, metric) for metric in METRICS}
    return Condition(
        title=title,
        kind=kind,
        method="",
        eps=float("nan"),
        images=len(changed.rows),
        accuracy=float(np.mean(~changed.wrong)),
        defects=int(changed.wrong.sum()),
        right=int(right.sum()),
        flagged_defects=int(np.sum(above(changed.scores[own][changed.wrong], cut))),
        flagged_right=int(np.sum(above(clean.scores[own][right], cut))),
        metrics={name: found.intervals(name) for name in scores},
        lead={metric: found.lead(own, best[metric], metric) for metric in METRICS},
        best=best,
    )


def _accuracies(scores: Float64, wrong: BoolArray) -> tuple[tuple[float, int, int], ...]:
    """At each of :data:`COVERAGES`: accuracy, right answers and images that pass."""
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
        yield f"{known} image(s) were left out, because the guard was made from them"
    if unread:
        yield f"{unread} image(s) could not be read and were left out"
    if reference is None:
        yield (
            f"{REFERENCE!r} was not found beside the guard, so Mahalanobis and KNN could not be "
            "fitted on the same images"
        )


def digest_of(data: LabelledImages, index: int) -> str:
    """SHA-256 of an image's file."""
    path = data.images.folder / data.images.files[index]
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        # What cannot be read is left out later; until then its name will do.
        return hashlib.sha256(str(path).encode()).hexdigest()
