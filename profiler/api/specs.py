"""Specifications in Python: held against a classifier in memory, and proposed for one."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from profiler.api.classifiers import Classes, Labelled, LabelledCase, Proposing, words_of
from profiler.api.file_results import CheckResult
from profiler.api.objects import (
    CacheFolder,
    Concepts,
    in_parameters,
    open_store,
    provenance_of,
    services_of,
)
from profiler.api.results import Profile
from profiler.core.text import text_of
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import DEFAULT_VLM
from profiler.session import Progress, Reading
from profiler.spec.check import check as hold
from profiler.spec.language.names import check as check_spec_names
from profiler.spec.language.parser import parse, read
from profiler.spec.language.tokens import SpecError
from profiler.spec.language.tree import SpecFile
from profiler.spec.mine import MineOptions, read_table
from profiler.spec.mine import mine as propose
from profiler.spec.result import RegionChoice
from profiler.spec.verify.formal import SECONDS
from profiler.spec.world import SpecOptions, concepts_for


@in_parameters
def check(
    spec: Path | str,
    model: str | nn.Module | Subject,
    images: Labelled,
    concepts: Concepts | None = None,
    *,
    regions: str | Sequence[str | RegionChoice] = (),
    on: str | Sequence[str] = (),
    timeout: float = SECONDS,
    annotations: Path | str | None = None,
    classes: Classes | None = None,
    head: str | None = None,
    vlm: str | VLM = DEFAULT_VLM,
    preprocess: str | Preprocess | None = None,
    trust_labels: bool = False,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    reading: Reading | None = None,
    cache: CacheFolder = None,
    progress: Progress | None = None,
    out: Path | str | None = None,
) -> CheckResult:
    """Check a classifier against specifications: ``profiler check``.

    A spec that fails raises nothing: see :attr:`CheckResult.passed`.

    Args:
        spec: the path of a file, or the specifications themselves as text; ``docs/conspec.md``
            describes the language.
        model: a name, a module with ``preprocess``, or what ``load_model`` returned.
        images: labelled, as in ``profiler.debug``.
        concepts: that specs may name, where the file declares none.
        regions: on which specs are proved, of the encodings of a class: ``box:GAMMA`` (mean ± GAMMA
            standard deviations), ``hull``, ``ball:R`` (R times their spread) or ``max`` (the
            largest box that is proved). Empty: images only.
        on: classes on whose regions specs are proved; empty: those that a spec predicts, or else
            all.
        timeout: seconds for one spec on one region.
        annotations: for ``hasCon``: a CSV of image,concept,concept …, with 0 or 1 in the cells.
        classes: what the outputs are called: names in their order, or a file.
        head: name of the linear layer that is the head; None for the last one.
        vlm: knows the concepts' words: a name, or what ``load_vlm`` returned.
        preprocess: of a module; see ``load_model``.
        trust_labels: go on although labels and outputs seem to be numbered differently.
        limit: how many of the images to use, evenly spread.
        seed: of everything random.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        reading: how images are read: batch size, workers, precision.
        cache: as in ``profile``.
        progress: is told how far each stage has come.
        out: folder to write to; None to write nothing.

    Returns:
        The outcome of each spec, with its rate on the images and its proofs.

    Raises:
        SpecError: the specifications cannot be read, or name what is no output or no concept.
        ProfilerError: with the reason; see :mod:`profiler.errors`.
    """
    several = [regions] if isinstance(regions, str) else regions
    wanted = tuple(
        dict.fromkeys(RegionChoice.parse(r) if isinstance(r, str) else r for r in several)
    )
    given = words_of(concepts)
    with _pointing():
        specs = _read(spec)
        words = None if specs.concepts else given
        check_spec_names(specs, None, words.words if words else None)
    if annotations is not None:
        text_of(Path(annotations), "file of annotations")
    how = provenance_of(
        "check",
        spec=specs.title,
        model=model,
        images=images,
        regions=tuple(map(str, wanted)),
        vlm=vlm,
        limit=limit,
        seed=seed,
    )
    store = open_store(cache)
    folder = None if out is None else Path(out)
    case = LabelledCase.given(
        model, images, None, classes, head, vlm, preprocess, limit, device, folder
    )
    classifier, labelled = case.open()
    with _pointing():
        # The VLM and the images come last: what names no output is refused before.
        words = concepts_for(specs, words, labelled)
        done = hold(
            specs,
            words,
            classifier,
            case.open_vlm(store),
            labelled,
            folder,
            SpecOptions(
                regions=wanted,
                on=(on,) if isinstance(on, str) else tuple(on),
                seconds=timeout,
                annotations=None if annotations is None else Path(annotations),
                trust_labels=trust_labels,
                seed=seed,
                reading=reading or Reading(),
                provenance=how,
            ),
            services_of(progress, store=store),
        )
    return CheckResult(done.files)


@in_parameters
def mine(
    model: str | nn.Module | Subject,
    images: Labelled,
    concepts: Concepts | Profile | Proposing | None = None,
    *,
    table: Path | str | None = None,
    per_class: int = 10,
    least_rate: float = 0.9,
    relevant: float = 0.5,
    gap: float = 0.4,
    classes: Classes | None = None,
    head: str | None = None,
    vlm: str | VLM = DEFAULT_VLM,
    preprocess: str | Preprocess | None = None,
    trust_labels: bool = False,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    reading: Reading | None = None,
    cache: CacheFolder = None,
    progress: Progress | None = None,
    out: Path | str | None = None,
) -> str:
    """Propose specifications that images suggest, each with its rate: ``profiler mine``.

    Args:
        model: a name, a module with ``preprocess``, or what ``load_model`` returned.
        images: labelled, as in ``profiler.debug``.
        concepts: to compare: as in ``profiler.debug``.
        table: take pairs from how often each class shows each attribute: a CSV of
            class,attribute,attribute … with shares from 0 to 1.
        per_class: specs for each class, at most.
        least_rate: share of the images for which a spec has to hold; of one from a table, what it
            requires.
        relevant: from a table: the stronger attribute is shown by at least this share of a class.
        gap: from a table: the weaker one is shown less often by at least this.
        classes: what the outputs are called: names in their order, or a file.
        head: name of the linear layer that is the head; None for the last one.
        vlm: knows the concepts' words: a name, or what ``load_vlm`` returned.
        preprocess: of a module; see ``load_model``.
        trust_labels: go on although labels and outputs seem to be numbered differently.
        limit: how many of the images to use, evenly spread.
        seed: of everything random.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        reading: how images are read: batch size, workers, precision.
        cache: as in ``profile``.
        progress: is told how far each stage has come.
        out: file to write to; None to write nothing.

    Returns:
        Specifications as text, for :func:`check` and for editing; each is preceded by its rate.

    Raises:
        ProfilerError: with the reason; see :mod:`profiler.errors`.
    """
    named = None if table is None else Path(table)
    if named is not None:
        read_table(named)
    how = provenance_of(
        "mine",
        model=model,
        images=images,
        concepts=concepts,
        table=table,
        vlm=vlm,
        limit=limit,
        seed=seed,
    )
    store = open_store(cache)
    file = None if out is None else Path(out)
    folder = file.parent if file else None
    case = LabelledCase.given(
        model, images, concepts, classes, head, vlm, preprocess, limit, device, folder
    )
    classifier, labelled = case.open()
    # Of a table, all columns, unless some are named.
    words = case.concepts(labelled) if case.words or named is None else None
    done = propose(
        words,
        classifier,
        case.open_vlm(store),
        labelled,
        file,
        MineOptions(per_class, least_rate, named, relevant, gap),
        SpecOptions(
            trust_labels=trust_labels,
            seed=seed,
            reading=reading or Reading(),
            provenance=how,
        ),
        services_of(progress, store=store),
    )
    return done.text


def _read(spec: Path | str) -> SpecFile:
    """A file, unless the text is specifications itself."""
    if isinstance(spec, str) and ("\n" in spec or re.search(r"\bspec\s[^:]*:", spec)):
        return parse(spec, "specs")
    return read(Path(spec))


@contextmanager
def _pointing() -> Iterator[None]:
    """Shows the place of an error in specifications, below its message."""
    try:
        yield
    except SpecError as error:
        error.add_note(error.excerpt)
        raise
