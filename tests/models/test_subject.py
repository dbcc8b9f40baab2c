"""Which layers a network has, what they give, and when a forward pass ends.

Networks stand on the "meta" device where only names and shapes are asked for: they then have no
weights, take no time, and download nothing.
"""

from collections.abc import Callable
from typing import Any

import nets
import numpy as np
import pytest
import timm
import tiny
import torch
from nets import hooks, names, tapped, weightless
from PIL import Image
from torch import nn
from torchvision import models

from profiler.errors import InputError, ResourceError, UnknownNameError
from profiler.models.subject.network import Subject, weights_digest

# --- which layers ----------------------------------------------------------------------------


def numbered(prefix: str, count: int) -> str:
    return " ".join(f"{prefix}{i}" for i in range(count))


WHOLE = {
    "resnet18": "conv1 layer1 layer2 layer3 layer4 fc",
    "resnet50": "conv1 layer1 layer2 layer3 layer4 fc",
    "vit_b_16": f"conv_proj {numbered('encoder.layers.encoder_layer_', 12)} heads.head",
    "swin_t": f"{numbered('features.', 8)} head",
    "densenet121": "features.conv0 features.denseblock1 features.transition1 features.denseblock2 "
    "features.transition2 features.denseblock3 features.transition3 features.denseblock4 "
    "classifier",
    "alexnet": "features.0 features.3 features.6 features.8 features.10 classifier.6",
    "timm/tf_efficientnet_lite0": f"conv_stem {numbered('blocks.', 7)} conv_head classifier",
    "efficientnet_b0": f"{numbered('features.', 9)} classifier.1",
    "timm/convnext_tiny": f"stem {numbered('stages.', 4)} head.fc",
}
"""What ``--layers all`` is to be, by model."""


@pytest.mark.parametrize(("name", "wanted"), WHOLE.items(), ids=list(WHOLE))
def test_all_is_stem_stages_and_classifier(name: str, wanted: str) -> None:
    make = timm.create_model if name.startswith("timm/") else models.get_model
    assert names(weightless(lambda: make(name.removeprefix("timm/")))) == wanted.split()


def test_a_layer_says_what_it_is() -> None:
    stem, *_, head = weightless(models.resnet18).layers()
    assert (stem.kind, stem.shape, stem.units) == ("Conv2d", (64, 112, 112), 64)
    assert stem.pooling == "mean over 112 × 112"
    assert (head.kind, head.shape, head.units, head.pooling) == ("Linear", (1000,), 1000, "none")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["layer2"], ["layer2"]),
        (["fc", "conv1"], ["conv1", "fc"]),
        (["layer?"], ["layer1", "layer2", "layer3", "layer4"]),
        (["layer1.*.conv1"], ["layer1.0.conv1", "layer1.1.conv1"]),
        (["layer[34]", "layer4", "fc"], ["layer3", "layer4", "fc"]),
        (["all", "layer1.0"], ["conv1", "layer1.0", *(f"layer{i}" for i in range(1, 5)), "fc"]),
    ],
    ids=lambda value: ",".join(value),
)
def test_names_and_globs_in_the_order_in_which_they_run(
    wanted: list[str], found: list[str]
) -> None:
    assert names(weightless(models.resnet18), *wanted) == found


