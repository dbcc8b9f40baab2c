"""The comparison of two or more runs: what changed, beyond what noise alone would change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from profiler.compare.charts import DifferenceAxis, RunBar, scale, short_names
from profiler.compare.drivers_view import DriversComparison
from profiler.compare.growth_view import GrowthView, step_text
from profiler.compare.pair_view import STATES, PairView
from profiler.compare.result import ALPHA, ComparedLayer, ComparedRun, Comparison
from profiler.errors import OutputError
from profiler.profile.charts import stacked_bar, swatches
from profiler.profile.counts import LayerProfile
from profiler.report import document
from profiler.report.charts import Swatch
from profiler.report.columns import Index, encoded, rounded, significant
from profiler.report.text import NOTHING, count, decimals, number, percent, plural

BARS_SHOWN = 6
"""With more runs the overview draws the first and the last; the timeline has those between."""

THIN_BARS = 24
"""With more bars than this they are drawn thin."""

WHOLE = "All layers"

DETAILS = ((5, 9), (5, 4), (3, 0), (1, 0))
"""Labels and images kept of a unit; where a page would be too large, the next."""


@dataclass(frozen=True)
class ComparePage:
    """Everything the comparison needs; it computes nothing but layout."""

    title: str
    examined: Sequence[tuple[str, str]]
    """(term, text) pairs of what all runs share: probe images, VLM, concepts, date."""
    run_examined: Sequence[Sequence[tuple[str, str]]]
    """For each run (term, text) pairs of its own: model, weights. The page adds layers, units, τ
    and the interpretable share; and the run's title and step, unless pairs are called Model and
    Step."""
    summary: Sequence[str]
    """Two or three sentences (plain text) that state the finding."""
    summary_author: str
    comparison: Comparison
    image_names: Sequence[str]
    """(N,) names of the probe images, by index; the same for all runs."""
    thumbnails: Mapping[int, bytes]
    """WebP bytes by probe-image index, of all runs; images without one are shown by name."""
    cut_story: Sequence[str]
    """Sentences on the common threshold, or on the runs' own ones."""
    prior_story: Sequence[str]
    """Sentences on what the concept priors refer to."""
    noise_story: Sequence[str]
    """Sentences on the noise floor and the tests."""
    sorter_story: Sequence[str]
    """Sentences that say who sorted the labels into categories."""
    command: str
    provenance: Sequence[tuple[str, str]]
    limits: Sequence[str]
    warnings: Sequence[str]


def render_compare(page: ComparePage, *, max_mb: float = 20.0) -> str:
    """Render the comparison as one self-contained HTML page of at most ``max_mb`` · 10⁶ bytes.

    Thumbnails yield first, those of the most activating images last; then the less activating
    images and the next labels of units; the page says what was left out. Raises
    :class:`~profiler.errors.OutputError` if it is too large even then.
    """
    view = _View(page)
    limit = int(max_mb * document.MEGABYTE)
    room = -1
    for labels, images in DETAILS:
        data, ranks = view.data(labels, images)
        kept = _detail_note(labels, images)
        bare = _rendered(view, data, {}, kept)
        room = limit - document.size(bare) - _NOTE_BYTES
        if room >= 0:
            break
    if room < 0:
        raise OutputError(
            f"the comparison needs {(limit - room) / document.MEGABYTE:.1f} MB without any "
            f"picture, more than the limit of {max_mb:g} MB; raise the limit or compare fewer runs "
            "or layers"
        )
    wanted = [image for rank in ranks for image in rank]
    thumbnails, left_out = encoded(wanted, page.thumbnails, room)
    notes = [kept] if kept else []
    if left_out:
        notes.append(
            f"{count(left_out)} of {count(left_out + len(thumbnails))} thumbnails were left out "
            f"to keep this file below {max_mb:g} MB; those images are given by name."
        )
    missing = len({image for image in wanted if image not in page.thumbnails})
    if missing:
        notes.append(
            f"{plural(missing, 'image')} came without a thumbnail and "
            f"{'is' if missing == 1 else 'are'} given by name."
        )
    return _rendered(view, data, thumbnails, " ".join(notes))


