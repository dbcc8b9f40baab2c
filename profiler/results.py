"""A finished run: what it is, and the folder that holds it.

::

    run.json            how the run was made: settings, fingerprints, versions, timings, warnings
    descriptions.csv    a row a unit; the first four columns are CLIP-Dissect's
    profile.json        counts by layer and category
    report.html         the page people read
    units.safetensors   the arrays behind the labels (:class:`~profiler.labels.LayerLabels`)
    images/             small pictures of the images in some unit's top list

Everything that follows a run (another threshold, other categories, a rating, a comparison) reads
this folder, never the images again.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from profiler.ask import Sorting
from profiler.errors import InputError
from profiler.labels import KEPT_LABELS, BoolArray, LayerLabels, Threshold
from profiler.layer_profile import UNKNOWN, ModelProfile, count_units
from profiler.store import write_atomically

FORMAT = 1
"""Version of ``run.json``."""
SHOWN_IMAGES = 10
"""Most activating images kept a unit for people to look at."""


@dataclass(frozen=True)
class LayerRecord:
    """A layer as ``run.json`` names it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    units: int
    pooling: str


@dataclass(frozen=True)
class SubjectRecord:
    """The network under study."""

    name: str
    weights: str
    preprocessing: str
    fingerprint: str
    layers: tuple[LayerRecord, ...]


@dataclass(frozen=True)
class VLMRecord:
    """The vision-language model."""

    name: str
    template: str
    limits: str
    fingerprint: str


@dataclass(frozen=True)
class ProbeRecord:
    """The probe images that were read, and those that were not."""

    title: str
    images: int
    fingerprint: str
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ConceptRecord:
    """The concept set."""

    title: str
    count: int
    fingerprint: str
    dropped: int


@dataclass(frozen=True)
class SimilarityRecord:
    """How labels were scored."""

    name: str
    version: int
    top: int
    top_chosen: str
    """``given`` or ``automatic``."""
    temperature: float
    prior_weight: float
    null_draws: int


@dataclass(frozen=True)
class Record:
    """Everything needed to repeat a run and to judge it."""

    command: str
    date: str
    subject: SubjectRecord
    vlm: VLMRecord
    probe: ProbeRecord
    concepts: ConceptRecord
    similarity: SimilarityRecord
    categories: tuple[tuple[str, str], ...]
    """(name, description) of each category."""
    seed: int
    settings: Mapping[str, Any]
    """The options of the command, as given."""
    versions: Mapping[str, str]
    timings: Mapping[str, float]
    """Seconds by stage."""
    warnings: tuple[str, ...]

    @property
    def context(self) -> dict[str, str]:
        """What a threshold for these scores belongs to."""
        similarity = self.similarity
        return {
            "concepts": f"{self.concepts.title} ({self.concepts.count}) "
            f"{self.concepts.fingerprint[:16]}",
            "vlm": f"{self.vlm.name} {self.vlm.fingerprint[:16]}",
            "caption": self.vlm.template,
            "similarity": f"{similarity.name} v{similarity.version}, top {similarity.top}, "
            f"a {similarity.temperature:g}, λ {similarity.prior_weight:g}",
            "probe": f"{self.probe.title} ({self.probe.images}) {self.probe.fingerprint[:16]}",
        }


