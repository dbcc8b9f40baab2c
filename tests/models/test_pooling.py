"""What one number a unit is made of, for every kind of network, against values worked out by hand.

The networks of :class:`Given` hand out what the test gives them, so their pooled values are sums
that can be done in the head; those of torchvision and timm are compared with a hook of the test's
own and the axes named here.
"""

from collections.abc import Callable

import nets
import pytest
import timm
import torch
from torch import nn

from profiler.errors import InputError, UnknownNameError
from profiler.models.subject.pooling import RULES, Pooling, SeenLayer, choose_pooling


class Given(nn.Module):
    """Gives out (B, …) the same values for each image, times the mean of the image."""

    def __init__(self, values: torch.Tensor, module: nn.Module | None = None, **marks: int) -> None:
        super().__init__()
        self.block = module or nn.Identity()
        self.values = values
        for name, count in marks.items():
            setattr(self, name, nn.Parameter(torch.zeros(1, count, values.shape[-1])))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        strength = images.mean(dim=(1, 2, 3)).reshape(-1, *[1] * self.values.dim())
        given: torch.Tensor = self.block(strength * self.values)
        return given


def pooled(model: nn.Module, rule: str = "auto") -> tuple[str, list[list[float]]]:
    """How ``block`` is pooled, and what that makes of an image of ones and one of twos."""
    subject = nets.as_subject(model, 8)
    images = torch.stack([torch.ones(3, 8, 8), torch.full((3, 8, 8), 2.0)])
    (layer,) = subject.layers(["block"], rule)
    return layer.pooling, subject.read([layer], images)["block"].tolist()


MAP = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
"""Three channels on 2 × 2 places: means 3, 1, 1 and maxima 6, 4, 1."""

TOKENS = torch.tensor([[9.0, 0.0], [8.0, 8.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [6.0, 5.0]])
"""A class token, a register and four patches, whose means are 3 and 5."""


# --- maps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text", "values"),
    [
        ("auto", "mean over 2 × 2", [3.0, 1.0, 1.0]),
        ("mean", "mean over 2 × 2", [3.0, 1.0, 1.0]),
        ("patch-mean", "mean over 2 × 2", [3.0, 1.0, 1.0]),
        ("max", "max over 2 × 2", [6.0, 4.0, 1.0]),
    ],
)
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_a_map(layout: str, rule: str, text: str, values: list[float]) -> None:
    given = MAP if layout == "channels first" else MAP.permute(1, 2, 0)
    assert pooled(Given(given), rule) == (text, [values, [2 * value for value in values]])


def test_a_map_has_no_class_token() -> None:
    with pytest.raises(InputError, match=r"'block' is a map \(2 × 2\) and has no class token"):
        pooled(Given(MAP), "cls")


def test_a_vector_stays_whatever_the_rule() -> None:
    for rule in RULES:
        assert pooled(Given(torch.tensor([1.0, 3.0])), rule) == ("none", [[1.0, 3.0], [2.0, 6.0]])


def test_a_map_of_an_oblong_image_keeps_its_proportions() -> None:
    """Two rows of four places: (2, 4, 3) has its channels last, (3, 2, 4) first."""
    net = nn.Sequential(nn.Identity())
    for shape, axes in (((2, 4, 3), (1, 2)), ((3, 2, 4), (2, 3)), ((4, 4, 8), (2, 3))):
        assert choose_pooling(net, "0", SeenLayer(shape, image=(16, 32))).axes == axes


