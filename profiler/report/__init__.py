"""From results to one self-contained HTML file.

::

    page.py          what a report shows: plain frozen dataclasses, filled by ``run``
    charts.py        geometry of the pictures: counts and scores become percentages of a box
    text.py          numbers as text
    document.py      template + inlined style and script + data blocks → one HTML string
    columns.py       what the scripts read: arrays as short JSON, thumbnails that fit
    profile_page.py  the profile report
    quality_section.py  … how well its labels hold, where that was measured
    compare_page.py  the comparison of runs; its pairs, charts and timeline stand in
                     compare_pair.py, compare_charts.py and compare_growth.py
    check_page.py    specs held against a classifier
    debug_page.py    the diagnosis of a classifier; its charts and what its script reads stand in
                     debug_charts.py and debug_data.py

Every report extends ``templates/base.html`` and shares its stylesheet and script. Data come first
and markup last: templates loop and print, they do not calculate.
"""
