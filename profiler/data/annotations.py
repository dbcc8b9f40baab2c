"""Annotations of probe images: attributes that take the place of what a VLM would see.

``--concepts annotations:NAME`` reads them. NAME is

- ``truth``: the words that are true of each built-in scene;
- ``folders``: the class folder, of the first level, that an image lies in;
- a table (:class:`~profiler.data.image_tables.ImageTable`) of paths, as the probe folder or the
  table itself has them, and one column of numbers an attribute, or a column ``tags`` (or
  ``words``) of attributes separated by semicolons or bars, beside which no other is read.

Images that the annotations say nothing of are left out of the probe set, for to count them as
having no attribute would be a guess. An attribute that is the same on all images is left out too.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from profiler.core.arrays import FloatArray
from profiler.core.text import listed, tidy
from profiler.data.concept_sets import ConceptSet, open_concepts
from profiler.data.image_tables import ImageTable
from profiler.data.images import SCENES, ImageFolder, ProbeSet, SyntheticProbe, as_text
from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.color import COLORS
from profiler.data.synthetic.design import FACTORS, ExperimentScenes, name_of
from profiler.data.synthetic.materials import MATERIALS
from profiler.data.synthetic.patterns import PATTERNS
from profiler.data.synthetic.shapes import SHAPES
from profiler.errors import InputError, UsageError

log = logging.getLogger("profiler")

PREFIX = "annotations:"
TRUTH, FOLDERS = f"{PREFIX}truth", f"{PREFIX}folders"
_TAGS = ("tags", "words")


@dataclass(frozen=True, eq=False)
class Annotations:
    """Attributes of N images.

    Attributes:
        title: how a reader knows them, with :data:`PREFIX`.
        words: the M attributes.
        values: (N, M) float32: 0 and 1, or any numbers; no column is constant.
        notes: what a reader of the results should know, a sentence each.
    """

    title: str
    words: tuple[str, ...]
    values: FloatArray
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over attributes and values."""
        total = hashlib.sha256("\n".join(self.words).encode() + b"\0")
        total.update(np.ascontiguousarray(self.values, dtype="<f4").tobytes())
        return total.hexdigest()

    @property
    def concepts(self) -> ConceptSet:
        """The attributes as concepts."""
        return ConceptSet(self.title, self.words, (None,) * len(self.words))


def is_annotated(concepts: str) -> bool:
    """Whether ``--concepts`` names annotations."""
    return concepts.startswith(PREFIX)


def check_annotations(concepts: str, probe: str) -> None:
    """Refuse what can be seen to be wrong without reading an image."""
    if (concepts == TRUTH) != (probe in SCENES):
        raise UsageError(
            f"--concepts {concepts} and --probe {probe} do not go together: the truth is that of "
            "the built-in scenes, --probe synthetic, and these have no other annotations"
        )
    if concepts not in (TRUTH, FOLDERS):
        _read(Path(concepts.removeprefix(PREFIX)))


def annotate(concepts: str, probe: ProbeSet) -> tuple[ProbeSet, Annotations]:
    """The annotated images of a probe set, and their attributes.

    Raises:
        InputError: no image is annotated, or no attribute differs between images; of a table also
            that it cannot be read, or a cell is no number.
    """
    found: list[Mapping[str, float] | None]
    if isinstance(probe, SyntheticProbe | ExperimentScenes):
        scenes = probe.scenes if isinstance(probe, SyntheticProbe) else probe
        true = [dict.fromkeys(scenes.words(i), 1.0) for i in range(len(scenes))]
        return probe, _of(concepts, true, ())
    if not isinstance(probe, ImageFolder):
        raise InputError(f"--concepts {concepts} needs a folder of images")
    if concepts == FOLDERS:
        found = [{name.split("/", 1)[0]: 1.0} if "/" in name else None for name in probe.names]
        lacking = "lie in no class folder"
    else:
        path = Path(concepts.removeprefix(PREFIX))
        found = _matched(_read(path), path, probe)
        lacking = f"have no row in {path.name}"
        concepts = PREFIX + path.name
    annotated = [place for place, each in enumerate(found) if each is not None]
    notes: tuple[str, ...] = ()
    if not annotated:
        raise InputError(f"the images of {probe.title!r} {lacking}: none is annotated")
    if left_out := len(found) - len(annotated):
        notes = (f"{left_out} of {len(found)} probe images {lacking} and were left out",)
        probe = replace(probe, files=tuple(probe.files[place] for place in annotated))
    return probe, _of(concepts, [each for each in found if each is not None], notes)


