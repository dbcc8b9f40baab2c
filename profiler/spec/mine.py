"""Specs proposed from images, or from a table of attributes."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from profiler.concepts.attributes import RIVAL10_CLASSES
from profiler.concepts.space import folds
from profiler.core.arrays import Float64
from profiler.core.store import write_atomically
from profiler.core.text import Table, text_of, tidy
from profiler.data.concept_sets import ConceptSet
from profiler.data.labelled.images import LabelledImages
from profiler.data.labelled.names import fold
from profiler.errors import InputError
from profiler.models.classifier import Classifier
from profiler.models.vlm.base import VLM
from profiler.session import NONE, Services, check_writable
from profiler.spec.language.tree import Entry, Requirement, Spec, SpecFile
from profiler.spec.verify.mining import Proposal, candidates, measure, relevant_pairs
from profiler.spec.verify.rates import Rate
from profiler.spec.world import SpecOptions, World, name_outputs, observed_data

log = logging.getLogger("profiler")


@dataclass(frozen=True)
class Mined:
    """Proposed specs.

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

    def to_json(self) -> dict[str, Any]:
        """The specs with their rates, as plain values."""
        return {
            "chosen_on": self.chosen_on,
            "measured_on": self.measured_on,
            "specs": [
                {
                    "class": each.label,
                    "relevant": each.relevant,
                    "irrelevant": each.irrelevant,
                    "formula": str(each.formula),
                    "holds": each.inside.holds,
                    "images": each.inside.images,
                    "outside_holds": each.outside.holds,
                    "outside_images": each.outside.images,
                }
                for each in self.proposals
            ],
        }


@dataclass(frozen=True)
class MineOptions:
    """Which specs are proposed."""

    per_class: int = 10
    least_rate: float = 0.9
    """Mined: least lower end of the rate's interval. From a table: the required rate."""
    table: Path | None = None
    """How often each class shows each attribute: a CSV of class,attribute,attribute …"""
    relevant: float = 0.5
    """From a table: least frequency of the stronger concept."""
    gap: float = 0.4
    """From a table: least difference to the frequency of the weaker concept."""


def mine(
    concepts: ConceptSet | None,
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    out: Path | None,
    what: MineOptions | None = None,
    options: SpecOptions | None = None,
    services: Services = NONE,
) -> Mined:
    """Propose specs, and write them to the file ``out``, if any.

    Args:
        concepts: to compare; None: the attributes of the table.
        classifier: the network.
        vlm: gives the embeddings of images and concepts.
        data: labelled images.
        out: file; None: nothing is written.
        what: which specs are proposed.
        options: settings.
        services: store and progress.

    Raises:
        InputError: the table does not fit the classifier or the concepts.
    """
    what, options = what or MineOptions(), options or SpecOptions()
    table = None if what.table is None else read_table(what.table)
    words = concepts.words if concepts else table.attributes if table else ()
    file = SpecFile((), classifier.name, concepts=tuple(map(Entry, words)))
    names = name_outputs(file, data.classes)
    pairs = None if table is None else _pairs_of(table, names, words, what)
    if out is not None:
        check_writable(out.parent)
    seen, _ = observed_data(classifier, vlm, data, options, services)
    world = World.of(classifier, names, file.concepts, data, seen, vlm, options, services)
    facts = world.facts
    chosen = np.zeros(len(seen), dtype=bool)
    if pairs is None:
        chosen = folds(seen.kept, options.seed) < 3
        labels = [names[place] for place in np.unique(seen.predicted).tolist()]
        pairs = candidates(
            facts, labels, chosen, per_class=what.per_class, least_rate=what.least_rate
        )
    found = measure(facts, pairs, ~chosen)
    order = {label: place for place, label in enumerate(names)}
    if table is not None:
        # The most violated specs first, where debugging starts.
        found.sort(key=lambda each: (order[each.label], np.nan_to_num(each.inside.value, nan=2)))
    used = {each.label for each in found}
    declared = tuple(
        Entry(name, None if data.classes.candidates(name) == [place] else str(place))
        for place, name in enumerate(names)
        if name in used
    )
    file = replace(file, classes=declared)
    numbers = int(chosen.sum()), int((~chosen).sum())
    mined = Mined(_mined_text(file, found, world, what, *numbers), tuple(found), *numbers)
    if out is not None:
        write_atomically(out, mined.text)
    return mined


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
        raise InputError(
            f"{path.name}: expected a header class,attribute,attribute … and at least one class"
        )
    classes = tuple(tidy(cells[0]) for _, cells in table.rows)
    for what, given in (("class", classes), ("attribute", names)):
        if len(set(given)) < len(given):
            raise InputError(f"{path.name}: the same {what} is listed twice")
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
            log.warning(
                "warning: class %r of the table is not an output of the classifier", written
            )
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
    world: World,
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
        f"# Proposed by profiler mine. {where}; {world.data.title}.",
        "# The comment above each spec gives its rate. Edit the file, then run profiler check.",
    ]
    if world.aligned.warning_:
        head.append(f"# Warning: {world.aligned.warning_}.")
    lines = ["\n".join(head), str(file).rstrip()]
    if not found:
        lines.append("# No spec holds often enough to be proposed.")
    used: set[str] = set()
    label = None
    for each in found:
        if each.label != label:
            label = each.label
            lines.append(f"# --- {label}: {_count(each.inside)} with this prediction")
        spec = Spec(_spec_name(each, used), each.formula, None, (_requirement(each, what),))
        lines.append(f"# {_told(each)}\n{spec}")
    return "\n\n".join(lines) + "\n"


def _count(rate: Rate) -> str:
    return f"{rate.images:,} image{'' if rate.images == 1 else 's'}"


def _requirement(each: Proposal, what: MineOptions) -> Requirement:
    """From a table: the required rate; mined: the lower end of the interval."""
    if what.table is not None:
        return Requirement("applicable rate", what.least_rate)
    return Requirement("applicable rate", int(100 * each.inside.interval()[0]) / 100)


def _told(each: Proposal) -> str:
    if not each.inside.images:
        return "no image has this prediction, so there is no rate"
    low, high = each.inside.interval()
    text = (
        f"{each.inside.value:.1%} of {_count(each.inside)} (95 % interval {low:.1%} to {high:.1%})"
    )
    if not each.outside.images:
        return text
    lift = f"lift {each.lift:.2f}" if np.isfinite(each.lift) else "never for other predictions"
    outside = f"{each.outside.value:.1%} of {_count(each.outside)} with other predictions"
    return f"{text}; {outside}; {lift}"


def _spec_name(each: Proposal, used: set[str]) -> str:
    plain = re.sub(r"\W+", "_", f"{each.label} {each.relevant} over {each.irrelevant}").strip("_")
    name = plain if not plain[:1].isdigit() else f"s_{plain}"
    count = 2
    while name in used:
        name, count = f"{plain}_{count}", count + 1
    used.add(name)
    return name
