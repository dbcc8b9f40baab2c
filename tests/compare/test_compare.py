"""Whole comparisons: a run against itself, against copies, and verdicts worked out by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from comparisons_by_hand import CUT, SORTING, WORDS, labelled, run, steady
from scipy.stats import false_discovery_control

from profiler.compare.counts import draw_kinds
from profiler.compare.draws import label_draws
from profiler.compare.noise import Floor
from profiler.compare.pairs import _verdict, compare
from profiler.compare.result import INTERPRETABLE, Comparison, LayerDraws, ShareChange
from profiler.compare.runs import SortedWords, compared_run
from profiler.compare.scoring import label_together
from profiler.compare.words import words_in
from profiler.core.arrays import FloatArray, IntArray
from profiler.errors import InputError
from profiler.profile.evaluation import top_lists
from profiler.profile.labels import KEPT_LABELS, LayerLabels, label_layers
from profiler.profile.similarity.base import Similarity
from profiler.profile.similarity.choose import SIMILARITIES
from profiler.profile.threshold import Threshold

every_similarity = pytest.mark.parametrize("similarity", SIMILARITIES.values(), ids=SIMILARITIES)


# --- runs written by hand --------------------------------------------------------------------


def share(comparison: Comparison, category: str, layer: int = 0) -> ShareChange:
    shares = comparison.pairs[0].layers[layer].shares
    return next(each for each in shares if each.category == category)


def test_shares_by_hand() -> None:
    before = run("a", {"fc": ["red"] * 6 + ["cat"] * 3 + [None]})
    after = run("b", {"fc": ["cat"] * 9 + [None]})
    found = compare([before, after], None, SORTING)
    (layer,) = found.pairs[0].layers
    assert [each.category for each in layer.shares] == [
        "color", "object", "scene", INTERPRETABLE, "uninterpretable", "dead",
    ]  # fmt: skip
    color = share(found, "color")
    assert (color.before, color.after, color.difference) == (6, 0, -0.6)
    # Six units left the category and none came: 2 / 2⁶. Of six p-values, two are that small.
    assert color.p_value == pytest.approx(1 / 32)
    assert color.q_value == pytest.approx(6 / 2 / 32)
    assert share(found, "dead").p_value == share(found, INTERPRETABLE).p_value == 1
    assert np.isnan(color.noise)
    assert color.verdict == "none"
    assert found.draws == 0
    assert layer.matching is not None
    assert layer.matching.rule == "index"
    assert (layer.kept_share, int(layer.both_trusted.sum())) == (3 / 9, 9)
    # red: 6/10 → 0, cat: 3/10 → 9/10, dead 1/10 both.
    expected = (0.6 * 1 + 0.3 * np.log2(0.3 / 0.6) + 0.9 * np.log2(0.9 / 0.6)) / 2
    assert layer.divergence == pytest.approx(expected)
    assert [(each.concept, each.before, each.after) for each in layer.lost] == [(0, 6, 0)]
    assert layer.gained == ()
    assert before.profile.layers[0].counts == {"color": 6, "object": 3, "scene": 0}


def test_units_that_are_not_trusted_count_nowhere_but_there() -> None:
    labels = [labelled("fc", ["red", "cat", None], weak=[1])]
    own = compared_run("a", labels, CUT, SORTING)
    assert own.layers[0].categories == ("color", None, None)
    found = compare([own, run("b", {"fc": ["red", "cat", None]})], None, SORTING)
    assert share(found, "uninterpretable").before == 1
    assert [each.concept for each in found.pairs[0].layers[0].gained] == [2]
    assert found.pairs[0].layers[0].kept.tolist() == [True, False, False]


def test_layers_of_different_size_are_compared_unmatched() -> None:
    found = compare([run("a", {"fc": ["red"] * 3}), run("b", {"fc": ["cat"] * 4})], None, SORTING)
    (layer,) = found.pairs[0].layers
    assert layer.matching is None
    assert len(layer.kept) == 0
    assert np.isnan(layer.kept_share)
    assert share(found, "color").p_value == pytest.approx(2 / 35)  # 3 of 7 in one way only


def test_words_that_move_between_layers() -> None:
    before = run("a", {"one": ["red", "cat"], "two": ["dog", "red"], "old": ["beach"]})
    after = run("b", {"one": ["red", "dog"], "two": ["cat", "cat"], "new": ["beach"]})
    (pair,) = compare([before, after], None, SORTING).pairs
    assert [layer.layer for layer in pair.layers] == ["one", "two"]
    assert (pair.only_before, pair.only_after) == (("old",), ("new",))
    assert [(each.concept, each.before, each.after) for each in pair.moved] == [
        (2, {"one": 1}, {"two": 2}),
        (3, {"two": 1}, {"one": 1}),
    ]
    assert all(each.beyond_noise is None for each in pair.moved)


def test_gained_and_lost_hold_in_nearly_every_draw() -> None:
    layers = {"before": ["red", "cat"], "after": ["dog", "cat"]}
    flickering = steady(layers["before"])
    flickering.concept[:2, 0] = 3  # "dog" in two draws of twenty
    for drawn, beyond in ((steady(layers["before"]), True), (flickering, False)):
        before = run("a", {"fc": layers["before"]}, [drawn])
        after = run("b", {"fc": layers["after"]}, [steady(layers["after"])])
        (layer,) = compare([before, after], None, SORTING).pairs[0].layers
        assert [(each.concept, each.beyond_noise) for each in layer.gained] == [(3, beyond)]
        assert [(each.concept, each.beyond_noise) for each in layer.lost] == [(0, beyond)]


def test_moves_hold_in_nearly_every_draw() -> None:
    here, there = {"one": ["red"], "two": ["cat"]}, {"one": ["cat"], "two": ["red"]}
    drawn = [steady(units) for units in here.values()]
    then = [steady(units) for units in there.values()]
    for flicker, beyond in ((0, True), (1, True), (2, False)):
        drawn[1].concept[:flicker, 0] = 0
        pairs = compare([run("a", here, drawn), run("b", there, then)], None, SORTING).pairs
        assert [(each.concept, each.beyond_noise) for each in pairs[0].moved] == [
            (0, beyond), (2, beyond),
        ]  # fmt: skip


def test_the_floor_by_hand() -> None:
    # Four units on three draws: 2, 1 and 0 of them red; the third draw kills one.
    concept = np.array([[0, 0, 2, 2], [0, 2, 2, 2], [-1, 2, 2, 2]])
    draws = LayerDraws(concept, concept >= 0)
    kinds = draw_kinds(draws, SORTING.categories, WORDS, SORTING.category_of)
    np.testing.assert_array_equal(kinds, [[0, 0, 1, 1], [0, 1, 1, 1], [4, 1, 1, 1]])
    floor = Floor.of(draws, kinds, 3)
    # Differences of the share of colours: ¼, ½, ¼; their 95th percentile lies at 1.9 of 2 steps.
    assert floor.shares[0] == pytest.approx(0.25 + 0.9 * 0.25)
    assert floor.shares[2] == 0
    # Kept: 3 of 4, 2 of 3, 3 of 3; the 5th percentile lies a tenth of the way up.
    assert floor.kept == pytest.approx(2 / 3 + 0.1 * (3 / 4 - 2 / 3))
    wide = floor.join(Floor(np.full(6, 0.3), 0.0, 0.5))
    assert wide.shares[2] == 0.3
    assert wide.kept == 0.5
    assert np.isnan(floor.join(Floor.of(None, None, 3)).shares).all()


@pytest.mark.parametrize(
    ("after", "q", "noise", "verdict"),
    [
        (9, 0.01, 0.2, "changed"),
        (9, 0.01, 0.6, "noise"),
        (9, 0.01, 0.5, "noise"),
        (9, 0.30, 0.2, "none"),
        (9, 0.01, np.nan, "unknown"),
        (9, 0.30, np.nan, "none"),
        (4, 1.00, 0.0, "noise"),
    ],
)
def test_verdicts(after: int, q: float, noise: float, verdict: str) -> None:
    change = ShareChange("color", 4, 10, after, 10, -1, 1, 0.0, q, noise, "none")
    assert _verdict(change) == verdict


def test_all_pairs_are_judged_together() -> None:
    runs = [
        run("a", {"fc": ["red"] * 9 + ["cat"] * 5}),
        run("b", {"fc": ["cat"] * 14}),
        run("c", {"fc": ["red"] * 4 + ["dog"] * 10}),
    ]
    for timeline, expected in ((False, [(0, 1), (0, 2)]), (True, [(0, 1), (1, 2), (0, 2)])):
        found = compare(runs, None, SORTING, timeline=timeline)
        assert [(pair.before, pair.after) for pair in found.pairs] == expected
        shares = [each for pair in found.pairs for layer in pair.layers for each in layer.shares]
        p_values = [each.p_value for each in shares]
        np.testing.assert_allclose(
            [each.q_value for each in shares], false_discovery_control(p_values)
        )
        assert "unknown" in {each.verdict for each in shares}
        # By hand: sorted p-values times their number over their rank, made monotone from the top.
        ranked = sorted(p_values)
        by_hand = [
            min(p * len(ranked) / (i + 1) for i, p in enumerate(ranked) if p >= own)
            for own in p_values
        ]
        np.testing.assert_allclose([each.q_value for each in shares], np.minimum(by_hand, 1))


def test_no_layer_in_common() -> None:
    (pair,) = compare([run("a", {"one": ["red"]}), run("b", {"two": ["red"]})], None, SORTING).pairs
    assert (pair.layers, pair.moved, pair.cka) == ((), (), None)


# --- runs that were labelled -----------------------------------------------------------------

IMAGES, CONCEPTS = 400, 30
NAMES = ("early", "late")
MANY = tuple(f"word{i}" for i in range(CONCEPTS))
MANY_SORTED = SortedWords(
    MANY, ("color", "object"), {word: ("color", "object")[i % 2] for i, word in enumerate(MANY)}
)


class World:
    """Units that respond to concepts, with noise; one is dead."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.concepts = unit(rng.normal(size=(CONCEPTS, 12)))
        shown = self.concepts[rng.integers(CONCEPTS, size=IMAGES)]
        self.images = unit(shown + 0.2 * rng.normal(size=shown.shape))
        self.matrices = []
        for units in (12, 20):
            truth = rng.integers(CONCEPTS, size=units)
            matrix = self.images @ self.concepts[truth].T + 0.2 * rng.normal(size=(IMAGES, units))
            matrix[:, -1] = 1
            self.matrices.append(matrix.astype(np.float32))

    def labels(
        self, runs: Sequence[Sequence[FloatArray]], similarity: Similarity, draws: int = 50
    ) -> list[list[LayerLabels]]:
        length = similarity.top(IMAGES) or 1
        tops = [[top_lists(*each, length) for each in zip(NAMES, own, strict=True)] for own in runs]
        return label_together(tops, self.images, self.concepts, similarity=similarity,
                              matrices=runs, null_draws=draws, seed=3)  # fmt: skip


