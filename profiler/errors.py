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

Errors that are not of this tree: what the surroundings did (:func:`failure_of`) ends with 3 as
well, an interruption with 130, and anything else is a fault of this package: 70, as sysexits.h
has it (EX_SOFTWARE). So 1 always means that a check was carried out and failed.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

INTERNAL = 70
"""Exit status of a fault of this package's own."""


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
    """The first line of an error's message, or its type where it has none.

    Where a variable of the environment is behind it, that is named.
    """
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__) + _blame(error)


_FOLDERS = (
    "PROFILER_CACHE_DIR",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HOME",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "TMPDIR",
)
"""Variables that name a folder this package or its libraries write to, the closest first."""
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name the certificates servers are checked by."""
_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def lost_certificates() -> str:
    """The variable that names certificates which are not there; empty where none does."""
    return next(
        (v for v in CERTIFICATES if (at := os.environ.get(v)) and not Path(at).exists()), ""
    )


def proxy_variable(scheme: str, host: str) -> str:
    """The variable that names the proxy for a server; empty where none stands between."""
    from urllib.request import proxy_bypass

    if proxy_bypass(host):
        return ""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), "")


def folder_variable(path: str | os.PathLike[str]) -> str:
    """The variable that names the folder which a path lies in; empty where none does."""
    whole = Path(path).absolute()
    given = ((name, os.environ.get(name)) for name in _FOLDERS)
    return next((v for v, at in given if at and whole.is_relative_to(Path(at).absolute())), "")


def failure_of(error: BaseException) -> EnvironmentFailure | None:
    """What the surroundings did, where an error of another package tells of that."""
    match error:
        case MemoryError():
            return ResourceError("memory ran out")
        case RecursionError():
            return ResourceError("what was given is nested too deeply for Python to read")
        case OSError():
            reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
            where = f": {error.filename!r}" if error.filename else ""
            kind = ResourceError if error.errno in _EXHAUSTED else EnvironmentFailure
            return kind(f"{reason}{where}{_blame(error)}")
    # Libraries in C++ tell of it in words only.
    said = next((text for code in _EXHAUSTED if (text := os.strerror(code)) in str(error)), "")
    if said or "received 0 items of ancdata" in str(error):
        return ResourceError(f"{said or os.strerror(errno.EMFILE)}: {first_line(error)}")
    return None


def _blame(error: BaseException) -> str:
    """The variable of the environment that may be behind an error, in brackets; never its value."""
    for each in _chain(error):
        name = ""
        if isinstance(each, OSError):
            if each.filename is not None and (name := folder_variable(os.fsdecode(each.filename))):
                return f" (the folder is the one that {name} names)"
            if each.filename is None and lost_certificates():
                return f" ({lost_certificates()} names certificates that are not there)"
        if "proxy" in f"{type(each).__name__} {each}".lower():
            name = proxy_variable("https", "") or proxy_variable("http", "")
        if name:
            return f" (a proxy is named by {name})"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
