"""Pairwise comparison of concepts: heatmaps of correct and incorrect predictions, and differences.

Notation: n concepts; s (B, n) their strengths in B images, as
:meth:`profiler.concepts.space.ConceptSpace.strengths` gives them.

    H(x)[i, j] = 1 if s_i(x) > s_j(x),  0 if s_i(x) < s_j(x),  ½ if they are equal

so H + Hᵀ = 1 everywhere, ties and diagonal included. A *summary* of a set of images is the mean of
H: the probability that i is stronger than j (Hu et al., *Debugging and Runtime Analysis of Neural
Networks with VLMs*, 2025). A *differential* is the summary of correct predictions less that of
incorrect ones; it is antisymmetric, so it has n(n−1)/2 free cells.

Every cell has a count and an interval, since a cell from four images is no finding. Without images
on a side there is no summary and no differential: None, never zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import false_discovery_control

from profiler.core.arrays import BoolArray, Counts, Float64, FloatArray, IntArray, checked_rows
from profiler.core.statistics import fisher, wilson
from profiler.errors import InputError

By = Literal["true", "predicted"]

LEVEL = 0.95
"""Of every interval."""
FDR = 0.05
"""Expected share of false discoveries among the cells called significant."""

BLOCK_CELLS = 2**22
"""Comparisons made at a time."""


# --- heatmaps --------------------------------------------------------------------------------


def compare(strengths: FloatArray) -> tuple[Counts, Counts]:
    """In how many images i is stronger than j, and in how many they tie: (n, n) each, from (B, n).

    Takes B·n² comparisons, and O(BLOCK_CELLS + n²) bytes beside its input.
    """
    rows = _checked(strengths)
    images, n = rows.shape
    wins = np.zeros((n, n), dtype=np.int64)
    step = max(1, BLOCK_CELLS // max(1, n * n))
    for lo in range(0, images, step):
        block = rows[lo : lo + step]
        wins += np.count_nonzero(block[:, :, None] > block[:, None, :], axis=0)
    return wins, images - wins - wins.T


def compare_pairs(strengths: FloatArray) -> Float64:
    """The free cells of H for each image: (B, n) → (B, n(n−1)/2).

    In the order of :func:`numpy.triu_indices`. It is meant for small n; :func:`compare` sums the
    cells without holding them.

    >>> compare_pairs(np.array([[0.3, 0.1, 0.3]])).tolist()
    [[1.0, 0.5, 0.0]]
    """
    rows = _checked(strengths)
    i, j = np.triu_indices(rows.shape[1], k=1)
    cells: Float64 = 0.5 + 0.5 * np.sign(rows[:, i] - rows[:, j])
    return cells


def _checked(strengths: FloatArray) -> Float64:
    if strengths.ndim != 2 or strengths.shape[1] < 2:
        raise InputError(
            "a heatmap compares at least two concepts; got strengths of shape "
            f"{strengths.shape}, expected (images, concepts)"
        )
    return checked_rows(strengths, "concept strengths")


@dataclass(frozen=True)
class Heatmap:
    """The summary heatmap of at least one image, as counts; heatmaps of two sets add up.

    Attributes:
        wins: (n, n) images in which i is stronger than j.
        ties: (n, n) images in which they are equal; all images on the diagonal.
        count: images.
    """

    wins: Counts
    ties: Counts
    count: int

    @classmethod
    def of(cls, strengths: FloatArray) -> "Heatmap | None":
        """The heatmap of images with these strengths (B, n); None without images."""
        wins, ties = compare(strengths)
        return cls(wins, ties, len(strengths)) if len(strengths) else None

    def __add__(self, other: "Heatmap") -> "Heatmap":
        return Heatmap(self.wins + other.wins, self.ties + other.ties, self.count + other.count)

    @property
    def concepts(self) -> int:
        """N."""
        return len(self.wins)

    @cached_property
    def mean(self) -> Float64:
        """(n, n) the probability that i is stronger than j; ties count half to each."""
        mean: Float64 = (self.wins + 0.5 * self.ties) / self.count
        return mean

    def interval(self) -> tuple[Float64, Float64]:
        """Low and high end (n, n) of Wilson's interval for each cell.

        Ties enter as half a win, for which the interval is a little wide.
        """
        return wilson(self.wins + 0.5 * self.ties, self.count, LEVEL)


def display_order(heat: FloatArray) -> IntArray:
    """(n,) concepts in an order in which like ones are neighbours.

    Concepts are alike if they are stronger and weaker than the same others. The method is
    hierarchical clustering by average linkage, with leaves in the order of least distance between
    neighbours (Bar-Joseph, Gifford & Jaakkola, 2001). Equal heatmaps give equal orders.

    Args:
        heat: (n, n) summary or differential.
    """
    n = len(heat)
    if n < 3:
        return np.arange(n)
    rows = np.asarray(heat, dtype=np.float64)
    # The cells of the two concepts themselves do not count for their similarity.
    square = rows[:, None, :] - rows[None, :, :]
    index = np.arange(n)
    square[index, :, index] = 0.0
    square[:, index, index] = 0.0
    distance = np.sqrt(np.einsum("ijk,ijk->ij", square, square))
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    order: IntArray = leaves_list(tree).astype(np.int64)
    return order


# --- of correct and of incorrect predictions -------------------------------------------------


@dataclass(frozen=True)
class Heatmaps:
    """Summaries by class, and by correct and incorrect predictions; None without images.

    Attributes:
        classes: their number C.
    """

    _known: Mapping[tuple[By, int, bool], Heatmap]
    classes: int

    @classmethod
    def of(
        cls, strengths: FloatArray, truth: IntArray, predicted: IntArray, classes: int
    ) -> "Heatmaps":
        """The summaries of images.

        Args:
            strengths: (B, n).
            truth: (B,) true class, 0 … C−1.
            predicted: (B,) predicted class.
            classes: C.
        """
        right = truth == predicted
        # A correct prediction counts for one class, which is the true and the predicted one.
        sides: tuple[tuple[By, IntArray, bool], ...] = (
            ("true", truth, False),
            ("true", truth, True),
            ("predicted", predicted, False),
        )
        known = {}
        for by, labels, outcome in sides:
            for label in np.unique(labels).tolist():
                heat = Heatmap.of(strengths[(labels == label) & (right == outcome)])
                if heat is not None:
                    known[by, label, outcome] = heat
        return cls(known, classes)

    def summary(
        self, *, label: int | None = None, by: By = "true", right: bool | None = None
    ) -> Heatmap | None:
        """The summary of the images of a class; of all classes if ``label`` is None.

        Args:
            label: the class.
            by: whether ``label`` is the true or the predicted class.
            right: True: only correct predictions; False: only incorrect ones; None: both.

        Raises:
            InputError: there is no such class.
        """
        if label is not None and not 0 <= label < self.classes:
            raise InputError(f"there is no class {label}; classes are 0 … {self.classes - 1}")
        outcomes = (True, False) if right is None else (right,)
        labels = range(self.classes) if label is None else (label,)
        total: Heatmap | None = None
        for one in labels:
            for outcome in outcomes:
                # Correct predictions are kept under the true class alone, which is the predicted
                # one too.
                found = self._known.get(("true" if outcome else by, one, outcome))
                if found is not None:
                    total = found if total is None else total + found
        return total

    def differential(self, *, label: int | None = None, by: By = "true") -> "Differential | None":
        """Correct less incorrect predictions; None where one of the two has no images."""
        right = self.summary(label=label, by=by, right=True)
        wrong = self.summary(label=label, by=by, right=False)
        return None if right is None or wrong is None else Differential(right, wrong)


@dataclass(frozen=True)
class Finding:
    """A cell of a differential that is not zero by chance.

    Attributes:
        more: concept that is stronger than ``less`` more often in incorrect predictions than in
            correct ones.
        less: the other concept.
        right: share of the correct predictions in which ``more`` is the stronger.
        wrong: share of the incorrect predictions in which it is.
        low: lower end of the interval of the difference, wrong − right.
        high: upper end.
        p_value: two-sided.
        q_value: the lowest false-discovery rate at which the cell is significant.
    """

    more: int
    less: int
    right: float
    wrong: float
    low: float
    high: float
    p_value: float
    q_value: float

    @property
    def effect(self) -> float:
        """Wrong − right, positive."""
        return self.wrong - self.right


@dataclass(frozen=True)
class Differential:
    """The summary of correct predictions less that of incorrect ones.

    Each cell i < j is a table of two by two: correct and incorrect predictions in which i or j is
    the stronger. It is tested by Fisher's exact test. A good classifier makes few errors, and with
    few errors the score test rejects more often than its level; Fisher's test never does, but it
    misses some differences. Ties do not show which concept is stronger and are left out of the
    test.

    The cells of one image depend on each other: n strengths make n(n−1)/2 comparisons. Benjamini
    and Hochberg's procedure (1995) is proved for positive dependence (Benjamini & Yekutieli, 2001),
    and it holds its rate here with shuffled outcomes (``tests/concepts/test_heatmap.py``). Images
    are assumed to be independent: several augmented views of one photograph are one image.
    """

    right: Heatmap
    wrong: Heatmap

    @cached_property
    def mean(self) -> Float64:
        """(n, n) right − wrong, in [−1, 1]; antisymmetric."""
        mean: Float64 = self.right.mean - self.wrong.mean
        return mean

    def interval(self) -> tuple[Float64, Float64]:
        """Low and high end (n, n) of the difference: Newcombe's hybrid score interval (1998).

        It combines the Wilson intervals of the two shares and keeps its level with few images,
        also where a share is 0 or 1.
        """
        low1, high1 = self.right.interval()
        low2, high2 = self.wrong.interval()
        p1, p2, difference = self.right.mean, self.wrong.mean, self.mean
        low: Float64 = difference - np.hypot(p1 - low1, high2 - p2)
        high: Float64 = difference + np.hypot(high1 - p1, p2 - low2)
        return low, high

    @cached_property
    def p_values(self) -> Float64:
        """(n(n−1)/2,) of the cells i < j, in the order of :func:`numpy.triu_indices`."""
        cells = np.triu_indices(self.right.concepts, k=1)
        return fisher(
            self.right.wins[cells],
            self.right.wins.T[cells],
            self.wrong.wins[cells],
            self.wrong.wins.T[cells],
        )

    @cached_property
    def q_values(self) -> Float64:
        """(n(n−1)/2,) p-values adjusted by Benjamini and Hochberg over all free cells."""
        adjusted: Float64 = false_discovery_control(self.p_values, method="bh")
        return adjusted

    def significant(self) -> BoolArray:
        """(n, n) the cells that differ, at the false-discovery rate :data:`FDR`; symmetric."""
        n = self.right.concepts
        marked = np.zeros((n, n), dtype=np.bool_)
        cells = np.triu_indices(n, k=1)
        marked[cells] = self.q_values <= FDR
        return marked | marked.T

    def findings(self, limit: int | None = None) -> tuple[Finding, ...]:
        """The significant cells, largest difference first: the responsible concepts.

        Args:
            limit: at most so many.
        """
        low, high = self.interval()
        rows, columns = np.triu_indices(self.right.concepts, k=1)
        kept = np.flatnonzero(self.q_values <= FDR)
        size = np.abs(self.mean[rows[kept], columns[kept]])
        # Equal differences: the smaller p-value first, then the order of the cells.
        ranked = kept[np.lexsort((kept, self.p_values[kept], -size.round(12)))][:limit]
        found = []
        for cell in ranked.tolist():
            i, j = int(rows[cell]), int(columns[cell])
            # Stated for the incorrect predictions: the concept that is too strong in them.
            more, less = (j, i) if self.mean[i, j] > 0 else (i, j)
            found.append(
                Finding(
                    more,
                    less,
                    float(self.right.mean[more, less]),
                    float(self.wrong.mean[more, less]),
                    -float(high[more, less]),
                    -float(low[more, less]),
                    float(self.p_values[cell]),
                    float(self.q_values[cell]),
                )
            )
        return tuple(found)
