"""``profiler guard fit | score | eval`` from end to end, on a classifier of colours."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import chromium, opened
from command import Command, Outcome
from guard_samples import WORDS, write_mixed
from PIL import Image
from safetensors.numpy import load_file, save_file
from tiny import CLASSES, TinyNet, tiny_subject, write_classes

from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import open_labelled
from profiler.errors import ContextError
from profiler.guard.answers import answers_of
from profiler.guard.guard import Guard
from profiler.guard.rules.combined import WithSoftmax
from profiler.models.attacks import Attack, PixelScale
from profiler.models.classifier import Classifier
from profiler.models.views import VIEWS

HERE = Path(__file__).parents[1] / "samples"
SUBJECT = f"{HERE / 'tiny.py'}:subject"
VLM = f"{HERE / 'tiny.py'}:caption_vlm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images to fit on and others; and, once a test has made it, the guard."""
    folder = tmp_path_factory.mktemp("guard")
    write_mixed(folder / "fit", 480, seed=1)
    write_mixed(folder / "new", 160, seed=2)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    (folder / "words.txt").write_text("\n".join(WORDS))
    return folder


def fit(command: Command, folder: Path, *more: object) -> str:
    done = command(
        *("guard", "fit", SUBJECT, "--data", folder / "fit", "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--date", "2024-01-01"),
        *("--out", folder / "out", *more),
    )
    assert done.status == 0, done.stderr
    assert done.stdout.strip() == str(folder / "out" / "guard.safetensors")
    return done.stderr


@pytest.fixture
def fitted(command: Command, folder: Path) -> Path:
    if not (folder / "out" / "guard.safetensors").exists():
        fit(command, folder)
    return folder / "out"


def score(command: Command, fitted: Path, *images: object) -> list[dict[str, Any]]:
    done = command("guard", "score", SUBJECT, *images, "--guard", fitted, "--json")
    assert done.status == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def evaluate(command: Command, fitted: Path, *more: object) -> dict[str, Any]:
    done = command(
        *("guard", "eval", SUBJECT, "--guard", fitted, "--data", fitted.parent / "new"),
        *("--classes", fitted.parent / "classes.txt", "--draws", 50, "--date", "2024-01-01"),
        *(*more, "--json"),
    )
    assert done.status == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_fit_tells_what_it_promises(command: Command, folder: Path) -> None:
    said = fit(command, folder, "--risk", "0.2", "--confidence", "0.8")
    assert "at most 20 % of the predictions that pass are incorrect, with 80 % confidence" in said
    made = Guard.load(folder / "out" / "guard.safetensors")
    assert made.context.parts == (240, 120, 120)
    assert made.context.classes == CLASSES
    assert "guard fit" in made.context.command
    fit(command, folder)  # and the usual promise, for the tests that follow
    assert Guard.load(folder / "out" / "guard.safetensors").threshold.target == "false-alarms"


def test_score_judges_every_image(command: Command, fitted: Path) -> None:
    images = fitted.parent / "new"
    rows = score(command, fitted, images)
    assert len(rows) == 160
    guard = Guard.load(fitted / "guard.safetensors")
    assert {row["prediction"] for row in rows} == set(CLASSES)
    for row in rows:
        assert row["prediction"] == CLASSES[row["class"]]
        assert (row["verdict"] == "flag") == (row["score"] > guard.threshold.value)
        assert len(row["against"]) <= 3
    wrong = np.array([row["prediction"] != row["image"].split("/")[0] for row in rows])
    flagged = np.array([row["verdict"] == "flag" for row in rows])
    assert flagged[wrong].mean() > 2 * flagged[~wrong].mean()
    assert any(" > " in reason for row in rows for reason in row["against"])


