"""Whether a spec holds: on images with a rate and an interval, on regions with a proof.

::

    interpretation.py   what atoms mean: linear rows in a classifier's features
    rates.py            the statistical reading
    regions.py          boxes, hulls, balls
    normal.py           in which ways a formula can fail
    exact.py            rational arithmetic on floating-point numbers
    refutation.py       why a way is impossible, without a rounding
    linear_program.py   the question to a solver
    formal.py           the formal reading: proved, violated or undecided
    largest.py          the largest γ
    mining.py           specs that images suggest
    certificate.py      proofs that can be kept and checked again

Both readings evaluate the same rows, so they cannot contradict each other.
"""
