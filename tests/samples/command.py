"""Calls the command line as a user does, in this process or in one of its own."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache

import pytest
from typer import main as typer_main

from profiler import cli

# To build all commands with their options takes as long as most tests.
typer_main.get_command = cache(typer_main.get_command)


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line of complaint; fails if there is a traceback or more than one line."""
        lines = [line for line in self.stderr.splitlines() if "error:" in line.lower()]
        assert "Traceback" not in self.stderr, self.stderr
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("profiler: error: ")
        return lines[0].removeprefix("profiler: error: ")


class Command:
    """``command("run", "resnet50")`` gives status, standard output and standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["profiler", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        captured = self._capfd.readouterr()
        status = exit_info.value.code
        return Outcome(int(status or 0), captured.out, captured.err)


def in_own_process(*arguments: object, env: dict[str, str]) -> Outcome:
    command = [sys.executable, "-m", "profiler", *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)
