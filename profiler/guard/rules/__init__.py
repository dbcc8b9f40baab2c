"""Detection methods: scores of untrustworthy predictions; higher is more anomalous.

::

    base.py          what a detector is
    comparisons.py   cosine, likelihood: which concept is stronger than which
    strengths.py     strengths: how strong concepts are
    typicality.py    typicality: how typical the concepts are for the predicted class
    baselines.py     msp, max-logit, energy, entropy, mahalanobis, knn: without concepts
    corrected.py     the softmax, corrected on held-out images
    steadiness.py    how much augmented views change the confidence in the prediction
    combined.py      two detectors combined; the list of methods
    kernels.py       the combined score of a few inputs in one compiled call
    reasons.py       the reasons of a score, as comparisons of concepts

Detectors follow scikit-learn: ``__init__`` stores, ``fit`` takes arrays and returns the
detector, what was learned ends in ``_``.
"""
