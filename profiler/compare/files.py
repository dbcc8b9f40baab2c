"""A comparison as files: ``comparison.json`` and, a row a matched unit, ``units.csv``."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from profiler.compare.result import (
    ALPHA,
    ComparedLayer,
    ComparedRun,
    Comparison,
    ConceptChange,
    LayerComparison,
    Moved,
    PairComparison,
    ShareChange,
)
from profiler.core.json_text import json_text, plain

FORMAT = 1
"""Version of ``comparison.json``."""


def comparison_json(comparison: Comparison, about: Mapping[str, Any]) -> str:
    """The content of ``comparison.json``; what is not known is null.

    Args:
        comparison: what was found.
        about: how it was made: command, date, where the runs lie, fingerprints.
    """
    content = {
        "format": FORMAT,
        **about,
        "timeline": comparison.timeline,
        "own_thresholds": comparison.own_thresholds,
        "prior": comparison.prior,
        "draws": comparison.draws,
        "alpha": ALPHA,
        "categories": list(comparison.categories),
        "runs": [_run(run) for run in comparison.runs],
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
        "warnings": list(comparison.warnings),
    }
    return json_text(content)


def units_csv(comparison: Comparison) -> str:
    """The content of ``units.csv``; the same comparison gives the same bytes."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    sides = ("before", "after")
    writer.writerow(
        ["from", "to", "layer", "correlation", "kept"]
        + [
            f"{column}_{side}"
            for side in sides
            for column in ("unit", "description", "similarity", "interpretable", "category")
        ]
    )
    for pair in comparison.pairs:
        before, after = comparison.runs[pair.before], comparison.runs[pair.after]
        for layer in pair.layers:
            matching = layer.matching
            one, other = before.layer(layer.layer), after.layer(layer.layer)
            if matching is None or one is None or other is None:
                continue
            for place, units in enumerate(zip(matching.before, matching.after, strict=True)):
                writer.writerow(
                    [
                        before.name,
                        after.name,
                        layer.layer,
                        _number(matching.correlation[place]),
                        int(layer.kept[place]),
                        *_unit(comparison, one, int(units[0])),
                        *_unit(comparison, other, int(units[1])),
                    ]
                )
    return file.getvalue()


def _unit(comparison: Comparison, layer: ComparedLayer, unit: int) -> list[Any]:
    concept = int(layer.labels.concept[unit, 0])
    return [
        unit,
        comparison.concepts[concept] if concept >= 0 else "",
        _number(layer.labels.score[unit, 0]),
        int(layer.trusted[unit]),
        layer.categories[unit] or "",
    ]


def _run(run: ComparedRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "title": run.title,
        "step": run.step,
        "threshold": run.threshold.to_json(),
        "profile": run.profile.to_json(),
    }


def _pair(comparison: Comparison, pair: PairComparison) -> dict[str, Any]:
    before, after = comparison.runs[pair.before], comparison.runs[pair.after]
    return {
        "from": before.name,
        "to": after.name,
        "layers": [_layer(comparison, layer) for layer in pair.layers],
        "only_before": list(pair.only_before),
        "only_after": list(pair.only_after),
        "moved": [_moved(comparison, each) for each in pair.moved],
        "cka": None
        if pair.cka is None
        else {
            "rows": [layer.name for layer in before.layers],
            "columns": [layer.name for layer in after.layers],
            "values": pair.cka.tolist(),
        },
        **({"ranges": plain(pair.ranges)} if pair.ranges else {}),
        **({"drivers": plain(pair.drivers)} if pair.drivers else {}),
    }


def _layer(comparison: Comparison, layer: LayerComparison) -> dict[str, Any]:
    matching = layer.matching
    return {
        "layer": layer.layer,
        "shares": [_share(share) for share in layer.shares],
        "js_divergence_bits": layer.divergence,
        "js_divergence_noise": layer.divergence_noise,
        "matching": None
        if matching is None
        else {
            "rule": matching.rule,
            "units": len(matching.before),
            "mean_correlation": matching.mean,
            "mean_correlation_by_index": matching.by_index,
        },
        "trusted_in_both": int(layer.both_trusted.sum()),
        "labels_kept": int(layer.kept.sum()),
        "labels_kept_share": layer.kept_share,
        "labels_kept_noise": layer.kept_noise,
        "gained": [_word(comparison, each) for each in layer.gained],
        "lost": [_word(comparison, each) for each in layer.lost],
    }


def _share(share: ShareChange) -> dict[str, Any]:
    return {**plain(share), "difference": share.difference}


def _word(comparison: Comparison, change: ConceptChange) -> dict[str, Any]:
    values = plain(change)
    return {"concept": comparison.concepts[values.pop("concept")], **values}


def _moved(comparison: Comparison, moved: Moved) -> dict[str, Any]:
    values = plain(moved)
    return {"concept": comparison.concepts[values.pop("concept")], **values}


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
