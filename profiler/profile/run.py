"""The stories, told in straight lines: each function is one command from question to files."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from profiler.activations.collect import Collected, Known, Network, thumbnails
from profiler.activations.kept import Engine, collect_once
from profiler.activations.maps import AT_A_TIME, SHARE, read_maps
from profiler.activations.moments import by_layer
from profiler.activations.top_lists import LayerTops
from profiler.core.arrays import FloatArray, IntArray
from profiler.data.annotations import known_categories
from profiler.data.concept_sets import COMMON_WORDS, ConceptSet, open_concepts
from profiler.data.images import ProbeSet
from profiler.data.records import ConceptRecord, ExperimentRecord, ProbeRecord
from profiler.data.synthetic.design import FACTORS, VERSION, ExperimentScenes
from profiler.errors import InputError, UsageError
from profiler.llm.base import LLM
from profiler.llm.narrate import narrate_in_any_case
from profiler.models.compiled import compiled
from profiler.models.records import LayerRecord, SubjectRecord, VLMRecord
from profiler.models.subject.network import Layer, Subject
from profiler.models.vlm.annotated import AnnotatedVLM
from profiler.models.vlm.base import VLM, TextEncoder, embed_captions, embed_concepts, for_words
from profiler.profile.confirm import FEWEST_TESTED, confirm, halves, list_length
from profiler.profile.drivers import LayerDrivers, check_enough, followed_of
from profiler.profile.evaluation import (
    DRAWS,
    HELD_OUT_SHARE,
    Sample,
    check_images,
    evaluate,
    sample_top,
)
from profiler.profile.experiment import drawn_once, run_experiment, run_variants
from profiler.profile.explain import (
    FEWEST_IMAGES,
    Candidates,
    LayerRange,
    explain_layers,
    known_mean,
    visual_words,
)
from profiler.profile.facts import ProfileFacts
from profiler.profile.importing import Imported, read_descriptions
from profiler.profile.labels import DEFAULT_SIMILARITY, LayerLabels, label_layers, list_warnings
from profiler.profile.outlines import OUTLINED, Outlines
from profiler.profile.quality import POSITIVE_SHARE, LayerQuality
from profiler.profile.result import (
    SHOWN_IMAGES,
    UNCUT,
    EvaluationRecord,
    OutlineRecord,
    ProfileRun,
    Record,
    Resorting,
    SimilarityRecord,
)
from profiler.profile.similarity.base import Similarity
from profiler.profile.sorting.categories import DEFAULT, Category
from profiler.profile.sorting.exemplar import ExemplarSorter
from profiler.profile.sorting.sorting import Sorting, categorize
from profiler.profile.threshold import (
    Threshold,
    are_tested,
    confirmed_threshold,
    in_context,
    null_threshold,
)
from profiler.profile.variants import Variants
from profiler.profile.view import render_pages, render_profile
from profiler.profile.word_map import WordMap
from profiler.session import (
    NONE,
    Clock,
    Progress,
    Provenance,
    Reading,
    Services,
    check_writable,
    versions,
)

log = logging.getLogger("profiler")

OUTLINE_PASSES = 500
FDR = 0.05
"""False-discovery rate of the threshold from the null distribution."""


@dataclass(frozen=True)
class ProfileOptions:
    """How a profile is made, beyond what it is made of."""

    layers: Sequence[str] = ("all",)
    pool: str = "auto"
    """How one number is made of many positions; see :data:`.RULES`."""
    similarity: Similarity = DEFAULT_SIMILARITY
    top: int | None = None
    """Images in a unit's top list; None chooses by the size of the probe set."""
    threshold: float | Threshold | Literal["null"] | None = None
    """Given τ, or one calibrated in the same context, or ``null`` for the null distribution, which
    an imported run does not have. None trusts labels that are confirmed on images they were not
    chosen on or, where there are too few images for that, goes by the null distribution."""
    range_threshold: float | Threshold | None = None
    """On the r of explanations, given or calibrated in the same context; None: decoys decide."""
    null_draws: int | None = None
    """Size of the null distribution. None: the similarity's where scores are cut, and 0 where
    labels are confirmed on other images."""
    evaluate: bool = False
    """Measure how well labels predict activations on images they were not chosen on, and how
    often they survive when the images are resampled."""
    bootstrap: int = DRAWS
    """Times the images are resampled to evaluate."""
    seed: int = 0
    reading: Reading = field(default_factory=Reading)
    compile: bool = False
    """Run both networks by ``torch.compile``."""
    scenes: int = 1000
    """Drawn scenes of the experiment on what drives each layer; 0 for none."""
    outlines: int | None = None
    """Forward passes to spend on where in images units respond; 0 for none. None: three
    for every four images, and at least :data:`OUTLINE_PASSES`."""
    keep_activations: bool = False
    """Keep every activation in the store, for a comparison unit by unit: 4 bytes each."""
    engine: Engine | None = None
    """Where the image pass is made; None: in this process."""
    categories: tuple[Category, ...] = DEFAULT
    lenient: bool = False
    votes: int = 1
    concurrency: int = 4
    prompts: Path | None = None
    max_report_mb: float = 20.0
    report_dir: bool = False
    """Write a page for each layer, beside a small main page."""
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        for value in (self.threshold, self.range_threshold):
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"a threshold is a finite number, not {value}")
        if self.scenes:
            check_enough(self.scenes, "scenes")


