"""What changed between runs: shares by category, words, units, and how layers see the images.

::

    compare.py    the story: which runs, profiled first where they are not
    scoring.py    labels of all runs under one prior
    runs.py       one run as it is compared
    draws.py      labels on bootstrap draws of the images
    pairs.py      two runs side by side; what counts as a change
    shares.py     would so many units show it by chance? A permutation test
    noise.py      would the same network show it on other images?
    words.py      words gained and lost
    matching.py   which unit of the one is which of the other
    cka.py        how alike two layers see the images; centred.py: their centred rows
    counts.py     units by category, dead and uninterpretable ones included
    ranges.py     what changed in the range explanations
    rules.py      ``--fail-on``
    result.py     a comparison; files.py: as JSON and CSV
    facts.py      facts for the narrative
    page.py       … told in sentences
    view.py       … laid out; pair_view.py, growth_view.py and charts.py are parts of it

A difference counts as a change if it passes two questions: would so many units show it by chance,
and would the same network show it on other images?
"""
