"""Imports go up the list of rooms in the README's architecture section, never down."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import profiler

PACKAGE = Path(profiler.__file__).parent

CORE = (
    "core",
    "text",
    "similarity",
    "activations",
    "ratings",
    "labels",
    "quality",
    "evaluation",
    "layer_profile",
    "calibration",
    "comparison",
    "align",
    "heatmap",
    "localization",
    "detector",
    "conspec",
    "verify",
)
"""Rooms that know no file, no network and no neural network."""
EDGE_PACKAGES = {"torch", "timm", "open_clip", "openai", "diskcache", "typer", "rich", "jinja2"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def graph() -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        needs = {name.split(".")[1] for name in imported(path) if name.startswith("profiler.")}
        rooms.setdefault(room(path), set()).update(needs - {room(path)})
    return rooms


def test_there_is_no_cycle_between_rooms() -> None:
    order = list(TopologicalSorter(graph()).static_order())
    assert order.index("errors") < order.index("labels") < order.index("run") < order.index("cli")


def test_the_core_reaches_no_edge() -> None:
    for name in CORE:
        files = [PACKAGE / f"{name}.py", *(PACKAGE / name).glob("*.py")]
        found = set().union(*(imported(path) for path in files if path.exists()))
        assert not {module.split(".")[0] for module in found} & EDGE_PACKAGES
        rooms = {module.split(".")[1] for module in found if module.startswith("profiler.")}
        assert found
        assert rooms <= {*CORE, "errors"}


def test_each_heavy_package_is_imported_in_few_rooms() -> None:
    owners = {
        "openai": {"llm"},
        "diskcache": {"llm"},
        "typer": {"cli"},
        "rich": {"cli"},
        "jinja2": {"report"},
        "open_clip": {"vlm", "subject", "observation"},
        "timm": {"subject", "labelled"},
        "starlette": {"rating_server"},
        "uvicorn": {"rating_server"},
    }
    for package, allowed in owners.items():
        users = {
            room(path)
            for path in PACKAGE.rglob("*.py")
            if any(name.split(".")[0] == package for name in imported(path))
        }
        assert users == allowed, package
