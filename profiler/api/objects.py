"""Networks, images and concepts: by name as on the command line, or as objects in memory."""

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, cast

import torch
from torch import nn

from profiler.core.store import Store, cache_folder
from profiler.data.annotations import annotate, check_annotations, is_annotated
from profiler.data.concept_sets import ConceptSet, concepts_of, open_concepts
from profiler.data.corruptions import Corruption
from profiler.data.images import ImageFolder, ImageSequence, ProbeSet, SyntheticProbe, open_probe
from profiler.data.labelled.memory import LabelledSequence
from profiler.data.synthetic.design import ExperimentScenes
from profiler.errors import InputError, ProfilerError, UsageError
from profiler.llm.base import LLM
from profiler.models.subject.loading import NamedSubject, SubjectOptions, load_subject, subject_of
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.annotated import AnnotatedVLM
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import DEFAULT_VLM, WORDS, check_vlm, late_words, open_vlm
from profiler.profile.labels import DEFAULT_SIMILARITY
from profiler.profile.similarity.base import Similarity
from profiler.profile.similarity.choose import OF_ANNOTATIONS, open_similarity
from profiler.session import Progress, Provenance, Services, Silent, choose_device

P = ParamSpec("P")
T = TypeVar("T")

CacheFolder = Path | str | Literal[False] | None
"""Where what takes time is kept: None for the user's cache folder, False for nowhere."""
Model = str | nn.Module | Subject | NamedSubject
"""A name, a module, or what ``load_model`` returned."""
Images = Path | str | ProbeSet | Sequence[Any] | Any
"""A folder, the name of a built-in set, pictures or paths in a sequence, or a data set of torch."""
Concepts = Path | str | Sequence[str] | ConceptSet
"""The name of a built-in list, a text file, or words."""