@pytest.mark.parametrize(
    ("module", "axes"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()), (2, 3)),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), (1, 2)),
        (nn.Linear(2, 2), (1, 2)),
        (nn.LayerNorm(2), (1, 2)),
        (nn.Conv2d(2, 2, 1), (2, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_cube_is_read_by_what_made_it(module: nn.Module, axes: tuple[int, ...]) -> None:
    """Two channels on 2 × 2 places: the shape says nothing, the module does."""
    net = nn.Sequential(module)
    assert choose_pooling(net, "0", SeenLayer((2, 2, 2))).axes == axes


@pytest.mark.parametrize("make", [nets.swin, nets.timm_swin])
def test_a_swin_has_its_channels_last_though_they_are_as_many_as_places(
    make: Callable[[int], nn.Module],
) -> None:
    model = make(8).eval()
    stage = "features.1" if make is nets.swin else "layers.0"
    images = torch.rand(2, 3, 16, 16)
    output = nets.output_of(model, stage, images)
    assert output.shape == (2, 8, 8, 8)
    found = nets.tapped(nets.as_subject(model, 16), images, stage)[stage]
    torch.testing.assert_close(found, output.mean(dim=(1, 2)))


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(InputError, match=r"'block' gives \(2, 3, 4\) .* no axis of it is known"):
        pooled(Given(torch.zeros(2, 3, 4)))


def test_a_volume_is_refused() -> None:
    with pytest.raises(InputError, match=r"'block' gives \(1, 3, 2, 2\) an image, which cannot be"):
        pooled(Given(torch.zeros(1, 3, 2, 2)))


# --- tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text", "values"),
    [
        ("auto", "class token", [9.0, 0.0]),
        ("cls", "class token", [9.0, 0.0]),
        ("patch-mean", "mean over 4 patch tokens", [3.0, 5.0]),
        ("mean", "mean over 6 tokens", [29 / 6, 28 / 6]),
        ("max", "max over 6 tokens", [9.0, 8.0]),
    ],
)
def test_tokens_with_a_class_token_and_a_register(
    rule: str, text: str, values: list[float]
) -> None:
    said, ((first, second), _) = pooled(Given(TOKENS, cls_token=1, register_tokens=1), rule)
    assert (said, first, second) == (text, pytest.approx(values[0]), pytest.approx(values[1]))


def test_tokens_with_a_register_alone() -> None:
    model = Given(TOKENS[1:], reg_token=1)
    assert pooled(model) == ("mean over 4 patch tokens", [[3.0, 5.0], [6.0, 10.0]])
    with pytest.raises(InputError, match="none of them is known as a class token"):
        pooled(model, "cls")


def test_patches_alone() -> None:
    """Before the class token joins, or in a network that has none."""
    for model in (Given(TOKENS[2:]), Given(TOKENS[2:], cls_token=1)):
        assert pooled(model) == ("mean over 4 patch tokens", [[3.0, 5.0], [6.0, 10.0]])


def test_tokens_that_fill_no_grid_and_that_nobody_explains() -> None:
    model = Given(TOKENS[1:])
    text, _ = pooled(model)
    assert text == "mean over 5 tokens"
    with pytest.raises(InputError, match="it is unknown which of them are patches"):
        pooled(model, "patch-mean")


class Joins(nn.Module):
    """Four patches, of values that differ with the image, and learned tokens set among them."""

    def __init__(self, place: int, learned: int, **names: torch.Tensor) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, 4, stride=4)
        self.block = nn.TransformerEncoderLayer(2, 1, 4, batch_first=True)
        self.place, self.learned = place, torch.arange(2.0 * learned).reshape(1, learned, 2)
        for name, tokens in names.items():
            setattr(self, name, nn.Parameter(tokens))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.patches(images).flatten(2).transpose(1, 2)
        learned = self.learned.expand(len(found), -1, -1)
        parts = found[:, : self.place], learned, found[:, self.place :]
        given: torch.Tensor = self.block(torch.cat(parts, dim=1))
        return given


@pytest.mark.parametrize("place", [0, 2, 4], ids=["first", "amid", "last"])
def test_a_class_token_is_found_where_it_joins_whatever_it_is_called(place: int) -> None:
    """It is the same for every image, as nothing that was read from one is."""
    torch.manual_seed(0)
    model = Joins(place, 1).eval()
    subject = nets.as_subject(model, 8)
    images = torch.rand(2, 3, 8, 8)
    tokens = nets.output_of(model, "block", images)
    assert subject.layers(["block"])[0].pooling == "class token"
    torch.testing.assert_close(nets.tapped(subject, images, "block")["block"], tokens[:, place])
    patches = torch.cat([tokens[:, :place], tokens[:, place + 1 :]], dim=1).mean(dim=1)
    found = nets.tapped(subject, images, "block", pool="patch-mean")["block"]
    torch.testing.assert_close(found, patches)


def test_tokens_of_which_there_is_one_at_each_scale_count_once() -> None:
    """``cls_token1`` to ``cls_token4`` stand at four places, as CoaT has them."""
    ones = {f"cls_token{i}": torch.ones(1, 1, 2) for i in range(1, 5)}
    model = Given(TOKENS[1:])
    for name, token in ones.items():
        setattr(model, name, nn.Parameter(token))
    said, ((first, second), _) = pooled(model)
    assert (said, first, second) == ("class token", 8.0, 8.0)


def test_class_and_distillation_token_by_themselves_are_not_averaged() -> None:
    model = Given(TOKENS[:2], cls_token=1, dist_token=1)
    model.num_patches, model.patch_size = 4, 4
    assert pooled(model) == ("class token", [[9.0, 0.0], [18.0, 0.0]])


