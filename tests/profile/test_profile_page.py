"""The profile report as text: what it says, what it lets through, how large it is."""

import base64
import hashlib
import re
from collections import Counter
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from report_samples import (
    CATEGORIES,
    HOSTILE,
    Outline,
    block,
    fake_run,
    flat_thumbnails,
    hostile_run,
    visible,
)

from profiler.errors import OutputError
from profiler.profile import charts
from profiler.profile import view as profile_page
from profiler.profile.charts import stacked_bar, swatches
from profiler.profile.counts import LayerProfile, ModelProfile, count_units
from profiler.profile.page import profile_prose
from profiler.profile.result import ProfileRun
from profiler.profile.view import render_profile
from profiler.report.document import TEMPLATES

SMALL = {"first": 12, "second": 20, "last": 30}


@pytest.fixture(scope="module")
def small() -> ProfileRun:
    return fake_run(SMALL, images=40, thumbnails=flat_thumbnails(40))


# -- safety ------------------------------------------------------------------------------------


def test_hostile_text_stays_text() -> None:
    html = render_profile(hostile_run())
    outline = Outline(html)
    assert outline.all("img") == []
    assert len(outline.all("script")) == 3
    assert not [a for _, a in outline.tags if any(name.startswith("on") for name in a)]
    data = block(html, "unit-data")
    assert HOSTILE in data["concepts"]  # type: ignore[operator]
    assert data["layers"][0]["name"] == f"layer {HOSTILE}"  # type: ignore[index]
    raw = html[html.index('id="unit-data">') :].split("</script>")[0]
    assert "\u2028" not in raw
    assert "<" not in raw.split(">", 1)[1]


def test_a_file_name_that_is_no_utf8_does_not_stop_the_page() -> None:
    run = fake_run({"one": 4}, images=9, names=[f"{i}\udcff.jpg" for i in range(9)])
    assert "0?.jpg" in render_profile(run)


