"""A finished run: what it is, and the folder that holds it.

::

    run.json            how the run was made: settings, fingerprints, versions, timings, warnings
    descriptions.csv    a row a unit; the first four columns are CLIP-Dissect's
    profile.json        counts by layer and category
    report.html         the page people read
    layers/             with ``--report-dir``: a page for each layer, linked from report.html
    units.safetensors   the arrays behind the labels (:class:`~profiler.profile.labels.LayerLabels`)
    images/             small pictures of the images in some unit's top list

and, where the labels were evaluated,

    quality.csv         a row a unit: held-out prediction and survival of its label
    quality.safetensors the arrays behind them (:class:`~profiler.profile.quality.LayerQuality`)

Everything that follows a run (another threshold, other categories, a rating, a comparison) reads
this folder, never the images again.

A run may also be *imported*: made from somebody else's ``descriptions.csv``. Then
:attr:`Record.source` says from what, and everything the file does not tell is None or empty: the
probe images, the model that read them, the concept set, the similarity, p-values and top images.
"""

import csv
import io
import math
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from profiler.core.arrays import BoolArray, IntArray
from profiler.core.categories import UNKNOWN
from profiler.core.json_text import from_plain, json_text, plain, read_json
from profiler.core.store import remove_file, write_atomically
from profiler.data.concept_sets import ConceptSet
from profiler.data.factors import Factors
from profiler.data.records import ConceptRecord, ExperimentRecord, ProbeRecord
from profiler.errors import InputError, OutputError, first_line
from profiler.llm.base import Usage
from profiler.models.records import SubjectRecord, VLMRecord
from profiler.profile.counts import ModelProfile, count_units
from profiler.profile.drivers import (
    Experiment,
    FollowedCounts,
    Following,
    LayerDrivers,
    count_followed,
    following,
    key_of,
)
from profiler.profile.evaluation import other_labels
from profiler.profile.explain import LayerRange, explained_cut, known_mean
from profiler.profile.labels import KEPT_LABELS, PER_UNIT, LayerLabels
from profiler.profile.outlines import LayerOutlines, Outlines
from profiler.profile.quality import HeldOut, LayerQuality, QualitySummary, Stability, summarise
from profiler.profile.sorting.sorting import Sorting
from profiler.profile.threshold import Threshold
from profiler.profile.variants import Variants
from profiler.profile.word_map import WordMap

FORMAT = 4
"""Version of ``run.json``; 3 did not know which labels other images confirm, 2 had no range
explanations either."""
LAYER_PAGES = "layers"
"""Folder of a run for the pages of its layers."""
SHOWN_IMAGES = 10
"""Most activating images kept a unit for people to look at."""


UNCUT = "No threshold was applied: every unit that has a label counts as interpretable"


@dataclass(frozen=True)
class SimilarityRecord:
    """How labels were scored."""

    name: str
    version: int
    top: int | None
    """Images of a top list that count; None where all images do."""
    top_chosen: str
    """``given`` or ``automatic``."""
    constants: Mapping[str, float]
    """By their usual letters."""
    null_draws: int

    @property
    def text(self) -> str:
        """The formula with its constants, for example ``soft-wpmi (a = 10, λ = 1)``."""
        constants = ", ".join(f"{letter} = {value:g}" for letter, value in self.constants.items())
        return f"{self.name} ({constants})" if constants else self.name


@dataclass(frozen=True)
class SourceRecord:
    """The file an imported run was made from."""

    file: str
    fingerprint: str
    """SHA-256 of the file."""
    rows: int
    ignored: tuple[str, ...]
    """Columns that were not read."""
    unscored: int
    """Rows without a similarity."""
    undescribed: int
    """Rows without a description."""


@dataclass(frozen=True)
class EvaluationRecord:
    """How the quality of the labels was measured."""

    draws: int
    """Times the images were resampled."""
    held_out_share: float
    """Of the images, as asked for."""
    held_out: int
    """Images held out."""
    positive_share: float
    """Of the held-out images, those that count as a unit's most active ones."""
    top: int | None
    """Length of the top lists on the images that were not held out; None where there are none."""
    seed: int


@dataclass(frozen=True)
class OutlineRecord:
    """How it was found where in an image units respond."""

    images: int
    """Images that were read once more for their maps."""
    sampled: int
    """Of them, those whose values decide from where on a value stands out."""
    covered: int
    """Images whose cells were covered one at a time."""
    share: float
    """Of a unit's values on the sample, those that stand out."""


