"""What a classifier's outputs are called, and which of them a name may mean."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import cast

from profiler.core.text import tidy
from profiler.data.concept_sets import open_concepts
from profiler.errors import InputError

IMAGENETS = {
    1000: "imagenet-1k",
    11221: "imagenet-21k-miil",
    11821: "imagenet-12k",
    21841: "imagenet-22k",
    21842: "imagenet-22k-ms",
    21843: "imagenet-21k-goog",
}
"""Numbers of outputs that belong to one version of ImageNet, by timm's name for it."""

SYNSET = re.compile(r"(n[0-9]{8})(?:[\s,;:_-]+(.*))?", re.DOTALL)
"""A WordNet id, alone or before a name: ``n01440764``, ``n01440764_tench``."""

_BEFORE_DIGIT = re.compile(r"[\s_\-‐‑–.,'’]+(?=[0-9])")
_BETWEEN = re.compile(r"[\s_\-‐‑–.,'’]+(?![0-9])")


@dataclass(frozen=True)
class ClassNames:
    """What a classifier's outputs are called.

    Attributes:
        names: one an output, for people to read.
        synonyms: of each output, every name it goes by, the one in ``names`` among them.
        synsets: WordNet id of each output, empty where it has none.
        source: where the names come from, for people to read.
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    synsets: tuple[str, ...]
    source: str
    assumed: str = ""
    """A sentence where their order is assumed: see :func:`profiler.data.labelled.open_classes`."""

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of_list(cls, entries: Iterable[str], source: str) -> "ClassNames":
        """From one text an output: a name, ``name, synonym``, a synset, or ``synset name``."""
        names, synonyms, synsets = [], [], []
        for entry in entries:
            whole, synset = tidy(entry), ""
            if known := SYNSET.fullmatch(whole):
                synset = known[1]
                whole = known[2] or in_wordnet(synset) or synset
            pieces = tuple(dict.fromkeys([*filter(None, whole.split(", ")), whole]))
            names.append(pieces[0])
            synonyms.append(pieces)
            synsets.append(synset)
        return cls(tuple(names), tuple(synonyms), tuple(synsets), source)

    @classmethod
    def of_outputs(cls, outputs: int, names: Sequence[str] = ()) -> "ClassNames":
        """By what the weights say of themselves, or else by the number of outputs.

        Args:
            outputs: how many the classifier has.
            names: one an output as the weights' own metadata name them, such as torchvision's
                ``categories``; disregarded where there are none.

        Raises:
            InputError: ``names`` are not as many, or the number alone says nothing.
        """
        if names:
            own = cls.of_list(names, "the weights' own names")
            if len(own) != outputs:
                raise InputError(
                    f"the weights name {len(own)} classes, but the model has {outputs} outputs; "
                    "give --classes FILE, one name a line"
                )
            return own.with_imagenet(synonyms=True)
        if outputs not in IMAGENETS:
            raise InputError(
                f"nothing says what the model's {outputs} outputs are called; give --classes FILE "
                "with their names, one a line, in the order of the outputs"
            )
        return _imagenet(outputs)

    def with_imagenet(self, *, synonyms: bool) -> "ClassNames":
        """With ImageNet's synsets, and its synonyms if wanted, where these are its 1 000 classes.

        Two of a thousand names are often changed, to tell the two cranes apart.
        """
        if len(self) != 1000:
            return self
        known = _imagenet(1000)
        pairs = list(zip(self.synonyms, known.synonyms, strict=True))
        if any(self.synsets):
            same = self.synsets == known.synsets
        else:
            alike = [{fold(a) for a in mine} & {fold(b) for b in theirs} for mine, theirs in pairs]
            same = sum(map(bool, alike)) >= 990
        if not same:
            return self  # other classes, or these in another order
        both = tuple(tuple(dict.fromkeys(mine + theirs)) for mine, theirs in pairs)
        return replace(self, synonyms=both if synonyms else self.synonyms, synsets=known.synsets)

    def describe(self, index: int) -> str:
        """One class as a message names it: ``517 crane (n03126707)``."""
        synset = f" ({self.synsets[index]})" if self.synsets[index] else ""
        return f"{index} {self.names[index]}{synset}"

    @cached_property
    def _plain(self) -> bool:
        """Whether each class has one name, so that its exact spelling decides."""
        return all(len(names) == 1 for names in self.synonyms)

    @cached_property
    def numerals(self) -> bool:
        """Whether a class is called by a number, as digits are: then no number is an index."""
        return any(self.index_of(name) is not None for name in self.names)

    @cached_property
    def _exact(self) -> dict[str, list[int]]:
        return _positions((name,) for name in self.names)

    @cached_property
    def folded(self) -> dict[str, list[int]]:
        """Outputs by the folded form of each name they go by."""
        return _positions((fold(name) for name in names) for names in self.synonyms)

    @cached_property
    def _by_synset(self) -> dict[str, list[int]]:
        return _positions((synset,) for synset in self.synsets)

    def candidates(self, label: str) -> list[int]:
        """The outputs that a label may mean, lowest first: one, none, or several.

        Asked in turn: the exact name (where each class has one name only), the synset, alone or
        before a name, the index, the name or synonym without heed to case, blanks, hyphens and
        underscores.
        """
        label = tidy(label)
        if self._plain and len(self._exact.get(label, ())) == 1:
            return self._exact[label]
        if known := SYNSET.fullmatch(label):
            if found := self._by_synset.get(known[1]):
                return found
            # Names without synsets: what follows the id may still be one of them.
            label = "" if any(self.synsets) else known[2] or ""
        index = self.index_of(label)
        if index is not None and not self.numerals:
            return [index] if index < len(self) else []
        return self.folded.get(fold(label), [])

    @staticmethod
    def index_of(label: str) -> int | None:
        """The number a label consists of, if it does."""
        return int(label) if re.fullmatch(r"[0-9]{1,9}", label.strip()) else None


def fold(name: str) -> str:
    """A name without what people write one way or another; digits stay apart.

    >>> fold("Black-footed_Ferret")
    'blackfootedferret'
    >>> fold("Boeing_747-400")
    'boeing-747-400'
    """
    name = unicodedata.normalize("NFKC", tidy(name)).casefold()
    return _BETWEEN.sub("", _BEFORE_DIGIT.sub("-", name))


def _positions(names: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, each in enumerate(names):
        for name in set(each) - {""}:
            found.setdefault(name, []).append(index)
    return found


@cache
def _wordnet(subset: str) -> dict[str, str]:
    """Synset → ``name, synonym``, of one version of ImageNet, in the order of its classes."""
    from timm.data.imagenet_info import ImageNetInfo  # slow to import, and seldom needed

    told = ImageNetInfo(subset).label_descriptions(as_dict=True)
    return dict(cast(dict[str, str], told))


def in_wordnet(synset: str) -> str:
    """What WordNet calls a synset; empty where it is not one of ImageNet's."""
    return _wordnet("imagenet-21k-goog").get(synset, "")


def _imagenet(outputs: int) -> ClassNames:
    known = _wordnet(IMAGENETS[outputs])
    source = f"{IMAGENETS[outputs]}, by the number of outputs"
    classes = replace(ClassNames.of_list(known.values(), source), synsets=tuple(known))
    if outputs != 1000:
        return classes
    # WordNet calls two classes "crane" and two "maillot"; these names tell them apart.
    names = open_concepts("imagenet-1k").words
    both = [(*mine, name) for mine, name in zip(classes.synonyms, names, strict=True)]
    return replace(classes, names=names, synonyms=tuple(tuple(dict.fromkeys(b)) for b in both))
