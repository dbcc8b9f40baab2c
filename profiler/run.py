"""The stories, told in straight lines: each function is one command from question to files."""

import datetime
import importlib.metadata
import logging
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from profiler.ask import (
    DEFAULT,
    Category,
    ExemplarSorter,
    Narrative,
    ProfileFacts,
    Sorting,
    categorize,
    narrate,
)
from profiler.collect import Advance, Collected, thumbnails
from profiler.errors import OutputError, UsageError
from profiler.inputs import ConceptSet, ProbeSet, open_concepts
from profiler.labels import LayerLabels, Threshold, automatic_top, label_layers, null_threshold
from profiler.llm import LLM
from profiler.pages import profile_page
from profiler.passes import collect_once
from profiler.report import render_profile
from profiler.results import (
    SHOWN_IMAGES,
    ConceptRecord,
    LayerRecord,
    ProbeRecord,
    ProfileRun,
    Record,
    SimilarityRecord,
    SubjectRecord,
    VLMRecord,
)
from profiler.similarity import VERSION as SIMILARITY_VERSION
from profiler.similarity import SoftWPMI
from profiler.store import Store, write_atomically
from profiler.subject import Layer, Subject
from profiler.vlm import VLM, embed_captions, embed_concepts

log = logging.getLogger("profiler")

FDR = 0.05
"""False-discovery rate of the threshold from the null distribution."""


class Progress(Protocol):
    """Shows how far a stage has come."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Within the context, calls of the value say how many items were finished."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Take no notice."""
        return nullcontext(lambda _: None)


@dataclass(frozen=True)
class ProfileOptions:
    """How a profile is made, beyond what it is made of."""

    layers: Sequence[str] = ("all",)
    top: int | None = None
    """Images in a unit's top list; None chooses by the size of the probe set."""
    threshold: float | None = None
    """Given τ; None takes it from the null distribution."""
    null_draws: int = 1000
    seed: int = 0
    batch_size: int | None = None
    workers: int = 0
    allow_bad: bool = False
    categories: tuple[Category, ...] = DEFAULT
    lenient: bool = False
    votes: int = 1
    concurrency: int = 4
    prompts: Path | None = None
    max_report_mb: float = 20.0
    command: str = ""
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())
    settings: Mapping[str, Any] = field(default_factory=dict)


