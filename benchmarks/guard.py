"""Which defects does the guard find, beside baselines on the same split, and at what cost.

On the two classifiers of ``benchmarks/planted_faults.py``, undamaged: ``photos`` (EfficientNet
Lite0 under a head for 14 coarse groups) and ``cifar`` (a small network, 10 classes). Concepts are
the class names and one in 25 of the words of the set "visual", read through ConSE.

Defects are misclassified images; images attacked (FGSM, PGD of 10 steps, three ε; in 8 bits; PGD
also saved as JPEG) or corrupted (three families, severity 3) and misclassified. Each kind is told
from right answers on clean images. Rules, baselines, and the map are fitted on one part; weights of
the combination are chosen on a second; numbers come from a third. No picture is in two. The default
rule is also given 1, 2 and 5 further views of each image, that is 2, 3 and 6 forward passes.

``cifar``: 5 000 images to fit on and 2 000 to choose on, of the training archive but not used in
training; 2 000 of the test archive, of which 600 are attacked and corrupted. ``photos`` are few, so
five rotations: each photograph that the head was not trained on is tested once, by a guard that saw
neither it nor any view of it. Intervals draw photographs, with all their views.

    python benchmarks/guard.py ../shared/data [--worlds photos cifar] [--adaptive] [--cost]

Worlds that ``planted_faults.py`` has kept are read from its cache; what is computed here is kept in
``--cache`` as plain arrays.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import planted_faults as pf
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.core.memory import keep_freed_memory
from profiler.data.corruptions import Corruption
from profiler.guard.guard import Context, Guard, HeldOutScores
from profiler.guard.metrics import METRICS, Contest, Draws, interval, metrics
from profiler.guard.rules.base import Views
from profiler.guard.rules.baselines import baselines
from profiler.guard.rules.combined import DEFAULT, RULES, make_rule
from profiler.guard.rules.comparisons import LikelihoodRule
from profiler.guard.runtime import ScoringCore
from profiler.guard.thresholds import threshold
from profiler.models.attacks import STEP_SHARE, Attack, PixelScale, logit_of_error
from profiler.models.subject.network import weights_digest
from profiler.models.views import VIEWS
from profiler.models.vlm.choose import open_vlm

Array = NDArray[Any]
SCALE = PixelScale((0.0,) * 3, (1.0,) * 3)
EPS = (1, 2, 4)
CORRUPTIONS = ("gaussian_noise:3", "defocus_blur:3", "jpeg_compression:3")
SIZES = {"fit": 5000, "choose": 2000, "test": 2000}
SAVED = 95
"""Quality of the JPEG as which attacked images are saved."""
CHANGED = 600
"""Images of ``cifar`` that are attacked and corrupted."""
EPOCHS = 4
"""For which the network of ``cifar`` is trained, unless told otherwise."""
EVERY = 4
"""Of the photographs, one in so many is attacked."""
ROTATIONS = 5
BATCHES = {"photos": 16, "cifar": 64}
VIEWED = {"2 passes": 1, "3 passes": 2, "6 passes": len(VIEWS)}
"""Guards of the default rule that look at the first so many views of each image besides."""
ADAPTIVE_STEPS = 20
MARGIN = 1.0
"""Log-odds of error beyond which an attack that knows the guard does not push further."""


@dataclass(frozen=True)
class Answered:
    """What a classifier gives for n images.

    Encodings z (n, f), logits (n, C), true class (n,), the picture each row shows (n,), and
    encodings (n, V, f) and logits (n, V, C) of all views of it.
    """

    z: Array
    y: Array
    truth: Array
    source: Array
    view_z: Array
    view_y: Array

    @property
    def wrong(self) -> Array:
        """(n,) which are misclassified."""
        wrong: Array = self.y.argmax(1) != self.truth
        return wrong

    def take(self, rows: Array) -> "Answered":
        """Some of them."""
        return Answered(*(part[rows] for part in self.parts))

    def views(self, count: int) -> Views | None:
        """The first so many."""
        return Views(self.view_z[:, :count], self.view_y[:, :count]) if count else None

    def __add__(self, other: "Answered") -> "Answered":
        pairs = zip(self.parts, other.parts, strict=True)
        return Answered(*(np.concatenate(pair) for pair in pairs))

    @property
    def parts(self) -> tuple[Array, ...]:
        """All six."""
        return self.z, self.y, self.truth, self.source, self.view_z, self.view_y


class Net(nn.Module):
    """A world's classifier: images in [0, 1] → logits."""

    def __init__(self, world: pf.World) -> None:
        super().__init__()
        self.encoder = world.encoder
        self.head = nn.Linear(world.weights.shape[1], len(world.weights))
        self.head.weight.data = torch.from_numpy(world.weights).float()
        self.head.bias.data = torch.from_numpy(world.bias).float()
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, C)."""
        logits: torch.Tensor = self.head(self.encoder(images))
        return logits


class Bench:
    """A world, and what is kept of it."""

    def __init__(
        self, name: str, data: Path, worlds: Path, cache: Path, seed: int = 0, epochs: int = EPOCHS
    ) -> None:
        self.name, self.data, self.seed = name, data, seed
        # Another seed takes other test images of CIFAR-10, and deals the photographs anew.
        other = f"-{seed}" if seed and name != "photos" else ""
        trained = f"-{epochs}-epochs" if epochs != EPOCHS else ""
        self.folder = cache / (name + other + trained)
        self.folder.mkdir(parents=True, exist_ok=True)
        sizes = argparse.Namespace(
            limit=0, train=40_000, reference=1000, evaluation=400, epochs=epochs
        )
        # planted_faults.py keeps its worlds as a program, so its classes are those of __main__.
        for kind in ("World", "Pictures", "Encoder", "Normalise", "Seen"):
            setattr(sys.modules["__main__"], f"{kind}", getattr(pf, kind))
        vlm = open_vlm("conse:objects", torch.device("cpu"))
        folder = worlds / "-".join(map(str, [name, *vars(sizes).values()]))
        self.world: pf.World = pf.kept(
            folder / "world", lambda: pf.build_world(name, data, vlm, sizes)
        )
        self.net = Net(self.world)
        self.texts = pf.texts_of(self.world, vlm)

    @property
    def words(self) -> list[str]:
        """The concepts."""
        return [*self.texts.names, *self.texts.further_names]

    @property
    def captions(self) -> Array:
        """(M, T, e)."""
        return np.concatenate([self.texts.classes, self.texts.further])

    def kept(self, name: str, make: Callable[[], tuple[Array, Array, Array]]) -> Answered:
        """Encodings (n, 1 + V, f), true classes and pictures, made once."""
        path = self.folder / f"{name}-viewed.npz"
        if not path.exists():
            started = time.time()
            z, truth, source = make()
            np.savez(path, z=z, truth=truth, src=source)
            print(f"made {self.name} {name} in {time.time() - started:.0f} s", flush=True)
        found = np.load(path)
        z = found["z"].astype(np.float64)
        y = z @ self.world.weights.T + self.world.bias
        return Answered(z[:, 0], y[:, 0], found["truth"], found["src"], z[:, 1:], y[:, 1:])

    def part(self, name: str) -> Answered:
        """Clean images of a part."""

        def make() -> tuple[Array, Array, Array]:
            known = name in self.world.clean
            pictures = self.world.parts[name] if known else self.pictures(name)
            return encode(self.net, pictures.pixels, 64), pictures.truth, pictures.source

        return self.kept(name, make)

    def pictures(self, name: str) -> pf.Pictures:
        """The images of a part of ``cifar`` that ``planted_faults.py`` does not use."""
        last = 2400 + 2000 * self.seed
        everything = pf.cifar(self.data, {"train": 49_000, "reference": 1000, "evaluation": last})
        if name == "test":
            return everything["evaluation"].take(np.arange(last - 2000, last))
        first = 40_000 + (SIZES["fit"] if name == "choose" else 0)
        return everything["train"].take(np.arange(first, first + SIZES[name]))

    def to_change(self, attacked: bool) -> pf.Pictures:
        """The images that are attacked or corrupted."""
        if self.name == "cifar":
            return self.pictures("test").take(np.arange(CHANGED))
        parts = [self.world.parts[part] for part in ("reference", "evaluation")]
        views = [pf.VIEWS[part] for part in ("reference", "evaluation")]
        one = pf.Pictures(
            torch.cat([p.pixels[::v] for p, v in zip(parts, views, strict=True)]),
            np.concatenate([p.truth[::v] for p, v in zip(parts, views, strict=True)]),
            np.concatenate([p.source[::v] for p, v in zip(parts, views, strict=True)]),
        )
        return one.take(np.arange(0, len(one), EVERY)) if attacked else one

    def changed(self, name: str) -> Answered:
        """``fgsm-2``, ``pgd-4`` (ε in 1/255), ``pgd-4-saved``, or a corruption."""

        def make() -> tuple[Array, Array, Array]:
            method, _, eps = name.removesuffix("-saved").partition("-")
            attacked = method in ("fgsm", "pgd")
            pictures = self.to_change(attacked)
            if attacked:
                attack = Attack(method, int(eps) / 255)
                z = attacked_features(
                    self.net, pictures, attack, BATCHES[self.name], name.endswith("-saved")
                )
            else:
                harmed = corrupt(pictures.pixels, Corruption.parse(name))
                z = encode(self.net, harmed, 64)
            return z, pictures.truth, pictures.source

        return self.kept(f"test-{name.partition(':')[0]}", make)


def encode(net: Net, pixels: torch.Tensor, batch: int) -> Array:
    """(n, 1 + V, f) encodings of uint8 images and of all views of them."""
    return np.concatenate([viewed(net, part.float().div(255)) for part in pixels.split(batch)])


def viewed(net: Net, images: torch.Tensor) -> Array:
    """(n, 1 + V, f) encodings of images in [0, 1] and of all views of them."""
    with torch.inference_mode():
        found = [net.encoder(each) for each in (images, *(v(images) for v in VIEWS.values()))]
    return torch.stack(found, dim=1).numpy()


def attacked_features(
    net: Net, pictures: pf.Pictures, attack: Attack, batch: int, saved: bool
) -> Array:
    """(n, 1 + V, f) encodings of the attacked images in 8 bits, and of views of them.

    Args:
        net: is attacked.
        pictures: to be attacked.
        attack: what the adversary does.
        batch: at a time.
        saved: as JPEG, of quality :data:`SAVED`, and read again.
    """
    found = []
    for lo in range(0, len(pictures), batch):
        images = pictures.pixels[lo : lo + batch].float().div(255)
        truth = torch.from_numpy(pictures.truth[lo : lo + batch])
        changed = attack(net, images, truth, SCALE, range(lo, lo + len(images)))
        pixels = changed.mul(255).round().to(torch.uint8)
        if saved:
            pixels = redrawn(pixels, lambda image, _: through_jpeg(image))
        found.append(viewed(net, pixels.float().div(255)))
    return np.concatenate(found)


def redrawn(
    pixels: torch.Tensor, change: Callable[[Image.Image, int], Image.Image]
) -> torch.Tensor:
    """(n, 3, H, W) uint8, each image as ``change`` leaves it, which is told its number as well."""
    made = []
    for number, each in enumerate(pixels):
        image = change(Image.fromarray(each.permute(1, 2, 0).numpy()), number)
        made.append(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1))
    return torch.stack(made)


def through_jpeg(image: Image.Image) -> Image.Image:
    """Saved and read again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=SAVED)
    return Image.open(file)


