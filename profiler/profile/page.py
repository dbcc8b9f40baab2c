"""A profile told as a page: which facts its report shows, and in which words."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler.activations.maps import GRID
from profiler.llm.base import Usage
from profiler.models.records import LayerRecord
from profiler.profile.drivers_view import LIMITS
from profiler.profile.outlines import UNKNOWN
from profiler.profile.quality import FEWEST_POSITIVES, summarise
from profiler.profile.result import SHOWN_IMAGES, ProfileRun, Record
from profiler.profile.threshold import RatingBasis, Threshold
from profiler.report.text import count, typeset


def rating_story(
    tau: float,
    basis: RatingBasis,
    evidence: str = "score",
    page: str = "calibration.html",
) -> tuple[str, ...]:
    """Where a threshold from ratings came from, in sentences, for the profile report."""
    low = "no lower limit" if basis.low is None else f"{basis.low:.3f}"
    high = "no upper limit" if basis.high is None else f"{basis.high:.3f}"
    raters = "one person" if basis.raters == 1 else f"{basis.raters:,} people"
    if basis.raters == 1:
        agreement = "Only one person rated, so agreement is unknown."
    elif not basis.shared:
        agreement = "No unit was rated by two people, so agreement is unknown."
    elif basis.alpha is None:
        agreement = "All their ratings are the same, so Krippendorff's α is not defined."
    else:
        agreement = (
            f"On {basis.shared:,} units that several of them rated, Krippendorff's α (interval "
            f"metric) is {basis.alpha:.2f}."
        )
    return (
        f"People looked: {raters} gave {basis.ratings:,} ratings of {basis.units:,} units, "
        "Yes = 1, Maybe = 0.5, No = 0. " + agreement,
        f"τ = {tau:.3f} is the lowest {evidence} above which the mean rating reaches "
        f"{basis.target:g}; it is {basis.mean_above:.2f} there. The {basis.confidence:.0%} "
        f"interval of τ runs from {low} to {high}.",
        f"The page {page} beside this one shows the ratings by layer and by {evidence}.",
    )


@dataclass(frozen=True)
class Doubt:
    """A word whose category changed between votes."""

    word: str
    category: str
    """The one most votes gave it."""
    kept: int
    """How many votes did."""
    votes: int
    units: int
    """Interpretable units that carry the word."""


def profile_prose(run: ProfileRun) -> dict[str, Any]:
    """What the page says of a run, by the names that the template knows."""
    record = run.record
    commands = (record.command, *([record.resorted.command] if record.resorted else []))
    for threshold in (run.threshold, run.range_threshold):
        if threshold and threshold.ratings:
            commands = (*commands, threshold.ratings.command)
    stories = {
        "threshold_story": threshold_story(run),
        "sorter_story": sorter_story(run),
        "quality_story": quality_story(run),
        "outline_story": outline_story(run),
        "range_story": (*range_story(run), *range_cut_story(run)) if run.ranges else (),
        "limits": _limits(run),
        "warnings": run.warnings,
    }
    return {
        "title": f"What {record.subject.name} has learned, layer by layer"
        if run.whole is None
        else f"What {run.layers[0].layer} of {record.subject.name} has learned",
        "examined": _examined(run),
        "summary": [typeset(run.summary)],
        "summary_author": run.summary_author,
        "command": "\n".join(commands),
        "provenance": _provenance(run),
        **{name: [typeset(text) for text in story] for name, story in stories.items()},
    }


def range_cut_story(run: ProfileRun) -> tuple[str, ...]:
    """From which r on units are explained, and who says so, in sentences."""
    threshold = run.range_threshold
    explained = "A unit is explained if its r with all five words, shown or not,"
    if threshold is None:
        cut = f"{run.explained_cut:.3f}" if math.isfinite(run.explained_cut) else "there is none"
        return (
            f"{explained} reaches the lowest r at which decoys are at most 5 % of what reaches it "
            f"({cut}). People’s ratings can set another threshold.",
        )
    if threshold.ratings is None:
        return (f"{explained} lies above τ = {threshold.value:.3f}, given with the command.",)
    return (
        f"{explained} lies above τ, which people’s ratings set.",
        *rating_story(threshold.value, threshold.ratings, "r", "calibration-range.html"),
    )


def outline_story(run: ProfileRun) -> tuple[str, ...]:
    """How it was found where in images units respond, in sentences."""
    record, outlines = run.record.outlines, run.outlines
    if record is None or outlines is None:
        return ()
    rings = np.concatenate([layer.rings.ravel() for layer in outlines.layers])
    looked, diffuse = int((rings != UNKNOWN).sum()), int((rings == 0).sum())
    mapped = (
        f"{record.images:,} of the images that the rows show were read once more for the map of "
        "each unit: the values at all places, whose mean (or largest value) is the activation. A "
        "linear layer that reads the means of a map has the map of its own function. The outline "
        f"holds what exceeds all but {100 * record.share:g} % of the unit’s values on a random "
        f"sample of {record.sampled:,} of these images.",
    )
    covered = (
        f"Units without such a map were looked at on {record.covered:,} images: each cell of a "
        f"grid of {GRID} × {GRID} was covered with the image’s mean colour, and the outline holds "
        "where the activation falls by more than half of its largest fall.",
    )
    return (
        *(mapped if record.images else ()),
        *(covered if record.covered else ()),
        "Outlines are laid onto the whole picture through what the preprocessing resized, cropped "
        "or padded, as measured on pictures of gradients; a cell’s values stand for its centre, "
        "and between centres they are interpolated. What a unit sees at a place reaches beyond the "
        "cell.",
        f"In {diffuse:,} of {looked:,} pictures looked at no part stands out: no value exceeds the "
        "cut, or more than half of all do.",
    )


def range_story(run: ProfileRun) -> tuple[str, ...]:
    """How range explanations were worked out, and what they do not show, in sentences."""
    images = run.record.probe.images if run.record.probe else 0
    annotated = run.record.vlm is not None and run.record.vlm.annotated
    seen = "all attributes" if annotated else "the image embedding"
    return (
        f"The {images:,} images were split at random into five parts. Words and weights were "
        "chosen on four of them (orthogonal matching pursuit, positive weights) and judged on "
        "the fifth; r is the mean of the five correlations. The words shown are those of all "
        "images, as few as come within 0.01 of the best r.",
        f"The ceiling is the same r for the best linear function of {seen} (ridge regression): "
        "the most that this space can predict of the unit on these images.",
        "Decoys are units with the activations of other images; the same search on them shows what "
        "chance gives. Specificity is the share of the layer's other explanations that predict a "
        "unit worse than its own."
        + (
            " Monosemanticity, which compares images by their embeddings, is not known."
            if annotated
            else " Monosemanticity is the mean similarity of pairs of images, weighted by how "
            "strongly the unit responds to both."
        ),
        "Explained is not understood: r = 0.3 leaves 91 % of the variance to other causes. A word "
        "predicts the unit; what drives it, only an experiment can tell.",
    )


def _examined(run: ProfileRun) -> Sequence[tuple[str, str]]:
    record = run.record
    pairs = [("Model", record.subject.name)]
    if record.source:
        labels = f"{record.source.file}: {count(record.source.rows)} units, labelled elsewhere"
        pairs.append(("Imported from", labels))
        pairs.append(("Descriptions", f"{count(len(run.concepts))} different ones"))
    else:
        pairs.append(("Weights", record.subject.weights))
    date = record.date
    if record.resorted:
        date += f"; sorted again {record.resorted.date}"
    return (*pairs, *measured_with(record), ("Date", date))


def measured_with(record: Record) -> list[tuple[str, str]]:
    """Probe images, VLM and concepts, as far as they are known."""
    pairs = []
    if record.probe:
        pairs.append(("Probe images", f"{record.probe.title}: {count(record.probe.images)} images"))
    if record.vlm and not record.vlm.annotated:
        pairs.append(("Images read by", record.vlm.name))
    if record.concepts:
        concepts = f"{record.concepts.title}: {count(record.concepts.count)} concepts"
        pairs.append(("Concepts", concepts))
    return pairs


def shape_text(layer: LayerRecord) -> str:
    """The shape of one image's output and what is made of it: ``32 × 112 × 112, mean over …``.

    Empty for an imported layer, of which neither is known.
    """
    shape = " × ".join(map(str, layer.shape))
    return shape if layer.pooling in ("none", "") else f"{shape}, {layer.pooling}"


def threshold_story(run: ProfileRun) -> tuple[str, ...]:
    """Where τ came from, in sentences."""
    threshold, similarity, source = run.threshold, run.record.similarity, run.record.source
    if threshold is None:
        scores = (
            "The file holds no similarity, so there is nothing to cut"
            if source and source.unscored == source.rows
            else "The file holds scores, but no threshold was given, and where chance ends cannot "
            "be worked out from them alone"
        )
        return (
            f"{scores}. Every unit that has a label counts as interpretable, correct or not: "
            "shares of categories describe the labels, not the network.",
        )
    if threshold.source == "given":
        given = f"The threshold τ = {threshold.value:.3f} was given with the command."
        if source is None:
            return (given,)
        return (
            given,
            "The scores are those of the imported file. How they were made is not in it, so "
            "it is unknown whether this threshold suits them.",
        )
    if threshold.ratings is not None:
        return rating_story(threshold.value, threshold.ratings)
    if similarity is None:
        return ()
    if threshold.confirms:
        return confirmed_story(threshold)
    how = (
        f"{similarity.null_draws:,} random lists of {similarity.top} probe images took the place "
        "of a unit's top images in every layer, and the best score of each was recorded. "
        "The scores of such lists are what chance alone reaches."
        if similarity.top
        else f"In every layer the activations of {similarity.null_draws:,} units were permuted "
        "over the images, and the best score of each was recorded. Such scores are what chance "
        "alone reaches."
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
        "Chance is a low bar: a label above τ describes the unit's top images "
        "better than random images, but nobody has looked at it. People's ratings can set τ.",
    )


def confirmed_story(threshold: Threshold) -> tuple[str, ...]:
    """How labels were tested on images that they were not chosen on, in sentences."""
    how = (
        "The images were split at random into two halves. On each half every unit got a label by "
        "its strongest images there, and the label was tested on the other half: z says how much "
        "nearer to the label the unit’s strongest images of that half are than its images are in "
        "general, in standard errors. The z of both halves are joined.",
        "So a label competes with no other word: it was chosen before, on other images. The label "
        "shown is chosen on all images.",
    )
    if threshold.fdr is None:
        return (
            *how,
            "No label holds: this happens with few probe images, with concepts the model that "
            "reads the images cannot tell apart, and in networks without training.",
        )
    return (
        *how,
        f"{threshold.text()} is the lowest z at which at most 5 % of the confirmed labels are "
        "expected to be chance (Benjamini–Hochberg over the units of all layers).",
        "A confirmed label says that a unit’s strongest images have it in common, on other images "
        "as well. It does not say that the unit responds to nothing else, and nobody has looked at "
        "it: people’s ratings can set another threshold.",
    )


def quality_story(run: ProfileRun) -> tuple[str, ...]:
    """How the quality of the labels was measured, and what it does not show, in sentences."""
    evaluation, probe = run.record.evaluation, run.record.probe
    if evaluation is None or probe is None:
        return ()
    total = summarise(run.quality)
    annotated = run.record.vlm is not None and run.record.vlm.annotated
    sign = "attribute of the label" if annotated else "cosine of image and label"
    lists = f", with top lists of {evaluation.top}" if evaluation.top else ""
    return (
        f"Held out: {evaluation.held_out:,} of the {probe.images:,} probe images, chosen at random "
        f"(seed {evaluation.seed}). The labels measured on them were chosen on the other "
        f"{probe.images - evaluation.held_out:,}{lists}. So the figures belong to those labels, "
        f"which are the same as on the rest of this page for {total.repeated:,} of "
        f"{total.labelled:,} units.",
        f"Correlation is between a unit’s activation and the {sign}. AUPRC says how well that "
        f"{sign.split()[0]} finds the images on which the unit is most active: "
        f"{evaluation.positive_share:.0%} of those held out, at least {FEWEST_POSITIVES}; chance "
        "is what a random order of the images would reach. Of each, the tables give the median "
        "unit and the middle half of the units.",
        "A permuted label is the label of another unit of the same layer, chosen at random. If it "
        "predicts as well as a unit’s own label, both describe what the units of the layer share, "
        "which is no evidence for the single label. Labels are called not specific if at least one "
        "in four permuted labels predicts as well as the typical own label.",
        f"Survival: {evaluation.draws} times, {probe.images:,} images were drawn from the probe "
        f"set with replacement (seed {evaluation.seed}), and all units were labelled again. Only "
        "the very same word counts as kept; puppy in the place of dog counts as lost. A stable "
        "label was kept in at least half of the draws.",
        "A draw misses 37 % of the images on average. A concept that few images show (one, where "
        "every class has one image) is missing from many draws altogether, so low survival comes "
        "partly from such a probe set and not from the label.",
    )


def sorter_story(run: ProfileRun) -> tuple[str, ...]:
    """Who sorted the labels, in sentences."""
    sorting = run.sorting
    count = len(sorting.category)
    views = "labels and leading words" if run.ranges else "labels"
    opening = f"The {count:,} different {views} of units were sorted by {sorting.sorter}."
    if count == 0:
        opening = "No unit has a label, so none was sorted into a category."
    elif count == 1:
        opening = f"The one label of units was sorted by {sorting.sorter}."
    sentences = [opening, *sorting.notes]
    if doubts := doubtful(run):
        hanging = sum(doubt.units for doubt in doubts)
        sentences.append(
            f"Of {run.profile.total.interpretable:,} interpretable units, {hanging:,} "
            f"{'carries' if hanging == 1 else 'carry'} a label whose category changed between "
            "votes; the category most votes gave it is the one counted."
        )
    return tuple(sentences)


def doubtful(run: ProfileRun) -> tuple[Doubt, ...]:
    """The words whose category changed between votes, least certain first."""
    votes = int(run.sorting.provenance.get("votes", 1))
    units = Counter(word for layer in run.layers for word in run.trusted_words(layer))
    return tuple(
        Doubt(word, run.sorting.category[word], round(share * votes), votes, units[word])
        for word, share in run.sorting.doubtful()
        if units[word]
    )


def _provenance(run: ProfileRun) -> Sequence[tuple[str, str]]:
    record = run.record
    similarity, source, sorting = record.similarity, record.source, run.sorting.provenance
    pairs: list[tuple[str, str | None]] = []
    if source:
        ignored = ", ".join(source.ignored)
        pairs += [("Imported file", source.fingerprint), ("Columns not read", ignored)]
    if similarity:
        used = f"{similarity.top} ({similarity.top_chosen})" if similarity.top else "all images"
        shown = f"{used}; {SHOWN_IMAGES} shown"
        pairs += [("Similarity", similarity.text), ("Top images a unit", shown)]
    annotated = record.vlm is not None and record.vlm.annotated
    caption = record.vlm.template.format("…") if record.vlm and not annotated else None
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in record.timings.items())
    pairs += [
        ("Evaluation", _evaluation(run)),
        ("Experiment", _experiment(record)),
        ("Seed", str(record.seed)),
        ("Preprocessing", record.subject.preprocessing),
        ("Caption of a concept", caption),
        ("Language model", sorting.get("llm")),
        ("Language model used", typeset(str(run.usage)) if run.usage != Usage() else None),
        ("Prompts", sorting.get("prompts")),
        ("Model fingerprint", record.subject.fingerprint),
        (
            "Fingerprint of the annotations" if annotated else "VLM fingerprint",
            record.vlm.fingerprint if record.vlm else None,
        ),
        ("Words compared by", sorting.get("text_encoder")),
        ("Probe fingerprint", record.probe.fingerprint if record.probe else None),
        ("Concept fingerprint", record.concepts.fingerprint if record.concepts else None),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("Seconds", seconds),
    ]
    if record.vlm and sorting.get("text_encoder") == record.vlm.fingerprint:
        pairs = [pair for pair in pairs if pair[0] != "Words compared by"]
    return [(term, text) for term, text in pairs if text]


def _evaluation(run: ProfileRun) -> str | None:
    evaluation = run.record.evaluation
    if evaluation is None:
        return None
    return typeset(
        f"{evaluation.held_out:,} images held out ({evaluation.held_out_share:.0%}), "
        f"{evaluation.positive_share:.0%} of them positives, {evaluation.draws} draws, "
        f"seed {evaluation.seed}"
    )


def _experiment(record: Record) -> str | None:
    scenes = record.experiment
    if scenes is None:
        return None
    return typeset(
        f"{scenes.scenes:,} drawn scenes, version {scenes.version}, seed {scenes.seed}, "
        f"fingerprint {scenes.fingerprint}"
    )


def _limits(run: ProfileRun) -> Sequence[str]:
    if run.record.source:
        return (
            "The labels were made by another tool and are used unmodified. Which weights the "
            "network had, which images it was shown, which concepts were available and how the "
            "scores were computed is not in the file, so it is unknown.",
            "What the file does not hold is absent on this page: the most activating images, "
            "activations, p-values, random image lists, and units that never vary.",
            "A label names what a unit's strongest images had in common, as far as the concept "
            "set had a word for it. It does not say what the unit does on other images.",
        )
    limits = [
        "A label names what the unit's strongest images have in common, as far as the concept set "
        "has a word for it. "
        + (
            "The section on the quality of labels shows how well it describes the unit on other "
            "images."
            if run.quality
            else "It does not describe what the unit does on other images."
        ),
        "One number a unit and image (the pooled activation) decides. "
        + (
            "Outlines show where in a picture that number comes from, not what causes it there."
            if run.outlines
            else "Where in the image the unit responds is not looked at."
        ),
        "Scores compare only within this page: another concept set, another model that reads the "
        "images or another probe set moves the scale.",
    ]
    if run.record.vlm and run.record.vlm.limits:
        limits.insert(0, run.record.vlm.limits)
    if run.experiment:
        limits += LIMITS[:2]
    return limits
