"""A network in training is profiled as a copy, and what training draws from stays as it was."""

import copy
import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from profiler.models.subject.network import unwrapped

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within the context no autocast is on; after it, generators and threads are as before.

    The generators are Python's, NumPy's and torch's, on the CPU and on every CUDA or MPS device.
    The threads are those of OpenMP: where numba has more of them than ``OMP_NUM_THREADS`` says
    (which torchrun sets to 1), its first parallel loop gives torch as many, and with another
    number of threads torch sums in another order.
    """
    threads = torch.get_num_threads()
    python, numpys, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cudas = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    kinds = ("cpu", *(("cuda",) if cudas else ()))
    try:
        with torch.autocast(kinds[0], enabled=False), torch.autocast(kinds[-1], enabled=False):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(python)
        np.random.set_state(numpys)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cudas:
            torch.cuda.set_rng_state_all(cudas)
        if mps is not None:
            torch.mps.set_rng_state(mps)


def twin_of(model: nn.Module) -> nn.Module:
    """A copy of a network in training, without what only training needs.

    Hooks are left out, because those of the user would take the probe images for a batch of the
    training; those by which ``torch.nn.utils`` prunes or normalises weights stay. Tensors that a
    module remembers of its last forward pass are detached. The trainer that a module of Lightning
    refers to is left out by the module itself.
    """
    inside = unwrapped(model)
    memo: dict[int, Any] = {}
    for module in inside.modules():
        for name in _HOOKS:
            hooks = getattr(module, name)
            memo[id(hooks)] = OrderedDict(
                (key, hook)
                for key, hook in hooks.items()
                if type(hook).__module__.startswith("torch.nn.utils.")
            )
        for tensor in _tensors_in(vars(module).values()):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach()
    twin: nn.Module = copy.deepcopy(inside, memo)
    return twin


def _tensors_in(values: Iterable[Any], depth: int = 3) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif depth and isinstance(value, list | tuple | dict):
            parts = value.values() if isinstance(value, dict) else value
            yield from _tensors_in(parts, depth - 1)


def averaged(model: nn.Module) -> nn.Module:
    """The network inside an average of weights, such as ``AveragedModel``; else the network."""
    inside = getattr(model, "module", None)
    is_average = isinstance(model, torch.optim.swa_utils.AveragedModel) or (
        type(model).__name__.startswith("ModelEma")  # of timm
    )
    return inside if is_average and isinstance(inside, nn.Module) else model
