"""The hot loops of soft-WPMI and WPMI, compiled.

A layer of 2,000 units and 20,000 concepts takes 4·10⁹ factors. Written as the formula stands, most
of the time goes into logarithms and into memory; here many factors share one exponent, each unit
and concept takes one logarithm, and a block of Q stays in the cache. Logarithm and exponential
are short polynomials, because a compiled loop that calls the library's handles one number at a
time.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

STEP = 5
"""Factors multiplied in one sweep over the concepts: each sweep reads and writes the product."""
_EXPONENTS = 126
"""Products from 2^-126 to 2^126, and what was left of others, stay in float32's range."""
FACTOR_RANGE = 2.0 ** (_EXPONENTS // (2 * STEP))
"""Between 1 / this and this two steps' factors have such a product."""
# In float32 all through: next to a Python integer, numba would go on in float64.
_1, _2 = np.float32(1), np.float32(2)
_LN2 = np.float32(np.log(2))
_LOG2_E = np.float32(1 / np.log(2))
_SQRT2 = np.float32(np.sqrt(2))
_HALF_LN2 = np.float32(np.log(2) / 2)
_MANTISSA = np.int32(0x007FFFFF)
_ONE = np.int32(0x3F800000)
_THIRD, _FIFTH, _SEVENTH, _NINTH = (np.float32(1 / n) for n in (3, 5, 7, 9))
_POWERS = tuple(np.float32(np.log(2) ** n / d) for n, d in enumerate((1, 1, 2, 6, 24, 120, 720)))
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = _POWERS
_FAINTEST = np.float32(-100)
"""exp2 of less is taken for it: far below what the sum keeps."""

MASS_BITS = 32
"""Sums of exponentials count in units of 2⁻³² of the greatest."""
_ROUNDER = 1.5 * 2.0 ** (52 - MASS_BITS)
"""Added and taken away again, it rounds a float64 below 2¹⁹ to a multiple of 2⁻³²."""
_TILE = 128


def group_of(smallest: float, largest: float) -> int:
    """Factors between these two that may be multiplied up before the exponent is put aside.

    >>> group_of(1 / FACTOR_RANGE, FACTOR_RANGE), group_of(2**-5, 2**4)
    (10, 25)
    """
    width = max(-np.log2(smallest), np.log2(largest), 1e-9)
    return STEP * max(1, int(_EXPONENTS / width) // STEP)


@numba.njit(parallel=True, fastmath={"contract"}, cache=True)
def add_logs(
    q: Float32,
    first: int,
    top: NDArray[np.int64],
    offset: Float32,
    slope: Float32,
    shift: int,
    group: int,
    out: Float32,
) -> None:  # pragma: no cover - compiled
    """Add Σ_r log(2^-shift · (offset_r + slope_r · q[top_r − first])) to ``out`` (K, B).

    Ranks whose row is not among those of ``q`` (n, B) are left for another call. ``group`` is a
    multiple of STEP, at most what :func:`group_of` says of the factors.
    """
    units, ranks = top.shape
    rows, width = q.shape
    for k in numba.prange(units):
        # The ranks whose image is here, filled up to full steps with factors of 1.
        n = np.zeros(ranks + STEP, dtype=np.int64)
        c = np.ones(ranks + STEP, dtype=np.float32)
        s = np.zeros(ranks + STEP, dtype=np.float32)
        taken = 0
        for r in range(ranks):
            place = top[k, r] - first
            if 0 <= place < rows:
                n[taken] = place
                c[taken] = offset[r]
                s[taken] = slope[r]
                taken += 1
        if taken == 0:
            continue
        product = np.ones(width, dtype=np.float32)
        bits = product.view(np.int32)
        exponent = np.zeros(width, dtype=np.int32)
        for start in range(0, taken, group):
            for r in range(start, min(start + group, taken), STEP):
                # Unsigned, for that spares a test for negative indices in the loop over concepts.
                n0, n1, n2 = np.uint64(n[r]), np.uint64(n[r + 1]), np.uint64(n[r + 2])
                n3, n4 = np.uint64(n[r + 3]), np.uint64(n[r + 4])
                c0, c1, c2, c3, c4 = c[r], c[r + 1], c[r + 2], c[r + 3], c[r + 4]
                s0, s1, s2, s3, s4 = s[r], s[r + 1], s[r + 2], s[r + 3], s[r + 4]
                for m in range(width):
                    product[m] *= (
                        (c0 + s0 * q[n0, m])
                        * (c1 + s1 * q[n1, m])
                        * (c2 + s2 * q[n2, m])
                        * (c3 + s3 * q[n3, m])
                        * (c4 + s4 * q[n4, m])
                    )
            for m in range(width):
                exponent[m] += (bits[m] >> 23) - 127
                bits[m] = (bits[m] & _MANTISSA) | _ONE
        moved = np.int32(shift * taken)
        for m in range(width):
            whole = np.float32(exponent[m] - moved)
            # log x = log √2 + 2 artanh((x − √2) / (x + √2)), whose argument is at most 0.172.
            t = (product[m] - _SQRT2) / (product[m] + _SQRT2)
            u = t * t
            series = t * (_1 + u * (_THIRD + u * (_FIFTH + u * (_SEVENTH + u * _NINTH))))
            out[k, m] += whole * _LN2 + (_HALF_LN2 + _2 * series)


@numba.njit(parallel=True, fastmath={"contract"}, cache=True)
def exponentiate(
    cosines: Float32, temperature: float, scale: Float32
) -> None:  # pragma: no cover - compiled
    """Let scale_n · exp(a · (cos − 1)) take the place of ``cosines`` (n, B), for finite ones.

    |cos| ≤ 1, so the exponent lies in [−2a, 0]: the exponential neither over- nor underflows.
    """
    rows, width = cosines.shape
    slope = np.float32(temperature) * _LOG2_E
    for i in numba.prange(rows):
        power = np.empty(width, dtype=np.float32)
        bits = power.view(np.int32)
        for m in range(width):
            y = max((cosines[i, m] - np.float32(1)) * slope, _FAINTEST)
            n = np.floor(y + np.float32(0.5))
            f = y - n
            power[m] = _P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * (_P5 + f * _P6)))))
            bits[m] += np.int32(n) << np.int32(23)
        factor = scale[i]
        for m in range(width):
            cosines[i, m] = factor * power[m]


