"""The application itself: what every command shares, and how the outcome becomes an exit status."""

import logging
import os
import re
import shlex
import sys
import tempfile
import tomllib
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from profiler import __version__
from profiler.cli.help import ENVIRONMENT, App
from profiler.core.memory import keep_freed_memory
from profiler.errors import INTERNAL, InputError, ProfilerError, failure_of

app = App(
    name="profiler",
    help="State in words what a vision network has learned and where it fails.",
    epilog=ENVIRONMENT,
    add_completion=True,
    context_settings={"auto_envvar_prefix": "PROFILER", "help_option_names": ["-h", "--help"]},
)


@app.callback()
def _main(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with options: one table for each command.", is_eager=True),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print warnings and errors only.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            is_eager=True,
            callback=lambda v: _show_version(v),
        ),
    ] = False,
) -> None:
    # Only this package's own log: what goes wrong elsewhere is said once, in our own words.
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    logging.getLogger().addHandler(logging.NullHandler())
    log = logging.getLogger("profiler")
    log.handlers = [logging.StreamHandler(sys.stderr)]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    if config is not None:
        context.default_map = _read_config(config)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"config file {str(path)!r} cannot be read: {error}") from error
    return _options_of(cast("Any", typer.main.get_command(app)), content, str(path), ())


def _options_of(
    group: Any, content: dict[str, Any], path: str, within: tuple[str, ...]
) -> dict[str, Any]:
    """The options of a group's commands, by command; a command may be a group itself."""
    found: dict[str, Any] = {}
    for name, options in content.items():
        title = ".".join((*within, name))
        if name not in group.commands or not isinstance(options, dict):
            raise InputError(
                f"config file {path!r}: {title!r} is no command; known: "
                + ", ".join(sorted(".".join((*within, known)) for known in group.commands))
            )
        command = group.commands[name]
        if hasattr(command, "commands"):
            found[name] = _options_of(command, options, path, (*within, name))
            continue
        # By their names on the command line, which may differ from those in the code.
        known = {
            opt.lstrip("-").replace("-", "_"): parameter.name
            for parameter in command.params
            for opt in parameter.opts
        }
        found[name] = {}
        for option, value in options.items():
            plain = option.replace("-", "_")
            if plain not in known:
                raise InputError(f"config file {path!r}: [{title}] has no option {option!r}")
            found[name][known[plain]] = value
    return found


# typer carries a click of its own, and names only some of its exceptions.
_ClickError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


def main() -> NoReturn:
    """Run the command line and leave with the exit status of the outcome."""
    keep_freed_memory()
    warnings.filterwarnings("ignore")  # other packages' advice to their developers
    try:
        status = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except ProfilerError as error:
        status = _fail(str(error), error.exit_status)
    except _ClickError as error:
        status = _fail(cast("Any", error).format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = _fail("interrupted", 130)
    except BrokenPipeError:
        status = _unheard()
    except SystemExit as error:
        # What typer makes of a reader that has gone away would read as a check that failed.
        gone = isinstance(error.__context__, BrokenPipeError)
        status = _unheard() if gone else cast("int", error.code)
    except Exception as error:
        failure = failure_of(error)
        if failure is not None:
            status = _fail(str(failure), failure.exit_status)
        else:
            status = _fail(_own_fault(error), INTERNAL)
    sys.exit(status)


def _fail(message: str, status: int) -> int:
    # One line, whatever a library put into its message.
    with suppress(BrokenPipeError):
        typer.echo(f"profiler: error: {' '.join(message.split())}", err=True)
    return status


def _unheard() -> int:
    """Nobody reads the output any more; nothing is said when Python flushes it at the end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 3


def _own_fault(error: Exception) -> str:
    """One line that asks for a report, and a file with the traceback for it."""
    text = (
        f"profiler {__version__}, Python {sys.version.split()[0]}, {sys.platform}\n"
        f"{shlex.join(['profiler', *sys.argv[1:]])}\n\n{''.join(traceback.format_exception(error))}"
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="profiler-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(_without_secrets(text))
        where = f"please report it with the file {file.name}"
    except OSError:
        where = "please report it; its traceback could not be written to a file"
    first = str(error).strip().partition("\n")[0]
    said = _without_secrets(f"{type(error).__name__}: {first}")
    return f"internal error: {said[:200]}; this is a fault of profiler, not yours: {where}"


def _without_secrets(text: str) -> str:
    """Without the values of variables that hold a secret, and without passwords in addresses."""
    for name, value in os.environ.items():
        if (
            re.search(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", name, re.I)
            and len(value.strip()) >= 8
        ):
            for shape in (value.strip(), repr(value.strip())[1:-1]):
                text = text.replace(shape, f"[{name}]")
    return re.sub(r"(?<=://)[^\s/'\"]*@", "", text)
