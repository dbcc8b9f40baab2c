"""Can I trust it on this input? A detector of misclassified and adversarial inputs at run time.

::

    fit.py          a guard made from labelled images
    score.py        images scored
    assess.py       how good it is on images that took no part
    guard.py        a guard, saved, loaded and wrapped round a network
    runtime.py      its score beside the network's own pass
    answers.py      encodings, logits and embeddings of images
    rules/          what can be scored: softmax, concepts, baselines, both
    thresholds.py   where to cut, with a guarantee
    metrics.py      AUROC, AUPR, FPR@95, AURC, coverage at a risk; bootstrap
    drift.py        whether a stream has left the reference
    parts.py        disjoint parts of images
    result.py       what was found
    page.py         … told in sentences
    view.py         … laid out
"""