@dataclass(frozen=True)
class _Task:
    """What a profile is made of, and how."""

    subject: Subject
    layers: Sequence[Layer]
    vlm: VLM
    probe: ProbeSet
    concepts: ConceptSet
    top: int | None
    """Images of a top list that count; None where all images do."""
    options: ProfileOptions


def profile(
    subject: Subject,
    vlm: VLM,
    probe: ProbeSet,
    concepts: ConceptSet,
    out: Path | None,
    options: ProfileOptions | None = None,
    services: Services = NONE,
) -> ProfileRun:
    """Label every unit of the wanted layers, sort the labels, and write the run to ``out``, if any.

    Annotations may take the part of the VLM; the concepts are then their attributes.
    """
    options = options or ProfileOptions()
    clock = Clock()
    if out is not None:
        check_writable(out)

    layers = subject.layers(options.layers, options.pool)
    log.info("layers: %s", ", ".join(f"{layer.name} ({layer.units})" for layer in layers))
    log.info("weights of %s: %s", subject.name, subject.weights)
    log.info("preprocessing of %s: %s", subject.name, subject.input_text)
    top = _choose_top(options, len(probe.names))
    if options.evaluate:
        check_images(len(probe.names))
    if options.null_draws == 0 and _null_decides(options, len(probe.names)):
        raise UsageError("--null-draws 0 leaves nothing to set the threshold by; give --threshold")
    if options.range_threshold is not None and len(probe.names) < FEWEST_IMAGES:
        raise UsageError(
            f"--range-threshold has nothing to cut: units are explained from {FEWEST_IMAGES} "
            f"images on, not by {len(probe.names)}"
        )
    task = _Task(subject, layers, vlm, probe, concepts, top, options)
    if any(isinstance(each, Threshold) for each in (options.threshold, options.range_threshold)):
        _check_early(task)

    scenes = ExperimentScenes(options.scenes, options.seed) if options.scenes else None
    # The probe images may be the experiment's own: then one pass serves both.
    shared = (
        scenes is not None
        and isinstance(probe, ExperimentScenes)
        and probe.fingerprint == scenes.fingerprint
    )
    if isinstance(probe, ExperimentScenes):
        with clock("drawing"), services.progress.stage("scenes", len(probe)) as advance:
            probe = drawn_once(
                probe, services.store, workers=options.reading.workers, advance=advance
            )
        task = replace(task, probe=probe)

    networks: AbstractContextManager[tuple[Network[Layer], VLM]] = (
        compiled(subject, layers, vlm) if options.compile else nullcontext((subject, vlm))
    )
    with (
        clock("images"),
        services.progress.stage("images", len(probe.names)) as advance,
        networks as (network, eyes),
    ):
        found = collect_once(
            network,
            layers,
            eyes,
            probe,
            top=top or SHOWN_IMAGES,
            store=services.store,
            matrices=(
                options.similarity.needs_matrix
                or options.evaluate
                or options.keep_activations
                or shared
            ),
            moments=len(probe.names) >= FEWEST_IMAGES,
            # What annotations say of every image; a VLM has to look.
            known=Known(np.arange(len(vlm.rows)), vlm.rows, {})
            if isinstance(vlm, AnnotatedVLM)
            else None,
            precision=options.reading.precision,
            batch_size=options.reading.batch_size,
            workers=options.reading.workers,
            allow_bad=options.reading.allow_bad,
            advance=advance,
            engine=options.engine,
        )
    if top and len(found.kept) < top:
        raise UsageError(
            f"--top {top} needs at least as many readable images, not {len(found.kept)}"
        )
    with clock("concepts"):
        concept_rows = embed_concepts(vlm, concepts.words, services.store)
    with clock("labels"):
        labels = label_layers(
            found.tops,
            found.embeddings,
            concept_rows,
            similarity=options.similarity,
            top=top,
            matrices=found.matrices or None,
            null_draws=_null_draws(options, len(found.kept)),
            seed=options.seed,
        )
        labels = _confirmed(task, labels, found, concept_rows)
    with clock("explanations"):
        ranges = _explain(found, concepts, concept_rows)
        if isinstance(vlm, AnnotatedVLM):
            ranges = tuple(map(_without_cosines, ranges))
    experiment = _experiment(task, scenes, found if shared else None, services)
    with clock("outlines"):
        outlines, outline_record = _outlines(task, found, labels, services.progress)
    quality: tuple[LayerQuality, ...] = ()
    evaluation = None
    if options.evaluate:
        with clock("evaluation"):
            quality, evaluation = _evaluate(task, labels, found, concept_rows, services.progress)
    with clock("thumbnails"):
        pictures = _pictures(task, found, labels, ranges, services.progress)

    record = _record(task, found)
    unsorted = ProfileRun(
        record=replace(
            record,
            evaluation=evaluation,
            experiment=experiment.record,
            outlines=outline_record,
            warnings=(*record.warnings, *experiment.warnings),
        ),
        layers=tuple(labels),
        concepts=concepts.words,
        image_names=tuple(probe.names[i] for i in found.kept),
        thumbnails=pictures,
        threshold=Threshold(np.inf, "given"),
        sorting=Sorting("nobody", {}),
        quality=quality,
        ranges=ranges,
        drivers=experiment.drivers,
        outlines=outlines,
        variants=experiment.variants,
    )
    with clock("words"):
        if not isinstance(vlm, AnnotatedVLM):
            words = np.concatenate(unsorted.unit_words).tolist()
            unsorted = replace(unsorted, word_map=WordMap.of(words, concept_rows))
        texts = vlm.words if isinstance(vlm, AnnotatedVLM) else vlm
        run = judge(unsorted, options, texts, services)
    run = _with_timings(run, {**clock.seconds, **experiment.seconds})
    if out is None:
        _warn(run)
    else:
        write_run(run, out, options.max_report_mb, options.report_dir)
    return run