@dataclass(frozen=True)
class Resorting:
    """A later sorting of a finished run, which took the place of the first."""

    command: str
    date: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """Everything needed to repeat a run and to judge it."""

    command: str
    date: str
    subject: SubjectRecord
    vlm: VLMRecord | None
    probe: ProbeRecord | None
    concepts: ConceptRecord | None
    similarity: SimilarityRecord | None
    """These four are None in an imported run."""
    categories: tuple[tuple[str, str], ...]
    """(name, description) of each category."""
    seed: int
    settings: Mapping[str, Any]
    """The options of the command, as given."""
    versions: Mapping[str, str]
    timings: Mapping[str, float]
    """Seconds by stage."""
    warnings: tuple[str, ...]
    """About the data; :attr:`ProfileRun.warnings` adds those about threshold and sorting."""
    source: SourceRecord | None = None
    """Only in an imported run."""
    resorted: Resorting | None = None
    evaluation: EvaluationRecord | None = None
    """Only where the labels were evaluated."""
    experiment: ExperimentRecord | None = None
    """Only where drawn scenes were shown to the network."""
    outlines: OutlineRecord | None = None
    """Only where it was looked at where in an image units respond."""

    @property
    def context(self) -> dict[str, str]:
        """What a threshold for these scores belongs to."""
        if self.source is not None:
            return {"imported": f"{self.source.file} {self.source.fingerprint[:16]}"}
        similarity = self.similarity
        if not (self.vlm and self.probe and self.concepts and similarity):
            return {}
        return {
            "concepts": f"{self.concepts.title} ({self.concepts.count}) "
            f"{self.concepts.fingerprint[:16]}",
            "vlm": f"{self.vlm.name} {self.vlm.fingerprint[:16]}",
            "caption": self.vlm.template,
            "similarity": f"{similarity.text} v{similarity.version}, "
            + (f"top {similarity.top}" if similarity.top else "all images"),
            "probe": f"{self.probe.title} ({self.probe.images}) {self.probe.fingerprint[:16]}",
        }

    @property
    def range_context(self) -> dict[str, str]:
        """What a threshold on the r of range explanations belongs to; never that of a score."""
        context = {name: text for name, text in self.context.items() if name != "similarity"}
        return {**context, "view": "range, r of all words"} if context else {}


