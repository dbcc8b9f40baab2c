"""Train the probes by which ``--vlm conse`` sees objects apart, patterns and materials.

    python benchmarks/train_vocabulary.py FEATURES --out
    profiler/models/vlm/vocabularies.safetensors

FEATURES: a folder where what EfficientNet-Lite2 gives for the scenes is kept; a call that is
broken off carries on from there. The scenes are those of ``profiler.data.synthetic``, the varied
and the built-in ones: nothing but what is in this repository and the network's weights goes in.
Every tenth scene is held out; the scores are measured on those. An hour and a half on two cores,
nearly all of it drawing and reading the scenes.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pattern_variants import VARIANTS
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as nnf
from torchvision.transforms import functional as ttf
from varied_scenes import VARIED_VERSION, VariedScenes

from profiler.data.synthetic.materials import MATERIALS
from profiler.data.synthetic.scenes import VERSION, Scene, SyntheticScenes
from profiler.models.subject.sources import lite_model
from profiler.models.vlm.looks import SUBJECT
from profiler.models.vlm.middle import CELLS, middle, object_inputs, places, statistics

SHARD = 80  # scenes in a file
BATCH = 16
DIRECTIONS = 256  # in which scenes differ
HELD_OUT = 10  # every tenth scene is for measuring
WORDS = {"patterns": tuple(VARIANTS), "materials": tuple(MATERIALS)}
BUILT_IN_SEED = 100
"""Added to the seed for the built-in scenes: those of small seeds are what people profile with."""


def main() -> None:
    """Draw, read, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=10_000, help="varied ones")
    parser.add_argument("--built-in", type=int, default=4_000, help="built-in ones")
    parser.add_argument("--seed", type=int, default=0, help="draws the scenes")
    parser.add_argument("-j", "--processes", type=int, default=2)
    parser.add_argument("--ridge", type=float, default=0.005, help="keeps the probes small")
    parser.add_argument("--epochs", type=int, default=6, help="for telling objects apart")
    args = parser.parse_args()
    args.features.mkdir(parents=True, exist_ok=True)
    sources = (
        Source("varied", args.scenes, args.seed),
        Source("built-in", args.built_in, args.seed + BUILT_IN_SEED),
    )
    shards = [(args.features, source, k) for source in sources for k in source.starts]
    with ProcessPoolExecutor(args.processes) as pool:
        for done, _ in enumerate(pool.map(make_shard, shards), 1):
            print(f"\r{done} of {len(shards)} shards", end="", file=sys.stderr)
    print(file=sys.stderr)
    recipe = {
        "network": f"{SUBJECT}, ImageNet-1k weights",
        "scenes": {source.kind: source.count for source in sources},
        "seed": {source.kind: source.seed for source in sources},
        "version of the scenes": {"varied": VARIED_VERSION, "built-in": VERSION},
        "held out": f"every {HELD_OUT}th",
        "ridge": args.ridge,
        "epochs": args.epochs,
        "script": "benchmarks/train_vocabulary.py",
    }
    tensors, scores = train(args.features, sources, args.ridge, args.epochs)
    said = {"words": json.dumps(WORDS), "recipe": json.dumps(recipe), "scores": json.dumps(scores)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out, metadata=said)
    print(json.dumps(scores, indent=2))


