"""Groups of layers, found in the structure of a network: ``all``, ``mlp`` and ``leaves``."""

import re
from collections import Counter
from collections.abc import Iterator

from torch import nn

from profiler.models.subject.heads import Head
from profiler.models.subject.hooks import Passed
from profiler.models.subject.pooling import CONVOLUTIONS, PROJECTIONS, is_norm

GROUPS = ("all", "mlp", "leaves")

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def groups_of(
    model: nn.Module, passed: Passed | None = None, head: Head | None = None
) -> dict[str, tuple[str, ...]]:
    """The members of every group, in the order of definition; a group may be empty.

    Args:
        model: the network.
        passed: a pass through it, which shows what runs and gives one tensor.
        head: what its output comes from.
    """
    return {
        "all": tuple(all_group(model, passed, head)),
        "mlp": tuple(_hidden(model)),
        "leaves": tuple(n for n, m in model.named_modules() if n and isinstance(m, PROJECTIONS)),
    }


# --- all -------------------------------------------------------------------------------------


def all_group(
    model: nn.Module, passed: Passed | None = None, head: Head | None = None
) -> list[str]:
    """Stem, output of every stage or block, and what gives the output, in order of definition.

    Without a pass, structure alone decides, and the last layer of what follows the blocks is
    taken for the head.
    """
    members = list(_stages(model, "", is_root=True))
    if passed is not None:
        members = [each for member in members for each in _served(model, passed, *member)]
    names = [name for name, _ in members]
    if head is not None:
        before = [
            n for n in names if not any(f"{given}.".startswith(f"{n}.") for given in head.names)
        ]
        return [n for n in before if n not in head.names] + list(head.names)
    if passed is None and members and not members[-1][1] and not names[-1].endswith("pool"):
        leaf = last_projection(model.get_submodule(names[-1]))
        names[-1] = f"{names[-1]}.{leaf}" if leaf else names[-1]
    return names


def last_projection(module: nn.Module) -> str:
    """The name of the last linear layer or convolution inside ``module``; empty if itself."""
    inside = [name for name, part in module.named_modules() if isinstance(part, PROJECTIONS)]
    return inside[-1] if inside else ""


def _stages(module: nn.Module, prefix: str, is_root: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield (name, whether it is one of the stages or blocks).

    Where parts that are alike hold most of the layers, they are the stages. Until then, the part
    that holds most is looked into, and so is each list of blocks; but no block of such a list.
    """
    parts = dict(_parts(module))
    for name, part in list(parts.items()):
        # What also stands in a part beside it is one of that part's own, as it is used there.
        others = (other for other in module.children() if other is not part)
        if any(part is inner for other in others for inner in other.modules()):
            del parts[name]
    sizes = {name: _size(part) for name, part in parts.items()}
    total = sum(sizes.values())
    alike = _alike(parts, sizes)
    found = 2 * sum(sizes[name] for name in alike) >= total
    in_list = isinstance(module, _LISTS) and not is_root
    for name, part in parts.items():
        is_list = isinstance(part, _LISTS)
        wide = 2 * sizes[name] > total and not found and (is_list or not in_list)
        blocks = is_list and name not in alike and _is_blocks(part)
        if _never_runs(part) or (list(_parts(part)) and (wide or blocks)):
            yield from _stages(part, f"{prefix}{name}.", is_root and len(parts) == 1)
        else:
            yield f"{prefix}{name}", (found and name in alike) or in_list


def _parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children that have weights, and do more than normalise or tell positions."""
    for name, child in module.named_children():
        if next(child.parameters(), None) is None or is_norm(child) or name.startswith("pos_"):
            continue
        yield name, child


def _size(module: nn.Module) -> int:
    """How many layers there are in it."""
    return max(1, sum(isinstance(part, PROJECTIONS) for part in module.modules()))


def _alike(parts: dict[str, nn.Module], sizes: dict[str, int]) -> set[str]:
    """The largest family of parts of one kind; empty without two of a kind."""
    kinds = {name: _kind(part) for name, part in parts.items()}
    twice = {kind for kind, often in Counter(kinds.values()).items() if often > 1}
    families = [{name for name in parts if kinds[name] == kind} for kind in twice]
    return max(families, key=lambda names: sum(sizes[n] for n in names), default=set())


def _kind(module: nn.Module) -> str:
    """The class of a module; of a list also that of what it holds most of."""
    kind = type(module).__name__
    if not isinstance(module, _LISTS):
        return kind
    inside = Counter(_kind(part) for _, part in _parts(module))
    return f"{kind} of {inside.most_common(1)[0][0]}" if inside else kind


def _is_blocks(module: nn.Module) -> bool:
    """Whether it is a list mostly of blocks that are alike, of two layers or more."""
    parts = dict(_parts(module))
    sizes = {name: _size(part) for name, part in parts.items()}
    alike = _alike(parts, sizes)
    inside = sum(sizes[name] for name in alike)
    return inside >= 2 * max(1, len(alike)) and 2 * inside >= sum(sizes.values())


def _never_runs(module: nn.Module) -> bool:
    """A list or dictionary of modules never runs itself; only what stands in it does."""
    return isinstance(module, nn.ModuleList | nn.ModuleDict) and (
        type(module).forward in (nn.Module.forward, nn.ModuleList.forward, nn.ModuleDict.forward)
    )


def _served(
    model: nn.Module, passed: Passed, name: str, is_stage: bool
) -> Iterator[tuple[str, bool]]:
    """A member; or what is in it, if it hands on several tensors, or runs only in parts."""
    trial = passed.trials.get(name)
    if trial is not None and trial.seen is not None:
        yield name, is_stage
        return
    inside = list(_stages(model.get_submodule(name), f"{name}."))
    runs = any(running.startswith(f"{name}.") for running in passed.trials)
    if not inside or not runs:
        yield name, is_stage
    for each, _ in inside if runs else ():
        yield from _served(model, passed, each, is_stage)


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
