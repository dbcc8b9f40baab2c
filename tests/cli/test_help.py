"""Help is complete and short: every command in order, every option in a panel, an example each."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from profiler.cli import app
from profiler.cli.help import ORDER, OWN, PANELS, first_sentence, panel_of

GROUP: Any = typer.main.get_command(app)


def commands(group: Any = GROUP, before: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


EVERY = dict(commands())


def shown(arguments: str) -> str:
    """What a command prints, by the program's own parser."""
    context = GROUP.make_context("profiler", shlex.split(arguments), resilient_parsing=True)
    command = GROUP
    for name in shlex.split(arguments):
        command = command.commands[name]
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    return str(command.get_help(context))


def test_commands_are_listed_in_the_order_of_use_by_whole_sentences() -> None:
    text = shown("")
    listed = re.findall(r"^  ([a-z]+)  ", text.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(ORDER) == sorted(GROUP.commands, key=ORDER.index)
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("name", EVERY)
def test_help_begins_with_a_sentence_and_ends_with_examples(name: str) -> None:
    text = shown(name)
    assert first_sentence(EVERY[name]).endswith(".")
    assert len(first_sentence(EVERY[name])) <= 88
    assert "env var" not in text
    *_, examples = text.partition("Examples:\n")
    assert all(line.startswith(f"  profiler {name}") for line in examples.splitlines())
    assert examples


@pytest.mark.parametrize("name", EVERY)
def test_examples_are_calls_that_the_program_understands(name: str) -> None:
    for line in EVERY[name].epilog.splitlines():
        words = shlex.split(line)[1 + len(name.split()) :]
        EVERY[name].make_context(name, words)


def test_every_option_stands_in_the_panel_that_it_has_everywhere() -> None:
    options = {
        option: panel_of(parameter)
        for command in EVERY.values()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert set(PANELS) <= set(options), "a panel names no option that is gone"
    assert options["--llm"] == "Language model"
    assert options["--fail-on"] == OWN
    text = shown("run")
    places = [text.index(f"\n{panel}:") for panel in (OWN, *dict.fromkeys(PANELS.values()))]
    assert places == sorted(places)


@pytest.mark.parametrize("name", [name for name in EVERY if "llm" in str(EVERY[name].params)])
def test_the_language_model_is_described_for_the_command(name: str) -> None:
    told = next(p.help for p in EVERY[name].params if "--llm" in p.opts)
    sorts = name in ("run", "compare", "categorize", "import", "calibrate")
    assert ("sorts labels" in told) == sorts
    assert ("propose" in told) == (name in ("debug", "guard fit"))


def test_variables_of_the_environment_are_named_once() -> None:
    text = shown("")
    for name in ("PROFILER_RUN_LIMIT", "PROFILER_CACHE_DIR", "OPENAI_API_KEY", "HF_HOME"):
        assert text.count(name) == 1
