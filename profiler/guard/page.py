"""A guard's assessment told as a page."""

import math
from typing import Any

from profiler.guard.result import Assessment, Condition
from profiler.report.text import count, typeset

FEWEST = 20
"""Defects below which a condition carries no conclusion."""
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
    """What the page says of an assessment, by the names that the template knows."""
    context = found.context
    stories = {
        "summary": summary(found),
        "rule_story": rule_story(found),
        "measured_story": measured_story(found),
        "limits": limits(found),
        "warnings": found.warnings,
    }
    return {
        "title": f"Which answers of {context.subject} not to trust",
        "examined": [
            ("Model", context.subject),
            ("Weights", context.weights),
            ("Held-out images", f"{found.data}: {count(found.clean.images)} images"),
            ("Guard made from", f"{context.data}: {count(sum(context.parts))} images"),
            ("Images read by", context.vlm),
            ("Concepts", context.concepts),
            *([("Further views", ", ".join(found.views))] if found.views else []),
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
    said = [
        f"Of {clean.images:,} held-out images {clean.right / clean.images:.1%} are answered "
        f"rightly. The guard flags {clean.flagged_defects:,} of the {clean.defects:,} wrong "
        f"answers and {clean.flagged_right:,} of the {clean.right:,} right ones; "
        + (
            f"of what passes, {found.passed_right / found.passed:.1%} is right."
            if found.passed
            else "nothing passes."
        )
    ]
    said.append(_told(found, clean, "Wrong answers are told from right ones"))
    attacks = [each for each in found.conditions if each.kind == "attack" and each.defects]
    if len(attacks) == 1:
        (only,) = attacks
        said.append(
            f"Under {only.title} its AUROC is {only.metrics[found.rule].auroc.value:.2f} "
            f"(MSP {only.metrics['msp'].auroc.value:.2f})."
        )
    elif attacks:
        own = [each.metrics[found.rule].auroc.value for each in attacks]
        worst = min(attacks, key=lambda each: each.metrics[found.rule].auroc.value)
        said.append(
            f"Under {len(attacks)} attacks its AUROC is {sum(own) / len(own):.2f} on average, and "
            f"lowest for {worst.title} ({min(own):.2f}; MSP "
            f"{worst.metrics['msp'].auroc.value:.2f})."
        )
    if found.views:
        many = len(found.views)
        said.append(
            f"For that the classifier is asked about {many} further view{'s' * (many > 1)} of each "
            f"image: {1 + many} forward passes in place of one."
        )
    return said


def _told(found: Assessment, each: Condition, what: str) -> str:
    own, best = each.metrics[found.rule].auroc, each.best.auroc
    lead = each.lead.auroc
    other = each.metrics[best].auroc.value
    if not math.isfinite(lead.low):
        verdict = "how it compares cannot be said"
    elif lead.low > 0:
        verdict = f"better than the best baseline, {TITLES[best]} ({other:.3f})"
    elif lead.high < 0:
        verdict = f"worse than the best baseline, {TITLES[best]} ({other:.3f})"
    else:
        verdict = (
            f"no different, within the interval, from the best baseline, {TITLES[best]} "
            f"({other:.3f})"
        )
    return f"{what} with AUROC {own.value:.3f} ({own.low:.3f} to {own.high:.3f}), {verdict}."


def doubts(found: Assessment) -> list[str]:
    """What stands where a conclusion would, if the data cannot carry one."""
    clean = found.clean
    said = []
    if clean.defects < FEWEST:
        said.append(
            f"Only {clean.defects} of the held-out images are misclassified: too few to say how "
            "well the guard finds them."
        )
    if found.threshold.useless:
        said.append(f"No threshold keeps the promise that {found.threshold.text}; all is flagged.")
    return said


def rule_story(found: Assessment) -> list[str]:
    """What the score is, and where it is cut."""
    parts, name = found.context.parts, found.rule
    plain = name.removeprefix("msp+")
    rules = {
        "typicality": "The score is how far the strengths of the concepts are from what they are, "
        "on average, in right answers of the predicted class, measured by how right answers vary "
        "within their class (distance of Mahalanobis, in the space of concepts). Wrong answers are "
        "not needed for it.",
        "cosine": "For each class there are two summary heatmaps: how often each concept is "
        "stronger than each other one in right answers, and in wrong ones. The score is how much "
        "more an image’s comparisons resemble the second than the first (cosines of heatmaps).",
        "likelihood": "For each class and each pair of concepts it is known how often the one is "
        "stronger than the other in right answers, and in wrong ones. The score is how much "
        "likelier an image’s comparisons are among wrong answers (mean log-ratio over the pairs).",
        "strengths": "The score is the log-odds of a wrong answer, by a logistic regression on how "
        "far the strengths of the concepts are from what is usual for the predicted class.",
    }
    said = [rules[plain]]
    if name != plain:
        said.append(
            "This is combined with the softmax: for either score it is told how rare it is among "
            "right answers, and the two rarities are added (Fisher’s method). Of the softmax "
            "both ends are rare: an answer much surer than right ones are is strange, too, and "
            "attacks give such answers."
        )
    if found.views:
        many = len(found.views) > 1
        said.append(
            f"The classifier is asked about {len(found.views)} further view{'s' * many} of each "
            f"image ({', '.join(found.views)}; a direction means moved by one pixel), a forward "
            f"pass {'each' if many else 'more'}. The softmax counts as the mean, over image and "
            f"view{'s' * many}, of the log-odds against the class predicted for the image. How "
            "much less sure it is otherwise, compared with right answers, is a third rarity; it "
            "counts as far as fewer than one right answer in five changes as much. A mistake that "
            "an attack has fitted to one image often does not outlive such a change."
        )
    cut = found.threshold
    said.append(
        f"Rules were fitted on {parts[0]:,} images, chosen on {parts[1]:,} others, and the "
        f"threshold was set on {parts[2]:,} further ones. It promises that {cut.text}, for images "
        "that are exchangeable with those. Attacked or drifting images are not."
    )
    if found.weak_classes and plain in ("cosine", "likelihood"):
        named = ", ".join(found.weak_classes[:8]) + (" …" if len(found.weak_classes) > 8 else "")
        said.append(
            f"{len(found.weak_classes)} classes had no wrong answer to learn from ({named}). For "
            "them, what a wrong answer looks like is taken from all classes together; for classes "
            "with few, it is drawn towards that."
        )
    return said


def measured_story(found: Assessment) -> list[str]:
    """What counts as a defect, and where intervals come from."""
    return [
        "Defects are positive, and the score is higher where the guard is more doubtful. As they "
        "are: misclassified images against right answers. Under an attack or a corruption: changed "
        "images that are misclassified, against right answers on images as they are.",
        "AUPR is average precision, so it depends on the share of defects. FPR@95 is given in both "
        "conventions. AURC is the mean, over all coverages, of the share of defects among the "
        "images of lowest score.",
        f"Intervals hold 95 % of {found.draws:,} bootstrap draws of the images; an image and what "
        "was made of it are drawn together. Bold marks the best value of a column, whether or not "
        "it differs from others beyond chance.",
    ]


def limits(found: Assessment) -> list[str]:
    """What the numbers do not show."""
    said = [
        "Attacks here do not know the guard: they only mislead the classifier. An adversary who "
        "knows the guard can attack both together.",
        "The guard reads what the last linear layer reads. What the encoder has already lost, it "
        "cannot see either.",
        "Relations of concepts are those of the classifier’s features read through a linear map. "
        f"On images held out the map explains {max(found.context.r2, 0):.0%} of what "
        f"{found.context.vlm} sees. A relation that speaks against an image need not be visible in "
        "it.",
    ]
    if found.context.limits:
        said.insert(0, found.context.limits)
    return said


def _provenance(found: Assessment) -> list[tuple[str, str]]:
    context = found.context
    pairs: list[tuple[str, str | None]] = [
        ("The guard’s command", context.command),
        ("Rule", found.rule),
        ("Further views", ", ".join(found.views)),
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
