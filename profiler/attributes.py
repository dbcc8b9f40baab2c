"""Concepts that tell classes apart, where the user names none."""

from collections import Counter
from collections.abc import Sequence

from profiler.data.concept_sets import ConceptSet
from profiler.errors import InputError, UsageError
from profiler.results import ProfileRun

RIVAL10_CLASSES = (
    ("truck",),
    ("car", "automobile"),
    ("plane", "airplane", "aeroplane"),
    ("ship",),
    ("cat",),
    ("dog",),
    ("equine", "horse"),
    ("deer",),
    ("frog",),
    ("bird",),
)
"""Of RIVAL10 (Moayeri et al., *A Comprehensive Study of Image Classification Model Sensitivity to
Foregrounds, Backgrounds, and Visual Attributes*, CVPR 2022), by the names they go by elsewhere."""
RIVAL10_ATTRIBUTES = (
    "long snout",
    "wings",
    "wheels",
    "text",
    "horns",
    "floppy ears",
    "ears",
    "colored eyes",
    "tail",
    "mane",
    "beak",
    "hairy",
    "metallic",
    "rectangular",
    "wet",
    "long",
    "tall",
    "patterned",
)
"""Which its images are annotated with."""

MOST_CONCEPTS = 300
"""Every pair of concepts is compared, for every class."""
FROM_RUN = 40
"""Labels taken from a profile, at most."""


def attributes_for(classes: Sequence[str]) -> ConceptSet | None:
    """RIVAL10's attributes, if every class is one of its ten; else None.

    >>> found = attributes_for(["cat", "Airplane", "ship"])
    >>> found.words[:2] if found else None
    ('long snout', 'wings')
    >>> attributes_for(["cat", "tench"])
    """
    known = {name for names in RIVAL10_CLASSES for name in names}
    if not classes or not {name.casefold() for name in classes} <= known:
        return None
    return ConceptSet("RIVAL10's attributes", RIVAL10_ATTRIBUTES, (None,) * len(RIVAL10_ATTRIBUTES))


def attributes_of(run: ProfileRun, most: int = FROM_RUN) -> ConceptSet:
    """The labels that most trusted units of a profile have, those of most units first.

    Raises:
        InputError: fewer than two labels are trusted.
    """
    units: Counter[str] = Counter()
    for layer in run.layers:
        units.update(run.concepts[c] for c in layer.concept[run.trusted(layer), 0].tolist())
    words = tuple(word for word, _ in units.most_common(most))
    if len(words) < 2:
        raise InputError(
            f"the run of {run.record.subject.name} has {len(words)} trusted label(s); concepts "
            "are compared in pairs, so name some with --concepts"
        )
    title = f"the {len(words)} most frequent labels of {run.record.subject.name}'s units"
    return ConceptSet(title, words, (None,) * len(words))


def check_concepts(concepts: ConceptSet) -> ConceptSet:
    """The same, if every pair of them can be compared."""
    if len(concepts.words) < 2:
        raise UsageError(f"{concepts.title} holds one concept; a heatmap compares at least two")
    if len(concepts.words) > MOST_CONCEPTS:
        raise UsageError(
            f"{concepts.title} holds {len(concepts.words):,} concepts; every pair is compared for "
            f"every class, so at most {MOST_CONCEPTS} are possible: name those that tell the "
            "classes apart"
        )
    return concepts
