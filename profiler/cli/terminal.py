"""What people see on a terminal: progress and tables, always on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from profiler.results import ProfileRun

stderr = Console(stderr=True)


def profile_table(done: ProfileRun) -> Table:
    """Counts by layer and category."""
    profile = done.profile
    table = Table(title=f"{done.record.subject.name}: units by category", title_justify="left")
    table.add_column("layer")
    for name in ("units", *profile.categories, "uninterpretable", "dead"):
        table.add_column(name, justify="right")
    for layer in (*profile.layers, profile.total):
        table.add_row(
            layer.layer,
            f"{layer.units:,}",
            *(f"{layer.counts[category]:,}" for category in profile.categories),
            f"{layer.uninterpretable:,}",
            f"{layer.dead:,}",
        )
    return table


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@dataclass(frozen=True)
class TerminalProgress:
    """Bars with rates and remaining time on a terminal; nothing elsewhere."""

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Any]:
        """Show one bar."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=stderr, disable=not stderr.is_terminal) as bars:
            task = bars.add_task(title, total=total)
            yield lambda count: bars.advance(task, count)