@dataclass(frozen=True)
class ProfileRun:
    """A labelled network with its threshold and categories.

    Attributes:
        record: how it was made.
        layers: the labels, in network order.
        concepts: the words the labels index.
        image_names: (N,) names of the probe images the top lists index.
        thumbnails: WebP pictures by image index.
        threshold: which labels are trusted; None where every label is, for want of a cut (only
            in imported runs).
        sorting: the category of each trusted word.
        summary: the finding in words.
        summary_author: who wrote it.
        summary_usage: what writing it cost.
        quality: of the labels, layer by layer; empty where they were not evaluated.
        ranges: what the whole range of each unit follows, layer by layer; empty where that was not
            worked out: in imported runs, and where there were too few images.
        range_threshold: on their r with all words; None where decoys decide.
        drivers: what drives each unit by experiment, layer by layer; empty without one.
        outlines: where in their strongest images units respond; None where that was not looked at.
        variants: scenes with each level in turn; None without an experiment, and in older runs.
        word_map: where the units' words lie by their meaning; None of annotations, of very few
            words, and in older runs.
        whole: the run of which this is one layer; None where this is a whole run.
    """

    record: Record
    layers: tuple[LayerLabels, ...]
    concepts: tuple[str, ...]
    image_names: tuple[str, ...]
    thumbnails: Mapping[int, bytes]
    threshold: Threshold | None
    sorting: Sorting
    summary: str = ""
    summary_author: str = ""
    summary_usage: Usage = field(default_factory=Usage)
    quality: tuple[LayerQuality, ...] = ()
    ranges: tuple[LayerRange, ...] = ()
    range_threshold: Threshold | None = None
    drivers: tuple[LayerDrivers, ...] = ()
    outlines: Outlines | None = None
    variants: Variants | None = None
    word_map: WordMap | None = None
    whole: "ProfileRun | None" = None

    def of_layer(self, place: int) -> "ProfileRun":
        """One layer of this run, judged as in the whole run; its summary is still to be written."""
        one = slice(place, place + 1)
        subject, variants, outlines = self.record.subject, self.variants, self.outlines
        return replace(
            self,
            record=replace(self.record, subject=replace(subject, layers=subject.layers[one])),
            layers=self.layers[one],
            summary="",
            quality=self.quality[one],
            ranges=self.ranges[one],
            drivers=self.drivers[one],
            outlines=outlines and replace(outlines, layers=outlines.layers[one]),
            variants=variants and replace(variants, activations=variants.activations[one]),
            whole=self,
        )

    def trusted(self, layer: LayerLabels) -> BoolArray:
        """(K,) which units of a layer are interpretable."""
        labelled: BoolArray = layer.concept[:, 0] >= 0
        return labelled if self.threshold is None else self.threshold.trusts(layer) & labelled

    def trusted_words(self, layer: LayerLabels) -> list[str]:
        """The labels of the interpretable units of a layer."""
        return [self.concepts[i] for i in layer.concept[self.trusted(layer), 0].tolist()]

    @property
    def usage(self) -> Usage:
        """What the language model has cost, for the sorting and the summary."""
        return self.sorting.usage + self.summary_usage

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything a reader should know before believing the numbers."""
        return (*self.record.warnings, *self._judgement_warnings())

    def _judgement_warnings(self) -> Iterator[str]:
        threshold, sorting = self.threshold, self.sorting
        if threshold is not None and threshold.source == "null" and threshold.fdr is None:
            yield (
                "no threshold keeps the expected share of chance labels at 5%; no label is trusted"
            )
        if threshold is not None and threshold.confirms and threshold.fdr is None:
            yield "no label holds on images that it was not chosen on; no label is trusted"
        if lost := len(sorting.lenient_unknown):
            labels = "1 label" if lost == 1 else f"{lost:,} labels"
            verb = "counts" if lost == 1 else "count"
            yield f"{labels} got no usable reply from {sorting.sorter} and {verb} as unknown"

    def unit_categories(self, layer: LayerLabels) -> list[str | None]:
        """The category of each unit's label; None where it is not trusted."""
        return [
            category if trusted else None
            for category, trusted in zip(
                self.categories_of(layer.concept[:, 0]), self.trusted(layer), strict=True
            )
        ]

    def categories_of(self, concepts: IntArray) -> list[str | None]:
        """The categories of concepts by index; None where there is none, or none is known."""
        known = self.sorting.category
        return [known.get(self.concepts[i]) if i >= 0 else None for i in concepts.tolist()]

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Categories in order; ``unknown`` only where something was sorted there.

        A word without a usable answer counts as unknown whether or not that was a category.
        """
        given = [name for name, _ in self.record.categories]
        used = set(self.sorting.category.values())
        if UNKNOWN in used and UNKNOWN not in given:
            given.append(UNKNOWN)
        return tuple(name for name in given if name != UNKNOWN or name in used)

    @cached_property
    def profile(self) -> ModelProfile:
        """Counts by layer and category."""
        return ModelProfile(
            self.categories,
            tuple(
                count_units(
                    layer.layer,
                    self.unit_categories(layer),
                    layer.dead.tolist(),
                    self.categories,
                    self.categories_of(layer.concept[:, 0]),
                )
                for layer in self.layers
            ),
        )

    @cached_property
    def explained_cut(self) -> float:
        """τ_r: the correlation from which on a unit counts as explained."""
        if self.whole is not None:
            return self.whole.explained_cut
        if self.range_threshold is not None:
            # A threshold trusts what lies above it; here what reaches the cut counts.
            return math.nextafter(self.range_threshold.value, math.inf)
        return explained_cut(self.ranges) if self.ranges else math.inf

    @property
    def unit_words(self) -> list[IntArray]:
        """Of each layer, what its units go by on the map: the leading word, or else the label."""
        layers = self.ranges or self.layers
        return [layer.concept[:, 0] for layer in layers]

    def leading_words(self, layer: LayerRange) -> list[str | None]:
        """The leading word of each unit that is explained; None for the others."""
        return layer.leading_words(self.explained_cut, self.concepts)

    @cached_property
    def range_profile(self) -> ModelProfile | None:
        """Counts by layer and category of the leading word; None without range explanations."""
        if not self.ranges:
            return None
        return ModelProfile(
            self.categories,
            tuple(
                count_units(
                    layer.layer,
                    [word and self.sorting.category[word] for word in self.leading_words(layer)],
                    np.isnan(layer.r[:, 0]).tolist(),
                    self.categories,
                    self.categories_of(layer.concept[:, 0]),
                )
                for layer in self.ranges
            ),
        )

    @cached_property
    def experiment(self) -> Experiment | None:
        """What came of the experiment; None without one."""
        record = self.record.experiment
        if record is None or not self.drivers:
            return None
        return Experiment(self.drivers, Factors.of_levels(record.factors), record.scenes)

    def following(self, place: int, concepts: IntArray) -> list[Following | None]:
        """Whether each unit of a layer follows a word: (K,) indices; None where that is −1."""
        done = self.experiment
        words = [self.concepts[i] if i >= 0 else None for i in concepts.tolist()]
        return following(done.layers[place], words, done.factors) if done else [None] * len(words)

    @property
    def worded_on_scenes(self) -> bool:
        """Whether words were chosen on the experiment's scenes, which then are no test of them."""
        drawn, probe = self.record.experiment, self.record.probe
        return drawn is not None and probe is not None and drawn.fingerprint == probe.fingerprint

    @cached_property
    def followed(self) -> Mapping[str, tuple[FollowedCounts, ...]]:
        """Units that follow their word, by category and layer, of both views.

        ``peak``: trusted labels; ``range``: leading words of explained units.
        """
        if self.experiment is None:
            return {}
        words = {"peak": [np.where(self.trusted(la), la.concept[:, 0], -1) for la in self.layers]}
        if self.ranges:
            words["range"] = [layer.leading(self.explained_cut) for layer in self.ranges]
        return {
            view: tuple(
                count_followed(self.following(place, each), self.categories_of(each))
                for place, each in enumerate(of_layers)
            )
            for view, of_layers in words.items()
        }

    def drivers_json(self) -> dict[str, Any]:
        """Shares of variance by layer with their intervals, and who follows its word."""
        if self.experiment is None:
            return {}
        found = self.experiment.to_json()
        for place, row in enumerate(found["layers"]):
            row["followed"] = {
                view: {
                    category: {each.name.lower(): counts.get(each, 0) for each in Following}
                    for category, counts in layers[place].items()
                }
                for view, layers in self.followed.items()
            }
        return {"drivers": found}

    def explaining(self, layer: LayerRange, unit: int) -> list[tuple[str, float]]:
        """A unit's words with their weights."""
        own = zip(layer.concept[unit].tolist(), layer.weight[unit].tolist(), strict=True)
        return [(self.concepts[concept], weight) for concept, weight in own if concept >= 0]

    def explanation(self, layer: LayerRange, unit: int) -> str:
        """The same as a text: ``yellowish brown 0.35; cherry red 0.35``."""
        return "; ".join(f"{word} {weight:.2f}" for word, weight in self.explaining(layer, unit))

    def _range_json(self) -> dict[str, Any]:
        """What ``profile.json`` says of the range explanations."""
        profile = self.range_profile
        if profile is None:
            return {}
        found = profile.to_json()
        for row, layer in zip(found["layers"], self.ranges, strict=True):
            row |= {"mean_r": known_mean(layer.shown_r), "mean_ceiling": known_mean(layer.ceiling)}
        decided = self.range_threshold.source if self.range_threshold else "decoys"
        return {"range": {**found, "cut": self.explained_cut, "cut_source": decided}}

    def to_json(self) -> dict[str, Any]:
        """What is told of the run as a whole, as plain values; its units are a table."""
        return {
            "threshold": self.threshold.value if self.threshold else None,
            "sorter": self.sorting.sorter,
            "profile": self.profile.to_json(),
            **self._range_json(),
            **self.drivers_json(),
            **({"quality": self.quality_json()} if self.quality else {}),
            "doubtful": dict(self.sorting.doubtful()),
            "usage": self.usage.to_json(),
            "summary": self.summary,
            "warnings": list(self.warnings),
        }

    def quality_json(self) -> dict[str, Any]:
        """Summaries of the quality of the labels, of interpretable units and of all units."""
        masks = [self.trusted(layer) for layer in self.layers]
        evaluation = self.record.evaluation
        return {
            **(plain(evaluation) if evaluation else {}),
            "layers": [
                {
                    "layer": layer.layer,
                    "interpretable": _summary_json(summarise([layer], [mask])),
                    "all": _summary_json(summarise([layer])),
                }
                for layer, mask in zip(self.quality, masks, strict=True)
            ],
            "total": {
                "interpretable": _summary_json(summarise(self.quality, masks)),
                "all": _summary_json(summarise(self.quality)),
            },
        }

    def save(self, folder: Path, pages: Mapping[str, str]) -> None:
        """Write the run and the pages of its report, in place of any run that was there."""
        # From here on, until the record is written, the folder is no finished run.
        kept = {f"{index:06d}.webp" for index in self.thumbnails}
        stale = [path for path in (folder / "images").glob("*.webp") if path.name not in kept]
        for path in (*(folder / name for name in ("run.json", *_QUALITY_FILES)), *stale):
            remove_file(path)
        _remove_pages(folder, pages)
        _write_pictures(folder / "images", self.thumbnails)
        write_atomically(folder / "units.safetensors", _pack(self))
        if self.quality:
            csv_file, arrays_file = _QUALITY_FILES
            write_atomically(folder / csv_file, self.quality_csv())
            write_atomically(folder / arrays_file, _pack_quality(self.quality))
        for name, content in {**pages, **self.judged_files()}.items():
            write_atomically(folder / name, content)

    def replace_judgement(self, folder: Path, pages: Mapping[str, str]) -> None:
        """Write what follows from threshold and categories into the folder of this very run.

        Either every file is replaced or, where anything fails, none: all are written beside
        before the first takes its place, and what was there is put back if one cannot.
        """
        files = {**pages, **self.judged_files()}
        staged = folder / f".staged-{secrets.token_hex(8)}"
        try:
            for name, content in files.items():
                write_atomically(staged / name, content)
            _swap(folder, staged, tuple(files))
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        _remove_pages(folder, pages)

    def judged_files(self) -> dict[str, str]:
        """The files that depend on threshold and categories, by name.

        The record says that the folder is complete, so it comes last.
        """
        profile = json_text({**self.profile.to_json(), **self._range_json(), **self.drivers_json()})
        return {
            "descriptions.csv": self.descriptions_csv(),
            "profile.json": profile,
            "run.json": self._json(),
        }

    def descriptions_csv(self) -> str:
        """The content of ``descriptions.csv``; the same run gives the same bytes."""
        header = ["layer", "unit", "description", "similarity"]
        header += ["interpretable", "dead", "category", "p_value"]
        for place in range(2, KEPT_LABELS + 1):
            header += [f"description_{place}", f"similarity_{place}"]
        header += ["explanation", "explanation_r", "explanation_ceiling", "explained"]
        header += ["confirmed_z"]
        if self.experiment:
            header += [f"driver_{key_of(name)}" for name in self.experiment.factors.names]
            header += ["followed", "explanation_followed"]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for place, (layer, info) in enumerate(
            zip(self.layers, self.record.subject.layers, strict=True)
        ):
            ranges = self._range_cells(self.ranges[place]) if self.ranges else None
            driven = self._driver_cells(place)
            trusted = self.trusted(layer)
            categories = self.unit_categories(layer)
            for unit in range(layer.units):
                labels = [
                    (self.concepts[concept] if concept >= 0 else "", _number(score))
                    for concept, score in zip(layer.concept[unit], layer.score[unit], strict=True)
                ]
                labels += [("", "")] * (KEPT_LABELS - len(labels))
                writer.writerow(
                    [
                        layer.layer,
                        info.number(unit),
                        *labels[0],
                        int(trusted[unit]),
                        # An imported file does not say which units never vary.
                        "" if self.record.source else int(layer.dead[unit]),
                        categories[unit] or "",
                        _number(layer.p_value[unit]),
                        *(cell for label in labels[1:] for cell in label),
                        *(ranges[unit] if ranges else [""] * 4),
                        _number(layer.confirmed_z[unit]) if len(layer.confirmed_z) else "",
                        *driven[unit],
                    ]
                )
        return file.getvalue()

    def _range_cells(self, layer: LayerRange) -> list[list[str]]:
        """The four columns of a layer's explanations; empty for a unit that does not vary."""
        explained = layer.explained(self.explained_cut)
        return [
            [self.explanation(layer, unit), _number(r), _number(ceiling), str(int(explained[unit]))]
            if not math.isnan(r)
            else [""] * 4
            for unit, (r, ceiling) in enumerate(zip(layer.shown_r, layer.ceiling, strict=True))
        ]

    def _driver_cells(self, place: int) -> list[list[str]]:
        """A layer's shares of variance, and whether units follow label and leading word: 1 or 0."""
        if self.experiment is None:
            return [[]] * self.layers[place].units
        label = self.layers[place].concept[:, 0]
        leading = self.ranges[place].concept[:, 0] if self.ranges else np.full_like(label, -1)
        told = (self.following(place, label), self.following(place, leading))
        return [
            [*map(_number, shares), *(_FOLLOWED.get(each, "") for each in own)]
            for shares, *own in zip(self.drivers[place].share.tolist(), *told, strict=True)
        ]

    def quality_csv(self) -> str:
        """The content of ``quality.csv``; the same run gives the same bytes."""
        header = ["layer", "unit", "description", "held_out_description"]
        header += ["correlation", "auprc", "chance", "positives", "survival", "lost"]
        for place in range(1, KEPT_LABELS + 1):
            header += [f"other_{place}", f"draws_{place}"]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)

        def word(concept: int) -> str:
            return self.concepts[concept] if concept >= 0 else ""

        for layer, info in zip(self.quality, self.record.subject.layers, strict=True):
            held, stability = layer.held_out, layer.stability
            chance, survival = held.chance, stability.survival
            for unit, label in enumerate(layer.label):
                others = [(word(other), str(draws)) for other, draws in other_labels(layer, unit)]
                others += [("", "")] * (KEPT_LABELS - len(others))
                writer.writerow(
                    [
                        layer.layer,
                        info.number(unit),
                        word(label),
                        word(held.label[unit]),
                        _number(held.correlation[unit]),
                        _number(held.auprc[unit]),
                        _number(chance[unit]),
                        held.positives[unit] or "",
                        _number(survival[unit]),
                        stability.lost[unit] if label >= 0 else "",
                        *(cell for other in others for cell in other),
                    ]
                )
        return file.getvalue()

    def _json(self) -> str:
        content = {
            "format": FORMAT,
            "record": self.record,
            "threshold": self.threshold,
            **({"range_threshold": self.range_threshold} if self.range_threshold else {}),
            "sorting": self.sorting,
            "summary": self.summary,
            "summary_author": self.summary_author,
            "summary_usage": self.summary_usage,
            # For people and scripts; what follows from the rest is not read back.
            "usage": self.usage.to_json(),
            "warnings": self.warnings,
            "concepts": self.concepts,
            "images": self.image_names,
        }
        return json_text(content)


