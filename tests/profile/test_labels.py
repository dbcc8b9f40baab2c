"""Labels, p-values and thresholds where the right answer is planted, or is that there is none."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.activations.top_lists import LayerTops, TopCollector
from profiler.core.arrays import FloatArray, IntArray
from profiler.errors import InputError
from profiler.profile.labels import KEPT_LABELS, LayerLabels, label_layers, list_warnings
from profiler.profile.similarity import base
from profiler.profile.similarity.base import Null, Units
from profiler.profile.similarity.choose import SIMILARITIES
from profiler.profile.similarity.pmi import SoftWPMI
from profiler.profile.threshold import Threshold, null_tail, null_threshold


def tops_of(activations: FloatArray, length: int, name: str = "layer") -> LayerTops:
    collector = TopCollector(name, length)
    collector.add(np.arange(len(activations)), activations)
    return collector.result()


def unit(rows: FloatArray) -> FloatArray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass(frozen=True)
class World:
    """Images that each show one concept, and units that each respond to one."""

    images: FloatArray
    concepts: FloatArray
    truth: IntArray
    activations: FloatArray

    def labelled(self, *, shuffled: bool = False, top: int = 10, seed: int = 0) -> LayerLabels:
        activations = self.activations
        if shuffled:  # each unit's activations permuted over the images
            activations = np.random.default_rng(seed).permuted(activations, axis=0)
        (layer,) = label_layers(
            [tops_of(activations, top)], self.images, self.concepts, top=top, seed=seed
        )
        return layer


def world(seed: int, *, units: int = 64, concepts: int = 300, images: int = 3000) -> World:
    rng = np.random.default_rng(seed)
    words = unit(rng.normal(size=(concepts, 16)))
    shown = words[np.arange(images) % concepts]
    pictures = unit(shown + 0.15 * rng.normal(size=shown.shape))
    truth = rng.permutation(concepts)[:units]
    responses = pictures @ words[truth].T + 0.05 * rng.normal(size=(images, units))
    return World(pictures, words, truth, responses)


# --- labels ----------------------------------------------------------------------------------


def test_four_units_that_each_see_one_thing() -> None:
    """Axes for concepts, images that lie on them: what each unit sees can be read off.

    Images 0–2 show concept 0, images 3–5 concept 1, and so on; unit k responds to what its
    column says, and unit 3 never varies.
    """
    axes = np.eye(4)
    images = np.repeat(axes, 3, axis=0)
    sees = np.array([2, 0, 3, -1])
    activations = np.where(np.arange(12)[:, None] // 3 == sees, 5.0, -1.0)
    (layer,) = label_layers([tops_of(activations, 3)], images, axes, top=3, null_draws=50)
    assert layer.concept[:, 0].tolist() == [2, 0, 3, -1]
    assert layer.dead.tolist() == [False, False, False, True]
    assert layer.top_images[:3].tolist() == [[6, 7, 8], [0, 1, 2], [9, 10, 11]]
    # No unit sees concept 1, so it describes the three equally badly: evidence = prior.
    assert layer.concept[:3, 1].tolist() == [1, 1, 1]
    np.testing.assert_allclose(layer.score[:3, 1], 0, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_planted_labels_are_found(seed: int) -> None:
    planted = world(seed)
    assert (planted.labelled().concept[:, 0] == planted.truth).mean() >= 0.95


def test_next_four_labels_come_in_order_of_score() -> None:
    layer = world(0).labelled()
    assert layer.score.shape == layer.concept.shape == (64, KEPT_LABELS)
    assert (np.diff(layer.score, axis=1) <= 0).all()
    assert all(len(set(row)) == KEPT_LABELS for row in layer.concept.tolist())


def test_best_labels_are_those_of_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept block by block, they are the first five of a full stable sort."""
    monkeypatch.setattr(base, "CONCEPT_BLOCK", 37)
    planted = world(1, units=20)
    layer = planted.labelled()
    tops = tops_of(planted.activations, 10)
    units = Units(tops.images, tops.activations, None, np.arange(20), np.full(20, 10))
    null = Null(0, 0, [np.empty(0, dtype=np.float32)])
    tiles = SoftWPMI().score([units], planted.images, planted.concepts, null)
    scores = np.concatenate([tile.scores for tile in tiles], axis=1)
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT_LABELS]
    np.testing.assert_array_equal(layer.concept, wanted)
    np.testing.assert_array_equal(layer.score, np.take_along_axis(scores, wanted, axis=1))


