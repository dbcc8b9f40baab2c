"""Finished results whose right answers are known by construction, for the tests of questions."""

import csv
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from comparisons_by_hand import SORTING, run, steady
from debug_samples import of_two
from rated_runs import make_run

from profiler.ask.tools import TOOLS
from profiler.compare.files import comparison_json, units_csv
from profiler.compare.pairs import compare
from profiler.core.json_text import json_text
from profiler.data.factors import Factors
from profiler.data.records import ExperimentRecord
from profiler.debug.files import diagnosis_json
from profiler.profile.drivers import drivers
from profiler.profile.explain import LayerRange
from profiler.profile.labels import KEPT_LABELS
from profiler.profile.result import ProfileRun
from profiler.profile.run import write_run
from profiler.profile.sorting.sorting import Sorting

WORDS = ("striped", "dotted", "red", "blue", "zebra", "truck", "beach", "wing")
CATEGORY = {
    "striped": "texture", "dotted": "texture", "red": "color", "blue": "color",
    "zebra": "object", "truck": "object", "beach": "scene", "wing": "part",
}  # fmt: skip
Units = Sequence[Sequence[str | None]]
"""A row a unit: its words, best first; None for a dead one."""


def profile(
    folder: Path,
    layers: Mapping[str, Units],
    *,
    weak: Mapping[str, Sequence[int]] | None = None,
    explained: Mapping[str, Mapping[int, Sequence[tuple[str, float]]]] | None = None,
    subject: str = "by-hand",
) -> ProfileRun:
    """Write a profile: the n-th word of a unit scores 3 − n, and units in ``weak`` 0.5 at most."""
    made = make_run(folder, {name: [3.0] * len(units) for name, units in layers.items()},
                    threshold=1.0, words=WORDS, subject=subject)  # fmt: skip
    labels = []
    for labelled in made.layers:
        units = layers[labelled.layer]
        concept = np.full((len(units), KEPT_LABELS), -1)
        score = np.full((len(units), KEPT_LABELS), np.nan)
        for place, words in enumerate(units):
            for rank, word in enumerate(words):
                if word is not None:
                    concept[place, rank] = WORDS.index(word)
                    score[place, rank] = 3.0 - rank
        score[list((weak or {}).get(labelled.layer, ()))] -= 2.5
        dead = concept[:, 0] < 0
        labels.append(replace(labelled, concept=concept, score=score, dead=dead))
    ranges = [_range(name, len(units), (explained or {}).get(name, {}))
              for name, units in layers.items()] if explained else []  # fmt: skip
    sorting = Sorting("exemplar", {word: CATEGORY.get(word, "object") for word in WORDS})
    done = replace(made, layers=tuple(labels), ranges=tuple(ranges), sorting=sorting)
    write_run(done, folder, 20.0)
    return done


def _range(name: str, units: int, words: Mapping[int, Sequence[tuple[str, float]]]) -> LayerRange:
    concept, weight = np.full((units, 5), -1), np.zeros((units, 5))
    r = np.full((units, 5), 0.0)
    for unit, told in words.items():
        r[unit] = 0.6
        for place, (word, value) in enumerate(told):
            concept[unit, place], weight[unit, place] = WORDS.index(word), value
    taken = np.array([len(words.get(unit, ())) for unit in range(units)])
    nothing = np.full(units, np.nan)
    return LayerRange(
        name, concept, weight, r, taken, np.full(units, 4), np.full(units, 0.7), nothing, nothing,
        np.full((units, 5), 0.01), nothing, r[:, None], np.zeros((units, 0), dtype=np.int64),
        np.zeros((units, 0)),
    )  # fmt: skip


def with_experiment(folder: Path, made: ProfileRun) -> None:
    """Give each layer's units an experiment: unit 0 is driven by colour alone, the others by noise.

    400 scenes of 2 colours and 2 patterns; the first unit is 1 on red ones, and 0 on blue ones.
    """
    rng = np.random.default_rng(0)
    codes = np.tile(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), (100, 1))
    factors = Factors(("color", "pattern"), (("red", "blue"), ("striped", "dotted")), codes)
    found = []
    for layer in made.layers:
        rows = rng.normal(size=(400, layer.units))
        rows[:, 0] = codes[:, 0] == 0
        found.append(drivers(layer.layer, rows, factors))
    levels = dict(zip(factors.names, factors.levels, strict=True))
    record = replace(made.record, experiment=ExperimentRecord(1, 400, 0, "e" * 64, levels))
    write_run(replace(made, record=record, drivers=tuple(found)), folder, 20.0)


