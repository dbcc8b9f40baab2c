"""Profiles of a network while it trains: a callback for any loop, and adapters to frameworks.

``Watch`` is imported when it is first used; no framework and no tracker is a dependency.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profiler.callbacks.watch import Watch

__all__ = ["Watch"]


def __getattr__(name: str) -> Any:
    if name == "Watch":
        return importlib.import_module("profiler.callbacks.watch").Watch
    raise AttributeError(f"module 'profiler.callbacks' has no attribute {name!r}")
