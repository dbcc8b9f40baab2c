"""Finished runs held against each other: what changed, and whether it is more than noise.

The story is told in :func:`compare_runs`. No image is read: everything needed is in the runs'
folders and in the cache. Where the cache no longer holds a run's image pass, its labels are taken
as they are, and the page says what that costs.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from profiler.activations.collect import Collected
from profiler.activations.kept import Fingerprints, kept_pass
from profiler.activations.top_lists import LayerTops
from profiler.compare.draws import label_draws
from profiler.compare.drivers import driver_warnings, drivers_of, same_scenes, with_drivers
from profiler.compare.facts import ComparisonFacts
from profiler.compare.files import comparison_json, units_csv
from profiler.compare.page import compare_page
from profiler.compare.pairs import compare
from profiler.compare.ranges import common_cut, compared_ranges, with_ranges
from profiler.compare.result import Comparison, LayerDraws
from profiler.compare.rules import FailRule, RuleVerdict, check_rules
from profiler.compare.runs import SortedWords, compared_run
from profiler.compare.scoring import has_prior, label_together
from profiler.compare.slots import NamedRun, Slot
from profiler.compare.view import render_compare
from profiler.compare.words import words_in
from profiler.core.arrays import FloatArray, IntArray, split
from profiler.core.categories import UNKNOWN
from profiler.core.store import write_atomically
from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.llm.narrate import Narrative, narrate_in_any_case
from profiler.models.compiled import fingerprint_of
from profiler.models.vlm.annotated import attribute_rows
from profiler.models.vlm.base import TextEncoder, embed_captions
from profiler.profile.confirm import FEWEST_TESTED, confirm, halves, list_length
from profiler.profile.evaluation import DRAWS, Sample
from profiler.profile.labels import LayerLabels
from profiler.profile.result import SHOWN_IMAGES, ProfileRun, Record, SimilarityRecord
from profiler.profile.run import FDR, ProfileOptions, sort_words, words_known_to
from profiler.profile.similarity.choose import open_similarity
from profiler.profile.sorting.categories import DEFAULT, Category
from profiler.profile.sorting.sorting import Sorting
from profiler.profile.threshold import (
    Threshold,
    are_tested,
    confirmed_threshold,
    in_context,
    null_threshold,
)
from profiler.session import NONE, Provenance, Services, check_writable

log = logging.getLogger("profiler")

Order = Literal["given", "name", "step"]
"""Of a timeline."""


def order_of(text: str) -> Order:
    """``--timeline``, checked."""
    orders: tuple[Order, ...] = ("given", "name", "step")
    for order in orders:
        if text == order:
            return order
    raise UnknownNameError("order of --timeline", text, orders)


@dataclass(frozen=True)
class CompareOptions:
    """How runs are compared."""

    threshold: float | Threshold | Literal["null"] | None = None
    """Cuts all runs; ``null`` takes the null distribution pooled over them, None what other images
    confirm, or the null distribution where that is not known of all runs."""
    own_thresholds: bool = False
    timeline: Order | None = None
    """In which order the runs are steps of one training; None where they are not."""
    draws: int = DRAWS
    """Bootstrap draws of the probe images for the noise floor; 0 for none."""
    seed: int = 0
    words: ProfileOptions = field(default_factory=ProfileOptions)
    """How words are sorted: categories, votes, prompts."""
    new_categories: bool = False
    """Sort into the categories of ``words`` instead of those of the runs."""
    rules: Sequence[FailRule] = ()
    """What must not be."""
    max_report_mb: float = 20.0
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True)
class ComparisonRun:
    """What :func:`compare_runs` found."""

    comparison: Comparison
    sorting: Sorting
    summary: Narrative
    verdicts: tuple[RuleVerdict, ...]
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The same as files, by name."""


