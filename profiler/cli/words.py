"""``profiler categorize`` and ``profiler import``, and the options about words that all share."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profiler.cli.app import app
from profiler.cli.options import grouped
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.llm.base import LLM
    from profiler.profile.result import ProfileRun
    from profiler.profile.sorting.categories import Category
    from profiler.session import Provenance

LLMName = Annotated[
    str, typer.Option("--llm", help="Sorts the labels: a model's name, scripted:FILE or none.")
]
LLMBaseURL = Annotated[
    str | None,
    typer.Option("--llm-base-url", help="Server of the LLM.  [default: $OPENAI_BASE_URL]"),
]
LLMRefresh = Annotated[bool, typer.Option("--llm-refresh", help="Ask again what is in the cache.")]
LLMLenient = Annotated[
    bool, typer.Option("--llm-lenient", help="Count labels without a usable answer as unknown.")
]
LLMConcurrency = Annotated[
    int, typer.Option("--llm-concurrency", help="Requests at a time.", min=1)
]
Votes = Annotated[
    int,
    typer.Option(
        "--votes", help="Ask the LLM so many times, in shuffled order; show what changes.", min=1
    ),
]
Categories = Annotated[
    Path | None,
    typer.Option("--categories", help="File of categories, one a line: name: description."),
]
Prompts = Annotated[
    Path | None,
    typer.Option("--prompts", help="Folder of prompt files that replace those shipped."),
]
Date = Annotated[str | None, typer.Option("--date", help="Date on the report.  [default: today]")]
AsJSON = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on standard output.")
]
LargestReport = Annotated[
    float, typer.Option("--max-report-mb", help="Largest size of the report.")
]


@dataclass(frozen=True)
class Asking:
    """Which language model is asked, and how."""

    llm: LLMName = "none"
    llm_base_url: LLMBaseURL = None
    llm_refresh: LLMRefresh = False
    prompts: Prompts = None

    def model(self) -> "AbstractContextManager[LLM | None]":
        """The LLM, closed at the end; None where nobody is to be asked."""
        return language_model(self.llm, self.llm_base_url, self.llm_refresh)


@dataclass(frozen=True)
class Categorizing:
    """Who sorts words, and into which categories."""

    llm: LLMName = "none"
    llm_base_url: LLMBaseURL = None
    llm_refresh: LLMRefresh = False
    llm_lenient: LLMLenient = False
    llm_concurrency: LLMConcurrency = 4
    votes: Votes = 1
    categories: Categories = None
    prompts: Prompts = None

    def check(self) -> None:
        """Check what costs nothing."""
        from profiler.llm.prompts import load_prompts

        check_votes(self.votes, self.llm)
        load_prompts(self.prompts)

    def options(self, usual: "Sequence[Category]") -> dict[str, Any]:
        """For a story; into the categories that are usual, unless a file names others."""
        from profiler.profile.sorting.categories import read_categories

        return {
            "categories": read_categories(self.categories) if self.categories else tuple(usual),
            "lenient": self.llm_lenient,
            "votes": self.votes,
            "concurrency": self.llm_concurrency,
            "prompts": self.prompts,
        }

    def model(self) -> "AbstractContextManager[LLM | None]":
        """The LLM, closed at the end; None where exemplars sort."""
        return language_model(self.llm, self.llm_base_url, self.llm_refresh)


@dataclass(frozen=True)
class CategorizingAgain(Categorizing):
    """The same of a finished run, which has categories."""

    categories: Annotated[
        Path | None,
        typer.Option(
            help="File of categories, one a line: name: description.  [default: the run's]"
        ),
    ] = None


@dataclass(frozen=True)
class Reporting:
    """How the outcome is given."""

    max_report_mb: LargestReport = 20.0
    date: Date = None
    as_json: AsJSON = False


@app.command()
@grouped()
def categorize(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: RUN itself, replaced at the end]")
    ] = None,
    sorting: CategorizingAgain,
    vlm: Annotated[
        str | None,
        typer.Option(
            help="Compares the words where no LLM sorts.  [default: the run's; conse if imported]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Orders the votes.")] = 0,
    max_report_mb: Annotated[
        float | None, typer.Option(help="Largest size of the report.  [default: the run's]")
    ] = None,
    date: Date = None,
    as_json: AsJSON = False,
) -> None:
    """Sort a finished run's labels anew.

    With another model or into other categories; no image is read. Labels and threshold stay.
    """
    from profiler.profile.result import load_run
    from profiler.profile.sorting.categories import Category

    sorting.check()
    run = load_run(folder)
    wanted = sorting.options([Category(name, text) for name, text in run.record.categories])
    if max_report_mb is None:
        max_report_mb = float(run.record.settings.get("max_report_mb", 20.0))
    with sorting.model() as model:
        from profiler.cli.terminal import services
        from profiler.models.vlm.choose import late_words, texts_of
        from profiler.profile.run import ProfileOptions, recategorize
        from profiler.session import choose_device

        place = choose_device(device)
        texts = (
            late_words(vlm, place) if vlm else texts_of(run.record.vlm, run.record.settings, place)
        )
        done = recategorize(
            run,
            folder,
            out or folder,
            ProfileOptions(
                **wanted,
                seed=seed,
                max_report_mb=max_report_mb,
                **how_called(context, date),
            ),
            texts,
            services(model),
        )
    show(done, out or folder, as_json)


@app.command("import")
@grouped()
def import_(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="CSV", help="Table with the columns layer,unit,description[,similarity]."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Output folder.")],
    subject: Annotated[
        str | None,
        typer.Option(help="What to call the network.  [default: the file's or folder's name]"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Trust labels that score above this.  [default: trust every label]"),
    ] = None,
    sorting: Categorizing,
    vlm: Annotated[
        str,
        typer.Option(
            help="Compares the words where no LLM sorts: conse, open_clip:… or FILE.py:FACTORY."
        ),
    ] = "conse",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Orders the votes.")] = 0,
    reporting: Reporting,
) -> None:
    """Profile labels that another tool wrote.

    Such as CLIP-Dissect's descriptions.csv. Everything the file does not hold is left out.
    """
    from profiler.profile.sorting.categories import DEFAULT

    sorting.check()
    wanted = sorting.options(DEFAULT)
    with sorting.model() as model:
        from profiler.cli.terminal import services
        from profiler.models.vlm.choose import late_words
        from profiler.profile.run import ProfileOptions, import_descriptions
        from profiler.session import choose_device

        place = choose_device(device)
        done = import_descriptions(
            file,
            out,
            ProfileOptions(
                threshold=threshold,
                **wanted,
                seed=seed,
                max_report_mb=reporting.max_report_mb,
                **how_called(context, reporting.date),
            ),
            late_words(vlm, place),
            services(model),
            name=subject or _name_of(file),
        )
    show(done, out, reporting.as_json)


def check_votes(votes: int, llm: str) -> None:
    """Votes are an LLM's: the exemplar sorter always says the same."""
    if votes > 1 and llm.strip() == "none":
        raise UsageError(f"--votes {votes} asks an LLM several times; name one with --llm")


