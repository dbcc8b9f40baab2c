"""Sufficient statistics: the same whatever the blocks, shards and batches."""

import numpy as np
import pytest

from profiler.activations import moments
from profiler.activations.moments import (
    FOLDS,
    FoldMoments,
    MomentCollector,
    MomentTree,
    by_layer,
    decoys_of,
    order_of,
)

E, K = 4, 3


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and activations of n images."""
    rng = np.random.default_rng(seed)
    return rng.normal(1, 1, (n, E)).astype("f4"), rng.normal(5, 2, (n, K)).astype("f4")


def test_moments_are_the_sums_of_their_names() -> None:
    v, a = data(50)
    fold = np.arange(50) % FOLDS
    found = FoldMoments.of(v, a, fold)
    for f in range(FOLDS):
        x, y = v[fold == f].astype(float), a[fold == f].astype(float)
        assert found.count[f] == 10
        np.testing.assert_allclose(found.v[f], x.mean(0), atol=1e-12)
        np.testing.assert_allclose(found.vv[f], 10 * np.cov(x.T, bias=True), atol=1e-11)
        np.testing.assert_allclose(found.aa[f], 10 * y.var(0), atol=1e-11)
        both = (x - x.mean(0)).T @ (y - y.mean(0))
        np.testing.assert_allclose(found.va[f], both, atol=1e-11)


def test_moments_of_two_sets_add_up_to_those_of_both() -> None:
    v, a = data(70)
    fold = np.arange(70) % FOLDS
    whole = FoldMoments.of(v, a, fold)
    parts = FoldMoments.of(v[:9], a[:9], fold[:9]) + FoldMoments.of(v[9:], a[9:], fold[9:])
    for name, value in vars(whole).items():
        np.testing.assert_allclose(getattr(parts, name), value, atol=1e-10)
    nothing = FoldMoments.of(v[:0], a[:0], fold[:0])
    for name, value in vars(whole + nothing).items():
        np.testing.assert_array_equal(value, getattr(whole, name))


def test_leaving_a_fold_out_leaves_the_others() -> None:
    v, a = data(40)
    fold = np.arange(40) % FOLDS
    found = FoldMoments.of(v, a, fold).without(2)
    rest = a[fold != 2].astype(float)
    assert found.count.tolist() == [32]
    np.testing.assert_allclose(found.a[0], rest.mean(0), atol=1e-12)
    np.testing.assert_allclose(found.aa[0], len(rest) * rest.var(0), atol=1e-10)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "BLOCK", 8)


def collected(places: np.ndarray, batch: int) -> MomentTree:
    v, a = data(200)
    collector = MomentCollector()
    for lo in range(0, len(places), batch):
        some = places[lo : lo + batch]
        collector.add(some, v[some], {"one": a[some, :1], "two": a[some, 1:]})
    return collector.result()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize("images", [200, 177])
def test_shards_agree_to_the_last_bit(shards: int, images: int) -> None:
    """Wherever blocks are dealt, in whatever batches they come, with images missing."""
    places = np.setdiff1d(np.arange(images), [3, 60, 61])
    whole = collected(places, batch=16).total()
    edges = [8 * round(i * 25 / shards) for i in range(shards + 1)]
    tree = MomentTree()
    for number in reversed(range(shards)):
        part = places[(places >= edges[number]) & (places < edges[number + 1])]
        if len(part):
            tree.add_all(collected(part, batch=5 + number))
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(tree.total(), name), value)
    again = MomentTree.from_arrays(tree.to_arrays())
    assert again is not None
    np.testing.assert_array_equal(again.total().va, whole.va)


@pytest.mark.usefixtures("small_blocks")
def test_a_decoy_has_the_activations_of_other_images() -> None:
    places = np.arange(200)
    found = list(by_layer(collected(places, 64).total(), [("one", 1), ("two", 2)]))
    assert [layer.units.a.shape[1] for layer in found] == [1, 2]
    units, decoys = found[1].units.without(), found[1].decoys.without()
    # The same activations all in all, but with other embeddings.
    np.testing.assert_allclose(decoys.a, units.a, atol=1e-9)
    np.testing.assert_allclose(decoys.aa, units.aa, atol=1e-8)
    assert np.abs(decoys.va - units.va).max() > 1
    for block in range(3):
        other = moments._shuffled(8, block)
        assert sorted(other.tolist()) == list(range(8))
        assert (other != np.arange(8)).all()


def test_the_order_is_random_and_always_the_same() -> None:
    order = order_of(1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() == order_of(1000).tolist()
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    assert len(decoys_of(5000)) == 256
    assert decoys_of(300).max() < 300