def comparison(folder: Path) -> None:
    """Write a comparison of a and b: in fc twelve of eighteen red units become cats."""
    early = ["red"] * 4
    late = [["red"] * 12 + ["cat"] * 6 + [None] * 2, ["cat"] * 18 + [None] * 2]
    runs = [
        run(name, {"conv": early, "fc": units}, [steady(early), steady(units)])
        for name, units in zip("ab", late, strict=True)
    ]
    found = compare(runs, None, SORTING)
    about = {"command": "profiler compare a b", "date": "2024-01-01", "seed": 0,
             "context": {"vlm": "conse 77d0"}, "folders": ["a", "b"], "summary": "",
             "summary_author": ""}  # fmt: skip
    write(folder, "comparison.json", comparison_json(found, about))
    write(folder, "units.csv", units_csv(found))


def diagnosis(folder: Path, errors: int = 30, right: int = 60) -> None:
    """Write a diagnosis: so many ships are taken for a beach, and there sand is above sea."""
    write(folder, "diagnosis.json", diagnosis_json(of_two(errors, right)))


def guard(folder: Path, auroc: float = 0.9, flagged: int = 8) -> None:
    """Write a guard's evaluation: so many of 10 incorrect predictions are flagged."""
    value = {"value": auroc, "low": auroc - 0.1, "high": auroc + 0.05}
    metrics = dict.fromkeys(("auroc", "aupr", "fpr95", "fpr95_kept", "aurc"), value)
    lead = {name: {**value, "value": 0.2, "baseline": "msp"} for name in metrics}
    clean = {
        "title": "as they are", "kind": "clean", "method": "", "eps": None, "images": 50,
        "accuracy": 0.8, "defects": 10, "right": 40, "flagged_defects": flagged,
        "flagged_right": 2, "metrics": {"typicality": metrics, "msp": metrics},
        "lead_over_best_baseline": lead,
    }  # fmt: skip
    content = {
        "format": 1,
        "guard": {"subject": "by-hand", "classes": ["ship", "beach"], "limits": "", "rule":
                  "typicality", "threshold": {"value": 1.5, "text": "at most 5 % are flagged"}},
        "conditions": [clean], "passed": {"images": 40, "right": 38}, "warnings": [],
    }  # fmt: skip
    write(folder, "guard.json", json_text(content))


def check(folder: Path) -> None:
    """Write a check: one spec holds on 48 of 48 images, the other fails on 12 of 48."""
    write(folder, "check.json", json_text({
        "format": 1, "classifier": {"name": "by-hand"}, "vlm": {"limits": ""}, "warnings": [],
        "specs": [_spec("red-is-red", "holds", 48), _spec("sky-is-red", "fails", 36)],
        "counts": {"holds": 1, "fails": 1, "undecided": 0, "measured": 0},
    }))  # fmt: skip


def _spec(name: str, outcome: str, holds: int) -> dict[str, Any]:
    rate = {"holds": holds, "images": 48, "rate": holds / 48, "interval": [0.6, 1.0]}
    return {
        "name": name, "title": None, "formula": "", "outcome": outcome, "formal": [],
        "statistical": {"outcome": None, "rate": rate, "applicable": rate, "by_class":
                        [{"class": "red"}], "requirements": [], "against": []},
    }  # fmt: skip


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def rows(text: str) -> list[dict[str, str]]:
    """A table of CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def made_from(
    name: str, schema: dict[str, Any], rng: random.Random, *, valid: bool
) -> dict[str, Any]:
    """Arguments by a schema; of invalid ones, each is of another type or out of its bounds."""
    known = {
        "layer": "conv" if TOOLS[name].kind == "comparison" else "late",
        "layers": "*", "query": "red", "concept": "red", "true": "ship", "predicted": "beach",
        "unit": 0, "condition": "as they are", "spec": "red-is-red",
    }  # fmt: skip
    found: dict[str, Any] = {}
    for key, each in schema["properties"].items():
        if not valid:
            found[key] = rng.choice([None, [], {"a": 1}, -5, "\x00" * 300, 1e9])
        elif "enum" in each:
            found[key] = rng.choice(each["enum"])
        elif each["type"] == "integer":
            found[key] = known.get(key, rng.randint(each.get("minimum", 0), 3) or 1)
        elif each["type"] == "boolean":
            found[key] = rng.random() < 0.5
        elif key in schema.get("required", ()) or rng.random() < 0.5:
            found[key] = known[key]
    return found