def test_csv_holds_the_same(command: Command, fitted: Path, tmp_path: Path) -> None:
    images = fitted.parent / "new"
    out = tmp_path / "deep" / "verdicts.csv"
    done = command("guard", "score", SUBJECT, images, "--guard", fitted, "--out", out)
    assert done.status == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    lines = score(command, fitted, images)
    for row, line in zip(rows, lines, strict=True):
        assert (row["image"], row["prediction"]) == (line["image"], line["prediction"])
        assert row["verdict"] == line["verdict"]
        assert [row[f"against_{k}"] for k in (1, 2, 3) if row[f"against_{k}"]] == line["against"]


def test_what_cannot_be_judged_is_flagged_with_the_reason(
    command: Command, fitted: Path, tmp_path: Path
) -> None:
    first = next((fitted.parent / "new").rglob("*.png"))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(first.read_bytes()[:40])
    shutil.copy(first, tmp_path / "fine.png")
    names = [tmp_path / name for name in ("empty.png", "cut.png", "gone.png", "fine.png")]
    rows = score(command, fitted, *names, "--share", "0.001")
    assert [row["verdict"] for row in rows] == ["flag", "flag", "flag", "accept"]
    assert all(row["problem"] for row in rows[:3])
    assert [row["prediction"] for row in rows[:3]] == [None] * 3
    assert rows[3]["problem"] is None


def test_a_network_that_gives_nan_is_flagged(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    subject = f"{HERE / 'tiny.py'}:nan"
    done = command(
        *("guard", "fit", subject, "--data", folder / "fit", "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--out", tmp_path / "out"),
    )
    assert done.status == 0, done.stderr
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    done = command("guard", "score", subject, tmp_path / "black.png", "--json",
                   "--guard", tmp_path / "out")  # fmt: skip
    assert done.status == 0, done.stderr
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert row["verdict"] == "flag"
    assert row["problem"] == "the network gives NaN or infinite numbers"
    assert row["score"] is None


def test_other_weights_are_refused(command: Command, fitted: Path, tmp_path: Path) -> None:
    net = TinyNet()
    with torch.no_grad():
        net.fc.weight[0, 0] = 1.01
    torch.save(net.state_dict(), tmp_path / "net.pt")
    images, names = fitted.parent / "new", ("--classes", fitted.parent / "classes.txt")
    for call in (("score", SUBJECT, images), ("eval", SUBJECT, "--data", images)):
        done = command("guard", *call, "--guard", fitted, "--checkpoint", tmp_path / "net.pt",
                       *(names if "eval" in call else ()))  # fmt: skip
        assert done.status == 2
        assert "fit a guard for this network" in done.error
        assert done.stdout == ""


def test_another_preprocessing_is_refused(command: Command, fitted: Path) -> None:
    other = "resize=8x8,crop=8,interpolation=bicubic,mean=0.5,std=0.5"
    images = fitted.parent / "new"
    done = command("guard", "score", SUBJECT, images, "--guard", fitted, "--preprocess", other)
    assert done.status == 2
    assert "but with another preprocessing, or the network" in done.error


def test_eval_measures_beside_baselines(command: Command, fitted: Path) -> None:
    found = evaluate(command, fitted, "--attack", "fgsm", "--attack", "pgd", "--eps",
                     "4/255,32/255", "--corrupt", "contrast:5")  # fmt: skip
    titles = [each["title"] for each in found["conditions"]]
    assert titles[0] == "unmodified"
    assert titles[1:3] == ["FGSM, ε = 4/255", "FGSM, ε = 32/255"]
    assert titles[3].startswith("PGD, ε = 4/255")
    assert titles[5] == "contrast:5"
    assert found["rules"] == ["msp+typicality", "typicality"]
    assert set(found["baselines"]) == {
        "msp", "max-logit", "energy", "entropy", "mahalanobis", "knn"
    }  # fmt: skip
    clean = found["conditions"][0]
    assert clean["images"] == clean["right"] + clean["defects"] == 160
    assert clean["accuracy"] == clean["right"] / 160
    own = clean["metrics"]["msp+typicality"]["auroc"]
    assert own["value"] > 0.8
    assert own["low"] <= own["value"] <= own["high"]
    # A larger step of the same attack does no less.
    assert found["conditions"][2]["accuracy"] <= found["conditions"][1]["accuracy"]
    passed = found["passed"]
    assert passed["right"] / passed["images"] > clean["accuracy"]
    assert passed["images"] == 160 - clean["flagged_defects"] - clean["flagged_right"]
    rows = found["accuracy_by_coverage"]["msp+typicality"]
    assert rows[0]["accuracy"] == clean["accuracy"]
    assert rows[-1]["accuracy"] >= rows[0]["accuracy"]
    assert len(found["scores"]["wrong"]) == clean["defects"]


def test_images_the_guard_was_made_from_are_left_out_by_content(
    command: Command, fitted: Path, tmp_path: Path
) -> None:
    # The same pictures under other names, beside new ones: none is in two parts.
    for place, path in enumerate(sorted((fitted.parent / "fit").rglob("*.png"))[:50]):
        target = tmp_path / "mixed" / path.parent.name / f"renamed{place}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    only = command(
        *("guard", "eval", SUBJECT, "--guard", fitted, "--data", tmp_path / "mixed"),
        *("--classes", fitted.parent / "classes.txt", "--out", tmp_path / "no"),
    )
    assert only.status == 2
    assert "all 50 images" in only.error
    shutil.copytree(fitted.parent / "new", tmp_path / "mixed", dirs_exist_ok=True)
    found = evaluate(command, fitted, "--data", tmp_path / "mixed", "--out", tmp_path / "out")
    assert found["data"]["images"] == 160
    assert found["data"]["left_out_as_known_to_the_guard"] == 50


