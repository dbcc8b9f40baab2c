"""A network under study: its layers, and what they give for images."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import nn

from profiler.errors import InputError, ResourceError, UnknownNameError
from profiler.pooling import RULES, Pooling, choose_pooling
from profiler.subject.groups import GROUPS, groups_of
from profiler.subject.hooks import COPIES, StopForwardError, Trial, hooked, tensors_of, try_out
from profiler.subject.preprocessing import Preprocess, trial_image
from profiler.subject.trial import in_company, mismatch

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
    """

    name: str
    model: nn.Module
    preprocess: Preprocess
    weights: str
    input_text: str
    identity: str = ""
    step: float | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the architecture, and the preprocessing."""
        return weights_digest(self.model, extra=self.identity or self.input_text)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The members of every group of layers, in the order of definition."""
        return groups_of(self.model)

    def layers(self, wanted: Sequence[str] = ("all",), pool: str = "auto") -> tuple[Layer, ...]:
        """The layers named by groups, names or globs, in the order in which they run.

        Args:
            wanted: ``all`` (stem, output of every stage or block, classifier), ``mlp`` (hidden
                units of a transformer's MLPs), ``leaves`` (every convolution and linear layer),
                names, or globs.
            pool: one of :data:`~profiler.pooling.RULES`. A layer asked for by its own name must
                suit it; in a group or glob, those it does not suit keep their own rule, as a
                patch embedding does beside blocks that have a class token.
        """
        if pool not in RULES:
            raise UnknownNameError("pooling rule", pool, RULES)
        modules = dict(self.model.named_modules())
        named = [item for item in wanted if item in modules and item and item not in GROUPS]
        names = list(dict.fromkeys(name for item in wanted for name in self._members(item)))
        trials = self._try_out(names)
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
        if item in GROUPS:
            members = self.groups[item]
            if not members:
                raise InputError(
                    f"{self.name} has no layer in the group {item!r}; see profiler layers"
                )
            return members
        if item in modules and item:
            return [item]
        found = [name for name in modules if name and fnmatchcase(name, item)]
        if not found:
            known = [*GROUPS, *filter(None, modules)]
            raise UnknownNameError(f"layer of {self.name}", item, known)
        return found

    def _layer(self, name: str, trial: Trial | None, rule: str) -> Layer:
        if trial is None:
            # Such as an auxiliary head, or a layer of which only the weights are used.
            raise InputError(f"layer {name!r} of {self.name} does not run in a forward pass")
        if trial.problem or trial.seen is None:
            raise InputError(f"layer {name!r} of {self.name} {trial.problem}{self._inside(name)}")
        windows, shape = trial.seen.windows, trial.seen.shape
        return Layer(
            name,
            type(self.model.get_submodule(name)).__name__,
            shape if windows == 1 else (windows, *shape),
            choose_pooling(self.model, name, trial.seen, rule),
            tuple(group for group, members in self.groups.items() if name in members),
            trial.runs,
        )

    def _inside(self, name: str) -> str:
        inside = [f"{name}.{child}" for child, _ in self.model.get_submodule(name).named_children()]
        return f"; try one inside it: {', '.join(inside[:5])}" if inside else ""

    def _try_out(self, names: Sequence[str]) -> dict[str, Trial]:
        try:
            image = self.preprocess(trial_image())
        except Exception as error:
            raise InputError(
                f"the preprocessing of {self.name} fails on an RGB image of 256 × 256 pixels: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(image, torch.Tensor) or image.dim() != 3:
            shape = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
            raise InputError(
                f"the preprocessing of {self.name} gives {shape} for an image; it must give a "
                "tensor (3, H, W)"
            )
        images = self.on_device(image.unsqueeze(0).repeat(COPIES, 1, 1, 1))
        try:
            return try_out(self.model, names, images)
        except torch.OutOfMemoryError as error:
            raise ResourceError(f"memory ran out with {COPIES} images in {self.name}") from error
        except Exception as error:
            raise InputError(
                f"{self.name} fails on an image of {image.shape[-2]} × {image.shape[-1]} pixels: "
                f"{type(error).__name__}: {error}{mismatch(self.model, image)}"
            ) from error

    @torch.inference_mode()
    def read(self, layers: Sequence[Layer], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the units of ``layers`` give for (B, 3, H, W) images: layer → (B, K) float32.

        The forward pass ends as soon as every layer has run as often as it does in one pass, so
        nothing after the last of them is computed. The hooks are removed, whatever happens.
        """
        pools = {layer.name: layer.pool for layer in layers}
        due = {layer.name: layer.runs for layer in layers}
        taken: dict[str, torch.Tensor] = {}

        def take(name: str, output: Any) -> None:
            tensors = tensors_of(output)
            if len(tensors) == 1:
                taken[name] = pools[name](tensors[0])
            due[name] -= 1
            if max(due.values()) <= 0:
                raise StopForwardError

        try:
            with hooked(self.model, list(pools), take):
                self.model(self.on_device(in_company(images)))
        except StopForwardError:
            pass
        self.check_taken(layers, taken, len(in_company(images)))
        return {name: rows[: len(images)] for name, rows in taken.items()}

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
        """Images where the weights lie.

        With channels last, which makes convolutions on a CPU about one and a half times as fast.
        """
        return images.to(self.device, memory_format=torch.channels_last, non_blocking=True)


def weights_digest(model: nn.Module, extra: str = "") -> str:
    """SHA-256 over the names, types, shapes and values of a model's state."""
    digest = hashlib.sha256(extra.encode())
    state: Mapping[str, torch.Tensor] = model.state_dict()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()