def test_policy_allows_this_style_and_this_script_and_nothing_else(small: ProfileRun) -> None:
    html = render_profile(small)
    outline = Outline(html)
    policy = next(a["content"] for a in outline.all("meta") if "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        content = re.search(rf"<{tag}(?: type=\"module\")?>(.*?)</{tag}>", html, re.DOTALL)
        assert content
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    # Attributes that such a policy would silently ignore.
    assert not [a for _, a in outline.tags if "style" in a or "onclick" in a]


def test_nothing_points_outside(small: ProfileRun) -> None:
    for tag, attributes in Outline(render_profile(small)).tags:
        for name in ("src", "href", "data", "action", "srcset"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:")), (tag, attributes)


# -- structure ---------------------------------------------------------------------------------


def test_headings_ids_and_links_hold_together(small: ProfileRun) -> None:
    outline = Outline(render_profile(small))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
    pictures = [a for a in outline.all("svg") if a.get("class") in ("bar", "histogram")]
    assert len(pictures) == 1 + 2 * len(SMALL) + len(SMALL) + 1
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)


def test_first_words_are_what_was_examined_then_the_finding(small: ProfileRun) -> None:
    words = unescape(visible(render_profile(small)))
    places = [
        words.index(text)
        for text in (small.record.subject.name, small.summary, "Sentences written by a fixed")
    ]
    assert places == sorted(places)
    total = small.profile.total
    assert f"{total.interpretable} of {total.units}" in words
    prose = profile_prose(small)
    for story in ("threshold_story", "sorter_story", "limits", "warnings"):
        assert prose[story]
        for text in prose[story]:
            assert text.replace("\u202f", " ") in words
    assert small.record.command in words


def test_plain_table_has_every_unit_once(small: ProfileRun) -> None:
    html = render_profile(small)
    tables = re.findall(r"<noscript><details>.*?</noscript>", html, re.DOTALL)
    assert len(tables) == len(SMALL)
    for table, labels in zip(tables, small.layers, strict=True):
        rows = re.findall(r"<tr><td>(\d+)<td>(.*?)<td>(.*?)<td>.*?<td>(.*)", table)
        assert [int(row[0]) for row in rows] == list(range(labels.units))
        categories = small.unit_categories(labels)
        for row, category, dead in zip(rows, categories, labels.dead, strict=True):
            assert row[3] == ("dead" if dead else category or "uninterpretable")
            assert (row[1] == "–") == bool(dead)


def test_unit_columns_say_what_the_labels_say(small: ProfileRun) -> None:
    data = block(render_profile(small), "unit-data")
    names = [name for name, _, _ in data["categories"]]  # type: ignore[attr-defined]
    for layer, labels in zip(data["layers"], small.layers, strict=True):  # type: ignore[call-overload]
        alive = ~labels.dead
        best = [data["concepts"][i] for i in layer["concept"][:: layer["labels"]]]  # type: ignore[index]
        assert best == [small.concepts[i] for i in labels.concept[alive, 0]]
        np.testing.assert_allclose(
            np.array(layer["score"]).reshape(-1, layer["labels"]), labels.score[alive], atol=6e-5
        )
        images = [data["imageIndex"][i] for i in layer["top"]]  # type: ignore[index]
        assert images == labels.top_images[alive].ravel().tolist()
        np.testing.assert_allclose(
            layer["activation"], labels.top_activations[alive].ravel(), rtol=5.1e-3
        )
        p = [np.nan if value is None else value for value in layer["p"]]
        np.testing.assert_allclose(p, labels.p_value, rtol=5.1e-3)
        decoded = [names[code] if code >= 0 else None for code in layer["category"]]
        assert decoded == small.unit_categories(labels)
        assert [code == -2 for code in layer["category"]] == labels.dead.tolist()


def test_the_same_page_twice_is_the_same_file(small: ProfileRun) -> None:
    assert render_profile(small) == render_profile(small)


# -- charts ------------------------------------------------------------------------------------


def test_every_bar_on_the_page_sums_to_100_percent() -> None:
    for layers in (SMALL, {"one": 1}, {f"l{i}": 7 + i for i in range(30)}):
        html = render_profile(fake_run(layers, images=20))
        bars = [part.split("</svg>\n")[0] for part in html.split('<svg class="bar"')[1:]]
        assert len(bars) == 1 + 2 * len(layers)
        for bar in bars:
            if 'no units"' in bar:
                continue
            parts = re.findall(r'<rect class="fill" x="([\d.]+)%" width="([\d.]+)%"', bar)
            assert sum(float(width) for _, width in parts) == pytest.approx(100, abs=0.01)
            ends = [float(x) + float(width) for x, width in parts]
            assert [float(x) for x, _ in parts][1:] == pytest.approx(ends[:-1], abs=0.01)


def test_greys_stand_at_the_end_and_counts_beside_shares() -> None:
    layer = LayerProfile("conv", {"color": 3, "object": 1}, uninterpretable=3, dead=1)
    bar = charts.stacked_bar(layer, charts.swatches(["object", "color"]), named=False)
    assert [s.swatch.name for s in bar.segments] == ["object", "color", "uninterpretable", "dead"]
    assert [s.width for s in bar.segments] == [12.5, 37.5, 37.5, 12.5]
    assert bar.segments[1].tip.replace("\u202f", " ") == "color: 38 %, 3 of 8 units"


def test_default_categories_keep_their_colours_in_any_company() -> None:
    alone = {name: charts.swatches([name])[name].css for name in CATEGORIES}
    assert len(set(alone.values())) == len(CATEGORIES) == charts.SLOTS
    mixed = charts.swatches(["zebra", "color", "animal", "object"])
    assert mixed["color"].css == alone["color"]
    assert mixed["object"].css == alone["object"]
    assert len({s.css for s in mixed.values()}) == 4


def test_many_categories_stay_distinguishable() -> None:
    many = charts.swatches([*(f"category {i}" for i in range(25)), "object", "part"])
    assert len({(s.css, s.texture) for s in many.values()}) == 27


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dim, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


def test_text_on_a_segment_is_readable_in_both_themes() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    pairs = re.findall(r"\.c\d \{ --fill: (#\w+); --text: (#\w+);", style)
    for name in ("off", "dead"):
        found = re.findall(rf"--{name}: (#\w+);\s+--{name}-ink: (#\w+);", style)
        assert len(found) == 3, "light, dark and print"
        pairs += found
    assert len(pairs) == charts.SLOTS + 6
    assert not [pair for pair in pairs if contrast(*pair) < 4.5]


def test_histogram_cuts_at_tau_and_counts_everything() -> None:
    scores = np.array([0.1, 0.2, 0.2000001, 0.5, np.nan])
    null = np.linspace(0, 0.25, 101)
    axis = charts.ScoreAxis.around([scores], [null], 0.2, 3)
    assert axis is not None
    assert np.isclose(axis.edges, 0.2).any()
    drawn = charts.histogram(axis, scores, null, "layer")
    heights = Counter()  # type: ignore[var-annotated]
    for each in drawn["bins"]:
        heights[each["above"]] += each["height"]
        assert each["y"] + each["height"] == pytest.approx(100)
    assert heights[True] == pytest.approx(heights[False]), "0.2 itself is not above τ"
    assert "2 of 4 units above τ; of 101 random image lists, 20 above τ" in drawn["alt"]
    assert drawn["tau"] is not None
    assert drawn["tau_at"] == pytest.approx(axis.place(0.2))
    assert drawn["null"].startswith("M")
    assert all(0 <= tick.at <= 100 for tick in (*drawn["x_ticks"], *drawn["y_ticks"]))


def test_histogram_without_null_or_with_tau_far_away() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    axis = charts.ScoreAxis.around([scores], [np.zeros(0)], 9.0, 3)
    assert axis is not None
    drawn = charts.histogram(axis, scores, np.zeros(0), "layer")
    assert drawn["null"] == ""
    assert drawn["tau_at"] is None
    assert drawn["tau"] is not None
    assert drawn["tau"].text.endswith("→")
    assert not any(each["above"] for each in drawn["bins"])
    assert axis.edges[-1] < 1, "τ far away must not squash the scores"


def test_no_score_no_axis() -> None:
    assert charts.ScoreAxis.around([np.array([np.nan])], [np.zeros(0)], 0.1, 3) is None


# -- size --------------------------------------------------------------------------------------


def noise(images: int, size: int = 3000) -> dict[int, bytes]:
    rng = np.random.default_rng(1)
    return {i: rng.bytes(size) for i in range(images)}


@pytest.fixture(scope="module")
def heavy() -> ProfileRun:
    return fake_run({"a": 60, "b": 60}, images=900, thumbnails=noise(900))


def test_each_image_is_embedded_once(small: ProfileRun) -> None:
    html = render_profile(small)
    data = block(html, "thumbnail-data")
    shown = {
        int(image) for labels in small.layers for image in labels.top_images[~labels.dead].ravel()
    }
    assert {int(key) for key in data} == shown
    for image in shown:
        assert html.count(base64.b64encode(small.thumbnails[image]).decode()) == 1
    assert 'id="left-out"' not in html


@pytest.mark.parametrize("max_mb", [0.3, 0.5, 1.0, 2.0])
def test_page_never_exceeds_the_bound_and_says_what_it_left_out(
    heavy: ProfileRun, max_mb: float
) -> None:
    html = render_profile(heavy, max_mb=max_mb)
    size = len(html.encode())
    assert size <= max_mb * 1e6
    assert size > max_mb * 1e6 - 8000, "room is used"
    kept = len(block(html, "thumbnail-data"))
    needed = {
        int(image) for labels in heavy.layers for image in labels.top_images[~labels.dead].ravel()
    }
    assert 0 < kept < len(needed)
    assert f"{len(needed) - kept} of {len(needed)} thumbnails were left out" in visible(html)
    assert f"below {max_mb:g} MB" in visible(html)
    assert "With --report-dir each layer has a page of its own." in visible(html)


def test_first_images_and_best_units_are_kept(heavy: ProfileRun) -> None:
    kept = {int(key) for key in block(render_profile(heavy, max_mb=0.4), "thumbnail-data")}
    first = [
        (float(labels.score[unit, 0]), int(labels.top_images[unit, 0]))
        for labels in heavy.layers
        for unit in np.flatnonzero(~labels.dead)
    ]
    first.sort(reverse=True)
    fate = [image in kept for _, image in first]
    assert fate[0]
    assert not fate[-1]
    dropped = fate.index(False)
    later = {image for _, image in first[dropped:]} - {image for _, image in first[:dropped]}
    assert not kept & later


def test_a_page_too_large_without_pictures_is_an_error_of_one_line(heavy: ProfileRun) -> None:
    with pytest.raises(OutputError, match=r"needs 0\.\d MB .* limit of 0\.05 MB") as caught:
        render_profile(heavy, max_mb=0.05)
    assert "\n" not in str(caught.value)


def test_images_without_a_thumbnail_are_named() -> None:
    run = fake_run({"a": 1}, images=9, dead=0, thumbnails=dict(list(noise(9).items())[:8]))
    assert "1 image came without a thumbnail and is given by name." in visible(render_profile(run))


# -- edges -------------------------------------------------------------------------------------


def test_all_dead() -> None:
    html = render_profile(fake_run({"a": 5}, images=20, dead=1.1))
    words = visible(html)
    assert "The interpretable units alone" not in words
    assert "Every unit is dead: its activation is the same on every probe image." in words
    assert "No unit is interpretable" in words
    assert "There is nothing to label." in words


def test_none_interpretable_and_no_null() -> None:
    run = fake_run({"a": 5, "b": 1}, images=20, dead=0, tau=99.0, null=0)
    words = visible(render_profile(run))
    assert (
        "No unit scores above τ. Shares of categories by peak labels cannot be read from this run."
        in words
    )
    assert "No random image lists were scored in this layer." in words
    assert "given, not calibrated here" in words


@pytest.mark.parametrize("tau", [float("inf"), float("-inf"), -3.0])
def test_any_threshold_can_be_drawn(tau: float) -> None:
    html = render_profile(fake_run({"a": 30}, images=20, tau=tau))
    shown = block(html, "unit-data")["tau"]
    assert shown is None if np.isinf(tau) else shown == tau


def test_a_layer_without_units_is_said_to_have_none() -> None:
    words = visible(render_profile(fake_run({"a": 0, "b": 3}, images=20)))
    assert "This layer has no units." in words


def test_many_layers_and_categories() -> None:
    categories = [f"kind {i}" for i in range(20)]
    run = fake_run(
        {f"block.{i}": 3 for i in range(161)},
        images=20,
        categories=categories,
        words={name: f"{name[5:]}a {name[5:]}b" for name in categories},
    )
    outline = Outline(render_profile(run))
    layers = [a for a in outline.all("details") if a.get("class") == "layer"]
    assert len(layers) == 161
    assert not [a for a in layers if "open" in a], "closed, so that the page can be read"


def test_templates_do_no_arithmetic() -> None:
    for path in Path(TEMPLATES).glob("*.html"):
        for code in re.findall(r"\{[{%](.*?)[%}]\}", path.read_text(encoding="utf-8"), re.DOTALL):
            bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", code)
            assert not re.search(r"[*/]|\s[-+]\s|\bround\b", bare.strip("-+ ")), (path.name, code)


def test_places_without_a_concept_stay_empty() -> None:
    run = fake_run({"a": 6}, images=20, dead=0)
    labels = run.layers[0]
    labels.concept[:, 3:], labels.score[:, 3:] = -1, np.nan  # three concepts in all
    labels.concept[0], labels.score[0] = -1, np.nan
    html = render_profile(run)
    layer = block(html, "unit-data")["layers"][0]  # type: ignore[index]
    assert [code < 0 for code in layer["concept"]] == (labels.concept < 0).ravel().tolist()
    assert "<tr><td>0<td>–<td>–<td>" in html


def test_units_below_the_criterion_stand_pale_between_the_colours_and_the_greys() -> None:
    counted = count_units(
        "fc",
        ["color", None, None, None, None],
        [False, False, False, False, True],
        ["color", "object"],
        ["color", "object", "object", None, "color"],
    )
    bar = stacked_bar(counted, swatches(["color", "object"]), named=False)
    drawn = [(each.swatch.name, each.amount, each.pale) for each in bar.segments]
    assert drawn == [
        ("color", 1, False), ("object", 2, True), ("uninterpretable", 1, False), ("dead", 1, False),
    ]  # fmt: skip
    assert bar.segments[1].tip == "object, below the criterion: 40\u202f%, 2 of 5 units"


def test_headline_names_the_extremes_and_counts_ties() -> None:
    layers = [LayerProfile(name, {"object": n}, 10 - n, 0) for name, n in
              (("a", 0), ("b", 0), ("c", 3), ("d", 5))]  # fmt: skip
    total = ModelProfile(("object",), tuple(layers)).total
    said = profile_page._headline(layers, total).replace("\u202f", " ")
    assert said == (
        "20 % of the units are interpretable: fewest in 2 layers (0 %), most in d (50 %)"
    )
