"""Both networks of a pass by ``torch.compile``: several steps of a network become one loop.

Compiling takes a minute or two, so it is meant for thousands of images. The numbers differ in
their last bits, so a pass made this way is kept apart from others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

from profiler.errors import UsageError, first_line
from profiler.models.subject.hooks import hooked, tensors_of
from profiler.models.subject.network import Layer, Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import VLM

R = TypeVar("R")


@contextmanager
def compiled(
    subject: Subject, layers: Sequence[Layer], vlm: VLM
) -> Iterator[tuple["CompiledSubject", "CompiledVLM"]]:
    """Within the context, the two as networks of a pass over ``layers``.

    Raises:
        UsageError: nothing can be compiled here, for example for want of a C++ compiler.
    """
    check_compiler(subject.device)
    taken: dict[str, torch.Tensor] = {}
    pools = {layer.name: layer.pool for layer in layers}

    def take(name: str, _inputs: Any, output: Any) -> None:
        tensors = tensors_of(output)
        if len(tensors) == 1:
            taken[name] = pools[name](tensors[0])

    def forward(images: torch.Tensor) -> dict[str, torch.Tensor]:
        taken.clear()
        subject.model(images)
        return dict(taken)

    # The hooks stay, for they are compiled with the network, and they do not end the pass after
    # the last layer that is wanted, as those of Subject.read do: an exception would break it up.
    with hooked(subject.model, list(pools), take):
        yield (
            CompiledSubject(subject, _Compiled(forward, subject.name)),
            CompiledVLM(vlm, _Compiled(vlm.embed_images, vlm.name)),
        )


def fingerprint_of(plain: str) -> str:
    """That of a compiled network by its own."""
    return f"{plain} compiled"


def check_compiler(device: torch.device) -> None:
    """Refuse where ``torch.compile`` does not work; a try is the only test that holds."""
    try:
        torch.compile(lambda x: x.cos() + x.sin())(torch.ones(8, device=device))
    except Exception as error:  # of many kinds: no compiler, one that fails, no headers, no Triton
        raise UsageError(
            f"--compile: torch.compile does not work on this machine ({first_line(error)}); "
            "go without it"
        ) from error


class CompiledSubject:
    """A subject, read at layers that were settled when it was compiled."""

    def __init__(self, subject: Subject, forward: "_Compiled[dict[str, torch.Tensor]]") -> None:
        self.plain = subject
        self._forward = forward
        self.preprocess: Preprocess = subject.preprocess
        self.device = subject.device
        self.fingerprint = fingerprint_of(subject.fingerprint)

    @torch.inference_mode()
    def read(self, layers: Sequence[Layer], images: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """(B, 3, H, W) → (B, K) of each layer."""
        taken = self._forward(self.plain.on_device(images))
        self.plain.check_taken(layers, taken, self._forward.count)
        return {name: rows[: len(images)] for name, rows in taken.items()}


class CompiledVLM:
    """The image side of a VLM."""

    def __init__(self, vlm: VLM, embed: "_Compiled[torch.Tensor]") -> None:
        self._embed = embed
        self.plain = vlm
        self.name = vlm.name
        self.template = vlm.template
        self.limits = vlm.limits
        self.preprocess = vlm.preprocess
        self.embed_texts = vlm.embed_texts
        self.fingerprint = fingerprint_of(vlm.fingerprint)

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, e) unit rows."""
        return self._embed(images)[: len(images)]


class _Compiled(Generic[R]):
    """A function of a batch, compiled for one number of images.

    For any number, compiling EfficientNet-Lite0 for a CPU takes more than eight minutes in place of
    half a minute. So a smaller batch is filled up to the one before with copies of its last image.
    """

    def __init__(self, function: Callable[[torch.Tensor], R], name: str) -> None:
        self._function = torch.compile(function, dynamic=False)
        self._name = name
        self.count = 2
        """Images of the last call, copies included. Only what fitted into memory counts. At least
        two, as many networks squeeze away the axis of a batch of one."""

    def __call__(self, images: torch.Tensor) -> R:
        """What becomes of (B, …), and of the copies behind them."""
        missing = self.count - len(images)
        if missing > 0:
            images = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
        try:
            made = self._function(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise UsageError(
                f"--compile: torch.compile fails on {self._name}: {first_line(error)}; "
                "go without it"
            ) from error
        self.count = len(images)
        return made
