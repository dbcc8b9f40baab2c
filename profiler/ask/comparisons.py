"""Facts of a comparison: what changed, and what is no more than noise."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

from profiler.ask.facts import Fact, FactList, decimal, quoted, safe, share, with_interval
from profiler.ask.profiles import DRAWN
from profiler.ask.results import OpenResult, named
from profiler.compare.result import INTERPRETABLE
from profiler.core.wording import counted

Direction = Literal["gained", "lost", "moved"]
Fate = Literal["changed", "kept", "gained", "lost"]
"""What became of a unit's label: another, the same, trusted only after, trusted only before."""

_VERDICTS = {
    "changed": "more than noise",
    "noise": "within the noise",
    "none": "not significant",
    "unknown": "significant, but the noise is not known",
}
_FATES: dict[Fate, str] = {
    "changed": "trusted in both, with another label",
    "kept": "trusted in both, with the same label",
    "gained": "trusted only after",
    "lost": "trusted only before",
}


def describe(result: OpenResult) -> Iterator[Fact]:
    """Which runs were compared, and how many of their units have a trusted label."""
    runs = result.content["runs"]
    names = tuple(safe(run["name"]) for run in runs)
    yield result.fact(
        "runs",
        f"runs compared in {result.id}, in order",
        ", then ".join(quoted(run["name"]) for run in runs),
        "finding",
        names=names,
        caveats=_said(result),
    )
    for run in runs:
        total = run["profile"]["total"]
        many = sum(total["counts"].values())
        yield result.fact(
            f"run/{run['name']}/interpretable",
            f"interpretable units of the run {quoted(run['name'])} in {result.id}",
            share(many, total["units"]),
            "layers",
            value=many,
            n=total["units"],
            about={"compared run": safe(run["name"]), "status": "interpretable"},
            caveats=_said(result),
        )


def summary(result: OpenResult, layer: str | None) -> FactList:
    """How many differences are more than noise, then each of them, the largest first."""
    layer = named(layer, result.layers, f"layer of {result.id}") if layer else None
    shares = [
        (place, pair, row["layer"], each)
        for place, pair in enumerate(result.content["pairs"])
        for row in pair["layers"]
        if layer in (None, row["layer"])
        for each in row["shares"]
        if each["category"] != "uninterpretable"
    ]
    order = list(_VERDICTS)
    shares.sort(key=lambda s: (order.index(s[3]["verdict"]), -abs(s[3]["difference"])))
    where = f" in {quoted(layer)}" if layer else ""
    about = {"layer": safe(layer)} if layer else {}
    heads = list(describe(result))
    for verdict, text in _VERDICTS.items():
        many = sum(each["verdict"] == verdict for *_, each in shares)
        if many or verdict == "changed":
            heads.append(
                result.fact(
                    f"verdict/{verdict}/{layer}",
                    f"differences of shares{where} of {result.id} that are {text}",
                    f"{many:,} of {counted(len(shares), 'difference')} {text}",
                    "layers",
                    value=many,
                    n=len(shares),
                    about=about,
                    caveats=_said(result),
                )
            )
    rows = [partial(_share, result, *each) for each in shares if each[3]["verdict"] != "none"]
    for place, pair in enumerate(result.content["pairs"]):
        heads += _kept(result, place, pair, layer)
        wide = pair.get("ranges", ())
        rows += [partial(_range, result, place, pair, row) for row in wide
                 if layer in (None, row["layer"])]  # fmt: skip
        rows += [
            partial(_driver, result, place, pair, row, factor)
            for row in pair.get("drivers", ())
            if layer in (None, row["layer"])
            for factor, change in row["change"].items()
            if change["low"] > 0 or change["high"] < 0
        ]
    return FactList(tuple(heads), rows)


