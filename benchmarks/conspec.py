"""Specs on a real classifier, and how long a large one takes.

    python benchmarks/conspec.py table CHECKPOINT CIFAR10_TEST_TAR RIVAL10_CSV [--images 2000]
    python benchmarks/conspec.py size [--classes 1000] [--features 1280]

``table``: a network of ``train_cifar.py``, whose classes are RIVAL10's. For each class the thirty
clearest pairs of attributes, of which the class shows the one and hardly the other (Moayeri et al.,
CVPR 2022; a table of how often each class shows each attribute). Each becomes a spec
``predict(x, class) => >(x, relevant, irrelevant)``; its rate on images, and what is proved on the
boxes μ ± γσ of the class's encodings. Prints a Markdown table. The map is fitted on these images.

``size``: random planes of the size of an ImageNet classifier; seconds for one spec on one region.
"""

import argparse
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from profiler.activations.observe import Observation, caption_rows, examine
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.store import Store, cache_folder
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import open_labelled
from profiler.models.classifier import Classifier
from profiler.models.subject.loading import SubjectOptions, load_subject
from profiler.models.vlm.choose import open_vlm
from profiler.session import Services
from profiler.spec.language.tree import And, Formula, Implies, Predicts, Stronger
from profiler.spec.mine import read_table
from profiler.spec.verify.formal import Outcome, check_region
from profiler.spec.verify.interpretation import Interpretation, Linear
from profiler.spec.verify.largest import largest_gamma
from profiler.spec.verify.mining import measure, relevant_pairs
from profiler.spec.verify.regions import Ball, Box, Hull

GAMMAS = (0.2, 0.3, 0.4)
SPECS = 30
"""A class."""
RELEVANT, GAP = 0.3, 0.2
"""A class shows the one attribute in so many images, and the other in fewer by so much."""
HERE = Path(__file__).parent
NAMES = {"plane": "airplane", "car": "automobile", "equine": "horse"}
"""RIVAL10's classes as CIFAR-10 calls them."""


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table")
    table.add_argument("checkpoint", type=Path)
    table.add_argument("archive", type=Path)
    table.add_argument("attributes", type=Path)
    table.add_argument("--images", type=int, default=2000)
    table.add_argument("--vlm", default="conse:objects")
    size = commands.add_parser("size")
    size.add_argument("--classes", type=int, default=1000)
    size.add_argument("--features", type=int, default=1280)
    given = parser.parse_args()
    if given.command == "size":
        measure_size(given.classes, given.features)
    else:
        measure_table(given.checkpoint, given.archive, given.attributes, given.images, given.vlm)


# --- a real classifier ---------------------------------------------------------------------------


def measure_table(
    checkpoint: Path, archive: Path, attributes: Path, images: int, vlm_name: str
) -> None:
    """Print the table."""
    table = read_table(attributes)
    with tempfile.TemporaryDirectory() as folder:
        classifier, seen, captions = _observed(
            checkpoint, archive, images, vlm_name, table.attributes, Path(folder)
        )
    features = np.asarray(seen.features, dtype=np.float64)
    aligned = AffineMap().fit(features, seen.embeddings)
    space = ConceptSpace.of(table.attributes, captions, aligned)
    names = _class_names()
    world = Interpretation(
        Linear(tuple(names), classifier.weights, classifier.bias),
        Linear(table.attributes, *space.planes()),
    )
    facts = world.of(features)
    positive = bool((features >= 0).all())
    print(
        f"{len(seen)} images, {seen.accuracy:.1%} answered rightly; map R² {aligned.r2_:.2f} on "
        f"held-out images; boxes {'' if positive else 'not '}cut at 0\n"
    )
    columns = [f"proved, γ = {gamma}" for gamma in GAMMAS]
    print("| class | specs | holds of images | " + " | ".join(columns) + " | largest γ | seconds |")
    print("|---|---:|---:|" + "---:|" * len(columns) + "---:|---:|")
    totals = np.zeros(3 + len(GAMMAS), dtype=np.int64)
    seconds = 0.0
    undecided = 0
    longest = 0.0
    for row, written in enumerate(table.classes):
        label = NAMES.get(written, written)
        pairs = relevant_pairs(
            table.frequencies[row], table.attributes, most=SPECS, relevant=RELEVANT, gap=GAP
        )
        own = features[seen.truth == names.index(label)]
        mean, spread = own.mean(axis=0), own.std(axis=0)

        def box(gamma: float, mean: np.ndarray = mean, spread: np.ndarray = spread) -> Box:
            return Box.around(mean, spread, gamma, positive=positive)

        rates = measure(facts, [(label, *pair) for pair in pairs])
        started = time.perf_counter()
        outcomes = [
            [check_region(each.formula, world, box(gamma)) for gamma in GAMMAS] for each in rates
        ]
        taken = time.perf_counter() - started
        largest = [_largest(each.formula, world, box) for each in rates]
        undecided += sum(o.verdict == "undecided" for each in outcomes for o in each)
        longest = max(longest, *(o.seconds for each in outcomes for o in each))
        proved = np.array([[o.verdict == "proved" for o in each] for each in outcomes]).sum(axis=0)
        holds = sum(each.inside.holds for each in rates)
        of = sum(each.inside.images for each in rates)
        cells = " | ".join(f"{many} of {len(pairs)}" for many in proved)
        known = [gamma for gamma in largest if gamma is not None]
        median = f"{np.median(known):.2f}" if len(known) > len(pairs) / 2 else "none"
        print(
            f"| {written} | {len(pairs)} | {holds / of:.1%} | {cells} | {median} | {taken:.1f} |",
            flush=True,
        )
        totals += [len(pairs), holds, of, *proved]
        seconds += taken
    cells = " | ".join(f"{many} of {totals[0]}" for many in totals[3:])
    print(f"| all | {totals[0]} | {totals[1] / totals[2]:.1%} | {cells} | | {seconds:.1f} |")
    print(
        f"\n{undecided} undecided; the longest of {totals[0] * len(GAMMAS)} checks took "
        f"{longest:.2f} s. Rates: of the images predicted as the class, over all its specs. "
        "Largest γ: median over the specs that hold at the mean, where most do. Seconds: for all "
        "three γ."
    )


