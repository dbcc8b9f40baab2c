"""Models of ``open_clip``."""

from collections.abc import Sequence

import torch

from profiler.models.subject.hubs import OpenCLIPWeights
from profiler.models.subject.network import weights_digest
from profiler.models.vlm.base import Embeddings


class OpenCLIP:
    """A model of open_clip, downloaded or from a local checkpoint."""

    template = "{}"
    """Concepts are embedded as they stand, like in the reference implementation."""
    limits = ""

    def __init__(self, arch: str, pretrained: str, device: torch.device) -> None:
        import open_clip

        self.name = f"open_clip:{arch}/{pretrained}"
        advice = f"use --vlm conse or --vlm open_clip:{arch}/FILE with a local checkpoint"
        with OpenCLIPWeights.of(arch, pretrained).loading(self.name, advice):
            self._model, _, self.preprocess = open_clip.create_model_and_transforms(
                arch, pretrained=pretrained, device=device
            )
            self._tokenizer = open_clip.get_tokenizer(arch)
        self._model.eval()
        self._device = device
        self.fingerprint = weights_digest(self._model, extra=f"open_clip {arch} {self.preprocess}")

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, e) unit rows."""
        rows: torch.Tensor = self._model.encode_image(images.to(self._device), normalize=True)
        return rows.float()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """M captions → (M, e) unit rows."""
        parts = [
            self._model.encode_text(
                self._tokenizer(texts[i : i + 256]).to(self._device), normalize=True
            )
            .float()
            .cpu()
            for i in range(0, len(texts), 256)
        ]
        rows: Embeddings = torch.cat(parts).numpy()
        return rows
