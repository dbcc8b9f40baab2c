"""The command line: options → one call of a story → a path printed.

::

    app.py        the application, its exit statuses, and the file of options
    terminal.py   progress bars and tables
    words.py      categorize, import; the options of a language model
    subjects.py   layers; the options about the network under study
    images.py     the options about images and how they are read
    engines.py    the options about where the image pass is made
    drivers.py    drivers
    trying.py     try
    profile.py    run, scenes
    compare.py    compare
    classifiers.py   the options about classifiers and labelled images
    debug.py      debug
    guard.py      guard fit, score, eval
    spec.py       check, mine
    rate.py       rate, calibrate
    ask.py        ask and mcp
    cache.py      cache list, prune, clear, verify
    vlms.py       vlms

Commands import what they need when they are called: ``--help`` must not wait for torch.
"""

# Each adds its commands to the application.
from profiler.cli import (  # noqa: F401
    ask,
    cache,
    compare,
    debug,
    drivers,
    guard,
    profile,
    rate,
    spec,
    subjects,
    trying,
    vlms,
    words,
)
from profiler.cli.app import app, main

__all__ = ["app", "main"]