@pytest.mark.parametrize("copies", [2, 600])
def test_ties_go_to_the_concept_that_stands_first(copies: int) -> None:
    """Also across blocks of 512 concepts."""
    rng = np.random.default_rng(0)
    words = np.tile(unit(rng.normal(size=(1, 8))), (copies, 1))
    pictures = unit(rng.normal(size=(30, 8)))
    activations = rng.normal(size=(30, 3))
    (layer,) = label_layers([tops_of(activations, 5)], pictures, words, top=5, null_draws=0)
    kept = [0, 1, -1, -1, -1] if copies == 2 else [0, 1, 2, 3, 4]
    assert layer.concept.tolist() == [kept] * 3


@pytest.mark.parametrize("concepts", [1, 2, 4, 5, 6])
def test_fewer_concepts_than_places(concepts: int) -> None:
    planted = world(0, units=6)
    (layer,) = label_layers(
        [tops_of(planted.activations, 5)], planted.images, planted.concepts[:concepts], top=5
    )
    filled = min(concepts, KEPT_LABELS)
    assert (layer.concept[:, :filled] >= 0).all()
    assert (layer.concept[:, filled:] == -1).all()
    assert np.isfinite(layer.score[:, :filled]).all()
    assert np.isnan(layer.score[:, filled:]).all()


def test_a_dead_unit_has_no_label_and_leaves_the_others_theirs() -> None:
    planted = world(2, units=20)
    without = planted.labelled()
    places = [0, 7, 20]
    activations = np.insert(planted.activations, places, 3.25, axis=1)
    (layer,) = label_layers(
        [tops_of(activations, 10)], planted.images, planted.concepts, top=10, seed=0
    )
    assert np.flatnonzero(layer.dead).tolist() == [0, 8, 22]
    assert (layer.concept[layer.dead] == -1).all()
    assert np.isnan(layer.score[layer.dead]).all()
    assert np.isnan(layer.p_value[layer.dead]).all()
    for name in ("concept", "score", "p_value"):
        np.testing.assert_array_equal(getattr(layer, name)[~layer.dead], getattr(without, name))


def test_a_layer_of_nothing_but_dead_units() -> None:
    planted = world(0, units=5)
    dead, alive = np.ones((3000, 3)), planted.activations
    layers = [tops_of(dead, 10, "dead"), tops_of(alive, 10, "alive")]
    first, second = label_layers(layers, planted.images, planted.concepts, top=10)
    assert first.dead.all()
    assert not len(first.null_scores)
    np.testing.assert_array_equal(second.concept, planted.labelled().concept)
    threshold = null_threshold([first, second])
    assert not threshold.trusts(first).any()
    assert threshold == null_threshold([second])


def test_layers_are_labelled_each_for_itself() -> None:
    """The prior is a layer's own: which other layers are looked at does not matter."""
    one, two = world(0, units=30), world(0, units=50)
    layers = [tops_of(one.activations, 10, "one"), tops_of(two.activations, 10, "two")]
    together = label_layers(layers, one.images, one.concepts, top=10)
    for layer, labels in zip(layers, together, strict=True):
        (alone,) = label_layers([layer], one.images, one.concepts, top=10)
        np.testing.assert_array_equal(labels.concept, alone.concept)
        np.testing.assert_allclose(labels.score, alone.score, atol=3e-5)
        np.testing.assert_allclose(labels.null_scores, alone.null_scores, atol=3e-5)


def test_only_the_first_images_of_longer_lists_count() -> None:
    planted = world(0, units=12)
    lists = [tops_of(planted.activations, length) for length in (10, 25)]
    short, long = (
        label_layers([tops], planted.images, planted.concepts, top=10)[0] for tops in lists
    )
    np.testing.assert_array_equal(short.concept, long.concept)
    np.testing.assert_array_equal(short.score, long.score)


