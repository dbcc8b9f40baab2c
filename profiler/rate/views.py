"""What of a run can be rated: the peak of its units, or their whole range.

*Peak*: does the label fit the images to which the unit responds most? *Range*: do the words of the
explanation say what makes the unit respond more or less, on images from its whole range? The two
share nothing but the network: each has its own file, and a rating of one is none of the other.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal

import numpy as np

from profiler.core.arrays import Float64, IntArray
from profiler.errors import InputError
from profiler.profile.result import SHOWN_IMAGES, ProfileRun
from profiler.profile.threshold import Threshold
from profiler.rate.ratings import Unit

View = Literal["peak", "range"]
VIEWS: tuple[View, ...] = ("peak", "range")


@dataclass(frozen=True)
class ScoredLayer:
    """A layer with the number of each unit that a threshold cuts.

    Attributes:
        layer: its name.
        score: (K,) the label's score, or r of the explanation with all its words; NaN for a unit
            that is not asked about.
    """

    layer: str
    score: Float64

    @property
    def units(self) -> int:
        """All its units, dead ones included."""
        return len(self.score)

    @property
    def known(self) -> Float64:
        """The numbers of the units that have one."""
        found: Float64 = self.score[~np.isnan(self.score)]
        return found


def file_name(name: str, view: View) -> str:
    """A file of the run's folder: ``ratings.csv`` of the range is ``ratings-range.csv``."""
    path = PurePath(name)
    return name if view == "peak" else f"{path.stem}-{view}{path.suffix}"


def option(view: View) -> str:
    """What a command needs besides to be about this view; empty for the one it is about anyway."""
    return "" if view == "peak" else f" --view {view}"


def check_view(run: ProfileRun, folder: object, view: View) -> None:
    """Raise :class:`InputError` where a run holds nothing of this view that could be rated."""
    if run.record.source is not None:
        raise InputError(
            f"the run in {str(folder)!r} was imported from {run.record.source.file}: "
            "there are no images to look at, so it cannot be rated"
        )
    if view == "range" and not any(layer.images.size for layer in run.ranges):
        lacks = "images from the whole range of its units" if run.ranges else "range explanations"
        raise InputError(
            f"--view range: the run in {str(folder)!r} holds no {lacks}; "
            "profile the network again, on 50 images or more"
        )


def scored_layers(run: ProfileRun, view: View) -> tuple[ScoredLayer, ...]:
    """What a threshold from ratings cuts, in network order."""
    if view == "peak":
        # In float64, as thresholds are compared.
        return tuple(
            ScoredLayer(layer.layer, layer.score[:, 0].astype(np.float64)) for layer in run.layers
        )
    told = described_units(run, view)
    return tuple(
        ScoredLayer(
            layer.layer,
            np.where(
                [(layer.layer, unit) in told for unit in range(len(layer.r))], layer.whole_r, np.nan
            ),
        )
        for layer in run.ranges
    )


def described_units(run: ProfileRun, view: View = "peak") -> dict[Unit, str]:
    """What is said of every unit that can be rated, in network order; the others have none."""
    if view == "range":
        return {
            (layer.layer, unit): words
            for layer in run.ranges
            for unit, r in enumerate(layer.whole_r.tolist())
            if r == r and (words := run.explanation(layer, unit))
        }
    return {
        (layer.layer, unit): run.concepts[concept]
        for layer in run.layers
        for unit, (concept, score) in enumerate(
            zip(layer.concept[:, 0].tolist(), layer.score[:, 0].tolist(), strict=True)
        )
        if concept >= 0 and score == score
    }


def _shown_images(run: ProfileRun, view: View) -> list[tuple[str, IntArray]]:
    """Each layer's name, and (K, ·) the images shown of its units; −1 where one lacks."""
    if view == "range":
        return [(layer.layer, layer.images) for layer in run.ranges]
    return [(layer.layer, layer.top_images[:, :SHOWN_IMAGES]) for layer in run.layers]


def fingerprint(run: ProfileRun, view: View = "peak") -> str:
    """What ratings of a run belong to: 16 hexadecimal digits.

    A rating is about a description and the images shown with it. So the fingerprint covers the
    network, the context of the scores, and every unit's description and shown images; another
    threshold or other categories leave it as it is. That of another view is another.
    """
    words = described_units(run, view)
    content = {
        "subject": run.record.subject.fingerprint,
        "context": context_of(run, view),
        "layers": [
            [
                layer,
                [words.get((layer, unit), "") for unit in range(len(images))],
                [
                    [run.image_names[image] for image in shown if image >= 0]
                    for shown in images.tolist()
                ],
            ]
            for layer, images in _shown_images(run, view)
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def context_of(run: ProfileRun, view: View) -> dict[str, str]:
    """What a threshold on what the view cuts belongs to."""
    return run.record.context if view == "peak" else run.record.range_context


def with_threshold(run: ProfileRun, threshold: Threshold, view: View) -> ProfileRun:
    """The run with another threshold on what the view cuts."""
    if view == "peak":
        return replace(run, threshold=threshold)
    return replace(run, range_threshold=threshold)
