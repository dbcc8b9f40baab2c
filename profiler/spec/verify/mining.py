"""Specs that images suggest: which concepts are stronger than which, by predicted class.

A proposal is ``predict(x, class) => >(x, relevant, irrelevant)``. Its *rate* is the share of the
images predicted as the class in which the one concept is stronger than the other; its *lift* is
that rate over the rate among all other images. What is chosen on some images is measured on others:
the best of many pairs look better than they are on the images they were chosen on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from profiler.concepts.heatmap import compare
from profiler.core.arrays import BoolArray, FloatArray
from profiler.core.statistics import wilson
from profiler.spec.language.tree import Formula, Implies, Predicts, Stronger
from profiler.spec.verify.interpretation import ImageFacts
from profiler.spec.verify.rates import LEVEL, Rate

FEWEST = 5
"""Images predicted as a class, below which nothing is proposed for it."""


@dataclass(frozen=True)
class Proposal:
    """A spec, and how far it holds.

    Attributes:
        label: class predicted.
        relevant: the concept that is to be stronger.
        irrelevant: than this one.
        inside: rate among images predicted as the class.
        outside: rate among all others.
    """

    label: str
    relevant: str
    irrelevant: str
    inside: Rate
    outside: Rate

    @property
    def formula(self) -> Formula:
        """As a formula."""
        return Implies(Predicts(self.label), Stronger(self.relevant, self.irrelevant))

    @property
    def lift(self) -> float:
        """How many times as often it holds inside as outside; infinite if never outside."""
        outside = self.outside.value
        return self.inside.value / outside if outside > 0 else float("inf")


def measure(
    facts: ImageFacts, pairs: Iterable[tuple[str, str, str]], rows: BoolArray | None = None
) -> list[Proposal]:
    """How far ``(class, relevant, irrelevant)`` hold, on some of the images.

    Args:
        facts: of N images.
        pairs: to be measured.
        rows: (N,) which images count; None: all.
    """
    rows = np.ones(len(facts), dtype=bool) if rows is None else rows
    predicted: dict[str, BoolArray] = {}
    found = []
    for label, relevant, irrelevant in pairs:
        if label not in predicted:
            predicted[label] = facts.atom(Predicts(label))
        own = predicted[label]
        holds = facts.atom(Stronger(relevant, irrelevant))
        found.append(
            Proposal(
                label,
                relevant,
                irrelevant,
                Rate.of(holds[own & rows]),
                Rate.of(holds[~own & rows]),
            )
        )
    return found


def candidates(
    facts: ImageFacts,
    labels: Sequence[str],
    rows: BoolArray,
    *,
    per_class: int,
    least_rate: float,
) -> list[tuple[str, str, str]]:
    """For each class the pairs of concepts that set it apart most.

    Those whose rate inside, at the low end of its interval, reaches ``least_rate``, by how much it
    exceeds the rate outside. A concept is the stronger side of at most a third of a class's pairs,
    so that one strong concept does not fill the list.

    Args:
        facts: of N images.
        labels: the classes.
        rows: (N,) images to choose on.
        per_class: pairs at most.
        least_rate: inside.
    """
    names = facts.of.concepts.names
    found: list[tuple[str, str, str]] = []
    for label in labels:
        own = facts.atom(Predicts(label))
        inside, outside = facts.strengths[own & rows], facts.strengths[~own & rows]
        if len(inside) < FEWEST or not len(outside):
            continue
        won, others = compare(inside)[0], compare(outside)[0]
        gain = won / len(inside) - others / len(outside)
        low, _ = wilson(won, len(inside), LEVEL)
        gain[low < least_rate] = -np.inf
        np.fill_diagonal(gain, -np.inf)
        order = np.argsort(-gain, axis=None, kind="stable")
        taken: dict[int, int] = {}
        chosen = 0
        for place in order.tolist():
            relevant, irrelevant = divmod(place, len(names))
            if chosen == per_class or not gain[relevant, irrelevant] > 0:
                break
            if taken.get(relevant, 0) < max(1, -(-per_class // 3)):
                taken[relevant] = taken.get(relevant, 0) + 1
                found.append((label, names[relevant], names[irrelevant]))
                chosen += 1
    return found


def relevant_pairs(
    frequencies: FloatArray, concepts: Sequence[str], *, most: int, relevant: float, gap: float
) -> list[tuple[str, str]]:
    """Of how often a class shows each attribute: which should beat which, clearest first.

    Args:
        frequencies: (M,) shares.
        concepts: (M,) names.
        most: pairs at most.
        relevant: the stronger one is shown at least so often …
        gap: … and the weaker one less often by so much.

    >>> relevant_pairs(np.array([0.9, 0.0, 0.5]), ["ears", "wheels", "wet"], most=2, relevant=0.5,
    ...     gap=0.4)
    [('ears', 'wheels'), ('wet', 'wheels')]
    """
    pairs = [
        (float(frequencies[i] - frequencies[j]), i, j)
        for i in range(len(concepts))
        for j in range(len(concepts))
        if i != j and frequencies[i] >= relevant and frequencies[i] - frequencies[j] >= gap
    ]
    pairs.sort(key=lambda each: (-each[0], each[1], each[2]))
    return [(concepts[i], concepts[j]) for _, i, j in pairs[:most]]