@pytest.mark.parametrize(
    ("wanted", "near"), [("layer5", "layer"), ("conv_1", "conv1"), ("LAYER1", ""), ("", "known")]
)
def test_an_unknown_layer_lists_near_names(wanted: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown layer of net '{wanted}'.*{near}"):
        tiny.tiny_subject(lambda: (models.resnet18(), tiny.to_tensor()), "net").layers([wanted])


def test_a_layer_that_does_not_run_is_refused_by_name_and_left_out_of_groups() -> None:
    class Aux(tiny.TinyNet):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Linear(3, 3)

    subject = tiny.tiny_subject(lambda: (Aux(), tiny.to_tensor()))
    assert names(subject, "*") == ["color", "pool", "fc"]
    with pytest.raises(InputError, match="'aux' of tiny does not run in a forward pass"):
        subject.layers(["aux"])


# --- groups ----------------------------------------------------------------------------------


def test_leaves_are_every_convolution_and_linear_layer() -> None:
    subject = weightless(models.resnet18)
    leaves = subject.layers(["leaves"])
    assert len(leaves) == 21  # 17 on the way, 3 shortcuts, 1 classifier
    assert {layer.kind for layer in leaves} == {"Conv2d", "Linear"}


MLP = {
    "torchvision": (nets.vit, 8, "encoder.layers.encoder_layer_0.mlp.1", 8),
    "timm": (nets.timm_vit, 8, "blocks.0.mlp.act", 64),
    "swin": (nets.swin, 16, "features.1.0.mlp.1", 24),
    "convnext": (nets.convnext, 32, "features.1.0.block.4", 24),
}
"""Network, side of its image, its first MLP's activation, and the width of that."""


@pytest.mark.parametrize(("make", "side", "first", "units"), MLP.values(), ids=list(MLP))
def test_hidden_units_of_mlps_after_the_activation(
    make: Callable[[], nn.Module], side: int, first: str, units: int
) -> None:
    hidden = nets.as_subject(make(), side).layers(["mlp"])
    assert (hidden[0].name, hidden[0].kind, hidden[0].units) == (first, "GELU", units)
    assert len(hidden) == 2
    assert hidden[0].groups == ("mlp",)


def test_hidden_units_of_a_gated_mlp_are_the_product() -> None:
    """x₁ · silu(x₂): what the second linear layer reads, not the gate alone."""
    model = nets.timm_vit("vit_small_plus_patch16_dinov3").eval()
    images = torch.rand(2, 3, 8, 8)
    found = tapped(nets.as_subject(model, 8), images, "mlp", pool="cls")
    assert list(found) == ["blocks.0.mlp.drop1", "blocks.1.mlp.drop1"]
    gate = nets.output_of(model, "blocks.0.mlp.fc1_g", images)[:, 0]
    value = nets.output_of(model, "blocks.0.mlp.fc1_x", images)[:, 0]
    torch.testing.assert_close(found["blocks.0.mlp.drop1"], nn.functional.silu(gate) * value)


def test_hidden_units_of_pytorchs_own_encoder() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, batch_first=True).eval()
    tokens = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(2), Turn(), layer).eval()
    images = torch.rand(2, 3, 8, 8)
    found = tapped(nets.as_subject(tokens, 8), images, "mlp")
    before = nets.output_of(tokens, "3.linear1", images)
    torch.testing.assert_close(found["3.dropout"], before.relu().mean(dim=1))


class Turn(nn.Module):
    """(B, C, T) → (B, T, C)."""

    def forward(self, output: torch.Tensor) -> torch.Tensor:
        return output.transpose(1, 2)


def test_a_group_without_members_is_refused() -> None:
    with pytest.raises(InputError, match="net has no layer in the group 'mlp'"):
        weightless(models.resnet18).layers(["mlp"])


@pytest.mark.parametrize("word", ["mlp", "all", "leaves"])
def test_a_module_called_like_a_group(word: str) -> None:
    """Where the group has members it is meant, and a glob names the module; else the module is."""
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(3, 4, 1))
    net.add_module(word, nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU()))
    subject = nets.as_subject(net, 8)
    assert (names(subject, word) == [word]) == (word == "mlp")
    assert names(subject, f"[{word[0]}]{word[1:]}") == [word]
    blind = nets.as_subject(nn.Sequential(nn.Sequential()), 8)
    blind.model.add_module(word, nn.ReLU())
    assert names(blind, word) == [word]


def test_a_module_in_two_places_answers_to_both_names() -> None:
    step = nn.Conv2d(3, 3, 1)
    (layer,) = nets.as_subject(nn.Sequential(step, nn.ReLU(), step), 8).layers(["2"])
    assert (layer.name, layer.runs) == ("0", 2)


def test_without_a_classifier_all_ends_in_the_last_stage() -> None:
    net = models.resnet18(num_classes=2)
    net.fc = nn.Identity()  # type: ignore[assignment]
    assert names(nets.as_subject(net, 64)) == ["conv1", "layer1", "layer2", "layer3", "layer4"]


def test_channels_that_come_last_give_way_to_view() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.fc(self.conv(images).view(len(images), -1))
            return logits

    net = Views().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    subject = nets.as_subject(net, 8)
    images = torch.rand(3, 3, 8, 8)
    found = tapped(subject, images, "all")
    assert list(found) == ["conv", "fc"]
    with torch.inference_mode():
        torch.testing.assert_close(found["fc"], net(images))


def test_a_network_that_cannot_take_the_precision_of_its_weights() -> None:
    class Careless(tiny.TinyNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images.float())

    with pytest.raises(InputError, match=r"its weights are float16: call \.float\(\)"):
        nets.as_subject(Careless().half(), 8).layers()


def test_a_classifier_of_several_layers_is_no_mlp_of_a_transformer() -> None:
    assert weightless(models.vgg11).groups["mlp"] == ()


def test_blocks_in_a_list_of_any_name_are_found() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)])

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            for step in self.steps:
                images = step(images)
            return images

    assert names(nets.as_subject(Listed(), 8)) == ["steps.0", "steps.1"]


# --- what modules give -----------------------------------------------------------------------


class Gives(nn.Module):
    """A network, with one layer, whose ``block`` gives ``make(x)``, and which gives that out."""

    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.block = _Block(make)

    def forward(self, images: torch.Tensor) -> Any:
        return self.block(self.first(images))


