"""``profiler ask`` from end to end."""

import io
import json
import re
from pathlib import Path
from typing import Any

import asked_results
import pytest
from browser import chromium, opened
from command import Command
from compare_samples import fake_comparison, fake_page
from llm_server import LLMServer
from scripted_models import LOOK, PRINTED, RIGHT, Model, call

import profiler
from profiler.ask.results import OpenResults
from profiler.ask.tools import ToolBox
from profiler.compare.view import render_compare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commanded")
    made = asked_results.profile(
        folder / "run",
        {
            "early": [["striped", "red"], ["red"], ["dotted"], [None]],
            "late": [["zebra", "striped"], ["truck"], ["beach"], ["zebra"]],
        },
        weak={"late": [3]},
        explained={"late": {0: [("striped", 0.5)]}},
    )
    asked_results.with_experiment(folder / "run", made)
    asked_results.diagnosis(folder / "debug")
    return folder


def answered(command: Command, folder: Path, *more: object, model: Model | None = None) -> Any:
    model = model or Model(LOOK, RIGHT)
    with LLMServer(model) as server:
        done = command("ask", folder / "run", "How many units of late are interpretable?",
                       "--llm", "m", "--llm-base-url", server.url, *more)  # fmt: skip
    assert not model.steps
    return done


def test_an_answer_with_its_facts_their_addresses_and_commands(
    command: Command, folder: Path
) -> None:
    done = answered(command, folder)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith(PRINTED)
    run = folder / "run"
    assert f"{run}/report.html#layer-2\n" in done.stdout
    (again,) = re.findall(r"^ +profiler (ask .+)$", done.stdout, re.MULTILINE)
    assert again == f"ask {run} --tool layer_profile layers=late"
    assert "3 of 4 units (75.0 %)" in command(*again.split()).stdout
    assert "each number a fact of the results" in done.stderr