def profile(
    subject: Subject,
    vlm: VLM,
    probe: ProbeSet,
    concepts: ConceptSet,
    out: Path,
    options: ProfileOptions | None = None,
    *,
    llm: LLM | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> ProfileRun:
    """Label every unit of the wanted layers, sort the labels, and write the run to ``out``."""
    options = options or ProfileOptions()
    progress = progress or Silent()
    clock = _Clock()
    check_writable(out)

    layers = subject.layers(options.layers)
    log.info("layers: %s", ", ".join(f"{layer.name} ({layer.units})" for layer in layers))
    log.info("preprocessing of %s: %s", subject.name, subject.input_text)
    top = _choose_top(options.top, len(probe.names))

    with clock("images"), progress.stage("images", len(probe.names)) as advance:
        found = collect_once(
            subject,
            layers,
            vlm,
            probe,
            top=top,
            store=store,
            batch_size=options.batch_size,
            workers=options.workers,
            allow_bad=options.allow_bad,
            advance=advance,
        )
    if len(found.kept) < top:
        raise UsageError(
            f"--top {top} needs at least as many readable images, not {len(found.kept)}"
        )
    with clock("concepts"):
        concept_rows = embed_concepts(vlm, concepts.words, store)
    with clock("labels"):
        labels = label_layers(
            found.tops,
            found.embeddings,
            concept_rows,
            top=top,
            null_draws=options.null_draws,
            seed=options.seed,
        )
    with clock("thumbnails"):
        pictures = _pictures(probe, found, labels, options.workers, progress)

    unsorted = ProfileRun(
        record=_record(subject, layers, vlm, probe, concepts, found, top, options),
        layers=tuple(labels),
        concepts=concepts.words,
        image_names=tuple(probe.names[i] for i in found.kept),
        thumbnails=pictures,
        threshold=Threshold(np.inf, "given"),
        sorting=Sorting("nobody", {}),
    )
    with clock("words"):
        run = judge(unsorted, options, vlm, llm=llm, store=store, progress=progress)
    for warning in run.record.warnings:
        log.warning("warning: %s", warning)
    run = _with_timings(run, clock.seconds)
    write_run(run, out, options.max_report_mb)
    return run


def judge(
    run: ProfileRun,
    options: ProfileOptions,
    vlm: VLM,
    *,
    llm: LLM | None,
    store: Store | None,
    progress: Progress,
) -> ProfileRun:
    """Set the threshold, sort the trusted labels and write the summary; touches no image."""
    threshold = _threshold(run, options)
    run = replace(run, threshold=threshold)
    words = trusted_words(run)
    sorting = sort_words(words, options, vlm, llm=llm, store=store, progress=progress)
    log.info("%s labels sorted by %s", len(words), sorting.sorter)
    warnings = (*run.record.warnings, *_judgement_warnings(run, sorting))
    run = replace(run, sorting=sorting, record=replace(run.record, warnings=warnings))
    narrative = summarise(run, llm, options.prompts)
    return replace(run, summary=narrative.text, summary_author=narrative.author)


def write_run(run: ProfileRun, out: Path, max_report_mb: float) -> None:
    """Write a run and its report; the report first, since it may refuse its size limit."""
    html = render_profile(profile_page(run), max_mb=max_report_mb)
    run.save(out)
    write_atomically(out / "report.html", html)


def trusted_words(run: ProfileRun) -> list[str]:
    """The different labels of interpretable units, in order of first appearance."""
    return list(
        dict.fromkeys(
            run.concepts[concept]
            for layer in run.layers
            for concept in layer.concept[run.trusted(layer), 0]
        )
    )


def sort_words(
    words: Sequence[str],
    options: ProfileOptions,
    vlm: VLM,
    *,
    llm: LLM | None,
    store: Store | None,
    progress: Progress,
) -> Sorting:
    """Sort words by the LLM, or where there is none by the nearest labelled exemplars."""
    if not words:
        return Sorting("nobody", {})
    if llm is None:
        visual = open_concepts("visual")
        exemplars = [
            (word, category)
            for word, category in zip(visual.words, visual.categories, strict=True)
            if category
        ]
        sorter = ExemplarSorter(lambda texts: embed_captions(vlm, list(texts), store), exemplars)
        return sorter.sort(words, options.categories)
    with progress.stage("categories", len(words) * options.votes) as advance:
        done = 0

        def report(now: int, _total: int) -> None:
            nonlocal done
            advance(now - done)
            done = now

        return categorize(
            words,
            options.categories,
            llm,
            prompts_dir=options.prompts,
            votes=options.votes,
            concurrency=options.concurrency,
            lenient=options.lenient,
            seed=options.seed,
            progress=report,
        )


def summarise(run: ProfileRun, llm: LLM | None, prompts: Path | None) -> Narrative:
    """The finding in a few sentences."""
    facts = ProfileFacts(
        subject=run.record.subject.name,
        profile=run.profile,
        labels={layer.layer: _frequent(run, layer) for layer in run.layers},
        threshold=run.threshold.value,
        vlm=run.record.vlm.name,
        concepts=frozenset(run.concepts),
    )
    return narrate(facts, llm, prompts_dir=prompts)


def _frequent(run: ProfileRun, layer: LayerLabels, most: int = 5) -> list[str]:
    counts = Counter(run.concepts[c] for c in layer.concept[run.trusted(layer), 0])
    return [word for word, _ in counts.most_common(most)]


def _choose_top(given: int | None, images: int) -> int:
    if given is not None:
        if given < 1:
            raise UsageError(f"--top must be at least 1, got {given}")
        return given
    top = automatic_top(images)
    log.info("top list: %d images a unit, chosen for a probe set of %d", top, images)
    return top


def _threshold(run: ProfileRun, options: ProfileOptions) -> Threshold:
    context = run.record.context
    if options.threshold is not None:
        return Threshold(options.threshold, "given", context)
    threshold = null_threshold(run.layers, fdr=FDR, context=context)
    log.info("threshold from the null distribution: %.4f", threshold.value)
    return threshold


def _judgement_warnings(run: ProfileRun, sorting: Sorting) -> Iterator[str]:
    if run.threshold.source == "null" and run.threshold.fdr is None:
        yield (
            f"no threshold keeps the expected share of chance labels at {FDR:.0%}; "
            "no label is trusted"
        )
    if sorting.lenient_unknown:
        yield (
            f"{len(sorting.lenient_unknown)} labels got no usable answer from {sorting.sorter} and "
            "count as unknown"
        )


def _pictures(
    probe: ProbeSet,
    found: Collected,
    labels: Sequence[LayerLabels],
    workers: int,
    progress: Progress,
) -> dict[int, bytes]:
    shown = np.unique(
        np.concatenate([layer.top_images[~layer.dead, :SHOWN_IMAGES].ravel() for layer in labels])
    )
    with progress.stage("thumbnails", len(shown)) as advance:
        made = thumbnails(
            probe, [int(found.kept[i]) for i in shown], workers=workers, advance=advance
        )
    return dict(zip(shown.tolist(), made, strict=True))


def _record(
    subject: Subject,
    layers: Sequence[Layer],
    vlm: VLM,
    probe: ProbeSet,
    concepts: ConceptSet,
    found: Collected,
    top: int,
    options: ProfileOptions,
) -> Record:
    settings = SoftWPMI()
    warnings = []
    if found.skipped:
        examples = ", ".join(item.name for item in found.skipped[:3])
        warnings.append(
            f"{len(found.skipped)} of {len(probe.names)} probe images could not be read and were "
            f"left out ({examples}{', …' if len(found.skipped) > 3 else ''})"
        )
    if concepts.dropped:
        warnings.append(f"{concepts.dropped} concepts were given more than once and count once")
    return Record(
        command=options.command,
        date=options.date,
        subject=SubjectRecord(
            subject.name,
            subject.weights,
            subject.input_text,
            subject.fingerprint,
            tuple(
                LayerRecord(layer.name, layer.kind, layer.shape, layer.units, layer.pooling)
                for layer in layers
            ),
        ),
        vlm=VLMRecord(vlm.name, vlm.template, vlm.limits, vlm.fingerprint),
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
            "soft-wpmi",
            SIMILARITY_VERSION,
            top,
            "given" if options.top else "automatic",
            settings.temperature,
            settings.prior_weight,
            options.null_draws,
        ),
        categories=tuple((category.name, category.description) for category in options.categories),
        seed=options.seed,
        settings={**options.settings, "batch_size_used": found.batch_size},
        versions=versions(),
        timings={},
        warnings=tuple(warnings),
    )


def versions() -> dict[str, str]:
    """Versions of everything that may move a number."""
    packages = (
        "profiler",
        "torch",
        "torchvision",
        "timm",
        "open_clip_torch",
        "sentence-transformers",
        "numpy",
        "numba",
        "pillow",
    )
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _with_timings(run: ProfileRun, seconds: Mapping[str, float]) -> ProfileRun:
    return replace(run, record=replace(run.record, timings=dict(seconds)))


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 2)


def check_writable(out: Path) -> None:
    """Raise :class:`OutputError` now rather than after an hour of work."""
    write_atomically(out / ".writable", "")
    try:
        (out / ".writable").unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {str(out)!r}: {error.strerror}") from error


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name not in ("cpu", "mps") and not name.startswith("cuda"):
        raise UsageError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N, mps")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: this machine has no CUDA device; use --device auto")
    return torch.device(name)
