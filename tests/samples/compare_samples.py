# ruff: noqa: E501
"""Made-up comparisons, seeded, for the tests of their page and for looking at it.

``python tests/samples/compare_samples.py FOLDER`` writes several pages with real photographs.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from report_samples import CATEGORIES, HOSTILE, WORDS, photograph_thumbnails
from scipy.stats import norm

from profiler.compare.pairs import pairs_of
from profiler.compare.result import (
    INTERPRETABLE,
    ComparedLayer,
    ComparedRun,
    Comparison,
    ConceptChange,
    LayerComparison,
    Matching,
    Moved,
    PairComparison,
    ShareChange,
    Verdict,
)
from profiler.compare.view import ComparePage
from profiler.profile.counts import LayerProfile, ModelProfile, count_units
from profiler.profile.labels import LayerLabels
from profiler.profile.threshold import Threshold

LAYERS = {"conv_stem": 32, "blocks.2": 40, "blocks.5": 192, "conv_head": 320}


def fake_comparison(
    layers: Mapping[str, int] | Sequence[Mapping[str, int]] | None = None,
    runs: int = 2,
    *,
    seed: int = 0,
    images: int = 300,
    draws: int = 20,
    drift: float = 0.25,
    names: Sequence[str] | None = None,
    words: Mapping[str, str | Sequence[str]] | None = None,
    categories: Sequence[str] = CATEGORIES,
    tau: float = 0.16,
    own_thresholds: bool = False,
    timeline: bool = False,
    steps: bool = True,
    prior: str = "shared",
    activations: bool = True,
    growth: float = 0.0,
) -> Comparison:
    """Runs that drift apart: in each next one ``drift`` of the units see something else."""
    rng = np.random.default_rng(seed)
    listed = (
        [layers or LAYERS] * runs if layers is None or isinstance(layers, Mapping) else list(layers)
    )
    concepts, category_of = [], []
    for category, found in (words or WORDS).items():
        for word in found.split() if isinstance(found, str) else found:
            concepts.append(word)
            category_of.append(category)
    made: list[ComparedRun] = []
    previous: dict[str, ComparedLayer] = {}
    for i, sizes in enumerate(listed):
        cut = tau + (0.02 * i if own_thresholds else 0)
        current = {}
        for depth, (name, units) in enumerate(sizes.items()):
            at = depth / max(len(sizes) - 1, 1)
            labels = _labels(rng, name, units, at, category_of, images)
            old = previous.get(name)
            if old is not None and old.labels.units == units:
                labels = _mixed(rng, old.labels, labels, drift, growth)
            trusted = (~labels.dead) & (np.nan_to_num(labels.score[:, 0], nan=-1) > cut)
            kinds = tuple(
                category_of[labels.concept[k, 0]] if trusted[k] else None for k in range(units)
            )
            current[name] = ComparedLayer(labels, trusted, kinds)
        previous = {**previous, **current}
        profile = ModelProfile(
            tuple(categories),
            tuple(
                count_units(name, la.categories, la.labels.dead.tolist(), categories)
                for name, la in current.items()
            ),
        )
        made.append(ComparedRun(
            names[i] if names else ("before", "after", "third", "fourth", "fifth")[i] if runs <= 5 and not timeline else f"epoch-{i:02d}",
            f"efficientnet_lite0, checkpoint {i}",
            float(i * 500) if timeline and steps else None,
            Threshold(cut, "null", {"concepts": "common-words 107"}, fdr=0.05),
            tuple(current.values()),
            profile,
        ))  # fmt: skip
    count_runs = len(made)
    places = pairs_of(count_runs, timeline)
    pairs = tuple(_pair(rng, made, a, b, categories, draws, activations) for a, b in places)
    return Comparison(
        tuple(made), pairs, tuple(categories), tuple(concepts), timeline, own_thresholds,
        prior, draws,  # type: ignore[arg-type]
    )  # fmt: skip


def _labels(
    rng: np.random.Generator,
    name: str,
    units: int,
    at: float,
    category_of: Sequence[str],
    images: int,
) -> LayerLabels:
    deep = {"object": 5.0, "part": 1.5, "scene": 1.2}
    weight = np.array(
        [
            0.3 + at * deep.get(c, 0.1) + (1 - at) * (c in ("color", "texture")) * 3
            for c in category_of
        ]
    )
    kept = min(5, len(category_of))
    concept = np.array(
        [
            rng.choice(len(category_of), kept, replace=False, p=weight / weight.sum())
            for _ in range(units)
        ]
    ).reshape(units, kept)
    best = rng.gamma(4 + 6 * at, 0.035 + 0.02 * at, units) + 0.03
    drop = np.sort(rng.uniform(0.02, 0.7, (units, kept)), axis=1)
    drop[:, 0] = 0
    score = best[:, None] * (1 - drop)
    dead = rng.random(units) < 0.02
    concept[dead], score[dead] = -1, np.nan
    top = np.array([rng.choice(images, 9, replace=False) for _ in range(units)]).reshape(units, 9)
    active = -np.sort(-rng.gamma(3, 1.1, (units, 9)), axis=1)
    return LayerLabels(
        name, concept, score, np.where(dead, np.nan, 0.01), dead, top, active, np.zeros(0)
    )


def _mixed(
    rng: np.random.Generator, old: LayerLabels, new: LayerLabels, drift: float, growth: float
) -> LayerLabels:
    other = rng.random(old.units) < drift

    def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(other.reshape(-1, *[1] * (a.ndim - 1)), b, a)

    return LayerLabels(
        old.layer, mix(old.concept, new.concept), mix(old.score, new.score) * (1 + growth), mix(old.p_value, new.p_value),
        mix(old.dead, new.dead), mix(old.top_images, new.top_images), mix(old.top_activations, new.top_activations), old.null_scores,
    )  # fmt: skip


def _pair(
    rng: np.random.Generator,
    runs: Sequence[ComparedRun],
    a: int,
    b: int,
    categories: Sequence[str],
    draws: int,
    activations: bool,
) -> PairComparison:
    before, after = runs[a], runs[b]
    names = [layer.name for layer in before.layers]
    others = [layer.name for layer in after.layers]
    shared = [name for name in names if name in others]
    cka = None
    if activations:
        x = np.linspace(0, 1, len(names))[:, None] - np.linspace(0, 1, len(others))[None]
        cka = np.clip(0.97 * np.exp(-3 * np.abs(x)) + rng.normal(0, 0.02, x.shape), -0.03, 1)
        if a == b or runs[a] is runs[b]:
            np.fill_diagonal(cka, 1.0)
    return PairComparison(
        a, b,
        tuple(_layer(rng, before, after, name, categories, draws, activations) for name in shared),
        tuple(n for n in names if n not in others), tuple(n for n in others if n not in names),
        _moved(before, after), cka,
    )  # fmt: skip


def _carried(layer: ComparedLayer) -> Counter[int]:
    return Counter(layer.labels.concept[layer.trusted, 0].tolist())


def _moved(before: ComparedRun, after: ComparedRun) -> tuple[Moved, ...]:
    where = [{la.name: _carried(la) for la in run.layers} for run in (before, after)]
    found = []
    for word in sorted({w for run in where for each in run.values() for w in each}):
        one, other = (
            {name: each[word] for name, each in run.items() if each[word]} for run in where
        )
        if one and other and not set(one) & set(other):
            found.append(Moved(word, one, other))
    return tuple(found)


def _layer(
    rng: np.random.Generator,
    before: ComparedRun,
    after: ComparedRun,
    name: str,
    categories: Sequence[str],
    draws: int,
    activations: bool,
) -> LayerComparison:
    one, other = before.layer(name), after.layer(name)
    assert one is not None
    assert other is not None
    counted = [next(p for p in run.profile.layers if p.layer == name) for run in (before, after)]
    shares = tuple(
        _share(category, *counted, draws)
        for category in (*categories, INTERPRETABLE, "uninterpretable", "dead")
    )
    drift = sum(abs(share.difference) for share in shares[:-3]) / 4
    matching = None
    kept = both = np.zeros(0, dtype=bool)
    if one.labels.units == other.labels.units:
        units = np.arange(one.labels.units)
        same = (one.labels.top_images == other.labels.top_images).all(axis=1)
        r = np.where(
            same, 1.0 if same.all() else 0.93, np.clip(rng.normal(0.2, 0.2, len(units)), -1, 1)
        )
        r = np.where(one.labels.dead | other.labels.dead, np.nan, r)
        if not activations:
            r = np.full(len(units), np.nan)
        matching = Matching(
            "index", units, units, r, float(np.nanmean(r)) if activations else float("nan")
        )
        both = one.trusted & other.trusted
        kept = both & (one.labels.concept[:, 0] == other.labels.concept[:, 0])
    words = [_carried(one), _carried(other)]
    beyond = [bool(x) if draws else None for x in rng.random(500) < 0.5]
    gained = [
        ConceptChange(w, 0, n, beyond[w]) for w, n in words[1].most_common() if w not in words[0]
    ]
    lost = [
        ConceptChange(w, n, 0, beyond[w]) for w, n in words[0].most_common() if w not in words[1]
    ]
    nan = float("nan")
    return LayerComparison(
        name, shares, drift**1.5, 0.01 + 0.3 / one.labels.units if draws else nan, matching, kept, both,
        0.85 if draws else nan, tuple(gained), tuple(lost),
    )  # fmt: skip


def _share(category: str, one: LayerProfile, other: LayerProfile, draws: int) -> ShareChange:
    def units(layer: LayerProfile) -> int:
        special = {
            INTERPRETABLE: layer.interpretable,
            "uninterpretable": layer.uninterpretable,
            "dead": layer.dead,
        }
        return special[category] if category in special else layer.counts[category]

    a, b, n, m = units(one), units(other), one.units, other.units
    p, q = (a + 0.5) / (n + 1), (b + 0.5) / (m + 1)
    error = (p * (1 - p) / n + q * (1 - q) / m) ** 0.5
    difference = b / m - a / n
    value = float(2 * norm.sf(abs(difference) / error)) if difference else 1.0
    noise = 0.6 * error if draws else float("nan")
    verdict: Verdict = "none"
    if draws and abs(difference) <= noise:
        verdict = "noise"
    elif value < 0.05:
        verdict = "changed" if draws else "unknown"
    low, high = difference - 1.96 * error, difference + 1.96 * error
    return ShareChange(
        category, a, n, b, m, max(low, -1), min(high, 1), value, min(2 * value, 1), noise, verdict
    )


def same_run(comparison: Comparison) -> Comparison:
    """The first run against itself."""
    run = comparison.runs[0]
    runs = (run, replace(run, name="again"))
    rng = np.random.default_rng(0)
    pair = _pair(rng, runs, 0, 1, comparison.categories, comparison.draws, True)
    assert pair.cka is not None
    np.fill_diagonal(pair.cka, 1.0)
    return replace(comparison, runs=runs, pairs=(pair,))


def fake_page(
    comparison: Comparison | None = None,
    *,
    thumbnails: Mapping[int, bytes] | None = None,
    names: Sequence[str] | None = None,
    images: int = 300,
    **changes: object,
) -> ComparePage:
    """A page around a comparison; ``changes`` replace fields of the page."""
    found = comparison or fake_comparison(images=images)
    fields: dict[str, object] = {
        "title": f"{found.runs[0].name} and {found.runs[-1].name}: what changed",
        "examined": [
            ("Probe images", f"{images} photographs, imagenet-sample, sha256 77ab…01"),
            ("Images read by", "ConSE: EfficientNet-Lite2 and all-MiniLM-L6-v2"),
            ("Concepts", "107 words, common-words"),
            ("Date", "2025-06-01"),
        ],
        "run_examined": [[("Weights", f"ImageNet, sha256 3f1c…9a{i:02d}")] for i in range(len(found.runs))],
        "summary": ["From before to after the share of interpretable units hardly moves.", "What changed beyond noise is the share of objects in conv_head."],
        "summary_author": "a fixed template",
        "comparison": found,
        "image_names": names or [f"n{i:08d}_image.jpg" for i in range(images)],
        "thumbnails": thumbnails if thumbnails is not None else {},
        "cut_story": ["The common threshold was drawn from the random image lists of all runs together."],
        "prior_story": ["The prior over concepts is that of all runs together: a layer’s units are scored with those of the layer of the same name in every other run."],
        "noise_story": ["The noise floor is the 95th percentile of the difference between two of 20 draws of the same run’s images.", "p-values come from an exact permutation test and are corrected by Benjamini–Hochberg over all layers, categories and pairs."],
        "sorter_story": ["The labels of all runs were sorted together by rules over WordNet."],
        "command": "profiler compare runs/before runs/after --out reports/compare",
        "provenance": [("profiler", "0.1.0"), ("Seed", "0"), ("Run before", "sha256:" + "77ab01cd" * 8), ("Run after", "sha256:" + "3f1c9a02" * 8)],
        "limits": ["A changed label is not a changed function: two labels may mean the same.", "The same probe images carry all comparisons; other images may show other differences."],
        "warnings": [],
    }  # fmt: skip
    fields.update(changes)
    return ComparePage(**fields)  # type: ignore[arg-type]


LONG = {f"encoder.layers.encoder_layer_{i}.mlp.activation_after_gelu": 64 for i in range(8)}
DEEP = {f"blocks.{i // 5}.{i % 5}.conv": 40 for i in range(50)}
SAMPLES: dict[str, Callable[[], Comparison]] = {
    "two": partial(
        fake_comparison, names=["imagenet", "finetuned"], tau=0.25, growth=-0.12, drift=0.4
    ),
    "three": partial(
        fake_comparison, runs=3, names=["imagenet", "finetuned", "pruned"], own_thresholds=True
    ),
    "timeline": partial(fake_comparison, runs=7, timeline=True, tau=0.3, growth=0.07, drift=0.3),
    "same": lambda: same_run(fake_comparison()),
    "deep": partial(fake_comparison, DEEP, drift=0.6, tau=0.25, growth=0.1),
    "long": partial(fake_comparison, LONG, draws=0, prior="own", activations=False),
    "apart": partial(fake_comparison, [{"conv1": 32, "layer4": 128}, {"stem": 24, "stages.3": 96}]),
    "uneven": partial(fake_comparison, [LAYERS, {**LAYERS, "blocks.2": 48, "extra": 16}]),
}
"""What the page has to cope with."""


if __name__ == "__main__":
    import time

    from profiler.compare.view import render_compare

    folder = Path(sys.argv[1])
    names, thumbnails = photograph_thumbnails()
    for kind, made in SAMPLES.items():
        if len(sys.argv) > 2 and kind not in sys.argv[2:]:
            continue
        start = time.perf_counter()
        html = render_compare(fake_page(made(), names=names, thumbnails=thumbnails))
        print(f"{kind}: {time.perf_counter() - start:.2f} s, {len(html.encode()) / 1e6:.2f} MB")
        (folder / f"{kind}.html").write_text(html, encoding="utf-8")


CHANGED = {"tau": 0.25, "growth": -0.12, "drift": 0.4}


def hostile_page() -> ComparePage:
    words: Mapping[str, Any] = {HOSTILE: [HOSTILE]} | {
        category: WORDS[category].split()[:2] for category in CATEGORIES[1:]
    }
    comparison = fake_comparison(
        {f"layer {HOSTILE}": 30, "last": 40},
        runs=3,
        names=[f"{name} {HOSTILE}" for name in "abc"],
        words=words,
        categories=[HOSTILE, *CATEGORIES[1:]],
        own_thresholds=True,
        images=20,
    )
    runs = tuple(replace(run, title=HOSTILE) for run in comparison.runs)
    return fake_page(
        replace(comparison, runs=runs),
        images=20,
        names=[f"{i}{HOSTILE}" for i in range(20)],
        run_examined=[[(HOSTILE, HOSTILE)]] * 3,
        **{
            name: [HOSTILE]
            for name in ("summary", "cut_story", "prior_story", "noise_story", "sorter_story",
                         "limits", "warnings")
        },
        **{name: [(HOSTILE, HOSTILE)] for name in ("examined", "provenance")},
        **dict.fromkeys(("title", "summary_author", "command"), HOSTILE),
    )  # fmt: skip
