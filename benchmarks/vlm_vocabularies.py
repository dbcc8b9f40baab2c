"""What the offline VLM sees besides objects, measured.

    python benchmarks/vlm_vocabularies.py PHOTOS                # conse against conse:objects
    python benchmarks/vlm_vocabularies.py PHOTOS --weights      # and against other weights

PHOTOS: a photograph for each of the 1 000 ImageNet classes, in class order when sorted by name.
Scenes are drawn with a seed on which neither the probes were trained nor the weights chosen; each
image is read once, for all forms of ConSE. What is measured:

- scenes: of the words of a vocabulary, is the one nearest to the image true of it? The same with
  words that are in no vocabulary, each the name of a pattern or colour that is.
- photographs: is a right word among the three nearest of its vocabulary, for classes whose
  colour, pattern or surroundings are beyond doubt?
- objects: labels of the classifier's own units, by soft-WPMI; zero-shot over coarse classes.
- speed: embeddings of batches in memory.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from planted_faults import GROUPS
from varied_scenes import VariedScenes

from profiler.data.concept_sets import open_concepts
from profiler.data.synthetic.backgrounds import BACKGROUNDS
from profiler.data.synthetic.scenes import Scene, SyntheticScenes
from profiler.models.subject.sources import lite_model
from profiler.models.vlm.base import VLM, TextEncoder, embed_concepts
from profiler.models.vlm.choose import open_vlm
from profiler.models.vlm.conse import TEMPLATE
from profiler.models.vlm.looks import WEIGHTS, Looks, vocabulary
from profiler.models.vlm.sentence import open_sentence_encoder
from profiler.models.vlm.space import space_of

Rows = NDArray[np.float32]

SEED = 13
BATCH = 16
TOPS = (10, 20, 100)
OTHER_WEIGHTS: tuple[Mapping[str, float], ...] = (
    {"objects": 1, "colors": 0.3, "patterns": 0.3, "materials": 0.1},
    {"objects": 1, "colors": 0.7, "patterns": 0.8, "materials": 0.25},
    {"objects": 1, "colors": 0.7, "patterns": 0.8, "materials": 0.5},
    {"objects": 1, "colors": 1, "patterns": 1, "materials": 1},
)

OTHER_WORDS = {
    "crimson": "red",
    "scarlet": "red",
    "emerald": "green",
    "navy blue": "blue",
    "violet": "purple",
    "ivory": "white",
    "stripes": "striped",
    "polka dots": "dotted",
    "checkerboard": "checkered",
    "tartan": "plaid",
    "wickerwork": "woven",
    "flowers": "floral",
    "spider web": "cobwebbed",
    "fish scales": "scaly",
    "knitwear": "knitted",
    "marble": "marbled",
    "wrinkles": "wrinkled",
    "crystal": "crystalline",
}
"""Words that are in no vocabulary, with what they are another word for."""

CERTAIN_COLORS: dict[str, tuple[str, ...]] = {
    "flamingo": ("pink",),
    "banana": ("yellow",),
    "lemon": ("yellow",),
    "corn": ("yellow",),
    "school bus": ("yellow",),
    "cab": ("yellow",),
    "goldfinch": ("yellow",),
    "yellow lady's slipper": ("yellow",),
    "sulphur butterfly": ("yellow",),
    "strawberry": ("red",),
    "pomegranate": ("red",),
    "hip": ("red",),
    "ladybug": ("red", "orange"),
    "fire engine": ("red",),
    "red wine": ("red",),
    "orange": ("orange",),
    "goldfish": ("orange",),
    "jack-o'-lantern": ("orange",),
    "basketball": ("orange", "brown"),
    "monarch": ("orange",),
    "broccoli": ("green",),
    "head cabbage": ("green",),
    "zucchini": ("green",),
    "cucumber": ("green",),
    "artichoke": ("green",),
    "Granny Smith": ("green",),
    "green snake": ("green",),
    "green mamba": ("green",),
    "green lizard": ("green",),
    "tree frog": ("green",),
    "custard apple": ("green",),
    "guacamole": ("green",),
    "indigo bunting": ("blue",),
    "jay": ("blue",),
    "cardoon": ("purple",),
    "ice bear": ("white",),
    "Samoyed": ("white",),
    "Great Pyrenees": ("white",),
    "white wolf": ("white",),
    "Arctic fox": ("white",),
    "American egret": ("white",),
    "sulphur-crested cockatoo": ("white",),
    "golf ball": ("white",),
    "toilet tissue": ("white",),
    "cauliflower": ("white",),
    "black swan": ("black",),
    "gorilla": ("black",),
    "siamang": ("black",),
    "schipperke": ("black",),
    "killer whale": ("black",),
    "giant panda": ("black", "white"),
    "skunk": ("black", "white"),
    "brown bear": ("brown",),
    "bison": ("brown",),
    "sorrel": ("brown",),
    "chocolate sauce": ("brown",),
    "acorn": ("brown", "green"),
    "African elephant": ("gray", "brown"),
    "Weimaraner": ("gray", "brown"),
    "koala": ("gray",),
}
"""Classes whose colour is beyond doubt, with the words that are right; chosen by knowledge of the
classes, before any photograph was looked at or any result was known."""

CERTAIN_PATTERNS: dict[str, tuple[str, ...]] = {
    "zebra": ("striped",),
    "tiger": ("striped",),
    "tiger cat": ("striped",),
    "tabby": ("striped",),
    "anemone fish": ("striped",),
    "king snake": ("striped",),
    "garter snake": ("striped",),
    "dalmatian": ("spotted", "dotted"),
    "leopard": ("spotted", "dotted"),
    "jaguar": ("spotted", "dotted"),
    "cheetah": ("spotted", "dotted"),
    "snow leopard": ("spotted", "dotted"),
    "ladybug": ("spotted", "dotted"),
    "spotted salamander": ("spotted", "dotted"),
    "honeycomb": ("honeycomb",),
    "chainlink fence": ("grid",),
    "crossword puzzle": ("grid", "checkered"),
    "window screen": ("grid",),
    "waffle iron": ("grid",),
    "spider web": ("cobwebbed",),
    "brain coral": ("swirly", "wavy"),
    "wool": ("knitted", "woven"),
    "cardigan": ("knitted", "woven"),
    "hamper": ("woven",),
    "shopping basket": ("woven", "grid"),
    "pineapple": ("scaly",),
    "artichoke": ("scaly",),
    "American alligator": ("scaly",),
    "African crocodile": ("scaly",),
    "chambered nautilus": ("spiralled", "striped"),
    "snail": ("spiralled",),
    "coil": ("spiralled",),
}
"""Classes whose pattern is beyond doubt; chosen likewise."""

CERTAIN_SCENES: dict[str, tuple[str, ...]] = {
    "seashore": ("sea",),
    "sandbar": ("sea",),
    "breakwater": ("sea",),
    "promontory": ("sea",),
    "schooner": ("sea",),
    "yawl": ("sea",),
    "catamaran": ("sea",),
    "container ship": ("sea",),
    "grey whale": ("sea",),
    "alp": ("mountains",),
    "volcano": ("mountains",),
    "ski": ("snow",),
    "snowmobile": ("snow",),
    "snowplow": ("snow",),
    "dogsled": ("snow",),
    "airliner": ("sky",),
    "warplane": ("sky",),
    "airship": ("sky",),
    "parachute": ("sky",),
    "lawn mower": ("grass",),
    "croquet ball": ("grass",),
    "hartebeest": ("grass",),
    "Arabian camel": ("desert",),
    "parking meter": ("road", "city"),
    "street sign": ("road", "city", "sky"),
    "cab": ("road", "city"),
}
"""Classes whose surroundings are beyond doubt; chosen likewise."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--scenes", type=int, default=400, help="of each kind")
    parser.add_argument("--weights", action="store_true", help="try other weights, too")
    args = parser.parse_args()
    device = torch.device("cpu")
    photos = sorted(args.photos.glob("*.jpg"))
    built_in, varied = SyntheticScenes(args.scenes, SEED), VariedScenes(args.scenes, SEED)
    looks = Looks(WEIGHTS, device)
    shown = read_all(looks, photos)
    drawn = read_all(looks, [built_in.image(i) for i in range(args.scenes)])
    others = read_all(looks, [varied[i][0] for i in range(args.scenes)])
    scenes = [built_in.scene(i) for i in range(args.scenes)]
    varied_scenes = [varied.scene(i).scene for i in range(args.scenes)]
    units = classifier_outputs(photos)
    encoder = open_sentence_encoder("minilm", device)
    for weights in ({"objects": 1}, WEIGHTS, *(OTHER_WEIGHTS if args.weights else ())):
        form = Form(weights, encoder)
        found = on_scenes(form, form.rows(drawn), scenes, "scenes")
        found |= on_scenes(form, form.rows(others), varied_scenes, "varied scenes")
        found |= on_photographs(form, form.rows(shown))
        found |= on_objects(form, form.rows(shown), units)
        print(json.dumps(dict(weights)), json.dumps(found, indent=2), flush=True)
    plain, wide = (
        speed(open_vlm(spec, device), photos[:BATCH]) for spec in ("conse:objects", "conse")
    )
    print(f"time of conse over conse:objects: {wide / plain:.3f}")


