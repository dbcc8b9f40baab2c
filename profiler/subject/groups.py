"""Groups of layers, found in the structure of a network: ``all``, ``mlp`` and ``leaves``."""

import re
from collections.abc import Iterator

from torch import nn

from profiler.pooling import CONVOLUTIONS, PROJECTIONS, is_norm

GROUPS = ("all", "mlp", "leaves")

_CONTAINERS = frozenset(
    {"backbone", "blocks", "body", "encoder", "features", "layers", "levels", "model", "module"}
    | {"net", "network", "resblocks", "stages", "transformer", "transformers", "trunk"}
    | {"trunk_output", "visual"}
)
"""Attribute names by which torchvision, timm and open_clip keep their list of stages or blocks."""


def groups_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The members of every group, in the order of definition; a group may be empty."""
    return {
        "all": tuple(all_group(model)),
        "mlp": tuple(_hidden(model)),
        "leaves": tuple(n for n, m in model.named_modules() if n and isinstance(m, PROJECTIONS)),
    }


# --- all -------------------------------------------------------------------------------------


def all_group(model: nn.Module) -> list[str]:
    """Stem, output of every stage or block, and classifier, in the order of definition."""
    found = list(_stages(model, ""))
    names = [name for name, _ in found]
    if found and not found[-1][1] and not names[-1].endswith("pool"):
        # What follows the list of blocks is the head; its units are those of its last layer.
        leaf = last_projection(model.get_submodule(names[-1]))
        names[-1] = f"{names[-1]}.{leaf}" if leaf else names[-1]
    return names


def last_projection(module: nn.Module) -> str:
    """The name of the last linear layer or convolution inside ``module``; empty if itself."""
    inside = [name for name, part in module.named_modules() if isinstance(part, PROJECTIONS)]
    return inside[-1] if inside else ""


def _stages(module: nn.Module, prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield (name, whether it stands in a list of stages or blocks)."""
    in_list = bool(prefix) and isinstance(module, nn.Sequential | nn.ModuleList)
    for name, child in module.named_children():
        has_weights = any(True for _ in child.parameters())
        if not has_weights or is_norm(child) or name.startswith("pos_"):
            continue
        # A ModuleList never runs itself; only what stands in it does.
        if name in _CONTAINERS or isinstance(child, nn.ModuleList):
            yield from _stages(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", in_list


# --- mlp -------------------------------------------------------------------------------------


def _hidden(model: nn.Module) -> Iterator[str]:
    """Where each MLP of a transformer has its hidden units, after the activation."""
    for name, module in model.named_modules():
        place = _hidden_of(module)
        if place:
            yield f"{name}.{place}" if name else place


def _hidden_of(module: nn.Module) -> str:
    """The part of ``module`` that gives its hidden units, if it is an MLP d → h → d; else empty.

    Two linear layers (or convolutions of kernel 1) with one activation between them. Where the
    activation only gates other units, the hidden units are the product; the dropout that takes
    it in gives it out unchanged.
    """
    parts = dict(module.named_children())
    if isinstance(module, nn.TransformerEncoderLayer):
        return "dropout"  # PyTorch's own layer calls its activation as a function
    ends = [widths for part in parts.values() if (widths := _widths(part))]
    activations = [name for name, part in parts.items() if _is_activation(part)]
    if len(ends) not in (2, 3) or len(activations) != 1:
        return ""
    (width, hidden), (inner, outer) = ends[0], ends[-1]
    if width != outer or hidden < width:
        return ""
    gated = inner * 2 == hidden or (len(ends) == 3 and ends[1] == (width, hidden))
    if gated:
        return next((name for name, part in parts.items() if isinstance(part, nn.Dropout)), "")
    return activations[0] if inner == hidden and len(ends) == 2 else ""


def _widths(part: nn.Module) -> tuple[int, int] | None:
    """(in, out) of a linear layer, or of a convolution that sees one place at a time."""
    if isinstance(part, nn.Linear):
        return part.in_features, part.out_features
    if isinstance(part, CONVOLUTIONS) and set(part.kernel_size) == {1}:
        return part.in_channels, part.out_channels
    return None


def _is_activation(part: nn.Module) -> bool:
    name = type(part).__name__.lower()
    return re.search(r"(lu\d?|mish|swish|tanh|sigmoid|activation)$", name) is not None
