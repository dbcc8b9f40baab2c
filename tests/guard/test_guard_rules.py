"""Detectors on hand-made encodings, whose scores are arithmetic, and against scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
import pytorch_ood.detector as ood
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from profiler.concepts.heatmap import Heatmap
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.errors import InputError, UnknownNameError
from profiler.guard.metrics import metrics
from profiler.guard.parts import split_by_content
from profiler.guard.rules.base import Detector
from profiler.guard.rules.baselines import (
    Energy,
    Entropy,
    Mahalanobis,
    MaxLogit,
    MaxSoftmax,
    Neighbours,
    baselines,
)
from profiler.guard.rules.combined import (
    ALLOWANCES,
    CHOICES,
    DEFAULT,
    USUAL,
    WEIGHTS,
    Rarity,
    WithSoftmax,
    make_rule,
)
from profiler.guard.rules.comparisons import PRIOR, CosineRule, LikelihoodRule, Summaries
from profiler.guard.rules.corrected import CorrectedSoftmax, correction
from profiler.guard.rules.reasons import reasons
from profiler.guard.rules.strengths import StrengthsRule, logistic
from profiler.guard.rules.typicality import SHRINKAGE, TypicalityRule

# --- a world of two classes ----------------------------------------------------------------------
#
# Class 0 lies east, class 1 north; features are the point itself and a number that neither head
# nor VLM looks at. Right answers lie at their class; wrong ones were pulled over by an amount that
# the head falls for, and keep a trace of the other direction.

WORDS = ["east", "north", "west", "south"]
CAPTIONS = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]], [[0.0, -1.0]]])
HEAD = np.array([[4.0, 0, 0], [0, 4.0, 0]])


def world(n: int, seed: int, pulled: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, logits and true classes of n images, a share of which is pulled over."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    z = 0.12 * rng.normal(size=(n, 3))
    z[np.arange(n), truth] += 1.0
    over = rng.random(n) < pulled
    z[over, truth[over]] -= 0.3
    z[over, 1 - truth[over]] += 0.85
    return z, z @ HEAD.T, truth


def concepts() -> ConceptSpace:
    x = np.random.default_rng(9).normal(size=(60, 3))
    return ConceptSpace.of(WORDS, CAPTIONS, AffineMap().fit(x, x[:, :2]))


SPACE = concepts()


@pytest.mark.parametrize("name", CHOICES)
def test_every_rule_finds_wrong_answers_among_others(name: str) -> None:
    rule = make_rule(name, SPACE).fit(*world(400, 0))
    if isinstance(rule, WithSoftmax):
        rule.weigh(*world(300, 1))
    z, y, truth = world(400, 2)
    wrong = y.argmax(1) != truth
    assert 0.05 < wrong.mean() < 0.35
    found = metrics(rule.score(z, y), wrong).auroc
    # Six comparisons of four concepts are few, and so are the values that they make of a score.
    assert found > (0.65 if name in ("cosine", "likelihood") else 0.8)


@pytest.mark.parametrize("name", [*CHOICES, *(each.name for each in baselines())])
def test_what_is_not_finite_is_infinitely_strange(name: str) -> None:
    detector: Detector = next((b for b in baselines() if b.name == name), None) or make_rule(
        name, SPACE
    )
    detector.fit(*world(200, 0))
    if isinstance(detector, WithSoftmax):
        detector.weigh(*world(200, 1))
    z, y, _ = world(5, 2)
    expected = detector.score(z, y)
    z[1, 2], z[2, 0], y[3, 1] = np.nan, np.inf, -np.inf
    scores = detector.score(z, y)
    assert (scores[1:4] == np.inf).all()
    # The others are what they are, whatever stands beside them.
    assert np.allclose(scores[[0, 4]], expected[[0, 4]])
    assert np.isfinite(expected).all()
    assert len(detector.score(z[:0], y[:0])) == 0


def test_rows_without_numbers_cannot_be_judged() -> None:
    assert MaxSoftmax().score(np.zeros((2, 0)), np.zeros((2, 3))).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("name", CHOICES)
def test_a_rule_cannot_learn_from_right_answers_alone_unless_it_needs_no_others(name: str) -> None:
    z, y, truth = world(100, 0, pulled=0.0)
    assert (y.argmax(1) == truth).all()
    if "typicality" in name:
        make_rule(name, SPACE).fit(z, y, truth)
    else:
        with pytest.raises(InputError, match="give more images"):
            make_rule(name, SPACE).fit(z, y, truth)


def test_an_unknown_rule_is_named_with_those_on_offer() -> None:
    with pytest.raises(UnknownNameError, match="msp\\+typicality"):
        make_rule("msp+typical", SPACE)


# --- the cosine rule -----------------------------------------------------------------------------


def test_the_cosine_rule_is_the_difference_of_cosines_of_heatmaps() -> None:
    z, y, truth = world(300, 0)
    rule = CosineRule(SPACE).fit(z, y, truth)
    predicted, strengths = y.argmax(1), SPACE.strengths(z)
    wrong = predicted != truth

    def summary(rows: np.ndarray, common: np.ndarray) -> np.ndarray:
        heat = Heatmap.of(strengths[rows])
        assert heat is not None
        return (heat.count * heat.mean + PRIOR * common) / (heat.count + PRIOR)

    everything = [Heatmap.of(strengths[~wrong]), Heatmap.of(strengths[wrong])]
    common = [each.mean for each in everything if each is not None]
    new, logits, _ = world(20, 3)
    scores = rule.score(new, logits)
    free = ~np.eye(4, dtype=bool)

    def similarity(one: np.ndarray, other: np.ndarray) -> float:
        a, b = one[free], other[free]
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    for row, label in enumerate(logits.argmax(1)):
        strength = SPACE.strengths(new[row : row + 1])[0]
        heat = 0.5 + 0.5 * np.sign(strength[:, None] - strength[None, :])
        right = summary(~wrong & (predicted == label), common[0])
        bad = summary(wrong & (predicted == label), common[1])
        expected = similarity(heat, bad) - similarity(heat, right)
        assert scores[row] == pytest.approx(expected, abs=1e-6)


def test_the_likelihood_rule_is_the_mean_log_ratio() -> None:
    z, y, truth = world(300, 0)
    rule = LikelihoodRule(SPACE).fit(z, y, truth)
    new, logits, _ = world(10, 3)
    i, j = np.triu_indices(4, k=1)
    strengths = SPACE.strengths(new)
    higher = strengths[:, i] > strengths[:, j]
    for row, label in enumerate(logits.argmax(1)):
        bad = np.clip(rule.summaries_.wrong[label].astype(float), 0.01, 0.99)
        good = np.clip(rule.summaries_.right[label].astype(float), 0.01, 0.99)
        ratio = np.where(higher[row], np.log(bad / good), np.log((1 - bad) / (1 - good)))
        assert rule.score(new[row : row + 1], logits[row : row + 1])[0] == pytest.approx(
            ratio.mean()
        )


def test_a_class_without_wrong_answers_is_judged_by_those_of_all_classes() -> None:
    strengths = np.array([[3.0, 2, 1], [3, 2, 1], [1, 2, 3], [1, 3, 2]])
    found = Summaries.of(strengths, np.array([0, 0, 1, 0]), np.array([0, 0, 1, 1]), 3)
    assert found.right_count.tolist() == [2, 1, 0]
    assert found.wrong_count.tolist() == [0, 1, 0]
    common_right = np.array([2 / 3] * 3)  # cells (0,1), (0,2), (1,2) in three right answers
    assert found.right[2] == pytest.approx(common_right)
    assert found.right[0] == pytest.approx((2 * 1 + PRIOR * common_right) / (2 + PRIOR))
    # The single wrong answer is all that is known of wrong ones, for every class.
    for label in range(3):
        assert found.wrong[label] == pytest.approx([0, 0, 1])


def test_reasons_add_up_to_what_the_score_exceeds_that_of_right_answers_by() -> None:
    z, y, truth = world(300, 0)
    rule = CosineRule(SPACE).fit(z, y, truth)
    new, logits, _ = world(30, 3)
    predicted, levels = logits.argmax(1), SPACE.strengths(new)
    told = reasons(rule, levels, predicted, limit=6)
    for row, label in enumerate(predicted):
        base = rule.bias_[label] + rule.weights_[label] @ rule.usual_[label]
        excess = rule.score(new[row : row + 1], logits[row : row + 1])[0] - base
        # All six cells were asked for; those that speak for the input are left out.
        assert sum(each.weight for each in told[row]) >= excess - 1e-9
        assert all(levels[row, each.more] > levels[row, each.less] for each in told[row])
        weights = [each.weight for each in told[row]]
        assert weights == sorted(weights, reverse=True)
        assert min(weights, default=1) > 0


def test_the_first_reason_is_the_relation_that_gives_a_wrong_answer_away() -> None:
    # Of class 0, right answers have a > b > c and wrong ones b > a > c.
    strengths = np.array([[3.0, 2, 1]] * 20 + [[2.0, 3, 1]] * 20)
    truth, predicted = np.repeat([0, 1], 20), np.zeros(40, int)
    space = ConceptSpace.of_vlm(["a", "b", "c"], np.eye(3)[:, None])
    rule = CosineRule(space).fit_on(Summaries.of(strengths, truth, predicted, 2))
    first = reasons(rule, np.array([[2.0, 3, 1]]), np.array([0]))[0][0]
    assert (first.more, first.less) == (1, 0)
    assert first.usual < 0.2


# --- strengths and typicality --------------------------------------------------------------------


def test_the_logistic_regression_is_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 5)) * [1, 2, 3, 4, 5] + 7
    positive = rows[:, 0] + 0.3 * rows[:, 1] + rng.normal(size=200) > 9
    scaled = (rows - rows.mean(0)) / rows.std(0)
    theirs = LogisticRegression(C=1 / (200 * 0.05), tol=1e-10, max_iter=1000).fit(scaled, positive)
    weights, bias = logistic(rows, positive, 0.05)
    assert rows @ weights + bias == pytest.approx(theirs.decision_function(scaled), abs=1e-5)


def test_strengths_are_read_relative_to_what_is_usual_for_the_class() -> None:
    z, y, truth = world(300, 0)
    rule = StrengthsRule(SPACE).fit(z, y, truth)
    right = y.argmax(1) == truth
    mean = SPACE.strengths(z[right & (truth == 0)]).mean(0)
    assert rule.usual_[0] == pytest.approx(mean, abs=0.1)
    assert abs(rule.usual_[0] - rule.usual_[1]).max() > 0.5


def test_typicality_is_the_distance_of_mahalanobis_to_the_class_that_was_given() -> None:
    z, y, truth = world(300, 0)
    rule = TypicalityRule(SPACE).fit(z, y, truth)
    right = y.argmax(1) == truth
    strengths, labels = SPACE.strengths(z[right]), truth[right]
    off = strengths - rule.usual_[labels]
    cov = off.T @ off / len(off)
    shrunk = (1 - SHRINKAGE) * cov + SHRINKAGE * np.trace(cov) / 4 * np.eye(4)
    new, logits, _ = world(10, 3)
    away = SPACE.strengths(new) - rule.usual_[logits.argmax(1)]
    expected = np.einsum("ni,ij,nj->n", away, np.linalg.inv(shrunk), away)
    assert rule.score(new, logits) == pytest.approx(expected, rel=1e-3)
    # What lies well in the other class is strange, although some class is near.
    assert rule.score(z[right][:50], 1 - logits[:1].repeat(50, 0)).min() >= 0
    swapped = y[right][:, ::-1]
    assert rule.score(z[right], swapped).min() > np.median(rule.score(z[right], y[right]))


# --- two as one ----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=60),
    st.sampled_from([None, 0.0, *ALLOWANCES]),
)
def test_rarity_never_falls_outwards(known: list[float], allowance: float | None) -> None:
    rarity = Rarity.of(np.array(known), allowance)
    grid = np.sort(np.r_[known, np.linspace(-80, 80, 81)])
    found = rarity(grid)
    assert (found >= -1e-12).all()
    middle = np.median(known)
    assert (np.diff(found[grid >= middle]) >= -1e-9).all() or allowance is not None
    if allowance is None:
        assert (np.diff(found) >= -1e-9).all()
    assert rarity(np.array([200.0]))[0] > rarity(np.array([100.0]))[0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=60),
    st.sampled_from([None, 0.0, *ALLOWANCES]),
    st.sampled_from([1.0, 0.25]),
)
def test_rarity_in_linear_pieces_is_the_same_rarity(
    known: list[float], allowance: float | None, weight: float
) -> None:
    rarity = Rarity.of(np.array(known), allowance)
    edges, values, slopes = rarity.pieces(weight)
    assert len(values) == len(slopes) == len(edges) + 1
    assert (np.diff(edges) >= 0).all()
    grid = np.r_[known, rarity.edges, rarity.high, np.linspace(-80, 80, 81)]
    place = np.searchsorted(edges, grid)
    # Of equal scores the tail is as steep as a millionth of their size allows.
    assert np.allclose(
        values[place] + slopes[place] * grid, weight * rarity(grid), rtol=1e-7, atol=1e-7
    )


def test_rarity_is_the_log_of_how_few_right_answers_are_as_strange() -> None:
    rarity = Rarity.of(np.arange(1.0, 100.0))
    # 80 of 99 are below 81, so 19 are as strange: p = 20/100.
    assert rarity(np.array([81.0]))[0] == pytest.approx(np.log(5))
    # 10 lie above 89; beyond, the tail goes on at their mean excess of 5.5.
    assert rarity(np.array([89.0 + 55]))[0] == pytest.approx(np.log(100 / 11) + 10)


def test_sureness_counts_only_beyond_its_allowance() -> None:
    scores = np.arange(1.0, 100.0)
    plain, strict = Rarity.of(scores, np.log(5)), Rarity.of(scores, np.log(100))
    # At 30, 29 are below and 71 in 100 as high: the upper end decides.
    assert plain(np.array([30.0]))[0] == pytest.approx(np.log(100 / 71))
    assert plain(np.array([3.0]))[0] > 0
    assert strict(np.array([3.0]))[0] == pytest.approx(np.log(100 / 98))  # 2 below
    assert strict(np.array([-60.0]))[0] > 5
    assert plain(np.array([-60.0]))[0] - strict(np.array([-60.0]))[0] == pytest.approx(
        np.log(20), abs=1e-9
    )


def test_the_combination_sees_an_attack_that_makes_the_softmax_sure() -> None:
    rule = WithSoftmax(TypicalityRule(SPACE)).fit(*world(400, 0))
    rule.weigh(*world(300, 1))
    z, y, truth = world(300, 2)
    right = y.argmax(1) == truth
    # An attack: the answer is the other class, three times as sure as any right answer.
    attacked = 4 * np.eye(3)[1 - truth[right]] + z[right]
    logits = attacked @ HEAD.T
    scores = np.r_[rule.score(z[right], y[right]), rule.score(attacked, logits)]
    bad = np.r_[np.zeros(right.sum(), bool), np.ones(right.sum(), bool)]
    alone = np.r_[MaxSoftmax().score(z[right], y[right]), MaxSoftmax().score(attacked, logits)]
    assert metrics(alone, bad).auroc < 0.01
    assert metrics(scores, bad).auroc > 0.99


def test_a_rule_that_knows_nothing_is_given_little_weight() -> None:
    z, y, truth = world(600, 0)
    noise = np.random.default_rng(5).normal(size=z.shape)
    rule = WithSoftmax(TypicalityRule(SPACE)).fit(noise, y, truth)
    rule.weigh(noise[::-1], y, truth)
    assert rule.weight_ <= WEIGHTS[1]
    assert metrics(rule.score(noise, y), y.argmax(1) != truth).auroc > 0.8
    helpful = WithSoftmax(TypicalityRule(SPACE)).fit(z, y, truth).weigh(*world(600, 1))
    assert helpful.weight_ > WEIGHTS[0]
    # Few images cannot speak against what is usual.
    z, y, truth = world(30, 3)
    assert (few := WithSoftmax(TypicalityRule(SPACE)).fit(*world(600, 0)).weigh(z, y, truth))
    assert (few.softmax_.name == "corrected-msp", few.weight_, few.allowance_) == USUAL
    assert helpful.name == DEFAULT


# --- the head as held-out images correct it ------------------------------------------------------


def test_without_features_the_correction_gives_the_frequencies() -> None:
    # All logits say class 0 by 2; three of four images are of class 0.
    z, y = np.zeros((80, 3)), np.tile([2.0, 0.0], (80, 1))
    truth = np.array([0, 0, 0, 1] * 20)
    rule = CorrectedSoftmax().fit(z, y, truth)
    assert rule.score(z, y) == pytest.approx(np.full(80, np.log(1 / 3)), abs=1e-3)
    assert (rule.weights_ == 0).all()


def test_the_correction_is_the_logistic_regression_with_the_head_as_its_start() -> None:
    z, y, truth = world(300, 0)
    # Without a penalty the start does not matter; scikit-learn starts from nothing.
    weights, bias = correction(z, y, truth, 0.0)
    other = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8).fit(z, truth)
    odds = (y + z @ weights.T + bias) @ [-1, 1]
    assert odds == pytest.approx(other.decision_function(z), abs=0.02)
    # Under a large one hardly anything moves but the biases.
    weights, bias = correction(z, y, truth, 100.0)
    assert np.abs(weights).max() < 0.02
    chance = softmax(y + z @ weights.T + bias, axis=1)
    assert chance.mean(axis=0) == pytest.approx(np.bincount(truth) / len(truth), abs=1e-3)


def test_the_correction_judges_the_class_that_was_given() -> None:
    rule = CorrectedSoftmax()
    rule.weights_, rule.bias_ = np.zeros((2, 3)), np.array([-3.0, 0.0])
    # Given: class 0, by 1. Corrected: class 1, by 2, so the odds against class 0 are e².
    assert rule.score(np.zeros((1, 3)), np.array([[1.0, 0.0]])) == pytest.approx([2.0])


def test_the_correction_is_used_where_it_tells_more_and_not_elsewhere() -> None:
    def distracted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # The head listens to the third number, too, which means nothing.
        z, _, truth = world(n, seed)
        return z, z @ np.add(HEAD, [[0, 0, 12], [0, 0, -12]]).T, truth

    def combined(make: Callable[[int, int], tuple[np.ndarray, ...]]) -> WithSoftmax:
        return WithSoftmax(TypicalityRule(SPACE)).fit(*make(600, 0)).weigh(*make(600, 1))

    found = combined(distracted)
    assert isinstance(found.softmax_, CorrectedSoftmax)
    z, y, truth = distracted(600, 2)
    wrong = y.argmax(1) != truth
    plain = metrics(MaxSoftmax().score(z, y), wrong).auroc
    assert metrics(found.softmax_.score(z, y), wrong).auroc > plain + 0.1
    # A head that does what can be done needs no correction.
    assert isinstance(combined(world).softmax_, MaxSoftmax)


# --- baselines -----------------------------------------------------------------------------------


def test_baselines_of_logits_by_their_formulas() -> None:
    z, y, truth = world(50, 0)
    p = softmax(y, axis=1)
    for detector in baselines()[:4]:
        detector.fit(z, y, truth)  # type: ignore[union-attr]
    msp = MaxSoftmax().score(z, y)
    assert msp == pytest.approx(np.log((1 - p.max(1)) / p.max(1)))
    assert np.array_equal(np.argsort(msp), np.argsort(1 - p.max(1)))
    assert MaxLogit().score(z, y) == pytest.approx(-y.max(1))
    assert Energy().score(z, y) == pytest.approx(-logsumexp(y, axis=1))
    assert Entropy().score(z, y) == pytest.approx(-(p * np.log(p)).sum(1))
    # Where the softmax rounds to 1 the order is still there.
    sure = np.array([[50.0, 0.0], [80.0, 0.0]])
    assert np.diff(MaxSoftmax().score(np.zeros((2, 1)), sure))[0] == pytest.approx(-30)


def test_mahalanobis_is_scikit_learn_s_covariance() -> None:
    z, y, truth = world(200, 0)
    means = np.stack([z[truth == c].mean(0) for c in (0, 1)])
    cov = EmpiricalCovariance(assume_centered=True).fit(z - means[truth])
    new, logits, _ = world(20, 1)
    expected = np.min([cov.mahalanobis(new - mean) for mean in means], axis=0)
    assert Mahalanobis().fit(z, y, truth).score(new, logits) == pytest.approx(expected)


def test_mahalanobis_leaves_out_what_never_varies() -> None:
    z, y, truth = world(100, 0)
    flat = np.concatenate([z, np.ones((100, 2))], axis=1)
    one = Mahalanobis().fit(z, y, truth).score(z, y)
    assert Mahalanobis().fit(flat, y, truth).score(flat, y) == pytest.approx(one)


def test_neighbours_are_scikit_learn_s() -> None:
    z, y, truth = world(300, 0)
    new, logits, _ = world(20, 1)
    unit, units = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (new, z))
    distances, _ = NearestNeighbors(n_neighbors=10).fit(units).kneighbors(unit)
    fitted = Neighbours().fit(z, y, truth)
    assert fitted.k_ == 10
    assert fitted.score(new, logits) == pytest.approx(distances[:, -1])
    assert Neighbours().fit(z[:25], y[:25], truth[:25]).k_ == 2


def test_baselines_of_an_independent_library_agree() -> None:
    z, y, truth = world(200, 0)
    new, logits, _ = world(30, 1)
    rows = torch.from_numpy(logits)
    probability = -ood.MaxSoftmax.score(rows).numpy()
    assert np.array_equal(np.argsort(MaxSoftmax().score(new, logits)), np.argsort(-probability))
    assert Energy().score(new, logits) == pytest.approx(ood.EnergyBased.score(rows).numpy())
    assert Entropy().score(new, logits) == pytest.approx(ood.Entropy.score(rows).numpy())
    theirs = ood.Mahalanobis(None).fit_features(
        torch.from_numpy(z).float(), torch.from_numpy(truth)
    )
    distance = theirs.predict_features(torch.from_numpy(new).float()).numpy()
    ours = Mahalanobis().fit(z, y, truth).score(new, logits)
    assert np.corrcoef(np.argsort(np.argsort(ours)), np.argsort(np.argsort(distance)))[0, 1] > 0.99


# --- parts ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=12, max_size=80), st.integers(0, 3))
def test_no_picture_is_in_two_parts_however_often_it_comes(contents: list[int], seed: int) -> None:
    digests = [f"{content:064x}" for content in contents]
    if len(set(contents)) < 8:
        return
    parts = split_by_content(digests, (0.5, 0.25, 0.25), seed)
    held = [{digests[row] for row in part} for part in parts]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(digests)))
    assert abs(len(held[0]) - len(set(digests)) / 2) <= 1


def test_the_part_of_a_picture_depends_on_the_others_only_through_their_number() -> None:
    digests = [f"{content:064x}" for content in range(40)]
    one = split_by_content(digests, (0.5, 0.5))
    turned = split_by_content(digests[::-1], (0.5, 0.5))
    assert {digests[row] for row in one[0]} == {digests[::-1][row] for row in turned[0]}
    other = split_by_content(digests, (0.5, 0.5), seed=1)
    assert set(one[0].tolist()) != set(other[0].tolist())


def test_too_few_pictures_are_not_divided() -> None:
    with pytest.raises(InputError, match="2 different"):
        split_by_content(["a", "b", "b"], (0.5, 0.25, 0.25))
