"""What costs nothing to check is checked before anything is loaded, downloaded or computed.

Each command is called with one thing wrong at a time, with a network and a VLM that leave a mark
when they are made, and with images whose download leaves one. A wrong call ends with one line, and
leaves no mark.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Command
from tiny import write_classes, write_images

NETWORK = """
from pathlib import Path

def subject():
    Path(__file__).with_name("touched").touch()
    raise ValueError("the network was touched")

vlm = subject
"""

CONSPEC = """
concepts red, green
spec redness: >(x, red, green)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a right call needs."""
    folder = tmp_path_factory.mktemp("early")
    write_images(folder / "images", 4)
    write_classes(folder / "data", 2)
    (folder / "net.py").write_text(NETWORK)
    (folder / "words.txt").write_text("red\ngreen\n")
    (folder / "classes.txt").write_text("red\ngreen\nblue\ncyan\n")
    (folder / "spec.conspec").write_text(CONSPEC)
    (folder / "bad.conspec").write_text("concepts red, green\nspec redness: >(x, red\n")
    (folder / "labels.csv").write_text("layer,unit,description,similarity\nl,0,red,0.3\n")
    (folder / "table.csv").write_text("class,red,green\nred,1,0\n")
    (folder / "blank.txt").write_text("\n# nothing\n")
    (folder / "blank.json").write_text("{}")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(autouse=True)
def untouched(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The mark; relative paths are those of the folder."""
    monkeypatch.chdir(files)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (mark := files / "touched").unlink(missing_ok=True)

    def download(_: Path) -> Path:
        mark.touch()
        return files / "images"

    monkeypatch.setattr("profiler.data.images._imagenette", download)
    yield mark
    mark.unlink(missing_ok=True)


IMAGES = "--vlm net.py:vlm --probe imagenette --concepts words.txt --out out -j 0"
DATA = "--data data --vlm net.py:vlm --concepts words.txt --out out -j 0"
RIGHT = {
    "run": f"run net.py:subject {IMAGES}",
    "layers": "layers net.py:subject",
    "drivers": "drivers net.py:subject --out out -j 0",
    "compare": f"compare net.py:subject net.py:vlm {IMAGES}",
    "debug": f"debug net.py:subject {DATA}",
    "guard fit": f"guard fit net.py:subject {DATA}",
    "check": f"check spec.conspec net.py:subject {DATA}",
    "mine": f"mine net.py:subject {DATA}",
    "import": "import labels.csv --vlm net.py:vlm --out out",
}
"""A call that gets as far as the images, the network or, without one, the VLM."""

ANNOTATED = "run net.py:subject --probe images --out out -j 0 --concepts annotations"

NETWORKS = {"run", "layers", "drivers", "compare", "debug", "guard fit", "check", "mine"}
READERS = NETWORKS - {"layers", "drivers"}
"""Commands that read images."""
SHOWERS = READERS | {"drivers"}
"""Commands that show images to a network."""
PROFILES = {"run", "compare"}
JUDGES = {"debug", "guard fit", "check", "mine"}
WRITERS = SHOWERS | {"import"}
ASKERS = {"run", "compare", "debug", "guard fit", "import"}
SORTERS = {"run", "compare", "import"}

