"""The affine map, where it is planted, and the hinge that makes comparisons linear."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from profiler.concepts import space as align
from profiler.concepts.space import AffineMap, ConceptSpace, Moments, queries
from profiler.errors import InputError

Rows = align.Float64


def planted(
    n: int, f: int = 12, e: int = 5, *, noise: float = 0.0, seed: int = 0
) -> tuple[Rows, Rows, Rows, Rows]:
    """Features far from the origin, embeddings, and the map between them."""
    rng = np.random.default_rng(seed)
    z = 30 + rng.normal(size=(n, f)) * rng.uniform(0.2, 3, size=f)
    matrix, offset = rng.normal(size=(e, f)), rng.normal(size=e)
    v = z @ matrix.T + offset + noise * rng.normal(size=(n, e))
    return z, v, matrix, offset


# --- the linear alignment ----------------------------------------------------------------------


def test_a_planted_map_is_recovered_exactly() -> None:
    z, v, matrix, offset = planted(60)
    found = AffineMap().fit(z, v)
    np.testing.assert_allclose(found.matrix_, matrix, atol=1e-9)
    np.testing.assert_allclose(found.offset_, offset, atol=1e-7)
    assert found.r2_ == pytest.approx(1, abs=1e-10)
    assert found.rows_ == 60
    assert not found.warning_


def test_float32_features_do_as_well() -> None:
    z, v, matrix, _ = planted(200)
    found = AffineMap().fit(z.astype(np.float32), v.astype(np.float32))
    np.testing.assert_allclose(found.matrix_, matrix, atol=1e-4)


def test_a_large_mean_costs_no_digits() -> None:
    z, v, matrix, _ = planted(100)
    found = AffineMap().fit(z + 1e7, v)
    np.testing.assert_allclose(found.matrix_, matrix, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("features", [12, 60])
def test_one_ridge_is_the_ridge_regression_of_scikit_learn(
    features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with more features than images."""
    z, v, _, _ = planted(40, f=features, noise=1.0)
    multiple = 0.3
    monkeypatch.setattr(align, "RIDGES", (multiple,))
    found = AffineMap().fit(z, v)
    centred = z - z.mean(0)
    alpha = multiple * np.trace(centred.T @ centred) / z.shape[1]
    other = Ridge(alpha=alpha).fit(z, v)
    np.testing.assert_allclose(found.matrix_, other.coef_, atol=1e-10)
    np.testing.assert_allclose(found.offset_, other.intercept_, atol=1e-9)


@pytest.mark.parametrize("features", [12, 60])
def test_held_out_error_and_r2_are_those_of_a_loop_over_the_parts(features: int) -> None:
    z, v, _, _ = planted(43, f=features, noise=3.0)
    parts = align.folds(np.arange(43), 0)
    errors = np.zeros(len(align.RIDGES))
    spread = 0.0
    for part in range(align.FOLDS):
        held = parts == part
        mean = z[~held].mean(0)
        scale = np.sum((z[~held] - mean) ** 2) / z.shape[1]
        spread += np.sum((v[held] - v[~held].mean(0)) ** 2)
        for k, ridge in enumerate(align.RIDGES):
            fit = Ridge(alpha=ridge * scale + 1e-9).fit(z[~held], v[~held])
            errors[k] += np.sum((v[held] - fit.predict(z[held])) ** 2)
    found = AffineMap().fit(z, v)
    assert found.ridge_ == align.RIDGES[int(errors.argmin())]
    assert found.r2_ == pytest.approx(1 - errors.min() / spread, abs=1e-6)


def test_r2_is_not_flattered_by_what_was_fitted() -> None:
    rng = np.random.default_rng(0)
    found = AffineMap().fit(rng.normal(size=(60, 50)), rng.normal(size=(60, 4)))
    assert found.r2_ < 0.1
    assert "explains" in found.warning_
    assert "60 images" in found.warning_


def test_the_ridge_helps_where_images_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    z, v, _, _ = planted(15, f=40, noise=1.0)
    found = AffineMap().fit(z, v)
    monkeypatch.setattr(align, "RIDGES", (0.0,))
    assert found.r2_ > AffineMap().fit(z, v).r2_


