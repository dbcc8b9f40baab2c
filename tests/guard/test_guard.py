"""The guard beside a network: one pass, one verdict, its file, and what it refuses."""

import copy
import gc
import json
import pickle
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from guard_samples import colors_of, digests, guard, images_of, observed
from tiny import TinyNet, tiny_subject
from torch import nn

from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.errors import ContextError, InputError
from profiler.guard.fit import PARTS
from profiler.guard.guard import Guard, digest_number
from profiler.guard.metrics import metrics
from profiler.guard.parts import split_by_content
from profiler.guard.rules.baselines import MaxSoftmax
from profiler.guard.rules.combined import ALLOWANCES, CHOICES, WithSoftmax, make_rule
from profiler.guard.rules.corrected import CorrectedSoftmax
from profiler.guard.rules.kernels import judge
from profiler.guard.runtime import FEW, Guarded, QuickCore, Scores, ScoringCore
from profiler.guard.thresholds import threshold

GUARD = guard()


@pytest.mark.parametrize("rule", CHOICES)
def test_the_core_scores_as_the_detector_does(rule: str) -> None:
    made, seen = guard(rule), observed(200, 5)
    with torch.inference_mode():
        scores = made.core()(torch.from_numpy(seen.features), torch.from_numpy(seen.logits))
    expected = made.rule.score(seen.features, seen.logits)
    # In single precision; where two concepts are equally strong up to rounding, a comparison may
    # come out otherwise.
    off = np.abs(scores.numpy() - expected) / (1 + np.abs(expected))
    assert np.quantile(off, 0.97) < 1e-3


@pytest.mark.parametrize("rule", CHOICES)
def test_a_guard_survives_its_file(rule: str, tmp_path: Path) -> None:
    made, seen = guard(rule, target="risk", level=0.1), observed(100, 6)
    made.save(tmp_path / "guard.safetensors")
    again = Guard.load(tmp_path / "guard.safetensors")
    one = made.score_features(seen.features)
    other = again.score_features(seen.features)
    assert torch.equal(one.score, other.score)
    assert torch.equal(one.flagged, other.flagged)
    assert again.threshold == made.threshold
    assert again.context == made.context
    assert again.reasons(seen.features, seen.predicted) == made.reasons(
        seen.features, seen.predicted
    )
    assert again.at("share", 0.2).threshold == made.at("share", 0.2).threshold
    assert (again.seen == made.seen).all()


def test_a_corrected_head_is_scored_alike_kept_and_exported(tmp_path: Path) -> None:
    made, seen = guard(), observed(200, 5)
    rule = made.rule
    assert isinstance(rule, WithSoftmax)
    plain = rule.score(seen.features, seen.logits)
    rule.softmax_ = CorrectedSoftmax().fit(seen.features, seen.logits, seen.truth)
    right = ~seen.wrong
    rule.set(
        rule.softmax_.score(seen.features, seen.logits)[right],
        rule.rule.score(seen.features, seen.logits)[right],
        1.0,
        ALLOWANCES[0],
    )
    expected = rule.score(seen.features, seen.logits)
    assert not np.allclose(expected, plain)
    made.save(tmp_path / "guard.safetensors")
    again = Guard.load(tmp_path / "guard.safetensors")
    z, y = torch.from_numpy(seen.features), torch.from_numpy(seen.logits)
    for core in (made.core(), again.core()):
        assert np.allclose(core(z, y).numpy(), expected, rtol=1e-3, atol=1e-3)
    y[0, 1] = -torch.inf
    assert again.core().verdict(z, y).flagged[0]
    program = torch.export.export(again.core(), (z[:1], y[:1]))
    assert torch.allclose(program.module()(z[1:2], y[1:2]), again.core()(z[1:2], y[1:2]))


