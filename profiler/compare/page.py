"""A comparison of runs told as a page."""

from collections.abc import Sequence

from profiler.compare.result import ALPHA, Comparison
from profiler.compare.view import ComparePage
from profiler.llm.base import Usage
from profiler.llm.narrate import Narrative
from profiler.profile.page import measured_with
from profiler.profile.result import ProfileRun
from profiler.profile.sorting.sorting import Sorting
from profiler.profile.threshold import Threshold
from profiler.report.text import typeset


def compare_page(
    comparison: Comparison,
    runs: Sequence[ProfileRun],
    sorting: Sorting,
    summary: Narrative,
    *,
    command: str,
    date: str,
    seed: int,
) -> ComparePage:
    """The page of a comparison.

    Args:
        comparison: what was found.
        runs: those compared, in its order.
        sorting: who sorted the words.
        summary: the finding in words.
        command: as given.
        date: of the comparison.
        seed: of draws and null distribution.
    """
    names = [run.name for run in comparison.runs]
    title = (
        f"What changed from {names[0]} to {names[-1]}, over {len(names)} checkpoints"
        if comparison.timeline
        else f"What differs between {' and '.join(names) if len(names) == 2 else _listed(names)}"
    )
    return ComparePage(
        title=title,
        examined=_examined(runs[0], date),
        run_examined=[_own(run, comparison.runs[i].step) for i, run in enumerate(runs)],
        summary=(typeset(summary.text),),
        summary_author=summary.author,
        comparison=comparison,
        image_names=runs[0].image_names,
        thumbnails={index: picture for run in runs for index, picture in run.thumbnails.items()},
        cut_story=[typeset(text) for text in cut_story(comparison)],
        prior_story=[typeset(text) for text in prior_story(comparison)],
        noise_story=[typeset(text) for text in noise_story(comparison)],
        sorter_story=[typeset(text) for text in sorter_story(sorting)],
        command=command,
        provenance=_provenance(comparison, runs, sorting, summary, seed),
        limits=[typeset(text) for text in _limits(runs[0])],
        warnings=[typeset(text) for text in comparison.warnings],
    )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) < 4 else f"{len(names)} runs"


def _examined(run: ProfileRun, date: str) -> list[tuple[str, str]]:
    pairs = measured_with(run.record)
    if run.record.similarity:
        pairs.append(("Similarity", run.record.similarity.text))
    return [*pairs, ("Date", date)]


def _own(run: ProfileRun, step: float | None) -> list[tuple[str, str]]:
    subject = run.record.subject
    pairs = [("Model", subject.name), ("Weights", subject.weights)]
    if step is not None:
        pairs.append(("Step", f"{step:g}"))
    return pairs


def cut_story(comparison: Comparison) -> tuple[str, ...]:
    """Where the cut came from, in sentences."""
    threshold = comparison.runs[0].threshold
    if comparison.own_thresholds:
        cuts = "; ".join(f"{run.name} {run.threshold.text()}" for run in comparison.runs)
        return (
            f"Each run has a threshold of its own ({cuts}). A share may differ because the "
            "thresholds do: a common threshold compares more fairly.",
        )
    cut = f"All runs are cut at the same {threshold.text()}"
    if threshold.confirms:
        return _confirmed_story(threshold, cut)
    if threshold.source == "given":
        return (f"{cut}, given with the command.",)
    if threshold.ratings is not None:
        return (f"{cut}, which people’s ratings of such labels set.",)
    if threshold.fdr is None:
        return (
            "At no threshold are 95 % of the labels above it expected to be more than chance, so "
            "none is trusted in any of the runs.",
        )
    return (
        f"{cut}: the lowest score above which at most 5 % of the labels of all runs together are "
        f"expected to be chance (estimated: {threshold.fdr:.1%}), by the scores that random lists "
        "of probe images reach.",
        "A label above the threshold fits better than chance; it need not be correct. In a "
        "run with few trusted labels more than 5 % of its own may be chance.",
    )


def _confirmed_story(threshold: Threshold, cut: str) -> tuple[str, ...]:
    how = (
        "Labels were chosen on one half of the images and tested on the other, and the reverse: z "
        "says how much nearer a unit’s strongest images there are to the label than images are in "
        "general."
    )
    if threshold.fdr is None:
        return (how, "In none of the runs does any label hold on the other half.")
    return (
        how,
        f"{cut}: the lowest z at which at most 5 % of the confirmed labels of all runs together "
        "are expected to be chance (Benjamini–Hochberg).",
        "A confirmed label says that a unit’s strongest images have it in common, on other images "
        "as well. It does not say that the unit responds to nothing else.",
    )