def corrupt(pixels: torch.Tensor, corruption: Corruption) -> torch.Tensor:
    """(n, 3, H, W) uint8, harmed."""
    return redrawn(
        pixels, lambda image, number: corruption(image, np.random.default_rng([0, number]))
    )


# --- scores ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """Everything fitted on one part and chosen on another."""

    space: ConceptSpace
    aligned: AffineMap
    detectors: Mapping[str, Any]
    choosing: Answered

    def scores(self, seen: Answered) -> dict[str, Array]:
        """(n,) of every detector."""
        found = {}
        for name, each in self.detectors.items():
            count = len(getattr(each, "views", ()))
            more = {"views": seen.views(count)} if count else {}
            found[name] = each.score(seen.z, seen.y, **more)
        return found


def fitted(bench: Bench, aligned: AffineMap, fitting: Answered, choosing: Answered) -> Fitted:
    """All rules and baselines."""
    space = ConceptSpace.of(bench.words, bench.captions, aligned)
    found: dict[str, Any] = {}
    for name in RULES:
        combined = make_rule(f"msp+{name}", space).fit(fitting.z, fitting.y, fitting.truth)
        found[name] = combined.rule
        combined.weigh(choosing.z, choosing.y, choosing.truth, choosing.source)
        found[combined.name] = combined
    for name, count in VIEWED.items():
        looking = make_rule(DEFAULT, space, tuple(VIEWS)[:count])
        looking.fit(fitting.z, fitting.y, fitting.truth)
        looking.weigh(
            choosing.z, choosing.y, choosing.truth, choosing.source, choosing.views(count)
        )
        found[f"{DEFAULT}, {name}"] = looking
    for each in baselines():
        found[each.name] = each.fit(fitting.z, fitting.y, fitting.truth)
    return Fitted(space, aligned, found, choosing)