def _moved_words(words: Sequence[tuple[str, int, int]]) -> str:
    """Words with the units they lead before and after."""
    each = (f"{word} ({count(before)} → {count(after)})" for word, before, after in words)
    return ", ".join(each) or NOTHING


def _signed(value: float) -> str:
    return f"+{number(value, 2)}" if round(value, 2) > 0 else number(value, 2)


_NOTE_BYTES = 1_000
"""Kept free for the notes on what was left out."""


def _rendered(view: "_View", data: dict[str, Any], thumbnails: dict[str, str], note: str) -> str:
    return document.render(
        "compare/compare.html",
        extra=("compare/compare",),
        **view.context(),
        data=data,
        thumbnails=thumbnails,
        left_out=note,
    )


def _detail_note(labels: int, images: int) -> str:
    if (labels, images) == DETAILS[0]:
        return ""
    return (
        f"To keep this file small, units have {plural(labels, 'label')} and "
        f"{plural(images, 'image') if images else 'no images'} each; the runs’ own reports have "
        "all of them."
    )


# -- what the template prints ------------------------------------------------------------------


class _View:
    """Everything the template prints but the units, worked out once."""

    def __init__(self, page: ComparePage) -> None:
        self.page = page
        self.comparison = found = page.comparison
        self.styles = _styles(found)
        self.digits = _score_digits(found)
        values = [
            value
            for pair in found.pairs
            for layer in pair.layers
            for share in layer.shares
            if share.before or share.after
            for value in (share.low, share.high, share.noise)
        ]
        self.axis = DifferenceAxis.around(values)
        most = max(
            (
                value
                for pair in found.pairs
                for layer in pair.layers
                for value in (layer.divergence, layer.divergence_noise)
                if math.isfinite(value)
            ),
            default=0.0,
        )
        self.most_divergence = next((top for top in (0.05, 0.1, 0.2, 0.5) if most <= top), 1.0)
        self.pairs = [
            PairView(found, i, self.styles, self.axis, self.most_divergence)
            for i in range(len(found.pairs))
        ]
        self.layer_names = merged([[layer.name for layer in run.layers] for run in found.runs])
        self.short, self.front, self.back = short_names(self.layer_names)
        self.growth = (
            GrowthView(found, self.short, self.styles)
            if found.timeline or len(found.runs) > 2
            else None
        )

    def context(self) -> dict[str, Any]:
        found = self.comparison
        shown = self._shown_runs()
        return {
            "page": self.page,
            "kind": "Comparison of runs",
            "comparison": found,
            "tiles": self._tiles(),
            "doubts": self._doubts(),
            "run_terms": self._run_terms(),
            "run_rows": self._run_rows(),
            "titled": "Model" not in self._run_terms(),
            "headline": self._headline(),
            "parts": [*self.styles.values()],
            "groups": [
                (
                    WHOLE,
                    [self._bar(each, replace(each.profile.total, layer=WHOLE)) for each in shown],
                ),
                *(
                    (name, [self._bar(each, each.counts(name)) for each in shown])
                    for name in self.layer_names
                ),
            ],
            "short": {**self.short, WHOLE: WHOLE},
            "shortened": self._shortened(),
            "between": len(found.runs) - len(shown),
            "thin": len(shown) * len(self.layer_names) > THIN_BARS,
            "cut": self._cut(),
            "alpha": ALPHA,
            "letter": self.letter,
            "meaning": "its label holds on images that it was not chosen on"
            if self.letter == "z"
            else "its label scores above τ",
            "pairs": self.pairs,
            "axis": self.axis,
            "most_divergence": number(self.most_divergence, 2),
            "scale": scale(),
            "growth": self.growth,
            "ranges": self._ranges(),
            "drivers": self._drivers(shown),
        }

    def _drivers(self, shown: Sequence[ComparedRun]) -> DriversComparison | None:
        """What drives the layers, if all networks were shown the same scenes."""
        if not self.comparison.pairs[-1].drivers:
            return None
        places = self.growth.places if self.growth else ()
        return DriversComparison(self.comparison, shown, self.short, places)

    def _ranges(self) -> dict[str, Any] | None:
        """The range explanations of the first and the last run, layer by layer."""
        pair = self.comparison.pairs[-1]
        changes = pair.ranges
        if not changes:
            return None
        changed = [each for each in changes if each.beyond_chance]
        if not changed:
            headline = "A few words predict the units as well as before"
        else:
            most = max(changed, key=lambda each: abs(each.r.value))
            verb = "better" if most.r.value > 0 else "worse"
            headline = (
                f"A few words predict the units of {most.layer} {verb}: mean r "
                f"{number(most.r_before, 2)}, then {number(most.r_after, 2)}"
            )
        return {
            "headline": headline,
            "before": self.comparison.runs[pair.before].name,
            "after": self.comparison.runs[pair.after].name,
            "rows": [
                {
                    "layer": each.layer,
                    "r_before": number(each.r_before, 2),
                    "r_after": number(each.r_after, 2),
                    "change": _signed(each.r.value),
                    "interval": f"{_signed(each.r.low)} to {_signed(each.r.high)}",
                    "beyond": each.beyond_chance,
                    "explained": f"{count(each.explained_before)} → {count(each.explained_after)}",
                    "words_before": ", ".join(each.words_before) or NOTHING,
                    "words_after": ", ".join(each.words_after) or NOTHING,
                    "gained": _moved_words(each.gained),
                    "lost": _moved_words(each.lost),
                }
                for each in changes
            ],
        }

    # -- words -----------------------------------------------------------------------------------

    @property
    def letter(self) -> str:
        """What the evidence that is cut is called."""
        return self.comparison.runs[0].threshold.letter

    def tau(self, run: ComparedRun) -> str:
        """The run's threshold as printed."""
        return number(run.threshold.value, 2 if run.threshold.confirms else self.digits)

    def _cut(self) -> str:
        """The sentence on τ; with own thresholds it stands on every chart."""
        runs = self.comparison.runs
        if not self.comparison.own_thresholds:
            return f"All runs are cut at {self.letter} = {self.tau(runs[0])}."
        each = [f"{run.name} {self.tau(run)}" for run in runs]
        if len(each) > BARS_SHOWN:
            each = [*each[:2], "…", each[-1]]
        return f"Each run is cut at a {self.letter} of its own: {', '.join(each)}."

    def _doubts(self) -> list[str]:
        """What stands where a conclusion would, when the data cannot carry one."""
        found = self.comparison
        doubts = []
        if not any(pair.layers for pair in found.pairs):
            doubts.append(
                "These runs have no layer in common: shares, words and units cannot be put side "
                "by side."
            )
        elif not found.draws:
            doubts.append(
                "No noise floor: activations were not kept, so it is unknown whether a "
                "difference exceeds that between two samples of the images."
            )
        if not any(run.profile.total.interpretable for run in found.runs):
            doubts.append(
                f"No unit of any run is above {self.letter}: their labels and categories cannot "
                "be compared."
            )
        if found.own_thresholds:
            doubts.append(
                "The runs are cut at different thresholds: a share may differ because the cut does."
            )
        if found.prior == "own":
            doubts.append(
                "Each run’s labels come from a concept prior of its own: a label may differ "
                "because other units do."
            )
        return doubts

    def _headline(self) -> str:
        """What the bars show, as their title."""
        shares = [run.profile.total.interpretable_share for run in self.comparison.runs]
        first, last = self.comparison.runs[0], self.comparison.runs[-1]
        total, other = first.profile.total, last.profile.total
        if len(shares) > 2 and not self.comparison.timeline:
            low, high = min(shares), max(shares)
            if low == high:
                return f"{percent(low, 1)} of the units are interpretable in every run"
            return (
                f"{percent(low, 1)} to {percent(high, 1)} of the units are interpretable, most in "
                f"{self.comparison.runs[int(np.argmax(shares))].name}"
            )
        if total.interpretable_share == other.interpretable_share:
            share = percent(total.interpretable, total.units)
            return f"{share} of the units are interpretable in both"
        return (
            f"Interpretable units: {percent(total.interpretable, total.units)} in {first.name}, "
            f"{percent(other.interpretable, other.units)} in {last.name}"
        )

    def _range_tile(self) -> list[tuple[str, str, str]]:
        totals = [run.range_total for run in (self.comparison.runs[0], self.comparison.runs[-1])]
        known = [total for total in totals if total]
        if len(known) < 2:
            return []
        shares = " → ".join(percent(total.interpretable, total.units) for total in known)
        return [("Units explained", shares, "by a few words, over their whole range")]

    def _tiles(self) -> list[tuple[str, str, str]]:
        found = self.comparison
        ends = (found.runs[0], found.runs[-1])
        totals = [run.profile.total for run in ends]
        tiles = [
            (
                "Interpretable units",
                " → ".join(percent(total.interpretable, total.units) for total in totals),
                " → ".join(f"{count(t.interpretable)} of {count(t.units)}" for t in totals),
            ),
            *self._range_tile(),
        ]
        over = f", over {plural(len(found.pairs), 'pair')}" if len(found.pairs) > 1 else ""
        shares = [share for pair in found.pairs for la in pair.layers for share in la.shares]
        if shares:
            verdict = "changed" if found.draws else "unknown"
            beyond = sum(share.verdict == verdict for share in shares)
            tiles.append(
                (
                    "Shares changed beyond noise" if found.draws else "Shares that differ",
                    f"{count(beyond)} of {count(len(shares))}",
                    f"by layer and category{over}, at q ≤ {ALPHA:g}"
                    + ("" if found.draws else "; no noise floor"),
                )
            )
        kept, both = (sum(each) for each in zip(*(p.kept_units for p in self.pairs), strict=True))
        if both:
            tiles.append(
                (
                    "Labels kept",
                    percent(kept, both),
                    f"{count(kept)} of {count(both)} matched units interpretable in both{over}",
                )
            )
        taus = sorted({self.tau(run) for run in found.runs}, key=len)
        tiles.append(
            ("Threshold", "own", "a cut for each run, so shares rest on different cuts")
            if found.own_thresholds
            else (f"Threshold {self.letter}", taus[0], "the same for all runs")
        )
        return tiles

    def _shortened(self) -> str:
        """What the … in names of layers stands for."""
        said = []
        if self.front:
            said.append(f"before a name “{self.front}”")
        if self.back:
            said.append(f"after it “{self.back}”")
        return f"The … in a layer’s name stands for: {', '.join(said)}." if said else ""

    # -- runs ------------------------------------------------------------------------------------

    def _run_terms(self) -> list[str]:
        return list(dict.fromkeys(term for pairs in self.page.run_examined for term, _ in pairs))

    def _run_rows(self) -> list[dict[str, Any]]:
        terms = self._run_terms()
        rows = []
        for run, pairs in zip(self.comparison.runs, self.page.run_examined, strict=True):
            total, said = run.profile.total, dict(pairs)
            rows.append(
                {
                    "name": run.name,
                    "title": run.title,
                    "step": "" if run.step is None or "Step" in terms else step_text(run.step),
                    "said": [said.get(term, NOTHING) for term in terms],
                    "layers": count(len(run.layers)),
                    "units": count(total.units),
                    "tau": self.tau(run),
                    "share": percent(total.interpretable, total.units),
                    "counts": f"{count(total.interpretable)} of {count(total.units)}",
                }
            )
        return rows

    # -- bars ------------------------------------------------------------------------------------

    def _shown_runs(self) -> list[ComparedRun]:
        runs = list(self.comparison.runs)
        return runs if len(runs) <= BARS_SHOWN else [runs[0], runs[-1]]

    def _bar(self, run: ComparedRun, layer: LayerProfile | None) -> RunBar:
        if layer is None:
            return RunBar(run.name, None)
        named = replace(layer, layer=f"{layer.layer}, {run.name}")
        return RunBar(
            run.name,
            stacked_bar(named, self.styles, named=layer.layer == WHOLE),
            percent(layer.interpretable, layer.units),
            f"{count(layer.interpretable)} of {count(layer.units)}",
        )

    # -- units, for the script -------------------------------------------------------------------

    def data(self, labels: int, images: int) -> tuple[dict[str, Any], list[list[int]]]:
        """The units of all runs as columns, and for each rank the images at it."""
        concepts, shown = Index(), Index()
        ranks: list[list[int]] = [[] for _ in range(images)]
        codes = {name: code for code, name in enumerate(self.styles)}
        runs = []
        for run in self.comparison.runs:
            layers = []
            for layer in run.layers:
                layers.append(self._unit_columns(layer, labels, images, codes, concepts, shown))
                for rank, top in enumerate(layer.labels.top_images.T[:images]):
                    ranks[rank] += top[top >= 0].tolist()
            runs.append(
                {
                    "name": run.name,
                    "title": run.title,
                    "letter": run.threshold.letter,
                    "tau": self.tau(run),
                    "layers": layers,
                }
            )
        found = self.comparison
        return {
            "digits": self.digits,
            "categories": [[s.name, s.css, s.texture] for s in self.styles.values()],
            "states": list(STATES),
            "short": {name: short for name, short in self.short.items() if name != short},
            "places": self.growth.places if self.growth else [],
            "concepts": [found.concepts[i] for i in concepts.order],
            "images": [self.page.image_names[i] for i in shown.order],
            "imageIndex": shown.order,
            "runs": runs,
            "pairs": [self._pair_columns(pair) for pair in self.pairs],
        }, ranks

    def _unit_columns(
        self,
        layer: ComparedLayer,
        labels: int,
        images: int,
        codes: Mapping[str, int],
        concepts: Index,
        shown: Index,
    ) -> dict[str, Any]:
        found = layer.labels
        labels = min(labels, found.concept.shape[1])
        images = min(images, found.top_images.shape[1])
        return {
            "name": layer.name,
            "labels": labels,
            "images": images,
            "category": [
                -2 if dead else -1 if category is None else codes[category]
                for category, dead in zip(layer.categories, found.dead.tolist(), strict=True)
            ],
            "concept": concepts.put(found.concept[:, :labels].ravel().tolist()),
            "score": rounded(found.score[:, :labels].ravel(), self.digits + 1),
            "top": shown.put(found.top_images[:, :images].ravel().tolist()),
            "activation": significant(found.top_activations[:, :images].ravel()),
        }

    def _pair_columns(self, pair: PairView) -> dict[str, Any]:
        layers = []
        for layer in pair.matched:
            matching = layer.matching
            if matching is None:
                continue
            before, after = matching.before.tolist(), matching.after.tolist()
            known = not np.isnan(matching.correlation).all()
            layers.append(
                {
                    "name": layer.layer,
                    "before": before,
                    **({} if before == after else {"after": after}),
                    **({"r": rounded(matching.correlation, 3)} if known else {}),
                    "state": pair.states(layer),
                }
            )
        return {"before": pair.pair.before, "after": pair.pair.after, "layers": layers}


def merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All names in one order: what only later lists have stands after its neighbour there.

    >>> merged([["stem", "head"], ["stem", "middle", "head", "extra"]])
    ['stem', 'middle', 'head', 'extra']
    """
    names: list[str] = []
    for order in orders:
        place = 0 if set(order) & set(names) else len(names)
        for name in order:
            if name in names:
                place = names.index(name) + 1
            else:
                names.insert(place, name)
                place += 1
    return names


def _styles(comparison: Comparison) -> dict[str, Swatch]:
    names = list(comparison.categories)
    for run in comparison.runs:
        for layer in run.profile.layers:
            names += [name for name in layer.counts if name not in names]
        for compared in run.layers:
            found = {name for name in compared.categories if name is not None}
            names += sorted(found - set(names))
    return swatches(names)


def _score_digits(comparison: Comparison) -> int:
    """Decimals that tell the runs' scores apart."""
    best = [layer.labels.score[:, 0] for run in comparison.runs for layer in run.layers]
    scores = np.concatenate([np.asarray(values, float) for values in best]) if best else np.zeros(0)
    scores = scores[np.isfinite(scores)]
    return decimals(float(np.ptp(scores)) if scores.size else 0.0)
