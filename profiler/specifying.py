"""The stories of specs: held against images and regions; proposed from images."""

import datetime
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from profiler.activations.collect import thumbnails
from profiler.activations.observe import (
    CAPTIONS,
    Observation,
    caption_rows,
    check_numbering,
    examine,
)
from profiler.checked import (
    MAX,
    Checked,
    CheckedSpec,
    MapRecord,
    NearImage,
    OnRegion,
    RegionChoice,
    Seen,
    Shown,
    check_json,
)
from profiler.concepts.attributes import RIVAL10_CLASSES
from profiler.concepts.space import AffineMap, ConceptSpace, dealt
from profiler.conspec.names import check as check_names
from profiler.conspec.names import concepts_in, expand, labels_in
from profiler.conspec.tokens import SpecError
from profiler.conspec.tree import Entry, Formula, HasConcept, Requirement, Spec, SpecFile
from profiler.core.arrays import BoolArray, Float64, FloatArray
from profiler.core.json_text import json_text, read_json
from profiler.core.store import write_atomically
from profiler.core.text import Table, text_of, tidy
from profiler.data.concept_sets import ConceptSet
from profiler.data.labelled.images import LabelledImages
from profiler.data.labelled.names import ClassNames, fold
from profiler.data.records import DataRecord
from profiler.errors import InputError, UnknownNameError
from profiler.models.classifier import Classifier
from profiler.models.records import ClassifierRecord, VLMRecord
from profiler.models.vlm.base import VLM
from profiler.pages.of_check import check_page
from profiler.report.check_page import render_check
from profiler.session import NONE, Clock, Services, check_writable, versions
from profiler.verify.certificate import Certificate, from_json, to_json
from profiler.verify.formal import SECONDS, Outcome, check_region
from profiler.verify.interpretation import Facts, Interpretation, Linear
from profiler.verify.largest import largest_gamma
from profiler.verify.mining import Proposal, candidates, measure, relevant_pairs
from profiler.verify.rates import Rate, check_images
from profiler.verify.regions import Ball, Box, Hull, Region

log = logging.getLogger("profiler")


FEWEST = 2
"""Encodings of a class, below which it has no region."""
MOST_HULL = 4_000_000
"""Numbers in the encodings of a hull: exact arithmetic on more takes minutes."""
_NEAREST = 3
"""Real images shown beside a counterexample."""
_AGAINST = 6
"""Images shown of which a spec does not hold."""


@dataclass(frozen=True)
class SpecOptions:
    """How specs are checked or proposed, beyond what with."""

    regions: tuple[RegionChoice, ...] = ()
    """Of the formal check; empty: images only."""
    on: tuple[str, ...] = ()
    """Classes whose regions count; empty: those that a spec predicts, or else all."""
    seconds: float = SECONDS
    """For one spec on one region."""
    annotations: Path | None = None
    """For ``hasCon``: a CSV of image,concept,concept …, with 0 or 1 in the cells."""
    trust_labels: bool = False
    seed: int = 0
    precision: str = "fp32"
    batch_size: int | None = None
    workers: int = 0
    allow_bad: bool = False
    max_report_mb: float = 20.0
    command: str = ""
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())
    settings: Mapping[str, Any] = field(default_factory=dict)


