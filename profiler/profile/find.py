"""Which units of a finished run have to do with a word.

Labels, other words and explanations are indices into the concept set, so a word is looked up among
the concepts once, and everything else is arithmetic on arrays.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from profiler.core.arrays import BoolArray, Float64, IntArray
from profiler.errors import UnknownNameError
from profiler.models.vlm.base import TextEncoder, for_words
from profiler.profile.drivers import columns_of, half_interval, usual_name
from profiler.profile.result import ProfileRun

Measure = Literal["score", "weight", "effect"]
"""By what a unit responds to a word: its score, its weight in the explanation, or by experiment."""


class UnitPlace(NamedTuple):
    """Where a unit stands: its layer among the run's, and its row in that layer's arrays."""

    layer: int
    unit: int


@dataclass(frozen=True)
class Response:
    """How a unit responds to a word.

    Attributes:
        place: of the unit.
        word: that was looked for, as the concept set has it.
        value: the measure.
        rank: place of the word among those of the unit, the first being 0; −1 by experiment.
        half: half the width of the 95 % interval; NaN where there is none.
    """

    place: UnitPlace
    word: str
    value: float
    rank: int
    half: float = float("nan")


def layer_place(run: ProfileRun, name: str) -> int:
    """Which of the run's layers has a name; raises :class:`UnknownNameError` where none has."""
    known = [each.layer for each in run.layers]
    if name not in known:
        raise UnknownNameError("layer of the profile", name, known)
    return known.index(name)


def holds_word(run: ProfileRun, word: str) -> BoolArray:
    """(M,) which concepts are or hold a word, as a whole, in capitals or not.

    Where none does, those that are or hold it by its usual name or in the singular: ``stripes``
    are then ``striped``.
    """
    plain = word.strip().casefold()
    forms = (word.strip(), usual_name(plain), plain.removesuffix("s"), plain.removesuffix("es"))
    for form in dict.fromkeys(filter(None, forms)):
        pattern = re.compile(rf"(?<!\w){re.escape(form)}(?!\w)", re.IGNORECASE)
        found = np.array([bool(pattern.search(each)) for each in run.concepts], dtype=bool)
        if found.any():
            return found
    return np.zeros(len(run.concepts), dtype=bool)


def is_word(run: ProfileRun, word: str) -> BoolArray:
    """(M,) which concept is a word; where none is, those that hold it (:func:`holds_word`)."""
    plain = word.strip().casefold()
    found = np.array([concept.casefold() == plain for concept in run.concepts], dtype=bool)
    return found if found.any() else holds_word(run, word)


def find_units(
    run: ProfileRun, wanted: BoolArray, layer: str | None = None, *, trusted: bool = False
) -> list[UnitPlace]:
    """Units whose label or explanation is a wanted word.

    Those come first whose label it is; among them and the others, trusted labels and high scores.

    Args:
        run: a finished one.
        wanted: (M,) which concepts are looked for.
        layer: in this layer alone.
        trusted: only units whose trusted label, or explanation that counts as one, it is.

    Raises:
        UnknownNameError: there is no such layer.
    """
    found: list[tuple[bool, bool, float, UnitPlace]] = []
    for place in _places(run, layer):
        labels = run.layers[place]
        sure = run.trusted(labels)
        label = _among(wanted, labels.concept[:, 0])
        explained = np.zeros(len(label), dtype=bool)
        if run.ranges:
            ranges = run.ranges[place]
            explained = np.any(_among(wanted, ranges.concept), axis=1)
            if trusted:
                explained &= ranges.explained(run.explained_cut)
        holds = (label & sure if trusted else label) | explained
        score = np.nan_to_num(np.asarray(labels.score[:, 0], np.float64), nan=-np.inf)
        found += [
            (bool(label[unit]), bool(sure[unit]), float(score[unit]), UnitPlace(place, unit))
            for unit in np.flatnonzero(holds).tolist()
        ]
    found.sort(key=lambda each: (not each[0], not each[1], -each[2]))
    return [place for *_, place in found]


