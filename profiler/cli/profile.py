"""``profiler run`` and ``profiler scenes``."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.app import app
from profiler.errors import UsageError


@app.command()
def run(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            help="The network: a torchvision name, efficientnet_lite0|1|2, or FILE.py:FACTORY."
        ),
    ],
    layers: Annotated[
        str, typer.Option(help="Layers: all, names or globs, separated by commas.")
    ] = "all",
    vlm: Annotated[
        str,
        typer.Option(help="Reads the images: open_clip:ARCH/PRETRAINED, conse or FILE.py:FACTORY."),
    ] = "open_clip:ViT-B-16/openai",
    probe: Annotated[
        str, typer.Option(help="Probe images: a folder, imagenette or synthetic.")
    ] = "imagenette",
    concepts: Annotated[
        str,
        typer.Option(help="Concepts: common-20k, common-3k, imagenet-1k, visual, or a text file."),
    ] = "common-20k",
    out: Annotated[
        Path | None, typer.Option(help="Output folder.  [default: reports/SUBJECT-VLM-PROBE]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use so many probe images, evenly spread.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(help="Images in a unit's top list.  [default: by size of the probe set]"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Trust labels that score above this.  [default: null distribution]"),
    ] = None,
    null_draws: Annotated[
        int, typer.Option(help="Random image lists in the null distribution.", min=0)
    ] = 1000,
    llm: Annotated[
        str,
        typer.Option(help="Sorts the labels: a model's name, scripted:FILE or none."),
    ] = "none",
    llm_base_url: Annotated[
        str | None, typer.Option(help="Server of the LLM.  [default: $OPENAI_BASE_URL]")
    ] = None,
    llm_refresh: Annotated[bool, typer.Option(help="Ask again what is in the cache.")] = False,
    llm_lenient: Annotated[
        bool, typer.Option(help="Count labels without a usable answer as unknown.")
    ] = False,
    llm_concurrency: Annotated[int, typer.Option(help="Requests at a time.", min=1)] = 4,
    votes: Annotated[int, typer.Option(help="Ask the LLM so many times.", min=1)] = 1,
    categories: Annotated[
        Path | None, typer.Option(help="File of categories, one a line: name: description.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Folder of prompt files that replace those shipped.")
    ] = None,
    batch_size: Annotated[
        str, typer.Option("-b", "--batch-size", help="Images at a time, or auto.")
    ] = "auto",
    workers: Annotated[
        int, typer.Option("-j", "--workers", help="Processes that decode images.", min=0)
    ] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seeds everything random.")] = 0,
    allow_bad: Annotated[
        bool, typer.Option(help="Go on although over 5 % of the images cannot be read.")
    ] = False,
    max_report_mb: Annotated[float, typer.Option(help="Largest size of the report.")] = 20.0,
    date: Annotated[str | None, typer.Option(help="Date on the report.  [default: today]")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on standard output.")
    ] = False,
) -> None:
    """Profile a network: label every unit, sort the labels, and write a report."""
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
        if name != "as_json"
    }
    # What costs nothing to check is checked before anything is loaded.
    size = _batch_size(batch_size)
    from profiler.ask import DEFAULT, read_categories
    from profiler.inputs import open_concepts, open_probe
    from profiler.llm import open_llm
    from profiler.store import Store, cache_folder

    concept_set = open_concepts(concepts)
    wanted = read_categories(categories) if categories else DEFAULT
    cache = cache_folder()
    language_model = open_llm(
        llm, base_url=llm_base_url, cache_dir=cache / "llm", refresh=llm_refresh
    )
    images = open_probe(probe, cache, limit=limit, seed=seed)

    from profiler.cli.terminal import TerminalProgress, profile_table, stderr
    from profiler.run import ProfileOptions, check_writable, choose_device, profile
    from profiler.subject import load_subject
    from profiler.vlm import open_vlm

    out = out or Path("reports", _folder_name(subject, vlm, probe))
    check_writable(out)
    place = choose_device(device)
    network = load_subject(subject, place)
    done = profile(
        network,
        open_vlm(vlm, place),
        images,
        concept_set,
        out,
        ProfileOptions(
            layers=tuple(part.strip() for part in layers.split(",") if part.strip()) or ("all",),
            top=top,
            threshold=threshold,
            null_draws=null_draws,
            seed=seed,
            batch_size=size,
            workers=workers,
            allow_bad=allow_bad,
            categories=wanted,
            lenient=llm_lenient,
            votes=votes,
            concurrency=llm_concurrency,
            prompts=prompts,
            max_report_mb=max_report_mb,
            command=shlex.join(["profiler", *sys.argv[1:]]),
            settings=settings,
            **({"date": date} if date else {}),
        ),
        llm=language_model,
        store=Store(cache),
        progress=TerminalProgress(),
    )
    if as_json:
        content = {
            "report": str(out / "report.html"),
            "threshold": done.threshold.value,
            "sorter": done.sorting.sorter,
            "profile": done.profile.to_json(),
            "summary": done.summary,
            "warnings": list(done.record.warnings),
        }
        typer.echo(json.dumps(content, ensure_ascii=False))
        return
    if stderr.is_terminal:
        stderr.print(profile_table(done))
    typer.echo(str(out / "report.html"))


@app.command()
def scenes(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    count: Annotated[int, typer.Option(help="How many scenes.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Seeds the scenes.")] = 0,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=16)] = 224,
) -> None:
    """Write the built-in synthetic scenes as pictures, with the truth about each beside it."""
    from profiler.synthetic import SyntheticScenes

    typer.echo(str(SyntheticScenes(count, seed, size).write(out)))


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--batch-size {text!r} is neither auto nor a whole number above 0")
    return int(text)


def _folder_name(subject: str, vlm: str, probe: str) -> str:
    stem = Path(subject.rpartition(":")[0]).stem if ".py:" in subject else subject
    parts = (stem, vlm.removeprefix("open_clip:"), Path(probe).name or "probe")
    text = "-".join(parts)
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