class _Block(nn.Module):
    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(x)


def gives(make: Callable[[torch.Tensor], Any]) -> Subject:
    return nets.as_subject(Gives(make), 8)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: {"logits": x.mean(dim=(2, 3)), "loss": torch.tensor(1.0)},
        lambda x: (x.mean(dim=(2, 3)), None),
        lambda x: [x.mean(dim=(2, 3))],
    ],
    ids=["dictionary", "tuple", "list"],
)
def test_one_tensor_in_a_tuple_or_dictionary_is_it(make: Callable[[torch.Tensor], Any]) -> None:
    subject = gives(make)
    images = torch.rand(3, 3, 8, 8)
    found = tapped(subject, images, "first", "block")
    torch.testing.assert_close(found["block"], found["first"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: (x, x), "'block' of net gives 2 tensors in a tuple"),
        (lambda x: {"a": x, "b": x}, "'block' of net gives 2 tensors in a dict"),
        (lambda x: "text", "'block' of net gives no tensor but a str"),
        (lambda x: x[:1], "'block' of net gives 1 rows for 2 images"),
        (lambda x: x.flatten(2).permute(2, 0, 1), "'block' of net gives 64 rows for 2 images"),
        (lambda x: x.sum(dim=(1, 2, 3)), "no axis of units"),
    ],
    ids=["tuple", "dictionary", "no tensor", "no batch", "batch second", "no units"],
)
def test_what_gives_no_one_row_an_image_is_refused(
    make: Callable[[torch.Tensor], Any], message: str
) -> None:
    """By its own name; with a glob it is left out."""
    subject = gives(make)
    with pytest.raises(InputError, match=message):
        subject.layers(["block"])
    assert names(subject, "*") == ["first"]


def test_a_model_may_give_anything() -> None:
    for make in (lambda x: (x, x), lambda x: {"out": x, "aux": None}, lambda x: None):
        assert tapped(gives(make), torch.rand(2, 3, 8, 8), "first")["first"].shape == (2, 2)


def test_a_layer_that_gives_another_number_of_units_for_other_images_is_refused() -> None:
    subject = gives(lambda x: x.mean(dim=(2, 3)).repeat(1, 2 if float(x.mean()) > 9 else 1))
    subject.model.first.weight.data.fill_(1.0)  # type: ignore[union-attr, operator]
    layers = subject.layers(["block"])
    with pytest.raises(
        InputError, match=r"'block' of net gives \(2, 4\) for 2 images, not \(2, 2\)"
    ):
        subject.read(layers, torch.full((2, 3, 8, 8), 10.0))


def test_what_follows_in_place_does_not_change_what_was_read() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(inplace=True))
    images = torch.randn(5, 3, 8, 8)
    expected = net[1](images.flatten(1)).detach()
    assert bool((expected < 0).any())
    torch.testing.assert_close(tapped(nets.as_subject(net, 8), images, "1", "2")["1"], expected)


def test_a_preprocessing_that_gives_no_image() -> None:
    model = tiny.TinyNet()
    for preprocess, message in (
        (lambda image: image, "gives Image for an image"),
        (lambda image: torch.zeros(3, 8), r"gives \(3, 8\) for an image"),
        (lambda image: 1 / 0, "fails on an RGB image of 256 × 256 pixels: ZeroDivisionError"),
    ):
        with pytest.raises(InputError, match=f"preprocessing of net {message}"):
            Subject("net", model, preprocess, "", "").layers()


def test_a_model_that_does_not_take_its_own_images() -> None:
    subject = nets.as_subject(nets.vit(), 12)
    with pytest.raises(InputError, match="net fails on an image of 12 × 12 pixels: AssertionError"):
        subject.layers()


def test_memory_that_runs_out_at_once_is_the_machines_fault() -> None:
    with pytest.raises(ResourceError, match="memory ran out with 2 images"):
        tiny.tiny_subject(lambda: (tiny.Hungry(1), tiny.to_tensor())).layers()


# --- hooks and the early end -----------------------------------------------------------------


class Counts(nn.Module):
    """A chain of steps that count their calls."""

    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(steps))
        self.calls = [0] * steps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for i, step in enumerate(self.steps):
            self.calls[i] += 1
            images = step(images)
        return images


def test_nothing_after_the_last_wanted_layer_is_computed() -> None:
    model = Counts()
    subject = nets.as_subject(model, 8)
    layers = subject.layers(["steps.0", "steps.1"])
    model.calls = [0] * 4
    subject.read(layers, torch.rand(2, 3, 8, 8))
    assert model.calls == [1, 1, 0, 0]


