"""A file of weights held against a network: whose names they are, and what does not fit."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from profiler.errors import InputError
from profiler.models.subject.weight_files import SHOWN, Checkpoint, State, join, some

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
"""In the file, and in the model."""

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network")
"""Keys under which training scripts keep the weights; where several do, the first is taken."""

AVERAGED = frozenset({"ema", "swa", "avg", "averaged", "average", "shadow"})
"""Words in the keys of averaged weights. They come first: they are what was evaluated."""

STEPS = ("global_step", "step", "iteration", "iter", "epoch", "last_epoch")
"""Keys under which training scripts note how far they were, the finest first."""

_COUNTS = ("n_averaged", "updates", "num_updates")
"""Keys under which averaged weights note over how many steps they were averaged."""

_INSIDE = (
    frozenset[str](),
    frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
    | {"_forward_module", "_original_module", "_fpw_module"},
)
"""What compiling, sharding and checkpointing of activations put around modules, at any depth."""
_WRAPS = (*_INSIDE, _INSIDE[-1] | {"module"})
"""… and at last DataParallel's ``module``, which a network may also call a part of its own."""

_ALIKE = 0.8
"""Two networks in a file are alike if in one such a part of the other's entries fits."""


@dataclass(frozen=True)
class _Network:
    """What of a file bears the names of a model, after one and the same beginning.

    Attributes:
        prefix: the beginning, keys and names joined by dots.
        entries: name of the model → name in the file and tensor.
        places: the keys of the states it lies in.
        hits: how many of its entries have the shape of the model's.
        wraps: the parts that were taken out of names, wherever they stood.
    """

    prefix: str
    entries: Mapping[str, torch.Tensor]
    places: tuple[str, ...]
    hits: int
    wraps: frozenset[str]

    @property
    def name(self) -> str:
        """As ``--checkpoint-key`` takes it."""
        return self.prefix or "."

    @property
    def begin(self) -> str:
        """What stands before each of its names, with the dot."""
        return f"{self.prefix}." if self.prefix else ""


@dataclass(frozen=True)
class Fit:
    """A checkpoint held against a model.

    Attributes:
        state: the entries that fit.
        found_in: the keys they lay under; empty if at the top of the file.
        prefix: what was taken off every name, with its dot.
        missing: names of the model that the file does not have.
        unexpected: names of the file that the model does not have.
        misshapen: name → both shapes, where they differ.
        aside: names left aside, though all the model needs is there.
        step: how far the training was, if the file says so.
        choice: which of several networks in the file was taken, in words.
    """

    state: State
    found_in: str
    prefix: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: Mapping[str, Shapes]
    aside: tuple[str, ...] = ()
    step: float | None = None
    choice: tuple[str, ...] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)

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
            f"{len(names)} {what} ({some(names)})"
            for what, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of another shape", shapes),
            )
            if names
        )

    @property
    def is_transposed(self) -> bool:
        """Whether the file keeps its matrices with axes in another order."""
        turned = [
            1 < len(found) == len(wanted) and sorted(found) == sorted(wanted)
            for found, wanted in self.misshapen.values()
        ]
        return bool(turned) and sum(turned) >= len(turned) / 2 and len(turned) > 1


