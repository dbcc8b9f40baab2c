"""A classifier in two halves: an encoder, and the linear layer that reads it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from profiler.errors import InputError, UnknownNameError
from profiler.subject import Preprocess, Subject
from profiler.subject.hooks import COPIES, tensors_of
from profiler.subject.preprocessing import trial_image
from profiler.subject.trial import in_company, mismatch

Float64 = NDArray[np.float64]

_NAMED = 8
"""Linear layers that an error names, the last ones."""
_ROUNDINGS = 8
"""How many roundings of its size an output may be from W z + b; real heads stay below 2."""


@dataclass(frozen=True)
class Reading:
    """One number or more that a forward pass gives for an image, as a layer of a pass.

    Attributes:
        name: ``features``, ``logits`` or ``drift``.
        pooling: where it is read, in words.
        units: how many numbers.
    """

    name: str
    pooling: str
    units: int


@dataclass(frozen=True)
class Halves:
    """What both halves give for B images.

    Attributes:
        features: (B, f) z = encoder(x), which the last linear layer reads.
        logits: (B, C) W z + b.
        drift: (B,) how far the encoder is from its own statistics (see
            :class:`profiler.localization.Witnesses`); None where it has no batch normalisation.
    """

    features: torch.Tensor
    logits: torch.Tensor
    drift: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Classifier:
    """A subject in two halves: f(x) = W encoder(x) + b.

    Attributes:
        subject: the whole network.
        head: name of its last linear layer.
        weights: W (C, f).
        bias: b (C,); zeros where the layer has none.
    """

    subject: Subject
    head: str
    weights: Float64
    bias: Float64
    _norms: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def find(cls, subject: Subject, head: str | None = None) -> "Classifier":
        """Divide a network at its last linear layer.

        That is the linear layer, or convolution of one position, that runs last and whose outputs
        are ranked as those of the network are, as they are if a softmax follows.

        Args:
            subject: the network.
            head: name of the layer, where it is to be another one. Its outputs are the logits,
                whatever follows.

        Raises:
            InputError: there is no such layer, or the outputs of the network are not its.
        """
        modules = dict(subject.model.named_modules())
        if head is not None and head not in modules:
            linear = [name for name, module in modules.items() if _is_linear(module)]
            raise UnknownNameError(f"linear layer of {subject.name}", head, linear)
        if head is not None and not _is_linear(modules[head]):
            kind = type(modules[head]).__name__
            raise InputError(f"--head {head}: a {kind} is no linear layer{_known(subject)}")
        ran, output = _trial(subject)
        if head is None:
            head = _last(subject, ran, output)
        elif head not in ran:
            raise InputError(f"--head {head}: this layer of {subject.name} does not run")
        elif (problem := _unfit(ran[head])) or len(ran[head][1][0]) < 2:
            raise InputError(f"--head {head}: {problem or 'it has one output, not a class each'}")
        layer: Any = modules[head]
        weights = layer.weight.detach().flatten(1).double().cpu().numpy()
        if not np.isfinite(weights).all():
            raise InputError(f"layer {head!r} of {subject.name} holds NaN or infinite weights")
        bias = np.zeros(len(weights))
        if layer.bias is not None:
            bias = layer.bias.detach().double().cpu().numpy()
        norms = tuple(name for name, module in modules.items() if _keeps_statistics(module))
        found = cls(subject, head, weights, bias, norms)
        features, logits = ran[head]
        found.check_head(features.flatten(1), logits.flatten(1))
        return found

    @property
    def name(self) -> str:
        """The subject's."""
        return self.subject.name

    @property
    def outputs(self) -> int:
        """C."""
        return len(self.weights)

    @property
    def features(self) -> int:
        """The width f of the encodings."""
        return int(self.weights.shape[1])

    @property
    def preprocess(self) -> Preprocess:
        """The subject's."""
        return self.subject.preprocess

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.subject.device

    @property
    def fingerprint(self) -> str:
        """Hash of the subject, and of where it is divided."""
        return hashlib.sha256(f"{self.subject.fingerprint} {self.head}".encode()).hexdigest()

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What :meth:`read` gives."""
        known = [
            Reading("features", f"input of {self.head}", self.features),
            Reading("logits", f"output of {self.head}", self.outputs),
        ]
        if self._norms:
            known.append(Reading("drift", f"largest of {len(self._norms)} normalisations", 1))
        return tuple(known)

    @torch.inference_mode()
    def run(self, images: torch.Tensor) -> Halves:
        """Both halves' outputs for (B, 3, H, W) images, in one forward pass."""
        drifts: list[torch.Tensor] = []
        with self._watched(drifts):
            features, logits = self._halves(in_company(images))
        drift = torch.stack(drifts).amax(dim=0)[: len(images)] if drifts else None
        return Halves(features[: len(images)].float(), logits[: len(images)].float(), drift)

    def read(self, readings: Sequence[Reading], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The same by name: (B, units) each, as :meth:`profiler.subject.Subject.read`."""
        halves = self.run(images)
        given = {"features": halves.features, "logits": halves.logits}
        if halves.drift is not None:
            given["drift"] = halves.drift[:, None]
        return {reading.name: given[reading.name] for reading in readings}

    def check_head(
        self, features: torch.Tensor, logits: torch.Tensor, rounding: torch.dtype = torch.float32
    ) -> None:
        """Refuse a head that gives something else than W z + b: proofs and guards rest on it.

        Args:
            features: (B, f) what the head read.
            logits: (B, C) what it gave.
            rounding: type that its multiplications were rounded to.
        """
        z, y = (each.detach().double().cpu().numpy() for each in (features, logits))
        layer: Any = self.subject.model.get_submodule(self.head)
        eps = max(torch.finfo(each).eps for each in (rounding, layer.weight.dtype))
        # Sums of float32 lose some bits on a CPU, and all but TF32's on a GPU.
        eps = max(eps, 2**-18 if self.device.type == "cpu" else 2**-10)
        said = z @ self.weights.T + self.bias
        # Errors of single products are independent, so their squares add up.
        size = np.sqrt(z**2 @ self.weights.T**2 + self.bias**2) + np.abs(y)
        excess = np.nan_to_num(np.abs(said - y) - _ROUNDINGS * eps * size)
        row, output = np.unravel_index(excess.argmax(), excess.shape)
        if excess[row, output] > 0:
            kind = type(layer).__name__
            raise InputError(
                f"the head {self.head!r} of {self.name}, a {kind}, does not give W z + b: output "
                f"{output} of an image is {y[row, output]:.4g}, by weight and bias it is "
                f"{said[row, output]:.4g}. What it does beside (a scale, a normalisation, an "
                "adapter, a hook) is not in them, so nothing could be told by them: let the "
                "network do it to the features first, or merge it into the weights of a plain "
                "nn.Linear, or name another layer with --head"
            )

    def logits(self) -> nn.Module:
        """A module (B, 3, H, W) → (B, C), through which gradients flow."""
        return _Logits(self)

    def _halves(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The input and the output of the head; where it runs several times, of the last run."""
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
            seen[:] = [(inputs[0].flatten(1), output.flatten(1))]

        handle = self.subject.model.get_submodule(self.head).register_forward_hook(hook)
        try:
            self.subject.model(
                images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            )
        finally:
            handle.remove()
        return seen[0]

    @contextmanager
    def _watched(self, drifts: list[torch.Tensor]) -> Iterator[None]:
        """Within the context, each batch normalisation adds its drift (B,)."""

        def hook(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            mean: Any = norm.running_mean
            var: Any = norm.running_var
            found = inputs[0].float().mean((2, 3)) - mean
            drifts.append((found.square() / (var + norm.eps)).mean(1))

        modules = dict(self.subject.model.named_modules())
        handles = [modules[name].register_forward_pre_hook(hook) for name in self._norms]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@torch.inference_mode()
def dead_weights(model: nn.Module, batches: Iterable[torch.Tensor]) -> dict[str, float]:
    """Of each layer's squared weights, the share on inputs that never vary.

    Training with weight decay leaves no weights on an input that is constant. So where a layer has
    many, its input once lived: channels before it have died since, or were cut. Linear layers and
    convolutions in one group are looked at; an input is constant if no image, at no position,
    gives it another value.

    Args:
        model: any network.
        batches: what it reads; all of them count together.

    Returns:
        Name of the layer → share, in the order in which they run first.
    """
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            given = inputs[0].movedim(1, -1) if isinstance(module, nn.Conv2d) else inputs[0]
            rows = given.reshape(-1, given.shape[-1])
            low, high = rows.amin(0), rows.amax(0)
            if name in seen:
                low, high = seen[name][0].minimum(low), seen[name][1].maximum(high)
            seen[name] = low, high

        return hook

    dense = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }
    handles = [module.register_forward_pre_hook(hook_for(name)) for name, module in dense.items()]
    try:
        for batch in batches:
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    shares = {}
    for name, (low, high) in seen.items():
        weights: Any = dense[name].weight
        squares = (
            weights.double().flatten(2).square().sum(2)
            if weights.dim() > 2
            else (weights.double().square())
        )
        dead = squares[:, low == high].sum() / squares.sum().clamp(min=1e-300)
        shares[name] = float(dead)
    return shares


class _Logits(nn.Module):
    """The outputs of a classifier's head, whatever the network makes of them."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.whole = classifier.subject.model
        self._classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, C)."""
        return self._classifier._halves(in_company(images))[1][: len(images)]


def _is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer; or a convolution that becomes one on a single position."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None


_Ran = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Input and output of each linear layer, in the order of their last run."""


def _trial(subject: Subject) -> tuple[_Ran, torch.Tensor | None]:
    """What the linear layers, and the network itself, make of a test picture."""
    ran: _Ran = {}

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            ran.pop(name, None)
            if inputs and isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor):
                ran[name] = inputs[0], output

        return hook

    handles = [
        module.register_forward_hook(hook_for(name))
        for name, module in subject.model.named_modules()
        if _is_linear(module)
    ]
    image = torch.empty(0)
    try:
        image = subject.preprocess(trial_image())
        images = image.unsqueeze(0).repeat(COPIES, 1, 1, 1).to(subject.device)
        with torch.inference_mode():
            outputs = tensors_of(subject.model(images))
    except Exception as error:
        raise InputError(
            f"{subject.name} fails on a test picture: {type(error).__name__}: {error}"
            f"{mismatch(subject.model, image)}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    fitting = [output for output in outputs if output.dim() == 2 and len(output) == COPIES]
    return ran, fitting[0] if fitting else None


def _last(subject: Subject, ran: _Ran, output: torch.Tensor | None) -> str:
    """The linear layer whose outputs are those of the network."""
    if not ran:
        raise InputError(
            f"{subject.name} has no linear layer, so it cannot be divided into encoder and head"
        )
    name = list(ran)[-1]
    problem = _unfit(ran[name])
    if not problem and output is None:
        problem = "the network does not give rows of class scores (images, classes)"
    if not problem and output is not None:
        logits = ran[name][1].flatten(1)
        if logits.shape != output.shape:
            problem = f"it gives {logits.shape[1]} numbers, the network {output.shape[1]}"
        elif logits.shape[1] < 2:
            problem = "it has one output, not one a class"
        elif not _same_ranks(logits, output):
            problem = "the network ranks its outputs otherwise"
    if problem:
        raise InputError(
            f"the last linear layer of {subject.name}, {name!r}, is not its head: {problem}; "
            f"name the layer with --head{_known(subject)}"
        )
    return name


def _unfit(seen: tuple[torch.Tensor, torch.Tensor]) -> str:
    """Why a layer is not a head; empty if it may be one."""
    given, made = (tuple(tensor.shape) for tensor in seen)
    if given[0] != COPIES or any(side != 1 for side in (*given[2:], *made[2:])):
        return f"it reads {given[1:]} for an image, not one row of features"
    return ""


def _same_ranks(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the larger of two numbers is so in both, but for ties that rounding makes."""
    order = one.argsort(dim=1)
    steps = other.gather(1, order).float().diff(dim=1)
    return bool((steps >= -1e-6 * other.float().abs().amax()).all())


def _known(subject: Subject) -> str:
    names = [n for n, module in subject.model.named_modules() if isinstance(module, nn.Linear)]
    return f"; linear layers: {', '.join(names[-_NAMED:])}" if names else ""
