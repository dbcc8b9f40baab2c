"""Weights out of a file: reading it safely, unwrapping it, and holding it against the model."""

import argparse
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiler.errors import InputError

State = dict[str, torch.Tensor]
Shapes = tuple[tuple[int, ...], tuple[int, ...]]
"""In the file, and in the model."""

WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
)
"""Keys under which training scripts keep the weights, the best first.

Averaged weights (EMA) come before the others, as in timm: they are what was evaluated.
"""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "visual.")
"""What DataParallel, torch.compile, Lightning and others put in front of every name."""

STEPS = ("global_step", "step", "iteration", "iter", "epoch")
"""Keys under which training scripts note how far they were, the finest first."""

_SHOWN = 4


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file.

    Attributes:
        path: the file.
        state: name → tensor.
        found_in: the key they lay under; empty if the file holds nothing else.
        step: how far the training was, if the file says so.
    """

    path: Path
    state: State
    found_in: str = ""
    step: float | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a safetensors file, or in one of ``torch.save``.

    Only tensors and plain containers are read (``weights_only=True``): nothing in the file runs.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {str(path)!r} is {'a folder' if path.exists() else 'absent'}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _unwrap(path, _read_torch(path))


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            step = _step_in(file.metadata() or {})
        return Checkpoint(path, load_file(path), step=step)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"checkpoint {str(path)!r} is damaged or no safetensors file: {error}"
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        # Many training scripts keep their options beside the weights: a mere bag of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes of a damaged file lead to
        text = str(error)
        culprit = re.search(r"GLOBAL ([\w.]+)", text)
        if isinstance(error, pickle.UnpicklingError) and culprit:
            raise InputError(
                f"checkpoint {str(path)!r} holds more than weights ({culprit[1]}), and reading "
                "that could run code; save the weights alone: torch.save(model.state_dict(), FILE)"
            ) from error
        if "TorchScript" in text:
            raise InputError(
                f"checkpoint {str(path)!r} is a TorchScript archive; save the weights alone: "
                "torch.save(model.state_dict(), FILE)"
            ) from error
        raise InputError(
            f"checkpoint {str(path)!r} is damaged, incomplete or no file of torch.save"
        ) from error


def _unwrap(path: Path, content: Any) -> Checkpoint:
    found_in: list[str] = []
    step = None
    while isinstance(content, Mapping):
        step = _step_in(content) if step is None else step
        state = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, torch.Tensor)
        }
        key = next((k for k in WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if key is None:
            if state:
                return Checkpoint(path, state, ".".join(found_in), step)
            break
        found_in.append(key)
        content = content[key]
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else ""
    holds = f"its keys: {keys}" if keys else f"it holds a {type(content).__name__}"
    raise InputError(
        f"checkpoint {str(path)!r} has no weights where they are looked for "
        f"({', '.join(WRAPPERS)}, or the top level); {holds}"
    )


def _step_in(content: Mapping[Any, Any]) -> float | None:
    """The step that stands beside the weights, as a number or as its text."""
    for key in STEPS:
        value = content.get(key)
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        # A parameter may bear such a name; and what is no number counts nothing.
        if isinstance(value, int | float | str):
            try:
                found = float(value)
            except ValueError:
                continue
            if math.isfinite(found):
                return found
    return None


@dataclass(frozen=True)
class Fit:
    """A checkpoint held against a model, after prefixes have been taken off.

    Attributes:
        state: the entries that fit.
        prefix: what was taken off every name.
        missing: names of the model that the file does not have.
        unexpected: names of the file that the model does not have.
        misshapen: name → both shapes, where they differ.
        aside: how many entries without the prefix were left aside, though all others fit.
    """

    state: State
    prefix: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: Mapping[str, Shapes]
    aside: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the model gets every weight from the file, and the file has no other."""
        return not (self.missing or self.unexpected or self.misshapen)

    @property
    def problems(self) -> str:
        """What does not fit, counted, with the first few by name."""
        shapes = [
            f"{name}: {found} in the file, {wanted} in the model"
            for name, (found, wanted) in self.misshapen.items()
        ]
        return "; ".join(
            f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', …' * (len(names) > _SHOWN)})"
            for what, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of another shape", shapes),
            )
            if names
        )


def fit(checkpoint: Checkpoint, model: nn.Module) -> Fit:
    """Hold a checkpoint against a model.

    Of the :data:`PREFIXES`, those are taken off that give the most names of the model. Entries
    that lie beside the prefix (a loss, a second network) count as unexpected, unless what has
    the prefix is all the model needs.
    """
    wanted = model.state_dict()
    # Counts batches in training and decides nothing in evaluation; old files do not have it.
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}

    def score(candidate: tuple[str, State]) -> int:
        return len(wanted.keys() & candidate[1].keys())

    prefix, state = max(_candidates("", checkpoint.state), key=score)
    missing = tuple(name for name in wanted if name in needed and name not in state)
    unexpected = [name for name in state if name not in wanted]
    beside = [name for name in checkpoint.state if not name.startswith(prefix)]
    return Fit(
        {n: t for n, t in state.items() if n in wanted and t.shape == wanted[n].shape},
        prefix,
        missing,
        tuple(unexpected + beside if missing else unexpected),
        {
            name: (tuple(tensor.shape), tuple(wanted[name].shape))
            for name, tensor in state.items()
            if name in wanted and tensor.shape != wanted[name].shape
        },
        0 if missing else len(beside),
    )


def _candidates(prefix: str, state: State) -> Iterator[tuple[str, State]]:
    """The state as it is, and with every chain of prefixes taken off; the shortest chain first."""
    yield prefix, state
    for part in PREFIXES:
        inside = {name.removeprefix(part): t for name, t in state.items() if name.startswith(part)}
        if inside:
            yield from _candidates(prefix + part, inside)


def load(checkpoint: Checkpoint, fitted: Fit, model: nn.Module, partial: bool, name: str) -> str:
    """Put what fits into the model, and say in words where its weights come from.

    A load that is not whole is an error unless ``partial``.
    """
    file = f"checkpoint {str(checkpoint.path)!r}"
    if not fitted.state:
        raise InputError(f"{file} has no entry that fits {name}: {fitted.problems}")
    if not (fitted.is_whole or partial):
        raise InputError(
            f"{file} does not fit {name}: {fitted.problems}; load what fits with --partial"
        )
    model.load_state_dict(fitted.state, strict=False)
    details = [f"its {checkpoint.found_in}"] if checkpoint.found_in else []
    details += [f"without the prefix {fitted.prefix!r}"] if fitted.prefix else []
    details += [f"{fitted.aside} entries beside it left aside"] if fitted.aside else []
    if not fitted.is_whole:
        total = len(model.state_dict())
        details.append(f"partial, {len(fitted.state)} of {total} entries: {fitted.problems}")
    return f"{file} ({'; '.join(details)})" if details else file
