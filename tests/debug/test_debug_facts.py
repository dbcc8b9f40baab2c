"""What a diagnosis says in words: every sentence it writes passes its own check."""

import pytest
from checked import complaints
from debug_samples import SAMPLES

from profiler.debug.facts import ConfusionFacts, DiagnosisFacts


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_template_says_nothing_but_the_facts(name: str) -> None:
    found = SAMPLES[name]()
    whole = DiagnosisFacts(diagnosis=found)
    assert complaints(whole.template(), whole) == []
    for each in found.confusions[:5]:
        facts = ConfusionFacts(diagnosis=found, confusion=each)
        assert complaints(facts.template(), facts) == []


def test_what_is_not_in_the_facts_is_noticed() -> None:
    found = SAMPLES["ten"]()
    facts = DiagnosisFacts(diagnosis=found)
    assert complaints("It is right on 99.9 % of the images.", facts) != []
    assert complaints("The “submarine” is to blame.", facts) != []
