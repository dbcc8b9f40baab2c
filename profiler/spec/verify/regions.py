"""Regions of a classifier's features, over which a spec is to be proved.

::

    Box    μ ± γσ of a class's encodings, cut at 0 where features cannot be negative
    Hull   all weighted means of encodings
    Ball   everything within a distance of a centre

Of each region the largest value of a linear function is known in closed form; that, in exact
arithmetic, is all a certificate needs.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from profiler.core.arrays import Float64, FloatArray, checked_rows
from profiler.errors import InputError
from profiler.spec.verify.exact import Exact, larger, root_above


class Region(ABC):
    """A closed, bounded, convex and non-empty set of features."""

    @property
    def features(self) -> int:
        """Width f."""
        return len(self.centre)

    @property
    @abstractmethod
    def centre(self) -> Float64:
        """(f,) A point inside."""

    @property
    @abstractmethod
    def largest(self) -> Float64:
        """(f,) No |z_j| in the region is larger, but for rounding."""

    @abstractmethod
    def highest(self, rows: FloatArray) -> Float64:
        """(P,) The maximum of each row·z over the region, rounded."""

    @abstractmethod
    def where_highest(self, row: FloatArray) -> Float64:
        """(f,) Where row·z is highest."""

    @abstractmethod
    def exactly_highest(self, row: Exact) -> Exact:
        """The maximum of row·z, or a number above it, without a rounding to the wrong side."""

    @abstractmethod
    def holds(self, z: FloatArray) -> bool:
        """Whether a point lies inside, up to rounding."""


@dataclass(frozen=True, eq=False)
class Box(Region):
    """low ≤ z ≤ high. Raises :class:`InputError` if there is no such z.

    Attributes:
        low: (f,).
        high: (f,).
    """

    low: Float64
    high: Float64

    def __post_init__(self) -> None:
        checked_rows(np.stack([self.low, self.high]), "bounds of a box")
        empty = self.low > self.high
        if empty.any():
            place = int(np.flatnonzero(empty)[0])
            raise InputError(
                f"the region is empty: feature {place} would lie between {self.low[place]:g} and "
                f"{self.high[place]:g}; nothing can be proved on it"
            )

    @classmethod
    def around(
        cls, mean: FloatArray, spread: FloatArray, gamma: float, *, positive: bool = False
    ) -> "Box":
        """μ ± γσ.

        Args:
            mean: μ (f,).
            spread: σ (f,), not negative.
            gamma: γ, not negative.
            positive: intersect with z ≥ 0, for an encoder that ends in an averaged ReLU.
        """
        if not (gamma >= 0 and np.isfinite(gamma)):
            raise InputError(f"the region is empty or unbounded: γ is {gamma:g}")
        low, high = mean - gamma * spread, mean + gamma * spread
        return cls(np.maximum(low, 0.0) if positive else low, high)

    @cached_property
    def centre(self) -> Float64:
        """(f,) The middle."""
        return np.clip(self.low + (self.high - self.low) / 2, self.low, self.high)

    @cached_property
    def largest(self) -> Float64:
        """(f,) At one of the bounds."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @cached_property
    def half(self) -> Float64:
        """(f,) Half the width."""
        return (self.high - self.low) / 2

    def highest(self, rows: FloatArray) -> Float64:
        """(P,) row·μ + Σ |row|·half."""
        values: Float64 = rows @ self.centre + np.abs(rows) @ self.half
        return values

    def where_highest(self, row: FloatArray) -> Float64:
        """(f,) A corner."""
        return np.where(row > 0, self.high, self.low)

    def exactly_highest(self, row: Exact) -> Exact:
        """Σ max(row·low, row·high)."""
        return larger(row * self._exact[0], row * self._exact[1]).sum()

    @cached_property
    def _exact(self) -> tuple[Exact, Exact]:
        return Exact.of(self.low), Exact.of(self.high)

    def holds(self, z: FloatArray) -> bool:
        """Exactly."""
        return bool((self.low <= z).all() and (z <= self.high).all())


@dataclass(frozen=True, eq=False)
class Hull(Region):
    """All weighted means of points. Raises :class:`InputError` if there are none.

    Attributes:
        points: (n, f).
    """

    points: Float64

    def __post_init__(self) -> None:
        if not len(self.points):
            raise InputError("the region is empty: a hull of no encodings")
        checked_rows(self.points, "encodings")

    @cached_property
    def centre(self) -> Float64:
        """(f,) The mean of the points."""
        middle: Float64 = self.points.mean(axis=0)
        return middle

    @cached_property
    def largest(self) -> Float64:
        """(f,) At one of the points."""
        size: Float64 = np.abs(self.points).max(axis=0)
        return size

    def highest(self, rows: FloatArray) -> Float64:
        """(P,) Over the points: a linear function is highest at one of them."""
        values: Float64 = (rows @ self.points.T).max(axis=1)
        return values

    def where_highest(self, row: FloatArray) -> Float64:
        """(f,) One of the points."""
        point: Float64 = self.points[int(np.argmax(self.points @ row))]
        return point

    def exactly_highest(self, row: Exact) -> Exact:
        """Over the points."""
        return (self._exact @ row).max()

    @cached_property
    def _exact(self) -> Exact:
        return Exact.of(self.points)

    def holds(self, z: FloatArray) -> bool:
        """Whether it lies between the points in every feature; the weights are not looked for."""
        slack = 1e-9 * (1 + np.abs(self.points).max())
        inside = (self.points.min(0) - slack <= z) & (z <= self.points.max(0) + slack)
        return bool(inside.all())


@dataclass(frozen=True, eq=False)
class Ball(Region):
    """‖z − middle‖ ≤ radius. Raises :class:`InputError` if there is no such z.

    Attributes:
        middle: (f,).
        radius: Euclidean, in the features' own units.
    """

    middle: Float64
    radius: float

    def __post_init__(self) -> None:
        checked_rows(self.middle[None], "middle of a ball")
        if not (self.radius >= 0 and np.isfinite(self.radius)):
            raise InputError(f"the region is empty or unbounded: a ball of radius {self.radius:g}")

    @property
    def centre(self) -> Float64:
        """(f,) The middle."""
        return self.middle

    @property
    def largest(self) -> Float64:
        """(f,) Radius and all."""
        return np.abs(self.middle) + self.radius

    def highest(self, rows: FloatArray) -> Float64:
        """(P,) row·middle + radius·‖row‖."""
        values: Float64 = rows @ self.middle + self.radius * np.linalg.norm(rows, axis=1)
        return values

    def where_highest(self, row: FloatArray) -> Float64:
        """(f,) On the sphere, in the direction of the row."""
        return self.middle + row * (self.radius / max(float(np.linalg.norm(row)), 1e-300))

    def exactly_highest(self, row: Exact) -> Exact:
        """row·middle + radius·√(row·row), the root rounded up."""
        root = root_above((row @ row).fraction())
        # A dyadic number that is no less: round the quotient up at a far digit.
        bits = 128 + max(0, root.denominator.bit_length() - root.numerator.bit_length())
        up = -(-root.numerator * 2**bits // root.denominator)
        reach = Exact(np.asarray(up, dtype=object), -bits) * Exact.of(np.array(self.radius))
        return row @ Exact.of(self.middle) + reach

    def holds(self, z: FloatArray) -> bool:
        """Up to rounding."""
        distance = float(np.linalg.norm(z - self.middle))
        return distance <= self.radius * (1 + 1e-12) + 1e-12 * float(np.abs(self.middle).max())
