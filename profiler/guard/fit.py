"""The story of fitting a guard.

The images that ``fit`` is given are split into three disjoint parts, by content. The linear
alignment and the detection methods are fitted on the first. The method is chosen on the second,
which also shows how rare a score is among correct predictions. Thresholds are set on the third.
``assess`` uses other images, and leaves out those that the guard was fitted on.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from profiler.activations.kept import Engine
from profiler.activations.observe import Observation, caption_rows, check_numbering, examine
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.arrays import Float64, FloatArray
from profiler.core.store import write_atomically
from profiler.core.text import listed
from profiler.data.concept_sets import ConceptSet
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import LabelledImages, open_labelled
from profiler.data.labelled.memory import LabelledSequence
from profiler.data.labelled.names import IMAGENETS, ClassNames
from profiler.errors import InputError, UnknownNameError
from profiler.guard.answers import BATCH, REFERENCE, answers_of, check_classes
from profiler.guard.guard import FILE, Context, Guard, HeldOutScores, digest_number, trial_batch
from profiler.guard.metrics import metrics
from profiler.guard.parts import split_by_content
from profiler.guard.rules.base import ConceptRule, Views
from profiler.guard.rules.combined import CHOICES, DEFAULT, WithSoftmax, check_reads, make_rule
from profiler.guard.rules.comparisons import Comparisons, LikelihoodRule, Summaries
from profiler.guard.runtime import ScoringCore, view_tensors
from profiler.guard.thresholds import CONFIDENCE, AlarmThreshold
from profiler.models.classifier import Classifier
from profiler.models.subject.network import computed, weights_digest
from profiler.models.subject.preprocessing import trial_image
from profiler.models.views import check_views
from profiler.models.vlm.base import VLM
from profiler.session import NONE, Provenance, Reading, Services, check_writable, versions

log = logging.getLogger("profiler")
PARTS = (0.5, 0.25, 0.25)
"""Shares of the images that methods are fitted on, chosen on, and thresholds set on."""
AUTO = "auto"
"""The combination of highest AUROC on the part to choose on."""
FEWEST_RIGHT = 3
"""A class with fewer correct predictions is named in a warning."""

_NO_CUT = AlarmThreshold(float("inf"), "share", 0.0, 0, 0.0, 0.0)


@dataclass(frozen=True)
class GuardOptions:
    """Settings of a guard."""

    rule: str = DEFAULT
    views: tuple[str, ...] = ()
    target: str = "false-alarms"
    level: float = 0.05
    confidence: float = CONFIDENCE
    trust_labels: bool = False
    seed: int = 0
    reading: Reading = field(default_factory=Reading)
    provenance: Provenance = field(default_factory=Provenance)
    engine: Engine | None = None
    """Where the shards of a pass are made; None: in this process."""


# --- fit -------------------------------------------------------------------------------------


def fit_guard(
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    concepts: ConceptSet,
    out: Path | None,
    options: GuardOptions | None = None,
    services: Services = NONE,
) -> Guard:
    """Fit a guard on labelled images that the classifier was not trained on.

    Some detection methods also need misclassified images among them.

    Args:
        classifier: whose predictions are guarded.
        vlm: gives the embeddings of images and concepts.
        data: labelled images.
        concepts: that are compared.
        out: folder for the guard's files; None: nothing is written.
        options: settings.
        services: store and progress.

    Raises:
        InputError: too few images, or none of a kind that the method needs.
        UnknownNameError: there is no such method or augmented view.
    """
    options = options or GuardOptions()
    check_rule(options.rule, options.views)
    if out is not None:
        check_writable(out)
    seen = examine(classifier, vlm, data, options.reading, services, engine=options.engine)
    views = None
    if options.views:
        seen, views = with_views(classifier, data, seen, options, services)
    numbering = check_numbering(
        seen,
        classifier.outputs,
        trust_labels=options.trust_labels,
        assumed=bool(data.classes.assumed),
    )
    digests = [data.images.digest(int(index)) for index in seen.kept]
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
        command=options.provenance.command,
        date=options.provenance.date,
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
    if out is not None:
        write_atomically(out / REFERENCE, save(reference, {"guard": context.fingerprint}))
        guard.save(out / FILE)
    return guard


def _read_in(options: GuardOptions) -> str:
    precision = options.reading.precision
    if precision == "fp32" or options.views:
        return ""
    return (
        f"the guard was fitted in {precision}, but is used in full precision: the guarantee of its "
        "threshold holds only as far as both give the same scores"
    )


def check_rule(name: str, views: Sequence[str] = ()) -> None:
    """Raise unless the method and the augmented views exist, and the method can use them."""
    if name not in (AUTO, *CHOICES):
        raise UnknownNameError("detection method", name, (AUTO, *CHOICES))
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
    """The guard, and the outputs for the part it was fitted on.

    Args:
        seen: the images.
        digests: of their files.
        words: the concepts.
        captions: (M, T, e) of them.
        head: weights and bias of the classifier's last layer.
        context: what the guard belongs to.
        options: settings.
        views: augmented views of the same images, if the options name any.
    """
    split = split_by_content(digests, PARTS, options.seed)
    parts = [seen.take(rows) for rows in split]
    looks = [None if views is None else views.take(rows) for rows in split]
    aligned = AffineMap(seed=options.seed).fit(parts[0].features, parts[0].embeddings)
    space = ConceptSpace.of(words, captions, aligned)
    rule = choose_rule(options.rule, space, parts[0], parts[1], options.views, looks[1])
    speaker = rule.plain
    if not isinstance(speaker, Comparisons):
        speaker = LikelihoodRule(space)
        levels = speaker.levels(parts[0].features)
        # The method has been fitted: if it needs incorrect predictions, there are some.
        speaker.fit_on(
            Summaries.of(levels, parts[0].truth, parts[0].predicted, len(head[0]), need_wrong=False)
        )
    empty = np.zeros(0)
    held = speaker.levels(parts[2].features).astype(np.float32)
    cut = HeldOutScores(empty, empty.astype(bool), empty, held, parts[2].predicted)
    guard = Guard(
        space,
        aligned,
        rule,
        speaker,
        head,
        cut,
        _NO_CUT,
        replace(context, parts=tuple(map(len, parts)), r2=aligned.r2_),  # type: ignore[arg-type]
        np.array([digest_number(bytes.fromhex(digest)) for digest in digests], dtype=np.int64),
    )
    # By the core itself, so that the threshold is set on the deployed scores, to the last bit.
    scores, candidates = (_scored(guard.core(), parts[k], looks[k]) for k in (2, 1))
    filled = replace(cut, scores=scores, wrong=parts[2].wrong, candidates=candidates)
    guard = replace(guard, calibration=filled).at(options.target, options.level, options.confidence)
    notes = (*context.notes, *_notes(guard, aligned))
    reference: dict[str, NDArray[Any]] = {
        "features": np.ascontiguousarray(parts[0].features, dtype=np.float32),
        "logits": np.ascontiguousarray(parts[0].logits, dtype=np.float32),
        "truth": np.ascontiguousarray(parts[0].truth, dtype=np.int64),
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
    """The method of that name, fitted; ``auto``: the combination of highest AUROC on ``choosing``.

    Combinations read ``looks`` as well, which are augmented views of the images chosen on.
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
        found.append((metrics(scores, choosing.wrong).auroc, rule))
    # Without an incorrect prediction AUROC is undefined: then the first, which is the default.
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
            f"none of the {images} images fitted on is misclassified, so reasons only show what is "
            "rare among correct predictions"
        )
    elif guard.weak_classes:
        yield (
            f"{len(guard.weak_classes)} of {guard.classes} classes have no incorrect prediction "
            f"among the {images} images fitted on ({wrong} incorrect in all), so their summary of "
            "incorrect predictions is that of all classes together: "
            f"{_named(guard, guard.weak_classes)}"
        )
    if few := np.flatnonzero(found.right_count < FEWEST_RIGHT).tolist():
        yield (
            f"{len(few)} of {guard.classes} classes have fewer than {FEWEST_RIGHT} correct "
            f"predictions among the {images} images fitted on, so their summary of correct "
            f"predictions is mostly that of all classes together: {_named(guard, few)}"
        )


