"""A tour of every command, as one user would take it: in one folder, with one cache.

``python tests/tour.py FOLDER`` walks it and prints a line a command; ``make tour`` does so.
The images are CIFAR-10's test set where it lies beside the repository, else built-in scenes, sorted
by colour. The user's own network is trained here in a few seconds, so its mistakes are real.
"""

import contextlib
import http.cookiejar
import io
import json
import os
import re
import runpy
import shutil
import signal
import statistics
import sys
import tarfile
import time
import traceback
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import typer
from PIL import Image
from torch import nn

from profiler import cli
from profiler.activations import collect
from profiler.data.synthetic.scenes import SyntheticScenes

REPOSITORY = Path(__file__).parent.parent
SAMPLES = REPOSITORY / "tests" / "samples"
sys.path.insert(0, str(SAMPLES))

from forks import Forks  # noqa: E402
from llm_server import LLMServer, Raw, Say, asked, message  # noqa: E402
from tiny_clip import CONFIG, write_clip  # noqa: E402

CIFAR = REPOSITORY.parent / "shared" / "data" / "cifar10-test.tar"

PARTS = (("probe", 4), ("data", 20), ("others", 8), ("training", 100), ("probe", 2))
"""Images of each class in each folder: to profile with, to fit on, to measure on, to train on."""

TRAINED = 150
"""Steps of training."""

VLMS = ("conse", f"open_clip:{CONFIG.stem}/clip.pt")
"""Those with which every story is told."""

WORDS = ("metallic", "furry", "wings", "wheels", "water", "green", "blue", "red", "legs", "ears")

NET = '''
"""The user's own network: three convolutions and a linear head."""

from torch import nn
from torchvision import transforms


def block(before, after, stride):
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = block(3, 16, 1)
        self.block1 = block(16, 32, 2)
        self.block2 = block(32, 32, 2)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(512, CLASSES)

    def forward(self, images):
        maps = self.block2(self.block1(self.stem(images)))
        return self.head(self.pool(maps).flatten(1))


def preprocess():
    return transforms.Compose(
        [transforms.Resize(32), transforms.CenterCrop(32), transforms.ToTensor()]
    )


def net():
    return Net(), preprocess()
'''

SPEC = """
classes one = "{0}", other = "{1}"
concepts metallic, ears, furry
spec ones: predict(x, one) => >(x, metallic, ears)
spec others: predict(x, other) => >(x, metallic, furry)
    require applicable rate >= 10%
spec seen: predict(x, one) => hasCon(x, metallic) or >(x, ears, metallic)
"""


@dataclass(frozen=True)
class Step:
    """One command, and the exit statuses with which it may leave."""

    arguments: tuple[str, ...]
    statuses: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        return "profiler " + " ".join(self.arguments)


