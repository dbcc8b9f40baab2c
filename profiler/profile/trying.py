"""A word tried on one unit: pairs of fresh scenes that differ in the level that it names alone.

In each pair one scene shows the level, the other another level of the same factor, drawn at random;
all else is the same. The effect is the mean difference of the two activations, in standard
deviations of the unit over all scenes of the trial, with Student's interval over pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import stdtrit

from profiler.activations.alone import collect_alone
from profiler.core.arrays import Float64
from profiler.core.statistics import Interval
from profiler.data.synthetic.design import FACTORS, ChangedScenes, ExperimentScenes
from profiler.errors import InputError, ProfilerError, UnknownNameError, first_line
from profiler.models.subject.loading import SubjectOptions, load_subject
from profiler.models.subject.network import Layer, Subject
from profiler.profile.drivers import columns_of
from profiler.profile.experiment import DESIGN
from profiler.profile.result import ProfileRun
from profiler.session import NONE, Reading, Services

PAIRS = 40
"""Of a trial, for each factor of which the word names a level."""
FEWEST_PAIRS = 5


@dataclass(frozen=True)
class TriedLevel:
    """What came of the pairs of one level.

    Attributes:
        factor: of which it is a level.
        level: that the word names.
        others: (n,) the level in its place, in each of the scenes.
        shown: (n,) activations on the scenes with the level.
        replaced: (n,) on those with another level.
        spread: standard deviation of the unit over all scenes of the trial.
    """

    factor: str
    level: str
    others: tuple[str, ...]
    shown: Float64
    replaced: Float64
    spread: float

    @property
    def differences(self) -> Float64:
        """(n,) how much more active the unit is where the level is shown."""
        found: Float64 = self.shown - self.replaced
        return found

    @property
    def effect(self) -> Interval:
        """The mean difference in standard deviations, with its 95 % interval; 0 if constant."""
        if self.spread <= 0:
            return Interval(0.0, 0.0, 0.0)
        values = self.differences / self.spread
        n = len(values)
        half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / n**0.5
        middle = float(values.mean())
        return Interval(middle, middle - half, middle + half)

    @property
    def follows(self) -> bool:
        """Whether the interval of the effect lies above 0."""
        return self.effect.low > 0

    def to_json(self) -> dict[str, Any]:
        """Everything about it."""
        return {
            "factor": self.factor,
            "level": self.level,
            "pairs": len(self.others),
            "effect": self.effect.value,
            "interval": (self.effect.low, self.effect.high),
            "follows": self.follows,
            "mean_shown": float(self.shown.mean()),
            "mean_replaced": float(self.replaced.mean()),
            "higher": int((self.differences > 0).sum()),
        }


@dataclass(frozen=True)
class TriedWord:
    """What came of trying a word on a unit.

    Attributes:
        layer: of the unit.
        unit: its number.
        word: that was tried.
        scenes: that the pairs are made of.
        levels: that the word names; it is followed if one of them is.
    """

    layer: str
    unit: int
    word: str
    scenes: ExperimentScenes
    levels: tuple[TriedLevel, ...]

    @property
    def follows(self) -> bool:
        """Whether the unit is more active where a level that the word names is shown."""
        return any(each.follows for each in self.levels)

    def sentences(self) -> list[str]:
        """What came out, a sentence a level."""
        return [
            f"Unit {self.unit} of {self.layer} {'follows' if each.follows else 'does not follow'} "
            f"{each.level} as a {each.factor}: it is {abs(each.effect.value):.2f} standard "
            f"deviations {'more' if each.effect.value >= 0 else 'less'} active than with another "
            f"{each.factor} in the same scene (95 % interval {each.effect.low:.2f} to "
            f"{each.effect.high:.2f}, {len(each.others)} pairs)."
            for each in self.levels
        ]

    def pair(self, level: TriedLevel, place: int) -> tuple[Image.Image, Image.Image]:
        """The two pictures of a pair: with the level, and with another."""
        return (
            self.scenes.draw(place, {level.factor: level.level}),
            self.scenes.draw(place, {level.factor: level.others[place]}),
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {
            "layer": self.layer,
            "unit": self.unit,
            "word": self.word,
            "seed": self.scenes.seed,
            "follows": self.follows,
            "levels": [each.to_json() for each in self.levels],
        }


def named_levels(word: str) -> tuple[tuple[str, str], ...]:
    """(factor, level) of what a word names.

    Raises:
        UnknownNameError: it names nothing that scenes can be drawn with.
    """
    found = columns_of(word, DESIGN)
    if not found:
        known = dict.fromkeys(level for _, level in DESIGN.columns)
        hint = "profiler scenes --experiment draws with " + ", ".join(DESIGN.names)
        raise UnknownNameError("word for what scenes vary", word, known, hint=hint)
    return tuple(DESIGN.columns[i] for i in found)


def try_word(
    subject: Subject,
    layer: Layer,
    unit: int,
    word: str,
    *,
    pairs: int = PAIRS,
    seed: int = 0,
    reading: Reading = Reading(),  # noqa: B008
    services: Services = NONE,
) -> TriedWord:
    """Draw pairs of scenes for a word, show them to a network, and tell what a unit makes of them.

    Args:
        subject: the network.
        layer: where it is read.
        unit: of the layer.
        word: that names a level of a factor.
        pairs: of scenes, for each such level.
        seed: of the scenes.
        reading: batch size, workers and precision.
        services: progress; nothing is kept.
    """
    if pairs < FEWEST_PAIRS:
        raise InputError(f"at least {FEWEST_PAIRS} pairs are needed for an interval, got {pairs}")
    if not 0 <= unit < layer.units:
        raise InputError(f"layer {layer.name!r} has units 0 to {layer.units - 1}, not {unit}")
    levels = named_levels(word)
    scenes = ExperimentScenes(pairs, seed)
    changes: list[tuple[int, Mapping[str, str]]] = []
    others: list[list[str]] = []
    for factor, level in levels:
        rng = np.random.default_rng([seed, *factor.encode(), *level.encode()])
        rest = [each for each in FACTORS[factor] if each != level]
        others.append([rest[i] for i in rng.integers(len(rest), size=pairs).tolist()])
        changes += [(i, {factor: level}) for i in range(pairs)]
        changes += [(i, {factor: other}) for i, other in enumerate(others[-1])]
    probe = ChangedScenes(scenes, tuple(changes), f"pairs of {word}")
    with services.progress.stage("pairs", len(changes)) as advance:
        found = collect_alone(subject, (layer,), probe, reading, advance=advance)
    values = np.asarray(found.matrices[0][:], np.float64)[:, unit].reshape(len(levels), 2, pairs)
    return TriedWord(
        layer.name,
        unit,
        word,
        scenes,
        tuple(
            TriedLevel(
                factor, level, tuple(other), shown, replaced,
                float(np.concatenate([shown, replaced]).std()),
            )
            for (factor, level), other, (shown, replaced) in zip(
                levels, others, values, strict=True
            )
        ),
    )  # fmt: skip


def subject_of_run(run: ProfileRun, device: torch.device) -> Subject:
    """The network of a run, loaded again by the run's settings.

    Raises:
        InputError: it cannot be, or is not the same as it was.
    """
    record = run.record
    name, settings = record.subject.name, record.settings
    if record.source is not None:
        raise InputError(f"the run was made from {record.source.file}: there is no network to try")
    checkpoint = settings.get("checkpoint")
    try:
        found = load_subject(
            name,
            device,
            SubjectOptions(
                Path(checkpoint) if checkpoint else None,
                bool(settings.get("partial", False)),
                str(settings.get("weights", "default")),
                settings.get("preprocess"),
                record.seed,
                str(settings.get("checkpoint_key", "")),
            ),
        )
    except ProfilerError as error:
        raise InputError(
            f"the network of the run, {name}, cannot be loaded again by the settings in its "
            f"run.json: {first_line(error)}"
        ) from error
    if found.fingerprint != record.subject.fingerprint:
        raise InputError(
            f"{name} is not the network that the run is about (fingerprint "
            f"{found.fingerprint[:16]}, not {record.subject.fingerprint[:16]}): its weights, code "
            "or preprocessing have changed, or its factory draws weights at random"
        )
    return found


def layer_of_run(run: ProfileRun, subject: Subject, name: str) -> Layer:
    """A layer of a run by name, as the run pooled it."""
    known = [layer.name for layer in run.record.subject.layers]
    if name not in known:
        raise UnknownNameError("layer of the run", name, known)
    (layer,) = subject.layers((name,), str(run.record.settings.get("pool", "auto")))
    return layer
