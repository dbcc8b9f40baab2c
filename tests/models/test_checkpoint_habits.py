"""How libraries write their checkpoints, and that each is read for what it is.

Every habit below is tried on three networks: a convolutional one with batch norms, a vision
transformer, and a ConvNeXt. ``net`` is the network whose weights were meant, ``raw`` another one
of the same make that lies beside it. A habit is either read, so that the outputs for photographs
are the very same numbers, or refused with a line that says what to do instead.
"""

import argparse
import collections
import copy
import datetime
import enum
import json
import pathlib
import pickle
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms.functional import to_tensor

from profiler.errors import InputError
from profiler.models.subject.checkpoints import fit, load
from profiler.models.subject.weight_files import read_checkpoint

State = dict[str, torch.Tensor]
Write = Callable[[Path, nn.Module, nn.Module], Path]


# --- the networks ----------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions with batch norms, and a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu()))
        out: torch.Tensor = (maps + inner).relu()
        return out


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.layer1 = nn.Sequential(Block(6), Block(6))
        self.fc = nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.layer1(self.bn1(self.conv1(images)).relu())
        logits: torch.Tensor = self.fc(maps.mean(dim=(2, 3)))
        return logits


NETS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "resnet": (ResNet, "layer1"),
    "vit": (nets.vit, "encoder"),
    "convnext": (nets.convnext, "features"),
}
"""How each is made, and a part of it that may be wrapped alone."""