def responding(
    run: ProfileRun, wanted: BoolArray, layer: str | None = None, *, by: Measure = "score"
) -> list[Response]:
    """Units that respond to a wanted word, strongest first.

    A run keeps five words of each unit with their scores, and the words of its explanation with
    their weights: of a unit that has the word among neither, it does not say how it responds. By
    experiment, where a level that the word names raises a unit's activation, every unit is known.

    Args:
        run: a finished one.
        wanted: (M,) which concepts are looked for.
        layer: in this layer alone.
        by: the measure.

    Raises:
        UnknownNameError: there is no such layer.
    """
    found = []
    for place in _places(run, layer):
        if by == "effect":
            found += _by_effect(run, wanted, place)
            continue
        if by == "weight" and not run.ranges:
            continue
        concept, value = (
            (run.layers[place].concept, run.layers[place].score)
            if by == "score"
            else (run.ranges[place].concept, run.ranges[place].weight)
        )
        hits = _among(wanted, concept)
        for unit in np.flatnonzero(hits.any(axis=1)).tolist():
            rank = int(np.argmax(hits[unit]))  # words stand in order, so the first is the best
            if by == "weight":
                rank = int(np.argmax(np.where(hits[unit], value[unit], -np.inf)))
            word = run.concepts[int(concept[unit, rank])]
            found.append(Response(UnitPlace(place, unit), word, float(value[unit, rank]), rank))
    return sorted(found, key=lambda each: -each.value)


def nearest_words(query: str, texts: TextEncoder, known: "WordRows") -> list[tuple[str, float]]:
    """The words that units carry, nearest in meaning to a query first, with their cosines.

    Args:
        query: some words.
        texts: the text side of the VLM of the run.
        known: the words, embedded by it.
    """
    cosines = known.rows @ np.asarray(for_words(texts).embed_texts([query]), np.float64)[0]
    order = np.argsort(-cosines, kind="stable")
    return [(known.words[i], float(cosines[i])) for i in order.tolist()]


@dataclass(frozen=True)
class WordRows:
    """The words that some unit has as its label or in its explanation, embedded.

    Attributes:
        words: W of them.
        rows: (W, e) unit rows.
    """

    words: tuple[str, ...]
    rows: Float64

    @classmethod
    def of(cls, run: ProfileRun, texts: TextEncoder) -> "WordRows":
        """Embed the words of a run; of thousands of words, that takes seconds."""
        words = carried_words(run)
        rows = for_words(texts).embed_texts(words) if words else np.zeros((0, 1))
        return cls(words, np.asarray(rows, np.float64))


def carried_words(run: ProfileRun) -> tuple[str, ...]:
    """The words that some unit has as its label or in its explanation."""
    carried = [layer.concept[:, 0] for layer in run.layers]
    carried += [layer.concept.ravel() for layer in run.ranges]
    concepts = np.unique(np.concatenate([*carried, np.array([-1])]))
    return tuple(run.concepts[i] for i in concepts.tolist() if i >= 0)


def _by_effect(run: ProfileRun, wanted: BoolArray, place: int) -> list[Response]:
    done = run.experiment
    if done is None:
        return []
    layer = done.layers[place]
    found = []
    for word in [run.concepts[i] for i in np.flatnonzero(wanted).tolist()]:
        for column in columns_of(word, done.factors):
            effect = np.asarray(layer.effect[:, column], np.float64)
            half = half_interval(layer.effect_error[:, column])
            for unit in np.flatnonzero(layer.varying & (effect - half > 0)).tolist():
                here = UnitPlace(place, unit)
                found.append(Response(here, word, float(effect[unit]), -1, float(half[unit])))
    return found


def _among(wanted: BoolArray, concept: IntArray) -> BoolArray:
    """Where an array of indices names a wanted concept."""
    found: BoolArray = (concept >= 0) & wanted[np.maximum(concept, 0)]
    return found


def _places(run: ProfileRun, layer: str | None) -> Sequence[int]:
    return range(len(run.layers)) if layer is None else [layer_place(run, layer)]