def test_without_the_reference_some_baselines_are_missing_and_it_is_said(
    command: Command, fitted: Path, tmp_path: Path
) -> None:
    shutil.copy(fitted / "guard.safetensors", tmp_path)
    found = evaluate(command, fitted, "--guard", tmp_path / "guard.safetensors",
                     "--out", tmp_path / "out")  # fmt: skip
    assert "mahalanobis" not in found["baselines"]
    assert any("reference.safetensors" in each for each in found["warnings"])


def test_a_stream_that_changes_is_reported_with_its_concepts(
    command: Command, fitted: Path, tmp_path: Path
) -> None:
    images = sorted((fitted.parent / "new").rglob("*.png"), key=lambda path: path.name)
    calm = command("guard", "score", SUBJECT, *images, "--guard", fitted, "--watch",
                   "--window", 60, "--fail-on-drift")  # fmt: skip
    assert calm.status == 0, calm.stderr
    assert "no drift: no relation of concepts differs from the reference" in calm.stderr
    # Only blue comes any more.
    blue = [path for path in images if path.parent.name == "blue"] * 4
    done = command("guard", "score", SUBJECT, *blue, "--guard", fitted, "--watch",
                   "--window", 60, "--fail-on-drift")  # fmt: skip
    assert done.status == 1
    assert "DRIFT" in done.stderr
    assert "blue > " in done.stderr
    assert "have drifted from the reference" in done.error
    assert len(done.stdout.splitlines()) == len(blue) + 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--share", "0.1", "--risk", "0.1"), "exclude each other"),
        (("--risk", "1.5"), "between 0 and 1"),
        (("--fail-on-drift",), "needs --watch"),
        (("--guard", "nowhere.safetensors"), "there is no guard 'nowhere.safetensors'"),
    ],
)
def test_wrong_calls_get_one_clear_line(
    command: Command, fitted: Path, arguments: tuple[str, ...], said: str
) -> None:
    more = arguments if "--guard" in arguments else ("--guard", fitted, *arguments)
    done = command("guard", "score", SUBJECT, fitted.parent / "new", *more)
    assert done.status == 2
    assert said in done.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rule", "cosin"), "near names: cosine"),
        (("--views", "mirored"), "near names: mirrored"),
        (("--views", "up,up"), "named twice"),
        (("--views", "all", "--rule", "cosine"), "a combination does: msp+cosine"),
    ],
)
def test_unknown_rules_and_views_are_refused_before_work_is_done(
    command: Command, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = command("guard", "fit", SUBJECT, "--data", folder / "fit", *arguments)
    assert done.status == 2
    assert said in done.error


# --- further views -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def viewing(folder: Path) -> Path:
    """Where a guard with views is kept, once a test has made it."""
    return folder / "viewing"


def fit_viewing(command: Command, folder: Path, out: Path) -> str:
    if (out / "guard.safetensors").exists():
        return ""
    done = command(
        *("guard", "fit", SUBJECT, "--data", folder / "fit", "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--out", out),
        *("--views", "mirrored,up", "--date", "2024-01-01"),
    )
    assert done.status == 0, done.stderr
    return done.stderr


def test_what_each_view_is_called_is_told(command: Command, folder: Path, viewing: Path) -> None:
    fit_viewing(command, folder, viewing)
    assert Guard.load(viewing / "guard.safetensors").views == ("mirrored", "up")
    rows = score(command, viewing, folder / "new")
    for row in rows:
        assert set(row["views"]) == {"mirrored", "up"}
        # The network averages over the image: mirrored, it gives the same.
        assert row["views"]["mirrored"] == row["prediction"]
    done = command("guard", "score", SUBJECT, folder / "new", "--guard", viewing)
    assert done.status == 0, done.stderr
    for row, line in zip(csv.DictReader(io.StringIO(done.stdout)), rows, strict=True):
        assert row["views"] == f"mirrored: {line['prediction']}; up: {line['views']['up']}"


def test_a_view_for_which_the_network_gives_nan(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :4, 0] = 255
    (tmp_path / "more" / "red").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "more" / "red" / "half.png")
    for each in (folder / "fit").iterdir():
        shutil.copytree(each, tmp_path / "more" / each.name, dirs_exist_ok=True)

    def fit_on(data: Path) -> Outcome:
        return command(
            *("guard", "fit", f"{HERE / 'tiny.py'}:halfblind", "--data", data, "--vlm", VLM),
            *("--classes", folder / "classes.txt", "--concepts", folder / "words.txt"),
            *("-j", 0, "--views", "mirrored", "--out", tmp_path / "out"),
        )

    # Nothing can be learned from it …
    done = fit_on(tmp_path / "more")
    assert done.status == 2
    assert "half.png: for this image or an augmented view of it (mirrored)" in done.error
    assert fit_on(folder / "fit").status == 0
    # … and it is not believed.
    done = command(
        *("guard", "score", f"{HERE / 'tiny.py'}:halfblind", tmp_path / "more" / "red"),
        *("--guard", tmp_path / "out", "--json"),
    )
    rows = {row["image"]: row for row in map(json.loads, done.stdout.splitlines())}
    row = rows.pop("half.png")
    assert row["verdict"] == "flag"
    assert row["problem"] == "the network gives NaN or infinite numbers"
    assert row["against"] == []
    assert row["views"] == {}
    assert not any(other["problem"] for other in rows.values())


