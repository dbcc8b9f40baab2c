"""What differs between runs: shares by category, words, units, and how layers see the images.

    labels = label_together(tops, images, vectors, seed=seed)        # one prior for all runs
    threshold = null_threshold([layer for run in labels for layer in run])
    cuts = [threshold] * len(labels)
    draws = label_draws(names, matrices, images, vectors, cuts)      # or None: no noise floor
    words = words_in(labels, cuts, draws)                            # indices to be sorted …
    sorting = Sorting(concepts, categories, category_of)             # … as the caller sees fit
    runs = [
        compared_run(name, own, threshold, sorting, drawn)
        for name, own, drawn in zip(run_names, labels, draws)
    ]
    comparison = compare(runs, matrices, sorting)

A difference counts as a change if it passes two questions. Would so many units show it by chance?
(:mod:`.shares`: a permutation test, corrected for all that is compared.) Would the same network
show it on other images? (:mod:`.noise`: bootstrap draws of the probe images.)
"""

from profiler.comparison.cka import linear_cka
from profiler.comparison.compare import ALPHA, compare, judge
from profiler.comparison.draws import label_draws
from profiler.comparison.result import (
    INTERPRETABLE,
    ComparedLayer,
    ComparedRun,
    Comparison,
    ConceptChange,
    LayerComparison,
    LayerDraws,
    Matching,
    Moved,
    PairComparison,
    ShareChange,
    Verdict,
)
from profiler.comparison.rules import Rule, RuleVerdict, check_rules, parse_rule
from profiler.comparison.runs import Sorting, compared_run
from profiler.comparison.scoring import has_prior, label_together
from profiler.comparison.words import words_in

__all__ = [
    "ALPHA",
    "INTERPRETABLE",
    "ComparedLayer",
    "ComparedRun",
    "Comparison",
    "ConceptChange",
    "LayerComparison",
    "LayerDraws",
    "Matching",
    "Moved",
    "PairComparison",
    "Rule",
    "RuleVerdict",
    "ShareChange",
    "Sorting",
    "Verdict",
    "check_rules",
    "compare",
    "compared_run",
    "has_prior",
    "judge",
    "label_draws",
    "label_together",
    "linear_cka",
    "parse_rule",
    "words_in",
]