def compare_runs(
    given: Sequence[NamedRun],
    out: Path | None,
    options: CompareOptions,
    texts: TextEncoder,
    services: Services = NONE,
) -> ComparisonRun:
    """Compare finished runs; writes ``compare.html``, ``comparison.json`` and ``units.csv``.

    Args:
        given: two runs or more, of the same probe images, VLM, concepts, similarity and pooling.
        out: folder to write to; None to write nothing.
        options: how.
        texts: embeds words, where they are to be sorted without a language model; of the VLM.
        services: what may be called upon; without a store, the runs' labels are all there is.
    """
    check_comparable(given)
    if out is not None:
        check_writable(out)
    runs = in_order(given, options.timeline)
    if options.timeline == "step":
        runs = _once_each(runs)
    records = [each.run.record for each in runs]
    evidence, warnings = _evidence(runs, texts, services)

    labels = _labels(runs, evidence, options)
    if evidence and options.threshold is None:
        labels = _confirmed(runs, labels, evidence, options)
    thresholds = _thresholds(runs, labels, options)
    draws = _draws(records[0], labels, evidence, thresholds, options, services)

    wanted = sorted(words_in(labels, thresholds, [drawn for drawn in draws if drawn]))
    profiles = [each.run for each in runs]
    concepts = profiles[0].concepts
    explained = common_cut(profiles)
    words = dict.fromkeys(concepts[i] for i in wanted)
    if explained is not None:
        layers = [layer for run in profiles for layer in run.ranges]
        leading = (layer.leading_words(explained, concepts) for layer in layers)
        words |= dict.fromkeys(word for own in leading for word in own if word)
    sorting = _sort(list(words), runs, options, texts, services)
    category_of = SortedWords(concepts, _categories(sorting, options), sorting.category)
    experimented = same_scenes(profiles)
    comparison = compare(
        [
            compared_run(
                each.name,
                own,
                threshold,
                category_of,
                drawn,
                title=_title(each.run.record),
                step=each.run.record.subject.step,
                ranges={}
                if explained is None
                else compared_ranges(each.run, explained, category_of),
                drivers=drivers_of(each.run) if experimented else {},
            )
            for each, own, threshold, drawn in zip(runs, labels, thresholds, draws, strict=True)
        ],
        [found.matrices or None for found in evidence.passes] if evidence else None,
        category_of,
        timeline=options.timeline is not None,
        own_thresholds=options.own_thresholds,
        prior=_prior(records[0], evidence),
        warnings=(*warnings, *driver_warnings([each.name for each in runs], profiles)),
    )
    pairs = with_drivers(profiles, with_ranges(profiles, comparison.pairs, options.seed))
    comparison = replace(comparison, pairs=pairs)
    for warning in comparison.warnings:
        log.warning("warning: %s", warning)
    summary = _summarise(comparison, records[0], options, services)
    verdicts = check_rules(comparison, options.rules)
    done = ComparisonRun(comparison, sorting, summary, tuple(verdicts))
    done = replace(done, files=_files(done, runs, options))
    if out is not None:
        for name, content in done.files.items():
            write_atomically(out / name, content)
    return done


def check_comparable(runs: Sequence[NamedRun]) -> None:
    """Refuse runs that differ in more than the network, and name the difference."""
    if len(runs) < 2:
        raise UsageError(f"a comparison needs at least two runs, got {len(runs)}")
    for each in runs:
        if each.run.record.source is not None:
            raise InputError(
                f"{str(each.folder or each.name)!r} was imported from "
                f"{each.run.record.source.file}, which does not say what its scores rest on; "
                "compare runs made by profiler run"
            )
    first = runs[0]
    context = first.run.record.context
    for other in runs[1:]:
        for key, value in other.run.record.context.items():
            if value != context[key]:
                raise InputError(
                    f"{first.name!r} and {other.name!r} differ in the {_KINDS[key]}: "
                    f"{context[key]} and {value}; compare runs that were made alike"
                )
        pooling = {layer.name: layer.pooling for layer in first.run.record.subject.layers}
        for layer in other.run.record.subject.layers:
            own = pooling.get(layer.name, layer.pooling)
            # The size of a map says nothing of the rule: "mean over 7 × 7".
            if _rule(own) != _rule(layer.pooling):
                raise InputError(
                    f"{first.name!r} and {other.name!r} differ in the pooling of layer "
                    f"{layer.name!r}: {own} and {layer.pooling}; compare runs that were made alike"
                )


