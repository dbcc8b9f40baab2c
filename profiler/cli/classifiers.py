"""The options about classifiers and labelled images, shared by the commands that judge answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.engines import Scaling
from profiler.cli.images import Computing, VLMName
from profiler.cli.subjects import Loading
from profiler.cli.words import Asking
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.activations.kept import Engine
    from profiler.api.classifiers import LabelledCase, Proposing
    from profiler.api.objects import Concepts
    from profiler.api.results import Profile
    from profiler.data.concept_sets import ConceptSet
    from profiler.data.labelled.images import LabelledImages
    from profiler.llm.base import LLM
    from profiler.models.classifier import Classifier
    from profiler.models.vlm.base import VLM

    Opened = tuple[Classifier, VLM, LabelledImages, ConceptSet]

DataPath = Annotated[
    Path,
    typer.Option(
        help="Labelled images: a folder with a subfolder for each class, or a CSV "
        "with the columns path,label.",
    ),
]
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        help="Names of the outputs: a file with one name on each line, or JSON; or a "
        "CSV label,class that maps each label of the data to an output.  "
        "[default: the names that come with the weights; ImageNet's for 1000 "
        "outputs; or the sorted class folders of --data]",
    ),
]
HeadName = Annotated[
    str | None,
    typer.Option(help="Name of the linear layer that is the head.  [default: the last one]"),
]
AttackName = Annotated[str | None, typer.Option(help="Attack the images first: fgsm or pgd.")]
Eps = Annotated[str, typer.Option(help="Largest change of a pixel by an attack, where white is 1.")]
AttackSteps = Annotated[int, typer.Option(help="Number of steps of pgd.", min=1)]
Corrupt = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:SEVERITY",
        help="Corrupt the images first, as in gaussian_noise:3; severities are 1 to 5.",
    ),
]
DataLimit = Annotated[int | None, typer.Option(help="Use only this many images, evenly spread.")]
TrustLabels = Annotated[
    bool,
    typer.Option(
        "--trust-labels",
        help="Continue although labels and outputs seem to be numbered differently.",
    ),
]


@dataclass(frozen=True)
class Naming:
    """What the outputs are called, and by which concepts and which VLM a classifier is told."""

    classes: ClassesFile = None
    head: HeadName = None
    concepts: Annotated[
        str | None,
        typer.Option(
            help="Concepts to look for: a text file with one on each line, or a built-in "
            "set.  [default: RIVAL10's attributes if the classes are RIVAL10's, else "
            "120 visual attributes]",
        ),
    ] = None
    concepts_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Take the most frequent labels of a finished profile as concepts.",
        ),
    ] = None
    propose_concepts: Annotated[
        bool,
        typer.Option(
            "--propose-concepts",
            help="Let the language model propose attributes that separate the classes.",
        ),
    ] = False
    vlm: VLMName = "open_clip:ViT-B-16/openai"

    def chosen(
        self, llm: "LLM | None" = None, prompts: Path | None = None
    ) -> "Concepts | Profile | Proposing | None":
        """The concepts of the options; ``llm`` is asked to propose some, by these prompts."""
        options = {
            "--concepts": self.concepts,
            "--concepts-from": self.concepts_from,
            "--propose-concepts": self.propose_concepts,
        }
        if sum(bool(given) for given in options.values()) > 1:
            raise UsageError(f"{', '.join(options)} exclude each other; give one")
        from profiler.llm.prompts import load_prompts

        load_prompts(prompts)
        if self.concepts_from is not None:
            from profiler.api.results import Profile
            from profiler.profile.result import load_run

            return Profile(load_run(self.concepts_from), self.concepts_from)
        if self.propose_concepts:
            from profiler.concepts.proposing import propose_concepts

            if llm is None:
                raise UsageError("--propose-concepts asks an LLM; name one with --llm")
            return partial(propose_concepts, llm=llm, prompts_dir=prompts)
        return self.concepts


_HERE = Scaling()
"""The passes are made in this process."""


def case_of(
    subject: str,
    data: Path,
    limit: int | None,
    naming: Naming,
    loading: Loading,
    computing: Computing,
    folder: Path,
    concepts: "Concepts | Profile | Proposing | None" = None,
    scaling: Scaling = _HERE,
) -> "LabelledCase":
    """A classifier and labelled images, as a command was given them; nothing is loaded yet."""
    from profiler.api.classifiers import LabelledCase

    return LabelledCase.given(
        loading.network(subject, computing.seed),
        data,
        concepts,
        classes=naming.classes,
        head=naming.head,
        vlm=naming.vlm,
        preprocess=None,
        limit=limit,
        device=scaling.device(computing.device),
        folder=folder,
    )


@contextmanager
def opened(
    subject: str,
    data: Path,
    limit: int | None,
    naming: Naming,
    loading: Loading,
    asking: Asking,
    computing: Computing,
    scaling: Scaling,
    folder: Path,
) -> "Iterator[tuple[LLM | None, Engine | None, Opened]]":
    """The language model, where the passes are made, and what a story about a classifier reads."""
    from profiler.cli.terminal import services

    with asking.model() as llm:
        concepts = naming.chosen(llm, asking.prompts)
        case = case_of(subject, data, limit, naming, loading, computing, folder, concepts, scaling)
        classifier, images = case.open()
        words = case.concepts(images)
        with scaling.open(case.inputs(classifier.outputs), computing.device) as engine:
            yield llm, engine, (classifier, case.open_vlm(services(llm).store), images, words)


def open_classifier(
    subject: str, head: str | None, loading: Loading, computing: Computing
) -> "Classifier":
    """The network of the options, divided into encoder and head."""
    from profiler.models.classifier import Classifier
    from profiler.session import choose_device

    network = loading.network(subject, computing.seed)
    return Classifier.find(network.load(choose_device(computing.device)), head)