def rotations(bench: Bench) -> Iterator[tuple[Fitted, Callable[[Answered], Array]]]:
    """What is fitted, and which rows of any images it may be tested on."""
    if bench.name == "cifar":
        reference = bench.part("reference")
        aligned = AffineMap().fit(reference.z, bench.world.vlm["reference"])
        yield (
            fitted(bench, aligned, bench.part("fit"), bench.part("choose")),
            lambda seen: np.arange(len(seen.z)),
        )
        return
    seen = bench.part("reference") + bench.part("evaluation")
    vlm = np.concatenate([bench.world.vlm["reference"], bench.world.vlm["evaluation"]])
    others = bench.part("unlabelled")
    pictures = np.unique(seen.source)
    dealt = np.random.default_rng(bench.seed).permutation(len(pictures)) % ROTATIONS
    fold = dict(zip(pictures.tolist(), dealt.tolist(), strict=True))
    of = np.array([fold[source] for source in seen.source.tolist()])
    for turn in range(ROTATIONS):
        choosing = of == (turn + 1) % ROTATIONS
        fitting = (of != turn) & ~choosing
        aligned = AffineMap().fit(
            np.concatenate([seen.z[fitting], others.z]),
            np.concatenate([vlm[fitting], bench.world.vlm["unlabelled"]]),
            np.concatenate([seen.source[fitting], others.source]),
        )
        yield (
            fitted(bench, aligned, seen.take(fitting), seen.take(choosing)),
            lambda given, turn=turn: np.flatnonzero(
                [fold[source] == turn for source in given.source.tolist()]
            ),
        )


