"""Range explanations: hand-made units whose words are known, and the formulas as loops."""

from dataclasses import replace

import numpy as np
import pytest

from profiler.activations.moments import FOLDS, FoldMoments, LayerMoments
from profiler.activations.top_lists import ImageSample, LayerTops, TopCollector
from profiler.profile import explain
from profiler.profile.explain import (
    GAIN,
    RIDGE,
    Candidates,
    LayerRange,
    explain_layers,
    explained_cut,
    monosemanticity,
    range_images,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def explained(
    v: np.ndarray, a: np.ndarray, concepts: np.ndarray, *, seed: int = 0, **more: np.ndarray
) -> LayerRange:
    """The layer of these activations, its decoys permuted at random."""
    fold = np.arange(len(v)) % FOLDS
    other = np.random.default_rng(seed).permutation(len(v))
    layer = LayerMoments(
        "layer", FoldMoments.of(v, a, fold), FoldMoments.of(v, a[other][:, :256], fold)
    )
    tops = LayerTops("layer", np.zeros((a.shape[1], 1), int), a.max(0)[:, None], a.min(0))
    sample = ImageSample(np.arange(len(a))[:200], (a[:200],))
    (found,) = explain_layers([layer], [tops], Candidates(concepts, **more), sample)
    return found


def world(n: int = 1000, e: int = 24, m: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Images and concepts."""
    rng = np.random.default_rng(5)
    return unit(rng.normal(size=(n, e))), unit(rng.normal(size=(m, e)))


def test_planted_words_and_weights_are_found() -> None:
    """Each unit is the sum of two or three concepts' presences with weights, and a little noise."""
    v, concepts = world()
    rng = np.random.default_rng(1)
    presence = v @ concepts.T
    presence = (presence - presence.mean(0)) / presence.std(0)
    words, weights, a = [], [], np.zeros((len(v), 60))
    for k in range(60):
        few = rng.choice(len(concepts), 2 + k % 2, replace=False)
        strength = rng.uniform(0.5, 1.0, len(few))
        a[:, k] = presence[:, few] @ strength
        words.append(few)
        weights.append(strength)
    found = explained(v, a + 0.01 * rng.normal(size=a.shape), concepts)
    right, sizes = 0, []
    for k, (few, strength) in enumerate(zip(words, weights, strict=True)):
        own = {int(c): w for c, w in zip(found.concept[k], found.weight[k], strict=True) if c >= 0}
        right += set(own) == set(few.tolist())
        # Weights are in standard deviations of the activation.
        true = dict(zip(few.tolist(), strength / a[:, k].std(), strict=True))
        sizes += [own[c] / true[c] for c in own.keys() & true.keys()]
    assert right >= 0.95 * 60
    assert np.abs(np.array(sizes) - 1).max() < 0.05
    assert (found.shown_r > 0.99).all()
    assert (found.ceiling >= found.shown_r - 0.01).all()
    assert (found.agreement >= 4).mean() > 0.9


def test_noise_is_not_explained() -> None:
    v, concepts = world()
    shares = []
    for seed in range(10):
        a = np.random.default_rng(seed).normal(size=(len(v), 300))
        found = explained(v, a, concepts, seed=seed)
        shares.append(found.explained(explained_cut([found])).mean())
    assert max(shares) <= 0.05
    assert abs(np.nanmean(found.r)) < 0.02


def test_noise_beside_units_that_follow_words() -> None:
    """Of all that counts as explained, at most about one in twenty is noise."""
    v, concepts = world()
    rng = np.random.default_rng(3)
    real = v @ concepts[rng.integers(len(concepts), size=200)].T
    a = np.hstack([real + 0.2 * rng.normal(size=real.shape), rng.normal(size=(len(v), 200))])
    found = explained(v, a, concepts)
    explained_ones = found.explained(explained_cut([found]))
    assert explained_ones[:200].all()
    assert explained_ones[200:].sum() <= 0.1 * explained_ones.sum()


def test_correlations_agree_with_a_loop_over_images() -> None:
    """Matching pursuit, ridge and correlation as written in the docstring, image by image."""
    v, concepts = world(n=120, e=6, m=9)
    a = (v @ unit(np.random.default_rng(8).normal(size=(5, 6))).T) ** 2
    found = explained(v, a, concepts)
    fold = np.arange(len(v)) % FOLDS
    for k in range(5):
        r = np.zeros(explain.MOST_WORDS)
        for f in range(FOLDS):
            train, test = fold != f, fold == f
            presence = v @ concepts.T
            scale = np.sqrt(((presence[train] - presence[train].mean(0)) ** 2).sum(0))
            x = (presence - presence[train].mean(0)) / scale
            y = a[:, k] - a[train, k].mean()
            y = y / np.sqrt((y[train] ** 2).sum())
            chosen: list[int] = []
            left = y[train].copy()
            for q in range(explain.MOST_WORDS):
                gain = x[train].T @ left
                gain[chosen] = -np.inf
                chosen.append(int(gain.argmax()))
                on = list(chosen)
                while True:
                    some = x[train][:, on]
                    w = np.linalg.solve(some.T @ some + RIDGE * np.eye(len(on)), some.T @ y[train])
                    if (w >= 0).all():
                        break
                    on = [c for c, weight in zip(on, w, strict=True) if weight >= 0]
                left = y[train] - x[train][:, on] @ w
                if len(on):
                    r[q] += np.corrcoef(x[test][:, on] @ w, y[test])[0, 1] / FOLDS
        np.testing.assert_allclose(found.r[k], r, atol=1e-9)


def test_as_few_words_are_taken_as_are_nearly_the_best() -> None:
    better = 0.3 + 2 * GAIN
    r = np.array([[0.3, better, better + GAIN / 2, 0.2], [0.5, 0.4, 0.6, 0.7], [np.nan] * 4])
    assert explain._how_many(r).tolist() == [2, 4, 0]


def test_of_words_that_predict_alike_the_most_familiar_is_taken() -> None:
    v, concepts = world(m=10)
    twin = unit(concepts[:1] + 0.4 * unit(np.random.default_rng(2).normal(size=(1, 24))))
    concepts = np.vstack([concepts, twin])  # a rarer word that says nearly the same
    a = v @ (concepts[0] + concepts[-1])[:, None] + 0.5 * np.random.default_rng(1).normal(
        size=(len(v), 1)
    )
    rank = np.arange(11)
    familiar, rare = (explained(v, a, concepts, rank=order) for order in (rank, rank[::-1].copy()))
    assert (familiar.concept[0, 0], rare.concept[0, 0]) == (0, 10)
    # The other one is listed as its equal, and no word that predicts worse.
    assert (familiar.equals.tolist(), rare.equals.tolist()) == ([[10, -1, -1]], [[0, -1, -1]])
    none = np.array([False] + [True] * 10)
    assert 0 not in explained(v, a, concepts, allowed=none).concept[0]


def test_units_and_concepts_that_never_vary() -> None:
    v, concepts = world()
    v = np.hstack([v, np.ones((len(v), 1))])
    concepts = np.hstack([concepts, np.zeros((40, 1))])
    concepts[7] = np.eye(25)[24]  # the same for every image
    a = np.hstack([np.full((len(v), 1), 3.0), v @ concepts[:2].T])
    found = explained(v, a, concepts)
    assert np.isnan(found.r[0]).all()
    assert found.concept[0].tolist() == [-1] * explain.MOST_WORDS
    assert not found.explained(explained_cut([found]))[0]
    assert 7 not in found.concept
    assert found.concept[1:, 0].tolist() == [0, 1]
    assert np.isnan(found.specificity[0])


def test_the_cut_by_hand() -> None:
    """Of forty units two decoys are allowed, of the twenty above 0.3 one."""
    v, concepts = world()
    some = explained(v, v[:, :1], concepts)
    r = np.repeat(np.linspace(0.11, 0.5, 40)[:, None], 5, axis=1)
    layer = replace(some, r=r, decoy_r=np.full((40, 5), 0.0))
    assert explained_cut([layer]) == pytest.approx(0.11)
    decoys = np.zeros((40, 5))
    decoys[:2] = 0.305
    assert explained_cut([replace(layer, decoy_r=decoys)]) == pytest.approx(0.11)
    decoys[2] = 0.6
    assert explained_cut([replace(layer, decoy_r=decoys)]) == pytest.approx(0.31)
    # Where half of the units have a decoy, each stands for two, and no cut is high enough.
    assert explained_cut([replace(layer, decoy_r=decoys[:20])]) == np.inf


def test_monosemanticity_as_a_loop_over_pairs() -> None:
    """Pach et al. 2025: mean cosine of all pairs of images, weighted by both activations."""
    v, _ = world(n=30)
    a = np.random.default_rng(4).gamma(1.0, size=(30, 3))
    scaled = (a - a.min(0)) / (a.max(0) - a.min(0))
    expected = np.zeros(3)
    for k in range(3):
        above = below = 0.0
        for i in range(30):
            for j in range(30):
                if i != j:
                    weight = scaled[i, k] * scaled[j, k]
                    above += weight * float(v[i] @ v[j])
                    below += weight
        expected[k] = above / below
    found = monosemanticity(FoldMoments.of(v, a, np.arange(30) % FOLDS), a.min(0), a.max(0))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_specificity_counts_the_explanations_that_do_worse() -> None:
    v, concepts = world()
    a = v @ concepts[:4].T
    assert explained(v, a, concepts).specificity.tolist() == [1.0] * 4
    same = explained(v, np.repeat(a[:, :1], 4, axis=1), concepts)
    assert same.specificity.tolist() == [0.0] * 4


def test_arrays_can_be_stored() -> None:
    v, concepts = world()
    found = explained(v, v[:, :3], concepts)
    again = LayerRange.from_arrays("layer", found.to_arrays())
    for name, values in found.to_arrays().items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_images_from_the_whole_range_are_the_strongest_and_two_of_each_quarter() -> None:
    rng = np.random.default_rng(1)
    a = rng.gamma(2.0, size=(2000, 30))  # few images in the upper quarters
    collector = TopCollector("layer", 100)
    collector.add(np.arange(2000), a)
    tops = collector.result()
    sample = rng.choice(2000, 256, replace=False)
    images, activations = range_images(tops, sample, a[sample])
    assert images.shape == (30, 9)
    for unit, (own, values) in enumerate(zip(images, activations, strict=True)):
        known = own >= 0
        assert np.allclose(values[known], a[own[known], unit], atol=1e-5)
        assert own[0] == a[:, unit].argmax()
        assert len(set(own[known].tolist())) == known.sum()
        assert (np.diff(values[known]) <= 0).all()
        share = (values - a[:, unit].min()) / np.ptp(a[:, unit])
        for quarter, pair in enumerate(np.split(np.arange(1, 9), 4)):
            low, high = 0.75 - 0.25 * quarter, 1 - 0.25 * quarter
            assert ((share[pair] >= low - 1e-6) & (share[pair] <= high) | ~known[pair]).all()
    # The 100 strongest images reach far down: only the second quarter from the top may lack some.
    assert (images >= 0).mean() > 0.9
