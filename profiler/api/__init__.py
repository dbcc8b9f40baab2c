"""The Python interface, which ``profiler`` hands on: ``profiler.profile`` and the rest.

objects.py: from a name, or what the user has in memory, to what the stories take; classifiers.py:
the same of labelled images; stories.py and specs.py: one function a story; guards.py: the guard;
results.py and file_results.py: what they return, and how it shows in a notebook.
"""