_KINDS = {
    "concepts": "concept set",
    "vlm": "VLM",
    "caption": "caption of concepts",
    "similarity": "similarity",
    "probe": "probe images",
}


def _rule(pooling: str) -> str:
    return re.sub(r"\d+", "#", pooling)


def in_order(runs: Sequence[NamedRun], order: Order | None) -> list[NamedRun]:
    """The runs in the order of a timeline; names in the order a person would put them."""
    if order in (None, "given"):
        return list(runs)
    if order == "name":
        return sorted(runs, key=lambda each: _natural(each.name))
    unknown = [each.name for each in runs if each.run.record.subject.step is None]
    if unknown:
        raise InputError(
            f"--timeline step: the checkpoint of {', '.join(map(repr, unknown))} does not say its "
            "step (global_step, step, iteration, iter or epoch); use --timeline name or given"
        )
    return sorted(runs, key=lambda each: each.run.record.subject.step or 0.0)


def _once_each(runs: Sequence[NamedRun]) -> list[NamedRun]:
    """Without runs of the same weights at the same step, as ``last`` and ``best`` files are."""
    found: dict[tuple[float | None, str], NamedRun] = {}
    for each in runs:
        about = each.run.record.subject
        first = found.setdefault((about.step, about.fingerprint), each)
        if first is not each:
            log.info("%s is left out: it has the weights and the step of %s", each.name, first.name)
    if len(found) < 2:
        names = ", ".join(each.name for each in runs)
        raise UsageError(f"a timeline needs two different steps; {names} are one and the same")
    return list(found.values())


def _natural(name: str) -> list[tuple[int, float, str]]:
    """For sorting, "epoch-10" after "epoch-9"."""
    parts = re.split(r"(\d+)", name)
    return [(1, float(p), "") if p.isdigit() else (0, 0.0, p) for p in parts]


# --- evidence -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Evidence:
    """What the cache holds of all runs."""

    passes: tuple[Collected, ...]
    concepts: FloatArray

    @property
    def images(self) -> Any:
        """(N, e) unit rows; the same for all runs."""
        return self.passes[0].embeddings

    @property
    def complete(self) -> bool:
        """Whether every run's activations were kept."""
        return all(found.matrices for found in self.passes)


def _evidence(
    runs: Sequence[NamedRun], texts: TextEncoder, services: Services
) -> tuple[_Evidence | None, tuple[str, ...]]:
    if services.store is None:
        return None, (
            "each run keeps the labels of its own report, and labels have no noise floor, because "
            "no image passes were given to the comparison",
        )
    found = {each.name: _pass_of(each.run.record, services) for each in runs}
    gone = [name for name, kept in found.items() if kept is None]
    if gone:
        return None, (
            f"the image pass of {', '.join(gone)} is no longer in the cache: each run keeps the "
            "labels of its own report, and units cannot be put side by side by what they respond "
            "to; run again with --keep-activations to have both",
        )
    vlm = runs[0].run.record.vlm
    if vlm is None:
        raise AssertionError("imported runs were refused")
    concepts = runs[0].run.concepts
    if vlm.annotated:
        rows: FloatArray = attribute_rows(len(concepts))
    else:
        rows = embed_captions(texts, [vlm.template.format(w) for w in concepts], services.store)
    passes = tuple(kept for kept in found.values() if kept is not None)
    evidence = _Evidence(passes, rows)
    without = [name for name, kept in found.items() if kept is not None and not kept.matrices]
    if without:
        return evidence, (
            f"the activations of {', '.join(without)} were not kept, so there is no noise floor, "
            "and their units cannot be put side by side by what they respond to; run again with "
            "--keep-activations",
        )
    return evidence, ()


