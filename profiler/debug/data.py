"""What the script of a diagnosis reads: heatmaps as short strings, the pictures that go with them.

A *view* is a set of predictions to look at, named by ``"true,predicted"``: ``","`` is all of them,
``"3,"`` the images of class 3, ``",5"`` the predictions 5, ``"3,5"`` images of class 3 predicted
as 5. Concepts are in the page's display order everywhere.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.concepts.heatmap import By, Differential, Finding, Heatmap, display_order
from profiler.core.arrays import IntArray
from profiler.debug.encoder_or_head import Shares
from profiler.debug.result import LEVELS, Confusion, Diagnosis, Level, WrongImage
from profiler.report.columns import rounded
from profiler.report.document import json_block

FINDINGS = 12
"""Responsible concepts listed per view."""
IMAGES = 24
"""Misclassified images kept per confusion."""
EXAMPLES = 6
"""Correctly classified images shown beside them, per class."""
MOST_CLASSES = 100
"""Classes that can be chosen singly, those of most errors; likewise predicted classes."""
FEW = 5
"""Cells decided by fewer images on either side are hatched."""
STEPS = 65_535
"""A share is kept exactly up to half as many images, and to so many steps beyond."""


def concept_order(diagnosis: Diagnosis) -> IntArray:
    """One order of the concepts for all heatmaps of a page.

    It is that of the differential of all predictions, at the level that is shown first. Without
    errors, or without correct predictions, it is that of the summary.
    """
    heatmaps = diagnosis.heatmaps[diagnosis.level]
    found = heatmaps.differential()
    if found is not None:
        return display_order(found.mean)
    summary = heatmaps.summary()
    return np.arange(len(diagnosis.words)) if summary is None else display_order(summary.mean)


def _text(data: NDArray[Any]) -> str:
    return base64.b64encode(data.tobytes()).decode("ascii")


def packed(heat: Heatmap, order: IntArray) -> dict[str, Any]:
    """The free cells of a heatmap, row by row above the diagonal.

    ``c`` holds 2·wins + ties as bytes, or as 16-bit numbers, little-endian, where ``w`` is 2; out
    of ``of``. ``t`` holds the ties likewise, if there are any. ``n`` is the number of images.
    """
    cells = np.triu_indices(heat.concepts, k=1)
    ties = heat.ties[np.ix_(order, order)][cells]
    doubled = 2 * heat.wins[np.ix_(order, order)][cells] + ties
    whole = 2 * heat.count
    if whole > STEPS:
        doubled, ties = (np.rint(part * (STEPS / whole)).astype(int) for part in (doubled, ties))
        whole = STEPS
    kind = "u1" if whole < 256 else "<u2"
    found: dict[str, Any] = {"n": heat.count, "of": whole, "c": _text(doubled.astype(kind))}
    if kind != "u1":
        found["w"] = 2
    if ties.any():
        found["t"] = _text(ties.astype(kind))
    return found


def marked(found: Differential, order: IntArray) -> str:
    """The significant ones of the free cells, a bit each, the first one highest."""
    cells = np.triu_indices(found.right.concepts, k=1)
    return _text(np.packbits(found.significant()[np.ix_(order, order)][cells]))


def _findings(found: Differential, place: Sequence[int]) -> dict[str, Any]:
    # All are sorted once; a page shows the first.
    every = found.findings()
    return {"shown": [_finding(f, place) for f in every[:FINDINGS]], "all": len(every)}


def _finding(f: Finding, place: Sequence[int]) -> list[float]:
    numbers = [f.right, f.wrong, f.low, f.high]
    return [
        place[f.more],
        place[f.less],
        *(round(value, 4) for value in numbers),
        float(f"{f.q_value:.3g}"),
    ]


@dataclass
class Item:
    """A view with everything that belongs to it alone.

    Attributes:
        key: of the view.
        view: its data.
        rights: by level and class (``""``: all), summaries of correct predictions it needs.
        thumbnails: numbers of the images it shows.
        confusion: whether it is one.
    """

    key: str
    view: dict[str, Any]
    rights: dict[Level, dict[str, dict[str, Any]]] = field(default_factory=dict)
    thumbnails: list[int] = field(default_factory=list)
    confusion: bool = False

    def bytes(self, thumbnails: Mapping[int, bytes]) -> int:
        """Of the page, if nothing of it is there yet."""
        text = len(self.key) + 6 + sum(len(json_block(part)) for part in (self.view, self.rights))
        # Text beyond ASCII takes up to four bytes a character.
        text += 3 * sum(not character.isascii() for character in json_block(self.view))
        return text + sum(
            4 * (len(thumbnails[image]) + 2) // 3 + 16
            for image in self.thumbnails
            if image in thumbnails
        )


class DiagnosisViews:
    """All views of a diagnosis, in the order in which a page should keep them."""

    def __init__(self, diagnosis: Diagnosis, order: IntArray) -> None:
        self.diagnosis = diagnosis
        self.order = order
        self.place = np.argsort(order).tolist()
        self.rules = list(diagnosis.rules)
        self._images: dict[tuple[int, int], list[WrongImage]] = {}
        for image in diagnosis.images:
            self._images.setdefault((image.true, image.predicted), []).append(image)

    def items(self) -> Iterator[Item]:
        """All predictions, classes by their errors, then confusions, most frequent first."""
        found = self.diagnosis
        yield self._of_class(None, "true")
        errors = found.confusion - np.diag(np.diag(found.confusion))
        # A predicted class without errors shows nothing that the true class does not.
        for by, wrong, images in (
            ("true", errors.sum(axis=1), found.confusion.sum(axis=1)),
            ("predicted", errors.sum(axis=0), errors.sum(axis=0)),
        ):
            for label in np.argsort(-wrong, kind="stable")[:MOST_CLASSES].tolist():
                if images[label]:
                    yield self._of_class(label, "true" if by == "true" else "predicted")
        for confusion in found.confusions:
            yield self._of_confusion(confusion)

    def _rights(self, label: int | None) -> dict[Level, dict[str, dict[str, Any]]]:
        name = "" if label is None else str(label)
        found: dict[Level, dict[str, dict[str, Any]]] = {}
        for level in LEVELS:
            right = self.diagnosis.heatmaps[level].summary(label=label, right=True)
            found[level] = {} if right is None else {name: packed(right, self.order)}
        return found

    def _maps(
        self,
        wrong: Mapping[Level, Heatmap | None],
        differential: Mapping[Level, Differential | None],
    ) -> dict[str, Any]:
        view: dict[str, Any] = {}
        for level in LEVELS:
            summary, found = wrong[level], differential[level]
            own: dict[str, Any] = {}
            if summary is not None:
                own["wrong"] = packed(summary, self.order)
            if found is not None:
                own["marked"] = marked(found, self.order)
            view[level] = own
        responsible = differential[self.diagnosis.level]
        if responsible is not None:
            view["findings"] = _findings(responsible, self.place)
        return view

    def _of_class(self, label: int | None, by: By) -> Item:
        heatmaps = self.diagnosis.heatmaps
        view = self._maps(
            {level: heatmaps[level].summary(label=label, by=by, right=False) for level in LEVELS},
            {level: heatmaps[level].differential(label=label, by=by) for level in LEVELS},
        )
        at = 0 if by == "true" else 1
        view["shares"] = [
            _counts(
                sum(
                    (
                        shares
                        for pair, shares in self.diagnosis.rules[rule].found.pairs.items()
                        if label is None or pair[at] == label
                    ),
                    Shares(),
                )
            )
            for rule in self.rules
        ]
        name = "" if label is None else str(label)
        item = Item(f"{name}," if by == "true" else f",{name}", view, self._rights(label))
        if by == "true" and label is not None:
            examples = list(self.diagnosis.examples.get(label, ()))[:EXAMPLES]
            if examples:
                view["examples"] = examples
                item.thumbnails = examples
        return item

    def _of_confusion(self, confusion: Confusion) -> Item:
        view = self._maps(confusion.wrong, confusion.differential)
        view["errors"] = confusion.errors
        view["shares"] = [_counts(confusion.shares.get(rule, Shares())) for rule in self.rules]
        view["told"] = [confusion.told.text, confusion.told.author]
        images = self._images.get((confusion.true, confusion.predicted), [])
        at_hand = self.diagnosis.thumbnails
        shown = sorted(images, key=lambda image: image.image not in at_hand)[:IMAGES]
        view["images"] = [self._image(image) for image in shown]
        return Item(
            f"{confusion.true},{confusion.predicted}",
            view,
            self._rights(confusion.true),
            [image.image for image in shown],
            confusion=True,
        )

    def _image(self, image: WrongImage) -> list[Any]:
        strengths = np.asarray(image.strengths, dtype=np.float64)[self.order]
        # Ranks say exactly which is stronger; the strengths are rounded.
        _, ranks = np.unique(strengths, return_inverse=True)
        kind = "u1" if len(strengths) < 256 else "<u2"
        verdicts = [int(image.verdicts[r]) if r in image.verdicts else -1 for r in self.rules]
        return [
            image.image,
            image.name,
            *rounded(np.array([image.confidence, image.true_confidence]), 4),
            verdicts,
            _text(ranks.ravel().astype(kind)),
            rounded(strengths, 3),
        ]


def _counts(shares: Shares) -> list[int]:
    return [shares.head, shares.encoder, shares.undetermined]