def _write_pictures(folder: Path, pictures: Mapping[int, bytes]) -> None:
    def write(item: tuple[int, bytes]) -> None:
        index, picture = item
        path = folder / f"{index:06d}.webp"
        if not path.exists() or path.read_bytes() != picture:
            write_atomically(path, picture)

    # Each waits a millisecond or more for the disk, so several wait at a time.
    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(write, pictures.items()):
            pass  # an error is raised here


def _remove_pages(folder: Path, kept: Mapping[str, str]) -> None:
    """Remove the pages of layers that an earlier report left, but those that are kept."""
    for path in (folder / LAYER_PAGES).glob("*.html"):
        if f"{LAYER_PAGES}/{path.name}" not in kept:
            remove_file(path)
    with suppress(OSError):  # the user's own files may lie there
        (folder / LAYER_PAGES).rmdir()


def _swap(folder: Path, staged: Path, names: Sequence[str]) -> None:
    """Let the staged files take the place of those in ``folder``: all or none."""
    kept = staged / "kept"
    done: list[str] = []
    try:
        for name in names:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).parent.mkdir(exist_ok=True)
            if (folder / name).exists():
                shutil.copy2(folder / name, kept / name)
        for name in names:
            (staged / name).replace(folder / name)
            done.append(name)
    except BaseException as error:
        for name in done:
            with suppress(OSError):
                if (kept / name).exists():
                    (kept / name).replace(folder / name)
                else:
                    (folder / name).unlink()
        if isinstance(error, OSError):
            raise OutputError(
                f"cannot write to {str(folder)!r}: {error.strerror or error}; the run is unchanged"
            ) from error
        raise