def _largest(formula: Formula, world: Interpretation, box: Callable[[float], Box]) -> float | None:
    return largest_gamma(lambda gamma: check_region(formula, world, box(gamma))).gamma


def _class_names() -> list[str]:
    return sorted(
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    )


def _observed(
    checkpoint: Path,
    archive: Path,
    images: int,
    vlm_name: str,
    attributes: tuple[str, ...],
    folder: Path,
) -> tuple[Classifier, Observation, np.ndarray]:
    """The classifier, what it and the VLM make of the images, and the attributes' captions."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "images", filter="data")
    (data,) = (folder / "images").iterdir()
    (folder / "classes.txt").write_text("\n".join(_class_names()))
    device = torch.device("cpu")
    subject = load_subject(
        f"{HERE / 'train_cifar.py'}:net", device, SubjectOptions(checkpoint=checkpoint)
    )
    classifier = Classifier.find(subject)
    names, mapping = open_classes(folder / "classes.txt", classifier.outputs)
    vlm = open_vlm(vlm_name, device)
    store = Store(cache_folder())
    labelled = open_labelled(data, names, mapping, limit=images)
    seen = examine(classifier, vlm, labelled, services=Services(store=store))
    return classifier, seen, caption_rows(vlm, attributes, store)


# --- a large one ---------------------------------------------------------------------------------


def measure_size(classes: int, features: int) -> None:
    """Seconds for one spec on one region, over random planes."""
    rng = np.random.default_rng(0)
    mean, spread = np.abs(rng.normal(size=features)), 0.5 * np.abs(rng.normal(size=features))
    weights = rng.normal(size=(classes, features)) * 0.05
    weights[0] += 0.02 * (mean - mean.mean())
    world = Interpretation(
        Linear(tuple(f"k{i}" for i in range(classes)), weights, 0.05 * rng.normal(size=classes)),
        Linear(
            tuple(f"c{i}" for i in range(50)),
            0.01 * rng.normal(size=(50, features)),
            0.01 * rng.normal(size=50),
        ),
    )
    best = Predicts(f"k{int(np.argmax(world.classes(mean[None])))}")
    strengths = world.concepts(mean[None])[0]
    high, low = (f"c{int(place(strengths))}" for place in (np.argmax, np.argmin))
    specs: dict[str, Formula] = {
        ">(x, a, b)": Stronger(high, low),
        "predict(x, k) => >(x, a, b)": Implies(best, Stronger(high, low)),
        "predict(x, k) => three comparisons": Implies(
            best, And((Stronger(high, low), Stronger(high, "c3"), Stronger("c4", low)))
        ),
        ">(x, a, b) => predict(x, k)": Implies(Stronger(high, low), best),
    }
    points = np.abs(mean + spread * rng.normal(size=(300, features)))
    regions = {
        "box γ = 0.05": Box.around(mean, spread, 0.05, positive=True),
        "box γ = 0.2": Box.around(mean, spread, 0.2, positive=True),
        "box γ = 0.4": Box.around(mean, spread, 0.4, positive=True),
        "hull of 300": Hull(points),
        "ball": Ball(mean, 0.2 * float(np.linalg.norm(spread))),
    }
    print(f"{classes} classes, {features} features; verdict and seconds\n")
    print("| spec | " + " | ".join(regions) + " |\n|---|" + "---|" * len(regions))
    for name, formula in specs.items():
        found = [_said(check_region(formula, world, region)) for region in regions.values()]
        print(f"| `{name}` | " + " | ".join(found) + " |", flush=True)


def _said(outcome: Outcome) -> str:
    return f"{outcome.verdict}, {outcome.seconds:.2f} s"


if __name__ == "__main__":
    main()
