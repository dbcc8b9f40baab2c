"""Soft-WPMI against the formula written out, and the properties the rest of the code rests on."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import hypergeom

from profiler.core.arrays import FloatArray, IntArray
from profiler.errors import InputError
from profiler.profile.similarity import base, pmi
from profiler.profile.similarity.base import Null, Similarity, Units
from profiler.profile.similarity.cosine import Cosine, CosineCubed
from profiler.profile.similarity.enrichment import Enrichment
from profiler.profile.similarity.pmi import WPMI, ConceptProbabilities, Prior, SoftWPMI
from profiler.profile.similarity.rank import RankReorder


def unit_rows(count: int, width: int = 8, seed: int = 0) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_lists(images: int, length: int, draws: int, seed: int) -> IntArray:
    return Null(draws, seed, []).lists(images, length)


def probabilities(images: FloatArray, concepts: FloatArray, temperature: float) -> FloatArray:
    """Q in one piece, as only a test may hold it."""
    made = ConceptProbabilities(images, np.arange(len(images)), concepts, temperature)
    return np.concatenate(
        [np.concatenate([q for _, q in pieces]) for _, pieces in made.blocks()], axis=1
    )


@pytest.mark.parametrize("room", [0, 200, 2**30])
def test_exponentials_that_are_kept_are_those_computed_again(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, concepts = unit_rows(13), unit_rows(23, seed=1)
    wanted = probabilities(images, concepts, 10.0)
    monkeypatch.setattr(pmi, "KEPT_BYTES", room)
    monkeypatch.setattr(base, "CONCEPT_BLOCK", 7)
    monkeypatch.setattr(base, "ROW_CHUNK", 5)
    found = ConceptProbabilities(images, np.arange(13), concepts, 10.0)
    # Of 3 chunks of images times 4 blocks of concepts; the last block has 2 concepts, the others 7.
    kept = {0: 0, 200: 2, 2**30: 12}[room]
    assert len(found._kept) == kept
    pieces = [np.concatenate([q for _, q in each]) for _, each in found.blocks()]
    assert np.concatenate(pieces, axis=1) == pytest.approx(wanted, rel=1e-6)
    again = ConceptProbabilities(images, np.arange(13), concepts, 10.0)
    again._kept.clear()
    for one, (_, other) in zip(pieces, again.blocks(), strict=True):
        assert np.array_equal(one, np.concatenate([q for _, q in other]))


def fast_evidence(q: FloatArray, top: IntArray, constants: SoftWPMI | WPMI) -> NDArray[np.float32]:
    pieces = iter([(0, np.ascontiguousarray(q, dtype=np.float32))])
    found, _ = constants.evidence(pieces, [top], np.empty((0, 0), dtype=np.int64))
    return found


def plain_formula(
    images: FloatArray, concepts: FloatArray, top: IntArray, constants: SoftWPMI
) -> tuple[FloatArray, FloatArray]:
    """L and the scores by the docstring of :mod:`.similarity`, in float64, in loops."""
    units, length = top.shape
    powers = np.exp(constants.temperature * (images @ concepts.T))
    q = powers / powers.sum(axis=1, keepdims=True)
    evidence = np.zeros((units, len(concepts)))
    for k in range(units):
        for m in range(len(concepts)):
            for r in range(length):
                slope = (constants.first_weight - constants.last_weight) / length
                weight = constants.first_weight - r * slope
                factor = 1 + weight * (q[top[k, r], m] - 1) + constants.epsilon
                evidence[k, m] += math.log(factor)
    prior = np.log(np.exp(evidence - evidence.max(axis=0)).sum(axis=0)) + evidence.max(axis=0)
    return evidence, evidence - constants.prior_weight * (prior - math.log(units))


def scores(
    similarity: Similarity,
    images: FloatArray,
    concepts: FloatArray,
    activations: FloatArray,
    length: int,
) -> FloatArray:
    """All scores (K, M) of one layer's units, by the one signature."""
    top = np.argsort(-activations, axis=0, kind="stable")[:length].T
    units = Units(
        top,
        np.take_along_axis(activations.T, top, axis=1),
        activations,
        np.arange(len(top)),
        np.full(len(top), length),
    )
    found = np.full((len(top), len(concepts)), np.nan)
    null = Null(3, 0, [np.full(3, -np.inf, dtype=np.float32)])
    for tile in similarity.score([units], images, concepts, null):
        k, m = tile.scores.shape
        found[tile.unit : tile.unit + k, tile.concept : tile.concept + m] = tile.scores
    return found