def check(
    file: SpecFile,
    concepts: ConceptSet | None,
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    out: Path,
    options: SpecOptions | None = None,
    services: Services = NONE,
) -> Checked:
    """Hold specs against images and, where asked, regions; write the outcome to ``out``.

    Args:
        file: the specs.
        concepts: those that specs may name, where the file declares none.
        classifier: the network.
        vlm: knows the concepts' words.
        data: labelled images.
        out: folder.
        options: how.
        services: store and progress.
    """
    options = options or SpecOptions()
    clock = Clock()
    names = name_outputs(file, data.classes)
    words = entries_of(file, concepts)
    formulas = write_out(file, names, words)
    _check_classes(options.on, names)
    check_writable(out)
    with clock("images"):
        seen, numbering = _observed(classifier, vlm, data, options, services)
    with clock("concepts"):
        world = _World.of(classifier, names, words, seen, vlm, options, services)
    annotations = _annotations(options.annotations, formulas, data, seen)
    facts = world.interpretation.of(seen.features, annotations)
    with clock("statistical check"):
        checked = [
            CheckedSpec(
                spec,
                formula,
                check_images(formula, facts, seen.truth, spec.requirements),
                against=tuple(world.against(formula, facts, data)),
            )
            for spec, formula in zip(file.specs, formulas, strict=True)
        ]
    certificates: list[Certificate] = []
    with clock("formal check"):
        regions = _Regions(seen, names, world.positive)
        if options.regions:
            checked = _proved(checked, world, facts, regions, data, options, services, certificates)
    with clock("thumbnails"):
        shown = sorted({each.image for spec in checked for each in _images(spec)})
        pictures = dict(zip(shown, thumbnails(data, shown, workers=options.workers), strict=True))
    found = Checked(
        command=options.command,
        date=options.date,
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
        classes=names,
        regions=options.regions,
        positive=world.positive,
        region_images={label: regions.count(label) for label in regions.used},
        specs=tuple(checked),
        thumbnails=pictures,
        warnings=_warnings(file, classifier, seen, data, world, numbering),
        settings={**options.settings, "batch_size_used": seen.batch_size},
        versions=versions(),
    )
    found = replace(found, timings=dict(clock.seconds))
    files = {
        "check.json": check_json(found),
        "check.html": render_check(check_page(found), max_mb=options.max_report_mb),
    }
    if certificates:
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
    for name, content in files.items():
        write_atomically(out / name, content)
    return found


def verify(path: Path) -> list[tuple[Certificate, str]]:
    """Certificates of a file, each with what is wrong with it, or with nothing.

    Reads no model and calls no solver; raises :class:`InputError` for a file that holds none.
    """
    what = "file of certificates"
    content = read_json(path, what)
    try:
        found = from_json(content)
    except InputError as error:
        raise InputError(f"{what} {str(path)!r}: {error}") from error
    if not found:
        raise InputError(f"{str(path)!r} holds no proof")
    return [(each, each.complaint()) for each in found]


# --- names ---------------------------------------------------------------------------------------


def name_outputs(file: SpecFile, classes: ClassNames) -> tuple[str, ...]:
    """What specs call each output of the classifier.

    A class that the file declares is found by its caption, or else its name, among all names that
    an output goes by.

    Raises:
        SpecError: a declared class is no output, or could be two.
    """
    own: dict[int, str] = {}
    for entry in file.classes:
        places = classes.candidates(entry.text)
        if not places:
            unknown = UnknownNameError("class of the model", entry.text, classes.names)
            raise SpecError(str(unknown), file.source, entry.at, file.title)
        if len(places) > 1:
            raise SpecError(
                f"class {entry.text!r} could be any of outputs {', '.join(map(str, places))}; "
                'write the number of the one that is meant, as in crane = "134"',
                file.source,
                entry.at,
                file.title,
            )
        if places[0] in own:
            raise SpecError(
                f"classes {own[places[0]]!r} and {entry.name!r} are the same output",
                file.source,
                entry.at,
                file.title,
            )
        own[places[0]] = entry.name
    taken = set(own.values())
    return tuple(
        own.get(place)
        or (name if classes.names.count(name) == 1 and name not in taken else f"{name} ({place})")
        for place, name in enumerate(classes.names)
    )


def entries_of(file: SpecFile, concepts: ConceptSet | None) -> tuple[Entry, ...]:
    """The concepts that specs may name, with what the VLM is asked for each."""
    if file.concepts:
        return file.concepts
    return tuple(Entry(word) for word in concepts.words) if concepts else ()


