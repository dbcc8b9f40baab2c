"""Facts into a paragraph that is asked for again until it says nothing but the facts.

What is checked, and what is not, :mod:`profiler.llm.checks` says.
"""

import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from profiler.errors import LLMError
from profiler.llm.answers import without_thoughts
from profiler.llm.base import LLM, Reply, Request, Usage
from profiler.llm.checks import Checker
from profiler.llm.facts import Facts
from profiler.llm.prompts import Prompts, load_prompts

log = logging.getLogger("profiler")
TEMPLATE_AUTHOR = "a fixed template"
TRIES = 3
"""Paragraphs that a model may write until one keeps to the facts."""


@dataclass(frozen=True)
class Narrative:
    """A paragraph and who wrote it."""

    text: str
    author: str
    tries: int = 0
    usage: Usage = field(default_factory=Usage)


def narrate(facts: Facts, llm: LLM | None, prompts_dir: Path | None = None) -> Narrative:
    """Write a paragraph that says nothing but ``facts``.

    Without ``llm`` the facts' own template writes it. With one, each paragraph is checked (see
    the module) and asked for again with the complaint. When :data:`TRIES` are used up the template
    writes the text and ``author`` says so, because a run should not be lost for its summary.
    """
    if llm is None:
        return Narrative(facts.template(), TEMPLATE_AUTHOR)
    prompts = load_prompts(prompts_dir)
    checker = Checker(facts, prompts.plain_words)
    first = request = _request(prompts, facts, 0)
    usage, tries = Usage(), 0
    while True:
        reply = llm.complete(request)
        usage += reply.usage
        tries += not reply.cached
        text = _paragraph(reply)
        found = ["the request was refused"] if reply.refusal is not None else checker.check(text)
        if not found:
            if not reply.cached:
                llm.keep(first, text)
            whole = f"{text} {facts.closing()}".strip()
            return Narrative(whole, f"{llm.name}, checked against the facts", tries, usage)
        if tries >= TRIES:
            break
        request = _request(prompts, facts, tries, "; ".join(found[:8]), reply.refusal or text)
    wrong = "; ".join(found[:3])
    author = f"{TEMPLATE_AUTHOR}, because {llm.name} did not keep to the facts ({wrong})"
    return Narrative(facts.template(), author, tries, usage)


def _request(
    prompts: Prompts, facts: Facts, seed: int, complaint: str = "", previous: str = ""
) -> Request:
    values = {"facts": json.dumps(facts.to_json(), ensure_ascii=False), "task": facts.task}
    if complaint:
        user = prompts.fill("narrate-again", complaint=complaint, previous=previous, **values)
    else:
        user = prompts.fill("narrate-user", **values)
    return Request(
        system=prompts.fill("narrate-system"),
        user=user,
        seed=seed,
        prompts=prompts.digest,
    )


def _paragraph(reply: Reply) -> str:
    """Strip a train of thought, fences and line breaks."""
    text = re.sub(r"^\s*```\w*\s*$", "", without_thoughts(reply.text), flags=re.MULTILINE)
    return " ".join(text.split())


def narrate_in_any_case(facts: Facts, llm: LLM | None, prompts: Path | None) -> Narrative:
    """By the template where the model gives no answer, for example to facts too long for it."""
    try:
        return narrate(facts, llm, prompts)
    except LLMError as error:
        if llm is None:
            raise
        log.warning("warning: no summary by %s: %s", llm.name, error)
        author = f"{TEMPLATE_AUTHOR}, because {llm.name} gave no usable reply ({error})"
        return Narrative(facts.template(), author)
