"""The ratings of a run: the file in its folder that keeps the answers.

``ratings.csv``, of the range ``ratings-range.csv``, grows only at its end, a row an answer, and
every row is on the disk before :meth:`RatingBook.add` comes back. Copy the run's folder to another
machine and it can be rated there.
"""

import datetime
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from profiler.core.text import decoded
from profiler.errors import InputError, OutputError, ResourceError
from profiler.profile.result import ProfileRun, load_run
from profiler.rate.ratings import (
    Rating,
    Unit,
    header_line,
    rating_line,
    read_ratings,
    write_ratings,
)
from profiler.rate.views import VIEWS, View, check_view, described_units, file_name, fingerprint

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("profiler")


class RatingBook:
    """The answers of everyone who rated a run.

    Args:
        folder: of the run.
        run: the run itself, where it has been read already.
        view: what of its units is rated.
    """

    def __init__(self, folder: Path, run: ProfileRun | None = None, view: View = "peak") -> None:
        self.run = run or load_run(folder)
        check_view(self.run, folder, view)
        self.view: View = view
        self.path = Path(folder) / file_name("ratings.csv", view)
        self.units = described_units(self.run, view)
        self.fingerprint = fingerprint(self.run, view)
        self._elsewhere = {
            fingerprint(self.run, other): f"--view {other}" for other in VIEWS if other != view
        }
        self._ratings: dict[tuple[str, str, int], Rating] = {}
        self._load()

    def _load(self) -> None:
        self._ratings.clear()
        content = _whole_lines(self.path, self.fingerprint)
        if content.strip():
            found = self.read(content, str(self.path))
            self._ratings.update((rating.by, rating) for rating in found)

    @property
    def ratings(self) -> tuple[Rating, ...]:
        """The answers that stand, in the order they were given."""
        return tuple(self._ratings.values())

    def find(self, rater: str, unit: Unit) -> Rating | None:
        """A rater's answer about a unit."""
        return self._ratings.get((rater, *unit))

    def add(self, rater: str, unit: Unit, value: float | None) -> Rating:
        """Keep an answer; it is on the disk when this comes back."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        rating = Rating(rater, *unit, value, now)
        if rating.by in self._ratings:
            raise InputError(f"{rater} has rated unit {unit[1]} of {unit[0]!r} already")
        self._append(self._line(rating))
        self._ratings[rating.by] = rating
        return rating

    def undo(self, rating: Rating) -> None:
        """Take an answer back, on the disk too."""
        if rating.by not in self._ratings:
            raise InputError(f"{rating.rater} has not rated unit {rating.unit} of {rating.layer!r}")
        self._append(self._line(rating, "undo"))
        del self._ratings[rating.by]

    def read(self, text: str, source: str) -> tuple[Rating, ...]:
        """The ratings that stand in a file's text; :class:`InputError` where one is not of these.

        Args:
            text: content of the file.
            source: what the messages call it.
        """
        return read_ratings(text, source, self.units, self.fingerprint, self._elsewhere)

    def export(self) -> str:
        """A ratings file with the answers that stand."""
        return write_ratings(self.ratings, self.units, self.fingerprint)

    def take_in(self, text: str, source: str) -> tuple[int, int]:
        """Add the ratings of another file, all or none; how many were new, and how many known.

        Raises:
            InputError: where the file cannot be used, or gives another answer to a question that
                the same rater has answered here.
        """
        found = self.read(text, source)
        for rating in found:
            own = self._ratings.get(rating.by)
            if own is not None and own.value != rating.value:
                raise InputError(
                    f"{source} and {str(self.path)!r} give different ratings of {rating.rater} "
                    f"about unit {rating.unit} of {rating.layer!r}"
                )
        new = [rating for rating in found if rating.by not in self._ratings]
        if new:
            with self.held():
                self._append("".join(self._line(rating) for rating in new))
        self._ratings.update((rating.by, rating) for rating in new)
        return len(new), len(found) - len(new)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the context no other process can hold the file; it is read anew on entering."""
        self._create()
        with self.path.open("rb") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise ResourceError(
                        f"{str(self.path)!r} is in use: another `profiler rate` has this run open; "
                        "several raters can share its page"
                    ) from error
            self._mend()
            self._load()
            yield

    def _line(self, rating: Rating, action: Literal["rate", "undo"] = "rate") -> str:
        return rating_line(rating, self.units[rating.about], self.fingerprint, action)

    def _create(self) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
            self._write(header_line())
            with suppress(OSError):  # the folder's own entry; not every system can
                folder = os.open(self.path.parent, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)

    def _append(self, lines: str) -> None:
        self._create()
        self._write(lines)

    def _write(self, text: str) -> None:
        """Append and wait for the disk; on failure the file is as it was before."""
        try:
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    data = memoryview(text.encode())
                    while data:
                        data = data[file.write(data) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise OutputError(
                f"the rating could not be written to {str(self.path)!r}: {error.strerror}"
            ) from error

    def _mend(self) -> None:
        """Bring the file in order, after a crash in the middle of a row or a spreadsheet."""
        content = self.path.read_bytes()
        if not _is_own(content):
            self._rewrite(content)
            return
        whole = _whole_lines(self.path, self.fingerprint).encode()
        if content == whole:
            return
        if whole.startswith(content):  # only the line break is missing
            self._write("\n")
            return
        try:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {str(self.path)!r}: {error.strerror}") from error

    def _rewrite(self, content: bytes) -> None:
        """Write the file as this program does, so that rows can be appended to it.

        In place, since a lock is held on it; what stood there is kept beside it.
        """
        self._load()
        kept = self.path.with_name(f"{self.path.name}.bak")
        log.info("%s, saved by another program, is written again and kept as %s", self.path, kept)
        try:
            kept.write_bytes(content)
            with self.path.open("r+b") as file:
                file.truncate(file.write(self.export().encode()))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {str(self.path)!r}: {error.strerror}") from error


def _is_own(content: bytes) -> bool:
    """Whether a ratings file begins as this program writes it, perhaps cut off within."""
    header = header_line().encode()
    return content.startswith(header[: len(content)])


def _whole_lines(path: Path, run: str) -> str:
    """The file without a last row that was cut off; it ends with the run's fingerprint if whole."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if not _is_own(content):
        return decoded(content, str(path))  # written anew by something else, as a whole
    head, line_break, last = content.rpartition(b"\n")
    if last.rstrip().endswith(run.encode()) or last == header_line().strip().encode():
        content += b"\n"
    elif last:
        log.warning("warning: the last row of %s was cut off and is left out", path)
        content = head + line_break
    return decoded(content, str(path))


def read_file(path: Path) -> str:
    """Text of a ratings file that a user names."""
    try:
        return decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"ratings file {str(path)!r} cannot be read: {error.strerror}") from error
