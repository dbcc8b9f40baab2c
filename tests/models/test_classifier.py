"""A network in two halves, and what both give."""

import guard_samples
import nets
import numpy as np
import pytest
import torch
from nets import as_subject
from tiny import TinyNet, tiny_subject
from torch import nn

from profiler.errors import InputError, UnknownNameError
from profiler.guard.runtime import Guarded
from profiler.models.classifier import Classifier, dead_weights


def images(count: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def both(classifier: Classifier, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What both halves give."""
    return classifier.read(classifier.readings, images)


def test_the_head_is_the_last_linear_layer() -> None:
    found = Classifier.find(tiny_subject())
    assert (found.head, found.outputs, found.features) == ("fc", 4, 4)
    assert found.weights.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 0]]
    assert found.bias.tolist() == [0, 0, 0, 0]


def test_features_are_what_the_head_reads() -> None:
    subject = tiny_subject()
    halves = both(Classifier.find(subject), images())
    red, green, blue = images().mean((2, 3)).T
    assert torch.allclose(halves["features"][:, 0], red - (green + blue) / 2, atol=1e-6)
    assert (halves["features"][:, 3] == 1).all()
    assert torch.allclose(halves["logits"], subject.model(images()), atol=1e-6)
    assert "drift" not in halves  # there is no batch normalisation


@pytest.mark.parametrize(
    "make",
    [nets.vit, nets.timm_vit, nets.swin, nets.timm_swin, nets.convnext, nets.timm_convnext],
)
def test_logits_are_w_z_plus_b_whatever_the_network(make: object) -> None:
    assert callable(make)
    model = make()
    side = 16 if make is nets.timm_swin else 32 if "convnext" in make.__name__ else 8
    subject = as_subject(model, side)
    found = Classifier.find(subject)
    halves = both(found, images(side=side))
    made = halves["features"].double().numpy() @ found.weights.T + found.bias
    assert np.allclose(made, halves["logits"].numpy(), atol=1e-4)
    with torch.inference_mode():
        assert torch.allclose(halves["logits"], model(images(side=side)), atol=1e-5)


def test_a_softmax_after_the_head_does_not_hide_it() -> None:
    net = nn.Sequential(TinyNet(), nn.Softmax(dim=1))
    found = Classifier.find(as_subject(net, 8))
    assert found.head == "0.fc"
    assert torch.allclose(both(found, images())["logits"], TinyNet()(images()))


def test_a_convolution_of_one_position_is_a_head() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 4, 1), nn.Flatten()
    )
    found = Classifier.find(as_subject(net, 8))
    assert (found.head, found.outputs, found.features) == ("2", 4, 5)
    halves = both(found, images())
    made = halves["features"].double().numpy() @ found.weights.T + found.bias
    assert np.allclose(made, halves["logits"].numpy(), atol=1e-4)


class Reversed(nn.Module):
    """Ranks the classes the other way round after its last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TinyNet()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -self.net(images)  # type: ignore[no-any-return]


def test_a_head_that_does_not_decide_is_refused_unless_named() -> None:
    subject = as_subject(Reversed(), 8)
    with pytest.raises(InputError, match=r"'net.fc', is not its head: the network ranks .* --head"):
        Classifier.find(subject)
    named = Classifier.find(subject, "net.fc")
    assert torch.allclose(both(named, images())["logits"], TinyNet()(images()))


def test_networks_without_a_head_are_refused() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    with pytest.raises(InputError, match="has no linear layer"):
        Classifier.find(as_subject(flat, 8))
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5))
    with pytest.raises(InputError, match=r"for an image has shape \(3, 64\), not one row"):
        Classifier.find(as_subject(tokens, 8))
    with pytest.raises(UnknownNameError, match="fc"):
        Classifier.find(tiny_subject(), "fx")
    with pytest.raises(InputError, match="AdaptiveAvgPool2d is not a linear layer"):
        Classifier.find(tiny_subject(), "pool")
    one = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    with pytest.raises(InputError, match="one output"):
        Classifier.find(as_subject(one, 8))


def test_weights_that_are_not_finite_are_refused() -> None:
    net = TinyNet()
    with torch.no_grad():
        net.fc.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="'fc' of net holds NaN"):
        Classifier.find(as_subject(net, 8), "fc")


