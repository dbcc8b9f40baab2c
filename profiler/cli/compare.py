"""``profiler compare``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.engines import Scaling
from profiler.cli.images import (
    AllowBad,
    BatchSize,
    Experimenting,
    InWords,
    Limit,
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
from profiler.cli.subjects import (
    Device,
    Loading,
    Partial,
    Pool,
    PreprocessText,
    file_name,
    split,
    stem_of,
)
from profiler.cli.words import (
    AsJSON,
    Date,
    LLMBaseURL,
    LLMConcurrency,
    LLMLenient,
    LLMName,
    LLMRefresh,
    Prompts,
    Votes,
    check_votes,
    language_model,
    provenance,
)
from profiler.core.text import distinct
from profiler.errors import CheckFailed, InputError, Undecided, UsageError

if TYPE_CHECKING:
    from profiler.compare.compare import ComparisonRun, NamedRun, Unprofiled
    from profiler.compare.rules import RuleVerdict

_CHECKPOINTS = "*?["
"""Characters of a glob."""


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
    name: Annotated[list[str] | None, typer.Option(help="Name of each run; once for each.")] = None,
    timeline: Annotated[
        str | None,
        typer.Option(
            metavar="ORDER",
            help="Treat the runs as steps of one training, in the order of: name, step "
            "(as the checkpoints say) or given.",
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
            help="Exit with status 1 if this holds: js>0.1, interpretable<-5%, "
            "color[layer1]>3%, kept<90%, correlation<0.5, cka<0.9, changed>0, "
            "shape[layer4]<-3% (of the variance, by experiment; driver_color for "
            "what is also a category). Once for each.",
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
    llm: LLMName = "none",
    llm_base_url: LLMBaseURL = None,
    llm_refresh: LLMRefresh = False,
    llm_lenient: LLMLenient = False,
    llm_concurrency: LLMConcurrency = 4,
    votes: Votes = 1,
    categories: Annotated[
        Path | None,
        typer.Option(
            "--categories",
            help="File of categories, one on each line: name: description.  [default: the runs']",
        ),
    ] = None,
    prompts: Prompts = None,
    batch_size: BatchSize = "auto",
    workers: Workers = 2,
    device: Device = "auto",
    precision: Precision = "fp32",
    seed: Seed = 0,
    allow_bad: AllowBad = False,
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
    size = batch_size_of(batch_size)
    check_precision(precision, device)
    scaling.check(device)
    check_votes(votes, llm)
    drawn = scenes_of(experiment, scenes)
    in_words = InWords.check(context, vlm, probe, concepts, similarity)
    from profiler.profile.threshold import read_threshold

    cut = None if threshold is None else read_threshold(threshold)
    if own_thresholds and cut is not None:
        raise UsageError("--threshold is one for all; --own-thresholds wants each run's own")
    from profiler.llm.prompts import load_prompts
    from profiler.profile.sorting.categories import DEFAULT, Category, read_categories

    wanted = read_categories(categories) if categories else None
    load_prompts(prompts)
    from profiler.compare.compare import (
        CompareOptions,
        NamedRun,
        Unprofiled,
        common_categories,
        compare_runs,
        order_of,
        profile_missing,
    )
    from profiler.compare.rules import parse_rule

    order = None if timeline is None else order_of(timeline)
    own = _Own(
        *_keyed(_checkpoints(checkpoint or []), checkpoint_key or []),
        weights or [],
        partial,
        preprocess,
        seed,
    )
    slots = _named(_slots(targets, own), name or [])
    finished = [slot for slot in slots if isinstance(slot, NamedRun)]
    missing = [slot for slot in slots if isinstance(slot, Unprofiled)]
    for slot in missing:
        check_profiling(slot.subject, slot.options, vlm, pool, limit, top)
    shared = common_categories(finished) if finished and wanted is None else ()
    sorted_into = wanted or tuple(Category(*pair) for pair in shared) or DEFAULT
    rules = [parse_rule(rule, [each.name for each in sorted_into]) for rule in fail_on or ()]

    from profiler.cli.terminal import TerminalProgress
    from profiler.core.store import Store, cache_folder
    from profiler.models.vlm.choose import texts_of
    from profiler.profile.evaluation import DRAWS
    from profiler.profile.run import ProfileOptions
    from profiler.session import Reading, Services, check_writable, choose_device

    out = out or Path("reports", _folder_name([slot.name for slot in slots]))
    check_writable(out)
    place = choose_device(scaling.device(device))
    cache = cache_folder()
    called = provenance(context, date, **in_words.used)
    inputs = in_words.opener(cache, limit, seed)
    with (
        language_model(llm, llm_base_url, llm_refresh) as model,
        scaling.open(inputs, device) as engine,
    ):
        services = Services(model, Store(cache), TerminalProgress())
        if missing:
            images, words, eyes = inputs(place)
        made = iter(
            profile_missing(
                missing,
                eyes(),
                images,
                words,
                out,
                place,
                ProfileOptions(
                    layers=split(layers),
                    pool=pool,
                    similarity=in_words.similarity,
                    top=top,
                    threshold=cut,
                    seed=seed,
                    reading=Reading(size, workers, precision, allow_bad),
                    scenes=drawn,
                    keep_activations=True,
                    engine=engine,
                    categories=sorted_into,
                    lenient=llm_lenient,
                    votes=votes,
                    concurrency=llm_concurrency,
                    prompts=prompts,
                    max_report_mb=max_report_mb,
                    provenance=called,
                ),
                services,
            )
            if missing
            else ()
        )
        runs = [slot if isinstance(slot, NamedRun) else next(made) for slot in slots]
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
                seed=seed,
                words=ProfileOptions(
                    categories=sorted_into,
                    lenient=llm_lenient,
                    votes=votes,
                    concurrency=llm_concurrency,
                    prompts=prompts,
                    seed=seed,
                ),
                new_categories=wanted is not None,
                max_report_mb=max_report_mb,
                provenance=called,
            ),
            texts_of(first.vlm, first.settings, place),
            services,
        )
    _show(done, out, as_json)
    _judge(done.verdicts)


def _checkpoints(given: Sequence[str]) -> list[Path]:
    """The files, each glob and each folder in the order of its names."""
    found: list[Path] = []
    for text in given:
        if any(character in text for character in _CHECKPOINTS) and not Path(text).exists():
            path = Path(text)
            fixed = next(i for i, part in enumerate(path.parts) if set(part) & set(_CHECKPOINTS))
            folder = Path(*path.parts[:fixed])
            files = sorted(folder.glob(str(Path(*path.parts[fixed:]))))
            if not files:
                raise InputError(f"--checkpoint {text!r} matches no file")
            found += files
        elif Path(text).is_dir():
            from profiler.models.subject.weight_files import checkpoints_in

            found += checkpoints_in(Path(text))
        else:
            found.append(Path(text))
    return found


def _keyed(files: list[Path], keys: list[str]) -> tuple[list[Path], list[str]]:
    """The files and the keys in them, as many of one as of the other, if there are keys."""
    if len(files) == 1 and len(keys) > 1:
        files = files * len(keys)
    if len(keys) == 1:
        keys = keys * max(len(files), 1)
    if keys and len(keys) != len(files):
        raise UsageError(
            f"{len(keys)} --checkpoint-key for {len(files)} --checkpoint; give one for all, or "
            "one for each"
        )
    return files, keys


@dataclass(frozen=True)
class _Own:
    """What the networks to be profiled have of their own."""

    checkpoints: Sequence[Path]
    keys: Sequence[str]
    weights: Sequence[str]
    partial: bool
    preprocess: str | None
    seed: int

    def networks(self, subjects: Sequence[str]) -> "list[Unprofiled]":
        """One for each subject or, of a single one, for each of its weights."""
        from profiler.compare.compare import Unprofiled

        tuned = max(len(self.checkpoints), len(self.weights))
        if not subjects and tuned:
            raise UsageError("--checkpoint and --weights are about networks; only runs were named")
        many = tuned if len(subjects) == 1 and tuned else len(subjects)
        for what, given in (("--checkpoint", self.checkpoints), ("--weights", self.weights)):
            if len(given) not in (0, many):
                raise UsageError(
                    f"{len(given)} {what} for {many} networks; give one for each, or name one "
                    "network and several weights"
                )
        every = list(subjects) * (many if len(subjects) == 1 else 1)
        return [
            Unprofiled(
                _name_of(subject, file, key, weights),
                subject,
                Loading(
                    file, key or "", self.partial, weights or "default", self.preprocess
                ).options(self.seed),
            )
            for subject, file, key, weights in zip_longest(
                every, self.checkpoints, self.keys, self.weights
            )
        ]


def _slots(targets: Sequence[str], own: _Own) -> "list[NamedRun | Unprofiled]":
    """The runs in the order of the command line; one network may stand for several."""
    from profiler.compare.compare import NamedRun
    from profiler.profile.result import load_run

    finished = {target: (Path(target) / "run.json").is_file() for target in targets}
    for target, found in finished.items():
        if not found and Path(target).is_dir():
            raise InputError(f"{target!r} is not a finished run: 'run.json' is missing")
    networks = own.networks([target for target in targets if not finished[target]])
    one_each = len(networks) == sum(not finished[target] for target in targets)
    slots: list[NamedRun | Unprofiled] = []
    for target in targets:
        if finished[target]:
            path = Path(target)
            slots.append(NamedRun(path.resolve().name, load_run(path), path))
        elif one_each:
            slots.append(networks.pop(0))
        else:
            slots += networks
    if len(slots) < 2:
        raise UsageError(
            "a comparison needs at least two runs; name two folders or networks, or one network "
            "with --checkpoint or --weights more than once"
        )
    return slots


def _named(
    slots: "Sequence[NamedRun | Unprofiled]", given: Sequence[str]
) -> "list[NamedRun | Unprofiled]":
    """Under names that are unique and fit for a folder."""
    if given and len(given) != len(slots):
        raise UsageError(f"{len(given)} --name for {len(slots)} runs; give one for each")
    if len(set(given)) < len(given):
        raise UsageError("--name has to differ from run to run")
    wanted = given or [slot.name for slot in slots]
    names = distinct([file_name(each) for each in wanted])
    return [replace(slot, name=name) for slot, name in zip(slots, names, strict=True)]


def _name_of(subject: str, checkpoint: Path | None, key: str | None, weights: str | None) -> str:
    if checkpoint is not None:
        named = checkpoint.stem.removesuffix(".pth")  # timm's end in .pth.tar
        return "-".join(filter(None, (named, key)))
    stem = stem_of(subject)
    if weights == "none":
        return f"{stem}-random"
    return stem if weights in (None, "default") else f"{stem}-{weights}"


def _folder_name(names: Sequence[str]) -> str:
    return "-".join(("compare", names[0], names[-1]))


def _show(done: "ComparisonRun", out: Path, as_json: bool) -> None:
    from profiler.cli.terminal import comparison_tables, stderr
    from profiler.core.json_text import json_text, read_json

    if as_json:
        content = read_json(out / "comparison.json", "outcome")
        typer.echo(json_text({"report": str(out / "compare.html"), **content}, None))
        return
    for table in comparison_tables(done.comparison):
        stderr.print(table)
    typer.echo(str(out / "compare.html"))


def _judge(verdicts: "Sequence[RuleVerdict]") -> None:
    broken = [each for each in verdicts if each.outcome == "broken"]
    if broken:
        raise CheckFailed("; ".join(f"{each.rule.text}: {each.reason}" for each in broken))
    open_ = [each for each in verdicts if each.outcome == "undecided"]
    if open_:
        raise Undecided("; ".join(f"{each.rule.text}: {each.reason}" for each in open_))