def write_out(file: SpecFile, names: Sequence[str], words: Sequence[Entry]) -> tuple[Formula, ...]:
    """The formulas of all specs, without quantifiers; raises :class:`SpecError`."""
    concepts = [entry.name for entry in words]
    check_names(file, names, concepts)
    return tuple(expand(spec, file, names, concepts) for spec in file.specs)


def _check_classes(given: Sequence[str], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            raise UnknownNameError("class of --on", name, names)


# --- the world of a check ------------------------------------------------------------------------


def _observed(
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    options: SpecOptions,
    services: Services,
) -> tuple[Observation, str]:
    seen = examine(classifier, vlm, data, options, services)
    numbering = check_numbering(
        seen,
        classifier.outputs,
        trust_labels=options.trust_labels,
        assumed=bool(data.classes.assumed),
    )
    return seen, numbering


@dataclass(frozen=True, eq=False)
class _World:
    """What atoms mean, and what is known of the images."""

    interpretation: Interpretation
    space: ConceptSpace | None
    aligned: AffineMap
    seen: Observation
    features: Float64
    positive: bool

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        names: tuple[str, ...],
        words: Sequence[Entry],
        seen: Observation,
        vlm: VLM,
        options: SpecOptions,
        services: Services,
    ) -> "_World":
        features = np.asarray(seen.features, dtype=np.float64)
        aligned = AffineMap(seed=options.seed).fit(features, seen.embeddings, seen.kept)
        concepts = tuple(entry.name for entry in words)
        space, planes = None, (np.zeros((0, classifier.features)), np.zeros(0))
        if words:
            captions = caption_rows(vlm, [entry.text for entry in words], services.store)
            space = ConceptSpace.of(concepts, captions, aligned)
            planes = space.planes()
        interpretation = Interpretation(
            Linear(names, classifier.weights, classifier.bias), Linear(concepts, *planes)
        )
        return cls(interpretation, space, aligned, seen, features, bool((features >= 0).all()))

    def cosines(self, z: FloatArray) -> Float64:
        """Features (N, f) → strengths (N, M)."""
        return self.space.strengths(z) if self.space else np.zeros((len(z), 0))

    def say(self, z: FloatArray, formula: Formula) -> Seen:
        """What is said at one point (f,)."""
        logits = self.interpretation.classes(z[None])[0]
        first, second = np.argsort(-logits, kind="stable")[:2].tolist()
        cosines = self.cosines(z[None])[0]
        index = self.interpretation.concepts.index
        return Seen(
            self.interpretation.classes.names[first],
            self.interpretation.classes.names[second],
            float(logits[first] - logits[second]),
            {name: float(cosines[index[name]]) for name in concepts_in(formula) if name in index},
        )

    def image(
        self, row: int, formula: Formula, data: LabelledImages, distance: float, holds: bool
    ) -> NearImage:
        """One of the images seen."""
        place = int(self.seen.kept[row])
        return NearImage(
            place,
            data.names[place],
            self.interpretation.classes.names[int(self.seen.truth[row])],
            distance,
            holds,
            self.say(self.features[row], formula),
        )

    def against(self, formula: Formula, facts: Facts, data: LabelledImages) -> Iterator[NearImage]:
        """The images that a spec fails by most."""
        degree = facts.degree(formula, self.cosines(self.features))
        failing = np.flatnonzero(~facts.holds(formula))
        order = failing[np.argsort(degree[failing], kind="stable")][:_AGAINST]
        for row in order.tolist():
            yield self.image(row, formula, data, 0.0, False)

    def show(
        self,
        outcome: Outcome,
        formula: Formula,
        facts: Facts,
        data: LabelledImages,
        spread: float,
    ) -> Shown | None:
        """The counterexample of an outcome, beside the real images nearest to it."""
        found = outcome.counterexample
        if found is None:
            return None
        distances = np.linalg.norm(self.features - found.z, axis=1)
        holds = facts.holds(formula)
        nearest = np.argsort(distances, kind="stable")[:_NEAREST].tolist()
        return Shown(
            found.margin,
            self.say(found.z, formula),
            tuple(
                self.image(row, formula, data, float(distances[row]) / spread, bool(holds[row]))
                for row in nearest
            ),
        )


