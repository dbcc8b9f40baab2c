"""The page of a diagnosis: which classes are confused, encoder or head, and on which concepts."""

import base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from profiler.concepts.heatmap import Differential
from profiler.debug.charts import (
    DIVERGING,
    PARTS,
    SEQUENTIAL,
    Matrix,
    Proportion,
    StaticMap,
    interval_text,
    matrix,
    share_bar,
    static_map,
)
from profiler.debug.data import (
    FEW,
    FINDINGS,
    IMAGES,
    MOST_CLASSES,
    DiagnosisViews,
    Item,
    concept_order,
)
from profiler.debug.encoder_or_head import Fault, Shares
from profiler.debug.page import ASKS, MAPPED, debug_prose
from profiler.debug.result import Confusion, Diagnosis
from profiler.errors import OutputError
from profiler.report import document
from profiler.report.charts import query
from profiler.report.text import (
    NOTHING,
    count,
    number,
    percent,
    plural,
    probability,
    share_of,
    signed,
    typeset,
)

LISTED = 400
"""Confusions in the table; a page that is too large has fewer."""
FEW_ERRORS = 10
"""With fewer errors the page says that shares rest on little."""


def render_debug(found: Diagnosis, *, specs: str = "", max_mb: float = 20.0) -> str:
    """Render a diagnosis as one self-contained HTML page of at most ``max_mb`` · 10⁶ bytes.

    To fit, the page leaves out the least frequent confusions, with their heatmaps and pictures,
    and then rows of the table; it says what was left out.

    Args:
        found: the diagnosis.
        specs: file name of a report on specifications in the same folder, if there is one.
        max_mb: the limit of the page's size.

    Raises:
        OutputError: the page is too large without any confusion.
    """
    view = _View(found, debug_prose(found, specs))
    limit = int(max_mb * document.MEGABYTE)
    listed = min(LISTED, len(view.located))
    while True:
        bare = _rendered(view, listed, view.data([]), {}, "")
        room = limit - document.size(bare) - _NOTE_BYTES
        if room >= view.items[0].bytes({}) or not listed:
            break
        listed //= 2
    kept = view.fitting(room)
    if not kept:
        needed = limit - room + view.items[0].bytes({})
        raise OutputError(
            f"the diagnosis needs {needed / document.MEGABYTE:.1f} MB without any confusion or "
            f"picture, more than the limit of {max_mb:g} MB; raise the limit or give fewer concepts"
        )
    at_hand = found.thumbnails
    shown = dict.fromkeys(i for item in kept for i in item.thumbnails if i in at_hand)
    pictures = {str(i): base64.b64encode(at_hand[i]).decode("ascii") for i in shown}
    return _rendered(view, listed, view.data(kept), pictures, view.left_out(kept, listed, max_mb))


_NOTE_BYTES = 1_500
"""Kept free for the notes on what was left out."""


def _rendered(
    view: "_View", listed: int, data: dict[str, Any], pictures: dict[str, str], note: str
) -> str:
    return document.render(
        "debug/debug.html",
        extra=("debug/debug",),
        **view.context(),
        confusions=view.rows[:listed],
        data=data,
        thumbnails=pictures,
        left_out=note,
    )


# -- what the template prints ------------------------------------------------------------------


