"""What every story may use, and what knows none of them. No torch.

::

    arrays.py       the kinds of arrays that signatures name, and the checks of rows
    statistics.py   intervals, exact tests, correlation, precision
    store.py        results by content hash; whole files or none
    categories.py   the categories that words are sorted into
    json_text.py    the one way to write and to read our JSON
    text.py         text as people save it: encodings, names, tables
    wording.py      counts and lists in sentences
    memory.py       memory that was freed is used again
    resources.py    the text files that ship with the package
"""
