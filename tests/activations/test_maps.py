"""Maps whose mean is the activation, and occlusion where there is none."""

from collections.abc import Callable
from pathlib import Path

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from profiler.activations.maps import GRID, SHARE, LayerMaps, ShownMaps, map_source, read_maps
from profiler.core.arrays import IntArray
from profiler.data.images import ImageFolder
from profiler.models.subject.network import Layer, Subject

SIDE = 56


class Brightness(nn.Module):
    """A map of brightness, 14 × 14, of which a head reads the means; and one corner of it."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2, 3)
        self.corner = nn.Linear(14 * 14, 2, bias=False)
        with torch.no_grad():
            self.map.weight[0] = 1 / 48
            self.map.weight[1] = -1 / 48
            self.head.weight.copy_(torch.tensor([[1.0, 0], [0, 2], [1, 1]]))
            self.head.bias.copy_(torch.tensor([0.0, 1, 2]))
            self.corner.weight.zero_()
            self.corner.weight[0].view(14, 14)[:4, :4] = 1
            self.corner.weight[1].view(14, 14)[10:, 10:] = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.map(images)
        given: torch.Tensor = self.head(self.pool(found).flatten(1))
        return torch.cat([given, self.corner(found[:, 0].flatten(1))], dim=1)


def subject(model: nn.Module | None = None) -> Subject:
    preprocess = transforms.Compose([transforms.Resize((SIDE, SIDE)), transforms.ToTensor()])
    return Subject("net", (model or Brightness()).eval(), preprocess, "by hand", "squash")


@pytest.fixture
def probe(tmp_path: Path) -> ImageFolder:
    """Twelve black pictures, each with one white square: four by four cells, in three places."""
    for i in range(12):
        picture = Image.new("RGB", (2 * SIDE, 2 * SIDE))
        x, y = ((0, 0), (80, 80), (40, 8))[i % 3]
        picture.paste((255 - i,) * 3, (x, y, x + 32, y + 32))
        picture.save(tmp_path / f"{i:02d}.png")
    return ImageFolder.open(tmp_path)


def looked_at(
    net: Subject, layers: tuple[Layer, ...], probe: ImageFolder, passes: int = 1000, keep: int = 3
) -> tuple[ShownMaps, list[IntArray], list[np.ndarray]]:
    images = torch.stack([net.preprocess(probe.read(i)) for i in range(len(probe.names))])
    taken = net.read(layers, images)
    values = [taken[layer.name].T.numpy() for layer in layers]
    shown = [np.argsort(-each, axis=1, kind="stable")[:, :keep] for each in values]
    top = [np.take_along_axis(v, s, axis=1) for v, s in zip(values, shown, strict=True)]
    return read_maps(net, layers, probe, shown, top, passes=passes), shown, top


KINDS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "convnext": (nets.timm_convnext, 64, "auto"),
    "convnext, max": (nets.timm_convnext, 64, "max"),
    "swin, channels last": (nets.swin, 16, "auto"),
    "vit, patches": (nets.timm_vit, 8, "patch-mean"),
    "brightness": (Brightness, SIDE, "auto"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_or_largest_value_of_a_map_is_the_activation(kind: str) -> None:
    make, side, rule = KINDS[kind]
    net = nets.as_subject(make(), side)
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    layers = net.layers(("all", "leaves"), rule)
    pooled = net.read(layers, images)
    mapped = 0
    for layer in layers:
        source = map_source(net, layer)
        if source is None:
            continue
        maps = source.map_of(nets.output_of(net.model, source.layer.name, images))
        of_map = maps.amax(dim=(2, 3)) if layer.pool.largest else maps.mean(dim=(2, 3))
        torch.testing.assert_close(of_map, pooled[layer.name], rtol=1e-5, atol=1e-5)
        mapped += 1
    assert mapped >= 2


def test_class_tokens_and_what_lies_in_windows_have_no_map() -> None:
    vit = nets.as_subject(nets.timm_vit(), 8)
    assert all(map_source(vit, layer) is None for layer in vit.layers(("blocks.0", "head")))
    brightness = subject()
    assert map_source(brightness, brightness.layers(("corner",))[0]) is None


def test_a_head_that_reads_means_has_the_map_of_its_own_function(probe: ImageFolder) -> None:
    net = subject()
    layers = net.layers(("map", "head"))
    found, _, top = looked_at(net, layers, probe)
    for layer, values in zip(found.layers, top, strict=True):
        assert not layer.covered
        assert len(layer.maps) == values.size
        means = layer.maps.mean(axis=(1, 2))
        assert np.abs(means - values[layer.unit, layer.rank]).max() < 1e-5
    head = found.layers[1]
    # 1 x brightness: high in the square; -2 x brightness + 1: low there.
    first = head.maps[head.unit == 0][0]
    assert first[:4, :4] == pytest.approx(np.full((4, 4), 1.0), abs=0.1)
    assert head.maps[head.unit == 1].max() == pytest.approx(1.0)


def test_a_map_that_is_cut_into_unequal_cells_counts_by_its_own_mean(probe: ImageFolder) -> None:
    class Fine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(3, 2, 3, stride=3, bias=False)  # 56 / 3: 18 x 18 cells

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.map(images).mean(dim=(2, 3))
            return found

    torch.manual_seed(0)
    net = subject(Fine())
    found, _, top = looked_at(net, net.layers(("map",)), probe)
    layer = found.layers[0]
    assert layer.maps.shape == (top[0].size, 14, 14)


def test_so_many_values_stand_out_and_no_more(probe: ImageFolder) -> None:
    net = subject()
    layers = net.layers(("map",))
    found, shown, _ = looked_at(net, layers, probe, keep=12)
    layer = found.layers[0]
    assert found.sampled == found.images == 12
    values = layer.maps[layer.unit == 0].ravel()
    threshold = layer.threshold[0]
    assert (values > threshold).mean() <= SHARE
    assert (values >= threshold).mean() > SHARE
    assert shown[0].shape == (2, 12)


def test_where_covering_lowers_the_activation(probe: ImageFolder) -> None:
    net = subject()
    found, shown, top = looked_at(net, net.layers(("corner",)), probe)
    layer = found.layers[0]
    assert layer.covered
    assert found.covered == 6
    for unit, corner in enumerate((np.s_[:2, :2], np.s_[5:, 5:])):
        fallen = layer.maps[(layer.unit == unit) & (layer.rank == 0)][0]
        assert fallen.shape == (GRID, GRID)
        # What is white there is covered with the image's mean, which is dark.
        assert fallen[corner].sum() == pytest.approx(fallen.sum(), rel=1e-3)
        assert fallen[corner].min() > 0.05 * top[0][unit, 0]
    assert shown[0][0, 0] % 3 == 0


def test_no_more_passes_than_the_budget(probe: ImageFolder) -> None:
    net = subject()
    layers = net.layers(("map", "corner"))
    for passes, images, covered in ((5, 5, 0), (260, 5, 1), (0, 0, 0)):
        found, _, _ = looked_at(net, layers, probe, passes)
        assert found.covered == covered
        assert found.images <= passes - 50 * covered
        assert found.images >= min(images, 5)
    # The image that most units share comes first.
    found, shown, _ = looked_at(net, net.layers(("map", "head")), probe, 1)
    times = np.bincount(np.concatenate([each.ravel() for each in shown]))
    assert len(found.frames) == 1
    assert times[next(iter(found.frames))] == times.max()


def test_every_unit_has_some_of_the_images_before_one_has_all(probe: ImageFolder) -> None:
    net = subject()
    # Unit 0 shows 0, 1, 2, and units 1 … 4 show 3 and one more each.
    shown = np.array([[0, 1, 2], [3, 4, -1], [3, 5, -1], [3, 6, -1], [3, 7, -1]])
    layer = net.layers(("map",))[0]
    read: list[set[int]] = []
    for passes in (1, 2, 6):
        values = np.zeros(shown.shape, np.float32)
        found = read_maps(net, (layer,), probe, [shown[:2]], [values[:2]], passes=passes)
        read.append(set(found.frames))
    assert read == [{0}, {0, 3}, {0, 1, 2, 3, 4}]


def test_a_map_that_is_not_the_activation_is_left_out(probe: ImageFolder) -> None:
    net = subject()
    layers = net.layers(("map",))
    _, shown, top = looked_at(net, layers, probe)
    off = top[0].copy()
    off[1] += 0.1
    found = read_maps(net, layers, probe, shown, [off], passes=100)
    assert set(found.layers[0].unit.tolist()) == {0}


def test_a_preprocessing_that_cannot_be_measured_gives_no_map(probe: ImageFolder) -> None:
    net = subject()
    flip = transforms.Compose([transforms.RandomHorizontalFlip(1.0), net.preprocess])
    mirrored = Subject("net", net.model, flip, "by hand", "mirrored")
    found, _, _ = looked_at(mirrored, mirrored.layers(("map", "corner")), probe)
    assert not found.frames
    assert [len(layer.maps) for layer in found.layers] == [0, 0]


def test_the_maps_do_not_depend_on_workers(probe: ImageFolder) -> None:
    net = subject()
    layers = net.layers(("map",))
    alone, shown, top = looked_at(net, layers, probe)
    shared = read_maps(net, layers, probe, shown, top, passes=1000, workers=2)
    one, other = alone.layers[0], shared.layers[0]
    assert isinstance(one, LayerMaps)
    assert (one.maps == other.maps).all()
    assert (one.threshold == other.threshold).all()
