"""Does it respect what I demand? Specifications in concepts: checked, proved, mined.

::

    language/   the language: tree, parser, printer, names
    verify/     on images with a rate and an interval, on regions with a proof; certificates
    world.py    what specs are checked on
    check.py    the story of a check
    mine.py     the story of specs proposed from images
    result.py   a finished check
    page.py     the text of its page
    view.py     its layout
"""
