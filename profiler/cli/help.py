"""How help is laid out: commands in the order of use, options in panels, an example each."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

ORDER = (
    *("run", "compare", "debug", "guard", "check", "mine", "rate", "calibrate", "ask"),
    *("layers", "drivers", "try", "vlms", "categorize", "import", "scenes", "cache", "mcp"),
)
"""The commands in the order in which one comes to need them."""

OWN = "Options"
"""The panel of what only this command is about."""

_PANELS = {
    "Model": "layers pool checkpoint checkpoint-key partial weights preprocess head",
    "Data": "data probe limit classes trust-labels attack eps attack-steps corrupt annotations "
    "experiment scenes table allow-bad",
    "Concepts": "vlm concepts concepts-from propose-concepts similarity top null-draws",
    "Language model": "llm llm-base-url llm-refresh llm-lenient llm-concurrency votes categories "
    "prompts",
    "Compute": "batch-size workers device precision compile seed keep-activations engine address "
    "ray-cpus ray-gpus shard",
    "Output": "out json date max-report-mb report-dir",
}
PANELS: Mapping[str, str] = {
    f"--{option}": panel for panel, options in _PANELS.items() for option in options.split()
}
"""By option, the panel that it stands in; all others are the command's own."""

ENVIRONMENT = """\
An option may also be given as an environment variable, PROFILER_COMMAND_OPTION:
PROFILER_RUN_LIMIT=100 stands for --limit 100 of profiler run. Other variables:
PROFILER_CACHE_DIR is the folder for results that are kept, OPENAI_API_KEY and
OPENAI_BASE_URL belong to --llm, HF_HOME and TORCH_HOME are where weights are
downloaded to."""


class Command(TyperCommand):
    """A command whose options stand in panels; its epilog is a line an example."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: D102
        return _without_variables(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: D102
        panels: dict[str, list[Any]] = {"Arguments": [], OWN: [], **{name: [] for name in _PANELS}}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                panels[panel_of(parameter)].append(record)
        for name, records in panels.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: D102
        _as_it_stands(formatter, "Examples", self.epilog)


class Commands(TyperGroup):
    """The commands in the order of the story; no option of any takes NaN or an infinite number.

    Python reads both as floats, and NaN lies within every range: all comparisons with it are
    false.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for command in self.commands.values():
            for parameter in command.params:
                parameter.callback = parameter.callback or _finite

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: D102
        return _without_variables(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: D102
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else 0)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each with the whole first sentence of its help."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, first_sentence(self.commands[name])) for name in self.list_commands(ctx)]
            )

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: D102
        _as_it_stands(formatter, "Environment", self.epilog)


class App(typer.Typer):
    """A group of commands, laid out as above."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            cls=Commands,
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            **given,
        )

    def command(  # type: ignore[override]
        self, name: str | None = None, *examples: str
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Decorate a command.

        Args:
            name: of the command; None: that of the function.
            examples: how it is called, a line each.
        """
        return super().command(name, cls=Command, epilog="\n".join(examples) or None)


def _without_variables(parameters: list[Any]) -> list[Any]:
    """Their environment variables are named once, at the end of ``profiler --help``."""
    for parameter in parameters:
        parameter.show_envvar = False
    return parameters


def panel_of(parameter: Any) -> str:
    """The panel that an option or an argument stands in."""
    if parameter.param_type_name == "argument":
        return "Arguments"
    return next((PANELS[name] for name in parameter.opts if name in PANELS), OWN)


def first_sentence(command: Any) -> str:
    """What a command does, in one sentence."""
    text = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) ", text, maxsplit=1)[0]


def _as_it_stands(formatter: Any, title: str, text: str | None) -> None:
    if text:
        with formatter.section(title):
            for line in text.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _finite(context: Any, parameter: Any, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number", ctx=context, param=parameter)
    return value