WRONG: list[tuple[set[str], str, str]] = [
    ({*NETWORKS, "import"}, "--device tpu", "tpu"),
    (SHOWERS, "--precision fp8", "unknown precision 'fp8'"),
    (SHOWERS, "--precision fp16 --device cpu", "fp16"),
    (SHOWERS, "-b 0", "--batch-size '0'"),
    (SHOWERS, "-b many", "--batch-size 'many'"),
    (SHOWERS, "-j -1", "--workers"),
    (READERS, "--limit 0", "0"),
    (READERS, "--vlm clip", "clip"),
    (READERS, "--vlm nowhere.py:vlm", "nowhere.py"),
    (READERS, "--vlm open_clip:ViT-B-16", "ViT-B-16"),
    (READERS, "--vlm open_clip:ViT-B-16/openia", "near names: openai"),
    (READERS, "--concepts nowhere.txt", "nowhere.txt"),
    (READERS - {"check"}, "--concepts blank.txt", "blank.txt"),
    (READERS - PROFILES, "--concepts annotations:folders", "profiler run and compare alone"),
    (PROFILES, "--concepts annotations:folders", "--vlm net.py:vlm and --concepts annotations:fol"),
    (WRITERS, "--out words.txt/out", "words.txt"),
    (WRITERS, "--out /proc/nowhere/out", "/proc/nowhere"),
    (NETWORKS - {"compare"}, "--checkpoint nowhere.pt", "nowhere.pt"),
    (NETWORKS, "--preprocess size=3", "size"),
    (NETWORKS, "--preprocess nowhere.py:f", "nowhere.py"),
    (NETWORKS - {"compare"}, "--partial", "--partial"),
    (NETWORKS - {"compare"}, "--weights IMAGENET1K_V1", "has weights by name only in torchvision"),
    # Images and words
    (PROFILES, "--probe nowhere/", "nowhere"),
    (PROFILES, "--probe nothing", "nothing"),
    (PROFILES, "--probe empty", "empty"),
    (PROFILES, "--limit -3", "-3"),
    (PROFILES, "--top 0", "--top"),
    (PROFILES, "--similarity dice", "dice"),
    (PROFILES, "--threshold nowhere.json", "nowhere.json"),
    (PROFILES, "--threshold blank.json", "blank.json"),
    (PROFILES, "--threshold deep.json", "deep.json"),
    (PROFILES, "--threshold nan", "nan"),
    (PROFILES | {"layers", "drivers"}, "--pool median", "median"),
    ({"run"}, "--range-threshold nan", "--range-threshold 'nan'"),
    ({"run"}, "--range-threshold nowhere.json", "nowhere.json"),
    (SORTERS, "--votes 3", "--votes 3"),
    (SORTERS, "--categories nowhere.txt", "nowhere.txt"),
    (SORTERS, "--categories blank.txt", "blank.txt"),
    (ASKERS, "--prompts nowhere", "nowhere"),
    (ASKERS, "--llm gpt-4o", "OPENAI_API_KEY is not set"),
    (ASKERS, "--llm scripted:nowhere.jsonl", "nowhere.jsonl"),
    (ASKERS, "--llm m --llm-base-url localhost:8080", "--llm-base-url is not an http"),
    ({"run"}, "--bootstrap 5", "--evaluate"),
    ({"run"}, "--null-draws -1", "--null-draws"),
    # Drivers
    ({"drivers"}, "--scenes 50", "--scenes must be at least 200"),
    ({"drivers"}, "--scenes many", "--scenes"),
    ({"drivers"}, "--seed -1", "seed"),
    ({"drivers"}, "--annotations nowhere.csv", "nowhere.csv"),
    ({"drivers"}, "--annotations table.csv", "no column of paths"),
    # Comparisons
    ({"compare"}, "--fail-on js>>1", "js>>1"),
    ({"compare"}, "--fail-on beauty>1", "beauty"),
    ({"compare"}, "--timeline moon", "moon"),
    ({"compare"}, "--threshold 0.1 --own-thresholds", "--own-thresholds"),
    ({"compare"}, "--checkpoint nowhere*.pt", "nowhere*.pt"),
    ({"compare"}, "--checkpoint a.pt", "1 --checkpoint for 2 networks"),
    ({"compare"}, "--checkpoint a.pt --checkpoint b.pt", "a.pt"),
    ({"compare"}, "--name one", "1 --name for 2 runs"),
    ({"compare"}, "empty", "'empty' is not a finished run"),
    # Classifiers
    (JUDGES, "--data nowhere", "nowhere"),
    (JUDGES, "--data empty", "empty"),
    (JUDGES, "--data words.txt", "words.txt"),
    (JUDGES, "--classes nowhere.txt", "nowhere.txt"),
    ({"debug"}, "--attack magic", "magic"),
    ({"debug"}, "--attack fgsm --eps strong", "strong"),
    ({"debug"}, "--attack fgsm --corrupt fog:1", "exclude each other"),
    ({"debug"}, "--corrupt rain:1", "rain"),
    ({"debug"}, "--corrupt fog:9", "9"),
    ({"debug"}, "--level middle", "middle"),
    ({"debug", "guard fit"}, "--concepts-from empty", "exclude each other"),
    ({"debug", "guard fit"}, "--propose-concepts", "exclude each other"),
    ({"guard fit"}, "--rule luck", "luck"),
    ({"guard fit"}, "--views mirrored,sideways", "sideways"),
    ({"guard fit"}, "--share 2", "--share"),
    ({"guard fit"}, "--share 0.1 --risk 0.1", "exclude each other"),
    ({"guard fit"}, "--confidence 1", "--confidence"),
    # Specifications
    ({"check"}, "--region sphere:1", "sphere"),
    ({"check"}, "--region box:-1", "-1"),
    ({"check"}, "--timeout -1", "--timeout"),
    ({"check"}, "--annotations nowhere.csv", "nowhere.csv"),
    ({"mine"}, "--table nowhere.csv", "nowhere.csv"),
    ({"mine"}, "--least-rate 2", "--least-rate"),
    ({"mine"}, "--per-class 0", "--per-class"),
]