def test_the_last_run_of_a_layer_counts_and_is_waited_for() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Conv2d(3, 3, 1, bias=False)
            self.scale.weight.data = 2 * torch.eye(3)[:, :, None, None]
            self.last = nn.Conv2d(3, 3, 1)
            self.reached = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            images = self.scale(self.scale(images))
            self.reached += 1
            result: torch.Tensor = self.last(images)
            return result

    model = Twice()
    subject = nets.as_subject(model, 8)
    (layer,) = subject.layers(["scale"])
    assert layer.runs == 2
    model.reached = 0
    assert subject.read([layer], torch.ones(1, 3, 8, 8))["scale"].tolist() == [[4.0, 4.0, 4.0]]
    assert model.reached == 0


def test_a_network_that_catches_exceptions_is_stopped_all_the_same() -> None:
    class Careful(Counts):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            try:
                return super().forward(images)
            except Exception:
                return images

    model = Careful()
    subject = nets.as_subject(model, 8)
    layers = subject.layers(["steps.0"])
    model.calls = [0] * 4
    assert subject.read(layers, torch.rand(2, 3, 8, 8))["steps.0"].shape == (2, 3)
    assert model.calls == [1, 0, 0, 0]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, torch.OutOfMemoryError])
def test_hooks_are_gone_whatever_happens(error: type[BaseException]) -> None:
    class Failing(Counts):
        failing = False

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            images = self.steps[0](images)
            if self.failing:
                assert hooks(self) == 2
                raise error
            result: torch.Tensor = self.steps[1](images)
            return result

    model = Failing()
    subject = nets.as_subject(model, 8)
    layers = subject.layers(["steps.*"])
    assert hooks(model) == 0
    model.failing = True
    with pytest.raises(error):
        subject.read(layers, torch.rand(2, 3, 8, 8))
    assert hooks(model) == 0


def test_each_pass_is_by_itself() -> None:
    subject = tiny.tiny_subject()
    layers = subject.layers(["fc"])
    assert subject.read(layers, torch.ones(4, 3, 8, 8))["fc"].shape == (4, 4)
    assert subject.read(layers, torch.zeros(2, 3, 8, 8))["fc"].shape == (2, 4)
    assert hooks(subject.model) == 0


def test_half_precision_is_handed_out_in_single() -> None:
    def halved(image: Image.Image) -> torch.Tensor:
        return tiny.to_tensor()(image).bfloat16()

    subject = tiny.tiny_subject(lambda: (tiny.TinyNet().bfloat16(), halved))
    images = torch.ones(2, 3, 8, 8, dtype=torch.bfloat16)
    assert tapped(subject, images, "color")["color"].dtype == torch.float32


# --- fingerprints ----------------------------------------------------------------------------


def test_equal_weights_have_equal_fingerprints_wherever_they_are() -> None:
    one, two = tiny.tiny_subject(name="one"), tiny.tiny_subject(name="two")
    assert one.fingerprint == two.fingerprint
    last = tiny.TinyNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert weights_digest(last) == weights_digest(tiny.TinyNet())


def change_a_weight(net: tiny.TinyNet) -> None:
    net.fc.weight.data[0, 0] += 1e-6


def change_a_buffer(net: tiny.TinyNet) -> None:
    net.register_buffer("running", torch.zeros(1))


def change_the_precision(net: tiny.TinyNet) -> None:
    net.double()


def rename(net: tiny.TinyNet) -> None:
    net.head, net.fc = net.fc, None  # type: ignore[assignment]


@pytest.mark.parametrize("change", [change_a_weight, change_a_buffer, change_the_precision, rename])
def test_two_trainings_of_one_architecture_differ(
    change: Callable[[tiny.TinyNet], None],
) -> None:
    net = tiny.TinyNet()
    before = weights_digest(net)
    change(net)
    assert weights_digest(net) != before


def test_the_preprocessing_is_part_of_the_fingerprint() -> None:
    model, preprocess = tiny.subject()
    prints = {Subject("s", model, preprocess, "w", text).fingerprint for text in ("8 × 8", "9 × 9")}
    assert len(prints) == 2


# --- the hand-made pair ----------------------------------------------------------------------


def test_tiny_vlm_gives_unit_rows_and_knows_its_colors() -> None:
    """What the other tests rest on: a flat image's nearest word is its colour."""
    vlm = tiny.vlm()
    words = [*tiny.PROBE_COLORS, "dog", "striped", "democracy"]
    texts = vlm.embed_texts(words)
    flat = [Image.new("RGB", (16, 16), tiny.COLORS[name]) for name in tiny.PROBE_COLORS]
    rows = vlm.embed_images(torch.stack([vlm.preprocess(image) for image in flat])).numpy()
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    cosines = rows @ texts.T
    assert cosines.argmax(axis=1).tolist() == list(range(len(tiny.PROBE_COLORS)))
    np.testing.assert_allclose(cosines[:, -3:], 0, atol=1e-7)
    assert len(np.unique(texts.round(5), axis=0)) == len(words)
