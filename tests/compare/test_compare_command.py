"""``profiler compare`` from end to end, on networks whose differences are arithmetic."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command
from tiny import TinyNet, write_images

from profiler.core.json_text import from_plain
from profiler.profile.threshold import Threshold

HERE = Path(__file__).parents[1] / "samples"
SUBJECT = f"{HERE / 'tiny.py'}:subject"
COLOURS = "red\ngreen\nblue\nyellow\ncyan\nmagenta\ngray\nwhite\n"
ABOUT_IMAGES = ("--vlm", f"{HERE / 'tiny.py'}:vlm", "--top", 6, "-j", 0, "--date", "2024-01-01")
CUT = ("--threshold", 0.1)
"""Among four units, none is beyond what chance may do."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 64)
    (tmp_path / "colours.txt").write_text(COLOURS)
    return tmp_path


def images(folder: Path) -> list[object]:
    return [*ABOUT_IMAGES, "--probe", folder / "images", "--concepts", folder / "colours.txt"]


def saved(path: Path, change: Callable[[TinyNet], None] | None = None, **beside: Any) -> Path:
    """A checkpoint of the hand-made network, perhaps changed."""
    net = TinyNet()
    if change:
        with torch.no_grad():
            change(net)
    torch.save({"state_dict": net.state_dict(), **beside}, path)
    return path


def shuffle(net: TinyNet) -> None:
    """Channel 0 becomes 1, 1 becomes 2, 2 becomes 0; the head knows of it, so outputs stay."""
    old = [1, 2, 0, 3]
    net.color.weight[:] = net.color.weight[old].clone()
    assert net.color.bias is not None
    net.color.bias[:] = net.color.bias[old].clone()
    net.fc.weight[:] = net.fc.weight[:, old].clone()


def relearn(net: TinyNet) -> None:
    """The first unit of the head now looks for blue, as the third does."""
    net.fc.weight[0] = net.fc.weight[2]


def compare(command: Command, folder: Path, *more: object, status: int = 0) -> dict[str, Any]:
    out = folder / "out"
    cut = () if {"--own-thresholds", "--threshold"} & set(more) else CUT
    done = command("compare", *more, *images(folder), *cut, "--out", out, "--json")
    assert done.status == status, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    assert content["report"] == str(out / "compare.html")
    assert (out / "compare.html").stat().st_size > 10_000
    return content


def profile_both(command: Command, folder: Path) -> None:
    """Runs ``a`` and ``b``, of which the second has learned another colour."""
    for name, change in (("a", None), ("b", relearn)):
        file = saved(folder / f"{name}.pt", change)
        command("run", SUBJECT, *images(folder), "--checkpoint", file, "--out", folder / name)


