"""Attacks on networks whose loss is a sum of products, so that the best one is known."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision import transforms

from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.models.attacks import Attack, PixelScale, parse_eps

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
PLAIN = PixelScale((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def normalised() -> PixelScale:
    a, b, c = (-mean / std for mean, std in zip(MEAN, STD, strict=True))
    d, e, f = (1 / std for std in STD)
    return PixelScale((a, b, c), (d, e, f))


class Linear(nn.Module):
    """Two logits: w · x and 0."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = (images * self.weights).flatten(1).sum(dim=1)
        return torch.stack([score, torch.zeros_like(score)], dim=1)


def linear(seed: int = 0, side: int = 4) -> Linear:
    return Linear(torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed)))


class Curved(nn.Module):
    """A small network with batch norm and dropout, which behave otherwise in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 5),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images * 10)
        return logits


def inputs(batch: int = 3, side: int = 4, *, low: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Normalised images with pixels in [low, 1 − low]."""
    pixels = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))
    pixels = low + (1 - 2 * low) * pixels
    shift, scale = normalised().shift, normalised().scale
    return torch.tensor(shift)[:, None, None] + torch.tensor(scale)[:, None, None] * pixels


def cross_entropy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(model.eval()(images).double(), labels, reduction="none")


# --- where the effect is arithmetic ----------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_a_margin_falls_by_eps_times_the_weights(method: str, label: int) -> None:
    """One pixel of ε moves channel k by ε / std_k, so the margin falls by ε Σ |w| / std."""
    model, images, eps = linear(), inputs(low=0.1), 8 / 255
    labels = torch.full((3,), label)
    made = Attack(method, eps)(model, images, labels, normalised())
    before, after = (model(each)[:, 0] * (1 - 2 * label) for each in (images, made))
    fall = eps * (model.weights.abs().sum(dim=(1, 2)) / torch.tensor(STD)).sum()
    torch.testing.assert_close(before - after, fall.expand(3), rtol=1e-4, atol=1e-4)
    away = -(1 - 2 * label) * model.weights.sign()
    torch.testing.assert_close(
        normalised().pixels(made - images) - normalised().pixels(torch.zeros(1, 3, 1, 1)),
        eps * away.expand(3, -1, -1, -1),
        rtol=0,
        atol=1e-6,
    )


def test_pixels_stop_at_black_and_white() -> None:
    model, images = linear(), inputs()
    made = normalised().pixels(
        Attack("pgd", 0.5)(model, images, torch.zeros(3).long(), normalised())
    )
    pixels = normalised().pixels(images)
    best = torch.clamp(pixels - 0.5 * model.weights.sign(), 0, 1)
    torch.testing.assert_close(made, best, rtol=0, atol=1e-5)
    assert (best == 0).any()
    assert (best == 1).any()


def test_steps_are_two_and_a_half_eps_over_their_number() -> None:
    model, images, eps = Steps(linear().weights), inputs(low=0.2), 0.1
    Attack("pgd", eps, steps=50)(model, images, torch.zeros(3).long(), normalised())
    # The first pass is the clean one; the second is the start, and no step follows the last one.
    assert len(model.seen) == 1 + 50 + 1
    pixels = [normalised().pixels(each) for each in model.seen]
    moved = (pixels[2] - pixels[1]).abs()
    assert float(moved.max()) == pytest.approx(2.5 * eps / 50, rel=1e-3)
    start = (pixels[1] - pixels[0]) / eps
    assert float(start.abs().max()) <= 1 + 1e-4
    assert float(start.std()) == pytest.approx(1 / math.sqrt(3), rel=0.1)


