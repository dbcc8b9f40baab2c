"""What would make every number wrong is found on the first images of a set."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import CaptionVLM, TinyNet, TinyVLM, tiny_subject
from torch import nn
from torchvision import transforms

from profiler.activations.collect import Collected, collect, merge, try_first
from profiler.activations.kept import Fingerprints, collect_once, kept_pass
from profiler.activations.observe import check_weights, examine
from profiler.core.store import Store
from profiler.data.images import ImageFolder
from profiler.data.labelled.images import open_labelled
from profiler.data.labelled.names import ClassNames
from profiler.errors import InputError
from profiler.models.classifier import Classifier
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import trial_image
from profiler.models.subject.trial import in_company, try_preprocessing
from profiler.models.vlm.tagger import Tagger
from profiler.session import Reading


@pytest.fixture
def probe(tmp_path: Path) -> ImageFolder:
    tiny.write_images(tmp_path / "images", 13)
    return ImageFolder.open(tmp_path / "images")


def subject(net: nn.Module, preprocess: tiny.Preprocess | None = None) -> Subject:
    return tiny_subject(lambda: (net, preprocess or tiny.to_tensor()))


def trial(
    probe: ImageFolder, net: nn.Module, preprocess: tiny.Preprocess | None = None, size: int = 64
) -> None:
    tried = subject(net, preprocess)
    try_first(tried, tried.layers(), probe, batch_size=size)


def run(probe: ImageFolder, net: nn.Module, batch_size: int | None = None) -> Collected:
    read = subject(net)
    found = collect(read, read.layers(), TinyVLM(), probe, length=5, batch_size=batch_size)
    return merge(found, length=5)


@dataclass
class CountingVLM(TinyVLM):
    """Knows how many images it was shown."""

    shown: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        self.shown += len(images)
        return super().embed_images(images)


# --- preprocessing ---------------------------------------------------------------------------


def flips(chance: float = 0.5) -> tiny.Preprocess:
    steps: tiny.Preprocess = transforms.Compose(
        [transforms.RandomHorizontalFlip(chance), tiny.to_tensor()]
    )
    return steps


def crops(image: Image.Image) -> torch.Tensor:
    """As people write it by hand, with the generator of Python."""
    left = random.randrange(image.width // 2)
    return tiny.to_tensor()(image.crop((left, 0, left + image.width // 2, image.height)))


class OwnDice:
    """Draws from a generator of its own, as albumentations does."""

    def __init__(self) -> None:
        self.dice = np.random.default_rng(0)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        made = tiny.to_tensor()(image)
        return made.flip(-1) if self.dice.random() < 0.5 else made


def noisy(image: Image.Image) -> torch.Tensor:
    made = tiny.to_tensor()(image)
    return made + 1e-3 * torch.from_numpy(np.random.normal(size=made.shape)).float()  # noqa: NPY002


@pytest.mark.parametrize(
    "preprocess", [flips(), flips(0.1), crops, OwnDice(), noisy], ids=lambda p: type(p).__name__
)
def test_a_preprocessing_for_training_is_refused(
    probe: ImageFolder, preprocess: tiny.Preprocess
) -> None:
    with pytest.raises(InputError, match=r"^the model's preprocessing is random: for '0000_red\.p"):
        trial(probe, TinyNet(), preprocess)


def test_the_vlms_as_well(probe: ImageFolder) -> None:
    eyes = TinyVLM()
    eyes.preprocess = flips()
    net = tiny_subject()
    with pytest.raises(InputError, match="the VLM's preprocessing is random"):
        try_first(net, net.layers(), probe, eyes)


def seeded(image: Image.Image) -> torch.Tensor:
    """Random, but the same each time."""
    torch.manual_seed(5)
    return flips()(image)


def shrinks(image: Image.Image) -> torch.Tensor:
    """Changes the image it is given."""
    image.thumbnail((SIDE_BEFORE // 2, SIDE_BEFORE // 2))
    return tiny.to_tensor()(image)


SIDE_BEFORE = 16
"""Pixels a side of the images that ``tiny`` writes."""


@pytest.mark.parametrize("preprocess", [seeded, flips(0.0), shrinks])
def test_one_that_gives_the_same_each_time_is_not(
    probe: ImageFolder, preprocess: tiny.Preprocess
) -> None:
    trial(probe, TinyNet(), preprocess)


def test_what_the_model_does_to_its_image_the_vlm_does_not_see(probe: ImageFolder) -> None:
    sizes = []

    class Measuring(TinyVLM):
        def __init__(self) -> None:
            super().__init__()
            usual = self.preprocess

            def measure(image: Image.Image) -> torch.Tensor:
                sizes.append(image.size)
                return usual(image)

            self.preprocess = measure

    read = subject(TinyNet(), shrinks)
    list(collect(read, read.layers(), Measuring(), probe, length=5))
    assert set(sizes) == {(16, 16)}


def test_trying_takes_no_more_than_half_a_second() -> None:
    def slow(image: Image.Image) -> torch.Tensor:
        time.sleep(0.15)
        torch.rand(1)
        return torch.zeros(3, 8, 8)

    began = time.monotonic()
    try_preprocessing(slow, [("a", trial_image())], "the model's")
    assert time.monotonic() - began < 1


def test_nan_of_the_preprocessing_is_not_put_down_to_the_network(probe: ImageFolder) -> None:
    def standardised(image: Image.Image) -> torch.Tensor:
        made = tiny.to_tensor()(image)
        flat = made - made.mean()
        return flat / flat.std() if flat.std() > 0.05 else flat / 0

    Image.new("RGB", (16, 16), "gray").save(probe.folder / probe.names[0])
    trial(probe, TinyNet(), standardised)  # a guard flags that image, and is to go on
    read = subject(TinyNet(), standardised)
    with pytest.raises(InputError, match=r"model's preprocessing gives NaN .* '0000_red\.png'$"):
        list(collect(read, read.layers(), TinyVLM(), probe, length=5))


# --- networks that are random ----------------------------------------------------------------


class Dropping(TinyNet):
    """Drops features, asked to or not."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.color(images)).flatten(1)
        return self.fc(nn.functional.dropout(pooled, 0.5, training=True))  # type: ignore[no-any-return]