def units(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "units.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoints(*paths: Path) -> list[object]:
    return [SUBJECT, *(part for path in paths for part in ("--checkpoint", path))]


def test_a_model_against_itself_differs_in_nothing(command: Command, folder: Path) -> None:
    found = compare(
        command, folder, SUBJECT, SUBJECT, "--fail-on", "js>0", "--fail-on", "changed>0",
        "--fail-on", "kept<100%", "--fail-on", "correlation<0.999999",
    )  # fmt: skip
    (pair,) = found["pairs"]
    assert [run["name"] for run in found["runs"]] == ["tiny-1", "tiny-2"]
    assert [rule["outcome"] for rule in found["rules"]] == ["kept"] * 4
    for layer in pair["layers"]:
        assert layer["js_divergence_bits"] == 0
        assert {share["difference"] for share in layer["shares"]} == {0}
        assert {share["q_value"] for share in layer["shares"]} == {1}
        assert not layer["gained"]
        assert not layer["lost"]
    assert not pair["moved"]
    assert [pair["cka"]["values"][i][i] for i in range(2)] == pytest.approx([1, 1])
    assert found["summary"].startswith("Nothing differs between “tiny-1” and “tiny-2”")


def test_a_shuffled_layer_is_found_and_no_label_changes(command: Command, folder: Path) -> None:
    one, other = saved(folder / "a.pt"), saved(folder / "b.pt", shuffle)
    found = compare(command, folder, *checkpoints(one, other))
    (pair,) = found["pairs"]
    assert [layer["matching"]["rule"] for layer in pair["layers"]] == ["hungarian", "index"]
    color = [row for row in units(folder) if row["layer"] == "color"]
    assert [row["unit_after"] for row in color] == ["2", "0", "1", "3"]
    assert [row["correlation"] for row in color] == ["1", "1", "1", ""]  # the last never varies
    for layer in pair["layers"]:
        assert layer["labels_kept"] == layer["trusted_in_both"] > 0
        assert layer["js_divergence_bits"] == 0


def test_a_unit_that_learned_another_colour_is_named(command: Command, folder: Path) -> None:
    one, other = saved(folder / "a.pt"), saved(folder / "b.pt", relearn)
    found = compare(
        command, folder, *checkpoints(one, other), "--fail-on", "kept<80%", status=1,
    )  # fmt: skip
    first, second = found["pairs"][0]["layers"]
    assert first["labels_kept"] == first["trusted_in_both"] == 3
    assert (second["labels_kept"], second["trusted_in_both"]) == (3, 4)
    assert [word["concept"] for word in second["lost"]] == ["red"]
    changed = [row for row in units(folder) if row["kept"] == "0" and row["layer"] == "fc"]
    assert [(row["unit_before"], row["description_before"]) for row in changed] == [("0", "red")]
    assert changed[0]["description_after"] == "blue"
    assert found["rules"][0]["reason"] == "kept is 75.0 % in fc from 'a' to 'b'"


def test_finished_runs_are_compared_as_they_are(command: Command, folder: Path) -> None:
    one, other = saved(folder / "a.pt"), saved(folder / "b.pt", relearn)
    for file in (one, other):
        done = command("run", SUBJECT, *images(folder), "--checkpoint", file, "--keep-activations",
                       "--out", folder / file.stem)  # fmt: skip
        assert done.status == 0, done.stderr
    before = {path: path.read_bytes() for path in (folder / "a").rglob("*") if path.is_file()}
    found = compare(command, folder, folder / "a", folder / "b")
    assert found["prior"] == "shared"
    assert found["draws"] == 20
    assert not found["warnings"]
    assert {path: path.read_bytes() for path in before} == before


def test_without_activations_the_noise_is_unknown_and_that_is_said(
    command: Command, folder: Path
) -> None:
    profile_both(command, folder)
    found = compare(command, folder, folder / "a", folder / "b", "--fail-on", "cka<0.5", status=4)
    assert found["draws"] == 0
    assert found["prior"] == "shared"
    assert "activations of a, b were not kept" in found["warnings"][0]
    assert found["rules"][0]["outcome"] == "undecided"
    layer = found["pairs"][0]["layers"][0]
    assert layer["matching"]["rule"] == "index"
    assert layer["matching"]["mean_correlation"] is None
    assert {share["noise"] for share in layer["shares"]} == {None}


def test_without_the_cache_each_run_keeps_its_labels(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile_both(command, folder)
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder / "an empty cache"))
    found = compare(command, folder, folder / "a", folder / "b")
    assert found["prior"] == "own"
    assert "no longer in the cache" in found["warnings"][0]