def in_parameters(function: Callable[P, T]) -> Callable[P, T]:
    """Let errors of a function speak of its parameters, not of options of the command line."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ProfilerError as error:
            error.args = (re.sub(r"(?<![\w-])--([a-z][a-z-]*)", _parameter, str(error)),)
            raise

    return called


def _parameter(option: re.Match[str]) -> str:
    name = option[1].replace("-", "_")
    return f"`{_CALLED.get(name, name)}`"


_CALLED = {"probe": "images", "data": "images", "region": "regions", "name": "names"}
"""Options that are called otherwise in Python."""


@in_parameters
def load_model(
    model: str | nn.Module,
    *,
    preprocess: str | Preprocess | None = None,
    checkpoint: Path | str | None = None,
    weights: str = "default",
    name: str | None = None,
    device: str = "auto",
) -> Subject:
    """A network, ready to be profiled.

    Args:
        model: a name as in :func:`profiler.models.subject.loading.load_subject`, or a module that
            maps (B, 3, H, W) to anything. A module is copied and stays as it is.
        preprocess: a function from an RGB image to a tensor (3, H, W), or text such as
            ``resize=256,crop=224``; None takes that of the name. A module has none of its own.
        checkpoint: a file of weights to load.
        weights: ``default``, ``none`` for random ones, or a name torchvision gives.
        name: what to call a module; by default its class.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Returns:
        The network in evaluation mode, which every function takes; ``.model`` is the module.

    Raises:
        UsageError: a name is unknown, a module comes without its preprocessing, or a file cannot
            be used.
        DownloadError: weights cannot be fetched.
    """
    options = SubjectOptions(
        None if checkpoint is None else Path(checkpoint), weights=weights, preprocess=preprocess
    )
    if isinstance(model, str):
        if name is not None:
            raise UsageError(f"`name` is for a module; {model!r} is called so itself")
        return load_subject(model, choose_device(device), options)
    if not isinstance(model, nn.Module):
        raise InputError(f"a model is a name or a torch module, not of type {type(model).__name__}")
    called = name or type(model).__name__
    if preprocess is None:
        raise InputError(
            f"{called} is a module, which does not say how its images are prepared; give "
            "`preprocess`, a function from an RGB image to a tensor (3, H, W), or text: "
            "resize=256,crop=224,interpolation=bilinear,mean=0.485/0.456/0.406,"
            "std=0.229/0.224/0.225"
        )
    return subject_of(model, called, choose_device(device), options)


@in_parameters
def load_vlm(name: str = DEFAULT_VLM, *, device: str = "auto") -> VLM:
    """A vision-language model by name.

    Any object with the members of :class:`profiler.models.vlm.base.VLM` does as well: it embeds
    images (B, 3, H, W) and texts as unit rows (B, e) and (M, e) of one space.

    Args:
        name: ``open_clip:ARCH/PRETRAINED``, ``conse``, ``conse:objects``, ``conse:MODEL+ENCODER``
            or ``FILE.py:FACTORY``; ``profiler vlms`` lists what works without a download.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        UnknownNameError: no model is called so.
        DownloadError: its weights cannot be fetched.
    """
    return open_vlm(name, choose_device(device))


@in_parameters
def load_images(
    source: Images,
    *,
    labels: Iterable[Any] | None = None,
    classes: Iterable[str] | None = None,
    limit: int | None = None,
) -> ProbeSet:
    """A set of images, in a fixed order, with a fingerprint.

    Args:
        source: a folder, tar shards, Parquet files or an address (:mod:`profiler.data.encoded`);
            ``imagenette`` or ``synthetic``; a sequence of PIL images and paths; or a data set of
            torch whose items are PIL images or begin with one, as (image, label), or of Hugging
            Face.
        labels: of a sequence in memory: the number of its class for each image, counted from 0;
            None takes those of a data set when they are needed.
        classes: names of the classes, by number; None takes ``source.classes``, if there are any.
            Without names, labels are the numbers of the classifier's outputs.
        limit: how many of the images to use, evenly spread.

    Returns:
        Images that every function takes; those about classifiers, if they have labels.

    Raises:
        InputError: there is no image, or an item is none; labels are not as many as images, are no
            whole numbers, or out of range.
        UnknownNameError: a text is neither a folder nor the name of a built-in set.
        UsageError: labels are given for a folder.
    """
    if labels is None and classes is None:
        return open_images(source, limit=limit)
    if isinstance(source, str | Path) or hasattr(type(source), "fingerprint"):
        raise UsageError(
            "`labels` and `classes` are for images in memory that are not loaded yet; in a folder, "
            "the subfolders are the labels"
        )
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    return LabelledSequence.of(ImageSequence.open(source, limit=limit), labels, classes)


@in_parameters
def load_concepts(source: Concepts) -> ConceptSet:
    """A list of concepts, each once.

    Args:
        source: ``common-20k``, ``common-3k``, ``imagenet-1k`` or ``visual``; a text file with one
            concept a line; or a sequence of words.

    Raises:
        InputError: it is empty, or the file cannot be read.
        UnknownNameError: a text is neither a file nor the name of a built-in list.
    """
    return open_words(source)


# --- what the command line opens alike ---------------------------------------------------------


def open_images(
    source: Images, *, cache: Path | None = None, limit: int | None = None, seed: int = 0
) -> ProbeSet:
    """See :func:`load_images`; ``cache`` is where ``imagenette`` lies, ``seed`` draws scenes."""
    if isinstance(source, str):
        return open_probe(source, cache or cache_folder(), limit=limit, seed=seed)
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    if isinstance(source, Path):
        return ImageFolder.open(source, limit=limit)
    if hasattr(type(source), "fingerprint") and hasattr(type(source), "read"):
        if limit is not None:
            raise UsageError("--limit is for images that are not loaded yet; load fewer")
        return cast(ProbeSet, source)
    return ImageSequence.open(source, limit=limit)


def open_words(source: Concepts) -> ConceptSet:
    """See :func:`load_concepts`."""
    if isinstance(source, ConceptSet):
        return source
    if isinstance(source, str | Path):
        return open_concepts(str(source))
    if not all(isinstance(word, str) for word in source):
        raise InputError("concepts are words: give a sequence of text")
    found = concepts_of(((word, None) for word in source), "words as given")
    if not found.words:
        raise InputError("no concepts: the sequence is empty")
    return found


def open_inputs(
    images: Images,
    concepts: Concepts,
    vlm: str | VLM,
    place: torch.device,
    *,
    cache: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[ProbeSet, ConceptSet, Callable[[], VLM]]:
    """The images, the concepts, and what reads the one in terms of the other, once called.

    Annotations, ``annotations:…`` in place of concepts, take the part of the VLM as well.
    """
    if isinstance(concepts, str) and is_annotated(concepts):
        probe = open_images(images, cache=cache, limit=limit, seed=seed)
        drawn = isinstance(probe, SyntheticProbe | ExperimentScenes)
        check_annotations(concepts, "synthetic" if drawn else "images")
        probe, found = annotate(concepts, probe)
        annotated = AnnotatedVLM(found, late_words(WORDS, place))
        return probe, found.concepts, lambda: annotated
    words = open_words(concepts)
    probe = open_images(images, cache=cache, limit=limit, seed=seed)
    store = Store(cache) if cache else None
    return probe, words, lambda: open_vlm(vlm, place, store) if isinstance(vlm, str) else vlm


def open_store(cache: CacheFolder) -> Store | None:
    """What keeps results, or None where nothing is to be kept."""
    if cache is False:
        return None
    return Store(cache_folder() if cache is None else Path(cache))


def services_of(
    progress: Progress | None, llm: LLM | None = None, store: Store | None = None
) -> Services:
    """What a story may call upon."""
    return Services(llm, store, progress or Silent())


def check_names(model: Model, vlm: str | VLM) -> None:
    """Refuse names that are none, before anything is loaded."""
    if isinstance(model, str):
        model = NamedSubject(model)
    if isinstance(model, NamedSubject):
        model.check()
    if isinstance(vlm, str):
        check_vlm(vlm)


def open_subject(model: Model, preprocess: str | Preprocess | None, device: str) -> Subject:
    """See :func:`load_model`."""
    if isinstance(model, NamedSubject):
        return model.load(choose_device(device))
    if not isinstance(model, Subject):
        return load_model(model, preprocess=preprocess, device=device)
    if preprocess is not None:
        raise UsageError("`preprocess` is for a module; what load_model returned has its own")
    return model


def similarity_of(concepts: Concepts, given: str | Similarity | None) -> Similarity:
    """The formula that is given, or else the usual one; of annotations, one that is about them."""
    annotated = isinstance(concepts, str) and is_annotated(concepts)
    if given is None:
        given = OF_ANNOTATIONS[0] if annotated else DEFAULT_SIMILARITY.name
    formula = open_similarity(given) if isinstance(given, str) else given
    if annotated and formula.name not in OF_ANNOTATIONS:
        raise UsageError(
            f"--similarity {formula.name} is about cosines, and annotations are none; use "
            f"{', '.join(OF_ANNOTATIONS)}"
        )
    return formula


# --- the record of a call ----------------------------------------------------------------------


def provenance_of(function: str, **settings: Any) -> Provenance:
    """The call as one line and its parameters, for the record; objects stand by their names."""
    kept = {name: _plain(value) for name, value in settings.items()}
    given = (f"{name}={value!r}" for name, value in kept.items() if value is not None)
    return Provenance(f"profiler.{function}({', '.join(given)})", settings=kept)


def _plain(value: Any) -> Any:
    """A value as it can be recorded."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path | Corruption):
        return str(value)
    name = getattr(value, "name", None) or getattr(value, "title", None)
    if isinstance(name, str):
        return name
    if isinstance(value, list | tuple) and len(value) <= 20:
        return [_plain(each) for each in value]
    kind = type(value).__name__
    return f"{kind} of {len(value)}" if hasattr(value, "__len__") else kind
