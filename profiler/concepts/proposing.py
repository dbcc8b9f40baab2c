"""Attributes that separate classes, proposed by a language model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from profiler.data.concept_sets import ConceptSet
from profiler.errors import LLMError
from profiler.llm.answers import json_objects
from profiler.llm.base import LLM, Reply, Request
from profiler.llm.prompts import Prompts, load_prompts

WANTED = 24
"""Attributes asked for."""
FEWEST = 6
"""A reply with fewer usable attributes is refused."""
_LONGEST = 40
"""Characters of an attribute: a word or a short phrase."""
_MOST_CLASSES = 200
"""Names that go into one question, evenly spread over the classes."""


def propose_concepts(
    classes: Sequence[str],
    llm: LLM,
    *,
    prompts_dir: Path | str | None = None,
    max_tries: int = 3,
    seed: int = 0,
) -> ConceptSet:
    """Ask for visible attributes that some of the classes have and others lack.

    The reply is checked: an attribute is a short phrase, given once, and not the name of a class.
    If too few attributes are usable, the model is asked again, with the complaint.

    Args:
        classes: names of the classes.
        llm: the language model.
        prompts_dir: folder of changed prompts; None: the built-in prompts.
        max_tries: replies until one is usable.
        seed: of the first request; each further one adds 1.

    Raises:
        LLMError: no usable reply in ``max_tries``.
    """
    prompts = load_prompts(prompts_dir)
    shown = [classes[i * len(classes) // _MOST_CLASSES] for i in range(_MOST_CLASSES)]
    names = list(dict.fromkeys(shown if len(classes) > _MOST_CLASSES else classes))
    values = {"classes": json.dumps(names, ensure_ascii=False), "count": str(WANTED)}
    first = request = _request(prompts, prompts.fill("propose-user", **values), seed)
    tries = 0
    while True:
        reply = llm.complete(request)
        tries += not reply.cached
        found, complaint = _checked(reply, names)
        if not complaint:
            if not reply.cached:
                llm.keep(first, json.dumps({"attributes": found}, ensure_ascii=False))
            title = f"{len(found)} attributes proposed by {llm.name}"
            return ConceptSet(title, tuple(found), (None,) * len(found))
        if tries >= max_tries:
            raise LLMError(
                f"{llm.name} proposed no usable attributes in {tries} tries: {complaint} Its last "
                f"reply: {reply.text[:200]!r}. Name concepts with --concepts"
            )
        again = prompts.fill("propose-again", complaint=complaint, **values)
        request = _request(prompts, again, seed + tries)


def _request(prompts: Prompts, user: str, seed: int) -> Request:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"attributes": {"type": "array", "items": {"type": "string"}}},
        "required": ["attributes"],
        "additionalProperties": False,
    }
    system = prompts.fill("propose-system")
    return Request(system, user, schema, "attributes", seed=seed, prompts=prompts.digest)


def _checked(reply: Reply, classes: Sequence[str]) -> tuple[list[str], str]:
    """The usable attributes, and a complaint, which is empty if there are enough."""
    if reply.refusal is not None:
        return [], "The request was refused. The classes are only names."
    lists = [each.get("attributes") for each in json_objects(reply.text)]
    given = next((each for each in lists if isinstance(each, list)), None)
    if given is None:
        return [], 'The reply is not a JSON object {"attributes": [...]}.'
    taken = {name.casefold() for name in classes}
    found: dict[str, None] = {}
    for each in given:
        word = " ".join(each.split()) if isinstance(each, str) else ""
        if word and len(word) <= _LONGEST and word.casefold() not in taken:
            taken.add(word.casefold())
            found[word] = None
    words = list(found)[: 2 * WANTED]
    if len(words) < FEWEST:
        return words, (
            f"Only {len(words)} of {len(given)} attributes can be used: an attribute is a short "
            "phrase, given once, and not the name of a class."
        )
    return words, ""
