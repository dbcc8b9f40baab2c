"""``profiler layers``, and the options about the network that ``profiler run`` shares with it."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from command import Command
from torchvision import models

TINY = f"{tiny.__file__}:subject"


def rows(stdout: str) -> dict[str, list[str]]:
    """The table by layer; cells stand at least two spaces apart."""
    cells = [[c.strip() for c in line.split("  ") if c.strip()] for line in stdout.splitlines()]
    start = next(i for i, row in enumerate(cells) if row[:1] == ["layer"])
    return {row[0]: row[1:] for row in cells[start + 2 :] if row}


def test_a_table_of_every_layer_in_a_group(command: Command) -> None:
    done = command("layers", TINY)
    assert done.status == 0
    assert rows(done.stdout) == {
        "color": ["Conv2d", "4 × 8 × 8", "4", "mean over 8 × 8", "all, leaves", "1"],
        "fc": ["Linear", "4", "4", "none", "all, leaves", "1"],
    }
    assert "preprocessing: as made by subject" in done.stdout


def test_nothing_is_cut_off_in_a_pipe_and_nothing_coloured(command: Command) -> None:
    done = command("layers", "timm/vit_tiny_patch16_224", "--weights", "none", "--layers", "mlp")
    found = rows(done.stdout)
    assert list(found) == [f"blocks.{i}.mlp.act" for i in range(12)]
    assert found["blocks.0.mlp.act"] == ["GELU", "197 × 768", "768", "class token", "mlp", "1"]
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout


def test_json(command: Command) -> None:
    done = command("layers", "resnet18", "--weights", "none", "--layers", "layer[34],fc", "--json")
    told = json.loads(done.stdout)
    assert [layer["name"] for layer in told["layers"]] == ["layer3", "layer4", "fc"]
    assert told["layers"][0] == {
        "name": "layer3",
        "kind": "Sequential",
        "shape": [256, 14, 14],
        "units": 256,
        "pooling": "mean over 14 × 14",
        "groups": ["all"],
        "runs": 1,
    }
    assert told["weights"] == "random, seed 0"
    assert told["preprocessing"].startswith("short side 256 bilinear, centre 224 × 224")
    assert len(told["fingerprint"]) == 64


def test_a_layer_that_runs_twice_is_seen_as_such(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "from torchvision import transforms\n"
        "def make():\n"
        "    step = nn.Conv2d(3, 3, 1)\n"
        "    return nn.Sequential(step, nn.ReLU(), step), transforms.ToTensor()\n"
    )
    assert rows(command("layers", f"{tmp_path / 'net.py'}:make").stdout)["0"][-1] == "2"


def test_two_heads_that_are_averaged_are_both_there(command: Command) -> None:
    done = command("layers", "timm/repvit_m0_9", "--weights", "none", "--layers", "all")
    found = rows(done.stdout)
    assert list(found) == ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "head"]
    assert found["head"][:2] == ["RepVitClassifier", "1000"]


def test_lazy_layers_without_weights_are_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "from torchvision import transforms\n"
        "def make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), transforms.ToTensor()\n"
    )
    done = command("layers", f"{tmp_path / 'net.py'}:make")
    assert done.status == 2
    assert "lazy layers that have no weights yet: 1.weight, 1.bias; run it on one" in done.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pool", "cls"], "'color' is a map (8 × 8) and has no class token"),
        (["--pool", "median"], "unknown pooling rule 'median'"),
        (["--layers", "mlp"], "has no layer in the group 'mlp'"),
        (["--layers", "colour"], "unknown layer of"),
        (["--partial"], "--partial is about a file; name one with --checkpoint"),
        (["--checkpoint", "none.pth"], "checkpoint 'none.pth' is absent"),
        (["--weights", "none"], "decides itself about its weights"),
        (["--preprocess", "crop=4"], "--preprocess must give every value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_said_in_one_line(
    command: Command, arguments: list[str], message: str
) -> None:
    done = command("layers", TINY, *arguments)
    assert done.status == 2
    assert message in done.error


def test_a_run_with_other_weights_another_preprocessing_and_another_pooling(
    command: Command, tmp_path: Path
) -> None:
    """With the weights of red and blue exchanged, unit 0 of the tiny network is blue."""
    net = tiny.TinyNet()
    net.color.weight.data = net.color.weight.data[[2, 1, 0, 3]]
    torch.save({"state_dict": torch.nn.DataParallel(net).state_dict()}, tmp_path / "w.pth")
    tiny.write_images(tmp_path / "probe", 40)
    words = tmp_path / "words.txt"
    words.write_text("\n".join(tiny.PROBE_COLORS))
    done = command(
        *("run", TINY, "--vlm", f"{tiny.__file__}:vlm", "--probe", tmp_path / "probe"),
        *("--concepts", words, "--out", tmp_path / "out", "--top", 5, "--threshold", 0),
        *("--layers", "color", "--pool", "max", "--checkpoint", tmp_path / "w.pth"),
        *("--preprocess", "resize=16,crop=8,interpolation=bilinear,mean=0.5,std=0.5"),
        *("-j", 0),
    )
    assert done.status == 0, done.stderr
    assert "w.pth' (its state_dict; without the prefix 'module.')" in done.stderr
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    told = json.dumps(record, ensure_ascii=False)
    assert "short side 16 bilinear, centre 8 × 8, mean 0.5, std 0.5" in told
    assert "max over 8 × 8" in told
    table = (tmp_path / "out" / "descriptions.csv").read_text().splitlines()
    assert table[1].startswith("color,0,blue,")


def test_options_from_the_environment(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(models.resnet18(num_classes=3).state_dict(), tmp_path / "w.pth")
    monkeypatch.setenv("PROFILER_LAYERS_CHECKPOINT", str(tmp_path / "w.pth"))
    monkeypatch.setenv("PROFILER_LAYERS_POOL", "max")
    found = rows(command("layers", "resnet18", "--layers", "layer4,fc").stdout)
    assert found["fc"][:3] == ["Linear", "3", "3"]
    assert found["layer4"][3] == "max over 7 × 7"
