"""Execute the notebooks of this folder and save them with their outputs: ``make notebooks``."""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = tuple(sorted(HERE.glob("*.ipynb")))


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook as a fresh kernel in ``folder`` leaves it; raises what one of its cells raises."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    # Advice of other packages to their developers would be saved with the outputs.
    client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore"})
    # Times and versions would make each run a change.
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Execute those that are named, or all."""
    for path in map(Path, sys.argv[1:]) if len(sys.argv) > 1 else NOTEBOOKS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(f"{path.name}: {time.perf_counter() - began:.0f} s, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
