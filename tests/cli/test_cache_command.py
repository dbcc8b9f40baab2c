"""``profiler cache``: what is kept can be seen, checked and removed, and nothing else is."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from command import Command
from guard_samples import write_mixed
from tiny import CLASSES

from profiler.cli.cache import ALL_KINDS, human_size
from profiler.core.store import KINDS, Store
from profiler.llm.cache import ReplyCache, reply_files

SUBJECT, VLM, PROBE = "a1" * 32, "tiny-vlm-1", "b2" * 32
PASS = {
    "version": 2,
    "subject": SUBJECT,
    "vlm": VLM,
    "probe": PROBE,
    "images": 300,
    "layers": [["color", "mean"], ["fc", "none"]],
    "length": 100,
    "matrices": False,
}
SHARD = {name: value for name, value in PASS.items() if name != "probe"} | {
    "places": [0, 256],
    "contents": "e5" * 32,
}


@pytest.fixture
def store(cache: Path) -> Store:
    return Store(cache)


def put(store: Store, kind: str, key: dict[str, Any], size: int = 1000, age: float = 0) -> None:
    """Keep so many bytes, last used so many seconds ago."""
    parts = [("shards", SHARD)] if kind == "passes" else []
    store.put(kind, key, {"rows": np.zeros(size, np.uint8)}, replaces=parts)
    for entry in store.entries():
        if entry.key == key:
            os.utime(entry.record, (time.time() - age,) * 2)


def texts(store: Store) -> list[str]:
    """The captions of what is kept, the most recently used first."""
    return [str(entry.key["captions"]) for entry in store.entries() if entry.kind == "texts"]


def text(name: str) -> dict[str, Any]:
    return {"vlm": VLM, "captions": name}


def replies(cache: Path, count: int) -> None:
    kept = ReplyCache(cache / "llm")
    for number in range(count):
        kept.put(f"key-{number}", "an answer" * 100, {"model": "m"})
    kept.close()


def download(cache: Path) -> Path:
    folder = cache / "datasets" / "imagenette2-320"
    (folder / "val" / "n01").mkdir(parents=True)
    (folder / "val" / "n01" / "a.jpeg").write_bytes(b"x" * 5000)
    (cache / "datasets" / "imagenette2-320.tgz").write_bytes(b"x" * 3000)
    return folder


def strangers(cache: Path) -> list[Path]:
    """Files of somebody else's in the same folder: it may be a home folder."""
    names = [
        *("notes.txt", "passes/notes.json", f"passes/{'0' * 31}.json", "texts/.hidden"),
        *("datasets/mine.csv", "llm/prompt.txt", "llm/ab/cd/x.txt", f"other/{'0' * 32}.json"),
        f"passes/{'0' * 32}/deep.json",
    ]
    for name in names:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("not ours")
        os.utime(cache / name, (0, 0))
    return [cache / name for name in names]


def damage(store: Store, caption: str) -> Path:
    (entry,) = [entry for entry in store.entries() if entry.key.get("captions") == caption]
    assert entry.arrays is not None
    data = bytearray(entry.arrays.read_bytes())
    data[-1] ^= 1
    entry.arrays.write_bytes(bytes(data))
    return entry.record


def test_every_kind_can_be_cleared() -> None:
    assert (*KINDS, "llm", "downloads") == ALL_KINDS


@pytest.mark.parametrize("name", ["list", "prune", "clear --yes", "verify"])
def test_no_folder_is_an_empty_cache(command: Command, cache: Path, name: str) -> None:
    done = command("cache", *name.split())
    assert (done.status, done.stderr) == (0, "")
    assert str(cache) in done.stdout
    assert not cache.exists()


@pytest.mark.parametrize("name", ["list", "prune", "clear --yes", "verify"])
def test_a_cache_that_cannot_be_read_is_one_line(
    command: Command, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    put(store, "texts", text("a"))
    monkeypatch.setattr(Path, "iterdir", refuse)
    done = command("cache", *name.split())
    assert done.status == 3
    assert "cannot read" in done.error


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9951, "10 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (5_200_000_000, "5.2 GB"),
        (3_400_000_000_000, "3.4 TB"),
    ],
)
def test_sizes_for_people(size: int, said: str) -> None:
    assert human_size(size) == said


# --- list ------------------------------------------------------------------------------------


