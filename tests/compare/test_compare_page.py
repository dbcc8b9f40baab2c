"""The comparison of runs as text: what it says, what it lets through, how large it is."""

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from compare_samples import (
    CHANGED,
    LAYERS,
    SAMPLES,
    fake_comparison,
    fake_page,
    hostile_page,
    same_run,
)
from report_samples import CATEGORIES, HOSTILE, Outline, block, flat_thumbnails, visible

from profiler.compare.charts import DifferenceAxis, area_panel, line_panel, short_names
from profiler.compare.result import Comparison, Matching, PairComparison
from profiler.compare.view import ComparePage, merged, render_compare
from profiler.errors import OutputError
from profiler.profile.charts import swatches


@pytest.fixture(scope="module")
def two() -> ComparePage:
    return fake_page(fake_comparison(**CHANGED), thumbnails=flat_thumbnails(300))


@pytest.fixture(scope="module")
def html(two: ComparePage) -> str:
    return render_compare(two)


def with_pair(comparison: Comparison, pair: PairComparison) -> Comparison:
    return replace(comparison, pairs=(pair, *comparison.pairs[1:]))


def cells(html: str, table: str) -> list[list[str]]:
    """The rows of the first table of a class, as words."""
    found = re.search(rf'<table class="{table}">.*?</table>', html, re.DOTALL)
    assert found
    body = found[0][found[0].index("<tbody>") :]
    return [
        [visible(cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    ]


# -- words ------------------------------------------------------------------------------------


def test_first_words_are_runs_then_finding_then_bars(html: str, two: ComparePage) -> None:
    words = visible(html)
    places = [
        words.index(text)
        for text in (
            two.examined[0][1],
            two.comparison.runs[1].title,
            two.summary[0],
            "Interpretable units: 88 % in before, 84 % in after",
            "before → after:",
            "Where runs are cut",
            two.limits[0],
            two.command,
        )
    ]
    assert places == sorted(places)
    for texts in (two.cut_story, two.prior_story, two.noise_story, two.sorter_story):
        assert all(text in words for text in texts)


def test_every_share_says_counts_interval_q_and_verdict(html: str, two: ComparePage) -> None:
    pair = two.comparison.pairs[0]
    expected: dict[tuple[str, str], list[str]] = {}
    verdicts = {"changed": "changed", "noise": "within noise", "none": "not significant"}
    for layer in pair.layers:
        for share in layer.shares:
            if not (share.before or share.after):
                continue
            points = [f"{100 * v:+.1f}" for v in (share.difference, share.low, share.high)]
            points = ["0.0" if p in ("+0.0", "-0.0") else p.replace("-", "−") for p in points]
            said = verdicts[share.verdict] if share.before != share.after else "no difference"
            expected[layer.layer, share.category] = [
                f"{share.before} of {share.before_units} → {share.after} of {share.after_units}",
                f"{points[0]} {points[1]} to {points[2]}",
                f"±{100 * share.noise:.1f}",
                "<0.001" if share.q_value < 0.001 else f"{share.q_value:.3f}",
                said,
            ]
    rows = cells(html, "changes")
    found = {(r[0], r[1]): [r[2].split(" % ", 2)[-1], *r[4:]] for r in rows}
    assert found.keys() == expected.keys()
    for key, texts in expected.items():
        assert found[key][0].endswith(texts[0])
        assert found[key][1:] == texts[1:]
    assert "changed" in {row[-1] for row in rows[:1]}, "what changed comes first"
    hidden = sum(len(layer.shares) for layer in pair.layers) - len(rows)
    assert f"{hidden} shares are 0 in both runs and left out." in visible(html)


def test_layers_say_divergence_and_kept_labels_with_their_noise(
    html: str, two: ComparePage
) -> None:
    for row, layer in zip(cells(html, "drift"), two.comparison.pairs[0].layers, strict=True):
        assert row[0] == layer.layer
        beyond = "beyond" if layer.divergence > layer.divergence_noise else "within"
        assert row[1] == f"{layer.divergence:.3f} noise {layer.divergence_noise:.3f}, {beyond} it"
        kept, both = int(layer.kept.sum()), int(layer.both_trusted.sum())
        assert f"{kept} of {both}" in row[3]
        assert row[3].endswith("fewer" if layer.kept_share < layer.kept_noise else "within it")
        assert layer.matching
        assert row[5] == (
            f"{len(layer.matching.before)} units by number; "
            f"mean correlation {layer.matching.mean:.2f}"
        )


def test_a_run_against_itself_differs_in_nothing() -> None:
    words = visible(render_compare(fake_page(same_run(fake_comparison()))))
    assert "before → again: nothing differs" in words
    assert "every share is the same, no word came or went" in words
    assert "No layer gained or lost a word." in words
    assert "No word moved" in words
    assert "changed beyond noise:" not in words
    for row in cells(render_compare(fake_page(same_run(fake_comparison()))), "changes"):
        assert row[4].startswith("0.0 ")
        assert row[-1] == "no difference"


@pytest.mark.parametrize("what", ["share", "unit", "word", "correlation", "layer"])
def test_the_least_difference_is_not_nothing(what: str) -> None:
    same = same_run(fake_comparison())
    pair = same.pairs[0]
    layer = pair.layers[0]
    assert layer.matching
    if what == "share":
        share = replace(layer.shares[0], after=layer.shares[0].after + 1)
        layer = replace(layer, shares=(share, *layer.shares[1:]))
    elif what == "unit":
        kept = layer.kept.copy()
        kept[np.flatnonzero(layer.both_trusted)[0]] = False
        layer = replace(layer, kept=kept)
    elif what == "word":
        layer = replace(layer, gained=fake_comparison().pairs[0].layers[-1].gained[:1])
        assert layer.gained
    elif what == "correlation":
        layer = replace(layer, matching=replace(layer.matching, correlation=np.full(32, 0.99)))
    pair = replace(pair, layers=(layer, *pair.layers[1:]))
    if what == "layer":
        pair = replace(pair, only_after=("extra",))
    words = visible(render_compare(fake_page(with_pair(same, pair))))
    assert "nothing differs" not in words


def test_without_draws_every_place_of_noise_says_that_it_is_unknown() -> None:
    page = fake_page(fake_comparison(draws=0, activations=False, **CHANGED))
    html = render_compare(page)
    words = visible(html)
    assert (
        "No noise floor: activations were not kept, so it is unknown whether a difference" in words
    )
    assert "2 of 40 shares differ significantly" in words
    assert "significant, no noise floor" in {row[-1] for row in cells(html, "changes")}
    assert {row[5] for row in cells(html, "changes")} == {"–"}
    assert "so it is unknown how similarly the layers respond" in words
    assert "it is unknown which" in words[words.index("Words of interpretable units") :]
    assert "correlation unknown" in words
    assert "beyond noise" not in words.split("How it was measured")[0].replace(
        "filled: changed beyond noise", ""
    ).replace("what changed beyond noise", "").replace("What changed beyond noise", "")
    assert "noise-band" not in html.split("</style>")[1].split("<script")[0]
    quiet = visible(render_compare(fake_page(fake_comparison(draws=0, drift=0.05))))
    assert "no share differs significantly" in quiet
    assert "within the noise floor" not in quiet


def test_own_thresholds_stand_on_every_chart() -> None:
    page = fake_page(fake_comparison(runs=3, own_thresholds=True))
    html = render_compare(page)
    said = "Each run is cut at a τ of its own: before 0.160, after 0.180, third 0.200."
    # Bars, three kinds of growth, and five parts of each of two pairs; once more in the story.
    assert visible(html).count(said) == 1 + 3 + 2 * 5 + 1
    assert "The runs are cut at different thresholds" in visible(html)
    common = visible(render_compare(fake_page(fake_comparison())))
    assert common.count("All runs are cut at τ = 0.160.") == 2
    assert "different thresholds" not in common


def test_priors_of_their_own_are_said_where_labels_are_compared() -> None:
    words = visible(render_compare(fake_page(fake_comparison(prior="own"))))
    assert words.count("because other units d") == 3
    assert "because other units d" not in visible(render_compare(fake_page(fake_comparison())))


def test_without_an_interpretable_unit_there_is_nothing_to_compare() -> None:
    assert "No unit of any run is above τ" in visible(
        render_compare(fake_page(fake_comparison({"a": 20}, tau=99.0)))
    )
    assert "is above τ:" not in visible(render_compare(fake_page(fake_comparison({"a": 20}))))


def test_runs_without_a_layer_in_common() -> None:
    page = fake_page(SAMPLES["apart"]())
    html = render_compare(page)
    words = visible(html)
    assert "These runs have no layer in common" in words
    assert "before → after: no layer in common" in words
    assert "Only in before, so without a counterpart here: 2 layers (conv1, layer4)." in words
    assert words.count("not a layer of this run") == 4
    assert "Unit by unit" not in words
    assert 'class="heat"' in html, "similarity needs no names"
    assert block(html, "compare-data")["pairs"][0]["layers"] == []  # type: ignore[index]


def test_units_that_cannot_be_matched_are_said_to_be_so() -> None:
    html = render_compare(fake_page(SAMPLES["uneven"]()))
    words = visible(html)
    assert "blocks.2: units cannot be put side by side, 40 and 48 units." in words
    assert cells(html, "drift")[1][5] == "cannot be put side by side: 40 and 48 units"
    assert cells(html, "drift")[1][3] == "–"
    assert "Only in after, so without a counterpart here: 1 layer (extra)." in words


def test_units_matched_by_activation_show_both_numbers() -> None:
    comparison = fake_comparison({"a": 6})
    layer = comparison.pairs[0].layers[0]
    matching = Matching(
        "hungarian", np.arange(4), np.array([3, 2, 1, 0]), np.array([0.9, np.nan, 0.4, 0.2]), 0.05
    )
    flags = np.array([True, False, False, True])
    layer = replace(layer, matching=matching, kept=flags & False, both_trusted=flags)
    page = fake_page(with_pair(comparison, replace(comparison.pairs[0], layers=(layer,))))
    html = render_compare(page)
    words = visible(html)
    assert "4 units by activation; mean correlation 0.50 (by number 0.05)" in words
    assert words.count("2 units of") == 2, "without a partner, in both runs"
    assert re.findall(r"<tr><td>(\d → \d)<td>", html), "and in the plain table"
    data: Any = block(html, "compare-data")
    assert data["pairs"][0]["layers"][0]["after"] == [3, 2, 1, 0]
    assert data["pairs"][0]["layers"][0]["r"] == [0.9, None, 0.4, 0.2]


def test_words_within_noise_are_called_so(html: str, two: ComparePage) -> None:
    section = html[html.index('id="pair-1-words"') : html.index('id="pair-1-units"')]
    for layer in two.comparison.pairs[0].layers:
        part = visible(section)
        if not (layer.gained or layer.lost):
            continue
        part = part[part.index(f"{layer.layer} gained") :]
        noise = [c for c in layer.gained if c.beyond_noise is False]
        listed = ", ".join(f"{two.comparison.concepts[c.concept]} × {c.after}" for c in noise)
        if noise:
            assert f"Within noise: {listed}." in part.split(" lost ")[0]
        for change in layer.lost:
            word = two.comparison.concepts[change.concept]
            assert f"{word} × {change.before}" in part.split(" lost ", 1)[1]
    moved = two.comparison.pairs[0].moved
    assert len(cells(html, "moved")) == len(moved) > 0
    assert cells(html, "moved")[0][0] == two.comparison.concepts[moved[0].concept]


# -- similarity --------------------------------------------------------------------------------


def test_similarity_has_a_number_in_every_cell(html: str, two: ComparePage) -> None:
    cka = two.comparison.pairs[0].cka
    assert cka is not None
    rows = cells(html, "heat")
    assert [[float(text.replace("−", "-")) for text in row[1:]] for row in rows] == [
        [round(v, 2) + 0.0 for v in values] for values in cka.tolist()
    ]
    shades = re.findall(r'<td class="k(\d+)', html[html.index('class="heat"') :])
    assert [int(s) for s in shades] == [round(20 * min(max(v, 0), 1)) for v in cka.ravel()]


def test_similarity_without_a_value_is_hatched_and_said() -> None:
    comparison = fake_comparison()
    cka = np.array(comparison.pairs[0].cka)
    cka[1, :] = np.nan
    page = fake_page(with_pair(comparison, replace(comparison.pairs[0], cka=cka)))
    html = render_compare(page)
    assert html.count('<td class="no') == 4
    assert "4 pairs without a value, hatched" in visible(html)


def test_many_layers_make_a_dense_map_and_thin_bars() -> None:
    html = render_compare(fake_page(SAMPLES["deep"]()))
    assert 'class="heat dense"' in html
    assert 'class="paired thin"' in html


# -- growth ------------------------------------------------------------------------------------


def test_a_timeline_shows_layers_categories_and_words() -> None:
    comparison = SAMPLES["timeline"]()
    html = render_compare(fake_page(comparison))
    part = html[html.index('id="timeline"') : html.index('class="chooser"')]
    assert "Interpretable units grow from 81 % to 88 %" in visible(part)
    labels = re.findall(r'class="growth" role="img" aria-label="([^"]*)"', part)
    names = [layer.name for layer in comparison.runs[0].layers]
    assert [label.split(":")[0] for label in labels[:4]] == names
    assert [label.split(",")[0] for label in labels[4:8]] == names
    shares = [run.profile.layers[0].interpretable_share for run in comparison.runs]
    found = visible(labels[0].split(": ")[1]).split(", ")
    assert found == [f"{np.floor(100 * share + 0.5):.0f} %" for share in shares]
    word, layer = labels[8].split(":")[0].rsplit(", ", 1)
    counts = [
        sum(
            comparison.concepts[c] == word
            for c, trusted in zip(la.labels.concept[:, 0], la.trusted, strict=True)
            if trusted
        )
        for run in comparison.runs
        for la in run.layers
        if la.name == layer
    ]
    assert labels[8].split(": ")[1] == ", ".join(map(str, counts))
    assert "5 runs lie between them" in visible(html), "only the first and last bars are drawn"
    assert html.count('class="bar"') == 2 * 5


def test_two_runs_have_no_timeline_and_no_chooser(html: str) -> None:
    assert 'id="timeline"' not in html
    assert 'class="chooser"' not in html


@pytest.mark.parametrize("runs", [3, 5])
def test_several_runs_have_all_pairs_on_the_page(runs: int) -> None:
    html = render_compare(fake_page(fake_comparison(runs=runs)))
    assert html.count('<section id="pair-') == runs - 1
    chooser = html[html.index('class="chooser"') :].split("</nav>")[0]
    assert re.findall(r'href="#(pair-\d)"', chooser) == [f"pair-{i}" for i in range(1, runs)]
    assert html.count('class="bar"') == runs * 5
    assert "The runs stand in the order given" in visible(html)


def test_steps_place_the_runs_and_unknown_ones_are_said_to_be() -> None:
    known = fake_comparison(runs=3, timeline=True)
    steps = zip(known.runs, (0, 100, 1000), strict=True)
    stretched = replace(known, runs=tuple(replace(run, step=step) for run, step in steps))
    data: Any = block(render_compare(fake_page(stretched)), "compare-data")
    assert data["places"] == [0, 10, 100]
    html = render_compare(fake_page(fake_comparison(runs=3, timeline=True, steps=False)))
    assert "The steps of the runs are not known" in visible(html)
    without: Any = block(html, "compare-data")
    assert without["places"] == [0, 50, 100]


def test_a_layer_that_a_run_lacks_leaves_a_gap_in_its_line() -> None:
    panel = line_panel("a", [0, 25, 50, 75, 100], [0.1, 0.2, None, 0.3, 0.4], 0.4, texts=["x"] * 5)
    assert panel.lines == ("M0.00 75.00L25.00 50.00", "M75.00 25.00L100.00 0.00")
    assert len(panel.dots) == 4


def test_areas_fill_the_whole() -> None:
    comparison = fake_comparison(runs=3)
    layers = [run.profile.layers[1] for run in comparison.runs]
    panel = area_panel("a", [0, 50, 100], layers, swatches(CATEGORIES))
    points = [re.findall(r"([\d.]+) ([\d.]+)", area.path) for area in panel.areas]
    assert {y for _, y in points[0][3:]} == {"100.00"}
    assert all(float(y) == pytest.approx(0, abs=0.01) for _, y in points[-1][:3])
    for below, above in pairwise(points):
        assert above[3:] == below[2::-1], "each stands upon the one before"


# -- units -------------------------------------------------------------------------------------


def test_unit_columns_say_what_the_labels_say(html: str, two: ComparePage) -> None:
    data: Any = block(html, "compare-data")
    names = [name for name, _, _ in data["categories"]]
    for shown, run in zip(data["runs"], two.comparison.runs, strict=True):
        for columns, layer in zip(shown["layers"], run.layers, strict=True):
            words = [data["concepts"][i] if i >= 0 else None for i in columns["concept"]]
            concept = layer.labels.concept.ravel()
            assert words == [two.comparison.concepts[i] if i >= 0 else None for i in concept]
            images = [data["imageIndex"][i] for i in columns["top"]]
            assert images == layer.labels.top_images.ravel().tolist()
            kinds = [names[c] if c >= 0 else None for c in columns["category"]]
            assert kinds == list(layer.categories)
            assert [c == -2 for c in columns["category"]] == layer.labels.dead.tolist()
    pairs, layers = data["pairs"][0]["layers"], two.comparison.pairs[0].layers
    for columns, layer in zip(pairs, layers, strict=True):
        before, after = (run.layer(layer.layer) for run in two.comparison.runs)
        assert before
        assert after
        for unit, state in enumerate(columns["state"]):
            trusted = bool(before.trusted[unit]), bool(after.trusted[unit])
            same = before.labels.concept[unit, 0] == after.labels.concept[unit, 0]
            expected = {
                (True, True): "label kept" if same else "label changed",
                (True, False): "no longer interpretable",
                (False, True): "became interpretable",
                (False, False): "uninterpretable in both",
            }[trusted]
            assert data["states"][state] == expected


def test_plain_tables_have_the_units_that_changed_most(html: str, two: ComparePage) -> None:
    tables = re.findall(r'<table class="plain-pairs">.*?</table>', html, re.DOTALL)
    for table, (_, units) in zip(tables, LAYERS.items(), strict=True):
        rows = re.findall(r"<tr><td>(.*?)<td>(.*?)<td>(.*?)<td>(.*?)<td>(\S*)", table)
        assert len(rows) == min(units, 60)
        rank = ["label changed", "no longer interpretable", "became interpretable",
                "uninterpretable in both", "label kept"]  # fmt: skip
        order = [rank.index(row[3]) for row in rows]
        assert order == sorted(order)
    assert "and 260 units that changed less" in visible(html)


# -- safety and structure ------------------------------------------------------------------------


def test_hostile_text_stays_text() -> None:
    html = render_compare(hostile_page())
    outline = Outline(html)
    assert outline.all("img") == []
    assert len(outline.all("script")) == 3
    assert not [a for _, a in outline.tags if any(name.startswith("on") for name in a)]
    assert HOSTILE in block(html, "compare-data")["concepts"]  # type: ignore[operator]
    raw = html[html.index('id="compare-data">') :].split("</script>")[0]
    assert "<" not in raw.split(">", 1)[1]


@pytest.mark.parametrize("kind", list(SAMPLES))
def test_headings_ids_and_links_hold_together(kind: str) -> None:
    html = render_compare(fake_page(SAMPLES[kind]()))
    outline = Outline(html)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in outline.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:")), (tag, attributes)
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
        assert "style" not in attributes, "the policy would ignore it"
    assert all(a["aria-label"] for a in outline.all("svg") if a.get("role") == "img")
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf|None)\b", markup)


def test_the_same_page_twice_is_the_same_file(two: ComparePage, html: str) -> None:
    assert render_compare(two) == html


# -- size ----------------------------------------------------------------------------------------


def test_pictures_yield_before_the_page_is_refused() -> None:
    rng = np.random.default_rng(1)
    thumbnails = {i: rng.bytes(3000) for i in range(300)}
    page = fake_page(fake_comparison(), thumbnails=thumbnails)
    whole = len(render_compare(page).encode()) / 1e6
    assert whole > 1.2
    smaller = render_compare(page, max_mb=whole - 0.3)
    assert len(smaller.encode()) <= (whole - 0.3) * 1e6
    assert "thumbnails were left out to keep this file below" in visible(smaller)
    bare = len(render_compare(replace(page, thumbnails={})).encode()) / 1e6
    fewer = render_compare(page, max_mb=bare - 0.03)
    assert "units have 5 labels and 4 images each" in visible(fewer)
    data: Any = block(fewer, "compare-data")
    assert data["runs"][0]["layers"][0]["images"] == 4
    with pytest.raises(OutputError, match="without any picture"):
        render_compare(page, max_mb=0.1)


# -- small parts -----------------------------------------------------------------------------------


def test_one_axis_holds_every_difference_and_its_middle_is_zero(html: str) -> None:
    axis = DifferenceAxis.around([0.1, -0.3])
    assert axis.limit == 0.4
    assert axis.place(0) == 50
    assert axis.place(-0.9) == 0
    assert axis.mark(0.1, 0.0, 0.2, float("nan")).band is None
    for x in re.findall(r'class="whisker" x1="([\d.]+)%" x2="([\d.]+)%"', html):
        assert 0 <= float(x[0]) <= float(x[1]) <= 100


def test_layers_of_all_runs_stand_in_one_order() -> None:
    assert merged([["a", "c"], ["a", "b", "c"], ["z", "a"]]) == ["z", "a", "b", "c"]
    assert merged([["a"], ["x", "y"]]) == ["a", "x", "y"]


def test_short_names_keep_what_tells_layers_apart() -> None:
    names = [f"very.long.prefix.of.block.{i}" for i in range(3)]
    shown, before, after = short_names(names)
    assert len(set(shown.values())) == 3
    assert (before, after) == ("very.long.prefix.of.block.", "")
    assert short_names(["one.only.but.a.very.long.name"])[1:] == ("", "")
    nested, _, _ = short_names(["encoder.layers.block.mlp", "encoder.layers.block"])
    assert len(set(nested.values())) == 2
