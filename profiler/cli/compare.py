"""``profiler compare``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.engines import Scaling
from profiler.cli.images import (
    Computing,
    Experimenting,
    InWords,
    Limit,
    ProbeName,
    ProfiledConceptsName,
    Scenes,
    SimilarityName,
    Top,
    VLMName,
    check_profiling,
    scenes_of,
)
from profiler.cli.options import grouped
from profiler.cli.subjects import Partial, Pool, PreprocessText, split
from profiler.cli.words import AsJSON, Categorizing, Date, provenance, report
from profiler.errors import CheckFailed, Undecided, UsageError

if TYPE_CHECKING:
    from profiler.compare.rules import RuleVerdict


@dataclass(frozen=True)
class CategorizingRuns(Categorizing):
    """The same of finished runs, which have categories."""

    categories: Annotated[
        Path | None,
        typer.Option(
            help="File of categories, one on each line: name: description.  [default: the runs']",
        ),
    ] = None


@app.command(
    None,
    "profiler compare reports/before reports/after",
    "profiler compare NETS.py:small --checkpoint 'ckpt/*.pt' --timeline step --vlm conse",
    "profiler compare reports/main reports/pr --fail-on 'interpretable<-5%'",
)
@grouped(without=["shard"])
def compare(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|SUBJECT...",
            help="Folders of finished runs; or networks, as in `profiler run`, which are "
            "profiled first. The others are compared with the first.",
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/compare-A-B]")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights of one network, a glob of such files in quotes, or a folder of them; "
            "once for each run."
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="default, none or a name torchvision gives; once for each run."),
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="Name of a run; once for each.")] = None,
    timeline: Annotated[
        str | None,
        typer.Option(
            metavar="ORDER",
            help="Treat the runs as steps of one training, in the order of: name, step "
            "(as the checkpoints state) or given.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Trust labels of all runs that score above this number, or above that of "
            "a threshold.json; null: above the null distribution pooled over the "
            "runs.  [default: labels that are confirmed on images that they were not "
            "chosen on]"
        ),
    ] = None,
    own_thresholds: Annotated[
        bool, typer.Option("--own-thresholds", help="Use each run's own threshold.")
    ] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Exit with status 1 if this condition holds: js>0.1, interpretable<-5%, "
            "color[layer1]>3%, kept<90%, correlation<0.5, cka<0.9, changed>0, "
            "shape[layer4]<-3% (of the variance, by experiment; driver_color for "
            "what is also a category). May be given more than once.",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Number of bootstrap samples for the noise floor; 0 for none.  [default: 20]",
            min=0,
        ),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(help="Layers of networks that are profiled; `profiler layers` lists them."),
    ] = "all",
    pool: Pool = "auto",
    checkpoint_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Choose one of several networks in a checkpoint, as in run; once for "
            "all, or once for each run: one file may be compared with itself.",
        ),
    ] = None,
    partial: Partial = False,
    preprocess: PreprocessText = None,
    vlm: VLMName = "open_clip:ViT-B-16/openai",
    probe: ProbeName = "imagenette",
    concepts: ProfiledConceptsName = "common-20k",
    limit: Limit = None,
    top: Top = None,
    similarity: SimilarityName = "soft-wpmi",
    experiment: Experimenting = True,
    scenes: Scenes = None,
    sorting: CategorizingRuns,
    computing: Computing,
    scaling: Scaling,
    max_report_mb: Annotated[
        float, typer.Option(help="Largest size of each report in megabytes.")
    ] = 20.0,
    date: Date = None,
    as_json: AsJSON = False,
) -> None:
    """Report what changed between runs or checkpoints, and whether it exceeds noise.

    Options about images, concepts and layers are for networks that have no run yet.
    """
    computing.check()
    scaling.check(computing.device)
    sorting.check()
    drawn = scenes_of(experiment, scenes)
    in_words = InWords.check(context, vlm, probe, concepts, similarity)
    from profiler.profile.threshold import read_threshold

    cut = None if threshold is None else read_threshold(threshold)
    if own_thresholds and cut is not None:
        raise UsageError("--threshold is one for all; --own-thresholds wants each run's own")
    from profiler.compare.compare import CompareOptions, common_categories, compare_runs, order_of
    from profiler.compare.rules import parse_rule
    from profiler.compare.slots import Tuning, Unprofiled, profile_missing, slots_of

    order = None if timeline is None else order_of(timeline)
    own = Tuning(
        checkpoint or (), checkpoint_key or (), weights or (), partial, preprocess, computing.seed
    )
    slots = slots_of(targets, own, name or ())
    for slot in slots:
        if isinstance(slot, Unprofiled):
            check_profiling(slot, vlm, pool, limit, top)
    from profiler.profile.run import ProfileOptions

    usual = common_categories(slots) if sorting.categories is None else ()
    words = ProfileOptions(**sorting.options(usual), seed=computing.seed)
    rules = [parse_rule(rule, [each.name for each in words.categories]) for rule in fail_on or ()]

    from profiler.api.file_results import ProfileComparison
    from profiler.cli.terminal import TerminalProgress, comparison_tables, stderr
    from profiler.core.store import Store, cache_folder
    from profiler.models.vlm.choose import texts_of
    from profiler.profile.evaluation import DRAWS
    from profiler.session import Services, check_writable, choose_device

    out = out or Path("reports", _folder_name([slot.name for slot in slots]))
    check_writable(out)
    place = choose_device(scaling.device(computing.device))
    cache = cache_folder()
    called = provenance(context, date, **in_words.used)
    inputs = in_words.opener(cache, limit, computing.seed)
    with sorting.model() as model, scaling.open(inputs, computing.device) as engine:
        services = Services(model, Store(cache), TerminalProgress())
        runs = profile_missing(
            slots,
            inputs,
            out,
            place,
            replace(
                words,
                layers=split(layers),
                pool=pool,
                similarity=in_words.similarity,
                top=top,
                threshold=cut,
                reading=computing.reading,
                scenes=drawn,
                keep_activations=True,
                engine=engine,
                max_report_mb=max_report_mb,
                provenance=called,
            ),
            services,
        )
        first = runs[0].run.record
        done = compare_runs(
            runs,
            out,
            CompareOptions(
                threshold=cut,
                own_thresholds=own_thresholds,
                timeline=order,
                draws=DRAWS if draws is None else draws,
                rules=rules,
                seed=computing.seed,
                words=words,
                new_categories=sorting.categories is not None,
                max_report_mb=max_report_mb,
                provenance=called,
            ),
            texts_of(first.vlm, first.settings, place),
            services,
        )
    if not as_json:
        for table in comparison_tables(done.comparison):
            stderr.print(table)
    report(ProfileComparison(done.files), out, as_json)
    _judge(done.verdicts)


def _folder_name(names: Sequence[str]) -> str:
    return "-".join(("compare", names[0], names[-1]))


def _judge(verdicts: "Sequence[RuleVerdict]") -> None:
    broken = [each for each in verdicts if each.outcome == "broken"]
    if broken:
        raise CheckFailed("; ".join(f"{each.rule.text}: {each.reason}" for each in broken))
    open_ = [each for each in verdicts if each.outcome == "undecided"]
    if open_:
        raise Undecided("; ".join(f"{each.rule.text}: {each.reason}" for each in open_))