def test_a_row_for_each(command: Command, store: Store, cache: Path) -> None:
    put(store, "passes", PASS, 40_000, age=3600)
    put(store, "shards", SHARD | {"matrices": True})
    put(store, "embeddings", {"vlm": VLM, "probe": PROBE})
    put(store, "texts", text("c3" * 32), age=60)
    put(store, "texts", text("d4" * 32))
    replies(cache, 3)
    download(cache)
    strangers(cache)
    done = command("cache", "list")
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("kind", "passes", "shards", "embeddings", "texts", "texts", "llm"),
        *("downloads", "downloads", "total"),
    ]
    layers = "2 layers (color, fc), top 100"
    hour_ago = time.strftime("%Y-%m-%d", time.localtime(time.time() - 3600))
    assert lines[1].startswith(f"passes       41 kB  {hour_ago} ")
    assert lines[1].endswith(
        f"  subject a1a1a1a1, vlm tiny-vlm-1, probe b2b2b2b2, {layers}, 300 images"
    )
    assert lines[2].endswith(
        f"  subject a1a1a1a1, vlm tiny-vlm-1, {layers}, with matrices, 300 images, part 0 to 255"
    )
    assert [line.split()[-1] for line in lines[4:6]] == ["d4d4d4d4", "c3c3c3c3"]
    assert lines[3].endswith("  vlm tiny-vlm-1, probe b2b2b2b2")
    assert lines[6].endswith("  3 replies")
    assert lines[7].split()[1:3] == ["5.0", "kB"]
    column = lines[0].index("what")
    assert all(line[column - 2 : column] == "  " != line[column : column + 2] for line in lines)
    assert lines[-1].endswith(str(cache))


def test_the_same_as_json(command: Command, store: Store, cache: Path) -> None:
    put(store, "passes", PASS)
    download(cache)
    found = json.loads(command("cache", "list", "--json").stdout)
    assert found["folder"] == str(cache)
    assert [entry["kind"] for entry in found["entries"]] == ["passes", "downloads", "downloads"]
    assert found["entries"][0]["key"] == PASS
    assert found["bytes"] == sum(entry["bytes"] for entry in found["entries"])
    on_disk = [path for path in cache.rglob("*") if path.is_file()]
    assert found["bytes"] == sum(path.stat().st_size for path in on_disk)
    assert found["entries"][0]["last_used"].endswith("Z")


def test_looking_makes_no_files(command: Command, store: Store, cache: Path) -> None:
    put(store, "texts", text("a"), age=100)
    before = {path: path.stat().st_mtime for path in cache.rglob("*")}
    for name in ("list", "verify", "prune --dry-run --older-than 1s"):
        assert command("cache", *name.split()).status == 0
    assert {path: path.stat().st_mtime for path in cache.rglob("*")} == before


def test_broken_things_are_listed_too(command: Command, store: Store, cache: Path) -> None:
    put(store, "texts", text("a"))
    store.entries()[0].record.write_text("{")
    (cache / "llm").mkdir()
    (cache / "llm" / "cache.db").write_bytes(b"no database" * 100)
    done = command("cache", "list")
    assert done.status == 0
    assert "damaged record" in done.stdout
    assert "damaged or in use" in done.stdout


# --- prune -----------------------------------------------------------------------------------


def test_what_is_of_no_use_is_always_removed(command: Command, store: Store, cache: Path) -> None:
    put(store, "passes", PASS)
    put(store, "shards", SHARD)
    put(store, "shards", SHARD | {"contents": "another"})
    put(store, "texts", text("good"), age=10**8)
    put(store, "texts", text("bad"))
    record = damage(store, "bad")
    left = cache / "texts" / f".{'0' * 32}.json.{'0' * 16}"
    left.write_text("half")
    os.utime(left, (0, 0))
    young = cache / "texts" / f".{'1' * 32}.json.{'0' * 16}"
    young.write_text("half")
    foreign = strangers(cache)

    tried = command("cache", "prune", "--dry-run")
    assert tried.stdout.splitlines()[-1].startswith("would free ")
    assert record.exists()
    assert left.exists()
    done = command("cache", "prune")
    assert done.status == 0, done.stderr
    assert done.stdout.replace("freed", "would free") == tried.stdout
    for why in ("left by an interrupted writer", "its pass is complete", "checksum on record"):
        assert done.stdout.count(why) == 1
    assert len(done.stdout.splitlines()) == 1 + 3 + 1
    assert [entry.kind for entry in store.entries()] == ["passes", "shards", "texts"]
    assert store.entries()[1].key["contents"] == "another"
    assert texts(store) == ["good"]
    assert not left.exists()
    assert young.exists()
    assert all(path.exists() for path in foreign)
    assert command("cache", "prune").stdout == f"freed 0 B in {cache}\n"


