"""What the stories return in Python: text, tables and pages of a result, and files on demand."""

import base64
import io
import re
import tempfile
import webbrowser
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from profiler.api.objects import in_parameters
from profiler.data.images import spread
from profiler.errors import InputError
from profiler.models.vlm.base import VLM
from profiler.profile.charts import stacked_bar, swatches
from profiler.profile.counts import LayerProfile
from profiler.profile.find import find_units, holds_word, layer_place
from profiler.profile.result import ProfileRun
from profiler.profile.run import write_run
from profiler.profile.view import render_profile
from profiler.report.charts import DEAD, UNINTERPRETABLE
from profiler.report.document import fragment
from profiler.session import check_writable

if TYPE_CHECKING:
    import pandas as pd

FILLS = {
    "c0": "#0072b2",
    "c1": "#56b4e9",
    "c2": "#009e73",
    "c3": "#e69f00",
    "c4": "#d55e00",
    "c5": "#cc79a7",
    "c6": "#f0e442",
    "c-off": "#d3d6da",
    "c-dead": "#9aa0a8",
}
"""The colours of the pages: a notebook has no style sheet."""
MOST_BARS = 30
"""In a notebook."""
SHOWN = 9
"""Images of a unit, in a notebook."""
_TEXT = re.compile(
    r"layer|from|to|image|name|true|predicted|at_fault|condition|detector|spec|outcome|formula"
    r"|prediction|verdict|against_\d|problem|views"
    r"|(description|category|explanation)(_\d|_before|_after)?"
)
"""Columns of a table that hold text; in all others an empty cell is a number not known."""
_MEGABYTES = 20.0


def framed(content: str) -> "pd.DataFrame":
    """A table as pandas has it, cell by cell."""
    import pandas as pd

    columns = content.partition("\n")[0].split(",")
    text = [column for column in columns if _TEXT.fullmatch(column)]
    return pd.read_csv(
        io.StringIO(content),
        dtype=dict.fromkeys(text, str),
        # A word may be "null" or "nan".
        keep_default_na=False,
        na_values={column: [""] for column in columns if column not in text},
    )


