"""Soft-WPMI against the formula written out, and the properties the rest of the code rests on."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from profiler import similarity
from profiler.errors import InputError
from profiler.labels import random_lists
from profiler.similarity import ConceptProbabilities, FloatArray, IntArray, Prior, SoftWPMI
from profiler.similarity import evidence as fast_evidence


def unit_rows(count: int, width: int = 8, seed: int = 0) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def all_of(q: ConceptProbabilities) -> FloatArray:
    """Q in one piece, as only a test may hold it."""
    return np.concatenate([block for _, block in q.blocks()], axis=1)


def plain_formula(
    images: FloatArray, concepts: FloatArray, top: IntArray, constants: SoftWPMI
) -> tuple[FloatArray, FloatArray]:
    """L and the scores by the docstring of :mod:`profiler.similarity`, in float64, in loops."""
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


def scores_in_blocks(
    images: FloatArray, concepts: FloatArray, top: IntArray, constants: SoftWPMI
) -> FloatArray:
    """The scores the way :mod:`profiler.labels` makes them, put side by side."""
    blocks = []
    for _, q in ConceptProbabilities(images, concepts, constants.temperature).blocks():
        layer = fast_evidence(q, top, constants)
        blocks.append(Prior.of(layer).score(layer, constants))
    return np.concatenate(blocks, axis=1)


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
    q = all_of(ConceptProbabilities(images, words, constants.temperature))
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
    ],
    ids=["wpmi-like", "sharp", "no-prior", "light", "rising"],
)
def test_agrees_with_the_formula_for_other_constants(constants: SoftWPMI) -> None:
    images, words = unit_rows(50, seed=3), unit_rows(70, seed=4)
    top = random_lists(50, 20, 6, seed=5)
    _, wanted = plain_formula(images, words, top, constants)
    got = scores_in_blocks(images, words, top, constants)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    np.testing.assert_array_equal(got.argmax(axis=1), wanted.argmax(axis=1))


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


@pytest.mark.parametrize(
    "weights", [(1.0, 0.97), (0.998, 1.0), (-0.1, 0.9), (0.9, -0.1), (0.9995, 0.5)]
)
def test_weights_whose_products_leave_float32_are_refused(weights: tuple[float, float]) -> None:
    """With π = 1 an image without the concept would give the factor ε; twelve of those are 0."""
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
    q = all_of(ConceptProbabilities(images, words, temperature))
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
    monkeypatch.setattr(similarity, "CONCEPT_BLOCK", block)
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
        ConceptProbabilities(rows["images"], rows["concepts"], 10.0)


# --- the prior -------------------------------------------------------------------------------


def layer_evidence(units: int = 17, concepts: int = 60) -> FloatArray:
    q = all_of(ConceptProbabilities(unit_rows(80, seed=3), unit_rows(concepts, seed=4), 10.0))
    return fast_evidence(q, random_lists(80, 10, units, seed=2), SoftWPMI())


def test_prior_is_the_same_for_the_units_in_any_order() -> None:
    layer = layer_evidence()
    prior = Prior.of(layer)
    order = np.random.default_rng(0).permutation(len(layer))
    shuffled = Prior.of(layer[order])
    np.testing.assert_allclose(shuffled.log_sum, prior.log_sum, rtol=1e-14)
    np.testing.assert_array_equal(
        shuffled.score(layer[order], SoftWPMI()), prior.score(layer, SoftWPMI())[order]
    )


def test_units_scored_in_parts_score_as_in_the_whole() -> None:
    """The prior is the layer's; which units are then looked at does not matter."""
    layer = layer_evidence()
    prior = Prior.of(layer)
    whole = prior.score(layer, SoftWPMI())
    parts = [prior.score(layer[i : i + 5], SoftWPMI()) for i in range(0, len(layer), 5)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    alone = Prior.of(layer[:5]).score(layer[:5], SoftWPMI())
    assert np.abs(alone - whole[:5]).max() > 0.01, "a part scored by its own prior would differ"


@pytest.mark.parametrize("units", [1, 2, 17])
def test_no_unit_scores_above_the_log_of_their_number(units: int) -> None:
    layer = layer_evidence(units)
    assert Prior.of(layer).score(layer, SoftWPMI()).max() <= math.log(units) + 1e-5


def test_a_concept_that_suits_all_units_alike_scores_nothing() -> None:
    layer = np.full((6, 3), -200.0, dtype=np.float32)
    np.testing.assert_allclose(Prior.of(layer).score(layer, SoftWPMI()), 0, atol=1e-5)


def test_prior_of_evidence_beyond_the_range_of_exp() -> None:
    """Evidence of −1000 would vanish if it were exponentiated as it stands."""
    layer = np.array([[-1000.0], [-1001.0]], dtype=np.float32)
    score = Prior.of(layer).score(layer, SoftWPMI())
    log_mean = math.log((1 + math.exp(-1)) / 2)
    np.testing.assert_allclose(score[:, 0], [-log_mean, -1 - log_mean], rtol=1e-4)


def guest_scores(prior: Prior, guests: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R, B): each concept by itself, so that the highest score is the only one."""
    found = np.full(guests.shape, -np.inf, dtype=np.float32)
    for m in range(guests.shape[1]):
        one = Prior(prior.log_sum[m : m + 1], prior.units)
        column = np.full(len(guests), -np.inf, dtype=np.float32)
        one.raise_to_guests(guests[:, m : m + 1], SoftWPMI(), column)
        found[:, m] = column
    return found


def test_a_guest_scores_as_if_it_took_the_place_of_a_unit() -> None:
    """Where all units are alike it does not matter which one leaves, so the rule is exact."""
    unit, guest = layer_evidence(2)
    layer = np.tile(unit, (9, 1))
    got = guest_scores(Prior.of(layer), guest[None])[0]
    with_guest = np.concatenate([layer[:-1], guest[None]])
    wanted = Prior.of(with_guest).score(with_guest, SoftWPMI())[-1]
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
    prior.raise_to_guests(guests, SoftWPMI(), best)
    highest = guest_scores(prior, guests).max(axis=1)
    assert best.tolist() == [highest[0], 1e3, highest[2]]
