"""Where in an image a unit responds: outlines, in fractions of the picture.

A unit's map (:mod:`profiler.activations.maps`) is interpolated between the centres of its cells and
cut at a value of the unit's own: what :data:`~profiler.activations.maps.SHARE` of its values on a
random sample of the images exceed, as NetDissect does (Bau et al. 2017). Of a covered image the cut
is half of the largest fall. The outline is laid through what the preprocessing cropped, resized or
padded (:mod:`profiler.models.subject.geometry`), onto the picture as people see it.

Where no value reaches the cut, or more than :data:`DIFFUSE` of what the network sees does, no place
stands out, and the response is called diffuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.core.arrays import Float64, FloatArray, IntArray

if TYPE_CHECKING:
    from profiler.activations.maps import LayerMaps, ShownMaps
    from profiler.models.subject.geometry import Frame

DIFFUSE = 0.5
"""Share of the cells above the cut, from which on no place stands out."""
OUTLINED = 9
"""Images of a unit that may be outlined: those that its opened row shows."""
UNKNOWN = -1
"""In the place of a number of rings: the image was not read for its map, or there is none."""
STEPS = 255
"""Coordinates are kept as whole numbers up to this: half a pixel of a thumbnail."""


@dataclass(frozen=True)
class LayerOutlines:
    """The outlines of a layer's units on their strongest images.

    Attributes:
        layer: its name.
        covered: whether they say where covering lowers the activation; else, where the map is
            high whose mean (or largest value) is the activation.
        rings: (K, G) closed lines of each outline; 0: diffuse; :data:`UNKNOWN`: not known.
        points: (R,) points of each ring, in the order of units and images.
        places: (Σ points, 2) x and y of each point, as fractions of the picture times
            :data:`STEPS`. Clockwise round what stands out, the other way round holes.
    """

    layer: str
    covered: bool
    rings: IntArray
    points: IntArray
    places: IntArray

    def outline(self, unit: int, rank: int) -> list[Float64] | None:
        """Rings (n, 2) in fractions of the picture; none where diffuse, None where not known."""
        many = int(self.rings[unit, rank])
        if many == UNKNOWN:
            return None
        flat = np.maximum(self.rings, 0).ravel()
        first = int(flat[: unit * self.rings.shape[1] + rank].sum())
        ends = np.cumsum(np.concatenate([[0], self.points]))
        return [
            self.places[ends[ring] : ends[ring + 1]] / STEPS for ring in range(first, first + many)
        ]

    def to_arrays(self) -> dict[str, Any]:
        """As named arrays, to be stored: 2 bytes a point, and a few for each unit."""
        return {
            "covered": np.array([self.covered]),
            "rings": self.rings.astype(np.int8),
            "points": self.points.astype(np.uint16),
            "places": self.places.astype(np.uint8),
        }

    @classmethod
    def from_arrays(
        cls, layer: str, arrays: Mapping[str, Any], prefix: str = ""
    ) -> "LayerOutlines":
        """What :meth:`to_arrays` gave, its names behind a prefix."""
        covered, *rest = (arrays[prefix + each.name] for each in fields(cls)[1:])
        return cls(layer, bool(covered[0]), *(each.astype(np.int64) for each in rest))


@dataclass(frozen=True)
class Outlines:
    """Outlines of all layers, and what the network sees of each outlined image.

    Attributes:
        layers: in network order.
        images: (n,) indices of the outlined images, ascending.
        frames: (n, 4) left, top, right and bottom of what the network sees of each, in fractions
            of the picture; beyond 0 and 1 where it is padded.
    """

    layers: tuple[LayerOutlines, ...]
    images: IntArray
    frames: FloatArray

    @classmethod
    def of(cls, found: "ShownMaps", shown: Sequence[IntArray]) -> "Outlines":
        """By the maps.

        Args:
            found: what the pass over the shown images brought home.
            shown: of each layer (K, G) the images shown of each unit.
        """
        images = np.array(sorted(found.frames), np.int64)
        seen = [found.frames[i] for i in images.tolist()]
        edges = [(frame.left, frame.top, frame.right, frame.bottom) for frame in seen]
        return cls(
            tuple(
                _outlined(layer, own, found.frames)
                for layer, own in zip(found.layers, shown, strict=True)
            ),
            images,
            np.array(edges, np.float32).reshape(-1, 4),
        )

    def renumbered(self, kept: IntArray) -> "Outlines":
        """The same, its images numbered by their place in ``kept``."""
        return Outlines(self.layers, np.searchsorted(kept, self.images), self.frames)


def _outlined(layer: "LayerMaps", shown: IntArray, frames: "Mapping[int, Frame]") -> LayerOutlines:
    """Cut every map, and lay its outline onto the picture."""
    rings = np.full(shown.shape, UNKNOWN)
    cut = (
        layer.maps.max(axis=(1, 2)) / 2 if layer.covered else layer.threshold[layer.unit]
    ) if len(layer.maps) else np.zeros(0)  # fmt: skip
    stands = layer.maps > cut[:, None, None]
    if layer.covered:  # nothing stands out where covering does not lower the activation
        stands &= cut[:, None, None] > 0
    diffuse = ~stands.any(axis=(1, 2)) | (stands.mean(axis=(1, 2)) > DIFFUSE)
    rings[layer.unit, layer.rank] = 0
    clear = np.flatnonzero(~diffuse)
    points: list[int] = []
    places: list[Float64] = []
    for place, lines in zip(clear, contours(layer.maps[clear], cut[clear]), strict=True):
        unit, rank = layer.unit[place], layer.rank[place]
        frame = frames[int(shown[unit, rank])]
        rings[unit, rank] = len(lines)
        points += map(len, lines)
        places += map(frame.place, lines)
    joined = np.concatenate(places) if places else np.zeros((0, 2))
    return LayerOutlines(
        layer.layer,
        layer.covered,
        rings,
        np.array(points, np.int64),
        np.rint(STEPS * np.clip(joined, 0, 1)).astype(np.int64),
    )


# --- marching squares -------------------------------------------------------------------------

_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
_SEGMENTS = {
    0b1000: [(_TOP, _LEFT)], 0b0100: [(_RIGHT, _TOP)], 0b0010: [(_BOTTOM, _RIGHT)],
    0b0001: [(_LEFT, _BOTTOM)], 0b1100: [(_RIGHT, _LEFT)], 0b0110: [(_BOTTOM, _TOP)],
    0b0011: [(_LEFT, _RIGHT)], 0b1001: [(_TOP, _BOTTOM)], 0b1101: [(_RIGHT, _BOTTOM)],
    0b0111: [(_LEFT, _TOP)], 0b1011: [(_TOP, _RIGHT)], 0b1110: [(_BOTTOM, _LEFT)],
    0b1010: [(_TOP, _LEFT), (_BOTTOM, _RIGHT)], 0b0101: [(_RIGHT, _TOP), (_LEFT, _BOTTOM)],
}  # fmt: skip
"""By which corners are inside (top left, top right, bottom right, bottom left): where the line
enters the square and where it leaves, with the inside on its right."""


def contours(maps: FloatArray, cut: FloatArray) -> list[list[Float64]]:
    """Lines at a value of each map, closed at its border (marching squares).

    Args:
        maps: (P, h, w) values at the centres of cells.
        cut: (P,) the value.

    Returns:
        Of each map its rings (n, 2): x and y in fractions of the map's sides, clockwise round what
        is above the value.

    >>> ring, = contours(np.array([[[0, 0], [0, 2.0]]]), np.array([1.0]))[0]
    >>> ring.tolist()
    [[1.0, 0.75], [0.75, 1.0], [0.5, 0.75], [0.75, 0.5]]
    """
    count, height, width = maps.shape
    cut = np.asarray(cut, np.float64)[:, None, None]
    # Above the cut is above 0. Beyond the border the mirror image of the last cell, so that the
    # line lies on the border itself.
    inner = np.asarray(maps, np.float64) - cut
    values = -np.abs(np.pad(inner, ((0, 0), (1, 1), (1, 1)), mode="edge"))
    values[:, 1:-1, 1:-1] = inner
    above = values > 0
    corners = (above[:, :-1, :-1], above[:, :-1, 1:], above[:, 1:, 1:], above[:, 1:, :-1])
    code = np.einsum("cphw,c->phw", np.array(corners, np.int64), [8, 4, 2, 1])
    # Edges between neighbouring values, numbered: first those along rows, then along columns.
    rows, columns = height + 2, width + 2
    along = rows * (columns - 1)
    each = along + (rows - 1) * columns
    follows: dict[int, int] = {}
    for pattern, segments in _SEGMENTS.items():
        which, y, x = np.nonzero(code == pattern)
        base = which * each
        edges = {
            _TOP: base + y * (columns - 1) + x,
            _BOTTOM: base + (y + 1) * (columns - 1) + x,
            _LEFT: base + along + y * columns + x,
            _RIGHT: base + along + y * columns + x + 1,
        }
        for start, end in segments:
            follows.update(zip(edges[start].tolist(), edges[end].tolist(), strict=True))
    found: list[list[Float64]] = [[] for _ in range(count)]
    while follows:
        first = next(iter(follows))
        ring, edge = [], first
        while edge in follows:
            ring.append(edge)
            edge = follows.pop(edge)
        numbers = np.array(ring)
        found[first // each].append(
            _crossings(values[first // each], numbers % each, along) / (width, height)
        )
    return found


def _crossings(values: Float64, edges: IntArray, along: int) -> Float64:
    """(n, 2) x and y of the points on edges at which the values cross 0, in cells."""
    columns = values.shape[1]
    flat = edges < along
    y = np.where(flat, edges // (columns - 1), (edges - along) // columns)
    x = np.where(flat, edges % (columns - 1), (edges - along) % columns)
    one = values[y, x]
    other = values[np.where(flat, y, y + 1), np.where(flat, x + 1, x)]
    share = one / (one - other)
    # The first value stands half a cell outside the map.
    places: Float64 = np.stack(
        [x - 0.5 + np.where(flat, share, 0), y - 0.5 + np.where(flat, 0, share)], axis=1
    )
    return places