def filled(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """With numbers of its own in every parameter and buffer."""
    net = make().eval()
    torch.manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand_like(tensor) * 0.2
            tensor.copy_(0.9 + noise if "norm" in name or "bn" in name else noise - 0.1)
    return net


@dataclass(frozen=True)
class Made:
    """A kind of network with weights that were meant, others beside them, and an empty one."""

    net: nn.Module
    raw: nn.Module
    part: str
    make: Callable[[], nn.Module] = field(repr=False)


@pytest.fixture(scope="module", params=list(NETS))
def made(request: pytest.FixtureRequest) -> Made:
    make, part = NETS[request.param]
    return Made(filled(make, 1), filled(make, 2), part, make)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """(4, 3, 8, 8): photographs where they are on this machine, or else noise."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample"
    files = sorted(folder.rglob("*.JPEG"))[:4] or sorted(folder.rglob("*.jp*g"))[:4]
    if not files:
        return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.stack([to_tensor(Image.open(f).convert("RGB").resize((8, 8))) for f in files])


# --- ways to write ---------------------------------------------------------------------------


def state(net: nn.Module, prefix: str = "") -> State:
    return {prefix + name: tensor.clone() for name, tensor in net.state_dict().items()}


def saved(content: Callable[[nn.Module, nn.Module], Any], **options: Any) -> Write:
    """A file of torch.save with what ``content`` makes of the two networks."""

    def write(folder: Path, net: nn.Module, raw: nn.Module) -> Path:
        torch.save(content(net, raw), folder / "last.ckpt", **options)
        return folder / "last.ckpt"

    return write


def as_bytes(name: str, content: bytes) -> Write:
    def write(folder: Path, _net: nn.Module, _raw: nn.Module) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def tensors(name: str, change: Callable[[State], State] = dict, **notes: str) -> Write:
    """A safetensors file."""

    def write(folder: Path, net: nn.Module, _raw: nn.Module) -> Path:
        content = {n: t.contiguous() for n, t in change(state(net)).items()}
        safetensors.torch.save_file(content, folder / name, metadata=notes or None)
        return folder / name

    return write


def sharded(kind: str, give: str, lose: bool = False) -> Write:
    """Two shards and their index, as ``save_pretrained`` and Accelerate write them."""

    def write(folder: Path, net: nn.Module, _raw: nn.Module) -> Path:
        content = state(net)
        half = len(content) // 2
        stem = {"safetensors": "model", "bin": "pytorch_model"}[kind]
        places = {}
        for shard, names in enumerate((list(content)[:half], list(content)[half:]), 1):
            file = f"{stem}-{shard:05}-of-00002.{kind}"
            part = {name: content[name].contiguous() for name in names}
            if kind == "bin":
                torch.save(part, folder / file)
            else:
                safetensors.torch.save_file(part, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(names, file)
        index = f"{stem}.{kind}.index.json"
        notes = {"metadata": {"total_size": 1}, "weight_map": places}
        (folder / index).write_text(json.dumps(notes))
        if lose:
            (folder / f"{stem}-00002-of-00002.{kind}").unlink()
        return folder / give.format(index=index, stem=stem) if give else folder

    return write


def in_folder(name: str, write: Write) -> Write:
    """The folder, not the file in it."""

    def written(folder: Path, net: nn.Module, raw: nn.Module) -> Path:
        write(folder, net, raw).rename(folder / name)
        return folder

    return written


def zipped(name: str, *entries: str) -> Write:
    def write(folder: Path, _net: nn.Module, _raw: nn.Module) -> Path:
        with zipfile.ZipFile(folder / name, "w") as archive:
            for entry in entries:
                archive.writestr(entry, b"x")
        return folder / name

    return write


def pickled(folder: Path, net: nn.Module, _raw: nn.Module) -> Path:
    """As detectron2's model zoo: a bare pickle of arrays."""
    arrays = {name: tensor.numpy() for name, tensor in state(net).items()}
    (folder / "model_final.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "D"}))
    return folder / "model_final.pkl"


def scripted(folder: Path, _net: nn.Module, _raw: nn.Module) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(folder / "net.pt")
    return folder / "net.pt"


# --- what they put around names --------------------------------------------------------------


def around(inner: str, *, part: int = 1) -> Callable[[nn.Module, nn.Module], State]:
    """``layer1.0.conv1`` → ``layer1.0._orig_mod.conv1``: a name within names that go so deep."""

    def rename(net: nn.Module, _raw: nn.Module) -> State:
        renamed = {}
        for name, tensor in state(net).items():
            parts = name.split(".")
            deep = len(parts) > part + 1
            renamed[".".join([*parts[:part], inner, *parts[part:]] if deep else parts)] = tensor
        return renamed

    return rename


def averaged(net: nn.Module, steps: int = 1) -> State:
    """The state of torch's own averaged model, which has ``net``'s weights in it."""
    model = AveragedModel(copy.deepcopy(net), use_buffers=True)
    model.n_averaged.fill_(steps)
    return model.state_dict()


class Mode(enum.Enum):
    TRAIN = 1


class Config(dict[str, Any]):
    """As yacs, addict and mmengine keep their options: a class of dictionaries."""


@dataclass
class Options:
    """As a script keeps its options."""

    lr: float = 0.1
    mode: Mode = Mode.TRAIN
    layers: list[int] = field(default_factory=lambda: [1, 2])


class Hostile:
    """Would run a command if it were opened the ordinary way."""

    def __init__(self, command: Callable[..., Any], *arguments: Any) -> None:
        self.command, self.arguments = command, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.command, self.arguments


class Wrapped(nn.Module):
    """As DINO's MultiCropWrapper and most of Lightning: the network and a head beside it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))


class Pair(nn.Module):
    """As MoCo and BYOL: two networks under one roof."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, copy.deepcopy(part))
        self.register_buffer("queue", torch.zeros(2, 2))


def dino(net: nn.Module, raw: nn.Module) -> dict[str, Any]:
    """main_dino.py: the student under DistributedDataParallel, the teacher not."""
    return {
        "student": state(Wrapped(raw), "module."),
        "teacher": state(Wrapped(net)),
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small"),
        "dino_loss": {"center": torch.zeros(1, 5)},
    }


def moco(net: nn.Module, raw: nn.Module) -> dict[str, Any]:
    return {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": state(Pair(encoder_q=net, encoder_k=raw), "module."),
        "optimizer": {},
    }


def lightning(state_dict: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "epoch": 9,
        "global_step": 4000,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state_dict,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.7)}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1},
        **more,
    }


