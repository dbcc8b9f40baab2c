"""A guard for a deployed classifier: which predictions not to trust, and why.

::

    guard = Guard.load("guard.safetensors")
    guarded = guard.wrap(model)
    logits, verdict = guarded(images)        # one forward pass, and one per augmented view
    verdict.flagged                          # (B,) do not trust these
    guard.reasons(features, verdict.predicted)

The guard reads the features that the model's last linear layer reads, and that layer's outputs. It
belongs to one set of weights and refuses all others. Its file is safetensors: numbers and JSON,
nothing that could be executed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

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
from profiler.errors import ContextError, InputError, ProfilerError
from profiler.guard.drift import DriftWatch
from profiler.guard.rules.base import ConceptRule, Views, check_views_given
from profiler.guard.rules.combined import WithSoftmax, load_rule
from profiler.guard.rules.comparisons import Comparisons, LikelihoodRule
from profiler.guard.rules.reasons import SHOWN, Reason, reasons
from profiler.guard.runtime import Guarded, Scores, ScoringCore, view_tensors
from profiler.guard.thresholds import CONFIDENCE, AlarmThreshold, above, remark, threshold
from profiler.models.subject.network import computed, unwrapped, weights_digest
from profiler.models.views import check_views

FORMAT, WITH_VIEWS = 1, 2
"""Versions of the file; a reader of the first alone would ignore the views of the second."""
FILE = "guard.safetensors"


@dataclass(frozen=True)
class Context:
    """What a guard belongs to, and what it was made from.

    Attributes:
        subject: name of the network.
        weights: where its weights come from, in words.
        head: name of its last linear layer.
        digest: of its weights (:func:`profiler.models.subject.weights_digest`).
        fingerprint: of weights, preprocessing and head
            (:class:`profiler.models.classifier.Classifier`).
        classes: names of its outputs.
        vlm: name of the VLM.
        vlm_fingerprint: of it.
        limits: of it, in words.
        concepts: title of the concept set.
        data: title of the images.
        data_fingerprint: of them.
        parts: numbers of images fitted on, chosen on, and calibrated on.
        accuracy: of the classifier on all of them.
        seed: of the split.
        r2: of the linear alignment, on held-out images.
        command: as given.
        date: of the fit.
        versions: of the packages.
        notes: warnings and remarks.
        behaviour: its outputs for fixed pictures
            (:attr:`profiler.models.subject.Subject.behaviour`), if a user's own code made it.
        shape: (3, H, W) of its input.
        trial: its outputs for :func:`trial_batch` (:func:`profiler.models.subject.computed`).
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
class HeldOutScores:
    """Scores of labelled images that the method was not fitted on, from which thresholds are set.

    Attributes:
        scores: (n,) of the images that thresholds are set on.
        wrong: (n,) which of them are misclassified.
        candidates: (m,) scores of other images: the candidates of a threshold by risk.
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
    """A fitted detection method with its threshold and context.

    Attributes:
        space: concepts in the classifier's features.
        aligned: its linear alignment.
        rule: the detection method, fitted.
        speaker: the method whose terms are given as reasons: ``rule`` or the method inside it, if
            it compares concepts, and likelihood otherwise.
        head: weights (C, f) and bias (C,) of the classifier's last layer.
        calibration: from which thresholds are set.
        threshold: the one in use.
        context: what the guard belongs to.
        seen: (k,) digests of the images it was fitted on, as numbers; see :func:`digest_number`.
    """

    space: ConceptSpace
    aligned: AffineMap
    rule: ConceptRule | WithSoftmax
    speaker: Comparisons
    head: tuple[Float64, Float64]
    calibration: HeldOutScores
    threshold: AlarmThreshold
    context: Context
    seen: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """C."""
        return len(self.head[0])

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the augmented views of each image that the guard uses."""
        return self.rule.views

    @property
    def corrected(self) -> bool:
        """Whether the softmax is that of the corrected head."""
        return self.rule.corrected

    @property
    def remark(self) -> str:
        """A warning about a threshold that flags everything, or nothing; else empty."""
        text = remark(self.threshold, self.calibration.wrong)
        return (
            f"{text} (the threshold is set on a quarter of the images given to fit)" if text else ""
        )

    # -- judging ---------------------------------------------------------------------------------

    def wrap(self, model: nn.Module) -> "Guarded":
        """A module whose call gives (logits, verdict) in one forward pass of ``model``.

        Each augmented view takes one more pass. The wrappers of ``torch.compile`` and DataParallel
        are removed: compile the module that this returns.

        Args:
            model: maps (B, 3, H, W) to logits (B, C); the one that the guard was fitted for.

        Returns:
            A module that maps (B, 3, H, W) to the logits and a verdict, whose ``flagged`` and
            ``score`` have shape (B,).

        Raises:
            ContextError: the guard was fitted for other weights, or the network gives other
                outputs for two test images.
        """
        model = unwrapped(model)
        digest = weights_digest(model)
        if digest != self.context.digest:
            raise ContextError(
                f"this guard was fitted for {self.context.subject} with weights "
                f"{self.context.digest[:12]}…, but this model has weights {digest[:12]}…: "
                f"{self._way_out(model)}"
            )
        given = self.context.trial and computed(model, [trial_batch(self.context.shape)])
        if given and given != self.context.trial:
            raise ContextError(
                f"this guard was fitted for these weights of {self.context.subject}, but the "
                "network now gives other outputs: fit a guard for this network"
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
                    f"they seem to be the right weights converted to {kind}: wrap the unconverted "
                    f"model and convert the result, as in guard.wrap(model).to(torch.{kind})"
                )
        return "fit a guard for this network"

    def core(self) -> "ScoringCore":
        """The scoring alone, on features and logits; it supports ``torch.export``."""
        return ScoringCore(self)

    def score_features(
        self,
        features: FloatArray | torch.Tensor,
        predictions: IntArray | torch.Tensor | None = None,
        logits: FloatArray | torch.Tensor | None = None,
        views: Views | None = None,
    ) -> Scores:
        """Score predictions by their features.

        Args:
            features: (n, f) inputs of the last linear layer.
            predictions: (n,) predicted classes; None: those of the highest logit.
            logits: (n, C); None: computed by the head that the guard was fitted for.
            views: augmented views of the same images, as :attr:`views` names them.

        Raises:
            InputError: a shape or a class is not valid.
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
        """The comparisons of concepts that raise each score most.

        Args:
            features: (n, f) inputs of the head.
            predicted: (n,) numbers of the predicted classes.
            limit: comparisons for each, at most.

        Returns:
            For each prediction its comparisons; none where features are not finite.
        """
        z = np.asarray(features, dtype=np.float64)
        fine = np.isfinite(z).all(axis=1)
        found: list[tuple[Reason, ...]] = [()] * len(z)
        told = reasons(
            self.speaker, self.speaker.levels(z[fine]), np.asarray(predicted)[fine], limit
        )
        for row, each in zip(np.flatnonzero(fine).tolist(), told, strict=True):
            found[row] = each
        return found

    def tell(self, reason: Reason, predicted: int) -> str:
        """A reason in words: ``wheels > ears (in 4 % of correct predictions “cat”)``.

        Args:
            reason: one of :meth:`reasons`.
            predicted: number of the predicted class.
        """
        names = self.space.names
        return (
            f"{names[reason.more]} > {names[reason.less]} (in {100 * reason.usual:.0f} % of "
            f"correct predictions “{self.class_name(predicted)}”)"
        )

    def class_name(self, label: int) -> str:
        """The name of an output.

        Args:
            label: its number, counted from 0.
        """
        return self.context.classes[label] if label < len(self.context.classes) else str(label)

    def at(self, target: str, level: float, confidence: float = CONFIDENCE) -> "Guard":
        """The same guard with another threshold.

        Args:
            target: what it promises: ``false-alarms``, ``share``, ``passed-errors`` or ``risk``.
            level: at most this share, between 0 and 1.
            confidence: with which ``risk`` is held.
        """
        kept = self.calibration
        cut = threshold(
            target, level, kept.scores, kept.wrong, confidence=confidence,
            candidates=kept.candidates,
        )  # fmt: skip
        return replace(self, threshold=cut)

    def watch(self, **options: Any) -> DriftWatch:
        """Drift detection on images that pass, against the calibration images that passed.

        Args:
            options: fields of :class:`profiler.guard.drift.DriftWatch`, such as ``window``: how
                many images pass between two looks.

        Raises:
            InputError: at this threshold nothing passed.
        """
        kept = self.calibration
        passes = ~above(kept.scores, self.threshold.value)
        reference = Heatmap.of(kept.levels[passes].astype(np.float64))
        if reference is None:
            raise InputError(
                "at this threshold no calibration image passes, so there is no reference for "
                "drift detection"
            )
        counts = np.bincount(kept.predicted[passes], minlength=self.classes)
        return DriftWatch(reference, counts, **options)

    @property
    def weak_classes(self) -> tuple[int, ...]:
        """Classes without an incorrect prediction among the images fitted on."""
        counts = self.speaker.summaries_.wrong_count
        return tuple(np.flatnonzero(counts == 0).tolist())

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write it; whole or not at all.

        Args:
            path: of the file, by custom ``guard.safetensors``.

        Raises:
            OutputError: it cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {
            **{f"map.{name}": array for name, array in self.aligned.to_arrays().items()},
            "directions": self.space.directions,
            "head.weights": self.head[0],
            "head.bias": self.head[1],
            **self.speaker.to_arrays(),
            **self.rule.to_arrays(),
            **{f"calibration.{name}": array for name, array in vars(self.calibration).items()},
            "seen": self.seen,
        }
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
        write_atomically(Path(path), save(dense, metadata={"guard": text}))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a guard's file, or that in a folder.

        Args:
            path: of the file, or of the folder that ``fit`` wrote to.

        Raises:
            InputError: it is none, or damaged.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise InputError(f"there is no guard {str(path)!r}; profiler guard fit makes one")
        try:
            with safe_open(str(path), framework="np") as file:
                content = parse_json((file.metadata() or {})["guard"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if content["format"] in (FORMAT, WITH_VIEWS):
                return cls._of_file(content, arrays)
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
            f"{WITH_VIEWS}; a newer version may have written it"
        )

    @classmethod
    def _of_file(cls, content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        aligned = AffineMap.from_arrays(
            {name.removeprefix("map."): each for name, each in arrays.items() if name[:4] == "map."}
        )
        space = ConceptSpace(
            tuple(content["concepts"]), arrays["directions"], aligned.matrix_, aligned.offset_
        )
        views = tuple(content["views"]) if content["format"] == WITH_VIEWS else ()
        check_views(views)
        rule = load_rule(content["rule"], space, views, arrays)
        if len(content["concepts"]) != len(arrays["directions"]):
            raise InputError("it has more or fewer names of concepts than directions")
        cut = from_plain(AlarmThreshold, content["threshold"])
        if math.isnan(cut.value):
            raise InputError("its threshold is not a number")
        context = dict(content["context"])
        for name in ("classes", "parts", "notes", "shape"):
            context[name] = tuple(context.get(name, ()))
        return cls(
            space,
            aligned,
            rule,
            rule.plain
            if isinstance(rule.plain, Comparisons)
            else LikelihoodRule.from_arrays(arrays, space),
            (arrays["head.weights"], arrays["head.bias"]),
            HeldOutScores(*(arrays[f"calibration.{each.name}"] for each in fields(HeldOutScores))),
            cut,
            Context(**context),
            arrays["seen"],
        )


def trial_batch(shape: Sequence[int]) -> torch.Tensor:
    """Two fixed images of noise, in the range of normalised inputs."""
    noise = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    return 4 * noise - 2


def digest_number(content: bytes) -> int:
    """The first 63 bits of a SHA-256 as a number that identifies an image."""
    return int.from_bytes(content[:8], "big") >> 1
