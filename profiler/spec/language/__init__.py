"""Con_spec: what a vision model must respect, written down in words.

::

    model truck-finder
    classes truck, cat, dog
    concepts metallic = "a shiny metallic thing", ears, wheels
    set animals = {cat, dog}

    spec metal "trucks look metallic":
        predict(x, truck) => >(x, metallic, ears)
        require rate >= 95%

    spec ears: for c in animals: predict(x, c) => >(x, ears, wheels)

Rooms::

    tree.py      the tree: frozen dataclasses
    tokens.py    text → tokens; the error that points into the text
    parser.py    text → tree; the grammar, rule by rule
    printer.py   tree → text that reads back as the same tree
    names.py     what names mean; formulas without quantifiers

What a spec means, and whether it holds, is :mod:`profiler.spec.verify`'s matter.
"""
