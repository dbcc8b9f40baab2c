"""The scoring of a guard for a few inputs, compiled: one call in place of some 25 operations.

Beside a small network what costs is not the arithmetic but how often a library is called, what is
handed over, and how much memory is read, after the network has filled the caches. So tensors are
handed over as addresses, the constants lie in one block, without the zeros, and each input is
multiplied by one matrix. What comes out is the score of
:class:`profiler.guard.rules.combined.WithSoftmax` around the rule "typicality" or "strengths", in
single precision.
"""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

ROWS = 4
"""Of the matrix, multiplied at a time: so many streams come out of memory faster than one."""

_TINY = np.float32(1e-30)
_INFINITE = np.float32(np.inf)


def _build_pointer(_typing: Any, _address: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), build


_pointer: Any = intrinsic(_build_pointer)
_array: Any = carray
"""Of a pointer, a shape and a type."""


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True)
def judge(
    features: int,
    logits: int,
    count: int,
    constants: int,
    predicted: int,
    scores: int,
    flagged: int,
) -> None:  # pragma: no cover - compiled
    """Fill in predicted classes, scores, and whether these are above the cut, of B answers.

    All but the count are addresses, of blocks without gaps; nobody checks them.

    Args:
        features: z (B, f), single precision.
        logits: y (B, C), likewise.
        count: B.
        constants: six of int32, namely f, C, the number M of concepts, the rank r, the pieces k of
            a rarity, and how many numbers follow; then in single precision, one after the other:
            a, b, and the cut;
            (C + 1, M) what is usual for each class, μ, and weights v: with the strengths s and
            d = μ_c − s the rule's score is a Σ d² − v·d + b;
            (3, 2, k) edges, values and slopes of the rarity of the softmax and of the rule; the
            last edges are not read, see :meth:`profiler.guard.rules.combined.Rarity.pieces`;
            (1 + f, C + M + r) what (1, z) is multiplied by: the correction of the head, the
            strengths times ‖r(z)‖, and a matrix whose product is as long as r(z) and of which row k
            is zero beyond column k. Rows of zeros fill it up to whole groups of :data:`ROWS`; of
            each group, columns that are zero in all its rows are left out.
        predicted: (B,) int64.
        scores: (B,) single precision.
        flagged: (B,) bytes.
    """
    sizes = _array(_pointer(constants), 6, np.int32)
    width, classes, names, rank, pieces, total = sizes
    block = _array(_pointer(constants + sizes.nbytes), total, np.float32)
    z = _array(_pointer(features), (count, width), np.float32)
    y = _array(_pointer(logits), (count, classes), np.float32)
    labels = _array(_pointer(predicted), count, np.int64)
    found = _array(_pointer(scores), count, np.float32)
    flags = _array(_pointer(flagged), count, np.bool_)
    factor, bias, cut = block[0], block[1], block[2]
    usual, block = block[3:], block[3 + (classes + 1) * names :]
    rarities, planes = block[: 6 * pieces].reshape(3, 2, pieces), block[6 * pieces :]
    first = classes + names
    out = np.empty(first + rank, dtype=np.float32)
    x = np.zeros((width + ROWS) // ROWS * ROWS, dtype=np.float32)
    x[0] = 1
    for row in range(count):
        own = np.argmax(y[row])
        x[1 : width + 1] = z[row]
        out[:] = 0
        start = 0
        for k in range(0, len(x), ROWS):
            stop = min(first + k + ROWS, len(out))
            by_one, by_two, by_three, by_four = x[k], x[k + 1], x[k + 2], x[k + 3]
            one, two = planes[start:], planes[start + stop :]
            three, four = planes[start + 2 * stop :], planes[start + 3 * stop :]
            for m in range(stop):
                out[m] += (
                    by_one * one[m] + by_two * two[m] + by_three * three[m] + by_four * four[m]
                )
            start += ROWS * stop
        squares = np.float32(0)
        for each in out[first:]:
            squares += each * each
        length = max(np.sqrt(squares), _TINY)
        strange = bias
        for m in range(names):
            d = usual[own * names + m] - out[classes + m] / length
            strange += factor * d * d - usual[classes * names + m] * d
        doubt = _log_odds(y[row] + out[:classes], own)
        score = _rarity(rarities[:, 0], doubt) + _rarity(rarities[:, 1], strange)
        # Infinite scores are flagged even where the cut lets anything pass.
        finite = np.isfinite(score)
        labels[row] = own
        found[row] = score if finite else _INFINITE
        flags[row] = score > cut or not finite


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True)
def _log_odds(logits: Float32, own: Any) -> Any:  # pragma: no cover - compiled
    """See :func:`.log_odds_against`, but ∞ if a logit is not finite."""
    top = -_INFINITE
    for k in range(len(logits)):
        if not np.isfinite(logits[k]):
            return _INFINITE
        if k != own:
            top = max(top, logits[k])
    total = np.float32(0)
    for k in range(len(logits)):
        if k != own:
            total += np.exp(logits[k] - top)
    return top + np.log(total) - logits[own]


@numba.njit(error_model="numpy", cache=True)
def _rarity(pieces: Float32, score: Any) -> Any:  # pragma: no cover - compiled
    """On the first piece whose edge is no less, or the last; NaN for NaN."""
    low, high = 0, pieces.shape[1] - 1
    while low < high:
        middle = (low + high) // 2
        if pieces[0, middle] < score:
            low = middle + 1
        else:
            high = middle
    return pieces[1, low] + pieces[2, low] * score