@dataclass(frozen=True)
class Result:
    """Scores of clean test images, and of each kind of changed ones."""

    clean: Answered
    scores: dict[str, Array]
    changed: dict[str, tuple[Answered, dict[str, Array]]]
    r2: list[float]
    chosen: list[tuple[str, float, float]]


def judged(bench: Bench, kinds: list[str]) -> Result:
    """Every detector on every kind of images, each image by a guard that has not seen it."""
    clean = bench.part("test") if bench.name == "cifar" else (
        bench.part("reference") + bench.part("evaluation")
    )  # fmt: skip
    given = {"": clean, **{kind: bench.changed(kind) for kind in kinds}}
    found: dict[str, dict[str, Array]] = {kind: {} for kind in given}
    r2, chosen = [], []
    for fit, rows_of in rotations(bench):
        r2.append(fit.aligned.r2_)
        own = fit.detectors[DEFAULT]
        chosen.append((own.softmax_.name, own.weight_, round(float(np.exp(own.allowance_)))))
        for kind, seen in given.items():
            rows = rows_of(seen)
            for name, scores in fit.scores(seen.take(rows)).items():
                blank = np.full(len(seen.z), np.nan)
                found[kind].setdefault(name, blank)[rows] = scores
    return Result(
        clean, found[""], {kind: (given[kind], found[kind]) for kind in kinds}, r2, chosen
    )


