"""Disjoint parts of images: for fitting, for choosing and for testing."""

import hashlib
from collections.abc import Sequence

import numpy as np

from profiler.core.arrays import IntArray
from profiler.errors import InputError


def split_by_content(
    digests: Sequence[str], shares: Sequence[float], seed: int = 0
) -> tuple[IntArray, ...]:
    """Rows of each part, ascending; images of equal content are in the same part.

    Pictures are split in the order of a hash of content and seed. So a part has its share up to
    one picture, and the part of a picture does not depend on names or order.

    Args:
        digests: one per image, equal for equal content.
        shares: of the parts, adding up to 1.
        seed: of the split.

    Raises:
        InputError: there are too few pictures.

    >>> one, other = split_by_content(["a", "b", "a", "c"], (0.5, 0.5))
    >>> sorted([*one.tolist(), *other.tolist()]), {0, 2} <= set(one.tolist()) or 0 in other
    ([0, 1, 2, 3], True)
    """
    if abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise ValueError(f"shares of parts must be positive and add up to 1, got {shares}")
    pictures = sorted(
        set(digests), key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest()
    )
    ends = [round(float(end) * len(pictures)) for end in np.cumsum(shares)]
    if min(np.diff([0, *ends])) < 1:
        raise InputError(
            f"{len(pictures)} different image(s) are too few for {len(shares)} disjoint parts"
        )
    part = {
        picture: int(np.searchsorted(ends, place, side="right"))
        for place, picture in enumerate(pictures)
    }
    of = np.array([part[digest] for digest in digests], dtype=np.int64)
    return tuple(np.flatnonzero(of == number) for number in range(len(shares)))
