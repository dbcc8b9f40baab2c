"""Rational arithmetic on floating-point numbers, without a rounding.

Every float is m·2^k with whole m and k, and sums and products of such numbers are again. Arrays of
them are kept as Python's unbounded integers over one common exponent, which is
:class:`fractions.Fraction` arithmetic without a greatest common divisor at each step.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import FloatArray

_MANTISSA = 53


@dataclass(frozen=True, eq=False)
class Exact:
    """An array of rationals m·2^exponent.

    Attributes:
        whole: object array of Python integers m.
        exponent: shared by all.
    """

    whole: NDArray[np.object_]
    exponent: int

    def __post_init__(self) -> None:
        # numpy gives a bare integer where an array without axes is due.
        object.__setattr__(self, "whole", np.asarray(self.whole, dtype=object))

    @classmethod
    def of(cls, values: FloatArray) -> "Exact":
        """The very numbers; raises ``ValueError`` where one is not finite."""
        wide = np.asarray(values, dtype=np.float64)
        if not np.isfinite(wide).all():
            raise ValueError("only finite numbers are rational")
        parts, exponents = np.frexp(wide)
        whole = np.ldexp(parts, _MANTISSA).astype(np.int64).astype(object)
        known = exponents[wide != 0]
        least = int(known.min()) if known.size else 0
        shifts = np.where(wide != 0, exponents - least, 0).astype(object)
        return cls(whole * 2**shifts, least - _MANTISSA)

    def __add__(self, other: "Exact") -> "Exact":
        exponent = min(self.exponent, other.exponent)
        return Exact(self._over(exponent) + other._over(exponent), exponent)

    def __sub__(self, other: "Exact") -> "Exact":
        return self + Exact(-other.whole, other.exponent)

    def __mul__(self, other: "Exact") -> "Exact":
        """Element by element, as numpy broadcasts."""
        return Exact(self.whole * other.whole, self.exponent + other.exponent)

    def __matmul__(self, other: "Exact") -> "Exact":
        return Exact(self.whole @ other.whole, self.exponent + other.exponent)

    def _over(self, exponent: int) -> NDArray[np.object_]:
        return np.asarray(self.whole * 2 ** (self.exponent - exponent), dtype=object)

    def sum(self) -> "Exact":
        """Of all elements."""
        return Exact(self.whole.sum(), self.exponent)

    def max(self) -> "Exact":
        """The largest element."""
        return Exact(self.whole.max(), self.exponent)

    def fraction(self) -> Fraction:
        """The only element as a fraction.

        >>> Exact.of(np.array([0.5, 0.25])).sum().fraction()
        Fraction(3, 4)
        """
        return Fraction(int(self.whole.item())) * Fraction(2) ** self.exponent


def larger(one: Exact, other: Exact) -> Exact:
    """Element by element the larger of two."""
    exponent = min(one.exponent, other.exponent)
    return Exact(np.maximum(one._over(exponent), other._over(exponent)), exponent)


def root_above(value: Fraction) -> Fraction:
    """A rational no less than √value, and hardly more.

    >>> root_above(Fraction(9, 4))
    Fraction(3, 2)
    >>> 0 <= root_above(Fraction(2)) ** 2 - 2 < 1e-15
    True
    """
    if value < 0:
        raise ValueError("no root of a negative number")
    # √(n/d) = √(n d s²)/(d s); s makes the whole number under the root long enough.
    scale = 2**64
    under = value.numerator * value.denominator * scale**2
    root = math.isqrt(under)
    return Fraction(root + (root * root < under), value.denominator * scale)
