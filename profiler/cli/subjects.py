"""``profiler layers``, and the options about subjects that every command shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.app import app
from profiler.cli.options import grouped
from profiler.cli.words import AsJSON
from profiler.core import text

if TYPE_CHECKING:
    from profiler.models.subject.loading import NamedSubject
    from profiler.models.subject.network import Layer, Subject

SubjectName = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="The network: a torchvision name, timm/NAME[.TAG], hf-hub:ORG/NAME, local-dir:PATH, "
        "open_clip:ARCH/PRETRAINED (its image tower), efficientnet_lite0|1|2, or FILE.py:FACTORY.",
    ),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="Load the weights that fit; the missing ones stay random."),
]
PreprocessText = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Change the model's own preprocessing by KEY=VALUE pairs: resize=256 "
        "(short side; 256x256 for both), crop=224, interpolation=bicubic, "
        "mean=0.485/0.456/0.406, std=0.5; or replace it by FILE.py:FUNCTION, "
        "which returns a function from an RGB image to a tensor (3, H, W).  "
        "[default: the model's own]",
    ),
]
Pool = Annotated[
    str,
    typer.Option(
        help="How the values at many positions become one number: auto (mean of a "
        "map; class token, or else mean of the patch tokens), mean, max, cls or "
        "patch-mean.",
    ),
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")]


@dataclass(frozen=True)
class Loading:
    """How the network is loaded."""

    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Load these weights: safetensors, a torch.save file (read without "
            "running code from it), the index of shards, or a folder with one of "
            "these. Wrappers and prefixes of names are removed.",
        ),
    ] = None
    checkpoint_key: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help="Choose one of several networks in a checkpoint, by its key or by the "
            "beginning of its names: teacher, module.encoder_q; . is the top level.  "
            "[default: averaged weights first]",
        ),
    ] = ""
    partial: Partial = False
    weights: Annotated[
        str,
        typer.Option(
            help="default; none for random weights drawn with --seed; or a name that "
            "torchvision gives, such as IMAGENET1K_V1.",
        ),
    ] = "default"
    preprocess: PreprocessText = None

    def network(self, name: str, seed: int) -> "NamedSubject":
        """The network of that name, which is not loaded yet."""
        from profiler.models.subject.loading import NamedSubject, SubjectOptions

        options = SubjectOptions(
            self.checkpoint, self.partial, self.weights, self.preprocess, seed, self.checkpoint_key
        )
        return NamedSubject(name, options)


@app.command(
    "layers",
    "profiler layers resnet50 --weights none",
    "profiler layers timm/vit_base_patch16_224 --layers mlp",
)
@grouped()
def list_layers(
    subject: SubjectName,
    *,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers: groups (all, mlp, leaves), names or globs, separated by commas. "
            " [default: every layer that is in a group]"
        ),
    ] = None,
    pool: Pool = "auto",
    loading: Loading,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    as_json: AsJSON = False,
) -> None:
    """List the layers of a network and the groups that they belong to.

    For each layer: its kind, the shape of its output for one image, its number of units, how
    they are pooled, and how often it runs in one pass (the last run counts).
    """
    from profiler.cli.images import check_profiling
    from profiler.core.json_text import json_text
    from profiler.session import choose_device

    named = loading.network(subject, seed)
    check_profiling(named, pool=pool)
    network = named.load(choose_device(device))
    wanted = split(layers) if layers else [g for g, names in network.groups.items() if names]
    found = network.layers(wanted, pool)
    if as_json:
        typer.echo(json_text(_as_json(network, found), None))
    else:
        _print(network, found)


def split(layers: str) -> tuple[str, ...]:
    """What stands between the commas of ``--layers``."""
    return text.split(layers) or ("all",)


def _as_json(network: "Subject", layers: "tuple[Layer, ...]") -> dict[str, object]:
    return {
        "subject": network.name,
        "weights": network.weights,
        "preprocessing": network.input_text,
        "fingerprint": network.fingerprint,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "shape": list(layer.shape),
                "units": layer.units,
                "pooling": layer.pooling,
                "groups": list(layer.groups),
                "runs": layer.runs,
            }
            for layer in layers
        ],
    }


def _print(network: "Subject", layers: "tuple[Layer, ...]") -> None:
    from profiler.cli.terminal import print_table

    typer.echo(f"weights: {network.weights}")
    typer.echo(f"preprocessing: {network.input_text}")
    titles = ("layer", "kind", "output", "units", "pooling", "groups", "runs")
    rows = (
        (
            layer.name,
            layer.kind,
            " × ".join(map(str, layer.shape)),
            f"{layer.units:,}",
            layer.pooling,
            ", ".join(layer.groups),
            str(layer.runs),
        )
        for layer in layers
    )
    print_table(titles, ("units", "runs"), rows)