def test_random_units_are_scored_for_a_threshold_that_the_runs_did_without(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile_both(command, folder)
    run = json.loads((folder / "a" / "run.json").read_text())
    assert (run["threshold"]["source"], run["record"]["similarity"]["null_draws"]) == (
        "confirmed", 0,
    )  # fmt: skip
    found = compare(command, folder, folder / "a", folder / "b", "--threshold", "null")
    assert {each["threshold"]["source"] for each in found["runs"]} == {"null"}
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder / "an empty cache"))
    done = command(
        "compare", folder / "a", folder / "b", "--threshold", "null", "--out", folder / "no"
    )
    assert done.status == 2
    assert "'a' holds no null distribution to cut by" in done.stderr
    assert "profile it again with --null-draws 5000" in done.stderr


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        (("--concepts", "visual"), "concept set"),
        (("--limit", 40), "probe images"),
        (("--similarity", "wpmi"), "similarity"),
        (("--top", 5), "similarity"),
        (("--pool", "max", "--layers", "color"), "pooling of layer 'color'"),
    ],
)
def test_runs_made_otherwise_are_refused_by_name(
    command: Command, folder: Path, option: tuple[object, ...], kind: str
) -> None:
    command("run", SUBJECT, *images(folder), "--out", folder / "a")
    command("run", SUBJECT, *images(folder), *option, "--out", folder / "b")
    done = command("compare", folder / "a", folder / "b", "--out", folder / "out")
    assert done.status == 2
    assert done.error.startswith(f"'a' and 'b' differ in the {kind}: ")
    assert not list((folder / "out").glob("*"))


def test_imported_labels_are_refused(command: Command, folder: Path) -> None:
    command("run", SUBJECT, *images(folder), "--out", folder / "a")
    command("import", folder / "a" / "descriptions.csv", *ABOUT_IMAGES[:2], "--out", folder / "b")
    done = command("compare", folder / "a", folder / "b", "--out", folder / "out")
    assert done.status == 2
    assert "was imported from descriptions.csv" in done.error


def test_a_timeline_goes_by_the_steps_in_the_files(command: Command, folder: Path) -> None:
    files = [
        saved(folder / "late.pt", step=200),
        saved(folder / "early.pt", relearn, epoch=torch.tensor(3)),
        saved(folder / "middle.pt", relearn, global_step=20),
    ]
    found = compare(command, folder, *checkpoints(*files), "--timeline", "step")
    assert [(run["name"], run["step"]) for run in found["runs"]] == [
        ("early", 3.0), ("middle", 20.0), ("late", 200.0),
    ]  # fmt: skip
    assert [(pair["from"], pair["to"]) for pair in found["pairs"]] == [
        ("early", "middle"), ("middle", "late"), ("early", "late"),
    ]  # fmt: skip


def test_a_timeline_by_name_counts_as_people_do(command: Command, folder: Path) -> None:
    for number in (10, 9, 1):
        saved(folder / f"epoch-{number}.pt")
    found = compare(
        command, folder, SUBJECT, "--checkpoint", folder / "epoch-*.pt", "--timeline", "name"
    )
    assert [run["name"] for run in found["runs"]] == ["epoch-1", "epoch-9", "epoch-10"]


def test_two_networks_of_one_file_are_compared(command: Command, folder: Path) -> None:
    student = torch.load(saved(folder / "a.pt"), weights_only=True)
    student = student.get("state_dict", student)
    teacher = {name: tensor * 2 for name, tensor in student.items()}
    torch.save({"student": student, "teacher": teacher}, folder / "dino.pt")
    call = (SUBJECT, "--checkpoint", folder / "dino.pt", "--checkpoint-key", "student")
    found = compare(command, folder, *call, "--checkpoint-key", "teacher")
    assert [run["name"] for run in found["runs"]] == ["dino-student", "dino-teacher"]