def _pass_of(record: Record, services: Services) -> Collected | None:
    vlm, probe, similarity = record.vlm, record.probe, record.similarity
    if services.store is None or vlm is None or probe is None or similarity is None:
        return None
    formula = open_similarity(similarity.name)
    if (formula.version, dict(formula.constants)) != (
        similarity.version,
        dict(similarity.constants),
    ):
        return None  # labelled by another formula than there is now
    subject, eyes = record.subject.fingerprint, vlm.fingerprint
    if record.settings.get("compile"):
        subject, eyes = fingerprint_of(subject), fingerprint_of(eyes)
    return kept_pass(
        services.store,
        Fingerprints(subject, eyes, probe.fingerprint),
        record.subject.layers,
        images=probe.images + len(probe.skipped),
        top=similarity.top or SHOWN_IMAGES,
        precision=str(record.settings.get("precision", "fp32")),
    )


def _prior(record: Record, evidence: _Evidence | None) -> Literal["shared", "own", "none"]:
    if record.similarity is None or not has_prior(open_similarity(record.similarity.name)):
        return "none"
    return "shared" if evidence else "own"


# --- labels ---------------------------------------------------------------------------------


def _labels(
    runs: Sequence[NamedRun], evidence: _Evidence | None, options: CompareOptions
) -> list[list[LayerLabels]]:
    similarity = runs[0].run.record.similarity
    null = _null_decides(runs, evidence, options)
    if evidence is None or similarity is None:
        for each in runs if null else ():
            if not all(len(layer.null_scores) or layer.dead.all() for layer in each.run.layers):
                raise InputError(
                    f"{each.name!r} holds no null distribution to cut by, and its image pass is no "
                    "longer in the cache; profile it again with --null-draws 5000"
                )
        return [list(each.run.layers) for each in runs]
    return label_together(
        [found.tops for found in evidence.passes],
        evidence.images,
        evidence.concepts,
        similarity=open_similarity(similarity.name),
        top=similarity.top,
        matrices=[found.matrices for found in evidence.passes] if evidence.complete else None,
        null_draws=(similarity.null_draws or None) if null else 0,
        seed=options.seed,
    )


def _null_decides(
    runs: Sequence[NamedRun], evidence: _Evidence | None, options: CompareOptions
) -> bool:
    """Whether a threshold is set by the null distribution."""
    if options.own_thresholds:
        cuts = [each.run.threshold for each in runs]
        if any(cut is None or cut.source == "null" for cut in cuts):
            return True
        confirms = any(cut is not None and cut.confirms for cut in cuts)
    elif options.threshold is not None:
        return options.threshold == "null"
    else:
        confirms = True
    similarity = runs[0].run.record.similarity
    if evidence is None or similarity is None:
        return confirms and not all(are_tested(each.run.layers) for each in runs)
    return confirms and not _testable(similarity, evidence)


def _testable(similarity: SimilarityRecord, evidence: _Evidence) -> bool:
    """Whether labels can be confirmed on images that they were not chosen on."""
    enough = len(evidence.passes[0].kept) >= FEWEST_TESTED
    return enough and (evidence.complete or not open_similarity(similarity.name).needs_matrix)


