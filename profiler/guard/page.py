"""The text of the page of a guard's assessment."""

import math
from typing import Any

from profiler.guard.result import Assessment, Condition
from profiler.report.text import count, typeset

FEWEST = 20
"""With fewer defects, a condition carries no conclusion."""
TITLES = {
    "msp": "MSP",
    "max-logit": "max logit",
    "energy": "energy",
    "entropy": "entropy",
    "mahalanobis": "Mahalanobis",
    "knn": "KNN",
    "typicality": "typicality",
    "cosine": "heatmap cosine",
    "likelihood": "likelihood ratio",
    "strengths": "strengths",
}


def guard_prose(found: Assessment) -> dict[str, Any]:
    """The texts of the page, by the names that the template knows."""
    context = found.context
    stories = {
        "summary": summary(found),
        "rule_story": rule_story(found),
        "measured_story": measured_story(found),
        "limits": limits(found),
        "warnings": found.warnings,
    }
    return {
        "title": f"Which predictions of {context.subject} not to trust",
        "examined": [
            ("Model", context.subject),
            ("Weights", context.weights),
            ("Held-out images", f"{found.data}: {count(found.clean.images)} images"),
            ("Guard fitted on", f"{context.data}: {count(sum(context.parts))} images"),
            ("VLM", context.vlm),
            ("Concepts", context.concepts),
            *([("Augmented views", ", ".join(found.views))] if found.views else []),
            ("Date", found.date),
        ],
        "summary_author": "a fixed template",
        "command": found.command,
        "provenance": _provenance(found),
        **{name: [typeset(text) for text in story] for name, story in stories.items()},
    }


def summary(found: Assessment) -> list[str]:
    """The finding in a few sentences."""
    clean = found.clean
    lines = [
        f"The classifier predicts {clean.right / clean.images:.1%} of {clean.images:,} held-out "
        f"images correctly. The guard flags {clean.flagged_defects:,} of the {clean.defects:,} "
        f"incorrect predictions and {clean.flagged_right:,} of the {clean.right:,} correct ones. "
        + (
            f"Of the predictions that pass, {found.passed_right / found.passed:.1%} are correct."
            if found.passed
            else "No prediction passes."
        )
    ]
    lines.append(_compared(found, clean))
    attacks = [each for each in found.conditions if each.kind == "attack" and each.defects]
    if len(attacks) == 1:
        (only,) = attacks
        lines.append(
            f"Under {only.title} the guard’s AUROC is {only.metrics[found.rule].auroc.value:.2f} "
            f"(MSP {only.metrics['msp'].auroc.value:.2f})."
        )
    elif attacks:
        own = [each.metrics[found.rule].auroc.value for each in attacks]
        worst = min(attacks, key=lambda each: each.metrics[found.rule].auroc.value)
        lines.append(
            f"Under {len(attacks)} attacks the guard’s AUROC is {sum(own) / len(own):.2f} on "
            f"average, and lowest for {worst.title} ({min(own):.2f}; MSP "
            f"{worst.metrics['msp'].auroc.value:.2f})."
        )
    if found.views:
        many = len(found.views)
        lines.append(
            f"The guard uses {many} augmented view{'s' * (many > 1)} of each image, so the "
            f"classifier takes {1 + many} forward passes instead of one."
        )
    return lines


def _compared(found: Assessment, each: Condition) -> str:
    own, best = each.metrics[found.rule].auroc, each.best.auroc
    lead = each.lead.auroc
    other = each.metrics[best].auroc.value
    if not math.isfinite(lead.low):
        verdict = "A comparison with the baselines is not possible."
    elif lead.low > 0:
        verdict = f"This is better than the best baseline, {TITLES[best]} ({other:.3f})."
    elif lead.high < 0:
        verdict = f"This is worse than the best baseline, {TITLES[best]} ({other:.3f})."
    else:
        verdict = (
            f"The difference from the best baseline, {TITLES[best]} ({other:.3f}), is not "
            "significant."
        )
    return (
        "Incorrect predictions are separated from correct ones with AUROC "
        f"{own.value:.3f} ({own.low:.3f} to {own.high:.3f}). {verdict}"
    )


def doubts(found: Assessment) -> list[str]:
    """Warnings in place of a conclusion, if the data do not allow one."""
    clean = found.clean
    lines = []
    if clean.defects < FEWEST:
        lines.append(
            f"Only {clean.defects} of the held-out images are misclassified. These are too few to "
            "measure how well the guard finds them."
        )
    if found.threshold.useless:
        lines.append(
            f"No threshold guarantees that {found.threshold.text}, so every input is flagged."
        )
    return lines