@contextmanager
def language_model(spec: str, base_url: str | None, refresh: bool) -> "Iterator[LLM | None]":
    """The LLM of the options, closed at the end; None where nobody is to be asked."""
    from profiler.core.store import cache_folder
    from profiler.llm.choose import open_llm

    llm = open_llm(spec, base_url=base_url, cache_dir=cache_folder() / "llm", refresh=refresh)
    try:
        yield llm
    finally:
        if llm is not None:
            llm.close()


def how_called(context: typer.Context, date: str | None, **used: Any) -> dict[str, Any]:
    """The command and its options, for the record; ``used`` in place of what was given."""
    settings: Mapping[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
        if name != "as_json"
    }
    return {
        "command": shlex.join(["profiler", *sys.argv[1:]]),
        "settings": {**settings, **used},
        **({"date": date} if date else {}),
    }


def provenance(context: typer.Context, date: str | None) -> "Provenance":
    """The same for stories that take it as one value."""
    from profiler.session import Provenance

    return Provenance(**how_called(context, date))


def show(done: "ProfileRun", out: Path, as_json: bool) -> None:
    """The outcome on standard output: the report's path, or everything as JSON."""
    from profiler.cli.terminal import profile_table, stderr
    from profiler.core.json_text import json_text

    if as_json:
        content = {
            "report": str(out / "report.html"),
            "threshold": done.threshold.value if done.threshold else None,
            "sorter": done.sorting.sorter,
            "profile": done.profile.to_json(),
            **done.drivers_json(),
            **({"quality": done.quality_json()} if done.quality else {}),
            "doubtful": dict(done.sorting.doubtful()),
            "usage": done.usage.to_json(),
            "summary": done.summary,
            "warnings": list(done.warnings),
        }
        typer.echo(json_text(content, None))
        return
    if stderr.is_terminal:
        stderr.print(profile_table(done))
    typer.echo(str(out / "report.html"))


def _name_of(file: Path) -> str:
    """CLIP-Dissect names the folder after the network, and the file always descriptions.csv."""
    return file.resolve().parent.name if file.stem == "descriptions" else file.stem
