"""The reasons of a score: the comparisons of concepts that raise it most.

The score of a method that is linear in the comparisons σ_ij
(:mod:`profiler.guard.rules.comparisons`) exceeds its mean over correct predictions of the same
predicted class by

    score(x) − E[score | correct, c] = Σ_{i<j} w_c[i, j] · (σ_ij(x) − E[σ_ij | correct, c]).

The comparisons with the largest terms are the reasons. A term is large if the comparison is unusual
for correct predictions of the class and usual for incorrect ones.
"""

from dataclasses import dataclass

import numpy as np

from profiler.core.arrays import Float64, IntArray
from profiler.guard.rules.comparisons import Comparisons, signs

SHOWN = 3


@dataclass(frozen=True)
class Reason:
    """A comparison of two concepts that raises the score of an input.

    Attributes:
        more: concept that is stronger in this input than ``less``.
        less: the other concept.
        usual: share of correct predictions of the predicted class in which ``more`` is stronger.
        weight: contribution to the score, less its mean over correct predictions.
    """

    more: int
    less: int
    usual: float
    weight: float


def reasons(
    rule: Comparisons, levels: Float64, predicted: IntArray, limit: int = SHOWN
) -> list[tuple[Reason, ...]]:
    """For each input its comparisons with the largest positive terms, largest first.

    Args:
        rule: fitted.
        levels: (n, M) strengths, or strengths times ‖r(z)‖.
        predicted: (n,) classes.
        limit: comparisons per input. There are fewer if fewer raise the score.
    """
    i, j = np.triu_indices(levels.shape[1], k=1)
    found = []
    for row, label in zip(levels, predicted, strict=True):
        sign, usual = signs(row[None])[0], rule.usual_[label]
        terms = rule.weights_[label] * (sign - usual)
        few = np.argpartition(-terms, min(limit, len(terms) - 1))[:limit]
        ranked = few[np.lexsort((few, -terms[few]))]
        told = []
        for cell in ranked[terms[ranked] > 0].tolist():
            more, less, share = int(i[cell]), int(j[cell]), (1 + float(usual[cell])) / 2
            if sign[cell] < 0:
                more, less, share = less, more, 1 - share
            told.append(Reason(more, less, share, float(terms[cell])))
        found.append(tuple(told))
    return found
