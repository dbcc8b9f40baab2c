"""An experiment on a network: scenes drawn once, shown to the subject alone, and its drivers told.

The pictures are kept, so that the next network does not draw them again; the activations are kept
shard by shard, as those of any pass. On disk that is 150 kB a scene once, and 4 bytes a unit and
scene: up to tens of thousands of scenes far less than the sums by level, pair of levels and group
would take. In memory are the activations of one group of images and one layer at a time.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from profiler.activations.alone import collect_alone
from profiler.activations.collect import Collected
from profiler.core.arrays import Rows, blocks
from profiler.core.json_text import json_text
from profiler.core.store import Array, Store, write_atomically
from profiler.data.factors import Factors
from profiler.data.image_tables import AnnotatedImages
from profiler.data.images import ProbeSet
from profiler.data.synthetic.design import ChangedScenes, ExperimentScenes
from profiler.models.subject.network import Layer, Subject
from profiler.profile.drivers import LayerDrivers, check_enough, drivers
from profiler.session import NONE, Advance, Clock, Reading, Services

_KEPT_TOGETHER = 250
"""Pictures of one entry of the cache: 38 MB."""
_TOLD = 0.02
"""Changes of a share from the first layer to the last that are worth telling."""


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


@dataclass(frozen=True)
class Experiment:
    """What came of an experiment.

    Attributes:
        layers: the drivers of each.
        factors: of the images; those of a finished run know no image.
        images: that were shown.
        seconds: by stage: drawing, forward passes, and working out the drivers.
        drawn: whether the factors were drawn independently, so that what goes with them is caused
            by them, and shares add up.
    """

    layers: tuple[LayerDrivers, ...]
    factors: Factors
    images: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    drawn: bool = True

    def dead(self) -> int:
        """Units that do not vary on the scenes."""
        return sum(int((~layer.varying).sum()) for layer in self.layers)

    def changes(self) -> dict[str, tuple[float, float]]:
        """Factors whose mean share differs between the first layer and the last, with both.

        By :data:`_TOLD` or more, beyond the paired interval; those that rise first, each kind by
        how much. No share is shown below 0.
        """
        first, last = self.layers[0], self.layers[-1]
        changes = {
            name: change.value
            for name, change in last.less(first).items()
            if abs(change.value) >= _TOLD and (change.low > 0 or change.high < 0)
        }
        order = sorted(changes, key=lambda name: (changes[name] < 0, -abs(changes[name])))
        ends = first.shares(), last.shares()
        return {name: (max(ends[0][name].value, 0.0), max(ends[1][name].value, 0.0))
                for name in order}  # fmt: skip

    def finding(self) -> str:
        """In a sentence, what changes most between the first layer and the last; may be empty."""
        told, said = [], set()
        for name, (start, end) in self.changes().items():
            verb = "rises" if end > start else "falls"
            says = "" if verb in said else f" {verb}"
            said.add(verb)
            told.append(f"{name}{says} from {100 * start:.0f} to {end:.0%}")
        ends = f"from {self.layers[0].layer} to {self.layers[-1].layer}"
        return f"{ends}, {', '.join(told)}" if told else ""

    def caution(self) -> str:
        """What keeps shares from being causes; empty where the factors were drawn."""
        if self.drawn:
            return ""
        told = "attributes of these images go together, so shares describe and do not add up"
        if not self.factors.pairs:
            return told
        association = self.factors.association()
        i, j = max(self.factors.pairs, key=lambda pair: association[pair])
        names = self.factors.names
        return f"{told}; most of all {names[i]} and {names[j]} (Cramér's V {association[i, j]:.2f})"

    def to_json(self) -> dict[str, Any]:
        """Everything about layers: mean shares and two-way shares, each with its interval."""
        return {
            "images": self.images,
            "caused": self.drawn,
            "factors": dict(zip(map(key_of, self.factors.names), self.factors.levels, strict=True)),
            **({"association": self.factors.association()} if len(self.factors) else {}),
            **({"seconds": self.seconds} if self.seconds else {}),
            "layers": [self._layer(layer) for layer in self.layers],
        }

    def _layer(self, layer: LayerDrivers) -> dict[str, Any]:
        shares, names = layer.shares(), self.factors.names
        two_way = {
            f"{key_of(names[i])} × {key_of(names[j])}": value
            for (i, j), value in zip(self.factors.pairs, layer.mean[len(names) :], strict=True)
        }
        wholes = {
            "factors": layer.first_order(), "pairs": layer.all_two_way(), "rest": layer.rest()
        }  # fmt: skip
        return {
            "layer": layer.layer,
            "units": layer.units,
            "varying": int(layer.varying.sum()),
            "shares": {key_of(name): each.value for name, each in shares.items()},
            "intervals": {key_of(name): (each.low, each.high) for name, each in shares.items()},
            "sums": {name: each.value for name, each in wholes.items()},
            "sum_intervals": {name: (each.low, each.high) for name, each in wholes.items()},
            "two_way": two_way,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row a unit: the factor of its largest share, the level of its largest effect, shares.

        Of a unit that does not vary nothing but its place is given.
        """
        columns = self.factors.columns
        for layer in self.layers:
            for unit in range(layer.units):
                row: dict[str, Any] = {"layer": layer.layer, "unit": unit}
                if layer.varying[unit]:
                    factor = self.factors.names[int(layer.share[unit].argmax())]
                    here = [i for i, (name, _) in enumerate(columns) if name == factor]
                    most = max(here, key=lambda i: layer.effect[unit, i])
                    row |= {"driver": key_of(factor), "level": columns[most][1]}
                    row |= {"effect": round(float(layer.effect[unit, most]), 4)}
                    row |= {"effect_error": round(float(layer.effect_error[unit, most]), 4)}
                    for i, name in enumerate(self.factors.names):
                        row[key_of(name)] = round(float(layer.share[unit, i]), 5)
                        row[f"{key_of(name)}_error"] = round(float(layer.share_error[unit, i]), 5)
                yield row

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write ``drivers.json``, what is told of the subject first, and ``drivers.csv``."""
        write_atomically(out / "drivers.json", json_text({**about, **self.to_json()}) + "\n")
        text = io.StringIO()
        shares = [
            name for each in self.factors.names for name in (key_of(each), key_of(each) + "_error")
        ]
        titles = ["layer", "unit", "driver", "level", "effect", "effect_error", *shares]
        table = csv.DictWriter(text, titles, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows())
        write_atomically(out / "drivers.csv", text.getvalue())


def key_of(factor: str) -> str:
    """A factor's name where it has to be one word."""
    return factor.replace(" ", "_")


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
