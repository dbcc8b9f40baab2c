"""The scoring of a guard for a few inputs, compiled: one call in place of some 25 operations.

Beside a small network what costs is not the arithmetic but how often a library is called, and how
much memory is read, after the network has filled the caches. So the constants come in few arrays,
and each input is multiplied by one matrix. What comes out is the score of
:class:`profiler.detector.combined.WithSoftmax` around the rule "typicality" or "strengths", in
single precision.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_TINY = np.float32(1e-30)
_INFINITE = np.float32(np.inf)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True)
def judge(
    features: Float32,
    logits: Float32,
    planes: Float32,
    concepts: Float32,
    pieces: Float32,
    terms: Float32,
) -> tuple[NDArray[np.int64], Float32, NDArray[np.bool_]]:  # pragma: no cover - compiled
    """Predicted classes (B,), scores (B,), and whether these are above the cut (B,).

    Args:
        features: z (B, f).
        logits: y (B, C).
        planes: (1 + f, C + M + r) what (1, z) is multiplied by: the correction of the head, the
            strengths times ‖r(z)‖, and a matrix whose product is as long as r(z) and of which row k
            is zero beyond column k.
        concepts: (C + 1, M) what is usual for each class, μ, and weights v: with the strengths s
            and d = μ_c − s the rule's score is a Σ d² − v·d + b.
        pieces: (3, 2, k) edges, values and slopes of the rarity of the softmax and of the rule; the
            last edges are not read. See :meth:`profiler.detector.combined.Rarity.pieces`.
        terms: a, b and the cut.
    """
    count, classes = logits.shape
    names = concepts.shape[1]
    first = classes + names
    predicted = np.empty(count, dtype=np.int64)
    scores = np.empty(count, dtype=np.float32)
    flagged = np.empty(count, dtype=np.bool_)
    for row in range(count):
        own = np.argmax(logits[row])
        out = planes[0].copy()
        for k in range(features.shape[1]):
            z = features[row, k]
            for m in range(min(first + k + 2, len(out))):
                out[m] += z * planes[k + 1, m]
        squares = np.float32(0)
        for each in out[first:]:
            squares += each * each
        length = max(np.sqrt(squares), _TINY)
        strange = terms[1]
        for m in range(names):
            d = concepts[own, m] - out[classes + m] / length
            strange += terms[0] * d * d - concepts[classes, m] * d
        doubt = _log_odds(logits[row] + out[:classes], own)
        score = _rarity(pieces[:, 0], doubt) + _rarity(pieces[:, 1], strange)
        # Infinite scores are flagged even where the cut lets anything pass.
        finite = np.isfinite(score)
        predicted[row] = own
        scores[row] = score if finite else _INFINITE
        flagged[row] = score > terms[2] or not finite
    return predicted, scores, flagged


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True)
def _log_odds(logits: Float32, own: Any) -> Any:  # pragma: no cover - compiled
    """See :func:`profiler.detector.baselines.log_odds_against`, but ∞ if a logit is not finite."""
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
