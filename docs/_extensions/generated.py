"""Pages written from the program: the command line, and the Python API.

Each takes the place of a comment in a page, such as ``<!-- commands -->``; :data:`FILLED` lists
them.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import typer

import profiler
import profiler.api
from profiler import cli
from profiler.api.results import ProfiledUnit, Result
from profiler.cli.help import OWN, PANELS, panel_of

DOCS = Path(__file__).parents[1]
STORIES = ("profile", "compare", "debug", "check", "mine")
"""The functions in the order in which one comes to need them."""
NOTEBOOKS = ("profile", "compare", "debug", "guard", "spec")
"""Likewise."""


def commands():
    """Every command in the order of ``profiler --help``: its name and click's object."""

    def walk(group, name):
        for part in group.list_commands(None):
            command = group.commands[part]
            yield f"{name} {part}", command
            if hasattr(command, "commands"):
                yield from walk(command, f"{name} {part}")

    return list(walk(typer.main.get_command(cli.app), "profiler"))


def markdown():
    """A section for each command."""
    return "\n".join(line for name, command in commands() for line in _section(name, command))


def _section(name, command):
    context = command.make_context(name, [], resilient_parsing=True)
    yield from (f"{'#' * name.count(' ')}# {name}", "", _prose(command.help or ""), "")
    if hasattr(command, "commands"):
        return
    usage = " ".join([name, *_usage(command, context)])
    yield from ("```text", usage, "```", "")
    if command.epilog:
        yield from ("For example:", "", "```text", command.epilog, "```", "")
    panels = {title: [] for title in ("Arguments", OWN, *PANELS.values())}
    for each in command.get_params(context):
        record = each.get_help_record(context)
        if record and each.name != "help":
            panels[panel_of(each)].append(_row(*record))
    for title, rows in panels.items():
        if rows:
            yield from (f"| {title} | |", "| --- | --- |", *rows, "")


def _usage(command, context):
    return [piece.strip("{}") for piece in command.collect_usage_pieces(context)]


def _row(names, told):
    """A row of a table; the notes in brackets at the end of a help text become sentences."""
    text, *notes = re.split(r"\s\s\[(.*?)\](?=\s\s\[|$)", told)
    limits = r"; (?=required$|x>=|[\d.]+<=x)"
    notes = [note for each in notes for note in re.split(limits, each) if note.strip()]
    sentences = [_prose(text), *(f"{_noted(each)}.".replace("….", "…") for each in notes)]
    # Braces and angles say what a word stands for; the kind of a number stands in its range.
    names = re.sub(r"[{}]| ?range(?=>)|list\[(?=\w)|(?<=\w)\](?=>)", "", names)
    cells = (" ".join(f"`{name}`" for name in names.split(" / ")), " ".join(sentences))
    return "| " + " | ".join(each.replace("|", r"\|") for each in cells) + " |"


def _noted(note):
    if least := re.fullmatch(r"x>=([\d.]+)", note):
        return f"At least {least[1]}"
    if bounds := re.fullmatch(r"([\d.]+)<=x<=([\d.]+)", note):
        return f"From {bounds[1]} to {bounds[2]}"
    return f"{note[0].upper()}{_prose(note[1:])}"


def _prose(text):
    """A help text as Markdown: what one types stands as code, and no sign is taken for markup."""
    parts = re.split(r"(`[^`]*`)", inspect.cleandoc(text))
    for i, part in enumerate(parts):
        if not part.startswith("`"):
            plain = re.sub(r"([*<\[$#])", r"\\\1", part)
            parts[i] = re.sub(r"(?<![\w-])(--[a-z][a-z-]*|'\S+')", r"`\1`", plain)
    return "".join(parts)


def public_names():
    """Directives for the names of the package, and for what its functions return."""
    for module in pkgutil.iter_modules(profiler.api.__path__):
        importlib.import_module(f"profiler.api.{module.name}")
    names = {name: getattr(profiler, name) for name in profiler.__all__}
    functions = [name for name, each in names.items() if not inspect.isclass(each)]
    stories = [name for name in STORIES if name in names]
    classes = [name for name, each in names.items() if inspect.isclass(each)]
    guards = [name for name in classes if not issubclass(names[name], Exception)]
    for name in guards:
        # As it is called here, not where it is defined.
        names[name].__name__ = names[name].__qualname__ = name
    results = [each for each in _below(Result) if not inspect.isabstract(each)]
    yield from ("## One function for each question", "", *_directives("function", stories))
    yield from ("## What goes in, and what was written", "")
    yield from _directives("function", [name for name in functions if name not in stories])
    yield from ("## The guard", "", *_directives("class", guards, members=True))
    watch = ".. autoclass:: profiler.callbacks.Watch"
    members = ("   :members:", "   :special-members: __call__")
    yield from ("## While a network trains", "", "```{eval-rst}", watch, *members, "```", "")
    yield from ("## Results", "", *_directives("class", [Result], members=True))
    yield from _directives("class", [*results, ProfiledUnit], members=True)
    yield from ("## Errors", "", "```{eval-rst}", ".. automodule:: profiler.errors", "```", "")


def _below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _directives(kind, wanted, members=False):
    for each in wanted:
        where = each if isinstance(each, str) else f"{each.__module__}:{each.__qualname__}"
        path = f"profiler.{each}" if isinstance(each, str) else where.replace(":", ".")
        yield from ("```{eval-rst}", f".. auto{kind}:: {path}")
        # What the classes of results say about themselves, each to the others, no user needs.
        own = ("   :members:", "   :exclude-members: KIND, NOUN, OPTIONAL", "")
        yield from own if members else ("",)
        yield from ("```", "")


def _story_docstring(app, what, name, obj, options, lines):
    """A package that can be called has the docstring of its function."""
    if what == "function" and hasattr(obj, "__wrapped__") and inspect.ismodule(obj):
        lines[:] = [*inspect.getdoc(obj.__wrapped__).splitlines(), ""]


def _notebooks():
    there = sorted(path.stem for path in (DOCS / "examples").glob("*.ipynb"))
    pages = sorted(there, key=lambda name: NOTEBOOKS.index(name) if name in NOTEBOOKS else 9)
    if not pages:
        return "*This build of the site is without the notebooks.*"
    return "\n".join(["```{toctree}", ":maxdepth: 1", "", *(f"examples/{p}" for p in pages), "```"])


def _gallery():
    if (DOCS / "_build" / "gallery" / "done.txt").exists():
        return ""
    return "*This build of the site is without the reports; `make gallery` makes them.*"


FILLED = {
    "<!-- commands -->": markdown,
    "<!-- public names -->": lambda: "\n".join(public_names()),
    "<!-- notebooks -->": _notebooks,
    "<!-- gallery -->": _gallery,
}


def _fill(app, docname, source):
    for comment, written in FILLED.items():
        if comment in source[0]:
            source[0] = source[0].replace(comment, written())
    # A number stays on one line with its per cent sign, with what it changes to, and with the star
    # that refers to a note.
    source[0] = re.sub(r"(?<=\d) (?=[%→]|\* \|)|(?<=→) (?=\d)", "\u00a0", source[0])


def setup(app):
    """Fill the pages as they are read; they are read anew whenever the site is built."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _story_docstring, priority=1)
    app.connect("env-get-outdated", lambda *_: ["command-line", "api", "notebooks", "gallery"])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
