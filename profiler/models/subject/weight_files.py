"""Files of weights: which kind they are, and what lies in them. Nothing in a file is run."""

import json
import math
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from profiler.errors import InputError, first_line

State = dict[str, torch.Tensor]

INDEX = ".index.json"
"""How the list of a checkpoint's shards ends."""

WHOLE = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""What the weights in a folder are called, the first that is there."""

SHOWN = 4
"""How many names a message lists."""

_CHECKPOINTS = (".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar")
"""How the checkpoints in a folder end; timm's end in ``.pth.tar``."""

_ALONE = "save the weights alone: torch.save(model.state_dict(), FILE)"
_CONVERT = "give its weights as safetensors or as a file of torch.save, under this network's names"

_BY_CONTENT = (
    (0, b"GGUF", f"a GGUF file; {_CONVERT}"),
    (0, b"\x89HDF", f"an HDF5 file, as Keras writes; {_CONVERT}"),
    (0, b"\x93NUMPY", f"an array of NumPy; {_CONVERT}"),
    (4, b"TFL3", f"a TensorFlow Lite file; {_CONVERT}"),
    (0, b"\x1f\x8b", "packed by gzip; unpack it first"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file; run: git lfs pull"),
    (0, b"<", "a web page or XML, as a failed download leaves; download it again"),
)
_BY_SUFFIX = {
    ".onnx": f"an ONNX file, which holds a graph; {_CONVERT}",
    ".pb": f"a TensorFlow graph; {_CONVERT}",
    ".keras": f"a Keras archive; {_CONVERT}",
    ".npz": f"an archive of NumPy arrays, as JAX projects write; {_CONVERT}",
    ".msgpack": f"a file of Flax; {_CONVERT}",
    ".mlmodel": f"a Core ML file; {_CONVERT}",
    ".engine": f"a TensorRT engine; {_CONVERT}",
    ".json": f"JSON; of a checkpoint in shards give the file that ends in {INDEX}",
}
_TORCH_SAVE = (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")
"""How files of ``torch.save`` begin: a zip archive, or before torch 1.6 a number of its own."""


@dataclass(frozen=True)
class Checkpoint:
    """What lies in a file of weights.

    Attributes:
        path: the file.
        states: the keys a state lies under, joined by dots → its names → tensors. What lies at
            the top of the file has the key "".
        numbers: every number in it by its keys, joined by dots.
        versions: the versions that torch notes of modules, by their names.
        aliases: names left out of the file → names of the same tensors that are in it.
        pickled: the class of a network that was pickled whole; empty for a state_dict.
    """

    path: Path
    states: Mapping[str, State]
    numbers: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    pickled: str = ""


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a file of safetensors or ``torch.save``, or in shards of either.

    Args:
        path: the file, the index of its shards, or a folder that holds one of these.
    """
    if path.is_dir():
        found = read_checkpoint(_inside(path))
        return replace(found, numbers={**_noted_in(path), **found.numbers})
    if not path.is_file():
        raise InputError(f"checkpoint {str(path)!r} is absent")
    if path.name.endswith(INDEX):
        return _read_shards(path)
    return _read_file(path)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints that a training script left in a folder, in the order of their names.

    These are files of weights, and folders with the weights of one network each, as the ``Trainer``
    of transformers writes. A folder that itself holds the weights of one network is that.

    Raises:
        InputError: there is none.
    """
    try:
        _inside(folder)
    except InputError:
        found = [path for path in folder.iterdir() if _is_checkpoint(path)]
        if not found:
            raise
        return sorted(found)
    return [folder]


def _is_checkpoint(path: Path) -> bool:
    if path.is_file():
        return path.suffix in _CHECKPOINTS and not path.name.startswith(".")
    try:
        return path.is_dir() and _inside(path).is_file()
    except InputError:
        return False


def _noted_in(folder: Path) -> dict[str, float]:
    """The step, where the ``Trainer`` of transformers has noted it beside the weights."""
    try:
        notes = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        step = number(notes["global_step"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {} if step is None else {"global_step": step}


def join(*parts: str) -> str:
    """Names within names: what is empty adds no dot."""
    return ".".join(part for part in parts if part)


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return f"{', '.join(names[:SHOWN])}{', …' * (len(names) > SHOWN)}"


def _inside(folder: Path) -> Path:
    """The weights in a folder: whole, or the index of their shards."""
    candidates = [folder / name for name in WHOLE] + sorted(folder.glob(f"*{INDEX}"))
    found = next((path for path in candidates if path.is_file()), None)
    if found is not None:
        return found
    what = f"is a folder without weights ({', '.join(WHOLE)} or *{INDEX})"
    if (folder / ".metadata").is_file():
        what = (
            "is a folder of torch.distributed.checkpoint; make one file of it: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    elif list(folder.glob("**/*_model_states.pt")):
        what = (
            "is a folder of DeepSpeed; make one file of it with the zero_to_fp32.py that lies in "
            "it, or name its mp_rank_00_model_states.pt if it was trained without ZeRO-3"
        )
    elif (folder / "saved_model.pb").is_file():
        what = f"is a SavedModel of TensorFlow; {_CONVERT}"
    raise InputError(f"checkpoint {str(folder)!r} {what}")


def _read_file(path: Path) -> Checkpoint:
    with path.open("rb") as file:
        head = file.read(64)
    if _is_safetensors(path, head):
        return _read_safetensors(path)
    for place, start, what in _BY_CONTENT:
        if head[place : place + len(start)] == start:
            raise InputError(f"checkpoint {str(path)!r} is {what}")
    if path.suffix in _BY_SUFFIX:
        raise InputError(f"checkpoint {str(path)!r} is {_BY_SUFFIX[path.suffix]}")
    if head.startswith(b"\x80") and not head.startswith(_TORCH_SAVE):
        raise InputError(
            f"checkpoint {str(path)!r} is a bare pickle, not a file of torch.save; if you trust "
            "it, write one: torch.save({name: torch.as_tensor(array) for name, array in "
            "pickle.load(open(FILE, 'rb'))['model'].items()}, NEW)"
        )
    content, classes = _read_torch(path)
    try:
        checkpoint = _spread(path, content)
    except RecursionError as error:  # modules that hold themselves
        raise InputError(f"checkpoint {str(path)!r} is damaged: it holds itself") from error
    if not checkpoint.states:
        raise InputError(f"checkpoint {str(path)!r} has no weights; {_holds(content, classes)}")
    return checkpoint


def _holds(content: Any, classes: list[str]) -> str:
    if any(name.endswith(("DTensor", "ShardedTensor")) for name in classes):
        return (
            "it holds one process's pieces of tensors that were split up in training; save them "
            "whole (torch.distributed.checkpoint.state_dict, full_state_dict=True)"
        )
    if isinstance(content, Mapping) and content:
        return f"its keys: {', '.join(map(str, list(content)[:8]))}"
    return f"it holds a {type(content).__name__.removeprefix('builtins.')}"


# --- safetensors and shards ------------------------------------------------------------------


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Whatever it is called: eight bytes that say how long the JSON is that follows."""
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length < path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not head.startswith(_TORCH_SAVE)


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            notes: dict[str, str] = file.metadata() or {}
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if path.read_bytes()[:23] == b"version https://git-lfs":
            raise InputError(
                f"checkpoint {str(path)!r} is a pointer of Git LFS, not the file; run: git lfs pull"
            ) from error
        raise InputError(
            f"checkpoint {str(path)!r} is damaged or no safetensors file: {first_line(error)}"
        ) from error
    numbers = {key: found for key, value in notes.items() if (found := number(value)) is not None}
    # Of tensors that share memory one is kept, and a note for each of the others.
    aliases = {name: kept for name, kept in notes.items() if kept in state and name not in state}
    return Checkpoint(path, {"": state} if state else {}, numbers, aliases=aliases)


def _read_shards(index: Path) -> Checkpoint:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({index.parent / Path(str(name)).name for name in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"checkpoint {str(index)!r} is damaged or no index of shards: it must hold a "
            "weight_map, name → file"
        ) from error
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        raise InputError(
            f"checkpoint {str(index)!r} names shards that do not lie beside it: {some(absent)}"
        )
    state: State = {}
    numbers: dict[str, float] = {}
    aliases: dict[str, str] = {}
    for path in files:
        shard = _read_file(path)
        for part in shard.states.values():
            state.update(part)
        numbers.update(shard.numbers)
        aliases.update(shard.aliases)
    lost = [name for name in places if name not in state]
    if lost:
        raise InputError(
            f"checkpoint {str(index)!r} names {len(lost)} tensors that its shards do not have: "
            f"{some(lost)}"
        )
    return Checkpoint(index, {"": state}, numbers, aliases=aliases)


# --- torch.save ------------------------------------------------------------------------------


class _StandIn(list[Any]):
    """Stands for an object whose class is not loaded: keeps what it is given, and does nothing.

    A list, because a class that is one is filled like one.
    """

    state: Any = None

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class _DictStandIn:
    """Stands for a class of dictionaries."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


_ALARMING = re.compile(
    r"(builtins\.(eval|exec|compile|open|input|breakpoint|__import__)|"
    r"(os|posix|nt|sys|subprocess|socket|shutil|importlib|runpy|pty|code|ctypes|webbrowser)\..*)$"
)
"""No data is made of these; a file that names them is refused, though nothing would be run."""


def _numpy_kinds() -> list[Any]:
    """Arrays and scalars of NumPy, under the names of both of its main versions."""
    from numpy._core import multiarray

    rebuilt = (multiarray.scalar, multiarray._reconstruct)
    return [
        np.ndarray,
        np.dtype,
        *(type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDgGSUO"),
        *((kind, f"numpy.core.multiarray.{kind.__name__}") for kind in rebuilt),
        *((kind, f"numpy._core.multiarray.{kind.__name__}") for kind in rebuilt),
    ]


def _read_torch(path: Path) -> tuple[Any, list[str]]:
    """What ``torch.save`` wrote, and the classes for which something else stands.

    Only tensors, numbers, texts and plain containers are read (``weights_only=True``). For any
    other class or function stands one of ours that does nothing, so that whoever has only the
    file need not trust it.
    """
    stands: dict[str, type] = {}
    for name in _classes_in(path):
        _stand_in(path, name, stands, _StandIn)
    while True:
        allowed = [*_numpy_kinds(), *((kind, name) for name, kind in stands.items())]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
                warnings.simplefilter("ignore")  # of old ways of saving
                return torch.load(path, map_location="cpu", weights_only=True), list(stands)
        except Exception as error:  # whatever the bytes of a damaged file lead to
            text = str(error)
            unknown = re.search(r"GLOBAL ([\w.]+)", text)
            mapping = re.search(r"Can only SETITEM.* but got <class 'stand-in\.([\w.]+)'>", text)
            if unknown and "blocked" not in text:
                name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"
                if name not in stands:
                    _stand_in(path, name, stands, _StandIn)
                    continue
            if mapping and issubclass(stands[mapping[1]], _StandIn):
                _stand_in(path, mapping[1], stands, _DictStandIn)
                continue
            if unknown:
                raise _more_than_weights(path, unknown[1]) from error
            raise _unreadable(path, text, list(stands)) from error


def _classes_in(path: Path) -> list[str]:
    """Classes and functions the file names, beyond those of plain weights."""
    try:
        with torch.serialization.safe_globals(_numpy_kinds()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # of files written before torch 1.6 it can say nothing, nor of damaged ones
        return []


def _stand_in(path: Path, name: str, stands: dict[str, type], kind: type) -> None:
    if _ALARMING.match(name):
        raise _more_than_weights(path, name)
    stands[name] = type(name, (kind,), {"__module__": "stand-in"})


def _more_than_weights(path: Path, name: str) -> InputError:
    return InputError(
        f"checkpoint {str(path)!r} holds more than weights ({name}), and opening it the ordinary "
        "way could run code; get it from elsewhere, or from whoever made it as "
        "torch.save(model.state_dict(), FILE); only if you trust it, save what it holds again: "
        "torch.save(torch.load(FILE, weights_only=False)[KEY], NEW)"
    )


def _unreadable(path: Path, text: str, classes: list[str]) -> InputError:
    file = f"checkpoint {str(path)!r}"
    if "TorchScript" in text or "torch.jit" in text:
        return InputError(
            f"{file} is a TorchScript archive; take the weights out of it: "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if any(name.endswith(("DTensor", "ShardedTensor")) for name in classes):
        return InputError(f"{file} has no whole weights; {_holds(None, classes)}")
    if re.search(r"Unsupported operand|Can only|unrecognized function", text):
        others = f" ({', '.join(classes[:3])})" if classes else ""
        return InputError(
            f"{file} holds more than weights{others}, written in a way that is not read without "
            f"running it; {_ALONE}, or, only if you trust it, save what it holds again: "
            "torch.save(torch.load(FILE, weights_only=False)[KEY], NEW)"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and not any(name.endswith("data.pkl") for name in names):
            return InputError(
                f"{file} is a zip archive that torch.save did not write "
                f"(it holds {', '.join(names[:3])}); {_CONVERT}"
            )
    return InputError(f"{file} is damaged, incomplete or no file of torch.save")


# --- what lies where -------------------------------------------------------------------------

_DEEPEST = 20


def _spread(path: Path, content: Any) -> Checkpoint:
    """Every state in nested dictionaries, by the keys it lies under."""
    states: dict[str, State] = {}
    numbers: dict[str, float] = {}
    versions: dict[str, Any] = {}
    pickled: list[str] = []

    def walk(value: Any, place: str, around: tuple[int, ...]) -> None:
        if id(value) in around or len(around) > _DEEPEST:
            return
        if isinstance(value, _StandIn):
            if not isinstance(value.state, Mapping):
                return
            if "_parameters" in value.state:
                pickled.append(type(value).__name__)
                states[place] = dict(_state_of(value, ""))
                return
            value = value.state
        if not isinstance(value, Mapping):
            return
        noted = getattr(value, "_metadata", None)
        if isinstance(noted, Mapping):
            versions.update({join(place, str(name)): version for name, version in noted.items()})
        for key, part in value.items():
            if not isinstance(key, str):
                continue
            tensor = _tensor_of(part)
            if tensor is not None:
                states.setdefault(place, {})[key] = tensor
            found = number(part)
            if found is not None:
                numbers[join(place, key)] = found
            walk(part, join(place, key), (*around, id(value)))

    walk(content, "", ())
    found = {place: state for place, state in states.items() if state}
    return Checkpoint(path, found, numbers, versions, pickled=pickled[0] if pickled else "")


def _state_of(module: _StandIn, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """What ``state_dict`` of a pickled module would give."""
    state = module.state
    passing = state.get("_non_persistent_buffers_set") or ()
    own = dict(state["_parameters"]) | {
        name: buffer
        for name, buffer in (state.get("_buffers") or {}).items()
        if name not in passing
    }
    for name, tensor in own.items():
        if isinstance(tensor, torch.Tensor):
            yield prefix + name, tensor.detach()
    for name, part in (state.get("_modules") or {}).items():
        if isinstance(part, _StandIn) and isinstance(part.state, Mapping):
            yield from _state_of(part, f"{prefix}{name}.")


def _tensor_of(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value.detach()
    # As projects that began with NumPy keep their weights.
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.as_tensor(value.copy())
    return None


def number(value: Any) -> float | None:
    """A number, or one as a text or as an array of one element; None for anything else."""
    if isinstance(value, torch.Tensor | np.ndarray):
        if value.size != 1 if isinstance(value, np.ndarray) else value.numel() != 1:
            return None
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    # What is no number counts nothing.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
