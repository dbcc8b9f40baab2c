"""What is compared: finished runs, and networks that are profiled first."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import torch

from profiler.core.text import distinct, file_name, stem_of
from profiler.data.concept_sets import ConceptSet
from profiler.data.images import ProbeSet
from profiler.errors import InputError, UsageError
from profiler.models.subject.loading import NamedSubject, SubjectOptions
from profiler.models.subject.network import Subject
from profiler.models.subject.weight_files import checkpoints_in
from profiler.models.vlm.base import VLM
from profiler.profile.result import ProfileRun, load_run
from profiler.profile.run import ProfileOptions, profile
from profiler.session import NONE, Services

log = logging.getLogger("profiler")

_GLOB = "*?["
"""Characters of a glob."""


@dataclass(frozen=True)
class NamedRun:
    """A finished run, by the name it goes by among those compared with it."""

    name: str
    run: ProfileRun
    folder: Path | None = None
    """None of a run that was not written."""


@dataclass(frozen=True)
class Unprofiled:
    """A network that has no run yet."""

    name: str
    network: NamedSubject | Subject

    def check(self) -> None:
        """Refuse a name that is none, before anything is loaded."""
        if isinstance(self.network, NamedSubject):
            self.network.check()

    def load(self, device: torch.device) -> Subject:
        """The network; one that is loaded already stays where it is."""
        return self.network.load(device) if isinstance(self.network, NamedSubject) else self.network


Slot = NamedRun | Unprofiled


@dataclass(frozen=True)
class Tuning:
    """What networks to be profiled have of their own.

    Attributes:
        checkpoints: files of weights, globs of them, or folders of a training; one for each
            network, or all of them of one network.
        keys: which of several networks in a checkpoint; one for all, or one for each.
        weights: ``default``, ``none`` or a name torchvision gives; as many as checkpoints may be.
        partial: load the weights that fit.
        preprocess: of all networks.
        seed: of random weights.
    """

    checkpoints: Sequence[str] = ()
    keys: Sequence[str] = ()
    weights: Sequence[str] = ()
    partial: bool = False
    preprocess: str | None = None
    seed: int = 0

    def networks(self, names: Sequence[str]) -> list[Unprofiled]:
        """One for each name or, of a single one, for each of its weights."""
        files, keys = self._keyed(_files(self.checkpoints))
        tuned = max(len(files), len(self.weights))
        if not names and tuned:
            raise UsageError("--checkpoint and --weights are about networks; only runs were named")
        many = tuned if len(names) == 1 and tuned else len(names)
        for what, given in (("--checkpoint", files), ("--weights", self.weights)):
            if len(given) not in (0, many):
                raise UsageError(
                    f"{len(given)} {what} for {many} networks; give one for each, or name one "
                    "network and several weights"
                )
        every = list(names) * (many if len(names) == 1 else 1)
        return [
            Unprofiled(_called(name, file, key, weights), self._network(name, file, key, weights))
            for name, file, key, weights in zip_longest(every, files, keys, self.weights)
        ]

    def _keyed(self, files: list[Path]) -> tuple[list[Path], list[str]]:
        """The files and the keys in them, as many of one as of the other, if there are keys."""
        keys = list(self.keys)
        if len(files) == 1 and len(keys) > 1:
            files = files * len(keys)
        if len(keys) == 1:
            keys = keys * max(len(files), 1)
        if keys and len(keys) != len(files):
            raise UsageError(
                f"{len(keys)} --checkpoint-key for {len(files)} --checkpoint; give one for all, or "
                "one for each"
            )
        return files, keys

    def _network(
        self, name: str, file: Path | None, key: str | None, weights: str | None
    ) -> NamedSubject:
        options = SubjectOptions(
            file, self.partial, weights or "default", self.preprocess, self.seed, key or ""
        )
        return NamedSubject(name, options)


def slots_of(
    given: Sequence[NamedRun | Subject | Path | str],
    tuning: Tuning | None = None,
    names: Sequence[str] = (),
) -> list[Slot]:
    """What is compared, in the order given; one network may stand for several.

    Args:
        given: runs, folders of finished runs, and networks, loaded or by name.
        tuning: what the networks have of their own.
        names: what to call each; by default, the folder's or the network's name.

    Returns:
        Two or more, under names that are unique and fit for a folder.
    """
    networks = [each for each in given if isinstance(each, str | Path) and not _finished(each)]
    for name in networks:
        if Path(name).is_dir():
            raise InputError(f"{str(name)!r} is not a finished run: 'run.json' is missing")
    tuned = (tuning or Tuning()).networks([str(name) for name in networks])
    one_each = len(tuned) == len(networks)
    slots: list[Slot] = []
    for each in given:
        match each:
            case NamedRun():
                slots.append(each)
            case Subject():
                slots.append(Unprofiled(stem_of(each.name), each))
            case _ if _finished(each):
                path = Path(each)
                slots.append(NamedRun(path.resolve().name, load_run(path), path))
            case _ if one_each:
                slots.append(tuned.pop(0))
            case _:
                slots += tuned
    if len(slots) < 2:
        raise UsageError(
            "a comparison needs at least two runs; name two folders or networks, or one network "
            "with --checkpoint or --weights more than once"
        )
    if names and len(names) != len(slots):
        raise UsageError(f"{len(names)} --name for {len(slots)} runs; give one for each")
    if len(set(names)) < len(names):
        raise UsageError("--name has to differ from run to run")
    wanted = distinct([file_name(name) for name in names or [slot.name for slot in slots]])
    return [replace(slot, name=name) for slot, name in zip(slots, wanted, strict=True)]


def profile_missing(
    slots: Sequence[Slot],
    inputs: Callable[[torch.device], tuple[ProbeSet, ConceptSet, Callable[[], VLM]]],
    out: Path | None,
    device: torch.device,
    options: ProfileOptions,
    services: Services = NONE,
) -> list[NamedRun]:
    """All as finished runs: each network that has none is profiled.

    What an earlier call did is in the cache, so only what is missing takes time.

    Args:
        slots: from :func:`slots_of`.
        inputs: opens images, concepts and, once called, the VLM; not called without a network.
        out: each is written to a folder of its name within; None to write nothing.
        device: where networks run.
        options: how to profile.
        services: what may be called upon.
    """
    runs, opened = [], None
    for slot in slots:
        if isinstance(slot, NamedRun):
            runs.append(slot)
            continue
        if opened is None:
            images, concepts, eyes = inputs(device)
            opened = images, concepts, eyes()
        images, concepts, vlm = opened
        log.info("— %s", slot.name)
        folder = None if out is None else out / slot.name
        run = profile(slot.load(device), vlm, images, concepts, folder, options, services)
        runs.append(NamedRun(slot.name, run, folder))
    return runs


def _finished(target: Path | str) -> bool:
    return (Path(target) / "run.json").is_file()


def _files(given: Sequence[str]) -> list[Path]:
    """Files of weights, each glob and each folder in the order of its names."""
    found: list[Path] = []
    for text in map(str, given):
        path = Path(text)
        if path.is_dir():
            found += checkpoints_in(path)
        elif set(text) & set(_GLOB) and not path.exists():
            fixed = next(i for i, part in enumerate(path.parts) if set(part) & set(_GLOB))
            folder = Path(*path.parts[:fixed])
            files = sorted(folder.glob(str(Path(*path.parts[fixed:]))))
            if not files:
                raise InputError(f"--checkpoint {text!r} matches no file")
            found += files
        else:
            found.append(path)
    return found


def _called(name: str, file: Path | None, key: str | None, weights: str | None) -> str:
    if file is not None:
        named = file.stem.removesuffix(".pth")  # timm's end in .pth.tar
        return "-".join(filter(None, (named, key)))
    stem = stem_of(name)
    if weights == "none":
        return f"{stem}-random"
    return stem if weights in (None, "default") else f"{stem}-{weights}"
