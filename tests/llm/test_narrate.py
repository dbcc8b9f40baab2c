"""Narratives: what the template writes, and what the check lets through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from checked import complaints
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_server import LLMServer, Say

from profiler.core.categories import DEFAULT_CATEGORIES
from profiler.core.resources import shipped
from profiler.llm.facts import Facts, Number
from profiler.llm.narrate import narrate
from profiler.llm.openai_compatible import OpenAICompatible
from profiler.llm.scripted import Scripted
from profiler.profile.counts import LayerProfile, ModelProfile
from profiler.profile.facts import ProfileFacts
from profiler.profile.threshold import Threshold

FACTS = ProfileFacts(
    subject="resnet50",
    profile=ModelProfile(
        ("color", "texture", "object"),
        (
            LayerProfile("conv1", {"color": 20, "texture": 5, "object": 0}, 39, 0),
            LayerProfile("layer1", {"color": 10, "texture": 100, "object": 6}, 140, 0),
            LayerProfile("layer4", {"color": 8, "texture": 40, "object": 1600}, 399, 1),
        ),
    ),
    labels={"conv1": ("red", "pale blue"), "layer1": ("striped",), "layer4": ("zebra", "red")},
    threshold=Threshold(0.1634, "null"),
    vlm="ConSE",
    caution="ConSE sees the world through 1,000 object names.",
    concepts=frozenset({"zebra", "horse", "police officer", "red", "striped", "the", "light"}),
)


def test_template() -> None:
    assert FACTS.template() == (
        "1,789 of the 2,368 units of resnet50 (75.5 %) are interpretable (score above τ = 0.163). "
        "“conv1” responds mostly to color (31.2 % of its units) and "
        "texture (7.8 %), with labels such as “red” and “pale blue”; “layer4” responds mostly to "
        "object (78.1 % of its units) and texture (2.0 %), with labels such as “zebra” and “red”. "
        "Overall, object is the most frequent category (67.8 % of all units) and leads in 1 of "
        "the 3 layers; object peaks in “layer4” (78.1 %), texture in “layer1” (39.1 %) and color "
        "in “conv1” (31.2 %). ConSE sees the world through 1,000 object names."
    )
    narrative = narrate(FACTS, None)
    assert (narrative.text, narrative.author) == (FACTS.template(), "a fixed template")


def profile(*layers: LayerProfile) -> ProfileFacts:
    return ProfileFacts("net", ModelProfile(("color", "object"), layers))


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (profile(), "No units of net were profiled."),
        (profile(LayerProfile("a", {}, 0, 0)), "No units of net were profiled."),
        (
            profile(LayerProfile("a", {}, 3, 1)),
            "None of the 4 units of net is interpretable.",
        ),
        (profile(LayerProfile("a", {}, 1, 0)), "The only unit of net is not interpretable."),
        (
            profile(LayerProfile("a", {"color": 1, "object": 0}, 0, 0)),
            "The only unit of net is interpretable. Overall, color is the most frequent category "
            "(100.0 % of all units).",
        ),
        (
            profile(LayerProfile("a", {"color": 1}, 2, 0)),
            "1 of the 3 units of net (33.3 %) is interpretable. Overall, color is the most "
            "frequent category (33.3 % of all units).",
        ),
        (
            profile(LayerProfile("a", {}, 2, 0), LayerProfile("b", {"object": 2}, 0, 0)),
            "2 of the 4 units of net (50.0 %) are interpretable. “a” has no interpretable units; "
            "“b” responds mostly to object (100.0 % of its units). Overall, object is the most "
            "frequent category (50.0 % of all units) and leads in 1 of the 2 layers; object "
            "peaks in “b” (100.0 %).",
        ),
        (
            profile(*(LayerProfile(n, {"color": 2, "object": 0}, 0, 0) for n in "abcdef")),
            "All 12 units of net are interpretable. The early layers (“a” to “b”) respond mostly "
            "to color (100.0 % of their units); the late layers (“e” to “f”) respond mostly to "
            "color (100.0 % of their units). Overall, color is the most frequent category "
            "(100.0 % of all units) and leads in every one of the 6 layers; color peaks in “a” "
            "(100.0 %).",
        ),
    ],
)
def test_template_grammar(facts: ProfileFacts, text: str) -> None:
    assert facts.template() == text


counts = st.integers(0, 30)
layers = st.lists(
    st.builds(
        LayerProfile,
        st.just(""),
        st.fixed_dictionaries(dict.fromkeys(DEFAULT_CATEGORIES, counts)),
        counts,
        counts,
    ),
    max_size=9,
)


@settings(deadline=None)
@given(layers, st.none() | st.floats(0, 5), st.booleans(), st.none() | st.floats(-1, 1))
def test_the_template_keeps_to_its_own_facts(
    found: list[LayerProfile], tau: float | None, explained: bool, on_r: float | None
) -> None:
    named = tuple(replace(layer, layer=f"stage{i}.0") for i, layer in enumerate(found))
    # What leads the explanations: the same counts, in the opposite order of layers.
    ranges = tuple(
        replace(layer, layer=own.layer) for layer, own in zip(named[::-1], named, strict=True)
    )
    facts = ProfileFacts(
        "net",
        ModelProfile(DEFAULT_CATEGORIES, named),
        labels={layer.layer: (f"label {i}",) for i, layer in enumerate(named)},
        threshold=None if tau is None else Threshold(tau, "confirmed" if tau > 2 else "given"),
        ranges=ModelProfile(DEFAULT_CATEGORIES, ranges) if explained else None,
        mean_r={layer.layer: 0.1 * i for i, layer in enumerate(named)},
        range_threshold=None if on_r is None else Threshold(on_r, "given"),
    )
    assert complaints(facts.template(), facts) == []


@pytest.mark.parametrize(
    "text",
    [
        "75.5 % of the units are interpretable.",
        "About 76% of the 2368 units, namely 1,789, are interpretable at τ = 0.16.",
        "Of 3 layers, conv1 answers to color: 31.2 per cent. Then “Layer4” is led by objects.",
        'Texture reaches 39.1 % in "layer1," and "zebra" is frequent; zebras are late.',
        "The three layers differ. One sees “red”, the next one ‘striped’.",
        "Color takes 1.6% of all 2,368 units.",
        "Resnet50's layers are read by ConSE.",
    ],
)
def test_what_passes(text: str) -> None:
    assert complaints(text, FACTS) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("75.6 % of the units are interpretable.", "75.6 % is not a number in the facts"),
        ("75 % of the units are interpretable.", "75 % is not a number"),
        ("75.52 % of the units are interpretable.", "75.52 % is not a number"),
        ("75.5 units are interpretable.", "75.5 has the wrong unit"),
        ("A share of 0.755 is interpretable.", "0.755 is not a number"),
        ("It fell by 75.5 percentage points.", "is a difference"),
        ("-75.5 % of the units.", "-75.5 % is not a number"),
        ("Color takes 31.2 % there.", '31.2 % is about "color" and "conv1"'),
        ("In conv1, texture takes 31.2 %.", '31.2 % is about "color" and "conv1"'),
        ("In conv1 it is color. It takes 31.2 % there.", "31.2 % is about"),
        ("layer5 is the last.", '"layer5" is neither a number nor a name'),
        ("layer4.2 is the last.", '"layer4.2" is neither'),
        ("resnet_50 is the name.", '"resnet_50" is neither'),
        ("It is 3x as large, the 2nd.", '"3x" is neither'),
        ("1e3 units", '"1e3" is neither'),
        ("1,24 % of them", "is neither a number"),
        ("“horse” is frequent.", '"horse" is quoted, but is no name'),
        ("It sees 'giraffe' a lot.", '"giraffe" is quoted'),
        ("It sees `wheels`.", '"wheels" is quoted'),
        ("Horses are frequent.", '"horse" is a concept that is not in the facts'),
        ("Police officers are frequent.", '"police officer" is a concept'),
        ("Half of the units are interpretable.", '"half": write numbers in digits'),
        ("Two thirds of the units see.", '"Two thirds": write numbers'),
        ("More than seventy units see.", '"seventy" is not a number'),
        ("Only one layer sees.", None),
        ("Twice as many see.", '"twice"'),
        ("A total of MDCCLXXXVIII units see.", '"MDCCLXXXVIII": write numbers in digits'),
        ("In conv1, XIV units see.", '"XIV": write numbers in digits'),
        ("About ½ of the units see.", '"½": write numbers in digits'),
        ("", "is empty"),
        ("word " * 400, "has 2000 characters"),
    ],
)
def test_what_does_not_pass(text: str, complaint: str | None) -> None:
    found = complaints(text, FACTS)
    if complaint is None:  # 1 is in the facts: the layers that color leads; it must be named
        assert found == ['"one" is about "color", which the same sentence has to name']
    else:
        assert complaint in found[0]


def test_common_words_as_concepts_do_not_hinder() -> None:
    """With 20,000 common English words as concepts, plain reporting still passes."""
    words = (shipped("concept_sets") / "common-20k.txt").read_text("utf-8").split("\n")
    facts = replace(FACTS, concepts=frozenset(word for word in words if word))
    assert complaints(facts.template().removesuffix(facts.closing()), facts) == []
    text = (
        "Of the 2,368 units, 75.5% are interpretable at the threshold of 0.163. The first layer, "
        '"conv1", mostly sees "color" (31.2%), with frequent labels such as "red". "texture" '
        'peaks in "layer1" at 39.1%, while "object" dominates the last layer, "layer4", where it '
        "covers 78.1% of the units."
    )
    assert complaints(text, facts) == []
    assert complaints("It sees mountains and the sky.", facts) == [
        '"mountain" is a concept that is not in the facts',
        '"sky" is a concept that is not in the facts',
    ]


@dataclass(frozen=True)
class Odd(Facts):
    """Names that try to break the check."""

    task = "Say something."

    def numbers(self) -> Sequence[Number]:
        return (Number("images", 12), Number("share", 2.0, "%", 1, ("2",)))

    def names(self) -> Mapping[str, Sequence[str]]:
        return {"layers": ("2", "7"), "concepts": ('say "5"', "a. B", ".*", "layer1", "layer1.0")}

    def template(self) -> str:
        return "12 images."


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("There are 12 images.", True),
        ("There are 7 images.", False),
        ("Layer “7” has 12 images.", True),
        ("Layer “2” takes 2.0 %.", True),
        ("Layer 2 takes 2.0 %.", False),
        ('It says “say "5"” and “a. B” in 12 images.', True),
        ("It says “.*” in layer1.0 and layer1.", True),
        ("It says xyz in layer1.1.", False),
    ],
)
def test_odd_names(text: str, clean: bool) -> None:
    assert (complaints(text, Odd()) == []) is clean


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_the_check(text: str) -> None:
    assert isinstance(complaints(text, FACTS), list)


# Asking


GOOD = "Of the 2,368 units of resnet50, 75.5 % are interpretable."


def ask(tmp_path: Path, *plan: Say) -> tuple[Any, LLMServer]:
    with LLMServer(lambda _: Say(GOOD), plan) as server:
        llm = OpenAICompatible("m", server.url, cache_dir=tmp_path)
        try:
            return narrate(FACTS, llm), server
        finally:
            llm.close()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def test_a_good_paragraph(tmp_path: Path) -> None:
    narrative, server = ask(tmp_path)
    assert narrative.text == f"{GOOD} ConSE sees the world through 1,000 object names."
    assert narrative.author == "m, checked against the facts"
    assert (narrative.tries, narrative.usage.requests) == (1, 1)
    (body,) = server.bodies
    assert "response_format" not in body
    assert '"value": "75.5 %"' in body["messages"][1]["content"]


def test_a_wrong_paragraph_is_asked_again(tmp_path: Path) -> None:
    wrong = Say("Of the units 83 % see horses.")
    narrative, server = ask(tmp_path, wrong, Say("```\n<think>83 %</think>" + GOOD + "\n```"))
    assert narrative.tries == 2
    assert narrative.text.startswith(GOOD)
    again = server.bodies[1]["messages"][1]["content"]
    assert "83 % is not a number in the facts" in again
    assert "Of the units 83 % see horses." in again


def test_rejected_in_the_end(tmp_path: Path) -> None:
    wrong = [Say("83 % of the units.")] * 3
    narrative, server = ask(tmp_path, *wrong)
    assert narrative.text == FACTS.template()
    assert narrative.author == (
        "a fixed template, because m did not keep to the facts (83 % is not a number in the facts)"
    )
    assert len(server.bodies) == 3


def test_only_accepted_paragraphs_are_cached(tmp_path: Path) -> None:
    with LLMServer(lambda _: Say(GOOD), [Say("83 %."), Say(None, refusal="no")]) as server:
        llm = OpenAICompatible("m", server.url, cache_dir=tmp_path)
        first = narrate(FACTS, llm)
        second = narrate(FACTS, llm)
        other = narrate(replace(FACTS, subject="vgg"), llm)
        llm.close()
    assert first.text == second.text
    assert (first.tries, second.tries, second.usage.cached) == (3, 0, 1)
    assert "resnet50" in other.text or other.tries == 3
    assert len(server.bodies) == 3 + other.tries


def test_scripted_narrative(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"match": "profile of a neural network", "reply": "It is fine."}')
    assert narrate(FACTS, Scripted(path)).text.startswith("It is fine.")
