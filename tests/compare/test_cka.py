"""CKA against its definition, where the biased one misleads, and under what changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from profiler.compare import centred
from profiler.compare.centred import Centred
from profiler.compare.cka import CKALayer, cka, cka_matrix
from profiler.core.arrays import FloatArray
from profiler.errors import InputError


def linear_cka(x: FloatArray, y: FloatArray) -> float:
    return cka(CKALayer.of(Centred.of(x)), CKALayer.of(Centred.of(y)))


def hsic(k: FloatArray, ell: FloatArray) -> float:
    """Equation 5 of Song et al., as it stands there."""
    n = len(k)
    k, ell = k - np.diag(np.diag(k)), ell - np.diag(np.diag(ell))
    one = np.ones(n)
    return float(
        np.trace(k @ ell)
        + (one @ k @ one) * (one @ ell @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ ell @ one)
    ) / (n * (n - 3))


def by_definition(x: FloatArray, y: FloatArray) -> float:
    k, ell = x @ x.T, y @ y.T
    return hsic(k, ell) / np.sqrt(hsic(k, k) * hsic(ell, ell))


def biased(x: FloatArray, y: FloatArray) -> float:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    norms = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / norms)


def related(seed: int, n: int = 40, one: int = 7, other: int = 5) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, one))
    return x, x[:, :other] + rng.normal(size=(n, other))


@given(st.integers(0, 1000), st.integers(4, 30), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_it_is_the_definition_without_the_n_by_n_matrix(
    seed: int, n: int, one: int, other: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, one)) + 3, rng.normal(size=(n, other))
    assert linear_cka(x, y) == pytest.approx(by_definition(x, y), abs=1e-8)


def test_four_images_are_enough() -> None:
    x, y = np.arange(4.0)[:, None], np.array([0.0, 0, 1, 1])[:, None]
    assert linear_cka(x, y) == pytest.approx(by_definition(x, y))
    assert linear_cka(x, 5 - 3 * x) == pytest.approx(1)


@pytest.mark.parametrize("images", [8, 50, 200])
def test_independent_layers_have_none_however_few_the_images(images: int) -> None:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(30):
        x, y = rng.normal(size=(images, 400)), rng.normal(size=(images, 300))
        values.append(linear_cka(x, y))
        assert biased(x, y) > 0.5
    # Its sampling error falls with the number of images; its mean is 0 at any.
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert np.std(values) < 2 / images


def test_what_leaves_the_arrangement_of_images_alone_changes_nothing() -> None:
    x, y = related(0)
    expected = linear_cka(x, y)
    assert 0.2 < expected < 0.95
    assert linear_cka(y, x) == pytest.approx(expected, abs=1e-12)
    turned = x @ ortho_group.rvs(7, random_state=1)
    for same in (turned, x[:, ::-1], 1e3 * x, x - 50, 1e-30 * x, 1e30 * x):
        assert linear_cka(same, y) == pytest.approx(expected, abs=1e-9)
        assert linear_cka(same, x) == pytest.approx(1, abs=1e-9)
    order = np.random.default_rng(2).permutation(len(x))
    assert linear_cka(x[order], y[order]) == pytest.approx(expected, abs=1e-12)
    assert linear_cka(x[order], y) < expected - 0.1


def test_a_large_mean_drowns_nothing() -> None:
    x, y = related(3)
    shifted = (x + 3000).astype(np.float32)
    assert linear_cka(shifted, y) == pytest.approx(linear_cka(shifted - 3000, y), abs=1e-9)


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = related(4, n=100)
    expected = linear_cka(x, y)
    for size in (1, 7, 99, 100):
        monkeypatch.setattr(centred, "ROW_BLOCK", size)
        assert linear_cka(x, y) == pytest.approx(expected, abs=1e-12)


def test_where_nothing_can_be_said_nothing_is() -> None:
    x, y = related(5)
    assert np.isnan(linear_cka(x[:3], y[:3]))
    assert np.isfinite(linear_cka(x[:4], y[:4]))
    assert np.isnan(linear_cka(np.full((40, 3), 0.1), y))  # nothing varies
    assert np.isnan(linear_cka(np.eye(40), y))  # each image as far from every other
    with pytest.raises(InputError, match="NaN or infinite"):
        linear_cka(np.where(x > 1, np.nan, x), y)
    with pytest.raises(InputError, match="40 images cannot be held against activations on 39"):
        linear_cka(x, y[:39])


def test_all_pairs_of_layers() -> None:
    x, y = related(6)
    layers = [CKALayer.of(Centred.of(each)) for each in (x, y)]
    table = cka_matrix(layers, [*layers, CKALayer.of(Centred.of(np.ones((40, 2))))])
    assert table.shape == (2, 3)
    np.testing.assert_allclose(np.diagonal(table), 1, atol=1e-12)
    assert table[0, 1] == pytest.approx(table[1, 0])
    assert np.isnan(table[:, 2]).all()
