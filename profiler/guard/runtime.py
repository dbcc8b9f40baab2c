"""The guard at run time: the score of a batch beside the network's own pass."""

from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from profiler.core.arrays import Float64
from profiler.errors import InputError
from profiler.guard.rules.base import Views
from profiler.guard.rules.combined import WithSoftmax
from profiler.guard.rules.comparisons import Comparisons, CosineRule, LikelihoodRule
from profiler.guard.rules.corrected import CorrectedSoftmax
from profiler.guard.rules.kernels import ROWS, judge
from profiler.guard.rules.strengths import StrengthsRule
from profiler.guard.rules.typicality import TypicalityRule
from profiler.models.subject.heads import Head
from profiler.models.views import VIEWS

if TYPE_CHECKING:
    from profiler.guard.guard import Guard

FEW = 16
"""Inputs up to which one compiled call on a CPU takes less time than many tensor operations."""
_TINY = 1e-30


class Scores(NamedTuple):
    """The guard's verdict on B predictions.

    Attributes:
        predicted: (B,) class of the highest logit.
        score: (B,) higher is more anomalous; infinite where features or logits are not finite.
        flagged: (B,) whether not to trust the prediction.
    """

    predicted: torch.Tensor
    score: torch.Tensor
    flagged: torch.Tensor


ViewTensors = tuple[torch.Tensor, torch.Tensor]
"""Features (B, L, f) and logits (B, L, C) of L augmented views."""


def view_tensors(views: Views | None, device: torch.device | str = "cpu") -> ViewTensors | None:
    """The same as tensors in single precision."""
    if views is None:
        return None
    z, y = (np.asarray(each, dtype=np.float32) for each in (views.features, views.logits))
    return torch.from_numpy(z).to(device), torch.from_numpy(y).to(device)


