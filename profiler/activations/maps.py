"""Where in an image units respond: one more pass, over some of the images that are shown.

Of a unit only that map is kept whose mean, or largest value, *is* the activation that is reported:
the map of a convolution, or the grid of patch tokens under their mean. The output of a linear layer
that reads the means of a map is such a mean, too: of the same linear function at every place (class
activation maps, Zhou et al. 2016). That it is so is measured on every image; a map whose mean is
not the activation of the pass before is left out.

Units without such a map (class tokens, windows, other linear outputs) are looked at by occlusion
(Zeiler & Fergus 2014): each cell of a grid of :data:`GRID` × :data:`GRID` is covered with the
image's mean colour, and how much the activation falls is the map. That takes 50 forward passes an
image, so few images are covered.

Which images are read, where the budget of forward passes does not allow all, is chosen so that many
units have several of them.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from profiler.activations.collect import autocast
from profiler.core.arrays import FloatArray, IntArray, blocks
from profiler.data.images import ProbeSet
from profiler.models.pixels import by_table
from profiler.models.subject.geometry import Frame, frames_of
from profiler.models.subject.network import Layer, Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.session import Advance

MOST_CELLS = 14
"""Cells of a kept map along each side: finer maps are averaged, or their largest value is taken."""
SHARE = 0.005
"""Of a unit's values, those that stand out (Bau et al. 2017)."""
SAMPLED = 256
"""Images whose values decide from where on a unit's values stand out."""
GRID = 7
"""Cells along each side that are covered one at a time."""
_PASSES = 1 + GRID**2
"""Forward passes of an image that is covered."""
_FOR_COVERED = 0.2
"""Share of the budget that goes to covered images, where some layers have maps and others not."""
AT_A_TIME = 16
"""Images of a batch: maps take more memory than what is pooled of them."""
_CLOSE, _CLOSE_IN_HALF = 1e-3, 3e-2
"""How far the mean of a map may be from the activation, relative to the unit's largest."""


@dataclass(frozen=True)
class LayerMaps:
    """The maps of a layer's units on some of the images that are shown of them.

    Attributes:
        layer: its name.
        covered: whether they say how much the activation falls where a cell is covered.
        unit: (P,) of each map.
        rank: (P,) place of its image in the unit's list.
        maps: (P, h, w) values.
        threshold: (K,) the value that :data:`SHARE` of the unit's values exceed, over all cells of
            a random sample of the images; NaN of covered images.
    """

    layer: str
    covered: bool
    unit: IntArray
    rank: IntArray
    maps: FloatArray
    threshold: FloatArray


@dataclass(frozen=True)
class ShownMaps:
    """What the pass brings home.

    Attributes:
        layers: in order.
        frames: what the network sees of each image, by its index; an image of which that cannot be
            measured is left out, and with it its maps.
        images: that were read for their maps.
        sampled: of them, those that decide where values stand out.
        covered: images whose cells were covered.
    """

    layers: tuple[LayerMaps, ...]
    frames: Mapping[int, Frame]
    images: int
    sampled: int
    covered: int