def test_the_file_holds_numbers_and_json_and_nothing_to_execute(tmp_path: Path) -> None:
    GUARD.save(tmp_path / "guard.safetensors")
    raw = (tmp_path / "guard.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    said = json.loads(header.pop("__metadata__")["guard"])
    assert said["rule"] == "msp+typicality"
    assert said["context"]["fingerprint"] == GUARD.context.fingerprint
    assert {"map.matrix", "directions", "right", "wrong", "calibration.scores"} <= set(header)
    assert {entry["dtype"] for entry in header.values()} <= {"F32", "F64", "I64", "BOOL"}


@pytest.mark.parametrize("content", [b"", b"not a guard", struct.pack("<Q", 2) + b"{}"])
def test_what_is_no_guard_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "guard.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="is not a guard"):
        Guard.load(tmp_path / "guard.safetensors")


def test_damaged_files_and_newer_ones_are_distinguished(tmp_path: Path) -> None:
    path = tmp_path / "guard.safetensors"
    GUARD.save(path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    said = json.loads(whole[8 : 8 + length])

    def changed(**content: object) -> None:
        text = json.dumps(json.loads(said["__metadata__"]["guard"]) | content)
        header = json.dumps(said | {"__metadata__": {"guard": text}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + whole[8 + length :])

    changed()
    Guard.load(path)
    changed(format=3)
    with pytest.raises(InputError, match="has format 3; this version reads 1 and 2"):
        Guard.load(path)
    for content in ({"threshold": {}}, {"rule": "cosine+msp"}, {"concepts": ["one"]}, {"views": 3}):
        changed(**content)
        if "views" not in content:  # not read of a guard without any
            with pytest.raises(InputError, match="is not a guard"):
                Guard.load(path)
    changed(threshold=asdict(replace(GUARD.threshold, value=float("nan"))))
    with pytest.raises(InputError, match="its threshold is not a number"):
        Guard.load(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is not a guard"):
        Guard.load(path)
    header = json.dumps({"__metadata__": {"guard": "[" * 100_000}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match="is not a guard"):
        Guard.load(path)


# --- beside a network ----------------------------------------------------------------------------


class Counting(TinyNet):
    """Counts its forward passes."""

    passes = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return super().forward(images)


def test_one_forward_pass_gives_logits_and_verdict() -> None:
    model = Counting().eval()
    guarded = GUARD.wrap(model)
    images = images_of(colors_of(50, 7)[0])
    logits, verdict = guarded(images)
    assert model.passes == 1
    assert torch.equal(logits, model(images))
    assert torch.equal(verdict.predicted, logits.argmax(1))
    seen = observed(50, 7)
    alone = GUARD.score_features(seen.features, seen.predicted, seen.logits)
    assert torch.allclose(verdict.score, alone.score)
    assert torch.equal(verdict.flagged, alone.flagged)
    assert not any(module._forward_hooks for module in model.modules())


def test_verdicts_do_not_depend_on_the_batch() -> None:
    guarded = GUARD.wrap(TinyNet().eval())
    images = images_of(colors_of(20, 8)[0])
    _, whole = guarded(images)
    single = torch.cat([guarded(image[None])[1].score for image in images])
    assert torch.allclose(whole.score, single, atol=1e-5)
    logits, nothing = guarded(images[:0])
    assert logits.shape == (0, 4)
    assert len(nothing.score) == len(nothing.flagged) == 0


def test_gradients_flow_through_the_logits_and_the_network_is_left_as_it_was() -> None:
    model = TinyNet().eval()
    images = images_of(colors_of(3, 1)[0]).requires_grad_()
    logits, verdict = GUARD.wrap(model)(images)
    logits.sum().backward()
    assert images.grad is not None
    assert not verdict.score.requires_grad


def test_wrong_answers_are_flagged_more_often_than_right_ones() -> None:
    seen = observed(600, 9)
    verdict = GUARD.score_features(seen.features)
    flagged = verdict.flagged.numpy()
    assert metrics(verdict.score.numpy(), seen.wrong).auroc > 0.85
    assert flagged[~seen.wrong].mean() < 0.1
    assert flagged[seen.wrong].mean() > 2 * flagged[~seen.wrong].mean()


def test_what_is_not_finite_is_flagged_never_passed() -> None:
    # Even where the threshold would let anything pass.
    open_ = GUARD.at("share", 0.001)
    assert open_.threshold.value == np.inf
    z = observed(6, 1).features.copy()
    z[1, 0], z[2, 1], z[3, 2] = np.nan, np.inf, -np.inf
    verdict = open_.score_features(z)
    assert verdict.flagged.tolist() == [False, True, True, True, False, False]
    assert torch.isinf(verdict.score[1:4]).all()
    images = images_of(colors_of(2, 1)[0])
    images[1] = torch.nan
    _, verdict = open_.wrap(TinyNet().eval())(images)
    assert verdict.flagged.tolist() == [False, True]
    assert open_.reasons(z, np.zeros(6, int))[1] == ()


@pytest.mark.parametrize("rule", CHOICES)
def test_every_rule_flags_what_is_not_finite_in_features_or_logits(rule: str) -> None:
    core = guard(rule).at("share", 0.001).core()
    assert core.cut == torch.inf
    seen = observed(30, 1)
    z, y = torch.from_numpy(seen.features), torch.from_numpy(seen.logits)
    assert not core.verdict(z, y).flagged.any()
    for place, bad in enumerate((torch.nan, torch.inf, -torch.inf)):
        harmed = y.clone()
        # In the predicted class, and in one of the others.
        harmed[place, int(y[place].argmax())] = bad
        harmed[3 + place, int(y[3 + place].argmin())] = bad
        verdict = core.verdict(z, harmed)
        assert verdict.flagged.nonzero().flatten().tolist() == [place, 3 + place]
        changed = z.clone()
        changed[place] = bad
        changed[3 + place, 0] = bad
        verdict = core.verdict(changed, y, y.argmax(1))
        assert verdict.flagged.nonzero().flatten().tolist() == [place, 3 + place]
        assert not verdict.score.isnan().any()


def test_a_network_that_is_as_sure_as_can_be_is_still_judged() -> None:
    # The softmax of the runner-up rounds to 0, and its log to minus infinity.
    seen = observed(20, 1)
    scores = GUARD.core()(torch.from_numpy(seen.features), 500 * torch.from_numpy(seen.logits))
    expected = GUARD.rule.score(seen.features, 500 * seen.logits)
    assert np.isfinite(expected).all()
    assert np.allclose(scores.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_guarded_network_has_no_weight_twice() -> None:
    model = TinyNet()
    guarded = GUARD.wrap(model)
    names = {f"model.{name}" for name in model.state_dict()}
    assert {name for name in guarded.state_dict() if not name.startswith("core.")} == names


def test_nothing_at_all_is_no_error() -> None:
    verdict = GUARD.score_features(np.zeros((0, 4)))
    assert len(verdict.flagged) == 0


def test_other_weights_are_refused() -> None:
    other = TinyNet().eval()
    with torch.no_grad():
        other.fc.weight[0, 0] += 1e-3
    with pytest.raises(ContextError, match="fitted for tiny"):
        GUARD.wrap(other)


@pytest.mark.parametrize(
    ("features", "predictions", "said"),
    [
        (np.zeros((3, 5)), None, "rows of 4 features"),
        (np.zeros(4), None, "rows of 4 features"),
        (np.zeros((3, 4)), np.array([0, 1]), "3 classes"),
        (np.zeros((3, 4)), np.array([0, 1, 4]), "from 0 to 3"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    features: np.ndarray, predictions: np.ndarray | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        GUARD.score_features(features, predictions)


def test_given_predictions_take_the_place_of_the_heads() -> None:
    seen = observed(40, 2)
    right = seen.features[~seen.wrong][:10]
    truth = seen.truth[~seen.wrong][:10]
    as_is = GUARD.score_features(right, truth).score
    turned = GUARD.score_features(right, (truth + 1) % 4)
    assert (turned.score > as_is).all()
    assert turned.flagged.float().mean() >= 0.8


# --- few inputs on a CPU -------------------------------------------------------------------------


def random_guard(seed: int, rule: str, corrected: bool, sizes: tuple[int, int]) -> Guard:
    """Fitted on noise, of so many features and dimensions of the VLM; 5 classes, 7 concepts."""
    rng = np.random.default_rng(seed)
    features, dimensions = sizes
    z, y = rng.normal(1, 1, (300, features)), 2 * rng.normal(size=(300, 5))
    truth = np.where(rng.random(300) < 0.7, y.argmax(1), rng.integers(0, 5, 300))
    mixed = z @ rng.normal(size=(features, dimensions)) + rng.normal(size=(300, dimensions))
    aligned = AffineMap().fit(z, mixed)
    captions = rng.normal(size=(7, 1, dimensions))
    captions /= np.linalg.norm(captions, axis=2, keepdims=True)
    space = ConceptSpace.of([f"concept {m}" for m in range(7)], captions, aligned)
    made = make_rule(rule, space)
    assert isinstance(made, WithSoftmax)
    made.fit(z, y, truth)
    softmax = made.softmax_ if corrected else MaxSoftmax()
    made.weigh(z, y, truth)
    made.softmax_ = softmax
    right = y.argmax(1) == truth
    made.set(softmax.score(z, y)[right], made.rule.score(z, y)[right], 0.5, ALLOWANCES[0])
    cut = threshold("false-alarms", 0.2, made.score(z, y), ~right)
    return replace(GUARD, space=space, aligned=aligned, rule=made, threshold=cut)


def same(one: Scores, other: Scores) -> None:
    """Up to rounding."""
    assert [each.dtype for each in one] == [each.dtype for each in other]
    assert torch.equal(one.predicted, other.predicted)
    assert torch.allclose(one.score, other.score, rtol=1e-4, atol=1e-4)
    assert torch.equal(one.flagged, other.flagged)


@pytest.mark.parametrize("rule", ["msp+typicality", "msp+strengths"])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("sizes", [(3, 11), (11, 3), (8, 8)])
def test_one_call_judges_as_the_tensors_and_the_rule_do(
    rule: str, corrected: bool, sizes: tuple[int, int]
) -> None:
    for seed in range(3):
        made = random_guard(seed, rule, corrected, sizes)
        assert made.corrected is corrected
        core = made.core()
        quick = QuickCore(core)
        rng = np.random.default_rng(seed + 100)
        for batch in (0, 1, 7, 64):
            z = rng.normal(1, 2, (batch, sizes[0])).astype(np.float32)
            y = (3 * rng.normal(size=(batch, 5))).astype(np.float32)
            found = quick(torch.from_numpy(z), torch.from_numpy(y))
            same(found, core.verdict(torch.from_numpy(z), torch.from_numpy(y)))
            expected = made.rule.score(z, y)
            assert np.allclose(found.score.numpy(), expected, rtol=1e-3, atol=1e-3)
            assert (found.flagged.numpy() == (expected > made.threshold.value)).all()
            assert found.predicted.tolist() == y.argmax(1).tolist()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("rule", ["msp+typicality", "msp+strengths"])
@pytest.mark.parametrize("corrected", [False, True])
def test_one_call_flags_what_is_not_finite(rule: str, corrected: bool, bad: float) -> None:
    core = random_guard(0, rule, corrected, (6, 9)).at("share", 0.001).core()
    assert core.cut == torch.inf
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(20, 6, generator=generator), torch.randn(20, 5, generator=generator)
    for place in range(6):
        z[place, place] = bad
    for place in range(5):
        y[10 + place, place] = bad
    found = QuickCore(core)(z, y)
    same(found, core.verdict(z, y))
    assert found.flagged.nonzero().flatten().tolist() == [*range(6), *range(10, 15)]
    assert found.score[found.flagged].eq(torch.inf).all()


def test_one_call_judges_a_network_that_is_as_sure_as_can_be() -> None:
    core = random_guard(1, "msp+typicality", False, (6, 9)).core()
    generator = torch.Generator().manual_seed(1)
    z, y = torch.randn(9, 6, generator=generator), 500 * torch.randn(9, 5, generator=generator)
    found = QuickCore(core)(z, y)
    assert found.score.isfinite().all()
    same(found, core.verdict(z, y))


@pytest.mark.parametrize("rule", CHOICES)
def test_few_inputs_and_many_are_judged_alike_by_every_rule(rule: str) -> None:
    made = guard(rule)
    assert QuickCore.fits(made.core()) is (rule in ("msp+typicality", "msp+strengths"))
    guarded = made.wrap(TinyNet().eval())
    images = images_of(colors_of(FEW + 1, 8)[0])
    _, many = guarded(images)
    _, few = guarded(images[:FEW])
    same(few, Scores(*(each[:FEW] for each in many)))


class Strided(TinyNet):
    """Its head is given every other column of what there is."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.color(images)).flatten(1)
        logits: torch.Tensor = self.fc(pooled.repeat_interleave(2, dim=1)[:, ::2])
        return logits


def test_nothing_is_compiled_once_a_model_is_wrapped() -> None:
    images = images_of(colors_of(3, 1)[0])
    _, usual = GUARD.wrap(TinyNet().eval())(images)
    known = list(judge.signatures)
    same(GUARD.wrap(Strided().eval())(images)[1], usual)
    double = Guarded(TinyNet().eval().double(), "fc", GUARD.core())
    logits, verdict = double(images.double())
    assert logits.dtype == torch.float64
    assert torch.allclose(verdict.score, usual.score, atol=1e-4)
    assert judge.signatures == known


def test_a_copy_of_a_guarded_network_outlives_it() -> None:
    images = images_of(colors_of(3, 1)[0])
    guarded = GUARD.wrap(TinyNet().eval())
    _, usual = guarded(images)
    copied = copy.deepcopy(guarded)
    del guarded
    gc.collect()
    same(copied(images)[1], usual)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_guarded_network_in_another_precision_judges_few_and_many_alike(
    dtype: torch.dtype,
) -> None:
    images = images_of(colors_of(FEW + 1, 8)[0]).to(dtype)
    guarded = nn.Sequential(GUARD.wrap(TinyNet().eval())).to(dtype)
    logits, many = guarded(images)
    _, few = guarded(images[:FEW])
    assert logits.dtype == dtype
    same(few, Scores(*(each[:FEW] for each in many)))
    # Only the network is rounded: its own answers are judged as in full precision.
    seen = nn.Sequential(TinyNet().eval()).to(dtype)
    z = seen[0].pool(seen[0].color(images)).flatten(1)
    alone = GUARD.score_features(z.float(), logits=logits.float())
    assert torch.allclose(many.score, alone.score, rtol=1e-4, atol=1e-4)


def test_automatic_precision_does_not_reach_the_scores() -> None:
    images = images_of(colors_of(FEW + 1, 8)[0])
    guarded = GUARD.wrap(TinyNet().eval())
    with torch.autocast("cpu", torch.bfloat16):
        _, many = guarded(images)
        _, few = guarded(images[:FEW])
    same(few, Scores(*(each[:FEW] for each in many)))


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def part(model: nn.Module) -> nn.Module:
    model.color = torch.compile(model.color, backend="eager")
    return model


@pytest.mark.parametrize(
    "around",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
        in_place,
        part,
    ],
)
def test_what_is_put_around_a_network_comes_off(
    around: Callable[[nn.Module], nn.Module],
) -> None:
    images = images_of(colors_of(FEW + 1, 8)[0])
    _, usual = GUARD.wrap(TinyNet().eval())(images)
    model = around(TinyNet().eval())
    model(images)
    same(GUARD.wrap(model)(images)[1], usual)


def test_a_guarded_network_can_be_compiled_pickled_and_loaded() -> None:
    images = images_of(colors_of(FEW + 1, 8)[0])
    guarded = GUARD.wrap(TinyNet().eval())
    _, usual = guarded(images)
    again = GUARD.wrap(TinyNet().eval())
    again.load_state_dict(guarded.state_dict())
    compiled = torch.compile(GUARD.wrap(TinyNet().eval()), backend="eager")
    with torch.no_grad():
        for each in (pickle.loads(pickle.dumps(guarded)), again, compiled):
            same(each(images)[1], usual)


class CompiledTail(TinyNet):
    """Calls its head out of a function that is compiled."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.tail(self.pool(self.color(images)))
        return logits

    @torch.compile(backend="eager")
    def tail(self, pooled: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(pooled.flatten(1))
        return logits


def test_a_head_that_hooks_cannot_see_is_said() -> None:
    model, images = CompiledTail().eval(), images_of(colors_of(3, 1)[0])
    with torch.no_grad():
        model(images)
        with pytest.raises(InputError, match=r"compile what guard\.wrap returns"):
            GUARD.wrap(model)(images)


def test_rounded_weights_are_told_how_to_come_by_a_guard() -> None:
    with pytest.raises(ContextError, match=r"as in guard.wrap\(model\).to\(torch.float16\)"):
        GUARD.wrap(TinyNet().eval().half())


@pytest.mark.parametrize("sizes", [((2, 5), (2, 5)), ((2, 6), (2, 4)), ((2, 6), (1, 5))])
def test_no_memory_is_read_beyond_rows_that_do_not_fit(
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    quick = QuickCore(random_guard(0, "msp+typicality", False, (6, 9)).core())
    with pytest.raises(InputError, match="the guard reads rows of"):
        quick(torch.zeros(sizes[0]), torch.zeros(sizes[1]))


def test_hooks_of_others_stay() -> None:
    model = TinyNet().eval()
    told: list[int] = []
    handle = model.fc.register_forward_hook(lambda *_: told.append(1))
    images = images_of(colors_of(3, 1)[0])
    logits, _ = GUARD.wrap(model)(images)
    assert torch.equal(model(images), logits)
    assert len(told) == 2
    assert list(model.fc._forward_hooks) == [handle.id]


class Failing(TinyNet):
    """Breaks behind its head."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        super().forward(images)
        raise RuntimeError("broken")


def test_a_network_that_fails_is_left_as_it_was() -> None:
    model = Failing().eval()
    with pytest.raises(RuntimeError, match="broken"):
        GUARD.wrap(model)(images_of(colors_of(3, 1)[0]))
    assert not model.fc._forward_hooks


class Meeting(TinyNet):
    """Two threads wait for each other before the head and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = Barrier(2, timeout=60)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.color(images)).flatten(1)
        self.barrier.wait()
        logits: torch.Tensor = self.fc(pooled)
        self.barrier.wait()
        return logits


def test_threads_share_a_guarded_network() -> None:
    model = Meeting().eval()
    guarded = GUARD.wrap(model)
    images = images_of(colors_of(20, 3)[0])
    _, expected = GUARD.wrap(TinyNet().eval())(images)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda row: guarded(images[row : row + 1])[1], range(20)))
    scores = torch.cat([each.score for each in found])
    assert torch.allclose(scores, expected.score, atol=1e-5)
    assert not model.fc._forward_hooks


def test_a_guarded_network_can_be_exported_whole() -> None:
    guarded = GUARD.wrap(TinyNet().eval())
    images = images_of(colors_of(4, 5)[0])
    program = torch.export.export(guarded, (images[:2],))
    logits, verdict = program.module()(images[2:])
    expected = guarded(images[2:])
    assert torch.allclose(logits, expected[0])
    same(Scores(*verdict), expected[1])


# --- export --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["msp+typicality", "cosine", "msp+strengths"])
def test_the_core_can_be_exported(rule: str) -> None:
    made, seen = guard(rule), observed(64, 3)
    core = made.core().eval()
    z, y = torch.from_numpy(seen.features), torch.from_numpy(seen.logits)
    batch = torch.export.Dim("batch", min=2, max=4096)
    shapes = {"features": {0: batch}, "logits": {0: batch}}
    program = torch.export.export(core, (z[:8], y[:8]), dynamic_shapes=shapes)
    # Of any batch, and with the tensors alone.
    assert torch.allclose(program.module()(z, y), core(z, y))
    one = torch.export.export(core, (z[:1], y[:1]))
    assert torch.allclose(one.module()(z[:1], y[:1]), core(z[:1], y[:1]))


def test_the_core_moves_as_any_module_does() -> None:
    core = GUARD.core()
    assert isinstance(core, nn.Module)
    assert isinstance(core, ScoringCore)
    half = core.to(torch.float64)
    seen = observed(10, 3)
    z, y = torch.from_numpy(seen.features).double(), torch.from_numpy(seen.logits).double()
    assert half(z, y).dtype == torch.float64
    assert len(core.to("meta").state_dict()) == len(core.state_dict())


# --- thresholds and parts ------------------------------------------------------------------------


def test_what_is_cut_is_what_is_deployed() -> None:
    kept = GUARD.calibration
    cut = threshold("passed-errors", 0.05, kept.scores, kept.wrong)
    made = GUARD.at("passed-errors", 0.05)
    assert made.threshold == cut
    _, _, setting = split_by_content(digests(800), PARTS)
    seen = observed(800, 0).take(setting)
    verdict = made.score_features(seen.features, logits=seen.logits)
    # To the image: the errors that the promise allows pass, and no other.
    passed = int((~verdict.flagged.numpy() & seen.wrong).sum())
    assert passed == int(0.05 * (len(setting) + 1) - 1)
    assert (verdict.flagged.numpy() == (kept.scores > cut.value)).all()


def test_fit_choose_and_set_on_three_disjoint_parts() -> None:
    assert sum(GUARD.context.parts) == 800
    assert GUARD.context.parts == (400, 200, 200)
    assert len(GUARD.calibration.scores) == 200
    assert len(GUARD.calibration.candidates) == 200
    known = {digest_number(bytes.fromhex(each)) for each in digests(800)}
    assert set(GUARD.seen.tolist()) == known


def test_a_guard_made_of_the_same_images_is_the_same() -> None:
    again = guard()
    assert np.array_equal(again.calibration.scores, GUARD.calibration.scores)
    assert again.threshold == GUARD.threshold


def test_the_watch_compares_with_what_passes() -> None:
    made = GUARD.at("share", 0.2)
    watch = made.watch(window=10)
    assert watch.reference.count == int((made.calibration.scores <= made.threshold.value).sum())
    with pytest.raises(InputError, match="no calibration image passes"):
        GUARD.at("passed-errors", 0.001).watch()


def test_reasons_are_told_with_how_usual_they_are() -> None:
    seen = observed(300, 4)
    told = GUARD.reasons(seen.features, seen.predicted)
    assert max(map(len, told)) == 3
    levels = GUARD.speaker.levels(seen.features)
    for row, each in enumerate(told):
        assert all(levels[row, reason.more] > levels[row, reason.less] for reason in each)
    # What speaks against wrong answers is rarer among right ones than what holds anyway.
    usual = [each[0].usual for each, wrong in zip(told, seen.wrong, strict=True) if wrong and each]
    assert np.median(usual) < 0.5
    row = next(row for row, each in enumerate(told) if each)
    text = GUARD.tell(told[row][0], int(seen.predicted[row]))
    assert " > " in text
    assert "% of correct predictions “" in text


def test_the_subject_of_the_samples_is_what_the_guard_was_made_for() -> None:
    GUARD.wrap(tiny_subject().model)
