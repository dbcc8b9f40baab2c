"""The diagnosis of a classifier told as a page."""

import shlex
from collections.abc import Sequence
from typing import Any

from profiler.concepts.heatmap import FDR
from profiler.concepts.space import FOLDS
from profiler.debug.result import Diagnosis
from profiler.llm.base import Usage
from profiler.report.text import count, number, plural, share_of, typeset

ASKS = {
    "zero-shot": "The class captions nearest to the encoding, through the map, are those of the "
    "true class. No verdict where the VLM itself, from the image, does not name that class.",
    "heatmap": "The image’s concept heatmap is more like that of right answers of the true class "
    "than of the predicted one.",
    "witnesses": "A corrected head answers rightly, and no witness speaks against the encoder: "
    "its statistics and features are in order, and the old head does worse on reference "
    "images than a new one.",
}
"""By rule, when an error is put down to the head; otherwise it is the encoder’s."""
MAPPED = ("zero-shot", "heatmap")
"""Rules that read the encoding through the map, and are as good as it is."""


def debug_prose(diagnosis: Diagnosis, specs: str = "") -> dict[str, Any]:
    """What the page says of a diagnosis, by the names that the template knows.

    Args:
        diagnosis: finished.
        specs: file name of a report on specifications in the same folder; empty if there is none.
    """
    told = diagnosis.told
    stories = {
        "data_story": data_story(diagnosis),
        "where_story": where_story(diagnosis),
        "concept_story": concept_story(diagnosis),
        "map_story": map_story(diagnosis),
        "limits": _limits(diagnosis),
        "warnings": diagnosis.warnings,
    }
    return {
        "title": f"What {diagnosis.classifier.name} gets wrong, and where",
        "examined": _examined(diagnosis),
        "summary": [typeset(told.text or plain_summary(diagnosis))],
        "summary_author": told.author if told.text else "a fixed template",
        "map_warning": typeset(map_warning(diagnosis)),
        "map_note": map_note(diagnosis),
        "command": diagnosis.command,
        "provenance": _provenance(diagnosis),
        "mining": _mining(diagnosis),
        "specs": specs,
        **{name: [typeset(text) for text in story] for name, story in stories.items()},
    }


def _mining(diagnosis: Diagnosis) -> str:
    """The command that proposes specifications for this classifier, by the options given here."""
    given = diagnosis.settings
    if not given.get("subject"):
        return ""
    words = ["profiler", "mine", str(given["subject"])]
    for option in ("data", "classes", "checkpoint", "head", "concepts", "vlm"):
        if given.get(option):
            words += [f"--{option}", str(given[option])]
    return shlex.join(words)