def rtdetr(net: nn.Module, raw: nn.Module) -> dict[str, Any]:
    return {
        "model": state(raw),
        "date": "2024-01-01T00:00:00",
        "last_epoch": 71,
        "ema": {"module": state(net), "updates": 1000, "warmups": 2000},
    }


def mmengine_ema(net: nn.Module, raw: nn.Module) -> dict[str, Any]:
    """EMAHook swaps them on saving: what is called ema_state_dict holds the raw weights."""
    return {
        "meta": {"epoch": 12, "iter": 9000, "cfg": "model = dict(...)"},
        "state_dict": state(net),
        "message_hub": {"log_scalars": {}},
        "ema_state_dict": {"steps": torch.tensor(9000)} | state(raw, "module."),
    }


def lora(net: nn.Module, base: bool) -> State:
    found = state(net, "base_model.model.") if base else {}
    for name, tensor in state(net).items():
        if tensor.ndim == 2:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            found[f"{stem}.lora_A.weight"] = torch.zeros(2, tensor.shape[1])
            found[f"{stem}.lora_B.weight"] = torch.zeros(tensor.shape[0], 2)
    return found


def keras_axes(net: nn.Module, _raw: nn.Module) -> State:
    """Matrices as (in, out), kernels as (height, width, in, out)."""
    turn = {2: (1, 0), 4: (2, 3, 1, 0)}
    return {
        n: t.permute(*turn[t.ndim]).contiguous() if t.ndim in turn else t
        for n, t in state(net).items()
    }


def with_one(net: nn.Module, value: float) -> State:
    content = state(net)
    last = [name for name in content if name.endswith("weight")][-1]
    content[last].view(-1)[0] = value
    return content


# --- the habits ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Habit:
    """How a checkpoint is made.

    Attributes:
        write: makes it in a folder, and returns what is given to ``--checkpoint``.
        says: what stands in the words about where the weights come from.
        refused: what the one line says, where it is not read.
        key: ``--checkpoint-key``.
        exact: whether the outputs are the same to the last bit; half precision rounds.
        step: the training's, as the file has it.
    """

    write: Write
    says: str = ""
    refused: str = ""
    key: str = ""
    exact: bool = True
    step: float | None = None


