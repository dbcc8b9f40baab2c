"""Rules for continuous integration, and the paragraph of a comparison, on runs made by hand."""

import pytest
from checked import complaints
from compare_samples import SAMPLES
from comparisons_by_hand import SORTING, run, steady

from profiler.compare.facts import ComparisonFacts
from profiler.compare.pairs import compare
from profiler.compare.result import Comparison
from profiler.compare.rules import check_rules, parse_rule
from profiler.errors import UnknownNameError, UsageError

CATEGORIES = ("color", "object", "scene")


@pytest.fixture(scope="module")
def found() -> Comparison:
    """In conv nothing changes; in fc twelve red units of twenty become cats."""
    early = ["red"] * 4
    late = [["red"] * 12 + ["cat"] * 6 + [None] * 2, ["cat"] * 18 + [None] * 2]
    runs = [
        run(name, {"conv": early, "fc": units}, [steady(early), steady(units)])
        for name, units in zip("ab", late, strict=True)
    ]
    return compare(runs, None, SORTING)


@pytest.mark.parametrize(
    ("rule", "outcome", "reason"),
    [
        ("js>0.1", "broken", "js is 0.413 in fc from 'a' to 'b'"),
        ("js[conv]>0.1", "kept", "1 values, none > 0.1"),
        ("js > 0.5", "kept", "2 values, none > 0.5"),
        ("color<-50%", "broken", "color is -60.0 % in fc from 'a' to 'b'"),
        ("color<-60%", "kept", "3 values, none < -0.6"),
        ("color[all]<-49%", "broken", "color is -50.0 % in all layers from 'a' to 'b'"),
        ("object>+0.3", "broken", "object is +60.0 % in fc from 'a' to 'b', and in 1 more"),
        ("interpretable<-5%", "kept", "3 values, none < -0.05"),
        ("dead>0", "kept", "3 values, none > 0"),
        ("kept<50%", "broken", "kept is 33.3 % in fc from 'a' to 'b'"),
        ("kept[conv]<100%", "kept", "1 values, none < 1"),
        ("changed>0", "broken", "changed is 2 in fc from 'a' to 'b'"),
        ("cka<0.9", "undecided", "cka could not be measured in any layer"),
        ("correlation<0.9", "undecided", "correlation could not be measured in any layer"),
    ],
)
def test_a_rule_is_broken_where_any_layer_breaks_it(
    found: Comparison, rule: str, outcome: str, reason: str
) -> None:
    (verdict,) = check_rules(found, [parse_rule(rule, CATEGORIES)])
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@pytest.mark.parametrize("text", ["js", "js=1", "js>", ">1", "js>1>2", "js[>1", "js>1 %%", "js>a"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no condition; write"):
        parse_rule(text, CATEGORIES)


def test_unknown_names_list_near_ones(found: Comparison) -> None:
    with pytest.raises(UnknownNameError, match="unknown metric of --fail-on 'colour'; near"):
        parse_rule("colour>1%", CATEGORIES)
    with pytest.raises(UnknownNameError, match=r"unknown layer of --fail-on 'js\[conf\]>1' 'conf'"):
        check_rules(found, [parse_rule("js[conf]>1", CATEGORIES)])


def test_the_paragraph_names_the_change_and_its_place(found: Comparison) -> None:
    text = ComparisonFacts(found, "It sees no colours.").template()
    assert text.startswith(
        "22 of the 24 units of “a” (91.7 %) and 22 of the 24 units of “b” (91.7 %) are "
        "interpretable, at the common threshold τ = 0.500."
    )
    assert "object in “fc” from 30.0 % to 90.0 %; color in “fc” from 60.0 % to 0.0 %" in text
    assert "Of 22 units that can be put side by side and are trusted in both, 10 (45.5 %)" in text
    assert text.endswith("It sees no colours.")


@pytest.mark.parametrize("name", list(SAMPLES))
def test_every_paragraph_keeps_to_its_own_facts(name: str) -> None:
    """What the check would refuse from a language model, the template must not write either."""
    facts = ComparisonFacts(SAMPLES[name]())
    text = facts.template()
    assert complaints(text, facts) == []
    assert complaints(text.replace(".", ". There are 987 others.", 1), facts)


def test_words_that_come_and_go_between_draws_are_not_news() -> None:
    before, after = ["red"] * 4, ["cat"] * 4
    steadily = [
        run("a", {"fc": before}, [steady(before)]),
        run("b", {"fc": after}, [steady(after)]),
    ]
    text = ComparisonFacts(compare(steadily, None, SORTING)).template()
    assert "New words are “cat”; gone are “red”." in text
    wavering = steady(before)
    wavering.concept[::2] = steady(after).concept[::2]
    doubtful = [run("a", {"fc": before}, [wavering]), steadily[1]]
    text = ComparisonFacts(compare(doubtful, None, SORTING)).template()
    assert "New words" not in text
    assert "gone are" not in text
