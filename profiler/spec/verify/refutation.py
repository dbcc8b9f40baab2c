"""Why a way to fail is impossible on a region: a weighted sum of its rows is nowhere positive.

Let a way want rows g_i·z + h_i ≥ 0, some of them > 0. For any weights y_i ≥ 0 (Farkas), a point of
the region at which all are met has Σ y_i (g_i·z + h_i) ≥ 0. So the way is refuted if

    U = max over the region of  (Σ y_i g_i)·z + Σ y_i h_i

is negative; or if it is 0 and a row with y_i > 0 is strict. U has a closed form on every region, so
*any* weights that a solver gives prove what they prove: they need not be optimal, nor even
feasible for the solver's own dual.

:func:`refutes` computes U in rational arithmetic from the planes as they are, so no rounding and no
solver has to be trusted. :func:`clearly_refutes` is a hundred times as quick: it computes U in
floats, and says yes only where U is negative by more than all roundings together can amount to.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from profiler.spec.verify.exact import Exact
from profiler.spec.verify.interpretation import Interpretation
from profiler.spec.verify.normal import Above, Way
from profiler.spec.verify.regions import Region

_UNIT = 2.0**-53
_UNDERFLOW = 1e-280
"""More than all numbers too small for full precision can add up to."""


@dataclass(frozen=True)
class Refutation:
    """Weights of some of a way's rows.

    Attributes:
        way: refuted.
        rows: the way's own, or those of a class that it wants predicted.
        weights: one a row, positive.
    """

    way: Way
    rows: tuple[Above, ...]
    weights: tuple[float, ...]


def belongs(row: Above, way: Way) -> bool:
    """Whether a way wants this row."""
    if row in way.rows:
        return True
    return row.of == "class" and row.high in way.tops and not row.strict and row.low != row.high


def bound(found: Refutation, interpretation: Interpretation, region: Region) -> Fraction:
    """U, or a number above it; exact but for balls, where a root is rounded up."""
    nothing = Exact.of(np.zeros(()))
    factors: dict[tuple[Literal["class", "concept"], str], Exact] = {}
    for each, weight in zip(found.rows, found.weights, strict=True):
        exactly = Exact.of(np.array(weight))
        factors[each.of, each.high] = factors.get((each.of, each.high), nothing) + exactly
        factors[each.of, each.low] = factors.get((each.of, each.low), nothing) - exactly
    row, offset = Exact.of(np.zeros(interpretation.features)), nothing
    for (of, name), factor in factors.items():
        among = interpretation.among(of)
        place = among.index[name]
        row = row + factor * Exact.of(among.rows[place])
        offset = offset + factor * Exact.of(among.offsets[place])
    return (region.exactly_highest(row) + offset).fraction()


def _fits(found: Refutation) -> bool:
    """Whether rows and weights are what a refutation of this way may have."""
    return (
        len(found.rows) == len(found.weights)
        and all(belongs(row, found.way) for row in found.rows)
        and all(weight >= 0 and np.isfinite(weight) for weight in found.weights)
    )


def clearly_refutes(found: Refutation, interpretation: Interpretation, region: Region) -> bool:
    """Whether U is negative beyond every rounding; where not, :func:`refutes` may still say yes.

    A sum of n products, in whatever order, is wrong by at most n·u/(1 − n·u) times the sum of
    their magnitudes, u = 2⁻⁵³ (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.1).
    Here n is the features, the rows and a few operations more; eight times that is allowed.
    """
    if not _fits(found):
        return False
    row, size = np.zeros(interpretation.features), np.zeros(interpretation.features)
    offset = magnitude = 0.0
    for each, weight in zip(found.rows, found.weights, strict=True):
        among = interpretation.among(each.of)
        high, low = among.index[each.high], among.index[each.low]
        row += weight * (among.rows[high] - among.rows[low])
        size += weight * (np.abs(among.rows[high]) + np.abs(among.rows[low]))
        offset += weight * float(among.offsets[high] - among.offsets[low])
        magnitude += weight * float(abs(among.offsets[high]) + abs(among.offsets[low]))
    magnitude += float(size @ region.largest)
    operations = len(row) + len(found.rows) + 16
    error = 8 * operations * _UNIT * magnitude + _UNDERFLOW
    return bool(float(region.highest(row[None])[0]) + offset < -error)


def refutes(found: Refutation, interpretation: Interpretation, region: Region) -> bool:
    """Whether the way is impossible on the region, beyond doubt."""
    if not _fits(found):
        return False
    most = bound(found, interpretation, region)
    strict = any(
        row.strict and weight > 0 for row, weight in zip(found.rows, found.weights, strict=True)
    )
    return most < 0 or (most == 0 and strict)