def test_the_image_and_its_views_are_read_with_one_precision(
    command: Command, folder: Path, viewing: Path, tmp_path: Path
) -> None:
    fit_viewing(command, folder, viewing)
    done = command(
        *("guard", "fit", SUBJECT, "--data", folder / "fit", "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--out", tmp_path),
        *("--views", "mirrored,up", "--precision", "bf16"),
    )
    assert done.status == 0, done.stderr
    one, other = (Guard.load(path / "guard.safetensors").rule for path in (viewing, tmp_path))
    assert isinstance(one, WithSoftmax)
    assert isinstance(other, WithSoftmax)
    assert one.softmax_.name == other.softmax_.name
    assert np.allclose(one.doubts_, other.doubts_, atol=1e-5)


def test_views_are_of_the_attacked_image(folder: Path) -> None:
    data = open_labelled(folder / "new", *open_classes(folder / "classes.txt", len(CLASSES)))
    classifier, attack = Classifier.find(tiny_subject()), Attack("fgsm", 32 / 255)
    rows = list(range(8))
    _, found = next(
        answers_of(classifier, data, rows, views=("up",), attack=attack, truth=data.truth)
    )
    assert found.views is not None
    images = torch.stack([classifier.preprocess(data.read(row)) for row in rows])
    scale = PixelScale.measure(classifier.preprocess, classifier.name)
    truth = torch.from_numpy(np.asarray(data.truth)[rows])
    changed = attack(classifier.logits(), images, truth, scale, rows)
    one, other = (
        classifier.read(classifier.readings, VIEWS["up"](each))["logits"].numpy()
        for each in (changed, images)
    )
    assert np.allclose(found.views.logits[:, 0], one, atol=1e-5)
    assert not np.allclose(one, other, atol=1e-2)


