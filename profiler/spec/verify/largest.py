"""How far around a class's encodings a spec is proved: the largest γ."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from profiler.spec.verify.formal import Outcome

WIDEST = 64.0
"""No γ beyond this is tried."""
PRECISION = 1e-3
"""Of the γ found, relative, or absolute below 1."""


@dataclass(frozen=True, eq=False)
class Largest:
    """The bracket around the largest γ.

    Attributes:
        gamma: proved for this γ, and so for every smaller one; None if for none, not even 0.
        outcome: of the check there, or at 0.
        beyond: the least γ tried that is not proved; infinite if all were.
        failure: the outcome there.
        seconds: for all of it.
    """

    gamma: float | None
    outcome: Outcome
    beyond: float
    failure: Outcome | None
    seconds: float


def largest_gamma(check: Callable[[float], Outcome]) -> Largest:
    """Bisect between a γ that is proved and one that is not.

    Boxes grow with γ, so what holds on one holds on every smaller one. A γ at which the check stays
    undecided ends the search from above as a violated one does: only what is proved is claimed.

    Args:
        check: the formal check on the box of a γ.

    >>> proved = lambda gamma: Outcome("proved" if gamma <= 0.3 else "violated", 0.0, 1)
    >>> round(largest_gamma(proved).gamma, 2)
    0.3
    """
    seconds = 0.0

    def tried(gamma: float) -> Outcome:
        nonlocal seconds
        outcome = check(gamma)
        seconds += outcome.seconds
        return outcome

    outcome = tried(0.0)
    if outcome.verdict != "proved":
        return Largest(None, outcome, 0.0, outcome, seconds)
    low, proof = 0.0, outcome
    high, failure = 0.25, None
    while failure is None and low < WIDEST:
        high = min(high, WIDEST)
        outcome = tried(high)
        if outcome.verdict == "proved":
            low, proof, high = high, outcome, 2 * high
        else:
            failure = outcome
    if failure is None:
        return Largest(low, proof, math.inf, None, seconds)
    while high - low > PRECISION * max(1.0, low):
        middle = (low + high) / 2
        outcome = tried(middle)
        if outcome.verdict == "proved":
            low, proof = middle, outcome
        else:
            high, failure = middle, outcome
    return Largest(low, proof, high, failure, seconds)
