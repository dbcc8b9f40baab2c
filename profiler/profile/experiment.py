"""An experiment on a network: scenes drawn once, shown to the subject alone, and its drivers told.

The pictures are kept, so that the next network does not draw them again; the activations are kept
shard by shard, as those of any pass. On disk that is 150 kB a scene once, and 4 bytes a unit and
scene: up to tens of thousands of scenes far less than the sums by level, pair of levels and group
would take. In memory are the activations of one group of images and one layer at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from profiler.activations.alone import collect_alone
from profiler.core.arrays import BoolArray, Rows, blocks
from profiler.core.store import Array, Store
from profiler.data.factors import Factors
from profiler.data.images import ProbeSet
from profiler.data.synthetic.design import ExperimentScenes
from profiler.models.subject.network import Layer, Subject
from profiler.profile.drivers import LayerDrivers, check_images, drivers
from profiler.session import NONE, Advance, Clock, Reading, Services

_KEPT_TOGETHER = 250
"""Pictures of one entry of the cache: 38 MB."""


@dataclass(frozen=True)
class KeptScenes:
    """Scenes as they were drawn before."""

    scenes: ExperimentScenes
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

    def __init__(self, scenes: ExperimentScenes, first: int, last: int) -> None:
        self._scenes = scenes
        self._indices = range(first, last)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> Array:
        return np.asarray(self._scenes.read(self._indices[place]))


def drawn_once(
    scenes: ExperimentScenes,
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


@dataclass(frozen=True)
class Experiment:
    """What came of an experiment.

    Attributes:
        layers: the drivers of each.
        factors: of the scenes.
        seconds: by stage: drawing, forward passes, and working out the drivers.
    """

    layers: tuple[LayerDrivers, ...]
    factors: Factors
    seconds: dict[str, float]

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """(factor, level) of the columns of effects."""
        return self.factors.columns

    def dead(self) -> int:
        """Units that do not vary on the scenes."""
        silent: list[BoolArray] = [~layer.varying for layer in self.layers]
        return int(sum(each.sum() for each in silent))


def run_experiment(
    subject: Subject,
    layers: Sequence[Layer],
    scenes: ExperimentScenes,
    *,
    reading: Reading = Reading(),  # noqa: B008
    services: Services = NONE,
) -> Experiment:
    """Draw the scenes, show them to a network, and tell what drives each of its layers.

    Args:
        subject: the network.
        layers: where it is read.
        scenes: at least :data:`~profiler.profile.drivers.FEWEST_IMAGES` of them.
        reading: batch size, workers and precision.
        services: store and progress.
    """
    check_images(len(scenes))
    clock, store = Clock(), services.store
    with clock("drawing"), services.progress.stage("scenes", len(scenes)) as advance:
        probe = drawn_once(scenes, store, workers=reading.workers, advance=advance)
    with clock("network"), services.progress.stage("experiment", len(scenes)) as advance:
        found = collect_alone(
            subject,
            layers,
            probe,
            store=store,
            precision=reading.precision,
            batch_size=reading.batch_size,
            workers=reading.workers,
            advance=advance,
        )
    with clock("drivers"):
        told = tuple(
            drivers(layer.name, rows, scenes.factors)
            for layer, rows in zip(layers, found.matrices, strict=True)
        )
    return Experiment(told, scenes.factors, clock.seconds)