def test_an_image_that_cannot_be_read_has_no_views(
    command: Command, folder: Path, viewing: Path, tmp_path: Path
) -> None:
    fit_viewing(command, folder, viewing)
    (tmp_path / "empty.png").write_bytes(b"")
    (row,) = score(command, viewing, tmp_path / "empty.png")
    assert row["verdict"] == "flag"
    assert row["views"] == {}


@pytest.mark.browser
def test_eval_looks_at_views_of_attacked_images_too(
    command: Command, folder: Path, viewing: Path
) -> None:
    fit_viewing(command, folder, viewing)
    found = evaluate(command, viewing, "--attack", "fgsm", "--eps", "32/255")
    assert found["guard"]["views"] == ["mirrored", "up"]
    assert len(found["conditions"]) == 2
    examples = [each for group in found["examples"].values() for each in group]
    assert all(set(each["views"]) == {"mirrored", "up"} for each in examples)
    with chromium() as browser, opened(browser, Path(found["report"])) as view:
        text = view.page.inner_text("body")
        assert "2 augmented views of each image (mirrored, up;" in text
        assert "3 forward passes instead of one" in text
        assert "Augmented views: the same prediction." in text
        assert view.complaints == []


def fit_on(command: Command, folder: Path, data: Path, out: Path, *more: object) -> Outcome:
    return command(
        *("guard", "fit", SUBJECT, "--data", data, "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--out", out, *more),
    )


@pytest.mark.parametrize("rule", ["typicality", "msp+typicality", "likelihood", "strengths"])
def test_right_answers_alone_teach_what_they_can(
    command: Command, folder: Path, tmp_path: Path, rule: str
) -> None:
    write_classes(tmp_path / "images", 12)
    done = fit_on(command, folder, tmp_path / "images", tmp_path / "out", "--rule", rule)
    if "typicality" not in rule:
        assert done.status == 2
        assert "needs only correct predictions (typicality, msp+typicality)" in done.error
        return
    assert done.status == 0, done.stderr
    assert "none of the 24 images fitted on is misclassified" in done.stderr
    # What it has never seen is strange to it, all the same, and it says why.
    red = tmp_path / "images" / "red"
    mixed = folder / "new" / "red"
    share = ("--share", "0.2")
    done = command("guard", "score", SUBJECT, mixed, "--guard", tmp_path / "out", "--json", *share)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(row["verdict"] == "flag" and row["against"] for row in rows)
    usual = command("guard", "score", SUBJECT, red, "--guard", tmp_path / "out", "--json", *share)
    flagged = ["flag" in line for line in usual.stdout.splitlines()]
    assert np.mean(flagged) < np.mean([row["verdict"] == "flag" for row in rows])


