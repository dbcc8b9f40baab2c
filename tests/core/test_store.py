"""Results kept by content: whole or absent, and never mistaken for another's."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from profiler.core.store import RowStream, Store, StoredRows, cache_folder, write_atomically
from profiler.errors import OutputError, ResourceError

KEY = {"vlm": "tiny", "captions": "abc"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def files(store: Store) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def entry(store: Store) -> Path:
    """The arrays' file of the only entry."""
    (path,) = (path for path in files(store) if path.suffix == ".safetensors")
    return path


def record(store: Store) -> Path:
    """The record of the only entry."""
    (path,) = (path for path in files(store) if path.suffix == ".json")
    return path


@given(
    array=arrays.arrays(
        st.sampled_from([np.float32, np.int64, np.bool_, np.uint8, np.float64]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
@settings(max_examples=40, deadline=None)
def test_what_was_put_is_what_comes_back(
    array: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.put("texts", KEY, {"rows": array, "turned": array.T})
    kept = store.get("texts", KEY)
    assert kept is not None
    assert kept["rows"].dtype == array.dtype
    np.testing.assert_array_equal(kept["rows"], array)
    np.testing.assert_array_equal(kept["turned"], array.T)


def test_nothing_was_put(store: Store) -> None:
    assert store.get("texts", KEY) is None


def test_another_key_or_kind_finds_nothing(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    assert store.get("passes", KEY) is None
    assert store.get("texts", KEY | {"vlm": "other"}) is None
    assert store.get("texts", KEY | {"more": 1}) is None


def test_the_order_of_a_key_does_not_matter(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    assert store.get("texts", dict(reversed(KEY.items()))) is not None


def test_the_key_stands_beside_the_file(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    assert json.loads(record(store).read_text())["key"] == KEY


def test_the_first_one_put_counts(store: Store) -> None:
    """Another may differ in the last bits of a sum, and what is there has perhaps been read."""
    store.put("texts", KEY, {"rows": np.ones(3)})
    store.put("texts", KEY, {"rows": np.zeros(5)})
    kept = store.get("texts", KEY)
    assert kept is not None
    assert kept["rows"].tolist() == [1] * 3
    assert len(files(store)) == 2, "no temporary file is left"


def test_a_kind_that_nobody_looks_after_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="'images' is no kind of entry; known: passes, shards"):
        store.put("images", KEY, {"rows": np.ones(3)})


@pytest.mark.parametrize("place", [0, 12, -1])
def test_one_changed_byte_makes_an_entry_absent(store: Store, place: int) -> None:
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    data = bytearray(entry(store).read_bytes())
    data[place] ^= 1
    entry(store).write_bytes(bytes(data))
    assert store.get("texts", KEY) is None


@pytest.mark.parametrize("length", [0, 5, 40])
def test_half_a_file_is_none(store: Store, length: int) -> None:
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    entry(store).write_bytes(entry(store).read_bytes()[:length])
    assert store.get("texts", KEY) is None


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "7", "null", '{"sha256": 3}', "\xff\xfe"])
def test_a_damaged_record_makes_an_entry_absent(store: Store, text: str) -> None:
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    record(store).write_text(text, encoding="latin-1")
    assert store.get("texts", KEY) is None


@pytest.mark.parametrize(
    "change", [{"key": {"vlm": "tinz"}}, {"key": 7}, {"sha256": "../../x"}, {"sha256": "0" * 64}]
)
def test_a_record_that_says_something_else_makes_an_entry_absent(
    store: Store, change: dict[str, Any]
) -> None:
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    record(store).write_text(json.dumps(json.loads(record(store).read_text()) | change))
    assert store.get("texts", KEY) is None
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    assert store.get("texts", KEY) is not None


def test_arrays_without_their_record_are_half_an_entry(store: Store) -> None:
    """The record is written last: where it is missing, the writer was interrupted."""
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    record(store).unlink()
    assert store.get("texts", KEY) is None


def test_a_damaged_entry_can_be_put_again(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    entry(store).write_bytes(b"")
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    assert store.get("texts", KEY) is not None


def test_processes_that_put_the_same_entry_at_once(store: Store) -> None:
    """Whoever comes last, a reader meets a whole entry."""
    program = (
        "import sys, pathlib, numpy as np\n"
        "from profiler.core.store import Store\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        f"for _ in range(30): store.put('texts', {KEY!r}, {{'rows': np.arange(5000.0)}})\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(store.folder)]) for _ in range(2)
    ]
    met = 0
    while any(writer.poll() is None for writer in writers):
        kept = store.get("texts", KEY)
        if kept is not None:
            met += 1
            assert len(kept["rows"]) == 5000
    assert [writer.returncode for writer in writers] == [0, 0]
    assert met
    assert store.get("texts", KEY) is not None
    assert len(files(store)) == 2


def test_writers_that_differ_in_the_last_bits_leave_one_whole_entry(store: Store) -> None:
    """The second begins when the first has written its arrays, but not yet its record."""
    other = Store(store.folder)

    def blocks() -> Iterator[np.ndarray[Any, Any]]:
        yield np.full((2, 2), 1, np.float32)
        other.put("texts", KEY, {"rows": np.full((2, 2), 2, np.float32)})

    store.put("texts", KEY, {"rows": RowStream((2, 2), blocks())})
    kept = store.get("texts", KEY)
    assert kept is not None
    assert kept["rows"].tolist() in ([[1, 1], [1, 1]], [[2, 2], [2, 2]])
    assert [each.fault() for each in store.entries()] == [""]


def test_processes_that_put_different_bits_at_once(store: Store) -> None:
    program = (
        "import sys, pathlib, numpy as np\n"
        "from profiler.core.store import Store\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "for i in range(60):\n"
        f"    key, rows = {KEY!r} | {{'i': i}}, np.full(5000, int(sys.argv[2]))\n"
        "    store.put('texts', key, {'rows': rows})\n"
        "    assert store.get('texts', key) is not None\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(store.folder), str(value)])
        for value in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(store.entries()) == 60
    assert not any(each.fault() for each in store.entries())


# --- arrays that stay on disk ----------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_stored_rows_read_like_an_array(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5))
    array = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-9, 9, width=32)))
    store = Store(tmp_path_factory.mktemp("store"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(array)), max_size=3)))
    stream = RowStream(array.shape, np.split(array, cuts))
    store.put("passes", KEY, {"0.matrix": stream, "other": array[:1]})
    kept = store.get("passes", KEY, on_disk=("matrix",))
    assert kept is not None
    rows = kept["0.matrix"]
    assert isinstance(rows, StoredRows)
    assert (len(rows), rows.shape) == (len(array), array.shape)
    chosen = data.draw(st.lists(st.integers(0, max(len(array) - 1, 0)), max_size=4))
    if len(array):
        np.testing.assert_array_equal(rows[np.array(chosen, dtype=int)], array[chosen])
    np.testing.assert_array_equal(rows[1:3], array[1:3])
    np.testing.assert_array_equal(rows[:], array)
    np.testing.assert_array_equal(rows.whole(), array)
    assert isinstance(kept["other"], np.ndarray)


