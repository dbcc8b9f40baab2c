"""The options about classifiers and labelled images, shared by the commands that judge answers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.subjects import subject_options
from profiler.cli.words import language_model
from profiler.errors import UsageError

if TYPE_CHECKING:
    import torch

    from profiler.data.concept_sets import ConceptSet
    from profiler.data.corruptions import Corruption
    from profiler.data.labelled.images import LabelledImages
    from profiler.llm.base import LLM
    from profiler.models.attacks import Attack
    from profiler.models.classifier import Classifier

log = logging.getLogger("profiler")

DataPath = Annotated[
    Path,
    typer.Option(
        "--data",
        help="Labelled images: a folder with a subfolder for each class, or a CSV of path,label.",
    ),
]
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        help="What the outputs are called, one a line or as JSON; or a CSV label,class that says "
        "which output each label of the data means.  [default: the names that come with the "
        "weights; ImageNet's for 1000 outputs; or the class folders of --data, sorted]",
    ),
]
HeadName = Annotated[
    str | None,
    typer.Option(
        "--head", help="Name of the linear layer that is the head.  [default: the last one]"
    ),
]
AttributesName = Annotated[
    str | None,
    typer.Option(
        "--concepts",
        help="Concepts to look for: a text file, one a line, or a built-in set.  "
        "[default: RIVAL10's attributes, if the classes are RIVAL10's]",
    ),
]
ConceptsFrom = Annotated[
    Path | None,
    typer.Option(
        "--concepts-from", metavar="RUN", help="Take the most frequent labels of a profile."
    ),
]
ProposeConcepts = Annotated[
    bool,
    typer.Option(
        "--propose-concepts", help="Ask the LLM for attributes that tell the classes apart."
    ),
]
AttackName = Annotated[
    str | None, typer.Option("--attack", help="Attack the images first: fgsm or pgd.")
]
Eps = Annotated[str, typer.Option("--eps", help="How far an attack may move a pixel; white is 1.")]
AttackSteps = Annotated[int, typer.Option("--attack-steps", help="Steps of pgd.", min=1)]
Corrupt = Annotated[
    str | None,
    typer.Option(
        "--corrupt",
        metavar="NAME:SEVERITY",
        help="Harm the images first, as in gaussian_noise:3; severities are 1 to 5.",
    ),
]
DataLimit = Annotated[
    int | None, typer.Option("--limit", help="Use so many images, evenly spread.")
]


@dataclass(frozen=True)
class Alteration:
    """What is done to the images first: an attack, a corruption, or nothing."""

    attack: "Attack | None" = None
    corruption: "Corruption | None" = None


def change_of(
    attack: str | None, eps: str, steps: int, corrupt: str | None, seed: int
) -> Alteration:
    """``--attack``, ``--eps`` and ``--corrupt`` as one value."""
    from profiler.data.corruptions import Corruption
    from profiler.models.attacks import Attack, parse_eps

    if attack is not None and corrupt is not None:
        raise UsageError("--attack and --corrupt exclude each other; give one of them")
    if attack is not None:
        return Alteration(attack=Attack(attack, parse_eps(eps), steps, seed))
    return Alteration(corruption=None if corrupt is None else Corruption.parse(corrupt))


def check_early(
    *,
    subject: str,
    device: str,
    subject_own: tuple[Path | None, bool, str, str | None, int, str],
    vlm: str,
    data: Path,
    classes: Path | None,
    limit: int | None,
    out: Path,
    concepts: str | None,
    concepts_from: Path | None = None,
    propose: bool = False,
    llm: tuple[str, str | None] = ("none", None),
    prompts: Path | None = None,
) -> "ConceptSet | None":
    """Check what costs nothing before the network is loaded.

    Args:
        subject: the network.
        device: ``--device``.
        subject_own: the arguments of :func:`subject_options`.
        vlm: ``--vlm``.
        data: ``--data``.
        classes: ``--classes``.
        limit: ``--limit``.
        out: the folder that will be written to.
        concepts: ``--concepts``.
        concepts_from: ``--concepts-from``.
        propose: ``--propose-concepts``.
        llm: ``--llm`` and ``--llm-base-url``.
        prompts: ``--prompts``.

    Returns:
        The concepts, where the classes need not be known for them.
    """
    from profiler.cli.images import check_profiling
    from profiler.llm.prompts import load_prompts
    from profiler.session import check_writable, choose_device

    subject_options(*subject_own)
    check_profiling(subject, vlm, "auto", limit, None)
    choose_device(device)
    check_data(data, classes)
    words = None
    if concepts or concepts_from:
        words = choose_concepts(concepts, concepts_from, propose, (), None, None)
    load_prompts(prompts)
    with language_model(*llm, refresh=False) as model:
        if propose and model is None:
            raise UsageError("--propose-concepts asks an LLM; name one with --llm")
    check_writable(out)
    return words


def check_data(data: Path, classes: Path | None) -> None:
    """Refuse labelled images or names of classes that are not there."""
    from profiler.core.text import text_of
    from profiler.data.labelled.reading import find_labelled

    # A folder of folders is read once, and later: it may hold a million images.
    if not data.is_dir() or not any(each.is_dir() for each in data.iterdir()):
        find_labelled(data)
    if classes is not None:
        text_of(classes, "class file")


def open_classifier(
    subject: str,
    device: "torch.device",
    head: str | None,
    checkpoint: Path | None,
    partial: bool,
    weights: str,
    preprocess: str | None,
    seed: int,
    checkpoint_key: str = "",
) -> "Classifier":
    """The network of the options, divided into encoder and head."""
    from profiler.models.classifier import Classifier
    from profiler.models.subject.loading import load_subject

    options = subject_options(checkpoint, partial, weights, preprocess, seed, checkpoint_key)
    return Classifier.find(load_subject(subject, device, options), head)


def open_data(
    data: Path, classes: Path | None, outputs: int, limit: int | None
) -> "LabelledImages":
    """The labelled images of the options, for a classifier with so many outputs."""
    from profiler.data.labelled.files import open_classes
    from profiler.data.labelled.images import open_labelled

    names, mapping = open_classes(classes, outputs, data=data)
    if names.assumed:
        log.warning("warning: %s", names.assumed)
    return open_labelled(data, names, mapping, limit=limit)


def choose_concepts(
    concepts: str | None,
    concepts_from: Path | None,
    propose: bool,
    classes: Sequence[str],
    llm: "LLM | None",
    prompts: Path | None,
) -> "ConceptSet":
    """The concepts of the options.

    Args:
        concepts: ``--concepts``.
        concepts_from: ``--concepts-from``.
        propose: ``--propose-concepts``.
        classes: names of the classes that have images.
        llm: proposes.
        prompts: its prompt files.
    """
    from profiler.concepts.attributes import attributes_for, check_concepts
    from profiler.data.concept_sets import open_concepts
    from profiler.profile.result import attributes_of

    given = [bool(concepts), bool(concepts_from), propose]
    if sum(given) > 1:
        raise UsageError(
            "--concepts, --concepts-from and --propose-concepts exclude each other; give one"
        )
    if concepts is not None:
        return check_concepts(open_concepts(concepts))
    if concepts_from is not None:
        from profiler.profile.result import load_run

        return attributes_of(load_run(concepts_from))
    if propose:
        from profiler.concepts.proposing import propose_concepts

        if llm is None:
            raise UsageError("--propose-concepts asks an LLM; name one with --llm")
        return check_concepts(propose_concepts(classes, llm, prompts_dir=prompts))
    found = attributes_for(classes)
    if found is None:
        raise UsageError(
            "no concepts are known for these classes; name some with --concepts FILE (one a "
            "line), take those of a profile with --concepts-from RUN, or let a language model "
            "propose them with --propose-concepts --llm NAME"
        )
    return found
