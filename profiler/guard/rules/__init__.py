"""Which answers of a classifier not to trust: scores, thresholds, and how good they are.

::

    base.py         what a detector is; higher is stranger
    comparisons.py  cosine, likelihood: which concept is stronger than which
    strengths.py    strengths: how strong concepts are
    baselines.py    msp, max-logit, energy, entropy, mahalanobis, knn: nothing of concepts
    corrected.py    how sure the head may be, by held-out images
    combined.py     two detectors as one; which rules are on offer
    kernels.py      the combined score of a few inputs in one compiled call
    thresholds.py   where to cut, with a guarantee
    reasons.py      what speaks against an input, as relations of concepts
    drift.py        whether a stream has left the reference
    parts.py        disjoint parts of images
    metrics.py      AUROC, AUPR, FPR@95, AURC, coverage at a risk; bootstrap

Detectors behave as scikit-learn's do: ``__init__`` stores, ``fit`` takes arrays and returns the
detector, what was learned ends in ``_``.
"""
