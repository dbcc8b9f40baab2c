"""The options about images and how they are read, shared by the commands that read them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profiler.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from profiler.compare.slots import Unprofiled
    from profiler.engine.worker import OpenInputs
    from profiler.models.subject.loading import NamedSubject
    from profiler.profile.similarity.base import Similarity

VLMName = Annotated[
    str,
    typer.Option(
        help="Vision-language model that reads the images: open_clip:ARCH/PRETRAINED, "
        "conse (needs no download), conse:objects, conse:MODEL+ENCODER or "
        "FILE.py:FACTORY; `profiler vlms` lists what is here."
    ),
]
ProbeName = Annotated[
    str,
    typer.Option(
        help="Probe images: a folder, imagenette, synthetic, tar shards "
        "('data-{000..010}.tar'), Parquet files, or an address (s3://…)."
    ),
]
ConceptsName = Annotated[
    str,
    typer.Option(
        help="Concepts: common-20k, common-3k, imagenet-1k, visual, attributes, or a text file "
        "with one concept a line."
    ),
]
Limit = Annotated[int | None, typer.Option(help="Use only this many probe images, evenly spread.")]
Top = Annotated[
    int | None,
    typer.Option(
        help="Number of images in a unit's top list.  [default: by the size of the probe set]",
        min=1,
    ),
]
BatchSize = Annotated[
    str, typer.Option("-b", "--batch-size", help="Number of images in a batch, or auto.")
]
Workers = Annotated[
    int, typer.Option("-j", "--workers", help="Number of processes that decode images.", min=0)
]
Precision = Annotated[
    str,
    typer.Option(
        help="Precision of the networks: fp32; or bf16 or fp16, which are faster on "
        "some machines and less exact."
    ),
]
AllowBad = Annotated[
    bool, typer.Option(help="Continue although more than 5 % of the images cannot be read.")
]
Experimenting = Annotated[
    bool,
    typer.Option(help="Show drawn scenes to the network, to measure what drives each layer."),
]
Scenes = Annotated[
    int | None,
    typer.Option(
        help="Number of drawn scenes; more scenes make the intervals narrower.  [default: 1000]"
    ),
]
Outlines = Annotated[
    int | None,
    typer.Option(
        help="Forward passes to spend on where in its strongest images each unit responds; 0: "
        "none.  [default: 3 for every 4 images, at least 500]",
        min=0,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything that is random.")]
ProfiledConceptsName = Annotated[
    str,
    typer.Option(
        help="Concepts: common-20k, common-3k, imagenet-1k, visual, attributes, or a text file "
        "with one concept a line. Or annotations of the images, in place of a "
        "VLM: annotations:FILE.csv (a path and one column for each attribute, or "
        "a path and tags), annotations:folders, or annotations:truth of the "
        "synthetic scenes."
    ),
]
SimilarityName = Annotated[
    str,
    typer.Option(
        help="Similarity of units and concepts: soft-wpmi, wpmi, cosine, cosine_cubed "
        "or rank_reorder; enrichment is the default for annotations."
    ),
]


def batch_size_of(text: str) -> int | None:
    """``--batch-size``; None for auto."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"--batch-size {text!r} is neither auto nor a whole number above 0")
    return int(text)


def scenes_of(experiment: bool, scenes: int | None) -> int:
    """``--experiment`` and ``--scenes``: how many scenes are to be drawn; 0 for none."""
    if not experiment:
        return 0
    if scenes is None:
        return 1000
    from profiler.profile.drivers import check_enough

    check_enough(scenes, "--scenes")
    return scenes


def check_profiling(
    network: "NamedSubject | Unprofiled",
    vlm: str | None = None,
    pool: str = "auto",
    limit: int | None = None,
    top: int | None = None,
) -> None:
    """What costs nothing to check of the options about profiling."""
    from profiler.models.subject.pooling import RULES

    network.check()
    if vlm is not None:
        from profiler.models.vlm.choose import check_vlm

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


@dataclass(frozen=True)
class InWords:
    """How images come to words: by a VLM and concepts, or by annotations in place of both.

    Attributes:
        vlm: as given.
        probe: as given.
        concepts: as given.
        similarity: the formula.
        annotated: whether annotations are read.
    """

    vlm: str
    probe: str
    concepts: str
    similarity: "Similarity"
    annotated: bool

    @classmethod
    def check(
        cls, context: typer.Context, vlm: str, probe: str, concepts: str, similarity: str
    ) -> "InWords":
        """Check what costs nothing."""
        from profiler.data.annotations import check_annotations, is_annotated
        from profiler.profile.similarity.choose import OF_ANNOTATIONS, open_similarity

        formula = open_similarity(similarity)
        if not is_annotated(concepts):
            return cls(vlm, probe, concepts, formula, False)
        if _given(context, "vlm"):
            raise UsageError(
                f"--vlm {vlm} and --concepts {concepts} both say what the images show; give one"
            )
        if not _given(context, "similarity"):
            formula = open_similarity(OF_ANNOTATIONS[0])
        elif similarity not in OF_ANNOTATIONS:
            raise UsageError(
                f"--similarity {similarity} is about cosines, and annotations are none; use "
                f"{', '.join(OF_ANNOTATIONS)}"
            )
        check_annotations(concepts, probe)
        return cls(vlm, probe, concepts, formula, True)

    @property
    def used(self) -> dict[str, Any]:
        """Options that count for other than they say, for the record."""
        return {"vlm": None, "similarity": self.similarity.name} if self.annotated else {}

    def opener(self, cache: Path, limit: int | None, seed: int) -> "OpenInputs":
        """Opens images, concepts, and what reads the one in terms of the other, on a device."""
        from profiler.api.objects import open_inputs

        return partial(
            open_inputs, self.probe, self.concepts, self.vlm, cache=cache, limit=limit, seed=seed
        )


def _given(context: typer.Context, option: str) -> bool:
    """Whether the user named an option: on the command line, or by its variable."""
    source = context.get_parameter_source(option)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")
