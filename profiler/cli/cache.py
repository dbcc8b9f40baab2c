"""``profiler cache``: what lies in the cache folder, and getting rid of it.

Only files that this package has made are counted or removed, whatever else lies in the folder.
"""

import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from profiler.cli.app import app
from profiler.cli.help import App
from profiler.cli.words import AsJSON
from profiler.core.store import KINDS, Store, StoredEntry, Stray, cache_folder, remove_file
from profiler.core.wording import counted
from profiler.errors import CheckFailed, OutputError, UsageError

ALL_KINDS = (*KINDS, "llm", "downloads")
DOWNLOADS = "imagenette2*"
"""Names, below ``datasets``, of what is downloaded."""
_DOOMED = ".removed-"
_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

commands = App(name="cache", help="Manage the cache folder: list, prune, clear, verify.")
app.add_typer(commands)


@dataclass(frozen=True)
class _Row:
    """One thing in the cache folder."""

    kind: str
    size: int
    used: float
    what: str
    name: str
    key: Mapping[str, Any]

    @property
    def cells(self) -> tuple[str, ...]:
        return self.kind, human_size(self.size), _date(self.used), self.what


@commands.command(
    "list",
    "profiler cache list",
)
def list_(as_json: AsJSON = False) -> None:
    """List what is kept: its kind, its size, when it was last used, and what it is.

    Fingerprints are shortened; --json has the whole keys. The kind "shards" are results of an
    interrupted run; the next run continues with them.
    """
    from profiler.core.json_text import json_text

    store = Store(cache_folder())
    rows = [
        *map(_row, store.entries()),
        *_llm_row(store.folder),
        *(_download_row(path) for path in _downloads(store.folder)),
    ]
    strays = store.strays()
    total = sum(row.size for row in rows) + sum(stray.size for stray in strays)
    if as_json:
        content = {
            "folder": str(store.folder),
            "bytes": total,
            "entries": [
                {
                    "kind": row.kind,
                    "name": row.name,
                    "bytes": row.size,
                    "last_used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.used)),
                    "what": row.what,
                    "key": row.key,
                }
                for row in rows
            ],
            "strays": [{"name": stray.path.name, "bytes": stray.size} for stray in strays],
        }
        typer.echo(json_text(content, None))
        return
    if not rows and not strays:
        typer.echo(f"nothing in {store.folder}")
        return
    if strays:
        size = human_size(sum(stray.size for stray in strays))
        left = f"{counted(len(strays), 'file')} of interrupted writers; profiler cache prune"
    _print(
        [
            ("kind", "size", "last used", "what"),
            *(row.cells for row in rows),
            *([("strays", size, "", left)] if strays else []),
            ("total", human_size(total), "", str(store.folder)),
        ]
    )


@commands.command(
    None,
    "profiler cache prune --older-than 30d --max-size 5GB",
)
def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            help="Remove results that were not used for this long: a number with s, min, "
            "h, d or w.",
            metavar="30d",
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            help="Remove results, the least recently used first, until the folder is no "
            "larger than this: a number with B, kB, MB, GB or TB.",
            metavar="5GB",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed.")
    ] = False,
) -> None:
    """Remove results that are old, too large together, or of no use.

    Always removed: damaged results, parts of a complete pass, and files that interrupted
    writers left more than an hour ago. Replies of language models and downloads stay; `profiler
    cache clear` removes them.
    """
    before = None if older_than is None else time.time() - _seconds(older_than)
    limit = None if max_size is None else _bytes(max_size)
    store = Store(cache_folder())
    doomed: list[tuple[StoredEntry | Stray, str]] = [
        (stray, "left by an interrupted writer") for stray in store.strays()
    ]
    kept = []
    entries = store.entries()
    faults = {entry.name: entry.fault() for entry in entries}
    replaced = {part for entry in entries if not faults[entry.name] for part in entry.replaces}
    for entry in entries:
        if faults[entry.name]:
            doomed.append((entry, faults[entry.name]))
        elif entry.name in replaced:
            doomed.append((entry, "its pass is complete"))
        elif before is not None and entry.used < before:
            doomed.append((entry, f"not used for {older_than}"))
        else:
            kept.append(entry)
    if limit is not None:
        size = sum(entry.size for entry in kept) + _size_of_others(store.folder)
        for entry in sorted(kept, key=lambda entry: entry.used):
            if size <= limit:
                break
            doomed.append((entry, f"more than {max_size}"))
            size -= entry.size
        if size > limit:
            typer.echo(
                f"{human_size(size)} of LLM replies and downloads stay; profiler cache clear "
                "--kind llm or downloads removes them",
                err=True,
            )
    freed = 0
    rows = []
    for item, why in doomed:
        if not dry_run:
            if (
                isinstance(item, StoredEntry)
                and (told := faults[item.name])
                and item.fault() != told
            ):
                continue  # another process has mended or removed it
            store.remove(item)
        freed += item.size
        row = _row(item) if isinstance(item, StoredEntry) else _stray_row(item)
        rows.append((*row.cells[:3], why, row.what))
    if not dry_run:
        freed += _remove_doomed(store.folder)
    if rows:
        _print([("kind", "size", "last used", "why", "what"), *rows])
    typer.echo(f"{'would free' if dry_run else 'freed'} {human_size(freed)} in {store.folder}")