def normalised() -> nn.Sequential:
    """One normalisation of the colours, which remembers means of 0.5 and deviations of 0.1."""
    norm = nn.BatchNorm2d(3, eps=0.0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean[:], norm.running_var[:] = 0.5, 0.01
    return nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


def test_drift_is_the_mean_square_of_how_far_the_means_are() -> None:
    found = Classifier.find(as_subject(normalised(), 8))
    flat = torch.tensor([[0.5, 0.5, 0.5], [0.6, 0.5, 0.5], [0.2, 0.2, 0.2]])
    drift = both(found, flat[:, :, None, None].expand(3, 3, 8, 8))["drift"]
    assert torch.allclose(drift[:, 0], torch.tensor([0.0, 1 / 3, 9.0]), atol=1e-4)


def test_nothing_is_left_behind_on_the_network() -> None:
    subject = as_subject(normalised(), 8)
    both(Classifier.find(subject), images())
    modules = list(subject.model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_gradients_flow_through_the_logits() -> None:
    leaf = images().requires_grad_()
    Classifier.find(tiny_subject()).logits()(leaf)[:, 0].sum().backward()
    assert leaf.grad is not None
    # d redness / d red: one over the number of pixels; green and blue count half against it.
    assert torch.allclose(leaf.grad[:, 0], torch.tensor(1 / 64))
    assert torch.allclose(leaf.grad[:, 1:], torch.tensor(-1 / 128))


def test_the_fingerprint_tells_heads_and_weights_apart() -> None:
    other = TinyNet()
    with torch.no_grad():
        other.fc.weight[0, 0] = 2.0
    two = nn.Sequential(TinyNet(), nn.Linear(4, 4))
    found = [
        Classifier.find(tiny_subject()).fingerprint,
        Classifier.find(as_subject(other, 8)).fingerprint,
        Classifier.find(as_subject(two, 8)).fingerprint,
        Classifier.find(as_subject(two, 8), "0.fc").fingerprint,
    ]
    assert len(set(found)) == 4


def test_weights_on_inputs_that_never_vary() -> None:
    """The fourth unit of the hand-made network is always 1; the head gives it no weight. Once it
    has as much as each of the other units has, a quarter lies there."""
    net = TinyNet()
    flat = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])[:, :, None, None].expand(3, 3, 2, 2)
    assert dead_weights(net, [flat]) == {"color": 0.0, "fc": 0.0}
    with torch.no_grad():
        net.fc.weight[:] = torch.eye(4)
    assert dead_weights(net, [flat]) == {"color": 0.0, "fc": 0.25}
    # Batches count together: each colour alone never varies, all three do.
    assert dead_weights(net, flat.split(1)) == dead_weights(net, [flat])
    assert dead_weights(net, [flat[:1]])["color"] == 1.0
    assert not any(m._forward_hooks for m in net.modules())


def test_the_tokens_of_a_linear_layer_are_positions() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0, 2.0]])
    tokens = torch.tensor([[[0.0, 5.0], [1.0, 5.0]]])
    assert dead_weights(nn.Sequential(layer), [tokens]) == {"0": pytest.approx(0.8)}


# --- heads of more than one layer, and of other kinds ----------------------------------------


class TwoHeads(nn.Module):
    """Two linear layers whose mean, or sum, is the output; of the same features or of two."""

    def __init__(self, divisor: int = 2, apart: bool = False, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 3)
        self.one, self.two = nn.Linear(8, classes), nn.Linear(8, classes)
        self.divisor, self.apart = divisor, apart

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.body(images)
        z = found.mean((2, 3))
        other = found.amax((2, 3)) if self.apart else z
        return (self.one(z) + self.two(other)) / self.divisor  # type: ignore[no-any-return]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("divisor", "text"), [(1, "one + two"), (2, "(one + two) / 2")])