# --- tables ----------------------------------------------------------------------------------


def report(bench: Bench, result: Result, draws: int) -> None:
    """One table a kind of defect, the averages, and the goals."""
    known = [each.name for each in baselines()]
    clean, right = result.clean, ~result.clean.wrong
    print(f"\n## {bench.name}: {len(bench.words)} concepts, accuracy {right.mean():.3f} on "
          f"{len(right)} images, R² of the map {np.mean(result.r2):.2f}; {DEFAULT}: (softmax, "
          f"weight, one in) {result.chosen}")  # fmt: skip
    kinds = {"misclassified": (clean.wrong, clean, result.scores)}
    kinds |= {kind: (seen.wrong, seen, scores) for kind, (seen, scores) in result.changed.items()}
    pgd: dict[bool, dict[str, list[tuple[float, Array]]]] = {False: {}, True: {}}
    for kind, (bad, seen, scores) in kinds.items():
        defect = np.r_[np.zeros(right.sum(), bool), np.ones(bad.sum(), bool)]
        rows = {n: np.r_[result.scores[n][right], scores[n][bad]] for n in scores}
        drawn = Draws.of(np.r_[clean.source[right], seen.source[bad]], draws)
        compared = Contest.of(rows, defect, drawn)
        numbers = {name: compared.intervals(name) for name in rows}
        print(f"\n### {bench.name}, {kind}: accuracy {1 - bad.mean():.3f}; {bad.sum()} defects, "
              f"{right.sum()} right answers\n")  # fmt: skip
        print("| score | " + " | ".join(METRICS) + " |")
        print("| --- |" + " ---: |" * len(METRICS))
        for name, each in numbers.items():
            cells = [
                f"{v.value:.3f} ({v.low:.3f}–{v.high:.3f})" for v in map(each.__getitem__, METRICS)
            ]
            print(f"| {name} | " + " | ".join(cells) + " |")
        told = []
        for metric in METRICS:
            best = compared.best(known, metric)
            lead = compared.lead(DEFAULT, best, metric)
            told.append(f"{metric} {lead.value:+.3f} ({lead.low:+.3f}–{lead.high:+.3f}) vs {best}")
        print(f"\n{DEFAULT} less the best baseline: " + "; ".join(told))
        if kind.startswith("pgd-"):
            for name in rows:
                found = compared.values[name].auroc, compared.drawn[name].auroc
                pgd[kind.endswith("-saved")].setdefault(name, []).append(found)
    for saved, averages in pgd.items():
        how = f", saved as JPEG {SAVED}" if saved else ""
        print(f"\n### {bench.name}, AUROC under PGD{how}, on average over ε\n")
        for name, each in averages.items():
            values, drawn = zip(*each, strict=True)
            mean = interval(float(np.mean(values)), np.mean(drawn, axis=0))
            print(f"{name}: {mean.value:.3f} ({mean.low:.3f}–{mean.high:.3f})")


# --- an attack that knows the guard ----------------------------------------------------------