def changed_words(result: OpenResult, layer: str | None, direction: Direction) -> FactList:
    """Words that trusted labels gained or lost, or that moved to other layers."""
    layer = named(layer, result.layers, f"layer of {result.id}") if layer else None
    found: list[tuple[int, Mapping[str, Any], str, Mapping[str, Any]]] = []
    for place, pair in enumerate(result.content["pairs"]):
        if direction == "moved":
            found += [
                (place, pair, "", each)
                for each in pair["moved"]
                if layer is None or layer in {**each["before"], **each["after"]}
            ]
        else:
            found += [
                (place, pair, row["layer"], each)
                for row in pair["layers"]
                if layer in (None, row["layer"])
                for each in row[direction]
            ]
    sure = [each for each in found if each[3]["beyond_noise"] is not False]
    where = f" in {quoted(layer)}" if layer else ""
    verb = {"gained": "new", "lost": "gone", "moved": "in other layers than before"}[direction]
    head = result.fact(
        f"words/{direction}/{layer}",
        f"words{where} of {result.id} that are {verb}, beyond noise as far as it is known",
        f"{counted(len(sure), 'word')} {verb}"
        + (f", and {len(found) - len(sure):,} within the noise" if len(sure) < len(found) else ""),
        "pair-1-words",
        value=len(sure),
        about={"layer": safe(layer)} if layer else {},
        caveats=_said(result),
    )
    make = _moved if direction == "moved" else partial(_word, direction=direction)
    return FactList((head,), [partial(make, result, *each) for each in sure])


def changed_units(result: OpenResult, layer: str | None, fate: Fate) -> FactList:
    """Matched units by what became of their labels."""
    layer = named(layer, result.layers, f"layer of {result.id}") if layer else None
    rows = [row for row in result.rows if layer in (None, row["layer"])]
    found = [row for row in rows if _fate(row) == fate]
    where = f" of {quoted(layer)}" if layer else ""
    head = result.fact(
        f"units/{fate}/{layer}",
        f"matched units{where} of {result.id} that are {_FATES[fate]}",
        f"{share(len(found), len(rows))} {_FATES[fate]}",
        "pair-1-units",
        value=len(found),
        n=len(rows),
        about={"layer": safe(layer)} if layer else {},
        caveats=_said(result),
    )
    return FactList((head,), [partial(_unit, result, row) for row in found])


def _fate(row: Mapping[str, str]) -> Fate | None:
    match row["interpretable_before"], row["interpretable_after"]:
        case "1", "1":
            return "kept" if row["kept"] == "1" else "changed"
        case "0", "1":
            return "gained"
        case "1", "0":
            return "lost"
    return None


def _share(
    result: OpenResult, place: int, pair: Mapping[str, Any], layer: str, each: Mapping[str, Any]
) -> Fact:
    name = each["category"]
    before, after = each["before"] / each["before_units"], each["after"] / each["after_units"]
    points = with_interval(100 * each["difference"], 100 * each["low"], 100 * each["high"], 1)
    dimension = "status" if name in (INTERPRETABLE, "dead") else "category"
    return result.fact(
        f"share/{place}/{layer}/{name}",
        f"share of {name} units in {quoted(layer)}, {_ends(pair)}",
        f"{100 * before:.1f} % before and {100 * after:.1f} % after (a difference of {points} "
        f"points, {_VERDICTS[each['verdict']]})",
        f"pair-{place + 1}-changes",
        value=each["difference"],
        low=each["low"],
        high=each["high"],
        n=each["after_units"],
        about={"layer": safe(layer), dimension: safe(name)},
        names=_names(pair),
        caveats=_said(result),
    )


def _kept(
    result: OpenResult, place: int, pair: Mapping[str, Any], layer: str | None
) -> Iterator[Fact]:
    rows = [row for row in pair["layers"] if layer in (None, row["layer"])]
    both = sum(row["trusted_in_both"] for row in rows)
    kept = sum(row["labels_kept"] for row in rows)
    if both:
        where = f" of {quoted(layer)}" if layer else ""
        yield result.fact(
            f"kept/{place}/{layer}",
            f"matched units{where} trusted in both that keep their label, {_ends(pair)}",
            f"{share(kept, both)} that keep their label",
            f"pair-{place + 1}-units",
            value=kept,
            n=both,
            about={"layer": safe(layer)} if layer else {},
            names=_names(pair),
            caveats=_said(result),
        )


def _range(result: OpenResult, place: int, pair: Mapping[str, Any], row: Mapping[str, Any]) -> Fact:
    change = row["r"]
    sure = "beyond chance" if row["beyond_chance"] else "no more than chance"
    return result.fact(
        f"r/{place}/{row['layer']}",
        f"mean r of the explanations in {quoted(row['layer'])}, {_ends(pair)}",
        f"mean r {decimal(row['r_before'])} before and {decimal(row['r_after'])} after (a "
        f"difference of {with_interval(change['value'], change['low'], change['high'])}, {sure})",
        "ranges",
        value=change["value"],
        low=change["low"],
        high=change["high"],
        about={"layer": safe(row["layer"])},
        names=_names(pair),
        caveats=_said(result),
    )


