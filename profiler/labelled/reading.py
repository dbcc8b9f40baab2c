"""Images and their labels as the data writes them: a folder tree or a CSV."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import InputError
from profiler.inputs import ImageFolder, image_files
from profiler.labelled.text import as_text, counted, listed, rows_of, text_of


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
    come in the order a person would put them (2 before 10). What begins with a dot is passed
    over. A CSV has the columns ``path`` and ``label``; other columns are ignored; paths are
    relative to the CSV, and the images keep its order.

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
    try:
        inside = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be read: {error.strerror}") from error
    classes = [entry.name for entry in inside if entry.is_dir()]
    # A subset of a large set is often made of links to its class folders.
    links = [entry for entry in inside if entry.is_symlink() and entry.is_dir()]
    files = list(image_files(folder))
    files += [f"{link.name}/{file}" for link in links for file in image_files(link)]
    loose = sorted((file for file in files if "/" not in file), key=natural)
    if loose:
        raise InputError(
            f"images directly in {str(folder)!r}: {listed(loose)}; put each into a subfolder "
            "named after its class, or give a CSV with the columns path,label"
        )
    if not files:
        ImageFolder.open(folder)  # says what was looked for
    files.sort(key=natural)
    images = ImageFolder(folder, tuple(files), folder.resolve().name)
    filled = {file.split("/", 1)[0] for file in files}
    return Found(
        images,
        tuple(name.split("/", 1)[0] for name in images.names),
        tuple(as_text(name) for name in sorted(set(classes) - filled, key=natural)),
    )


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """For sorting as people do: "img-10" after "img-9", folder by folder.

    >>> sorted(["b10", "b9", "a"], key=natural)
    ['a', 'b9', 'b10']
    """
    parts = re.split(r"([0-9]+)", name.casefold().replace("/", "\0"))
    # The name itself decides between "01" and "1", so that the order is the same everywhere.
    return [(1, int(p), "") if i % 2 else (0, 0, p) for i, p in enumerate(parts)], name


def _of_table(path: Path) -> Found:
    rows = _table(path, text_of(path, "table of images"))
    files: list[str] = []
    labels: list[str] = []
    lines: dict[str, int] = {}
    absent: list[str] = []
    twice: list[str] = []
    for line, name, label in rows:
        file = _existing(path.parent, name)
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
            f"{path.name}: {counted(absent, 'file')} not there: {listed(absent, quote=False)}; "
            f"paths are relative to {str(path.parent)!r}"
        )
    if twice:
        raise InputError(
            f"{path.name}: {counted(twice, 'image')} listed twice: {listed(twice, quote=False)};"
            " give each image once, with one label"
        )
    return Found(ImageFolder(path.parent, tuple(files), path.name), tuple(labels))


def _existing(folder: Path, name: str) -> str | None:
    """The path as this system writes it, or None where there is no such file."""
    for candidate in (name, name.replace("\\", "/")):  # as Windows writes it
        if (folder / candidate).is_file():
            return candidate
    return None


def _table(path: Path, text: str) -> list[tuple[int, str, str]]:
    """Line, path and label of each row."""
    wanted = ("path", "label")
    rows = rows_of(path, text)
    header = [cell.casefold() for cell in next(rows, (1, []))[1]]
    for column in wanted:
        if header.count(column) != 1:
            raise InputError(
                f"{path.name}, line 1: the header must name the columns path and label once each, "
                f"got {','.join(header)[:80]!r}"
            )
    where = [header.index(column) for column in wanted]
    found: list[tuple[int, str, str]] = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(
                f"{path.name}, line {line}: {len(cells)} fields, but the header has {len(header)}; "
                "a field that holds the separator needs quotes"
            )
        name, label = (cells[i] for i in where)
        for column, value in zip(wanted, (name, label), strict=True):
            if not value:
                raise InputError(f"{path.name}, line {line}: the {column} is empty")
        found.append((line, name, label))
    if not found:
        raise InputError(f"{path.name} lists no image: there is nothing below its header")
    return found
