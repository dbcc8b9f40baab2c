"""Labels and outputs: which output each label means, or one error that lists what has none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from profiler.core.text import SHOWN, listed, tidy
from profiler.data.labelled.names import SYNSET, ClassNames, fold, in_wordnet
from profiler.errors import InputError

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders of a data set that are no classes."""

_REMEDY = (
    "rename them, or say what they mean with --classes FILE, a CSV with the header label,class "
    "where a class is a name, a synset or the index of an output"
)


@dataclass(frozen=True)
class Matched:
    """Which output each label means.

    Attributes:
        index: label → output.
        unused: labels of the mapping that the data do not hold.
    """

    index: Mapping[str, int]
    unused: tuple[str, ...] = ()


def match_classes(
    labels: Iterable[str], classes: ClassNames, mapping: Mapping[str, str] | None = None
) -> Matched:
    """The output that each label means.

    A mapping goes before everything else; what it gives, and what it leaves out, is looked up as
    :meth:`ClassNames.candidates` says.

    Args:
        labels: as the data write them; repetitions do no harm.
        classes: what the outputs are called.
        mapping: label → name, synset or index; several labels may go to one class.

    Raises:
        InputError: one error that lists the labels that match no output, and those that match
            several; or that numbers seem to be counted from 1.
    """
    mapping = mapping or {}
    wanted = list(dict.fromkeys(labels))
    targets = {label: mapping.get(tidy(label), label) for label in wanted}
    _refuse_counting_from_one(targets, classes)
    found = {label: classes.candidates(target) for label, target in targets.items()}
    unknown = [label for label in wanted if not found[label]]
    several = [label for label in wanted if len(found[label]) > 1]
    if unknown or several:
        _refuse(unknown, several, targets, found, classes)
    given = set(map(tidy, wanted))
    return Matched(
        {label: outputs[0] for label, outputs in found.items()},
        tuple(label for label in mapping if label not in given),
    )


def _refuse_counting_from_one(targets: Mapping[str, str], classes: ClassNames) -> None:
    numbers = [classes.index_of(target) for target in targets.values()]
    whole = [number for number in numbers if number is not None]
    if classes.numerals or not whole or len(whole) < len(numbers):
        return
    if min(whole) > 0 and max(whole) == len(classes):
        raise InputError(
            f"the labels are numbers from {min(whole)} to {max(whole)}, off by one: the model's "
            f"{len(classes)} outputs are counted from 0 to {len(classes) - 1}; take 1 from each "
            "label"
        )


def _refuse(
    unknown: Sequence[str],
    several: Sequence[str],
    targets: Mapping[str, str],
    found: Mapping[str, Sequence[int]],
    classes: ClassNames,
) -> NoReturn:
    def shown(label: str) -> str:
        return repr(label) if targets[label] == label else f"{label!r} → {targets[label]!r}"

    said = []
    if unknown:
        told = listed([shown(label) for label in unknown], quote=False)
        said.append(
            f"{len(unknown)} of {len(targets)} labels match no output of the model ({len(classes)} "
            f"classes, {classes.source}): {told}{_hint(unknown, targets, classes)}"
        )
    if several:
        told = "; ".join(
            f"{shown(label)}: {listed([classes.describe(i) for i in found[label]], quote=False)}"
            for label in several[:SHOWN]
        )
        more = f" and {len(several) - SHOWN} more labels" if len(several) > SHOWN else ""
        said.append(f"labels that may mean several outputs: {told}{more}")
    remedy = _REMEDY
    if several and not unknown:
        better = "their synsets or indices" if any(classes.synsets) else "their indices"
        remedy = f"use {better} as labels, or {_REMEDY.partition(', or ')[2]}"
    raise InputError("; ".join([*said, remedy]))


def _hint(unknown: Sequence[str], targets: Mapping[str, str], classes: ClassNames) -> str:
    """What may help to see why the labels do not match; near names of the first."""
    if len(unknown) == len(targets) and {label.casefold() for label in unknown} <= SPLITS:
        return " (these are parts of a data set, not classes: give one of the folders)"
    first = targets[unknown[0]]
    if classes.index_of(first) is not None and not classes.numerals:
        return f" (outputs are counted from 0 to {len(classes) - 1})"
    known = SYNSET.fullmatch(first)
    if known and not any(classes.synsets):
        return " (the names of the outputs come without synsets)"
    name = fold(known[2] or in_wordnet(known[1]).partition(", ")[0] if known else first)
    near = get_close_matches(name, classes.folded, n=3, cutoff=0.6)
    if not near:
        return ""
    outputs = list(dict.fromkeys(index for name in near for index in classes.folded[name]))
    told = ", ".join(classes.describe(index) for index in outputs[:5])
    return f"; near {unknown[0]!r}: {told}"