def test_an_answer_is_verified_without_a_model(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    done = answered(command, folder, "--json")
    content = json.loads(done.stdout)
    assert content["answer"] == PRINTED
    assert [fact["value"] for fact in content["facts"]] == [3]
    file = tmp_path / "answer.json"
    file.write_text(done.stdout)
    assert "1 fact computed again: the answer holds" in command("ask", "--verify", file).stdout

    def with_change(change: Any) -> str:
        changed = json.loads(done.stdout)
        change(changed)
        file.write_text(json.dumps(changed))
        failed = command("ask", "--verify", file)
        assert failed.status == 1
        return failed.error

    wrong = with_change(lambda c: c["facts"][0].update(stated="4 of 4 units (100.0 %)"))
    assert "'4 of 4 units (100.0 %)' in the answer, '3 of 4 units (75.0 %)' now" in wrong
    assert "3 now" in with_change(lambda c: c["facts"][0].update(value=4))
    text = PRINTED.replace("3 of", "4 of")
    assert "not what its sentences" in with_change(lambda c: c.update(answer=text))
    lie = [content["sentences"][0].replace("late", "early")]
    assert "“early” is not what" in with_change(lambda c: c.update(sentences=lie))
    assert "no such fact" in with_change(lambda c: c["facts"][0].update(key="layer/9"))
    assert "unknown tool" in with_change(lambda c: c["facts"][0].update(tool="rm"))


def test_a_result_that_has_changed_since_is_noticed(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    done = answered(command, folder, "--json")
    file = tmp_path / "answer.json"
    file.write_text(done.stdout)
    asked_results.profile(tmp_path / "other", {"early": [["red"]], "late": [["zebra"]] * 4})
    failed = command("ask", tmp_path / "other", "--verify", file)
    assert failed.status == 1
    assert "has changed since" in failed.error
    assert "'4 of 4 units (100.0 %)' now" in failed.error
    assert command("ask", folder / "run", "--verify", file).status == 0
    file.write_text("{}")
    assert command("ask", "--verify", file).status == 2
    file.write_text('{"format": 1, "facts": [{}]}')
    assert "is damaged" in command("ask", "--verify", file).error


def test_a_transcript_holds_everything_also_of_a_failure(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "said.jsonl"
    lie = call("submit", sentences=["In late 99 units are interpretable."])
    done = answered(command, folder, "--transcript", file, model=Model(LOOK, lie, lie, lie))
    assert done.status == 4
    assert "99 is not a number" in done.error
    assert "99 units" not in done.stdout
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0] == {"question": "How many units of late are interpretable?"}
    assert lines[1]["calls"][0]["tool"] == "layer_profile"
    assert "interpretable units in “late”" in lines[2]["result"]
    assert "unanswered" in lines[-1]


def test_questions_one_after_the_other(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follow-up, a question without an answer, another one, and an empty line."""
    lie = call("submit", sentences=["It is 99."])
    model = Model(LOOK, RIGHT, lie, lie, lie, RIGHT)
    monkeypatch.setattr("sys.stdin", io.StringIO("How many?\nHow old?\nHow many again?\n\nno\n"))
    with LLMServer(model) as server:
        done = command("ask", folder / "run", "--llm", "m", "--llm-base-url", server.url)
    assert not model.steps
    assert done.status == 0
    assert done.stdout.count(PRINTED) == 2
    assert "99 is not a number" in done.stderr


def test_a_script_in_a_file(command: Command, folder: Path, tmp_path: Path) -> None:
    box = ToolBox(OpenResults.open([folder / "run"]), lambda _: None)  # type: ignore[arg-type,return-value]
    fact = box.call("layer_profile", {"layers": "late"}).facts[0]
    script = tmp_path / "script.jsonl"
    steps = [
        {"tool_calls": [{"name": "layer_profile", "arguments": {"layers": "late"}}]},
        {"tool_calls": [{"name": "submit", "arguments": {
            "sentences": [f"In late {{{fact.id}}} are interpretable."]}}]},
    ]  # fmt: skip
    script.write_text("\n".join(map(json.dumps, steps)))
    done = command("ask", folder / "run", "How many?", "--llm", f"scripted:{script}")
    assert done.stdout.startswith(PRINTED)
    assert "warning" not in done.stderr
    script.write_text("\n".join(map(json.dumps, [*steps, "more"])))
    done = command("ask", folder / "run", "How many?", "--llm", f"scripted:{script}")
    assert "the script holds 1 reply more" in done.stderr
    script.write_text(json.dumps({"tool_calls": [{"arguments": {}}]}))
    done = command("ask", folder / "run", "How many?", "--llm", f"scripted:{script}")
    assert done.status == 2
    assert "line 1" in done.error


def test_without_a_model_the_matching_facts_are_listed(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("ask", folder / "run", folder / "debug", "Why are ships taken for a beach?")
    assert done.status == 0
    assert done.stdout.startswith("Matched by the words of the question, without a language model")
    assert "30 of 90 images (33.3 %) of “ship” taken for “beach”" in done.stdout
    assert "--tool why_confused true=ship predicted=beach" in done.stdout
    found = json.loads(command("ask", folder / "run", "What drives early?", "--json").stdout)
    assert found["calls"][0]["arguments"]["by"] == "driver"
    assert found["facts"][0]["about"] == {"layer": "early", "factor": "color"}
    monkeypatch.setattr("sys.stdin", io.StringIO("Which units react to stripes?\n"))
    assert "unit 0 of “early”" in command("ask", folder / "run").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no finished result is named"),
        (["nowhere", "What?"], "no finished result is named"),
        (["run", "nowhere", "What?"], "'nowhere' is no folder"),
        (["run", " "], "the question is empty"),
        ([".", "What?"], "holds no finished result"),
        (["run", "--tool", "unit", "layer"], "'layer' is no argument of a tool; write name=value"),
        (
            ["run", "--tool", "unit", "layer=late", "unit=x"],
            "unit: Input should be a valid integer",
        ),
        (["run", "--tool", "units"], "unknown tool 'units'; near names: unit"),
        (["run", "--tool", "check_results"], "no check is open; profiler check makes one"),
        (["run", "What?", "--max-turns", "0"], "--max-turns"),
        (["--verify", "nowhere.json"], "cannot read 'nowhere.json'"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(folder)
    done = command("ask", *arguments)
    assert done.status == 2
    assert says in done.stderr


def test_mcp_says_what_is_wrong_before_it_serves(command: Command, tmp_path: Path) -> None:
    done = command("mcp", tmp_path)
    assert done.status == 2
    assert "holds no finished result" in done.error


@pytest.mark.browser
def test_the_addresses_of_facts_open_what_they_name(folder: Path) -> None:
    """In the pages that the stories write: each section is there, and the unit is open."""
    names = ["run", "debug"]
    box = ToolBox(OpenResults.open([folder / name for name in names]), lambda _: None)  # type: ignore[arg-type,return-value]
    page = folder / "run" / "report.html"
    facts = [
        fact
        for name, arguments in (
            ("describe_runs", {}), ("unit", {"layer": "late", "unit": 1}),
            *(("layer_profile", {"by": by, "limit": 20})
              for by in ("interpretable", "category", "label", "explained", "driver")),
            ("find_units", {"query": "zebra"}), ("what_responds", {"concept": "striped"}),
        )
        for fact in box.call(name, arguments).facts
        if fact.run == "R1"
    ]  # fmt: skip
    ids = set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
    assert {fact.address.partition("#")[2].partition("?")[0] for fact in facts} <= ids
    address = next(f.address for f in facts if f.stated.startswith("unit 1 of “late”"))
    with chromium() as browser, opened(browser, page) as view:
        view.page.goto(f"{page.as_uri()}#{address.partition('#')[2]}")
        view.page.reload()
        assert view.page.locator("#units .opened").count() == 1
        assert view.page.locator('#units .toggle[aria-expanded="true"]').inner_text() == "1"
        assert view.complaints == []


def test_the_sections_of_a_comparison_are_there(tmp_path: Path) -> None:
    asked_results.comparison(tmp_path)
    box = ToolBox(OpenResults.open([tmp_path]), lambda _: None)  # type: ignore[arg-type,return-value]
    html = render_compare(fake_page(fake_comparison()))
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    for name in ("compare_summary", "changed_words", "changed_units"):
        for fact in box.call(name, {"limit": 20}).facts:
            section = fact.address.partition("#")[2].partition("?")[0]
            assert section in ids or section in ("drivers", "ranges"), section


@pytest.mark.parametrize(
    ("make", "template", "calls"),
    [
        (asked_results.diagnosis, "debug/debug.html",
         [("confusions", {}), ("why_confused", {"true": "ship", "predicted": "beach"})]),
        (asked_results.guard, "guard/guard.html", [("guard_numbers", {})]),
        (asked_results.check, "spec/check.html",
         [("check_results", {}), ("check_results", {"spec": "sky-is-red"})]),
    ],
)  # fmt: skip
def test_the_sections_of_other_pages_are_there(
    tmp_path: Path, make: Any, template: str, calls: list[tuple[str, dict[str, str]]]
) -> None:
    make(tmp_path)
    box = ToolBox(OpenResults.open([tmp_path]), lambda _: None)  # type: ignore[arg-type,return-value]
    package = Path(profiler.__file__).parent
    places = ("report/templates/base.html", template)
    ids = {
        name
        for place in places
        for name in re.findall(r'\bid="([^"]+)"', (package / place).read_text(encoding="utf-8"))
    }
    for name, arguments in calls:
        for fact in box.call(name, arguments).facts:
            section = fact.address.partition("#")[2].partition("?")[0]
            # A spec has a section of its own, by its place among the specs.
            own = section in ("spec-0", "spec-1") and "{{ r.id }}" in ids
            assert section in ids or own, section
