"""Of classifiers: labelled images, and what is done to them first."""

import logging
from pathlib import Path

from profiler.data.corruptions import Corruption
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import LabelledImages, open_labelled
from profiler.errors import UsageError
from profiler.models.attacks import Attack, parse_eps

log = logging.getLogger("profiler")


def labelled_for(
    data: Path, classes: Path | None, outputs: int, limit: int | None
) -> LabelledImages:
    """The labelled images, for a classifier with so many outputs.

    Args:
        data: a folder with a subfolder for each class, or a CSV of path,label.
        classes: a file that says what the outputs are called.
        outputs: how many there are.
        limit: keep that many images, evenly spread.
    """
    names, mapping = open_classes(classes, outputs, data=data)
    if names.assumed:
        log.warning("warning: %s", names.assumed)
    return open_labelled(data, names, mapping, limit=limit)


def change_of(
    attack: str | Attack | None,
    eps: str,
    steps: int,
    corrupt: str | Corruption | None,
    seed: int,
) -> tuple[Attack | None, Corruption | None]:
    """What is done to the images first: an attack, a corruption, or nothing."""
    if attack is not None and corrupt is not None:
        raise UsageError("--attack and --corrupt exclude each other; give one of them")
    return (
        Attack(attack, parse_eps(eps), steps, seed) if isinstance(attack, str) else attack,
        Corruption.parse(corrupt) if isinstance(corrupt, str) else corrupt,
    )
