"""Profiler: what a vision network has learned and where it fails, in words.

::

    import profiler as pf

    profile = pf.profile("resnet50", "photos", "visual")
    profile.find("stripes", layer="layer4")

Names are imported when they are first used, so that ``import profiler`` costs nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profiler import callbacks as callbacks
    from profiler.api.file_results import load
    from profiler.api.guards import FittedGuard as Guard
    from profiler.api.objects import load_concepts, load_images, load_model, load_vlm
    from profiler.api.specs import check, mine
    from profiler.api.stories import compare, debug, profile
    from profiler.errors import ProfilerError
    from profiler.session import Reading

__version__ = "0.2.0"

__all__ = [
    "Guard",
    "ProfilerError",
    "Reading",
    "check",
    "compare",
    "debug",
    "load",
    "load_concepts",
    "load_images",
    "load_model",
    "load_vlm",
    "mine",
    "profile",
]

_HOMES = {
    "Guard": "api.guards:FittedGuard",
    "ProfilerError": "errors",
    "Reading": "session",
    "check": "api.specs",
    "load": "api.file_results",
    "load_concepts": "api.objects",
    "load_images": "api.objects",
    "load_model": "api.objects",
    "load_vlm": "api.objects",
    "mine": "api.specs",
}
_STORIES = ("compare", "debug", "profile")
"""Functions that have the name of a package."""
_PACKAGES = ("callbacks",)
"""Packages whose names are public."""


class _Story(ModuleType):
    """A package that can be called: ``profiler.profile(…)`` beside ``profiler.profile.run``."""

    @property
    def __wrapped__(self) -> Any:
        """The function, for signatures in editors and notebooks."""
        return getattr(importlib.import_module("profiler.api.stories"), self.__name__[9:])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


class _Front(ModuleType):
    """The package itself: a story inside can be called, whoever imports it first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _STORIES and type(value) is ModuleType:
            value.__class__ = _Story
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Front


def __getattr__(name: str) -> Any:
    if name in (*_STORIES, *_PACKAGES):
        return importlib.import_module(f"profiler.{name}")
    if name in _HOMES:
        home, _, called = _HOMES[name].partition(":")
        return getattr(importlib.import_module(f"profiler.{home}"), called or name)
    raise AttributeError(f"module 'profiler' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_PACKAGES, "__version__"]
