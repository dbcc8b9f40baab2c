"""``profiler drivers``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.images import Computing, Layers, Scenes, check_profiling, scenes_of
from profiler.cli.options import grouped
from profiler.cli.subjects import Loading, Pool, SubjectName, split
from profiler.cli.words import Reporting, provenance
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.profile.drivers import Experiment


@dataclass(frozen=True)
class ComputingScenes(Computing):
    """The same of drawn scenes."""

    seed: Annotated[int, typer.Option(help="Seed of the scenes and of random weights.")] = 0


@app.command(
    None,
    "profiler drivers resnet50",
    "profiler drivers efficientnet_lite0 --out reports/drivers",
)
@grouped(without=["max_report_mb"])
def drivers(
    context: typer.Context,
    subject: SubjectName,
    *,
    layers: Layers = "all",
    pool: Pool = "auto",
    loading: Loading,
    scenes: Scenes = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Describe your own images instead of drawn scenes: a CSV with a column "
            "path and columns that sort the images. The result is association, "
            "not cause."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the page drivers.html, and for drivers.json and drivers.csv, "
            "which has one row for each unit."
        ),
    ] = None,
    computing: ComputingScenes,
    reporting: Reporting,
) -> None:
    """Measure what drives each layer, by a controlled experiment without a VLM.

    Built-in scenes vary color, pattern, material, shape, background, light and more, each
    independently of the others. So the share of the units' variance that goes with a factor is
    caused by it. Shares are means over the units of a layer.
    """
    computing.check()
    named = loading.network(subject, computing.seed)
    check_profiling(named, pool=pool)
    from profiler.data.image_tables import open_annotated
    from profiler.data.synthetic.design import ExperimentScenes
    from profiler.profile.drivers import check_enough

    if annotations is not None and scenes is not None:
        raise UsageError("--annotations and --scenes exclude each other: the images are given")
    drawn = ExperimentScenes(scenes_of(True, scenes), computing.seed)
    given = None if annotations is None else open_annotated(annotations)
    if given is not None:
        check_enough(len(given.factors), "the images of --annotations")
    from profiler.cli.terminal import services
    from profiler.profile.experiment import describe, run_experiment
    from profiler.session import check_writable, choose_device

    if out is not None:
        check_writable(out)
    network = named.load(choose_device(computing.device))
    wanted, reading = network.layers(split(layers), pool), computing.reading
    if given is None:
        done = run_experiment(network, wanted, drawn, reading=reading, services=services(None))
    else:
        done = describe(network, wanted, given, reading=reading, services=services(None))
    images = drawn if given is None else given.probe
    about = {
        "subject": network.name,
        "weights": network.weights,
        "preprocessing": network.input_text,
        "fingerprint": network.fingerprint,
        "images_title": images.title,
        "images_fingerprint": images.fingerprint,
    }
    if out is not None:
        from profiler.core.store import write_atomically
        from profiler.profile.drivers_view import drivers_page

        made = provenance(context, reporting.date)
        done.write(out, about)
        page = drivers_page(done, about, command=made.command, date=made.date)
        write_atomically(out / "drivers.html", page)
    if reporting.as_json:
        from profiler.core.json_text import json_text

        typer.echo(json_text({**about, **done.to_json()}, None))
    else:
        _print(done)
        if out is not None:
            typer.echo(str(out / "drivers.html"))


def _print(done: "Experiment") -> None:
    from profiler.cli.terminal import print_table

    names = done.factors.names
    titles = ("layer", *names, *(("all factors", "pairs", "rest") if done.drawn else ()))
    rows = []
    for layer in done.layers:
        values = list(layer.shares().values())
        if done.drawn:
            values += [layer.first_order(), layer.all_two_way(), layer.rest()]
        cells = [f"{100 * each.value:.1f} ±{100 * (each.high - each.value):.1f}" for each in values]
        rows.append((layer.layer, *cells))
    print_table(titles, titles[1:], rows)
    typer.echo("Share of the units' variance, in %, with 95 % intervals; means over units.")
    for said in (done.caution(), done.finding()):
        if said:
            typer.echo(f"{said[0].upper()}{said[1:]}.")
