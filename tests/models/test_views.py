"""Further views of each image: what they change, what that tells, and a guard that asks for them.

The network here reads the left half of an image only. So whoever paints the left half over misleads
it completely, and nothing in its answer shows it; but the mirrored image shows what was there.
"""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from guard_samples import WORDS, colors_of, digests, images_of
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save
from tiny import CLASSES, SIDE, CaptionVLM, TinyNet

from profiler.activations.observe import Observation, caption_rows
from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.guard.fit import PARTS, GuardOptions, make_guard
from profiler.guard.guard import Context, Guard
from profiler.guard.metrics import metrics
from profiler.guard.parts import split_by_content
from profiler.guard.rules.base import Views
from profiler.guard.rules.baselines import MaxSoftmax
from profiler.guard.rules.combined import CHANGE_ALLOWANCE, Rarity, WithSoftmax, make_rule
from profiler.guard.rules.corrected import CorrectedSoftmax
from profiler.guard.rules.steadiness import Steadiness
from profiler.guard.runtime import Guarded, QuickCore, view_tensors
from profiler.models.subject.network import weights_digest
from profiler.models.views import VIEWS, parse_views

ALL = tuple(VIEWS)

# --- the views themselves ------------------------------------------------------------------------


def test_what_each_view_is() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    expected = {
        "mirrored": [[2, 1, 0], [5, 4, 3], [8, 7, 6]],
        "right": [[0, 0, 1], [3, 3, 4], [6, 6, 7]],
        "down": [[0, 1, 2], [0, 1, 2], [3, 4, 5]],
        "left": [[1, 2, 2], [4, 5, 5], [7, 8, 8]],
        "up": [[3, 4, 5], [6, 7, 8], [6, 7, 8]],
    }
    found = {name: view(image)[0, 0].tolist() for name, view in VIEWS.items()}
    assert found == expected


def test_views_are_of_the_images_shape_and_leave_flat_images_alone() -> None:
    flat = torch.rand(2, 3, 1, 1).expand(2, 3, 4, 7).contiguous()
    for view in VIEWS.values():
        assert torch.equal(view(flat), flat)
        assert torch.equal(view(flat[..., :1, :1].half()), flat[..., :1, :1].half())


def test_names_of_views() -> None:
    assert parse_views("all") == ALL
    assert parse_views("none") == ()
    assert parse_views("up, mirrored") == ("up", "mirrored")
    with pytest.raises(UnknownNameError, match="mirrored"):
        parse_views("mirored")
    with pytest.raises(UsageError, match="twice"):
        parse_views("up,up")


# --- what they change ----------------------------------------------------------------------------


def doubts(n: int = 40) -> np.ndarray:
    """(n, 3): on a line but for ±1, and on another but for ±2, evenly at each d_0."""
    steps = np.resize([[-3.0, 1, 1], [-3, -1, -1], [1, 1, 1], [1, -1, -1]], (n, 3))
    own = steps[:, 0]
    return np.stack([own, 3 + 0.5 * own + steps[:, 1], -own + 2 * steps[:, 2]], axis=1)


def test_what_right_answers_let_expect_is_a_line() -> None:
    found = Steadiness.of(doubts())
    assert np.allclose(found.start, [3, 0])
    assert np.allclose(found.slope, [0.5, -1])
    assert np.allclose(found.spread, [1, 2])


def test_change_is_the_mean_distance_from_what_was_to_be_expected() -> None:
    found = Steadiness.of(doubts())
    # Expected at d_0 = 2: 4 and −2. Surprises of 5/1 and 4/2.
    assert found(np.array([[2.0, 9.0, 2.0]]))[0] == pytest.approx((5 + 2) / 2)
    assert np.allclose(found(doubts()).mean(), 0)


