"""What kinds of words the labels of each layer are, before any threshold.

    python benchmarks/label_categories.py RUN [RUN ...]

RUN: a folder of ``profiler run --concepts visual``, whose words have known categories. A threshold
leaves out most units of early layers; what their labels are about shows without it.
"""

import argparse
import csv
from collections import Counter, defaultdict
from pathlib import Path

from sorters import read_labelled

from profiler.core.resources import shipped


def main() -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    category = dict(read_labelled(shipped("concept_sets") / "visual.txt"))
    kinds = sorted(set(category.values()))
    for run in parser.parse_args().runs:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        trusted: Counter[str] = Counter()
        with (run / "descriptions.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                counts[row["layer"]][category.get(row["description"], "none")] += 1
                trusted[row["layer"]] += row["interpretable"] == "1"
        print(f"{run}: {trusted.total()} interpretable\n")
        print("| layer |", " | ".join(kinds), "| interpretable |")
        print("| ---", "| ---: " * (len(kinds) + 1), "|", sep="")
        for layer, found in counts.items():
            shares = (f"{100 * found[kind] / found.total():.1f} %" for kind in kinds)
            print(f"| {layer} |", " | ".join(shares), f"| {trusted[layer]} |")
        print()


if __name__ == "__main__":
    main()
