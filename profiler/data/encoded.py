"""Images whose files lie within others, or elsewhere: tar shards, Parquet, and addresses.

Each source knows names, and reads the bytes of any one image. The same files under the same names
have the same fingerprint in a folder, in tar shards and in Parquet, so that what is kept for one
serves for all.

An address is what fsspec opens (``s3://``, ``gs://``, ``memory://`` …). Several shards are named by
braces, as WebDataset has it (``data-{000000..000010}.tar``), or by a glob.
"""

import contextlib
import glob
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from PIL import Image

from profiler.core.store import write_atomically
from profiler.data.images import (
    Digests,
    HashedFiles,
    as_rgb,
    as_text,
    composed,
    decoding,
    image_suffixes,
    is_by_product,
    spread,
)
from profiler.errors import EnvironmentFailure, InputError, OutputError, UsageError, first_line

_PARQUET = (".parquet", ".pq")
_SHARDS = (".tar", *_PARQUET)
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_INDEX_VERSION = 1


class Blobs(Protocol):
    """Encoded images by number."""

    @property
    def names(self) -> Sequence[str]:
        """One a blob, as files in a folder would be called."""
        ...

    def blob(self, place: int) -> bytes:
        """One of them, as it is encoded; raises :class:`OSError`."""
        ...


@dataclass(frozen=True, eq=False)
class EncodedImages(HashedFiles):
    """A :class:`~profiler.data.images.ProbeSet` of encoded images, in the order of their names.

    Attributes:
        blobs: where they are read.
        places: their numbers there, in order.
        title: how a reader knows the set.
    """

    blobs: Blobs
    places: tuple[int, ...]
    title: str
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, blobs: Blobs, title: str, limit: int | None = None) -> "EncodedImages":
        """Take ``limit`` of them, evenly spread over the sorted names."""
        names = blobs.names
        if not names:
            raise InputError(f"no images in {title!r}; they are known by suffixes such as .jpg")
        order = sorted(range(len(names)), key=lambda i: (composed(names[i]), names[i]))
        return cls(blobs, tuple(order[i] for i in spread(len(order), limit)), title)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names as text."""
        return tuple(as_text(self.blobs.names[place]) for place in self.places)

    @cached_property
    def _paths(self) -> Sequence[str]:
        return [self.blobs.names[place] for place in self.places]

    def hashes(self, images: Sequence[int]) -> Digests:
        """See :class:`~profiler.data.images.HashedFiles`."""
        found = super().hashes(images)
        if len(images) > 1:
            self.__dict__.pop("_fetched", None)
        return found

    def _content(self, index: int) -> tuple[tuple[int, int], bytes]:
        try:
            content = self.blobs.blob(self.places[index])
        except OSError as error:  # skipped and counted when its turn comes
            content = f"unreadable: {type(error).__name__}".encode()
        else:
            # A pass hashes an image and decodes it next: over a network it is fetched once.
            self.__dict__["_fetched"] = index, content
        return (0, 0), hashlib.sha256(content).digest()

    def read(self, index: int) -> Image.Image:
        """Decode the image at ``index`` as upright RGB."""
        return self._decode(index)

    def preview(self, index: int, side: int) -> Image.Image:
        """Decode it for people to look at: see :class:`~profiler.data.images.Previews`."""
        return self._decode(index, (side, side))

    def _decode(self, index: int, draft: tuple[int, int] | None = None) -> Image.Image:
        with decoding():
            at, content = self.__dict__.pop("_fetched", (-1, b""))
            if at != index:
                content = self.blobs.blob(self.places[index])
                if self._has_changed(index, hashlib.sha256(content).digest()):
                    raise OSError("the file was changed after it was first read")
            with Image.open(_Named(content, self.blobs.names[self.places[index]])) as image:
                if draft is not None:
                    image.draft("RGB", draft)
                return as_rgb(image)


class _Named(io.BytesIO):
    """Bytes that errors call by a name, as they do files."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._name = name

    def __repr__(self) -> str:
        return repr(self._name)


def is_encoded(name: str) -> bool:
    """Whether a name means tar shards, Parquet or an address, and not a folder."""
    return bool(_REMOTE.match(name)) or name.lower().endswith((*_SHARDS, *_PACKED))