def prior_story(comparison: Comparison) -> tuple[str, ...]:
    """What the concept priors refer to, in sentences."""
    if comparison.prior == "none":
        return ("With this similarity, a unit’s score does not depend on other units.",)
    if comparison.prior == "shared":
        return (
            "A concept counts for less where many units of a layer like it. What counts as many is "
            "the same for all runs: a layer’s units were scored together with those of the layer "
            "of the same name in every other run. So a label here may differ from the one in the "
            "run’s own report, where it was scored with its own layer alone.",
        )
    return (
        "A concept counts for less where many units of a layer like it, and each run was scored by "
        "itself. So a label may have changed because other units of its layer did.",
    )


def noise_story(comparison: Comparison) -> tuple[str, ...]:
    """How differences were tested, in sentences."""
    tests = (
        "Each difference of shares was tested exactly, over all permutations of the units: "
        "matched units by exchanging before and after (McNemar), other units by permuting them "
        "between the two runs (Fisher). Of the differences called significant, at most "
        f"{ALPHA:.0%} are expected to be chance (Benjamini–Hochberg over all of this "
        "page). Whiskers are 95 % intervals by Newcombe."
    )
    if not comparison.draws:
        return (
            tests,
            "No noise floor: how much the same network would differ on other images is not known, "
            "because activations were not kept.",
        )
    return (
        tests,
        f"Noise: the probe images were resampled {comparison.draws} times with replacement, and "
        "all units were labelled again. The noise floor of a network is the difference below "
        "which 95 % of the pairs of its samples stay; the larger one of the two networks counts. "
        "A difference within it could be one between two sets of images. Both networks saw the "
        "same images, so the floor errs on the high side.",
        "Units of the same number are matched, unless their activations show that training "
        "shuffled them: then they are matched so that the sum of the correlations of their "
        "activations is largest (Hungarian method).",
    )


def sorter_story(sorting: Sorting) -> tuple[str, ...]:
    """Who sorted the words, in sentences."""
    words = len(sorting.category)
    if not words:
        return ("No label is trusted, so none was sorted into a category.",)
    opening = f"{words:,} different words, those of the draws included, were sorted by "
    return (f"{opening}{sorting.sorter}.", *sorting.notes)


def _limits(run: ProfileRun) -> list[str]:
    limits = [
        "A label names what the unit’s strongest images have in common, as far as the concept set "
        "has a word for it. A changed label need not mean a changed unit: of two words that fit "
        "alike, either may win. The correlation of activations tells the two apart.",
        "Runs are compared on one set of images. What the networks do on others is not known.",
        "CKA measures how similarly two layers arrange the images, whatever their units are "
        "called; it does not show which of the two is better.",
    ]
    if run.record.vlm and run.record.vlm.limits:
        limits.insert(0, run.record.vlm.limits)
    return limits


def _provenance(
    comparison: Comparison,
    runs: Sequence[ProfileRun],
    sorting: Sorting,
    summary: Narrative,
    seed: int,
) -> list[tuple[str, str]]:
    record = runs[0].record
    usage = sorting.usage + summary.usage
    similarity = record.similarity
    pairs: list[tuple[str, str | None]] = [
        ("Seed", str(seed)),
        ("Bootstrap draws", str(comparison.draws)),
        (
            "Null draws a layer",
            f"{similarity.null_draws:,}" if similarity and similarity.null_draws else None,
        ),
        ("Top images a unit", str(similarity.top) if similarity and similarity.top else None),
        ("Language model", sorting.provenance.get("llm")),
        ("Language model used", typeset(str(usage)) if usage != Usage() else None),
        *(
            (f"Fingerprint of {own.name}", run.record.subject.fingerprint)
            for own, run in zip(comparison.runs, runs, strict=True)
        ),
        *(
            (f"Command of {own.name}", run.record.command)
            for own, run in zip(comparison.runs, runs, strict=True)
        ),
        (
            "Fingerprint of the annotations"
            if record.vlm and record.vlm.annotated
            else "VLM fingerprint",
            record.vlm.fingerprint if record.vlm else None,
        ),
        ("Probe fingerprint", record.probe.fingerprint if record.probe else None),
        ("Concept fingerprint", record.concepts.fingerprint if record.concepts else None),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]
    return [(term, text) for term, text in pairs if text]
