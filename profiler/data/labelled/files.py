"""Files that name the outputs of a classifier, or say what labels mean."""

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.core.json_text import parse_json
from profiler.core.text import Table, listed, text_of, tidy
from profiler.data.labelled.matching import SPLITS
from profiler.data.labelled.memory import LabelledSequence
from profiler.data.labelled.names import SYNSET, ClassNames
from profiler.data.labelled.reading import class_folders
from profiler.errors import InputError

_NUMBERED = re.compile(r"\s*\"?([0-9]{1,9})\"?\s*[,;\t|]\s*(\S.*)", re.DOTALL)


def open_classes(
    classes: Path | Sequence[str] | None,
    outputs: int,
    names: Sequence[str] = (),
    data: Path | LabelledSequence | None = None,
) -> tuple[ClassNames, dict[str, str]]:
    """What the outputs are called, and what labels mean beside their names.

    Args:
        classes: names, one an output; or a file of either kind, told apart by its form; or None.
            *Names of the outputs*: text, one a line, plain or as ``index,name`` or ``synset name``;
            or JSON, a list, ``{index: name}`` or ``{name: index}``. *A mapping*: a CSV with the
            header ``label,class``, or JSON, ``{label: class}``.
        outputs: how many the classifier has.
        names: one an output, as the weights' own metadata name them.
        data: the labelled images. Where nothing names the outputs, and this is a folder with as
            many class folders, these are taken for the classes in their sorted order, as
            torchvision's ``ImageFolder`` and timm number them, if both sort them alike; the names
            then say so. Of images in memory, their own classes are taken for the outputs if
            there are as many, and the names say so, too.

    Returns:
        The names, and label → class (name, synset or index), empty without a mapping.

    Raises:
        InputError: the file cannot be used, or nothing says what the outputs are called.
    """
    if isinstance(data, LabelledSequence) and classes is None and len(data.classes) == outputs:
        own = ClassNames.of_list(data.classes, "the images' own classes").with_imagenet(
            synonyms=True
        )
        return replace(own, assumed=_assumed(outputs, "the classes of the images", own.names)), {}
    if classes is None:
        try:
            return ClassNames.of_outputs(outputs, names), {}
        except InputError as error:
            if names or not isinstance(data, Path) or not data.is_dir():
                raise
            return _of_folders(data, outputs, str(error)), {}
    if not isinstance(classes, Path):
        return _as_many("`classes`", classes, outputs), {}
    read = _read_classes(classes, outputs)
    if isinstance(read, ClassNames):
        return read, {}
    try:
        return ClassNames.of_outputs(outputs, names), read
    except InputError as error:
        raise InputError(
            f"{classes.name} says what labels mean, not what the model's {outputs} outputs are "
            "called, and nothing else does; give a file that names every output from 0 to "
            f"{outputs - 1}, one a line"
        ) from error


def _of_folders(data: Path, outputs: int, unnamed: str) -> ClassNames:
    folders = class_folders(data)
    if len(folders) != outputs or SPLITS & {name.casefold() for name in folders}:
        raise InputError(f"{unnamed}; {str(data)!r} has {len(folders)} class folders")
    if folders != sorted(folders):
        raise InputError(
            f"{unnamed}; {str(data)!r} has as many class folders, but torchvision and timm would "
            f"number them differently: from {listed(sorted(folders)[:3])} or {listed(folders[:3])}"
        )
    assumed = _assumed(outputs, "the class folders in their sorted order", folders)
    return replace(ClassNames.of_list(folders, "the class folders, sorted"), assumed=assumed)


def _assumed(outputs: int, order: str, names: Sequence[str]) -> str:
    return (
        f"nothing names the model's {outputs} outputs: they are assumed to be {order}, "
        f"{listed(names)}"
    )


def _read_classes(path: Path, outputs: int) -> ClassNames | dict[str, str]:
    text = text_of(path, "class file")
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        return _of_json(path, text, outputs)
    rows = [line.strip() for line in re.split(r"\r\n|\r|\n", text.rstrip())]
    if not rows[0] and len(rows) == 1:
        raise InputError(f"class file {str(path)!r} is empty; write the name of an output a line")
    if any({"label", "class"} <= _header(row) for row in rows[:2]):  # Excel's sep=; may be first
        return _mapping(path, text)
    for line, row in enumerate(rows, 1):
        if not row:
            raise InputError(
                f"{path.name}, line {line} is empty: every line is an output, so take the line out"
                " or write its name"
            )
    first = 1 if _header(rows[0]) & {"index", "id", "idx"} else 0
    body = rows[first:]
    if body and (first or _NUMBERED.fullmatch(body[0])):
        numbered = []
        for line, row in enumerate(body, first + 1):
            parts = _NUMBERED.fullmatch(row)
            if parts is None:
                raise InputError(
                    f"{path.name}, line {line}: {row[:40]!r} is not an index, a comma and a name, "
                    "as the lines before it are"
                )
            numbered.append((int(parts[1]), ", ".join(_cells(parts[2]))))
        return _in_order(path, numbered, outputs)
    with_synset = [bool(SYNSET.fullmatch(row)) for row in body]
    if with_synset and with_synset[0] and not all(with_synset):
        line = with_synset.index(False)
        raise InputError(
            f"{path.name}, line {line + 1}: {body[line][:40]!r} does not begin with a synset, as "
            "the lines before it do"
        )
    return _as_many(path.name, body, outputs)