class NeverEvaluated(nn.Sequential):
    """Its dropout stays on, whatever is asked: its own train() forgets the mode."""

    def train(self, mode: bool = True) -> "NeverEvaluated":
        return super().train(True)


class Skipping(TinyNet):
    """Stochastic depth: seldom, for a batch as a whole, the image is turned round."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.flip(1) if torch.rand(()) < self.chance else images)


class Blurred(TinyNet):
    """Adds noise so faint that it changes the fourth digit."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images + 1e-4 * torch.randn_like(images))


@pytest.mark.parametrize(
    "net",
    [
        Dropping(),
        NeverEvaluated(nn.Dropout2d(0.5), TinyNet()),
        Skipping(0.5),
        Skipping(0.1),
        Blurred(),
    ],
    ids=["functional", "train() overridden", "half", "a tenth", "faint"],
)
def test_a_random_network_is_refused_before_the_vlm_is_asked(
    probe: ImageFolder, net: nn.Module
) -> None:
    read, eyes = subject(net), CountingVLM()
    with pytest.raises(InputError, match=r"^the model is random: .*'0000_red\.png'.*dropout"):
        list(collect(read, read.layers(), eyes, probe, length=5))
    assert eyes.shown == 0


def test_the_layer_is_named_with_how_much(probe: ImageFolder) -> None:
    with pytest.raises(InputError, match=r"\(in layer 'fc' by \d+\.\d%\), and so would"):
        trial(probe, Dropping())


class Idle(TinyNet):
    """Draws a number that changes nothing."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        return super().forward(images)


@pytest.mark.parametrize("net", [nn.Sequential(nn.Dropout(0.5), TinyNet()), Idle()])
def test_dropout_that_is_off_and_numbers_without_use_are_fine(
    probe: ImageFolder, net: nn.Module
) -> None:
    trial(probe, net)


def test_a_random_vlm_is_refused(probe: ImageFolder) -> None:
    class Moody(TinyVLM):
        def embed_images(self, images: torch.Tensor) -> torch.Tensor:
            return super().embed_images(torch.rand_like(images))

    net = tiny_subject()
    with pytest.raises(InputError, match="the VLM is random"):
        try_first(net, net.layers(), probe, Moody())


# --- batches ---------------------------------------------------------------------------------


def normalised(**options: bool) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3, **options), TinyNet())


class Centred(TinyNet):
    """Subtracts the mean of its batch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images - images.mean(0))


