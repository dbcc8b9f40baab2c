"""The options about where the image pass is made."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from profiler.activations.kept import Engine
    from profiler.engine.worker import OpenInputs

ENGINES = ("local", "ray")
ONE_COMMAND = ("shard",)
"""What a command that makes several passes does without: an array of jobs."""


@dataclass(frozen=True)
class Scaling:
    """Where the image pass is made, and which part of it."""

    engine: Annotated[
        str,
        typer.Option(
            metavar="local|ray",
            help="Where the networks run on images: local, in this process; or ray, by the workers "
            "of a Ray cluster.",
        ),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster: auto (one that runs on this machine or that RAY_ADDRESS names, "
            "else a new one of this machine), local, HOST:PORT or ray://HOST:PORT.  "
            "[default: auto]",
        ),
    ] = None
    ray_cpus: Annotated[
        int | None,
        typer.Option(help="Number of CPUs, and of threads, of each worker.  [default: 1]", min=1),
    ] = None
    ray_gpus: Annotated[
        float | None,
        typer.Option(
            help="Number of GPUs of each worker; 0.5 lets two share one.  [default: 0]", min=0
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Compute the I-th of N shares of the image pass and leave it in the cache, as one "
            "of an array of jobs. The job that finds the pass complete writes the report.",
        ),
    ] = None

    def check(self, device: str, compile: bool = False) -> None:
        """Refuse options that contradict each other."""
        if self.engine not in ENGINES:
            raise UnknownNameError("engine", self.engine, ENGINES)
        of_ray = {
            "--address": self.address,
            "--ray-cpus": self.ray_cpus,
            "--ray-gpus": self.ray_gpus,
        }
        for name, value in of_ray.items():
            if value is not None and self.engine != "ray":
                raise UsageError(f"{name} {value} belongs to --engine ray, which is not given")
        self._share()
        if self.engine != "ray":
            return
        if self.shard is not None:
            raise UsageError("--shard is for jobs without Ray; --engine ray shares out by itself")
        if compile:
            raise UsageError("--compile is for a network in this process, not for --engine ray")
        if device.startswith("cuda") and not self.ray_gpus:
            raise UsageError(f"--device {device} with --engine ray needs --ray-gpus")
        if find_spec("ray") is None:
            raise UsageError(
                "--engine ray needs the package ray: pip install 'vision-profiler[ray]'"
            )

    def device(self, given: str) -> str:
        """Where this process runs its networks: its machine may have no GPU where workers do."""
        return "auto" if self.ray_gpus else given

    def open(self, inputs: "OpenInputs", device: str) -> "AbstractContextManager[Engine | None]":
        """The engine, or None where the pass is made as ever.

        Args:
            inputs: opens images and VLM on a device, from names.
            device: as given.
        """
        if share := self._share():
            from profiler.activations.kept import InThisProcess

            return nullcontext(InThisProcess(*share))
        if self.engine == "local":
            return nullcontext(None)
        from profiler.engine.cluster import RayCluster

        place = "cuda" if self.ray_gpus else ("cpu" if device == "auto" else device)
        return RayCluster(
            inputs, self.address or "auto", self.ray_cpus or 1, self.ray_gpus or 0.0, place
        )

    @contextmanager
    def unfinished(self) -> Iterator[None]:
        """Ends the command well where its share is made and others are missing."""
        from profiler.activations.kept import UnfinishedError

        try:
            yield
        except UnfinishedError as said:
            typer.echo(f"share {self.shard} is in the cache; {said}; no report yet", err=True)
            raise typer.Exit from None

    def _share(self) -> tuple[int, int] | None:
        if self.shard is None:
            return None
        number, _, count = self.shard.partition("/")
        if not (number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
            raise UsageError(f"--shard {self.shard!r} is not of the form I/N, such as 3/32")
        if not 1 <= int(number) <= int(count):
            raise UsageError(f"--shard {self.shard}: shares are numbered from 1 to {int(count)}")
        return int(number), int(count)
