"""Held-out prediction and survival of labels: by hand, against others' code, and where planted."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from profiler.activations.top_lists import TopCollector
from profiler.core.arrays import BoolArray, FloatArray, IntArray, Rows
from profiler.core.statistics import average_precision, correlation, wilson
from profiler.errors import InputError
from profiler.profile import quality
from profiler.profile.labels import KEPT_LABELS, label_layers
from profiler.profile.quality import (
    HeldOut,
    Labeller,
    LayerQuality,
    Spread,
    Stability,
    bootstrap,
    chance_precision,
    deal,
    held_out,
    measure,
    most_active,
    split,
    summarise,
)

# --- a world with planted units --------------------------------------------------------------


def unit(rows: FloatArray) -> FloatArray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class World:
    """Images that each show one concept, and units that each respond to one, or to none.

    Units 0 … are planted: the cosine of their concept, and noise. As many follow that have the
    same activations permuted over the images.
    """

    images: FloatArray
    concepts: FloatArray
    truth: IntArray
    activations: FloatArray

    @property
    def planted(self) -> BoolArray:
        return np.arange(self.activations.shape[1]) < len(self.truth)

    def labeller(self, top: int = 10) -> Labeller:
        """Labels by soft-WPMI, as the program does."""

        def label(sample: IntArray) -> list[IntArray]:
            collector = TopCollector("layer", top)
            collector.add(np.arange(len(sample)), self.activations[sample])
            (found,) = label_layers(
                [collector.result()], self.images[sample], self.concepts, top=top, null_draws=0
            )
            return [found.concept[:, 0]]

        return label

    def held_out(self, *, seed: int = 0) -> tuple[HeldOut, HeldOut]:
        (found,) = held_out(
            self.labeller(), [self.activations], self.images, self.concepts, seed=seed
        )
        return found


def world(
    seed: int, *, units: int = 24, concepts: int = 60, images: int = 1200, noise: float = 0.1
) -> World:
    rng = np.random.default_rng(seed)
    words = unit(rng.normal(size=(concepts, 16)))
    shown = words[np.arange(images) % concepts]
    pictures = unit(shown + 0.15 * rng.normal(size=shown.shape))
    truth = rng.permutation(concepts)[:units]
    responses = pictures @ words[truth].T + noise * rng.normal(size=(images, units))
    activations = np.concatenate([responses, rng.permuted(responses, axis=0)], axis=1)
    return World(pictures, words, truth, activations.astype(np.float32))


def same(one: object, other: object) -> None:
    """Two results agree to the last bit."""
    assert type(one) is type(other)
    for field in fields(one):  # type: ignore[arg-type]
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


# --- the metrics, by hand and against others' code -------------------------------------------


def test_average_precision_by_hand() -> None:
    truth = np.array([True, False, True, False, True])
    # Ranked as they stand: hits at ranks 1, 3 and 5.
    assert average_precision(truth, np.array([5.0, 4, 3, 2, 1])) == pytest.approx(
        (1 / 1 + 2 / 3 + 3 / 5) / 3
    )
    # All equal: nothing is ranked, and the share of positives is left.
    assert average_precision(truth, np.zeros(5)) == pytest.approx(3 / 5)
    # The first two tie and enter together: one hit in two; then 2/3 and 3/5.
    assert average_precision(truth, np.array([5.0, 5, 3, 2, 1])) == pytest.approx(
        (1 / 2 + 2 / 3 + 3 / 5) / 3
    )
    assert np.isnan(average_precision(np.zeros(5, dtype=bool), np.arange(5.0)))


scores_ = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.0, 0.5, 1.0]))


@given(st.lists(st.tuples(st.booleans(), scores_), min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_average_precision_agrees_with_scikit_learn(cases: list[tuple[bool, float]]) -> None:
    truth, score = (np.array(column) for column in zip(*cases, strict=True))
    if truth.any():
        assert average_precision(truth, score) == pytest.approx(
            average_precision_score(truth, score)
        )


@given(st.lists(st.tuples(scores_, scores_), min_size=3, max_size=40))
@settings(max_examples=200, deadline=None)
def test_correlation_agrees_with_numpy(cases: list[tuple[float, float]]) -> None:
    one, other = np.array(cases).T
    if np.ptp(one) < 1e-3 or np.ptp(other) < 1e-3:  # where NumPy's own digits run out
        return
    assert correlation(one, other) == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-9)


def test_correlation_of_a_small_signal_on_a_large_offset() -> None:
    """In float32 moments nothing would be left of it."""
    rng = np.random.default_rng(0)
    one = (1e4 + rng.normal(size=500)).astype(np.float32)
    other = rng.normal(size=500).astype(np.float32)
    expected = np.corrcoef(one.astype(np.float64) - 1e4, other)[0, 1]
    assert correlation(one, other) == pytest.approx(expected, abs=1e-12)
    assert correlation(one, 3 * one) == pytest.approx(1, abs=1e-6)
    assert correlation(np.float32(1e30) * other, -np.float32(1e-30) * other) == pytest.approx(-1)


def test_correlation_is_undefined_for_constants_and_for_two_points() -> None:
    third = np.full(7, 0.1)  # whose mean is not 0.1
    assert np.isnan(correlation(third, np.arange(7.0)))
    assert np.isnan(correlation(np.arange(7.0), third))
    assert np.isnan(correlation(np.array([0.0, 1.0]), np.array([0.0, 1.0])))


@pytest.mark.parametrize("images", [2, 3, 5, 7])
def test_chance_is_the_mean_over_all_orders(images: int) -> None:
    for positives in range(1, images + 1):
        truth = np.arange(images) < positives
        orders = permutations(range(images))
        mean = np.mean([average_precision(truth, np.array(order)) for order in orders])
        (chance,) = chance_precision(np.array([positives]), images)
        assert chance == pytest.approx(mean)
        assert chance >= positives / images - 1e-12


def test_chance_nears_the_share_of_positives_where_images_are_many() -> None:
    assert chance_precision(np.array([50_000]), 10**6)[0] == pytest.approx(0.05, rel=1e-3)
    assert chance_precision(np.array([0, 1]), 1).tolist() == pytest.approx([np.nan, 1], nan_ok=True)


# --- which images count as the most active ---------------------------------------------------


def test_without_ties_it_is_the_share_and_no_fewer_than_five() -> None:
    for n, expected in ((1, 0), (2, 1), (3, 1), (8, 4), (11, 5), (100, 5), (200, 10), (1000, 50)):
        values = np.random.default_rng(n).permutation(n)
        found = most_active(values, 0.05)
        assert found.sum() == expected
        assert (values[found] >= n - expected).all()


def test_ties_are_in_or_out_together() -> None:
    def count(values: list[float], share: float) -> int:
        return int(most_active(np.repeat(np.arange(len(values))[::-1], values), share).sum())

    assert count([2, 98], 0.05) == 2, "the zeros of a sparse unit are no positives"
    assert count([30, 70], 0.05) == 30, "there is always at least one"
    assert count([8, 3, 89], 0.1) == 11, "11 is nearer to 10 than 8"
    assert count([8, 5, 87], 0.1) == 8, "8 is nearer to 10 than 13"
    assert count([8, 4, 88], 0.1) == 8, "if both are as near, out"
    assert count([99, 1], 0.05) == 99
    assert count([100], 0.05) == 0, "never all"


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5]), max_size=30), st.floats(0.01, 0.9))
def test_the_most_active_are_above_all_others(values: list[float], share: float) -> None:
    activation = np.array(values)
    found = most_active(activation, share)
    assert found.any() == (len(set(values)) > 1)
    if found.any():
        assert activation[found].min() > activation[~found].max()


# --- sanity checks of the metrics (NeuronEval, ICML 2025) ------------------------------------
#
# A unit that responds to exactly the images that show a concept is scored with concept labels that
# are damaged in one of two ways. The score has to fall by more than a thousandth of the metric's
# range, in nine of ten tries, however rare the concept.

Metric = Callable[[FloatArray, FloatArray], float]
"""Score of a concept (n,) as the name of a unit with activations (n,)."""


def without_half(labels: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Missing labels: half of the images that show the concept lose the label."""
    shown = np.flatnonzero(labels)
    damaged = labels.copy()
    damaged[rng.choice(shown, len(shown) // 2, replace=False)] = False
    return damaged


def with_as_many_more(labels: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Extra labels: as many images as show the concept get the label without showing it."""
    damaged = labels.copy()
    damaged[rng.choice(np.flatnonzero(~labels), int(labels.sum()), replace=False)] = True
    return damaged


def passes(
    metric: Metric,
    damage: Callable[[BoolArray, np.random.Generator], BoolArray],
    *,
    span: float,
    noise: float = 0.0,
    frequencies: tuple[float, ...] = (0.4, 0.1, 0.01, 0.001),
    images: int = 20_000,
    tries: int = 10,
) -> bool:
    """Whether the metric, of range ``span``, notices the damage for concepts of any frequency.

    With ``noise``, activations and concept scores are graded, as cosines are.
    """
    for frequency in frequencies:
        noticed = 0
        for seed in range(tries):
            rng = np.random.default_rng(seed)
            labels = np.zeros(images, dtype=np.bool_)
            labels[rng.choice(images, round(frequency * images), replace=False)] = True
            activation = labels + noise * rng.normal(size=images)
            error = noise * rng.normal(size=images)
            whole = metric(activation, labels + error)
            noticed += metric(activation, damage(labels, rng) + error) < whole - 1e-3 * span
        if noticed < 0.9 * tries:
            return False
    return True


def auprc(activation: FloatArray, concept: FloatArray) -> float:
    return average_precision(most_active(activation), concept)


def recall(activation: FloatArray, concept: FloatArray) -> float:
    return float((concept[most_active(activation)] > 0.5).mean())


def precision(activation: FloatArray, concept: FloatArray) -> float:
    return float(most_active(activation)[concept > 0.5].mean())


def auroc(activation: FloatArray, concept: FloatArray) -> float:
    return float(roc_auc_score(most_active(activation), concept))


def inverse_auroc(activation: FloatArray, concept: FloatArray) -> float:
    return float(roc_auc_score(concept > 0.5, activation))


def mean_score_of_most_active(activation: FloatArray, concept: FloatArray) -> float:
    return float(concept[most_active(activation)].mean())


def activation_difference(activation: FloatArray, concept: FloatArray) -> float:
    has = concept > 0.5
    return float(activation[has].mean() - activation[~has].mean())


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(("metric", "span"), [(correlation, 2), (auprc, 1)])
def test_our_metrics_notice_missing_and_extra_labels(
    metric: Metric, span: float, noise: float
) -> None:
    # One image in a thousand adds so little variance that correlation loses it in the noise.
    frequencies = (0.4, 0.1, 0.01, 0.001) if not noise else (0.1, 0.05, 0.01)
    for damage in (without_half, with_as_many_more):
        assert passes(metric, damage, span=span, noise=noise, frequencies=frequencies)


@pytest.mark.parametrize("metric", [precision, inverse_auroc, activation_difference])
def test_the_missing_label_check_can_fail(metric: Metric) -> None:
    assert not passes(metric, without_half, span=1)
    assert passes(metric, with_as_many_more, span=1)


@pytest.mark.parametrize("metric", [recall, auroc, mean_score_of_most_active])
def test_the_extra_label_check_can_fail(metric: Metric) -> None:
    assert not passes(metric, with_as_many_more, span=1)
    assert passes(metric, without_half, span=1)


@pytest.mark.parametrize("frequency", [0.4, 0.1, 0.01, 0.001])
def test_what_the_damage_costs_by_theory(frequency: float) -> None:
    """Half the labels missing leaves √((1−γ)/(2−γ)) and (1+γ)/2; as many extra √… and ½."""
    rng = np.random.default_rng(0)
    labels = np.arange(20_000) < round(frequency * 20_000)
    few, many = without_half(labels, rng), with_as_many_more(labels, rng)
    activation = labels.astype(np.float32)
    g = frequency
    assert correlation(activation, few) == pytest.approx(np.sqrt((1 - g) / (2 - g)))
    assert auprc(activation, few) == pytest.approx((1 + g) / 2)
    assert correlation(activation, many) == pytest.approx(np.sqrt((1 - 2 * g) / (2 - 2 * g)))
    assert auprc(activation, many) == pytest.approx(0.5)


# --- held out --------------------------------------------------------------------------------


def test_three_units_by_hand() -> None:
    """Concepts are the axes, so a cosine is a coordinate."""
    images = unit(np.array([[3, 4], [4, 3], [1, 0], [0, 1], [5, 12], [12, 5]]))
    activations = np.array(
        [[0, 5, 9], [1, 5, 8], [2, 5, 7], [3, 5, 6], [4, 5, 5], [9, 5, 4]], dtype=np.float32
    )
    labels = np.array([1, 0, -1])
    found = measure(labels, activations, images, np.eye(2, dtype=np.float32), np.arange(6))
    heights = np.array([4 / 5, 3 / 5, 0, 1, 12 / 13, 5 / 13])
    assert found.correlation[0] == pytest.approx(np.corrcoef(heights, activations[:, 0])[0, 1])
    # Its most active are images 3, 4 and 5: first, second and fifth by the second coordinate.
    assert found.auprc[0] == pytest.approx((1 + 1 + 3 / 5) / 3)
    assert found.positives.tolist() == [3, 0, 0]
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6
    assert found.chance[0] == pytest.approx(2 / 5 + 3 / 5 * harmonic / 6)
    for name in ("correlation", "auprc", "chance"):
        assert np.isnan(getattr(found, name)[1:]).all(), "a constant unit, and one with no label"
    assert found.images == 6


def test_measured_are_the_given_images_and_no_others() -> None:
    planted = world(0)
    labels = planted.labeller()(np.arange(1200))[0]
    rows = np.sort(np.random.default_rng(1).permutation(1200)[:333])
    part = measure(labels, planted.activations, planted.images, planted.concepts, rows)
    alone = measure(
        labels, planted.activations[rows], planted.images[rows], planted.concepts, np.arange(333)
    )
    same(part, alone)
    cosines = planted.images[rows] @ planted.concepts[labels].T
    for k in range(0, len(labels), 7):
        activation = planted.activations[rows, k]
        expected = np.corrcoef(activation, cosines[:, k])[0, 1]
        assert part.correlation[k] == pytest.approx(expected, abs=1e-5)
        highest = np.argsort(-activation)[:17]  # 5 % of 333
        truth = np.isin(np.arange(333), highest)
        assert part.auprc[k] == pytest.approx(
            average_precision_score(truth, cosines[:, k]), abs=1e-5
        )


@pytest.mark.parametrize("seed", range(3))
def test_planted_units_score_high_and_shuffled_ones_at_chance(seed: int) -> None:
    planted = world(seed, units=64, concepts=100, images=2400)
    found, permuted = planted.held_out(seed=seed)
    real = planted.planted
    assert (found.label[real] == planted.truth).mean() >= 0.95
    assert np.median(found.correlation[real]) > 0.9
    assert np.median(found.auprc[real]) > 0.7
    # 64 units of 1 200 images: the mean lies within three standard errors of chance.
    assert abs(found.correlation[~real].mean()) < 3 / np.sqrt(64 * 1200)
    excess = (found.auprc - found.chance)[~real]
    assert abs(excess.mean()) < 3 * excess.std() / np.sqrt(64)
    np.testing.assert_array_equal(found.positives, 60)
    # The concepts point anywhere, so the label of another unit predicts nothing.
    assert abs(np.median(permuted.correlation)) < 0.15
    assert np.median(permuted.auprc) < 0.15


def test_where_all_units_like_the_same_images_permuted_labels_predict_as_well() -> None:
    """High numbers then say nothing of the single label, and it shows."""
    rng = np.random.default_rng(0)
    pictures = unit(rng.normal(size=(600, 8)))
    concepts = unit(np.array([1.0] + [0.0] * 7) + 0.02 * rng.normal(size=(30, 8)))
    activations = (pictures[:, :1] + 0.1 * rng.normal(size=(600, 30))).astype(np.float32)
    ((own, permuted),) = held_out(lambda _: [np.arange(30)], [activations], pictures, concepts)
    assert np.median(own.correlation) > 0.9
    assert np.median(permuted.correlation) == pytest.approx(np.median(own.correlation), abs=0.01)
    np.testing.assert_array_equal(own.chance, permuted.chance)


@given(st.lists(st.integers(-1, 4), max_size=12), st.integers(0, 3))
def test_labels_are_permuted_to_others(labels: list[int], seed: int) -> None:
    own = np.array(labels, dtype=np.int64)
    living = own >= 0
    permuted = deal(own, seed=seed)
    assert (permuted[~living] == -1).all()
    if living.sum() < 2:
        assert (permuted == -1).all()
        return
    assert sorted(permuted.tolist()) == sorted(labels)
    units = np.where(living, np.arange(len(own)), -1)  # told apart by their labels
    moved = deal(units, seed=seed)
    assert (moved[living] != units[living]).all()
    np.testing.assert_array_equal(permuted[living], own[moved[living]])


def test_labels_are_chosen_without_a_look_at_what_is_held_out() -> None:
    planted = world(0)
    seen: list[IntArray] = []

    def label(sample: IntArray) -> list[IntArray]:
        seen.append(sample)
        return planted.labeller()(sample)

    ((found, permuted),) = held_out(
        label, [planted.activations], planted.images, planted.concepts, fraction=0.25, seed=3
    )
    kept, held = split(1200, fraction=0.25, seed=3)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], kept)
    assert len(held) == found.images == 300
    np.testing.assert_array_equal(permuted.label, deal(found.label, seed=3))
    for one in (found, permuted):
        again = measure(one.label, planted.activations, planted.images, planted.concepts, held)
        same(one, again)


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_parts_of_a_split_make_the_whole(images: int, fraction: float, seed: int) -> None:
    kept, held = split(images, fraction=fraction, seed=seed)
    assert len(kept) >= 1
    assert len(held) >= 1
    assert abs(len(held) - fraction * images) <= 1
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(images))


def test_the_seed_decides_and_nothing_else() -> None:
    planted = world(1)
    first, again, other = (planted.held_out(seed=seed) for seed in (5, 5, 6))
    for one, two, third in zip(first, again, other, strict=True):
        same(one, two)
        assert not np.array_equal(one.correlation, third.correlation)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (7, 5000), (100, 40_000), (5000, 2**30)])
def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch, rows: int, size: int) -> None:
    planted = world(2, images=400)
    whole = planted.held_out()
    monkeypatch.setattr(quality, "ROW_BLOCK", rows)
    monkeypatch.setattr(quality, "BLOCK_BYTES", size)
    for one, two in zip(planted.held_out(), whole, strict=True):
        same(one, two)


def test_equal_images_tie_wherever_they_stand() -> None:
    """Fifty copies of three images, in random order: three distinct cosines a unit."""
    rng = np.random.default_rng(0)
    kinds = unit(rng.normal(size=(3, 333)))
    order = rng.permutation(np.repeat(np.arange(3), 50))
    concepts = unit(rng.normal(size=(40, 333)))
    activations = rng.normal(size=(150, 40)).astype(np.float32)
    labels = np.arange(40)
    found = measure(labels, activations, kinds[order], concepts, np.arange(150))
    cosines = (kinds @ concepts.T)[order]
    for k in labels:
        truth = most_active(activations[:, k])
        assert found.auprc[k] == pytest.approx(average_precision_score(truth, cosines[:, k]))


class OnDisk:
    """Rows that can be sliced, and nothing else; notes the longest slice."""

    def __init__(self, array: FloatArray) -> None:
        self._array = array
        self.longest = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def __getitem__(self, rows: slice, /) -> FloatArray:
        assert isinstance(rows, slice)
        found = self._array[rows]
        self.longest = max(self.longest, len(found))
        return found


def test_files_are_read_by_blocks_and_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = world(0)
    expected = planted.held_out()
    monkeypatch.setattr(quality, "ROW_BLOCK", 100)
    np.save(tmp_path / "activations.npy", planted.activations)
    np.save(tmp_path / "images.npy", planted.images)
    mapped = np.load(tmp_path / "activations.npy", mmap_mode="r")
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    stores = OnDisk(mapped), OnDisk(images)
    inputs: list[tuple[Rows, Rows]] = [(mapped, images), stores]
    for activations, pictures in inputs:
        (found,) = held_out(planted.labeller(), [activations], pictures, planted.concepts)
        for one, two in zip(found, expected, strict=True):
            same(one, two)
    assert [store.longest for store in stores] == [100, 100]


@pytest.mark.parametrize("images", [2, 3, 4, 7])
def test_few_images(images: int) -> None:
    """One held-out image says nothing, two give no correlation; and nothing is ever 0 for that."""
    rng = np.random.default_rng(0)
    activations = rng.normal(size=(images, 3)).astype(np.float32)
    pictures, concepts = unit(rng.normal(size=(images, 4))), unit(rng.normal(size=(5, 4)))
    ((found, _),) = held_out(lambda _: [np.array([0, 4, -1])], [activations], pictures, concepts)
    held = found.images
    assert held == round(images / 2)
    assert np.isnan(found.correlation).tolist() == [held < 3, held < 3, True]
    assert np.isnan(found.auprc).tolist() == [held < 2, held < 2, True]
    assert found.positives.tolist() == [held // 2, held // 2, 0]
    assert np.isnan(found.chance).tolist() == np.isnan(found.auprc).tolist()


def test_all_tied_and_all_dead() -> None:
    rng = np.random.default_rng(0)
    pictures, concepts = unit(rng.normal(size=(50, 4))), unit(rng.normal(size=(5, 4)))
    tied = np.ones((50, 3), dtype=np.float32)
    for labels in (np.array([0, 1, 2]), np.full(3, -1)):
        found = measure(labels, tied, pictures, concepts, np.arange(50))
        for name in ("correlation", "auprc", "chance"):
            assert np.isnan(getattr(found, name)).all()
        assert not found.positives.any()


def test_where_every_image_looks_the_same_nothing_is_found_and_nothing_correlates() -> None:
    rng = np.random.default_rng(0)
    pictures = np.tile(unit(rng.normal(size=(1, 48))), (100, 1))
    activations = rng.normal(size=(100, 20)).astype(np.float32)
    concepts = unit(rng.normal(size=(20, 48)))
    found = measure(np.arange(20), activations, pictures, concepts, np.arange(100))
    assert np.isnan(found.correlation).all()
    np.testing.assert_allclose(found.auprc, 5 / 100)


def test_what_does_not_fit_is_refused() -> None:
    planted = world(0, units=2, images=60)
    labels = np.zeros(4, dtype=np.int64)
    parts = planted.images, planted.concepts, np.arange(60)
    for share in (0.0, 1.0, np.nan):
        with pytest.raises(InputError, match="held-out share must lie between"):
            split(60, fraction=share, seed=0)
    with pytest.raises(InputError, match="at least two"):
        split(1, fraction=0.5, seed=0)
    with pytest.raises(ValueError, match="for 60 images and 3 units"):
        measure(labels[:3], planted.activations, *parts)
    broken = planted.activations.copy()
    broken[30, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        measure(labels, broken, *parts)


# --- survival --------------------------------------------------------------------------------


def scripted(*draws: list[int]) -> Labeller:
    """Gives these labels, draw by draw."""
    script = iter(draws)
    return lambda _: [np.array(next(script))]


def test_survival_by_hand() -> None:
    labels = np.array([3, 5, -1, 7])
    (found,) = bootstrap(
        scripted([3, 1, -1, 7], [3, 5, 2, -1], [3, 0, -1, 7], [3, 1, -1, -1]),
        10,
        [labels],
        draws=4,
    )
    assert found.kept.tolist() == [4, 1, 0, 2]
    np.testing.assert_array_equal(found.survival, [1, 0.25, np.nan, 0.5])
    assert found.lost.tolist() == [0, 0, 3, 2]
    assert found.distinct.tolist() == [1, 3, 1, 1]
    assert found.concept[:, :4].tolist() == [
        [3, -1, -1, -1],
        [1, 0, 5, -1],  # 0 and 5 appear once each
        [2, -1, -1, -1],
        [7, -1, -1, -1],
    ]
    assert found.count[:, :4].tolist() == [[4, 0, 0, 0], [2, 1, 1, 0], [1, 0, 0, 0], [2, 0, 0, 0]]


def test_only_the_most_frequent_labels_are_listed() -> None:
    (found,) = bootstrap(scripted(*([k] for k in range(9)), [8]), 10, [np.array([0])], draws=10)
    assert found.concept.tolist() == [[8, 0, 1, 2, 3]]
    assert found.count.tolist() == [[2, 1, 1, 1, 1]]
    assert found.concept.shape == (1, KEPT_LABELS)
    assert found.distinct.tolist() == [9]


def test_planted_labels_survive_and_those_of_noise_do_not() -> None:
    planted = world(0, noise=0.05)
    label = planted.labeller()
    (found,) = bootstrap(label, 1200, label(np.arange(1200)), draws=12)
    assert (found.survival[planted.planted] == 1).all()
    assert found.survival[~planted.planted].mean() < 0.4
    np.testing.assert_array_equal(found.count[planted.planted, 0], 12)
    assert (found.distinct[~planted.planted] > 1).all()


def test_samples_are_drawn_with_replacement_and_are_the_same_for_more_draws() -> None:
    def recorded(draws: int, seed: int) -> list[IntArray]:
        seen: list[IntArray] = []

        def label(sample: IntArray) -> list[IntArray]:
            seen.append(sample)
            return [np.zeros(1, dtype=np.int64)]

        bootstrap(label, 1000, [np.zeros(1, dtype=np.int64)], draws=draws, seed=seed)
        return seen

    few, many, other = recorded(3, 0), recorded(5, 0), recorded(3, 1)
    assert [len(sample) for sample in many] == [1000] * 5
    for one, two in zip(few, many[:3], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not any(np.array_equal(one, two) for one, two in zip(few, other, strict=True))
    for sample in many:
        assert (np.diff(sample) >= 0).all()
        assert len(np.unique(sample)) / 1000 == pytest.approx(1 - np.exp(-1), abs=0.05)


def test_layers_are_compared_each_for_itself_over_the_same_draws() -> None:
    one, two = world(0, units=6), world(1, units=9)
    whole = np.arange(1200)

    def both(sample: IntArray) -> list[IntArray]:
        return [*one.labeller()(sample), *two.labeller()(sample)]

    together = bootstrap(both, 1200, both(whole), draws=3, seed=4)
    for found, part in zip(together, (one, two), strict=True):
        label = part.labeller()
        (alone,) = bootstrap(label, 1200, label(whole), draws=3, seed=4)
        same(found, alone)


def test_a_labeller_of_other_units_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1,\) labels for \(2,\) units"):
        bootstrap(scripted([1]), 10, [np.array([1, 2])], draws=1)
    with pytest.raises(ValueError, match="shorter"):
        bootstrap(scripted([1, 2]), 10, [np.array([1, 2])] * 2, draws=1)
    with pytest.raises(InputError, match="at least one draw"):
        bootstrap(scripted([1]), 10, [np.array([1])], draws=0)


@given(st.integers(1, 200), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(trials: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson(np.array([successes]), trials, level)
    expected = binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-12)


# --- summaries -------------------------------------------------------------------------------


def layer_quality(seed: int, units: int) -> LayerQuality:
    """Any numbers, with gaps."""
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, 3, size=units)

    def held() -> HeldOut:
        held_label = rng.integers(-1, 3, size=units)
        positives = np.where(held_label >= 0, rng.integers(0, 5, size=units), 0)
        return HeldOut(
            held_label,
            np.where(held_label >= 0, rng.uniform(-1, 1, units), np.nan),
            np.where(positives > 0, rng.uniform(0, 1, units), np.nan),
            positives,
            images=50,
        )

    (stable,) = bootstrap(
        scripted(*(rng.integers(-1, 3, size=units).tolist() for _ in range(4))),
        50,
        [label],
        draws=4,
    )
    return LayerQuality("layer", label, held(), held(), stable)


def test_a_summary_by_hand() -> None:
    layer = LayerQuality(
        "layer",
        np.array([4, 1, -1, 2]),
        HeldOut(
            np.array([4, 2, -1, 2]),
            np.array([0.8, 0.2, np.nan, np.nan]),
            np.array([0.9, 0.3, np.nan, 0.6]),
            np.array([1, 1, 0, 2]),
            images=2,
        ),
        HeldOut(
            np.array([2, 4, -1, 2]),
            np.array([0.1, -0.1, np.nan, np.nan]),
            np.array([0.2, 0.4, np.nan, 0.6]),
            np.array([1, 1, 0, 2]),
            images=2,
        ),
        bootstrap(scripted([4, 0, -1, 2], [4, 0, 0, 1]), 9, [np.array([4, 1, -1, 2])], draws=2)[0],
    )
    found = summarise([layer])
    assert (found.units, found.labelled, found.repeated) == (4, 3, 2)
    assert found.correlation == Spread(2, *map(pytest.approx, (0.35, 0.5, 0.65)))
    assert found.auprc == Spread(3, *map(pytest.approx, (0.45, 0.6, 0.75)))
    assert found.chance == Spread(3, 0.75, 0.75, 0.875)
    assert found.permuted_correlation == Spread(2, *map(pytest.approx, (-0.05, 0, 0.05)))
    assert found.permuted_auprc == Spread(3, *map(pytest.approx, (0.3, 0.4, 0.5)))
    assert (found.kept, found.drawn, found.stable) == (3, 6, 2)
    assert found.survival == 0.5
    assert found.stable_share == found.repeated_share == pytest.approx(2 / 3)
    trusted = summarise([layer], [np.array([True, False, True, False])])
    assert (trusted.units, trusted.labelled, trusted.repeated, trusted.stable) == (2, 1, 1, 1)
    assert trusted.correlation == Spread(1, 0.8, 0.8, 0.8)
    assert trusted.survival == 1


def test_counts_of_layers_add_up_and_quartiles_are_those_of_all_units() -> None:
    layers = [layer_quality(seed, units) for seed, units in enumerate((30, 7, 1, 50))]
    rng = np.random.default_rng(0)
    masks = [rng.random(layer.units) < 0.5 for layer in layers]
    for chosen in (None, masks):
        parts = [
            summarise([layer], None if chosen is None else [mask])
            for layer, mask in zip(layers, masks, strict=True)
        ]
        total = summarise(layers, chosen)
        for name in ("units", "labelled", "repeated", "kept", "drawn", "stable"):
            assert getattr(total, name) == sum(getattr(part, name) for part in parts)
        for name in ("correlation", "auprc", "chance"):
            values = np.concatenate(
                [
                    getattr(layer.held_out, name)[mask if chosen else slice(None)]
                    for layer, mask in zip(layers, masks, strict=True)
                ]
            )
            spread = getattr(total, name)
            assert spread.count == sum(getattr(part, name).count for part in parts)
            assert spread.median == pytest.approx(np.nanmedian(values))
        assert total.auprc.count == total.chance.count


def test_nothing_is_summarised_as_nothing() -> None:
    layer = layer_quality(0, 5)
    none = np.zeros(5, dtype=np.bool_)
    for found in (summarise([]), summarise([layer], [none])):
        assert found.units == found.labelled == found.drawn == 0
        assert found.correlation == Spread(0, None, None, None)
        assert found.survival is found.stable_share is found.repeated_share is None


def test_survival_of_the_labelled_is_the_mean_of_the_units() -> None:
    layer = layer_quality(3, 40)
    expected = np.nanmean(layer.stability.survival)
    assert summarise([layer]).survival == pytest.approx(expected)
    assert isinstance(layer.stability, Stability)
