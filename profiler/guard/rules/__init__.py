"""Scores of untrustworthy predictions; higher is stranger.

::

    base.py          what a detector is
    comparisons.py   cosine, likelihood: which concept is stronger than which
    strengths.py     strengths: how strong concepts are
    typicality.py    typicality: how usual the concepts are for the predicted class
    baselines.py     msp, max-logit, energy, entropy, mahalanobis, knn: nothing of concepts
    corrected.py     how sure the head may be, by held-out images
    steadiness.py    how much views of the image change the prediction
    combined.py      two detectors as one; which rules are on offer
    kernels.py       the combined score of a few inputs in one compiled call
    reasons.py       what speaks against an input, as relations of concepts

Detectors behave as scikit-learn's do: ``__init__`` stores, ``fit`` takes arrays and returns the
detector, what was learned ends in ``_``.
"""