def test_a_file_without_its_step_is_named(command: Command, folder: Path) -> None:
    one, other = saved(folder / "a.pt", step=1), saved(folder / "b.pt")
    done = command("compare", *checkpoints(one, other), *images(folder), "--timeline", "step",
                   "--out", folder / "out")  # fmt: skip
    assert done.status == 2
    assert "the checkpoint of 'b' does not say its step" in done.error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((SUBJECT,), "at least two runs"),
        ((SUBJECT, SUBJECT, "--timeline", "age"), "unknown order of --timeline 'age'"),
        ((SUBJECT, SUBJECT, "--fail-on", "js=0.1"), "'js=0.1' is no condition"),
        ((SUBJECT, SUBJECT, "--fail-on", "colour>1%"), "metric of --fail-on 'colour'; near names"),
        ((SUBJECT, SUBJECT, "--name", "a"), "1 --name for 2 runs"),
        ((SUBJECT, SUBJECT, "--name", "a", "--name", "a"), "has to differ"),
        ((SUBJECT, "--checkpoint", "nowhere/*.pt"), "'nowhere/*.pt' matches no file"),
        ((SUBJECT, SUBJECT, "--checkpoint", "a.pt"), "1 --checkpoint for 2 networks"),
        ((SUBJECT, "--own-thresholds", "--threshold", "1"), "wants each run's own"),
        ((str(HERE), SUBJECT), "is not a finished run"),
    ],
)
def test_what_cannot_be_compared_is_said_before_any_work(
    command: Command, folder: Path, arguments: tuple[object, ...], complaint: str
) -> None:
    done = command("compare", *arguments, *images(folder), "--out", folder / "out")
    assert done.status == 2
    assert complaint in done.error
    assert not (folder / "out").exists()


def test_a_rule_about_a_layer_that_is_not_there(command: Command, folder: Path) -> None:
    done = command("compare", SUBJECT, SUBJECT, *images(folder), "--fail-on", "js[colour]>1",
                   "--out", folder / "out")  # fmt: skip
    assert done.status == 2
    assert "'colour'; near names: color" in done.error


def test_own_thresholds_are_written_down(command: Command, folder: Path) -> None:
    one, other = saved(folder / "a.pt"), saved(folder / "b.pt", relearn)
    found = compare(command, folder, *checkpoints(one, other), "--own-thresholds")
    assert found["own_thresholds"] is True
    html = (folder / "out" / "compare.html").read_text()
    for run in found["runs"]:
        assert from_plain(Threshold, run["threshold"]).text() in html


def test_the_same_comparison_gives_the_same_bytes(command: Command, folder: Path) -> None:
    one, other = saved(folder / "a.pt"), saved(folder / "b.pt", relearn)
    compare(command, folder, *checkpoints(one, other))
    names = ("units.csv", "compare.html", "comparison.json")
    first = {name: (folder / "out" / name).read_bytes() for name in names}
    shutil.rmtree(folder / "out")
    compare(command, folder, *checkpoints(one, other))
    assert {name: (folder / "out" / name).read_bytes() for name in names} == first


def test_a_page_too_large_leaves_no_half_comparison(command: Command, folder: Path) -> None:
    one, other = saved(folder / "a.pt"), saved(folder / "b.pt")
    for file in (one, other):
        command("run", SUBJECT, *images(folder), "--checkpoint", file, "--out", folder / file.stem)
    done = command("compare", folder / "a", folder / "b", "--out", folder / "out",
                   "--max-report-mb", 0.01)  # fmt: skip
    assert done.status == 3
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("reply", "author"),
    [("There are 2 runs.", "scripted"), ("There are 3 runs.", "a fixed template, because")],
)
def test_a_model_s_paragraph_stands_only_if_it_keeps_to_the_facts(
    command: Command, folder: Path, reply: str, author: str
) -> None:
    words = dict.fromkeys(COLOURS.split(), "material")
    lines = [{"sort": words}, {"match": "paragraph", "reply": reply}]
    script = folder / "script.jsonl"
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    one, other = saved(folder / "a.pt"), saved(folder / "b.pt", relearn)
    found = compare(command, folder, *checkpoints(one, other), "--llm", f"scripted:{script}")
    assert found["sorter"].startswith("scripted")
    assert found["runs"][0]["profile"]["total"]["counts"]["material"] > 0
    assert found["summary_author"].startswith(author)
    assert found["summary"].startswith(reply) == (author == "scripted")
