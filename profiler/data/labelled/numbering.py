"""Whether predictions say that labels and outputs are numbered differently."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

from profiler.core.arrays import IntArray

FEWEST = 50
"""Of fewer images, a low accuracy says nothing of the order."""
CHANCE = 0.001
"""How likely so many shifted hits may be by chance for :func:`suspicious` to speak up."""


def suspicious(truth: IntArray, predicted: IntArray, outputs: int) -> str:
    """A sentence where the predictions say that labels and outputs are numbered differently.

    Three other numberings are tried: one higher (a model with a background class first), one
    lower, and class folders named by numbers but sorted as text (0, 1, 10, 11, …, 2). One is
    suspected where it makes at least three times as many predictions right, in three classes or
    more, beyond what wrong answers hit anyway by how often each class is predicted, and three times
    as often as the opposite numbering: where neighbours look alike, a class is mistaken for the one
    before it about as often as for the one after.

    Args:
        truth: (n,) true classes.
        predicted: (n,) predicted classes.
        outputs: how many there are.

    Returns:
        The sentence; empty where there is nothing to suspect.
    """
    by_text = np.array(sorted(range(outputs), key=str))
    as_text = np.argsort(by_text)
    higher, lower = truth + 1, truth - 1
    tried = [
        (higher, lower, "one higher (does the model have a background class first?)"),
        (lower, higher, "one lower (are they counted from 1?)"),
    ]
    if outputs > 10:  # else the orders are the same
        told = "sorted as text (0, 1, 10, 11, …, 2), as folders are"
        tried.append((as_text[truth], by_text[truth], told))
    plain = truth == predicted
    for other, opposite, told in tried:
        shifted = (other == predicted) & ~plain
        hits, before = int(shifted.sum()), int((plain & (other != predicted)).sum())
        for_it = _majorities(truth, shifted, plain)
        if (
            hits >= 3 * max(before, int(((opposite == predicted) & ~plain).sum()))
            and _beyond_chance(hits, truth, other, predicted, outputs)
            and for_it[0] >= max(3, 3 * for_it[1])
            and binom.sf(hits - 1, hits + before, 0.5) < CHANCE
        ):
            return (
                f"{100 * np.mean(other == predicted):.1f} % of the predictions would be correct "
                f"if the labels were {told}; with the labels as given it is "
                f"{100 * plain.mean():.1f} %: labels and outputs seem to be numbered differently"
            )
    return ""


def _beyond_chance(
    hits: int, truth: IntArray, other: IntArray, predicted: IntArray, outputs: int
) -> bool:
    """Whether wrong answers that know nothing of the labels would hardly hit as often."""
    able = (other != truth) & (other >= 0) & (other < outputs)
    if not hits or not able.any():
        return False
    often = np.bincount(predicted, minlength=outputs) / len(predicted)
    given_wrong = often[other[able]] / np.maximum(1 - often[truth[able]], 1e-12)
    return bool(binom.sf(hits - 1, able.sum(), min(1.0, float(given_wrong.mean()))) < CHANCE)


def _majorities(
    truth: IntArray, shifted: NDArray[np.bool_], plain: NDArray[np.bool_]
) -> tuple[int, int]:
    """Classes in which more predictions are right the one way, and the other.

    One class that is always taken for its neighbour is an error of the model, not of the labels.
    """
    lead = np.bincount(truth, weights=shifted.astype(float) - plain.astype(float))
    return int((lead > 0).sum()), int((lead < 0).sum())


def reordered(truth: IntArray, predicted: IntArray, outputs: int) -> str:
    """A sentence where another order of the classes suits the predictions far better.

    Or where the order is no better than shuffled names, by a binomial test at 5 %. For an order
    that nobody gave. Of all ways to put one class to each output, the one that makes most
    predictions right is compared with the order as it stands, as in :func:`suspicious`. A
    network that confuses two classes throughout looks the same, so this is no fault of labels
    that name their outputs.

    Args:
        truth: (n,) true classes in the order assumed.
        predicted: (n,) predicted classes.
        outputs: how many there are.

    Returns:
        The sentence; empty where there is nothing to suspect.
    """
    counts = np.zeros((outputs, outputs), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    moved = rows != columns
    hits = int(counts[rows, columns][moved].sum())
    before = int(counts[rows, rows][moved].sum())
    best, plain = int(counts[rows, columns].sum()), int(np.trace(counts))
    if hits < 3 * before or not binom.sf(hits - 1, hits + before, 0.5) < CHANCE:
        # Over all orders of the names, one prediction in `outputs` is correct on average.
        if len(truth) < FEWEST or binom.sf(plain - 1, len(truth), 1 / outputs) < 0.05:
            return ""
        return (
            f"{100 * plain / len(truth):.1f} % of the predictions are correct if the outputs are "
            f"the sorted class folders, which was assumed; shuffled names give "
            f"{100 / outputs:.1f} %: say what the outputs are called with --classes FILE"
        )
    return (
        f"{100 * best / len(truth):.1f} % of the predictions would be correct if the outputs came "
        f"in another order; in the order that was assumed, it is {100 * plain / len(truth):.1f} "
        "%: say what they are called with --classes FILE"
    )
