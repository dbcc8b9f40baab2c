"""A user's own classifier as a vocabulary: the names of its classes become words."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiler.core.text import text_of, tidy
from profiler.data.concept_sets import open_concepts
from profiler.errors import InputError, first_line
from profiler.models.subject.loading import load_subject
from profiler.models.subject.network import Subject
from profiler.models.subject.trial import in_company, mismatch
from profiler.models.vlm.space import Vocabulary


class Tagger:
    """An image classifier with named classes, as a reader of images.

    Args:
        spec: the classifier, named like a subject; after a comma a text file with the names of
            its classes, one a line in the order of the outputs: ``resnet50,scenes.txt``.
        weight: of its vocabulary.
        device: where it is to run.
    """

    def __init__(self, spec: str, weight: float, device: torch.device) -> None:
        network, _, names = spec.partition(",")
        subject = load_subject(network, device)
        self.preprocess = subject.preprocess
        self.fingerprint = subject.fingerprint
        self._model = subject.model
        self._device = device
        outputs = _outputs(subject, device)
        words = _names(names, subject, outputs)
        if len(words) != outputs:
            raise InputError(
                f"{network} has {outputs:,} outputs, but {len(words):,} classes are named"
            )
        self.vocabularies = (
            Vocabulary(Path(network).name, words, weight, sees=f"classes of {network}"),
        )

    def read(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """(B, 3, H, W) → [(B, classes)], the softmax over the classes."""
        given = in_company(images).to(self._device, memory_format=torch.channels_last)
        return [self._model(given)[: len(images)].float().softmax(dim=1)]


def _outputs(subject: Subject, device: torch.device) -> int:
    from PIL import Image

    image = torch.empty(0)
    try:
        with torch.inference_mode():
            image = subject.preprocess(Image.new("RGB", (256, 256)))
            made = subject.model(in_company(image[None]).to(device))
    except Exception as error:
        raise InputError(
            f"{subject.name} fails on a black image: {type(error).__name__}: {first_line(error)}"
            f"{mismatch(subject.model, image)}"
        ) from error
    if not (isinstance(made, torch.Tensor) and made.dim() == 2 and made.shape[1] > 1):
        raise InputError(
            f"{subject.name} is no classifier: for two images it gives "
            f"{tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__}, "
            "not two rows of scores"
        )
    return int(made.shape[1])


def _names(file: str, subject: Subject, outputs: int) -> tuple[str, ...]:
    """The classes' names: out of a file, as the network says, or those of ImageNet for 1 000."""
    if file:
        if not Path(file).is_file():
            raise InputError(f"there is no file of class names {file!r}")
        lines = map(tidy, re.split(r"\r\n|\r|\n", text_of(Path(file), "file of class names")))
        return tuple(filter(None, lines))
    own = _own_names(subject.model)
    if own:
        return own
    if outputs == 1000:
        return tuple(open_concepts("imagenet-1k").words)
    raise InputError(
        f"{subject.name} does not say what its {outputs:,} classes are called; write "
        f"{subject.name},NAMES.txt, a text file with a name a line, or give the network a list "
        "`class_names`"
    )


def _own_names(model: nn.Module) -> tuple[str, ...]:
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    for names in (
        getattr(model, "class_names", None),
        config.get("label_names") if isinstance(config, dict) else None,
    ):
        if isinstance(names, Sequence) and not isinstance(names, str):
            return tuple(str(name).replace("_", " ") for name in names)
    return ()
