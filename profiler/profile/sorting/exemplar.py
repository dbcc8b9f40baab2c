"""Words into categories without a language model: by labelled examples in a text space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from profiler.core.arrays import FloatArray, IntArray
from profiler.core.categories import UNKNOWN
from profiler.errors import InputError
from profiler.profile.sorting.categories import Category, check_categories
from profiler.profile.sorting.sorting import Sorting

Embed = Callable[[Sequence[str]], FloatArray]
"""n texts to an (n, e) array of unit rows."""

_STRANGE = 0.025
"""Share of the exemplars that would themselves be called unknown, were they not exemplars."""
_RIDGES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)


@dataclass(frozen=True)
class RidgeClassifier:
    """Ridge regression on ±1 targets, one category against the rest, each category weighing alike.

    With rows x_i, weights w_i = n / (categories · size of i's category) and a column of ones, the
    coefficients minimise Σ w_i ‖x_i B − y_i‖² + α ‖B‖². One eigendecomposition of Σ w_i x_iᵀ x_i
    gives them for every α, and the values that each example would get were it left out:
    (ŷ_i − h_i y_i) / (1 − h_i), h_i being i's leverage (see Hastie, Tibshirani & Friedman, *The
    Elements of Statistical Learning*, 2nd ed., section 7.10). α is the one whose left-out values
    are right most often, averaged over the categories; the first of equals.
    """

    coefficients: FloatArray
    ridge: float
    left_out_accuracy: float

    @classmethod
    def fit(cls, rows: FloatArray, labels: IntArray, categories: int) -> "RidgeClassifier":
        """Fit to rows (n, e) with labels in 0 … categories−1, each at least twice."""
        sizes = np.bincount(labels, minlength=categories)
        if sizes.min() < 2:
            raise InputError("the exemplar sorter needs several examples of each category")
        root = np.sqrt(len(labels) / (categories * sizes))[labels][:, None]
        x = root * _with_ones(rows)
        y = root * np.where(labels[:, None] == np.arange(categories), 1.0, -1.0)
        values, vectors = np.linalg.eigh(x.T @ x)
        turned = x @ vectors
        best = cls(np.empty(0), 0.0, -1.0)
        highest = -1.0
        for ridge in _RIDGES:
            shrunk = turned / (np.maximum(values, 0) + ridge)
            leverage = (shrunk * turned).sum(axis=1, keepdims=True)
            left_out = (shrunk @ (turned.T @ y) - leverage * y) / (1 - leverage)
            right = left_out.argmax(axis=1) == labels
            recall = float(np.mean([right[labels == c].mean() for c in range(categories)]))
            if recall > highest:
                highest = recall
                best = cls(vectors @ (shrunk.T @ y), ridge, float(right.mean()))
        return best

    def predict(self, rows: FloatArray) -> IntArray:
        """The category of each row, by number."""
        return np.asarray((_with_ones(rows) @ self.coefficients).argmax(axis=1))


def _with_ones(rows: FloatArray) -> FloatArray:
    return np.hstack([rows, np.ones((len(rows), 1))]).astype(np.float64)


class ExemplarSorter:
    """Sorts by labelled examples: ridge regression in the text space, tuned on the examples alone.

    If ``unknown`` is among the categories, it takes the words that are further from
    every exemplar than 97.5 % of the exemplars are from each other. Where a category has no
    exemplars (a user's own), the examples say nothing: then each word goes to the category whose
    name and description lie nearest, and the result says so.

    Args:
        embed: n texts to (n, e) unit rows.
        exemplars: (word, category) pairs.
    """

    def __init__(self, embed: Embed, exemplars: Sequence[tuple[str, str]]) -> None:
        if not exemplars:
            raise InputError("the exemplar sorter has no exemplars")
        self.embed = embed
        self.exemplars = tuple(exemplars)

    @cached_property
    def _rows(self) -> FloatArray:
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
        classifier = RidgeClassifier.fit(examples, labels, len(names))
        known = {self.exemplars[i][0]: self.exemplars[i][1] for i in used}
        rows = self._unit_rows(words)
        chosen = [names[best] for best in classifier.predict(rows).tolist()]
        if may_be_unknown:
            far = (rows @ examples.T).max(axis=1) < _least_cosine(examples)
            chosen = [UNKNOWN if f else name for f, name in zip(far, chosen, strict=True)]
        # A word that is an exemplar keeps the label a person gave it.
        category = {w: known.get(w, name) for w, name in zip(words, chosen, strict=True)}
        note = (
            f"No language model: {len(used):,} labelled example words decided, by ridge regression "
            f"on their embeddings. It is correct for {classifier.left_out_accuracy:.0%} of those "
            "words when each is left out in turn."
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
                "ridge": classifier.ridge,
                "exemplars": len(used),
                "left_out_accuracy": round(classifier.left_out_accuracy, 4),
            },
        )

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
            notes=(note,),
            provenance={"rule": "nearest name and description", "exemplars": 0},
        )

    def _unit_rows(self, texts: Sequence[str]) -> FloatArray:
        if not texts:
            return np.zeros((0, self.embed(["x"]).shape[1]))
        return np.asarray(self.embed(list(texts)), dtype=np.float64)


def _least_cosine(examples: FloatArray) -> float:
    """Find the cosine to the nearest other exemplar that only a share ``_STRANGE`` falls below."""
    between = examples @ examples.T
    np.fill_diagonal(between, -np.inf)
    return float(np.quantile(between.max(axis=1), _STRANGE))