class Form:
    """ConSE over built-in lists with given weights, on what has been read already."""

    name = "conse"
    template = TEMPLATE

    def __init__(self, weights: Mapping[str, float], encoder: TextEncoder) -> None:
        self._kinds = tuple(weights)
        self._encoder = encoder
        lists = [vocabulary(kind, weight) for kind, weight in weights.items()]
        self.fingerprint = f"{lists}"
        captions = [
            encoder.embed_texts([TEMPLATE.format(word) for word in each.words]) for each in lists
        ]
        self._space = space_of(lists, captions, torch.device("cpu"))

    def rows(self, read: Mapping[str, torch.Tensor]) -> Rows:
        """(n, e) unit rows of images."""
        rows: Rows = self._space.of_images([read[kind] for kind in self._kinds]).numpy()
        return rows

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """(M, e) unit rows of captions."""
        return self._space.of_captions(self._encoder.embed_texts(texts))


def read_all(looks: Looks, images: Sequence[Image.Image | Path]) -> dict[str, torch.Tensor]:
    """For each list (n, words) probabilities."""
    parts = []
    for start in range(0, len(images), BATCH):
        batch = torch.stack([read(looks, image) for image in images[start : start + BATCH]])
        with torch.inference_mode():
            parts.append(looks.read(batch))
    return dict(zip(WEIGHTS, (torch.cat(each) for each in zip(*parts, strict=True)), strict=True))


