"""Counts by category: they add up, and every unit is counted once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.core.categories import DEFAULT_CATEGORIES
from profiler.profile.counts import LayerProfile, ModelProfile, count_units

CATEGORIES = ("color", "object", "part")

units_ = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from(CATEGORIES)), st.booleans()), max_size=40
)


def counted(units: list[tuple[str | None, bool]], layer: str = "layer") -> LayerProfile:
    return count_units(layer, [c for c, _ in units], [dead for _, dead in units], CATEGORIES)


@given(units_)
def test_every_unit_counts_once(units: list[tuple[str | None, bool]]) -> None:
    profile = counted(units)
    assert profile.units == len(units)
    assert profile.dead == sum(dead for _, dead in units)
    assert profile.uninterpretable == sum(c is None and not dead for c, dead in units)
    assert tuple(profile.counts) == CATEGORIES, "those with no unit too, in the order given"


@given(units_)
def test_the_bars_of_a_layer_fill_it(units: list[tuple[str | None, bool]]) -> None:
    profile = counted(units)
    shares = [profile.share(category) for category in CATEGORIES]
    assert sum(shares) == pytest.approx(profile.interpretable_share)
    if profile.units:
        rest = (profile.uninterpretable + profile.dead) / profile.units
        assert sum(shares) + rest == pytest.approx(1)


@given(st.lists(units_, max_size=5))
def test_layers_add_up_to_the_model(layers: list[list[tuple[str | None, bool]]]) -> None:
    """Counting all units as if they were one layer gives the same."""
    model = ModelProfile(CATEGORIES, tuple(counted(units) for units in layers))
    together = counted([unit for units in layers for unit in units])
    assert model.total.counts == together.counts
    assert model.total.units == together.units
    assert model.total.dead == together.dead


def test_a_dead_unit_is_dead_whatever_its_category() -> None:
    profile = count_units("l", ["color", "color"], [True, False], CATEGORIES)
    assert (profile.counts["color"], profile.dead, profile.units) == (1, 1, 2)


def test_a_category_that_is_not_on_the_list_is_no_silent_count() -> None:
    with pytest.raises(KeyError, match="smell"):
        count_units("l", ["smell"], [False], CATEGORIES)


def test_as_many_categories_as_units() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        count_units("l", ["color"], [False, False], CATEGORIES)


@pytest.mark.parametrize(
    ("counts", "rest", "dead"), [({"color": -1}, 0, 0), ({}, -1, 0), ({"color": 2}, 0, -3)]
)
def test_negative_counts_are_refused(counts: dict[str, int], rest: int, dead: int) -> None:
    with pytest.raises(ValueError, match="negative count in the profile of layer 'l'"):
        LayerProfile("l", counts, rest, dead)


def test_an_empty_layer_divides_by_nothing() -> None:
    empty = LayerProfile("l", {}, 0, 0)
    assert (empty.units, empty.interpretable_share, empty.share("color")) == (0, 0.0, 0.0)
    assert ModelProfile(DEFAULT_CATEGORIES, ()).total.units == 0


@given(st.lists(units_, max_size=4))
def test_round_trip_through_json(layers: list[list[tuple[str | None, bool]]]) -> None:
    model = ModelProfile(
        CATEGORIES, tuple(counted(units, f"layer{i}") for i, units in enumerate(layers))
    )
    written = json.loads(json.dumps(model.to_json()))
    assert ModelProfile.from_json(written) == model
    assert written["total"]["units"] == sum(layer["units"] for layer in written["layers"])


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_refused(number: object) -> None:
    data = ModelProfile(CATEGORIES, ()).to_json() | {"format": number}
    with pytest.raises(ValueError, match=f"profile format {number!r}, expected 1"):
        ModelProfile.from_json(data)
