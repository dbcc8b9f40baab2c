"""``profiler run`` and ``profiler scenes``."""

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.app import app
from profiler.cli.images import (
    AllowBad,
    BatchSize,
    ConceptsName,
    Limit,
    Precision,
    ProbeName,
    Seed,
    SimilarityName,
    Top,
    VLMName,
    Workers,
    batch_size_of,
    check_precision,
    check_profiling,
)
from profiler.cli.subjects import (
    CheckpointFile,
    CheckpointKey,
    Device,
    Partial,
    Pool,
    PreprocessText,
    SubjectName,
    Weights,
    file_name,
    split,
    stem_of,
    subject_options,
)
from profiler.cli.words import (
    AsJSON,
    Categories,
    Date,
    LLMBaseURL,
    LLMConcurrency,
    LLMLenient,
    LLMName,
    LLMRefresh,
    Prompts,
    Votes,
    check_votes,
    how_called,
    language_model,
    show,
)
from profiler.errors import UsageError


@app.command()
def run(
    context: typer.Context,
    subject: SubjectName,
    layers: Annotated[
        str,
        typer.Option(
            help="Groups (all, mlp, leaves), names or globs, separated by commas; see profiler "
            "layers."
        ),
    ] = "all",
    pool: Pool = "auto",
    checkpoint: CheckpointFile = None,
    checkpoint_key: CheckpointKey = "",
    partial: Partial = False,
    weights: Weights = "default",
    preprocess: PreprocessText = None,
    vlm: VLMName = "open_clip:ViT-B-16/openai",
    probe: ProbeName = "imagenette",
    concepts: ConceptsName = "common-20k",
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/SUBJECT-VLM-PROBE]")
    ] = None,
    limit: Limit = None,
    top: Top = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Trust labels that score above this number, or above that of a threshold.json.  "
            "[default: null distribution]"
        ),
    ] = None,
    similarity: SimilarityName = "soft-wpmi",
    null_draws: Annotated[
        int | None,
        typer.Option(
            help="Random units in the null distribution.  [default: 5000, or 1000 for cosine, "
            "cosine_cubed and rank_reorder]",
            min=0,
        ),
    ] = None,
    llm: LLMName = "none",
    llm_base_url: LLMBaseURL = None,
    llm_refresh: LLMRefresh = False,
    llm_lenient: LLMLenient = False,
    llm_concurrency: LLMConcurrency = 4,
    votes: Votes = 1,
    categories: Categories = None,
    prompts: Prompts = None,
    batch_size: BatchSize = "auto",
    workers: Workers = 2,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate",
            help="Measure held-out prediction and bootstrap survival of every label.",
        ),
    ] = False,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            help="Times --evaluate draws the images anew and labels again.  [default: 20]", min=1
        ),
    ] = None,
    keep_activations: Annotated[
        bool,
        typer.Option(
            "--keep-activations",
            help="Keep every activation in the cache, so that profiler compare can put units side "
            "by side: 4 bytes a unit and image.",
        ),
    ] = False,
    device: Device = "auto",
    precision: Precision = "fp32",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Run both networks by torch.compile. Compiling takes a minute or more, so it is "
            "meant for thousands of images.",
        ),
    ] = False,
    seed: Seed = 0,
    allow_bad: AllowBad = False,
    max_report_mb: Annotated[float, typer.Option(help="Largest size of the report.")] = 20.0,
    date: Date = None,
    as_json: AsJSON = False,
) -> None:
    """Profile a network: label every unit, sort the labels, and write a report."""
    # What costs nothing to check is checked before anything is loaded.
    size = batch_size_of(batch_size)
    check_precision(precision, device)
    check_profiling(subject, vlm, pool, limit, top)
    if bootstrap is not None and not evaluate:
        raise UsageError(f"--bootstrap {bootstrap} belongs to --evaluate, which is not given")
    check_votes(votes, llm)
    own = subject_options(checkpoint, partial, weights, preprocess, seed, checkpoint_key)
    from profiler.profile.similarity.choose import open_similarity

    formula = open_similarity(similarity)
    from profiler.profile.threshold import read_threshold

    cut = None if threshold is None else read_threshold(threshold)
    from profiler.core.store import Store, cache_folder
    from profiler.data.concept_sets import open_concepts
    from profiler.data.images import open_probe
    from profiler.llm.prompts import load_prompts
    from profiler.profile.sorting.categories import DEFAULT, read_categories

    concept_set = open_concepts(concepts)
    wanted = read_categories(categories) if categories else DEFAULT
    load_prompts(prompts)
    cache = cache_folder()
    with language_model(llm, llm_base_url, llm_refresh) as model:
        from profiler.cli.terminal import TerminalProgress
        from profiler.models.subject.loading import load_subject
        from profiler.models.vlm.choose import open_vlm
        from profiler.profile.evaluation import DRAWS
        from profiler.profile.run import ProfileOptions, profile
        from profiler.session import Services, check_writable, choose_device

        out = out or Path("reports", _folder_name(subject, checkpoint, checkpoint_key, vlm, probe))
        check_writable(out)
        place = choose_device(device)
        images = open_probe(probe, cache, limit=limit, seed=seed)  # the first that may download
        network = load_subject(subject, place, own)
        done = profile(
            network,
            open_vlm(vlm, place),
            images,
            concept_set,
            out,
            ProfileOptions(
                layers=split(layers),
                pool=pool,
                similarity=formula,
                top=top,
                threshold=cut,
                null_draws=null_draws,
                evaluate=evaluate,
                bootstrap=DRAWS if bootstrap is None else bootstrap,
                seed=seed,
                precision=precision,
                compile=compile,
                keep_activations=keep_activations,
                batch_size=size,
                workers=workers,
                allow_bad=allow_bad,
                categories=wanted,
                lenient=llm_lenient,
                votes=votes,
                concurrency=llm_concurrency,
                prompts=prompts,
                max_report_mb=max_report_mb,
                **how_called(context, date),
            ),
            Services(model, Store(cache), TerminalProgress()),
        )
    show(done, out, as_json)


@app.command()
def scenes(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    count: Annotated[int, typer.Option(help="How many scenes.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Seeds the scenes.")] = 0,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=16)] = 224,
) -> None:
    """Write the built-in synthetic scenes as pictures, with the truth about each beside it."""
    from profiler.data.synthetic.scenes import SyntheticScenes

    typer.echo(str(SyntheticScenes(count, seed, size).write(out)))


def _folder_name(subject: str, checkpoint: Path | None, key: str, vlm: str, probe: str) -> str:
    tuned = [part for part in (checkpoint.stem, key) if part] if checkpoint else []
    parts = (stem_of(subject), *tuned, vlm.removeprefix("open_clip:"), Path(probe).name or "probe")
    return file_name("-".join(parts))
