"""The story of a guard: fitted on one part of the images, chosen and set on others, assessed apart.

Three disjoint parts of the images that ``fit`` is given, by content: the map and the rules are
fitted on the first, the rule is chosen on the second (which also says how rare a score is among
right answers), and thresholds are set on the third. ``assess`` gets images of its own and leaves
out those among them that the guard was made from.
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
"""Shares of the images that rules are fitted on, chosen on, and thresholds set on."""
AUTO = "auto"
"""The combination that tells wrong answers best on the part to choose on."""
FEWEST_RIGHT = 3
"""Right answers of a class below which it is named, as one that says little of itself."""

_NO_CUT = AlarmThreshold(float("inf"), "share", 0.0, 0, 0.0, 0.0)


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
    reading: Reading = field(default_factory=Reading)
    provenance: Provenance = field(default_factory=Provenance)


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
    """Make a guard from labelled images that the classifier was not trained on.

    It is written to ``out``, if any.

    The classifier has to be wrong now and then on them, or there is nothing to learn from.
    """
    options = options or GuardOptions()
    check_rule(options.rule, options.views)
    if out is not None:
        check_writable(out)
    seen = examine(classifier, vlm, data, options.reading, services)
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
        f"the images were read in {precision}, but a guard is used in full precision: what "
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
    speaker = rule.plain
    if not isinstance(speaker, Comparisons):
        speaker = LikelihoodRule(space)
        levels = speaker.levels(parts[0].features)
        # The rule has been fitted: if it needed wrong answers, there were some.
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
        found.append((metrics(scores, choosing.wrong).auroc, rule))
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


def open_guard_data(
    guard: Guard,
    source: Path | LabelledSequence,
    classes: Path | Sequence[str] | None = None,
    limit: int | None = None,
) -> LabelledImages:
    """Labelled images for a guard, whose own names count where no file gives them.

    Args:
        guard: knows what its outputs are called.
        source: see :func:`profiler.data.labelled.images.open_labelled`.
        classes: see :func:`profiler.data.labelled.files.open_classes`.
        limit: keep that many images, evenly spread.

    Raises:
        ContextError: the file calls outputs otherwise than the guard does.
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
    """The same images and the views of them that the options name, read in the same way.

    What the classifier gives for an image itself is replaced by what it gives in full precision
    now, as it does at run time: beside numbers of another precision, or from another batch, a view
    would seem to change what it does not.
    """
    features, logits, views = [], [], []
    indices, batch = seen.kept.tolist(), options.reading.batch_size or BATCH
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