def whole_lists(top: IntArray) -> Units:
    """Units whose lists are evidence to the end."""
    units, length = top.shape
    return Units(top, np.zeros(top.shape), None, np.arange(units), np.full(units, length))


def scores_in_blocks(
    images: FloatArray, concepts: FloatArray, top: IntArray, constants: SoftWPMI | WPMI
) -> FloatArray:
    units = whole_lists(top)
    null = Null(0, 0, [np.empty(0, dtype=np.float32)])
    tiles = list(constants.score([units], images, concepts, null))
    return np.concatenate([tile.scores for tile in tiles], axis=1)


# Lengths on both sides of 12 and its multiples, where products are renormalised; numbers of
# concepts on both sides of 512, the size of a block.
@pytest.mark.parametrize(
    ("units", "concepts", "length"),
    [
        (1, 1, 1),
        (3, 7, 2),
        (5, 40, 11),
        (5, 40, 12),
        (5, 40, 13),
        (4, 60, 24),
        (4, 60, 25),
        (3, 511, 10),
        (3, 512, 10),
        (3, 513, 10),
        (2, 1100, 30),
        (3, 90, 100),
        (3, 90, 130),
    ],
)
def test_agrees_with_the_formula_in_loops(units: int, concepts: int, length: int) -> None:
    images, words = unit_rows(140, seed=1), unit_rows(concepts, seed=2)
    top = random_lists(len(images), length, units, seed=units + length)
    constants = SoftWPMI()
    wanted_evidence, wanted = plain_formula(images, words, top, constants)
    q = probabilities(images, words, constants.temperature)
    np.testing.assert_allclose(fast_evidence(q, top, constants), wanted_evidence, atol=1e-4)
    got = scores_in_blocks(images, words, top, constants)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    if units > 1:  # a unit alone in its layer scores 0 throughout
        np.testing.assert_array_equal(got.argmax(axis=1), wanted.argmax(axis=1))


@pytest.mark.parametrize(
    "constants",
    [
        SoftWPMI(temperature=2, prior_weight=0.6),
        SoftWPMI(temperature=40),
        SoftWPMI(prior_weight=0),
        SoftWPMI(first_weight=0.9, last_weight=0.2),
        SoftWPMI(first_weight=0.1, last_weight=0.99),
        SoftWPMI(first_weight=1, last_weight=1),
    ],
    ids=["wpmi-like", "sharp", "no-prior", "light", "rising", "hard"],
)
def test_agrees_with_the_formula_for_other_constants(constants: SoftWPMI) -> None:
    images, words = unit_rows(50, seed=3), unit_rows(70, seed=4)
    top = random_lists(50, 20, 6, seed=5)
    _, wanted = plain_formula(images, words, top, constants)
    got = scores_in_blocks(images, words, top, constants)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    # Where two concepts tie to within rounding, either may be the label.
    chosen = np.take_along_axis(wanted, got.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(chosen, wanted.max(axis=1), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-8, 1.0])
@pytest.mark.parametrize("length", [1, 12, 13, 130])
def test_probabilities_at_the_floor_and_at_the_ceiling(value: float, length: int) -> None:
    """Where no image shows the concept, each factor is 1 − π + ε: small, but never 0."""
    constants = SoftWPMI()
    q = np.full((length, 2), value, dtype=np.float32)
    got = fast_evidence(q, np.arange(length)[None], constants)
    factors = 1 + constants.rank_weights(length) * (value - 1) + constants.epsilon
    np.testing.assert_allclose(got, np.full((1, 2), np.log(factors).sum()), rtol=1e-6, atol=1e-4)


