"""Drift of a stream: never reported without cause, and reported for the concept that changed."""

import numpy as np
import pytest

from profiler.concepts.heatmap import Heatmap
from profiler.errors import InputError, UsageError
from profiler.guard.drift import DriftWatch, Look, Shift, blamed


def strengths(rng: np.random.Generator, n: int, moved: float = 0.0) -> np.ndarray:
    """Six concepts; the third moves."""
    found = rng.normal(size=(n, 6)) + np.linspace(0, 1, 6)
    found[:, 2] += moved
    return found


def watch(rng: np.random.Generator, **options: float) -> DriftWatch:
    reference = Heatmap.of(strengths(rng, 400))
    assert reference is not None
    return DriftWatch(reference, np.array([200, 200]), **options)  # type: ignore[arg-type]


def run(stream: np.ndarray, found: DriftWatch, step: int = 37) -> list[Look]:
    looks = []
    for lo in range(0, len(stream), step):
        block = stream[lo : lo + step]
        looks += found.add(block, np.zeros(len(block), int))
    last = found.finish()
    return [*looks, last] if last else looks


def test_a_stream_like_the_reference_is_hardly_ever_reported() -> None:
    cried = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = watch(rng, window=50)
        cried += any(look.drifted for look in run(strengths(rng, 500), found))
    # The promise is 5 of 100 over all looks; ten or more would have a chance of 3 %.
    assert cried <= 9


def test_a_sudden_change_is_seen_in_its_window_and_blamed_on_its_concept() -> None:
    rng = np.random.default_rng(0)
    stream = np.concatenate([strengths(rng, 1000), strengths(rng, 100, moved=2.5)])
    looks = run(stream, watch(rng, window=100))
    assert [look.drifted for look in looks] == [False] * 10 + [True]
    concept, gained, lost = blamed(looks[-1].shifts)[0]
    assert (concept, lost) == (2, 0)
    assert gained >= 3
    assert all(shift.more == 2 and shift.now > shift.before for shift in looks[-1].shifts)


def test_a_slow_change_is_seen_over_the_stream_before_any_window_shows_it() -> None:
    rng = np.random.default_rng(1)
    looks = run(strengths(rng, 2000, moved=0.45), watch(rng, window=40))
    first = next(look for look in looks if look.drifted)
    assert first.overall
    assert not first.recent


def test_looks_do_not_depend_on_how_the_stream_is_cut() -> None:
    looks = []
    for step in (1, 37, 500):
        rng = np.random.default_rng(2)
        found = watch(rng, window=60)
        looks.append(run(strengths(rng, 300, moved=1.0), found, step))
    for one, other in zip(looks[0], looks[1], strict=True):
        assert (one.images, one.recent, one.overall) == (other.images, other.recent, other.overall)
    assert looks[0][-1].overall == looks[2][-1].overall


def test_levels_spend_alpha_over_all_looks_and_cells() -> None:
    rng = np.random.default_rng(0)
    looks = run(strengths(rng, 20_000), watch(rng, window=10, alpha=0.1), 5000)
    spent = sum(2 * 15 * look.level for look in looks)
    assert 0.0999 < spent + 0.1 * 6 / np.pi**2 / 2000 <= 0.1001


def test_class_shares_are_told_beside() -> None:
    rng = np.random.default_rng(0)
    found = watch(rng, window=10)
    (look,) = found.add(strengths(rng, 10), np.ones(10, int))
    assert look.classes.tolist() == [-0.5, 0.5]


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="6 concepts"):
        watch(rng).add(np.zeros((1, 5)), np.zeros(1, int))
    with pytest.raises(UsageError, match="at least one"):
        watch(rng, window=0)
    with pytest.raises(UsageError, match="alpha"):
        watch(rng, alpha=1.0)


def test_a_watch_that_saw_nothing_has_nothing_to_say() -> None:
    assert watch(np.random.default_rng(0)).finish() is None
    assert blamed([Shift(1, 2, 0.1, 0.5, 0.0)]) == [(1, 1, 0), (2, 0, 1)]


@pytest.mark.parametrize(("reference", "window"), [(2, 100), (100, 2), (4, 5), (5, 5), (40, 40)])
def test_a_watch_that_can_see_nothing_says_so(reference: int, window: int) -> None:
    # In the reference every concept is above the next; in the stream it is the other way round.
    rows = np.tile([2.0, 1.0, 0.0], (reference, 1))
    found = Heatmap.of(rows)
    assert found is not None
    watch = DriftWatch(found, np.array([reference]), window=window)
    (look,) = watch.add(np.tile([0.0, 1.0, 2.0], (window, 1)), np.zeros(window, int))
    assert watch.blind is (not look.drifted)