def recategorize(
    run: ProfileRun,
    folder: Path,
    out: Path,
    options: ProfileOptions,
    texts: TextEncoder,
    services: Services = NONE,
) -> ProfileRun:
    """Sort the labels of the finished run in ``folder`` anew and write the outcome to ``out``.

    No image is touched, and labels and threshold stay as they are. Where ``out`` is ``folder``
    itself, the run there is replaced at the very end, or left alone if anything fails.
    """
    clock, how = Clock(), options.provenance
    check_writable(out)
    record = replace(
        run.record,
        categories=_category_pairs(options),
        resorted=Resorting(how.command, how.date, how.settings),
    )
    with clock("words"):
        run = sort_labels(replace(run, record=record), options, texts, services)
    run = _with_timings(run, {**record.timings, **clock.seconds})
    if out.resolve() == folder.resolve():
        rewrite_run(run, folder, options.max_report_mb, options.report_dir)
    else:
        write_run(run, out, options.max_report_mb, options.report_dir)
    return run


def import_descriptions(
    path: Path,
    out: Path,
    options: ProfileOptions,
    texts: TextEncoder,
    services: Services = NONE,
    *,
    name: str,
) -> ProfileRun:
    """Make a run of the network ``name`` from a table of labels that some other tool wrote."""
    clock = Clock()
    found = read_descriptions(path)
    if options.threshold == "null":
        raise UsageError("--threshold null: an imported file holds no null distribution")
    if options.threshold is not None and not found.scored:
        raise UsageError(f"--threshold has nothing to cut: {path.name} holds no similarity")
    check_writable(out)
    log.info(
        "%d units in %d layer(s), %d different descriptions",
        found.source.rows,
        len(found.layers),
        len(found.concepts),
    )
    unsorted = ProfileRun(
        record=_imported_record(found, name, options),
        layers=found.labels,
        concepts=found.concepts,
        image_names=(),
        thumbnails={},
        threshold=None,
        sorting=Sorting("nobody", {}),
    )
    with clock("words"):
        run = judge(unsorted, options, texts, services)
    run = _with_timings(run, clock.seconds)
    write_run(run, out, options.max_report_mb, options.report_dir)
    return run


