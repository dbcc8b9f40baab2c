"""What people's ratings do to a finished run: its threshold, its report, and a page of their own.

The story is told in :func:`calibrate_run`. Nothing here reads an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from profiler.core.statistics import Interval
from profiler.core.store import write_atomically
from profiler.errors import CheckFailed, InputError, OutputError, ProfilerError, Undecided
from profiler.models.vlm.base import TextEncoder
from profiler.profile.result import ProfileRun, load_run
from profiler.profile.run import ProfileOptions, rewrite_run, sort_labels, with_summary
from profiler.profile.threshold import ExpectedRating, Threshold, threshold_json
from profiler.rate.book import RatingBook, read_file
from profiler.rate.calibration import (
    DRAWS,
    MINIMUM_ABOVE,
    TARGET,
    Calibration,
    RatedLayer,
    calibrate,
    isotonic,
)
from profiler.rate.page import render_calibration, verdict
from profiler.rate.ratings import CONFIDENCE
from profiler.rate.views import (
    ScoredLayer,
    View,
    context_of,
    file_name,
    option,
    scored_layers,
    with_threshold,
)
from profiler.session import NONE, Services, check_writable


@dataclass(frozen=True)
class CalibrationOptions:
    """How ratings are read."""

    view: View = "peak"
    ratings: Path | None = None
    """File of ratings; None takes the run's own."""
    target: float = TARGET
    minimum_above: int = MINIMUM_ABOVE
    weighted: bool = True
    isotonic: bool = False
    draws: int = DRAWS
    seed: int = 0


@dataclass(frozen=True)
class Calibrated:
    """What :func:`calibrate_run` found and wrote."""

    run: ProfileRun
    found: Calibration
    expected: ExpectedRating | None

    @property
    def verdict(self) -> ProfilerError | None:
        """The error that says why there is no τ; None where there is one."""
        text = " ".join(verdict(self.found))
        if self.found.outcome == "reached":
            return None
        return CheckFailed(text) if self.found.outcome == "unreachable" else Undecided(text)


def calibrate_run(
    folder: Path,
    how: CalibrationOptions,
    options: ProfileOptions,
    texts: TextEncoder,
    services: Services = NONE,
) -> Calibrated:
    """Set the threshold of the run in ``folder`` from ratings, and redo its profile and report.

    ``calibration.html`` is written in any case; threshold, profile and report only where the
    ratings give a τ. Of the range it is ``calibration-range.html``, and so are the other files.
    """
    run, view = load_run(folder), how.view
    book = RatingBook(folder, run, view)
    ratings = book.ratings
    source = book.path.name
    if how.ratings is not None:
        ratings = book.read(read_file(how.ratings), str(how.ratings))
        source = str(how.ratings)
    if not ratings:
        raise InputError(
            f"nobody has rated the run in {str(folder)!r} yet; begin with: "
            f"profiler rate {folder}{option(view)}"
        )
    check_writable(folder)
    layers = scored_layers(run, view)
    found = calibrate(
        layers,
        ratings,
        target=how.target,
        minimum_above=how.minimum_above,
        weighted=how.weighted,
        draws=how.draws,
        seed=how.seed,
        view=view,
    )
    called = options.provenance
    expected = isotonic(found.rated, seed=how.seed) if how.isotonic else None
    page = render_calibration(
        run,
        found,
        expected,
        source=source,
        command=called.command,
        date=called.date,
    )
    write_atomically(folder / file_name("calibration.html", view), page)
    if expected is not None:
        csv = expected_csv(layers, expected, "similarity" if view == "peak" else "r")
        write_atomically(folder / file_name("expected_ratings.csv", view), csv)
    if found.outcome == "reached":
        basis = replace(found.basis, command=called.command, date=called.date)
        threshold = Threshold(found.tau, "ratings", context_of(run, view), ratings=basis)
        # The judgement first: it may fail, and then the folder is as it was.
        run = rejudge(with_threshold(run, threshold, view), folder, options, texts, services)
        written = threshold_json(threshold, expected)
        write_atomically(folder / file_name("threshold.json", view), written)
    return Calibrated(run, found, expected)