def test_the_seed_decides_and_nothing_else() -> None:
    planted = world(3, units=12)
    first, again, other = (planted.labelled(seed=seed) for seed in (5, 5, 6))
    for name in ("concept", "score", "p_value", "null_scores"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(first.concept, other.concept)
    assert not np.array_equal(first.null_scores, other.null_scores)


def test_no_concepts_and_short_lists_are_refused() -> None:
    planted = world(0, units=3)
    tops = tops_of(planted.activations, 10)
    with pytest.raises(InputError, match="no concept"):
        label_layers([tops], planted.images, planted.concepts[:0], top=10)
    with pytest.raises(InputError, match="shorter than top=11"):
        label_layers([tops], planted.images, planted.concepts, top=11)


@pytest.mark.parametrize("chunk", [7, 100, 1000])
def test_images_looked_at_in_chunks_change_nothing_but_the_last_bits(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = world(6, units=20)
    whole = planted.labelled()
    monkeypatch.setattr(base, "ROW_CHUNK", chunk)
    other = planted.labelled()
    np.testing.assert_array_equal(other.concept[:, 0], whole.concept[:, 0])
    np.testing.assert_allclose(other.score, whole.score, atol=1e-4)
    np.testing.assert_allclose(other.null_scores, whole.null_scores, atol=1e-4)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_every_similarity_finds_what_is_planted(name: str) -> None:
    """Each unit answers to one concept; shuffled, at most 5 % of the labels are trusted."""
    planted = world(8, units=40, concepts=60, images=1200)
    images, concepts = planted.images, planted.concepts
    if name == "rank_reorder":  # wants cosines above 0, as CLIP's are
        images, concepts = (
            unit(np.column_stack([rows, np.ones(len(rows))])) for rows in (images, concepts)
        )
    for activations, least, most in (
        (planted.activations, 0.9, 1.0),
        (np.random.default_rng(1).permuted(planted.activations, axis=0), 0.0, 0.05),
    ):
        (layer,) = label_layers(
            [tops_of(activations, 60)],
            images,
            concepts,
            similarity=SIMILARITIES[name],
            matrices=[activations],
            null_draws=500,
        )
        right = layer.concept[:, 0] == planted.truth
        trusted = null_threshold([layer]).trusts(layer)
        assert least <= trusted.mean() <= most
        assert least <= (right & trusted).mean() <= most


# --- length of the top list ------------------------------------------------------------------


@given(st.integers(1, 200_000))
def test_automatic_top_stays_in_its_bounds_and_never_falls(images: int) -> None:
    top = SoftWPMI().top(images)
    assert 1 <= top <= min(100, images)
    assert top <= max(1, images // 5)
    assert SoftWPMI().top(images + 1) >= top


# --- the null distribution -------------------------------------------------------------------


def test_random_lists_are_distinct_images_evenly_drawn() -> None:
    lists = Null(4000, 1, []).lists(20, 5)
    assert lists.shape == (4000, 5)
    assert all(len(set(row)) == 5 for row in lists.tolist())
    counts = np.bincount(lists.ravel(), minlength=20)
    assert np.abs(counts / 1000 - 1).max() < 0.15
    first = np.bincount(lists[:, 0], minlength=20)
    assert np.abs(first / 200 - 1).max() < 0.35, "each rank sees every image"


@pytest.mark.parametrize("units", [8, 32, 256])
def test_p_values_of_units_that_mean_nothing_are_uniform(units: int) -> None:
    """Over seeds: as many below 0.2 as above 0.8, whether the layer has few units or many."""
    p = np.concatenate(
        [
            world(seed, units=units).labelled(shuffled=True, seed=seed).p_value
            for seed in range(max(2, 128 // units))
        ]
    )
    assert (p > 0).all()
    assert (p <= 1).all()
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        assert ((p > low) & (p <= high)).mean() == pytest.approx(high - low, abs=0.12)


def test_p_value_counts_the_null_scores_that_reach_the_units() -> None:
    layer = world(4).labelled(shuffled=True)
    reach = [(layer.null_scores >= score).sum() for score in layer.score[:, 0]]
    np.testing.assert_allclose(layer.p_value, (1 + np.array(reach)) / (1 + len(layer.null_scores)))


def test_the_only_unit_of_a_layer_cannot_stand_out() -> None:
    """It is its own prior: every list scores 0 in its place, and a tie counts as reached."""
    layer = world(0, units=1).labelled()
    assert layer.score[0, 0] == 0
    assert layer.p_value.tolist() == [1.0]


def test_without_draws_there_are_no_p_values_and_no_threshold() -> None:
    planted = world(0, units=4)
    (layer,) = label_layers(
        [tops_of(planted.activations, 10)], planted.images, planted.concepts, top=10, null_draws=0
    )
    assert np.isnan(layer.p_value).all()
    with pytest.raises(InputError, match="needs null draws"):
        null_threshold([layer])


# --- the threshold ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_keeps_what_is_planted_and_drops_what_is_not(seed: int) -> None:
    planted = world(seed)
    real, shuffled = planted.labelled(seed=seed), planted.labelled(shuffled=True, seed=seed)
    found = null_threshold([real])
    assert found.trusts(real).mean() >= 0.95
    assert found.fdr is not None
    assert found.fdr <= 0.05
    assert null_threshold([shuffled]).trusts(shuffled).mean() <= 0.05


def test_a_layer_of_few_units_can_be_trusted_too() -> None:
    """Its scores end at log 8, and so must the null's."""
    layer = world(0, units=8).labelled()
    assert null_threshold([layer]).trusts(layer).mean() >= 0.75


def hand_made(scores: list[float], null: list[float]) -> LayerLabels:
    """Labels of which only the scores and the null distribution matter; NaN for a dead unit."""
    score = np.full((len(scores), KEPT_LABELS), np.nan, dtype=np.float32)
    score[:, 0] = scores
    dead = np.isnan(score[:, 0])
    empty = np.zeros((len(scores), 0))
    return LayerLabels(
        "layer",
        np.where(np.isnan(score), -1, 0),
        score,
        np.full(len(scores), np.nan),
        dead,
        empty.astype(np.int64),
        empty,
        np.sort(np.array(null, dtype=np.float32)),
    )


def rate_at(layers: list[LayerLabels], cut: float) -> float:
    """The false-discovery rate at a cut, by the definition."""
    expected = passing = 0.0
    for layer in layers:
        own = [float(s) for s in layer.score[~layer.dead, 0]]
        above = sum(float(n) > cut for n in layer.null_scores)
        expected += len(own) * (1 + above) / (1 + len(layer.null_scores))
        passing += sum(s > cut for s in own)
    return expected / passing if passing else np.inf


scores_ = st.lists(
    st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.5, 1.5]), st.just(np.nan)),
    min_size=1,
    max_size=12,
)
nulls_ = st.lists(
    st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.5, 1.5])), min_size=1, max_size=30
)


