"""White-box attacks: images changed to raise the loss, each pixel by at most ε.

For a network with logits z and an image x of class y, both attacks raise the cross-entropy

    FGSM   x + ε · sign ∇ₓ loss          (Goodfellow, Shlens & Szegedy, ICLR 2015)
    PGD    a random start within ε, then steps of α = 2.5 ε / steps along sign ∇ₓ loss, each put
           back to within ε            (Madry, Makelov, Schmidt, Tsipras & Vladu, ICLR 2018)

ε, α and the limits 0 and 1 are in **pixels**: black is 0, white is 1. The pixels are those of the
network's input, after resizing and cropping. That input is a tensor normalised by the network's
preprocessing, so the attack works on that tensor, with ε and the limits converted by a
:class:`PixelScale`.

The gradient is that of logit(1 − p_y) = log Σ_{j≠y} exp z_j − z_y. The cross-entropy is its
softplus, so the signs are the same. The softmax of a very confident network rounds to 1, where the
cross-entropy has no gradient; with it, such a network would appear robust.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.models.subject.preprocessing import Preprocess, shown

METHODS = ("fgsm", "pgd")
PGD_STEPS = 10
STEP_SHARE = 2.5
"""α · steps / ε: enough to cross the ball from any start, and to turn at its edge."""

_WHITE = 255
_TOLERANCE = 1e-3
"""In pixels, a quarter of a step of 8 bits: larger deviations are not due to rounding."""


# --- pixels ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PixelScale:
    """A network's input as a function of pixels: channel k = shift[k] + scale[k] · pixel in [0, 1].

    Attributes:
        shift: (3,) value of black, −mean / std.
        scale: (3,) value of white less that of black, 1 / std.
        colors: (3,) the colour of each channel: 0 red, 1 green, 2 blue.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    colors: tuple[int, ...] = (0, 1, 2)

    @classmethod
    def measure(cls, preprocess: Preprocess, name: str = "the network") -> "PixelScale":
        """Measure any preprocessing on images of one colour.

        Args:
            preprocess: from a picture to the network's input.
            name: of the network, for messages.

        Raises:
            InputError: the preprocessing is not the same linear function of one colour in every
                place; for example it standardises each image, mixes colours, or adds a border.
        """
        black, white = (_flat(preprocess, (level,) * 3, name) for level in (0, _WHITE))
        scale = white - black
        if not bool((scale.abs() > 0).all()):
            raise _no_scale(name, "it maps black and white to the same value")
        # Row c: what a pure colour c gives in each channel, as a share of white.
        pure = [tuple(_WHITE * (c == k) for k in range(3)) for c in range(3)]
        shares = torch.stack([(_flat(preprocess, each, name) - black) / scale for each in pure])
        colors = shares.argmax(dim=0)
        if float((shares - nn.functional.one_hot(colors, 3).T).abs().max()) > _TOLERANCE:
            raise _no_scale(name, "it mixes the colours")
        if len(set(colors.tolist())) < 3:
            raise _no_scale(name, "it drops a colour")
        for levels in ((51, 102, 204), (128, 128, 128)):
            pixels = torch.tensor(levels, dtype=torch.float64)[colors] / _WHITE
            off = (_flat(preprocess, levels, name) - black) / scale - pixels
            if float(off.abs().max()) > _TOLERANCE:
                raise _no_scale(name, "it is not linear")
        return cls(tuple(black.tolist()), tuple(scale.tolist()), tuple(colors.tolist()))

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) inputs converted to pixels, red first."""
        shift, scale = self.columns(images)
        made = torch.empty_like(images)
        made[:, list(self.colors)] = (images - shift) / scale
        return made

    def pictures(self, images: torch.Tensor) -> list[Image.Image]:
        """(B, 3, H, W) inputs as 8-bit RGB images, rounded: by up to half of 1/255 a pixel."""
        pixels = (self.pixels(images.detach()).clamp(0, 1) * _WHITE).round().to(torch.uint8)
        return [
            Image.fromarray(each.permute(1, 2, 0).contiguous().cpu().numpy()) for each in pixels
        ]

    def columns(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shift and scale (1, 3, 1, 1), where and as precise as the images are."""
        return (
            images.new_tensor(self.shift)[None, :, None, None],
            images.new_tensor(self.scale)[None, :, None, None],
        )

    def limits(self, images: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The least and the greatest inputs within ``eps`` of ``images``, and of pixels in [0, 1].

        Raises:
            InputError: the images hold pixels that are not in [0, 1].
        """
        shift, scale = self.columns(images)
        outside = (self.pixels(images) - 0.5).abs().max() - 0.5
        if not bool(outside <= _TOLERANCE):
            raise InputError(
                "an attack in pixels needs images between black and white; after the preprocessing "
                f"these exceed that range by {float(outside):.3g} of its width"
            )
        ends = torch.minimum(shift, shift + scale), torch.maximum(shift, shift + scale)
        reach = eps * scale.abs()
        # An image just outside the range, by rounding, may stay there.
        low = torch.minimum(torch.maximum(images - reach, ends[0]), images)
        high = torch.maximum(torch.minimum(images + reach, ends[1]), images)
        return low, high


def _flat(preprocess: Preprocess, color: Sequence[int], name: str) -> torch.Tensor:
    """(3,) float64: the input that an image of one colour gives."""
    made = shown(preprocess, Image.new("RGB", (256, 256), tuple(color)), name)
    if not isinstance(made, torch.Tensor) or made.dim() != 3 or made.shape[0] != 3:
        raise _no_scale(name, "it does not give a tensor (3, H, W)")
    made = made.detach().to("cpu", torch.float64).flatten(1)
    first = made[:, 0]
    spread = float((made - first[:, None]).abs().max())
    if not spread <= _TOLERANCE * max(1.0, float(first.abs().max())):
        raise _no_scale(name, "it maps an image of one colour to several values")
    return first


def _no_scale(name: str, why: str) -> InputError:
    return InputError(
        f"an attack in pixels is not possible: the preprocessing of {name} cannot be inverted, "
        f"because {why}; with --preprocess, name one that only resizes, crops and normalises"
    )


def parse_eps(text: str) -> float:
    """ε as a number or a fraction; white is 1.

    >>> parse_eps("0.03"), parse_eps("8/255") == 8 / 255
    (0.03, True)
    """
    above, slash, below = text.partition("/")
    try:
        eps = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        eps = math.nan
    if not 0 <= eps <= 1:
        raise UsageError(f"--eps {text!r} is not a number from 0 to 1 (white); write 0.03 or 8/255")
    return eps


# --- attacks ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """An attack and its settings.

    Attributes:
        method: one of :data:`METHODS`.
        eps: how far a pixel may move; white is 1.
        steps: of PGD.
        seed: of PGD's random start.
    """

    method: str
    eps: float
    steps: int = PGD_STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("attack", self.method, METHODS)
        if not 0 <= self.eps <= 1:
            raise UsageError(f"eps must be from 0 to 1 (white), got {self.eps}")
        if self.steps < 1:
            raise UsageError(f"an attack needs at least 1 step, got {self.steps}")
        if self.seed < 0:
            raise UsageError(f"seed must not be negative, got {self.seed}")

    @property
    def text(self) -> str:
        """In words; attacks with the same words are the same.

        >>> Attack("pgd", 8 / 255).text
        'PGD, ε = 8/255, 10 steps, seed 0'
        """
        levels = self.eps * _WHITE
        whole = abs(levels - round(levels)) < 1e-9
        eps = f"{round(levels)}/{_WHITE}" if whole else f"{self.eps:.10g}"
        start = "" if self.method == "fgsm" else f", {self.steps} steps, seed {self.seed}"
        return f"{self.method.upper()}, ε = {eps}{start}"

    def __call__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        scale: PixelScale,
        indices: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Attack images.

        Every pixel changes by at most ε and stays in [0, 1]. PGD returns, for each image, the
        point of highest loss on its path, the image itself included, so the loss never falls. FGSM
        is one step, after which the loss may be lower. The outcome does not depend on how images
        are batched, except for the last bits of the network's sums.

        The model runs in evaluation mode and in full precision, whatever the caller has set. Its
        modes, gradients and hooks are left unchanged.

        Args:
            model: maps (B, 3, H, W) to logits (B, C).
            images: (B, 3, H, W), outputs of the preprocessing.
            labels: (B,) classes to lead away from.
            scale: of the preprocessing.
            indices: (B,) numbers of the images in their set, which seed their random starts; by
                default 0, 1, …

        Returns:
            (B, 3, H, W), on the device of ``images``.

        Raises:
            InputError: the model does not give logits, or no gradient; labels are not classes.
        """
        indices = range(len(images)) if indices is None else indices
        if images.dim() != 4 or not images.is_floating_point():
            raise InputError(f"an attack needs images (B, 3, H, W), got {tuple(images.shape)}")
        if labels.shape != images.shape[:1] or len(indices) != len(images):
            raise InputError(
                f"an attack needs one label and one index per image: {len(images)} images, "
                f"{tuple(labels.shape)} labels, {len(indices)} indices"
            )
        if not len(images):
            return images.clone()
        device = next(model.parameters(), images).device
        with _undisturbed(model, device):
            # Copied in here: a tensor made in inference mode has no gradient.
            clean, classes = images.clone().to(device), labels.clone().to(device, torch.int64)
            limits = scale.limits(clean, self.eps)
            widths = self.eps * scale.columns(clean)[1].abs()
            if self.method == "fgsm":
                loss, gradient = _loss_and_gradient(model, clean, classes)
                _check_finite(loss)
                attacked = torch.clamp(clean + widths * gradient.sign(), *limits)
            else:
                attacked = self._pgd(model, clean, classes, limits, widths, indices)
            return attacked.to(images.device)

    def _pgd(
        self,
        model: nn.Module,
        clean: torch.Tensor,
        classes: torch.Tensor,
        limits: tuple[torch.Tensor, torch.Tensor],
        widths: torch.Tensor,
        indices: Sequence[int],
    ) -> torch.Tensor:
        best = clean
        highest = _loss(model, clean, classes)
        _check_finite(highest)
        starts = torch.stack([self._start(index, clean.shape[1:]) for index in indices])
        points = torch.clamp(clean + widths * starts.to(clean), *limits)
        for _ in range(self.steps):
            loss, gradient = _loss_and_gradient(model, points, classes)
            best, highest = _better(points, loss, best, highest)
            step = STEP_SHARE / self.steps * widths
            points = torch.clamp(points + step * gradient.sign(), *limits)
        return _better(points, _loss(model, points, classes), best, highest)[0]

    def _start(self, index: int, shape: torch.Size) -> torch.Tensor:
        """Uniform in [−1, 1], by the seed and the image's number; the same on every device."""
        words = hashlib.sha256(f"{self.seed} {index}".encode()).digest()
        rng = np.random.default_rng(np.frombuffer(words, dtype="<u4").tolist())
        return torch.from_numpy(rng.uniform(-1, 1, tuple(shape)))


def _check_finite(loss: torch.Tensor) -> None:
    lost = int(loss.isnan().sum())
    if lost:
        raise InputError(f"the network gives NaN for {lost} of the {len(loss)} images to attack")


def _better(
    points: torch.Tensor, loss: torch.Tensor, best: torch.Tensor, highest: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each image the point of higher loss, and that loss; one that is NaN is not higher."""
    higher = loss > highest
    return torch.where(higher[:, None, None, None], points, best), torch.where(
        higher, loss, highest
    )


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, full precision and gradients inside; all as it was outside."""
    modes = [(module, module.training) for module in model.modules()]
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


def _loss(model: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return logit_of_error(model(images.clone()), classes)


def _loss_and_gradient(
    model: nn.Module, images: torch.Tensor, classes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) and its gradient (B, 3, H, W); where that is NaN, its sign is 0 all the same."""
    leaf = images.detach().requires_grad_()
    # A copy, because some networks change their input in place, which no leaf allows.
    loss = logit_of_error(model(leaf.clone()), classes)
    gradient = None
    if loss.requires_grad:
        # Only with respect to the images: the parameters' .grad is not touched.
        (gradient,) = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)
    if gradient is None:
        raise InputError("the logits of the network have no gradient with respect to its input")
    return loss.detach(), gradient


def logit_of_error(logits: object, classes: torch.Tensor) -> torch.Tensor:
    """(B,) log Σ_{j≠y} exp z_j − z_y: rises with the cross-entropy, and never saturates."""
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(f"an attack needs logits (B, C) of at least two classes, got {shape}")
    if int(classes.min()) < 0 or int(classes.max()) >= logits.shape[1]:
        raise InputError(
            f"labels must be classes from 0 to {logits.shape[1] - 1}; got "
            f"{int(classes.min())} to {int(classes.max())}"
        )
    own = classes[:, None]
    others = logits.float().scatter(1, own, -math.inf)
    return torch.logsumexp(others, dim=1) - logits.float().gather(1, own)[:, 0]
