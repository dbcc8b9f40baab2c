"""The text of the page of a diagnosis."""

import shlex
from collections.abc import Sequence
from typing import Any

from profiler.concepts.heatmap import FDR
from profiler.concepts.space import FOLDS
from profiler.debug.result import Diagnosis
from profiler.llm.base import Usage
from profiler.report.text import count, number, plural, typeset

ASKS = {
    "zero-shot": "After the linear alignment, the encoding is nearest to the captions of the true "
    "class. There is no verdict where the VLM itself does not recognise the true class.",
    "heatmap": "The concept heatmap of the image is more similar to correct predictions of the "
    "true class than to those of the predicted class.",
    "witnesses": "A refitted head predicts the true class, and three checks pass: the encoder’s "
    "normalisation statistics fit the images; few weights are on constant inputs; the original "
    "head is clearly less accurate on reference images than the refitted one.",
}
"""By criterion, when an error is attributed to the head; otherwise it is the encoder’s."""
MAPPED = ("zero-shot", "heatmap")
"""Criteria that read the encoding through the linear alignment, and are as good as it is."""


def debug_prose(diagnosis: Diagnosis, specs: str = "") -> dict[str, Any]:
    """The texts of the page, by the names that the template knows.

    Args:
        diagnosis: finished.
        specs: file name of a report on specifications in the same folder; empty if there is none.
    """
    stories = {
        "data_story": data_story(diagnosis),
        "where_story": where_story(diagnosis),
        "concept_story": concept_story(diagnosis),
        "map_story": map_story(diagnosis),
        "limits": _limits(diagnosis),
        "warnings": diagnosis.warnings,
    }
    return {
        "title": f"Errors of {diagnosis.classifier.name}: encoder or head",
        "examined": _examined(diagnosis),
        "summary": [typeset(diagnosis.told.text)],
        "summary_author": diagnosis.told.author,
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
        ("Parts", classifier.parts),
        (
            "Images",
            f"{data.title}: {plural(data.images, 'image')} of "
            f"{plural(len(diagnosis.present), 'class', 'classes')}",
        ),
        ("Change of the images", diagnosis.change),
        ("VLM", diagnosis.vlm.name),
        ("Concepts", f"{concepts.title}: {plural(concepts.count, 'concept')}"),
        ("Date", diagnosis.date),
    ]
    return [(term, text) for term, text in pairs if text]


def map_warning(diagnosis: Diagnosis) -> str:
    """The warning about the linear alignment; empty where it is a good one."""
    warning = diagnosis.quality.warning
    return f"The linear alignment is poor: {warning}." if warning else ""


def map_note(diagnosis: Diagnosis) -> str:
    """The same in short, for the top of the page."""
    if not diagnosis.quality.warning:
        return ""
    return (
        "Concepts at the level of the encoder rest on a poor linear alignment with the VLM’s space "
        f"(R² = {number(diagnosis.quality.r2, 2)})."
    )


def data_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """Which images count as correct and as incorrect predictions, in sentences."""
    data = diagnosis.data
    sentences = [f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in data.remarks]
    if data.skipped:
        sentences.append(
            f"{plural(len(data.skipped), 'file')} could not be read and "
            f"{'is' if len(data.skipped) == 1 else 'are'} not counted."
        )
    absent = len(diagnosis.classes) - len(diagnosis.present)
    if absent:
        sentences.append(
            f"{plural(absent, 'class', 'classes')} of the classifier "
            f"{'has' if absent == 1 else 'have'} no image here: "
            f"{'it appears' if absent == 1 else 'they appear'} only as predicted classes."
        )
    if diagnosis.change:
        sentences.append(
            f"The images were changed first: {diagnosis.change}. Correct predictions are those on "
            "the unmodified images. The errors explained here are those that the change caused: "
            "the prediction was correct on the unmodified image and is incorrect on the changed "
            "image. Errors on unmodified images are not explained."
        )
    else:
        sentences.append("Every misclassified image counts as one error.")
    return tuple(sentences)


