"""Why is it wrong? Encoder or head, on which concepts, told from checked facts.

::

    debug.py             the story, in straight lines
    encoder_or_head.py   rules that say which of the two an error is due to
    result.py            a finished diagnosis; files.py: on disk
    facts.py             facts for the narrative
    page.py              … told in sentences
    view.py              … laid out; charts.py and data.py are parts of it
"""
