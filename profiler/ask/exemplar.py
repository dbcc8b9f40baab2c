"""Words into categories without a language model: by labelled examples in a text space."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from profiler.ask.categories import Category, check_categories
from profiler.ask.sorting import Sorting
from profiler.errors import InputError
from profiler.layer_profile import UNKNOWN
from profiler.llm import Usage

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Embed = Callable[[Sequence[str]], Floats]
"""n texts to an (n, e) array of unit rows."""

_FOLDS = 5
_STRANGE = 0.025
"""Share of the exemplars that would themselves be called unknown, were they not exemplars."""


class _Rule(Protocol):
    """How examples decide: one score a category (columns) for each query (rows)."""

    @property
    def name(self) -> str: ...

    def scores(self, examples: Floats, labels: Ints, queries: Floats, n: int) -> Floats: ...


@dataclass(frozen=True)
class Centroid:
    """The nearest mean of a category's examples (cosine)."""

    name: str = "nearest centroid"

    def scores(self, examples: Floats, labels: Ints, queries: Floats, n: int) -> Floats:
        """Give the cosine with each category's mean example."""
        means = np.stack([examples[labels == c].mean(axis=0) for c in range(n)])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return np.asarray(queries @ means.T)


@dataclass(frozen=True)
class Neighbours:
    """The most frequent category among the ``k`` nearest examples, near ones counting more."""

    k: int

    @property
    def name(self) -> str:
        """Short description."""
        return f"{self.k} nearest exemplars"

    def scores(self, examples: Floats, labels: Ints, queries: Floats, n: int) -> Floats:
        """Sum ``exp((cosine - 1) / 0.1)`` over the neighbours, category by category."""
        cosines = queries @ examples.T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : self.k]
        weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1) / 0.1)
        return np.stack([(weights * (labels[nearest] == c)).sum(axis=1) for c in range(n)], axis=1)


@dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression on ±1 targets, one against the rest, with a Gaussian kernel.

    The kernel is ``exp(-width · d² / m)``, d the distance and m the median d² between examples:
    the scale adapts to spaces where all texts lie close together, as in CLIP's. See Rifkin,
    Yeo & Poggio, *Regularized Least-Squares Classification* (2003).
    """

    width: float
    ridge: float

    @property
    def name(self) -> str:
        """Short description."""
        return f"kernel ridge regression (width {self.width:g}, ridge {self.ridge:g})"

    def scores(self, examples: Floats, labels: Ints, queries: Floats, n: int) -> Floats:
        """Give the regression's value for each category."""
        between = np.maximum(2 - 2 * examples @ examples.T, 0)
        scale = self.width / max(float(np.median(between)), 1e-12)
        targets = np.where(labels[:, None] == np.arange(n), 1.0, -1.0)
        kernel = np.exp(-scale * between)
        regular = kernel + self.ridge * np.eye(len(labels))
        weights = scipy.linalg.solve(regular, targets, assume_a="pos")
        return np.asarray(np.exp(-scale * np.maximum(2 - 2 * queries @ examples.T, 0)) @ weights)


RULES: tuple[_Rule, ...] = (
    Centroid(),
    Neighbours(1),
    Neighbours(5),
    Neighbours(20),
    KernelRidge(0.5, 0.1),
    KernelRidge(1.0, 0.1),
    KernelRidge(2.0, 0.1),
    KernelRidge(1.0, 1.0),
)
"""The rules to choose from; the choice is made on the exemplars alone."""


