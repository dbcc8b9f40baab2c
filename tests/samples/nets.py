"""Networks of every kind, so small that their outputs can be worked out or looked at by hand."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn
from torchvision import transforms
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from profiler.models.subject.network import Subject

CPU = torch.device("cpu")


def as_subject(model: nn.Module, size: int = 224) -> Subject:
    preprocess = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    return Subject("net", model.eval(), preprocess, "random", f"{size}")


def weightless(make: Callable[[], nn.Module]) -> Subject:
    """On the "meta" device, where only names and shapes are asked for."""
    with torch.device("meta"):
        return as_subject(make())


def names(subject: Subject, *wanted: str) -> list[str]:
    return [layer.name for layer in subject.layers(wanted or ("all",))]


def tapped(
    subject: Subject, images: torch.Tensor, *wanted: str, pool: str = "auto"
) -> dict[str, torch.Tensor]:
    return subject.read(subject.layers(wanted, pool), images)


def output_of(model: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    """What a module gives, by a hook of the test's own."""
    kept: list[torch.Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
    with torch.inference_mode():
        model(images)
    handle.remove()
    return kept[-1].clone()


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


# --- kinds -----------------------------------------------------------------------------------


def vit() -> VisionTransformer:
    """Torchvision's, with a class token and 2 × 2 patches of an 8 × 8 image."""
    torch.manual_seed(0)
    return VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=6, mlp_dim=8
    )


def timm_vit(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    """One of timm's, shrunk: two blocks over 2 × 2 patches of an 8 × 8 image."""
    torch.manual_seed(0)
    small = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model: nn.Module = timm.create_model(name, num_classes=3, **(small | options))
    return model


def swin(width: int = 6) -> SwinTransformer:
    """Torchvision's, whose maps have their channels last: 8 × 8, then 4 × 4."""
    torch.manual_seed(0)
    return SwinTransformer(
        patch_size=[2, 2], embed_dim=width, depths=[1, 1], num_heads=[2, 2], window_size=[2, 2]
    )


def timm_swin(width: int = 6) -> nn.Module:
    """Timm's, with windows of 2 × 2 on a map of 8 × 8, then of 4 × 4."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=16,
        patch_size=2,
        window_size=2,
        embed_dim=width,
        depths=(1, 1),
        num_heads=(2, 2),
        num_classes=3,
    )
    return model


def convnext() -> ConvNeXt:
    torch.manual_seed(0)
    return ConvNeXt([CNBlockConfig(6, 8, 1), CNBlockConfig(8, None, 1)], num_classes=3)


def timm_convnext() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(
        "convnext_atto", depths=(1,) * 4, dims=(6, 8, 8, 8), num_classes=3, conv_mlp=False
    )
    return model


def hybrid() -> nn.Module:
    """A convolutional stem whose 2 × 2 places become the patches of a ViT with a class token."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
    model: nn.Module = timm.models.VisionTransformer(
        img_size=8,
        patch_size=2,
        embed_dim=6,
        depth=1,
        num_heads=2,
        num_classes=3,
        embed_layer=lambda **options: timm.layers.HybridEmbed(stem, **options),
    )
    return model
