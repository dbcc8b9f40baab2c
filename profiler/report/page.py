"""What a report shows: plain data, filled by the stories in ``run``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiler.labels import LayerLabels, Threshold
from profiler.profile.counts import ModelProfile
from profiler.quality import LayerQuality


@dataclass(frozen=True)
class LayerSection:
    """What the page shows of one layer."""

    labels: LayerLabels
    categories: Sequence[str | None]
    """Per unit the category of its best label; None where that is not trusted or the unit dead."""
    kind: str
    """Module class, for example ``Conv2d``."""
    shape: str
    """Shape of one image's output, for example ``32 × 112 × 112``."""
    numbers: Sequence[int] = ()
    """The units' numbers, where they are not 0, 1, 2 …"""


@dataclass(frozen=True)
class Doubt:
    """A word whose category changed between votes."""

    word: str
    category: str
    """The one most votes gave it."""
    kept: int
    """How many votes did."""
    votes: int
    units: int
    """Interpretable units that carry the word."""


@dataclass(frozen=True)
class QualitySection:
    """How well the labels hold, where that was measured."""

    layers: Sequence[LayerQuality]
    """One for each layer section, in the same order."""
    story: Sequence[str]
    """Sentences that say how it was measured, and what it does not show."""


@dataclass(frozen=True)
class ProfilePage:
    """Everything the profile report needs; it computes nothing but layout."""

    title: str
    examined: Sequence[tuple[str, str]]
    """(term, text) pairs: model, weights, probe images, VLM, concepts, date."""
    summary: Sequence[str]
    """Two or three sentences (plain text) that state the finding."""
    summary_author: str
    """Who wrote it: "a fixed template", "gpt-4o, checked against the facts"."""
    profile: ModelProfile
    layers: Sequence[LayerSection]
    concepts: Sequence[str]
    threshold: Threshold | None
    """None where there was no cut: then every unit that has a label counts as interpretable."""
    threshold_story: Sequence[str]
    """Sentences that say where the threshold came from."""
    sorter_story: Sequence[str]
    """Sentences that say who sorted the labels into categories, and how far to trust it."""
    image_names: Sequence[str]
    """(N,) names of the probe images, by index."""
    thumbnails: Mapping[int, bytes]
    """WebP bytes by probe-image index; images without one are shown by name."""
    command: str
    provenance: Sequence[tuple[str, str]]
    """Footer pairs: fingerprints, versions, seed, settings, timings."""
    limits: Sequence[str]
    """What these numbers do not show."""
    warnings: Sequence[str]
    doubtful: Sequence[Doubt] = ()
    """Least certain first; empty also where there was only one vote."""
    imported: bool = False
    """The labels came from a file: no image was seen, so no unit is known to be dead, and there
    are neither p-values nor random image lists."""
    quality: QualitySection | None = None
    """None where the labels were not evaluated."""