def unit(rows: FloatArray) -> FloatArray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def same_labels(one: LayerLabels, other: LayerLabels, order: IntArray | None = None) -> None:
    for name, values in vars(one).items():
        there = getattr(other, name)
        if order is not None and name not in ("layer", "null_scores"):
            values = values[order]
        np.testing.assert_array_equal(values, there, err_msg=name)


@every_similarity
def test_a_run_labelled_alone_is_labelled_as_ever(world: World, similarity: Similarity) -> None:
    (found,) = world.labels([world.matrices], similarity)
    expected = label_layers(
        [top_lists(*each, similarity.top(IMAGES) or 1)
         for each in zip(NAMES, world.matrices, strict=True)],
        world.images, world.concepts, similarity=similarity, matrices=world.matrices,
        null_draws=50, seed=3,
    )  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        same_labels(one, other)


@every_similarity
def test_copies_are_labelled_alike(world: World, similarity: Similarity) -> None:
    order = np.random.default_rng(0).permutation(20)
    mixed = [world.matrices[0], np.ascontiguousarray(world.matrices[1][:, order])]
    one, other, turned = world.labels([world.matrices, world.matrices, mixed], similarity)
    for first, second in zip(one, other, strict=True):
        same_labels(first, second)
    np.testing.assert_array_equal(one[1].concept[order], turned[1].concept)
    np.testing.assert_array_equal(one[1].dead[order], turned[1].dead)