def read_maps(
    subject: Subject,
    layers: Sequence[Layer],
    probe: ProbeSet,
    shown: Sequence[IntArray],
    activations: Sequence[FloatArray],
    *,
    passes: int,
    precision: str = "fp32",
    batch_size: int = AT_A_TIME,
    workers: int = 0,
    advance: Advance = lambda _: None,
) -> ShownMaps:
    """The maps of units on the images that are shown of them.

    Args:
        subject: the network.
        layers: whose units.
        probe: the images.
        shown: of each layer (K, G) indices in the probe set, strongest first; −1: none.
        activations: (K, G) on these, as they were pooled.
        passes: forward passes that may be spent.
        precision: one of :data:`~profiler.activations.collect.PRECISIONS`.
        batch_size: images at a time.
        workers: processes that decode.
        advance: told how many forward passes were made, of as many as ``passes`` at most.
    """
    found = [
        _Gathering(layer, map_source(subject, layer), images, values)
        for layer, images, values in zip(layers, shown, activations, strict=True)
    ]
    mapped = [each for each in found if each.source]
    unmapped = [each for each in found if not each.source]
    share = (_FOR_COVERED if mapped else 1.0) if unmapped else 0.0
    covered = _most_shared(unmapped, int(share * passes) // _PASSES)
    images = _most_shared(mapped, passes - _PASSES * len(covered))
    # In a random order, so that the first of them are a sample of all.
    order = np.random.default_rng(0).permutation(images).tolist()
    frames: dict[int, Frame] = {}
    for each in mapped:
        each.expect(min(len(order), SAMPLED))
    with torch.inference_mode(), autocast(subject.device, precision):
        for some, pixels in _decoded(subject.preprocess, probe, order, batch_size, workers, frames):
            _look(subject, mapped, some, pixels)
            advance(len(some))
        for some, pixels in _decoded(
            subject.preprocess, probe, covered, batch_size, workers, frames
        ):
            for image, one in zip(some, pixels, strict=True):
                _cover(subject, unmapped, image, one, batch_size)
                advance(_PASSES)
    return ShownMaps(
        tuple(each.result(_CLOSE if precision == "fp32" else _CLOSE_IN_HALF) for each in found),
        frames,
        len(order),
        min(len(order), SAMPLED),
        len(covered),
    )


# --- which map is the activation --------------------------------------------------------------


@dataclass(frozen=True)
class MapSource:
    """Where the map of a layer comes from: its own output, or what it reads the means of.

    Attributes:
        layer: whose output is the map.
        linear: what is done with the map at every place, if anything.
    """

    layer: Layer
    linear: nn.Linear | None = None

    def map_of(self, output: torch.Tensor) -> torch.Tensor:
        """An output → (B, K, h, w)."""
        return self._linear(self.layer.pool.map_of(output))

    def coarse(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with at most :data:`MOST_CELLS` cells along each side, and what is pooled.

        Returns:
            (B, K, h, w), and the mean or largest value of the whole map (B, K).
        """
        found = self.layer.pool.map_of(output)
        largest = self.layer.pool.largest
        pooled = found.amax(dim=(2, 3)) if largest else found.mean(dim=(2, 3))
        height, width = found.shape[2:]
        size = (min(height, MOST_CELLS), min(width, MOST_CELLS))
        if size != (height, width):
            pool = functional.adaptive_max_pool2d if largest else functional.adaptive_avg_pool2d
            found = pool(found.contiguous(), size)
        return self._linear(found), self._linear(pooled[:, :, None, None])[:, :, 0, 0]

    def _linear(self, maps: torch.Tensor) -> torch.Tensor:
        if self.linear is None:
            return maps
        made = torch.einsum("kc,bchw->bkhw", self.linear.weight.float(), maps)
        return made if self.linear.bias is None else made + self.linear.bias.float()[:, None, None]


def map_source(subject: Subject, layer: Layer) -> MapSource | None:
    """The map whose mean or largest value is the activation of a layer; None if there is none."""
    if layer.pool.grid is not None:
        return MapSource(layer) if max(layer.pool.grid) > 1 else None
    module = subject.model.get_submodule(layer.name)
    before = subject.averaged_before(layer.name) if isinstance(module, nn.Linear) else None
    if before is None or not isinstance(module, nn.Linear):
        return None
    return MapSource(before, module)


# --- the pass ---------------------------------------------------------------------------------


class _Decoding(Dataset[tuple[int, torch.Tensor, Frame] | None]):
    """Decodes and prepares images, in the worker processes; None for what cannot be used."""

    def __init__(self, probe: ProbeSet, preprocess: Preprocess, images: Sequence[int]) -> None:
        self._probe = probe
        self._preprocess = by_table(preprocess)
        self._frame = frames_of(self._preprocess)
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: int) -> tuple[int, torch.Tensor, Frame] | None:
        image = self._probe.read(self._images[place])
        frame = self._frame(image.size)
        return None if frame is None else (self._images[place], self._preprocess(image), frame)


def _decoded(
    preprocess: Preprocess,
    probe: ProbeSet,
    images: Sequence[int],
    batch_size: int,
    workers: int,
    frames: dict[int, Frame],
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Some images at a time, prepared for the network; the frame of each is put into ``frames``."""
    loader = DataLoader(
        _Decoding(probe, preprocess, images),
        batch_size=batch_size,
        num_workers=workers if len(images) > batch_size else 0,
        collate_fn=list,
    )
    for batch in loader:
        items = [item for item in batch if item is not None]
        if items:
            frames.update((image, frame) for image, _, frame in items)
            yield [image for image, _, _ in items], torch.stack([pixels for _, pixels, _ in items])


def _look(
    subject: Subject, mapped: "Sequence[_Gathering]", images: Sequence[int], pixels: torch.Tensor
) -> None:
    """Keep the maps of a few images."""
    layers = {each.source.layer.name: each.source.layer for each in mapped if each.source}
    taken: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def take(layer: Layer, output: torch.Tensor) -> None:
        for each in mapped:
            if each.source and each.source.layer.name == layer.name:
                taken[id(each)] = each.source.coarse(output)

    subject.watch(list(layers.values()), pixels, take)
    for each in mapped:
        each.add(images, *(part[: len(images)] for part in taken[id(each)]))


def _cover(
    subject: Subject,
    unmapped: "Sequence[_Gathering]",
    image: int,
    pixels: torch.Tensor,
    batch_size: int,
) -> None:
    """Keep how much activations fall where cells of one image are covered."""
    height, width = pixels.shape[1:]
    mean = pixels.mean(dim=(1, 2))
    given = pixels.repeat(_PASSES, 1, 1, 1)
    for cell in range(GRID**2):
        rows, columns = (
            slice(side * place // GRID, side * (place + 1) // GRID)
            for side, place in zip((height, width), divmod(cell, GRID), strict=True)
        )
        given[1 + cell, :, rows, columns] = mean[:, None, None]
    layers = [each.layer for each in unmapped]
    parts = [subject.read(layers, given[part]) for part in blocks(_PASSES, batch_size)]
    for each in unmapped:
        rows_of = torch.cat([part[each.layer.name] for part in parts])
        fallen = (rows_of[:1] - rows_of[1:]).T
        each.add([image], fallen.reshape(1, -1, GRID, GRID))


@dataclass
class _Gathering:
    """The maps of one layer, while images stream by."""

    layer: Layer
    source: MapSource | None
    shown: IntArray
    activations: FloatArray
    places: dict[int, tuple[IntArray, IntArray]] = field(default_factory=dict)
    _upper: "_Upper | None" = None
    _found: list[tuple[IntArray, IntArray, FloatArray, FloatArray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        units, ranks = np.nonzero(self.shown >= 0)
        images = self.shown[units, ranks]
        order = np.argsort(images, kind="stable")
        known, starts = np.unique(images[order], return_index=True)
        for image, part in zip(known.tolist(), np.split(order, starts[1:]), strict=True):
            self.places[image] = units[part], ranks[part]

    def expect(self, images: int) -> None:
        """So many images, the first, decide where values stand out."""
        self._upper = _Upper(images)

    def add(
        self, images: Sequence[int], maps: torch.Tensor, pooled: torch.Tensor | None = None
    ) -> None:
        """Take in (B, K, h, w) maps, and what is pooled of the whole of them (B, K)."""
        if self._upper is not None:
            self._upper.add(maps)
        for row, image in enumerate(images):
            if image in self.places:
                units, ranks = self.places[image]
                chosen = torch.from_numpy(units).to(maps.device)
                known = (
                    torch.full((len(units),), torch.nan) if pooled is None else pooled[row, chosen]
                )
                own, whole = (part.float().cpu().numpy() for part in (maps[row, chosen], known))
                self._found.append((units, ranks, own, whole))

    def result(self, tolerance: float) -> LayerMaps:
        """What was kept, as far as it is what it should be."""
        threshold = np.full(len(self.shown), np.nan, np.float32)
        if self._upper is not None and self._upper.seen:
            threshold = self._upper.result()
        unit = rank = np.zeros(0, np.int64)
        maps: FloatArray = np.zeros((0, 1, 1), np.float32)
        if self._found:
            columns = zip(*self._found, strict=True)
            unit, rank, maps, pooled = (np.concatenate(column) for column in columns)
            if self.source:
                size = np.abs(self.activations).max(axis=1) + 1e-3 * np.abs(maps).max(initial=1e-9)
                off = np.abs(pooled - self.activations[unit, rank]) / size[unit]
                true = off <= tolerance
                unit, rank, maps = unit[true], rank[true], maps[true]
        order = np.lexsort((rank, unit))
        return LayerMaps(
            self.layer.name, not self.source, unit[order], rank[order], maps[order], threshold
        )


def _most_shared(layers: Sequence[_Gathering], most: int) -> list[int]:
    """At most so many of the images that are shown, such that many units have several of them.

    Always the image that is worth most next: to a unit that shows it first 1, second ½, third ⅓ …,
    halved for each image that the unit has already (greedy coverage; worths only fall, so an old
    one is an upper bound).
    """
    owners: dict[int, list[tuple[IntArray, IntArray]]] = {}
    first = 0
    for layer in layers:
        for image, (units, ranks) in layer.places.items():
            owners.setdefault(image, []).append((first + units, ranks))
        first += len(layer.shown)
    places = {
        image: tuple(map(np.concatenate, zip(*parts, strict=True)))
        for image, parts in owners.items()
    }
    worth = np.ones(first)
    queue = [(-float("inf"), image) for image in sorted(places)]
    chosen: list[int] = []
    while queue and len(chosen) < most:
        bound, image = heapq.heappop(queue)
        units, ranks = places[image]
        now = -float((worth[units] / (1 + ranks)).sum())
        if now > bound:
            heapq.heappush(queue, (now, image))
            continue
        chosen.append(image)
        worth[units] /= 2
    return chosen


class _Upper:
    """The value that :data:`SHARE` of a unit's values exceed, exactly: the highest are kept."""

    def __init__(self, images: int) -> None:
        self.seen = 0
        self._images = images
        self._highest: torch.Tensor | None = None

    def add(self, maps: torch.Tensor) -> None:
        """Take in (B, K, h, w) maps, as far as they are of the first images."""
        some = maps[: self._images - self.seen]
        if not len(some):
            return
        self.seen += len(some)
        values = some.transpose(0, 1).reshape(some.shape[1], -1)
        most = 1 + math.ceil(SHARE * (values.shape[1] // len(some) * self._images))
        if self._highest is not None:
            values = torch.cat([self._highest, values], dim=1)
        self._highest = values.topk(min(most, values.shape[1]), dim=1, sorted=False).values

    def result(self) -> FloatArray:
        """(K,) the values."""
        if self._highest is None:
            raise ValueError("no maps were seen")
        found: FloatArray = self._highest.min(dim=1).values.float().cpu().numpy()
        return found