READ: dict[str, Habit] = {
    # Plain files.
    "torch.save(model.state_dict())": Habit(saved(lambda net, _: state(net))),
    "… before torch 1.6": Habit(
        saved(lambda net, _: state(net), _use_new_zipfile_serialization=False)
    ),
    "safetensors": Habit(tensors("model.safetensors")),
    "safetensors with a note of the format": Habit(tensors("model.safetensors", format="pt")),
    "safetensors under another name": Habit(tensors("pytorch_model.bin")),
    "half precision": Habit(
        saved(lambda net, _: {n: t.half() for n, t in state(net).items()}),
        says="kept as float16, read as float32",
        exact=False,
    ),
    "bfloat16": Habit(
        tensors("m.safetensors", lambda s: {n: t.bfloat16() for n, t in s.items()}),
        says="kept as bfloat16, read as float32",
        exact=False,
    ),
    "double precision": Habit(
        saved(lambda net, _: {n: t.double() for n, t in state(net).items()}),
        says="kept as float64, read as float32",
    ),
    "arrays of NumPy": Habit(saved(lambda net, _: {n: t.numpy() for n, t in state(net).items()})),
    "without the counters of batches": Habit(
        saved(lambda net, _: {n: t for n, t in state(net).items() if "num_batches" not in n})
    ),
    "parts of the network under keys of their own": Habit(
        saved(
            lambda net, _: (
                {name: state(part) for name, part in net.named_children() if part.state_dict()}
                | {n: p.detach() for n, p in net.named_parameters(recurse=False)}
            )
        )
    ),
    # Training scripts.
    "pytorch/examples, imagenet": Habit(
        saved(
            lambda net, _: {
                "epoch": 90,
                "arch": "resnet18",
                "state_dict": nn.DataParallel(net).state_dict(),
                "best_acc1": torch.tensor(70.0),
                "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
                "scheduler": {"last_epoch": 90},
            }
        ),
        says="without the prefix 'module.'",
        step=90,
    ),
    "pytorch/examples, DataParallel around the features": Habit(
        saved(around("module")), says="without 'module' within names"
    ),
    "torchvision's references": Habit(
        saved(
            lambda net, _: {
                "model": state(net),
                "optimizer": {},
                "lr_scheduler": {"_last_lr": [0.1]},
                "epoch": 5,
                "args": argparse.Namespace(lr=0.1),
                "scaler": {},
            }
        ),
        says="its model",
        step=5,
    ),
    "torchvision's references with averaged weights": Habit(
        saved(lambda net, raw: {"model": state(raw), "model_ema": averaged(net), "epoch": 5}),
        says="its model_ema; without the prefix 'module.'; averaged weights; the raw ones lie "
        "beside in model: --checkpoint-key model",
    ),
    "timm": Habit(
        saved(
            lambda net, _: {
                "epoch": 299,
                "arch": "convnext_atto",
                "state_dict": state(net),
                "optimizer": {},
                "version": 2,
                "args": argparse.Namespace(model="convnext_atto"),
                "amp_scaler": {"scale": 65536.0},
                "metric": 76.1,
            }
        ),
        says="its state_dict",
        step=299,
    ),
    "timm with averaged weights": Habit(
        saved(lambda net, raw: {"state_dict": state(raw), "state_dict_ema": state(net)}),
        says="its state_dict_ema; averaged weights; the raw ones lie beside in state_dict",
    ),
    "model_state_dict": Habit(saved(lambda net, _: {"model_state_dict": state(net), "loss": 0.1})),
    "net": Habit(saved(lambda net, _: {"net": state(net, "module."), "acc": 95.1, "epoch": 199})),
    "ignite": Habit(saved(lambda net, _: {"model": state(net), "trainer": {"epoch_length": 3}})),
    "any key at all": Habit(saved(lambda net, _: {"student_final": {"weights": state(net)}})),
    # What lies beside the weights.
    "numbers of NumPy": Habit(
        saved(
            lambda net, _: {
                "state_dict": state(net),
                "best": np.float64(0.9),
                "epoch": np.int64(7),
                "curve": np.arange(3.0),
                "half": np.float16(1),
                "names": np.array(["a", "b"]),
                "kinds": np.dtype("float32"),
            }
        ),
        step=7,
    ),
    "states of random numbers": Habit(
        saved(
            lambda net, _: {
                "model": state(net),
                "numpy": np.random.get_state(),  # noqa: NPY002 — as scripts keep it
                "generator": np.random.default_rng(0),
                "python": random.getstate(),
                "torch": torch.get_rng_state(),
            }
        )
    ),
    "paths, times and containers": Habit(
        saved(
            lambda net, _: {
                "model": state(net),
                "path": pathlib.PurePosixPath("/data"),
                "at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
                "took": datetime.timedelta(hours=3),
                "history": collections.defaultdict(list, {"loss": [1.0]}),
                "last": collections.deque([1, 2], maxlen=2),
                "seen": collections.Counter("ab"),
                "kinds": {torch.float32, "a"},
                "size": torch.Size([1]),
                "device": torch.device("cpu"),
                "slice": range(3),
            }
        )
    ),
    "options as objects of the script's own": Habit(
        saved(
            lambda net, _: {
                "model": state(net),
                "cfg": Config(lr=0.1, inner=Config(a=1)),
                "options": Options(),
                "mode": Mode.TRAIN,
                "schedule": torch.optim.lr_scheduler.StepLR,
                "activation": torch.relu,
            }
        )
    ),
    # Lightning and Fabric.
    "Lightning": Habit(
        saved(lambda net, _: lightning(state(net, "model."))),
        says="its state_dict; without the prefix 'model.'",
        step=4000,
    ),
    "Lightning with a loss and metrics": Habit(
        saved(
            lambda net, _: lightning(
                state(net, "net.") | {"criterion.weight": torch.ones(2), "acc.tp": torch.ones(1)}
            )
        ),
        says="2 entries beside it left aside (criterion.weight, acc.tp)",
    ),
    "Lightning's WeightAveraging": Habit(
        saved(
            lambda net, raw: lightning(
                state(net, "model."),
                current_model_state=state(raw, "model."),
                averaging_state={"n_averaged": torch.tensor(10)},
            )
        ),
        says="averaged weights; the raw ones lie beside in current_model_state.model: "
        "--checkpoint-key current_model_state.model",
    ),
    "Lightning with an averaged copy as a part": Habit(
        saved(
            lambda net, raw: lightning(
                state(raw, "model.") | {f"ema_model.{n}": t for n, t in averaged(net).items()}
            )
        ),
        says="without the prefix 'ema_model.module.'; averaged weights; the raw ones lie beside "
        "in state_dict.model",
    ),
    "Lightning with a compiled network": Habit(
        saved(lambda net, _: lightning(state(net, "model._orig_mod.")))
    ),
    "Lightning with the network registered twice": Habit(
        saved(lambda net, _: lightning(state(net, "model.") | state(net, "loss_of.model.")))
    ),
    "Lightning with a teacher beside it": Habit(
        saved(lambda net, raw: lightning(state(net, "model.") | state(raw, "teacher."))),
        says="another network that fits lies beside in state_dict.teacher: --checkpoint-key "
        "state_dict.teacher",
    ),
    "Fabric": Habit(saved(lambda net, _: {"model": state(net), "iter": 30}), step=30),
    "Fabric, wrapped": Habit(saved(lambda net, _: {"model": state(net, "_forward_module.")})),
    # Hugging Face.
    "Accelerate, safetensors in shards": Habit(sharded("safetensors", "{index}")),
    "Accelerate, torch.save in shards": Habit(sharded("bin", "{index}")),
    "a folder with an index": Habit(sharded("safetensors", "")),
    "a folder with model.safetensors": Habit(
        in_folder("model.safetensors", tensors("x.safetensors"))
    ),
    "a folder with pytorch_model.bin": Habit(
        in_folder("pytorch_model.bin", saved(lambda net, _: state(net)))
    ),
    "a network within a larger one": Habit(
        tensors("m.safetensors", lambda s: {f"vision_model.encoder.{n}": t for n, t in s.items()}),
        says="without the prefix 'vision_model.encoder.'",
    ),
    # DeepSpeed, FSDP, torch.compile, activation checkpointing.
    "DeepSpeed without ZeRO-3": Habit(
        saved(
            lambda net, _: {
                "module": state(net),
                "buffer_names": [],
                "optimizer": None,
                "param_shapes": [collections.OrderedDict((("w", torch.Size([1])),))],
                "frozen_param_shapes": None,
                "shared_params": {},
                "global_steps": 3,
                "ds_config": {"train_batch_size": 8},
                "ds_version": "0.15",
            }
        ),
        says="its module",
    ),
    "DeepSpeed's zero_to_fp32.py": Habit(saved(lambda net, _: state(net, "_forward_module."))),
    "FSDP with wrapped blocks": Habit(
        saved(
            lambda net, raw: {
                f"_fsdp_wrapped_module.{n}": t
                for n, t in around("_fsdp_wrapped_module")(net, raw).items()
            }
        )
    ),
    "FSDP and activation checkpointing": Habit(
        saved(around("_fsdp_wrapped_module._checkpoint_wrapped_module"))
    ),
    "torch.compile": Habit(
        saved(lambda net, _: state(net, "_orig_mod.")),
        says="without the prefix '_orig_mod.'",
    ),
    "torch.compile of a part": Habit(
        saved(around("_orig_mod")), says="without '_orig_mod' within names"
    ),
    "torch.compile within DataParallel": Habit(
        saved(lambda net, _: {"model": state(net, "module._orig_mod.")})
    ),
    "DataParallel within torch.compile": Habit(
        saved(lambda net, _: state(net, "_orig_mod.module."))
    ),
    "compiled parts within DataParallel": Habit(
        saved(lambda net, raw: {f"module.{n}": t for n, t in around("_orig_mod")(net, raw).items()})
    ),
    # Averaged weights.
    "RT-DETR": Habit(
        saved(rtdetr),
        says="its ema.module; averaged weights; the raw ones lie beside in model: "
        "--checkpoint-key model",
        step=71,
    ),
    "RT-DETR, the raw weights": Habit(
        saved(lambda net, raw: rtdetr(raw, net)), key="model", says="its model"
    ),
    "mmengine's EMAHook": Habit(
        saved(mmengine_ema),
        says="its state_dict; averaged weights; the raw ones lie beside in ema_state_dict.module",
    ),
    "ema_state_dict of a script": Habit(
        saved(lambda net, raw: {"model": state(raw), "ema_state_dict": state(net), "step": 9}),
        says="its ema_state_dict; averaged weights",
    ),
    "torch's AveragedModel alone": Habit(saved(lambda net, _: averaged(net))),
    "averaged weights of no step yet": Habit(
        saved(lambda net, raw: {"model": state(net), "model_ema": averaged(raw, steps=0)}),
        says="averaged weights, but of no step yet, lie beside in model_ema.module",
    ),
    "averaged weights without names": Habit(
        saved(
            lambda net, raw: {
                "model": state(net),
                "ema": {"decay": 0.999, "shadow_params": list(state(raw).values())},
            }
        ),
        says="its model",
    ),
    "detectron2": Habit(
        saved(
            lambda net, _: {
                "model": state(net),
                "optimizer": {},
                "scheduler": {"last_epoch": 3},
                "iteration": 89999,
            }
        ),
        step=89999,
    ),
    "mmengine": Habit(
        saved(
            lambda net, _: {
                "meta": {"CLASSES": ("a", "b"), "time": "now"},
                "state_dict": state(net, "backbone."),
                "message_hub": {"runtime_info": {}},
                "optimizer": {},
                "param_schedulers": [],
            }
        ),
        says="its state_dict; without the prefix 'backbone.'",
    ),
    # Self-supervision: one of two is named.
    "DINO, the teacher": Habit(
        saved(dino),
        key="teacher",
        says="its teacher; without the prefix 'backbone.'",
        step=100,
    ),
    "DINO, the student": Habit(saved(lambda net, raw: dino(raw, net)), key="student"),
    "DINOv2, the teacher's file": Habit(
        saved(lambda net, _: {"teacher": state(Wrapped(net))}),
        says="its teacher; without the prefix 'backbone.'; 4 entries beside it left aside (head.0",
    ),
    "MoCo, the query encoder": Habit(
        saved(moco), key="module.encoder_q", says="without the prefix 'module.encoder_q.'"
    ),
    "BYOL, the online network": Habit(
        saved(lambda net, raw: lightning(state(Pair(online=Wrapped(net), target=Wrapped(raw))))),
        key="online",
    ),
    # Networks pickled whole: their weights are taken out, their code is not run.
    "torch.save(model)": Habit(saved(lambda net, _: net), says=r"out of a pickled "),
    "torch.save(DataParallel(model))": Habit(saved(lambda net, _: nn.DataParallel(net))),
    "YOLOv5": Habit(
        saved(
            lambda net, raw: {
                "epoch": 299,
                "best_fitness": np.array([0.6]),
                "model": copy.deepcopy(raw).half(),
                "ema": copy.deepcopy(net).half(),
                "updates": 1000,
                "opt": {"lr": 0.01},
                "date": "2024-01-01",
            }
        ),
        says="its ema; averaged weights; the raw ones lie beside in model",
        exact=False,
        step=299,
    ),
}