def _annotations(
    path: Path | None, formulas: Sequence[Formula], data: LabelledImages, seen: Observation
) -> dict[str, BoolArray]:
    """What images are annotated with, (N,) by concept; only as far as specs ask."""
    asked = {
        node.concept
        for formula in formulas
        for node in formula.nodes()
        if isinstance(node, HasConcept)
    }
    if not asked:
        return {}
    if path is None:
        raise InputError(
            f"hasCon(x, {min(asked)}) asks for annotated images; give them with --annotations "
            "FILE, a CSV whose header is image and the concepts, and whose cells are 0 or 1"
        )
    table = Table.parse(text_of(path, "annotations"), path.name, ["image", *sorted(asked)])
    image = table.at("image")
    given = [tidy(cells[image]).replace("\\", "/") for _, cells in table.rows]
    lines: dict[str, int] = {}
    for row, name in enumerate(given):
        if lines.setdefault(name, row) != row:
            raise InputError(
                f"{path.name}, line {table.rows[row][0]}: image {name!r} stands in line "
                f"{table.rows[lines[name]][0]} already"
            )
    shown = {concept: table.numbers(concept) for concept in asked}
    found = {concept: np.zeros(len(seen), dtype=bool) for concept in asked}
    for place, index in enumerate(seen.kept.tolist()):
        name = data.names[index]
        at = lines.get(tidy(name).replace("\\", "/"))
        if at is None:
            raise InputError(f"{path.name}: no row for image {name!r}")
        line, cells = table.rows[at]
        for concept in asked:
            if shown[concept][at] not in (0, 1):
                raise InputError(
                    f"{path.name}, line {line}: {concept} of {name!r} is "
                    f"{cells[table.at(concept)]!r}, not 0 or 1"
                )
            found[concept][place] = shown[concept][at] == 1
    return found


def _warnings(
    file: SpecFile,
    classifier: Classifier,
    seen: Observation,
    data: LabelledImages,
    world: _World,
    numbering: str,
) -> tuple[str, ...]:
    said = [numbering] if numbering else []
    if file.model is not None and file.model != classifier.name:
        said.append(f"{file.title} was written for {file.model}, not for {classifier.name}")
    if seen.skipped:
        said.append(
            f"{len(seen.skipped)} of {len(data.names)} images could not be read and were left out"
        )
    if world.aligned.warning_ and world.space:
        said.append(world.aligned.warning_)
    for text in said:
        log.warning("warning: %s", text)
    return tuple(f"{text[:1].upper()}{text[1:]}." for text in said)


def _images(spec: CheckedSpec) -> Iterator[NearImage]:
    yield from spec.against
    for each in spec.regions:
        if each.shown:
            yield from each.shown.nearest


# --- regions -------------------------------------------------------------------------------------