def judge(
    run: ProfileRun, options: ProfileOptions, texts: TextEncoder, services: Services = NONE
) -> ProfileRun:
    """Set the threshold, sort the words and write the summary; touches no image."""
    run = replace(
        run, threshold=_threshold(run, options), range_threshold=_range_threshold(run, options)
    )
    return sort_labels(run, options, texts, services)


def sort_labels(
    run: ProfileRun, options: ProfileOptions, texts: TextEncoder, services: Services = NONE
) -> ProfileRun:
    """Sort the words of all units into categories and write the summary."""
    words = words_of(run)
    sorting = sort_words(words, options, texts, services, words_known_to(run.record))
    if words:
        log.info(
            "%s sorted by %s",
            "1 word" if len(words) == 1 else f"{len(words):,} words",
            sorting.sorter,
        )
    else:
        log.info("no unit has a label, so none was sorted into a category")
    run = replace(run, sorting=sorting)
    run = with_summary(run, services.llm, options.prompts)
    if services.llm is not None:
        log.info("%s: %s", services.llm.name, run.usage)
    return run


def write_run(run: ProfileRun, out: Path, max_report_mb: float, report_dir: bool = False) -> None:
    """Write a run and its report; the report first, since it may refuse its size limit."""
    _warn(run)
    run.save(out, _pages(run, max_report_mb, report_dir))


def rewrite_run(
    run: ProfileRun, folder: Path, max_report_mb: float, report_dir: bool = False
) -> None:
    """Replace what follows from threshold and categories in the folder of this very run.

    All of it or, where anything fails, nothing.
    """
    _warn(run)
    run.replace_judgement(folder, _pages(run, max_report_mb, report_dir))


def _pages(run: ProfileRun, max_report_mb: float, report_dir: bool) -> dict[str, str]:
    if not report_dir:
        return {"report.html": render_profile(run, max_mb=max_report_mb)}
    # A language model writes about the whole; a page of a layer has the sentences of the template.
    parts = [with_summary(run.of_layer(i), None, None) for i in range(len(run.layers))]
    return render_pages(run, parts, max_mb=max_report_mb)


