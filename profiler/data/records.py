"""What a run records of the images and words it read."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ProbeRecord:
    """The probe images that were read, and those that were not."""

    title: str
    images: int
    fingerprint: str
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ConceptRecord:
    """The concept set."""

    title: str
    count: int
    fingerprint: str
    dropped: int


@dataclass(frozen=True)
class ExperimentRecord:
    """The drawn scenes of an experiment.

    Attributes:
        version: of their design.
        scenes: how many were shown to the network.
        seed: that they were drawn by.
        fingerprint: of all of them.
        factors: the levels of each factor.
    """

    version: int
    scenes: int
    seed: int
    fingerprint: str
    factors: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class DataRecord:
    """The labelled images.

    Attributes:
        title: how a reader knows the set.
        fingerprint: of images and labels.
        images: those that were read.
        skipped: (name, reason) of those that could not be.
        remarks: what a reader should know of the labels, a sentence each.
    """

    title: str
    fingerprint: str
    images: int
    skipped: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
