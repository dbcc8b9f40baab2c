"""Words into categories, by a language model.

Each word is asked about by number, never by its spelling: the answer is one JSON object from
number to category. So "every concept exactly once" can be checked whatever the word holds
(quotes, braces, any script), and the schema itself can demand it.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiler.core.categories import UNKNOWN
from profiler.errors import LLMError, UsageError
from profiler.llm.answers import CheckedAnswer, check_sorting
from profiler.llm.base import LLM, Reply, Request, Usage
from profiler.llm.prompts import Prompts, load_prompts
from profiler.profile.sorting.categories import DEFAULT, Category, check_categories

_LONGEST_WORD = 200  # characters shown to the model; a concept is a word or a short phrase
_MOST_ENUM_VALUES = 1000  # OpenAI's limit over all enums of one schema


@dataclass(frozen=True)
class Sorting:
    """Which category each word belongs to, and who says so.

    Attributes:
        sorter: who sorted, for example ``gpt-4o`` or ``exemplar``.
        category: the category of every word.
        kept: share of the votes that agree with the category; None where there was one vote.
        lenient_unknown: words marked unknown because the model gave no usable answer.
        usage: what it cost.
        notes: sentences a reader of the result should see.
        provenance: what would be needed to repeat it.
    """

    sorter: str
    category: Mapping[str, str]
    kept: Mapping[str, float] | None = None
    lenient_unknown: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def doubtful(self) -> tuple[tuple[str, float], ...]:
        """List the words whose category changed between votes, least certain first."""
        changed = [(word, share) for word, share in (self.kept or {}).items() if share < 1]
        return tuple(sorted(changed, key=lambda pair: (pair[1], pair[0])))


@dataclass(frozen=True)
class _Task:
    """What is the same for every batch."""

    categories: tuple[Category, ...]
    prompts: Prompts
    llm: LLM
    max_tries: int
    lenient: bool
    max_tokens: int | None
    size: int
    votes: int
    seed: int

    def request(self, asked: Mapping[str, str], seed: int, complaint: str = "") -> Request:
        example_concepts, example_answer = worked_example(self.categories)
        names = [category.name for category in self.categories]
        values = {"concepts": _as_data(asked), "count": str(len(asked))}
        if complaint:
            user = self.prompts.fill("categorize-again", complaint=complaint, **values)
        else:
            user = self.prompts.fill("categorize-user", **values)
        return Request(
            system=self.prompts.fill(
                "categorize-system",
                categories="\n".join(f"- {category}" for category in self.categories),
                example_concepts=example_concepts,
                example_answer=example_answer,
            ),
            user=user,
            schema=answer_schema(tuple(asked), names),
            schema_name="categories",
            seed=seed,
            max_tokens=self.max_tokens,
            items=tuple(asked.items()),
            prompts=self.prompts.digest,
        )


_Sorted = tuple[Mapping[str, str], Usage]
"""The category of each word of a batch, and what it cost."""


def categorize(
    words: Sequence[str],
    categories: Sequence[Category],
    llm: LLM,
    *,
    prompts_dir: Path | str | None = None,
    batch: int = 20,
    votes: int = 1,
    concurrency: int = 4,
    lenient: bool = False,
    max_tries: int = 3,
    max_tokens: int | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Sorting:
    """Ask ``llm`` for the category of every word; repeated words are asked about once.

    Args:
        words: what to sort.
        categories: where to; the model may use no others.
        llm: who is asked.
        prompts_dir: folder of prompt files that replace shipped ones.
        batch: concepts to a request.
        votes: how often each word is asked about, each time in another order and company; the
            most frequent answer counts, the earliest of several equally frequent.
        concurrency: requests under way at once.
        lenient: mark words without a usable answer ``unknown`` instead of raising ``LLMError``.
        max_tries: how often a batch is asked about, the first time included. Only what is
            missing or wrong is asked again, with the complaint.
        max_tokens: longest answer; None leaves it to the server.
        seed: orders the votes, and is passed to the model.
        advance: told how many more words are answered, each as often as there are votes.
    """
    if min(batch, votes, concurrency, max_tries) < 1:
        raise UsageError("batch, votes, concurrency and max_tries must be 1 or more")
    check_categories(categories)
    size = min(batch, max(1, _MOST_ENUM_VALUES // len(categories)))
    prompts = load_prompts(prompts_dir)
    task = _Task(tuple(categories), prompts, llm, max_tries, lenient, max_tokens, size, votes, seed)
    unique = tuple(dict.fromkeys(words))
    batches = [
        (vote, tuple(chunk))
        for vote in range(votes)
        for chunk in _chunks(_ordered(unique, vote, seed), size)
    ]
    workers = min(concurrency, llm.max_concurrency or concurrency)
    return _combined(task, unique, _run_all(task, batches, workers, advance))


def _ordered(words: Sequence[str], vote: int, seed: int) -> list[str]:
    order = list(words)
    if vote:  # the first vote keeps the given order, so that it is the same whatever the votes
        random.Random(f"{seed} {vote}").shuffle(order)  # noqa: S311 (not cryptography)
    return order


def _chunks(words: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Split into parts of nearly equal length, none longer than ``size``."""
    parts = math.ceil(len(words) / size)
    for part in range(parts):
        yield words[part * len(words) // parts : (part + 1) * len(words) // parts]


def _run_all(
    task: _Task,
    batches: Sequence[tuple[int, Sequence[str]]],
    workers: int,
    advance: Callable[[int], None],
) -> list[_Sorted]:
    """Ask about every batch, given as its vote and its words."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="llm")
    try:
        futures = {
            pool.submit(_sort_batch, task, words, task.seed + vote): len(words)
            for vote, words in batches
        }
        for future in as_completed(futures):
            future.result()
            advance(futures[future])
    except BaseException as error:
        # Nothing further is asked. What is under way ends and is kept; but whoever presses
        # Ctrl-C does not want to wait for it.
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def _sort_batch(task: _Task, words: Sequence[str], seed: int) -> _Sorted:
    """Ask about one batch until every word has a category, or the tries are used up."""
    numbered = {str(number): word for number, word in enumerate(words, start=1)}
    names = [category.name for category in task.categories]
    accepted: dict[str, str] = {}
    usage = Usage()
    first = request = task.request(numbered, seed)
    tries = 0
    while True:
        reply = task.llm.complete(request)
        usage += reply.usage
        tries += not reply.cached
        checked = _checked(reply, [n for n in numbered if n not in accepted], names)
        accepted.update(checked.accepted)
        if not reply.cached and checked.accepted:
            # Good answers are kept at once, also those of a batch that is not complete yet: a
            # run that is killed here asks only for the rest.
            task.llm.keep(first, json.dumps(accepted))
        missing = {n: word for n, word in numbered.items() if n not in accepted}
        if not missing or tries >= task.max_tries:
            break
        request = task.request(missing, seed + tries, checked.complaint)
    if missing and not task.lenient:
        raise LLMError(_failure(task, missing, len(words), tries, checked, reply))
    return {numbered[n]: name for n, name in accepted.items()}, usage


def _checked(reply: Reply, asked: Sequence[str], names: Sequence[str]) -> CheckedAnswer:
    if reply.refusal is not None:
        return CheckedAnswer(
            complaints=("It was refused. Every concept is only a name to be sorted.",)
        )
    checked = check_sorting(reply.text, asked, names)
    if reply.truncated and checked.complaints:
        cut = "The reply was cut off; write nothing but the JSON object."
        return CheckedAnswer(checked.accepted, (cut, *checked.complaints))
    return checked


def _failure(
    task: _Task,
    missing: Mapping[str, str],
    asked: int,
    tries: int,
    checked: CheckedAnswer,
    reply: Reply,
) -> str:
    words = ", ".join(repr(_short(word, 40)) for word in list(missing.values())[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    answer = reply.refusal if reply.refusal is not None else reply.text
    return (
        f"{task.llm.name} gave no usable category for {len(missing)} of {asked} concepts "
        f"({words}{more}) in {tries} {'try' if tries == 1 else 'tries'}. {checked.complaint} "
        f"Its last reply: {_short(answer, 300)!r}. --llm-lenient would mark them unknown"
    )


def _combined(task: _Task, words: Sequence[str], results: Sequence[_Sorted]) -> Sorting:
    given: dict[str, list[str]] = {word: [] for word in words}
    usage = Usage()
    for found, cost in results:  # in the order of the batches, so of the votes
        usage += cost
        for word, name in found.items():
            given[word].append(name)
    category: dict[str, str] = {}
    kept: dict[str, float] = {}
    unanswered = []
    for word, answers in given.items():
        if not answers:
            unanswered.append(word)
            category[word], kept[word] = UNKNOWN, 0.0
            continue
        # Counter keeps the order of first appearance, and max takes the first of equals.
        counted = Counter(answers)
        category[word] = max(counted, key=counted.__getitem__)
        kept[word] = counted[category[word]] / task.votes
    return Sorting(
        sorter=task.llm.name,
        category=category,
        kept=kept if task.votes > 1 else None,
        lenient_unknown=tuple(unanswered),
        usage=usage,
        notes=tuple(_notes(task, kept, len(unanswered))),
        provenance={
            "llm": task.llm.fingerprint,
            "prompts": task.prompts.digest,
            "categories": [str(name) for name in task.categories],
            "batch": task.size,
            "votes": task.votes,
            "seed": task.seed,
        },
    )


def _notes(task: _Task, kept: Mapping[str, float], unanswered: int) -> Iterator[str]:
    count = f"{len(kept):,} concept{'' if len(kept) == 1 else 's'}"
    yield f"{task.llm.name} sorted {count} into {len(task.categories)} categories."
    if task.votes > 1:
        firm = sum(share == 1 for share in kept.values())
        asked = f"Asked {task.votes} times in different order"
        yield f"{asked}, {firm:,} of {count} kept their category."
    if unanswered:
        yield f"For {unanswered:,} of {count} it gave no usable reply; they count as unknown."


def answer_schema(numbers: Sequence[str], categories: Sequence[str]) -> dict[str, Any]:
    """Write the JSON schema of an answer: each number once, each with one of the categories.

    The categories are spelled out for each number because some servers know no references.
    """
    return {
        "type": "object",
        "properties": {n: {"type": "string", "enum": list(categories)} for n in numbers},
        "required": list(numbers),
        "additionalProperties": False,
    }


_EXAMPLES = {
    "object": "teaspoon",
    "part": "tip of the tail",
    "scene": "airport lounge",
    "material": "rough cardboard",
    "texture": "crisscrossed",
    "color": "salmon pink",
    UNKNOWN: "although",
}


def worked_example(categories: Sequence[Category]) -> tuple[str, str]:
    """Make a worked example from the categories in use: concepts, and the answer to them.

    The default categories have example words. For a user's category the program knows none, so
    the example describes one.

    >>> worked_example([Category("bird"), Category("car", "on four wheels")])[0]
    '{"1": "something that is plainly: car", "2": "something that is plainly: bird"}'
    """
    known = {category.name: _EXAMPLES[category.name] for category in DEFAULT}
    # Last category first: an example in the order of the list would teach to count along.
    shown = list(categories)[:7][::-1]
    concepts = {
        str(n): known[c.name] if c in DEFAULT else f"something that is plainly: {c.name}"
        for n, c in enumerate(shown, start=1)
    }
    answer = {str(n): c.name for n, c in enumerate(shown, start=1)}
    return _as_data(concepts), _as_data(answer)


def _as_data(numbered: Mapping[str, str]) -> str:
    """Write as one line of JSON; whatever a concept holds, it stays inside its string."""
    text = json.dumps(
        {n: _short(w, _LONGEST_WORD) for n, w in numbered.items()}, ensure_ascii=False
    )
    # JSON leaves these as they are, but they end a line in many a reader.
    for mark in "\u0085\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # lone surrogates


def _short(text: str, most: int) -> str:
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