_FOLLOWED: Mapping[Following | None, str] = {Following.FOLLOWED: "1", Following.NOT_FOLLOWED: "0"}
"""In a table; what is not testable has an empty cell."""


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


_ARRAYS = tuple(array.name for array in fields(LayerLabels) if array.name != "layer")


def _pack(run: ProfileRun) -> bytes:
    arrays: dict[str, Any] = {}
    for place, layer in enumerate(run.layers):
        shown = replace(
            layer,
            top_images=layer.top_images[:, :SHOWN_IMAGES],
            top_activations=layer.top_activations[:, :SHOWN_IMAGES],
        )
        arrays |= {f"{place}.{name}": getattr(shown, name) for name in _ARRAYS}
    outlines = run.outlines.layers if run.outlines else ()
    more: dict[str, Sequence[LayerRange | LayerDrivers | LayerOutlines]] = {
        "range": run.ranges, "driver": run.drivers, "outline": outlines
    }  # fmt: skip
    for kind, found in more.items():
        for place, each in enumerate(found):
            arrays |= {f"{place}.{kind}.{name}": own for name, own in each.to_arrays().items()}
    if run.outlines:
        arrays |= {"outline.images": run.outlines.images, "outline.frames": run.outlines.frames}
    for kind, extra in {"variants": run.variants, "map": run.word_map}.items():
        if extra:
            arrays |= {f"{kind}.{name}": own for name, own in extra.to_arrays().items()}
    return save({name: np.ascontiguousarray(values) for name, values in arrays.items()})


