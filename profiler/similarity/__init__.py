"""How well each concept describes a unit: the five similarities of CLIP-Dissect.

All have one signature, :class:`Similarity`; soft-WPMI is the default.
"""

from profiler.errors import UnknownNameError
from profiler.similarity.base import (
    ALONE,
    Null,
    Reduce,
    Rows,
    Similarity,
    Tile,
    Units,
    blocks,
)
from profiler.similarity.cosine import Cosine, CosineCubed
from profiler.similarity.pmi import WPMI, ConceptProbabilities, Prior, SoftWPMI
from profiler.similarity.rank import RankReorder

SIMILARITIES: dict[str, Similarity] = {
    similarity.name: similarity
    for similarity in (SoftWPMI(), WPMI(), Cosine(), CosineCubed(), RankReorder())
}


def open_similarity(name: str) -> Similarity:
    """A similarity by name, with the reference's constants.

    >>> open_similarity("wpmi").constants
    {'a': 2.0, 'λ': 0.6}
    """
    if name not in SIMILARITIES:
        raise UnknownNameError("similarity", name, list(SIMILARITIES))
    return SIMILARITIES[name]


__all__ = [
    "ALONE",
    "SIMILARITIES",
    "WPMI",
    "ConceptProbabilities",
    "Cosine",
    "CosineCubed",
    "Null",
    "Prior",
    "RankReorder",
    "Reduce",
    "Rows",
    "Similarity",
    "SoftWPMI",
    "Tile",
    "Units",
    "blocks",
    "open_similarity",
]
