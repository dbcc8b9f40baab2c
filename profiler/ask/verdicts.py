"""Facts of a diagnosis, of a guard's evaluation, and of a check of specifications."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from profiler.ask.facts import Fact, FactList, decimal, quoted, safe, share, with_interval
from profiler.ask.results import OpenResult, named
from profiler.core.wording import counted
from profiler.debug.facts import FEW

_METRICS = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "fpr95": "FPR at 95 % TPR",
    "aurc": "AURC",
}
_OUTCOMES = {"holds": "hold", "fails": "fail", "undecided": "undecided", "measured": "measured"}
"""As several specs do, or are."""


# --- a diagnosis -------------------------------------------------------------------------------


def diagnosis(result: OpenResult) -> Iterator[Fact]:
    """How often the classifier is correct, and which half of it the errors are put down to."""
    content = result.content
    yield result.fact(
        "classifier",
        f"classifier of {result.id}",
        quoted(result.name),
        "finding",
        names=(result.name,),
    )
    yield result.fact(
        "classes",
        f"classes of {result.id}",
        f"{counted(len(result.classes), 'class', 'classes')}: "
        + ", ".join(quoted(name) for name in result.classes[:40]),
        "confusions",
        value=len(result.classes),
        names=tuple(map(safe, result.classes)),
    )
    if content["change"]:
        yield result.fact(
            "change",
            f"what was done to the images of {result.id}",
            quoted(content["change"]),
            "finding",
            names=(safe(content["change"]),),
        )
    for when in ("before", "after") if content["change"] else ("after",):
        counts = content[when]
        changed = {"before": " before the change", "after": " after the change"}
        what = changed[when] if content["change"] else ""
        yield result.fact(
            f"accuracy/{when}",
            f"correct predictions{what} of {result.id} (accuracy)",
            f"{share(counts['right'], counts['images'], 'image')} predicted correctly{what}",
            "confusions",
            value=counts["share"],
            n=counts["images"],
            caveats=_few(counts["images"]),
        )
    rule = content["rules"][content["rule"]]
    yield from _seats(result, "all", f"all errors of {result.id}", {}, rule)


def confusions(result: OpenResult, true: str | None, predicted: str | None) -> FactList:
    """Which classes are taken for which, most errors first."""
    truth = _class(result, true)
    said = _class(result, predicted)
    classes = result.classes
    counts = {(classes[t], classes[p]): n for t, p, n in result.content["confusion"]}
    wrong = [
        (pair, n)
        for pair, n in counts.items()
        if pair[0] != pair[1] and truth in (None, pair[0]) and said in (None, pair[1])
    ]
    wrong.sort(key=lambda each: -each[1])
    heads: list[Fact] = []
    if truth is None and said is None:
        heads = list(diagnosis(result))
    elif not wrong:
        heads = [_confusion(result, truth or "", said or "", 0)] if truth and said else []
    for name in (truth,) if truth else ():
        images = sum(n for (t, _), n in counts.items() if t == name)
        right = counts.get((name, name), 0)
        heads.append(
            result.fact(
                f"class/{name}",
                f"images of {quoted(name)} that {result.id} predicts correctly",
                f"{share(right, images, 'image')} of {quoted(name)} predicted correctly",
                "confusions",
                value=right,
                n=images,
                names=(safe(name),),
                caveats=_few(images),
            )
        )
    return FactList(tuple(heads), [partial(_confusion, result, t, p, n) for (t, p), n in wrong])


def why(result: OpenResult, true: str, predicted: str) -> FactList:
    """Why one class is taken for another: encoder or head, and which concepts differ."""
    truth = named(true, result.classes, f"class of {result.id}")
    said = named(predicted, result.classes, f"class of {result.id}")
    classes, content = result.classes, result.content
    counts = {(classes[t], classes[p]): n for t, p, n in content["confusion"]}
    heads = [_confusion(result, truth, said, counts.get((truth, said), 0))]
    found = next(
        (
            each
            for each in content["confusions"]
            if (classes[each["true"]], classes[each["predicted"]]) == (truth, said)
        ),
        None,
    )
    if found is None:
        return FactList(tuple(heads))
    key, pair = f"pair/{truth}/{said}", f"{quoted(truth)} taken for {quoted(said)}"
    view = {"true": truth, "predicted": said}
    rule = found["rules"][content["rule"]]
    heads += _seats(result, key, pair, view, rule)
    findings = found["findings"]
    caveats = (*_map(result), *_few(found["errors"]))
    if not findings:
        reason = (
            f"no image of {quoted(truth)} is predicted correctly, so there is nothing to compare"
            if findings is None
            else f"no concept differs beyond chance where {pair}"
        )
        heads.append(
            result.fact(
                f"{key}/findings",
                f"concepts that differ from correct predictions where {pair}",
                reason,
                "maps",
                view=view,
                value=0,
                names=(safe(truth), safe(said)),
                caveats=caveats,
            )
        )
    rows = [partial(_finding, result, key, (truth, said), each, caveats) for each in findings or ()]
    return FactList(tuple(heads), rows)


def _confusion(result: OpenResult, true: str, predicted: str, errors: int) -> Fact:
    classes = result.classes
    images = sum(n for t, _, n in result.content["confusion"] if classes[t] == true)
    return result.fact(
        f"confusion/{true}/{predicted}",
        f"images of {quoted(true)} that {result.id} takes for {quoted(predicted)}",
        f"{share(errors, images, 'image')} of {quoted(true)} taken for {quoted(predicted)}",
        "maps",
        view={"true": true, "predicted": predicted},
        value=errors,
        n=images,
        names=(safe(true), safe(predicted)),
        caveats=_few(images),
    )


def _seats(
    result: OpenResult, key: str, what: str, view: Mapping[str, str], rule: Mapping[str, Any]
) -> Iterator[Fact]:
    """Verdicts: encoder or head, and the reason where one decided them all."""
    total = rule["head"] + rule["encoder"] + rule["undetermined"]
    names = (safe(view["true"]), safe(view["predicted"])) if view else ()
    for seat in ("encoder", "head", "undetermined"):
        if seat == "undetermined" and not rule[seat]:
            continue
        put = seat if seat == "undetermined" else f"put down to the {seat}"
        yield result.fact(
            f"{key}/{seat}",
            f"errors {put}, of {what}",
            f"{share(rule[seat], total, 'error')} {put}",
            "maps" if view else "where",
            view=dict(view),
            value=rule[seat],
            n=total,
            about={"seat": seat},
            names=names,
            caveats=_few(total),
        )
    if rule.get("reason"):
        yield result.fact(
            f"{key}/reason",
            f"why {what} are all put down to one side, or to none",
            safe(rule["reason"]) if len(rule["reason"]) < 60 else rule["reason"].replace("{", "("),
            "where",
            names=names,
        )


def _finding(
    result: OpenResult,
    key: str,
    pair: tuple[str, str],
    each: Mapping[str, Any],
    caveats: tuple[str, ...],
) -> Fact:
    more, less = each["more"], each["less"]
    points = with_interval(
        100 * (each["wrong"] - each["right"]), 100 * each["low"], 100 * each["high"], 1
    )
    true, predicted = pair
    return result.fact(
        f"{key}/{more}/{less}",
        f"concepts that differ where {quoted(true)} is taken for {quoted(predicted)}",
        f"{quoted(more)} stronger than {quoted(less)} in {100 * each['wrong']:.1f} % of the "
        f"incorrect and {100 * each['right']:.1f} % of the correct predictions (a difference of "
        f"{points} points, q = {each['q_value']:.3f})",
        "maps",
        view={"true": true, "predicted": predicted, "row": more, "column": less},
        value=each["wrong"] - each["right"],
        low=each["low"],
        high=each["high"],
        names=(safe(more), safe(less), safe(true), safe(predicted)),
        caveats=caveats,
    )


# --- a guard -----------------------------------------------------------------------------------


def guard(result: OpenResult, condition: str | None) -> FactList:
    """How well a guard separates incorrect predictions from correct ones, by condition."""
    content = result.content
    titles = [each["title"] for each in content["conditions"]]
    wanted = named(condition, titles, f"condition of {result.id}") if condition else None
    rule = content["guard"]["rule"]
    passed = content["passed"]
    heads = [
        result.fact(
            "guard",
            f"guard of {result.id}",
            f"{quoted(rule)} on {quoted(result.name)}",
            "finding",
            names=(safe(rule), result.name),
        ),
        result.fact(
            "threshold",
            f"threshold of the guard of {result.id}",
            str(content["guard"]["threshold"]["text"]),
            "finding",
            value=content["guard"]["threshold"]["value"],
        ),
        result.fact(
            "conditions",
            f"conditions of {result.id}",
            f"{counted(len(titles), 'condition')}: {', '.join(map(quoted, titles))}",
            "tables",
            value=len(titles),
            names=tuple(map(safe, titles)),
        ),
        result.fact(
            "passed",
            f"images that pass the guard of {result.id} unmodified, and are predicted correctly",
            f"{share(passed['right'], passed['images'], 'image')} that pass are predicted "
            "correctly",
            "finding",
            value=passed["right"],
            n=passed["images"],
            caveats=(*_warned(result), *_few(passed["images"])),
        ),
    ]
    rows = [
        partial(make, result, each)
        for each in content["conditions"]
        if wanted in (None, each["title"])
        for make in _CONDITION
    ]
    rows += [
        partial(_detector, result, each, name)
        for each in content["conditions"]
        if wanted in (None, each["title"])
        for name in each["metrics"]
    ]
    return FactList(tuple(heads), rows)


def _of_condition(
    result: OpenResult, each: Mapping[str, Any], key: str, what: str, stated: str, **given: Any
) -> Fact:
    title = each["title"]
    return result.fact(
        f"condition/{title}/{key}",
        f"{what} on {quoted(title)} images of {result.id}",
        f"{stated} on images {quoted(title)}",
        "tables",
        names=(safe(title), *given.pop("names", ())),
        caveats=(*_warned(result), *_few(each["defects"])),
        **given,
    )


def _accuracy(result: OpenResult, each: Mapping[str, Any]) -> Fact:
    return _of_condition(
        result, each, "accuracy", "accuracy of the classifier",
        f"{decimal(100 * each['accuracy'], 1)} % accuracy", value=each["accuracy"],
        n=each["images"],
    )  # fmt: skip


def _flagged(result: OpenResult, each: Mapping[str, Any]) -> Fact:
    many, whole = each["flagged_defects"], each["defects"]
    return _of_condition(
        result, each, "flagged", "incorrect predictions that the guard flags",
        f"{share(many, whole, 'incorrect prediction')} flagged", value=many, n=whole,
    )  # fmt: skip


def _alarms(result: OpenResult, each: Mapping[str, Any]) -> Fact:
    many, whole = each["flagged_right"], each["right"]
    return _of_condition(
        result, each, "alarms", "correct predictions that the guard flags (false alarms)",
        f"{share(many, whole, 'correct prediction')} flagged", value=many, n=whole,
    )  # fmt: skip


def _lead(result: OpenResult, each: Mapping[str, Any]) -> Fact:
    lead = each["lead_over_best_baseline"]["auroc"]
    value, low, high = _interval(lead)
    base = lead["baseline"]
    return _of_condition(
        result, each, "lead", "AUROC of the guard less that of the best baseline",
        f"AUROC {with_interval(value, low, high)} above that of {quoted(base)}, the best baseline,",
        value=value, low=low, high=high, names=(safe(base),),
    )  # fmt: skip


_CONDITION = (_accuracy, _flagged, _alarms, _lead)


def _detector(result: OpenResult, each: Mapping[str, Any], name: str) -> Fact:
    found = each["metrics"][name]
    told = [
        f"{title} {with_interval(*_interval(found[metric]))}" for metric, title in _METRICS.items()
    ]
    value, low, high = _interval(found["auroc"])
    return _of_condition(
        result, each, f"detector/{name}", f"metrics of the detector {quoted(name)}",
        f"{quoted(name)} with {', '.join(told)}", value=value, low=low, high=high,
        names=(safe(name),),
    )  # fmt: skip


def _interval(values: Mapping[str, Any]) -> tuple[float, float, float]:
    found = [
        math.nan if values[name] is None else values[name] for name in ("value", "low", "high")
    ]
    return found[0], found[1], found[2]


# --- a check -----------------------------------------------------------------------------------


def check(result: OpenResult, spec: str | None) -> FactList:
    """Which specifications hold, fail or are undecided, with their rates and regions."""
    content = result.content
    specs = {each["name"]: each for each in content["specs"]}
    wanted = named(spec, list(specs), f"spec of {result.id}") if spec else None
    heads = [
        result.fact(
            f"outcome/{outcome}",
            f"specs of {result.id} whose outcome is {outcome!r}",
            f"{many:,} of {counted(len(specs), 'spec')} {text}",
            "specs",
            value=many,
            n=len(specs),
            about={"outcome": outcome},
        )
        for outcome, text in _OUTCOMES.items()
        for many in (content["counts"][outcome],)
    ]
    rows = []
    for place, (name, each) in enumerate(specs.items()):
        if wanted not in (None, name):
            continue
        rows.append(partial(_spec, result, place, each))
        if wanted is not None:
            rows += [partial(_rate, result, place, each, kind) for kind in ("rate", "applicable")]
            rows += [partial(_region, result, place, each, region) for region in each["formal"]]
            rows += (
                [partial(_against, result, place, each)] if each["statistical"]["against"] else []
            )
    return FactList(tuple(heads), rows)


def _of_spec(
    result: OpenResult, place: int, each: Mapping[str, Any], key: str, what: str, stated: str,
    **given: Any,
) -> Fact:  # fmt: skip
    name = each["name"]
    return result.fact(
        f"spec/{name}/{key}",
        f"{what} of the spec {quoted(name)} of {result.id}",
        f"{quoted(name)} {stated}",
        f"spec-{place}",
        names=(safe(name), *given.pop("names", ())),
        caveats=(*_warned(result), *given.pop("caveats", ())),
        **given,
    )


def _spec(result: OpenResult, place: int, each: Mapping[str, Any]) -> Fact:
    rate = each["statistical"]["applicable"] if each["statistical"]["applicable"]["images"] else (
        each["statistical"]["rate"]
    )  # fmt: skip
    verdicts = [region["verdict"] for region in each["formal"]]
    told = [
        f"{verdicts.count(v)} {v}" for v in ("proved", "violated", "undecided") if v in verdicts
    ]
    formal = f"; regions: {', '.join(told)}" if told else ""
    outcome = each["outcome"]
    verb = outcome if outcome in ("holds", "fails") else f"is {outcome}"
    return _of_spec(
        result, place, each, "outcome", "outcome",
        f"{verb} (true of {share(rate['holds'], rate['images'], 'image')} that it applies to"
        f"{formal})",
        value=each["outcome"], n=rate["images"], caveats=_few(rate["images"]),
    )  # fmt: skip


def _rate(result: OpenResult, place: int, each: Mapping[str, Any], kind: str) -> Fact:
    rate = each["statistical"][kind]
    low, high = rate["interval"]
    on = "all images" if kind == "rate" else "images that it applies to"
    value = math.nan if rate["rate"] is None else 100 * rate["rate"]
    ends = [math.nan if end is None else 100 * end for end in (low, high)]
    return _of_spec(
        result, place, each, kind, f"rate on {on}",
        f"is true of {rate['holds']:,} of {counted(rate['images'], 'image')}, "
        f"{with_interval(value, ends[0], ends[1], 1, ' %')} of {on}",
        value=rate["rate"], low=low, high=high, n=rate["images"], caveats=_few(rate["images"]),
    )  # fmt: skip


def _region(
    result: OpenResult, place: int, each: Mapping[str, Any], region: Mapping[str, Any]
) -> Fact:
    label, kind = region["class"], region["region"]
    gamma = region.get("gamma")
    reach = f", proved up to γ = {gamma:.3f}" if isinstance(gamma, float) else ""
    against = region["counterexample"]
    margin = f", with a counterexample of margin {against['margin']:.3f}" if against else ""
    return _of_spec(
        result, place, each, f"region/{label}/{kind}", "formal verdict on a region",
        f"is {region['verdict']} on the region {quoted(kind)} of {quoted(label)}{reach}{margin}",
        value=region["verdict"], names=(safe(label), safe(kind)),
    )  # fmt: skip


def _against(result: OpenResult, place: int, each: Mapping[str, Any]) -> Fact:
    images = [image["name"] for image in each["statistical"]["against"]][:5]
    return _of_spec(
        result, place, each, "against", "images that fail it most",
        f"fails most on {', '.join(map(quoted, images))}", names=tuple(map(safe, images)),
    )  # fmt: skip


# --- what all have in common -------------------------------------------------------------------


def _class(result: OpenResult, wanted: str | None) -> str | None:
    return named(wanted, result.classes, f"class of {result.id}") if wanted else None


def _few(images: int) -> tuple[str, ...]:
    return (f"it rests on fewer than {FEW} images",) if images < FEW else ()


def _map(result: OpenResult) -> tuple[str, ...]:
    """What a poor alignment does to everything that is said of concepts."""
    limit, warning = result.content["vlm"]["limits"], result.content["map"]["warning"]
    return tuple(filter(None, (limit, warning)))


def _warned(result: OpenResult) -> tuple[str, ...]:
    limit = (result.content.get("guard") or result.content.get("vlm") or {}).get("limits", "")
    return tuple(filter(None, (limit, *result.content["warnings"])))
