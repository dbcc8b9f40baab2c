"""``profiler debug``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.classifiers import (
    AttackName,
    AttackSteps,
    Case,
    Computing,
    Corrupt,
    DataLimit,
    DataPath,
    Eps,
    Naming,
    TrustLabels,
)
from profiler.cli.options import grouped
from profiler.cli.subjects import Loading, SubjectName, file_name, stem_of
from profiler.cli.words import Narrating, Reporting, provenance
from profiler.errors import UnknownNameError

if TYPE_CHECKING:
    from profiler.debug.result import Diagnosis


@app.command(
    None,
    "profiler debug resnet50 --data VAL",
    "profiler debug resnet50 --data VAL --corrupt gaussian_noise:3",
    "profiler debug NETS.py:small --checkpoint small.pt --data VAL --concepts words.txt",
)
@grouped()
def debug(
    context: typer.Context,
    subject: SubjectName,
    data: DataPath,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/debug-SUBJECT]")
    ] = None,
    naming: Naming,
    attack: AttackName = None,
    eps: Eps = "2/255",
    attack_steps: AttackSteps = 10,
    corrupt: Corrupt = None,
    loading: Loading,
    limit: DataLimit = None,
    level: Annotated[
        str,
        typer.Option(
            help="Space whose concepts come first: encoder (the classifier's own "
            "features) or vlm; the report shows both."
        ),
    ] = "encoder",
    trust_labels: TrustLabels = False,
    asking: Narrating,
    computing: Computing,
    reporting: Reporting,
) -> None:
    """Explain why a classifier is incorrect: encoder or head, and which concepts.

    Writes debug.html, the page to read, diagnosis.json, heatmaps.npz and map.safetensors, the
    linear alignment of the classifier's features with the VLM's space.
    """
    from profiler.api.classifiers import change_of
    from profiler.debug.result import LEVELS

    computing.check()
    if level not in LEVELS:
        raise UnknownNameError("level", level, LEVELS)
    changed = change_of(attack, eps, attack_steps, corrupt, computing.seed)
    out = out or Path("reports", file_name(f"debug-{stem_of(subject)}"))
    case = Case(subject, data, limit, naming, loading, computing, asking)
    words = case.check(out)
    from profiler.cli.terminal import services
    from profiler.debug.debug import DebugOptions
    from profiler.debug.debug import debug as tell

    classifier = case.open_classifier()
    images = case.open_images(classifier.outputs)
    with asking.model() as model:
        words = words or case.concepts_for(images, model)
        done = tell(
            classifier,
            case.open_vlm(),
            images,
            words,
            out,
            DebugOptions(
                *changed,
                level=level,
                trust_labels=trust_labels,
                seed=computing.seed,
                prompts=asking.prompts,
                max_report_mb=reporting.max_report_mb,
                reading=computing.reading,
                provenance=provenance(context, reporting.date),
            ),
            services(model),
        )
    _show(done, out, reporting.as_json)


def _show(done: "Diagnosis", out: Path, as_json: bool) -> None:
    from profiler.core.json_text import json_text, read_json

    if as_json:
        content = read_json(out / "diagnosis.json", "outcome")
        typer.echo(json_text({"report": str(out / "debug.html"), **content}, None))
        return
    typer.echo(done.told.text, err=True)
    typer.echo(str(out / "debug.html"))
