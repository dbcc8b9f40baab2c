"""Concepts as linear rows in a network's features.

::

    space.py        the linear alignment with the VLM's space; "a stronger than b" as w · z + c > 0
    heatmap.py      which concept is stronger than which; how correct and incorrect images differ
    attributes.py   default concepts that separate classes
    proposing.py    … proposed by a language model
"""
