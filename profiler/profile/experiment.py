"""An experiment on a network: scenes drawn once, shown to the subject alone, and its drivers told.

The pictures are kept, so that the next network does not draw them again; the activations are kept
shard by shard, as those of any pass. On disk that is 150 kB a scene once, and 4 bytes a unit and
scene: up to tens of thousands of scenes far less than the sums by level, pair of levels and group
would take. In memory are the activations of one group of images and one layer at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from profiler.activations.alone import collect_alone
from profiler.activations.collect import Collected, encoded_picture
from profiler.core.arrays import Rows, blocks
from profiler.core.store import Array, Store
from profiler.data.factors import Factors
from profiler.data.image_tables import AnnotatedImages
from profiler.data.images import ProbeSet
from profiler.data.synthetic.design import FACTORS, ChangedScenes, ExperimentScenes
from profiler.models.subject.network import Layer, Subject
from profiler.profile.drivers import Experiment, check_enough, drivers
from profiler.profile.variants import Variants
from profiler.session import NONE, Advance, Clock, Reading, Services

_KEPT_TOGETHER = 250
"""Pictures of one entry of the cache: 38 MB."""


@dataclass(frozen=True)
class KeptScenes:
    """Scenes as they were drawn before."""

    scenes: ExperimentScenes | ChangedScenes
    pictures: tuple[Rows, ...]
    """Blocks of pictures (n, size, size, 3), of :data:`_KEPT_TOGETHER` each."""

    @property
    def title(self) -> str:
        """How a reader knows the set."""
        return self.scenes.title

    @property
    def names(self) -> Sequence[str]:
        """One name a scene."""
        return self.scenes.names

    @property
    def fingerprint(self) -> str:
        """That of the scenes: it makes no difference when they were drawn."""
        return self.scenes.fingerprint

    def read(self, index: int) -> Image.Image:
        """The picture of the scene at ``index``."""
        block, place = divmod(index, _KEPT_TOGETHER)
        return Image.fromarray(self.pictures[block][place])


class _Drawn(Dataset[Array]):
    """Draws in the worker processes."""

    def __init__(self, scenes: ExperimentScenes | ChangedScenes, first: int, last: int) -> None:
        self._scenes = scenes
        self._indices = range(first, last)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> Array:
        return np.asarray(self._scenes.read(self._indices[place]))


def drawn_once(
    scenes: ExperimentScenes | ChangedScenes,
    store: Store | None,
    *,
    workers: int = 0,
    advance: Advance = lambda _: None,
) -> ProbeSet:
    """The scenes with their pictures from ``store``, where those that lack are drawn first.

    Args:
        scenes: to be drawn.
        store: None: each is drawn whenever it is read.
        workers: processes that draw; does not change any picture.
        advance: told how many scenes are there.
    """
    if store is None:
        return scenes
    pictures = []
    for part in blocks(len(scenes), _KEPT_TOGETHER):
        key = {"pictures": dict(scenes.identity), "images": [part.start, part.stop]}
        if not store.has("passes", key):
            loader = DataLoader(
                _Drawn(scenes, part.start, part.stop),
                batch_size=8,
                num_workers=workers,
                collate_fn=np.stack,
            )
            made: list[Array] = []
            for batch in loader:
                made.append(batch)
                advance(len(batch))
            store.put("passes", key, {"pictures": np.concatenate(made)})
        else:
            advance(part.stop - part.start)
        kept = store.get("passes", key, on_disk=("pictures",))
        if kept is None:  # another process has cleared the cache in this moment
            return scenes
        pictures.append(kept["pictures"])
    return KeptScenes(scenes, tuple(pictures))


def run_experiment(
    subject: Subject,
    layers: Sequence[Layer],
    scenes: ExperimentScenes,
    *,
    found: Collected | None = None,
    reading: Reading = Reading(),  # noqa: B008
    services: Services = NONE,
) -> Experiment:
    """Draw the scenes, show them to a network, and tell what drives each of its layers.

    Args:
        subject: the network.
        layers: where it is read.
        scenes: at least :data:`~profiler.profile.drivers.FEWEST_IMAGES` of them.
        found: what a pass over these very scenes has found, with its ``matrices``; None: it is
            made here.
        reading: batch size, workers and precision.
        services: store and progress.
    """
    check_enough(len(scenes))
    clock = Clock()
    if found is None:
        with clock("drawing"), services.progress.stage("scenes", len(scenes)) as advance:
            probe = drawn_once(scenes, services.store, workers=reading.workers, advance=advance)
        found = _shown(subject, layers, probe, clock, reading, services)
    return _told(found, layers, scenes.factors, clock, drawn=True)


def describe(
    subject: Subject,
    layers: Sequence[Layer],
    images: AnnotatedImages,
    *,
    reading: Reading = Reading(),  # noqa: B008
    services: Services = NONE,
) -> Experiment:
    """The same of annotated images: what goes with the units' activations, cause or not."""
    check_enough(len(images.factors))
    clock = Clock()
    found = _shown(subject, layers, images.probe, clock, reading, services)
    return _told(found, layers, images.factors, clock, drawn=False)


def _shown(
    subject: Subject,
    layers: Sequence[Layer],
    probe: ProbeSet,
    clock: Clock,
    reading: Reading,
    services: Services,
) -> Collected:
    with clock("network"), services.progress.stage("images", len(probe.names)) as advance:
        return collect_alone(subject, layers, probe, reading, store=services.store, advance=advance)


def _told(
    found: Collected, layers: Sequence[Layer], factors: Factors, clock: Clock, *, drawn: bool
) -> Experiment:
    factors = factors.take(found.kept)
    with clock("drivers"):
        told = tuple(
            drivers(layer.name, rows, factors)
            for layer, rows in zip(layers, found.matrices, strict=True)
        )
    return Experiment(told, factors, len(factors), clock.seconds, drawn)


# --- one level in place of another -----------------------------------------------------------

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
