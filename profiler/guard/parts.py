"""Disjoint parts of images: what is fitted on one is chosen on another and tested on a third."""

import hashlib
from collections.abc import Sequence

import numpy as np

from profiler.core.arrays import IntArray
from profiler.errors import InputError


def split_by_content(
    digests: Sequence[str], shares: Sequence[float], seed: int = 0
) -> tuple[IntArray, ...]:
    """Rows of each part, ascending; images of equal content come into the same part.

    Pictures are dealt out by a hash of content and seed, in its order, so that a part has its
    share up to one picture, and which picture goes where does not depend on names or order.

    Args:
        digests: one an image, equal for equal content.
        shares: of the parts, adding up to 1.
        seed: deals anew.

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
            f"{len(pictures)} different image(s) cannot be divided into {len(shares)} parts"
        )
    part = {
        picture: int(np.searchsorted(ends, place, side="right"))
        for place, picture in enumerate(pictures)
    }
    of = np.array([part[digest] for digest in digests], dtype=np.int64)
    return tuple(np.flatnonzero(of == number) for number in range(len(shares)))