# --- features --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """So many scenes of one kind.

    Attributes:
        kind: "varied" or "built-in".
        count: how many.
        seed: draws them.
    """

    kind: str
    count: int
    seed: int

    @property
    def scenes(self) -> VariedScenes | SyntheticScenes:
        """At least ``count`` of them, in whole shards."""
        kind = VariedScenes if self.kind == "varied" else SyntheticScenes
        return kind(max(1, len(self.starts) * SHARD), self.seed)

    @property
    def truth(self) -> list[Scene]:
        """What stands in each of the ``count`` scenes."""
        scenes = self.scenes
        drawn = [scenes.scene(i) for i in range(self.count)]
        return [each if isinstance(each, Scene) else each.scene for each in drawn]

    @property
    def starts(self) -> range:
        """The first scene of each shard."""
        return range(0, self.count, SHARD)

    def shard(self, folder: Path, first: int) -> Path:
        """Where the features of SHARD scenes lie, from the first of them on."""
        return folder / f"{self.kind}-seed{self.seed}-{first:06d}.npz"


def make_shard(job: tuple[Path, Source, int]) -> None:
    """Draw SHARD scenes and keep what the network gives for them, if that is not there yet."""
    folder, source, first = job
    path = source.shard(folder, first)
    if path.exists():
        return
    torch.set_num_threads(1)
    subject = lite_model(SUBJECT)
    network = subject.model.to(memory_format=torch.channels_last)
    scenes = source.scenes
    parts = []
    for start in range(first, first + SHARD, BATCH):
        images = torch.stack([subject.preprocess(scenes[start + k][0]) for k in range(BATCH)])
        with torch.inference_mode():
            means, squares, _ = middle(network, images.to(memory_format=torch.channels_last))
        parts.append((means.half().numpy(), squares.half().numpy()))
    whole = {
        "means": np.concatenate([means for means, _ in parts]),
        "squares": np.concatenate([squares for _, squares in parts]),
        "masks": np.stack([mask_of(scenes, k) for k in range(first, first + SHARD)]),
    }
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, **whole)
    unfinished.rename(path)


def mask_of(scenes: VariedScenes | SyntheticScenes, i: int) -> np.ndarray:
    """(169,): the share of the object in each cell, as the network sees the scene."""
    drawn = Image.fromarray((255 * scenes.mask(i)).astype(np.uint8))
    shown = ttf.pil_to_tensor(ttf.center_crop(ttf.resize(drawn, 292), [260, 260])).float() / 255
    return nnf.adaptive_avg_pool2d(shown, CELLS).flatten().numpy()


def read_shards(
    folder: Path, sources: Sequence[Source], *, shuffled: bool = False
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(means, squares, masks) of up to SHARD scenes at a time, as 32-bit numbers."""
    shards = [(source, first) for source in sources for first in source.starts]
    order = torch.randperm(len(shards)).tolist() if shuffled else range(len(shards))
    for source, first in (shards[k] for k in order):
        with np.load(source.shard(folder, first)) as kept:
            means, squares, masks = (
                torch.from_numpy(kept[name][: source.count - first]).float()
                for name in ("means", "squares", "masks")
            )
        yield means, squares, masks


# --- training --------------------------------------------------------------------------------