def read(model: VLM | Looks, image: Image.Image | Path) -> torch.Tensor:
    """(3, H, W), as the model takes it."""
    if isinstance(image, Path):
        with Image.open(image) as file:
            return model.preprocess(file.convert("RGB"))
    return model.preprocess(image)


def nearest(model: Form, rows: Rows, words: Sequence[str], count: int = 1) -> list[list[str]]:
    """The words nearest to each image, nearest first."""
    order = np.argsort(-(rows @ embed_concepts(model, words).T), axis=1, kind="stable")
    return [[words[k] for k in line[:count]] for line in order]


def on_scenes(model: Form, rows: Rows, truth: Sequence[Scene], what: str) -> dict[str, float]:
    """Shares of scenes for which the nearest word is true."""
    kinds = {
        "colors": [{s.color, s.second_color} - {None, "other"} for s in truth],
        "patterns": [{s.pattern} for s in truth],
        "materials": [{s.material} for s in truth],
    }
    found = {}
    for kind, wanted in kinds.items():
        known = vocabulary(kind).words
        best = nearest(model, rows, known)
        right = [line[0] in words for line, words in zip(best, wanted, strict=True) if words]
        found[f"{what}, {kind}"] = round(float(np.mean(right)), 3)
        others = {new: old for new, old in OTHER_WORDS.items() if old in known}
        if not others:
            continue
        # Each word of the vocabulary that has another is replaced by it.
        swapped = [next((n for n, o in others.items() if o == word), word) for word in known]
        best = nearest(model, rows, swapped)
        right = [
            others.get(line[0], line[0]) in words
            for line, words in zip(best, wanted, strict=True)
            if words & set(others.values())
        ]
        found[f"{what}, {kind}, words not in the vocabulary"] = round(float(np.mean(right)), 3)
    first = [s.color for s in truth]
    best = nearest(model, rows, vocabulary("colors").words)
    certain = [
        (line[0], color) for line, color in zip(best, first, strict=True) if color != "other"
    ]
    found[f"{what}, the first color"] = round(float(np.mean([a == b for a, b in certain])), 3)
    return found


