"""``profiler guard fit``, ``score`` and ``eval``."""

import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.classifiers import (
    AttackSteps,
    ClassesFile,
    DataLimit,
    DataPath,
    HeadName,
    Naming,
    TrustLabels,
    open_classifier,
    opened,
)
from profiler.cli.engines import ONE_COMMAND, Scaling
from profiler.cli.help import App
from profiler.cli.images import Computing, batch_size_of
from profiler.cli.options import grouped
from profiler.cli.subjects import Loading, SubjectName
from profiler.cli.words import Asking, Date, Reporting, provenance, report
from profiler.core.text import file_name, stem_of
from profiler.errors import CheckFailed, InputError, OutputError, UsageError

if TYPE_CHECKING:
    from profiler.data.images import ImageFolder
    from profiler.guard.drift import Look
    from profiler.guard.guard import Guard
    from profiler.guard.result import Assessment
    from profiler.guard.score import Scored

commands = App(
    name="guard",
    help="Decide for each prediction of a classifier whether to trust it: fit, score, eval.",
)
app.add_typer(commands)

_UNUSED = ("workers", "precision", "allow_bad")
"""Of how images are read, what score and eval do not ask: they read as a deployed guard does."""

GuardFile = Annotated[
    Path | None,
    typer.Option(help="File of the guard.  [default: reports/guard-SUBJECT/…]"),
]


@dataclass(frozen=True)
class Flagging:
    """By which promise a threshold is set."""

    share: Annotated[
        float | None,
        typer.Option(help="Flag at most this share of all inputs."),
    ] = None
    false_alarms: Annotated[
        float | None,
        typer.Option(help="Flag at most this share of the correct predictions."),
    ] = None
    passed_errors: Annotated[
        float | None,
        typer.Option(
            help="Keep the share of inputs that are misclassified and pass below this "
            "(conformal risk control).",
        ),
    ] = None
    risk: Annotated[
        float | None,
        typer.Option(
            help="Keep the share of misclassified inputs among those that pass below this.",
        ),
    ] = None
    confidence: Annotated[float, typer.Option(help="Confidence with which --risk holds.")] = 0.95

    def target(self) -> tuple[str, float] | None:
        """The one promise that was given, and its level; None without any."""
        given = {
            "share": self.share,
            "false-alarms": self.false_alarms,
            "passed-errors": self.passed_errors,
            "risk": self.risk,
        }
        named = [(name, level) for name, level in given.items() if level is not None]
        if len(named) > 1:
            raise UsageError(f"{' and '.join(f'--{name}' for name, _ in named)} exclude each other")
        for name, level in named:
            if not 0 < level < 1:
                raise UsageError(f"--{name} must lie between 0 and 1, got {level:g}")
        if not 0 < self.confidence < 1:
            raise UsageError(f"--confidence must lie between 0 and 1, got {self.confidence:g}")
        return named[0] if named else None


@commands.command(
    "fit",
    "profiler guard fit resnet50 --data HELD_OUT --out reports/guard",
)
@grouped(ONE_COMMAND)
def fit(
    context: typer.Context,
    subject: SubjectName,
    data: DataPath,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/guard-SUBJECT]")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            help="Detection method: typicality, cosine, likelihood or strengths; msp+ "
            "before one of them combines it with the softmax; auto takes the "
            "combination that detects most errors on held-out images."
        ),
    ] = "msp+typicality",
    views: Annotated[
        str,
        typer.Option(
            help="Augmented views of each image: mirrored, right, down, left, up (shifted "
            "by a pixel), separated by commas; all; none. They detect far more "
            "attacks and cost one forward pass each.",
        ),
    ] = "none",
    flagging: Flagging,
    naming: Naming,
    loading: Loading,
    limit: DataLimit = None,
    trust_labels: TrustLabels = False,
    asking: Asking,
    computing: Computing,
    scaling: Scaling,
    date: Date = None,
) -> None:
    """Fit a guard to labelled images that the network was not trained on.

    Writes guard.safetensors, and reference.safetensors for the baselines of guard eval. The
    guard is fitted on half of the images, chosen on a quarter and its threshold set on a
    quarter. By default it flags at most 5 % of the correct predictions.
    """
    computing.check()
    scaling.check(computing.device)
    target, level = flagging.target() or ("false-alarms", 0.05)
    from profiler.cli.terminal import services
    from profiler.guard.fit import GuardOptions, check_rule, fit_guard
    from profiler.guard.guard import FILE
    from profiler.models.views import parse_views

    wanted = parse_views(views)
    check_rule(rule, wanted)
    out = out or _folder(subject)
    case = opened(subject, data, limit, naming, loading, asking, computing, scaling, out)
    with case as (llm, engine, inputs):
        guard = fit_guard(
            *inputs,
            out,
            GuardOptions(
                rule=rule,
                views=wanted,
                target=target,
                level=level,
                confidence=flagging.confidence,
                trust_labels=trust_labels,
                seed=computing.seed,
                reading=computing.reading,
                engine=engine,
                provenance=provenance(context, date),
            ),
            services(llm),
        )
    cut = guard.threshold
    head = ", with the head as these images correct it" if guard.corrected else ""
    asked = f", with {len(wanted)} augmented view(s) of each image" if wanted else ""
    typer.echo(
        f"method {guard.rule.name}{head}{asked}: {cut.text} ({cut.flagged:.1%} of {cut.images} "
        "images flagged)",
        err=True,
    )
    typer.echo(str(out / FILE))


