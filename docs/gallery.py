"""The reports of the gallery: real ones, from built-in scenes and networks that need no download.

    python docs/gallery.py [FOLDER]

A small network learns to name the colour of the object in drawn scenes. Then the commands that
``docs/gallery.md`` shows are run as they stand there. What is done already is not done again;
``make docs`` puts the reports into the site.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision import transforms

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "_build" / "gallery"
CLASSES = [
    *("black", "blue", "brown", "gray", "green", "orange"),
    *("pink", "purple", "red", "white", "yellow"),
]
WORDS = [
    *("bright", "dark", "shiny", "metallic", "glassy", "wooden", "furry", "stone", "fabric"),
    *("striped", "dotted", "checkered", "smooth", "grid"),
]
SIDE = 64
STEPS = (0, 20, 60, 200)
"""Of training, after which the weights are kept."""
PARTS = (("training", 120), ("val", 70), ("others", 40))
"""Images of each class."""

SPEC = """# What the network calls red is to look red, by the colours that its features encode.
concepts red, orange, yellow, green, blue, black, white, gray

spec reds "red things look more red than blue or green":
    for k in {blue, green}: predict(x, red) => >(x, red, k)
    require applicable rate >= 90%

spec blues "blue things look more blue than orange":
    predict(x, blue) => >(x, blue, orange)
    require applicable rate >= 90%

spec contrast "white things do not look black":
    predict(x, white) => not >(x, black, white)
    require applicable rate >= 90%

spec neighbours "yellow things look more yellow than orange, red or green":
    for k in {orange, red, green}: predict(x, yellow) => >(x, yellow, k)
    require applicable rate >= 90%
"""


def net() -> tuple[nn.Module, transforms.Compose]:
    """The network, untrained, and its preprocessing."""

    def block(before: int, after: int) -> nn.Sequential:
        convolution = nn.Conv2d(before, after, 3, stride=2, padding=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())

    pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    layers = {"block1": block(3, 16), "block2": block(16, 32), "block3": block(32, 32)}
    head = {"pool": pool, "head": nn.Linear(128, len(CLASSES))}
    model = nn.Sequential()
    for name, module in {**layers, **head}.items():
        model.add_module(name, module)
    return model, transforms.Compose([transforms.Resize((SIDE, SIDE)), transforms.ToTensor()])


def draw(folder: Path) -> None:
    """Scenes, sorted by the colour of their object into folders of classes."""
    from profiler.data.synthetic.scenes import SyntheticScenes

    places = [part for part, number in PARTS for _ in range(number)]
    count = dict.fromkeys(CLASSES, 0)
    for image, scene in SyntheticScenes(len(CLASSES) * len(places), size=96):
        number = count[scene.color]
        if number < len(places):
            count[scene.color] += 1
            place = folder / places[number] / scene.color
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{number:03}.png")


def train(folder: Path) -> None:
    """Weights after each of ``STEPS``; seconds on one core."""
    from PIL import Image

    torch.manual_seed(0)
    model, prepare = net()
    paths = sorted((folder / "training").glob("*/*.png"))
    images = torch.stack([prepare(Image.open(path)) for path in paths])
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            torch.save({"state_dict": model.state_dict(), "step": step}, folder / f"{step:03}.pt")
        chosen = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def commands() -> list[str]:
    """Those of the page, without the ends of lines."""
    blocks = re.findall(r"```bash\n(.*?)```", (HERE / "gallery.md").read_text("utf-8"), re.DOTALL)
    lines = re.sub(r" \\\n *", " ", "".join(blocks)).splitlines()
    return [line for line in lines if line.startswith("profiler ")]


def main(folder: Path = FOLDER) -> None:
    """Make what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, folder / "net.py")
    (folder / "words.txt").write_text("\n".join([*CLASSES, *WORDS]) + "\n", "utf-8")
    (folder / "colors.txt").write_text("\n".join(CLASSES) + "\n", "utf-8")
    (folder / "colors.conspec").write_text(SPEC, "utf-8")
    if not (folder / f"{max(STEPS):03}.pt").exists():
        draw(folder)
        train(folder)
    done = folder / "done.txt"
    finished = done.read_text("utf-8").splitlines() if done.exists() else []
    for line in commands():
        if line in finished:
            continue
        print("+", line, flush=True)
        # A check that fails is a report, too.
        words = [sys.executable, "-m", "profiler", *re.sub(r"['\"]", "", line).split()[1:]]
        status = subprocess.run(words, cwd=folder, check=False).returncode
        if status not in (0, 1, 4):
            raise SystemExit(f"{line}: exit status {status}")
        finished.append(line)
        done.write_text("\n".join(finished) + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
