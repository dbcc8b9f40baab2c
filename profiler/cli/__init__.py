"""The command line: options → one call in :mod:`profiler.run` → a path printed.

::

    app.py        the application, its exit statuses, and the file of options
    terminal.py   progress bars and tables
    words.py      categorize, import; the options of a language model
    profile.py    run, scenes
    people.py     rate, calibrate

Commands import what they need when they are called: ``--help`` must not wait for torch.
"""

from profiler.cli import people, profile, words
from profiler.cli.app import app, main

__all__ = ["app", "main", "people", "profile", "words"]
