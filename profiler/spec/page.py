"""Checked specs told as a page, and as lines on a terminal."""

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
"""How a spec ended, or a search, in words."""


def check_prose(found: Checked) -> dict[str, Any]:
    """What the page says of a check, by the names that the template knows."""
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
        "title": f"What {found.classifier.name} must respect, and whether it does",
        "examined": _examined(found),
        "summary_author": "a fixed template",
        "map_warning": typeset(f"Poor map into the VLM’s space: {found.map.warning}.")
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
        (
            "Parts",
            f"encoder of {count(found.classifier.features)} features; head "
            f"{found.classifier.head}, {plural(found.classifier.outputs, 'class', 'classes')}",
        ),
        ("Specs", f"{found.file.title}: {plural(len(found.specs), 'spec')}"),
        ("Images", f"{found.data.title}: {plural(found.data.images, 'image')}"),
        ("Concepts known to", found.vlm.name),
        ("Regions", ", ".join(map(str, found.regions))),
        ("Date", found.date),
    ]
    return [(term, text) for term, text in pairs if text]


def summary(found: Checked) -> Iterator[str]:
    """Two or three sentences that say the finding."""
    total = len(found.specs)
    verbs: dict[Final, tuple[str, str]] = {
        "holds": ("holds", "hold"),
        "fails": ("fails", "fail"),
        "undecided": ("stays undecided", "stay undecided"),
        "measured": ("was only measured", "were only measured"),
    }
    numbers = {final: len(found.of(final)) for final in verbs}
    parts = [f"{count(many)} {verbs[final][many != 1]}" for final, many in numbers.items() if many]
    yield f"Of {plural(total, 'spec')}, {_listed(parts)}."
    worst = min(
        (each for each in found.specs if each.rate.applicable.images),
        key=lambda each: each.rate.applicable.value,
        default=None,
    )
    if worst is not None:
        rate = worst.rate.applicable
        yield (
            f"On images, “{worst.spec.name}” holds least: for {percent(rate.holds, rate.images)} "
            f"of the {count(rate.images)} that it applies to."
        )
    on = [each for spec in found.specs for each in spec.regions]
    if on:
        proved = sum(each.outcome.verdict == "proved" for each in on)
        violated = sum(each.outcome.verdict == "violated" for each in on)
        left = len(on) - proved - violated
        sentence = (
            f"Of {plural(len(on), 'question')} about whole regions, {count(proved)} "
            f"{'is' if proved == 1 else 'are'} proved and {count(violated)} "
            f"{'has' if violated == 1 else 'have'} a counterexample"
        )
        yield f"{sentence}; {count(left)} stay undecided." if left else f"{sentence}."


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def rate_story() -> tuple[str, ...]:
    """What rates are, in sentences."""
    return (
        "The rate is the share of images of which the spec holds. An implication holds of every "
        "image that its premise does not fit, without saying anything: so “applies” counts the "
        "images that it speaks of, and the rate among them stands first.",
        f"Intervals are {LEVEL:.0%} by Wilson, for images drawn independently. Classes are those "
        "of the labels. A requirement is met or not by the rate itself; where its interval spans "
        "the requirement, more images could turn the verdict.",
        "predict(x, c): no output is higher than that of c. >(x, a, b): the cosine of the "
        "encoding, through the map, with the words of a is larger than with those of b. Both are "
        "read as linear rows in the features, on images and on regions alike.",
    )


def region_story(found: Checked) -> tuple[str, ...]:
    """Which regions were searched, in sentences."""
    if not found.regions:
        return ("No region was searched: --formal asks for proofs.",)
    classes = ", ".join(f"{label} {count(many)}" for label, many in found.region_images.items())
    kinds = _listed([each.said for each in found.regions])
    said = [
        f"A region holds encodings like those of one class: {kinds}, by the images that are "
        f"labelled so ({classes}). A spec is asked about the regions of the classes that it "
        "predicts; if it predicts none, about those of all.",
    ]
    if any(each.kind in ("box", "max") for each in found.regions):
        said.append(
            "Boxes are cut at 0, as no feature of any image is negative: the encoder ends in an "
            "averaged ReLU or the like."
            if found.positive
            else "Boxes are not cut at 0: some features are negative."
        )
    if any(each.kind == "max" for each in found.regions):
        said.append(
            "The largest γ is found by bisection between one that is proved and one that is not, "
            f"to within {PRECISION:.1%}; the proved one is given."
        )
    return tuple(said)


def proof_story() -> tuple[str, ...]:
    """What the three verdicts mean, in sentences."""
    return (
        "Proved: for every point of the region, not only for images. Each way in which the spec "
        "could fail was refuted by weights whose sum of rows is nowhere positive, beyond all "
        "rounding; certificates.json holds them, and profiler check --verify computes the sums "
        "again in rational arithmetic, without a solver.",
        "Violated: a point of the region was found at which the spec fails, and evaluated again. "
        "It is an encoding, not an image; whether an image has this encoding is not known. Its "
        "margin is the distance in feature space to the nearest plane at which it would end to be "
        "one. The real images nearest to it stand beside it, with their distance in units of the "
        "class’s spread (the root mean square distance of its encodings from their mean).",
        "Undecided: time ran out, the sign of a number is within rounding, or the answer hangs on "
        "an annotation. It is never counted as proved.",
    )


def _limits(found: Checked) -> list[str]:
    limits = [
        "Proofs are about the head and the map, as numbers of 64 bits, over a set of encodings. "
        "They say nothing of encodings outside the region, nor of how the encoder makes them from "
        "images.",
        "A concept is what the VLM understands by its words, seen through an affine map from the "
        f"classifier’s features (R² {number(found.map.r2, 2)} on held-out images). Where the map "
        "is poor, a spec about concepts says little about the images.",
        "The map was fitted, without labels, on the same images that the rates are of.",
    ]
    if found.vlm.limits:
        limits.insert(0, found.vlm.limits)
    return limits


def _provenance(found: Checked) -> list[tuple[str, str]]:
    pairs = [
        ("Settings", ", ".join(f"{name} {value}" for name, value in found.settings.items())),
        ("Preprocessing", found.classifier.preprocessing),
        ("Map fitted on", plural(found.map.images, "image")),
        ("Model fingerprint", found.classifier.fingerprint),
        ("VLM fingerprint", found.vlm.fingerprint),
        ("Data fingerprint", found.data.fingerprint),
        ("Not read", ", ".join(name for name, _ in found.data.skipped[:5])),
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
    said = f"{rate.value:6.1%} of {rate.images:,}"
    if applicable != rate and applicable.images:
        said += f", {applicable.value:6.1%} of the {applicable.images:,} it applies to"
    if each.rate.outcome:
        said += f" ({each.rate.outcome})"
    return said


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
    return f"margin {shown.margin:.3g}, there predicted {shown.seen.predicted}{nearest}"
