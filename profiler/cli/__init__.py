"""The command line: options → one call in :mod:`profiler.run` → a path printed.

::

    app.py        the application, its exit statuses, and the file of options
    terminal.py   progress bars and tables
    profile.py    run, scenes

Commands import what they need when they are called: ``--help`` must not wait for torch.
"""

from profiler.cli import profile
from profiler.cli.app import app, main

__all__ = ["app", "main", "profile"]
