"""Labels tested on images that they were not chosen on, by arithmetic and by simulation."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm

from profiler.activations.top_lists import LayerTops, TopCollector
from profiler.core.arrays import Float64, IntArray
from profiler.errors import InputError
from profiler.profile.confirm import confirm, halves, held, list_length, within
from profiler.profile.evaluation import Sample
from profiler.profile.labels import LayerLabels, label_layers
from profiler.profile.similarity.cosine import CosineCubed
from profiler.profile.similarity.pmi import SoftWPMI
from profiler.profile.threshold import Threshold, are_tested, confirmed_threshold, null_threshold

RNG = np.random.default_rng(3)


def unit_rows(rows: Float64) -> Float64:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float64)


def lists(activations: Float64, length: int = 100, layer: str = "fc") -> LayerTops:
    collector = TopCollector(layer, min(length, len(activations)))
    collector.add(np.arange(len(activations)), activations.astype(np.float32))
    return collector.result()


def labelled(z: Sequence[float]) -> LayerLabels:
    k = len(z)
    nothing = np.zeros((k, 0))
    return LayerLabels(
        "fc", np.zeros((k, 1), int), np.zeros((k, 1)), np.zeros(k), np.isnan(z),
        nothing.astype(int), nothing, np.zeros(0), np.array(z),
    )  # fmt: skip


def test_z_is_the_standardised_mean_of_the_strongest_images() -> None:
    images = unit_rows(RNG.normal(size=(40, 6)))
    concepts = unit_rows(RNG.normal(size=(5, 6)))
    activations = RNG.normal(size=(40, 3))
    label = np.array([4, 0, -1])
    (z,) = held([lists(activations, 8)], [label], images, concepts)
    for unit in (0, 1):
        cosines = images @ concepts[label[unit]]
        strongest = np.argsort(-activations[:, unit])[:8]
        # Of the mean of 8 of 40 drawn without replacement.
        error = np.sqrt(cosines.var() / 8 * (40 - 8) / (40 - 1))
        assert z[unit] == pytest.approx((cosines[strongest].mean() - cosines.mean()) / error)
    assert z[2] == 0  # without a label there is nothing to test


def test_over_all_lists_of_images_z_has_mean_0_and_variance_1() -> None:
    images = unit_rows(RNG.normal(size=(30, 4)))
    concepts = unit_rows(RNG.normal(size=(1, 4)))
    activations = np.stack([RNG.permutation(30) for _ in range(4000)], axis=1).astype(float)
    (z,) = held([lists(activations, 5)], [np.zeros(4000, int)], images, concepts)
    assert z.mean() == pytest.approx(0, abs=0.05)
    assert z.var() == pytest.approx(1, abs=0.06)


def test_the_lists_of_a_half_are_those_of_its_images_alone() -> None:
    activations = RNG.normal(size=(60, 9))
    half = np.sort(RNG.choice(60, 31, replace=False))
    found = within(lists(activations), half, 10)
    alone = lists(activations[half], 10)
    assert np.array_equal(found.images, alone.images)
    assert np.array_equal(found.activations, alone.activations)


def test_a_list_that_holds_too_few_images_of_a_half_is_filled_with_no_evidence() -> None:
    activations = np.arange(20.0)[:, None]
    found = within(lists(activations, 6), np.arange(0, 20, 2), 4)  # 19 … 14: 18, 16 and 14 are even
    assert found.images[0, :3].tolist() == [9, 8, 7]
    assert found.listed(4, 10).tolist() == [3]


def test_halves_are_random_equal_and_the_same_for_every_network() -> None:
    half = halves(np.arange(1001), 1001)
    assert np.bincount(half).tolist() == [501, 500]
    assert np.array_equal(half, halves(np.arange(1001), 1001))
    assert 0.4 < half[:200].mean() < 0.6  # a folder's first classes lie in both
    kept = np.delete(np.arange(1001), [3, 500])  # unreadable images leave the others where they are
    assert np.array_equal(halves(kept, 1001), half[kept])


@pytest.mark.parametrize(
    ("top", "images", "kept", "length"),
    [(10, 1000, 100, 10), (100, 50_000, 100, 50), (10, 60, 60, 6), (None, 1000, 100, 10)],
)
def test_lists_of_a_half_are_as_long_as_of_the_whole_where_they_can(
    top: int | None, images: int, kept: int, length: int
) -> None:
    assert list_length(SoftWPMI(), top, images, kept) == length


def with_z(
    activations: Float64, images: Float64, concepts: Float64, similarity: SoftWPMI | CosineCubed
) -> LayerLabels:
    """The layer's labels as a run has them, with their z."""
    tops, matrix = lists(activations), activations.astype(np.float32)
    top = similarity.top(len(images))
    (labels,) = label_layers(
        [tops], images, concepts, similarity=similarity, top=top, matrices=[matrix], null_draws=0
    )
    length = list_length(similarity, top, len(images), tops.images.shape[1])

    def label(layers: Sequence[LayerTops], rows: IntArray) -> list[IntArray]:
        found = label_layers(
            layers, Sample(images, rows), concepts, similarity=similarity,
            top=length if top else None, matrices=[Sample(matrix, rows)], null_draws=0,
        )  # fmt: skip
        return [each.concept[:, 0] for each in found]

    half = halves(np.arange(len(images)), len(images))
    (z,) = confirm([tops], images, concepts, half, label, length)
    return LayerLabels(**{**vars(labels), "confirmed_z": z})