def _named(guard: Guard, labels: Sequence[int]) -> str:
    return listed([guard.class_name(label) for label in labels])


# --- images ----------------------------------------------------------------------------------


def open_guard_data(
    guard: Guard,
    source: Path | LabelledSequence,
    classes: Path | Sequence[str] | None = None,
    limit: int | None = None,
) -> LabelledImages:
    """Labelled images for a guard; without a file of classes, the guard's own names are used.

    Args:
        guard: with the names of its outputs.
        source: see :func:`profiler.data.labelled.images.open_labelled`.
        classes: see :func:`profiler.data.labelled.files.open_classes`.
        limit: keep that many images, evenly spread.

    Raises:
        ContextError: the file has other names for the outputs than the guard.
    """
    own = guard.context.classes
    if guard.classes in IMAGENETS and ClassNames.of_outputs(guard.classes).names == own:
        own = ()  # ImageNet's synonyms and synsets as well, then
    names, mapping = open_classes(classes, guard.classes, own)
    check_classes(guard, names)
    return open_labelled(source, names, mapping, limit=limit)


def with_views(
    classifier: Classifier,
    data: LabelledImages,
    seen: Observation,
    options: GuardOptions,
    services: Services,
) -> tuple[Observation, Views]:
    """The same images and their augmented views, in the same precision.

    The outputs for the image itself are computed again in full precision, as at run time. With
    outputs of another precision or from another batch, a view would seem to change the prediction.
    """
    features, logits, views = [], [], []
    indices, batch = seen.kept.tolist(), options.reading.batch_size or BATCH
    with services.progress.stage("augmented views", len(indices)) as advance:
        for rows, answers in answers_of(
            classifier, data, indices, batch=batch, views=options.views, advance=advance
        ):
            if answers.views is None or not answers.fine.all():
                place = int(np.flatnonzero(~answers.fine)[0])
                raise InputError(
                    answers.problems.get(
                        place,
                        f"{data.names[rows[place]]}: for this image or an augmented view of it "
                        f"({', '.join(options.views)}) {classifier.name} gives NaN or infinite "
                        "numbers, which a guard cannot be fitted on",
                    )
                )
            features.append(answers.features)
            logits.append(answers.logits)
            views.append(answers.views)
    again = replace(seen, features=np.concatenate(features), logits=np.concatenate(logits))
    return again, Views.together(views)