@commands.command(
    None,
    "profiler cache clear --kind llm --yes",
)
def clear(
    kind: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(ALL_KINDS)}; may be given again.  [default: all]"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove everything, or everything of one kind.

    Results are computed again when they are needed; replies of language models have to be paid
    for again.
    """
    kinds = _kinds(kind)
    store = Store(cache_folder())
    items: list[StoredEntry | Stray] = [e for e in store.entries() if e.kind in kinds]
    items += [stray for stray in store.strays() if stray.path.parent.name in kinds]
    downloads = _downloads(store.folder) if "downloads" in kinds else []
    replies = [row for row in _llm_row(store.folder) if row.kind in kinds]
    size = sum(item.size for item in items) + sum(map(_tree_size, downloads))
    size += sum(row.size for row in replies)
    if not items and not downloads and not replies:
        typer.echo(f"nothing of {', '.join(kinds)} in {store.folder}")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("profiler cache clear needs --yes where nobody can be asked")
        question = f"Remove {human_size(size)} of {', '.join(kinds)} from {store.folder}?"
        if not typer.confirm(question, err=True):
            typer.echo("nothing was removed")
            return
    for item in items:
        store.remove(item)
    if replies:
        from profiler.llm.cache import clear_replies

        clear_replies(store.folder / "llm")
    for path in downloads:
        _remove_tree(path)
    if "downloads" in kinds:
        _remove_doomed(store.folder)
    typer.echo(f"freed {human_size(size)} in {store.folder}")


@commands.command(
    None,
    "profiler cache verify --remove",
)
def verify(
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove damaged results; the exit status is then 0.")
    ] = False,
) -> None:
    """Verify every checksum, and list what is damaged.

    Exit status 1 if anything is damaged. A run ignores damaged results and computes them again.
    """
    store = Store(cache_folder())
    entries = store.entries()
    damaged = [(entry, fault) for entry in entries if (fault := entry.fault())]
    replies, lost, unusable = _check_replies(store.folder, remove)
    lines = [(entry.name, fault, _row(entry).what) for entry, fault in damaged]
    lines += [(f"llm/{key[:32]}", "the reply is damaged", "") for key in lost]
    lines += [("llm", unusable, "")] if unusable else []
    _print(lines)
    if strays := store.strays():
        typer.echo(
            f"{counted(len(strays), 'file')} of interrupted writers; profiler cache prune", err=True
        )
    checked = counted(len(entries) + replies, "entry", "entries")
    if not lines:
        typer.echo(f"{checked}, all whole, in {store.folder}")
        return
    if remove:
        for entry, _ in damaged:
            store.remove(entry)
        typer.echo(
            f"removed {counted(len(damaged) + len(lost), 'damaged entry', 'damaged entries')}"
        )
        if not unusable:
            return
    elif not unusable:
        raise CheckFailed(
            f"{len(lines)} of {checked} in {str(store.folder)!r} damaged; --remove removes them"
        )
    raise CheckFailed(
        f"the LLM replies in {str(store.folder)!r} cannot be read; profiler cache clear --kind llm "
        "removes them"
    )


# --- what lies in the folder ----------------------------------------------------------------


def _row(entry: StoredEntry) -> _Row:
    return _Row(entry.kind, entry.size, entry.used, in_words(entry), entry.name, entry.key)


def _stray_row(stray: Stray) -> _Row:
    return _Row(stray.path.parent.name, stray.size, 0, stray.path.name, stray.path.name, {})


def in_words(entry: StoredEntry) -> str:
    """What an entry is, as far as its key tells; fingerprints are cut short."""
    if not entry.key:
        return "damaged record"
    parts = []
    for name, said in _PARTS.items():
        if name in entry.key:
            # Keys change with versions, and all of them lie side by side.
            try:
                parts.append(said(entry.key[name]))
            except (TypeError, ValueError, LookupError):
                parts.append(f"{name} as another version writes them")
    return ", ".join(filter(None, parts)) or "written by another version"


def _layers_in_words(layers: Sequence[Sequence[str]]) -> str:
    names = [str(layer[0]) for layer in layers]
    return f"{counted(len(names), 'layer')} ({', '.join(names[:3])}{', …' if names[3:] else ''})"


def _images_in_words(images: Sequence[int] | str | int) -> str:
    if isinstance(images, int):
        return counted(images, "image")
    if isinstance(images, str):
        return f"images {_short(images)}"
    start, stop = images
    return f"images {start} to {stop - 1}"


def _short(fingerprint: object) -> str:
    return re.sub(r"[0-9a-f]{16,}", lambda found: found[0][:8], str(fingerprint))


_PARTS: Mapping[str, Callable[[Any], str]] = {
    "pictures": lambda _: "pictures of scenes",
    "dead weights of": lambda subject: f"unused weights of {_short(subject)}",
    "subject": lambda subject: f"subject {_short(subject)}",
    "vlm": lambda vlm: f"vlm {_short(vlm)}",
    "probe": lambda probe: f"probe {_short(probe)}",
    "captions": lambda captions: f"captions {_short(captions)}",
    "change": lambda change: f"after {change}",
    "layers": _layers_in_words,
    "length": lambda length: f"top {length}",
    "matrices": lambda kept: "with matrices" if kept else "",
    "images": _images_in_words,
    "places": lambda places: f"part {places[0]} to {places[1] - 1}",
}
"""The parts of keys in words, in their order in a line."""


def _llm_row(folder: Path) -> list[_Row]:
    # Looked for first: whoever has no replies shall not wait for the client's import, and a
    # folder that is only looked at shall not get a cache.
    if not (folder / "llm" / "cache.db").is_file():
        return []
    from profiler.llm.cache import ReplyCache, reply_files

    files = [path.stat() for path in reply_files(folder / "llm") if path.exists()]
    size, used = sum(about.st_size for about in files), max(about.st_mtime for about in files)
    try:
        with closing(ReplyCache(folder / "llm")) as replies:
            number = len(replies)
    except OutputError:
        return [_Row("llm", size, used, "damaged or in use", "llm", {})]
    what = counted(number, "reply", "replies")
    return [_Row("llm", size, used, what, "llm", {})] if number else []


def _check_replies(folder: Path, remove: bool) -> tuple[int, list[str], str]:
    """How many replies there are, which of them are damaged, and whether all are lost."""
    if not (folder / "llm" / "cache.db").is_file():
        return 0, [], ""
    from profiler.llm.cache import ReplyCache

    try:
        with closing(ReplyCache(folder / "llm")) as replies:
            found = len(replies), replies.damaged(), ""
            if remove:
                replies.remove(found[1])
            return found
    except OutputError as error:
        return 0, [], str(error.__cause__ or error)


def _downloads(folder: Path) -> list[Path]:
    return sorted((folder / "datasets").glob(DOWNLOADS))


def _download_row(path: Path) -> _Row:
    used = path.lstat().st_mtime
    return _Row("downloads", _tree_size(path), used, path.name, f"datasets/{path.name}", {})


def _tree_size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _size_of_others(folder: Path) -> int:
    return sum(row.size for row in _llm_row(folder)) + sum(map(_tree_size, _downloads(folder)))


def _remove_tree(path: Path) -> None:
    """Remove a file or folder; nobody ever meets half of it under its name."""
    if path.is_symlink() or not path.is_dir():
        remove_file(path)
        return
    aside = path.with_name(f"{_DOOMED}{secrets.token_hex(8)}")
    try:
        path.rename(aside)
        shutil.rmtree(aside)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        raise OutputError(f"cannot remove {str(path)!r}: {error.strerror}") from error


def _remove_doomed(folder: Path) -> int:
    """Remove what an earlier removal was killed over; give its size."""
    size = 0
    for path in (folder / "datasets").glob(f"{_DOOMED}*"):
        size += _tree_size(path)
        with suppress(OSError):
            shutil.rmtree(path)
    return size


# --- numbers for people ---------------------------------------------------------------------


def human_size(size: float) -> str:
    """A size in bytes, to two or three digits.

    >>> human_size(999), human_size(1234), human_size(56_789_012)
    ('999 B', '1.2 kB', '57 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if round(size) < 1000:
            return f"{size:.1f} {unit}" if unit != "B" and size < 9.95 else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _bytes(text: str) -> int:
    return round(
        _amount(text, _SIZES, "--max-size", "size; write a number and B, kB, MB, GB or TB")
    )


def _seconds(text: str) -> float:
    return _amount(text, _SECONDS, "--older-than", "time; write a number and s, min, h, d or w")


def _amount(text: str, units: Mapping[str, int], option: str, wanted: str) -> float:
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", text)
    if not found or found[2].lower() not in units:
        raise UsageError(f"{option} {text!r} is no {wanted}")
    return float(found[1]) * units[found[2].lower()]


def _kinds(given: Iterable[str] | None) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(given or ALL_KINDS))
    for kind in kinds:
        if kind not in ALL_KINDS:
            raise UsageError(f"--kind {kind!r} is none of {', '.join(ALL_KINDS)}")
    return kinds


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""


def _print(rows: Iterable[tuple[str, ...]]) -> None:
    """Rows with aligned columns, sizes to the right."""
    rows = list(rows)
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sized = rows[0][1:2] == ("size",)
    for row in rows:
        cells = [
            cell.rjust(width) if sized and place == 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
