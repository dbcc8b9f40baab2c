"""What every story is handed: a language model, a store, progress, a clock and a device."""

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from profiler import __version__
from profiler.core.store import Store, write_atomically
from profiler.errors import OutputError, UsageError
from profiler.llm.base import LLM

Advance = Callable[[int], None]
"""Says how many more items are finished."""


class Progress(Protocol):
    """Shows how far a stage has come."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Within the context, calls of the value say how many items were finished."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Take no notice."""
        return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Services:
    """What a story may call upon; by default it does without."""

    llm: LLM | None = None
    """Sorts words and writes summaries; None leaves that to exemplars and a template."""
    store: Store | None = None
    """Keeps what costs time to compute."""
    progress: Progress = field(default_factory=Silent)


NONE = Services()


@dataclass(frozen=True)
class Reading:
    """How images are read: ``pf.profile(…, reading=pf.Reading(batch_size=64, workers=2))``.

    Attributes:
        batch_size: images at a time; None: as many as fit.
        workers: processes that decode.
        precision: one of :data:`profiler.activations.collect.PRECISIONS`.
        allow_bad: go on although more than 5 % of the images cannot be read.
    """

    batch_size: int | None = None
    workers: int = 0
    precision: str = "fp32"
    allow_bad: bool = False


@dataclass(frozen=True)
class Provenance:
    """How a story was asked for: the command as given, the date, and all its options."""

    command: str = ""
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())
    settings: Mapping[str, Any] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Versions of everything that may move a number."""
    packages = (
        "torch",
        "torchvision",
        "timm",
        "open_clip_torch",
        "sentence-transformers",
        "numpy",
        "numba",
        "pillow",
    )
    found = {"python": platform.python_version(), "profiler": __version__}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Within the context, time counts for ``stage``."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 2)


def check_writable(out: Path, keep: bool = False) -> None:
    """Raise :class:`OutputError` now rather than after an hour of work; nothing is left behind.

    Args:
        out: the folder that will be written to.
        keep: leave the folder behind, because several processes check it at once: one must not
            remove it while another writes.
    """
    made = [folder for folder in (out, *out.parents) if not keep and not folder.exists()]
    write_atomically(out / ".writable", "")
    try:
        (out / ".writable").unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()
    except OSError as error:
        raise OutputError(f"cannot write to {str(out)!r}: {error.strerror}") from error


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name not in ("cpu", "mps") and not name.startswith("cuda"):
        raise UsageError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N, mps")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: this machine has no CUDA device; use --device auto")
    return torch.device(name)