@pytest.mark.parametrize("similarity", [SoftWPMI(), CosineCubed()])
def test_units_that_follow_a_concept_are_confirmed_and_noise_is_not(
    similarity: SoftWPMI | CosineCubed,
) -> None:
    concepts = unit_rows(RNG.normal(size=(30, 16)))
    images = unit_rows(RNG.normal(size=(400, 16)))
    follows = images @ concepts[:20].T
    noise = RNG.normal(size=(400, 60))
    found = with_z(np.concatenate([follows, noise], axis=1), images, concepts, similarity)
    threshold = confirmed_threshold([found])
    trusted = threshold.trusts(found)
    assert trusted[:20].all()
    assert trusted[20:].sum() <= 4  # 5 % of those confirmed are expected to be chance
    assert threshold.fdr is not None
    assert threshold.fdr <= 0.05


def test_permuted_activations_confirm_almost_nothing() -> None:
    concepts = unit_rows(RNG.normal(size=(50, 16)))
    images = unit_rows(RNG.normal(size=(300, 16)) + 0.4)  # images have much in common
    units = images @ unit_rows(RNG.normal(size=(200, 16))).T
    shares = []
    for seed in range(10):
        permuted = units[np.random.default_rng(seed).permutation(300)]
        found = with_z(permuted, images, concepts, SoftWPMI())
        shares.append(confirmed_threshold([found]).trusts(found).mean())
    assert np.mean(shares) <= 0.05


def test_a_dead_unit_has_no_z_and_a_unit_dead_in_one_half_is_tested_on_neither_alone() -> None:
    images = unit_rows(RNG.normal(size=(100, 4)))
    concepts = unit_rows(RNG.normal(size=(3, 4)))
    half = halves(np.arange(100), 100)
    activations = np.zeros((100, 2))
    first = np.flatnonzero(half == 0)[:10]
    activations[first, 1] = np.arange(1, 11)
    found = with_z(activations, images, concepts, SoftWPMI())
    assert np.isnan(found.confirmed_z[0])
    # Labelled on one half and without strongest images on the other, and the reverse.
    assert found.confirmed_z[1] == 0


def test_the_cut_is_that_of_benjamini_and_hochberg() -> None:
    p = np.array([0.001, 0.012, 0.014, 0.04, 0.9])  # at most 0.01, 0.02, 0.03, 0.04, 0.05
    layer = labelled([*norm.isf(p), float("nan")])
    threshold = confirmed_threshold([layer])
    assert threshold.trusts(layer).tolist() == [True, True, True, True, False, False]
    assert threshold.fdr == pytest.approx(0.05)
    assert threshold.text() == "z = 1.75"
    stricter = confirmed_threshold([layer], fdr=0.03)
    assert stricter.trusts(layer).tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("z", [[], [float("nan")], [0.1, 0.2, 0.3], [-5.0]])
def test_where_nothing_holds_nothing_is_trusted(z: list[float]) -> None:
    layer = labelled(z)
    threshold = confirmed_threshold([layer])
    assert threshold.fdr is None
    assert not threshold.trusts(layer).any()


def test_the_share_of_false_labels_stays_below_5_percent() -> None:
    rng = np.random.default_rng(0)
    false = []
    for _ in range(300):
        z = rng.normal(size=200)
        z[:50] += 3
        layer = labelled(z)
        trusted = confirmed_threshold([layer]).trusts(layer)
        false.append(trusted[50:].sum() / max(trusted.sum(), 1))
    assert np.mean(false) <= 0.05


def test_labels_that_were_not_tested_cannot_be_confirmed() -> None:
    layer = labelled([1.0])
    untested = LayerLabels(**{**vars(layer), "confirmed_z": np.zeros(0)})
    assert are_tested([layer])
    assert not are_tested([layer, untested])
    with pytest.raises(InputError, match="was tested on other images"):
        Threshold(2.0, "confirmed").trusts(untested)
    with pytest.raises(InputError, match="needs null draws"):
        null_threshold([layer])
