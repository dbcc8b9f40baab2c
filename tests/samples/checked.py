"""What is wrong with a text, by the check of narratives and the plain words as shipped."""

from profiler.llm.checks import Checker
from profiler.llm.facts import Facts
from profiler.llm.prompts import load_prompts


def complaints(text: str, facts: Facts) -> list[str]:
    """Say what in ``text`` is not in ``facts``; empty where all of it is."""
    return Checker(facts, load_prompts().plain_words).check(text)