@given(
    q=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_evidence_of_any_probabilities(q: list[float], order: Any) -> None:
    """Any Q whatever, in any order of ranks, agrees with a sum of logarithms."""
    constants = SoftWPMI()
    ranks = list(range(len(q)))
    order.shuffle(ranks)
    weights = constants.rank_weights(len(q))
    wanted = sum(
        math.log(1 + w * (q[i] - 1) + constants.epsilon)
        for w, i in zip(weights, ranks, strict=True)
    )
    got = fast_evidence(np.array(q, dtype=np.float32)[:, None], np.array([ranks]), constants)
    assert got[0, 0] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("weights", [(1.1, 0.97), (0.998, 1.01), (-0.1, 0.9), (0.9, -0.1)])
def test_weights_that_are_none_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="rank weights must lie between"):
        SoftWPMI(first_weight=weights[0], last_weight=weights[1])


@pytest.mark.parametrize("temperature", [-1.0, 100.0, math.nan])
def test_temperatures_whose_exponentials_leave_float32_are_refused(temperature: float) -> None:
    """At a = 100 an image that resembles no concept would have a normaliser of 0."""
    with pytest.raises(ValueError, match="temperature must lie between"):
        SoftWPMI(temperature=temperature)


def test_rank_weights_fall_from_first_to_almost_last() -> None:
    weights = SoftWPMI().rank_weights(100)
    assert weights[0] == 0.998
    assert weights[-1] == pytest.approx(0.97 + 0.028 / 100)
    assert (np.diff(weights) < 0).all()


# --- the softmax over concepts ---------------------------------------------------------------


@pytest.mark.parametrize("concepts", [1, 5, 512, 1025])
@pytest.mark.parametrize("temperature", [0.0, 10.0, 40.0])
def test_probabilities_of_an_image_add_up_to_one(concepts: int, temperature: float) -> None:
    images = unit_rows(20, seed=6)
    words = np.concatenate([images[:1], -images[:1], unit_rows(1025, seed=7)])[:concepts]
    q = probabilities(images, words, temperature)
    assert q.shape == (20, concepts)
    np.testing.assert_allclose(q.sum(axis=1, dtype=np.float64), 1, atol=1e-5)
    assert (q >= 0).all()


