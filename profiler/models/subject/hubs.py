"""Weights that lie elsewhere: the Hugging Face hub, and what open_clip knows by a tag."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from profiler.errors import DownloadError, InputError, UnknownNameError, first_line

ADVICE = "name a file with --checkpoint, or profile efficientnet_lite0"
HUB_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
"""What the weights in a repository may be called."""


def check_hub(
    repository: str,
    what: str,
    *files: str,
    advice: str = ADVICE,
) -> None:
    """Complain at once if the Hugging Face hub is out of reach and nothing of it is kept here.

    Its client tries for most of a minute, for each file anew.
    """
    import huggingface_hub as hub

    if kept_here(repository, files or HUB_FILES):
        return
    address = hub.constants.ENDPOINT
    try:
        hub.get_session().head(address, timeout=10)
    except Exception as error:  # as many kinds as clients
        raise DownloadError(
            f"{what} could not be downloaded: {address} cannot be reached ({first_line(error)}); "
            f"offline, {advice}"
        ) from error


def kept_here(repository: str, files: Sequence[str]) -> Path | None:
    """The first of these files of a repository that is in the hub's cache on this machine."""
    import huggingface_hub as hub

    name, _, revision = repository.partition("@")
    for file in files:
        kept = hub.try_to_load_from_cache(name.strip("/"), file, revision=revision or None)
        if isinstance(kept, str):
            return Path(kept)
    return None


def config_of(repository: str) -> Path:
    """The ``config.json`` of a repository on the hub, as a file of this machine."""
    import huggingface_hub as hub

    name, _, revision = repository.partition("@")
    return Path(hub.hf_hub_download(name.strip("/"), "config.json", revision=revision or None))


@dataclass(frozen=True)
class OpenCLIPWeights:
    """An architecture of open_clip and the weights for it, both known to exist by name."""

    arch: str
    pretrained: str
    """A tag, or the path of a checkpoint; empty for none."""
    tag: Mapping[str, Any] = field(default_factory=dict)
    """What open_clip says of the tag; empty where there is none."""

    @classmethod
    def none(cls, arch: str) -> Self:
        """The architecture alone."""
        import open_clip

        if arch not in open_clip.list_models():
            raise UnknownNameError("open_clip architecture", arch, open_clip.list_models())
        return cls(arch, "")

    @classmethod
    def of(cls, arch: str, pretrained: str) -> Self:
        """A tag of open_clip, or else a file."""
        import open_clip

        cls.none(arch)
        if Path(pretrained).is_file():
            return cls(arch, pretrained)
        tags = open_clip.list_pretrained_tags_by_model(arch)
        if pretrained not in tags:
            raise UnknownNameError(
                f"pretrained tag of open_clip {arch}", pretrained, tags, hint="or a checkpoint file"
            )
        return cls(arch, pretrained, open_clip.get_pretrained_cfg(arch, pretrained))

    @property
    def unsaid(self) -> str:
        """What the architecture alone leaves open, and no file of weights says; empty if nothing.

        Weights of one architecture were trained with one or the other activation.
        """
        import open_clip

        if (open_clip.get_model_config(self.arch) or {}).get("quick_gelu"):
            return ""
        quick = [
            tag
            for tag in open_clip.list_pretrained_tags_by_model(self.arch)
            if open_clip.get_pretrained_cfg(self.arch, tag).get("quick_gelu")
        ]
        if not quick:
            return ""
        return (
            "no file of weights says whether it was trained with QuickGELU; taken as GELU; if it "
            f"was, or was tuned from such weights ({', '.join(quick[:3])}), write "
            f"open_clip:{self.arch}/{quick[0]}, which takes that tag's settings"
        )

    @contextmanager
    def loading(self, what: str, advice: str = ADVICE) -> Iterator[None]:
        """Say in one line why the weights of ``what`` could not be had."""
        if self.tag.get("hf_hub"):
            check_hub(self.tag["hf_hub"], f"the weights of {what}", advice=advice)
        try:
            yield
        except Exception as error:  # open_clip lets through whatever its hub client raises
            if not self.tag:
                raise InputError(
                    f"checkpoint {self.pretrained!r} does not load into open_clip {self.arch}: "
                    f"{first_line(error)}"
                ) from error
            raise DownloadError(
                f"the weights of {what} could not be downloaded: {first_line(error)}; "
                f"offline, {advice}"
            ) from error
