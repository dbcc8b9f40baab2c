"""Concepts that separate classes, used if the user names none."""

import logging
from collections.abc import Sequence

from profiler.data.concept_sets import ConceptSet, open_concepts
from profiler.errors import UsageError

log = logging.getLogger("profiler")

RIVAL10_CLASSES = (
    ("truck",), ("car", "automobile"), ("plane", "airplane", "aeroplane"), ("ship",), ("cat",),
    ("dog",), ("equine", "horse"), ("deer",), ("frog",), ("bird",),
)  # fmt: skip
"""Of RIVAL10 (Moayeri et al., *A Comprehensive Study of Image Classification Model Sensitivity to
Foregrounds, Backgrounds, and Visual Attributes*, CVPR 2022), with their names in other data."""
RIVAL10_ATTRIBUTES = (
    "long snout", "wings", "wheels", "text", "horns", "floppy ears", "ears", "colored eyes",
    "tail", "mane", "beak", "hairy", "metallic", "rectangular", "wet", "long", "tall", "patterned",
)  # fmt: skip
"""The attributes that RIVAL10's images are annotated with."""

MOST_CONCEPTS = 300
"""Every pair of concepts is compared, for every class."""


DEFAULT_ATTRIBUTES = "attributes"
"""The built-in set for all other classes: colors, surfaces, materials, shapes, parts, places."""


def attributes_for(classes: Sequence[str]) -> ConceptSet:
    """RIVAL10's attributes if every class is one of its ten; else 120 visual attributes.

    >>> attributes_for(["cat", "Airplane", "ship"]).words[:2]
    ('long snout', 'wings')
    >>> attributes_for(["cat", "tench"]).title
    'attributes'
    """
    known = {name for names in RIVAL10_CLASSES for name in names}
    if classes and {name.casefold() for name in classes} <= known:
        words = RIVAL10_ATTRIBUTES
        return ConceptSet("RIVAL10's attributes", words, (None,) * len(words))
    found = open_concepts(DEFAULT_ATTRIBUTES)
    log.info("no concepts are named, so %d visual attributes are used", len(found.words))
    return found


def check_concepts(concepts: ConceptSet) -> ConceptSet:
    """The same concepts, if every pair of them can be compared.

    Raises:
        UsageError: there are too few or too many.
    """
    if len(concepts.words) < 2:
        raise UsageError(
            f"{concepts.title} holds one concept; a heatmap compares at least two concepts"
        )
    if len(concepts.words) > MOST_CONCEPTS:
        raise UsageError(
            f"{concepts.title} holds {len(concepts.words):,} concepts; every pair is compared for "
            f"every class, so at most {MOST_CONCEPTS} are possible: name those that separate the "
            "classes"
        )
    return concepts
