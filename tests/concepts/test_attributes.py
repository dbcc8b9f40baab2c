"""Concepts that tell classes apart: RIVAL10's, a profile's, a language model's."""

import json

import pytest

from profiler.concepts.attributes import (
    RIVAL10_ATTRIBUTES,
    RIVAL10_CLASSES,
    attributes_for,
    check_concepts,
)
from profiler.concepts.proposing import FEWEST, propose_concepts
from profiler.data.concept_sets import ConceptSet
from profiler.errors import LLMError, UsageError
from profiler.llm.base import Reply, Request, Usage

WORDS = ["hairy", "metallic", "wings", "wheels", "striped", "wet"]


def test_rival10() -> None:
    assert len(RIVAL10_CLASSES) == 10
    assert len(RIVAL10_ATTRIBUTES) == len(set(RIVAL10_ATTRIBUTES)) == 18
    cifar = ["airplane", "automobile", "bird", "cat", "deer"]
    assert attributes_for(cifar).words == RIVAL10_ATTRIBUTES


def test_other_classes_are_told_apart_by_120_visual_attributes() -> None:
    for classes in (["cat", "submarine"], []):
        found = attributes_for(classes)
        assert found.title == "attributes"
        assert len(check_concepts(found).words) == 120
        assert {"red", "striped", "wood", "beak", "wheels", "sky"} <= set(found.words)


def test_how_many_concepts_can_be_compared() -> None:
    def of(count: int) -> ConceptSet:
        return ConceptSet("some", tuple(map(str, range(count))), (None,) * count)

    assert check_concepts(of(2)).words == ("0", "1")
    check_concepts(of(300))
    with pytest.raises(UsageError, match="at least two"):
        check_concepts(of(1))
    with pytest.raises(UsageError, match="at most 300"):
        check_concepts(of(301))


class Answers:
    """A language model that says what it is told to, in turn."""

    name = "m"
    fingerprint = "m"
    max_concurrency = 1

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.kept: dict[str, str] = {}

    def complete(self, request: Request) -> Reply:
        self.asked.append(request)
        if request.user in self.kept:
            return Reply(self.kept[request.user], Usage(cached=1), cached=True)
        return Reply(self.answers.pop(0))

    def keep(self, request: Request, text: str) -> None:
        self.kept[request.user] = text

    def close(self) -> None:
        """Nothing to let go of."""


def said(*words: object) -> str:
    return json.dumps({"attributes": words})


def test_proposals_are_checked_and_kept() -> None:
    llm = Answers(said("Cat", *WORDS, " wings ", "", 3, "x" * 41))
    found = propose_concepts(["cat", "truck"], llm)
    assert found.words == tuple(WORDS)
    assert '["cat", "truck"]' in llm.asked[0].user
    # What was kept is what had been accepted, and it serves without a second question.
    assert propose_concepts(["cat", "truck"], llm).words == tuple(WORDS)
    assert llm.answers == []


def test_too_few_are_asked_for_again_with_the_complaint() -> None:
    llm = Answers(said(*WORDS[: FEWEST - 1]), "nothing", said(*WORDS))
    assert propose_concepts(["cat", "truck"], llm).words == tuple(WORDS)
    assert f"Only {FEWEST - 1} of {FEWEST - 1} attributes can be used" in llm.asked[1].user
    assert "not a JSON object" in llm.asked[2].user
    with pytest.raises(LLMError, match=r"in 2 tries.*--concepts"):
        propose_concepts(["cat", "dog"], Answers("no", "never"), max_tries=2)


def test_of_many_classes_some_are_shown() -> None:
    llm = Answers(said(*WORDS))
    propose_concepts([f"class {i}" for i in range(1000)], llm)
    shown = json.loads(llm.asked[0].user.partition("JSON: ")[2].partition("\n")[0])
    assert len(shown) == 200
    assert shown[0] == "class 0"
    assert shown[-1] == "class 995"
