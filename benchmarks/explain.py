"""How well a few words predict units, layer by layer: the table of a finished run.

::

    profiler run efficientnet_lite0 --vlm conse --probe PHOTOS --concepts visual --out RUN
    python benchmarks/explain.py RUN [--draw 100]

``--draw`` prints so many leading words, drawn at random from all layers, to be read.
"""

import argparse
import random
from collections import Counter

import numpy as np

from profiler.profile.explain import MOST_WORDS, explained_cut
from profiler.profile.result import load_run


def main() -> None:
    """Print the table of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--draw", type=int, default=0)
    given = parser.parse_args()
    run = load_run(given.run)
    cuts = {words: explained_cut(run.ranges, words=words) for words in (1, MOST_WORDS)}
    print("cut on r: " + ", ".join(f"{words} words {cut:.3f}" for words, cut in cuts.items()))
    print(
        "| layer | r of 1 word | r of 5 | shown | ceiling | explained by 1 | by 5 | decoys' r | "
        "specificity | leading words |"
    )
    print("| --- |" + " ---: |" * 8 + " --- |")
    living, passed = 0, Counter[int]()
    drawn = []
    for layer in run.ranges:
        known = np.isfinite(layer.r[:, 0])
        living += int(known.sum())
        for words, cut in cuts.items():
            passed[words] += int((layer.r[known, words - 1] >= cut).sum())
        leading = [run.concepts[c] for c in layer.concept[known, 0] if c >= 0]
        kinds = Counter(run.sorting.category.get(word, "unsorted") for word in leading)
        (kind, units), *_ = kinds.most_common(1) or [("none", 0)]
        r = layer.r[known]
        print(
            f"| {layer.layer} | {r[:, 0].mean():.3f} | {r[:, -1].mean():.3f} | "
            f"{layer.shown_r[known].mean():.3f} | {layer.ceiling[known].mean():.3f} | "
            f"{(r[:, 0] >= cuts[1]).mean():.1%} | {(r[:, -1] >= cuts[MOST_WORDS]).mean():.1%} | "
            f"{np.nanmean(layer.decoy_r[:, -1]):.3f} | {np.nanmean(layer.specificity):.1%} | "
            f"{kind} {units / max(len(leading), 1):.0%} |"
        )
        drawn += [(layer.layer, unit, word) for unit, word in enumerate(leading)]
    for words, units in passed.items():
        print(f"explained by {words} of {living} living units: {units / living:.1%}")
    for place, unit, word in random.Random(0).sample(drawn, min(given.draw, len(drawn))):
        print(place, unit, word)


if __name__ == "__main__":
    main()
