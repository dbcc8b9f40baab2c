"""``python -m profiler`` is the command ``profiler``."""

from profiler.cli.app import main

main()
