"""Runs and comparisons written by hand."""

from collections.abc import Sequence

import numpy as np

from profiler.compare.result import ComparedRun, LayerDraws
from profiler.compare.runs import SortedWords, compared_run
from profiler.profile.labels import KEPT_LABELS, LayerLabels
from profiler.profile.threshold import Threshold

WORDS = ("red", "green", "cat", "dog", "beach")


SORTING = SortedWords(
    WORDS,
    ("color", "object", "scene"),
    {"red": "color", "green": "color", "cat": "object", "dog": "object", "beach": "scene"},
)


CUT = Threshold(0.5, "given")


def labelled(layer: str, units: Sequence[str | None], weak: Sequence[int] = ()) -> LayerLabels:
    """Units with these words, None for a dead one; those in ``weak`` are not trusted."""
    concept = np.array([-1 if word is None else WORDS.index(word) for word in units])
    score = np.where(concept < 0, np.nan, 1.0)
    score[list(weak)] = 0.1
    nothing = np.zeros((len(units), 0))
    return LayerLabels(
        layer, np.repeat(concept[:, None], KEPT_LABELS, axis=1),
        np.repeat(score[:, None], KEPT_LABELS, axis=1), np.full(len(units), np.nan),
        concept < 0, nothing.astype(np.int64), nothing, np.zeros(0),
    )  # fmt: skip


def run(
    name: str, layers: dict[str, Sequence[str | None]], draws: Sequence[LayerDraws] | None = None
) -> ComparedRun:
    labels = [labelled(layer, units) for layer, units in layers.items()]
    return compared_run(name, labels, CUT, SORTING, draws)


def steady(units: Sequence[str | None], draws: int = 20) -> LayerDraws:
    """Draws that all find the same."""
    concept = np.array([-1 if word is None else WORDS.index(word) for word in units])
    return LayerDraws(np.tile(concept, (draws, 1)), np.tile(concept >= 0, (draws, 1)))
