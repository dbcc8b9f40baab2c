"""The same images out of a folder, tar shards, Parquet and an address have the same results."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from command import Command
from PIL import Image

from profiler.activations.kept import collect_once
from profiler.api.objects import load_images
from profiler.core.store import Store
from profiler.data import encoded
from profiler.data.encoded import EncodedImages
from profiler.data.images import UnreadableImageError, open_probe
from profiler.errors import InputError, UsageError

COUNT = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in two folders, one of which is damaged, and what is none."""
    made = tmp_path / "photos"
    tiny.write_images(made / "a", COUNT // 2)
    tiny.write_images(made / "b", COUNT // 2, seed=1)
    (made / "b" / "0003_yellow.png").write_bytes(b"damaged")
    (made / "a" / "0000_red.json").write_text("{}")
    (made / "a" / ".hidden.png").write_bytes(b"")
    return made


def files_of(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def as_tars(folder: Path) -> str:
    """Two shards, each sample beside its label, in no order of names."""
    files = files_of(folder)[::-1]
    for number in range(2):
        with tarfile.open(folder.parent / f"data-{number:06d}.tar", "w") as tar:
            for file in files[number::2]:
                tar.add(folder / file, f"./{file}" if number else file)
    return str(folder.parent / "data-{000000..000001}.tar")


def as_parquet(folder: Path) -> str:
    """Two files of small groups of rows, with a column of labels before the images."""
    files = [file for file in files_of(folder) if file.endswith(".png") and "/." not in file]
    for number in range(2):
        own = files[number::2]
        rows = [{"bytes": (folder / file).read_bytes(), "path": file} for file in own]
        table = pa.table({"label": [0] * len(own), "image": rows})
        pq.write_table(table, folder.parent / f"train-{number}.parquet", row_group_size=5)
    return str(folder.parent / "train-*.parquet")


def in_memory(folder: Path) -> str:
    """A folder at an address."""
    fs = fsspec.filesystem("memory")
    for file in files_of(folder):
        fs.pipe_file(f"/bucket/photos/{file}", (folder / file).read_bytes())
    return "memory://bucket/photos"


def tars_in_memory(folder: Path) -> str:
    """Tar shards at an address."""
    fs = fsspec.filesystem("memory")
    as_tars(folder)
    for path in folder.parent.glob("data-*.tar"):
        fs.pipe_file(f"/tars/{path.name}", path.read_bytes())
    return "memory://tars/data-{000000..000001}.tar"


def parquet_in_memory(folder: Path) -> str:
    """Parquet files at an address, by a glob."""
    fs = fsspec.filesystem("memory")
    as_parquet(folder)
    for path in folder.parent.glob("*.parquet"):
        fs.pipe_file(f"/rows/{path.name}", path.read_bytes())
    return "memory://rows/train-*.parquet"


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()


SOURCES = [as_tars, as_parquet, in_memory, tars_in_memory, parquet_in_memory]


@pytest.mark.parametrize("limit", [None, 7])
@pytest.mark.parametrize("packed", SOURCES)
def test_the_same_images_under_the_same_names(
    folder: Path, tmp_path: Path, packed: Callable[[Path], str], limit: int | None
) -> None:
    plain = open_probe(str(folder), tmp_path, limit=limit)
    found = open_probe(packed(folder), tmp_path, limit=limit)
    assert isinstance(found, EncodedImages)
    assert found.names == plain.names
    assert found.fingerprint == plain.fingerprint
    for index in range(len(plain.names)):
        try:
            image = plain.read(index)
        except UnreadableImageError:
            with pytest.raises(UnreadableImageError, match="cannot identify image file"):
                found.read(index)
        else:
            assert found.read(index).tobytes() == image.tobytes()
            assert found.preview(index, 8).size == image.size


@pytest.mark.parametrize("packed", SOURCES)
def test_a_pass_keeps_the_same_bytes(
    folder: Path, tmp_path: Path, packed: Callable[[Path], str]
) -> None:
    kept = []
    for place, name in enumerate((str(folder), packed(folder))):
        probe = open_probe(name, tmp_path / "indexes")
        cache = tmp_path / f"cache{place}"
        subject = tiny.tiny_subject()
        found = collect_once(
            *(subject, subject.layers(), tiny.vlm(), probe),
            top=5,
            store=Store(cache),
            matrices=True,
        )
        assert [item.name for item in found.skipped] == ["b/0003_yellow.png"]
        kept.append({p.name: p.read_bytes() for p in cache.rglob("*.*")})
    assert kept[0] == kept[1]


def test_the_index_of_a_tar_is_read_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = as_tars(folder)
    first = open_probe(name, tmp_path)
    assert len(list((tmp_path / "indexes").iterdir())) == 2
    with monkeypatch.context() as patch:
        patch.setattr(encoded.tarfile, "open", None)
        assert open_probe(name, tmp_path).names == first.names
    with tarfile.open(tmp_path / "data-000001.tar", "a") as tar:
        tar.add(folder / "a" / "0000_red.png", "z.png")
    assert open_probe(name, tmp_path).names == (*first.names, "z.png")


def test_an_image_that_changes_is_left_out(folder: Path, tmp_path: Path) -> None:
    found = open_probe(in_memory(folder), tmp_path)
    assert found.fingerprint
    fsspec.filesystem("memory").pipe_file(
        "/bucket/photos/a/0000_red.png", (folder / "a" / "0001_green.png").read_bytes()
    )
    with pytest.raises(UnreadableImageError, match="changed after it was first read"):
        found.read(0)


def test_names_that_stand_in_several_shards_are_told_apart_by_these(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            about = tarfile.TarInfo("0001.png")
            about.size = len(file.getvalue())
            tar.addfile(about, io.BytesIO(file.getvalue()))
    found = open_probe(str(tmp_path / "{0..1}.tar"), tmp_path)
    assert found.names == ("0/0001.png", "1/0001.png")


def test_parquet_without_paths(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "PNG")
    pq.write_table(pa.table({"jpg": [file.getvalue()] * 3}), tmp_path / "own.parquet")
    found = open_probe(str(tmp_path / "own.parquet"), tmp_path)
    assert found.names == ("own/00000000", "own/00000001", "own/00000002")
    assert found.read(2).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.tar", None, "probe images .*absent.tar"),
        ("x.tar.gz", b"", "compressed as a whole.*uncompress it to a .tar"),
        ("x.tar", b"no tar" * 200, "x.tar' is no tar file"),
        ("x.parquet", b"no table", "x.parquet' is no Parquet file"),
        ("*.tar", None, "matches no file"),
        ("ftq://host/x", None, "'ftq://host/x' cannot be opened: Protocol not known"),
    ],
)
def test_what_cannot_be_read(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = name if "://" in name else str(tmp_path / name)
    if content is not None:
        Path(path).write_bytes(content)
    with pytest.raises((InputError, UsageError), match=message):
        open_probe(path, tmp_path)


def test_parquet_without_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [1], "name": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"no column of images.*its columns: label, name"):
        open_probe(str(tmp_path / "t.parquet"), tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_rows_of_hugging_faces_datasets(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    paths = [str(path) for path in sorted((folder / "a").glob("0*.png"))]
    rows = datasets.Dataset.from_dict({"label": [0] * len(paths), "image": paths})
    found = load_images(rows.cast_column("image", datasets.Image()))
    assert found.names[:2] == ("image-00000", "image-00001")
    with Image.open(paths[1]) as image:
        assert found.read(1).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.slow
@pytest.mark.weights
def test_a_run_from_tar_shards_writes_what_one_from_the_folder_does(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nyellow\n")
    written = []
    for name in (str(folder), as_tars(folder), as_parquet(folder)):
        out = tmp_path / f"out{len(written)}"
        monkeypatch.setenv("PROFILER_CACHE_DIR", str(out / "cache"))
        done = command(
            *("run", f"{tiny.__file__}:subject", "--vlm", f"{tiny.__file__}:vlm", "--probe", name),
            *("--concepts", tmp_path / "words.txt", "--threshold", 0, "-j", 0, "--out", out),
        )
        assert done.status == 0, done.stderr
        names = ("descriptions.csv", "units.safetensors", "profile.json")
        written.append([(out / each).read_bytes() for each in names])
        json.loads(written[-1][2])
    assert written[0] == written[1] == written[2]
