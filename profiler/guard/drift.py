"""Drift: whether the concepts of images that pass have changed since the guard was fitted.

The stream is cut into windows of W images. After each window, two summary heatmaps are compared
with that of the reference, cell by cell: that of the window, which shows a sudden change, and that
of the whole stream so far, which shows a slow one. A cell is a table of two by two (i or j
stronger; in stream or reference), tested by Fisher's exact test, which holds for few images too.

The guarantee: on a stream from the distribution of the reference, the probability that drift is
*ever* reported is at most α. The k-th test uses α_k = α · 6/(π² k²), which add up to α; half of it
is for the window and half for the stream. Within either, a cell counts if its p-value is at most
its share of the n(n−1)/2 cells (Bonferroni, valid for any dependence).

The heatmap changes with the frequency of classes as well as with the look of images, so shares of
the predicted classes are reported too. Images of a stream are assumed to be independent; frames of
one video are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.concepts.heatmap import Heatmap
from profiler.core.arrays import Float64, FloatArray, IntArray
from profiler.core.statistics import fisher
from profiler.errors import InputError, UsageError

ALPHA = 0.05
WINDOW = 100
"""Images between two tests."""
TOLD = 5
"""Comparisons that a report names, at most."""


@dataclass(frozen=True)
class Shift:
    """A comparison of concepts that holds more often in the stream than in the reference.

    Attributes:
        more: concept that is stronger than ``less`` more often than it was.
        less: the other concept.
        before: share of the reference in which ``more`` is the stronger.
        now: share of the stream.
        p_value: two-sided, of this cell alone.
    """

    more: int
    less: int
    before: float
    now: float
    p_value: float


@dataclass(frozen=True)
class Look:
    """The result of the test after a window.

    Attributes:
        number: of the test, from 1.
        images: passed so far.
        window: images in the window; ``recent`` is about it, ``overall`` about the whole stream.
        level: p-value up to which a cell counts in this test.
        recent: comparisons that changed in the window, strongest evidence first.
        overall: comparisons that changed over the stream.
        classes: for each class its share of the stream's predictions less that of the reference.
    """

    number: int
    images: int
    window: int
    level: float
    recent: tuple[Shift, ...]
    overall: tuple[Shift, ...]
    classes: Float64

    @property
    def drifted(self) -> bool:
        """Whether the heatmap differs from the reference."""
        return bool(self.recent or self.overall)

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """Changes over the whole stream, or in the window if only that has changed."""
        return self.overall or self.recent


class DriftWatch:
    """Keeps summary heatmaps of a stream, and tests them after each window.

    Args:
        reference: summary of the images that the threshold was set on, as far as they pass.
        classes: (C,) how often each class was predicted among them.
        window: images between two tests.
        alpha: probability of ever reporting drift where there is none.
    """

    def __init__(
        self,
        reference: Heatmap,
        classes: IntArray,
        *,
        window: int = WINDOW,
        alpha: float = ALPHA,
    ) -> None:
        if window < 1:
            raise UsageError(f"a window needs at least one image, got {window}")
        if not 0 < alpha < 1:
            raise UsageError(f"alpha must lie between 0 and 1, got {alpha}")
        self.reference = reference
        self.window = window
        self.alpha = alpha
        self._classes = np.asarray(classes, dtype=np.int64)
        self._predicted = np.zeros(len(classes), dtype=np.int64)
        self._rows = np.zeros((0, reference.concepts))
        self._labels = np.zeros(0, dtype=np.int64)
        self._all: Heatmap | None = None
        self._looks = 0

    @property
    def blind(self) -> bool:
        """Whether no full window can differ from the reference significantly.

        The least p-value of n images against W is one over the ways to choose W of n + W, or two
        where they are as many.
        """
        n, w, concepts = self.reference.count, self.window, self.reference.concepts
        level = self._spent(1) / 2 / max(concepts * (concepts - 1) // 2, 1)
        return (1 + (n == w)) / math.comb(n + w, w) > level

    def _spent(self, look: int) -> float:
        """α_k."""
        return self.alpha * 6 / (math.pi**2 * look**2)

    def add(self, levels: FloatArray, predicted: IntArray) -> list[Look]:
        """Add images that passed: strengths, or levels (n, M), and predicted classes (n,).

        The result does not depend on how the stream is cut into calls.

        Returns:
            One test result for each window that is now full.
        """
        rows = np.asarray(levels, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.reference.concepts:
            raise InputError(
                f"the reference has {self.reference.concepts} concepts; got rows of shape "
                f"{rows.shape}"
            )
        self._rows = np.concatenate([self._rows, rows])
        self._labels = np.concatenate([self._labels, np.asarray(predicted, dtype=np.int64)])
        return [self._look(self.window) for _ in range(len(self._rows) // self.window)]

    def finish(self) -> Look | None:
        """A last test of the images left in a window; None without any."""
        return self._look(len(self._rows)) if len(self._rows) else None

    def _look(self, images: int) -> Look:
        """Test the next so many images, of which there are as many."""
        recent = Heatmap.of(self._rows[:images])
        if recent is None:
            raise ValueError("a test needs images")
        self._predicted += np.bincount(self._labels[:images], minlength=len(self._classes))
        self._rows, self._labels = self._rows[images:], self._labels[images:]
        self._all = recent if self._all is None else self._all + recent
        self._looks += 1
        spent = self._spent(self._looks)
        cells = recent.concepts * (recent.concepts - 1) // 2
        level = spent / 2 / cells
        before = self._classes / max(int(self._classes.sum()), 1)
        now = self._predicted / max(int(self._predicted.sum()), 1)
        return Look(
            self._looks,
            self._all.count,
            recent.count,
            level,
            changed(self.reference, recent, level),
            changed(self.reference, self._all, level),
            now - before,
        )


def changed(reference: Heatmap, stream: Heatmap, level: float) -> tuple[Shift, ...]:
    """The comparisons whose p-value is at most ``level``, smallest first."""
    i, j = np.triu_indices(reference.concepts, k=1)
    p_values = fisher(
        reference.wins[i, j], reference.wins[j, i], stream.wins[i, j], stream.wins[j, i]
    )
    kept = np.flatnonzero(p_values <= level)
    found = []
    step = stream.mean - reference.mean
    for cell in kept[np.lexsort((-np.abs(step[i[kept], j[kept]]), p_values[kept]))].tolist():
        more, less = int(i[cell]), int(j[cell])
        if step[more, less] < 0:
            more, less = less, more
        found.append(
            Shift(
                more,
                less,
                float(reference.mean[more, less]),
                float(stream.mean[more, less]),
                float(p_values[cell]),
            )
        )
    return tuple(found)


def blamed(shifts: Sequence[Shift]) -> list[tuple[int, int, int]]:
    """(concept, comparisons gained, comparisons lost), most changed concepts first.

    >>> blamed([Shift(0, 1, 0.1, 0.9, 0.0), Shift(0, 2, 0.2, 0.9, 0.0)])
    [(0, 2, 0), (1, 0, 1), (2, 0, 1)]
    """
    gained: dict[int, int] = {}
    lost: dict[int, int] = {}
    for shift in shifts:
        gained[shift.more] = gained.get(shift.more, 0) + 1
        lost[shift.less] = lost.get(shift.less, 0) + 1
    concepts = sorted({*gained, *lost})
    ranked = sorted(concepts, key=lambda c: (-gained.get(c, 0) - lost.get(c, 0), c))
    return [(c, gained.get(c, 0), lost.get(c, 0)) for c in ranked]