class _Regions:
    """Regions of the classes' encodings, each made once."""

    def __init__(self, seen: Observation, names: Sequence[str], positive: bool) -> None:
        self.features = np.asarray(seen.features, dtype=np.float64)
        self.truth = seen.truth
        self.names = list(names)
        self.positive = positive
        self.used: list[str] = []
        self._moments: dict[str, tuple[Float64, Float64]] = {}
        self._made: dict[tuple[str, str], Region] = {}

    def count(self, label: str) -> int:
        """Encodings of a class."""
        return int(np.count_nonzero(self.truth == self.names.index(label)))

    def moments(self, label: str) -> tuple[Float64, Float64]:
        """μ and σ (f,) of a class's encodings; an error where there is no region."""
        if label not in self._moments:
            rows = self.features[self.truth == self.names.index(label)]
            if len(rows) < FEWEST:
                raise InputError(
                    f"class {label!r} has {len(rows)} image(s) in the data, so its region is "
                    "empty or a point: nothing can be proved on it; name classes with more "
                    "images by --on CLASS"
                )
            self._moments[label] = rows.mean(axis=0), rows.std(axis=0)
            self.used.append(label)
        return self._moments[label]

    def spread(self, label: str) -> float:
        """Root mean square distance of the encodings from their mean."""
        return max(float(np.linalg.norm(self.moments(label)[1])), 1e-300)

    def box(self, label: str, gamma: float) -> Box:
        """μ ± γσ."""
        return Box.around(*self.moments(label), gamma, positive=self.positive)

    def region(self, label: str, choice: RegionChoice) -> Region:
        """Of one class."""
        key = label, str(choice)
        if key not in self._made:
            self._made[key] = self._make(label, choice)
        return self._made[key]

    def _make(self, label: str, choice: RegionChoice) -> Region:
        mean, _ = self.moments(label)
        if choice.kind == "box":
            return self.box(label, choice.size)
        if choice.kind == "ball":
            return Ball(mean, choice.size * self.spread(label))
        rows = self.features[self.truth == self.names.index(label)]
        if rows.size > MOST_HULL:
            raise InputError(
                f"the hull of {len(rows):,} encodings of class {label!r} is too large for exact "
                "arithmetic; use fewer images (--limit), or a box"
            )
        return Hull(rows)

    def labels(self, formula: Formula, on: Sequence[str]) -> tuple[str, ...]:
        """The classes on whose regions a spec is checked."""
        own = on or labels_in(formula)
        if own:
            return tuple(own)
        known = tuple(label for label in self.names if self.count(label) >= FEWEST)
        if not known:
            raise InputError(
                "no class has two images or more, so every region is empty: nothing can be proved"
            )
        return known


def _proved(
    checked: Sequence[CheckedSpec],
    world: _World,
    facts: Facts,
    regions: _Regions,
    data: LabelledImages,
    options: SpecOptions,
    services: Services,
    certificates: list[Certificate],
) -> list[CheckedSpec]:
    """The specs with what was found on regions; proofs are added to ``certificates``."""
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
                one = _on_region(spec, label, choice, world, regions, options, certificates)
                failure = one.largest.failure if one.largest else one.outcome
                if failure is not None:
                    spread = regions.spread(label)
                    shown = world.show(failure, spec.formula, facts, data, spread)
                    one = replace(one, shown=shown)
                on.append(one)
                advance(1)
            found.append(replace(spec, regions=tuple(on)))
    return found


def _on_region(
    spec: CheckedSpec,
    label: str,
    choice: RegionChoice,
    world: _World,
    regions: _Regions,
    options: SpecOptions,
    certificates: list[Certificate],
) -> OnRegion:
    def look(region: Region) -> Outcome:
        return check_region(spec.formula, world.interpretation, region, seconds=options.seconds)

    def keep(region: Region, outcome: Outcome, said: str) -> None:
        if outcome.verdict == "proved":
            certificates.append(
                Certificate(
                    spec.spec.name,
                    said,
                    spec.formula,
                    world.interpretation,
                    region,
                    outcome.refutations,
                )
            )

    if choice.kind != MAX:
        region = regions.region(label, choice)
        outcome = look(region)
        keep(region, outcome, f"{choice} of {label}")
        return OnRegion(label, choice, outcome)
    largest = largest_gamma(lambda gamma: look(regions.box(label, gamma)))
    if largest.gamma is not None:
        box = regions.box(label, largest.gamma)
        keep(box, largest.outcome, f"box:{largest.gamma:g} of {label}")
    return OnRegion(label, choice, largest.outcome, largest)


# --- proposals -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mined:
    """Specs that images suggest.

    Attributes:
        text: a file of specs, each with its rate in a comment.
        proposals: in the order of the text.
        chosen_on: images on which they were chosen; 0 where a table named them.
        measured_on: images on which their rates were measured.
    """

    text: str
    proposals: tuple[Proposal, ...]
    chosen_on: int
    measured_on: int