class Result(ABC):
    """What a function found; nothing is written before :meth:`save`."""

    NOUN: ClassVar[str] = "unit"
    """What is counted."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """The finding in a few sentences."""

    @abstractmethod
    def to_csv(self) -> str:
        """The table as CSV, as it is written beside the report."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The numbers, as plain values."""

    @abstractmethod
    def to_html(self) -> str:
        """The report: one self-contained page."""

    @abstractmethod
    def save(self, folder: Path | str) -> Path:
        """Write everything to a folder, in place of what was there.

        Args:
            folder: made if it is not there.

        Returns:
            The report's path.

        Raises:
            OutputError: the folder cannot be written.
        """

    @property
    @abstractmethod
    def _title(self) -> str:
        """A heading."""

    @abstractmethod
    def _parts(self) -> tuple[Sequence[str], Sequence[LayerProfile]]:
        """Categories, and what a notebook shows as bars of them."""

    def to_frame(self) -> "pd.DataFrame":
        """The table of :meth:`to_csv`; empty numbers are NaN, empty texts stay empty."""
        return framed(self.to_csv())

    @property
    def report_name(self) -> str:
        """Name of the file with the page of :meth:`to_html`."""
        return "report.html"

    def show(self) -> None:
        """Open the report in a browser."""
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="profiler-", suffix=".html", delete=False
        ) as file:
            file.write(self.to_html())
        webbrowser.open(Path(file.name).as_uri())

    def __repr__(self) -> str:
        return f"<{self._title}: {self.summary}>"

    def _repr_html_(self) -> str:
        """The finding and a small chart, without scripts, for a notebook."""
        categories, layers = self._parts()
        shown = [layers[i] for i in spread(len(layers), MOST_BARS)]
        styles = swatches(categories)
        bars = [stacked_bar(layer, styles, named=False) for layer in shown]
        used = {segment.swatch.name for bar in bars for segment in bar.segments}
        return fragment(
            "api/notebook.html",
            title=self._title,
            summary=self.summary,
            bars=bars,
            noun=self.NOUN,
            left_out=len(layers) - len(shown),
            legend=[s for s in (*styles.values(), UNINTERPRETABLE, DEAD) if s.name in used],
            pale=any(segment.pale for bar in bars for segment in bar.segments),
            fills=FILLS,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Profile(Result):
    """What each unit of a network responds to.

    Attributes:
        run: labels, threshold, categories and the record of how they came about.
        folder: where it was read from or written to, if it was.
        vlm: the model that read the images, where it is still in memory.
    """

    run: ProfileRun
    folder: Path | None = None
    vlm: VLM | None = None

    @property
    def summary(self) -> str:
        """The finding in a few sentences."""
        return self.run.summary

    def to_csv(self) -> str:
        """The content of ``descriptions.csv``: a row a unit."""
        return self.run.descriptions_csv()

    def to_json(self) -> dict[str, Any]:
        """Counts by layer and category, what drives each layer, and how labels were sorted."""
        return self.run.to_json()

    def to_html(self) -> str:
        """The content of ``report.html``."""
        return render_profile(self.run, max_mb=self._max_mb)

    def save(self, folder: Path | str, *, report_dir: bool = False) -> Path:
        """Write the files of ``profiler run``.

        Args:
            folder: made if it is not there.
            report_dir: write a page for each layer, and ``report.html`` as a small main page.

        Returns:
            The path of ``report.html``.

        Raises:
            OutputError: the folder cannot be written.
        """
        check_writable(Path(folder))
        write_run(self.run, Path(folder), self._max_mb, report_dir)
        return Path(folder, "report.html")

    @in_parameters
    def find(self, word: str, *, layer: str | None = None) -> "pd.DataFrame":
        """The units whose label or explanation is or holds a word, labels first.

        Args:
            word: as a whole, in capitals or not: ``stripes`` finds ``zebra stripes``.
            layer: in this layer alone.

        Returns:
            Rows of :meth:`to_frame`, by falling ``interpretable`` and ``similarity``.

        Raises:
            UnknownNameError: there is no such layer.
        """
        found = find_units(self.run, holds_word(self.run, word), layer)
        first = [0, *accumulate(each.units for each in self.run.layers)]
        rows = [first[place.layer] + place.unit for place in found]
        return self.to_frame().iloc[rows].reset_index(drop=True)

    @in_parameters
    def unit(self, layer: str, number: int) -> "ProfiledUnit":
        """One unit, with the images that activate it most.

        Args:
            layer: name of the layer.
            number: of the unit, as in the column ``unit`` of :meth:`to_frame`.

        Raises:
            UnknownNameError: there is no such layer.
            InputError: the layer has no unit of that number.
        """
        place = layer_place(self.run, layer)
        labels, info = self.run.layers[place], self.run.record.subject.layers[place]
        numbers = [info.number(unit) for unit in range(labels.units)]
        if number not in numbers:
            raise InputError(
                f"layer {layer!r} has no unit {number}; its {labels.units:,} units are numbered "
                f"from {numbers[0]} to {numbers[-1]}"
            )
        unit = numbers.index(number)
        before = sum(each.units for each in self.run.layers[:place])
        cells = self.to_frame().iloc[before + unit].to_dict()
        images = [i for i in labels.top_images[unit].tolist() if i in self.run.thumbnails][:SHOWN]
        return ProfiledUnit(
            {str(column): value for column, value in cells.items()},
            tuple(self.run.image_names[i] for i in images),
            tuple(self.run.thumbnails[i] for i in images),
        )

    @property
    def _max_mb(self) -> float:
        return float(self.run.record.settings.get("max_report_mb", _MEGABYTES))

    @property
    def _title(self) -> str:
        return f"Profile of {self.run.record.subject.name}"

    def _parts(self) -> tuple[Sequence[str], Sequence[LayerProfile]]:
        profile = self.run.profile
        return profile.categories, profile.layers


@dataclass(frozen=True)
class ProfiledUnit:
    """One unit of a profile.

    Attributes:
        cells: its row of ``descriptions.csv``, by column.
        images: names of the images that activate it most, the strongest first.
        pictures: the same images, small, as WebP.
    """

    cells: Mapping[str, Any]
    images: tuple[str, ...]
    pictures: tuple[bytes, ...] = field(repr=False)

    @property
    def label(self) -> str:
        """The word; empty of a unit that never varies."""
        return str(self.cells["description"])

    @property
    def trusted(self) -> bool:
        """Whether the label passes the threshold."""
        return bool(self.cells["interpretable"])

    @property
    def explanation(self) -> str:
        """Words with weights that follow the whole range; empty where none were worked out."""
        return str(self.cells["explanation"])

    def _repr_html_(self) -> str:
        """Label and pictures, for a notebook."""
        return fragment("api/unit.html", unit=self, pictures=list(self._sources()))

    def _sources(self) -> Iterator[tuple[str, str]]:
        for name, picture in zip(self.images, self.pictures, strict=True):
            yield name, "data:image/webp;base64," + base64.b64encode(picture).decode("ascii")
