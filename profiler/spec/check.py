"""The story of a check: specs on images and on regions."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from profiler.activations.collect import thumbnails
from profiler.activations.observe import CAPTIONS
from profiler.core.json_text import json_text, read_json
from profiler.core.store import write_atomically
from profiler.data.concept_sets import ConceptSet
from profiler.data.labelled.images import LabelledImages
from profiler.data.records import DataRecord
from profiler.errors import InputError
from profiler.models.classifier import Classifier
from profiler.models.records import ClassifierRecord, VLMRecord
from profiler.models.vlm.base import VLM
from profiler.session import NONE, Clock, Services, check_writable, versions
from profiler.spec.language.tree import Formula, SpecFile
from profiler.spec.page import summary
from profiler.spec.result import (
    MAX,
    Checked,
    CheckedSpec,
    MapRecord,
    NearImage,
    OnRegion,
    RegionChoice,
    check_json,
)
from profiler.spec.verify.certificate import Certificate, from_json, to_json
from profiler.spec.verify.formal import Outcome, check_region
from profiler.spec.verify.largest import largest_gamma
from profiler.spec.verify.rates import check_images
from profiler.spec.verify.regions import Region
from profiler.spec.view import render_check
from profiler.spec.world import (
    Regions,
    SpecOptions,
    World,
    annotations_of,
    check_labels,
    entries_of,
    name_outputs,
    observed_data,
    write_out,
)

log = logging.getLogger("profiler")


def check(
    file: SpecFile,
    concepts: ConceptSet | None,
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    out: Path | None,
    options: SpecOptions | None = None,
    services: Services = NONE,
) -> Checked:
    """Check specs on images and, if asked, on regions; write the result to ``out``, if any.

    Args:
        file: the specs.
        concepts: that specs may name, if the file declares none.
        classifier: the network.
        vlm: gives the embeddings of images and concepts.
        data: labelled images.
        out: folder; None: nothing is written.
        options: settings.
        services: store and progress.

    Raises:
        SpecError: a spec names an unknown class or concept.
        InputError: a region is empty, or annotations are missing.
        OutputError: the page is larger than ``options.max_report_mb``.
    """
    options = options or SpecOptions()
    clock = Clock()
    names = name_outputs(file, data.classes)
    words = entries_of(file, concepts)
    formulas = write_out(file, names, words)
    check_labels(options.on, names)
    if out is not None:
        check_writable(out)
    with clock("images"):
        seen, numbering = observed_data(classifier, vlm, data, options, services)
    with clock("concepts"):
        annotations = annotations_of(options.annotations, formulas, data, seen)
        world = World.of(classifier, names, words, data, seen, vlm, options, services, annotations)
    with clock("statistical check"):
        checked = [
            CheckedSpec(
                spec,
                formula,
                check_images(formula, world.facts, seen.truth, spec.requirements),
                against=tuple(world.against(formula)),
            )
            for spec, formula in zip(file.specs, formulas, strict=True)
        ]
    with clock("formal check"):
        regions = Regions(world)
        if options.regions:
            checked = _searched(checked, world, regions, options, services)
    with clock("thumbnails"):
        shown = sorted({each.image for spec in checked for each in _images(spec)})
        made = thumbnails(data, shown, workers=options.reading.workers)
        pictures = dict(zip(shown, made, strict=True))
    found = Checked(
        command=options.provenance.command,
        date=options.provenance.date,
        file=file,
        classifier=ClassifierRecord.of(classifier),
        data=DataRecord(
            data.title,
            data.fingerprint,
            len(seen),
            tuple((each.name, each.reason) for each in seen.skipped),
            tuple(data.remarks()),
        ),
        vlm=VLMRecord.of(vlm, CAPTIONS),
        map=MapRecord(world.aligned.r2_, world.aligned.rows_, world.aligned.warning_),
        regions=options.regions,
        positive=world.positive,
        region_images=regions.counts,
        specs=tuple(checked),
        thumbnails=pictures,
        warnings=_warnings(file, classifier, world, numbering),
        settings={**options.provenance.settings, "batch_size_used": seen.batch_size},
        versions=versions(),
        timings=dict(clock.seconds),
    )
    files = {
        "check.json": check_json(found, " ".join(summary(found))),
        "check.html": render_check(found, max_mb=options.max_report_mb),
    }
    if certificates := list(_certificates(checked, world, regions)):
        context = {
            "classifier": classifier.name,
            "classifier_fingerprint": classifier.fingerprint,
            "data": data.title,
            "data_fingerprint": data.fingerprint,
            "vlm": vlm.name,
            "vlm_fingerprint": vlm.fingerprint,
            "specs": file.title,
        }
        files["certificates.json"] = json_text(to_json(certificates, context), None)
    if out is not None:
        for name, content in files.items():
            write_atomically(out / name, content)
    return replace(found, files=files)


def verify(path: Path) -> list[tuple[Certificate, str]]:
    """Certificates of a file, each with a complaint, which is empty if the proof is valid.

    No model is read and no solver is called.

    Raises:
        InputError: the file holds no certificates.
    """
    what = "file of certificates"
    content = read_json(path, what)
    try:
        found = from_json(content)
    except InputError as error:
        raise InputError(f"{what} {str(path)!r}: {error}") from error
    if not found:
        raise InputError(f"{str(path)!r} holds no certificates")
    return [(each, each.complaint()) for each in found]


# --- the world of a check ------------------------------------------------------------------------


def _warnings(
    file: SpecFile, classifier: Classifier, world: World, numbering: str
) -> tuple[str, ...]:
    texts = [numbering] if numbering else []
    if file.model is not None and file.model != classifier.name:
        texts.append(f"{file.title} was written for {file.model}, not for {classifier.name}")
    if skipped := len(world.seen.skipped):
        texts.append(
            f"{skipped} of {len(world.data.names)} images could not be read and are left out"
        )
    if world.aligned.warning_ and world.space:
        texts.append(world.aligned.warning_)
    for text in texts:
        log.warning("warning: %s", text)
    return tuple(f"{text[:1].upper()}{text[1:]}." for text in texts)


def _images(spec: CheckedSpec) -> Iterator[NearImage]:
    yield from spec.against
    for each in spec.regions:
        if each.shown:
            yield from each.shown.nearest


# --- regions -------------------------------------------------------------------------------------


def _searched(
    checked: Sequence[CheckedSpec],
    world: World,
    regions: Regions,
    options: SpecOptions,
    services: Services,
) -> list[CheckedSpec]:
    """The specs with what was found on regions."""
    plan = [
        [(label, choice) for choice in options.regions for label in labels]
        for spec in checked
        for labels in [regions.labels(spec.formula, options.on)]
    ]
    # Every region is made before the first is searched: an empty one ends the check now.
    for label, choice in dict.fromkeys(pair for pairs in plan for pair in pairs):
        if choice.kind == MAX:
            regions.moments(label)
        else:
            regions.region(label, choice)
    found = []
    with services.progress.stage("regions", sum(map(len, plan))) as advance:
        for spec, pairs in zip(checked, plan, strict=True):
            on = []
            for label, choice in pairs:
                one = _on_region(spec.formula, label, choice, world, regions, options)
                failure = one.largest.failure if one.largest else one.outcome
                if failure is not None:
                    shown = world.show(failure, spec.formula, regions.spread(label))
                    one = replace(one, shown=shown)
                on.append(one)
                advance(1)
            found.append(replace(spec, regions=tuple(on)))
    return found


def _on_region(
    formula: Formula,
    label: str,
    choice: RegionChoice,
    world: World,
    regions: Regions,
    options: SpecOptions,
) -> OnRegion:
    def look(region: Region) -> Outcome:
        return check_region(formula, world.interpretation, region, seconds=options.seconds)

    if choice.kind != MAX:
        return OnRegion(label, choice, look(regions.region(label, choice)))
    largest = largest_gamma(lambda gamma: look(regions.box(label, gamma)))
    return OnRegion(label, choice, largest.outcome, largest)


def _certificates(
    checked: Sequence[CheckedSpec], world: World, regions: Regions
) -> Iterator[Certificate]:
    """What proves specs on regions."""
    for spec in checked:
        for each in spec.regions:
            if each.outcome.verdict != "proved":
                continue
            if each.largest is None or each.largest.gamma is None:
                region, choice = regions.region(each.label, each.region), str(each.region)
            else:
                gamma = each.largest.gamma
                region, choice = regions.box(each.label, gamma), f"box:{gamma:g}"
            yield Certificate(
                spec.spec.name,
                f"{choice} of {each.label}",
                spec.formula,
                world.interpretation,
                region,
                each.outcome.refutations,
            )
