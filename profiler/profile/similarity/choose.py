"""The similarities, by the names that ``--similarity`` takes."""

from profiler.errors import UnknownNameError
from profiler.profile.similarity.base import Similarity
from profiler.profile.similarity.cosine import Cosine, CosineCubed
from profiler.profile.similarity.enrichment import Enrichment
from profiler.profile.similarity.pmi import WPMI, SoftWPMI
from profiler.profile.similarity.rank import RankReorder

SIMILARITIES: dict[str, Similarity] = {
    similarity.name: similarity
    for similarity in (SoftWPMI(), WPMI(), Cosine(), CosineCubed(), RankReorder(), Enrichment())
}
OF_ANNOTATIONS = ("enrichment", "cosine", "cosine_cubed")
"""Those that make sense of any numbers, not of cosines alone; the first is the usual one."""


def open_similarity(name: str) -> Similarity:
    """A similarity by name, with the reference's constants.

    >>> open_similarity("wpmi").constants
    {'a': 2.0, 'λ': 0.6}
    """
    if name not in SIMILARITIES:
        raise UnknownNameError("similarity", name, list(SIMILARITIES))
    return SIMILARITIES[name]
