"""Facts of a profile: its layers, its units, its words, and what drives it."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from itertools import zip_longest
from typing import Any, Literal

import numpy as np

from profiler.ask.facts import Fact, FactList, decimal, listing, quoted, safe, share, with_interval
from profiler.ask.results import OpenResult, named
from profiler.core.arrays import BoolArray
from profiler.core.wording import counted
from profiler.errors import InputError
from profiler.models.vlm.base import TextEncoder
from profiler.profile.drivers import FEWEST_ASKED, Following, followed_of
from profiler.profile.evaluation import other_labels
from profiler.profile.explain import known_mean
from profiler.profile.find import (
    Measure,
    Response,
    UnitPlace,
    WordRows,
    find_units,
    holds_word,
    is_word,
    layer_place,
    nearest_words,
    responding,
)
from profiler.profile.result import ProfileRun

Encoder = Callable[[OpenResult], TextEncoder]
"""What compares words of a result in meaning; opened when needed."""
View = Literal["interpretable", "category", "label", "explained", "driver"]
"""What is said of each layer."""

NOT_CONFIRMED = "the label of this unit is not confirmed on images that it was not chosen on"
BELOW = "the label of this unit does not reach the threshold"
FIVE_WORDS = (
    "the run keeps the five best words of each unit and the words of its explanation; of other "
    "words it does not know how a unit responds to them"
)
DRAWN = "measured on drawn scenes, which are no photographs"
SAME_SCENES = "the words were chosen on the same scenes: no independent test"
_LAYERS_NAMED = 40
_LABELS = 5
"""Most frequent labels of a layer."""
_WORDS_NAMED = 3
_NEAR = 5
"""Words nearest in meaning that are searched for."""


def describe(result: OpenResult) -> Iterator[Fact]:
    """What was profiled, on which images, read by which model, and how much of it is explained."""
    run, record, here = result.profile, result.profile.record, result.id
    layers = [f"{quoted(la.layer)} ({counted(la.units, 'unit')})" for la in run.layers]
    more = len(layers) - _LAYERS_NAMED
    yield result.fact(
        "network", f"network of {here}", quoted(result.name), "finding", names=(result.name,)
    )
    yield result.fact(
        "layers",
        f"layers of {here} in order",
        f"{counted(len(layers), 'layer')}: {listing(layers[:_LAYERS_NAMED])}"
        + (f" and {more} more" if more > 0 else ""),
        "layers",
        value=len(layers),
        names=tuple(safe(la.layer) for la in run.layers),
    )
    total = run.profile.total
    units = counted(total.units, "unit")
    yield result.fact("units", f"units of {here}", units, "layers", value=total.units)
    yield result.fact(
        "interpretable",
        f"units of {here} with a trusted label (interpretable units)",
        share(total.interpretable, total.units),
        "categories",
        value=total.interpretable,
        n=total.units,
        about={"status": "interpretable"},
        caveats=_said(result),
    )
    if run.threshold is not None:
        yield result.fact(
            "criterion",
            f"a label of {here} is trusted if",
            run.threshold.meaning,
            "threshold",
            value=run.threshold.value,
        )
    if ranges := run.range_profile:
        yield result.fact(
            "explained",
            f"units of {here} that a few words explain (explained units)",
            share(ranges.total.interpretable, ranges.total.units),
            "range",
            value=ranges.total.interpretable,
            n=ranges.total.units,
            about={"status": "explained"},
            caveats=_said(result),
        )
    if record.probe is not None:
        images = record.probe.images
        text = f"{counted(images, 'image')} of {quoted(record.probe.title)}"
        title = (safe(record.probe.title),)
        yield result.fact(
            "probe", f"probe images of {here}", text, "made", value=images, n=images, names=title
        )
    if record.vlm is not None:
        name = quoted(record.vlm.name)
        yield result.fact(
            "vlm",
            f"model that read the images of {here} in words",
            name,
            "limits",
            names=(safe(record.vlm.name),),
            caveats=_said(result),
        )
    if record.concepts is not None:
        text = f"{counted(len(run.concepts), 'word')} of {quoted(record.concepts.title)}"
        title = (safe(record.concepts.title),)
        yield result.fact(
            "concepts",
            f"concept set of {here}",
            text,
            "made",
            value=len(run.concepts),
            names=title,
        )
    if done := run.experiment:
        yield result.fact(
            "experiment",
            f"scenes of the experiment on {here}",
            f"{counted(done.images, 'drawn scene')} with the factors "
            f"{listing([quoted(name) for name in done.factors.names])}",
            "drivers",
            value=done.images,
            n=done.images,
            names=tuple(map(safe, done.factors.names)),
            caveats=(DRAWN,),
        )


def layers(result: OpenResult, wanted: str, view: View) -> Iterator[Fact]:
    """Facts of every layer whose name fits a pattern such as ``layer4`` or ``blocks.*``.

    The first fact of every layer comes first, then the second of every layer, and so on.
    """
    made = [list(_VIEWS[view](result, place)) for place in _fitting(result, wanted)]
    for of_layers in zip_longest(*made):
        yield from filter(None, of_layers)


def without_view(result: OpenResult, view: View) -> str:
    """Why a profile has no facts of a kind."""
    if view == "driver":
        return (
            f"{result.id} has no experiment on drawn scenes, so it does not say what drives a "
            "layer; profiler run makes one unless --no-experiment is given"
        )
    if view == "explained":
        return f"{result.id} has no range explanations"
    return f"{result.id} has no trusted label there"


def units_found(
    result: OpenResult,
    word: str,
    layer: str | None,
    how: Literal["word", "meaning"],
    trusted: bool,
    encoder: Encoder,
) -> FactList:
    """Units whose label or explanation holds a word, or words near to it in meaning."""
    run = result.profile
    layer = _layer(result, layer)
    where = f"of {quoted(layer)} " if layer else ""
    about = {"layer": safe(layer)} if layer else {}
    sure = ", trusted ones alone" if trusted else ""
    wanted = holds_word(run, word)
    words: tuple[str, ...] = (safe(word), *_held(run, wanted))
    heads = []
    if how == "meaning":
        texts = encoder(result)
        if texts.fingerprint not in result.word_rows:
            result.word_rows[texts.fingerprint] = WordRows.of(run, texts)
        near = nearest_words(word, texts, result.word_rows[texts.fingerprint])[:_NEAR]
        names = {name for name, _ in near}
        wanted = np.array([concept in names for concept in run.concepts], dtype=bool)
        words = (safe(word), *(safe(name) for name, _ in near))
        heads.append(
            result.fact(
                f"near/{word}",
                f"words of the units of {result.id} nearest in meaning to {quoted(word)}",
                listing([f"{quoted(name)} (cosine {decimal(cosine)})" for name, cosine in near]),
                "units",
                names=words,
                caveats=_said(result),
            )
        )
    found = find_units(run, wanted, layer, trusted=trusted)
    many = sum(la.units for la in run.layers if layer in (None, la.layer))
    what = _asked_for(run, word, wanted) if how == "word" else f"a word near {quoted(word)}"
    heads.append(
        result.fact(
            f"found/{how}/{word}/{layer}/{trusted}",
            f"units {where}of {result.id} found by {how}{sure}",
            f"{share(len(found), many)} with {what} as label or in the explanation",
            "units",
            view={"q": (*_held(run, wanted), word)[0], **({"layer": layer} if layer else {})},
            value=len(found),
            n=many,
            about=about,
            names=words,
            caveats=(*_said(result), FIVE_WORDS),
        )
    )
    return FactList(tuple(heads), [partial(unit_row, result, place) for place in found])


def unit(result: OpenResult, layer: str, number: int) -> Iterator[Fact]:
    """Everything that the run says of one unit."""
    run = result.profile
    place = _place(result, layer, number)
    labels, at = run.layers[place.layer], place.unit
    who, keys = _who(result, place), f"unit/{place.layer}/{number}"
    about, view = {"layer": safe(labels.layer)}, _view(result, place)

    def fact(key: str, what: str, stated: str, **given: Any) -> Fact:
        return result.fact(
            f"{keys}/{key}", f"{what}, {result.id}", f"{stated} of {who}",
            "units", view=view, about=about, **given,
        )  # fmt: skip

    yield unit_row(result, place)
    if labels.dead[at]:
        return
    sure = _doubt(result, place)
    words = [run.concepts[i] for i in labels.concept[at].tolist() if i >= 0]
    scores = [f"{quoted(w)} ({decimal(s)})" for w, s in zip(words, labels.score[at], strict=False)]
    names = tuple(map(safe, words))
    stated = f"the best words {listing(scores)}"
    yield fact("words", "best words with their scores", stated, names=names, caveats=sure)
    if not math.isnan(labels.p_value[at]):
        p = float(labels.p_value[at])
        stated = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
        yield fact("p", "share of random image lists that score as high", stated, value=p)
    if len(labels.confirmed_z):
        z = float(labels.confirmed_z[at])
        stated = f"z = {decimal(z)}"
        yield fact("z", "z of the label on images that it was not chosen on", stated, value=z)
    if run.ranges:
        yield from _explanation_of(result, place, fact)
    if run.quality:
        yield from _quality_of(result, place, fact)
    if run.experiment:
        yield from _drivers_of(result, place, fact)
    if images := [run.image_names[i] for i in labels.top_images[at].tolist() if i >= 0][:5]:
        stated = f"the strongest images {listing([quoted(name) for name in images])}"
        yield fact("images", "strongest images", stated, names=tuple(map(safe, images)))


def pictures(result: OpenResult, layer: str, number: int, most: int) -> list[tuple[str, bytes]]:
    """Names and WebP pictures of the images that activate a unit most."""
    run = result.profile
    place = _place(result, layer, number)
    images = run.layers[place.layer].top_images[place.unit].tolist()
    shown = [i for i in images if i in run.thumbnails][:most]
    return [(safe(run.image_names[i]), run.thumbnails[i]) for i in shown]


_MEASURES: dict[Measure, tuple[str, str]] = {
    "score": ("among their five best words", "with the score {value} of {word} (word {rank} of 5)"),
    "weight": ("in their explanation", "with the weight {value} of {word} in its explanation"),
    "effect": (
        "as what raises their activation by experiment",
        "with the effect {value} standard deviations of {word} by experiment",
    ),
}


def responses(result: OpenResult, concept: str, layer: str | None, by: Measure) -> FactList:
    """Units that respond to a word: how many, and each with the measure of the word itself."""
    run = result.profile
    layer = _layer(result, layer)
    wanted = is_word(run, concept)
    found = responding(run, wanted, layer, by=by)
    where = f" of {quoted(layer)}" if layer else ""
    many = sum(la.units for la in run.layers if layer in (None, la.layer))
    units = len({each.place for each in found})
    caveats = (DRAWN,) if by == "effect" else (*_said(result), FIVE_WORDS)
    among, _ = _MEASURES[by]
    what = _asked_for(run, concept, wanted)
    heads = []
    if not wanted.any():
        heads.append(
            result.fact(
                f"unknown/{concept}",
                f"whether the concept set of {result.id} holds {quoted(concept)}",
                f"the concept set does not hold {quoted(concept)}{_spelled_alike(run, concept)}",
                "made",
                names=(safe(concept), *get_close_matches(concept, run.concepts)),
            )
        )
    heads.append(
        result.fact(
            f"responding/{by}/{concept}/{layer}",
            f"units{where} of {result.id} that respond, by {by}",
            f"{share(units, many)} with {what} {among}",
            "units",
            view={"q": (*_held(run, wanted), concept)[0], **({"layer": layer} if layer else {})},
            value=units,
            n=many,
            about={"layer": safe(layer)} if layer else {},
            names=(safe(concept), *_held(run, wanted)),
            caveats=caveats,
        )
    )
    return FactList(tuple(heads), [partial(_response, result, each, by) for each in found])


def unit_row(result: OpenResult, place: UnitPlace) -> Fact:
    """A unit with its label and its explanation."""
    run = result.profile
    labels, at = run.layers[place.layer], place.unit
    number = run.record.subject.layers[place.layer].number(at)
    who, names, parts = _who(result, place), [safe(labels.layer)], []
    if labels.dead[at]:
        parts.append("never varies (dead)")
    elif labels.concept[at, 0] >= 0:
        word = run.concepts[int(labels.concept[at, 0])]
        names.append(safe(word))
        score = float(labels.score[at, 0])
        sure = "trusted" if run.trusted(labels)[at] else "not trusted"
        parts.append(f"{sure} label {quoted(word)}, score {decimal(score)}")
    if run.ranges and run.ranges[place.layer].explained(run.explained_cut)[at]:
        ranges = run.ranges[place.layer]
        words = [run.concepts[i] for i in ranges.concept[at].tolist() if i >= 0]
        names += map(safe, words)
        told = [f"{quoted(w)} {v:.2f}" for w, v in zip(words, ranges.weight[at], strict=False)]
        parts.append(f"explained by {listing(told)} with r = {decimal(ranges.shown_r[at])}")
    return result.fact(
        f"unit/{place.layer}/{number}",
        f"unit of {result.id}",
        f"{who} ({'; '.join(parts) or 'without a label'})",
        "units",
        view=_view(result, place),
        value=number,
        about={"layer": safe(labels.layer)},
        names=tuple(dict.fromkeys(names)),
        caveats=(*_said(result), *_doubt(result, place)),
    )


def _response(result: OpenResult, each: Response, by: Measure) -> Fact:
    place = each.place
    layer = result.profile.layers[place.layer].layer
    low, high = each.value - each.half, each.value + each.half
    value = with_interval(each.value, low, high) if by == "effect" else decimal(each.value)
    _, template = _MEASURES[by]
    told = template.format(value=value, word=quoted(each.word), rank=each.rank + 1)
    number = result.profile.record.subject.layers[place.layer].number(place.unit)
    label_holds = by == "score" and each.rank == 0
    return result.fact(
        f"response/{by}/{each.word}/{place.layer}/{number}",
        f"unit of {result.id} by {by}",
        f"{_who(result, place)} {told}",
        "units",
        view=_view(result, place),
        value=each.value,
        low=None if math.isnan(each.half) else low,
        high=None if math.isnan(each.half) else high,
        about={"layer": safe(layer)},
        names=(safe(each.word),),
        caveats=(DRAWN,)
        if by == "effect"
        else (*_said(result), *(_doubt(result, place) if label_holds else ())),
    )


def _statuses(result: OpenResult, place: int) -> Iterator[Fact]:
    counts = result.profile.profile.layers[place]
    found = {
        "interpretable": counts.interpretable,
        "uninterpretable": counts.uninterpretable,
        "dead": counts.dead,
    }
    yield from _counts(result, place, "status", found)


def _by_category(result: OpenResult, place: int) -> Iterator[Fact]:
    counts = result.profile.profile.layers[place].counts
    yield from _counts(result, place, "category", counts)


def _counts(
    result: OpenResult, place: int, dimension: str, groups: Mapping[str, int]
) -> Iterator[Fact]:
    counts = result.profile.profile.layers[place]
    layer, address = counts.layer, f"layer-{place + 1}"
    for name, many in groups.items():
        about = {"layer": safe(layer), dimension: safe(name)}
        kind = f"{name} units" if dimension == "status" else f"units with a label of {name}"
        yield result.fact(
            f"layer/{place}/{dimension}/{name}",
            f"{kind} in {quoted(layer)} of {result.id}",
            share(many, counts.units),
            address,
            value=many,
            n=counts.units,
            about=about,
            caveats=_said(result),
        )


def _labels(result: OpenResult, place: int) -> Iterator[Fact]:
    run, labels = result.profile, result.profile.layers[place]
    trusted = labels.concept[run.trusted(labels), 0].tolist()
    for concept, many in Counter(trusted).most_common(_LABELS):
        word = run.concepts[concept]
        yield result.fact(
            f"layer/{place}/label/{word}",
            f"units in {quoted(labels.layer)} of {result.id} with the trusted label {quoted(word)}",
            f"{share(many, labels.units)} with the label {quoted(word)}",
            f"layer-{place + 1}",
            view={"q": word},
            value=many,
            n=labels.units,
            about={"layer": safe(labels.layer)},
            names=(safe(word),),
            caveats=_said(result),
        )


def _explained(result: OpenResult, place: int) -> Iterator[Fact]:
    run = result.profile
    if run.range_profile is None:
        return
    counts, ranges = run.range_profile.layers[place], run.ranges[place]
    layer, about = quoted(counts.layer), {"layer": safe(counts.layer)}
    explained = about | {"status": "explained"}
    yield result.fact(
        f"layer/{place}/explained",
        f"explained units in {layer} of {result.id}",
        share(counts.interpretable, counts.units),
        "range",
        value=counts.interpretable,
        n=counts.units,
        about=explained,
        caveats=_said(result),
    )
    for name, values in (("r", ranges.shown_r), ("ceiling", ranges.ceiling)):
        mean = known_mean(values)
        if mean is None or math.isnan(mean):
            continue
        what = "mean correlation r of explanation and activation" if name == "r" else (
            "mean ceiling: the correlation of the best linear function of the embedding"
        )  # fmt: skip
        stated = f"mean {'r' if name == 'r' else 'ceiling'} {decimal(mean)}"
        yield result.fact(
            f"layer/{place}/{name}", f"{what} in {layer} of {result.id}", stated, "range",
            value=mean, about=about, caveats=_said(result),
        )  # fmt: skip
    leading = Counter(word for word in run.leading_words(ranges) if word)
    for word, many in leading.most_common(_LABELS):
        yield result.fact(
            f"layer/{place}/leading/{word}",
            f"units in {layer} of {result.id} whose explanation {quoted(word)} leads",
            f"{share(many, counts.units)} with {quoted(word)} leading the explanation",
            f"layer-{place + 1}",
            view={"q": word},
            value=many,
            n=counts.units,
            about=about,
            names=(safe(word),),
            caveats=_said(result),
        )


def _driven(result: OpenResult, place: int) -> Iterator[Fact]:
    run, done = result.profile, result.profile.experiment
    if done is None:
        return
    layer = done.layers[place]
    sums = {
        "all factors together": layer.first_order(),
        "pairs of factors": layer.all_two_way(),
        "neither factors nor pairs of them": layer.rest(),
    }
    factors = sorted(layer.shares().items(), key=lambda each: -each[1].value)
    for name, found in (*factors, *sums.items()):
        value, low, high = (100 * each for each in (found.value, found.low, found.high))
        about = {"layer": safe(layer.layer)}
        if name not in sums:
            about["factor"] = safe(name)
        yield result.fact(
            f"layer/{place}/driver/{name}",
            f"what drives {quoted(layer.layer)} of {result.id}",
            f"{with_interval(value, low, high, 1, ' %')} of the variance caused by {name}",
            "drivers",
            value=value,
            low=low,
            high=high,
            n=done.images,
            about=about,
            caveats=(DRAWN,),
        )
    for view, name in (("peak", "trusted labels"), ("range", "leading words")):
        counts = run.followed.get(view)
        if counts is None:
            continue
        followed, asked = followed_of([counts[place]])
        if not asked:
            continue
        few = (f"fewer than {FEWEST_ASKED} units can be tested",) if asked < FEWEST_ASKED else ()
        yield result.fact(
            f"layer/{place}/followed/{view}",
            f"units in {quoted(layer.layer)} of {result.id} that follow their word by experiment "
            f"({name} that name what the scenes vary)",
            f"{share(followed, asked)} that follow their word by experiment",
            "drivers",
            value=followed,
            n=asked,
            about={"layer": safe(layer.layer)},
            caveats=(DRAWN, *few, *((SAME_SCENES,) if run.worded_on_scenes else ())),
        )


_VIEWS: Mapping[View, Callable[[OpenResult, int], Iterator[Fact]]] = {
    "interpretable": _statuses,
    "category": _by_category,
    "label": _labels,
    "explained": _explained,
    "driver": _driven,
}
_Make = Callable[..., Fact]


def _explanation_of(result: OpenResult, place: UnitPlace, fact: _Make) -> Iterator[Fact]:
    ranges, at = result.profile.ranges[place.layer], place.unit
    explained = bool(ranges.explained(result.profile.explained_cut)[at])
    caveats = _said(result) if explained else (*_said(result), "this unit is not explained")
    for key, what, value in (
        ("r", "correlation r of explanation and activation", ranges.shown_r[at]),
        ("ceiling", "ceiling of r", ranges.ceiling[at]),
        ("monosemanticity", "monosemanticity score", ranges.monosemanticity[at]),
    ):
        if not math.isnan(value):
            stated = f"r = {decimal(value)}" if key == "r" else f"{key} {decimal(value)}"
            yield fact(key, what, stated, value=float(value), caveats=caveats)


def _quality_of(result: OpenResult, place: UnitPlace, fact: _Make) -> Iterator[Fact]:
    quality, at = result.profile.quality[place.layer], place.unit
    correlation = float(quality.held_out.correlation[at])
    if not math.isnan(correlation):
        stated = f"held-out correlation {decimal(correlation)}"
        what = "correlation of the label's score and the activation on held-out images"
        yield fact("held-out", what, stated, value=correlation)
    survival = float(quality.stability.survival[at])
    if not math.isnan(survival):
        others = [result.profile.concepts[i] for i, _ in other_labels(quality, at)[:3]]
        instead = f", else {listing([quoted(word) for word in others])}" if others else ""
        yield fact(
            "survival",
            "share of bootstrap draws of the images in which the label survives",
            f"survival {decimal(100 * survival, 1)} %{instead}",
            value=survival,
            n=quality.stability.draws,
            names=tuple(map(safe, others)),
        )


def _drivers_of(result: OpenResult, place: UnitPlace, fact: _Make) -> Iterator[Fact]:
    run, done = result.profile, result.profile.experiment
    if done is None or not done.layers[place.layer].varying[place.unit]:
        return
    shares = done.layers[place.layer].share[place.unit].tolist()
    ranked = sorted(zip(shares, done.factors.names, strict=True), reverse=True)[:3]
    told = [f"{quoted(name)} {decimal(100 * value, 1)} %" for value, name in ranked]
    yield fact(
        "drivers",
        "factors that cause most of the variance",
        f"the shares of the variance caused by {listing(told)}",
        names=tuple(safe(name) for _, name in ranked),
        caveats=(DRAWN,),
    )
    concept = run.layers[place.layer].concept[:, 0]
    match run.following(place.layer, concept)[place.unit]:
        case Following.FOLLOWED:
            stated = "a label that it follows by experiment: true"
        case Following.NOT_FOLLOWED:
            stated = "a label that it follows by experiment: false"
        case _:
            return
    yield fact("followed", "whether it follows its label", stated, caveats=(DRAWN,))


def _held(run: ProfileRun, wanted: BoolArray) -> tuple[str, ...]:
    """The first few concepts that are looked for."""
    return tuple(safe(run.concepts[i]) for i in np.flatnonzero(wanted)[:_WORDS_NAMED].tolist())


def _asked_for(run: ProfileRun, word: str, wanted: BoolArray) -> str:
    """What was looked for, and by which concepts where none is it."""
    held = _held(run, wanted)
    if not held or safe(word).casefold() in {each.casefold() for each in held}:
        return quoted(word)
    more = " …" if np.count_nonzero(wanted) > len(held) else ""
    return f"{quoted(word)} (as {listing([quoted(each) for each in held])}{more})"


def _spelled_alike(run: ProfileRun, word: str) -> str:
    alike = get_close_matches(word, run.concepts)
    return f"; spelled alike: {listing([quoted(each) for each in alike])}" if alike else ""


def _said(result: OpenResult) -> tuple[str, ...]:
    """What has to be said along with anything about words."""
    run = result.profile
    limit = run.record.vlm.limits if run.record.vlm else ""
    return tuple(filter(None, (limit, *run.warnings)))


def _doubt(result: OpenResult, place: UnitPlace) -> tuple[str, ...]:
    run = result.profile
    labels = run.layers[place.layer]
    if run.trusted(labels)[place.unit] or labels.dead[place.unit]:
        return ()
    return (NOT_CONFIRMED if run.threshold is not None and run.threshold.confirms else BELOW,)


def _who(result: OpenResult, place: UnitPlace) -> str:
    info = result.profile.record.subject.layers[place.layer]
    return f"unit {info.number(place.unit)} of {quoted(info.name)}"


def _view(result: OpenResult, place: UnitPlace) -> dict[str, str]:
    """The unit opened in the table, among those of its label: few enough for one page."""
    layer = result.profile.record.subject.layers[place.layer]
    concept = int(result.profile.layers[place.layer].concept[place.unit, 0])
    word = {"q": result.profile.concepts[concept]} if concept >= 0 else {}
    here = f"{layer.name}:{layer.number(place.unit)}"
    return {**word, "layer": layer.name, "open": here}


def _layer(result: OpenResult, layer: str | None) -> str | None:
    return named(layer, result.layers, f"layer of {result.id}") if layer else None


def _place(result: OpenResult, layer: str, number: int) -> UnitPlace:
    place = layer_place(result.profile, named(layer, result.layers, f"layer of {result.id}"))
    info = result.profile.record.subject.layers[place]
    numbers = [info.number(unit) for unit in range(info.units)]
    if number not in numbers:
        raise InputError(
            f"layer {info.name!r} of {result.id} has no unit {number}; its {info.units:,} units "
            f"are numbered from {numbers[0]} to {numbers[-1]}"
        )
    return UnitPlace(place, numbers.index(number))


def _fitting(result: OpenResult, wanted: str) -> Sequence[int]:
    if not any(mark in wanted for mark in "*?["):
        return [layer_place(result.profile, named(wanted, result.layers, f"layer of {result.id}"))]
    fits = [i for i, name in enumerate(result.layers) if fnmatchcase(name, wanted)]
    if not fits:
        named(wanted, result.layers, f"layer of {result.id}")
    return fits