@dataclass(frozen=True)
class MineOptions:
    """What is proposed."""

    per_class: int = 10
    least_rate: float = 0.9
    """Mined: reached by the low end of the rate's interval. From a table: what is required."""
    table: Path | None = None
    """How often each class shows each attribute: a CSV of class,attribute,attribute …"""
    relevant: float = 0.5
    """From a table: the stronger concept is shown at least so often …"""
    gap: float = 0.4
    """… and the weaker one less often by so much."""


def mine(
    concepts: ConceptSet | None,
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    out: Path,
    what: MineOptions | None = None,
    options: SpecOptions | None = None,
    services: Services = NONE,
) -> Mined:
    """Propose specs, and write them to the file ``out``.

    Args:
        concepts: to compare; None: the attributes of the table.
        classifier: the network.
        vlm: knows the concepts' words.
        data: labelled images.
        out: file.
        what: is proposed.
        options: how.
        services: store and progress.
    """
    what, options = what or MineOptions(), options or SpecOptions()
    table = None if what.table is None else read_table(what.table)
    words = table.attributes if table is not None and concepts is None else ()
    if concepts is not None:
        words = concepts.words
    file = SpecFile((), classifier.name, concepts=tuple(map(Entry, words)))
    names = name_outputs(file, data.classes)
    pairs = None if table is None else _pairs_of(table, names, words, what)
    check_writable(out.parent)
    seen, _ = _observed(classifier, vlm, data, options, services)
    world = _World.of(classifier, names, file.concepts, seen, vlm, options, services)
    facts = world.interpretation.of(seen.features)
    everything = np.ones(len(seen), dtype=bool)
    chosen = everything & False
    if pairs is None:
        chosen = dealt(seen.kept, options.seed) < 3
        labels = [names[place] for place in np.unique(seen.predicted).tolist()]
        pairs = candidates(
            facts, labels, chosen, per_class=what.per_class, least_rate=what.least_rate
        )
    found = measure(facts, pairs, ~chosen)
    order = {label: place for place, label in enumerate(names)}
    if table is not None:
        # The most violated first: there the debugging starts.
        found.sort(key=lambda each: (order[each.label], _known(each.inside.value)))
    used = {each.label for each in found}
    declared = tuple(
        Entry(name, None if data.classes.candidates(name) == [place] else str(place))
        for place, name in enumerate(names)
        if name in used
    )
    file = replace(file, classes=declared)
    mined = Mined(
        _mined_text(file, found, world, data, what, int(chosen.sum()), int((~chosen).sum())),
        tuple(found),
        int(chosen.sum()),
        int((~chosen).sum()),
    )
    write_atomically(out, mined.text)
    return mined


def _known(value: float) -> float:
    return 2.0 if np.isnan(value) else value


@dataclass(frozen=True, eq=False)
class AttributeTable:
    """How often each class shows each attribute.

    Attributes:
        classes: C names.
        attributes: M names.
        frequencies: (C, M) shares.
    """

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    frequencies: Float64


def read_table(path: Path) -> AttributeTable:
    """Read a CSV of ``class,attribute,attribute …``; raises :class:`InputError`."""
    table = Table.parse(text_of(path, "table"), path.name)
    names = tuple(map(tidy, table.header))
    if not table.rows or len(names) < 3:
        raise InputError(f"{path.name}: needs a header class,attribute,attribute … and a class")
    classes = tuple(tidy(cells[0]) for _, cells in table.rows)
    for what, given in (("class", classes), ("attribute", names)):
        if len(set(given)) < len(given):
            raise InputError(f"{path.name}: a {what} stands there twice")
    columns = [table.numbers(name) for name in names[1:]]
    for (line, _), shares in zip(table.rows, zip(*columns, strict=True), strict=True):
        if not all(share is not None and 0 <= share <= 1 for share in shares):
            raise InputError(
                f"{path.name}, line {line}: expected {len(columns)} shares between 0 and 1"
            )
    return AttributeTable(classes, names[1:], np.array(columns, dtype=np.float64).T)