_WRITERS = 8
_QUALITY_FILES = ("quality.csv", "quality.safetensors")
_MEASURED: dict[str, type[HeldOut] | type[Stability]] = {
    "held_out": HeldOut,
    "permuted": HeldOut,
    "stability": Stability,
}


def _pack_quality(layers: Sequence[LayerQuality]) -> bytes:
    arrays = {}
    for place, layer in enumerate(layers):
        arrays[f"{place}.label"] = layer.label
        for part in _MEASURED:
            for name, values in vars(getattr(layer, part)).items():
                arrays[f"{place}.{part}.{name}"] = np.asarray(values)
    return save({name: np.array(values, order="C") for name, values in arrays.items()})


def _unpack_quality(content: bytes, names: Sequence[str]) -> tuple[LayerQuality, ...]:
    # Runs of earlier versions have another name for it.
    arrays = {name.replace(".dealt.", ".permuted."): each for name, each in load(content).items()}

    def part(place: int, name: str) -> Any:
        kind = _MEASURED[name]
        found = {each.name: arrays[f"{place}.{name}.{each.name}"] for each in fields(kind)}
        # A number of its own was kept as an array without axes.
        values: dict[str, Any] = {key: x if x.ndim else x.item() for key, x in found.items()}
        return kind(**values)

    return tuple(
        LayerQuality(
            layer, arrays[f"{place}.label"], **{name: part(place, name) for name in _MEASURED}
        )
        for place, layer in enumerate(names)
    )


