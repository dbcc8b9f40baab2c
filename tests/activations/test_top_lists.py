"""Top lists that stream through, against sorting everything at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from profiler.activations import top_lists as activations
from profiler.activations.top_lists import LayerTops, TopCollector
from profiler.core.arrays import FloatArray
from profiler.errors import InputError


def collected(values: FloatArray, length: int, batches: list[int] | None = None) -> LayerTops:
    """The top lists of ``values`` (N, K), given in batches of these sizes and then the rest."""
    collector = TopCollector("layer", length)
    start = 0
    for size in [*(batches or []), len(values)]:
        stop = min(start + size, len(values))
        if stop > start:
            collector.add(np.arange(start, stop), values[start:stop])
        start = stop
    return collector.result()


def sorted_at_once(values: FloatArray, length: int) -> FloatArray:
    return np.argsort(-values, axis=0, kind="stable")[:length].T


# Few different values, so that ties are the rule; negative, zero and -0.0 among them.
@given(
    values=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 4)),
        elements=st.sampled_from([-3.5, -1.0, -0.0, 0.0, 0.25, 2.0, 1e30]),
    ),
    length=st.integers(1, 35),
    batches=st.lists(st.integers(1, 8), max_size=12),
    buffer=st.integers(1, 40),
)
@settings(max_examples=150, deadline=None)
def test_any_batching_gives_what_sorting_everything_gives(
    values: FloatArray, length: int, batches: list[int], buffer: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activations, "_BUFFERED_ROWS", buffer)
        tops = collected(values, length, batches)
    wanted = sorted_at_once(values, length)
    np.testing.assert_array_equal(tops.images, wanted)
    np.testing.assert_array_equal(tops.activations, np.take_along_axis(values.T, wanted, axis=1))
    moved = (tops.activations > values.min(axis=0)[:, None]).sum(axis=1)
    fewest = max(1, min(3, tops.images.shape[1] // 5))
    np.testing.assert_array_equal(tops.dead, moved < fewest)


def test_more_images_than_the_buffer_holds() -> None:
    """The same with the buffer as it is, and batches as a run makes them."""
    values = np.random.default_rng(0).integers(-50, 50, size=(1700, 30)).astype(np.float32)
    tops = collected(values, 100, [64] * 26)
    np.testing.assert_array_equal(tops.images, sorted_at_once(values, 100))


def test_equal_activations_keep_the_order_of_the_images() -> None:
    tops = collected(np.ones((6, 1), dtype=np.float32), 3, [2, 2])
    assert tops.images.tolist() == [[0, 1, 2]]


def test_a_unit_that_is_never_positive_has_a_top_list_like_any_other() -> None:
    """A list that begins as zeros would name an image that has nothing to do with the unit."""
    tops = collected(np.array([[-5.0], [-1.0], [-3.0]], dtype=np.float32), 2)
    assert tops.images.tolist() == [[1, 2]]
    assert tops.activations.tolist() == [[-1.0, -3.0]]
    assert not tops.dead[0]


@pytest.mark.parametrize("value", [0.0, -2.0, 7.5])
def test_a_unit_with_one_value_on_all_images_is_dead(value: float) -> None:
    values = np.array([[value, value, 0.0], [value, value, -0.0], [value, value + 1, 0.0]])
    assert collected(values, 2, [1, 1]).dead.tolist() == [True, False, True]


def test_variation_outside_the_top_list_is_life() -> None:
    """On most images a unit may give its greatest value, as one that saturates does."""
    values = np.full((20, 1), 6.0)
    values[13] = 0.0
    assert collected(values, 3, [4, 4]).dead.tolist() == [False]


def test_a_list_longer_than_the_probe_set_holds_every_image() -> None:
    tops = collected(np.array([[1.0], [3.0], [2.0]]), 10)
    assert tops.images.tolist() == [[1, 2, 0]]


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    collector = TopCollector("layer", 5)
    rows = []
    for start in range(0, 64 * 100, 64):
        collector.add(np.arange(start, start + 64), np.full((64, 2), float(start)))
        rows.append(sum(len(piece) for _, piece in collector._rows))
    assert max(rows) < 512


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_no_numbers_are_refused_by_the_images_name(value: float) -> None:
    names = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    collector = TopCollector("conv1", 2, names.__getitem__)
    collector.add(np.array([0, 1]), np.zeros((2, 3)))
    bad = np.zeros((3, 3))
    bad[1:, 2] = value
    with pytest.raises(InputError, match=r"'conv1' gives NaN or infinite .*image d\.png"):
        collector.add(np.array([2, 3, 4]), bad)


def test_a_layer_that_cuts_images_into_windows_is_refused() -> None:
    """Attention in windows, for instance, puts the windows of all images along the first axis."""
    with pytest.raises(InputError, match="gives 8 rows for 2 images"):
        TopCollector("attn", 2).add(np.arange(2), np.zeros((8, 3)))


def test_nothing_collected_is_an_error() -> None:
    with pytest.raises(InputError, match="no activations were collected for layer 'fc'"):
        TopCollector("fc", 3).result()
