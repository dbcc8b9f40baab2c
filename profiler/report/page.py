"""What a report shows: plain data, filled by the stories in ``run``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiler.labels import LayerLabels, Threshold
from profiler.layer_profile import ModelProfile


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
    threshold: Threshold
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