@given(
    layers=st.lists(st.builds(hand_made, scores_, nulls_), min_size=1, max_size=3),
    fdr=st.sampled_from([0.05, 0.2, 0.5, 0.9]),
)
@settings(max_examples=200, deadline=None)
def test_threshold_is_the_lowest_cut_of_all_that_meets_the_rate(
    layers: list[LayerLabels], fdr: float
) -> None:
    threshold = null_threshold(layers, fdr=fdr)
    trusted = sum(int(threshold.trusts(layer).sum()) for layer in layers)
    own = sorted({float(s) for layer in layers for s in layer.score[~layer.dead, 0]})
    # A cut for every set of units that any cut lets through, the largest set first.
    cuts = [*(np.nextafter(score, -np.inf) for score in own[:1]), *own]
    meets = [cut for cut in cuts if rate_at(layers, cut) <= fdr]
    if not meets:
        assert trusted == 0
        assert threshold.fdr is None
        return
    assert threshold.fdr == pytest.approx(rate_at(layers, meets[0]))
    assert trusted == sum(float(s) > meets[0] for la in layers for s in la.score[~la.dead, 0])


def test_where_everything_passes_the_lowest_unit_does_too() -> None:
    """In float32 the cut just below the lowest score would be that score."""
    layer = hand_made([0.1, 0.2, 0.3], [-1.0] * 200)
    threshold = null_threshold([layer])
    assert threshold.trusts(layer).all()
    written = json.loads(json.dumps(threshold.to_json()))
    assert Threshold(written["value"], "null").trusts(layer).all()


def test_a_rate_that_is_just_met_is_met() -> None:
    layer = hand_made([1.0], [0.0] * 19)
    assert null_threshold([layer], fdr=1 / 20).fdr == 1 / 20


def test_where_nothing_passes_the_highest_score_is_the_cut() -> None:
    layer = hand_made([0.1, np.nan, 0.3], [5.0] * 200)
    threshold = null_threshold([layer], context={"vlm": "tiny"})
    assert threshold.value == pytest.approx(0.3)
    assert threshold.fdr is None
    assert not threshold.trusts(layer).any()
    assert threshold.context == {"vlm": "tiny"}


def test_where_every_unit_is_dead_no_rate_is_claimed() -> None:
    layer = hand_made([np.nan, np.nan], [])
    threshold = null_threshold([layer])
    assert threshold.fdr is None
    assert not threshold.trusts(layer).any()


def test_a_given_threshold_is_exceeded_not_reached() -> None:
    layer = hand_made([0.5, 0.75, np.nan], [0.0])
    assert Threshold(0.5, "given").trusts(layer).tolist() == [False, True, False]