def open_encoded(name: str, cache: Path, limit: int | None = None) -> EncodedImages:
    """Images of tar shards, Parquet files, or a folder by its address.

    Args:
        name: a path or an address; braces and globs name several files.
        cache: where the index of a tar file is kept, which takes reading all of its headers.
        limit: how many images to use.

    Raises:
        InputError: a file is missing, compressed, or holds no image.
        UsageError: a package that reads it is missing.
        EnvironmentFailure: an address cannot be read.
    """
    lower = name.lower()
    if lower.endswith(_PACKED):
        raise InputError(
            f"{name!r} is compressed as a whole, so that no image can be read without those before "
            "it; uncompress it to a .tar"
        )
    try:
        if not lower.endswith(_SHARDS):
            blobs: Blobs = RemoteFolder(name)
        else:
            files = [_File(each) for each in _expanded(name)]
            blobs = ParquetFiles(files) if lower.endswith(_PARQUET) else TarShards(files, cache)
        title = PurePosixPath(name.rstrip("/")).name
        return EncodedImages.open(blobs, title, limit)
    except FileNotFoundError as error:
        raise InputError(f"probe images {name!r}: {first_line(error)} does not exist") from error
    except OSError as error:
        raise EnvironmentFailure(f"{name!r} cannot be read: {first_line(error)}") from error


def _expanded(name: str) -> list[str]:
    """The files that braces and a glob stand for."""
    found = [name]
    while any(_BRACES.search(each) for each in found):
        found = [filled for each in found for filled in _filled(each)]
    if not _REMOTE.match(name) and glob.has_magic(name):
        found = sorted(path for each in found for path in glob.glob(each))
    elif glob.has_magic(name):
        fs, path = _file_system(name)
        protocol = name.partition("://")[0]
        found = [f"{protocol}://{each.lstrip('/')}" for each in sorted(fs.glob(path))]
    if not found:
        raise InputError(f"{name!r} matches no file")
    return found


def _filled(name: str) -> list[str]:
    if (match := _BRACES.search(name)) is None:
        return [name]
    first, last = match.groups()
    numbers = range(int(first), int(last) + 1)
    return [f"{name[: match.start()]}{n:0{len(first)}}{name[match.end() :]}" for n in numbers]


def _file_system(address: str) -> tuple[Any, str]:
    """What fsspec reads an address with, and the path there."""
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(
            f"{address!r} needs the package fsspec: pip install 'vision-profiler[remote]'"
        ) from error
    try:
        fs, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{address!r} cannot be opened: {first_line(error)}") from error
    return fs, path


@dataclass(frozen=True)
class _File:
    """A file on this machine, or at an address."""

    name: str

    @property
    def stem(self) -> str:
        """Its name without folder and suffix."""
        return PurePosixPath(self.name).stem

    @property
    def _remote(self) -> bool:
        return bool(_REMOTE.match(self.name))

    def state(self) -> list[Any]:
        """What changes with its content."""
        if self._remote:
            fs, path = _file_system(self.name)
            about = fs.info(path)
            return [
                about.get(key) and str(about[key]) for key in ("size", "ETag", "mtime", "created")
            ]
        it = Path(self.name).stat()
        return [it.st_size, it.st_mtime_ns]

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """For reading, anywhere."""
        if self._remote:
            fs, path = _file_system(self.name)
            with fs.open(path, "rb") as file:
                yield file
        else:
            with Path(self.name).open("rb") as file:
                yield file

    def part(self, offset: int, size: int) -> bytes:
        """Some of its bytes."""
        if self._remote:
            fs, path = _file_system(self.name)
            found: bytes = fs.cat_file(path, start=offset, end=offset + size)
            return found
        with Path(self.name).open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in image_suffixes() and not any(map(is_by_product, path.parts))


class TarShards:
    """The images of tar files; labels and captions beside them are not read."""

    def __init__(self, files: Sequence[_File], cache: Path) -> None:
        self._files = files
        self._index = [
            (number, *member)
            for number, file in enumerate(files)
            for member in _index_of(file, cache)
        ]
        plain = [name for _, name, _, _ in self._index]
        self.names = (
            plain
            if len({*plain}) == len(plain)
            else [f"{files[number].stem}/{name}" for number, name, _, _ in self._index]
        )

    def blob(self, place: int) -> bytes:
        """See :class:`Blobs`."""
        number, _, offset, size = self._index[place]
        return self._files[number].part(offset, size)


