"""The profile report: what each unit stands for, layer by layer."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from profiler.core.arrays import FloatArray
from profiler.core.text import file_name
from profiler.errors import OutputError
from profiler.profile.charts import ScoreAxis, Word, histogram, stacked_bar, swatches
from profiler.profile.counts import LayerProfile
from profiler.profile.drivers_view import DriversView
from profiler.profile.labels import LayerLabels
from profiler.profile.outlines_view import outline_data
from profiler.profile.page import Doubt, doubtful, profile_prose, shape_text
from profiler.profile.quality_view import QualityView
from profiler.profile.range_view import RangeView
from profiler.profile.result import LAYER_PAGES, UNCUT, ProfileRun
from profiler.profile.threshold import Threshold
from profiler.report import document
from profiler.report.charts import DEAD, UNINTERPRETABLE, StackedBar, Swatch, query
from profiler.report.columns import LETTERS, Index, encoded, lettered, rounded, significant
from profiler.report.text import count, decimals, number, percent, plural, probability

LABELS_SHOWN = 10
"""Labels kept of a unit: the best one and the next."""

IMAGES_SHOWN = 9
"""Most activating images kept of a unit."""

OPEN_LAYERS = 24
"""With more layers than this the layer sections start closed and the bars are drawn thin."""

FREQUENT_LABELS = 12
"""Labels listed beside the distribution of a layer."""


def render_profile(run: ProfileRun, *, max_mb: float = 20.0) -> str:
    """Render the report of a run as one self-contained HTML page of at most ``max_mb`` · 10⁶ bytes.

    Thumbnails yield first: if not all fit, every unit keeps its most activating images before any
    unit gets its next one, units with high scores first, and the page says how many were left out.
    Raises :class:`~profiler.errors.OutputError` if the page is too large even without any.
    """
    return _rendered(_View(run), max_mb)


def render_pages(
    run: ProfileRun, parts: Sequence[ProfileRun], *, max_mb: float = 20.0
) -> dict[str, str]:
    """Render the report of a run as a main page and a page for each layer.

    The main page holds every unit with its words, but neither pictures nor outlines nor what drives
    single units; all of that is on the pages of the layers, which are as :func:`render_profile`
    makes them of a run of one layer.

    Args:
        run: the whole run.
        parts: its layers (:meth:`~profiler.profile.result.ProfileRun.of_layer`), in order.
        max_mb: the most megabytes (10⁶ bytes) of any page.

    Returns:
        HTML by the path of the file in the folder of the run, ``report.html`` first.

    Raises:
        OutputError: a page is too large even without thumbnails.
    """
    names = [layer.layer for layer in run.layers]
    files = [
        f"{LAYER_PAGES}/{place:0{len(str(len(names)))}}-{file_name(name)[:80]}.html"
        for place, name in enumerate(names, 1)
    ]
    pages = {"report.html": _rendered(_View(run, files=files), max_mb)}
    for place, (file, part) in enumerate(zip(files, parts, strict=True)):
        near = [
            (f"{way} layer: {names[i]}", Path(files[i]).name)
            for way, i in (("Previous", place - 1), ("Next", place + 1))
            if 0 <= i < len(names)
        ]
        up = [("All layers", "../report.html"), *near]
        pages[file] = _rendered(_View(part, up=up), max_mb)
    return pages


def _rendered(view: "_View", max_mb: float) -> str:
    run = view.run
    limit = int(max_mb * document.MEGABYTE)
    extra = [
        *(["profile/quality"] if run.quality else []),
        *(["profile/range"] if run.ranges else []),
        *(["profile/outlines"] if view.outlines else []),
        *(["profile/map"] if run.word_map else []),
        # Comes last, as its part of an opened row comes first.
        *(["profile/drivers"] if run.drivers else []),
    ]
    bare = document.render("profile/profile.html", extra=extra, **view.context(_NO_THUMBNAILS))
    room = limit - document.size(bare) - _NOTE_BYTES
    if room < 0:
        raise OutputError(
            f"the report needs {(limit - room) / document.MEGABYTE:.1f} MB without any thumbnail, "
            f"more than the limit of {max_mb:g} MB; raise the limit"
            + (
                " or profile fewer layers"
                if view.split
                else ", write a page for each layer with --report-dir, or profile fewer layers"
            )
        )
    if view.files:
        return bare
    thumbnails = _choose_thumbnails(view, room, max_mb)
    return document.render("profile/profile.html", extra=extra, **view.context(thumbnails))


# -- what the templates print ------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    swatch: Swatch
    count: int


@dataclass(frozen=True)
class _Layer:
    id: str
    name: str
    about: str
    """Kind and shape, as far as they are known."""
    profile: LayerProfile
    bar: StackedBar
    cells: tuple[_Cell, ...]
    histogram: dict[str, Any] | None
    finding: str
    """What the distribution shows."""
    nothing: str
    """Why there is no distribution, where there is none."""
    evidence: str
    """How random image lists score in this layer."""
    frequent: tuple[Word, ...]
    distinct: int
    unlisted: int
    median: str
    null_above: str
    labels: LayerLabels
    categories: list[str | None]
    """Per unit the category of its best label; None where that is not trusted or the unit dead."""
    numbers: Sequence[int]
    """The units' numbers, where they are not 0, 1, 2 …"""