class Mixed(TinyNet):
    """Takes the axis of the batch for that of the classes."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.color(images)).flatten(1).softmax(dim=0))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "net",
    [
        normalised(track_running_stats=False),
        NeverEvaluated(nn.BatchNorm2d(3), TinyNet()),
        Centred(),
        Mixed(),
    ],
    ids=["no running statistics", "in training mode", "mean of the batch", "wrong axis"],
)
def test_numbers_that_depend_on_the_batch_are_refused(probe: ImageFolder, net: nn.Module) -> None:
    with pytest.raises(
        InputError, match=r"^what the model gives for an image depends on the other .* with -b 1$"
    ):
        trial(probe, net)


def test_with_one_image_at_a_time_they_are_what_the_image_alone_gives(probe: ImageFolder) -> None:
    net = Centred()
    with pytest.raises(InputError, match="depends on the other images"):
        run(probe, net)
    found = run(probe, net, batch_size=1)
    # The mean of an image alone is the image: nothing remains of it but the bias of unit 3.
    assert found.tops[0].activations[:, 0].tolist() == [0, 0, 0, 1]


def test_they_are_never_served_for_another_batch_size(probe: ImageFolder, tmp_path: Path) -> None:
    store, read = Store(tmp_path / "cache"), subject(normalised(track_running_stats=False))
    layers, eyes = read.layers(), TinyVLM()
    alone = collect_once(read, layers, eyes, probe, top=5, store=store, batch_size=1)
    for size in (None, 2, 64):
        with pytest.raises(InputError, match="depends on the other images"):
            collect_once(read, layers, eyes, probe, top=5, store=store, batch_size=size)
    prints = Fingerprints(read.fingerprint, eyes.fingerprint, probe.fingerprint)
    found = kept_pass(store, prints, layers, images=13, top=5)
    assert found is not None
    assert np.array_equal(found.tops[0].activations, alone.tops[0].activations)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), nn.InstanceNorm2d(3), nn.GroupNorm(1, 3)])
def test_other_normalisation_is_fine(probe: ImageFolder, norm: nn.Module) -> None:
    """Also where a layer is named whose mean is nothing but rounding."""
    net = subject(nn.Sequential(norm, TinyNet()))
    for precision in ("fp32", "bf16"):
        try_first(net, net.layers(("0", "1.fc")), probe, precision=precision)


class Squeezing(TinyNet):
    """Squeezes away every axis of length one, that of a lone image with them."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.color(images)).squeeze())  # type: ignore[no-any-return]


@pytest.mark.parametrize("batch_size", [None, 1, 4, 6])
def test_a_lone_image_is_read_in_company(probe: ImageFolder, batch_size: int | None) -> None:
    """Of 13 images, batches of 4 and of 6 leave one behind."""
    found, plain = run(probe, Squeezing(), batch_size), run(probe, TinyNet(), batch_size)
    for one, other in zip(found.tops, plain.tops, strict=True):
        assert np.array_equal(one.images, other.images)
        assert np.allclose(one.activations, other.activations)


def test_so_is_that_of_a_classifier(tmp_path: Path) -> None:
    data = open_labelled(tiny.write_classes(tmp_path), ClassNames.of_list(tiny.CLASSES, "by hand"))
    found = Classifier.find(subject(Squeezing()))
    seen = examine(found, CaptionVLM(), data, Reading(batch_size=47))
    assert seen.accuracy == 1.0
    halves = found.read(found.readings, torch.ones(1, 3, 8, 8))
    assert (halves["features"].shape, halves["logits"].shape) == ((1, 4), (1, 4))
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    found.logits()(image).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert set(check_weights(found, data, seen)) == {"color", "fc"}


def test_a_batch_that_is_none_stays_as_it_is() -> None:
    two = torch.rand(2, 3)
    assert in_company(two) is two
    assert in_company(two[:1]).shape == (2, 3)
    assert in_company(two[:0]).shape == (0, 3)


# --- types -----------------------------------------------------------------------------------


def ending_in(kind: torch.dtype) -> tiny.Preprocess:
    return lambda image: tiny.to_tensor()(image).to(kind)