@numba.njit(parallel=True, fastmath={"contract"}, cache=True)
def add_mass(
    evidence: Float32, peak: Float32, out: NDArray[np.float64]
) -> None:  # pragma: no cover - compiled
    """Add Σ_k exp(evidence − peak), each rounded to a multiple of 2⁻³², to ``out`` (B,).

    Up to two million such terms float64 adds without rounding, so in any order alike.
    """
    units, width = evidence.shape
    tiles = (width + _TILE - 1) // _TILE
    for tile in numba.prange(tiles):
        # Slices, for an index that might be negative keeps a loop from being vectorised.
        here = slice(tile * _TILE, min((tile + 1) * _TILE, width))
        highest, mass = peak[here], out[here]
        power = np.empty(len(mass), dtype=np.float32)
        bits = power.view(np.int32)
        for k in range(units):
            row = evidence[k, here]
            for m in range(len(mass)):
                y = max((row[m] - highest[m]) * _LOG2_E, _FAINTEST)
                n = np.floor(y + np.float32(0.5))
                f = y - n
                power[m] = _P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * (_P5 + f * _P6)))))
                bits[m] += np.int32(n) << np.int32(23)
            for m in range(len(mass)):
                mass[m] += (np.float64(power[m]) + _ROUNDER) - _ROUNDER


@numba.njit(parallel=True, cache=True)
def raise_to_guests(
    evidence: Float32,
    others: NDArray[np.float64],
    log_units: float,
    prior_weight: float,
    best: Float32,
) -> None:  # pragma: no cover - compiled
    """Raise ``best`` (R,) to the highest L − λ (log(e^others + e^L) − log K) of each list."""
    # The larger term alone bounds the sum from below and so the score from above, and spares most
    # of the logarithms.
    lists, width = evidence.shape
    for r in numba.prange(lists):
        highest = best[r]
        for m in range(width):
            own = np.float64(evidence[r, m])
            low, high = min(own, others[m]), max(own, others[m])
            if own - prior_weight * (high - log_units) <= highest:
                continue
            log_sum = high + np.log1p(np.exp(low - high))
            score = np.float32(own - prior_weight * (log_sum - log_units))
            highest = max(highest, score)
        best[r] = highest
