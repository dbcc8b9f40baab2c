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

from profiler.verify.certificate import FORMAT, Certificate, from_json, to_json
from profiler.verify.formal import SECONDS, Counterexample, Outcome, Verdict, check_region
from profiler.verify.interpretation import Facts, Interpretation, Linear
from profiler.verify.largest import PRECISION, WIDEST, Largest, gamma_of_row, largest_gamma
from profiler.verify.linear_program import Answer, Lift, Solver, Status, highs
from profiler.verify.mining import FEWEST, Proposal, candidates, measure, relevant_pairs
from profiler.verify.normal import MOST_WAYS, Above, Annotated, Way, ways_to_fail
from profiler.verify.rates import LEVEL, ClassRate, Judged, Rate, SpecRate, check_images
from profiler.verify.refutation import Refutation, bound, clearly_refutes, refutes
from profiler.verify.regions import Ball, Box, Hull, Region

__all__ = [
    "FEWEST",
    "FORMAT",
    "LEVEL",
    "MOST_WAYS",
    "PRECISION",
    "SECONDS",
    "WIDEST",
    "Above",
    "Annotated",
    "Answer",
    "Ball",
    "Box",
    "Certificate",
    "ClassRate",
    "Counterexample",
    "Facts",
    "Hull",
    "Interpretation",
    "Judged",
    "Largest",
    "Lift",
    "Linear",
    "Outcome",
    "Proposal",
    "Rate",
    "Refutation",
    "Region",
    "Solver",
    "SpecRate",
    "Status",
    "Verdict",
    "Way",
    "bound",
    "candidates",
    "check_images",
    "check_region",
    "clearly_refutes",
    "from_json",
    "gamma_of_row",
    "highs",
    "largest_gamma",
    "measure",
    "refutes",
    "relevant_pairs",
    "to_json",
    "ways_to_fail",
]
