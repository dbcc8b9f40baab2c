"""Results kept by content: whole or absent, and never mistaken for another's."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from profiler.errors import OutputError
from profiler.store import Store, cache_folder, write_atomically

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
    assert store.get("images", KEY) is None
    assert store.get("texts", KEY | {"vlm": "other"}) is None
    assert store.get("texts", KEY | {"more": 1}) is None


def test_the_order_of_a_key_does_not_matter(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    assert store.get("texts", dict(reversed(KEY.items()))) is not None


def test_the_key_stands_beside_the_file(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    record = json.loads(entry(store).with_suffix(".json").read_text())
    assert record["key"] == KEY


def test_the_last_one_put_counts(store: Store) -> None:
    store.put("texts", KEY, {"rows": np.ones(3)})
    store.put("texts", KEY, {"rows": np.zeros(5)})
    kept = store.get("texts", KEY)
    assert kept is not None
    assert kept["rows"].tolist() == [0] * 5
    assert len(files(store)) == 2, "no temporary file is left"


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


@pytest.mark.parametrize("record", ["", "{", "{}", "[]", "7", "null", '{"sha256": 3}', "\xff\xfe"])
def test_a_damaged_record_makes_an_entry_absent(store: Store, record: str) -> None:
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    entry(store).with_suffix(".json").write_text(record, encoding="latin-1")
    assert store.get("texts", KEY) is None


def test_arrays_without_their_record_are_half_an_entry(store: Store) -> None:
    """The record is written last: where it is missing, the writer was interrupted."""
    store.put("texts", KEY, {"rows": np.arange(6.0)})
    entry(store).with_suffix(".json").unlink()
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
        "from profiler.store import Store\n"
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
