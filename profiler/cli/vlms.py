"""``profiler vlms``: what can read the images here."""

from typing import TYPE_CHECKING

import typer

from profiler.cli.app import app
from profiler.cli.words import AsJSON

if TYPE_CHECKING:
    from profiler.models.vlm.catalogue import CatalogueEntry


@app.command(
    "vlms",
    "profiler vlms",
)
def list_vlms(as_json: AsJSON = False) -> None:
    """List the vision-language models that --vlm accepts on this machine.

    For each: what it can recognise, the size of its weights, whether it needs a download and, for
    conse, the weight of each of its vocabularies.
    """
    from profiler.core.json_text import json_text
    from profiler.models.vlm.catalogue import vlms

    found = vlms()
    if as_json:
        typer.echo(json_text([_as_json(entry) for entry in found], None))
    else:
        _print(found)


def _as_json(entry: "CatalogueEntry") -> dict[str, object]:
    from profiler.core.json_text import plain

    return {**plain(entry), "weights": dict(entry.weights)}


def _print(found: "tuple[CatalogueEntry, ...]") -> None:
    from profiler.cli.terminal import print_table

    rows = []
    for entry in found:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in entry.weights)
        rows.append(
            (
                entry.name,
                entry.sees + (f"; weights: {weights}" if weights else ""),
                "–" if entry.megabytes is None else f"{entry.megabytes:,.0f}",
                "yes" if entry.is_here else "no",
                entry.lacks or "–",
            )
        )
    print_table(("vlm", "sees", "MB", "here", "needs"), ("MB",), rows)
    typer.echo(
        "Any other model of open_clip: open_clip:ARCH/PRETRAINED, downloaded or a local file. "
        "Your own: FILE.py:FACTORY."
    )
