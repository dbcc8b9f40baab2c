"""The options about classifiers and labelled images, shared by the commands that judge answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.images import (
    AllowBad,
    BatchSize,
    Precision,
    Seed,
    VLMName,
    Workers,
    batch_size_of,
    check_precision,
)
from profiler.cli.subjects import Device, Loading
from profiler.cli.words import Asking
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.data.concept_sets import ConceptSet
    from profiler.data.labelled.images import LabelledImages
    from profiler.llm.base import LLM
    from profiler.models.classifier import Classifier
    from profiler.models.vlm.base import VLM
    from profiler.session import Reading

DataPath = Annotated[
    Path,
    typer.Option(
        "--data",
        help="Labelled images: a folder with a subfolder for each class, or a CSV "
        "with the columns path,label.",
    ),
]
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        help="Names of the outputs: a file with one name on each line, or JSON; or a "
        "CSV label,class that says which output each label of the data means.  "
        "[default: the names that come with the weights; ImageNet's for 1000 "
        "outputs; or the sorted class folders of --data]",
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
        help="Concepts to look for: a text file with one on each line, or a built-in "
        "set.  [default: RIVAL10's attributes if the classes are RIVAL10's, else "
        "120 visual attributes]",
    ),
]
ConceptsFrom = Annotated[
    Path | None,
    typer.Option(
        "--concepts-from",
        metavar="RUN",
        help="Take the most frequent labels of a finished profile as concepts.",
    ),
]
ProposeConcepts = Annotated[
    bool,
    typer.Option(
        "--propose-concepts",
        help="Let the language model propose attributes that separate the classes.",
    ),
]
AttackName = Annotated[
    str | None, typer.Option("--attack", help="Attack the images first: fgsm or pgd.")
]
Eps = Annotated[
    str, typer.Option("--eps", help="Largest change of a pixel by an attack, where white is 1.")
]
AttackSteps = Annotated[int, typer.Option("--attack-steps", help="Number of steps of pgd.", min=1)]
Corrupt = Annotated[
    str | None,
    typer.Option(
        "--corrupt",
        metavar="NAME:SEVERITY",
        help="Corrupt the images first, as in gaussian_noise:3; severities are 1 to 5.",
    ),
]
DataLimit = Annotated[
    int | None, typer.Option("--limit", help="Use only this many images, evenly spread.")
]
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
    concepts: AttributesName = None
    concepts_from: ConceptsFrom = None
    propose_concepts: ProposeConcepts = False
    vlm: VLMName = "open_clip:ViT-B-16/openai"


@dataclass(frozen=True)
class Computing:
    """How images are read, and where networks run."""

    batch_size: BatchSize = "auto"
    workers: Workers = 2
    device: Device = "auto"
    precision: Precision = "fp32"
    seed: Seed = 0
    allow_bad: AllowBad = False

    def check(self) -> None:
        """Refuse what is no batch size, and what the device lacks."""
        batch_size_of(self.batch_size)
        check_precision(self.precision, self.device)

    @property
    def reading(self) -> "Reading":
        """For a story."""
        from profiler.session import Reading

        size = batch_size_of(self.batch_size)
        return Reading(size, self.workers, self.precision, self.allow_bad)


@dataclass(frozen=True)
class Case:
    """A classifier and labelled images, as a command was told of them."""

    subject: str
    data: Path
    limit: int | None
    naming: Naming
    loading: Loading
    computing: Computing
    asking: Asking = field(default_factory=Asking)

    def check(self, out: Path) -> "ConceptSet | None":
        """Check what costs nothing before the network is loaded.

        Args:
            out: the folder that will be written to.

        Returns:
            The concepts, where the classes need not be known for them.
        """
        from profiler.api.classifiers import check_data
        from profiler.cli.images import check_profiling
        from profiler.llm.prompts import load_prompts
        from profiler.session import check_writable, choose_device

        named = self.naming
        own = self.loading.options(self.computing.seed)
        check_profiling(self.subject, own, named.vlm, limit=self.limit)
        choose_device(self.computing.device)
        check_data(self.data, named.classes)
        words = None
        if named.concepts or named.concepts_from:
            words = choose_concepts(
                named.concepts, named.concepts_from, named.propose_concepts, (), None, None
            )
        load_prompts(self.asking.prompts)
        with self.asking.model() as model:
            if named.propose_concepts and model is None:
                raise UsageError("--propose-concepts asks an LLM; name one with --llm")
        check_writable(out)
        return words

    def open_classifier(self) -> "Classifier":
        """The network, divided into encoder and head."""
        return open_classifier(self.subject, self.naming.head, self.loading, self.computing)

    def open_images(self, outputs: int) -> "LabelledImages":
        """The labelled images, for a classifier with so many outputs."""
        from profiler.api.classifiers import labelled_for

        return labelled_for(self.data, self.naming.classes, outputs, self.limit)

    def concepts_for(self, images: "LabelledImages", llm: "LLM | None") -> "ConceptSet":
        """Those of the classes that have images, where no option names any."""
        proposed = self.naming.propose_concepts
        return choose_concepts(None, None, proposed, images.present, llm, self.asking.prompts)

    def open_vlm(self) -> "VLM":
        """What reads the images beside the classifier."""
        from profiler.models.vlm.choose import open_vlm
        from profiler.session import choose_device

        return open_vlm(self.naming.vlm, choose_device(self.computing.device))


def open_classifier(
    subject: str, head: str | None, loading: Loading, computing: Computing
) -> "Classifier":
    """The network of the options, divided into encoder and head."""
    from profiler.models.classifier import Classifier
    from profiler.models.subject.loading import load_subject
    from profiler.session import choose_device

    place = choose_device(computing.device)
    return Classifier.find(load_subject(subject, place, loading.options(computing.seed)), head)


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
    return attributes_for(classes)
