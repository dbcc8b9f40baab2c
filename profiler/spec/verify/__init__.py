"""Whether a spec holds: on images with a rate and an interval, on regions with a proof.

::

    interpretation.py   what atoms mean: linear rows in a classifier's features
    rates.py            the statistical check
    regions.py          boxes, hulls, balls
    normal.py           in which ways a formula can fail
    exact.py            rational arithmetic on floating-point numbers
    refutation.py       proofs that a way is impossible, free of rounding errors
    linear_program.py   linear programs for a solver
    formal.py           the formal check: proved, violated or undecided
    largest.py          the largest γ
    mining.py           specs that images suggest
    certificate.py      proofs that can be kept and checked again

Both checks evaluate the same rows, so they cannot contradict each other.
"""