def test_a_guard_of_few_images_says_that_it_flags_nothing(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    write_mixed(tmp_path / "few", 24, seed=3)
    done = fit_on(command, folder, tmp_path / "few", tmp_path / "out")
    assert done.status == 0, done.stderr
    said = (
        "warning: no image is flagged: no threshold except infinity guarantees "
        "that at most 5 % of correct predictions are flagged; "
    )
    assert said in done.stderr
    made = Guard.load(tmp_path / "out" / "guard.safetensors")
    right = int((~made.calibration.wrong).sum())
    least = int(np.ceil(100 / (right + 1))) / 100
    assert (
        f"it was set on {right} correct predictions; 19 correct predictions are needed: choose a "
        f"level of {least} or more, or give more images (the threshold is set on a quarter"
    ) in done.stderr
    assert "fewer than 3 correct predictions among the 12 images fitted on" in done.stderr
    # Whoever uses it is told again, and what was said helps.
    score = ("guard", "score", SUBJECT, folder / "new", "--guard", tmp_path / "out")
    assert said in command(*score).stderr
    done = command(*score, "--false-alarms", least)
    assert "no image is flagged" not in done.stderr
    assert "flag" in done.stdout
    done = command(*score, "--risk", "0.05")
    assert "everything is flagged" in done.stderr
    assert "107 images without any error are needed" in done.stderr


def test_outputs_that_are_called_otherwise_are_refused_by_name(
    command: Command, fitted: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    call = (
        *("guard", "eval", SUBJECT, "--guard", fitted, "--data", fitted.parent / "new"),
        *("--draws", 20, "--out", tmp_path / "out", "--json"),
    )
    names.write_text("green\nred\nblue\ncyan\n")
    done = command(*call, "--classes", names)
    assert done.status == 2
    assert (
        "output 0 is 'red' in the guard and 'green' in names.txt, output 1 is 'green' in the guard "
        "and 'red' in names.txt"
    ) in done.error
    assert not (tmp_path / "out").exists()
    names.write_text("red\ngreen\nblue\n")
    done = command(*call, "--classes", names)
    assert "names.txt names 3 classes, but the model has 4 outputs" in done.error
    # Another spelling is the same name; a mapping says what labels mean, not outputs; and the
    # guard knows the names by itself.
    names.write_text("Red\nGREEN\nblue \ncyan\n")
    (tmp_path / "labels.csv").write_text("label,class\nred,0\ngreen,green\nblue,blue\ncyan,3\n")
    found = [
        json.loads(command(*call, *more).stdout)
        for more in (("--classes", names), ("--classes", tmp_path / "labels.csv"), ())
    ]
    assert found[0]["conditions"] == found[1]["conditions"] == found[2]["conditions"]


class Squared(TinyNet):
    """Other features from the same weights."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.square())


def test_the_same_weights_in_another_network_are_not_wrapped(fitted: Path) -> None:
    made = Guard.load(fitted / "guard.safetensors")
    assert made.context.shape == (3, 8, 8)
    made.wrap(TinyNet())
    with pytest.raises(ContextError, match="now gives other outputs"):
        made.wrap(Squared())


NET = """
import tiny

class Net(tiny.TinyNet):
    def forward(self, images):
        return super().forward(images)

def make():
    return Net(), tiny.to_tensor()
"""


def test_a_guard_belongs_to_what_is_computed(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "net.py"
    subject, out = f"{file}:make", tmp_path / "out"
    file.write_text(NET)
    done = command(
        *("guard", "fit", subject, "--data", folder / "fit", "--classes", folder / "classes.txt"),
        *("--concepts", folder / "words.txt", "--vlm", VLM, "-j", 0, "--out", out),
    )
    assert done.status == 0, done.stderr

    def score(code: str) -> Outcome:
        file.write_text(code)
        return command("guard", "score", subject, folder / "new" / "red", "--guard", out)

    plain = score(NET)
    assert (plain.status, plain.stderr) == (0, "")
    commented = score(NET.replace("    def forward", "    # As its base does.\n\n    def forward"))
    assert commented == plain
    # Other code that does the same for what was tried: it may not for other images.
    other = score(NET.replace("super().forward(images)", "super().forward(images.clamp(max=9))"))
    assert other.stdout == plain.stdout
    assert "the code of" in other.stderr
    assert "has changed since the guard was fitted" in other.stderr
    for changed in (
        NET.replace("super().forward(images)", "super().forward(images.clamp(max=0.9))"),
        NET.replace("tiny.to_tensor()", "lambda image: 0.99 * tiny.to_tensor()(image)"),
    ):
        done = score(changed)
        assert done.status == 2
        assert "or the network now computes other outputs" in done.error
        assert done.stdout == ""


def test_a_table_of_paths_is_judged_in_its_order(
    command: Command, fitted: Path, tmp_path: Path
) -> None:
    images = sorted((fitted.parent / "new").rglob("*.png"))[:3]
    table = tmp_path / "some.csv"
    listed = [*images[::-1], tmp_path / "gone.png"]
    table.write_text("\n".join(["note;Path", *(f"x;{path}" for path in listed)]))
    rows = score(command, fitted, table)
    assert [row["image"] for row in rows] == list(map(str, listed))
    assert [bool(row["problem"]) for row in rows] == [False] * 3 + [True]
    for content, said in (
        ("label\nred\n", "line 1: no column 'path'; the header holds 'label'"),
        ("path\n", "lists no image"),
        ("path,label\na.png\n", "line 2: 1 fields, but the header has 2"),
    ):
        table.write_text(content)
        done = command("guard", "score", SUBJECT, table, "--guard", fitted)
        assert (done.status, done.stdout) == (2, "")
        assert said in done.error
    done = command("guard", "score", SUBJECT, table, images[0], "--guard", fitted)
    assert "name one folder, one table of paths, or files" in done.error
    done = command("guard", "score", SUBJECT, tmp_path / "none.csv", "--guard", fitted)
    assert "there is no table of images" in done.error


def test_the_reference_of_another_network_is_refused(
    command: Command, fitted: Path, tmp_path: Path
) -> None:
    shutil.copytree(fitted, tmp_path / "out")
    path = tmp_path / "out" / "reference.safetensors"
    save_file(load_file(path), path, {"guard": "of another"})
    done = command(
        *("guard", "eval", SUBJECT, "--guard", tmp_path / "out", "--data", fitted.parent / "new"),
    )
    assert done.status == 2
    assert "belongs to another network" in done.error


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_page_tells_the_finding_and_fits_every_screen(command: Command, fitted: Path) -> None:
    found = evaluate(command, fitted, "--attack", "fgsm", "--eps", "4/255,32/255")
    path = Path(found["report"])
    with chromium() as browser:
        for width, dark in ((1400, False), (1400, True), (400, False)):
            with opened(browser, path, width=width, height=900, dark=dark) as view:
                page = view.page
                assert view.sideways == 0
                text = page.inner_text("main")
                clean = found["conditions"][0]
                assert f"{clean['flagged_defects']} of the {clean['defects']} incorrect" in text
                assert page.locator("#curves svg.curves").count() == 2
                assert page.locator("#curves path.own").count() == 2
                assert page.locator("#tables .numbers-of").count() == 3
                assert page.locator("#attacks .dot-own").count() == 2
                shown = len(found["examples"]["flagged"]) + len(found["examples"]["missed"])
                shown += len(found["examples"]["false_alarms"])
                assert page.locator(".card").count() == shown
                assert page.locator(".card img").count() == shown
                value = clean["metrics"]["msp+typicality"]["auroc"]["value"]
                row = page.locator("#tables .numbers-of .own-row").first
                assert f"{value:.3f}" in row.inner_text()
                # Pointing at a name brings out its line.
                page.locator("#curves .lines li").nth(1).focus()
                assert page.locator("#curves .lit-line").count() >= 3
                assert view.complaints == []
                assert view.strange_requests == []
