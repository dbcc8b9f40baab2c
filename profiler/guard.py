"""A guard beside a deployed classifier: which of its answers not to trust, and what speaks against.

::

    guard = Guard.load("guard.safetensors")
    guarded = guard.wrap(model)
    logits, verdict = guarded(images)        # one forward pass of the model, and one a view
    verdict.flagged                          # (B,) do not trust these
    guard.reasons(features, verdict.predicted)

The guard reads the features that the model's last linear layer reads, and that layer's outputs. It
belongs to one set of weights and refuses every other. Its file is safetensors: numbers and a text
of JSON, nothing that could be executed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from profiler.concepts.heatmap import Heatmap
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray
from profiler.core.json_text import from_plain, json_text, parse_json
from profiler.core.store import write_atomically
from profiler.detector.base import Views, check_views_given
from profiler.detector.combined import ConceptRule, WithSoftmax, make_rule
from profiler.detector.comparisons import Comparisons, CosineRule, LikelihoodRule, Summaries
from profiler.detector.corrected import CorrectedSoftmax
from profiler.detector.drift import DriftWatch
from profiler.detector.kernels import ROWS, judge
from profiler.detector.reasons import SHOWN, Reason, reasons
from profiler.detector.strengths import StrengthsRule
from profiler.detector.thresholds import CONFIDENCE, Threshold, above, remark, threshold
from profiler.detector.typicality import TypicalityRule
from profiler.errors import ContextError, InputError, ProfilerError
from profiler.models.subject.heads import Head
from profiler.models.subject.network import computed, unwrapped, weights_digest
from profiler.models.views import VIEWS, check_views

FORMAT, WITH_VIEWS = 1, 2
"""Versions of the file; what reads only the first would overlook the views of the second."""
FILE = "guard.safetensors"
FEW = 16
"""Inputs up to which one compiled call on a CPU takes less time than many tensor operations."""
_TINY = 1e-30


class Verdict(NamedTuple):
    """What the guard says of B answers.

    Attributes:
        predicted: (B,) class of the highest logit.
        score: (B,) the higher the stranger; infinite where features or logits are not finite.
        flagged: (B,) whether not to trust the answer.
    """

    predicted: torch.Tensor
    score: torch.Tensor
    flagged: torch.Tensor


@dataclass(frozen=True)
class Context:
    """What a guard belongs to, and what it was made from.

    Attributes:
        subject: name of the network.
        weights: where its weights come from, in words.
        head: name of its last linear layer.
        digest: of its weights (:func:`profiler.models.subject.weights_digest`).
        fingerprint: of weights, preprocessing and head
        (:class:`profiler.models.classifier.Classifier`). classes: what its outputs are called. vlm:
        name of what read the images. vlm_fingerprint: of it. limits: what has to be known of it.
        concepts: title of the concept set. data: title of the images. data_fingerprint: of them.
        parts: images fitted on, chosen on, and calibrated on. accuracy: of the classifier on all of
        them. seed: dealt them out. r2: of the map, on images held out. command: as given. date: of
        the making. versions: of the packages. notes: what else a reader should know. behaviour:
        what it computes for fixed pictures (:attr:`profiler.models.subject.Subject.behaviour`),
            where a user's own code made it.
        shape: (3, H, W) of what it reads.
        trial: what it computes for :func:`trial_batch` (:func:`profiler.models.subject.computed`).
    """

    subject: str = ""
    weights: str = ""
    head: str = ""
    digest: str = ""
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    vlm: str = ""
    vlm_fingerprint: str = ""
    limits: str = ""
    concepts: str = ""
    data: str = ""
    data_fingerprint: str = ""
    parts: tuple[int, int, int] = (0, 0, 0)
    accuracy: float = 0.0
    seed: int = 0
    r2: float = float("nan")
    command: str = ""
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    behaviour: str = ""
    shape: tuple[int, ...] = ()
    trial: str = ""


@dataclass(frozen=True)
class Calibration:
    """Scores of labelled images that the rule was not fitted on, from which thresholds are set.

    Attributes:
        scores: (n,) of the images that thresholds are set on.
        wrong: (n,) which of them are misclassified.
        candidates: (m,) scores of yet other images: the cuts that a threshold by risk may choose
            from.
        levels: (n, M) strengths times ‖r(z)‖ of them.
        predicted: (n,) their predicted classes.
    """

    scores: Float64
    wrong: BoolArray
    candidates: Float64
    levels: NDArray[np.float32]
    predicted: IntArray


@dataclass(frozen=True, eq=False)
class Guard:
    """A fitted rule with its threshold and context.

    Attributes:
        space: concepts in the classifier's features.
        aligned: the map behind it.
        rule: fitted.
        speaker: the rule whose terms are given as reasons: ``rule`` or what is inside it, if it
            compares concepts, and the likelihood rule otherwise.
        head: weights (C, f) and bias (C,) of the classifier's last layer.
        calibration: from which thresholds are set.
        threshold: the one in use.
        context: what the guard belongs to.
        seen: (k,) digests of the images it was made from, as numbers; see :func:`digest_number`.
    """

    space: ConceptSpace
    aligned: AffineMap
    rule: ConceptRule | WithSoftmax
    speaker: Comparisons
    head: tuple[Float64, Float64]
    calibration: Calibration
    threshold: Threshold
    context: Context
    seen: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """C."""
        return len(self.head[0])

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the further views of each image that the model is asked about."""
        return self.rule.views if isinstance(self.rule, WithSoftmax) else ()

    @property
    def corrected(self) -> bool:
        """Whether the softmax that counts is that of the head as the images corrected it."""
        return isinstance(self.rule, WithSoftmax) and self.rule.corrected

    @property
    def remark(self) -> str:
        """What has to be said of a threshold that flags everything, or nothing; else empty."""
        said = remark(self.threshold, self.calibration.wrong)
        return (
            f"{said} (a quarter of the images that fit is given sets the threshold)" if said else ""
        )

    # -- judging ---------------------------------------------------------------------------------

    def wrap(self, model: nn.Module) -> "Guarded":
        """A module whose call gives (logits, verdict) in one forward pass of ``model``.

        A guard made with views takes one more for each of them. What ``torch.compile`` or
        DataParallel put around the model comes off: compile what this returns.

        Raises:
            ContextError: the guard was made for other weights, or for a network that computes
                something else with them, as far as two images tell.
        """
        model = unwrapped(model)
        digest = weights_digest(model)
        if digest != self.context.digest:
            raise ContextError(
                f"this guard was made for {self.context.subject} with weights "
                f"{self.context.digest[:12]}…, but these are {digest[:12]}…: its rows mean nothing "
                f"there; {self._way_out(model)}"
            )
        given = self.context.trial and computed(model, [trial_batch(self.context.shape)])
        if given and given != self.context.trial:
            raise ContextError(
                f"the weights are those of {self.context.subject} as this guard was made for it, "
                "but the network computes something else with them: fit a guard for this network"
            )
        first = next(model.parameters(), None)
        core = self.core()
        return Guarded(model, self.context.head, core if first is None else core.to(first.device))

    def _way_out(self, model: nn.Module) -> str:
        """What to do about other weights; rounded ones are known by their last layer."""
        head: Any = dict(model.named_modules()).get(self.context.head)
        weights = getattr(head, "weight", None)
        if isinstance(weights, torch.Tensor) and weights.dtype != torch.float32:
            own = torch.from_numpy(self.head[0]).to(weights.dtype).reshape(-1)
            if torch.equal(own, weights.detach().cpu().reshape(-1)):
                kind = str(weights.dtype).removeprefix("torch.")
                return (
                    f"they are the guard's own in {kind}, it seems: wrap the model as it was, and "
                    f"convert what comes of it, as in guard.wrap(model).to(torch.{kind})"
                )
        return "fit a guard for this network"

    def core(self) -> "ScoringCore":
        """The scoring alone, on features and logits; fit for ``torch.export``."""
        return ScoringCore(self)

    def score_features(
        self,
        features: FloatArray | torch.Tensor,
        predictions: IntArray | torch.Tensor | None = None,
        logits: FloatArray | torch.Tensor | None = None,
        views: Views | None = None,
    ) -> Verdict:
        """Judge answers whose features (n, f) are at hand.

        Args:
            features: what the last linear layer read.
            predictions: (n,) predicted classes; None: those of the highest logit.
            logits: (n, C); None: worked out by the head as it was when the guard was made.
            views: of the same images, as :attr:`views` names them; for a guard made with views.
        """
        z = torch.as_tensor(np.asarray(features) if isinstance(features, np.ndarray) else features)
        if z.dim() != 2 or z.shape[1] != self.head[0].shape[1]:
            raise InputError(
                f"the guard reads rows of {self.head[0].shape[1]} features, got {tuple(z.shape)}"
            )
        z = z.detach().float()
        if logits is None:
            weights, bias = (torch.from_numpy(each).to(z.device) for each in self.head)
            y = (z.double() @ weights.T + bias).float()
        else:
            y = torch.as_tensor(logits).detach().float()
        if y.shape != (len(z), self.classes):
            raise InputError(f"logits must be ({len(z)}, {self.classes}), got {tuple(y.shape)}")
        core = self.core().to(z.device)
        labels = None if predictions is None else torch.as_tensor(predictions).to(z.device)
        if labels is not None and (
            labels.shape != (len(z),)
            or (len(z) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes)
        ):
            raise InputError(f"predictions must be {len(z)} classes from 0 to {self.classes - 1}")
        check_views_given(views, self.views, len(z))
        with torch.inference_mode():
            return core.verdict(z, y, labels, view_tensors(views, z.device))

    def reasons(
        self, features: FloatArray, predicted: IntArray, limit: int = SHOWN
    ) -> list[tuple[Reason, ...]]:
        """The relations that speak most against each answer; none where features are not finite."""
        z = np.asarray(features, dtype=np.float64)
        fine = np.isfinite(z).all(axis=1)
        found: list[tuple[Reason, ...]] = [()] * len(z)
        told = reasons(self.speaker, self.levels(z[fine]), np.asarray(predicted)[fine], limit)
        for row, each in zip(np.flatnonzero(fine).tolist(), told, strict=True):
            found[row] = each
        return found

    def tell(self, reason: Reason, predicted: int) -> str:
        """A reason in words: ``wheels > ears (in 4 % of right answers "cat")``."""
        names = self.space.names
        return (
            f"{names[reason.more]} > {names[reason.less]} (in {100 * reason.usual:.0f} % of right "
            f"answers “{self.class_name(predicted)}”)"
        )

    def class_name(self, label: int) -> str:
        """What an output is called."""
        return self.context.classes[label] if label < len(self.context.classes) else str(label)

    def levels(self, features: FloatArray) -> Float64:
        """(n, M) strengths times ‖r(z)‖, which are compared; not finite features are refused."""
        weights, offsets = self.space.planes()
        levels: Float64 = np.asarray(features, dtype=np.float64) @ weights.T + offsets
        return levels

    def at(self, target: str, level: float, confidence: float = CONFIDENCE) -> "Guard":
        """The same guard with another threshold."""
        kept = self.calibration
        cut = threshold(
            target, level, kept.scores, kept.wrong, confidence=confidence,
            candidates=kept.candidates,
        )  # fmt: skip
        return replace(self, threshold=cut)

    def watch(self, **options: Any) -> DriftWatch:
        """A watch over what passes, against what passed among the images it was calibrated on."""
        kept = self.calibration
        passes = ~above(kept.scores, self.threshold.value)
        reference = Heatmap.of(kept.levels[passes].astype(np.float64))
        if reference is None:
            raise InputError(
                "at this threshold nothing passed when the guard was made, so there is nothing a "
                "stream could drift from"
            )
        counts = np.bincount(kept.predicted[passes], minlength=self.classes)
        return DriftWatch(reference, counts, **options)

    @property
    def weak_classes(self) -> tuple[int, ...]:
        """Classes without a single wrong answer among the images fitted on."""
        counts = self.speaker.summaries_.wrong_count
        return tuple(np.flatnonzero(counts == 0).tolist())

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write it; whole or not at all."""
        kept, found = self.calibration, self.speaker.summaries_
        arrays: dict[str, NDArray[Any]] = {
            **{f"map.{name}": array for name, array in self.aligned.to_arrays().items()},
            "directions": self.space.directions,
            "head.weights": self.head[0],
            "head.bias": self.head[1],
            "right": found.right,
            "right_count": found.right_count,
            "wrong": found.wrong,
            "wrong_count": found.wrong_count,
            "calibration.scores": kept.scores,
            "calibration.wrong": kept.wrong,
            "calibration.candidates": kept.candidates,
            "calibration.levels": kept.levels,
            "calibration.predicted": np.asarray(kept.predicted, dtype=np.int64),
            "seen": self.seen,
        }
        plain = self.rule.rule if isinstance(self.rule, WithSoftmax) else self.rule
        if isinstance(self.rule, WithSoftmax):
            arrays["rarity.softmax"] = (
                self.rule.doubts_ if self.views else self.rule.softmax_rarity_.known
            )
            arrays["rarity.rule"] = self.rule.rule_rarity_.known
            arrays["rarity.weight"] = np.array([self.rule.weight_, self.rule.allowance_])
            if isinstance(self.rule.softmax_, CorrectedSoftmax):
                arrays["correction.weights"] = self.rule.softmax_.weights_
                arrays["correction.bias"] = self.rule.softmax_.bias_
        if isinstance(plain, TypicalityRule):
            arrays["typicality.usual"] = plain.usual_
            arrays["typicality.whitening"] = plain.whitening_
        if isinstance(plain, StrengthsRule):
            arrays["strengths.usual"] = plain.usual_
            arrays["strengths.spread"] = plain.spread_
            arrays["strengths.weights"] = plain.weights_
            arrays["strengths.bias"] = np.array([plain.bias_, plain.penalty_])
        content = {
            "format": WITH_VIEWS if self.views else FORMAT,
            "rule": self.rule.name,
            "views": self.views,
            "concepts": self.space.names,
            "threshold": self.threshold,
            "context": self.context,
        }
        text = json_text(content, None)
        dense = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_atomically(path, save(dense, metadata={"guard": text}))

    @classmethod
    def load(cls, path: Path | str) -> "Guard":
        """Read a guard's file.

        Raises:
            InputError: it is none, or damaged.
        """
        if not Path(path).is_file():
            raise InputError(f"there is no guard {str(path)!r}; profiler guard fit makes one")
        try:
            with safe_open(str(path), framework="np") as file:
                content = parse_json((file.metadata() or {})["guard"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if content["format"] in (FORMAT, WITH_VIEWS):
                return _from_file(content, arrays)
        except ProfilerError as error:
            raise InputError(f"{str(path)!r} is not a guard: {error}") from error
        except (
            OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError,
            RecursionError,
        ) as error:  # fmt: skip
            raise InputError(
                f"{str(path)!r} is not a guard: {type(error).__name__}: {error}"
            ) from error
        raise InputError(
            f"{str(path)!r} has format {content['format']}; this version reads {FORMAT} and "
            f"{WITH_VIEWS}; it may come of a newer one"
        )


def _from_file(content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Guard:
    aligned = AffineMap.from_arrays(
        {name.removeprefix("map."): each for name, each in arrays.items() if name[:4] == "map."}
    )
    space = ConceptSpace(
        tuple(content["concepts"]), arrays["directions"], aligned.matrix_, aligned.offset_
    )
    views = tuple(content["views"]) if content["format"] == WITH_VIEWS else ()
    check_views(views)
    rule = make_rule(content["rule"], space, views)
    plain = rule.rule if isinstance(rule, WithSoftmax) else rule
    found = Summaries(
        arrays["right"], arrays["wrong"], arrays["right_count"], arrays["wrong_count"]
    )
    if isinstance(plain, StrengthsRule):
        plain.usual_, plain.spread_ = arrays["strengths.usual"], arrays["strengths.spread"]
        plain.weights_ = arrays["strengths.weights"]
        plain.bias_, plain.penalty_ = arrays["strengths.bias"].tolist()
    elif isinstance(plain, TypicalityRule):
        plain.usual_ = arrays["typicality.usual"]
        plain.whitening_ = arrays["typicality.whitening"]
    else:
        plain.fit_on(found)
    if isinstance(rule, WithSoftmax):
        weight, allowance = arrays["rarity.weight"].tolist()
        if "correction.weights" in arrays:
            rule.softmax_ = CorrectedSoftmax()
            rule.softmax_.weights_ = arrays["correction.weights"]
            rule.softmax_.bias_ = arrays["correction.bias"]
        rule.set(arrays["rarity.softmax"], arrays["rarity.rule"], weight, allowance)
    if len(content["concepts"]) != len(arrays["directions"]):
        raise InputError("it does not name as many concepts as it has directions")
    cut = from_plain(Threshold, content["threshold"])
    if math.isnan(cut.value):
        raise InputError("its threshold is no number")
    context = dict(content["context"])
    for name in ("classes", "parts", "notes", "shape"):
        context[name] = tuple(context.get(name, ()))
    return Guard(
        space,
        aligned,
        rule,
        speaker_of(plain, space, found),
        (arrays["head.weights"], arrays["head.bias"]),
        Calibration(
            arrays["calibration.scores"],
            arrays["calibration.wrong"],
            arrays["calibration.candidates"],
            arrays["calibration.levels"],
            arrays["calibration.predicted"],
        ),
        cut,
        Context(**context),
        arrays["seen"],
    )


def speaker_of(plain: ConceptRule, space: ConceptSpace, found: Summaries) -> Comparisons:
    """The rule that gives reasons; see :class:`Guard`."""
    return plain if isinstance(plain, Comparisons) else LikelihoodRule(space).fit_on(found)


def trial_batch(shape: Sequence[int]) -> torch.Tensor:
    """Two fixed images of noise, as a preprocessing that normalises might give them."""
    noise = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    return 4 * noise - 2


def digest_number(content: bytes) -> int:
    """The first 63 bits of a SHA-256 as a number, by which an image is known again."""
    return int.from_bytes(content[:8], "big") >> 1


# --- torch -----------------------------------------------------------------------------------

ViewTensors = tuple[torch.Tensor, torch.Tensor]
"""Features (B, L, f) and logits (B, L, C) of L views."""


def view_tensors(views: Views | None, device: torch.device | str = "cpu") -> ViewTensors | None:
    """The same as tensors in single precision."""
    if views is None:
        return None
    z, y = (np.asarray(each, dtype=np.float32) for each in (views.features, views.logits))
    return torch.from_numpy(z).to(device), torch.from_numpy(y).to(device)


class ScoringCore(nn.Module):
    """(B, f) features and (B, C) logits → (B,) scores: tensors in, tensors out.

    A guard made with views needs those of the views as well.

    It holds a few matrices and calls nothing but tensor operations, so it can be exported and
    moved to any device. In single precision: scores differ from :mod:`profiler.detector`'s by
    rounding, except where two concepts are equally strong up to rounding.

    Beside a small network what counts at batch 1 is how many operations there are, not how large;
    hence tables in place of formulas, and constants as tensors, which are cheaper than numbers.
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

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        rule = guard.rule
        plain = rule.rule if isinstance(rule, WithSoftmax) else rule
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
    ) -> Verdict:
        """Scores, and what is flagged."""
        if predicted is None:
            predicted = logits.argmax(dim=1)
        score = self(features, logits, predicted, views)
        # Infinite scores are flagged even where the cut lets anything pass.
        return Verdict(predicted, score, (score > self.cut) | (score == self.infinite))

    def _changed(
        self, doubt: torch.Tensor, predicted: torch.Tensor, views: ViewTensors | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean log-odds over image and views, and the change (B,)."""
        if views is None or views[0].shape[1] != len(self.views):
            raise InputError(f"this guard needs views of each image: {', '.join(self.views)}")
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
    """As :func:`profiler.detector.baselines.log_odds_against`; not finite if a logit is not.

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

    def __call__(self, features: torch.Tensor, logits: torch.Tensor) -> Verdict:
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
        return Verdict(predicted, score, flagged)


class Guarded(nn.Module):
    """A model and its guard: a call gives (logits, verdict) in one forward pass of the model.

    A guard made with views takes a further pass for each of them. The model may do with its head's
    output what it likes; ``logits`` are that output. Where the head runs several times, the last
    run counts.
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

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, Verdict]:
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
                "the layer that the guard reads did not run where hooks see it: if a part of the "
                "model is compiled, wrap the plain model and compile what guard.wrap returns"
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
        """What the head reads and gives for further views."""
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
