"""The stories as functions: networks, images and words go in, by name or in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from profiler.api.classifiers import Classes, Labelled, LabelledCase, change_of
from profiler.api.file_results import ClassifierDiagnosis, ProfileComparison, load
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
)
from profiler.api.results import Profile
from profiler.compare.compare import (
    CompareOptions,
    NamedRun,
    common_categories,
    compare_runs,
    order_of,
)
from profiler.compare.rules import parse_rule
from profiler.core.store import Store
from profiler.core.text import distinct, split
from profiler.data.annotations import is_annotated
from profiler.data.corruptions import Corruption
from profiler.debug.debug import DebugOptions
from profiler.debug.debug import debug as diagnose
from profiler.debug.result import LEVELS
from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.llm.base import LLM
from profiler.llm.choose import open_llm
from profiler.models.attacks import Attack
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import DEFAULT_VLM, texts_of
from profiler.profile.evaluation import DRAWS
from profiler.profile.run import ProfileOptions
from profiler.profile.run import profile as profile_network
from profiler.profile.similarity.base import Similarity
from profiler.profile.similarity.choose import OF_ANNOTATIONS, open_similarity
from profiler.profile.sorting.categories import Category
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
    if unknown := next((name for name in options if name not in _REST), None):
        raise UnknownNameError("parameter of profile", unknown, sorted(_REST))
    annotated = isinstance(concepts, str) and is_annotated(concepts)
    if annotated and vlm != DEFAULT_VLM:
        raise UsageError("`vlm` and annotations both say what the images show; give one")
    check_names(model, vlm)
    if similarity is None:
        similarity = OF_ANNOTATIONS[0] if annotated else "soft-wpmi"
    formula = open_similarity(similarity) if isinstance(similarity, str) else similarity
    if annotated and formula.name not in OF_ANNOTATIONS:
        raise UsageError(
            f"`similarity` {formula.name} is about cosines, and annotations are none; use "
            f"{', '.join(OF_ANNOTATIONS)}"
        )
    given = {
        **options,
        "layers": (split(layers) if isinstance(layers, str) else tuple(layers)) or ("all",),
        "similarity": formula,
        "threshold": _cut(threshold),
        "seed": seed,
    }
    if isinstance(on_r := options.get("range_threshold"), str | Path):
        given["range_threshold"] = read_cut(str(on_r), "--range-threshold")
    place = choose_device(device)
    store = open_store(cache)
    settings = {
        "model": model,
        "images": images,
        "concepts": concepts,
        "vlm": None if annotated else vlm,
        "limit": limit,
        **({"llm": llm} if isinstance(llm, str) else {}),
        **given,
    }
    how = provenance_of("profile", settings)
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
    *profiles: Profile | Path | str,
    names: Sequence[str] | None = None,
    timeline: str | None = None,
    threshold: Cut = None,
    own_thresholds: bool = False,
    fail_on: Sequence[str] = (),
    draws: int = DRAWS,
    vlm: VLM | None = None,
    seed: int = 0,
    llm: str | LLM | None = None,
    device: str = "auto",
    cache: CacheFolder = None,
    progress: Progress | None = None,
    out: Path | str | None = None,
) -> ProfileComparison:
    """Say what changed between profiles, and whether it is more than noise: ``profiler compare``.

    Units are put side by side by what they respond to where the profiles were made with
    ``keep_activations`` and the same cache.

    Args:
        profiles: two or more of the same images, concepts and VLM, or folders of finished runs.
        names: what to call each; by default the folder's name, or else the network's.
        timeline: ``name``, ``step`` or ``given``: the profiles are steps of one training.
        threshold: cuts all profiles; None: labels that are confirmed on other images.
        own_thresholds: cut each profile at its own threshold.
        fail_on: rules such as ``js>0.1``, whose verdicts stand in the result.
        draws: bootstrap draws for the noise floor; 0 for none.
        vlm: embeds words that are not in the cache; by default as the first profile names it.
        seed: of everything random.
        llm: sorts words and writes the summary; None keeps the categories of the profiles.
        device: for the VLM.
        cache: as in ``profile``.
        progress: is told how far each stage has come.
        out: folder to write to; None to write nothing.

    Returns:
        What changed by layer and category, with intervals, and which units match.

    Raises:
        InputError: the profiles differ in more than the network.
        UsageError: there are fewer than two profiles, or parameters exclude each other.
    """
    given = [each if isinstance(each, Profile) else load(each) for each in profiles]
    finished = [each for each in given if isinstance(each, Profile)]
    if len(finished) < len(given):
        raise InputError("a comparison is of profiles, not of other comparisons")
    if names is not None and len(names) != len(finished):
        raise UsageError(f"{len(names)} `names` for {len(finished)} profiles; give one for each")
    called = names or [
        each.folder.resolve().name if each.folder else each.run.record.subject.name
        for each in finished
    ]
    runs = [
        NamedRun(name, each.run, each.folder)
        for name, each in zip(distinct(list(called)), finished, strict=True)
    ]
    if len(runs) < 2:
        raise UsageError(f"a comparison needs at least two profiles, got {len(runs)}")
    categories = tuple(Category(*pair) for pair in common_categories(runs))
    settings = {
        "profiles": [each.name for each in runs],
        "timeline": timeline,
        "threshold": threshold,
        "own_thresholds": own_thresholds,
        "draws": draws,
        "seed": seed,
    }
    options = CompareOptions(
        threshold=_cut(threshold),
        own_thresholds=own_thresholds,
        timeline=None if timeline is None else order_of(timeline),
        draws=draws,
        rules=[parse_rule(rule, [each.name for each in categories]) for rule in fail_on],
        seed=seed,
        words=ProfileOptions(categories=categories, seed=seed),
        provenance=provenance_of("compare", settings),
    )
    first, store = finished[0], open_store(cache)
    record = first.run.record
    annotated = record.vlm is not None and record.vlm.annotated
    texts = (
        vlm
        or (None if annotated else first.vlm)
        or texts_of(record.vlm, record.settings, choose_device(device))
    )
    folder = None if out is None else Path(out)
    with _language_model(llm, store) as asked:
        done = compare_runs(runs, folder, options, texts, services_of(progress, asked, store))
    return ProfileComparison(done.files)


@in_parameters
def debug(
    model: str | nn.Module | Subject,
    images: Labelled,
    concepts: Concepts | Profile | None = None,
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
        concepts: to look for: as in ``profile``, or a profile, whose most frequent labels are
            taken; None: RIVAL10's attributes, if the classes are RIVAL10's.
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
    settings = {
        "model": model,
        "images": images,
        "concepts": concepts,
        "classes": classes,
        "head": head,
        "attack": attacked.text if attacked else None,
        "corrupt": harmed,
        "level": level,
        "vlm": vlm,
        "limit": limit,
        "seed": seed,
    }
    store = open_store(cache)
    case = LabelledCase.open(model, images, concepts, classes, head, vlm, preprocess, limit, device)
    words = case.concepts
    with _language_model(llm, store) as asked:
        done = diagnose(
            case.classifier,
            case.eyes(),
            case.images,
            words,
            None if out is None else Path(out),
            DebugOptions(
                attacked,
                harmed,
                wanted,
                trust_labels,
                seed,
                reading=reading or Reading(),
                provenance=provenance_of("debug", settings),
            ),
            services_of(progress, asked, store),
        )
    return ClassifierDiagnosis(done.files)


def _cut(threshold: Cut) -> Any:
    return read_threshold(str(threshold)) if isinstance(threshold, str | Path) else threshold


@contextmanager
def _language_model(llm: str | LLM | None, store: Store | None) -> Iterator[LLM | None]:
    """The LLM; closed at the end where it was opened here."""
    if not isinstance(llm, str):
        yield llm
        return
    opened = open_llm(llm, cache_dir=store.folder / "llm" if store else None)
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()
