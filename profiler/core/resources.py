"""Where the text files that ship with the package lie: prompts and concept sets."""

from pathlib import Path

from profiler.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(kind: str) -> Path:
    """Find the folder ``kind`` (``"prompts"``, ``"concept_sets"``) as shipped.

    In an installed wheel it lies inside the package, in a checkout at the top of the repository.

    >>> shipped("prompts").name
    'prompts'
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (parent / kind).is_dir():
            return parent / kind
    raise InputError(f"the folder {kind!r} that ships with profiler is missing from {_PACKAGE}")