def test_an_entry_can_be_read_by_the_library_of_the_format(store: Store) -> None:
    from safetensors.numpy import load_file

    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    store.put("texts", KEY, {"a": RowStream((3, 2), [rows[:1], rows[1:]]), "b": np.arange(4)})
    found = load_file(entry(store))
    np.testing.assert_array_equal(found["a"], rows)
    np.testing.assert_array_equal(found["b"], np.arange(4))


@pytest.mark.parametrize("rows", [2, 4])
def test_a_stream_that_does_not_keep_its_word_leaves_nothing(store: Store, rows: int) -> None:
    block = np.zeros((rows, 2), np.float32)
    with pytest.raises(ValueError, match=f"{rows * 8} bytes of rows where 24 were announced"):
        store.put("texts", KEY, {"rows": RowStream((3, 2), [block])})
    assert files(store) == []


@pytest.mark.parametrize("cut", [True, False])
def test_rows_that_vanish_while_in_use_are_one_line(store: Store, cut: bool) -> None:
    store.put("passes", KEY, {"rows": np.ones((500, 9), np.float32)})
    kept = store.get("passes", KEY, on_disk=("rows",))
    assert kept is not None
    if cut:
        entry(store).write_bytes(entry(store).read_bytes()[:300])
    else:
        store.drop("passes", KEY)
    with pytest.raises(ResourceError, match="was removed or damaged while it was in use; run the"):
        kept["rows"][3:7]


# --- looking after what is kept --------------------------------------------------------------


