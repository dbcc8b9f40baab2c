"""Does it respect what I demand? Specifications in concepts: checked, proved, mined.

::

    language/   the language: tree, parser, printer, names
    verify/     on images with a rate and an interval, on regions with a proof; certificates
    world.py    what specs are held against
    check.py    the story of a check
    mine.py     the story of specs proposed from images
    result.py   what was found
    page.py     … told in sentences
    view.py     … laid out
"""
