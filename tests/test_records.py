"""What is written is read back, by one way for every record; what cannot be read is said so."""

import json
import pkgutil
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from command import Command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import profiler
from profiler.core.json_text import check_format, from_plain, json_text, parse_json, read_json
from profiler.errors import InputError
from profiler.guard.guard import Guard
from profiler.llm.base import Usage
from profiler.profile.result import Record, load_run
from profiler.profile.sorting.sorting import Sorting
from profiler.profile.threshold import Threshold, read_threshold
from profiler.spec.check import verify

# --- every record ----------------------------------------------------------------------------

READ_BACK = (Record, Threshold, Sorting, Usage)
"""What our own files are read into."""
WITH_ARRAYS = {"RuleRecord"}
"""Named a record, but never a part of a file: what it holds is written as shares."""


def records() -> list[type]:
    """Every dataclass called a record, and every one that a file is read into."""
    found: dict[str, type] = {}

    def visit(hint: Any) -> None:
        for inner in get_args(hint):
            visit(inner)
        if is_dataclass(hint) and isinstance(hint, type) and hint.__name__ not in found:
            if hint.__name__ in WITH_ARRAYS:
                return
            found[hint.__name__] = hint
            for each in get_type_hints(hint).values():
                visit(each)

    for kind in READ_BACK:
        visit(kind)
    for module in pkgutil.walk_packages(profiler.__path__, "profiler."):
        if not module.name.endswith("__main__"):
            for name, kind in vars(import_module(module.name)).items():
                if name.endswith("Record") and not name.startswith("_"):
                    visit(kind)
    return [kind for _, kind in sorted(found.items())]


FLOATS = st.floats(allow_nan=False)
TEXTS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=3,
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type hint; fails for a kind of hint that no record has had so far."""
    plain = {str: TEXTS, int: st.integers(-(2**60), 2**60), float: FLOATS, bool: st.booleans()}
    if hint in plain:
        return plain[hint]
    if hint is Any:
        return JSON
    if hint in (None, type(None)):
        return st.none()
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{each.name: values(hints[each.name]) for each in fields(hint)})
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, inner))
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple and inner[1:] == (...,):
        return st.lists(values(inner[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, inner))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=2)
    raise NotImplementedError(f"no values for {hint}")


def test_the_records_are_found() -> None:
    names = {kind.__name__ for kind in records()}
    assert {"Record", "VLMRecord", "VocabularyRecord", "ClassifierRecord", "Threshold"} <= names
    assert {"RatingBasis", "Resorting", "Sorting", "Usage"} <= names


@pytest.mark.parametrize("kind", records(), ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_record_is_read_as_it_was_written(kind: type, data: st.DataObject) -> None:
    made = data.draw(values(kind))
    assert from_plain(kind, parse_json(json_text(made))) == made


class Side(IntEnum):
    LEFT = 0


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), "null"),
        (np.float32("inf"), '"Infinity"'),
        (-np.inf, '"-Infinity"'),
        (np.arange(2), "[0, 1]"),
        (np.bool_(True), "true"),
        ({np.int64(3): np.float64(0.5)}, '{"3": 0.5}'),
        ({"b", "a"}, '["a", "b"]'),
        (PurePosixPath("a/b"), '"a/b"'),
        (Side.LEFT, '"left"'),
        (Usage(1), '{"requests": 1, "cached": 0, "prompt_tokens": 0, "completion_tokens": 0, '
         '"cost": 0.0}'),
        ("name-\udcff.png", '"name-\\\\udcff.png"'),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)  # fmt: skip
def test_what_json_lacks_has_one_form(value: Any, written: str) -> None:
    assert json_text(value, None) == written
    json_text(value).encode("utf-8")


def test_what_has_no_form_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError, match="JSON has no function"):
        json_text(lambda: 0)


# --- files that are not what they should be --------------------------------------------------

DAMAGED = {
    "empty": b"",
    "blank": b"  \n",
    "cut off": b'{"format": 1, "record": {"command": "profi',
    "deep": b"[" * 100_000,
    "deep and whole": b"[" * 20_000 + b"]" * 20_000,
    "deep objects": b'{"format":' * 500 + b"1" + b"}" * 500,
    "not text": b"\xff\xfe\x00\x01",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "long number": b'{"format": ' + b"9" * 5000 + b"}",
    "foreign": b'{"name": "package", "version": "1.0"}',
    "newer": b'{"format": 99, "value": 1}',
    "strange format": b'{"format": [1]}',
    "nothing but a format": b'{"format": 1}',
    "nothing but format 2": b'{"format": 2}',
    "wrong kinds": b'{"format": 2, "record": 3, "value": [], "source": 1}',
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
}


def a_run(folder: Path, content: bytes) -> None:
    (folder / "run.json").write_bytes(content)
    load_run(folder)


def a_threshold(folder: Path, content: bytes) -> None:
    (folder / "threshold.json").write_bytes(content)
    read_threshold(str(folder / "threshold.json"))


def certificates(folder: Path, content: bytes) -> None:
    (folder / "certificates.json").write_bytes(content)
    verify(folder / "certificates.json")


def a_guard(folder: Path, content: bytes) -> None:
    (folder / "guard.safetensors").write_bytes(content)
    Guard.load(folder / "guard.safetensors")


def what_a_guard_says(folder: Path, content: bytes) -> None:
    said = {"guard": content.decode("latin-1")}
    save_file({"right": np.zeros(2)}, folder / "guard.safetensors", said)
    Guard.load(folder / "guard.safetensors")


def an_outcome(folder: Path, content: bytes) -> None:
    (folder / "check.json").write_bytes(content)
    check_format(read_json(folder / "check.json", "outcome", (3,)), "x", "outcome", (3,))


READERS: tuple[Callable[[Path, bytes], None], ...] = (
    a_run, a_threshold, certificates, a_guard, what_a_guard_says, an_outcome,
)  # fmt: skip


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@pytest.mark.parametrize("what", DAMAGED)
def test_a_file_that_is_something_else_is_one_clear_line(
    read: Callable[[Path, bytes], None], what: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, DAMAGED[what])
    said = str(error.value)
    assert "\n" not in said
    assert str(tmp_path) in said
    assert len(said) < 400


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(content=st.binary(max_size=60) | JSON.map(lambda each: json.dumps(each).encode()))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_content_ends_in_another_error(
    read: Callable[[Path, bytes], None], content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        read(tmp_path, content)


def test_a_newer_file_is_said_to_be_newer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a run of format 99, which a newer profiler wrote; "
                       r"this version reads 2"):  # fmt: skip
        a_run(tmp_path, b'{"format": 99}')


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_json(tmp_path, "outcome")


@pytest.mark.parametrize("call", ["compare", "rate", "calibrate", "categorize"])
def test_a_damaged_run_is_exit_two_in_every_command(
    call: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_bytes(DAMAGED["deep"])
    done = command(call, *([tmp_path] * (2 if call == "compare" else 1)))
    assert done.status == 2
    assert done.error == f"run {str(tmp_path / 'run.json')!r} is damaged: it is nested too deeply"
