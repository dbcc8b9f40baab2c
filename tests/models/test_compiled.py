"""A pass by torch.compile: the same story, kept apart from a plain one."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from profiler.activations.collect import Collected
from profiler.activations.kept import collect_once
from profiler.core.store import Store
from profiler.data.images import ImageFolder
from profiler.errors import UsageError
from profiler.models.compiled import _Compiled, compiled
from profiler.models.subject.network import Subject

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1] / "samples"
needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler here"
)


@pytest.fixture
def probe(tmp_path: Path) -> ImageFolder:
    tiny.write_images(tmp_path / "images", 21)
    return ImageFolder.open(tmp_path / "images")


def run(probe: ImageFolder, store: Store, *, compile_it: bool) -> Collected:
    subject, vlm = tiny.tiny_subject(tiny.subject), tiny.vlm()
    layers = subject.layers()
    options = {"top": 5, "batch_size": 4, "store": store}
    if not compile_it:
        return collect_once(subject, layers, vlm, probe, **options)
    with compiled(subject, layers, vlm) as (network, eyes):
        found = collect_once(network, layers, eyes, probe, **options)
    assert hooks_of(subject) == 0
    return found


def hooks_of(subject: Subject) -> int:
    return sum(len(module._forward_hooks) for module in subject.model.modules())


@needs_compiler
def test_a_compiled_pass_tells_the_same_and_is_kept_apart(
    probe: ImageFolder, tmp_path: Path
) -> None:
    store = Store(tmp_path / "cache")
    plain, made = (run(probe, store, compile_it=it) for it in (False, True))
    for one, other in zip(plain.tops, made.tops, strict=True):
        assert one.layer == other.layer
        np.testing.assert_allclose(one.activations, other.activations, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain.embeddings[:], made.embeddings[:], rtol=1e-5, atol=1e-6)
    keys = [entry.key for entry in store.entries() if entry.kind == "passes"]
    assert sorted("compiled" in str(key["subject"]) for key in keys) == [False, True]
    assert sorted("compiled" in str(key["vlm"]) for key in keys) == [False, True]


@needs_compiler
@needs_compiler
def test_a_smaller_batch_is_filled_up_and_none_other_is_compiled() -> None:
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    made = _Compiled(lambda images: 2 * images + 1, "a line")
    rows = torch.arange(8.0).reshape(4, 2)
    assert made(rows).tolist() == (2 * rows + 1).tolist()
    assert made(rows[:2]).tolist() == [[1, 3], [5, 7], [5, 7], [5, 7]]
    assert made.count == 4
    assert graphs["unique_graphs"] == before + 1


def test_hooks_are_gone_after_a_failure() -> None:
    subject = tiny.tiny_subject(tiny.subject)
    with suppress(KeyboardInterrupt), compiled(subject, subject.layers(), tiny.vlm()):
        assert hooks_of(subject) == len(subject.layers())
        raise KeyboardInterrupt
    assert hooks_of(subject) == 0


def test_without_a_compiler_it_is_one_clear_line(probe: ImageFolder, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "profiler", "-q", "run", str(TESTS / "tiny.py:subject")),
        *("--vlm", str(TESTS / "tiny.py:vlm"), "--probe", str(probe.folder)),
        *("--concepts", "visual", "--compile", "--out", str(tmp_path / "out")),
    ]
    own = {
        "CXX": "/nowhere/c++",
        "PATH": "",
        "PROFILER_CACHE_DIR": str(tmp_path / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled"),
    }
    done = subprocess.run(
        command, env=os.environ | own, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == UsageError("").exit_status
    said = done.stderr.strip().splitlines()
    assert len(said) == 1, done.stderr
    assert said[0].startswith("profiler: error: --compile: torch.compile does not work")