@dataclass(frozen=True)
class _Thumbnails:
    data: dict[str, str]
    note: str


_NO_THUMBNAILS = _Thumbnails({}, "")
_NOTE_BYTES = 1_000
"""Kept free for the note on thumbnails left out."""


class _View:
    """Everything the template prints, worked out once; it knows the attributes by their names.

    Args:
        run: whose page this is.
        files: on the main page of several: the page of each layer.
        up: on the page of a layer: links to the main page and to the layers beside it.
    """

    def __init__(
        self,
        run: ProfileRun,
        files: Sequence[str] = (),
        up: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.run, self.files, self.up = run, files, up
        self.split = bool(files or up)
        self.imported = run.record.source is not None
        self.styles = swatches(run.categories)
        scores = [_best_scores(labels) for labels in run.layers]
        threshold = run.threshold
        self.confirms = threshold is not None and threshold.confirms
        evidence = (
            [threshold.evidence(labels) for labels in run.layers]
            if threshold and threshold.confirms
            else scores
        )
        nulls = [
            NORMAL if self.confirms else np.asarray(labels.null_scores, float)
            for labels in run.layers
        ]
        finite = _joined(scores)
        finite = finite[np.isfinite(finite)]
        self.digits = decimals(float(np.ptp(finite)) if finite.size else 0.0)
        self.scored = bool(finite.size)
        self.cut = threshold is not None
        self.tau_value = threshold.value if threshold else -math.inf
        self.places = 2 if self.confirms else self.digits
        self.letter = threshold.letter if threshold else "τ"
        self.tau = number(self.tau_value, self.places) if self.cut else ""
        axis = ScoreAxis.around(evidence, nulls, self.tau_value, self.places, self.letter)
        self.layers = [
            self._layer(i, labels, axis, evidence[i], nulls[i])
            for i, labels in enumerate(run.layers)
        ]
        ids = [layer.id for layer in self.layers]
        self.all_scores = (
            histogram(axis, _joined(evidence), _joined(nulls), "all layers") if axis else None
        )
        self.images = _images_needed(run)
        self.image_index = Index()
        self.drivers = DriversView(run.experiment, run) if run.experiment else None
        self.quality = QualityView(run, ids) if run.quality else None
        ranges = run.range_profile
        self.ranges = RangeView(run, ranges, self.styles, ids) if ranges else None
        dead = [labels.dead for labels in run.layers]
        outlines = None if files else run.outlines
        self.outlines = outline_data(outlines, dead, IMAGES_SHOWN) if outlines else None

    def _layer(
        self,
        index: int,
        labels: LayerLabels,
        axis: ScoreAxis | None,
        evidence: FloatArray,
        null: FloatArray,
    ) -> _Layer:
        info, profile = self.run.record.subject.layers[index], self.run.profile.layers[index]
        categories = self.run.unit_categories(labels)
        finite = evidence[np.isfinite(evidence)]
        above = int((null > self.tau_value).sum())
        trusted = self._trusted_labels(labels, categories)
        return _Layer(
            id=f"layer-{index + 1}",
            name=labels.layer,
            about=" · ".join(filter(None, (info.kind, shape_text(info)))),
            profile=profile,
            bar=stacked_bar(profile, self.styles, named=False),
            cells=self._cells(profile),
            histogram=histogram(axis, evidence, null, labels.layer)
            if axis and finite.size
            else None,
            finding=self._finding(profile, finite.size),
            nothing=self._nothing(profile),
            evidence="" if self.imported or self.confirms else _null_evidence(above, null.size),
            frequent=trusted[:FREQUENT_LABELS],
            distinct=len(trusted),
            unlisted=len(trusted[FREQUENT_LABELS:]),
            median=number(float(np.median(finite)), self.places) if finite.size else "–",
            null_above=(
                f"{percent(above, null.size, 1)}, {count(above)} of {count(null.size)}"
                if null.size
                else "–"
            ),
            labels=labels,
            categories=categories,
            numbers=info.numbers,
        )

    def _finding(self, profile: LayerProfile, scores: int) -> str:
        if not scores:
            return "No unit has a score"
        if not self.cut:
            return f"Scores of {plural(scores, 'unit')}"
        share = percent(profile.interpretable, profile.units)
        if self.confirms:
            return f"{share} of the units have a label that holds on other images"
        return f"{share} of the units score above τ"

    def _nothing(self, profile: LayerProfile) -> str:
        if not profile.units:
            return "This layer has no units."
        if self.imported:
            return "The imported file holds no scores for this layer."
        return (
            "Every unit is dead: its activation is the same on every probe image. There is "
            "nothing to label."
        )

    def _trusted_labels(
        self, labels: LayerLabels, categories: Sequence[str | None]
    ) -> tuple[Word, ...]:
        """List the labels of interpretable units, the most frequent first, then by best score."""
        by_score = np.argsort(-np.nan_to_num(labels.score[:, 0], nan=-np.inf), kind="stable")
        best = [
            (int(labels.concept[unit, 0]), categories[unit])
            for unit in by_score.tolist()
            if categories[unit] is not None and labels.concept[unit, 0] >= 0
        ]
        return tuple(
            Word(self.run.concepts[concept], self.styles[str(category)], units)
            for (concept, category), units in Counter(best).most_common()
        )

    def _cells(self, profile: LayerProfile) -> tuple[_Cell, ...]:
        parts = [(swatch, profile.counts.get(name, 0)) for name, swatch in self.styles.items()]
        parts.append((UNINTERPRETABLE, profile.uninterpretable))
        if not self.imported:
            parts.append((DEAD, profile.dead))
        return tuple(_Cell(swatch, units) for swatch, units in parts)

    def context(self, thumbnails: _Thumbnails) -> dict[str, Any]:
        run, total = self.run, self.run.profile.total
        ranges = self.ranges.layers if self.ranges else [None] * len(self.layers)
        return {
            **vars(self),
            "page": profile_prose(run),
            "context": run.threshold.context if run.threshold else {},
            "kind": "Profile of units",
            "tiles": [
                *([self.drivers.tile()] if self.drivers else []),
                *(self.ranges.tiles() if self.ranges else []),
                *self._tiles(total),
                *(self.quality.tiles() if self.quality else []),
            ],
            "doubts": [*_doubts(total, self.confirms), *([] if self.cut else [f"{UNCUT}."])],
            "total": total,
            "whole": stacked_bar(replace(total, layer="All layers"), self.styles, named=True),
            "parts": self._cells(total),
            "headline": _headline(run.profile.layers, total)
            if self.cut
            else _uncut_headline(total),
            "doubtful": self._doubtful(),
            "thin": len(self.layers) > OPEN_LAYERS,
            "meaning": run.threshold.meaning if run.threshold else "",
            "source": _source(run.threshold) if run.threshold else "",
            "plain_rows": self.plain_rows,
            "data": self._data,
            "map": self._map(),
            "range_data": self.ranges.data(None if self.files else self.image_index)
            if self.ranges
            else None,
            "words": list(zip(self.layers, ranges, strict=True)),
            "range_parts": self._cells(self.ranges.total) if self.ranges else (),
            "pale": any(
                layer.below
                for profile in (run.profile, run.range_profile)
                if profile
                for layer in profile.layers
            ),
            "thumbnails": thumbnails,
        }

    def _map(self) -> dict[str, Any] | None:
        """Where the words of units lie, with their categories, for the script."""
        found, run = self.run.word_map, self.run
        if found is None:
            return None
        codes = {name: code for code, name in enumerate(self.styles)}
        known = run.sorting.category
        words = [run.concepts[i] for i in found.concept.tolist()]
        return {
            "letters": LETTERS,
            "words": words,
            "category": [codes.get(known.get(word, ""), -1) for word in words],
            "place": lettered(found.place, 0, 1, 2),
        }

    def _tiles(self, total: LayerProfile) -> list[tuple[str, str, str]]:
        distinct = {
            int(best)
            for layer in self.layers
            for best, category in zip(layer.labels.concept[:, 0], layer.categories, strict=True)
            if category is not None and best >= 0
        }
        threshold = self.run.threshold
        tiles = [
            (
                "Interpretable units" if threshold else "Units with a label",
                percent(total.interpretable, total.units),
                f"{count(total.interpretable)} of {count(total.units)}",
            ),
            (
                "Distinct labels",
                count(len(distinct)),
                "among interpretable units" if threshold else f"in {plural(total.units, 'unit')}",
            ),
            (
                "Dead units",
                percent(total.dead, total.units),
                f"{count(total.dead)} of {count(total.units)}",
            ),
            (f"Threshold {self.letter}", self.tau, _source(threshold))
            if threshold
            else ("Threshold τ", "none", "every unit that has a label counts"),
        ]
        # No image was seen, so nothing is known of units that never vary.
        return [tile for tile in tiles if tile[0] != "Dead units" or not self.imported]

    def _doubtful(self) -> list[tuple[Doubt, Swatch, str]]:
        """Each doubtful word with its swatch and the query that shows its units."""
        return [
            (doubt, self.styles[doubt.category], query(q=f'"{doubt.word}"'))
            for doubt in doubtful(self.run)
        ]

    def plain_rows(self, layer: _Layer) -> Iterator[tuple[int, str, str, str, str, str]]:
        """Yield unit, label, score, p-value or z, category and survival, without JavaScript.

        Survival is empty where it was not measured.
        """
        labels, numbers = layer.labels, layer.numbers
        index = self.layers.index(layer)
        for place, category in enumerate(layer.categories):
            unit = numbers[place] if numbers else place
            survival = self.quality.survival(index, place) if self.quality else ""
            if labels.dead[place]:
                yield unit, "–", "–", "–", DEAD.name, survival
            else:
                best = int(labels.concept[place, 0])
                yield (
                    unit,
                    self.run.concepts[best] if best >= 0 else "–",
                    number(float(labels.score[place, 0]), self.digits),
                    number(float(labels.confirmed_z[place]), 2)
                    if self.confirms
                    else probability(float(labels.p_value[place])),
                    UNINTERPRETABLE.name if category is None else category,
                    survival,
                )

    @property
    def _data(self) -> dict[str, Any]:
        """The units as columns, for the script."""
        concepts, images = Index(), self.image_index
        codes = {name: code for code, name in enumerate(self.styles)}
        layers = []
        for layer in self.layers:
            labels = layer.labels
            n_labels = min(labels.concept.shape[1], LABELS_SHOWN)
            n_images = 0 if self.files else min(labels.top_images.shape[1], IMAGES_SHOWN)
            alive = ~np.asarray(labels.dead, bool)
            layers.append(
                {
                    "id": layer.id,
                    "name": layer.name,
                    "labels": n_labels,
                    "images": n_images,
                    "category": [
                        -2 if dead else -1 if category is None else codes[category]
                        for category, dead in zip(layer.categories, labels.dead, strict=True)
                    ],
                    **(
                        {"z": rounded(labels.confirmed_z, 2)}
                        if self.confirms
                        else {"p": significant(labels.p_value)}
                    ),
                    "concept": concepts.put(labels.concept[alive, :n_labels].ravel().tolist()),
                    "score": rounded(labels.score[alive, :n_labels].ravel(), self.digits + 1),
                    "top": images.put(labels.top_images[alive, :n_images].ravel().tolist()),
                    "activation": significant(labels.top_activations[alive, :n_images].ravel()),
                    **({"numbers": list(layer.numbers)} if layer.numbers else {}),
                }
            )
        return {
            # The script marks it among the scores.
            "tau": self.tau_value if math.isfinite(self.tau_value) and not self.confirms else None,
            "scored": self.scored,
            "imported": self.imported,
            "tauText": "" if self.confirms else self.tau,
            "confirms": self.confirms,
            "digits": self.digits,
            "categories": [[s.name, s.css, s.texture] for s in self.styles.values()],
            "concepts": [self.run.concepts[i] for i in concepts.order],
            "images": [self.run.image_names[i] for i in images.order],
            "imageIndex": images.order,
            **({"pages": list(self.files)} if self.files else {}),
            "layers": layers,
        }


def _best_scores(labels: LayerLabels) -> FloatArray:
    """Take the score of each unit's label; NaN where the unit is dead."""
    return np.where(labels.dead, np.nan, labels.score[:, 0].astype(float))


def _joined(arrays: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate(arrays) if arrays else np.zeros(0)


# -- words -------------------------------------------------------------------------------------


NORMAL = norm.ppf((np.arange(2000) + 0.5) / 2000)
"""What z is by chance."""


def _source(threshold: Threshold) -> str:
    if threshold.confirms:
        return "from images that took no part in choosing labels; false-discovery rate 5 %"
    if threshold.source == "null":
        if threshold.fdr is None:
            return "from random image lists"
        false = percent(threshold.fdr, 1, digits=1).replace(".0", "")
        return f"from random image lists; estimated share of false labels {false}"
    return "from human ratings" if threshold.source == "ratings" else "given, not calibrated here"


def _null_evidence(above: int, lists: int) -> str:
    if not lists:
        return "No random image lists were scored in this layer."
    if not above:
        return f"None of {count(lists)} random image lists scored in this layer is above τ."
    return (
        f"Of {count(lists)} random image lists scored in this layer, {count(above)} "
        f"({percent(above, lists, 1)}) {'is' if above == 1 else 'are'} above τ."
    )


def _doubts(total: LayerProfile, confirms: bool) -> list[str]:
    """Say what stands where a conclusion would, when the data cannot carry one."""
    if not total.units:
        return ["No unit was examined."]
    if total.dead == total.units:
        return ["Every unit is dead: its activation is the same on every probe image."]
    if not total.interpretable:
        none = "No label holds on other images" if confirms else "No unit scores above τ"
        return [f"{none}. Shares of categories by peak labels cannot be read from this run."]
    return []


def _uncut_headline(total: LayerProfile) -> str:
    """Where every labelled unit counts, only the categories are a finding."""
    if not total.interpretable:
        return "No unit has a label"
    name, units = max(total.counts.items(), key=lambda item: item[1])
    return f"The most frequent category is {name}: {percent(units, total.units)} of the units"


def _headline(layers: Sequence[LayerProfile], total: LayerProfile) -> str:
    """Say what the overview shows, as its title."""
    if not total.interpretable:
        return "No unit is interpretable"
    text = f"{percent(total.interpretable, total.units)} of the units are interpretable"
    filled = [layer for layer in layers if layer.units]
    low = min(layer.interpretable_share for layer in filled)
    high = max(layer.interpretable_share for layer in filled)
    if low == high:
        return text
    return f"{text}: fewest in {_layers_at(low, filled)}, most in {_layers_at(high, filled)}"


def _layers_at(share: float, layers: Sequence[LayerProfile]) -> str:
    found = [layer for layer in layers if layer.interpretable_share == share]
    where = found[0].layer if len(found) == 1 else f"{len(found)} layers"
    return f"{where} ({percent(found[0].interpretable, found[0].units)})"


# -- thumbnails --------------------------------------------------------------------------------


def _images_needed(run: ProfileRun) -> list[list[int]]:
    """List for each rank the images at it, those of the units with the highest scores first.

    Images from the units' whole range come after those that activate them most.
    """
    ranks: list[list[tuple[float, int]]] = [[] for _ in range(IMAGES_SHOWN)]
    for labels in run.layers:
        for unit in np.flatnonzero(~np.asarray(labels.dead, bool)):
            score = float(labels.score[unit, 0])
            for rank, image in enumerate(labels.top_images[unit, :IMAGES_SHOWN].tolist()):
                if image >= 0:
                    ranks[rank].append((-score, image))
    ranked = [[image for _, image in sorted(found)] for found in ranks]
    if run.ranges:
        shown = np.concatenate([layer.images for layer in run.ranges if len(layer.images)])
        ranked += [[image for image in rank.tolist() if image >= 0] for rank in shown.T]
    return ranked


def _choose_thumbnails(view: _View, room: int, max_mb: float) -> _Thumbnails:
    """Choose as many thumbnails as fit into ``room`` bytes, and a note if some do not."""
    run, ranks = view.run, view.images
    wanted = list(dict.fromkeys(image for rank in ranks for image in rank))
    data, left_out = encoded(wanted, run.thumbnails, room)
    at_hand = len(data) + left_out
    notes = []
    if left_out:
        whole = 0
        for rank in ranks[:IMAGES_SHOWN]:
            if any(image in run.thumbnails and str(image) not in data for image in rank):
                break
            whole += 1
        kept = (
            f"Every unit has its {plural(whole, 'most activating image')}, and units with high "
            "scores have more."
            if whole
            else "Units with high scores came first."
        )
        notes.append(
            f"{count(left_out)} of {count(at_hand)} thumbnails were left out "
            f"to keep this file below {max_mb:g} MB. {kept} The others are given by name."
            + ("" if view.split else " With --report-dir each layer has a page of its own.")
        )
    if missing := len(wanted) - at_hand:
        notes.append(
            f"{plural(missing, 'image')} came without a thumbnail and "
            f"{'is' if missing == 1 else 'are'} given by name."
        )
    return _Thumbnails(data, " ".join(notes))
