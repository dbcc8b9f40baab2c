"""Images scored by a guard, one after the other."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from profiler.activations.collect import try_first
from profiler.data.images import ProbeSet
from profiler.guard.answers import BATCH, answers_of, check_subject
from profiler.guard.drift import WINDOW, Look
from profiler.guard.guard import Guard
from profiler.guard.rules.base import Views
from profiler.guard.rules.reasons import SHOWN
from profiler.guard.runtime import view_tensors
from profiler.models.classifier import Classifier
from profiler.session import NONE, Services

AGAINST = tuple(f"against_{place}" for place in range(1, SHOWN + 1))
COLUMNS = ("image", "prediction", "class", "score", "verdict", *AGAINST, "problem", "views")
"""Of a table of scores."""

log = logging.getLogger("profiler")


@dataclass(frozen=True)
class Scored:
    """The result of the guard for one image.

    Attributes:
        name: of the file.
        predicted: class, by number; -1 where the image could not be read.
        prediction: its name.
        score: higher is more anomalous; infinite where the image cannot be scored.
        flagged: whether not to trust the prediction.
        reasons: the comparisons of concepts that raise the score most, in words.
        problem: why the image cannot be scored; empty where it can.
        views: augmented view → predicted class, for a guard that uses augmented views.
    """

    name: str
    predicted: int
    prediction: str
    score: float
    flagged: bool
    reasons: tuple[str, ...]
    problem: str = ""
    views: Mapping[str, str] = field(default_factory=dict)

    @property
    def cells(self) -> list[Any]:
        """In the order of :data:`COLUMNS`."""
        reasons = [*self.reasons, *[""] * (SHOWN - len(self.reasons))]
        label = self.predicted if self.predicted >= 0 else ""
        seen = "; ".join(f"{view}: {name}" for view, name in self.views.items())
        verdict = "flag" if self.flagged else "accept"
        return [
            self.name,
            self.prediction,
            label,
            f"{self.score:.6g}",
            verdict,
            *reasons,
            self.problem,
            seen,
        ]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; None where the image cannot be scored."""
        return {
            "image": self.name,
            "prediction": self.prediction or None,
            "class": self.predicted if self.predicted >= 0 else None,
            "score": self.score if math.isfinite(self.score) else None,
            "verdict": "flag" if self.flagged else "accept",
            "against": self.reasons,
            "problem": self.problem or None,
            "views": self.views,
        }


def score_images(
    guard: Guard,
    classifier: Classifier,
    probe: ProbeSet,
    *,
    batch: int = BATCH,
    on_look: Callable[[Look], object] | None = None,
    window: int = WINDOW,
    services: Services = NONE,
) -> Iterator[Scored]:
    """Score images one after the other, in their order.

    Args:
        guard: fitted.
        classifier: the one the guard was fitted for.
        probe: the images.
        batch: images at a time.
        on_look: called with each test for drift of the images that pass; None: no tests.
        window: images that pass between two tests.
        services: shows progress.

    Yields:
        The result for each image.

    Raises:
        ContextError: the guard was fitted for another network.
    """
    for text in filter(None, (check_subject(guard, classifier), guard.remark)):
        log.warning("warning: %s", text)
    try_first(classifier, classifier.readings, probe, batch_size=batch)
    watch = None
    if on_look is not None:
        watch = guard.watch(window=window)
        if watch.blind:
            log.warning(
                "warning: drift cannot be detected: no window of %d images can differ "
                "significantly from the %d images of the reference; use a larger --window, or fit "
                "the guard on more images",
                watch.window,
                watch.reference.count,
            )
    core = guard.core()
    names = probe.names
    with services.progress.stage("images", len(names)) as advance:
        for rows, answers in answers_of(
            classifier,
            probe,
            range(len(names)),
            batch=batch,
            views=guard.views,
            advance=advance,
        ):
            with torch.inference_mode():
                verdict = core.verdict(
                    torch.from_numpy(answers.features),
                    torch.from_numpy(answers.logits),
                    views=view_tensors(answers.views),
                )
            flagged, scores = verdict.flagged.numpy(), verdict.score.numpy()
            told = guard.reasons(answers.features, answers.predicted)
            passed, fine = ~flagged, answers.fine
            for place, index in enumerate(rows):
                problem = answers.problems.get(place, "")
                if not problem and not fine[place]:
                    problem = "the network gives NaN or infinite numbers"
                label = -1 if problem else int(answers.predicted[place])
                yield Scored(
                    names[index],
                    label,
                    "" if problem else guard.class_name(label),
                    float(scores[place]),
                    bool(flagged[place]),
                    () if problem else tuple(guard.tell(each, label) for each in told[place]),
                    problem,
                    {} if problem else called(guard, answers.views, place),
                )
            if watch is not None and on_look is not None and passed.any():
                levels = guard.speaker.levels(answers.features[passed])
                for look in watch.add(levels, answers.predicted[passed]):
                    on_look(look)
    if watch is not None and on_look is not None:
        last = watch.finish()
        if last is not None:
            on_look(last)


def called(guard: Guard, views: Views | None, row: int) -> dict[str, str]:
    """Augmented view → predicted class."""
    if views is None:
        return {}
    labels = views.logits[row].argmax(axis=1).tolist()
    return {name: guard.class_name(label) for name, label in zip(guard.views, labels, strict=True)}
