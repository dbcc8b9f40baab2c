"""The page of a word that was tried on a unit."""

import base64
from typing import Any

from PIL import Image

from profiler.activations.collect import encoded_picture
from profiler.models.records import SubjectRecord
from profiler.profile.drivers_view import LIMITS
from profiler.profile.trying import TriedLevel, TriedWord
from profiler.report import document
from profiler.report.text import MINUS, count, number, typeset

_SIDE = 128


def tried_page(
    done: TriedWord, subject: SubjectRecord, *, command: str = "", date: str = ""
) -> str:
    """The page: effects, and every pair.

    Args:
        done: what came out.
        subject: the network.
        command: that was given.
        date: of the page.
    """
    page = {
        "title": f"Does unit {done.unit} of {done.layer} follow “{done.word}”?",
        "examined": [
            ("Network", subject.name),
            ("Weights", subject.weights),
            ("Layer and unit", f"{done.layer}, {done.unit}"),
            ("Date", date),
        ],
        "summary": [typeset(text.replace("-", MINUS)) for text in done.sentences()],
        "summary_author": "a fixed template",
        "command": command,
        "provenance": [
            ("Seed of the scenes", str(done.scenes.seed)),
            ("Model fingerprint", subject.fingerprint),
        ],
        "limits": LIMITS[:2],
        "warnings": (),
    }
    tiles = [
        (
            f"{each.level}, as a {each.factor}",
            number(each.effect.value, 2),
            f"standard deviations, {number(each.effect.low, 2)} to {number(each.effect.high, 2)}",
        )
        for each in done.levels
    ]
    return document.render(
        "profile/trying.html",
        extra=("profile/drivers",),
        page=page,
        kind="A word tried on a unit",
        tiles=tiles,
        doubts=(),
        levels=[_level(done, each) for each in done.levels],
    )


def _level(done: TriedWord, tried: TriedLevel) -> dict[str, Any]:
    """The effect and the pairs of a level, those with the largest difference first, in percent."""
    scaled = tried.differences / (tried.spread or 1.0)
    effect = tried.effect
    reach = max(0.1, float(abs(scaled).max()), abs(effect.low), abs(effect.high))

    def at(value: float) -> float:
        return 50 + 50 * value / reach

    pairs = []
    for place in (-scaled).argsort(kind="stable").tolist():
        shown, replaced = done.pair(tried, place)
        pairs.append(
            {
                "shown": _encoded(shown),
                "replaced": _encoded(replaced),
                "other": tried.others[place],
                "figures": (_figures(tried.shown[place]), _figures(tried.replaced[place])),
                "difference": number(float(scaled[place]), 2),
                "at": at(float(scaled[place])),
            }
        )
    higher = int((tried.differences > 0).sum())
    return {
        "tried": tried,
        "title": f"{tried.level}: higher in {count(higher)} of {count(len(pairs))} pairs",
        "pairs": pairs,
        "low": at(effect.low),
        "value": at(effect.value),
        "high": at(effect.high),
        "end": number(reach, 1),
        "alt": f"Differences of {len(pairs)} pairs in standard deviations, from "
        f"{number(-reach, 1)} to {number(reach, 1)}; mean {number(effect.value, 2)}, 95 % interval "
        f"{number(effect.low, 2)} to {number(effect.high, 2)}",
    }


def _figures(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)


def _encoded(picture: Image.Image) -> str:
    return base64.b64encode(encoded_picture(picture, _SIDE)).decode()
