"""Samples of images are labelled as the images themselves would be, whatever holds the rows."""

from pathlib import Path

import numpy as np
import pytest

from profiler.activations.collect import JoinedRows
from profiler.core.arrays import FloatArray, IntArray, Rows
from profiler.core.store import RowStream, Store
from profiler.errors import InputError
from profiler.profile import evaluation
from profiler.profile.evaluation import Sample, SampleLabeller, evaluate, sample_top, top_lists
from profiler.profile.labels import LayerLabels, label_layers
from profiler.profile.quality import bootstrap, held_out
from profiler.profile.similarity.base import Similarity
from profiler.profile.similarity.choose import SIMILARITIES

IMAGES, CONCEPTS, LAYERS = 700, 40, {"early": 9, "late": 30}

every_similarity = pytest.mark.parametrize("similarity", SIMILARITIES.values(), ids=SIMILARITIES)


def unit(rows: FloatArray) -> FloatArray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class World:
    """Units that respond to concepts, some to nothing, the last of each layer never at all."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.concepts = unit(rng.normal(size=(CONCEPTS, 12)))
        shown = self.concepts[rng.integers(CONCEPTS, size=IMAGES)]
        self.images = unit(shown + 0.2 * rng.normal(size=shown.shape))
        self.matrices = []
        for units in LAYERS.values():
            truth = rng.integers(CONCEPTS, size=units)
            matrix = self.images @ self.concepts[truth].T + 0.2 * rng.normal(size=(IMAGES, units))
            matrix[:, -1] = 1
            self.matrices.append(matrix.astype(np.float32))

    def labeller(self, similarity: Similarity) -> SampleLabeller:
        top = similarity.top(IMAGES)
        return SampleLabeller(
            list(LAYERS), self.matrices, self.images, self.concepts, similarity, top, seed=3
        )

    def labels(self, similarity: Similarity) -> list[LayerLabels]:
        tops = [
            top_lists(name, matrix, similarity.top(IMAGES) or 1)
            for name, matrix in zip(LAYERS, self.matrices, strict=True)
        ]
        return label_layers(
            tops,
            self.images,
            self.concepts,
            similarity=similarity,
            matrices=self.matrices,
            null_draws=0,
            seed=3,
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def on_copies(world: World, similarity: Similarity, sample: IntArray, top: int) -> list[IntArray]:
    """Labels of images that are really there as often as the sample says."""
    images = world.images[sample].copy()
    matrices = [matrix[sample].copy() for matrix in world.matrices]
    tops = []
    for name, matrix in zip(LAYERS, matrices, strict=True):
        order = np.argsort(-matrix, axis=0, kind="stable")[:top].T
        values = np.take_along_axis(matrix.T, order, axis=1)
        tops.append(evaluation.LayerTops(name, order, values, matrix.min(axis=0)))
    found = label_layers(
        tops,
        images,
        world.concepts,
        similarity=similarity,
        top=top if similarity.top(IMAGES) else None,
        matrices=matrices,
        null_draws=0,
        seed=3,
    )
    return [layer.concept[:, 0] for layer in found]


@every_similarity
def test_a_sample_is_labelled_as_copies_of_its_images_would_be(
    world: World, similarity: Similarity
) -> None:
    rng = np.random.default_rng(1)
    label = world.labeller(similarity)
    whole = similarity.top(IMAGES)
    for sample, share in (
        (np.sort(rng.integers(IMAGES, size=IMAGES)), 1.0),  # a draw with replacement
        (np.sort(rng.permutation(IMAGES)[: IMAGES // 2]), 0.5),  # what is left beside a half
        (np.sort(rng.integers(IMAGES, size=1500)), 1500 / IMAGES),
    ):
        top = round(whole * share) if whole else 1
        for found, expected in zip(
            label(sample), on_copies(world, similarity, sample, top), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
            assert found[-1] == -1
            assert (found[:-1] >= 0).all()


@every_similarity
def test_all_images_are_labelled_as_the_run_labels_them(
    world: World, similarity: Similarity
) -> None:
    found = world.labeller(similarity)(np.arange(IMAGES))
    for labels, own in zip(found, world.labels(similarity), strict=True):
        np.testing.assert_array_equal(labels, own.concept[:, 0])


@every_similarity
def test_rows_on_disk_and_rows_in_pieces_give_the_same(
    world: World, similarity: Similarity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    arrays = {"images": world.images} | {
        f"{name}.matrix": matrix for name, matrix in zip(LAYERS, world.matrices, strict=True)
    }
    store.put("passes", {}, {name: RowStream(a.shape, [a]) for name, a in arrays.items()})
    stored = store.get("passes", {}, on_disk=("images", "matrix"))
    assert stored is not None
    assert not any(isinstance(rows, np.ndarray) for rows in stored.values())

    def pieces(rows: FloatArray) -> Rows:
        return JoinedRows([rows[:100], rows[100:512], rows[512:]])

    own = world.labels(similarity)
    plain = evaluate(own, world.matrices, world.images, world.concepts, similarity=similarity,
                     draws=2)  # fmt: skip
    monkeypatch.setattr(evaluation, "ROW_BLOCK", 64)
    for matrices, images in (
        ([stored[f"{name}.matrix"] for name in LAYERS], stored["images"]),
        ([pieces(matrix) for matrix in world.matrices], pieces(world.images)),
    ):
        found = evaluate(own, matrices, images, world.concepts, similarity=similarity, draws=2)
        for one, other in zip(plain, found, strict=True):
            for part in ("held_out", "permuted", "stability"):
                for name, values in vars(getattr(one, part)).items():
                    np.testing.assert_array_equal(values, getattr(getattr(other, part), name))


def test_no_more_than_a_block_of_rows_is_read_at_a_time(world: World) -> None:
    class Watched:
        def __init__(self, rows: FloatArray) -> None:
            self.rows, self.shape, self.most = rows, rows.shape, 0

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, rows: IntArray) -> FloatArray:
            found = self.rows[rows]
            self.most = max(self.most, len(found))
            return found

    watched = Watched(np.tile(world.matrices[0], (20, 1)))
    sample = np.sort(np.random.default_rng(0).integers(len(watched), size=len(watched)))
    top_lists("early", Sample(watched, sample), 10)
    assert 0 < watched.most <= evaluation.ROW_BLOCK < len(watched)


def test_a_view_reads_like_the_rows_it_stands_for(world: World) -> None:
    chosen = np.array([0, 2, 2, 5])
    view = Sample(world.images, chosen)
    assert view.shape == (4, 12)
    assert len(view) == 4
    copies = world.images[chosen]
    for rows in (slice(1, 3), slice(None), np.array([3, 0, 0])):
        np.testing.assert_array_equal(view[rows], copies[rows])
    np.testing.assert_array_equal(Sample(view, np.array([1, 3]))[:], copies[[1, 3]])


@pytest.mark.parametrize(
    ("name", "top", "images", "length"),
    [
        ("soft-wpmi", 10, IMAGES, 10),
        ("soft-wpmi", 10, IMAGES // 2, 5),
        ("soft-wpmi", 1, IMAGES // 2, 1),
        ("soft-wpmi", 10, 20, 1),
        ("rank_reorder", 35, IMAGES // 2, 18),
        ("rank_reorder", 2, IMAGES // 2, 2),
        ("rank_reorder", 2, 1, 1),
        ("cosine", None, IMAGES // 2, None),
    ],
)
def test_the_list_is_as_great_a_share_of_a_sample(
    name: str, top: int | None, images: int, length: int | None
) -> None:
    assert sample_top(SIMILARITIES[name], top, images, IMAGES) == length


@every_similarity
def test_an_evaluation_is_held_out_prediction_and_survival(
    world: World, similarity: Similarity
) -> None:
    steps: list[int] = []
    own = world.labels(similarity)
    found = evaluate(own, world.matrices, world.images, world.concepts, similarity=similarity,
                     draws=3, seed=3, done=steps.append)  # fmt: skip
    assert steps == [1] * 4
    label = world.labeller(similarity)
    parts = held_out(label, world.matrices, world.images, world.concepts, fraction=0.5, seed=3)
    stable = bootstrap(label, IMAGES, [each.concept[:, 0] for each in own], draws=3, seed=3)
    for layer, name, (held, permuted), stability in zip(found, LAYERS, parts, stable, strict=True):
        assert (layer.layer, layer.units, layer.held_out.images) == (name, LAYERS[name], 350)
        np.testing.assert_array_equal(layer.held_out.correlation, held.correlation)
        np.testing.assert_array_equal(layer.permuted.auprc, permuted.auprc)
        np.testing.assert_array_equal(layer.stability.kept, stability.kept)
        # A dead unit has no number, which is not a number of zero.
        assert layer.label[-1] == -1
        assert np.isnan([layer.held_out.correlation[-1], layer.stability.survival[-1]]).all()
    good = found[1].held_out.correlation[:-1]
    assert np.median(good) > np.median(found[1].permuted.correlation[:-1]) + 0.2


def test_too_few_images_are_refused(world: World) -> None:
    own = world.labels(SIMILARITIES["soft-wpmi"])
    with pytest.raises(InputError, match=r"at least 6 readable images.* not 5"):
        evaluate(own, [m[:5] for m in world.matrices], world.images[:5], world.concepts)
    tops = [top_lists(n, m[:6], 2) for n, m in zip(LAYERS, world.matrices, strict=True)]
    for similarity in SIMILARITIES.values():
        few = label_layers(tops, world.images[:6], world.concepts, similarity=similarity, top=2,
                           matrices=[m[:6] for m in world.matrices], null_draws=0)  # fmt: skip
        found = evaluate(few, [m[:6] for m in world.matrices], world.images[:6], world.concepts,
                         similarity=similarity, draws=2)  # fmt: skip
        assert found[0].held_out.images == 3