def test_null_tail_counts_one_more_than_was_drawn() -> None:
    tail = null_tail(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.0, 2.0, 3.0]))
    np.testing.assert_allclose(tail, [5 / 5, 2 / 5, 1 / 5])


# --- units that are silent on most images ----------------------------------------------------


def colors(order: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A hundred images of five colours, in some order, and a layer of ReLU units.

    Units 0 to 4 see a colour on twenty images each. Unit 5 sees colour 0 on four images alone,
    unit 6 on two, unit 7 never; unit 8 is at 6, its highest, on sixty images.
    """
    rng = np.random.default_rng(5)
    color = np.repeat(np.arange(5), 20)
    words = np.eye(8)[:6]
    images = unit(words[color] + 0.02 * rng.normal(size=(100, 8)))
    activations = np.zeros((100, 9))
    for k in range(5):
        activations[color == k, k] = rng.uniform(1, 2, 20)
    activations[[3, 7, 11, 15], 5] = [1, 2, 3, 4]
    activations[[3, 7], 6] = [1, 2]
    activations[:, 8] = np.where(color < 3, 6.0, rng.uniform(0, 1, 100))
    return images[order], words, activations[order].astype(np.float32)


@pytest.mark.parametrize("name", ["soft-wpmi", "wpmi", "rank_reorder"])
def test_the_order_of_the_files_does_not_decide_what_a_silent_unit_is_called(name: str) -> None:
    found = []
    orders = [np.arange(100), np.arange(100)[::-1], np.random.default_rng(1).permutation(100)]
    for order in orders:
        images, words, activations = colors(order)
        (layer,) = label_layers(
            [tops_of(activations[:, :8], 100)], images, words, similarity=SIMILARITIES[name], top=20
        )
        assert layer.dead.tolist() == [False] * 6 + [True, True]
        shown = [order[row[row >= 0]].tolist() for row in layer.top_images[:6]]
        assert [len(row) for row in shown] == [20] * 5 + [4]
        assert shown[5] == [15, 11, 7, 3]
        found.append(layer)
    for layer in found:
        if name != "rank_reorder":  # which asks for an order among the images of a colour
            assert layer.concept[:5, 0].tolist() == [0, 1, 2, 3, 4]
            # Four images of twenty: the prior, which knows unit 0, leaves them no say.
            assert not null_threshold([layer]).trusts(layer)[5]
        np.testing.assert_allclose(layer.score[:6], found[0].score[:6], atol=1e-4)
        np.testing.assert_array_equal(layer.concept[:6, 0], found[0].concept[:6, 0])


def test_a_unit_that_is_mostly_silent_is_not_trusted_for_one_image_more_than_chance() -> None:
    """Random images move forty units, three each: of a list of ten, that is no evidence."""
    rng = np.random.default_rng(3)
    words = unit(rng.normal(size=(200, 16)))
    images = unit(words[np.arange(1000) % 200] + 0.15 * rng.normal(size=(1000, 16)))
    activations = np.zeros((1000, 40), dtype=np.float32)
    for k in range(40):
        activations[rng.choice(1000, 3, replace=False), k] = [1, 2, 3]
    for similarity in (SIMILARITIES["soft-wpmi"], SIMILARITIES["wpmi"]):
        (layer,) = label_layers(
            [tops_of(activations, 100)], images, words, similarity=similarity, top=10,
            null_draws=500,
        )  # fmt: skip
        assert not layer.dead.any()
        assert null_threshold([layer]).trusts(layer).sum() <= 2


def test_the_only_lowest_image_is_no_tie() -> None:
    """A list as long as the probe set holds every image, the lowest too."""
    tops = tops_of(np.array([[3.0, 0], [2, 0], [1, 1]]), 3)
    assert tops.listed(3, 3).tolist() == [3, 1]
    assert tops.listed(2, 3).tolist() == [2, 1]


def test_units_that_share_their_highest_activation_are_found() -> None:
    *_, activations = colors(np.arange(100))
    tops = tops_of(activations, 100)
    assert np.flatnonzero(tops.saturated(20)).tolist() == [8]
    assert not tops.saturated(60).any()


def test_lists_that_activations_do_not_decide_are_spoken_of() -> None:
    *_, activations = colors(np.arange(100))
    silent, saturated = list_warnings([tops_of(activations, 100, "relu")], 20, 100)
    assert silent.startswith("some units are silent")
    assert silent.endswith("their top lists hold only the others: relu (1)")
    assert saturated.endswith("depend on the order of the files: relu (1)")
    assert list_warnings([tops_of(activations[:, :5], 100)], 20, 100) == []
