"""``profiler debug``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.classifiers import (
    AttackName,
    AttackSteps,
    AttributesName,
    ClassesFile,
    ConceptsFrom,
    Corrupt,
    DataLimit,
    DataPath,
    Eps,
    HeadName,
    ProposeConcepts,
    change_of,
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
from profiler.cli.words import (
    AsJSON,
    Date,
    LLMBaseURL,
    LLMName,
    LLMRefresh,
    Prompts,
    how_called,
    language_model,
)
from profiler.errors import UnknownNameError

if TYPE_CHECKING:
    from profiler.debug.result import Diagnosis


@app.command()
def debug(
    context: typer.Context,
    subject: SubjectName,
    data: DataPath,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/debug-SUBJECT]")
    ] = None,
    classes: ClassesFile = None,
    head: HeadName = None,
    concepts: AttributesName = None,
    concepts_from: ConceptsFrom = None,
    propose_concepts: ProposeConcepts = False,
    vlm: VLMName = "open_clip:ViT-B-16/openai",
    attack: AttackName = None,
    eps: Eps = "2/255",
    attack_steps: AttackSteps = 10,
    corrupt: Corrupt = None,
    checkpoint: CheckpointFile = None,
    checkpoint_key: CheckpointKey = "",
    partial: Partial = False,
    weights: Weights = "default",
    preprocess: PreprocessText = None,
    limit: DataLimit = None,
    level: Annotated[
        str,
        typer.Option(
            help="Whose concepts lead: encoder (the classifier's own) or vlm; both are shown."
        ),
    ] = "encoder",
    trust_labels: Annotated[
        bool,
        typer.Option(
            "--trust-labels",
            help="Go on although labels and outputs seem to be numbered differently.",
        ),
    ] = False,
    llm: LLMName = "none",
    llm_base_url: LLMBaseURL = None,
    llm_refresh: LLMRefresh = False,
    prompts: Prompts = None,
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
    """Say why a classifier is wrong: encoder or head, and on which concepts.

    Writes debug.html, diagnosis.json, heatmaps.npz and the map from the classifier's features to
    the VLM's space.
    """
    from profiler.debug.result import LEVELS

    size = batch_size_of(batch_size)
    check_precision(precision, device)
    if level not in LEVELS:
        raise UnknownNameError("level", level, LEVELS)
    change = change_of(attack, eps, attack_steps, corrupt, seed)
    out = out or Path("reports", file_name(f"debug-{stem_of(subject)}"))
    words = check_early(
        subject=subject,
        device=device,
        subject_own=(checkpoint, partial, weights, preprocess, seed, checkpoint_key),
        vlm=vlm,
        data=data,
        classes=classes,
        limit=limit,
        out=out,
        concepts=concepts,
        concepts_from=concepts_from,
        propose=propose_concepts,
        llm=(llm, llm_base_url),
        prompts=prompts,
    )
    from profiler.cli.terminal import TerminalProgress
    from profiler.core.store import Store, cache_folder
    from profiler.debug.debug import DebugOptions
    from profiler.debug.debug import debug as tell
    from profiler.models.vlm.choose import open_vlm
    from profiler.session import Services, choose_device

    place = choose_device(device)
    classifier = open_classifier(
        subject, place, head, checkpoint, partial, weights, preprocess, seed, checkpoint_key
    )
    images = open_data(data, classes, classifier.outputs, limit)
    with language_model(llm, llm_base_url, llm_refresh) as model:
        if words is None:
            present = [images.classes.names[i] for i in sorted(set(images.truth.tolist()))]
            words = choose_concepts(None, None, propose_concepts, present, model, prompts)
        done = tell(
            classifier,
            open_vlm(vlm, place),
            images,
            words,
            out,
            DebugOptions(
                attack=change.attack,
                corruption=change.corruption,
                level=level,
                trust_labels=trust_labels,
                seed=seed,
                precision=precision,
                batch_size=size,
                workers=workers,
                allow_bad=allow_bad,
                prompts=prompts,
                max_report_mb=max_report_mb,
                **how_called(context, date),
            ),
            Services(model, Store(cache_folder()), TerminalProgress()),
        )
    _show(done, out, as_json)


def _show(done: "Diagnosis", out: Path, as_json: bool) -> None:
    from profiler.core.json_text import json_text, read_json

    if as_json:
        content = read_json(out / "diagnosis.json", "outcome")
        typer.echo(json_text({"report": str(out / "debug.html"), **content}, None))
        return
    typer.echo(done.told.text, err=True)
    typer.echo(str(out / "debug.html"))