def test_other_units_of_the_layer_do_not_change_a_label() -> None:
    # The later run has lost all units of a concept. Scored by itself its prior would be another.
    world = World(1)
    similarity = SIMILARITIES["soft-wpmi"]
    fewer = [world.matrices[0], world.matrices[1].copy()]
    fewer[1][:, :8] = 0
    one, other = world.labels([world.matrices, fewer], similarity)
    same_labels(
        *(LayerLabels("late", *[value[8:] for name, value in vars(run[1]).items()
                                if name not in ("layer", "null_scores")], run[1].null_scores)
          for run in (one, other))
    )  # fmt: skip
    (alone,) = world.labels([fewer], similarity)
    assert (alone[1].score[8:-1, 0] != other[1].score[8:-1, 0]).any()


def whole(
    world: World, runs: Sequence[Sequence[FloatArray]], draws: int = 4, cut: float = 1.5
) -> Comparison:
    """As the program goes about it."""
    similarity = SIMILARITIES["soft-wpmi"]
    cuts = [Threshold(cut, "given")] * len(runs)
    labels = world.labels(runs, similarity)
    drawn = label_draws([NAMES] * len(runs), runs, world.images, world.concepts, cuts,
                        draws=draws, seed=5)  # fmt: skip
    assert words_in(labels, cuts) == words_in(labels, cuts, drawn)[: len(words_in(labels, cuts))]
    entered = [
        compared_run(f"run{i}", own, one, MANY_SORTED, draw)
        for i, (own, one, draw) in enumerate(zip(labels, cuts, drawn, strict=True))
    ]
    return compare(entered, runs, MANY_SORTED)