def words_of(run: ProfileRun) -> list[str]:
    """The labels of all units, then the leading words of their explanations, each once.

    Also of those below the criterion: the report shows, pale, what they would be called, and
    another threshold needs no new sorting.
    """
    labels = [layer.concept[:, 0] for layer in run.layers]
    leading = [layer.concept[:, 0] for layer in run.ranges]
    found = np.concatenate([*labels, *leading]).tolist()
    return [run.concepts[concept] for concept in dict.fromkeys(found) if concept >= 0]


def words_known_to(record: Record) -> Mapping[str, str]:
    """The categories that a run's concepts bring along."""
    return known_categories(record.concepts.title) if record.concepts else {}


def sort_words(
    words: Sequence[str],
    options: ProfileOptions,
    texts: TextEncoder,
    services: Services,
    known: Mapping[str, str] | None = None,
) -> Sorting:
    """Sort words by the LLM, or where there is none as they are known, or by labelled exemplars."""
    if not words:
        return Sorting("nobody", {})
    llm = services.llm
    if llm is None:
        names = {category.name for category in options.categories}
        if known and known.keys() >= {*words} and names >= {*known.values()}:
            return Sorting(
                "the program that drew the scenes", {word: known[word] for word in words}
            )
        visual = open_concepts("visual")
        exemplars = [
            (word, category)
            for word, category in zip(visual.words, visual.categories, strict=True)
            if category
        ]
        sorter = ExemplarSorter(
            lambda rows: embed_captions(for_words(texts), list(rows), services.store), exemplars
        )
        sorting = sorter.sort(words, options.categories)
        return replace(
            sorting, provenance={**sorting.provenance, "text_encoder": texts.fingerprint}
        )
    with services.progress.stage("categories", len(words) * options.votes) as advance:
        return categorize(
            words,
            options.categories,
            llm,
            prompts_dir=options.prompts,
            votes=options.votes,
            concurrency=options.concurrency,
            lenient=options.lenient,
            seed=options.seed,
            advance=advance,
        )


def with_summary(run: ProfileRun, llm: LLM | None, prompts: Path | None) -> ProfileRun:
    """The run with the finding in a few sentences."""
    facts = ProfileFacts(
        subject=run.record.subject.name,
        profile=run.profile,
        labels={
            layer.layer: [word for word, _ in Counter(run.trusted_words(layer)).most_common(5)]
            for layer in run.layers
        },
        threshold=run.threshold,
        vlm=run.record.vlm.name if run.record.vlm and not run.record.vlm.annotated else "",
        # Without a threshold a share of 100 % is no finding.
        caution="" if run.threshold else f"{UNCUT}.",
        concepts=frozenset(run.concepts),
        ranges=run.range_profile,
        mean_r={
            layer.layer: mean
            for layer in run.ranges
            if math.isfinite(mean := known_mean(layer.shown_r))
        },
        range_threshold=run.range_threshold,
        experiment=run.experiment,
        followed={}
        if run.worded_on_scenes
        else {view: followed_of(layers) for view, layers in run.followed.items()},
    )
    # The images are read and the labels sorted: a run is not lost for its summary.
    told = narrate_in_any_case(facts, llm, prompts)
    return replace(run, summary=told.text, summary_author=told.author, summary_usage=told.usage)


def _choose_top(options: ProfileOptions, images: int) -> int | None:
    chosen = options.similarity.top(images)
    if options.top is not None:
        if options.top < 1:
            raise UsageError(f"--top must be at least 1, got {options.top}")
        if chosen is None:
            raise UsageError(
                f"--top {options.top}: {options.similarity.name} looks at all images, not at a "
                "top list"
            )
        return options.top
    if chosen is not None:
        log.info("top list: %d images a unit, chosen for a probe set of %d", chosen, images)
    return chosen