@commands.command(
    "score",
    "profiler guard score resnet50 PHOTOS --guard reports/guard/guard.safetensors --watch",
)
@grouped(_UNUSED)
def score(
    subject: SubjectName,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="A folder of images, a CSV with the column path, or files.",
        ),
    ],
    *,
    guard: GuardFile = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write to.  [default: standard output]")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON lines instead of CSV.")
    ] = False,
    flagging: Flagging,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Report when the inputs that pass drift from the reference, and in which "
            "concepts.",
        ),
    ] = False,
    window: Annotated[
        int, typer.Option(help="Number of passing images between two tests of --watch.", min=1)
    ] = 100,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Exit with status 1 if --watch reports drift.")
    ] = False,
    head: HeadName = None,
    loading: Loading,
    computing: Computing,
) -> None:
    """Score images: the prediction, accept or flag, and the evidence against each.

    An image is flagged if it cannot be read, or if the network gives no finite numbers for it.
    An option for the threshold replaces the guard's own.
    """
    size = batch_size_of(computing.batch_size)
    flagging.target()
    if fail_on_drift and not watch:
        raise UsageError("--fail-on-drift needs --watch")
    from profiler.cli.terminal import TerminalProgress
    from profiler.guard.answers import BATCH, check_subject
    from profiler.guard.score import score_images
    from profiler.session import Services, check_writable

    probe = _probe(images)
    if out is not None and not out.exists():
        check_writable(out.parent)
    made = _load(_path(guard, subject), flagging)
    classifier = open_classifier(subject, head, loading, computing)
    check_subject(made, classifier)
    looks: list[Look] = []

    def told(look: "Look") -> None:
        looks.append(look)
        for line in _drift_lines(made, look):
            typer.echo(line, err=True)

    rows = score_images(
        made,
        classifier,
        probe,
        batch=size or BATCH,
        on_look=told if watch else None,
        window=window,
        services=Services(progress=TerminalProgress()),
    )
    with _output(out) as file:
        _write_rows(rows, file, as_json)
    drifted = [look for look in looks if look.drifted]
    if fail_on_drift and drifted:
        raise CheckFailed(
            f"the images that pass have drifted from the reference, by {len(drifted)} of "
            f"{len(looks)} tests"
        )


@commands.command(
    "eval",
    "profiler guard eval resnet50 --data OTHERS --guard reports/guard/guard.safetensors",
)
@grouped(_UNUSED)
def evaluate(
    context: typer.Context,
    subject: SubjectName,
    data: DataPath,
    *,
    guard: GuardFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: the guard's own]")
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(help="Attack the images: fgsm or pgd; may be given more than once."),
    ] = None,
    eps: Annotated[
        str,
        typer.Option(
            help="Largest changes of a pixel by an attack, where white is 1, separated by commas."
        ),
    ] = "1/255,2/255,4/255",
    attack_steps: AttackSteps = 10,
    corrupt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:SEVERITY",
            help="Corrupt the images, as in gaussian_noise:3; may be given more than once.",
        ),
    ] = None,
    flagging: Flagging,
    classes: ClassesFile = None,
    head: HeadName = None,
    loading: Loading,
    limit: DataLimit = None,
    draws: Annotated[int, typer.Option(help="Number of bootstrap samples.", min=20)] = 1000,
    computing: Computing,
    reporting: Reporting,
) -> None:
    """Evaluate a guard on held-out labelled images, beside baselines.

    Writes guard.html, the page to read, and guard.json. Images that the guard was fitted on are
    recognised by their content and left out.
    """
    size = batch_size_of(computing.batch_size)
    flagging.target()
    from profiler.api.classifiers import changes_of, check_data
    from profiler.api.file_results import GuardAssessment

    attacks, corruptions = changes_of(
        attack or (), eps, attack_steps, corrupt or (), computing.seed
    )
    from profiler.cli.terminal import TerminalProgress
    from profiler.guard.answers import BATCH, REFERENCE, check_subject
    from profiler.guard.assess import AssessOptions, assess_guard
    from profiler.guard.fit import open_guard_data
    from profiler.session import Services, check_writable

    check_data(data, classes)
    path = _path(guard, subject)
    made = _load(path, flagging)
    out = out or path.parent
    check_writable(out)
    classifier = open_classifier(subject, head, loading, computing)
    check_subject(made, classifier)  # or its outputs would be held to be others'
    images = open_guard_data(made, data, classes, limit)
    reference = path.parent / REFERENCE
    found = assess_guard(
        made,
        classifier,
        images,
        reference if reference.is_file() else None,
        out,
        AssessOptions(
            attacks=attacks,
            corruptions=corruptions,
            draws=draws,
            seed=computing.seed,
            batch=size or BATCH,
            max_report_mb=reporting.max_report_mb,
            provenance=provenance(context, reporting.date),
        ),
        Services(progress=TerminalProgress()),
    )
    if not reporting.as_json:
        _show(found)
    report(GuardAssessment(found.files), out, reporting.as_json)


