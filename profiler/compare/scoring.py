"""Labels of several runs against one prior.

(soft-)WPMI takes off a prior D, a sum over the units that are scored together. Were each run scored
by itself, a unit's label could change because *other* units of its layer did. So layers of the
same name are scored as if they were one; D is then the same for all runs, and a difference between
labels is one between the units.
"""

from collections.abc import Sequence

import numpy as np

from profiler.activations.top_lists import LayerTops
from profiler.core.arrays import FloatArray, Rows
from profiler.errors import InputError
from profiler.profile.labels import DEFAULT_SIMILARITY, PER_UNIT, LayerLabels, label_layers
from profiler.profile.similarity.base import Similarity
from profiler.profile.similarity.pmi import WPMI, SoftWPMI


def has_prior(similarity: Similarity) -> bool:
    """Whether a unit's score depends on the units it is scored with."""
    return isinstance(similarity, SoftWPMI | WPMI)


def label_together(
    runs: Sequence[Sequence[LayerTops]],
    images: Rows,
    concepts: FloatArray,
    *,
    similarity: Similarity = DEFAULT_SIMILARITY,
    top: int | None = None,
    matrices: Sequence[Sequence[Rows]] | None = None,
    null_draws: int | None = None,
    seed: int = 0,
) -> list[list[LayerLabels]]:
    """Label the units of all runs; a layer's prior is that of its namesakes in every run.

    A layer that one run alone has stands alone. Where the similarity has no prior every unit stands
    for itself anyway. The null distribution, too, is that of all namesakes together.

    Args:
        runs: for each run the top lists of its layers, of the same images.
        images: (N, e) unit rows.
        concepts: (M, e) unit rows.
        similarity: the formula.
        top: how many images of each list are used; None leaves it to the similarity.
        matrices: for each run and layer (N, K) activations, where the similarity needs them.
        null_draws: size of each null distribution; None leaves it to the similarity.
        seed: seeds what is random.

    Returns:
        For each run its layers in order. Of a single run: what :func:`label_layers` gives.
    """
    places = [(run, layer) for run, layers in enumerate(runs) for layer in range(len(layers))]
    groups: dict[object, list[tuple[int, int]]] = {}
    for run, layer in places:
        name = runs[run][layer].layer
        groups.setdefault(name if has_prior(similarity) else (run, name), []).append((run, layer))
    if len(groups) != len(places) and any(
        len({tops.layer for tops in layers}) != len(layers) for layers in runs
    ):
        raise InputError("two layers of a run have the same name")
    joined = [_join([runs[run][layer] for run, layer in group]) for group in groups.values()]
    found = label_layers(
        joined,
        images,
        concepts,
        similarity=similarity,
        top=top,
        # A similarity that needs them has no prior, so each group is a single layer.
        matrices=None
        if matrices is None or not similarity.needs_matrix
        else [matrices[run][layer] for ((run, layer),) in groups.values()],
        null_draws=null_draws,
        seed=seed,
    )
    apart: dict[tuple[int, int], LayerLabels] = {}
    for labels, group in zip(found, groups.values(), strict=True):
        first = 0
        for run, layer in group:
            units = runs[run][layer].units
            apart[run, layer] = _some(labels, slice(first, first + units))
            first += units
    return [[apart[run, layer] for layer in range(len(layers))] for run, layers in enumerate(runs)]


def _join(layers: Sequence[LayerTops]) -> LayerTops:
    """Units of several layers as those of one; lists are cut to the shortest."""
    length = min(layer.images.shape[1] for layer in layers)
    return LayerTops(
        layers[0].layer,
        np.concatenate([layer.images[:, :length] for layer in layers]),
        np.concatenate([layer.activations[:, :length] for layer in layers]),
        np.concatenate([layer.low for layer in layers]),
    )


def _some(labels: LayerLabels, units: slice) -> LayerLabels:
    """Some of the units, with the null distribution of all."""
    own = {name: getattr(labels, name)[units] for name in PER_UNIT}
    return LayerLabels(layer=labels.layer, null_scores=labels.null_scores, **own)