def _check_early(task: _Task) -> None:
    """Refuse a threshold of another context before the images are read, not after.

    How many of them can be read is not known yet, so the probe set goes by its fingerprint.
    """
    unread = Collected((), np.empty((0, 0)), np.arange(len(task.probe.names)), (), 0)
    record = _record(task, unread)
    for threshold, context, option in (
        (task.options.threshold, record.context, "--threshold"),
        (task.options.range_threshold, record.range_context, "--range-threshold"),
    ):
        if isinstance(threshold, Threshold):
            own = threshold.context.get("probe", "")
            if own.split()[-1:] == context["probe"].split()[-1:]:
                context["probe"] = own
            in_context(threshold, context, f"the file of {option}")


def _threshold(run: ProfileRun, options: ProfileOptions) -> Threshold | None:
    context = run.record.context
    if isinstance(options.threshold, Threshold | float | int):
        return _given(options.threshold, context, "--threshold")
    if run.record.source is not None:
        return None
    if options.threshold is None and are_tested(run.layers):
        threshold = confirmed_threshold(run.layers, fdr=FDR, context=context)
        log.info("labels are confirmed on other images from %s on", threshold.text())
        return threshold
    threshold = null_threshold(run.layers, fdr=FDR, context=context)
    log.info("threshold from the null distribution: %.4f", threshold.value)
    return threshold


def _null_decides(options: ProfileOptions, images: int) -> bool:
    """Whether the null distribution sets the threshold."""
    return options.threshold == "null" or (options.threshold is None and images < FEWEST_TESTED)


def _null_draws(options: ProfileOptions, images: int) -> int:
    """Random units scored in each layer: none, unless asked for, where other images decide."""
    if options.null_draws is not None:
        return options.null_draws
    confirmed = options.threshold is None and images >= FEWEST_TESTED
    return 0 if confirmed else options.similarity.null_draws


def _range_threshold(run: ProfileRun, options: ProfileOptions) -> Threshold | None:
    if options.range_threshold is None or not run.ranges:
        return None
    return _given(options.range_threshold, run.record.range_context, "--range-threshold")


def _given(threshold: Threshold | float, context: dict[str, str], option: str) -> Threshold:
    if isinstance(threshold, Threshold):
        return in_context(threshold, context, f"the file of {option}")
    return Threshold(threshold, "given", context)


def _warn(run: ProfileRun) -> None:
    for warning in run.warnings:
        log.warning("warning: %s", warning)


def _confirmed(
    task: _Task, labels: Sequence[LayerLabels], found: Collected, concepts: FloatArray
) -> list[LayerLabels]:
    """The labels with what other images say of them; as they were where there are too few."""
    if len(found.kept) < FEWEST_TESTED:
        return list(labels)
    similarity = task.options.similarity
    kept = found.tops[0].images.shape[1]
    length = list_length(similarity, task.top, len(found.kept), kept)

    def label(layers: Sequence[LayerTops], images: IntArray) -> list[IntArray]:
        chosen = label_layers(
            layers,
            Sample(found.embeddings, images),
            concepts,
            similarity=similarity,
            top=length if task.top else None,
            matrices=[Sample(matrix, images) for matrix in found.matrices] or None,
            null_draws=0,
            seed=task.options.seed,
        )
        return [each.concept[:, 0] for each in chosen]

    half = halves(found.kept, len(task.probe.names))
    z = confirm(found.tops, found.embeddings, concepts, half, label, length)
    return [replace(layer, confirmed_z=own) for layer, own in zip(labels, z, strict=True)]


def _explain(found: Collected, concepts: ConceptSet, rows: FloatArray) -> tuple[LayerRange, ...]:
    """What the range of every unit follows; nothing where too few images could be read."""
    if not found.moments or not found.sample or len(found.kept) < FEWEST_IMAGES or len(rows) < 2:
        return ()
    candidates = Candidates(rows)
    if concepts.title in COMMON_WORDS:
        seen = visual_words(concepts.words, open_concepts("visual"))
        candidates = Candidates(rows, seen, np.arange(len(rows)))
    shapes = [(tops.layer, tops.units) for tops in found.tops]
    moments = list(by_layer(found.moments.total(), shapes))
    sample = replace(found.sample, images=np.searchsorted(found.kept, found.sample.images))
    return tuple(explain_layers(moments, found.tops, candidates, sample))


