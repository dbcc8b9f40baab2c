"""A network under study: its layers, and what they give for images."""

import copy
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.errors import InputError, ResourceError, UnknownNameError
from profiler.models.subject.groups import GROUPS, groups_of
from profiler.models.subject.heads import Head, find_head
from profiler.models.subject.hooks import (
    COPIES,
    Passed,
    StopForwardError,
    Trial,
    averaged_before,
    hooked,
    learned_tokens,
    tensors_of,
    try_out,
)
from profiler.models.subject.pooling import RULES, Pooling, choose_pooling
from profiler.models.subject.preprocessing import (
    Preprocess,
    digest_of,
    seeded,
    shown,
    trial_image,
    trial_images,
)
from profiler.models.subject.trial import in_company, mismatch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layer:
    """One place in the network whose units are described."""

    name: str
    kind: str
    """Class of the module."""
    shape: tuple[int, ...]
    """Shape of one image's output."""
    pool: Pooling
    groups: tuple[str, ...] = ()
    """The groups it is in."""
    runs: int = 1
    """How often it runs in one forward pass; the last run counts."""

    @property
    def units(self) -> int:
        """Number of units."""
        return self.pool.units

    @property
    def pooling(self) -> str:
        """How one number a unit is made of the output, for example ``mean over 7 × 7``."""
        return self.pool.text