def _confirmed(
    runs: Sequence[NamedRun],
    labels: Sequence[Sequence[LayerLabels]],
    evidence: _Evidence,
    options: CompareOptions,
) -> list[list[LayerLabels]]:
    """The labels with what other images say of them, by the prior that all runs share."""
    record = runs[0].run.record
    kept = evidence.passes[0].kept
    if not (record.similarity and record.probe and _testable(record.similarity, evidence)):
        return [list(own) for own in labels]
    similarity, top = open_similarity(record.similarity.name), record.similarity.top
    shapes = [len(found.tops) for found in evidence.passes]
    every = [tops for found in evidence.passes for tops in found.tops]
    length = list_length(similarity, top, len(kept), min(tops.images.shape[1] for tops in every))

    def label(layers: Sequence[LayerTops], images: IntArray) -> list[IntArray]:
        matrices = None
        if evidence.complete:
            matrices = [[Sample(m, images) for m in found.matrices] for found in evidence.passes]
        chosen = label_together(
            split(layers, shapes),
            Sample(evidence.images, images),
            evidence.concepts,
            similarity=similarity,
            top=length if top else None,
            matrices=matrices,
            null_draws=0,
            seed=options.seed,
        )
        return [each.concept[:, 0] for own in chosen for each in own]

    half = halves(kept, record.probe.images + len(record.probe.skipped))
    z = confirm(every, evidence.images, evidence.concepts, half, label, length)
    return [
        [replace(layer, confirmed_z=one) for layer, one in zip(own, found, strict=True)]
        for own, found in zip(labels, split(z, shapes), strict=True)
    ]


def _thresholds(
    runs: Sequence[NamedRun], labels: Sequence[Sequence[LayerLabels]], options: CompareOptions
) -> list[Threshold]:
    context = runs[0].run.record.context
    if options.own_thresholds:
        if options.threshold is not None:
            raise UsageError("--threshold is one for all; --own-thresholds wants each run's own")
        # What chance gives goes with the labels, which the shared prior may have moved.
        cuts = [
            _own_threshold(each.run, own, context) for each, own in zip(runs, labels, strict=True)
        ]
        if len({cut.confirms for cut in cuts}) > 1:
            names = [each.name for each, cut in zip(runs, cuts, strict=True) if not cut.confirms]
            raise UsageError(
                f"--own-thresholds: the labels of {', '.join(names)} are cut by score, those of "
                "the others by what other images confirm; the shares would not compare"
            )
        return cuts
    if isinstance(options.threshold, Threshold):
        cut = in_context(options.threshold, context, "the file of --threshold")
    elif isinstance(options.threshold, float | int):
        cut = Threshold(options.threshold, "given", context)
    else:
        every = [layer for own in labels for layer in own]
        confirmed = options.threshold is None and are_tested(every)
        choose = confirmed_threshold if confirmed else null_threshold
        cut = choose(every, fdr=FDR, context=context)
    log.info("common threshold: %s", cut.text(4))
    return [cut] * len(runs)


def _own_threshold(
    run: ProfileRun, labels: Sequence[LayerLabels], context: dict[str, str]
) -> Threshold:
    own = run.threshold
    if own is not None and own.confirms and are_tested(labels):
        return confirmed_threshold(labels, fdr=FDR, context=context)
    if own is None or own.source in ("null", "confirmed"):
        return null_threshold(labels, fdr=FDR, context=context)
    return own


def _draws(
    record: Record,
    labels: Sequence[Sequence[LayerLabels]],
    evidence: _Evidence | None,
    thresholds: Sequence[Threshold],
    options: CompareOptions,
    services: Services,
) -> Sequence[tuple[LayerDraws, ...] | None]:
    if evidence is None or not evidence.complete or not options.draws or record.similarity is None:
        return [None] * len(labels)
    with services.progress.stage("noise floor", options.draws) as advance:
        return label_draws(
            [[layer.layer for layer in own] for own in labels],
            [found.matrices for found in evidence.passes],
            evidence.images,
            evidence.concepts,
            thresholds,
            similarity=open_similarity(record.similarity.name),
            top=record.similarity.top,
            draws=options.draws,
            seed=options.seed,
            done=advance,
        )


# --- words ----------------------------------------------------------------------------------


