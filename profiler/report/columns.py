"""What the scripts of the pages read: arrays as short JSON, words and images numbered once."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from profiler.core.arrays import FloatArray, IntArray


class Index:
    """Numbers the values it meets, so that the page carries only those it uses."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self._seen: dict[int, int] = {}

    def put(self, values: Iterable[int]) -> list[int]:
        """Give each value its number; -1, which stands for none, stays.

        >>> index = Index()
        >>> index.put([7, -1, 3, 7]), index.order
        ([0, -1, 1, 0], [7, 3])
        """
        found = []
        for value in values:
            if value >= 0 and value not in self._seen:
                self._seen[value] = len(self.order)
                self.order.append(value)
            found.append(self._seen.get(value, -1))
        return found


def rounded(values: FloatArray, digits: int) -> list[float | None]:
    """Round to so many decimals; what is not a number is null.

    >>> rounded(np.array([0.126, np.nan]), 2)
    [0.13, None]
    """
    found = np.round(np.asarray(values, float), digits).tolist()
    return [value if math.isfinite(value) else None for value in found]


def significant(values: FloatArray, figures: int = 3) -> list[float | None]:
    """Round to ``figures`` figures: an activation is compared by eye, not computed with.

    >>> significant(np.array([0.0012345, 8.0, np.inf]))
    [0.00123, 8, None]
    """
    values = np.asarray(values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(values == 0, 0, np.floor(np.log10(np.abs(values))))
    result: list[float | None] = []
    for value, power in zip(values.tolist(), scale.tolist(), strict=True):
        if not math.isfinite(value):
            result.append(None)
        else:
            shown = round(value, figures - 1 - int(power))
            result.append(int(shown) if shown.is_integer() else shown)
    return result


def encoded(
    wanted: Sequence[int], thumbnails: Mapping[int, bytes], room: int
) -> tuple[dict[str, str], int]:
    """Encode as many of the wanted thumbnails as fit, in their order; also says how many did not.

    >>> encoded([5, 2, 9], {2: b"two", 5: b"five"}, 20)
    ({'5': 'Zml2ZQ=='}, 1)
    """
    data: dict[str, str] = {}
    at_hand = [image for image in dict.fromkeys(wanted) if image in thumbnails]
    for image in at_hand:
        text = base64.b64encode(thumbnails[image]).decode("ascii")
        room -= len(f'"{image}":"",') + len(text)
        if room < 0:
            break
        data[str(image)] = text
    return data, len(at_hand) - len(data)


LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,.:;=?@[]^_`{}~"
"""Digits of numbers in short texts: nothing that JSON or HTML would write otherwise."""


def lettered(values: FloatArray | IntArray, low: float, high: float, digits: int = 1) -> str:
    """Numbers as a text of so many :data:`LETTERS` each, from ``low`` to ``high``.

    What lies beyond is taken for the end, and what is no number for ``low``.

    >>> lettered(np.array([0.0, 0.5, 1.0]), 0, 1)
    '0g~'
    >>> len(lettered(np.zeros(3), 0, 1, digits=2))
    6
    """
    base, share = len(LETTERS), (np.asarray(values, float).ravel() - low) / (high - low)
    codes = np.rint(np.clip(np.nan_to_num(share), 0, 1) * (base**digits - 1)).astype(int)
    places = np.stack([codes // base**i % base for i in reversed(range(digits))], axis=1)
    return "".join(LETTERS[code] for code in places.ravel().tolist())
