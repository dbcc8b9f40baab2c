"""Words sorted into categories.

::

    categories.py   the categories, their descriptions and the file that holds them
    sorting.py      by a language model; every word exactly once
    exemplar.py     without one: by the examples nearest to a word
"""