def test_fewer_images_than_features_and_constant_features() -> None:
    z, v, _, _ = planted(8, f=30)
    z[:, 3] = 7.0
    found = AffineMap().fit(z, v)
    assert np.isfinite(found.matrix_).all()
    assert np.abs(found.matrix_[:, 3]).max() < 1e-9
    constant = AffineMap().fit(np.ones((8, 4)), v)
    mapped = constant.matrix_ @ np.ones(4) + constant.offset_
    np.testing.assert_allclose(mapped, v.mean(0), atol=1e-9)
    assert constant.r2_ <= 0
    assert constant.warning_


def test_embeddings_that_do_not_vary_leave_r2_undefined() -> None:
    z, _, _, _ = planted(20)
    found = AffineMap().fit(z, np.ones((20, 3)))
    assert np.isnan(found.r2_)
    assert "same embedding" in found.warning_
    np.testing.assert_allclose(z @ found.matrix_.T + found.offset_, 1, atol=1e-9)


def test_views_of_a_picture_are_held_out_together() -> None:
    """Ten copies of every row: held out one by one, each would be known from its copies."""
    rng = np.random.default_rng(0)
    z, v = rng.normal(size=(30, 60)), rng.normal(size=(30, 4))
    copies, which = np.repeat(z, 10, axis=0), np.repeat(np.arange(30), 10)
    values = np.repeat(v, 10, axis=0)
    assert AffineMap().fit(copies, values).r2_ > 0.9
    assert AffineMap().fit(copies, values, which).r2_ < 0.2


@given(st.integers(0, 50), st.integers(0, 2**40))
@settings(max_examples=50, deadline=None)
def test_folds_are_even_and_depend_on_place_alone(seed: int, first: int) -> None:
    first -= first % align.FOLDS
    places = np.arange(first, first + 5 * align.FOLDS)
    parts = align.folds(places, seed)
    assert (np.bincount(parts, minlength=align.FOLDS) == 5).all()
    np.testing.assert_array_equal(align.folds(places[7:9], seed), parts[7:9])


def test_parts_have_no_period() -> None:
    parts = align.folds(np.arange(5000), 0)
    for period in (5, 10, 25):
        counts = np.bincount(parts[::period], minlength=5)
        assert counts.min() > 0.5 * counts.mean()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_moments_add_up(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, v = 100 + rng.normal(size=(n + m, 3)), rng.normal(size=(n + m, 2))
    merged = Moments.of(z[:n], v[:n]) + Moments.of(z[n:], v[n:])
    whole = Moments.of(z, v)
    for name in ("count", "mean_z", "mean_v", "zz", "zv", "vv"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), atol=1e-9)


def test_kept_and_read_again() -> None:
    z, v, _, _ = planted(30, noise=1.0)
    found = AffineMap().fit(z, v)
    again = AffineMap.from_arrays(found.to_arrays())
    np.testing.assert_array_equal(again.matrix_, found.matrix_)
    np.testing.assert_array_equal(again.offset_, found.offset_)
    assert (again.r2_, again.ridge_, again.rows_, again.warning_) == (
        found.r2_,
        found.ridge_,
        found.rows_,
        found.warning_,
    )


def test_what_cannot_be_fitted_is_said() -> None:
    z, v, _, _ = planted(20)
    broken = z.copy()
    broken[4, 2] = np.nan
    with pytest.raises(InputError, match="row 4 of the features holds NaN"):
        AffineMap().fit(broken, v)
    with pytest.raises(InputError, match="row 3 of the embeddings"):
        AffineMap().fit(z, np.where(np.arange(20)[:, None] == 3, np.inf, v))
    with pytest.raises(InputError, match="1 image"):
        AffineMap().fit(z[:1], v[:1])
    with pytest.raises(InputError, match="0 image"):
        AffineMap().fit(z[:0], v[:0])
    with pytest.raises(InputError, match="20 rows of features for 19"):
        AffineMap().fit(z, v[:19])