class Careless(TinyNet):
    """Reads every image in single precision, whatever its weights are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.float())


@pytest.mark.parametrize(
    ("net", "preprocess", "told"),
    [
        (Careless().half(), tiny.to_tensor(), r"its weights are float16: call \.float\(\)"),
        (TinyNet(), ending_in(torch.uint8), "preprocessing gives uint8 .*end in float32"),
        (TinyNet(), lambda image: tiny.to_tensor()(image).movedim(0, 2), r"permute\(2, 0, 1\)"),
    ],
    ids=["half", "bytes", "channels last"],
)
def test_types_that_do_not_fit_are_named_with_the_remedy(
    net: nn.Module, preprocess: tiny.Preprocess, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        subject(net, preprocess).layers()
    with pytest.raises(InputError, match=told):
        Classifier.find(subject(net, preprocess))


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("images", [torch.float16, torch.float32, torch.float64])
def test_images_are_given_in_the_precision_of_the_weights(
    probe: ImageFolder, weights: torch.dtype, images: torch.dtype
) -> None:
    trial(probe, TinyNet().to(weights), ending_in(images))


# --- the head --------------------------------------------------------------------------------


class Cosine(nn.Linear):
    """Scales weights and features to length one, then by 20."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        unit = nn.functional.normalize
        return 20 * nn.functional.linear(unit(features), unit(self.weight))


class Adapted(nn.Linear):
    """With an adapter of rank one beside its weights: linear, but not by its weights alone."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features) + 0.1 * features[:, :1]


def headed(head: nn.Module) -> Subject:
    net = TinyNet()
    net.color.bias.data.zero_()  # or the length of all features would be nearly the same
    weights = net.fc.weight
    net.fc = head  # type: ignore[assignment]
    with torch.no_grad():
        head.weight.copy_(weights)  # type: ignore[operator,union-attr]
    return subject(net)


def test_a_head_that_is_not_linear_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^the head 'fc' of tiny, a Cosine, does not give W z \+ b: out"
    ):
        Classifier.find(headed(Cosine(4, 4, bias=False)))


def test_what_an_adapter_adds_is_part_of_the_weights() -> None:
    head = Adapted(4, 4)
    found = Classifier.find(headed(head))
    expected = head.weight.detach().double().numpy().copy()
    expected[:, 0] += 0.1
    np.testing.assert_allclose(found.weights, expected, atol=1e-7)


def test_so_is_one_with_a_hook() -> None:
    net = headed(nn.Linear(4, 4))
    net.model.fc.register_forward_hook(lambda _m, _i, output: output / 1.01)
    with pytest.raises(InputError, match=r"does not give W z \+ b"):
        Classifier.find(net)


class Late(nn.Linear):
    """Is linear on noise, such as the trial image: only bright images are scaled."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        made = super().forward(features)
        return torch.where(features.abs().amax(1, keepdim=True) > 1.01, 2 * made, made)


class Loud(TinyNet):
    """With features that tell how red an image is, tenfold."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.color.weight *= 10


def test_a_head_is_held_against_real_images_before_all_are_read(tmp_path: Path) -> None:
    net = Loud()
    net.fc = Late(4, 4)
    found = Classifier.find(subject(net))
    data = open_labelled(tiny.write_classes(tmp_path), ClassNames.of_list(tiny.CLASSES, "by hand"))
    eyes = CountingVLM()
    with pytest.raises(InputError, match=r"a Late, does not give W z \+ b"):
        examine(found, eyes, data)


def test_weights_that_a_parametrization_makes_are_the_weights(probe: ImageFolder) -> None:
    net = headed(nn.Linear(4, 4))
    nn.utils.parametrizations.weight_norm(net.model.fc)
    assert Classifier.find(net).weights.shape == (4, 4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_rounding_is_no_difference(probe: ImageFolder, precision: str) -> None:
    """Rows of 4096 features, a hundred times as large as what is left of them."""
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 4096), nn.ReLU(), nn.Linear(4096, 50))
    found = Classifier.find(subject(wide))
    try_first(found, found.readings, probe, precision=precision)


# --- a classifier as a vocabulary of the VLM -------------------------------------------------


def test_a_tagger_may_squeeze_and_is_told_of_types(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import tiny\n"
        "class Squeezing(tiny.TinyNet):\n"
        "    def forward(self, images):\n"
        "        return self.fc(self.pool(self.color(images)).squeeze())\n"
        "def squeezes(): return Squeezing(), tiny.to_tensor()\n"
        "def half(): return tiny.TinyNet().half(), tiny.to_tensor()\n"
    )
    (tmp_path / "names.txt").write_text("\n".join(tiny.CLASSES))
    cpu = torch.device("cpu")
    tagger = Tagger(f"{tmp_path}/net.py:squeezes,{tmp_path}/names.txt", 1.0, cpu)
    assert [rows.shape for rows in tagger.read(torch.rand(1, 3, 8, 8))] == [(1, 4)]
    with pytest.raises(InputError, match=r"its weights are float16: call \.float\(\)"):
        Tagger(f"{tmp_path}/net.py:half,{tmp_path}/names.txt", 1.0, cpu)
