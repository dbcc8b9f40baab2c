"""The prompt files: text with ``$names`` that a user may read and change."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from profiler.core.resources import shipped
from profiler.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class _Names:
    """The names a prompt must use, and those it may."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


def _names(required: str = "", optional: str = "") -> _Names:
    return _Names(frozenset(required.split()), frozenset(optional.split()))


# The README of the prompts folder documents these; a test compares the two.
NAMES: Mapping[str, _Names] = {
    "categorize-system": _names("categories", "example_concepts example_answer"),
    "categorize-user": _names("concepts", "count"),
    "categorize-again": _names("concepts complaint", "count"),
    "narrate-system": _names(),
    "narrate-user": _names("facts", "task"),
    "narrate-again": _names("facts complaint", "previous task"),
    "propose-system": _names(),
    "propose-user": _names("classes", "count"),
    "propose-again": _names("classes complaint", "count"),
    "ask-system": _names(),
    "ask-user": _names("question", "runs"),
    "ask-actions": _names("tools"),
    "ask-again": _names("complaint"),
    "ask-last": _names(),
}
_WORDS = "plain-words"


@dataclass(frozen=True)
class Prompts:
    """The prompts by name, and the words a narrative may use freely."""

    texts: Mapping[str, str]
    plain_words: frozenset[str]

    @property
    def digest(self) -> str:
        """SHA-256 over every text; part of the key of each cached reply."""
        parts = [f"{name}\0{text}" for name, text in sorted(self.texts.items())]
        parts.append("\0".join(sorted(self.plain_words)))
        return hashlib.sha256("\0\0".join(parts).encode()).hexdigest()

    def fill(self, name: str, **values: str) -> str:
        """Put values into a prompt; a value's own ``$`` signs stay as they are."""
        return Template(self.texts[name]).substitute(values).strip()


def load_prompts(folder: Path | str | None = None) -> Prompts:
    """Read the shipped prompts, each replaced by the file of the same name in ``folder``."""
    base = shipped("prompts")
    overrides = _overrides(Path(folder)) if folder is not None else {}
    paths = {name: overrides.get(name, base / f"{name}.txt") for name in (*NAMES, _WORDS)}
    texts = {name: _read(path) for name, path in paths.items()}
    words = _without_comments(texts.pop(_WORDS)).casefold().split()
    for name, text in texts.items():
        _check(paths[name], text, NAMES[name])
    return Prompts(texts, frozenset(words))


def _overrides(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"the prompts folder {folder} does not exist")
    files = {path.stem: path for path in sorted(folder.glob("*.txt"))}
    known = (*NAMES, _WORDS)
    for name in files:
        if name not in known:
            raise UnknownNameError(f"prompt file in {folder}", f"{name}.txt", _txt(known))
    if not files:
        raise InputError(f"the prompts folder {folder} holds none of {', '.join(_txt(known))}")
    return files


def _txt(names: tuple[str, ...]) -> list[str]:
    return [f"{name}.txt" for name in names]


def _check(path: Path, text: str, names: _Names) -> None:
    template = Template(text)
    if not template.is_valid():
        line = next(n for n, t in enumerate(text.split("\n"), 1) if not Template(t).is_valid())
        raise InputError(f"{path}, line {line}: a $ without a name; write $$ for a dollar sign")
    used = set(template.get_identifiers())
    allowed = names.required | names.optional
    for name in sorted(used - allowed):
        offered = ", ".join(f"${n}" for n in sorted(allowed)) or "none"
        raise InputError(f"{path}: unknown name ${name}; names for this prompt: {offered}")
    for name in sorted(names.required - used):
        raise InputError(f"{path}: the name ${name} is missing; without it the prompt asks nothing")


def _without_comments(text: str) -> str:
    return "\n".join(line.split("#", 1)[0] for line in text.split("\n"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"the prompt {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the prompt {path} is not UTF-8 (byte {error.start})") from error