@dataclass(frozen=True)
class Subject:
    """A network in evaluation mode, with its own preprocessing.

    Attributes:
        name: as the user gave it.
        model: maps (B, 3, H, W) to anything.
        preprocess: from an RGB image to (3, H, W).
        weights: where the weights come from, in words.
        input_text: the preprocessing in words.
        identity: what tells this architecture and this preprocessing from others, apart from
            where they lie; the preprocessing in words if empty.
        step: how far its training was, if the file of its weights says so.
        from_file: whether a user's own code made it, which its weights and settings do not tell.
        again: opens the same network on a device, in another process too; None for one that came
            from memory.
    """

    name: str
    model: nn.Module
    preprocess: Preprocess
    weights: str
    input_text: str
    identity: str = ""
    step: float | None = None
    from_file: bool = False
    again: "Callable[[torch.device], Subject] | None" = field(
        default=None, repr=False, compare=False
    )
    _memory_format: list[torch.memory_format] = field(
        default_factory=lambda: [torch.channels_last], repr=False, compare=False
    )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the architecture, and the preprocessing.

        Of a user's own code, both what it says and what it does count: the one does not show what
        it reads elsewhere, the other not what it does with other images.
        """
        extra = self.identity or self.input_text
        return weights_digest(self.model, f"{extra}\n{self.behaviour}" if self.from_file else extra)

    @cached_property
    def behaviour(self) -> str:
        """Hash of what preprocessing and network make of two fixed pictures; see :func:`tried`."""
        return f"{digest_of(self.preprocess, self.name).hex()} {tried(self.model, self.preprocess)}"

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The members of every group of layers, in the order of definition."""
        return groups_of(self.model, self._passed, self.head)

    @cached_property
    def head(self) -> Head | None:
        """What the output comes from; None where no module gives as many numbers."""
        return find_head(self.model, self._passed)

    def layers(self, wanted: Sequence[str] = ("all",), pool: str = "auto") -> tuple[Layer, ...]:
        """The layers named by groups, names or globs, in the order in which they run.

        Args:
            wanted: ``all`` (stem, output of every stage or block, classifier), ``mlp`` (hidden
                units of a transformer's MLPs), ``leaves`` (every convolution and linear layer),
                names, or globs. Where a group is empty, a module of its name is meant.
            pool: one of :data:`~profiler.models.subject.pooling.RULES`. A layer asked for by its
            own name must
                suit it; in a group or glob, those it does not suit keep their own rule, as a
                patch embedding does beside blocks that have a class token.
        """
        if pool not in RULES:
            raise UnknownNameError("pooling rule", pool, RULES)
        modules = dict(self.model.named_modules())
        named = [item for item in wanted if item in modules and item and not self._is_group(item)]
        names = list(dict.fromkeys(name for item in wanted for name in self._members(item)))
        trials = {name: each for name, each in self._passed.trials.items() if name in names}
        found: dict[str, Layer] = {}
        refused: dict[str, InputError] = {}
        fallen_back: dict[str, InputError] = {}
        for name in [*trials, *(name for name in names if name not in trials)]:
            try:
                found[name] = self._layer(name, trials.get(name), pool)
            except InputError as error:
                if name in named:
                    raise
                try:
                    found[name] = self._layer(name, trials.get(name), "auto")
                    fallen_back[name] = error
                except InputError as hopeless:
                    refused[name] = hopeless
        served = [layer for layer in found.values() if layer.name not in fallen_back]
        if fallen_back and not any(len(layer.shape) > 1 for layer in served):
            raise next(iter(fallen_back.values()))
        if not found:
            raise next(iter(refused.values()))
        for name, reason in fallen_back.items():
            log.info("--pool %s: %s; instead: %s", pool, reason, found[name].pooling)
        if refused:
            first = next(iter(refused.values()))
            log.info("layers left out: %d; the first: %s", len(refused), first)
        return tuple(found.values())

    def _members(self, item: str) -> Sequence[str]:
        """The names of the modules that a group, a name or a glob stands for."""
        modules = dict(self.model.named_modules())
        if self._is_group(item):
            if item in modules:
                log.info(
                    "%r is taken for the group; the module of %s that is called so is '[%s]%s'",
                    *(item, self.name, item[0], item[1:]),
                )
            return self.groups[item]
        if item in modules and item:
            return [item]
        if item in GROUPS:
            raise InputError(f"{self.name} has no layer in the group {item!r}; see profiler layers")
        found = [name for name in modules if name and fnmatchcase(name, item)]
        if not found:
            # One module in several places stands under the first of its names.
            places = dict(self.model.named_modules(remove_duplicate=False))
            twins = [places[name] for name in places if name and fnmatchcase(name, item)]
            found = [name for name, module in modules.items() if any(module is t for t in twins)]
        if not found:
            known = [*GROUPS, *filter(None, modules)]
            raise UnknownNameError(f"layer of {self.name}", item, known)
        return found

    def _is_group(self, item: str) -> bool:
        """Whether a name stands for a group: one that has members wins over a module."""
        return item in GROUPS and bool(self.groups[item])

    def _layer(self, name: str, trial: Trial | None, rule: str) -> Layer:
        if trial is None:
            # Such as an auxiliary head, or a layer of which only the weights are used.
            raise InputError(f"layer {name!r} of {self.name} does not run in a forward pass")
        if trial.problem or trial.seen is None:
            raise InputError(f"layer {name!r} of {self.name} {trial.problem}{self._inside(name)}")
        windows, shape = trial.seen.windows, trial.seen.shape
        seen = trial.seen
        if len(shape) == 2 and windows == 1 and shape[0] > 1:
            seen = replace(seen, learned=self._learned.get(shape[0], ()))
        return Layer(
            name,
            type(self.model.get_submodule(name)).__name__,
            shape if windows == 1 else (windows, *shape),
            choose_pooling(self.model, name, seen, rule),
            tuple(group for group, members in self.groups.items() if name in members),
            trial.runs,
        )

    def _inside(self, name: str) -> str:
        inside = [f"{name}.{child}" for child, _ in self.model.get_submodule(name).named_children()]
        return f"; try one inside it: {', '.join(inside[:5])}" if inside else ""

    @cached_property
    def _passed(self) -> Passed:
        """What one pass shows, with images and weights as the network takes them."""
        images = self.trial_images(COPIES)
        try:
            try:
                return try_out(self.model, images)
            except RuntimeError as error:
                # Many networks flatten with view, which cannot bear channels that come last.
                if "view size is not compatible" not in str(error):
                    raise
                self.model.to(memory_format=torch.contiguous_format)
                self._memory_format[0] = torch.contiguous_format
                return try_out(self.model, self.on_device(images))
        except torch.OutOfMemoryError as error:
            raise ResourceError(f"memory ran out with {COPIES} images in {self.name}") from error
        except Exception as error:
            raise InputError(
                f"{self.name} fails on an image of {images.shape[-2]} × {images.shape[-1]} pixels: "
                f"{type(error).__name__}: {error}{mismatch(self.model, images[0])}"
            ) from error

    def trial_images(self, count: int) -> torch.Tensor:
        """(count, 3, H, W): so many copies of one picture, as the preprocessing gives it."""
        image = shown(self.preprocess, trial_image(), self.name)
        if not isinstance(image, torch.Tensor) or image.dim() != 3:
            shape = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
            raise InputError(
                f"the preprocessing of {self.name} gives {shape} for an image; it must give a "
                "tensor (3, H, W)"
            )
        return self.on_device(image.unsqueeze(0).repeat(count, 1, 1, 1))

    @cached_property
    def _learned(self) -> Mapping[int, tuple[int, ...]]:
        """Where among so many tokens stand those that are the same for every image."""
        return learned_tokens(self.model, varied(self.trial_images(2)))

    def averaged_before(self, name: str) -> Layer | None:
        """The layer whose map a module reads the means of; None where it reads something else."""
        found = averaged_before(self.model, name, varied(self.trial_images(2)))
        if found is None:
            return None
        name, axis = found
        trial = self._passed.trials.get(name)
        if trial is None or trial.seen is None or len(trial.seen.shape) != 3:
            return None
        shape = trial.seen.shape
        axes = (2, 3) if axis == 1 else (1, 2)
        grid = (shape[axes[0] - 1], shape[axes[1] - 1])
        pool = Pooling(shape[axis - 1], "mean", axes, grid=grid)
        kind = type(self.model.get_submodule(name)).__name__
        return Layer(name, kind, shape, pool, runs=trial.runs)

    @torch.inference_mode()
    def read(self, layers: Sequence[Layer], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the units of ``layers`` give for (B, 3, H, W) images: layer → (B, K) float32.

        The forward pass ends as soon as every layer has run as often as it does in one pass, so
        nothing after the last of them is computed. The hooks are removed, whatever happens.
        """
        taken: dict[str, torch.Tensor] = {}

        def take(layer: Layer, output: torch.Tensor) -> None:
            taken[layer.name] = layer.pool(output)

        self.watch(layers, images, take)
        taken = {name: rows[: len(images)] for name, rows in taken.items()}
        self.check_taken(layers, taken, len(images))
        return taken

    @torch.inference_mode()
    def watch(
        self,
        layers: Sequence[Layer],
        images: torch.Tensor,
        take: Callable[[Layer, torch.Tensor], None],
    ) -> None:
        """Run (B, 3, H, W) images until every layer has run as often as it does in one pass.

        ``take`` sees the output of each layer each time it runs; the last time counts. A lone image
        is given twice. Outputs may be worked on in place afterwards: copy what is to stay.
        """
        named = {layer.name: layer for layer in layers}
        due = {layer.name: layer.runs for layer in layers}

        def note(name: str, _inputs: Any, output: Any) -> None:
            tensors = tensors_of(output)
            if len(tensors) == 1:
                take(named[name], tensors[0])
            due[name] -= 1
            if max(due.values()) <= 0:
                raise StopForwardError

        try:
            with hooked(self.model, list(named), note):
                self.model(self.on_device(in_company(images)))
        except StopForwardError:
            pass

    def check_taken(
        self, layers: Sequence[Layer], taken: Mapping[str, torch.Tensor], images: int
    ) -> None:
        """Refuse what was read unless it is (images, units) for every layer."""
        for layer in layers:
            shape = tuple(taken[layer.name].shape) if layer.name in taken else None
            if shape != (images, layer.units):
                raise InputError(
                    f"layer {layer.name!r} of {self.name} gives {shape or 'nothing'} for "
                    f"{images} images, not ({images}, {layer.units}) as for others"
                )

    def on_device(self, images: torch.Tensor) -> torch.Tensor:
        """Images where the weights lie, in the precision of the weights.

        With channels last, which makes convolutions on a CPU about one and a half times as fast,
        unless the network cannot take it.
        """
        kind = self._precision if images.is_floating_point() else None
        moved = images.to(self.device, kind or images.dtype, non_blocking=True)
        return moved.contiguous(memory_format=self._memory_format[0])

    @cached_property
    def _precision(self) -> torch.dtype | None:
        """The one type of all weights; None if there are several."""
        kinds = {p.dtype for p in self.model.parameters() if p.is_floating_point()}
        return kinds.pop() if len(kinds) == 1 else None


def varied(images: torch.Tensor) -> torch.Tensor:
    """The first of ``images`` as it is, the others with noise of its strength, ever the same."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images[1:].shape, generator=generator).to(images)
    mixed = images[1:] / 2 + noise * (images[:1].std() + 1e-3)
    return torch.cat([images[:1], mixed])


class _Doubles(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether a number in double precision is made one of lower precision."""

    lost = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype in (
            torch.float32, torch.float16, torch.bfloat16
        ):  # fmt: skip
            given = [each for each in args if isinstance(each, torch.Tensor)]
            self.lost |= any(each.dtype == torch.float64 for each in given)
        return made


def tried(model: nn.Module, preprocess: Preprocess) -> str:
    """What a network gives for the trial images, as :func:`computed` tells it."""
    try:
        images = [preprocess(image).detach() for image in trial_images()]
        # Together where they can be: some networks fail on a lone image.
        same = images[0].shape == images[1].shape
        batches = [torch.stack(images)] if same else [torch.stack([each] * 2) for each in images]
    except Exception:  # whatever a preprocessing stumbles over
        return ""
    return computed(model, batches)


def computed(model: nn.Module, batches: Sequence[torch.Tensor]) -> str:
    """Hash of what a network gives for batches (B, 3, H, W); empty where it cannot be told.

    It runs in double precision on a CPU, as a copy. There its outputs are the same to a dozen
    digits, whichever device, threads or batch it is used with, so that six of them tell one
    computation from another and nothing else. A network that does not run so, or casts its numbers
    down on the way, is not told by what it does.
    """
    try:
        twin = copy.deepcopy(model).eval().cpu().double()
        twin = twin.to(memory_format=torch.contiguous_format)  # twice as fast, and always the same
        seen = _Doubles()  # type: ignore[no-untyped-call]
        with torch.inference_mode(), seeded(0), seen:
            given = [tensors_of(twin(batch.cpu().double())) for batch in batches]
    except Exception:  # whatever a network stumbles over
        return ""
    if seen.lost:
        return ""
    digest = hashlib.sha256()
    for tensor in (each for batch in given for each in batch):
        digest.update(f"{tuple(tensor.shape)} ".encode() + _six_digits(tensor))
    return digest.hexdigest()


def _six_digits(tensor: torch.Tensor) -> bytes:
    """Of every number, as a share of the largest; and of that one."""
    values = tensor.detach().double()
    finite = values[values.isfinite()].abs()
    largest = float(finite.max()) if len(finite) else 0.0
    shares = (values / (largest or 1.0) * 1e6).round().nan_to_num(nan=3e6, posinf=4e6, neginf=-4e6)
    return f"{largest:.5e} ".encode() + shares.to(torch.int64).contiguous().numpy().tobytes()


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what DataParallel or ``torch.compile`` put around it."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    compiled = getattr(model, "_orig_mod", None)
    return unwrapped(compiled) if isinstance(compiled, nn.Module) else model


def weights_digest(model: nn.Module, extra: str = "") -> str:
    """SHA-256 over the names, types, shapes and values of a model's state.

    What DataParallel or ``torch.compile`` put around the network, or ``torch.compile`` around a
    part of it, does not count.
    """
    digest = hashlib.sha256(extra.encode())
    state: Mapping[str, torch.Tensor] = {
        name.replace("_orig_mod.", ""): tensor
        for name, tensor in unwrapped(model).state_dict().items()
    }
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()