# --- concepts --------------------------------------------------------------------------------


def test_two_queries_by_three_templates_with_known_vectors() -> None:
    """Each caption has a length of its own: only directions may count, and each as one third."""
    east, north, up = np.eye(3)
    captions = np.array([[5 * east, 0.1 * east, 2 * north], [up, 3 * up, 7 * up]])
    expected = np.array([[2, 1, 0], [0, 0, 3]]) / np.array([[5**0.5], [3]])
    np.testing.assert_allclose(queries(captions), expected, atol=1e-12)


def space(seed: int, n: int = 6, f: int = 9, e: int = 5) -> tuple[ConceptSpace, Rows]:
    rng = np.random.default_rng(seed)
    z, v, _, _ = planted(40, f, e, noise=3.0, seed=seed)
    names = [f"concept {i}" for i in range(n)]
    aligned = AffineMap().fit(z, v)
    return ConceptSpace.of(names, rng.normal(size=(n, 3, e)), aligned), z


@given(st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_rows_agree_with_cosines(seed: int) -> None:
    concepts, z = space(seed)
    strengths = concepts.strengths(z)
    planes, constants = concepts.planes()
    i, j = np.triu_indices(len(concepts), k=1)
    assert len(i) == concepts.pairs == 15
    weights, offsets = planes[i] - planes[j], constants[i] - constants[j]
    gap = strengths[:, i] - strengths[:, j]
    clear = np.abs(gap) > 1e-9
    assert clear.mean() > 0.99
    np.testing.assert_array_equal((z @ weights.T + offsets > 0)[clear], (gap > 0)[clear])


def test_strengths_are_cosines_of_what_the_map_gives() -> None:
    concepts, z = space(3)
    mapped = concepts.project(z)
    for row in range(5):
        for concept in range(len(concepts)):
            q = concepts.directions[concept]
            cosine = mapped[row] @ q / np.linalg.norm(mapped[row])
            assert concepts.strengths(z)[row, concept] == pytest.approx(cosine, abs=1e-12)
    weights, offsets = concepts.planes()
    norms = np.linalg.norm(mapped, axis=1, keepdims=True)
    np.testing.assert_allclose(z @ weights.T + offsets, concepts.strengths(z) * norms, atol=1e-9)


def test_the_vlm_itself_is_read_by_the_identity() -> None:
    rng = np.random.default_rng(0)
    captions, v = rng.normal(size=(4, 2, 5)), rng.normal(size=(10, 5))
    concepts = ConceptSpace.of_vlm(list("abcd"), captions)
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    np.testing.assert_allclose(concepts.strengths(v), unit @ queries(captions).T, atol=1e-12)
    weights, offsets = concepts.planes()
    np.testing.assert_allclose(weights, concepts.directions)
    assert offsets.tolist() == [0] * 4


def test_an_encoding_that_maps_to_nothing_has_no_strengths() -> None:
    concepts = ConceptSpace.of_vlm(["a", "b"], np.eye(2)[:, None, :])
    assert concepts.strengths(np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


def test_bad_concepts_are_named() -> None:
    captions = np.ones((2, 3, 4))
    with pytest.raises(InputError, match="'sea' is twice in the list"):
        ConceptSpace.of_vlm(["sea", "sea"], captions)
    with pytest.raises(InputError, match="1 concepts, but captions of 2"):
        ConceptSpace.of_vlm(["sea"], captions)
    with pytest.raises(InputError, match="zeros"):
        ConceptSpace.of_vlm(["sea", "sand"], np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match=r"\(concepts, templates, numbers\)"):
        queries(np.ones((2, 3)))
    z, v, _, _ = planted(20)
    with pytest.raises(InputError, match="different VLMs"):
        ConceptSpace.of(["sea", "sand"], captions, AffineMap().fit(z, v))
    with pytest.raises(InputError, match="reads 4 features; these rows have 3"):
        ConceptSpace.of_vlm(["sea", "sand"], captions + np.eye(2, 4)[:, None]).strengths(
            np.ones((1, 3))
        )
