"""Labelled images shown to a classifier and a VLM, as a story's options say, with its progress."""

from typing import Protocol

from profiler.data.corruptions import Corruption
from profiler.data.labelled.images import LabelledImages
from profiler.models.attacks import Attack
from profiler.models.classifier import Classifier
from profiler.models.vlm.base import VLM
from profiler.observation import Observation, observe
from profiler.session import Services


class HowRead(Protocol):
    """The part of a story's options that says how images are read."""

    @property
    def seed(self) -> int:
        """Of corruptions."""
        ...

    @property
    def precision(self) -> str:
        """One of :data:`profiler.collect.PRECISIONS`."""
        ...

    @property
    def batch_size(self) -> int | None:
        """None: as large as fits."""
        ...

    @property
    def workers(self) -> int:
        """Processes that decode."""
        ...

    @property
    def allow_bad(self) -> bool:
        """Go on although more than 5 % of the images cannot be read."""
        ...


def examine(
    classifier: Classifier,
    vlm: VLM,
    data: LabelledImages,
    how: HowRead,
    services: Services,
    *,
    title: str = "images",
    corruption: Corruption | None = None,
    attack: Attack | None = None,
) -> Observation:
    """What :func:`~profiler.observation.observe` gives, from the story's store.

    Args:
        classifier: the network under study.
        vlm: embeds the same images.
        data: the images.
        how: they are read.
        services: store and progress.
        title: of the progress.
        corruption: what harms them first.
        attack: what leads the classifier astray first.
    """
    with services.progress.stage(title, len(data.names)) as advance:
        return observe(
            classifier,
            vlm,
            data,
            corruption=corruption,
            attack=attack,
            seed=how.seed,
            store=services.store,
            precision=how.precision,
            batch_size=how.batch_size,
            workers=how.workers,
            allow_bad=how.allow_bad,
            advance=advance,
        )
