"""``profiler debug``."""

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.app import app
from profiler.cli.classifiers import (
    AttackName,
    AttackSteps,
    Corrupt,
    DataLimit,
    DataPath,
    Eps,
    Naming,
    TrustLabels,
    opened,
)
from profiler.cli.engines import ONE_COMMAND, Scaling
from profiler.cli.images import Computing
from profiler.cli.options import grouped
from profiler.cli.subjects import Loading, SubjectName
from profiler.cli.words import Narrating, Reporting, provenance, report
from profiler.core.text import file_name, stem_of
from profiler.errors import UnknownNameError


@app.command(
    None,
    "profiler debug resnet50 --data VAL",
    "profiler debug resnet50 --data VAL --corrupt gaussian_noise:3",
    "profiler debug NETS.py:small --checkpoint small.pt --data VAL --concepts words.txt",
)
@grouped(ONE_COMMAND)
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
            help="Space that the report shows first: encoder (the classifier's own "
            "features) or vlm; it has both."
        ),
    ] = "encoder",
    trust_labels: TrustLabels = False,
    asking: Narrating,
    computing: Computing,
    scaling: Scaling,
    reporting: Reporting,
) -> None:
    """Explain the errors of a classifier: encoder or head, and which concepts.

    Writes debug.html, the page to read, diagnosis.json, heatmaps.npz and map.safetensors, the
    linear alignment of the classifier's features with the VLM's space.
    """
    from profiler.api.classifiers import change_of
    from profiler.api.file_results import ClassifierDiagnosis
    from profiler.debug.result import LEVELS

    computing.check()
    scaling.check(computing.device)
    if level not in LEVELS:
        raise UnknownNameError("level", level, LEVELS)
    changed = change_of(attack, eps, attack_steps, corrupt, computing.seed)
    out = out or Path("reports", file_name(f"debug-{stem_of(subject)}"))
    from profiler.cli.terminal import services
    from profiler.debug.debug import DebugOptions
    from profiler.debug.debug import debug as tell

    case = opened(subject, data, limit, naming, loading, asking, computing, scaling, out)
    with case as (llm, engine, inputs):
        done = tell(
            *inputs,
            out,
            DebugOptions(
                *changed,
                level=level,
                trust_labels=trust_labels,
                seed=computing.seed,
                prompts=asking.prompts,
                max_report_mb=reporting.max_report_mb,
                reading=computing.reading,
                engine=engine,
                provenance=provenance(context, reporting.date),
            ),
            services(llm),
        )
    if not reporting.as_json:
        typer.echo(done.told.text, err=True)
    report(ClassifierDiagnosis(done.files), out, reporting.as_json)
