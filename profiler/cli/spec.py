"""``profiler check`` and ``profiler mine``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.classifiers import (
    AttributesName,
    ClassesFile,
    DataLimit,
    DataPath,
    HeadName,
    check_early,
    choose_concepts,
    open_classifier,
    open_data,
)
from profiler.cli.images import (
    AllowBad,
    BatchSize,
    Precision,
    Seed,
    VLMName,
    Workers,
    batch_size_of,
    check_precision,
)
from profiler.cli.subjects import (
    CheckpointFile,
    CheckpointKey,
    Device,
    Partial,
    PreprocessText,
    SubjectName,
    Weights,
    file_name,
    stem_of,
)
from profiler.cli.words import AsJSON, Date, how_called
from profiler.errors import CheckFailed, Undecided, UsageError

if TYPE_CHECKING:
    from profiler.spec.result import Checked

TrustLabels = Annotated[
    bool,
    typer.Option(
        "--trust-labels",
        help="Go on although labels and outputs seem to be numbered differently.",
    ),
]

DEFAULT_REGION = "box:0.3"


@app.command()
def check(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.conspec", help="Specifications, as docs/conspec.md describes."
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Argument(metavar="SUBJECT", help="The network, as in profiler run."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Labelled images: a folder with a subfolder for each class, or a CSV of "
            "path,label.",
        ),
    ] = None,
    formal: Annotated[
        bool,
        typer.Option("--formal", help="Prove specs on regions, too, or find counterexamples."),
    ] = False,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGION",
            help="Of a class's encodings: box:GAMMA (mean ± GAMMA standard deviations), hull, "
            "ball:R (R times their spread), or max (the largest box that is proved). Once for "
            f"each; implies --formal.  [default: {DEFAULT_REGION}]",
        ),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Prove on the regions of these classes; once for each.  [default: the classes "
            "that a spec predicts, or else all]",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds for one spec on one region.", min=0.0)
    ] = 60.0,
    verify: Annotated[
        Path | None,
        typer.Option(
            metavar="CERT",
            help="Check the proofs in certificates.json again, in rational arithmetic; nothing "
            "else is read.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="What images show, for hasCon: a CSV image,concept,concept … of 0 and 1."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/check-FILE-SUBJECT]")
    ] = None,
    classes: ClassesFile = None,
    head: HeadName = None,
    concepts: AttributesName = None,
    vlm: VLMName = "open_clip:ViT-B-16/openai",
    checkpoint: CheckpointFile = None,
    checkpoint_key: CheckpointKey = "",
    partial: Partial = False,
    weights: Weights = "default",
    preprocess: PreprocessText = None,
    limit: DataLimit = None,
    trust_labels: TrustLabels = False,
    batch_size: BatchSize = "auto",
    workers: Workers = 2,
    device: Device = "auto",
    precision: Precision = "fp32",
    seed: Seed = 0,
    allow_bad: AllowBad = False,
    max_report_mb: Annotated[float, typer.Option(help="Largest size of the report.")] = 20.0,
    date: Date = None,
    as_json: AsJSON = False,
) -> None:
    """Hold a classifier against specifications: on images, and on regions with proofs.

    Writes check.html, check.json and, for what is proved, certificates.json. Exits with 1 if a
    spec fails, with 4 if one stays undecided and none fails.
    """
    if verify is not None:
        if file is not None or subject is not None:
            raise UsageError("--verify reads a file of certificates and nothing else")
        _verify(verify, as_json)
        return
    if file is None or subject is None or data is None:
        raise UsageError("write: profiler check FILE.conspec SUBJECT --data DIR")
    size = batch_size_of(batch_size)
    check_precision(precision, device)
    from profiler.core.text import text_of
    from profiler.spec.language.names import check as check_names
    from profiler.spec.language.parser import read
    from profiler.spec.result import RegionChoice

    wanted = region or ([DEFAULT_REGION] if formal else [])
    regions = tuple(dict.fromkeys(RegionChoice.parse(each) for each in wanted))
    with _pointing():
        specs = read(file)
        # Refused now, before the network is loaded, as far as the file itself can tell.
        words = None
        if not specs.concepts and concepts is not None:
            words = choose_concepts(concepts, None, False, (), None, None)
        check_names(specs, None, words.words if words else None)
    out = out or Path("reports", file_name(f"check-{file.stem}-{stem_of(subject)}"))
    check_early(
        subject=subject,
        device=device,
        subject_own=(checkpoint, partial, weights, preprocess, seed, checkpoint_key),
        vlm=vlm,
        data=data,
        classes=classes,
        limit=limit,
        out=out,
        concepts=concepts,
    )
    if annotations is not None:
        text_of(annotations, "file of annotations")

    from profiler.cli.terminal import TerminalProgress
    from profiler.core.store import Store, cache_folder
    from profiler.models.vlm.choose import open_vlm
    from profiler.session import Services, choose_device
    from profiler.spec.check import check as hold
    from profiler.spec.world import SpecOptions

    place = choose_device(device)
    classifier = open_classifier(
        subject, place, head, checkpoint, partial, weights, preprocess, seed, checkpoint_key
    )
    images = open_data(data, classes, classifier.outputs, limit)
    with _pointing():
        from profiler.spec.world import entries_of, name_outputs, write_out

        if not specs.concepts and words is None:
            from profiler.concepts.attributes import attributes_for

            words = attributes_for([images.classes.names[i] for i in set(images.truth.tolist())])
        # The VLM and the images come last: what names no output is refused before.
        write_out(specs, name_outputs(specs, images.classes), entries_of(specs, words))
        done = hold(
            specs,
            words,
            classifier,
            open_vlm(vlm, place),
            images,
            out,
            SpecOptions(
                regions=regions,
                on=tuple(on or ()),
                seconds=timeout,
                annotations=annotations,
                trust_labels=trust_labels,
                seed=seed,
                precision=precision,
                batch_size=size,
                workers=workers,
                allow_bad=allow_bad,
                max_report_mb=max_report_mb,
                **how_called(context, date),
            ),
            Services(None, Store(cache_folder()), TerminalProgress()),
        )
    _show(done, out, as_json)
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


def _show(done: "Checked", out: Path, as_json: bool) -> None:
    from profiler.cli.terminal import stderr
    from profiler.core.json_text import json_text, read_json
    from profiler.spec.page import check_table

    if as_json:
        content = read_json(out / "check.json", "outcome")
        typer.echo(json_text({"report": str(out / "check.html"), **content}, None))
        return
    for line in check_table(done):
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    typer.echo(str(out / "check.html"))


def _judge(done: "Checked") -> None:
    """Leave with the worst outcome; undecided is never success."""
    failed, undecided = done.of("fails"), done.of("undecided")
    if failed:
        names = ", ".join(each.spec.name for each in failed[:5])
        raise CheckFailed(f"{len(failed)} of {len(done.specs)} specs fail: {names}")
    if undecided:
        names = ", ".join(each.spec.name for each in undecided[:5])
        raise Undecided(f"{len(undecided)} of {len(done.specs)} specs are undecided: {names}")


@app.command()
def mine(
    context: typer.Context,
    subject: SubjectName,
    data: DataPath,
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: reports/mined-SUBJECT.conspec]")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Take pairs from how often each class shows each attribute: a CSV "
            "class,attribute,attribute … of shares.",
        ),
    ] = None,
    per_class: Annotated[int, typer.Option(help="Specs for each class, at most.", min=1)] = 10,
    least_rate: Annotated[
        float,
        typer.Option(
            help="Share of the images of which a spec has to hold; of one from a table, what it "
            "requires.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.9,
    relevant: Annotated[
        float,
        typer.Option(help="From a table: the stronger attribute is shown so often.", min=0.0),
    ] = 0.5,
    gap: Annotated[
        float, typer.Option(help="From a table: and the weaker one less often by this.", min=0.0)
    ] = 0.4,
    classes: ClassesFile = None,
    head: HeadName = None,
    concepts: AttributesName = None,
    vlm: VLMName = "open_clip:ViT-B-16/openai",
    checkpoint: CheckpointFile = None,
    checkpoint_key: CheckpointKey = "",
    partial: Partial = False,
    weights: Weights = "default",
    preprocess: PreprocessText = None,
    limit: DataLimit = None,
    trust_labels: TrustLabels = False,
    batch_size: BatchSize = "auto",
    workers: Workers = 2,
    device: Device = "auto",
    precision: Precision = "fp32",
    seed: Seed = 0,
    allow_bad: AllowBad = False,
    as_json: AsJSON = False,
) -> None:
    """Propose specifications that images suggest, each with its rate, ready to edit.

    Pairs of concepts are chosen on three fifths of the images and measured on the others. From a
    table, those that the classifier violates most come first.
    """
    from profiler.core.json_text import json_text

    size = batch_size_of(batch_size)
    check_precision(precision, device)
    from profiler.spec.mine import MineOptions, read_table
    from profiler.spec.mine import mine as propose
    from profiler.spec.world import SpecOptions

    if table is not None:
        read_table(table)
    out = out or Path("reports", file_name(f"mined-{stem_of(subject)}") + ".conspec")
    words = check_early(
        subject=subject,
        device=device,
        subject_own=(checkpoint, partial, weights, preprocess, seed, checkpoint_key),
        vlm=vlm,
        data=data,
        classes=classes,
        limit=limit,
        out=out.parent,
        concepts=concepts,
    )
    from profiler.cli.terminal import TerminalProgress
    from profiler.core.store import Store, cache_folder
    from profiler.models.vlm.choose import open_vlm
    from profiler.session import Services, choose_device

    place = choose_device(device)
    classifier = open_classifier(
        subject, place, head, checkpoint, partial, weights, preprocess, seed, checkpoint_key
    )
    images = open_data(data, classes, classifier.outputs, limit)
    if table is None and words is None:
        present = [images.classes.names[i] for i in sorted(set(images.truth.tolist()))]
        words = choose_concepts(None, None, False, present, None, None)
    done = propose(
        words,
        classifier,
        open_vlm(vlm, place),
        images,
        out,
        MineOptions(per_class, least_rate, table, relevant, gap),
        SpecOptions(
            trust_labels=trust_labels,
            seed=seed,
            precision=precision,
            batch_size=size,
            workers=workers,
            allow_bad=allow_bad,
            **how_called(context, None),
        ),
        Services(None, Store(cache_folder()), TerminalProgress()),
    )
    if not done.proposals:
        typer.echo(
            f"warning: nothing holds often enough to be proposed, so {out} holds no spec; lower "
            "--least-rate, or give more images",
            err=True,
        )
    if not as_json:
        typer.echo(str(out))
        return
    content = {
        "file": str(out),
        "chosen_on": done.chosen_on,
        "measured_on": done.measured_on,
        "specs": [
            {
                "class": each.label,
                "relevant": each.relevant,
                "irrelevant": each.irrelevant,
                "formula": str(each.formula),
                "holds": each.inside.holds,
                "images": each.inside.images,
                "outside_holds": each.outside.holds,
                "outside_images": each.outside.images,
            }
            for each in done.proposals
        ],
    }
    typer.echo(json_text(content, None))
