"""``profiler check`` from end to end, on colours whose classification is arithmetic."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import Command
from tiny import CLASSES, write_classes

HERE = Path(__file__).parents[1] / "samples"
SUBJECT = f"{HERE / 'tiny.py'}:subject"
VLM = f"{HERE / 'tiny.py'}:caption_vlm"

SPECS = """
# What a classifier of colours must respect.
classes red, green, sky = "cyan"
concepts crimson = "red", green-ish = "green", "deep blue" = "blue"
set warm = {red}

spec red-is-red "what is called red looks red":
    predict(x, red) => >(x, crimson, green-ish) and >(x, crimson, "deep blue")
    require rate >= 100%
spec sky-is-not-red: for c in {sky}: predict(x, c) => >(x, "deep blue", crimson)
    require applicable rate >= 0.9
"""
WRONG = (
    SPECS
    + """
spec green-is-red: predict(x, green) => >(x, crimson, green-ish)
    require applicable rate >= 0.5
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "images", 12)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path


def arguments(folder: Path, specs: str, *more: object) -> list[object]:
    (folder / "zoo.conspec").write_text(specs, encoding="utf-8")
    return [
        *("check", folder / "zoo.conspec", SUBJECT, "--data", folder / "images"),
        *("--classes", folder / "classes.txt", "--vlm", VLM, "-j", 0, "--date", "2024-01-01"),
        *("--out", folder / "out", *more),
    ]


def by_name(text: str) -> dict[str, Any]:
    return {each["name"]: each for each in json.loads(text)["specs"]}


def test_specs_that_hold_on_images(command: Command, folder: Path) -> None:
    done = command(*arguments(folder, SPECS, "--json"))
    assert done.status == 0, done.stderr
    found = by_name(done.stdout)
    red = found["red-is-red"]
    assert red["outcome"] == "holds"
    assert red["statistical"]["rate"]["holds"] == red["statistical"]["rate"]["images"] == 48
    assert red["statistical"]["applicable"]["images"] == 12
    assert [each["class"] for each in red["statistical"]["by_class"]] == [
        *("red", "green", "blue", "sky"),
    ]
    assert red["formal"] == []
    assert (folder / "out" / "check.html").stat().st_size > 10_000
    assert not (folder / "out" / "certificates.json").exists()


def test_a_spec_that_fails_is_exit_one_and_shows_images(command: Command, folder: Path) -> None:
    done = command(*arguments(folder, WRONG))
    assert done.status == 1
    assert done.error == "1 of 3 specs fail: green-is-red"
    assert "fails" in done.stderr
    content = json.loads((folder / "out" / "check.json").read_text(encoding="utf-8"))
    wrong = content["specs"][2]["statistical"]
    assert wrong["applicable"] == {
        "holds": 0,
        "images": 12,
        "rate": 0.0,
        "interval": [0.0, pytest.approx(0.2425, abs=1e-3)],
    }
    assert wrong["requirements"][0]["outcome"] == "failed"
    assert {each["true"] for each in wrong["against"]} == {"green"}


def test_regions_are_proved_and_their_certificates_hold(command: Command, folder: Path) -> None:
    done = command(*arguments(folder, SPECS, "--formal", "--region", "box:0.5", "--json"))
    assert done.status == 0, done.stderr
    found = by_name(done.stdout)
    (red,) = found["red-is-red"]["formal"]
    assert (red["class"], red["region"], red["verdict"]) == ("red", "box:0.5", "proved")
    (sky,) = found["sky-is-not-red"]["formal"]
    assert (sky["class"], sky["verdict"]) == ("sky", "proved")
    kept = folder / "out" / "certificates.json"
    again = command("check", "--verify", kept)
    assert again.status == 0, again.stderr
    assert again.stdout.count("proved") == 2
    # A weight that was changed is found out.
    content = json.loads(kept.read_text(encoding="utf-8"))
    content["proofs"][0]["formula"] = ">(x, crimson, green-ish)"
    kept.write_text(json.dumps(content), encoding="utf-8")
    broken = command("check", "--verify", kept, "--json")
    assert broken.status == 1
    assert "1 of 2 proofs do not hold; first: red-is-red" in broken.error
    assert json.loads(broken.stdout)["proofs"][0]["complaint"]


def test_a_violated_region_has_a_counterexample_beside_images(
    command: Command, folder: Path
) -> None:
    done = command(*arguments(folder, WRONG, "--formal", "--json"))
    assert done.status == 1
    (region,) = by_name(done.stdout)["green-is-red"]["formal"]
    assert (region["region"], region["verdict"]) == ("box:0.3", "violated")
    shown = region["counterexample"]
    assert shown["margin"] > 0
    assert shown["seen"]["predicted"] == "green"
    assert shown["seen"]["strengths"]["green-ish"] > shown["seen"]["strengths"]["crimson"]
    assert [each["true"] for each in shown["nearest"]] == ["green"] * 3
    distances = [each["distance"] for each in shown["nearest"]]
    assert distances == sorted(distances)
    assert not any(each["holds"] for each in shown["nearest"])


@pytest.mark.parametrize("region", ["hull", "ball:0.2", "max"])
def test_other_regions(command: Command, folder: Path, region: str) -> None:
    done = command(*arguments(folder, SPECS, "--region", region, "--json"))
    assert done.status == 0, done.stderr
    (red,) = by_name(done.stdout)["red-is-red"]["formal"]
    assert (red["region"], red["verdict"]) == (region, "proved")
    if region == "max":
        assert 0.3 < red["gamma"] < red["not_proved_at"]