class ExemplarSorter:
    """Sorts by labelled examples, with the rule that does best on the examples themselves.

    The rule is chosen by five-fold cross-validation on the exemplars; no other labelled word is
    looked at. If ``unknown`` is among the categories, it takes the words that are further from
    every exemplar than 97.5 % of the exemplars are from each other. Where a category has no
    exemplars (a user's own), the examples say nothing: then each word goes to the category whose
    name and description lie nearest, and the result says so.

    Args:
        embed: n texts to (n, e) unit rows.
        exemplars: (word, category) pairs.
        seed: orders the folds.
    """

    def __init__(
        self, embed: Embed, exemplars: Sequence[tuple[str, str]], *, seed: int = 0
    ) -> None:
        if not exemplars:
            raise InputError("the exemplar sorter has no exemplars")
        self.embed = embed
        self.exemplars = tuple(exemplars)
        self.seed = seed

    @cached_property
    def _rows(self) -> Floats:
        return self._unit_rows([word for word, _ in self.exemplars])

    def sort(self, words: Sequence[str], categories: Sequence[Category]) -> Sorting:
        """Give every word a category."""
        check_categories(categories)
        unique = list(dict.fromkeys(words))
        labelled = {category for _, category in self.exemplars}
        wanted = [c for c in categories if c.name != UNKNOWN]
        without = [c.name for c in wanted if c.name not in labelled]
        if without or len(wanted) < 2:
            return self._by_name(unique, wanted or list(categories), without)
        return self._by_example(unique, [c.name for c in wanted], len(wanted) < len(categories))

    def _by_example(
        self, words: Sequence[str], names: Sequence[str], may_be_unknown: bool
    ) -> Sorting:
        used = [i for i, (_, category) in enumerate(self.exemplars) if category in names]
        examples = self._rows[used]
        labels = np.array([names.index(self.exemplars[i][1]) for i in used])
        rule, accuracy = self._choose(examples, labels, len(names))
        known = {self.exemplars[i][0]: self.exemplars[i][1] for i in used}
        rows = self._unit_rows(words)
        best = rule.scores(examples, labels, rows, len(names)).argmax(axis=1)
        chosen = [names[b] for b in best.tolist()]
        if may_be_unknown:
            far = _nearest(rows, examples) < _least_cosine(examples)
            chosen = [UNKNOWN if f else name for f, name in zip(far, chosen, strict=True)]
        # A word that is an exemplar keeps the label a person gave it.
        category = {w: known.get(w, name) for w, name in zip(words, chosen, strict=True)}
        note = (
            f"No language model: {len(used):,} labelled example words decided, by {rule.name}, "
            f"which is right for {accuracy:.0%} of those words in five-fold cross-validation."
        )
        strange = sum(name == UNKNOWN for name in category.values())
        far_note = (
            f"{strange:,} of {len(category):,} words lie far from every example and count as "
            "unknown."
            if may_be_unknown
            else "A word that fits no category gets one all the same."
        )
        return Sorting(
            "exemplar",
            category,
            notes=(note, far_note),
            provenance={
                "rule": rule.name,
                "exemplars": len(used),
                "cross_validated_accuracy": round(accuracy, 4),
                "seed": self.seed,
            },
        )

    def _choose(self, examples: Floats, labels: Ints, n: int) -> tuple[_Rule, float]:
        """Pick the rule with the best cross-validated accuracy, the first of equals."""
        order = np.random.default_rng(self.seed).permutation(len(labels))
        fold = np.empty(len(labels), dtype=np.int64)
        fold[order] = np.arange(len(labels)) % _FOLDS
        if any(len(set(fold[labels == c].tolist())) < 2 for c in range(n)):
            raise InputError("the exemplar sorter needs several examples of each category")
        accuracies = [_accuracy(rule, examples, labels, fold, n) for rule in RULES]
        best = int(np.argmax(accuracies))
        return RULES[best], accuracies[best]

    def _by_name(
        self, words: Sequence[str], categories: Sequence[Category], without: Sequence[str]
    ) -> Sorting:
        names = self._unit_rows([f"{c.name}: {c.description}".rstrip(": ") for c in categories])
        best = (self._unit_rows(words) @ names.T).argmax(axis=1)
        listed = ", ".join(repr(name) for name in without) or "the categories given"
        note = (
            f"No language model, and no labelled examples of {listed}: each word went to the "
            "category whose name and description lie nearest in the text space. This is much "
            "less reliable than a language model or labelled examples."
        )
        return Sorting(
            "exemplar",
            {w: categories[b].name for w, b in zip(words, best.tolist(), strict=True)},
            usage=Usage(),
            notes=(note,),
            provenance={"rule": "nearest name and description", "exemplars": 0},
        )

    def _unit_rows(self, texts: Sequence[str]) -> Floats:
        if not texts:
            return np.zeros((0, self.embed(["x"]).shape[1]))
        return np.asarray(self.embed(list(texts)), dtype=np.float64)


def _nearest(rows: Floats, examples: Floats) -> Floats:
    return np.asarray((rows @ examples.T).max(axis=1))


def _least_cosine(examples: Floats) -> float:
    """Find the cosine to the nearest other exemplar that only a share ``_STRANGE`` falls below."""
    between = examples @ examples.T
    np.fill_diagonal(between, -np.inf)
    return float(np.quantile(between.max(axis=1), _STRANGE))


def _accuracy(rule: _Rule, examples: Floats, labels: Ints, fold: Ints, n: int) -> float:
    right = 0
    for train, test in _splits(fold):
        scores = rule.scores(examples[train], labels[train], examples[test], n)
        right += int((scores.argmax(axis=1) == labels[test]).sum())
    return right / len(labels)


def _splits(fold: Ints) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for part in range(_FOLDS):
        yield fold != part, fold == part