def test_a_run_against_itself_differs_in_nothing(world: World) -> None:
    found = whole(world, [world.matrices, [matrix.copy() for matrix in world.matrices]])
    (pair,) = found.pairs
    assert found.draws == 4
    for layer in pair.layers:
        assert layer.divergence == 0
        assert layer.kept_share == 1
        assert layer.gained == layer.lost == ()
        assert layer.matching is not None
        assert layer.matching.rule == "index"
        assert layer.matching.mean == pytest.approx(1, abs=1e-12)
        for each in layer.shares:
            assert each.difference == 0
            assert (each.p_value, each.q_value, each.verdict) == (1, 1, "noise")
            assert each.low <= 0 <= each.high
        assert 0 < layer.divergence_noise < 1
    assert pair.moved == ()
    assert pair.cka is not None
    np.testing.assert_allclose(np.diagonal(pair.cka), 1, atol=1e-12)
    np.testing.assert_allclose(pair.cka, pair.cka.T, atol=1e-12)


def test_a_copy_with_permuted_units_differs_in_nothing_but_numbers(world: World) -> None:
    order = np.random.default_rng(7).permutation(20)
    copy = [world.matrices[0], world.matrices[1][:, order]]
    (pair,) = whole(world, [world.matrices, copy]).pairs
    (plain,) = whole(world, [world.matrices, world.matrices]).pairs
    early, late = pair.layers
    assert early.matching is not None
    assert late.matching is not None
    assert (early.matching.rule, late.matching.rule) == ("index", "hungarian")
    np.testing.assert_array_equal(order[late.matching.after], late.matching.before)
    for layer, unmoved in zip(pair.layers, plain.layers, strict=True):
        assert layer.kept_share == 1
        assert layer.both_trusted.any()
        for each, expected in zip(layer.shares, unmoved.shares, strict=True):
            assert each.p_value == 1
            # Shares are compared partner by partner, so the interval is as short as of no change.
            assert (each.low, each.high) == (expected.low, expected.high)
    assert pair.cka is not None
    np.testing.assert_allclose(np.diagonal(pair.cka), 1, atol=1e-12)