def _sort(
    words: Sequence[str],
    runs: Sequence[NamedRun],
    options: CompareOptions,
    texts: TextEncoder,
    services: Services,
) -> Sorting:
    """Sort anew if asked to; otherwise each word stays where the runs have it."""
    own = words_known_to(runs[0].run.record)
    if services.llm is not None or options.new_categories:
        return sort_words(words, options.words, texts, services, own)
    known: dict[str, str] = {}
    doubtful = set()
    for each in runs:
        for word, category in each.run.sorting.category.items():
            if known.setdefault(word, category) != category:
                doubtful.add(word)
    rest = [word for word in words if word not in known]
    fresh = sort_words(rest, options.words, texts, services, own)
    sorters = dict.fromkeys(each.run.sorting.sorter for each in runs if each.run.sorting.category)
    notes = list(dict.fromkeys(note for each in runs for note in each.run.sorting.notes))
    if rest and fresh.sorter not in sorters and sorters:
        notes.append(
            f"{len(rest):,} words that no run had trusted before were sorted by {fresh.sorter}."
        )
    if used := doubtful & set(words):
        notes.append(
            f"{len(used):,} words are in different categories in different runs; that of the first "
            "run is the one counted."
        )
    sorted_into = {word: known[word] for word in words if word in known} | dict(fresh.category)
    return Sorting(" and ".join(sorters) or fresh.sorter, sorted_into, notes=tuple(notes))


def _categories(sorting: Sorting, options: CompareOptions) -> tuple[str, ...]:
    names = tuple(category.name for category in options.words.categories)
    used = set(sorting.category.values())
    if UNKNOWN in used and UNKNOWN not in names:
        names = (*names, UNKNOWN)
    return tuple(name for name in names if name != UNKNOWN or name in used)


def common_categories(slots: Sequence[Slot]) -> tuple[Category, ...]:
    """The categories that all finished runs are sorted into; without any, the usual ones."""
    finished = [slot for slot in slots if isinstance(slot, NamedRun)]
    if not finished:
        return DEFAULT
    first, *others = finished
    for other in others:
        if other.run.record.categories != first.run.record.categories:
            raise InputError(
                f"{first.name!r} and {other.name!r} are sorted into different categories; give "
                "those to compare them by with --categories"
            )
    return tuple(Category(*pair) for pair in first.run.record.categories) or DEFAULT


# --- the outcome ----------------------------------------------------------------------------


def _summarise(
    comparison: Comparison, record: Record, options: CompareOptions, services: Services
) -> Narrative:
    facts = ComparisonFacts(comparison, record.vlm.limits if record.vlm else "")
    return narrate_in_any_case(facts, services.llm, options.words.prompts)


def _title(record: Record) -> str:
    return f"{record.subject.name}, {record.subject.weights}"


def _files(
    done: ComparisonRun, runs: Sequence[NamedRun], options: CompareOptions
) -> dict[str, str]:
    """All contents are made before the first file is written: what may refuse, refuses here."""
    page = compare_page(
        done.comparison,
        [each.run for each in runs],
        done.sorting,
        done.summary,
        command=options.provenance.command,
        date=options.provenance.date,
        seed=options.seed,
    )
    return {
        "comparison.json": comparison_json(done.comparison, _about(done, runs, options)),
        "units.csv": units_csv(done.comparison),
        "compare.html": render_compare(page, max_mb=options.max_report_mb),
    }


def _about(
    done: ComparisonRun, runs: Sequence[NamedRun], options: CompareOptions
) -> Mapping[str, Any]:
    return {
        "command": options.provenance.command,
        "date": options.provenance.date,
        "seed": options.seed,
        "context": runs[0].run.record.context,
        "folders": [str(each.folder) if each.folder else None for each in runs],
        "fingerprints": [each.run.record.subject.fingerprint for each in runs],
        "sorter": done.sorting.sorter,
        "summary": done.summary.text,
        "summary_author": done.summary.author,
        "rules": [
            {"rule": each.rule.text, "outcome": each.outcome, "reason": each.reason}
            for each in done.verdicts
        ],
    }
