"""``FILE.py:FACTORY``: functions in a user's own file."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profiler.errors import InputError, ProfilerError, UnknownNameError


def load_factory(spec: str) -> Callable[[], Any]:
    """The function named by ``FILE.py:FACTORY``."""
    path = factory_file(spec)
    file, function = str(path), spec.rpartition(":")[2]
    module_spec = importlib.util.spec_from_file_location(f"profiler_user_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"{spec!r}: {file!r} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    # Data-loader workers unpickle the preprocessing by its module's name.
    sys.modules[module_spec.name] = module
    # As for a script: what lies beside the file can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file!r} fails on import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    factory = getattr(module, function, None)
    if not callable(factory):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"function of {file}", function, names)
    made: Callable[[], Any] = factory
    return made


def factory_file(spec: str) -> Path:
    """The file of ``FILE.py:FACTORY``; raises :class:`InputError` where there is none."""
    path = Path(spec.rpartition(":")[0])
    if not path.is_file():
        raise InputError(f"{spec!r}: there is no file {str(path)!r}")
    return path


def call_factory(spec: str) -> Any:
    """What the function named by ``FILE.py:FACTORY`` returns when called without arguments."""
    factory = load_factory(spec)
    try:
        return factory()
    except ProfilerError:
        raise
    except Exception as error:
        raise InputError(f"{spec} fails: {type(error).__name__}: {error}") from error


def factory_identity(spec: str) -> str:
    """The function's name and the content of its file: not where the file lies."""
    file, _, function = spec.rpartition(":")
    return f"{function} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
