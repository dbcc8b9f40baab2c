"""``profiler try``."""

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.app import app
from profiler.cli.images import BatchSize, Precision, Workers, batch_size_of, check_precision
from profiler.cli.subjects import Device
from profiler.cli.words import AsJSON, Date, provenance


@app.command(
    "try",
    "profiler try reports/lite0 blocks.3 17 striped",
    "profiler try reports/lite0 conv_head 200 red --pairs 100",
)
def try_(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="Layer of the run.")],
    unit: Annotated[int, typer.Argument(metavar="UNIT", help="Number of a unit.", min=0)],
    word: Annotated[
        str,
        typer.Argument(
            metavar="WORD", help="Names a color, pattern, material, shape, background or light."
        ),
    ],
    pairs: Annotated[
        int, typer.Option(help="Number of pairs for each factor that the word names.", min=5)
    ] = 40,
    out: Annotated[
        Path | None,
        typer.Option(help="File for the page.  [default: RUN/tries/LAYER-UNIT-WORD.html]"),
    ] = None,
    batch_size: BatchSize = "auto",
    workers: Workers = 2,
    device: Device = "auto",
    precision: Precision = "fp32",
    seed: Annotated[int, typer.Option(help="Seed of the scenes.", min=0)] = 1,
    date: Date = None,
    as_json: AsJSON = False,
) -> None:
    """Try a word on one unit: draw pairs of scenes that differ in nothing else.

    One scene of a pair shows what the word names, the other another level of the same factor. The
    network is loaded again by the run's settings, and its activations on both are compared.
    """
    size = batch_size_of(batch_size)
    check_precision(precision, device)
    from profiler.profile.result import load_run
    from profiler.profile.trying import layer_of_run, named_levels, subject_of_run, try_word

    run = load_run(folder)
    named_levels(word)
    from profiler.cli.terminal import print_table, services
    from profiler.core.json_text import json_text
    from profiler.core.store import write_atomically
    from profiler.core.text import file_name
    from profiler.profile.trying_view import tried_page
    from profiler.session import Reading, check_writable, choose_device

    path = out or folder / "tries" / file_name(f"{layer}-{unit}-{word}.html")
    check_writable(path.parent)
    network = subject_of_run(run, choose_device(device))
    done = try_word(
        network,
        layer_of_run(run, network, layer),
        unit,
        word,
        pairs=pairs,
        seed=seed,
        reading=Reading(size, workers, precision),
        services=services(None),
    )
    made = provenance(context, date)
    page = tried_page(done, run.record.subject, command=made.command, date=made.date)
    write_atomically(path, page)
    if as_json:
        typer.echo(json_text({**done.to_json(), "page": str(path)}, None))
        return
    rows = [
        (
            each.factor,
            each.level,
            f"{each.effect.value:.2f}",
            f"{each.effect.low:.2f} to {each.effect.high:.2f}",
            f"{int((each.differences > 0).sum())} of {len(each.others)}",
            "yes" if each.follows else "no",
        )
        for each in done.levels
    ]
    titles = ("factor", "level", "effect, sd", "95 % interval", "pairs higher", "follows")
    print_table(titles, ("effect, sd", "95 % interval", "pairs higher"), rows)
    for sentence in done.sentences():
        typer.echo(sentence)
    typer.echo(str(path))