def _of_json(path: Path, text: str, outputs: int) -> ClassNames | dict[str, str]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            raise InputError(
                f"{path.name}: given twice: {listed(twice)}; each may stand there once"
            )
        return dict(pairs)

    try:
        content = parse_json(text, once)
    except ValueError as error:
        raise InputError(f"class file {str(path)!r} is not JSON: {error}") from error
    if isinstance(content, list) and content:
        return _as_many(path.name, [_json_name(path, entry) for entry in content], outputs)
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"class file {str(path)!r} holds neither a list of names nor {{index: name}} nor "
            "{label: class}"
        )
    keys = {key: ClassNames.index_of(key) for key in content}
    indices = set(range(outputs))
    if all(type(value) is int for value in content.values()):
        if set(content.values()) == indices and len(content) == outputs and None in keys.values():
            return _in_order(path, [(value, key) for key, value in content.items()], outputs)
    elif None not in keys.values() and set(keys.values()) == indices:
        pairs = [(int(key), _json_name(path, value)) for key, value in content.items()]
        return _in_order(path, pairs, outputs)
    return {
        tidy(key): str(value) if type(value) is int else _json_name(path, value)
        for key, value in content.items()
    }


def _json_name(path: Path, value: object) -> str:
    """A name, or a list of synset and names, as one text."""
    parts = value if isinstance(value, list) else [value]
    texts = [part.strip() for part in parts if isinstance(part, str)]
    if not texts or not all(texts) or len(texts) < len(parts):
        raise InputError(f"{path.name}: {json.dumps(value)[:40]} is no class name")
    return ", ".join(texts)


def _in_order(path: Path, numbered: list[tuple[int, str]], outputs: int) -> ClassNames:
    counts = Counter(index for index, _ in numbered)
    twice = [str(index) for index, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"{path.name}: the index {listed(twice, quote=False)} is there twice")
    if 0 not in counts and max(counts) == outputs:
        raise InputError(
            f"{path.name}: the indices run up to {outputs} and leave out 0, but the model's "
            f"{outputs} outputs are counted from 0; take 1 from each"
        )
    absent = [str(index) for index in range(outputs) if index not in counts]
    beyond = [str(index) for index in counts if index >= outputs]
    if absent or beyond:
        what = (
            f"no name for {listed(absent, quote=False)}"
            if absent
            else (f"names for {listed(beyond, quote=False)}")
        )
        raise InputError(
            f"{path.name}: {what}, but the model's {outputs} outputs are 0 to {outputs - 1}"
        )
    return _named([name for _, name in sorted(numbered)], path.name)


def _as_many(source: str, entries: Sequence[str], outputs: int) -> ClassNames:
    if len(entries) != outputs:
        raise InputError(
            f"{source} names {len(entries)} classes, but the model has {outputs} outputs; write "
            "one name for each, in the order of the outputs"
        )
    return _named(entries, source)


def _named(entries: Sequence[str], source: str) -> ClassNames:
    # These names stay the only ones; images may be filed by synset all the same.
    return ClassNames.of_list(entries, source).with_imagenet(synonyms=False)


def _mapping(path: Path, text: str) -> dict[str, str]:
    table = Table.parse(text, path.name, ("label", "class"))
    places = table.at("label"), table.at("class")
    mapping: dict[str, str] = {}
    for line, cells in table.rows:
        row = [tidy(cells[place]) for place in places]
        if not all(row):
            raise InputError(
                f"{path.name}, line {line}: needs a label and a class, got {','.join(row)[:60]!r}"
            )
        if mapping.setdefault(row[0], row[1]) != row[1]:
            raise InputError(
                f"{path.name}, line {line}: {row[0]!r} was given as {mapping[row[0]]!r} before and "
                f"is {row[1]!r} here"
            )
    if not mapping:
        raise InputError(f"{path.name} maps no label: there is nothing below its header")
    return mapping


def _header(row: str) -> set[str]:
    return {cell.strip(' "').casefold() for cell in re.split(r"[,;\t|]", row)}


def _cells(row: str) -> list[str]:
    try:
        cells = next(csv.reader([row], strict=True, skipinitialspace=True), [])
    except csv.Error:
        return [row]  # a quotation mark in a plain name
    return [cell.strip() for cell in cells if cell.strip()]