def test_the_first_draws_are_those_of_fewer(world: World) -> None:
    cuts = [Threshold(1.5, "given")]
    few, more = (
        label_draws([NAMES], [world.matrices], world.images, world.concepts, cuts, draws=n)[0]
        for n in (2, 3)
    )
    for one, other in zip(few, more, strict=True):
        np.testing.assert_array_equal(one.concept, other.concept[:2])
        np.testing.assert_array_equal(one.trusted, other.trusted[:2])
        assert (one.concept[:, -1] == -1).all()
        assert not one.trusted[:, -1].any()
    with pytest.raises(InputError, match="at least two draws"):
        label_draws([NAMES], [world.matrices], world.images, world.concepts, cuts, draws=1)


def test_two_draws_of_one_run_raise_no_alarm(world: World) -> None:
    cuts = [Threshold(1.5, "given")]
    floor, pairs = 12, 20
    (layers,) = label_draws([NAMES], [world.matrices], world.images, world.concepts, cuts,
                            draws=floor + 2 * pairs)  # fmt: skip
    raised = 0
    for i in range(pairs):
        runs = []
        for draw in (floor + 2 * i, floor + 2 * i + 1):
            labels = [as_labels(name, own, draw) for name, own in zip(NAMES, layers, strict=True)]
            rest = [LayerDraws(own.concept[:floor], own.trusted[:floor]) for own in layers]
            runs.append(compared_run(str(draw), labels, CUT, MANY_SORTED, rest))
        (pair,) = compare(runs, None, MANY_SORTED).pairs
        assert any(each.difference for layer in pair.layers for each in layer.shares) or i
        raised += any(layer.changed for layer in pair.layers)
    assert raised <= 1


def as_labels(layer: str, draws: LayerDraws, draw: int) -> LayerLabels:
    """One draw in the place of a run."""
    concept = np.repeat(draws.concept[draw][:, None], KEPT_LABELS, axis=1)
    score = np.repeat(draws.trusted[draw][:, None].astype(float), KEPT_LABELS, axis=1)
    nothing = np.zeros((len(concept), 0))
    return LayerLabels(layer, concept, score, score[:, 0], draws.concept[draw] < 0,
                       nothing.astype(np.int64), nothing, np.zeros(0))  # fmt: skip


def test_before_and_after_may_change_places(world: World) -> None:
    changed = [world.matrices[0], np.roll(world.matrices[1], 30, axis=0)]
    (there,) = whole(world, [world.matrices, changed]).pairs
    (back,) = whole(world, [changed, world.matrices]).pairs
    for one, other in zip(there.layers, back.layers, strict=True):
        assert one.divergence == pytest.approx(other.divergence)
        assert {each.concept for each in one.gained} == {each.concept for each in other.lost}
        for each, turned in zip(one.shares, other.shares, strict=True):
            assert each.difference == pytest.approx(-turned.difference)
            assert (each.p_value, each.noise) == pytest.approx((turned.p_value, turned.noise))
            assert (each.low, each.high) == pytest.approx((-turned.high, -turned.low))
    assert there.cka is not None
    assert back.cka is not None
    np.testing.assert_allclose(there.cka, back.cka.T, atol=1e-12)


def test_pruned_units_of_a_category_are_found_there_and_not_before(world: World) -> None:
    similarity = SIMILARITIES["soft-wpmi"]
    rng = np.random.default_rng(0)
    many = np.tile(world.matrices[1][:, :-1], 4) + 0.05 * rng.normal(size=(IMAGES, 76))
    own = [world.matrices[0], many.astype(np.float32)]
    (labels,) = world.labels([own], similarity)
    concept, score = labels[1].concept[:, 0], labels[1].score[:, 0]
    colors = np.flatnonzero((concept % 2 == 0) & (score > 1.5))
    assert len(colors) > 12
    fewer = [own[0], own[1].copy()]
    fewer[1][:, colors] = 0
    early, late = whole(world, [own, fewer], draws=8).pairs[0].layers
    assert early.changed == ()
    assert early.kept_share == 1
    (color,) = (each for each in late.changed if each.category == "color")
    assert color.after - color.before == -len(colors)
    assert "object" not in {each.category for each in late.changed}