def train(
    folder: Path, sources: Sequence[Source], ridge: float, epochs: int
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The probes' tensors, and their scores on the scenes held out."""
    torch.manual_seed(0)
    tensors, intersection = train_objects(folder, sources, epochs)
    rows = torch.cat(
        [
            statistics(means, squares, judge(tensors, means))
            for means, squares, _ in read_shards(folder, sources)
        ]
    )
    truth = [scene for source in sources for scene in source.truth]
    kinds = [source.kind for source in sources for _ in range(source.count)]
    held = torch.cat([torch.arange(source.count) % HELD_OUT == 0 for source in sources])
    scores = {"objects: intersection over union": round(intersection, 4)}
    for name, words in WORDS.items():
        of = {"patterns": lambda s: s.pattern, "materials": lambda s: s.material}[name]
        target = torch.tensor([words.index(of(scene)) for scene in truth])
        weight, bias = fit_words(rows[~held], target[~held], len(words), ridge)
        right = (rows @ weight.T + bias).argmax(1) == target
        for source in sources:
            own = held & torch.tensor([kind == source.kind for kind in kinds])
            told = f"{name}: right, {source.kind} scenes"
            scores[told] = round(float(right[own].float().mean()), 4)
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, bias
    return tensors | fit_usual(rows[~held], rows[held]), scores


def fit_usual(rows: torch.Tensor, held: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the scenes have in common: a subspace of the standardised rows (n, d).

    How far an image lies off it, as a multiple of what is usual for scenes held out, tells images
    the probes know from others.
    """
    mean, std = rows.mean(0), rows.std(0) + 1e-6
    inputs = (rows - mean) / std
    basis = torch.linalg.svd(inputs, full_matrices=False).Vh[:DIRECTIONS]
    others = (held - mean) / std
    off = (others - others @ basis.T @ basis).square().mean(1).median()
    return {
        "usual.mean": mean,
        "usual.std": std,
        "usual.basis": basis.half().contiguous(),  # half the file; it is read in single precision
        "usual.off": off.reshape(1),
    }


def judge(tensors: dict[str, torch.Tensor], means: torch.Tensor) -> torch.Tensor:
    """(B, 169): as :meth:`.objects` gives it, of unsaved tensors."""
    local, whole = object_inputs(means)
    logits = torch.einsum("bct,c->bt", local, tensors["object.local"])
    logits = logits + torch.einsum("bct,c->bt", whole, tensors["object.whole"])
    place = tensors["object.place"] @ places(means.device)
    return torch.sigmoid(logits + place + tensors["object.bias"])


def train_objects(
    folder: Path, sources: Sequence[Source], epochs: int
) -> tuple[dict[str, torch.Tensor], float]:
    """A logistic regression on cells: object or not. By gradient descent, shard by shard."""
    first = next(read_shards(folder, sources))[0].flatten(2)
    mean, std = first.mean((0, 2)), first.std((0, 2)) + 1e-6
    channels = len(mean)
    weight = torch.zeros(2 * channels + 4, requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    descent = torch.optim.Adam([weight, bias], lr=3e-3, weight_decay=1e-4)
    place = places(torch.device("cpu"))

    def logits(means: torch.Tensor) -> torch.Tensor:
        local = (means.flatten(2) - mean[:, None]) / std[:, None]
        against = local - local.mean(2, keepdim=True)
        near, far, rest = weight.split([channels, channels, 4])
        return (
            torch.einsum("bct,c->bt", local, near)
            + torch.einsum("bct,c->bt", against, far)
            + rest @ place
            + bias
        )

    for epoch in range(epochs):
        for group in descent.param_groups:
            group["lr"] = 3e-3 * (1 - epoch / epochs)
        for means, _, masks in read_shards(folder, sources, shuffled=True):
            learn = torch.arange(len(means)) % HELD_OUT != 0
            for part in torch.nonzero(learn).flatten()[torch.randperm(int(learn.sum()))].split(24):
                descent.zero_grad()
                nnf.binary_cross_entropy_with_logits(logits(means[part]), masks[part]).backward()
                descent.step()
    with torch.no_grad():
        near, far, rest = weight.split([channels, channels, 4])
        tensors = {
            "object.local": (near + far) / std,
            "object.whole": -far / std,
            "object.place": rest.clone(),
            "object.bias": bias - (near / std) @ mean,
        }
        both, either = 0.0, 0.0
        for means, _, masks in read_shards(folder, sources):
            held = torch.arange(len(means)) % HELD_OUT == 0
            found, true = judge(tensors, means[held]) > 0.5, masks[held] > 0.5
            both += float((found & true).sum())
            either += float((found | true).sum())
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, both / either


def fit_words(
    rows: torch.Tensor, target: torch.Tensor, words: int, ridge: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A softmax regression on standardised rows (n, d): weight (words, d), bias, for raw rows."""
    mean, std = rows.mean(0), rows.std(0) + 1e-6
    inputs = (rows - mean) / std
    weight = torch.zeros(words, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(words, requires_grad=True)
    descent = torch.optim.LBFGS(
        [weight, bias], max_iter=80, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        descent.zero_grad()
        wrong = nnf.cross_entropy(inputs @ weight.T + bias, target)
        total = wrong + ridge * (weight**2).sum()
        total.backward()
        return total

    descent.step(loss)
    with torch.no_grad():
        scaled = weight / std
        return scaled.contiguous(), (bias - scaled @ mean).contiguous()


if __name__ == "__main__":
    main()