class _View:
    """Everything the template prints, worked out once."""

    def __init__(self, found: Diagnosis, prose: Mapping[str, Any]) -> None:
        self.prose = prose
        self.found = found
        self.order = concept_order(found)
        self.after = self.found.after
        self.errors = self.after.images - self.after.correct
        self.located = self.found.rules[self.found.rule].found.pairs
        """Errors by (true, predicted) class, most first; those with heatmaps are fewer."""
        self.explained = sum(shares.images for shares in self.located.values())
        self.whole: Differential | None = self.found.differential(None)

    @cached_property
    def items(self) -> list[Item]:
        """All views, in the order in which they are kept."""
        return list(DiagnosisViews(self.found, self.order).items())

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The table of confusions."""
        known = {(each.true, each.predicted): each for each in self.found.confusions}
        return [
            self._row(true, predicted, shares, known.get((true, predicted)))
            for (true, predicted), shares in list(self.located.items())[:LISTED]
        ]

    def context(self) -> dict[str, Any]:
        found = self.found
        drawn = self.matrix
        return {
            "page": self.prose,
            "kind": "Diagnosis of a classifier",
            "found": found,
            "tiles": self._tiles(),
            "doubts": self._doubts(),
            "classes": found.classes,
            "headline": self._headline(),
            "matrix": drawn,
            "matrix_note": self._matrix_note(drawn),
            "errors": self.errors,
            "parts": PARTS,
            "where": self._where(),
            "where_bar": share_bar(found.shares, "All errors", pixels=330),
            "reason": found.rules[found.rule].reason,
            "whisker": self._whisker(),
            "rules": self.rules,
            "rule": found.rule,
            "mapped": " and ".join(f"“{name}”" for name in found.rules if name in MAPPED),
            "whole": self._static,
            "level": "the VLM" if found.level == "vlm" else "the encoder",
            "found_pairs": self._found_pairs(),
            "accuracies": self._accuracies(),
            "r2": number(found.quality.r2, 2),
            "map_title": self._map_title(),
        }

    # -- words -----------------------------------------------------------------------------------

    def _doubts(self) -> list[str]:
        """What stands where a conclusion would, when the data cannot carry one."""
        doubts = []
        if not self.errors:
            doubts.append(
                "No image was misclassified, so there is no error to explain and nothing to "
                "compare correct predictions with."
            )
        elif not self.explained:
            doubts.append("None of the errors could be explained: no heatmap and no verdict.")
        elif self.explained < FEW_ERRORS:
            doubts.append(
                f"Only {plural(self.explained, 'image was', 'images were')} misclassified: shares "
                "and heatmaps rest on very few images."
            )
        if self.explained and not self.found.shares.decided:
            doubts.append(
                f"The criterion “{self.found.rule}” could not decide a single error, so encoder "
                "or head is not known."
            )
        if self.prose["map_note"]:
            doubts.append(self.prose["map_note"])
        return doubts

    def _tiles(self) -> list[tuple[str, str, str]]:
        found, before, after = self.found, self.found.before, self.after
        accuracy = percent(after.correct, after.images, 1)
        counts = f"{count(after.correct)} of {plural(after.images, 'image')}"
        pairs = f"in {plural(len(self.located), 'pair of classes', 'pairs of classes')}"
        if found.change:
            accuracy = (
                f"{percent(before.correct, before.images)} → {percent(after.correct, after.images)}"
            )
            counts = (
                f"{count(before.correct)} → {count(after.correct)} of {count(after.images)} "
                "images, before and after the change"
            )
            pairs += ", caused by the change"
        if self.errors != self.explained:
            pairs += f"; {count(self.errors)} errors in all"
        poor = "poor: " if self.prose["map_warning"] else ""
        return [
            ("Accuracy", accuracy, counts),
            ("Errors explained", count(self.explained), pairs),
            ("At fault", *self._fault()),
            (
                "Linear alignment",
                f"R² {number(found.quality.r2, 2)}",
                f"{poor}share of the variance of the VLM’s embeddings explained on held-out images",
            ),
        ]

    def _fault(self) -> tuple[str, str]:
        """Which half is at fault for most errors, and for how many."""
        shares = self.found.shares
        interval = shares.interval()
        if interval is None:
            return NOTHING, "encoder or head: no error could be decided"
        part, side = max((shares.head, "head"), (shares.encoder, "encoder"))
        low, high = interval if side == "head" else (1 - interval[1], 1 - interval[0])
        tied = shares.verdict == Fault.UNDETERMINED
        return (
            "both equally" if tied else f"{side} {percent(part, shares.decided)}",
            f"{count(part)} of {plural(shares.decided, 'decided error')} "
            f"({100 * low:.0f} to {100 * high:.0f}{_THIN_PERCENT}), "
            f"{count(shares.undetermined)} undetermined",
        )

    def _headline(self) -> str:
        """What the matrix shows, as its title."""
        if not self.located:
            return "No image was misclassified"
        (true, predicted), shares = next(iter(self.located.items()))
        pair = f"{self._name(true)} classified as {self._name(predicted)}"
        if len(self.located) == 1:
            return f"All errors: {pair}, {plural(self.explained, 'image')}"
        if shares.images == 1:
            return f"{plural(self.explained, 'error')}; no two are between the same classes"
        return f"Most frequent confusion: {pair}, {share_of(shares.images, self.explained)} errors"

    def _name(self, label: int) -> str:
        return self.found.classes[label]

    @cached_property
    def matrix(self) -> Matrix:
        """The confusion matrix."""
        return matrix(self.found.confusion, self.found.classes)

    def _matrix_note(self, drawn: Matrix) -> str:
        note = "Images by true class (rows) and predicted class (columns)"
        note += f", after the change ({self.found.change})." if self.found.change else "."
        if not drawn.whole:
            note += (
                f" It shows {len(drawn.classes)} of {count(len(self.found.present))} classes, "
                f"those of the most frequent confusions. They have "
                f"{share_of(drawn.errors, self.errors)} errors."
            )
        if self.found.change and self.errors > self.explained:
            note += (
                " The matrix counts all errors; the sections below explain only the "
                f"{count(self.explained)} errors that the change caused."
            )
        return note

    def _row(
        self, label: int, other: int, shares: Shares, found: Confusion | None
    ) -> dict[str, Any]:
        true, predicted = self._name(label), self._name(other)
        return {
            "true": true,
            "predicted": predicted,
            "errors": shares.images,
            "share": percent(shares.images, int(self.found.confusion[label].sum())),
            "bar": share_bar(shares, f"{true} classified as {predicted}", named=False, pixels=130),
            "told": self._leading(found),
            "view": query(true=true, predicted=predicted),
        }

    def _leading(self, found: Confusion | None) -> str:
        """The pair of concepts that differs most, or why there is none."""
        if found is None:
            return ""
        if found.differential[found.level] is None:
            return "no correct predictions to compare with"
        if not found.findings:
            return "no pair of concepts differs beyond chance"
        first, words = found.findings[0], self.found.words
        return (
            f"{words[first.more]} > {words[first.less]}: {percent(first.wrong, 1)} of incorrect, "
            f"{percent(first.right, 1)} of correct"
        )

    # -- encoder or head -----------------------------------------------------------------------

    def _where(self) -> str:
        shares = self.found.shares
        if not shares.images:
            return "Encoder or head: no errors to attribute"
        interval = shares.interval()
        if interval is None:
            return "Encoder or head: no error could be decided"
        low, high = interval
        if low <= 0.5 <= high:
            head = percent(shares.head, shares.decided)
            return (
                f"Encoder and head are both at fault: {head} of the decided errors are attributed "
                "to the head, which is not clearly different from half"
            )
        side = "head" if shares.verdict == Fault.HEAD else "encoder"
        major = percent(max(shares.head, shares.encoder), shares.decided)
        return f"The {side} is at fault in {major} of the decided errors"

    def _whisker(self) -> tuple[float, float, float] | None:
        """Head's share of the decided errors and its interval, in per cent."""
        shares = self.found.shares
        interval = shares.interval()
        if interval is None or shares.head_share is None:
            return None
        return 100 * shares.head_share, 100 * interval[0], 100 * interval[1]

    @cached_property
    def rules(self) -> list[dict[str, Any]]:
        """All criteria, the one that counts first."""
        found = self.found
        return [
            {
                "name": name,
                "counts": name == found.rule,
                "asks": typeset(ASKS.get(name, "")),
                "reason": rule.reason,
                "bar": share_bar(rule.found.total, name, named=False, pixels=200),
                "shares": rule.found.total,
                "interval": interval_text(rule.found.total),
            }
            for name, rule in sorted(found.rules.items(), key=lambda rule: rule[0] != found.rule)
        ]

    # -- concepts --------------------------------------------------------------------------------

    @cached_property
    def _static(self) -> StaticMap | None:
        return static_map(self.whole, self.order, self.found.words) if self.whole else None

    def _found_pairs(self) -> list[dict[str, str]]:
        """The responsible pairs of concepts, in the table that stands without a script."""
        words = self.found.words
        return [
            {
                "pair": f"{words[each.more]} > {words[each.less]}",
                "wrong": percent(each.wrong, 1),
                "right": percent(each.right, 1),
                "difference": f"{signed(each.effect, 0)} "
                f"({signed(each.low, 0)} to {signed(each.high, 0)})",
                "q": probability(each.q_value),
            }
            for each in (self.whole.findings(limit=FINDINGS) if self.whole else ())
        ]

    # -- the linear alignment --------------------------------------------------------------------

    def _map_title(self) -> str:
        quality = self.found.quality
        share = percent(max(quality.r2, 0), 1) if quality.r2 == quality.r2 else "nothing"
        return f"The linear alignment explains {share} of the variance of the VLM’s embeddings"

    def _accuracies(self) -> list[Proportion]:
        found = self.found
        name = "Classifier"
        return [
            Proportion.of(name + (", unmodified images" if found.change else ""), found.before),
            Proportion.of("VLM, zero-shot", found.quality.vlm),
            Proportion.of("Encoder, aligned, zero-shot", found.quality.aligned),
        ]

    # -- for the script ---------------------------------------------------------------------------

    def fitting(self, room: int) -> list[Item]:
        """As many views as fit, from the first one on."""
        kept = []
        for item in self.items:
            room -= item.bytes(self.found.thumbnails)
            if room < 0:
                break
            kept.append(item)
        return kept

    def left_out(self, kept: Sequence[Item], listed: int, max_mb: float) -> str:
        """What is not on the page, in words."""
        notes = []
        if listed < len(self.located):
            notes.append(
                f"The table lists the {count(listed)} most frequent of "
                f"{plural(len(self.located), 'confusion')}."
            )
        confusions = len(self.found.confusions)
        if confusions < len(self.located):
            notes.append(
                f"The {plural(confusions, 'confusion')} with most errors "
                f"{'has' if confusions == 1 else 'have'} heatmaps."
            )
        maps = sum(item.confusion for item in kept)
        views = sum(not item.confusion for item in self.items)
        classes = sum(not item.confusion for item in kept)
        if maps < confusions:
            lost = f"the {count(confusions - maps)} least frequent of "
            lost += plural(confusions, "confusion")
            if classes < views:
                lost += f" and of {plural(views - classes, 'class', 'classes')} with few errors"
            notes.append(
                f"The heatmaps and pictures of {lost} are left out, to keep this file below "
                f"{max_mb:g} MB."
            )
        if len(self.found.present) > MOST_CLASSES:
            notes.append(
                f"Single classes can be chosen only among the {MOST_CLASSES} with most errors."
            )
        if any(confusion.errors > IMAGES for confusion in self.found.confusions):
            notes.append(f"At most {IMAGES} misclassified images per confusion are shown.")
        if notes:
            notes.append("diagnosis.json and heatmaps.npz, in the same folder, hold everything.")
        return " ".join(notes)

    def data(self, kept: Sequence[Item]) -> dict[str, Any]:
        """Everything the script draws from."""
        found = self.found
        rights: dict[str, dict[str, Any]] = {"encoder": {}, "vlm": {}}
        for item in kept:
            for level, own in item.rights.items():
                rights[level].update(own)
        return {
            "concepts": [found.words[i] for i in self.order],
            "classes": list(found.classes),
            "present": list(found.present),
            "level": found.level,
            "rules": list(found.rules),
            "rule": list(found.rules).index(found.rule),
            "pairs": [
                [true, predicted, s.head, s.encoder, s.undetermined]
                for (true, predicted), s in self.located.items()
            ],
            "few": FEW,
            "images": IMAGES,
            "diverging": DIVERGING,
            "sequential": SEQUENTIAL,
            "rights": rights,
            "views": {item.key: item.view for item in kept},
        }


_THIN_PERCENT = "\N{NARROW NO-BREAK SPACE}%"
