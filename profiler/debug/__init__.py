"""Why does a classifier fail? Encoder or head, and on which concepts, from checked facts.

::

    debug.py             the story, in straight lines
    encoder_or_head.py   criteria that attribute an error to one of the two
    result.py            a finished diagnosis; files.py: on disk
    facts.py             facts for the narrative
    page.py              the text of the page
    view.py              its layout; charts.py and data.py are parts of it
"""