def test_entries_tell_what_they_are(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    store.put("shards", KEY, {"rows": np.ones(3)})
    shard, text = store.entries()
    assert (shard.kind, text.kind) == ("shards", "texts")
    assert (text.key, text.replaces, text.fault()) == (KEY, (), "")
    assert text.size == sum(path.stat().st_size for path in (store.folder / "texts").iterdir())
    store.put("passes", KEY, {"rows": np.ones(3)}, replaces=[("shards", KEY)])
    assert store.entries()[0].replaces == (shard.name,)


def test_using_an_entry_makes_it_young(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    written = entry(store).stat().st_mtime_ns
    os.utime(record(store), (0, 0))
    assert store.entries()[0].used == 0
    assert store.has("texts", KEY), "to look whether it is there is not to use it"
    assert store.entries()[0].used == 0
    store.get("texts", KEY)
    assert time.time() - store.entries()[0].used < 60
    assert entry(store).stat().st_mtime_ns == written


def test_a_cache_that_may_only_be_read_is_a_good_cache(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    store.put("texts", KEY, {"rows": np.ones(3)})
    monkeypatch.setattr("os.utime", refuse)
    assert store.get("texts", KEY) is not None


def test_an_entry_is_dropped_with_both_its_files(store: Store) -> None:
    store.drop("texts", KEY)  # where there is none
    store.put("texts", KEY, {"rows": np.ones(3)})
    store.drop("texts", KEY)
    assert store.get("texts", KEY) is None
    assert files(store) == []


def test_damage_is_named(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    (kept,) = store.entries()
    data = entry(store).read_bytes()
    entry(store).write_bytes(data[:-1])
    assert kept.fault() == "the arrays do not have the checksum on record"
    entry(store).unlink()
    assert kept.fault() == "the arrays are missing"
    record(store).write_text("{")
    assert kept.fault() == "the record is damaged"
    assert [(each.key, each.arrays) for each in store.entries()] == [({}, None)]
    record(store).unlink()
    assert kept.fault() == "there is no record"


def test_what_killed_writers_left_is_found_after_an_hour(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    left = [
        entry(store).with_name(f".{'a' * 32}.safetensors.{'0' * 16}"),
        entry(store).with_name(f".{'a' * 32}.json.{'0' * 16}"),
        entry(store).with_name(f"{'a' * 32}.{'0' * 16}.safetensors"),
        entry(store).with_name(f"{'a' * 32}.safetensors"),
    ]
    foreign = [
        entry(store).with_name(name) for name in ("notes.json", ".x.json.1", "a.safetensors")
    ]
    for path in (*left, *foreign):
        path.write_text("half")
    assert store.strays() == [], "they may be under way"
    for path in files(store):
        os.utime(path, (0, 0))
    assert sorted(stray.path for stray in store.strays()) == sorted(left)
    for stray in store.strays():
        store.remove(stray)
    assert store.get("texts", KEY) is not None
    assert len(files(store)) == 2 + len(foreign)


def test_a_writer_that_is_killed_leaves_nothing_but_a_temporary_file(store: Store) -> None:
    program = (
        "import os, signal, sys, pathlib, numpy as np\n"
        "from profiler.core.store import RowStream, Store\n"
        "def blocks():\n"
        "    yield np.zeros((1000, 9), np.float32)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"rows = RowStream((2000, 9), blocks())\n"
        f"Store(pathlib.Path(sys.argv[1])).put('texts', {KEY!r}, {{'rows': rows}})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(store.folder)], check=False)
    assert done.returncode == -9
    assert store.get("texts", KEY) is None
    assert store.entries() == []
    (left,) = files(store)
    os.utime(left, (0, 0))
    assert [stray.path for stray in store.strays()] == [left]


# --- writing ---------------------------------------------------------------------------------


def test_a_file_is_made_with_the_folders_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_atomically(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()


def test_a_file_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    write_atomically(tmp_path / "ours", "x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "ours")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("content", ["new", b"new"])
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"^cannot write '.*file/report\.html': [^\n]+$"):
        write_atomically(tmp_path / "file" / "report.html", content)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "report.html"
    folder.mkdir()
    (folder / "kept").touch()
    with pytest.raises(OutputError):
        write_atomically(folder, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_an_interrupted_write_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_handle: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_an_entry_that_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        Store(tmp_path / "file").put("texts", KEY, {"rows": np.ones(1)})


def test_the_cache_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("PROFILER_CACHE_DIR", "")
    assert cache_folder().is_absolute()
