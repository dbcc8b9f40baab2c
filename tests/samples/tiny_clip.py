"""An architecture of open_clip's own kind, with towers so small that neither takes any time."""

from pathlib import Path

import open_clip
import torch

CONFIG = Path(__file__).with_name("ViT-tiny.json")


def write_clip(path: Path) -> str:
    """Make the architecture known, write random weights of it, and give its name for ``--vlm``."""
    open_clip.add_model_config(CONFIG)
    torch.manual_seed(0)
    torch.save(open_clip.create_model(CONFIG.stem).state_dict(), path)
    return f"open_clip:{CONFIG.stem}/{path}"
