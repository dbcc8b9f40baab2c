"""Freed memory is used again: counted in page faults, in a process of its own."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from profiler.cli.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(2**23)  # 64 MiB, written to and freed
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what: str) -> int:
    command = [sys.executable, "-c", COUNT, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_was_freed_is_used_again() -> None:
    assert faults("keep") * 5 < faults("leave")
