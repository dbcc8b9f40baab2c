"""Processes that begin with everything imported: torch and its friends take seconds each time.

A server imports them once, and forks a process for each command or script; apart from that they are
as real as any.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from command import Outcome

SERVER = """
import importlib, json, os, resource, runpy, sys
import numba, rich.progress, torch._dynamo, torchvision.models
import profiler.api.results, profiler.cli.terminal, profiler.llm.choose
import profiler.models.vlm.choose, profiler.profile.run
for name in sys.argv[1:]:
    importlib.import_module(name)

for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.chdir(order["folder"])
    for number, name in enumerate((os.devnull, order["stdout"], order["stderr"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(order["environment"])
    if order["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"],) * 2)
    sys.argv = [order["script"] or "profiler", *order["arguments"]]
    if order["script"]:
        sys.path.insert(0, os.path.dirname(order["script"]))
        runpy.run_path(order["script"], run_name="__main__")
    else:
        profiler.cli.main()
    sys.exit()
"""


class Forks:
    """Starts commands.

    Args:
        imports: what else the server imports.
        environment: what it has beside this process's.
    """

    def __init__(self, *imports: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self._started = 0

    def ask(self, **order: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(
        self,
        folder: Path,
        *arguments: object,
        script: Path | None = None,
        largest: int | None = None,
        **environment: str,
    ) -> "Running":
        """Start the command, or a script, in ``folder``; it writes no file above ``largest``."""
        folder.mkdir(exist_ok=True)
        self._started += 1
        stdout, stderr = (
            folder / f"{name}-{os.getpid()}-{self._started}.txt" for name in ("stdout", "stderr")
        )
        pid = self.ask(
            folder=str(folder),
            arguments=[*map(str, arguments)],
            script=script and str(script),
            largest=largest,
            environment=environment,
            stdout=str(stdout),
            stderr=str(stderr),
        )
        return Running(self, pid, stdout, stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@dataclass
class Running:
    """A command that was started; somebody must wait for it."""

    forks: Forks
    pid: int
    stdout: Path
    stderr: Path

    def wait(self, seconds: float = 300.0) -> Outcome:
        """What came of it; it is killed where it takes longer."""
        deadline = time.monotonic() + seconds
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.005)
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
        status = self.forks.ask(wait=self.pid)
        return Outcome(status, self.stdout.read_text(), self.stderr.read_text())

    def kill(self, number: int = signal.SIGKILL) -> Outcome:
        """End it by a signal, unless it had ended before."""
        os.kill(self.pid, number)
        return self.wait()

    @property
    def alive(self) -> bool:
        """Whether it has not ended; a process that nobody has waited for still has an entry."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    def first_line(self, seconds: float = 60.0) -> str:
        """The first line of its output, as soon as it is there; empty if it ends without one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            alive = self.alive
            if "\n" in (text := self.stdout.read_text() if self.stdout.exists() else ""):
                return text.partition("\n")[0]
            if not alive:
                return ""
            time.sleep(0.01)
        raise TimeoutError(f"process {self.pid} has said nothing")