def _pairs_of(
    table: AttributeTable, names: Sequence[str], words: Sequence[str], what: MineOptions
) -> list[tuple[str, str, str]]:
    """The specs of a table, for the classes that the classifier has."""
    known = {fold(name): name for name in names}
    pairs = []
    matched = 0
    columns = [place for place, name in enumerate(table.attributes) if name in words]
    if len(columns) < 2:
        raise InputError("fewer than two attributes of the table are among the concepts")
    attributes = [table.attributes[place] for place in columns]
    for row, written in enumerate(table.classes):
        same = next((each for each in RIVAL10_CLASSES if fold(written) in each), (written,))
        label = next((known[fold(each)] for each in (written, *same) if fold(each) in known), None)
        if label is None:
            log.warning("warning: class %r of the table is no output of the classifier", written)
            continue
        matched += 1
        pairs += [
            (label, *pair)
            for pair in relevant_pairs(
                table.frequencies[row, columns],
                attributes,
                most=what.per_class,
                relevant=what.relevant,
                gap=what.gap,
            )
        ]
    if not matched:
        raise InputError(
            f"no class of the table ({', '.join(table.classes)}) is an output of the classifier"
        )
    return pairs


def _mined_text(
    file: SpecFile,
    found: Sequence[Proposal],
    world: _World,
    data: LabelledImages,
    what: MineOptions,
    chosen: int,
    measured: int,
) -> str:
    where = (
        f"Chosen on {chosen:,} images, measured on {measured:,} others"
        if chosen
        else f"Named by {what.table.name if what.table else 'a table'}, "
        f"measured on {measured:,} images"
    )
    head = [
        f"# Proposed by profiler mine. {where}; {data.title}.",
        "# Each spec is preceded by how far it holds. Edit, and check with profiler check.",
    ]
    if world.aligned.warning_:
        head.append(f"# Warning: {world.aligned.warning_}.")
    lines = ["\n".join(head), str(file).rstrip()]
    if not found:
        lines.append("# Nothing holds often enough to be proposed.")
    used: set[str] = set()
    label = None
    for each in found:
        if each.label != label:
            label = each.label
            lines.append(f"# --- {label}: {_count(each.inside)} predicted so")
        spec = Spec(_spec_name(each, used), each.formula, None, (_requirement(each, what),))
        lines.append(f"# {_told(each)}\n{spec}")
    return "\n\n".join(lines) + "\n"


def _count(rate: Rate) -> str:
    return f"{rate.images:,} image{'' if rate.images == 1 else 's'}"


def _requirement(each: Proposal, what: MineOptions) -> Requirement:
    """From a table what is asked for; mined, what the interval does not go below."""
    if what.table is not None:
        return Requirement("applicable rate", what.least_rate)
    return Requirement("applicable rate", int(100 * each.inside.interval()[0]) / 100)


def _told(each: Proposal) -> str:
    if not each.inside.images:
        return "nothing is predicted so: no rate"
    low, high = each.inside.interval()
    told = (
        f"{each.inside.value:.1%} of {_count(each.inside)} (95 % interval {low:.1%} to {high:.1%})"
    )
    if not each.outside.images:
        return told
    lift = f"lift {each.lift:.2f}" if np.isfinite(each.lift) else "never elsewhere"
    return f"{told}; {each.outside.value:.1%} of {_count(each.outside)} predicted otherwise; {lift}"


def _spec_name(each: Proposal, used: set[str]) -> str:
    plain = re.sub(r"\W+", "_", f"{each.label} {each.relevant} over {each.irrelevant}").strip("_")
    name = plain if not plain[:1].isdigit() else f"s_{plain}"
    count = 2
    while name in used:
        name, count = f"{plain}_{count}", count + 1
    used.add(name)
    return name