def test_old_results_are_removed(command: Command, store: Store) -> None:
    for name, days in (("new", 0), ("middle", 20), ("old", 40)):
        put(store, "texts", text(name), age=days * 86400)
    assert "not used for 30d" in command("cache", "prune", "--older-than", "30d").stdout
    assert texts(store) == ["new", "middle"]
    command("cache", "prune", "--older-than", "1.5 W")
    assert texts(store) == ["new"]
    store.get("texts", text("new"))
    command("cache", "prune", "--older-than", "30min")
    assert texts(store) == ["new"]


def test_the_least_recently_used_go_first(command: Command, store: Store) -> None:
    for age, name in enumerate("dcba"):
        put(store, "texts", text(name), 10_000, age=100 * age)
    store.get("texts", text("a"))  # the oldest is used once more
    done = command("cache", "prune", "--max-size", "25 kB")
    assert done.status == 0
    assert sorted(texts(store)) == ["a", "d"]
    assert sum(entry.size for entry in store.entries()) <= 25_000
    assert done.stdout.count("more than 25 kB") == 2
    command("cache", "prune", "--max-size", "0MB")
    assert texts(store) == []


def test_replies_and_downloads_count_but_stay(command: Command, store: Store, cache: Path) -> None:
    replies(cache, 2)
    folder = download(cache)
    put(store, "texts", text("a"))
    done = command("cache", "prune", "--max-size", "1 KiB", "--older-than", "0s")
    assert done.status == 0
    assert "of LLM replies and downloads stay; profiler cache clear" in done.stderr
    assert texts(store) == []
    assert folder.exists()
    assert len(ReplyCache(cache / "llm")) == 2


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--max-size", "5", "size; write a number and B, kB"),
        ("--max-size", "5 elephants", "size"),
        ("--max-size", "-5GB", "size"),
        ("--older-than", "30", "time; write a number and s, min"),
        ("--older-than", "d", "time"),
        ("--older-than", "3 months", "time"),
    ],
)
def test_amounts_that_say_nothing(
    command: Command, store: Store, option: str, value: str, wanted: str
) -> None:
    put(store, "texts", text("a"))
    done = command("cache", "prune", option, value)
    assert done.status == 2
    assert f"{option} {value!r} is no {wanted}" in done.error
    assert texts(store) == ["a"]