class ScoringCore(nn.Module):
    """(B, f) features and (B, C) logits → (B,) scores: tensors in, tensors out.

    A guard that uses augmented views needs their features and logits as well.

    It holds a few matrices and calls only tensor operations, so it can be exported and moved to
    any device. It works in single precision: scores differ from those of
    :mod:`profiler.guard.rules` by rounding, except where two concepts are equally strong up to
    rounding.

    For a small network at batch 1 the number of operations counts, not their size. Hence tables
    replace formulas, and constants are tensors, which are cheaper than numbers.
    """

    planes: torch.Tensor
    offsets: torch.Tensor
    directions: torch.Tensor
    usual: torch.Tensor
    weights: torch.Tensor
    bias: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    edges: torch.Tensor
    rarity: torch.Tensor
    slope: torch.Tensor
    correction: torch.Tensor
    shift: torch.Tensor
    floor: torch.Tensor
    cut: torch.Tensor
    infinite: torch.Tensor
    start: torch.Tensor
    tilt: torch.Tensor
    spread: torch.Tensor

    def __init__(self, guard: "Guard") -> None:
        super().__init__()
        rule = guard.rule
        plain = rule.plain
        self.kind = plain.name
        self.combined = isinstance(rule, WithSoftmax)
        self.corrected = guard.corrected
        self.views = guard.views
        if isinstance(plain, Comparisons):
            weights, offsets = guard.space.planes()
            # Centred, as only differences count: less is lost in single precision.
            self._keep("planes", (weights - weights.mean(axis=0)).T)
            self._keep("offsets", offsets - offsets.mean())
            self._keep("weights", plain.weights_)
            self._keep("bias", plain.bias_)
            i, j = np.triu_indices(len(guard.space), k=1)
            self.register_buffer("first", torch.from_numpy(i))
            self.register_buffer("second", torch.from_numpy(j))
        else:
            self._keep("planes", guard.aligned.matrix_.T)
            self._keep("offsets", guard.aligned.offset_)
            self._keep("floor", np.array(_TINY))
        if isinstance(plain, TypicalityRule):
            # R is applied to the directions beforehand: (s − μ) R = r/‖r‖ (Qᵀ R) − μ R.
            whitening = plain.whitening_.astype(np.float64)
            self._keep("directions", guard.space.directions.T @ whitening)
            self._keep("usual", plain.usual_ @ whitening)
        if isinstance(plain, StrengthsRule):
            # Likewise with the division by σ.
            self._keep("directions", guard.space.directions.T / plain.spread_)
            self._keep("usual", plain.usual_ / plain.spread_)
            self._keep("weights", plain.weights_[:-1])
            self.mean_weight = float(plain.weights_[-1])
            self._keep("bias", np.array(plain.bias_))
        if isinstance(rule, WithSoftmax):
            # A row for the softmax, one for the rule, one for views; looked up together.
            pieces = [rule.softmax_rarity_.pieces(), rule.rule_rarity_.pieces(rule.weight_)]
            if rule.steadiness_ is not None and rule.change_rarity_ is not None:
                pieces.append(rule.change_rarity_.pieces())
                self._keep("start", rule.steadiness_.start)
                self._keep("tilt", rule.steadiness_.slope)
                self._keep("spread", rule.steadiness_.spread)
            for name, *rows in zip(("edges", "rarity", "slope"), *pieces, strict=True):
                self._keep(name, np.stack(rows))
            if isinstance(rule.softmax_, CorrectedSoftmax):
                self._keep("correction", rule.softmax_.weights_.T)
                self._keep("shift", rule.softmax_.bias_)
        cut = np.float32(guard.threshold.value)
        if float(cut) > guard.threshold.value:
            # Rounded up it would let an error pass that it was to stop.
            cut = np.nextafter(cut, np.float32(-np.inf))
        self._keep("cut", np.array(cut))
        self._keep("infinite", np.array(np.inf))

    def _keep(self, name: str, array: Float64) -> None:
        dense = np.asarray(array, dtype=np.float32, order="C")
        self.register_buffer(name, torch.from_numpy(dense))

    def forward(
        self,
        features: torch.Tensor,
        logits: torch.Tensor,
        predicted: torch.Tensor | None = None,
        views: ViewTensors | None = None,
    ) -> torch.Tensor:
        """(B,) scores; infinite where features or logits are not finite."""
        if predicted is None:
            predicted = logits.argmax(dim=1)
        if self.kind in (CosineRule.name, LikelihoodRule.name):
            score = self._compared(features, predicted)
        else:
            score = self._distant(features, predicted)
        if self.combined:
            if self.corrected:
                logits = logits + torch.addmm(self.shift, features, self.correction)
            doubt = _log_odds(logits, predicted)
            if self.views:
                doubt, change = self._changed(doubt, predicted, views)
                both = torch.stack((doubt, score, change))
            else:
                both = torch.stack((doubt, score))
            place = torch.searchsorted(self.edges, both)
            rare = torch.addcmul(self.rarity.gather(1, place), self.slope.gather(1, place), both)
            score = rare.sum(dim=0)
        else:
            score = score + 0 * logits.sum(dim=1)
        return torch.nan_to_num(score, nan=torch.inf, posinf=torch.inf)

    def verdict(
        self,
        features: torch.Tensor,
        logits: torch.Tensor,
        predicted: torch.Tensor | None = None,
        views: ViewTensors | None = None,
    ) -> Scores:
        """Scores, and what is flagged."""
        if predicted is None:
            predicted = logits.argmax(dim=1)
        score = self(features, logits, predicted, views)
        # Infinite scores are flagged even where the cut lets anything pass.
        return Scores(predicted, score, (score > self.cut) | (score == self.infinite))

    def _changed(
        self, doubt: torch.Tensor, predicted: torch.Tensor, views: ViewTensors | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean log-odds over image and views, and the change (B,)."""
        if views is None or views[0].shape[1] != len(self.views):
            raise InputError(
                f"this guard needs augmented views of each image: {', '.join(self.views)}"
            )
        features, logits = views
        if self.corrected:
            logits = logits + features @ self.correction + self.shift
        own = predicted.repeat_interleave(len(self.views))
        others = _log_odds(logits.flatten(0, 1), own).view(-1, len(self.views))
        off = (others - self.start - self.tilt * doubt.unsqueeze(1)) / self.spread
        mean = (doubt + others.sum(dim=1)) / (1 + len(self.views))
        # 0 times a sum that holds a NaN or infinity is NaN.
        return mean, off.mean(dim=1) + 0 * features.sum(dim=(1, 2))

    def _compared(self, features: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        levels = torch.addmm(self.offsets, features, self.planes)
        steps = levels[:, self.first] - levels[:, self.second]
        weighed = (steps.sign() * self.weights[predicted]).sum(dim=1)
        # 0 times a sum that holds a NaN or infinity is NaN; of two infinities, signs tell nothing.
        return weighed + self.bias[predicted] + 0 * features.sum(dim=1)

    def _distant(self, features: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        """NaN where a feature is NaN or infinite: then r and ‖r‖ are, and so is their ratio."""
        mapped = torch.addmm(self.offsets, features, self.planes)
        norms = torch.linalg.vector_norm(mapped, dim=1, keepdim=True)
        usual = self.usual.index_select(0, predicted)
        lengths = torch.maximum(norms, self.floor)
        off = torch.addcdiv(usual, mapped.mm(self.directions), lengths, value=-1)
        squares = off * off
        if self.kind == TypicalityRule.name:
            return squares.sum(dim=1)
        return self.mean_weight * squares.mean(dim=1) - off @ self.weights + self.bias


def _log_odds(logits: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """As :func:`profiler.guard.rules.baselines.log_odds_against`; not finite if a logit is not.

    For j ≠ c, log Σ_{k≠c} exp y_k is y_j less the log of j's softmax among the k ≠ c, whichever j;
    for c itself that is infinite here. So the least will do, and there is a fast kernel for it.
    """
    own = predicted.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).log_softmax(dim=1)
    return (logits - others).amin(dim=1) - logits.gather(1, own).squeeze(1)


class QuickCore:
    """What :meth:`ScoringCore.verdict` gives, for a few inputs on a CPU: one compiled call.

    Args:
        core: on any device; it has a quick form if :meth:`fits` says so.
    """

    def __init__(self, core: ScoringCore) -> None:
        kept = {name: tensor.double().cpu().numpy() for name, tensor in core.named_buffers()}
        planes = np.vstack([kept["offsets"], kept["planes"]])
        strengths = planes @ kept["directions"]
        head = np.zeros((len(planes), len(kept["usual"])))
        if core.corrected:
            head = np.vstack([kept["shift"], kept["correction"]])
        # planesᵀ = Q R with orthonormal Q, so R (1, z) is as long as r(z); half of R is zero.
        triangle: Float64 = np.linalg.qr(planes.T)[1].T
        weights, factor, bias = np.zeros(len(kept["usual"].T)), 1.0, 0.0
        if core.kind == StrengthsRule.name:
            weights, bias = kept["weights"], float(kept["bias"])
            factor = core.mean_weight / len(weights)
        edges = np.pad(kept["edges"], ((0, 0), (0, 1)))
        matrix = np.hstack([head, strengths, triangle])
        first = matrix.shape[1] - triangle.shape[1]
        matrix = np.pad(matrix, ((0, -len(matrix) % ROWS), (0, 0)))
        arrays = (
            np.array([factor, bias, kept["cut"]]),
            np.vstack([kept["usual"], weights]),
            np.stack([edges, kept["rarity"], kept["slope"]]),
            *(matrix[k : k + ROWS, : first + k + ROWS] for k in range(0, len(matrix), ROWS)),
        )
        block = np.concatenate([each.ravel() for each in arrays]).astype(np.float32)
        self._width, self._classes = len(kept["planes"]), len(kept["usual"])
        sizes = (self._width, *kept["usual"].shape, triangle.shape[1], edges.shape[1], len(block))
        # A tensor, whose address is still right after all this has been copied.
        self._constants = torch.from_numpy(np.r_[np.array(sizes, np.int32), block.view(np.int32)])
        self._label = torch.empty(0, dtype=torch.int64, device="cpu")
        self._score = torch.empty(0, dtype=torch.float32, device="cpu")
        self._flag = torch.empty(0, dtype=torch.bool, device="cpu")
        # Compiled, or read from numba's cache, here and not at the first image.
        self(torch.zeros(1, self._width), torch.zeros(1, self._classes))

    @staticmethod
    def fits(core: ScoringCore) -> bool:
        """Whether such a guard has a quick form: those of the usual rule, and of strengths."""
        usual = core.kind in (TypicalityRule.name, StrengthsRule.name)
        return core.combined and usual and not core.views

    def __call__(self, features: torch.Tensor, logits: torch.Tensor) -> Scores:
        """Of (B, f) features and (B, C) logits on a CPU."""
        count = features.shape[0]
        z = _block(features, (count, self._width))
        y = _block(logits, (count, self._classes))
        predicted = self._label.new_empty(count)
        score = self._score.new_empty(count)
        flagged = self._flag.new_empty(count)
        # Nothing but numbers is handed over: an array would take microseconds.
        judge(
            z.data_ptr(),
            y.data_ptr(),
            count,
            self._constants.data_ptr(),
            predicted.data_ptr(),
            score.data_ptr(),
            flagged.data_ptr(),
        )
        return Scores(predicted, score, flagged)


class Guarded(nn.Module):
    """A model and its guard: a call gives (logits, verdict) in one forward pass of the model.

    Each augmented view takes one more pass. ``logits`` are the outputs of the model's head,
    whatever follows in the model. If the head runs several times, the last run counts.
    """

    def __init__(self, model: nn.Module, head: str, core: ScoringCore) -> None:
        super().__init__()
        self.model = model
        self.core = core
        parts = Head((head,)) if head in dict(model.named_modules()) else Head.of(head)
        self._divisor = parts.divisor
        # In a tuple, or its weights would be found twice.
        self._head = tuple(model.get_submodule(name) for name in parts.names)
        self._quick = QuickCore(core) if QuickCore.fits(core) else None

    def _apply(self, fn: Any, recurse: bool = True) -> "Guarded":
        """Moves and casts the model; what judges is moved only, for its tables need precision."""
        kept = dict(self.core.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self.core.named_buffers():
            if buffer.dtype != kept[name].dtype:
                setattr(self.core, name, kept[name].to(buffer.device))
        return self

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, Scores]:
        """(B, 3, H, W) → (B, C) logits and the verdict on them."""
        # Made first: a model may change its input in place.
        others = [VIEWS[name](images.detach()) for name in self.core.views]
        features, logits = self._seen(images)
        if (
            self._quick is not None
            and features.shape[0] <= FEW
            and features.is_cpu
            and not _recording(features)
        ):
            return logits, self._quick(features, logits)
        # Detached rather than in no_grad: gradients of the logits stay, and it costs less.
        z, y = features.detach().flatten(1).float(), logits.detach().float()
        views = self._views(others) if others else None
        if torch.is_autocast_enabled(z.device.type):
            with torch.autocast(z.device.type, enabled=False):
                return logits, self.core.verdict(z, y, views=views)
        return logits, self.core.verdict(z, y, views=views)

    def _seen(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the head reads, and (B, C) what it gives."""
        if len(self._head) > 1:
            return self._seen_by_several(images)
        seen: list[torch.Tensor] = []
        caller = _caller()

        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
            # Another thread may be using the same model.
            if _caller() == caller:
                seen[:] = [inputs[0], output]

        # As register_forward_hook does, whose handle takes longer than the scoring; its keys are
        # not negative.
        hooks, key = self._head[0]._forward_hooks, -id(seen)
        hooks[key] = hook
        try:
            # What nn.Module.compile made of the model does not call hooks.
            compiled = getattr(self.model, "_compiled_call_impl", None)
            if compiled is None:
                self.model(images)
            else:
                self.model._call_impl(images)  # type: ignore[no-untyped-call]
        finally:
            del hooks[key]
        if not seen:
            raise InputError(
                "the layer that the guard reads did not run, or its hooks did not: if a part of "
                "the model is compiled, wrap the uncompiled model and compile what guard.wrap "
                "returns"
            )
        features, logits = seen
        return features, logits if len(logits.shape) == 2 else logits.flatten(1)

    def _seen_by_several(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of linear layers whose sum or mean is the output."""
        seen: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}
        caller = get_ident()

        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
            if get_ident() == caller:
                seen[module] = inputs[0].flatten(1), output.flatten(1)

        handles = [part.register_forward_hook(hook) for part in self._head]
        try:
            self.model(images)
        finally:
            for handle in handles:
                handle.remove()
        read, made = zip(*(seen[part] for part in self._head), strict=True)
        # Where all of them read the same features, the guard knows those alone.
        features = read[0] if read[0].shape[1] == len(self.core.planes) else torch.cat(read, dim=1)
        return features, torch.stack(made).sum(dim=0) / self._divisor

    def _views(self, others: list[torch.Tensor]) -> ViewTensors:
        """Inputs and outputs of the head for augmented views."""
        with torch.no_grad():
            features, logits = zip(*map(self._seen, others), strict=True)
        return (
            torch.stack([each.flatten(1).float() for each in features], dim=1),
            torch.stack([each.float() for each in logits], dim=1),
        )


def _block(tensor: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Such rows in single precision, as one block of memory."""
    if tensor.shape != shape or tensor.dtype is not torch.float32 or not tensor.is_contiguous():
        tensor = tensor.detach().flatten(1).float().contiguous()
        if tensor.shape != shape:
            raise InputError(f"the guard reads rows of {shape}, got {tuple(tensor.shape)}")
    return tensor


def _recording(tensor: torch.Tensor) -> bool:
    """Whether operations are written down, as for export: by other kinds of tensors, or traced."""
    return (
        torch.compiler.is_compiling()
        or type(tensor) is not torch.Tensor
        or torch._C._get_tracing_state() is not None
    )


def _caller() -> int:
    """The thread that calls; torch.compile, which cannot ask, writes down one call."""
    return 0 if torch.compiler.is_compiling() else get_ident()
