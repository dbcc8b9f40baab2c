"""A classifier in two halves: an encoder, and the linear layer that reads it."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from profiler.core.arrays import Float64
from profiler.errors import InputError, UnknownNameError
from profiler.models.subject.heads import Head, same_order
from profiler.models.subject.hooks import hooked, tensors_of
from profiler.models.subject.network import Subject, varied
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.subject.trial import in_company, mismatch

_NAMED = 8
"""Linear layers that an error names, the last ones."""
_PICTURES = 8
"""Different pictures on which a head is compared with the network, and with W z + b."""
_ROUNDINGS = 8
"""By so many roundings of its size may an output differ from W z + b; real heads stay below 2."""


@dataclass(frozen=True)
class Readout:
    """Numbers that a forward pass gives for an image, used like a layer.

    Attributes:
        name: ``features`` z = encoder(x), which the last linear layer reads; ``logits`` W z + b;
            or ``drift``, how far the encoder is from its own statistics (see
            :class:`profiler.debug.encoder_or_head.Witnesses`), where it has batch normalisation.
        pooling: where it is read, in words.
        units: how many numbers.
    """

    name: str
    pooling: str
    units: int


@dataclass(frozen=True, eq=False)
class Classifier:
    """A subject in two halves: f(x) = W encoder(x) + b.

    Attributes:
        subject: the whole network.
        head: name of its last linear layer; or of several whose sum or mean is the output, as
            :attr:`profiler.models.subject.heads.Head.text` writes it. They are one linear layer: of
            the features that they all read, or else of what each of them reads, side by side.
        weights: W (C, f).
        bias: b (C,); zeros where the layer has none.
    """

    subject: Subject
    head: str
    weights: Float64
    bias: Float64
    _norms: tuple[str, ...] = field(repr=False)
    _squares: tuple[Float64, ...] = field(repr=False)

    @classmethod
    def find(cls, subject: Subject, head: str | None = None) -> "Classifier":
        """Divide a network at its last linear layer, the head.

        The head gives the outputs of the network, or outputs of the same ranking (a softmax may
        follow). It is a linear layer, a convolution on one position, another module that is linear
        in one row of features, or several of these whose sum or mean is the output.

        Args:
            subject: the network.
            head: name of the layer; None: it is found. Its outputs are the logits, whatever
                follows. Several are named as ``a + b`` or ``(a + b) / 2``.

        Raises:
            InputError: there is no such layer, the outputs of the network are not those of the
                head, or the head is not linear.
            UnknownNameError: the network has no layer of this name.
        """
        parts, seen = _head(subject, None if head is None else _named(subject, head))
        read = [z for z, _ in seen.values()]
        shared = all(z.shape == read[0].shape and torch.equal(z, read[0]) for z in read)
        found = [_matrix(subject, name, z) for name, (z, _) in seen.items()]
        join = np.add.reduce if shared else np.hstack
        weights = join([w for w, _ in found]) / parts.divisor
        bias = np.sum([b for _, b in found], axis=0) / parts.divisor
        modules = subject.model.named_modules()
        norms = tuple(name for name, module in modules if _keeps_statistics(module))
        # What parts round does not cancel out where their weights do.
        sizes = join([w**2 for w, _ in found]), np.sum([b**2 for _, b in found], axis=0)
        made = cls(
            subject, parts.text, weights, bias, norms, tuple(s / parts.divisor**2 for s in sizes)
        )
        made.check_head(*made._joined(seen, _PICTURES))
        return made

    @cached_property
    def _parts(self) -> Head:
        """What :attr:`head` says."""
        return _named(self.subject, self.head)

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
    def again(self) -> "Callable[[torch.device], Classifier] | None":
        """Opens the same on a device, in another process too; None for one from memory."""
        reopen = self.subject.again
        return None if reopen is None else partial(_found_again, reopen, self.head)

    @property
    def readings(self) -> tuple[Readout, ...]:
        """What :meth:`read` gives."""
        known = [
            Readout("features", f"input of {self.head}", self.features),
            Readout("logits", f"output of {self.head}", self.outputs),
        ]
        if self._norms:
            known.append(Readout("drift", f"largest of {len(self._norms)} normalisations", 1))
        return tuple(known)

    @torch.inference_mode()
    def read(self, readings: Sequence[Readout], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What both halves give for (B, 3, H, W) images, in one forward pass: (B, units) each."""
        model = self.subject.model
        drifts: list[torch.Tensor] = []

        def note(name: str, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
            norm: Any = model.get_submodule(name)
            found = inputs[0].float().mean((2, 3)) - norm.running_mean
            drifts.append((found.square() / (norm.running_var + norm.eps)).mean(1))

        with hooked(model, self._norms, note):
            features, logits = self._halves(images)
        given = {"features": features.float(), "logits": logits.float()}
        if drifts:
            given["drift"] = torch.stack(drifts).amax(dim=0)[: len(images), None]
        return {reading.name: given[reading.name] for reading in readings}

    def check_head(
        self, features: torch.Tensor, logits: torch.Tensor, rounding: torch.dtype = torch.float32
    ) -> None:
        """Refuse a head that does not give W z + b, on which proofs and guards rest.

        Args:
            features: (B, f) inputs of the head.
            logits: (B, C) outputs of the head.
            rounding: type that its multiplications were rounded to.

        Raises:
            InputError: an output differs from W z + b by more than rounding.
        """
        z, y = (each.detach().double().cpu().numpy() for each in (features, logits))
        parts = [self.subject.model.get_submodule(name) for name in self._parts.names]
        kinds = {each.dtype for part in parts for each in part.parameters()}
        eps = max(torch.finfo(each).eps for each in (rounding, *kinds))
        # Sums of float32 lose some bits on a CPU, and all but TF32's on a GPU.
        eps = max(eps, 2**-18 if self.device.type == "cpu" else 2**-10)
        linear = z @ self.weights.T + self.bias
        # Errors of single products are independent, so their squares add up.
        weights, bias = self._squares
        size = np.sqrt(z**2 @ weights.T + bias) + np.abs(y)
        excess = np.nan_to_num(np.abs(linear - y) - _ROUNDINGS * eps * size)
        row, output = np.unravel_index(excess.argmax(), excess.shape)
        if excess[row, output] > 0:
            kind = " and ".join(type(part).__name__ for part in parts)
            raise InputError(
                f"the head {self.head!r} of {self.name}, a {kind}, does not give W z + b: output "
                f"{output} of an image is {y[row, output]:.4g}, but weight and bias give "
                f"{linear[row, output]:.4g}. The head does something else as well (a scale, a "
                "normalisation, an adapter, a hook). Move that before the head, or merge it into "
                "the weights of a plain nn.Linear, or name another layer with --head"
            )

    def logits(self) -> nn.Module:
        """A module (B, 3, H, W) → (B, C), through which gradients flow."""
        return _Logits(self)

    def _halves(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The input and the output of the head; where it runs several times, of the last run."""
        with _seeing(self.subject, self._parts.names) as seen:
            self.subject.model(self.subject.on_device(in_company(images)))
        return self._joined(seen, len(images))

    def _joined(self, seen: "_Seen", images: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, f) features and (B, C) logits from the inputs and outputs of the head's parts."""
        rows = [seen[name] for name in self._parts.names]
        features = [read[:images].flatten(1) for read, _ in rows]
        logits = [made[:images].flatten(1) for _, made in rows]
        if len(rows) == 1:
            return features[0], logits[0]
        # If all parts read the same features, the first part has them all.
        z = features[0] if features[0].shape[1] == self.features else torch.cat(features, dim=1)
        return z, torch.stack(logits).sum(dim=0) / self._parts.divisor


def _found_again(
    reopen: Callable[[torch.device], Subject], head: str, device: torch.device
) -> Classifier:
    return Classifier.find(reopen(device), head)


@torch.inference_mode()
def dead_weights(model: nn.Module, batches: Iterable[torch.Tensor]) -> dict[str, float]:
    """The share of each layer's squared weights that is on constant inputs.

    Training with weight decay leaves no weights on an input that is constant. If a layer has such
    weights, its input varied during training, and channels before it are now dead or were cut.
    Linear layers and convolutions in one group are examined. An input is constant if it has the
    same value for every image, at every position.

    Args:
        model: any network.
        batches: its inputs; all of them count together.

    Returns:
        Name of the layer → share, in the order in which they run first.
    """
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(name: str, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
        given = inputs[0].movedim(1, -1) if isinstance(dense[name], nn.Conv2d) else inputs[0]
        rows = given.reshape(-1, given.shape[-1])
        low, high = rows.amin(0), rows.amax(0)
        if name in seen:
            low, high = seen[name][0].minimum(low), seen[name][1].maximum(high)
        seen[name] = low, high

    dense = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }
    with hooked(model, dense, note):
        for batch in batches:
            model(batch)
    shares = {}
    for name, (low, high) in seen.items():
        weights: Any = dense[name].weight
        squares = weights.double().reshape(*weights.shape[:2], -1).square().sum(2)
        dead = squares[:, low == high].sum() / squares.sum().clamp(min=1e-300)
        shares[name] = float(dead)
    return shares


class _Logits(nn.Module):
    """The outputs of a classifier's head, whatever follows in the network."""

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


_Seen = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""By name, in the order of last runs: input and output of the last."""


@contextmanager
def _seeing(subject: Subject, names: Iterable[str]) -> Iterator[_Seen]:
    """Within the context, inputs and outputs of these modules."""
    seen: _Seen = {}

    def note(name: str, inputs: tuple[Any, ...], output: Any) -> None:
        seen.pop(name, None)
        if inputs and isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor):
            seen[name] = inputs[0], output

    with hooked(subject.model, names, note):
        yield seen


def _named(subject: Subject, text: str) -> Head:
    """The head a user names."""
    modules = dict(subject.model.named_modules())
    head = Head((text,)) if text in modules else Head.of(text)
    for name in head.names:
        if name not in modules or not name:
            linear = [name for name, module in modules.items() if _is_linear(module)]
            raise UnknownNameError(f"linear layer of {subject.name}", name, linear)
        if next(modules[name].parameters(), None) is None:
            kind = type(modules[name]).__name__
            raise InputError(f"--head {name}: a {kind} is not a linear layer{_known(subject)}")
    return head


def _head(subject: Subject, given: Head | None) -> tuple[Head, _Seen]:
    """The head, given or found, and its inputs and outputs for different pictures."""
    linear = [name for name, module in subject.model.named_modules() if _is_linear(module)]
    head = given or subject.head
    watched = dict.fromkeys([*linear, *(head.names if head else ())])
    images = varied(subject.trial_images(_PICTURES))
    try:
        with torch.inference_mode(), _seeing(subject, watched) as ran:
            outputs = tensors_of(subject.model(images))
    except Exception as error:
        raise InputError(
            f"{subject.name} fails on a test picture: {type(error).__name__}: {error}"
            f"{mismatch(subject.model, images[0])}"
        ) from error
    if head is None:
        last = next((name for name in reversed(ran) if name in linear), None)
        if last is None:
            raise InputError(
                f"{subject.name} has no linear layer, so it cannot be divided into encoder and head"
            )
        head = Head((last,))
    problem = _unfit(head, ran)
    if not problem and (given is None or len(given.names) > 1):
        logits = sum(ran[name][1].flatten(1) for name in head.names) / head.divisor
        problem = _unlike(torch.as_tensor(logits), outputs)
    if problem and given is not None:
        raise InputError(f"--head {head.text}: {problem}")
    if problem:
        raise InputError(
            f"the last linear layer of {subject.name}, {head.text!r}, is not its head: {problem}; "
            f"name the layer with --head{_known(subject)}"
        )
    return head, {name: ran[name] for name in head.names}


def _unfit(head: Head, ran: _Seen) -> str:
    """Why modules are no head; empty if they may be one."""
    for name in head.names:
        if name not in ran:
            return f"layer {name!r} does not run"
        read, made = ran[name]
        if len(read) != _PICTURES or any(side != 1 for side in (*read.shape[2:], *made.shape[2:])):
            return f"its input for an image has shape {tuple(read.shape[1:])}, not one row"
        if made.shape[1] < 2:
            return "it has one output, not one per class"
        if made.shape[1] != ran[head.names[0]][1].shape[1]:
            return "its parts have different numbers of outputs"
    return ""


def _unlike(logits: torch.Tensor, outputs: Sequence[torch.Tensor]) -> str:
    """Why the outputs of a network are not those of its head; empty if they are."""
    rows = [
        output.flatten(1)
        for output in outputs
        if output.dim() > 1 and len(output) == len(logits) and output[0].numel() == len(output[0])
    ]
    if not rows:
        return "the network does not give rows of class scores (images, classes)"
    fitting = [output for output in rows if output.shape == logits.shape]
    if not fitting:
        return f"it has {logits.shape[1]} outputs, but the network has {rows[0].shape[1]}"
    if not any(same_order(logits, output) for output in fitting):
        return "the network ranks the classes in another order"
    return ""


def _matrix(subject: Subject, name: str, read: torch.Tensor) -> tuple[Float64, Float64]:
    """W (C, f) and b (C,) of a module that reads and gives rows, if it is linear.

    A plain linear layer has them as parameters. Of any other module they are measured: b is its
    output for zeros, and W what each feature adds to that. So it may hold a normalisation with
    kept statistics, or several linear layers; :meth:`Classifier.check_head` refuses what is not
    linear.
    """
    module: Any = subject.model.get_submodule(name)
    if type(module) in (nn.Linear, nn.Conv2d):
        weights = module.weight.detach().flatten(1).double()
        bias = weights.new_zeros(len(weights)) if module.bias is None else module.bias.double()
    else:
        with torch.inference_mode():
            double = copy.deepcopy(module).double()
            width = read[0].numel()
            units = torch.eye(width, device=read.device, dtype=torch.float64)
            zero = units.new_zeros(1, *read.shape[1:])
            bias = double(zero).flatten()
            weights = (double(units.reshape(width, *read.shape[1:])).flatten(1) - bias).T
    if not weights.isfinite().all():
        raise InputError(f"layer {name!r} of {subject.name} holds NaN or infinite weights")
    return weights.detach().cpu().numpy(), bias.detach().cpu().numpy()


def _known(subject: Subject) -> str:
    names = [n for n, module in subject.model.named_modules() if isinstance(module, nn.Linear)]
    return f"; linear layers: {', '.join(names[-_NAMED:])}" if names else ""