def _examined(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    classifier, data = diagnosis.classifier, diagnosis.data
    concepts = diagnosis.concepts
    pairs = [
        ("Classifier", classifier.name),
        ("Weights", classifier.weights),
        (
            "Parts",
            f"encoder of {count(classifier.features)} features; head {classifier.head}, "
            f"{plural(classifier.outputs, 'class', 'classes')}",
        ),
        (
            "Images",
            f"{data.title}: {plural(data.images, 'image')} of "
            f"{plural(len(diagnosis.present), 'class', 'classes')}",
        ),
        ("Changed by", diagnosis.change),
        ("Images read by", diagnosis.vlm.name),
        ("Concepts", f"{concepts.title}: {plural(concepts.count, 'concept')}"),
        ("Date", diagnosis.date),
    ]
    return [(term, text) for term, text in pairs if text]


def plain_summary(diagnosis: Diagnosis) -> str:
    """The finding, where nobody has told it."""
    after = diagnosis.after
    opening = f"The classifier answers {share_of(after.right, after.images)} images rightly."
    if not diagnosis.confusions:
        return opening
    first = diagnosis.confusions[0]
    return (
        f"{opening} Most often it takes {diagnosis.classes[first.true]} for "
        f"{diagnosis.classes[first.predicted]}: {plural(first.errors, 'image')}."
    )


def map_warning(diagnosis: Diagnosis) -> str:
    """What is to be said of the map; empty where it is a good one."""
    warning = diagnosis.quality.warning
    return f"A poor map: {warning}." if warning else ""


def map_note(diagnosis: Diagnosis) -> str:
    """The same in short, for the top of the page."""
    if not diagnosis.quality.warning:
        return ""
    return (
        "Concepts at the level of the encoder rest on a poor map into the VLM’s space "
        f"(R² = {number(diagnosis.quality.r2, 2)})."
    )


def data_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """Which images count as right and as wrong, in sentences."""
    data = diagnosis.data
    sentences = list(data.remarks)
    if data.skipped:
        sentences.append(
            f"{plural(len(data.skipped), 'file')} could not be read and counts nowhere."
        )
    absent = len(diagnosis.classes) - len(diagnosis.present)
    if absent:
        sentences.append(
            f"{plural(absent, 'class', 'classes')} of the classifier "
            f"{'has' if absent == 1 else 'have'} no image here: "
            f"{'it appears' if absent == 1 else 'they appear'} only as answers."
        )
    if diagnosis.change:
        sentences.append(
            f"The images were changed first: {diagnosis.change}. Right answers are those on the "
            "images as they were. Wrong answers are those on changed images that were right "
            "before; what was wrong from the beginning is not explained here."
        )
    else:
        sentences.append("Every misclassified image counts as a wrong answer, once.")
    return tuple(sentences)


def where_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """How encoder or head was decided, in sentences."""
    return (
        "A classifier is a head on an encoder. An error is the encoder’s if its encoding no longer "
        "says what the image shows; it is the head’s if the encoding says it and the head does not "
        "hear. Nobody can look this up, so rules ask the encoding in different ways.",
        f"The rule “{diagnosis.rule}” counts on this page; the others stand beside it, so that one "
        "can see how far the verdict depends on the rule. Rules are fitted on labelled reference "
        "images as this classifier encodes them, never on the image they judge, and none of them "
        "sees another, healthy classifier.",
        "Where a rule has no standing its verdict is undetermined, counted apart. Shares are of "
        "the decided errors, with 95 % intervals by Wilson.",
    )


def concept_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What heatmaps show and how they were tested, in sentences."""
    template = diagnosis.vlm.template
    caption = f" (captions: {_caption(template)})" if template else ""
    return (
        "The strength of a concept in an image is the cosine between the image’s embedding and "
        f"that of the concept’s words{caption}. At the level of the encoder the embedding is the "
        "classifier’s own encoding, taken through the map; at the level of the VLM it is the VLM’s "
        "embedding of the image itself. A difference that only the encoder shows is in what the "
        "classifier makes of the images; one that the VLM shows as well is in the images.",
        "A cell of a heatmap is the share of images in which the concept of its row is stronger "
        "than that of its column; equal strengths count half to each. The differential is right "
        "less wrong answers.",
        f"Each pair of concepts was tested by Fisher’s exact test. Of the pairs called significant "
        f"in a map, at most {FDR:.0%} are expected to be chance (Benjamini–Hochberg over all pairs "
        "of that map, not over all maps). Intervals are 95 %: Wilson’s for a share, Newcombe’s for "
        "a difference.",
        "Concepts stand in one order on all axes of this page: those that differ alike between "
        "right and wrong answers are neighbours (hierarchical clustering with optimal leaf order).",
    )


def map_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """How the map was fitted and judged, in sentences."""
    quality = diagnosis.quality
    return (
        f"The map is affine, fitted on {count(quality.images)} images without their labels by "
        f"ridge regression (ridge {quality.ridge:g} of the features’ mean variance, chosen by "
        f"held-out error in {FOLDS} parts). R² is the share of the variance of the VLM’s "
        "embeddings that is explained on images left out of the fit.",
        "Zero-shot answers put the question otherwise: which class caption is nearest? Where the "
        "encoder through the map comes near to the VLM itself, little was lost on the way. Neither "
        "can name what the VLM does not know.",
    )


def _limits(diagnosis: Diagnosis) -> list[str]:
    limits = [
        "Concepts are those of the concept set, as the VLM understands their words. What has no "
        "word there cannot be found responsible.",
        "A concept that differs between right and wrong answers goes together with the errors; "
        "that it causes them is not shown.",
        "Encoder or head is inferred by a rule, which may be wrong for a single image. Where the "
        "rules disagree, the verdict is as uncertain as they are.",
        "Images are taken as independent: several views of one scene count as several images and "
        "make intervals too narrow.",
    ]
    if diagnosis.vlm.limits:
        limits.insert(0, diagnosis.vlm.limits)
    return limits


def _provenance(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    template = diagnosis.vlm.template
    usage = diagnosis.usage
    pairs: list[tuple[str, str | None]] = [
        ("Settings", _settings(diagnosis)),
        ("Preprocessing", diagnosis.classifier.preprocessing),
        ("Caption of a concept", _caption(template)),
        ("Language model used", typeset(str(usage)) if usage != Usage() else None),
        ("Model fingerprint", diagnosis.classifier.fingerprint),
        ("VLM fingerprint", diagnosis.vlm.fingerprint),
        ("Data fingerprint", diagnosis.data.fingerprint),
        ("Concept fingerprint", diagnosis.concepts.fingerprint),
        ("Not read", _skipped(diagnosis.data.skipped)),
        ("Versions", ", ".join(f"{name} {v}" for name, v in diagnosis.versions.items())),
    ]
    return [(term, text) for term, text in pairs if text]


def _settings(diagnosis: Diagnosis) -> str:
    """What was set, options that were left alone included; not those that are off."""
    said = {n: v for n, v in diagnosis.settings.items() if v is not None and v is not False}
    return ", ".join(
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in said.items()
    )


def _caption(template: str) -> str:
    return template.replace("{}", "…")


SKIPPED_NAMED = 5
"""Files that could not be read, named one by one."""


def _skipped(skipped: Sequence[tuple[str, str]]) -> str:
    named = "; ".join(f"{name} ({reason})" for name, reason in skipped[:SKIPPED_NAMED])
    more = len(skipped) - SKIPPED_NAMED
    return f"{named}; and {count(more)} more" if more > 0 else named
