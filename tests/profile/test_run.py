"""``profiler run`` from end to end, on networks whose answers are arithmetic."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import chromium, opened
from command import Command, in_own_process
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.metrics import average_precision_score
from tiny import TinyNet, TinyVLM, to_tensor, write_images

from profiler.profile.result import load_run
from profiler.profile.similarity.choose import SIMILARITIES

HERE = Path(__file__).parents[1] / "samples"
TINY = (f"{HERE / 'tiny.py'}:subject", "--vlm", f"{HERE / 'tiny.py'}:vlm")
COLOURS = "red\ngreen\nblue\nyellow\ncyan\nmagenta\ngray\nwhite\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 64)
    (tmp_path / "colours.txt").write_text(COLOURS)
    return tmp_path


def arguments(folder: Path, out: str, *more: object) -> list[object]:
    return [
        *("run", *TINY, "--probe", folder / "images", "--concepts", folder / "colours.txt"),
        *("--top", 6, "--threshold", 0.1, "-j", 0, "--date", "2024-01-01"),
        *("--out", folder / out, *more),
    ]


def rows(path: Path, name: str = "descriptions.csv") -> list[dict[str, str]]:
    with (path / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_unit_0_is_red(command: Command, folder: Path) -> None:
    done = command(*arguments(folder, "out"))
    assert done.status == 0, done.stderr
    assert done.stdout.strip() == str(folder / "out" / "report.html")
    labels = {(row["layer"], row["unit"]): row for row in rows(folder / "out")}
    assert len(labels) == 8
    for layer in ("color", "fc"):
        assert [labels[layer, unit]["description"] for unit in "012"] == ["red", "green", "blue"]
        assert [labels[layer, unit]["interpretable"] for unit in "012"] == ["1", "1", "1"]
        assert labels[layer, "0"]["category"] == "color"
    # Unit 3 is redness turned round, and what is least red among the words is cyan.
    assert labels["fc", "3"]["description"] == "cyan"
    dead = labels["color", "3"]
    assert (dead["dead"], dead["description"], dead["similarity"]) == ("1", "", "")
    profile = json.loads((folder / "out" / "profile.json").read_text())
    assert [layer["counts"]["color"] for layer in profile["layers"]] == [3, 4]
    assert [layer["dead"] for layer in profile["layers"]] == [1, 0]


def test_the_first_columns_are_those_of_clip_dissect(command: Command, folder: Path) -> None:
    command(*arguments(folder, "out"))
    header = (folder / "out" / "descriptions.csv").read_text().splitlines()[0].split(",")
    assert header[:4] == ["layer", "unit", "description", "similarity"]
    assert header[4:8] == ["interpretable", "dead", "category", "p_value"]
    assert header[8:16] == [f"{c}_{i}" for i in range(2, 6) for c in ("description", "similarity")]
    ranges = ["explanation", "explanation_r", "explanation_ceiling", "explained"]
    assert header[16:] == [*ranges, "confirmed_z"]


def test_the_same_command_gives_the_same_bytes(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(*arguments(folder, "one"))
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder / "another cache"))
    command(*arguments(folder, "two"))
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder / "a third cache"))
    command(*arguments(folder, "three", "-j", 2))
    first = (folder / "one" / "descriptions.csv").read_bytes()
    assert (folder / "two" / "descriptions.csv").read_bytes() == first
    assert (folder / "three" / "descriptions.csv").read_bytes() == first


def test_the_batch_size_changes_no_label(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(*arguments(folder, "one"))
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder / "another cache"))
    command(*arguments(folder, "two", "-b", 5))
    for a, b in zip(rows(folder / "one"), rows(folder / "two"), strict=True):
        assert a["description"] == b["description"]
        if a["similarity"]:
            assert float(a["similarity"]) == pytest.approx(float(b["similarity"]), abs=1e-3)


def test_the_record_names_everything_that_moves_a_number(command: Command, folder: Path) -> None:
    command(*arguments(folder, "out", "--seed", 7))
    record = json.loads((folder / "out" / "run.json").read_text())["record"]
    assert record["seed"] == 7
    assert record["similarity"]["top"] == 6
    assert record["similarity"]["top_chosen"] == "given"
    assert record["probe"]["images"] == 64
    assert {"torch", "numpy", "profiler", "python"} <= set(record["versions"])
    for part in ("subject", "vlm", "probe", "concepts"):
        assert record[part]["fingerprint"]
    assert "--seed 7" in record["command"]


def test_a_second_run_reads_no_image(command: Command, folder: Path) -> None:
    command(*arguments(folder, "one"))
    (folder / "colours.txt").write_text(COLOURS + "black\n")
    pass_file = next((folder / "cache" / "passes").glob("*.safetensors"))
    written = pass_file.stat().st_mtime_ns
    assert command(*arguments(folder, "two", "--top", 3)).status == 0
    assert [path.name for path in (folder / "cache" / "passes").glob("*.safetensors")] == [
        pass_file.name
    ]
    assert pass_file.stat().st_mtime_ns == written


def test_an_automatic_top_is_printed_and_recorded(command: Command, folder: Path) -> None:
    call = [a for a in arguments(folder, "out") if a not in ("--top", 6)]
    done = command(*call)
    assert "top list: 10 images a unit, chosen for a probe set of 64" in done.stderr
    record = json.loads((folder / "out" / "run.json").read_text())["record"]
    assert (record["similarity"]["top"], record["similarity"]["top_chosen"]) == (10, "automatic")


def test_json_on_standard_output(command: Command, folder: Path) -> None:
    done = command(*arguments(folder, "out", "--json"))
    content = json.loads(done.stdout)
    assert content["profile"]["total"]["counts"]["color"] == 7
    assert content["sorter"] == "exemplar"


def test_bad_images_are_skipped_counted_and_listed(command: Command, folder: Path) -> None:
    (folder / "images" / "0003_broken.png").write_bytes(b"not an image")
    done = command(*arguments(folder, "out"))
    assert done.status == 0, done.stderr
    assert "1 of 65 probe images could not be read and were left out (0003_broken.png)" in (
        done.stderr
    )
    record = json.loads((folder / "out" / "run.json").read_text())["record"]
    assert record["probe"]["images"] == 64
    assert record["probe"]["skipped"][0][0] == "0003_broken.png"
    assert "0003_broken.png" in (folder / "out" / "report.html").read_text()


def test_many_bad_images_stop_the_run_unless_allowed(command: Command, folder: Path) -> None:
    for number in range(5):
        (folder / "images" / f"9{number}.jpg").write_bytes(b"")
    stopped = command(*arguments(folder, "out"))
    assert stopped.status == 2
    assert "more than 5% of the 69 probe images cannot be read" in stopped.error
    assert not (folder / "out" / "run.json").exists()
    assert command(*arguments(folder, "out", "--allow-bad")).status == 0


def test_memory_that_runs_out_halves_the_batch(command: Command, folder: Path) -> None:
    call = arguments(folder, "out")
    call[1] = f"{HERE / 'tiny.py'}:hungry"
    refused = command(*call, "-b", 32)
    assert refused.status == 3
    assert (
        refused.error == "memory ran out with batches of 32; use -b auto or a smaller --batch-size"
    )
    done = command(*call)
    assert done.status == 0, done.stderr
    record = json.loads((folder / "out" / "run.json").read_text())["record"]
    assert record["settings"]["batch_size_used"] == 4


def test_a_scripted_model_sorts(command: Command, folder: Path) -> None:
    words = ["red", "green", "blue", "cyan"]
    script = folder / "script.jsonl"
    script.write_text(
        json.dumps({"sort": dict.fromkeys(words, "material")})
        + "\n"
        + json.dumps({"match": "paragraph", "reply": "Nothing that is in the facts 12345."})
        + "\n"
    )
    done = command(*arguments(folder, "out", "--llm", f"scripted:{script}"))
    assert done.status == 0, done.stderr
    profile = json.loads((folder / "out" / "profile.json").read_text())
    assert profile["total"]["counts"]["material"] == 7
    run = json.loads((folder / "out" / "run.json").read_text())
    assert run["sorting"]["sorter"].startswith("scripted")
    # The model's summary names a number that is no fact; the fixed template stands in for it.
    assert "12345" not in run["summary"]


@pytest.mark.browser
def test_the_report_of_a_run_works_in_a_browser(command: Command, folder: Path) -> None:
    command(*arguments(folder, "out"))
    with chromium() as browser, opened(browser, folder / "out" / "report.html") as view:
        text = view.page.inner_text("body")
        assert "yellow" in text or "red" in text
        assert view.page.locator("h1").count() == 1
        assert view.complaints == []
        assert view.strange_requests == []


def test_an_option_may_come_from_a_file_or_the_environment(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "profiler.toml").write_text("[run]\nthreshold = 99.0\nnull-draws = 50\n")
    call = [a for a in arguments(folder, "out") if a not in ("--threshold", 0.1)]
    command("--config", folder / "profiler.toml", *call)
    run = json.loads((folder / "out" / "run.json").read_text())
    assert (run["threshold"]["value"], run["record"]["similarity"]["null_draws"]) == (99.0, 50)
    monkeypatch.setenv("PROFILER_RUN_THRESHOLD", "98")
    command(*call)
    assert json.loads((folder / "out" / "run.json").read_text())["threshold"]["value"] == 98
    command(*arguments(folder, "out"))  # flags win
    assert json.loads((folder / "out" / "run.json").read_text())["threshold"]["value"] == 0.1


@pytest.mark.parametrize(
    ("more", "draws"),
    [
        ((), 0),  # other images confirm the labels
        (("--null-draws", 40), 40),
        (("--threshold", "null"), 5000),
        (("--threshold", 0.1), 5000),
        (("--limit", 40), 5000),  # too few images to confirm anything
    ],
)
def test_random_units_are_scored_only_where_scores_are_cut_or_p_values_asked_for(
    command: Command, folder: Path, more: tuple[object, ...], draws: int
) -> None:
    call = [a for a in arguments(folder, "out") if a not in ("--threshold", 0.1)]
    assert command(*call, *more).status == 0
    run = json.loads((folder / "out" / "run.json").read_text())
    assert run["record"]["similarity"]["null_draws"] == draws
    cells = [row["p_value"] for row in rows(folder / "out") if row["dead"] == "0"]
    assert all(cells) if draws else not any(cells)


@pytest.mark.parametrize("more", [("--threshold", "null"), ("--limit", 40)])
def test_a_threshold_from_no_random_units_is_refused_at_once(
    command: Command, folder: Path, more: tuple[object, ...]
) -> None:
    call = [a for a in arguments(folder, "out") if a not in ("--threshold", 0.1)]
    done = command(*call, *more, "--null-draws", 0)
    assert done.status == 2
    assert "--null-draws 0 leaves nothing to set the threshold by; give --threshold" in done.stderr
    assert not (folder / "out").exists()


class TestEvaluation:
    """``--evaluate``: numbers as one would work them out from the images."""

    MORE = ("--evaluate", "--bootstrap", 4, "--seed", 5)

    def test_every_number_follows_from_the_images(self, command: Command, folder: Path) -> None:
        done = command(*arguments(folder, "out", *self.MORE, "--json"))
        assert done.status == 0, done.stderr
        words = COLOURS.split()
        pictures = [Image.open(path) for path in sorted((folder / "images").iterdir())]
        batch = torch.stack([to_tensor()(picture) for picture in pictures])
        net, vlm = TinyNet().eval(), TinyVLM()
        with torch.no_grad():
            layers = {"color": net.color(batch).mean(dim=(2, 3)).numpy(), "fc": net(batch).numpy()}
            images = vlm.embed_images(batch).numpy()
        cosines = images @ vlm.embed_texts(words).T

        order = np.random.default_rng(5).permutation(64)
        seen, held = np.sort(order[32:]), np.sort(order[:32])
        draws = [np.sort(np.random.default_rng([5, i]).integers(64, size=64)) for i in range(4)]
        found = {
            (row["layer"], int(row["unit"])): row for row in rows(folder / "out", "quality.csv")
        }
        assert len(found) == 8
        correlations = []
        for layer, activations in layers.items():
            whole = soft_wpmi(activations, cosines, np.arange(64), 6)
            half = soft_wpmi(activations, cosines, seen, 3)
            again = [soft_wpmi(activations, cosines, sample, 6) for sample in draws]
            for unit in range(4):
                row = found[layer, unit]
                if (layer, unit) == ("color", 3):  # dead: undefined is no zero
                    assert set(list(row.values())[2:]) == {""}
                    continue
                assert row["description"] == words[whole[unit]]
                assert row["held_out_description"] == words[half[unit]]
                a, c = activations[held, unit], cosines[held, half[unit]]
                correlations.append(np.corrcoef(a, c)[0, 1])
                assert float(row["correlation"]) == pytest.approx(correlations[-1], abs=2e-6)
                truth = a >= np.sort(a)[-5]
                assert int(row["positives"]) == truth.sum() == 5
                auprc = average_precision_score(truth, c)
                assert float(row["auprc"]) == pytest.approx(auprc, abs=2e-6)
                chance = (4 + 27 * sum(1 / i for i in range(1, 33)) / 32) / 31
                assert float(row["chance"]) == pytest.approx(chance, abs=2e-6)
                drawn = [words[labels[unit]] for labels in again]
                kept = drawn.count(row["description"])
                assert float(row["survival"]) == kept / 4
                others = {row[f"other_{i}"]: row[f"draws_{i}"] for i in range(1, 6)}
                others.pop("", None)
                assert {word: int(times) for word, times in others.items()} == {
                    word: drawn.count(word) for word in drawn if word != row["description"]
                }
        quality = json.loads(done.stdout)["quality"]
        assert quality["total"]["all"]["labelled"] == 7
        median = quality["total"]["all"]["correlation"]["median"]
        assert median == pytest.approx(np.median(correlations), abs=1e-6)
        assert (quality["held_out"], quality["draws"], quality["seed"]) == (32, 4, 5)
        assert [layer["layer"] for layer in quality["layers"]] == ["color", "fc"]

    def test_the_record_says_how_it_was_measured(self, command: Command, folder: Path) -> None:
        done = command(*arguments(folder, "out", *self.MORE, "--json"))
        record = json.loads((folder / "out" / "run.json").read_text())["record"]
        assert record["evaluation"] == {
            "draws": 4, "held_out_share": 0.5, "held_out": 32, "positive_share": 0.05, "top": 3,
            "seed": 5,
        }  # fmt: skip
        report = (folder / "out" / "report.html").read_text()
        for words in ("32 of the 64 probe images", "(seed 5)", "with top lists of 3", "4 times"):
            assert words in report.replace("\u202f", " ")
        # Every number of the output is a number: undefined is null.
        json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))

    def test_workers_do_not_change_it(
        self, command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command(*arguments(folder, "one", *self.MORE))
        monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder / "another cache"))
        command(*arguments(folder, "two", *self.MORE, "-j", 2))
        for name in ("quality.csv", "quality.safetensors", "descriptions.csv"):
            one, two = folder / "one" / name, folder / "two" / name
            assert one.read_bytes() == two.read_bytes()

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_any_similarity(self, command: Command, folder: Path, similarity: str) -> None:
        call = [a for a in arguments(folder, "out", *self.MORE) if a not in ("--top", 6)]
        done = command(*call, "--similarity", similarity)
        assert done.status == 0, done.stderr
        run = load_run(folder / "out")
        color = run.quality[0]
        np.testing.assert_array_equal(color.label, run.layers[0].concept[:, 0])
        assert (color.held_out.correlation[:3] > 0.5).all()
        assert np.isnan(color.held_out.correlation[3])

    def test_sorting_anew_keeps_it_and_a_run_without_it_leaves_none(
        self, command: Command, folder: Path
    ) -> None:
        command(*arguments(folder, "out", *self.MORE))
        before = {name: (folder / "out" / name).read_bytes()
                  for name in ("quality.csv", "quality.safetensors")}  # fmt: skip
        quality = load_run(folder / "out").quality
        vlm = ("--vlm", TINY[2])
        for more in ((), ("--out", folder / "copy")):
            done = command("categorize", folder / "out", *vlm, *more, "--json")
            assert done.status == 0, done.stderr
            assert json.loads(done.stdout)["quality"]["held_out"] == 32
        for place in ("out", "copy"):
            assert "Do the labels hold" in (folder / place / "report.html").read_text()
            for name, content in before.items():
                assert (folder / place / name).read_bytes() == content
            for one, other in zip(quality, load_run(folder / place).quality, strict=True):
                for part in ("held_out", "permuted", "stability"):
                    assert_same(vars(getattr(one, part)), vars(getattr(other, part)))
        done = command(*arguments(folder, "out", "--json"))
        assert "quality" not in json.loads(done.stdout)
        assert not list((folder / "out").glob("quality.*"))
        assert load_run(folder / "out").quality == ()
        assert "Do the labels hold" not in (folder / "out" / "report.html").read_text()

    def test_files_of_an_earlier_version_are_read(self, command: Command, folder: Path) -> None:
        command(*arguments(folder, "out", *self.MORE))
        quality, file = load_run(folder / "out").quality, folder / "out" / "quality.safetensors"
        save_file({k.replace("permuted", "dealt"): v for k, v in load_file(file).items()}, file)
        for one, other in zip(quality, load_run(folder / "out").quality, strict=True):
            assert_same(vars(one.permuted), vars(other.permuted))

    def test_a_missing_file_is_told(self, command: Command, folder: Path) -> None:
        command(*arguments(folder, "out", *self.MORE))
        (folder / "out" / "quality.safetensors").unlink()
        done = command("categorize", folder / "out", "--vlm", TINY[2])
        assert (done.status, "'quality.safetensors' is missing" in done.error) == (2, True)

    def test_what_cannot_be_evaluated_is_refused(self, command: Command, folder: Path) -> None:
        done = command(*arguments(folder, "out", "--bootstrap", 5))
        assert (done.status, "--bootstrap 5 belongs to --evaluate" in done.error) == (2, True)
        done = command(*arguments(folder, "out", "--evaluate", "--top", 2, "--limit", 5))
        assert (done.status, "at least 6 readable images" in done.error) == (2, True)
        assert command(*arguments(folder, "out", "--evaluate", "--bootstrap", 0)).status == 2
        assert not (folder / "out" / "run.json").exists()


def soft_wpmi(activations: Any, cosines: Any, sample: Any, top: int) -> Any:
    """The formula as it is written, on the images of a sample."""
    a, p = activations[sample].astype(float), cosines[sample].astype(float)
    q = np.exp(10 * p) / np.exp(10 * p).sum(axis=1, keepdims=True)
    weights = 0.998 - np.arange(top) / top * (0.998 - 0.97)
    alive = np.ptp(a, axis=0) > 0
    lists = np.argsort(-a, axis=0, kind="stable")[:top].T
    evidence = np.log(1 + weights[None, :, None] * (q[lists] - 1) + 1e-7).sum(axis=1)
    prior = np.log(np.exp(evidence[alive]).sum(axis=0)) - np.log(alive.sum())
    return np.where(alive, (evidence - prior).argmax(axis=1), -1)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
        assert type(values) is type(other[name])


class TestBadInput:
    """One clear line, no traceback, nothing half-written."""

    @pytest.mark.parametrize(
        ("change", "status", "message"),
        [
            ({1: "resnet5"}, 2, "unknown model 'resnet5'; near names: resnet50"),
            ({1: "nowhere.py:make"}, 2, "there is no file 'nowhere.py'"),
            ({1: f"{HERE / 'tiny.py'}:subjekt"}, 2, "near names: subject"),
            ({1: f"{HERE / 'tiny.py'}:not_a_pair"}, 2, "must return (model, preprocess)"),
            ({1: f"{HERE / 'tiny.py'}:nan"}, 2, "NaN or infinite activations"),
            ({1: f"{HERE / 'tiny.py'}:ragged"}, 2, ""),
            ({3: "clip"}, 2, "unknown VLM 'clip'"),
            ({3: "open_clip:ViT-B-16"}, 2, "lacks its weights"),
            ({3: "open_clip:ViT-B-15/openai"}, 2, "near names: ViT-B-16"),
            ({3: "open_clip:ViT-B-16/opena"}, 2, "near names: openai"),
            ({5: "imagenete"}, 2, "near names: imagenette"),
            ({5: "no/such/folder"}, 2, "does not exist"),
            ({7: "comon-3k"}, 2, "near names: common-3k"),
        ],
    )  # fmt: skip
    def test_a_wrong_name(
        self, command: Command, folder: Path, change: dict[int, str], status: int, message: str
    ) -> None:
        call = arguments(folder, "out")
        for place, value in change.items():
            call[place] = value
        if "nan" in str(call[1]):
            write_images(folder / "images", 1, colors=("black",))
            from PIL import Image

            Image.new("RGB", (16, 16), "black").save(folder / "images" / "0000_red.png")
        if "ragged" in str(call[1]):
            from PIL import Image

            Image.new("RGB", (20, 16), "red").save(folder / "images" / "0001_green.png")
        done = command(*call)
        assert (done.status, message in done.error) == (status, True), done.stderr
        assert not (folder / "out" / "run.json").exists()

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--layers", "colour"], "near names: color"),
            (["--layers", "color,nothing.*"], "unknown layer"),
            (["--batch-size", "many"], "neither auto nor a whole number"),
            (["--batch-size", "0"], "neither auto nor a whole number"),
            (["--top", "0"], "Invalid value for '--top'"),
            (["--similarity", "cosin"], "unknown similarity 'cosin'"),
            (["--precision", "bf8"], "unknown precision 'bf8'; known: fp32, bf16, fp16"),
            (["--precision", "fp16", "--device", "cpu"], "a CPU has bf16"),
            (["--top", "65"], "--top 65 needs at least as many readable images, not 64"),
            (["--limit", "0"], "--limit must be at least 1"),
            (["--threshold", "high"], "'high' is no finite number"),
            (["--device", "gpu"], "unknown device 'gpu'"),
            (["--llm", "scripted:nowhere.jsonl"], "nowhere.jsonl"),
            (["--categories", "nowhere.txt"], "nowhere.txt"),
            (["--max-report-mb", "0.001"], "report"),
            (["--unknown-option"], "No such option"),
        ],
    )
    def test_a_wrong_option(
        self, command: Command, folder: Path, more: list[str], message: str
    ) -> None:
        done = command(*arguments(folder, "out", *more))
        assert done.status in (2, 3)
        assert message in done.error
        assert not (folder / "out" / "run.json").exists()

    def test_an_empty_folder(self, command: Command, folder: Path) -> None:
        (folder / "empty").mkdir()
        call = arguments(folder, "out")
        call[5] = folder / "empty"
        done = command(*call)
        assert done.status == 2
        assert "no images in" in done.error

    def test_an_empty_concept_file(self, command: Command, folder: Path) -> None:
        (folder / "colours.txt").write_text("\n  \n# nothing\n")
        done = command(*arguments(folder, "out"))
        assert done.status == 2
        assert "holds no concept" in done.error

    def test_an_unwritable_output(self, command: Command, folder: Path) -> None:
        (folder / "file").write_text("")
        done = command(*arguments(folder, "file/out"))
        assert done.status == 3
        assert "cannot write" in done.error

    def test_weights_that_cannot_be_downloaded(
        self, command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A port on which nothing listens stands in for a closed network.
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
        monkeypatch.setenv("no_proxy", "")
        call = arguments(folder, "out")
        call[1] = "resnet18"
        done = command(*call)
        assert done.status == 3
        assert "resnet18" in done.error
        assert "download.pytorch.org" in done.error
        assert "offline" in done.error

    def test_the_real_process_gives_the_same_status(self, folder: Path) -> None:
        env = {**os.environ, "PROFILER_CACHE_DIR": str(folder / "cache")}
        done = in_own_process("run", "resnet5", "--probe", "synthetic", env=env)
        assert done.status == 2
        assert done.error.startswith("unknown model 'resnet5'")