def _index_of(file: _File, cache: Path) -> list[tuple[str, int, int]]:
    """Name, offset and size of each image of a tar file, from the cache once they were read."""
    key = json.dumps([_INDEX_VERSION, str(file.name), file.state(), sorted(image_suffixes())])
    kept = cache / "indexes" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [(str(name), int(at), int(n)) for name, at, n in json.loads(kept.read_text("utf-8"))]
    try:
        with file.open() as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            found = [
                (member.name.removeprefix("./"), member.offset_data, member.size)
                for member in tar
                if member.isfile() and _is_image(member.name)
            ]
    except tarfile.TarError as error:
        raise InputError(f"{file.name!r} is no tar file: {first_line(error)}") from error
    with contextlib.suppress(OutputError):  # a cache that may only be read is a good cache
        write_atomically(kept, json.dumps(found))
    return found


class ParquetFiles:
    """The images of a column ``{bytes, path}``, as Hugging Face's datasets write it.

    Without paths, an image is called by its file and its row. A row is read with the group that it
    is in: groups of a hundred rows, as that library writes them, are quick to read.
    """

    def __init__(self, files: Sequence[_File]) -> None:
        self._files = files
        self._rows: list[tuple[int, int, int]] = []
        paths: list[str | None] = []
        places: list[str] = []
        for number, file in enumerate(files):
            with file.open() as opened:
                table = _parquet(opened, file.name)
                self._column = _image_column(table.schema_arrow, file.name)
                for group in range(table.num_row_groups):
                    own = _paths(table, group, self._column)
                    self._rows += [(number, group, row) for row in range(len(own))]
                    paths += own
            places += [f"{file.stem}/{row:08d}" for row in range(len(paths) - len(places))]
        named = [path for path in paths if path]
        self.names = named if len({*named}) == len(paths) else places

    def blob(self, place: int) -> bytes:
        """See :class:`Blobs`."""
        number, group, row = self._rows[place]
        content = _group(self._files[number], group, self._column)[row].as_py()
        if content is None:
            raise OSError("the row holds no bytes")
        return bytes(content)


@lru_cache(maxsize=4)
def _group(file: _File, group: int, column: str) -> Any:
    """The bytes of a group of rows; of few groups, as a group may be large."""
    with file.open() as opened:
        table = _parquet(opened, file.name).read_row_group(group, columns=[column])
    cells = table.column(column).combine_chunks()
    return cells.field("bytes") if hasattr(cells, "field") else cells


def _paths(table: Any, group: int, column: str) -> list[str | None]:
    if f"{column}.path" not in [
        each.path for each in map(table.schema.column, range(len(table.schema.names)))
    ]:
        return [None] * table.metadata.row_group(group).num_rows
    cells = table.read_row_group(group, columns=[f"{column}.path"]).column(column).combine_chunks()
    found: list[str | None] = cells.field("path").to_pylist()
    return found


def _parquet(file: IO[bytes], name: str) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f"{name!r} needs the package pyarrow: pip install 'vision-profiler[parquet]'"
        ) from error
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise InputError(f"{name!r} is no Parquet file: {first_line(error)}") from error


def _image_column(schema: Any, name: str) -> str:
    """The first column of bytes, alone or in a struct."""
    import pyarrow as pa

    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return str(field.name)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return str(field.name)
    raise InputError(
        f"{name!r} has no column of images, {{bytes, path}} or bytes; its columns: "
        + ", ".join(schema.names)
    )


class RemoteFolder:
    """The images below a folder at an address, known by their suffixes."""

    def __init__(self, address: str) -> None:
        self._address = address
        fs, root = _file_system(address)
        self._paths = [
            path for path in fs.find(root) if _is_image(path.removeprefix(root.rstrip("/")))
        ]
        self.names = [path.removeprefix(root.rstrip("/")).lstrip("/") for path in self._paths]

    def blob(self, place: int) -> bytes:
        """See :class:`Blobs`."""
        fs, _ = _file_system(self._address)
        found: bytes = fs.cat_file(self._paths[place])
        return found
