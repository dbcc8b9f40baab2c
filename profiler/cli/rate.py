"""``profiler rate`` and ``profiler calibrate``."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from profiler.cli.app import app
from profiler.cli.words import AsJSON, Date, LLMBaseURL, LLMRefresh, language_model, provenance
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.core.statistics import Interval
    from profiler.rate.calibration import Calibration
    from profiler.rate.views import View

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
ViewName = Annotated[
    str,
    typer.Option(
        help="What is rated: peak, the labels, by the images with the strongest "
        "activations; or range, the explanations, by images from the whole range "
        "of activations.",
        metavar="peak|range",
    ),
]


@app.command(
    None,
    "profiler rate reports/lite0",
    "profiler rate reports/lite0 --view range --blind",
)
def rate(
    folder: RunFolder,
    view: ViewName = "peak",
    per_layer: Annotated[int, typer.Option(help="Number of units in each layer.", min=1)] = 100,
    seed: Annotated[
        int, typer.Option(help="Seed of the sample; the same seed gives the same questions.", min=0)
    ] = 0,
    rater: Annotated[
        str, typer.Option(help="Name of the rater; otherwise the page asks for it.")
    ] = "",
    blind: Annotated[bool, typer.Option(help="Hide score and layer.")] = False,
    port: Annotated[
        int | None,
        typer.Option(help="Port on 127.0.0.1.  [default: 8717, or a free one]", min=0, max=65535),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    export: Annotated[
        Path | None, typer.Option(help="Write the ratings to this CSV file, and exit.")
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", help="Read ratings from this CSV file into the run, and exit."),
    ] = None,
) -> None:
    """Collect people's ratings of labels or explanations, on a local web page.

    Every rating is saved in RUN/ratings.csv (RUN/ratings-range.csv) before the next question
    appears. Several people may share the page, by name, and come back later.
    """
    if export and import_:
        raise UsageError("--export and --import are two calls, not one")
    kind = _view(view)
    if export:
        from profiler.rate.calibrate import export_ratings

        number = export_ratings(folder, export, kind)
        typer.echo(f"{number} ratings written to {export}", err=True)
        return
    from profiler.rate.book import RatingBook, read_file

    if import_:
        book = RatingBook(folder, view=kind)
        new, known = book.take_in(read_file(import_), str(import_))
        typer.echo(f"{new} ratings taken in, {known} were there already", err=True)
        return
    from profiler.rate.ratings import check_rater
    from profiler.rate.server.server import serve
    from profiler.rate.server.session import Session
    from profiler.rate.views import option

    name = check_rater(rater) if rater else ""
    book = RatingBook(folder, view=kind)
    session = Session(book, per_layer=per_layer, seed=seed, blind=blind)
    # Whether Ctrl-C comes out of the server as an exception or ends it quietly is up to asyncio.
    with suppress(KeyboardInterrupt):
        serve(session, port=port, rater=name, open_browser=browser)
    after = f"profiler calibrate {folder}{option(kind)}"
    typer.echo(f"\nratings are kept; next: {after}", err=True)


@app.command(
    None,
    "profiler calibrate reports/lite0",
)
def calibrate(
    context: typer.Context,
    folder: RunFolder,
    view: ViewName = "peak",
    ratings: Annotated[
        Path | None, typer.Option(help="File of ratings.  [default: the run's own]")
    ] = None,
    target: Annotated[
        float, typer.Option(help="Mean rating that the units above the threshold have to reach.")
    ] = 0.75,
    isotonic: Annotated[
        bool,
        typer.Option(
            "--isotonic",
            help="Also estimate an expected rating for each unit (isotonic regression).",
        ),
    ] = False,
    unweighted: Annotated[
        bool,
        typer.Option(
            "--unweighted",
            help="Give every rated unit the same weight, whatever the size of its layer.",
        ),
    ] = False,
    min_above: Annotated[
        int, typer.Option(help="Least number of rated units above a threshold.", min=1)
    ] = 20,
    draws: Annotated[int, typer.Option(help="Number of bootstrap samples.", min=200)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", min=0)] = 0,
    llm: Annotated[
        str | None,
        typer.Option(
            help="Language model that sorts labels which are trusted now and were not "
            "before.  [default: the run's]",
        ),
    ] = None,
    llm_base_url: LLMBaseURL = None,
    llm_refresh: LLMRefresh = False,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    date: Date = None,
    as_json: AsJSON = False,
) -> None:
    """Set the threshold from ratings, and update the run's profile and report.

    No image is read. Writes calibration.html, and threshold.json, which `profiler run
    --threshold` accepts for runs of the same context. With --view range, the threshold is on the
    r of explanations with all their words, and replaces the one that decoys set; the files are
    calibration-range.html, and threshold-range.json for `profiler run --range-threshold`. Exit
    status: 1 if the target cannot be reached; 4 if there are too few ratings to decide.
    """
    kind = _view(view)
    from profiler.cli.terminal import services, stderr
    from profiler.core.json_text import json_text
    from profiler.models.vlm.choose import late_words, texts_of
    from profiler.profile.result import load_run
    from profiler.profile.run import ProfileOptions
    from profiler.profile.sorting.categories import Category
    from profiler.rate.calibrate import CalibrationOptions, calibrate_run, calibrated_json
    from profiler.rate.views import check_view, file_name
    from profiler.session import choose_device

    run = load_run(folder)
    check_view(run, folder, kind)
    record = run.record
    settings = (record.resorted or record).settings
    place = choose_device(device)
    chosen = settings.get("vlm") if record.resorted else None
    texts = (
        late_words(str(chosen), place) if chosen else texts_of(record.vlm, record.settings, place)
    )
    prompts = settings.get("prompts")
    with language_model(
        llm or str(settings.get("llm", "none")),
        llm_base_url or settings.get("llm_base_url"),
        llm_refresh,
    ) as model:
        done = calibrate_run(
            folder,
            CalibrationOptions(
                view=kind,
                ratings=ratings,
                target=target,
                minimum_above=min_above,
                weighted=not unweighted,
                isotonic=isotonic,
                draws=draws,
                seed=seed,
            ),
            ProfileOptions(
                categories=tuple(Category(name, text) for name, text in record.categories),
                lenient=bool(settings.get("llm_lenient", False)),
                votes=int(settings.get("votes", 1)) if model else 1,
                concurrency=int(settings.get("llm_concurrency", 4)),
                prompts=Path(prompts) if prompts else None,
                seed=record.seed,
                max_report_mb=float(record.settings.get("max_report_mb", 20.0)),
                report_dir=bool(record.settings.get("report_dir", False)),
                provenance=provenance(context, date),
            ),
            texts,
            services(model),
        )
    if as_json:
        typer.echo(json_text(calibrated_json(done, folder), None))
    else:
        if stderr.is_terminal:
            stderr.print(_table(done.found))
        typer.echo(str(folder / file_name("calibration.html", kind)))
    if done.verdict:
        raise done.verdict


def _view(name: str) -> "View":
    from profiler.rate.views import VIEWS

    for view in VIEWS:
        if view == name:
            return view
    raise UsageError(f"--view {name!r} is neither peak nor range")


def _table(found: "Calibration") -> Table:
    """Ratings and shares by layer."""
    table = Table(title=f"ratings by layer, τ = {found.tau:.4f}", title_justify="left")
    table.add_column("layer")
    for name in ("units", "rated", "mean", "above τ", "not above τ", "interpretable"):
        table.add_column(name, justify="right")
    for row in (*found.layers, found.total):
        share = "–" if row.interpretable is None else f"{row.interpretable:,} ({row.share:.0%})"
        means = (_short(mean) for mean in (row.overall, row.above, row.below))
        table.add_row(row.layer, f"{row.units:,}", f"{row.rated:,}", *means, share)
    return table


def _short(interval: "Interval") -> str:
    if interval.value != interval.value:
        return "–"
    if interval.low != interval.low:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"