def test_undecided_is_exit_four_and_never_success(command: Command, folder: Path) -> None:
    # Equal strengths are possible, on a plane that no floating-point number is sure to meet.
    equal = "concepts red, blue spec either: >(x, red, blue) or >(x, blue, red)"
    done = command(*arguments(folder, equal, "--region", "box:3", "--on", "green"))
    assert done.status == 4
    assert done.error == "1 of 1 specs are undecided: either"
    late = command(*arguments(folder, SPECS, "--formal", "--timeout", 0))
    assert late.status == 4


@pytest.mark.parametrize(
    ("specs", "place", "said"),
    [
        ("concepts red\nspec a: >(x, red, bleu)", "2:9", "unknown concept 'bleu'"),
        ("classes red\nspec a: predict(x, rad)", "2:9", "unknown class 'rad'; near names: red"),
        ("spec a: >(x, red blue)", "1:18", "expected ','"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_loaded(
    command: Command, folder: Path, specs: str, place: str, said: str
) -> None:
    # Neither network exists.
    (folder / "zoo.conspec").write_text(specs)
    done = command(
        *("check", folder / "zoo.conspec", "no/such.py:net", "--data", folder / "nowhere"),
        *("--vlm", "no/such.py:vlm"),
    )
    assert done.status == 2
    assert done.error.startswith(f"zoo.conspec:{place}: {said}")
    assert done.stderr.splitlines()[1].strip() == "^"


def test_classes_that_the_model_lacks_are_refused_before_the_vlm(
    command: Command, folder: Path
) -> None:
    (folder / "broken.py").write_text("def vlm():\n    raise AssertionError('it was loaded')\n")
    vlm = f"{folder / 'broken.py'}:vlm"
    specs = 'classes red, moon = "grean" spec a: predict(x, red)'
    done = command(*arguments(folder, specs, "--vlm", vlm))
    assert done.status == 2
    assert "unknown class of the model 'grean'; near names: green" in done.error
    done = command(*arguments(folder, "spec a: predict(x, rde)", "--vlm", vlm))
    assert "unknown class 'rde'; near names: red" in done.error


def test_a_class_without_images_has_no_region(command: Command, folder: Path) -> None:
    for image in (folder / "images" / "green").iterdir():
        image.unlink()
    done = command(*arguments(folder, WRONG, "--formal"))
    assert done.status == 2
    assert "class 'green' has 0 image(s) in the data, so its region is empty" in done.error


def test_annotations(command: Command, folder: Path) -> None:
    specs = "concepts red, blue spec wet: hasCon(x, blue) => predict(x, blue)"
    assert "needs annotated images" in command(*arguments(folder, specs)).error
    names = [
        f"{path.parent.name}/{path.name}" for path in sorted((folder / "images").rglob("*.png"))
    ]
    table = folder / "annotations.csv"
    rows = [f"{name},{int(name.startswith(('blue', 'red/0000')))}" for name in names]
    table.write_text("\n".join(["image,blue", *rows]))
    done = command(*arguments(folder, specs, "--annotations", table, "--json"))
    assert done.status == 0, done.stderr
    found = by_name(done.stdout)["wet"]["statistical"]
    assert (found["applicable"]["holds"], found["applicable"]["images"]) == (12, 13)
    table.write_text("\n".join(["image,blue", *rows[1:]]))
    assert "no row for image" in command(*arguments(folder, specs, "--annotations", table)).error


def test_wrong_calls(command: Command, folder: Path) -> None:
    assert "write: profiler check" in command("check").error
    assert "reads a file of certificates" in command("check", "a", "--verify", "b").error
    assert "is not a region" in command(*arguments(folder, SPECS, "--region", "box")).error
    assert "unknown class of --on" in command(*arguments(folder, SPECS, "--on", "rad")).error
    assert "this is not a file of certificates" in _verify(command, folder, '{"proofs": []}')
    assert "is damaged: it is no JSON or was cut off" in _verify(command, folder, "{")
    assert "nested too deeply" in _verify(command, folder, "[" * 100_000)


def _verify(command: Command, folder: Path, content: str) -> str:
    (folder / "c.json").write_text(content)
    return command("check", "--verify", folder / "c.json").error


def test_a_file_written_for_another_model_is_said_so(command: Command, folder: Path) -> None:
    done = command(*arguments(folder, "model other" + SPECS, "--json"))
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning.startswith("Zoo.conspec was written for other, not for")


@pytest.mark.slow
@pytest.mark.usefixtures("texts_once")
def test_the_model_that_needs_no_download(command: Command, folder: Path) -> None:
    """Its record holds records of its vocabularies."""
    done = command(*arguments(folder, SPECS, "--vlm", "conse", "--json"))
    assert done.status in (0, 1), done.stderr
    assert "internal error" not in done.stderr
    found = json.loads((folder / "out" / "check.json").read_text())["vlm"]
    assert found["name"].startswith("conse")
    assert {"name", "words", "weight"} == set(found["vocabularies"][0])
    assert command("cache", "list").status == 0
    assert "all whole" in command("cache", "verify").stdout