CALLS = [
    pytest.param(f"{RIGHT[name]} {wrong}".split(), said, id=f"{name}: {wrong}")
    for names, wrong, said in WRONG
    for name in sorted(names)
] + [
    pytest.param(line.split(), said, id=line)
    for line, said in [
        (RIGHT["run"].replace("net.py:subject", "nowhere.py:subject"), "nowhere.py"),
        (RIGHT["run"].replace("net.py:subject", "resnet5"), "resnet5"),
        (RIGHT["run"].replace("net.py:subject", "resnet50 --weights V9"), "IMAGENET1K_V2"),
        (
            RIGHT["run"].replace("net.py:subject", "resnet18 --weights none --layers layer9"),
            "unknown layer of resnet18 'layer9'",
        ),
        (RIGHT["check"].replace("spec.conspec", "nowhere.conspec"), "nowhere.conspec"),
        (RIGHT["check"].replace("spec.conspec", "bad.conspec"), "bad.conspec:3"),
        ("check spec.conspec net.py:subject", "--data"),
        ("check --verify nowhere.json", "nowhere.json"),
        ("check --verify blank.json", "blank.json"),
        ("check --verify deep.json", "damaged"),
        ("check spec.conspec --verify deep.json", "--verify"),
        (
            "debug net.py:subject --data data --out out --concepts-from empty",
            "'empty' is not a fin",
        ),
        ("debug net.py:subject --data data --out out --propose-concepts", "name one with --llm"),
        (f"--config nowhere.toml {RIGHT['run']}", "nowhere.toml"),
        ("guard score net.py:subject images --guard nowhere", "nowhere"),
        ("guard score net.py:subject images --fail-on-drift", "--watch"),
        ("guard score net.py:subject nowhere", "there is no image, folder or table 'nowhere'"),
        ("guard score net.py:subject images --out words.txt/rows.csv", "words.txt"),
        ("guard eval net.py:subject --data data --guard nowhere", "nowhere"),
        ("guard eval net.py:subject --data data --attack magic", "magic"),
        ("guard eval net.py:subject --data nowhere", "nowhere"),
        ("guard eval net.py:subject --data data --classes nowhere.txt", "nowhere.txt"),
        ("guard eval net.py:subject --data data --corrupt rain:1", "rain"),
        ("compare net.py:subject", "two"),
        (f"{ANNOTATED}:nowhere.csv", "nowhere.csv"),
        (f"{ANNOTATED}:words.txt", "no column of paths"),
        (f"{ANNOTATED}:truth", "the truth is that of the built-in scenes"),
        (f"{ANNOTATED}:folders --similarity soft-wpmi", "--similarity soft-wpmi is about cosines"),
        ("categorize empty --llm none", "'empty' is not a finished run"),
        ("calibrate empty", "'empty' is not a finished run"),
        ("calibrate empty --view range", "'empty' is not a finished run"),
        ("rate empty --view both", "--view 'both'"),
        ("import nowhere.csv --out out --vlm net.py:vlm", "nowhere.csv"),
        ("scenes words.txt/out", "words.txt"),
    ]
]


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_a_right_call_gets_to_the_network(command: Command, untouched: Path, name: str) -> None:
    """So that a wrong one that leaves no mark was stopped before."""
    done = command(*RIGHT[name].split())
    assert untouched.exists(), done.stderr


@pytest.mark.parametrize(("call", "said"), CALLS)
def test_a_wrong_call_ends_before_anything_is_loaded(
    command: Command, files: Path, untouched: Path, call: list[str], said: str
) -> None:
    before = sorted(files.rglob("*"))
    done = command(*call)
    assert done.status in (2, 3), done.stderr
    lines: list[Any] = [line for line in done.stderr.splitlines() if line.startswith("profiler: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert said in lines[0]
    assert not untouched.exists(), "the network was made first"
    assert not (files / "out" / "run.json").exists()
    assert {path for path in sorted(files.rglob("*")) if path not in before} <= {files / "out"}
