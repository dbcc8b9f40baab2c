"""Factors: what varies between images, each image at one level of each factor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from profiler.core.arrays import Float64, IntArray
from profiler.errors import InputError


@dataclass(frozen=True, eq=False)
class Factors:
    """F factors of N images.

    Attributes:
        names: of the factors.
        levels: the levels of each factor, in words.
        codes: (N, F) the place of each image's level among those of the factor.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    codes: IntArray

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.names):
            raise InputError(f"{len(self.names)} factors, but levels of shape {self.codes.shape}")
        if self.codes.size and (
            self.codes.min() < 0 or (self.codes.max(axis=0) >= list(map(len, self.levels))).any()
        ):
            raise InputError("an image is at a level that its factor does not have")

    @classmethod
    def of_levels(cls, levels: Mapping[str, Sequence[str]]) -> "Factors":
        """The factors alone, of no image."""
        codes = np.zeros((0, len(levels)), dtype=np.int64)
        return cls(tuple(levels), tuple(map(tuple, levels.values())), codes)

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where the columns of each factor begin, where every level of every factor has one."""
        return tuple(np.cumsum([0, *map(len, self.levels)]).tolist()[:-1])

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """(factor, level) of each such column."""
        return tuple(
            (name, level)
            for name, levels in zip(self.names, self.levels, strict=True)
            for level in levels
        )

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Every two factors, by their places."""
        return tuple((i, j) for i in range(len(self.names)) for j in range(i + 1, len(self.names)))

    def take(self, images: slice | IntArray | Sequence[int]) -> "Factors":
        """The same of some of the images."""
        return Factors(self.names, self.levels, self.codes[images])

    def association(self) -> Float64:
        """(F, F) Cramér's V of every two factors, less what chance gives (Bergsma 2013).

        Near 0 for every pair where the factors are independent; 1 on the diagonal.
        """
        found = np.eye(len(self.names))
        for i, j in self.pairs:
            rows, columns = len(self.levels[i]), len(self.levels[j])
            cells = self.codes[:, i] * columns + self.codes[:, j]
            table = np.bincount(cells, minlength=rows * columns).reshape(rows, columns)
            found[i, j] = found[j, i] = _cramers_v(table.astype(np.float64))
        return found


def _cramers_v(table: Float64) -> float:
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    rows, columns = table.shape
    n = table.sum()
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi = ((table - expected) ** 2 / expected).sum() / n - (rows - 1) * (columns - 1) / (n - 1)
    least = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(max(phi, 0.0) / least)) if least > 0 else 0.0
