"""The text of the page of a check, and its lines on a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from profiler.report.text import count, number, percent, plural, typeset
from profiler.spec.result import Checked, CheckedSpec, Final, OnRegion
from profiler.spec.verify.largest import PRECISION
from profiler.spec.verify.rates import LEVEL

WORDS = {
    "holds": "holds",
    "fails": "fails",
    "undecided": "undecided",
    "measured": "measured only",
    "proved": "proved",
    "violated": "counterexample",
}
"""The outcome of a spec or of a proof search, in words."""


def check_prose(found: Checked) -> dict[str, Any]:
    """The texts of the page, by the names that the template knows."""
    stories = {
        "summary": summary(found),
        "rate_story": rate_story(),
        "region_story": region_story(found),
        "proof_story": proof_story(),
        "limits": _limits(found),
        "warnings": found.warnings,
    }
    poor = found.map.warning and _names_concepts(found)
    return {
        "title": f"Specifications of {found.classifier.name}: which hold and which fail",
        "examined": _examined(found),
        "summary_author": "a fixed template",
        "map_warning": typeset(f"The linear alignment is poor: {found.map.warning}.")
        if poor
        else "",
        "command": found.command,
        "provenance": _provenance(found),
        **{name: [typeset(text) for text in story] for name, story in stories.items()},
    }


def _names_concepts(found: Checked) -> bool:
    return any(">(" in str(each.formula) for each in found.specs)


def _examined(found: Checked) -> list[tuple[str, str]]:
    pairs = [
        ("Classifier", found.classifier.name),
        ("Weights", found.classifier.weights),
        ("Parts", found.classifier.parts),
        ("Specs", f"{found.file.title}: {plural(len(found.specs), 'spec')}"),
        ("Images", f"{found.data.title}: {plural(found.data.images, 'image')}"),
        ("VLM", found.vlm.name),
        ("Regions", ", ".join(map(str, found.regions))),
        ("Date", found.date),
    ]
    return [(term, text) for term, text in pairs if text]


def summary(found: Checked) -> Iterator[str]:
    """The finding in two or three sentences."""
    total = len(found.specs)
    verbs: dict[Final, tuple[str, str]] = {
        "holds": ("holds", "hold"),
        "fails": ("fails", "fail"),
        "undecided": ("is undecided", "are undecided"),
        "measured": ("is only measured", "are only measured"),
    }
    parts = [
        f"{count(many)} {verbs[final][many != 1]}" for final, many in found.counts.items() if many
    ]
    yield f"Of {plural(total, 'spec')}, {_listed(parts)}."
    worst = min(
        (each for each in found.specs if each.rate.applicable.images),
        key=lambda each: each.rate.applicable.value,
        default=None,
    )
    if worst is not None:
        rate = worst.rate.applicable
        yield (
            f"On images, “{worst.spec.name}” has the lowest rate: it holds for "
            f"{percent(rate.holds, rate.images)} of the {plural(rate.images, 'image')} that it "
            "applies to."
        )
    on = [each for spec in found.specs for each in spec.regions]
    if on:
        proved = sum(each.outcome.verdict == "proved" for each in on)
        violated = sum(each.outcome.verdict == "violated" for each in on)
        left = len(on) - proved - violated
        sentence = (
            f"Of {plural(len(on), 'proof search', 'proof searches')} on whole regions, "
            f"{count(proved)} {'has' if proved == 1 else 'have'} a proof and {count(violated)} "
            f"{'has' if violated == 1 else 'have'} a counterexample"
        )
        verb = "is" if left == 1 else "are"
        yield f"{sentence}; {count(left)} {verb} undecided." if left else f"{sentence}."


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def rate_story() -> tuple[str, ...]:
    """What rates are, in sentences."""
    return (
        "The rate is the share of images for which the spec holds. An implication holds trivially "
        "for an image that does not satisfy its premise. So the page first gives the rate on the "
        "images to which the spec applies: those that satisfy the premise.",
        f"Intervals are {LEVEL:.0%} (Wilson), for independent images. Classes are those of the "
        "labels. The rate itself decides whether a requirement is met. If its interval includes "
        "the required rate, more images could change the verdict.",
        "predict(x, c) holds if no output is higher than that of c. >(x, a, b) holds if the cosine "
        "of the encoding, after the linear alignment, is larger with the words of a than with the "
        "words of b. Both are linear inequalities in the features, on images and on regions.",
    )


def region_story(found: Checked) -> tuple[str, ...]:
    """Which regions were searched, in sentences."""
    if not found.regions:
        return ("No region was searched. Proofs are made with --formal.",)
    classes = ", ".join(f"{label} {count(many)}" for label, many in found.region_images.items())
    kinds = _listed([each.said for each in found.regions])
    lines = [
        f"A region is a set of encodings around those of one class: {kinds}. It is computed from "
        f"the images with that label ({classes}). A spec is checked on the regions of the classes "
        "that it predicts. If it predicts none, it is checked on the regions of all classes.",
    ]
    if any(each.kind in ("box", "max") for each in found.regions):
        lines.append(
            "Boxes are cut at 0, because no feature of any image is negative, as after an averaged "
            "ReLU."
            if found.positive
            else "Boxes are not cut at 0, because some features are negative."
        )
    if any(each.kind == "max" for each in found.regions):
        lines.append(
            "The largest γ is found by bisection between a γ that is proved and one that is not, "
            f"to within {PRECISION:.1%}. The proved γ is reported."
        )
    return tuple(lines)


def proof_story() -> tuple[str, ...]:
    """What the three verdicts mean, in sentences."""
    return (
        "Proved: the spec holds for every point of the region, not only for images. Each way in "
        "which the spec could fail was refuted by weights whose sum of rows is nowhere positive, "
        "by more than rounding. certificates.json holds these weights. profiler check --verify "
        "computes the sums again in rational arithmetic, without a solver.",
        "Violated: the spec fails at a point of the region, the counterexample, which was "
        "evaluated again. It is an encoding, not an image. Whether an image has this encoding is "
        "not known. Its margin is the distance in feature space to the nearest plane beyond which "
        "it is no longer a counterexample. The page shows the nearest real images, with their "
        "distance in units of the class’s spread (the root mean square distance of its encodings "
        "from their mean).",
        "Undecided: the time limit was reached, the sign of a number is within rounding, or the "
        "outcome depends on an annotation. Undecided specs are never counted as proved.",
    )


def _limits(found: Checked) -> list[str]:
    limits = [
        "Proofs are about the head and the linear alignment, as 64-bit numbers, over a set of "
        "encodings. They do not cover encodings outside the region. They do not cover how the "
        "encoder computes encodings from images.",
        "A concept is what the VLM understands by its words, after a linear alignment of the "
        f"classifier’s features (R² {number(found.map.r2, 2)} on held-out images). If the "
        "alignment is poor, a spec about concepts says little about the images.",
        "The linear alignment was fitted, without labels, on the images that the rates are "
        "measured on.",
    ]
    if found.vlm.limits:
        limits.insert(0, found.vlm.limits)
    return limits


def _provenance(found: Checked) -> list[tuple[str, str]]:
    pairs = [
        ("Settings", ", ".join(f"{name} {value}" for name, value in found.settings.items())),
        ("Preprocessing", found.classifier.preprocessing),
        ("Linear alignment fitted on", plural(found.map.images, "image")),
        ("Model fingerprint", found.classifier.fingerprint),
        ("VLM fingerprint", found.vlm.fingerprint),
        ("Data fingerprint", found.data.fingerprint),
        ("Files not read", ", ".join(name for name, _ in found.data.skipped[:5])),
        ("Versions", ", ".join(f"{name} {v}" for name, v in found.versions.items())),
        ("Seconds", ", ".join(f"{stage} {value:.1f}" for stage, value in found.timings.items())),
    ]
    return [(term, text) for term, text in pairs if text]


# --- on a terminal -------------------------------------------------------------------------------


def check_table(found: Checked) -> Iterator[str]:
    """A line for each spec, and one for each region that is not proved."""
    width = max((len(each.spec.name) for each in found.specs), default=0)
    for each in found.specs:
        yield f"{WORDS[each.final]:<13}  {each.spec.name:<{width}}  {_rates(each)}{_formal(each)}"
        for region in each.regions:
            if region.outcome.verdict != "proved":
                yield f"{'':<15}{region.outcome.verdict} on {region.region} of {region.label}" + (
                    f": {_why(region)}"
                )


def _rates(each: CheckedSpec) -> str:
    rate, applicable = each.rate.rate, each.rate.applicable
    text = f"{rate.value:6.1%} of {rate.images:,}"
    if applicable != rate and applicable.images:
        text += f", {applicable.value:6.1%} of the {applicable.images:,} it applies to"
    if each.rate.outcome:
        text += f" ({each.rate.outcome})"
    return text


def _formal(each: CheckedSpec) -> str:
    if not each.regions:
        return ""
    gammas = [one.largest.gamma for one in each.regions if one.largest]
    least = min((gamma for gamma in gammas if gamma is not None), default=None)
    largest = f", γ up to {least:.3g}" if least is not None and None not in gammas else ""
    return f"; {each.formal} in {sum(one.seconds for one in each.regions):.2f} s{largest}"


def _why(region: OnRegion) -> str:
    if region.outcome.reason:
        return region.outcome.reason
    shown = region.shown
    if shown is None:
        return "a counterexample"
    nearest = f", nearest image {shown.nearest[0].name}" if shown.nearest else ""
    return f"margin {shown.margin:.3g}, predicted class {shown.seen.predicted}{nearest}"
