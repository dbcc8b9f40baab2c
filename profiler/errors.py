"""The errors a user may meet, each with the exit status the command line gives it.

::

    ProfilerError                    base of all; a message of one line
    ├── CheckFailed         (exit 1) the question was answered, and the answer is no
    ├── UsageError          (exit 2) the call itself is wrong
    │   ├── UnknownNameError         a name that is none of those on offer; lists near ones
    │   └── InputError               a file, folder or value that cannot be used
    │       └── ContextError         a result that belongs to another context
    ├── EnvironmentFailure  (exit 3) the surroundings failed: network, memory, disk, server
    │   ├── DownloadError            something that has to be fetched could not be
    │   ├── OutputError              the output cannot be written
    │   ├── ResourceError            memory or disk ran out
    │   └── LLMError                 the language model did not give a usable answer
    └── Undecided           (exit 4) no verdict: never to be read as success

Each message says what is wrong, where, and what would be right.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class ProfilerError(Exception):
    """Base of every error this package raises on purpose."""

    exit_status: ClassVar[int] = 2


class CheckFailed(ProfilerError):
    """A check was carried out and failed: a specification is violated, a regression found."""

    exit_status = 1


class UsageError(ProfilerError):
    """The call is wrong: options that contradict each other, values out of range."""


class UnknownNameError(UsageError):
    """A name that is none of those on offer.

    >>> str(UnknownNameError("model", "resnet5", ["resnet50", "vgg11"]))
    "unknown model 'resnet5'; near names: resnet50"
    """

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = list(known)
        near = get_close_matches(name, known, n=5, cutoff=0.5)
        if not near and len(known) <= 12:
            listed = f"; known: {', '.join(known)}" if known else ""
        else:
            listed = f"; near names: {', '.join(near)}" if near else "; no known name is near"
        super().__init__(f"unknown {what} {name!r}{listed}{f'; {hint}' if hint else ''}")


class InputError(UsageError):
    """A file, folder or value that cannot be used."""


class ContextError(InputError):
    """A fitted thing (a threshold, a map, a guard) applied outside the context it belongs to."""


class EnvironmentFailure(ProfilerError):
    """The surroundings failed, not the question: network, memory, disk or a server."""

    exit_status = 3


class DownloadError(EnvironmentFailure):
    """Weights or data that have to be fetched could not be."""


class OutputError(EnvironmentFailure):
    """The output folder or file cannot be written."""


class ResourceError(EnvironmentFailure):
    """Memory or disk ran out."""


class LLMError(EnvironmentFailure):
    """The language model could not be reached, or gave no usable answer in the tries allowed."""


class Undecided(ProfilerError):
    """No verdict could be reached; never to be read as success."""

    exit_status = 4


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
