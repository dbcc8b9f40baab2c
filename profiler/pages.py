"""A finished run told as a page: which facts the report shows, and in which words."""

import re
from collections.abc import Sequence

from profiler.report import LayerSection, ProfilePage
from profiler.report.text import THIN, count
from profiler.results import SHOWN_IMAGES, LayerRecord, ProfileRun


def profile_page(run: ProfileRun) -> ProfilePage:
    """The profile report of a run."""
    record = run.record
    probe = record.probe
    return ProfilePage(
        title=f"What {record.subject.name} sees, layer by layer",
        examined=(
            ("Model", record.subject.name),
            ("Weights", record.subject.weights),
            ("Probe images", f"{probe.title}: {count(probe.images)} images"),
            ("Images read by", record.vlm.name),
            ("Concepts", f"{record.concepts.title}: {count(record.concepts.count)} concepts"),
            ("Date", record.date),
        ),
        summary=(typeset(run.summary),),
        summary_author=run.summary_author,
        profile=run.profile,
        layers=[
            LayerSection(labels, run.unit_categories(labels), info.kind, shape_text(info))
            for labels, info in zip(run.layers, record.subject.layers, strict=True)
        ],
        concepts=run.concepts,
        threshold=run.threshold,
        threshold_story=[typeset(text) for text in threshold_story(run)],
        sorter_story=[typeset(text) for text in sorter_story(run)],
        image_names=run.image_names,
        thumbnails=run.thumbnails,
        command=record.command,
        provenance=_provenance(run),
        limits=[typeset(text) for text in _limits(run)],
        warnings=[typeset(text) for text in record.warnings],
    )


def typeset(text: str) -> str:
    """Numbers as the pages write them: thin spaces in thousands and before the per cent sign.

    >>> typeset("1,690 of 2,048 units (82.5 %, or 83%)").replace(THIN, "_")
    '1_690 of 2_048 units (82.5_%, or 83_%)'
    """
    text = re.sub(r"(?<=\d)[, ](?=\d{3}(?!\d))", THIN, text)
    return re.sub(r"(?<=\d) ?%", f"{THIN}%", text)


def shape_text(layer: LayerRecord) -> str:
    """The shape of one image's output and what is made of it: ``32 × 112 × 112, mean over …``."""
    shape = " × ".join(map(str, layer.shape))
    return shape if layer.pooling == "none" else f"{shape}, {layer.pooling}"


def threshold_story(run: ProfileRun) -> tuple[str, ...]:
    """Where τ came from, in sentences."""
    threshold, similarity = run.threshold, run.record.similarity
    if threshold.source == "given":
        return (f"The threshold τ = {threshold.value:.3f} was given with the command.",)
    how = (
        f"{similarity.null_draws:,} random lists of {similarity.top} probe images took the place "
        "of a unit's top images in every layer, and the best score of each was noted. "
        "The scores of such lists are what chance alone reaches."
    )
    if threshold.fdr is None:
        return (
            how,
            "At no threshold are 95 % of the labels above it expected to be more than chance, so "
            "none is trusted. This happens with few probe images, with concepts the model that "
            "reads the images cannot tell apart, and in networks without training.",
        )
    return (
        how,
        f"τ = {threshold.value:.3f} is the lowest score above which at most 5 % of the labels are "
        f"expected to be chance (estimated: {threshold.fdr:.1%}, over all layers together).",
        "Chance is a low bar in another sense: a label above τ describes the unit's top images "
        "better than random images, but nobody has looked at it. People's ratings can set τ.",
    )


def sorter_story(run: ProfileRun) -> tuple[str, ...]:
    """Who sorted the labels, in sentences."""
    sorting = run.sorting
    count = len(sorting.category)
    opening = (
        f"The {count:,} different labels of interpretable units were sorted by {sorting.sorter}."
    )
    if count == 0:
        opening = "No label is trusted, so none was sorted into a category."
    elif count == 1:
        opening = f"The one label of interpretable units was sorted by {sorting.sorter}."
    return (opening, *sorting.notes)


def _provenance(run: ProfileRun) -> Sequence[tuple[str, str]]:
    record = run.record
    similarity = record.similarity
    return (
        (
            "Similarity",
            f"{similarity.name} (a = {similarity.temperature:g}, λ = {similarity.prior_weight:g})",
        ),
        ("Top images a unit", f"{similarity.top} ({similarity.top_chosen}); {SHOWN_IMAGES} shown"),
        ("Seed", str(record.seed)),
        ("Preprocessing", record.subject.preprocessing),
        ("Caption of a concept", record.vlm.template.format("…")),
        ("Model fingerprint", record.subject.fingerprint),
        ("VLM fingerprint", record.vlm.fingerprint),
        ("Probe fingerprint", record.probe.fingerprint),
        ("Concept fingerprint", record.concepts.fingerprint),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("Seconds", ", ".join(f"{stage} {value:.1f}" for stage, value in record.timings.items())),
    )


def _limits(run: ProfileRun) -> Sequence[str]:
    limits = [
        "A label names what the unit's strongest images have in common, as far as the concept set "
        "has a word for it. It does not say what the unit does on other images.",
        "One number a unit and image (the pooled activation) decides; where in the image the unit "
        "responds is not looked at.",
        "Scores compare only within this page: another concept set, another model that reads the "
        "images or another probe set moves the scale.",
    ]
    if run.record.vlm.limits:
        limits.insert(0, run.record.vlm.limits)
    return limits