def test_a_file_that_cannot_be_removed_is_one_line(
    command: Command, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    put(store, "texts", text("a"), age=100)
    monkeypatch.setattr(Path, "unlink", refuse)
    done = command("cache", "prune", "--older-than", "1s")
    assert done.status == 3
    assert done.error.startswith("cannot remove '")
    assert done.error.endswith("Permission denied")


# --- clear -----------------------------------------------------------------------------------


@pytest.fixture
def full(store: Store, cache: Path) -> Store:
    put(store, "passes", PASS)
    put(store, "shards", SHARD)
    put(store, "embeddings", {"vlm": VLM, "probe": PROBE})
    put(store, "texts", text("a"))
    replies(cache, 2)
    download(cache)
    return store


def present(cache: Path) -> list[str]:
    """The kinds of which there is something."""
    kinds = [entry.kind for entry in Store(cache).entries()]
    if any(path.suffix == ".val" for path in reply_files(cache / "llm")) or (
        (cache / "llm").exists() and len(ReplyCache(cache / "llm"))
    ):
        kinds.append("llm")
    if list((cache / "datasets").glob("imagenette*")):
        kinds.append("downloads")
    return kinds


def test_everything_of_ours_and_nothing_else(command: Command, full: Store, cache: Path) -> None:
    foreign = strangers(cache)
    done = command("cache", "clear", "--yes")
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("freed ")
    assert present(cache) == []
    assert all(path.exists() for path in foreign)
    left = {path for path in cache.rglob("*") if path.is_file()} - {*foreign}
    assert left <= {*reply_files(cache / "llm")}
    assert command("cache", "clear").stdout.startswith("nothing of")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_one_kind(command: Command, full: Store, cache: Path, kind: str) -> None:
    assert command("cache", "clear", "--yes", "--kind", kind).status == 0
    assert present(cache) == [name for name in ALL_KINDS if name != kind]


def test_several_kinds(command: Command, full: Store, cache: Path) -> None:
    command("cache", "clear", "--yes", "--kind", "llm", "--kind", "texts")
    assert present(cache) == ["passes", "shards", "embeddings", "downloads"]
    done = command("cache", "clear", "--yes", "--kind", "images")
    known = "passes, shards, embeddings, texts, llm, downloads"
    assert done.error == f"--kind 'images' is none of {known}"
    assert done.status == 2


def test_nobody_to_ask(command: Command, full: Store, cache: Path) -> None:
    done = command("cache", "clear", "--kind", "texts")
    assert (done.status, "needs --yes" in done.error) == (2, True)
    assert "texts" in present(cache)


@pytest.mark.parametrize("answer", [True, False])
def test_somebody_is_asked(
    command: Command, full: Store, cache: Path, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    asked: list[str] = []

    def confirm(question: str, **_: object) -> bool:
        asked.append(question)
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", confirm)
    done = command("cache", "clear", "--kind", "texts")
    assert done.status == 0
    assert asked[0].startswith("Remove 1.")
    assert asked[0].endswith(f" kB of texts from {cache}?")
    assert ("texts" in present(cache)) is not answer
    assert done.stdout.startswith("freed" if answer else "nothing was removed")


def test_replies_damaged_beyond_use_can_be_cleared(command: Command, cache: Path) -> None:
    (cache / "llm").mkdir(parents=True)
    (cache / "llm" / "cache.db").write_bytes(b"no database" * 100)
    assert command("cache", "clear", "--yes", "--kind", "llm").status == 0
    assert reply_files(cache / "llm") == []


def test_a_link_to_data_elsewhere_is_all_that_goes(
    command: Command, cache: Path, tmp_path: Path
) -> None:
    folder = download(cache)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert command("cache", "clear", "--yes").status == 0
    assert not folder.is_symlink()
    assert (tmp_path / "elsewhere" / "val" / "n01" / "a.jpeg").exists()


def test_a_removal_that_was_killed_is_finished_by_the_next(
    command: Command, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = download(cache)

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        assert command("cache", "clear", "--yes").status == 130
    assert not folder.exists(), "half a data set under its name would be taken for whole"
    assert len(list(cache.rglob("*.jpeg"))) == 1
    assert "freed 5.0 kB" in command("cache", "prune").stdout
    assert list(cache.rglob("*.jpeg")) == []


# --- verify ----------------------------------------------------------------------------------


def test_all_is_whole(command: Command, full: Store, cache: Path) -> None:
    done = command("cache", "verify")
    assert done.status == 0, done.stderr
    assert done.stdout == f"6 entries, all whole, in {cache}\n"


def test_what_is_damaged_is_named(command: Command, full: Store, cache: Path) -> None:
    record = damage(full, "a")
    put(full, "texts", text("b"))
    done = command("cache", "verify")
    assert done.status == 1
    assert done.error == f"1 of 7 entries in {str(cache)!r} damaged; --remove removes them"
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"texts/{record.stem}  the arrays do not have the checksum on record  ")
    assert line.endswith("vlm tiny-vlm-1, captions a")
    done = command("cache", "verify", "--remove")
    assert done.status == 0
    assert done.stdout.endswith("removed 1 damaged entry\n")
    assert texts(full) == ["b"]
    assert command("cache", "verify").status == 0


def test_replies_are_checked(command: Command, cache: Path) -> None:
    kept = ReplyCache(cache / "llm")
    kept.put("good", "x" * 40_000, {})
    kept.put("bad", "y" * 40_000, {})
    kept.close()
    (file,) = [
        p for p in reply_files(cache / "llm") if p.suffix == ".val" and b"y" in p.read_bytes()
    ]
    file.write_bytes(file.read_bytes().replace(b"yyy", b"yzy", 1))
    done = command("cache", "verify")
    assert (done.status, done.stdout) == (1, "llm/bad  the reply is damaged\n")
    assert ReplyCache(cache / "llm").get("bad") is None
    assert command("cache", "verify", "--remove").status == 0
    assert command("cache", "verify").stdout.startswith("1 entry, all whole")
    assert ReplyCache(cache / "llm").get("good") == "x" * 40_000


def test_replies_that_cannot_be_read_at_all(command: Command, cache: Path) -> None:
    (cache / "llm").mkdir(parents=True)
    (cache / "llm" / "cache.db").write_bytes(b"no database" * 100)
    for more in ((), ("--remove",)):
        done = command("cache", "verify", *more)
        assert done.status == 1
        assert done.error.endswith("cannot be read; profiler cache clear --kind llm removes them")


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"text": 7}', '{"text": "x", "sha256": "y"}'])
def test_a_damaged_reply_counts_as_absent(cache: Path, text: str) -> None:
    kept = ReplyCache(cache / "llm")
    assert kept._disk is not None
    kept._disk.set("key", text)
    assert kept.get("key") is None
    assert kept.damaged() == ["key"]
    kept._disk.set("old", '{"text": "of a time without checksums"}')
    assert kept.get("old") == "of a time without checksums"


def test_options_from_a_file(command: Command, cache: Path, tmp_path: Path) -> None:
    """A command within a command has a table within a table."""
    config = tmp_path / "options.toml"
    config.write_text("[cache.list]\njson = true\n")
    assert json.loads(command("--config", config, "cache", "list").stdout)["folder"] == str(cache)
    config.write_text("[cache.lst]\njson = true\n")
    done = command("--config", config, "cache", "list")
    assert (done.status, "'cache.lst' is no command; known: cache.clear" in done.error) == (2, True)


# --- entries as the commands make them -------------------------------------------------------


def test_whatever_the_commands_keep_is_listed_checked_and_removed(
    command: Command, cache: Path, tmp_path: Path
) -> None:
    tiny = Path(__file__).parents[1] / "samples" / "tiny.py"
    subject, vlm = f"{tiny}:subject", f"{tiny}:caption_vlm"
    write_mixed(tmp_path / "fit", 480, seed=1)
    write_mixed(tmp_path / "new", 80, seed=2)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nyellow\ncyan\nmagenta\n")
    (tmp_path / "zoo.conspec").write_text(
        'classes red\nconcepts a = "red", b = "blue"\nspec s: predict(x, red) => >(x, a, b)\n'
    )
    named = ("--classes", tmp_path / "classes.txt")
    words = ("--concepts", tmp_path / "words.txt", "--vlm", vlm, "-j", 0)
    old, new = ("--data", tmp_path / "fit", *named), ("--data", tmp_path / "new", *named)
    run = ("run", subject, "--probe", tmp_path / "new", *words)
    out = [("--out", tmp_path / f"out{i}") for i in range(9)]
    guard = ("--guard", tmp_path / "out5" / "guard.safetensors")
    calls: list[tuple[object, ...]] = [
        (*run, *out[0]),
        (*run, "--similarity", "cosine", *out[1]),
        ("compare", tmp_path / "out0", tmp_path / "out0", *out[2]),
        ("debug", subject, *new, *words, *out[3]),
        ("debug", subject, *new, *words, "--attack", "fgsm", *out[4]),
        ("guard", "fit", subject, *old, *words, *out[5]),
        ("guard", "score", subject, tmp_path / "new", *guard),
        ("guard", "eval", subject, *new, *guard, "--draws", 20, *out[6]),
        ("check", tmp_path / "zoo.conspec", subject, *new, "--vlm", vlm, "-j", 0, *out[7]),
        ("mine", subject, *new, *words, "--out", tmp_path / "mined.conspec"),
    ]
    for call in calls:
        done = command(*call)
        assert done.status in (0, 1), (call, done.stderr)
        assert "internal error" not in done.stderr, (call, done.stderr)
    done = command("cache", "list")
    assert done.status == 0, done.stderr
    assert "as another version writes them" not in done.stdout
    for said in ("unused weights of", "after FGSM", "with matrices", "captions", "texts"):
        assert said in done.stdout, said
    entries = json.loads(command("cache", "list", "--json").stdout)["entries"]
    assert len(entries) >= 6
    assert all(entry["what"] and entry["key"] for entry in entries)
    assert "all whole" in command("cache", "verify").stdout
    assert command("cache", "prune", "--older-than", "1h").stdout.startswith("freed 0 B")
    assert command("cache", "prune", "--max-size", "0B", "--dry-run").status == 0
    assert command("cache", "prune", "--max-size", "0B").status == 0
    assert command("cache", "list").stdout.startswith("nothing in")


@pytest.mark.parametrize(
    "key",
    [
        {"images": 7},
        {"images": {"from": 0}},
        {"images": []},
        {"layers": 3, "length": None, "matrices": "yes"},
        {"layers": [[]]},
        {"subject": ["a", "b"], "probe": None},
        {"something": "new"},
        {"change": "\udcff"},
    ],
    ids=str,
)
def test_keys_of_other_versions_are_listed(
    key: dict[str, Any], command: Command, store: Store
) -> None:
    store.put("passes", key, {"rows": np.zeros(3, np.uint8)})
    done = command("cache", "list")
    assert done.status == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert json.loads(command("cache", "list", "--json").stdout)["entries"][0]["what"]
    assert command("cache", "verify").status == 0


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"{}", b"[1]", b'{"key": 3}', b"\xff"])
def test_records_that_are_none_are_called_damaged(
    content: bytes, command: Command, store: Store
) -> None:
    (store.folder / "texts").mkdir(parents=True)
    (store.folder / "texts" / f"{'0' * 32}.json").write_bytes(content)
    assert "damaged record" in command("cache", "list").stdout
    assert "the record is damaged" in command("cache", "verify").stdout
    assert command("cache", "prune").status == 0
    assert store.entries() == []