def where_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """How errors are attributed to encoder or head, in sentences."""
    return (
        "A classifier consists of an encoder and a head, its last linear layer. An error is "
        "attributed to the encoder if the encoding does not contain the class of the image. It is "
        "attributed to the head if the encoding contains the class and the head does not use it. "
        "This cannot be observed directly, so several criteria examine the encoding in different "
        "ways.",
        f"The criterion “{diagnosis.rule}” counts on this page. The other criteria are shown for "
        "comparison: where they disagree, the verdict depends on the criterion. Each criterion is "
        "fitted on labelled reference images, encoded by this classifier. The image to be judged "
        "is never among them. No criterion uses another classifier.",
        "Where a criterion does not apply, its verdict is “undetermined”. Undetermined errors are "
        "counted separately. Shares are of the decided errors, with 95 % intervals (Wilson).",
    )


def concept_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What heatmaps show and how differences are tested, in sentences."""
    template = diagnosis.vlm.template
    caption = f" (captions: {_caption(template)})" if template else ""
    return (
        "The strength of a concept in an image is the cosine between the embedding of the image "
        f"and the embedding of the concept’s words{caption}. At the level of the encoder, the "
        "embedding of the image is the classifier’s encoding after the linear alignment. At the "
        "level of the VLM, it is the VLM’s embedding of the image. A difference at both levels is "
        "in the images themselves. A difference at the level of the encoder alone comes from the "
        "classifier’s encoding, or from the linear alignment.",
        "A cell of a heatmap is the share of images in which the concept of its row is stronger "
        "than the concept of its column. Equal strengths count half for each. The differential is "
        "the heatmap of correct predictions minus the heatmap of incorrect predictions.",
        f"Each pair of concepts is tested by Fisher’s exact test. Of the pairs called significant "
        f"in one heatmap, at most {FDR:.0%} are expected to be significant by chance "
        "(Benjamini–Hochberg over all pairs of that heatmap, not over all heatmaps). Intervals are "
        "95 %: Wilson’s for a share, Newcombe’s for a difference.",
        "All axes on this page have the same order of concepts. Neighbours are concepts that "
        "differ in the same way between correct and incorrect predictions (hierarchical clustering "
        "with optimal leaf order).",
    )


def map_story(diagnosis: Diagnosis) -> tuple[str, ...]:
    """How the linear alignment was fitted and evaluated, in sentences."""
    quality = diagnosis.quality
    return (
        "The linear alignment is an affine map from the classifier’s features to the VLM’s image "
        f"embeddings. It is fitted on {count(quality.images)} images, without their labels, by "
        f"ridge regression (ridge {quality.ridge:g} of the features’ mean variance, chosen by "
        f"{FOLDS}-fold cross-validation). R² is the share of the variance of the VLM’s embeddings "
        "that is explained on held-out images.",
        "Zero-shot classification is a second test: it predicts the class whose caption is nearest "
        "to the embedding. If the aligned encoder is nearly as accurate as the VLM, the alignment "
        "lost little. Neither can recognise what the VLM does not know.",
    )


def _limits(diagnosis: Diagnosis) -> list[str]:
    limits = [
        "Concepts are the words of the concept set, as the VLM understands them. What is not in "
        "the concept set cannot be found.",
        "A concept that differs between correct and incorrect predictions is associated with the "
        "errors. Whether it causes them is not shown.",
        "Encoder or head is inferred by a criterion, which may be incorrect for a single image. "
        "Where the criteria disagree, the verdict is uncertain.",
        "Images are assumed to be independent. Several pictures of one scene count as several "
        "images and make intervals too narrow.",
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
        ("Files not read", _skipped(diagnosis.data.skipped)),
        ("Versions", ", ".join(f"{name} {v}" for name, v in diagnosis.versions.items())),
    ]
    return [(term, text) for term, text in pairs if text]


def _settings(diagnosis: Diagnosis) -> str:
    """All settings, defaults included, except those that are off."""
    shown = {n: v for n, v in diagnosis.settings.items() if v is not None and v is not False}
    return ", ".join(
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in shown.items()
    )


def _caption(template: str) -> str:
    return template.replace("{}", "…")


SKIPPED_NAMED = 5
"""Files that could not be read, named one by one."""


def _skipped(skipped: Sequence[tuple[str, str]]) -> str:
    named = "; ".join(f"{name} ({reason})" for name, reason in skipped[:SKIPPED_NAMED])
    more = len(skipped) - SKIPPED_NAMED
    return f"{named}; and {count(more)} more" if more > 0 else named