@pytest.mark.parametrize("apart", [False, True], ids=["same features", "two features"])
def test_two_linear_heads_are_one(divisor: int, text: str, apart: bool, classes: int) -> None:
    net = TwoHeads(divisor, apart, classes)
    found = Classifier.find(as_subject(net, 8))
    assert (found.head, found.outputs, found.features) == (text, classes, 16 if apart else 8)
    halves = both(found, images())
    made = halves["features"].double().numpy() @ found.weights.T + found.bias
    with torch.inference_mode():
        assert np.allclose(made, net(images()).numpy(), atol=1e-5)
        assert torch.allclose(halves["logits"], net(images()), atol=1e-6)
    if not apart:
        with torch.inference_mode():
            mean = (net.one.weight + net.two.weight).double().numpy() / divisor
        assert np.allclose(found.weights, mean)
    again = Classifier.find(as_subject(net, 8), text)
    assert again.fingerprint == found.fingerprint


def test_each_of_two_heads_may_be_named_by_itself() -> None:
    net = TwoHeads()
    found = Classifier.find(as_subject(net, 8), "two")
    assert np.allclose(found.weights, net.two.weight.detach().numpy())
    with pytest.raises(InputError, match=r"--head net.one \+ net.two: the network ranks"):
        Classifier.find(as_subject(Negated(), 8), "net.one + net.two")


class Negated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = TwoHeads()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -self.net(images)  # type: ignore[no-any-return]


class Cosine(nn.Linear):
    """A head of normalised features and weights, as detection networks have it."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        w = nn.functional.normalize(self.weight)
        return nn.functional.linear(20 * nn.functional.normalize(z), w, self.bias)


class Doubled(nn.Linear):
    """No plain linear layer, and yet linear: its weights count twice."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(z, 2 * self.weight, self.bias)


def with_head(head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def test_a_head_that_scales_its_features_is_refused() -> None:
    for given in (None, "3"):
        with pytest.raises(
            InputError, match=r"'3' of net, a Cosine, does not give W z \+ b: output"
        ):
            Classifier.find(as_subject(with_head(Cosine(8, 5)), 8), given)


@pytest.mark.parametrize(
    ("head", "name"),
    [(Doubled(8, 5), "3"), (nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 5)), "3.1")],
    ids=["subclass", "normalised"],
)
def test_w_and_b_are_what_the_head_does_not_what_it_keeps(head: nn.Module, name: str) -> None:
    net = with_head(head)
    found = Classifier.find(as_subject(net, 8))
    assert found.head == name
    halves = both(found, images())
    made = halves["features"].double().numpy() @ found.weights.T + found.bias
    with torch.inference_mode():
        assert np.allclose(made, net(images()).numpy(), atol=1e-5)


def test_a_network_that_squeezes_its_batch_answers_to_one_image() -> None:
    class Squeezed(TwoHeads):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).squeeze()

    found = Classifier.find(as_subject(Squeezed(), 8))
    one, three = both(found, images()[:1]), both(found, images())
    assert one["logits"].shape == (1, 5)
    assert torch.allclose(one["logits"], three["logits"][:1], atol=1e-6)


def test_half_precision_weights_take_the_images_of_any_preprocessing() -> None:
    found = Classifier.find(as_subject(TwoHeads().bfloat16(), 8))
    halves = both(found, images())
    made = halves["features"].double().numpy() @ found.weights.T + found.bias
    assert halves["logits"].dtype == torch.float32
    assert np.allclose(made, halves["logits"].numpy(), atol=0.02)


class Shared(TinyNet):
    """The colours of :class:`TinyNet`, told by two heads of which the mean is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.two = nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            off = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
            self.two.weight.copy_(self.fc.weight - off)
            self.fc.weight += off

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        z = self.pool(self.color(images)).flatten(1)
        return (self.fc(z) + self.two(z)) / 2  # type: ignore[no-any-return]


def test_a_guard_reads_two_heads_as_one() -> None:
    made = guard_samples.guard()
    seen = guard_samples.images_of(guard_samples.colors_of(40, 5)[0])
    logits, usual = made.wrap(TinyNet().eval())(seen)
    head = Classifier.find(as_subject(Shared(), 8)).head
    assert head == "(fc + two) / 2"
    found, verdict = Guarded(Shared().eval(), head, made.core())(seen)
    assert torch.allclose(found, logits, atol=1e-5)
    assert torch.allclose(verdict.score, usual.score, atol=1e-4)
    assert torch.equal(verdict.flagged, usual.flagged)