@dataclass(frozen=True)
class ProfileRun:
    """A labelled network with its threshold and categories.

    Attributes:
        record: how it was made.
        layers: the labels, in network order.
        concepts: the words the labels index.
        image_names: (N,) names of the probe images the top lists index.
        thumbnails: WebP pictures by image index.
        threshold: which labels are trusted.
        sorting: the category of each trusted word.
        summary: the finding in words.
        summary_author: who wrote it.
    """

    record: Record
    layers: tuple[LayerLabels, ...]
    concepts: tuple[str, ...]
    image_names: tuple[str, ...]
    thumbnails: Mapping[int, bytes]
    threshold: Threshold
    sorting: Sorting
    summary: str = ""
    summary_author: str = ""

    def trusted(self, layer: LayerLabels) -> BoolArray:
        """(K,) which units of a layer are interpretable."""
        return self.threshold.trusts(layer)

    def unit_categories(self, layer: LayerLabels) -> list[str | None]:
        """The category of each unit's label; None where it is not trusted."""
        return [
            self.sorting.category[self.concepts[concept]] if trusted else None
            for concept, trusted in zip(layer.concept[:, 0], self.trusted(layer), strict=True)
        ]

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Categories in order; ``unknown`` only where something was sorted there."""
        given = [name for name, _ in self.record.categories]
        used = set(self.sorting.category.values())
        return tuple(name for name in given if name != UNKNOWN or name in used)

    @cached_property
    def profile(self) -> ModelProfile:
        """Counts by layer and category."""
        return ModelProfile(
            self.categories,
            tuple(
                count_units(
                    layer.layer, self.unit_categories(layer), layer.dead.tolist(), self.categories
                )
                for layer in self.layers
            ),
        )

    def save(self, folder: Path) -> None:
        """Write everything but the report, in place of any run that was there."""
        # From here on, until the record is written, the folder is no finished run.
        (folder / "run.json").unlink(missing_ok=True)
        for path in (folder / "images").glob("*.webp"):
            if int(path.stem) not in self.thumbnails:
                path.unlink()
        for index, picture in self.thumbnails.items():
            path = folder / "images" / f"{index:06d}.webp"
            if not path.exists() or path.read_bytes() != picture:
                write_atomically(path, picture)
        write_atomically(folder / "units.safetensors", _pack(self.layers))
        write_atomically(folder / "descriptions.csv", self.descriptions_csv())
        write_atomically(
            folder / "profile.json",
            json.dumps(self.profile.to_json(), indent=1, ensure_ascii=False),
        )
        # The record says that the folder is complete, so it comes last.
        write_atomically(folder / "run.json", self._json())

    def descriptions_csv(self) -> str:
        """The content of ``descriptions.csv``; the same run gives the same bytes."""
        header = ["layer", "unit", "description", "similarity"]
        header += ["interpretable", "dead", "category", "p_value"]
        for place in range(2, KEPT_LABELS + 1):
            header += [f"description_{place}", f"similarity_{place}"]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for layer in self.layers:
            trusted = self.trusted(layer)
            categories = self.unit_categories(layer)
            for unit in range(layer.units):
                labels = [
                    (self.concepts[concept] if concept >= 0 else "", _number(score))
                    for concept, score in zip(layer.concept[unit], layer.score[unit], strict=True)
                ]
                writer.writerow(
                    [
                        layer.layer,
                        unit,
                        *labels[0],
                        int(trusted[unit]),
                        int(layer.dead[unit]),
                        categories[unit] or "",
                        _number(layer.p_value[unit]),
                        *(cell for label in labels[1:] for cell in label),
                    ]
                )
        return file.getvalue()

    def _json(self) -> str:
        content = {
            "format": FORMAT,
            "record": TypeAdapter(Record).dump_python(self.record, mode="json"),
            "threshold": TypeAdapter(Threshold).dump_python(self.threshold, mode="json"),
            "sorting": TypeAdapter(Sorting).dump_python(self.sorting, mode="json"),
            "summary": self.summary,
            "summary_author": self.summary_author,
            "concepts": self.concepts,
            "images": self.image_names,
        }
        return json.dumps(content, indent=1, ensure_ascii=False)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


_ARRAYS = tuple(field.name for field in fields(LayerLabels) if field.name != "layer")


def _pack(layers: Sequence[LayerLabels]) -> bytes:
    arrays = {}
    for place, layer in enumerate(layers):
        shown = replace(
            layer,
            top_images=layer.top_images[:, :SHOWN_IMAGES],
            top_activations=layer.top_activations[:, :SHOWN_IMAGES],
        )
        for name in _ARRAYS:
            arrays[f"{place}.{name}"] = np.ascontiguousarray(getattr(shown, name))
    return save(arrays)


def load_run(folder: Path | str) -> ProfileRun:
    """Read a finished run back; raises :class:`InputError` where the folder is none."""
    folder = Path(folder)
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise InputError(
                f"{str(folder)!r} holds a run of format {content.get('format')!r}; this version "
                f"reads format {FORMAT}"
            )
        record = TypeAdapter(Record).validate_python(content["record"])
        arrays = load((folder / "units.safetensors").read_bytes())
        return ProfileRun(
            record,
            tuple(
                LayerLabels(layer.name, **{name: arrays[f"{i}.{name}"] for name in _ARRAYS})
                for i, layer in enumerate(record.subject.layers)
            ),
            tuple(content["concepts"]),
            tuple(content["images"]),
            {
                int(path.stem): path.read_bytes()
                for path in sorted((folder / "images").glob("*.webp"))
            },
            TypeAdapter(Threshold).validate_python(content["threshold"]),
            TypeAdapter(Sorting).validate_python(content["sorting"]),
            content["summary"],
            content["summary_author"],
        )
    except FileNotFoundError as error:
        raise InputError(
            f"{str(folder)!r} is not a finished run: {Path(str(error.filename)).name!r} is missing"
        ) from error
    except (OSError, KeyError, TypeError, ValidationError, SafetensorError, ValueError) as error:
        raise InputError(
            f"the run in {str(folder)!r} is damaged: {str(error).splitlines()[0]}"
        ) from error
