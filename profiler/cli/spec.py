"""``profiler check`` and ``profiler mine``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.classifiers import DataLimit, DataPath, Naming, TrustLabels, case_of
from profiler.cli.images import Computing
from profiler.cli.options import grouped
from profiler.cli.subjects import Loading, SubjectName
from profiler.cli.words import AsJSON, Reporting, provenance, report
from profiler.core.text import file_name, stem_of
from profiler.errors import CheckFailed, Undecided, UsageError

if TYPE_CHECKING:
    from profiler.spec.result import Checked

_UNUSED = ("concepts_from", "propose_concepts")
"""A spec names its concepts itself."""

DEFAULT_REGION = "box:0.3"


@app.command(
    None,
    "profiler check animals.conspec resnet50 --data VAL",
    "profiler check animals.conspec resnet50 --data VAL --region box:0.3",
    "profiler check --verify reports/check/certificates.json",
)
@grouped(_UNUSED)
def check(
    context: typer.Context,
    *,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.conspec", help="File of specifications in Con_spec."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Argument(metavar="SUBJECT", help="The network, as in `profiler run`."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled images: a folder with a subfolder for each class, or a CSV "
            "with the columns path,label.",
        ),
    ] = None,
    formal: Annotated[
        bool,
        typer.Option("--formal", help="Also prove specs on regions, or find counterexamples."),
    ] = False,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGION",
            help="Region of a class's encodings: box:GAMMA (mean ± GAMMA standard "
            "deviations), hull, ball:R (R times their spread), or max (the largest "
            "box that can be proved). May be given more than once; implies --formal.  [default: "
            f"{DEFAULT_REGION}]",
        ),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Prove on the regions of this class; may be given more than once.  [default: the "
            "classes that a spec predicts, or else all]",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Time limit in seconds for one spec on one region.", min=0.0)
    ] = 60.0,
    verify: Annotated[
        Path | None,
        typer.Option(
            metavar="CERT",
            help="Verify the proofs in certificates.json again, in rational arithmetic; "
            "nothing else is read.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Concepts that the images show, for hasCon: a CSV image,concept,concept "
            "… of 0 and 1."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/check-FILE-SUBJECT]")
    ] = None,
    naming: Naming,
    loading: Loading,
    limit: DataLimit = None,
    trust_labels: TrustLabels = False,
    computing: Computing,
    reporting: Reporting,
) -> None:
    """Check a classifier against specifications: on images, and by proofs on regions.

    Writes check.html, check.json and, for what is proved, certificates.json. Exit status: 1 if
    a spec fails; 4 if none fails and one stays undecided.
    """
    if verify is not None:
        if file is not None or subject is not None:
            raise UsageError("--verify reads a file of certificates and nothing else")
        _verify(verify, reporting.as_json)
        return
    if file is None or subject is None or data is None:
        raise UsageError("write: profiler check FILE.conspec SUBJECT --data DIR")
    computing.check()
    from profiler.api.classifiers import words_of
    from profiler.core.text import text_of
    from profiler.spec.language.names import check as check_names
    from profiler.spec.language.parser import read
    from profiler.spec.result import RegionChoice

    wanted = region or ([DEFAULT_REGION] if formal else [])
    regions = tuple(dict.fromkeys(RegionChoice.parse(each) for each in wanted))
    with _pointing():
        specs = read(file)
        # Refused now, before the network is loaded, as far as the file itself can tell.
        given = words_of(naming.concepts)
        words = None if specs.concepts else given
        check_names(specs, None, words.words if words else None)
    out = out or Path("reports", file_name(f"check-{file.stem}-{stem_of(subject)}"))
    case = case_of(subject, data, limit, naming, loading, computing, out)
    if annotations is not None:
        text_of(annotations, "file of annotations")

    from profiler.api.file_results import CheckResult
    from profiler.cli.terminal import services, stderr
    from profiler.spec.check import check as hold
    from profiler.spec.page import check_table
    from profiler.spec.world import SpecOptions, concepts_for

    called = services(None)
    classifier, images = case.open()
    with _pointing():
        # The VLM and the images come last: what names no output is refused before.
        words = concepts_for(specs, words, images)
        done = hold(
            specs,
            words,
            classifier,
            case.open_vlm(called.store),
            images,
            out,
            SpecOptions(
                regions=regions,
                on=tuple(on or ()),
                seconds=timeout,
                annotations=annotations,
                trust_labels=trust_labels,
                seed=computing.seed,
                max_report_mb=reporting.max_report_mb,
                reading=computing.reading,
                provenance=provenance(context, reporting.date),
            ),
            called,
        )
    if not reporting.as_json:
        for line in check_table(done):
            stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    report(CheckResult(done.files), out, reporting.as_json)
    _judge(done)


@contextmanager
def _pointing() -> Iterator[None]:
    """Shows the place of an error in a file of specs, above its message."""
    from profiler.spec.language.tokens import SpecError

    try:
        yield
    except SpecError as error:
        typer.echo(error.excerpt, err=True)
        raise


def _verify(path: Path, as_json: bool) -> None:
    from profiler.core.json_text import json_text
    from profiler.spec.check import verify

    found = verify(path)
    if as_json:
        proofs = [
            {"spec": each.spec, "on": each.on, "formula": str(each.formula), "complaint": wrong}
            for each, wrong in found
        ]
        typer.echo(json_text({"proofs": proofs}, None))
    else:
        for each, wrong in found:
            typer.echo(
                f"{'WRONG' if wrong else 'proved'}  {each.spec} on {each.on}: {each.formula}"
            )
    broken = [(each, said) for each, said in found if said]
    if broken:
        each, said = broken[0]
        raise CheckFailed(
            f"{len(broken)} of {len(found)} proofs do not hold; first: {each.spec} on {each.on}: "
            f"{said}"
        )


def _judge(done: "Checked") -> None:
    """Leave with the worst outcome; undecided is never success."""
    failed, undecided = done.of("fails"), done.of("undecided")
    if failed:
        names = ", ".join(each.spec.name for each in failed[:5])
        raise CheckFailed(f"{len(failed)} of {len(done.specs)} specs fail: {names}")
    if undecided:
        names = ", ".join(each.spec.name for each in undecided[:5])
        raise Undecided(f"{len(undecided)} of {len(done.specs)} specs are undecided: {names}")


@app.command(
    None,
    "profiler mine resnet50 --data VAL --out animals.conspec",
)
@grouped(_UNUSED)
def mine(
    context: typer.Context,
    subject: SubjectName,
    data: DataPath,
    *,
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: reports/mined-SUBJECT.conspec]")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Take pairs of concepts from how often each class shows each attribute: "
            "a CSV class,attribute,attribute … of shares.",
        ),
    ] = None,
    per_class: Annotated[
        int, typer.Option(help="Largest number of specs for each class.", min=1)
    ] = 10,
    least_rate: Annotated[
        float,
        typer.Option(
            help="Share of the images for which a spec has to hold; for a spec from a "
            "table, the rate that it requires.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.9,
    relevant: Annotated[
        float,
        typer.Option(help="From a table: least share of the stronger attribute.", min=0.0),
    ] = 0.5,
    gap: Annotated[
        float,
        typer.Option(
            help="From a table: least difference between the stronger and the weaker attribute.",
            min=0.0,
        ),
    ] = 0.4,
    naming: Naming,
    loading: Loading,
    limit: DataLimit = None,
    trust_labels: TrustLabels = False,
    computing: Computing,
    as_json: AsJSON = False,
) -> None:
    """Propose specifications that hold for images, each with its rate, ready to edit.

    Pairs of concepts are chosen on three fifths of the images and measured on the others. From
    a table, the pairs that the classifier violates most come first.
    """
    from profiler.core.json_text import json_text

    computing.check()
    from profiler.spec.mine import MineOptions, read_table
    from profiler.spec.mine import mine as propose
    from profiler.spec.world import SpecOptions

    if table is not None:
        read_table(table)
    out = out or Path("reports", file_name(f"mined-{stem_of(subject)}") + ".conspec")
    case = case_of(subject, data, limit, naming, loading, computing, out.parent, naming.chosen())
    from profiler.cli.terminal import services

    called = services(None)
    classifier, images = case.open()
    # Of a table, all columns, unless some are named.
    words = case.concepts(images) if case.words or table is None else None
    done = propose(
        words,
        classifier,
        case.open_vlm(called.store),
        images,
        out,
        MineOptions(per_class, least_rate, table, relevant, gap),
        SpecOptions(
            trust_labels=trust_labels,
            seed=computing.seed,
            reading=computing.reading,
            provenance=provenance(context, None),
        ),
        called,
    )
    if not done.proposals:
        typer.echo(
            f"warning: no pair holds often enough to be proposed, so {out} holds no spec; lower "
            "--least-rate, or give more images",
            err=True,
        )
    if not as_json:
        typer.echo(str(out))
        return
    typer.echo(json_text({"file": str(out), **done.to_json()}, None))