REFUSED: dict[str, Habit] = {
    # Nothing says which network is meant.
    "DINO": Habit(
        saved(dino),
        refused="holds 2 networks that fit, and nothing says which one is meant: "
        "student.module.backbone, teacher.backbone; pick one with --checkpoint-key",
    ),
    "MoCo": Habit(
        saved(moco),
        refused="state_dict.module.encoder_q, state_dict.module.encoder_k; pick one with",
    ),
    "a key that is not there": Habit(
        saved(dino),
        key="techer",
        refused="no weights under the key 'techer'; it has: student.module.backbone, teacher.back",
    ),
    "the optimizer alone": Habit(
        saved(lambda *_: {"optimizer": {"state": {}, "param_groups": []}, "epoch": 3}),
        refused="has no weights; its keys: optimizer, epoch",
    ),
    # Pieces of weights.
    "a shard that is lost": Habit(
        sharded("safetensors", "{index}", lose=True),
        refused="names shards that do not lie beside it: model-00002-of-00002.safetensors",
    ),
    "one shard alone": Habit(
        sharded("safetensors", "{stem}-00001-of-00002.safetensors"),
        refused=r"one of 2 shards; give the \*.index.json that lies beside them",
    ),
    "FSDP's flattened parameters": Habit(
        saved(lambda *_: {"_fsdp_wrapped_module._flat_param": torch.ones(9)}),
        refused="flattened parameters of FSDP; save them whole",
    ),
    "torch.distributed.checkpoint": Habit(
        in_folder(".metadata", as_bytes("x", b"x")),
        refused="make one file of it: python -m torch.distributed.checkpoint.format_utils dcp_to",
    ),
    "DeepSpeed's folder": Habit(
        in_folder("zero_pp_rank_0_mp_rank_00_model_states.pt", as_bytes("x", b"x")),
        refused="is a folder of DeepSpeed; make one file of it with the zero_to_fp32.py",
    ),
    "an empty folder": Habit(
        in_folder("notes.txt", as_bytes("x", b"x")), refused="is a folder without weights"
    ),
    "LoRA alone": Habit(
        saved(lambda net, _: lora(net, base=False)), refused=r"adapter \(.*merge_and_unload"
    ),
    "LoRA with its base": Habit(
        saved(lambda net, _: lora(net, base=True)), refused=r"adapter \(.*merge_and_unload"
    ),
    # Numbers that mean nothing as they are.
    "int8": Habit(
        saved(lambda net, _: {n: (t * 100).to(torch.int8) for n, t in state(net).items()}),
        refused="quantised or coded weights.* is int8.*; give the weights before quantisation",
    ),
    "float8": Habit(
        saved(lambda net, _: {n: t.to(torch.float8_e4m3fn) for n, t in state(net).items()}),
        refused="quantised or coded weights.* is float8_e4m3fn",
    ),
    "NaN": Habit(
        saved(lambda net, _: with_one(net, float("nan"))),
        refused=r"NaN or infinite weights in 1 entries \(.*weight\): its training diverged",
    ),
    "overflowed half precision": Habit(
        saved(lambda net, _: {n: t.half() for n, t in with_one(net, 1e6).items()}),
        refused="NaN or infinite weights",
    ),
    "axes as in Keras": Habit(
        saved(keras_axes), refused="axes in another order, as TensorFlow, Keras and JAX keep them"
    ),
    # Other kinds of file.
    "pickle's protocol 4": Habit(
        saved(lambda net, _: state(net), pickle_protocol=4),
        refused="written in a way that is not read without running it; save the weights alone",
    ),
    "TorchScript": Habit(scripted, refused=r"TorchScript archive; .*torch.jit.load\(FILE\)"),
    "detectron2's .pkl": Habit(pickled, refused="bare pickle, not a file of torch.save; if you"),
    "GGUF": Habit(as_bytes("m.gguf", b"GGUF\3\0\0\0"), refused="a GGUF file; give its weights"),
    "ONNX": Habit(as_bytes("m.onnx", b"\x08\x07"), refused="an ONNX file, which holds a graph"),
    "Keras .h5": Habit(as_bytes("m.h5", b"\x89HDF\r\n"), refused="an HDF5 file, as Keras writes"),
    "Keras .keras": Habit(zipped("m.keras", "config.json"), refused="a Keras archive"),
    "JAX .npz": Habit(zipped("m.npz", "a.npy"), refused="an archive of NumPy arrays"),
    "another zip": Habit(zipped("m.pt", "a.txt"), refused="zip archive that torch.save did not"),
    "TensorFlow Lite": Habit(as_bytes("m.bin", b"\0\0\0\0TFL3"), refused="TensorFlow Lite"),
    "a pointer of Git LFS": Habit(
        as_bytes("m.bin", b"version https://git-lfs.github.com/spec/v1\n"),
        refused="a pointer of Git LFS, not the file; run: git lfs pull",
    ),
    "… of safetensors": Habit(
        as_bytes("m.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        refused="a pointer of Git LFS, not the file; run: git lfs pull",
    ),
    "a web page": Habit(
        as_bytes("m.pth", b"<!DOCTYPE html><html>"), refused="a web page .*download it again"
    ),
    "packed": Habit(as_bytes("m.pth", b"\x1f\x8b\x08"), refused="packed by gzip; unpack it first"),
    "a configuration": Habit(as_bytes("config.json", b"{}"), refused="JSON; of a checkpoint in"),
    # Files that would run code.
    "os.mkdir": Habit(
        saved(lambda net, _: {"model": state(net), "x": Hostile(pathlib.os.mkdir, "trace")}),
        refused=r"holds more than weights \(\w+.mkdir\), and opening it .* could run code",
    ),
    "eval": Habit(
        saved(lambda net, _: {"model": state(net), "x": Hostile(eval, "1")}),
        refused=r"holds more than weights \(builtins.eval\)",
    ),
}


def put(path: Path, model: nn.Module, key: str) -> tuple[str, float | None]:
    """Weights into the model; returns where they come from, in words, and the step."""
    checkpoint = read_checkpoint(path)
    fitted = fit(checkpoint, model, key)
    return load(checkpoint, fitted, model, partial=False, name="net"), fitted.step


@pytest.mark.parametrize("name", READ)
def test_read(name: str, made: Made, images: torch.Tensor, tmp_path: Path) -> None:
    habit = READ[name]
    path = habit.write(tmp_path, made.net, made.raw)
    model = filled(made.make, 3)
    words, step = put(path, model, habit.key)
    assert habit.says in words
    assert habit.step is None or step == habit.step
    with torch.inference_mode():
        expected, found, other = (net(images) for net in (made.net, model, made.raw))
    assert not torch.allclose(expected, other, atol=1e-3)
    if habit.exact:
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_way_out(name: str, made: Made, tmp_path: Path) -> None:
    habit = REFUSED[name]
    path = habit.write(tmp_path, made.net, made.raw)
    model = filled(made.make, 3)
    before = state(model)
    with pytest.raises(InputError, match=habit.refused) as caught:
        put(path, model, habit.key)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_there_are_many() -> None:
    assert len(READ) + len(REFUSED) >= 60
