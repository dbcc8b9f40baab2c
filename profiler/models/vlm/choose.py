"""What each name given to ``--vlm`` stands for."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from profiler.core.store import Store
from profiler.errors import UnknownNameError, UsageError
from profiler.models.records import VLMRecord
from profiler.models.subject.factories import factory_file, load_factory
from profiler.models.subject.hubs import OpenCLIPWeights
from profiler.models.vlm.base import VLM, LateTextEncoder, TextEncoder
from profiler.models.vlm.clip import OpenCLIP
from profiler.models.vlm.conse import ConSE, Reader
from profiler.models.vlm.looks import KINDS, WEIGHTS, Looks
from profiler.models.vlm.sentence import MINILM, open_sentence_encoder
from profiler.models.vlm.tagger import Tagger

DEFAULT_VLM = "open_clip:ViT-B-16/openai"
WORDS = "conse"
"""Whose text side compares words where no VLM is named; it needs no download."""
CONSE_FORMS = "conse, conse:objects, or conse:MODEL+ENCODER"


def open_vlm(spec: str, device: torch.device, store: Store | None = None) -> VLM:
    """A VLM by name: ``open_clip:ARCH/PRETRAINED``, a form of ``conse``, or ``FILE.py:FACTORY``.

    PRETRAINED is a tag that open_clip knows or the path of a local checkpoint. A factory takes
    no argument and returns an object with the members of :class:`VLM`. The forms of ``conse`` are
    told by :class:`ConSESpec`; ``store`` keeps the embeddings of their own words.
    """
    check_vlm(spec)
    if _is_conse(spec):
        return _open_conse(spec, device, store)
    if spec.startswith("open_clip:"):
        arch, _, pretrained = spec.removeprefix("open_clip:").partition("/")
        return OpenCLIP(arch, pretrained, device)
    vlm: VLM = load_factory(spec)()
    return vlm


def check_vlm(spec: str) -> None:
    """Raise :class:`UsageError` for a name that is none, before anything is loaded."""
    if _is_conse(spec):
        ConSESpec.parse(spec)
    elif spec.startswith("open_clip:"):
        arch, _, pretrained = spec.removeprefix("open_clip:").partition("/")
        if not pretrained:
            raise UsageError(f"VLM {spec!r} lacks its weights; write open_clip:ARCH/PRETRAINED")
        OpenCLIPWeights.of(arch, pretrained)
    elif ".py:" in spec:
        factory_file(spec)
    else:
        raise UnknownNameError(
            "VLM",
            spec,
            [DEFAULT_VLM, "conse", "conse:objects"],
            hint=f"write open_clip:ARCH/PRETRAINED, {CONSE_FORMS}, or FILE.py:FACTORY",
        )


def open_text_encoder(spec: str, device: torch.device) -> TextEncoder:
    """The text side of a VLM; of ``conse``, the sentence encoder without the image classifier."""
    if _is_conse(spec):
        return open_sentence_encoder(ConSESpec.parse(spec).encoder, device)
    return open_vlm(spec, device)


def late_vlm(spec: str, device: torch.device, fingerprint: str = "") -> LateTextEncoder:
    """The text side of a VLM by name, opened when needed.

    Args:
        spec: its name.
        device: where it is to run.
        fingerprint: what it has to be, where that is known.
    """
    words = late_words(spec, device) if _is_conse(spec) else None
    return LateTextEncoder(lambda: open_vlm(spec, device), fingerprint, words)


def late_words(spec: str, device: torch.device) -> LateTextEncoder:
    """What compares words with words, by the name of a VLM, opened when needed."""
    return LateTextEncoder(lambda: open_text_encoder(spec, device))


def texts_of(
    read_by: VLMRecord | None, settings: Mapping[str, Any], device: torch.device
) -> LateTextEncoder:
    """The text side of the VLM of a finished run; of ConSE where it had none.

    Args:
        read_by: the VLM.
        settings: of the run, with the VLM as it was given: one out of a file has a name of its own
            that opens nothing.
        device: where it is to run.
    """
    if read_by is None or read_by.annotated:
        return late_words(WORDS, device)
    return late_vlm(str(settings.get("vlm", read_by.name)), device, read_by.fingerprint)


def _is_conse(spec: str) -> bool:
    return spec == "conse" or spec.startswith("conse:")


@dataclass(frozen=True)
class ConSESpec:
    """A form of ConSE: ``conse``, or ``conse:`` and vocabularies joined by ``+``.

    A vocabulary is one of the built-in ones, or MODEL, a classifier named like a subject, with a
    file of its classes' names behind a comma where it does not tell them itself. ``0.5*`` before
    one sets its weight. With a MODEL, what stands last is the sentence encoder.

    Attributes:
        kinds: built-in vocabularies, with their weights.
        models: classifiers, with their weights.
        encoder: the sentence encoder.
    """

    kinds: tuple[tuple[str, float], ...]
    models: tuple[tuple[str, float], ...] = ()
    encoder: str = MINILM

    @classmethod
    def parse(cls, spec: str) -> "ConSESpec":
        """Read a form of ``conse``.

        >>> ConSESpec.parse("conse:objects")
        ConSESpec(kinds=(('objects', 1.0),), models=(), encoder='minilm')
        >>> ConSESpec.parse("conse:0.5*nets.py:scenes+minilm").models
        (('nets.py:scenes', 0.5),)
        """
        if spec == "conse":
            return cls(tuple(WEIGHTS.items()))
        parts = spec.removeprefix("conse:").split("+")
        if not all(parts):
            raise UsageError(f"VLM {spec!r} has an empty part; write {CONSE_FORMS}")
        encoder = MINILM
        if _weighted(parts[-1])[1] not in KINDS:
            encoder = parts.pop()
            if not parts:
                known = ", ".join(KINDS)
                raise UsageError(
                    f"VLM {spec!r} names neither a built-in vocabulary ({known}) nor a pair "
                    f"MODEL+ENCODER; write {spec}+{MINILM} if {encoder!r} is a classifier"
                )
        kinds: dict[str, float] = {}
        models: dict[str, float] = {}
        for part in parts:
            weight, name = _weighted(part)
            into = kinds if name in KINDS else models
            if name in into:
                raise UsageError(f"VLM {spec!r} names {name!r} twice")
            into[name] = float(weight) if weight else WEIGHTS.get(name, 1.0)
            if not 0 < into[name] < 1000:
                raise UsageError(f"VLM {spec!r}: a weight is a number above 0, not {weight}")
        return cls(tuple(kinds.items()), tuple(models.items()), encoder)


def _weighted(part: str) -> tuple[str, str]:
    """The weight that stands before a vocabulary, if one does, and its name."""
    number, star, name = part.partition("*")
    with suppress(ValueError):
        float(number)
        return (number, name) if star else ("", part)
    return "", part


def _open_conse(spec: str, device: torch.device, store: Store | None) -> ConSE:
    wanted = ConSESpec.parse(spec)
    readers: list[Reader] = []
    if wanted.kinds:
        readers.append(Looks(dict(wanted.kinds), device))
    readers += [Tagger(model, weight, device) for model, weight in wanted.models]
    return ConSE(spec, readers, open_sentence_encoder(wanted.encoder, device), device, store)
