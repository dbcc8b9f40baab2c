"""Hooks that see what modules give in a forward pass. They are removed whatever happens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from profiler.pooling import Seen

Take = Callable[[str, Any], None]
"""Is given a module's name and its output, each time the module has run."""


class StopForwardError(BaseException):
    """Ends a forward pass in which nothing more is wanted.

    No Exception, so that a network's own ``except Exception`` does not catch it.
    """


@contextmanager
def hooked(model: nn.Module, names: Sequence[str], take: Take) -> Iterator[None]:
    """Within the context, ``take`` sees every output of the modules called ``names``."""

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: take(name, output)

    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_hook(hook_for(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tensors_of(output: Any) -> list[torch.Tensor]:
    """The tensors in a module's output that can be activations: those with a batch and a unit.

    Of a tuple, list or dictionary the tensors that lie in it directly; numbers, such as a loss,
    do not count.
    """
    if isinstance(output, torch.Tensor):
        return [output]
    parts: Sequence[Any] = ()
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif isinstance(output, tuple | list):
        parts = output
    return [p for p in parts if isinstance(p, torch.Tensor) and p.is_floating_point() and p.dim()]


@dataclass
class Trial:
    """What one pass over :data:`COPIES` copies of an image shows of a module."""

    runs: int = 0
    """How often it runs in one pass."""
    seen: Seen | None = None
    problem: str = ""
    """Why it cannot be read; empty if it can."""


COPIES = 2
"""Rows that belong to different images must be told from rows that belong to one."""


def try_out(model: nn.Module, names: Sequence[str], images: torch.Tensor) -> dict[str, Trial]:
    """Run ``images`` (:data:`COPIES` times the same) once; modules in the order of their first run.

    A module that runs several times counts with its last run.
    """
    trials: dict[str, Trial] = {}

    def note(name: str, output: Any) -> None:
        trial = trials.setdefault(name, Trial())
        trial.runs += 1
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
            trial.seen = Seen(shape, windows, (images.shape[-2], images.shape[-1]))

    with hooked(model, names, note), torch.inference_mode():
        model(images)
    return trials


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