@dataclass(frozen=True)
class Done:
    """A command that was run."""

    step: Step
    status: int
    seconds: float
    stdout: str
    stderr: str

    @property
    def fault(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if "Traceback" in self.stderr:
            return self.stderr
        if self.status not in self.step.statuses:
            return f"exit status {self.status}, not {self.step.statuses}: {self.stderr}"
        if "--json" in self.step.arguments:
            for text in (
                (self.stdout,) if self.stdout.startswith("{\n") else self.stdout.splitlines()
            ):
                strict_json(text)
        return ""


def strict_json(text: str) -> Any:
    """Read JSON as any program would: NaN and Infinity are no part of it."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def step(text: str, *more: object, statuses: Sequence[int] = (0,)) -> Step:
    """A command as it is typed; each of ``more`` is one argument, whatever it holds."""
    return Step((*text.split(), *map(str, more)), tuple(statuses))


# --- what the user brings ----------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Images by class, a trained network with two checkpoints, and the user's own text files."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = deal(folder, cifar() if CIFAR.is_file() else scenes())
    shutil.copytree(REPOSITORY / "prompts", folder / "prompts")
    data = sorted((folder / "data").glob("*/*"))
    files = {
        "net.py": [NET.replace("CLASSES", str(len(classes)))],
        "names.txt": classes,
        "words.txt": WORDS,
        "categories.txt": ["thing: a thing", "look: how something looks"],
        "script.jsonl": [
            json.dumps({"sort": {}, "otherwise": "object"}),
            json.dumps({"match": "profile of a neural", "reply": "The network was profiled."}),
        ],
        "options.toml": ["[vlms]", "json = true"],
        "zoo.conspec": [SPEC.format(*classes)],
        "descriptions.csv": [
            "layer,unit,description,similarity",
            *(f"layer{unit // 4},{unit % 4},dog,{unit / 10}" for unit in range(8)),
        ],
        "annotations.csv": [
            "image,metallic",
            *(
                f"{path.parent.name}/{path.name},{int(path.parent.name in classes[:2])}"
                for path in data
            ),
        ],
        "table.csv": [
            "class,metallic,ears",
            *(f"{name},{place % 2},{1 - place % 2}" for place, name in enumerate(classes)),
        ],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    train(folder, classes)
    write_clip(folder / "clip.pt")


def deal(folder: Path, images: Iterator[tuple[str, Image.Image]]) -> list[str]:
    """Deal each class's images to the folders; the classes."""
    places = [part for part, number in PARTS for _ in range(number)]
    dealt: Counter[str] = Counter()
    for name, image in images:
        if dealt[name] < len(places):
            place = folder / places[dealt[name]] / name
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{dealt[name]:03}.png")
            dealt[name] += 1
    return sorted(dealt)


def cifar() -> Iterator[tuple[str, Image.Image]]:
    """CIFAR-10's test images, with their classes."""
    with tarfile.open(CIFAR) as tar:
        for member in tar:
            if file := tar.extractfile(member) if member.isfile() else None:
                yield Path(member.name).parent.name, Image.open(io.BytesIO(file.read()))


def scenes() -> Iterator[tuple[str, Image.Image]]:
    """Built-in scenes, with the colour of their object as the class."""
    for image, scene in SyntheticScenes(1700, size=48):
        yield scene.color, image


def train(folder: Path, classes: Sequence[str]) -> None:
    """A few seconds of training; the weights before and after it, each with its step."""
    torch.manual_seed(0)
    net, preprocess = runpy.run_path(str(folder / "net.py"))["net"]()
    paths = sorted((folder / "training").glob("*/*"))
    images = torch.stack([preprocess(Image.open(path).convert("RGB")) for path in paths])
    labels = torch.tensor([classes.index(path.parent.name) for path in paths])
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for number in range(TRAINED + 1):
        if number in (0, TRAINED):
            content = {"state_dict": net.state_dict(), "step": number}
            torch.save(content, folder / f"step-{number:03}.pt")
        chosen = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# --- the way -----------------------------------------------------------------------------------

NET_150 = "net.py:net --checkpoint step-150.pt --checkpoint-key state_dict"
FEW = "--layers stem,block2 --probe probe --concepts words.txt"
FEW_SCENES = {
    f"PROFILER_{command}_{option}": value
    for command in ("RUN", "COMPARE")
    for option, value in (("EXPERIMENT", "1"), ("SCENES", "200"))
}
"""What each profile's experiment is made with, so that it takes seconds."""
QUICK = "-b 32 -j 0 --device cpu --precision fp32 --seed 0 --no-allow-bad --date 2026-01-01"
PIXELS = "--preprocess resize=32,crop=32,interpolation=bilinear,mean=0,std=1"
PAGE = "--max-report-mb 20"
CHECK = (0, 1, 4)
"""What a check may say: it holds, it fails, it is undecided."""


def way(server: str) -> Iterator[Step]:
    """Every command, in the order in which a user comes to them, and with every kind of VLM.

    Args:
        server: address of an OpenAI-compatible server.
    """
    llm = f"--llm tour --llm-base-url {server} --llm-refresh --prompts prompts"
    sorted_by = f"{llm} --llm-lenient --llm-concurrency 2 --votes 2 --categories categories.txt"
    yield step("--version")
    yield step("vlms --json")
    yield step("--quiet --config options.toml vlms")
    yield step("scenes scenes --count 40 --size 64 --seed 1")
    yield step("layers efficientnet_lite0 --json")
    yield step(f"layers {NET_150} --layers all --pool max --device cpu --seed 0")
    yield step("layers resnet18 --weights none --preprocess crop=64,resize=64")
    yield step("layers resnet18 --checkpoint step-150.pt --partial", statuses=(2,))
    for place, vlm in enumerate(VLMS):
        yield from stories(vlm, f"vlm{place}", llm)
    yield from objects()
    small = "resnet18 --weights none --preprocess crop=64,resize=64 --layers layer1"
    yield step(f"drivers {small} --scenes 200 --seed 1 --json")
    yield step(
        f"drivers {NET_150} --partial --pool mean {PIXELS} --scenes 200 --layers stem,block2"
        " -b 32 -j 0 --device cpu --precision fp32 --out drivers --date 2026-01-01"
    )
    yield step("scenes seen --count 200 --size 48 --experiment")
    yield step(
        f"drivers {NET_150} --annotations seen/truth.csv --layers stem --allow-bad -j 0 --out known"
    )
    yield from profiles(sorted_by)
    yield from classifiers(llm)
    yield from people(llm)
    yield from questions(llm)
    yield from cache()


def stories(vlm: str, out: str, llm: str) -> Iterator[Step]:
    """The stories with one VLM, as the README has them."""
    see = f"--vlm {vlm}"
    known = f"{NET_150} --classes names.txt --data data --concepts words.txt {see} -j 0"
    yield step(
        f"run efficientnet_lite0 --layers conv_stem,blocks.3 --probe probe {see}",
        *("--concepts", "visual", "--outlines", 20, "--out", f"{out}/lite", "-j", 0, "--json"),
    )
    yield step(f"run {NET_150} {FEW} {see} --out {out}/run --evaluate --bootstrap 3 -j 0")
    yield step(f"run {NET_150} {FEW} {see} --out {out}/again -j 0")
    yield step(f"compare {out}/run {out}/again --out {out}/same --draws 3 --json", statuses=(0, 2))
    yield step(
        "compare net.py:net --checkpoint step-*.pt --timeline step",
        *FEW.split(),
        *("--vlm", vlm, "--draws", 3, "--out", f"{out}/timeline", "-j", 0, "--json"),
    )
    yield step(f"categorize {out}/run --out {out}/sorted --llm scripted:script.jsonl --json")
    yield step(f"debug {known} --out {out}/debug --json")
    yield step(
        f"debug {known} --out {out}/attacked --attack pgd --eps 2/255 --attack-steps 2 --limit 60"
    )
    yield step(f"debug {known} --out {out}/noisy --corrupt gaussian_noise:3 --level vlm --limit 60")
    yield step(f"guard fit {known} --out {out}/guard")
    about = f"{NET_150} --guard {out}/guard"
    yield step(f"guard eval {about} --data others --draws 20 --json")
    yield step(f"guard score {about} others --watch --window 20 --out {out}/scores.csv")
    yield step(f"guard score {about} others/{'*'} --json".replace("/*", ""))
    yield step(f"mine {known} --least-rate 0.4 --out {out}/mined.conspec --json")
    yield step(f"check {out}/mined.conspec {known} --out {out}/mined-check", statuses=CHECK)
    yield step(
        f"check zoo.conspec {known} --annotations annotations.csv --out {out}/check",
        *("--formal", "--region", "box:0.2", "--region", "max", "--timeout", 20, "--json"),
        statuses=CHECK,
    )
    yield step(f"check --verify {out}/check/certificates.json")


def objects() -> Iterator[Step]:
    """What a VLM takes part in, with ConSE as published: the same class as of the stories."""
    see = "--vlm conse:objects"
    known = f"{NET_150} --classes names.txt --data data --limit 60 --concepts words.txt {see} -j 0"
    yield step(f"run {NET_150} {FEW} {see} --out objects/run --no-experiment -j 0")
    yield step(f"debug {known} --out objects/debug --json")
    yield step(f"guard fit {known} --out objects/guard")
    yield step(f"guard score {NET_150} --guard objects/guard others --json")
    yield step(f"mine {known} --least-rate 0.4 --out objects/mined.conspec --json")
    yield step(
        f"check zoo.conspec {known} --annotations annotations.csv --out objects/check --json",
        statuses=CHECK,
    )


def profiles(sorted_by: str) -> Iterator[Step]:
    """What else can be asked of profiles: every option of run, compare, categorize and import."""
    see = "--vlm conse"
    yield step(
        f"run net.py:net {FEW} {see} {QUICK} {PAGE} --pool mean {PIXELS}"
        f" --limit 40 --top 8 --threshold 0 --null-draws 500 --keep-activations --scenes 210"
        f" --outlines 90 --out full {sorted_by}"
    )
    # Its factory draws weights, so it is another network each time.
    yield step("try full stem 3 red", statuses=(2,))
    for similarity in ("wpmi", "cosine", "cosine_cubed", "rank_reorder"):
        yield step(f"run {NET_150} {FEW} {see} --similarity {similarity} --out {similarity} -j 0")
    yield step(
        "try wpmi stem 3 red --pairs 6 -b 32 -j 0 --device cpu --precision fp32 --seed 2"
        " --date 2026-01-01 --out red.html --json"
    )
    yield step("try wpmi block2 0 stripes --pairs 5 -j 0")
    yield step("try wpmi stem 3 dog", statuses=(2,))
    yield step(
        "run resnet18 --weights none --preprocess crop=64,resize=64 --layers layer1"
        f" --probe synthetic --limit 20 {see} --concepts words.txt --out resnet -j 0"
    )
    yield step(
        f"run resnet18 --checkpoint step-150.pt --partial --layers layer1 --probe synthetic"
        f" --limit 20 {see} --concepts words.txt --out partial",
        statuses=(2,),
    )
    annotated = f"{NET_150} --layers stem,block2 -j 0 --concepts annotations"
    yield step(f"run {annotated}:folders --probe probe --evaluate --bootstrap 3 --out folders")
    yield step(f"run {annotated}:truth --probe synthetic --limit 60 --out truth --json")
    yield step(
        "compare net.py:net --checkpoint step-000.pt --checkpoint step-150.pt --layers stem,block2"
        " --probe data --concepts annotations:annotations.csv --similarity cosine --draws 3"
        " --out annotated -j 0 --json"
    )
    tiny = SAMPLES / "tiny.py"
    yield step(
        f"run {tiny}:subject --vlm {tiny}:vlm --probe probe --concepts words.txt --compile"
        " --out compiled -j 0 --no-experiment --report-dir"
    )
    yield step(
        "compare net.py:net net.py:net --weights default --weights default --name a --name b"
        f" {FEW} {see} {QUICK} {PAGE} --pool mean {PIXELS}"
        f" --limit 40 --top 8 --similarity soft-wpmi --threshold 0.5 --draws 0"
        f" --fail-on js>0.9 --no-experiment {sorted_by} --out compared",
        statuses=(0, 1, 4),
    )
    yield step(
        "compare net.py:net --checkpoint step-000.pt --checkpoint step-150.pt --partial"
        " --checkpoint-key state_dict --checkpoint-key state_dict"
        f" {FEW} {see} --own-thresholds --draws 0 --out own -j 0 --scenes 220",
        *("--fail-on", "shape[block2]<-50%", "--fail-on", "background color<-100%"),
    )
    yield step(f"run {NET_150} {FEW} {see} --shard 1/1 --out share -j 0")
    cluster = "--engine ray --address local --ray-cpus 1 --ray-gpus 0"
    yield step(
        f"run {NET_150} {FEW.replace('stem', 'block1')} {see} --no-experiment {cluster}"
        " --out cluster -j 0"
    )
    # All of it is in the cache, so no second cluster is started.
    yield step(
        f"compare net.py:net --checkpoint step-000.pt --checkpoint step-150.pt {FEW} {see}"
        f" --draws 0 --out clusters -j 0 {cluster}"
    )
    yield step(
        f"categorize full --vlm conse --device cpu --seed 1 {PAGE} --report-dir --date 2026-01-01"
        f" --json {sorted_by}"
    )
    yield step(
        f"import descriptions.csv --out imported --subject theirs --threshold 0.2 {see}"
        f" --device cpu --seed 0 {PAGE} --report-dir --date 2026-01-01 --json {sorted_by}"
    )
    yield step("categorize imported")


def classifiers(llm: str) -> Iterator[Step]:
    """What else can be asked about classifiers: every option of debug, guard, check and mine."""
    see = "--vlm conse"
    known = f"{NET_150} --classes names.txt --data data"
    half = f"--head head --limit 200 --trust-labels {PIXELS} --weights default"
    whole = f"{half} --partial"
    yield step(
        f"debug {known} {see} {QUICK} {PAGE} {whole} --propose-concepts --out proposed {llm}"
    )
    yield step(
        f"guard fit {known} {see} {QUICK} {whole} --propose-concepts --out asked {llm}"
        " --rule msp+typicality --views mirrored --share 0.1"
    )
    yield step(
        f"guard fit {known} {see} --concepts-from full --out risky -j 0 --risk 0.9 --confidence 0.5"
    )
    yield step(
        f"guard fit {known} {see} --concepts words.txt --out passed -j 0 --passed-errors 0.8"
    )
    # The pass is in the cache, so no second cluster is started.
    cluster = "--engine ray --address local --ray-cpus 1 --ray-gpus 0"
    yield step(f"debug {known} {see} --concepts-from full --out from-run -j 0 {cluster}")
    yield step(
        f"guard fit {known} {see} --concepts words.txt --out alarms -j 0 --false-alarms 0.1"
        f" {cluster}"
    )
    judged = f"{NET_150} --guard asked --head head --partial --weights default"
    judged += f" {PIXELS} -b 32 --device cpu --seed 0"
    yield step(f"guard score {judged} others --watch --window 10 --fail-on-drift", statuses=(0, 1))
    for target in (
        "--share 0.2",
        "--false-alarms 0.2",
        "--passed-errors 0.8",
        "--risk 0.9 --confidence 0.5",
    ):
        yield step(f"guard score {judged} others {target} --json")
        yield step(f"guard eval {judged} --data others {target} --out judged --draws 20")
    yield step(
        f"guard eval {judged} --data others --classes names.txt --limit 60 --draws 20"
        " --attack fgsm --attack pgd --attack-steps 2 --eps 1/255,2/255"
        f" --corrupt gaussian_noise:3 --out judged {PAGE} --date 2026-01-01 --json"
    )
    yield step(
        f"mine {known} {see} {whole} -b 32 -j 0 --device cpu --precision fp32 --seed 0"
        " --no-allow-bad --concepts words.txt --table table.csv --per-class 3"
        " --least-rate 0.5 --relevant 0.6 --gap 0.3 --out tabled.conspec --json"
    )
    yield step(
        f"check zoo.conspec {known} {see} {QUICK} {PAGE} {whole} --concepts words.txt"
        f" --annotations annotations.csv --on",
        "one",
        "--region",
        "hull",
        "--region",
        "ball:0.5",
        "--out",
        "regions",
        statuses=CHECK,
    )
    yield step("check --verify regions/certificates.json")


def people(llm: str) -> Iterator[Step]:
    """People rate, and the threshold follows from it."""
    yield step(
        "rate vlm0/lite --no-browser --port 0 --rater Ann --per-layer 30 --seed 3 --blind",
        statuses=(0, 130),
    )
    ranged = "vlm0/lite --view range"
    yield step(
        f"rate {ranged} --no-browser --port 0 --rater Ann --per-layer 30 --seed 3",
        statuses=(0, 130),
    )
    yield step(f"rate {ranged} --export rated-range.csv")
    yield step(f"rate {ranged} --import rated-range.csv")
    yield step(
        f"calibrate {ranged} --target 0.4 --min-above 3 --draws 200 --date 2026-01-01 --json",
        statuses=CHECK,
    )
    yield step("rate vlm0/lite --export rated.csv")
    yield step("rate vlm0/lite --import rated.csv")
    yield step(
        "calibrate vlm0/lite --target 0.5 --isotonic --unweighted --min-above 3 --draws 200"
        f" --seed 0 --device cpu --date 2026-01-01 --ratings rated.csv --json"
        f" {llm.replace('--prompts prompts', '')}",
        statuses=CHECK,
    )
    yield step(
        "run efficientnet_lite0 --layers conv_stem,blocks.3 --probe probe"
        " --vlm conse --concepts visual --threshold vlm0/lite/threshold.json"
        " --range-threshold vlm0/lite/threshold-range.json --outlines 20 --out cut -j 0"
    )


def questions(llm: str) -> Iterator[Step]:
    """Questions about what was found, with and without a language model, and the tools alone."""
    results = "vlm0/run vlm0/timeline vlm0/debug judged vlm0/check"
    yield step(f"ask {results}", "Which units of block2 are red?")
    yield step(f"ask {results} --tool layer_profile run=R1 by=driver --json")
    asked = (*results.split(), "How many units are interpretable?", *llm.split())
    yield step("ask", *asked, "--transcript", "said.jsonl", "--timeout", 60, "--max-turns", 6)
    yield step("ask", *asked, "--max-cost", 1, statuses=(2,))  # the server has no known price
    yield step("ask", *asked, "--max-tool-calls", 3, "--max-tokens", 90_000, "--json")
    yield step("ask --verify answer.json")
    yield step("mcp vlm0/run vlm0/debug")


def cache() -> Iterator[Step]:
    """The cache that all of this has filled."""
    yield step("cache list")
    yield step("cache list --json")
    yield step("cache verify")
    yield step("cache prune --dry-run --older-than 30d")
    yield step("cache prune --max-size 1MB")
    yield step("cache verify --remove")
    yield step("cache clear --kind shards --yes")
    yield step("cache clear --yes")
    yield step("cache list")


# --- walking it --------------------------------------------------------------------------------


def walk(folder: Path, forks: Forks, trials: list[float] | None = None) -> Iterator[Done]:
    """Prepare the folder and take every step in it, as one user with one cache would.

    Args:
        folder: to be made.
        forks: starts what reads its standard input, and what serves until Ctrl-C.
        trials: gets the seconds for which each pass first tried its inputs on two images.
    """
    prepare(folder)
    try_first = collect.try_first

    def timed(*given: Any, **named: Any) -> None:
        began = time.perf_counter()
        try_first(*given, **named)
        if trials is not None:
            trials.append(time.perf_counter() - began)

    with (
        mock.patch.object(collect, "try_first", timed),
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"PROFILER_CACHE_DIR": "cache", **FEW_SCENES}),
        LLMServer(answer) as server,
    ):
        for taken in way(server.url):
            if "ray" in taken.arguments and find_spec("ray") is None:
                continue
            if taken.arguments[0] == "mcp":
                done = serve(taken, forks)
            elif "--no-browser" in taken.arguments:
                done = rate(taken, forks)
            else:
                done = take(taken)
            yield done
            if taken.arguments[0] == "ask" and done.stdout.startswith('{"format"'):
                Path("answer.json").write_text(done.stdout, encoding="utf-8")


