"""What does each layer see? Units labelled, labels judged, words sorted, layers counted.

::

    run.py          the story, in straight lines
    labels.py       unit labels and their null distribution
    explain.py      range explanations: a few words that predict a unit on all images
    similarity/     the five similarities, one signature; the compiled kernel
    threshold.py    the cut: which labels are trusted
    quality.py      how far labels hold: held-out prediction, survival
    evaluation.py   labels chosen anew on samples of the images
    sorting/        words into categories: by a language model, or by examples
    counts.py       counts by layer and category; they add up
    result.py       a finished run, and the folder that holds it
    importing.py    a run from a table of labels
    facts.py        facts for the narrative
    page.py         … told in sentences
    view.py         … laid out; charts.py, range_view.py and quality_view.py are parts of it
"""