def _of(title: str, found: Sequence[Mapping[str, float]], notes: Sequence[str]) -> Annotations:
    """The attributes in order of first appearance, those that no image tells apart left out."""
    every = tuple(dict.fromkeys(word for each in found for word in each))
    place = {word: column for column, word in enumerate(every)}
    exact = np.zeros((len(found), len(every)))
    for row, each in zip(exact, found, strict=True):
        for word, value in each.items():
            row[place[word]] = value
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{title}: numbers above {np.finfo(np.float32).max:.1e} are no attributes")
    varies = (values != values[:1]).any(axis=0)
    if not varies.any():
        raise InputError(f"{title}: no attribute differs between the {len(found)} annotated images")
    constant = [word for word, kept in zip(every, varies, strict=True) if not kept]
    if constant:
        same = f"{len(constant)} attributes are" if constant[1:] else "1 attribute is"
        notes = (*notes, f"{same} the same on all images and left out: {listed(constant)}")
    words = tuple(word for word, kept in zip(every, varies, strict=True) if kept)
    return Annotations(title, words, values[:, varies], tuple(notes))


# --- tables ----------------------------------------------------------------------------------


def _read(path: Path) -> list[tuple[int, str, Mapping[str, float]]]:
    """Of each row its line, its path as it stands there, and its attributes."""
    rows = ImageTable.read(path)
    table = rows.table
    if tags := next(filter(table.has, _TAGS), ""):
        return list(zip(rows.lines, rows.paths, map(_tags, table.cells(tags)), strict=True))
    if not rows.names:
        raise InputError(
            f"{path.name}, line {table.first}: no column of an attribute, and none of tags"
        )
    found: list[dict[str, float]] = [{} for _ in rows.paths]
    for name in rows.names:
        cells = zip(found, rows.lines, table.cells(name), table.numbers(name), strict=True)
        for values, line, cell, value in cells:
            if value is None:
                raise InputError(
                    f"{path.name}, line {line}, column {name!r}: {cell[:40]!r} is no number"
                )
            values[name] = value
    return list(zip(rows.lines, rows.paths, found, strict=True))


def _tags(cell: str) -> dict[str, float]:
    return dict.fromkeys(filter(None, map(tidy, re.split(r"[;|]", cell))), 1.0)


def _matched(
    rows: Sequence[tuple[int, str, Mapping[str, float]]], path: Path, probe: ImageFolder
) -> list[Mapping[str, float] | None]:
    """The attributes of each probe image; None where no row is about it."""
    place = {name: i for i, name in enumerate(probe.names)}
    found: list[Mapping[str, float] | None] = [None] * len(place)
    lines: dict[int, int] = {}
    for line, name, attributes in rows:
        spelled = as_text(name).removeprefix("./")
        beside = os.path.relpath(path.parent / spelled, probe.folder).replace(os.sep, "/")
        i = place.get(spelled, place.get(as_text(beside)))
        if i is None:
            continue
        if i in lines:
            raise InputError(
                f"{path.name}: {name!r} stands there twice (lines {lines[i]} and {line})"
            )
        lines[i], found[i] = line, attributes
    if not lines:
        raise InputError(
            f"{path.name}: none of its {len(rows)} paths is one of the {len(place)} probe images, "
            f"such as {probe.names[0]!r}; the first is {rows[0][1]!r}"
        )
    log.info("%s: %d of its %d paths are probe images", path.name, len(lines), len(rows))
    return found


# --- the built-in scenes ---------------------------------------------------------------------


@cache
def known_categories(concepts: str) -> Mapping[str, str]:
    """The category of each word of a concept set that knows them itself: the scenes' truth.

    >>> known = known_categories("annotations:truth")
    >>> [known[word] for word in ("red", "striped", "wooden", "star", "forest", "trees")]
    ['color', 'texture', 'material', 'object', 'scene', 'scene']
    """
    if concepts != TRUTH:
        return {}
    visual = open_concepts("visual")
    by_eye = dict(zip(visual.words, visual.categories, strict=True))
    beside = [word for background in BACKGROUNDS.values() for word in background.words]
    return {
        **{word: by_eye.get(word) or "scene" for word in beside},
        **dict.fromkeys(BACKGROUNDS, "scene"),
        **dict.fromkeys(SHAPES, "object"),
        **dict.fromkeys(MATERIALS, "material"),
        **dict.fromkeys(PATTERNS, "texture"),
        **dict.fromkeys(COLORS, "color"),
        **{
            name_of(factor, level): "color"
            for factor in ("background color", "light", "tint")
            for level in FACTORS[factor]
        },
    }
