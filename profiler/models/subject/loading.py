"""From a name and options to a :class:`~profiler.models.subject.network.Subject`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from profiler.errors import InputError, UsageError
from profiler.models.subject.checkpoints import Fit, Shapes, fit, load
from profiler.models.subject.factories import call_factory, code_of, factory_file
from profiler.models.subject.groups import all_group
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import (
    Preprocess,
    Preprocessing,
    check_preprocess,
    digest_of,
    parse_recipe,
    seeded,
)
from profiler.models.subject.sources import DEFAULT, Made, Source, find_source, source_of
from profiler.models.subject.weight_files import Checkpoint, read_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SubjectOptions:
    """What a user may change about a subject.

    Attributes:
        checkpoint: weights that take the place of the source's own.
        partial: load what fits of a checkpoint that does not fit as a whole.
        weights: ``default``, ``none`` for random ones, or a name torchvision gives.
        preprocess: KEY=VALUE text, ``FILE.py:FUNCTION``, or a function from an RGB image to a
            tensor (3, H, W); None for the model's own.
        seed: of random weights.
        checkpoint_key: which of several networks in the checkpoint: its keys, or the beginning
            of its names, joined by dots.
    """

    checkpoint: Path | None = None
    partial: bool = False
    weights: str = DEFAULT
    preprocess: str | Preprocess | None = None
    seed: int = 0
    checkpoint_key: str = ""

    def __post_init__(self) -> None:
        if self.partial and self.checkpoint is None:
            raise UsageError("--partial is about a file; name one with --checkpoint")
        if self.checkpoint_key and self.checkpoint is None:
            raise UsageError("--checkpoint-key is about a file; name one with --checkpoint")
        if self.checkpoint is not None and self.weights not in (DEFAULT, "none"):
            raise UsageError(
                f"--weights {self.weights!r} and --checkpoint both name weights; give one of them"
            )
        # As far as it costs nothing, before a network is made.
        if self.checkpoint is not None and not self.checkpoint.exists():
            raise InputError(f"checkpoint {str(self.checkpoint)!r} is absent")
        if isinstance(self.preprocess, str):
            check_preprocess(self.preprocess)


@dataclass(frozen=True)
class NamedSubject:
    """A network that is not loaded yet.

    Attributes:
        name: as in :func:`load_subject`.
        options: other weights, another preprocessing.
    """

    name: str
    options: SubjectOptions = field(default_factory=SubjectOptions)

    def check(self) -> None:
        """Refuse names of networks and weights that are none; nothing is downloaded, nor built."""
        source = find_source(self.name)
        if self.options.checkpoint is None:
            source.check_weights(self.options.weights, self.name)
        if ".py:" in self.name:
            factory_file(self.name)

    def load(self, device: torch.device) -> Subject:
        """The network, where it is to run."""
        return load_subject(self.name, device, self.options)


def load_subject(spec: str, device: torch.device, options: SubjectOptions | None = None) -> Subject:
    """A subject by name.

    Args:
        spec: a name of torchvision (``resnet50``), ``timm/NAME`` or ``timm/NAME.TAG``,
            ``hf-hub:ORG/NAME``, ``local-dir:PATH``, ``open_clip:ARCH/PRETRAINED`` (the image
            tower), ``efficientnet_lite0|1|2``, or ``FILE.py:FACTORY``, a function without
            arguments that returns ``(model, preprocess)``.
        device: where it is to run.
        options: other weights, another preprocessing.
    """
    found = _subject(spec, find_source(spec), device, options or SubjectOptions())
    return replace(found, again=partial(load_subject, spec, options=options))


def subject_of(
    model: nn.Module, name: str, device: torch.device, options: SubjectOptions
) -> Subject:
    """A subject of a network in memory, of which a copy is made: the network stays as it is.

    Args:
        model: maps (B, 3, H, W) to anything.
        name: what to call it.
        device: where the copy is to run.
        options: with its preprocessing.
    """
    return _subject(name, source_of(model, name), device, options)


def _subject(spec: str, source: Source, device: torch.device, options: SubjectOptions) -> Subject:
    if options.checkpoint is None:
        source.check_weights(options.weights, spec)
    if options.checkpoint is not None:
        made = _with_checkpoint(spec, source, read_checkpoint(options.checkpoint), options)
    elif options.weights == "none":
        with seeded(options.seed):
            made = replace(source.bare(None), weights=f"random, seed {options.seed}")
    else:
        made = source.trained(options.weights)
    preprocessing = _preprocessing(spec, made.preprocessing, options.preprocess)
    text = preprocessing.text
    # With weights of its own a model may need another preprocessing than its architecture's.
    other_weights = options.checkpoint is not None or options.weights == "none"
    if options.preprocess is None and source.has_weights and other_weights:
        text += " (the default of the architecture)"
    model = made.model.eval().requires_grad_(False).to(device)
    code = source.identity
    if by_user := not source.identity:
        own = made.preprocessing.function if made.preprocessing else None
        code = code_of(spec if ".py:" in spec else "", model, own)
    identity = "\n".join((code, _structure(model), preprocessing.identity or preprocessing.text))
    return Subject(
        spec,
        # Convolutions on a CPU are about one and a half times as fast with channels last.
        model.to(memory_format=torch.channels_last),
        preprocessing.function,
        made.weights,
        text,
        identity,
        made.step,
        by_user,
    )


def _with_checkpoint(
    spec: str, source: Source, checkpoint: Checkpoint, options: SubjectOptions
) -> Made:
    def fitted_to(classes: int | None) -> tuple[Made, Fit]:
        with seeded(options.seed):
            made = source.bare(classes)
        return made, fit(checkpoint, made.model, options.checkpoint_key, source.unused)

    made, fitted = fitted_to(None)
    classes = _classes_of(made.model, fitted.misshapen) if source.can_resize else None
    if classes is not None:
        made, fitted = fitted_to(classes)
    weights = load(checkpoint, fitted, made.model, options.partial, spec)
    if fitted.step is not None:
        weights += f" (step {fitted.step:g})"
    if classes is not None:
        weights += f", {classes} classes"
    if not fitted.is_whole:
        rest = f"random, seed {options.seed}" if source.has_weights else "as the factory made it"
        weights += f"; the rest {rest}"
        log.warning("%s", weights)
    if source.unsaid:
        log.warning("checkpoint %r: %s", str(checkpoint.path), source.unsaid)
    return replace(made, weights=weights, step=fitted.step)


def _classes_of(model: nn.Module, misshapen: Mapping[str, Shapes]) -> int | None:
    """How many classes a fine-tuned checkpoint has, if its classifier has another number."""
    found, wanted = misshapen.get(f"{all_group(model)[-1]}.weight", ((), ()))
    return found[0] if found and wanted and found[1:] == wanted[1:] else None


def _preprocessing(
    spec: str, own: Preprocessing | None, wanted: str | Preprocess | None
) -> Preprocessing:
    """The model's own, or as the user wants it."""
    if wanted is not None and not isinstance(wanted, str):
        called = getattr(wanted, "__name__", type(wanted).__name__)
        return Preprocessing(wanted, f"as given ({called})", digest_of(wanted, spec).hex())
    if wanted is None:
        if own is None:
            raise InputError(
                f"{spec} returns a model without its preprocessing; it must return (model, "
                "preprocess), or give the latter with --preprocess"
            )
        return own
    if ".py:" not in wanted:
        return Preprocessing.of(parse_recipe(wanted, own.recipe if own else None))
    function = call_factory(wanted)
    if not callable(function):
        raise InputError(
            f"--preprocess {wanted} must return a function from an RGB image to a tensor "
            f"(3, H, W); it returned {type(function).__name__}"
        )
    identity = f"{code_of(wanted, function)} {digest_of(function, wanted).hex()}"
    return Preprocessing(function, f"as made by {wanted}", identity)


def _structure(model: nn.Module) -> str:
    """The modules of a network and their settings: two networks may differ in nothing else.

    Settings are numbers, and words that are no paths: the same network in another folder is the
    same network.
    """
    lines = []
    for name, module in model.named_modules():
        settings = {
            key: value
            for key, value in sorted(vars(module).items())
            if not key.startswith("_") and _is_setting(value)
        }
        lines.append(f"{name} {type(module).__name__} {settings}")
    return "\n".join(lines)


def _is_setting(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_setting(part) for part in value)
    return isinstance(value, int | float) or (isinstance(value, str) and "/" not in value)