def _driver(
    result: OpenResult, place: int, pair: Mapping[str, Any], row: Mapping[str, Any], factor: str
) -> Fact:
    before, after, change = (row[side][factor] for side in ("before", "after", "change"))
    points = with_interval(100 * change["value"], 100 * change["low"], 100 * change["high"], 1)
    return result.fact(
        f"driver/{place}/{row['layer']}/{factor}",
        f"share of the variance in {quoted(row['layer'])} caused by {factor}, {_ends(pair)}",
        f"{100 * before['value']:.1f} % of the variance before and {100 * after['value']:.1f} % "
        f"after, caused by {factor} (a difference of {points} points)",
        "drivers",
        value=change["value"],
        low=change["low"],
        high=change["high"],
        about={"layer": safe(row["layer"]), "factor": safe(factor)},
        names=_names(pair),
        caveats=(DRAWN, *result.content["warnings"]),
    )


def _word(
    result: OpenResult,
    place: int,
    pair: Mapping[str, Any],
    layer: str,
    each: Mapping[str, Any],
    direction: str,
) -> Fact:
    word = each["concept"]
    return result.fact(
        f"word/{place}/{layer}/{direction}/{word}",
        f"word that “{safe(layer)}” {direction}, {_ends(pair)}",
        f"{quoted(word)} ({each['before']:,} before and {counted(each['after'], 'unit')} after "
        f"in {quoted(layer)})",
        f"pair-{place + 1}-words",
        value=each["after"],
        about={"layer": safe(layer)},
        names=(safe(word), *_names(pair)),
        caveats=_said(result),
    )


def _moved(
    result: OpenResult, place: int, pair: Mapping[str, Any], _: str, each: Mapping[str, Any]
) -> Fact:
    sides = [
        ", ".join(f"{quoted(layer)} ({counted(n, 'unit')})" for layer, n in each[side].items())
        for side in ("before", "after")
    ]
    layers = tuple(safe(layer) for side in ("before", "after") for layer in each[side])
    return result.fact(
        f"moved/{place}/{each['concept']}",
        f"word that moved, {_ends(pair)}",
        f"{quoted(each['concept'])} from {sides[0]} to {sides[1]}",
        f"pair-{place + 1}-words",
        names=(safe(each["concept"]), *layers, *_names(pair)),
        caveats=_said(result),
    )


def _unit(result: OpenResult, row: Mapping[str, str]) -> Fact:
    layer = row["layer"]
    sides = [
        f"{quoted(row[f'description_{side}'])} (score {decimal(_number(row, side))})"
        if row[f"description_{side}"]
        else "no label"
        for side in ("before", "after")
    ]
    alike = f", correlation {decimal(float(row['correlation']))}" if row["correlation"] else ""
    partner = "" if row["unit_before"] == row["unit_after"] else f" (then unit {row['unit_after']})"
    return result.fact(
        f"unit/{row['from']}/{row['to']}/{layer}/{row['unit_before']}",
        f"matched unit, from {quoted(row['from'])} to {quoted(row['to'])}",
        f"unit {row['unit_before']} of {quoted(layer)}{partner}: {sides[0]} before and {sides[1]} "
        f"after{alike}",
        "pair-1-units",
        about={"layer": safe(layer)},
        names=tuple(
            filter(None, (safe(row["description_before"]), safe(row["description_after"])))
        ),
        caveats=_said(result),
    )


def _number(row: Mapping[str, str], side: str) -> float:
    text = row[f"similarity_{side}"]
    return float(text) if text else math.nan


def _ends(pair: Mapping[str, Any]) -> str:
    return f"from {quoted(pair['from'])} to {quoted(pair['to'])}"


def _names(pair: Mapping[str, Any]) -> tuple[str, ...]:
    return safe(pair["from"]), safe(pair["to"])


def _said(result: OpenResult) -> tuple[str, ...]:
    """What has to be said along with anything about words."""
    vlm = result.content["context"].get("vlm", "").rpartition(" ")[0]
    read = f"words are what the VLM {quoted(vlm)} makes of the images" if vlm else ""
    return tuple(filter(None, (read, *result.content["warnings"])))
