"""What speaks against an input: the relations of concepts that count most in its score.

A rule that is linear in the comparisons σ_ij (:mod:`profiler.guard.rules.comparisons`) exceeds what
it gives a right answer of the same predicted class, on average, by

    score(x) − E[score | right, c] = Σ_{i<j} w_c[i, j] · (σ_ij(x) − E[σ_ij | right, c]).

The relations with the largest terms are the reasons. A term is large where the relation is unusual
for right answers of the class and usual for wrong ones.
"""

from dataclasses import dataclass

import numpy as np

from profiler.core.arrays import Float64, IntArray
from profiler.guard.rules.comparisons import Comparisons, signs

SHOWN = 3


@dataclass(frozen=True)
class Reason:
    """A relation that speaks against an input.

    Attributes:
        more: concept that is stronger in this input …
        less: … than this one.
        usual: share of the right answers of the predicted class in which it is.
        weight: what the relation adds to the score, over what it adds to right answers.
    """

    more: int
    less: int
    usual: float
    weight: float


def reasons(
    rule: Comparisons, levels: Float64, predicted: IntArray, limit: int = SHOWN
) -> list[tuple[Reason, ...]]:
    """For each input its relations with the largest positive terms, largest first.

    Args:
        rule: fitted.
        levels: (n, M) strengths, or strengths times ‖r(z)‖.
        predicted: (n,) classes.
        limit: relations an input. Fewer are given where fewer speak against it.
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