class Steps(Linear):
    """Keeps what it is shown."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__(weights)
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.detach().clone())
        return super().forward(images)


def test_a_very_sure_network_is_no_robust_one() -> None:
    """A margin of 3,000 rounds the softmax to 1, where the cross-entropy has no gradient."""
    weights = torch.full((3, 4, 4), 1000.0)
    images = torch.full((1, 3, 4, 4), 0.5)
    made = Attack("fgsm", 0.1)(Linear(weights), images, torch.zeros(1).long(), PLAIN)
    torch.testing.assert_close(made, torch.full_like(made, 0.4))


def test_fgsm_is_the_sign_of_the_gradient_of_the_cross_entropy() -> None:
    model, images = Curved().eval(), inputs(4, 8, low=0.1)
    labels = torch.tensor([0, 1, 4, 2])
    leaf = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), labels)
    (gradient,) = torch.autograd.grad(loss, leaf)
    step = 0.05 / torch.tensor(STD)[:, None, None] * gradient.sign()
    torch.testing.assert_close(
        Attack("fgsm", 0.05)(model, images, labels, normalised()), images + step
    )


# --- promises --------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["fgsm", "pgd"]),
    st.floats(0, 1),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 1000),
)
def test_within_eps_and_within_the_picture(
    method: str, eps: float, steps: int, batch: int, seed: int
) -> None:
    model, images = Curved(), inputs(batch, 6, seed=seed)
    labels = torch.arange(batch) % 5
    made = Attack(method, eps, steps, seed)(model, images, labels, normalised())
    before, after = (normalised().pixels(each) for each in (images, made))
    assert float((after - before).abs().max()) <= eps + 1e-6
    assert float(after.min()) >= -1e-6
    assert float(after.max()) <= 1 + 1e-6
    if method == "pgd":
        gain = cross_entropy(model, made, labels) - cross_entropy(model, images, labels)
        assert float(gain.min()) >= -1e-6


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_no_eps_is_no_change(method: str) -> None:
    images = inputs(5, 8)
    made = Attack(method, 0.0)(Curved(), images, torch.zeros(5).long(), normalised())
    assert torch.equal(made, images)
    assert made.data_ptr() != images.data_ptr()


def test_pgd_finds_more_than_fgsm_does() -> None:
    model, images = Curved(), inputs(16, 8)
    labels = model.eval()(images).argmax(dim=1)
    one, many = (
        cross_entropy(model, attack(model, images, labels, normalised()), labels)
        for attack in (Attack("fgsm", 0.1), Attack("pgd", 0.1, 20))
    )
    assert (
        float(many.mean()) > float(one.mean()) > float(cross_entropy(model, images, labels).mean())
    )


def test_the_best_point_is_kept_image_by_image() -> None:
    """A loss with its peak at the image itself: nothing found on the way is better."""

    class Peak(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            far = (images - 0.5).square().flatten(1).sum(dim=1)
            return torch.stack([far, torch.zeros_like(far)], dim=1)

    images = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 0.7)])
    made = Attack("pgd", 0.1)(Peak(), images, torch.zeros(2).long(), PLAIN)
    assert torch.equal(made[0], images[0])
    torch.testing.assert_close(made[1], torch.full((3, 4, 4), 0.6), rtol=0, atol=1e-5)


def test_chance_is_of_the_seed_and_the_number_of_the_image() -> None:
    model, images, labels = Curved(), inputs(4, 8), torch.tensor([0, 1, 2, 3])
    attack = Attack("pgd", 0.1, steps=2, seed=7)
    whole = attack(model, images, labels, normalised())
    torch.manual_seed(123)
    assert torch.equal(attack(model, images, labels, normalised()), whole)
    half = attack(model, images[2:], labels[2:], normalised(), indices=[2, 3])
    torch.testing.assert_close(half, whole[2:], rtol=0, atol=1e-5)
    other = Attack("pgd", 0.1, steps=2, seed=8)(model, images, labels, normalised())
    assert not torch.equal(other, whole)
    twice = Steps(torch.ones(3, 4, 4))
    attack(twice, inputs(1).repeat(2, 1, 1, 1), labels[:2] * 0, normalised())
    assert not torch.equal(*twice.seen[1])


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(method: str, training: bool) -> None:
    model = Curved().train(training)
    model.layers[3].train(not training)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images = inputs(2, 8)
    kept, noise = images.clone(), torch.random.get_rng_state()
    Attack(method, 0.1)(model, images, torch.tensor([0, 1]), normalised())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(images, kept)
    assert not images.requires_grad
    assert torch.equal(torch.random.get_rng_state(), noise)


def test_the_network_is_left_as_it_was_after_a_failure() -> None:
    model = Curved().train()
    with pytest.raises(InputError, match="labels must be classes from 0 to 4; got 0 to 5"):
        Attack("pgd", 0.1)(model, inputs(2, 8), torch.tensor([0, 5]), normalised())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
@pytest.mark.parametrize(
    "around", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_what_is_around_does_not_matter(method: str, around: Callable[..., torch.no_grad]) -> None:
    model, images = Curved().requires_grad_(False), inputs(2, 8)
    labels = torch.tensor([0, 1])
    attack = Attack(method, 0.1)
    expected = attack(model, images, labels, normalised())
    with around():
        made = attack(model, images.clone(), labels.clone(), normalised())
    assert torch.equal(made, expected)
    assert not made.requires_grad
    assert not made.is_inference()


def test_a_network_may_change_its_input_in_place() -> None:
    class InPlace(Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images.mul_(2))

    images = inputs(low=0.1)
    for method in ("fgsm", "pgd"):
        attack, labels = Attack(method, 0.05), torch.zeros(3).long()
        made = attack(InPlace(linear().weights), images, labels, normalised())
        plain = attack(linear(), images, labels, normalised())
        torch.testing.assert_close(made, plain)
        none = Attack(method, 0.0)(InPlace(linear().weights), images, labels, normalised())
        assert torch.equal(none, images)


def test_a_gradient_that_is_nan_moves_nothing() -> None:
    """√0 has the slope ∞, and 0 · ∞ is NaN."""

    class Root(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images * 0).sqrt().flatten(1)[:, :2]

    images = torch.full((2, 3, 4, 4), 0.5)
    for method in ("fgsm", "pgd"):
        made = Attack(method, 0.1)(Root(), images, torch.zeros(2).long(), PLAIN)
        assert torch.equal(made, images)


# --- what cannot be attacked -----------------------------------------------------------------


class Gives(nn.Module):
    def __init__(self, make: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, images: torch.Tensor) -> object:
        return self.make(images)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda x: x, r"needs logits \(B, C\) of at least two classes, got \(2, 3, 4, 4\)"),
        (lambda x: {"logits": x.flatten(1)}, "got dict"),
        (lambda x: x.flatten(1)[:, :1], r"got \(2, 1\)"),
        (lambda x: x.flatten(1).detach(), "no gradient with respect to its input"),
        (lambda x: torch.ones(2, 3, requires_grad=True), "no gradient with respect to its input"),
        (lambda x: x.flatten(1) * math.nan, "gives NaN for 2 of the 2 images"),
    ],
)
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_what_gives_no_logits(
    make: Callable[[torch.Tensor], object], complaint: str, method: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        Attack(method, 0.1)(Gives(make), inputs(2), torch.tensor([0, 1]), normalised())


def test_what_does_not_fit() -> None:
    attack, model = Attack("fgsm", 0.1), linear()
    with pytest.raises(InputError, match=r"images \(B, 3, H, W\), got \(3, 4, 4\)"):
        attack(model, inputs()[0], torch.zeros(3).long(), PLAIN)
    with pytest.raises(InputError, match=r"3 images, \(2,\) labels, 3 indices"):
        attack(model, inputs(), torch.zeros(2).long(), normalised())
    with pytest.raises(InputError, match="1 indices"):
        attack(model, inputs(), torch.zeros(3).long(), normalised(), indices=[1])
    with pytest.raises(InputError, match="needs images between black and white"):
        attack(model, inputs(), torch.zeros(3).long(), PLAIN)
    assert attack(model, inputs()[:0], torch.zeros(0).long(), normalised()).shape == (0, 3, 4, 4)


# --- words -----------------------------------------------------------------------------------


@given(st.integers(0, 255))
def test_eps_in_steps_of_255(levels: int) -> None:
    assert parse_eps(f"{levels}/255") == levels / 255
    assert f"ε = {levels}/255" in Attack("pgd", parse_eps(f"{levels} / 255")).text
    assert parse_eps(str(float(Fraction(levels, 255)))) == levels / 255


@pytest.mark.parametrize("text", ["8", "-0.1", "", "/", "8/", "1/0", "nan", "inf", "8/255/2", "x"])
def test_eps_is_a_share_of_white(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"--eps '.*' is not a number from 0 to 1 .* 0.03 or 8/255"
    ):
        parse_eps(text)


def test_an_attack_says_what_it_is() -> None:
    assert Attack("fgsm", 8 / 255, steps=3, seed=9).text == "FGSM, ε = 8/255"
    assert Attack("pgd", 0.03, steps=20, seed=1).text == "PGD, ε = 0.03, 20 steps, seed 1"
    with pytest.raises(UnknownNameError, match="unknown attack 'fgms'; near names: fgsm"):
        Attack("fgms", 0.1)
    with pytest.raises(UsageError, match=r"from 0 to 1 \(white\), got 8\.0"):
        Attack("fgsm", 8.0)
    with pytest.raises(UsageError, match=r"from 0 to 1 \(white\), got nan"):
        Attack("fgsm", math.nan)
    with pytest.raises(UsageError, match="at least 1 step, got 0"):
        Attack("pgd", 0.1, steps=0)
    with pytest.raises(UsageError, match="must not be negative, got -1"):
        Attack("pgd", 0.1, seed=-1)


# --- the scale of pixels ---------------------------------------------------------------------


def preprocessing(*more: Callable[..., object]) -> Callable[[Image.Image], torch.Tensor]:
    steps: Callable[[Image.Image], torch.Tensor] = transforms.Compose(
        [transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor(), *more]
    )
    return steps


def noise(side: int = 16) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("steps", "colors"),
    [
        ([], (0, 1, 2)),
        ([transforms.Normalize(MEAN, STD)], (0, 1, 2)),
        ([lambda x: 255 * x.flip(0), transforms.Normalize((104, 117, 124), (1, 1, 1))], (2, 1, 0)),
        ([lambda x: 1 - x], (0, 1, 2)),
    ],
)
def test_the_scale_is_measured(
    steps: list[Callable[..., object]], colors: tuple[int, int, int]
) -> None:
    scale = PixelScale.measure(preprocessing(*steps))
    assert scale.colors == colors
    image = noise()
    plain = transforms.Compose([transforms.ToTensor(), *steps])(image)[None]
    torch.testing.assert_close(
        scale.pixels(plain), transforms.ToTensor()(image)[None], rtol=0, atol=1e-5
    )
    assert scale.pictures(plain)[0].tobytes() == image.tobytes()


def test_the_scale_is_that_of_mean_and_std() -> None:
    scale = PixelScale.measure(preprocessing(transforms.Normalize(MEAN, STD)))
    np.testing.assert_allclose(scale.shift, normalised().shift, rtol=1e-5)
    np.testing.assert_allclose(scale.scale, normalised().scale, rtol=1e-5)
    assert PixelScale.measure(tiny.to_tensor()) == PLAIN


def test_an_attack_on_inverted_colors_goes_the_right_way() -> None:
    scale = PixelScale.measure(preprocessing(lambda x: 2 * (1 - x)))
    assert scale.scale == (-2.0, -2.0, -2.0)
    model, images = linear(), 2 * (1 - normalised().pixels(inputs(low=0.2)))
    made = Attack("pgd", 0.1)(model, images, torch.zeros(3).long(), scale)
    torch.testing.assert_close(made, images - 0.2 * model.weights.sign(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (lambda x: (x - x.mean()) / (x.std() + 1e-3), "black and white to the same value"),
        (lambda x: x.mean(dim=0, keepdim=True).expand(3, -1, -1), "it mixes the colours"),
        (lambda x: x[[0, 0, 0]], "it drops a colour"),
        (lambda x: x**2.2, "it is not linear"),
        (lambda x: nn.functional.pad(x, (2, 2, 2, 2)), "one colour to several values"),
        (lambda x: x[:1], r"does not give a tensor \(3, H, W\)"),
        (lambda x: 1 / 0, "fails on an RGB image of 256 × 256 pixels: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_taken_back(step: Callable[[torch.Tensor], torch.Tensor], why: str) -> None:
    with pytest.raises(InputError, match=why):
        PixelScale.measure(preprocessing(step), "net")


def test_attacked_images_as_pictures() -> None:
    """ε of whole steps of 255 survives the rounding to 8 bits."""
    image = noise(4)
    images = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])(image)[
        None
    ]
    made = Attack("fgsm", 8 / 255)(linear(), images, torch.zeros(1).long(), normalised())
    after = np.asarray(normalised().pictures(made)[0], dtype=int)
    moved = np.abs(after - np.asarray(image, dtype=int))
    at_edge = (after == 0) | (after == 255)
    assert ((moved == 8) | at_edge).all()
    assert moved.max() == 8
