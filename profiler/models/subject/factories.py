"""``FILE.py:FACTORY``: functions in a user's own file."""

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from profiler.errors import InputError, ProfilerError, UnknownNameError

_LIBRARIES = (Path(sysconfig.get_path("stdlib")).resolve(), Path(__file__).resolve().parents[1])
"""Where code lies that is not the user's own, beside packages: Python's, and this one's."""
_FOLDERS: set[Path] = set()
"""Folders of files that were loaded, whose other files may have been imported by name."""


def load_factory(spec: str) -> Callable[[], Any]:
    """The function named by ``FILE.py:FACTORY``; while it runs, what lies beside can be imported.

    Raises:
        InputError: there is no such file, or it fails on import.
        UnknownNameError: it has no such function.
    """
    path = factory_file(spec)
    file, function = str(path), spec.rpartition(":")[2]
    module_spec = importlib.util.spec_from_file_location(f"profiler_user_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"{spec!r}: {file!r} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    # Data-loader workers unpickle the preprocessing by its module's name.
    sys.modules[module_spec.name] = module
    folder = path.resolve().parent
    _forget_namesakes(folder)
    try:
        with _beside(folder):
            module_spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file!r} fails on import: {type(error).__name__}: {error}") from error
    factory = getattr(module, function, None)
    if not callable(factory):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"function of {file}", function, names)

    def made() -> Any:
        with _beside(folder):
            return factory()

    return made


def factory_file(spec: str) -> Path:
    """The file of ``FILE.py:FACTORY``; raises :class:`InputError` where there is none."""
    path = Path(spec.rpartition(":")[0])
    if not path.is_file():
        raise InputError(f"{spec!r}: there is no file {str(path)!r}")
    return path


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """As for a script: what lies in its folder can be imported."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:  # the user's own code may have changed the list
            sys.path.remove(str(folder))


def _forget_namesakes(folder: Path) -> None:
    """Two versions of a project may both have a ``model.py``: each file is to find its own."""
    # By name first: to resolve the places of all modules that are loaded takes a quarter second.
    tops = {name for name in sys.modules if "." not in name} - sys.stdlib_module_names
    tops = {top for top in tops if (folder / top).is_dir() or (folder / f"{top}.py").is_file()}
    for name, module in list(sys.modules.items()) if tops else ():
        place = _file_of(module) if name.partition(".")[0] in tops else None
        if place is None or _is_library(place) or not _FOLDERS & set(place.parents):
            continue
        if folder not in place.parents:
            del sys.modules[name]
    _FOLDERS.add(folder)


def call_factory(spec: str) -> Any:
    """What the function named by ``FILE.py:FACTORY`` returns when called without arguments."""
    factory = load_factory(spec)
    try:
        return factory()
    except ProfilerError:
        raise
    except Exception as error:
        raise InputError(f"{spec} fails: {type(error).__name__}: {error}") from error


# --- what the code says -----------------------------------------------------------------------


def code_of(spec: str, *made: object) -> str:
    """SHA-256 of the user's own code behind a factory, without what does not matter to Python.

    That is the file, those in which the classes of what it made and their bases are defined, and
    whatever of the user's own these import, each without comments, docstrings and layout; not where
    they lie.

    Args:
        spec: ``FILE.py:FACTORY``, which has just been loaded.
        made: what it made; of a network every module counts.
    """
    file, _, function = spec.rpartition(":")
    due = [f"profiler_user_{Path(file).stem}"]
    for each in made:
        for part in each.modules() if isinstance(each, nn.Module) else [each]:
            due += [getattr(part, "__module__", ""), *(k.__module__ for k in type(part).__mro__)]
    seen: set[str] = set()
    digests: dict[Path, str] = {}
    while due:
        name = due.pop()
        module = sys.modules.get(name)
        place = _file_of(module)
        if name in seen or module is None or place is None or _is_library(place):
            continue
        seen.add(name)
        try:
            imported, digests[place] = _read(
                place, place.stat().st_mtime_ns, module.__package__ or ""
            )
        except (OSError, SyntaxError, ValueError):  # compiled, or gone since
            continue
        due += imported
    return f"{function} {' '.join(sorted(digests.values()))}"


@lru_cache(maxsize=1024)  # a network that is watched in training is asked at every step
def _read(place: Path, written: int, package: str) -> tuple[tuple[str, ...], str]:
    """What a file imports, and the hash of what it says; ``written`` is when it was written."""
    tree = ast.parse(place.read_bytes())
    imported = tuple(_imported(tree, package))
    return imported, hashlib.sha256(_plain(tree).encode()).hexdigest()


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _is_library(place: Path) -> bool:
    installed = {"site-packages", "dist-packages"} & set(place.parts)
    return bool(installed) or any(folder in place.parents for folder in _LIBRARIES)


def _imported(tree: ast.Module, within: str) -> Iterator[str]:
    """Names of the modules that a file imports, wherever in it, and perhaps of what is in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                parts = each.name.split(".")
                yield from (".".join(parts[: end + 1]) for end in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            package = within.split(".")
            above = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join(filter(None, [*above, node.module or ""]))
            yield start
            yield from (f"{start}.{each.name}" for each in node.names)


def _plain(tree: ast.Module) -> str:
    """The code without comments, docstrings and layout."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
