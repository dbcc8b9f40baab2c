"""``profiler categorize`` and ``profiler import``, and the options about words that all share."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profiler.cli.app import app
from profiler.cli.options import grouped
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.api.results import Result
    from profiler.llm.base import LLM
    from profiler.profile.result import ProfileRun
    from profiler.profile.sorting.categories import Category
    from profiler.session import Provenance

LLMBaseURL = Annotated[
    str | None,
    typer.Option(
        help="Address of the model's server, if it is not OpenAI's.  [default: $OPENAI_BASE_URL]",
    ),
]
LLMRefresh = Annotated[
    bool,
    typer.Option(
        "--llm-refresh", help="Ask the model again although its replies are in the cache."
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(help="Folder of prompt files that replace the shipped ones."),
]
Date = Annotated[str | None, typer.Option(help="Date on the report.  [default: today]")]
AsJSON = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON to standard output.")
]

REPORT_DIR = (
    "Write a page for each layer to the folder layers/, and a small main page, report.html."
)
ReportDir = Annotated[bool, typer.Option("--report-dir", help=REPORT_DIR)]


@dataclass(frozen=True)
class Asking:
    """Which language model is asked, and how."""

    llm: Annotated[
        str,
        typer.Option(
            help="Language model for --propose-concepts: the name of a model, scripted:FILE or "
            "none."
        ),
    ] = "none"
    llm_base_url: LLMBaseURL = None
    llm_refresh: LLMRefresh = False
    prompts: Prompts = None

    def model(self) -> "AbstractContextManager[LLM | None]":
        """The LLM, closed at the end; None where nobody is to be asked."""
        return language_model(self.llm, self.llm_base_url, self.llm_refresh)


@dataclass(frozen=True)
class Narrating(Asking):
    """The same of a command whose finding it writes."""

    llm: Annotated[
        str,
        typer.Option(
            help="Language model that writes the summary from checked facts and, with "
            "--propose-concepts, proposes concepts: the name of a model, scripted:FILE or none."
        ),
    ] = "none"


@dataclass(frozen=True)
class Categorizing:
    """Who sorts words, and into which categories."""

    llm: Annotated[
        str,
        typer.Option(
            help="Language model that sorts labels into categories and writes the "
            "summary: the name of a model, scripted:FILE or none.",
        ),
    ] = "none"
    llm_base_url: LLMBaseURL = None
    llm_refresh: LLMRefresh = False
    llm_lenient: Annotated[
        bool,
        typer.Option(
            "--llm-lenient", help="Count labels without a usable reply as unknown, and continue."
        ),
    ] = False
    llm_concurrency: Annotated[
        int, typer.Option(help="Number of requests at the same time.", min=1)
    ] = 4
    votes: Annotated[
        int,
        typer.Option(
            help="Ask the model this many times, in shuffled order, and list labels whose "
            "category changes.",
            min=1,
        ),
    ] = 1
    categories: Annotated[
        Path | None,
        typer.Option(help="File of categories, one on each line: name: description."),
    ] = None
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
            help="File of categories, one on each line: name: description.  [default: the run's]"
        ),
    ] = None


@dataclass(frozen=True)
class Reporting:
    """How the outcome is given."""

    max_report_mb: Annotated[
        float, typer.Option(help="Largest size of the report in megabytes.")
    ] = 20.0
    date: Date = None
    as_json: AsJSON = False


@app.command(
    None,
    "profiler categorize reports/lite0 --llm gpt-4o",
    "profiler categorize reports/lite0 --categories mine.txt --out reports/mine",
)
@grouped()
def categorize(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder.  [default: RUN itself, which is replaced at the end]"),
    ] = None,
    sorting: CategorizingAgain,
    vlm: Annotated[
        str | None,
        typer.Option(
            help="VLM that compares the words if no language model sorts them.  [default: "
            "the run's; conse if imported]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the order of the votes.")] = 0,
    max_report_mb: Annotated[
        float | None,
        typer.Option(help="Largest size of the report in megabytes.  [default: the run's]"),
    ] = None,
    report_dir: Annotated[
        bool | None,
        typer.Option("--report-dir/--no-report-dir", help=f"{REPORT_DIR}  [default: as the run]"),
    ] = None,
    date: Date = None,
    as_json: AsJSON = False,
) -> None:
    """Sort the labels of a finished run again, with another model or other categories.

    No image is read. Labels and threshold stay the same.
    """
    from profiler.profile.result import load_run
    from profiler.profile.sorting.categories import Category

    sorting.check()
    run = load_run(folder)
    wanted = sorting.options([Category(name, text) for name, text in run.record.categories])
    if max_report_mb is None:
        max_report_mb = float(run.record.settings.get("max_report_mb", 20.0))
    if report_dir is None:
        report_dir = bool(run.record.settings.get("report_dir", False))
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
                report_dir=report_dir,
                provenance=provenance(context, date),
            ),
            texts,
            services(model),
        )
    show(done, out or folder, as_json)


@app.command(
    "import",
    "profiler import descriptions.csv --out reports/imported --threshold 0.2",
)
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
        typer.Option(help="Name of the network.  [default: that of the file or its folder]"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Trust labels that score above this number.  [default: trust every label]"
        ),
    ] = None,
    sorting: Categorizing,
    vlm: Annotated[
        str,
        typer.Option(
            help="VLM that compares the words if no language model sorts them: conse, "
            "open_clip:… or FILE.py:FACTORY."
        ),
    ] = "conse",
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the order of the votes.")] = 0,
    report_dir: ReportDir = False,
    reporting: Reporting,
) -> None:
    """Profile labels that another tool wrote, such as CLIP-Dissect's descriptions.csv.

    The report leaves out everything that the file does not hold.
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
                report_dir=report_dir,
                provenance=provenance(context, reporting.date),
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


def language_model(
    spec: str, base_url: str | None, refresh: bool
) -> "AbstractContextManager[LLM | None]":
    """The LLM of the options, closed at the end; None where nobody is to be asked."""
    from profiler.core.store import cache_folder
    from profiler.llm.choose import open_llm

    llm = open_llm(spec, base_url=base_url, cache_dir=cache_folder() / "llm", refresh=refresh)
    return nullcontext() if llm is None else closing(llm)


def provenance(context: typer.Context, date: str | None, **used: Any) -> "Provenance":
    """The command and its options, for the record; ``used`` in place of what was given."""
    from profiler.session import Provenance

    settings: Mapping[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
        if name != "as_json"
    }
    return Provenance(
        shlex.join(["profiler", *sys.argv[1:]]),
        settings={**settings, **used},
        **({"date": date} if date else {}),
    )


def show(done: "ProfileRun", out: Path, as_json: bool) -> None:
    """The outcome of a profile: a table, and what :func:`report` prints."""
    from profiler.api.results import Profile
    from profiler.cli.terminal import profile_table, stderr

    if not as_json and stderr.is_terminal:
        stderr.print(profile_table(done))
    report(Profile(done), out, as_json)


def report(found: "Result", out: Path, as_json: bool) -> None:
    """The outcome on standard output: the report's path, or everything as JSON."""
    from profiler.core.json_text import json_text

    path = str(out / found.report_name)
    typer.echo(json_text({"report": path, **found.to_json()}, None) if as_json else path)


def _name_of(file: Path) -> str:
    """CLIP-Dissect names the folder after the network, and the file always descriptions.csv."""
    return file.resolve().parent.name if file.stem == "descriptions" else file.stem
