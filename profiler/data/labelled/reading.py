"""Images and their labels as the data writes them: a folder tree or a CSV."""

import os
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from profiler.core.text import Table, listed, text_of
from profiler.core.wording import are, counted
from profiler.data.images import (
    ARCHIVES,
    ImageFolder,
    as_text,
    is_by_product,
    list_images,
    no_folder,
)
from profiler.errors import InputError


@dataclass(frozen=True)
class Found:
    """Images and their labels as the data writes them."""

    images: ImageFolder
    labels: tuple[str, ...]
    """One an image, in the same order."""
    empty: tuple[str, ...] = ()
    """Class folders in which there is no image."""


def find_labelled(path: Path) -> Found:
    """The images of a folder with a subfolder a class, or of a CSV, with their labels.

    In a folder, images belong to the subfolder of the first level they lie in, however deep, and
    come in the order a person would put them (2 before 10);
    :func:`profiler.data.images.list_images` says which files these are. A CSV
    (:class:`profiler.core.text.Table`) has the columns ``path`` and ``label``; other columns are
    ignored; paths are relative to the CSV, and the images keep its order.

    Raises:
        InputError: no such folder or file; images outside any class folder; no image; rows that
            are incomplete, twice there, or name a file that does not exist.
    """
    if path.is_dir():
        return _of_folder(path)
    if path.is_file():
        return _of_table(path)
    raise InputError(
        f"{str(path)!r} does not exist; --data needs a folder with a subfolder for each class, or "
        "a CSV with the columns path,label"
    )


def _of_folder(folder: Path) -> Found:
    found = list_images(folder)
    loose = sorted((file for file in found.files if "/" not in file), key=natural)
    if loose:
        raise InputError(
            f"images directly in {str(folder)!r}: {listed(loose)}; put each into a subfolder "
            "named after its class, or give a CSV with the columns path,label"
        )
    files = tuple(sorted(found.files, key=natural))
    images = ImageFolder(folder, files, folder.resolve().name, found.notes)
    labels = tuple(name.split("/", 1)[0] for name in images.names)
    empty = [name for name in class_folders(folder) if name not in set(labels)]
    return Found(images, labels, tuple(empty))


def class_folders(folder: Path) -> list[str]:
    """The folders of the first level, in the order a person would put them."""
    try:
        inside = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be read: {error.strerror}") from error
    return sorted({as_text(name) for name in inside if not is_by_product(name)}, key=natural)


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """For sorting as people do: "img-10" after "img-9", folder by folder.

    >>> sorted(["b10", "b9", "a"], key=natural)
    ['a', 'b9', 'b10']
    """
    parts = re.split(r"([0-9]+)", name.casefold().replace("/", "\0"))
    # The name itself decides between "01" and "1", so that the order is the same everywhere.
    return [(1, int(p), "") if i % 2 else (0, 0, p) for i, p in enumerate(parts)], name


def _of_table(path: Path) -> Found:
    if path.suffix.lower() in ARCHIVES:
        raise InputError(f"{str(path)!r} {no_folder(path)}")
    files: list[str] = []
    labels: list[str] = []
    lines: dict[str, int] = {}
    absent: list[str] = []
    twice: list[str] = []
    for line, (name, label) in filled(path, "path", "label"):
        file = existing(path.parent, name)
        if file is None:
            absent.append(f"{name!r} (line {line})")
            continue
        place = os.path.normpath(file)
        if place in lines:
            twice.append(f"{name!r} (lines {lines[place]} and {line})")
        lines.setdefault(place, line)
        files.append(file)
        labels.append(label)
    if absent:
        raise InputError(
            f"{path.name}: {counted(len(absent), 'file')} {are(len(absent))} not there: "
            f"{listed(absent, quote=False)}; "
            f"paths are relative to {str(path.parent)!r}"
            + ("; those with a drive belong to another machine" if _DRIVE.match(absent[0]) else "")
        )
    if twice:
        raise InputError(
            f"{path.name}: {counted(len(twice), 'image')} {are(len(twice))} listed twice: "
            f"{listed(twice, quote=False)};"
            " give each image once, with one label"
        )
    return Found(ImageFolder(path.parent, tuple(files), path.name), tuple(labels))


_DRIVE = re.compile(r"'[A-Za-z]:[\\/]")


def existing(folder: Path, name: str) -> str | None:
    """The path as this system writes it, or None where there is no such file."""
    for spelled in (name, name.replace("\\", "/")):  # as Windows writes it
        for form in ("NFC", "NFD"):  # as file systems keep accents
            candidate = unicodedata.normalize(form, spelled)
            for each in dict.fromkeys((spelled, candidate)):
                with suppress(OSError, ValueError):
                    if (folder / each).is_file():
                        return each
    return None


def filled(path: Path, *columns: str) -> list[tuple[int, list[str]]]:
    """Of each row of a table of images, its line and what stands in these columns.

    Raises:
        InputError: it cannot be read, lacks a column or a cell of them, or has no row.
    """
    table = Table.parse(text_of(path, "table of images"), path.name, columns)
    where = {column: table.at(column) for column in columns}
    for line, cells in table.rows:
        for column, place in where.items():
            if not cells[place]:
                raise InputError(f"{path.name}, line {line}: the {column} is empty")
    if not table.rows:
        raise InputError(f"{path.name} lists no image: there is nothing below its header")
    return [(line, [cells[place] for place in where.values()]) for line, cells in table.rows]