def _summary_json(summary: QualitySummary) -> dict[str, Any]:
    return {
        **plain(summary),
        "survival": summary.survival,
        "stable_share": summary.stable_share,
        "repeated_share": summary.repeated_share,
    }


def load_run(folder: Path | str) -> ProfileRun:
    """Read a finished run back; raises :class:`InputError` where the folder is none."""
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise InputError(f"{str(folder)!r} is not a finished run: 'run.json' is missing")
    content = read_json(folder / "run.json", "run", (2, 3, FORMAT))
    try:
        run = _from_json(content, folder)
        _check_arrays(run)
    except FileNotFoundError as error:
        raise InputError(
            f"{str(folder)!r} is not a finished run: {Path(str(error.filename)).name!r} is missing"
        ) from error
    except KeyError as error:
        raise InputError(f"the run in {str(folder)!r} is damaged: it has no {error}") from error
    except (OSError, TypeError, AttributeError, SafetensorError, ValueError) as error:
        raise InputError(f"the run in {str(folder)!r} is damaged: {first_line(error)}") from error
    return run


def _from_json(content: Mapping[str, Any], folder: Path) -> ProfileRun:
    record = from_plain(Record, content["record"])
    arrays = load((folder / "units.safetensors").read_bytes())
    names = [layer.name for layer in record.subject.layers]
    threshold, on_r = content["threshold"], content.get("range_threshold")
    return ProfileRun(
        record,
        tuple(
            LayerLabels(
                layer,
                **{
                    name: arrays[key]
                    for name in _ARRAYS
                    if (key := f"{place}.{name}") in arrays or name != "confirmed_z"
                },
            )
            for place, layer in enumerate(names)
        ),
        from_plain(tuple[str, ...], content["concepts"]),
        from_plain(tuple[str, ...], content["images"]),
        {
            int(path.stem): path.read_bytes()
            for path in sorted((folder / "images").glob("*.webp"))
            if path.stem.isdecimal()
        },
        None if threshold is None else from_plain(Threshold, threshold),
        from_plain(Sorting, content["sorting"]),
        from_plain(str, content["summary"]),
        from_plain(str, content["summary_author"]),
        from_plain(Usage, content.get("summary_usage", {})),
        _unpack_quality((folder / _QUALITY_FILES[1]).read_bytes(), names)
        if record.evaluation
        else (),
        tuple(
            LayerRange.from_arrays(layer, arrays, f"{place}.range.")
            for place, layer in enumerate(names)
            if f"{place}.range.r" in arrays
        ),
        None if on_r is None else from_plain(Threshold, on_r),
        tuple(
            LayerDrivers.from_arrays(
                layer, tuple(record.experiment.factors), arrays, f"{place}.driver."
            )
            for place, layer in enumerate(names)
        )
        if record.experiment
        else (),
        _outlines(names, arrays) if record.outlines else None,
        Variants.from_arrays(len(names), arrays, "variants.")
        if "variants.base" in arrays
        else None,
        WordMap.from_arrays(arrays, "map."),
    )