def guard_of(bench: Bench, fit: Fitted, name: str = DEFAULT) -> Guard:
    """The guard of a combination, as it would be deployed."""
    rule = fit.detectors[name]
    seen, world = fit.choosing, bench.world
    speaker = LikelihoodRule(fit.space).fit(seen.z, seen.y, seen.truth)
    scores = rule.score(seen.z, seen.y, seen.views(len(rule.views)))
    cut = threshold("false-alarms", 0.05, scores, seen.wrong)
    levels = speaker.levels(seen.z).astype(np.float32)
    kept = HeldOutScores(scores, seen.wrong, scores, levels, seen.y.argmax(1))
    return Guard(
        fit.space, fit.aligned, rule, speaker, (world.weights, world.bias), kept, cut,
        Context(subject=bench.name, head="head", digest=weights_digest(bench.net)),
        np.zeros(0, np.int64),
    )  # fmt: skip


def adaptive(
    net: Net, core: ScoringCore, images: torch.Tensor, truth: torch.Tensor, eps: float
) -> torch.Tensor:
    """PGD against classifier and guard together.

    The loss is the log-odds of error, up to :data:`MARGIN`, less the distance that the guard
    measures, in units of what right answers have. Of a guard with views, the mean over them of the
    log-odds of error counts as well; once the image is misclassified, of the log-odds *for* the
    class that it is taken for. Of all points on the way, the misclassified one of lowest score is
    kept.
    """
    usual = float(core.edges[1].median())
    torch.manual_seed(0)
    low, high = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    points = (images + eps * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    best, lowest = images.clone(), torch.full((len(images),), torch.inf)
    for step in range(ADAPTIVE_STEPS + 1):
        points = points.detach().requires_grad_()
        z = [net.encoder(each) for each in (points, *(VIEWS[name](points) for name in core.views))]
        y = [net.head(each) for each in z]
        predicted = y[0].argmax(1)
        error = logit_of_error(y[0], truth)
        fooled = error > 0
        loss = error.clamp(max=MARGIN)
        if core.views:
            others = [
                torch.where(
                    fooled, -logit_of_error(each, predicted), logit_of_error(each, truth)
                ).clamp(max=MARGIN)
                for each in y[1:]
            ]
            loss = loss + torch.stack(others).mean(0)
        loss = loss - fooled * core._distant(z[0], predicted) / usual
        (slope,) = torch.autograd.grad(loss.sum(), points)
        with torch.no_grad():
            views = (torch.stack(z[1:], 1), torch.stack(y[1:], 1)) if core.views else None
            score = core(z[0], y[0], views=views)
            score = torch.where(predicted != truth, score, torch.inf)
            better = score < lowest
            best[better], lowest = points[better].detach(), torch.minimum(lowest, score)
            if step < ADAPTIVE_STEPS:
                stride = STEP_SHARE / ADAPTIVE_STEPS * eps
                points = torch.minimum(torch.maximum(points + stride * slope.sign(), low), high)
    return best


def adaptive_report(
    bench: Bench, result: Result, strengths: list[int], most: int, name: str
) -> None:
    """What remains of a guard under such attacks."""
    pictures = bench.to_change(attacked=True)
    pictures = pictures.take(np.arange(min(most, len(pictures))))
    right = ~result.clean.wrong
    print(f"\n### {bench.name}, {name}: PGD of {ADAPTIVE_STEPS} steps that knows the guard\n")
    for eps in strengths:
        known: list[tuple[bool, bool]] = []
        scores: list[float] = []
        for fit, rows_of in rotations(bench):
            dummy = np.zeros((len(pictures), 1))
            rows = rows_of(Answered(dummy, dummy, pictures.truth, pictures.source, dummy, dummy))
            guard = guard_of(bench, fit, name)
            guarded = guard.wrap(bench.net)
            for lo in range(0, len(rows), BATCHES[bench.name]):
                few = pictures.take(rows[lo : lo + BATCHES[bench.name]])
                truth = torch.from_numpy(few.truth)
                images = few.pixels.float().div(255)
                points = adaptive(bench.net, guarded.core, images, truth, eps / 255)
                with torch.inference_mode():
                    _, verdict = guarded(points)
                wrong = (verdict.predicted != truth).tolist()
                known += list(zip(wrong, verdict.flagged.tolist(), strict=True))
                scores += [s for s, w in zip(verdict.score.tolist(), wrong, strict=True) if w]
        errors = sum(w for w, _ in known)
        passed = sum(w and not flagged for w, flagged in known)
        both = np.r_[result.scores[name][right], scores]
        defect = np.r_[np.zeros(right.sum(), bool), np.ones(len(scores), bool)]
        print(
            f"ε = {eps}/255: {errors} of {len(known)} misclassified, {passed} of them pass "
            f"(threshold: 5 % false alarms); AUROC {metrics(both, defect).auroc:.3f}",
            flush=True,
        )


# --- cost ------------------------------------------------------------------------------------


def cost(bench: Bench, repeats: int) -> None:
    """Median time of the classifier alone and under guard, taken in turns.

    On one thread that is the thread's own time, so other work on the machine does not count.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    fit, _ = next(iter(rotations(bench)))
    guarded = guard_of(bench, fit).wrap(bench.net)
    side = bench.world.parts["reference"].pixels.shape[-1]
    print(f"\n### {bench.name}: cost on {torch.get_num_threads()} thread(s)\n")
    for batch in (1, 16, 64):
        images = torch.rand(batch, 3, side, side)
        alone, both = [], []
        with torch.inference_mode():
            for number in range(max(repeats // batch, 20)):
                pair = [(bench.net, alone), (guarded, both)]
                for module, times in pair if number % 2 else reversed(pair):
                    started = clock()
                    module(images)
                    times.append(clock() - started)
        one, two = float(np.median(alone[3:])), float(np.median(both[3:]))
        steps = np.median(np.array(both[3:]) - np.array(alone[3:]))
        print(f"batch {batch}: {1000 * one:.2f} ms alone, {1000 * two:.2f} ms under guard: "
              f"{100 * (two / one - 1):+.1f} %; median difference {1000 * steps:.3f} ms, "
              f"{100 * steps / one:+.1f} %")  # fmt: skip


def main() -> None:
    """Make or read everything, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="holds imagenet-sample and the CIFAR-10 archives")
    parser.add_argument("--worlds", nargs="+", default=["photos", "cifar"])
    parser.add_argument("--seed", type=int, default=0, help="other test images: 0 to 3")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="train the network of cifar")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--adaptive", action="store_true", help="attacks that know the guard")
    parser.add_argument("--adaptive-eps", type=int, nargs="+", default=list(EPS))
    parser.add_argument("--adaptive-images", type=int, default=300)
    parser.add_argument("--cost", action="store_true", help="time the guard")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--no-tables", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    temporary = Path(tempfile.gettempdir())
    parser.add_argument("--planted", type=Path, default=temporary / "planted-faults")
    parser.add_argument("--cache", type=Path, default=temporary / "guard-benchmark")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    kinds = [f"{method}-{eps}" for method in ("fgsm", "pgd") for eps in EPS]
    kinds += [*(f"pgd-{eps}-saved" for eps in EPS), *CORRUPTIONS]
    for name in chosen.worlds:
        bench = Bench(name, chosen.data, chosen.planted, chosen.cache, chosen.seed, chosen.epochs)
        if chosen.cost:
            cost(bench, chosen.repeats)
        if chosen.no_tables and not chosen.adaptive:
            continue
        result = judged(bench, [] if chosen.no_tables else kinds)
        if not chosen.no_tables:
            report(bench, result, chosen.draws)
        if chosen.adaptive:
            for guard in (DEFAULT, *(f"{DEFAULT}, {passes}" for passes in VIEWED)):
                adaptive_report(bench, result, chosen.adaptive_eps, chosen.adaptive_images, guard)


if __name__ == "__main__":
    main()
