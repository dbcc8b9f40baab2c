"""A pass over the probe images, made once: kept under everything that decides its outcome."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from profiler.activations import LayerTops
from profiler.collect import Advance, Collected, Skipped, collect
from profiler.inputs import ProbeSet
from profiler.store import Store
from profiler.subject import Layer, Subject
from profiler.vlm import VLM

VERSION = 1
"""Changes whenever the same networks on the same images may bring home something else."""
KEPT_LENGTH = 100
"""Length of the top lists that are kept, so that another ``--top`` needs no new pass."""


def collect_once(
    subject: Subject,
    layers: Sequence[Layer],
    vlm: VLM,
    probe: ProbeSet,
    *,
    top: int,
    store: Store | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    allow_bad: bool = False,
    advance: Advance = lambda _: None,
) -> Collected:
    """The outcome of :func:`~profiler.collect.collect`, from ``store`` where it has been made.

    Neither ``batch_size`` nor ``workers`` is part of the key: they change nothing but the last
    bits of a sum. A pass with unreadable images is kept only if it was allowed to finish.
    """
    length = max(top, KEPT_LENGTH)
    key = {
        "version": VERSION,
        "torch": torch.__version__,
        "subject": subject.fingerprint,
        "layers": [[layer.name, layer.pooling] for layer in layers],
        "vlm": vlm.fingerprint,
        "probe": probe.fingerprint,
        "length": length,
        "allow_bad": allow_bad,
    }
    kept = store.get("passes", key) if store else None
    if kept is not None:
        found = _from_arrays(kept, layers)
        advance(len(probe.names))
        return found
    found = collect(
        subject,
        layers,
        vlm,
        probe,
        length=length,
        batch_size=batch_size,
        workers=workers,
        allow_bad=allow_bad,
        advance=advance,
    )
    if store:
        store.put("passes", key, _to_arrays(found))
    return found


def _to_arrays(found: Collected) -> dict[str, NDArray[Any]]:
    skipped = json.dumps([[item.name, item.reason] for item in found.skipped])
    arrays: dict[str, NDArray[Any]] = {
        "embeddings": found.embeddings,
        "kept": found.kept,
        "skipped": np.frombuffer(skipped.encode(), dtype=np.uint8),
        "batch_size": np.array([found.batch_size]),
    }
    for place, tops in enumerate(found.tops):
        arrays[f"{place}.images"] = tops.images
        arrays[f"{place}.activations"] = tops.activations
        arrays[f"{place}.dead"] = tops.dead
    return arrays


def _from_arrays(arrays: dict[str, NDArray[Any]], layers: Sequence[Layer]) -> Collected:
    return Collected(
        tuple(
            LayerTops(
                layer.name,
                arrays[f"{place}.images"],
                arrays[f"{place}.activations"],
                arrays[f"{place}.dead"],
            )
            for place, layer in enumerate(layers)
        ),
        arrays["embeddings"],
        arrays["kept"],
        tuple(Skipped(name, reason) for name, reason in json.loads(arrays["skipped"].tobytes())),
        int(arrays["batch_size"][0]),
    )
