"""The wheel carries everything it needs, and works in a new environment from another folder."""

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from profiler import __version__

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # The source distribution first, then the wheel out of it, as pip would make it.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert next(out.glob("*.tar.gz")).name == f"vision_profiler-{__version__}.tar.gz"
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_texts_are_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("prompts", "concept_sets"):
        for path in (ROOT / folder).glob("*.txt"):
            assert f"profiler/{folder}/{path.name}" in names
    for path in (ROOT / "profiler").rglob("*.*"):
        if path.suffix in (".py", ".html", ".css", ".js", ".svg"):
            assert str(path.relative_to(ROOT)) in names
    assert "profiler/py.typed" in names
    assert "profiler/models/vlm/vocabularies.safetensors" in names


@pytest.mark.slow
@pytest.mark.weights
def test_a_new_environment_runs_a_profile_and_the_lines_of_the_readme(
    wheel: Path, tmp_path: Path
) -> None:
    """The wheel is installed anew, beside what its own list of requirements asks for, and no more.

    What it asks for is linked, not installed again: of the same files, pip writes six gigabytes.
    """
    environment = tmp_path / "env"
    venv.create(environment, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", environment, "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", wheel], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    installed = next(distributions(name="vision-profiler", path=[str(packages)]))
    for required in closure(installed, "offline"):
        for name in {path.parts[0] for path in required.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).exists():  # distributions may share a folder, as nvidia's do
                (packages / name).symlink_to(str(required.locate_file(name)))
    subprocess.run([*pip, "check"], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "words.txt").write_text("red\nstriped\nround\nwooden\n", encoding="utf-8")
    command = [environment / "bin" / "profiler", "run", "efficientnet_lite0"]
    command += ["--layers", "conv_stem", "--vlm", "conse", "--probe", "synthetic"]
    command += ["--limit", "20", "--concepts", "words.txt", "--outlines", "0", "-j", "0"]
    command += ["--out", "run"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    clean["PROFILER_CACHE_DIR"] = str(tmp_path / "cache")

    def run(*command: object) -> str:
        done = subprocess.run(
            command, cwd=elsewhere, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run(*command) == "run/report.html"
    assert (elsewhere / "run" / "report.html").stat().st_size > 50_000
    record = json.loads((elsewhere / "run" / "run.json").read_text(encoding="utf-8"))["record"]
    assert record["versions"]["profiler"] == __version__
    lines = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert "efficientnet_lite0" in run(environment / "bin" / "python", "-c", lines[1])
    assert (elsewhere / "runs" / "scenes" / "report.html").stat().st_size > 50_000


def closure(asking: Distribution, extra: str) -> list[Distribution]:
    """Every distribution that one asks for with an extra, and those ask for, as installed here."""
    found = dict[tuple[str, str], Distribution]()
    waiting = [(asking, extra), (asking, "")]
    while waiting:
        one, extra = waiting.pop()
        for required in map(Requirement, one.requires or ()):
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                for key in [(required.name, wanted) for wanted in ("", *required.extras)]:
                    if key not in found:
                        found[key] = distribution(required.name)
                        waiting.append((found[key], key[1]))
    return list({one.name: one for one in found.values()}.values())