def rule_story(found: Assessment) -> list[str]:
    """How the score is computed, and how the threshold is set."""
    parts, name = found.context.parts, found.rule
    plain = name.removeprefix("msp+")
    rules = {
        "typicality": "The score is the Mahalanobis distance between the concept strengths of the "
        "image and their mean over correct predictions of the predicted class. The covariance is "
        "that of correct predictions within their class. The method does not use incorrect "
        "predictions.",
        "cosine": "Each class has two summary heatmaps: how often each concept is stronger than "
        "each other concept in correct predictions, and in incorrect ones. The score is the cosine "
        "between the image’s heatmap and the second summary, minus the cosine with the first.",
        "likelihood": "For each class and each pair of concepts, the guard knows how often the one "
        "concept is stronger than the other in correct predictions, and in incorrect ones. The "
        "score is the mean log-likelihood ratio over the pairs: incorrect over correct.",
        "strengths": "The score is the log-odds of an incorrect prediction. A logistic regression "
        "computes it from the deviations of the concept strengths from their mean for the "
        "predicted class.",
    }
    lines = [rules[plain]]
    if name != plain:
        lines.append(
            "This score is combined with the softmax. For each of the two scores, the guard "
            "measures how rare it is among correct predictions, and adds the two rarities "
            "(Fisher’s method). For the softmax, both tails are rare: a prediction that is much "
            "more confident than correct predictions are is anomalous too. Attacks cause such "
            "predictions."
        )
    if found.views:
        many = len(found.views) > 1
        lines.append(
            f"The guard uses {len(found.views)} augmented view{'s' * many} of each image "
            f"({', '.join(found.views)}; a direction means a shift by one pixel). Each takes one "
            "more forward pass. The softmax score is then the mean log-odds against the class "
            f"predicted for the image, over the image and its augmented view{'s' * many}. The loss "
            "of confidence under augmentation, compared with correct predictions, is a third "
            "rarity. It counts only where fewer than one in five correct predictions changes as "
            "much. An error that an attack has fitted to one image often disappears under such a "
            "change."
        )
    cut = found.threshold
    lines.append(
        f"Detection methods were fitted on {parts[0]:,} images and chosen on {parts[1]:,} others. "
        f"The threshold was set on a third set of {parts[2]:,} images. It guarantees that "
        f"{cut.text}, for images that are exchangeable with that set. Attacked images and images "
        "after drift are not exchangeable with it."
    )
    if found.weak_classes and plain in ("cosine", "likelihood"):
        named = ", ".join(found.weak_classes[:8]) + (" …" if len(found.weak_classes) > 8 else "")
        lines.append(
            f"{len(found.weak_classes)} classes had no incorrect predictions to learn from "
            f"({named}). For them, the summary of incorrect predictions is that of all classes "
            "together. For classes with few incorrect predictions, it is shrunk towards that."
        )
    return lines


def measured_story(found: Assessment) -> list[str]:
    """What counts as a defect, and how intervals are computed."""
    return [
        "Defects are the positive class, and a higher score is more anomalous. On unmodified "
        "images, defects are the misclassified images. Under an attack or a corruption, defects "
        "are the changed images that are misclassified. In both cases the negative class is the "
        "correct predictions on unmodified images.",
        "AUPR is average precision, so it depends on the share of defects. FPR@95 is given in both "
        "conventions. AURC is the mean, over all coverages, of the share of defects among the "
        "images of lowest score.",
        f"Intervals hold 95 % of {found.draws:,} bootstrap draws of the images. An image and its "
        "changed versions are resampled together. Bold marks the best value of a column, whether "
        "or not the difference from the others is significant.",
    ]


def limits(found: Assessment) -> list[str]:
    """What the numbers do not show."""
    lines = [
        "The attacks do not target the guard; they only mislead the classifier. An adversary who "
        "knows the guard can attack both.",
        "The guard uses the features that the last linear layer reads. It cannot use information "
        "that the encoder has lost.",
        "Comparisons of concepts come from the classifier’s features after a linear alignment. On "
        f"held-out images the linear alignment explains {max(found.context.r2, 0):.0%} of the "
        f"variance of the embeddings of {found.context.vlm}. A comparison that counts against an "
        "image may not be visible in the image.",
    ]
    if found.context.limits:
        lines.insert(0, found.context.limits)
    return lines


def _provenance(found: Assessment) -> list[tuple[str, str]]:
    context = found.context
    pairs: list[tuple[str, str | None]] = [
        ("Command that fitted the guard", context.command),
        ("Detection method", found.rule),
        ("Augmented views", ", ".join(found.views)),
        ("Threshold", f"{found.threshold.value:.6g}: {found.threshold.text}"),
        ("Seed", str(found.seed)),
        ("Bootstrap draws", str(found.draws)),
        ("Head", context.head),
        ("Model fingerprint", context.fingerprint),
        ("VLM fingerprint", context.vlm_fingerprint),
        ("Fingerprint of the guard’s images", context.data_fingerprint),
        ("Fingerprint of the held-out images", found.data_fingerprint),
        ("Versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
    ]
    return [(term, text) for term, text in pairs if text]