def test_the_tokens_may_be_kept_in_a_part_that_makes_the_embeddings() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = Given(TOKENS)
            self.vit.embeddings = nn.Module()
            self.vit.embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, 2))
            self.vit.embeddings.register_tokens = nn.Parameter(torch.zeros(1, 1, 2))
            self.block = nn.Identity()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.vit(images)[:, 0]  # type: ignore[no-any-return]

    subject = nets.as_subject(Wrapped(), 8)
    assert subject.layers(["vit.block"])[0].pooling == "class token"
    found = nets.tapped(subject, torch.ones(1, 3, 8, 8), "vit.block", pool="patch-mean")
    assert found["vit.block"].tolist() == [[3.0, 5.0]]


def test_a_vit_of_torchvision() -> None:
    model = nets.vit()
    subject = nets.as_subject(model, 8)
    name = "encoder.layers.encoder_layer_0"
    (layer,) = subject.layers([name])
    assert (layer.shape, layer.units, layer.pooling) == ((5, 6), 6, "class token")
    images = torch.rand(3, 3, 8, 8)
    output = nets.output_of(model, name, images)
    assert torch.equal(nets.tapped(subject, images, name)[name], output[:, 0])
    patches = nets.tapped(subject, images, name, pool="patch-mean")[name]
    torch.testing.assert_close(patches, output[:, 1:].mean(dim=1))


@pytest.mark.parametrize(
    ("name", "options", "first", "said"),
    [
        ("vit_tiny_patch16_224", {}, None, "class token"),
        (
            "vit_tiny_patch16_224",
            {"class_token": False, "global_pool": "avg"},
            0,
            "mean over 4 patch tokens",
        ),
        ("vit_base_patch16_reg4_gap_256", {}, 4, "mean over 4 patch tokens"),
        ("vit_small_patch14_reg4_dinov2", {}, None, "class token"),
        ("vit_small_patch16_dinov3", {"rope_type": "dinov3"}, None, "class token"),
        ("deit_tiny_distilled_patch16_224", {}, None, "class token"),
    ],
    ids=["class", "neither", "registers", "class and registers", "DINOv3", "distilled"],
)
def test_tokens_of_timm(
    name: str, options: dict[str, object], first: int | None, said: str
) -> None:
    """Registers are scratch paper of the network: they belong to no patch."""
    model = nets.timm_vit(name, **options).eval()
    subject = nets.as_subject(model, 8)
    for layer in subject.layers(["blocks.1", "blocks.0.attn.qkv"]):
        assert layer.pooling == said
        images = torch.rand(2, 3, 8, 8)
        tokens = nets.output_of(model, layer.name, images)
        by_hand = tokens[:, 0] if first is None else tokens[:, first:].mean(dim=1)
        torch.testing.assert_close(nets.tapped(subject, images, layer.name)[layer.name], by_hand)
        before = tokens.shape[1] - 4
        patches = nets.tapped(subject, images, layer.name, pool="patch-mean")[layer.name]
        torch.testing.assert_close(patches, tokens[:, before:].mean(dim=1))


def test_patches_before_the_class_token_joins_give_their_mean() -> None:
    (layer,) = nets.as_subject(nets.timm_vit(), 8).layers(["patch_embed"])
    assert layer.pooling == "mean over 4 patch tokens"


def test_a_class_token_by_itself() -> None:
    model = timm.create_model(
        "cait_xxs24_224", img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=3
    )
    blocks = nets.as_subject(model, 8).layers(["blocks.0", "blocks_token_only.0"])
    assert [layer.pooling for layer in blocks] == ["mean over 4 patch tokens", "class token"]


# --- other kinds -----------------------------------------------------------------------------


def test_a_swin_of_torchvision() -> None:
    model = nets.swin()
    subject = nets.as_subject(model, 16)
    stem, *_, merge, stage, head = subject.layers()
    assert (stem.units, merge.units, stage.units, head.units) == (6, 12, 12, 1000)
    assert stem.pooling == "mean over 8 × 8"
    images = torch.rand(2, 3, 16, 16)
    by_hand = nets.output_of(model, stage.name, images).mean(dim=(1, 2))
    assert by_hand.shape == (2, 12)
    torch.testing.assert_close(nets.tapped(subject, images, stage.name)[stage.name], by_hand)
    (first,) = subject.layers(["features.0.0"])  # its one convolution has its channels first
    assert (first.kind, first.shape, first.units) == ("Conv2d", (6, 8, 8), 6)


