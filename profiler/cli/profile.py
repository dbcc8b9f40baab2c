"""``profiler run`` and ``profiler scenes``."""

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.app import app
from profiler.cli.engines import Scaling
from profiler.cli.images import (
    AllowBad,
    BatchSize,
    Experimenting,
    InWords,
    Layers,
    Limit,
    Outlines,
    Precision,
    ProbeName,
    ProfiledConceptsName,
    Scenes,
    Seed,
    SimilarityName,
    Top,
    VLMName,
    Workers,
    batch_size_of,
    check_precision,
    check_profiling,
    scenes_of,
)
from profiler.cli.options import grouped
from profiler.cli.subjects import Device, Loading, Pool, SubjectName, split
from profiler.cli.words import Categorizing, ReportDir, Reporting, provenance, show
from profiler.core.text import file_name, stem_of
from profiler.errors import UsageError


@app.command(
    None,
    "profiler run resnet50 --layers all",
    "profiler run efficientnet_lite0 --vlm conse --probe PHOTOS --out reports/lite0",
    "profiler run NETS.py:small --checkpoint small.pt --probe PHOTOS --llm gpt-4o",
)
@grouped()
def run(
    context: typer.Context,
    subject: SubjectName,
    *,
    layers: Layers = "all",
    pool: Pool = "auto",
    loading: Loading,
    vlm: VLMName = "open_clip:ViT-B-16/openai",
    probe: ProbeName = "imagenette",
    concepts: ProfiledConceptsName = "common-20k",
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/SUBJECT-VLM-PROBE]")
    ] = None,
    limit: Limit = None,
    top: Top = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Trust labels that score above this number, or above that of a "
            "threshold.json; null: above the scores of random lists of images.  "
            "[default: labels that are confirmed on images that they were not chosen "
            "on]"
        ),
    ] = None,
    range_threshold: Annotated[
        str | None,
        typer.Option(
            help="Count units as explained if r, with all words of the explanation, lies "
            "above this number, or above that of a threshold-range.json.  [default: "
            "above what decoys reach]"
        ),
    ] = None,
    similarity: SimilarityName = "soft-wpmi",
    null_draws: Annotated[
        int | None,
        typer.Option(
            help="Number of random units in the null distribution, which gives p-values.  "
            "[default: 5000, or 1000 for cosine, cosine_cubed and rank_reorder, with --threshold "
            "or fewer than 50 images; otherwise none]",
            min=0,
        ),
    ] = None,
    sorting: Categorizing,
    batch_size: BatchSize = "auto",
    workers: Workers = 2,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate",
            help="Measure how well every label predicts held-out activations, and how "
            "often it survives resampling.",
        ),
    ] = False,
    bootstrap: Annotated[
        int | None,
        typer.Option(help="Number of bootstrap samples of --evaluate.  [default: 20]", min=1),
    ] = None,
    experiment: Experimenting = True,
    scenes: Scenes = None,
    outlines: Outlines = None,
    keep_activations: Annotated[
        bool,
        typer.Option(
            "--keep-activations",
            help="Keep every activation in the cache, so that `profiler compare` can "
            "match units: 4 bytes for each unit and image.",
        ),
    ] = False,
    device: Device = "auto",
    precision: Precision = "fp32",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Run both networks by torch.compile, which takes a minute or more to "
            "compile: for thousands of images.",
        ),
    ] = False,
    seed: Seed = 0,
    allow_bad: AllowBad = False,
    scaling: Scaling,
    report_dir: ReportDir = False,
    reporting: Reporting,
) -> None:
    """Profile a network: label and explain every unit, and report what each layer encodes.

    Writes report.html, the page to read, and descriptions.csv, profile.json and run.json.
    """
    # What costs nothing to check is checked before anything is loaded.
    size = batch_size_of(batch_size)
    check_precision(precision, device)
    scaling.check(device, compile)
    if bootstrap is not None and not evaluate:
        raise UsageError(f"--bootstrap {bootstrap} belongs to --evaluate, which is not given")
    sorting.check()
    drawn = scenes_of(experiment, scenes)
    named = loading.network(subject, seed)
    check_profiling(named, vlm, pool, limit, top)
    in_words = InWords.check(context, vlm, probe, concepts, similarity)
    from profiler.profile.threshold import read_cut, read_threshold

    cut = None if threshold is None else read_threshold(threshold)
    range_cut = None if range_threshold is None else read_cut(range_threshold, "--range-threshold")
    from profiler.core.store import Store, cache_folder
    from profiler.data.concept_sets import open_concepts
    from profiler.data.images import DOWNLOADED
    from profiler.profile.sorting.categories import DEFAULT

    if not in_words.annotated:
        open_concepts(concepts)
    wanted = sorting.options(DEFAULT)
    cache = cache_folder()
    with sorting.model() as model:
        from profiler.cli.terminal import TerminalProgress
        from profiler.profile.evaluation import DRAWS
        from profiler.profile.run import ProfileOptions, profile
        from profiler.session import Reading, Services, check_writable, choose_device

        out = out or Path(
            "reports",
            _folder_name(subject, loading, "annotations" if in_words.annotated else vlm, probe),
        )
        check_writable(out)
        place = choose_device(scaling.device(device))
        inputs = in_words.opener(cache, limit, seed)
        # Images that are here are looked at first; what has to be downloaded comes after the names
        # of layers, which only the network knows.
        here = None if probe == DOWNLOADED else inputs(place)
        network = named.load(place)
        network.layers(split(layers), pool)
        images, concept_set, eyes = here or inputs(place)
        with scaling.unfinished(), scaling.open(inputs, device) as engine:
            done = profile(
                network,
                eyes(),
                images,
                concept_set,
                out,
                ProfileOptions(
                    layers=split(layers),
                    pool=pool,
                    similarity=in_words.similarity,
                    top=top,
                    threshold=cut,
                    range_threshold=range_cut,
                    null_draws=null_draws,
                    evaluate=evaluate,
                    bootstrap=DRAWS if bootstrap is None else bootstrap,
                    seed=seed,
                    reading=Reading(size, workers, precision, allow_bad),
                    compile=compile,
                    scenes=drawn,
                    outlines=outlines,
                    keep_activations=keep_activations,
                    engine=engine,
                    max_report_mb=reporting.max_report_mb,
                    report_dir=report_dir,
                    **wanted,
                    provenance=provenance(context, reporting.date, **in_words.used),
                ),
                Services(model, Store(cache), TerminalProgress()),
            )
    show(done, out, reporting.as_json)


@app.command(
    None,
    "profiler scenes pictures --count 200",
)
def scenes(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    count: Annotated[int, typer.Option(help="Number of scenes.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
    size: Annotated[int, typer.Option(help="Height and width in pixels.", min=16)] = 224,
    experiment: Annotated[
        bool,
        typer.Option(
            "--experiment",
            help="Draw the scenes of `profiler drivers`, whose factors are independent of "
            "each other.",
        ),
    ] = False,
) -> None:
    """Write the built-in synthetic scenes as pictures, with the truth about each."""
    from profiler.data.synthetic.design import ExperimentScenes
    from profiler.data.synthetic.scenes import SyntheticScenes

    drawn = (ExperimentScenes if experiment else SyntheticScenes)(count, seed, size)
    typer.echo(str(drawn.write(out)))


def _folder_name(subject: str, loading: Loading, vlm: str, probe: str) -> str:
    file, key = loading.checkpoint, loading.checkpoint_key
    tuned = [part for part in (file.stem, key) if part] if file else []
    parts = (stem_of(subject), *tuned, vlm.removeprefix("open_clip:"), Path(probe).name or "probe")
    return file_name("-".join(parts))
