"""What all pages share: from data to one self-contained HTML file.

::

    document.py   template + inlined style and script + data blocks → one HTML string
    templates/    the base that every page extends, its style and script, charts as macros
    charts.py     pieces of pictures: segments, ticks, swatches
    columns.py    what the scripts read: arrays as short JSON, thumbnails that fit
    text.py       numbers as text

Data come first and markup last: templates loop and print, they do not calculate. A story's own
template, style and script lie in the story's folder.
"""