def test_the_windows_of_a_swin_belong_to_their_image() -> None:
    """Attention is computed in 4 × 4 windows of 2 × 2, all of them rows of one batch."""
    model = nets.timm_swin().eval()
    subject = nets.as_subject(model, 16)
    name = "layers.0.blocks.0.attn.qkv"
    (layer,) = subject.layers([name])
    assert (layer.shape, layer.units) == ((16, 4, 18), 18)
    assert layer.pooling == "mean over 16 windows of 4"
    images = torch.rand(3, 3, 16, 16)
    rows = nets.output_of(model, name, images)
    assert rows.shape == (48, 4, 18)
    by_hand = torch.stack([rows[16 * i : 16 * (i + 1)].mean(dim=(0, 1)) for i in range(3)])
    torch.testing.assert_close(nets.tapped(subject, images, name)[name], by_hand)
    with pytest.raises(InputError, match="has no class token"):
        subject.layers([name], "cls")


@pytest.mark.parametrize(
    ("make", "stage", "inside"),
    [
        (nets.convnext, "features.1", "features.1.0.block.4"),
        (nets.timm_convnext, "stages.0", "stages.0.blocks.0.mlp.act"),
    ],
    ids=["torchvision", "timm"],
)
def test_a_convnext_turns_its_axes_inside_a_block(
    make: Callable[[], nn.Module], stage: str, inside: str
) -> None:
    model = make().eval()
    images = torch.rand(2, 3, 32, 32)
    found = nets.tapped(nets.as_subject(model, 32), images, stage, inside)
    outside = nets.output_of(model, stage, images)
    assert outside.shape == (2, 6, 8, 8)
    torch.testing.assert_close(found[stage], outside.mean(dim=(2, 3)))
    hidden = nets.output_of(model, inside, images)
    assert hidden.shape == (2, 8, 8, 24)
    torch.testing.assert_close(found[inside], hidden.mean(dim=(1, 2)))


def test_a_hybrid_has_maps_then_tokens() -> None:
    model = nets.hybrid().eval()
    subject = nets.as_subject(model, 8)
    wanted = ("patch_embed.backbone.0", "patch_embed", "blocks.0", "head")
    stem, patches, block, head = subject.layers(wanted)
    assert [layer.pooling for layer in (stem, patches, block, head)] == [
        "mean over 4 × 4",
        "mean over 4 patch tokens",
        "class token",
        "none",
    ]
    images = torch.rand(2, 3, 8, 8)
    found = subject.read((stem, patches, block, head), images)
    by_hand = nets.output_of(model, "blocks.0", images)[:, 0]
    torch.testing.assert_close(found["blocks.0"], by_hand)


def test_a_sequence_of_channels() -> None:
    model = Given(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]), nn.BatchNorm1d(2, eps=0))
    assert pooled(model) == ("mean over 3", [[3.0, 1.0], [6.0, 2.0]])


# --- numbers ---------------------------------------------------------------------------------


def test_half_precision_is_averaged_in_single() -> None:
    """1 and 1 + 1/128 are neighbours in bfloat16; their mean lies between."""
    values = torch.tensor([[[1.0, 1.0078125], [1.0, 1.0078125]]], dtype=torch.bfloat16)
    mean = Pooling(1, "", axes=(2, 3))(values[None])
    assert mean.dtype == torch.float32
    assert mean.item() == 1.00390625


def test_what_is_handed_out_is_a_copy() -> None:
    output = torch.ones(2, 3, 4)
    for pooling in (Pooling(4, "", token=0), Pooling(12, "")):
        before = pooling(output)
        output.zero_()
        assert bool((before == 1).all())
        output.fill_(1)


# --- the rule and several layers -------------------------------------------------------------


def test_in_a_group_a_layer_the_rule_does_not_suit_keeps_its_own() -> None:
    """A patch embedding is a map beside blocks that have a class token."""
    subject = nets.as_subject(nets.vit(), 8)
    assert [layer.pooling for layer in subject.layers(["all"], "cls")] == [
        "mean over 2 × 2",
        "class token",
        "class token",
        "none",
    ]


def test_by_its_own_name_it_is_refused() -> None:
    subject = nets.as_subject(nets.vit(), 8)
    with pytest.raises(InputError, match="'conv_proj' is a map"):
        subject.layers(["all", "conv_proj"], "cls")


def test_a_rule_that_suits_no_layer_of_a_group_is_refused() -> None:
    with pytest.raises(InputError, match=r"is a map .* and has no class token"):
        nets.as_subject(nets.convnext(), 32).layers(["all"], "cls")


def test_an_unknown_rule() -> None:
    with pytest.raises(UnknownNameError, match="unknown pooling rule 'avg'"):
        nets.as_subject(nets.vit(), 8).layers(["all"], "avg")