def test_the_same_view_twice_tells_nothing_more() -> None:
    one, twice = doubts()[:, :2], doubts()[:, [0, 1, 1]]
    assert np.allclose(Steadiness.of(one)(one), Steadiness.of(twice)(twice))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((40, 1)), "of L views"),
        (np.full((40, 2), np.nan), "finite"),
        (np.zeros((9, 2)), "too few"),
    ],
)
def test_expectations_need_enough_finite_answers(given: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Steadiness.of(given)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=60),
    st.floats(0, 6),
    st.floats(-80, 80),
)
def test_rarity_beyond_an_allowance_is_what_exceeds_it(
    known: list[float], allowance: float, score: float
) -> None:
    rarity = Rarity.of(np.array(known))
    found = rarity.beyond(allowance)(np.array([score]))[0]
    assert found >= 0
    # Right above the known score where the tail begins, the table and the tail overlap by a
    # rounding, which equal scores, of which the tail is steep, make large.
    if not rarity.high <= score <= rarity.high + 1e-3:
        assert found == pytest.approx(max(rarity(np.array([score]))[0] - allowance, 0), abs=1e-6)


# --- the combination -----------------------------------------------------------------------------


class Left(TinyNet):
    """Reads the left half only."""

    passes = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return super().forward(10 * images[..., : SIDE // 2])


class TinyNetLeft(Left):
    """Without a count, which an exported program could not keep."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return TinyNet.forward(self, 10 * images[..., : SIDE // 2])


def halves_of(left: np.ndarray, right: np.ndarray, seed: int) -> torch.Tensor:
    """(n, 3, 8, 8) images of one colour in each half, with noise."""
    images = images_of(left)
    images[..., SIDE // 2 :] = images_of(right)[..., SIDE // 2 :]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images + 0.05 * noise


def answered(images: torch.Tensor, truth: np.ndarray) -> tuple[Observation, Views]:
    """What the network makes of images, and of all views of them."""
    net, n = Left().eval(), len(images)
    with torch.no_grad():
        seen = [VIEWS[name](images) if name else images for name in ("", *ALL)]
        z = np.stack([net.pool(net.color(10 * each[..., :4])).flatten(1) for each in seen], axis=1)
        y = np.stack([net(each) for each in seen], axis=1)
    embedded = CaptionVLM().embed_images(images).numpy()
    found = Observation(
        z[:, 0],
        truth,
        y[:, 0].argmax(axis=1),
        y[:, 0],
        embedded,
        kept=np.arange(n),
        batch_size=n,
    )
    return found, Views(z[:, 1:], y[:, 1:])


def pictures(n: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Images of one colour, some of it mixed, and their classes."""
    colors, truth = colors_of(n, seed)
    return halves_of(colors, colors, seed), truth


def attacked(n: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """The left half is painted over with a fine example of another class."""
    colors, truth = colors_of(n, seed)
    others, labels = colors_of(8 * n, seed + 50)
    pool = [others[labels == label] for label in range(4)]
    left = np.stack([pool[(label + 1) % 4][row % 100] for row, label in enumerate(truth)])
    return halves_of(left, colors, seed), truth


def made(views: tuple[str, ...], **options: object) -> Guard:
    seen, looks = answered(*pictures(800, 0))
    places = [ALL.index(name) for name in views]
    found, _ = make_guard(
        seen,
        digests(800),
        WORDS,
        caption_rows(CaptionVLM(), WORDS),
        (Left().fc.weight.detach().double().numpy(), np.zeros(4)),
        Context(subject="left", head="fc", digest=weights_digest(Left()), classes=CLASSES),
        GuardOptions(views=views, **options),  # type: ignore[arg-type]
        Views(looks.features[:, places], looks.logits[:, places]) if views else None,
    )
    return found


PLAIN, MIRRORED, EVERY = made(()), made(("mirrored",)), made(ALL)


def test_an_attack_that_its_own_image_hides_is_seen_in_another_view() -> None:
    images, truth = pictures(200, 3)
    fine = images[Left()(images).argmax(1) == torch.from_numpy(truth)]
    bad, _ = attacked(200, 4)
    found = {}
    for name, guard in (("plain", PLAIN), ("mirrored", MIRRORED), ("all", EVERY)):
        guarded = guard.wrap(Left().eval())
        scores = [guarded(each)[1].score.numpy() for each in (fine, bad)]
        defect = np.r_[np.zeros(len(fine), bool), np.ones(len(bad), bool)]
        found[name] = metrics(np.concatenate(scores), defect).auroc
    assert found["plain"] < 0.8
    assert found["mirrored"] > 0.99
    assert found["all"] > 0.97


def test_the_score_is_the_sum_of_three_rarities() -> None:
    rule = EVERY.rule
    assert isinstance(rule, WithSoftmax)
    seen, looks = answered(*pictures(50, 5))
    z, y = seen.features.astype(float), seen.logits.astype(float)
    given = rule.doubts(z, y, looks)
    assert given.shape == (50, 6)
    assert np.allclose(given[:, 0], rule.softmax_.score(z, y))
    assert rule.steadiness_ is not None
    change = Rarity.of(rule.steadiness_(rule.doubts_))(rule.steadiness_(given))
    expected = (
        rule.softmax_rarity_(given.mean(1))
        + rule.weight_ * rule.rule_rarity_(rule.rule.score(z, y))
        + np.maximum(change - CHANGE_ALLOWANCE, 0)
    )
    assert np.allclose(rule.score(z, y, looks), expected)


def test_views_that_show_the_image_itself_change_no_score() -> None:
    seen, _ = answered(*pictures(300, 6))
    space = EVERY.space
    same = Views(
        np.repeat(seen.features[:, None], 2, axis=1), np.repeat(seen.logits[:, None], 2, axis=1)
    )
    plain = make_rule("msp+typicality", space)
    viewing = make_rule("msp+typicality", space, ("up", "down"))
    assert isinstance(plain, WithSoftmax)
    assert isinstance(viewing, WithSoftmax)
    for rule, views in ((plain, None), (viewing, same)):
        rule.fit(seen.features, seen.logits, seen.truth)
        rule.weigh(seen.features, seen.logits, seen.truth, views=views)
    one = plain.score(seen.features, seen.logits)
    assert np.allclose(viewing.score(seen.features, seen.logits, same), one, atol=1e-6)


def test_a_corrected_head_reads_the_views_too() -> None:
    seen, looks = answered(*pictures(300, 7))
    rule = WithSoftmax(make_rule("typicality", EVERY.space), ALL)  # type: ignore[arg-type]
    rule.fit(seen.features, seen.logits, seen.truth)
    corrected = rule.softmax_
    assert isinstance(corrected, CorrectedSoftmax)
    z, y = seen.features.astype(float), seen.logits.astype(float)
    given = rule.doubts(z, y, looks)
    # A view in the image's place: the log-odds of the corrected head against the same class.
    own = y.argmax(1)
    steady = looks.logits[:, 2].argmax(1) == own
    alone = corrected.score(looks.features[:, 2], looks.logits[:, 2])
    assert steady.sum() > 200
    assert np.allclose(given[steady, 3], alone[steady], atol=1e-5)


def test_rarities_are_of_the_means_and_by_the_softmax_that_counts() -> None:
    rule = EVERY.rule
    assert isinstance(rule, WithSoftmax)
    assert rule.corrected
    assert np.allclose(rule.softmax_rarity_.known, np.sort(rule.doubts_.mean(axis=1)))
    seen, looks = answered(*pictures(800, 0))
    choosing = split_by_content(digests(800), PARTS, 0)[1]
    part, views = seen.take(choosing), looks.take(choosing)
    found = rule.doubts(part.features.astype(float), part.logits.astype(float), views)
    assert np.allclose(rule.doubts_, found[~part.wrong])


def test_a_view_that_changes_nothing_but_by_rounding_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=200)
    noise = np.stack([own, own + 1e-7 * rng.normal(size=200), own + rng.normal(size=200)], axis=1)
    found = Steadiness.of(noise)
    assert np.isinf(found.spread[0])
    assert np.isfinite(found.spread[1])
    # A thousand times what it usually is, and still nothing.
    one = np.array([[0.0, 1e-4, 0.0], [0.0, -1e-4, 0.0]])
    assert np.allclose(*found(one))


def test_views_have_to_be_those_the_rule_knows() -> None:
    seen, looks = answered(*pictures(20, 8))
    rule = EVERY.rule
    assert isinstance(rule, WithSoftmax)
    with pytest.raises(InputError, match=r"5 augmented views of each image \(mirrored, right"):
        rule.score(seen.features, seen.logits)
    with pytest.raises(InputError, match="0 given"):
        EVERY.score_features(seen.features)
    with pytest.raises(InputError, match="0 augmented views of each image are needed, but 5 given"):
        PLAIN.score_features(seen.features, views=looks)
    few = looks.take(np.arange(5))
    for judge in (rule.score, EVERY.score_features):
        with pytest.raises(InputError, match="20 images, but augmented views of 5"):
            judge(seen.features, logits=seen.logits, views=few)
    with pytest.raises(InputError, match="20 images, but augmented views of 5"):
        rule.weigh(seen.features, seen.logits, seen.truth, views=few)
    with pytest.raises(InputError, match="need features"):
        Views(looks.features, looks.logits[:, :2])
    with pytest.raises(UsageError, match=r"msp\+cosine"):
        make_rule("cosine", EVERY.space, ("up",))
    with pytest.raises(InputError, match="needs augmented views"):
        EVERY.core()(torch.from_numpy(seen.features), torch.from_numpy(seen.logits))


# --- the guard -----------------------------------------------------------------------------------


@pytest.mark.parametrize("corrected", [False, True])
def test_the_core_scores_as_the_detector_does(corrected: bool) -> None:
    guard = made(ALL)
    seen, looks = answered(*pictures(100, 9))
    rule = guard.rule
    assert isinstance(rule, WithSoftmax)
    if corrected:
        rule.softmax_ = CorrectedSoftmax().fit(seen.features, seen.logits, seen.truth)
    expected = rule.score(seen.features, seen.logits, looks)
    z, y = torch.from_numpy(seen.features), torch.from_numpy(seen.logits)
    core = guard.core()
    assert not QuickCore.fits(core)
    scores = core(z, y, views=view_tensors(looks)).numpy()
    assert np.allclose(scores, expected, rtol=1e-3, atol=1e-3)
    program = torch.export.export(core, (z[:4], y[:4], None, view_tensors(looks.take(range(4)))))
    again = program.module()(z[4:8], y[4:8], None, view_tensors(looks.take(range(4, 8))))
    assert np.allclose(again.numpy(), scores[4:8], rtol=1e-5)


def test_each_view_is_one_more_forward_pass_and_the_logits_are_the_images_own() -> None:
    net = Left().eval()
    guarded = EVERY.wrap(net)
    images, truth = pictures(30, 10)
    seen, looks = answered(images, truth)
    logits, verdict = guarded(images)
    assert net.passes == 1 + len(ALL)
    assert np.allclose(logits.numpy(force=True), seen.logits)
    alone = EVERY.score_features(seen.features, logits=seen.logits, views=looks)
    assert torch.allclose(verdict.score, alone.score, atol=1e-4)
    assert torch.equal(verdict.flagged, alone.flagged)
    single = torch.cat([guarded(image[None])[1].score for image in images])
    assert torch.allclose(single, verdict.score, atol=1e-4)
    assert guarded(images[:0])[1].score.shape == (0,)
    assert not any(module._forward_hooks for module in net.modules())
    wanted = images.clone().requires_grad_()
    guarded(wanted)[0].sum().backward()
    assert wanted.grad is not None


def test_a_guarded_network_with_views_can_be_exported_whole() -> None:
    guarded = EVERY.wrap(TinyNetLeft())
    images, _ = pictures(4, 11)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(guarded, (images[:2],), dynamic_shapes=({0: batch},))
    logits, verdict = program.module()(images[2:])
    expected = guarded(images[2:])
    assert torch.allclose(logits, expected[0])
    assert torch.allclose(verdict[1], expected[1].score, atol=1e-5)


def test_nan_features_of_a_view_are_flagged_without_a_correction() -> None:
    guard = made(ALL).at("share", 0.001)
    assert isinstance(guard.rule, WithSoftmax)
    guard.rule.softmax_ = MaxSoftmax()
    seen, looks = answered(*pictures(8, 12))
    looks.features[0, 3, 1] = np.nan
    verdict = guard.score_features(seen.features, logits=seen.logits, views=looks)
    assert verdict.flagged.tolist() == [True, *[False] * 7]


class Spoiling(TinyNetLeft):
    """Changes its input, as some networks do."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.mul_(0.5) * 2)


def test_views_are_of_the_image_as_it_was_given() -> None:
    images, _ = pictures(30, 15)
    guarded = Guarded(Spoiling(), "fc", EVERY.core())
    expected = EVERY.wrap(Left().eval())(images)[1]
    assert torch.allclose(guarded(images.clone())[1].score, expected.score, atol=1e-3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_in_one_view_is_flagged(bad: float) -> None:
    images, truth = pictures(8, 12)
    seen, looks = answered(images, truth)
    guard = EVERY.at("share", 0.001)
    for place, broken in enumerate((looks.features, looks.logits)):
        broken[place, 3, 1] = bad
    verdict = guard.score_features(seen.features, logits=seen.logits, views=looks)
    assert verdict.flagged.tolist() == [True, True, *[False] * 6]
    assert verdict.score[:2].eq(torch.inf).all()
    assert np.isinf(guard.rule.score(seen.features, seen.logits, looks)[:2]).all()  # type: ignore[call-arg]
    # The right half is read in the mirrored image only.
    images[0, 0, 0, -1] = bad
    assert guard.wrap(Left().eval())(images)[1].flagged[0]


def test_a_guard_with_views_survives_its_file_and_says_that_it_has_them(tmp_path: Path) -> None:
    path = tmp_path / "guard.safetensors"
    seen, looks = answered(*pictures(60, 13))
    for guard, version in ((EVERY, 2), (PLAIN, 1)):
        guard.save(path)
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        said = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["guard"])
        # Whoever reads only the first version would score without the views.
        assert said["format"] == version
        again = Guard.load(path)
        assert again.views == guard.views
        views = looks if guard.views else None
        one, other = (each.score_features(seen.features, views=views) for each in (guard, again))
        assert torch.equal(one.score, other.score)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"views": ["zoomed", "up"]}, "no view named 'zoomed'|zoomed"),
        ({"views": ["up"]}, "2 log-odds per image"),
        ({"rule": "cosine"}, "uses no augmented views"),
        ({"views": None}, "is not a guard"),
        ({"format": 3}, "reads 1 and 2"),
    ],
)
def test_a_file_whose_views_do_not_fit_is_refused(
    damage: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "guard.safetensors"
    EVERY.save(path)
    with safe_open(str(path), framework="np") as file:
        content = json.loads(file.metadata()["guard"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(save(arrays, {"guard": json.dumps({**content, **damage})}))
    with pytest.raises(InputError, match=said) as caught:
        Guard.load(path)
    assert str(path) in str(caught.value)


def test_the_promise_holds_for_scores_with_views() -> None:
    guard = made(ALL, target="false-alarms", level=0.1)
    shares = []
    for seed in range(20, 30):
        seen, looks = answered(*pictures(200, seed))
        verdict = guard.score_features(seen.features, logits=seen.logits, views=looks)
        shares.append(verdict.flagged.numpy()[~seen.wrong].mean())
    assert 0.02 < np.mean(shares) < 0.15
