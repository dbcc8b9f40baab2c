"""A few drawn scenes with each level of each factor in turn, and what every unit makes of them.

They show what a level looks like, and what it does to a unit in one scene, all else being the same.
The effects that a run tells are means over all scenes of its experiment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.core.arrays import FloatArray, IntArray


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