@dataclass(frozen=True)
class _Experimented:
    """What a run keeps of an experiment; nothing where there was none."""

    drivers: tuple[LayerDrivers, ...] = ()
    record: ExperimentRecord | None = None
    variants: Variants | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def _experiment(
    task: _Task, scenes: ExperimentScenes | None, found: Collected | None, services: Services
) -> _Experimented:
    """What drives each layer, by drawn scenes; a network that cannot take them goes without."""
    if scenes is None:
        return _Experimented()
    subject, layers = task.subject, task.layers
    seed, reading = task.options.seed, task.options.reading
    try:
        done = run_experiment(
            subject, layers, scenes, found=found, reading=reading, services=services
        )
        clock = Clock()
        with clock("variants"):
            variants = run_variants(subject, layers, seed, reading=reading, services=services)
    except InputError as error:
        return _Experimented(warnings=(f"the experiment on drawn scenes was left out: {error}",))
    return _Experimented(
        tuple(layer.short() for layer in done.layers),
        ExperimentRecord(VERSION, done.images, seed, scenes.fingerprint, dict(FACTORS)),
        variants,
        {
            f"experiment: {stage}": spent
            for stage, spent in {**done.seconds, **clock.seconds}.items()
        },
    )


def _outlines(
    task: _Task, found: Collected, labels: Sequence[LayerLabels], progress: Progress
) -> tuple[Outlines | None, OutlineRecord | None]:
    """Where units respond on the images that their rows show; nothing where that is not asked."""
    passes, reading = task.options.outlines, task.options.reading
    if passes is None:
        passes = max(3 * len(found.kept) // 4, OUTLINE_PASSES)
    if not passes:
        return None, None
    shown = [
        np.where(
            (layer.top_images[:, :OUTLINED] >= 0) & ~layer.dead[:, None],
            found.kept[layer.top_images[:, :OUTLINED]],
            -1,
        )
        for layer in labels
    ]
    distinct = len(np.unique(np.concatenate([images.ravel() for images in shown])))
    with progress.stage("outlines", min(passes, distinct)) as advance:
        maps = read_maps(
            task.subject,
            task.layers,
            task.probe,
            shown,
            [layer.top_activations[:, :OUTLINED] for layer in labels],
            passes=passes,
            precision=reading.precision,
            batch_size=min(AT_A_TIME, found.batch_size),
            workers=reading.workers,
            advance=advance,
        )
    record = OutlineRecord(maps.images, maps.sampled, maps.covered, SHARE)
    return Outlines.of(maps, shown).renumbered(found.kept), record


def _without_cosines(layer: LayerRange) -> LayerRange:
    """Without the figure that only unit rows have."""
    none = np.full_like(layer.monosemanticity, np.nan)
    decoys = np.full_like(layer.decoy_monosemanticity, np.nan)
    return replace(layer, monosemanticity=none, decoy_monosemanticity=decoys)


def _evaluate(
    task: _Task,
    labels: Sequence[LayerLabels],
    found: Collected,
    concepts: FloatArray,
    progress: Progress,
) -> tuple[tuple[LayerQuality, ...], EvaluationRecord]:
    options, top = task.options, task.top
    with progress.stage("evaluation", options.bootstrap + 1) as advance:
        quality = evaluate(
            labels,
            found.matrices,
            found.embeddings,
            concepts,
            similarity=options.similarity,
            top=top,
            draws=options.bootstrap,
            seed=options.seed,
            done=advance,
        )
    images, held_out = len(found.kept), quality[0].held_out.images
    return quality, EvaluationRecord(
        options.bootstrap,
        HELD_OUT_SHARE,
        held_out,
        POSITIVE_SHARE,
        sample_top(options.similarity, top, images - held_out, images),
        options.seed,
    )


def _pictures(
    task: _Task,
    found: Collected,
    labels: Sequence[LayerLabels],
    ranges: Sequence[LayerRange],
    progress: Progress,
) -> dict[int, bytes]:
    strongest = [layer.top_images[~layer.dead, :SHOWN_IMAGES].ravel() for layer in labels]
    shown = np.unique(np.concatenate([*strongest, *(layer.images.ravel() for layer in ranges)]))
    shown = shown[shown >= 0]
    with progress.stage("thumbnails", len(shown)) as advance:
        images, workers = found.kept[shown].tolist(), task.options.reading.workers
        made = thumbnails(task.probe, images, workers=workers, advance=advance)
    return dict(zip(shown.tolist(), made, strict=True))


def _record(task: _Task, found: Collected) -> Record:
    subject, vlm, probe, concepts = task.subject, task.vlm, task.probe, task.concepts
    options, top = task.options, task.top
    similarity = options.similarity
    warnings = []
    if found.skipped:
        examples = ", ".join(item.name for item in found.skipped[:3])
        warnings.append(
            f"{len(found.skipped)} of {len(probe.names)} probe images could not be read and were "
            f"left out ({examples}{', …' if len(found.skipped) > 3 else ''})"
        )
    if top and found.tops:
        warnings += list_warnings(found.tops, top, len(found.kept))
    if concepts.dropped:
        warnings.append(f"{concepts.dropped} concepts were given more than once and count once")
    warnings += getattr(probe, "notes", ())
    warnings += getattr(vlm, "notes", ())
    return Record(
        command=options.provenance.command,
        date=options.provenance.date,
        subject=SubjectRecord(
            subject.name,
            subject.weights,
            subject.input_text,
            subject.fingerprint,
            tuple(
                LayerRecord(layer.name, layer.kind, layer.shape, layer.units, layer.pooling)
                for layer in task.layers
            ),
            subject.step,
        ),
        vlm=VLMRecord.of(vlm),
        probe=ProbeRecord(
            probe.title,
            len(found.kept),
            probe.fingerprint,
            tuple((item.name, item.reason) for item in found.skipped),
        ),
        concepts=ConceptRecord(
            concepts.title, len(concepts.words), concepts.fingerprint, concepts.dropped
        ),
        similarity=SimilarityRecord(
            similarity.name,
            similarity.version,
            top,
            "given" if options.top else "automatic",
            dict(similarity.constants),
            _null_draws(options, len(found.kept)),
        ),
        categories=_category_pairs(options),
        seed=options.seed,
        settings={**options.provenance.settings, "batch_size_used": found.batch_size},
        versions=versions(),
        timings={},
        warnings=tuple(warnings),
    )


def _category_pairs(options: ProfileOptions) -> tuple[tuple[str, str], ...]:
    return tuple((category.name, category.description) for category in options.categories)


def _imported_record(found: Imported, name: str, options: ProfileOptions) -> Record:
    source = found.source
    warnings = []
    if found.scored and source.unscored and options.threshold is not None:
        warnings.append(
            f"{source.unscored} of {source.rows} units have no similarity, so no threshold can "
            "pass them; they count as uninterpretable"
        )
    if source.undescribed:
        warnings.append(
            f"{source.undescribed} of {source.rows} units have no description and count as "
            "uninterpretable"
        )
    return Record(
        command=options.provenance.command,
        date=options.provenance.date,
        subject=SubjectRecord(name, "", "", "", found.layers),
        vlm=None,
        probe=None,
        concepts=None,
        similarity=None,
        categories=_category_pairs(options),
        seed=options.seed,
        settings=dict(options.provenance.settings),
        versions=versions(),
        timings={},
        warnings=tuple(warnings),
        source=source,
    )


def _with_timings(run: ProfileRun, seconds: Mapping[str, float]) -> ProfileRun:
    return replace(run, record=replace(run.record, timings=dict(seconds)))
