"""Can I trust it on this input? A detector of misclassified and adversarial inputs at run time.

::

    fit.py          fits a guard on labelled images
    score.py        scores images
    assess.py       assesses a guard on images that it was not fitted on
    guard.py        a guard: saved, loaded, wrapped around a network
    runtime.py      its score, computed in the network's forward pass
    answers.py      encodings and logits of images
    rules/          detection methods: softmax, concepts, baselines, combinations
    thresholds.py   thresholds with a guarantee
    metrics.py      AUROC, AUPR, FPR@95, AURC, coverage at a risk; bootstrap
    drift.py        whether a stream differs from the reference
    parts.py        disjoint parts of images
    result.py       a finished assessment
    page.py         the text of its page
    view.py         its layout
"""
