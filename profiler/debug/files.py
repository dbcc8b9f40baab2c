"""A diagnosis as files: ``diagnosis.json``, ``heatmaps.npz`` and the linear alignment."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

from profiler.concepts.heatmap import Differential, Heatmap
from profiler.concepts.space import AffineMap
from profiler.core.json_text import json_text, plain
from profiler.debug.encoder_or_head import Shares
from profiler.debug.result import LEVELS, Accuracy, Confusion, Diagnosis, WrongImage

FORMAT = 1
"""Version of ``diagnosis.json`` and of ``heatmaps.npz``."""


def diagnosis_json(found: Diagnosis) -> str:
    """The content of ``diagnosis.json``; what is not known is null."""
    content = {
        "format": FORMAT,
        "command": found.command,
        "date": found.date,
        "classifier": found.classifier,
        "data": found.data,
        "vlm": found.vlm,
        "concepts": {**plain(found.concepts), "words": found.words},
        "classes": found.classes,
        "change": found.change,
        "before": _accuracy(found.before),
        "after": _accuracy(found.after),
        "confusion": [
            [int(true), int(predicted), int(found.confusion[true, predicted])]
            for true, predicted in np.argwhere(found.confusion)
        ],
        "map": {
            **plain(found.quality),
            "aligned": _accuracy(found.quality.aligned),
            "vlm": _accuracy(found.quality.vlm),
        },
        "level": found.level,
        "rule": found.rule,
        "rules": {
            name: {**_shares(each.found.total), "reason": each.reason}
            for name, each in found.rules.items()
        },
        "findings": _findings(found, found.differential(None)),
        "classes_examined": [
            {
                "class": label,
                "right": _count(found.heatmaps["encoder"].summary(label=label, right=True)),
                "wrong": _count(found.heatmaps["encoder"].summary(label=label, right=False)),
                "findings": _findings(found, found.differential(label)),
            }
            for label in found.present
        ],
        "confusions": [_confusion(found, each) for each in found.confusions],
        "images": [_image(each) for each in found.images],
        "summary": found.told,
        "warnings": found.warnings,
        "settings": found.settings,
        "versions": found.versions,
        "timings": found.timings,
        "usage": found.usage.to_json(),
    }
    return json_text(content)


def _count(heat: Heatmap | None) -> int:
    return 0 if heat is None else heat.count


def _accuracy(counts: Accuracy) -> dict[str, Any]:
    return {"right": counts.correct, "images": counts.images, "share": counts.share}


def _shares(shares: Shares) -> dict[str, Any]:
    return {
        **plain(shares),
        "head_share": shares.head_share,
        "head_interval": shares.interval(),
        "verdict": shares.verdict,
    }


def _findings(found: Diagnosis, differential: Differential | None) -> list[dict[str, Any]] | None:
    """Null where there is nothing to compare; an empty list where nothing was found."""
    if differential is None:
        return None
    return [
        {**plain(each), "more": found.words[each.more], "less": found.words[each.less]}
        for each in differential.findings()
    ]


def _confusion(found: Diagnosis, each: Confusion) -> dict[str, Any]:
    return {
        "true": each.true,
        "predicted": each.predicted,
        "errors": each.errors,
        "rules": {name: _shares(shares) for name, shares in each.shares.items()},
        "findings": _findings(found, each.differential[found.level]),
        "told": each.told,
    }


def _image(each: WrongImage) -> dict[str, Any]:
    """All but the strengths, which are among the heatmaps."""
    return {name: value for name, value in vars(each).items() if name != "strengths"}


def heatmaps_npz(found: Diagnosis) -> bytes:
    """The content of ``heatmaps.npz``: G summaries for each level, and the strengths of errors.

    ``concepts`` (M,) and ``classes`` (C,)
        names.
    ``true``, ``predicted`` (G,)
        classes of a summary's images; −1: any.
    ``right`` (G,)
        1 of correct predictions, 0 of incorrect ones.
    ``encoder_wins``, ``vlm_wins`` (G, M, M)
        images in which i is stronger than j.
    ``encoder_ties``, ``vlm_ties`` (G, M, M)
        images in which they are equal.
    ``count`` (G,)
        images. The summary is (wins + ties / 2) / count; a differential is a summary of correct
        predictions less one of incorrect ones.
    ``image``, ``strengths`` (E,), (E, M)
        misclassified images by their number in ``diagnosis.json``, and their concepts' strengths
        at the level of the encoder.
    """
    groups: list[tuple[int, int, int, list[Heatmap]]] = []

    def add(true: int, predicted: int, right: bool, heats: list[Heatmap | None]) -> None:
        known = [heat for heat in heats if heat is not None]
        if len(known) == len(LEVELS):
            groups.append((true, predicted, int(right), known))

    def summaries(**wanted: Any) -> list[Heatmap | None]:
        return [found.heatmaps[level].summary(**wanted) for level in LEVELS]

    for right in (True, False):
        add(-1, -1, right, summaries(right=right))
    for label in range(len(found.classes)):
        add(label, label, True, summaries(label=label, right=True))
        add(label, -1, False, summaries(label=label, right=False))
        add(-1, label, False, summaries(label=label, by="predicted", right=False))
    for each in found.confusions:
        add(each.true, each.predicted, False, [each.wrong[level] for level in LEVELS])

    m = len(found.words)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "format": np.array(FORMAT),
        "concepts": np.array(found.words),
        "classes": np.array(found.classes),
        "true": np.array([group[0] for group in groups], dtype=np.int32),
        "predicted": np.array([group[1] for group in groups], dtype=np.int32),
        "right": np.array([group[2] for group in groups], dtype=np.int8),
        "count": np.array([group[3][0].count for group in groups], dtype=np.int64),
        "image": np.array([each.image for each in found.images], dtype=np.int64),
        "strengths": np.array([each.strengths for each in found.images], dtype=np.float32).reshape(
            -1, m
        ),
    }
    for place, level in enumerate(LEVELS):
        for what in ("wins", "ties"):
            cells = [getattr(group[3][place], what) for group in groups]
            arrays[f"{level}_{what}"] = np.array(cells, dtype=np.int32).reshape(-1, m, m)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def map_file(aligned: AffineMap, context: Mapping[str, str]) -> bytes:
    """The linear alignment as safetensors, with the fingerprints of what it belongs to.

    Args:
        aligned: fitted.
        context: fingerprints of classifier and VLM.
    """
    # One entry: the library writes several in an order of its own, a new one each time.
    metadata = {"context": json_text(dict(sorted(context.items())), None)}
    # The library writes an array's memory as it lies: of one that is transposed, other numbers.
    dense = {name: np.ascontiguousarray(array) for name, array in aligned.to_arrays().items()}
    content: bytes = save(dense, metadata=metadata)
    return content
