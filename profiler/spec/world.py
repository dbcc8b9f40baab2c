"""What specs are checked on: a classifier, concepts, labelled images, and regions around them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from profiler.activations.observe import Observation, caption_rows, check_numbering, examine
from profiler.concepts.attributes import attributes_for
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.arrays import BoolArray, Float64, FloatArray
from profiler.core.text import Table, text_of, tidy
from profiler.data.concept_sets import ConceptSet
from profiler.data.labelled.images import LabelledImages
from profiler.data.labelled.names import ClassNames
from profiler.errors import InputError, UnknownNameError
from profiler.models.classifier import Classifier
from profiler.models.vlm.base import VLM
from profiler.session import Provenance, Reading, Services
from profiler.spec.language.names import check as check_names
from profiler.spec.language.names import concepts_in, expand, labels_in
from profiler.spec.language.tree import Entry, Formula, HasConcept, SpecFile, Stronger
from profiler.spec.result import NearImage, RegionChoice, Seen, Shown
from profiler.spec.verify.formal import SECONDS, Outcome
from profiler.spec.verify.interpretation import ImageFacts, Interpretation, Linear
from profiler.spec.verify.regions import Ball, Box, Hull, Region

FEWEST = 2
"""A class with fewer encodings has no region."""
MOST_HULL = 4_000_000
"""Numbers in the encodings of a hull: exact arithmetic on more takes minutes."""
_NEAREST = 3
"""Real images shown beside a counterexample."""
_AGAINST = 6
"""Images shown for which a spec fails."""


@dataclass(frozen=True)
class SpecOptions:
    """Settings of checking and proposing specs."""

    regions: tuple[RegionChoice, ...] = ()
    """Of the formal check; empty: images only."""
    on: tuple[str, ...] = ()
    """Classes whose regions are used; empty: those that a spec predicts, or else all."""
    seconds: float = SECONDS
    """For one spec on one region."""
    annotations: Path | None = None
    """For ``hasCon``: a CSV of image,concept,concept …, with 0 or 1 in the cells."""
    trust_labels: bool = False
    seed: int = 0
    max_report_mb: float = 20.0
    reading: Reading = field(default_factory=Reading)
    provenance: Provenance = field(default_factory=Provenance)


def name_outputs(file: SpecFile, classes: ClassNames) -> tuple[str, ...]:
    """The name in specs of each output of the classifier.

    A class that the file declares is found by its caption, or else its name, among all names of
    an output.

    Raises:
        SpecError: a declared class is not an output, or could be several.
    """
    own: dict[int, str] = {}
    for entry in file.classes:
        places = classes.candidates(entry.text)
        if not places:
            unknown = UnknownNameError("class of the model", entry.text, classes.names)
            raise file.error(str(unknown), entry.at)
        if len(places) > 1:
            raise file.error(
                f"class {entry.text!r} could be any of the outputs {', '.join(map(str, places))}; "
                'write the number of the right output, as in crane = "134"',
                entry.at,
            )
        if places[0] in own:
            raise file.error(
                f"classes {own[places[0]]!r} and {entry.name!r} are the same output", entry.at
            )
        own[places[0]] = entry.name
    taken = set(own.values())
    return tuple(
        own.get(place)
        or (name if classes.names.count(name) == 1 and name not in taken else f"{name} ({place})")
        for place, name in enumerate(classes.names)
    )


def entries_of(file: SpecFile, concepts: ConceptSet | None) -> tuple[Entry, ...]:
    """The concepts that specs may name, each with its words for the VLM."""
    if file.concepts:
        return file.concepts
    return tuple(Entry(word) for word in concepts.words) if concepts else ()


def write_out(file: SpecFile, names: Sequence[str], words: Sequence[Entry]) -> tuple[Formula, ...]:
    """The formulas of all specs, without quantifiers; raises :class:`SpecError`."""
    concepts = [entry.name for entry in words]
    check_names(file, names, concepts)
    return tuple(expand(spec, file, names, concepts) for spec in file.specs)


def concepts_for(
    file: SpecFile, given: ConceptSet | None, data: LabelledImages
) -> ConceptSet | None:
    """The concepts that specs may name if the file declares none.

    Args:
        file: the specs.
        given: concepts that the user names; None: the attributes for the classes, where a spec is
            about concepts at all.
        data: the images.

    Raises:
        SpecError: a spec names an unknown output or concept.
    """
    nodes = (node for spec in file.specs for node in spec.formula.nodes())
    if not (given or file.concepts) and any(isinstance(n, Stronger | HasConcept) for n in nodes):
        given = attributes_for(data.present)
    write_out(file, name_outputs(file, data.classes), entries_of(file, given))
    return given


def check_labels(given: Sequence[str], names: Sequence[str]) -> None:
    """Raise :class:`UnknownNameError` for a name that is not a class."""
    for name in given:
        if name not in names:
            raise UnknownNameError("class of --on", name, names)


def observed_data(
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    options: SpecOptions,
    services: Services,
) -> tuple[Observation, str]:
    """Outputs of both networks for the images; a sentence if their numbering seems incorrect."""
    seen = examine(classifier, vlm, data, options.reading, services)
    numbering = check_numbering(
        seen,
        classifier.outputs,
        trust_labels=options.trust_labels,
        assumed=bool(data.classes.assumed),
    )
    return seen, numbering


@dataclass(frozen=True, eq=False)
class World:
    """The meaning of atoms, and what they say of the images."""

    interpretation: Interpretation
    facts: ImageFacts
    space: ConceptSpace | None
    aligned: AffineMap
    data: LabelledImages
    seen: Observation
    features: Float64
    """(N, f) the encodings of the images."""

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        names: tuple[str, ...],
        words: Sequence[Entry],
        data: LabelledImages,
        seen: Observation,
        vlm: VLM,
        options: SpecOptions,
        services: Services,
        annotations: Mapping[str, BoolArray] | None = None,
    ) -> "World":
        """Align the encoder with the VLM, and name the planes of the words.

        Args:
            classifier: the network.
            names: of its outputs in specs.
            words: the concepts.
            data: the images.
            seen: what both networks give for them.
            vlm: embeds the concepts.
            options: settings.
            services: store and progress.
            annotations: of the images, for ``hasCon``.
        """
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
        facts = interpretation.of(features, annotations)
        return cls(interpretation, facts, space, aligned, data, seen, features)

    @property
    def positive(self) -> bool:
        """Whether no feature of any image is negative."""
        return bool((self.features >= 0).all())

    def cosines(self, z: FloatArray) -> Float64:
        """Features (N, f) → strengths (N, M)."""
        return self.space.strengths(z) if self.space else np.zeros((len(z), 0))

    def say(self, z: FloatArray, formula: Formula) -> Seen:
        """Outputs and strengths at one point (f,)."""
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

    def image(self, row: int, formula: Formula, distance: float, holds: bool) -> NearImage:
        """One of the images."""
        place = int(self.seen.kept[row])
        return NearImage(
            place,
            self.data.names[place],
            self.interpretation.classes.names[int(self.seen.truth[row])],
            distance,
            holds,
            self.say(self.features[row], formula),
        )

    def against(self, formula: Formula) -> Iterator[NearImage]:
        """The images with the largest violations of a spec."""
        degree = self.facts.degree(formula, self.cosines(self.features))
        failing = np.flatnonzero(~self.facts.holds(formula))
        order = failing[np.argsort(degree[failing], kind="stable")][:_AGAINST]
        for row in order.tolist():
            yield self.image(row, formula, 0.0, False)

    def show(self, outcome: Outcome, formula: Formula, spread: float) -> Shown | None:
        """The counterexample of an outcome, with the real images nearest to it."""
        found = outcome.counterexample
        if found is None:
            return None
        distances = np.linalg.norm(self.features - found.z, axis=1)
        holds = self.facts.holds(formula)
        nearest = np.argsort(distances, kind="stable")[:_NEAREST].tolist()
        return Shown(
            found.margin,
            self.say(found.z, formula),
            tuple(
                self.image(row, formula, float(distances[row]) / spread, bool(holds[row]))
                for row in nearest
            ),
        )


def annotations_of(
    path: Path | None, formulas: Sequence[Formula], data: LabelledImages, seen: Observation
) -> dict[str, BoolArray]:
    """The annotations of images, (N,) by concept, for the concepts that specs need."""
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
            f"hasCon(x, {min(asked)}) needs annotated images; give them with --annotations FILE, "
            "a CSV with the columns image and the concepts, and 0 or 1 in the cells"
        )
    table = Table.parse(text_of(path, "annotations"), path.name, ["image", *sorted(asked)])
    given = [tidy(cell).replace("\\", "/") for cell in table.cells("image")]
    lines: dict[str, int] = {}
    for row, name in enumerate(given):
        if lines.setdefault(name, row) != row:
            raise InputError(
                f"{path.name}, line {table.rows[row][0]}: image {name!r} is already in line "
                f"{table.rows[lines[name]][0]}"
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


class Regions:
    """Regions of the classes' encodings, each made once."""

    def __init__(self, world: World) -> None:
        self.features = world.features
        self.truth = world.seen.truth
        self.names = world.interpretation.classes.names
        self.positive = world.positive
        self._moments: dict[str, tuple[Float64, Float64]] = {}
        self._made: dict[tuple[str, str], Region] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Encodings of each class whose region was made."""
        return {label: len(self._rows(label)) for label in self._moments}

    def _rows(self, label: str) -> Float64:
        rows: Float64 = self.features[self.truth == self.names.index(label)]
        return rows

    def moments(self, label: str) -> tuple[Float64, Float64]:
        """μ and σ (f,) of a class's encodings; raises :class:`InputError` if there are too few."""
        if label not in self._moments:
            rows = self._rows(label)
            if len(rows) < FEWEST:
                raise InputError(
                    f"class {label!r} has {len(rows)} image(s) in the data, so its region is "
                    "empty or a point, and nothing can be proved on it; with --on CLASS, name "
                    "classes that have more images"
                )
            self._moments[label] = rows.mean(axis=0), rows.std(axis=0)
        return self._moments[label]

    def spread(self, label: str) -> float:
        """Root mean square distance of the encodings from their mean."""
        return max(float(np.linalg.norm(self.moments(label)[1])), 1e-300)

    def box(self, label: str, gamma: float) -> Box:
        """μ ± γσ."""
        return Box.around(*self.moments(label), gamma, positive=self.positive)

    def region(self, label: str, choice: RegionChoice) -> Region:
        """The region of one class."""
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
        rows = self._rows(label)
        if rows.size > MOST_HULL:
            raise InputError(
                f"the convex hull of {len(rows):,} encodings of class {label!r} is too large for "
                "exact arithmetic; use fewer images (--limit), or a box"
            )
        return Hull(rows)

    def labels(self, formula: Formula, on: Sequence[str]) -> tuple[str, ...]:
        """The classes on whose regions a spec is checked."""
        own = on or labels_in(formula)
        if own:
            return tuple(own)
        known = tuple(label for label in self.names if len(self._rows(label)) >= FEWEST)
        if not known:
            raise InputError(
                "no class has two images or more, so every region is empty and nothing can be "
                "proved"
            )
        return known