def answer(body: dict[str, Any]) -> Say | Raw:
    """What the language model says: sorts, proposes, tells a short story, or calls tools."""
    text = body["messages"][-1]["content"]
    if "tools" in body:
        ids = re.findall(r"^\{([a-z]{8})\} units of R1 with", text, re.MULTILINE)
        told = {"sentences": [f"In all, {{{ids[0]}}} are interpretable."]} if ids else {}
        function = {"name": "submit" if ids else "describe_runs", "arguments": json.dumps(told)}
        return message(None, "tool_calls", tool_calls=[{"id": "c", "function": function}])
    if "attributes" in text:
        return Say(json.dumps({"attributes": list(WORDS)}))
    try:
        kind = "thing" if "a thing" in body["messages"][0]["content"] + text else "object"
        return Say(json.dumps(dict.fromkeys(asked(body), kind)))
    except IndexError:
        return Say("The network was profiled.")


def take(taken: Step) -> Done:
    """Run one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    began = time.perf_counter()
    with (
        mock.patch.object(sys, "argv", ["profiler", *taken.arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as left:
            status = int(left.code or 0)
        except Exception:  # which no user may ever see
            status = -1
            traceback.print_exc()
    return Done(taken, status, time.perf_counter() - began, out.getvalue(), err.getvalue())


def serve(taken: Step, forks: Forks) -> Done:
    """Start a server that reads its standard input, which is at its end already."""
    began = time.perf_counter()
    program = forks.start(Path.cwd(), *taken.arguments, **os.environ).wait()
    seconds = time.perf_counter() - began
    return Done(taken, program.status, seconds, program.stdout, program.stderr)


def rate(taken: Step, forks: Forks, answers: int = 40) -> Done:
    """Rate a few labels over HTTP, as the page does, and end the server as Ctrl-C does."""
    began = time.perf_counter()
    program = forks.start(Path.cwd(), *taken.arguments, **os.environ)
    address = program.first_line().strip()
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(jar)
    opener.open(address)
    place = address.partition("?")[0]
    token = json.load(opener.open(f"{place}api/start"))["token"]
    state = json.load(opener.open(f"{place}api/state?rater=Ann"))
    for number in range(answers):
        if (question := state["question"]) is None:
            break
        content = {
            "rater": "Ann",
            "number": question["number"],
            "answer": ("yes", "maybe", "no")[number % 3],
        }
        headers = {
            "content-type": "application/json",
            "x-profiler-token": token,
            "origin": place.rstrip("/"),
        }
        request = urllib.request.Request(f"{place}api/rate", json.dumps(content).encode(), headers)
        state = json.load(opener.open(request))
    done = program.kill(signal.SIGINT)
    return Done(taken, done.status, time.perf_counter() - began, done.stdout, done.stderr)


# --- what there is -----------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Every command there is, by name: ``guard fit`` is one."""

    def walked(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
        if not hasattr(group, "commands"):
            yield name.strip(), group
        for part, command in getattr(group, "commands", {}).items():
            yield from walked(command, f"{name} {part}")

    return dict(walked(typer.main.get_command(cli.app)))


def unused(steps: Sequence[Step]) -> list[str]:
    """The commands and options that no step uses, by name."""
    found = commands()
    left = {
        name: {
            option for p in command.params for option in [max(p.opts, key=len)] if option[0] == "-"
        }
        for name, command in found.items()
    }
    used = set()
    for taken in steps:
        name = next(
            (n for n in found if taken.arguments[: len(n.split())] == tuple(n.split())), None
        )
        if name is None:
            continue
        used.add(name)
        words = {word.partition("=")[0] for word in taken.arguments}
        for parameter in found[name].params:
            if words & {*parameter.opts, *parameter.secondary_opts}:
                left[name].discard(max(parameter.opts, key=len))
    return [name for name in found if name not in used] + [
        f"{name} {option}" for name, options in left.items() for option in sorted(options)
    ]


def main() -> None:
    """Walk the tour and print a line a command."""
    folder = Path(sys.argv[1])
    began, faults = time.perf_counter(), 0
    done, trials = [], list[float]()
    with Forks() as forks:
        for one in walk(folder, forks, trials):
            done.append(one)
            faults += bool(one.fault)
            print(f"{one.seconds:6.1f} s  {one.status:3}  {one.step}", flush=True)
            if one.fault:
                print(f"    {one.fault}", flush=True)
    left = unused([one.step for one in done])
    print("\n".join(f"not on the tour: {name}" for name in left))
    # The longest one has what a network makes at its first image, as ConSE embeds its lists.
    usual, longest = statistics.median(trials), max(trials)
    print(f"inputs were tried first in {len(trials)} passes: {usual:.2f} s, {longest:.2f} at most")
    print(f"{len(done)} commands in {time.perf_counter() - began:.0f} s, {faults} with a fault")
    sys.exit(bool(faults or left))


if __name__ == "__main__":
    main()
