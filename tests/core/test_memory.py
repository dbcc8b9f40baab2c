"""Freed memory is used again: counted in page faults, in a process of its own."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np

if sys.argv[1] == "program":
    from profiler.core.memory import keep_freed_memory

    assert keep_freed_memory()
if sys.argv[1] == "worker":
    from profiler.engine.worker import Opening, ShardTask, make_shard

    nothing = Opening(None, None, "", "cpu", 1, "", "", 0, {})
    make_shard(ShardTask(nothing, (), {}, None, (), "", None, "", "", {}))
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
    usual = faults("nobody")
    assert faults("program") * 5 < usual
    assert faults("worker") * 5 < usual
