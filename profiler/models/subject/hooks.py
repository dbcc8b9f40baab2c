"""Hooks that see what modules give in a forward pass. They are removed whatever happens."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import nn

from profiler.models.subject.pooling import SeenLayer

See = Callable[[str, Any, Any], None]
"""Is given a module's name, its inputs and its output, each time the module has run."""


class StopForwardError(BaseException):
    """Ends a forward pass in which nothing more is wanted.

    No Exception, so that a network's own ``except Exception`` does not catch it.
    """


@contextmanager
def hooked(model: nn.Module, names: Iterable[str], see: See) -> Iterator[None]:
    """Within the context, ``see`` is shown what the modules called ``names`` read and give."""

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, inputs, output: see(name, inputs, output)

    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for name in names:
            hooks.callback(modules[name].register_forward_hook(hook_for(name)).remove)
        yield


def tensors_of(output: Any) -> list[torch.Tensor]:
    """The tensors in a module's output that can be activations: those with a batch and a unit.

    Of a tuple, list, dictionary or dataclass the tensors that lie in it directly; numbers, such as
    a loss, do not count.
    """
    if isinstance(output, torch.Tensor):
        return [output]
    parts: Sequence[Any] = ()
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif is_dataclass(output):
        parts = [getattr(output, field.name) for field in fields(output)]
    elif isinstance(output, tuple | list):
        parts = output
    return [p for p in parts if isinstance(p, torch.Tensor) and p.is_floating_point() and p.dim()]


class InputOutput(NamedTuple):
    """What a module made of its input, where both are one row an image.

    Attributes:
        made: (B, K) what it gave.
        read: (B, f) what it was given; None if that was no row.
    """

    made: torch.Tensor
    read: torch.Tensor | None


@dataclass
class Trial:
    """What one pass over :data:`COPIES` copies of an image shows of a module."""

    runs: int = 0
    """How often it runs in one pass."""
    seen: SeenLayer | None = None
    problem: str = ""
    """Why it cannot be read; empty if it can."""
    last: int = 0
    """Its place in the order in which modules end their last runs."""
    row: InputOutput | None = None
    """What it gave in its last run, if that is one row an image."""


@dataclass(frozen=True)
class Passed:
    """What one pass over :data:`COPIES` copies of an image shows of a network.

    Attributes:
        trials: of every module that ran, in the order of their first runs.
        rows: (B, K) each: the network's outputs that are one row an image.
    """

    trials: dict[str, Trial] = field(default_factory=dict)
    rows: tuple[torch.Tensor, ...] = ()


COPIES = 2
"""Rows that belong to different images must be told from rows that belong to one."""


def try_out(model: nn.Module, images: torch.Tensor) -> Passed:
    """Run ``images`` (:data:`COPIES` times the same) once.

    A module that runs several times counts with its last run.
    """
    trials: dict[str, Trial] = {}
    ended = count()

    def note(name: str, inputs: Any, output: Any) -> None:
        trial = trials.setdefault(name, Trial())
        trial.runs += 1
        trial.last = next(ended)
        trial.seen, trial.row = None, None
        tensors = tensors_of(output)
        if len(tensors) != 1:
            kind = type(output).__name__
            trial.problem = (
                f"gives {len(tensors)} tensors in a {kind}"
                if tensors
                else (f"gives no tensor but a {kind}")
            )
            return
        trial.problem = _disorder(tensors[0])
        if not trial.problem:
            shape, windows = tuple(tensors[0].shape[1:]), len(tensors[0]) // COPIES
            trial.seen = SeenLayer(shape, windows, (images.shape[-2], images.shape[-1]))
        if (made := _row(tensors[0])) is not None:
            trial.row = InputOutput(made, _row(inputs[0]) if inputs else None)

    with hooked(model, dict(model.named_modules()), note), torch.inference_mode():
        outputs = tensors_of(model(images))
    rows = [row for output in outputs if (row := _row(output)) is not None]
    return Passed(trials, tuple(rows))


@torch.inference_mode()
def learned_tokens(model: nn.Module, images: torch.Tensor) -> dict[int, tuple[int, ...]]:
    """Where class and register tokens stand: number of tokens → positions that are learned.

    Where such tokens join those that were read from an image they are the same for every image;
    behind the first attention they no longer are. So the first module to end counts
    that was given, or gives, so many tokens, of which some but not most are equal for the two
    different ``images``.
    """
    found: dict[int, tuple[int, ...]] = {}

    def note(_name: str, inputs: Any, output: Any) -> None:
        for tensor in (*tensors_of(inputs), *tensors_of(output)):
            if tensor.dim() != 3 or len(tensor) != 2 or tensor.is_meta or tensor.shape[1] in found:
                continue
            equal = (tensor[0] == tensor[1]).all(dim=1)
            if 0 < int(equal.sum()) <= len(equal) // 2:
                found[tensor.shape[1]] = tuple(equal.nonzero().flatten().tolist())

    with hooked(model, dict(model.named_modules()), note):
        model(images)
    return found


@torch.inference_mode()
def averaged_before(model: nn.Module, name: str, images: torch.Tensor) -> tuple[str, int] | None:
    """What a module reads the means of: the last module whose map has them, and its unit axis.

    Args:
        model: run once.
        name: of the module that is given (B, f).
        images: (2, 3, H, W), different ones.
    """
    made: list[tuple[str, int, torch.Tensor]] = []
    read: list[torch.Tensor] = []

    def note(module: str, inputs: Any, output: Any) -> None:
        if module == name:
            read[:] = [inputs[0]] if inputs and isinstance(inputs[0], torch.Tensor) else []
        for tensor in tensors_of(output):
            if tensor.dim() == 4 and len(tensor) == len(images):
                made.extend((module, axis, tensor.mean(dim=places))
                            for axis, places in ((1, (2, 3)), (3, (1, 2)))
                            if max(tensor.shape[place] for place in places) > 1)  # fmt: skip

    with hooked(model, dict(model.named_modules()), note):
        model(images)
    if not read or read[0].dim() != 2:
        return None
    close = [
        (module, axis)
        for module, axis, means in made
        if means.shape == read[0].shape and torch.allclose(means, read[0], rtol=1e-3, atol=1e-5)
    ]
    return close[-1] if close else None


def _row(output: Any) -> torch.Tensor | None:
    """(B, K) of (B, K) or (B, K, 1, 1), a copy; None if there are more positions than one.

    On the "meta" device, where values cannot be compared, the tensor itself.
    """
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        return None
    if output.dim() < 2 or len(output) != COPIES or any(side != 1 for side in output.shape[2:]):
        return None
    return output if output.is_meta else output.flatten(1).clone()


def _disorder(output: torch.Tensor) -> str:
    """Why the rows of an output do not belong to the images one after the other; else empty.

    Attention in windows makes several rows of each image. They lie side by side if the first
    half of the rows, which then is all of the first copy, equals the second.
    """
    if output.dim() < 2:
        return f"gives {tuple(output.shape)} for {COPIES} images: no axis of units"
    rows = len(output)
    if rows % COPIES:
        return f"gives {rows} rows for {COPIES} images: its first axis is not that of the images"
    if rows == COPIES or output.is_meta:
        return ""
    first, second = output.float().chunk(COPIES)
    tolerance = 1e-4 * float(first.abs().max())
    if torch.allclose(first, second, rtol=1e-3, atol=tolerance, equal_nan=True):
        return ""
    return f"gives {rows} rows for {COPIES} images: its first axis is not that of the images"