def _folder(subject: str) -> Path:
    return Path("reports", file_name(f"guard-{stem_of(subject)}"))


def _path(guard: Path | None, subject: str) -> Path:
    from profiler.guard.guard import FILE

    path = guard or _folder(subject) / FILE
    return path / FILE if path.is_dir() else path


def _load(path: Path, flagging: Flagging) -> "Guard":
    from profiler.guard.guard import Guard

    made, target = Guard.load(path), flagging.target()
    return made if target is None else made.at(*target, flagging.confidence)


def _probe(images: list[Path]) -> "ImageFolder":
    from profiler.data.images import ImageFolder

    if len(images) == 1 and images[0].is_dir():
        return ImageFolder.open(images[0])
    if len(images) == 1 and images[0].suffix.lower() in _TABLES and images[0].is_file():
        return _of_table(images[0])
    several = [str(p) for p in images if p.is_dir() or p.suffix.lower() in _TABLES]
    if several:
        raise UsageError(
            f"name one folder, one table of paths, or files; {several[0]!r} is one of several names"
            if len(images) > 1
            else f"there is no table of images {several[0]!r}"
        )
    if not any(path.exists() for path in images):
        # One of many that is gone is flagged; a name that leads nowhere is a wrong call.
        raise InputError(f"there is no image, folder or table {str(images[0])!r}")
    return ImageFolder(Path(), tuple(map(str, images)), "images")


_TABLES = (".csv", ".tsv")


def _of_table(path: Path) -> "ImageFolder":
    """The images that a table names in its column ``path``, relative to where it lies."""
    from profiler.data.images import ImageFolder
    from profiler.data.labelled.reading import existing, filled

    # A file that is not there is flagged with its problem, as any that cannot be read.
    files = [existing(path.parent, name) or name for _, (name,) in filled(path, "path")]
    return ImageFolder(path.parent, tuple(files), path.name)


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def _write_rows(rows: "Iterable[Scored]", file: IO[str], as_json: bool) -> None:
    from profiler.core.json_text import json_text
    from profiler.guard.score import COLUMNS

    writer = csv.writer(file, lineterminator="\n")
    if not as_json:
        writer.writerow(COLUMNS)
    for row in rows:
        if as_json:
            file.write(json_text(row.to_json(), None) + "\n")
        else:
            writer.writerow(row.cells)
        # Whoever reads the other end of a pipe should not wait for a whole block.
        file.flush()


def _drift_lines(guard: "Guard", look: "Look") -> Iterator[str]:
    from profiler.guard.drift import TOLD, blamed

    names = guard.space.names
    about = f"look {look.number}, {look.images} images passed"
    if not look.drifted:
        yield f"{about}: no drift: no relation of concepts differs from the reference"
        return
    where = "since the start" if look.overall else f"in the last {look.window}"
    concepts = ", ".join(
        f"{names[concept]} (stronger in {gained}, weaker in {lost})"
        for concept, gained, lost in blamed(look.shifts)[:TOLD]
    )
    yield (
        f"{about}: DRIFT {where}: {len(look.shifts)} relations differ from the reference; "
        f"concepts: {concepts}"
    )
    for shift in look.shifts[:TOLD]:
        yield (
            f"  {names[shift.more]} > {names[shift.less]}: {shift.now:.0%} now, "
            f"{shift.before:.0%} in the reference (p = {shift.p_value:.1g})"
        )
    moved = int(abs(look.classes).argmax())
    yield (
        f"  predicted most differently often: {guard.class_name(moved)} "
        f"({look.classes[moved]:+.0%} of what passes)"
    )


def _show(found: "Assessment") -> None:
    """AUROC of every score in every condition, on a terminal."""
    from rich.table import Table

    from profiler.cli.terminal import stderr

    if not stderr.is_terminal:
        return
    table = Table(title="AUROC, defects against correct predictions", title_justify="left")
    table.add_column("score")
    for condition in found.conditions:
        table.add_column(condition.title, justify="right")
    for name in (*found.rules, *found.baselines):
        values = [each.metrics[name].auroc.value for each in found.conditions]
        table.add_row(name, *(f"{value:.3f}" for value in values))
    stderr.print(table)