def fit(checkpoint: Checkpoint, model: nn.Module, key: str = "", unused: Sequence[str] = ()) -> Fit:
    """Hold a checkpoint against a model.

    The weights are found by the model's own names, whatever keys and prefixes stand before all
    of them. Where several networks in a file would do, averaged weights come first, then the
    keys of :data:`WRAPPERS`; where that does not decide, it is an error that lists them.

    Args:
        checkpoint: what lies in the file.
        model: the network.
        key: keys or a prefix of names, joined by dots, under which to look; ``.`` is the top.
        unused: beginnings of names that decide nothing in evaluation.
    """
    wanted = {n: t for n, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
    found = _networks(checkpoint, wanted)
    chosen, choice = _choose(checkpoint, found, key)
    entries = dict(chosen.entries)
    _complete(entries, wanted, checkpoint, chosen)

    # A counter of batches decides nothing in evaluation; old files do not have it.
    needed = [n for n in wanted if not n.endswith("num_batches_tracked")]
    missing = [n for n in needed if n not in entries and not n.startswith(tuple(unused))]
    under, beside = _others(checkpoint, chosen, found)
    idle = [name for name in under if name.startswith(tuple(unused))]
    if not missing:
        beside = [*beside, *idle]
    unexpected = [name for name in under if name not in idle]
    place, prefix = _parted(checkpoint, chosen)
    return Fit(
        {name: t for name, t in entries.items() if t.shape == wanted[name].shape},
        place,
        prefix,
        tuple(missing),
        tuple(unexpected + beside if missing else unexpected),
        {
            name: (tuple(tensor.shape), tuple(wanted[name].shape))
            for name, tensor in entries.items()
            if tensor.shape != wanted[name].shape
        },
        () if missing else tuple(beside),
        _step_of(checkpoint, chosen.prefix),
        choice,
        _versions(checkpoint, chosen),
    )


# --- which network of the file ---------------------------------------------------------------


def _bare(name: str, wraps: frozenset[str]) -> str:
    return ".".join(part for part in name.split(".") if part not in wraps) if wraps else name


def _networks(checkpoint: Checkpoint, wanted: Mapping[str, torch.Tensor]) -> list[_Network]:
    """Every beginning that names of the model have in the file, the one with the most first.

    Wrappers within names are only taken out where that gives more.
    """
    best: list[_Network] = []
    for wraps in _WRAPS:
        own = {_bare(name, wraps): name for name in wanted}
        if len(own) < len(wanted):
            continue
        entries: dict[str, dict[str, torch.Tensor]] = {}
        places: dict[str, dict[str, None]] = {}
        for place, state in checkpoint.states.items():
            for name, tensor in state.items():
                parts = _bare(join(place, name), wraps).split(".")
                for start in range(len(parts)):
                    known = own.get(".".join(parts[start:]))
                    if known is not None:
                        prefix = ".".join(parts[:start])
                        entries.setdefault(prefix, {})[known] = tensor
                        places.setdefault(prefix, {})[place] = None
        found = [
            _Network(
                prefix,
                fits,
                tuple(places[prefix]),
                sum(tensor.shape == wanted[name].shape for name, tensor in fits.items()),
                wraps,
            )
            for prefix, fits in entries.items()
        ]
        found.sort(key=lambda network: (-len(network.entries), -network.hits))
        if found and (not best or len(found[0].entries) > len(best[0].entries)):
            best = found
        if best and len(best[0].entries) == len(wanted):
            break
    return best


def _choose(
    checkpoint: Checkpoint, found: list[_Network], key: str
) -> tuple[_Network, tuple[str, ...]]:
    """The network to take, and in words why this one, where there are others like it."""
    file = f"checkpoint {str(checkpoint.path)!r}"
    if key:
        keyed = [n for n in found if n.name == key]
        keyed = keyed or [n for n in found if f".{key}." in f".{n.prefix}."]
        if not keyed:
            known = _alike(found) or found
            listed = ", ".join(n.name for n in known[:8]) or some(
                [place or "." for place in checkpoint.states]
            )
            raise InputError(f"{file} has no weights under the key {key!r}; it has: {listed}")
        found = keyed
    if not found:
        return _Network("", {}, tuple(checkpoint.states)[:1], 0, frozenset()), ()
    alike = _alike(found)
    ranks = {n.prefix: _rank(checkpoint, n, alike) for n in alike}
    alike.sort(key=lambda network: ranks[network.prefix])
    best = alike[0]
    others = [n for n in alike[1:] if not _same(n, best)]
    if others and ranks[others[0].prefix] == ranks[best.prefix]:
        listed = ", ".join(n.name for n in [best, *others])
        raise InputError(
            f"{file} holds {len(others) + 1} networks that fit, and nothing says which one is "
            f"meant: {listed}; pick one with --checkpoint-key, such as --checkpoint-key "
            f"{others[-1].name}"
        )
    words = [f"without {part!r} within names" for part in _taken_out(checkpoint, best)]
    averaged = _is_averaged(checkpoint, best)
    words += ["averaged weights"] if averaged else []
    for other in others[:SHOWN]:
        kind = "the raw ones lie" if averaged else "another network that fits lies"
        if _is_averaged(checkpoint, other):
            kind = "averaged weights lie"
            if _count(checkpoint, other) == 0:
                kind = "averaged weights, but of no step yet, lie"
            elif len(other.entries) < len(best.entries):
                lost = [name for name in best.entries if name not in other.entries]
                kind = f"averaged weights, but without {some(lost)}, lie"
        words.append(f"{kind} beside in {other.name}: --checkpoint-key {other.name}")
    return best, tuple(words)


def _taken_out(checkpoint: Checkpoint, network: _Network) -> list[str]:
    names = (name for place in network.places for name in checkpoint.states[place])
    return sorted({part for name in names for part in name.split(".")} & network.wraps)


def _alike(found: Sequence[_Network]) -> list[_Network]:
    """The networks with all names the best has, in shapes that fit as well.

    Averaged ones may lack some: where only parameters are averaged, the buffers.
    """
    names = max((len(n.entries) for n in found), default=0)
    most = max((n.hits for n in found if len(n.entries) == names), default=0)
    return [
        n
        for n in found
        if (len(n.entries) == names and n.hits >= _ALIKE * most)
        or (_averaged_words(n.prefix) and n.hits >= max(most / 3, 1))
    ]


def _same(one: _Network, other: _Network) -> bool:
    """Whether one network stands in the file under two names."""
    return one.entries.keys() == other.entries.keys() and all(
        tensor.dtype == other.entries[name].dtype and torch.equal(tensor, other.entries[name])
        for name, tensor in one.entries.items()
    )


def _rank(
    checkpoint: Checkpoint, network: _Network, alike: Sequence[_Network]
) -> tuple[int, tuple[int, ...]]:
    """What is least is taken; of two that are equal, neither."""
    complete = len(network.entries) == max(len(n.entries) for n in alike)
    if _is_averaged(checkpoint, network):
        usable = complete and _count(checkpoint, network) != 0
        return (0 if usable else 2), ()
    keys = [part for part in network.prefix.split(".") if part and part != "module"]
    return 1, tuple(WRAPPERS.index(k) if k in WRAPPERS else len(WRAPPERS) for k in keys)


def _averaged_words(prefix: str) -> bool:
    return any(AVERAGED & set(part.lower().split("_")) for part in prefix.split("."))


def _is_averaged(checkpoint: Checkpoint, network: _Network) -> bool:
    """Whether these are averaged weights, by their keys.

    Two libraries swap them on saving, so that ``state_dict`` holds the averaged ones: mmengine,
    whose averaged models count their steps, and Lightning's WeightAveraging.
    """
    keys = network.prefix.split(".")
    if "ema_state_dict.steps" in checkpoint.numbers:
        return keys[0] == "state_dict"
    if any(place.split(".")[0] == "current_model_state" for place in checkpoint.states):
        return keys[0] == "state_dict"
    return _averaged_words(network.prefix)


def _count(checkpoint: Checkpoint, network: _Network) -> float | None:
    """Over how many steps the weights were averaged, if the file says so."""
    parts = network.prefix.split(".")
    places = (parts[:end] for end in range(len(parts), 0, -1))
    return _first(checkpoint, [join(*place, count) for place in places for count in _COUNTS])


def _first(checkpoint: Checkpoint, keys: Sequence[str]) -> float | None:
    """The first of some numbers that is in the file."""
    return next((checkpoint.numbers[key] for key in keys if key in checkpoint.numbers), None)


# --- what else lies there --------------------------------------------------------------------


def _complete(
    entries: dict[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    checkpoint: Checkpoint,
    chosen: _Network,
) -> None:
    """Add tensors that were left out because others in the file share their memory."""
    for name, kept in checkpoint.aliases.items():
        own, source = name.removeprefix(chosen.begin), kept.removeprefix(chosen.begin)
        if own in wanted and source in entries:
            entries.setdefault(own, entries[source])
    sharing: dict[object, str] = {}
    for name in entries:
        sharing.setdefault(_memory(wanted[name]), name)
    for name, tensor in wanted.items():
        if name not in entries and tensor.numel() and _memory(tensor) in sharing:
            entries[name] = entries[sharing[_memory(tensor)]]


def _memory(tensor: torch.Tensor) -> object:
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()


def _others(
    checkpoint: Checkpoint, chosen: _Network, found: Sequence[_Network]
) -> tuple[list[str], list[str]]:
    """Names the model does not have: after the same beginning, and beside it."""
    under: list[str] = []
    beside: list[str] = []
    rivals = [n.prefix + "." for n in found if n.hits >= chosen.hits / 2 and n.prefix]
    rivals = [prefix for prefix in rivals if not f"{chosen.prefix}.".startswith(prefix)]
    taken = {id(tensor) for tensor in chosen.entries.values()}
    for place in chosen.places:
        for name, tensor in checkpoint.states[place].items():
            if id(tensor) in taken:
                continue
            full = _bare(join(place, name), chosen.wraps)
            if full.startswith(chosen.begin) and not full.startswith(tuple(rivals)):
                rest = full.removeprefix(chosen.begin)
                # Beside averaged weights stands their count.
                (beside if rest in _COUNTS else under).append(rest)
            else:
                beside.append(name)
    return under, beside


def _parted(checkpoint: Checkpoint, chosen: _Network) -> tuple[str, str]:
    """A network's beginning as the keys of a state, and what stands before its names."""
    places = sorted((_bare(p, chosen.wraps) for p in checkpoint.states), key=len, reverse=True)
    for place in places:
        if f"{chosen.prefix}.".startswith(f"{place}.") or not place:
            rest = chosen.prefix.removeprefix(place).removeprefix(".")
            return place, f"{rest}." if rest else ""
    return chosen.prefix, ""


def _step_of(checkpoint: Checkpoint, prefix: str) -> float | None:
    """The step that stands beside the weights, the outermost."""
    parts = prefix.split(".")
    places = (parts[:end] for end in range(len(parts) + 1))
    return _first(checkpoint, [join(*place, key) for place in places for key in STEPS])


def _versions(checkpoint: Checkpoint, chosen: _Network) -> dict[str, Any]:
    bare = {_bare(name, chosen.wraps): version for name, version in checkpoint.versions.items()}
    return {
        name.removeprefix(chosen.begin) if name != chosen.prefix else "": version
        for name, version in bare.items()
        if name == chosen.prefix or name.startswith(chosen.begin)
    }


# --- into the model --------------------------------------------------------------------------


def load(checkpoint: Checkpoint, fitted: Fit, model: nn.Module, partial: bool, name: str) -> str:
    """Put what fits into the model, and say in words where its weights come from.

    A load that is not whole is an error unless ``partial``.
    """
    file = f"checkpoint {str(checkpoint.path)!r}"
    hint = _hint(checkpoint, fitted)
    if not fitted.state and not fitted.is_transposed:
        what = f"; {hint}" if hint else ""
        raise InputError(f"{file} has no entry that fits {name}: {fitted.problems}{what}")
    if fitted.is_transposed:
        raise InputError(
            f"{file} does not fit {name}: {fitted.problems}; its matrices have their axes in "
            "another order, as TensorFlow, Keras and JAX keep them; convert it first"
        )
    if not (fitted.is_whole or partial):
        way = hint or "load what fits with --partial"
        raise InputError(f"{file} does not fit {name}: {fitted.problems}; {way}")
    _check_values(file, fitted.state, model)
    state: Any = OrderedDict(fitted.state)
    # Some networks read of themselves by which version they were saved.
    state._metadata = {**getattr(model.state_dict(), "_metadata", {}), **fitted.versions}
    kept = _kinds(fitted.state, model)
    model.load_state_dict(state, strict=False)

    details = [f"its {fitted.found_in}"] if fitted.found_in else []
    details += [f"without the prefix {fitted.prefix!r}"] if fitted.prefix else []
    details += fitted.choice
    details += [f"out of a pickled {checkpoint.pickled}"] if checkpoint.pickled else []
    details += [kept] if kept else []
    if fitted.aside:
        count = len(fitted.aside)
        entries = "1 entry" if count == 1 else f"{count} entries"
        details.append(f"{entries} beside it left aside ({some(fitted.aside)})")
    if not fitted.is_whole:
        total = len(model.state_dict())
        details.append(f"partial, {len(fitted.state)} of {total} entries: {fitted.problems}")
    return f"{file} ({'; '.join(details)})" if details else file


def _hint(checkpoint: Checkpoint, fitted: Fit) -> str:
    """What a file is that does not fit, where its names tell."""
    names = [name for state in checkpoint.states.values() for name in state]
    adapters = [n for n in names if re.search(r"(^|[._])lora_|\.hada_|_adapter\.", n)]
    if adapters and not fitted.is_whole:
        return (
            f"it holds an adapter ({some(adapters[:1])}), which changes other weights; merge it "
            "into them first (peft: model.merge_and_unload()) and save the result"
        )
    if any("flat_param" in name for name in names):
        return (
            "it holds flattened parameters of FSDP; save them whole "
            "(torch.distributed.checkpoint.state_dict, full_state_dict=True)"
        )
    shard = re.search(r"-(\d+)-of-(\d+)\.(safetensors|bin)$", checkpoint.path.name)
    if shard and fitted.missing:
        return f"it is one of {int(shard[2])} shards; give the *.index.json that lies beside them"
    return ""


_QUANTISED = re.compile(r"torch\.(q?u?int\d+|float8|float4|quint|bool|bits)")


def _check_values(file: str, state: State, model: nn.Module) -> None:
    """Refuse weights that are no numbers a network can compute with."""
    own = model.state_dict()
    coded = [
        f"{name} is {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in state.items()
        if own[name].dtype.is_floating_point
        and (tensor.is_quantized or tensor.is_complex() or _QUANTISED.match(str(tensor.dtype)))
    ]
    if coded:
        raise InputError(
            f"{file} holds quantised or coded weights, which mean nothing without their scales "
            f"({len(coded)}: {some(coded)}); give the weights before quantisation"
        )
    # A mask may hold infinities, in the file as in the model.
    bad = [
        name
        for name, tensor in state.items()
        if own[name].dtype.is_floating_point
        and not tensor.isfinite().all()
        and own[name].isfinite().all()
    ]
    if bad:
        raise InputError(
            f"{file} holds NaN or infinite weights in {len(bad)} entries ({some(bad)}): its "
            "training diverged, or they overflowed half precision; give an earlier checkpoint"
        )


def _kinds(state: State, model: nn.Module) -> str:
    """In words: the precision of the file, where the model has another."""
    own = model.state_dict()
    others = {
        (str(t.dtype).removeprefix("torch."), str(own[name].dtype).removeprefix("torch."))
        for name, t in state.items()
        if own[name].dtype.is_floating_point and t.dtype != own[name].dtype
    }
    return ", ".join(f"kept as {found}, read as {wanted}" for found, wanted in sorted(others))