def _outlines(names: Sequence[str], arrays: Mapping[str, Any]) -> Outlines:
    layers = tuple(
        LayerOutlines.from_arrays(layer, arrays, f"{place}.outline.")
        for place, layer in enumerate(names)
    )
    return Outlines(layers, arrays["outline.images"], arrays["outline.frames"])


def _check_arrays(run: ProfileRun) -> None:
    """Raise ValueError where the arrays are those of another run."""
    for layer, info in zip(run.layers, run.record.subject.layers, strict=True):
        known = [name for name in PER_UNIT if name != "confirmed_z" or len(layer.confirmed_z)]
        if {len(getattr(layer, name)) for name in known} != {info.units}:
            raise ValueError(f"units.safetensors does not have the units of layer {layer.layer!r}")
        if layer.concept.max(initial=-1) >= len(run.concepts) or (
            layer.top_images.max(initial=-1) >= len(run.image_names)
        ):
            raise ValueError(
                f"units.safetensors names concepts or images of layer {layer.layer!r} that "
                "run.json does not know"
            )
        for word in run.trusted_words(layer):
            if word not in run.sorting.category:
                raise ValueError(f"run.json has no category for the trusted label {word!r}")
    for ranges, info in zip(run.ranges, run.record.subject.layers, strict=False):
        if len(ranges.r) != info.units or ranges.concept.max(initial=-1) >= len(run.concepts):
            raise ValueError(f"units.safetensors does not explain the units of {ranges.layer!r}")
        for word in filter(None, run.leading_words(ranges)):
            if word not in run.sorting.category:
                raise ValueError(f"run.json has no category for the leading word {word!r}")
    for drivers, info in zip(run.drivers, run.record.subject.layers, strict=False):
        if drivers.units != info.units:
            raise ValueError(f"units.safetensors does not have the drivers of {drivers.layer!r}")
    for outlines, info in zip(
        run.outlines.layers if run.outlines else (), run.record.subject.layers, strict=False
    ):
        if (
            len(outlines.rings) != info.units
            or len(outlines.points) != outlines.rings.clip(0).sum()
            or len(outlines.places) != outlines.points.sum()
        ):
            raise ValueError(f"units.safetensors does not outline the units of {outlines.layer!r}")


FROM_RUN = 40
"""Labels taken from a profile, at most."""


def attributes_of(run: ProfileRun) -> ConceptSet:
    """The labels that most trusted units of a profile have, those of most units first.

    Raises:
        InputError: fewer than two labels are trusted.
    """
    units: Counter[str] = Counter()
    for layer in run.layers:
        units.update(run.trusted_words(layer))
    words = tuple(word for word, _ in units.most_common(FROM_RUN))
    if len(words) < 2:
        raise InputError(
            f"the run of {run.record.subject.name} has {len(words)} trusted label(s); concepts "
            "are compared in pairs, so name some with --concepts"
        )
    title = f"the {len(words)} most frequent labels of {run.record.subject.name}'s units"
    return ConceptSet(title, words, (None,) * len(words))
