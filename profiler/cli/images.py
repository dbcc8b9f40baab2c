"""The options about images and how they are read, shared by the commands that read them."""

from typing import Annotated

import typer

from profiler.errors import UnknownNameError, UsageError

VLMName = Annotated[
    str,
    typer.Option(
        help="Reads the images: open_clip:ARCH/PRETRAINED, conse, conse:objects, "
        "conse:MODEL+ENCODER or FILE.py:FACTORY; see `profiler vlms`."
    ),
]
ProbeName = Annotated[str, typer.Option(help="Probe images: a folder, imagenette or synthetic.")]
ConceptsName = Annotated[
    str,
    typer.Option(help="Concepts: common-20k, common-3k, imagenet-1k, visual, or a text file."),
]
Limit = Annotated[int | None, typer.Option(help="Use so many probe images, evenly spread.")]
Top = Annotated[
    int | None,
    typer.Option(help="Images in a unit's top list.  [default: by size of the probe set]", min=1),
]
BatchSize = Annotated[str, typer.Option("-b", "--batch-size", help="Images at a time, or auto.")]
Workers = Annotated[
    int, typer.Option("-j", "--workers", help="Processes that decode images.", min=0)
]
Precision = Annotated[
    str, typer.Option(help="fp32; or bf16 or fp16: faster on some machines, less exact.")
]
AllowBad = Annotated[
    bool, typer.Option(help="Go on although over 5 % of the images cannot be read.")
]
Seed = Annotated[int, typer.Option(help="Seeds everything random.")]
SimilarityName = Annotated[
    str, typer.Option(help="soft-wpmi, wpmi, cosine, cosine_cubed or rank_reorder.")
]


def batch_size_of(text: str) -> int | None:
    """``--batch-size``; None for auto."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"--batch-size {text!r} is neither auto nor a whole number above 0")
    return int(text)


def check_profiling(subject: str, vlm: str, pool: str, limit: int | None, top: int | None) -> None:
    """What costs nothing to check of the options about profiling."""
    from profiler.models.subject.factories import factory_file
    from profiler.models.subject.pooling import RULES
    from profiler.models.subject.sources import find_source
    from profiler.models.vlm.choose import check_vlm

    find_source(subject)
    if ".py:" in subject:
        factory_file(subject)
    check_vlm(vlm)
    if pool not in RULES:
        raise UnknownNameError("pooling rule", pool, RULES)
    for name, number in (("--limit", limit), ("--top", top)):
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, got {number}")


def check_precision(precision: str, device: str) -> None:
    """Refuse a precision that is unknown, or that the device lacks."""
    from profiler.activations.collect import PRECISIONS

    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision == "fp16" and device == "cpu":
        raise UsageError("--precision fp16 needs a GPU; a CPU has bf16")
