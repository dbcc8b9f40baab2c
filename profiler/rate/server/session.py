"""Which question comes next, and what an answer does; knows nothing of the network."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiler.errors import InputError
from profiler.profile.explain import LayerRange
from profiler.profile.labels import LayerLabels
from profiler.profile.result import SHOWN_IMAGES
from profiler.rate.book import RatingBook
from profiler.rate.ratings import MAYBE, NO, YES, Rating, Unit, check_rater, sample_units
from profiler.report.text import number as as_text

ANSWERS: dict[str, float | None] = {"yes": YES, "maybe": MAYBE, "no": NO, "skip": None}
_WORDS = {value: word for word, value in ANSWERS.items()}


@dataclass(frozen=True)
class Question:
    """One unit as a rater sees it."""

    unit: Unit
    description: str
    score: float
    images: tuple[int, ...]
    words: tuple[tuple[str, float], ...] = ()
    """Of the range: words and their weights."""
    activations: tuple[float, ...] = ()
    """Of the range: on each image, highest first."""


def _peak_question(book: RatingBook, layer: LayerLabels, unit: Unit) -> Question:
    images = layer.top_images[unit[1], :SHOWN_IMAGES].tolist()
    return Question(
        unit,
        book.units[unit],
        float(layer.score[unit[1], 0]),
        tuple(image for image in images if image in book.run.thumbnails),
    )


def _range_question(book: RatingBook, layer: LayerRange, unit: Unit) -> Question:
    place = unit[1]
    words = tuple(book.run.explaining(layer, place))
    every = zip(layer.images[place].tolist(), layer.activations[place].tolist(), strict=True)
    shown = [each for each in every if each[0] in book.run.thumbnails]
    return Question(
        unit,
        ", ".join(word for word, _ in words),
        float(layer.shown_r[place]),
        tuple(image for image, _ in shown),
        words,
        tuple(activation for _, activation in shown),
    )


def _bars(activations: Sequence[float]) -> list[dict[str, Any]]:
    """Each as text, and as a share of the range from the lowest shown to the highest."""
    low, high = min(activations), max(activations)
    # Two digits of the range tell its images apart.
    digits = min(max(1 - math.floor(math.log10(high - low)), 0), 6) if high > low else 3
    return [
        {"text": as_text(each, digits), "share": (each - low) / (high - low) if high > low else 1.0}
        for each in activations
    ]


class Session:
    """The questions of a run, the same in the same order for every rater.

    Args:
        book: the run and its answers.
        per_layer: units asked about in each layer.
        seed: of the sample.
        blind: keep score and layer from the raters.
    """

    def __init__(
        self, book: RatingBook, *, per_layer: int = 100, seed: int = 0, blind: bool = False
    ) -> None:
        self.book = book
        self.blind = blind
        run = book.run
        strata: dict[str, list[int]] = {layer.layer: [] for layer in run.layers}
        for name, unit in book.units:
            strata[name].append(unit)
        sample = sample_units(strata, per_layer, seed)
        if book.view == "peak":
            labels = {layer.layer: layer for layer in run.layers}
            asked = [_peak_question(book, labels[unit[0]], unit) for unit in sample]
        else:
            ranges = {layer.layer: layer for layer in run.ranges}
            asked = [_range_question(book, ranges[unit[0]], unit) for unit in sample]
        self.questions = [question for question in asked if question.images]
        if not self.questions:
            raise InputError(
                f"{str(book.path.parent)!r} holds no unit with a description and images to show"
                + ("" if run.thumbnails else "; its folder images/ is empty or missing")
            )

    @property
    def image_ids(self) -> frozenset[int]:
        """Images that some question shows; no others are handed out."""
        return frozenset(image for question in self.questions for image in question.images)

    def raters(self) -> list[dict[str, Any]]:
        """Everyone who has answered, and how many questions."""
        asked = {question.unit for question in self.questions}
        done = Counter(rating.rater for rating in self.book.ratings if rating.about in asked)
        return [{"name": name, "done": done[name]} for name in sorted(done)]

    def guidelines(self) -> dict[str, int]:
        """How many fitting images make a Maybe: 3 to 6 of 10, as in Li & Weng's report."""
        shown = max(len(question.images) for question in self.questions)
        return {
            "shown": shown,
            "from": max(1, math.ceil(0.3 * shown - 1e-9)),
            "to": max(1, math.floor(0.6 * shown + 1e-9)),
        }

    def state(self, rater: str) -> dict[str, Any]:
        """What the page shows this rater now."""
        rater = check_rater(rater)
        given = [self.book.find(rater, question.unit) for question in self.questions]
        open_ = [number for number, rating in enumerate(given) if rating is None]
        last = self._last(rater)
        return {
            "rater": rater,
            "total": len(self.questions),
            "done": len(self.questions) - len(open_),
            "tally": Counter(_WORDS[rating.value] for rating in given if rating is not None),
            "question": self._shown(open_[0]) if open_ else None,
            "coming": [
                image for number in open_[1:3] for image in self.questions[number].images
            ],
            "last": None if last is None else {
                "number": last[0],
                "description": self.questions[last[0]].description,
                "answer": _WORDS[last[1].value],
            },
        }  # fmt: skip

    def rate(self, rater: str, number: int, answer: str) -> dict[str, Any]:
        """Keep an answer and give the next state; an answer given twice is kept once."""
        rater = check_rater(rater)
        question = self._question(number)
        if answer not in ANSWERS:
            raise InputError(f"{answer!r} is none of {', '.join(ANSWERS)}")
        if self.book.find(rater, question.unit) is None:
            self.book.add(rater, question.unit, ANSWERS[answer])
        return self.state(rater)

    def undo(self, rater: str, number: int) -> dict[str, Any]:
        """Take back the rater's last answer, if it is still the one to this question."""
        rater = check_rater(rater)
        last = self._last(rater)
        if last is not None and last[0] == number:
            self.book.undo(last[1])
        return self.state(rater)

    def _question(self, number: int) -> Question:
        if not 0 <= number < len(self.questions):
            raise InputError(f"there is no question {number}")
        return self.questions[number]

    def _last(self, rater: str) -> tuple[int, Rating] | None:
        """The rater's latest answer, with the number of its question."""
        numbers = {question.unit: number for number, question in enumerate(self.questions)}
        for rating in reversed(self.book.ratings):
            if rating.rater == rater and rating.about in numbers:
                return numbers[rating.about], rating
        return None

    def _shown(self, number: int) -> dict[str, Any]:
        question = self.questions[number]
        shown: dict[str, Any] = {
            "number": number,
            "description": question.description,
            "images": question.images,
        }
        if question.words:
            most = max(weight for _, weight in question.words)
            shown["words"] = [
                {"text": word, "share": weight / most} for word, weight in question.words
            ]
            shown["activations"] = _bars(question.activations)
        if not self.blind:
            name, unit = question.unit
            shown |= {"layer": name, "unit": unit, "score": question.score}
        return shown
