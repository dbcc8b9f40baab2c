"""A few drawn scenes with each level of each factor in turn, and what every unit makes of them.

They show what a level looks like, and what it does to a unit in one scene, all else being the same.
The effects that a run tells are means over all scenes of its experiment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.activations.alone import collect_alone
from profiler.activations.collect import encoded_picture
from profiler.core.arrays import FloatArray, IntArray
from profiler.data.factors import Factors
from profiler.data.synthetic.design import FACTORS, ChangedScenes, ExperimentScenes
from profiler.models.subject.network import Layer, Subject
from profiler.profile.experiment import drawn_once
from profiler.session import NONE, Reading, Services

DESIGN = Factors.of_levels(FACTORS)
"""What scenes are drawn with."""
BASES = 2
"""Scenes that a run varies."""
_PLAIN = {
    "position": "middle", "size": "large", "turn": "upright", "light": "bright", "tint": "neutral"
}  # fmt: skip
"""What they have in common, so that the object is well seen."""
_SIDE = 96
"""Pixels of a picture."""


@dataclass(frozen=True)
class Variants:
    """A few scenes with each level of each factor in turn, and what units make of them.

    Attributes:
        base: (B, F) levels of the scenes, by their places among those of each factor.
        place: (B, L) which picture shows scene b with the level of a column; the scene itself where
            that is its own level.
        pictures: n of them, as WebP.
        activations: of each layer (K, n).
    """

    base: IntArray
    place: IntArray
    pictures: tuple[bytes, ...]
    activations: tuple[FloatArray, ...]

    def to_arrays(self) -> dict[str, Any]:
        """As named arrays, to be stored."""
        sizes = np.array([len(picture) for picture in self.pictures])
        found = {"base": self.base, "place": self.place, "sizes": sizes}
        found["pictures"] = np.frombuffer(b"".join(self.pictures), np.uint8)
        of_layers = enumerate(self.activations)
        return found | {f"{i}.activations": each.astype(np.float32) for i, each in of_layers}

    @classmethod
    def from_arrays(cls, layers: int, arrays: Mapping[str, Any], prefix: str = "") -> "Variants":
        """What :meth:`to_arrays` gave, its names behind a prefix."""
        ends = np.cumsum(arrays[f"{prefix}sizes"]).tolist()
        whole = arrays[f"{prefix}pictures"].tobytes()
        return cls(
            arrays[f"{prefix}base"],
            arrays[f"{prefix}place"],
            tuple(whole[start:end] for start, end in zip([0, *ends], ends, strict=False)),
            tuple(arrays[f"{prefix}{i}.activations"] for i in range(layers)),
        )


def run_variants(
    subject: Subject,
    layers: Sequence[Layer],
    seed: int,
    *,
    reading: Reading = Reading(),  # noqa: B008
    services: Services = NONE,
) -> Variants:
    """Draw variants of a few scenes and show them to a network.

    Args:
        subject: the network.
        layers: where it is read.
        seed: of the scenes.
        reading: batch size, workers and precision.
        services: store and progress.
    """
    scenes = ExperimentScenes(BASES, seed)
    changes: list[tuple[int, Mapping[str, str]]] = []
    place = np.empty((BASES, len(DESIGN.columns)), np.int64)
    base = scenes.factors.codes.copy()
    for i in range(BASES):
        own = scenes.truth(i) | _PLAIN
        base[i] = [FACTORS[name].index(own[name]) for name in DESIGN.names]
        first = len(changes)
        changes.append((i, _PLAIN))
        for column, (factor, level) in enumerate(DESIGN.columns):
            place[i, column] = first
            if own[factor] != level:
                place[i, column] = len(changes)
                changes.append((i, {**_PLAIN, factor: level}))
    drawn = ChangedScenes(scenes, tuple(changes), f"variants of {BASES} scenes, seed {seed}")
    probe = drawn_once(drawn, services.store, workers=reading.workers)
    with services.progress.stage("variants", len(changes)) as advance:
        found = collect_alone(
            subject, layers, probe, reading, store=services.store, advance=advance
        )
    pictures = tuple(encoded_picture(probe.read(i), _SIDE) for i in range(len(changes)))
    return Variants(base, place, pictures, tuple(np.array(each[:].T) for each in found.matrices))