@pytest.mark.parametrize("block", [5, 64, 300, 4096])
def test_the_size_of_the_blocks_changes_nothing(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, words = unit_rows(30, seed=8), unit_rows(300, seed=9)
    top = random_lists(30, 14, 9, seed=1)
    usual = scores_in_blocks(images, words, top, SoftWPMI())
    monkeypatch.setattr(base, "CONCEPT_BLOCK", block)
    other = scores_in_blocks(images, words, top, SoftWPMI())
    np.testing.assert_allclose(other, usual, atol=3e-5)
    np.testing.assert_array_equal(other.argmax(axis=1), usual.argmax(axis=1))


@pytest.mark.parametrize("where", ["images", "concepts"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_no_numbers_are_refused(where: str, value: float) -> None:
    """Taken apart bit by bit, a NaN would come out of the logarithm as a plausible number."""
    rows = {"images": unit_rows(4), "concepts": unit_rows(600)}
    rows[where][-1, 0] = value
    with pytest.raises(InputError, match="NaN or infinite"), np.errstate(invalid="ignore"):
        probabilities(rows["images"], rows["concepts"], 10.0)


# --- the prior -------------------------------------------------------------------------------


def layer_evidence(units: int = 17, concepts: int = 60) -> FloatArray:
    q = probabilities(unit_rows(80, seed=3), unit_rows(concepts, seed=4), 10.0)
    return fast_evidence(q, random_lists(80, 10, units, seed=2), SoftWPMI())


def test_prior_is_the_same_for_the_units_in_any_order() -> None:
    layer = layer_evidence()
    prior = Prior.of(layer)
    order = np.random.default_rng(0).permutation(len(layer))
    shuffled = Prior.of(layer[order])
    np.testing.assert_array_equal(shuffled.log_sum, prior.log_sum)
    np.testing.assert_array_equal(shuffled.score(layer[order], 1.0), prior.score(layer, 1.0)[order])


def test_units_scored_in_parts_score_as_in_the_whole() -> None:
    """The prior is the layer's; which units are then looked at does not matter."""
    layer = layer_evidence()
    prior = Prior.of(layer)
    whole = prior.score(layer, 1.0)
    parts = [prior.score(layer[i : i + 5], 1.0) for i in range(0, len(layer), 5)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    alone = Prior.of(layer[:5]).score(layer[:5], 1.0)
    assert np.abs(alone - whole[:5]).max() > 0.01, "a part scored by its own prior would differ"


@pytest.mark.parametrize("units", [1, 2, 17])
def test_no_unit_scores_above_the_log_of_their_number(units: int) -> None:
    layer = layer_evidence(units)
    assert Prior.of(layer).score(layer, 1.0).max() <= math.log(units) + 1e-5


def test_a_concept_that_suits_all_units_alike_scores_nothing() -> None:
    layer = np.full((6, 3), -200.0, dtype=np.float32)
    np.testing.assert_allclose(Prior.of(layer).score(layer, 1.0), 0, atol=1e-5)


def test_prior_of_evidence_beyond_the_range_of_exp() -> None:
    """Evidence of −1000 would vanish if it were exponentiated as it stands."""
    layer = np.array([[-1000.0], [-1001.0]], dtype=np.float32)
    score = Prior.of(layer).score(layer, 1.0)
    log_mean = math.log((1 + math.exp(-1)) / 2)
    np.testing.assert_allclose(score[:, 0], [-log_mean, -1 - log_mean], rtol=1e-4)


def guest_scores(prior: Prior, guests: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R, B): each concept by itself, so that the highest score is the only one."""
    found = np.full(guests.shape, -np.inf, dtype=np.float32)
    for m in range(guests.shape[1]):
        one = Prior(prior.log_sum[m : m + 1], prior.units)
        column = np.full(len(guests), -np.inf, dtype=np.float32)
        one.raise_to_guests(guests[:, m : m + 1], 1.0, column)
        found[:, m] = column
    return found


def test_a_guest_scores_as_if_it_took_the_place_of_a_unit() -> None:
    """Where all units are alike it does not matter which one leaves, so the rule is exact."""
    unit, guest = layer_evidence(2)
    layer = np.tile(unit, (9, 1))
    got = guest_scores(Prior.of(layer), guest[None])[0]
    with_guest = np.concatenate([layer[:-1], guest[None]])
    wanted = Prior.of(with_guest).score(with_guest, 1.0)[-1]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("units", [1, 2, 17])
def test_a_guest_cannot_score_above_what_a_unit_can(units: int) -> None:
    """Else no unit of a small layer could ever stand out from the null distribution."""
    perfect = np.zeros((1, 60), dtype=np.float32)
    score = guest_scores(Prior.of(layer_evidence(units)), perfect)
    assert score.max() <= math.log(units) + 1e-5
    assert score.max() == pytest.approx(math.log(units), abs=1e-3), "and it does reach it"


def test_of_a_guest_the_highest_score_counts() -> None:
    """Concepts that are passed over for being no better change nothing; lower scores stay out."""
    layer, guests = layer_evidence(), layer_evidence(20)[17:]
    prior = Prior.of(layer)
    best = np.array([-np.inf, 1e3, -np.inf], dtype=np.float32)
    prior.raise_to_guests(guests, 1.0, best)
    highest = guest_scores(prior, guests).max(axis=1)
    assert best.tolist() == [highest[0], 1e3, highest[2]]


# --- the other four, each against its formula in loops ----------------------------------------


@pytest.fixture(scope="module")
def made() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Images (60, 8), concepts (23, 8) and activations (60, 7), all of one cone.

    As CLIP's cosines are: above zero, or rank reordering has no root to take.
    """
    rng = np.random.default_rng(11)
    away = np.array([6.0, *[0] * 7])
    images, concepts = rng.normal(size=(60, 8)) + away, rng.normal(size=(23, 8)) + away
    return (
        images / np.linalg.norm(images, axis=1, keepdims=True),
        concepts / np.linalg.norm(concepts, axis=1, keepdims=True),
        rng.normal(size=(60, 7)) ** 3 + 0.5,
    )


def plain_wpmi(images: FloatArray, concepts: FloatArray, activations: FloatArray) -> FloatArray:
    powers = np.exp(2 * (images @ concepts.T))
    q = powers / powers.sum(axis=1, keepdims=True)
    units = activations.shape[1]
    evidence = np.zeros((units, len(concepts)))
    for k in range(units):
        for n in np.argsort(-activations[:, k])[:28]:
            for m in range(len(concepts)):
                evidence[k, m] += math.log(q[n, m] + 1e-7)
    prior = [
        math.log(sum(math.exp(evidence[k, m]) for k in range(units)) / units)
        for m in range(len(concepts))
    ]
    return evidence - 0.6 * np.array(prior)


def plain_cosine(images: FloatArray, concepts: FloatArray, activations: FloatArray) -> FloatArray:
    found = np.zeros((activations.shape[1], len(concepts)))
    for k, a in enumerate(activations.T):
        for m, concept in enumerate(concepts):
            p = [float(image @ concept) for image in images]
            dot = sum(x * y for x, y in zip(a, p, strict=True))
            found[k, m] = dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in p))
    return found


def plain_cubed(images: FloatArray, concepts: FloatArray, activations: FloatArray) -> FloatArray:
    found = np.zeros((activations.shape[1], len(concepts)))
    for k, a in enumerate(activations.T):
        for m, concept in enumerate(concepts):
            p = [float(image @ concept) for image in images]
            x = [(value - sum(a) / len(a)) ** 3 for value in a]
            y = [(value - sum(p) / len(p)) ** 3 for value in p]
            long = max(math.sqrt(sum(v * v for v in x)), 1e-3)
            other = max(math.sqrt(sum(v * v for v in y)), 1e-3)
            found[k, m] = sum(u * v for u, v in zip(x, y, strict=True)) / (long * other)
    return found


def plain_reorder(images: FloatArray, concepts: FloatArray, activations: FloatArray) -> FloatArray:
    length = 12
    found = np.zeros((activations.shape[1], len(concepts)))
    orders = [np.random.default_rng([0, i]).permutation(length) for i in range(5)]
    for k, a in enumerate(activations.T):
        top = sorted(range(len(a)), key=lambda n: -a[n])[:length]
        t = [a[n] for n in top]
        rising = sorted(t)
        chance = [abs(rising[i] - rising[order[i]]) ** 3 for order in orders for i in range(length)]
        for m, concept in enumerate(concepts):
            p = [float(images[n] @ concept) for n in top]
            error = 0.0
            for place, i in enumerate(sorted(range(length), key=lambda i: p[i])):
                error += abs(t[i] - rising[place]) ** 3
            ratio = (error / length) / (sum(chance) / len(chance))
            found[k, m] = -ratio / math.sqrt(sum(p) / length)
    return found


def plain_enrichment(
    images: FloatArray, concepts: FloatArray, activations: FloatArray, length: int = 12
) -> FloatArray:
    found = np.zeros((activations.shape[1], len(concepts)))
    for k, a in enumerate(activations.T):
        top = [n for n in np.argsort(-a, kind="stable") if a[n] > a.min()][:length]
        for m, concept in enumerate(concepts):
            p = [float(image @ concept) for image in images]
            n, mean = len(p), sum(p) / len(p)
            variance = sum((value - mean) ** 2 for value in p) / n
            spread = math.sqrt(length * variance * (n - length) / (n - 1))
            found[k, m] = sum(p[i] - mean for i in top) / spread
    return found


@pytest.mark.parametrize(
    ("similarity", "plain", "length"),
    [
        (Enrichment(), plain_enrichment, 12),
        (WPMI(), plain_wpmi, 28),
        (Cosine(), plain_cosine, 1),
        (CosineCubed(), plain_cubed, 1),
        (RankReorder(), plain_reorder, 12),
    ],
    ids=lambda each: getattr(each, "name", None),
)
@pytest.mark.parametrize("chunk", [7, 32_768])
def test_agrees_with_its_formula(
    made: tuple[FloatArray, FloatArray, FloatArray],
    similarity: Similarity,
    plain: Any,
    length: int,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """… and does not care how many images are looked at at a time."""
    monkeypatch.setattr(base, "ROW_CHUNK", chunk)
    monkeypatch.setattr(base, "CONCEPT_BLOCK", 10)
    images, concepts, activations = made
    wanted = plain(images, concepts, activations)
    got = scores(similarity, images, concepts, activations, length)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    np.testing.assert_array_equal(got.argmax(axis=1), wanted.argmax(axis=1))


IN_THREADS = """
import numba, numpy as np, test_similarity as here

images, concepts = here.unit_rows(300), here.unit_rows(700, seed=1)
activations = np.random.default_rng(2).normal(size=(300, 40))
for similarity in (here.SoftWPMI(), here.WPMI(), here.RankReorder()):
    found = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        found.append(here.scores(similarity, images, concepts, activations, 30))
    assert np.array_equal(*found, equal_nan=True), similarity.name
    print(similarity.name)
"""


def test_threads_share_the_units_and_change_no_bit() -> None:
    """In a process of its own: how many there may be is settled once, by ``make test`` at one."""
    done = subprocess.run(
        [sys.executable, "-c", IN_THREADS],
        cwd=Path(__file__).parent,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["soft-wpmi", "wpmi", "rank_reorder"]


def test_a_concept_that_orders_as_the_unit_does_cannot_be_beaten() -> None:
    """t̂ = t, so the error is 0; any other order makes some."""
    angle = np.linspace(0.1, 1.2, 30)
    images = np.column_stack([np.cos(angle), np.sin(angle)])
    concepts = np.array([[1.0, 0.0], [0.0, 1.0]])
    activations = np.column_stack([images[:, 0] * 3, images[:, 1] + 7])
    got = scores(RankReorder(), images, concepts, activations, 10)
    assert got.argmax(axis=1).tolist() == [0, 1]
    assert got.max(axis=1).tolist() == [0, 0]
    assert got.min() < -0.1


def test_images_that_do_not_show_a_concept_cannot_be_reordered_by_it() -> None:
    images = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    got = scores(RankReorder(), images, np.array([[-1.0, 0.0], [1.0, 0.0]]), images, 3)
    assert np.isneginf(got[:, 0]).all()
    assert np.isfinite(got[:, 1]).all()


@pytest.mark.parametrize("similarity", [Cosine(), CosineCubed()], ids=lambda each: each.name)
def test_cosines_lie_between_minus_one_and_one(
    made: tuple[FloatArray, FloatArray, FloatArray], similarity: Similarity
) -> None:
    images, concepts, activations = made
    own = images @ concepts[:7].T  # each unit is a concept
    got = scores(similarity, images, concepts, np.column_stack([own, activations]), 1)
    assert np.abs(got).max() <= 1 + 1e-5
    assert got.argmax(axis=1)[:7].tolist() == list(range(7))


@pytest.mark.parametrize(
    "similarity",
    [WPMI(), Cosine(), CosineCubed(), RankReorder(), Enrichment()],
    ids=lambda each: each.name,
)
def test_embeddings_that_are_no_numbers_are_refused_by_all(
    made: tuple[FloatArray, FloatArray, FloatArray], similarity: Similarity
) -> None:
    images, concepts, activations = made
    images = np.where(np.arange(60)[:, None] == np.argmax(activations[:, 0]), np.nan, images)
    with pytest.raises(InputError, match="NaN or infinite"), np.errstate(invalid="ignore"):
        scores(similarity, images, concepts, activations, 12)


# --- what the reference gives ----------------------------------------------------------------

REFERENCE = Path(__file__).parents[1] / "samples" / "clip_dissect_reference.npz"
"""What CLIP-Dissect's released functions gave, in float32, for numbers without ties. They have no
rank reordering to hold against: its random orders are drawn without a seed."""


@pytest.mark.parametrize(
    ("name", "similarity", "length", "rounding"),
    [
        # The reference sums a hundred logarithms of small differences in float32, and is 1.8e-4
        # away from the formula in float64 where this package is 4.4e-5 away.
        ("soft_wpmi_top100", SoftWPMI(), 100, 2e-4),
        ("soft_wpmi_top10", SoftWPMI(), 10, 1e-4),
        ("wpmi_top28", WPMI(), 28, 1e-4),
        ("cosine", Cosine(), 1, 1e-6),
        ("cosine_cubed", CosineCubed(), 1, 1e-6),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_agrees_with_the_released_functions(
    name: str, similarity: Similarity, length: int, rounding: float
) -> None:
    given = np.load(REFERENCE)
    wanted = given[name]
    got = scores(similarity, given["images"], given["concepts"], given["activations"], length)
    np.testing.assert_array_equal(got.argmax(axis=1), wanted.argmax(axis=1))
    np.testing.assert_allclose(got.max(axis=1), wanted.max(axis=1), atol=min(rounding, 1e-4))
    np.testing.assert_allclose(got, wanted, atol=rounding, rtol=0)


# --- units that are silent on most images ----------------------------------------------------


def silent_on_most(activations: FloatArray) -> FloatArray:
    """Unit k is above zero on 3 + 2 k images, and no two of them are equal."""
    found = np.zeros_like(activations)
    for k, a in enumerate(activations.T):
        moved = np.argsort(-a)[: 3 + 2 * k]
        found[moved, k] = 1 + a[moved] - a[moved].min()
    return found


def short_scores(
    similarity: Similarity,
    images: FloatArray,
    concepts: FloatArray,
    activations: FloatArray,
    length: int,
) -> FloatArray:
    top = np.argsort(-activations, axis=0, kind="stable")[:length].T
    values = np.take_along_axis(activations.T, top, axis=1)
    listed = (values > activations.min(axis=0)[:, None]).sum(axis=1)
    units = Units(top, values, activations, np.arange(len(top)), listed)
    null = Null(3, 0, [np.full(3, -np.inf, dtype=np.float32)])
    tiles = list(similarity.score([units], images, concepts, null))
    return np.concatenate([tile.scores for tile in tiles], axis=1)


def plain_short_pmi(
    images: FloatArray,
    concepts: FloatArray,
    activations: FloatArray,
    length: int,
    similarity: SoftWPMI | WPMI,
) -> FloatArray:
    """The formula in loops; a rank without an image takes the mean over all images."""
    powers = np.exp(similarity.temperature * (images @ concepts.T))
    q = powers / powers.sum(axis=1, keepdims=True)
    units = activations.shape[1]
    offset, slope = similarity.factors(length)
    evidence = np.zeros((units, len(concepts)))
    for k, a in enumerate(activations.T):
        moved = [n for n in np.argsort(-a, kind="stable") if a[n] > a.min()][:length]
        for m in range(len(concepts)):
            for r in range(length):
                each = [math.log(offset[r] + slope[r] * q[n, m]) for n in range(len(images))]
                evidence[k, m] += each[moved[r]] if r < len(moved) else sum(each) / len(each)
    prior = np.log(np.exp(evidence).sum(axis=0) / units)
    return evidence - similarity.prior_weight * prior


@pytest.mark.parametrize("similarity", [SoftWPMI(), WPMI()], ids=lambda each: each.name)
@pytest.mark.parametrize("chunk", [7, 32_768])
def test_a_rank_without_an_image_says_what_a_random_image_says(
    made: tuple[FloatArray, FloatArray, FloatArray],
    similarity: SoftWPMI | WPMI,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "ROW_CHUNK", chunk)
    monkeypatch.setattr(base, "CONCEPT_BLOCK", 10)
    images, concepts, activations = made
    silent = silent_on_most(activations)
    wanted = plain_short_pmi(images, concepts, silent, 10, similarity)
    got = short_scores(similarity, images, concepts, silent, 10)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    np.testing.assert_array_equal(got.argmax(axis=1), wanted.argmax(axis=1))


def test_rank_reordering_leaves_out_images_without_an_order(
    made: tuple[FloatArray, FloatArray, FloatArray],
) -> None:
    images, concepts, activations = made
    silent = silent_on_most(activations)
    got = short_scores(RankReorder(), images, concepts, silent, 12)
    for k, a in enumerate(silent.T):
        length = min(12, 3 + 2 * k)
        top = np.argsort(-a, kind="stable")[:length]
        t, rising = a[top], a[top][::-1]
        orders = [np.random.default_rng([0, i]).permutation(12) for i in range(5)]
        chance = [np.abs(rising - rising[order[order < length]]) ** 3 for order in orders]
        for m, concept in enumerate(concepts):
            p = images[top] @ concept
            error = np.mean(np.abs(t[np.argsort(p, kind="stable")] - rising) ** 3)
            wanted = -(error / np.mean(chance)) / math.sqrt(p.mean())
            assert got[k, m] == pytest.approx(wanted, abs=1e-4)


def test_a_rank_without_an_image_adds_nothing_to_an_enrichment(
    made: tuple[FloatArray, FloatArray, FloatArray],
) -> None:
    images, concepts, activations = made
    silent = silent_on_most(activations)
    got = short_scores(Enrichment(), images, concepts, silent, 12)
    np.testing.assert_allclose(got, plain_enrichment(images, concepts, silent), atol=1e-4)


def test_enrichment_of_yes_and_no_is_the_z_score_of_the_hypergeometric_distribution() -> None:
    rng = np.random.default_rng(3)
    images = np.eye(5, dtype=np.float32)[rng.integers(0, 5, 200)]
    images[:, 4] = 1  # the same on all images
    activations = images[:, :1] + rng.normal(size=(200, 6))
    got = scores(Enrichment(), images, np.eye(5, dtype=np.float32), activations, 20)
    assert np.isneginf(got[:, 4]).all(), "what is the same on all images has no score"
    for k, a in enumerate(activations.T):
        for m in range(4):
            hits = images[np.argsort(-a)[:20], m].sum()
            by_chance = hypergeom(200, int(images[:, m].sum()), 20)
            wanted = (hits - by_chance.mean()) / by_chance.std()
            assert got[k, m] == pytest.approx(wanted, abs=1e-4)
    assert (scores(Enrichment(), images, np.eye(5)[:4], activations, 200) == 0).all()


@pytest.mark.parametrize(
    "similarity", [SoftWPMI(), WPMI(), RankReorder(), Enrichment()], ids=lambda each: each.name
)
def test_full_lists_score_to_the_bit_as_if_no_list_could_be_short(
    made: tuple[FloatArray, FloatArray, FloatArray], similarity: Similarity
) -> None:
    images, concepts, activations = made
    np.testing.assert_array_equal(
        short_scores(similarity, images, concepts, activations, 12),
        scores(similarity, images, concepts, activations, 12),
    )