def on_photographs(model: Form, rows: Rows) -> dict[str, float]:
    """Shares of the classes beyond doubt with a right word nearest, or among the nearest three."""
    names = list(open_concepts("imagenet-1k").words)
    found: dict[str, float] = {}
    hits: list[bool] = []
    lists: Mapping[str, tuple[Mapping[str, tuple[str, ...]], tuple[str, ...]]] = {
        "colors": (CERTAIN_COLORS, vocabulary("colors").words),
        "patterns": (CERTAIN_PATTERNS, vocabulary("patterns").words),
        "surroundings": (CERTAIN_SCENES, tuple(BACKGROUNDS)),
    }
    for kind, (certain, words) in lists.items():
        best = nearest(model, rows[[names.index(name) for name in certain]], words, 3)
        three = [bool(set(b) & set(right)) for b, right in zip(best, certain.values(), strict=True)]
        one = [b[0] in right for b, right in zip(best, certain.values(), strict=True)]
        found[f"photographs, {kind}: first"] = round(float(np.mean(one)), 3)
        found[f"photographs, {kind}: of three"] = round(float(np.mean(three)), 3)
        hits += three if kind != "surroundings" else []
    found["photographs, colors and patterns: of three"] = round(float(np.mean(hits)), 3)
    return found


def on_objects(model: Form, rows: Rows, units: Rows) -> dict[str, float]:
    """Units labelled with their own class, and photographs put into their coarse class, in %."""
    names = list(open_concepts("imagenet-1k").words)
    found = {}
    for top in TOPS:
        labels = soft_wpmi(rows, embed_concepts(model, names), units, top).argmax(axis=1)
        found[f"units with their own name, top {top}"] = 100 * float(
            np.mean(labels == np.arange(len(names)))
        )
    members = [(index, group) for group, ms in enumerate(GROUPS.values()) for index in ms]
    best = nearest(model, rows[[index for index, _ in members]], list(GROUPS))
    right = [line[0] == list(GROUPS)[g] for line, (_, g) in zip(best, members, strict=True)]
    found["zero-shot over coarse classes"] = round(100 * float(np.mean(right)), 1)
    return found


def soft_wpmi(images: Rows, concepts: Rows, units: Rows, top: int) -> Rows:
    """(units, concepts): CLIP-Dissect's default similarity, with a = 10 and λ = 1."""
    shares = torch.from_numpy(10 * images @ concepts.T).softmax(dim=1).numpy()
    order = np.argsort(-units, axis=0, kind="stable")[:top]
    total = np.zeros((units.shape[1], len(concepts)), np.float32)
    for rank, members in enumerate(order):
        weight = 0.998 - rank / top * (0.998 - 0.97)
        total += np.log(1 + weight * (shares[members] - 1) + 1e-7)
    return total - (np.logaddexp.reduce(total, axis=0) - np.log(len(total)))


def classifier_outputs(photos: Sequence[Path]) -> Rows:
    """(n, 1000): EfficientNet-Lite0's class scores."""
    subject = lite_model("efficientnet_lite0")
    network = subject.model.to(memory_format=torch.channels_last)
    rows = []
    for start in range(0, len(photos), BATCH):
        batch = []
        for path in photos[start : start + BATCH]:
            with Image.open(path) as file:
                batch.append(subject.preprocess(file.convert("RGB")))
        with torch.inference_mode():
            rows.append(network(torch.stack(batch).to(memory_format=torch.channels_last)).numpy())
    return np.concatenate(rows)


def speed(model: VLM, photos: Sequence[Path]) -> float:
    """Seconds of the processor for a batch in memory; the best of seven."""
    batch = torch.stack([read(model, path) for path in photos])
    times = []
    with torch.inference_mode():
        for _ in range(7):
            start = time.process_time()
            model.embed_images(batch)
            times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