def rejudge(
    run: ProfileRun,
    folder: Path,
    options: ProfileOptions,
    texts: TextEncoder,
    services: Services = NONE,
) -> ProfileRun:
    """Redo profile and report of the run in ``folder``, which has got another threshold.

    Words that are sorted already keep their category. Where the new threshold trusts words that
    nobody sorted, all are sorted anew, as ``options``, ``texts`` and ``services`` say.
    """
    trusted = {word for layer in run.layers for word in run.trusted_words(layer)}
    leading = {word for layer in run.ranges for word in run.leading_words(layer) if word}
    if trusted | leading <= run.sorting.category.keys():
        run = with_summary(run, services.llm, options.prompts)
    else:
        run = sort_labels(run, options, texts, services)
    rewrite_run(run, folder, options.max_report_mb, options.report_dir)
    return run


def expected_csv(layers: Sequence[ScoredLayer], expected: ExpectedRating, score_name: str) -> str:
    """A row a unit with its expected rating; the content of ``expected_ratings.csv``."""
    lines = [f"layer,unit,{score_name},expected_rating"]
    for layer in layers:
        name = f'"{layer.layer}"' if "," in layer.layer else layer.layer
        rated = expected(layer.score)
        for unit, (score, value) in enumerate(zip(layer.score, rated, strict=True)):
            known = not np.isnan(score)
            lines.append(f"{name},{unit},{score:.6g},{value:.4f}" if known else f"{name},{unit},,")
    return "\n".join([*lines, ""])


def calibrated_json(done: Calibrated, folder: Path) -> dict[str, Any]:
    """The result for machines: open ends of intervals and missing numbers are null."""
    found = done.found
    threshold = done.run.threshold if found.view == "peak" else done.run.range_threshold
    return {
        "outcome": found.outcome,
        "message": " ".join(verdict(found)),
        "target": found.target,
        "threshold": _known(found.tau),
        "interval": [_known(found.low), _known(found.high)],
        "confidence": CONFIDENCE,
        "weighted": found.weighted,
        "rated_units": len(found.rated),
        "ratings": found.ratings,
        "skipped": found.skipped,
        "raters": [
            {"name": name, "ratings": number, "mean": mean} for name, number, mean in found.raters
        ],
        "agreement": {
            "alpha": found.agreement.alpha,
            "interval": [found.agreement.low, found.agreement.high],
            "units": found.agreement.units,
            "same": found.agreement.same,
        },
        "total": _row_json(found.total),
        "layers": [_row_json(row) for row in found.layers],
        "expected_rating": None if done.expected is None else {
            "score": done.expected.score.tolist(),
            "rating": done.expected.rating.tolist(),
            "squared_error": done.expected.error,
            "squared_error_of_the_mean": done.expected.error_constant,
        },
        "run_threshold": None if threshold is None else threshold.value,
        "calibration": str(folder / file_name("calibration.html", found.view)),
        "report": str(folder / "report.html"),
    }  # fmt: skip


def _row_json(row: RatedLayer) -> Mapping[str, Any]:
    return {
        "layer": row.layer,
        "units": row.units,
        "scored": row.scored,
        "rated": row.rated,
        "rated_above": row.rated_above,
        "mean": _interval_json(row.overall),
        "mean_above": _interval_json(row.above),
        "mean_below": _interval_json(row.below),
        "interpretable": row.interpretable,
        "share": _known(row.share),
        "share_interval": [_known(row.share_low), _known(row.share_high)],
    }


def _interval_json(interval: Interval) -> list[float | None]:
    return [_known(interval.value), _known(interval.low), _known(interval.high)]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def export_ratings(folder: Path, path: Path, view: View = "peak") -> int:
    """Write the ratings that stand to a file of their own; how many they are."""
    book = RatingBook(folder, view=view)
    if path.exists():
        raise OutputError(f"{str(path)!r} exists already; ratings are not written over a file")
    write_atomically(path, book.export())
    return len(book.ratings)
