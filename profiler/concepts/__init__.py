"""Concepts as linear rows in a network's features.

::

    space.py        the linear alignment into the VLM's space; "a stronger than b" as w · z + c > 0
    heatmap.py      which concept is stronger than which; what differs where it goes wrong
    attributes.py   concepts that tell classes apart, where nobody names any
    proposing.py    … proposed by a language model
"""
