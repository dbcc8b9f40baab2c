"""The stories as functions: networks, images and words go in, by name or in memory."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import fields, replace
from functools import partial as with_arguments
from pathlib import Path
from typing import Any

from torch import nn

from profiler.api.classifiers import Classes, Labelled, LabelledCase, Proposing, change_of
from profiler.api.file_results import ClassifierDiagnosis, ProfileComparison
from profiler.api.objects import (
    CacheFolder,
    Concepts,
    Images,
    check_names,
    in_parameters,
    open_inputs,
    open_store,
    open_subject,
    provenance_of,
    services_of,
    similarity_of,
)
from profiler.api.results import Profile
from profiler.compare.compare import CompareOptions, common_categories, compare_runs, order_of
from profiler.compare.rules import parse_rule
from profiler.compare.slots import NamedRun, Tuning, Unprofiled, profile_missing, slots_of
from profiler.core.store import Store
from profiler.core.text import split
from profiler.data.annotations import is_annotated
from profiler.data.corruptions import Corruption
from profiler.debug.debug import DebugOptions
from profiler.debug.debug import debug as diagnose
from profiler.debug.result import LEVELS
from profiler.errors import UnknownNameError, UsageError
from profiler.llm.base import LLM
from profiler.llm.choose import open_llm
from profiler.models.attacks import Attack
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.annotated import AnnotatedVLM
from profiler.models.vlm.base import VLM, TextEncoder
from profiler.models.vlm.choose import DEFAULT_VLM, texts_of
from profiler.profile.evaluation import DRAWS
from profiler.profile.run import ProfileOptions
from profiler.profile.run import profile as profile_network
from profiler.profile.similarity.base import Similarity
from profiler.profile.threshold import Threshold, read_cut, read_threshold
from profiler.session import Progress, Reading, choose_device

Cut = float | str | Path | Threshold | None
"""A number, ``null``, a ``threshold.json`` or what it holds; None for confirmed labels."""
_REST = {each.name for each in fields(ProfileOptions)} - {"provenance"} | {"date"}


@in_parameters
def profile(
    model: str | nn.Module | Subject,
    images: Images,
    concepts: Concepts = "common-20k",
    *,
    vlm: str | VLM = DEFAULT_VLM,
    preprocess: str | Preprocess | None = None,
    layers: str | Sequence[str] = "all",
    similarity: str | Similarity | None = None,
    threshold: Cut = None,
    limit: int | None = None,
    seed: int = 0,
    llm: str | LLM | None = None,
    device: str = "auto",
    cache: CacheFolder = None,
    progress: Progress | None = None,
    out: Path | str | None = None,
    **options: Any,
) -> Profile:
    """Label every unit of a network, and sort the labels: ``profiler run``.

    Args:
        model: a name, a module with ``preprocess``, or what ``load_model`` returned.
        images: a folder, ``imagenette``, ``synthetic``, a sequence of PIL images or paths, a data
            set of torch, or what ``load_images`` returned.
        concepts: a built-in list, a text file, words, what ``load_concepts`` returned; or
            annotations in place of a VLM, ``annotations:…``.
        vlm: reads the images: a name, or what ``load_vlm`` returned.
        preprocess: of a module; see ``load_model``.
        layers: groups (``all``, ``mlp``, ``leaves``), names or globs; text is split at commas.
        similarity: the score of a label; ``soft-wpmi``, or ``enrichment`` of annotations.
        threshold: trust labels that score above this; None: those confirmed on other images.
        limit: how many of the images to use, evenly spread.
        seed: of everything random.
        llm: sorts the labels: a name or an object; None leaves that to exemplars.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        cache: where what takes time is kept: None for the user's cache folder, False for nowhere.
        progress: is told how far each stage has come.
        out: folder to write the run to; None to write nothing.
        options: fields of :class:`profiler.profile.run.ProfileOptions`: ``pool``, ``top``,
            ``evaluate``, ``keep_activations``, ``scenes``, ``reading``, ``categories`` …

    Returns:
        A label, an explanation and their scores for each unit.

    Raises:
        ProfilerError: with the reason; see :mod:`profiler.errors`.
    """
    check_names(model, vlm)
    annotated, given = _profiling("profile", concepts, vlm, similarity, options)
    given |= {"layers": _layers(layers), "threshold": _cut(threshold), "seed": seed}
    place = choose_device(device)
    store = open_store(cache)
    how = provenance_of(
        "profile",
        model=model,
        images=images,
        concepts=concepts,
        vlm=None if annotated else vlm,
        limit=limit,
        **({"llm": llm} if isinstance(llm, str) else {}),
        **given,
    )
    how = replace(how, date=given.pop("date", how.date))
    wanted = ProfileOptions(**given, provenance=how)
    kept = store.folder if store else None
    probe, words, eyes = open_inputs(
        images, concepts, vlm, place, cache=kept, limit=limit, seed=seed
    )
    network = open_subject(model, preprocess, device)
    reader = eyes()
    folder = None if out is None else Path(out)
    with _language_model(llm, store) as asked:
        services = services_of(progress, asked, store)
        done = profile_network(network, reader, probe, words, folder, wanted, services)
    return Profile(done, folder, reader)


@in_parameters
def compare(
    *profiles: Profile | Subject | Path | str,
    names: Sequence[str] | None = None,
    checkpoint: str | Path | Sequence[str | Path] = (),
    checkpoint_key: str | Sequence[str] = (),
    weights: str | Sequence[str] = (),
    partial: bool = False,
    images: Images | None = None,
    concepts: Concepts = "common-20k",
    vlm: str | VLM | None = None,
    preprocess: str | None = None,
    layers: str | Sequence[str] = "all",
    similarity: str | Similarity | None = None,
    limit: int | None = None,
    timeline: str | None = None,
    threshold: Cut = None,
    own_thresholds: bool = False,
    fail_on: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
    llm: str | LLM | None = None,
    device: str = "auto",
    cache: CacheFolder = None,
    progress: Progress | None = None,
    out: Path | str | None = None,
    **options: Any,
) -> ProfileComparison:
    """Say what changed between profiles, and whether it is more than noise: ``profiler compare``.

    Units are put side by side by what they respond to where the profiles were made with
    ``keep_activations`` and the same cache. Networks are profiled first, so that ten checkpoints
    take one call: ``pf.compare("resnet50", checkpoint="ckpt/*.pt", timeline="step", images=…)``.

    Args:
        profiles: two or more of the same images, concepts and VLM, or folders of finished runs;
            or networks, by name or as ``load_model`` returned them.
        names: what to call each; by default the folder's name, or else the network's.
        checkpoint: weights of networks given by name: files, globs, or folders of a training; one
            for each network, or all of them of one network.
        checkpoint_key: which of several networks in a checkpoint; one for all, or for each.
        weights: of networks given by name: ``default``, ``none``, or a name torchvision gives.
        partial: load the weights that fit a network.
        images: as in ``profile``, for networks.
        concepts: as in ``profile``, for networks.
        vlm: as in ``profile``, for networks; or embeds words that are not in the cache, by default
            as the first profile names it.
        preprocess: text as in ``load_model``, for networks given by name.
        layers: as in ``profile``, for networks.
        similarity: as in ``profile``, for networks.
        limit: how many of the images to use, for networks.
        timeline: ``name``, ``step`` or ``given``: the profiles are steps of one training.
        threshold: cuts all profiles; None: labels that are confirmed on other images.
        own_thresholds: cut each profile at its own threshold.
        fail_on: rules such as ``js>0.1``, whose verdicts stand in the result.
        draws: bootstrap draws for the noise floor; 0 for none.
        seed: of everything random.
        llm: sorts words and writes the summary; None keeps the categories of the profiles.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        cache: as in ``profile``.
        progress: is told how far each stage has come.
        out: folder to write to, with a folder for each network that is profiled; None to write
            nothing.
        options: as in ``profile``, for networks.

    Returns:
        What changed by layer and category, with intervals, and which units match.

    Raises:
        InputError: the profiles differ in more than the network.
        UsageError: there are fewer than two profiles, or parameters exclude each other.
    """
    slots = slots_of(
        [_target(each) for each in profiles],
        Tuning(
            _several(checkpoint),
            _several(checkpoint_key),
            _several(weights),
            partial,
            preprocess,
            seed,
        ),
        names or (),
    )
    place, store = choose_device(device), open_store(cache)
    networks = [slot.network for slot in slots if isinstance(slot, Unprofiled)]
    reader = vlm or DEFAULT_VLM
    for network in networks:
        check_names(network, reader)
    if networks and images is None:
        raise UsageError("networks are profiled first; say with `images` on which images")
    _, given = _profiling("compare", concepts, reader, similarity, options)
    categories = common_categories(slots)
    how = provenance_of(
        "compare",
        profiles=[each.name for each in slots],
        timeline=timeline,
        threshold=threshold,
        own_thresholds=own_thresholds,
        draws=draws,
        seed=seed,
    )
    how = replace(how, date=given.pop("date", how.date))
    words = ProfileOptions(**{"categories": categories, **given, "seed": seed})
    wanted = CompareOptions(
        threshold=_cut(threshold),
        own_thresholds=own_thresholds,
        timeline=None if timeline is None else order_of(timeline),
        draws=draws,
        rules=[parse_rule(rule, [each.name for each in words.categories]) for rule in fail_on],
        seed=seed,
        words=words,
        new_categories="categories" in options,
        provenance=how,
    )
    folder = None if out is None else Path(out)
    inputs = with_arguments(
        open_inputs,
        images,
        concepts,
        reader,
        cache=store.folder if store else None,
        limit=limit,
        seed=seed,
    )
    profiling = replace(
        words,
        layers=_layers(layers),
        threshold=wanted.threshold,
        keep_activations=True,
        provenance=how,
    )
    with _language_model(llm, store) as asked:
        services = services_of(progress, asked, store)
        runs = profile_missing(slots, inputs, folder, place, profiling, services)
        record = runs[0].run.record
        eyes = [vlm, *(each.vlm for each in profiles if isinstance(each, Profile))]
        texts: TextEncoder = next(
            # Annotations know no other words than their own.
            (each for each in eyes if each and not isinstance(each, str | AnnotatedVLM)),
            texts_of(record.vlm, record.settings, place),
        )
        done = compare_runs(runs, folder, wanted, texts, services)
    return ProfileComparison(done.files)


@in_parameters
def debug(
    model: str | nn.Module | Subject,
    images: Labelled,
    concepts: Concepts | Profile | Proposing | None = None,
    *,
    classes: Classes | None = None,
    head: str | None = None,
    attack: str | Attack | None = None,
    eps: str = "2/255",
    attack_steps: int = 10,
    corrupt: str | Corruption | None = None,
    level: str = "encoder",
    vlm: str | VLM = DEFAULT_VLM,
    preprocess: str | Preprocess | None = None,
    trust_labels: bool = False,
    limit: int | None = None,
    seed: int = 0,
    llm: str | LLM | None = None,
    device: str = "auto",
    reading: Reading | None = None,
    cache: CacheFolder = None,
    progress: Progress | None = None,
    out: Path | str | None = None,
) -> ClassifierDiagnosis:
    """Say why a classifier is wrong, encoder or head, and on which concepts: ``profiler debug``.

    Args:
        model: a name, a module with ``preprocess``, or what ``load_model`` returned.
        images: labelled: a folder with a subfolder for each class, or a CSV of path,label; or, in
            memory, a sequence of (image, label), a data set of torch that gives these, or what
            ``load_images`` returned with labels. Labels in memory are the numbers of classes,
            counted from 0.
        concepts: to look for: as in ``profile``; a profile, whose most frequent labels are taken;
            or a function of the names of the classes, such as
            :func:`profiler.concepts.proposing.propose_concepts` with a language model. None:
            RIVAL10's attributes if the classes are RIVAL10's, else 120 visual attributes.
        classes: what the outputs are called: names in their order, or a file, which may also say
            which output each label means. By default ImageNet's for 1,000 outputs, the classes of
            images in memory if they are as many as the outputs, or the class folders, sorted.
        head: name of the linear layer that is the head; None for the last one.
        attack: attack the images first: ``fgsm`` or ``pgd``; the incorrect predictions examined
            are those that were correct before.
        eps: how far an attack may move a pixel, white being 1, as in ``2/255``.
        attack_steps: of ``pgd``.
        corrupt: harm the images first, as in ``gaussian_noise:3``.
        level: whose concepts lead: ``encoder`` or ``vlm``.
        vlm: reads the images: a name, or what ``load_vlm`` returned.
        preprocess: of a module; see ``load_model``.
        trust_labels: go on although labels and outputs seem to be numbered differently.
        limit: how many of the images to use, evenly spread.
        seed: of everything random.
        llm: writes the summary: a name or an object; None leaves that to a template.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        reading: how images are read: batch size, workers, precision.
        cache: as in ``profile``.
        progress: is told how far each stage has come.
        out: folder to write to; None to write nothing.

    Returns:
        Which images are misclassified, whether encoder or head is at fault, and which concepts
        differ from the correctly classified images of the same class.

    Raises:
        ProfilerError: with the reason; see :mod:`profiler.errors`.
    """
    wanted = next((each for each in LEVELS if each == level), None)
    if wanted is None:
        raise UnknownNameError("level", level, LEVELS)
    attacked, harmed = change_of(attack, eps, attack_steps, corrupt, seed)
    how = provenance_of(
        "debug",
        model=model,
        images=images,
        concepts=concepts,
        classes=classes,
        head=head,
        attack=attacked.text if attacked else None,
        corrupt=harmed,
        level=level,
        vlm=vlm,
        limit=limit,
        seed=seed,
    )
    store = open_store(cache)
    folder = None if out is None else Path(out)
    case = LabelledCase.given(
        model, images, concepts, classes, head, vlm, preprocess, limit, device, folder
    )
    with _language_model(llm, store) as asked:
        classifier, labelled = case.open()
        words = case.concepts(labelled)
        done = diagnose(
            classifier,
            case.open_vlm(store),
            labelled,
            words,
            folder,
            DebugOptions(
                attacked,
                harmed,
                wanted,
                trust_labels,
                seed,
                reading=reading or Reading(),
                provenance=how,
            ),
            services_of(progress, asked, store),
        )
    return ClassifierDiagnosis(done.files)


def _profiling(
    function: str,
    concepts: Concepts,
    vlm: str | VLM,
    similarity: str | Similarity | None,
    options: Mapping[str, Any],
) -> tuple[bool, dict[str, Any]]:
    """Whether annotations take the part of the VLM, and fields of ``ProfileOptions``, checked."""
    if unknown := next((name for name in options if name not in _REST), None):
        raise UnknownNameError(f"parameter of {function}", unknown, sorted(_REST))
    annotated = isinstance(concepts, str) and is_annotated(concepts)
    if annotated and vlm != DEFAULT_VLM:
        raise UsageError("`vlm` and annotations both say what the images show; give one")
    given = {**options, "similarity": similarity_of(concepts, similarity)}
    if isinstance(on_r := options.get("range_threshold"), str | Path):
        given["range_threshold"] = read_cut(str(on_r), "--range-threshold")
    return annotated, given


def _target(given: Profile | Subject | Path | str) -> NamedRun | Subject | Path | str:
    if not isinstance(given, Profile):
        return given
    name = given.folder.resolve().name if given.folder else given.run.record.subject.name
    return NamedRun(name, given.run, given.folder)


def _several(given: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    return (str(given),) if isinstance(given, str | Path) else tuple(map(str, given))


def _layers(layers: str | Sequence[str]) -> tuple[str, ...]:
    return (split(layers) if isinstance(layers, str) else tuple(layers)) or ("all",)


def _cut(threshold: Cut) -> Any:
    return read_threshold(str(threshold)) if isinstance(threshold, str | Path) else threshold


def _language_model(
    llm: str | LLM | None, store: Store | None
) -> AbstractContextManager[LLM | None]:
    """The LLM; closed at the end where it was opened here."""
    if not isinstance(llm, str):
        return nullcontext(llm)
    opened = open_llm(llm, cache_dir=store.folder / "llm" if store else None)
    return nullcontext() if opened is None else closing(opened)
