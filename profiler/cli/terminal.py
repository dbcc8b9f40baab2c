"""What people see on a terminal: progress and tables, always on standard error."""

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
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

if TYPE_CHECKING:
    from profiler.compare.result import Comparison
    from profiler.llm.base import LLM
    from profiler.profile.result import ProfileRun
    from profiler.session import Services

stderr = Console(stderr=True)


def profile_table(done: "ProfileRun") -> Table:
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


def comparison_tables(comparison: "Comparison") -> Iterator[Table]:
    """For each pair of runs, layer by layer: interpretable shares, divergence, labels kept."""
    from profiler.compare.result import INTERPRETABLE

    for pair in comparison.pairs:
        before, after = comparison.runs[pair.before], comparison.runs[pair.after]
        table = Table(title=f"{before.name} → {after.name}", title_justify="left")
        table.add_column("layer")
        for title in ("interpretable", "JS, bits", "noise", "labels kept", "changed shares"):
            table.add_column(title, justify="right")
        for layer in pair.layers:
            share = next(each for each in layer.shares if each.category == INTERPRETABLE)
            table.add_row(
                layer.layer,
                f"{share.before / share.before_units:.1%} → {share.after / share.after_units:.1%}",
                f"{layer.divergence:.3f}",
                _known(layer.divergence_noise, ".3f"),
                _known(layer.kept_share, ".1%"),
                ", ".join(f"{each.category} {each.difference:+.1%}" for each in layer.changed),
            )
        yield table


def _known(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def print_table(
    titles: Sequence[str], numbers: Container[str], rows: Iterable[Sequence[str]]
) -> None:
    """On standard output; columns of ``numbers`` stand to the right."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)  # a name that is cut off is of no use to the next program
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


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


def services(llm: "LLM | None") -> "Services":
    """What a story may call upon: this language model, the cache, and bars on the terminal."""
    from profiler.core.store import Store, cache_folder
    from profiler.session import Services

    return Services(llm, Store(cache_folder()), TerminalProgress())
